"""Everything the bytes of one file say: facts, claims about their origin, fingerprints.

>>> examine(b"").image.error
'empty file'

One read and one decode serve all three. No bytes make `examine` raise, hang or warn: what
cannot be read is None, why it cannot be decoded is `error`, and nothing is made up (a PNG has no
JPEG quality). May import: `curate.fingerprint`, `curate.views` and schemas.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from PIL import Image as Pillow

from curate import fingerprint, views
from curate.probe import decode, families, jpeg, metadata, png, provenance, riff
from curate.probe.provenance import Traces
from schemas.records import Evidence, Fingerprint, Image, Thumbnail

PROBE = "probe/2"
MOST_PIXELS = 178_956_970
"""Pillow's own limit before it calls a file a bomb."""

BIT_DEPTHS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}
"""Bits per sample of Pillow modes that do not have eight."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One file, examined: the rows of tables image, evidence, fingerprint and thumbnail."""

    image: Image
    evidence: tuple[Evidence, ...]
    fingerprints: tuple[Fingerprint, ...]
    thumbnails: tuple[Thumbnail, ...] = ()


def examine(data: bytes, *, max_pixels: int = MOST_PIXELS) -> Examined:
    """Everything the bytes say. Never raises; the same bytes always give the same rows.

    Args:
        data: the whole file.
        max_pixels: pictures with more pixels are not decoded: their `error` begins with "bomb".
    """
    with decode.quiet():
        return _examine(bytes(data), max_pixels)


def _examine(data: bytes, max_pixels: int) -> Examined:
    digest = hashlib.sha256(data).hexdigest()
    announced = decode.sniff(data)
    facts = Image(digest=digest, made_by=PROBE, bytes=len(data), format=announced)
    facts, traces, source = READERS.get(announced or "", _read_nothing)(facts, data)
    size = (facts.width, facts.height) if facts.width and facts.height else None
    decoded = decode.decode(source, announced, size, max_pixels)
    pixels = None if decoded.image is None else facts.pixels
    facts = replace(facts, format=decoded.format, error=decoded.error, pixels=pixels)
    look = Look()
    if decoded.image is not None:
        facts, traces = _complete(facts, traces, decoded)
        if facts.format == "PNG":
            traces = replace(traces, stealth=provenance.find_stealth(decoded.image))
        facts, look = _look(facts, decoded)
    return Examined(facts, _evidence(digest, traces), look.fingerprints, look.thumbnails)


Read = tuple[Image, Traces, bytes | None]
"""Facts of the header, traces of origin, and the bytes to decode; None where there is no picture."""


def _read_nothing(facts: Image, data: bytes) -> Read:
    """A container whose facts the decoder alone reads."""
    return facts, Traces(metadata.NO_EXIF, {}), data


