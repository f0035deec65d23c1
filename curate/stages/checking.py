"""What a release in the catalog looks like to the checks: the same rows that a folder gives."""

from typing import Any

from curate.catalog import select
from curate.survey import Surveyed
from curate.workspace import Workspace
from schemas.errors import InputError
from schemas.labels import Label, Split
from schemas.layout import Placement
from schemas.records import Image

ITEMS = """
    SELECT r.path, r.split, r.platform, r.label, r.group_id, i AS image,
           p.bits AS phash, d.bits AS dhash, o.author, r.post_id
    FROM release_item r
    JOIN image i ON i.digest = r.digest
    LEFT JOIN post o ON o.platform = r.platform AND o.post_id = r.post_id
    LEFT JOIN fingerprint p ON p.digest = r.digest AND p.view = 'phash'
    LEFT JOIN fingerprint d ON d.digest = r.digest AND d.view = 'dhash'
    WHERE r.name = $name AND r.split IS NOT NULL
    ORDER BY r.path
"""


def survey_release(workspace: Workspace, name: str) -> list[Surveyed]:
    """The items of release `name`, in the order of their paths.

    Raises:
        InputError: if there is no such release, or nothing is in it.
    """
    with workspace.catalog.reading() as db:
        rows = select(db, ITEMS, name=name).to_pylist()
    if not rows:
        raise InputError(
            f"there is no release {name} with images in it; make one with `wildrf split {name}`"
        )
    return [_surveyed(row) for row in rows]


def _surveyed(row: dict[str, Any]) -> Surveyed:
    image = row["image"]
    platform = row["platform"] or ""
    return Surveyed(
        path=row["path"],
        placement=Placement(Split(row["split"]), platform, Label(row["label"])),
        image=Image(**{**image, "png_text_keys": tuple(image["png_text_keys"])}),
        phash=row["phash"],
        dhash=row["dhash"],
        group=row["group_id"],
        author=row["author"],
        post=f"{platform}/{row['post_id']}",
    )
