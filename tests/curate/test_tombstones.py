import subprocess
import sys
from datetime import UTC, datetime

import duckdb
import pytest

from curate.catalog import Catalog, insert
from curate.tombstones import (
    WITHDRAWN,
    Request,
    Tombstones,
    erase,
    finish,
    forgotten,
    post_value,
    unfinished,
    withdraw,
)
from curate.workspace import create_workspace
from schemas.errors import CatalogError
from schemas.records import Evidence, Fetch, Image, Media, Post, Source, Tombstone

SECRET = b"s" * 32
ANA, BEN = "a" * 24, "b" * 24


@pytest.fixture
def workspace(tmp_path):
    return create_workspace(tmp_path / "set")


def fill(workspace, *posts):
    """Posts given as (row, contents): a picture per content, stored and examined."""
    rows = {"post": [], "media": [], "fetch": [], "image": [], "evidence": []}
    for post, contents in posts:
        key = (post.platform, post.post_id)
        rows["post"].append(post)
        for position, content in enumerate(contents):
            digest = workspace.store.put(content)
            origin = f"{post.platform}/{post.post_id}#ai"
            rows["media"].append(Media(*key, position, "s"))
            rows["fetch"].append(Fetch(*key, position, 1, digest, None))
            rows["image"].append(Image(digest, "probe", 3, None))
            rows["evidence"].append(
                Evidence(digest, "tag", origin, "fake", 0.5, "hashtag: ai", "t")
            )
    with workspace.catalog.writing() as db:
        insert(db, "source", [Source("s", "x/1", "x", "f", "a.zip", 1, 1, 1, "{}", True)])
        for table, held in rows.items():
            insert(db, table, held)


def post(post_id, author=None, text=None, repost_of=None, platform="x"):
    return Post(platform, post_id, "s", author, None, text=text, repost_of=repost_of)


def ids(workspace):
    rows = workspace.catalog.rows("SELECT post_id FROM post ORDER BY post_id")
    return [row["post_id"] for row in rows]


def stored(workspace):
    return set(workspace.store.digests())


def traces(workspace, text):
    """The files of the catalog that hold `text`."""
    found = workspace.root.glob("catalog.duckdb*")
    return [path.name for path in found if text.encode() in path.read_bytes()]


# ---------------------------------------------------------------- what is refused


def test_nothing_is_refused_where_nothing_was_taken_out(workspace):
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, SECRET)

    assert not stones.refuses("x", "1", ANA, "x/2")
    assert not stones.holds_digest("d")


def test_a_post_its_author_its_reposts_and_its_picture_are_refused():
    stones = Tombstones.of(
        SECRET, [("post", post_value(SECRET, "x", "1")), ("author", ANA), ("digest", "d")]
    )

    assert stones.refuses("x", "1", None)
    assert stones.refuses("x", "2", ANA)
    assert stones.refuses("x", "3", BEN, "x/1")
    assert stones.holds_digest("d")
    assert not stones.refuses("reddit", "1", BEN, "reddit/1")
    assert not stones.refuses("x", "2", None)


def test_a_tombstone_of_a_post_tells_nobody_without_the_secret_which_it_was():
    values = {post_value(s, p, i) for s in (b"a", b"b") for p in ("x", "y") for i in ("1", "2")}

    assert len(values) == 8
    assert all(len(value) == 32 and int(value, 16) >= 0 for value in values)
    # openssl: printf 'post\000x\0001' | openssl dgst -sha256 -hmac a
    assert post_value(b"a", "x", "1") == "e3ab338696ca228a801352a3e2de28cf"


# ---------------------------------------------------------------- taking out


def test_a_post_goes_with_everything_that_only_it_showed(workspace):
    fill(
        workspace, (post("1", ANA, "waterlily"), [b"one"]), (post("2", BEN, "dragonfly"), [b"two"])
    )

    gone = erase(workspace, Request(posts=(("x", "1"),)))
    finish(workspace)

    assert (gone.posts, gone.media, gone.images, gone.tombstones) == (1, 1, 1, 2)
    assert gone.sources == ("a.zip",)
    assert stored(workspace) == {r["digest"] for r in workspace.catalog.rows("SELECT * FROM image")}
    counts = workspace.catalog.counts()
    assert [counts[t] for t in ("post", "media", "fetch", "image", "evidence")] == [1] * 5
    assert unfinished(workspace) == []


