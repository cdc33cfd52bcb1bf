"""Crops: against slow obvious code, by laws, and through the camera they claim to be a view of."""

from __future__ import annotations

import functools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figures import FIGURE
from hypothesis import given, settings
from hypothesis import strategies as st

from mchmr_stream.cropping.base_box import base_boxes
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.cropping.warp import shared_reductions
from mchmr_stream.cropping.whole_body import STANDING
from mchmr_stream.datatypes import CropBatch, Frame, Tracks
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics, local_from_full, project, roll_matrix, turn
from mchmr_stream.geometry.crops import (
    crop_from_rolled,
    image_from_crop_affine,
    image_from_rolled,
    rolled_from_crop,
    rolled_from_image,
    unit_from_rolled,
)


def figure(x: float, y: float, height: float, angle: float = 0.0, score: float = 0.9) -> np.ndarray:
    """Keypoints (17, 3) of a person whose middle is at (x, y), turned clockwise on the screen."""
    points = turn((FIGURE - np.array([0, 0.5])) * height, angle) + np.array([x, y])
    return np.concatenate([points, np.full((17, 1), score)], 1)


def tracks_of(*keypoints: np.ndarray) -> Tracks:
    points = np.array(keypoints, np.float32).reshape(-1, 17, 3)
    n = len(points)
    low, high = (points[..., :2].min(1), points[..., :2].max(1)) if n else (np.zeros((0, 2)), np.zeros((0, 2)))
    boxes = np.concatenate([low, high], 1).astype(np.float32)
    return Tracks(np.arange(1, n + 1), boxes, np.ones(n, np.float32), points, np.ones(n, bool), points)


