"""The inner loops of the join, compiled by Numba (https://numba.pydata.org).

Imported where there is much to compare, and only there (`curate.compiled`). Loops that find
pairs write them to columns that are handed in, stop when the next pair of buckets might not fit,
and return where they stopped: that is what bounds memory. They take plain tuples and arrays, no
classes of ours: kept code names the types it was made for, and would not load once one has moved.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.compiled import compiled

Bits = NDArray[np.uint64]
Small = NDArray[np.uint32]

LANE = 64
"""Hashes compared without a branch; the compiler turns this into vector instructions."""

REST = 8
"""The same for the end of a bucket: up to seven hashes after it are looked at too, and ignored."""


def _build_ones(typing: Any, word: Any) -> Any:
    """Numba's way to one instruction: its type, and what builds it."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


_ones = cast(Callable[[np.uint64], np.uint64], intrinsic(_build_ones))
"""The processor's own count of the bits that are set."""


@compiled
def counts(values: Bits, shift: int, width: int) -> Small:
    """(2^width + 1,) where the bucket of each key begins; a key is `width` bits from `shift` on."""
    begins = np.zeros((1 << width) + 1, dtype=np.uint32)
    mask = np.uint64((1 << width) - 1)
    for value in values:
        begins[((value >> np.uint64(shift)) & mask) + np.uint64(1)] += np.uint32(1)
    for key in range(1, len(begins)):
        begins[key] += begins[key - 1]
    return begins


@compiled
def place(values: Bits, shift: int, width: int, begins: Small, bits: Bits, order: Small) -> None:
    """Sort by key, equal keys in the order they come: fills `bits` and `order`.

    `bits` is longer than `values` by REST, so that a look past the end of the last bucket is allowed.
    """
    following = begins.copy()
    mask = np.uint64((1 << width) - 1)
    for row in range(len(values)):
        key = (values[row] >> np.uint64(shift)) & mask
        to = following[key]
        following[key] = to + np.uint32(1)
        bits[to] = values[row]
        order[to] = row


