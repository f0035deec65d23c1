"""Fetch: remote and in-export media come into the store, each attempt recorded with its cause.

A failed item is tried again while its cause may pass and attempts are left, and whenever another export has
brought a place it was not yet looked for in. Afterwards two things are noted as evidence: what the tag rules
say, and which picture is under so many unrelated posts that it stands for missing ones.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.catalog import insert, select
from curate.download import PASSING, Downloader
from curate.fetch import Wanted, fetch_all
from curate.members import Library
from curate.privacy import hidden_member
from curate.stages import Identity, record_run
from curate.tags import MADE_BY as TAGS
from curate.tags import TagMatcher
from curate.tombstones import Tombstones
from curate.work import Progress, Silent
from curate.workspace import Workspace
from schemas.records import Evidence, Fetch, Media, Post

STAGE = "fetch/2"
BATCH = 2000
"""Attempts per commit, or fewer after `EVERY_S`: what a kill costs at most."""
EVERY_S = 5.0
PAGE = 20_000
"""Media items looked up at a time."""
LAST = "2"
"""Beyond every turn."""

WANTED = """
    WITH tried AS (
        SELECT platform, post_id, position, max(attempt) AS attempts,
               bool_or(digest IS NOT NULL) AS done, arg_max(failure, attempt) AS last,
               arg_max(places, attempt) AS places
        FROM "fetch" GROUP BY ALL)
    SELECT m.*, coalesce(t.attempts, 0) + 1 AS attempt,
           CASE WHEN m.member IS NULL
                THEN '1/' || md5(concat_ws('/', m.platform, m.post_id, m.position))
                ELSE concat_ws('/', '0', m.source_id, m.member, m.platform, m.post_id, m.position)
           END AS turn
    FROM media m
    JOIN post p USING (platform, post_id)
    LEFT JOIN tried t USING (platform, post_id, position)
    WHERE NOT p.opted_out
      AND (t.attempts IS NULL OR NOT t.done AND (
          t.attempts < $attempts
          AND (list_contains($passing, t.last) OR starts_with(t.last, 'http-5'))
          OR t.places < (m.member IS NOT NULL)::INT + list_unique(
              list_filter([m.url] || m.fallback_urls, lambda url: url <> ''))))
"""
"""Every item that is not here and may still be had. Its turn: exports first, each along its names; then the
network in an order of no meaning, so that the items at hand are of many hosts."""

OUTCOME = """
    SELECT failure, count(*) AS n, coalesce(sum(bytes) FILTER (digest IS NOT NULL), 0) AS bytes
    FROM (SELECT * FROM "fetch"
          QUALIFY row_number() OVER (PARTITION BY platform, post_id, position
                                     ORDER BY attempt DESC) = 1)
    GROUP BY failure ORDER BY failure
"""

SUSPECTS = """
    SELECT digest, count(DISTINCT (platform, post_id)) AS posts,
           count(DISTINCT coalesce(p.author, '')) AS authors
    FROM stored
    JOIN post p USING (platform, post_id)
    JOIN media m USING (platform, post_id, position)
    WHERE p.repost_of IS NULL
    GROUP BY digest
    HAVING count(DISTINCT coalesce(p.author, '')) >= $least
       AND count(DISTINCT coalesce(m.media_id, m.url, m.member)) >= $least
    ORDER BY posts DESC, digest
"""
"""Pictures of many authors, none reposting another, each with a media id of its own. Authors who are not
known count as one."""

TAGGABLE = """
    SELECT p.platform, p.post_id, p.title, p.text, p.hashtags, p.community, p.flair, f.digests
    FROM post p JOIN (
        SELECT platform, post_id, list(DISTINCT digest ORDER BY digest) AS digests
        FROM stored GROUP BY ALL) f USING (platform, post_id)
    ORDER BY p.platform, p.post_id
"""
"""Only what rules look at: a million posts are read, and most columns say nothing to a rule."""


def fetch_media(workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Try every media item that is not here and may still be had; the outcome of all items so far.

    `later` counts, by host, what was not asked for since the host wants more quiet than there is time for.
    """
    progress = progress or Silent()
    policy = workspace.policy
    workspace.store.tidy(datetime.now(UTC))
    progress.start("fetch", media_to_fetch(workspace))
    later: Counter[str] = Counter()
    library = _library(workspace)
    tried = 0
    with Downloader(policy.fetch, honour_opt_out=policy.privacy.honour_opt_out) as downloader:
        for rows in fetch_all(
            _wanted(workspace, library),
            library=library,
            downloader=downloader,
            put=_keeping(workspace),
            batch=BATCH,
            every_s=EVERY_S,
            later=later,
        ):
            tried += len(rows)
            workspace.catalog.add("fetch", _sorted(rows))
            progress.advance(len(rows))
    note_tags(workspace)
    suspects = note_placeholders(workspace)
    return {**_finish(workspace), "tried": tried, "later": dict(later), "suspects": suspects}


