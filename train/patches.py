"""The patches of a picture that say most, how smooth they are, and where they lie in JPEG blocks.

Figure 7 of https://arxiv.org/abs/2406.09398 observes that the most fake patches tend to be the
smoothest; `smoothness_correlation` puts a number on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from train.checkpoint import LoadedDetector
from train.pixels import Pixels

LUMA = np.array([0.299, 0.587, 0.114])

BLOCK_PX = 8
"""Side of a JPEG block."""

STRIP_PX = 1 << 18
"""Pixels whose roughness is measured at once; each takes some 60 bytes while it is."""

RANKED = 1 << 22
"""Of more patches, evenly spaced ones are ranked: ranks of all would take more memory than the picture."""

LEAST = 5
"""Pictures that an interval needs: fewer do not tell how pictures differ."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of one picture: where it starts in the pixels that were fed, and its logit."""

    source: str
    x: int
    y: int
    logit: float


def cells_of(pixels: int, field: int, stride: int) -> int:
    """How many patches lie along `pixels`; 0 if not even one fits."""
    return max(0, (pixels - field) // stride + 1)


def extremes(
    source: str,
    logits: NDArray[np.float32],
    loaded: LoadedDetector,
    count: int,
    *,
    most_fake: bool,
) -> list[Patch]:
    """The `count` patches of a map (h, w) that say fake (or real) most, none overlapping another."""
    stride = loaded.spec.stride
    apart = -(-loaded.spec.receptive_field // stride)
    left = np.array(logits if most_fake else -logits, dtype=np.float32)
    found: list[Patch] = []
    while len(found) < count and left.size and np.isfinite(left.max()):
        row, column = (int(v) for v in np.unravel_index(int(left.argmax()), left.shape))
        logit = float(logits[row, column])
        found.append(Patch(source, column * stride, row * stride, logit))
        left[
            max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart
        ] = -np.inf
    return found


def roughness(pixels: Pixels, field: int, stride: int) -> NDArray[np.float32]:
    """Standard deviation of luma in every patch of `pixels` (H, W, 3), (h, w), in 0..255; 0 is flat."""
    height, width = pixels.shape[:2]
    rows, columns = cells_of(height, field, stride), cells_of(width, field, stride)
    found = np.empty((rows, columns), dtype=np.float32)
    at_once = max(1, STRIP_PX // (stride * width))
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        luma = pixels[stride * first : stride * (last - 1) + field] @ LUMA
        mean, square = (_box_mean(values, field, stride) for values in (luma, luma**2))
        found[first:last] = np.sqrt(np.maximum(square - mean**2, 0))
    return found


def _box_mean(values: NDArray[np.float64], field: int, stride: int) -> NDArray[np.float64]:
    """Mean over every field x field window at every stride, from running sums."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    rows = np.arange(0, values.shape[0] - field + 1, stride)[:, None]
    columns = np.arange(0, values.shape[1] - field + 1, stride)[None, :]
    total = sums[rows + field, columns + field] - sums[rows, columns + field]
    total += sums[rows, columns] - sums[rows + field, columns]
    mean: NDArray[np.float64] = total / field**2
    return mean


def smoothness_correlation(logits: NDArray[np.float32], rough: NDArray[np.float32]) -> float | None:
    """Spearman's rank correlation of patch logit with smoothness; None where either is constant.

    Above 0, smooth patches say fake.
    """
    # an odd step meets every place in a JPEG block
    step = math.ceil(math.sqrt(logits.size / RANKED)) | 1
    a = rankdata(logits[::step, ::step], axis=None)
    b = rankdata(-rough[::step, ::step], axis=None)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def phase_means(
    patches: NDArray[np.float32], stride: int, origin: tuple[int, int] = (0, 0)
) -> list[list[float | None]]:
    """Mean logit by where a patch starts in a JPEG block, [y][x], in whole strides; None without a patch.

    `origin` is where a block begins, x and y in pixels.
    """
    places = BLOCK_PX // stride if BLOCK_PX % stride == 0 else 1
    columns, rows = (
        (stride * np.arange(cells) - start) % BLOCK_PX // stride % places
        for cells, start in zip(patches.shape[::-1], origin, strict=True)
    )
    return [
        [_mean(patches[rows == y][:, columns == x]) for x in range(places)] for y in range(places)
    ]


def _mean(values: NDArray[np.float32]) -> float | None:
    return float(values.mean()) if values.size else None


def mean_with_interval(
    values: Sequence[float], *, within: tuple[float, float] = (-1.0, 1.0)
) -> dict[str, Any] | None:
    """{n, value, low, high}: mean over pictures with its 95 % interval by Student's t; None without any.

    `within` is what the values can be, by default correlations. Below `LEAST` pictures there is no interval:
    low and high are None.
    """
    if not values:
        return None
    n, mean = len(values), float(np.mean(values))
    if n < LEAST:
        return {"n": n, "value": mean, "low": None, "high": None}
    half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n))
    low, high = within
    return {"n": n, "value": mean, "low": max(low, mean - half), "high": min(high, mean + half)}
