"""What a file claims about where it came from, as evidence rows.

A claim is a prior, never a label: metadata can be copied, edited and stripped. `detail` is made of
words that stand in this module, apart from the make and model of a camera; never a prompt, a name or
other text that a person wrote. Each claim is one row with a kind:

- c2pa: content credentials, their state and what they state;
- iptc: a digital source type or credit outside of them;
- generator: the marks that image generators leave;
- camera: make and model; camera-processing: what cameras add beside the picture;
- platform-trace: what a platform writes into all it serves. It tells nothing of edits.

IPTC digital source types: https://cv.iptc.org/newscodes/digitalsourcetype/.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from curate.probe.c2pa import Credentials, Relation, State, Statement
from curate.probe.iptc import Iptc
from curate.probe.metadata import Exif
from curate.probe.traces import Traces
from curate.probe.xmp import Xmp
from schemas.labels import Direction
from schemas.records import Image


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of a file about itself."""

    kind: str
    origin: str
    direction: Direction
    strength: float
    detail: str


FAKE, REAL, NEITHER = Direction.FAKE, Direction.REAL, Direction.NEITHER

GENERATOR, SOFTWARE, CREDIT = 0.95, 0.8, 0.8
"""Parameters of a generator are long and exact, nobody has them by chance; a name can be typed in."""

CAMERA, CAMERA_NAME_ONLY, MAKER_NOTE = 0.3, 0.2, 0.2
"""EXIF is copied onto generated pictures by a single command, so a camera in it says little."""

SOURCE_TYPES: dict[str, tuple[Direction, float]] = {
    "trainedAlgorithmicMedia": (FAKE, 0.9),
    "compositeWithTrainedAlgorithmicMedia": (FAKE, 0.6),
    "algorithmicMedia": (FAKE, 0.6),
    "compositeSynthetic": (FAKE, 0.5),
    "digitalCapture": (REAL, 0.5),
    "computationalCapture": (REAL, 0.5),
    "negativeFilm": (REAL, 0.5),
    "positiveFilm": (REAL, 0.5),
    "print": (REAL, 0.4),
    "algorithmicallyEnhanced": (NEITHER, 0.0),
    "composite": (NEITHER, 0.0),
    "compositeCapture": (NEITHER, 0.0),
    "dataDrivenMedia": (NEITHER, 0.0),
    "digitalArt": (NEITHER, 0.0),
    "digitalCreation": (NEITHER, 0.0),
    "humanEdits": (NEITHER, 0.0),
    "minorHumanEdits": (NEITHER, 0.0),
    "screenCapture": (NEITHER, 0.0),
    "softwareImage": (NEITHER, 0.0),
    "virtualRecording": (NEITHER, 0.0),
}
"""What each IPTC digital source type speaks for, and how strongly in XMP, where anyone can write it.

Capture counts less than generation: there is much to gain from calling a generated picture a photo
and little from the reverse. Other words are not repeated.
"""

SIGNED_SOURCE_TYPES: dict[str, tuple[Direction, float]] = {
    **SOURCE_TYPES,
    "trainedAlgorithmicMedia": (FAKE, 0.99),
    "compositeWithTrainedAlgorithmicMedia": (FAKE, 0.75),
    "digitalCapture": (REAL, 0.95),
    "computationalCapture": (REAL, 0.9),
}
"""The same words in a manifest that holds and whose signer is trusted."""

STATE_WEIGHTS: dict[State, dict[Direction, float]] = {
    State.VALID: {FAKE: 1.0, REAL: 1.0},
    State.UNTRUSTED: {FAKE: 0.9, REAL: 0.3},
    State.PRESENT: {FAKE: 0.85, REAL: 0.2},
    State.INVALID: {FAKE: 0.6, REAL: 0.0},
}
"""How much of that strength is left in each state of the manifest.

Untrusted: the bytes are as signed, but anyone can sign with a certificate of their own; who wants to
deceive signs a capture, hardly a generation. Present: not even the bytes were checked. Invalid: the
picture was changed afterwards, so a capture proves nothing of it; a generated one mostly stays so.
"""

