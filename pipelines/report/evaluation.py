"""The page of one evaluation: what the detector is worth on each platform, and what that leaves open.

Whatever another verb left in the run's folder (stress tests, heat maps) has its place there too
(`pipelines.report.sections`), and that verb makes the page anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from markupsafe import Markup

from pipelines.report import page, plots
from pipelines.report.sections import exposed, sections_of
from train.artifacts import CONFIG, name_of
from train.measure import LEAST, told_over
from train.metrics import reliability, roc_points
from train.scores import ONE_EACH, ScoredSet, read_scores

TABLES: Mapping[str, Mapping[str, str]] = {
    "Ranking": {
        "ap": "AP",
        "auc": "AUC",
        "tpr 0.01": "TPR, 1% FPR",
        "tpr 0.05": "TPR, 5% FPR",
        "eer": "EER",
    },
    "Decisions": {
        "acc": "ACC at 0.5",
        "acc_calibrated": "ACC calibrated",
        "balanced_acc": "Balanced ACC at 0.5",
        "balanced_acc_calibrated": "Balanced ACC calibrated",
    },
    "Probabilities": {
        "brier": "Brier",
        "brier_calibrated": "Brier calibrated",
        "ece": "ECE",
        "ece_calibrated": "ECE calibrated",
    },
}
"""The tables of platforms, by title; their columns, by metric."""

GAPS = {"acc": "ACC", "ap": "AP", "auc": "AUC"}
SLICES = {
    "format": "File format",
    "quality": "JPEG quality",
    "size": "Longer side",
    "camera": "Camera",
    "certainty": "Label certainty",
}
DRAWN = 6
"""Platforms drawn as curves."""
SHOWN = 12
"""Leaked images and skipped files shown."""


def write_evaluation_page(result: Mapping[str, Any], out: Path, *, run: Path | None = None) -> Path:
    """Write report.html into `out`, beside the scores that `result` was measured on.

    Args:
        result: what `train.evaluate.evaluate` gave.
        out: the folder with scores.parquet.
        run: the folder of the run that trained the detector; its curve, stress tests and heat maps
            are shown, if it has them.
    """
    heading = _heading(result, run)
    html = page.render(
        "evaluation.html",
        title=f"Evaluation of {heading}",
        heading=heading,
        detector=_detector(result["checkpoint"]),
        judged=PurePath(result["data"].get("root", "")).name,
        simulated=result.get("simulated", False),
        result=result,
        training=_training(result, run),
        **_told(result),
        **_drawn(result, read_scores(out / "scores.parquet")),
        **_left(result, [folder for folder in (out, run) if folder is not None]),
    )
    return page.write(out / "report.html", html)


def _heading(result: Mapping[str, Any], run: Path | None) -> str:
    """What the page is about: the run, as it is called now, or the file of another detector's scores."""
    path = Path(result["checkpoint"]["path"])
    if _is_foreign(result):
        return path.name
    return name_of(run / path.name if run is not None else path)


def _detector(checkpoint: Mapping[str, Any]) -> str:
    """The detector, and how far it was trained."""
    trained = [f"{key} {checkpoint[key]}" for key in ("epoch", "seed") if key in checkpoint]
    return ", ".join([checkpoint["detector"], *trained])


