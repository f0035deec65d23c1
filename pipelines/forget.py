"""Forget: what a person asks to have taken out goes, and every place that still shows it is told."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.privacy import author_key
from curate.stages import forgetting
from curate.tombstones import ASKED, Request, Tombstones
from curate.workspace import Workspace
from pipelines.label import ROOT, folder_name
from pipelines.output import shortened
from schemas.errors import InputError

LEAST = 12
"""Digits of a digest that are needed: what goes does not come back, so a slip must not hit another."""

_KEY = re.compile(r"[0-9a-f]{24}")
_DIGEST = re.compile(rf"[0-9a-f]{{{LEAST},64}}")
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9_-]*")


def run(
    workspace: Workspace,
    environment: Mapping[str, str],
    *,
    posts: Sequence[str] = (),
    authors: Sequence[str] = (),
    authors_of: Sequence[str] = (),
    digests: Sequence[str] = (),
    reason: str = ASKED,
    dry_run: bool = False,
    rewrite: bool = False,
) -> dict[str, Any]:
    """Take out posts, authors and pictures; with none named, finish what was begun.

    Raises:
        InputError: if something is not written as a post, an author or a digest, or cannot be found.
    """
    request = Request(
        posts=tuple(_post(text, "--post") for text in posts),
        authors=(*(_author(workspace, text) for text in authors), *_of(workspace, authors_of)),
        digests=tuple(_digest(workspace, text) for text in digests),
        reason=reason,
    )

    def also(gone: Sequence[str]) -> int:
        return remove_shown(workspace, environment, gone)

    return forgetting.forget(workspace, request, dry_run=dry_run, rewrite=rewrite, also=also)


def lines(result: dict[str, Any]) -> list[str]:
    """What went, and what a person has still to see to."""
    went = "would go" if result["dry_run"] else "gone"
    said = [
        f"{went}: {result['posts']} posts, {result['media']} media, {result['images']} images, "
        f"{result['files']} files; {result['tombstones']} new tombstones"
    ]
    for release in result["releases"]:
        done = ", written again without" if release["rewritten"] else ""
        said.append(f"release {release['name']} held {len(release['paths'])} of it{done}:")
        said += [f"  {path}" for path in release["paths"]]
    said += [f"still there: {left['place']}: {left['what']}" for left in result["remains"]]
    said += [f"a copy that stays: {shortened(digest)}" for digest in result["near_copies"]]
    said += [
        f"stays, since other posts show it: {shortened(digest)}"
        for digest in result["shown_elsewhere"]
    ]
    if result["near_copies"] or result["shown_elsewhere"]:
        said.append("to have those go too: `wildrf forget --digest DIGEST`")
    if result["images"] and not result["dry_run"]:
        said.append("next: `wildrf dedupe`, so that groups are made of what is left")
    return said


def remove_shown(
    workspace: Workspace, environment: Mapping[str, str], digests: Iterable[str]
) -> int:
    """Remove pictures from the folder from which Label Studio shows them; how many files that were."""
    root = workspace.policy.labeling.document_root or environment.get(ROOT)
    if not root:
        return 0
    folder = Path(root) / folder_name(workspace)
    found = [path for digest in digests for path in folder.glob(f"{digest}*")]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _post(text: str, option: str) -> tuple[str, str]:
    platform, _, post_id = text.partition("/")
    if not _PLATFORM.fullmatch(platform) or not post_id:
        raise InputError(f"{option} is {text!r}; expected PLATFORM/ID, such as reddit/1abcde")
    return platform, post_id


def _author(workspace: Workspace, text: str) -> str:
    if _KEY.fullmatch(text):
        return text
    platform, _, author_id = text.partition("/")
    if not _PLATFORM.fullmatch(platform) or not author_id:
        raise InputError(
            "--author is neither a key nor PLATFORM/AUTHOR_ID; a key has 24 hexadecimal digits (column "
            "author of post), an author id is the platform's own"
        )
    return author_key(workspace.secret, platform, author_id)


def _of(workspace: Workspace, posts: Sequence[str]) -> list[str]:
    """The keys of the authors of posts; a post that is forgotten already adds nothing."""
    keys = []
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
        for text in posts:
            platform, post_id = _post(text, "--author-of")
            found = db.execute(
                "SELECT author FROM post WHERE platform = ? AND post_id = ?", [platform, post_id]
            ).fetchall()
            if not found and stones.refuses(platform, post_id, None):
                continue
            if not found or found[0][0] is None:
                why = "its author is not known" if found else "there is no such post"
                raise InputError(f"--author-of {text}: {why}; name the author with --author")
            keys.append(found[0][0])
    return keys


def _digest(workspace: Workspace, text: str) -> str:
    start = text.lower()
    if not _DIGEST.fullmatch(start):
        raise InputError(
            f"--digest is {text!r}; expected a SHA-256, or at least its first {LEAST} digits"
        )
    if len(start) == 64:
        return start
    rows = workspace.catalog.rows(
        "SELECT DISTINCT digest FROM (SELECT digest FROM image UNION ALL SELECT digest FROM stored "
        "UNION ALL SELECT value FROM tombstone WHERE kind = 'digest') "
        "WHERE starts_with(digest, $start) ORDER BY digest LIMIT 2",
        start=start,
    )
    if not rows:
        raise InputError(f"no image begins with {start}; `wildrf sql` can list digests")
    if len(rows) > 1:
        raise InputError(f"{start} begins several digests; give all 64 digits")
    return str(rows[0]["digest"])
