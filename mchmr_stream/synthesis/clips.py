"""Clips of one to four moving people who cross, occlude each other, enter and leave.

Each clip is determined by its seed. Body and clothes of a person stay the same over the clip; poses are captured motion
(`captured_motion`); the camera is fixed, or pans and drifts slowly. Pictures are sharp: there is no motion blur.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics, project, roll_matrix
from mchmr_stream.synthesis.backgrounds import Backdrop
from mchmr_stream.synthesis.captured_motion import CapturedMotion, draw_motion, gets_on
from mchmr_stream.synthesis.generator import SceneGenerator, SynthSettings
from mchmr_stream.synthesis.image_effects import EffectSettings, degrade, draw_exposure
from mchmr_stream.synthesis.people import Identity, PosedPerson, pose_person
from mchmr_stream.synthesis.poses import Pose
from mchmr_stream.synthesis.random_cameras import SceneCamera
from mchmr_stream.synthesis.random_shapes import SEXES
from mchmr_stream.synthesis.render import draw_people
from mchmr_stream.synthesis.samples import PersonLabel
from mchmr_stream.synthesis.stagings import STAGINGS, Role, course_s, fits
from mchmr_stream.synthesis.wardrobe import DressedMesh

_FLIP = np.diag([1.0, -1.0, -1.0])
_NEAREST_M = 0.8
_APART_M = 0.25
"""Least distance between joints of two people."""
_PLACES = 40
"""Positions that are tried for each further person."""
_STAGED_TRIES = 3000
"""Sections of motion that are tried for a role: the library has few sitting people."""
_STAGED_SPREAD_M = 0.12
"""Standard deviation of positions from those of the role; it grows after many failed tries."""
CameraMotion = Literal["still", "moving", "mixed"]


@dataclass(frozen=True)
class ClipSettings:
    """Settings of clips."""

    seconds: float = 4.0
    fps: float = 25.0
    long_side_px: tuple[int, int] = (640, 960)
    aspects: tuple[float, ...] = (16 / 9, 16 / 9, 4 / 3, 9 / 16)
    fov_deg: tuple[float, float] = (45.0, 75.0)
    """of the longer side"""
    people_probability: tuple[float, ...] = (0.2, 0.35, 0.25, 0.2)
    """of 1, 2, ... people"""
    walking_probability: float = 0.65
    crossing_probability: float = 0.75
    """probability that a further person is placed where they cross the others in the picture most"""
    border_probability: float = 0.35
    """probability that a further person walks across the left or right border of the picture, and so enters or leaves"""
    staging: str | None = None
    """one of `STAGINGS`: its people and paths instead of random ones"""
    camera: CameraMotion = "mixed"
    pan_deg_s: float = 6.0
    """at most"""
    drift_m_s: float = 0.25
    """at most"""
    noise_probability: float = 0.4
    noise_levels: tuple[float, float] = (1.0, 5.0)
    effects: EffectSettings = field(
        default_factory=lambda: EffectSettings(
            motion_probability=0, noise_probability=0, low_resolution_probability=0.1, defocus_probability=0.15
        )
    )
    """the same in every frame"""

    def __post_init__(self) -> None:
        if not (1 <= self.fps <= 240 and 0 < self.seconds <= 60):
            raise UsageError(f"a clip of {self.seconds:g} s at {self.fps:g} fps was requested, expected up to 60 s at 1 to 240 fps")
        if self.staging is not None and self.staging not in STAGINGS:
            raise UsageError(f"staging is {self.staging!r}, expected one of {', '.join(STAGINGS)}")

    @property
    def frames(self) -> int:
        return max(2, round(self.seconds * self.fps))


@dataclass(frozen=True, eq=False)
class Actor:
    """One person of a clip."""

    identity: Identity
    mesh: DressedMesh
    motion: CapturedMotion
    yaw_rad: float
    offset_m: np.ndarray
    """(2,) x and z: start of the motion"""

    def joints_m(self) -> np.ndarray:
        """Joints (frames, 24, 3) in the world, except for the height: the skin, not the joints, is put on the ground later."""
        joints = self.motion.joints_m @ _about_y(self.yaw_rad).T
        return joints + np.array([self.offset_m[0], 0, self.offset_m[1]])


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip before rendering."""

    index: int
    fps: float
    cameras: tuple[SceneCamera, ...]
    """one per frame"""
    actors: tuple[Actor, ...]
    backdrop_seed: int
    appearance_seed: int

    @property
    def camera_moves(self) -> bool:
        return self.cameras[0] is not self.cameras[-1]


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """A picture of a clip with its ground truth: one label per actor, in order, also of those outside of the picture."""

    rgb: np.ndarray
    """(height, width, 3) uint8"""
    camera: SceneCamera
    people: tuple[PersonLabel, ...]


