"""Every distinct rendition scored once, a picture at a time: its logits are kept, its pixels are not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.labels import Label
from train.artifacts import name_of
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute
from train.data import EVAL_BATCH, Skipped
from train.pixels import Pixels
from train.stress.plan import NATIVE, Facts, Plan, Rival, Scores, StressTest
from train.stress.pooling import pools
from train.stress.render import Rendered, conditions_of, render_all
from train.tiles import patch_map, score_images

OnImage = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes; only `seed`, `max_images` and `draws` change a figure."""

    max_images: int | None = None
    seed: int = 0
    draws: int = 1000
    device: str = "auto"
    batch: int = EVAL_BATCH
    workers: int = 4


@dataclass(frozen=True, slots=True)
class Entrant:
    """A checkpoint that scores."""

    path: Path
    loaded: LoadedDetector

    @property
    def name(self) -> str:
        """What it is called in tables: its run folder, or its file."""
        return name_of(self.path)


@dataclass(frozen=True, slots=True)
class Bench:
    """The checkpoint under test, those it is compared with, and where all of them run."""

    own: Entrant
    rivals: tuple[Entrant, ...]
    compute: Compute
    batch: int = EVAL_BATCH

    def logits(self, entrant: Entrant, pixels: Sequence[Pixels]) -> NDArray[np.float64]:
        """The logit of each preprocessed picture (H, W, 3), (N,); large ones are scored in tiles.

        Raises:
            InputError: if one is no number.
        """
        loaded = entrant.loaded
        order = sorted(range(len(pixels)), key=lambda row: pixels[row].shape)  # one size, one batch
        alike = (pixels[row] for row in order)
        found = score_images(
            loaded.model, loaded.spec, alike, loaded.preprocessing, self.compute, self.batch
        )
        logits = np.empty(len(pixels))
        logits[np.array(order, dtype=np.intp)] = list(found)
        if not np.isfinite(logits).all():
            raise InputError(
                f"{entrant.path} gives a logit that is no number; expected finite ones; train it again"
            )
        return logits

    def pooled(self, pixels: Pixels) -> dict[str, float]:
        """The logit of a preprocessed picture under other poolings of its patch logits."""
        loaded = self.own.loaded
        found = patch_map(loaded.model, loaded.spec, pixels, loaded.preprocessing, self.compute)
        return pools(found.astype(np.float64))


def set_up(checkpoint: Path, against: Sequence[Path], options: Options) -> Bench:
    """Load the checkpoints.

    Raises:
        CheckpointError: if one cannot be used.
        InputError: if the device is not there.
    """
    own, *rivals = (Entrant(path, load_detector(path)) for path in (checkpoint, *against))
    compute = choose_compute(options.device, "float32", own.loaded.spec)
    for entrant in (own, *rivals):
        compute.place(entrant.loaded.model)
    return Bench(own, tuple(rivals), compute, options.batch)


def score(
    plan: Plan,
    root: Path,
    tests: Sequence[StressTest],
    bench: Bench,
    options: Options,
    on_image: OnImage | None = None,
) -> tuple[Scores, list[Skipped]]:
    """Score every condition of `tests` on every picture of `plan`; and what could not be rendered."""
    patches = any("patches" in test.needs for test in tests)
    others = [rival.loaded.preprocessing for rival in bench.rivals]
    conditions = conditions_of(plan, tests)
    rendered = render_all(plan, root, conditions, others, options.workers)
    kept: dict[int, Scored] = {}
    broken: list[Skipped] = []
    for done, (index, parts) in enumerate(groupby(rendered, key=attrgetter("index")), start=1):
        found = score_picture(parts, bench, patches)
        if isinstance(found, str):
            broken.append(Skipped(plan.images[index].path, found))
        else:
            kept[index] = found
        if on_image is not None:
            on_image(done, len(plan.images))
    return gathered(plan, bench, kept, root, options.draws), broken


@dataclass(slots=True)
class Scored:
    """One picture: its logits by condition, by pooling, and by rival."""

    logits: dict[str, float] = field(default_factory=dict)
    pooled: dict[str, float] = field(default_factory=dict)
    rivals: dict[str, float] = field(default_factory=dict)


def score_picture(parts: Iterable[Rendered], bench: Bench, patches: bool) -> Scored | str:
    """The logits of one picture, or why it has none."""
    known: dict[bytes, float] = {}
    found = Scored()
    for part in parts:
        if part.error is not None:
            return part.error
        new = [digest for digest in part.pixels if digest not in known]
        logits = bench.logits(bench.own, [part.pixels[digest] for digest in new])
        known.update(zip(new, logits.tolist(), strict=True))
        found.logits.update((key, known[digest]) for key, digest in part.digests.items())
        if patches and NATIVE in part.digests:
            found.pooled = bench.pooled(part.pixels[part.digests[NATIVE]])
        for number, pixels in enumerate(part.rivals):
            found.rivals[str(number)] = float(bench.logits(bench.rivals[number], [pixels])[0])
    return found


def gathered(plan: Plan, bench: Bench, kept: dict[int, Scored], root: Path, draws: int) -> Scores:
    """What was scored, as columns over the pictures."""
    images = tuple(plan.images[index] for index in kept)
    require_both(root, images)
    rows = list(kept.values())
    rivals = columns([row.rivals for row in rows])
    return Scores(
        plan=plan,
        name=bench.own.name,
        loaded=bench.own.loaded,
        images=images,
        logits=columns([row.logits for row in rows]),
        pooled=columns([row.pooled for row in rows]),
        rivals=tuple(Rival(r.name, r.loaded, rivals[str(k)]) for k, r in enumerate(bench.rivals)),
        draws=draws,
    )


def columns(rows: Sequence[dict[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Each key's values (N,), NaN where a row has none."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: np.array([row.get(key, np.nan) for row in rows]) for key in keys}


def require_both(root: Path, images: Sequence[Facts]) -> None:
    """Check that both classes are there.

    Raises:
        InputError: naming the class that is missing.
    """
    for label in Label:
        if not any(facts.label is label for facts in images):
            raise InputError(
                f"{root} has no usable {label.name.lower()} image to test with; expected both "
                f"classes; add images under {label.folder}"
            )
