"""What was taken out for good, taking it out, and which posts, authors and pictures never come back.

A post is known by HMAC-SHA256 of platform and id under the workspace's secret, an author by the key that
posts carry, a picture by its digest: the list names nobody, and nobody without the secret can test a guess.

Rows and tombstones change in one transaction; then the bytes go, and the catalog is written anew, since
DuckDB keeps deleted rows in its file (https://duckdb.org/docs/stable/operations_manual/footprint_of_duckdb/reclaiming_space).
What is still to be done stands in rows of the kind `unfinished` until it is done.
"""

import hmac
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from typing import Any

import duckdb
import pyarrow as pa

from curate.catalog import insert, select
from curate.store import MediaStore
from curate.workspace import Workspace
from schemas.records import Tombstone

log = logging.getLogger(__name__)

ASKED = "asked for"
"""The reason of a tombstone where none is given."""

WITHDRAWN = "withdrawn on the platform"
"""The reason of a tombstone where the platform itself took a post away."""

UNFINISHED = "unfinished"
"""The kind of a row that says what a killed run has still to do: a digest to remove, or `CATALOG`."""

CATALOG = "catalog"
"""The value of an unfinished row that asks for the catalog's file to be written anew."""

GONE_POSTS = """
    CREATE OR REPLACE TEMP TABLE gone_post AS
    WITH RECURSIVE gone(platform, post_id) AS (
        SELECT platform, post_id FROM asked_post
        UNION SELECT platform, post_id FROM post WHERE author IN (SELECT author FROM asked_author)
        UNION SELECT p.platform, p.post_id FROM gone g
              JOIN post p ON p.repost_of = g.platform || '/' || g.post_id)
    SELECT platform, post_id FROM gone
"""
"""What was asked for, known or not, what those authors posted, and every repost of it."""

GONE_MEDIA = """
    CREATE OR REPLACE TEMP TABLE gone_media AS
    SELECT platform, post_id, "position" FROM media WHERE (platform, post_id) IN (FROM gone_post)
    UNION SELECT platform, post_id, "position" FROM stored WHERE digest IN (FROM asked_digest)
"""

EMPTIED = """
    INSERT INTO gone_post
    SELECT DISTINCT platform, post_id FROM gone_media
    WHERE (platform, post_id) NOT IN (FROM gone_post)
      AND (platform, post_id) NOT IN (
        SELECT platform, post_id FROM (
            SELECT platform, post_id, "position" FROM media EXCEPT FROM gone_media))
"""
"""Posts that would be left without a picture go as a whole: there is nothing else to keep them for."""

GONE_DIGESTS = """
    CREATE OR REPLACE TEMP TABLE gone_digest AS
    SELECT digest FROM asked_digest
    UNION (SELECT digest FROM stored WHERE (platform, post_id, "position") IN (FROM gone_media)
           EXCEPT SELECT digest FROM stored
                  WHERE (platform, post_id, "position") NOT IN (FROM gone_media))
"""
"""Pictures that were asked for, and those that no post shows any more."""

SHOWN_ELSEWHERE = """
    SELECT DISTINCT digest FROM stored WHERE (platform, post_id, "position") IN (FROM gone_media)
    EXCEPT FROM gone_digest ORDER BY digest
"""

NEAR_COPIES = """
    SELECT DISTINCT o.digest FROM current_group g JOIN current_group o USING (group_id)
    WHERE g.digest IN (FROM gone_digest) AND o.digest NOT IN (FROM gone_digest) ORDER BY o.digest
"""

TASKS = "SELECT project, task_id FROM task SEMI JOIN gone_digest USING (digest) ORDER BY ALL"

SOURCES = """
    SELECT DISTINCT s.location FROM post p SEMI JOIN gone_post USING (platform, post_id)
    JOIN source s USING (source_id) ORDER BY s.location
"""

COUNTS = """
    SELECT (SELECT count(*) FROM post SEMI JOIN gone_post USING (platform, post_id)),
           (SELECT count(*) FROM media SEMI JOIN gone_media USING (platform, post_id, "position")),
           (SELECT count(*) FROM image SEMI JOIN gone_digest USING (digest))
"""

POST_KEY = ("platform", "post_id")
OF_POSTS = ("post", "media", "fetch")
OF_DIGESTS = (
    "image", "evidence", "fingerprint", "thumbnail", "group", "task", "annotation", "label",
    "release_item", "score",
)  # fmt: skip
"""Tables with a row per picture, beside `match` and `kinship`, which have one per pair."""

