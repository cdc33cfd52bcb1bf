"""Access control of the page: its address, the token in it, and the check of a request's Host and Origin headers."""

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
    """The conditions of a request.

    On a loopback address all programs of this machine have access, but no other page in a browser of this machine: a foreign name that
    resolves to 127.0.0.1 (DNS rebinding) is rejected, and an Origin must be the page's own. On other addresses the first part of the
    path must be the token.
    """

    host: str
    port: int
    """0: any free port"""
    token: str | None

    @staticmethod
    def of(settings: LiveSettings) -> PageAccess | None:
        """Build from the settings; None without a page."""
        if settings.page is None:
            return None
        place = HostPort.parse(settings.page, "127.0.0.1:8765")
        token = None if settings.page_token is None else settings.page_token.get_secret_value()
        if token is None and not place.is_loopback:
            token = secrets.token_urlsafe(24)
        return PageAccess(place.host, place.port, token)

    def url(self, port: int) -> str:
        """Address of the page on the port that was taken."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{HostPort(host, port)}/" + (f"{self.token}/" if self.token else "")

    def path_within(self, path: str) -> str | None:
        """The path after the token, without query; None where the token is missing or wrong."""
        path = urlsplit(path).path
        if self.token is None:
            return path
        given, slash, rest = path.removeprefix("/").partition("/")
        return slash + rest if secrets.compare_digest(given.encode(), self.token.encode()) else None

    def is_foreign(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Check the Host and Origin headers of a request.

        Args:
            hosts: Values of Host.
            origins: Values of Origin.

        Returns:
            The reason to reject the request; None to accept it.
        """
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
    """The host without port and without the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
