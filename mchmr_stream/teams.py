"""How many threads torch computes with. A thread's OpenMP team is its own; one that begins later takes over the size set last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MOST_FRAMES = 8
"""In the network at once. More was never tried, and every one holds its crops and maps."""


def team_and_frames(threads: int | None, cores: int, side_by_side: bool) -> tuple[int, int]:
    """Size of the detector's team and of each frame's in the network, and how many frames are in the network at once.

    `threads`: the size that was asked for. One frame at a time: half the cores each for detector and network, which work at the same
    time. `side_by_side`: small teams and several frames; on two cores, the only machine on which this was measured, a second thread for
    one frame brought nothing, a second frame a quarter. More threads than cores make every team sleep at its barriers instead of
    spinning, which costs a quarter of the speed; teams of one have no barriers.
    """
    if not side_by_side:
        return threads or max(1, cores // 2), 1
    team = threads or max(1, min(4, cores // 4))
    return team, min(_MOST_FRAMES, max(1, cores // team - 1, 2 if cores > 1 and team == 1 else 1))


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
