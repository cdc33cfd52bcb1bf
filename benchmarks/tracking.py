"""Compare the identities of this tracker with ByteTrack's on the same detections of rendered people.

    python benchmarks/tracking.py --data DATA --scenes DIR [--out benchmarks/results/tracking.json]

`DATA` is the folder of `mchmr synth`. `DIR` stores the rendered clips (`mchmr synth --clips --staging NAME`) and the detector's output,
computed once; all trackers get the same detections. Scenes: people who cross, occlude each other, enter and leave, run, sit down, crowd;
and two crossings joined by a cut. `DEVELOPED_ON` are the seeds used to find faults of this tracker and to search ByteTrack's thresholds;
`HELD_OUT` were not used before the table is printed.

HOTA, IDF1, switches and fragments are TrackEval's. A person who is occluded or outside of the picture by more than three quarters may be
found or missed: as in MOTChallenge, such people and the boxes on them do not count. "Ours" is the full pipeline (the network's presence
goes back to the tracker), "ours, boxes alone" the tracker without this feedback.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from trackers import ByteTrackTracker
from trackeval.metrics import CLEAR, HOTA, Identity

from mchmr_stream.config import Settings, settings_from
from mchmr_stream.datatypes import KEYPOINT_NAMES, Detections, Frame, SourceInfo, Tracks
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.crops import image_from_rolled
from mchmr_stream.pipeline.factory import build_scene_cuts, build_tracker
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.versions import cpu_name, versions
from mchmr_stream.sources import open_source
from mchmr_stream.synthesis.clip_files import ClipLabels, read_labels, run_clips
from mchmr_stream.synthesis.clips import ClipSettings
from mchmr_stream.synthesis.stagings import STAGINGS

Array = NDArray[np.float64]
People = list[tuple[list[int], Array]]
"""Per frame: identities, and their boxes (n, 4)."""

DEVELOPED_ON, HELD_OUT = (0, 1), (100, 101)
CLIPS = ClipSettings(seconds=5, fps=15, long_side_px=(640, 640), aspects=(16 / 9,), camera="mixed")
_CUT_FRAMES = (slice(0, 42), slice(33, 75))
"""Of two crossings: in both, all people are in the middle of the picture at the cut."""
_LEAST_SEEN = 0.25
_IGNORED_OVERLAP = 0.5
_SEARCH = {
    "high_conf_det_threshold": (0.3, 0.4, 0.5),
    "minimum_iou_threshold": (0.1, 0.3),
    "lost_track_buffer": (30, 60),
    "minimum_consecutive_frames": (1, 2),
}
"""Grid of ByteTrack's thresholds; a track begins with a first-stage detection, as in this tracker."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One clip with its ground truth and detections."""

    name: str
    frames: list[Frame]
    fps: float
    truth: People
    ignored: list[Array]
    """boxes of people who do not count, per frame"""
    detections: list[Detections]

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(self.name, self.frames[0].width, self.frames[0].height, self.fps, len(self.frames))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of clips and detections, made when missing")
    parser.add_argument("--out", type=Path, help="JSON with every figure")
    parser.add_argument("--without-network", action="store_true", help="leave out the method that needs it: minutes become seconds")
    parser.add_argument("--only-developed-on", action="store_true", help="leave the held-out seeds unseen")
    args = parser.parse_args()
    pipeline = Pipeline(settings_from({"smoother": {"kind": "none"}}))
    splits = {"developed on": DEVELOPED_ON} | ({} if args.only_developed_on else {"held out": HELD_OUT})
    scenes = {split: load_scenes(args.data, args.scenes, seeds, pipeline) for split, seeds in splits.items()}
    tuned = search(scenes["developed on"])
    methods: dict[str, Callable[[Scene], People]] = {
        "ours, boxes alone": lambda scene: ours_alone(scene, pipeline.settings),
        "ByteTrack, defaults": lambda scene: bytetrack(scene, {}),
        "ByteTrack, tuned": lambda scene: bytetrack(scene, tuned),
    }
    if not args.without_network:
        methods = {"ours": lambda scene: ours(scene, pipeline), **methods}
    about = about_this_run(pipeline, tuned)
    print(json.dumps(about))
    tables = {split: table(split, some, methods) for split, some in scenes.items()}
    pipeline.close()
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**about, "results": tables}, indent=1) + "\n")


