"""Where detectors put landmarks on the body is told apart from their mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.network.landmarks import BLAZEPOSE_MIRROR, BLAZEPOSE_NAMES, COCO_MIRROR
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.landmark_offsets import LandmarkPlaces, Sightings, measure

FOCAL_PX = 1200.0
KNEE, EAR = BLAZEPOSE_NAMES.index("left_knee"), BLAZEPOSE_NAMES.index("left_ear")


@pytest.fixture(scope="module")
def body() -> SparseBody:
    return SparseBody(load_body("free"))


def symmetric(offsets: torch.Tensor, mirrors: tuple[int, ...]) -> torch.Tensor:
    """Left and right alike, as detectors are."""
    return (offsets + offsets[list(mirrors)] * torch.tensor([-1.0, 1.0, 1.0])) / 2


def sightings(body: SparseBody, places: LandmarkPlaces, n: int = 400) -> Sightings:
    """People in random poses whose landmarks a detector puts exactly at `places`."""
    g = torch.Generator().manual_seed(0)
    rotations = matrix_from_axis_angle(torch.randn(n, 24, 3, generator=g) * 0.4)
    root = matrix_from_axis_angle(torch.tensor([np.pi, 0, 0], dtype=torch.float32) + torch.randn(n, 3, generator=g) * 0.8)
    rotations[:, 0] = root
    nominal = body.pose(rotations, torch.randn(n, 10, generator=g))[1] + torch.tensor([0.2, -0.1, 5.0])
    landmarks, keypoints = places.place(nominal, rotations, body)

    def seen(points: torch.Tensor) -> torch.Tensor:
        return torch.cat([points[..., :2] / points[..., 2:] * FOCAL_PX, torch.ones_like(points[..., :1])], -1)

    return Sightings(rotations, nominal, torch.full((n,), FOCAL_PX), torch.full((n,), 500.0), seen(landmarks), seen(keypoints))


def test_offsets_are_found_again_however_people_stand(body):
    g = torch.Generator().manual_seed(1)
    true = LandmarkPlaces(
        symmetric(torch.randn(33, 3, generator=g) * 0.03, BLAZEPOSE_MIRROR), symmetric(torch.randn(17, 3, generator=g) * 0.03, COCO_MIRROR)
    )
    found = measure(sightings(body, true), body)
    torch.testing.assert_close(found.landmarks_m, true.landmarks_m, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.keypoints_m, true.keypoints_m, rtol=0, atol=1e-3)


def test_gross_mistakes_do_not_move_a_place(body):
    """A quarter of the people have their left knee seen 30 cm off: those are mistakes and no definition."""
    seen = sightings(body, LandmarkPlaces.nominal())
    seen.landmarks_px[::4, KNEE, 0] += 0.3 / 5 * FOCAL_PX
    assert float(measure(seen, body).landmarks_m[KNEE].norm()) < 0.005


def test_points_that_are_hardly_seen_keep_their_nominal_place(body):
    true = LandmarkPlaces.nominal()
    true.landmarks_m[EAR] = torch.tensor([0.0, 0.05, 0.0])
    true.landmarks_m[BLAZEPOSE_MIRROR[EAR]] = torch.tensor([0.0, 0.05, 0.0])
    seen = sightings(body, true)
    seen.landmarks_px[:, [EAR, BLAZEPOSE_MIRROR[EAR]], 2] = 0.1
    assert not measure(seen, body).landmarks_m[EAR].any()


def test_an_offset_moves_with_the_bone_above(body):
    """Bending the knee leaves the knee's own point where the thigh carries it; bending the hip moves it."""
    places = LandmarkPlaces.nominal()
    places.landmarks_m[KNEE] = torch.tensor([0.05, 0.0, 0.0])
    straight = torch.eye(3).repeat(1, 24, 1, 1)
    bent_knee, bent_hip = straight.clone(), straight.clone()
    quarter = matrix_from_axis_angle(torch.tensor([0.0, 0.0, np.pi / 2]))
    bent_knee[:, 4], bent_hip[:, 1] = quarter, quarter
    at = lambda rotations: places.place(torch.zeros(1, 33, 3), rotations, body)[0][0, KNEE]
    torch.testing.assert_close(at(bent_knee), torch.tensor([0.05, 0.0, 0.0]))
    torch.testing.assert_close(at(bent_hip), torch.tensor([0.0, 0.05, 0.0]), rtol=0, atol=1e-6)


def test_too_few_people_say_so_and_change_nothing(body, caplog):
    few = Sightings(*(values[:5] for values in sightings(body, LandmarkPlaces.nominal())))
    places = measure(few, body)
    assert not places.landmarks_m.any()
    assert "5 people are seen whole" in caplog.text
