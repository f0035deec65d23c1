"""Why: everything known about one image, from the bytes in the export to the split it is in."""

from datetime import datetime
from typing import Any

import duckdb

from curate.catalog import select
from curate.tombstones import post_value
from curate.workspace import Workspace
from pipelines.output import shortened
from schemas.errors import InputError
from schemas.labels import Label

QUESTIONS: dict[str, str] = {
    "image": "SELECT * FROM image WHERE digest = $digest",
    "posts": """
        SELECT p.*, m.position, m.url, m.member, m.rendition, m.alt, f.origin, f.attempt, f.served_type
        FROM stored f JOIN media m USING (platform, post_id, position)
        JOIN post p USING (platform, post_id)
        WHERE f.digest = $digest ORDER BY p.platform, p.post_id""",
    "exports": """
        SELECT DISTINCT s.* FROM stored f JOIN post p USING (platform, post_id)
        JOIN source s USING (source_id) WHERE f.digest = $digest ORDER BY s.location""",
    "evidence": "SELECT * FROM evidence WHERE digest = $digest ORDER BY kind, origin",
    "conflict": 'SELECT "real", "fake" FROM evidence_conflict WHERE digest = $digest',
    "fingerprints": "SELECT view, printf('%016x', bits) AS bits FROM fingerprint "
    "WHERE digest = $digest ORDER BY view",
    "matches": """
        SELECT CASE WHEN a = $digest THEN b ELSE a END AS other, kind, distance, verified, verdict
        FROM match WHERE a = $digest OR b = $digest ORDER BY distance, other""",
    "group": """
        SELECT g.group_id, g.canonical, g.why, g.formerly, (SELECT list(digest ORDER BY digest)
        FROM current_group o WHERE o.group_id = g.group_id) AS members
        FROM current_group g WHERE g.digest = $digest""",
    "apart": """
        SELECT CASE WHEN a = $digest THEN b ELSE a END AS other, relation, why,
               CASE WHEN a = $digest THEN 'first' ELSE 'second' END AS this_is
        FROM current_kinship WHERE a = $digest OR b = $digest ORDER BY relation, other""",
    "annotations": 'SELECT * FROM annotation WHERE digest = $digest ORDER BY "at", annotation_id',
    "label": "SELECT posterior, decision, votes, agreement, method, why FROM current_label "
    "WHERE digest = $digest",
    "releases": "SELECT name, split, platform, label, path, why FROM release_item "
    "WHERE digest = $digest ORDER BY name",
    "scores": "SELECT model, logit, 1 / (1 + exp(-logit)) AS score FROM score "
    "WHERE digest = $digest ORDER BY model",
}
"""Each part of the answer and the statement that finds it."""

ONE = ("image", "conflict", "group", "label")
"""The parts of which there is at most one."""

UNTOLD = ("digest", "made_by", "source_id", "run_id", "annotation_id", "revision", "project_key")
"""Columns that people need not see: they are said already, join tables, or tell versions apart."""

LISTED = 8
"""Members of a list that are shown."""


def explain(workspace: Workspace, digest: str) -> dict[str, Any]:
    """Everything the catalog knows about the image whose digest begins with `digest`, or that a post shows.

    Of what was forgotten there is only when, and why.

    Raises:
        InputError: if no image, or more than one, begins so.
    """
    with workspace.catalog.reading() as db:
        if gone := _forgotten(db, workspace, digest):
            return {"asked": digest, "forgotten": gone}
        start = _shown_by(db, digest) if "/" in digest else digest.lower()
        whole = _resolve(db, start)
        found = {part: select(db, sql, digest=whole).to_pylist() for part, sql in QUESTIONS.items()}
    answer: dict[str, Any] = {"digest": whole, "stored": workspace.store.has(whole)}
    for part, rows in found.items():
        answer[part] = (rows[0] if rows else None) if part in ONE else rows
    return answer


def lines(answer: dict[str, Any]) -> list[str]:
    """The answer for people: a part a paragraph, a fact a line."""
    if gone := answer.get("forgotten"):
        return [
            f"{shortened(answer['asked'])}: forgotten on {gone['at']:%Y-%m-%d}, {gone['reason']}"
        ]
    said = [f"image {answer['digest']}", f"  in the store: {'yes' if answer['stored'] else 'NO'}"]
    for part in QUESTIONS:
        value = answer[part]
        rows = value if isinstance(value, list) else [value] if value else []
        if not rows:
            said.append(f"{part}: none")
        for number, row in enumerate(rows, start=1):
            said.append(f"{part} {number} of {len(rows)}" if len(rows) > 1 else part)
            said += _facts(row)
    return said


def _facts(row: dict[str, Any]) -> list[str]:
    """One fact per line; what is not known, and which version of a stage said so, is left out."""
    told = {k: v for k, v in row.items() if v not in (None, "", [], "{}") and k not in UNTOLD}
    return [f"  {key.replace('_', ' ')}: {_said(key, value)}" for key, value in told.items()]


def _said(key: str, value: Any) -> str:
    return Label(value).name.lower() if key in ("label", "decision") else _brief(value)


def _brief(value: Any) -> str:
    """A value in a few words: digests by their beginning, numbers without a tail, times to the second."""
    if isinstance(value, list):
        more = f", and {len(value) - LISTED} more" if len(value) > LISTED else ""
        return ", ".join(_brief(v) for v in value[:LISTED]) + more
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return shortened(str(value))


def _forgotten(
    db: duckdb.DuckDBPyConnection, workspace: Workspace, asked: str
) -> dict[str, Any] | None:
    """When and why a post or a picture was taken out; None if it was not."""
    platform, _, post_id = asked.partition("/")
    value = post_value(workspace.secret, platform, post_id) if post_id else asked.lower()
    rows = select(
        db,
        'SELECT "at", reason FROM tombstone WHERE kind = $kind AND starts_with(value, $value) '
        "AND length($value) >= 4 ORDER BY value LIMIT 1",
        kind="post" if post_id else "digest",
        value=value,
    ).to_pylist()
    return rows[0] if rows and not _known(db, asked.lower()) else None


def _known(db: duckdb.DuckDBPyConnection, start: str) -> list[str]:
    """Up to three digests that begin so."""
    found: list[str] = select(
        db,
        "SELECT DISTINCT digest FROM (SELECT digest FROM image UNION ALL SELECT digest FROM stored) "
        "WHERE starts_with(digest, $start) ORDER BY digest LIMIT 3",
        start=start,
    )["digest"].to_pylist()
    return found


def _shown_by(db: duckdb.DuckDBPyConnection, post: str) -> str:
    """The digest of the one image of a post, given as PLATFORM/POST_ID."""
    platform, _, post_id = post.partition("/")
    rows = db.execute(
        "SELECT DISTINCT digest FROM stored WHERE platform = ? AND post_id = ? ORDER BY digest",
        [platform, post_id],
    ).fetchall()
    if len(rows) != 1:
        told = ", ".join(shortened(row[0]) for row in rows) or "none"
        raise InputError(f"{post} has {len(rows)} images here ({told}); ask for one by its digest")
    return str(rows[0][0])


def _resolve(db: duckdb.DuckDBPyConnection, start: str) -> str:
    if len(start) < 4:
        raise InputError(f"{start!r} is too short; give at least 4 digits of the digest")
    rows = _known(db, start)
    if not rows:
        raise InputError(f"no image begins with {start}; `wildrf sql` can list digests")
    if len(rows) > 1:
        raise InputError(
            f"{start} begins several digests ({rows[0][:16]}, {rows[1][:16]}, ...); give more"
        )
    return rows[0]
