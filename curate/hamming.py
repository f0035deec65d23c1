"""All pairs of 64-bit hashes within a Hamming distance, exactly.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, https://arxiv.org/abs/1307.2982): the 64 bits
are dealt to m bands, and distance + 1 units to the bands. Two hashes within the distance differ in
fewer bits than a band has units in at least one band, because otherwise they would differ in
distance + 1 bits. So only hashes that meet in a band, up to that many flipped bits, are compared.
The number of bands is chosen by the expected work; for few hashes, or wide distances, comparing all
pairs is cheapest.

Invariants: the answer depends neither on block sizes nor on the number of bands; each pair comes
once; equal hashes are compared as one; working memory is bounded by BLOCK candidates, beside the
answer itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
"""(N,) hashes."""

Index = NDArray[np.int64]
"""(N,) positions."""

BLOCK = 1 << 20
"""Candidate pairs compared at a time: some 40 MB of working memory."""

LARGEST_DISTANCE = 16
BAND_COUNTS = (3, 4, 5, 6, 8)
"""Numbers of bands to choose from; three make keys of 22 bits, whose table is 32 MB."""

# Costs in nanoseconds, measured on one 2.5 GHz core; only their ratios matter.
PLAIN_NS, CANDIDATE_NS, PROBE_NS, FLIP_NS = 1.4, 8.0, 12.0, 50_000.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """(P,) positions `i` and `j` and distances `d`, sorted by (i, j), no pair twice."""

    i: Index
    j: Index
    d: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.i)


@dataclass(frozen=True, slots=True)
class Band:
    """A share of the 64 bits; two hashes meet in it if they differ in under `units` of them."""

    positions: tuple[int, ...]
    units: int

    @property
    def mask(self) -> np.uint64:
        """The bits of this band."""
        return np.uint64(sum(1 << p for p in self.positions))

    def flips(self) -> Iterator[int]:
        """Every difference, between two packed keys, that still is a meeting; 0 comes first."""
        for count in range(self.units):
            for chosen in combinations(range(len(self.positions)), count):
                yield sum(1 << place for place in chosen)

    def keys(self, bits: Bits) -> Index:
        """(N,) the band's bits of each hash, packed into the low end."""
        key = np.zeros(len(bits), dtype=np.uint64)
        for place, position in enumerate(self.positions):
            key |= ((bits >> np.uint64(position)) & np.uint64(1)) << np.uint64(place)
        return key.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Hashes sorted by key: `offsets[k]` to `offsets[k + 1]` of `order` are those with key k.

    `used` lists the keys there are, `filled` says of each key whether it is there: a small table,
    so that asking for many keys at random stays in the processor's cache.
    """

    bits: Bits
    order: Index
    used: Index
    filled: NDArray[np.bool_]
    offsets: Index

    @classmethod
    def of(cls, bits: Bits, band: Band) -> "Buckets":
        """The buckets of one band."""
        keys = band.keys(bits)
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=1 << len(band.positions))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(bits[order], order, np.flatnonzero(counts), counts > 0, offsets)


def self_join(bits: Bits, distance: int, *, copies: int | None = None) -> Pairs:
    """All pairs i < j of `bits` that differ in at most `distance` bits.

    Args:
        bits: (N,) hashes.
        distance: 0 to 16 bits.
        copies: where more hashes than this are equal, they are tied to the first of them alone, and
            it stands for them towards others: the connected sets stay the same, the answer stays
            small. None gives every pair.

    Raises:
        ValueError: if `distance` is out of range.
    """
    _check(distance)
    values, groups = _collapse(bits)
    within = [_ties(g, copies) for g in groups if len(g) > 1]
    between = _expand(_join(values, None, distance), _shown(groups, copies), _shown(groups, copies))
    return _sorted([*within, between], ordered=True)


def cross_join(a: Bits, b: Bits, distance: int, *, copies: int | None = None) -> Pairs:
    """All pairs of a position in `a` and one in `b` that differ in at most `distance` bits.

    Args:
        a: (N,) hashes.
        b: (M,) hashes.
        distance: 0 to 16 bits.
        copies: as in `self_join`, for each side.

    Raises:
        ValueError: if `distance` is out of range.
    """
    _check(distance)
    (left, groups_a), (right, groups_b) = _collapse(a), _collapse(b)
    found = _join(left, right, distance)
    return _sorted(
        [_expand(found, _shown(groups_a, copies), _shown(groups_b, copies))], ordered=False
    )


def _check(distance: int) -> None:
    if not 0 <= distance <= LARGEST_DISTANCE:
        raise ValueError(f"distance {distance} is not within 0 to {LARGEST_DISTANCE} bits")


def _collapse(bits: Bits) -> tuple[Bits, list[Index]]:
    """The distinct hashes, and where each of them stands, in order."""
    bits = np.asarray(bits, dtype=np.uint64)
    order = np.argsort(bits, kind="stable")
    values, starts = np.unique(bits[order], return_index=True)
    return values, np.split(order, starts[1:]) if len(values) else []


def _shown(groups: list[Index], copies: int | None) -> list[Index]:
    return groups if copies is None else [g if len(g) <= copies else g[:1] for g in groups]


def _ties(group: Index, copies: int | None) -> Pairs:
    """The pairs inside one set of equal hashes."""
    if copies is not None and len(group) > copies:
        first = np.full(len(group) - 1, group[0], dtype=np.int64)
        return Pairs(first, group[1:], np.zeros(len(first), dtype=np.uint8))
    rows, columns = np.triu_indices(len(group), k=1)
    i, j = group[rows], group[columns]
    return Pairs(i, j, np.zeros(len(i), dtype=np.uint8))


def _expand(found: Pairs, left: list[Index], right: list[Index]) -> Pairs:
    """From pairs of distinct hashes to pairs of all the positions that hold them."""
    if not len(found):
        return found
    sizes_a, sizes_b = _sizes(left)[found.i], _sizes(right)[found.j]
    starts_a, starts_b = _starts(left)[found.i], _starts(right)[found.j]
    total = sizes_a * sizes_b
    inner = _ramp(total)
    width = np.repeat(sizes_b, total)
    i = np.concatenate(left)[np.repeat(starts_a, total) + inner // width]
    j = np.concatenate(right)[np.repeat(starts_b, total) + inner % width]
    return Pairs(i, j, np.repeat(found.d, total))


def _sizes(groups: list[Index]) -> Index:
    return np.array([len(g) for g in groups], dtype=np.int64)


def _starts(groups: list[Index]) -> Index:
    sizes = _sizes(groups)
    return np.cumsum(sizes) - sizes


def _ramp(counts: Index) -> Index:
    """0..counts[0]-1, then 0..counts[1]-1, and so on, as one array."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _sorted(parts: Iterable[Pairs], *, ordered: bool) -> Pairs:
    """One answer out of parts; with `ordered`, i < j in each pair."""
    parts = list(parts)
    empty = np.empty(0, dtype=np.int64)
    i = np.concatenate([empty, *(p.i for p in parts)])
    j = np.concatenate([empty, *(p.j for p in parts)])
    d = np.concatenate([np.empty(0, dtype=np.uint8), *(p.d for p in parts)])
    if ordered:
        i, j = np.minimum(i, j), np.maximum(i, j)
    order = np.lexsort((j, i))
    return Pairs(i[order], j[order], d[order])


