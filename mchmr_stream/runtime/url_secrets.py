"""URLs without their secrets, for messages and names of files."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_password(url: str) -> str:
    """The URL with *** for its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


def scheme_and_host(url: str) -> str:
    """Scheme and host only, as in rtmp://host/..., because the rest may hold a stream's key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..."
