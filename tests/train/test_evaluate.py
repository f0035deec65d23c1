"""Evaluation, prediction and explanation of one checkpoint."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from schemas.errors import CheckpointError, InputError
from schemas.policy import TrainPolicy
from train.calibration import calibration_path, read_calibration
from train.checkpoint import load_detector, to_bytes
from train.data import find_images
from train.evaluate import Known, calibrate_checkpoint, choose_validation, evaluate, evaluate_scores
from train.explain import colour, look, overlay, score_of
from train.measure import Leaks, told_over
from train.metrics import average_precision
from train.predict import predict, sigmoid
from train.reencode import CommonFormat, common_size, reencode
from train.scores import read_scores
from train.training import train_detector


@pytest.fixture(scope="module")
def checkpoint(picture_set, tmp_path_factory):
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=15, representation="NPR",
        learning_rate=1e-2, workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    return train_detector(picture_set, tmp_path_factory.mktemp("run"), recipe).checkpoint


def test_every_platform_is_reported_with_n_and_interval_and_then_the_mean(
    checkpoint, picture_set, tmp_path
):
    seen = []
    found = evaluate(
        checkpoint, picture_set, out=tmp_path, draws=50, on_image=lambda *n: seen.append(n)
    )

    assert list(found["platforms"]) == ["reddit", "twitter"]
    for one in found["platforms"].values():
        assert {
            "n", "n_real", "n_fake", "n_groups", "acc", "balanced_acc", "ap", "auc", "tpr_at_fpr",
            "eer", "brier", "ece", "acc_calibrated", "ci",
        } <= set(one)  # fmt: skip
        assert (one["n"], one["n_real"], one["n_fake"]) == (12, 6, 6)
        assert set(one["tpr_at_fpr"]) == {"0.01", "0.05"}
        assert all(
            one["ci"][k][0] <= one[k] + 1e-9 and one[k] <= one["ci"][k][1] + 1e-9
            for k in ("acc", "balanced_acc", "ap", "auc", "eer", "brier", "ece")
        )
        assert one["auc"] > 0.9
    for key in ("acc", "ap", "auc"):
        want = np.mean([one[key] for one in found["platforms"].values()])
        assert found["mean"][key] == pytest.approx(want)
    assert found["skipped"] == []
    assert found["preprocessing"]["source"] == "checkpoint"
    assert found["checkpoint"]["detector"] == "tiny-ladeda"
    assert seen[-1] == (24, 24)
    assert json.loads((tmp_path / "metrics.json").read_text())["platforms"] == found["platforms"]


def test_scores_file_gives_the_reported_metrics_again(checkpoint, picture_set, tmp_path):
    found = evaluate(checkpoint, picture_set, out=tmp_path, draws=10)

    table = pq.read_table(tmp_path / "scores.parquet")
    rows = [r for r in table.to_pylist() if r["platform"] == "reddit"]
    got = average_precision(
        np.array([r["logit"] for r in rows]), np.array([r["label"] for r in rows])
    )

    context = json.loads(table.schema.metadata[b"wildrf"])
    assert got == pytest.approx(found["platforms"]["reddit"]["ap"])
    assert all(len(r["sha256"]) == 64 for r in rows)
    assert context["checkpoint"]["sha256"] == found["checkpoint"]["sha256"]


def test_batch_and_workers_do_not_change_the_figures(checkpoint, picture_set):
    one = evaluate(checkpoint, picture_set, draws=10, batch=1, workers=1)
    many = evaluate(checkpoint, picture_set, draws=10, batch=64, workers=8)

    assert leaves(one["platforms"]) == pytest.approx(leaves(many["platforms"]), abs=1e-6)


def leaves(value, name=""):
    """Every number of a nested result, by its path."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in leaves(one, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {k: v for n, one in enumerate(value) for k, v in leaves(one, f"{name}/{n}").items()}
    return {name: value}


def test_without_a_test_split_everything_is_evaluated_by_platform(
    checkpoint, picture_set, tmp_path
):
    shutil.copytree(picture_set / "test/reddit", tmp_path / "flat")
    shutil.copytree(picture_set / "test", tmp_path / "deep")

    flat = evaluate(checkpoint, tmp_path / "flat", draws=10)
    deep = evaluate(checkpoint, tmp_path / "deep", draws=10)

    assert list(flat["platforms"]) == ["all"]
    assert list(deep["platforms"]) == ["reddit", "twitter"]


