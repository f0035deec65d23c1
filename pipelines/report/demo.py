"""The page of a demo: what was planted, what was found, and every stage in between with its figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from curate.workspace import Workspace
from pipelines.report import contact_sheet, page, plots
from pipelines.report.audit import plot_of, verdict_words
from pipelines.report.contact_sheet import Couple, Tile
from pipelines.report.dedupe import measured
from pipelines.report.maps import heat_maps
from pipelines.truth import in_words

if TYPE_CHECKING:
    from pipelines.truth import Finding
    from pipelines.whole_run import Context

SHOWN = 16
"""Pictures of each label in the contact sheets."""
PAIRS = 6
"""Pairs of copies that are shown, the most distant first."""
SAMPLES = """
    SELECT r.path, r.platform FROM release_item r WHERE r.name = $name AND r.split IS NOT NULL
    AND r.label = $label ORDER BY r.digest LIMIT $n
"""
COPIES = """
    SELECT m.a, m.b, m.kind, m.distance, m.verified, m.verdict,
           (SELECT string_agg(DISTINCT platform, ' and ' ORDER BY platform) FROM stored
            WHERE digest = m.a) AS where_a,
           (SELECT string_agg(DISTINCT platform, ' and ' ORDER BY platform) FROM stored
            WHERE digest = m.b) AS where_b,
           a.width AS width_a, a.height AS height_a, b.width AS width_b, b.height AS height_b
    FROM match m JOIN image a ON a.digest = m.a JOIN image b ON b.digest = m.b
    WHERE m.verdict IS DISTINCT FROM 'different'
    ORDER BY m.distance DESC, m.a LIMIT $n
"""


def write_demo_page(
    context: "Context", findings: Sequence["Finding"], seconds: float, student: str
) -> Path:
    """report.html in the workspace; `student` is the name of the small detector."""
    workspace, results = context.workspace, context.results
    name = workspace.policy.release
    scores = pq.read_table(context.run / "evaluation" / "scores.parquet").to_pylist()
    html = page.render(
        "demo.html",
        title="wildrf demo",
        simulated=workspace.policy.simulated,
        seconds=seconds,
        findings=findings,
        agrees=all(f.ok is not False for f in findings),
        stages=_stages(context),
        figures=_figures(results),
        split=_split_rows(results["split"]),
        dropped=_by_count({REASONS.get(k, k): n for k, n in results["split"]["dropped"].items()}),
        failed=_by_count({in_words(k): n for k, n in results["fetch"]["failed"].items()}),
        samples={side: _samples(workspace, name, label) for label, side in enumerate(SIDES)},
        copies=_copies(workspace),
        audit=results["audit"],
        words=verdict_words(results["audit"]),
        audit_plot=plot_of(results["audit"]),
        curves=_curves(context.run),
        validated=results["train"]["val"]["n"],
        histograms=_histograms(scores),
        detectors=_detectors(context, student),
        maps=heat_maps(context.run / "checkpoint.pt", context.release, scores),
        run=context.run.name,
    )
    return page.write(workspace.root / "report.html", html)


SIDES = ("real", "fake")
REASONS = {
    "same picture": "another copy of the same picture stands for it",
    "undecided": "the votes do not decide",
    "label-conflict": "its copies were given both labels",
}
"""Why an image is left out, in more words than the stage has."""


def _stages(context: "Context") -> list[dict[str, Any]]:
    return [
        {"name": name, "told": told, "seconds": seconds} for name, told, seconds in context.told
    ]


def _figures(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The whole story in a row of numbers."""
    probe = results["audit"]["probe"]
    tested = [
        {
            "name": f"Detector AUC, {_platform(name)}",
            "value": _number(told["auc"]),
            "note": f"{_interval(told['ci']['auc'])} n = {told['n']}",
        }
        for name, told in results["evaluate"]["platforms"].items()
    ]
    return [
        {
            "name": "Images collected",
            "value": page.show_count(results["probe"]["images"]),
            "note": f"from {page.show_count(results['collect']['posts'])} posts",
        },
        {
            "name": "Images released",
            "value": page.show_count(results["release"]["images"]),
            "note": "labelled; no copy that dedupe sees crosses splits",
        },
        {
            "name": "File facts, AUC",
            "value": _number(probe["auc"]),
            "note": f"{_interval((probe['low'], probe['high']))} 0.5 is guessing",
        },
        *tested,
    ]


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons with their numbers, the most frequent first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _split_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    order = {"train": 0, "val": 1, "test": 2}
    rows = [
        {
            "split": split,
            "platform": _platform(platform),
            "real": cell.get("0_real", 0),
            "fake": cell.get("1_fake", 0),
        }
        for split, platforms in result["counts"].items()
        for platform, cell in platforms.items()
    ]
    return sorted(rows, key=lambda r: (order[r["split"]], r["platform"]))


