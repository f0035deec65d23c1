"""What a file claims about where it came from, as evidence rows.

A claim is a prior, never a label: metadata can be copied, edited and stripped. `detail` names the
generator and the place, never a prompt, a name or other text a person wrote.

IPTC digital source types: https://cv.iptc.org/newscodes/digitalsourcetype/. C2PA manifests are
noticed, not verified: https://c2pa.org/specifications/.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from curate.probe.metadata import Exif
from schemas.labels import Direction


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of a file about itself."""

    kind: str
    origin: str
    direction: Direction
    strength: float
    detail: str


@dataclass(frozen=True, slots=True)
class Traces:
    """Where claims are looked for, whatever the container."""

    exif: Exif
    texts: Mapping[str, str]
    xmp: tuple[str, ...] = ()
    c2pa: str | None = None
    photoshop: bytes = b""
    stealth: str | None = None


STEALTH = {
    "stealth_pnginfo": "RGBA",
    "stealth_pngcomp": "RGBA",
    "stealth_rgbinfo": "RGB",
    "stealth_rgbcomp": "RGB",
}
"""Marks that generators hide in the lowest bits, and the mode of the pictures that carry them."""


def find_stealth(image: Image.Image) -> str | None:
    """Where a hidden mark of a generator begins, in the lowest bits read column by column.

    Parameters travel there when text chunks are expected to be stripped
    (https://github.com/neggles/sd-webui-stealth-pnginfo).
    """
    if image.mode not in STEALTH.values():
        return None
    bands = 1 if image.mode == "RGBA" else 3
    length = 8 * len("stealth_pnginfo")
    columns = -(-length // (image.height * bands))
    corner = np.asarray(image.crop((0, 0, min(columns, image.width), image.height)))
    bits = (corner[..., -bands:] & 1).swapaxes(0, 1).ravel()[:length]
    mark = np.packbits(bits).tobytes().decode("latin-1")
    return ("alpha" if bands == 1 else "rgb") if STEALTH.get(mark) == image.mode else None


def _has(*words: str) -> Callable[[str], bool]:
    return lambda text: any(word in text for word in words)


def _any(text: str) -> bool:
    return True


_SAMPLING = re.compile(r"\bSteps: \d+, .*\bSampler\b", re.DOTALL)


def _sampling(text: str) -> bool:
    return _SAMPLING.search(text) is not None


TEXT_TRACES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("fooocus_scheme", "Fooocus", _any),
    ("parameters", "Fooocus", _has('"adm_guidance"', "Version: Fooocus")),
    ("parameters", "StableSwarmUI", _has('"sui_image_params"')),
    ("parameters", "AUTOMATIC1111 or compatible", _sampling),
    ("prompt", "ComfyUI", _has('"class_type"')),
    ("workflow", "ComfyUI", _has('"nodes"', '"class_type"')),
    ("invokeai_metadata", "InvokeAI", _any),
    ("invokeai_graph", "InvokeAI", _any),
    ("invokeai_workflow", "InvokeAI", _any),
    ("sd-metadata", "InvokeAI", _any),
    ("Dream", "InvokeAI", _has("-s", "-S")),
    ("Software", "NovelAI", _has("NovelAI")),
    ("Comment", "NovelAI", _has('"sampler"')),
    ("Source", "Stable Diffusion", _has("Stable Diffusion")),
    ("Description", "Midjourney", _has("Job ID: ")),
    ("use_stable_diffusion_model", "Easy Diffusion", _any),
    ("generation_data", "Tensor.Art", _has('"prompt"')),
)
"""PNG text keyword, generator that writes it, what its value looks like; the first match wins."""

COMMENT_TRACES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("Fooocus", _has('"adm_guidance"', "Version: Fooocus")),
    ("StableSwarmUI", _has('"sui_image_params"')),
    ("AUTOMATIC1111 or compatible", _sampling),
    ("ComfyUI", _has('"class_type"')),
)
"""Generators that write into EXIF UserComment."""

