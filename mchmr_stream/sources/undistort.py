"""Removal of lens distortion from a source, so that later stages see a pinhole camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.distortion import distort_points, within_fold
from mchmr_stream.protocols import Source

_LEAST_SEEN = 0.5
_OUTSIDE = 8.0
"""Grid position far outside the picture, which gives black."""


class UndistortedSource:
    """Frames of another source as a pinhole camera with the same K would have recorded them; black outside the lens's view."""

    def __init__(self, source: Source, intrinsics: Intrinsics, distortion: NDArray[np.floating]) -> None:
        """Wrap a source. Raises InputError for coefficients that leave less than half of the picture."""
        self._source = source
        # The grid depends only on the lens: it is computed once.
        self._grid = _sampling_grid(source.info.width, source.info.height, intrinsics, distortion)
        seen = float((self._grid.abs() <= 1).all(-1).float().mean())
        if seen < _LEAST_SEEN:
            raise InputError(
                f"with the distortion undone {100 * (1 - seen):.0f} % of {source.info.name} would be black; expected OpenCV's coefficients "
                "k1, k2, p1, p2, k3, ... of this camera, for K in pixels"
            )

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def warnings(self) -> list[str]:
        return self._source.warnings

    def frames(self) -> Iterator[Frame]:
        """Yield the source's frames, undistorted. Raises InputError if a frame's size differs from the declared one."""
        for frame in self._source.frames():
            if (frame.width, frame.height) != (self.info.width, self.info.height):
                raise InputError(
                    f"frame {frame.index} of {self.info.name} is {frame.width} x {frame.height}, the intrinsics are for "
                    f"{self.info.width} x {self.info.height}; split the recording where its size changes"
                )
            yield replace(frame, rgb=_sample(frame.rgb, self._grid))

    def close(self) -> None:
        self._source.close()


def undistort(source: Source, intrinsics: Intrinsics, distortion: NDArray[np.floating]) -> UndistortedSource:
    """Wrap a source in an `UndistortedSource`.

    Args:
        source: The source; closing the wrapper closes it.
        intrinsics: K, which stays the same.
        distortion: OpenCV's coefficients (geometry/distortion.py).

    Returns:
        The undistorted source.
    """
    return UndistortedSource(source, intrinsics, distortion)


def _sampling_grid(width: int, height: int, intrinsics: Intrinsics, distortion: NDArray[np.floating]) -> torch.Tensor:
    """(1, height, width, 2): position of each undistorted pixel in the picture as filmed, -1 to 1 over pixel centres, else outside."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns, rows], -1)
    with np.errstate(all="ignore"):  # beyond the fold there may be a pole
        filmed = distort_points(pixels, intrinsics, distortion)
    size = np.maximum([width - 1, height - 1], 1)
    # Beyond the fold the model maps back into the picture, which would show a mirror image.
    sampled = np.where(within_fold(pixels, intrinsics, distortion)[..., None], filmed * (2 / size) - 1, _OUTSIDE)
    return torch.from_numpy(sampled.clip(-_OUTSIDE, _OUTSIDE).astype(np.float32))[None]


def _sample(rgb: NDArray[np.uint8], grid: torch.Tensor) -> NDArray[np.uint8]:
    picture = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None]
    sampled = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.add_(0.5).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()
