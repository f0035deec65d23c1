"""The stages one by one: what is done stays done, what changed is done again, nothing else moves."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image as Picture

from curate.simulated import WorldSpec, build_world
from curate.stages.collecting import collect_export
from curate.stages.fetching import fetch_media, note_tags
from curate.stages.grouping import dedupe_catalog
from curate.stages.probing import crashed, probe_store
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.work import Serial
from curate.workspace import create_workspace, open_workspace
from labeling.stage import decide_labels, take_in_all
from pipelines.engines import LocalPool, open_engine
from schemas.errors import InputError, ServiceError
from schemas.records import Annotation, Fetch, Match, Media, Post

RULE = '[[tags]]\nid = "{id}"\ndirection = "{direction}"\nany = ["{tag}"]\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    spec = WorldSpec(seed=2, images=24, min_side=96, max_side=112)
    return build_world(tmp_path_factory.mktemp("world") / "w", spec)


@pytest.fixture
def workspace(tmp_path):
    return create_workspace(tmp_path / "set")


def with_policy(workspace, text):
    """The workspace with a policy that says this and nothing else."""
    (workspace.root / "wildrf.toml").write_text('name = "set"\n' + text)
    return open_workspace(workspace.root)


def picture(seed: int, side: int = 64, quality: int = 90) -> bytes:
    """A smooth picture of its own, as JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(small).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def keep(workspace, contents, hashtags=()):
    """Posts with one picture each, fetched from a mirror folder; the digests in order."""
    host = workspace.root / "host"
    host.mkdir(exist_ok=True)
    for number, content in enumerate(contents):
        (host / f"{number}.jpg").write_bytes(content)
    workspace = with_policy(workspace, f'[fetch]\nmirrors = {{"a.example" = "{host}"}}\n')
    names = [str(n) for n in range(len(contents))]
    workspace.catalog.add(
        "post", [Post("reddit", n, "s", f"by-{n}", None, hashtags=hashtags) for n in names]
    )
    workspace.catalog.add(
        "media", [Media("reddit", n, 0, "s", url=f"https://a.example/{n}.jpg") for n in names]
    )
    fetch_media(workspace)
    rows = workspace.catalog.rows("SELECT digest FROM stored ORDER BY post_id::INT")
    return workspace, [row["digest"] for row in rows]


def vote(digest: str, choice: str, who: str = "p") -> Annotation:
    return Annotation(f"{who}-{digest}", "2026-01-01T00:00:00Z", digest, who, choice)


def test_collecting_twice_changes_nothing(workspace, world):
    first = [collect_export(workspace, path) for path in world.exports]
    content = workspace.catalog.content()

    again = [collect_export(workspace, path) for path in world.exports]

    assert sum(r["new_posts"] for r in first) > 0
    assert sum(r["new_posts"] + r["new_media"] for r in again) == 0
    assert workspace.catalog.content() == content


def test_overlapping_exports_merge_and_a_post_stays_as_first_told(workspace, world):
    dump, _, listing = [p for p in world.exports if "reddit" in p.parts]
    before = collect_export(workspace, dump)
    rows = {r["post_id"]: r for r in workspace.catalog.rows("SELECT * FROM post")}

    after = collect_export(workspace, listing)

    assert before["new_posts"] > 0
    assert after["new_posts"] < after["posts"]
    now = {r["post_id"]: r for r in workspace.catalog.rows("SELECT * FROM post")}
    assert {k: now[k] for k in rows} == rows


def test_an_export_that_moved_is_read_where_it_is_now(workspace, world, tmp_path):
    (path, *_) = [p for p in world.exports if "x" in p.parts]
    moved = tmp_path / "elsewhere.zip"
    moved.write_bytes(path.read_bytes())
    collect_export(workspace, moved)
    moved = moved.rename(tmp_path / "again.zip")

    collect_export(workspace, moved)
    result = fetch_media(with_policy(workspace, "[fetch]\nattempts = 1\n"))

    assert zipfile.is_zipfile(moved)
    assert result["ok"] > 0
    assert "export-missing" not in result["failed"]


