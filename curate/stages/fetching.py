"""Fetch: remote and in-export media come into the store, each attempt recorded with its cause."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.catalog import insert, select
from curate.download import PASSING
from curate.fetch import fetch_all
from curate.stages import Identity, record_run
from curate.tags import MADE_BY as TAGS
from curate.tags import tag_evidence
from curate.work import Progress, Silent, batches
from curate.workspace import Workspace
from schemas.records import Media, Post

STAGE = "fetch/1"
BATCH = 100
"""Media items per commit: a kill costs at most this many downloads."""

PENDING = """
    WITH tried AS (
        SELECT platform, post_id, position, max(attempt) AS attempts,
               bool_or(digest IS NOT NULL) AS done, arg_max(failure, attempt) AS last
        FROM "fetch" GROUP BY ALL)
    SELECT m.*, coalesce(t.attempts, 0) + 1 AS attempt
    FROM media m
    JOIN post p USING (platform, post_id)
    LEFT JOIN tried t USING (platform, post_id, position)
    WHERE NOT p.opted_out
      AND (t.attempts IS NULL
           OR (NOT t.done AND t.attempts < $attempts
               AND (list_contains($passing, t.last) OR starts_with(t.last, 'http-5'))))
    ORDER BY m.platform, m.post_id, m.position
"""

OUTCOME = """
    SELECT failure, count(*) AS n, coalesce(sum(bytes) FILTER (digest IS NOT NULL), 0) AS bytes
    FROM (SELECT * FROM "fetch"
          QUALIFY row_number() OVER (PARTITION BY platform, post_id, position
                                     ORDER BY attempt DESC) = 1)
    GROUP BY failure ORDER BY failure
"""

TAGGABLE = """
    SELECT p.*, f.digests FROM post p JOIN (
        SELECT platform, post_id, list(DISTINCT digest ORDER BY digest) AS digests
        FROM stored GROUP BY ALL) f USING (platform, post_id)
    ORDER BY p.platform, p.post_id
"""


def fetch_media(
    workspace: Workspace,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Try every media item that is not here and may still be had; the outcome of all items so far."""
    progress = progress or Silent()
    policy = workspace.policy.fetch
    workspace.store.tidy(datetime.now(UTC))
    pending = media_to_fetch(workspace)
    exports = {
        row["source_id"]: Path(row["location"])
        for row in workspace.catalog.rows("SELECT source_id, location FROM source")
    }
    progress.start("fetch", len(pending))
    for batch in batches(pending, BATCH):
        items = [_media(row) for row in batch]
        rows = fetch_all(
            items,
            exports=exports,
            policy=policy,
            put=workspace.store.put,
            clock=clock,
            attempts={
                (m.platform, m.post_id, m.position): r["attempt"]
                for m, r in zip(items, batch, strict=True)
            },
        )
        workspace.catalog.add("fetch", rows)
        progress.advance(len(batch))
    note_tags(workspace)
    return _finish(workspace, len(pending))


def media_to_fetch(workspace: Workspace) -> list[dict[str, Any]]:
    """Every media item that is not here and may still be had, with the number of its next attempt."""
    return workspace.catalog.rows(
        PENDING, attempts=workspace.policy.fetch.attempts, passing=sorted(PASSING)
    )


def note_tags(workspace: Workspace) -> int:
    """Write what the tag rules say of every fetched image, afresh: rules change more often than posts."""
    rules = workspace.policy.tags
    with workspace.catalog.writing() as db:
        rows = select(db, TAGGABLE).to_pylist()
        found = [e for row in rows for e in tag_evidence(_post(row), row.pop("digests"), rules)]
        db.execute("DELETE FROM evidence WHERE kind = 'tag'")
        insert(db, "evidence", found)
    return len(found)


def _media(row: dict[str, Any]) -> Media:
    known = {k: v for k, v in row.items() if k != "attempt"}
    return Media(**{**known, "fallback_urls": tuple(known["fallback_urls"])})


def _post(row: dict[str, Any]) -> Post:
    known = {k: v for k, v in row.items() if k != "digests"}
    return Post(**{**known, "hashtags": tuple(known["hashtags"])})


def _finish(workspace: Workspace, tried: int) -> dict[str, Any]:
    rows = workspace.catalog.rows(OUTCOME)
    counts = {
        "ok": sum(row["n"] for row in rows if row["failure"] is None),
        "failed": {row["failure"]: row["n"] for row in rows if row["failure"] is not None},
        "bytes": sum(int(row["bytes"]) for row in rows),
    }
    with workspace.catalog.writing() as db:
        record_run(db, Identity(STAGE, {"tags": TAGS}, ""), counts, 0.0)
    return {**counts, "tried": tried}
