"""From the network's crop cameras to the full-image camera (arXiv 2402.02074, section 3.3)."""

from __future__ import annotations

import numpy as np

from mchmr_stream.body.kinematics import rest_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Float, Frame, Tracks
from mchmr_stream.geometry.camera import Intrinsics, full_from_local, roll_matrix
from mchmr_stream.geometry.crops import image_from_rolled


def place_in_image(frame: Frame, tracks: Tracks, batch: CropBatch, estimates: CropEstimates, body: BodyModel) -> Bodies:
    """Place the network's bodies in the full-image camera.

    Each view gives a translation. They are averaged as bearing and log depth, whose errors do not depend on the distance. Then the roll of
    the camera is undone: it rotates the pelvis, not `transl`, because the root rotates about the pelvis.

    Args:
        frame: The picture.
        tracks: Its n people.
        batch: Their crops.
        estimates: The network's result for the crops.
        body: The body model of the estimates.

    Returns:
        n bodies in camera axes.
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


def landmarks_in_image(estimates: CropEstimates, batch: CropBatch, intrinsics: Intrinsics) -> Float:
    """Map the network's landmarks to the picture.

    Args:
        estimates: The network's result for n people.
        batch: Their crops.
        intrinsics: Camera of the picture.

    Returns:
        (n, 27, 3): x, y in picture pixels, and visibility.
    """
    seen_px = image_from_rolled(estimates.landmarks_px[..., :2], intrinsics, batch.roll_rad)
    return np.concatenate([seen_px, estimates.landmarks_px[..., 2:]], -1).astype(np.float32)
