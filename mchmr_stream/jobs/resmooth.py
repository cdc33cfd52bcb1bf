"""A finished STEM.npz smoothed again, without running the network: the whole track is known now, so each person gets one shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from mchmr_stream.body.model import BodyModel, forward_kinematics
from mchmr_stream.body.shape import robust_shape, transl_to_look_alike
from mchmr_stream.config import Settings
from mchmr_stream.datatypes import Bodies
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.motion import BODIES_FIELDS, Motion, Track
from mchmr_stream.pipeline.factory import build_smoother


def smooth_again(motion: Motion, settings: Settings, body: BodyModel) -> Motion:
    """The same people in the same frames, smoothed with `settings.smoother`; gaps are filled as it says.

    A world that the file has is left out: it does not fit any more. What the run that wrote the file smoothed is smoothed a second time:
    for a free choice write it with `smoother.kind=none`.
    Raises UsageError when `body` is not the one that the file was made with.
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
    """Every person with the robust mean of the shapes seen in all rows with picture evidence, standing where they look as before."""
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
    """The table frame by frame, also frames without people."""
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
    rows = [(bodies, row) for bodies in frames for row in range(len(bodies))]
    identities = list(dict.fromkeys(int(bodies.track_id[row]) for bodies, row in rows))
    camera = Intrinsics.from_matrix(motion.K)
    tracks = {}
    for identity in identities:
        own = [(bodies, row) for bodies, row in rows if bodies.track_id[row] == identity]
        columns = {name: np.stack([getattr(bodies, field)[row] for bodies, row in own]) for name, field in BODIES_FIELDS.items()}
        turned = np.concatenate([columns["global_orient"][:, None], columns["body_pose"]], 1)
        rotations, mean = torch.from_numpy(turned), np.zeros_like(columns["betas"])
        joints_m = forward_kinematics(body, rotations, torch.from_numpy(columns["betas"]), torch.from_numpy(columns["transl"]))[0].numpy()
        tracks[identity] = Track(
            track_id=identity,
            frame=np.array([bodies.frame for bodies, _ in own], np.int64),
            time_s=np.array([bodies.time_s for bodies, _ in own], np.float64),
            joints_m=joints_m,
            joints_px=project(joints_m, camera).astype(np.float32),
            transl_mean_body=transl_to_look_alike(body, turned, columns["betas"], columns["transl"], mean).astype(np.float32),
            world=None,
            **columns,
        )
    return tracks
