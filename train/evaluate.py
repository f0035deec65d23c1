"""How well a checkpoint tells real from fake, per platform and in the mean, with intervals.

The protocol is WildRF's (https://arxiv.org/abs/2406.09398): accuracy at logit 0 and average
precision on each platform of test/ by itself, unseen ones included, then their unweighted mean; and
that of ForenSynths, where test/<generator>/<class>/{0_real,1_fake} is reported per generator. The
checkpoint's own preprocessing is used; a caller who expects another is refused. A calibration beside
the checkpoint is used, if it is of these weights.

What only curation knows of an image (file facts, copies in the training data) comes in as functions.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import CheckpointError, InputError
from schemas.labels import Split
from train.artifacts import open_run_folder, skipped_rows, write_json, write_scores
from train.calibration import (
    Calibration,
    calibrate,
    calibration_path,
    read_calibration,
    write_calibration,
)
from train.checkpoint import LoadedDetector, load_detector
from train.config import choose_compute, code_versions
from train.data import EVAL_BATCH, Item, Skipped, decode, find_images
from train.measure import Asked, Leaks, measure
from train.metrics import Floats
from train.predict import Scored, score_files
from train.reencode import CommonFormat, rescore
from train.resampling import DRAWS
from train.scores import ONE_EACH, ScoredSet, find_groups, join_foreign, read_foreign
from train.slices import ImageFacts
from train.transforms import Preprocessing
from train.validation import choose_train_val

WHOLE = "all"
"""Platform name in a set whose folders name none."""

FactsOf = Callable[[ScoredSet], Sequence[ImageFacts]]
LeaksOf = Callable[[ScoredSet, Mapping[str, Any]], Leaks | None]
"""From the images and the checkpoint's own record to what was learnt from."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller can tell of the images beside their scores, as functions of the scored set."""

    facts_of: FactsOf | None = None
    leaks_of: LeaksOf | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scored test images, those that could not be scored, and what scored them."""

    scored: ScoredSet
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    checkpoint: dict[str, Any]
    preprocessing: dict[str, Any]


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
        on_image: called with (images done, images in all).
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
    calibration = read_calibration(calibration_path(checkpoint), loaded.digest)
    compute = choose_compute(device, precision, loaded.spec)
    items = choose_test(find_images(root))
    paths = (root / item.path for item in items)
    rows = score_files(loaded, paths, compute=compute, batch=batch, workers=workers)
    found = _collect(root, items, rows, on_image, checkpoint, loaded)
    _refuse_seen(calibration, found.scored)
    again, how = None, ""
    if reencoded:
        common = CommonFormat(loaded.preprocessing.size)
        files, how = [root / path for path in found.scored.paths], common.words
        again = rescore(loaded, files, common, compute=compute, batch=batch, workers=workers)
    parameters = {"draws": draws, "seed": seed, "precision": precision}
    return _measured(found, known, out, parameters, calibration, again, how)


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
    items = choose_test(find_images(root))
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
        checkpoint={
            "path": str(file),
            "sha256": _digest_of(file),
            "detector": f"another detector, by its scores ({foreign.meant})",
        },
        preprocessing={"source": "not known: the scores came from outside", "digest": None},
    )
    return _measured(found, known, out, {"draws": draws, "seed": seed}, None, None, "")


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; mend it"
        ) from None


def _refuse_seen(calibration: Calibration | None, scored: ScoredSet) -> None:
    """A threshold chosen on the very images it is judged on flatters."""
    if calibration and calibration.data.get("digest") == scored.digest:
        raise CheckpointError(
            "the calibration beside the checkpoint was made on the very images to be evaluated; "
            "expected validation images; run `wildrf calibrate` on others, or evaluate on others"
        )


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
    asked = Asked(
        calibration=calibration,
        facts=known.facts_of(found.scored) if known.facts_of else (),
        leaks=known.leaks_of(found.scored, found.checkpoint) if known.leaks_of else None,
        rescored=again,
        rescored_as=how,
        draws=parameters["draws"],
        seed=parameters["seed"],
    )
    result = {
        **measure(found.scored, asked),
        "skipped": skipped_rows(found.skipped),
        "data": {"digest": found.scored.digest, "n": len(found.scored)},
        "checkpoint": found.checkpoint,
        "preprocessing": found.preprocessing,
    }
    if out is not None:
        _write(out, result, found, parameters)
    return result


def calibrate_checkpoint(
    checkpoint: Path,
    root: Path,
    *,
    device: str = "auto",
    precision: str = "float32",
    batch: int = EVAL_BATCH,
    workers: int = 4,
    rates: Sequence[float],
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
    """The test images; everything where the set has no test split."""
    test = [item for item in items if item.split is Split.TEST]
    return test or list(items)


def platform_of(item: Item) -> str:
    """What an image is reported under: platform or generator; classes nested below it are one."""
    return item.platform.split("/")[0] or WHOLE


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
        if row.logit is None or row.digest is None or not np.isfinite(row.logit):
            skipped.append(Skipped(item.path, row.error or f"the logit is {row.logit}"))
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
        "data": result["data"],
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
