"""Collect: an export becomes posts and media rows, and one row that says how complete it is."""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.collect import BATCH_SIZE, Collection, Terms, collect
from curate.collectors import detect, installed
from curate.collectors.contract import Collector, Format
from curate.collectors.mapped import mapped
from curate.collectors.reading import IMAGE_TYPES, VIDEO_ENDINGS, ending_of
from curate.exports import Export, open_export
from curate.merging import add_collected
from curate.tombstones import Tombstones, withdraw
from curate.work import Progress, Silent
from curate.workspace import Workspace
from schemas.errors import ExportError
from schemas.records import Source

UNFINISHED = "posts that were taken away are still to be forgotten"
"""The detail of a source whose withdrawn posts are about to be taken out."""
SUMMED = ("posts", "media", "seen", "new_posts", "new_media", "gone")


def collect_export(
    workspace: Workspace,
    path: Path,
    platform: str | None = None,
    progress: Progress | None = None,
    *,
    more: Sequence[Path] = (),
) -> dict[str, Any]:
    """Read one export into the catalog and say what was met; `more` are further parts of it.

    Reading the same export again changes nothing. A post met in two exports stays as the first told it,
    and the second fills what the first left out. Where an export holds posts of several platforms, the
    answer is their sum, with each in `parts`.

    Raises:
        ExportError: if it is no export that we know.
    """
    export = open_export(path, *more)
    found = _recognised(export, platform, workspace)
    source_id = export.digest()
    parts = [
        _collect(workspace, export, collector, form, source_id, progress or Silent())
        for collector, form in found
    ]
    return parts[0] if len(parts) == 1 else {**sum_of(parts), "parts": parts}


def known_collectors(workspace: Workspace) -> dict[str, Collector]:
    """Every collector that this workspace may use: ours, those of other packages, its own imports."""
    return {**installed(), **mapped(workspace.policy.imports)}


def _recognised(
    export: Export, platform: str | None, workspace: Workspace
) -> list[tuple[Collector, Format]]:
    try:
        return detect(export, platform, known_collectors(workspace))
    except ExportError as error:
        if not _mostly_media(export):
            raise
        raise ExportError(
            f"{error}; if its pictures belong to posts in another part of the export, name both: "
            "wildrf collect --parts A.zip B.zip"
        ) from error


def _mostly_media(export: Export) -> bool:
    endings = [ending_of(member.name) for member in export.members()]
    media = sum(e in IMAGE_TYPES or e in VIDEO_ENDINGS for e in endings)
    return media * 2 > len(endings)


def sum_of(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several exports hold together."""
    reasons = sorted({reason for part in parts for reason in part["skipped"]})
    firsts = [part["first_at"] for part in parts if part["first_at"]]
    lasts = [part["last_at"] for part in parts if part["last_at"]]
    return {
        "platform": sorted({p["platform"] for p in parts}),
        "format": sorted({p["format"] for p in parts}),
        **{key: sum(p[key] for p in parts) for key in SUMMED},
        "skipped": {r: sum(p["skipped"].get(r, 0) for p in parts) for r in reasons},
        "complete": all(p["complete"] for p in parts),
        "gaps": [gap for part in parts for gap in part["gaps"]],
        "first_at": min(firsts, default=None),
        "last_at": max(lasts, default=None),
    }


def _collect(
    workspace: Workspace,
    export: Export,
    collector: Collector,
    form: Format,
    source_id: str,
    progress: Progress,
) -> dict[str, Any]:
    """One export by one collector."""
    found = collect(
        export,
        collector,
        form,
        secret=workspace.secret,
        source_id=source_id,
        batch_size=BATCH_SIZE,
        terms=_terms(workspace),
    )
    if known := _known(workspace, source_id, found.name):
        _moved(workspace, known, export.location)
        return _report(known, new_posts=0, new_media=0)
    progress.start(f"collect {export.path.name}", None)
    with _no_cycles_looked_for():
        new_posts, new_media = _commit(workspace, found, progress)
    source = replace(found.source, collected_at=datetime.now(UTC))
    _finish(workspace, source, found.tally.withdrawn)
    return _report(asdict(source), new_posts=new_posts, new_media=new_media)


def _commit(workspace: Workspace, found: Collection, progress: Progress) -> tuple[int, int]:
    """Every batch into the catalog; how many posts and images were new."""
    totals = (0, 0)
    overlapping, seen = False, 0
    for batch in found:
        new = add_collected(
            workspace.catalog, batch.post_rows, batch.media_rows, overlapping=overlapping
        )
        overlapping = new[0] < batch.post_rows.num_rows
        totals = totals[0] + new[0], totals[1] + new[1]
        progress.advance(found.tally.seen - seen)
        seen = found.tally.seen
        del batch  # before the next one is made
        gc.collect()
    return totals


def _finish(workspace: Workspace, source: Source, withdrawn: set[str]) -> None:
    """Note that the export was read to its end, and forget the posts that it says were taken away.

    Killed between the two, the source is unfinished: it is read again, and its first tally stays, since
    the second one would not count what was forgotten meanwhile.
    """
    if not withdrawn:
        workspace.catalog.add("source", [source])
        return
    workspace.catalog.add("source", [replace(source, complete=False, detail=UNFINISHED)])
    withdraw(workspace, source.platform, sorted(withdrawn))
    with workspace.catalog.writing() as db:
        db.execute(
            "UPDATE source SET complete = ?, detail = ? WHERE source_id = ? AND collector = ?",
            [source.complete, source.detail, source.source_id, source.collector],
        )


def _terms(workspace: Workspace) -> Terms:
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
    return Terms(workspace.policy, stones if stones.posts or stones.authors else None)


@contextmanager
def _no_cycles_looked_for() -> Iterator[None]:
    """Reading makes millions of objects and hardly a cycle; looking for one takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def _known(workspace: Workspace, source_id: str, collector: str) -> dict[str, Any] | None:
    rows = workspace.catalog.rows(
        "SELECT * FROM source WHERE source_id = $source AND collector = $collector "
        "AND detail IS DISTINCT FROM $unfinished",
        source=source_id,
        collector=collector,
        unfinished=UNFINISHED,
    )
    return rows[0] if rows else None


def _moved(workspace: Workspace, known: dict[str, Any], location: str) -> None:
    """The same export in another place: media inside it are read from there."""
    if known["location"] != location:
        with workspace.catalog.writing() as db:
            db.execute(
                "UPDATE source SET location = ? WHERE source_id = ?",
                [location, known["source_id"]],
            )


def _report(source: dict[str, Any], *, new_posts: int, new_media: int) -> dict[str, Any]:
    return {
        "platform": source["platform"],
        "format": source["format"],
        "posts": source["kept"],
        "media": source["media"],
        "seen": source["seen"],
        "skipped": json.loads(source["skipped"]),
        "gone": source["gone"],
        "gaps": list(source["gaps"]),
        "first_at": _iso(source["first_at"]),
        "last_at": _iso(source["last_at"]),
        "complete": source["complete"],
        "detail": source["detail"],
        "new_posts": new_posts,
        "new_media": new_media,
        "source": source["source_id"],
    }


def _iso(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None
