"""A JPEG at an eighth of its size in grey, without decoding what an eighth does not show.

There, each pixel is the mean of a block, and that coefficient alone is needed. The answer is libjpeg's,
pixel for pixel (`jpeg_idct_1x1` of https://github.com/libjpeg-turbo/libjpeg-turbo), in half the time.
Files that are coded in another way, or not exactly as the standard (ITU-T T.81) has it, have no answer
here: what is wrong with them, and what can still be seen, is for libjpeg to say.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curate.probe import huffman
from curate.probe.jpeg import DHT, DQT, DRI, EOI, FRAMES, SOS, Header

Pixels = NDArray[np.uint8]
"""(ceil(height / 8), ceil(width / 8)) luma."""

SEQUENTIAL = frozenset({0xC0, 0xC1})
"""Baseline, and extended with eight bits."""

SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE})
"""Markers of applications, and comments: nothing of theirs matters here. At others libjpeg gives up."""

WHOLE = b"\x00\x3f\x00"
"""All coefficients in one scan."""

MOST_BLOCKS = 10
"""Blocks in an MCU (B.2.3)."""

LARGEST_DC = 11
"""Bits of a difference of DC coefficients at eight bits a sample (F.1.2.1)."""

Slot = tuple[int, int, int, int]
"""A block of an MCU: its DC and AC table, and its row and column in the MCU, row -1 where not luma."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The only scan of a picture: where its data lie, and how they are coded.

    `units` are rows of MCUs, rows in an MCU, MCUs in a row, and columns in an MCU; `shape` is that of the
    answer; `quantum` is the quantisation of the means.
    """

    start: int
    end: int
    tables: bytes
    slots: tuple[Slot, ...]
    restart: int
    units: tuple[int, int, int, int]
    shape: tuple[int, int]
    quantum: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Huffman tables ready for `huffman.read_means`: DC tables by their id, AC tables behind them."""

    known: frozenset[int]
    steps: huffman.Steps
    limits: huffman.Integers
    offsets: huffman.Integers
    symbols: huffman.Bytes


def read_eighth(data: bytes, header: Header) -> Pixels | None:
    """The luma of a JPEG at an eighth of its size; None where libjpeg must be asked."""
    scan = _find_scan(data, header)
    tables = None if scan is None else _tabulate(scan.tables)
    if scan is None or tables is None or not _are_known(scan.slots, tables):
        return None
    pixels = _read(data, scan, tables)
    height, width = scan.shape
    return None if pixels is None else pixels[:height, :width]