class ClipGenerator:
    """Generator of clips. Raises InputError for invalid data, UsageError for settings that no motion fits."""

    def __init__(self, settings: SynthSettings, clips: ClipSettings | None = None) -> None:
        self.settings = clips or ClipSettings()
        self.scenes = SceneGenerator(settings)

    @torch.no_grad()
    def compose(self, seed: int, index: int) -> Clip:
        """Draw people, their motion and paths, and the camera of clip number `index` of the series `seed`."""
        rng = np.random.default_rng([seed, index])
        settings = self.settings
        cameras = _draw_cameras(rng, settings)
        if settings.staging is not None:
            cast = self._cast(rng, STAGINGS[settings.staging], cameras)
            return Clip(index, settings.fps, cameras, cast, int(rng.integers(2**62)), int(rng.integers(2**62)))
        chances = np.array(settings.people_probability)
        people_count = 1 + int(rng.choice(len(chances), p=chances / chances.sum()))
        actors: list[Actor] = []
        while len(actors) < people_count:
            actor = self._place(rng, self._draw_actor(rng), cameras, actors)
            if actor is not None:
                actors.append(actor)
            elif actors:
                break
        return Clip(index, settings.fps, cameras, tuple(actors), int(rng.integers(2**62)), int(rng.integers(2**62)))

    @torch.no_grad()
    def render(self, clip: Clip) -> Iterator[ClipFrame]:
        """Render the frames one after the other."""
        appearance_rng = np.random.default_rng(clip.appearance_seed)
        exposure = draw_exposure(appearance_rng, self.settings.effects)
        noise = (
            float(appearance_rng.uniform(*self.settings.noise_levels)) if appearance_rng.random() < self.settings.noise_probability else 0.0
        )
        grain = torch.Generator().manual_seed(int(appearance_rng.integers(2**62)))
        effects_seed = int(appearance_rng.integers(2**62))
        holds = np.concatenate([*(actor.joints_m().reshape(-1, 3) for actor in clip.actors), _positions(clip.cameras)])
        lifts = [self._lift_m(actor) for actor in clip.actors]
        backdrop: Backdrop | None = None
        for number, camera in enumerate(clip.cameras):
            if backdrop is None or clip.camera_moves:
                backdrop = self.scenes.backgrounds.draw(np.random.default_rng(clip.backdrop_seed), camera, holds, clip.camera_moves)
            people = [self._posed(actor, number, lift) for actor, lift in zip(clip.actors, lifts, strict=True)]
            drawing = draw_people(people, camera, backdrop, self.scenes.wardrobe.textures, self.scenes.wardrobe.patterns, exposure)
            rgb = degrade(np.random.default_rng(effects_seed), drawing.rgb, self.settings.effects)
            if noise:
                rgb = (rgb + noise * torch.randn(rgb.shape, generator=grain)).clamp(0, 255)
            labels = tuple(self.scenes.label(person, row, camera, drawing) for row, person in enumerate(people))
            yield ClipFrame(rgb.round().to(torch.uint8).numpy(), camera, labels)

    def _draw_actor(self, rng: np.random.Generator, role: Role | None = None) -> Actor:
        scenes, settings = self.scenes, self.settings
        sex = SEXES[rng.integers(2)]
        identity = Identity(scenes.shapes.draw(rng, sex), scenes.wardrobe.draw(rng, sex))
        rest = scenes.body.rest_joints(torch.as_tensor(identity.build.betas)[None])[0]
        if role is not None:
            course = course_s(role.action, settings.fps, settings.frames)
            is_suitable = lambda motion: fits(role.action, motion, course)
            motion = draw_motion(rng, scenes.poses, rest, settings.fps, course, is_suitable, _STAGED_TRIES)
        else:
            course = np.arange(settings.frames) / settings.fps
            walking = bool(rng.random() < settings.walking_probability)
            motion = draw_motion(rng, scenes.poses, rest, settings.fps, course, lambda one: not walking or gets_on(one, float(course[-1])))
        return Actor(identity, scenes.wardrobe.dress(identity.outfit), motion, 0.0, np.zeros(2))

    def _cast(self, rng: np.random.Generator, roles: tuple[Role, ...], cameras: tuple[SceneCamera, ...]) -> tuple[Actor, ...]:
        """An actor at the place of each role. Raises UsageError when people collide in all tries."""
        actors: list[Actor] = []
        for role in roles:
            found = None
            for attempt in range(3 * _PLACES):
                spread_m = _STAGED_SPREAD_M * max(1.0, attempt / _PLACES) ** 2
                actor = self._put(rng, self._draw_actor(rng, role), role, cameras, spread_m)
                if _has_room(actor, actors, cameras):
                    found = actor
                    break
            if found is None:
                raise UsageError(f"no room for a person who {role.action} in the staging {self.settings.staging}; take another seed")
            actors.append(found)
        return tuple(actors)

    def _put(self, rng: np.random.Generator, actor: Actor, role: Role, cameras: tuple[SceneCamera, ...], spread_m: float) -> Actor:
        frames, stage = len(cameras), float(cameras[0].position_m[2])
        moment = min(frames - 1, round(frames * role.moment))
        path = actor.motion.path_m
        if role.action in ("walks", "runs"):
            way = path[np.linalg.norm(path - path[0], axis=-1).argmax()] - path[0]
            yaw = np.arctan2(way[1], way[0]) + rng.normal(0, 0.12) + (np.pi if role.heading == "left" else 0)
        else:
            yaw = rng.uniform(0, 2 * np.pi)
        camera = cameras[moment]
        half_width = camera.width / 2 / camera.intrinsics.fx * (stage - role.nearer_m)
        spot = np.array([role.across * half_width, role.nearer_m]) + rng.normal(0, spread_m, 2)
        pelvis_xz = (_about_y(yaw) @ actor.motion.joints_m[moment, 0])[[0, 2]]
        return replace(actor, yaw_rad=float(yaw), offset_m=spot - pelvis_xz)

    def _place(self, rng: np.random.Generator, actor: Actor, cameras: tuple[SceneCamera, ...], others: list[Actor]) -> Actor | None:
        """Rotate and move an actor; None if they collide with another in all tries.

        At a random moment the pelvis is at a random position of the stage, around the world's origin, inside the camera's view or at its
        border.
        """
        frames, stage = len(cameras), float(cameras[0].position_m[2])
        walks = actor.motion.length_m > 0.5
        at_border = walks and bool(others) and bool(rng.random() < self.settings.border_probability)
        crossing = bool(others) and bool(rng.random() < self.settings.crossing_probability)
        best, most = None, -1.0
        for _ in range(_PLACES):
            moment = int(frames * rng.uniform(0.15, 0.85))
            yaw = rng.uniform(0, 2 * np.pi)
            if at_border or (walks and rng.random() < 0.7):
                # Across the picture rather than along the line of sight.
                way = actor.motion.path_m[-1] - actor.motion.path_m[0]
                yaw = np.arctan2(way[1], way[0]) + rng.normal(0, 0.45) + (np.pi if rng.random() < 0.5 else 0)
            spread = 0.15 if not others else 0.4
            spot = rng.normal(0, spread * stage, 2) * [0.7, 1.0 if others else 0.5]
            if at_border:
                half_width = cameras[moment].width / 2 / cameras[moment].intrinsics.fx * (stage - spot[1])
                spot[0] = half_width * rng.choice([-1, 1])
            pelvis_xz = (_about_y(yaw) @ actor.motion.joints_m[moment, 0])[[0, 2]]
            placed = replace(actor, yaw_rad=float(yaw), offset_m=spot - pelvis_xz)
            joints = placed.joints_m()
            pixels, depth = _seen(joints, cameras)
            if depth.min() < _NEAREST_M or not (at_border or _inside(pixels[moment, 0], cameras[moment])):
                continue
            if _collides(joints, others):
                continue
            overlap = sum(_overlap(pixels, _seen(other.joints_m(), cameras)[0]) for other in others)
            if not crossing:
                return placed
            if overlap > most:
                best, most = placed, overlap
        return best

    def _posed(self, actor: Actor, frame: int, lift_m: float) -> PosedPerson:
        motion = actor.motion
        pose = Pose(motion.axis_angle[frame], motion.clip, "motion", motion.mirrored)
        person = pose_person(self.scenes.body, actor.identity, actor.mesh, pose, actor.yaw_rad)
        pelvis = actor.joints_m()[frame, 0]
        height = pelvis[1] + lift_m - float(person.joints_m[0, 1])
        return person.moved_by(torch.tensor([pelvis[0], height, pelvis[2]], dtype=torch.float32))

    def _lift_m(self, actor: Actor) -> float:
        """Height of an actor's soles and flesh below its joints: the median over some frames."""
        motion = actor.motion
        lifts = []
        for frame in np.linspace(0, len(motion.path_m) - 1, 5).astype(int):
            pose = Pose(motion.axis_angle[frame], motion.clip, "motion", motion.mirrored)
            standing = pose_person(self.scenes.body, actor.identity, actor.mesh, pose, 0.0)
            lifts.append(float(standing.joints_m[0, 1]) - motion.joints_m[frame, 0, 1])
        return float(np.median(lifts))


