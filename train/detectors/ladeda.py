"""LaDeDa: a ResNet-50 that sees no further than q x q pixels, so every patch gets its own logit.

Source: https://arxiv.org/abs/2406.09398 (q = 9 is the paper's choice). Only the first block of a
flagged stage has a 3 x 3 kernel; all else is 1 x 1. Module names are those of the published state
dicts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.detectors.patches import DetectorSpec, PatchDetector, conv, initialise, norm

STAGES = ((3, 64, 2), (4, 128, 2), (6, 256, 2), (3, 512, 1))
"""Blocks, width and stride of the four stages."""

EXPANSION = 4

FLAGS: dict[int, tuple[int, int, int, int]] = {
    5: (1, 0, 0, 0),
    9: (1, 1, 0, 0),
    17: (1, 1, 1, 0),
    33: (1, 1, 1, 1),
}
"""Which stages have a 3 x 3 kernel in their first block, by receptive field."""

STRIDE = 8


class Bottleneck(nn.Module):
    """1 x 1, k x k (with the stride), 1 x 1, plus the input cropped to what the k x k left."""

    def __init__(self, inputs: int, width: int, *, kernel: int, stride: int, project: bool) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.bn1 = conv(inputs, width, 1), norm(width)
        self.conv2, self.bn2 = conv(width, width, kernel, stride), norm(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), norm(outputs)
        self.downsample = (
            nn.Sequential(conv(inputs, outputs, 1, stride), norm(outputs)) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 * width, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        residual = x if self.downsample is None else self.downsample(x)
        return F.relu(out + crop_to(residual, out))


def crop_to(residual: Tensor, out: Tensor) -> Tensor:
    """The top left part of `residual` that is as large as `out`."""
    height, width = out.shape[-2:]
    if residual.shape[-2:] == out.shape[-2:]:
        return residual
    if not torch.is_grad_enabled():
        return residual[..., :height, :width]
    # the gradient of a slice is not channels last, and takes the layers before it to slow paths
    return F.pad(residual, (0, width - residual.shape[-1], 0, height - residual.shape[-2]))


class LaDeDa(PatchDetector):
    """LaDeDa with receptive field `q`; a 256 x 256 image has 31 x 31 patches at q = 9."""

    def __init__(self, q: int, representation: str, scale: float, pooling: str) -> None:
        super().__init__(representation, scale, pooling, STAGES[-1][1] * EXPANSION)
        self.conv1, self.conv2, self.bn1 = conv(3, 64, 1), conv(64, 64, 3), norm(64)
        inputs = 64
        for number, (stage, flag) in enumerate(zip(STAGES, FLAGS[q], strict=True), start=1):
            blocks, width, stride = stage
            self.add_module(f"layer{number}", _stage(inputs, blocks, width, stride, flag))
            inputs = width * EXPANSION

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to the feature grid (B, 2048, h, w)."""
        x = self.representation(images)
        x = F.relu(self.bn1(self.conv2(self.conv1(x))))
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return torch.as_tensor(x)


def _stage(inputs: int, blocks: int, width: int, stride: int, flag: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, kernel=3 if flag else 1, stride=stride, project=True)
    rest = (
        Bottleneck(width * EXPANSION, width, kernel=1, stride=1, project=False)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)


def spec(q: int) -> DetectorSpec:
    """The table entry of LaDeDa with receptive field `q`."""

    def build(
        generator: torch.Generator, representation: str, scale: float, pooling: str
    ) -> PatchDetector:
        detector = LaDeDa(q, representation, scale, pooling)
        initialise(detector, generator)
        return detector

    return DetectorSpec(f"ladeda{q}", build, "NPR", q, STRIDE, half_precision=True)
