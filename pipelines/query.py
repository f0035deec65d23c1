"""Sql: a read-only question to the catalog, which can reach nothing outside it."""

from collections import Counter
from typing import Any

import duckdb
import pyarrow as pa

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
    if not statement.strip(" ;\n\t"):
        raise InputError("the statement is empty; expected SQL such as: SELECT count(*) FROM post")
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
        rows = _named_once(answer.to_arrow_table()).to_pylist() if answer else []
    except duckdb.Error as error:
        raise InputError(f"the catalog refused: {' '.join(str(error).split())[:300]}") from None
    finally:
        db.close()
    return rows


def _named_once(answer: pa.Table) -> pa.Table:
    """`answer`, if a row of it can be an object.

    Raises:
        InputError: if two columns have one name.
    """
    twice = [name for name, n in Counter(answer.column_names).items() if n > 1]
    if twice:
        raise InputError(f"two columns are named {twice[0]}; give one another name with AS")
    return answer


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as a table."""
    if not rows:
        return ["no rows"]
    header = list(rows[0])
    return table([["" if v is None else str(v) for v in row.values()] for row in rows], header)
