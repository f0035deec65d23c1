"""JPEG and WebP as different programs write them, in memory.

What a lossy encoder leaves in the pixels is decided by its quantisation tables and by how it samples
colour, so encoders are told apart here by these two. The law that scales a base table to a quality is
that of libjpeg (jcparam.c, https://github.com/libjpeg-turbo/libjpeg-turbo); the base tables are Annex K
of ITU-T T.81, and the flat one and the default one of MozJPEG (https://github.com/mozilla/mozjpeg).
"""

import io
from collections.abc import Sequence

from PIL import Image

ANNEX_K = (
    (
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ),
    (
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
        24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    ),
)  # fmt: skip

MOZJPEG = (
    (
        16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75,
        16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40, 53, 74, 106, 156,
        25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238,
        56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418,
    ),
)  # fmt: skip

JPEG_TABLES: dict[str, tuple[tuple[int, ...], ...]] = {
    "libjpeg": ANNEX_K,
    "mozjpeg": MOZJPEG,
    "flat": ((16,) * 64,),
}
"""Base tables in natural order by encoder: luma and chroma, or one for both."""

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def jpeg_tables(encoder: str, quality: int) -> list[list[int]]:
    """Luma and chroma quantisation steps, natural order, 8 bits, at `quality` (1 to 100)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    bases = JPEG_TABLES[encoder]
    return [_scaled(base, scale) for base in (bases[0], bases[-1])]


def _scaled(base: Sequence[int], scale: int) -> list[int]:
    return [min(255, max(1, (step * scale + 50) // 100)) for step in base]


def jpeg_bytes(image: Image.Image, encoder: str, quality: int, subsampling: str) -> bytes:
    """`image` (RGB) as the JPEG file that `encoder` writes at `quality` and `subsampling`."""
    out = io.BytesIO()
    tables = jpeg_tables(encoder, quality)
    image.save(out, "JPEG", qtables=tables, subsampling=subsampling)
    return out.getvalue()


def through_jpeg(image: Image.Image, encoder: str, quality: int, subsampling: str) -> Image.Image:
    """What is left of `image` (RGB) after it was such a JPEG file."""
    return _decoded(jpeg_bytes(image, encoder, quality, subsampling))


def through_webp(image: Image.Image, quality: int) -> Image.Image:
    """What is left of `image` (RGB) after it was a lossy WebP file."""
    out = io.BytesIO()
    # method 0 is 5 times as fast as the default and leaves what lossy WebP leaves
    image.save(out, "WEBP", quality=quality, method=0)
    return _decoded(out.getvalue())


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
