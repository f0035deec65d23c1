"""How well a checkpoint tells real from fake, per platform and in the mean, with intervals.

The protocol is WildRF's (https://arxiv.org/abs/2406.09398): accuracy at logit 0 and average
precision on each platform of test/ by itself, unseen ones included, then their unweighted mean. The
checkpoint's own preprocessing is used; a caller who expects another is refused.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.labels import Split
from train import metrics
from train.artifacts import open_run_folder, skipped_rows, write_json, write_scores
from train.checkpoint import LoadedDetector, load_detector
from train.config import choose_compute, code_versions
from train.data import EVAL_BATCH, Item, Skipped, find_images
from train.predict import Scored, score_files
from train.transforms import Preprocessing

WHOLE = "all"
"""Platform name in a set whose folders name none."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scored test images: `logits` (N,) in the order of `items` and `digests`."""

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    logits: NDArray[np.float64]
    skipped: tuple[Skipped, ...]


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
    draws: int = metrics.DRAWS,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
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

    Returns:
        {platforms: {p: `train.metrics.report`}, mean: {acc, ap, auc}, skipped: [{path, reason}],
        checkpoint: {...}, preprocessing: {...}}.

    Raises:
        CheckpointError: if the checkpoint cannot be used, or its preprocessing is not `expected`.
        InputError: if `root` has nothing to evaluate.
    """
    loaded = load_detector(checkpoint, expected=expected, assume=assume)
    compute = choose_compute(device, precision, loaded.spec)
    items = choose_test(find_images(root))
    paths = (root / item.path for item in items)
    rows = score_files(loaded, paths, compute=compute, batch=batch, workers=workers)
    scored = _collect(root, items, rows, on_image)
    platforms = _by_platform(scored, draws=draws, seed=seed)
    result = {
        "platforms": platforms,
        "mean": mean_over(platforms),
        "skipped": skipped_rows(scored.skipped),
        "checkpoint": _describe(checkpoint, loaded),
        "preprocessing": {
            **loaded.preprocessing.to_dict(),
            "digest": loaded.preprocessing.digest,
            "source": loaded.preprocessing_source,
        },
    }
    if out is not None:
        _write(out, result, scored, {"draws": draws, "seed": seed, "precision": precision})
    return result


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
    logits = np.array([logit for _, _, logit in kept])
    return Evaluated(
        tuple(i for i, _, _ in kept), tuple(d for _, d, _ in kept), logits, tuple(skipped)
    )


def _by_platform(scored: Evaluated, *, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(scored.items):
        rows[platform_of(item)].append(index)
    labels = np.array([item.label for item in scored.items], dtype=np.int64)
    return {
        platform: metrics.report(scored.logits[chosen], labels[chosen], draws=draws, seed=seed)
        for platform, chosen in sorted(rows.items())
    }


def mean_over(platforms: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Unweighted mean of each metric over the platforms that have it; None if none has."""
    means: dict[str, float | None] = {}
    for name in metrics.METRICS:
        values = [found[name] for found in platforms.values() if found[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def _describe(path: Path, loaded: LoadedDetector) -> dict[str, Any]:
    kept = ("epoch", "seed", "data", "versions", "val")
    return {
        "path": str(path),
        "sha256": loaded.digest,
        "detector": loaded.spec.name,
        **{key: loaded.meta[key] for key in kept if key in loaded.meta},
    }


def _write(
    out: Path, result: dict[str, Any], scored: Evaluated, parameters: dict[str, Any]
) -> None:
    open_run_folder(out)
    context = {
        "checkpoint": result["checkpoint"],
        "preprocessing": result["preprocessing"],
        "parameters": parameters,
        "versions": code_versions(),
    }
    write_json(out / "metrics.json", {**result, **context})
    write_scores(out / "scores.parquet", scored.items, scored.digests, scored.logits, context)
