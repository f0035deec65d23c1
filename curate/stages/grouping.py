"""Dedupe: which images are the same picture, and which sets they form.

Matches are found by `match_images`; everything after that (verdicts, marks, groups, kinship, names) is
`regroup_catalog`, which costs little and is done again before every split, because votes and reviewers'
words come in after dedupe. The version of a grouping is a digest of what it says, so the same answer has the
same version however it came about.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import duckdb

from curate.candidates import Reader
from curate.catalog import insert, select
from curate.groups import (
    Grouping,
    Mark,
    Member,
    choose_canonical,
    group_matches,
    name_sets,
)
from curate.matching import PixelReader, find_matches
from curate.probe import full_pixels
from curate.spool import Spool
from curate.stages import Identity, record_run
from curate.store import MediaStore
from curate.work import Progress
from curate.workspace import Workspace
from schemas.errors import InputError, StoreError
from schemas.labels import Direction, MatchKind, Word
from schemas.policy import DedupePolicy
from schemas.records import TABLES, Evidence, Group, Image, Kinship, Match, Thumbnail
from schemas.tables import find

STAGE = "dedupe/4"

REVIEW = "review/1"
"""Who made a row that holds a reviewer's word."""

FAR = 64
"""The distance told of two pictures without hashes to compare: that of nothing in common."""

INPUTS = """
    SELECT i.digest, i.made_by, i.bytes, i.format, i.width, i.height, i.orientation, i.pixels
    FROM image i
    WHERE i.error IS NULL
    ORDER BY i.digest
"""

THUMBNAILS = "SELECT * FROM thumbnail WHERE rowid >= $begin AND rowid < $begin + $page"
ROWS = "SELECT coalesce(max(rowid) + 1, 0) AS n FROM thumbnail"
PAGE = 20_000
"""Thumbnails that are read from the catalog at a time: 80 MB."""

MEMBERS = """
    SELECT i.digest, i.made_by, i.bytes, i.format, i.width, i.height, i.jpeg_quality, s.posted_at,
           coalesce(e.provenance, 0) AS provenance, coalesce(e.camera, false) AS camera,
           coalesce(e.generated, false) AS generated,
           coalesce(e.edited, false) OR coalesce(l.edited, false) AS edited
    FROM image i
    LEFT JOIN (SELECT f.digest, min(p.created_at) AS posted_at
               FROM stored f JOIN post p USING (platform, post_id) GROUP BY f.digest) s USING (digest)
    LEFT JOIN (SELECT digest, max(strength) AS provenance,
                      bool_or(direction = 'real') AS camera,
                      bool_or(direction = 'fake' AND NOT contains(detail, 'composite')) AS generated,
                      bool_or(direction = 'fake' AND contains(detail, 'composite')) AS edited
               FROM evidence WHERE kind NOT IN ('tag', 'placeholder', 'platform-trace', 'last-hop')
               GROUP BY digest) e USING (digest)
    LEFT JOIN current_label l USING (digest)
    WHERE i.error IS NULL
    ORDER BY i.digest
"""
"""What groups are judged by. Only what a file says of itself marks it; an IPTC type such as
compositeWithTrainedAlgorithmicMedia, or a majority of votes, says that a picture was edited."""