def _read_jpeg(facts: Image, data: bytes) -> Read:
    header = jpeg.read_header(data)
    exif = metadata.read_exif(next(iter(header.payloads(1, b"Exif\0\0")), None))
    profile = b"".join(p[2:] for p in sorted(header.payloads(2, b"ICC_PROFILE\0")))
    xmp = b"\n".join(header.payloads(1, b"http://ns.adobe.com/xap/1.0/\0"))
    c2pa = any(b"jumb" in p and b"c2pa" in p for p in header.payloads(11, b"JP"))
    traces = Traces(
        exif=exif,
        texts={},
        xmp=tuple(metadata.source_types(xmp)),
        c2pa="jpeg:APP11" if c2pa else None,
        photoshop=b"".join(header.payloads(13, b"")),
    )
    facts = replace(
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
    picture = data if header.frame is not None and header.scans else None
    return _with_exif(_with_fit(facts, header), exif), traces, picture


def _with_fit(facts: Image, header: jpeg.Header) -> Image:
    if not header.used_tables:
        return facts
    fit = families.fit(header.used_tables[:2])
    return replace(
        facts,
        jpeg_family=fit.family,
        jpeg_quality_luma=fit.luma,
        jpeg_quality_chroma=fit.chroma,
        jpeg_exact=fit.exact,
        jpeg_residual=fit.residual,
        jpeg_quality=fit.quality,
    )


def _read_png(facts: Image, data: bytes) -> Read:
    header = png.read_header(data)
    exif = metadata.read_exif(header.exif)
    texts = {key: value.decode("utf-8", "replace") for key, value in reversed(header.texts)}
    xmp = b"\n".join(value for key, value in header.texts if key == png.XMP_KEY)
    traces = Traces(
        exif=exif,
        texts=texts,
        xmp=tuple(metadata.source_types(xmp)),
        c2pa="png:caBX" if header.c2pa else None,
    )
    facts = replace(
        facts,
        width=header.width,
        height=header.height,
        bit_depth=header.bit_depth,
        alpha=None if header.width is None else header.alpha,
        frames=None if header.width is None else header.frames,
        icc=metadata.profile_hash(header.profile),
        png_text_keys=tuple(key for key, _ in header.texts),
    )
    facts = _with_exif(facts, exif)
    facts = replace(facts, software=facts.software or metadata.clean(texts.get("Software")))
    return facts, traces, png.picture_only(data)


def _read_webp(facts: Image, data: bytes) -> Read:
    header = riff.read_header(data)
    exif = metadata.read_exif(header.exif)
    xmp = tuple(metadata.source_types(header.xmp))
    traces = Traces(exif, {}, xmp=xmp, c2pa="webp:C2PA" if header.c2pa else None)
    icc = metadata.profile_hash(header.profile)
    facts = replace(facts, width=header.width, height=header.height, bit_depth=8, icc=icc)
    return _with_exif(facts, exif), traces, data


C2PA_BOX = b"uuid\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81"


def _read_boxes(facts: Image, data: bytes) -> Read:
    """AVIF and HEIF: the decoder reads the rest."""
    c2pa = "isobmff:uuid" if C2PA_BOX in data else None
    return facts, Traces(metadata.NO_EXIF, {}, c2pa=c2pa), data


READERS = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WEBP": _read_webp,
    "AVIF": _read_boxes,
    "HEIF": _read_boxes,
}
"""Containers whose headers are read here; the decoder says what it can of the others."""


def _with_exif(facts: Image, exif: metadata.Exif) -> Image:
    return replace(
        facts,
        orientation=exif.orientation,
        camera_make=exif.make,
        camera_model=exif.model,
        software=exif.software,
        thumbnail=exif.thumbnail,
    )


def _complete(facts: Image, traces: Traces, decoded: decode.Decoded) -> tuple[Image, Traces]:
    """Add what the decoder knows and the header reader did not say."""
    image, size = decoded.image, decoded.size
    if image is None or size is None:
        return facts, traces
    if facts.format not in {"JPEG", "MPO", "PNG", "WEBP"}:
        exif = metadata.read_exif(image.info.get("exif"))
        xmp = image.info.get("xmp")
        types = metadata.source_types(xmp) if isinstance(xmp, bytes) else ()
        facts, traces = _with_exif(facts, exif), replace(traces, exif=exif, xmp=tuple(types))
        facts = replace(facts, icc=metadata.profile_hash(image.info.get("icc_profile")))
    facts = replace(
        facts,
        width=size[0] if facts.width is None else facts.width,
        height=size[1] if facts.height is None else facts.height,
        mode=decoded.mode,
        bit_depth=facts.bit_depth or BIT_DEPTHS.get(image.mode, 8),
        alpha=image.has_transparency_data if facts.alpha is None else facts.alpha,
        frames=facts.frames or _frames(image),
    )
    return facts, traces


def _frames(image: Pillow.Image) -> int | None:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # counting reads on through the file, which may be damaged there
        return None