def _draw_cameras(rng: np.random.Generator, settings: ClipSettings) -> tuple[SceneCamera, ...]:
    """One camera per frame, facing along -z at the origin from a few metres away. A fixed one is the same object in all frames."""
    long_side = int(rng.integers(settings.long_side_px[0], settings.long_side_px[1] + 1)) // 16 * 16
    aspect = float(rng.choice(settings.aspects))
    short_side = round(long_side * min(aspect, 1 / aspect) / 2) * 2
    width, height = (long_side, short_side) if aspect >= 1 else (short_side, long_side)
    focal = float(long_side / 2 / np.tan(np.radians(rng.uniform(*settings.fov_deg)) / 2))
    fill = rng.uniform(0.4, 0.85) if height <= width else rng.uniform(0.35, 0.6)
    distance = max(1.75 * focal / (fill * height), 2.0)
    position = np.array([0.0, rng.uniform(0.9, 2.3), distance])
    pitch = float(np.arctan2(position[1] - rng.uniform(0.8, 1.05), distance))
    roll = rng.normal(0, 0.02)
    intrinsics = Intrinsics.from_focal(width, height, focal)
    moving = settings.camera == "moving" or (settings.camera == "mixed" and rng.random() < 0.5)
    pan = np.radians(rng.uniform(-1, 1) * settings.pan_deg_s)
    drift = rng.uniform(-1, 1, 3) * settings.drift_m_s * [0.7, 0.2, 0.7]
    sway_hz, sway_phase = rng.uniform(0.3, 1.2, 3), rng.uniform(0, 2 * np.pi, 3)

    def camera(yaw: float, pitch: float, roll: float, position: np.ndarray) -> SceneCamera:
        tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        rotation = roll_matrix(np.float64(roll)) @ tilt @ _FLIP @ _about_y(yaw)
        as_float = lambda array: torch.as_tensor(array, dtype=torch.float32)
        return SceneCamera(width, height, intrinsics, as_float(rotation), as_float(-rotation @ position))

    if not moving:
        return (camera(0.0, pitch, roll, position),) * settings.frames
    times = (np.arange(settings.frames) - (settings.frames - 1) / 2) / settings.fps
    sway = np.radians(0.35) * np.sin(2 * np.pi * sway_hz * times[:, None] + sway_phase)
    return tuple(
        camera(pan * time + sway[frame, 0], pitch + sway[frame, 1], roll + sway[frame, 2], position + drift * time)
        for frame, time in enumerate(times)
    )


