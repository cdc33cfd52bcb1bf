"""HOST:PORT, with IPv6 addresses in brackets."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class HostPort:
    """A host and a TCP or UDP port."""

    host: str
    """Name or address, without brackets"""
    port: int
    """0 to 65535"""

    @classmethod
    def parse(cls, text: str, example: str, default_host: str | None = None) -> HostPort:
        """Parse HOST:PORT, as in 127.0.0.1:8001 and [::1]:8001.

        Args:
            text: What to parse.
            example: For the error message.
            default_host: Host of ":PORT"; None: a host is required.

        Raises:
            ValueError: `text` is something else. The message begins with "expected HOST:PORT".
        """
        host, colon, port = text.rpartition(":")
        host = host or default_host or ""
        bracketed = host.startswith("[") and host.endswith("]")
        name = host[1:-1] if bracketed else host
        is_host = _is_ipv6(name) if bracketed else bool(name) and not set(name) & set("/[]: ")
        if not (colon and is_host and port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"expected HOST:PORT, for example {example}, got {text!r}")
        return cls(name, int(port))

    @property
    def family(self) -> socket.AddressFamily:
        """Family of a socket that listens here: IPv6 for an IPv6 address, otherwise IPv4."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address without brackets."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
