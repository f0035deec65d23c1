"""Is it the same picture? A second and a third opinion on pairs whose hashes are near.

Aligned portraits, products and skies have look-alikes by chance: among 2,200 faces, 4,450 pairs have
some pair of views within 10 of 64 bits. The second opinion is cheap and halves them: 288 bits, whether
each of 12 x 12 cells is brighter than its neighbours (the signs of 255 frequencies were measured as
well, and tell less: at one lost copy in a thousand they reject one look-alike in ten). The third
looks: the offered thumbnail is laid onto the asked one where the pair of views says it lies, the four
edges are refined (Gauss-Newton on brightness, as Lucas and Kanade 1981,
https://dl.acm.org/doi/10.5555/1623264.1623280, with Cauchy weights, so that a caption or a box does
not pull), and the two are correlated in 64 blocks after their local mean is taken off: copies agree
in detail, look-alikes in outline alone. The worst fifth of what there is to compare is left out, which
is room for a box, a sticker or a corner of interface.

Pure; each pair is judged by itself, in whatever batches it comes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.views import EDGE, Floats, Pictures, reduction

SCORE = 0.76
"""Pairs that score less are not called the same. Of 12,000 pairs of views of two different faces none
scores above 0.73; of copies 99 % score above 0.85 (`tests/benchmarks/dedupe_recall.py`)."""

OPINION_BITS = 96
"""Most of the 288 bits that may differ for a pair to be looked at: 99.8 % of copies pass, and 44 % of
look-alikes."""

LIKE_BITS, SCORE_IF_LIKE = 25, 0.65
"""Where so few bits differ, a lower score is enough: a small, soft or grainy copy has little detail left
to agree in. Of two different faces that score above 0.55 none differ in fewer than 38."""

CELLS = 12
"""Cells along each side of the second opinion."""

DRIFT = 0.12
"""How far an edge may move from where the views say it is; a larger move is a fit to something else."""

BLOCKS = 8
"""Blocks along each side."""

LOCAL = 2
"""The local mean is over 5 x 5 pixels."""

FLOOR, TELLING = 6.0, 40.0
"""Variances, in squared grey levels: of the noise that compression leaves; where a block weighs half."""

KEPT = 0.8
"""Share of the weight that is compared."""

LEAST_WEIGHT = 4.0
"""Blocks' worth of structure without which there is nothing to compare."""

COARSE_STEPS, FINE_STEPS = 4, 2

BATCH = 64
"""Pairs judged at a time: some 15 MB of working memory for each thread, which is faster than more."""

Windows = NDArray[np.float32]
"""(N, 4) left, top, right, bottom, as shares of the offered picture."""


@dataclass(frozen=True, slots=True)
class Judged:
    """(N,) score of each pair, 0 to 1; the window found; the share of its weight that disagrees."""

    score: NDArray[np.float64]
    window: Windows
    covered: NDArray[np.float64]


def opinions(asked: Pictures, offered: Pictures, windows: Windows) -> NDArray[np.int64]:
    """(N,) how many of 288 bits differ between each picture and what it is laid on."""
    laid, _ = _lay(offered, windows)
    return np.asarray((_gradient_signs(asked) != _gradient_signs(laid)).sum(1))