def about_this_run(pipeline: Pipeline, tuned: dict[str, float]) -> dict[str, Any]:
    packages = ("mchmr-stream", "trackers", "supervision", "trackeval", "torch", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{cpu_name()}, {platform.system()}, Python {platform.python_version()}",
        "versions": versions(packages),
        "weights_sha256": pipeline.names()["weights_sha256"],
        "tracker": pipeline.settings.tracker.model_dump(),
        "bytetrack_tuned": tuned,
        "clips": dataclasses.asdict(CLIPS),
    }


def table(split: str, scenes: list[Scene], methods: dict[str, Callable[[Scene], People]]) -> dict[str, Any]:
    """Print and return the figures of each scene and of all together."""
    print(f"\n{split}\n| scene | method | HOTA | AssA | DetA | IDF1 | switches | fragments |\n|---|---|---|---|---|---|---|---|")
    found = {name: {scene.name: measured(scene, method(scene)) for scene in scenes} for name, method in methods.items()}
    rows: dict[str, Any] = {}
    for scene in [*(scene.name for scene in scenes), "all"]:
        for name, results in found.items():
            hota, identity, clear = combined(list(results.values())) if scene == "all" else results[scene]
            row = {
                "HOTA": 100 * float(np.mean(hota["HOTA"])),
                "AssA": 100 * float(np.mean(hota["AssA"])),
                "DetA": 100 * float(np.mean(hota["DetA"])),
                "IDF1": 100 * float(identity["IDF1"]),
                "switches": int(clear["IDSW"]),
                "fragments": int(clear["Frag"]),
            }
            rows.setdefault(scene, {})[name] = {key: round(value, 2) for key, value in row.items()}
            print(
                f"| {scene} | {name} | " + " | ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()) + " |",
                flush=True,
            )
    return rows


# ---- scenes -----------------------------------------------------------------------------------------------------------


def load_scenes(data: Path, folder: Path, seeds: Sequence[int], pipeline: Pipeline) -> list[Scene]:
    """Load all stagings of all seeds, and for each seed a cut to the next one's crossing."""
    clips = {(staging, seed): _clip(data, folder, staging, seed, pipeline) for staging in STAGINGS for seed in seeds}
    cuts = [_cut(clips["crossing", seed], clips["crossing", after]) for seed, after in zip(seeds, (*seeds[1:], seeds[0]), strict=True)]
    return [*clips.values(), *cuts]


def _clip(data: Path, folder: Path, staging: str, seed: int, pipeline: Pipeline) -> Scene:
    where = folder / f"{staging}_{seed}"
    movie = where / "clip_0000.mp4"
    if not movie.with_suffix(".npz").exists():
        run_clips(data, where, 1, seed, settings=dataclasses.replace(CLIPS, staging=staging))
    source = open_source(movie, Settings().source)
    frames = list(source.frames())
    source.close()
    truth, ignored = _truth(read_labels(movie.with_suffix(".npz")), 100 * seed)
    detections = _detections(where / "detections.npz", frames, pipeline)
    return Scene(where.name, frames, CLIPS.fps, truth, ignored, detections)


def _cut(first: Scene, second: Scene) -> Scene:
    """One scene after the other, with different people."""
    before, after = _CUT_FRAMES
    pictures = [frame.rgb for frame in first.frames[before] + second.frames[after]]
    return Scene(
        first.name.replace("crossing", "cut"),
        [Frame(i, i / first.fps, rgb) for i, rgb in enumerate(pictures)],
        first.fps,
        first.truth[before] + second.truth[after],
        first.ignored[before] + second.ignored[after],
        first.detections[before] + second.detections[after],
    )


