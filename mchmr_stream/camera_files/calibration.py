"""A calibrated camera, and checks that it can belong to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import Intrinsics, implausible_focal

_SAME_SHAPE = 0.02
"""Maximum relative difference of aspect ratios that count as equal: 1366 x 768 is 16:9 as well."""
_FAR_FROM_MIDDLE = 0.4
"""Maximum distance of the principal point of an uncropped picture from the middle, as a share of half its width or height."""
_OTHER_SIZE = 0.08
"""A principal point off the middle by this share in x and y alike belongs to a larger or smaller picture."""


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """K and distortion, pixels, for a picture of `size_wh` if the file contains a size."""

    where: str
    """The file and the camera in it, for messages"""
    intrinsics: Intrinsics
    distortion: NDArray[np.float64]
    """As in geometry/distortion.py"""
    size_wh: tuple[int, int] | None = None

    def for_picture(self, width: int, height: int) -> tuple[Intrinsics, list[str]]:
        """Adapt K to a picture.

        Args:
            width: Width of the upright picture with square pixels.
            height: Its height.

        Returns:
            The intrinsics, and warnings.

        Raises:
            InputError: K cannot belong to this picture.
        """
        odd = []
        camera = self.intrinsics
        if self.size_wh not in (None, (width, height)):
            camera = self._scaled(width, height)
            odd.append(f"{self.where} is for a {self._size} picture; K is scaled to {width} x {height}")
        problem = implausible_focal(camera, width, height)
        if problem is not None:
            raise InputError(f"{self.where}: {problem}{self._hint(camera)}")
        if not (0 <= camera.cx < width and 0 <= camera.cy < height):
            raise InputError(
                f"{self.where}: principal point ({camera.cx:.0f}, {camera.cy:.0f}) lies outside the {width} x {height} picture; "
                f"expected K of the upright picture, {self._ask_for_size()}"
            )
        if self.size_wh is None:
            self._refuse_other_size(width, height)
        if not 0.9 < camera.fx / camera.fy < 1.1:
            odd.append(f"{self.where}: fx is {camera.fx:.0f} and fy {camera.fy:.0f} px, although the pixels are square")
        return camera, odd

    @property
    def _size(self) -> str:
        return " x ".join(map(str, self.size_wh or ()))

    def _scaled(self, width: int, height: int) -> Intrinsics:
        assert self.size_wh is not None
        x, y = width / self.size_wh[0], height / self.size_wh[1]
        K = self.intrinsics
        # Pixel centres are whole numbers: the picture's edge, which scaling keeps, is at -0.5.
        scaled = Intrinsics(K.fx * x, K.fy * y, (K.cx + 0.5) * x - 0.5, (K.cy + 0.5) * y - 0.5)
        # K for non-square stored pixels becomes one for square pixels.
        if abs(x / y - 1) > _SAME_SHAPE and abs(scaled.fx / scaled.fy - 1) > _SAME_SHAPE:
            raise InputError(
                f"{self.where} is for a {self._size} picture, this one is {width} x {height} and has another shape; "
                "expected K of the upright picture: calibrate with the same size and orientation"
            )
        return scaled

    def _refuse_other_size(self, width: int, height: int) -> None:
        """Check the picture's size by the principal point, which is near the middle, if the file contains no size."""
        K = self.intrinsics
        x, y = (2 * K.cx + 1) / width, (2 * K.cy + 1) / height
        of_another_size = abs(x / y - 1) < _OTHER_SIZE / 2 and abs(x - 1) > _OTHER_SIZE
        if of_another_size or max(abs(x - 1), abs(y - 1)) > _FAR_FROM_MIDDLE:
            raise InputError(
                f"{self.where}: principal point ({K.cx:.0f}, {K.cy:.0f}) is the middle of a picture of about {2 * round(K.cx)} x "
                f"{2 * round(K.cy)}, this one is {width} x {height}; {self._ask_for_size()}"
            )

    def _ask_for_size(self) -> str:
        if self.size_wh is not None:
            return "check the file"
        return "add the image_width and image_height that K is for to the file, then it is scaled"

    def _hint(self, camera: Intrinsics) -> str:
        if max(abs(camera.cx), abs(camera.cy), camera.fx, camera.fy) < 10:
            return "; this K is in fractions of the picture: multiply fx and cx by its width, fy and cy by its height"
        return f"; {self._ask_for_size()}" if self.size_wh is None else ""
