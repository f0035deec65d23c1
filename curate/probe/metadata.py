"""EXIF and colour profiles: what a file says about its making, out of whatever container.

Damaged metadata is common and says nothing about the picture, so every reader here gives what it
can and never raises.

EXIF: https://www.cipa.jp/std/documents/e/DC-008-Translation-2019-E.pdf.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ExifTags, Image

LONGEST_TEXT = 64
LONGEST_COMMENT = 1 << 16
LARGEST_EXIF = 1 << 17
"""A JPEG segment holds half of this; a larger block can make a reader copy gigabytes."""

PHOTO_TAGS = frozenset(
    {
        ExifTags.Base.ExposureTime,
        ExifTags.Base.FNumber,
        ExifTags.Base.ISOSpeedRatings,
        ExifTags.Base.FocalLength,
        ExifTags.Base.ShutterSpeedValue,
    }
)
"""Tags only a camera has reason to write."""


@dataclass(frozen=True, slots=True)
class Exif:
    """The few EXIF facts we keep; None where not stated.

    `texts` are free texts by the name of their tag. Programs write their parameters there and people
    what they like, so they are searched for marks of a program and never kept in a row.
    """

    orientation: int | None = None
    make: str | None = None
    model: str | None = None
    software: str | None = None
    thumbnail: bool = False
    exposure: bool = False
    maker_note: bool = False
    texts: tuple[tuple[str, str], ...] = ()


NO_EXIF = Exif()


def read_exif(content: bytes | None) -> Exif:
    """The facts of one EXIF block, with or without its `Exif` prefix."""
    if not content or len(content) > LARGEST_EXIF:
        return NO_EXIF
    exif = Image.Exif()
    try:
        exif.load(content)
        return _facts(exif)
    except Exception:  # damaged EXIF raises nearly anything
        return NO_EXIF


def _facts(exif: Image.Exif) -> Exif:
    photo = exif.get_ifd(ExifTags.IFD.Exif)
    orientation = exif.get(ExifTags.Base.Orientation)
    texts = {tag.name: _comment(photo.get(tag)) for tag in (ExifTags.Base.UserComment,)}
    texts |= {name: read(exif.get(tag)) for name, tag, read in FREE_TEXTS}
    return Exif(
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None,
        make=_device(exif.get(ExifTags.Base.Make)),
        model=_device(exif.get(ExifTags.Base.Model)),
        software=clean(exif.get(ExifTags.Base.Software)),
        thumbnail=ExifTags.Base.JpegIFOffset in exif.get_ifd(ExifTags.IFD.IFD1),
        exposure=not PHOTO_TAGS.isdisjoint(photo),
        maker_note=bool(photo.get(ExifTags.Base.MakerNote)),
        texts=tuple((name, text) for name, text in texts.items() if text),
    )


def _device(value: object) -> str | None:
    """Make or model; None where a program put its parameters there, as ComfyUI does in WebP files."""
    name = clean(value)
    return None if name is None or "{" in name else name


def _plain(value: object) -> str:
    """A text of EXIF, which has bytes or characters; empty if it is anything else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value[:LONGEST_COMMENT].rstrip("\0") if isinstance(value, str) else ""


def _wide(value: object) -> str:
    """A text of the tags that Windows writes: UTF-16, least significant byte first."""
    if isinstance(value, tuple):
        value = bytes(v & 0xFF for v in value[:LONGEST_COMMENT] if isinstance(v, int))
    if not isinstance(value, bytes):
        return ""
    return value[:LONGEST_COMMENT].decode("utf-16-le", "replace").rstrip("\0")


FREE_TEXTS: tuple[tuple[str, ExifTags.Base, Callable[[object], str]], ...] = (
    ("ImageDescription", ExifTags.Base.ImageDescription, _plain),
    ("XPComment", ExifTags.Base.XPComment, _wide),
    ("Make", ExifTags.Base.Make, _plain),
    ("Model", ExifTags.Base.Model, _plain),
)
"""Tags beside UserComment in which programs keep what they were asked for."""


def clean(value: object) -> str | None:
    """Printable text of at most 64 characters; None if nothing is left."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    printable = "".join(c for c in value.split("\0")[0] if c.isprintable())
    return " ".join(printable[:LONGEST_TEXT].split()) or None


def _comment(value: object) -> str:
    """EXIF UserComment: eight bytes name the encoding, then text."""
    if isinstance(value, str):
        return value[:LONGEST_COMMENT]
    if not isinstance(value, bytes):
        return ""
    body = value[8 : 8 + LONGEST_COMMENT]
    if value[:7] != b"UNICODE":
        return body.decode("utf-8", "replace")
    # The byte order is not stated; ASCII text has its zeros first in big-endian.
    return body.decode("utf-16-be" if body[:1] == b"\0" else "utf-16-le", "replace")


def profile_hash(profile: bytes | None) -> str | None:
    """16 hex digits of an ICC profile."""
    return hashlib.sha256(profile).hexdigest()[:16] if profile else None


XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:=["']|>)([1-8])""")


def xmp_orientation(xmp: bytes) -> int | None:
    """The orientation an XMP packet states: what viewers apply where EXIF states none."""
    found = XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else None
