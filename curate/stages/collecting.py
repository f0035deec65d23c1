"""Collect: an export becomes posts and media rows, and one row that says how complete it is."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.catalog import insert
from curate.collect import collect
from curate.collectors import detect
from curate.exports import open_export
from curate.work import Progress, Silent
from curate.workspace import Workspace

BATCH = 5000
"""Posts per commit: large enough for DuckDB, small enough that little is lost with a kill."""


def collect_export(
    workspace: Workspace, path: Path, platform: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Read one export into the catalog and say what was met.

    Reading the same export again changes nothing; a post met in two exports stays as the first told it.

    Raises:
        ExportError: if it is no export that we know.
    """
    progress = progress or Silent()
    export = open_export(path)
    [(collector, form), *_] = detect(export, platform)
    source_id = export.digest()
    name = f"{collector.PLATFORM}/{collector.VERSION}"
    if known := _known(workspace, source_id, name):
        _moved(workspace, known, path.resolve())
        return _report(known, new_posts=0, new_media=0)
    found = collect(
        export, collector, form, secret=workspace.secret, source_id=source_id, batch_size=BATCH
    )
    progress.start(f"collect {path.name}", None)
    new_posts = new_media = 0
    for batch in found:
        with workspace.catalog.writing() as db:
            new_posts += insert(db, "post", batch.posts)
            new_media += insert(db, "media", batch.media)
        progress.advance(len(batch.posts))
    source = replace(found.source, location=str(path.resolve()), collected_at=datetime.now(UTC))
    workspace.catalog.add("source", [source])
    return _report(asdict(source), new_posts=new_posts, new_media=new_media)


def _known(workspace: Workspace, source_id: str, collector: str) -> dict[str, Any] | None:
    rows = workspace.catalog.rows(
        "SELECT * FROM source WHERE source_id = $source AND collector = $collector",
        source=source_id,
        collector=collector,
    )
    return rows[0] if rows else None


def _moved(workspace: Workspace, known: dict[str, Any], path: Path) -> None:
    """The same export in another place: media inside it are read from there."""
    if known["location"] != str(path):
        with workspace.catalog.writing() as db:
            db.execute(
                "UPDATE source SET location = ? WHERE source_id = ?",
                [str(path), known["source_id"]],
            )


def _report(source: dict[str, Any], *, new_posts: int, new_media: int) -> dict[str, Any]:
    return {
        "platform": source["platform"],
        "format": source["format"],
        "posts": source["kept"],
        "media": source["media"],
        "seen": source["seen"],
        "skipped": json.loads(source["skipped"]),
        "complete": source["complete"],
        "detail": source["detail"],
        "new_posts": new_posts,
        "new_media": new_media,
        "source": source["source_id"],
    }
