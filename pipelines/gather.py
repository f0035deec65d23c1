"""The verbs that bring posts in: collectors, collect. They alone load every collector."""

from pathlib import Path
from typing import Any

from curate.collectors import installed
from curate.stages.collecting import collect_export, sum_of
from curate.work import Progress
from curate.workspace import Workspace
from pipelines.output import table
from schemas.errors import InputError


def collectors() -> list[dict[str, Any]]:
    """The table of platforms and their formats."""
    return [
        {
            "name": name,
            "formats": [f.name for f in collector.FORMATS],
            "titles": {f.name: f.title for f in collector.FORMATS},
            "example": collector.FORMATS[0].example,
        }
        for name, collector in installed().items()
    ]


def collectors_lines(result: list[dict[str, Any]]) -> list[str]:
    """One line per format."""
    rows = [[p["name"], form, title] for p in result for form, title in p["titles"].items()]
    return table(rows, ["platform", "format", "what it is"])


def collect(
    workspace: Workspace,
    exports: list[Path],
    platform: str | None,
    progress: Progress,
    *,
    in_parts: bool = False,
) -> dict[str, Any]:
    """Every export in turn; one result, or their sum with each listed.

    With `in_parts`, the paths are parts of one export. One that holds posts of several platforms counts
    as one for each.

    Raises:
        InputError: if no export is named.
    """
    if not exports:
        raise InputError("no export was named; expected files or folders, such as RS_2026-01.zst")
    asked = [exports] if in_parts else [[path] for path in exports]
    results = [
        {"export": " + ".join(map(str, paths)), **result}
        for paths in asked
        for result in _each(collect_export(workspace, paths[0], platform, progress, more=paths[1:]))
    ]
    return results[0] if len(results) == 1 else {**sum_of(results), "exports": results}


def _each(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of one export, one for each platform that it holds posts of."""
    parts: list[dict[str, Any]] = result.get("parts", [result])
    return parts


GAPS_SHOWN = 3


def collect_lines(result: dict[str, Any]) -> list[str]:
    """One line per export, and every reason for a skip."""
    lines = []
    for part in result.get("exports", [result]):
        lines.append(
            f"{part['export']}: {part['platform']} {part['format']}, {part['posts']} posts with "
            f"{part['media']} images of {part['seen']} records ({part['new_posts']} posts new)"
        )
        lines += [f"  skipped {n}: {reason}" for reason, n in part["skipped"].items()]
        if part["first_at"]:
            lines.append(f"  posts of {part['first_at'][:10]} to {part['last_at'][:10]}")
        if part["gone"]:
            lines.append(f"  taken away before they could be collected: {part['gone']}")
        lines += [f"  no posts {gap.replace('/', ' to ')}" for gap in part["gaps"][:GAPS_SHOWN]]
        if len(part["gaps"]) > GAPS_SHOWN:
            lines.append(f"  and {len(part['gaps']) - GAPS_SHOWN} more gaps (--json has them)")
        if not part["complete"]:
            lines.append(f"  PARTIAL: {part['detail']}")
    return lines
