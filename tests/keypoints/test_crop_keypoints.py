"""Keypoints from crops: with a network that finds coloured dots, the way into the crop and back must bring every dot home."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import FIGURE
from torch import Tensor

from mchmr_stream.datatypes import Frame, Tracks
from mchmr_stream.geometry.camera import Intrinsics, turn
from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
from mchmr_stream.keypoints.heatmap_decoding import ThunderReading
from mchmr_stream.keypoints.keypoint_fusion import Reading, fused
from mchmr_stream.network.landmarks import COCO_MIRROR

WIDTH, HEIGHT = 1280, 720
K = Intrinsics(1100.0, 1060.0, 600.0, 380.0)


def person(x: float, y: float, height: float, angle: float = 0.0) -> np.ndarray:
    """(17, 2) keypoints."""
    return turn((FIGURE - np.array([0, 0.5])) * height, angle) + np.array([x, y])


def picture(points: np.ndarray) -> np.ndarray:
    """Keypoint k is a soft dot of brightness 50 + 12 k in red and 255 in green; the rest is black."""
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float64)
    size = max(3.0, np.ptp(points[:, 1]) / 60)
    for number, (x, y) in enumerate(points):
        close = (xx - x) ** 2 + (yy - y) ** 2 < size**2
        rgb[close] = [50 + 12 * number, 255, 0]
    return rgb.astype(np.uint8)


class DotFinder:
    """A keypoint network for `picture`: the middle of the pixels that have a keypoint's colour. Counts the crops that it sees."""

    def __init__(self, spread_px: float = 2.0) -> None:
        self.seen = 0
        self._spread = spread_px

    def __call__(self, crops: Tensor, near_px: Tensor | None) -> ThunderReading:
        self.seen += len(crops)
        points = np.zeros((len(crops), 17, 3), np.float32)
        for index, crop in enumerate(crops.float().numpy()):
            # The ratio of the colours stays where a dot's edge is blended with the black around it.
            ratio = np.where(crop[1] > 120, crop[0] / np.maximum(crop[1], 1), -1)
            for number in range(17):
                rows, columns = np.nonzero(abs(ratio - (50 + 12 * number) / 255) < 0.02)
                if len(rows):
                    points[index, number] = columns.mean(), rows.mean(), 0.9
        covariance = torch.eye(2).expand(len(crops), 17, 2, 2) * self._spread**2
        return ThunderReading(torch.from_numpy(points), covariance, torch.ones(len(crops)))


def tracks_of(landmarks: np.ndarray, score: float = 0.9, detected: bool = True) -> Tracks:
    points = np.concatenate([landmarks, np.full((17, 1), score)], 1)[None].astype(np.float32)
    unknown = np.full_like(points, np.nan)
    unknown[..., 2] = 0
    box = np.concatenate([landmarks.min(0), landmarks.max(0)])[None].astype(np.float32)
    return Tracks(np.array([1]), box, np.ones(1, np.float32), points if detected else unknown, np.array([detected]), points)


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.4, 3.0])
@pytest.mark.parametrize(("x", "y", "height"), [(400, 360, 500), (900, 300, 200), (250, 500, 90)])
def test_every_dot_comes_home(x, y, height, angle):
    points = person(x, y, height, angle)
    frame = Frame(0, 0.0, picture(points))
    found = CropKeypoints(DotFinder()).refine(frame, tracks_of(points, detected=False), K)
    seen = found.keypoints_px[0, :, 2] > 0.5
    assert seen.sum() >= 14  # dots may cover each other
    off = np.linalg.norm(found.keypoints_px[0, seen, :2] - points[seen], axis=-1)
    assert np.median(off) < 0.01 * height
    assert off.max() < 0.03 * height