def _samples(workspace: Workspace, name: str, label: int) -> list[Tile]:
    rows = workspace.catalog.rows(SAMPLES, name=name, label=label, n=SHOWN)
    root = workspace.releases / name
    return [
        _titled(contact_sheet.tile(root, row["path"]), _platform(row["platform"])) for row in rows
    ]


def _copies(workspace: Workspace) -> list[Couple]:
    shown = []
    for row in workspace.catalog.rows(COPIES, n=PAIRS):
        a, b = (_stored_tile(workspace, row, side) for side in ("a", "b"))
        shown.append(Couple(a, b, measured(row)))
    return shown


def _stored_tile(workspace: Workspace, row: Mapping[str, Any], side: str) -> Tile:
    digest, where = row[side], _platform(row[f"where_{side}"])
    title = f"{where}, {row[f'width_{side}']} x {row[f'height_{side}']}"
    path = workspace.store.local_path(digest)
    if path is None:
        return Tile(title, None, "the store is not on this machine")
    return _titled(contact_sheet.tile(path.parent, path.name), title)


def _titled(tile: Tile, title: str) -> Tile:
    return Tile(title, tile.source, tile.problem, tile.note)


def _platform(name: str) -> str:
    """A platform's name as people write it."""
    return name.replace("reddit", "Reddit").replace("x", "X") if name in PLATFORMS else name


PLATFORMS = ("reddit", "x", "reddit and x")


def _curves(run: Path) -> list[Any]:
    """Losses by epoch, and validation accuracy by epoch."""
    rows = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    losses = {
        "training": [row["loss"] for row in rows],
        "validation": [row["val_loss"] for row in rows],
    }
    right = {"validation accuracy": [row["val"]["acc"] for row in rows]}
    half: dict[str, Any] = {"x_label": "epoch", "width": plots.HALF}
    return [
        page.markup(plots.curves(losses, y_label="cross-entropy per image, nats", **half)),
        page.markup(plots.curves(right, y_label="validation accuracy", ceiling=1.02, **half)),
    ]


def _histograms(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How the scores fall on each platform."""
    shown = []
    for platform in sorted({row["platform"] for row in scores}):
        real, fake = (
            [r["logit"] for r in scores if (r["platform"], r["label"]) == (platform, label)]
            for label in (0, 1)
        )
        drawn = plots.histogram(real, fake, label="logit of the image", width=plots.HALF)
        shown.append({"platform": _platform(platform), "plot": page.markup(drawn)})
    return shown


def _detectors(context: "Context", student: str) -> list[dict[str, Any]]:
    """One row per detector and platform, then its mean."""
    shown = [
        (context.workspace.policy.train.detector, context.results["evaluate"]),
        (student, context.results["distill"]["evaluation"]),
    ]
    rows: list[dict[str, Any]] = []
    for name, result in shown:
        for platform, told in result["platforms"].items():
            cells = {m: _cell(told[m], told["ci"][m]) for m in METRICS}
            rows.append(
                {"detector": name, "platform": _platform(platform), "n": told["n"], **cells}
            )
        mean, over = result["mean"], len(result["platforms"])
        cells = {m: _cell(mean[m], mean["ci"][m]) for m in METRICS}
        rows.append({"detector": name, "platform": f"mean of {over}", "n": None, **cells})
    return rows


METRICS = ("acc", "ap", "auc")


def _cell(value: float | None, interval: Sequence[float | None] | None) -> str:
    if value is None or interval is None or None in interval:
        return _number(value)
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(interval: Sequence[float | None] | None) -> str:
    """An interval as the start of a note; nothing where there is none."""
    low, high = interval or (None, None)
    return "" if low is None or high is None else f"95% interval {low:.3f} to {high:.3f};"