def media_to_fetch(workspace: Workspace) -> int:
    """How many media items are not here and may still be had."""
    found = workspace.catalog.rows(f"SELECT count(*) AS n FROM ({WANTED})", **_limits(workspace))  # noqa: S608
    return int(found[0]["n"])


def note_tags(workspace: Workspace) -> int:
    """Write what the tag rules say of every fetched image, afresh: rules change more often than posts."""
    matcher = TagMatcher(workspace.policy.tags, workspace.policy.platforms)
    posts = workspace.catalog.query(TAGGABLE) if workspace.policy.tags else None
    pieces = posts.to_batches(max_chunksize=PAGE) if posts is not None else []
    found = [
        evidence
        for piece in pieces
        for row in piece.to_pylist()
        for evidence in matcher.evidence(_taggable(row), row["digests"])
    ]
    with workspace.catalog.writing() as db:
        db.execute("DELETE FROM evidence WHERE kind = 'tag'")
        insert(db, "evidence", found)
    return len(found)


def note_placeholders(workspace: Workspace) -> list[dict[str, Any]]:
    """Write which pictures are under suspiciously many unrelated posts, afresh; their digests and posts."""
    least = workspace.policy.fetch.placeholder_posts
    with workspace.catalog.writing() as db:
        rows = select(db, SUSPECTS, least=least).to_pylist() if least else []
        db.execute("DELETE FROM evidence WHERE kind = 'placeholder'")
        insert(db, "evidence", [_suspicion(row) for row in rows])
    return [{"digest": row["digest"], "posts": row["posts"]} for row in rows]


def _suspicion(row: dict[str, Any]) -> Evidence:
    return Evidence(
        digest=row["digest"],
        kind="placeholder",
        origin="fetch",
        direction="neither",
        strength=0.5,
        detail=f"the same bytes under {row['posts']} unrelated posts of {row['authors']} authors",
        made_by=STAGE,
    )


def _wanted(workspace: Workspace, library: Library) -> Iterator[Wanted]:
    """What is to be fetched, page by page: the catalog is never held, nor are all items in memory."""
    sql = f"SELECT * FROM ({WANTED}) WHERE turn > $after ORDER BY turn LIMIT {PAGE}"  # noqa: S608
    after = ""
    while after != LAST and (
        rows := workspace.catalog.rows(sql, after=after, **_limits(workspace))
    ):
        after = rows[-1]["turn"] if len(rows) == PAGE else LAST
        page = [_item(row) for row in rows]
        inside = [wanted for wanted in page if wanted.item.member is not None]
        yield from sorted(inside, key=lambda wanted: library.place(wanted.item))
        yield from (wanted for wanted in page if wanted.item.member is None)


def _limits(workspace: Workspace) -> dict[str, Any]:
    """What decides whether a failed item is tried again."""
    opted_out = set() if workspace.policy.privacy.honour_opt_out else {"opted-out"}
    return {
        "attempts": workspace.policy.fetch.attempts,
        "passing": sorted(PASSING | opted_out),
    }


def _library(workspace: Workspace) -> Library:
    rows = workspace.catalog.rows("SELECT source_id, location FROM source")
    return Library(
        {row["source_id"]: [Path(part) for part in row["location"].split("\n")] for row in rows},
        workspace.policy.fetch.max_bytes,
        lambda name: hidden_member(workspace.secret, name),
    )


def _sorted(rows: list[Fetch]) -> list[Fetch]:
    return sorted(rows, key=lambda row: (row.platform, row.post_id, row.position))


def _item(row: dict[str, Any]) -> Wanted:
    known = {k: v for k, v in row.items() if k not in ("attempt", "turn")}
    item = Media(**{**known, "fallback_urls": tuple(known["fallback_urls"])})
    return Wanted(item, row["attempt"])


def _taggable(row: dict[str, Any]) -> Post:
    told = {k: row[k] for k in ("platform", "post_id", "title", "text", "community", "flair")}
    return Post(**told, source_id="", author=None, created_at=None, hashtags=tuple(row["hashtags"]))


def _keeping(workspace: Workspace) -> Callable[[bytes], str | None]:
    """Stores bytes and gives their digest; None for a picture that was taken out for good."""
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
    if not stones.media:
        return workspace.store.put

    def put(data: bytes) -> str | None:
        refused = stones.holds_digest(hashlib.sha256(data).hexdigest())
        return None if refused else workspace.store.put(data)

    return put


def _finish(workspace: Workspace) -> dict[str, Any]:
    rows = workspace.catalog.rows(OUTCOME)
    counts = {
        "ok": sum(row["n"] for row in rows if row["failure"] is None),
        "failed": {row["failure"]: row["n"] for row in rows if row["failure"] is not None},
        "bytes": sum(int(row["bytes"]) for row in rows),
    }
    with workspace.catalog.writing() as db:
        record_run(db, Identity(STAGE, {"tags": TAGS}, ""), counts, 0.0)
    return counts
