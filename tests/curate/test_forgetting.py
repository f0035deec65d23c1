"""Takedown in a workspace that went through every stage: rows, bytes, releases, pages, runs."""

import io
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from curate.catalog import insert
from curate.stages.forgetting import forget
from curate.stages.grouping import dedupe_catalog
from curate.stages.probing import probe_store
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.tags import tag_evidence
from curate.tombstones import Request, Tombstones, erase, unfinished
from curate.workspace import create_workspace, open_workspace
from labeling.stage import decide_labels
from schemas.records import TABLES, Annotation, Fetch, Group, Media, Post, Score, Task

POLICY = """
name = "set"
platforms = {reddit = {role = "train"}, x = {role = "held-out"}}
tags = [{id = "ai", direction = "fake", any = ["aiart"]}]
split = {val_fraction = 0.3, test_fraction = 0.3}
"""
ANA, BEN = "a" * 24, "b" * 24
ROWS = (
    "image",
    "evidence",
    "fingerprint",
    "thumbnail",
    "task",
    "annotation",
    "label",
    "release_item",
    "score",
)


def picture(seed, side=64):
    """A smooth picture of its own, as JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(small).resize((side, side)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def add(workspace, number, content, platform="reddit", author=BEN, position=0):
    """A post with one picture, brought home and tagged; its digest."""
    digest = workspace.store.put(content)
    key = (platform, str(number))
    row = Post(
        *key, "s", author, None, text=f"waterlily {platform} {number} here", hashtags=("aiart",)
    )
    with workspace.catalog.writing() as db:
        insert(db, "post", [row])
        insert(db, "media", [Media(*key, position, "s")])
        insert(db, "fetch", [Fetch(*key, position, 1, digest, None)])
        insert(db, "evidence", tag_evidence(row, [digest], workspace.policy.tags))
    return digest


def work(workspace):
    """Every stage after fetch, with a person's vote for each picture."""
    probe_store(workspace)
    dedupe_catalog(workspace)
    rows = workspace.catalog.rows("SELECT digest FROM image ORDER BY digest")
    votes = [
        Annotation(f"v-{r['digest']}", "2026-01-01T00:00:00Z", r["digest"], "p", "Fake")
        for r in rows
    ]
    workspace.catalog.add("annotation", votes)
    workspace.catalog.add("task", [Task("http://s 1", r["digest"], n) for n, r in enumerate(rows)])
    workspace.catalog.add("score", [Score("m", r["digest"], 0.5) for r in rows])
    decide_labels(workspace)
    split_catalog(workspace, "v1")
    release_catalog(workspace, "v1")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Eight posts of Reddit, four of X; two near copies, one picture on both platforms."""
    workspace = create_workspace(tmp_path_factory.mktemp("built") / "set")
    (workspace.root / "wildrf.toml").write_text(POLICY)
    workspace = open_workspace(workspace.root)
    for number in range(8):
        add(workspace, number, picture(number), author=ANA if number < 2 else BEN)
    add(workspace, 8, picture(0, 96))
    for number in range(4):
        add(workspace, number, picture(20 + number), "x")
    add(workspace, 9, picture(3), "x")
    work(workspace)
    return workspace.root


@pytest.fixture
def workspace(built, tmp_path):
    shutil.copytree(built, tmp_path / "set")
    return open_workspace(tmp_path / "set")


def of(workspace, platform, post_id):
    [row] = workspace.catalog.rows(
        "SELECT digest FROM stored WHERE platform = $p AND post_id = $i", p=platform, i=str(post_id)
    )
    return row["digest"]


def mentions(workspace, text):
    """Every table and column that holds `text` in any row, tombstones apart."""
    found = set()
    with workspace.catalog.reading() as db:
        for table in TABLES:
            for column in table.columns:
                sql = f'SELECT count(*) FROM "{table.name}" WHERE contains("{column.name}"::VARCHAR, ?)'
                if table.name != "tombstone" and db.execute(sql, [text]).fetchone()[0]:
                    found.add(f"{table.name}.{column.name}")
    return found


def files_with(root, data):
    return [
        str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and data in p.read_bytes()
    ]


def manifest(workspace, name="v1"):
    return pq.read_table(workspace.releases / name / "manifest.parquet").to_pylist()


def test_a_forgotten_post_is_in_no_row_and_no_file_but_a_release_until_that_is_rewritten(workspace):
    digest, content = of(workspace, "reddit", 1), picture(1)
    [path] = [row["path"] for row in manifest(workspace) if row["digest"] == digest]
    assert mentions(workspace, digest) >= {f"{table}.digest" for table in ROWS}

    told = forget(workspace, Request(posts=(("reddit", "1"),)))

    assert (told["posts"], told["media"], told["images"], told["files"]) == (1, 1, 1, 1)
    assert told["releases"] == [{"name": "v1", "paths": [path], "rewritten": False}]
    assert mentions(workspace, digest) == mentions(workspace, "waterlily reddit 1 here") == set()
    assert files_with(workspace.root, content) == [f"releases/v1/{path}"]

    again = forget(workspace, Request(posts=(("reddit", "1"),)), rewrite=True)

    assert again["releases"] == [{"name": "v1", "paths": [path], "rewritten": True}]
    assert (
        files_with(workspace.root, content)
        == files_with(workspace.root, b"waterlily reddit 1 ")
        == []
    )
    assert files_with(workspace.root, digest.encode()) == ["catalog.duckdb"]  # the tombstone
    assert forget(workspace, Request(posts=(("reddit", "1"),)), rewrite=True)["releases"] == []


def test_a_rewritten_release_is_whole_and_only_misses_what_went(workspace):
    gone = of(workspace, "reddit", 1)
    before = {row["digest"]: row["path"] for row in manifest(workspace)}
    forget(workspace, Request(digests=(gone,)), rewrite=True)

    rows = manifest(workspace)

    assert {r["digest"]: r["path"] for r in rows} == {d: p for d, p in before.items() if d != gone}
    folder = workspace.releases / "v1"
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*.jpg")}
    assert on_disk == {row["path"] for row in rows}
    assert [p.name for p in workspace.releases.iterdir()] == ["v1"]
    assert release_catalog(workspace, "v1")["images"] == len(rows)


def test_a_release_of_which_nothing_is_left_goes(workspace):
    posts = workspace.catalog.rows("SELECT platform, post_id FROM post")
    every = tuple((row["platform"], row["post_id"]) for row in posts)

    told = forget(workspace, Request(posts=every), rewrite=True)

    assert told["images"] == 13
    assert list(workspace.releases.iterdir()) == []
    left = {name: n for name, n in workspace.catalog.counts().items() if n}
    assert set(left) == {"run", "tombstone"}
    assert list(workspace.store.digests()) == []


def test_a_picture_that_another_platform_shows_stays_and_leaves_the_release_as_that_of_the_post(
    workspace,
):
    digest = of(workspace, "reddit", 3)
    [item] = [row for row in manifest(workspace) if row["digest"] == digest]

    told = forget(workspace, Request(posts=((item["platform"], item["post_id"]),)), rewrite=True)

    assert told["shown_elsewhere"] == [digest]
    assert told["images"] == 0
    assert workspace.store.has(digest)
    assert digest not in {row["digest"] for row in manifest(workspace)}


def test_near_copies_that_stay_are_told(workspace):
    told = forget(workspace, Request(posts=(("reddit", "0"),)))

    assert told["near_copies"] == [of(workspace, "reddit", 8)]


@pytest.mark.parametrize("by", ["digest", "post", "author"])
def test_no_table_mentions_a_picture_that_named_a_group_and_the_group_stays_one(workspace, by):
    groups = {r["digest"]: r["group_id"] for r in workspace.catalog.rows("FROM current_group")}
    pair = [d for d in groups if list(groups.values()).count(groups[d]) > 1]
    gone = groups[pair[0]]  # the group's name is the digest of the one that goes
    rows = workspace.catalog.rows(
        "SELECT platform, post_id, author FROM stored JOIN post USING (platform, post_id) "
        "WHERE digest = $d", d=gone,
    )  # fmt: skip
    request = {
        "digest": Request(digests=(gone,)),
        "post": Request(posts=tuple((r["platform"], r["post_id"]) for r in rows)),
        "author": Request(authors=tuple({r["author"] for r in rows})),
    }[by]
    assert mentions(workspace, gone[:12]) >= {"group.group_id", "group.why", "thumbnail.digest"}
    splits = "SELECT digest, split FROM release_item WHERE name = 'v1'"
    before = {r["digest"]: r["split"] for r in workspace.catalog.rows(splits)}

    forget(workspace, request, rewrite=True)

    assert mentions(workspace, gone[:12]) == set()
    after = {r["digest"]: r["split"] for r in workspace.catalog.rows(splits)}
    assert all(before[digest] == split for digest, split in after.items())
    names = {r["digest"]: r["group_id"] for r in workspace.catalog.rows("FROM current_group")}
    assert len(set(names.values())) == len(names)
    dedupe_catalog(workspace)
    again = {r["digest"]: r["group_id"] for r in workspace.catalog.rows("FROM current_group")}
    assert again == names


def test_a_group_that_outlives_its_name_takes_one_that_is_free(workspace):
    a, b, c, d = (letter * 64 for letter in "abcd")
    said = [(a, a), (b, a), (c, a), (d, b)]  # b also names the group that d is left in
    workspace.catalog.add("group", [Group("w", who, name, False, "", a) for who, name in said])

    forget(workspace, Request(digests=(a,)))

    rows = workspace.catalog.rows("SELECT * FROM \"group\" WHERE version = 'w' ORDER BY digest")
    assert [(r["digest"], r["group_id"]) for r in rows] == [(b, f"{b}-2"), (c, f"{b}-2"), (d, b)]
    assert mentions(workspace, a) == set()


def test_an_author_is_forgotten_everywhere_and_the_release_is_found_by_it(workspace):
    told = forget(workspace, Request(authors=(ANA,)), rewrite=True)

    assert told["posts"] == 2
    assert ANA not in {row["author"] for row in manifest(workspace)}
    assert mentions(workspace, ANA) == set()


def test_a_dry_run_tells_what_would_go_and_touches_nothing(workspace):
    content = workspace.catalog.content()
    files = {p: p.stat().st_mtime_ns for p in workspace.root.rglob("*") if p.is_file()}
    request = Request(posts=(("reddit", "1"),))

    told = forget(workspace, request, dry_run=True, rewrite=True)

    assert workspace.catalog.content() == content
    assert {p: p.stat().st_mtime_ns for p in workspace.root.rglob("*") if p.is_file()} == files
    done = forget(workspace, request)
    for key in ("posts", "media", "images", "files", "tombstones", "releases", "near_copies"):
        assert told[key] == done[key], key


def test_what_came_back_while_it_was_forgotten_is_taken_out_again(workspace):
    digest = of(workspace, "reddit", 1)
    forget(workspace, Request(posts=(("reddit", "1"),)))
    add(workspace, 1, picture(1))  # a collection that was running, and a fetch
    add(workspace, 50, picture(1))

    told = forget(workspace, Request())

    assert (told["posts"], told["tombstones"]) == (2, 1)
    assert not workspace.store.has(digest)
    assert mentions(workspace, digest) == set()


CHILD = """
import os, signal, sys
from pathlib import Path
from curate.stages.forgetting import forget
from curate.tombstones import Request
from curate.workspace import open_workspace

