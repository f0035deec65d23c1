"""What a run was asked to do, checked, and where it runs.

A recipe is a `schemas.policy.TrainPolicy`. Its defaults are the paper's,
https://arxiv.org/abs/2406.09398.
"""

import hashlib
import json
import math
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from schemas.errors import InputError
from schemas.policy import AugmentPolicy, TrainPolicy
from train.detectors import DetectorSpec, PatchDetector, find_detector
from train.memory import keep_freed_memory
from train.transforms import Preprocessing

SPEED_ONLY = ("workers", "max_minutes", "epochs", "cache_gib")
"""Recipe fields that do not change what an epoch computes: a run may go on under other values."""


def check_recipe(recipe: TrainPolicy) -> DetectorSpec:
    """The detector that `recipe` trains.

    Raises:
        InputError: naming the field that cannot be used.
    """
    try:
        TypeAdapter(TrainPolicy).validate_python(asdict(recipe))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"train.{field} is {first['input']!r}; {first['msg']}; change it"
        ) from None
    if recipe.max_minutes == math.inf:  # read from text, it is None
        raise InputError("train.max_minutes is inf; expected minutes, or None for no limit")
    spec = find_detector(recipe.detector)
    if not spec.receptive_field <= recipe.crop <= recipe.size:
        raise InputError(
            f"train.crop is {recipe.crop}; expected {spec.receptive_field} (what {spec.name} sees) "
            f"to train.size ({recipe.size}); change one of them"
        )
    if recipe.batch == 1 and recipe.crop < spec.receptive_field + spec.stride:
        raise InputError(
            f"train.batch is 1 and train.crop {recipe.crop} holds one patch of {spec.name}; expected more "
            "than one in a batch, as BatchNorm compares them; raise one of them"
        )
    _check_ranges(recipe.augment)
    return spec


def _check_ranges(augment: AugmentPolicy) -> None:
    """Least comes before most, and qualities are those of encoders."""
    for name in ("resize_factor", "blur_px", "noise_levels", "webp_quality", "jpeg_quality"):
        low, high = getattr(augment, name)
        lowest, highest = (1.0, 100.0) if name.endswith("quality") else (0.0, math.inf)
        if name == "resize_factor":
            lowest, highest = 0.1, 4.0
        if not lowest <= low <= high <= highest:
            upto = f"to {highest:g}" if highest < math.inf else "on"
            raise InputError(
                f"train.augment.{name} is [{low:g}, {high:g}]; expected two numbers in order, from "
                f"{lowest:g} {upto}; change them"
            )


def check_resize(recipe: TrainPolicy) -> None:
    """Whether windows of the recipe leave room for the resizing that it asks for.

    Raises:
        InputError: if a picture is to be shrunk, and is no larger than a window already.
    """
    augment, least = recipe.augment, recipe.crop / recipe.size
    low, high = augment.resize_factor
    if augment.resize and recipe.fit != "whole" and low < 1 and least >= min(1, high):
        raise InputError(
            f"train.augment.resize_factor is [{low:g}, {high:g}], and windows of {recipe.crop} in "
            f"pictures of {recipe.size} pixels allow factors from {least:g} on; expected room to shrink; "
            "lower train.crop, or begin at 1"
        )


def preprocessing_of(recipe: TrainPolicy, spec: DetectorSpec) -> Preprocessing:
    """The preprocessing that `recipe` asks for."""
    return Preprocessing(
        size=recipe.size,
        crop=recipe.crop,
        fit=recipe.fit,
        representation=recipe.representation or spec.representation,
        scale=recipe.representation_scale,
    )


def build_detector(
    spec: DetectorSpec, preprocessing: Preprocessing, pooling: str, seed: int
) -> PatchDetector:
    """A freshly initialised detector; the same seed gives the same weights."""
    generator = torch.Generator().manual_seed(seed)
    return spec.build(generator, preprocessing.representation, preprocessing.scale, pooling)


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how precisely a detector runs."""

    device: torch.device
    half: bool = False
    compiled: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where `half` says so; weights and the head stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def place(self, detector: PatchDetector) -> PatchDetector:
        """`detector` on the device, in the memory layout that convolutions like best."""
        moved: PatchDetector = detector.to(self.device)
        # channels last: 2.4 x faster training of ladeda9 on a CPU with bfloat16, measured
        moved = moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        if self.compiled:
            moved.compile()  # in place: the names in the state dict stay
        return moved

    @property
    def replays(self) -> bool:
        """Whether the device works on its own while the host goes on, and takes whole steps at once."""
        return self.device.type == "cuda"


def choose_compute(
    device: str, precision: str, spec: DetectorSpec, compiled: bool = False
) -> Compute:
    """The device and precision for the words of a recipe.

    Raises:
        InputError: if the device is not there.
    """
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    if chosen.type == "cuda":
        settle_kernels()
    if precision == "auto":
        return Compute(chosen, spec.half_precision and _has_bfloat16(chosen), compiled)
    return Compute(chosen, precision == "bfloat16", compiled)


def settle_kernels() -> None:
    """float32 on a GPU is float32, not TF32, and a sum is added up in the same order each time.

    PyTorch lets cuDNN round the factors of a float32 convolution to 10 bits unless told not to, which moves
    a logit in its third digit: a picture must get the score it gets on a CPU.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _device(name: str) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (name.startswith("cuda") and not cuda) or (name == "mps" and not mps):
        raise InputError(f"device {name} is not there; expected one torch can use; use device auto")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown; expected auto, cpu, cuda or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name} is not there; expected cuda:0 to cuda:{torch.cuda.device_count() - 1}; "
            "use device auto"
        )
    return device


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # emulated on other processors, where it is slower than float32
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return False


def code_versions() -> dict[str, str]:
    """Versions of everything a score depends on."""
    return {name: _version(name) for name in ("wildrf", "torch", "numpy", "pillow")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def fingerprint(**parts: Any) -> str:
    """SHA-256 of JSON-able `parts`, whatever their order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def recipe_key(recipe: TrainPolicy) -> dict[str, Any]:
    """The part of `recipe` that decides what an epoch computes."""
    return {k: v for k, v in asdict(recipe).items() if k not in SPEED_ONLY}
