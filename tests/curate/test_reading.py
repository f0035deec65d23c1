"""What every collector reads with: JSON, lines and tables as they come, and plain facts of a value."""

import datetime as dt
import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collectors import reading
from curate.exports import DamagedExport, open_export

UTC = dt.UTC


def opened(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return open_export(path)


def records(raws):
    return [raw.record for raw in raws]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_elements_of_a_list_are_read_one_by_one_from_anywhere_in_a_document(tmp_path, mark):
    export = opened(tmp_path, "a.json", mark + b'{"n": 1, "m": {"list": [{"a": 1}, {"a": 2.5}]}}')

    assert records(reading.elements(export, "a.json", "m.list.item")) == [{"a": 1}, {"a": 2.5}]


def test_a_list_that_breaks_off_gives_what_came_before_and_says_so(tmp_path):
    export = opened(tmp_path, "a.json", b'[{"a": 1}, {"a": 2}, {"a":')

    *good, last = reading.elements(export, "a.json", "item")

    assert records(good) == [{"a": 1}, {"a": 2}]
    assert last.problem == "broken file"
    assert "after 2 records" in last.partial


def test_damage_met_in_the_middle_of_a_member_is_an_export_error(tmp_path):
    whole = gzip.compress(json.dumps([{"a": n} for n in range(200_000)]).encode())
    export = opened(tmp_path, "a.json.gz", whole[:-1000])

    with pytest.raises(DamagedExport, match="damaged or cut off"):
        list(reading.elements(export, "a.json.gz", "item"))


def test_a_flipped_byte_in_a_zip_is_an_export_error_for_tables_too(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "id,text\n" + "1,hello\n" * 1000)
    data = bytearray(packed.getvalue())
    data[data.index(b"hello")] ^= 1
    export = opened(tmp_path, "a.zip", bytes(data))

    with pytest.raises(DamagedExport):
        list(reading.rows(export, "a.csv"))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.json", b'{"a": 1}', [{"a": 1}]),
        ("a.json", b'{"a":\n 1}', [{"a": 1}]),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("a.jsonl", b'{"a": 1}\n\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ("a.ndjson", b'{"a": 1}\noops\n{"a": 2}', [{"a": 1}, None, {"a": 2}]),
        ("a.json", b"{oops", [None]),
    ],
)
def test_documents_are_lines_or_whole_files_as_the_content_is(tmp_path, name, data, expected):
    export = opened(tmp_path, name, data)

    assert records(reading.documents(export, [name])) == expected


def test_half_of_a_surrogate_pair_costs_a_character_and_not_the_record(tmp_path):
    export = opened(tmp_path, "a.jsonl", b'{"a": "x\\ud83d y"}\n')

    assert records(reading.lines(export, "a.jsonl")) == [{"a": "x? y"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_by_its_header_whatever_its_delimiter(tmp_path, delimiter):
    text = delimiter.join(["id", "text"]) + "\r\n" + delimiter.join(["1", '"two\nlines"']) + "\r\n"
    export = opened(tmp_path, "a.csv", b"\xef\xbb\xbf" + text.encode())

    assert records(reading.rows(export, "a.csv")) == [{"id": "1", "text": "two\nlines"}]


def test_a_row_of_another_width_is_a_problem_of_that_row_alone(tmp_path):
    export = opened(tmp_path, "a.csv", b"id,text\n1,a\n2\n3,b,c\n4,d\n")

    found = list(reading.rows(export, "a.csv"))

    assert [r.problem is None for r in found] == [True, False, False, True]
    assert records(found)[3] == {"id": "4", "text": "d"}


@given(st.text())
def test_text_whose_bytes_were_read_as_latin_1_is_repaired(text):
    written = text.encode("utf-8").decode("latin-1")

    assert reading.repaired(written) == (text if written.strip() else None)


@given(st.text(st.characters(min_codepoint=0x100, exclude_categories=["Cs"]), min_size=1))
def test_text_that_latin_1_cannot_hold_is_left_alone(text):
    assert reading.repaired(text) == reading.text_of(text)


def test_meta_text_is_repaired():
    assert reading.repaired("sm\u00c3\u00b8rrebr\u00c3\u00b8d") == "smørrebrød"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("#AIart and #東京 #1 ##no a#no &#39; #a_1", ("AIart", "東京", "a_1")),
        ("\uff03ｆｕｌｌ #AIart #AIart", ("ｆｕｌｌ", "AIart")),  # noqa: RUF001
        (None, ()),
    ],
)
def test_hashtags_are_found_in_any_script_once_each(text, tags):
    assert reading.hashtags_in(text) == tags


def test_html_becomes_what_a_reader_sees():
    html = "<p>one<br>two</p><script>no()</script><p>a &amp; b <a href='x'>#tag</a></p>"

    assert reading.from_html(html) == "one\ntwo\na & b #tag"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-02T03:04:05.123Z", dt.datetime(2024, 1, 2, 3, 4, 5, 123000, UTC)),
        ("2024-01-02T03:04:05+02:00", dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2024-01-02 03:04:05", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("yesterday", None),
        (5, None),
    ],
)
def test_iso_times_are_told_in_utc(value, expected):
    assert reading.iso_time(value) == expected


@pytest.mark.parametrize("value", [None, True, "x", [], {}, float("nan"), float("inf"), 1e300])
def test_what_is_no_time_and_no_count_is_none(value):
    assert reading.moment(value) is None
    assert reading.count_of(value) is None


@pytest.mark.parametrize(("value", "count"), [("1,234", 1234), (7, 7), ("7", 7), (2**70, None)])
def test_counts_are_read_from_numbers_and_text(value, count):
    assert reading.count_of(value) == count


JSON = st.recursive(
    st.none() | st.booleans() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
)


@given(JSON, st.lists(st.text() | st.integers(-3, 3)))
def test_looking_inside_finds_what_indexing_finds_and_none_where_there_is_nothing(value, path):
    expected = value
    try:
        for step in path:
            right = (
                isinstance(expected, dict) if isinstance(step, str) else isinstance(expected, list)
            )
            expected = expected[step] if right else None
    except (KeyError, IndexError):
        expected = None

    assert reading.inside(value, *path) == expected
