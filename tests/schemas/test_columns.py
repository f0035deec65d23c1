"""Columns of rows as Arrow: what `pa.array` would make, without what that one loads."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import KINDS, UInt64, array_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=30))])
VALUES = {
    str: TEXTS,
    bytes: st.binary(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    UInt64: st.integers(0, 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    datetime: st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 30), timezones=ZONES),
    tuple[str, ...]: st.lists(TEXTS, max_size=3).map(tuple),
}


def test_every_kind_of_column_is_covered():
    assert set(VALUES) == set(KINDS)


@pytest.mark.parametrize("kind", VALUES, ids=str)
@given(data=st.data())
@settings(deadline=None)
def test_a_column_is_what_arrow_itself_makes_of_the_values(kind, data):
    values = data.draw(st.lists(st.none() | VALUES[kind], max_size=20))
    arrow = KINDS[kind].arrow

    made = array_of(values, arrow)

    made.validate(full=True)
    assert made.equals(pa.array(values, arrow))
    assert array_of(tuple(values), arrow).equals(made)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, 1), (str, b"x"), (str, "\ud800"), (int, 1.5), (int, "1"), (int, 2**63), (UInt64, -1),
        (float, "1"), (bytes, "x"), (bool, 1), (datetime, datetime(2026, 1, 1)), (datetime, 5),
        (tuple[str, ...], (1,)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_of_another_type_is_refused_and_never_changed(kind, value):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        array_of([value], KINDS[kind].arrow)


def test_pandas_is_not_loaded_for_it():
    code = (
        "import sys; from schemas.tables import KINDS, array_of; "
        "[array_of([None], k.arrow) for k in KINDS.values()]; array_of(['a'], KINDS[str].arrow); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