@functools.cache
def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with structure at every scale and sharp edges, as photographs have."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cell in (4, 8, 16, 32, 64):
        coarse = torch.from_numpy(rng.uniform(0, 1, (1, 3, height // cell + 2, width // cell + 2)))
        fine = F.interpolate(coarse, scale_factor=cell, mode="bilinear", align_corners=False)[0, :, :height, :width]
        picture += fine.permute(1, 2, 0).numpy() * cell
    picture = (picture - picture.min()) / np.ptp(picture) * 220
    for _ in range(40):
        x, y, w, h = rng.uniform(0, 1, 4) * [width, height, width / 5, height / 5]
        picture[int(y) : int(y + h), int(x) : int(x + w)] = rng.uniform(0, 255, 3)
    rgb = picture.astype(np.uint8)
    rgb.flags.writeable = False
    return rgb


def bilinear(rgb: np.ndarray, x: float, y: float) -> np.ndarray:
    """One value at (x, y), by hand; black outside."""
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(3)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        if 0 <= column < rgb.shape[1] and 0 <= row < rgb.shape[0]:
            value += (1 - abs(x - column)) * (1 - abs(y - row)) * rgb[row, column]
    return value


# --- the warp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wide", "paper"])
@pytest.mark.parametrize("where", [(150, 100, 100), (12, 20, 90), (290, 195, 110)], ids=["inside", "top left", "bottom right"])
def test_crops_equal_a_pixel_by_pixel_reference(name, where):
    """Borders, an upright turn, different focal lengths, a principal point off the middle."""
    rgb = textured(200, 300)
    intrinsics = Intrinsics(400.0, 430.0, 140.0, 90.0)
    batch = Cropper(layout(name, 3)).crop(Frame(0, 0.0, rgb), tracks_of(figure(*where, angle=0.4)), intrinsics)
    if name == "wide":
        assert abs(batch.roll_rad[0]) > 0.3
    height, width = batch.crops.shape[-2:]
    for view in range(3):
        cx, cy, side = batch.views_px[0, view].astype(float)
        roll = float(batch.roll_rad[0])
        for row in range(0, height, 9):
            for column in range(0, width, 9):
                rolled_x = cx + ((column + 0.5) / width - 0.5) * side * width / height
                rolled_y = cy + ((row + 0.5) / height - 0.5) * side
                plane_x = math.cos(roll) * rolled_x - math.sin(roll) * rolled_y
                plane_y = math.sin(roll) * rolled_x + math.cos(roll) * rolled_y
                expected = bilinear(rgb, plane_x + 140.0, plane_y * 430.0 / 400.0 + 90.0)
                np.testing.assert_allclose(batch.crops[0, view, :, row, column].numpy(), expected, atol=0.6)


@pytest.mark.parametrize("side", [330, 512, 700, 1000, 1400, 1800])
@pytest.mark.parametrize("finest", [1.0, 0.56], ids=["alone", "with a finer view"])
def test_large_people_are_antialiased(side, finest):
    """Against torch's own antialiased resize of the same square; a plain bilinear warp must be clearly worse."""
    rgb = textured(1900, 1900)
    left, top = 60, 40
    crop = crop_of_square(rgb, left, top, side, finest)
    square = torch.from_numpy(rgb[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    triangle = F.interpolate(square, size=(256, 256), mode="bilinear", antialias=True)[0]
    plain = F.interpolate(square, size=(256, 256), mode="bilinear", antialias=False)[0]
    inner = (slice(None), slice(3, -3), slice(3, -3))  # the reference knows nothing beyond its square
    rms = lambda picture: float((picture[inner] - triangle[inner]).square().mean().sqrt())
    assert rms(crop.float()) < 2.0  # of 255
    if side >= 1000:
        assert rms(plain) > 2 * rms(crop.float())


def crop_of_square(rgb: np.ndarray, left: int, top: int, side: int, finest: float) -> torch.Tensor:
    """The crop (3, 256, 256) of exactly this square of pixels, its reduction shared with a view `finest` times as large."""
    from mchmr_stream.cropping.warp import warp_crops

    intrinsics = Intrinsics(1000.0, 1000.0, 0.0, 0.0)
    middle = (left + side / 2 - 0.5, top + side / 2 - 0.5)
    views = np.array([[[*middle, side], [*middle, side * finest]]])
    affine = image_from_crop_affine(views, np.zeros(1), intrinsics, (256, 256))
    return warp_crops(rgb, affine, (256, 256), [[0, 1]], torch.device("cpu"))[0, 0]


def test_reduction_keeps_positions_to_a_hundredth_of_a_pixel():
    """No half-pixel slips: the middle of a blob stays where it is for every size of person, however much is reduced."""
    for height in (60, 250, 470, 900):
        intrinsics = Intrinsics(1500.0, 1450.0, 700.0, 610.0)
        person = figure(640, 600, height, angle=-0.35)
        blobs = person[[5, 10, 14], :2]
        sigma = height / 60
        y, x = np.mgrid[:1200, :1300].astype(np.float32)
        picture = np.zeros((1200, 1300))
        for bx, by in blobs:
            picture += 250 * np.exp(-((x - bx) ** 2 + (y - by) ** 2) / (2 * sigma**2))
        rgb = np.repeat(np.rint(picture.clip(0, 255)).astype(np.uint8)[..., None], 3, 2)
        batch = Cropper(layout("wide", 5)).crop(Frame(0, 0.0, rgb), tracks_of(person), intrinsics)
        for view in range(5):
            side = float(batch.views_px[0, view, 2])
            for blob in blobs:
                rolled = rolled_from_image(blob[None], intrinsics, batch.roll_rad)
                expected = crop_from_rolled(rolled, batch.views_px[:, view], (256, 256))[0]
                found = centroid(batch.crops[0, view, 0].numpy(), expected, 4 * sigma * 256 / side)
                np.testing.assert_allclose(found, expected, atol=0.03)
                back = image_from_rolled(rolled_from_crop(found[None], batch.views_px[:, view], (256, 256)), intrinsics, batch.roll_rad)
                np.testing.assert_allclose(back[0], blob, atol=0.03 * max(1, side / 256))


def centroid(crop: np.ndarray, around: np.ndarray, radius: float) -> np.ndarray:
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    weight = crop * (np.hypot(x - around[0], y - around[1]) < radius)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def test_nothing_but_black_outside_of_the_frame():
    rgb = np.full((240, 320, 3), 200, np.uint8)
    for height in (100, 600):  # sampled directly, and reduced first
        batch = Cropper(layout("wide", 5), upright=False).crop(
            Frame(0, 0.0, rgb), tracks_of(figure(0, 120, height)), Intrinsics.assumed(320, 240)
        )
        for view in range(5):
            columns = np.arange(256)
            x = (columns + 0.5) / 256 * batch.views_px[0, view, 2] - batch.views_px[0, view, 2] / 2 + batch.views_px[0, view, 0] + 159.5
            step = batch.views_px[0, view, 2] / 256
            middle_row = batch.crops[0, view, 0, 118:138].numpy()
            assert (middle_row[:, x < -1 - 2 * step] == 0).all()
            assert (middle_row[:, (x > 2 * step) & (x < 319 - 2 * step)] == 200).all()
            assert (middle_row[:, x > 320 + 2 * step] == 0).all()


def test_a_person_wholly_outside_gives_black_crops():
    rgb = np.full((100, 100, 3), 255, np.uint8)
    for where in ((-900, 50), (50, 2000), (5000, -5000)):
        batch = Cropper(layout("wide", 5)).crop(Frame(0, 0.0, rgb), tracks_of(figure(*where, 120)), Intrinsics.assumed(100, 100))
        assert batch.crops.max() == 0


def test_absurd_boxes_do_not_take_absurd_memory():
    rgb = textured(100, 160)
    people = [figure(80, 50, 1e-3), figure(80, 50, 9e4), figure(9e4, -9e4, 50), figure(80, 50, 60)]
    batch = Cropper(layout("wide", 5)).crop(Frame(0, 0.0, rgb), tracks_of(*people), Intrinsics.assumed(160, 100))
    assert np.isfinite(batch.views_px).all()
    assert (batch.base_px[:, 2] >= 8).all()
    assert batch.crops[3].float().std() > 10


def test_crops_lie_in_memory_as_convolutions_like_them_for_any_number_of_people():
    """Colours last, also when several batches are joined: turned back and forth, crops cost twice the time."""
    rgb, cropper, camera = textured(200, 300), Cropper(layout("wide", 3)), Intrinsics.assumed(300, 200)
    batches = [cropper.crop(Frame(0, 0.0, rgb), tracks_of(*[figure(100 + 20 * i, 100, 90) for i in range(n)]), camera) for n in (1, 5, 2)]
    both = CropBatch.concat(batches)
    for crops in (*(batch.crops for batch in batches), both.crops):
        assert crops.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(both.crops, torch.cat([batch.crops for batch in batches]))


# --- laws ------------------------------------------------------------------------------------------------------------

finite = st.floats(-2000, 2000)


@settings(max_examples=50, deadline=None)
@given(finite, finite, st.floats(-7, 7), st.floats(8, 3000), st.sampled_from([(256, 256), (256, 192)]), st.floats(0.5, 2))
def test_positions_survive_the_way_into_a_crop_and_back(x, y, roll, side, crop_hw, aspect):
    intrinsics = Intrinsics(900.0, 900.0 * aspect, 500.0, 300.0)
    point, view, roll_rad = np.array([[x, y]]), np.array([[30.0, -40.0, side]]), np.array([roll])
    rolled = rolled_from_image(point, intrinsics, roll_rad)
    crop = crop_from_rolled(rolled, view, crop_hw)
    np.testing.assert_allclose(image_from_rolled(rolled_from_crop(crop, view, crop_hw), intrinsics, roll_rad), point, atol=1e-6)
    affine = image_from_crop_affine(view[:, None], roll_rad, intrinsics, crop_hw)[0, 0]
    np.testing.assert_allclose(affine @ [*crop[0], 1], point[0], atol=1e-6)


def test_crop_geometry_is_the_same_in_torch():
    rng = np.random.default_rng(0)
    points, views, roll = rng.normal(0, 300, (4, 3, 17, 2)), rng.uniform(50, 400, (4, 3, 3)), rng.normal(0, 1, 4)
    intrinsics = Intrinsics(900.0, 950.0, 500.0, 300.0)
    ours = crop_from_rolled(rolled_from_image(points, intrinsics, roll), views, (256, 192))
    in_torch = crop_from_rolled(
        rolled_from_image(torch.from_numpy(points), intrinsics, torch.from_numpy(roll)), torch.from_numpy(views), (256, 192)
    )
    np.testing.assert_allclose(in_torch.numpy(), ours, atol=1e-9)


def test_unit_coordinates_name_pixel_centres():
    view = np.array([[10.0, 20.0, 256.0]])
    corner = rolled_from_crop(np.array([[0.0, 0.0]]), view, (256, 192))
    np.testing.assert_allclose(unit_from_rolled(corner, view, (256, 192)), [[2 * 0.5 / 192 - 1, 2 * 0.5 / 256 - 1]])
    np.testing.assert_allclose(corner, [[10 - 95.5, 20 - 127.5]])


@pytest.mark.parametrize("height", [150, 640], ids=["sampled directly", "reduced"])
@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_turned_picture_gives_the_same_crops(height, quarter_turns):
    rgb = textured(700, 800, seed=3)
    person = figure(380, 360, height, angle=0.2)
    intrinsics = Intrinsics(1000.0, 1000.0, 399.5, 349.5)
    turned = np.ascontiguousarray(np.rot90(rgb, -quarter_turns))  # clockwise
    turned_person = person.copy()
    middle = [(turned.shape[1] - 1) / 2, (turned.shape[0] - 1) / 2]
    turned_person[:, :2] = turn(person[:, :2] - [399.5, 349.5], quarter_turns * math.pi / 2) + middle
    cropper = Cropper(layout("wide", 5))
    one = cropper.crop(Frame(0, 0.0, rgb), tracks_of(person), intrinsics)
    other = cropper.crop(Frame(0, 0.0, turned), tracks_of(turned_person), Intrinsics(1000.0, 1000.0, *middle))
    turned_by = (other.roll_rad - one.roll_rad - quarter_turns * math.pi / 2 + math.pi) % (2 * math.pi) - math.pi
    np.testing.assert_allclose(turned_by, 0, atol=1e-5)
    np.testing.assert_allclose(other.views_px, one.views_px, atol=0.01)
    difference = (one.crops.float() - other.crops.float()).abs()
    assert difference.mean() < (0.05 if height == 150 else 0.6)
    assert one.crops.float().std() > 20  # there is something to see


def test_one_camera_explains_every_crop():
    """A point at the body's depth: pinhole camera -> picture -> crop lands where each view's weak-perspective camera says."""
    intrinsics = Intrinsics(1200.0, 1150.0, 600.0, 420.0)
    point_m = np.array([0.25, -0.4, 0.0])  # relative to the translation
    rolled_transl = np.array([[0.3, 0.2, 3.0]])
    person = figure(700, 500, 420, angle=0.5)
    tracks = tracks_of(person)
    cropper = Cropper(layout("wide", 9))
    roll = cropper.crop(Frame(0, 0.0, np.zeros((800, 1200, 3), np.uint8)), tracks, intrinsics).roll_rad
    image = project((roll_matrix(roll) @ (rolled_transl + point_m)[..., None])[..., 0], intrinsics)[0]
    y, x = np.mgrid[:800, :1200]
    blob = 250 * np.exp(-((x - image[0]) ** 2 + (y - image[1]) ** 2) / (2 * 5.0**2))
    rgb = np.repeat(np.rint(blob).astype(np.uint8)[..., None], 3, 2)
    batch = cropper.crop(Frame(0, 0.0, rgb), tracks, intrinsics)
    cameras = local_from_full(rolled_transl, batch.views_px.astype(float), batch.focal_px.astype(float))
    for view in range(9):
        scale, tx, ty = cameras[0, view]
        unit = scale * (point_m[:2] + np.array([tx, ty]))
        expected = (unit + 1) * 128 - 0.5
        assert (abs(unit) < 1).all()
        np.testing.assert_allclose(centroid(batch.crops[0, view, 0].numpy(), expected, 20), expected, atol=0.05)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", range(1, 10))
@pytest.mark.parametrize(("name", "hw"), [("wide", (256, 256)), ("paper", (256, 192))])
def test_any_number_of_views(name, hw, views):
    cropper = Cropper(layout(name, views))
    batch = cropper.crop(
        Frame(0, 0.0, textured(120, 160)), tracks_of(figure(60, 60, 50), figure(110, 50, 70)), Intrinsics.assumed(160, 120)
    )
    assert batch.crops.shape == (2, views, 3, *hw)
    assert batch.crops.dtype == torch.uint8
    np.testing.assert_allclose(batch.views_px[:, :, 2], batch.base_px[:, 2:] * layout(name, views).views[:, 2], rtol=1e-6)


def test_nobody_gives_an_empty_batch():
    batch = Cropper(layout("wide", 4)).crop(Frame(0, 0.0, textured(50, 60)), tracks_of(), Intrinsics.assumed(60, 50))
    assert len(batch) == 0
    assert batch.crops.shape == (0, 4, 3, 256, 256)


def test_people_do_not_disturb_each_other():
    frame, intrinsics = Frame(0, 0.0, textured(480, 640)), Intrinsics.assumed(640, 480)
    people = [figure(100 + 80 * i, 200 + 20 * i, 60 + 90 * i, angle=0.3 * i) for i in range(6)]
    cropper = Cropper(layout("wide", 5))
    together = cropper.crop(frame, tracks_of(*people), intrinsics)
    for i, person in enumerate(people):
        alone = cropper.crop(frame, tracks_of(person), intrinsics)
        np.testing.assert_array_equal(alone.views_px[0], together.views_px[i])
        assert (alone.crops[0].int() - together.crops[i].int()).abs().max() <= 1  # float rounding of the shared atlas


@pytest.mark.gpu
def test_the_gpu_cuts_the_same_crops():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    frame, intrinsics = Frame(0, 0.0, textured(1900, 1900)), Intrinsics.assumed(1900, 1900)
    tracks = tracks_of(figure(400, 500, 90, 0.2), figure(900, 900, 1500, 0.3))  # sampled directly, and reduced first
    on_cpu, on_gpu = (Cropper(layout("wide", 5), device=device).crop(frame, tracks, intrinsics).crops for device in ("cpu", "cuda"))
    assert on_gpu.device.type == "cuda"
    difference = (on_gpu.cpu().int() - on_cpu.int()).abs()
    assert difference.max() <= 2
    assert difference.float().mean() < 0.3


def test_keypoints_come_in_the_rolled_plane_and_never_as_nan():
    person = figure(300, 200, 150, angle=0.6)
    person[9] = [np.nan, np.nan, 0]
    tracks = tracks_of(figure(300, 200, 150, angle=0.6))
    tracks.keypoints_px[0] = person
    intrinsics = Intrinsics.assumed(640, 480)
    batch = Cropper(layout("wide", 2)).crop(Frame(0, 0.0, textured(480, 640)), tracks, intrinsics)
    assert np.isfinite(batch.keypoints_px).all()
    assert batch.keypoints_px[0, 9, 2] == 0
    trunk = batch.keypoints_px[0, [5, 6], :2].mean(0) - batch.keypoints_px[0, [11, 12], :2].mean(0)
    assert trunk[1] < 0
    assert abs(trunk[0]) < 1e-3 * abs(trunk[1])  # points up
    back = image_from_rolled(batch.keypoints_px[..., :2], intrinsics, batch.roll_rad)
    np.testing.assert_allclose(back[0, 0], person[0, :2], atol=1e-3)


# --- the base box ----------------------------------------------------------------------------------------------------

K = Intrinsics.assumed(1280, 720)


@settings(max_examples=50, deadline=None)
@given(st.floats(-math.pi, math.pi), st.floats(40, 900), finite, finite)
def test_the_base_box_follows_the_training_rule(angle, height, x, y):
    person = figure(x, y, height, angle)
    base, roll = base_boxes(tracks_of(person), K, layout("wide"))
    plane = person[:, :2] - [K.cx, K.cy]
    trunk = plane[[5, 6]].mean(0) - plane[[11, 12]].mean(0)
    expected_roll = math.atan2(trunk[0], -trunk[1])
    assert abs((roll[0] - expected_roll + math.pi) % (2 * math.pi) - math.pi) < 1e-4
    points = turn(plane, -float(roll[0]))[[0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]]
    low, high = points.min(0), points.max(0)
    np.testing.assert_allclose(base[0, :2], (low + high) / 2, atol=0.02)
    np.testing.assert_allclose(base[0, 2], 1.35 * (high - low).max(), rtol=1e-4)


def test_not_upright_is_not_turned():
    _, roll = base_boxes(tracks_of(figure(600, 300, 200, 0.7)), K, layout("wide"), upright=False)
    assert roll[0] == 0


def test_the_paper_rule_uses_the_box():
    tracks = tracks_of(figure(640, 360, 300, 0.5))
    tracks.boxes_xyxy_px[0] = [100, 200, 400, 300]
    base, roll = base_boxes(tracks, K, layout("paper"))
    np.testing.assert_allclose(base[0], [250 - 639.5, 250 - 359.5, 1.2 * 4 / 3 * 300], rtol=1e-6)
    assert roll[0] == 0


def test_box_and_roll_fade_as_scores_fade():
    """No jump anywhere while keypoints go from seen to unseen, one after the other, with a box that disagrees."""
    for order in (range(17), reversed(range(17))):
        person = figure(640, 360, 300, 0.6)
        states = []
        for keypoint in order:
            for score in np.linspace(0.9, 0.0, 46):
                person[keypoint, 2] = score
                tracks = tracks_of(person)
                tracks.boxes_xyxy_px[0] = [500, 200, 800, 560]
                base, roll = base_boxes(tracks, K, layout("wide"))
                states.append([*base[0], 400 * roll[0]])
        steps = abs(np.diff(np.array(states), axis=0))
        assert steps.max() < 40  # px, of a box of 400; a score step is a tenth of the way between seen and unseen
        np.testing.assert_allclose(states[-1][:2], [650 - K.cx, 380 - K.cy], atol=1e-3)  # the box alone at the end
        assert states[-1][3] == 0


def test_a_trunk_seen_end_on_does_not_turn_the_crop():
    person = figure(640, 360, 300)
    person[[5, 6], :2] = person[[11, 12], :2] + [12.0, 1.0]  # shoulders right beside the hips: bending towards the camera
    _, roll = base_boxes(tracks_of(person), K, layout("wide"))
    assert abs(roll[0]) < 0.05


def test_no_keypoints_and_no_box():
    """Boxes alone work; a person of whom nothing is known gets a harmless box and a warning."""
    person = np.full((17, 3), np.nan)
    person[:, 2] = 0
    tracks = tracks_of(person, person, figure(300, 300, 100))
    tracks.boxes_xyxy_px[:] = [[100, 100, 200, 500], [np.nan, 0, 10, 10], [np.nan, np.nan, np.nan, np.nan]]
    base, roll = base_boxes(tracks, K, layout("wide"))
    np.testing.assert_allclose(base[0, :2], [150 - K.cx, 300 - K.cy])
    assert 400 < base[0, 2] < 600
    np.testing.assert_allclose(base[1], [0, 0, 8])
    np.testing.assert_allclose(base[2, 2], 1.35 * 100, rtol=1e-5)
    assert (roll == 0).all()


def test_nothing_known_is_said(caplog):
    tracks = tracks_of(np.zeros((17, 3)))
    tracks.boxes_xyxy_px[:] = np.nan
    base_boxes(tracks, K, layout("wide"))
    assert "neither a usable box nor keypoints" in caplog.text


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_layouts_are_nested_and_distinct():
    for name in ("wide", "paper"):
        nine = layout(name, 9).views
        assert len({tuple(row) for row in nine.tolist()}) == 9
        for views in range(1, 10):
            np.testing.assert_array_equal(layout(name, views).views, nine[:views])
    np.testing.assert_allclose(layout("paper").views, [[0, 0, 1], [0.1, 0, 1.5], [-0.1, 0, 1.25], [0, 0.1, 0.8], [0, -0.1, 0.65]])
    np.testing.assert_allclose(layout("custom", 2, [(0, 0, 1), (0.2, 0, 2)]).views, [[0, 0, 1], [0.2, 0, 2]])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("narrow", 5), "'narrow', expected wide, paper or custom"),
        (("wide", 0), "0 views"),
        (("paper", 10), "10 views"),
        (("custom", 1), "no views"),
        (("custom", 3, [(0, 0, 1)]), "3 views"),
        (("custom", 1, [(0, 0, 0)]), "view 0"),
        (("custom", 1, [(0, float("nan"), 1)]), "view 0"),
        (("custom", 1, [(0, 0, 1)] * 10), "10 views"),
        (("wide", 1, [(0, 0, 1)]), "layout is wide"),
    ],
)
def test_wrong_layouts_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        layout(*arguments)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_views_sharing_a_reduction_are_of_similar_scale(scales):
    groups = shared_reductions(scales)
    assert sorted(view for group in groups for view in group) == list(range(len(scales)))
    for group in groups:
        chosen = [scales[view] for view in group]
        assert max(chosen) <= 1.8 * min(chosen) * 1.001


def test_kornia_is_imported_only_when_a_crop_is_cut():
    code = "import mchmr_stream.cropping.cropper, sys; sys.exit(any(m.startswith('kornia') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- people of whom the picture shows a part --------------------------------------------------------------------------


def _standing(x: float, y: float, stature: float, turned: float = 1.0) -> np.ndarray:
    """A standing person as STANDING has them, crown at (x, y)."""
    return np.concatenate([STANDING * [turned * stature, stature] + [x, y], np.full((17, 1), 0.9)], 1)


@pytest.mark.parametrize("facing", [1.0, -1.0], ids=["front", "back"])
@pytest.mark.parametrize(
    "hidden",
    [range(7, 17), [*range(11, 17), 9, 10], range(13, 17), [15, 16], range(5)],
    ids=["head and shoulders", "no hips", "cut at the thigh", "cut at the knee", "headless"],
)
def test_a_part_of_a_standing_person_gives_the_square_of_all_of_them(hidden, facing):
    whole = _standing(640, 100, 500, facing)
    part = whole.copy()
    part[list(hidden)] = [np.nan, np.nan, 0]
    (all_of_them, *_), (seen, *_) = (base_boxes(tracks_of(person), K, layout("wide"))[0] for person in (whole, part))
    assert abs(seen[2] / all_of_them[2] - 1) < 0.12
    assert np.linalg.norm(seen[:2] - all_of_them[:2]) < 0.1 * all_of_them[2]


def test_keypoints_outside_of_the_picture_do_not_count():
    """A detector guesses legs somewhere below the picture; the square is that of a standing body all the same."""
    whole = _standing(640, 400, 900)  # hips at 819: below the picture
    guessed = whole.copy()
    guessed[11:, :2] = [640, 760]
    base = [base_boxes(tracks_of(person), K, layout("wide"), picture_wh=(1280, 720))[0][0] for person in (whole, guessed)]
    np.testing.assert_allclose(base[1], base[0], atol=0.08 * base[0][2])
    without = base_boxes(tracks_of(guessed), K, layout("wide"))[0][0]
    assert without[2] < 0.75 * base[0][2]
