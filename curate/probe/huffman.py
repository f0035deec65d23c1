"""The entropy-coded data of a baseline JPEG, read for the mean of each block alone.

Decoders look up one code at a time, which is nearly all they do where a picture is wanted at an eighth
of its size. Of the coefficients that are not wanted only the lengths matter, so one look-up here
steps over as many codes with their values as lie whole within its bits. Coding: ITU-T T.81, Annex F.

No array is left whatever the data say. What is not exactly as the standard has it ends the reading,
so that the usual decoder can say what is wrong. Imported where much is decoded: see `curate.compiled`.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from curate.compiled import compiled

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Steps = NDArray[np.uint16]
"""By the next WIDTH bits: the bits to step over (the low 5), and above them a symbol or an advance."""

WIDTH = 13
"""Bits of one look-up: both tables of a picture, of 16 KiB, stay in the first cache."""

END = 256
"""Added to an advance that ends its block."""

NO_STEP = 1023
"""An advance no block has room for: a code longer than WIDTH bits, or none."""

FARTHEST = 511
"""Levels from mid-grey that libjpeg takes for white or black; what is farther, for something else."""

MOST_BITS = 64 * 31
"""Bits of the longest block."""

MARGIN = MOST_BITS // 8 + 32
"""Bytes behind the data that may be looked at before it is noticed that they have ended."""

_U = np.uint64
_I = cast(Callable[[Any], int], np.int64)
"""Numba mixes no signed with unsigned numbers, or makes floats of them."""


@compiled
def tabulate(
    counts: Integers, symbols: Bytes, wide: Steps, limits: Integers, offsets: Integers
) -> bool:
    """Fill in the table of single codes; False where there are more codes than their bits can tell.

    Args:
        counts: (16,) codes of each length from 1.
        symbols: (256,) what they stand for.
        wide: (2^WIDTH,) zeros; becomes length and symbol of the code that comes first.
        limits: (17,) becomes the last code of each length, -1 where there is none.
        offsets: (17,) becomes what is added to a code of each length for its place in `symbols`.
    """
    code = at = 0
    for length in range(1, 17):
        offsets[length] = at - code
        if code + counts[length - 1] > 1 << length:
            return False
        for _ in range(counts[length - 1]):
            if length <= WIDTH:
                first, span = code << (WIDTH - length), 1 << (WIDTH - length)
                wide[first : first + span] = length | _I(symbols[at]) << 5
            code, at = code + 1, at + 1
        limits[length] = code - 1 if counts[length - 1] else -1
        code <<= 1
    return True


@compiled
def join_codes(wide: Steps) -> Steps:
    """(2^WIDTH,) bits and coefficients to step over: whole AC codes and values, up to the end of a block."""
    joined = np.full(1 << WIDTH, NO_STEP << 5, dtype=np.uint16)
    for bits in range(1 << WIDTH):
        used = advance = 0
        while True:
            step = _I(wide[(bits << used) & ((1 << WIDTH) - 1)])
            length, run, size = step & 31, step >> 9, step >> 5 & 15
            if length == 0 or used + length + size > WIDTH:
                break
            if size == 0 and run != 15:
                if run == 0:
                    joined[bits] = (used + length) | (advance + END) << 5
                break
            used, advance = used + length + size, advance + run + 1
            if advance > 63:
                break
            joined[bits] = used | advance << 5
    return joined


@compiled
def unstuff(data: Bytes, start: int, end: int, out: Bytes, ends: Integers) -> tuple[int, int, int]:
    """Copy the data of a scan without stuffed zeros and restart markers, up to any other marker.

    Args:
        data: the file.
        start: where the scan's data begin.
        end: what is not read any more.
        out: receives them; at least `end - start` long.
        ends: receives where in `out` each restart interval but the last ends; as many as are expected.

    Returns:
        Where reading stopped, bytes in `out`, and restart markers met.
    """
    at, to, restarts = start, 0, 0
    while True:
        while at + 8 <= end and not _holds_ff(_eight(data, at)):
            for k in range(8):
                out[_U(to + k)] = data[_U(at + k)]
            at, to = at + 8, to + 8
        while at < end and data[_U(at)] != 0xFF:
            out[_U(to)] = data[_U(at)]
            at, to = at + 1, to + 1
        if at + 1 >= end:
            return at, to, restarts
        after = data[_U(at + 1)]
        if after == 0:
            out[_U(to)] = 0xFF
            to += 1
        elif after == 0xD0 + (restarts & 7) and restarts < len(ends):
            ends[restarts] = to
            restarts += 1
        else:
            return at, to, restarts
        at += 2


@compiled
def _eight(data: Bytes, at: int) -> np.uint64:
    """Eight bytes as one number; the compiler makes one instruction of it."""
    p = _U(at)
    return (
        (_U(data[p]) << _U(56))
        | (_U(data[p + _U(1)]) << _U(48))
        | (_U(data[p + _U(2)]) << _U(40))
        | (_U(data[p + _U(3)]) << _U(32))
        | (_U(data[p + _U(4)]) << _U(24))
        | (_U(data[p + _U(5)]) << _U(16))
        | (_U(data[p + _U(6)]) << _U(8))
        | _U(data[p + _U(7)])
    )


@compiled
def _holds_ff(word: np.uint64) -> bool:
    """Whether a byte of it is 255."""
    return bool((~word - _U(0x0101010101010101)) & word & _U(0x8080808080808080))


@compiled
def _fill(data: Bytes, at: int, bits: np.uint64, held: int) -> tuple[int, np.uint64, int]:
    """At least 56 bits ahead, the next at the top; more than `held` may be there, and come again."""
    bits |= _eight(data, at) >> _U(held)
    return at + ((63 - held) >> 3), bits, held | 56


@compiled
def _search(bits: np.uint64, t: int, limits: Integers, offsets: Integers) -> tuple[int, int]:
    """Length of a code of any length and the place of its symbol; length 0 where there is none."""
    for length in range(1, 17):
        code = _I(bits >> _U(64 - length))
        if code <= limits[t, length]:
            return length, code + offsets[t, length]
    return 0, 0


@compiled
def _step_over(
    bits: np.uint64, k: int, t: int, limits: Integers, offsets: Integers, symbols: Bytes
) -> tuple[int, int]:
    """One AC code and its value at coefficient `k`: its bits and the next `k`, over 64 where invalid."""
    length, place = _search(bits, t, limits, offsets)
    symbol = _I(symbols[t, place])
    run, size = symbol >> 4, symbol & 15
    if length == 0 or (size == 0 and 0 < run < 15):
        return 0, 65
    return length + size, 64 if symbol == 0 else k + run + 1


@compiled
def _extend(value: int, size: int) -> int:
    """A DC difference of `size` bits, whose first tells the sign (F.2.2.1); without a branch."""
    return value - ((value << 1 >> size) ^ 1) * ((1 << size) - 1)


@compiled
def read_means(
    data: Bytes,
    length: int,
    ends: Integers,
    restart: int,
    slots: Integers,
    steps: Steps,
    limits: Integers,
    offsets: Integers,
    symbols: Bytes,
    quantum: int,
    pixels: Bytes,
) -> bool:
    """The mean of each block of the first component; False where anything is not as it must be.

    Args:
        data: what `unstuff` gives, `length` bytes and at least MARGIN zeros behind them.
        length: how many count.
        ends: where each restart interval but the last ends.
        restart: MCUs of a restart interval, 0 without.
        slots: (blocks of an MCU, 4) rows of its DC and AC table, and its row and column in the MCU, row -1
            where it is not of the first component.
        steps: (tables, 2^WIDTH) by `tabulate`, those for AC by `join_codes`.
        limits: (tables, 17).
        offsets: (tables, 17).
        symbols: (tables, 256), those for DC 11 at most.
        quantum: the quantisation of DC coefficients.
        pixels: (MCU rows, rows of an MCU, MCUs of a row, columns of an MCU), filled in.
    """
    # One body: handing the tables over to a function takes longer than the block it reads.
    at, bits, held, mean, interval = 0, _U(0), 0, 0, 0
    for unit in range(pixels.shape[0] * pixels.shape[2]):
        row, column = divmod(unit, pixels.shape[2])
        if restart and unit and unit % restart == 0:
            if interval == len(ends) or (8 * at - held + 7) >> 3 != ends[interval]:
                return False
            at, bits, held, mean, interval = ends[interval], _U(0), 0, 0, interval + 1
        for slot in range(len(slots)):
            if at > length + 8:
                return False
            at, bits, held = _fill(data, at, bits, held)

            t = slots[slot, 0]
            step = _I(steps[t, bits >> _U(64 - WIDTH)])
            used, size = step & 31, step >> 5
            if used == 0:
                used, place = _search(bits, t, limits, offsets)
                size = _I(symbols[t, place])
                if used == 0:
                    return False
            bits <<= _U(used)
            if slots[slot, 2] >= 0:
                mean += _extend(_I(bits >> _U(1) >> _U(63 - size)), size)
                level = (mean * quantum + 4) >> 3
                if not -FARTHEST <= level <= FARTHEST:
                    return False
                pixels[row, slots[slot, 2], column, slots[slot, 3]] = min(max(level + 128, 0), 255)
            bits, held = bits << _U(size), held - used - size

            t, k = slots[slot, 1], 1
            while k < 64:
                if held < 32:
                    at, bits, held = _fill(data, at, bits, held)
                step = _I(steps[t, bits >> _U(64 - WIDTH)])
                used, to = step & 31, k + (step >> 5)
                if to > 64:
                    if END < to < END + 64:
                        to = 64
                    else:
                        used, to = _step_over(bits, k, t, limits, offsets, symbols)
                bits, held, k = bits << _U(used), held - used, to
            if k > 64:
                return False
    return (8 * at - held + 7) >> 3 == length and interval == len(ends)
