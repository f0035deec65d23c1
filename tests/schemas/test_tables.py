"""One definition per table, from which everything else follows."""

import json
from dataclasses import fields

import duckdb
import jsonschema
import pyarrow as pa
import pytest

from schemas.records import TABLES, Fingerprint, Post
from schemas.tables import Table, find

NAMES = [table.name for table in TABLES]


@pytest.fixture
def db():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.mark.parametrize("table", TABLES, ids=NAMES)
def test_every_table_says_what_it_and_each_of_its_columns_hold(table: Table):
    assert table.doc
    assert table.key
    assert [c.name for c in table.columns] == [f.name for f in fields(table.row)]
    assert all(column.doc for column in table.columns)


@pytest.mark.parametrize("table", TABLES, ids=NAMES)
def test_duckdb_makes_of_the_table_just_what_arrow_says(table: Table, db):
    db.execute(table.ddl)

    found = db.sql(f'SELECT * FROM "{table.name}"').to_arrow_table().schema

    assert [f.name for f in found] == [f.name for f in table.arrow]
    assert [f.type for f in found] == [_as_duckdb_says(f.type) for f in table.arrow]


def _as_duckdb_says(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(pa.field("l", pa.string()))
    return kind


@pytest.mark.parametrize("table", TABLES, ids=NAMES)
def test_the_json_schema_is_valid_and_names_every_column(table: Table):
    schema = table.json_schema

    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == [c.name for c in table.columns]
    assert json.loads(json.dumps(schema)) == schema


def test_a_row_becomes_arrow_and_fits_its_json_schema():
    row = Post("reddit", "1", "source", None, None, hashtags=("a", "b"))
    table = find(TABLES, "post")

    (told,) = table.to_arrow([row]).to_pylist()

    assert told["hashtags"] == ["a", "b"]
    jsonschema.validate(told, table.json_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**told, "handle": "@ana"}, table.json_schema)


def test_a_hash_with_its_highest_bit_set_survives():
    row = Fingerprint("d", "phash", 2**64 - 1, "probe/1")

    (told,) = find(TABLES, "fingerprint").to_arrow([row]).to_pylist()

    assert told["bits"] == 2**64 - 1


def test_an_unknown_table_is_a_key_error():
    with pytest.raises(KeyError):
        find(TABLES, "nothing")
