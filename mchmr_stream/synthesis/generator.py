"""Generator of synthetic scenes; each scene has its own seed and can be reproduced alone.

A scene is composed (`compose`: people, poses, camera, positions) and then rendered (`render`). Moving clips are in `clips`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import project
from mchmr_stream.synthesis.backgrounds import BackgroundBank
from mchmr_stream.synthesis.image_effects import EffectSettings, degrade, draw_exposure, encode_jpeg
from mchmr_stream.synthesis.people import Identity, PosedPerson, pose_person
from mchmr_stream.synthesis.poses import PoseLibrary, PoseSettings
from mchmr_stream.synthesis.random_cameras import RandomCameraSettings, SceneCamera, draw_camera, draw_shot, frame_subject, place_apart
from mchmr_stream.synthesis.random_shapes import SEXES, ShapeSampler, ShapeSettings
from mchmr_stream.synthesis.render import Drawing, draw_people
from mchmr_stream.synthesis.rig import FACE_LANDMARK_VERTICES, load_render_body
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene
from mchmr_stream.synthesis.wardrobe import Wardrobe

_KEYPOINT_JOINTS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
_SEEN_SLACK_M = (0.04,) * 5 + (0.14, 0.14, 0.1, 0.1, 0.1, 0.1, 0.18, 0.18, 0.12, 0.12, 0.12, 0.12)
"""Largest depth of each COCO keypoint under the surface: a surface nearer than that occludes it."""


@dataclass(frozen=True)
class SynthSettings:
    """Settings of the generator."""

    data: Path
    """folder with body/, people/ and poses/ (the developers' data; not shipped)"""
    backgrounds: Path | None = None
    poses: PoseSettings = field(default_factory=PoseSettings)
    shapes: ShapeSettings = field(default_factory=ShapeSettings)
    cameras: RandomCameraSettings = field(default_factory=RandomCameraSettings)
    effects: EffectSettings = field(default_factory=EffectSettings)


@dataclass(frozen=True, eq=False)
class Composition:
    """A scene before rendering."""

    camera: SceneCamera
    people: tuple[PosedPerson, ...]
    shot: str
    backdrop_seed: int
    effects_seed: int


class SceneGenerator:
    """Generator with the data common to all scenes: body, poses, clothes, backgrounds."""

    def __init__(self, settings: SynthSettings) -> None:
        self.settings = settings
        self.body = load_render_body(settings.data)
        self.poses = PoseLibrary(settings.data, self.body, settings.poses)
        self.shapes = ShapeSampler(self.body, settings.shapes)
        self.wardrobe = Wardrobe(settings.data, self.body)
        self.backgrounds = BackgroundBank(settings.backgrounds)

    def scene(self, seed: int, index: int) -> SyntheticScene:
        """Generate scene number `index` of the series `seed`."""
        rng = np.random.default_rng([seed, index])
        return self.render(self.compose(rng), index)

    @torch.no_grad()
    def compose(self, rng: np.random.Generator) -> Composition:
        """Draw people, poses, camera and positions at random."""
        settings = self.settings.cameras
        camera, shot = draw_camera(rng, settings), draw_shot(rng, settings)
        chances = np.array(settings.people_probability)
        people_count = 1 + int(rng.choice(len(chances), p=chances / chances.sum()))
        subject = self._draw_person(rng)
        camera = frame_subject(rng, camera, subject, shot, people_count - 1)
        people = [subject]
        for _ in range(people_count - 1):
            placed = place_apart(rng, camera, self._draw_person(rng), people)
            if placed is not None:
                people.append(placed)
        return Composition(camera, tuple(people), shot, int(rng.integers(2**62)), int(rng.integers(2**62)))

    @torch.no_grad()
    def draw(self, composition: Composition) -> tuple[Drawing, str]:
        """Render the picture before lens and sensor effects; also returns the backdrop's name."""
        rng = np.random.default_rng(composition.backdrop_seed)
        people = list(composition.people)
        standing = torch.cat([person.joints_m for person in people]).numpy().astype(np.float64)
        backdrop = self.backgrounds.draw(rng, composition.camera, standing)
        exposure = draw_exposure(rng, self.settings.effects)
        drawing = draw_people(people, composition.camera, backdrop, self.wardrobe.textures, self.wardrobe.patterns, exposure)
        return drawing, backdrop.name

    @torch.no_grad()
    def render(self, composition: Composition, index: int = 0) -> SyntheticScene:
        """Render, degrade, compress and label."""
        drawing, background = self.draw(composition)
        rng = np.random.default_rng(composition.effects_seed)
        jpeg = encode_jpeg(rng, degrade(rng, drawing.rgb, self.settings.effects), self.settings.effects)
        camera = composition.camera
        labels = tuple(self.label(person, number, camera, drawing) for number, person in enumerate(composition.people))
        return SyntheticScene(index, jpeg, camera.width, camera.height, camera.intrinsics, labels, background, composition.shot)

    def _draw_person(self, rng: np.random.Generator) -> PosedPerson:
        sex = SEXES[rng.integers(2)]
        identity = Identity(self.shapes.draw(rng, sex), self.wardrobe.draw(rng, sex))
        person = pose_person(self.body, identity, self.wardrobe.dress(identity.outfit), self.poses.draw(rng), rng.uniform(0, 2 * np.pi))
        if rng.random() < self.settings.cameras.lifted_probability:
            return person.moved_by(torch.tensor([0.0, float(rng.uniform(0.05, 0.8)), 0.0]))
        return person

    def label(self, person: PosedPerson, number: int, camera: SceneCamera, drawing: Drawing) -> PersonLabel:
        """Compute the labels of a person, the `number`-th of those drawn."""
        betas = torch.as_tensor(person.identity.build.betas)[None]
        rest_pelvis = self.body.rest_joints(betas)[0, 0]
        joints = camera.camera_points(person.joints_m)
        rotations = person.rotations.clone()
        rotations[0] = camera.camera_from_world @ rotations[0]
        skin = camera.camera_points(person.skin_m)
        face = skin[self.body.subset[list(FACE_LANDMARK_VERTICES)]]
        keypoints = torch.cat([face, joints[list(_KEYPOINT_JOINTS)]])
        skin_px = project(skin, camera.intrinsics)
        inside = (skin[:, 2] > 0) & ((skin_px >= -0.5) & (skin_px <= torch.tensor([camera.width - 0.5, camera.height - 0.5]))).all(-1)
        outfit, pose = person.identity.outfit, person.pose
        return PersonLabel(
            rotations.numpy(), betas[0].numpy(), True, (joints[0] - rest_pelvis).numpy(), joints.numpy(),
            project(joints, camera.intrinsics).numpy(), _keypoints_px(keypoints, camera, drawing.depth_m).numpy(),
            drawing.boxes_xyxy_px[number].numpy(), float(drawing.visible_fraction[number]), float(1 - self.body.skin_share[inside].sum()),
            person.identity.build.sex, outfit.skin_tone, outfit.names, pose.clip, pose.family, pose.mirrored,
        )  # fmt: skip


def generate(settings: SynthSettings, seed: int, count: int | None = None) -> Iterator[SyntheticScene]:
    """Yield scenes 0, 1, ... of the series `seed`; `count` of them, or without end. Equal seeds give equal scenes."""
    if seed < 0 or (count is not None and count < 0):
        raise UsageError(f"seed and count are {seed} and {count}, expected numbers that are not negative")
    generator = SceneGenerator(settings)
    index = 0
    while count is None or index < count:
        yield generator.scene(seed, index)
        index += 1


def _keypoints_px(keypoints_m: Tensor, camera: SceneCamera, depth_m: Tensor) -> Tensor:
    """(17, 3) camera axes -> (17, 3): x, y px, and 1 where no surface is clearly nearer to the camera."""
    points = project(keypoints_m, camera.intrinsics)
    column, row = points.round().long().unbind(-1)
    inside = (keypoints_m[:, 2] > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    surface = depth_m[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
    seen = inside & (surface > keypoints_m[:, 2] - torch.tensor(_SEEN_SLACK_M))
    return torch.cat([points, seen[:, None].float()], -1)
