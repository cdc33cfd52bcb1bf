"""Biovision hierarchy (.bvh): one person, one segment, an even rate.

Metres, y up, x right, z towards the viewer; the camera is at the origin. Rest pose: the T-pose, facing +z. The root's OFFSET is zero
and its position channels are the pelvis, so that readers which add the two and readers which do not agree. Angles are in degrees, in
the order z, x, y. The text format is written here, because no maintained library writes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.export.person_motion import Array, ExportedPerson, rest_vertices_m
from mchmr_stream.export.rotation_curves import euler_zxy_deg

_OUTWARD = {10: (0, 0, 1), 11: (0, 0, 1), 15: (0, 1, 0), 22: (1, 0, 0), 23: (-1, 0, 0)}
"""Joints without a child (toes, head, hands), and the direction of the body beyond them in the T-pose."""
_CHILDREN = {joint: [child for child, parent in enumerate(PARENTS) if parent == joint] for joint in range(len(PARENTS))}


def write_bvh(path: Path, person: ExportedPerson, rate: float, body: BodyModel) -> None:
    """Write one segment of a person.

    Args:
        path: The file.
        person: The person at an even rate, y up.
        rate: Frames per second.
        body: The body model.
    """
    offsets = person.rest_joints_m - person.rest_joints_m[[max(parent, 0) for parent in PARENTS]]
    lines = [
        "HIERARCHY",
        *_joint_lines(0, offsets, _tips_m(person, body), 0),
        "MOTION",
        f"Frames: {len(person)}",
        f"Frame Time: {1 / rate:.10f}",
    ]
    order = _order(0)
    angles = euler_zxy_deg(person.rotations)[:, order].reshape(len(person), -1)
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, np.concatenate([person.pelvis_m, angles], 1), fmt="%.6f")


def _joint_lines(joint: int, offsets: Array, tips: dict[int, Array], depth: int) -> list[str]:
    tab, inner = "\t" * depth, "\t" * (depth + 1)
    channels = "3 Zrotation Xrotation Yrotation" if joint else "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    below = [line for child in _CHILDREN[joint] for line in _joint_lines(child, offsets, tips, depth + 1)]
    if joint in tips:
        below = [f"{inner}End Site", f"{inner}{{", f"{inner}\t{_offset(tips[joint])}", f"{inner}}}"]
    head = f"{'JOINT' if joint else 'ROOT'} {JOINT_NAMES[joint]}"
    return [f"{tab}{head}", f"{tab}{{", f"{inner}{_offset(offsets[joint])}", f"{inner}CHANNELS {channels}", *below, f"{tab}}}"]


def _offset(values: Array) -> str:
    return "OFFSET " + " ".join(f"{value:.6f}" for value in values)


def _order(joint: int) -> list[int]:
    """The joints in order of the hierarchy, which is the order of the channels."""
    return [joint, *(below for child in _CHILDREN[joint] for below in _order(child))]


def _tips_m(person: ExportedPerson, body: BodyModel) -> dict[int, Array]:
    """For each joint without a child, the extent of its vertices outwards: the length of the last bone."""
    vertices, carrier = rest_vertices_m(person, body), body.weights.argmax(1).numpy()
    tips = {}
    for joint, outward in _OUTWARD.items():
        # Another body model may have no vertices that its hands alone carry.
        reach = (vertices[np.isin(carrier, [joint, PARENTS[joint]])] - person.rest_joints_m[joint]) @ np.array(outward, float)
        tips[joint] = np.array(outward, float) * max(float(reach.max(initial=0)), 0.01)
    return tips
