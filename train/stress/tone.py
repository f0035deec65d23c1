"""Brightness, contrast and colourfulness of a picture, and giving it those of another.

Measured on the thumbnail that a JPEG's DC coefficients give almost for free. Only ratios of two such
measurements are used, so that the small scale cancels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = (64, 64)

MAX_GAIN = 4.0
"""Contrast and colour are stretched or squeezed by no more than this: a flat picture has none."""


@dataclass(frozen=True, slots=True)
class Tone:
    """Luma mean and standard deviation, and root mean square chroma, all in 0..255."""

    brightness: float
    contrast: float
    chroma: float


def tone_of(image: Image.Image) -> Tone:
    """The tone of an opened image; JPEGs are decoded at an eighth of their size."""
    image.draft("RGB", (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))
    small = image.convert("RGB").resize(THUMBNAIL, Image.Resampling.BOX)
    values = _ycc(small)
    chroma = float(np.sqrt(np.mean((values[..., 1:] - 128) ** 2)))
    return Tone(float(values[..., 0].mean()), float(values[..., 0].std()), chroma)


def with_tone(picture: Image.Image, own: Tone, wanted: Tone) -> Image.Image:
    """`picture` (RGB) with the brightness and contrast of `wanted`; `own` is its own tone."""
    values = _ycc(picture)
    gain = _gain(own.contrast, wanted.contrast)
    values[..., 0] = (values[..., 0] - own.brightness) * gain + wanted.brightness
    return _rgb(values)


def with_chroma(picture: Image.Image, own: Tone, wanted: Tone) -> Image.Image:
    """`picture` (RGB) as colourful as `wanted`."""
    values = _ycc(picture)
    values[..., 1:] = (values[..., 1:] - 128) * _gain(own.chroma, wanted.chroma) + 128
    return _rgb(values)


def _gain(own: float, wanted: float) -> float:
    return float(np.clip(wanted / max(own, 1e-3), 1 / MAX_GAIN, MAX_GAIN))


TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
"""JFIF's; in floating point, so that nothing is rounded on the way."""


def _ycc(picture: Image.Image) -> NDArray[np.float32]:
    pixels = np.asarray(picture, dtype=np.float32)
    values: NDArray[np.float32] = pixels @ TO_YCC.T.astype(np.float32)
    values[..., 1:] += 128
    return values


def _rgb(values: NDArray[np.float32]) -> Image.Image:
    centred = values - np.array([0, 128, 128], dtype=np.float32)
    pixels = centred @ np.linalg.inv(TO_YCC).T.astype(np.float32)
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
