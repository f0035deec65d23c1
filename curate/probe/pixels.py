"""What decoded pixels tell: sharpness, noise and information, and traces of what was done to them before.

Everything is measured on a bounded part of the picture, so the cost does not grow with it.

Block grid: pixels that were a JPEG once have, at the phase of its grid and no other, far more DCT
coefficients near zero (the idea of ZERO: Nikoukhah et al. 2021, https://doi.org/10.5201/ipol.2021.390; here
one count for each phase and its distance from the other phases, instead of votes). Up-scaling: interpolated
pixels make derivatives periodic (Gallagher 2005, https://doi.org/10.1109/CRV.2005.33). Noise: Immerkaer 1996,
https://doi.org/10.1006/cviu.1996.0060.

None of these is evidence of a label: they tell that files came by different ways.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float32]
"""(rows, columns) luma of 0 to 255."""

LOOK = 256
"""Longest side, in pixels, of the picture whose appearance is measured."""

GRID_SIDE = 199
"""Sides of the central part in which a grid is looked for: 24 blocks and the 7 pixels by which it shifts."""

LEAST_GRID_SIDE = 64
FLAT = 1.0
"""Deviation, in grey levels, under which a block says nothing of a grid: all coefficients are zero there."""

LEAST_BLOCKS = 24
SIGNIFICANT_GRID = 10.0
"""Robust standard deviations by which one phase must stand out; of 481 photos made smaller, none does."""

LEAST_STRENGTH = 0.01


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a picture of at most LOOK pixels a side looks.

    `blur` is the variance of the Laplacian in grey levels squared, low where soft; `noise` the standard
    deviation of noise in grey levels; `information` the entropy of the grey histogram, 0 to 8 bits.
    """

    blur: float
    noise: float
    information: float


def appearance(picture: Image.Image) -> Appearance | None:
    """Measures of a decoded picture of any mode and size, full or reduced; None under 3 pixels a side."""
    grey = small(picture)
    if min(grey.size) < 3:
        return None
    levels = np.asarray(grey, dtype=np.int16)
    across = levels[:, 2:] - 2 * levels[:, 1:-1] + levels[:, :-2]
    mask = np.abs(_second(across))
    noise = int(mask.sum(dtype=np.int64)) / mask.size * NOISE_SCALE
    return Appearance(
        blur=round(_variance(across[1:-1] + _second(levels)[:, 1:-1]), 3),
        noise=round(noise, 3),
        information=round(entropy(grey.histogram()), 3),
    )


NOISE_SCALE = float(np.sqrt(np.pi / 2)) / 6
"""From the mean magnitude of the mask [1 -2 1; -2 4 -2; 1 -2 1] to the deviation of white noise."""


def small(picture: Image.Image) -> Image.Image:
    """Grey levels, reduced to at most LOOK pixels a side by averaging."""
    grey = picture if picture.mode == "L" else picture.convert("L")
    longest = max(grey.size)
    if longest <= LOOK:
        return grey
    width, height = (max(1, round(side * LOOK / longest)) for side in grey.size)
    return grey.resize((width, height), Image.Resampling.BOX)


def _second(levels: NDArray[np.int16]) -> NDArray[np.int16]:
    """Second difference along the rows' axis."""
    return levels[2:] - 2 * levels[1:-1] + levels[:-2]


def _variance(levels: NDArray[np.int16]) -> float:
    """Variance; of integers, so the sums are exact. No product of BLAS, whose threads wait for each other."""
    mean = int(levels.sum(dtype=np.int64)) / levels.size
    square = int(np.square(levels, dtype=np.int32).sum(dtype=np.int64)) / levels.size
    return square - mean * mean


def entropy(histogram: list[int]) -> float:
    """Bits per pixel of a histogram of counts."""
    counts = np.array(histogram, dtype=np.float64)
    counts = counts[counts > 0]
    share = counts / counts.sum()
    return abs(float(-(share * np.log2(share)).sum()))


