"""The whole policy of a workspace, as `wildrf.toml` states it: one typed, validated, immutable object.

`parse_policy` turns the text into a `Policy`; a mistake is named with its line. Every default below is
what `wildrf init` writes with a comment.
"""

import math
import re
import tomllib
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from schemas.errors import PolicyError
from schemas.labels import Role

STRICT = ConfigDict(extra="forbid", strict=False)
FINITE = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
"""As `STRICT`, for what goes on record as JSON, which has neither infinity nor NaN."""


def word(pattern: str, expected: str) -> AfterValidator:
    """Holds text to `pattern`; who writes something else is told what was `expected`, not the pattern."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise PydanticCustomError("word", "Input should be {expected}", {"expected": expected})
        return text

    return AfterValidator(check)


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


TagSource = Literal["hashtag", "community", "flair", "title", "text"]


Criterion = Literal["fidelity", "provenance", "earliest"]


@dataclass(frozen=True, slots=True)
class PlatformPolicy:
    """What one platform is for: `train` images may be trained on, `held-out` ones only test.

    `tag_sources` is where tag rules look on this platform, unless a rule says so itself.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    role: Role = Role.HELD_OUT
    tag_sources: tuple[TagSource, ...] | None = None


@dataclass(frozen=True, slots=True)
class TagRule:
    """A prior, never a label: a post with one of these tags is likely real, or likely fake.

    `sources` None means those of the post's platform; no `platforms` means all of them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    direction: Literal["real", "fake"]
    any: tuple[str, ...]
    none: tuple[str, ...] = ()
    sources: tuple[TagSource, ...] | None = None
    platforms: tuple[Name, ...] = ()
    strength: Fraction = 0.5


@dataclass(frozen=True, slots=True)
class CollectPolicy:
    """What of an export is kept.

    With `only_tagged`, posts that meet a tag rule and no others; with `comments`, also the pictures in
    comments under a post, each as a post of its own.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    only_tagged: bool = False
    comments: bool = False


@dataclass(frozen=True, slots=True)
class PrivacyPolicy:
    """Whose wish to be left out is honoured.

    With `honour_opt_out`, a post whose platform carries such a mark, or that has one of `opt_out_tags`,
    is recorded without its text and its author, and never fetched.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    honour_opt_out: bool = True
    opt_out_tags: tuple[str, ...] = ("noai", "noaitraining", "noimageai", "nobot", "nobots")


@dataclass(frozen=True, slots=True)
class MappedImport:
    """A table or JSON lines of any other origin: which column holds what.

    `columns` maps a field of a post (post_id, url or file, author, created_at, title, text, hashtags,
    community, alt, permalink, sensitive, language, score, repost_of) to a column of the table, or to a
    path `a.b.0` inside a JSON record. `match` is a glob of file names; `time` is how created_at is
    written: iso, seconds, milliseconds or a strptime pattern; `zone` the offset of times without one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    platform: Name
    match: str
    columns: dict[str, str]
    time: str = "iso"
    zone: str = "+00:00"
    separator: str = ","


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """How media is brought home.

    At most `per_host` downloads run at once from one host, and each new one waits `host_pause_s` after
    the one before. One picture under `placeholder_posts` posts of different authors, none a repost of
    another, is suspected to stand for missing ones (0: never). `mirrors` maps a host to a base URL or a
    folder that holds its files, for work without a network;
    only an address named there may be private.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    total_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    max_bytes: Positive = 100_000_000
    workers: Positive = 16
    per_host: Positive = 8
    host_pause_s: Annotated[float, Field(ge=0)] = 0.0
    attempts: Positive = 3
    placeholder_posts: Annotated[int, Field(ge=0)] = 5
    user_agent: str = "wildrf (research; contact the operator of this workspace)"
    mirrors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """Limits on what is decoded: larger images are recorded as bombs, slower ones with the time they had."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    max_pixels: Positive = 178_956_970
    max_seconds: Annotated[float, Field(gt=0)] = 20.0
    trust_anchors: str = ""


