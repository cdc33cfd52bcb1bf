"""Number of torch's threads. Each thread has its own OpenMP team; a new thread uses the team size set last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MOST_AT_ONCE = 8
"""Maximum number of batches in the network at once. More was not tried, and each one holds its crops and maps."""
_MOST_TOGETHER = 4
"""Maximum number of frames in a batch. The head, which reads its weights once per batch, then takes a quarter of the time; more frames
hardly reduce it.
"""
_MOST_FRAMES = 16
"""Maximum number of frames in all batches: each holds its picture."""


def plan_threads(threads: int | None, cores: int, side_by_side: bool) -> tuple[int, int]:
    """Plan the team sizes of detector and network, and the number of concurrent batches.

    With one batch at a time detector and network, which work concurrently, get half the cores each. `side_by_side` uses small teams and
    several batches: on two cores, the only machine on which this was measured, a second thread for one batch gained nothing, a second batch
    a quarter. More threads than cores make every team sleep at its barriers instead of spinning, which costs a quarter of the speed; teams
    of one have no barriers.

    Args:
        threads: Requested team size; None chooses.
        cores: Number of usable cores.
        side_by_side: Run several batches concurrently.

    Returns:
        Size of each team, and number of concurrent batches.
    """
    if not side_by_side:
        return threads or max(1, cores // 2), 1
    team = threads or max(1, min(4, cores // 4))
    return team, min(_MOST_AT_ONCE, max(1, cores // team - 1, 2 if cores > 1 and team == 1 else 1))


def frames_together(batches: int) -> int:
    """Number of frames in one batch, given the number of concurrent batches."""
    return max(1, min(_MOST_TOGETHER, _MOST_FRAMES // batches))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's team size to `count` within the `with` block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
