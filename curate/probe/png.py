"""What the chunks of a PNG file say, read without decoding a pixel.

Compressed text and profiles are inflated to a fixed bound only, so a small file cannot fill the
memory.

Format: https://www.w3.org/TR/png-3/#5DataRep (chunks), #11Ancillary-chunks (tEXt, zTXt, iTXt, iCCP,
eXIf).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_TEXT = 1 << 20
"""Bytes of one text value that are read; evidence sits in the keyword and the first lines."""

MOST_TEXTS = 256
LARGEST_TEXTS = 16 << 20
"""Text chunks, and bytes of all their values together, that are read of one file."""

LARGEST_PROFILE = 1 << 24
MOST_CHUNKS = 100_000
TEXT_TYPES = frozenset({b"tEXt", b"zTXt", b"iTXt"})
PICTURE_TYPES = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
"""What a decoder needs; eXIf because it may hold the orientation."""

XMP_KEY = "XML:com.adobe.xmp"
COLOUR_WITH_ALPHA = frozenset({4, 6})


@dataclass(slots=True)
class Header:
    """What the chunks said."""

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    colour: int | None = None
    alpha: bool = False
    frames: int = 1
    texts: list[tuple[str, bytes]] = field(default_factory=list)
    text_bytes: int = 0
    profile: bytes | None = None
    exif: bytes | None = None
    c2pa: bytes | None = None
    end: int | None = None
    """Where the bytes after IEND begin; None if the file ends before."""


def read_header(data: bytes) -> Header:
    """Walk the chunks of `data`, which begins with the signature. Never raises."""
    header = Header()
    for kind, body, end in _chunks(data):
        _read_chunk(kind, body, header)
        if kind == b"IEND":
            header.end = end if end <= len(data) else None
            break
    return header


def picture_only(data: bytes) -> bytes:
    """The same picture without the chunks that no pixel depends on, of which some stop a decoder."""
    kept = [SIGNATURE]
    at = len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] in PICTURE_TYPES:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Type, content (not of IDAT) and end of each chunk."""
    at = len(SIGNATURE)
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = b"" if kind == b"IDAT" else data[at + 8 : at + 8 + length]
        at += 12 + length
        yield kind, body, at


def _read_chunk(kind: bytes, body: bytes, header: Header) -> None:
    if kind == b"IHDR" and len(body) >= 10 and header.width is None:
        header.width, header.height = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
        header.bit_depth, header.colour = body[8], body[9]
        header.alpha = body[9] in COLOUR_WITH_ALPHA
    elif kind in TEXT_TYPES:
        _add_text(kind, body, header)
    elif kind == b"tRNS":
        header.alpha = True
    elif kind == b"acTL":
        header.frames = max(1, int.from_bytes(body[:4]))
    elif kind == b"iCCP":
        header.profile = _inflate(body.partition(b"\0")[2][1:], LARGEST_PROFILE)
    elif kind == b"eXIf":
        header.exif = body
    elif kind == b"caBX":
        header.c2pa = body


def _add_text(kind: bytes, body: bytes, header: Header) -> None:
    """One text more, while there is room."""
    if len(header.texts) < MOST_TEXTS and header.text_bytes < LARGEST_TEXTS:
        header.texts.append(_text(kind, body))
        header.text_bytes += len(header.texts[-1][1])


def _text(kind: bytes, body: bytes) -> tuple[str, bytes]:
    """Keyword and value of one text chunk; the value cut at LARGEST_TEXT bytes."""
    keyword, _, rest = body.partition(b"\0")
    key = "".join(c for c in keyword[:79].decode("latin-1") if c.isprintable())
    if kind == b"tEXt":
        return key, rest[:LARGEST_TEXT]
    if kind == b"zTXt":
        return key, _inflate(rest[1:], LARGEST_TEXT)
    compressed, value = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return key, _inflate(value, LARGEST_TEXT) if compressed else value[:LARGEST_TEXT]


def _inflate(packed: bytes, most: int) -> bytes:
    """At most `most` bytes of a zlib stream; what came before any damage."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""
