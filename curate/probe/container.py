"""What the headers of GIF, BMP, TIFF, JPEG 2000, JPEG XL, AVIF and HEIC say, read without decoding a pixel.

Each reader takes the whole file, never raises, and leaves None what its bytes do not say. Formats with a
module of their own: `curate.probe.jpeg`, `png`, `riff`, `tiff`, `isobmff`, `jxl`.

GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt. BMP:
https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-storage.
"""

from dataclasses import dataclass

MOST_BLOCKS = 200_000
"""GIF blocks that are walked; past this the rest of the file is not read."""


@dataclass(slots=True)
class Container:
    """The facts a container states of its main picture; None where it does not.

    `lossless` is False where the coding loses, True where it cannot. `compression` is what the format calls
    it. `end` is where the bytes behind the picture begin.
    """

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    alpha: bool | None = None
    frames: int | None = None
    animated: bool | None = None
    lossless: bool | None = None
    compression: str | None = None
    truncated: bool | None = None
    end: int | None = None


def little(data: bytes, at: int, width: int) -> int:
    """An unsigned number, least significant byte first; bytes beyond the end count as zero."""
    return int.from_bytes(data[at : at + width], "little")


def read_gif(data: bytes) -> Container:
    """Walk the blocks of `data`, which begins with a GIF signature."""
    found = Container(lossless=True, compression="LZW", truncated=True)
    if len(data) < 13:
        return found
    found.width, found.height = little(data, 6, 2), little(data, 8, 2)
    found.bit_depth, found.alpha, found.frames = 8, False, 0
    at: int | None = 13 + _palette(data[10])
    for _ in range(MOST_BLOCKS):
        if at is None or at >= len(data):
            break
        if data[at] == 0x3B:
            found.truncated, found.end = False, at + 1
            break
        at = _gif_block(data, at, found)
    found.animated = found.frames > 1
    return found


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_block(data: bytes, at: int, found: Container) -> int | None:
    """Where the block after the one at `at` begins; None where there is no sense."""
    if data[at] == 0x21:
        if data[at + 1 : at + 3] == b"\xf9\x04" and little(data, at + 3, 1) & 1:
            found.alpha = True
        return _sub_blocks(data, at + 2)
    if data[at] != 0x2C or at + 10 > len(data):
        return None
    found.frames = (found.frames or 0) + 1
    return _sub_blocks(data, at + 11 + _palette(little(data, at + 9, 1)))


def _sub_blocks(data: bytes, at: int) -> int | None:
    while at < len(data):
        if data[at] == 0:
            return at + 1
        at += 1 + data[at]
    return None


BMP_COMPRESSION = {0: "none", 1: "RLE8", 2: "RLE4", 3: "none", 4: "JPEG", 5: "PNG", 6: "none"}


def read_bmp(data: bytes) -> Container:
    """The two headers of a bitmap."""
    found = Container(frames=1, animated=False)
    size = little(data, 14, 4)
    if len(data) < 26 or size < 12:
        return found
    wide = size >= 40
    found.width = little(data, 18, 4 if wide else 2)
    height = little(data, 22, 4) if wide else little(data, 20, 2)
    found.height = height if height < 1 << 31 else (1 << 32) - height  # negative is top to bottom
    bits = little(data, 28 if wide else 24, 2)
    found.bit_depth = bits if bits < 8 else 5 if bits == 16 else 8
    found.compression = BMP_COMPRESSION.get(little(data, 30, 4) if wide else 0)
    found.lossless = None if found.compression is None else found.compression != "JPEG"
    found.alpha = size >= 56 and little(data, 66, 4) != 0
    if found.compression == "none":
        rows = (found.width * bits + 31) // 32 * 4 * found.height
        found.end = little(data, 10, 4) + rows
        found.truncated = found.end > len(data)
    return found
