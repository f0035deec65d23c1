"""Equal hashes are compared as one: which there are, and from pairs of them to pairs of positions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.hamming.distinct import POSITION_BITS, Found

Bits = NDArray[np.uint64]
"""(N,) hashes."""

Index = NDArray[np.int64]
"""(N,) positions."""


@dataclass(frozen=True, slots=True)
class Block:
    """(P,) positions `i` and `j` and distances `d` in bits, in no particular order."""

    i: Index
    j: Index
    d: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.i)


@dataclass(frozen=True, slots=True)
class Copies:
    """The distinct hashes, in any order, and where each of them stands.

    `order[starts[k] : starts[k] + sizes[k]]` are the positions of `values[k]`, ascending.
    """

    values: Bits
    order: Index
    starts: Index
    sizes: Index

    @classmethod
    def of(cls, bits: Bits) -> "Copies":
        """Of hashes as they come."""
        bits = np.asarray(bits, dtype=np.uint64)
        ordered = np.sort(bits)  # a seventh of the time of finding the order, and often enough
        if not (ordered[1:] == ordered[:-1]).any():
            here = np.arange(len(bits))
            return cls(bits, here, here, np.ones(len(bits), dtype=np.int64))
        order = np.argsort(bits)  # three times as fast as a stable one
        ordered = bits[order]
        new = np.ones(len(bits), dtype=bool)
        new[1:] = ordered[1:] != ordered[:-1]
        starts = np.flatnonzero(new)
        sizes = np.diff(starts, append=len(bits))
        _ascend(order, sizes)
        return cls(ordered[starts], order, starts, sizes)

    def shown(self, copies: int | None) -> Index:
        """(K,) how many positions of each hash are given: the first alone where there are many."""
        return self.sizes if copies is None else np.where(self.sizes > copies, 1, self.sizes)

    def ties(self, copies: int | None, block: int) -> Iterator[Block]:
        """The pairs of equal hashes, i < j; where there are many, each with the first alone."""
        several = np.flatnonzero(self.sizes > 1)
        sizes = self.sizes[several]
        for some in _cut(sizes, block):
            rank = ramp(sizes[some])
            at = np.repeat(self.starts[several[some]], sizes[some]) + rank
            following = np.repeat(sizes[some], sizes[some]) - 1 - rank
            if copies is not None:
                following[(following + rank >= copies) & (rank > 0)] = 0
            for rows in _cut(following, block):
                counts = following[rows]
                i = np.repeat(at[rows], counts)
                j = i + 1 + ramp(counts)
                yield Block(self.order[i], self.order[j], np.zeros(len(i), dtype=np.uint8))


def _ascend(order: Index, sizes: Index) -> None:
    """Put the positions of equal hashes in order: of groups that follow each other in `order`."""
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return
    within = np.repeat(sizes > 1, sizes)
    group = np.repeat(several, sizes[several])
    packed = (group << POSITION_BITS) | order[within]
    packed.sort()
    order[within] = packed & ((1 << POSITION_BITS) - 1)


def expanded(
    found: Found, left: Copies, right: Copies, shown_a: Index, shown_b: Index, block: int
) -> Iterator[Block]:
    """From pairs of distinct hashes to pairs of the first `shown` positions that hold them."""
    for some in _cut(shown_a[found.i], block):
        a, b, d = found.i[some], found.j[some], found.d[some]
        times = shown_a[a]
        at = np.repeat(left.starts[a], times) + ramp(times)
        b, d = np.repeat(b, times), np.repeat(d, times)
        counts = shown_b[b]
        for rows in _cut(counts, block):
            i = np.repeat(at[rows], counts[rows])
            j = np.repeat(right.starts[b[rows]], counts[rows]) + ramp(counts[rows])
            yield Block(left.order[i], right.order[j], np.repeat(d[rows], counts[rows]))


def ramp(counts: Index) -> Index:
    """0..counts[0]-1, then 0..counts[1]-1, and so on, as one array."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _cut(counts: Index, block: int) -> Iterator[slice]:
    """Slices whose counts add up to `block` or less, or that hold one row."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, done + block, side="right")))
        yield slice(start, end)
        start = end
