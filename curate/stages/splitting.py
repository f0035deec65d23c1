"""Split: every image the catalog knows is placed in a release, or left out with a reason."""

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import duckdb

from curate.catalog import insert, select
from curate.groups import kin
from curate.splits import Candidate, Placed, Posting, assign
from curate.stages import digest_of
from curate.stages.grouping import STAGE as DEDUPE
from curate.stages.grouping import regroup_catalog
from curate.workspace import Workspace
from schemas.errors import InputError
from schemas.labels import Label, Role
from schemas.layout import folder
from schemas.records import Release, ReleaseItem

LABELS = "label/1"
"""The stage whose verdicts are used."""

CANDIDATES = """
    SELECT i.digest, i.format, i.error, coalesce(g.group_id, i.digest) AS group_id,
           coalesce(g.canonical, true) AS canonical, i.width * i.height AS area,
           l.decision, l.why AS label_why
    FROM image i
    LEFT JOIN current_group g ON g.digest = i.digest
    LEFT JOIN current_label l ON l.digest = i.digest
    ORDER BY i.digest
"""

RELATED = """
    SELECT a, b FROM current_kinship
    UNION SELECT a, b FROM match WHERE verdict = 'different'
    ORDER BY a, b
"""
"""Pairs that are not one picture and look like it, or come from it: they stay on one side."""

POSTINGS = """
    SELECT DISTINCT f.digest, p.platform, p.post_id, p.author
    FROM stored f JOIN post p USING (platform, post_id)
    ORDER BY f.digest, p.platform, p.post_id
"""

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
"""Where a format's usual ending is not its name in lower case."""


def split_catalog(workspace: Workspace, name: str) -> dict[str, Any]:
    """Assign every image to a split of the release `name`; the same catalog and policy give the same.

    Raises:
        InputError: if the name is not one, or already stands for another assignment.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InputError(
            f"{name!r} cannot name a release; use letters, digits, dot, dash, underscore"
        )
    regroup_catalog(workspace)  # votes and reviewers' words may have come since dedupe
    with workspace.catalog.reading() as db:
        items, versions = _items(db, workspace, name)
    parameters = _parameters(workspace)
    version = digest_of(parameters, [asdict(item) for item in items])
    release = Release(
        name=name,
        version=version,
        protocol=workspace.policy.split.protocol,
        parameters=json.dumps(parameters, sort_keys=True),
        groups=versions.get(DEDUPE, ""),
        labels=versions.get(LABELS, ""),
        created_at=datetime.now(UTC),
    )
    published = (workspace.releases / name).exists()
    with workspace.catalog.writing() as db:
        _keep(db, release, items, published=published)
    return {"release": name, **tally(items)}


def tally(items: list[ReleaseItem]) -> dict[str, Any]:
    """Counts by split, platform and label, and of what was left out by reason."""
    counts: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    dropped: Counter[str] = Counter()
    for item in items:
        if item.split is None:
            dropped[_reason(item.why)] += 1
            continue
        cell = counts[item.split][item.platform or ""]
        label = Label(item.label or 0).folder
        cell[label] = cell.get(label, 0) + 1
    return {
        "counts": {
            split: {p: dict(sorted(c.items())) for p, c in sorted(v.items())}
            for split, v in sorted(counts.items())
        },
        "dropped": dict(sorted(dropped.items())),
    }


def _reason(why: str) -> str:
    """The reason without the image it names, so that equal reasons are counted together."""
    for head in ("same picture", "undecided", "does not decode", "label-conflict"):
        if why.startswith(head):
            return head
    return why


def _items(
    db: duckdb.DuckDBPyConnection, workspace: Workspace, name: str
) -> tuple[list[ReleaseItem], dict[str, str]]:
    postings: dict[str, list[Posting]] = defaultdict(list)
    for row in select(db, POSTINGS).to_pylist():
        postings[row["digest"]].append(Posting(row["platform"], row["post_id"], row["author"]))
    rows = select(db, CANDIDATES).to_pylist()
    formats = {row["digest"]: row["format"] for row in rows}
    roles = {p: rule.role for p, rule in workspace.policy.platforms.items()}
    related = [(row["a"], row["b"]) for row in select(db, RELATED).to_pylist()]
    kin_of = kin({row["digest"]: row["group_id"] for row in rows}, related)
    placed = assign(_candidates(rows, postings, kin_of), roles, workspace.policy.split)
    items = [_item(name, p, formats[p.candidate.digest], roles) for p in placed]
    return sorted(items, key=lambda i: i.digest), _versions(db)


def _candidates(
    rows: list[dict[str, Any]], postings: dict[str, list[Posting]], kin_of: dict[str, str]
) -> list[Candidate]:
    verdicts: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row["decision"] is not None:
            verdicts[row["group_id"]].add(row["decision"])
    return [
        Candidate(
            digest=row["digest"],
            group_id=row["group_id"],
            label=_label(row, verdicts[row["group_id"]]),
            postings=tuple(postings[row["digest"]]),
            refused=_refused(row, verdicts[row["group_id"]], bool(postings[row["digest"]])),
            fidelity=0 if row["canonical"] else 1,
            kin=kin_of[row["group_id"]],
        )
        for row in rows
    ]


def _label(row: dict[str, Any], of_group: set[int]) -> Label | None:
    """The image's own label, or that of its group: a person saw one rendition of the same picture."""
    if row["decision"] is not None:
        return Label(row["decision"])
    return Label(next(iter(of_group))) if len(of_group) == 1 else None


