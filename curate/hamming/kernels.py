"""The inner loops of the join, compiled by Numba (https://numba.pydata.org).

Imported where there is much to compare, and only there (`curate.compiled`). Loops that find
pairs write them to columns that are handed in, stop when the next pair of buckets might not fit,
and return where they stopped: that is what bounds memory. They take plain tuples and arrays, no
classes of ours: kept code names the types it was made for, and would not load once one has moved.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.compiled import compiled, inlined

Bits = NDArray[np.uint64]
Small = NDArray[np.uint32]

Whole = int | np.int64
"""A whole number: what compiled code makes of one when it computes with it."""

Table = tuple[Bits, Small, Small]
"""Hashes sorted by key, their rows, where the bucket of each key begins."""

Columns = tuple[Small, Small, NDArray[np.uint8]]
"""Rows of the left, rows of the right, distances."""

Rules = tuple[np.uint64, Bits, Bits, Small, Small]
"""What makes a pair: the distance, masks and units of earlier bands, owners left and right."""

Pieces = tuple[Small, Small, Small]
"""Where each piece of a bucket begins, a bit for each of its hashes; where the pieces of a key end."""

LANE = 64
"""Hashes compared without a branch; the compiler turns this into vector instructions."""

REST = 8
"""Hashes compared by one vector instruction."""

RUN, TOGETHER = 16, 4
"""Hashes of a long bucket, and hashes that look for them, that are compared with one branch: half the time
of a branch for each REST, and what is fetched from a far cache is looked at four times."""

PAST = RUN
"""At the end of a bucket up to so many hashes after it are looked at too, and masked out."""

LISTED = 1 << 11
"""Pieces of buckets listed at a time: the list stays in the first cache."""


def _build_ones(typing: Any, word: Any) -> Any:
    """Numba's way to one instruction: its type, and what builds it."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


ones = cast(Callable[[np.uint64], np.uint64], intrinsic(_build_ones))
"""The processor's own count of the bits that are set."""


LANES = ir.VectorType(ir.IntType(64), REST)


def _spread(builder: Any, word: Any) -> Any:
    """One word in all lanes."""
    first = builder.insert_element(LANES(ir.Undefined), word, ir.IntType(32)(0))
    zeros = ir.VectorType(ir.IntType(32), REST)([0] * REST)
    return builder.shuffle_vector(first, LANES(ir.Undefined), zeros)


def loaded(context: Any, builder: Any, type_: Any, array: Any, at: Any) -> Any:
    """REST hashes from a place on."""
    data = context.make_array(type_)(context, builder, array).data
    return builder.load(builder.bitcast(builder.gep(data, [at]), LANES.as_pointer()), align=8)


def _apart(builder: Any, these: Any, others: Any) -> Any:
    """In how many bits each lane differs."""
    name = f"llvm.ctpop.v{REST}i64"
    count = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(LANES, [LANES]), name
    )
    return builder.call(count, [builder.xor(these, others)])


def _within(builder: Any, apart: Any, distance: Any) -> Any:
    """Which lanes are within the distance, one bit each, the first one lowest."""
    near = builder.icmp_unsigned("<=", apart, _spread(builder, distance))
    return builder.zext(builder.bitcast(near, ir.IntType(REST)), ir.IntType(64))


def _build_near(typing: Any, value: Any, others: Any, begin: Any, distance: Any) -> Any:
    """The same for REST hashes at once, which leave one bit each."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        looked_at = loaded(context, builder, signature.args[1], arguments[1], arguments[2])
        apart = _apart(builder, looked_at, _spread(builder, arguments[0]))
        return _within(builder, apart, arguments[3])

    return types.uint64(types.uint64, others, types.int64, types.uint64), build


which_near = cast(Callable[[np.uint64, Bits, Whole, np.uint64], np.uint64], intrinsic(_build_near))
"""Which of REST hashes from a place on are within the distance: one bit each, the first one lowest."""


def _build_any_near(
    typing: Any, a: Any, b: Any, c: Any, d: Any, others: Any, begin: Any, distance: Any
) -> Any:
    """The same for TOGETHER hashes with RUN others, which leave nothing but whether any are near."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [_spread(builder, word) for word in arguments[:TOGETHER]]
        others, begin, distance = arguments[TOGETHER:]
        least = None
        for k in range(0, RUN, REST):
            at = builder.add(begin, ir.IntType(64)(k))
            looked_at = loaded(context, builder, signature.args[TOGETHER], others, at)
            for value in values:
                apart = _apart(builder, looked_at, value)
                less = apart if least is None else builder.icmp_unsigned("<", apart, least)
                least = apart if least is None else builder.select(less, apart, least)
        return _within(builder, least, distance)

    word = types.uint64
    return word(word, word, word, word, others, types.int64, word), build


