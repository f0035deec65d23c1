"""The same pictures in one common format: what a detector says when the file can no longer tell.

Every picture, real or fake alike, is turned upright, brought to one length of its shorter side and
compressed once more with one encoder at one quality, in memory; files are never touched. Whatever
the classes differed in as files (format, quality, size) is then behind the same last step. Traces of
earlier compression are weaker and not gone, and a small picture that was enlarged is blurred: what a
detector loses here it may have owed to either, so the gap is an upper bound of the bias.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.checkpoint import LoadedDetector
from train.config import Compute
from train.data import in_order, quiet_decoder
from train.metrics import Floats
from train.tiles import score_images
from train.transforms import Preprocessing, require_pixels, to_pixels, to_rgb

QUALITY = 90
"""IJG quality of the common JPEG: above what platforms use, so that little but the format is lost."""


JPEG_SIDE = 65_500
"""The longest side that libjpeg saves."""


@dataclass(frozen=True, slots=True)
class CommonFormat:
    """JPEG with 4:2:0 chroma at `quality`, its shorter side `short` pixels long."""

    short: int
    quality: int = QUALITY

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"every image re-encoded in memory: shorter side {self.short} px, JPEG quality "
            f"{self.quality}, 4:2:0"
        )


def common_size(size: tuple[int, int], common: CommonFormat) -> tuple[int, int]:
    """Width and height in the common format of a picture of `size`.

    Raises:
        ValueError: if no JPEG can have them, or it would be larger than is safe.
    """
    factor = common.short / min(size)
    width, height = (max(1, round(side * factor)) for side in size)
    if max(width, height) > JPEG_SIDE:
        raise ValueError(
            f"{width} x {height} pixels are more than the {JPEG_SIDE} a side of a JPEG"
        )
    require_pixels((width, height))
    return width, height


def unsaveable(paths: Sequence[Path], common: CommonFormat) -> dict[int, str]:
    """Why some of `paths`, which are known to decode, have no common format, by position."""
    found: dict[int, str] = {}
    with quiet_decoder():
        for position, path in enumerate(paths):
            try:
                with Image.open(path) as image:
                    common_size(image.size, common)
            except ValueError as error:
                found[position] = str(error)
    return found


def reencode(image: Image.Image, common: CommonFormat) -> Image.Image:
    """`image` (upright, RGB) after it was saved in the common format.

    Raises:
        ValueError: as `common_size`.
    """
    size = common_size(image.size, common)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    saved = io.BytesIO()
    image.save(saved, "JPEG", quality=common.quality, subsampling="4:2:0")
    saved.seek(0)
    again = Image.open(saved)
    again.load()
    return again


def reencoded_pixels(
    path: Path, preprocessing: Preprocessing, common: CommonFormat
) -> NDArray[np.uint8]:
    """What the detector sees of the file at `path` in the common format, (H, W, 3)."""
    with Image.open(path) as image:
        upright = to_rgb(image, preprocessing)
    return to_pixels(reencode(upright, common), preprocessing)


def rescore(
    loaded: LoadedDetector,
    paths: Sequence[Path],
    common: CommonFormat,
    *,
    compute: Compute,
    batch: int,
    workers: int,
    on_image: Callable[[int, int], None] | None = None,
) -> Floats:
    """Logits (N,) of images that are known to decode, each in the common format.

    `on_image` is called with (images done, images in all).
    """
    detector, own = compute.place(loaded.model), loaded.preprocessing
    see = partial(reencoded_pixels, preprocessing=own, common=common)
    with quiet_decoder():
        images = in_order(see, paths, workers=workers)
        logits = []
        for logit in score_images(detector, loaded.spec, images, own, compute, batch):
            logits.append(logit)
            if on_image is not None:
                on_image(len(logits), len(paths))
        return np.array(logits)
