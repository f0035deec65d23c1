"""A folder in, a run folder with a trained detector out.

`train_detector` may be killed at any moment and called again with the same arguments: it goes on
after the last whole epoch and ends with the same bytes of weights, on one CPU with one number of threads or
on one model of GPU. Between a CPU and a GPU, sums are added up in another order, and runs drift apart.
"""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.labels import Label
from schemas.policy import TrainPolicy
from train import cache as store
from train import data, measure
from train.artifacts import (
    CONFIG,
    open_run_folder,
    skipped_rows,
    write_json,
    write_lines,
    write_scores,
)
from train.augment import TREATMENTS
from train.calibration import set_aside
from train.checkpoint import pack, to_bytes, write_atomically
from train.config import (
    SPEED_ONLY,
    build_detector,
    check_recipe,
    check_resize,
    choose_compute,
    code_versions,
    fingerprint,
    preprocessing_of,
    recipe_key,
)
from train.detectors import DetectorSpec, PatchDetector
from train.engine import (
    BEST_BY,
    OUT_OF_TIME,
    Clock,
    EpochReport,
    Progress,
    Run,
    RunState,
    Silent,
    Step,
    Steps,
    fit,
    saved_epochs,
    train_one_epoch,
)
from train.loader import Epochs, epochs_of, soft_targets, train_batches
from train.pixels import shapes_of
from train.scores import SCORES_FILE, find_groups
from train.simulated import is_simulated
from train.tiles import score_images
from train.transforms import Preprocessing
from train.validation import find_sources, require_both_classes, unseen

OnEpoch = Callable[[EpochReport], None]

STATE_FILE, CHECKPOINT_FILE = "state.pt", "checkpoint.pt"

CURVE = (
    "epoch", "loss", "val_loss", "learning_rate", "best", "partial", "seconds", "images_per_s",
)  # fmt: skip
VAL = ("n", "acc", "ap", "auc")
DONE = (*TREATMENTS, "mirror")
"""Columns of curve.csv."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run came to; `seconds` are those of all calls it took.

    `val` has acc, ap, auc, n, n_real, n_fake, tpr_at_fpr and ci. `soft_targets` counts the train images
    that were told as P(fake) instead of their class; `simulated` says that a program made the val images;
    `old_calibration` is where a calibration of other weights was moved that lay beside the checkpoint.
    """

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
    soft_targets: int
    simulated: bool = False
    old_calibration: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `wildrf train --json` shows it."""
        rows = skipped_rows(self.skipped)
        return {**asdict(self), "checkpoint": str(self.checkpoint), "skipped": rows}


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of a run while it runs, and its clock."""

    on_epoch: OnEpoch | None
    progress: Progress
    clock: Clock


