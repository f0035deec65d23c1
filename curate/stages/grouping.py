"""Dedupe: which images are the same picture, and which sets they form."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import duckdb

from curate.catalog import insert, select
from curate.groups import choose_canonical, connect
from curate.matching import PixelReader, Reader, find_matches
from curate.probe import full_pixels
from curate.stages import Identity, digest_of, record_run
from curate.store import MediaStore
from curate.work import Progress, Silent
from curate.workspace import Workspace
from schemas.errors import StoreError
from schemas.records import TABLES, Group, Image, Match, Thumbnail
from schemas.tables import find

STAGE = "dedupe/2"

INPUTS = """
    SELECT i.digest, i.made_by, i.bytes, i.format, i.width, i.height, i.orientation, i.pixels
    FROM image i
    WHERE i.error IS NULL
    ORDER BY i.digest
"""

THUMBNAILS = "SELECT * FROM thumbnail WHERE digest IN (SELECT unnest($digests))"


def dedupe_catalog(workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Match every image against every other and group them; equal input gives the same version."""
    progress = progress or Silent()
    distance = workspace.policy.dedupe.distance_bits
    with workspace.catalog.reading() as db:
        rows = select(db, INPUTS).to_pylist()
        rejected = _rejected(db)
    progress.start("dedupe", len(rows))
    identity = Identity(STAGE, {"distance_bits": distance}, digest_of(rows, sorted(rejected)))
    images = [Image(**row) for row in rows]
    matches = match_images(
        images,
        catalog_thumbnails(workspace),
        distance_bits=distance,
        made_by=STAGE,
        pixels_of=partial(stored_pixels, workspace),
    )
    accepted = [m for m in matches if (m.a, m.b) not in rejected]
    groups = group_images(images, accepted, identity.run_id)
    counts = {"images": len(images), "matches": len(matches), "groups": _several(groups)}
    with workspace.catalog.writing() as db:
        db.execute("DELETE FROM match WHERE verdict IS NULL")
        insert(db, "match", matches)
        insert(db, "group", groups)
        record_run(db, identity, counts, 0.0)
    progress.advance(len(images))
    return counts


def match_images(
    images: Sequence[Image],
    read: Reader,
    *,
    distance_bits: int,
    made_by: str,
    pixels_of: PixelReader | None = None,
) -> list[Match]:
    """Every pair of `images` that is the same picture; `read` and `pixels_of` as in `find_matches`."""
    found = find_matches(
        images, read, distance_bits=distance_bits, made_by=made_by, pixels_of=pixels_of
    )
    return list(found)


def catalog_thumbnails(workspace: Workspace) -> Reader:
    """The thumbnails in a workspace's catalog, a few thousand images at a time."""
    table = find(TABLES, "thumbnail")

    def read(digests: Sequence[str]) -> Iterator[Thumbnail]:
        yield from table.from_arrow(workspace.catalog.query(THUMBNAILS, digests=list(digests)))

    return read


def stored_pixels(workspace: Workspace, digest: str) -> str | None:
    """The digest of a stored picture's pixels, decoded anew; None where the bytes are gone."""
    try:
        data = MediaStore.at(workspace.policy.media, workspace.root).read(digest)
    except StoreError:
        return None
    return full_pixels(data)


def group_images(images: Sequence[Image], matches: Sequence[Match], version: str) -> list[Group]:
    """One row per image: its group, and whether it stands for the group."""
    facts = {image.digest: image for image in images}
    members: dict[str, list[Image]] = defaultdict(list)
    for digest, group_id in connect(facts, [(m.a, m.b) for m in matches]).items():
        members[group_id].append(facts[digest])
    return [
        row for group_id in sorted(members) for row in _rows(group_id, members[group_id], version)
    ]


def _rows(group_id: str, members: Sequence[Image], version: str) -> Iterator[Group]:
    best, why = choose_canonical(members)
    for image in members:
        chosen = image.digest == best
        yield Group(
            version=version,
            digest=image.digest,
            group_id=group_id,
            canonical=chosen,
            why=why if chosen else f"same picture as {best[:12]}",
        )


def _several(groups: Sequence[Group]) -> int:
    """How many groups hold more than one image."""
    return len({g.group_id for g in groups if not g.canonical})


def _rejected(db: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    """The pairs that a reviewer has called different."""
    rows = select(db, "SELECT a, b FROM match WHERE verdict = 'different'").to_pylist()
    return {(row["a"], row["b"]) for row in rows}
