"""Forget: posts, authors and pictures go from the catalog, the store, the releases and what was made of them.

Killed at any point and run again, it finishes: what is still to be done stands in the catalog until the
bytes, the pages and every trace in the catalog's file are gone. What came back meanwhile, because a fetch or
a collection ran beside, is taken out again.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.catalog import select
from curate.stages import digest_of
from curate.stages.releasing import release_catalog
from curate.tombstones import (
    CATALOG,
    Erased,
    Request,
    Tombstones,
    erase,
    finish,
    forgotten,
    post_value,
    unfinished,
)
from curate.workspace import Workspace
from schemas.errors import WildrfError
from schemas.layout import MANIFEST
from schemas.records import ReleaseItem

NAMED = 12
"""Digits of a digest by which a page or a list is seen to name it."""

LARGEST_LIST = 512 * 2**20
"""Bytes of a file that is looked through for digests."""

ASIDE = ".forgotten"
"""How the name of a release's folder ends while the release is written again."""

RETURNED = (
    """SELECT value FROM tombstone WHERE kind = 'author' AND value IN (SELECT author FROM post)
       ORDER BY value""",
    """SELECT value FROM tombstone WHERE kind = 'digest'
       AND value IN (SELECT digest FROM stored UNION ALL SELECT digest FROM image) ORDER BY value""",
)
"""Authors and pictures that were taken out and are in the catalog again."""

Removing = Callable[[Sequence[str]], int]


def forget(
    workspace: Workspace,
    request: Request,
    *,
    dry_run: bool = False,
    rewrite: bool = False,
    also: Removing = lambda digests: 0,
) -> dict[str, Any]:
    """Take out what `request` names, everything only that showed, and what was forgotten before.

    Args:
        workspace: where.
        request: what.
        dry_run: say what would go, and touch nothing.
        rewrite: write the releases that hold it again, without it.
        also: removes copies that others made of pictures, given their digests; how many files that were.
    """
    if not dry_run:
        _finish_rewriting(workspace)
    whole = _with_returned(workspace, request)
    erased = erase(workspace, whole, dry_run=dry_run)
    stones = _stones(workspace, erased)
    releases = affected(workspace, stones)
    digests = sorted({*erased.digests, *unfinished(workspace)} - {CATALOG})
    told = {
        "ok": True,
        "dry_run": dry_run,
        "posts": erased.posts,
        "media": erased.media,
        "images": erased.images,
        "files": 0,
        "tombstones": erased.tombstones,
        "releases": releases,
        "near_copies": list(erased.near_copies),
        "shown_elsewhere": list(erased.shown_elsewhere),
    }
    if dry_run:
        there = {d for d in {*digests, *forgotten(workspace)} if workspace.store.has(d)}
        return {
            **told,
            "files": len(there),
            "remains": _remains(workspace, erased, releases, digests),
        }
    files = _remove_pages(workspace, digests) + (also(digests) if digests else 0)
    files += finish(workspace, sweep=True)
    if rewrite:
        releases = [_rewritten(workspace, release) for release in releases]
    left = _remains(workspace, erased, releases, digests)
    return {**told, "files": files, "releases": releases, "remains": left}


def affected(workspace: Workspace, stones: Tombstones) -> list[dict[str, Any]]:
    """Releases on disk that hold something forgotten, each with the paths inside."""
    found = []
    for manifest in sorted(workspace.releases.glob(f"*/{MANIFEST}")):
        known = set(pq.read_schema(manifest).names)
        columns = [
            c for c in ("path", "digest", "platform", "post_id", "author", "group_id") if c in known
        ]
        rows = pq.read_table(manifest, columns=columns).to_pylist()
        paths = [row["path"] for row in rows if _is_forgotten(row, stones)]
        if paths and not manifest.parent.name.startswith("."):
            found.append({"name": manifest.parent.name, "paths": paths, "rewritten": False})
    return found


def _is_forgotten(row: dict[str, Any], stones: Tombstones) -> bool:
    named = (row.get("group_id") or "").partition("-")[0]  # a group is named by one of its pictures
    return (
        stones.holds_digest(row["digest"])
        or stones.holds_digest(named)
        or stones.refuses(row["platform"] or "", row.get("post_id") or "", row.get("author"))
    )


def _stones(workspace: Workspace, erased: Erased) -> Tombstones:
    """All tombstones, those that a dry run would leave included."""
    with workspace.catalog.reading() as db:
        held = db.execute("SELECT kind, value FROM tombstone").fetchall()
    return Tombstones.of(workspace.secret, [*held, *((s.kind, s.value) for s in erased.stones)])


def _with_returned(workspace: Workspace, request: Request) -> Request:
    """`request`, and everything with a tombstone that is in the catalog again."""
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
        posts = [
            (platform, post_id)
            for platform, post_id in (
                db.execute("SELECT platform, post_id FROM post").fetchall() if stones.posts else ()
            )
            if post_value(workspace.secret, platform, post_id) in stones.posts
        ]
        authors, digests = (select(db, sql)["value"].to_pylist() for sql in RETURNED)
    return replace(
        request,
        posts=tuple(dict.fromkeys([*request.posts, *posts])),
        authors=tuple(dict.fromkeys([*request.authors, *authors])),
        digests=tuple(dict.fromkeys([*request.digests, *digests])),
    )


