"""Keypoint alignment: smoothed bodies are fitted back onto their keypoints.

The smoother averages rotations and translations separately, so that heads and hands of smoothed bodies deviate from the picture. Each
body is therefore fitted once more, with a narrow prior around it and keypoints that are averaged over a few frames. Small deviations in
the picture are corrected, and jitter does not return.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import Bodies
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.noise_constants import FitCalibration
from mchmr_stream.geometry.camera import Intrinsics

Array = NDArray[np.float64]

_STRENGTH = 64.0
"""Information of a smoothed body relative to the network's, measured on rendered people."""
_AVERAGED_S = 0.03
"""Standard deviation in time of the weights of averaged keypoints."""
_REACH_S = 0.08


class KeypointAlignment:
    """Align the smoothed bodies of one run; measurements are kept until the smoothed bodies of their frames arrive.

    Args:
        body: The body model.
        intrinsics: The camera.
        calibration: Measurement noise and prior.
        iterations: Most linearisations.
    """

    def __init__(self, body: BodyModel, intrinsics: Intrinsics, calibration: FitCalibration, *, iterations: int = 3) -> None:
        self._fitter = BodyFitter(body, intrinsics, calibration, iterations=iterations, prior_strength=_STRENGTH, holds_shape=True)
        self._measured: deque[Measured] = deque()

    def remember(self, frames: Sequence[Measured]) -> None:
        """Add the measurements of consecutive frames. They are kept until `align` gets these frames, in the same order."""
        self._measured.extend(frames)

    def align(self, frames: Sequence[Bodies]) -> list[Bodies]:
        """Fit smoothed bodies to their averaged keypoints.

        Args:
            frames: Smoothed bodies, in order of frames.

        Returns:
            The aligned bodies. Rows without a measurement, and interpolated ones, stay as they are.
        """
        if not frames:
            return []
        known = {measured.bodies.frame: position for position, measured in enumerate(self._measured)}
        chosen: list[tuple[int, NDArray[np.int64], Measured]] = []
        for index, bodies in enumerate(frames):
            position = known.get(bodies.frame)
            if position is not None and len(bodies):
                rows, measured = self._averaged(position, bodies)
                if len(rows):
                    chosen.append((index, rows, measured))
        aligned = list(frames)
        for (index, rows, _), fitted in zip(chosen, self._fitter.fit([measured for _, _, measured in chosen]), strict=True):
            aligned[index] = _put_back(frames[index], rows, fitted)
        self._forget_before(frames[-1])
        return aligned

    def _forget_before(self, last: Bodies) -> None:
        """Drop frames that are neither expected nor close enough in time to be averaged with an expected one."""
        while self._measured:
            oldest = self._measured[0].bodies
            if oldest.frame >= last.frame or abs(oldest.time_s - last.time_s) <= _REACH_S:
                return
            self._measured.popleft()

    def _averaged(self, position: int, bodies: Bodies) -> tuple[NDArray[np.int64], Measured]:
        """The rows of `bodies` with a measurement, and that measurement with averaged keypoints."""
        here = self._measured[position]
        row_of = {int(track): row for row, track in enumerate(here.bodies.track_id)}
        rows = np.array(
            [row for row, track in enumerate(bodies.track_id) if int(track) in row_of and not bodies.interpolated[row]], np.int64
        )
        own = np.array([row_of[int(bodies.track_id[row])] for row in rows], np.int64)
        keypoints = here.bodies.keypoints_px[own].copy()
        for number, row in enumerate(rows):
            keypoints[number, :, :2] = self._mean_keypoints(position, int(bodies.track_id[row]), keypoints[number])
        smooth = replace(bodies.rows(rows), keypoints_px=keypoints)
        return rows, Measured(
            smooth,
            here.keypoint_covariance_px2[own],
            here.landmarks_px[own],
            here.base_px[own],
            here.roll_rad[own],
            here.picture_wh,
            here.up_rad,
        )

    def _mean_keypoints(self, position: int, track: int, keypoints: Array) -> Array:
        """(17, 2) means weighted by closeness in time and squared score, over the same number of frames before and after."""
        now_s = self._measured[position].bodies.time_s
        total, weights = np.zeros((17, 2)), np.zeros((17, 1))
        for step in range(len(self._measured)):
            sides = [position] if step == 0 else [position - step, position + step]
            if sides[0] < 0 or sides[-1] >= len(self._measured):
                break
            found = [self._measured[side].bodies for side in sides]
            if any(abs(bodies.time_s - now_s) > _REACH_S for bodies in found):
                break
            where = [np.flatnonzero(bodies.track_id == track) for bodies in found]
            if any(len(one) != 1 for one in where):
                break
            for bodies, one in zip(found, where, strict=True):
                points = bodies.keypoints_px[one[0]].astype(np.float64)
                known = np.isfinite(points).all(-1, keepdims=True)
                weight = np.where(known, np.exp(-0.5 * ((bodies.time_s - now_s) / _AVERAGED_S) ** 2) * points[:, 2:] ** 2, 0)
                total += weight * np.where(known, points[:, :2], 0)
                weights += weight
        return np.where(weights > 0, total / np.maximum(weights, 1e-12), keypoints[:, :2])


def _put_back(bodies: Bodies, rows: NDArray[np.int64], fitted: Bodies) -> Bodies:
    """Replace rotations and translation of the fitted rows; all other columns stay."""
    columns = {name: getattr(bodies, name).copy() for name in ("global_orient", "body_pose", "transl")}
    for name, values in columns.items():
        values[rows] = getattr(fitted, name)
    return replace(bodies, **columns)
