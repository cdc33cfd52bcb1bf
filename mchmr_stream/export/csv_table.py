"""Comma-separated values (.csv): one row per person and frame, as in STEM.npz, for spreadsheets and statistics.

Joints in camera axes (x right, y down, z forward), metres, and in pixels of the picture. An absent person has no row.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.motion.motion import Track

_HEAD = ("frame", "time_s", "track_id", "confidence", "interpolated")


def write_csv(path: Path, tracks: Sequence[Track]) -> None:
    """Write the rows of all tracks, in order of frames.

    Args:
        path: The file.
        tracks: The tracks.
    """
    metres = [f"{joint}_{axis}_m" for joint in JOINT_NAMES for axis in "xyz"]
    pixels = [f"{joint}_{axis}_px" for joint in JOINT_NAMES for axis in "xy"]
    rows = sorted(
        ((int(track.frame[row]), track.track_id, row, track) for track in tracks for row in range(len(track))), key=lambda r: r[:2]
    )
    with path.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_HEAD, *metres, *pixels])
        for frame, track_id, row, track in rows:
            start = [frame, f"{track.time_s[row]:.6f}", track_id, f"{track.confidence[row]:.4f}", int(track.interpolated[row])]
            joints = [f"{value:.5f}" for value in np.ravel(track.joints_m[row])]
            writer.writerow([*start, *joints, *(f"{value:.2f}" for value in np.ravel(track.joints_px[row]))])