def _find_scan(data: bytes, header: Header) -> Scan | None:
    if not _is_plain(data, header):
        return None
    scan, end = header.spans[-2:]
    body, count = data[scan[1] + 4 : scan[2]], len(header.components)
    ids = bytes(c.id for c in header.components)
    if body[0] != count or body[1 : 1 + 2 * count : 2] != ids or body[1 + 2 * count :] != WHOLE:
        return None
    shape = [(c.across, c.down) if count > 1 else (1, 1) for c in header.components]
    across, down = shape[0]
    height, width = (-(-(side or 0) // 8) for side in (header.height, header.width))
    return Scan(
        start=scan[2],
        end=end[1],
        tables=b"".join(
            data[start + 4 : end] for marker, start, end in header.spans if marker == DHT
        ),
        slots=tuple(_slots(shape, body[2 : 2 + 2 * count : 2])),
        restart=header.restart,
        units=(-(-height // down), down, -(-width // across), across),
        shape=(height, width),
        quantum=header.tables[header.components[0].table][0],
    )


def _is_plain(data: bytes, header: Header) -> bool:
    """Whether the file is one sequential scan of all components, grey or YCbCr, and nothing is amiss."""
    return (
        header.frame in SEQUENTIAL
        and header.precision == 8
        and bool(header.width and header.height)
        and _are_regular(data, header)
        and _has_plain_colours(header)
    )


def _are_regular(data: bytes, header: Header) -> bool:
    """Whether segments follow on each other, end where their content does, and are those of one scan."""
    spans = header.spans
    markers = [marker for marker, _, _ in spans]
    return (
        markers[-2:] == [SOS, EOI]
        and markers.count(SOS) == sum(marker in FRAMES for marker in markers) == 1
        and all(
            start == end
            for (*_, end), (_, start, _) in zip([(0, 0, 2), *spans[:-2]], spans[:-1], strict=True)
        )
        and all(_fits(marker, data[start + 4 : end]) for marker, start, end in spans[:-1])
    )


def _fits(marker: int, body: bytes) -> bool:
    """Whether a segment is one that may be here, and what it holds fills it."""
    if marker == DQT:
        return _fill_up(body, lambda at: 129 if body[at] >> 4 else 65)
    if marker == DHT:
        return _fill_up(body, lambda at: 17 + sum(body[at + 1 : at + 17]))
    if marker in FRAMES:
        return len(body) > 5 and len(body) == 6 + 3 * body[5]
    if marker == SOS:
        return bool(body) and len(body) == 4 + 2 * body[0]
    return marker in SKIPPED or (marker == DRI and len(body) == 2)


def _fill_up(body: bytes, length: Callable[[int], int]) -> bool:
    at = 0
    while at < len(body):
        at += length(at)
    return at == len(body)


def _has_plain_colours(header: Header) -> bool:
    """Whether the first component is luma at full resolution, to libjpeg too."""
    parts = header.components
    factors = [side for part in parts for side in (part.across, part.down)]
    blocks = sum(part.across * part.down for part in parts)
    adobe = header.payloads(14, b"Adobe")
    return (
        len(parts) in (1, 3)
        and min(factors) >= 1
        and max(factors) <= 4
        and parts[0].across == max(part.across for part in parts)
        and parts[0].down == max(part.down for part in parts)
        and (len(parts) == 1 or blocks <= MOST_BLOCKS)
        and all(part.table < 4 and part.table in header.tables for part in parts)
        and (len(parts) == 1 or [part.id for part in parts] != RGB)
        and all(payload[6:7] == YCC for payload in adobe)
    )


RGB = [ord(letter) for letter in "RGB"]
"""Ids of components that libjpeg takes at their word."""

YCC = b"\x01"
"""Adobe's word for YCbCr."""


def _slots(shape: Sequence[tuple[int, int]], tables: bytes) -> Iterator[Slot]:
    for number, ((across, down), table) in enumerate(zip(shape, tables, strict=True)):
        for row in range(down):
            for column in range(across):
                place = (row, column) if number == 0 else (-1, -1)
                yield table >> 4, (table & 15) + AC, *place


AC = 4
"""Where the AC tables begin among all."""


def _are_known(slots: Sequence[Slot], tables: Tables) -> bool:
    return all(dc < AC and dc in tables.known and ac in tables.known for dc, ac, *_ in slots)


@lru_cache(maxsize=16)
def _tabulate(content: bytes) -> Tables | None:
    """The tables of the DHT segments, joined; None where one of them is not as it must be."""
    steps = np.zeros((2 * AC, 1 << huffman.WIDTH), dtype=np.uint16)
    limits, offsets = np.zeros((2, 2 * AC, 17), dtype=np.int64)
    symbols = np.zeros((2 * AC, 256), dtype=np.uint8)
    known = set()
    at = 0
    while at < len(content):
        kind, place = divmod(content[at], 16)
        counts = np.frombuffer(content, np.uint8, 16, at + 1).astype(np.int64)
        total = int(counts.sum())
        told = np.frombuffer(content, np.uint8, total, at + 17)
        if kind > 1 or place >= AC or total > 256 or (kind == 0 and (told > LARGEST_DC).any()):
            return None
        row = place + kind * AC
        steps[row], symbols[row] = 0, 0
        symbols[row, :total] = told
        if not huffman.tabulate(counts, symbols[row], steps[row], limits[row], offsets[row]):
            return None
        if kind:
            steps[row] = huffman.join_codes(steps[row])
        known.add(row)
        at += 17 + total
    return Tables(frozenset(known), steps, limits, offsets, symbols)


MOST_KEPT = 1 << 24
"""Bytes of room that a thread keeps for the next picture; fresh memory is slow to write to."""


class _Room(threading.local):
    """Room for the data of a scan, each thread its own."""

    kept = np.empty(0, np.uint8)

    def of(self, size: int) -> Pixels:
        """(size,) bytes, whatever is in them."""
        if size > MOST_KEPT:
            return np.empty(size, np.uint8)
        if size > len(self.kept):
            self.kept = np.empty(min(2 * size, MOST_KEPT), np.uint8)
        return self.kept[:size]


_room = _Room()


def _read(data: bytes, scan: Scan, tables: Tables) -> Pixels | None:
    """The means of the blocks of whole MCUs; None where the data are not exactly what is expected."""
    rows, down, columns, across = scan.units
    content = _room.of(scan.end - scan.start + huffman.MARGIN)
    intervals = -(-rows * columns // scan.restart) if scan.restart else 1
    if intervals > len(content):  # each but the last has a marker
        return None
    ends = np.empty(intervals - 1, dtype=np.int64)
    file = np.frombuffer(data, np.uint8)
    stop, length, restarts = huffman.unstuff(file, scan.start, scan.end, content, ends)
    if stop != scan.end or restarts != len(ends):
        return None
    content[length : length + huffman.MARGIN] = 0
    pixels = np.empty(scan.units, dtype=np.uint8)
    slots = np.array(scan.slots)
    coded = (tables.steps, tables.limits, tables.offsets, tables.symbols)
    whole = huffman.read_means(
        content, length, ends, scan.restart, slots, *coded, scan.quantum, pixels
    )
    return pixels.reshape(rows * down, columns * across) if whole else None
