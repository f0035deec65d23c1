"""What all patch detectors share: a grid of features, one linear layer, a pool over the grid.

Averaging over the grid and the last layer are both linear, so the logit of an image is the average
of the logits of its patches; with max pooling it is the largest of them, with top-k the average of the
largest. The head runs in float32
whatever the trunk runs in, so that scores of different images do not collapse to ties.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.detectors.representation import Representation, RepresentationName

POOLINGS = ("mean", "max", "topN")
"""How patch logits become the image's logit; topN, such as top10, is the mean of the highest N %."""

_TOP = re.compile(r"top([1-9]\d?)")

NORM_MOMENTUM = 0.001
"""BatchNorm momentum of the paper: running statistics remember a thousand steps."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """One detector: how to build it, and what is true of its grid.

    `build(generator, representation, scale, pooling)` returns it freshly initialised from
    `generator` alone. The patch of grid cell (i, j) starts at pixel (stride * i, stride * j) and is
    `receptive_field` a side. `half_precision` says whether bfloat16 makes its training faster where
    the hardware has it.
    """

    name: str
    build: Callable[[torch.Generator, str, float, str], "PatchDetector"]
    representation: RepresentationName
    receptive_field: int
    stride: int
    half_precision: bool


class PatchDetector(nn.Module):
    """A detector whose logit is a pool of patch logits. Children give `features`."""

    def __init__(self, representation: str, scale: float, pooling: str, width: int) -> None:
        super().__init__()
        self.representation = Representation(representation, scale)
        self.pooling = pooling
        self.fc = nn.Linear(width, 1)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to the feature grid (B, C, h, w)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to image logits (B, 1); above 0 means fake."""
        grid = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            if self.pooling != "mean":
                return pool_patches(self._patch_head(grid), self.pooling).unsqueeze(1)
            logits: Tensor = self.fc(grid.float().mean(dim=(2, 3)))
        return logits

    def patch_logits(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to the logit of every patch, (B, h, w)."""
        grid = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            return self._patch_head(grid)

    def _patch_head(self, grid: Tensor) -> Tensor:
        logits: Tensor = self.fc(grid.float().permute(0, 2, 3, 1))  # (B, h, w, 1)
        return logits.squeeze(-1)


def is_pooling(name: object) -> bool:
    """Whether `name` is a pooling."""
    return name in ("mean", "max") or (isinstance(name, str) and _TOP.fullmatch(name) is not None)


def pool_patches(logits: Tensor, pooling: str) -> Tensor:
    """Patch logits (B, h, w) to image logits (B,)."""
    flat = logits.flatten(1)
    if pooling == "mean":
        return flat.mean(dim=1)
    if pooling == "max":
        return flat.amax(dim=1)
    top = _TOP.fullmatch(pooling)
    if top is None:
        raise ValueError(f"pooling {pooling!r}; expected mean, max or top1 to top99")
    count = max(1, round(flat.shape[1] * int(top[1]) / 100))
    return flat.topk(count, dim=1).values.mean(dim=1)


def norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm as every detector here uses it: scale 1, shift 0."""
    return nn.BatchNorm2d(channels, momentum=NORM_MOMENTUM)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias and without padding."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, bias=False)


def initialise(detector: PatchDetector, generator: torch.Generator) -> None:
    """Convolutions N(0, sqrt(2 / (k * k * outputs))), last layer N(0, 0.02) with bias 0."""
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                module.weight.normal_(0.0, (2.0 / fan) ** 0.5, generator=generator)
        detector.fc.weight.normal_(0.0, 0.02, generator=generator)
        detector.fc.bias.zero_()
