"""What the chunks of a WebP file say, read without decoding a pixel.

Format: https://developers.google.com/speed/webp/docs/riff_container.
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


def read_header(data: bytes) -> Header:
    """Walk the chunks of `data`, which begins with a WebP signature. Never raises."""
    header = Header()
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
    elif kind == b"EXIF":
        header.exif = body
    elif kind == b"XMP ":
        header.xmp = body
    elif kind == b"ICCP":
        header.profile = body
    elif kind == b"C2PA":
        header.c2pa = body


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
