"""Scores of images of any size: small ones in batches, large ones a tile at a time.

A patch detector without padding gives a patch the same logit wherever the image is cut, except where
the zeros around its representation reach in. So tiles overlap by one cell of the grid on every side,
that cell is dropped, and the map put together is that of the whole image, rectangular as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from train.config import Compute
from train.detectors import DetectorSpec, PatchDetector
from train.detectors.patches import pool_patches
from train.pixels import Pixels
from train.transforms import Preprocessing, normalise, to_batch

TILE = 512
"""Side of a tile in pixels: larger ones are no faster, and take memory with their area."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A tile along one axis: pixels `start` to `stop`; `skip` cells are dropped, then `count` kept."""

    start: int
    stop: int
    skip: int
    count: int


def strips(length: int, spec: DetectorSpec, tile: int = TILE) -> list[Strip]:
    """Tiles along `length` pixels whose kept cells are every cell once, in order."""
    field, stride = spec.receptive_field, spec.stride
    cells = (length - field) // stride + 1
    step = max(1, (tile - field) // stride - 1)  # cells kept of a tile with one dropped each side
    return [
        _strip(first, min(first + step, cells), length, spec) for first in range(0, cells, step)
    ]


def _strip(first: int, last: int, length: int, spec: DetectorSpec) -> Strip:
    skip = min(first, 1)
    stop = (last - 1) * spec.stride + spec.receptive_field + spec.stride
    return Strip((first - skip) * spec.stride, min(stop, length), skip, last - first)


def in_tiles(
    pixels: Pixels,
    spec: DetectorSpec,
    logits_of: Callable[[Pixels], NDArray[np.float32]],
    tile: int = TILE,
) -> NDArray[np.float32]:
    """The map (h, w) of `pixels` (H, W, 3), put together of what `logits_of` says of each tile."""
    rows = []
    for down in strips(pixels.shape[0], spec, tile):
        parts = []
        for across in strips(pixels.shape[1], spec, tile):
            found = logits_of(pixels[down.start : down.stop, across.start : across.stop])
            kept = found[down.skip : down.skip + down.count, across.skip :][:, : across.count]
            parts.append(kept)
        rows.append(np.concatenate(parts, axis=1))
    return np.concatenate(rows)


@torch.inference_mode()
def patch_map(
    detector: PatchDetector,
    spec: DetectorSpec,
    pixels: Pixels,
    preprocessing: Preprocessing,
    compute: Compute,
    tile: int = TILE,
) -> NDArray[np.float32]:
    """The logit of every patch of `pixels` (H, W, 3), (h, w), computed a tile at a time."""
    detector.eval()

    def logits_of(part: Pixels) -> NDArray[np.float32]:
        batch = to_batch(np.array(part[None]))
        with compute.autocast():
            logits = detector.patch_logits(normalise(batch, preprocessing, compute.device))
        found: NDArray[np.float32] = logits[0].float().cpu().numpy()
        return found

    return in_tiles(pixels, spec, logits_of, tile)


@torch.inference_mode()
def score_images(
    detector: PatchDetector,
    spec: DetectorSpec,
    images: Iterable[Pixels],
    preprocessing: Preprocessing,
    compute: Compute,
    batch: int,
) -> Iterator[float]:
    """The logit of each of `images` (H, W, 3), in order; neighbours of one size share a batch."""
    detector.eval()
    waiting: list[Pixels] = []
    for pixels in images:
        if waiting and (len(waiting) == batch or waiting[0].shape != pixels.shape):
            yield from _batch_logits(detector, waiting, preprocessing, compute)
            waiting = []
        if pixels.shape[0] * pixels.shape[1] <= TILE * TILE:
            waiting.append(pixels)
            continue
        yield from _batch_logits(detector, waiting, preprocessing, compute)
        waiting = []
        patches = torch.from_numpy(patch_map(detector, spec, pixels, preprocessing, compute))
        yield float(pool_patches(patches[None], detector.pooling))
    yield from _batch_logits(detector, waiting, preprocessing, compute)


def _batch_logits(
    detector: PatchDetector, images: list[Pixels], preprocessing: Preprocessing, compute: Compute
) -> list[float]:
    if not images:
        return []
    with compute.autocast():
        logits = detector(normalise(to_batch(np.stack(images)), preprocessing, compute.device))
    found: list[float] = logits.squeeze(1).float().cpu().tolist()
    return found
