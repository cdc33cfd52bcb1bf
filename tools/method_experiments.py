"""The computed experiments behind docs/method.md; tools/method_figures.py runs them and writes their results.

This module opens no files or pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.model import PARENTS, BodyModel, forward_kinematics
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import UsageError
from mchmr_stream.evaluation.real_observations import ObservedView
from mchmr_stream.geometry.camera import Intrinsics, full_from_local, local_from_full, turn
from mchmr_stream.metrics.joint_errors import LIMBS_IN_BLAZEPOSE
from mchmr_stream.network.fusion import CropAwareFusion, fourier
from mchmr_stream.network.mesh_network import MultiCropHead
from mchmr_stream.network.observations import Observations

Array = NDArray[np.floating]
Head = MultiCropHead

# --- the cameras -----------------------------------------------------------------------------------------------------


def camera_relations(people: int = 1000, views: int = 5, seed: int = 0) -> dict[str, float]:
    """Compute the largest deviation from each relation of section "Cameras" for random bodies, crops and focal lengths, in float64."""
    g = np.random.default_rng(seed)
    transl = np.stack([g.uniform(-3, 3, people), g.uniform(-2, 2, people), g.uniform(2, 20, people)], -1)
    focal = g.uniform(500, 3000, people)
    views_px = np.concatenate([g.uniform(-800, 800, (people, views, 2)), g.uniform(50, 900, (people, views, 1))], -1)
    cameras = local_from_full(transl, views_px, focal)
    s, t, centre, side = cameras[..., 0], cameras[..., 1:], views_px[..., :2], views_px[..., 2]

    # The weak-perspective projection of points at the pelvis' depth, crop by crop, against the full perspective one.
    points = g.normal(0, 0.5, (people, 1, 2))
    in_crops = centre + (side * s / 2)[..., None] * (points + t)
    in_picture = focal[:, None, None] * (points + transl[:, None, :2]) / transl[:, None, 2:]

    scaled = side * s
    expected = 2 * (centre[:, None, :] - centre[:, :, None]) / scaled[:, :, None, None]
    return {
        "pictures agree, px": float(np.abs(in_crops - in_picture).max()),
        "b_i s_i = b_j s_j, relative": float(np.abs(scaled[:, :, None] / scaled[:, None] - 1).max()),
        "t_i - t_j = 2 (c_j - c_i) / (b s), m": float(np.abs(t[:, :, None] - t[:, None] - expected).max()),
        "T from every crop, m": float(np.abs(full_from_local(cameras, views_px, focal) - transl[:, None]).max()),
    }


def disagreement_when_turned(angle_deg: float, *, about_own_centre: bool) -> float:
    """Compute the largest distance (m) between the translations of two of the paper's five crops when all are rotated by an angle.

    The person is 4 m away, one metre beside the axis, in a base box of 2.2 m. Rotated about the principal point the crops belong to a
    rolled camera; rotated each about its own centre they have no common camera.
    """
    angle, focal = math.radians(angle_deg), 1000.0
    transl = np.array([1.0, 0.0, 4.0])
    base = np.array([[focal * 1.0 / 4, 0.0, focal * 2.2 / 4]])
    views = layout("paper", 5).views_px(base).astype(np.float64)[0]
    pelvis_px = focal * transl[:2] / transl[2]
    about = views[:, :2] if about_own_centre else np.zeros((5, 2))
    centre = about + turn(views[:, :2] - about, -angle)
    seen = about + turn(pelvis_px - about, np.full(5, -angle))
    # The exact crop camera: the scale of the pelvis' depth, and the shift to the pelvis' position in the crop.
    s = 2 * focal / (views[:, 2] * transl[2])
    t = (seen - centre) * 2 / (views[:, 2:] * s[:, None])
    turned = np.concatenate([centre, views[:, 2:]], -1)
    full = full_from_local(np.concatenate([s[:, None], t], -1)[None], turned[None], np.array([focal]))[0]
    return float(np.linalg.norm(full[:, None] - full[None], axis=-1).max())


def weak_perspective_error(body: BodyModel, distances_m: Sequence[float]) -> dict[float, float]:
    """Compute the largest error of weak perspective of a body reaching forward, in percent of its height in px, by distance."""
    rotations = torch.eye(3).repeat(1, 24, 1, 1)
    rotations[0, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    for name, quarter in (("left_shoulder", -1.0), ("right_shoulder", 1.0)):
        rotations[0, JOINT_NAMES.index(name)] = torch.tensor([[0.0, 0, quarter], [0, 1, 0], [-quarter, 0, 0]])
    joints = forward_kinematics(body, rotations, torch.zeros(1, 10))[0][0].double().numpy()
    joints = joints - joints[0]
    height = np.ptp(joints[:, 1])
    errors = {}
    for distance in distances_m:
        full = joints[:, :2] / (joints[:, 2:] + distance)
        errors[distance] = float(np.linalg.norm(full - joints[:, :2] / distance, axis=-1).max() / (height / distance) * 100)
    return errors


def camera_spreads(views_cam: Array, views_px: Array, focal_px: Array) -> dict[str, float]:
    """Compute the spread of the V cameras of N people, as predicted and in the full-image camera; medians over people.

    views_cam, views_px (N, V, 3), focal_px (N,).
    """
    full = full_from_local(views_cam, views_px, focal_px)
    s, scaled = views_cam[..., 0], views_cam[..., 0] * views_px[..., 2]
    apart = lambda points: np.sqrt(np.square(points - points.mean(1, keepdims=True)).sum(-1).mean(1))
    return {
        "s_i, %": float(np.median(s.std(1) / s.mean(1))) * 100,
        "b_i s_i, %": float(np.median(scaled.std(1) / scaled.mean(1))) * 100,
        "t_i, mm": float(np.median(apart(views_cam[..., 1:]))) * 1e3,
        "t_i + 2 c_i / (b_i s_i), mm": float(np.median(apart(full[..., :2]))) * 1e3,
    }


# --- ambiguity of a single picture ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Twins:
    """Two poses of one body with equal projections of their limbs."""

    rotations: Tensor
    """(2, 24, 3, 3) camera axes"""
    transl: Tensor
    """(2, 3) m, SMPL's"""
    joints_m: NDArray[np.float64]
    """(2, 24, 3)"""


