"""Smoothed bodies back onto their keypoints.

A smoother averages rotations and places each for itself, so heads and hands of smoothed bodies lie beside those of the picture. So each
body is fitted once more, with a narrow prior around it and keypoints that are averaged over a few frames: what little is
missing in the picture is put right, and what was smoothed away does not come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.body_model import BodyModel
from mchmr_stream.datatypes import Bodies
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.noise_constants import FitCalibration
from mchmr_stream.geometry.camera import Intrinsics

Array = NDArray[np.float64]

_STRENGTH = 64.0
"""Information of a smoothed body over that of the network's, as rendered people show it."""
_AVERAGED_S = 0.03
"""Standard deviation in time of the weights with which keypoints are averaged."""
_REACH_S = 0.08


class KeypointAlignment:
    """Of one run: remembers what was measured until the smoothed bodies of the same frames come."""

    def __init__(self, body: BodyModel, intrinsics: Intrinsics, calibration: FitCalibration, *, iterations: int = 3) -> None:
        self._fitter = BodyFitter(body, intrinsics, calibration, iterations=iterations, prior_strength=_STRENGTH, holds_shape=True)
        self._measured: deque[Measured] = deque()

    def remember(self, frames: Sequence[Measured]) -> None:
        """What was measured of frames that follow each other; kept until their smoothed bodies have come, which is in the same order."""
        self._measured.extend(frames)

    def align(self, frames: Sequence[Bodies]) -> list[Bodies]:
        """Smoothed bodies of some frames, each fitted to its averaged keypoints. Rows that were not measured stay as they are."""
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
        """Frames that neither are to come nor lie so near to one that they are averaged with it."""
        while self._measured:
            oldest = self._measured[0].bodies
            if oldest.frame >= last.frame or abs(oldest.time_s - last.time_s) <= _REACH_S:
                return
            self._measured.popleft()

    def _averaged(self, position: int, bodies: Bodies) -> tuple[NDArray[np.int64], Measured]:
        """The rows of `bodies` that were measured, and their measurement with averaged keypoints."""
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
        """(17, 2): weighted by closeness in time and squared score, from as far back as ahead."""
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
    """Pose and place of the fitted rows; everything else is the smoothed bodies'."""
    columns = {name: getattr(bodies, name).copy() for name in ("global_orient", "body_pose", "transl")}
    for name, values in columns.items():
        values[rows] = getattr(fitted, name)
    return replace(bodies, **columns)