def _refused(row: dict[str, Any], of_group: set[int], posted: bool) -> str | None:
    if row["error"] is not None:
        return f"does not decode: {row['error']}"
    if not posted:
        return "not posted anywhere we know"
    if row["decision"] is None and not of_group:
        return f"undecided: {row['label_why'] or 'nobody has looked at it'}"
    return None


def _item(name: str, placed: Placed, form: str | None, roles: dict[str, Role]) -> ReleaseItem:
    candidate = placed.candidate
    path = None
    if placed.split is not None and placed.posting is not None and candidate.label is not None:
        ending = EXTENSIONS.get(form or "", (form or "bin").lower())
        where = folder(placed.split, placed.posting.platform, candidate.label)
        path = f"{where}/{candidate.digest[:24]}.{ending}"
    return ReleaseItem(
        name=name,
        digest=candidate.digest,
        split=placed.split.value if placed.split else None,
        platform=placed.posting.platform if placed.posting else None,
        post_id=placed.posting.post_id if placed.posting else None,
        label=None if candidate.label is None else int(candidate.label),
        path=path,
        group_id=candidate.group_id,
        why=placed.why,
    )


def _parameters(workspace: Workspace) -> dict[str, Any]:
    policy = workspace.policy
    platforms = {name: rule.role.value for name, rule in sorted(policy.platforms.items())}
    return {"split": asdict(policy.split), "platforms": platforms}


def _versions(db: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows = select(
        db, "SELECT stage, arg_max(run_id, finished_at) AS run_id FROM run GROUP BY stage"
    ).to_pylist()
    return {row["stage"]: row["run_id"] for row in rows}


def _keep(
    db: duckdb.DuckDBPyConnection, release: Release, items: list[ReleaseItem], *, published: bool
) -> None:
    found = select(db, "SELECT version FROM release WHERE name = $name", name=release.name)
    versions = found["version"].to_pylist()
    if versions == [release.version]:
        return
    if versions and published:
        raise InputError(
            f"release {release.name} is published and stands for another assignment; "
            "give this one a new name, so that what was published stays what it was"
        )
    for table in ("release", "release_item"):
        db.execute(f"DELETE FROM {table} WHERE name = ?", [release.name])  # noqa: S608
    insert(db, "release", [release])
    insert(db, "release_item", items)
