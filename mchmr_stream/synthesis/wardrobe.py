"""Random outfits with skin, eyes, hair, clothes, shoes and their colours, as one mesh on the rig."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mchmr_stream.errors import InputError
from mchmr_stream.geometry.meshes import vertex_normals
from mchmr_stream.synthesis.garments import Mesh, fitted_garment, load_proxies, triangles
from mchmr_stream.synthesis.rig import EYE_VERTICES, SKIN_VERTICES, RenderBody
from mchmr_stream.synthesis.textures import PLAIN, Material, TextureBank, pattern_bank

SKIN_TONES_SRGB = ((0.91, 0.75, 0.66), (0.87, 0.68, 0.56), (0.79, 0.59, 0.45), (0.65, 0.46, 0.33), (0.48, 0.32, 0.23), (0.33, 0.22, 0.17))
"""Mean skin colour of the six tones, light to dark; a person's label is the index."""
_HAIR_SRGB = (
    (0.08, 0.07, 0.06),
    (0.16, 0.11, 0.08),
    (0.30, 0.20, 0.13),
    (0.50, 0.36, 0.22),
    (0.72, 0.58, 0.38),
    (0.42, 0.18, 0.10),
    (0.60, 0.60, 0.60),
)
_MALE_HAIR = ("short01", "short02", "short03", "short04")
_GREY_CLOTH = 0.4


@dataclass(frozen=True)
class Piece:
    """One piece of clothing: a proxy by name, or a fitted garment `top:LENGTH:THICKNESS` / `bottom:...`."""

    name: str
    materials: tuple[Material, ...]


