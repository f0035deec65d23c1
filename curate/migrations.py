"""Numbered changes that bring any older catalog up to date. Steps are only ever appended.

Step 1 makes the tables as `schemas.records` defines them today on an empty catalog; later steps alter what
older catalogs hold, and each must do nothing where its change is already there.
"""

from collections.abc import Callable, Iterable

import duckdb

from schemas.errors import CatalogError
from schemas.records import TABLES
from schemas.tables import find

Step = Callable[[duckdb.DuckDBPyConnection], None]


def create_tables(db: duckdb.DuckDBPyConnection) -> None:
    """Every table of `schemas.records`."""
    for table in TABLES:
        db.execute(table.ddl)


VERSIONED = {"group": "dedupe", "kinship": "dedupe", "label": "label"}
"""Tables of which every version is kept, and the stage whose newest run says which one is current."""


def create_views(db: duckdb.DuckDBPyConnection) -> None:
    """``stored``, every media item whose bytes are here; ``current_<table>`` of each versioned table."""
    db.execute('CREATE OR REPLACE VIEW stored AS SELECT * FROM "fetch" WHERE digest IS NOT NULL')
    for table, stage in VERSIONED.items():
        db.execute(find(TABLES, table).ddl.replace("TABLE", "TABLE IF NOT EXISTS", 1))
        db.execute(
            f'CREATE OR REPLACE VIEW current_{table} AS SELECT * FROM "{table}" WHERE version = ('  # noqa: S608
            f"SELECT run_id FROM run WHERE starts_with(stage, '{stage}/') "
            "ORDER BY finished_at DESC LIMIT 1)"
        )


def tell_completeness(db: duckdb.DuckDBPyConnection) -> None:
    """What an export lacked, how many places were tried, and what was taken out for good."""
    add_columns(db, "source", ("gone", "gaps", "first_at", "last_at"))
    db.execute("UPDATE source SET gone = coalesce(gone, 0), gaps = coalesce(gaps, [])")
    add_columns(db, "fetch", ("places",))
    db.execute(find(TABLES, "tombstone").ddl.replace("TABLE", "TABLE IF NOT EXISTS", 1))
    create_views(db)  # a view of every column is bound to those its table had


CONFLICTS = """
    CREATE OR REPLACE VIEW evidence_conflict AS
    SELECT digest,
           list(claim ORDER BY strength DESC, claim) FILTER (direction = 'real') AS "real",
           max(strength) FILTER (direction = 'real') AS real_strength,
           list(claim ORDER BY strength DESC, claim) FILTER (direction = 'fake') AS "fake",
           max(strength) FILTER (direction = 'fake') AS fake_strength
    FROM (SELECT *, kind || ' ' || origin || ': ' || detail AS claim FROM evidence
          WHERE direction <> 'neither' AND strength > 0)
    GROUP BY digest HAVING count(DISTINCT direction) = 2
"""


def tell_conflicts(db: duckdb.DuckDBPyConnection) -> None:
    """``evidence_conflict``: the images whose evidence speaks for both labels, strongest claims first."""
    db.execute(CONFLICTS)


def tell_coding_and_pixels(db: duckdb.DuckDBPyConnection) -> None:
    """How each image is coded, whether it is whole, and what its pixels tell of earlier codings."""
    names = (
        "jpeg_scale_luma", "jpeg_scale_chroma", "jpeg_double", "thumbnail_dqt_hash", "compression",
        "lossless", "webp_quantiser", "animated", "truncated", "trailing_bytes", "grid", "grid_x", "grid_y",
        "upscale", "blur", "noise", "information",
    )  # fmt: skip
    add_columns(db, "image", names)


def tell_kinship(db: duckdb.DuckDBPyConnection) -> None:
    """What matches and is kept apart, where groups come from, and which votes say edited."""
    add_columns(db, "group", ("formerly",))
    add_columns(db, "label", ("edited",))
    create_views(db)  # makes kinship, too


def add_columns(db: duckdb.DuckDBPyConnection, table: str, names: Iterable[str]) -> None:
    """Columns of a table that older catalogs lack; they are empty in older rows."""
    for column in find(TABLES, table).columns:
        if column.name in names:
            db.execute(
                f'ALTER TABLE "{table}" ADD COLUMN IF NOT EXISTS "{column.name}" {column.kind.duckdb}'
            )


def keep_thumbnails(db: duckdb.DuckDBPyConnection) -> None:
    """What duplicates are found by; the next probe fills it, because its version is new."""
    db.execute(find(TABLES, "thumbnail").ddl.replace("TABLE", "TABLE IF NOT EXISTS", 1))


STEPS: tuple[Step, ...] = (
    create_tables,
    create_views,
    tell_completeness,
    tell_conflicts,
    tell_coding_and_pixels,
    keep_thumbnails,
    tell_kinship,
)


def is_current(db: duckdb.DuckDBPyConnection) -> bool:
    """Whether every step has been run on this catalog, and none that we do not know."""
    found = db.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_name = 'migration'"
    ).fetchall()[0][0]
    return bool(found) and _done(db) == len(STEPS)


def _done(db: duckdb.DuckDBPyConnection) -> int:
    return int(db.execute("SELECT coalesce(max(number), 0) FROM migration").fetchall()[0][0])


def migrate(db: duckdb.DuckDBPyConnection) -> list[str]:
    """Run the steps this catalog has not seen; their names, in order.

    Raises:
        CatalogError: if the catalog was made by a newer version than this one.
    """
    db.execute("CREATE TABLE IF NOT EXISTS migration (number BIGINT PRIMARY KEY, name VARCHAR)")
    done = _done(db)
    if done > len(STEPS):
        raise CatalogError(
            f"this catalog is at version {done}, this program knows {len(STEPS)}; install a newer wildrf"
        )
    for number, step in enumerate(STEPS[done:], start=done + 1):
        step(db)
        db.execute("INSERT INTO migration VALUES (?, ?)", [number, step.__name__])
    return [step.__name__ for step in STEPS[done:]]
