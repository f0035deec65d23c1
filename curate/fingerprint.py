"""What a picture looks like, in 64 bits, and its pixels in one digest.

`upright` is the one canonical decode: every hash, and everything else in curation that looks at
pixels, sees a picture through it. `small_grey` is what hashes and thumbnails are made of: the
picture at a size that costs little and loses nothing they could tell. `phash` and `dhash` equal
ImageHash's, bit for bit, on the same image (https://github.com/JohannesBuchner/imagehash), and are
read most significant bit first, row by row.

A flat picture (one colour, a gradient, a blank placeholder) has a hash made of rounding noise that
is near the hashes of other flat pictures. It is given no perceptual fingerprint and matches by its
bytes and pixels alone: see `informative`.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.fft import dct

SIDE = 32
"""Side of the reduction that pHash transforms."""

NOISE = 75.0
"""Four standard deviations of a coefficient (DCT-II, unnormalised, 32 x 32) where the picture is
nothing but rounding to whole grey levels: 4 x sqrt(32 x 32 / 4 x 16 / 12) = 74.
"""

HEADED = frozenset({"JPEG", "MPO", "WEBP"})
"""Formats whose orientation can only stand in an EXIF or XMP block; asking costs as much as a hash."""

ROWS = 512
"""Rows digested at a time, so that a large picture is not copied whole."""

LEAST_BITS = 24
"""Coefficients, of 64, that must stand out of that noise for the hash to say anything."""

Coefficients = NDArray[np.float64]


SHORT_SIDE = 96
"""Pixels that hashes and thumbnails need along the shorter side of a picture."""

SHORT_SIDE_OF_LONG, LONG = 128, 1.6
"""As many where the longer side is so many times the shorter: screens are, and a picture that a screen shows
is a small part of it. At 96 two of a hundred real pictures on a phone's screen are lost, at 128 one
(`tests/benchmarks/dedupe_recall.py`)."""


def upright(image: Image.Image) -> Image.Image:
    """The first frame as seen: orientation applied, RGB, or RGBA where any pixel is not opaque.

    Palettes, CMYK, grey and bilevel are converted; 16-bit and 32-bit samples are scaled to 8 bits.
    """
    turned = turn_upright(image)
    if turned.mode == "RGB" and "transparency" not in turned.info:
        return turned
    if turned.mode.startswith(("I", "F")):
        return _eight_bit(turned).convert("RGB")
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    layered = turned.convert("RGBA")
    return layered.convert("RGB") if layered.getchannel("A").getextrema() == (255, 255) else layered


def turn_upright(image: Image.Image) -> Image.Image:
    """The picture with its orientation applied, in its own mode."""
    return ImageOps.exif_transpose(image) if orientation_of(image) not in (None, 1) else image


def flatten(image: Image.Image) -> Image.Image:
    """An upright picture as RGB, what is transparent shown on white."""
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def fraction_of(width: int, height: int) -> int:
    """How many times smaller, along each side, a picture may be and still say all that is asked of it."""
    short, long = sorted((width, height))
    needed = SHORT_SIDE_OF_LONG if long > LONG * short else SHORT_SIDE
    return max(1, short // needed)


def small_grey(image: Image.Image) -> Image.Image:
    """An upright picture in grey, at a whole fraction of its size, what is transparent on white."""
    fraction = fraction_of(*image.size)
    reduced = image.reduce(fraction) if fraction > 1 else image
    return reduced if reduced.mode == "L" else flatten(reduced).convert("L")


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 over mode, size and samples of an upright picture."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height}\n".encode())
    for top in range(0, image.height, ROWS):
        bottom = min(top + ROWS, image.height)
        whole = image.height <= ROWS
        part = image if whole else image.crop((0, top, image.width, bottom))
        digest.update(part.tobytes())
    return digest.hexdigest()


def phash(image: Image.Image) -> int:
    """The 64-bit DCT hash of a picture, equal to `imagehash.phash`."""
    return _phash(_coefficients(image.convert("L")))


def dhash(image: Image.Image) -> int:
    """The 64-bit gradient hash of a picture, equal to `imagehash.dhash`."""
    return _dhash(image.convert("L"))


def informative(image: Image.Image) -> bool:
    """Whether a picture has enough structure for a perceptual hash to mean anything."""
    return _informative(_coefficients(image.convert("L")))


def fingerprints(image: Image.Image) -> dict[str, int]:
    """The hash of each view of an RGB picture, by view name; empty for a flat one."""
    grey = image if image.mode == "L" else image.convert("L")
    coefficients = _coefficients(grey)
    if not _informative(coefficients):
        return {}
    return {"phash": _phash(coefficients), "dhash": _dhash(grey)}


def to_hex(bits: int) -> str:
    """A 64-bit hash as 16 hex digits, as ImageHash prints it."""
    return f"{bits:016x}"


def _coefficients(grey: Image.Image) -> Coefficients:
    """(8, 8) lowest frequencies of the 32 x 32 reduction."""
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    low: Coefficients = dct(dct(small, axis=0), axis=1)[:8, :8]
    return low


def _informative(low: Coefficients) -> bool:
    return int((np.abs(low) > NOISE).sum()) >= LEAST_BITS


def _phash(low: Coefficients) -> int:
    middle = np.sort(low, axis=None)[31:33]
    return _pack(low > middle.mean())  # the median, at a quarter of the time of np.median


def _dhash(grey: Image.Image) -> int:
    small = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS))
    return _pack(small[:, 1:] > small[:, :-1])


def _pack(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes())


def orientation_of(image: Image.Image) -> int | None:
    """The orientation a decoded file states, 1 to 8; None where it states none."""
    if "exif" not in image.info and "xmp" not in image.info and image.format in HEADED:
        return None
    try:
        return image.getexif().get(0x0112)
    except Exception:  # damaged EXIF raises nearly anything; the picture itself is fine
        return None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Samples of 16 bits by their high byte, of 32 bits and floats by their range."""
    samples = np.nan_to_num(np.asarray(image, dtype=np.float64))
    ranges: Sequence[float] = (1.0, 255.0, 65535.0)
    top = 65535.0 if image.mode != "F" else float(samples.max(initial=0.0))
    scale = next((r for r in ranges if top <= r), max(top, 1.0))
    return Image.fromarray((samples.clip(0, scale) / scale * 255).round().astype(np.uint8))
