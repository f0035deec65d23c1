"""Score files as they are read back: what fits, what does not, and what must not be mixed up."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from train.artifacts import SCORES
from train.compare import compare
from train.scores import find_groups, read_manifest, read_scores

ROWS = [
    {
        "path": f"test/mean/{leaf}/{k}.png", "sha256": f"{label}{k}" * 32, "platform": "mean",
        "label": label, "group": None, "logit": label - 0.5 + k / 10, "score": 0.5,
    }
    for label, leaf in enumerate(("0_real", "1_fake"))
    for k in range(6)
]  # fmt: skip


def write(path, rows=ROWS, stamp=b"{}", schema=SCORES):
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table.replace_schema_metadata({b"wildrf": stamp}), path)
    return path


def test_scores_come_back_as_they_were_written(tmp_path):
    found = read_scores(write(tmp_path / "scores.parquet", stamp=b'{"data": {"n": 12}}'))

    assert found.paths == tuple(row["path"] for row in ROWS)
    assert found.labels.tolist() == [row["label"] for row in ROWS]
    assert found.logits.tolist() == [row["logit"] for row in ROWS]
    assert found.context == {"data": {"n": 12}}


def test_validation_scores_of_a_training_are_refused_with_the_command_to_run(tmp_path):
    stamp = json.dumps({"val_source": "val"}).encode()
    (tmp_path / "run").mkdir()
    write(tmp_path / "run/scores.parquet", stamp=stamp)

    with pytest.raises(InputError, match="validation scores that chose the checkpoint") as error:
        read_scores(tmp_path / "run")

    run = tmp_path / "run"
    assert f"wildrf evaluate {run} DIR --out {run / 'evaluation'}" in str(error.value)


def changed(**values):
    return [{**ROWS[0], **values}, *ROWS[1:]]


MALFORMED = {
    "no label": (changed(label=None), None, b"{}", "1 rows without label"),
    "label 2": (changed(label=2), None, b"{}", "label 2; expected 0"),
    "half a label": (
        changed(label=0.5), ("label", pa.float64()), b"{}",
        r"values in column label \(double\) that are no whole numbers",
    ),
    "text for logits": (
        [{**row, "logit": "high"} for row in ROWS], ("logit", pa.string()), b"{}",
        r"values in column logit \(string\) that are no numbers",
    ),
    "NaN": (changed(logit=float("nan")), None, b"{}", "1 scores that are missing, NaN"),
    "no platform": (changed(platform=None), None, b"{}", "1 rows without platform"),
    "stamp of text": (ROWS, None, b"made by hand", "metadata under wildrf that no run writes"),
    "stamp of a list": (ROWS, None, b"[1]", "metadata under wildrf that no run writes"),
    "odd checkpoint": (ROWS, None, b'{"checkpoint": "x"}', "metadata under wildrf that no run"),
    "odd skipped": (ROWS, None, b'{"skipped": [3]}', "metadata under wildrf that no run writes"),
    "odd bytes": (ROWS, None, b"\xff\xfe\x00", "metadata under wildrf that no run writes"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_score_file_is_one_clear_line(tmp_path, case):
    rows, other, stamp, words = MALFORMED[case]
    fields = [pa.field(f.name, f.type) for f in SCORES]
    if other is not None:
        fields = [pa.field(*other) if f.name == other[0] else f for f in fields]
    file = write(tmp_path / "s.parquet", rows, stamp, pa.schema(fields))

    with pytest.raises(InputError, match=words) as error:
        read_scores(file)

    assert "\n" not in str(error.value)


def test_a_manifest_of_others_is_read_as_far_as_it_fits_and_else_refused(tmp_path):
    rows = [{"path": "a.png", "post_id": 7, "votes": 3.0, "agreement": 1, "note": {"free": 1}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    assert read_manifest(tmp_path)["a.png"] == {
        "path": "a.png", "post_id": "7", "votes": 3, "agreement": 1.0, "note": {"free": 1},
    }  # fmt: skip
    assert find_groups(tmp_path, ["a.png"])[0] == ("post_id/:7",)

    pq.write_table(
        pa.Table.from_pylist([{"path": "a.png", "agreement": "most"}]),
        tmp_path / "manifest.parquet",
    )

    with pytest.raises(InputError, match=r"column agreement \(string\) that are no numbers"):
        read_manifest(tmp_path)


def test_a_platform_called_mean_is_not_taken_for_the_mean(tmp_path):
    rows = [{**row, "sha256": f"x{row['sha256']}", "platform": "x"} for row in ROWS]
    run = read_scores(write(tmp_path / "s.parquet", [*ROWS, *rows]))
    worse = run.take(np.arange(len(run)).tolist())

    parts = compare({"a": run, "b": worse}, draws=100)["comparisons"][0]["parts"]

    assert list(parts) == ["mean (folder)", "x", "mean"]
