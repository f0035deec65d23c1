"""What the chunks of a WebP file say, read without decoding a pixel.

Format: https://developers.google.com/speed/webp/docs/riff_container. The quantiser of a lossy picture is in
the header of its VP8 frame, behind a few flags that are arithmetic-coded: RFC 6386, sections 7 and 9
(https://www.rfc-editor.org/rfc/rfc6386). It runs from 0, fine, to 127, and is no JPEG quality.
"""

from dataclasses import dataclass

MOST_CHUNKS = 10_000


@dataclass(slots=True)
class Header:
    """What the chunks said."""

    width: int | None = None
    height: int | None = None
    exif: bytes | None = None
    xmp: bytes = b""
    profile: bytes | None = None
    c2pa: bytes | None = None
    frames: int = 0
    alpha: bool | None = None
    lossless: bool | None = None
    quantiser: int | None = None
    end: int = 0
    """Where the file ends by its own word."""


def read_header(data: bytes) -> Header:
    """Walk the chunks of `data`, which begins with a WebP signature. Never raises."""
    header = Header(end=8 + int.from_bytes(data[4:8], "little"))
    at = 12
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            break
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        _read_chunk(kind, data[at + 8 : at + 8 + length], header)
        at += 8 + length + (length & 1)
    return header


def _read_chunk(kind: bytes, body: bytes, header: Header) -> None:
    if kind in SIZES and header.width is None:
        header.width, header.height = SIZES[kind](body)
    if kind in (b"VP8 ", b"VP8L"):
        _read_frame(kind, body, header)
    elif kind == b"VP8X":
        header.alpha = bool(body[:1] and body[0] & 0x10)
    elif kind == b"ANMF":
        _read_moving(body, header)
    elif kind == b"EXIF":
        header.exif = body
    elif kind == b"XMP ":
        header.xmp = body
    elif kind == b"ICCP":
        header.profile = body
    elif kind == b"C2PA":
        header.c2pa = body


def _read_frame(kind: bytes, body: bytes, header: Header) -> None:
    """One picture; one lossy frame makes the whole lossy, and the first one's quantiser counts."""
    header.frames += 1
    header.lossless = kind == b"VP8L" and header.lossless is not False
    if kind == b"VP8 " and header.quantiser is None:
        header.quantiser = quantiser(body)
    if header.alpha is None:
        header.alpha = kind == b"VP8L" and len(body) > 4 and bool(body[4] & 0x10)


def _read_moving(body: bytes, header: Header) -> None:
    """A frame of an animation: 16 bytes of place and time, then chunks."""
    at = 16
    while at + 8 <= len(body):
        kind, length = body[at : at + 4], _little(body[at + 4 : at + 8])
        if kind in (b"VP8 ", b"VP8L"):
            _read_frame(kind, body[at + 8 : at + 8 + length], header)
            return
        at += 8 + length + (length & 1)


def quantiser(frame: bytes) -> int | None:
    """Index 0-127 of the base quantiser (y_ac_qi) of a VP8 key frame; None if the header is damaged."""
    if len(frame) < 12 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    coded = _Flags(frame[10 : 10 + LONGEST_FLAGS])
    coded.number(2)  # colour space, clamping
    if coded.number(1):  # segments
        map_too = coded.number(1)
        if coded.number(1):
            coded.number(1)
            coded.optional(4, 8)
            coded.optional(4, 7)
        if map_too:
            coded.optional(3, 8)
    coded.number(1 + 6 + 3)  # loop filter
    if coded.number(1) and coded.number(1):
        coded.optional(8, 7)
    coded.number(2)  # partitions
    return coded.number(7)


LONGEST_FLAGS = 64
"""Bytes that surely hold all that precedes the quantiser."""


class _Flags:
    """The boolean entropy decoder of RFC 6386 section 7, for flags of even odds, which the header's are."""

    def __init__(self, data: bytes) -> None:
        self.data = data + bytes(16)
        self.value, self.at, self.range, self.shifted = _big(self.data[:2]), 2, 255, 0

    def flag(self) -> int:
        split = 1 + (self.range - 1 >> 1)
        if self.value >= split << 8:
            bit, self.range, self.value = 1, self.range - split, self.value - (split << 8)
        else:
            bit, self.range = 0, split
        while self.range < 128:
            self._shift()
        return bit

    def _shift(self) -> None:
        self.value, self.range, self.shifted = self.value << 1, self.range << 1, self.shifted + 1
        if self.shifted == 8:
            self.value |= self.data[self.at] if self.at < len(self.data) else 0
            self.at, self.shifted = self.at + 1, 0

    def number(self, bits: int) -> int:
        """An unsigned number, most significant bit first."""
        found = 0
        for _ in range(bits):
            found = found << 1 | self.flag()
        return found

    def optional(self, count: int, bits: int) -> None:
        """Step over `count` numbers of so many bits (sign included), each behind a flag."""
        for _ in range(count):
            if self.flag():
                self.number(bits)


def _big(body: bytes) -> int:
    return int.from_bytes(body, "big")


def _little(body: bytes) -> int:
    return int.from_bytes(body, "little")


def _extended(body: bytes) -> tuple[int, int]:
    return _little(body[4:7]) + 1, _little(body[7:10]) + 1


def _lossy(body: bytes) -> tuple[int, int]:
    return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF


def _lossless(body: bytes) -> tuple[int, int]:
    packed = _little(body[1:5])
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1


SIZES = {b"VP8X": _extended, b"VP8 ": _lossy, b"VP8L": _lossless}
"""How each kind of chunk states the size of the canvas."""
