"""Scores of files: a stream in, a stream of rows out, in the same order.

A file that cannot be scored is a row that says why. Images are decoded by a few threads while the
detector works on those before them; where a score takes less time than a decode (Tiny-LaDeDa), the
thread that decoded an image scores it as well. Scores are computed in float32, so that they are the same on
every machine to float tolerance and do not depend on what else is in the batch.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.layout import SUFFIXES
from train.calibration import Calibration, calibration_path, read_calibration
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute
from train.data import (
    EVAL_BATCH,
    Decoded,
    decode,
    decode_all,
    in_order,
    quiet_decoder,
    walk_files,
)
from train.deploy.runtime import is_onnx, load_onnx
from train.deploy.scorers import Scorer, choose_scorer
from train.transforms import Preprocessing

SPAN = 8
"""Files that may wait for each place in a batch: those that do not decode are rows too."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One file: its SHA-256 and logit, or the reason there is no logit."""

    path: Path
    digest: str | None
    logit: float | None
    error: str | None


def predict(
    checkpoint: Path,
    paths: Iterable[Path],
    *,
    device: str = "auto",
    precision: str = "float32",
    batch: int = EVAL_BATCH,
    workers: int = 4,
    folders: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yield {path, logit, score} per file, or {path, error}; folders are walked if `folders`.

    The score is sigmoid(logit): above 0.5 means fake. `checkpoint` may be an exported ONNX file. With a
    calibration beside it (`wildrf calibrate`), or inside an exported file, a row also has the calibrated
    `probability` of fake and, by the calibrated `threshold` of the logit, a `verdict`: real or fake, or
    undecided where that was asked for.

    Where it was, the verdict is by the `band` of logits [low, high]: real below, fake above, else undecided.

    Raises:
        CheckpointError: if the checkpoint, or its calibration, cannot be used.
        InputError: if the device is not there.
    """
    files = (file for path in paths for file in (expand(path) if folders else [path]))
    calibration, rows = _rows(checkpoint, files, device, precision, batch, workers)
    for row in rows:
        if row.logit is None:
            yield {"path": str(row.path), "error": row.error}
        else:
            yield {"path": str(row.path), **_told(row.logit, calibration)}


def _told(logit: float, calibration: Calibration | None) -> dict[str, Any]:
    told: dict[str, Any] = {"logit": logit, "score": sigmoid(logit)}
    if calibration is not None:
        told["probability"] = sigmoid(logit / calibration.temperature)
        told["verdict"] = calibration.verdict(logit)
        told["threshold"] = calibration.threshold
        if calibration.band is not None:
            told["band"] = [calibration.band.low, calibration.band.high]
    return told


def _rows(
    checkpoint: Path, files: Iterable[Path], device: str, precision: str, batch: int, workers: int
) -> tuple[Calibration | None, Iterator[Scored]]:
    """The calibration of a detector, and what it makes of the files."""
    beside = calibration_path(checkpoint)
    if is_onnx(checkpoint):
        exported = load_onnx(checkpoint, device=device)
        calibration = read_calibration(beside, *exported.of) or exported.calibration
        rows = score_with(exported, exported.preprocessing, files, batch=batch, workers=workers)
        return calibration, rows
    loaded = load_detector(checkpoint)
    compute = choose_compute(device, precision, loaded.spec)
    calibration = read_calibration(beside, loaded.digest, loaded.preprocessing.digest)
    return calibration, score_files(loaded, files, compute=compute, batch=batch, workers=workers)


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)


def expand(path: Path) -> Iterator[Path]:
    """`path` itself, or the images below it if it is a folder."""
    if not path.is_dir():
        yield path
        return
    found = [path / f for f in walk_files(path) if f.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(
            f"{path} holds no image file; expected names such as .jpg or .png; check the path"
        )
    yield from sorted(found)


def score_files(
    loaded: LoadedDetector,
    paths: Iterable[Path],
    *,
    compute: Compute,
    batch: int = EVAL_BATCH,
    workers: int = 4,
) -> Iterator[Scored]:
    """Score every path with the detector's own preprocessing, in order."""
    scorer = choose_scorer(loaded.model, loaded.spec, loaded.preprocessing, compute)
    return score_with(scorer, loaded.preprocessing, paths, batch=batch, workers=workers)


def score_with(
    scorer: Scorer,
    preprocessing: Preprocessing,
    paths: Iterable[Path],
    *,
    batch: int = EVAL_BATCH,
    workers: int = 4,
) -> Iterator[Scored]:
    """Score every path, in order; never more than a few batches are in memory."""
    if not scorer.threaded:
        yield from _in_batches(scorer, preprocessing, paths, batch, workers)
        return

    def work(path: Path) -> Scored:
        return next(_score(scorer, [(path, decode(path, preprocessing))]))

    with quiet_decoder():
        yield from in_order(work, paths, workers=workers)


def _in_batches(
    scorer: Scorer, preprocessing: Preprocessing, paths: Iterable[Path], batch: int, workers: int
) -> Iterator[Scored]:
    to_decode, names = tee(paths)
    waiting: list[tuple[Path, Decoded]] = []
    ready = 0
    decoded = decode_all(to_decode, preprocessing, workers=workers)
    for path, one in zip(names, decoded, strict=True):
        waiting.append((path, one))
        ready += one.pixels is not None
        if ready == batch or len(waiting) == SPAN * batch:
            yield from _score(scorer, waiting)
            waiting, ready = [], 0
    yield from _score(scorer, waiting)


def _score(scorer: Scorer, waiting: list[tuple[Path, Decoded]]) -> Iterator[Scored]:
    pixels = [one.pixels for _, one in waiting if one.pixels is not None]
    logits = iter(scorer(pixels) if pixels else [])
    for path, one in waiting:
        if one.pixels is None:
            yield Scored(path, one.digest, None, one.error)
        else:
            yield Scored(path, one.digest, next(logits), None)
