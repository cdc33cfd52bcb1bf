"""Resuming an earlier run with the same rows before and the same identities after.

A stopped run leaves complete files up to its last frame. The next run starts a little earlier, so that tracker and smoother are warmed
up at the first new frame. Frames that both runs processed map new identities to old ones.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.config import Settings, may_change
from mchmr_stream.datatypes import Bodies, Float, Scene, SourceInfo
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.content_hash import Content, MadeOf
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.motion.motion import Motion, load

log = logging.getLogger(__name__)

WARM_UP_S = 1.5
"""Length of the earlier run that is processed again: more than the smoothers' memory."""
_LOST_MARGIN_S = 0.5
"""The tracker recovers people lost within `tracker.max_lost_s`; the warm-up must be long enough to detect and lose them."""
_MIN_OVERLAP = 0.3
"""Intersection over union from which on two boxes of one frame may belong to one person."""


class EarlierRun:
    """The output of an earlier run: its STEM.npz and STEM.json.

    An input that has grown at its end since then is continued.

    Args:
        bodies: The STEM.npz.
        report: The STEM.json.
        settings: Settings of the run that continues it.
        made_of: Input of the run that continues it.

    Raises:
        InputError: The STEM.npz is damaged.
        UsageError: Settings or input differ from those of the earlier run.
    """

    def __init__(self, bodies: Path, report: Path, settings: Settings, made_of: MadeOf) -> None:
        self.path = bodies
        self.motion: Motion = load(bodies)
        begun = self._begun_with()
        if begun is not None:
            self._refuse_other_input(begun, made_of)
        self._refuse_other_settings(settings, made_of.setting_files, begun.setting_files if begun is not None else {})
        has_grown = begun is not None and begun.content != made_of.content
        self.complete = not has_grown and _is_complete(report, self.motion)
        """Whether nothing is left to do."""
        times_s = self.motion.frames_time_s
        warm_up_s = max(WARM_UP_S, settings.tracker.max_lost_s + _LOST_MARGIN_S)
        self._renamed: dict[int, int] = {}
        self._first = int(np.searchsorted(times_s, times_s[-1] - warm_up_s)) if len(times_s) else 0

    def settings_to_resume(self, settings: Settings) -> Settings:
        """Settings that start at the warm-up, at a frame that the earlier run used, so that `every` keeps its phase."""
        if not len(self.motion.frames):
            return settings
        start_s = float(self.motion.frames_time_s[self._first])
        return settings.model_copy(update={"source": settings.source.model_copy(update={"start_s": start_s})})

    def with_total_frames(self, info: SourceInfo) -> SourceInfo:
        """`info` of a source that starts at the warm-up, with the number of frames of both runs together."""
        return info if info.frame_count is None else dataclasses.replace(info, frame_count=self._first + info.frame_count)

    def only_new(self, scenes: Generator[Scene]) -> Generator[Scene]:
        """Scenes after the last frame of the earlier run, with its identities for the same people."""
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
        """Bodies of the frames that `only_new` returned, with the same identities."""
        last_frame = int(self.motion.frames[-1]) if len(self.motion.frames) else -1
        for bodies in frames:
            if bodies.frame > last_frame:
                known = bodies.rows(np.flatnonzero([int(track) in self._renamed for track in bodies.track_id]))
                yield dataclasses.replace(known, track_id=np.array([self._renamed[int(track)] for track in known.track_id], np.int64))

    def _begun_with(self) -> MadeOf | None:
        """The recorded input; None, with a warning, where the file records none."""
        recorded = self.motion.made_of
        if not recorded:
            log.warning(
                "%s was written by an earlier version, which did not say of what; it is taken to be of this input (else use --overwrite)",
                self.path,
            )
            return None
        try:
            content = Content.from_plain(recorded) if "sampled_sha256" in recorded else None
            setting_files = {str(name): Content.from_plain(one) for name, one in recorded["setting_files"].items()}
            return MadeOf(Path(str(recorded["name"])), (), content, setting_files)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.path}: made_of does not name an input ({error}); use --overwrite") from error

    def _refuse_other_input(self, begun: MadeOf, now: MadeOf) -> None:
        if now.content is None:
            raise UsageError(f"{now.path} is a pipe or a device, whose beginning is gone; use --overwrite to do it anew")
        if begun.content != now.content and (begun.content is None or not begun.content.begins(now.files)):
            raise UsageError(
                f"{self.path} was made of another input, {begun}, now it is {now}; use --overwrite to replace it, or choose another folder"
            )

    def _refuse_other_settings(self, settings: Settings, files: Mapping[str, Content], begun_files: Mapping[str, Content]) -> None:
        """Compare settings: one that the file lacks had its default; files that settings name are compared by content."""
        defaults = Settings().model_dump(mode="json")
        for section, values in settings.model_dump(mode="json").items():
            kept = self.motion.settings.get(section)
            begun = defaults[section] | (kept if isinstance(kept, dict) else {})
            for name, value in values.items():
                setting = f"{section}.{name}"
                before, now = begun_files.get(setting), files.get(setting)
                is_same = begun[name] == value if before is None or now is None else before == now
                if is_same or may_change(setting):
                    continue
                what = f"{begun[name]}, now it is {value}" if begun[name] != value else f"{value} ({before}), which is now {now}"
                raise UsageError(
                    f"{self.path} was begun with {setting} {what}; resume with the settings it was begun with, or use --overwrite"
                )

    def _boxes_by_frame(self) -> dict[int, list[tuple[int, Float]]]:
        """Boxes of all people in the frames of the warm-up."""
        boxes: dict[int, list[tuple[int, Float]]] = {}
        frames = self.motion.frames[self._first :]
        for identity, track in self.motion.tracks.items():
            again = np.isin(track.frame, frames)
            for frame, box in zip(track.frame[again].tolist(), track.box_xyxy_px[again], strict=True):
                boxes.setdefault(frame, []).append((identity, box))
        return boxes


def _pairs(overlap_sums: dict[tuple[int, int], float]) -> dict[int, int]:
    """New identity -> earlier one, one to one, largest overlap first."""
    pairs: dict[int, int] = {}
    for (identity, earlier), overlap in sorted(overlap_sums.items(), key=lambda item: -item[1]):
        if overlap > 0 and identity not in pairs and earlier not in pairs.values():
            pairs[identity] = earlier
    return pairs


def _is_complete(report: Path, motion: Motion) -> bool:
    try:
        content = json.loads(report.read_text())
        # The files are published one after another: a report with other frames or another input belongs to another run.
        is_of_this_run = content["frames"] == len(motion.frames) and _input_hash(content["source"]) == _input_hash(motion.made_of)
        return bool(content["complete"]) and is_of_this_run
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s does not say how the earlier run ended (%s); going on after its last frame", report, error)
        return False


def _input_hash(recorded: Mapping[str, Any]) -> str | None:
    return recorded.get("sampled_sha256")


def _overlap(a: Float, b: Float) -> float:
    """Intersection over union of two boxes; 0 where it is too small for one person."""
    iou = float(box_iou(a[None], b[None])[0, 0])
    return iou if iou > _MIN_OVERLAP else 0.0
