"""The rasteriser against a ray through every sample and every triangle, and what it paints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.rendering.rasterizer import VisibleTriangles, rasterise
from mchmr_stream.rendering.shading import paint_bodies

WIDTH, HEIGHT = 41, 33
CAMERA = Intrinsics(50.0, 48.0, 19.3, 16.8)


def ball(rings: int = 9, sectors: int = 14) -> tuple[NDArray, NDArray]:
    """A closed sphere of radius 1 whose triangles are counter-clockwise from outside."""
    angle, turn = np.meshgrid(np.linspace(0, np.pi, rings + 1)[1:-1], np.arange(sectors) * 2 * np.pi / sectors, indexing="ij")
    middle = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1).reshape(-1, 3)
    points = np.concatenate([middle, [[0, 0, 1.0], [0, 0, -1.0]]])
    at = lambda ring, sector: ring * sectors + sector % sectors
    faces = []
    for sector in range(sectors):
        faces.append((len(middle), at(0, sector), at(0, sector + 1)))
        faces.append((len(middle) + 1, at(rings - 2, sector + 1), at(rings - 2, sector)))
        for ring in range(rings - 2):
            a, b, c, d = at(ring, sector), at(ring + 1, sector), at(ring + 1, sector + 1), at(ring, sector + 1)
            faces += [(a, b, c), (a, c, d)]
    faces = np.array(faces)
    outwards = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    assert (np.einsum("ij,ij->i", outwards, points[faces].mean(1)) > 0).all()
    return points, faces


def by_rays(vertices: NDArray, faces: NDArray, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """For rays through pixels (x, y): nearest triangle facing the eye (or -1), its depth, and whether an edge is too close to tell."""
    rays = np.stack([(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, np.ones_like(x)], -1).reshape(-1, 3)
    face, depth, unsure = np.full(len(rays), -1), np.full(len(rays), np.inf), np.zeros(len(rays), bool)
    for index, (a, b, c) in enumerate(vertices[faces]):
        normal = np.cross(b - a, c - a)
        along = rays @ normal
        if min(a[2], b[2], c[2]) <= 0:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (a @ normal) / along
            hit = rays * distance[:, None]
            margins = [np.cross(q - p, hit - p) @ normal / (normal @ normal) for p, q in ((a, b), (b, c), (c, a))]
        margin = np.min(margins, 0)
        facing = along < 0
        unsure |= facing & (np.abs(margin) < 2e-3)
        nearer = facing & (margin >= 0) & (distance > 0) & (distance < depth)
        face[nearer], depth[nearer] = index, distance[nearer]
    return face, depth, unsure


def scene(name: str) -> tuple[NDArray, NDArray]:
    points, faces = ball()
    rng = np.random.default_rng(3)
    if name == "ball":
        return points + np.array([0.1, -0.1, 4.0]), faces
    if name == "close ball, cut by the picture":
        return points + np.array([0.5, 0.3, 2.0]), faces
    if name == "two balls, one behind the other":
        return np.concatenate([points + np.array([0.2, 0, 6.0]), points * 0.6 + np.array([-0.1, 0.1, 3.0])]), np.concatenate(
            [faces, faces + len(points)]
        )
    if name == "ball around the camera":
        return points * 3 + np.array([0, 0, 1.0]), faces[:, ::-1]
    soup = rng.normal(size=(40, 3, 3)) * 0.8 + [0, 0, 4.0]
    return soup.reshape(-1, 3), np.arange(120).reshape(-1, 3)


SCENES = [
    "ball",
    "close ball, cut by the picture",
    "two balls, one behind the other",
    "ball around the camera",
    "loose triangles that cross",
]


def rastered(vertices: NDArray, faces: NDArray, fine: int = 1, device: str = "cpu") -> VisibleTriangles:
    points = torch.tensor(vertices, dtype=torch.float32, device=device)
    return rasterise(project(points, CAMERA), 1 / points[:, 2], torch.tensor(faces.copy(), device=device), WIDTH, HEIGHT, fine)


@pytest.mark.parametrize("name", SCENES)
def test_agrees_with_rays(name: str) -> None:
    vertices, faces = scene(name)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    expected_face, expected_depth, unsure = by_rays(vertices, faces, x, y)
    seen = rastered(vertices, faces)
    face, depth = np.full(WIDTH * HEIGHT, -1), np.full(WIDTH * HEIGHT, np.inf)
    face[seen.pixel], depth[seen.pixel] = seen.face, 1 / seen.inverse_depth
    sure = ~unsure
    assert sure.mean() > 0.8
    assert (expected_face[sure] >= 0).sum() > 100
    np.testing.assert_array_equal(face[sure], expected_face[sure])
    np.testing.assert_allclose(depth[sure], expected_depth[sure], rtol=1e-4)


@pytest.mark.parametrize("name", SCENES)
def test_coverage_counts_samples(name: str) -> None:
    vertices, faces = scene(name)
    y, x = (np.mgrid[: HEIGHT * 2, : WIDTH * 2] + 0.5) / 2 - 0.5
    face, _, unsure = by_rays(vertices, faces, x, y)
    quads = lambda flat: flat.reshape(HEIGHT, 2, WIDTH, 2).sum((1, 3)).ravel()
    sure = quads(unsure) == 0
    coverage = np.zeros(WIDTH * HEIGHT)
    seen = rastered(vertices, faces, fine=2)
    coverage[seen.pixel] = seen.coverage
    np.testing.assert_array_equal(coverage[sure], quads(face >= 0)[sure] / 4)
    assert name == "ball around the camera" or ((coverage > 0) & (coverage < 1)).sum() > 5


def test_a_closed_surface_has_no_pinholes() -> None:
    points, faces = ball(60, 90)
    seen = rastered(points + np.array([0.013, 0.007, 3.0]), faces)
    mask = np.zeros(WIDTH * HEIGHT, bool)
    mask[seen.pixel] = True
    for row in mask.reshape(HEIGHT, WIDTH):
        x = np.flatnonzero(row)
        assert len(x) == 0 or len(x) == x[-1] - x[0] + 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SCENES)
def test_gpu_sees_the_same(name: str) -> None:
    on_cpu, on_gpu = rastered(*scene(name), fine=2), rastered(*scene(name), fine=2, device="cuda")
    assert abs(on_cpu.pixel.numel() - on_gpu.pixel.numel()) <= 2
    common = np.intersect1d(on_cpu.pixel, on_gpu.pixel.cpu())
    cpu, gpu = np.isin(on_cpu.pixel, common), np.isin(on_gpu.pixel.cpu(), common)
    np.testing.assert_allclose(on_cpu.inverse_depth[cpu], on_gpu.inverse_depth.cpu()[gpu], rtol=1e-3)


RED, GREEN = np.array([1, 0, 0], np.float32), np.array([0, 1, 0], np.float32)


def painted(centres: list[tuple[float, float, float]], colours: list[NDArray], opacity: float = 1.0) -> NDArray:
    points, faces = ball()
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    vertices = np.array([points + centre for centre in centres], np.float32)
    paint_bodies(picture, vertices, faces, CAMERA, np.array(colours, np.float32), opacity=opacity)
    return picture


@pytest.mark.parametrize("opacity", [1.0, 0.6])
def test_the_nearer_body_hides_the_other_in_any_order(opacity: float) -> None:
    near, far = (0.4, 0, 4.5), (-1.2, 0, 8.0)
    picture = painted([near, far], [RED, GREEN], opacity)
    np.testing.assert_array_equal(picture, painted([far, near], [GREEN, RED], opacity))
    x, y = project(np.array(near), CAMERA).round().astype(int)
    alone = painted([near], [RED], opacity)
    np.testing.assert_array_equal(picture[y - 3 : y + 4, x - 3 : x + 4], alone[y - 3 : y + 4, x - 3 : x + 4])
    assert (picture[..., 1] > picture[..., 0]).sum() > 10, "the far body shows beside the near one"


def test_bodies_that_do_not_touch_do_not_change_each_other() -> None:
    left, right = (-2.2, 0, 7.0), (2.2, 0, 7.0)
    both = painted([left, right], [RED, GREEN])
    half = WIDTH // 2
    np.testing.assert_array_equal(both[:, :half], painted([left], [RED])[:, :half])
    np.testing.assert_array_equal(both[:, half:], painted([right], [GREEN])[:, half:])


def test_the_outline_of_a_body_that_fills_a_large_picture_is_soft() -> None:
    points, faces = ball(60, 90)
    size = 1200
    picture = np.zeros((size, size, 3), np.uint8)
    vertices = (points + np.array([0, 0, 4.0]))[None].astype(np.float32)
    camera = Intrinsics(2200.0, 2200.0, (size - 1) / 2, (size - 1) / 2)
    paint_bodies(picture, vertices, faces, camera, RED[None], opacity=1.0)
    seen = rasterise(
        project(torch.from_numpy(vertices[0]), camera), 1 / torch.from_numpy(vertices[0, :, 2]), torch.from_numpy(faces), size, size, 2
    )
    assert len(seen.pixel) > 1_000_000
    red = picture[..., 0].reshape(-1)[seen.pixel]
    whole, half = (red[(seen.coverage == coverage).numpy()] for coverage in (1, 0.5))
    assert len(half) > 500
    assert 0 < half.min() < 0.6 * whole.min(), "neither left out nor painted whole"
    assert (picture.reshape(-1, 3)[:, 1:] == 0).all()


def test_opacity_mixes_body_and_picture() -> None:
    solid, mixed = painted([(0, 0, 4)], [RED]), painted([(0, 0, 4)], [RED], 0.75)
    np.testing.assert_allclose(mixed, 0.75 * solid.astype(float) + 0.25 * 40, atol=1.01)


def test_light_falls_from_above_and_changes_smoothly() -> None:
    red = painted([(0, 0, 3.5)], [RED])[..., 0].astype(int)
    x, y = round(CAMERA.cx), round(CAMERA.cy)
    assert red[y - 7, x] > red[y + 7, x] + 20
    inside = red[y - 8 : y + 9, x]
    assert np.abs(np.diff(inside)).max() < 30


@pytest.mark.parametrize("centre", [(0, 0, -4.0), (50, 0, 4.0), (0, -50, 4.0), (np.nan, 0, 4.0), (0, 0, np.inf)])
def test_bodies_that_cannot_be_seen_change_nothing(centre: tuple[float, float, float]) -> None:
    assert (painted([centre], [RED]) == 40).all()


def test_a_body_around_the_lens_is_no_error() -> None:
    assert painted([(0.2, 0, 0.5)], [RED]).shape == (HEIGHT, WIDTH, 3)
