"""Every picture decoded once, every rendition rendered once, every distinct rendition scored once.

Renditions are made in memory, from decoded pixels; files are only read. A picture and its renditions
live until they are scored, and a few pictures are in work at a time, so memory does not grow with the
set. Renditions of one picture that come out alike, pixel for pixel, are scored once.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.labels import Label
from train.artifacts import open_run_folder, skipped_rows, write_json
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute, code_versions
from train.data import EVAL_BATCH, Skipped, find_images, quiet_decoder
from train.evaluate import choose_test
from train.simulated import is_simulated
from train.stress import metrics_of
from train.stress.plan import (
    AS_IT_IS,
    NATIVE,
    Condition,
    Facts,
    Picture,
    Plan,
    Rival,
    Scores,
    StressTest,
)
from train.stress.pooling import pools
from train.stress.sample import (
    describe_sample,
    in_batches,
    open_image,
    stratified,
    survey,
    why,
)
from train.transforms import Preprocessing, normalise, to_batch, to_pixels, to_rgb

FORMAT = "wildrf-stress/1"

AHEAD = 3
"""Pictures rendered ahead of the detector, per worker."""

OnImage = Callable[[int, int], None]
Pixels = NDArray[np.uint8]


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
class Rendered:
    """One picture: distinct renditions (H, W, 3), and which of them each condition is.

    `rivals` are the native picture as other checkpoints are fed it. `error` says why there is nothing.
    """

    index: int
    pixels: tuple[Pixels, ...]
    rows: dict[str, int]
    rivals: tuple[Pixels, ...]
    error: str | None = None


def stress(
    checkpoint: Path,
    root: Path,
    tests: Sequence[StressTest],
    *,
    against: Sequence[Path] = (),
    out: Path | None = None,
    options: Options | None = None,
    on_image: OnImage | None = None,
) -> dict[str, Any]:
    """What `tests` find of `checkpoint` on the test images of `root`.

    Args:
        checkpoint: ours, or a published state dict.
        root: a set with test/<platform>/..., or any folder with 0_real and 1_fake leaves.
        tests: entries of `train.stress.TESTS`.
        against: further checkpoints, for the tests that compare.
        out: where to leave stress.json; nothing is written if None.
        options: sample, seed, draws, device.
        on_image: called with (images done, images in all).

    Returns:
        {format, checkpoint, preprocessing, against, data: {root, sample, skipped}, parameters,
        versions, tests: {name: {title, source, figure, ...what the test measures}}}.

    Raises:
        CheckpointError: if a checkpoint cannot be used.
        InputError: if `root` has not both classes, or a test lacks what it needs.
    """
    options = options or Options()
    loaded = load_detector(checkpoint)
    others = [(path, load_detector(path)) for path in against]
    _require(tests, others)
    compute = choose_compute(options.device, "float32", loaded.spec)
    items = choose_test(find_images(root))
    images, skipped = survey(
        root, stratified(items, options.max_images, options.seed), workers=options.workers
    )
    _require_both(root, images)
    plan = Plan(images, loaded.preprocessing, options.seed)
    scores, broken = score(
        plan, root, loaded, tests, name_of(checkpoint), others, compute, options, on_image
    )
    result = {
        "format": FORMAT,
        "checkpoint": _describe(checkpoint, loaded),
        "preprocessing": _prepared(loaded),
        "against": [_describe(path, other) for path, other in others],
        "data": {
            "root": str(root),
            "images_digest": _fingerprint(scores.images),
            "sample": describe_sample(scores.images, items),
            "skipped": skipped_rows([*skipped, *broken]),
        },
        "parameters": _parameters(options, tests),
        "simulated": is_simulated(root, checkpoint),
        "versions": code_versions(),
        "tests": {test.name: _told(test) | test.measure(scores) for test in tests},
    }
    if out is not None:
        open_run_folder(out)
        write_json(out / "stress.json", result)
    return result


def _require(tests: Sequence[StressTest], others: Sequence[Any]) -> None:
    lacking = [test.name for test in tests if "rivals" in test.needs and not others]
    if lacking:
        raise InputError(
            f"{', '.join(lacking)} compares checkpoints and found one; "
            "expected more; name them with --against CKPT"
        )


def _require_both(root: Path, images: Sequence[Facts]) -> None:
    for label in Label:
        if not any(facts.label is label for facts in images):
            raise InputError(
                f"{root} has no usable {label.name.lower()} image to test with; expected both "
                f"classes; add images under {label.folder}"
            )


def conditions_of(plan: Plan, tests: Sequence[StressTest]) -> list[Condition]:
    """What is rendered: the native picture, and each key that a test asks for once, at its widest."""
    asked: dict[str, Condition] = {NATIVE: AS_IT_IS}
    for test in tests:
        for condition in test.conditions(plan):
            known = asked.get(condition.key, condition)
            same = known.only is condition.only
            limits = (known.limit, condition.limit)
            asked[condition.key] = replace(
                known,
                only=known.only if same else None,
                limit=None if None in limits else max(n for n in limits if n is not None),
            )
    return list(asked.values())


def score(
    plan: Plan,
    root: Path,
    loaded: LoadedDetector,
    tests: Sequence[StressTest],
    name: str,
    others: Sequence[tuple[Path, LoadedDetector]],
    compute: Compute,
    options: Options,
    on_image: OnImage | None = None,
) -> tuple[Scores, list[Skipped]]:
    """Score every condition of `tests` on every picture of `plan`; and what does not decode."""
    conditions = conditions_of(plan, tests)
    patches = any("patches" in test.needs for test in tests)
    for one in (loaded, *(other for _, other in others)):
        compute.place(one.model)
    rows: list[tuple[Facts, dict[str, float], dict[str, float], list[float]]] = []
    broken: list[Skipped] = []
    rendered = render_all(plan, root, conditions, [o.preprocessing for _, o in others], options)
    for done, found in enumerate(rendered, start=1):
        facts = plan.images[found.index]
        if found.error is not None:
            broken.append(Skipped(facts.path, found.error))
        else:
            rows.append((facts, *_scored(found, loaded, others, compute, options.batch, patches)))
        if on_image is not None:
            on_image(done, len(plan.images))
    images = tuple(row[0] for row in rows)
    _require_both(root, images)
    return Scores(
        plan=plan,
        name=name,
        loaded=loaded,
        images=images,
        logits=_columns([row[1] for row in rows]),
        pooled=_columns([row[2] for row in rows]),
        rivals=tuple(
            Rival(name_of(path), other, np.array([row[3][k] for row in rows]))
            for k, (path, other) in enumerate(others)
        ),
        draws=options.draws,
    ), broken


def _columns(rows: list[dict[str, float]]) -> dict[str, NDArray[np.float64]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: np.array([row.get(key, np.nan) for row in rows]) for key in keys}


def _scored(
    found: Rendered,
    loaded: LoadedDetector,
    others: Sequence[tuple[Path, LoadedDetector]],
    compute: Compute,
    batch: int,
    patches: bool,
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Logits by condition, native logits by pooling, and those of the other checkpoints."""
    logits = logits_of(loaded, found.pixels, compute, batch)
    if not np.isfinite(logits).all():
        raise InputError(
            "the detector gives a logit that is no number; expected finite ones; train it again"
        )
    pooled = pools(_patches(loaded, found.pixels[found.rows[NATIVE]], compute)) if patches else {}
    rivals = [
        float(logits_of(other, [pixels], compute, batch)[0])
        for (_, other), pixels in zip(others, found.rivals, strict=True)
    ]
    return {key: float(logits[row]) for key, row in found.rows.items()}, pooled, rivals