def _truth(labels: ClipLabels, offset: int) -> tuple[People, list[Array]]:
    truth: People = []
    ignored = []
    there = np.isfinite(labels.box_xyxy_px).all(-1)
    counts = there & (labels.visible_fraction >= _LEAST_SEEN) & (labels.truncated_fraction <= 1 - _LEAST_SEEN)
    for boxes, present, counting in zip(labels.box_xyxy_px.astype(np.float64), there, counts, strict=True):
        truth.append(((offset + np.flatnonzero(counting)).tolist(), boxes[counting]))
        ignored.append(boxes[present & ~counting])
    return truth, ignored


def _detections(path: Path, frames: list[Frame], pipeline: Pipeline) -> list[Detections]:
    if not path.exists():
        found = [pipeline.components.detector.detect([frame])[0] for frame in frames]
        counts = np.array([len(one) for one in found])
        columns = {name: np.concatenate([getattr(one, name) for one in found]) for name in ("boxes_xyxy_px", "scores", "keypoints_px")}
        np.savez(path, counts=counts, **columns)
    with np.load(path) as stored:
        ends = np.cumsum(stored["counts"])[:-1]
        parts = [np.split(stored[name], ends) for name in ("boxes_xyxy_px", "scores", "keypoints_px")]
    return [Detections(*columns) for columns in zip(*parts, strict=True)]


# ---- trackers ---------------------------------------------------------------------------------------------------------


def ours(scene: Scene, pipeline: Pipeline) -> People:
    """Run this tracker as in the pipeline. The network runs only on frames whose presence the tracker uses, with the same result."""
    components, intrinsics = pipeline.components, Intrinsics.assumed(scene.info.width, scene.info.height)
    tracker, cuts = build_tracker(pipeline.settings), build_scene_cuts(pipeline.settings)
    out: People = []
    before: tuple[Frame, Tracks] | None = None
    for frame, detections in zip(scene.frames, scene.detections, strict=True):
        if cuts is not None and cuts.begins_with(frame.rgb):
            tracker.end_scene()
        if before is not None and tracker.needs_confirmation(detections):
            picture, people = before
            if components.keypoints is not None:
                people = components.keypoints.refine(picture, people, intrinsics)
            batch = components.cropper.crop(picture, people, intrinsics)
            seen = components.estimator.estimate(batch)
            landmarks = seen.landmarks_px[:, : len(KEYPOINT_NAMES)]
            places_px = image_from_rolled(landmarks[..., :2], intrinsics, batch.roll_rad)
            landmarks_px = np.concatenate([places_px, landmarks[..., 2:]], -1).astype(np.float32)
            tracker.confirm(people.track_id, landmarks_px, seen.presence)
        tracks = tracker.update(detections, frame.time_s, frame.rgb)
        out.append((tracks.track_id.tolist(), tracks.boxes_xyxy_px.astype(np.float64)))
        before = frame, tracks
    return out


def ours_alone(scene: Scene, settings: Settings) -> People:
    tracker, cuts = build_tracker(settings), build_scene_cuts(settings)
    out: People = []
    for frame, detections in zip(scene.frames, scene.detections, strict=True):
        if cuts is not None and cuts.begins_with(frame.rgb):
            tracker.end_scene()
        tracks = tracker.update(detections, frame.time_s, frame.rgb)
        out.append((tracks.track_id.tolist(), tracks.boxes_xyxy_px.astype(np.float64)))
    return out


def bytetrack(scene: Scene, options: dict[str, float]) -> People:
    tracker = ByteTrackTracker(frame_rate=scene.fps, **options)
    out: People = []
    for detections in scene.detections:
        found = tracker.update(
            sv.Detections(xyxy=detections.boxes_xyxy_px.astype(np.float64), confidence=detections.scores.astype(np.float64))
        )
        known = found.tracker_id >= 0
        out.append((found.tracker_id[known].tolist(), found.xyxy[known].astype(np.float64)))
    return out


