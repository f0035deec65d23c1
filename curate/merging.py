"""Adding collected rows where some are there already: what a later export knows fills what was not told.

Nothing that is there is overwritten, so rows come out the same however often an export is read; which export
came first still decides wherever two tell different things.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from curate.catalog import Catalog, insert, insert_new
from schemas.errors import CatalogError

MEMORY = "160MB"
"""What the database may use for one commit, unless that turns out to be too little."""

POST_FACTS = (
    "created_at",
    "community",
    "flair",
    "permalink",
    "score",
    "replies",
    "sensitive",
    "language",
    "repost_of",
)
POST_WORDS = ("author", "title", "text")
"""What is not kept of a post whose author asked to be left out."""
MEDIA_FACTS = ("media_id", "claimed_type", "claimed_width", "claimed_height")

SAME_POST = "t.platform = b.platform AND t.post_id = b.post_id"
SAME_MEDIA = f'{SAME_POST} AND t."position" = b."position"'
NEW_TAGS = "list_filter(b.hashtags, lambda tag: NOT list_contains(t.hashtags, tag))"
NEW_URLS = (
    "list_filter(CASE WHEN b.url IS NULL THEN [] ELSE [b.url] END "
    "|| b.fallback_urls, lambda url: url IS DISTINCT FROM t.url AND NOT list_contains(t.fallback_urls, url))"
)


def add_collected(
    catalog: Catalog, posts: pa.Table, media: pa.Table, *, overlapping: bool
) -> tuple[int, int]:
    """Add posts and their images in one transaction; how many of each were new.

    Nearly all exports hold only new posts, and adding them without asking about each takes half the
    time. `overlapping` says that some are probably there: then each is asked about at once.
    """
    try:
        return _add(catalog, posts, media, overlapping, MEMORY)
    except CatalogError as error:
        if not isinstance(error.__cause__, duckdb.OutOfMemoryException):
            raise
    return _add(catalog, posts, media, overlapping, None)


def _add(
    catalog: Catalog, posts: pa.Table, media: pa.Table, overlapping: bool, memory: str | None
) -> tuple[int, int]:
    if not overlapping:
        try:
            with _writing(catalog, memory) as db:
                return insert_new(db, "post", posts), insert_new(db, "media", media)
        except duckdb.ConstraintException:
            pass  # nothing was added: the whole transaction is undone
    with _writing(catalog, memory) as db:
        new = insert(db, "post", posts), insert(db, "media", media)
        if new[0] < posts.num_rows:
            _merge(db, posts, MERGE_POSTS)
        if new[1] < media.num_rows:
            _merge(db, media, MERGE_MEDIA)
        if new[0] < posts.num_rows or new[1] < media.num_rows:
            _merge(db, posts, HIDE_ALT)
        return new


@contextmanager
def _writing(catalog: Catalog, memory: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with catalog.writing() as db:
        if memory is not None:
            # A batch is one row group, which one thread writes; others would only take memory.
            db.execute(f"SET threads = 1; SET memory_limit = '{memory}'")
        yield db


def _merge(db: duckdb.DuckDBPyConnection, rows: pa.Table, statement: str) -> None:
    db.register("_batch", rows)
    db.execute(statement)
    db.unregister("_batch")


def _missing(names: tuple[str, ...]) -> str:
    return " OR ".join(f"(t.{n} IS NULL AND b.{n} IS NOT NULL)" for n in names)


def _filled(names: tuple[str, ...]) -> str:
    return ", ".join(f"{n} = coalesce(t.{n}, b.{n})" for n in names)


_OUT = "(t.opted_out OR b.opted_out)"

MERGE_POSTS = f"""
    UPDATE post AS t SET {_filled(POST_FACTS)},
        {", ".join(f"{n} = CASE WHEN {_OUT} THEN NULL ELSE coalesce(t.{n}, b.{n}) END" for n in POST_WORDS)},
        hashtags = t.hashtags || {NEW_TAGS}, opted_out = {_OUT}
    FROM _batch AS b WHERE {SAME_POST}
        AND ({_missing(POST_FACTS)} OR (NOT t.opted_out AND (b.opted_out OR {_missing(POST_WORDS)}))
             OR len({NEW_TAGS}) > 0)
"""  # noqa: S608 - made of the names above

_TAKES_MEMBER = "(t.member IS NULL AND b.member IS NOT NULL)"
_ALT = "(t.alt IS NULL AND b.alt IS NOT NULL)"

MERGE_MEDIA = f"""
    UPDATE media AS t SET {_filled(MEDIA_FACTS)},
        alt = coalesce(t.alt, b.alt),
        source_id = CASE WHEN {_TAKES_MEMBER} THEN b.source_id ELSE t.source_id END,
        member = coalesce(t.member, b.member),
        url = coalesce(t.url, b.url),
        fallback_urls = t.fallback_urls
            || list_filter({NEW_URLS}, lambda url: url IS DISTINCT FROM coalesce(t.url, b.url))
    FROM _batch AS b WHERE {SAME_MEDIA}
        AND ({_missing(MEDIA_FACTS)} OR {_ALT} OR {_TAKES_MEMBER} OR len({NEW_URLS}) > 0)
"""  # noqa: S608 - made of the names above

HIDE_ALT = """
    UPDATE media AS t SET alt = NULL FROM _batch AS b, post AS p
    WHERE t.platform = b.platform AND t.post_id = b.post_id AND t.alt IS NOT NULL
        AND p.platform = b.platform AND p.post_id = b.post_id AND p.opted_out
"""
"""No words of an author who asked to be left out, whichever export told of it."""
