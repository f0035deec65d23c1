"""Rows of one export meet those of another: nothing is lost, nothing overwritten, nothing told twice."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate import merging
from curate.catalog import Catalog
from curate.merging import add_collected
from schemas.records import TABLES, Media, Post
from schemas.tables import find

POST, MEDIA = find(TABLES, "post"), find(TABLES, "media")
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.create()
    return catalog


def add(catalog, *rows, overlapping=False):
    posts = [row for row in rows if isinstance(row, Post)]
    media = [row for row in rows if isinstance(row, Media)]
    tables = POST.to_arrow(posts), MEDIA.to_arrow(media)
    return add_collected(catalog, *tables, overlapping=overlapping)


def posts(catalog):
    return list(POST.from_arrow(catalog.query("SELECT * FROM post ORDER BY platform, post_id")))


def media(catalog):
    return list(MEDIA.from_arrow(catalog.query('SELECT * FROM media ORDER BY post_id, "position"')))


def test_new_rows_are_counted_and_old_ones_are_not(catalog):
    one, two = Post("x", "1", "a", None, None), Post("x", "2", "a", None, None)

    assert add(catalog, one, Media("x", "1", 0, "a")) == (1, 1)
    assert add(catalog, one, two, Media("x", "1", 0, "a"), Media("x", "2", 0, "a")) == (1, 1)
    assert add(catalog, one, overlapping=True) == (0, 0)
    assert len(posts(catalog)) == 2


def test_a_second_export_fills_what_the_first_left_out_and_overwrites_nothing(catalog):
    first = Post("x", "1", "a", None, None, text="first", hashtags=("a", "b"), score=1)
    second = Post(
        "x", "1", "b", "key", AT, title="t", text="second", hashtags=("b", "c", "d"), score=2
    )

    add(catalog, first)
    add(catalog, second)

    assert posts(catalog) == [
        replace(
            first, author="key", created_at=AT, title="t", hashtags=("a", "b", "c", "d"), score=1
        )
    ]


def test_a_picture_takes_the_places_that_another_export_knows(catalog):
    post = Post("x", "1", "a", None, None)
    first = Media("x", "1", 0, "a", url="u1", fallback_urls=("u2",), claimed_width=5)
    second = Media(
        "x",
        "1",
        0,
        "b",
        url="u2",
        fallback_urls=("u1", "u3"),
        member="m",
        alt="alt",
        claimed_width=6,
    )
    third = Media("x", "1", 0, "c", url="u4", member="other")
    more = Media("x", "1", 1, "b", url="v")

    add(catalog, post, first)
    assert add(catalog, post, second, more) == (0, 1)
    add(catalog, post, third)

    assert media(catalog) == [
        replace(first, source_id="b", member="m", alt="alt", fallback_urls=("u2", "u3", "u4")),
        more,
    ]


def test_a_picture_without_an_address_takes_the_first_it_is_told(catalog):
    post = Post("x", "1", "a", None, None)

    add(catalog, post, Media("x", "1", 0, "a", member="m"))
    add(catalog, post, Media("x", "1", 0, "b", url="u1", fallback_urls=("u2",), member="n"))

    assert media(catalog) == [Media("x", "1", 0, "a", url="u1", fallback_urls=("u2",), member="m")]


@pytest.mark.parametrize("turned", [False, True])
def test_who_opted_out_in_one_export_is_left_out_of_all(catalog, turned):
    told = Post("x", "1", "a", "key", AT, title="t", text="t"), Media("x", "1", 0, "a", alt="alt")
    out = Post("x", "1", "b", None, AT, opted_out=True), Media("x", "1", 0, "b", url="u")
    first, second = (out, told) if turned else (told, out)

    add(catalog, *first)
    add(catalog, *second)

    (post,) = posts(catalog)
    assert (post.opted_out, post.title, post.text, post.author) == (True, None, None, None)
    assert [m.alt for m in media(catalog)] == [None]


values = st.sampled_from([None, "p", "q"])
a_post = st.builds(
    Post,
    platform=st.just("x"),
    post_id=st.sampled_from("123"),
    source_id=st.sampled_from("ab"),
    author=values,
    created_at=st.sampled_from([None, AT]),
    text=values,
    hashtags=st.lists(st.sampled_from("abc"), unique=True, max_size=3).map(tuple),
    opted_out=st.just(False),
)


@given(exports=st.lists(st.lists(a_post, unique_by=lambda p: p.post_id, max_size=3), max_size=4))
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_reading_every_export_again_changes_nothing(tmp_path_factory, exports):
    catalog = Catalog(tmp_path_factory.mktemp("c") / "catalog.duckdb")
    catalog.create()
    expected: dict[str, Post] = {}
    for rows in exports:
        add(catalog, *rows)
        for row in rows:
            old = expected.get(row.post_id, row)
            tags = tuple(dict.fromkeys(old.hashtags + row.hashtags))
            filled = {
                n: getattr(old, n) or getattr(row, n) for n in ("author", "created_at", "text")
            }
            expected[row.post_id] = replace(old, hashtags=tags, **filled)
    assert posts(catalog) == [expected[key] for key in sorted(expected)]
    content = catalog.content()

    for rows in exports:
        assert add(catalog, *rows) == (0, 0)

    assert catalog.content() == content


def test_a_commit_that_needs_more_memory_than_it_was_given_gets_it(catalog, monkeypatch):
    monkeypatch.setattr(merging, "MEMORY", "1MB")
    rows = [Post("x", f"{n:09}", "a", None, None, text=f"{n}" * 60) for n in range(30_000)]

    assert add(catalog, *rows) == (30_000, 0)
