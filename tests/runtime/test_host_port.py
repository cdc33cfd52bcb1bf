import socket

import pytest

from mchmr_stream.runtime.host_port import HostPort


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8001", "127.0.0.1", 8001),
        ("localhost:0", "localhost", 0),
        ("[::1]:80", "::1", 80),
        ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
    ],
)
def test_parsing_and_writing_are_inverse(text: str, host: str, port: int):
    assert HostPort.parse(text, "localhost:1") == HostPort(host, port)
    assert str(HostPort(host, port)) == text


@pytest.mark.parametrize("text", ["", "8001", "host", "host:", ":80", "host:65536", "host:1²", "a/b:80", "::1:80", "[::1]", "[host]:80"])
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError, match="expected HOST:PORT, for example localhost:1, got"):
        HostPort.parse(text, "localhost:1")


def test_default_host_loopback_and_family():
    assert HostPort.parse(":80", "localhost:1", default_host="127.0.0.1") == HostPort("127.0.0.1", 80)
    assert [HostPort(host, 1).is_loopback for host in ("localhost", "127.3.2.1", "::1", "192.0.2.1", "example")] == [True] * 3 + [False] * 2
    assert HostPort("::1", 1).family == socket.AF_INET6
