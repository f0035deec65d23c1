"""The inner loops of `curate.verify`: one picture is laid onto another, moved into place, compared.

One pair of pictures at a time, so that it stays in the processor's cache from beginning to end. What
the steps are for, and their constants, are told in `curate.verify`.

Loops are written out where NumPy has a word for them: Numba compiles each such word anew, and what waits
for that is the first use on a machine.
"""

import numpy as np
from numpy.typing import NDArray

from curate.compiled import compiled, summing

Picture = NDArray[np.float32]
"""(size, size) grey levels."""

Line = NDArray[np.float32]
Table = NDArray[np.float64]
Places = NDArray[np.int64]

Axis = tuple[Places, Line, Line]
"""Linear interpolation along one axis: for each pixel of the target, a source pixel that has one
after it, the share of that next one, and 1 where the place lies in the source."""

Pairs = tuple[Places, Places, Places, NDArray[np.float32]]
"""(N,) which thumbnail is looked for, laid down how (`turned`), in which, and (N, 4) where in it."""

REACH, PARTS = 512, 4
"""Differences of grey levels are counted by quarters of a level to find their median."""

SMALL = 16
"""Pixels of a side below which a picture is small."""

STRONG = 3.0
"""Detail is told by no more than so many times its mean."""

BLOCK = 8
"""Pixels along each side of a block."""

FARTHEST = 3.0
"""Pixels by which an edge moves at most in one step."""


@compiled
def turned(shown: NDArray[np.uint8], way: int) -> Picture:
    """The picture laid down another way: bits of `way` are across, down, transposed (`views.TURNS`)."""
    size = len(shown)
    out = np.empty((size, size), np.float32)
    for y in range(size):
        for x in range(size if way == 0 else 0):
            out[y, x] = shown[y, x]
        for x in range(size if way else 0):
            row, column = (x, y) if way & 4 else (y, x)
            row = size - 1 - row if way & 2 else row
            column = size - 1 - column if way & 1 else column
            out[y, x] = shown[row, column]
    return out


@compiled
def axis(start: float, end: float, size: int) -> Axis:
    """A target of `size` pixels that shows `start` to `end` of a source of as many."""
    low = np.empty(size, np.int64)
    share, inside = np.empty(size, np.float32), np.empty(size, np.float32)
    for k in range(size):
        place = (start + (end - start) * ((k + 0.5) / size)) * size - 0.5
        inside[k] = -1 < place < size
        place = min(max(place, 0.0), size - 1.0)
        low[k] = min(int(place), size - 2)
        share[k] = place - low[k]
    return low, share, inside


@summing
def lay(source: Picture, across: Axis, down: Axis) -> Picture:
    """What the two axes show of `source`."""
    size = len(source)
    out, row = np.empty((size, size), np.float32), np.empty(size, np.float32)
    low, share, _ = across
    first, parts, _ = down
    for y in range(size):
        above, below, part = source[first[y]], source[first[y] + 1], parts[y]
        for x in range(size):
            row[x] = above[x] + part * (below[x] - above[x])
        for x in range(size):
            left = row[low[x]]
            out[y, x] = left + share[x] * (row[low[x] + 1] - left)
    return out


@summing
def soften(shown: Picture) -> Picture:
    """Weights 1, 2, 1 along both axes, edges repeated."""
    size = len(shown)
    out, row = np.empty((size, size), np.float32), np.empty(size + 2, np.float32)
    for y in range(size):
        above, here, below = shown[max(y - 1, 0)], shown[y], shown[min(y + 1, size - 1)]
        for x in range(size):
            row[x + 1] = above[x] + 2 * here[x] + below[x]
        row[0], row[size + 1] = row[1], row[size]
        for x in range(size):
            out[y, x] = (row[x] + 2 * row[x + 1] + row[x + 2]) * np.float32(1 / 16)
    return out


