"""Parsing of live sources as users name them, into parameters of libav."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av

from mchmr_stream.config import LiveSettings
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.runtime.url_secrets import without_password

CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""The libav name of the system's camera interface."""
_STREAMS = {"rtsp", "rtsps", "http", "https", "udp", "rtp", "srt", "tcp", "rtmp"}


@dataclass(frozen=True)
class Address:
    """A live source as libav opens it."""

    name: str
    """For messages and files: without password"""
    url: str
    format: str | None
    options: dict[str, str]
    paced: bool
    """It yields pictures as fast as they are read and has to be slowed down to real time"""
    ends: bool
    """Its end is regular: a file"""


def parse_address(text: str, settings: LiveSettings) -> Address:
    """Parse the name of a live source.

    Args:
        text: 0 or /dev/video0 (a camera), lavfi:GRAPH, a URL, or a file.
        settings: Section `live` of the configuration.

    Returns:
        The address.

    Raises:
        UsageError: The text is no live source; the message names the right form.
        InputError: The camera or file does not exist.
    """
    if text.isdigit() or text.startswith("/dev/video"):
        return _camera(text, settings)
    if text.startswith("lavfi:"):
        return Address(text, text.removeprefix("lavfi:"), "lavfi", {}, paced=True, ends=True)
    scheme = urlsplit(text).scheme.lower()
    if "://" in text and scheme not in _STREAMS:
        raise UsageError(
            f"{text} begins with {scheme}://, expected one of {', '.join(sorted(_STREAMS))}, lavfi:, a camera's number or a file"
        )
    if "://" in text:
        return Address(without_password(text), text, None, _stream_options(scheme, settings), paced=False, ends=scheme in ("http", "https"))
    if Path(text).is_dir():
        raise UsageError(f"{text} is a folder, expected files one by one; `mchmr video {text} -o OUT` reads folders")
    if re.search(r"[*?\[]", text) and not Path(text).exists():
        raise UsageError(f"{text} is a pattern, expected files one by one; leave its quotes out, and the shell lists them")
    if not Path(text).is_file():
        raise InputError(f"{text} is not there, expected a camera's number, a URL, lavfi:GRAPH or a file")
    return Address(Path(text).name, f"file:{text}", None, {}, paced=True, ends=True)


def list_cameras() -> list[str]:
    """List the cameras of this system, as `mchmr live` accepts them."""
    if sys.platform == "linux":
        return sorted(str(path) for path in Path("/dev").glob("video*"))
    try:
        return [str(device) for device in av.device.enumerate_input_devices(CAMERAS[sys.platform])]
    except (KeyError, AttributeError, OSError, av.error.FFmpegError):
        return []


def _camera(text: str, settings: LiveSettings) -> Address:
    system = CAMERAS.get(sys.platform)
    if system is None:
        raise UsageError(f"cameras are not known on {sys.platform}; expected Linux, macOS or Windows, or a URL")
    url = f"/dev/video{text}" if text.isdigit() and system == "v4l2" else text
    if system == "v4l2" and not Path(url).exists():
        available = ", ".join(list_cameras()) or "none"
        raise InputError(f"there is no camera {url}; found: {available}")
    given = {"video_size": settings.size, "framerate": settings.fps, _pixel_option(system, settings): settings.pixel_format}
    return Address(text, url, system, {name: str(value) for name, value in given.items() if value is not None}, paced=False, ends=False)


def _pixel_option(system: str, settings: LiveSettings) -> str:
    # v4l2 takes compressed formats and pixel layouts by one option, the others by two.
    return "input_format" if system == "v4l2" else "vcodec" if settings.pixel_format == "mjpeg" else "pixel_format"


def _stream_options(scheme: str, settings: LiveSettings) -> dict[str, str]:
    options = {"fflags": "nobuffer", "flags": "low_delay", "probesize": "500000", "analyzeduration": "1000000"}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = settings.rtsp_transport
    return options
