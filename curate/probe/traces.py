"""Where claims about a picture's origin are looked for, in each container.

Every reader here takes what the header readers found and gathers it in one shape, `Traces`, which
`curate.probe.provenance` judges. To know one more place: its line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image as Pillow

from curate.probe import c2pa, heif, iptc, jpeg, metadata, png, riff, xmp
from curate.probe.c2pa import Credentials
from curate.probe.iptc import Iptc
from curate.probe.metadata import Exif
from curate.probe.xmp import Xmp

MOST_COMMENTS = 16
LONGEST_COMMENT = 1 << 16


@dataclass(frozen=True, slots=True)
class Traces:
    """Where claims are looked for, whatever the container.

    `texts` are free texts by keyword (PNG), `comments` free texts by place; both are searched for
    marks of a program and never kept. `camera` names what cameras add beside the picture.
    """

    exif: Exif = metadata.NO_EXIF
    texts: Mapping[str, str] | None = None
    xmp: Xmp | None = None
    iptc: Iptc | None = None
    comments: tuple[tuple[str, str], ...] = ()
    credentials: Credentials | None = None
    stealth: tuple[str, str] | None = None
    camera: tuple[str, ...] = ()


def of_jpeg(header: jpeg.Header, exif: Exif) -> Traces:
    """Traces in the segments of a JPEG."""
    packets = header.payloads(1, b"http://ns.adobe.com/xap/1.0/\0")
    packets += xmp.extended(header.payloads(1, b"http://ns.adobe.com/xmp/extension/\0"))
    store = c2pa.find_jpeg(header.payloads(11, b"JP"))
    block = b"".join(header.payloads(13, b"Photoshop 3.0\0"))
    return Traces(
        exif=exif,
        xmp=_xmp(packets),
        iptc=iptc.read(block) if block else None,
        comments=tuple(("jpeg:COM", _text(c)) for c in header.comments[:MOST_COMMENTS]),
        credentials=_credentials("jpeg:APP11", store),
        camera=("further pictures (MPF)",) if header.payloads(2, b"MPF\0") else (),
    )


def of_png(header: png.Header, exif: Exif) -> Traces:
    """Traces in the chunks of a PNG."""
    return Traces(
        exif=exif,
        texts={key: value.decode("utf-8", "replace") for key, value in reversed(header.texts)},
        xmp=_xmp([value for key, value in header.texts if key == png.XMP_KEY]),
        credentials=_credentials("png:caBX", header.c2pa),
    )


def of_webp(header: riff.Header, exif: Exif) -> Traces:
    """Traces in the chunks of a WebP file."""
    return Traces(
        exif=exif, xmp=_xmp([header.xmp]), credentials=_credentials("webp:C2PA", header.c2pa)
    )


def of_boxes(data: bytes) -> Traces:
    """Traces in the boxes of an AVIF or HEIF file."""
    items = heif.read(data)
    named = {"HDR gain map (Apple)": items.apple_gain_map, "HDR tone map": items.tone_map}
    return Traces(
        exif=metadata.read_exif(items.exif),
        xmp=_xmp([items.xmp]),
        credentials=_credentials("isobmff:uuid", c2pa.find_boxes(data)),
        camera=tuple(name for name, there in named.items() if there),
    )


GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
GIF_XMP_END = b"\x01\xff\xfe\xfd"
GIF_C2PA = b"\x21\xff\x0bC2PA_GIF"
MOST_BLOCKS = 1 << 18


def of_gif(data: bytes) -> Traces:
    """Traces in the application extensions of a GIF: XMP as one text, credentials in sub-blocks."""
    at = data.find(GIF_XMP)
    start = at + len(GIF_XMP)
    packet = data[start : data.find(GIF_XMP_END, start)] if at >= 0 else b""
    at = data.find(GIF_C2PA)
    store = _joined_blocks(data, at + len(GIF_C2PA) + 3) if at >= 0 else None
    return Traces(xmp=_xmp([packet]), credentials=_credentials("gif:C2PA_GIF", store))


def _joined_blocks(data: bytes, at: int) -> bytes:
    """The bodies of sub-blocks of up to 255 bytes, until an empty one."""
    pieces = []
    for _ in range(MOST_BLOCKS):
        length = data[at] if at < len(data) else 0
        if not length:
            break
        pieces.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    return b"".join(pieces)


def complete(found: Traces, image: Pillow.Image, exif: Exif) -> Traces:
    """Add what the decoder read of containers whose metadata are not read here, such as TIFF."""
    tags: Any = getattr(image, "tag_v2", {})
    store, info = tags.get(c2pa.TIFF_TAG), image.info
    packet, comment = info.get("xmp"), info.get("comment")
    return replace(
        found,
        exif=exif,
        xmp=found.xmp or (_xmp([packet]) if isinstance(packet, bytes) else None),
        credentials=found.credentials
        or _credentials(f"tiff:{c2pa.TIFF_TAG:#x}", store if isinstance(store, bytes) else None),
        comments=(("gif:comment", _text(comment)),) if isinstance(comment, bytes) else (),
    )


def checked(found: Traces, data: bytes, *, anchors: str) -> Traces:
    """The same traces with content credentials checked; nothing is done without any."""
    if found.credentials is None:
        return found
    return replace(found, credentials=c2pa.check(found.credentials, data, anchors=anchors))


def _credentials(where: str, store: bytes | None) -> Credentials | None:
    return None if store is None else c2pa.read(where, store)


def _xmp(packets: list[bytes]) -> Xmp | None:
    present = [packet for packet in packets if packet]
    return xmp.read(present) if present else None


def _text(content: bytes) -> str:
    return content[:LONGEST_COMMENT].decode("utf-8", "replace")