def _join(a: Bits, b: Bits | None, distance: int) -> Pairs:
    """Pairs of distinct hashes; `b` None joins `a` with itself, each unordered pair once."""
    bands = _plan(len(a), len(a) if b is None else len(b), distance)
    if bands is None:
        return _sorted(_compare_all(a, b, distance), ordered=False)
    return _sorted(_compare_bands(a, b, distance, bands), ordered=False)


def _plan(n: int, m: int, distance: int) -> list[Band] | None:
    """The bands with the least expected work for random hashes; None to compare all pairs."""
    plans = [_bands(count, distance) for count in BAND_COUNTS]
    costs = [_cost(bands, n, m) for bands in plans]
    best = min(range(len(plans)), key=costs.__getitem__)
    return plans[best] if costs[best] < n * m * PLAIN_NS else None


def _bands(count: int, distance: int) -> list[Band]:
    """`count` bands of bits far from each other, and distance + 1 units among them."""
    each, more = divmod(distance + 1, count)
    bands = [Band(tuple(range(b, 64, count)), each + (b < more)) for b in range(count)]
    return [band for band in bands if band.units]


def _cost(bands: list[Band], n: int, m: int) -> float:
    """Expected nanoseconds of joining `n` with `m` random hashes."""
    cost = 0.0
    for band in bands:
        width = len(band.positions)
        flips = sum(comb(width, count) for count in range(band.units))
        cost += flips * (FLIP_NS + PROBE_NS * min(n, 1 << width))
        cost += CANDIDATE_NS * n * m * flips / (1 << width)
    return cost


