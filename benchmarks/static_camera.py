"""Measure the accuracy of world coordinates: `--static-camera` on rendered clips with a known world.

    mchmr synth --clips -n 6 --camera still --seconds 5 --fps 30 --seed 5 --data DATA -o CLIPS python benchmarks/static_camera.py CLIPS
    --out OUT [--json benchmarks/results/static_camera.json]

Measured on the true bodies (the error of the estimate itself), and on the output of `mchmr video` for the rendered pictures, with the true
focal length (stored in OUT, computed if missing). Slides are in mm per frame of a standing sole (heels and balls of the skin): "own" in
frames in which the estimate has a contact, "true" in those in which the true soles do; the true ones also slide slightly, because the
clips are derived from captured rotations. Root errors are mean distances of the pelvis from the true path, after the best rigid motion
and the best similarity.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.motion.motion import Motion, Track, load
from mchmr_stream.runtime.versions import cpu_name, machine, versions
from mchmr_stream.synthesis.clip_files import ClipLabels, read_labels
from mchmr_stream.world.foot_chains import sole_vertices
from mchmr_stream.world.world_motion import ground

Array = NDArray[np.float64]
_STANDS_M_S, _STANDS_HEIGHT_M = 0.2, 0.1
"""A true sole that is slower and lower than this stands. Shoes keep the skin's soles some centimetres over the floor."""
_SAME_PERSON_PX = 0.25
"""Of the box's longer side: a track is the person whose joints are nearer than this on average."""
_FEWEST = 20
COLUMNS = (
    "slide own before", "slide own after", "slide true before", "slide true after", "true soles' slide", "contact precision",
    "contact recall", "up deg", "floor mm", "root rigid before", "root rigid after", "root similarity before", "root similarity after",
    "way m", "moved px",
)  # fmt: skip
TABLE = {
    "slide of standing soles (own contacts), mm/frame": ("slide own before", "slide own after"),
    "slide of standing soles (true contacts), mm/frame": ("slide true before", "slide true after"),
    "root error, rigid, mm": ("root rigid before", "root rigid after"),
    "root error, similarity, mm": ("root similarity before", "root similarity after"),
    "error of up, degrees": (None, "up deg"),
    "floor under the people, mm": (None, "floor mm"),
    "joints moved in the picture (median), px": (None, "moved px"),
    "contacts, precision": (None, "contact precision"),
    "contacts, recall": (None, "contact recall"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of `mchmr synth --clips --camera still`")
    parser.add_argument("--out", type=Path, required=True, help="folder of what `mchmr video` makes of them, made when missing")
    parser.add_argument("--json", type=Path, help="write everything there")
    args = parser.parse_args()
    body = load_body("free")
    labels = {path.stem: read_labels(path) for path in sorted(args.clips.glob("clip_*.npz"))}
    results: dict[str, list[dict[str, float | str]]] = {}
    sources: dict[str, Callable[[str], Motion]] = {
        "true bodies": lambda name: true_motion(labels[name], body),
        "mchmr video": lambda name: estimated(args.clips / f"{name}.mp4", labels[name], args.out),
    }
    print(f"{cpu_name()}, Python {platform.python_version()}; {len(labels)} clips")
    for source, motion_of in sources.items():
        rows = results[source] = []
        for name, label in labels.items():
            try:
                rows += [{"clip": name, **row} for row in measured(motion_of(name), label, body)]
            except InputError as error:
                print(f"{source}, {name}: {error}")
    print(f"\n| mean over people | {' | '.join(f'{source} ({len(rows)}), before | after' for source, rows in results.items())} |")
    print(f"|---|{'---|' * 2 * len(results)}")
    for line, (before, after) in TABLE.items():
        cells = [cell for rows in results.values() for cell in (mean(rows, before), mean(rows, after))]
        print(f"| {line} | {' | '.join(cells)} |")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"date": time.strftime("%Y-%m-%d"), "machine": machine() | versions(), "columns": COLUMNS, "people": results}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


def mean(rows: Sequence[dict[str, float | str]], name: str | None) -> str:
    values = [float(row[name]) for row in rows if name is not None]
    return f"{np.nanmean(values):.2f}" if values else ""


def true_motion(labels: ClipLabels, body: BodyModel) -> Motion:
    """The clip's people while they are in the picture, as a file without errors."""
    tracks = {}
    for person in range(len(labels.identity)):
        rows = np.flatnonzero(np.isfinite(labels.box_xyxy_px[:, person]).all(1))
        count = len(rows)
        if count < 2:
            continue
        zeros = lambda *shape, n=count: np.zeros((n, *shape), np.float32)
        at = lambda values, rows=rows, person=person: values[rows, person]
        rotations = at(labels.rotations)
        tracks[person + 1] = Track(
            track_id=person + 1, frame=rows, time_s=labels.time_s[rows], box_xyxy_px=at(labels.box_xyxy_px), score=zeros() + 1,
            global_orient=rotations[:, 0], body_pose=rotations[:, 1:], betas=np.tile(labels.betas[person], (count, 1)),
            transl=at(labels.transl), joints_m=at(labels.joints_m), joints_px=at(labels.joints_px), keypoints_px=zeros(17, 3),
            confidence=zeros() + 1, views_cam=zeros(1, 3), interpolated=np.zeros(count, np.bool_),
            betas_frame=zeros(10), transl_mean_body=zeros(3) + np.nan,
        )  # fmt: skip
    width, height = (int(length) for length in labels.size_wh)
    return Motion(
        float(labels.fps), width, height, labels.K[0], np.arange(len(labels.time_s)), labels.time_s, tracks, JOINT_NAMES, KEYPOINT_NAMES,
        body.name, body.sha256, "none", "00", {"body": {"model": "free"}},
    )  # fmt: skip


def estimated(movie: Path, labels: ClipLabels, folder: Path) -> Motion:
    path = folder / f"{movie.stem}.npz"
    if not path.exists():
        settings = load_settings(None, ["output.overlay=false", f"camera.focal_px={labels.K[0, 0, 0]}"])
        process_video(movie, folder, settings, overwrite=True)
    return load(path)


def measured(motion: Motion, labels: ClipLabels, body: BodyModel) -> list[dict[str, float | str]]:
    """Return a row per person who is tracked for long enough."""
    found = ground(motion, body)
    assert found.world is not None
    pose, truth = found.world.world_from_camera, labels.world_from_camera[0]
    up_deg = float(np.degrees(np.arccos(np.clip(pose[1, :3] @ truth[1, :3], -1, 1))))
    rows = []
    for track in found.tracks.values():
        person = who(track, labels)
        if person is None or len(track) < _FEWEST:
            continue
        frames = track.frame
        turn = lambda points, matrix=truth: points @ matrix[:3, :3].T + matrix[:3, 3]
        true_soles_camera = soles_m(body, labels.rotations[frames, person], labels.betas[person], labels.transl[frames, person])
        true_soles = turn(true_soles_camera)
        true_stands = stands(true_soles, track.time_s)
        world = track.world
        assert world is not None
        rotations = np.concatenate([world.world_global_orient[:, None], world.world_body_pose], 1)
        after = soles_m(body, rotations, world.world_betas[0], world.world_transl)
        rotations = track.rotations
        before = turn(soles_m(body, rotations, track.betas, track.transl), pose)
        true_path, path = turn(labels.joints_m[frames, person, 0].astype(np.float64)), world.world_joints_m[:, 0].astype(np.float64)
        raw_path = track.joints_m[:, 0].astype(np.float64)
        own = world.foot_contact
        foot = lambda flags: flags.reshape(-1, 2, 2).any(2)
        hits = float((foot(own) & foot(true_stands)).sum())
        floor = turn(true_soles_camera[true_stands], pose)[:, 1] - true_soles[true_stands][:, 1]
        seen = (world.world_joints_m - pose[:3, 3]) @ pose[:3, :3] @ motion.K.T
        values = (
            slide_mm(before, own), slide_mm(after, own), slide_mm(before, true_stands), slide_mm(after, true_stands),
            slide_mm(true_soles, true_stands), hits / max(foot(own).sum(), 1), hits / max(foot(true_stands).sum(), 1),
            up_deg, float(np.abs(1000 * np.median(floor))) if len(floor) else np.nan,
            root_error_mm(raw_path, true_path, scaled=False), root_error_mm(path, true_path, scaled=False),
            root_error_mm(raw_path, true_path, scaled=True), root_error_mm(path, true_path, scaled=True),
            float(np.linalg.norm(np.diff(true_path, axis=0), axis=1).sum()),
            float(np.median(np.linalg.norm(seen[..., :2] / seen[..., 2:] - track.joints_px, axis=-1))),
        )  # fmt: skip
        rows.append(
            {"person": person, "motion": str(labels.pose_clip[person])} | dict(zip(COLUMNS, np.round(values, 3).tolist(), strict=True))
        )
    return rows


def who(track: Track, labels: ClipLabels) -> int | None:
    """Return the index of the clip's person of a track; None without a match."""
    off = np.linalg.norm(labels.joints_px[track.frame] - track.joints_px[:, None], axis=-1).mean((0, 2))
    side = float((track.box_xyxy_px[:, 2:] - track.box_xyxy_px[:, :2]).max(1).mean())
    return int(off.argmin()) if off.min() < _SAME_PERSON_PX * side else None


def soles_m(body: BodyModel, rotations: Array, betas: Array, transl: Array) -> Array:
    """Compute (F, 4, 3) heels and balls of the skin."""
    tensor = lambda values: torch.from_numpy(np.asarray(values, np.float32))
    only = sole_vertices(body)
    wanted = np.concatenate(only)
    small = dataclasses.replace(
        body, v_template=body.v_template[wanted], shapedirs=body.shapedirs[wanted], weights=body.weights[wanted], posedirs=None
    )
    shape = tensor(np.broadcast_to(betas, (len(rotations), 10)).copy())
    vertices = skin(small, tensor(rotations), shape, tensor(transl))[0].double().numpy()
    parts = np.split(vertices, np.cumsum([len(one) for one in only])[:-1], axis=1)
    return np.stack([part.mean(1) for part in parts], 1)


def stands(soles: Array, times_s: Array) -> NDArray[np.bool_]:
    """Return (F, 4), which of the true soles in the world stand."""
    speed = np.linalg.norm(np.gradient(soles, times_s, axis=0), axis=-1)
    return (speed < _STANDS_M_S) & (soles[..., 1] < _STANDS_HEIGHT_M)


def slide_mm(soles: Array, standing: NDArray[np.bool_]) -> float:
    both = standing[1:] & standing[:-1]
    slides = np.linalg.norm(np.diff(soles[..., [0, 2]], axis=0), axis=-1)
    return 1000 * float(slides[both].mean()) if both.any() else float("nan")


def root_error_mm(path: Array, truth: Array, *, scaled: bool) -> float:
    """Mean distance after the best rigid motion, or similarity (Umeyama 1991)."""
    a, b = path - path.mean(0), truth - truth.mean(0)
    u, values, vt = np.linalg.svd(b.T @ a)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = float((values * signs).sum() / np.square(a).sum()) if scaled else 1.0
    return 1000 * float(np.linalg.norm(scale * a @ (u * signs @ vt).T - b, axis=1).mean())


if __name__ == "__main__":
    main()
