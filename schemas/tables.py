"""From one row definition to its Arrow schema, its DuckDB table and its JSON Schema.

A table is a frozen dataclass in `records` whose fields are made with `column`. Nothing else in the
project spells out a schema: add a field there, a step in `curate.migrations`, and all three follow.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:  # loading it takes longer than whatever is done with rows that stay rows
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

    of: Callable[[Any], Any]
    duckdb: str
    json: dict[str, Any]

    @property
    def arrow(self) -> "pa.DataType":
        """The Arrow type."""
        import pyarrow

        return self.of(pyarrow)


KINDS: dict[Any, Kind] = {
    str: Kind(lambda pa: pa.string(), "VARCHAR", {"type": "string"}),
    int: Kind(lambda pa: pa.int64(), "BIGINT", {"type": "integer"}),
    UInt64: Kind(lambda pa: pa.uint64(), "UBIGINT", {"type": "integer", "minimum": 0}),
    float: Kind(lambda pa: pa.float64(), "DOUBLE", {"type": "number"}),
    bytes: Kind(lambda pa: pa.binary(), "BLOB", {"type": "string", "contentEncoding": "base64"}),
    bool: Kind(lambda pa: pa.bool_(), "BOOLEAN", {"type": "boolean"}),
    datetime: Kind(
        lambda pa: pa.timestamp("us", tz="UTC"),
        "TIMESTAMPTZ",
        {"type": "string", "format": "date-time"},
    ),
    tuple[str, ...]: Kind(
        lambda pa: pa.list_(pa.string()),
        "VARCHAR[]",
        {"type": "array", "items": {"type": "string"}},
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
    def arrow(self) -> "pa.Schema":
        """The Arrow schema; column docs ride along as field metadata."""
        import pyarrow as pa

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

    def to_arrow(self, rows: Iterable[Any]) -> "pa.Table":
        """Rows of this table's class as one Arrow table, in order."""
        import pyarrow as pa

        held = list(rows)
        named = {c.name: [getattr(row, c.name) for row in held] for c in self.columns}
        return pa.Table.from_arrays(self._arrays(named), schema=self.arrow)

    def record_batch(self, columns: Mapping[str, Sequence[Any]]) -> "pa.RecordBatch":
        """Columns of this table as Arrow, which costs far less than an object per row.

        A column may be Arrow already, and then keeps its type: a text that is the same in every row takes
        few bytes of each as a dictionary.

        Raises:
            TypeError: a value is of another type than its column.
            ValueError: one is missing where none may be, or is a text that UTF-8 cannot hold.
        """
        import pyarrow as pa

        arrays = self._arrays(columns)
        for column, held in zip(self.columns, arrays, strict=True):
            if held.null_count and not column.nullable:
                raise ValueError(f"{self.name}.{column.name} is missing")
        return pa.RecordBatch.from_arrays(arrays, names=[c.name for c in self.columns])

    def _arrays(self, columns: Mapping[str, Any]) -> "list[pa.Array]":
        import pyarrow as pa

        return [
            columns[c.name]
            if isinstance(columns[c.name], pa.Array)
            else array_of(columns[c.name], c.kind.arrow)
            for c in self.columns
        ]

    def from_arrow(self, table: "pa.Table") -> Iterator[Any]:
        """The rows of an Arrow table as instances of this table's class."""
        import pyarrow as pa

        lists = {c.name for c in self.columns if pa.types.is_list(c.kind.arrow)}
        for row in table.to_pylist():
            yield self.row(**{k: tuple(v) if k in lists else v for k, v in row.items()})


def array_of(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """`pa.array` for the types of `KINDS`; that one loads pandas where it is installed, for 50 MB.

    Raises:
        TypeError: a value is of another type.
        OverflowError: a number does not fit.
        ValueError: a text is not what UTF-8 can hold.
    """
    import pyarrow as pa

    missing = values.count(None)
    if missing == len(values):
        return pa.nulls(missing, kind)
    if pa.types.is_string(kind):
        return _strings(values)
    if pa.types.is_binary(kind):
        return _blobs(values)
    if pa.types.is_list(kind):
        return _lists(values)
    if pa.types.is_boolean(kind):
        return _of_buffers(values, missing, kind, _bits([_flag(v) for v in values]))
    if pa.types.is_timestamp(kind):
        values = [None if v is None else (v - EPOCH) // _MICROSECOND for v in values]
    plain = [0 if v is None else v for v in values] if missing else values
    return _of_buffers(values, missing, kind, pa.py_buffer(array(_code(kind), plain)))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _code(kind: "pa.DataType") -> str:
    """How the standard library calls a number of this type."""
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return "d"
    return "Q" if pa.types.is_unsigned_integer(kind) else "q"


def _of_buffers(
    values: Sequence[Any], missing: int, kind: "pa.DataType", data: "pa.Buffer"
) -> "pa.Array":
    import pyarrow as pa

    there = _bits([v is not None for v in values]) if missing else None
    return pa.Array.from_buffers(kind, len(values), [there, data])


def _bits(flags: Sequence[bool]) -> "pa.Buffer":
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.array(flags, dtype=np.bool_), bitorder="little").tobytes())


def _flag(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise TypeError(f"{value!r} is neither True nor False")


def _blobs(values: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    for value in values:
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"{value!r} is not bytes")
    ends = array("i", accumulate((len(v or b"") for v in values), initial=0))
    there = _bits([v is not None for v in values]) if None in values else None
    data = pa.py_buffer(b"".join(v or b"" for v in values))
    return pa.BinaryArray.from_buffers(pa.binary(), len(values), [there, pa.py_buffer(ends), data])


def _strings(values: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    missing = None in values
    texts = ["" if v is None else v for v in values] if missing else values
    joined = "".join(texts)
    data = joined.encode()
    sizes = map(len, texts) if len(data) == len(joined) else (len(t.encode()) for t in texts)
    ends = array("i", accumulate(sizes, initial=0))
    there = _bits([v is not None for v in values]) if missing else None
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(data), there)


def _lists(values: Sequence[Any]) -> "pa.Array":
    """Lists of texts; a list that is None is told from an empty one."""
    import pyarrow as pa

    sizes = [0 if v is None else len(v) for v in values]
    ends = array("i", accumulate(sizes, initial=0))
    there = _bits([v is not None for v in values]) if None in values else None
    return pa.ListArray.from_buffers(
        pa.list_(pa.string()),
        len(values),
        [there, pa.py_buffer(ends)],
        children=[_strings([text for v in values if v for text in v])],
    )


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
