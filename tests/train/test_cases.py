"""Known cases: read from a table, judged, kept with the run, and compared with the run before."""

import hashlib
import json
import os

import numpy as np
import pytest
import torch

from schemas.errors import InputError
from train.calibration import calibrate, calibration_path, write_calibration
from train.checkpoint import load_detector, pack, to_bytes, write_atomically
from train.config import build_detector
from train.deploy.cases import changes, find_previous, find_table, read_cases, run_cases
from train.detectors import DETECTORS
from train.predict import predict
from train.transforms import Preprocessing

SPEC = DETECTORS["tiny-ladeda"]


def run_folder(root, name, bias):
    """A run whose detector calls everything fake or everything real."""
    prep = Preprocessing(size=32, crop=32, representation="right_diag")
    model = build_detector(SPEC, prep, "mean", seed=1)
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.fill_(bias)
    path = root / name / "checkpoint.pt"
    write_atomically(path, to_bytes(pack(model.state_dict(), SPEC, prep, pooling="mean")))
    return path


@pytest.fixture
def table(tmp_path, picture_set):
    place = tmp_path / "cases"
    place.mkdir()
    source = sorted((picture_set / "test/reddit").rglob("*.png"))
    for name, file in (("a.png", source[0]), ("b.png", source[-1])):
        (place / name).write_bytes(file.read_bytes())
    (place / "broken.png").write_bytes(b"x")
    text = (
        "path,expected,note\na.png,real,the cover\nb.png,FAKE,\nbroken.png,fake,\ngone.png,real,\n"
    )
    (place / "cases.csv").write_text(text)
    return place / "cases.csv"


def test_every_case_gets_its_verdict_or_the_reason_there_is_none(table, tmp_path):
    checkpoint = run_folder(tmp_path / "runs", "one", 2.0)

    found = run_cases(checkpoint, table, checkpoint.parent)

    assert [row["verdict"] for row in found["cases"]] == ["fake", "fake", None, None]
    assert [row["right"] for row in found["cases"]] == [False, True, False, False]
    assert (found["n"], found["right"], found["wrong"], found["unreadable"]) == (4, 1, 1, 2)
    assert found["cases"][0]["note"] == "the cover"
    assert found["cases"][0]["logit"] == pytest.approx(2.0)
    assert found["cases"][0]["threshold"] == 0
    assert "does not decode" in found["cases"][2]["error"]
    assert "cannot be read" in found["cases"][3]["error"]
    assert found["previous"] is None
    assert json.loads((checkpoint.parent / "cases.json").read_text()) == found


def test_a_verdict_that_changed_since_the_run_before_is_listed(table, tmp_path):
    first = run_folder(tmp_path / "runs", "one", 2.0)
    second = run_folder(tmp_path / "runs", "two", -2.0)
    run_cases(first, table, first.parent)

    found = run_cases(second, table, second.parent)

    assert found["previous"].endswith("one/cases.json")
    assert found["changed"] == [
        {"path": "a.png", "before": "fake", "now": "real", "expected": "real"},
        {"path": "b.png", "before": "fake", "now": "real", "expected": "fake"},
    ]
    assert run_cases(second, table, second.parent)["changed"] == []


def test_the_newest_record_of_the_same_table_is_the_one_before(table, tmp_path):
    places = [run_folder(tmp_path / "runs", name, 1.0).parent for name in ("a", "b", "c")]
    for k, place in enumerate(places):
        run_cases(place / "checkpoint.pt", table, place)
        os.utime(place / "cases.json", ns=(k * 10**9, k * 10**9))
    (places[2] / "cases.json").write_text("damaged")

    assert find_previous(tmp_path / "runs/new", table) == places[1] / "cases.json"
    assert find_previous(tmp_path / "runs/new", table.parent / "other.csv") is None


def test_a_new_case_is_no_change():
    rows = [{"path": "new", "verdict": "fake", "expected": "fake"}]

    assert changes({"old": "real"}, rows) == []


def test_without_a_run_folder_nothing_is_written(table, tmp_path):
    checkpoint = run_folder(tmp_path / "runs", "one", 2.0)

    run_cases(checkpoint, table)

    assert not (checkpoint.parent / "cases.json").exists()


def test_toml_says_the_same_as_csv(table):
    toml = table.with_suffix(".toml")
    toml.write_text(
        '[[case]]\npath = "a.png"\nexpected = "real"\nnote = "the cover"\n'
        '[[case]]\npath = "b.png"\nexpected = "fake"\n'
        '[[case]]\npath = "broken.png"\nexpected = "fake"\n'
        '[[case]]\npath = "gone.png"\nexpected = "real"\n'
    )

    assert read_cases(toml) == read_cases(table)
    assert find_table(table.parent) == table
    assert find_table(toml) == toml
    assert find_table(table.parent.parent) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("cases.csv", "", "lacks the column expected and path"),
        ("cases.csv", "path,verdict\na,real\n", "lacks the column expected"),
        ("cases.csv", "path,expected\n", "has no case"),
        (
            "cases.csv",
            "path,expected\na.png,real\nb.png,maybe\n",
            r"line 3 has path 'b.png' and expected 'maybe'",
        ),
        ("cases.csv", "path,expected\n,real\n", "line 2 has path ''"),
        ("cases.toml", "[[case]\n", "is not valid TOML"),
        ("cases.toml", "case = 3\n", r"no \[\[case\]\]"),
        ("cases.toml", '[[case]]\npath = "a"\n', "case 1 has path 'a' and expected ''"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_row(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)

    with pytest.raises(InputError, match=said) as caught:
        read_cases(tmp_path / name)

    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="cannot be read"):
        read_cases(tmp_path / "cases.csv")


def test_a_calibrated_checkpoint_is_judged_by_the_threshold_that_predict_uses(table, tmp_path):
    checkpoint = run_folder(tmp_path / "runs", "one", 2.0)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    learnt = calibrate(
        np.repeat([2.5, 3.5], 20),
        np.repeat([0, 1], 20),
        checkpoint=digest,
        preprocessing=load_detector(checkpoint).preprocessing.digest,
        data={},
    )
    write_calibration(calibration_path(checkpoint), learnt)

    found = run_cases(checkpoint, table, checkpoint.parent)

    (told,) = predict(checkpoint, [table.parent / "a.png"])
    assert [row["verdict"] for row in found["cases"][:2]] == ["real", told["verdict"]]
    assert found["cases"][0]["threshold"] == told["threshold"] == learnt.threshold == 3.0
    assert "band" not in found["cases"][0]


def test_where_verdicts_may_be_undecided_a_case_tells_the_band_that_decided(table, tmp_path):
    checkpoint = run_folder(tmp_path / "runs", "one", 2.0)
    learnt = calibrate(
        np.concatenate([np.linspace(0, 3, 20), np.linspace(1, 4, 20)]),
        np.repeat([0, 1], 20),
        checkpoint=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        preprocessing=load_detector(checkpoint).preprocessing.digest,
        data={},
        undecided=0.05,
    )
    write_calibration(calibration_path(checkpoint), learnt)

    found = run_cases(checkpoint, table, checkpoint.parent)

    (told,) = predict(checkpoint, [table.parent / "a.png"])
    first = found["cases"][0]
    assert first["verdict"] == told["verdict"] == "undecided"
    assert first["band"] == told["band"] == [1.0, 3.0]