STATEMENTS = (
    'DELETE FROM media WHERE (platform, post_id, "position") IN (FROM gone_media)',
    'DELETE FROM "fetch" WHERE (platform, post_id, "position") IN (FROM gone_media)',
    *(f'DELETE FROM "{t}" WHERE (platform, post_id) IN (FROM gone_post)' for t in OF_POSTS),  # noqa: S608
    """DELETE FROM evidence WHERE kind = 'tag'
       AND regexp_replace(origin, '#[^#]*$', '') IN (SELECT platform || '/' || post_id FROM gone_post)""",
    *(f'DELETE FROM "{t}" WHERE digest IN (FROM gone_digest)' for t in OF_DIGESTS),  # noqa: S608
    *(
        f"DELETE FROM {t} WHERE a IN (FROM gone_digest) OR b IN (FROM gone_digest)"  # noqa: S608
        for t in ("match", "kinship")
    ),
    # a picture that others show too is released as one of their posts, on the same platform only
    """UPDATE release_item SET post_id = (
           SELECT min(s.post_id) FROM stored s
           WHERE s.digest = release_item.digest AND s.platform = release_item.platform)
       WHERE (platform, post_id) IN (FROM gone_post)""",
    "DELETE FROM release_item WHERE platform IS NOT NULL AND post_id IS NULL",
)
"""What is done to the rows, in order, once it is known what goes."""

NAMERS = (("group", "group_id"), ("group", "formerly"), ("release_item", "group_id"))
"""Columns that hold the name of a group, which is the digest of one that is or was in it."""

TELLERS = (("group", "why"), ("kinship", "why"), ("release_item", "why"))
"""Columns whose text may name a picture by the beginning of its digest."""

SHORT = 12
"""Digits by which a text names a picture."""

MEMBERS = """
    SELECT DISTINCT group_id, digest FROM "group" UNION
    SELECT DISTINCT group_id, digest FROM release_item WHERE group_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Everything that was taken out, ready to be asked about each post."""

    secret: bytes
    posts: frozenset[str] = frozenset()
    authors: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()

    @classmethod
    def load(cls, db: duckdb.DuckDBPyConnection, secret: bytes) -> "Tombstones":
        """The tombstones of an open catalog."""
        return cls.of(secret, db.execute("SELECT kind, value FROM tombstone").fetchall())

    @classmethod
    def of(cls, secret: bytes, stones: Iterable[tuple[str, str]]) -> "Tombstones":
        """Tombstones given as kind and value."""
        kinds: dict[str, set[str]] = defaultdict(set)
        for kind, value in stones:
            kinds[kind].add(value)
        held = (frozenset(kinds[kind]) for kind in ("post", "author", "digest"))
        return cls(secret, *held)

    def refuses(
        self, platform: str, post_id: str, author_key: str | None, repost_of: str | None = None
    ) -> bool:
        """Whether a post, its author, or the post it shows again was taken out."""
        if author_key is not None and author_key in self.authors:
            return True
        if not self.posts:
            return False  # nothing is hashed for a set that holds nothing
        if post_value(self.secret, platform, post_id) in self.posts:
            return True
        if repost_of is None:
            return False
        there, _, original = repost_of.partition("/")
        return post_value(self.secret, there, original) in self.posts

    def holds_digest(self, digest: str) -> bool:
        """Whether the picture with these bytes was taken out."""
        return digest in self.media


def post_value(secret: bytes, platform: str, post_id: str) -> str:
    """What stands for a post in a tombstone: a keyed hash, 32 hex digits."""
    text = f"post\0{platform}\0{post_id}"
    return hmac.digest(secret, text.encode("utf-8", "surrogateescape"), "sha256").hex()[:32]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be taken out: posts by platform and id, authors by key, pictures by digest.

    With `and_bytes`, a picture that only these posts showed is refused from now on, whoever posts it.
    """

    posts: tuple[tuple[str, str], ...] = ()
    authors: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    reason: str = ASKED
    and_bytes: bool = True


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, or would go: counts of rows, and the pictures it is about.

    `shown_elsewhere` are pictures of the posts that stay because other posts show them; `near_copies`
    those that stay in a group with one that went; `tasks` were shown to annotators by a server of its
    own, and `sources` are exports that still hold a post.
    """

    posts: int = 0
    media: int = 0
    images: int = 0
    tombstones: int = 0
    digests: tuple[str, ...] = ()
    shown_elsewhere: tuple[str, ...] = ()
    near_copies: tuple[str, ...] = ()
    tasks: tuple[dict[str, Any], ...] = ()
    sources: tuple[str, ...] = ()
    stones: tuple[Tombstone, ...] = ()