_any_near = cast(
    Callable[[np.uint64, np.uint64, np.uint64, np.uint64, Bits, Whole, np.uint64], np.uint64],
    intrinsic(_build_any_near),
)
"""Not 0 if one of TOGETHER hashes is within the distance of one of RUN others from a place on."""


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

    `bits` is longer than `values` by PAST, so that a look past the end of the last bucket is allowed.
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
def first_here(differ: np.uint64, masks: Bits, units: Bits) -> bool:
    """No earlier band met: the pair belongs to the band that is being scanned."""
    for band in range(len(masks)):  # noqa: SIM110 (a generator would not compile)
        if ones(differ & masks[band]) < units[band]:
            return False
    return True


@compiled
def _told(
    i: int, begin: Whole, near: np.uint64, left: Table, right: Table, rules: Rules, out: Columns, n: int
) -> int:  # fmt: skip
    """Pairs written, once those of hash `i` with the bits of `near`, from `begin` on, are too."""
    _, masks, units, sole_a, sole_b = rules
    value, row = left[0][i], left[1][i]
    for k in range(REST):
        if not (near >> np.uint64(k)) & np.uint64(1):
            continue
        differ, other = value ^ right[0][begin + k], right[1][begin + k]
        if not first_here(differ, masks, units):
            continue
        if len(sole_a) and sole_a[row] and sole_a[row] == sole_b[other]:
            continue
        out[0][n], out[1][n], out[2][n] = row, other, ones(differ)
        n += 1
    return n


@inlined
def _pieces(
    key: np.uint64, above: np.uint64, flip: np.uint64, flips: Small, begins: Small,
    starts: Small, masks: Small, count: np.uint64, limit: np.uint64, most: np.uint64,
) -> tuple[np.uint64, np.uint64]:  # fmt: skip
    """Add the buckets that one key meets, from `above` on, up to `limit` pieces of `most` in all.

    Returns:
        The flip to go on with, pieces in all.
    """
    one = np.uint64(1)
    while flip < np.uint64(len(flips)):
        target = key ^ np.uint64(flips[flip])
        begin = np.uint64(begins[target])
        size = np.uint64(begins[target + one]) - begin
        size = size if target >= above else np.uint64(0)
        if count + (size + most - one) // most > limit:
            break
        starts[count], masks[count] = begin, (one << min(size, most)) - one
        while size > most:
            size, begin, count = size - most, begin + most, count + one
            starts[count], masks[count] = begin, (one << min(size, most)) - one
        count += np.uint64(size > 0)  # an empty bucket is written over: cheaper than to branch
        flip += one
    return flip, count


@compiled
def _listed(
    at: Whole, stop: Whole, flip: Whole, half: bool, used: Small, begins_a: Small, begins_b: Small,
    across: np.uint64, flips: Small, most: Whole, piece: Whole, pieces: Pieces,
) -> tuple[Whole, Whole, Whole]:  # fmt: skip
    """The buckets that keys meet, as a list of pieces, as long as they have at most `most` pairs.

    A piece has up to `piece` hashes, REST or RUN.

    Returns:
        The used key and the flip to go on with, pieces listed; none where the next bucket alone
        has too many.
    """
    starts, masks, ends = pieces
    first, one, lanes = at, np.uint64(1), np.uint64(piece)
    count, room, longest = np.uint64(0), np.uint64(most), np.uint64(LISTED - 1)
    while at < stop and at - first < LISTED:
        key = np.uint64(used[at])
        rows = np.uint64(begins_a[key + one]) - np.uint64(begins_a[key])
        limit, before = longest, count
        if (longest - count) * rows * lanes > room:
            limit = count + room // (rows * lanes)
        following, count = _pieces(
            key ^ across, key + one if half else np.uint64(0), np.uint64(flip), flips, begins_b,
            starts, masks, count, limit, lanes,
        )  # fmt: skip
        room -= (count - before) * rows * lanes
        ends[at - first] = count
        if following < np.uint64(len(flips)):
            return at, np.int64(following), np.int64(count)
        at, flip = at + 1, 0
    return at, flip, np.int64(count)


