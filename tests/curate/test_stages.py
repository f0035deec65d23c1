"""The stages one by one: what is done stays done, what changed is done again, nothing else moves."""

import io
import json
import os
import re
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Picture

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.simulated import WorldSpec, build_world
from curate.stages import collecting
from curate.stages.collecting import collect_export
from curate.stages.fetching import fetch_media, note_tags
from curate.stages.grouping import dedupe_catalog
from curate.stages.probing import probe_store
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.work import CRASHED, Serial, Silent
from curate.workspace import create_workspace, open_workspace
from labeling.stage import decide_labels, take_in_all
from pipelines.engines import LocalPool, open_engine
from schemas.errors import ExportError, InputError, ServiceError
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


def a_dump(path, ids, **facts):
    """A Reddit dump of one picture per id, a minute apart."""
    lines = [
        {
            "id": i,
            "title": f"post {i}",
            "subreddit": "pics",
            "created_utc": 1_767_225_600 + 60 * n,
            "url": f"https://i.redd.it/{i}.jpg",
            **facts,
        }
        for n, i in enumerate(ids)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_post_of_two_exports_is_one_and_knows_what_either_told(workspace, tmp_path):
    first = a_dump(tmp_path / "RS_1.jsonl", ["a", "b"])
    second = a_dump(tmp_path / "RS_2.jsonl", ["b", "c"], author="made_up_9", score=5, title="x")

    collect_export(workspace, first)
    counts = collect_export(workspace, second)

    assert (counts["posts"], counts["new_posts"], counts["new_media"]) == (2, 1, 1)
    rows = workspace.catalog.rows(
        "SELECT title, score, author IS NULL AS alone FROM post ORDER BY post_id"
    )
    assert [r["title"] for r in rows] == ["post a", "post b", "x"]
    assert [r["score"] for r in rows] == [None, 5, 5]
    assert [r["alone"] for r in rows] == [True, False, False]


def test_a_collection_that_was_killed_ends_as_one_that_was_not(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "BATCH_SIZE", 7)
    ids = [f"p{n % 50}" for n in range(60)]
    before, dump = (
        a_dump(tmp_path / "RS_0.jsonl", ids[20:40:2], score=1),
        a_dump(tmp_path / "RS_1.jsonl", ids),
    )
    whole = create_workspace(tmp_path / "whole")
    (whole.root / "secret.key").write_text((workspace.root / "secret.key").read_text())
    whole = open_workspace(whole.root)
    for each in (whole, workspace):
        collect_export(each, before)
    expected = collect_export(whole, dump)

    for commits in (1, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            collect_export(workspace, dump, progress=Dying(commits))
    counts = collect_export(workspace, dump)

    assert workspace.catalog.content() == whole.catalog.content()
    assert (counts["posts"], counts["skipped"]) == (50, {"duplicate": 10})
    assert counts["posts"] == expected["posts"]


class Dying(Silent):
    """Progress that ends the run after some commits."""

    def __init__(self, commits):
        self.left = commits

    def advance(self, items):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_post_that_its_platform_took_away_is_forgotten_and_does_not_come_back(
    workspace, tmp_path, monkeypatch
):
    dump = a_dump(tmp_path / "RS_1.jsonl", ["a", "b", "c"])
    collect_export(workspace, dump)
    told = SimpleNamespace(
        PLATFORM="reddit",
        VERSION=99,
        FORMATS=(Format("deletes", "", ""),),
        recognise=lambda export: "deletes",
        read=lambda *_: iter([Raw("1", "b"), Raw("2", "unknown")]),
        parse=lambda record, _: (Skip("deleted", withdrawn=record),),
    )
    monkeypatch.setattr(collecting, "installed", lambda: {"reddit": told})
    (tmp_path / "deletes.jsonl").write_text("{}")

    counts = collect_export(workspace, tmp_path / "deletes.jsonl")
    monkeypatch.undo()
    again = collect_export(workspace, a_dump(tmp_path / "RS_2.jsonl", ["b", "c", "unknown", "d"]))

    assert (counts["gone"], counts["complete"]) == (2, True)
    posts = [
        r["post_id"] for r in workspace.catalog.rows("SELECT post_id FROM post ORDER BY post_id")
    ]
    assert posts == ["a", "c", "d"]
    assert again["skipped"] == {"forgotten": 2}
    details = workspace.catalog.rows("SELECT complete, detail FROM source")
    assert {(r["complete"], r["detail"]) for r in details} == {(True, None)}


def test_an_export_of_two_platforms_is_collected_as_both(workspace, tmp_path, monkeypatch):
    def collector(name):
        media = (FoundMedia(0, url="https://a.example/1.jpg"),)
        return SimpleNamespace(
            PLATFORM=name,
            VERSION=1,
            FORMATS=(Format("both", "", ""),),
            recognise=lambda export: "both",
            read=lambda *_: iter([Raw("1", {})]),
            parse=lambda record, _: (Found(FoundPost("1", None, (), None), media),),
        )

    both = {name: collector(name) for name in ("instagram", "threads")}
    monkeypatch.setattr(collecting, "installed", lambda: both)
    (tmp_path / "a.json").write_text("{}")

    counts = collect_export(workspace, tmp_path / "a.json")

    assert (counts["posts"], counts["platform"]) == (2, ["instagram", "threads"])
    assert [part["platform"] for part in counts["parts"]] == ["instagram", "threads"]
    assert workspace.catalog.counts()["source"] == 2
    assert collect_export(workspace, tmp_path / "a.json")["new_posts"] == 0


def test_every_collection_says_when_its_posts_were_made_and_what_is_missing(workspace, tmp_path):
    path = a_dump(tmp_path / "RS_1.jsonl", [f"p{n}" for n in range(100)])
    late = json.loads(path.read_text().splitlines()[-1])
    more = [
        {**late, "id": f"q{n}", "created_utc": late["created_utc"] + 86_400 + n} for n in range(100)
    ]
    gone = [{**late, "id": f"r{n}", "removed_by_category": "moderator"} for n in range(3)]
    path.write_text("\n".join([path.read_text(), *map(json.dumps, more + gone)]))

    counts = collect_export(workspace, path)

    assert counts["first_at"] == "2026-01-01T00:00:00Z"
    assert counts["last_at"] == "2026-01-02T01:40:39Z"
    assert counts["gaps"] == ["2026-01-01T02:00:00Z/2026-01-02T01:00:00Z"]
    assert counts["gone"] == 3
    (row,) = workspace.catalog.rows("SELECT gone, gaps FROM source")
    assert (row["gone"], row["gaps"]) == (3, counts["gaps"])
    assert collect_export(workspace, path) == {**counts, "new_posts": 0, "new_media": 0}


def test_pictures_without_their_posts_are_refused_with_a_hint(workspace, tmp_path):
    with zipfile.ZipFile(tmp_path / "media.zip", "w") as archive:
        archive.writestr("media/a.jpg", b"\xff\xd8")
        archive.writestr("media/b.mp4", b"")
        archive.writestr("readme.txt", b"")

    with pytest.raises(ExportError, match=r"--parts A\.zip B\.zip"):
        collect_export(workspace, tmp_path / "media.zip")


def test_parts_of_one_export_are_collected_as_one(workspace, world, tmp_path):
    (path, *_) = [p for p in world.exports if "x" in p.parts]
    one, two = tmp_path / "1.zip", tmp_path / "2.zip"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(one, "w") as a,
        zipfile.ZipFile(two, "w") as b,
    ):
        for name in source.namelist():
            (b if "media/" in name else a).writestr(name, source.read(name))

    counts = collect_export(workspace, one, more=[two])
    turned = collect_export(workspace, two, more=[one])
    result = fetch_media(with_policy(workspace, "[fetch]\nattempts = 1\n"))

    assert counts["new_posts"] > 0
    assert (turned["source"], turned["new_posts"]) == (counts["source"], 0)
    assert result["ok"] > 0
    assert "export-missing" not in result["failed"]


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
        assert list(pool.map(deadly, range(50), lost=lambda n, _: -n)) == [
            -n if n == 21 else n for n in range(50)
        ]
        with pytest.raises(ServiceError, match="the process that worked on 21 died"):
            list(pool.map(deadly, range(50)))


class Crashing:
    """An engine whose worker dies with one image."""

    def __init__(self, digest):
        self.digest = digest

    def map(self, work, items, *, lost=None, seconds=None):
        return (lost(i, CRASHED) if i == self.digest else work(i) for i in items)


def test_a_decoder_that_crashes_is_a_row_and_harms_no_other(workspace):
    workspace, digests = keep(workspace, [picture(n) for n in range(3)])

    counts = probe_store(workspace, Crashing(digests[0]))

    assert (counts["decodable"], counts["broken"]) == (2, 1)
    (row,) = workspace.catalog.rows("SELECT digest, error FROM image WHERE error IS NOT NULL")
    assert row == {"digest": digests[0], "error": CRASHED}


def hanging(n):
    if n == 21:
        re.match(r"(a+)+$", "a" * 64 + "b")  # for years, and holds the interpreter's lock
    return n


@pytest.mark.timeout(120)
def test_an_item_that_hangs_is_lost_alone_and_told_as_that():
    with LocalPool(2) as pool:
        assert list(pool.map(hanging, range(50), lost=lambda n, why: (n, why), seconds=1)) == [
            (n, "took longer than 1 s") if n == 21 else n for n in range(50)
        ]
        assert list(pool.map(deadly, range(50), lost=lambda n, why: (n, why), seconds=1)) == [
            (n, CRASHED) if n == 21 else n for n in range(50)
        ]


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # distributed's own, not ours
def test_a_dask_cluster_gives_what_serial_gives():
    pytest.importorskip("distributed", reason="needs the package distributed")
    with open_engine("dask", workers=2) as engine:
        assert list(engine.map(square, range(40))) == [n * n for n in range(40)]


def faulty(n):
    if n == 3:
        os._exit(3)
    return hanging(n)


def told(n, why):
    return n, why


@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore")  # distributed's own, not ours
def test_on_a_dask_cluster_what_kills_and_what_hangs_is_lost_alone_and_told_as_that():
    pytest.importorskip("distributed", reason="needs the package distributed")
    with open_engine("dask", workers=2) as engine:
        assert list(engine.map(faulty, range(40), lost=told, seconds=2)) == [
            {3: (3, CRASHED), 21: (21, "took longer than 2 s")}.get(n, n) for n in range(40)
        ]
        with pytest.raises(ServiceError, match="the process that worked on 3 died"):
            list(engine.map(faulty, range(10)))


@pytest.mark.timeout(120)
def test_a_few_items_are_kept_from_harm_as_many_are():
    with LocalPool(2) as pool:
        assert list(pool.map(deadly, [20, 21, 22], lost=told, seconds=2)) == [20, (21, CRASHED), 22]
        assert list(pool.map(hanging, [21], lost=told, seconds=1)) == [(21, "took longer than 1 s")]