def test_a_text_that_was_taken_out_is_in_no_byte_of_the_catalog(workspace):
    crowd = [(post(str(n), BEN, f"crowd member {n} here"), [b"two"]) for n in range(100, 300)]
    fill(workspace, (post("1", ANA, "waterlily one"), [b"one"]), *crowd)
    assert traces(workspace, "waterlily") == ["catalog.duckdb"]

    erase(workspace, Request(posts=(("x", "1"), ("x", "150"))))
    assert traces(
        workspace, "waterlily"
    )  # DuckDB keeps deleted rows, which is why `finish` is needed
    finish(workspace)

    assert traces(workspace, "waterlily") == traces(workspace, "member 150 ") == []
    assert traces(workspace, "member 151 ") == ["catalog.duckdb"]
    assert [p.name for p in workspace.root.glob("catalog.duckdb*")] == ["catalog.duckdb"]


def test_a_picture_that_others_show_stays_and_is_told(workspace):
    fill(workspace, (post("1", ANA), [b"one", b"two"]), (post("2", BEN), [b"two"]))

    gone = erase(workspace, Request(posts=(("x", "1"),)))
    finish(workspace)

    assert (gone.images, len(gone.shown_elsewhere)) == (1, 1)
    assert stored(workspace) == set(gone.shown_elsewhere)
    [tag] = workspace.catalog.rows("SELECT origin FROM evidence")
    assert tag == {"origin": "x/2#ai"}


def test_reposts_go_with_the_post_they_show(workspace):
    fill(
        workspace,
        (post("1", ANA), [b"one"]),
        (post("2", BEN, repost_of="x/1"), [b"one"]),
        (post("3", BEN, repost_of="x/2"), [b"one"]),
        (post("4", BEN, repost_of="reddit/1"), [b"four"]),
    )

    gone = erase(workspace, Request(posts=(("x", "1"),)))

    assert (gone.posts, gone.images, gone.shown_elsewhere) == (3, 1, ())
    assert ids(workspace) == ["4"]


def test_an_author_goes_with_all_posts_and_is_refused_later(workspace):
    fill(workspace, (post("1", ANA), [b"one"]), (post("2", BEN), [b"two"]))

    erase(workspace, Request(authors=(ANA,)))

    assert ids(workspace) == ["2"]
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
    assert stones.refuses("x", "9", ANA)
    assert stones.refuses("x", "9", BEN, "x/1")
    assert not stones.refuses("x", "9", BEN)


def test_a_picture_goes_from_every_post_and_posts_that_are_left_without_one_go_too(workspace):
    fill(workspace, (post("1", ANA), [b"one", b"two"]), (post("2", BEN), [b"one"]))
    digest = workspace.store.put(b"one")

    gone = erase(workspace, Request(digests=(digest,)))
    finish(workspace)

    assert (gone.posts, gone.media, gone.images) == (1, 2, 1)
    assert ids(workspace) == ["1"]
    assert not workspace.store.has(digest)
    assert forgotten(workspace) == [digest]


def test_a_dry_run_tells_the_same_and_touches_nothing(workspace):
    fill(workspace, (post("1", ANA), [b"one"]), (post("2", BEN, repost_of="x/1"), [b"one"]))
    content = workspace.catalog.content()
    request = Request(posts=(("x", "1"),))

    told = erase(workspace, request, dry_run=True)

    assert workspace.catalog.content() == content
    done = erase(workspace, request)
    assert (
        (told.posts, told.media, told.images) == (done.posts, done.media, done.images) == (2, 2, 1)
    )
    assert (told.tombstones, told.digests) == (done.tombstones, done.digests)


