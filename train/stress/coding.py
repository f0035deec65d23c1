"""How a file codes its pixels, and saving a picture the way another file is saved.

JPEG: quantisation tables and chroma subsampling as they are in the file, not a quality number, which
is only comparable within one encoder family. A lossless file (PNG, BMP, TIFF, GIF) has no such
coding: saving as one changes no pixel. Lossy WebP, AVIF and others do not say their quality in the
header, so saving like one of them uses Pillow's default quality; `assumed` says so.
"""

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.JpegImagePlugin import get_sampling

SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
"""Pillow's numbers; other samplings are saved as 4:4:4."""

LOSSY = ("WEBP", "AVIF")
"""Formats whose quality only the encoder knew."""

Table = tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Coding:
    """The coding of one file; `tables` are 64 entries each, luma first, in natural order."""

    format: str
    tables: tuple[Table, ...] = ()
    sampling: str = ""
    progressive: bool = False

    @property
    def assumed(self) -> bool:
        """Whether saving alike has to guess the quality."""
        return self.format in LOSSY

    @property
    def words(self) -> str:
        """In a few words; tables by the mean of the first, which falls with quality."""
        if not self.tables:
            return self.format
        mean = sum(self.tables[0]) / len(self.tables[0])
        scan = " progressive" if self.progressive else ""
        return f"{self.format}{scan} {self.sampling}, mean luma table {mean:.1f}"


def coding_of(image: Image.Image) -> Coding:
    """The coding of an opened file; its pixels need not be decoded."""
    name = str(image.format or "unknown")
    if name not in ("JPEG", "MPO"):
        return Coding(name if name in LOSSY else "lossless")
    found: Any = getattr(image, "quantization", {})
    tables = tuple(tuple(min(int(v), 255) for v in found[k]) for k in sorted(found))
    sampling = SAMPLINGS.get(get_sampling(image), "4:4:4")
    progressive = bool(image.info.get("progressive") or image.info.get("progression"))
    return Coding("JPEG", tables, sampling, progressive)


def save_like(picture: Image.Image, coding: Coding) -> Image.Image:
    """`picture` (RGB) after being saved as `coding` says and decoded again."""
    if coding.format == "lossless":
        return picture
    if coding.format in LOSSY:
        return _through(picture, coding.format)
    return _through(
        picture, "JPEG", qtables=[list(table) for table in coding.tables],
        subsampling=coding.sampling, progressive=coding.progressive,
    )  # fmt: skip


def save_jpeg(
    picture: Image.Image, quality: int, *, sampling: str = "4:2:0", progressive: bool = False
) -> Image.Image:
    """`picture` (RGB) after JPEG with IJG tables of `quality` and decoding."""
    return _through(picture, "JPEG", quality=quality, subsampling=sampling, progressive=progressive)


def _through(picture: Image.Image, form: str, **options: Any) -> Image.Image:
    packed = io.BytesIO()
    picture.save(packed, form, **options)
    packed.seek(0)
    with Image.open(packed) as image:
        return image.convert("RGB")
