"""Conversion of a BVH skeleton to the 24 joints of SMPL, by joint names and a reference pose in which it stands straight.

Skeletons differ in names, bone lengths, axes and in the pose of zero rotations (T-pose, arms down, legs apart). So rotations are
compared in world axes. Let D be a joint's rotation since the reference pose, and let A be the smallest rotation that brings its bone in
the reference pose to its direction in SMPL's T-pose (the identity for trunk, neck and head). Then SMPL's joint, in world axes, is
``R = D A^-1``: each limb bone has exactly the direction of the file's.

Twist about a limb in the reference pose is not in the file and is assumed to be zero.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.rotation import axis_angle_from_matrix, matrix_from_axis_angle
from mchmr_stream.synthesis.bvh_reader import Array, Bvh
from mchmr_stream.synthesis.source_body import PARENTS

log = logging.getLogger(__name__)

_LIMBS: dict[str, tuple[str, ...]] = {
    "shoulder": ("upperarm", "uparm", "arm", "shldr", "humerus", "shoulder"),
    "collar": ("collar", "clavicle", "collarbone", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm"),
    "wrist": ("wrist", "hand"),
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("knee", "shin", "calf", "lowerleg", "lowleg", "leg"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "foot"),
}
"""SMPL's joint of one side -> names in files, the most specific first. A joint is used once: a "shoulder" is the collar if there is also
an "arm" (Mixamo, MotionBuilder), and the shoulder otherwise (3ds Max, SMPL).
"""
_HEADS = ("head", "face", "skull", "cranium")
_NEEDED = ("shoulder", "elbow", "hip", "knee", "ankle")
_PREFIX = re.compile(r"^(.*:|mixamorig\d*|cc_base|bip\d*)", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_NEXT = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle", "ankle": "foot"}
_BEFORE = {"elbow": "shoulder", "wrist": "elbow", "knee": "hip", "ankle": "knee", "foot": "ankle"}
_FRAMES_AT_ONCE = 4096
_SNAP_DEG = 25.0
"""A skeleton that faces within this angle of an axis is assumed to face along it."""


def smpl_poses(bvh: Bvh, path: Path, rest_joints_m: Array) -> NDArray[np.float32]:
    """Convert a file to SMPL poses.

    Args:
        bvh: the file's contents.
        path: its name, for messages.
        rest_joints_m: (24, 3) of SMPL's T-pose.

    Returns:
        (T, 24, 3) axis-angle, root included, y up. Hands are not read.

    Raises:
        InputError: joints are missing, or the skeleton stands in no pose of the file.
    """
    joints = find_joints(bvh, path)
    reference, world = _reference(bvh, joints, path)
    places = bvh.places(reference)
    tips = {joint: reference[joint] @ offset @ world.T for joint, offset in bvh.end_offsets.items()}
    only = ((joint, parent) for joint, parent in enumerate(bvh.parents) if parent >= 0 and bvh.parents.count(parent) == 1)
    tips |= {parent: (places[joint] - places[parent]) @ world.T for joint, parent in only}
    aligned = _alignments(joints, places @ world.T, tips, rest_joints_m)
    trunk = _between(bvh, joints["pelvis"], _chest(bvh, joints))
    poses = np.empty((len(bvh.motion), 24, 3), np.float32)
    for begin in range(0, len(poses), _FRAMES_AT_ONCE):
        frames = slice(begin, begin + _FRAMES_AT_ONCE)
        since = world @ (bvh.rotations(frames) @ np.swapaxes(reference, 1, 2)) @ world.T
        poses[frames] = _local(_in_world(since, joints, trunk, aligned))
    return poses


def _in_world(since: Array, joints: dict[str, int], trunk: Sequence[int], aligned: dict[str, Array]) -> Array:
    """Rotations since the reference pose (T, J, 3, 3) -> SMPL's joints in world axes (T, 24, 3, 3)."""
    rotations = np.empty((len(since), 24, 3, 3))
    spine = dict(zip(("spine1", "spine2", "spine3"), np.moveaxis(_spine(since, trunk, joints["pelvis"]), 1, 0), strict=True))
    for number, name in enumerate(JOINT_NAMES):
        if name in spine:
            rotations[:, number] = spine[name]
        elif name in joints:
            rotations[:, number] = since[:, joints[name]] @ aligned.get(name, np.eye(3)).T
        else:
            rotations[:, number] = rotations[:, PARENTS[number]]
    return rotations