root, last = sys.argv[1], int(sys.argv[2])
passed = 0

def on_event(event, args):
    global passed
    writes = event == "open" and str(args[1])[:1] in ("w", "x", "a")
    if (writes or event in ("os.rename", "os.remove", "os.mkdir")) and str(args[0]).startswith(root):
        passed += 1
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(on_event)
forget(open_workspace(Path(root)), Request(posts=(("reddit", "1"), ("x", "2"))), rewrite=True)
print(passed)
"""


def forget_in_a_process(root, last):
    """Forget two posts in a process that ends itself at the file it touches as number `last`."""
    command = [sys.executable, "-c", CHILD, str(root), str(last)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.timeout(300)
def test_killed_at_any_point_and_run_again_it_ends_the_same(built, tmp_path):
    shutil.copytree(built, tmp_path / "whole")
    points = int(forget_in_a_process(tmp_path / "whole", 0).stdout)
    whole = open_workspace(tmp_path / "whole")
    assert points > 10

    for last in sorted({1, 2, 3, points // 2, points - 1, points}):
        root = tmp_path / str(last)
        shutil.copytree(built, root)
        assert forget_in_a_process(root, last).returncode == -signal.SIGKILL
        again = open_workspace(root)
        forget(again, Request(posts=(("reddit", "1"), ("x", "2"))), rewrite=True)

        assert again.catalog.content() == whole.catalog.content()
        assert manifest(again) == manifest(whole)
        assert list(again.store.digests()) == list(whole.store.digests())
        assert [p.name for p in again.releases.iterdir()] == ["v1"]
        assert unfinished(again) == []
        assert files_with(root, b"waterlily reddit 1 here") == []
        assert [p.name for p in root.glob("catalog.duckdb*")] == ["catalog.duckdb"]


def test_pages_that_show_it_by_name_go_and_everything_else_that_holds_it_is_told(workspace):
    digest = of(workspace, "reddit", 1)
    root = workspace.root
    (root / "audit-v1.html").write_text(f'<img title="train/{digest[:24]}.jpg">')
    (root / "report.html").write_text('<img src="data:image/webp;base64,AAAA">')
    (root / "plain.html").write_text("<p>nothing</p>")
    (root / "tasks.json").write_text(json.dumps([{"data": {"digest": digest}}]))
    run = workspace.runs / "first"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"data": {"root": str(workspace.releases / "v1")}}))
    kept = [run / ".k.pixels.npy", run / ".k.pixels.node7.12.0a1b2c3d.part"]
    for path in kept:
        path.write_bytes(b"pixels")
    scored = [{"path": "p", "sha256": digest}]
    pq.write_table(pa.Table.from_pylist(scored), run / "scores.parquet")

    told = forget(workspace, Request(posts=(("reddit", "1"),)))

    assert not (root / "audit-v1.html").exists()
    assert not any(path.exists() for path in kept)
    assert (root / "plain.html").exists()
    assert told["files"] == 4
    places = [left["place"] for left in told["remains"]]
    assert places == [
        places[0],
        "releases/v1",
        "report.html",
        "tasks.json",
        "runs/first",
        "runs/first",
    ]
    assert places[0].startswith("http://s 1 task ")


def test_the_next_stages_go_on_with_what_is_left(workspace):
    forget(workspace, Request(posts=(("reddit", "0"),)), rewrite=True)

    assert dedupe_catalog(workspace)["images"] == 12
    decide_labels(workspace)
    counts = split_catalog(workspace, "v2")
    assert release_catalog(workspace, "v2")["images"] > 0
    assert counts["dropped"] == {}


def test_a_release_that_cannot_be_written_again_is_not_lost(workspace):
    kept = of(workspace, "reddit", 5)
    workspace.store.local_path(kept).write_bytes(b"damaged")

    with pytest.raises(Exception, match="corrupt"):
        forget(workspace, Request(posts=(("reddit", "1"),)), rewrite=True)

    assert (workspace.releases / "v1" / "release.json").is_file()
    erase(workspace, Request())
    with workspace.catalog.reading() as db:
        assert Tombstones.load(db, workspace.secret).posts
