"""The page of a stress run: the verdict first, then each test with its plot and its table."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipelines.report import page, plots
from pipelines.report.plots import Dot


def write_stress_page(result: dict[str, Any], out: Path) -> Path:
    """Write the page of what `train.stress.run.stress` returned."""
    title = f"Stress of {result['checkpoint']['name']}"
    return page.write(out, page.render("stress.html", title=title, **_context(result)))


def stress_part(result: dict[str, Any]) -> Markup:
    """The outcome alone, one heading lower, for the page of an evaluation."""
    part = page.render(
        "stress.html", title="", layout="part.html", heading="h3", **_context(result)
    )
    return Markup(part)  # noqa: S704  # escaped by the template


def _context(result: dict[str, Any]) -> dict[str, Any]:
    kept = ("checkpoint", "preprocessing", "data", "parameters", "versions")
    return {
        **{key: result[key] for key in kept},
        "simulated": result.get("simulated", False),
        "tests": [section(name, found) for name, found in result["tests"].items()],
        "verdict": verdict(result["tests"].get("counterfactuals")),
        "shown": show,
        "named": row_name,
    }


def verdict(found: dict[str, Any] | None) -> dict[str, str] | None:
    """{mood, word, words} of the counterfactuals; None where they were not run."""
    if found is None:
        return None
    outcomes = {factor["outcome"] for factor in found["factors"]}
    if found["exposed"]:
        mood, word = "shortcut", "Exposed"
    elif outcomes & {"fragile", "unclear", "no skill"}:
        mood, word = "inconclusive", "Not proven"
    else:
        mood, word = "clean", "Not accused"
    return {"mood": mood, "word": word, "words": found["verdict"]}


def section(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """One test as the template shows it: what it found, and its plots."""
    drawn = PLOTS.get(found["figure"], _no_plot)(found)
    return {"name": name, "found": found, "plots": [page.markup(svg) for svg in drawn]}


def row_name(row: dict[str, Any]) -> str:
    """What a row is called; among checkpoints, which one is tested."""
    return f"{row['name']} (tested)" if row.get("tested") else str(row["name"])


def _dot(row: dict[str, Any], key: str) -> Dot:
    figure = row[key]
    return Dot(row_name(row), figure["value"], figure["low"], figure["high"])


def _dots(found: dict[str, Any]) -> list[str]:
    rows = [_dot(row, "auc") for row in found["rows"]]
    return [plots.intervals(rows, label="AUC, 95 % interval", reference=0.5)]


def _curve(found: dict[str, Any]) -> list[str]:
    rows = [row for row in found["rows"] if "x" in row]
    series = {name: [_dot(row, key) for row in rows] for name, key in CURVES.items()}
    x = [row["x"] for row in rows]
    return [plots.bands(x, series, x_label=found["x_label"], y_label="95 % interval shaded")]


CURVES = {"ACC at logit 0": "acc", "AP": "ap", "AUC": "auc"}


def _flips(found: dict[str, Any]) -> list[str]:
    rows = [_dot(row, "flip_rate") for row in found["rows"]]
    return [plots.intervals(rows, label="share of verdicts that flip, 95 % interval", reference=0)]


def _grid(found: dict[str, Any]) -> list[str]:
    maps = {"reals": found["map_real"], "fakes": found["map_fake"]}
    limit = max(abs(v) for cells in maps.values() for row in cells for v in row) or 1.0
    return [
        plots.grid_map(cells, limit, label=f"{name}: logit from the picture's mean")
        for name, cells in maps.items()
    ]


def _counterfactuals(found: dict[str, Any]) -> list[str]:
    rows = [
        Dot(f"{factor['name']}: {arm}", *(row["auc"][k] for k in ("value", "low", "high")))
        for factor in found["factors"]
        for arm, row in zip(ARMS, factor["rows"], strict=True)
    ]
    return [plots.intervals(rows, label="AUC, 95 % interval", reference=0.5)]


ARMS = ("own", "all as the fakes", "all as the reals", "exchanged")


def _no_plot(found: dict[str, Any]) -> list[str]:
    return []


PLOTS = {
    "dots": _dots,
    "curve": _curve,
    "flips": _flips,
    "grid": _grid,
    "counterfactuals": _counterfactuals,
}


def show(figure: dict[str, float] | None, digits: int = 3) -> str:
    """A figure with its interval; a dash where there is none."""
    if figure is None:
        return "-"
    low, high = figure["low"], figure["high"]
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
