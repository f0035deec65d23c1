"""A detector for scoring alone: every BatchNorm, and every 1 x 1 before a k x k, folded away.

In evaluation mode BatchNorm is a scale and a shift per channel, so that it goes into the convolution
before it (https://arxiv.org/abs/1712.05877, section 3.2). The stems of LaDeDa and Tiny-LaDeDa are a
1 x 1 and a 3 x 3 convolution with nothing between them: their product is one 3 x 3, which for LaDeDa
leaves out a ninth of all multiplications. Neither has padding, so that both hold up to the border.

Weights are multiplied in float64 and rounded to float32. Rounding moves the logits of all pictures by much
the same (the published Tiny-LaDeDa: 1e-5, of which a third differs from picture to picture), so that what it
moves them by on noise is taken back in the last bias (https://arxiv.org/abs/1906.04721, section 4.2).
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from train.detectors import PatchDetector
from train.detectors.ladeda import LaDeDa
from train.detectors.representation import Representation
from train.detectors.tiny import TinyLaDeDa


@torch.no_grad()
def fold(detector: PatchDetector) -> PatchDetector:
    """A copy of `detector` with the same logits and fewer layers, in evaluation mode.

    Detectors of other packages come back as they are: it is not known what follows what in them.
    """
    folded = copy.deepcopy(detector).eval()
    if not isinstance(folded, LaDeDa | TinyLaDeDa):
        return folded
    _compose_stem(folded)
    for module in folded.modules():
        _fold_norms(module)
    folded.requires_grad_(False)
    moved = _mean_logit(detector) - _mean_logit(folded)
    folded.fc.bias.add_(moved.float())
    return folded


def _mean_logit(detector: PatchDetector) -> Tensor:
    """The mean logit of all patches of a noisy picture, computed in float64."""
    noise = torch.Generator().manual_seed(0)
    scene = torch.randn(1, 3, 6, 6, generator=noise)
    smooth = nn.functional.interpolate(scene, size=(96, 96), mode="bicubic")
    picture = smooth + 0.2 * torch.randn(1, 3, 96, 96, generator=noise)
    grid = exact_features(detector, picture)
    head = detector.fc
    return (grid.mean(dim=(0, 2, 3)) * head.weight[0].double()).sum() + head.bias[0].double()


@torch.no_grad()
def exact_features(detector: PatchDetector, images: Tensor) -> Tensor:
    """The feature grid of normalised `images`, in float64 from the representation on."""
    exact = copy.deepcopy(detector).eval().cpu()
    seen = exact.representation(images).double()
    exact.representation = cast(Representation, nn.Identity())  # which would round to float32
    return exact.double().features(seen)


@torch.no_grad()
def exact_logits(detector: PatchDetector, images: Tensor) -> Tensor:
    """Logits (B,) of normalised `images` (B, 3, H, W) in float64: what float32 comes close to."""
    pooled = copy.deepcopy(detector).eval().cpu()
    grid = exact_features(detector, images)
    if detector.pooling == "mean":
        head = pooled.fc
        return grid.mean(dim=(2, 3)) @ head.weight[0].double() + head.bias.double()
    pooled.features = lambda images: grid  # type: ignore[method-assign]
    logits: Tensor = pooled(images)
    return logits.squeeze(1).double()


def _compose_stem(detector: LaDeDa | TinyLaDeDa) -> None:
    inner, outer = detector.conv1, detector.conv2
    detector.conv2 = _conv(compose(inner.weight, outer.weight), None, outer)
    detector.conv1 = cast(nn.Conv2d, nn.Identity())


def compose(inner: Tensor, outer: Tensor) -> Tensor:
    """The kernel (O, I, k, k) of a 1 x 1 `inner` (M, I, 1, 1) followed by `outer` (O, M, k, k)."""
    return torch.einsum("omyx,mi->oiyx", outer.double(), inner[:, :, 0, 0].double())


def _fold_norms(module: nn.Module) -> None:
    """Fold each normN of `module` into its convN, and a projection's norm into the projection."""
    pairs = [(f"conv{n}", f"bn{n}") for n in (2, 1, 3)]  # the stem's norm follows its second conv
    if isinstance(module, LaDeDa | TinyLaDeDa):
        pairs = [("conv2", "bn1")]
    if isinstance(module, nn.Sequential):
        pairs = [("0", "1")]
    for conv_name, norm_name in pairs:
        conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, _conv(*fold_norm(conv.weight, norm), conv))
            setattr(module, norm_name, nn.Identity())


def fold_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias, in float64, of a bias-free convolution followed by `norm`."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    gain = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    shift = norm.bias.double() - mean.double() * gain
    return weight.double() * gain.view(-1, 1, 1, 1), shift


def _conv(weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    made = nn.Conv2d(inputs, outputs, kernel, like.stride[0], bias=bias is not None)
    made.weight.data = weight.detach().float()
    if bias is not None and made.bias is not None:
        made.bias.data = bias.detach().float()
    return made
