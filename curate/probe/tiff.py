"""What the directories of a TIFF file say; EXIF is one, too.

Only the few tags below are read, at most MOST_PAGES directories, and no value larger than LARGEST_VALUE.

Format: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; JPEG inside TIFF: Adobe Photoshop TIFF
Technical Notes (2002).
"""

from collections.abc import Iterator

from curate.probe import jpeg
from curate.probe.container import Container

MOST_PAGES = 1000
MOST_TAGS = 4096
LARGEST_VALUE = 1 << 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 16: 8, 13: 4}
"""Bytes of one value of each type that is read here."""

WIDTH, HEIGHT, BITS, COMPRESSION, STRIPS, EXTRA = 256, 257, 258, 259, 273, 338
STRIP_BYTES, TILES, TILE_BYTES, TABLES, PREVIEW, PREVIEW_LENGTH = 279, 324, 325, 347, 513, 514

COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate", 34712: "JPEG 2000", 34925: "LZMA", 50000: "ZSTD",
    50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip
LOSSLESS = frozenset({"none", "CCITT", "LZW", "deflate", "PackBits", "LZMA", "ZSTD"})
LOSSY = frozenset({"old JPEG", "JPEG"})

Directory = dict[int, tuple[int, ...] | bytes]
"""Values by tag: numbers, or bytes of type UNDEFINED."""


def directories(data: bytes) -> Iterator[Directory]:
    """The directories of a file or an EXIF block, in order. Never raises, ends on any bytes."""
    order = {b"II": "little", b"MM": "big"}.get(data[:2])
    version = int.from_bytes(data[2:4], order) if order else 0  # type: ignore[arg-type]
    if version not in (42, 43):
        return
    reader = _Reader(data, order == "little", version == 43)
    at = reader.number(8, 8) if reader.big else reader.number(4, 4)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MOST_PAGES and at + 2 <= len(data):
        seen.add(at)
        found, at = reader.directory(at)
        yield found


class _Reader:
    """Numbers and directories in one byte order; `big` is BigTIFF, whose offsets have eight bytes."""

    def __init__(self, data: bytes, little: bool, big: bool) -> None:
        self.data, self.little, self.big = data, little, big

    def number(self, at: int, width: int) -> int:
        return int.from_bytes(self.data[at : at + width], "little" if self.little else "big")

    def directory(self, at: int) -> tuple[Directory, int]:
        head, entry, offset = (8, 20, 8) if self.big else (2, 12, 4)
        count = min(self.number(at, head), MOST_TAGS)
        found: Directory = {}
        for place in range(at + head, at + head + entry * count, entry):
            if place + entry > len(self.data):
                return found, 0
            value = self._value(place, offset)
            if value is not None:
                found.setdefault(self.number(place, 2), value)
        return found, self.number(at + head + entry * count, offset)

    def _value(self, place: int, offset: int) -> tuple[int, ...] | bytes | None:
        kind, count = self.number(place + 2, 2), self.number(place + 4, offset)
        width = SIZES.get(kind, 0)
        if not width or not 0 < count * width <= LARGEST_VALUE:
            return None
        at = place + 4 + offset
        if count * width > offset:
            at = self.number(at, offset)
        raw = self.data[at : at + count * width]
        if kind == 7:
            return raw
        return tuple(self.number(at + i * width, width) for i in range(len(raw) // width))


def first(directory: Directory, tag: int) -> int | None:
    """The first number of a tag; None if it is not there."""
    values = directory.get(tag)
    return values[0] if values else None


def read_tiff(data: bytes) -> Container:
    """The first page, and how many there are."""
    pages = list(directories(data))
    if not pages:
        return Container()
    page = pages[0]
    name = COMPRESSIONS.get(first(page, COMPRESSION) or 1)
    extra = first(page, EXTRA)
    return Container(
        width=first(page, WIDTH),
        height=first(page, HEIGHT),
        bit_depth=first(page, BITS) or 1,
        alpha=extra in (1, 2),
        frames=len(pages),
        animated=False,
        lossless=True if name in LOSSLESS else False if name in LOSSY else None,
        compression=name,
        truncated=_is_cut(page, len(data)),
    )


def _is_cut(page: Directory, length: int) -> bool | None:
    """Whether a strip or tile reaches beyond the end of the file; None where their places are not told."""
    for places, sizes in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES)):
        starts, counts = page.get(places), page.get(sizes)
        if starts and counts:
            return any(start + count > length for start, count in zip(starts, counts, strict=False))
    return None


def jpeg_inside(data: bytes) -> jpeg.Header | None:
    """The header of the JPEG in which the first page is kept, its shared tables put in front."""
    page = next(directories(data), {})
    if first(page, COMPRESSION) != 7:
        return None
    tables = page.get(TABLES)
    start = first(page, STRIPS) or first(page, TILES)
    if start is None or data[start : start + 2] != b"\xff\xd8":
        return None
    shared = tables[2:-2] if isinstance(tables, bytes) else b""
    return jpeg.read_header(b"\xff\xd8" + shared + data[start + 2 :])


def thumbnail(exif: bytes) -> bytes | None:
    """The JPEG thumbnail of an EXIF block (without its `Exif` prefix); None without one."""
    for directory in directories(exif):
        at, length = first(directory, PREVIEW), first(directory, PREVIEW_LENGTH)
        if at is not None and length and exif[at : at + 2] == b"\xff\xd8":
            return exif[at : at + length]
    return None
