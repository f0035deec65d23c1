"""A folder in, a run folder with a trained detector out.

`train_detector` may be killed at any moment and called again with the same arguments: it goes on
after the last whole epoch and, on one CPU with one number of threads, ends with the same bytes of
weights.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.labels import Label
from schemas.policy import TrainPolicy
from train import data, measure
from train.artifacts import open_run_folder, skipped_rows, write_json, write_lines, write_scores
from train.checkpoint import pack, to_bytes, write_atomically
from train.config import (
    build_detector,
    check_recipe,
    choose_compute,
    code_versions,
    fingerprint,
    preprocessing_of,
    recipe_key,
)
from train.detectors import DetectorSpec
from train.engine import BEST_BY, Clock, EpochReport, Run, RunState, Step, fit, train_one_epoch
from train.transforms import Preprocessing

OnEpoch = Callable[[EpochReport], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run came to. `val` has acc, ap, auc, n, n_real, n_fake, tpr_at_fpr and ci."""

    checkpoint: Path
    val: dict[str, Any]
    epochs: int
    best_epoch: int
    stopped: str
    seconds: float
    images_per_s: float
    skipped: tuple[data.Skipped, ...]
    val_source: str
    images: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """As `wildrf train --json` shows it."""
        rows = skipped_rows(self.skipped)
        return {**asdict(self), "checkpoint": str(self.checkpoint), "skipped": rows}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The decoded train and val images of the set at `root`."""

    root: Path
    train: data.ImageSet
    val: data.ImageSet
    val_source: str

    @property
    def skipped(self) -> tuple[data.Skipped, ...]:
        """Files of both that could not be used."""
        return self.train.skipped + self.val.skipped

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class."""
        return {"train": _by_class(self.train.items), "val": _by_class(self.val.items)}

    @property
    def digests(self) -> dict[str, str]:
        """Fingerprints of what was learnt from and what chose the checkpoint."""
        return {"train": self.train.digest, "val": self.val.digest}


def _by_class(items: Sequence[data.Item]) -> dict[str, int]:
    found = Counter(item.label for item in items)
    return {label.name.lower(): found[label] for label in Label}


def load_train_val(root: Path, out: Path, recipe: TrainPolicy, prep: Preprocessing) -> Loaded:
    """Decode the train and val images of `root`; what memory cannot hold goes to a file in `out`.

    Raises:
        InputError: if a class is missing, before or after undecodable files are left out.
    """
    chosen = data.choose_train_val(root, data.find_images(root))
    sets = {}
    for split, items in (("train", chosen.train), ("val", chosen.val)):
        cache = out / f".{split}.pixels.npy"
        sets[split] = data.load_images(root, items, prep, workers=recipe.workers, cache=cache)
        cache.unlink(missing_ok=True)  # its pages live on while they are mapped
        data.require_both_classes(root, sets[split].items, split)
    return Loaded(root, sets["train"], sets["val"], chosen.val_source)