@compiled
def _matched(
    at: Whole, count: Whole, used: Small, left: Table, right: Table, pieces: Pieces, rules: Rules,
    out: Columns, n: int,
) -> int:  # fmt: skip
    """Pairs written, once those of the listed pieces with the keys from `at` on are too."""
    starts, masks, ends = pieces
    bits_a, bits_b, distance, one = left[0], right[0], rules[0], np.uint64(1)
    first, k = np.uint64(0), 0
    while first < np.uint64(count):
        key, last = np.uint64(used[at + k]), np.uint64(ends[k])
        for i in range(left[2][key], left[2][key + one]):
            value, piece = bits_a[i], first
            while piece < last:
                near = np.uint64(0)
                while piece < last and not near:  # no call in here: all stays in registers
                    begin = np.int64(starts[piece])
                    near = which_near(value, bits_b, begin, distance) & np.uint64(masks[piece])
                    piece += one
                if near:
                    begin = np.int64(starts[piece - one])
                    n = _told(i, begin, near, left, right, rules, out, n)
        first, k = last, k + 1
    return n


@compiled
def _told_of_run(
    i: int, begin: Whole, mask: np.uint64, left: Table, right: Table, rules: Rules, out: Columns, n: int
) -> int:  # fmt: skip
    """Pairs written, once those of hash `i` with a piece of up to RUN hashes are too."""
    for k in range(0, RUN, REST):
        part = (mask >> np.uint64(k)) & np.uint64((1 << REST) - 1)
        if part:
            near = which_near(left[0][i], right[0], begin + k, rules[0]) & part
            if near:
                n = _told(i, begin + k, near, left, right, rules, out, n)
    return n


@compiled
def _matched_in_runs(
    at: Whole, count: Whole, used: Small, left: Table, right: Table, pieces: Pieces, rules: Rules,
    out: Columns, n: int,
) -> int:  # fmt: skip
    """The same as `_matched` for pieces of up to RUN hashes: TOGETHER hashes of a key at a time."""
    starts, masks, ends = pieces
    bits_a, bits_b, distance, one = left[0], right[0], rules[0], np.uint64(1)
    first, k = np.uint64(0), 0
    while first < np.uint64(count):
        key, last = np.uint64(used[at + k]), np.uint64(ends[k])
        begin_a, end_a = np.int64(left[2][key]), np.int64(left[2][key + one])
        for i in range(begin_a, end_a, TOGETHER):
            stop = min(int(i + TOGETHER), int(end_a))
            a, b = bits_a[i], bits_a[min(i + 1, stop - 1)]
            c, d = bits_a[min(i + 2, stop - 1)], bits_a[stop - 1]
            piece = first
            while piece < last:
                near = np.uint64(0)
                while piece < last and not near:  # no call in here: all stays in registers
                    near = _any_near(a, b, c, d, bits_b, np.int64(starts[piece]), distance)
                    piece += one
                if near:
                    begin, mask = np.int64(starts[piece - one]), np.uint64(masks[piece - one])
                    for row in range(i, stop):
                        n = _told_of_run(row, begin, mask, left, right, rules, out, n)
        first, k = last, k + 1
    return n


@compiled
def alone(
    key: Whole, target: Whole, own: bool, left: Table, right: Table, rules: Rules, out: Columns, n: int
) -> int:  # fmt: skip
    """Pairs written, once those of one bucket with another, or inside one, are too."""
    a0, a1 = np.int64(left[2][key]), np.int64(left[2][key + 1])
    b0, b1 = np.int64(right[2][target]), np.int64(right[2][target + 1])
    for i in range(a0, a1):
        for begin in range(i + 1 if own else b0, b1, REST):
            mask = (np.uint64(1) << np.uint64(min(int(b1 - begin), REST))) - np.uint64(1)
            near = which_near(left[0][i], right[0], begin, rules[0]) & mask
            if near:
                n = _told(i, begin, near, left, right, rules, out, n)
    return n


@compiled
def candidates(key: Whole, target: Whole, begins_a: Small, begins_b: Small) -> Whole:
    """How many pairs of hashes two buckets have."""
    rows = np.int64(begins_a[key + 1]) - np.int64(begins_a[key])
    return rows * (np.int64(begins_b[target + 1]) - np.int64(begins_b[target]))


