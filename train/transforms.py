"""From a picture to what a detector is fed: preprocessing.

The whole preprocessing is one value with a hash. It travels in the checkpoint, because a detector
scored on other pixels than it was trained on gives other numbers and no error (a Tiny-LaDeDa score
moves with nothing but the resize kernel). Published models: Pillow's BILINEAR (antialiased) to 256
x 256, aspect ratio not kept, https://arxiv.org/abs/2406.09398.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from schemas.errors import CheckpointError
from train.detectors.representation import RepresentationName

KERNELS = {"bilinear": Image.Resampling.BILINEAR}
"""Resize kernels a checkpoint may ask for; Pillow's are antialiased."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Everything done to a picture before the first convolution.

    `size` is the side after resizing, `crop` the side of a training crop; evaluation sees the
    whole. `fit` is "stretch" (aspect ratio not kept, as published), "crop" (short side to `size`,
    centre kept), "native" (the centre `size` x `size` as it is) or "whole" (every pixel as it is); for the
    last two, only pictures whose short side is below `size` are resized.
    """

    size: Annotated[int, Field(gt=0)] = 256
    crop: Annotated[int, Field(gt=0)] = 224
    fit: Literal["stretch", "crop", "native", "whole"] = "stretch"
    kernel: Literal["bilinear"] = "bilinear"
    orientation: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    representation: RepresentationName = "NPR"
    scale: Annotated[float, Field(gt=0)] = 1.0

    @property
    def digest(self) -> str:
        """16 hex digits that differ whenever anything evaluation depends on differs.

        The training crop is not part of it: evaluation does not see it.
        """
        seen = {key: value for key, value in self.to_dict().items() if key != "crop"}
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """As JSON and checkpoints hold it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, found: object) -> "Preprocessing":
        """What `to_dict` wrote.

        Raises:
            CheckpointError: if a field is missing, unknown, or asks for what we cannot do.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(found, dict) or set(found) != names:
            odd = sorted(map(str, set(found) ^ names)) if isinstance(found, dict) else [found]
            raise CheckpointError(
                f"preprocessing differs from ours in {', '.join(map(str, odd))}; expected "
                f"{', '.join(sorted(names))}; use the version of wildrf that wrote it"
            )
        try:
            return TypeAdapter(cls).validate_python(found)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CheckpointError(
                f"preprocessing asks for {first['loc'][0]} {first['input']!r}; expected: "
                f"{first['msg']}; use the version of wildrf that wrote it"
            ) from None


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The upright RGB pixels of `image`, uint8, no transparency: (size, size, 3), or (H, W, 3) if whole."""
    rgb = to_rgb(image, preprocessing)
    side = preprocessing.size
    if preprocessing.fit == "whole":
        return np.asarray(_at_least(rgb, side, preprocessing), dtype=np.uint8)
    box = None if preprocessing.fit == "stretch" else _centre_square(rgb.size, preprocessing)
    if box is not None and box[2] - box[0] == side:
        return np.asarray(rgb.crop(box), dtype=np.uint8)  # no pixel is touched
    if rgb.size != (side, side) or box is not None:
        rgb = rgb.resize((side, side), KERNELS[preprocessing.kernel], box=box)
    return np.asarray(rgb, dtype=np.uint8)


def _at_least(rgb: Image.Image, side: int, preprocessing: Preprocessing) -> Image.Image:
    """`rgb` as it is, or enlarged until its short side is `side`."""
    short = min(rgb.size)
    if short >= side:
        return rgb
    width, height = (max(side, round(length * side / short)) for length in rgb.size)
    return rgb.resize((width, height), KERNELS[preprocessing.kernel])


def to_rgb(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """`image` in 8-bit RGB at its own size, turned upright if the preprocessing says so."""
    image.load()  # some formats tell their orientation after the pixels
    if preprocessing.orientation and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
    # what is upright RGB is not copied: two copies of a megapixel take a third as long as its decoding
    return image if image.mode == "RGB" else image.convert("RGB")


def _centre_square(
    size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that is looked at."""
    width, height = size
    side = kept_side(size, preprocessing)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def kept_side(size: tuple[int, int], preprocessing: Preprocessing) -> int:
    """Side of the centre square of an image of `size` that is looked at; not for "stretch" and "whole"."""
    short = min(size)
    return min(short, preprocessing.size) if preprocessing.fit == "native" else short


def to_batch(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 to a (B, 3, H, W) uint8 tensor that shares its memory, channels last."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def normalise(batch: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """(B, 3, H, W) uint8 to what a detector expects: normalised float32 on `device`."""
    mean, std = (_channels(values, device) for values in (preprocessing.mean, preprocessing.std))
    scaled = sent(batch, device).to(torch.float32).div_(255.0)
    return scaled.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; a GPU fetches it while the host goes on.

    From memory that is not pinned a copy waits for everything the GPU has still to do.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


@lru_cache(maxsize=32)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, 3, 1, 1) on `device`, sent there once."""
    with torch.inference_mode(False):  # it serves training as well
        return torch.tensor(values, device=device).view(1, -1, 1, 1)
