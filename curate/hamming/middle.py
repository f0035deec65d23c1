"""Buckets whose keys differ in up to two bits, joined where they meet halfway; compiled by Numba.

Between two keys that differ in two bits lie two others, one bit away from both. So it is enough to
put together, at each key, the hashes of its own bucket and of those one bit away: all that meet in
two bits are side by side somewhere. Of w bits that is w + 1 buckets for a key instead of w²/2,
which are walked in the order in which they lie in memory, and what is compared is one run of
hashes instead of many short ones.

A pair of buckets comes together at two keys. It counts at the one where the higher of the bits
in which the two buckets are away is 0.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.compiled import compiled, inlined
from curate.hamming.kernels import (
    LANES,
    REST,
    Bits,
    Columns,
    Rules,
    Table,
    Whole,
    alone,
    candidates,
    first_here,
    loaded,
    ones,
    which_near,
)

ROOM = 1 << 10
"""Hashes that come together at most; where there are more, buckets are joined one with another."""

Gathered = tuple[Bits, NDArray[np.int64], NDArray[np.int64]]
"""Hashes of the buckets side by side, own first; where each bucket begins in the table, and ends in here."""


def _build_copied(typing: Any, source: Any, begin: Any, target: Any, to: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = loaded(context, builder, signature.args[0], arguments[0], arguments[1])
        data = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        place = builder.bitcast(builder.gep(data, [arguments[3]]), LANES.as_pointer())
        builder.store(found, place, align=8)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(source, types.int64, target, types.int64), build


_copied = cast(Callable[[Bits, Whole, Bits, Whole], int], intrinsic(_build_copied))
"""Copies REST hashes, wanted or not: what is not is written over by the next."""


@inlined
def _gathered(key: Whole, width: int, table: Table, into: Gathered) -> Whole:
    """Put the hashes of a key and of those one bit away together; how many, or -1 if they do not fit."""
    bits, _, begins = table
    hashes, starts, ends = into
    count: Whole = 0
    for group in range(width + 1):
        other = key ^ ((1 << group) >> 1)
        begin, end = np.int64(begins[other]), np.int64(begins[other + 1])
        size = end - begin
        if count + size > ROOM:
            return -1
        _copied(bits, begin, hashes, count)
        for at in range(REST, size):
            hashes[count + at] = bits[begin + at]
        starts[group] = begin
        count += size
        ends[group] = count
    return count


@compiled
def _row_of(place: Whole, gathered: Gathered, table: Table) -> np.uint32:
    """The row of the hash at a place: looked up for those that are near, which are few."""
    _, starts, ends = gathered
    group, begin = 0, np.int64(0)
    while place >= ends[group]:
        begin = ends[group]
        group += 1
    row: np.uint32 = table[1][starts[group] + place - begin]
    return row


@compiled
def _told(
    place: Whole, begin: Whole, near: np.uint64, a: Gathered, b: Gathered, left: Table, right: Table,
    rules: Rules, out: Columns, n: int,
) -> int:  # fmt: skip
    """Pairs written, once those of a place in `a` with the bits of `near`, from one of `b` on, are too."""
    _, masks, units, sole_a, sole_b = rules
    value, row = a[0][place], _row_of(place, a, left)
    for k in range(REST):
        if not (near >> np.uint64(k)) & np.uint64(1):
            continue
        differ = value ^ b[0][begin + k]
        if not first_here(differ, masks, units):
            continue
        other = _row_of(begin + k, b, right)
        if len(sole_a) and sole_a[row] and sole_a[row] == sole_b[other]:
            continue
        out[0][n], out[1][n], out[2][n] = row, other, ones(differ)
        n += 1
    return n


@compiled
def _joined(
    first: Whole, last: Whole, end: Whole, a: Gathered, b: Gathered, left: Table, right: Table,
    rules: Rules, out: Columns, n: int,
) -> int:  # fmt: skip
    """Pairs written, once those of places `first` to `last` of `a` with the first `end` of `b` are too."""
    values, hashes, distance, one = a[0], b[0], rules[0], np.uint64(1)
    whole = end - end % REST
    rest = (one << np.uint64(end - whole)) - one
    for place in range(first, last):
        value = values[place]
        near = which_near(value, hashes, whole, distance) & rest
        for begin in range(0, whole, REST):  # no branch in here
            near |= which_near(value, hashes, begin, distance)
        if not near:
            continue
        for begin in range(0, end, REST):
            near = which_near(value, hashes, begin, distance)
            near &= rest if begin == whole else ~np.uint64(0)
            if near:
                n = _told(place, begin, near, a, b, left, right, rules, out, n)
    return n


@compiled
def _together(
    key: Whole, width: int, half: bool, a: Gathered, b: Gathered, left: Table, right: Table,
    rules: Rules, out: Columns, n: int,
) -> int:  # fmt: skip
    """Pairs written, once those that come together at one key are too."""
    distance, masks, units, sole_a, sole_b = rules
    turned, back = (distance, masks, units, sole_b, sole_a), (out[1], out[0], out[2])
    ends_a, ends_b = a[2], b[2]
    for place in range(ends_a[0]):
        end = np.int64(place) if half else ends_b[0]
        n = _joined(place, place + 1, end, a, b, left, right, rules, out, n)
    for group in range(1, width + 1):
        if (key >> (group - 1)) & 1:
            continue
        before, end = ends_b[group - 1], ends_a[group]
        n = _joined(ends_a[group - 1], end, before, a, b, left, right, rules, out, n)
        if not half:
            before, end = ends_a[group - 1], ends_b[group]
            n = _joined(ends_b[group - 1], end, before, b, a, right, left, turned, back, n)
    return n


@compiled
def _one_by_one(
    key: Whole, turn: Whole, width: int, half: bool, left: Table, right: Table, rules: Rules,
    heavy: int, out: Columns, n: int, skipped: NDArray[np.int64], s: int,
) -> tuple[int, int, Whole]:  # fmt: skip
    """The same, one pair of buckets after another, from a turn on; as far as there is room.

    Returns:
        Pairs written, pairs of buckets skipped, the turn to go on with; -1 when all are done.
    """
    groups = width + 1
    while turn < groups * groups:
        one, two = (
            turn // groups,
            turn % groups,
        )  # two buckets, one for itself, or what is not met here
        highest = max(one, two)
        meets = highest == 0 or (one != two and not (key >> (highest - 1)) & 1)
        if meets and not (half and two > one):
            mine, other = key ^ ((1 << one) >> 1), key ^ ((1 << two) >> 1)
            size = candidates(mine, other, left[2], right[2])
            if (s == len(skipped)) if size > heavy else (n + size > len(out[0])):
                return n, s, turn
            if size > heavy:
                skipped[s, 0], skipped[s, 1] = mine, other
                s += 1
            elif size:
                n = alone(mine, other, half and highest == 0, left, right, rules, out, n)
        turn += 1
    return n, s, -1


@compiled
def _room(width: int) -> Gathered:
    ends = np.empty(width + 1, np.int64)
    return np.empty(ROOM + REST, np.uint64), ends, ends.copy()


@compiled
def meet(
    state: NDArray[np.int64], last: int, half: bool, width: int, left: Table, right: Table,
    rules: Rules, heavy: int, out: Columns, skipped: NDArray[np.int64],
) -> tuple[int, int]:  # fmt: skip
    """Pairs of buckets whose keys differ in up to two bits, key by key.

    Args:
        state: (2,) where to begin, and, once it returns, where to go on: the key, the turn there.
        last: key to stop before.
        half: left and right are one set: of two buckets that meet both ways take one way.
        width: bits of a key.
        left: hashes sorted by key, their rows, where each bucket begins.
        right: the same of the other side.
        rules: largest distance of a pair; masks and units of the bands before this one; number of
            the sole owner of each row, left and right, 0 for several. Rows of one sole owner are
            no pair. Empty: nobody owns anything.
        heavy: pairs of buckets with more candidates are not compared but told in `skipped`.
        out: columns to fill: rows of the left, rows of the right, distances.
        skipped: (S, 2) column to fill with keys, left and right.

    Returns:
        Pairs written, pairs of buckets skipped.
    """
    a = _room(width)
    b = a if half else _room(width)
    n, s = 0, 0
    while state[0] < last:
        key = np.int64(state[0])
        most: Whole = -1
        if state[1] == 0:
            count = _gathered(key, width, left, a)
            others = count if half or count <= 0 else _gathered(key, width, right, b)
            most = count * others if count >= 0 and others >= 0 else -1
        if 0 <= most <= heavy:
            if n + most > len(out[0]):
                break
            if most:
                n = _together(key, width, half, a, b, left, right, rules, out, n)
        else:
            n, s, turn = _one_by_one(
                key, state[1], width, half, left, right, rules, heavy, out, n, skipped, s
            )
            if turn >= 0:
                state[1] = turn
                break
        state[0], state[1] = key + 1, 0
    return n, s
