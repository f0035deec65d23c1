"""Is it the same picture? A second and a third opinion on pairs whose hashes are near.

Aligned portraits, products and skies have look-alikes by chance, and their number grows with the square
of that of images: among 2,200 faces 4,450 pairs have some pair of views within 10 of 64 bits, among a
million pictures some 40 million do. Both opinions do the same at two sizes: the offered thumbnail is laid
onto the asked one where the pair of views says it lies, the four edges are refined (Gauss-Newton on
brightness, as Lucas and Kanade 1981, https://dl.acm.org/doi/10.5555/1623264.1623280, with Cauchy weights,
so that a caption or a box does not pull), and detail is correlated: copies agree in detail, look-alikes
in outline alone.

The second opinion (`likely`) sees 24 x 24 pixels of each thumbnail, which are kept in memory, takes a few
microseconds, and is asked before a pair is written down. The third (`judge`) sees all 64 x 64, and
compares in 64 blocks after their local mean is taken off. The worst fifth of what there is to compare
is left out, which is room for a box, a sticker or a corner of interface.

Pure; each pair is judged by itself, in whatever batches it comes. The loops are in `curate.laying`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.views import REDUCED, TURNS, Bits, Floats, Index, Pictures, Small, reduction

LIKE = 0.56
"""Least correlation of detail, at 24 x 24 pixels, of a pair that is looked at. Chosen on every other
picture of `tests/benchmarks/dedupe_recall.py`: of the others' copies that would be called the same it loses
0.04 %; it turns away 94 % of look-alikes, and 98 % of those among faces."""

SIGNS = REDUCED * REDUCED
"""Signs of fine detail of a picture: is each of 24 x 24 pixels brighter than the nine around it."""

SIGNS_AT_ONCE = 1 << 14
"""Pictures whose signs are made, or pairs whose signs are compared, at a time: some 30 MB."""

LIKE_STEPS = 2
"""Steps at 12 x 12 pixels before that; one loses twice as many copies."""

LIKE_AT_ONCE = 1 << 14
"""Pairs that one thread gives its second opinion on at a time."""

SCORE = 0.76
"""Pairs that score less are not called the same. Of 12,000 pairs of views of two different faces none
scores above 0.73; of copies 99 % score above 0.85 (`tests/benchmarks/dedupe_recall.py`)."""

LIKE_BITS, SCORE_IF_LIKE = 25, 0.65
"""Where so few of 288 bits differ (is each of 12 x 12 cells brighter than its neighbours?) a lower score is
enough: a small, soft or grainy copy has little detail left to agree in. Of two different faces that score
above 0.55 none differ in fewer than 38."""

CELLS = 12
"""Cells along each side for that."""

DRIFT = 0.12
"""How far an edge may move from where the views say it is; a larger move is a fit to something else."""

FLOOR, TELLING = 6.0, 40.0
"""Variances, in squared grey levels: of the noise that compression leaves; where a block weighs half."""

KEPT, AGREES = 0.8, 0.3
"""Share of the weight that is compared; correlation below which a block does not agree at all."""

LEAST_WEIGHT = 4.0
"""Blocks' worth of structure without which there is nothing to compare."""

COARSE_STEPS, FINE_STEPS = 4, 2

DAMPING = np.array([30.0, 30.0, 30.0, 30.0, 1e-3, 1e-3])
"""Keeps flat pictures, whose slopes say nothing, from being moved."""

BATCH = 64
"""Pairs that one thread judges at a time: some 10 milliseconds."""

Windows = NDArray[np.float32]
"""(N, 4) left, top, right, bottom, as shares of the offered picture."""


@dataclass(frozen=True, slots=True)
class Judged:
    """(N,) score of each pair, 0 to 1; the window found; the share of its weight that disagrees."""

    score: NDArray[np.float64]
    window: Windows
    covered: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """(N,) pairs of thumbnails: which is looked for, laid down how (a number of TURNS), in which, where."""

    asked: NDArray[np.integer]
    turns: NDArray[np.integer]
    offered: NDArray[np.integer]
    windows: Windows

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, some: slice | Index) -> "Pairs":
        return Pairs(self.asked[some], self.turns[some], self.offered[some], self.windows[some])

    def plain(self) -> tuple[Index, Index, Index, Windows]:
        """For compiled code, which is to know no class of ours, in one type each."""
        asked, turns, offered = (
            np.asarray(x, np.int64) for x in (self.asked, self.turns, self.offered)
        )
        return asked, turns, offered, np.ascontiguousarray(self.windows, np.float32)


