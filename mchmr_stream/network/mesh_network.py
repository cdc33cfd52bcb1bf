"""The network: an encoder per crop, crop-aware fusion over the crops of a person, one body and V local cameras."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mchmr_stream.datatypes import LANDMARK_NAMES
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import box_info, full_from_local
from mchmr_stream.network.encoders import TRAINED_ENCODERS, CropFeatures, Encoder, make_encoder
from mchmr_stream.network.fusion import make_fusion
from mchmr_stream.network.heads import BodyDecoder, CameraDecoder, HeadOutput, ProjectionHead, ResidualMLP
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES, LANDMARKS_FROM_BLAZEPOSE
from mchmr_stream.network.observations import Observations, agree_on_sides, base_from_unit, points_to_base, view_geometry
from mchmr_stream.network.paper_head import PaperHead

HEADS = ("tokens", "paper")


@dataclass(frozen=True)
class NetworkConfig:
    """All settings that determine the network's shape; stored with the weights."""

    encoder: str = "blazepose_full"
    token_dim: int = 256
    fusion_layers: int = 1
    fusion_heads: int = 4
    frequencies: int = 4
    trunk_dim: int = 768
    trunk_depth: int = 3
    dropout: float = 0.0
    feature_dropout: float = 0.2
    """of the encoder's features and world landmarks, in training, against overfitting to few rendered people"""
    use_features: bool = True
    """use the encoder's feature vector"""
    use_world: bool = True
    """use the encoder's own metric landmarks"""
    fusion: str = "crop_aware"
    """how the views' tokens are fused, one of `fusion.FUSIONS`; with head `paper` one of `paper_head.PAPER_FUSIONS`"""
    relative_encoding: bool = True
    """give the fusion the crops' relative positions"""
    concat_views: int = 5
    """number of views of head `paper` and fusion `concat`; the others take any number"""
    head: str = "tokens"
    """`tokens`: `MultiCropHead`, this project's; `paper`: as published, `PaperHead`"""
    bodies: str = "shared"
    """head `paper`: `shared`, or `per_view` as in the authors' code"""
    regressor_dim: int = 2048
    """head `paper`: width of the regressor's first layer"""

    @property
    def fixed_views(self) -> int | None:
        """The number of views that the network requires; None for any."""
        fixed = self.fusion == "concat" or (self.head == "paper" and self.concat_views > 1)
        return self.concat_views if fixed else None

    def to_dict(self) -> dict[str, object]:
        """Plain values for the header of the weights."""
        return asdict(self)