def test_a_set_without_test_is_judged_on_val_which_is_said_and_never_on_train(
    checkpoint, picture_set, tmp_path
):
    for part in ("train", "val"):
        shutil.copytree(picture_set / part, tmp_path / part)

    found = evaluate(checkpoint, tmp_path, out=tmp_path / "out", draws=10)

    assert found["data"]["n"] == 12
    assert found["data"]["split"] == "val"
    assert found["data"]["splits"] == {"train": 24, "val": 12}
    kept = pq.read_table(tmp_path / "out/scores.parquet")["path"].to_pylist()
    assert all(path.startswith("val/") for path in kept)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(InputError, match="24 images under train and none to judge on"):
        evaluate(checkpoint, tmp_path, draws=10)


def test_a_checkpoint_that_gives_no_number_is_refused_and_not_judged_without_those_images(
    checkpoint, picture_set, tmp_path
):
    broken = torch.load(checkpoint, weights_only=True)
    for tensor in broken["weights"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    (tmp_path / "nan.pt").write_bytes(to_bytes(broken))

    with pytest.raises(CheckpointError, match=r"nan\.pt gives test/reddit/0_real/.* no number"):
        evaluate(tmp_path / "nan.pt", picture_set, draws=10)


def test_classes_nested_under_a_generator_are_one_platform(checkpoint, picture_set, tmp_path):
    shutil.copytree(picture_set / "test/reddit", tmp_path / "test/progan/car")
    shutil.copytree(picture_set / "test/twitter", tmp_path / "test/progan/cat")

    found = evaluate(checkpoint, tmp_path, draws=10)

    assert found["platforms"]["progan"]["n"] == 24


def test_scores_of_every_run_name_checkpoint_preprocessing_and_code(
    checkpoint, picture_set, tmp_path
):
    found = evaluate(checkpoint, picture_set, out=tmp_path, draws=10)

    table = pq.read_table(tmp_path / "scores.parquet")
    context = json.loads(table.schema.metadata[b"wildrf"])
    assert table.column_names == [
        "path", "sha256", "platform", "label", "group", "logit", "score"
    ]  # fmt: skip
    assert context["preprocessing"]["digest"] == load_detector(checkpoint).preprocessing.digest
    assert context["versions"]["torch"]
    assert context["data"] == found["data"]
    for row in table.to_pylist():
        assert row["score"] == pytest.approx(sigmoid(row["logit"]))


def test_images_of_one_author_or_group_in_the_manifest_are_drawn_together(
    checkpoint, picture_set, tmp_path
):
    root = tmp_path / "set"
    shutil.copytree(picture_set / "test", root / "test")
    paths = [item.path for item in find_images(root)]
    rows = [  # the last two of the six in a folder are of one author
        {"path": path, "author": f"a{k - (k % 6 == 5)}", "group_id": f"g{k}", "platform": "reddit"}
        for k, path in enumerate(paths)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")

    found = evaluate(checkpoint, root, draws=10)

    assert found["groups"]["n"] == 20
    assert found["groups"]["source"] == "manifest columns group_id, author"
    one = [{**row, "author": "a0"} for row in rows]
    pq.write_table(pa.Table.from_pylist(one), root / "manifest.parquet")
    by_picture = evaluate(checkpoint, root, draws=10)["groups"]
    assert by_picture["n"] == 24
    assert "too few authors to be groups" in by_picture["source"]
    alone = evaluate(checkpoint, picture_set, draws=10)["groups"]
    assert (alone["n"], alone["source"]) == (24, "one image, one group")


@pytest.fixture
def calibrated(checkpoint, tmp_path):
    """A copy of the checkpoint that a test may calibrate."""
    copy = tmp_path / "own" / "checkpoint.pt"
    copy.parent.mkdir()
    shutil.copy(checkpoint, copy)
    return copy


def test_a_calibration_beside_the_checkpoint_is_used_and_one_of_other_weights_refused(
    calibrated, larger_set, picture_set
):
    before = evaluate(calibrated, picture_set, draws=10)

    made, place = calibrate_checkpoint(calibrated, larger_set, rates=[0.05])
    after = evaluate(calibrated, picture_set, draws=10)

    assert place == calibration_path(calibrated)
    assert read_calibration(place, load_detector(calibrated).digest) == made
    assert before["platforms"]["reddit"]["acc_calibrated"] is None
    assert after["platforms"]["reddit"]["acc_calibrated"] is not None
    assert after["platforms"]["reddit"]["ap"] == before["platforms"]["reddit"]["ap"]
    assert after["calibration"]["temperature"] == made.temperature
    place.write_text(place.read_text().replace(made.checkpoint, "e" * 64))
    with pytest.raises(CheckpointError, match="is of checkpoint eeeeeeeeeeee"):
        evaluate(calibrated, picture_set, draws=10)


def test_evaluating_on_the_images_of_the_calibration_is_refused(calibrated, larger_set):
    calibrate_checkpoint(calibrated, larger_set, rates=[0.05])

    with pytest.raises(CheckpointError, match="made on 40 of the 40 images to be evaluated"):
        evaluate(calibrated, larger_set, draws=10)


def test_images_that_set_the_threshold_are_counted_and_many_of_them_refused(
    calibrated, larger_set, picture_set, tmp_path
):
    calibrate_checkpoint(calibrated, larger_set, rates=[0.05])
    root = tmp_path / "set"
    shutil.copytree(picture_set / "test", root / "test")
    copied, place = sorted((larger_set / "faces/0_real").iterdir()), root / "test/reddit/0_real"

    clean = evaluate(calibrated, root, draws=10)
    shutil.copy(copied[0], place / "other-name.png")
    few = evaluate(calibrated, root, draws=10)
    for file in copied[1:4]:
        shutil.copy(file, place)

    assert (clean["calibrated_on"], few["calibrated_on"]) == (0, 1)
    assert "seen" not in few["calibration"]
    with pytest.raises(CheckpointError, match="made on 4 of the 28 images to be evaluated"):
        evaluate(calibrated, root, draws=10)


def test_a_calibration_takes_val_or_what_stood_in_for_it_and_never_test(picture_set, tmp_path):
    shutil.copytree(picture_set / "test", tmp_path / "tested/test")
    shutil.copytree(picture_set / "train", tmp_path / "trained/train")

    val, source = choose_validation(picture_set, find_images(picture_set))
    carved, words = choose_validation(tmp_path / "trained", find_images(tmp_path / "trained"))

    assert {item.path.split("/")[0] for item in val} == {"val"}
    assert source == "val"
    assert 0 < len(carved) < 24
    assert "of train" in words
    with pytest.raises(InputError, match="holds test images only"):
        choose_validation(tmp_path / "tested", find_images(tmp_path / "tested"))


def test_re_encoding_is_the_same_for_both_classes_and_touches_no_file(
    checkpoint, picture_set, tmp_path
):
    before = {p: p.read_bytes() for p in picture_set.rglob("*.png")}

    found = evaluate(checkpoint, picture_set, draws=50, reencoded=True)

    assert found["rescored"]["platforms"]["reddit"]["n"] == 12
    assert found["rescored"]["gap"]["auc"]["ci"] is not None
    assert "shorter side 64 px, JPEG quality 90" in found["rescored"]["how"]
    assert {p: p.read_bytes() for p in picture_set.rglob("*.png")} == before
    assert evaluate(checkpoint, picture_set, draws=10)["rescored"] is None


def test_a_detector_of_the_format_alone_is_exposed_by_re_encoding():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (90, 130, 3), dtype=np.uint8))
    small = picture.resize((40, 30))

    found = [reencode(one, CommonFormat(64)) for one in (picture, small)]

    assert [one.format for one in found] == ["JPEG", "JPEG"]
    assert [min(one.size) for one in found] == [64, 64]
    assert found[0].size == (92, 64)
    assert found[0].quantization == found[1].quantization