def detail_signs(small: Small) -> Bits:
    """(T, 9) signs of (T, 24, 24) reduced thumbnails, SIGNS bits each, edges repeated.

    Sums of whole numbers, so that they do not depend on how many are made at a time.
    """
    parts = [_signs(small[k : k + SIGNS_AT_ONCE]) for k in range(0, len(small), SIGNS_AT_ONCE)]
    return np.concatenate([np.empty((0, SIGNS // 64), np.uint64), *parts])


def _signs(small: Small) -> Bits:
    padded = np.pad(small.astype(np.int16), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    nine = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    brighter = (9 * padded[:, 1:-1, 1:-1] > nine).reshape(-1, SIGNS)
    return np.ascontiguousarray(np.packbits(brighter, axis=1)).view(np.uint64)


def signs_apart(signs: Bits, i: Index, j: Index) -> NDArray[np.int64]:
    """(N,) in how many signs of their fine detail two pictures differ that lie alike.

    Args:
        signs: (T, 9) of `detail_signs`.
        i: (N,) rows of them.
        j: (N,) rows of them.
    """
    apart = np.empty(len(i), np.int64)
    for k in range(0, len(i), SIGNS_AT_ONCE):
        some = slice(k, k + SIGNS_AT_ONCE)
        differ = signs[i[some]] ^ signs[j[some]]
        np.bitwise_count(differ).sum(1, dtype=np.int64, out=apart[some])
    return apart


def likely(small: Small, pairs: Pairs, pool: ThreadPoolExecutor) -> NDArray[np.bool_]:
    """(N,) the second opinion: is each pair alike enough to be looked at.

    Args:
        small: (T, 24, 24) thumbnails, reduced.
        pairs: of them.
        pool: the threads that do it.
    """
    parts = [pairs[k : k + LIKE_AT_ONCE] for k in range(0, len(pairs), LIKE_AT_ONCE)]
    opinions = pool.map(lambda part: _likely(small, part), parts)
    return np.concatenate([np.empty(0, np.bool_), *opinions])


def _likely(small: Small, pairs: Pairs) -> NDArray[np.bool_]:
    from curate import laying

    out = np.empty(len(pairs), np.bool_)
    laying.likely(small, pairs.plain(), LIKE_STEPS, (LIKE, DAMPING, DRIFT), out)
    return out


def judge(shown: NDArray[np.uint8], pairs: Pairs) -> Judged:
    """The third opinion: how well each thumbnail is what another shows in its window.

    Args:
        shown: (T, 64, 64) thumbnails.
        pairs: of them.
    """
    from curate import laying

    out = np.empty((len(pairs), 6))
    limits = np.array([FLOOR, TELLING, KEPT, LEAST_WEIGHT, AGREES])
    laying.judge(shown, pairs.plain(), (COARSE_STEPS, FINE_STEPS), (limits, DAMPING, DRIFT), out)
    return Judged(out[:, 0], out[:, 1:5].astype(np.float32), out[:, 5])


def same(shown: NDArray[np.uint8], pairs: Pairs, judged: Judged) -> NDArray[np.bool_]:
    """(N,) which of the pairs that were judged are one picture."""
    holds = judged.score >= SCORE
    unsure = np.flatnonzero((judged.score >= SCORE_IF_LIKE) & ~holds)
    holds[unsure] = bits_apart(shown, pairs[unsure]) <= LIKE_BITS
    return holds


def bits_apart(shown: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.int64]:
    """(N,) how many of 288 bits differ between each thumbnail and what it is laid on."""
    asked = [
        TURNS[turn].of(shown[row].astype(np.float32))
        for row, turn in zip(pairs.asked.tolist(), pairs.turns.tolist(), strict=True)
    ]
    laid = _lay(shown[pairs.offered].astype(np.float32), pairs.windows)
    stacked = np.array(asked, np.float32).reshape(laid.shape)
    return np.asarray((_gradient_signs(stacked) != _gradient_signs(laid)).sum(1))


def _gradient_signs(shown: Pictures) -> NDArray[np.bool_]:
    """(N, 288): is each cell brighter than the one to its left, and than the one above it."""
    few, more = reduction(0, 1, CELLS), reduction(0, 1, CELLS + 1)
    across, down = few @ shown @ more.T, more @ shown @ few.T
    brighter = (across[:, :, 1:] > across[:, :, :-1], down[:, 1:] > down[:, :-1])
    return np.concatenate([signs.reshape(len(shown), CELLS * CELLS) for signs in brighter], axis=1)


def _lay(offered: Pictures, windows: Windows) -> Pictures:
    """What is in each window, as large as the picture itself."""
    across = _interpolation(windows[:, 0], windows[:, 2], offered.shape[2])
    down = _interpolation(windows[:, 1], windows[:, 3], offered.shape[1])
    return np.asarray(down @ offered @ across.transpose(0, 2, 1))


def _interpolation(start: Floats, end: Floats, size: int) -> Floats:
    """(N, size, size) linear interpolation between pixel centres."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    places = (start[:, None] + (end - start)[:, None] * centres) * size - np.float32(0.5)
    apart = places.clip(0, size - 1)[:, :, None] - np.arange(size, dtype=np.float32)
    shares: Floats = np.maximum(0, 1 - np.abs(apart)).astype(np.float32)
    return shares
