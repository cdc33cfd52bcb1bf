"""Size, orientation and animation of a picture file, read without decoding it.

Through PyAV libav gives the rotation but not the mirroring, and older versions give nothing for some formats. For pictures that are too
large it only reports an invalid argument, and for animated WebP invalid data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 0x0100, 0x0101
_TIFF_SHORT = 3
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_NO_SIZE = (0xC4, 0xC8, 0xCC)
"""Markers in the range of frames (0xC0 to 0xCF) with another meaning."""
_WEBP_ANIMATED = 0x02

Animation = Literal["png", "avif", "webp"]


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file; None for others. Never fails."""
    try:
        return _size(data)
    except struct.error:  # cut off in the middle of a header
        return None


def animation(data: bytes) -> Animation | None:
    """Format in which a picture file contains an animation, or None; the beginning of the file suffices."""
    if data.startswith(_PNG):
        control = _chunk(data, len(_PNG), b"acTL", ">I4s", name_first=False)
        return "png" if control[:4] > b"\0\0\0\1" else None
    if data[4:12] == b"ftypavis":
        return "avif"
    extended = _chunk(data, 12, b"VP8X", "<4sI", name_first=True) if _is_webp(data) else b""
    return "webp" if extended and extended[0] & _WEBP_ANIMATED else None


def webp_durations_ms(data: bytes) -> list[int]:
    """Duration of each picture of an animated WebP."""
    return [int.from_bytes(content[12:15], "little") for name, content in _chunks(data, 12, "<4sI", name_first=True) if name == b"ANMF"]


def tiff_has_pages(data: bytes) -> bool:
    """Whether a TIFF file contains more than one picture."""
    try:
        order, entries, end = _tiff_directory(data)
        return bool(entries) and struct.unpack_from(order + "I", data, end)[0] != 0
    except struct.error:
        return False


def exif_orientation(data: bytes) -> int:
    """EXIF tag Orientation of a JPEG, PNG, WebP or TIFF file; 1 (upright) if it has none. Never fails."""
    try:
        return _orientation_in_tiff(_tiff_block(data))
    except struct.error:  # cut off in the middle of a header
        return 1


def jpeg_is_cut(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker: the decoder then fills the missing part with grey and reports no error."""
    if not data.startswith(b"\xff\xd8"):
        return False
    scan = data.find(b"\xff\xda", _jpeg_headers_end(data))
    return scan < 0 or data.find(b"\xff\xd9", scan) < 0


def _tiff_block(data: bytes) -> bytes:
    """The part with the layout of a TIFF file; empty if there is none."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return data
    if data.startswith(b"\xff\xd8"):
        return _jpeg_exif(data)
    if data.startswith(_PNG):
        return _chunk(data, len(_PNG), b"eXIf", ">I4s", name_first=False)
    if _is_webp(data):
        return _chunk(data, 12, b"EXIF", "<4sI", name_first=True).removeprefix(b"Exif\0\0")
    return b""


def _jpeg_exif(data: bytes) -> bytes:
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            return data[start + 6 : end]
    return b""


def _jpeg_headers_end(data: bytes) -> int:
    segments = _jpeg_segments(data)
    return segments[-1][2] if segments else 2


def _jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of the headers before the first scan."""
    segments = []
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, offset + 2)
        segments.append((data[offset + 1], offset + 4, offset + 2 + length))
        offset += 2 + max(length, 2)
    return segments


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _chunk(data: bytes, offset: int, chunk_name: bytes, header: str, *, name_first: bool) -> bytes:
    """Content of one chunk; empty if it does not exist."""
    return next((content for name, content in _chunks(data, offset, header, name_first=name_first) if name == chunk_name), b"")


def _chunks(data: bytes, offset: int, header: str, *, name_first: bool) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of chunks in a PNG (length, name, content, checksum) or RIFF file (name, length, padded content)."""
    while offset + 8 <= len(data):
        first, second = struct.unpack_from(header, data, offset)
        name, length = (first, second) if name_first else (second, first)
        yield name, data[offset + 8 : offset + 8 + length]
        offset += 8 + length + (length % 2 if name_first else 4)


def _orientation_in_tiff(block: bytes) -> int:
    value = _tiff_values(block).get(_ORIENTATION_TAG, 1)
    return value if 1 <= value <= 8 else 1


def _tiff_values(block: bytes) -> dict[int, int]:
    """Tag -> value of the first directory, for values stored in the entry itself."""
    order, entries, _ = _tiff_directory(block)
    values = {}
    for tag, kind, _, content in entries:
        values[tag] = struct.unpack(order + ("H2x" if kind == _TIFF_SHORT else "I"), content)[0]
    return values


def _tiff_directory(block: bytes) -> tuple[str, list[tuple[int, int, int, bytes]], int]:
    """Byte order, (tag, type, count, content) of the first directory, and its end; nothing if `block` is no TIFF."""
    if block[:2] not in (b"II", b"MM"):
        return "<", [], 0
    order = "<" if block[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, directory)
    entries = [struct.unpack_from(order + "HHI4s", block, directory + 2 + 12 * entry) for entry in range(count)]
    return order, entries, directory + 2 + 12 * count


def _size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(b"\xff\xd8"):
        frames = (start for marker, start, _ in _jpeg_segments(data) if 0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_SIZE)
        height, width = struct.unpack_from(">HH", data, next(frames, len(data)) + 1)
        return width, height
    if data.startswith(_PNG):
        return struct.unpack_from(">II", data, 16)
    if data[:4] == b"GIF8":
        return struct.unpack_from("<HH", data, 6)
    if data[:2] == b"BM":
        (header_bytes,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
        return abs(width), abs(height)
    if data[:4] in (b"II*\0", b"MM\0*"):
        values = _tiff_values(data)
        return (values[_WIDTH_TAG], values[_HEIGHT_TAG]) if {_WIDTH_TAG, _HEIGHT_TAG} <= values.keys() else None
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return _avif_size(data)
    return _webp_size(data) if _is_webp(data) else None


def _avif_size(data: bytes) -> tuple[int, int] | None:
    """Size of its largest picture: smaller ones may be thumbnails, or tiles of it."""
    offsets = [offset for offset in range(min(len(data), 1 << 16)) if data.startswith(b"ispe", offset)]
    sizes = [struct.unpack_from(">II", data, offset + 8) for offset in offsets]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Size of the canvas, or of the single picture, whose two kinds store it in 14 bits per side."""
    name, content = next(_chunks(data, 12, "<4sI", name_first=True), (b"", b""))
    if name == b"VP8X":
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 6)
    return width & 0x3FFF, height & 0x3FFF
