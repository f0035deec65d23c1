"""What the markers of a JPEG file say, read without decoding a pixel.

Only the main image is read: the walk stops at its EOI, so the second image of an MPO file is never
met, and an EXIF thumbnail lies inside a segment that is stepped over. Every step moves forward, so
the walk ends on any bytes; what a damaged file no longer says is simply missing from the header.

Format: ITU-T T.81, Annex B (https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

SOI, EOI, SOS, DQT, DHT, DAC, DRI, DNL = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xCC, 0xDD, 0xDC
COM = 0xFE
JPEG_LS = 0xF7
FRAMES = frozenset({*range(0xC0, 0xD0), JPEG_LS}) - {DHT, 0xC8, DAC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
MOST_SEGMENTS = 4096
"""A real file has a few dozen; past this the rest of the file is not read."""

NEXT_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""A marker that ends entropy-coded data: neither a stuffed byte, nor fill, nor a restart."""

# fmt: off
ZIGZAG = (
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)
"""Natural position of the k-th coefficient of a zig-zag scan (T.81 figure A.6)."""
# fmt: on

ANNEX_K_HUFFMAN = frozenset(
    {"2f66814c875b5317", "a6283a08f5d97906", "602f734c8c12c1d9", "13f90e3c9dc476c6"}
)
"""First 16 hex digits of the SHA-256 of BITS and HUFFVAL of tables K.3 to K.6."""

RATIOS: dict[tuple[float, float], str] = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}
"""Luma samples per chroma sample, across and down, and how that is called."""

Table = tuple[int, ...]
"""64 quantisation steps in natural (row by row) order."""


@dataclass(frozen=True, slots=True)
class Component:
    """One component of the frame: sampling factors, and the id of its quantisation table."""

    id: int
    across: int
    down: int
    table: int


@dataclass(slots=True)
class Header:
    """What the markers said, up to the end of the main image."""

    frame: int | None = None
    precision: int | None = None
    width: int | None = None
    height: int | None = None
    components: tuple[Component, ...] = ()
    tables: dict[int, Table] = field(default_factory=dict)
    huffman_tables: list[str] = field(default_factory=list)
    restart: int = 0
    markers: list[int] = field(default_factory=list)
    applications: list[tuple[int, bytes]] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)
    scans: int = 0
    end: int | None = None
    """Where the bytes after EOI begin; None if the file ends before."""
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    """Marker, where its segment begins, where it ends; a scan's data follow, up to the next segment."""

    @property
    def progressive(self) -> bool | None:
        """Whether the picture comes in several refinements; None without a frame header."""
        return None if self.frame is None else self.frame in PROGRESSIVE

    @property
    def lossless(self) -> bool | None:
        """Whether the coding keeps every sample; JPEG-LS may or may not."""
        return None if self.frame in (None, JPEG_LS) else self.frame in LOSSLESS

    @property
    def huffman(self) -> str | None:
        """Entropy coding: default (Annex K) tables, optimised ones, or arithmetic."""
        if self.frame is None:
            return None
        if self.frame in ARITHMETIC:
            return "arithmetic"
        return "default" if ANNEX_K_HUFFMAN.issuperset(self.huffman_tables) else "optimised"

    @property
    def subsampling(self) -> str | None:
        """Chroma subsampling as J:a:b, gray for one component, raw factors where neither fits."""
        if not self.components:
            return None
        if len(self.components) == 1:
            return "gray"
        luma, *chroma = self.components[:3]
        ratios = {_ratio(luma, c) for c in chroma}
        named = RATIOS.get(ratios.pop()) if len(ratios) == 1 else None
        return named or ",".join(f"{c.across}x{c.down}" for c in self.components)

    @property
    def used_tables(self) -> tuple[Table, ...]:
        """The distinct tables the components use, in order of first use; luma comes first."""
        ids = dict.fromkeys(c.table for c in self.components)
        return tuple(self.tables[i] for i in ids if i in self.tables)

    @property
    def dqt_hash(self) -> str | None:
        """16 hex digits of the tables in use, in natural order; None where there are none."""
        tables = self.used_tables
        return hash_of_tables(tables) if tables else None

    @property
    def marker_hash(self) -> str | None:
        """16 hex digits of the order of the markers; runs of one marker count once."""
        runs = [m for i, m in enumerate(self.markers) if i == 0 or m != self.markers[i - 1]]
        return hashlib.sha256(bytes(runs)).hexdigest()[:16] if runs else None

    def payloads(self, marker: int, prefix: bytes) -> list[bytes]:
        """Contents, after `prefix`, of the application segments that begin with it."""
        return [
            p[len(prefix) :]
            for m, p in self.applications
            if m == marker and p[: len(prefix)] == prefix
        ]


