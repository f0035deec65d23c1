"""Probe: every stored image gets its file facts, evidence and fingerprints, in one read of its bytes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curate.catalog import insert
from curate.probe import PROBE, Examined, examine
from curate.stages import Identity, record_run
from curate.store import MediaStore
from curate.work import Engine, Progress, Serial, Silent, batches
from curate.workspace import Workspace
from schemas.errors import StoreError
from schemas.records import Image

BATCH = 256
"""Images per commit."""

PENDING = """
    SELECT DISTINCT digest FROM stored
    WHERE digest NOT IN (SELECT digest FROM image WHERE made_by = $made_by)
    ORDER BY digest
"""

COUNTS = """
    SELECT count(*) AS images, count(*) FILTER (error IS NULL) AS decodable,
           count(*) FILTER (error IS NOT NULL) AS broken
    FROM image
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store is, in a form that can travel to another process."""

    media: str
    base: Path


def probe_store(
    workspace: Workspace, engine: Engine | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Examine every image that this version of the probe has not seen; counts of all that are known."""
    engine, progress = engine or Serial(), progress or Silent()
    pending = images_to_probe(workspace)
    progress.start("probe", len(pending))
    place = Place(workspace.policy.media, workspace.root)
    work = partial(examine_stored, place=place, max_pixels=workspace.policy.probe.max_pixels)
    for batch in batches(pending, BATCH):
        found = list(engine.map(work, batch, lost=crashed))
        _commit(workspace, batch, found)
        progress.advance(len(batch))
    return _finish(workspace, len(pending))


def images_to_probe(workspace: Workspace) -> list[str]:
    """The digests that this version of the probe has not seen."""
    return [row["digest"] for row in workspace.catalog.rows(PENDING, made_by=PROBE)]


def examine_stored(digest: str, *, place: Place, max_pixels: int) -> Examined:
    """What the bytes stored under `digest` say; bytes that are missing or damaged are told as an error."""
    try:
        data = MediaStore.at(place.media, place.base).read(digest)
    except StoreError as error:
        return Examined(_unreadable(digest, str(error)), (), ())
    if hashlib.sha256(data).hexdigest() != digest:
        return Examined(_unreadable(digest, "damaged in the store"), (), ())
    return examine(data, max_pixels=max_pixels)


def crashed(digest: str) -> Examined:
    """What stands for an image that took the decoder's process with it."""
    return Examined(_unreadable(digest, "the decoder crashed on it"), (), ())


def _unreadable(digest: str, error: str) -> Image:
    return Image(digest=digest, made_by=PROBE, bytes=0, format=None, error=error)


def _commit(workspace: Workspace, digests: Sequence[str], found: Sequence[Examined]) -> None:
    with workspace.catalog.writing() as db:
        db.execute(
            "DELETE FROM evidence WHERE kind NOT IN ('tag', 'placeholder') "
            "AND digest IN (SELECT unnest(?))",
            [list(digests)],
        )
        for table in ("fingerprint", "thumbnail"):
            db.execute(f"DELETE FROM {table} WHERE digest IN (SELECT unnest(?))", [list(digests)])  # noqa: S608
        insert(db, "image", [e.image for e in found], replace=True)
        insert(db, "evidence", [row for e in found for row in e.evidence])
        insert(db, "fingerprint", [row for e in found for row in e.fingerprints])
        insert(db, "thumbnail", [row for e in found for row in e.thumbnails])


def _finish(workspace: Workspace, new: int) -> dict[str, Any]:
    counts: dict[str, Any] = workspace.catalog.rows(COUNTS)[0]
    identity = Identity(PROBE, {"max_pixels": workspace.policy.probe.max_pixels}, "")
    with workspace.catalog.writing() as db:
        record_run(db, identity, counts, 0.0)
    return {**counts, "new": new}
