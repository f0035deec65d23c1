"""From one row definition to its Arrow schema, its DuckDB table and its JSON Schema.

A table is a frozen dataclass in `records` whose fields are made with `column`. Nothing else in the
project spells out a schema: add a field there, a step in `curate.migrations`, and all three follow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

UInt64 = Annotated[int, "uint64"]
"""A 64-bit pattern, such as a perceptual hash: stored unsigned."""


def column(doc: str, *, key: bool = False, volatile: bool = False, default: Any = MISSING) -> Any:
    """One column of a row class.

    `key` columns form the primary key; `volatile` ones (clock times, durations, local paths) are left
    out when two catalogs are compared.
    """
    return field(default=default, metadata={"doc": doc, "key": key, "volatile": volatile})


@dataclass(frozen=True, slots=True)
class Kind:
    """How one Python type is stored: Arrow type, DuckDB type, JSON Schema."""

    arrow: pa.DataType
    duckdb: str
    json: dict[str, Any]


KINDS: dict[Any, Kind] = {
    str: Kind(pa.string(), "VARCHAR", {"type": "string"}),
    int: Kind(pa.int64(), "BIGINT", {"type": "integer"}),
    UInt64: Kind(pa.uint64(), "UBIGINT", {"type": "integer", "minimum": 0}),
    float: Kind(pa.float64(), "DOUBLE", {"type": "number"}),
    bool: Kind(pa.bool_(), "BOOLEAN", {"type": "boolean"}),
    datetime: Kind(
        pa.timestamp("us", tz="UTC"), "TIMESTAMPTZ", {"type": "string", "format": "date-time"}
    ),
    tuple[str, ...]: Kind(
        pa.list_(pa.string()), "VARCHAR[]", {"type": "array", "items": {"type": "string"}}
    ),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, resolved."""

    name: str
    kind: Kind
    nullable: bool
    key: bool
    volatile: bool
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table, derived from its row class."""

    name: str
    row: type
    doc: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the primary key's columns."""
        return tuple(c.name for c in self.columns if c.key)

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema; column docs ride along as field metadata."""
        return pa.schema(
            [pa.field(c.name, c.kind.arrow, c.nullable, {"doc": c.doc}) for c in self.columns]
        )

    @property
    def ddl(self) -> str:
        """The CREATE TABLE statement of DuckDB."""
        parts = [
            f'"{c.name}" {c.kind.duckdb}{"" if c.nullable else " NOT NULL"}' for c in self.columns
        ]
        parts.append(f"PRIMARY KEY ({', '.join(chr(34) + k + chr(34) for k in self.key)})")
        return f'CREATE TABLE "{self.name}" ({", ".join(parts)})'

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of one row."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.doc,
            "type": "object",
            "additionalProperties": False,
            "required": [c.name for c in self.columns],
            "properties": {c.name: _json_of(c) for c in self.columns},
        }

    def to_arrow(self, rows: Iterable[Any]) -> pa.Table:
        """Rows of this table's class as one Arrow table, in order."""
        held = list(rows)
        arrays = [
            pa.array([getattr(row, c.name) for row in held], type=c.kind.arrow)
            for c in self.columns
        ]
        return pa.Table.from_arrays(arrays, schema=self.arrow)


def table_of(row: type, name: str) -> Table:
    """The table whose rows are instances of the dataclass `row`."""
    hints = get_type_hints(row, include_extras=True)
    columns = tuple(_column_of(f, hints[f.name]) for f in fields(row))
    return Table(name, row, _first_line(row.__doc__), columns)


def _column_of(spec: Field[Any], hint: Any) -> Column:
    plain, nullable = _strip_none(hint)
    meta = spec.metadata
    return Column(spec.name, KINDS[plain], nullable, meta["key"], meta["volatile"], meta["doc"])


def _strip_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, UnionType):
        rest = [a for a in get_args(hint) if a is not NoneType]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _json_of(column: Column) -> dict[str, Any]:
    body = {**column.kind.json, "description": column.doc}
    if column.nullable:
        body["type"] = [column.kind.json["type"], "null"]
    return body


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0]


def find(tables: Sequence[Table], name: str) -> Table:
    """The table called `name`.

    Raises:
        KeyError: if there is none.
    """
    for table in tables:
        if table.name == name:
            return table
    raise KeyError(name)
