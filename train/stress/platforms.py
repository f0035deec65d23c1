"""What platforms make of an upload: a cap on the long edge, then their own JPEG, metadata gone.

`basis` says how well a setting is known. "measured": counted over files that the platform served (850
in three X archives: IJG quality 85 in 78 %, progressive 97 %, 4:2:0 99 %, long edge mostly 1200; 127
from one Mastodon server: quality 90 in 98 %, baseline all). "assumed": commonly reported, not
counted here; their figures say what such a chain does, not what that platform does today.
"""

from dataclasses import dataclass

from PIL import Image

from train.stress.coding import save_jpeg


@dataclass(frozen=True, slots=True)
class Delivery:
    """One platform's rendition; `long_edge` in pixels, None where it does not cap."""

    platform: str
    long_edge: int | None
    quality: int
    progressive: bool
    basis: str

    @property
    def words(self) -> str:
        """In a few words."""
        cap = f"long edge {self.long_edge} px, " if self.long_edge else ""
        scan = "progressive" if self.progressive else "baseline"
        return f"{cap}{scan} JPEG {self.quality} 4:2:0 ({self.basis})"

    def deliver(self, picture: Image.Image) -> Image.Image:
        """`picture` as the platform would show it."""
        capped = _capped(picture, self.long_edge)
        return save_jpeg(capped, self.quality, progressive=self.progressive)


DELIVERIES: dict[str, Delivery] = {
    delivery.platform: delivery
    for delivery in (
        Delivery("x", 1200, 85, progressive=True, basis="measured"),
        Delivery("mastodon", None, 90, progressive=False, basis="measured"),
        Delivery("reddit", 1080, 88, progressive=False, basis="assumed"),
        Delivery("facebook", 2048, 75, progressive=True, basis="assumed"),
        Delivery("whatsapp", 1600, 75, progressive=False, basis="assumed"),
    )
}

CHAINS: tuple[tuple[str, ...], ...] = (
    *((platform,) for platform in DELIVERIES),
    ("x", "reddit"),
    ("whatsapp", "facebook"),
    ("facebook", "whatsapp", "x"),
)
"""One hop each, then what is passed on from platform to platform."""


def settings() -> dict[str, str]:
    """What each platform is taken to do, in words: measured or assumed."""
    return {name: delivery.words for name, delivery in DELIVERIES.items()}


def deliver(picture: Image.Image, chain: tuple[str, ...]) -> Image.Image:
    """`picture` after every platform of `chain`, in order."""
    for platform in chain:
        picture = DELIVERIES[platform].deliver(picture)
    return picture


def _capped(picture: Image.Image, long_edge: int | None) -> Image.Image:
    scale = 1.0 if long_edge is None else long_edge / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
