"""The up direction from bodies: roughly from trunks, precisely from balance. Directions in camera axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mchmr_stream.world.foot_chains import Array, Walker

_UPRIGHT_COSINE = 0.85
"""A body that leans farther is falling, or the up direction is wrong: no evidence in either case."""


def trunk_up(walkers: Sequence[Walker]) -> Array:
    """Direction of the trunks, the first estimate of up.

    Args:
        walkers: All people.

    Returns:
        (3,) median over all people and frames, camera axes.
    """
    trunks = np.concatenate([walker.joints_m[:, 12] for walker in walkers])
    weights = np.concatenate([walker.share_s for walker in walkers])
    return _median(trunks / np.linalg.norm(trunks, axis=-1, keepdims=True), weights)


def balance_of(walker: Walker, contact: Array, up: Array) -> tuple[Array, float]:
    """Mean direction from the standing soles to the centre of mass.

    Only rows of standing people count: those with the centre of mass higher above the soles than a leg is long.

    Args:
        walker: The person, with F rows.
        contact: (F, 4) in [0, 1].
        up: (3,) up direction.

    Returns:
        (3,) direction, and the seconds of evidence; `up` and 0 without evidence.
    """
    leg_m = float(np.linalg.norm(walker.joints_m[:, 4] - walker.joints_m[:, 1], axis=-1).mean()) * 2
    amount = contact.sum(1)
    feet = np.einsum("fk,fkc->fc", contact, walker.soles_m) / np.maximum(amount, 1e-6)[:, None]
    lever = walker.mass_m - feet
    upright = (lever @ up > leg_m) & (lever @ up > _UPRIGHT_COSINE * np.linalg.norm(lever, axis=1))
    weight = walker.share_s * np.clip(contact.max(1), 0, 1) * upright
    if weight.sum() < 0.2:
        return up, 0.0
    return _unit((lever * weight[:, None]).sum(0)), float(weight.sum())


def _median(directions: Array, weights: Array) -> Array:
    """(n, 3) unit vectors -> their geometric median (Weiszfeld), on which outliers have little influence."""
    middle = _unit((directions * weights[:, None]).sum(0))
    for _ in range(20):
        near = weights / np.maximum(np.linalg.norm(directions - middle, axis=-1), 0.02)
        middle = _unit((directions * near[:, None]).sum(0))
    return middle


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)
