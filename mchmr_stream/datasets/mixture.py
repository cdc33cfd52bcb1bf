"""Several data sets as one endless sequence of people, mixed by ratio.

The person at place k of the sequence depends only on the seed, the sizes and the shares: a run resumes from its next place, and any
number of processes read disjoint places without communication. No state is stored on disk.

Each BLOCK of a thousand places holds each set in proportion to its share, at least once, in a new random order per block; shares are
thereby rounded to thousandths. Each set is read in a new random order in each pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import UsageError

BLOCK = 1000


class Mixture:
    """Map from the place in the sequence to (data set, index of the person in it)."""

    def __init__(self, sizes: Mapping[str, int], shares: Mapping[str, float] | None = None, seed: int = 0) -> None:
        """`shares` need not sum to one; None: by size. A set without a share is left out.

        Raises UsageError for shares that are negative or all zero, of unknown sets, or of sets without people.
        """
        shares = dict(sizes) if shares is None else dict(shares)
        unknown = sorted(set(shares) - set(sizes))
        if unknown:
            raise UsageError(f"shares name {', '.join(unknown)}, expected some of {', '.join(sizes)}")
        if any(not 0 <= share < float("inf") for share in shares.values()) or not sum(shares.values()) > 0:
            raise UsageError(f"shares are {shares}, expected numbers of 0 or more, not all 0")
        self.names: tuple[str, ...] = tuple(name for name, share in shares.items() if share > 0)
        empty = [name for name in self.names if sizes[name] < 1]
        if empty:
            raise UsageError(f"{', '.join(empty)} has no people, but a share of the mixture")
        self.sizes = tuple(sizes[name] for name in self.names)
        if len(self.names) > BLOCK:
            raise UsageError(f"{len(self.names)} data sets are mixed, expected at most {BLOCK}")
        self.quotas = _apportioned(np.array([shares[name] for name in self.names], np.float64))
        """number of each set's places per thousand"""
        self.seed = seed
        self._block: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def at(self, place: int) -> tuple[str, int]:
        """Return the set's name and the person's index in it."""
        block, offset = divmod(place, BLOCK)
        chosen, drawn_before = self._drawn(block)
        which = int(chosen[offset])
        epoch, row = divmod(int(drawn_before[offset]), self.sizes[which])
        return self.names[which], int(self._order(which, epoch)[row])

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> list[tuple[str, int]]:
        """Return the people that process `rank` of `ranks` reads at a step of `size` people each."""
        first = (step * ranks + rank) * size
        return [self.at(place) for place in range(first, first + size)]

    def _drawn(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The set at each place of a block, and how often that set was drawn before. The last block is cached."""
        if self._block is None or self._block[0] != block:
            chosen = self._generator(0, block).permutation(np.repeat(np.arange(len(self.names)), self.quotas))
            drawn = np.zeros(BLOCK, np.int64)
            for which, quota in enumerate(self.quotas.tolist()):
                drawn[chosen == which] = block * quota + np.arange(quota)
            self._block = block, chosen, drawn
        return self._block[1:]

    def _order(self, which: int, epoch: int) -> NDArray[np.int64]:
        """The order of one pass through a set; the last one is cached."""
        if which not in self._orders or self._orders[which][0] != epoch:
            self._orders[which] = epoch, self._generator(1, which, epoch).permutation(self.sizes[which])
        return self._orders[which][1]

    def _generator(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *numbers])


def _apportioned(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Largest remainders: integers of 1 or more that sum to BLOCK."""
    exact = shares / shares.sum() * BLOCK
    quotas = np.maximum(np.floor(exact), 1).astype(np.int64)
    while (missing := BLOCK - int(quotas.sum())) != 0:
        quotas[np.argmax(exact - quotas) if missing > 0 else np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] += np.sign(missing)
    return quotas
