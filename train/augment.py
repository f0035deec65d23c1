"""Class-blind augmentation: what platforms do to a picture, done to both classes alike.

A detector that learns "JPEG means real" collapses on recompressed fakes
(https://arxiv.org/abs/2406.09398, table 4), so whatever is drawn here is drawn from the seed, the epoch
and the picture's own bytes. The class takes no part: it is not an argument of anything in this file.
Treatments come in the order a picture meets them: resize, blur, noise, WebP, JPEG.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from schemas.policy import AugmentPolicy
from train.encoders import JPEG_TABLES, SUBSAMPLINGS, through_jpeg, through_webp

Rng = np.random.Generator
Pixels = NDArray[np.uint8]

KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
"""Resize kernels drawn from: no platform says which is its own."""


@dataclass(frozen=True, slots=True)
class Window:
    """One training window: pixels (side, side, 3) uint8, and the names of what was done to it."""

    pixels: Pixels
    done: tuple[str, ...]


def image_rng(seed: int, epoch: int, turn: int, digest: str) -> Rng:
    """The generator of one window: `turn` counts the windows of the picture in the epoch."""
    return np.random.default_rng([seed, epoch, turn, int(digest[:16], 16)])


def draw_window(pixels: Pixels, side: int, policy: AugmentPolicy, rng: Rng) -> Window:
    """A random window of `pixels` (H, W, 3), treated as `policy` says, half of the time mirrored."""
    treated, done = augment(pixels, side, policy, rng)
    height, width = treated.shape[:2]
    top = int(rng.integers(0, height - side + 1))
    left = int(rng.integers(0, width - side + 1))
    window = treated[top : top + side, left : left + side]
    if rng.random() < 0.5:
        return Window(window[:, ::-1], (*done, "mirror"))
    return Window(window, done)


def augment(
    pixels: Pixels, side: int, policy: AugmentPolicy, rng: Rng
) -> tuple[Pixels, tuple[str, ...]]:
    """`pixels` after the treatments drawn, and their names; no side gets shorter than `side`."""
    # all chances are drawn first, so that one treatment's strength moves no other treatment
    chances = rng.random(len(TREATMENTS))
    chosen = [
        name
        for name, chance in zip(TREATMENTS, chances, strict=True)
        if chance < getattr(policy, name)
    ]
    if not chosen:
        return pixels, ()
    # a large picture is cut first: encoding twelve megapixels for one window costs a second
    image = Image.fromarray(_neighbourhood(pixels, side, policy, rng))
    for name in chosen:
        image = TREATMENTS[name](image, side, policy, rng)
    return np.asarray(image, dtype=np.uint8), tuple(chosen)


def _neighbourhood(pixels: Pixels, side: int, policy: AugmentPolicy, rng: Rng) -> Pixels:
    """A random part of `pixels` from which every treatment can still make a window, at a block corner."""
    reach = int(-(-side // min(1.0, policy.resize_factor[0] or 1.0))) + 64
    top, left = (
        8 * int(rng.integers(0, max(0, length - reach) // 8 + 1)) for length in pixels.shape[:2]
    )
    return np.ascontiguousarray(pixels[top : top + reach, left : left + reach])


def _resize(image: Image.Image, side: int, policy: AugmentPolicy, rng: Rng) -> Image.Image:
    # drawn from what leaves a window: raised to it afterwards, most would be of one size
    least = max(policy.resize_factor[0], side / min(image.size))
    factor = rng.uniform(least, max(least, policy.resize_factor[1]))
    size = tuple(max(side, round(length * factor)) for length in image.size)
    return image.resize((size[0], size[1]), KERNELS[int(rng.integers(len(KERNELS)))])


def _blur(image: Image.Image, side: int, policy: AugmentPolicy, rng: Rng) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*policy.blur_px)))


def _noise(image: Image.Image, side: int, policy: AugmentPolicy, rng: Rng) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    spread = np.float32(rng.uniform(*policy.noise_levels))
    noisy = pixels + spread * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8))


def _webp(image: Image.Image, side: int, policy: AugmentPolicy, rng: Rng) -> Image.Image:
    return through_webp(image, _quality(policy.webp_quality, rng))


def _jpeg(image: Image.Image, side: int, policy: AugmentPolicy, rng: Rng) -> Image.Image:
    encoder = tuple(JPEG_TABLES)[int(rng.integers(len(JPEG_TABLES)))]
    subsampling = SUBSAMPLINGS[int(rng.integers(len(SUBSAMPLINGS)))]
    return through_jpeg(image, encoder, _quality(policy.jpeg_quality, rng), subsampling)


def _quality(bounds: tuple[float, float], rng: Rng) -> int:
    return int(rng.integers(round(bounds[0]), round(bounds[1]) + 1))


Treatment = Callable[[Image.Image, int, AugmentPolicy, Rng], Image.Image]

TREATMENTS: dict[str, Treatment] = {
    "resize": _resize,
    "blur": _blur,
    "noise": _noise,
    "webp": _webp,
    "jpeg": _jpeg,
}
"""By the name of their chance in `AugmentPolicy`, in the order they are done."""
