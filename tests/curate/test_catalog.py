"""One DuckDB file: all or nothing, one writer at a time, nobody holds it."""

import multiprocessing
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import duckdb
import pytest

from curate.catalog import Catalog
from curate.migrations import STEPS
from schemas.errors import CatalogError
from schemas.records import TABLES, Fetch, Post


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "catalog.duckdb", patience_s=30)
    made.create()
    return made


def post(number: int) -> Post:
    return Post("reddit", str(number), "s", "author", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_new_catalog_has_every_table_and_no_row(catalog):
    assert catalog.counts() == {table.name: 0 for table in TABLES}


def test_a_row_that_is_already_there_stays_as_it_was(catalog):
    assert catalog.add("post", [post(1), post(2)]) == 2
    changed = Post("reddit", "1", "another", "author", None)

    assert catalog.add("post", [changed, post(3)]) == 1

    rows = catalog.rows("SELECT post_id, source_id FROM post ORDER BY post_id")
    assert [r["source_id"] for r in rows] == ["s", "s", "s"]


def test_replacing_takes_the_old_row_s_place(catalog):
    catalog.add("post", [post(1)])

    catalog.add("post", [Post("reddit", "1", "another", None, None)], replace=True)

    (row,) = catalog.rows("SELECT source_id, author FROM post")
    assert row == {"source_id": "another", "author": None}


def test_an_error_in_a_block_undoes_all_of_it(catalog):
    class Stop(Exception):
        pass

    with pytest.raises(Stop), catalog.writing() as db:
        db.execute("INSERT INTO post (platform, post_id, source_id, hashtags, opted_out) "
                   "VALUES ('x', '1', 's', [], false)")  # fmt: skip
        raise Stop

    assert catalog.counts()["post"] == 0


def test_times_are_utc(catalog):
    catalog.add("post", [post(1)])

    (row,) = catalog.rows("SELECT created_at FROM post")

    assert row["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)


def test_contents_are_equal_whatever_the_order_and_the_clock(tmp_path):
    one, other = (Catalog(tmp_path / f"{n}.duckdb") for n in "ab")
    rows = [Fetch("x", str(n), 0, 1, "d", None, seconds=float(n)) for n in range(5)]
    slower = [Fetch("x", str(n), 0, 1, "d", None, seconds=9.0) for n in reversed(range(5))]
    for made, held in ((one, rows), (other, slower)):
        made.create()
        made.add("fetch", held)

    assert one.content() == other.content()
    other.add("fetch", [Fetch("x", "9", 0, 1, None, "http-404")])
    assert one.content() != other.content()


def test_who_comes_while_another_process_writes_waits(catalog):
    with held_by_another(catalog.path) as commit:
        later = threading.Timer(0.4, commit.set)
        later.start()
        assert catalog.counts()["post"] == 1  # the writer's row: we waited for its commit
        later.join()


@contextmanager
def held_by_another(path):
    """A second process writes, and does not commit before the event is set, or the block left."""
    context = multiprocessing.get_context("spawn")
    ready, commit = context.Event(), context.Event()
    writer = context.Process(target=_hold, args=(path, ready, commit))
    writer.start()
    try:
        assert ready.wait(60)
        yield commit
    finally:
        commit.set()
        writer.join(60)


def _hold(path, ready, commit):
    with Catalog(path).writing() as db:
        db.execute("INSERT INTO post (platform, post_id, source_id, hashtags, opted_out) "
                   "VALUES ('x', '1', 's', [], false)")  # fmt: skip
        ready.set()
        commit.wait(60)


def test_patience_ends_with_one_line(catalog):
    with (
        held_by_another(catalog.path),
        pytest.raises(CatalogError, match="in use by another process"),
    ):
        Catalog(catalog.path, patience_s=0.1).counts()


def test_a_file_that_is_no_catalog_is_told_in_one_line(tmp_path):
    path = tmp_path / "catalog.duckdb"
    path.write_bytes(b"not a database" * 1000)

    with pytest.raises(CatalogError, match="expected a catalog made by `wildrf init`") as caught:
        Catalog(path).counts()

    assert "\n" not in str(caught.value)


def test_a_catalog_of_a_newer_version_is_refused(catalog):
    with catalog.writing() as db:
        db.execute("INSERT INTO migration VALUES (?, 'later')", [len(STEPS) + 1])

    with pytest.raises(CatalogError, match="install a newer wildrf"):
        catalog.create()


def test_an_older_catalog_is_brought_up_to_date_and_keeps_its_rows(tmp_path):
    path = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE TABLE migration (number BIGINT PRIMARY KEY, name VARCHAR)")
        STEPS[0](db)
        db.execute("INSERT INTO migration VALUES (1, 'create_tables')")
        db.execute("INSERT INTO post (platform, post_id, source_id, hashtags, opted_out) "
                   "VALUES ('x', '1', 's', [], false)")  # fmt: skip
    catalog = Catalog(path)

    catalog.upgrade()

    assert catalog.counts()["post"] == 1
    assert catalog.rows("SELECT * FROM current_group") == []