def test_a_picture_too_long_for_the_common_format_is_told_and_left_out_of_both_sides(
    checkpoint, picture_set, tmp_path
):
    root = tmp_path / "set"
    shutil.copytree(picture_set / "test", root / "test")
    Image.new("RGB", (1, 1100), (9, 99, 9)).save(root / "test/reddit/1_fake/long.png")

    found = evaluate(checkpoint, root, draws=50, reencoded=True)
    without = evaluate(checkpoint, picture_set, draws=50, reencoded=True)

    (skipped,) = found["rescored"]["not_rescored"]
    assert skipped["path"] == "test/reddit/1_fake/long.png"
    assert skipped["reason"].startswith("64 x 70400 pixels are more than the 65500")
    assert (found["skipped"], found["skipped_by"]) == ([], {})
    assert told_over(found["rescored"], 2).startswith(
        ", without 1 image, such as test/reddit/1_fake"
    )
    assert found["platforms"]["reddit"]["n"] == 13
    assert found["rescored"]["platforms"]["reddit"]["n"] == 12
    for key in ("acc", "ap", "auc"):
        gap, want = (one["rescored"]["gap"][key] for one in (found, without))
        assert gap["difference"] == pytest.approx(want["difference"])


def test_a_picture_without_a_common_format_still_stands_in_comparisons(
    checkpoint, picture_set, tmp_path
):
    root = tmp_path / "set"
    shutil.copytree(picture_set / "test", root / "test")
    Image.new("RGB", (1, 1100), (9, 99, 9)).save(root / "test/reddit/1_fake/long.png")

    evaluate(checkpoint, root, out=tmp_path / "out", draws=20, reencoded=True)

    scored = read_scores(tmp_path / "out")
    assert "test/reddit/1_fake/long.png" in scored.paths
    assert scored.skipped == frozenset()