def withdraw(workspace: Workspace, platform: str, post_ids: Iterable[str]) -> int:
    """Forget posts that their platform took away, and refuse them from now on; how many were known.

    Ids that are not known leave a tombstone too: what is kept must not depend on which export came first.
    Call it once with all ids of an export, since the catalog is written anew where something was known.
    """
    asked = tuple((platform, post_id) for post_id in dict.fromkeys(post_ids))
    if not asked:
        return 0
    gone = erase(workspace, Request(posts=asked, reason=WITHDRAWN, and_bytes=False))
    finish(workspace)
    return gone.posts


def erase(workspace: Workspace, request: Request, *, dry_run: bool = False) -> Erased:
    """Take rows out and leave tombstones, all at once; the bytes go with `finish`."""
    if dry_run:
        with workspace.catalog.reading() as db:
            _plan(db, request)
            return _told(db, list(_tombstones(db, workspace.secret, request)))
    with workspace.catalog.writing() as db:
        _plan(db, request)
        stones = list(_tombstones(db, workspace.secret, request))
        told = _told(db, stones)
        new = insert(db, "tombstone", stones)
        known = told.posts or told.media or told.digests
        changed = sum(db.execute(s).fetchall()[0][0] for s in (STATEMENTS if known else ()))
        changed += _rename_groups(db) + _unname(db) if known else 0
        insert(db, "tombstone", _to_do(told.digests, changed))
    log.info("erased %d posts and %d pictures", told.posts, told.images)
    return replace(told, tombstones=new)


def finish(workspace: Workspace, *, sweep: bool = False) -> int:
    """Remove the bytes of what was erased and every trace of its rows; how many files went.

    With `sweep`, every picture with a tombstone is looked for, also where nothing says it is unfinished.
    """
    waiting = unfinished(workspace)
    if not waiting and not sweep:
        return 0
    files = sum(_remove(workspace.store, digest) for digest in _unshown(workspace, sweep))
    if CATALOG in waiting:
        workspace.catalog.compact()
    if waiting:
        with workspace.catalog.writing() as db:
            db.execute("DELETE FROM tombstone WHERE kind = ?", [UNFINISHED])
    return files


def unfinished(workspace: Workspace) -> list[str]:
    """What a killed run has still to do."""
    rows = workspace.catalog.rows(
        "SELECT value FROM tombstone WHERE kind = $kind ORDER BY value", kind=UNFINISHED
    )
    return [row["value"] for row in rows]


def forgotten(workspace: Workspace) -> list[str]:
    """Every picture of which the bytes must not be here."""
    return _unshown(workspace, sweep=True)


def _unshown(workspace: Workspace, sweep: bool) -> list[str]:
    """Pictures to be removed; one that was posted again after it was withdrawn is somebody's post."""
    rows = workspace.catalog.rows(
        "SELECT DISTINCT value FROM tombstone WHERE value <> $catalog AND ((kind = 'digest' AND $sweep) "
        "OR (kind = $kind AND value NOT IN (SELECT digest FROM stored))) ORDER BY value",
        kind=UNFINISHED,
        catalog=CATALOG,
        sweep=sweep,
    )
    return [row["value"] for row in rows]


def _plan(db: duckdb.DuckDBPyConnection, request: Request) -> None:
    """Temporary tables of every post, media item and picture that goes."""
    _ask(db, "asked_post", {n: [p[i] for p in request.posts] for i, n in enumerate(POST_KEY)})
    _ask(db, "asked_author", {"author": request.authors})
    _ask(db, "asked_digest", {"digest": request.digests})
    for statement in (GONE_POSTS, GONE_MEDIA, EMPTIED, GONE_DIGESTS):
        db.execute(statement)


def _ask(db: duckdb.DuckDBPyConnection, table: str, columns: dict[str, Sequence[str]]) -> None:
    rows = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    db.register("_asked", rows)
    db.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM _asked")
    db.unregister("_asked")


def _tombstones(
    db: duckdb.DuckDBPyConnection, secret: bytes, request: Request
) -> Iterator[Tombstone]:
    """One for everything that goes, posts and reposts of an author included."""
    now = datetime.now(UTC)
    for platform, post_id in db.execute("FROM gone_post ORDER BY ALL").fetchall():
        yield Tombstone("post", post_value(secret, platform, post_id), request.reason, now)
    for author in dict.fromkeys(request.authors):
        yield Tombstone("author", author, request.reason, now)
    for (digest,) in db.execute("FROM gone_digest ORDER BY ALL").fetchall():
        if request.and_bytes or digest in request.digests:
            yield Tombstone("digest", digest, request.reason, now)