def test_only_what_may_pass_is_fetched_again_and_not_for_ever(workspace, tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(0))
    policy = f'[fetch]\nattempts = 2\nmirrors = {{"a.example" = "{tmp_path}"}}\n'
    workspace = with_policy(workspace, policy)
    causes = ["timeout", "http-503", "http-404", "not-an-image", "placeholder", "reset"]
    told = [Fetch("x", c, 0, 1, None, c) for c in causes] + [
        Fetch("x", "reset", 0, 2, None, "reset")
    ]
    workspace.catalog.add("post", [Post("x", c, "s", None, None) for c in causes])
    workspace.catalog.add(
        "media", [Media("x", c, 0, "s", url="https://a.example/a.jpg") for c in causes]
    )
    workspace.catalog.add("fetch", told)

    assert [fetch_media(workspace)["tried"] for _ in range(2)] == [2, 0]

    rows = workspace.catalog.rows("SELECT post_id, attempt FROM stored ORDER BY post_id")
    assert [(r["post_id"], r["attempt"]) for r in rows] == [("http-503", 2), ("timeout", 2)]


def test_what_an_author_took_back_is_not_fetched(workspace):
    workspace.catalog.add("post", [Post("x", "1", "s", None, None, opted_out=True)])
    workspace.catalog.add("media", [Media("x", "1", 0, "s", url="https://a.example/a.jpg")])

    assert fetch_media(workspace)["tried"] == 0


def test_files_that_a_killed_fetch_left_behind_go_once_they_are_old(workspace):
    folder = workspace.root / "media" / ".incoming"
    folder.mkdir(parents=True)
    for name in ("old", "new"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / "old", (0, 0))

    fetch_media(workspace)

    assert [path.name for path in folder.iterdir()] == ["new"]


def test_images_of_an_older_probe_are_examined_again(workspace):
    workspace, digests = keep(workspace, [picture(n) for n in range(3)])
    assert probe_store(workspace)["new"] == 3
    assert probe_store(workspace)["new"] == 0
    content = workspace.catalog.content()
    with workspace.catalog.writing() as db:
        db.execute("UPDATE image SET made_by = 'probe/0', width = 1 WHERE digest = ?", [digests[1]])
        db.execute("UPDATE fingerprint SET bits = 0 WHERE digest = ?", [digests[1]])

    assert probe_store(workspace)["new"] == 1

    assert workspace.catalog.content() == content


def test_bytes_that_changed_in_the_store_are_told_not_examined(workspace):
    workspace, digests = keep(workspace, [picture(0), picture(1)])
    workspace.store.local_path(digests[0]).write_bytes(picture(7))
    workspace.store.local_path(digests[1]).unlink()

    assert probe_store(workspace)["broken"] == 2

    errors = {r["digest"]: r["error"] for r in workspace.catalog.rows("SELECT * FROM image")}
    assert errors[digests[0]] == "damaged in the store"
    assert "not in the store" in errors[digests[1]]


def test_evidence_of_tags_follows_the_rules(workspace):
    workspace, _ = keep(workspace, [picture(0)], hashtags=("Midjourney",))
    query = "SELECT direction, origin FROM evidence WHERE kind = 'tag'"
    workspace = with_policy(workspace, RULE.format(id="a", direction="fake", tag="midjourney"))
    assert note_tags(workspace) == 1
    assert workspace.catalog.rows(query) == [{"direction": "fake", "origin": "reddit/0#a"}]

    workspace = with_policy(workspace, RULE.format(id="a", direction="real", tag="midjourney"))
    note_tags(workspace)
    assert workspace.catalog.rows(query) == [{"direction": "real", "origin": "reddit/0#a"}]

    note_tags(with_policy(workspace, ""))
    assert workspace.catalog.rows(query) == []


def test_deduping_twice_is_the_same_work(workspace):
    workspace, _ = keep(workspace, [picture(0), picture(0, 96), picture(1)])
    probe_store(workspace)

    counts = dedupe_catalog(workspace)
    content = workspace.catalog.content()
    dedupe_catalog(workspace)

    assert (counts["matches"], counts["groups"]) == (1, 1)
    assert workspace.catalog.content() == content