def needed(opinions: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) the least score of a pair that is the same picture, by what the second opinion says."""
    return np.where(opinions <= LIKE_BITS, SCORE_IF_LIKE, SCORE)


def _gradient_signs(shown: Pictures) -> NDArray[np.bool_]:
    """(N, 288): is each cell brighter than the one to its left, and than the one above it."""
    few, more = reduction(0, 1, CELLS), reduction(0, 1, CELLS + 1)
    across, down = few @ shown @ more.T, more @ shown @ few.T
    brighter = (across[:, :, 1:] > across[:, :, :-1], down[:, 1:] > down[:, :-1])
    return np.concatenate([signs.reshape(len(shown), -1) for signs in brighter], axis=1)


def judge(asked: Pictures, offered: Pictures, windows: Windows) -> Judged:
    """How well each picture of `asked` is what `offered` shows in its window."""
    parts = [
        _judge(asked[k : k + BATCH], offered[k : k + BATCH], windows[k : k + BATCH])
        for k in range(0, len(asked), BATCH)
    ]
    if not parts:
        return Judged(np.empty(0), np.empty((0, 4), np.float32), np.empty(0))
    return Judged(
        np.concatenate([p.score for p in parts]),
        np.concatenate([p.window for p in parts]),
        np.concatenate([p.covered for p in parts]),
    )


def _judge(asked: Pictures, offered: Pictures, windows: Windows) -> Judged:
    given, given_covered = _compare(asked, offered, windows)
    soft_asked, soft_offered = _soften(asked), _soften(offered)
    refined = _refine(_halve(soft_asked), _halve(soft_offered), windows, COARSE_STEPS)
    refined = _refine(soft_asked, soft_offered, refined, FINE_STEPS)
    found, found_covered = _compare(asked, offered, refined)
    near = (np.abs(refined - windows) < DRIFT).all(1)
    better = near & (found > given)
    return Judged(
        np.where(better, found, given),
        np.where(better[:, None], refined, windows),
        np.where(better, found_covered, given_covered),
    )


def _lay(offered: Pictures, windows: Windows) -> tuple[Pictures, NDArray[np.bool_]]:
    """What is in each window, as large as the picture itself; and which pixels lie in the picture."""
    across, in_width = _interpolation(windows[:, 0], windows[:, 2], offered.shape[2])
    down, in_height = _interpolation(windows[:, 1], windows[:, 3], offered.shape[1])
    laid = (down @ offered @ across.transpose(0, 2, 1)).astype(np.float32)
    return laid, in_height[:, :, None] & in_width[:, None, :]


def _interpolation(
    start: Floats, end: Floats, size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, size, size) linear interpolation between pixel centres, and which targets are inside."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    places = (start[:, None] + (end - start)[:, None] * centres) * size - np.float32(0.5)
    inside = (places > -1) & (places < size)
    apart = places.clip(0, size - 1)[:, :, None] - np.arange(size, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(apart)).astype(np.float32), inside


def _refine(asked: Pictures, offered: Pictures, windows: Windows, steps: int) -> Windows:
    """The windows after some Gauss-Newton steps on their four edges, gain and offset."""
    size = asked.shape[1]
    for _ in range(steps):
        laid, inside = _lay(offered, windows)
        slopes = _slopes(laid)
        weighted = slopes * _trust(asked - laid, inside)[:, None]
        normal = (weighted @ slopes.transpose(0, 2, 1)).astype(np.float64) + _DAMPING
        target = (weighted @ (asked - 128).reshape(len(asked), -1, 1)).astype(np.float64)
        moves = np.linalg.solve(normal, target)[:, :4, 0].clip(-3, 3) / size
        width, height = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
        scale = np.stack([width, height, width, height], axis=1)
        windows = (windows + moves * scale).astype(np.float32)
    return windows


_DAMPING = np.diag([30.0, 30.0, 30.0, 30.0, 1e-3, 1e-3])
"""Keeps flat pictures, whose slopes say nothing, from being moved."""


def _slopes(laid: Pictures) -> Floats:
    """(N, 6, pixels) change of brightness by edge (left, top, right, bottom), by gain, by offset."""
    size = laid.shape[1]
    ramp = ((np.arange(size) + 0.5) / size).astype(np.float32)
    across = np.gradient(laid, axis=2)
    down = np.gradient(laid, axis=1)
    by_edge = (across * (1 - ramp), down * (1 - ramp)[:, None], across * ramp, down * ramp[:, None])
    stacked = np.stack([*by_edge, laid - 128, np.ones_like(laid)], axis=1)
    return stacked.reshape(len(laid), 6, -1)


def _trust(apart: Pictures, inside: NDArray[np.bool_]) -> Floats:
    """(N, pixels) Cauchy weights: what differs much is something laid over, not misplaced."""
    flat = apart.reshape(len(apart), -1)
    centred = flat - np.median(flat, axis=1, keepdims=True)
    usual = np.median(np.abs(centred), axis=1, keepdims=True) + 2
    trust: Floats = inside.reshape(len(apart), -1) / (1 + (centred / (2 * usual)) ** 2)
    return trust.astype(np.float32)


def _compare(
    asked: Pictures, offered: Pictures, windows: Windows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) score, and the share of the weight of blocks that do not agree at all."""
    laid, inside = _lay(offered, windows)
    a, b = _blocks(asked - _local_mean(asked)), _blocks(laid - _local_mean(laid))
    power_a, power_b = (a * a).mean(2), (b * b).mean(2)
    agreement = (a * b).mean(2) / np.sqrt((power_a + FLOOR) * (power_b + FLOOR))
    power = np.maximum(power_a, power_b)
    in_picture = _blocks(inside.astype(np.float32)).mean(2) > 0.5
    weight = in_picture * power / (power + TELLING)
    total = weight.sum(1)
    covered = (weight * (agreement < 0.3)).sum(1) / np.maximum(total, 1e-6)
    score = _best_share(agreement, weight).clip(0, 1)
    return np.where(total >= LEAST_WEIGHT, score, 0.0), covered


def _best_share(agreement: Floats, weight: Floats) -> NDArray[np.float64]:
    """(N,) weighted mean of the best blocks that together have KEPT of the weight."""
    order = np.argsort(-agreement, axis=1, kind="stable")
    agreement = np.take_along_axis(agreement, order, 1).astype(np.float64)
    weight = np.take_along_axis(weight, order, 1).astype(np.float64)
    before = np.cumsum(weight, axis=1) - weight
    used = np.minimum(weight, KEPT * weight.sum(1, keepdims=True) - before).clip(0)
    mean: NDArray[np.float64] = (used * agreement).sum(1) / np.maximum(used.sum(1), 1e-6)
    return mean


def _blocks(shown: Pictures) -> Floats:
    """(N, 64, pixels of a block)."""
    count, size, _ = shown.shape
    edge = size // BLOCKS
    cut = shown.reshape(count, BLOCKS, edge, BLOCKS, edge).transpose(0, 1, 3, 2, 4)
    return cut.reshape(count, BLOCKS * BLOCKS, edge * edge)


def _band(size: int, reach: int) -> Floats:
    """(size, size) matrix that takes the mean of each pixel and its neighbours, edges repeated."""
    band = np.zeros((size, size), np.float32)
    for offset in range(-reach, reach + 1):
        band[np.arange(size), (np.arange(size) + offset).clip(0, size - 1)] += 1
    return band / np.float32(2 * reach + 1)


_MEAN = _band(EDGE, LOCAL)
_SOFT: Floats = (0.25 * np.eye(EDGE) + 0.75 * _band(EDGE, 1)).astype(np.float32)
"""Weights 1, 2, 1: alignment is steadier without the finest detail."""


def _local_mean(shown: Pictures) -> Pictures:
    return np.asarray(_MEAN @ shown @ _MEAN.T)


def _soften(shown: Pictures) -> Pictures:
    return np.asarray(_SOFT @ shown @ _SOFT.T)


def _halve(shown: Pictures) -> Pictures:
    count, size, _ = shown.shape
    return np.asarray(shown.reshape(count, size // 2, 2, size // 2, 2).mean((2, 4)))