SOFTWARE_TRACES: tuple[str, ...] = (
    "NovelAI",
    "Midjourney",
    "Stable Diffusion",
    "DALL-E",
    "DALL·E",
    "Adobe Firefly",
    "ComfyUI",
    "InvokeAI",
    "Fooocus",
    "Draw Things",
)
"""Generators that name themselves in EXIF Software."""

SOURCE_TYPES: dict[str, tuple[Direction, float]] = {
    "trainedAlgorithmicMedia": (Direction.FAKE, 0.9),
    "compositeWithTrainedAlgorithmicMedia": (Direction.FAKE, 0.6),
    "algorithmicMedia": (Direction.FAKE, 0.6),
    "compositeSynthetic": (Direction.FAKE, 0.5),
    "digitalCapture": (Direction.REAL, 0.5),
    "computationalCapture": (Direction.REAL, 0.5),
    "negativeFilm": (Direction.REAL, 0.5),
    "positiveFilm": (Direction.REAL, 0.5),
    "print": (Direction.REAL, 0.4),
    "algorithmicallyEnhanced": (Direction.NEITHER, 0.0),
    "composite": (Direction.NEITHER, 0.0),
    "compositeCapture": (Direction.NEITHER, 0.0),
    "dataDrivenMedia": (Direction.NEITHER, 0.0),
    "digitalArt": (Direction.NEITHER, 0.0),
    "digitalCreation": (Direction.NEITHER, 0.0),
    "humanEdits": (Direction.NEITHER, 0.0),
    "minorHumanEdits": (Direction.NEITHER, 0.0),
    "screenCapture": (Direction.NEITHER, 0.0),
    "softwareImage": (Direction.NEITHER, 0.0),
    "virtualRecording": (Direction.NEITHER, 0.0),
}
"""What each IPTC digital source type speaks for, and how strongly. Other words are not repeated."""

GENERATOR, CAMERA, CAMERA_NAME_ONLY, SOFTWARE = 0.95, 0.3, 0.2, 0.8


def claims(traces: Traces) -> Iterator[Claim]:
    """Every claim, at most one per kind and origin."""
    yield from _camera(traces.exif)
    yield from _generators(traces)
    for name in (n for n in traces.xmp if n in SOURCE_TYPES):
        direction, strength = SOURCE_TYPES[name]
        yield Claim("iptc", f"xmp:DigitalSourceType/{name}", direction, strength, name)
    if traces.c2pa:
        yield Claim("c2pa", traces.c2pa, Direction.NEITHER, 0.0, "present, not verified")
    if b"FBMD" in traces.photoshop:
        yield Claim("platform-trace", "jpeg:APP13", Direction.NEITHER, 0.0, "Meta (FBMD)")


def _camera(exif: Exif) -> Iterator[Claim]:
    name = " ".join(filter(None, (exif.make, exif.model)))
    if not name:
        return
    strength = CAMERA if exif.exposure else CAMERA_NAME_ONLY
    exposure = "with" if exif.exposure else "without"
    yield Claim(
        "camera", "exif:Make,Model", Direction.REAL, strength, f"{name}, {exposure} exposure"
    )


def _generators(traces: Traces) -> Iterator[Claim]:
    seen: set[str] = set()
    for key, name, fits in TEXT_TRACES:
        if key not in seen and key in traces.texts and fits(traces.texts[key]):
            seen.add(key)
            yield _generator(f"png:{key}", name, GENERATOR)
    if traces.stealth:
        yield _generator(f"pixels:{traces.stealth} lowest bits", "stealth PNG info", GENERATOR)
    name = next((n for n, fits in COMMENT_TRACES if fits(traces.exif.comment)), "")
    if name:
        yield _generator("exif:UserComment", name, GENERATOR)
    software = (traces.exif.software or "").lower()
    name = next((n for n in SOFTWARE_TRACES if n.lower() in software), "")
    if name:
        yield _generator("exif:Software", name, SOFTWARE)


def _generator(origin: str, name: str, strength: float) -> Claim:
    return Claim("generator", origin, Direction.FAKE, strength, name)
