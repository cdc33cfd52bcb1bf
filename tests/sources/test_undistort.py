"""Lens distortion undone: round trips, straight lines straight again, and OpenCV's opinion where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from components import import_or_skip
from hypothesis import given, settings
from hypothesis import strategies as st

from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.distortion import distort_points, undistort_points
from mchmr_stream.sources.undistort import undistort

K = Intrinsics(500.0, 520.0, 310.0, 245.0)
LENSES = {
    "barrel": np.array([-0.28, 0.07, 0.0, 0.0]),
    "pincushion": np.array([0.15, 0.02, 0.0, 0.0]),
    "tilted": np.array([-0.2, 0.05, 0.004, -0.006]),
}
lenses = pytest.mark.parametrize("distortion", LENSES.values(), ids=LENSES.keys())


class Stills:
    """Pictures as a source."""

    def __init__(self, *pictures: np.ndarray) -> None:
        self.pictures = pictures
        height, width = pictures[0].shape[:2]
        self.info = SourceInfo("stills", width, height, 10.0)
        self.warnings = ["said by the inner source"]
        self.closed = False

    def frames(self):
        for index, picture in enumerate(self.pictures):
            yield Frame(index, index / 10, picture)

    def close(self):
        self.closed = True


def smooth_picture(height: int = 480, width: int = 640) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 60 * np.sin(x / 17 + i) + 60 * np.cos(y / 13 - i) for i in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 639), st.floats(0, 479), st.sampled_from(list(LENSES.values())))
def test_points_survive_distorting_and_undistorting(x, y, distortion):
    point = np.array([x, y])
    np.testing.assert_allclose(undistort_points(distort_points(point, K, distortion), K, distortion), point, atol=1e-6)


def test_the_model_by_hand():
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    expected_x = x * (1 - 0.2 * r2 + 0.05 * r2**2) + 2 * 0.004 * x * y - 0.006 * (r2 + 2 * x * x)
    expected_y = y * (1 - 0.2 * r2 + 0.05 * r2**2) + 0.004 * (r2 + 2 * y * y) - 2 * 0.006 * x * y
    got = distort_points(np.array([x * 500 + 310, y * 520 + 245]), K, LENSES["tilted"])
    np.testing.assert_allclose(got, [expected_x * 500 + 310, expected_y * 520 + 245], atol=1e-9)


def test_points_that_no_light_could_reach_are_nan():
    fold = np.array([-0.4, 0.0, 0.0, 0.0])  # r (1 - 0.4 r^2) never exceeds 0.61
    points = np.array([[K.cx + 500 * 0.5, K.cy], [K.cx + 500 * 0.9, K.cy]])
    found = undistort_points(points, K, fold)
    np.testing.assert_allclose(distort_points(found[0], K, fold), points[0], atol=1e-6)
    assert found[0, 0] < K.cx + 500 / np.sqrt(1.2)
    assert np.isnan(found[1]).all()


@lenses
def test_frames_show_each_point_where_a_pinhole_would(distortion):
    """Dots drawn where the lens puts them come out where they belong."""
    wanted = np.array([[100.0, 90.0], [320.5, 240.25], [500.0, 400.0], [560.0, 120.0]])
    filmed_at = distort_points(wanted, K, distortion)
    y, x = np.mgrid[:480, :640]
    picture = sum(250 * np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / (2 * 4.0**2)) for fx, fy in filmed_at)
    rgb = np.repeat(np.rint(np.asarray(picture).clip(0, 255)).astype(np.uint8)[..., None], 3, 2)
    (frame,) = undistort(Stills(rgb), K, distortion).frames()
    for point in wanted:
        weight = frame.rgb[..., 0] * (np.hypot(x - point[0], y - point[1]) < 18.0)
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        np.testing.assert_allclose(found, point, atol=0.25)  # the lens also stretches the dots a little to one side


def test_no_distortion_changes_nothing():
    picture = smooth_picture()
    (frame,) = undistort(Stills(picture), K, np.zeros(4)).frames()
    np.testing.assert_array_equal(frame.rgb, picture)


@lenses
def test_frames_agree_with_opencv(distortion):
    cv2 = import_or_skip("cv2")
    picture = smooth_picture()
    (frame,) = undistort(Stills(picture), K, distortion).frames()
    theirs = cv2.undistort(picture, K.matrix, distortion)
    difference = abs(frame.rgb.astype(int) - theirs.astype(int))
    filmed = distort_points(np.stack(np.mgrid[:480, :640][::-1], -1), K, distortion)
    inside = ((filmed > 1) & (filmed < [638, 478])).all(-1)
    assert difference[inside].max() <= 3  # OpenCV rounds positions to 1/32 px
    assert difference[inside].mean() < 0.6


@lenses
def test_points_agree_with_opencv(distortion):
    cv2 = import_or_skip("cv2")
    points = np.random.default_rng(0).uniform([20, 20], [620, 460], (50, 2))
    criteria = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 200, 1e-12)
    iterate = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)  # OpenCV 4, OpenCV 5
    theirs = iterate(points[:, None], K.matrix, distortion, R=np.eye(3), P=K.matrix, criteria=criteria)[:, 0]
    np.testing.assert_allclose(undistort_points(points, K, distortion), theirs, atol=1e-3)


def test_it_is_the_same_source_otherwise():
    inner = Stills(smooth_picture(), smooth_picture())
    source = undistort(inner, K, LENSES["barrel"])
    assert source.info is inner.info
    assert source.warnings == ["said by the inner source"]
    frames = list(source.frames())
    assert [(frame.index, frame.time_s) for frame in frames] == [(0, 0.0), (1, 0.1)]
    assert frames[0].rgb.flags.c_contiguous
    source.close()
    assert inner.closed


def test_a_frame_of_another_size_is_refused():
    source = undistort(Stills(smooth_picture(), smooth_picture(240, 320)), K, LENSES["barrel"])
    with pytest.raises(InputError, match="320 x 240, the intrinsics are for 640 x 480"):
        list(source.frames())


def test_beyond_the_models_fold_the_picture_is_black_and_no_mirror_image():
    """r (1 - 0.6 r^2) grows up to r = 0.745, the corners lie beyond."""
    (frame,) = undistort(Stills(np.full((480, 640, 3), 200, np.uint8)), K, np.array([-0.6, 0, 0, 0])).frames()
    y, x = np.mgrid[:480, :640]
    radius = np.hypot((x - K.cx) / K.fx, (y - K.cy) / K.fy)
    assert (frame.rgb[radius > 0.75] == 0).all()
    assert (frame.rgb[radius < 0.74] == 200).all()
    assert (radius > 0.75).sum() > 100


def test_coefficients_that_leave_little_of_the_picture_are_refused():
    with pytest.raises(InputError, match=r"9\d % of stills would be black; expected OpenCV's coefficients"):
        undistort(Stills(smooth_picture()), K, np.array([-30.0, 0, 0, 0]))