def _about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _positions(cameras: tuple[SceneCamera, ...]) -> np.ndarray:
    return np.stack([camera.position_m.numpy() for camera in cameras]).astype(np.float64)


def _seen(joints_m: np.ndarray, cameras: tuple[SceneCamera, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(frames, 24, 3) world -> pixels (frames, 24, 2) and depth (frames, 24)."""
    points = [camera.camera_points(torch.as_tensor(joints, dtype=torch.float32)) for joints, camera in zip(joints_m, cameras, strict=True)]
    pixels = [project(each, camera.intrinsics) for each, camera in zip(points, cameras, strict=True)]
    return torch.stack(pixels).numpy(), torch.stack(points)[..., 2].numpy()


def _has_room(actor: Actor, others: list[Actor], cameras: tuple[SceneCamera, ...]) -> bool:
    joints = actor.joints_m()
    return _seen(joints, cameras)[1].min() >= _NEAREST_M and not _collides(joints, others)


def _collides(joints_m: np.ndarray, others: list[Actor]) -> bool:
    return any(np.linalg.norm(joints_m[:, :, None] - other.joints_m()[:, None], axis=-1).min() < _APART_M for other in others)


def _inside(pixel: np.ndarray, camera: SceneCamera) -> bool:
    return bool(0.05 * camera.width < pixel[0] < 0.95 * camera.width and 0 < pixel[1] < camera.height)


def _overlap(a_px: np.ndarray, b_px: np.ndarray) -> float:
    """Share of frames in which the boxes of two people's joints overlap with their middles less than half a box apart."""
    low = np.maximum(a_px.min(1), b_px.min(1))
    high = np.minimum(a_px.max(1), b_px.max(1))
    return float((low < high).all(-1).mean())
