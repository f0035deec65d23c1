"""The verbs that judge a detector: evaluate, calibrate, compare, matrix.

`train` measures; what it cannot know of an image (what its file is, whether the detector learnt from it)
is found here, and the pages are written here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.leakage import find_leaks
from curate.probe import examine_header
from curate.survey import Surveyed
from curate.work import Engine, Progress
from pipelines.output import skip_lines, table
from schemas.errors import InputError
from schemas.labels import Split
from schemas.records import Image
from train.artifacts import Learnt, read_learnt
from train.compare import Judged, compare, matrix
from train.data import Item, digest_of, find_images
from train.measure import Leaks, told_over
from train.scores import MEAN, ScoredSet, read_manifest, read_scores, shown_platform
from train.simulated import is_simulated
from train.slices import ImageFacts

LEARNT_FROM = (Split.TRAIN, Split.VAL)
"""Val counts too: it chose the checkpoint."""

TOP = "learnt-from/"
"""Stands before the paths of training images, which may be called like test images."""

HOW = {
    "bytes": "same bytes; a picture that was saved again is not found by that",
    "full": "every kind of copy, group, author and post that wildrf check knows",
}
"""The ways to look for leaks, and what each looks for."""

WAYS = (*HOW, "none")


@dataclass(frozen=True, slots=True)
class Looking:
    """How leaks are looked for: `by` is bytes, full or none; `against` the training data, if named."""

    by: str = "bytes"
    against: Path | None = None


def one_folder(places: Sequence[Path], scores: Path | None) -> Path:
    """The folder to evaluate, after the checkpoint or without one.

    Raises:
        InputError: if there are too few or too many places.
    """
    expected = 1 if scores is not None else 2
    if len(places) != expected:
        wanted = "DIR alone beside --scores FILE" if scores is not None else "CKPT and DIR"
        raise InputError(f"found {len(places)} places to evaluate; expected {wanted}; name those")
    return places[-1]


def refuse_with_scores(scores: Path | None, **given: Any) -> None:
    """Check that nothing was asked for that scores cannot give: they are judged as they are.

    Raises:
        InputError: naming the options.
    """
    told = [f"--{name}" for name, value in given.items() if value]
    if scores is not None and told:
        raise InputError(
            f"{' and '.join(told)} cannot be had with --scores, which scores no image; expected scores "
            "alone; leave it out, or name a checkpoint"
        )


def looking_for(by: str, against: Path | None) -> Looking:
    """How to look for leaks.

    Raises:
        InputError: if that way is not known.
    """
    if by not in WAYS:
        raise InputError(f"--leaks is {by!r}; expected {', '.join(WAYS)}; name one of them")
    return Looking(by, against)


def facts_of(root: Path) -> Callable[[ScoredSet], list[ImageFacts]]:
    """A function that reads the file facts of scored images of `root`, and how sure their labels are."""

    def read(scored: ScoredSet) -> list[ImageFacts]:
        stated = read_manifest(root)
        return [_facts(root / path, stated.get(path, {})) for path in scored.paths]

    return read


def _facts(path: Path, stated: Mapping[str, Any]) -> ImageFacts:
    try:
        image: Image | None = examine_header(path.read_bytes())
    except OSError:
        image = None
    certainty = stated.get("agreement") if stated.get("votes") != 0 else None
    if image is None:
        return ImageFacts(certainty=certainty)
    return ImageFacts(
        format=image.format,
        width=image.width or stated.get("width"),
        height=image.height or stated.get("height"),
        quality=image.jpeg_quality,
        camera=image.camera_make is not None,
        certainty=certainty,
    )


def leaks_of(
    root: Path, checkpoint: Path | None, looking: Looking, engine: Engine, progress: Progress
) -> Callable[[ScoredSet, Mapping[str, Any]], Leaks | str | None]:
    """A function that finds which scored images of `root` the detector learnt from.

    It gives the reason instead where it did not look, and None where nobody says what was learnt from.

    Raises:
        InputError: when called, if the training data that was named cannot be read.
    """

    def find(scored: ScoredSet, told: Mapping[str, Any]) -> Leaks | str | None:
        if looking.by == "none":
            return "as --leaks none asks for"
        learnt, words = _training_data(root, checkpoint, looking, scored)
        if not learnt or words is None:
            return words
        full = looking.by == "full"
        found, unseen = (
            every_kind(scored, root, learnt, engine, progress)
            if full
            else same_bytes(scored, root, [p / item.path for p, items in learnt for item in items])
        )
        if unseen:
            total = sum(len(items) for _, items in learnt)
            words += f", but for {unseen} of {total} files, which cannot be looked at"
        return Leaks(found, HOW[looking.by], words)

    return find


Learning = list[tuple[Path, list[Item]]]
"""Folders, and the images in each that were learnt from."""


def _training_data(
    root: Path, checkpoint: Path | None, looking: Looking, scored: ScoredSet
) -> tuple[Learning, str | None]:
    """What the detector learnt from, and who says so; or nothing, and why, None if nobody says."""
    if looking.against is not None:
        return [
            (looking.against, _named_data(looking.against))
        ], f"{looking.against.name}, as named"
    told = read_learnt(checkpoint) if checkpoint is not None else Learnt()
    held = [(place, items) for place in told.roots if (items := _recorded_data(place))]
    found = {place for place, _ in held}
    lost = ", ".join([*(p.name for p in told.roots if p not in found), *told.unsaid])
    if held:
        names = ", ".join(place.name for place, _ in held)
        words = f"train and val of {names}, as the run's record says"
        return held, words + (f" (not found, so not looked in: {lost})" if lost else "")
    beside = _data_beside(root, scored)
    if beside:
        splits = " and ".join(sorted({item.split.value for item in beside if item.split}))
        words = f"{splits} of {root.name}, beside the judged images (taken for what it learnt from"
        return [(root, beside)], words + (f", as {lost} is not found)" if lost else ")")
    return [], f"as {lost}, which it learnt from, is not found" if lost else None


def _learnt_in(place: Path) -> list[Item]:
    """The images in `place` that are for learning: those of train and val, and those without a split."""
    return [i for i in find_images(place) if i.split in LEARNT_FROM or i.split is None]


def _named_data(place: Path) -> list[Item]:
    """What was learnt from in the folder that the user named.

    Raises:
        InputError: if there is nothing.
    """
    items = _learnt_in(place)
    if not items:
        raise InputError(
            f"{place} holds test images alone; expected what the detector learnt from; name that folder"
        )
    return items


def _recorded_data(place: Path) -> list[Item]:
    """What was learnt from in a folder that a record names; nothing if it is gone or empty."""
    try:
        return _learnt_in(place)
    except InputError:
        return []


def _data_beside(root: Path, scored: ScoredSet) -> list[Item]:
    """The images of train and val in the set itself, but for the scored ones; nothing if it has no train."""
    items = find_images(root)
    if not any(item.split is Split.TRAIN for item in items):
        return []
    judged = set(scored.paths)
    return [item for item in items if item.split in LEARNT_FROM and item.path not in judged]


def same_bytes(scored: ScoredSet, root: Path, files: Sequence[Path]) -> tuple[dict[str, str], int]:
    """Scored images whose very bytes are those of one of `files`, and how many of these cannot be read.

    Only files as long as a scored one are read, so that it takes no time where there is no leak.
    """
    lengths = {(root / path).stat().st_size for path in scored.paths}
    sizes = [_size_of(file) for file in files]
    alike = [file for file, size in zip(files, sizes, strict=True) if size in lengths]
    learnt = [digest_of(file) for file in alike]
    known = set(learnt)
    found = {
        path: "same-bytes"
        for path, digest in zip(scored.paths, scored.digests, strict=True)
        if digest in known
    }
    return found, sizes.count(None) + learnt.count(None)


def _size_of(file: Path) -> int | None:
    """Bytes of `file`; None where there is none, as behind a dangling link, which training skips too."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def every_kind(
    scored: ScoredSet, root: Path, learnt: Learning, engine: Engine, progress: Progress
) -> tuple[dict[str, str], int]:
    """Scored images that leak in any way that `wildrf check` knows, by the kind of the first leak.

    Beside them how many images that were learnt from cannot be examined.
    """
    from pipelines.judge import read_all, survey_images

    tested = survey_images(root, scored.paths, engine, progress)
    others = [
        survey_images(place, [item.path for item in items], engine, progress)
        for place, items in learnt
    ]
    rows = [_as(row, Split.TEST, "") for row in tested.items]
    for n, one in enumerate(others):
        rows += [_as(row, Split.TRAIN, f"{TOP}{n}/") for row in one.items]
    bits = tested.policy.dedupe.distance_bits
    found: dict[str, str] = {}
    for leak in find_leaks(rows, distance_bits=bits, read=read_all([tested, *others])):
        sides = sorted((leak.a, leak.b), key=lambda path: path.startswith(TOP))
        if sides[1].startswith(TOP) and not sides[0].startswith(TOP):
            found.setdefault(sides[0], leak.kind)
    return found, sum(row.image.error is not None for one in others for row in one.items)


