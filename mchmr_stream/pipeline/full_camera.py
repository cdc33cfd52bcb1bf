"""From the network's local cameras to bodies in the full picture's camera (arXiv 2402.02074, section 3.3)."""

from __future__ import annotations

import numpy as np

from mchmr_stream.body.kinematics import rest_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Frame, Tracks
from mchmr_stream.geometry.camera import full_from_local, roll_matrix


def place_in_image(frame: Frame, tracks: Tracks, batch: CropBatch, estimates: CropEstimates, body: BodyModel) -> Bodies:
    """One body per person in camera axes.

    Every view gives a translation; they are averaged as bearing and log depth, in which their errors are alike at every
    distance. Then the rolled camera is turned back: the root turns about the pelvis, so the pelvis, not `transl`, is
    what the rotation moves.
    """
    per_view = full_from_local(estimates.views_cam, batch.views_px, batch.focal_px)
    depth = np.exp(np.log(np.maximum(per_view[..., 2], 1e-3)).mean(1, keepdims=True))
    bearing = (per_view[..., :2] / np.maximum(per_view[..., 2:], 1e-3)).mean(1)
    rolled_transl = np.concatenate([bearing * depth, depth], -1)
    pelvis = rest_joints(body, estimates.betas)[:, 0]
    camera_from_rolled = roll_matrix(batch.roll_rad)
    transl = np.einsum("nij,nj->ni", camera_from_rolled, pelvis + rolled_transl) - pelvis
    return Bodies(
        frame=frame.index,
        time_s=frame.time_s,
        track_id=tracks.track_id,
        boxes_xyxy_px=tracks.boxes_xyxy_px,
        scores=tracks.scores,
        keypoints_px=tracks.keypoints_px,
        global_orient=(camera_from_rolled @ estimates.rotations[:, 0]).astype(np.float32),
        body_pose=estimates.rotations[:, 1:],
        betas=estimates.betas,
        transl=transl.astype(np.float32),
        views_cam=estimates.views_cam,
        confidence=estimates.confidence,
        interpolated=np.zeros(len(tracks), np.bool_),
        identity_doubt=tracks.identity_doubt,
    )
