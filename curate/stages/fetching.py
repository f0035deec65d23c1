"""Fetch: remote and in-export media come into the store, each attempt recorded with its cause.

A failed item is tried again while its cause may pass and attempts are left, and whenever another export has
brought a place it was not yet looked for in. Afterwards two things are noted as evidence: what the tag rules
say, and which picture is under so many unrelated posts that it stands for missing ones.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from curate.branches import Branch, cores, started
from curate.catalog import insert, select
from curate.download import PASSING, Downloader
from curate.fetch import Wanted, fetch_all, host_of, places_of
from curate.members import Library
from curate.privacy import hidden_member
from curate.shares import WORTH, crowds, dealt
from curate.stages import Identity, record_run
from curate.tags import MADE_BY as TAGS
from curate.tags import TagMatcher
from curate.tombstones import Tombstones
from curate.work import Progress, Silent
from curate.workspace import Workspace
from schemas.policy import FetchPolicy
from schemas.records import Evidence, Fetch, Media, Post

STAGE = "fetch/2"
BATCH = 2000
"""Attempts per commit, or fewer after `EVERY_S`: what a kill costs at most."""
EVERY_S = 5.0
PAGE = 20_000
"""Media items looked up at a time."""
MOST_SETS = 100_000
"""Different sets of places; where items have more, one process fetches all of them."""
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

KEYS = """
    list_transform(list_filter([url] || fallback_urls, lambda u: u <> ''), lambda u:
        coalesce(nullif(regexp_extract(u, '^[^/?#]*//[^/?#]*'), ''), u))
"""
"""The places of an item in the network, each up to where its host ends; a URL that has no host as a whole.
What has the same key has the same host, in the eyes of `host_of`."""

HOSTS = f"""
    SELECT keys, inside, count(*) AS n, sum(count(*)) OVER () AS total
    FROM (SELECT {KEYS} AS keys, member IS NOT NULL AS inside FROM ({WANTED}))
    GROUP BY ALL LIMIT $most
