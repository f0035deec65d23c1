"""How large a simulated world is and what is planted in it; and where its randomness comes from.

Every random draw comes from a generator named by (seed, purpose, index), never from a shared stream:
so picture 17 is the same whether it is made first, last or by another process.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import InputError

MIN_IMAGES = 16
MIN_SIDE_PX = 96


@dataclass(frozen=True, slots=True)
class Annotator:
    """A simulated person: how often they are wrong, cannot tell, or skip; each in [0, 1]."""

    user_id: int
    error_rate: float
    unsure_rate: float
    skip_rate: float


ANNOTATORS = (
    Annotator(1, error_rate=0.02, unsure_rate=0.01, skip_rate=0.01),
    Annotator(2, error_rate=0.06, unsure_rate=0.03, skip_rate=0.02),
    Annotator(3, error_rate=0.15, unsure_rate=0.05, skip_rate=0.02),
)


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """A simulated world: the same spec gives the same bytes.

    `images` counts distinct pictures; copies, crops and broken media come on top. Long sides are in
    pixels, uniform in [`min_side`, `max_side`]. Shares are of `images`, and each planted kind
    with a share above 0 is planted at least once. `format_bias` in [0, 1] is the share of fakes that
    come out of other encoder settings than real pictures of the same platform: 0 is a clean world.
    """

    seed: int = 0
    images: int = 240
    min_side: int = 320
    max_side: int = 512
    fake_share: float = 0.5
    reddit_share: float = 0.5
    repost_share: float = 0.08
    same_bytes_share: float = 0.02
    crop_share: float = 0.03
    big_crop_share: float = 0.02
    caption_share: float = 0.02
    screenshot_share: float = 0.02
    mirror_share: float = 0.02
    mislabelled_share: float = 0.04
    dead_share: float = 0.03
    placeholder_share: float = 0.03
    corrupt: int = 1
    bad_line: bool = True
    format_bias: float = 0.0
    annotators: tuple[Annotator, ...] = ANNOTATORS

    def __post_init__(self) -> None:
        for name, value, low, high in self._limits():
            if not low <= value <= high:
                raise InputError(
                    f"simulated world: {name} is {value:g}, expected {low:g} to {high:g}; change it"
                )

    def _limits(self) -> list[tuple[str, float, float, float]]:
        shares = [name for name in self.__slots__ if name.endswith("_share")]
        return [
            ("images", self.images, MIN_IMAGES, 10**7),
            ("min_side", self.min_side, MIN_SIDE_PX, self.max_side),
            ("max_side", self.max_side, self.min_side, 1024),
            ("format_bias", self.format_bias, 0, 1),
            *((name, getattr(self, name), 0, 1) for name in shares),
        ]

    def planted(self, share: float) -> int:
        """How many pictures `share` means here: none for 0, else at least one."""
        return 0 if share == 0 else max(1, round(share * self.images))


@dataclass(frozen=True, slots=True)
class World:
    """A simulated world on disk. `truth` is what `truth.json` holds."""

    root: Path
    exports: tuple[Path, ...]
    media: Path
    annotations: Path
    truth_path: Path
    truth: dict[str, Any]


def rng_for(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of one purpose and index; draws elsewhere do not move it."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def token(seed: int, purpose: str, index: int, length: int, alphabet: str) -> str:
    """`length` letters of `alphabet` that depend on nothing but the arguments."""
    digits = rng_for(seed, purpose, index).integers(0, len(alphabet), length)
    return "".join(alphabet[i] for i in digits)