@dataclass(frozen=True)
class Outfit:
    """Appearance of a person, apart from the body shape."""

    skin_tone: int
    skin: Material
    eyes: Material
    pieces: tuple[Piece, ...]

    @property
    def names(self) -> str:
        """Names of all pieces in one word."""
        return "+".join(piece.name for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class DressedMesh:
    """All meshes of one person, at rest."""

    parts: tuple[Mesh, ...]
    materials: tuple[Material, ...]
    """of all slots of all parts, in order"""


class Wardrobe:
    """Clothes, hair and skins of the data folder."""

    def __init__(self, data: Path, body: RenderBody) -> None:
        folder = data / "people" / "makehuman"
        self._body = body
        self._proxies = load_proxies(folder, body)
        self._skins = sorted((folder / "skins").glob("*diffuse*.webp"))
        self._eyes = sorted((folder / "eyes").glob("*.webp"))
        if not self._skins or not self._eyes:
            raise InputError(f"no skins or eyes found under {folder}, expected skins/*diffuse*.webp and eyes/*.webp")
        self.textures = TextureBank([*self._skins, *self._eyes, *(proxy.texture for proxy in self._proxies.values())])
        self.patterns = pattern_bank()
        self._suits = {sex: [name for name in self._proxies if name.startswith(f"{sex}_")] for sex in ("female", "male")}
        self._shoes = [name for name in self._proxies if name.startswith("shoes")]
        self._hair = [name for name, proxy in self._proxies.items() if proxy.texture.parent.parent.name == "hair"]
        self._normals = vertex_normals(body.template_m.numpy(), triangles(body.quads))
        self._skin, self._skin_quads = _skin_and_eyes(body, self._normals)
        self._fitted = lru_cache(maxsize=64)(self._make_fitted)
        self._part = lru_cache(maxsize=64)(self._make_skin)

    def draw(self, rng: np.random.Generator, sex: str) -> Outfit:
        """Draw a random outfit: half MakeHuman suits, half fitted tops and trousers."""
        tone = int(rng.integers(len(SKIN_TONES_SRGB)))
        pieces = self._draw_suit(rng, sex) if rng.random() < 0.5 else self._draw_fitted(rng, sex)
        if rng.random() < 0.88:
            name = str(rng.choice(self._shoes))
            pieces.append(Piece(name, (self._recoloured(rng, name, keep_probability=0.5),) * 2))
        if not (sex == "male" and rng.random() < 0.15):
            pieces.append(self._draw_hair(rng, sex, tone))
        eyes = Material(self.textures.index[self._eyes[rng.integers(len(self._eyes))]])
        return Outfit(tone, self._draw_skin(rng, sex, tone), eyes, tuple(pieces))

    def naked(self) -> Outfit:
        """Return the bare render body, for tests."""
        return Outfit(0, Material(self.textures.index[self._skins[0]]), Material(self.textures.index[self._eyes[0]]), ())

    def dress(self, outfit: Outfit) -> DressedMesh:
        """Build the outfit's mesh and materials."""
        parts, materials = [], [outfit.skin, outfit.eyes]
        hidden = np.zeros(SKIN_VERTICES, bool)
        for piece in outfit.pieces:
            mesh, hides = self._mesh_of(piece.name)
            hidden |= hides
            parts.append(mesh)
            materials += piece.materials[: mesh.slots]
        return DressedMesh((self._part(hidden.tobytes()), *parts), tuple(materials))

    def _mesh_of(self, name: str) -> tuple[Mesh, np.ndarray]:
        if name in self._proxies:
            proxy = self._proxies[name]
            return proxy.mesh, proxy.hidden_skin
        return self._fitted(name)

    def _make_fitted(self, name: str) -> tuple[Mesh, np.ndarray]:
        kind, length, thickness = name.split(":")
        return fitted_garment(self._body, self._normals, kind, float(length), float(thickness))

    def _make_skin(self, hidden_bytes: bytes) -> Mesh:
        """Visible skin (slot 0) and eyes (slot 1). Its first SKIN_VERTICES vertices are all of the skin."""
        full, hidden = self._skin, torch.frombuffer(bytearray(hidden_bytes), dtype=torch.bool)
        hidden = torch.cat([hidden, torch.zeros(len(full.template_m) - SKIN_VERTICES, dtype=torch.bool)])
        drawn = ~hidden[self._skin_quads].all(1).repeat(2)
        return replace(full, faces=full.faces[drawn], corner_uv=full.corner_uv[drawn], slot=full.slot[drawn])

    def _draw_skin(self, rng: np.random.Generator, sex: str, tone: int) -> Material:
        """A skin of the given sex, adjusted to the tone; dark tones start from dark textures if available."""
        of_sex = f"_{sex}_"
        choices = [path for path in self._skins if of_sex in path.name]
        shade = "dark" if tone >= 3 else "light"
        choices = [path for path in choices if shade in path.name] or choices
        texture = self.textures.index[choices[rng.integers(len(choices))]]
        target = _linear(np.array(SKIN_TONES_SRGB[tone]) * rng.uniform(0.93, 1.07))
        gain = target / self.textures.mean_linear[texture].numpy()
        return Material(texture, _colour(gain))

    def _draw_hair(self, rng: np.random.Generator, sex: str, tone: int) -> Piece:
        names = [name for name in self._hair if sex == "female" or name in _MALE_HAIR or rng.random() < 0.1]
        name = str(rng.choice(names))
        weights = np.array([4, 4, 2, 1, 1, 0.5, 1]) if tone < 3 else np.array([6, 4, 1, 0.2, 0.1, 0.1, 1])
        colour = _linear(np.array(_HAIR_SRGB[rng.choice(len(_HAIR_SRGB), p=weights / weights.sum())]) * rng.uniform(0.8, 1.2))
        material = Material(self._texture_of(name), _colour(colour), keep=0.0)
        return Piece(name, (material, material))

    def _draw_suit(self, rng: np.random.Generator, sex: str) -> list[Piece]:
        name = str(rng.choice(self._suits[sex]))
        return [Piece(name, (self._recoloured(rng, name, 0.3), self._recoloured(rng, name, 0.3)))]

    def _draw_fitted(self, rng: np.random.Generator, sex: str) -> list[Piece]:
        sleeve = float(rng.choice([0.0, 0.3, 0.4, 0.5, 1.0], p=[0.15, 0.25, 0.25, 0.1, 0.25]))
        leg = float(rng.choice([0.12, 0.35, 0.5, 0.75, 0.97], p=[0.1, 0.2, 0.2, 0.1, 0.4]))
        loose = float(rng.choice([0.006, 0.012, 0.02]))
        bottom = Piece(f"bottom:{leg}:{rng.choice([0.005, 0.01, 0.016])}", (self._cloth(rng, self.textures.plain_cloth),))
        if sex == "male" and rng.random() < 0.1:
            return [bottom]
        return [bottom, Piece(f"top:{sleeve}:{loose}", (self._cloth(rng, self.textures.plain_cloth),))]

    def _recoloured(self, rng: np.random.Generator, name: str, keep_probability: float) -> Material:
        texture = self._texture_of(name)
        if rng.random() < keep_probability:
            return Material(texture, _colour(rng.uniform(0.8, 1.2) * np.ones(3)))
        return self._cloth(rng, texture)

    def _cloth(self, rng: np.random.Generator, texture: int) -> Material:
        first, second = _cloth_colour(rng), _cloth_colour(rng)
        pattern = int(rng.integers(len(self.patterns))) if rng.random() < 0.25 else PLAIN
        return Material(texture, first, second, 0.0, pattern, float(rng.choice([1, 2, 3, 5, 8])))

    def _texture_of(self, name: str) -> int:
        return self.textures.index[self._proxies[name].texture]


def _skin_and_eyes(body: RenderBody, normals: np.ndarray) -> tuple[Mesh, torch.Tensor]:
    """All skin (slot 0) and eyes (slot 1) as one mesh, and its quads (q, 4); triangles i and i + q form quad i."""
    is_eye = ((body.quads >= EYE_VERTICES[0]) & (body.quads < EYE_VERTICES[1])).all(1)
    is_skin = (body.quads < SKIN_VERTICES).all(1)
    chosen = np.concatenate([np.flatnonzero(is_skin), np.flatnonzero(is_eye)])
    slot = np.r_[np.zeros(is_skin.sum(), np.int64), np.ones(is_eye.sum(), np.int64)]
    kept = np.r_[0:SKIN_VERTICES, EYE_VERTICES[0] : EYE_VERTICES[1]]
    quads = np.searchsorted(kept, body.quads[chosen])
    mesh = Mesh(
        body.template_m[kept], body.directions[kept], body.weights[kept], torch.as_tensor(normals[kept]),
        torch.as_tensor(triangles(quads)), torch.as_tensor(body.uv[triangles(body.quads_uv[chosen])]),
        torch.as_tensor(np.tile(slot, 2)), 2, double_sided=False,
    )  # fmt: skip
    return mesh, torch.as_tensor(quads)


def _cloth_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A random colour: mostly white, grey, black, blue or muted, sometimes vivid."""
    kind = rng.random()
    if kind < _GREY_CLOTH:
        srgb = np.full(3, rng.beta(1.2, 1.2) * 0.85 + 0.07) * rng.uniform(0.95, 1.05, 3)
    else:
        hue, saturation, value = rng.random(), rng.beta(1.6, 2.0), rng.uniform(0.2, 0.95)
        if kind < _GREY_CLOTH + 0.2:
            hue, saturation = rng.uniform(0.55, 0.68), rng.uniform(0.25, 0.8)
        offsets = np.array([5, 3, 1]) + hue * 6
        wheel = offsets % 6
        srgb = value * (1 - saturation * np.clip(np.minimum(wheel, 4 - wheel), 0, 1))
    return _colour(_linear(srgb))


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.clip(srgb, 0, 1) ** 2


def _colour(linear: np.ndarray) -> tuple[float, float, float]:
    return float(linear[0]), float(linear[1]), float(linear[2])
