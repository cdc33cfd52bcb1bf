"""Read STEM.npz with numpy alone: mchmr_stream need not be installed.

    python examples/read_npz_without_package.py out/clip.npz [plot.png]

Prints a table of the people. With a second argument, and matplotlib installed, it draws where everyone goes, seen from above.
The file is a table with one row per person and frame; docs/output.md explains every column.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def main(path: str, plot: str | None) -> None:
    with np.load(path, allow_pickle=False) as clip:  # nothing in the file is pickled
        pelvis = list(clip["joint_names"]).index("pelvis")
        in_world = "world_joints_m" in clip.files  # there after `mchmr video --static-camera`
        joints_m = clip["world_joints_m" if in_world else "joints_m"]  # (N, 24, 3): world y up, or camera axes, y down
        time_s, track_id, confidence = clip["time_s"], clip["track_id"], clip["confidence"]
        print(f"{len(clip['frames'])} frames of {clip['width']}x{clip['height']} px, {len(track_id)} rows, body {clip['body_model']}")

    axes = "x right, y up, floor at 0" if in_world else "x right, y down, z forward from the camera"
    print(f"pelvis (x, y, z) in metres, {axes}; in the first and the last row of each person")
    paths_m = {}
    for person in np.unique(track_id):
        rows = track_id == person
        paths_m[int(person)] = path_m = joints_m[rows, pelvis]
        first, last = (", ".join(f"{value:.2f}" for value in path_m[row]) for row in (0, -1))
        print(
            f"person {person}: {time_s[rows][0]:.2f} to {time_s[rows][-1]:.2f} s, {rows.sum()} rows, "
            f"confidence {confidence[rows].mean():.2f}, ({first}) to ({last})"
        )
    if plot is not None:
        draw(paths_m, plot)


def draw(paths_m: dict[int, Any], plot: str) -> None:
    """The pelvis of everyone, from above."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot(xlabel="x, m", ylabel="z, m", aspect="equal")
    for person, path_m in paths_m.items():
        axes.plot(path_m[:, 0], path_m[:, 2], marker=".", label=f"person {person}")
    axes.legend()
    figure.savefig(plot)
    print(plot)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
