"""OpenSim's marker table (.trc): one person, one segment, an even rate; the 24 joints as markers.

Metres, y up, x right, z towards the viewer; the camera is at the origin. Times are the clip's. The joints are those of the file, with
the shape of each frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.export.person_motion import ExportedPerson


def write_trc(path: Path, person: ExportedPerson, rate: float, name: str) -> None:
    """Write one segment of a person.

    Args:
        path: The file.
        person: The person at an even rate, y up.
        rate: Frames per second.
        name: The file name in its header.
    """
    count, markers = len(person), len(JOINT_NAMES)
    first = round(float(person.time_s[0]) * rate) + 1
    head = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:.6f}\t{rate:.6f}\t{count}\t{markers}\tm\t{rate:.6f}\t{first}\t{count}",
        "Frame#\tTime\t" + "".join(f"{joint}\t\t\t" for joint in JOINT_NAMES).rstrip("\t") + "\t\t",
        "\t\t" + "\t".join(f"{axis}{marker}" for marker in range(1, markers + 1) for axis in "XYZ"),
        "",
    ]
    numbers = np.arange(first, first + count)[:, None]
    rows = np.concatenate([numbers, person.time_s[:, None], person.joints_m.reshape(count, -1)], 1)
    with path.open("w", encoding="ascii", errors="replace", newline="\n") as file:
        file.write("\n".join(head) + "\n")
        np.savetxt(file, rows, fmt=["%d", "%.6f"] + ["%.6f"] * (3 * markers), delimiter="\t")