def _compare_all(a: Bits, b: Bits | None, distance: int) -> Iterator[Pairs]:
    """Every pair, a block of rows at a time."""
    other = a if b is None else b
    rows = max(1, (BLOCK >> 3) // max(1, len(other)))
    for start in range(0, len(a), rows):
        first = start if b is None else 0
        apart = np.bitwise_count(a[start : start + rows, None] ^ other[None, first:])
        i, j = np.nonzero(apart <= distance)
        keep = i < j if b is None else np.ones(len(i), dtype=bool)
        i, j = i[keep], j[keep]
        yield Pairs(i + start, j + first, apart[i, j])


def _compare_bands(a: Bits, b: Bits | None, distance: int, bands: list[Band]) -> Iterator[Pairs]:
    """Pairs that meet in a band; a pair belongs to the first band it meets in."""
    for number, band in enumerate(bands):
        left = Buckets.of(a, band)
        right = left if b is None else Buckets.of(b, band)
        for flip in band.flips():
            for rows, starts, counts in _meetings(left, right, flip, half=b is None):
                found = _measure(left, right, rows, starts, counts, distance)
                if b is None and flip == 0:
                    found = _chosen(found, found.i < found.j)
                first = _chosen(found, ~_met_before(left, right, found, bands[:number]))
                yield Pairs(left.order[first.i], right.order[first.j], first.d)


def _meetings(
    left: Buckets, right: Buckets, flip: int, *, half: bool
) -> Iterator[tuple[Index, Index, Index]]:
    """Blocks of (row of left, first row of right, how many of right) whose keys differ by `flip`.

    With `half`, of two buckets that meet each other both ways only one way is given.
    """
    target = left.used ^ flip
    meet = right.filled[target]
    if half and flip:
        meet &= left.used < target
    used, target = left.used[meet], target[meet]
    sizes = left.offsets[used + 1] - left.offsets[used]
    rows = np.repeat(left.offsets[used], sizes) + _ramp(sizes)
    starts = np.repeat(right.offsets[target], sizes)
    counts = np.repeat(right.offsets[target + 1] - right.offsets[target], sizes)
    work = np.cumsum(counts)
    cuts = np.searchsorted(work, np.arange(BLOCK, int(work[-1]) if len(work) else 0, BLOCK))
    for block in zip(*(np.split(x, cuts) for x in (rows, starts, counts)), strict=True):
        if len(block[0]):
            yield block


def _measure(
    left: Buckets, right: Buckets, rows: Index, starts: Index, counts: Index, distance: int
) -> Pairs:
    """The pairs within `distance` among one block of candidates, as places in the sorted orders."""
    before = np.cumsum(counts) - counts
    j = np.repeat(starts - before, counts)
    j += np.arange(len(j))
    apart = np.bitwise_count(np.repeat(left.bits[rows], counts) ^ right.bits[j])
    near = np.flatnonzero(apart <= distance)
    i = rows[np.searchsorted(before, near, side="right") - 1]
    return Pairs(i, j[near], apart[near])


def _met_before(
    left: Buckets, right: Buckets, found: Pairs, earlier: list[Band]
) -> NDArray[np.bool_]:
    """Which pairs also meet in one of the `earlier` bands."""
    differ = left.bits[found.i] ^ right.bits[found.j]
    met = np.zeros(len(found), dtype=bool)
    for band in earlier:
        met |= np.bitwise_count(differ & band.mask) < band.units
    return met


def _chosen(pairs: Pairs, keep: NDArray[np.bool_]) -> Pairs:
    return Pairs(pairs.i[keep], pairs.j[keep], pairs.d[keep])
