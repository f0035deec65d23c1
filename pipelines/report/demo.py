"""The page of a demo: what was planted, what was found, and every stage in between with its figures."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from curate.workspace import Workspace
from pipelines.report import contact_sheet, page, plots
from pipelines.report.audit import plot_of, verdict_words
from pipelines.report.contact_sheet import Couple, Tile

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
    SELECT m.a, m.b, m.kind, m.distance,
           (SELECT string_agg(DISTINCT platform, ' and ' ORDER BY platform) FROM stored
            WHERE digest = m.a) AS where_a,
           (SELECT string_agg(DISTINCT platform, ' and ' ORDER BY platform) FROM stored
            WHERE digest = m.b) AS where_b
    FROM match m ORDER BY m.distance DESC, m.a LIMIT $n
"""


def write_demo_page(
    context: "Context", findings: Sequence["Finding"], seconds: float, student: Path
) -> Path:
    """report.html in the workspace."""
    workspace, results = context.workspace, context.results
    name = workspace.policy.release
    html = page.render(
        "demo.html",
        title="wildrf demo",
        simulated=True,
        seconds=seconds,
        findings=findings,
        agrees=all(f.ok is not False for f in findings),
        stages=_stages(context),
        split=_split_rows(results["split"]),
        dropped=results["split"]["dropped"],
        failed=results["fetch"]["failed"],
        samples={side: _samples(workspace, name, label) for label, side in enumerate(SIDES)},
        copies=_copies(workspace),
        audit=results["audit"],
        words=verdict_words(results["audit"]),
        audit_plot=plot_of(results["audit"]),
        curve=_curve(context.run),
        scores=_score_plot(context.run),
        detectors=_detectors(context, student),
        heat=_heat_maps(context.run, context.release),
        run=context.run.name,
    )
    return page.write(workspace.root / "report.html", html)


SIDES = ("real", "fake")


def _stages(context: "Context") -> list[dict[str, Any]]:
    return [
        {"name": name, "told": told, "seconds": seconds} for name, told, seconds in context.told
    ]


def _split_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    order = {"train": 0, "val": 1, "test": 2}
    rows = [
        {
            "split": split,
            "platform": platform,
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
    return [_titled(contact_sheet.tile(root, row["path"]), row["platform"]) for row in rows]


def _copies(workspace: Workspace) -> list[Couple]:
    shown = []
    for row in workspace.catalog.rows(COPIES, n=PAIRS):
        a, b = (_stored_tile(workspace, row[side], row[f"where_{side}"]) for side in ("a", "b"))
        why = f"{row['kind']}: pHash distance {row['distance']} of 64 bits"
        shown.append(Couple(a, b, why))
    return shown


def _stored_tile(workspace: Workspace, digest: str, where: str) -> Tile:
    path = workspace.store.local_path(digest)
    if path is None:
        return Tile(digest[:12], None, "the store is not on this machine", where)
    return _titled(contact_sheet.tile(path.parent, path.name), f"{digest[:12]} on {where}")


def _titled(tile: Tile, title: str) -> Tile:
    return Tile(title, tile.source, tile.problem, tile.note)


def _curve(run: Path) -> Any:
    """Loss and validation accuracy by epoch."""
    rows = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    series = {
        "training loss": [row["loss"] for row in rows],
        "validation loss": [row["val_loss"] for row in rows],
        "validation accuracy": [row["val"]["acc"] for row in rows],
    }
    return page.markup(plots.curves(series, x_label="epoch", y_label="nats per image; share right"))


def _score_plot(run: Path) -> Any:
    table = pq.read_table(run / "evaluation" / "scores.parquet").to_pydict()
    sides = [
        [x for x, y in zip(table["logit"], table["label"], strict=True) if y == label]
        for label in (0, 1)
    ]
    return page.markup(plots.histogram(sides[0], sides[1], label="logit of the test images"))


def _detectors(context: "Context", student: Path) -> list[dict[str, Any]]:
    """One row per detector and platform, then its mean."""
    shown = [
        (context.workspace.policy.train.detector, context.results["evaluate"]),
        (student.name.partition("-")[2], context.results["distill"]["evaluation"]),
    ]
    rows: list[dict[str, Any]] = []
    for name, result in shown:
        for platform, told in result["platforms"].items():
            cells = {m: _cell(told[m], told["ci"][m]) for m in METRICS}
            rows.append({"detector": name, "platform": platform, "n": told["n"], **cells})
        cells = {m: _cell(result["mean"][m], None) for m in METRICS}
        rows.append({"detector": name, "platform": "mean", "n": None, **cells})
    return rows


METRICS = ("acc", "ap", "auc")


def _cell(value: float | None, interval: Sequence[float | None] | None) -> str:
    if value is None:
        return "-"
    if interval is None or None in interval:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _heat_maps(run: Path, release: Path) -> list[dict[str, str]]:
    """Where the detector looks in the surest right real and the surest right fake of the test."""
    from train.checkpoint import load_detector
    from train.explain import explain

    rows = pq.read_table(run / "evaluation" / "scores.parquet").to_pylist()
    real = min((r for r in rows if r["label"] == 0), key=lambda r: r["logit"])
    fake = max((r for r in rows if r["label"] == 1), key=lambda r: r["logit"])
    loaded = load_detector(run / "checkpoint.pt")
    first = explain(loaded, release / fake["path"])
    second = explain(loaded, release / real["path"], limit=first.limit)
    return [
        {
            "side": side,
            "source": "data:image/png;base64," + base64.b64encode(found.png()).decode(),
            "logit": f"{row['logit']:+.2f}",
            "path": row["path"],
        }
        for side, row, found in (("fake", fake, first), ("real", real, second))
    ]
