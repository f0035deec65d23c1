"""Bytes to a decoded picture, or to one line that says why not.

Only decoders of still-image formats met on platforms are tried, by content and never by name: a
file is not handed to Pillow's other plugins, some of which start other programs. Sizes are checked
before any memory is asked for.

A JPEG is decoded at a half, a quarter or an eighth of its size, in grey: its entropy-coded data is
read to the end all the same, so that whatever is damaged or missing is noticed, and the inverse
transforms are small ones. What it shows at full size is told apart by `coded_digest`. At an eighth,
`eighth` has the same pixels sooner, in a process that decodes enough to make up for loading it.
"""

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from PIL import Image

from curate.fingerprint import fraction_of
from curate.probe.jpeg import SOS, Header

MAGIC: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("AVIF", re.compile(rb"....ftypavi[fs]", re.DOTALL)),
    ("HEIF", re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JXL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", re.DOTALL)),
    ("BMP", re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL)),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*|II\x2b\0|MM\0\x2b")),
    ("JPEG2000", re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", re.DOTALL)),
    ("PPM", re.compile(rb"P[1-6]\s")),
)
"""Formats by their first bytes, first match wins. To know one more: its line here."""

SUFFIXES: dict[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"}),
    "MPO": frozenset({".jpg", ".jpeg", ".mpo"}),
    "PNG": frozenset({".png", ".apng"}),
    "WEBP": frozenset({".webp"}),
    "GIF": frozenset({".gif"}),
    "AVIF": frozenset({".avif"}),
    "HEIF": frozenset({".heic", ".heif", ".hif"}),
    "JXL": frozenset({".jxl"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "JPEG2000": frozenset({".jp2", ".j2k", ".jpx", ".j2c", ".jpf"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm"}),
}
"""File name endings that are right for each format."""

UNREADABLE = re.compile(r"<[^<>]*>|\s+at 0x[0-9a-fA-F]+")
LONGEST_ERROR = 160
VAGUE = frozenset({"not identified by this driver", "cannot load this image"})
"""What Pillow says of a file whose header it cannot make sense of."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture and what its decoder says; `image` is None exactly where `error` is not.

    `mode` and `size` are those of the file; `reduced` says that `image` is smaller, and grey; `frames` is
    how many there are, where `image` does not know it.
    """

    image: Image.Image | None
    format: str | None
    error: str | None
    mode: str | None = None
    size: tuple[int, int] | None = None
    reduced: bool = False
    frames: int | None = None


def sniff(data: bytes) -> str | None:
    """The format the first bytes announce; None if unknown."""
    return next((name for name, magic in MAGIC if magic.match(data)), None)


def decode(
    data: bytes | None,
    announced: str | None,
    size: tuple[int, int] | None,
    most: int,
    *,
    reduced: bool = True,
    header: Header | None = None,
) -> Decoded:
    """The first frame of `data`, read to its end; a JPEG of some size in reduced grey.

    Args:
        data: the file; None where its own header says that there is no picture in it.
        announced: its format, as `sniff` says.
        size: width and height by the file's own header, where that was read.
        most: the largest number of pixels to decode.
        reduced: False for every pixel of a JPEG, in its own colours.
        header: what the markers of a JPEG say, where they were read.
    """
    if announced is None:
        return Decoded(None, None, "empty file" if not data else "not an image format we know")
    if data is None:  # decoders search such files for a header byte by byte
        return Decoded(None, announced, "header is damaged")
    if size is not None and size[0] * size[1] > most:
        return Decoded(None, announced, _bomb(size, most))
    try:
        if reduced and announced == "JPEG":
            with suppress(Exception):  # a lossless JPEG cannot be reduced; the whole decode tells
                return _open_and_load(data, announced, most, reduced=True, header=header)
        return _open_and_load(data, announced, most, reduced=False)
    except MemoryError:
        return Decoded(None, announced, "needs more memory than there is")
    except Exception as error:  # decoders raise nearly anything on damaged files
        return Decoded(None, announced, one_line(error))


def one_line(error: Exception) -> str:
    """What an exception says, on one line and without addresses of objects."""
    message = str(error)
    if message in VAGUE or isinstance(error, (struct.error, LookupError, TypeError)):
        return "header is damaged"
    if message.startswith("decoder error"):
        return "picture data is damaged"
    lines = UNREADABLE.sub("", message).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:LONGEST_ERROR]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the decoders' warnings inside: what they say is in the facts or in the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_and_load(
    data: bytes, announced: str, most: int, *, reduced: bool, header: Header | None = None
) -> Decoded:
    if announced not in Image.OPEN:
        Image.init()
    if announced not in Image.OPEN:
        return Decoded(None, announced, f"no decoder for {announced} is installed")
    # The plugin itself, because Image.open has a pixel limit of its own, kept in a global.
    factory, _ = Image.OPEN[announced]
    image = factory(io.BytesIO(data), "")
    if image.width * image.height > most:
        return Decoded(None, announced, _bomb(image.size, most))
    mode, size = image.mode, image.size
    small = _read_eighth(data, header, image) if reduced and header is not None else None
    if small is not None:
        frames = getattr(image, "n_frames", 1)
        return Decoded(small, image.format, None, mode, size, reduced=True, frames=frames)
    if reduced:
        _reduce(image)
    image.load()
    smaller = (image.mode, image.size) != (mode, size)
    return Decoded(image, image.format or announced, None, mode, size, smaller)


def _reduce(image: Image.Image) -> None:
    """Have the decoder give the smallest picture that is still large enough, grey where it can."""
    fraction = fraction_of(*image.size)
    image.draft("L", (image.width // fraction, image.height // fraction))


LOADING = 100_000_000
"""Bytes of JPEG whose decoding by libjpeg costs as much more as does loading what is faster: 0.4 s."""


@dataclass(slots=True)
class Spent:
    """Bytes that this process has had libjpeg decode at an eighth."""

    on_libjpeg: int = 0


_spent = Spent()


def load_now() -> None:
    """Have JPEG read by `eighth` from now on, as a process that has many to read does by itself."""
    _spent.on_libjpeg = LOADING


def _read_eighth(data: bytes, header: Header, opened: Image.Image) -> Image.Image | None:
    """What libjpeg would give at an eighth; None where it shall be asked, for a reason or as yet."""
    if fraction_of(*opened.size) < 8 or opened.size != (header.width, header.height):
        return None
    if _spent.on_libjpeg < LOADING:
        _spent.on_libjpeg += len(data)
        return None
    from curate.probe import eighth

    pixels = eighth.read_eighth(data, header)
    if pixels is None:
        return None
    small = Image.fromarray(pixels)
    small.format, small.info = opened.format, opened.info
    return small


Span = tuple[int, int, int]
"""Marker of a JPEG segment, where it begins, and where it ends."""

KEPT_SEGMENTS = frozenset({0xE0, 0xEE})
"""JFIF and Adobe segments, of the APPn: both tell decoders what the components are."""

TABLES_AND_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD})


def coded_digest(data: bytes, spans: Sequence[Span], orientation: int | None) -> str:
    """SHA-256 over everything in a JPEG that determines its upright pixels, and over nothing else.

    Equal digests mean equal pixels. The converse does not hold: the same coefficients may be coded
    in other ways.

    Args:
        data: the file.
        spans: its segments, up to the end of the main image, as `jpeg.read_header` finds them.
        orientation: as its metadata state it.
    """
    digest = hashlib.sha256(f"JPEG {orientation or 1}\n".encode())
    starts = [*(start for _, start, _ in spans), len(data)]
    for (marker, start, end), after in zip(spans, starts[1:], strict=True):
        if marker in TABLES_AND_FRAMES or _tells_colours(marker, data, start):
            digest.update(memoryview(data)[start : after if marker == SOS else end])
    return digest.hexdigest()


def _tells_colours(marker: int, data: bytes, start: int) -> bool:
    return marker in KEPT_SEGMENTS and data[start + 4 : start + 9] in (b"JFIF\0", b"Adobe")


def _bomb(size: tuple[int, int], most: int) -> str:
    return f"bomb: {size[0]} x {size[1]} pixels, limit {most}"
