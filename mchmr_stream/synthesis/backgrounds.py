"""Backgrounds: panoramas, pictures, and generated rooms that are always available. Each comes with its light.

A folder may hold pictures (png, jpg, webp) and panoramas: OpenEXR files, or the `*.exr.js` modules of the npm package `@pmndrs/assets` (18
CC0 panoramas: `npm pack @pmndrs/assets@1.7.0`, unpack, use its `hdri` folder). Debian's `mate-backgrounds` and `ukui-wallpapers` (`apt-get
download`, `dpkg-deb -x`) are pictures that may be added. Subfolders are searched too. No picture should show people: they would
be unlabelled.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mchmr_stream.errors import InputError
from mchmr_stream.synthesis.lighting import Light, drawn_light, light_of_panorama
from mchmr_stream.synthesis.random_cameras import SceneCamera
from mchmr_stream.synthesis.rooms import draw_room

_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_LARGEST_PX = 1600


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A background without people."""

    rgb: Tensor
    """(height, width, 3) display values 0..255"""
    depth_m: Tensor
    """(height, width) of objects that can occlude people; infinite elsewhere"""
    light: Light
    name: str


class BackgroundBank:
    """Pictures and panoramas of a folder; without one, only rooms."""

    def __init__(self, folder: Path | None) -> None:
        self._pictures: list[tuple[str, np.ndarray]] = []
        self._panoramas: list[tuple[str, np.ndarray, np.ndarray]] = []
        """name, radiance, and a small copy of it for lighting"""
        if folder is None:
            return
        if not folder.is_dir():
            raise InputError(f"background folder {folder} does not exist; leave it out to use drawn rooms only")
        # Links are followed: a folder of pictures often consists of links.
        for path in sorted(Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names):
            if path.name.endswith((".exr", ".exr.js")):
                radiance = _read_panorama(path)
                self._panoramas.append((path.name.split(".")[0], radiance, _shrunk(radiance)))
            elif path.suffix.lower() in _PICTURE_ENDINGS:
                self._pictures.append((path.stem, _read_picture(path)))
        if not self._pictures and not self._panoramas:
            raise InputError(f"no pictures or .exr panoramas found under {folder}; leave it out to use drawn rooms only")

    def draw(self, rng: np.random.Generator, camera: SceneCamera, standing_m: np.ndarray, moving: bool = False) -> Backdrop:
        """Draw a background for this camera.

        Args:
            rng: random numbers. If `standing_m` is the same for all frames, equal random numbers give the same background in all of them.
            camera: the camera.
            standing_m: (n, 3) points of the world, of all people and camera positions of all frames, that must not be inside a wall.
            moving: the camera moves; flat pictures, which would move with it, are then not used.
        """
        flat = bool(self._pictures) and not moving
        kinds = ["room"] * 2 + ["panorama"] * 2 * bool(self._panoramas) + ["picture"] * flat
        kind = kinds[rng.integers(len(kinds))]
        if kind == "panorama":
            return self._draw_panorama(rng, camera)
        if kind == "picture":
            return self._draw_picture(rng, camera)
        light = self._any_light(rng)
        textures = [picture for _, picture in self._pictures]
        rgb, depth = draw_room(rng, camera, standing_m, textures)
        return Backdrop(rgb, depth, light, "room")

    def _any_light(self, rng: np.random.Generator) -> Light:
        if self._panoramas and rng.random() < 0.5:
            return light_of_panorama(self._panoramas[rng.integers(len(self._panoramas))][2], rng.uniform(0, 2 * np.pi))
        return drawn_light(rng, rng.uniform(0.85, 1.1, 3))

    def _draw_panorama(self, rng: np.random.Generator, camera: SceneCamera) -> Backdrop:
        name, radiance, small = self._panoramas[rng.integers(len(self._panoramas))]
        yaw = rng.uniform(0, 2 * np.pi)
        directions = view_directions(camera)
        azimuth = torch.atan2(directions[..., 0], directions[..., 2]) + yaw
        column = (azimuth / (2 * np.pi) + 0.5).remainder(1) * 2 - 1
        row = torch.acos(directions[..., 1].clamp(-1, 1)) / np.pi * 2 - 1
        display = _display(radiance, rng.uniform(0.8, 1.3))
        grid = torch.stack([column, row], -1)[None]
        picture = torch.as_tensor(display, dtype=torch.float32).permute(2, 0, 1)[None]
        rgb = torch.nn.functional.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
        rgb = rgb.permute(1, 2, 0).contiguous()
        return Backdrop(rgb, torch.full(rgb.shape[:2], torch.inf), light_of_panorama(small, yaw), f"panorama:{name}")

    def _draw_picture(self, rng: np.random.Generator, camera: SceneCamera) -> Backdrop:
        name, picture = self._pictures[rng.integers(len(self._pictures))]
        rgb = torch.as_tensor(random_crop(rng, picture, camera.height, camera.width))
        tint = 0.5 + 0.5 * rgb.mean((0, 1)).numpy() / max(float(rgb.mean()), 1.0)
        return Backdrop(rgb, torch.full(rgb.shape[:2], torch.inf), drawn_light(rng, tint), f"picture:{name}")


