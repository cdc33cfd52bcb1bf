"""Go on where an earlier run stopped: same rows before, same identities after.

A run that stopped leaves whole files up to its last frame. The next one starts a little earlier, so that tracker and
smoother are warm when new frames begin; the frames that both runs saw say which new identity is which old one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mchmr_stream.errors import UsageError
from mchmr_stream.motion import Motion, load
from mchmr_stream.records import Float, Scene

WARM_UP_S = 1.5
_MIN_OVERLAP = 0.3


class EarlierRun:
    """What an earlier run left behind in `path` (STEM.npz). Raises InputError when that file is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.motion: Motion = load(path)
        frames = self.motion.frames
        self.last_frame = int(frames[-1]) if len(frames) else -1
        self._boxes: dict[int, list[tuple[int, Float]]] = {}
        for identity, track in self.motion.tracks.items():
            for frame, box in zip(track.frame.tolist(), track.box_xyxy_px, strict=True):
                self._boxes.setdefault(frame, []).append((identity, box))
        self._next_identity = max(self.motion.tracks, default=0) + 1

    def check_settings(self, settings: dict) -> None:
        """The same settings must go on; only where it runs may change. Raises UsageError that names the first other one."""
        for section, values in settings.items():
            earlier = self.motion.settings.get(section)
            if section != "runtime" and earlier != values:
                names = [name for name in values if not isinstance(earlier, dict) or earlier.get(name) != values[name]]
                first = f"{section}.{names[0] if names else '?'}"
                raise UsageError(f"{self.path} was begun with another {first}; resume with the same settings or use --overwrite")

    def start_s(self) -> float:
        """Where to start reading: the time of an earlier frame, so that `every` keeps its step."""
        times = self.motion.frames_time_s
        return float(times[np.searchsorted(times, times[-1] - WARM_UP_S)]) if len(times) else 0.0

    def only_new(self, scenes: Iterator[Scene]) -> Iterator[Scene]:
        """Scenes after the last frame of the earlier run, with its identities where people are the same."""
        votes: dict[int, Counter[int]] = {}
        identity_of: dict[int, int] = {}
        for scene in scenes:
            if scene.frame.index <= self.last_frame:
                for identity, box in zip(scene.bodies.track_id.tolist(), scene.bodies.boxes_xyxy_px, strict=True):
                    for earlier, other in self._boxes.get(scene.frame.index, []):
                        if _overlap(box, other) > _MIN_OVERLAP:
                            votes.setdefault(identity, Counter())[earlier] += 1
                continue
            for identity in scene.bodies.track_id.tolist():
                if identity not in identity_of:
                    identity_of[identity] = self._name(votes.get(identity), set(identity_of.values()))
            renamed = np.array([identity_of[identity] for identity in scene.bodies.track_id.tolist()], np.int64)
            yield dataclasses.replace(scene, bodies=dataclasses.replace(scene.bodies, track_id=renamed))

    def _name(self, votes: Counter[int] | None, taken: set[int]) -> int:
        for earlier, _ in votes.most_common() if votes else ():
            if earlier not in taken:
                return earlier
        self._next_identity += 1
        return self._next_identity - 1


def _overlap(a: Float, b: Float) -> float:
    """Intersection over union of two boxes."""
    corner, other = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(other - corner, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / union if union > 0 else 0.0