def logits_of(
    loaded: LoadedDetector, pixels: Sequence[Pixels], compute: Compute, batch: int
) -> NDArray[np.float64]:
    """The image logit of each preprocessed picture (H, W, 3), (N,); those of one size together."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, one in enumerate(pixels):
        sizes.setdefault(one.shape, []).append(row)
    logits = np.empty(len(pixels))
    with torch.inference_mode(), compute.autocast():
        for rows in sizes.values():
            for chosen in in_batches(rows, batch):
                stacked = to_batch(np.stack([pixels[row] for row in chosen]))
                fed = normalise(stacked, loaded.preprocessing, compute.device)
                logits[chosen] = loaded.model(fed)[:, 0].double().cpu().numpy()
    return logits


def _patches(loaded: LoadedDetector, pixels: Pixels, compute: Compute) -> NDArray[np.float64]:
    with torch.inference_mode(), compute.autocast():
        fed = normalise(to_batch(pixels[None]), loaded.preprocessing, compute.device)
        found: NDArray[np.float64] = loaded.model.patch_logits(fed)[0].double().cpu().numpy()
    return found


def render_all(
    plan: Plan,
    root: Path,
    conditions: Sequence[Condition],
    others: Sequence[Preprocessing],
    options: Options,
) -> Iterator[Rendered]:
    """The renditions of every picture of `plan`, in order, a few pictures ahead of the caller."""
    workers = options.workers
    with quiet_decoder(), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Rendered]] = deque()
        try:
            for index in range(len(plan.images)):
                waiting.append(pool.submit(render_one, plan, root, index, conditions, others))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def render_one(
    plan: Plan,
    root: Path,
    index: int,
    conditions: Sequence[Condition],
    others: Sequence[Preprocessing] = (),
) -> Rendered:
    """Decode picture `index` and render what applies to it."""
    facts = plan.images[index]
    try:
        with open_image((root / facts.path).read_bytes()) as image:
            rgb = to_rgb(image, plan.preprocessing)
    except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
        return Rendered(index, (), {}, (), why(error))
    picture = Picture(index, facts, rgb, plan.seed)
    distinct: dict[bytes, int] = {}
    pixels: list[Pixels] = []
    rows: dict[str, int] = {}
    for condition in conditions:
        if condition.applies_to(picture):
            made = _fed(condition, picture, plan.preprocessing)
            row = distinct.setdefault(hashlib.sha256(made.tobytes()).digest(), len(pixels))
            if row == len(pixels):
                pixels.append(made)
            rows[condition.key] = row
    return Rendered(
        index, tuple(pixels), rows, tuple(np.array(to_pixels(rgb, other)) for other in others)
    )


def _fed(condition: Condition, picture: Picture, preprocessing: Preprocessing) -> Pixels:
    made = condition.render(picture)
    if condition.fit == "none":
        return np.array(made)
    if condition.fit is not None:
        preprocessing = replace(preprocessing, fit=condition.fit)
    return np.array(to_pixels(made, preprocessing))


def name_of(checkpoint: Path) -> str:
    """What a checkpoint is called in tables: its run folder, or its file."""
    return checkpoint.parent.name if checkpoint.name == "checkpoint.pt" else checkpoint.stem


def _told(test: StressTest) -> dict[str, Any]:
    return {"title": test.title, "source": test.source, "figure": test.figure}


def _describe(path: Path, loaded: LoadedDetector) -> dict[str, Any]:
    return {
        "path": str(path),
        "name": name_of(path),
        "sha256": loaded.digest,
        "detector": loaded.spec.name,
        "receptive_field": loaded.spec.receptive_field,
        "stride": loaded.spec.stride,
        "pooling": loaded.model.pooling,
    }


def _prepared(loaded: LoadedDetector) -> dict[str, Any]:
    own = loaded.preprocessing
    return {**own.to_dict(), "digest": own.digest, "source": loaded.preprocessing_source}


def _parameters(options: Options, tests: Sequence[StressTest]) -> dict[str, Any]:
    return {
        "tests": [test.name for test in tests],
        "max_images": options.max_images,
        "seed": options.seed,
        "draws": options.draws,
        "confidence": metrics_of.CONFIDENCE,
        "intervals": "percentile bootstrap over groups of copies, each class on its own, "
        "the same draws for every condition",
    }


def _fingerprint(images: Sequence[Facts]) -> str:
    rows = sorted(f"{facts.label.value} {facts.digest}" for facts in images)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