def luma(picture: Image.Image, side: int) -> tuple[Grey, int, int]:
    """The central part, at most `side` pixels a side, as unrounded luma, and its first column and row."""
    left, top = ((length - min(length, side)) // 2 for length in picture.size)
    right, bottom = left + min(picture.width, side), top + min(picture.height, side)
    part = picture.crop((left, top, right, bottom))
    if part.mode == "L":
        return np.asarray(part, dtype=np.float32), left, top
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(part.convert("RGB"), dtype=np.float32) @ weights, left, top


@dataclass(frozen=True, slots=True)
class History:
    """What pixels tell of earlier codings, as columns of the image row."""

    grid: float | None = None
    grid_x: int | None = None
    grid_y: int | None = None
    upscale: float | None = None


def history(picture: Image.Image) -> History:
    """Traces in a decoded picture at its native size, from a format that loses nothing itself."""
    grid = find_grid(picture)
    upscale = find_upscale(picture, grid=grid is not None)
    return (
        History(upscale=upscale)
        if grid is None
        else History(grid.strength, grid.x, grid.y, upscale)
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """A block grid: how many more coefficients are zero at its phase (share of all), and the phase."""

    strength: float
    x: int
    y: int


def find_grid(picture: Image.Image) -> Grid | None:
    """The 8 x 8 grid of a JPEG that a picture at its native size was once; None if no phase stands out."""
    grey, left, top = luma(picture, GRID_SIDE)
    if min(grey.shape) < LEAST_GRID_SIDE:
        return None
    zeros = zero_shares(grey)
    if zeros is None:
        return None
    y, x = divmod(int(zeros.argmax()), 8)
    others = np.delete(
        np.delete(zeros, y, axis=0), x, axis=1
    )  # phases that share neither row nor column
    middle = float(np.median(others))
    spread = max(1.4826 * float(np.median(np.abs(others - middle))), LEAST_SPREAD)
    strength = float(zeros[y, x]) - middle
    if strength < max(LEAST_STRENGTH, SIGNIFICANT_GRID * spread):
        return None
    if (
        zeros[(y + 4) % 8, (x + 4) % 8] - middle > strength / 2
    ):  # a grid of 4: a JPEG halved, or a video
        return None
    return Grid(round(strength, 4), (left + x) % 8, (top + y) % 8)


LEAST_SPREAD = 1e-4


def zero_shares(grey: Grey) -> NDArray[np.float64] | None:
    """(8, 8) share of AC coefficients that round to zero, by phase (row, column); None if all is flat."""
    rows, columns = ((n - 7) // 8 for n in grey.shape)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (8, 8))
    shares = np.empty((8, 8))
    for y in range(8):
        # All phases of one row of phases at once: (rows, columns x 8 phases, 64).
        blocks = windows[y : y + 8 * rows : 8, : 8 * columns].reshape(rows, columns, 8, 64)
        coefficients = blocks @ _cosines()
        near = np.abs(coefficients) < 0.5
        varied = np.einsum("...k,...k->...", coefficients, coefficients) > 64 * FLAT**2
        if varied.sum(axis=(0, 1)).min() < LEAST_BLOCKS:
            return None
        count = (near.sum(axis=-1) * varied).sum(axis=(0, 1))
        shares[y] = count / (63 * varied.sum(axis=(0, 1)))
    return shares


@lru_cache(maxsize=1)
def _cosines() -> Grey:
    """(64, 63): from the pixels of a block, row by row, to its AC coefficients (orthonormal DCT-II)."""
    k, n = np.mgrid[:8, :8]
    one = np.cos(np.pi * k * (2 * n + 1) / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)
    both: Grey = np.kron(one, one)[1:].T.astype(np.float32)
    return np.ascontiguousarray(both)


UPSCALE_SIDE = 512
LEAST_UPSCALE_SIDE = 128
LEAST_FACTOR = 1.1
SIGNIFICANT_PEAK = 8.0
"""Times the typical magnitude of its neighbourhood that a peak must have, along both axes."""

SIGNIFICANT_EIGHTH = 15.0
"""The same where the blocks of a JPEG that was made smaller may be the cause."""


def find_upscale(picture: Image.Image, *, grid: bool = False) -> float | None:
    """The factor, 1.1 to 2, by which a picture was made larger; None if no period shows on both axes.

    A period folds: a larger factor F looks like F / (F - 1), so 3 is told as 1.5.

    `grid`: the picture has the blocks of a JPEG, so periods of 8 pixels and their parts say nothing.
    """
    grey, _, _ = luma(picture, UPSCALE_SIDE)
    if min(grey.shape) < LEAST_UPSCALE_SIDE:
        return None
    across, down = (strongest_period(part, grid=grid) for part in (grey, grey.T))
    if across is None or down is None or abs(across - down) > 2 / min(grey.shape):
        return None
    return round(2 / (2 - across - down), 3)


def strongest_period(grey: Grey, *, grid: bool = False) -> float | None:
    """Frequency (cycles per pixel, up to 0.5) of the mean derivative's magnitude along rows, if significant.

    Of the second derivative or of the first: doubling with pixel centres kept shows in the first alone.
    """
    first = np.diff(grey, axis=1)
    ratios = [
        peaks(np.abs(d).mean(axis=0)[: grey.shape[1] - 2]) for d in (first, np.diff(first, axis=1))
    ]
    ratio = np.maximum(*ratios)
    width = grey.shape[1] - 2
    frequency = np.arange(ratio.size) / width
    wanted = frequency >= 1 - 1 / LEAST_FACTOR
    eighths = np.abs(frequency * 8 - np.round(frequency * 8)) * width / 8 <= 1.5
    if grid:
        wanted &= ~eighths
    best = int(np.where(wanted, ratio, 0).argmax())
    needed = SIGNIFICANT_EIGHTH if eighths[best] else SIGNIFICANT_PEAK
    return float(frequency[best]) if ratio[best] > needed else None


def peaks(profile: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Magnitude of each frequency of a profile, as a multiple of what is typical around it."""
    level = np.log(profile + 0.1)
    magnitude = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(level.size)))
    ratio: NDArray[np.float64] = magnitude / np.maximum(_local_median(magnitude), 1e-9)
    return ratio


def _local_median(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(magnitude, 20, mode="reflect")
    typical: NDArray[np.float64] = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, 41), axis=1
    )
    return typical