def _rename_groups(db: duckdb.DuckDBPyConnection) -> int:
    """Give groups that were named by a picture that went another name, everywhere; rows changed.

    A group takes the smallest digest of those left that bore its name, with a number behind it where
    that is the name of another group: what the next dedupe would call it, which keeps it from then on.
    No split looks at the name, so nobody moves.
    """
    gone = set(_values(db, "FROM gone_digest"))
    bearers: dict[str, list[str]] = defaultdict(list)
    for name, digest in db.execute(MEMBERS).fetchall():
        bearers[name].append(digest)
    taken = {name for name in bearers if _stem(name) not in gone}
    renamed = {}
    for name in sorted(bearers.keys() - taken):
        renamed[name] = _free(min(bearers[name]), taken)
        taken.add(renamed[name])
    stale = _values(db, 'SELECT DISTINCT formerly FROM "group" WHERE formerly IS NOT NULL')
    renames: dict[str, str | None] = {name: None for name in stale if _stem(name) in gone}
    return _replace(db, NAMERS, {**renames, **renamed})


def _stem(name: str) -> str:
    """The digest that a group's name is, without the number behind it."""
    return name.partition("-")[0]


def _free(name: str, taken: set[str]) -> str:
    """`name`, or with the first number behind it that makes it one of its own."""
    numbered = (f"{name}-{n}" for n in count(2))
    return next(free for free in chain((name,), numbered) if free not in taken)


def _unname(db: duckdb.DuckDBPyConnection) -> int:
    """Take pictures that went out of the reasons that name them; rows changed."""
    gone = {digest[:SHORT] for digest in _values(db, "FROM gone_digest")}
    told = {text for t, c in TELLERS for text in _values(db, f'SELECT DISTINCT {c} FROM "{t}"')}  # noqa: S608
    texts = {
        text: re.sub(r"\b[0-9a-f]{12,}\b", partial(_hide, gone), text) for text in told if text
    }
    return _replace(db, TELLERS, {text: new for text, new in texts.items() if new != text})


def _hide(gone: set[str], found: re.Match[str]) -> str:
    return "one that was forgotten" if found[0][:SHORT] in gone else found[0]


def _replace(
    db: duckdb.DuckDBPyConnection,
    columns: Iterable[tuple[str, str]],
    values: Mapping[str, str | None],
) -> int:
    """Put other values in the place of some, in several columns; rows changed."""
    if not values:
        return 0
    old, new = (pa.array(side, pa.string()) for side in (list(values), list(values.values())))
    db.register("_other", pa.table({"old": old, "new": new}))
    changed: int = sum(
        db.execute(f'UPDATE "{t}" SET {c} = o.new FROM _other o WHERE {c} = o.old').fetchall()[0][0]  # noqa: S608
        for t, c in columns
    )
    db.unregister("_other")
    return changed


def _told(db: duckdb.DuckDBPyConnection, stones: Sequence[Tombstone]) -> Erased:
    """What the plan comes to; `tombstones` counts those that are not there yet."""
    held = set(db.execute("SELECT kind, value FROM tombstone").fetchall())
    posts, media, images = db.execute(COUNTS).fetchall()[0]
    return Erased(
        posts=posts,
        media=media,
        images=images,
        tombstones=len({(s.kind, s.value) for s in stones} - held),
        digests=_values(db, "FROM gone_digest ORDER BY ALL"),
        shown_elsewhere=_values(db, SHOWN_ELSEWHERE),
        near_copies=_values(db, NEAR_COPIES),
        tasks=tuple(select(db, TASKS).to_pylist()),
        sources=_values(db, SOURCES),
        stones=tuple(stones),
    )


def _values(db: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    return tuple(row[0] for row in db.execute(sql).fetchall())


def _to_do(digests: Iterable[str], changed: int) -> list[Tombstone]:
    """What `finish` has still to do; where no row changed, the catalog holds no trace of any."""
    values = [*digests, CATALOG] if changed else list(digests)
    return [Tombstone(UNFINISHED, value, "being taken out") for value in values]


def _remove(store: MediaStore, digest: str) -> bool:
    """Delete the bytes of `digest`; False if they were not here."""
    if not store.has(digest):
        return False
    store.filesystem.delete_file(store.path(digest))
    return True
