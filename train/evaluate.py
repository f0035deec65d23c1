"""How well a checkpoint tells real from fake, per platform and in the mean, with intervals.

The protocol is WildRF's (https://arxiv.org/abs/2406.09398): accuracy at logit 0 and average
precision on each platform of test/ by itself, unseen ones included, then their unweighted mean; and
that of ForenSynths, where test/<generator>/<class>/{0_real,1_fake} is reported per generator. The
checkpoint's own preprocessing is used; a caller who expects another is refused. A calibration beside
the checkpoint is used, if it is of these weights.

What only curation knows of an image (file facts, copies in the training data) comes in as functions.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from schemas.errors import CheckpointError, InputError
from schemas.labels import Split
from schemas.layout import place
from train.artifacts import open_run_folder, skipped_rows, write_json, write_scores
from train.calibration import (
    Calibration,
    calibrate,
    calibration_path,
    read_calibration,
    write_calibration,
)
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute, code_versions
from train.data import EVAL_BATCH, Item, Skipped, as_text, decode, find_images
from train.intervals.draws import DRAWS
from train.measure import Asked, Leaks, measure
from train.metrics import Floats
from train.predict import Scored, score_files
from train.reencode import CommonFormat, rescore, unsaveable
from train.scores import (
    ONE_EACH,
    Foreign,
    ScoredSet,
    find_groups,
    join_foreign,
    read_foreign,
    shown_platform,
)
from train.simulated import is_simulated
from train.slices import ImageFacts
from train.transforms import Preprocessing
from train.validation import choose_train_val

MOST_SEEN = 0.05
"""Share of the images that may have set the threshold; with more of them, calibrated numbers flatter."""

FactsOf = Callable[[ScoredSet], Sequence[ImageFacts]]
LeaksOf = Callable[[ScoredSet, Mapping[str, Any]], Leaks | str | None]
"""From the images and the checkpoint's record to what was learnt from, or to why nobody looked."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller can tell of the images beside their scores, as functions of the scored set."""

    facts_of: FactsOf | None = None
    leaks_of: LeaksOf | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scored test images, those that could not be scored, and what scored them.

    `judged` says which images of the set these are; `seen` how many of them set the threshold. Those
    `not_rescored` have a score, and none in the common format.
    """

    scored: ScoredSet
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    checkpoint: dict[str, Any]
    preprocessing: dict[str, Any]
    simulated: bool
    judged: dict[str, Any] = field(default_factory=dict)
    seen: int | None = None
    not_rescored: tuple[Skipped, ...] = ()


def evaluate(
    checkpoint: Path,
    root: Path,
    *,
    out: Path | None = None,
    expected: Preprocessing | None = None,
    assume: Preprocessing | None = None,
    device: str = "auto",
    precision: str = "float32",
    batch: int = EVAL_BATCH,
    workers: int = 4,
    draws: int = DRAWS,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
    known: Known | None = None,
    reencoded: bool = False,
) -> dict[str, Any]:
    """Metrics of `checkpoint` on the test images of `root`.

    Args:
        checkpoint: ours, or a published state dict.
        root: a set with test/<platform>/..., or any folder with 0_real and 1_fake leaves.
        out: where to leave metrics.json and scores.parquet; nothing is written if None.
        expected: preprocessing the caller counts on; a checkpoint with another is refused.
        assume: preprocessing of a published file, which carries none.
        device: auto, cpu, cuda or mps.
        precision: float32, bfloat16, or auto.
        batch: images at a time; without effect on scores.
        workers: decoding threads.
        draws: bootstrap draws of the intervals.
        seed: of the bootstrap.
        on_image: called with (images done, images in all); a second time from 1 on with `reencoded`.
        known: gives file facts and leaks.
        reencoded: score every image a second time in one common format.

    Returns:
        What `train.measure.measure` gives (platforms, mean, groups, calibration, slices, matched,
        rescored, leaks, bootstrap), and skipped: [{path, reason}], checkpoint, preprocessing.

    Raises:
        CheckpointError: if the checkpoint or its calibration cannot be used, or its preprocessing is
            not `expected`.
        InputError: if `root` has nothing to evaluate.
    """
    loaded = load_detector(checkpoint, expected=expected, assume=assume)
    of = loaded.digest, loaded.preprocessing.digest
    calibration = read_calibration(calibration_path(checkpoint), *of)
    compute = choose_compute(device, precision, loaded.spec)
    every = find_images(root)
    items = choose_test(every)
    paths = (root / item.path for item in items)
    rows = score_files(loaded, paths, compute=compute, batch=batch, workers=workers)
    found = _collect(root, items, rows, on_image, checkpoint, loaded)
    seen = _count_seen(calibration, found.scored)
    found = replace(found, judged=describe_judged(root, every, items), seen=seen)
    again, how = None, ""
    if reencoded:
        common = CommonFormat(loaded.preprocessing.size)
        how = common.words
        files = [root / path for path in found.scored.paths]
        again, odd = _rescored(loaded, files, common, compute, batch, workers, on_image)
        if any(not np.isfinite(again[k]) for k in range(len(files)) if k not in odd):
            raise _no_number(checkpoint, "a re-encoded image")
        found = _without_format(found, odd)
    parameters = {"draws": draws, "seed": seed, "precision": precision}
    return _measured(found, known, out, parameters, calibration, again, how)


def _rescored(
    loaded: LoadedDetector,
    files: Sequence[Path],
    common: CommonFormat,
    compute: Compute,
    batch: int,
    workers: int,
    on_image: Callable[[int, int], None] | None,
) -> tuple[Floats, dict[int, str]]:
    """Logits (N,) in the common format, NaN for images that have none, and why these have none."""
    odd = unsaveable(files, common)
    kept = [position for position in range(len(files)) if position not in odd]
    logits = np.full(len(files), np.nan)
    logits[kept] = rescore(
        loaded,
        [files[k] for k in kept],
        common,
        compute=compute,
        batch=batch,
        workers=workers,
        on_image=on_image,
    )
    return logits, odd


def _without_format(found: Evaluated, odd: Mapping[int, str]) -> Evaluated:
    """With the images that have no common format, told by position and reason."""
    rows = tuple(Skipped(found.scored.paths[k], why) for k, why in odd.items())
    return replace(found, not_rescored=rows)


def evaluate_scores(
    file: Path,
    root: Path,
    *,
    out: Path | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    known: Known | None = None,
) -> dict[str, Any]:
    """Metrics of another detector's scores, in the Parquet or CSV file `file`, on the images of `root`.

    Raises:
        InputError: if the file cannot be read, or does not have exactly one score per test image.
    """
    every = find_images(root)
    items = choose_test(every)
    foreign = read_foreign(file)
    seen = Preprocessing()
    joined = join_foreign(
        foreign,
        file,
        items,
        lambda item: _digest_of(root / item.path),
        lambda item: decode(root / item.path, seen).error,
    )
    scored = _scored_set(root, joined.items, joined.digests, joined.logits)
    if scored.grouping == ONE_EACH and any(joined.groups):
        scored = replace(scored, groups=joined.groups, grouping=f"column group of {file.name}")
    found = Evaluated(
        scored=scored,
        items=joined.items,
        skipped=tuple(Skipped(item.path, why) for item, why in joined.broken),
        checkpoint=_describe_foreign(file, foreign),
        preprocessing={"source": "not known: the scores came from outside", "digest": None},
        judged=describe_judged(root, every, items),
        simulated=is_simulated(root),
    )
    return _measured(found, known, out, {"draws": draws, "seed": seed}, None, None, "")


def _describe_foreign(file: Path, foreign: Foreign) -> dict[str, Any]:
    return {
        "path": str(file),
        "sha256": _digest_of(file),
        "detector": f"another detector, by its scores ({foreign.meant})",
        "foreign": True,
        "scores": foreign.meant,
    }


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; mend it"
        ) from None


def _count_seen(calibration: Calibration | None, scored: ScoredSet) -> int | None:
    """How many of the images the calibration was made on; None where that is not known.

    Raises:
        CheckpointError: if so many that a threshold is judged on what it was chosen by.
    """
    if calibration is None:
        return None
    same = calibration.data.get("digest") == scored.digest
    seen = len(scored) if same else calibration.holds(scored.digests)
    if seen is not None and seen > MOST_SEEN * len(scored):
        raise CheckpointError(
            f"the calibration beside the checkpoint was made on {seen} of the {len(scored)} images to be "
            "evaluated; expected other images; run `wildrf calibrate` on others, or evaluate on others"
        )
    return seen


def _measured(
    found: Evaluated,
    known: Known | None,
    out: Path | None,
    parameters: dict[str, Any],
    calibration: Calibration | None,
    again: Floats | None,
    how: str,
) -> dict[str, Any]:
    known = known or Known()
    leaks = known.leaks_of(found.scored, found.checkpoint) if known.leaks_of else None
    asked = Asked(
        calibration=calibration,
        facts=known.facts_of(found.scored) if known.facts_of else (),
        leaks=leaks if isinstance(leaks, Leaks) else None,
        rescored=again,
        rescored_as=how,
        not_rescored=skipped_rows(found.not_rescored),
        draws=parameters["draws"],
        seed=parameters["seed"],
    )
    result = {
        **measure(found.scored, asked),
        "leaks_note": leaks if isinstance(leaks, str) else None,
        "calibrated_on": found.seen,
        "skipped": skipped_rows(found.skipped),
        "skipped_by": count_skipped(found.skipped),
        "data": {"digest": found.scored.digest, "n": len(found.scored), **found.judged},
        "checkpoint": found.checkpoint,
        "preprocessing": found.preprocessing,
        "simulated": found.simulated,
    }
    if out is not None:
        _write(out, result, found, parameters)
    return result


def count_skipped(skipped: Iterable[Skipped]) -> dict[str, dict[str, int]]:
    """How many images of each platform and class could not be scored: {platform: {real, fake}}."""
    found: dict[str, dict[str, int]] = {}
    for row in skipped:
        at = place(PurePosixPath(as_text(row.path)))
        if at is not None:
            counts = found.setdefault(shown_platform(at.platform), {"real": 0, "fake": 0})
            counts[at.label.name.lower()] += 1
    return found


def calibrate_checkpoint(
    checkpoint: Path,
    root: Path,
    *,
    device: str = "auto",
    precision: str = "float32",
    batch: int = EVAL_BATCH,
    workers: int = 4,
    rates: Sequence[float],
    undecided: float | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[Calibration, Path]:
    """Calibrate `checkpoint` on the validation images of `root`, and leave that beside it.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        InputError: if `root` has no validation images, or too few.
    """
    loaded = load_detector(checkpoint)
    compute = choose_compute(device, precision, loaded.spec)
    items, source = choose_validation(root, find_images(root))
    paths = (root / item.path for item in items)
    rows = score_files(loaded, paths, compute=compute, batch=batch, workers=workers)
    scored = _collect(root, items, rows, on_image, checkpoint, loaded).scored
    calibration = calibrate(
        scored.logits,
        scored.labels,
        checkpoint=loaded.digest,
        preprocessing=loaded.preprocessing.digest,
        data={"digest": scored.digest, "n": len(scored), "images": source},
        rates=rates,
        groups=scored.groups,
        digests=scored.digests,
        undecided=undecided,
    )
    place = calibration_path(checkpoint)
    write_calibration(place, calibration)
    return calibration, place


def choose_validation(root: Path, items: Sequence[Item]) -> tuple[Sequence[Item], str]:
    """The images to calibrate on, and where they are from; never those of train or test.

    Raises:
        InputError: if there are only images to test on.
    """
    splits = {item.split for item in items}
    if Split.TRAIN in splits:
        chosen = choose_train_val(root, items)
        return chosen.val, chosen.val_source
    if Split.VAL in splits:
        return [item for item in items if item.split is Split.VAL], "val"
    if Split.TEST in splits:
        raise InputError(
            f"{root} holds test images only; expected validation images, as a threshold chosen on test "
            "flatters; add val, or name a folder without splits"
        )
    return items, "the whole folder"


def choose_test(items: Sequence[Item]) -> list[Item]:
    """The images to judge on: those of test, else of val, else those without a split; never those of train.

    Raises:
        InputError: if there are images of train alone.
    """
    for split in (Split.TEST, Split.VAL, None):
        chosen = [item for item in items if item.split is split]
        if chosen:
            return chosen
    raise InputError(
        f"found {len(items)} images under train and none to judge on; expected test or val beside train; "
        "add one, or name a folder of images that nothing was trained on"
    )


def describe_judged(root: Path, items: Sequence[Item], chosen: Sequence[Item]) -> dict[str, Any]:
    """Which of `items` were chosen: {root, split, or None where there is none, splits: images in each}."""
    counts = Counter(item.split.value if item.split else "none" for item in items)
    split = chosen[0].split
    return {
        "root": str(root.absolute()),
        "split": split.value if split else None,
        "splits": dict(sorted(counts.items())),
    }


def platform_of(item: Item) -> str:
    """What an image is reported under: platform or generator; classes nested below it are one."""
    return shown_platform(item.platform)


def _collect(
    root: Path,
    items: Sequence[Item],
    rows: Iterable[Scored],
    on_image: Callable[[int, int], None] | None,
    checkpoint: Path,
    loaded: LoadedDetector,
) -> Evaluated:
    """Match scores to images, and set aside what has none with the reason."""
    kept: list[tuple[Item, str, float]] = []
    skipped: list[Skipped] = []
    for done, (item, row) in enumerate(zip(items, rows, strict=True), start=1):
        if row.logit is not None and not np.isfinite(row.logit):
            raise _no_number(checkpoint, item.path)
        if row.logit is None or row.digest is None:
            skipped.append(Skipped(item.path, row.error or "it has no logit"))
        else:
            kept.append((item, row.digest, row.logit))
        if on_image is not None:
            on_image(done, len(items))
    if not kept:
        raise InputError(
            f"{root}: none of {len(items)} test images decodes (first: {skipped[0].reason}); "
            "expected readable images; check the files"
        )
    chosen = tuple(item for item, _, _ in kept)
    return Evaluated(
        scored=_scored_set(
            root, chosen, tuple(d for _, d, _ in kept), np.array([z for _, _, z in kept])
        ),
        items=chosen,
        skipped=tuple(skipped),
        checkpoint=_describe(checkpoint, loaded),
        preprocessing={
            **loaded.preprocessing.to_dict(),
            "digest": loaded.preprocessing.digest,
            "source": loaded.preprocessing_source,
        },
        simulated=is_simulated(root, checkpoint),
    )


def _no_number(checkpoint: Path, what: str) -> CheckpointError:
    """Images that break a detector are hard ones: without them it would look better than it is."""
    return CheckpointError(
        f"{checkpoint.name} gives {what} a logit that is no number; expected finite ones; train it again"
    )


def _scored_set(
    root: Path, items: Sequence[Item], digests: tuple[str, ...], logits: Floats
) -> ScoredSet:
    paths = tuple(item.path for item in items)
    groups, grouping = find_groups(root, paths)
    return ScoredSet(
        paths=paths,
        digests=digests,
        platforms=tuple(platform_of(item) for item in items),
        labels=np.array([item.label for item in items], dtype=np.int64),
        logits=logits,
        groups=groups,
        grouping=grouping,
        context={},
    )


def _describe(path: Path, loaded: LoadedDetector) -> dict[str, Any]:
    kept = ("epoch", "seed", "data", "versions", "val")
    return {
        "path": str(path),
        "sha256": loaded.digest,
        "detector": loaded.spec.name,
        **{key: loaded.meta[key] for key in kept if key in loaded.meta},
    }


def _write(out: Path, result: dict[str, Any], found: Evaluated, parameters: dict[str, Any]) -> None:
    open_run_folder(out)
    context = {
        "checkpoint": found.checkpoint,
        "preprocessing": found.preprocessing,
        "simulated": found.simulated,
        "data": result["data"],
        "skipped": result["skipped"],
        "grouping": found.scored.grouping,
        "parameters": parameters,
        "versions": code_versions(),
    }
    write_json(out / "metrics.json", {**result, **context})
    write_scores(
        out / "scores.parquet",
        found.items,
        found.scored.digests,
        found.scored.logits,
        context,
        found.scored.groups,
    )
