"""export-onnx, parity and cases as a user meets them: lines, JSON, exit codes."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from curate.workspace import create_workspace
from pipelines import cases
from pipelines.detect import say_epoch
from train.calibration import Band, calibrate, write_calibration
from train.checkpoint import load_detector, pack, to_bytes, write_atomically
from train.config import build_detector
from train.detectors import DETECTORS
from train.engine import EpochReport
from train.transforms import Preprocessing

SIDE = 48


def fill(root, folders):
    rng = np.random.default_rng(0)
    for folder in folders:
        for leaf in ("0_real", "1_fake"):
            place = root / folder / leaf
            place.mkdir(parents=True)
            for k in range(4):
                pixels = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{folder}-{leaf}-{k}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("set"), ["train", "val"])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a run; its detector is untrained."""
    spec, prep = DETECTORS["tiny-ladeda"], Preprocessing(size=SIDE, crop=SIDE, representation="raw")
    model = build_detector(spec, prep, "mean", seed=1)
    with torch.no_grad():
        model.fc.weight *= 20
    path = tmp_path_factory.mktemp("runs") / "one" / "checkpoint.pt"
    write_atomically(path, to_bytes(pack(model.state_dict(), spec, prep, pooling="mean")))
    return path.parent


@pytest.fixture(scope="module")
def exported(run_folder, wildrf):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra onnx")
    out = run_folder / "one.onnx"
    answer = wildrf("export-onnx", run_folder, "--out", out, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_export_tells_what_was_written_and_how_close_it_is(exported, run_folder, wildrf):
    assert exported["path"] == str(run_folder / "one.onnx")
    assert exported["bytes"] == (run_folder / "one.onnx").stat().st_size
    assert exported["largest_difference"] <= exported["tolerance"] == 1e-5

    answer = wildrf("export-onnx", run_folder, "--out", run_folder / "again.onnx")

    assert answer.code == 0
    assert "checked on 7 pictures" in answer.err
    assert answer.out == ""


def test_export_beyond_the_tolerance_is_exit_code_1_and_writes_nothing(
    exported, run_folder, wildrf, tmp_path
):
    out = tmp_path / "a.onnx"
    answer = wildrf("export-onnx", run_folder, "--out", out, "--tolerance", "0")

    assert answer.code == 1
    assert "nothing was written" in answer.err
    assert not out.exists()


def test_parity_is_exit_code_0_where_scores_are_the_same(exported, run_folder, pictures, wildrf):
    answer = wildrf("parity", run_folder, exported["path"], pictures, "--device", "cpu", "--json")
    found = json.loads(answer.out)
    told = wildrf("parity", run_folder, pictures, "--files", "3", "--device", "cpu")

    assert answer.code == 0
    assert found["same"]
    assert len(found["rows"]) == 20
    assert told.code == 0
    assert told.err.splitlines()[-1].startswith("the same: largest difference predict")
    assert len(told.err.splitlines()) == 6
    assert "on cpu (allowed 2e-05)" in told.err
    assert {row["device"] for row in found["rows"]} == {"cpu"}


def test_parity_beyond_the_tolerance_is_exit_code_1_and_names_the_step(
    exported, run_folder, pictures, wildrf
):
    answer = wildrf("parity", run_folder, exported["path"], pictures, "--tolerance", "1e-12")

    assert answer.code == 1
    assert "NOT the same" in answer.err
    assert "network" in answer.err


def test_predict_scores_with_the_exported_file(exported, run_folder, pictures, wildrf):
    of_file = wildrf("predict", exported["path"], pictures, "--json")
    of_run = wildrf("predict", run_folder, pictures, "--json")

    rows, want = (list(map(json.loads, a.out.splitlines())) for a in (of_file, of_run))
    assert of_file.code == of_run.code == 0
    assert len(rows) == 16
    for row, other in zip(rows, want, strict=True):
        assert row["path"] == other["path"]
        assert row["logit"] == pytest.approx(other["logit"], rel=1e-5, abs=1e-5)


def calibrated(run_folder, copy):
    """A copy of the run, calibrated, undecided from -1 to 1."""
    shutil.copytree(run_folder, copy)
    loaded = load_detector(copy / "checkpoint.pt")
    made = calibrate(
        np.repeat([-1.0, 1.0], 40),
        np.repeat([0, 1], 40),
        checkpoint=loaded.digest,
        preprocessing=loaded.preprocessing.digest,
        data={},
        undecided=0.05,
    )
    made = replace(made, temperature=2.0, threshold=0.1, band=Band(0.05, -1.0, 1.0))
    write_calibration(copy / "checkpoint.calibration.json", made)
    return copy


def test_a_calibration_goes_into_the_exported_file_wherever_that_goes(
    exported, run_folder, pictures, wildrf, tmp_path
):
    run = calibrated(run_folder, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()

    answer = wildrf("export-onnx", run, "--out", tmp_path / "elsewhere/a.onnx", "--json")
    told = wildrf("export-onnx", run, "--out", tmp_path / "elsewhere/b.onnx")
    of_file = wildrf("predict", tmp_path / "elsewhere/a.onnx", pictures, "--json")
    of_run = wildrf("predict", run, pictures, "--json")

    assert json.loads(answer.out)["calibrated"] is True
    assert exported["calibrated"] is False
    assert "and calibration inside" in told.err
    rows, want = (list(map(json.loads, a.out.splitlines())) for a in (of_file, of_run))
    assert [(r["verdict"], r["threshold"]) for r in rows] == [
        (r["verdict"], r["threshold"]) for r in want
    ]
    assert [r["probability"] for r in rows] == pytest.approx([r["probability"] for r in want], 1e-4)


def test_a_calibration_of_other_weights_is_told_before_anything_is_exported(
    exported, run_folder, wildrf, tmp_path
):
    run = calibrated(run_folder, tmp_path / "run")
    stale = run / "checkpoint.calibration.json"
    stale.write_text(stale.read_text().replace(exported["checkpoint_sha256"], "0" * 64))

    answer = wildrf("export-onnx", run, "--out", tmp_path / "a.onnx")

    assert answer.code == 2
    assert "is of checkpoint 000000000000, this one is" in answer.err
    assert not (tmp_path / "a.onnx").exists()


def test_train_looks_at_the_cases_again_and_lists_what_changed(pictures, wildrf, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    real = sorted((pictures / "val/0_real").iterdir())[0]
    (cases / "cases.csv").write_text(f"path,expected,note\n{real},real,mine\nnone.png,fake,\n")
    common = [
        "train", pictures, "--detector", "tiny-ladeda", "--size", SIDE, "--crop", SIDE, "--batch", 4,
        "--epochs", 1, "--device", "cpu", "--cases", cases,
    ]  # fmt: skip

    first = wildrf(*common, "--out", tmp_path / "runs/one", "--json")
    record = tmp_path / "runs/one/cases.json"
    kept = json.loads(record.read_text())
    kept["cases"][0]["verdict"] = {"real": "fake", "fake": "real"}[kept["cases"][0]["verdict"]]
    record.write_text(json.dumps(kept))
    second = wildrf(*common, "--out", tmp_path / "runs/two")

    assert first.code == 0, first.err
    found = json.loads(first.out)["cases"]
    assert (found["n"], found["unreadable"]) == (2, 1)
    assert second.code == 0
    assert " of 2 as expected" in second.err
    assert f"{real}: was {kept['cases'][0]['verdict']}, is now" in second.err
    assert "none.png: expected fake, found cannot be read" in second.err


def test_a_bad_table_of_cases_is_told_before_hours_of_training(pictures, wildrf, tmp_path):
    (tmp_path / "cases.csv").write_text("path,expected\na.png,perhaps\n")
    answer = wildrf("train", pictures, "--out", tmp_path / "run", "--cases", tmp_path)

    assert answer.code == 2
    assert "expected 'perhaps'" in answer.err
    assert not (tmp_path / "run").exists()


def test_a_student_is_judged_by_the_cases_of_the_workspace_that_is_named_after_the_verb(
    run_folder, pictures, wildrf, tmp_path
):
    workspace = create_workspace(tmp_path / "set").root
    (workspace / "cases").mkdir()
    (workspace / "cases/cases.csv").write_text("path,expected\na.png,perhaps\n")
    out = tmp_path / "student"

    answer = wildrf(
        "distill", run_folder, "--data", pictures, "--out", out, "--workspace", workspace
    )

    assert answer.code == 2
    assert "expected 'perhaps'" in answer.err
    assert not out.exists()


def test_cases_are_exit_code_1_where_one_gets_another_verdict(
    run_folder, pictures, wildrf, tmp_path
):
    real = sorted((pictures / "val/0_real").iterdir())[0]
    row = json.loads(wildrf("predict", run_folder, real, "--json").out)
    verdict, other = ("fake", "real") if row["score"] > 0.5 else ("real", "fake")

    (tmp_path / "cases.csv").write_text(f"path,expected\n{real},{verdict}\n")
    right = wildrf("cases", run_folder, tmp_path, "--json")
    (tmp_path / "cases.csv").write_text(f"path,expected\n{real},{other}\n")
    wrong = wildrf("cases", run_folder, tmp_path)

    assert right.code == 0
    assert json.loads(right.out)["right"] == 1
    assert wrong.code == 1
    assert f"expected {other}, found {verdict}" in wrong.err


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        ({}, "found fake (0.8808)"),
        ({"threshold": 1.5}, "found fake (0.8808) by the calibrated threshold, logit 1.500"),
        (
            {"threshold": 1.5, "band": [1.0, 1.8], "verdict": "fake"},
            "found fake (0.8808) by the calibrated band: real below logit 1.000, fake above 1.800",
        ),
    ],
)
def test_a_case_says_what_decided_it(decided, words):
    row = {"path": "a.png", "expected": "real", "note": "", "right": False, "verdict": "fake",
           "score": 0.8808, "logit": 2.0, "threshold": 0.0, **decided}  # fmt: skip

    told = cases.lines({"right": 0, "n": 1, "table": "t", "cases": [row], "changed": []})

    assert told[1].endswith(words)


def test_an_epoch_without_a_step_is_told_without_a_loss():
    val = {"acc": 0.5, "auc": None, "n": 8}
    report = EpochReport(2, None, 0.7, val, 1e-4, False, True, 3.0, 0.0)

    assert say_epoch(report) == "epoch 2: train loss -, val accuracy 0.500 (n=8), 3 s"
    assert "train loss 0.7000" in say_epoch(replace(report, loss=0.7))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "export-onnx {tmp}/no.pt --out {tmp}/a.onnx",
            "no.pt does not exist; expected a checkpoint",
        ),
        ("export-onnx {tmp}/odd.pt --out {tmp}/a.onnx", "odd.pt cannot be read safely"),
        ("export-onnx {run} --out {set}", "is a folder"),
        ("parity {run} {tmp}/odd.onnx {set}", "odd.onnx is not a readable ONNX file"),
        ("parity {run} {tmp}/no.onnx {set}", "no.onnx cannot be read"),
        ("parity {run} {run}/one.onnx", "no image is named"),
        ("parity {run} {tmp}/nowhere", "nowhere does not exist"),
        ("parity {run} {set} --device nonsense", "device 'nonsense' is unknown"),
        ("parity {tmp}/odd.pt {set}", "odd.pt cannot be read safely"),
        ("predict {tmp}/odd.onnx {set}", "odd.onnx is not a readable ONNX file"),
        ("predict {run}/one.onnx {set} --device cuda", "device cuda is not for ONNX files"),
        ("cases {run} {tmp}/none", "has no cases; expected cases.csv or cases.toml"),
        ("cases {tmp}/no.pt {set}", "no.pt does not exist"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    exported, run_folder, pictures, wildrf, tmp_path, words, said
):
    (tmp_path / "odd.pt").write_bytes(b"odd")
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    places = {"tmp": tmp_path, "run": run_folder, "set": pictures}

    answer = wildrf(*(word.format(**places) for word in words.split()))

    assert answer.code == 2
    lines = [line for line in answer.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert answer.out == ""


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_one_line_that_says_what_brings_it(
    run_folder, wildrf, tmp_path, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)

    answer = wildrf("export-onnx", run_folder, "--out", tmp_path / "a.onnx")

    assert answer.code == 2
    assert "is not installed; expected it for ONNX files; pip install 'wildrf[onnx]'" in answer.err


def test_cases_lie_in_the_workspace_one_stands_in_or_names(
    run_folder, pictures, wildrf, tmp_path, monkeypatch
):
    workspace = create_workspace(tmp_path / "set").root
    (workspace / "cases").mkdir()
    real = sorted((pictures / "val/0_real").iterdir())[0]
    (workspace / "cases/cases.csv").write_text(f"path,expected\n{real},real\n")
    (workspace / "runs").mkdir()

    named = wildrf("cases", run_folder, "--workspace", workspace, "--json")
    monkeypatch.chdir(workspace / "runs")
    inside = wildrf("cases", run_folder, "--json")
    monkeypatch.chdir(tmp_path)
    outside = wildrf("cases", run_folder)

    assert json.loads(named.out)["n"] == json.loads(inside.out)["n"] == 1
    assert outside.code == 2
    assert "cases has no cases" in outside.err


def test_a_training_sets_a_calibration_of_other_weights_aside_and_judges_its_cases(
    pictures, wildrf, tmp_path
):
    out = tmp_path / "run"
    stale = calibrate(
        np.repeat([0.0, 1.0], 20),
        np.repeat([0, 1], 20),
        checkpoint="0" * 64,
        preprocessing="",
        data={},
    )
    write_calibration(out / "checkpoint.calibration.json", stale)
    real = sorted((pictures / "val/0_real").iterdir())[0]
    (tmp_path / "cases.csv").write_text(f"path,expected\n{real},real\n")

    answer = wildrf(
        "train", pictures, "--detector", "tiny-ladeda", "--size", SIDE, "--crop", SIDE, "--batch", 4,
        "--epochs", 1, "--device", "cpu", "--cases", tmp_path, "--out", out, "--json",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert result["cases"]["n"] == 1
    assert result["old_calibration"] == f"{out}/checkpoint.calibration.json.old"
    assert sorted(path.name for path in out.glob("*calibration*")) == [
        "checkpoint.calibration.json.old"
    ]
