"""The page's own files, compressed once; nothing is loaded from other servers."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from importlib.resources import files

from websockets.datastructures import Headers
from websockets.http11 import Response

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NAMES = (
    "index.html", "page.css", "page.js", "connection.js", "bodies.js", "chart.js", "icon.svg",
    "vendor/three.min.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css",
)  # fmt: skip
SECURITY = {
    # uPlot sets sizes by style attributes.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address may contain the token
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent."""

    content_type: str
    compressed: bytes
    plain: bytes

    def response(self, accepted_encodings: str) -> Response:
        """Build the response, compressed if the client accepts gzip."""
        encoded = "gzip" in accepted_encodings
        body = self.compressed if encoded else self.plain
        encoding = {"Content-Encoding": "gzip"} if encoded else {}
        return respond(HTTPStatus.OK, body, {"Content-Type": self.content_type, "Vary": "Accept-Encoding", **encoding})


def load_files() -> dict[str, StaticFile]:
    """The page's files by path, with `/` for index.html."""
    folder = files("mchmr_stream.web") / "static"
    found = {}
    for name in _NAMES:
        plain = (folder / name).read_bytes()
        found[f"/{name}"] = StaticFile(CONTENT_TYPES["." + name.rpartition(".")[2]], gzip.compress(plain, 6), plain)
    found["/"] = found.pop("/index.html")
    return found


def respond(status: HTTPStatus, body: bytes, headers: dict[str, str]) -> Response:
    """Build an HTTP response after which the connection is closed.

    Args:
        status: Status.
        body: Content.
        headers: Further headers.

    Returns:
        The response.
    """
    common = {"Date": formatdate(usegmt=True), "Connection": "close", "Content-Length": str(len(body))}
    return Response(status.value, status.phrase, Headers({**common, **SECURITY, **headers}), body)