def _told(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the evaluation itself says, as tables and sentences."""
    return {
        "figures": figures_of(result),
        "tables": [platform_table(title, columns, result) for title, columns in TABLES.items()],
        "gaps": [
            *_gap_table("File facts matched", result["matched"], result["platforms"]),
            *_gap_table("Re-encoded to one format", result["rescored"], result["platforms"]),
        ],
        "leaks": leak_context(result),
        "slices": _slice_context(result),
        "same": _same_everywhere(result),
        "open_questions": open_questions(result),
        "skipped": result["skipped"][:SHOWN],
        "n_more_skipped": len(result["skipped"][SHOWN:]),
    }


def _left(result: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """What other verbs left of the same weights, and all that there is to warn of."""
    digest = result["checkpoint"]["sha256"]
    return {
        "warnings": [*exposed(folders, digest), *warnings_of(result)],
        "sections": sections_of(folders, digest),
    }


def remake_page(place: Path) -> Path | None:
    """Write the page of the evaluation beside or around `place` anew, once a verb left something there.

    Returns:
        The page; None if there is no evaluation, or one that another version wrote.
    """
    for folder in (place.parent / "evaluation", place.parent, place):
        result = _evaluation_in(folder)
        if result is not None:
            return write_evaluation_page(result, folder, run=run_of(result, folder))
    return None


def with_evaluation(result: Mapping[str, Any]) -> dict[str, Any]:
    """`result` of a verb that left something, and the page of the evaluation beside it, made anew.

    The page is under `evaluation_report`; None if there is no evaluation, or nothing was left.
    """
    remade = remake_page(Path(result["report"]).parent) if result["report"] else None
    return {**result, "evaluation_report": str(remade) if remade else None}


def remade_line(result: Mapping[str, Any]) -> list[str]:
    """The page that was made anew."""
    where = result["evaluation_report"]
    return [f"page of the evaluation, made anew: {where}"] if where else []


def _evaluation_in(folder: Path) -> dict[str, Any] | None:
    """The evaluation that this version wrote into `folder` with its page, if it did."""
    try:
        result: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
        mine = "platforms" in result and result["versions"]["wildrf"] == version("wildrf")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all((folder / name).is_file() for name in ("scores.parquet", "report.html"))
    return result if mine and whole else None


def run_of(result: Mapping[str, Any], folder: Path) -> Path | None:
    """The folder of the run that the evaluation in `folder` is of, even if both were moved."""
    told = result["checkpoint"]
    if _is_foreign(result):  # there is no run
        return None
    own = Path(told["path"]).parent  # has other weights by now, if neither has these
    return next((place for place in (folder.parent, own) if _has_weights(place, told)), own)


def _is_foreign(result: Mapping[str, Any]) -> bool:
    """Whether another detector was judged, by its scores."""
    return bool(result["checkpoint"].get("foreign", False))


def _has_weights(run: Path, told: Mapping[str, Any]) -> bool:
    """Whether the checkpoint that was judged lies in the folder `run`."""
    files = {run / "checkpoint.pt", run / Path(told["path"]).name}
    return any(
        file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == told["sha256"]
        for file in files
    )


def warnings_of(result: Mapping[str, Any]) -> list[str]:
    """What makes the headline numbers better than the detector is, as far as the evaluation saw."""
    told = []
    matched, leaks = result["matched"], result["leaks"]
    for name, found in (matched["platforms"] if matched else {}).items():
        native = result["platforms"][name]
        if found["too_few"] and min(native["n_real"], native["n_fake"]) >= LEAST:
            told.append(
                f"{name}: only {found['n_matched']:.0f} of {found['n_of']} images have a counterpart of "
                "the other class with the same format, quality and size. A detector that reads the file "
                "and not the picture would do well here."
            )
    for words, rest, part in (
        ("file facts matched", HARDER, matched),
        ("one common format", FRAGILE, result["rescored"]),
    ):
        gap = ((part or {}).get("gap") or {}).get("auc")
        if gap and gap["ci"] and gap["ci"][1] < 0:
            told.append(
                f"With {words} the AUC changes by {show_change(gap)}: at most so much of it is the file. "
                f"{rest}"
            )
    for row in result["promises"]:
        if not row["kept"]:
            told.append(
                f"{row['platform']}: {100 * row['fpr']:.3g}% of the reals lie above the threshold that "
                f"promised {100 * row['rate']:.3g}%; they are unlike the reals of the calibration."
            )
    if leaks and leaks["n"]:
        told.append(f"{leaks['n']} test images are also in {leaks['against']}.")
    if (result.get("data") or {}).get("split") == "val":
        told.append(
            "These are validation images, as the set has no test: if they chose the checkpoint, it flatters."
        )
    if result.get("calibrated_on"):
        told.append(
            f"The calibration was made on {result['calibrated_on']} of the images too: calibrated numbers "
            "flatter."
        )
    return told


HARDER = "The rest may be pictures that are harder: those of the facts that both classes have."
FRAGILE = (
    "The rest may be fragility: re-encoding takes traces of a generator too. wildrf stress --test "
    "counterfactuals looks into which it is."
)
"""What else than the file may take from the AUC, where files are made alike in either way."""


def show(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def show_ends(ends: Sequence[float] | None) -> str:
    """An interval in few characters."""
    return "" if ends is None else f"{ends[0]:.3f}\u2013{ends[1]:.3f}"


def value_of(report: Mapping[str, Any], key: str) -> tuple[float | None, Sequence[float] | None]:
    """A metric and its interval; `tpr 0.01` is the true positive rate at that rate."""
    return _at(report, key), _at(report["ci"], key)


def _at(values: Mapping[str, Any], key: str) -> Any:
    rate = key.removeprefix("tpr ")
    return values[key] if rate == key else values["tpr_at_fpr"][rate]


def platform_table(
    title: str, columns: Mapping[str, str], result: Mapping[str, Any]
) -> dict[str, Any]:
    """One table of platforms; calibrated columns only where there is a calibration."""
    calibrated = result["calibration"] is not None
    shown = {k: name for k, name in columns.items() if calibrated or "calibrated" not in k}
    rows = [_metric_row(name, report, shown) for name, report in result["platforms"].items()]
    rows.append(_mean_row(result["mean"], shown, len(result["platforms"])))
    return {"title": title, "columns": list(shown.values()), "rows": rows}


def _metric_row(name: str, report: Mapping[str, Any], shown: Mapping[str, str]) -> dict[str, Any]:
    counts = {key: report[key] for key in ("n_real", "n_fake", "n_groups")}
    return {"name": name, "mean": False, **counts, "cells": [_cell(report, key) for key in shown]}


def _mean_row(mean: Mapping[str, Any], shown: Mapping[str, str], total: int) -> dict[str, Any]:
    """The mean; a metric that not all of `total` platforms have says how many it is over."""
    cells = []
    for key in shown:
        over = _over(mean, key, total)
        cells.append({**_cell(mean, key), "over": "" if over == _all(total) else over})
    return {"name": f"mean, {_all(total)}", "mean": True, "cells": cells}


def _cell(report: Mapping[str, Any], key: str) -> dict[str, str]:
    value, ends = value_of(report, key)
    return {"value": show(value), "ends": show_ends(ends), "over": ""}


def _all(total: int) -> str:
    return f"over {total} platform{'s' if total > 1 else ''}"


def _over(mean: Mapping[str, Any], key: str, total: int) -> str:
    """Over how many of `total` platforms a mean is."""
    n = _at(mean["n_platforms"], key)
    return _all(total) if n == total else f"over {n} of {total} platforms"


def figures_of(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The mean over platforms, and how many images that is."""
    mean, groups, platforms = result["mean"], result["groups"], len(result["platforms"])
    told = [
        {
            "name": name,
            "value": show(mean[key]),
            "note": f"{_note(mean, key)}; {_over(mean, key, platforms)}",
        }
        for key, name in (("ap", "Mean AP"), ("auc", "Mean AUC"), ("acc", "Mean ACC at 0.5"))
    ]
    return [
        *told,
        {
            "name": "Images",
            "value": page.show_count(groups["images"]),
            "note": f"{page.show_count(groups['n'])} groups, {platforms} platform"
            f"{'s' if platforms > 1 else ''}",
        },
    ]


def _note(mean: Mapping[str, Any], key: str) -> str:
    if ends := mean["ci"][key]:
        return f"95% interval {show_ends(ends)}"
    without = mean["no_interval"]
    return f"no interval: {', '.join(without)} has none" if without else "no interval"


def _gap_table(
    title: str, part: Mapping[str, Any] | None, native: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Native and matched side by side, per platform and in the mean."""
    if part is None:
        return []
    rows = [
        {
            "name": name,
            "n": f"{found['n_matched']:.0f} of {found['n_of']}" if "n_of" in found else found["n"],
            "few": found.get("too_few", False),
            "pairs": []
            if found.get("too_few")
            else [_pair(native[name], found, key) for key in GAPS],
        }
        for name, found in part["platforms"].items()
    ]
    gap = part["gap"] or {}
    changes = [
        {"name": name, "text": show_change(gap[key])} for key, name in GAPS.items() if gap.get(key)
    ]
    how = part["how"] + told_over(part, len(native))
    return [{"title": title, "how": how, "rows": rows, "changes": changes}]


def _pair(native: Mapping[str, Any], found: Mapping[str, Any], key: str) -> dict[str, str]:
    return {
        "native": show(native[key]),
        "matched": show(found[key]),
        "ends": show_ends(found["ci"][key]),
    }


def show_change(gap: Mapping[str, Any]) -> str:
    """A difference with its interval and sign."""
    ends = f" [{gap['ci'][0]:+.3f}, {gap['ci'][1]:+.3f}]" if gap["ci"] else ""
    return f"{gap['difference']:+.3f}{ends}"


def leak_context(result: Mapping[str, Any]) -> dict[str, Any]:
    """Which images were learnt from, what that means for the numbers, and the numbers without them."""
    leaks = result["leaks"]
    if leaks is None:
        note = result.get("leaks_note")
        words = f"No image was looked for, {note}." if note else LEAKS_UNKNOWN
        return {"words": words, "rows": [], "images": [], "more": 0}
    if not leaks["n"]:
        words = f"None of the images was found in {leaks['against']} (looked for: {leaks['how']})."
        return {"words": words, "rows": [], "images": [], "more": 0}
    without = leaks["without"]
    over = told_over(without, len(result["platforms"])) if without else ""
    advice = f"Quote the numbers without them{over}." if without else ALL_LEARNT
    words = (
        f"{leaks['n']} of the images are also in {leaks['against']} (looked for: {leaks['how']}). "
        f"{advice}"
    )
    return {
        "words": words,
        "rows": _rows_without(result, without) if without else [],
        "images": leaks["images"][:SHOWN],
        "more": len(leaks["images"][SHOWN:]),
    }


def _rows_without(result: Mapping[str, Any], without: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each platform as it is and without what was learnt from."""
    rows = []
    for name, report in without["platforms"].items():
        pairs = [_pair(result["platforms"][name], report, key) for key in GAPS]
        rows.append({"name": name, "n": report["n"], "few": False, "pairs": pairs})
    return rows


ALL_LEARNT = "Nothing is left without them: no number here says how it does on new images."

LEAKS_UNKNOWN = (
    "It is not known what the detector learnt from, so no image could be looked for there. Name that "
    "data with --trained-on."
)


def _slice_context(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The slices of each kind with their numbers, or why there is none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in result["slices"]:
        few = row["too_few"]
        cells = [] if few else [value_of(row, key) for key in ("acc", "ap", "auc")]
        found.setdefault(row["by"], []).append(
            {
                **{key: row[key] for key in ("value", "n_real", "n_fake")},
                "few": few,
                "cells": [{"value": show(v), "ends": show_ends(e)} for v, e in cells],
            }
        )
    return [{"title": title_of(by), "rows": rows} for by, rows in found.items() if len(rows) > 1]


def title_of(by: str) -> str:
    """What a slicer is called on the page: by default, as in `train.slices.SLICERS`."""
    return SLICES.get(by, by.replace("_", " ").capitalize())


def _same_everywhere(result: Mapping[str, Any]) -> str:
    """File facts that all images share, in words: slices of those would repeat the whole."""
    values: dict[str, list[str]] = {}
    for row in result["slices"]:
        values.setdefault(row["by"], []).append(row["value"])
    shared = [f"{title_of(by)} ({v[0]})" for by, v in values.items() if len(v) == 1]
    return ", ".join(shared)


def _drawn(result: Mapping[str, Any], scored: ScoredSet) -> dict[str, Any]:
    """The plots, and a sentence on the platforms that have no curve."""
    drawn, undrawn = platforms_drawn(result)
    platforms = np.array(scored.platforms)
    curves = {
        name: roc_points(scored.logits[platforms == name], scored.labels[platforms == name])
        for name in drawn
    }
    several = "All platforms together" if len(result["platforms"]) > 1 else "All images"
    return {
        "plots": _plots(result, scored, curves),
        "undrawn": undrawn,
        "pooled": f"{several}, n = {page.show_count(len(scored))}",
    }


def platforms_drawn(result: Mapping[str, Any]) -> tuple[list[str], str]:
    """The platforms with the lowest AUC, which are drawn, and a sentence that names the others."""
    areas = {name: report["auc"] for name, report in result["platforms"].items()}
    ranked = sorted((name for name in areas if areas[name] is not None), key=lambda n: areas[n])
    told = [f"Drawn: the {DRAWN} platforms with the lowest AUC."] if ranked[DRAWN:] else []
    one_class = [f"{name} (one class only)" for name in areas if areas[name] is None]
    if left_out := [*ranked[DRAWN:], *one_class]:
        told.append(f"Without a curve: {', '.join(left_out)}.")
    return ranked[:DRAWN], " ".join(told)


Curves = Mapping[str, tuple[plots.Floats, plots.Floats]]


def _plots(
    result: Mapping[str, Any], scored: ScoredSet, curves: Curves
) -> dict[str, Markup | None]:
    bins = {"as it is": reliability(scored.logits, scored.labels)}
    if result["calibration"]:
        temperature = result["calibration"]["temperature"]
        bins["calibrated"] = reliability(scored.logits, scored.labels, temperature)
    real, fake = scored.logits[scored.labels == 0], scored.logits[scored.labels == 1]
    return {
        "dots": _dots(result),
        "roc": page.markup(plots.rocs(curves)) if curves else None,
        "det": page.markup(plots.det(curves))
        if any(map(_has_both_errors, curves.values()))
        else None,
        "reliability": page.markup(plots.reliability(bins)),
        "histogram": page.markup(
            plots.histogram(real.tolist(), fake.tolist(), label="logit", width=plots.HALF)
        ),
    }


def _has_both_errors(curve: tuple[plots.Floats, plots.Floats]) -> bool:
    """Whether some threshold errs on both classes: a DET plot has no other place."""
    false, true = curve
    return bool(np.any((false > 0) & (false < 1) & (true > 0) & (true < 1)))


def _dots(result: Mapping[str, Any]) -> Markup | None:
    """AUC with its interval: platforms, then matched, then slices."""
    kinds = [row["by"] for row in result["slices"]]
    sliced = [r for r in result["slices"] if not r["too_few"] and kinds.count(r["by"]) > 1]
    named = [
        *((name, report) for name, report in result["platforms"].items()),
        *_part_dots("matched", result["matched"]),
        *_part_dots("re-encoded", result["rescored"]),
        *((f"{title_of(row['by'])}: {row['value']}", row) for row in sliced),
    ]
    dots = [
        plots.Dot(name, report["auc"], *report["ci"]["auc"])
        for name, report in named
        if report["auc"] is not None and report["ci"]["auc"] is not None
    ]
    return page.markup(plots.dot_plot(dots)) if dots else None


def _part_dots(word: str, part: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    if part is None:
        return []
    found = part["platforms"].items()
    return [(f"{name}, {word}", report) for name, report in found if not report.get("too_few")]


def _training(result: Mapping[str, Any], run: Path | None) -> dict[str, Any]:
    """Curves and recipe of the run, in whose folder the weights that were judged must still be."""
    nothing = {"curves": [], "recipe": "", "words": ""}
    rows = _lines(run / "curve.jsonl") if run is not None else []
    if run is None or not _has_weights(run, result["checkpoint"]):
        return {**nothing, "words": OTHER_RUN if rows else ""}
    record = _record(run)
    recipe = record.get("recipe")
    return {
        **nothing,
        "curves": curves_of(rows, record),
        "recipe": json.dumps(recipe, sort_keys=True) if recipe else "",
    }


OTHER_RUN = (
    "Not shown: the folder of the run holds other weights by now than those that were judged."
)


def curves_of(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> list[Markup]:
    """Loss and validation over epochs; a student's two losses are of two kinds, on axes of their own."""
    if len(rows) < 2:
        return []
    train, val = _column(rows, "loss"), _column(rows, "val_loss")
    losses = {PER_IMAGE: {"train": train, "val": val}}
    if record.get("teacher"):
        losses = {f"train: {PER_PATCH}": {"train": train}, f"val: {PER_IMAGE}": {"val": val}}
    measured = [row.get("val") or {} for row in rows]
    vals = {"AP": _column(measured, "ap"), "accuracy": _column(measured, "acc")}
    half: dict[str, Any] = {"x_label": "epoch", "width": plots.HALF}
    return [
        *(page.markup(plots.curves(drawn, y_label=unit, **half)) for unit, drawn in losses.items()),
        page.markup(plots.curves(vals, y_label="validation", ceiling=1.02, **half)),
    ]


PER_IMAGE, PER_PATCH = "cross-entropy per image, nats", "squared error per patch logit"


def _record(run: Path) -> dict[str, Any]:
    """The record of a run; nothing where there is none."""
    try:
        record = json.loads((run / CONFIG).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """A number of each row; NaN where there is none."""
    values = [row.get(key) for row in rows]
    return [float(v) if isinstance(v, int | float) else float("nan") for v in values]


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def open_questions(result: Mapping[str, Any]) -> list[str]:
    """What these numbers cannot tell, as far as the evaluation itself knows."""
    small = [n for n, p in result["platforms"].items() if min(p["n_real"], p["n_fake"]) < FEW]
    matched, leaks = result["matched"], result["leaks"]
    asked = {
        "groups": result["groups"]["source"] == ONE_EACH,
        "learnt": leaks is None,
        "copies": leaks is not None and leaks["how"].startswith("same bytes"),
        "file": matched is None or matched["mean"] is None,
        "format": result["rescored"] is None,
        "probability": result["calibration"] is None,
        "small": bool(small),
        "beyond": True,
    }
    words = {**QUESTIONS, **(ASKED_OF_SCORES if _is_foreign(result) else {})}
    return [words[name].format(small=", ".join(small)) for name, open_ in asked.items() if open_]


FEW = 100
"""Images of a class below which a platform cannot tell small differences."""

QUESTIONS = {
    "groups": "Groups are not known: every image counts as independent. Copies of one picture, or one "
    "author with many, would make every interval too narrow.",
    "learnt": "Whether test images were learnt from: they were not looked for in the training data.",
    "copies": "Whether pictures were learnt from in another file: only equal bytes were looked for; "
    "--leaks full looks for copies.",
    "file": "Whether the detector reads the file rather than the picture: too few reals and fakes have "
    "the same format, quality and size to measure that. Run wildrf audit on the set.",
    "format": "What is left once every file has one format: the images were not re-encoded "
    "(--reencoded does).",
    "probability": "Whether a score is a probability: it was not calibrated, so 0.5 is only where "
    "training left it. wildrf calibrate sets a threshold on validation images.",
    "small": "Small differences on {small}: fewer than 100 images of a class are there.",
    "beyond": "How it does on generators, platforms and years that are not in this set; and whether the "
    "labels are right, beyond the certainty their annotators had.",
}
"""What an evaluation may leave open, in words."""

ASKED_OF_SCORES = {
    "format": "What is left once every file has one format: scores from outside are judged as they are. "
    "Re-encode the images, let the detector score those, and evaluate that file.",
    "probability": "Whether a score is a probability: it was not calibrated, so 0.5 is only where "
    "whoever gave the scores left it.",
}
"""The same where another detector is judged by its scores, which takes other advice."""


def write_matrix_page(result: Mapping[str, Any], out: Path) -> Path:
    """The page of a generalisation matrix: runs by test platforms."""
    html = page.render(
        "matrix.html",
        title="Generalisation matrix",
        simulated=result.get("simulated", False),
        platforms=result["platforms"],
        shared=result["shared"],
        rows=[_matrix_row(row, result["platforms"]) for row in result["rows"]],
    )
    return page.write(out, html)


def _matrix_row(row: Mapping[str, Any], platforms: Sequence[str]) -> dict[str, Any]:
    cells = [_matrix_cell(row["cells"].get(platform)) for platform in platforms]
    return {
        "name": row["name"],
        "trained_on": ", ".join(row["trained_on"]) or "not known",
        "cells": cells,
        "mean": _matrix_mean(row["mean"]),
        "unseen": _matrix_mean(row["unseen"]),
    }


def _matrix_mean(mean: Mapping[str, Any] | None) -> dict[str, str]:
    """AP and its interval."""
    if mean is None:
        return {"value": show(None), "ends": ""}
    return {"value": show(mean["ap"]), "ends": show_ends(mean["ci"]["ap"])}


def _matrix_cell(cell: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """AP, its interval, n, and how strong the cell's ground is (0 at chance, 1 at perfect)."""
    if cell is None or cell["ap"] is None:
        return None
    chance = cell["n_fake"] / cell["n"]
    strength = max(0.0, (cell["ap"] - chance) / (1 - chance)) if chance < 1 else 0.0
    return {
        "value": show(cell["ap"]),
        "ends": show_ends(cell["ci"]["ap"]),
        "n": cell["n"],
        "seen": cell["seen"],
        "other": not cell["same_images"],
        "percent": round(45 * strength),
    }
