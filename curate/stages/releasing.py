"""Release: what the catalog says of a release becomes a folder."""

import json
from collections import Counter
from typing import Any

from curate.release import materialise
from curate.work import Progress
from curate.workspace import Workspace
from schemas.errors import InputError

MANIFEST_ROWS = """
    SELECT r.path, r.digest, r.split, r.platform, r.label, r.group_id, r.why,
           r.post_id, p.author, p.created_at, p.permalink,
           l.posterior, l.votes, l.agreement,
           i.format, i.width, i.height, i.bytes, i.jpeg_family, i.jpeg_quality_luma,
           i.jpeg_quality_chroma, i.jpeg_subsampling, i.jpeg_dqt_hash, h.bits AS phash,
           d.bits AS dhash, i.pixels
    FROM release_item r
    JOIN image i ON i.digest = r.digest
    LEFT JOIN post p ON p.platform = r.platform AND p.post_id = r.post_id
    LEFT JOIN current_label l ON l.digest = r.digest
    LEFT JOIN fingerprint h ON h.digest = r.digest AND h.view = 'phash'
    LEFT JOIN fingerprint d ON d.digest = r.digest AND d.view = 'dhash'
    WHERE r.name = $name AND r.split IS NOT NULL
    ORDER BY r.path
"""


def release_catalog(
    workspace: Workspace, name: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the release `name` to disk; one that is there and equal is left alone.

    Raises:
        InputError: if there is no such release.
    """
    found = workspace.catalog.rows("SELECT * FROM release WHERE name = $name", name=name)
    if not found:
        raise InputError(f"there is no release {name}; make one with `wildrf split {name}`")
    manifest = workspace.catalog.query(MANIFEST_ROWS, name=name)
    facts = {
        "name": name,
        "simulated": workspace.policy.simulated,
        "version": found[0]["version"],
        "protocol": found[0]["protocol"],
        "parameters": json.loads(found[0]["parameters"]),
        "groups": found[0]["groups"],
        "labels": found[0]["labels"],
        "dropped": _dropped(workspace, name),
    }
    place = workspace.releases / name
    place.parent.mkdir(exist_ok=True)
    made = materialise(manifest, workspace.store, place, facts, progress)
    return {
        "path": str(made.path),
        "images": made.images,
        "root_hash": made.root_hash,
        "conflicts": facts["dropped"].get("label-conflict", 0),
    }


def _dropped(workspace: Workspace, name: str) -> dict[str, int]:
    rows = workspace.catalog.rows(
        "SELECT why FROM release_item WHERE name = $name AND split IS NULL", name=name
    )
    return dict(sorted(Counter(row["why"].split(":")[0] for row in rows).items()))
