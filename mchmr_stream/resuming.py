"""Go on where an earlier run stopped: same rows before, same identities after.

A run that stopped leaves whole files up to its last frame. The next one starts a little earlier, so that tracker and
smoother are warm when new frames begin; the frames that both runs saw say which new identity is which old one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from mchmr_stream.config import Settings
from mchmr_stream.errors import UsageError
from mchmr_stream.motion import Motion, load
from mchmr_stream.records import Bodies, Float, Scene, SourceInfo

log = logging.getLogger(__name__)

WARM_UP_S = 1.5
"""How much of the earlier run is gone through again: more than smoothers look back."""
_LOST_MARGIN_S = 0.5
"""The tracker brings back whom it lost not long ago; it must have had the time to see and to lose them."""
_MIN_OVERLAP = 0.3
"""Intersection over union from which on two boxes of one frame may be one person's."""


class EarlierRun:
    """What an earlier run left: its STEM.npz and STEM.json. Raises InputError when the first is damaged.

    `settings` are those to go on with; UsageError where they are not those it was begun with.
    """

    def __init__(self, bodies: Path, report: Path, settings: Settings) -> None:
        self.path = bodies
        self.motion: Motion = load(bodies)
        self._refuse_other(settings)
        self.complete = _is_complete(report, len(self.motion.frames))
        """Whether there is nothing left to do."""
        times_s = self.motion.frames_time_s
        warm_up_s = max(WARM_UP_S, settings.tracker.max_lost_s + _LOST_MARGIN_S)
        self._renamed: dict[int, int] = {}
        self._first = int(np.searchsorted(times_s, times_s[-1] - warm_up_s)) if len(times_s) else 0

    def settings_to_resume(self, settings: Settings) -> Settings:
        """The same, but beginning at the warm-up: at a frame that the earlier run used, so that `every` keeps its step."""
        if not len(self.motion.frames):
            return settings
        start_s = float(self.motion.frames_time_s[self._first])
        return settings.model_copy(update={"source": settings.source.model_copy(update={"start_s": start_s})})

    def whole(self, info: SourceInfo) -> SourceInfo:
        """Of a source that begins at the warm-up: with the number of frames that both runs have together."""
        return info if info.frame_count is None else dataclasses.replace(info, frame_count=self._first + info.frame_count)

    def only_new(self, scenes: Generator[Scene]) -> Generator[Scene]:
        """The scenes after the last frame of the earlier run, with its identities where people are the same."""
        last_frame = int(self.motion.frames[-1]) if len(self.motion.frames) else -1
        earlier_boxes = self._boxes_by_frame()
        overlap_sums: dict[tuple[int, int], float] = {}
        renamed: dict[int, int] | None = None
        next_identity = max(self.motion.tracks, default=0) + 1
        with closing(scenes):
            for scene in scenes:
                identities, boxes = scene.bodies.track_id.tolist(), scene.bodies.boxes_xyxy_px
                if scene.frame.index <= last_frame:
                    for identity, box in zip(identities, boxes, strict=True):
                        for earlier, earlier_box in earlier_boxes.get(scene.frame.index, []):
                            pair = identity, earlier
                            overlap_sums[pair] = overlap_sums.get(pair, 0.0) + _overlap(box, earlier_box)
                    continue
                if renamed is None:
                    renamed = self._renamed = _pairs(overlap_sums)
                for identity in identities:
                    if identity not in renamed:
                        renamed[identity] = next_identity
                        next_identity += 1
                track_id = np.array([renamed[identity] for identity in identities], np.int64)
                yield dataclasses.replace(scene, bodies=dataclasses.replace(scene.bodies, track_id=track_id))

    def only_new_bodies(self, frames: Iterable[Bodies]) -> Iterator[Bodies]:
        """Bodies of the frames that `only_new` gave, with the identities that it gave them."""
        last_frame = int(self.motion.frames[-1]) if len(self.motion.frames) else -1
        for bodies in frames:
            if bodies.frame > last_frame:
                known = bodies.rows(np.flatnonzero([int(track) in self._renamed for track in bodies.track_id]))
                yield dataclasses.replace(known, track_id=np.array([self._renamed[int(track)] for track in known.track_id], np.int64))

    def _refuse_other(self, settings: Settings) -> None:
        """Only where it runs may change, and what is for live sources."""
        for section, values in settings.model_dump(mode="json", exclude={"runtime", "triton", "live", "mqtt"}).items():
            begun = self.motion.settings.get(section)
            if begun == values:
                continue
            begun = begun if isinstance(begun, dict) else {}
            name = next((name for name in values if name not in begun or begun[name] != values[name]), "?")
            raise UsageError(
                f"{self.path} was begun with {section}.{name} {begun.get(name)}, now it is {values.get(name)}; "
                "resume with the settings it was begun with, or use --overwrite"
            )

    def _boxes_by_frame(self) -> dict[int, list[tuple[int, Float]]]:
        """Everyone's boxes in the frames that are gone through again."""
        boxes: dict[int, list[tuple[int, Float]]] = {}
        frames = self.motion.frames[self._first :]
        for identity, track in self.motion.tracks.items():
            again = np.isin(track.frame, frames)
            for frame, box in zip(track.frame[again].tolist(), track.box_xyxy_px[again], strict=True):
                boxes.setdefault(frame, []).append((identity, box))
        return boxes


def _pairs(overlap_sums: dict[tuple[int, int], float]) -> dict[int, int]:
    """New identity -> earlier one, each once, the pairs with most in common first."""
    pairs: dict[int, int] = {}
    for (identity, earlier), overlap in sorted(overlap_sums.items(), key=lambda item: -item[1]):
        if overlap > 0 and identity not in pairs and earlier not in pairs.values():
            pairs[identity] = earlier
    return pairs


def _is_complete(report: Path, frames: int) -> bool:
    try:
        content = json.loads(report.read_text())
        # The files appear one after another: a report of other frames is of another run.
        return bool(content["complete"]) and content["frames"] == frames
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s does not say how the earlier run ended (%s); going on after its last frame", report, error)
        return False


def _overlap(a: Float, b: Float) -> float:
    """Intersection over union of two boxes; 0 where too little for them to be one person's."""
    corner, other = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(other - corner, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / union if shared > _MIN_OVERLAP * union > 0 else 0.0
