"""The page of one evaluation: what the detector is worth on each platform, and what that leaves open.

Whatever another verb left in the run's folder (stress tests, heat maps) has its place in `SECTIONS`.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from pipelines.report import page, plots
from train.measure import LEAST
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
"""Heat maps, leaked images and skipped files shown."""
MAP_PX = 420


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that another verb's files make: found in the folders of a run, or left out."""

    title: str
    words: str
    find: Callable[[Sequence[Path]], Markup | None]


def write_evaluation_page(
    result: Mapping[str, Any], out: Path, *, run: Path | None = None, simulated: bool = False
) -> Path:
    """Write report.html into `out`, beside the scores that `result` was measured on.

    Args:
        result: what `train.evaluate.evaluate` gave.
        out: the folder with scores.parquet.
        run: the folder of the run that trained the detector; its curve, stress tests and heat maps
            are shown, if it has them.
        simulated: whether to say so.
    """
    scored = read_scores(out / "scores.parquet")
    folders = [folder for folder in (out, run) if folder is not None]
    html = page.render(
        "evaluation.html",
        title=f"Evaluation of {result['checkpoint']['detector']}",
        simulated=simulated,
        result=result,
        figures=_figures(result),
        warnings=[*_exposed(folders), *warnings_of(result)],
        tables=[_platform_table(title, columns, result) for title, columns in TABLES.items()],
        gaps=[
            *_gap_table("File facts matched", result["matched"], result["platforms"]),
            *_gap_table("Re-encoded to one format", result["rescored"], result["platforms"]),
        ],
        leaks=_leak_context(result),
        slices=_slice_context(result),
        same=_same_everywhere(result),
        plots=_plots(result, scored),
        curves=_curves(run),
        sections=[
            {"title": s.title, "words": s.words, "content": found}
            for s in SECTIONS
            if (found := s.find(folders)) is not None
        ],
        open_questions=open_questions(result),
        skipped=result["skipped"][:SHOWN],
        n_more_skipped=len(result["skipped"][SHOWN:]),
    )
    return page.write(out / "report.html", html)


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
    for words, part in (("file facts matched", matched), ("one common format", result["rescored"])):
        gap = ((part or {}).get("gap") or {}).get("auc")
        if gap and gap["ci"] and gap["ci"][1] < 0:
            told.append(
                f"With {words} the AUC changes by {show_change(gap)}: part of it is the file."
            )
    for row in result["promises"]:
        if not row["kept"]:
            told.append(
                f"{row['platform']}: {row['fpr']:.1%} of the reals lie above the threshold that promised "
                f"{row['rate']:.1%}; they are unlike the reals of the calibration."
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


def show(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def show_ends(ends: Sequence[float] | None) -> str:
    """An interval in few characters."""
    return "" if ends is None else f"{ends[0]:.3f}\u2013{ends[1]:.3f}"


def value_of(report: Mapping[str, Any], key: str) -> tuple[float | None, Sequence[float] | None]:
    """A metric and its interval; `tpr 0.01` is the true positive rate at that rate."""
    if key.startswith("tpr "):
        rate = key.removeprefix("tpr ")
        return report["tpr_at_fpr"][rate], report["ci"]["tpr_at_fpr"][rate]
    return report[key], report["ci"][key]


def _platform_table(
    title: str, columns: Mapping[str, str], result: Mapping[str, Any]
) -> dict[str, Any]:
    """One table of platforms; calibrated columns only where there is a calibration."""
    calibrated = result["calibration"] is not None
    shown = {k: name for k, name in columns.items() if calibrated or "calibrated" not in k}
    reports = {**result["platforms"], "mean": result["mean"]}
    rows = [_metric_row(name, report, shown) for name, report in reports.items()]
    return {"title": title, "columns": list(shown.values()), "rows": rows}


def _metric_row(name: str, report: Mapping[str, Any], shown: Mapping[str, str]) -> dict[str, Any]:
    cells = [value_of(report, key) for key in shown]
    return {
        "name": name,
        "mean": "n" not in report,
        **{key: report.get(key) for key in ("n_real", "n_fake", "n_groups")},
        "cells": [{"value": show(value), "ends": show_ends(ends)} for value, ends in cells],
    }


def _figures(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The mean over platforms, and how many images that is."""
    mean, groups = result["mean"], result["groups"]
    told = [
        {"name": name, "value": show(mean[key]), "note": _note(mean["ci"][key])}
        for key, name in (("ap", "Mean AP"), ("auc", "Mean AUC"), ("acc", "Mean ACC at 0.5"))
    ]
    platforms = len(result["platforms"])
    return [
        *told,
        {
            "name": "Images",
            "value": page.show_count(groups["images"]),
            "note": f"{page.show_count(groups['n'])} groups, {platforms} platform"
            f"{'s' if platforms > 1 else ''}",
        },
    ]


def _note(ends: Sequence[float] | None) -> str:
    return f"95% interval {show_ends(ends)}" if ends else "no interval"


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
    return [{"title": title, "how": part["how"], "rows": rows, "changes": changes}]


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


def _leak_context(result: Mapping[str, Any]) -> dict[str, Any]:
    leaks = result["leaks"]
    if leaks is None:
        note = result.get("leaks_note")
        words = f"No image was looked for, {note}." if note else LEAKS_UNKNOWN
        return {"words": words, "rows": [], "images": [], "more": 0}
    if not leaks["n"]:
        words = f"None of the images was found in {leaks['against']} (looked for: {leaks['how']})."
        return {"words": words, "rows": [], "images": [], "more": 0}
    words = (
        f"{leaks['n']} of the images are also in {leaks['against']} (looked for: {leaks['how']}). "
        "Quote the numbers without them."
    )
    rows = []
    if leaks["without"] is not None:
        for name, report in leaks["without"]["platforms"].items():
            pairs = [_pair(result["platforms"][name], report, key) for key in GAPS]
            rows.append({"name": name, "n": report["n"], "few": False, "pairs": pairs})
    return {
        "words": words,
        "rows": rows,
        "images": leaks["images"][:SHOWN],
        "more": len(leaks["images"][SHOWN:]),
    }


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
    return [{"title": SLICES[by], "rows": rows} for by, rows in found.items() if len(rows) > 1]


def _same_everywhere(result: Mapping[str, Any]) -> str:
    """File facts that all images share, in words: slices of those would repeat the whole."""
    values: dict[str, list[str]] = {}
    for row in result["slices"]:
        values.setdefault(row["by"], []).append(row["value"])
    shared = [f"{SLICES[by]} ({v[0]})" for by, v in values.items() if len(v) == 1]
    return ", ".join(shared)


def _plots(result: Mapping[str, Any], scored: ScoredSet) -> dict[str, Markup | None]:
    platforms = np.array(scored.platforms)
    curves: dict[str, tuple[plots.Floats, plots.Floats]] = {}
    for name, report in result["platforms"].items():
        rows = platforms == name
        if report["auc"] is not None and len(curves) < DRAWN:
            curves[name] = roc_points(scored.logits[rows], scored.labels[rows])
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
        *((f"{SLICES[row['by']]}: {row['value']}", row) for row in sliced),
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


def _curves(run: Path | None) -> list[Markup]:
    """Loss and validation over epochs, where the run recorded them."""
    rows = _lines(run / "curve.jsonl") if run is not None else []
    if len(rows) < 2:
        return []
    losses = {
        name: [_number(row.get(key)) for row in rows]
        for name, key in (("train", "loss"), ("val", "val_loss"))
    }
    vals = {
        name: [_number((row.get("val") or {}).get(key)) for row in rows]
        for name, key in (("AP", "ap"), ("accuracy", "acc"))
    }
    return [
        page.markup(plots.curves(losses, x_label="epoch", y_label="loss", width=plots.HALF)),
        page.markup(
            plots.curves(
                vals, x_label="epoch", y_label="validation", width=plots.HALF, ceiling=1.02
            )
        ),
    ]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def read_stress(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The stress tests that `wildrf stress` left in one of the folders, by name; empty if none did."""
    for place in (f / part for f in folders for part in ("stress.json", "stress/stress.json")):
        try:
            tests = json.loads(place.read_bytes())["tests"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(tests, dict):
            return {name: test for name, test in tests.items() if isinstance(test, dict)}
    return {}


def stress_section(folders: Sequence[Path]) -> Markup | None:
    """What every stress test said, and its conditions that have an AUC as a table."""
    tables = [
        {
            "title": test.get("title", name),
            "verdict": str(test.get("verdict") or ""),
            "rows": _conditions(test),
        }
        for name, test in read_stress(folders).items()
    ]
    told = [table for table in tables if table["rows"]]
    if not told:
        return None
    return Markup(page.render("stress_tables.html", title="", tables=told))  # noqa: S704  # escaped by the template


def _conditions(test: Mapping[str, Any], under: str = "") -> list[dict[str, str]]:
    """The rows of a stress test, also those of its parts: condition, n, AUC, change from native."""
    found = []
    rows = [row for part in test.values() if isinstance(part, list) for row in part]
    for row in (row for row in rows if isinstance(row, dict)):
        if isinstance(row.get("auc"), dict):
            found.append(
                {
                    "name": f"{under}{row.get('name', '')}",
                    "n": str(row.get("n", "")),
                    "auc": _three(row["auc"]),
                    "change": _three(row.get("auc_change")),
                }
            )
        else:
            found += _conditions(row, f"{row.get('name', '')}: ")
    return found


def _exposed(folders: Sequence[Path]) -> list[str]:
    """What stress tests caught the detector reading."""
    return [
        str(test["verdict"])
        for test in read_stress(folders).values()
        if test.get("exposed") is True and test.get("verdict")
    ]


def _three(told: Any) -> str:
    """A value with low and high, as stress tests tell it."""
    if not isinstance(told, dict) or told.get("value") is None:
        return "-"
    ends = [told.get("low"), told.get("high")]
    inside = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    return f"{told['value']:.3f}{inside}"


def heat_map_section(folders: Sequence[Path]) -> Markup | None:
    """The pictures in the folder `explain` and its `maps`, inlined."""
    for folder in folders:
        place = folder / "explain"
        files = [*sorted(place.glob("maps/*.png")), *sorted(place.glob("*.png"))][:SHOWN]
        if files:
            tiles = [{"name": f.stem, "source": source} for f in files if (source := _inline(f))]
            return Markup(page.render("heat_maps.html", title="", tiles=tiles))  # noqa: S704  # escaped by the template
    return None


def _inline(file: Path) -> str | None:
    """A PNG as a data URI no wider than `MAP_PX`; None if it does not open."""
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except (OSError, ValueError):
        return None
    small.thumbnail((MAP_PX, MAP_PX))
    held = io.BytesIO()
    small.save(held, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"


SECTIONS: tuple[Section, ...] = (
    Section(
        "Stress tests",
        "What is left of the detector when images are treated as the world treats them.",
        stress_section,
    ),
    Section(
        "Heat maps",
        "Where the detector sees generation: red speaks for fake, blue for real.",
        heat_map_section,
    ),
)
"""Parts made of what other verbs left. To add one: a function that finds its files, and an entry here."""


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
    return [
        QUESTIONS[name].format(small=", ".join(small)) for name, open_ in asked.items() if open_
    ]


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


def write_matrix_page(result: Mapping[str, Any], out: Path) -> Path:
    """The page of a generalisation matrix: runs by test platforms."""
    html = page.render(
        "matrix.html",
        title="Generalisation matrix",
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
