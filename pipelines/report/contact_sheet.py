"""Small pictures for a page: bounded, upright, and made without touching the originals."""

import base64
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from curate.fingerprint import flatten, upright

SIDE_PX = 176
"""Longest side of a thumbnail."""
MAX_PIXELS = 60_000_000
"""Larger pictures are not opened for a thumbnail."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture on a page. `source` is a data URI, or None where `problem` says why not."""

    title: str
    source: str | None
    problem: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Couple:
    """Two pictures side by side, and what they have in common."""

    a: Tile
    b: Tile
    why: str


def tile(root: Path, path: str, *, note: str = "", side_px: int = SIDE_PX) -> Tile:
    """The thumbnail of the image at `path` under `root`, or a placeholder that says why not."""
    try:
        return Tile(path, data_uri(thumbnail(root / path, side_px)), note=note)
    except UnidentifiedImageError:
        return Tile(path, None, "not an image", note)
    except OSError as error:
        return Tile(path, None, error.strerror or str(error).splitlines()[0][:80], note)
    except Exception as error:  # decoders raise what they like on hostile files; the tile says so
        return Tile(path, None, str(error)[:80] or type(error).__name__, note)


def couples(root: Path, pairs: Iterable[tuple[str, str, str]]) -> list[Couple]:
    """Pairs of (path, path, what matched) with their thumbnails."""
    return [Couple(tile(root, a), tile(root, b), why) for a, b, why in pairs]


def thumbnail(file: Path, side_px: int) -> Image.Image:
    """The picture in RGB, upright, at most `side_px` on its longest side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about the file is the probe's to say
        with Image.open(file) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} is too large to show")
            opened.draft("RGB", (2 * side_px, 2 * side_px))
            small = flatten(upright(opened)).copy()  # the file is closed before it is scaled
    small.thumbnail((side_px, side_px))
    return small


def data_uri(image: Image.Image) -> str:
    """A WebP without metadata, inline."""
    packed = io.BytesIO()
    image.save(packed, "WEBP", quality=78, method=4)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
