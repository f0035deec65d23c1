"""What the first bits of a JPEG XL file say, read without decoding a pixel.

Format: ISO/IEC 18181-1 Annex D (SizeHeader, ImageMetadata) and 18181-2 (boxes: jxlc, jxlp, jbrd).
"""

from curate.probe import isobmff
from curate.probe.container import Container

MOST_BITS = 1 << 12
RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """Bits, least significant first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self.value, self.at = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        found = self.value >> self.at & (1 << count) - 1
        self.at += count
        return found

    def choose(self, *ways: tuple[int, int]) -> int:
        """A U32: two bits choose (offset, further bits)."""
        offset, count = ways[self.take(2)]
        return offset + self.take(count)


def read_jxl(data: bytes) -> Container:
    """The codestream's first header, bare or in its box."""
    found = Container(compression="JPEG XL")
    stream = data[:2] == b"\xff\x0a" and data[2:]
    if not stream:
        top = list(isobmff.boxes(data, 0, len(data)))
        found.truncated = not isobmff.is_whole(data)
        if any(kind == b"jbrd" for kind, _ in top):
            found.compression, found.lossless = "JPEG, recompressed", False
        stream = next((_codestream(data, kind, s) for kind, s in top if kind in PARTS), b"")
    if stream:
        _read_stream(_Bits(stream[: MOST_BITS // 8]), found)
    return found


PARTS = {b"jxlc": 2, b"jxlp": 6}
"""Boxes that hold the codestream, and the bytes before its header in them."""


def _codestream(data: bytes, kind: bytes, span: isobmff.Span) -> bytes:
    return data[span[0] + PARTS[kind] : span[1]]


def _read_stream(bits: _Bits, found: Container) -> None:
    small = bits.take(1)
    found.height = _side(bits, small)
    ratio = bits.take(3)
    if ratio:
        across, down = RATIOS[ratio]
        found.width = found.height * across // down
    else:
        found.width = _side(bits, small)
    _read_metadata(bits, found)


def _side(bits: _Bits, small: int) -> int:
    if small:
        return (bits.take(5) + 1) * 8
    return bits.choose((1, 9), (1, 13), (1, 18), (1, 30))


def _read_metadata(bits: _Bits, found: Container) -> None:
    """Depth, extra channels, and whether colours were taken to XYB, which only lossy coding does."""
    if bits.take(1):  # all default: 8 bits, no extra channel, XYB
        found.bit_depth, found.alpha, found.lossless = 8, False, False
        found.animated, found.frames = False, 1
        return
    found.animated = False
    if bits.take(1) and not _skip_extra_fields(bits, found):
        found.animated = None
        return
    found.frames = None if found.animated else 1
    found.bit_depth = _depth(bits)
    bits.take(1)  # modular with 16-bit buffers
    extra = bits.choose((0, 0), (1, 0), (2, 4), (1, 12))
    if extra == 0:
        found.alpha = False
        if bits.take(1):
            found.lossless = False
        return
    # The first extra channel with all defaults is alpha; others are not looked into.
    found.alpha = True if bits.take(1) else None


def _skip_extra_fields(bits: _Bits, found: Container) -> bool:
    """Step over them; False at a preview, whose own header is not read here."""
    bits.take(3)  # orientation
    if bits.take(1):  # intrinsic size
        _skip_size(bits)
    if bits.take(1):
        return False
    if bits.take(1):
        found.animated = True
        bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
        bits.take(1)
    return True


def _skip_size(bits: _Bits) -> None:
    small = bits.take(1)
    _side(bits, small)
    if not bits.take(3):
        _side(bits, small)


def _depth(bits: _Bits) -> int:
    if bits.take(1):  # floating point
        depth = bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
        return depth
    return bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