@summing
def detail(shown: Picture) -> Picture:
    """What is left when the mean of 5 x 5 pixels is taken off, edges repeated."""
    size = len(shown)
    out, row = np.empty((size, size), np.float32), np.empty(size + 4, np.float32)
    for y in range(size):
        a, b, c = shown[max(y - 2, 0)], shown[max(y - 1, 0)], shown[y]
        d, e = shown[min(y + 1, size - 1)], shown[min(y + 2, size - 1)]
        for x in range(size):
            row[x + 2] = a[x] + b[x] + c[x] + d[x] + e[x]
        row[0] = row[1] = row[2]
        row[size + 2] = row[size + 3] = row[size + 1]
        for x in range(size):
            mean = row[x] + row[x + 1] + row[x + 2] + row[x + 3] + row[x + 4]
            out[y, x] = c[x] - mean * np.float32(1 / 25)
    return out


@summing
def halve(shown: Picture) -> Picture:
    """The mean of 2 x 2 pixels."""
    size = len(shown) // 2
    out = np.empty((size, size), np.float32)
    for y in range(size):
        above, below = shown[2 * y], shown[2 * y + 1]
        for x in range(size):
            four = above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1]
            out[y, x] = four * np.float32(0.25)
    return out


@compiled
def median(values: Line) -> np.float32:
    """The median of values within 512 of nothing, to some hundredths."""
    counts = np.zeros(2 * REACH * PARTS + 1, np.int32)
    for value in values:
        counts[int((value + np.float32(REACH)) * np.float32(PARTS))] += 1
    rank = len(values) / 2
    part, before = 0, 0
    while before + counts[part] < rank:
        before += counts[part]
        part += 1
    return np.float32((part + (rank - before) / counts[part]) / PARTS - REACH)


@summing
def trust(asked: Picture, laid: Picture, across: Axis, down: Axis) -> Picture:
    """Cauchy weights: what differs much is something laid over, not misplaced.

    What differs usually is the median, or in a small picture the mean, which is found faster.
    """
    size = len(asked)
    apart = np.empty((size, size), np.float32)
    for y in range(size):
        for x in range(size):
            apart[y, x] = asked[y, x] - laid[y, x]
    middle = np.float32(0) if size < SMALL else median(apart.reshape(-1))
    for y in range(size):
        for x in range(size):
            apart[y, x] = abs(apart[y, x] - middle)
    usual = mean(apart.reshape(-1)) if size < SMALL else median(apart.reshape(-1))
    near = 1 / (2 * (usual + np.float32(2)))
    for y in range(size):
        for x in range(size):
            far = apart[y, x] * near
            apart[y, x] = down[2][y] * across[2][x] / (1 + far * far)
    return apart


@summing
def mean(values: Line) -> np.float32:
    """The mean."""
    total = np.float32(0)
    for value in values:
        total += value
    return total / np.float32(len(values))


@summing
def slopes(laid: Picture) -> tuple[Picture, Picture]:
    """Change of brightness along rows and across them, one-sided at the edges."""
    size = len(laid)
    along, down = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
    half = np.float32(0.5)
    for y in range(size):
        along[y, 0] = laid[y, 1] - laid[y, 0]
        along[y, size - 1] = laid[y, size - 1] - laid[y, size - 2]
        for x in range(1, size - 1):
            along[y, x] = (laid[y, x + 1] - laid[y, x - 1]) * half
    for x in range(size):
        down[0, x] = laid[1, x] - laid[0, x]
        down[size - 1, x] = laid[size - 1, x] - laid[size - 2, x]
    for y in range(1, size - 1):
        for x in range(size):
            down[y, x] = (laid[y + 1, x] - laid[y - 1, x]) * half
    return along, down


@compiled
def ramps(size: int) -> tuple[Line, Line]:
    """(size * size,) how far right, and how far down, each pixel lies, 0 to 1."""
    right, down = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
    for y in range(size):
        for x in range(size):
            right[y, x], down[y, x] = (x + 0.5) / size, (y + 0.5) / size
    return right.reshape(-1), down.reshape(-1)


