"""Build of a body: girth that pictures do not determine. Only the surface changes, the skeleton stays.

The free body's template is the mean of as many women as men, so it has an intermediate chest; and its shape directions, found in both
sexes, contain the mean difference between women and men. `free_body_build.npz` (tools/make_free_body_build.py) stores that difference
relative to the skeleton, and the part of it that the betas imply. With it a body of one build has that build at any betas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from mchmr_stream.body.files import FREE_BODY
from mchmr_stream.body.model import BETA_COUNT, BodyModel
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.safe_npz import read_npz

Array = NDArray[np.float64]

SEXES = {"female": -1.0, "neutral": 0.0, "male": 1.0}
"""Position of each build along the direction from women to men."""


def with_build(body: BodyModel, build: str | Sequence[float]) -> BodyModel:
    """Give a body a surface of another build; joints of every pose and the meaning of betas do not change.

    Args:
        body: As `load_body` returns it.
        build: A key of `SEXES`, or up to ten shape coefficients: the neutral body with the girth of these, in addition to each person's
            betas.

    Returns:
        The body with the new surface.

    Raises:
        UsageError: The body is not the free one and `build` is a sex: SMPL files exist separately for each sex.
    """
    if not isinstance(build, str):
        return _with_coefficients(with_build(body, "neutral"), body, build)
    if body.name == FREE_BODY:
        return _of_sex(body, SEXES[build])
    if build == "neutral":
        return body
    raise UsageError(
        f"body.build got {build}, which only the free body has, and body.model is {body.name}; SMPL files come one for each sex: "
        f"leave body.build out and set body.model to the {build} file"
    )


def relative_to_skeleton(moved_m: Array, joints_moved_m: Array, template_m: Array, joints_m: Array) -> Array:
    """Remaining displacement of a surface after subtracting that of its joints.

    The joints move the space around them: by a uniform scale, and by the remainder interpolated between them.

    Args:
        moved_m: (V, 3) displacement of the surface.
        joints_moved_m: (24, 3) displacement of the joints.
        template_m: (V, 3) surface.
        joints_m: (24, 3) joints.

    Returns:
        (V, 3) metres.
    """
    centre = joints_m.mean(0)
    around, mean = joints_m - centre, joints_moved_m.mean(0)
    scale = (around * (joints_moved_m - mean)).sum() / (around**2).sum()
    scaled = lambda points: scale * (points - centre) + mean
    remaining = RBFInterpolator(joints_m, joints_moved_m - scaled(joints_m), kernel="linear", degree=0)
    return np.asarray(moved_m - scaled(template_m) - remaining(template_m))


def _of_sex(body: BodyModel, sex: float) -> BodyModel:
    with resources.as_file(resources.files("mchmr_stream.assets") / "free_body_build.npz") as path:
        stored = read_npz(path, ("body_sha256", "direction_m", "neutral_chest_m", "sex_of_betas"), what="builds of the free body")
    if str(stored["body_sha256"]) != body.sha256:
        raise InputError("the builds were made for another version of the free body; make them again with tools/make_free_body_build.py")
    direction = stored["direction_m"].astype(np.float64)
    offset = sex * direction if sex else stored["neutral_chest_m"].astype(np.float64)
    # The betas contain a component along the direction, too; it is removed, because the build determines it.
    implied = direction[..., None] * stored["sex_of_betas"].astype(np.float64)
    return dataclasses.replace(body, v_template=body.v_template + _like(offset, body), shapedirs=body.shapedirs - _like(implied, body))


def _with_coefficients(neutral: BodyModel, body: BodyModel, coefficients: Sequence[float]) -> BodyModel:
    betas = np.zeros(BETA_COUNT)
    betas[: len(coefficients)] = coefficients
    as_array = lambda tensor: tensor.detach().cpu().numpy().astype(np.float64)
    template, joints = as_array(body.v_template), as_array(body.j_template)
    offset = relative_to_skeleton(as_array(body.shapedirs) @ betas, as_array(body.j_shapedirs) @ betas, template, joints)
    return dataclasses.replace(neutral, v_template=neutral.v_template + _like(offset, body))


def _like(array: Array, body: BodyModel) -> torch.Tensor:
    return torch.as_tensor(array, dtype=body.dtype, device=body.device)
