"""Who may see the page: where it listens, the token in its address, and which requests of browsers are its own."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mchmr_stream.config import LiveSettings
from mchmr_stream.runtime.host_port import HostPort, is_loopback


@dataclass(frozen=True)
class PageAccess:
    """What a request must bring.

    On a loopback address anybody on this machine may come, but no foreign page in a browser of this machine: a name that was pointed at
    127.0.0.1 (DNS rebinding) is not among the hosts, and an Origin must be the page's own. Elsewhere the first part of the path must be
    the token.
    """

    host: str
    port: int
    """0: a free one"""
    token: str | None

    @staticmethod
    def of(settings: LiveSettings) -> PageAccess | None:
        """As the settings say; None where there is to be no page."""
        if settings.page is None:
            return None
        place = HostPort.parse(settings.page, "127.0.0.1:8765")
        token = None if settings.page_token is None else settings.page_token.get_secret_value()
        if token is None and not place.is_loopback:
            token = secrets.token_urlsafe(24)
        return PageAccess(place.host, place.port, token)

    def url(self, port: int) -> str:
        """Where the page is, given the port that was taken."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{HostPort(host, port)}/" + (f"{self.token}/" if self.token else "")

    def path_within(self, path: str) -> str | None:
        """The path behind the token, without its query; None where the token is missing or wrong."""
        path = urlsplit(path).path
        if self.token is None:
            return path
        given, slash, rest = path.removeprefix("/").partition("/")
        return slash + rest if secrets.compare_digest(given.encode(), self.token.encode()) else None

    def is_foreign(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """What is wrong with the Host and Origin headers of a request; None: nothing."""
        if len(hosts) != 1:
            return f"got {len(hosts)} Host headers, expected one"
        host = hosts[0].lower()
        name = _name_of(host)
        if is_loopback(self.host) and not (is_loopback(name) or name == self.host):
            return f"this page is not called {name!r}; open it as {self.host}"
        for origin in origins:
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                return "another page may not read this one"
        return None


def _name_of(host: str) -> str:
    """Without the port, and without the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
