"""Conversion of decoded frames to upright RGB arrays with square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from mchmr_stream.errors import InputError

MAX_PIXELS = 1 << 27
"""Larger pictures (over 134 megapixels) are refused before memory is allocated for them."""


def check_size(path: Path, width: int, height: int) -> None:
    """Raise InputError for a picture that is too large."""
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width}x{height} pixels are {width * height / 1e6:.0f} million, at most {MAX_PIXELS / 1e6:.0f} million are read; "
            "scale it down first"
        )


_PIXEL = np.dtype("V3")
"""Three bytes moved as one: this halves the time of a rotation."""


@dataclass(frozen=True)
class Orientation:
    """Operations that make a stored picture upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @staticmethod
    def from_matrix(a: int, b: int, c: int, d: int) -> Orientation:
        """Orientation of the upper left part of a display matrix.

        x' = a x + c y, y' = b x + d y (ISO 14496-12, x right, y down). Only the signs matter, so that scales are ignored; other angles are
        rounded to quarter turns.
        """
        if abs(b) + abs(c) > abs(a) + abs(d):
            return Orientation(True, mirror_x=c < 0, mirror_y=b < 0)
        return Orientation(False, mirror_x=a < 0, mirror_y=d < 0)

    @staticmethod
    def from_degrees(counter_clockwise: float) -> Orientation:
        """Orientation of a rotation without mirroring, rounded to quarter turns."""
        cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][round(counter_clockwise / 90) % 4]
        return Orientation.from_matrix(cos, -sin, sin, cos)

    @staticmethod
    def from_exif(tag: int) -> Orientation:
        """Orientation of the EXIF tag Orientation (1..8); other values mean upright, as in viewers."""
        transpose = 5 <= tag <= 8
        return Orientation(transpose, mirror_x=tag in (2, 3, 6, 7), mirror_y=tag in (3, 4, 7, 8))

    @staticmethod
    def of_frame(frame: av.VideoFrame) -> Orientation:
        """Orientation of the display matrix of the container or codec; upright without one."""
        try:
            # Not `frame.side_data`: it forms a reference cycle with the frame, and pictures accumulate until the garbage collector runs.
            matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # its stub lacks the frame
        except ValueError:  # PyAV rejects all side data if one kind is unknown to it
            return Orientation.from_degrees(frame.rotation)
        if matrix is None:
            return Orientation()
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
        return Orientation.from_matrix(a, b, c, d)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the rotation."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make a picture (h, w, 3) with contiguous rows upright."""
        if self == Orientation():
            return rgb
        pixels = rgb.view(_PIXEL)[..., 0]
        if self.transpose:
            pixels = pixels.T
        if self.mirror_x:
            pixels = pixels[:, ::-1]
        if self.mirror_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)[..., None].view(np.uint8)


def square_pixel_size(width: int, height: int, sample_aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels: the width changes, the height stays.

    Args:
        width: Stored width, pixels.
        height: Stored height, pixels.
        sample_aspect: Width of a pixel over its height. None, 0 and values beyond 1:10 (broken headers) count as square.

    Returns:
        Width and height.
    """
    if not sample_aspect or not Fraction(1, 10) <= sample_aspect <= 10:
        return width, height
    return max(1, round(width * sample_aspect)), height


class PictureConverter:
    """Converts each frame of a source to an upright RGB picture of one size.

    A frame of another size is scaled to fit, with its aspect ratio, and centred on black. Transparency is composited over black. Colour
    follows the frame's tags (matrix and range) through swscale; frames without tags are taken as BT.601 limited range, as in ffmpeg.
    """

    def __init__(self, width: int, height: int) -> None:
        """Width and height are those of the upright output pictures."""
        self.width = width
        self.height = height
        self.fitted = False
        """Whether a frame had another size."""
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame, orientation: Orientation, sample_aspect: Fraction | None = None) -> NDArray[np.uint8]:
        """Convert a frame.

        Args:
            frame: The decoded frame.
            orientation: Its orientation.
            sample_aspect: As for `square_pixel_size`.

        Returns:
            (height, width, 3) uint8, owned by the caller. There may be padding between its rows.
        """
        stored_w, stored_h = square_pixel_size(frame.width, frame.height, sample_aspect)
        upright_w, upright_h = orientation.size(stored_w, stored_h)
        if (upright_w, upright_h) != (self.width, self.height):
            self.fitted = True
            scale = min(self.width / upright_w, self.height / upright_h)
            stored_w, stored_h = max(1, round(stored_w * scale)), max(1, round(stored_h * scale))
        return self._on_canvas(orientation.apply(self._converted(frame, stored_w, stored_h)))

    def _converted(self, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        has_alpha = any(component.is_alpha for component in frame.format.components)
        resized = (width, height) != (frame.width, frame.height)
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            format="rgba" if has_alpha else "rgb24",
            interpolation=Interpolation.BICUBIC if resized else None,
        )
        array = np.asarray(converted.to_ndarray(), np.uint8)
        if has_alpha:
            return _over_black(array)
        if converted is frame:  # no conversion was needed: this is the decoder's own picture, which it may still use
            return array.copy()
        return array

    def _on_canvas(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = rgb.shape[:2]
        if (width, height) == (self.width, self.height):
            return rgb
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        canvas[top : top + height, left : left + width] = rgb
        return canvas


def _over_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:]
    rgb = np.ascontiguousarray(rgba[..., :3])
    if alpha.min() == 255:
        return rgb
    return ((rgb.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