def train_detector(
    root: Path,
    out: Path,
    recipe: TrainPolicy,
    *,
    on_epoch: OnEpoch | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train the detector of `recipe` on `root` and leave the run in `out`.

    Args:
        root: a set with train/, and val/ or not; then a tenth of train stands in, and is named.
        out: run folder; an interrupted run of the same data and recipe there is continued.
        recipe: `schemas.policy.TrainPolicy`.
        on_epoch: called after every epoch, when its state is on disk.
        clock: seconds, used for the budget and the reported speed only.

    Raises:
        InputError: if the folder, the recipe or the run folder cannot be used.
    """
    begun = clock()
    spec = check_recipe(recipe)
    open_run_folder(out)
    prep = preprocessing_of(recipe, spec)
    loaded = load_train_val(root, out, recipe, prep)

    def steps_of(step: Step, epoch: int, done: int) -> Iterator[tuple[float, int]]:
        batches = data.train_batches(
            loaded.train, batch=recipe.batch, crop=recipe.crop, seed=recipe.seed, epoch=epoch
        )
        return train_one_epoch(step, batches, done)

    run = make_run(spec, recipe, prep, loaded, out, steps_of, on_epoch, clock)
    state, stopped = fit(run)
    return finish(out, run, state, stopped, loaded, spec, clock() - begun)


def make_run(
    spec: DetectorSpec,
    recipe: TrainPolicy,
    prep: Preprocessing,
    loaded: Loaded,
    out: Path,
    steps_of: Callable[[Step, int, int], Iterator[tuple[float, int]]],
    on_epoch: OnEpoch | None,
    clock: Clock,
    **key: Any,
) -> Run:
    """A run from freshly initialised weights; `key` is what else its outcome depends on."""
    compute = choose_compute(recipe.device, recipe.precision, spec)
    return Run(
        detector=compute.place(build_detector(spec, prep, recipe.pooling, recipe.seed)),
        recipe=recipe,
        preprocessing=prep,
        compute=compute,
        key=fingerprint(recipe=recipe_key(recipe), data=loaded.digests, prep=prep.to_dict(), **key),
        state_path=out / "state.pt",
        steps_of=steps_of,
        val_batches=lambda: data.eval_batches(loaded.val, batch=min(recipe.batch, data.EVAL_BATCH)),
        val_labels=loaded.val.labels,
        on_epoch=on_epoch,
        clock=clock,
    )


def finish(
    out: Path,
    run: Run,
    state: RunState,
    stopped: str,
    loaded: Loaded,
    spec: DetectorSpec,
    seconds: float,
    **extra: Any,
) -> TrainResult:
    """Write the artifacts of a run; `extra` (plain values) goes into checkpoint and config."""
    config = {
        "recipe": asdict(run.recipe),
        "detector": spec.name,
        "parameters": sum(p.numel() for p in run.detector.parameters()),
        "preprocessing": run.preprocessing.to_dict(),
        "preprocessing_digest": run.preprocessing.digest,
        "data": {**loaded.digests, "root": str(loaded.root)},
        "val_source": loaded.val_source,
        "device": run.compute.device.type,
        "precision": "bfloat16" if run.compute.half else "float32",
        "versions": code_versions(),
        "run": run.key,
        **extra,
    }
    val = measure.report(np.array(state.best_logits), run.val_labels, seed=run.recipe.seed)
    result = TrainResult(
        checkpoint=out / "checkpoint.pt",
        val=val,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        stopped=stopped,
        seconds=seconds,
        images_per_s=_median([row["images_per_s"] for row in state.curve]),
        skipped=loaded.skipped,
        val_source=loaded.val_source,
        images=loaded.counts,
    )
    _write(out, run, state, loaded, spec, config, result, extra)
    return result


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _write(
    out: Path,
    run: Run,
    state: RunState,
    loaded: Loaded,
    spec: DetectorSpec,
    config: dict[str, Any],
    result: TrainResult,
    extra: dict[str, Any],
) -> None:
    checkpoint = pack(
        state.best_weights,
        spec,
        run.preprocessing,
        pooling=run.recipe.pooling,
        config=asdict(run.recipe),
        data=loaded.digests,
        seed=run.recipe.seed,
        epoch=state.best_epoch,
        val={k: result.val[k] for k in ("acc", "ap", "auc", "n")},
        **extra,
    )
    write_atomically(result.checkpoint, to_bytes(checkpoint))
    write_json(out / "config.json", config)
    write_lines(out / "curve.jsonl", ({**row, "run": run.key[:16]} for row in state.curve))
    record = {**result.to_dict(), "best_by": BEST_BY, "skipped_count": len(result.skipped)}
    record["checkpoint"] = result.checkpoint.name
    write_json(out / "metrics.json", {**record, "config": config})
    logits = np.array(state.best_logits)
    write_scores(out / "scores.parquet", loaded.val.items, loaded.val.digests, logits, config)