def test_a_reviewer_who_says_different_separates_a_group(workspace):
    workspace, _ = keep(workspace, [picture(0), picture(0, 96)])
    probe_store(workspace)
    dedupe_catalog(workspace)
    (match,) = workspace.catalog.rows("SELECT * FROM match")
    workspace.catalog.add("match", [Match(**{**match, "verdict": "different"})], replace=True)

    counts = dedupe_catalog(workspace)

    assert counts["groups"] == 0
    assert [r["verdict"] for r in workspace.catalog.rows("SELECT verdict FROM match")] == [
        "different"
    ]
    assert len(workspace.catalog.rows("SELECT DISTINCT group_id FROM current_group")) == 2


def test_a_published_release_stays_what_it_was(workspace):
    workspace, digests = keep(workspace, [picture(n) for n in range(6)])
    probe_store(workspace)
    dedupe_catalog(workspace)
    for number, digest in enumerate(digests):
        workspace.catalog.add("annotation", [vote(digest, "Real" if number % 2 else "Fake")])
    decide_labels(workspace)
    split_catalog(workspace, "v1")
    made = release_catalog(workspace, "v1")
    content = workspace.catalog.content()

    assert split_catalog(workspace, "v1")["release"] == "v1"
    assert release_catalog(workspace, "v1") == made
    workspace.catalog.add("annotation", [vote(digests[0], "Real", w) for w in ("q", "r")])
    decide_labels(workspace)
    with pytest.raises(InputError, match="give this one a new name"):
        split_catalog(workspace, "v1")

    now = workspace.catalog.content()
    assert [now[t] for t in ("release", "release_item")] == [
        content[t] for t in ("release", "release_item")
    ]


def test_an_assignment_that_is_not_published_follows_the_labels(workspace):
    workspace, digests = keep(workspace, [picture(n) for n in range(2)])
    probe_store(workspace)
    assert split_catalog(workspace, "v1")["dropped"] == {"undecided": 2}
    workspace.catalog.add("annotation", [vote(digests[0], "Real")])
    decide_labels(workspace)

    assert split_catalog(workspace, "v1")["dropped"] == {"undecided": 1}


def test_labels_are_decided_once_all_exports_are_here(workspace, world):
    tasks = json.loads(world.annotations.read_bytes())
    halves = [(tasks[::2], "one"), (tasks[1::2], "two")]

    result = take_in_all(workspace, halves)

    assert len(workspace.catalog.rows("SELECT DISTINCT version FROM label")) == 1
    assert result["labelled"] == workspace.catalog.counts()["label"]
    content = workspace.catalog.content()
    assert take_in_all(workspace, halves)["new"] == 0
    assert workspace.catalog.content() == content


def square(number: int) -> int:
    return number * number


def deadly(number: int) -> int:
    if number == 21:
        os._exit(3)
    return number


@pytest.mark.timeout(120)
def test_a_pool_gives_what_serial_gives_in_the_same_order():
    with LocalPool(2) as pool:
        assert list(pool.map(square, range(100))) == list(Serial().map(square, range(100)))


@pytest.mark.timeout(120)
def test_an_item_that_kills_its_process_is_lost_alone():
    with LocalPool(2) as pool:
        assert list(pool.map(deadly, range(50), lost=lambda n: -n)) == [
            -n if n == 21 else n for n in range(50)
        ]
        with pytest.raises(ServiceError, match="the process that worked on 21 died"):
            list(pool.map(deadly, range(50)))


class Crashing:
    """An engine whose worker dies with one image."""

    def __init__(self, digest):
        self.digest = digest

    def map(self, work, items, *, lost=None):
        return (lost(i) if i == self.digest else work(i) for i in items)


def test_a_decoder_that_crashes_is_a_row_and_harms_no_other(workspace):
    workspace, digests = keep(workspace, [picture(n) for n in range(3)])

    counts = probe_store(workspace, Crashing(digests[0]))

    assert (counts["decodable"], counts["broken"]) == (2, 1)
    (row,) = workspace.catalog.rows("SELECT digest, error FROM image WHERE error IS NOT NULL")
    assert row == {"digest": digests[0], "error": crashed(digests[0]).image.error}


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # distributed's own, not ours
def test_a_dask_cluster_gives_what_serial_gives():
    pytest.importorskip("distributed", reason="needs the package distributed")
    with open_engine("dask", workers=2) as engine:
        assert list(engine.map(square, range(40))) == [n * n for n in range(40)]