def test_what_no_jpeg_can_hold_is_known_before_it_is_made():
    common = CommonFormat(256)

    assert common_size((2, 510), common) == (256, 65_280)
    assert common_size((4000, 3000), common) == (341, 256)
    for size in ((1, 256), (257, 1), (1, 65_500)):
        with pytest.raises(ValueError, match="more than the 65500 a side of a JPEG"):
            common_size(size, common)
    with pytest.raises(ValueError, match="over the limit"):
        common_size((60_000, 30_000), CommonFormat(30_000))


def test_known_leaks_are_left_out_in_a_second_column(checkpoint, picture_set):
    leaked = "test/reddit/0_real/test-reddit-0-0.png"
    known = Known(leaks_of=lambda scored, told: Leaks({leaked: "same-bytes"}, "by hand", "train"))

    found = evaluate(checkpoint, picture_set, draws=20, known=known)

    assert found["leaks"]["n"] == 1
    assert found["leaks"]["images"] == [{"path": leaked, "kind": "same-bytes"}]
    assert found["leaks"]["without"]["platforms"]["reddit"]["n"] == 11
    assert found["leaks"]["without"]["platforms"]["twitter"]["n"] == 12


def foreign(picture_set, value=lambda item: 0.9 if item.label else 0.1, key="path"):
    items = [item for item in find_images(picture_set) if item.split == "test"]
    return [
        {
            "path": item.path,
            "sha256": hashlib.sha256((picture_set / item.path).read_bytes()).hexdigest(),
            "score": value(item),
        }
        for item in items
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("key", ["path", "sha256"])
def test_scores_of_another_detector_are_evaluated_like_our_own(
    checkpoint, picture_set, tmp_path, suffix, key
):
    own = evaluate(checkpoint, picture_set, out=tmp_path / "own", draws=20)
    table = pq.read_table(tmp_path / "own/scores.parquet").select([key, "score"])
    file = tmp_path / f"theirs.{suffix}"
    pq.write_table(table, file) if suffix == "parquet" else pacsv.write_csv(table, file)

    found = evaluate_scores(file, picture_set, out=tmp_path / "theirs", draws=20)

    assert leaves(found["platforms"]) == pytest.approx(leaves(own["platforms"]), abs=1e-6)
    assert found["preprocessing"]["digest"] is None
    assert "another detector" in found["checkpoint"]["detector"]
    assert (tmp_path / "theirs/scores.parquet").is_file()


def test_an_image_that_nobody_can_open_needs_no_score_and_is_listed(picture_set, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(picture_set / "test", root / "test")
    rows = foreign(root)
    (root / "test/reddit/0_real/broken.png").write_bytes(b"broken")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "s.parquet")

    found = evaluate_scores(tmp_path / "s.parquet", root, draws=10)

    assert [row["path"] for row in found["skipped"]] == ["test/reddit/0_real/broken.png"]
    assert found["platforms"]["reddit"]["n"] == 12


def test_groups_of_a_score_file_are_drawn_together(picture_set, tmp_path):
    rows = [{**row, "group": f"g{k // 4}"} for k, row in enumerate(foreign(picture_set))]
    pacsv.write_csv(pa.Table.from_pylist(rows), tmp_path / "s.csv")

    found = evaluate_scores(tmp_path / "s.csv", picture_set, draws=10)

    assert found["groups"]["n"] == 6
    assert found["groups"]["source"] == "column group of s.csv"


def test_an_empty_group_of_a_score_file_ties_nothing(picture_set, tmp_path):
    rows = [{**row, "group": "g" if k < 4 else ""} for k, row in enumerate(foreign(picture_set))]
    pacsv.write_csv(pa.Table.from_pylist(rows), tmp_path / "s.csv")

    found = evaluate_scores(tmp_path / "s.csv", picture_set, draws=10)

    assert found["groups"]["n"] == 1 + 20


SPOILED = {
    "missing": (lambda rows: rows[1:], "has no score for 1 of 24 images"),
    "double": (lambda rows: [*rows, rows[0]], "has 2 rows for"),
    "unknown": (
        lambda rows: [*rows, {**rows[0], "path": "no.png"}],
        "1 rows of images that are not",
    ),
    "nan": (
        lambda rows: [{**rows[0], "score": float("nan")}, *rows[1:]],
        "1 scores that are missing",
    ),
    "none": (lambda rows: [{**rows[0], "score": None}, *rows[1:]], "1 scores that are missing"),
    "text": (lambda rows: [{**r, "score": "high"} for r in rows], "no numbers; expected numbers"),
    "percent": (
        lambda rows: [{**r, "score": 100 * r["score"]} for r in rows],
        "scores from 10 to 90; expected P.fake. from 0 to 1; divide percent by 100",
    ),
    "no score": (lambda rows: [{"path": r["path"]} for r in rows], "expected logit or score"),
    "no key": (lambda rows: [{"score": r["score"]} for r in rows], "expected path or sha256"),
    "empty": (lambda rows: [], "has no row|expected path or sha256"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_scores_that_do_not_fit_the_images_are_one_clear_line(picture_set, tmp_path, case):
    spoil, words = SPOILED[case]
    file = tmp_path / "s.parquet"
    rows = spoil([{k: r[k] for k in ("path", "score")} for r in foreign(picture_set)])
    pq.write_table(pa.Table.from_pylist(rows), file)

    with pytest.raises(InputError, match=words) as error:
        evaluate_scores(file, picture_set, draws=10)

    assert "\n" not in str(error.value)


def test_scores_beyond_zero_and_one_are_logits_and_certain_ones_are_kept(picture_set, tmp_path):
    file = tmp_path / "s.parquet"
    certain = foreign(picture_set, lambda item: float(item.label))
    pq.write_table(pa.Table.from_pylist(certain), file)
    sure = evaluate_scores(file, picture_set, draws=10)
    pq.write_table(
        pa.Table.from_pylist(foreign(picture_set, lambda item: 3.0 if item.label else -0.5)), file
    )
    wide = evaluate_scores(file, picture_set, draws=10)

    assert "P(fake)" in sure["checkpoint"]["detector"]
    assert "logit, fake above 0" in wide["checkpoint"]["detector"]
    assert wide["checkpoint"]["scores"] == "score: logit, fake above 0"
    assert sure["platforms"]["reddit"]["acc"] == wide["platforms"]["reddit"]["acc"] == 1.0


@pytest.mark.parametrize("name", ["s.csv", "s.parquet", "no.csv"])
def test_a_file_that_is_no_table_is_one_clear_line(picture_set, tmp_path, name):
    if name != "no.csv":
        (tmp_path / name).write_bytes(b"\xff\xfe\x00nothing")

    with pytest.raises(InputError, match=r"cannot be read as|has columns"):
        evaluate_scores(tmp_path / name, picture_set, draws=10)


def test_corrupt_test_images_are_listed_and_one_class_gives_none(checkpoint, picture_set, tmp_path):
    shutil.copytree(picture_set / "test/reddit/1_fake", tmp_path / "test/x/1_fake")
    (tmp_path / "test/x/1_fake/broken.png").write_bytes(b"broken")

    found = evaluate(checkpoint, tmp_path, draws=10)

    assert [row["path"] for row in found["skipped"]] == ["test/x/1_fake/broken.png"]
    assert found["skipped_by"] == {"x": {"real": 0, "fake": 1}}
    assert found["platforms"]["x"]["ap"] is None
    assert found["mean"]["ap"] is None
    assert found["platforms"]["x"]["acc"] is not None
    json.dumps(found, allow_nan=False)


def test_only_corrupt_images_are_refused(checkpoint, tmp_path):
    (tmp_path / "0_real").mkdir()
    (tmp_path / "0_real/a.png").write_bytes(b"x")

    with pytest.raises(InputError, match="none of 1 test images decodes"):
        evaluate(checkpoint, tmp_path)


def test_evaluation_refuses_a_preprocessing_it_was_not_trained_with(checkpoint, picture_set):
    other = replace(load_detector(checkpoint).preprocessing, size=256)

    with pytest.raises(CheckpointError, match=r"size 64 \(asked: 256\)"):
        evaluate(checkpoint, picture_set, expected=other)


def test_predictions_come_in_order_with_a_row_for_every_bad_file(checkpoint, picture_set, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    folder = picture_set / "test/reddit/1_fake"
    first = sorted(folder.iterdir())[0]

    rows = list(predict(checkpoint, [first, broken, tmp_path / "no.png", folder], batch=3))

    assert [r["path"] for r in rows] == [
        str(p) for p in [first, broken, tmp_path / "no.png", *sorted(folder.iterdir())]
    ]
    assert set(rows[0]) == {"path", "logit", "score"}
    assert rows[0] == rows[3]
    assert rows[0]["score"] == pytest.approx(1 / (1 + np.exp(-rows[0]["logit"])))
    assert set(rows[1]) == {"path", "error"}
    assert "No such file" in rows[2]["error"]


def test_a_prediction_by_a_calibrated_checkpoint_has_a_probability_and_a_verdict(
    calibrated, larger_set
):
    found, _ = calibrate_checkpoint(calibrated, larger_set, rates=[0.05])

    rows = list(predict(calibrated, [larger_set]))

    assert {row["verdict"] for row in rows} == {"real", "fake"}
    for row in rows:
        assert row["probability"] == pytest.approx(
            1 / (1 + np.exp(-row["logit"] / found.temperature))
        )
        assert (row["verdict"] == "fake") == (row["logit"] > found.threshold)


def test_an_empty_folder_is_refused_and_no_paths_give_no_rows(checkpoint, tmp_path):
    with pytest.raises(InputError, match="holds no image file"):
        list(predict(checkpoint, [tmp_path]))

    assert list(predict(checkpoint, [])) == []


def test_sigmoid_does_not_overflow():
    assert (sigmoid(-1e4), sigmoid(0.0), sigmoid(1e4)) == (0.0, 0.5, 1.0)


def test_the_map_averages_to_the_logit_of_predict_and_the_overlay_keeps_the_shape(
    checkpoint, picture_set, tmp_path
):
    loaded = load_detector(checkpoint)
    path = tmp_path / "wide.png"
    source = sorted((picture_set / "test/reddit/1_fake").iterdir())[0]
    picture = Image.open(source).convert("RGB").resize((150, 60))
    picture.save(path)
    (row,) = predict(checkpoint, [path])

    views = [look(loaded, picture, own_size=own_size) for own_size in (False, True)]

    assert views[0].patches.mean() == pytest.approx(row["logit"], abs=1e-4)
    for view in views:  # the score is of what is scored, whatever the map is of
        assert score_of(loaded, view) == pytest.approx(row["logit"], abs=1e-4)
        drawn = overlay(view, loaded, 1.0)
        assert drawn.height == 60
        assert drawn.width > 150


def test_red_is_fake_and_blue_is_real():
    colours, alpha = colour(np.array([[5.0, -5.0, 0.0]], dtype=np.float32), 5.0)

    assert colours[0, 0, 0] > colours[0, 0, 2]
    assert colours[0, 1, 2] > colours[0, 1, 0]
    assert alpha[0, 2] == 0
    assert alpha[0, 0] == alpha[0, 1] > 0.5