RELATION_WEIGHTS: dict[Relation, float] = {
    Relation.MADE: 1.0,
    Relation.CHANGED: 0.7,
    Relation.PARENT: 0.7,
    Relation.COMPONENT: 0.3,
    Relation.INPUT: 0.0,
}
"""And in each relation to this picture: a part of it or an input to it says less, or nothing."""

PROGRAMS: tuple[tuple[str, str, Direction], ...] = (
    ("chatgpt", "OpenAI", FAKE),
    ("openai", "OpenAI", FAKE),
    ("gpt-4o", "OpenAI", FAKE),
    ("gpt-image-1", "OpenAI", FAKE),
    ("dall-e", "OpenAI", FAKE),
    ("dall·e", "OpenAI", FAKE),
    ("firefly", "Adobe Firefly", FAKE),
    ("midjourney", "Midjourney", FAKE),
    ("stability ai", "Stability AI", FAKE),
    ("stable diffusion", "Stable Diffusion", FAKE),
    ("black forest labs", "Black Forest Labs", FAKE),
    ("bing image creator", "Microsoft", FAKE),
    ("microsoft designer", "Microsoft", FAKE),
    ("google generative ai", "Google generative AI", FAKE),
    ("google imagen", "Google generative AI", FAKE),
    ("google gemini", "Google generative AI", FAKE),
    ("photoshop", "Adobe Photoshop", NEITHER),
    ("lightroom", "Adobe Lightroom", NEITHER),
    ("leica", "Leica camera", REAL),
    ("nikon", "Nikon camera", REAL),
    ("sony", "Sony camera", REAL),
    ("canon", "Canon camera", REAL),
    ("pixel camera", "Pixel Camera", REAL),
)
"""Words in the names of programs in manifests, in lower case; how we call it; what it speaks for."""

WORDS = re.compile(r"[\s_/;,()]+")
"""What stands between the words of a name."""

PROGRAM = 0.6
"""A program's name beside the source type: full strength only of the latter."""


def _has(*words: str) -> Callable[[str], bool]:
    return lambda text: any(word in text for word in words)


def _both(*words: str) -> Callable[[str], bool]:
    return lambda text: all(word in text for word in words)


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None


def _json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


STEPS = re.compile(r"\bSteps: \d{1,5}, ")
LONGEST_LINE = 4000
"""Characters after the number of steps in which the other settings stand."""

MOST_LINES = 8


def _sampling(*words: str) -> Callable[[str], bool]:
    """Settings as AUTOMATIC1111 writes them: steps, then a sampler, and then all of `words`.

    Looked for without a backtracking pattern, which hostile text could make run for hours.
    """
    wanted = ("Sampler: ", *words)

    def fits(text: str) -> bool:
        starts = [match.end() for match in islice(STEPS.finditer(text), MOST_LINES)]
        lines = (text[start : start + LONGEST_LINE] for start in starts)
        return any(all(word in line for word in wanted) for line in lines)

    return fits


def _dream(text: str) -> bool:
    """The command line of old InvokeAI: a prompt in quotes, then options in both cases."""
    prompt, _, options = text.rpartition('"')
    return '"' in prompt and all(re.search(rf" -{o} ?\d", options[:4096]) for o in "sS")


JOB_ID = r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"

PARAMETERS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("Fooocus", _has('"adm_guidance"', "Version: Fooocus")),
    ("SwarmUI", _has('"sui_image_params"')),
    ("Civitai", _sampling("Civitai resources: [")),
    ("Forge", _sampling("Version: f")),
    ("SD.Next", _sampling("App: SD.Next")),
    ("AUTOMATIC1111 or compatible", _sampling()),
    ("NovelAI", _both('"sampler"', '"request_type"')),
    ("NovelAI", _both('"sampler"', '"uc"')),
    ("NovelAI", _both('"Software"', '"NovelAI"')),
    ("InvokeAI", _both('"app_version"', '"generation_mode"')),
    ("InvokeAI", _has('"invoke-ai/InvokeAI"', '"lstein/stable-diffusion"')),
    ("Easy Diffusion", _has('"use_stable_diffusion_model"')),
    ("ComfyUI", _both('"class_type"', '"inputs"')),
    ("ComfyUI", _both('"last_node_id"', '"nodes"')),
    ("Midjourney", _matches(JOB_ID)),
)
"""Generators by what their parameters look like, in whatever free text; the first match wins."""