@summing
def equations(
    asked: Line,
    laid: Line,
    slope: tuple[Line, Line],
    ramp: tuple[Line, Line],
    weights: Line,
    normal: Table,
) -> None:
    """Fills the normal equations of four edges, gain and offset.

    Sums are named by unknowns (left, top, right, bottom, gain, offset; `t` is the right side), each a
    variable of its own, which the compiler keeps in a vector register.

    Args:
        asked: (P,) grey levels.
        laid: (P,) grey levels of what lies there.
        slope: (P,) change of brightness along rows, and across them.
        ramp: (P,) as `ramps` gives them.
        weights: (P,) of the pixels.
        normal: (7, 6) to fill, the lower half and below it the right side.
    """
    s00 = s10 = s11 = s20 = s21 = s22 = s30 = s31 = s32 = s33 = np.float32(0)
    s40 = s41 = s42 = s43 = s44 = s50 = s51 = s52 = s53 = s54 = s55 = np.float32(0)
    t0 = t1 = t2 = t3 = t4 = t5 = np.float32(0)
    along, fall = slope
    to_right, to_bottom = ramp
    for k in range(len(asked)):
        right, bottom = along[k] * to_right[k], fall[k] * to_bottom[k]
        left, top = along[k] - right, fall[k] - bottom
        level, aim = laid[k] - np.float32(128), asked[k] - np.float32(128)
        f = weights[k]
        a, b, c, d, e = f * left, f * top, f * right, f * bottom, f * level
        s00 += a * left
        s10 += a * top
        s11 += b * top
        s20 += a * right
        s21 += b * right
        s22 += c * right
        s30 += a * bottom
        s31 += b * bottom
        s32 += c * bottom
        s33 += d * bottom
        s40 += a * level
        s41 += b * level
        s42 += c * level
        s43 += d * level
        s44 += e * level
        s50 += a
        s51 += b
        s52 += c
        s53 += d
        s54 += e
        s55 += f
        t0 += a * aim
        t1 += b * aim
        t2 += c * aim
        t3 += d * aim
        t4 += e * aim
        t5 += f * aim
    normal[0, 0], normal[1, 0], normal[1, 1] = s00, s10, s11
    normal[2, 0], normal[2, 1], normal[2, 2] = s20, s21, s22
    normal[3, 0], normal[3, 1], normal[3, 2], normal[3, 3] = s30, s31, s32, s33
    normal[4, 0], normal[4, 1], normal[4, 2], normal[4, 3], normal[4, 4] = s40, s41, s42, s43, s44
    normal[5, 0], normal[5, 1], normal[5, 2], normal[5, 3], normal[5, 4] = s50, s51, s52, s53, s54
    normal[6, 0], normal[6, 1], normal[6, 2], normal[6, 3], normal[6, 4] = t0, t1, t2, t3, t4
    normal[5, 5], normal[6, 5] = s55, t5


@compiled
def solved(normal: Table) -> Table:
    """What solves a positive definite system laid out as by `equations` (Cholesky's way)."""
    size = normal.shape[1]
    for j in range(size):
        for k in range(j):
            for i in range(j, size + 1):
                normal[i, j] -= normal[i, k] * normal[j, k]
        normal[j, j] = np.sqrt(normal[j, j])
        for i in range(j + 1, size + 1):
            normal[i, j] /= normal[j, j]
    out = np.empty(size)
    for i in range(size - 1, -1, -1):
        out[i] = normal[size, i]
        for k in range(i + 1, size):
            out[i] -= normal[k, i] * out[k]
        out[i] /= normal[i, i]
    return out


@compiled
def copied(window: Line) -> Line:
    """A window of its own."""
    out = np.empty(4, np.float32)
    for k in range(4):
        out[k] = window[k]
    return out


@compiled
def strayed(window: Line, moved: Line) -> float:
    """How far the edge that moved most has moved."""
    most = 0.0
    for k in range(4):
        most = max(most, abs(moved[k] - window[k]))
    return most


