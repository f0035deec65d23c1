"""Everything the bytes of one file say: facts, claims about their origin, fingerprints.

>>> examine(b"").image.error
'empty file'

One read and one decode serve all three. No bytes make `examine` raise, hang or warn: what
cannot be read is None, why it cannot be decoded is `error`, and nothing is made up (a PNG has no
JPEG quality). May import: `curate.fingerprint`, `curate.views` and schemas.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any

from PIL import Image as Pillow

from curate import fingerprint, views
from curate.probe import decode, double, metadata, pixels, provenance
from curate.probe.readers import Facts, read_container, told, with_exif
from curate.probe.traces import Traces, checked, complete
from schemas.records import Evidence, Fingerprint, Image, Thumbnail

PROBE = "probe/3"
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


def examine(data: bytes, *, max_pixels: int = MOST_PIXELS, anchors: str = "") -> Examined:
    """Everything the bytes say. Never raises; the same bytes always give the same rows.

    Args:
        data: the whole file.
        max_pixels: pictures with more pixels are not decoded: their `error` begins with "bomb".
        anchors: certificates in PEM whose holders' content credentials are believed.
    """
    with decode.quiet():
        return _examine(bytes(data), max_pixels, anchors)


def examine_header(data: bytes) -> Image:
    """What the header says (format, size, JPEG quality, camera), without decoding the picture.

    Ten times as fast as `examine`. Never raises; what only the decoder could tell is None.
    """
    with decode.quiet():
        announced = decode.sniff(data)
        digest = hashlib.sha256(data).hexdigest()
        facts: Facts = {
            "digest": digest,
            "made_by": PROBE,
            "bytes": len(data),
            "format": announced,
        }
        return Image(**read_container(facts, data).facts)


def _examine(data: bytes, max_pixels: int, anchors: str) -> Examined:
    digest = hashlib.sha256(data).hexdigest()
    announced = decode.sniff(data)
    facts: Facts = {"digest": digest, "made_by": PROBE, "bytes": len(data), "format": announced}
    read = read_container(facts, data)
    facts, traces = read.facts, read.traces
    width, height = facts.get("width"), facts.get("height")
    size = (width, height) if width and height else None
    decoded = decode.decode(read.picture, announced, size, max_pixels, header=read.markers)
    coded = None if decoded.image is None else facts.get("pixels")
    facts = told(facts, format=decoded.format, error=decoded.error, pixels=coded)
    look = Look()
    if decoded.image is not None:
        facts, traces = _complete(facts, traces, decoded)
        if facts.get("format") == "PNG":
            traces = replace(traces, stealth=provenance.find_stealth(decoded.image))
        facts, look = _look(facts, decoded)
    image = Image(**facts)
    if double.is_readable(image):
        image = replace(image, jpeg_double=double.roughness(data))
    traces = checked(traces, data, anchors=anchors)
    return Examined(image, _evidence(image, traces), look.fingerprints, look.thumbnails)


def _complete(facts: Facts, traces: Traces, decoded: decode.Decoded) -> tuple[Facts, Traces]:
    """Add what the decoder knows and the header reader did not say."""
    image, size = decoded.image, decoded.size
    if image is None or size is None:
        return facts, traces
    if facts.get("format") not in {"JPEG", "MPO", "PNG", "WEBP"}:
        exif = metadata.read_exif(image.info.get("exif"))
        facts, traces = with_exif(facts, exif), complete(traces, image, exif)
        facts = told(facts, icc=metadata.profile_hash(image.info.get("icc_profile")))
    facts = told(
        facts,
        width=size[0] if facts.get("width") is None else facts.get("width"),
        height=size[1] if facts.get("height") is None else facts.get("height"),
        mode=decoded.mode,
        bit_depth=facts.get("bit_depth") or BIT_DEPTHS.get(image.mode, 8),
        alpha=image.has_transparency_data if facts.get("alpha") is None else facts.get("alpha"),
        frames=facts.get("frames") or decoded.frames or _frames(image),
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


def _look(facts: Facts, decoded: decode.Decoded) -> tuple[Facts, Look]:
    """What is seen in the pixels."""
    if decoded.image is None:
        return facts, Look()
    try:
        grey = decoded.reduced and decoded.image.mode == "L"
        upright = (fingerprint.turn_upright if grey else fingerprint.upright)(decoded.image)
        digest = facts.get("pixels") or fingerprint.pixel_digest(upright)
        small = fingerprint.small_grey(upright)
        facts = _measure(facts, decoded.image, small)
        look = _rows(facts["digest"], small)
    except Exception as error:  # a decoded picture that still cannot be converted
        return told(facts, error=decode.one_line(error), pixels=None), Look()
    return told(facts, pixels=digest), look


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
            Thumbnail(digest, view, box.left, box.top, box.right, box.bottom, content, PROBE)
            for view, (box, content) in found.items()
        ),
    )


def _measure(facts: Facts, stored: Pillow.Image, small: Pillow.Image) -> Facts:
    """Measures on pixels: as seen, and of what was before where the file's own coding leaves no trace."""
    look = pixels.appearance(small)
    if look is not None:
        facts = told(facts, blur=look.blur, noise=look.noise, information=look.information)
    if facts.get("lossless") and facts.get("format") in HISTORICAL:
        facts = told(facts, **asdict(pixels.history(fingerprint.flatten(stored.convert("RGBA")))))
    return facts


HISTORICAL = frozenset({"PNG", "WEBP", "BMP", "TIFF"})
"""Formats that may hold the pixels of a JPEG unchanged; palettes of GIF change them."""


def _evidence(image: Image, traces: Traces) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(image.digest, c.kind, c.origin, c.direction.value, c.strength, c.detail, PROBE)
        for c in provenance.claims(traces, image)
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
        "thumbnail_dqt_hash": image.thumbnail_dqt_hash,
        "jpeg": _jpeg_json(image),
        "bits_per_pixel": _bits_per_pixel(image),
        "compression": image.compression,
        "lossless": image.lossless,
        "webp_quantiser": image.webp_quantiser,
        "animated": image.animated,
        "truncated": image.truncated,
        "trailing_bytes": image.trailing_bytes,
        "history": {name: getattr(image, name) for name in ("grid", "grid_x", "grid_y", "upscale")},
        "blur": image.blur,
        "noise": image.noise,
        "information": image.information,
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
    if image.jpeg_markers is None and image.jpeg_family is None:
        return None
    return {
        "family": image.jpeg_family,
        "quality_luma": image.jpeg_quality_luma,
        "quality_chroma": image.jpeg_quality_chroma,
        "exact": image.jpeg_exact,
        "residual": image.jpeg_residual,
        "quality": image.jpeg_quality,
        "scale_luma": image.jpeg_scale_luma,
        "scale_chroma": image.jpeg_scale_chroma,
        "subsampling": image.jpeg_subsampling,
        "progressive": image.jpeg_progressive,
        "restart_interval": image.jpeg_restart,
        "huffman": image.jpeg_huffman,
        "dqt_hash": image.jpeg_dqt_hash,
        "markers": image.jpeg_markers,
        "double": image.jpeg_double,
    }


def _bits_per_pixel(image: Image) -> float | None:
    """Bits of the file for each pixel of its (first) picture."""
    area = (image.width or 0) * (image.height or 0)
    return round(8 * image.bytes / area, 4) if area else None


def _claim_json(row: Evidence) -> dict[str, Any]:
    names = ("kind", "origin", "direction", "strength", "detail")
    return {name: getattr(row, name) for name in names}