def test_doing_it_twice_changes_nothing_more(workspace):
    fill(workspace, (post("1", ANA), [b"one"]), (post("2", BEN), [b"two"]))
    request = Request(posts=(("x", "1"),), authors=(ANA,))
    erase(workspace, request)
    finish(workspace)
    content, written = workspace.catalog.content(), workspace.catalog.path.stat().st_ino

    again = erase(workspace, request)

    assert finish(workspace) == 0
    assert (again.posts, again.images, again.tombstones) == (0, 0, 0)
    assert workspace.catalog.content() == content
    assert workspace.catalog.path.stat().st_ino == written  # nothing to write anew for


@pytest.mark.parametrize("done", ["rows", "bytes"])
def test_what_a_kill_left_undone_is_finished_later(workspace, done):
    fill(workspace, (post("1", ANA, "waterlily"), [b"one"]), (post("2", BEN), [b"two"]))
    [digest] = erase(workspace, Request(posts=(("x", "1"),))).digests
    if done == "bytes":
        workspace.store.filesystem.delete_file(workspace.store.path(digest))

    assert finish(workspace) == (done == "rows")

    assert not workspace.store.has(digest)
    assert traces(workspace, "waterlily") == []
    assert unfinished(workspace) == []


# ---------------------------------------------------------------- withdrawn by the platform


def test_posts_that_their_platform_took_away_are_forgotten_and_refused(workspace):
    fill(workspace, (post("1", ANA, "waterlily"), [b"one"]), (post("2", BEN), [b"two"]))

    assert withdraw(workspace, "x", ["1", "77", "1"]) == 1

    assert ids(workspace) == ["2"]
    assert len(stored(workspace)) == 1
    assert traces(workspace, "waterlily") == []
    with workspace.catalog.reading() as db:
        stones = Tombstones.load(db, workspace.secret)
    assert stones.refuses("x", "1", None)
    assert stones.refuses("x", "77", None)  # known later, it must not come in by an older export
    reasons = workspace.catalog.rows("SELECT DISTINCT kind, reason FROM tombstone")
    assert reasons == [{"kind": "post", "reason": WITHDRAWN}]


def test_a_picture_of_a_withdrawn_post_may_be_posted_again(workspace):
    fill(workspace, (post("1", ANA), [b"one"]))
    withdraw(workspace, "x", ["1"])

    with workspace.catalog.reading() as db:
        assert not Tombstones.load(db, workspace.secret).media
    fill(workspace, (post("2", ANA), [b"one"]))
    withdraw(workspace, "x", ["1"])

    assert len(stored(workspace)) == 1


def test_withdrawing_nothing_does_nothing(workspace):
    content = workspace.catalog.content()

    assert withdraw(workspace, "x", []) == 0

    assert workspace.catalog.content() == content


# ---------------------------------------------------------------- the file


def test_a_catalog_that_is_written_anew_holds_the_same_rows_tables_and_views(workspace):
    fill(workspace, (post("1", ANA), [b"one"]))
    workspace.catalog.add("tombstone", [Tombstone("post", "v", "r", datetime.now(UTC))])
    ask = (
        "SELECT table_name, constraint_text FROM duckdb_constraints() ORDER BY ALL",
        "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
        "SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY ALL",
    )
    before = [workspace.catalog.rows(sql) for sql in ask], workspace.catalog.content()
    mode = workspace.catalog.path.stat().st_mode

    workspace.catalog.compact()

    assert ([workspace.catalog.rows(sql) for sql in ask], workspace.catalog.content()) == before
    assert workspace.catalog.path.stat().st_mode == mode
    with pytest.raises(duckdb.ConstraintException), workspace.catalog.writing() as db:
        db.execute("INSERT INTO post SELECT * FROM post")


def test_a_catalog_that_another_process_holds_is_not_written_anew(workspace):
    code = (
        "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(workspace.catalog.path)]
    inode = workspace.catalog.path.stat().st_ino
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CatalogError, match="in use by another process"):
            Catalog(workspace.catalog.path, patience_s=0.2).compact()
        other.stdin.close()

    assert workspace.catalog.path.stat().st_ino == inode