def _as(row: Surveyed, split: Split, top: str) -> Surveyed:
    """`row` as if it were in `split`, under a path of its own."""
    placement = replace(row.placement, split=split) if row.placement else None
    return replace(row, path=f"{top}{row.path}", placement=placement)


def evaluate_folder(
    checkpoint: Path,
    root: Path,
    out: Path | None,
    device: str | None,
    *,
    looking: Looking | None = None,
    reencoded: bool = False,
    draws: int | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A checkpoint's numbers on a folder; with `out`, its scores, metrics and page go there."""
    from curate.work import Serial, Silent
    from train.evaluate import Known, evaluate
    from train.intervals.draws import DRAWS

    if out is not None:
        _keep_run(out)
    progress = progress or Silent()
    find = leaks_of(root, checkpoint, looking or Looking(), engine or Serial(), progress)
    result = evaluate(
        checkpoint,
        root,
        out=out,
        device=device or "auto",
        draws=draws or DRAWS,
        seed=seed,
        on_image=_telling(progress),
        known=Known(facts_of(root), find),
        reencoded=reencoded,
    )
    return _with_page(result, out, checkpoint.parent)


def evaluate_table(
    scores: Path,
    root: Path,
    out: Path | None,
    *,
    looking: Looking | None = None,
    draws: int | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The numbers of another detector, by its scores of the images in a folder."""
    from curate.work import Serial, Silent
    from train.evaluate import Known, evaluate_scores
    from train.intervals.draws import DRAWS

    if out is not None:
        _keep_run(out)
    find = leaks_of(root, None, looking or Looking(), engine or Serial(), progress or Silent())
    known = Known(facts_of(root), find)
    result = evaluate_scores(scores, root, out=out, draws=draws or DRAWS, seed=seed, known=known)
    return _with_page(result, out, None)


def _keep_run(out: Path) -> None:
    """Refuse to write over what a training left.

    Raises:
        InputError: if `out` is the folder of a training run.
    """
    if (out / "checkpoint.pt").exists():
        raise InputError(
            f"{out} is the folder of a training run, whose validation scores would be lost; expected "
            f"another; use --out {out}/evaluation"
        )


def _telling(progress: Progress) -> Callable[[int, int], None]:
    """Tells how far each pass over the images is; the second is that of `--reencoded`."""
    passes = iter(("score", "score re-encoded"))

    def tell(done: int, total: int) -> None:
        if done == 1:
            progress.start(next(passes), total)
        progress.advance(1)

    return tell


def _with_page(result: dict[str, Any], out: Path | None, run: Path | None) -> dict[str, Any]:
    if out is None:
        return {**result, "report": None}
    from pipelines.report.evaluation import write_evaluation_page

    page = write_evaluation_page(result, out, run=run)
    return {**result, "report": str(page)}


def calibrate_folder(
    checkpoint: Path,
    root: Path,
    device: str | None,
    rates: Sequence[float],
    progress: Progress | None = None,
    *,
    undecided: float | None = None,
) -> dict[str, Any]:
    """A temperature and thresholds for a checkpoint, left beside it."""
    from curate.work import Silent
    from train.evaluate import calibrate_checkpoint

    calibration, place = calibrate_checkpoint(
        checkpoint,
        root,
        device=device or "auto",
        rates=rates,
        undecided=undecided,
        on_image=_telling(progress or Silent()),
    )
    simulated = is_simulated(root, checkpoint)
    return {**calibration.to_dict(), "path": str(place), "simulated": simulated}


def compare_runs(
    paths: Sequence[Path], *, draws: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Each run or score file against the first."""
    from train.intervals.draws import DRAWS

    runs = _named(paths, read_scores)
    simulated = any(run.context.get("simulated", False) for run in runs.values())
    return {**compare(runs, draws=draws or DRAWS, seed=seed), "simulated": simulated}


def _named(paths: Sequence[Path], read: Callable[[Path], Any]) -> dict[str, Any]:
    """What `read` makes of each path, by the shortest ending of the path that tells it from the others."""
    for depth in range(1, max((len(path.absolute().parts) for path in paths), default=1) + 1):
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
        if len(set(names)) == len(paths):
            return {name: read(path) for name, path in zip(names, paths, strict=True)}
    places = [path.absolute() for path in paths]
    twice = next(path for path in paths if places.count(path.absolute()) > 1)
    raise InputError(f"{twice} is named twice; expected different runs; name each once")


def matrix_of(
    paths: Sequence[Path], out: Path | None, *, draws: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Runs against test platforms; with `out`, as a page too."""
    from train.intervals.draws import DRAWS

    judged = _named(paths, _judged)
    simulated = any(run.scored.context.get("simulated", False) for run in judged.values())
    found = matrix(judged, draws=draws or DRAWS, seed=seed)
    result = {**found, "simulated": simulated}
    if out is None:
        return {**result, "report": None}
    from pipelines.report.evaluation import write_matrix_page

    return {**result, "report": str(write_matrix_page(result, out))}


def _judged(path: Path) -> Judged:
    """The scores of a run, and the platforms it was trained on as its record says."""
    scored = read_scores(path)
    checkpoint = _checkpoint_of(path, scored.context.get("checkpoint", {}))
    told = read_learnt(checkpoint) if checkpoint is not None else Learnt()
    platforms = [trained_on(place) for place in told.roots]
    complete = bool(platforms) and all(platforms) and not told.unsaid
    return Judged(scored, tuple(sorted({name for p in platforms for name in p})), complete)


def _checkpoint_of(path: Path, told: Mapping[str, Any]) -> Path | None:
    """The checkpoint that gave the scores at `path`: that of its run, or where it was; None if neither is."""
    if told.get("foreign") or "path" not in told:
        return None
    beside = [folder / "checkpoint.pt" for folder in (path, *path.parents[:2])]
    for place in (*beside, Path(told["path"])):
        if place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() == told.get("sha256"):
            return place
    return None


def trained_on(root: Path) -> list[str]:
    """The platforms of the training images in `root`: as its manifest, or its folders, tell."""
    if not root.is_dir():
        return []
    stated = read_manifest(root)
    named = {
        row["platform"]
        for row in stated.values()
        if row.get("split") == Split.TRAIN and row.get("platform")
    }
    if not named:
        named = {i.platform for i in _recorded_data(root) if i.split is Split.TRAIN and i.platform}
    return sorted(set(map(shown_platform, named)))


SHOWN = ("acc", "ap", "auc")


def evaluate_lines(result: dict[str, Any]) -> list[str]:
    """The table per platform and the mean; then what qualifies it, a line each."""
    calibrated = result["calibration"] is not None
    names = ["acc", *(["acc_calibrated"] if calibrated else []), "ap", "auc"]
    skipped = result["skipped_by"]

    def row(name: str, n: str, values: Mapping[str, Any] | None) -> list[str]:
        left_out = [_classes(skipped.get(name, {}))] if skipped else []
        return [
            name,
            n,
            *left_out,
            *(with_interval(values, key) if values else "-" for key in names),
        ]

    platforms = dict.fromkeys(skipped) | result["platforms"]
    rows = [row(name, str(p["n"]) if p else "0", p) for name, p in sorted(platforms.items())]
    rows.append(row("mean", "", result["mean"]))
    columns = {"acc": "ACC", "acc_calibrated": "ACC calibrated", "ap": "AP", "auc": "AUC"}
    header = ["platform", "n", *(["skipped"] if skipped else []), *(columns[key] for key in names)]
    return [*table(rows, header), *_notes(result)]


def _classes(counts: Mapping[str, int]) -> str:
    """How many of each class, such as ``1 real, 2 fake``."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)


def _notes(result: Mapping[str, Any]) -> list[str]:
    groups, total = result["groups"], len(result["platforms"])
    return [
        *_data_note(result["data"]),
        *([f"scores read as {told}"] if (told := result["checkpoint"].get("scores")) else []),
        f"intervals: 95 %, {groups['n']} groups of {groups['images']} images ({groups['source']})",
        *_mean_notes(result["mean"], total),
        *_gap_note("with file facts matched", result["matched"], total),
        *_gap_note("re-encoded to one format", result["rescored"], total),
        *_leak_note(result["leaks"], result["leaks_note"], total),
        *_calibration_notes(result),
        *_undecided_notes(result["undecided"]),
        *skip_lines(result["skipped"], "metrics.json" if result.get("report") else "--json"),
        *([f"report: {result['report']}"] if result.get("report") else []),
    ]


def _data_note(data: Mapping[str, Any]) -> list[str]:
    """Which part of the set was judged, where it is not what one would think."""
    if data["split"] == Split.TEST or set(data["splits"]) == {"none"}:
        return []
    words = "val" if data["split"] else "those without a split"
    counts = ", ".join(f"{name} {n}" for name, n in data["splits"].items())
    return [
        f"images: {words}, as there is no test ({counts}); if they chose the checkpoint, it flatters"
    ]


def _calibration_notes(result: Mapping[str, Any]) -> list[str]:
    """What makes calibrated numbers better than they are, and promises that do not hold here."""
    seen, n = result["calibrated_on"], result["data"]["n"]
    return [
        *([f"calibration: made on {seen} of these {n} images too, which flatters"] if seen else []),
        *(_exceeded(row) for row in result["promises"] if row["above"]),
    ]


def _exceeded(row: Mapping[str, Any]) -> str:
    """A platform whose reals lie above a threshold more often than it promised on average."""
    why = (
        f"within what this calibration set allows, {row['bound']:.3g} with 95 % confidence"
        if row["kept"]
        else "they are unlike those of the calibration"
    )
    return (
        f"{row['platform']}: {row['fpr']:.3g} of {row['n_real']} reals are above the threshold that "
        f"promised {row['rate']:g}: {why}"
    )


def _undecided_notes(found: Mapping[str, Any] | None) -> list[str]:
    """How much of each platform is left undecided, and how right the rest is."""
    return [
        f"{name}: {with_interval({'share': row['share'], 'ci': {'share': row['ci']}}, 'share')} undecided of "
        f"{row['n']}; of the others "
        + (f"ACC {with_interval(row['decided'], 'acc')}" if row["decided"] else "there is none")
        for name, row in (found["platforms"] if found else {}).items()
    ]


def _mean_notes(mean: Mapping[str, Any], total: int) -> list[str]:
    """Platforms that a mean is not over, and those that it has no interval for."""
    told = _few_notes(mean["n_platforms"], total)
    if mean["no_interval"]:
        told.append(
            f"no interval of the mean, as {', '.join(mean['no_interval'])} has none: the images of a "
            "class there are one group"
        )
    return told


def _few_notes(over: Mapping[str, Any], total: int) -> list[str]:
    """The metrics whose mean is not over all platforms; `over` is how many each is over."""
    few = [key for key in SHOWN if over[key] < total]
    if not few:
        return []
    return [
        f"mean {' and '.join(map(str.upper, few))}: over {over[few[0]]} of {total} platforms, as the "
        "others have images of one class alone"
    ]


def _gap_note(words: str, part: Mapping[str, Any] | None, total: int) -> list[str]:
    if part is None:
        return []
    if part["mean"] is None:
        return [f"{words}: the classes share too few file facts to measure anything"]
    gap = (part["gap"] or {}).get("ap")
    moved = f" ({_signed(gap)})" if gap else ""
    return [f"{words}: AP {number(part['mean']['ap'])}{moved}{told_over(part, total)}"]


def _leak_note(leaks: Mapping[str, Any] | None, note: str | None, total: int) -> list[str]:
    if leaks is None:
        note = note or "as it is not known what the detector learnt from"
        return [f"leaks: not looked for, {note}"]
    if not leaks["n"]:
        return [f"leaks: none in {leaks['against']} (looked for: {leaks['how']})"]
    words = f"leaks: {leaks['n']} images are also in {leaks['against']}"
    without = leaks["without"]
    if without is None:
        return [f"{words}; nothing is left without them"]
    gap = leaks["gap"]["ap"]
    moved = f" ({_signed(gap)})" if gap else ""
    return [
        f"{words}; AP without them {number(without['mean']['ap'])}{moved}{told_over(without, total)}"
    ]


def _signed(gap: Mapping[str, Any]) -> str:
    ends = f" [{gap['ci'][0]:+.3f}, {gap['ci'][1]:+.3f}]" if gap["ci"] else ""
    return f"{gap['difference']:+.3f}{ends}"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(values: Mapping[str, Any], key: str) -> str:
    """A metric with its interval, such as ``0.917 [0.889, 0.938]``."""
    ends = values["ci"].get(key)
    return number(values[key]) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")


def calibrate_lines(result: Mapping[str, Any]) -> list[str]:
    """What was found, and what it promises."""
    before, after = result["before"], result["after"]
    return [
        f"on {result['n_real']} real and {result['n_fake']} fake images ({result['data']['images']})",
        f"temperature {result['temperature']:.3f}: ECE {number(before['ece'])} -> "
        f"{number(after['ece'])}, Brier {number(before['brier'])} -> {number(after['brier'])}",
        f"threshold (logit) {result['threshold']:.3f}: balanced accuracy "
        f"{number(before['balanced_acc'])} -> {number(after['balanced_acc'])}",
        "both on the very images that set them (in-sample): on others expect less; `wildrf evaluate` says "
        "how much",
        *(_promise(row) for row in result["conformal"]),
        *_band_lines(result["band"]),
        f"written: {result['path']}",
    ]


def _promise(row: Mapping[str, Any]) -> str:
    words = f"at most {row['rate']:g} of new reals called fake"
    if row["threshold"] is None:
        return f"{words}: takes {row['needs']} real images, there are {row['n_real']}"
    counted = f"n={row['n_real']}"
    if row["n_groups"] not in (None, row["n_real"]):
        counted += f" in {row['n_groups']} groups, which the bound counts"
    return (
        f"{words}: threshold (logit) {row['threshold']:.3f} ({counted}; with 95 % confidence at most "
        f"{row['rate_bound']:.3g} for this very set)"
    )


def _band_lines(band: Mapping[str, Any] | None) -> list[str]:
    if band is None:
        return []
    return [
        f"at most {band['rate']:g} of new reals called fake and of new fakes called real: fake above logit "
        f"{band['high']:.3f}, real below {band['low']:.3f}, between them undecided"
    ]


def compare_lines(result: Mapping[str, Any]) -> list[str]:
    """A table per pair, and what its numbers are over."""
    images, groups = result["images"], result["groups"]
    dropped = images["dropped"]
    lines = []
    if dropped:
        lines.append(
            f"left out of all: {len(dropped)} images that not every detector could open, such as "
            f"{dropped[0]}"
        )
    for pair in result["comparisons"]:
        lines += _pair_lines(pair, images)
    return [
        *lines,
        f"intervals: 95 %, {groups['n']} groups of {images['n']} images ({groups['source']})",
    ]


def _pair_lines(pair: Mapping[str, Any], images: Mapping[str, Any]) -> list[str]:
    """Each metric of both detectors and their difference, by platform; then McNemar's test."""
    told, platforms = pair["mcnemar"], images["platforms"]
    rows = [
        [part, str(platforms[part]["n"]) if part in platforms else "", key.upper(), *_compared(one)]
        for part, found in pair["parts"].items()
        for key, one in found.items()
    ]
    mean = pair["parts"][MEAN]
    over = {key: one["n_platforms"] if one else 0 for key, one in mean.items()}
    return [
        f"{pair['b']} less {pair['a']} on {images['n']} images:",
        *table(rows, ["platform", "n", "metric", pair["a"], pair["b"], "difference"]),
        *_few_notes(over, len(platforms)),
        f"McNemar: {told['only_a']} only {pair['a']} gets right, {told['only_b']} only "
        f"{pair['b']}; p = {told['p']:.3g}",
    ]


def _compared(one: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """A metric of the first, of the second, and the difference with its interval."""
    return (number(one["a"]), number(one["b"]), _signed(one)) if one else ("-", "-", "-")


def matrix_lines(result: Mapping[str, Any]) -> list[str]:
    """AP of every run on every platform; platforms it was trained on are marked."""
    rows = [
        [
            row["name"],
            ", ".join(row["trained_on"]) or "not known",
            *(_cell(row["cells"].get(p)) for p in result["platforms"]),
            with_interval(row["mean"], "ap"),
            with_interval(row["unseen"], "ap") if row["unseen"] else "-",
        ]
        for row in result["rows"]
    ]
    header = ["AP of", "trained on", *result["platforms"], "mean", "unseen"]
    over = ", ".join(result["shared"]) or "no platform"
    return [
        *table(rows, header),
        "* seen in training, ? not known, # other images than in the first run of the column",
        f"mean and unseen are over {over}: where all runs were judged by the same images",
    ]


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    seen = {True: "*", False: "", None: "?"}[cell["seen"]]
    return with_interval(cell, "ap") + seen + ("" if cell["same_images"] else "#")
