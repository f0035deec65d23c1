"""The catalog: one DuckDB file that holds every row, and all access to it.

DuckDB lets one process write at a time, so nobody keeps the file open: `reading` and `writing` open it,
do one thing and close it; whoever finds it taken waits. A `writing` block is one transaction: all of its
rows arrive, or none, also when the process is killed.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from curate.migrations import is_current, migrate
from schemas.errors import CatalogError
from schemas.records import TABLES
from schemas.tables import Table, find

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long to wait for another process to be done before giving up."""

BROKEN = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.TransactionException,
    duckdb.OutOfMemoryException,
)
"""What DuckDB raises when the disk or the memory gives out, rather than the statement being wrong."""

BUSY = ("Could not set lock on file", "Conflicting lock")
"""What DuckDB says when another process has the file open."""


class Catalog:
    """The rows of one workspace."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self.path = path
        self.patience_s = patience_s
        self._lock = threading.RLock()

    def create(self) -> None:
        """Make the file and bring its tables up to date; does nothing to a current one."""
        with self.writing() as db:
            migrate(db)

    def upgrade(self) -> None:
        """Bring a catalog of an older version up to date; a current one is only looked at.

        Raises:
            CatalogError: if there is none, or it is of a newer version.
        """
        with self.reading() as db:
            current = is_current(db)
        if not current:
            self.create()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection, open for the length of the block.

        Raises:
            CatalogError: if the file is missing, damaged, or taken for longer than the patience.
        """
        with self._lock, _closing(self._connect(read_only=True)) as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in one transaction: committed at the end of the block, undone on any error."""
        with self._lock, _closing(self._connect(read_only=False)) as db:
            db.execute("BEGIN")
            try:
                yield db
            except BaseException:
                with suppress(duckdb.Error):  # a database that broke has nothing left to undo
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def query(self, sql: str, **params: Any) -> pa.Table:
        """Rows of any SELECT, with ``$name`` parameters."""
        with self.reading() as db:
            return select(db, sql, **params)

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows of any SELECT as dictionaries."""
        found: list[dict[str, Any]] = self.query(sql, **params).to_pylist()
        return found

    def add(self, table: str, rows: Iterable[Any], *, replace: bool = False) -> int:
        """Add rows of one table in a transaction of their own; see `insert`.

        The rows are all there before the file is opened: however slowly they come, nobody waits for it.
        """
        held = rows if isinstance(rows, pa.Table) else list(rows)
        with self.writing() as db:
            return insert(db, table, held, replace=replace)

    def compact(self) -> None:
        """Write the file anew with its present rows alone: what was deleted is in no byte of it any more.

        Writers wait; the new file takes the old one's place when it is whole.

        Raises:
            CatalogError: if the disk or the memory gives out, or the file stays taken.
        """
        fresh = self.path.with_name(f"{self.path.name}.fresh")
        with self._lock:
            try:
                with _closing(self._held()) as db:
                    fresh.unlink(missing_ok=True)
                    db.execute(f"ATTACH {_quoted(fresh)} AS fresh")
                    db.execute("COPY FROM DATABASE held TO fresh")
                    db.execute("CHECKPOINT fresh")
                    db.execute("DETACH fresh")
                    shutil.copymode(self.path, fresh)
                    _replace(fresh, self.path)
            finally:
                for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
                    left.unlink(missing_ok=True)

    def _held(self) -> duckdb.DuckDBPyConnection:
        """A connection that keeps every writer out; the file has no log beside it that belongs to it."""
        while True:
            # a killed process left rows in the log: they are written into the file first
            self._connect(read_only=False).close()
            held = wait_for(lambda: _hold(self.path), self.path, self.patience_s)
            if not self.path.with_name(f"{self.path.name}.wal").exists():
                return held
            held.close()

    def content(self) -> dict[str, str]:
        """A digest of each table's rows, blind to order and to volatile columns.

        Two catalogs with equal contents hold the same rows.
        """
        with self.reading() as db:
            return {table.name: _content(db, table) for table in TABLES}

    def counts(self) -> dict[str, int]:
        """The number of rows of each table."""
        with self.reading() as db:
            return {t.name: _scalar(db, f'SELECT count(*) FROM "{t.name}"') for t in TABLES}  # noqa: S608

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        if read_only and not self.path.exists():
            raise CatalogError(
                f"no catalog at {self.path}; make a workspace first with `wildrf init`"
            )
        return wait_for(lambda: _open(self.path, read_only), self.path, self.patience_s)


