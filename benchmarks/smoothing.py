"""Compare this smoother with One-Euro, Savitzky-Golay and none, at 60, 30 and 12 frames per second: smoothness and accuracy.

    python benchmarks/smoothing.py VALIDATION_DIR --raw DIR [--out benchmarks/results/smoothing.json] python benchmarks/smoothing.py
    CLIPS_DIR --synthetic DATA --raw DIR [--out ...]

`VALIDATION_DIR` is as for `mchmr evaluate real3d`. With `--synthetic`, `CLIPS_DIR` holds rendered clips with exact ground truth
(`SYNTHETIC`), made from `DATA`, the folder of `mchmr synth`, if missing: settings are chosen there and only confirmed on the real views.
`DIR` stores the unsmoothed bodies of each camera (CAM.npz, known camera); if they are missing the network runs once. Frames are dropped
for lower rates; the networks processed all frames. The acceleration error is in mm per frame squared *of that rate*; lag is the time
shift, of the wrist that moves fastest, that fits the unsmoothed track best.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics
from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import Bodies
from mchmr_stream.evaluation.real_predictions import known_camera
from mchmr_stream.evaluation.real_views import RealView, load_views
from mchmr_stream.geometry.rotation import exp_so3, log_so3, matrix_from_sixd, sixd_from_matrix
from mchmr_stream.jobs.resmooth import frames_of
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, pose_errors
from mchmr_stream.motion.motion import Motion, load
from mchmr_stream.pipeline.factory import build_smoother
from mchmr_stream.runtime.versions import cpu_name, versions
from mchmr_stream.synthesis.clip_files import read_labels, run_clips
from mchmr_stream.synthesis.clips import ClipSettings

Array = NDArray[np.float64]
RATES = {60: 1, 30: 2, 12: 5}
SYNTHETIC = ClipSettings(
    seconds=3, fps=60, long_side_px=(640, 640), aspects=(4 / 3,), camera="still", people_probability=(1.0,)
)  # fmt: skip
WRISTS = (4, 5)
"""Indices among the twelve limbs."""
_MIN_CUTOFF_HZ, _BETA = 1.0, 0.5
_SAVGOL_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--raw", type=Path, required=True, help="folder of unsmoothed bodies, made when missing")
    parser.add_argument("--synthetic", type=Path, metavar="DATA", help="the clips are rendered ones; DATA is what `mchmr synth` takes")
    parser.add_argument("--out", type=Path, help="JSON with every figure; what it holds of other clips stays")
    args = parser.parse_args()
    views = load_views(args.data) if args.synthetic is None else rendered_views(args.data, args.synthetic)
    motions = [unsmoothed(view, args.raw) for view in views]
    print(f"{cpu_name()}, Python {platform.python_version()}; {len(views)} views, {motions[0].fps:g} fps")
    table: dict[str, dict[str, dict[str, float]]] = {}
    print("| fps | method | MPJPE mm | PA-MPJPE mm | accel mm/frame^2 | lag ms |\n|---|---|---|---|---|---|")
    for rate, every in RATES.items():
        for name, method in METHODS.items():
            rows = [measured(view, motion, every, method) for view, motion in zip(views, motions, strict=True)]
            row = dict(zip(("mpjpe_mm", "pa_mpjpe_mm", "accel_mm_frame2"), np.mean([row[:3] for row in rows], 0).tolist(), strict=True))
            row["lag_ms"] = 1000 * max(one[3] for one in rows)
            table.setdefault(str(rate), {})[name] = {key: round(value, 3) for key, value in row.items()}
            print(
                f"| {rate} | {name} | {' | '.join(f'{value:.2f}' for value in list(row.values())[:3])} | {row['lag_ms']:.0f} |", flush=True
            )
    if args.out is not None:
        keep(args.out, "validation" if args.synthetic is None else "synthetic", {"views": [view.name for view in views], "table": table})


def keep(path: Path, part: str, results: dict[str, Any]) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    packages = ("mchmr-stream", "torch", "numpy", "scipy", "filterpy")
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": versions(packages),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, part: {**about, **results}}, indent=1) + "\n")


def rendered_views(folder: Path, data: Path) -> list[RealView]:
    """A single person in each clip; the ground truth is of the network's body model."""
    if not (folder / "clip_0003.mp4").exists():
        run_clips(data, folder, 4, 0, settings=SYNTHETIC)
    body, views = load_body("free"), []
    points = coco_points(body)
    for movie in sorted(folder.glob("clip_*.mp4")):
        labels = read_labels(movie.with_suffix(".npz"))
        joints, rotations = labels.joints_m[:, 0], labels.rotations[:, 0]
        limbs_m = joints[:, list(LIMBS_IN_SMPL)] if points is None else points.place(joints, rotations)
        views.append(RealView(movie.stem, movie, np.asarray(limbs_m, np.float64), labels.K[0], np.zeros(4)))
    return views


def unsmoothed(view: RealView, folder: Path) -> Motion:
    path = folder / f"{view.name}.npz"
    if not path.exists():
        with known_camera(view) as camera:
            settings = load_settings(None, ["smoother.kind=none", "output.overlay=false", camera])
            process_video(view.video, folder, settings, overwrite=True)
    return load(path)


