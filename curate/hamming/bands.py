"""Which bits make a band, and how many bands there are: chosen by what the hashes look like.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, https://arxiv.org/abs/1307.2982): the bits are
dealt to m bands, and distance + 1 units to the bands. Two hashes within the distance differ in
fewer bits than a band has units in at least one band, because otherwise they would differ in
distance + 1 bits. So only hashes that meet in a band, up to that many flipped bits, are compared.

Real hashes are no random bits: some are nearly always set, some say the same as others, and a band
of those has few keys that hold nearly everything. So the bits are dealt by their entropy, those
that go together to different bands, bits that never differ to none; and the number of bands is
chosen by how often hashes of a sample do meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import comb, expm1

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
"""(N,) hashes."""

LAYOUTS = ((3, 22), (3, 20), (3, 18), (3, 16), (4, 16), (5, 13), (6, 11), (8, 8))
"""Numbers of bands to choose from, and the most bits of each: 22 bits make a table of 16 MB.

A band may leave bits out: hashes then meet more often, in fewer and longer buckets.
"""

LONG, RARE = 4, 0.0003
"""Buckets of more hashes than this, on the average, are compared in runs, where less than this share of
what meets is near: a run that holds something near is compared again, one by one."""

BESIDE = 512
"""Hashes of a key and of those one bit away, on the average, that are still put side by side."""

CACHED = 1 << 18
"""Hashes in buckets that stay in the second cache: 2 MB. Short buckets beyond it cost FAR_NS."""

SAMPLE = 2048
"""Hashes looked at to choose: two million pairs, some 30 ms."""

# Costs in nanoseconds, measured on one 2.6 GHz core with AVX-512; only their ratios matter.
COMPARE_NS, RUN_NS = 0.2, 0.08  # a hash with one of many, and with one in a long bucket
PROBE_NS = 4.0  # a bucket put on the list of those that a key meets
ROW_NS, FAR_NS = 1.5, 4.0  # a hash of one bucket with all of another, beside the comparisons
GATHER_NS, ASIDE_NS = 9.0, 0.1  # a bucket put beside others, and a hash with one of those beside it
TABLE_NS, PLACE_NS = 3.0, 15.0  # a key, a hash put into its bucket


@dataclass(frozen=True, slots=True)
class Band:
    """`width` bits of each dealt hash, from bit `shift` on.

    Two hashes meet in it if they differ in under `units` of them. With `runs`, buckets are long and what
    meets is seldom near. With `middle`, keys that meet differ in up to two bits, and their buckets are
    joined halfway between them (`curate.hamming.middle`).
    """

    shift: int
    width: int
    units: int
    runs: bool = False
    middle: bool = False

    @property
    def mask(self) -> int:
        """The bits of this band."""
        return ((1 << self.width) - 1) << self.shift


@dataclass(frozen=True, slots=True)
class Plan:
    """`order[k]` is the bit that becomes bit k of the dealt hash; bands of dealt hashes."""

    order: tuple[int, ...]
    bands: tuple[Band, ...]

    def table(self) -> Bits:
        """(8, 256) for each byte of a hash, lowest first, where its bits go."""
        table = np.zeros((8, 256), dtype=np.uint64)
        values = np.arange(256, dtype=np.uint64)
        for to, bit in enumerate(self.order):
            is_set = (values >> np.uint64(bit % 8)) & np.uint64(1)
            table[bit // 8] |= is_set << np.uint64(to)
        return table


@cache
def flips(width: int, units: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Every difference of fewer than `units` of `width` bits.

    Returns:
        (F,) differences, those of few bits first; (units + 1,) how many have fewer than 0, 1, ...,
        `units` bits.
    """
    found = [
        [sum(1 << bit for bit in chosen) for chosen in combinations(range(width), count)]
        for count in range(units)
    ]
    ends = np.cumsum([0, *map(len, found)])
    return np.array([f for some in found for f in some], dtype=np.uint32), ends


def plan(a: Bits, b: Bits | None, distance: int) -> Plan | None:
    """The bands with the least expected work; None to compare all pairs.

    Args:
        a: (N,) hashes, no two equal.
        b: (M,) hashes to join them with; None joins `a` with itself.
        distance: largest distance of a pair.
    """
    left, right = _sample(a), _sample(a if b is None else b)
    varying = _varying(a, a if b is None else b)
    sample = np.concatenate([left, right])
    plans = [
        _dealt(sample, varying, count, width, distance)
        for count, width in LAYOUTS
        if count <= len(varying)  # a band without bits is one that all pairs meet in
    ]
    if not plans:
        return None
    n, m = len(a), len(a) if b is None else len(b)
    costed = [_costed(p, left, right, n, m, distance, half=b is None) for p in plans]
    cost, best = min(costed, key=lambda each: each[0])
    pairs = n * m / 2 if b is None else n * m
    return best if cost < pairs * COMPARE_NS else None


