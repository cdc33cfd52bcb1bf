"""How many threads torch computes with. A thread's OpenMP team is its own; one that begins later takes over the size set last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MOST_AT_ONCE = 8
"""Batches in the network at once. More was never tried, and every one holds its crops and maps."""
_MOST_TOGETHER = 4
"""Frames in a batch. The head, which reads its weights once a batch, costs a quarter then; of more frames hardly less."""
_MOST_FRAMES = 16
"""In all batches: each holds its picture."""


def plan_threads(threads: int | None, cores: int, side_by_side: bool) -> tuple[int, int]:
    """Size of the detector's team and of each batch's in the network, and how many batches are in the network at once.

    `threads`: the size that was asked for. One batch at a time: half the cores each for detector and network, which work at the same
    time. `side_by_side`: small teams and several batches; on two cores, the only machine on which this was measured, a second thread for
    one batch brought nothing, a second batch a quarter. More threads than cores make every team sleep at its barriers instead of
    spinning, which costs a quarter of the speed; teams of one have no barriers.
    """
    if not side_by_side:
        return threads or max(1, cores // 2), 1
    team = threads or max(1, min(4, cores // 4))
    return team, min(_MOST_AT_ONCE, max(1, cores // team - 1, 2 if cores > 1 and team == 1 else 1))


def frames_together(batches: int) -> int:
    """How many frames go to the network as one batch, where so many batches are in it at once."""
    return max(1, min(_MOST_TOGETHER, _MOST_FRAMES // batches))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Teams of `count` within the `with` block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