_FLIPPED = tuple(f"{side}_{name}" for side in ("left", "right") for name in ("knee", "ankle", "elbow", "wrist"))


def twins(body: BodyModel, distance_m: float = 6.0) -> Twins:
    """Compute a person striding towards the camera, and the other pose with the same projection.

    A bone of known length that ends on a known ray can end at two depths: |x r - parent|^2 = length^2 is quadratic in x. Each thigh, shin,
    upper arm and forearm takes the other root, from the trunk outwards.

    Raises:
        ValueError: a bone has no other root.
    """
    first = torch.eye(3, dtype=torch.float64).repeat(24, 1, 1)
    first[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    pitch = {"left_hip": 0.6, "right_hip": -0.45, "left_shoulder": -0.5, "right_shoulder": 0.55}
    droop = {"left_shoulder": -1.25, "right_shoulder": 1.25}
    for name in {**pitch, **droop}:
        first[JOINT_NAMES.index(name)] = _about(0, -pitch.get(name, 0.0)) @ _about(2, droop.get(name, 0.0))
    wide = body.to(dtype=torch.float64)
    betas, transl = torch.zeros(1, 10, dtype=torch.float64), torch.tensor([[0.0, 0.0, distance_m]], dtype=torch.float64)
    before, outer = (value[0].numpy() for value in forward_kinematics(wide, first[None], betas, transl))
    after, turned = before.copy(), outer.copy()
    second = first.numpy().copy()
    for joint, name in enumerate(JOINT_NAMES):
        parent = PARENTS[joint]
        if parent < 0:
            continue
        bone = before[joint] - before[parent]
        if name in _FLIPPED:
            ray = before[joint] / np.linalg.norm(before[joint])
            reach = np.linalg.norm(bone) ** 2 - np.linalg.norm(after[parent] - (ray @ after[parent]) * ray) ** 2
            if reach < 0:
                raise ValueError(f"the bone that ends at {name} does not reach its ray any more")
            nearer = before[joint] @ ray < ray @ before[parent]
            after[joint] = (ray @ after[parent] + (1 if nearer else -1) * math.sqrt(reach)) * ray
            turned[parent] = _shortest_turn(bone, after[joint] - after[parent]) @ outer[parent]
        else:
            after[joint] = after[parent] + turned[parent] @ (outer[parent].T @ bone)
        turned[joint] = turned[parent] @ first[joint].numpy()
    for joint, parent in enumerate(PARENTS):
        second[joint] = turned[joint] if parent < 0 else turned[parent].T @ turned[joint]
    rotations = torch.stack([first, torch.from_numpy(second)])
    joints, _ = forward_kinematics(wide, rotations, betas.expand(2, -1), transl.expand(2, -1))
    return Twins(rotations.float(), transl.expand(2, -1).float(), joints.numpy())


def _about(axis: int, angle_rad: float) -> Tensor:
    """(3, 3) rotation about a coordinate axis."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def _shortest_turn(source: Array, target: Array) -> NDArray[np.float64]:
    """(3, 3): the smallest rotation that brings one direction to another."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis, c = np.cross(a, b), float(a @ b)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def along_and_across(predicted_m: Array, target_m: Array, pelvis_m: Array) -> dict[str, float]:
    """Compute mean errors of joints (N, J, 3), relative to one point, along the line of sight to the pelvis (N, 3) and across it, mm."""
    sight = pelvis_m / np.linalg.norm(pelvis_m, axis=-1, keepdims=True)
    error = predicted_m - target_m
    along = np.einsum("njc,nc->nj", error, sight)
    across = np.linalg.norm(error - along[..., None] * sight[:, None], axis=-1)
    square = float(np.square(along).sum() / np.square(error).sum())
    return {
        "along, mm": float(np.abs(along).mean()) * 1e3,
        "across, mm": float(across.mean()) * 1e3,
        "squared error along, %": square * 100,
    }


# --- errors of the crops --------------------------------------------------------------------------------------------


def independent_looks(errors: Array, counted: NDArray[np.bool_]) -> float:
    """Compute the number of independent measurements in the V crops of a person: mean squared error of one over that of their mean.

    errors (N, V, J, 2) of points, counted (N, V, J); a point counts if it does in all views. The mean error over all people is subtracted
    first, because it is a difference in definition. V for independent errors, 1 for equal ones.
    """
    every = counted.all(1)
    kept = np.where(every[:, None, :, None], errors, 0)
    total = np.maximum(every.sum(0), 1)[:, None]
    centred = np.where(every[:, None, :, None], errors - kept.sum(0) / total, 0)
    one = np.square(centred).sum(-1).mean(1).sum()
    mean = np.square(centred.mean(1)).sum(-1).sum()
    return float(one / mean)


def real_point_errors(view: ObservedView) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute errors of the encoder's twelve limb points in all crops, in base sides: (n, V, 12, 2), and (n, V, 12) visible."""
    target = view.target_m.numpy()[view.frame.numpy()]
    plane = turn(target[..., :2] / target[..., 2:], -view.roll_rad.double().numpy()[:, None])
    info = view.seen.base_info.double().numpy()
    side = 0.06 * info[:, 2] + 0.24
    true = (plane - info[:, None, :2] / 2.8) / side[:, None, None]
    limbs = view.seen.landmarks[:, :, list(LIMBS_IN_BLAZEPOSE)].double().numpy()
    return limbs[..., :2] - true[:, None], limbs[..., 2] > 0.5


def relation_gap(frequencies: int, name: str = "wide", views: int = 5) -> float:
    """Compute the least distance between the encodings of any two different ordered pairs of a layout's crops, over their mean length."""
    placed = torch.from_numpy(layout(name, views).views.copy())[None].double()
    from mchmr_stream.network.fusion import relative_boxes

    relations = fourier(relative_boxes(placed), frequencies)[0]
    pairs = relations[~torch.eye(views, dtype=torch.bool)]
    distance = torch.cdist(pairs, pairs) + torch.eye(len(pairs)) * 1e9
    return float(distance.min() / pairs.norm(dim=-1).mean())


def phase_error(k: int, dtype: torch.dtype, seed: int = 0) -> float:
    """Compute the largest error (rad) of the phase 2^k pi d of a difference of box information in a floating type; inf on overflow."""
    g = torch.Generator().manual_seed(seed)
    values = torch.rand(4096, generator=g, dtype=torch.float64) * 4 - 2
    # d itself is rounded to the type: the error of the product alone would hide that.
    exact = values * (2.0**k * math.pi)
    rounded = (values.to(dtype) * torch.tensor(2.0**k * math.pi, dtype=dtype)).double()
    if not bool(torch.isfinite(rounded).all()):
        return math.inf
    return float((rounded - exact).abs().max())


# --- the fusion ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def attention(head: Head, seen: Observations) -> list[Tensor]:
    """Return, for each fusion layer, the weights (heads, n, V, V) of target view i on source view j; rows sum to one.

    Raises:
        UsageError: the views are not fused by crop-aware attention.
    """
    layers = crop_aware_layers(head)
    inputs: list[tuple[Tensor, Tensor]] = []
    hooks = [layer.register_forward_hook(lambda _, given, __: inputs.append(given)) for layer in layers]
    try:
        head(seen)
    finally:
        for hook in hooks:
            hook.remove()
    return [layer.fuse(layer.norm(x), views)[1].transpose(0, 1) for layer, (x, views) in zip(layers, inputs, strict=True)]


def crop_aware_layers(head: Head) -> list[CropAwareFusion]:
    layers = [layer for layer in getattr(head, "fusion", []) if isinstance(layer, CropAwareFusion)]
    if not layers or len(layers) != len(head.fusion):
        raise UsageError("these weights do not fuse by crop-aware attention: there are no weights of it to show")
    return layers


def with_uniform_attention(head: Head) -> Head:
    """Return the head with equal attention weights: without a query each product with a key is zero."""
    return _with_zeroed(head, lambda layer: [layer.query.weight, layer.query.bias])


def without_relations(head: Head) -> Head:
    """Return the head with a fusion without the relative positions of the crops."""
    return _with_zeroed(head, lambda layer: [layer.key_from_relation, layer.value_from_relation])


def _with_zeroed(head: Head, which: Callable[[CropAwareFusion], list[Tensor]]) -> Head:
    changed = copy.deepcopy(head)
    for layer in crop_aware_layers(changed):
        for parameter in which(layer):
            parameter.detach().zero_()
    return changed


def with_views(seen: Observations, index: Sequence[int], told: Sequence[int] | None = None) -> Observations:
    """Select views, in any order and with repetitions; `told` are the indices whose positions the head gets."""
    pick, place = list(index), list(index if told is None else told)
    return seen._replace(
        features=seen.features[:, pick], landmarks=seen.landmarks[:, pick], world=seen.world[:, pick], views=seen.views[:, place]
    )


@torch.inference_mode()
def embedding_similarity(head: Head, seen: Observations) -> tuple[float, float]:
    """Compute the mean cosine of the contrastive embeddings of two crops of one person, and of two people's."""
    embedding = head(seen).embedding
    n, count, _ = embedding.shape
    flat = embedding.flatten(0, 1)
    cosine = flat @ flat.T
    person = torch.arange(n).repeat_interleave(count)
    same = person[:, None] == person[None]
    return float(cosine[same & ~torch.eye(n * count, dtype=torch.bool)].mean()), float(cosine[~same].mean())


def least_contrastive_loss(people: int, views: int, temperature: float = 0.5) -> float:
    """Compute the loss when all crops of a person have one embedding and those of different people are orthogonal."""
    near, far = math.exp(1 / temperature), 1.0
    return math.log((views - 1) * near + (people - 1) * views * far) - 1 / temperature


def camera() -> Intrinsics:
    """Return the camera of the drawings: 600 x 600 px."""
    return Intrinsics(700.0, 700.0, 299.5, 299.5)
