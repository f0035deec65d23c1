"""The verbs that judge a set: check for leaks, audit for shortcuts. On a folder, or on a release."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.bias import audit
from curate.leakage import Leak, find_leaks, summarise
from curate.stages import Engine, Progress
from curate.stages.checking import survey_release
from curate.survey import Surveyed, find_files, iter_survey
from curate.workspace import Workspace
from pipelines.examine import MAX_PIXELS
from pipelines.output import table

SHOWN = 20
"""Leaks named one by one for people."""


def survey_folder(root: Path, engine: Engine, progress: Progress) -> list[Surveyed]:
    """Every labelled image under `root`, examined."""
    files = find_files(root)
    progress.start(f"examine {root.name}", len(files.images))
    found = []
    for row in iter_survey(root, files, engine, max_pixels=MAX_PIXELS):
        found.append(row)
        progress.advance(1)
    return found


def survey_catalog(workspace: Workspace, name: str) -> list[Surveyed]:
    """The items of a release, from the catalog."""
    return survey_release(workspace, name)


def check(items: Sequence[Surveyed], distance_bits: int) -> dict[str, Any]:
    """Leaks among `items`."""
    return {**summarise(find_leaks(items, distance_bits=distance_bits)), **_counted(items)}


def check_lines(result: dict[str, Any]) -> list[str]:
    """The verdict, then the leaks."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in result["counts"].items() if n)
    head = "no leak" if result["clean"] else f"{len(result['leaks'])} leaks: {kinds}"
    shown = result["leaks"][:SHOWN]
    more = len(result["leaks"]) - len(shown)
    return [
        f"{head} ({result['images']} images in {', '.join(result['splits']) or 'no split'})",
        *(
            f"  {k['kind']}: {k['a']} ({k['split_a']}) and {k['b']} ({k['split_b']}), {k['evidence']}"
            for k in shown
        ),
        *([f"  and {more} more; --json lists them all"] if more else []),
    ]


def audit_items(
    items: Sequence[Surveyed],
    *,
    gate: float,
    distance_bits: int,
    root: Path | None,
    report: Path | None,
    simulated: bool = False,
) -> dict[str, Any]:
    """The shortcut audit of `items`; with `report`, its page is written there."""
    result = audit(items, gate=gate, distance_bits=distance_bits)
    if report is not None and root is not None:
        from pipelines.report.audit import write_audit_page

        leaks: list[Leak] = find_leaks(items, distance_bits=distance_bits)
        write_audit_page(result, items, root, report, leaks=leaks, simulated=simulated)
    return {**result, "report": str(report) if report else None}


def audit_lines(result: dict[str, Any]) -> list[str]:
    """The verdict, why, and the strongest features."""
    rows = [
        [f["name"], f"{f['auc']:.3f}", f"{f['low']:.3f}", f"{f['high']:.3f}"]
        for f in sorted(result["features"], key=lambda f: -f["auc"])[:8]
    ]
    report = [f"report: {result['report']}"] if result["report"] else []
    return [
        f"verdict: {result['verdict']} (gate {result['gate']:g})",
        result["why"],
        *([f"causes: {', '.join(result['causes'])}"] if result["causes"] else []),
        *(table(rows, ["file fact alone", "AUC", "low", "high"]) if rows else []),
        *report,
    ]


def _counted(items: Sequence[Surveyed]) -> dict[str, Any]:
    splits = {i.placement.split.value for i in items if i.placement and i.placement.split}
    return {"images": len(items), "splits": sorted(splits)}