@compiled
def filled(begins: Small) -> Bits:
    """One bit per key, set where its bucket holds something: small enough for the second cache."""
    words = np.zeros((len(begins) + 63) // 64, dtype=np.uint64)
    for key in range(len(begins) - 1):
        if begins[key + 1] > begins[key]:
            words[key >> 6] |= np.uint64(1) << np.uint64(key & 63)
    return words


@compiled
def used_keys(begins: Small) -> Small:
    """The keys whose buckets hold something, in order."""
    used = np.empty(np.count_nonzero(begins[1:] > begins[:-1]), dtype=np.uint32)
    at = 0
    for key in range(len(begins) - 1):
        if begins[key + 1] > begins[key]:
            used[at] = key
            at += 1
    return used


@compiled
def _first_here(differ: np.uint64, masks: Bits, units: Bits) -> bool:
    """No earlier band met: the pair belongs to the band that is being scanned."""
    for band in range(len(masks)):  # noqa: SIM110 (a generator would not compile)
        if _ones(differ & masks[band]) < units[band]:
            return False
    return True


@compiled
def _nearest(value: np.uint64, others: Bits, begin: int, count: int) -> np.uint64:
    """The least distance to `count` others; a fixed count leaves no rest to do one by one."""
    least = np.uint64(64)
    for k in range(count):
        least = min(least, _ones(value ^ others[np.uint64(begin + k)]))
    return least


@compiled
def scan(
    at: int,
    flip: int,
    last: int,
    half: bool,
    used: Small,
    left: tuple[Bits, Small, Small],
    right: tuple[Bits, Small, Small],
    there: Bits,
    flips: Small,
    tops: NDArray[np.int64],
    jumps: NDArray[np.int64],
    distance: np.uint64,
    earlier: tuple[Bits, Bits],
    sole: tuple[Small, Small],
    heavy: int,
    out: tuple[Small, Small, NDArray[np.uint8]],
    skipped: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Pairs of buckets that meet, from used key `at` and flip number `flip` on.

    Args:
        at: place in `used` to begin at.
        flip: place in `flips` to begin at.
        last: place in `used` to stop before.
        half: left and right are one set: of two buckets that meet both ways take one way.
        used: keys of the left that hold something.
        left: hashes sorted by key, their rows, where each bucket begins.
        right: the same of the other side.
        there: bit per key, set where the right holds something.
        flips: differences between keys that are a meeting, sorted by highest bit.
        tops: highest bit of each flip, -1 for no difference.
        jumps: the first flip of the next highest bit.
        distance: largest distance of a pair.
        earlier: masks and units of the bands before this one.
        sole: number of the sole owner of each row, left and right; 0 for several. Rows of one sole
            owner are no pair. Empty: nobody owns anything.
        heavy: pairs of buckets with more candidates are not compared but told in `skipped`.
        out: columns to fill: rows of the left, rows of the right, distances.
        skipped: (S, 2) column to fill with keys, left and right.

    Returns:
        Where to go on (used key, flip), pairs written, pairs of buckets skipped.
    """
    bits_a, rows_a, begins_a = left
    bits_b, rows_b, begins_b = right
    out_i, out_j, out_d = out
    masks, units = earlier
    sole_a, sole_b = sole
    n = 0
    s = 0
    while at < last:
        key = np.int64(used[at])
        a0 = np.int64(begins_a[key])
        a1 = np.int64(begins_a[key + 1])
        while flip < len(flips):
            if half and tops[flip] >= 0 and (key >> tops[flip]) & 1:
                flip = jumps[flip]
                continue
            end = jumps[flip]
            while flip < end:
                target = key ^ np.int64(flips[flip])
                if not (there[target >> 6] >> np.uint64(target & 63)) & np.uint64(1):
                    flip += 1
                    continue
                b0 = np.int64(begins_b[target])
                b1 = np.int64(begins_b[target + 1])
                size = (a1 - a0) * (b1 - b0)
                if size > heavy:
                    if s == len(skipped):
                        return at, flip, n, s
                    skipped[s, 0] = key
                    skipped[s, 1] = target
                    s += 1
                    flip += 1
                    continue
                if n + size > len(out_i):
                    return at, flip, n, s
                same = half and target == key
                for i in range(a0, a1):
                    value = bits_a[i]
                    begin = i + 1 if same else int(b0)
                    while begin < b1:
                        wide = begin + LANE <= b1
                        if wide:
                            least = _nearest(value, bits_b, begin, LANE)
                        else:
                            least = _nearest(value, bits_b, begin, REST)
                        stop = min(begin + (LANE if wide else REST), int(b1))
                        begin, here = stop, begin
                        if least > distance:
                            continue
                        for j in range(here, stop):
                            differ = value ^ bits_b[j]
                            apart = _ones(differ)
                            if apart <= distance and _first_here(differ, masks, units):
                                row, other = rows_a[i], rows_b[j]
                                if len(sole_a) and sole_a[row] and sole_a[row] == sole_b[other]:
                                    continue
                                out_i[n] = row
                                out_j[n] = other
                                out_d[n] = apart
                                n += 1
                flip += 1
        flip = 0
        at += 1
    return at, flip, n, s


@compiled
def compare(
    row: int,
    last: int,
    tile: int,
    end: int,
    half: bool,
    a: Bits,
    b: Bits,
    distance: np.uint64,
    sole: tuple[Small, Small],
    out: tuple[Small, Small, NDArray[np.uint8]],
) -> tuple[int, int]:
    """Rows of `a` from `row` to `last`, each with the hashes of `b` from `tile` to `end`.

    Returns:
        The row to go on with, and pairs written.
    """
    out_i, out_j, out_d = out
    sole_a, sole_b = sole
    n = 0
    while row < last:
        first = max(tile, row + 1) if half else tile
        if n + end - tile > len(out_i):
            break
        value = a[row]
        for begin in range(first, end, LANE):
            stop = min(begin + LANE, end)
            if stop - begin == LANE and _nearest(value, b, begin, LANE) > distance:
                continue
            for j in range(begin, stop):
                apart = _ones(value ^ b[j])
                if apart <= distance:
                    if len(sole_a) and sole_a[row] and sole_a[row] == sole_b[j]:
                        continue
                    out_i[n] = row
                    out_j[n] = j
                    out_d[n] = apart
                    n += 1
        row += 1
    return row, n


@compiled
def meetings(a: Bits, b: Bits, masks: Bits, units: Bits) -> NDArray[np.int64]:
    """(bands,) how many pairs of `a` and `b` differ in fewer bits of a band than it has units."""
    found = np.zeros(len(masks), dtype=np.int64)
    for band in range(len(masks)):
        mask, unit = masks[band], units[band]
        met = 0
        for value in a:
            for other in b:
                met += _ones((value ^ other) & mask) < unit
        found[band] = met
    return found


@compiled
def dealt(bits: Bits, table: Bits) -> Bits:
    """The hashes with their bits in another order.

    Args:
        bits: (N,) hashes.
        table: (8, 256) for each byte of a hash, lowest first, where its bits go.
    """
    moved = np.empty_like(bits)
    for row in range(len(bits)):
        value = bits[row]
        to = np.uint64(0)
        for byte in range(8):
            to |= table[byte, (value >> np.uint64(8 * byte)) & np.uint64(255)]
        moved[row] = to
    return moved