def measured(view: RealView, motion: Motion, every: int, method: Callable[[list[Bodies]], list[Bodies]]) -> tuple[float, ...]:
    """Return MPJPE, PA-MPJPE, acceleration error, and lag in seconds."""
    frames = [main_person(bodies) for bodies in frames_of(motion) if bodies.frame < len(view.limbs_m)][::every]
    frames = [bodies for bodies in frames if len(bodies)]
    numbers = [bodies.frame for bodies in frames]
    raw, smooth = limbs(frames), limbs([main_person(bodies) for bodies in method(frames)])
    errors = pose_errors(smooth, view.limbs_m[numbers])
    return errors.mpjpe, errors.pa_mpjpe, errors.acceleration, lag_s(raw, smooth, np.array([bodies.time_s for bodies in frames]))


def lag_s(raw: Array, smooth: Array, times_s: Array) -> float:
    """Time shift of `smooth` that fits `raw` best: of the wrist that moves fastest, relative to its shoulder."""
    tracks = [(each[:, wrist] - each[:, wrist - 4]) for wrist in WRISTS for each in (raw, smooth)]
    speeds = [np.quantile(np.linalg.norm(np.diff(one, axis=0), axis=-1), 0.9) for one in tracks[::2]]
    fastest = int(np.argmax(speeds))
    before, after = tracks[2 * fastest], tracks[2 * fastest + 1]
    inside = (times_s > times_s[0] + 0.2) & (times_s < times_s[-1] - 0.2)
    shifts = np.arange(-0.1, 0.15, 0.002)
    read = lambda shift: np.stack([np.interp(times_s[inside] + shift, times_s, column) for column in after.T], -1)
    return float(shifts[np.argmin([np.square(read(shift) - before[inside]).sum() for shift in shifts])])


def main_person(bodies: Bodies) -> Bodies:
    """Select the row with the largest box."""
    if not len(bodies):
        return bodies
    sides = bodies.boxes_xyxy_px[:, 2:] - bodies.boxes_xyxy_px[:, :2]
    row = slice(int(np.argmax(sides.prod(-1))), int(np.argmax(sides.prod(-1))) + 1)
    names = [name for name in Bodies.__dataclass_fields__ if name not in ("frame", "time_s")]
    return Bodies(frame=bodies.frame, time_s=bodies.time_s, **{name: getattr(bodies, name)[row] for name in names})


def limbs(frames: list[Bodies]) -> Array:
    body = load_body("free")
    column = lambda name: torch.from_numpy(np.concatenate([getattr(bodies, name) for bodies in frames]))
    rotations = torch.cat([column("global_orient")[:, None], column("body_pose")], 1)
    joints = forward_kinematics(body, rotations, column("betas"), column("transl"))[0].numpy()
    points = coco_points(body)
    return joints[:, list(LIMBS_IN_SMPL)] if points is None else points.place(joints, rotations.numpy())


def smoother(*changes: str) -> Callable[[list[Bodies]], list[Bodies]]:
    def run(frames: list[Bodies]) -> list[Bodies]:
        made = build_smoother(load_settings(None, list(changes)))
        return [ready for one in frames for ready in made.push(one)] + made.flush()

    return run


def _with_rotations(frames: list[Bodies], rotations: Array) -> list[Bodies]:
    names = [name for name in Bodies.__dataclass_fields__ if name not in ("global_orient", "body_pose")]
    as_rows = rotations.astype(np.float32)[:, None]
    return [
        Bodies(**{name: getattr(one, name) for name in names}, global_orient=new[:, 0], body_pose=new[:, 1:])
        for one, new in zip(frames, as_rows, strict=True)
    ]


def _rotations(frames: list[Bodies]) -> Array:
    return np.stack([np.concatenate([one.global_orient, one.body_pose[0]]) for one in frames]).astype(np.float64)


def one_euro(frames: list[Bodies]) -> list[Bodies]:
    """Filter of Casiez et al., CHI 2012, along the geodesic of each joint."""
    raw = _rotations(frames)
    out, speed = [raw[0]], np.zeros((24, 1))
    share = lambda cutoff, dt: 1 - np.exp(-2 * np.pi * cutoff * dt)
    for i in range(1, len(raw)):
        dt = frames[i].time_s - frames[i - 1].time_s
        turned = np.linalg.norm(log_so3(np.swapaxes(raw[i - 1], -1, -2) @ raw[i]), axis=-1, keepdims=True) / dt
        speed = speed + share(1.0, dt) * (turned - speed)
        step = log_so3(np.swapaxes(out[-1], -1, -2) @ raw[i])
        out.append(out[-1] @ exp_so3(share(_MIN_CUTOFF_HZ + _BETA * speed, dt) * step))
    return _with_rotations(frames, np.stack(out))


def savitzky_golay(frames: list[Bodies]) -> list[Bodies]:
    """Filter of second order over a quarter of a second, on the 6D form."""
    dt = (frames[-1].time_s - frames[0].time_s) / (len(frames) - 1)
    length = max(3, 2 * round(_SAVGOL_S / dt / 2) + 1)
    sixd = savgol_filter(sixd_from_matrix(_rotations(frames)), length, min(2, length - 1), axis=0)
    return _with_rotations(frames, matrix_from_sixd(sixd))


METHODS: dict[str, Callable[[list[Bodies]], list[Bodies]]] = {
    "raw": lambda frames: frames,
    "ours, two-sided": smoother(),
    "ours, causal": smoother("smoother.kind=causal"),
    "ours, look-ahead 0.1 s": smoother("smoother.lookahead_s=0.1"),
    "One-Euro": one_euro,
    "Savitzky-Golay": savitzky_golay,
}

if __name__ == "__main__":
    main()