@dataclass(frozen=True, slots=True)
class Found:
    """The train and val files of one or more roots before any is decoded; see `Loaded`."""

    sources: tuple[data.Source, ...]
    train: data.Files
    val: data.Files
    val_source: str
    left_out: tuple[data.Skipped, ...]

    @property
    def fingerprint(self) -> str:
        """Differs wherever the place, name, bytes or description of a file does."""
        origins = [
            [str(s.root.resolve()), s.weight, data.manifest_digest(s.root)] for s in self.sources
        ]
        sets = [[asdict(item) for item in files.items] for files in (self.train, self.val)]
        return fingerprint(
            origins=origins, sets=sets, digests=[self.train.digests, self.val.digests],
            prep=self.train.preprocessing.to_dict(), left_out=skipped_rows(self.left_out),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loaded:
    """The decoded train and val images of one or more roots, the first of which gave the val images.

    `left_out` of train is what the val images are, too; `files` is the fingerprint of what was read.
    """

    sources: tuple[data.Source, ...]
    train: data.ImageSet
    val: data.ImageSet
    val_source: str
    left_out: tuple[data.Skipped, ...]
    files: str

    @property
    def skipped(self) -> tuple[data.Skipped, ...]:
        """Files of both that could not be used."""
        return self.left_out + self.train.skipped + self.val.skipped

    @property
    def simulated(self) -> bool:
        """Whether a program made the images that it is validated on."""
        return is_simulated(self.sources[0].root)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class."""
        return {"train": _by_class(self.train.items), "val": _by_class(self.val.items)}

    @property
    def digests(self) -> dict[str, str]:
        """Fingerprints of what was learnt from and what chose the checkpoint."""
        return {"train": self.train.digest, "val": self.val.digest}

    @property
    def judges(self) -> list[list[Any]]:
        """Label and digest of each val image, in the order in which a run keeps their logits."""
        return [[int(i.label), d] for i, d in zip(self.val.items, self.val.digests, strict=True)]

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Each root: where, its share, and the digest of its manifest if it is a release."""
        return [
            {"root": str(s.root), "weight": s.weight, "manifest": data.manifest_digest(s.root)}
            for s in self.sources
        ]

    def places(self, teacher_roots: Sequence[Path]) -> dict[str, Any]:
        """The folders of all roots, and those a teacher learnt from, as any working directory finds them."""
        roots = [str(source.root.resolve()) for source in self.sources]
        sources = [{**o, "root": r} for o, r in zip(self.origins, roots, strict=True)]
        taught = [str(root) for root in teacher_roots]
        return {"root": roots[0], "sources": sources, "teacher_roots": taught}


def _by_class(items: Sequence[data.Item]) -> dict[str, int]:
    found = Counter(item.label for item in items)
    return {label.name.lower(): found[label] for label in Label}


def find_train_val(
    sources: Sequence[data.Source], recipe: TrainPolicy, prep: Preprocessing, progress: Progress
) -> Found:
    """The train files of all sources and the val files of the first, read but not decoded.

    Raises:
        InputError: if a class is missing, or no part of train can stand in for a missing val.
    """
    chosen = find_sources(sources)
    roots = [source.root for source in sources]
    progress.start("reading", len(chosen.train) + len(chosen.val))
    train, val = (
        data.read_files(roots, items, prep, workers=recipe.workers, on_file=progress.advance)
        for items in (chosen.train, chosen.val)
    )
    train, left_out = unseen(train, val)
    return Found(tuple(sources), train, val, chosen.val_source, left_out)


def load_train_val(
    found: Found, keeping: store.Keeping, recipe: TrainPolicy, progress: Progress
) -> Loaded:
    """Decode the files that were found; those of val first, as those of train may fill the disk.

    Raises:
        InputError: if no file of a class decodes.
    """
    keeping = replace(keeping, keys=frozenset({found.train.key, found.val.key}))
    sets = {}
    for split, files in (("val", found.val), ("train", found.train)):
        progress.start(f"decoding {split}", len(files.items))
        sets[split] = data.load_files(
            files, workers=recipe.workers, keeping=keeping, on_image=progress.advance
        )
        require_both_classes(files.roots[0], sets[split].items, split)
    return Loaded(
        found.sources, sets["train"], sets["val"], found.val_source, found.left_out,
        found.fingerprint,
    )  # fmt: skip


def finished(
    out: Path, saved: int, found: Found, recipe: TrainPolicy, teacher: str | None = None
) -> TrainResult | None:
    """What `out` says of this very run, if it is over and whole; None if there is something to do.

    It is if its record is of the same recipe and files, and of the epochs that are `saved`. Nothing is
    decoded for that, and what the run left stays as it is.
    """
    try:
        record = json.loads((out / "metrics.json").read_bytes())
        if record["epochs"] != saved or record["stopped"].startswith(OUT_OF_TIME):
            return None
        if not _is_of(record["config"], found, recipe, teacher):
            return None
        told = {field.name: record[field.name] for field in fields(TrainResult)}
        told["skipped"] = tuple(data.Skipped(**row) for row in record["skipped"])
        told["old_calibration"] = None  # nothing was moved this time
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none was left, or it is damaged: it is written again
    if not all((out / name).is_file() for name in (CHECKPOINT_FILE, SCORES_FILE)):
        return None
    return TrainResult(**{**told, "checkpoint": out / CHECKPOINT_FILE})


def _is_of(config: dict[str, Any], found: Found, recipe: TrainPolicy, teacher: str | None) -> bool:
    """Whether `config` is the record of a run of this recipe on these files, by this teacher or none."""
    asked = _decides(json.loads(json.dumps(asdict(recipe))))
    told = (config["files"], config.get("teacher"), _decides(config["recipe"]))
    return told == (found.fingerprint, teacher, asked)


def _decides(recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a recipe that decides what a run that is over came to."""
    return {k: v for k, v in recipe.items() if k == "epochs" or k not in SPEED_ONLY}


def keeping_in(out: Path, cache: Path | None, recipe: TrainPolicy) -> store.Keeping:
    """Decoded pixels go to `cache` for later runs, or to the run folder until the run is finished."""
    disk = int(recipe.cache_gib * 2**30)
    if cache is None:
        return store.Keeping(out, disk=disk)
    return store.Keeping(cache, disk=disk, pays_s=0.0)


def as_sources(root: Path | Sequence[data.Source]) -> tuple[data.Source, ...]:
    """One root, or those of a mixed set."""
    return (data.Source(root),) if isinstance(root, Path) else tuple(root)


def train_detector(
    root: Path | Sequence[data.Source],
    out: Path,
    recipe: TrainPolicy,
    *,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train the detector of `recipe` on `root` and leave the run in `out`.

    Args:
        root: a set with train/, and val/ or not; then a tenth of train stands in, and is named. Or
            several with their shares of an epoch: val is that of the first.
        out: run folder; an interrupted run of the same data and recipe there is continued.
        recipe: `schemas.policy.TrainPolicy`.
        on_epoch: called after every epoch, when its state is on disk.
        progress: who is told how far it is.
        cache: folder that keeps decoded pixels for later runs; None: none are kept after this one.
        clock: seconds, used for the budget and the reported speed only.

    Raises:
        InputError: if the folder, the recipe or the run folder cannot be used.
    """
    watch = Watch(on_epoch, progress or Silent(), clock)
    begun = clock()
    spec = check_recipe(recipe)
    check_resize(recipe)
    open_run_folder(out)
    saved = saved_epochs(out / STATE_FILE, recipe)
    prep = preprocessing_of(recipe, spec)
    found = find_train_val(as_sources(root), recipe, prep, watch.progress)
    if (over := finished(out, saved, found, recipe)) is not None:
        return over
    loaded = load_train_val(found, keeping_in(out, cache, recipe), recipe, watch.progress)
    epochs = epochs_of(loaded.train, recipe, loaded.sources)

    def steps_of(step: Step, epoch: int, done: int) -> Steps:
        pinned = step.compute.replays
        return train_one_epoch(step, train_batches(epochs, epoch, pinned=pinned), done)

    shown = shown_by(epochs)
    run = make_run(
        spec, recipe, prep, loaded, out, steps_of, len(epochs), watch, begun, shown=shown
    )
    run = replace(run, validation=validation_share(loaded, len(epochs) * recipe.crop**2))
    state, stopped = fit(run)
    soft = soft_targets(loaded.train.items, recipe)
    return finish(out, run, state, stopped, loaded, spec, soft)


def validation_share(loaded: Loaded, shown: int) -> float:
    """About what part of an epoch's time a validation takes: a third as much for a pixel as training.

    `shown` is how many pixels an epoch trains on.
    """
    seen = sum(height * width for height, width in shapes_of(loaded.val.pixels))
    return seen / (3 * shown)


def shown_by(epochs: Epochs) -> str:
    """Fingerprint of what epochs show: which images, as what, how often."""
    digests = epochs.images.digests
    cells = [[cell.share, [digests[k] for k in cell.members]] for cell in epochs.cells]
    return fingerprint(cells=cells, targets=epochs.targets.tolist())


def make_run(
    spec: DetectorSpec,
    recipe: TrainPolicy,
    prep: Preprocessing,
    loaded: Loaded,
    out: Path,
    steps_of: Callable[[Step, int, int], Steps],
    total: int,
    watch: Watch,
    begun: float,
    **key: Any,
) -> Run:
    """A run from freshly initialised weights; `key` is what else its outcome depends on."""
    compute = choose_compute(recipe.device, recipe.precision, spec, recipe.compile)

    def validate(detector: PatchDetector) -> NDArray[np.float64]:
        images = (loaded.val.pixels[k] for k in range(len(loaded.val.items)))
        batch = min(recipe.batch, data.EVAL_BATCH)
        return np.array(list(score_images(detector, spec, images, prep, compute, batch)))

    return Run(
        detector=compute.place(build_detector(spec, prep, recipe.pooling, recipe.seed)),
        recipe=recipe,
        preprocessing=prep,
        compute=compute,
        key=fingerprint(
            recipe=recipe_key(recipe),
            data=loaded.digests,
            val=loaded.judges,
            prep=prep.to_dict(),
            **key,
        ),
        state_path=out / STATE_FILE,
        steps_of=steps_of,
        total=total,
        validate=validate,
        val_labels=loaded.val.labels,
        on_epoch=lambda state, report: _epoch_over(out, state, report, watch),
        progress=watch.progress,
        clock=watch.clock,
        begun=begun,
    )


def finish(
    out: Path,
    run: Run,
    state: RunState,
    stopped: str,
    loaded: Loaded,
    spec: DetectorSpec,
    soft: int = 0,
    teacher_roots: Sequence[Path] = (),
    **extra: Any,
) -> TrainResult:
    """Write the artifacts of a run; `extra` (plain values) goes into checkpoint and config.

    `soft` counts the targets that are no class; `teacher_roots` are the folders that a teacher learnt from,
    for config.json alone.
    """
    judged = [item.path for item in loaded.val.items]
    groups, grouping = find_groups(loaded.sources[0].root, judged)
    config = _config(run, loaded, spec, grouping, extra)
    val = measure.report(
        np.array(state.best_logits), run.val_labels, seed=run.recipe.seed, groups=groups
    )
    result = TrainResult(
        checkpoint=out / CHECKPOINT_FILE,
        val=val,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        stopped=stopped,
        seconds=state.seconds,
        images_per_s=_median(
            [row["images_per_s"] for row in state.curve if row["loss"] is not None]
        ),
        skipped=loaded.skipped,
        val_source=loaded.val_source,
        images=loaded.counts,
        simulated=loaded.simulated,
        soft_targets=soft,
    )
    placed = {**config["data"], **loaded.places(teacher_roots)}
    write_json(out / CONFIG, {**config, "data": placed})
    result = _write(out, run, state, loaded, spec, config, result, extra, groups)
    if not stopped.startswith(OUT_OF_TIME):
        store.clear(out)  # it was kept for a run that is now over
    return result


def _config(
    run: Run, loaded: Loaded, spec: DetectorSpec, grouping: str, extra: dict[str, Any]
) -> dict[str, Any]:
    """What made the run, as its records hold it."""
    return {
        "recipe": asdict(run.recipe),
        "detector": spec.name,
        "parameters": sum(p.numel() for p in run.detector.parameters()),
        "preprocessing": run.preprocessing.to_dict(),
        "preprocessing_digest": run.preprocessing.digest,
        "data": {**loaded.digests, "root": str(loaded.sources[0].root), "sources": loaded.origins},
        "val_source": loaded.val_source,
        "grouping": grouping,
        "device": run.compute.device.type,
        "precision": "bfloat16" if run.compute.half else "float32",
        "versions": code_versions(),
        "run": run.key,
        "simulated": loaded.simulated,
        "files": loaded.files,
        **extra,
    }


def _unplaced(origin: dict[str, Any]) -> dict[str, Any]:
    """Without the folder: a checkpoint is the same wherever its data lay."""
    return {key: value for key, value in origin.items() if key != "root"}


def _epoch_over(out: Path, state: RunState, report: EpochReport, watch: Watch) -> None:
    """Write the curve so far, and tell of the epoch."""
    write_atomically(out / "curve.csv", curve_csv(state.curve).encode())
    if watch.on_epoch is not None:
        watch.on_epoch(report)


def curve_csv(curve: Sequence[dict[str, Any]]) -> str:
    """One line per epoch: what a spreadsheet or a plot takes, while the run goes on."""
    text = io.StringIO()
    columns = [*CURVE, *(f"val_{name}" for name in VAL), *(f"windows_{name}" for name in DONE)]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in curve:
        val, done = row["val"], row["augmented"]
        table.writerow(
            [*(row[c] for c in CURVE), *(val[v] for v in VAL), *(done.get(d, 0) for d in DONE)]
        )
    return text.getvalue()


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
    groups: Sequence[str | None],
) -> TrainResult:
    checkpoint = pack(
        state.best_weights,
        spec,
        run.preprocessing,
        pooling=run.recipe.pooling,
        config=asdict(run.recipe),
        data={**loaded.digests, "sources": [_unplaced(origin) for origin in loaded.origins]},
        seed=run.recipe.seed,
        epoch=state.best_epoch,
        val={k: result.val[k] for k in ("acc", "ap", "auc", "n")},
        **extra,
    )
    write_atomically(result.checkpoint, to_bytes(checkpoint))
    aside = set_aside(result.checkpoint)
    result = replace(result, old_calibration=str(aside) if aside else None)
    write_lines(out / "curve.jsonl", ({**row, "run": run.key[:16]} for row in state.curve))
    record = {**result.to_dict(), "best_by": BEST_BY, "skipped_count": len(result.skipped)}
    record["checkpoint"] = result.checkpoint.name
    write_json(out / "metrics.json", {**record, "config": config})
    logits = np.array(state.best_logits)
    write_scores(out / SCORES_FILE, loaded.val.items, loaded.val.digests, logits, config, groups)
    return result
