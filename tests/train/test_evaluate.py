"""Evaluation, prediction and explanation of one checkpoint."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.errors import CheckpointError, InputError
from schemas.policy import TrainPolicy
from train.checkpoint import load_detector
from train.evaluate import evaluate
from train.explain import explain, patch_map, spread
from train.metrics import average_precision
from train.predict import predict, sigmoid
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


def test_classes_nested_under_a_generator_are_one_platform(checkpoint, picture_set, tmp_path):
    shutil.copytree(picture_set / "test/reddit", tmp_path / "test/progan/car")
    shutil.copytree(picture_set / "test/twitter", tmp_path / "test/progan/cat")

    found = evaluate(checkpoint, tmp_path, draws=10)

    assert found["platforms"]["progan"]["n"] == 24


def test_corrupt_test_images_are_listed_and_one_class_gives_none(checkpoint, picture_set, tmp_path):
    shutil.copytree(picture_set / "test/reddit/1_fake", tmp_path / "test/x/1_fake")
    (tmp_path / "test/x/1_fake/broken.png").write_bytes(b"broken")

    found = evaluate(checkpoint, tmp_path, draws=10)

    assert [row["path"] for row in found["skipped"]] == ["test/x/1_fake/broken.png"]
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


def test_an_empty_folder_is_refused_and_no_paths_give_no_rows(checkpoint, tmp_path):
    with pytest.raises(InputError, match="holds no image file"):
        list(predict(checkpoint, [tmp_path]))

    assert list(predict(checkpoint, [])) == []


def test_sigmoid_does_not_overflow():
    assert (sigmoid(-1e4), sigmoid(0.0), sigmoid(1e4)) == (0.0, 0.5, 1.0)


def test_the_map_averages_to_the_logit_and_the_overlay_keeps_the_shape(
    checkpoint, picture_set, tmp_path
):
    loaded = load_detector(checkpoint)
    path = tmp_path / "wide.png"
    source = sorted((picture_set / "test/reddit/1_fake").iterdir())[0]
    Image.open(source).resize((150, 60)).save(path)

    explained = explain(loaded, path)
    (row,) = predict(checkpoint, [path])

    assert explained.logit == pytest.approx(row["logit"], abs=1e-4)
    assert explained.overlay.height == 60
    assert explained.overlay.width > 150
    shown = Image.open(io.BytesIO(explained.png()))
    assert shown.format == "PNG"
    assert shown.size == explained.overlay.size


def test_an_overlay_is_upright_and_a_rectangular_picture_has_a_rectangular_map(
    checkpoint, tmp_path
):
    loaded = load_detector(checkpoint)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 40), (90, 120, 60)).save(tmp_path / "turned.jpg", exif=exif)

    assert explain(loaded, tmp_path / "turned.jpg").overlay.height == 90
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    assert patch_map(loaded, pixels).shape == (30, 46)
    assert patch_map(loaded, Image.new("L", (30, 50))).shape == (30, 30)


def test_a_hot_patch_is_drawn_where_it_lies(checkpoint):
    loaded = load_detector(checkpoint)  # 64 px, field 5, stride 2: 30 cells
    patches = np.zeros((30, 30), dtype=np.float32)
    patches[10, 20] = 1.0

    drawn = spread(patches, (128, 64), loaded)

    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    assert drawn.shape == (64, 128)
    assert y == 10 * 2 + 2
    assert x in (2 * (20 * 2 + 2), 2 * (20 * 2 + 2) + 1)


def test_red_is_fake_and_blue_is_real(checkpoint):
    from train.explain import colour

    colours, alpha = colour(np.array([[5.0, -5.0, 0.0]], dtype=np.float32), 5.0)

    assert colours[0, 0, 0] > colours[0, 0, 2]
    assert colours[0, 1, 2] > colours[0, 1, 0]
    assert alpha[0, 2] == 0
    assert alpha[0, 0] == alpha[0, 1] > 0.5


def test_a_file_that_does_not_decode_cannot_be_explained(checkpoint, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")

    with pytest.raises(InputError, match="does not decode"):
        explain(load_detector(checkpoint), tmp_path / "a.png")