@lru_cache(maxsize=4096)
def hash_of_tables(tables: tuple[Table, ...]) -> str:
    """16 hex digits over each table as 64 big-endian 16-bit steps."""
    content = b"".join(step.to_bytes(2) for table in tables for step in table)
    return hashlib.sha256(content).hexdigest()[:16]


def read_header(data: bytes) -> Header:
    """Walk the markers of `data`, which begins with SOI. Never raises; stops where sense ends."""
    header = Header()
    at: int | None = 2
    while at is not None and len(header.markers) < MOST_SEGMENTS:
        at = _step(data, at, header)
    return header


def _step(data: bytes, at: int, header: Header) -> int | None:
    """Read the segment at or after `at` into `header`; where the next begins, None at the end."""
    found = NEXT_MARKER.search(data, at)
    if found is None:
        return None
    marker, start = data[found.start() + 1], found.end()
    if marker == SOI:
        return start
    if marker == EOI:
        header.markers.append(marker)
        header.end = start
        header.spans.append((marker, found.start(), start))
        return None
    length = int.from_bytes(data[start : start + 2])
    if length < 2 or start + 2 > len(data):
        return None
    header.markers.append(marker)
    header.spans.append((marker, found.start(), start + length))
    _read_segment(marker, data[start + 2 : start + length], header)
    return start + length


def _read_segment(marker: int, body: bytes, header: Header) -> None:
    if marker == DQT:
        _read_tables(body, header)
    elif marker == DHT:
        header.huffman_tables.extend(_huffman_tables(body))
    elif marker in FRAMES:
        _read_frame(marker, body, header)
    elif marker == DRI and header.scans == 0:
        header.restart = int.from_bytes(body[:2])
    elif marker == DNL and not header.height:
        header.height = int.from_bytes(body[:4])  # two bytes, or up to four in JPEG-LS
    elif marker == SOS:
        header.scans += 1
    elif 0xE0 <= marker <= 0xEF:
        header.applications.append((marker - 0xE0, body))
    elif marker == COM:
        header.comments.append(body)


def _read_frame(marker: int, body: bytes, header: Header) -> None:
    """The first frame header that is whole counts."""
    if header.frame is not None or len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return
    header.frame = marker
    header.precision = body[0]
    header.height, header.width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    rows = (body[6 + 3 * i : 9 + 3 * i] for i in range(body[5]))
    header.components = tuple(Component(r[0], r[1] >> 4, r[1] & 15, r[2]) for r in rows)


def _read_tables(body: bytes, header: Header) -> None:
    """Quantisation tables: a later one replaces an earlier one only before the first scan."""
    at = 0
    while at < len(body):
        width = 2 if body[at] >> 4 else 1
        raw = body[at + 1 : at + 1 + 64 * width]
        if len(raw) < 64 * width:
            return
        if header.scans == 0 or body[at] & 15 not in header.tables:
            header.tables[body[at] & 15] = _natural(raw, width)
        at += 1 + 64 * width


def _huffman_tables(body: bytes) -> Iterator[str]:
    """16 hex digits over the code lengths and values of each table of one segment."""
    at = 0
    while len(body) >= at + 17:
        end = at + 17 + sum(body[at + 1 : at + 17])
        yield hashlib.sha256(body[at + 1 : end]).hexdigest()[:16]
        at = end


@lru_cache(maxsize=4096)
def _natural(raw: bytes, width: int) -> Table:
    """64 steps from zig-zag to natural order."""
    table = [0] * 64
    for k, position in enumerate(ZIGZAG):
        table[position] = int.from_bytes(raw[k * width : (k + 1) * width])
    return tuple(table)


def _ratio(luma: Component, chroma: Component) -> tuple[float, float]:
    return luma.across / max(1, chroma.across), luma.down / max(1, chroma.down)