@compiled
def _turn(
    state: NDArray[np.int64], stop: Whole, half: bool, used: Small, left: Table, right: Table,
    across: Whole, flips: Small, rules: Rules, heavy: int, piece: int, pieces: Pieces, out: Columns,
    n: int, skipped: NDArray[np.int64], s: int,
) -> tuple[int, int]:  # fmt: skip
    """One block of keys with the block that differs by `across`; `scan` explains the rest."""
    own, room = half and state[1] == 0, len(out[0])
    at, flip = state[2], state[3]
    while at < stop:
        first: Whole = at
        count: Whole = 0
        if not own:
            at, flip, count = _listed(
                at, stop, flip, half, used, left[2], right[2], np.uint64(across), flips,
                min(heavy, room - n), piece, pieces,
            )  # fmt: skip
            if piece == RUN:
                n = _matched_in_runs(first, count, used, left, right, pieces, rules, out, n)
            else:
                n = _matched(first, count, used, left, right, pieces, rules, out, n)
        if count or at == stop:
            continue
        key = np.int64(used[at])
        target = key ^ across ^ np.int64(flips[flip])
        size = candidates(key, target, left[2], right[2])
        if (s == len(skipped)) if size > heavy else (n + size > room):
            break
        if size > heavy:
            skipped[s, 0], skipped[s, 1] = key, target
            s += 1
        else:
            n = alone(key, target, own, left, right, rules, out, n)
        flip += 1
        if flip == len(flips):
            at, flip = at + 1, 0
    state[2], state[3] = at, flip
    return n, s


@compiled
def scan(
    state: NDArray[np.int64], last: int, half: bool, used: Small, left: Table, right: Table,
    low: int, flips: Small, turns: tuple[Small, NDArray[np.int64]], rules: Rules, heavy: int,
    piece: int, out: Columns, skipped: NDArray[np.int64],
) -> tuple[int, int]:  # fmt: skip
    """Pairs of buckets that meet, block by block of keys.

    A block is the keys that are the same but for the `low` lowest bits. In one turn all its keys are
    joined with those of one other block, the one that differs by the turn's difference.

    Args:
        state: (4,) where to begin, and, once it returns, where to go on: the first used key of the
            block, the turn, the used key, the place in `flips`.
        last: place in `used` to stop before.
        half: left and right are one set: of two buckets that meet both ways take one way; the first
            turn is each bucket with itself.
        used: keys of the left that hold something.
        left: hashes sorted by key, their rows, where each bucket begins.
        right: the same of the other side.
        low: bits of a key inside a block.
        flips: differences in the low bits that are a meeting, those of few bits first.
        turns: differences in the high bits, and how many of `flips` go with each.
        rules: largest distance of a pair; masks and units of the bands before this one; number of
            the sole owner of each row, left and right, 0 for several. Rows of one sole owner are
            no pair. Empty: nobody owns anything.
        heavy: pairs of buckets with more candidates are not compared but told in `skipped`.
        piece: hashes of a bucket that are looked at together, REST, or RUN where buckets are long.
        out: columns to fill: rows of the left, rows of the right, distances.
        skipped: (S, 2) column to fill with keys, left and right.

    Returns:
        Pairs written, pairs of buckets skipped.
    """
    pieces = np.empty(LISTED, np.uint32), np.empty(LISTED, np.uint32), np.empty(LISTED, np.uint32)
    n, s = 0, 0
    while state[0] < last:
        block, stop = np.int64(used[state[0]]) >> low, state[0] + 1
        while stop < last and np.int64(used[stop]) >> low == block:
            stop += 1
        while state[1] < len(turns[0]):
            high, ways = np.int64(turns[0][state[1]]), turns[1][state[1]]
            if not half or block ^ high >= block:
                n, s = _turn(
                    state, stop, half, used, left, right, high << low, flips[:ways], rules, heavy,
                    piece, pieces, out, n, skipped, s,
                )  # fmt: skip
                if state[2] < stop:
                    return n, s
            state[1], state[2] = state[1] + 1, state[0]
        state[0], state[1], state[2] = stop, 0, stop
    return n, s


@compiled
def _nearest(value: np.uint64, others: Bits, begin: int, count: int) -> np.uint64:
    """The least distance to `count` others; a fixed count leaves no rest to do one by one."""
    least = np.uint64(64)
    for k in range(count):
        least = min(least, ones(value ^ others[np.uint64(begin + k)]))
    return least


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
                apart = ones(value ^ b[j])
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
                met += ones((value ^ other) & mask) < unit
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
