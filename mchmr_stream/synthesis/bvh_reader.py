"""Strict reader of BVH motion capture files: a tree of joints with offsets, and rows of channels.

The BVH readers on PyPI keep each joint of each frame as an object, which takes minutes for a long take, and trust sizes that a file
claims.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError

MAX_BYTES = 256 * 2**20
MAX_JOINTS = 512
MAX_FRAMES = 1_000_000
_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
_WHAT = "expected BVH motion capture"

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bvh:
    """Contents of one file. J joints, parents before their children; lengths in the file's own unit."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """-1 for the root"""
    offsets: Array
    """(J, 3) from the parent"""
    end_offsets: dict[int, Array]
    """joint -> (3,) offset of its end site"""
    channels: tuple[tuple[str, ...], ...]
    """of each joint, for example ("Zrotation", "Xrotation", "Yrotation")"""
    motion: Array
    """(T, all channels): degrees and lengths"""
    frame_time_s: float

    def rotations(self, frames: slice = slice(None)) -> Array:
        """Compute rotations (T, J, 3, 3): world from joint. A joint's channels rotate about its own axes, in the order of the file."""
        motion = self.motion[frames]
        turned = np.empty((len(motion), len(self.names), 3, 3))
        column = 0
        for joint, channels in enumerate(self.channels):
            local = np.broadcast_to(np.eye(3), (len(motion), 3, 3))
            for channel in channels:
                if channel.endswith("rotation"):
                    local = local @ _about("XYZ".index(channel[0]), np.deg2rad(motion[:, column]))
                column += 1
            parent = self.parents[joint]
            turned[:, joint] = local if parent < 0 else turned[:, parent] @ local
        return turned

    def places(self, rotations: Array) -> Array:
        """Compute joint positions, the root at 0: (J, 3, 3) world from joint -> (J, 3)."""
        placed = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                placed[joint] = placed[parent] + rotations[parent] @ self.offsets[joint]
        return placed


def read_bvh(path: Path) -> Bvh:
    """Read a file.

    Raises:
        InputError: it is not a complete BVH file of plausible size.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path} has {size / 2**20:.0f} MB, expected at most {MAX_BYTES // 2**20}; cut it into shorter takes")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; {_WHAT}") from error
    head, found, tail = text.partition("MOTION")
    if not found or not head.lstrip("\ufeff \t\r\n").startswith("HIERARCHY"):
        raise InputError(f"{path} has no HIERARCHY and MOTION; {_WHAT}")
    try:
        tree = _Tree(head.split())
        motion, frame_time_s = _motion(tail, sum(map(len, tree.channels)))
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_WHAT}") from error
    return Bvh(
        tuple(tree.names), tuple(tree.parents), np.array(tree.offsets), tree.end_offsets, tuple(tree.channels), motion, frame_time_s
    )  # fmt: skip


class _Tree:
    """Parser of the HIERARCHY part. Raises ValueError."""

    def __init__(self, words: list[str]) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[Array] = []
        self.channels: list[tuple[str, ...]] = []
        self.end_offsets: dict[int, Array] = {}
        self._words, self._next = words, 1
        # Stack of joints with open braces; an end site is stored as the negated number of its joint, minus one.
        open_: list[int] = []
        while self._next < len(words):
            word = self._take()
            if word in ("ROOT", "JOINT"):
                self._joint(word, open_)
            elif word == "End":
                self._expect("Site")
                self._expect("{")
                if not open_ or open_[-1] < 0:
                    raise ValueError("an end site belongs to no joint")
                open_.append(-1 - open_[-1])
            elif word == "OFFSET" and open_:
                offset = np.array([_number(self._take()) for _ in range(3)])
                if open_[-1] < 0:
                    self.end_offsets[-1 - open_[-1]] = offset
                else:
                    self.offsets[open_[-1]] = offset
            elif word == "CHANNELS" and open_ and open_[-1] >= 0:
                self._read_channels(open_[-1])
            elif word == "}" and open_:
                open_.pop()
            else:
                raise ValueError(f"the hierarchy has {word[:40]!r} where none belongs")
        if open_ or not self.names:
            raise ValueError("the hierarchy is cut off")

    def _joint(self, kind: str, open_: list[int]) -> None:
        words = []
        while (word := self._take()) != "{":
            words.append(word)
        if (kind == "ROOT") != (not open_) or (open_ and open_[-1] < 0) or (kind == "ROOT" and self.names):
            raise ValueError(f"{kind} {' '.join(words)[:40]} is out of place; one ROOT with JOINTs inside is read")
        if len(self.names) == MAX_JOINTS:
            raise ValueError(f"there are more than {MAX_JOINTS} joints")
        self.names.append(" ".join(words))
        self.parents.append(open_[-1] if open_ else -1)
        self.offsets.append(np.zeros(3))
        self.channels.append(())
        open_.append(len(self.names) - 1)

    def _read_channels(self, joint: int) -> None:
        count = self._take()
        if count not in "0123456" or self.channels[joint]:
            raise ValueError(f"joint {self.names[joint][:40]} has CHANNELS {count[:40]}, expected 0 to 6, once")
        channels = tuple(self._take() for _ in range(int(count)))
        for channel in channels:
            if channel not in _CHANNELS:
                raise ValueError(f"joint {self.names[joint][:40]} has the channel {channel[:40]!r}, expected {', '.join(_CHANNELS)}")
        self.channels[joint] = channels

    def _take(self) -> str:
        if self._next >= len(self._words):
            raise ValueError("the hierarchy is cut off")
        self._next += 1
        return self._words[self._next - 1]

    def _expect(self, expected: str) -> None:
        word = self._take()
        if word != expected:
            raise ValueError(f"the hierarchy has {word[:40]!r}, expected {expected!r}")


def _motion(text: str, columns: int) -> tuple[Array, float]:
    """(T, columns) and seconds per frame. Raises ValueError."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].split()[0].startswith("Frames") or lines[1].split()[:1] != ["Frame"]:
        raise ValueError("MOTION does not begin with Frames: and Frame Time:")
    frames, frame_time_s = _number(lines[0].split()[-1]), _number(lines[1].split()[-1])
    if not 1 <= frames <= MAX_FRAMES or frames != int(frames):
        raise ValueError(f"it claims {frames:g} frames, expected 1 to {MAX_FRAMES}")
    if not 1e-4 <= frame_time_s <= 10:
        raise ValueError(f"a frame takes {frame_time_s:g} s, expected 0.0001 to 10")
    if len(lines) - 2 != frames:
        raise ValueError(f"it claims {frames:g} frames, there are {len(lines) - 2}")
    motion = np.empty((int(frames), columns))
    for row, line in enumerate(lines[2:]):
        words = line.split()
        if len(words) != columns:
            raise ValueError(f"frame {row} has {len(words)} numbers, expected {columns}")
        motion[row] = [float(word) for word in words]
    if not np.isfinite(motion).all():
        raise ValueError("some numbers of its motion are not finite")
    return motion, frame_time_s


def _number(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]!r} is no finite number")
    return value


def _about(axis: int, angle: Array) -> Array:
    """(T,) radians -> (T, 3, 3) rotations about a coordinate axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.zeros((len(angle), 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned[:, axis, axis] = 1
    turned[:, first, first] = turned[:, second, second] = cosine
    turned[:, first, second], turned[:, second, first] = -sine, sine
    return turned