def search(scenes: list[Scene]) -> dict[str, float]:
    """Find ByteTrack's best thresholds for this detector: the highest HOTA over all scenes together."""
    best: tuple[float, dict[str, float]] = (-1.0, {})
    for values in itertools.product(*_SEARCH.values()):
        options = dict(zip(_SEARCH, values, strict=True))
        options["track_activation_threshold"] = options["high_conf_det_threshold"]
        hotas = {scene.name: _METRICS[0].eval_sequence(comparison(scene, bytetrack(scene, options))) for scene in scenes}
        hota = float(np.mean(_METRICS[0].combine_sequences(hotas)["HOTA"]))
        if hota > best[0]:
            best = hota, options
    return best[1]


# ---- measures ---------------------------------------------------------------------------------------------------------

Measures = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
_METRICS = (HOTA(), Identity({"PRINT_CONFIG": False}), CLEAR({"PRINT_CONFIG": False}))


def measured(scene: Scene, found: People) -> Measures:
    """Compute TrackEval's HOTA, Identity and CLEAR."""
    data = comparison(scene, found)
    return tuple(metric.eval_sequence(data) for metric in _METRICS)  # type: ignore[return-value]


def comparison(scene: Scene, found: People) -> dict[str, Any]:
    """Return the found and the true people in TrackEval's format."""
    limits = np.array([scene.info.width, scene.info.height, scene.info.width, scene.info.height]) - 1.0
    truth_ids, found_ids, similarities = [], [], []
    for (who, boxes), ignored, (claimed, claimed_boxes) in zip(scene.truth, scene.ignored, found, strict=True):
        claimed_boxes = np.clip(claimed_boxes.reshape(-1, 4), 0, limits)
        kept = ~_on_ignored(claimed_boxes, boxes, ignored)
        truth_ids.append(who)
        found_ids.append(np.array(claimed, np.int64)[kept].tolist())
        similarities.append(box_iou(boxes, claimed_boxes[kept]))
    return _numbered(truth_ids, found_ids, similarities)


def combined(results: list[Measures]) -> Measures:
    return tuple(metric.combine_sequences({str(i): one[k] for i, one in enumerate(results)}) for k, metric in enumerate(_METRICS))  # type: ignore[return-value]


def _on_ignored(claimed: Array, boxes: Array, ignored: Array) -> NDArray[np.bool_]:
    """Which boxes belong to people who do not count: those matched with one of them in the best assignment to all people."""
    everybody = np.concatenate([boxes.reshape(-1, 4), ignored.reshape(-1, 4)])
    overlap = box_iou(everybody, claimed)
    rows, columns = linear_sum_assignment(np.where(overlap >= _IGNORED_OVERLAP, overlap, 0), maximize=True)
    on_ignored = np.zeros(len(claimed), np.bool_)
    for row, column in zip(rows, columns, strict=True):
        on_ignored[column] = row >= len(boxes) and overlap[row, column] >= _IGNORED_OVERLAP
    return on_ignored


def _numbered(truth: list[list[int]], found: list[list[int]], similarities: list[Array]) -> dict[str, Any]:
    """Convert to the input of TrackEval's metrics: identities counted from 0."""
    number = lambda frames: {name: i for i, name in enumerate(sorted({name for frame in frames for name in frame}))}
    of_truth, of_found = number(truth), number(found)
    return {
        "num_timesteps": len(truth),
        "num_gt_ids": len(of_truth),
        "num_tracker_ids": len(of_found),
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": [np.array([of_truth[name] for name in frame], np.int64) for frame in truth],
        "tracker_ids": [np.array([of_found[name] for name in frame], np.int64) for frame in found],
        "similarity_scores": similarities,
    }


if __name__ == "__main__":
    main()
