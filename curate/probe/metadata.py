"""EXIF, XMP and colour profiles: what a file says about its making, out of whatever container.

Damaged metadata is common and says nothing about the picture, so every reader here gives what it
can and never raises.

EXIF: https://www.cipa.jp/std/documents/e/DC-008-Translation-2019-E.pdf.
"""

import hashlib
import re
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
    """The few EXIF facts we keep; None where not stated."""

    orientation: int | None = None
    make: str | None = None
    model: str | None = None
    software: str | None = None
    thumbnail: bool = False
    exposure: bool = False
    comment: str = ""


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
    return Exif(
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None,
        make=clean(exif.get(ExifTags.Base.Make)),
        model=clean(exif.get(ExifTags.Base.Model)),
        software=clean(exif.get(ExifTags.Base.Software)),
        thumbnail=ExifTags.Base.JpegIFOffset in exif.get_ifd(ExifTags.IFD.IFD1),
        exposure=not PHOTO_TAGS.isdisjoint(photo),
        comment=_comment(photo.get(ExifTags.Base.UserComment)),
    )


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


SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{3,48})")


def source_types(xmp: bytes) -> list[str]:
    """The IPTC digital source types an XMP packet names, in order, each once."""
    return list(dict.fromkeys(m.decode() for m in SOURCE_TYPE.findall(xmp)))
