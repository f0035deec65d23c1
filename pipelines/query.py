"""Sql: a read-only question to the catalog, which can reach nothing outside it."""

from typing import Any

import duckdb

from curate.catalog import wait_for
from curate.workspace import Workspace
from pipelines.output import table
from schemas.errors import InputError

SAFE = (
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
"""No file is read or written, nothing is loaded from the network, and a statement cannot change that."""


def ask(workspace: Workspace, statement: str) -> list[dict[str, Any]]:
    """The rows of one statement.

    Raises:
        InputError: if DuckDB does not accept it.
    """
    path = workspace.catalog.path
    with workspace.catalog.reading():
        pass  # a missing or foreign file is told here, in our words
    db = wait_for(
        lambda: duckdb.connect(str(path), read_only=True), path, workspace.catalog.patience_s
    )
    try:
        for setting in SAFE:
            db.execute(setting)
        answer = db.sql(statement)
        rows: list[dict[str, Any]] = answer.to_arrow_table().to_pylist() if answer else []
    except duckdb.Error as error:
        raise InputError(f"the catalog refused: {' '.join(str(error).split())[:300]}") from None
    finally:
        db.close()
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as a table."""
    if not rows:
        return ["no rows"]
    header = list(rows[0])
    return table([["" if v is None else str(v) for v in row.values()] for row in rows], header)