def dedupe_catalog(workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Match every image against every other and group them; equal input gives the same version."""
    with workspace.catalog.reading() as db:
        images = [Image(**row) for row in select(db, INPUTS).to_pylist()]
    matches = match_images(
        images,
        catalog_thumbnails(workspace),
        distance_bits=workspace.policy.dedupe.distance_bits,
        made_by=STAGE,
        pixels_of=partial(stored_pixels, workspace),
        progress=progress,
    )
    return _regroup(workspace, matches)


def regroup_catalog(workspace: Workspace) -> dict[str, Any] | None:
    """Group again by what is known now, without matching again; None where dedupe never ran."""
    with workspace.catalog.reading() as db:
        if not select(db, "SELECT 1 FROM run WHERE starts_with(stage, 'dedupe/') LIMIT 1"):
            return None
    return _regroup(workspace, None)


def _regroup(workspace: Workspace, found: Sequence[Match] | None) -> dict[str, Any]:
    """Group by `found`, or by the matches that are in the catalog, and keep the outcome."""
    with workspace.catalog.reading() as db:
        known = [Match(**row) for row in select(db, MATCHES).to_pylist()]
        members = [_member(row) for row in select(db, MEMBERS).to_pylist()]
        before = {r["digest"]: r["group_id"] for r in select(db, FORMER).to_pylist()}
    reviewed = [m for m in known if m.verdict is not None]
    said = {(m.a, m.b, m.kind) for m in reviewed}
    fresh = known if found is None else found
    matches = [m for m in fresh if (m.a, m.b, m.kind) not in said]
    policy = workspace.policy.dedupe
    grouped = group_images(members, [*matches, *reviewed], policy, before)
    identity = Identity(STAGE, _parameters(policy), _digest(grouped))
    groups, kinship = grouped.rows(identity.run_id)
    counts = {
        "images": len(members),
        "matches": len(_pairs([*matches, *reviewed])),
        "groups": len({g.group_id for g in groups if not g.canonical}),
        "apart": len(kinship),
        "unverified": grouped.unverified,
    }
    with workspace.catalog.writing() as db:
        if found is not None:
            db.execute("DELETE FROM match WHERE verdict IS NULL")
            insert(db, "match", found)
        insert(db, "group", groups)
        insert(db, "kinship", kinship)
        record_run(db, identity, counts, 0.0)
    return counts


def _pairs(matches: Sequence[Match]) -> set[tuple[str, str]]:
    """The pairs that are the same picture as far as is known."""
    different = {(m.a, m.b) for m in matches if m.verdict == Word.DIFFERENT}
    return {(m.a, m.b) for m in matches} - different


MATCHES = "SELECT * FROM match ORDER BY a, b, kind"
FORMER = "SELECT digest, group_id FROM current_group"


def _parameters(policy: DedupePolicy) -> dict[str, Any]:
    return {
        "distance_bits": policy.distance_bits,
        "verified": policy.verified,
        "canonical": list(policy.canonical),
    }


def _digest(grouped: "Grouped") -> str:
    """A digest of what a grouping says, whatever it was before; 32 hex digits."""
    said = hashlib.sha256()
    for row in grouped.groups:
        said.update(f"{row.digest} {row.group_id} {row.canonical} {row.why}\n".encode())
    for link in grouped.kinship:
        said.update(f"{link.a} {link.b} {link.relation} {link.why}\n".encode())
    return said.hexdigest()[:32]


def match_images(
    images: Sequence[Image],
    read: Reader,
    *,
    distance_bits: int,
    made_by: str,
    pixels_of: PixelReader | None = None,
    progress: Progress | None = None,
) -> list[Match]:
    """Every pair of `images` that is the same picture; the rest is as in `find_matches`."""
    found = find_matches(
        images,
        read,
        distance_bits=distance_bits,
        made_by=made_by,
        pixels_of=pixels_of,
        progress=progress,
    )
    return list(found)


def catalog_thumbnails(workspace: Workspace) -> Reader:
    """The thumbnails in a workspace's catalog, which is read when they are first asked for."""

    @cache
    def spool() -> Spool:
        return Spool(workspace.root, _thumbnails(workspace))

    return lambda digests: spool().read(digests)


def _thumbnails(workspace: Workspace) -> Iterator[Thumbnail]:
    """All of them, page by page: the catalog is never held for long."""
    table = find(TABLES, "thumbnail")
    for begin in range(0, workspace.catalog.rows(ROWS)[0]["n"], PAGE):
        yield from table.from_arrow(workspace.catalog.query(THUMBNAILS, begin=begin, page=PAGE))


def stored_pixels(workspace: Workspace, digest: str) -> str | None:
    """The digest of a stored picture's pixels, decoded anew; None where the bytes are gone."""
    try:
        data = MediaStore.at(workspace.policy.media, workspace.root).read(digest)
    except StoreError:
        return None
    return full_pixels(data)


@dataclass(frozen=True, slots=True)
class Grouped:
    """One row per image and one per match that joined nothing, their version still empty."""

    groups: tuple[Group, ...]
    kinship: tuple[Kinship, ...]
    unverified: int

    def rows(self, version: str) -> tuple[list[Group], list[Kinship]]:
        """The rows of this version."""
        return (
            [replace(row, version=version) for row in self.groups],
            [replace(row, version=version) for row in self.kinship],
        )


def group_images(
    members: Sequence[Member],
    matches: Sequence[Match],
    policy: DedupePolicy,
    before: Mapping[str, str] | None = None,
) -> Grouped:
    """Which group each image is in, who stands for it, and what matches but was kept apart.

    `before` is the group that each image was in; a group keeps its id while it grows.
    """
    facts = {member.image.digest: member for member in members}
    marks = {digest: member.marks for digest, member in facts.items() if member.marks}
    found = group_matches(facts, matches, verified=policy.verified, marks=marks)
    names = name_sets(found.sets, before)
    former = _former(before or {})
    rows = [
        row
        for name, digests in sorted(zip(names, found.sets, strict=True))
        for row in _rows(name, [facts[d] for d in digests], policy.canonical, former)
    ]
    return Grouped(tuple(rows), tuple(_kinship(found)), found.unverified)


def _kinship(found: Grouping) -> Iterator[Kinship]:
    for one in found.apart:
        yield Kinship("", one.a, one.b, one.relation.value, one.why)


def _former(before: Mapping[str, str]) -> dict[str, str]:
    """The group of each image that was in one with others."""
    size = Counter(before.values())
    return {digest: name for digest, name in before.items() if size[name] > 1}


def _rows(
    name: str, members: Sequence[Member], order: Sequence[str], former: Mapping[str, str]
) -> Iterator[Group]:
    best, why = choose_canonical(members, order)
    for member in members:
        digest = member.image.digest
        was = former.get(digest)
        yield Group(
            version="",
            digest=digest,
            group_id=name,
            canonical=digest == best,
            why=why if digest == best else f"same picture as {best[:12]}",
            formerly=was if was != name else None,
        )


def _member(row: dict[str, Any]) -> Member:
    posted_at, provenance = row.pop("posted_at"), row.pop("provenance")
    marks = mark(camera=row.pop("camera"), generated=row.pop("generated"), edited=row.pop("edited"))
    return Member(Image(**row), posted_at, provenance, marks)


def mark(*, camera: bool, generated: bool, edited: bool) -> Mark:
    """What is known of an image as one value."""
    return (
        (Mark.CAMERA if camera else Mark.NONE)
        | (Mark.GENERATED if generated else Mark.NONE)
        | (Mark.EDITED if edited else Mark.NONE)
    )


CLAIMLESS = ("tag", "placeholder", "platform-trace", "last-hop")
"""Kinds of evidence that a file does not carry, or that say nothing of its origin."""


def member_of(image: Image, evidence: Iterable[Evidence]) -> Member:
    """An image as groups judge it, where there is no catalog: `MEMBERS` in a function."""
    claims = [claim for claim in evidence if claim.kind not in CLAIMLESS]
    fake = [claim for claim in claims if claim.direction == Direction.FAKE]
    edited = [claim for claim in fake if "composite" in claim.detail]
    marks = mark(
        camera=any(claim.direction == Direction.REAL for claim in claims),
        generated=len(fake) > len(edited),
        edited=bool(edited),
    )
    return Member(image, None, max((c.strength for c in claims), default=0.0), marks)


def review_pairs(
    workspace: Workspace, pairs: Iterable[tuple[str, str, Word]]
) -> list[dict[str, str]]:
    """Keep a reviewer's word on pairs of images, each given by how its digest begins.

    The word replaces an earlier one on the same pair, is never removed by a later run, and outweighs what
    was measured. The groups follow at once.

    Raises:
        InputError: if a beginning names no image or several, or both name the same one.
    """
    with workspace.catalog.reading() as db:
        rows = [_reviewed(db, one, other, word) for one, other, word in pairs]
    with workspace.catalog.writing() as db:
        for row in rows:
            db.execute("UPDATE match SET verdict = NULL WHERE a = ? AND b = ?", [row.a, row.b])
        insert(db, "match", rows, replace=True)
    return [{"a": row.a, "b": row.b, "verdict": str(row.verdict)} for row in rows]


def _reviewed(db: duckdb.DuckDBPyConnection, one: str, other: str, word: Word) -> Match:
    a, b = sorted((_whole(db, one), _whole(db, other)))
    if a == b:
        raise InputError(f"{one} and {other} are one image; name two")
    bits = dict(
        db.execute(
            "SELECT digest, bits FROM fingerprint WHERE view = 'phash' AND digest IN (?, ?)", [a, b]
        ).fetchall()
    )
    distance = (bits[a] ^ bits[b]).bit_count() if len(bits) == 2 else FAR
    return Match(a, b, MatchKind.REVIEWED.value, distance, REVIEW, verdict=word.value)


def _whole(db: duckdb.DuckDBPyConnection, start: str) -> str:
    if len(start) < 4:
        raise InputError(f"{start!r} is too short; give at least 4 digits of the digest")
    found = db.execute(
        "SELECT digest FROM image WHERE starts_with(digest, ?) ORDER BY digest LIMIT 2",
        [start.lower()],
    ).fetchall()
    if len(found) != 1:
        what = "no image begins" if not found else "several images begin"
        raise InputError(f"{what} with {start}; `wildrf sql` can list digests")
    return str(found[0][0])
