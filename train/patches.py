"""Patch logits of whole pictures at their own size, and the patches that say most.

A fully convolutional detector can look at a picture of any size and shape. Large ones are cut into
tiles that overlap by what a patch and its representation can see, so that the joined map is that of the
picture in one piece, whatever the tile, in bounded memory. Only the score of a checkpoint that was
trained on native pixels is the pool of such a map; others are shown the picture as they are fed it.

Figure 7 of https://arxiv.org/abs/2406.09398 observes that the most fake patches tend to be the
smoothest; `smoothness_correlation` puts a number on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from train.checkpoint import LoadedDetector
from train.config import Compute
from train.transforms import normalise, to_batch

TILE_PX = 512
"""Side of a tile without its margin; LaDeDa9 needs about 0.6 GB for one."""

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis: pixels [start, stop) to feed, cells [first, last) it is for, cells to skip."""

    start: int
    stop: int
    first: int
    last: int
    skip: int


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


def spans(pixels: int, field: int, stride: int, tile: int) -> Iterator[Span]:
    """Tiles that cover every patch along an axis once.

    Margins are a whole stride (at least 8 pixels): the representation sees one pixel around a patch, and
    NPR pairs pixels from even positions, which strides keep.
    """
    cells = cells_of(pixels, field, stride)
    per_tile = max(1, tile // stride)
    margin = stride * -(-8 // stride)
    for first in range(0, cells, per_tile):
        last = min(first + per_tile, cells)
        start = max(0, stride * first - margin)
        stop = min(pixels, stride * (last - 1) + field + margin)
        yield Span(start, stop, first, last, (stride * first - start) // stride)


def native_map(
    loaded: LoadedDetector,
    pixels: NDArray[np.uint8],
    compute: Compute | None = None,
    *,
    tile: int = TILE_PX,
) -> NDArray[np.float32]:
    """The logit of every patch of `pixels` (H, W, 3) at their own size, (h, w)."""
    compute = compute or Compute(torch.device("cpu"))
    model = compute.place(loaded.model).eval()
    field, stride = loaded.spec.receptive_field, loaded.spec.stride
    height, width = pixels.shape[:2]
    found = np.empty(
        (cells_of(height, field, stride), cells_of(width, field, stride)), dtype=np.float32
    )
    with torch.inference_mode(), compute.autocast():
        for down in spans(height, field, stride, tile):
            for across in spans(width, field, stride, tile):
                cut = pixels[down.start : down.stop, across.start : across.stop]
                fed = to_batch(np.array(cut[None]))
                logits = model.patch_logits(normalise(fed, loaded.preprocessing, compute.device))
                rows = slice(down.skip, down.skip + down.last - down.first)
                columns = slice(across.skip, across.skip + across.last - across.first)
                kept = logits[0, rows, columns].float().cpu().numpy()
                found[down.first : down.last, across.first : across.last] = kept
    return found


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
    left = np.array(logits if most_fake else -logits, dtype=np.float64)
    found: list[Patch] = []
    while len(found) < count and left.size and np.isfinite(left.max()):
        row, column = (int(v) for v in np.unravel_index(int(left.argmax()), left.shape))
        logit = float(logits[row, column])
        found.append(Patch(source, column * stride, row * stride, logit))
        left[
            max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart
        ] = -np.inf
    return found


def roughness(pixels: NDArray[np.uint8], field: int, stride: int) -> NDArray[np.float64]:
    """Standard deviation of luma in every patch of `pixels` (H, W, 3), (h, w), in 0..255; 0 is flat."""
    luma = pixels @ LUMA
    mean, square = (_box_mean(values, field, stride) for values in (luma, luma**2))
    spread: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
    return spread


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


def smoothness_correlation(logits: NDArray[np.float32], rough: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation of patch logit with smoothness; None where either is constant.

    Above 0, smooth patches say fake.
    """
    a, b = rankdata(logits, axis=None), rankdata(-rough, axis=None)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def phase_means(patches: NDArray[np.float32], stride: int, block: int = 8) -> list[list[float]]:
    """Mean logit by where a patch starts in a JPEG block, [y][x], for the phases the stride reaches."""
    step = max(1, block // stride) if stride < block else 1
    return [[float(patches[y::step, x::step].mean()) for x in range(step)] for y in range(step)]


def mean_with_interval(
    values: Sequence[float], *, draws: int = 1000, seed: int = 0
) -> dict[str, float] | None:
    """{n, value, low, high}: mean over pictures with its 95 % bootstrap interval; None without any."""
    if not values:
        return None
    rng = np.random.default_rng(seed)
    found = np.asarray(values)
    means = found[rng.integers(0, len(found), size=(draws, len(found)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"n": len(found), "value": float(found.mean()), "low": float(low), "high": float(high)}