TEXT_TRACES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("fooocus_scheme", "Fooocus", _matches(r"^(fooocus|a1111)$")),
    ("invokeai_metadata", "InvokeAI", _json),
    ("invokeai_graph", "InvokeAI", _json),
    ("invokeai_workflow", "InvokeAI", _json),
    ("sd-metadata", "InvokeAI", _json),
    ("Dream", "InvokeAI", _dream),
    ("Software", "NovelAI", _matches(r"^NovelAI$")),
    ("Source", "Stable Diffusion", _matches(r"^(?:NovelAI|Stable) Diffusion\b")),
    ("use_stable_diffusion_model", "Easy Diffusion", _matches(".")),
    ("generation_data", "Tensor.Art", _both('"prompt"', '"models"')),
    ("generation_data", "Tensor.Art", _both('"prompt"', '"samplerName"')),
)
"""PNG text keyword, generator that writes it, what its value looks like; the first match wins."""

PARAMETER_KEYS = (
    "parameters", "prompt", "workflow", "Comment", "Description", "UserComment", "generation_data",
)  # fmt: skip
"""PNG text keywords whose value is held against `PARAMETERS`."""

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
    "SwarmUI",
)
"""Generators that name themselves as the software, at the beginning of its name."""

CREDITS: dict[str, tuple[str, float]] = {
    "made with google ai": ("Made with Google AI", CREDIT),
    "edited with google ai": ("Edited with Google AI", 0.6),
}
"""Credit lines, whole and in lower case, that tools write by themselves."""


STEALTH = {
    "stealth_pnginfo": ("RGBA", False),
    "stealth_pngcomp": ("RGBA", True),
    "stealth_rgbinfo": ("RGB", False),
    "stealth_rgbcomp": ("RGB", True),
}
"""Marks that generators hide in the lowest bits: mode of the pictures, and whether gzip follows."""

MARK_BITS = 8 * len("stealth_pnginfo")
MOST_HIDDEN = 8 << 18
"""Bits of a hidden text that are read."""


def find_stealth(image: Pillow.Image) -> tuple[str, str] | None:
    """Where a hidden mark of a generator begins and the text after it; None without a mark.

    The text is in the lowest bits, read column by column: the mark, 32 bits that say how many follow,
    and parameters, which so survive where text chunks are expected to be stripped
    (https://github.com/neggles/sd-webui-stealth-pnginfo).
    """
    if image.mode not in ("RGB", "RGBA"):
        return None
    mark = np.packbits(_lowest_bits(image, MARK_BITS)).tobytes().decode("latin-1")
    mode, packed = STEALTH.get(mark, ("", False))
    if mode != image.mode:
        return None
    return ("alpha" if mode == "RGBA" else "rgb"), _hidden_text(image, packed)