@dataclass(frozen=True, slots=True)
class DedupePolicy:
    """When two images are the same picture, and which of them stands for it.

    `distance_bits` is the Hamming distance of their 64-bit pHash; a match whose score is below `verified`
    joins nothing. `canonical` is asked in order: fidelity (pixels, then lossless or JPEG quality, then
    bytes), provenance (the strongest claim of origin in the file), earliest (first post).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    distance_bits: Annotated[int, Field(ge=0, le=16)] = 8
    verified: Fraction = 0.5
    canonical: tuple[Criterion, ...] = ("fidelity", "provenance", "earliest")


@dataclass(frozen=True, slots=True)
class LabelingPolicy:
    """Who decides what an image is. The API key comes from LABEL_STUDIO_API_KEY, never from this file.

    `imports` are Label Studio JSON exports that `wildrf run` reads (globs, relative to the workspace).
    Images are shown from `document_root`, the folder that the server was started with as
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, or by any web server that serves the media folder at
    `image_base_url`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    url: str = "http://127.0.0.1:8080"
    project: Annotated[str, Field(min_length=3, max_length=50)] = "wildrf"
    annotators_per_image: Positive = 2
    imports: tuple[str, ...] = ()
    document_root: str | None = None
    image_base_url: str | None = None
    min_votes: Positive = 1
    min_agreement: Fraction = 0.6


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """How groups are placed. `social` is the paper's: train on the platforms with that role, test on all."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    protocol: Literal["social"] = "social"
    salt: str = "wildrf"
    val_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.3
    by_author: bool = True
    check_distance_bits: Annotated[int, Field(ge=0, le=16)] = 8


@dataclass(frozen=True, slots=True)
class GatesPolicy:
    """Where a command says no with exit code 1."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    shortcut_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.60


Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
"""Least and most of what is drawn."""


@dataclass(frozen=True, slots=True)
class AugmentPolicy:
    """How often a training window is treated as media on their way through platforms are, and how hard.

    Each treatment has its own chance; strengths are drawn evenly between the two bounds: qualities of
    encoders in 1 to 100, `resize_factor` of the sides (from what leaves the side of a window on), `blur_px`
    and `noise_levels` as standard deviations in pixels and in grey levels. The defaults do nothing, as the
    paper.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    resize: Fraction = 0.0
    resize_factor: Range = (0.5, 1.5)
    blur: Fraction = 0.0
    blur_px: Range = (0.2, 1.5)
    noise: Fraction = 0.0
    noise_levels: Range = (1.0, 6.0)
    webp: Fraction = 0.0
    webp_quality: Range = (40, 95)
    jpeg: Fraction = 0.0
    jpeg_quality: Range = (50, 95)


DETECTOR = word(
    r"[a-z0-9][a-z0-9_-]*",
    "ladeda5, ladeda9, ladeda17, ladeda33, tiny-ladeda, or one that another package adds",
)
POOLING = word(r"mean|max|top[1-9]\d?", "mean, max, or top1 to top99")
DEVICE = word(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N")


def _unlimited(minutes: object) -> object:
    return None if minutes == math.inf else minutes


Minutes = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_unlimited)]
"""None and infinity are no limit."""


@dataclass(frozen=True, slots=True)
class TrainPolicy:
    """The training recipe; defaults are the paper's (arXiv 2406.09398).

    An epoch draws `windows` crops of each image. With `balance`, classes, and platforms within them, are
    drawn equally often; the sources of a mixed set share each class by their weights. With `labels`
    "posterior", what annotators agree on less counts less. `average` is the decay of the running mean of
    weights that is validated and kept; 0 keeps the weights themselves. `fit` "whole" looks at every pixel as
    it is. `pooling` "topN" is the mean of the highest N % of patch logits. `cache_gib` bounds what is kept
    of pictures on disk. In distillation a student sees its `patches` each alone, or as they lie in a window;
    it learns the logit that the teacher gives an image, and what part of the differences `within` it; if
    `centred`, from where the teacher is halfway between both classes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    detector: Annotated[str, DETECTOR] = "ladeda9"
    size: Positive = 256
    crop: Positive = 224
    batch: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    epochs: Positive = 100
    patience: Positive = 5
    seed: Annotated[int, Field(ge=0)] = 0
    min_learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    representation: Literal["raw", "NPR", "x_grad", "y_grad", "left_diag", "right_diag"] | None = (
        None  # None: the detector's own
    )
    representation_scale: Annotated[float, Field(gt=0)] = 1.0
    fit: Literal["stretch", "crop", "native", "whole"] = "stretch"
    pooling: Annotated[str, POOLING] = "mean"
    norm_warmup: bool = True
    windows: Positive = 1
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patches: Literal["alone", "window"] = "alone"
    within: Annotated[float, Field(ge=0, le=1)] = 1.0
    centred: bool = False
    balance: Literal["none", "class", "class-platform"] = "none"
    labels: Literal["hard", "posterior"] = "hard"
    augment: AugmentPolicy = field(default_factory=AugmentPolicy)
    compile: bool = False
    workers: Positive = 4
    device: Annotated[str, DEVICE] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    max_minutes: Minutes = None
    cache_gib: Annotated[float, Field(ge=0)] = 16.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a workspace is run by.

    `exports` are the paths `wildrf run` collects (globs, relative to the workspace); `release` is the
    name it gives to what comes out. `imports` teach `wildrf collect` further formats. `simulated` says that a
    program made the images: it goes into releases and runs, and every page and number says so.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    simulated: bool = False
    media: str = "media"
    exports: tuple[str, ...] = ()
    release: Name = "v1"
    platforms: dict[Name, PlatformPolicy] = field(default_factory=dict)
    tags: tuple[TagRule, ...] = ()
    imports: tuple[MappedImport, ...] = ()
    collect: CollectPolicy = field(default_factory=CollectPolicy)
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    fetch: FetchPolicy = field(default_factory=FetchPolicy)
    probe: ProbePolicy = field(default_factory=ProbePolicy)
    dedupe: DedupePolicy = field(default_factory=DedupePolicy)
    labeling: LabelingPolicy = field(default_factory=LabelingPolicy)
    split: SplitPolicy = field(default_factory=SplitPolicy)
    gates: GatesPolicy = field(default_factory=GatesPolicy)
    train: TrainPolicy = field(default_factory=TrainPolicy)