@compiled
def refined(asked: Picture, offered: Picture, window: Line, steps: int, damping: Table) -> Line:
    """The window (left, top, right, bottom) after some Gauss-Newton steps."""
    size = len(asked)
    window, normal, ramp = copied(window), np.empty((7, 6)), ramps(size)
    for _ in range(steps):
        across, down = axis(window[0], window[2], size), axis(window[1], window[3], size)
        laid = lay(offered, across, down)
        along, fall = slopes(laid)
        weights = trust(asked, laid, across, down).reshape(-1)
        slope = along.reshape(-1), fall.reshape(-1)
        equations(asked.reshape(-1), laid.reshape(-1), slope, ramp, weights, normal)
        for k in range(6):
            normal[k, k] += damping[k]
        moves = solved(normal)
        width, height = window[2] - window[0], window[3] - window[1]
        for k in range(4):
            scale = height if k % 2 else width
            window[k] += min(max(moves[k], -FARTHEST), FARTHEST) / size * scale
    return window


@summing
def block_sums(
    a: Picture, b: Picture, top: int, left: int
) -> tuple[np.float32, np.float32, np.float32]:
    """Squares of `a`, squares of `b`, products, in the block that begins there."""
    aa = bb = ab = np.float32(0)
    for y in range(top, top + BLOCK):
        for x in range(left, left + BLOCK):
            aa += a[y, x] * a[y, x]
            bb += b[y, x] * b[y, x]
            ab += a[y, x] * b[y, x]
    return aa, bb, ab


@compiled
def best_share(agreement: Table, weight: Table, share: float) -> float:
    """Weighted mean of the best blocks that together have `share` of the weight."""
    order, total = np.empty(len(agreement), np.int64), 0.0
    for k in range(len(agreement)):
        total += weight[k]
        at = k
        while at and agreement[order[at - 1]] < agreement[k]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = k
    most, used, mean = share * total, 0.0, 0.0
    for block in order:
        part = min(weight[block], most - used)
        if part <= 0 < weight[block]:
            break
        used += part
        mean += part * agreement[block]
    return mean / max(used, 1e-6)


@compiled
def block_sum(line: Line, start: int) -> float:
    """The sum of a block's worth of values."""
    total = 0.0
    for k in range(start, start + BLOCK):
        total += line[k]
    return total


@compiled
def compared(a: Picture, offered: Picture, window: Line, limits: Table) -> tuple[float, float]:
    """How well a picture agrees with what lies in a window of another.

    Args:
        a: a picture whose local mean is taken off.
        offered: the other picture.
        window: left, top, right, bottom.
        limits: floor of a block's variance, variance of half a weight, share of the weight that is
            compared, least weight, correlation below which a block does not agree at all.

    Returns:
        The score, and the share of the weight that does not agree at all.
    """
    floor, telling, kept, least, agrees = limits
    size = len(a)
    across, down = axis(window[0], window[2], size), axis(window[1], window[3], size)
    b = detail(lay(offered, across, down))
    count = size // BLOCK
    agreement, weight = np.zeros(count * count), np.zeros(count * count)
    for block in range(count * count):
        y, x = block // count * BLOCK, block % count * BLOCK
        if block_sum(down[2], y) * block_sum(across[2], x) * 2 <= BLOCK * BLOCK:
            continue
        aa, bb, ab = block_sums(a, b, y, x)
        power_a, power_b = aa / BLOCK**2, bb / BLOCK**2
        power = max(power_a, power_b)
        agreement[block] = ab / BLOCK**2 / np.sqrt((power_a + floor) * (power_b + floor))
        weight[block] = power / (power + telling)
    total = against = 0.0
    for block in range(count * count):
        total += weight[block]
        if agreement[block] < agrees:
            against += weight[block]
    covered = against / max(total, 1e-6)
    score = best_share(agreement, weight, kept) if total >= least else 0.0
    return min(max(score, 0.0), 1.0), covered