def _lowest_bits(image: Pillow.Image, count: int) -> NDArray[np.uint8]:
    """The first `count` of the lowest bits, (count,), column by column."""
    bands = 1 if image.mode == "RGBA" else 3
    columns = -(-count // (image.height * bands))
    corner = np.asarray(image.crop((0, 0, min(columns, image.width), image.height)), np.uint8)
    return (corner[..., -bands:] & np.uint8(1)).swapaxes(0, 1).reshape(-1)[:count]


def _hidden_text(image: Pillow.Image, packed: bool) -> str:
    head = _lowest_bits(image, MARK_BITS + 32)[MARK_BITS:]
    length = min(int.from_bytes(np.packbits(head).tobytes()), MOST_HIDDEN)
    body = np.packbits(_lowest_bits(image, MARK_BITS + 32 + length)[MARK_BITS + 32 :]).tobytes()
    if packed:
        try:
            body = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, MOST_HIDDEN // 8)
        except zlib.error:
            return ""
    return body.decode("utf-8", "replace")


def claims(traces: Traces, facts: Image) -> Iterator[Claim]:
    """Every claim, at most one per kind and origin."""
    yield from _unique(_all(traces, facts))


def _unique(found: Iterable[Claim]) -> Iterator[Claim]:
    """The first of each kind and origin."""
    seen: set[tuple[str, str]] = set()
    for claim in found:
        if (claim.kind, claim.origin) not in seen:
            seen.add((claim.kind, claim.origin))
            yield claim


def _all(traces: Traces, facts: Image) -> Iterator[Claim]:
    yield from _camera(traces)
    yield from _generators(traces)
    if traces.xmp is not None:
        yield from _packet(traces.xmp)
    if traces.credentials is not None:
        yield from _credentials(traces.credentials)
    if traces.iptc is not None:
        yield from _block(traces.iptc)
    if served_like_x(traces, facts):
        detail = "as X serves: progressive, 4:2:0, IJG quality 85, no metadata"
        yield Claim("platform-trace", "jpeg:structure", NEITHER, 0.0, detail)


def _camera(traces: Traces) -> Iterator[Claim]:
    exif = traces.exif
    name = " ".join(filter(None, (exif.make, exif.model)))
    if name:
        strength = CAMERA if exif.exposure else CAMERA_NAME_ONLY
        exposure = "with" if exif.exposure else "without"
        detail = f"{name}, {exposure} exposure"
        yield Claim("camera", "exif:Make,Model", REAL, strength, detail)
    if name and exif.maker_note:
        detail = "maker note"
        yield Claim("camera-processing", "exif:MakerNote", REAL, MAKER_NOTE, detail)
    marks = (*traces.camera, *(traces.xmp.camera if traces.xmp else ()))
    for mark in marks:  # editors and platforms keep these or write them anew
        yield Claim("camera-processing", f"file:{mark}", NEITHER, 0.0, mark)


def _generators(traces: Traces) -> Iterator[Claim]:
    texts = traces.texts or {}
    for key, name, fits in TEXT_TRACES:
        if key in texts and fits(texts[key]):
            yield _generator(f"png:{key}", name, GENERATOR)
    for origin, text in _free_texts(traces):
        name = next((n for n, fits in PARAMETERS if fits(text)), "")
        if name:
            yield _generator(origin, name, GENERATOR)
    if traces.stealth:
        where, text = traces.stealth
        name = next((n for n, fits in PARAMETERS if fits(text)), "stealth PNG info")
        yield _generator(f"pixels:{where} lowest bits", name, GENERATOR)
    for origin, text in _software(traces):
        said = text.strip().lower()
        name = next((n for n in SOFTWARE_TRACES if said.startswith(n.lower())), "")
        if name:
            yield _generator(origin, name, SOFTWARE)


def _free_texts(traces: Traces) -> Iterator[tuple[str, str]]:
    texts = traces.texts or {}
    yield from ((f"png:{key}", texts[key]) for key in PARAMETER_KEYS if key in texts)
    yield from ((f"exif:{name}", text) for name, text in traces.exif.texts)
    yield from traces.comments
    if traces.xmp is not None:
        yield from (("xmp:text", text) for text in traces.xmp.get("text"))


def _software(traces: Traces) -> Iterator[tuple[str, str]]:
    yield "exif:Software", traces.exif.software or ""
    yield "png:Software", (traces.texts or {}).get("Software", "")[:256]
    if traces.xmp is not None:
        yield from (("xmp:CreatorTool", tool) for tool in traces.xmp.get("tool"))
    if traces.iptc is not None:
        yield "iptc:OriginatingProgram", traces.iptc.program


def _generator(origin: str, name: str, strength: float) -> Claim:
    return Claim("generator", origin, FAKE, strength, name)


def _packet(xmp: Xmp) -> Iterator[Claim]:
    for name in (n for n in xmp.source_types if n in SOURCE_TYPES):
        direction, strength = SOURCE_TYPES[name]
        yield Claim("iptc", f"xmp:DigitalSourceType/{name}", direction, strength, name)
    yield from _credit("xmp:Credit", xmp.get("credit"))
    if xmp.get("provenance"):
        detail = "present elsewhere: the file names a place, which is not asked"
        yield Claim("c2pa", "xmp:provenance", NEITHER, 0.0, detail)


def _credit(origin: str, lines: Iterable[str]) -> Iterator[Claim]:
    for line in lines:
        known = CREDITS.get(line.strip().lower())
        if known:
            yield Claim("iptc", origin, FAKE, known[1], known[0])


def _block(iptc: Iptc) -> Iterator[Claim]:
    yield from _credit("iptc:Credit", [iptc.credit])
    if iptc.meta:
        detail = "Meta (FBMD in the IPTC instructions): Facebook or Instagram served it"
    elif iptc.only_machine_fields:
        detail = "a bare APP13 block, as Instagram and others write; no trace of an editor"
    else:
        return
    yield Claim("platform-trace", "jpeg:APP13", NEITHER, 0.0, detail)


def served_like_x(traces: Traces, facts: Image) -> bool:
    """Whether a JPEG is built as X serves them, without anything beside the picture.

    Of 850 media files in three public X archives 97 % were progressive, 99 % 4:2:0 and 78 % of
    exactly IJG quality 85. Others can write such files, too.
    """
    built = facts.jpeg_progressive is True and facts.jpeg_subsampling == "4:2:0"
    qualities = (facts.jpeg_quality_luma, facts.jpeg_quality_chroma)
    tables = facts.jpeg_family == "ijg" and facts.jpeg_exact is True and qualities == (85, 85)
    return built and tables and _bare(traces)


def _bare(traces: Traces) -> bool:
    beside = (traces.xmp, traces.iptc, traces.credentials)
    return traces.exif == Exif() and not any(beside) and not traces.comments and not traces.camera


def _credentials(found: Credentials) -> Iterator[Claim]:
    """The state, then every source type and known program that the manifest states."""
    yield Claim("c2pa", found.where, NEITHER, 0.0, f"{found.state}: {found.why}")
    strongest = sorted(found.statements, key=lambda s: -RELATION_WEIGHTS[s.relation])
    for statement in strongest:
        claim = _stated(found, statement)
        if claim is not None:
            yield claim


def _stated(found: Credentials, statement: Statement) -> Claim | None:
    """One statement as a claim; None if it is in no word we know."""
    said = f"{found.state}, {RELATION_WORDS[statement.relation]}"
    if statement.source_type in SIGNED_SOURCE_TYPES:
        name = statement.source_type
        direction, strength = SIGNED_SOURCE_TYPES[name]
        origin, detail = f"{found.where}/DigitalSourceType/{name}", f"{name} ({said})"
    else:
        asked = WORDS.sub(" ", (statement.program or "").lower())
        known = next((p for p in PROGRAMS if f" {p[0]} " in f" {asked} "), None)
        if known is None:
            return None
        _, name, direction = known
        origin, detail, strength = f"{found.where}/program/{name}", f"{name} ({said})", PROGRAM
    strength *= (
        STATE_WEIGHTS[found.state].get(direction, 0.0) * RELATION_WEIGHTS[statement.relation]
    )
    return Claim("c2pa", origin, direction if strength else NEITHER, round(strength, 2), detail)


RELATION_WORDS = {
    Relation.MADE: "how it was made",
    Relation.CHANGED: "how it was changed",
    Relation.PARENT: "what it was made from",
    Relation.COMPONENT: "a part of it",
    Relation.INPUT: "an input to it",
}
