"""Rows to tasks and exports to rows: nothing lost, nothing invented, nothing raised."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.privacy import author_key
from labeling.tasks import Refused, from_export, read_export, to_export, to_task
from schemas.errors import InputError
from schemas.labels import Choice
from schemas.records import Annotation

DIGEST = "ab" * 32
SECRET = b"of one workspace"


def choice(name, *values):
    return {
        "from_name": name,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [*values]},
    }


def rating(stars):
    value = {"rating": stars}
    return {"from_name": "confidence", "to_name": "image", "type": "rating", "value": value}


def entry(*results, **other):
    """One annotation as Label Studio 1.23 exports it."""
    return {
        "id": 7,
        "completed_by": 3,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-20T12:44:56.288478Z",
        "updated_at": "2026-11-20T12:44:57Z",
        "lead_time": 3.2,
        "unique_id": "5e3f5af4-0000-4000-8000-000000000001",
        **other,
    }


def exported(*entries, **data):
    return {
        "id": 1,
        "data": {"image": "/data/local-files/?d=x", "sha256": DIGEST, **data},
        "annotations": list(entries),
        "predictions": [],
    }


def rows(task):
    return list(from_export(task, secret=SECRET, project="p"))


def refusal(task):
    (row,) = rows(task)
    assert isinstance(row, Refused)
    assert "\n" not in row.detail
    return row.reason


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a/projects/1", "http://a/projects/2", True),
        ("http://a/projects/1", "http://b/projects/1", False),
        ("http://a/projects/1", "file:export.json", False),
        ("file:export.json", "file:export.json", True),
    ],
)
def test_a_number_means_one_person_on_one_server_only(one, other, same):
    given = exported(entry(choice("verdict", "Real")))
    first, second = (
        next(from_export(given, secret=SECRET, project=project)).annotator
        for project in (one, other)
    )

    assert (first == second) is same


def test_a_task_carries_the_image_and_its_digest_alone():
    task = to_task(DIGEST, "/data/local-files/?d=x")

    assert task == {"data": {"image": "/data/local-files/?d=x", "sha256": DIGEST}}


def test_an_answer_comes_back_as_one_row_with_everything_that_was_said():
    answer = entry(choice("verdict", "Fake"), choice("reasons", "text", "anatomy"), rating(4))

    (row,) = rows(exported(answer))

    assert row == Annotation(
        annotation_id="5e3f5af4-0000-4000-8000-000000000001",
        revision="2026-11-20T12:44:57.000000+00:00",
        digest=DIGEST,
        annotator=author_key(SECRET, "label-studio", "p/3"),
        choice="Fake",
        confidence=0.75,
        ticks=("anatomy", "text"),
        seconds=3.2,
        project="p",
        at=datetime(2026, 11, 20, 12, 44, 56, 288478, tzinfo=UTC),
    )


@pytest.mark.parametrize("value", list(Choice))
def test_every_choice_survives_the_round_trip(value):
    (row,) = rows(exported(entry(choice("verdict", value))))

    assert row.choice == value


def test_a_skipped_task_is_a_row_without_a_choice():
    (row,) = rows(exported(entry(was_cancelled=True)))

    assert row.choice is None
    assert row.ticks == ()


def test_what_was_ticked_before_a_skip_does_not_count():
    half_done = entry(choice("verdict", "Bogus"), choice("reasons", "text"), rating(2))

    (row,) = rows(exported({**half_done, "was_cancelled": True}))

    assert (row.choice, row.ticks, row.confidence) == (None, (), None)


def test_an_annotator_is_the_same_in_an_export_and_in_an_answer_of_the_api():
    as_number = entry(choice("verdict", "Real"), completed_by=3)
    as_object = entry(choice("verdict", "Real"), completed_by={"id": 3, "email": "a@example.org"})

    first, second = rows(exported(as_number, as_object))

    assert first.annotator == second.annotator
    assert "example" not in repr(second)


def test_revisions_sort_by_time_though_whole_seconds_are_written_shorter():
    early, late = (
        entry(choice("verdict", "Real"), updated_at=when)
        for when in ("2026-11-20T12:44:56Z", "2026-11-20T12:44:56.5Z")
    )

    first, second = rows(exported(early, late))

    assert first.revision < second.revision


def test_a_task_that_nobody_answered_has_no_rows():
    assert rows(exported()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (entry(choice("verdict", "Bogus")), "unknown choice"),
        (entry(choice("verdict", "Real", "Fake")), "two verdicts"),
        (entry(choice("verdict", "Real"), choice("verdict", "Fake")), "two verdicts"),
        (entry(), "no verdict"),
        (entry(choice("verdict")), "no verdict"),
        (entry(choice("reasons", "text")), "no verdict"),
        (entry(choice("verdict", "Real"), choice("reasons", "vibes")), "unknown tick"),
        (entry(choice("verdict", "Real"), rating(9)), "bad rating"),
        (entry(choice("verdict", "Real"), rating("high")), "bad rating"),
        (entry(choice("verdict", 5)), "malformed result"),
        (entry(choice("verdict", "Real"), unique_id=None), "no unique_id"),
        (entry(choice("verdict", "Real"), completed_by=None), "no annotator"),
        (entry(choice("verdict", "Real"), updated_at="yesterday"), "no time"),
        (entry(choice("verdict", "Real"), result="Real"), "malformed result"),
        (entry("Real"), "malformed result"),
        ("Real", "malformed annotation"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_with_its_reason(answer, reason):
    assert refusal(exported(answer)) == reason


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({"id": 1, "data": {"image": "x"}, "annotations": []}, "no sha256"),
        ({"id": 1, "data": None}, "no sha256"),
        (exported(sha256="../../etc/passwd"), "bad sha256"),
        (exported(sha256=DIGEST.upper()), "bad sha256"),
        ({"id": 1, "data": {"sha256": DIGEST}, "annotations": 4}, "malformed annotations"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused_with_its_reason(task, reason):
    assert refusal(task) == reason


def test_one_bad_answer_does_not_cost_the_good_ones_beside_it():
    good = entry(choice("verdict", "Real"))

    found = rows(exported(good, entry(choice("verdict", "Bogus"), unique_id="bad"), good))

    assert [type(row) for row in found] == [Annotation, Refused, Annotation]
    assert found[1].annotation == "bad"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    key=st.sampled_from(["data", "annotations", "id"]),
    field=st.sampled_from(sorted(entry())),
    value=json_values,
)
def test_no_export_however_odd_raises_anything(key, field, value):
    odd_entry = exported({**entry(choice("verdict", "Real")), field: value})
    odd_task = {**exported(entry(choice("verdict", "Real"))), key: value}
    odd_result = exported(entry({"from_name": "verdict", "value": value}))

    for task in (odd_entry, odd_task, odd_result):
        assert all(isinstance(row, Annotation | Refused) for row in rows(task))


def test_an_import_file_holds_each_image_once_and_reads_back(tmp_path):
    digests = ["cd" * 32, DIGEST, "cd" * 32]
    path = tmp_path / "tasks.json"

    path.write_text(to_export(digests, lambda digest: f"http://x/{digest}"))

    assert list(read_export(path)) == [to_task(d, f"http://x/{d}") for d in ("cd" * 32, DIGEST)]


def test_an_import_file_of_no_images_is_an_empty_list():
    assert json.loads(to_export([], str)) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"id,verdict\n1,Real\n", "perhaps CSV"),
        (b"PK\x03\x04...", "a zip archive"),
        (b"<annotation/>", "XML or HTML"),
        (b'[{"id": 1, "data": ', "cut off"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b'{"images": []}', "one JSON dict, not a list"),
        (b"[1]", "element 0 is a int"),
        (b'[{"id": 1}]', "has no data"),
        (b'[{"image": "x", "verdict": "Fake", "annotator": 1}]', "is JSON_MIN"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_another_kind_of_file_is_refused_in_one_line_that_says_what_to_do(tmp_path, content, told):
    path = tmp_path / "export.json"
    path.write_bytes(content)

    with pytest.raises(InputError) as error:
        list(read_export(path))

    assert told in str(error.value)
    assert "choose Export, then JSON" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_told(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            list(read_export(path))