def parse_policy(text: str, name: str = "wildrf.toml") -> Policy:
    """The policy that `text` states.

    Raises:
        PolicyError: naming the line, what was found there and what was expected.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name} is not valid TOML: {error}; mend that line") from None
    try:
        return TypeAdapter(Policy).validate_python(raw)
    except ValidationError as error:
        raise PolicyError(_explain(error, text, name)) from None


def _explain(error: ValidationError, text: str, name: str) -> str:
    """One line for the first mistake, and how many more there are."""
    mistakes = error.errors(include_url=False)
    first = mistakes[0]
    path = tuple(first["loc"])
    line = find_line(text, path)
    where = f"{name} line {line}" if line else name
    key = ".".join(str(part) for part in path)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{where}: {_problem(first, key)}{more}"


def _problem(mistake: Any, key: str) -> str:
    if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {key}; remove it or see the comments that `wildrf init` writes"
    if mistake["type"] in ("missing", "missing_argument"):
        return f"{key} is missing; add it"
    return f"{key} is {mistake['input']!r}; {mistake['msg'][:1].lower()}{mistake['msg'][1:]}"


_HEADER = re.compile(r"^\s*\[(\[)?\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+?)\s*=")


def find_line(text: str, path: tuple[int | str, ...]) -> int | None:
    """The 1-based line on which the key at `path` stands, or its nearest table header."""
    best: tuple[int, int] | None = None  # (depth matched, line)
    for number, here in _keys(text):
        depth = len(here)
        if here == path[:depth] and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _keys(text: str) -> list[tuple[int, tuple[int | str, ...]]]:
    """Each table header and key with its line; arrays of tables are numbered from 0."""
    found: list[tuple[int, tuple[int | str, ...]]] = []
    table: tuple[int | str, ...] = ()
    count: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1]:
                index = count[header[2]] = count.get(header[2], -1) + 1
                table = (*table, index)
            found.append((number, table))
        elif key := _KEY.match(line):
            found.append((number, table + _parts(key[1])))
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
