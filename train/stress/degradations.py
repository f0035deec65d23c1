"""Robustness against blur, sensor-like noise and rescaling, each on both classes alike.

The perturbations that detection papers report beside JPEG (https://arxiv.org/abs/1912.11035). Noise is
drawn from the seed and the file's bytes, so a picture gets the same noise in every run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Condition, Picture, Plan, Scores, StressTest

BLURS_PX = (0.5, 1.0, 2.0)
NOISES = (2.0, 5.0, 10.0)
SCALES = (0.75, 0.5, 0.25)


def blurred(sigma: float, picture: Picture) -> Image.Image:
    """Gaussian blur; `sigma` in pixels of the picture's own size."""
    return picture.rgb.filter(ImageFilter.GaussianBlur(sigma))


def noisy(sigma: float, picture: Picture) -> Image.Image:
    """Gaussian noise on each channel; `sigma` in grey levels of 255."""
    pixels = np.asarray(picture.rgb, dtype=np.float32)
    drawn = picture.rng(f"noise-{sigma:g}").normal(0, sigma, size=pixels.shape)
    return Image.fromarray(np.rint(pixels + drawn).clip(0, 255).astype(np.uint8))


def rescaled(scale: float, picture: Picture) -> Image.Image:
    """Reduced by `scale` and enlarged to its own size again, both bicubic."""
    own = picture.rgb.size
    small = picture.rgb.resize(
        (max(1, round(own[0] * scale)), max(1, round(own[1] * scale))), Image.Resampling.BICUBIC
    )
    return small.resize(own, Image.Resampling.BICUBIC)


KINDS: tuple[tuple[str, Callable[[float, Picture], Image.Image], tuple[float, ...]], ...] = (
    ("blur", blurred, BLURS_PX),
    ("noise", noisy, NOISES),
    ("rescale", rescaled, SCALES),
)
"""Name, what it does, and how strongly."""


def _each() -> Iterator[Condition]:
    for name, do, strengths in KINDS:
        for strength in strengths:
            yield Condition(f"{name}-{strength:g}", partial(do, strength))


def conditions(plan: Plan) -> list[Condition]:
    """Each kind at each strength."""
    return list(_each())


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: native, then each kind and strength."""
    rows = [row(scores, "native", scores.logits[NATIVE])]
    rows += [row(scores, c.key.replace("-", " "), scores.logits[c.key]) for c in _each()]
    return {"rows": rows, "units": "blur: sigma in px; noise: sigma of 255; rescale: factor"}


TEST = StressTest(
    name="degradations",
    title="Blur, noise and rescaling",
    source="the perturbations reported beside JPEG, as in arXiv 1912.11035",
    conditions=conditions,
    measure=measure,
)