class MultiCropHead(nn.Module):
    """Observations of V crops -> one body and V local cameras. Any V with the same weights, except with fusion `concat`.

    With an encoder without landmarks it uses features and the detector's keypoints.

    Args:
        config: Settings with head `tokens`.
        feature_dim: Width of the encoder's features.
        landmark_count: Landmarks of the encoder.

    Raises:
        UsageError: `config` is of another head.
    """

    def __init__(self, config: NetworkConfig, feature_dim: int, landmark_count: int) -> None:
        super().__init__()
        if config.head != "tokens":
            raise UsageError(f"network head is {config.head!r}, expected tokens here: head paper learns from pictures (docs/training.md)")
        dim = config.token_dim
        self.config = config
        self.feature_dim, self.landmark_count = feature_dim, landmark_count
        if config.use_features:
            forget = nn.Dropout(config.feature_dropout)
            self.feature_in = nn.Sequential(nn.LayerNorm(feature_dim), forget, nn.Linear(feature_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        if config.use_world and landmark_count:
            self.world_in = nn.Sequential(nn.Dropout(config.feature_dropout), nn.Linear(landmark_count * 3, dim))
        self.landmark_in = nn.Linear(landmark_count * 3, dim) if landmark_count else None
        self.keypoint_in = nn.Linear(17 * 3, dim)
        self.view_in = nn.Linear(3, dim)
        self.info_in = nn.Linear(3, dim)
        self.mix = ResidualMLP(dim, 1, config.dropout)
        self.fusion = make_fusion(
            config.fusion, dim, layers=config.fusion_layers, heads=config.fusion_heads, frequencies=config.frequencies,
            dropout=config.dropout, relative_encoding=config.relative_encoding, concat_views=config.concat_views,
        )  # fmt: skip
        self.person_in = nn.Linear(2 * dim, config.trunk_dim)
        self.trunk = ResidualMLP(config.trunk_dim, config.trunk_depth, config.dropout)
        self.person_out = nn.Linear(config.trunk_dim, dim)
        self.body = BodyDecoder(config.trunk_dim)
        self.camera = CameraDecoder(dim)
        self.project = ProjectionHead(dim)

    def forward(self, seen: Observations) -> HeadOutput:
        """Decode the observations of n people."""
        landmarks, keypoints = seen.landmarks, seen.keypoints
        visibility, score = landmarks[..., 2:], keypoints[..., 2:]
        detected = torch.cat([keypoints[..., :2] * 3 * (score > 0.1), score], -1)
        tokens = self.view_in(seen.views)
        if self.landmark_in is not None:
            # The position of an occluded point carries little information: it fades to the origin with its visibility.
            points = torch.cat([landmarks[..., :2] * 3 * (visibility > 0.05), visibility], -1).flatten(2)
            tokens = tokens + _in_full_precision(self.landmark_in, points)
        tokens = tokens + self._from_pictures(seen)
        # The paper's third number ranges over several units; a quarter brings it to order one.
        info = seen.base_info * torch.tensor([1.0, 1.0, 0.25], device=tokens.device)
        person_evidence = _in_full_precision(self.keypoint_in, detected.flatten(1)) + self.info_in(info)
        tokens = self.mix(tokens + person_evidence[:, None])
        embedding = self.project(tokens)
        for layer in self.fusion:
            tokens = layer(tokens, seen.views)
        person = self.trunk(self.person_in(torch.cat([tokens.mean(1), person_evidence], -1)))
        rotations, betas, joint_log_sigma = self.body(person)
        views_cam = self.camera(tokens, self.person_out(person), seen.views)
        return HeadOutput(rotations, betas, views_cam, joint_log_sigma, embedding)

    def _from_pictures(self, seen: Observations) -> Tensor:
        """(n, V, dim) from features and world landmarks, zero for samples without pictures."""
        if self.training:
            # Most training samples have no pictures; only the others are computed.
            rows = torch.nonzero(seen.has_image)[:, 0]
            tokens = self._picture_tokens(seen.features[rows], seen.world[rows])
            empty = torch.zeros(len(seen.has_image), *tokens.shape[1:], dtype=tokens.dtype, device=tokens.device)
            return empty.index_copy(0, rows, tokens)
        return self._picture_tokens(seen.features, seen.world) * seen.has_image[:, None, None]

    def _picture_tokens(self, features: Tensor, world: Tensor) -> Tensor:
        tokens = torch.zeros(*world.shape[:2], self.config.token_dim, device=world.device)
        if self.config.use_features:
            tokens = tokens + self.feature_in(features)
        if self.config.use_world and self.landmark_count:
            tokens = tokens + self.world_in(world.flatten(2) * 2)
        return tokens


def _in_full_precision(layer: nn.Linear, points: Tensor) -> Tensor:
    """Without autocast: bfloat16 would round a point to a four-hundredth of the person's size."""
    with torch.autocast(points.device.type, enabled=False):
        return layer(points)


def make_head(config: NetworkConfig, encoder: Encoder) -> MultiCropHead | PaperHead:
    """Build an untrained head.

    Args:
        config: Settings of the network.
        encoder: Its encoder.

    Returns:
        The head.

    Raises:
        UsageError: The configuration names an unknown part.
    """
    if config.head not in HEADS:
        raise UsageError(f"network head is {config.head!r}, expected one of {', '.join(HEADS)}")
    if config.head == "tokens":
        return MultiCropHead(config, encoder.feature_dim, min(encoder.landmark_count, len(BLAZEPOSE_NAMES)))
    return PaperHead(
        encoder.feature_dim, views=config.concat_views, fusion=config.fusion, bodies=config.bodies, token_dim=config.token_dim,
        frequencies=config.frequencies, relative_encoding=config.relative_encoding, fusion_layers=config.fusion_layers,
        fusion_heads=config.fusion_heads, regressor_dim=config.regressor_dim, dropout=config.dropout,
    )  # fmt: skip


class NetworkOutput(NamedTuple):
    """The network's interface to estimators and servers; shapes as in datatypes.CropEstimates."""

    rotations: Tensor
    betas: Tensor
    views_cam: Tensor
    confidence: Tensor
    presence: Tensor
    landmarks_px: Tensor


class MultiCropNet(nn.Module):
    """Crops to bodies: `CropBatch` as tensors to `CropEstimates` as tensors.

    A frozen encoder has its weights; one that is trained with the head is newly initialised.

    Args:
        config: Settings of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config.encoder, pretrained=config.encoder not in TRAINED_ENCODERS)
        self.head = make_head(config, self.encoder)

    def forward(self, crops: Tensor, views_px: Tensor, base_px: Tensor, focal_px: Tensor, keypoints_px: Tensor) -> NetworkOutput:
        """Estimate n people.

        Args:
            crops: (n, V, 3, h, w) uint8.
            views_px: (n, V, 3) centre and side of the crops, rolled plane.
            base_px: (n, 3) centre and side of the base boxes.
            focal_px: (n,).
            keypoints_px: (n, 17, 3) x, y, score.

        Returns:
            The estimates.
        """
        n, count = crops.shape[:2]
        encoded = self.encoder(crops.flatten(0, 1).float() / 255)
        seen = observe(encoded, n, count, views_px, base_px, focal_px, keypoints_px)
        return finish(self.head(seen), seen, presence_logits(encoded, n, count), views_px, base_px, focal_px)


def observe(
    encoded: CropFeatures, n: int, count: int, views_px: Tensor, base_px: Tensor, focal_px: Tensor, keypoints_px: Tensor
) -> Observations:
    """Convert the outputs of encoder and detector to base coordinates.

    Args:
        encoded: Of n * count crops.
        n: People.
        count: V, crops per person.
        views_px: (n, V, 3).
        base_px: (n, 3).
        focal_px: (n,).
        keypoints_px: (n, 17, 3).

    Returns:
        The head's input.
    """
    views = view_geometry(views_px, base_px)
    known = min(encoded.landmarks.shape[1], len(BLAZEPOSE_NAMES))
    landmarks = encoded.landmarks[:, :known].reshape(n, count, known, 5)
    points = torch.cat([base_from_unit(landmarks[..., :2], views), landmarks[..., 3:4].sigmoid()], -1)
    world = encoded.world[:, :known].reshape(n, count, known, 3)
    keypoints = points_to_base(keypoints_px, base_px)
    if known:
        points, world, _ = agree_on_sides(points, world, keypoints)
    info = box_info(base_px[:, None], focal_px)[:, 0]
    return Observations(encoded.features.reshape(n, count, -1), points, world, keypoints, views, info, torch.ones_like(focal_px))


def presence_logits(encoded: CropFeatures, n: int, count: int) -> Tensor:
    """Reshape the presence of n * count crops.

    Args:
        encoded: The encoder's output.
        n: People.
        count: V, crops per person.

    Returns:
        (n, count); 0, undecided, for an encoder without presence.
    """
    if not encoded.landmarks.shape[1]:
        return torch.zeros(n, count, device=encoded.features.device)
    return encoded.presence.reshape(n, count)


def finish(out: HeadOutput, seen: Observations, presence: Tensor, views_px: Tensor, base_px: Tensor, focal_px: Tensor) -> NetworkOutput:
    """Add confidence, presence and picture landmarks to the head's output.

    For an encoder without landmarks these are the detector's keypoints, and hands and feet are invisible: no track is then carried
    through frames without a detection.

    Args:
        out: The head's output.
        seen: The head's input.
        presence: (n, V) logits.
        views_px: (n, V, 3).
        base_px: (n, 3).
        focal_px: (n,).

    Returns:
        The network's output.
    """
    transl = full_from_local(out.views_cam, views_px, focal_px)
    middle = transl.mean(1, keepdim=True)
    spread = ((transl - middle) / middle[..., 2:]).square().sum(-1).mean(1).sqrt() * (focal_px / base_px[:, 2])
    sigma = out.joint_log_sigma.exp().mean(1)
    confidence = torch.exp(-4 * sigma) * torch.exp(-2 * spread)
    if seen.landmarks.shape[2]:
        landmarks = seen.landmarks.mean(1)[:, torch.tensor(LANDMARKS_FROM_BLAZEPOSE, device=base_px.device)]
    else:
        landmarks = nn.functional.pad(seen.keypoints, (0, 0, 0, len(LANDMARK_NAMES) - seen.keypoints.shape[1]))
    xy = landmarks[..., :2] * base_px[:, None, 2:] + base_px[:, None, :2]
    return NetworkOutput(
        out.rotations, out.betas, out.views_cam, confidence, presence.sigmoid().mean(1), torch.cat([xy, landmarks[..., 2:]], -1)
    )