def _local(rotations: Array) -> Array:
    """(T, 24, 3, 3) in world axes -> (T, 24, 3) axis-angle, each joint relative to its parent."""
    local = rotations.copy()
    local[:, 1:] = np.swapaxes(rotations[:, PARENTS[1:]], 2, 3) @ rotations[:, 1:]
    return np.asarray(axis_angle_from_matrix(local), np.float64)


def find_joints(bvh: Bvh, path: Path) -> dict[str, int]:
    """Find SMPL's joints in the file: limbs and head by name, pelvis and neck by their place in the tree.

    Returns:
        SMPL's name -> number in the file, for the joints found.

    Raises:
        InputError: a limb or the head is missing.
    """
    found: dict[str, int] = {}
    names = [_side_and_rest(name) for name in bvh.names]
    for side in ("left", "right"):
        taken: set[int] = set()
        for part, called in _LIMBS.items():
            candidates = (names.index((side, name)) for name in called if (side, name) in names)
            number = next((candidate for candidate in candidates if candidate not in taken), None)
            if number is not None:
                found[f"{side}_{part}"] = number
                taken.add(number)
    missing = [f"{side}_{part}" for part in _NEEDED for side in ("left", "right") if f"{side}_{part}" not in found]
    head = next((names.index(("", name)) for name in _HEADS if ("", name) in names), None)
    if head is None:
        missing.append("head")
    else:
        found["head"] = head
    if missing:
        raise InputError(
            f"{path}: no joint is called like {missing[0]} ({len(missing)} missing; its joints are {', '.join(bvh.names[:6])[:100]}, ...); "
            "name them as Mixamo or CMU do"
        )
    chest = _chest(bvh, found)
    found["pelvis"] = _where_they_part(bvh, [found["left_hip"], found["right_hip"], chest])
    neck = _between(bvh, chest, bvh.parents[found["head"]])
    if neck:
        found["neck"] = neck[-1]
    return found


def _side_and_rest(name: str) -> tuple[str, str]:
    """LeftUpLeg, lUpLeg, up_leg.L -> left, upleg. The side is empty for the middle of the body."""
    words = [word.lower() for word in _WORD.findall(_PREFIX.sub("", name.strip()))]
    if words and len(words[0]) > 5 and words[0].startswith(("left", "right")):
        cut = 4 if words[0].startswith("left") else 5
        words = [words[0][:cut], words[0][cut:], *words[1:]]
    for end in (0, -1):
        if len(words) > 1 and words[end] in _SIDES:
            return _SIDES[words.pop(end)], "".join(words)
    return "", "".join(words)


def _reference(bvh: Bvh, joints: dict[str, int], path: Path) -> tuple[Array, Array]:
    """The reference pose, (J, 3, 3) world from joint, and (3, 3) SMPL's axes from the file's.

    It is that of zero rotations, or else the first frame, as in some files.
    """
    zero = np.broadcast_to(np.eye(3), (len(bvh.names), 3, 3))
    world = _axes(bvh.places(zero), joints)
    if world is not None:
        return zero, world
    first = bvh.rotations(slice(1))[0]
    world = _axes(bvh.places(first), joints)
    if world is None:
        raise InputError(
            f"{path}: neither without rotations nor in its first frame does the skeleton stand straight; put a T-pose into the first frame"
        )
    log.warning("%s: the skeleton does not stand without rotations; its first frame is taken for a straight pose", path)
    return first, world


def _axes(places: Array, joints: dict[str, int]) -> Array | None:
    """(3, 3) rotation to y up, facing +z, from the axes of a standing skeleton; None if it does not stand."""
    of = lambda name: places[joints[name]]
    feet = (of("left_ankle") + of("right_ankle")) / 2
    body = of("head") - feet
    up = int(np.argmax(np.abs(body)))
    height = abs(body[up])
    sign = np.sign(body[up])
    straight = height > 0.9 * np.linalg.norm(body) and sign * (of("head") - of("pelvis"))[up] > 0.2 * height
    legs_down = all(sign * (of("pelvis") - of(f"{side}_ankle"))[up] > 0.25 * height for side in ("left", "right"))
    across = of("left_hip") - of("right_hip")
    across[up] = 0
    if not straight or not legs_down or np.linalg.norm(across) < 0.02 * height:
        return None
    upwards = sign * np.eye(3)[up]
    across /= np.linalg.norm(across)
    nearest = int(np.argmax(np.abs(across)))
    if abs(across[nearest]) > np.cos(np.deg2rad(_SNAP_DEG)):
        across = np.sign(across[nearest]) * np.eye(3)[nearest]
    return np.stack([across, upwards, np.cross(across, upwards)])


