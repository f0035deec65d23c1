"""Probe: every stored image gets its file facts, evidence and fingerprints, in one read of its bytes."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from curate.catalog import insert
from curate.probe import PROBE, Examined, examine
from curate.stages import Identity, digest_of, record_run
from curate.stages.last_hops import guess_last_hops
from curate.store import MediaStore
from curate.work import Engine, Progress, Serial, Silent, batches
from curate.workspace import Workspace
from schemas.errors import InputError, StoreError
from schemas.records import Image

BATCH = 256
"""Images per commit."""

PENDING = """
    SELECT DISTINCT digest FROM stored
    WHERE digest NOT IN (SELECT digest FROM image WHERE made_by = $made_by)
    OR ($check_again AND digest IN (SELECT digest FROM evidence WHERE kind = 'c2pa'))
    ORDER BY digest
"""

COUNTS = """
    SELECT count(*) AS images, count(*) FILTER (error IS NULL) AS decodable,
           count(*) FILTER (error IS NOT NULL) AS broken
    FROM image
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store is, in a form that can travel to another process; and whose signatures are believed."""

    media: str
    base: Path
    anchors: str = ""


def probe_store(
    workspace: Workspace, engine: Engine | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Examine every image that this version of the probe has not seen; counts of all that are known."""
    engine, progress = engine or Serial(), progress or Silent()
    pending = images_to_probe(workspace)
    progress.start("probe", len(pending))
    place = Place(workspace.policy.media, workspace.root, read_anchors(workspace))
    work = partial(examine_stored, place=place, max_pixels=workspace.policy.probe.max_pixels)
    for batch in batches(pending, BATCH):
        found = list(
            engine.map(work, batch, lost=crashed, seconds=workspace.policy.probe.max_seconds)
        )
        _commit(workspace, batch, found)
        progress.advance(len(batch))
    guess_last_hops(workspace)
    return _finish(workspace, len(pending))


def images_to_probe(workspace: Workspace) -> list[str]:
    """The digests that this version of the probe has not seen, or would judge otherwise now."""
    again = _checked_with(workspace) != _checker(workspace)
    rows = workspace.catalog.rows(PENDING, made_by=PROBE, check_again=again)
    return [row["digest"] for row in rows]


def read_anchors(workspace: Workspace) -> str:
    """The certificates that the policy names, in PEM; empty where it names none.

    Raises:
        InputError: if the file cannot be read, or holds no certificate.
    """
    if not workspace.policy.probe.trust_anchors:
        return ""
    path = workspace.root / workspace.policy.probe.trust_anchors
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        text = f"({type(error).__name__})"
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise InputError(
            f"probe.trust_anchors: found no certificate in {path}; expected PEM, one after the other; "
            "correct the path, or take the line out of wildrf.toml"
        )
    return text


def _checker(workspace: Workspace) -> dict[str, str]:
    """What the judgement of a signature depends on beside the file."""
    try:
        checker = version("c2pa-python")
    except PackageNotFoundError:
        checker = ""
    anchors = read_anchors(workspace)
    return {"anchors": digest_of(anchors) if anchors else "", "checker": checker}


def _checked_with(workspace: Workspace) -> dict[str, str]:
    """What it depended on in the newest finished run."""
    rows = workspace.catalog.rows(
        "SELECT parameters FROM run WHERE starts_with(stage, 'probe/') ORDER BY finished_at DESC LIMIT 1"
    )
    known = json.loads(rows[0]["parameters"]) if rows else {}
    return {key: known.get(key, "") for key in ("anchors", "checker")}


def examine_stored(digest: str, *, place: Place, max_pixels: int) -> Examined:
    """What the bytes stored under `digest` say; bytes that are missing or damaged are told as an error."""
    try:
        data = MediaStore.at(place.media, place.base).read(digest)
    except StoreError as error:
        return Examined(_unreadable(digest, str(error)), (), ())
    if hashlib.sha256(data).hexdigest() != digest:
        return Examined(_unreadable(digest, "damaged in the store"), (), ())
    return examine(data, max_pixels=max_pixels, anchors=place.anchors)


def crashed(digest: str, why: str) -> Examined:
    """What stands for an image that took the decoder's process with it."""
    return Examined(_unreadable(digest, why), (), ())


def _unreadable(digest: str, error: str) -> Image:
    return Image(digest=digest, made_by=PROBE, bytes=0, format=None, error=error)


def _commit(workspace: Workspace, digests: Sequence[str], found: Sequence[Examined]) -> None:
    with workspace.catalog.writing() as db:
        db.execute(
            "DELETE FROM evidence WHERE kind NOT IN ('tag', 'placeholder', 'last-hop') "
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
    limits = {"max_pixels": workspace.policy.probe.max_pixels}
    identity = Identity(PROBE, {**limits, **_checker(workspace)}, "")
    with workspace.catalog.writing() as db:
        record_run(db, identity, counts, 0.0)
    return {**counts, "new": new}