@compiled
def judge(
    shown: NDArray[np.uint8],
    pairs: Pairs,
    steps: tuple[int, int],
    limits: tuple[Table, Table, float],
    out: Table,
) -> None:
    """Fills score, window and covered share of some pairs.

    Args:
        shown: (T, 64, 64) thumbnails.
        pairs: of them.
        steps: taken at half the size, and at the whole.
        limits: those of `compared`, the damping of `refined`, and how far an edge may move.
        out: (N, 6) to fill: score, left, top, right, bottom, covered share.
    """
    asked, turns, offered, windows = pairs
    coarse, fine = steps
    comparison, damping, drift = limits
    for k in range(len(asked)):
        window, given = windows[k], turned(shown[asked[k]], turns[k])
        other = turned(shown[offered[k]], 0)
        bare = detail(given)
        score, covered = compared(bare, other, window, comparison)
        soft, soft_other = soften(given), soften(other)
        moved = refined(halve(soft), halve(soft_other), window, coarse, damping)
        moved = refined(soft, soft_other, moved, fine, damping)
        if strayed(window, moved) < drift:
            better, covers = compared(bare, other, moved, comparison)
            if better > score:
                score, covered, window = better, covers, moved
        out[k, 0], out[k, 5] = score, covered
        for edge in range(4):
            out[k, 1 + edge] = window[edge]


@summing
def fine_detail(shown: Picture) -> Picture:
    """What is left when the mean of 3 x 3 pixels is taken off, edges repeated."""
    size = len(shown)
    out, row = np.empty((size, size), np.float32), np.empty(size + 2, np.float32)
    for y in range(size):
        above, here, below = shown[max(y - 1, 0)], shown[y], shown[min(y + 1, size - 1)]
        for x in range(size):
            row[x + 1] = above[x] + here[x] + below[x]
        row[0], row[size + 1] = row[1], row[size]
        for x in range(size):
            out[y, x] = here[x] - (row[x] + row[x + 1] + row[x + 2]) * np.float32(1 / 9)
    return out


@summing
def limited(shown: Picture) -> Line:
    """(size * size,) the same, nothing further from 0 than STRONG times what is usual.

    So the edges of a box that was laid over do not outweigh all the rest.
    """
    flat = shown.reshape(-1)
    out, total = np.empty(len(flat), np.float32), np.float32(0)
    for k in range(len(flat)):
        total += abs(flat[k])
    most = total * np.float32(STRONG / len(flat))
    for k in range(len(flat)):
        out[k] = min(max(flat[k], -most), most)
    return out


@summing
def correlation(a: Line, b: Line) -> np.float32:
    """The normalised correlation of two pictures, -1 to 1; nothing to compare is no agreement."""
    first = second = aa = bb = ab = np.float32(0)
    for k in range(len(a)):
        first += a[k]
        second += b[k]
        aa += a[k] * a[k]
        bb += b[k] * b[k]
        ab += a[k] * b[k]
    share = np.float32(1 / len(a))
    aa, bb, ab = (
        aa - first * first * share,
        bb - second * second * share,
        ab - first * second * share,
    )
    return np.float32(ab / np.sqrt((aa + 1) * (bb + 1)))


@compiled
def agreement(bare: Line, offered: Picture, window: Line) -> np.float32:
    """The correlation of a picture's fine detail with that of what lies in a window of another."""
    size = len(offered)
    laid = lay(offered, axis(window[0], window[2], size), axis(window[1], window[3], size))
    return correlation(bare, limited(fine_detail(laid)))


@compiled
def likely(
    small: NDArray[np.uint8],
    pairs: Pairs,
    steps: int,
    limits: tuple[float, Table, float],
    out: NDArray[np.bool_],
) -> None:
    """Fills whether some pairs are alike enough to be looked at.

    Args:
        small: (T, 24, 24) thumbnails, reduced.
        pairs: of them.
        steps: taken at half the size where it does not agree as it lies.
        limits: least correlation, the damping of `refined`, and how far an edge may move.
        out: (N,) to fill.
    """
    asked, turns, offered, windows = pairs
    least, damping, drift = limits
    for k in range(len(asked)):
        window, given = windows[k], turned(small[asked[k]], turns[k])
        other = turned(small[offered[k]], 0)
        bare = limited(fine_detail(given))
        out[k] = agreement(bare, other, window) >= least
        if not out[k]:
            moved = refined(halve(given), halve(other), window, steps, damping)
            near = strayed(window, moved) < drift
            out[k] = near and agreement(bare, other, moved) >= least
