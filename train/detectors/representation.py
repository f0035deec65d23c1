"""What a detector looks at: the picture itself, or one of its gradients.

Source: LaDeDa, https://arxiv.org/abs/2406.09398, and NPR, https://arxiv.org/abs/2312.10461. All are
computed inside the network, per channel, on the normalised image, with zeros around it, and have
its size. They have no weights and leave nothing in a state dict. They are always computed in
float32: the signal is a small difference of large values, which half precision would round away.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNELS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "x_grad": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "y_grad": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "left_diag": ((0, 1, 2), (-1, 0, 1), (-2, -1, 0)),
    "right_diag": ((-2, -1, 0), (-1, 0, 1), (0, 1, 2)),
}
"""Gradient kernels as cross-correlations: the first row meets the row above the pixel."""

RepresentationName = Literal["raw", "NPR", "x_grad", "y_grad", "left_diag", "right_diag"]

REPRESENTATIONS: tuple[str, ...] = get_args(RepresentationName)


class Representation(nn.Module):
    """(B, 3, H, W) normalised image to (B, 3, H, W) of the named representation, times `scale`."""

    def __init__(self, name: str, scale: float = 1.0) -> None:
        super().__init__()
        if name not in REPRESENTATIONS:
            raise ValueError(f"representation {name!r}; expected one of {REPRESENTATIONS}")
        self.name, self.scale = name, scale
        kernel = torch.tensor(KERNELS.get(name, ()), dtype=torch.float32)
        weight = kernel.expand(3, 1, 3, 3).contiguous() if name in KERNELS else kernel
        self.register_buffer("kernel", weight, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The representation of `images`, in float32."""
        with torch.autocast(images.device.type, enabled=False):
            result = self._apply_to(images.float())
        return result if self.scale == 1.0 else result * self.scale

    def _apply_to(self, images: Tensor) -> Tensor:
        if self.name == "raw":
            return images
        if self.name == "NPR":
            return npr(images)
        kernel: Tensor = self.get_buffer("kernel")
        return F.conv2d(images, kernel, padding=1, groups=3)


def npr(images: Tensor) -> Tensor:
    """Each pixel minus the top left pixel of its 2 x 2 block: neighbouring pixel relations.

    The same as the image minus its nearest-neighbour down-and-up-sampled self; an odd side ends in
    half a block.
    """
    height, width = images.shape[-2:]
    corners = images[..., ::2, ::2]
    blocks = corners.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    return images - blocks[..., :height, :width]
