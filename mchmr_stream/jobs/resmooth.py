"""Smooth a finished STEM.npz again, without running the network. Each person gets one shape, because the whole track is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from mchmr_stream.body.model import BodyModel, forward_kinematics
from mchmr_stream.body.shape import robust_shape, transl_to_look_alike, transl_to_mean_shape
from mchmr_stream.config import Settings
from mchmr_stream.datatypes import Bodies
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.motion import BODIES_FIELDS, Motion, Track
from mchmr_stream.pipeline.factory import build_smoother


def smooth_again(motion: Motion, settings: Settings, body: BodyModel) -> Motion:
    """Smooth all tracks with `settings.smoother`, and fill gaps as it says.

    World coordinates are dropped, because they no longer match. Rows that the run smoothed are smoothed a second time; to avoid that, write
    the file with `smoother.kind=none`.

    Args:
        motion: The content of the file.
        settings: Only those of the smoother and of the crops are used.
        body: The body model of the file.

    Returns:
        The same people in the same frames.

    Raises:
        UsageError: `body` is not the body model of the file.
    """
    if body.sha256 != motion.body_model_sha256:
        raise UsageError(
            f"the file was made with the body model {motion.body_model}, got {body.name}; give the same with --set body.model=FILE"
        )
    smoother = build_smoother(settings, (motion.width, motion.height), body)
    finished: list[Bodies] = []
    for bodies in frames_of(with_one_shape(motion, body)):
        finished += smoother.push(bodies)
    finished += smoother.flush()
    changed = dict(motion.settings) | {"smoother": settings.smoother.model_dump(mode="json")}
    return dataclasses.replace(motion, tracks=_tracks(finished, motion, body), settings=changed, world=None)


def with_one_shape(motion: Motion, body: BodyModel) -> Motion:
    """Give each person the robust mean of the shapes of all rows that are based on the picture, with look-alike translations."""
    tracks = {}
    for identity, track in motion.tracks.items():
        seen = ~track.interpolated & np.isfinite(track.betas_frame).all(-1)
        looks, seen = (track.betas_frame, seen) if seen.any() else (track.betas, np.ones(len(track), np.bool_))
        shape = robust_shape(looks[seen].astype(np.float64), np.clip(track.confidence[seen].astype(np.float64), 0.05, 1))
        betas = np.tile(shape.astype(np.float32), (len(track), 1))
        transl = transl_to_look_alike(body, track.rotations, track.betas, track.transl, betas).astype(np.float32)
        tracks[identity] = dataclasses.replace(track, betas=betas, transl=transl)
    return dataclasses.replace(motion, tracks=tracks)


def frames_of(motion: Motion) -> Iterator[Bodies]:
    """Yield the rows of each frame, also of frames without people."""
    tracks = list(motion.tracks.values())
    views = tracks[0].views_cam.shape[1] if tracks else 1
    frame = np.concatenate([np.zeros(0, np.int64), *(track.frame for track in tracks)])
    order = np.argsort(frame, kind="stable")
    owner = np.concatenate([np.zeros(0, np.int64), *(np.full(len(track), track.track_id) for track in tracks)])[order]
    columns = {name: np.concatenate([getattr(track, name) for track in tracks])[order] for name in BODIES_FIELDS} if tracks else {}
    bounds = np.searchsorted(frame[order], np.stack([motion.frames, motion.frames + 1]))
    for index, time_s, start, end in zip(motion.frames.tolist(), motion.frames_time_s.tolist(), *bounds.tolist(), strict=True):
        if start == end:
            yield Bodies.empty(index, time_s, views)
            continue
        rows = {BODIES_FIELDS[name]: values[start:end] for name, values in columns.items()}
        yield Bodies(frame=index, time_s=time_s, track_id=owner[start:end], **rows)


def _tracks(frames: list[Bodies], motion: Motion, body: BodyModel) -> dict[int, Track]:
    rows: dict[int, list[tuple[Bodies, int]]] = {}
    for bodies in frames:
        for row, identity in enumerate(bodies.track_id.tolist()):
            rows.setdefault(identity, []).append((bodies, row))
    camera = Intrinsics.from_matrix(motion.K)
    tracks = {}
    for identity, own in rows.items():
        columns = {name: np.stack([getattr(bodies, field)[row] for bodies, row in own]) for name, field in BODIES_FIELDS.items()}
        rotations = np.concatenate([columns["global_orient"][:, None], columns["body_pose"]], 1)
        tensors = [torch.from_numpy(values) for values in (rotations, columns["betas"], columns["transl"])]
        joints_m = forward_kinematics(body, *tensors)[0].numpy()
        tracks[identity] = Track(
            track_id=identity,
            frame=np.array([bodies.frame for bodies, _ in own], np.int64),
            time_s=np.array([bodies.time_s for bodies, _ in own], np.float64),
            joints_m=joints_m,
            joints_px=project(joints_m, camera).astype(np.float32),
            transl_mean_body=transl_to_mean_shape(body, rotations, columns["betas"], columns["transl"]).astype(np.float32),
            world=None,
            **columns,
        )
    return tracks
