"""Scores of files: a stream in, a stream of rows out, in the same order.

A file that cannot be scored is a row that says why. Images are decoded by a few threads while the
detector works on those before them. Scores are computed in float32, so that they are the same on
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
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute
from train.data import EVAL_BATCH, Decoded, decode_all, walk_files
from train.tiles import score_images


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
) -> Iterator[dict[str, Any]]:
    """Yield {path, logit, score} per file, or {path, error}; folders are walked.

    The score is sigmoid(logit): above 0.5 means fake.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        InputError: if the device is not there.
    """
    loaded = load_detector(checkpoint)
    compute = choose_compute(device, precision, loaded.spec)
    files = (file for path in paths for file in _files(path))
    for row in score_files(loaded, files, compute=compute, batch=batch, workers=workers):
        if row.logit is None:
            yield {"path": str(row.path), "error": row.error}
        else:
            yield {"path": str(row.path), "logit": row.logit, "score": sigmoid(row.logit)}


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)


def _files(path: Path) -> Iterator[Path]:
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
    compute.place(loaded.model)
    to_decode, names = tee(paths)
    waiting: list[tuple[Path, Decoded]] = []
    ready = 0
    decoded = decode_all(to_decode, loaded.preprocessing, workers=workers)
    for path, one in zip(names, decoded, strict=True):
        waiting.append((path, one))
        ready += one.pixels is not None
        if ready == batch:
            yield from _score(loaded, waiting, compute)
            waiting, ready = [], 0
    yield from _score(loaded, waiting, compute)


def _score(
    loaded: LoadedDetector, waiting: list[tuple[Path, Decoded]], compute: Compute
) -> Iterator[Scored]:
    pixels = [one.pixels for _, one in waiting if one.pixels is not None]
    logits = score_images(
        loaded.model, loaded.spec, pixels, loaded.preprocessing, compute, max(1, len(pixels))
    )
    for path, one in waiting:
        if one.pixels is None:
            yield Scored(path, one.digest, None, one.error)
        else:
            yield Scored(path, one.digest, next(logits), None)
