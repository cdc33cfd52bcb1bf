"""Reads one thing from a picture file: which way up it was taken.

libav gives the turn but loses the mirroring on the way through PyAV, and older versions give nothing for some formats.
"""

from __future__ import annotations

import struct

_ORIENTATION_TAG = 0x0112


def exif_orientation(data: bytes) -> int:
    """The EXIF tag Orientation of a JPEG, PNG, WebP or TIFF file, 1 (upright) when it has none. Never fails."""
    try:
        return _orientation_in_tiff(_tiff_block(data))
    except struct.error:  # cut off in the middle of a header
        return 1


def jpeg_is_cut(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker: the decoder fills what is missing with grey and says nothing."""
    if not data.startswith(b"\xff\xd8"):
        return False
    scan = data.find(b"\xff\xda", _jpeg_headers_end(data))
    return scan < 0 or data.find(b"\xff\xd9", scan) < 0


def _tiff_block(data: bytes) -> bytes:
    """The part that is laid out like a TIFF file, empty when there is none."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return data
    if data.startswith(b"\xff\xd8"):
        return _jpeg_exif(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _chunk(data, 8, b"eXIf", ">I4s", name_first=False)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
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
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, place + 2)
        segments.append((data[place + 1], place + 4, place + 2 + length))
        place += 2 + max(length, 2)
    return segments


def _chunk(data: bytes, place: int, wanted: bytes, header: str, *, name_first: bool) -> bytes:
    """The content of one chunk of a PNG (length, name, content, checksum) or RIFF file (name, length, padded content)."""
    while place + 8 <= len(data):
        first, second = struct.unpack_from(header, data, place)
        name, length = (first, second) if name_first else (second, first)
        if name == wanted:
            return data[place + 8 : place + 8 + length]
        place += 8 + length + (length % 2 if name_first else 4)
    return b""


def _orientation_in_tiff(block: bytes) -> int:
    if block[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if block[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", block, 4)
    (entries,) = struct.unpack_from(order + "H", block, directory)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", block, directory + 2 + 12 * entry)
        if tag == _ORIENTATION_TAG:
            return value if 1 <= value <= 8 else 1
    return 1
