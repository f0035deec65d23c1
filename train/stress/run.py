"""Stress tests of a checkpoint on the test images of a set, all of them on one decoding and one scoring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from train.artifacts import open_run_folder
from train.data import find_images
from train.evaluate import choose_test
from train.scores import find_groups
from train.stress.plan import Plan, StressTest
from train.stress.record import describe_data, record, write
from train.stress.sample import stratified, survey
from train.stress.scoring import OnImage, Options, require_both, score, set_up

__all__ = ["Options", "stress"]


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
        out: where to leave stress.json and stress.parquet; nothing is written if None.
        options: sample, seed, draws, device.
        on_image: called with (images done, images in all).

    Returns:
        {format, checkpoint, preprocessing, against, data: {root, sample, grouping, skipped}, parameters,
        versions, tests: {name: {title, source, figure, ...what the test measures}}}.

    Raises:
        CheckpointError: if a checkpoint cannot be used.
        InputError: if `root` lacks a class, its manifest cannot be read, a test lacks what it needs, or
            `out` cannot be written.
    """
    options = options or Options()
    bench = set_up(checkpoint, against, options)
    _require_rivals(tests, against)
    items = choose_test(find_images(root))
    groups, grouping = find_groups(root, [item.path for item in items])
    of_path = {item.path: group for item, group in zip(items, groups, strict=True)}
    sample = stratified(items, options.max_images, options.seed)
    images, unread = survey(root, sample, workers=options.workers, groups=of_path)
    require_both(root, images)
    plan = Plan(images, bench.own.loaded.preprocessing, options.seed)
    if out is not None:  # what cannot be written is not worth scoring
        open_run_folder(out)
    scores, broken = score(plan, root, tests, bench, options, on_image)
    data = describe_data(root, items, scores.images, [*unread, *broken], grouping)
    result = record(bench, tests, options, data, scores)
    if out is not None:
        write(out, result, scores)
    return result


def _require_rivals(tests: Sequence[StressTest], against: Sequence[Path]) -> None:
    lacking = [test.name for test in tests if "rivals" in test.needs and not against]
    if lacking:
        raise InputError(
            f"{', '.join(lacking)} compares checkpoints and found one; "
            "expected more; name them with --against CKPT"
        )