def _alignments(joints: dict[str, int], places: Array, tips: dict[int, Array], rest_joints_m: Array) -> dict[str, Array]:
    """Limb joint -> (3, 3), the smallest rotation from its bone's direction in the reference pose to SMPL's.

    `tips`: joint -> (3,) from it to its end site or only child, used if the next joint is missing, as for an arm that ends at the wrist. A
    joint without a bone of its own (a wrist, toes) uses that of the previous bone.
    """
    aligned: dict[str, Array] = {}
    for side in ("left", "right"):
        for part in _LIMBS:
            name, following = f"{side}_{part}", f"{side}_{_NEXT.get(part)}"
            bone = np.zeros(3)
            if name in joints and following in joints:
                bone = places[joints[following]] - places[joints[name]]
            elif name in joints and part in _NEXT:
                bone = tips.get(joints[name], bone)
            if np.linalg.norm(bone) > 1e-6:
                target = rest_joints_m[JOINT_NAMES.index(following)] - rest_joints_m[JOINT_NAMES.index(name)]
                aligned[name] = smallest_rotation(bone, target)
            elif part in _BEFORE and f"{side}_{_BEFORE[part]}" in aligned:
                aligned[name] = aligned[f"{side}_{_BEFORE[part]}"]
    return aligned


def smallest_rotation(start: Array, end: Array) -> Array:
    """Compute the smallest rotation (3, 3) from the direction of `start` (3,) to that of `end` (3,).

    Opposite directions give half a turn about any axis.
    """
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[int(np.argmin(np.abs(a)))])
        sine = float(np.linalg.norm(axis))
    return np.asarray(matrix_from_axis_angle(axis / sine * np.arctan2(np.linalg.norm(np.cross(a, b)), cosine)), np.float64)


def _chest(bvh: Bvh, joints: dict[str, int]) -> int:
    return _where_they_part(bvh, [joints["left_shoulder"], joints["right_shoulder"]])


def _where_they_part(bvh: Bvh, joints: Sequence[int]) -> int:
    """The lowest common ancestor of the joints."""
    others = [set(_upwards(bvh, joint)) for joint in joints[1:]]
    return next(joint for joint in _upwards(bvh, joints[0]) if all(joint in other for other in others))


def _between(bvh: Bvh, above: int, joint: int) -> list[int]:
    """Joints on the path down to `joint`, including it, without `above`."""
    path = list(takewhile(lambda number: number != above, _upwards(bvh, joint)))
    return path[::-1]


def _upwards(bvh: Bvh, joint: int) -> Iterator[int]:
    while joint >= 0:
        yield joint
        joint = bvh.parents[joint]


def _spine(since: Array, path: Sequence[int], pelvis: int) -> Array:
    """(T, 3, 3, 3) of spine1, spine2, spine3: the first, middle and last joint of the file's trunk, interpolated if it has fewer."""
    if len(path) >= 3:
        return since[:, [path[0], path[len(path) // 2], path[-1]]]
    if len(path) == 2:
        first, last = since[:, path[0]], since[:, path[1]]
        return np.stack([first, _interpolated(first, last, 0.5), last], 1)
    last = since[:, path[-1]] if path else since[:, pelvis]
    return np.stack([_interpolated(since[:, pelvis], last, share) for share in (1 / 3, 2 / 3, 1.0)], 1)


def _interpolated(start: Array, end: Array, share: float) -> Array:
    """(T, 3, 3), (T, 3, 3) -> rotation interpolated by `share`."""
    step = axis_angle_from_matrix(np.swapaxes(start, 1, 2) @ end)
    return np.asarray(start @ matrix_from_axis_angle(step * share), np.float64)
