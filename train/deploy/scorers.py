"""From pixels to logits, the fastest way this machine has, with the scores of the training path.

On a CPU in float32, Tiny-LaDeDa runs in compiled loops (`train.deploy.kernels`) and every other detector of
ours as its folded self (`train.deploy.fold`); elsewhere the detector runs as it was trained.
`wildrf parity` shows that the scores are the same.
"""

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from train.config import Compute
from train.deploy.fold import fold
from train.detectors import DetectorSpec, PatchDetector
from train.detectors.representation import KERNELS
from train.detectors.tiny import SPEC, TinyLaDeDa
from train.tiles import TILE, in_tiles, score_images
from train.transforms import Preprocessing, normalise, to_batch

Pixels = NDArray[np.uint8]

IDENTITY = ((0, 0, 0), (0, 1, 0), (0, 0, 0))
"""The picture itself, as a gradient kernel."""

POOLED_HERE = ("mean", "max")


class Scorer(Protocol):
    """What turns the pixels of images into their logits.

    `threaded` says that many threads may score at once, one image each: then whoever decodes an
    image scores it too. Otherwise images are collected to batches.
    """

    threaded: bool

    def __call__(self, images: Sequence[Pixels]) -> list[float]:
        """The logit of each of `images`, upright resized RGB (H, W, 3) uint8."""


def choose_scorer(
    detector: PatchDetector, spec: DetectorSpec, preprocessing: Preprocessing, compute: Compute
) -> Scorer:
    """The fastest scorer of `detector` for where and how precisely it shall run."""
    if compute.device.type != "cpu" or compute.half:
        return TorchScorer(detector, spec, preprocessing, compute)
    if isinstance(detector, TinyLaDeDa) and detector.pooling in POOLED_HERE:
        return TinyScorer(detector, preprocessing)
    return TorchScorer(fold(detector), spec, preprocessing, compute)


class TorchScorer:
    """A detector on whatever device torch has."""

    threaded = False

    def __init__(
        self,
        detector: PatchDetector,
        spec: DetectorSpec,
        preprocessing: Preprocessing,
        compute: Compute,
    ) -> None:
        self._detector = compute.place(detector)
        self._spec, self._preprocessing, self._compute = spec, preprocessing, compute

    def __call__(self, images: Sequence[Pixels]) -> list[float]:
        """The logit of each of `images`; neighbours of one size share a batch, large ones go in tiles."""
        return list(
            score_images(
                self._detector, self._spec, images, self._preprocessing, self._compute, len(images)
            )
        )


class TinyScorer:
    """Tiny-LaDeDa in compiled loops; the same instance serves many threads."""

    threaded = True

    def __init__(self, detector: TinyLaDeDa, preprocessing: Preprocessing) -> None:
        from train.deploy import kernels  # Numba takes a quarter of a second to import

        self._kernels, self._pooling = kernels, detector.pooling
        every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 1, 3)
        batch = normalise(to_batch(every), preprocessing, torch.device("cpu"))
        self._levels = _floats(batch[0, :, :, 0].numpy())
        name, scale = detector.representation.name, detector.representation.scale
        self._scale = np.float32(scale)
        self._gradient = None if name == "NPR" else _floats(KERNELS.get(name, IDENTITY)) * scale
        folded = fold(detector)
        block = folded.get_submodule("layer1.0")
        second, shift = _layer(block, "conv1")
        self._layers = (
            *_layer(folded, "conv2"),
            *(_floats(second[:, :, 0, 0]), shift),
            *_layer(block, "conv2"),
            *(_floats(folded.fc.weight.numpy()[0]), folded.fc.bias.item()),
        )
        self._mine = threading.local()

    def __call__(self, images: Sequence[Pixels]) -> list[float]:
        """The logit of each of `images`."""
        pool = np.max if self._pooling == "max" else np.mean
        return [float(pool(self.patch_logits(one).astype(np.float64))) for one in images]

    def patch_logits(self, pixels: Pixels) -> NDArray[np.float32]:
        """The logit of every patch, (h, w), of one picture (H, W, 3); a large one goes in tiles."""
        if pixels.shape[0] * pixels.shape[1] <= TILE * TILE:
            return self._logits_of(pixels)
        return in_tiles(pixels, SPEC, self._logits_of)

    def _logits_of(self, pixels: Pixels) -> NDArray[np.float32]:
        height, width = pixels.shape[:2]
        padded, image = self._room(height, width)
        self._kernels.to_planes(np.ascontiguousarray(pixels), self._levels, padded)
        if self._gradient is None:
            self._kernels.npr(padded, self._scale, image)
        else:
            self._kernels.gradient(padded, self._gradient, image)
        patches = np.empty(((height - 3) // 2, (width - 3) // 2), dtype=np.float32)
        self._kernels.patch_logits(image, *self._layers, patches)
        return patches

    def _room(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Planes with and without a zero frame, of this thread: fresh memory costs a third of a score."""
        found: tuple[NDArray[np.float32], NDArray[np.float32]] | None
        found = getattr(self._mine, "room", None)
        if found is None or found[1].shape[1:] != (height, width):
            padded = np.zeros((3, height + 2, width + 2), dtype=np.float32)
            found = self._mine.room = padded, np.empty((3, height, width), dtype=np.float32)
        return found


def _floats(values: object) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _layer(module: nn.Module, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias of a folded convolution."""
    conv = getattr(module, name)
    return _floats(conv.weight.numpy()), _floats(conv.bias.numpy())
