"""Dedupe: which images are the same picture, and which sets they form."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from curate.catalog import insert, select
from curate.groups import choose_canonical, connect
from curate.matching import find_matches
from curate.stages import Identity, digest_of, record_run
from curate.work import Progress, Silent
from curate.workspace import Workspace
from schemas.records import Group, Image, Match

STAGE = "dedupe/1"

INPUTS = """
    SELECT i.digest, i.made_by, i.bytes, i.format, i.width, i.height, i.pixels,
           p.bits AS phash, d.bits AS dhash
    FROM image i
    LEFT JOIN fingerprint p ON p.digest = i.digest AND p.view = 'phash'
    LEFT JOIN fingerprint d ON d.digest = i.digest AND d.view = 'dhash'
    WHERE i.error IS NULL
    ORDER BY i.digest
"""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What matching and grouping need to know of one image."""

    image: Image
    phash: int | None
    dhash: int | None


def dedupe_catalog(workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Match every image against every other and group them; equal input gives the same version."""
    progress = progress or Silent()
    distance = workspace.policy.dedupe.distance_bits
    with workspace.catalog.reading() as db:
        rows = select(db, INPUTS).to_pylist()
        rejected = _rejected(db)
    progress.start("dedupe", len(rows))
    identity = Identity(STAGE, {"distance_bits": distance}, digest_of(rows, sorted(rejected)))
    images = [_hashed(row) for row in rows]
    matches = match_images(images, distance_bits=distance, made_by=STAGE)
    accepted = [m for m in matches if (m.a, m.b) not in rejected]
    groups = group_images([i.image for i in images], accepted, identity.run_id)
    counts = {"images": len(images), "matches": len(matches), "groups": _several(groups)}
    with workspace.catalog.writing() as db:
        db.execute("DELETE FROM match WHERE verdict IS NULL")
        insert(db, "match", matches)
        insert(db, "group", groups)
        record_run(db, identity, counts, 0.0)
    progress.advance(len(images))
    return counts


def match_images(images: Sequence[Hashed], *, distance_bits: int, made_by: str) -> list[Match]:
    """Every pair of `images` that is the same picture."""
    return list(
        find_matches(
            [i.image.digest for i in images],
            [i.image.pixels for i in images],
            {i.image.digest: i.phash for i in images if i.phash is not None},
            {i.image.digest: i.dhash for i in images if i.dhash is not None},
            distance_bits=distance_bits,
            made_by=made_by,
        )
    )


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


def _hashed(row: dict[str, Any]) -> Hashed:
    phash, dhash = row.pop("phash"), row.pop("dhash")
    return Hashed(Image(**row), phash, dhash)


def _several(groups: Sequence[Group]) -> int:
    """How many groups hold more than one image."""
    return len({g.group_id for g in groups if not g.canonical})


def _rejected(db: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    """The pairs that a reviewer has called different."""
    rows = select(db, "SELECT a, b FROM match WHERE verdict = 'different'").to_pylist()
    return {(row["a"], row["b"]) for row in rows}
