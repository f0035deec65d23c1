"""The loops of Tiny-LaDeDa (https://arxiv.org/abs/2406.09398), compiled by Numba.

What is linear before the first ReLU is two steps: a 3 x 3 gradient per colour and, since 1 x 1, 3 x 3
and BatchNorm are one convolution, a 3 x 3 from 3 to 8 channels: 27 + 216 multiplications a pixel
instead of 27 + 24 + 576. Planes are kept apart and the innermost loop runs along a row, so that the
compiler makes vector instructions of it; the constant loops inside it are unrolled. The second 3 x 3
takes every other column, so that even and odd columns lie in rows of their own.

Every loop releases the interpreter's lock, so that the thread which decoded an image scores it too.
Rounding differs from other implementations in the last bits alone.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

WIDTH = 8
"""Channels of Tiny-LaDeDa: a constant, because loops over constants are unrolled."""


def compiled(function: Function) -> Function:
    """The function as machine code, kept for the next process where there is a place for it.

    Multiplications and additions may be joined ("contract"), and that is all that is relaxed.
    """
    contract = {"contract"}
    try:
        made = numba.njit(nogil=True, cache=True, fastmath=contract, error_model="numpy")
        return cast(Function, made(function))
    except RuntimeError:  # no folder for the cache: a read-only installation without a home
        made = numba.njit(nogil=True, fastmath=contract, error_model="numpy")
        return cast(Function, made(function))


@compiled
def to_planes(pixels: NDArray[np.uint8], levels: Floats, padded: Floats) -> None:
    """(H, W, 3) bytes to planes inside the zero frame of `padded`, (3, H + 2, W + 2).

    `levels` (3, 256) holds what each byte is once it is normalised.
    """
    for c in range(3):
        for y in range(pixels.shape[0]):
            for x in range(pixels.shape[1]):
                padded[c, y + 1, x + 1] = levels[c, pixels[y, x, c]]


@compiled
def gradient(padded: Floats, kernel: Floats, out: Floats) -> None:
    """The 3 x 3 cross-correlation of each padded plane: (3, H + 2, W + 2) to (3, H, W)."""
    for c in range(3):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                total = np.float32(0)
                for dy in range(3):
                    for dx in range(3):
                        total += kernel[dy, dx] * padded[c, y + dy, x + dx]
                out[c, y, x] = total


@compiled
def npr(padded: Floats, scale: np.float32, out: Floats) -> None:
    """Each pixel minus the top left of its 2 x 2 block, times `scale`: planes as for `gradient`."""
    for c in range(3):
        for y in range(out.shape[1]):
            corner = y // 2 * 2 + 1
            for x in range(out.shape[2]):
                here = padded[c, y + 1, x + 1]
                out[c, y, x] = (here - padded[c, corner, x // 2 * 2 + 1]) * scale


@compiled
def first_row(
    image: Floats, y: int, w1: Floats, b1: Floats, w2: Floats, b2: Floats, row: Floats
) -> None:
    """3 x 3, ReLU, 1 x 1, ReLU: row `y` of (3, H, W) to both halves of `row`, (2, 8, W).

    The first half is work space; of the second, the last two columns are left alone.
    """
    width = image.shape[2] - 2
    for o in range(WIDTH):
        for x in range(width):
            total = b1[o]
            for c in range(3):
                for dy in range(3):
                    for dx in range(3):
                        total += w1[o, c, dy, dx] * image[c, y + dy, x + dx]
            row[0, o, x] = max(total, np.float32(0))
    for o in range(WIDTH):
        for x in range(width):
            total = np.float32(0)
            for i in range(WIDTH):
                total += w2[o, i] * row[0, i, x]
            row[1, o, x] = max(total + b2[o], np.float32(0))


@compiled
def last_row(even: Floats, odd: Floats, y: int, w3: Floats, out: Floats) -> None:
    """One channel of the 3 x 3 with stride 2: rows y to y + 2, kept at their number modulo 3."""
    out[:] = 0
    for i in range(WIDTH):
        for x in range(len(out)):
            total = out[x]
            for dy in range(3):
                at = (y + dy) % 3
                total += w3[i, dy, 0] * even[at, i, x]
                total += w3[i, dy, 1] * odd[at, i, x]
                total += w3[i, dy, 2] * even[at, i, x + 1]
            out[x] = total


@compiled
def patch_logits(
    image: Floats,
    w1: Floats,
    b1: Floats,
    w2: Floats,
    b2: Floats,
    w3: Floats,
    b3: Floats,
    head: Floats,
    bias: float,
    out: Floats,
) -> None:
    """The folded network: what it looks at, (3, H, W), to the logit of every patch, (h, w).

    Three rows are kept between the layers, so that all of it stays in the nearest cache.
    """
    height, width = out.shape
    row = np.zeros((2, WIDTH, image.shape[2]), dtype=np.float32)
    even = np.zeros((3, WIDTH, width + 1), dtype=np.float32)
    odd = np.zeros((3, WIDTH, width + 1), dtype=np.float32)
    channel = np.empty(width, dtype=np.float32)
    for y in range(2 * height + 1):
        first_row(image, y, w1, b1, w2, b2, row)
        for o in range(WIDTH):
            for x in range(width + 1):
                even[y % 3, o, x] = row[1, o, 2 * x]
                odd[y % 3, o, x] = row[1, o, 2 * x + 1]
        if y < 2 or y % 2:
            continue
        logits = out[y // 2 - 1]
        logits[:] = 0
        for o in range(WIDTH):
            last_row(even, odd, y - 2, w3[o], channel)
            for x in range(
                width
            ):  # the shift is large and comes last: what is before it stays exact
                logits[x] += head[o] * max(channel[x] + b3[o], np.float32(0))
        for x in range(width):
            logits[x] += bias
