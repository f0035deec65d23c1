"""What the boxes of AVIF, HEIC, JPEG XL and JPEG 2000 files say, read without decoding a pixel.

Formats: ISO/IEC 14496-12 (boxes), 23008-12 (HEIF: meta, iprp, pitm),
https://aomediacodec.github.io/av1-avif/ (av1C), ITU-T T.800 Annex A and I (JPEG 2000).
"""

from collections.abc import Iterator

from curate.probe.container import Container

MOST_BOXES = 10_000
ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
HEVC_ALPHA = b"urn:mpeg:hevc:2015:auxid:1"

Span = tuple[int, int]
"""Where the content of a box begins and ends."""


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, Span]]:
    """Type and content of each box between `start` and `end`; stops where sizes make no sense."""
    for _ in range(MOST_BOXES):
        if start + 8 > end:
            return
        size, kind, head = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        stop = end if size == 0 else start + size
        if stop < start + head:
            return
        yield kind, (start + head, min(stop, end))
        start = stop


def is_whole(data: bytes) -> bool:
    """Whether the last box that is begun is there to its end."""
    at = 0
    for _ in range(MOST_BOXES):
        if at == len(data):
            return True
        size = int.from_bytes(data[at : at + 4]) if at + 8 <= len(data) else 1 << 62
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size == 0:
            return True
        if size < 8 or at + size > len(data):
            return False
        at += size
    return False


def read_heif(data: bytes) -> Container:
    """The primary item of an AVIF or HEIC file, or what its movie says."""
    found = Container(truncated=not is_whole(data))
    top = list(boxes(data, 0, len(data)))
    kinds = {kind for kind, _ in top}
    found.animated = b"moov" in kinds and data[8:12] in (b"avis", b"msf1", b"hevc", b"hevx")
    found.frames = None if found.animated else 1
    meta = next((span for kind, span in top if kind == b"meta"), None)
    if meta is not None:
        _read_meta(data, meta, found)
    return found


def _read_meta(data: bytes, span: Span, found: Container) -> None:
    inside = dict(boxes(data, span[0] + 4, span[1]))
    primary = _primary(data, inside.get(b"pitm"))
    if b"iprp" not in inside:
        return
    properties = dict(boxes(data, *inside[b"iprp"]))
    listed = list(boxes(data, *properties.get(b"ipco", (0, 0))))
    chosen = _associated(data, properties.get(b"ipma"), primary)
    mine = [listed[i - 1] for i in chosen if 0 < i <= len(listed)]
    for kind, (start, end) in mine:
        _read_property(kind, data[start:end], found)
    found.alpha = any(
        kind == b"auxC" and data[s:e].find(name) == 4
        for kind, (s, e) in listed
        for name in (ALPHA, HEVC_ALPHA)
    )


def _primary(data: bytes, span: Span | None) -> int:
    if span is None:
        return 0
    width = 2 if data[span[0] : span[0] + 1] == b"\0" else 4
    return int.from_bytes(data[span[0] + 4 : span[0] + 4 + width])


def _associated(data: bytes, span: Span | None, item: int) -> list[int]:
    """1-based numbers of the properties of `item`."""
    if span is None:
        return []
    start, end = span
    wide_id, wide_index = (
        data[start : start + 1] != b"\0",
        bool(data[start + 3 : start + 4] > b"\0"),
    )
    width, step = (4 if wide_id else 2), (2 if wide_index else 1)
    at = start + 8
    for _ in range(int.from_bytes(data[start + 4 : start + 8])):
        if at + width >= end:
            break
        number, count = int.from_bytes(data[at : at + width]), data[at + width]
        at += width + 1
        if number == item:
            mask = 0x7FFF if wide_index else 0x7F
            places = range(at, min(at + count * step, end), step)
            return [int.from_bytes(data[p : p + step]) & mask for p in places]
        at += count * step
    return []


def _read_property(kind: bytes, body: bytes, found: Container) -> None:
    if kind == b"ispe" and len(body) >= 12:
        found.width, found.height = int.from_bytes(body[4:8]), int.from_bytes(body[8:12])
    elif kind == b"clap" and len(body) >= 16:  # the part of the coded picture that is shown
        across, over, down, under = (int.from_bytes(body[i : i + 4]) for i in range(0, 16, 4))
        if over and under:
            found.width, found.height = across // over, down // under
    elif kind == b"pixi" and len(body) >= 6:
        found.bit_depth = body[5]
    elif kind == b"av1C" and len(body) >= 3:
        found.compression = "AV1"
        found.bit_depth = 8 if not body[2] & 0x40 else 12 if body[2] & 0x20 else 10
    elif kind == b"hvcC" and len(body) >= 18:
        found.compression = "HEVC"
        found.bit_depth = 8 + (body[17] & 7)


def read_jpeg2000(data: bytes) -> Container:
    """The codestream's SIZ and COD segments, bare or in its box."""
    found = Container(frames=1, animated=False)
    start = 0
    if data[:4] != b"\xff\x4f\xff\x51":
        span = next((s for kind, s in boxes(data, 0, len(data)) if kind == b"jp2c"), None)
        if span is None:
            return found
        start = span[0]
    _read_codestream(data, start, found)
    return found


def _read_codestream(data: bytes, start: int, found: Container) -> None:
    at = start + 2
    for _ in range(64):
        marker, body = data[at : at + 2], data[at + 4 : at + 64]
        if marker == b"\xff\x51" and len(body) >= 37:
            right, low = int.from_bytes(body[2:6]), int.from_bytes(body[6:10])
            found.width = max(0, right - int.from_bytes(body[10:14]))
            found.height = max(0, low - int.from_bytes(body[14:18]))
            found.bit_depth = (body[36] & 0x7F) + 1
        elif marker == b"\xff\x52" and len(body) >= 10:
            # The 9-7 transform rounds; 5-3 can be reversed, yet may have been cut short.
            found.compression = "9-7 wavelet" if body[9] == 0 else "5-3 wavelet"
            found.lossless = False if body[9] == 0 else None
            return
        elif marker in (b"\xff\x90", b""):
            return
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