@dataclass(frozen=True, slots=True)
class Look:
    """What a decoded picture looks like, as rows."""

    fingerprints: tuple[Fingerprint, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()


def _look(facts: Image, decoded: decode.Decoded) -> tuple[Image, Look]:
    """What is seen in the pixels."""
    if decoded.image is None:
        return facts, Look()
    try:
        grey = decoded.reduced and decoded.image.mode == "L"
        upright = (fingerprint.turn_upright if grey else fingerprint.upright)(decoded.image)
        pixels = facts.pixels or fingerprint.pixel_digest(upright)
        look = _rows(facts.digest, fingerprint.small_grey(upright))
    except Exception as error:  # a decoded picture that still cannot be converted
        return replace(facts, error=decode.one_line(error), pixels=None), Look()
    return replace(facts, pixels=pixels), look


def full_pixels(data: bytes, *, max_pixels: int = MOST_PIXELS) -> str | None:
    """The digest of a file's upright pixels, all of them decoded; None where it does not decode."""
    with decode.quiet():
        decoded = decode.decode(data, decode.sniff(data), None, max_pixels, reduced=False)
        return (
            fingerprint.pixel_digest(fingerprint.upright(decoded.image)) if decoded.image else None
        )


def _rows(digest: str, grey: Pillow.Image) -> Look:
    found = views.thumbnails(grey)
    # A thumbnail says what the picture says, at a fifth of the time, unless that is small itself.
    small = min(grey.size) < fingerprint.SHORT_SIDE
    whole = grey if small else Pillow.frombytes("L", views.SIZE, found["whole"][1])
    hashes = fingerprint.fingerprints(whole)
    return Look(
        tuple(Fingerprint(digest, view, bits, PROBE) for view, bits in hashes.items()),
        tuple(
            Thumbnail(digest, view, box.left, box.top, box.right, box.bottom, pixels, PROBE)
            for view, (box, pixels) in found.items()
        ),
    )


def _evidence(digest: str, traces: Traces) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(digest, c.kind, c.origin, c.direction.value, c.strength, c.detail, PROBE)
        for c in provenance.claims(traces)
    )


def to_json(path: str, examined: Examined) -> dict[str, Any]:
    """The line `wildrf probe` prints for one file."""
    image = examined.image
    return {
        "path": path,
        "sha256": image.digest,
        "format": image.format,
        "extension_mismatch": extension_mismatch(path, image.format),
        "width": image.width,
        "height": image.height,
        "bytes": image.bytes,
        "mode": image.mode,
        "bit_depth": image.bit_depth,
        "frames": image.frames,
        "alpha": image.alpha,
        "icc": image.icc,
        "orientation": image.orientation,
        "camera_make": image.camera_make,
        "camera_model": image.camera_model,
        "software": image.software,
        "thumbnail": image.thumbnail,
        "jpeg": _jpeg_json(image),
        "png_text_keys": list(image.png_text_keys),
        "provenance": [_claim_json(row) for row in examined.evidence],
        "pixels": image.pixels,
        "fingerprints": {f.view: fingerprint.to_hex(f.bits) for f in examined.fingerprints},
        "error": image.error,
    }


def extension_mismatch(path: str, format: str | None) -> bool | None:
    """Whether the name's ending is wrong for the true format; None where either says nothing."""
    suffix = PurePath(path).suffix.lower()
    if format is None or not suffix:
        return None
    return suffix not in decode.SUFFIXES.get(format, frozenset())


def _jpeg_json(image: Image) -> dict[str, Any] | None:
    if image.jpeg_markers is None:
        return None
    return {
        "family": image.jpeg_family,
        "quality_luma": image.jpeg_quality_luma,
        "quality_chroma": image.jpeg_quality_chroma,
        "exact": image.jpeg_exact,
        "residual": image.jpeg_residual,
        "quality": image.jpeg_quality,
        "subsampling": image.jpeg_subsampling,
        "progressive": image.jpeg_progressive,
        "restart_interval": image.jpeg_restart,
        "huffman": image.jpeg_huffman,
        "dqt_hash": image.jpeg_dqt_hash,
        "markers": image.jpeg_markers,
    }


def _claim_json(row: Evidence) -> dict[str, Any]:
    names = ("kind", "origin", "direction", "strength", "detail")
    return {name: getattr(row, name) for name in names}
