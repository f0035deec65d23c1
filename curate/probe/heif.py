"""EXIF, XMP and auxiliary pictures of AVIF and HEIF files, read from their boxes.

Needs no decoder, so that an iPhone photo is known as one where HEIC cannot be decoded.

Format: ISO/IEC 23008-12 (items), ISO/IEC 14496-12 (boxes meta, iinf, iloc).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from curate.probe.jumbf import boxes

MOST_ITEMS = 1024
LARGEST_ITEM = 1 << 20
XMP_TYPE = b"application/rdf+xml"
APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"


@dataclass(frozen=True, slots=True)
class Items:
    """What the items hold; empty where there is none."""

    exif: bytes = b""
    xmp: bytes = b""
    apple_gain_map: bool = False
    tone_map: bool = False


def read(data: bytes) -> Items:
    """The metadata items of an AVIF or HEIF file. Never raises."""
    meta = next((data[start:end] for kind, start, end in boxes(data) if kind == b"meta"), b"")[4:]
    parts = {kind: meta[start:end] for kind, start, end in boxes(meta)}
    kinds = dict(_item_types(parts.get(b"iinf", b"")))
    wanted = {item for item, kind in kinds.items() if kind in (b"Exif", XMP_TYPE)}
    found = dict(_contents(data, parts, wanted))
    exif = next((found[item] for item in found if kinds[item] == b"Exif"), b"")
    return Items(
        exif=exif[4 + int.from_bytes(exif[:4]) :],
        xmp=next((found[item] for item in found if kinds[item] == XMP_TYPE), b""),
        apple_gain_map=APPLE_GAIN_MAP in parts.get(b"iprp", b""),
        tone_map=b"tmap" in kinds.values(),
    )


def _item_types(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and type of each item; the media type where the item has one."""
    for kind, start, end in boxes(body, 8 if body[:1] not in (b"", b"\0") else 6):
        entry = body[start:end]
        if kind != b"infe" or entry[:1] not in (b"\2", b"\3"):
            continue
        wide = 4 if entry[0] == 3 else 2
        name = entry[4 + wide + 2 : 4 + wide + 6]
        if name == b"mime":
            name = entry[4 + wide + 6 :].partition(b"\0")[2].partition(b"\0")[0]
        yield int.from_bytes(entry[4 : 4 + wide]), name


def _contents(
    data: bytes, parts: dict[bytes, bytes], wanted: set[int]
) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the wanted items, each cut at LARGEST_ITEM."""
    for item, method, extents in _locations(parts.get(b"iloc", b"")):
        if item in wanted and method in (0, 1):
            source = data if method == 0 else parts.get(b"idat", b"")
            pieces = (source[at : at + min(length, LARGEST_ITEM)] for at, length in extents)
            yield item, b"".join(pieces)[:LARGEST_ITEM]


def _locations(body: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Number, construction method and (offset, length) of the pieces of each item."""
    if len(body) < 8:
        return
    version = body[0]
    offset_size, length_size = divmod(body[4], 16)
    base_size, index_size = divmod(body[5], 16)
    reader = _Numbers(body, 6)
    wide = 2 if version < 2 else 4
    for _ in range(min(reader.next(wide), MOST_ITEMS)):
        item = reader.next(wide)
        method = reader.next(2) & 15 if version else 0
        reader.next(2)
        base, count = reader.next(base_size), reader.next(2)
        extents = []
        for _ in range(min(count, 16)):
            reader.next(index_size if version else 0)
            extents.append((base + reader.next(offset_size), reader.next(length_size)))
        if count > 16 or reader.at > len(body):
            return
        yield item, method, extents


class _Numbers:
    """Reads big-endian numbers one after the other; zeros past the end."""

    def __init__(self, body: bytes, at: int) -> None:
        self.body = body
        self.at = at

    def next(self, size: int) -> int:
        """The next number of `size` bytes; 0 if it has none."""
        self.at += size
        return int.from_bytes(self.body[self.at - size : self.at])
