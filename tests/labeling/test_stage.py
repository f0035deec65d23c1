"""Votes on their way into the catalog."""

import pytest

from curate.workspace import create_workspace
from labeling.stage import take_in
from schemas.records import Tombstone

FORGOTTEN, KEPT = "ab" * 32, "cd" * 32


@pytest.fixture
def workspace(tmp_path):
    made = create_workspace(tmp_path / "w")
    made.catalog.add("tombstone", [Tombstone("digest", FORGOTTEN, "asked for")])
    return made


def task(digest, number):
    choice = {"from_name": "verdict", "to_name": "image", "type": "choices"}
    entry = {
        "id": number,
        "unique_id": f"5e3f5af4-0000-4000-8000-{number:012}",
        "completed_by": 3,
        "result": [{**choice, "value": {"choices": ["Real"]}}],
        "was_cancelled": False,
        "created_at": "2026-11-20T12:44:56Z",
        "updated_at": "2026-11-20T12:44:57Z",
    }
    return {"id": number, "data": {"sha256": digest}, "annotations": [entry], "predictions": []}


def test_a_vote_on_a_picture_that_was_taken_out_for_good_is_refused_and_counted(workspace):
    told = take_in(workspace, [task(FORGOTTEN, 1), task(KEPT, 2)], "p")

    assert told["refused"] == {"forgotten": 1}
    assert told["annotations"] == told["new"] == 1
    rows = workspace.catalog.rows("SELECT digest FROM annotation")
    assert rows == [{"digest": KEPT}]
