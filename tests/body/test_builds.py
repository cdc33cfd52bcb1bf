"""`body.build`: the surface of each build by what an eye sees of it; the skeleton, and all that is measured with it, does not move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from smpl_files import smpl_arrays

from mchmr_stream.body.builds import relative_to_skeleton, with_build
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import UsageError
from mchmr_stream.fitting.body_points import nominal_points
from mchmr_stream.metrics.surface_errors import body_mass_index

SHAPES = {
    "mean": np.zeros(10),
    "of a short person": np.array([-1.5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    "of a mean woman": np.array([-0.65, -0.2, 0.14, 0.1, -0.31, 0.19, -0.38, -0.05, -0.04, -0.14]),
    "of a woman more so": np.array([-1.3, -0.4, 0.28, 0.2, -0.62, 0.38, -0.76, -0.1, -0.08, -0.28]),
}


@pytest.fixture(scope="module")
def free() -> BodyModel:
    return load_body()


def surface(body: BodyModel, betas: NDArray | None = None) -> NDArray[np.float64]:
    shape = torch.zeros(10) if betas is None else torch.as_tensor(betas, dtype=torch.float32)
    return (body.v_template + body.shapedirs @ shape).double().numpy()


def bosom_m(body: BodyModel, betas: NDArray | None = None) -> float:
    """How far the chest's sides stand out in front of its middle, at the height where they do most."""
    vertices = surface(body, betas)
    at = {name: body.j_template[JOINT_NAMES.index(name)].double().numpy() for name in ("spine2", "spine3", "left_shoulder")}
    scale = (vertices[:, 1].max() - vertices[:, 1].min()) / (surface(body)[:, 1].max() - surface(body)[:, 1].min())
    found = []
    for height in np.linspace(at["spine2"][1] + 0.02, at["spine3"][1] + 0.04, 8) * scale:
        slab = vertices[(np.abs(vertices[:, 1] - height) < 0.02) & (np.abs(vertices[:, 0]) < 0.14)]
        middle, side = slab[np.abs(slab[:, 0]) < 0.02], slab[np.abs(np.abs(slab[:, 0]) - 0.09) < 0.03]
        found.append(side[:, 2].max() - middle[:, 2].max())
    return float(max(found))


def waist_to_hips(body: BodyModel) -> float:
    """Width of the narrowest waist over that of the widest hips, without arms."""
    vertices, trunk = surface(body), [JOINT_NAMES.index(name) for name in ("pelvis", "spine1", "spine2", "left_hip", "right_hip")]
    of_trunk = vertices[(body.weights[:, trunk].sum(1) > 0.5).numpy()]
    widths = lambda heights: [np.ptp(of_trunk[np.abs(of_trunk[:, 1] - height) < 0.02][:, 0]) for height in heights]
    return float(min(widths(np.linspace(0.08, 0.22, 8))) / max(widths(np.linspace(-0.12, 0.04, 8))))


@pytest.mark.parametrize("who", SHAPES)
def test_neutral_bodies_have_a_mans_chest_at_any_betas_and_women_a_bosom(free: BodyModel, who: str) -> None:
    neutral, female, male = (bosom_m(with_build(free, build), SHAPES[who]) for build in ("neutral", "female", "male"))
    assert neutral < 0.011, "a man's chest muscles"
    assert abs(neutral - male) < 0.002
    assert female > neutral + 0.006
    assert bosom_m(free, SHAPES[who]) > neutral + 0.002, "as the file has it"


def test_women_have_wider_hips_for_their_waists_and_the_neutral_body_is_between(free: BodyModel) -> None:
    female, neutral, male = (waist_to_hips(with_build(free, build)) for build in ("female", "neutral", "male"))
    assert female < neutral - 0.02 < male - 0.04


@pytest.mark.parametrize("build", ["neutral", "female", "male", [0.0, 0, 0, 0, 2]])
def test_no_joint_and_no_point_of_face_hands_and_feet_moves(free: BodyModel, build: str | list[float]) -> None:
    rng = np.random.default_rng(3)
    rotations = torch.tensor(Rotation.random(8 * 24, random_state=rng).as_matrix().reshape(8, 24, 3, 3), dtype=torch.float32)
    betas = torch.tensor(rng.normal(size=(8, 10)), dtype=torch.float32)
    built = with_build(free, build)
    assert built.sha256 == free.sha256
    assert torch.equal(skin(built, rotations, betas)[1], skin(free, rotations, betas)[1])
    if isinstance(build, str):
        points, before = nominal_points(built), nominal_points(free)
        assert np.array_equal(points.rest, before.rest)
        assert np.array_equal(points.shapedirs, before.shapedirs)


def test_numbers_give_everybody_the_girth_of_a_body_with_these_betas(free: BodyModel) -> None:
    neutral = with_build(free, "neutral")
    assert torch.equal(with_build(free, [0.0]).v_template, neutral.v_template)
    mean = torch.zeros(1, 10)
    mass = lambda body: float(body_mass_index(body, mean)[0])
    lighter, as_is, heavier = mass(with_build(free, [0.0, 0, 0, 0, -1.5])), mass(neutral), mass(with_build(free, [0.0, 0, 0, 0, 1.5]))
    assert lighter < as_is - 2 < heavier - 4
    # A body that is larger as a whole has larger bones: on the same skeleton nothing is left of that.
    larger = 0.1 * (free.v_template - free.j_template.mean(0)), 0.1 * (free.j_template - free.j_template.mean(0))
    left = relative_to_skeleton(*(part.double().numpy() for part in (*larger, free.v_template, free.j_template)))
    assert np.abs(left).max() < 1e-6


def test_somebodys_own_body_takes_numbers_and_refuses_a_sex_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **smpl_arrays(np.random.default_rng(5)))
    own = load_body(tmp_path / "SMPL_NEUTRAL.npz")
    assert with_build(own, "neutral") is own
    assert float((with_build(own, [1.0, 0.5]).v_template - own.v_template).abs().max()) > 1e-3
    with pytest.raises(UsageError, match=r"body\.build got male.*body\.model is SMPL_NEUTRAL.*set body\.model to the male file"):
        with_build(own, "male")


@pytest.mark.parametrize("value", ["man", "[]", "[1,2,3,4,5,6,7,8,9,10,11]", "[.nan]", "[9]", "[true]", "[one]", "2.5", "null", "{a: 1}"])
def test_what_is_no_build_is_refused_with_what_was_expected(value: str) -> None:
    with pytest.raises(UsageError, match=r"setting body\.build: got .*; expected neutral, female, male, or a list of 1 to 10") as error:
        load_settings(None, [f"body.build={value}"])
    assert "\n" not in str(error.value)


def test_settings_take_names_and_numbers() -> None:
    assert load_settings(None, ["body.build=female"]).body.build == "female"
    assert load_settings(None, ["body.build=[0, -1.5]"]).body.build == [0.0, -1.5]
