"""The two ways a scene becomes a picture: through a sensor, or through an up-sampling decoder.

Camera: optical blur, Bayer mosaic (RGGB), shot and read noise, bilinear demosaicing, light
denoising, sharpening, tone curve. Generated: the scene as a latent of a quarter or an eighth of
the size, brought up by steps of nearest-neighbour doubling and a small convolution, with detail
synthesised at each step. What remains is the periodic trace of up-sampling that NPR
(https://arxiv.org/abs/2312.10461) and LaDeDa look for.
Both take the same scenes at the same sizes, so neither brightness, colour nor size tells them apart.
"""

import numpy as np
from PIL import Image, ImageFilter

from curate.simulated.scenes import Floats, Rng

LUT_SIZE = 4096
FLARE = 4  # of 255: stray light in the lens, so that no black is quite black
WITH_FLARE = [min(255, FLARE + value) for value in range(256)] * 3
TO_LINEAR = (np.arange(LUT_SIZE, dtype=np.float32) / (LUT_SIZE - 1)) ** np.float32(2.2)
TO_DISPLAY = (np.arange(LUT_SIZE, dtype=np.float32) / (LUT_SIZE - 1)) ** np.float32(1 / 2.2)


def through_camera(scene: Floats, rng: Rng) -> Image.Image:
    """`scene` (h, w, 3), sides even, as a camera would have taken it."""
    shot, read = rng.uniform(0.0008, 0.0028), rng.uniform(0.0001, 0.0005)
    optics = _as_image(scene).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.5)))
    linear = TO_LINEAR[np.asarray(optics, np.uint16) * 16]
    raw = _mosaic(linear)
    noise = rng.standard_normal(raw.shape, dtype=np.float32)
    raw = raw + noise * np.sqrt(np.float32(shot) * raw + np.float32(read) ** 2)
    developed = _curve(_demosaic(np.clip(raw, 0, 1)), TO_DISPLAY)
    return _denoise(_as_image(developed), rng.uniform(0.15, 0.4)).point(WITH_FLARE)


def _mosaic(linear: Floats) -> Floats:
    """(h, w, 3) to the RGGB samples (h, w) that a sensor sees."""
    raw = linear[..., 1].copy()
    raw[0::2, 0::2] = linear[0::2, 0::2, 0]
    raw[1::2, 1::2] = linear[1::2, 1::2, 2]
    return raw


def _demosaic(raw: Floats) -> Floats:
    """Bilinear: each missing sample is the mean of its nearest neighbours. (h, w) to (h, w, 3)."""
    pad = np.pad(raw, 1, mode="reflect")
    up, down, left, right = pad[:-2, 1:-1], pad[2:, 1:-1], pad[1:-1, :-2], pad[1:-1, 2:]
    cross = (up + down + left + right) * np.float32(0.25)
    corners = (pad[:-2, :-2] + pad[:-2, 2:] + pad[2:, :-2] + pad[2:, 2:]) * np.float32(0.25)
    across, along = (left + right) * np.float32(0.5), (up + down) * np.float32(0.5)
    rgb = np.empty((*raw.shape, 3), np.float32)
    for row, column, red, green, blue in (
        (0, 0, raw, cross, corners), (0, 1, across, raw, along),
        (1, 0, along, raw, across), (1, 1, corners, cross, raw),
    ):  # fmt: skip
        for channel, plane in enumerate((red, green, blue)):
            rgb[row::2, column::2, channel] = plane[row::2, column::2]
    return rgb


def _denoise(image: Image.Image, amount: float) -> Image.Image:
    """Blend towards a smoothed copy, then sharpen a little, as a phone does."""
    smooth = Image.blend(image, image.filter(ImageFilter.GaussianBlur(0.8)), amount)
    return smooth.filter(ImageFilter.UnsharpMask(1.2, 55, 0))


def through_decoder(scene: Floats, rng: Rng) -> Image.Image:
    """`scene` (h, w, 3) as an image generator would have decoded it from a latent."""
    steps = int(rng.integers(2, 4))  # a latent of 1/4 or 1/8
    levels = _pyramid(_as_image(scene), steps)
    picture = levels[-1]
    for depth in range(steps - 1, -1, -1):
        picture = _decoder_step(picture, levels[depth], depth, rng)
    return _as_image(np.clip(picture, 0, 1))


def _pyramid(image: Image.Image, steps: int) -> list[Floats]:
    """`image` at sizes 1, 1/2, ... 1/2^steps, rounded up so that doubling always covers."""
    levels: list[Floats] = [np.asarray(image, np.float32) / 255]
    for _ in range(steps):
        width, height = image.size
        image = image.resize(((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX)
        levels.append(np.asarray(image, np.float32) / 255)
    return levels


def _decoder_step(latent: Floats, target: Floats, depth: int, rng: Rng) -> Floats:
    """Double `latent`, convolve, and add the part of `target`'s detail the decoder makes up.

    The weight of that detail falls at full size (`depth` 0), where generators are weakest, and
    differs by position within each 2 x 2 block, as with overlapping transposed convolutions.
    """
    height, width = target.shape[:2]
    doubled = latent.repeat(2, 0).repeat(2, 1)[:height, :width]
    smooth = _cross_blur(doubled, np.float32(0.12))
    weight = np.float32(0.95 if depth else rng.uniform(0.55, 0.7))
    picture: Floats = smooth + weight * (target - smooth)
    if depth == 0:
        picture = _synthesise_detail(picture, rng)
    return np.asarray(picture, np.float32)


def _cross_blur(image: Floats, share: np.float32) -> Floats:
    """A 3 x 3 convolution that gives `share` of each pixel to each of its four neighbours."""
    pad = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = pad[:-2, 1:-1] + pad[2:, 1:-1] + pad[1:-1, :-2] + pad[1:-1, 2:]
    return np.asarray(image * (1 - 4 * share) + share * around, np.float32)


def _synthesise_detail(picture: Floats, rng: Rng) -> Floats:
    """Texture on a 2 x 2 grid: noise of the latent, repeated, and the checkerboard of the last layer."""
    height, width = picture.shape[:2]
    coarse = rng.standard_normal(((height + 1) // 2, (width + 1) // 2), dtype=np.float32)
    texture = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    signs = np.array([[1, -1], [-1, 1]], np.float32) * np.float32(rng.uniform(0.6, 1.0))
    checker = np.tile(signs, ((height + 1) // 2, (width + 1) // 2))[:height, :width]
    strength = np.float32(rng.uniform(0.0075, 0.0148))
    pattern = strength * (texture + checker * (0.6 + np.abs(texture)))
    tone = np.sqrt(np.clip(picture.mean(2), 0, 1)) + np.float32(0.25)
    return np.asarray(picture + (pattern * tone)[..., None], np.float32)


def _curve(values: Floats, table: Floats) -> Floats:
    return table[(np.clip(values, 0, 1) * np.float32(LUT_SIZE - 1)).astype(np.uint16)]


def _as_image(values: Floats) -> Image.Image:
    """(h, w, 3) in [0, 1] to 8-bit RGB."""
    return Image.fromarray((values * np.float32(255) + np.float32(0.5)).astype(np.uint8))