def test_mirrored_crops_and_several_looks_agree_with_one():
    points = person(400, 360, 500, 0.3)
    frame, tracks = Frame(0, 0.0, picture(points)), tracks_of(points, detected=False)

    class Mirrored(DotFinder):
        """In a mirrored crop left is called right, as a network that knows bodies does."""

        def __call__(self, crops: Tensor, near_px: Tensor | None) -> ThunderReading:
            reading = super().__call__(crops, near_px)
            order = list(COCO_MIRROR)
            flipped = near_px is not None and bool((near_px[:, 5, 0] < near_px[:, 6, 0]).all())
            return reading._replace(points=reading.points[:, order]) if flipped else reading

    one = CropKeypoints(DotFinder()).refine(frame, tracks, K)
    for other in (CropKeypoints(DotFinder(), looks=3), CropKeypoints(Mirrored(), mirror=True)):
        found = other.refine(frame, tracks, K)
        both = (one.keypoints_px[0, :, 2] > 0.5) & (found.keypoints_px[0, :, 2] > 0.5)
        assert both.sum() > 12
        np.testing.assert_allclose(found.keypoints_px[0, both, :2], one.keypoints_px[0, both, :2], atol=3)


def test_the_covariance_is_that_of_the_crop_in_pixels_of_the_picture():
    points = person(400, 360, 500)
    frame = Frame(0, 0.0, picture(points))
    small, large = (CropKeypoints(DotFinder(spread)).refine(frame, tracks_of(points, detected=False), K) for spread in (2.0, 4.0))
    np.testing.assert_allclose(large.keypoint_covariance_px2, 4 * small.keypoint_covariance_px2, rtol=1e-2)
    side = 0.95 * 1.35 * 500  # of the crop
    np.testing.assert_allclose(np.sqrt(small.keypoint_covariance_px2[0, 0, 0, 0]), 2 * side / 256, rtol=0.05)


def test_a_crop_at_the_wrong_place_is_cut_again():
    points = person(400, 360, 400)
    frame = Frame(0, 0.0, picture(points))
    right, wrong = DotFinder(), DotFinder()
    CropKeypoints(right).refine(frame, tracks_of(points, detected=False), K)
    found = CropKeypoints(wrong).refine(frame, tracks_of(points + np.array([70, 40]), detected=False), K)
    assert (right.seen, wrong.seen) == (1, 2)
    seen = found.keypoints_px[0, :, 2] > 0.5
    assert np.linalg.norm(found.keypoints_px[0, seen, :2] - points[seen], axis=-1).max() < 12


def test_the_detector_is_kept_where_the_crop_shows_somebody_else():
    points, other = person(400, 360, 400), person(560, 360, 400)
    frame = Frame(0, 0.0, picture(other))
    found = CropKeypoints(DotFinder()).refine(frame, tracks_of(points), K)
    np.testing.assert_allclose(found.keypoints_px[0, :, :2], points, atol=1e-2)


def test_the_detector_counts_more_for_large_people_than_for_small_ones():
    """Its keypoints are off by ten pixels here: of somebody small nothing of that is taken over."""
    share = {}
    for height in (600, 100):
        points = person(600, 360, height)
        found = CropKeypoints(DotFinder()).refine(Frame(0, 0.0, picture(points)), tracks_of(points + np.array([10, 0])), K)
        share[height] = np.median(found.keypoints_px[0, :, 0] - points[:, 0]) / 10
    assert share[100] < 0.05
    assert share[100] < share[600] < 0.6


def test_nobody_is_nothing():
    nobody = tracks_of(person(400, 360, 400)).rows(np.zeros(0, np.int64))
    assert len(CropKeypoints(DotFinder()).refine(Frame(0, 0.0, picture(person(400, 360, 400))), nobody, K)) == 0


def test_fused_readings_lie_between_and_disagreement_widens_them():
    points = np.tile([[100.0, 50.0, 0.8]], (1, 2, 17, 1))
    covariance = np.tile(np.eye(2) * 4, (1, 2, 17, 1, 1))
    same, _ = fused(Reading(points, covariance, np.ones((1, 2))))
    np.testing.assert_allclose(same[0], points[0, 0])
    apart = points.copy()
    apart[0, 1, :, 0] += 6
    mean, wide = fused(Reading(apart, covariance, np.ones((1, 2))))
    np.testing.assert_allclose(mean[0, :, 0], 103)
    np.testing.assert_allclose(wide[0, :, 0, 0], 4 + 9)
    np.testing.assert_allclose(wide[0, :, 1, 1], 4)
    doubtful = apart.copy()
    doubtful[0, 1, :, 2] = 0.1
    mean, _ = fused(Reading(doubtful, covariance, np.ones((1, 2))))
    assert (abs(mean[0, :, 0] - 100) < 0.2).all()