"""  # noqa: S608
"""How many items have which places."""

MINE = f"member IS NULL AND {KEYS}[1] IN (SELECT unnest($keys))"
REST = f"(member IS NOT NULL OR coalesce({KEYS}[1] NOT IN (SELECT unnest($keys)), true))"
"""The items of a branch, and those of nobody else."""

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


def fetch_media(
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    processes: int | None = None,
    ready: Sequence[Branch] = (),
) -> dict[str, Any]:
    """Try every media item that is not here and may still be had; the outcome of all items so far.

    `later` counts, by host, what was not asked for since the host wants more quiet than there is time for.
    `died` says how many processes ended before they were done; their items are left for the next run.

    Args:
        workspace: what is fetched for.
        progress: who is told.
        processes: how many may fetch at once; as many as there are processors if not said.
        ready: branches that were started before: those without use are ended, none is started beside.
    """
    progress = progress or Silent()
    workspace.store.tidy(datetime.now(UTC))
    allowed = len(ready) + 1 if ready else cores()
    plan = _planned(workspace, allowed if processes is None else processes)
    progress.start("fetch", plan.items)
    later: Counter[str] = Counter()
    tried = 0
    with _needed(ready, len(plan.parts) - 1) as branches:
        for rows in _rows(workspace, plan, branches, later):
            tried += len(rows)
            workspace.catalog.add("fetch", _sorted(rows))
            progress.advance(len(rows))
    told = _noted(workspace)
    died = sum(branch.died for branch in branches)
    return {**told, "tried": tried, "later": dict(later), "died": died}


@contextmanager
def _needed(ready: Sequence[Branch], number: int) -> Iterator[list[Branch]]:
    """So many branches: those that are ready, or new ones."""
    if not ready:
        with started(number) as made:
            yield made
        return
    for spare in ready[number:]:
        spare.close()
    yield list(ready[:number])


def media_to_fetch(workspace: Workspace) -> int:
    """How many media items are not here and may still be had."""
    found = workspace.catalog.rows(f"SELECT count(*) AS n FROM ({WANTED})", **_limits(workspace))  # noqa: S608
    return int(found[0]["n"])


def note_tags(workspace: Workspace) -> int:
    """Write what the tag rules say of every fetched image, afresh: rules change more often than posts."""
    found = _tagged(workspace)
    with workspace.catalog.writing() as db:
        _put_tags(db, found)
    return len(found)


def note_placeholders(workspace: Workspace) -> list[dict[str, Any]]:
    """Write which pictures are under suspiciously many unrelated posts, afresh; their digests and posts."""
    with workspace.catalog.writing() as db:
        return _put_suspects(db, workspace.policy.fetch.placeholder_posts)


def _noted(workspace: Workspace) -> dict[str, Any]:
    """What is noted when all is fetched, and how it stands with all items so far."""
    tags = _tagged(workspace)
    with workspace.catalog.writing() as db:
        _put_tags(db, tags)
        suspects = _put_suspects(db, workspace.policy.fetch.placeholder_posts)
        counts = _outcome(select(db, OUTCOME).to_pylist())
        record_run(db, Identity(STAGE, {"tags": TAGS}, ""), counts, 0.0)
    return {**counts, "suspects": suspects}


def _tagged(workspace: Workspace) -> list[Evidence]:
    """What the rules say."""
    if not workspace.policy.tags:
        return []
    matcher = TagMatcher(workspace.policy.tags, workspace.policy.platforms)
    pieces = workspace.catalog.query(TAGGABLE).to_batches(max_chunksize=PAGE)
    return [
        evidence
        for piece in pieces
        for row in piece.to_pylist()
        for evidence in matcher.evidence(_taggable(row), row["digests"])
    ]


def _put_tags(db: duckdb.DuckDBPyConnection, found: list[Evidence]) -> None:
    db.execute("DELETE FROM evidence WHERE kind = 'tag'")
    insert(db, "evidence", found)


def _put_suspects(db: duckdb.DuckDBPyConnection, least: int) -> list[dict[str, Any]]:
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


# ---------------------------------------------------------------- who fetches what


@dataclass(frozen=True, slots=True)
class _Part:
    """What one process fetches: items of its hosts, or for the first one of all hosts but these."""

    hosts: frozenset[str]
    keys: list[str]
    rest: bool

    def query(self) -> tuple[str, dict[str, Any]]:
        """The condition on items, and its parameters."""
        if not self.keys:
            return "true" if self.rest else "false", {}
        return (REST if self.rest else MINE), {"keys": self.keys}

    def keeps(self, item: Media) -> bool:
        """Whether all its hosts are of this part.

        One that another process has brought only now may have hosts of several; it is left for the next run.
        """
        hosts = {place.host for place in places_of(item) if place.url is not None}
        return hosts.isdisjoint(self.hosts) if self.rest else hosts <= self.hosts


@dataclass(frozen=True, slots=True)
class _Plan:
    """How many items there are, and how they are shared; what is known of exports and refused pictures."""

    items: int
    parts: list[_Part]
    exports: Library
    refused: frozenset[str]


def _planned(workspace: Workspace, processes: int) -> _Plan:
    with workspace.catalog.reading() as db:
        most = {"most": MOST_SETS + 1}
        seen = select(db, HOSTS, **most, **_limits(workspace)).to_pylist()
        sources = select(db, "SELECT source_id, location FROM source").to_pylist()
        refused = Tombstones.load(db, workspace.secret).media
    return _Plan(
        int(seen[0]["total"]) if seen else 0,
        _parts(seen, workspace.policy.fetch, processes),
        _library(workspace, sources),
        refused,
    )


def _parts(seen: list[dict[str, Any]], policy: FetchPolicy, processes: int) -> list[_Part]:
    """The part of the first process, and those of further ones where they pay."""
    shares: list[frozenset[str]] = []
    if processes > 1 and len(seen) <= MOST_SETS and seen and seen[0]["total"] >= 2 * WORTH:
        shares = dealt(
            crowds(([host_of(key) for key in row["keys"]], row["n"], row["inside"])
                   for row in seen if row["keys"]),
            processes=processes,
            workers=policy.workers,
            per_host=policy.per_host,
        )  # fmt: skip
    keys = {key: host_of(key) for row in seen for key in row["keys"]} if shares else {}
    theirs = [_Part(hosts, [k for k, h in keys.items() if h in hosts], False) for hosts in shares]
    away = frozenset[str]().union(*shares)
    return [_Part(away, [key for part in theirs for key in part.keys], True), *theirs]


def _rows(
    workspace: Workspace, plan: _Plan, branches: list[Branch], later: Counter[str]
) -> Iterator[list[Fetch]]:
    """The rows of all parts, as they are done."""
    policy, honour = workspace.policy.fetch, workspace.policy.privacy.honour_opt_out
    if not branches:
        plan = replace(plan, parts=[_Part(frozenset(), [], True)])
    each = policy.workers // len(plan.parts)
    own = replace(policy, workers=policy.workers - each * len(branches))
    rules = {
        "policy": asdict(replace(policy, workers=each)),
        "honour": honour,
        "media": workspace.policy.media,
        "base": str(workspace.root),
        "refused": sorted(plan.refused),
    }
    first, *others = (_wanted(workspace, plan.exports, part) for part in plan.parts)
    with Downloader(own, honour_opt_out=honour) as downloader:
        yield from fetch_all(
            first,
            library=plan.exports,
            downloader=downloader,
            put=partial(workspace.store.put_unless, plan.refused),
            batch=BATCH,
            every_s=EVERY_S,
            later=later,
            beside=[branch.rows(rules, it) for branch, it in zip(branches, others, strict=True)],
        )
    for branch in branches:
        later.update(branch.later)


def _wanted(workspace: Workspace, library: Library, part: _Part) -> Iterator[Wanted]:
    """What is to be fetched, page by page: the catalog is never held, nor are all items in memory."""
    which, keys = part.query()
    sql = f"SELECT * FROM ({WANTED}) WHERE {which} AND turn > $after ORDER BY turn LIMIT {PAGE}"  # noqa: S608
    after = ""
    while after != LAST and (
        rows := workspace.catalog.rows(sql, after=after, **keys, **_limits(workspace))
    ):
        after = rows[-1]["turn"] if len(rows) == PAGE else LAST
        page = [wanted for wanted in map(_item, rows) if part.keeps(wanted.item)]
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


def _library(workspace: Workspace, rows: list[dict[str, Any]]) -> Library:
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


def _outcome(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many items are here, how many are not and why."""
    return {
        "ok": sum(row["n"] for row in rows if row["failure"] is None),
        "failed": {row["failure"]: row["n"] for row in rows if row["failure"] is not None},
        "bytes": sum(int(row["bytes"]) for row in rows),
    }