def wait_for(
    connect: Callable[[], duckdb.DuckDBPyConnection], path: Path, patience_s: float
) -> duckdb.DuckDBPyConnection:
    """`connect()`, tried again while another process has the file open.

    Raises:
        CatalogError: if it stays taken for `patience_s` seconds, or is no DuckDB file.
    """
    deadline = time.monotonic() + patience_s
    pause = 0.005
    while True:
        try:
            return connect()
        except duckdb.Error as error:
            if not any(words in str(error) for words in BUSY):
                raise CatalogError(
                    f"{path} cannot be opened: {str(error).splitlines()[0]}; "
                    "expected a catalog made by `wildrf init`"
                ) from error
            if time.monotonic() > deadline:
                raise CatalogError(
                    f"{path} has been in use by another process for {patience_s:g} s; "
                    "wait for it to end, or stop it, and run this again"
                ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def select(db: duckdb.DuckDBPyConnection, sql: str, **params: Any) -> pa.Table:
    """Rows of any SELECT on an open connection, with ``$name`` parameters."""
    return db.sql(sql, params=params or None).to_arrow_table()


def insert(
    db: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Any], *, replace: bool = False
) -> int:
    """Add rows (instances of the table's class, or an Arrow table) and say how many were new.

    A row whose key is already there is left as it was, or takes the old one's place with `replace`.
    """
    spec = find(TABLES, table)
    batch = rows if isinstance(rows, pa.Table) else spec.to_arrow(rows)
    if not batch.num_rows:
        return 0
    if not replace:
        return _insert(db, "INSERT OR IGNORE", table, batch)
    before = _scalar(db, f'SELECT count(*) FROM "{table}"')  # noqa: S608
    _insert(db, "INSERT OR REPLACE", table, batch)
    return _scalar(db, f'SELECT count(*) FROM "{table}"') - before  # noqa: S608


def insert_new(db: duckdb.DuckDBPyConnection, table: str, batch: pa.Table) -> int:
    """Add rows none of which is there yet; faster than `insert`, which asks about each.

    Raises:
        duckdb.ConstraintException: if one is there; the transaction can then only be undone.
    """
    return _insert(db, "INSERT", table, batch) if batch.num_rows else 0


def _insert(db: duckdb.DuckDBPyConnection, verb: str, table: str, batch: pa.Table) -> int:
    db.register("_batch", batch)
    done = db.execute(f'{verb} INTO "{table}" BY NAME SELECT * FROM _batch').fetchall()  # noqa: S608
    # Not after an error: in a transaction that failed this fails, too, and hides why.
    db.unregister("_batch")
    return int(done[0][0])


def _open(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(str(path), read_only=read_only)
    db.execute("SET TimeZone = 'UTC'")
    return db


def _hold(path: Path) -> duckdb.DuckDBPyConnection:
    """The file attached read-only as `held`, by a connection that may write others."""
    db = duckdb.connect(config={"temp_directory": f"{path}.tmp"})
    try:
        db.execute(f"ATTACH {_quoted(path)} AS held (READ_ONLY)")
    except BaseException:
        db.close()
        raise
    return db


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _replace(fresh: Path, path: Path) -> None:
    """Put `fresh` in the place of `path`, and have that on the disk before anything else happens."""
    _flush(fresh)
    fresh.replace(path)
    _flush(path.parent)


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _closing(db: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        yield db
    except BROKEN as error:
        raise CatalogError(
            f"the catalog cannot go on: {str(error).splitlines()[0][:200]}; free space or mend the disk, "
            "then run this again: what was committed is kept"
        ) from error
    finally:
        db.close()


def _scalar(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(db.execute(sql).fetchall()[0][0])


def _content(db: duckdb.DuckDBPyConnection, table: Table) -> str:
    columns = ", ".join(f'"{c.name}"' for c in table.columns if not c.volatile)
    rows = db.execute(
        f"SELECT sha256(coalesce(string_agg(line, chr(10) ORDER BY line), '')) "  # noqa: S608
        f'FROM (SELECT ROW({columns})::VARCHAR AS line FROM "{table.name}")'
    ).fetchall()
    return str(rows[0][0])


def digests(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The `digest` column of query rows, in order."""
    return [row["digest"] for row in rows]
