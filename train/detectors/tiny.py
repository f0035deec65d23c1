"""Tiny-LaDeDa: 1,297 parameters that imitate the patch logits of a large LaDeDa.

Source: https://arxiv.org/abs/2406.09398. Module names are those of the published state dicts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.detectors.patches import DetectorSpec, PatchDetector, conv, initialise, norm

WIDTH = 8


class TinyBlock(nn.Module):
    """1 x 1, then 3 x 3 with stride 2; no residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(WIDTH, WIDTH, 1), norm(WIDTH)
        self.conv2, self.bn2 = conv(WIDTH, WIDTH, 3, stride=2), norm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8, H, W) to (B, 8, h, w)."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class TinyLaDeDa(PatchDetector):
    """Receptive field 5, stride 2: a 256 x 256 image has 126 x 126 patches."""

    def __init__(self, representation: str, scale: float, pooling: str) -> None:
        super().__init__(representation, scale, pooling, WIDTH)
        self.conv1, self.conv2, self.bn1 = conv(3, WIDTH, 1), conv(WIDTH, WIDTH, 3), norm(WIDTH)
        self.layer1 = nn.Sequential(TinyBlock())

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to the feature grid (B, 8, h, w)."""
        x = self.representation(images)
        x = F.relu(self.bn1(self.conv2(self.conv1(x))))
        grid: Tensor = self.layer1(x)
        return grid


def build(
    generator: torch.Generator, representation: str, scale: float, pooling: str
) -> PatchDetector:
    """A freshly initialised Tiny-LaDeDa."""
    detector = TinyLaDeDa(representation, scale, pooling)
    initialise(detector, generator)
    return detector


SPEC = DetectorSpec("tiny-ladeda", build, "right_diag", 5, 2, half_precision=False)
