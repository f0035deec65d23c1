"""What the headers of each container say, as columns of an image row and as traces of its origin.

One reader for each format of `READERS`; no pixel is decoded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from curate.probe import (
    container,
    decode,
    families,
    isobmff,
    jpeg,
    jxl,
    metadata,
    png,
    riff,
    tiff,
)
from curate.probe.traces import Traces, of_boxes, of_gif, of_jpeg, of_png, of_webp

Facts = dict[str, Any]
"""Columns of an image row, gathered before the row is made: making it anew for each costs a tenth of all."""


def told(facts: Facts, **more: Any) -> Facts:
    """The facts with some more, or others."""
    return {**facts, **more}


@dataclass(frozen=True, slots=True)
class Read:
    """What the header of a file says, without decoding a pixel.

    `picture` are the bytes to decode, None where there is no picture; `markers` are those of a JPEG.
    """

    facts: Facts
    traces: Traces
    picture: bytes | None
    markers: jpeg.Header | None = None


def read_container(facts: Facts, data: bytes) -> Read:
    """Adds to facts, of which "format" is one, what the header says."""
    return READERS.get(facts.get("format") or "", _read_nothing)(facts, data)


def _read_nothing(facts: Facts, data: bytes) -> Read:
    """A container whose facts the decoder alone reads."""
    return Read(facts, Traces(), data)


def _read_jpeg(facts: Facts, data: bytes) -> Read:
    header = jpeg.read_header(data)
    exif = metadata.read_exif(next(iter(header.payloads(1, b"Exif\0\0")), None))
    profile = b"".join(p[2:] for p in sorted(header.payloads(2, b"ICC_PROFILE\0")))
    traces = of_jpeg(header, exif)
    xmp = b"\n".join(header.payloads(1, b"http://ns.adobe.com/xap/1.0/\0"))
    facts = told(
        facts,
        width=header.width,
        height=header.height or None,
        bit_depth=header.precision,
        icc=metadata.profile_hash(profile),
        jpeg_subsampling=header.subsampling,
        jpeg_progressive=header.progressive,
        jpeg_restart=None if header.frame is None else header.restart,
        jpeg_huffman=header.huffman,
        jpeg_dqt_hash=header.dqt_hash,
        jpeg_markers=header.marker_hash,
        pixels=decode.coded_digest(
            data, header.spans, exif.orientation or metadata.xmp_orientation(xmp)
        ),
    )
    whole = header.end is not None
    facts = told(
        facts,
        lossless=header.lossless,
        truncated=None if header.frame is None else not whole,
        trailing_bytes=len(data) - header.end if header.end is not None else None,
        thumbnail_dqt_hash=_thumbnail_hash(header),
    )
    picture = data if header.frame is not None and header.scans else None
    return Read(with_exif(_with_fit(facts, header), exif), traces, picture, header)


def _thumbnail_hash(header: jpeg.Header) -> str | None:
    exif = next(iter(header.payloads(1, b"Exif\0\0")), None)
    small = tiff.thumbnail(exif) if exif else None
    return jpeg.read_header(small).dqt_hash if small else None


def _with_fit(facts: Facts, header: jpeg.Header) -> Facts:
    if not header.used_tables:
        return facts
    fit = _fit(header)
    return told(
        facts,
        jpeg_scale_luma=fit.scales[0] if fit.scales else None,
        jpeg_scale_chroma=fit.scales[1] if len(fit.scales) > 1 else None,
        jpeg_family=fit.family,
        jpeg_quality_luma=fit.luma,
        jpeg_quality_chroma=fit.chroma,
        jpeg_exact=fit.exact,
        jpeg_residual=fit.residual,
        jpeg_quality=fit.quality,
    )


def _fit(header: jpeg.Header) -> families.Fit:
    """A colour picture with one table for all: that of luma and chroma where some family shares one."""
    tables = header.used_tables
    if len(tables) == 1 and len(header.components) > 1:
        shared = families.fit(tables * 2)
        if shared.family.startswith("mozjpeg") or shared.family == families.ANY:
            return shared
    return families.fit(tables)


def _read_png(facts: Facts, data: bytes) -> Read:
    header = png.read_header(data)
    exif = metadata.read_exif(header.exif)
    traces = of_png(header, exif)
    facts = told(
        facts,
        width=header.width,
        height=header.height,
        bit_depth=header.bit_depth,
        alpha=None if header.width is None else header.alpha,
        frames=None if header.width is None else header.frames,
        icc=metadata.profile_hash(header.profile),
        png_text_keys=tuple(key for key, _ in header.texts),
        animated=None if header.width is None else header.frames > 1,
        compression=None if header.width is None else "deflate",
        lossless=None if header.width is None else True,
        truncated=header.end is None,
        trailing_bytes=None if header.end is None else len(data) - header.end,
    )
    facts = with_exif(facts, exif)
    facts = told(
        facts,
        software=facts.get("software") or metadata.clean((traces.texts or {}).get("Software")),
    )
    return Read(facts, traces, png.picture_only(data))


def _read_webp(facts: Facts, data: bytes) -> Read:
    header = riff.read_header(data)
    exif = metadata.read_exif(header.exif)
    traces = of_webp(header, exif)
    icc = metadata.profile_hash(header.profile)
    facts = told(
        facts,
        width=header.width,
        height=header.height,
        bit_depth=8,
        icc=icc,
        alpha=header.alpha,
        frames=header.frames or None,
        animated=header.frames > 1 if header.frames else None,
        compression=None if header.lossless is None else "VP8L" if header.lossless else "VP8",
        lossless=header.lossless,
        webp_quantiser=header.quantiser,
        truncated=header.end > len(data),
        trailing_bytes=max(0, len(data) - header.end),
    )
    return Read(with_exif(facts, exif), traces, data)


def _read_gif(facts: Facts, data: bytes) -> Read:
    """Traces lie in its extensions, beside the pictures."""
    return Read(_with_container(facts, container.read_gif(data), data), of_gif(data), data)


def _read_boxes(facts: Facts, data: bytes) -> Read:
    """AVIF and HEIF: the decoder reads the rest."""
    traces = of_boxes(data)
    facts = _with_container(facts, CONTAINERS[facts.get("format") or ""](data), data)
    return Read(with_exif(facts, traces.exif), traces, data)


def _read_plain(facts: Facts, data: bytes) -> Read:
    """A container whose metadata the decoder reads."""
    facts = _with_container(facts, CONTAINERS[facts.get("format") or ""](data), data)
    return Read(facts, Traces(), data)


def _read_tiff(facts: Facts, data: bytes) -> Read:
    read = _read_plain(facts, data)
    inside = tiff.jpeg_inside(data)
    if inside is not None:
        facts = told(
            _with_fit(read.facts, inside),
            jpeg_subsampling=inside.subsampling,
            jpeg_dqt_hash=inside.dqt_hash,
        )
        read = replace(read, facts=facts)
    return read


CONTAINERS: dict[str, Callable[[bytes], container.Container]] = {
    "BMP": container.read_bmp,
    "TIFF": tiff.read_tiff,
    "AVIF": isobmff.read_heif,
    "HEIF": isobmff.read_heif,
    "JPEG2000": isobmff.read_jpeg2000,
    "JXL": jxl.read_jxl,
}
"""Headers that are read into `Container`."""


def _with_container(facts: Facts, found: container.Container, data: bytes) -> Facts:
    return told(
        facts,
        width=found.width,
        height=found.height,
        bit_depth=found.bit_depth,
        alpha=found.alpha,
        frames=found.frames,
        animated=found.animated,
        lossless=found.lossless,
        compression=found.compression,
        truncated=found.truncated,
        trailing_bytes=None if found.end is None else max(0, len(data) - found.end),
    )


READERS: dict[str, Callable[[Facts, bytes], Read]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WEBP": _read_webp,
    "GIF": _read_gif,
    "AVIF": _read_boxes,
    "HEIF": _read_boxes,
    "JXL": _read_boxes,
    "BMP": _read_plain,
    "JPEG2000": _read_plain,
    "TIFF": _read_tiff,
}
"""Containers whose headers are read here; the decoder says what it can of the others."""


def with_exif(facts: Facts, exif: metadata.Exif) -> Facts:
    """The facts with those of an EXIF block."""
    return told(
        facts,
        orientation=exif.orientation,
        camera_make=exif.make,
        camera_model=exif.model,
        software=exif.software,
        thumbnail=exif.thumbnail,
    )