# ---------------------------------------------------------------- releases


def _rewritten(workspace: Workspace, release: dict[str, Any]) -> dict[str, Any]:
    """Write a release again from the rows that are left; one that has none left goes."""
    place = workspace.releases / release["name"]
    _note_version(workspace, release["name"])
    place.rename(place.with_name(f".{place.name}{ASIDE}"))
    _finish_rewriting(workspace)
    return {**release, "rewritten": True}


def _finish_rewriting(workspace: Workspace) -> None:
    """Write the releases that were put aside; the old folder goes once the new one is whole."""
    for aside in sorted(workspace.releases.glob(f".*{ASIDE}")):
        name = aside.name.removeprefix(".").removesuffix(ASIDE)
        try:
            if _held(workspace, name) and not (workspace.releases / name).exists():
                release_catalog(workspace, name)
        except WildrfError:
            aside.rename(workspace.releases / name)  # bytes are damaged: better told than lost
            raise
        shutil.rmtree(aside)


def _held(workspace: Workspace, name: str) -> int:
    """How many images of a release are left to be written."""
    [row] = workspace.catalog.rows(
        "SELECT count(*) AS n FROM release_item WHERE name = $name AND split IS NOT NULL", name=name
    )
    return int(row["n"])


def _note_version(workspace: Workspace, name: str) -> None:
    """The release's row says what is in it now, or goes with the last of it."""
    if not _held(workspace, name):
        with workspace.catalog.writing() as db:
            for table in ("release", "release_item"):
                db.execute(f"DELETE FROM {table} WHERE name = ?", [name])  # noqa: S608
        return
    items = workspace.catalog.rows(
        "SELECT * FROM release_item WHERE name = $name ORDER BY digest", name=name
    )
    for row in workspace.catalog.rows("SELECT parameters FROM release WHERE name = $n", n=name):
        rows = [asdict(ReleaseItem(**item)) for item in items]
        version = digest_of(json.loads(row["parameters"]), rows)
        with workspace.catalog.writing() as db:
            db.execute("UPDATE release SET version = ? WHERE name = ?", [version, name])


# ---------------------------------------------------------------- what was made of the pictures


def _remove_pages(workspace: Workspace, digests: Sequence[str]) -> int:
    """Remove pages that show one of the pictures by name, and decoded pixels kept for a training."""
    if not digests:
        return 0
    pages = [p for p in workspace.root.glob("*.html") if _names(p, digests)]
    caches = list(workspace.runs.glob("*/.*.pixels.*"))
    for path in (*pages, *caches):
        path.unlink(missing_ok=True)
    return len(pages) + len(caches)


def _names(path: Path, digests: Sequence[str]) -> bool:
    """Whether a file holds the beginning of one of the digests."""
    if path.stat().st_size > LARGEST_LIST:
        return False
    held = path.read_bytes()
    return any(digest[:NAMED].encode() in held for digest in digests)


def _remains(
    workspace: Workspace, erased: Erased, releases: list[dict[str, Any]], digests: Sequence[str]
) -> list[dict[str, str]]:
    """What a person has to see to: where it still is, and what can be done."""
    return [
        {"place": place, "what": what}
        for place, what in _left(workspace, erased, releases, digests)
    ]


def _left(
    workspace: Workspace, erased: Erased, releases: list[dict[str, Any]], digests: Sequence[str]
) -> Iterator[tuple[str, str]]:
    root = workspace.root
    for location in erased.sources:
        yield location, "the export still holds it; it will not be collected again"
    for task in erased.tasks:
        yield f"{task['project']} task {task['task_id']}", "shown to annotators; delete it there"
    for release in releases:
        if not release["rewritten"]:
            place = str((workspace.releases / release["name"]).relative_to(root))
            yield place, "the release still holds it; --rewrite-releases writes it again without"
    if not digests:
        return
    for path in sorted(root.glob("*.html")):
        if b"data:image/" in path.read_bytes():
            yield (
                path.name,
                "a page with small pictures that may show it; make it again or delete it",
            )
    for path in sorted([*root.glob("*.json"), *root.glob("*.jsonl"), *root.glob("*.csv")]):
        if _names(path, digests):
            yield path.name, "names the picture; make it again or delete it"
    for path in sorted(workspace.runs.glob("**/scores.parquet")):
        known = pq.read_table(path, columns=["sha256"])["sha256"]
        if pc.any(pc.is_in(known, value_set=pa.array(digests, pa.string()))).as_py():
            yield str(path.parent.relative_to(root)), "scored it; its scores name the digest"
    yield from _taught(workspace, releases)


def _taught(workspace: Workspace, releases: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Runs that learnt from a release that held it."""
    folders = {str((workspace.releases / r["name"]).resolve()) for r in releases}
    for path in sorted(workspace.runs.glob("*/config.json")):
        try:
            data = json.loads(path.read_bytes())["data"]["root"]
        except (ValueError, KeyError, TypeError):
            continue
        if str((workspace.root / data).resolve()) in folders:
            yield str(path.parent.relative_to(workspace.root)), "was trained on it; train it again"
