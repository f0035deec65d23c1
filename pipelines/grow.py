"""The verbs that grow a set: init, collect, fetch, split, release. Each: run it, then say it in lines."""

from pathlib import Path
from typing import Any

from curate.collectors import COLLECTORS
from curate.stages.collecting import collect_export
from curate.stages.fetching import fetch_media
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.work import Progress
from curate.workspace import Workspace, create_workspace
from pipelines.output import table
from schemas.errors import InputError


def init(root: Path) -> dict[str, Any]:
    """A new workspace."""
    return {"workspace": str(create_workspace(root).root)}


def init_lines(result: dict[str, Any]) -> list[str]:
    """What to do next."""
    return [
        f"workspace {result['workspace']} is ready",
        "next: edit wildrf.toml (platforms, tags), then `wildrf collect EXPORT`",
    ]


def collectors() -> list[dict[str, Any]]:
    """The table of platforms and their formats."""
    return [
        {
            "name": name,
            "formats": [f.name for f in collector.FORMATS],
            "titles": {f.name: f.title for f in collector.FORMATS},
            "example": collector.FORMATS[0].example,
        }
        for name, collector in COLLECTORS.items()
    ]


def collectors_lines(result: list[dict[str, Any]]) -> list[str]:
    """One line per format."""
    rows = [[p["name"], form, title] for p in result for form, title in p["titles"].items()]
    return table(rows, ["platform", "format", "what it is"])


def collect(
    workspace: Workspace, exports: list[Path], platform: str | None, progress: Progress
) -> dict[str, Any]:
    """Every export in turn; one result, or their sum with the parts listed.

    Raises:
        InputError: if no export is named.
    """
    if not exports:
        raise InputError("no export was named; expected files or folders, such as RS_2026-01.zst")
    parts = [
        {"export": str(path), **collect_export(workspace, path, platform, progress)}
        for path in exports
    ]
    return parts[0] if len(parts) == 1 else {**_sum(parts), "exports": parts}


def collect_lines(result: dict[str, Any]) -> list[str]:
    """One line per export, and every reason for a skip."""
    lines = []
    for part in result.get("exports", [result]):
        lines.append(
            f"{part['export']}: {part['platform']} {part['format']}, {part['posts']} posts with "
            f"{part['media']} images of {part['seen']} records ({part['new_posts']} posts new)"
        )
        lines += [f"  skipped {n}: {reason}" for reason, n in part["skipped"].items()]
        if not part["complete"]:
            lines.append(f"  PARTIAL: {part['detail']}")
    return lines


def fetch(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Bring media home."""
    return fetch_media(workspace, progress)


def fetch_lines(result: dict[str, Any]) -> list[str]:
    """What came and what did not."""
    failed = sum(result["failed"].values())
    return [
        f"{result['ok']} images here ({result['bytes'] / 1e6:.1f} MB), {failed} failed, "
        f"{result['tried']} tried now",
        *(f"  failed {n}: {cause}" for cause, n in result["failed"].items()),
    ]


def split(workspace: Workspace, name: str) -> dict[str, Any]:
    """Assign groups to splits."""
    return split_catalog(workspace, name)


NOTHING_PLACED = "no image was placed; collect, fetch, probe, dedupe and label come before"


def split_lines(result: dict[str, Any]) -> list[str]:
    """The table of the splits, and what was left out."""
    rows = [
        [split, platform, str(cell.get("0_real", 0)), str(cell.get("1_fake", 0))]
        for split, platforms in result["counts"].items()
        for platform, cell in platforms.items()
    ]
    return [
        *(table(rows, ["split", "platform", "real", "fake"]) if rows else [NOTHING_PLACED]),
        *(f"left out {n}: {reason}" for reason, n in result["dropped"].items()),
    ]


def release(workspace: Workspace, name: str, form: str, progress: Progress) -> dict[str, Any]:
    """Write a release to disk.

    Raises:
        InputError: if the format is not one that can be written.
    """
    if form != "wildrf":
        raise InputError(f"--format {form} is not yet here; expected wildrf")
    return release_catalog(workspace, name, progress)


def release_lines(result: dict[str, Any]) -> list[str]:
    """Where it is."""
    return [f"{result['images']} images in {result['path']}, root hash {result['root_hash'][:16]}"]


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    skipped: dict[str, int] = {}
    for part in parts:
        for reason, n in part["skipped"].items():
            skipped[reason] = skipped.get(reason, 0) + n
    counted = ("posts", "media", "seen", "new_posts", "new_media")
    return {
        "platform": sorted({p["platform"] for p in parts}),
        "format": sorted({p["format"] for p in parts}),
        **{key: sum(p[key] for p in parts) for key in counted},
        "skipped": dict(sorted(skipped.items())),
        "complete": all(p["complete"] for p in parts),
    }