def view_directions(camera: SceneCamera) -> Tensor:
    """Unit vectors (height, width, 3) from the camera through each pixel, in world axes."""
    k = camera.intrinsics
    x = (torch.arange(camera.width) - k.cx) / k.fx
    y = (torch.arange(camera.height) - k.cy) / k.fy
    shape = camera.height, camera.width
    directions = torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape)], -1)
    return torch.nn.functional.normalize(directions @ camera.camera_from_world, dim=-1)


def random_crop(rng: np.random.Generator, picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut a random part of a picture (h, w, 3) uint8 at random scale, possibly mirrored -> (height, width, 3) float32 0..255."""
    scale = rng.uniform(0.4, 1.0) * min(picture.shape[0] / height, picture.shape[1] / width)
    part_h, part_w = scale * height, scale * width
    top, left = rng.uniform(0, picture.shape[0] - part_h), rng.uniform(0, picture.shape[1] - part_w)
    box = (left, top, left + part_w, top + part_h)
    crop = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box), np.float32)
    return crop[:, ::-1].copy() if rng.random() < 0.5 else crop


def _display(radiance: np.ndarray, brightness: float) -> np.ndarray:
    """Linear radiance -> display values 0..255, exposed for its median (Reinhard's curve)."""
    exposed = radiance * brightness * 0.5 / max(float(np.exp(np.log(radiance.mean(-1) + 1e-4).mean())), 1e-4)
    return 255 * (exposed * (1 + exposed / 9) / (1 + exposed)).clip(0, 1) ** 0.5


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            file.draft("RGB", (_LARGEST_PX, _LARGEST_PX))
            picture = file.convert("RGB")
    except OSError as error:
        raise InputError(f"cannot read background {path}: {error}; remove it or replace it by a png, jpg or webp") from error
    picture.thumbnail((_LARGEST_PX, _LARGEST_PX))
    return np.asarray(picture)


def _read_panorama(path: Path) -> np.ndarray:
    """(h, w, 3) float32 linear radiance of an OpenEXR file with half-float planes, plain or inside a JavaScript data URI."""
    import av  # only panoramas need it: Pillow cannot read them

    content = path.read_bytes()
    try:
        if path.name.endswith(".js"):
            content = base64.b64decode(content.split(b"base64,", 1)[1].split(b"'", 1)[0], validate=True)
        with av.open(io.BytesIO(content), format="exr_pipe") as container:
            frame = next(container.decode(video=0))
    except (IndexError, binascii.Error, av.FFmpegError, StopIteration) as error:
        raise InputError(f"cannot read panorama {path}: {error}; expected OpenEXR, or a .exr.js module with one inside") from error
    numbers = {"gbrpf16le": np.float16, "gbrapf16le": np.float16, "gbrpf32le": np.float32, "gbrapf32le": np.float32}
    if frame.format.name not in numbers:
        raise InputError(f"panorama {path} decodes to {frame.format.name}, expected red, green and blue in floating point")
    dtype = np.dtype(numbers[frame.format.name])
    planes = [
        np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width] for plane in frame.planes[:3]
    ]
    green, blue, red = planes
    return _without_ringing(np.nan_to_num(np.stack([red, green, blue], -1).astype(np.float32), posinf=6e4).clip(0, 6e4))


def _shrunk(radiance: np.ndarray, step: int = 8) -> np.ndarray:
    """Block means, for lighting; incomplete blocks at the right and lower border are dropped."""
    height, width = (max(n // step, 1) for n in radiance.shape[:2])
    step_h, step_w = radiance.shape[0] // height, radiance.shape[1] // width
    return radiance[: height * step_h, : width * step_w].reshape(height, step_h, width, step_w, 3).mean((1, 3))


def _without_ringing(radiance: np.ndarray) -> np.ndarray:
    """Remove black specks that lossy compression leaves near bright parts: raise values far under their surroundings' median."""
    padded = np.pad(radiance, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = radiance.shape[:2]
    around = np.stack([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])
    median = np.median(around, 0)
    return np.where(radiance < 0.25 * median, median, radiance)