def _sample(bits: Bits) -> Bits:
    """Some of the hashes, always the same ones."""
    if len(bits) <= SAMPLE:
        return bits
    return bits[np.random.default_rng(len(bits)).integers(0, len(bits), SAMPLE)]


def _varying(a: Bits, b: Bits) -> list[int]:
    """The bits that are not the same in all hashes."""
    every = np.bitwise_and.reduce(a) & np.bitwise_and.reduce(b)
    some = np.bitwise_or.reduce(a) | np.bitwise_or.reduce(b)
    return [bit for bit in range(64) if (int(every ^ some) >> bit) & 1]


def _dealt(sample: Bits, varying: Sequence[int], count: int, width: int, distance: int) -> Plan:
    """`count` bands with the bits that vary, as many at least, and distance + 1 units among them."""
    hands = _hands(sample, varying, count)
    each, more = divmod(distance + 1, count)
    order = [bit for hand in hands for bit in hand]
    rest = [bit for bit in range(64) if bit not in set(order)]
    bands, shift = [], 0
    for number, hand in enumerate(hands):
        units = each + (number < more)
        if units:
            bands.append(Band(shift, min(width, len(hand)), units))
        shift += len(hand)
    return Plan((*order, *rest), tuple(bands))


def _hands(sample: Bits, varying: Sequence[int], count: int) -> list[list[int]]:
    """The bits dealt in rounds, highest entropy first, each to a band it goes least together with."""
    columns = (sample[:, None] >> np.array(varying, dtype=np.uint64)) & np.uint64(1)
    share = columns.mean(axis=0)
    spread = np.sqrt(np.maximum(share * (1 - share), 1e-9))
    centred = (columns - share) / spread
    together = np.abs(centred.T @ centred) / len(sample)
    hands: list[list[int]] = [[] for _ in range(count)]
    for place, bit in enumerate(np.argsort(-spread, kind="stable")):
        dealt_in_round = place // count
        free = [h for h in range(count) if len(hands[h]) == dealt_in_round]
        hand = min(free, key=lambda h: (float(together[bit, hands[h]].sum()), h))
        hands[hand].append(int(bit))
    return [[varying[bit] for bit in hand] for hand in hands]


def _costed(
    plan: Plan, a: Bits, b: Bits, n: int, m: int, distance: int, *, half: bool
) -> tuple[float, Plan]:
    """Expected nanoseconds of joining `n` with `m` hashes like those of the samples, and how."""
    *met, near = _shares(plan, a, b, distance, half=half)
    bands = tuple(
        _way(band, max(n, m), rare=near <= RARE * share)
        for band, share in zip(plan.bands, met, strict=True)
    )
    scan = sum(_scan_cost(band, share, n, m) for band, share in zip(bands, met, strict=True))
    build = sum((1 << band.width) * TABLE_NS + (n + m) * PLACE_NS for band in bands)
    return build + (scan / 2 if half else scan), replace(plan, bands=bands)


def _way(band: Band, count: int, *, rare: bool) -> Band:
    """How the buckets of a band are joined, with so many hashes on the larger side."""
    if band.units == 3 and count * (band.width + 1) <= BESIDE << band.width:
        return replace(band, middle=True)
    return replace(band, runs=rare and count > LONG << band.width)


def _shares(plan: Plan, a: Bits, b: Bits, distance: int, *, half: bool) -> list[float]:
    """Of all pairs of the samples, what share meets in each band, and last what share is near."""
    from curate.hamming import kernels

    table = plan.table()
    masks = np.array([*(band.mask for band in plan.bands), (1 << 64) - 1], dtype=np.uint64)
    units = np.array([*(band.units for band in plan.bands), distance + 1], dtype=np.uint64)
    met = kernels.meetings(kernels.dealt(a, table), kernels.dealt(b, table), masks, units)
    shares = np.maximum(met - len(a) if half else met, 0) / (len(a) * len(b))
    return [float(share) for share in shares]


def _scan_cost(band: Band, met: float, n: int, m: int) -> float:
    """Expected nanoseconds of finding the buckets of `m` hashes that those of `n` meet, and of comparing.

    `met` is the share of all pairs that meets in the band.
    """
    keys = 1 << band.width
    if band.middle:
        return 2 * keys * (band.width + 1) * GATHER_NS + met * n * m * ASIDE_NS
    ways = sum(comb(band.width, count) for count in range(band.units))
    used = keys * -expm1(-n / keys)
    filled = -expm1(-m / keys)
    row = ROW_NS if band.runs or m <= CACHED else FAR_NS
    compare = RUN_NS if band.runs else COMPARE_NS
    return ways * (used * PROBE_NS + n * filled * row) + met * n * m * compare
