"""A run: learns, repeats, resumes, keeps to its time, says what it did."""

import csv
import dataclasses
import json
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from schemas.errors import InputError
from schemas.policy import AugmentPolicy, TrainPolicy
from train import training
from train.cache import Keeping
from train.checkpoint import load_detector
from train.config import Compute, build_detector
from train.data import Source
from train.detectors import find_detector
from train.engine import Average, Losses, Plateau, Statistics, norm_momentum, set_norm_momentum
from train.predict import score_files
from train.training import train_detector
from train.transforms import Preprocessing


class Killed(Exception):
    pass


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]


def last_weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["weights"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def kill_after(epochs):
    def on_epoch(report):
        if report.epoch == epochs:
            raise Killed

    return on_epoch


def failing_clock(calls):
    """Stands still, and fails at the given call: a kill in the middle of an epoch."""
    counter = count()

    def clock():
        if next(counter) == calls:
            raise Killed
        return 0.0

    return clock


@pytest.fixture(scope="module")
def finished(picture_set, tmp_path_factory):
    """One uninterrupted run, and its result."""
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=3,
        learning_rate=1e-2, workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    return out, train_detector(picture_set, out, recipe)


def test_training_learns_to_see_upsampling(picture_set, recipe, tmp_path):
    longer = dataclasses.replace(recipe, epochs=15, representation="NPR")

    result = train_detector(picture_set, tmp_path, longer)

    assert result.val["auc"] > 0.9
    assert result.val["ci"]["auc"][0] > 0.5  # of six images a class, no more can be said


def test_two_runs_of_one_seed_are_bit_identical(picture_set, recipe, tmp_path, finished):
    train_detector(picture_set, tmp_path, recipe)

    assert (tmp_path / "checkpoint.pt").read_bytes() == (finished[0] / "checkpoint.pt").read_bytes()
    assert same(last_weights(tmp_path), last_weights(finished[0]))


def test_another_seed_gives_other_weights(picture_set, recipe, tmp_path, finished):
    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, seed=1))

    assert not same(weights(tmp_path), weights(finished[0]))


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_killed_between_epochs_ends_as_if_never_killed(
    picture_set, recipe, tmp_path, finished, epochs
):
    with pytest.raises(Killed):
        train_detector(picture_set, tmp_path, recipe, on_epoch=kill_after(epochs))

    result = train_detector(picture_set, tmp_path, recipe)

    assert same(last_weights(tmp_path), last_weights(finished[0]))
    assert (tmp_path / "checkpoint.pt").read_bytes() == (finished[0] / "checkpoint.pt").read_bytes()
    assert result.val == finished[1].val
    assert result.epochs == 3


@pytest.mark.parametrize("calls", [3, 11, 14])
def test_a_run_killed_within_an_epoch_ends_as_if_never_killed(
    picture_set, recipe, tmp_path, finished, calls
):
    timed = dataclasses.replace(recipe, max_minutes=1.0)
    with pytest.raises(Killed):
        train_detector(picture_set, tmp_path, timed, clock=failing_clock(calls))

    train_detector(picture_set, tmp_path, recipe)

    assert same(last_weights(tmp_path), last_weights(finished[0]))
    assert same(weights(tmp_path), weights(finished[0]))


def test_half_written_state_is_ignored(picture_set, recipe, tmp_path, finished):
    with pytest.raises(Killed):
        train_detector(picture_set, tmp_path, recipe, on_epoch=kill_after(1))
    (tmp_path / ".state.pt.part").write_bytes(b"half a state")

    train_detector(picture_set, tmp_path, recipe)

    assert same(weights(tmp_path), weights(finished[0]))


def test_a_finished_run_can_be_extended(picture_set, recipe, tmp_path, finished):
    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, epochs=1))

    result = train_detector(picture_set, tmp_path, recipe)

    assert result.epochs == 3
    assert same(last_weights(tmp_path), last_weights(finished[0]))


def test_the_folder_of_another_run_is_refused(picture_set, recipe, tmp_path):
    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, epochs=1))

    other = dataclasses.replace(recipe, learning_rate=1e-3, augment=AugmentPolicy(jpeg=0.5))
    with pytest.raises(
        InputError, match=r"holds another run.*name another folder, or remove"
    ) as caught:
        train_detector(picture_set, tmp_path, other)

    assert "train.augment.jpeg was 0.0 and is 0.5" in str(caught.value)
    assert "train.learning_rate was 0.01 and is 0.001" in str(caught.value)
    assert "train.crop" not in str(caught.value)


def no_decoding(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded although there is nothing to do")

    monkeypatch.setattr(training.data, "decode_all", refuse)


def test_another_recipe_is_refused_before_anything_is_decoded(
    picture_set, recipe, tmp_path, monkeypatch
):
    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, epochs=1))
    no_decoding(monkeypatch)

    with pytest.raises(InputError, match=r"train\.seed was 0 and is 1"):
        train_detector(picture_set, tmp_path, dataclasses.replace(recipe, seed=1))


def test_a_state_of_an_earlier_version_is_refused_in_one_line(picture_set, recipe, tmp_path):
    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, epochs=1))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["recipe"], state["seconds"]
    torch.save({**state, "key": "of another version"}, tmp_path / "state.pt")

    with pytest.raises(InputError, match=r"holds another run \(.*earlier version\)") as caught:
        train_detector(picture_set, tmp_path, recipe)

    assert "\n" not in str(caught.value)


def as_json(result):
    return json.loads(json.dumps(result.to_dict()))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_run_that_is_repeated_decodes_nothing_and_changes_nothing(
    picture_set, recipe, tmp_path, monkeypatch
):
    first = train_detector(picture_set, tmp_path, recipe)
    before, epochs = contents(tmp_path), []
    no_decoding(monkeypatch)

    again = train_detector(
        picture_set, tmp_path, dataclasses.replace(recipe, workers=1), on_epoch=epochs.append
    )

    assert as_json(again) == as_json(first)
    assert contents(tmp_path) == before
    assert not epochs


def test_a_repeated_run_does_not_tell_again_of_a_calibration_it_moved_before(
    picture_set, recipe, tmp_path
):
    (tmp_path / "checkpoint.calibration.json").write_text("{}")
    one = dataclasses.replace(recipe, epochs=1)

    first = train_detector(picture_set, tmp_path, one)
    again = train_detector(picture_set, tmp_path, one)

    assert first.old_calibration is not None
    assert again.old_calibration is None


@pytest.mark.parametrize("name", ["checkpoint.pt", "scores.parquet", "metrics.json", "state.pt"])
def test_what_is_missing_of_a_finished_run_is_made_again(
    picture_set, recipe, tmp_path, finished, name
):
    train_detector(picture_set, tmp_path, recipe)
    (tmp_path / name).unlink()

    train_detector(picture_set, tmp_path, recipe)

    assert (tmp_path / name).exists()
    assert same(weights(tmp_path), weights(finished[0]))


def test_a_finished_run_is_not_taken_for_one_on_other_pictures(picture_set, recipe, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    train_detector(root, tmp_path / "run", dataclasses.replace(recipe, epochs=1))
    next((root / "train/0_real").iterdir()).unlink()

    with pytest.raises(InputError, match=r"the same recipe, on other data"):
        train_detector(root, tmp_path / "run", dataclasses.replace(recipe, epochs=1))


def test_validation_logits_never_go_to_pictures_of_another_name(picture_set, recipe, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    with pytest.raises(Killed):
        train_detector(root, tmp_path / "run", recipe, on_epoch=kill_after(1))
    names = sorted((root / "val/0_real").iterdir())
    names[0].rename(names[0].with_name("z.png"))

    with pytest.raises(InputError, match="holds another run"):
        train_detector(root, tmp_path / "run", recipe)


def test_a_damaged_state_is_refused_in_one_line(picture_set, recipe, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"not a state")

    with pytest.raises(InputError, match=r"state\.pt") as caught:
        train_detector(picture_set, tmp_path, recipe)

    assert "\n" not in str(caught.value)


def test_time_that_runs_out_ends_the_run_with_a_checkpoint(picture_set, recipe, tmp_path, finished):
    ticks = count(0, 7)  # seconds: a few steps fit into a minute
    timed = dataclasses.replace(recipe, max_minutes=1.0)

    result = train_detector(picture_set, tmp_path, timed, clock=lambda: float(next(ticks)))
    assert result.stopped == "max_minutes 1 reached"
    assert load_detector(result.checkpoint).spec.name == "tiny-ladeda"

    train_detector(picture_set, tmp_path, recipe)
    assert same(last_weights(tmp_path), last_weights(finished[0]))


def test_seconds_are_those_of_all_calls(picture_set, recipe, tmp_path):
    """Two calls by a clock that moves, the second of which is out of time, and one by a clock that stands."""
    ticks = count()
    train_detector(
        picture_set,
        tmp_path,
        dataclasses.replace(recipe, epochs=1),
        clock=lambda: float(next(ticks)),
    )
    timed = dataclasses.replace(recipe, max_minutes=0.3)
    late = train_detector(picture_set, tmp_path, timed, clock=lambda: float(next(ticks)))
    gone = next(ticks)

    standing = train_detector(picture_set, tmp_path, recipe, clock=lambda: 0.0)

    assert late.stopped.startswith("max_minutes")
    assert gone - 5 <= late.seconds <= gone
    assert standing.stopped == "3 epochs done"
    assert gone - 8 <= standing.seconds <= late.seconds
    assert json.loads((tmp_path / "metrics.json").read_text())["seconds"] == standing.seconds


def test_the_run_folder_tells_what_was_done(finished):
    out, result = finished

    metrics = json.loads((out / "metrics.json").read_text())
    config = json.loads((out / "config.json").read_text())
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    scores = pq.read_table(out / "scores.parquet")

    assert metrics["val"] == result.val
    assert metrics["best_by"].startswith("val average precision")
    assert metrics["images"]["train"] == {"real": 12, "fake": 12}
    assert config["recipe"]["seed"] == 0
    assert config["parameters"] == 1297
    assert set(config["versions"]) == {"wildrf", "torch", "numpy", "pillow"}
    assert len(config["data"]["train"]) == 64
    assert Path(config["data"]["root"], "train").is_dir()
    assert [row["epoch"] for row in curve] == [1, 2, 3]
    assert all(row["run"] == config["run"][:16] for row in curve)
    assert scores.column_names == [
        "path", "sha256", "platform", "label", "group", "logit", "score"
    ]  # fmt: skip
    assert scores.num_rows == 12
    assert json.loads(scores.schema.metadata[b"wildrf"])["run"] == config["run"]
    assert result.to_dict()["checkpoint"].endswith("checkpoint.pt")
    json.dumps(result.to_dict(), allow_nan=False)


def test_epochs_are_reported_as_they_end(picture_set, recipe, tmp_path):
    seen = []

    train_detector(picture_set, tmp_path, recipe, on_epoch=seen.append)

    assert [r.epoch for r in seen] == [1, 2, 3]
    assert all(r.val["n"] == 12 and not r.partial for r in seen)
    assert seen[0].best


def test_a_corrupt_image_is_counted_and_the_run_goes_on(recipe, tmp_path, picture_set):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    (root / "train/1_fake/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")

    result = train_detector(root, tmp_path / "run", dataclasses.replace(recipe, epochs=1))

    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [s.path for s in result.skipped] == ["train/1_fake/broken.jpg"]
    assert metrics["skipped"][0]["reason"].startswith("does not decode")
    assert metrics["skipped_count"] == 1


def test_a_class_of_undecodable_files_is_refused(recipe, tmp_path, picture_set):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    for path in (root / "val/0_real").iterdir():
        path.write_bytes(b"gone")

    with pytest.raises(InputError, match="no usable image in val/0_real"):
        train_detector(root, tmp_path / "run", recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "resnet"}, "expected one of ladeda5"),
        ({"crop": 65}, "train.crop is 65"),
        ({"crop": 4}, "train.crop is 4"),
        ({"batch": 1, "crop": 6}, "train.batch is 1 and train.crop 6 holds one patch"),
        ({"learning_rate": 0.0}, "train.learning_rate is 0.0"),
        ({"representation": "sobel"}, "train.representation is 'sobel'"),
        ({"device": "cuda:9"}, "device cuda:9"),
        ({"device": "gpu"}, "train.device is 'gpu'"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(picture_set, recipe, tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        train_detector(picture_set, tmp_path, dataclasses.replace(recipe, **change))

    assert "\n" not in str(caught.value)


def test_pictures_can_be_learnt_one_at_a_time(picture_set, recipe, tmp_path):
    small = dataclasses.replace(recipe, batch=1, crop=7, epochs=1)  # 2 x 2 patches

    result = train_detector(picture_set, tmp_path, small)

    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert result.epochs == 1
    assert state["steps"] == 24


def test_a_loss_that_explodes_is_said_in_one_line(picture_set, recipe, tmp_path):
    wild = dataclasses.replace(recipe, learning_rate=1e30)

    with pytest.raises(InputError, match=r"no longer a finite number.*lower"):
        train_detector(picture_set, tmp_path, wild)


def test_the_learning_rate_falls_tenfold_after_five_epochs_without_a_rise():
    plateau = Plateau(2e-4).step(0.8, 5)
    for accuracy in (0.8, 0.8005, 0.79, 0.8):
        plateau = plateau.step(accuracy, 5)
        assert plateau.learning_rate == 2e-4

    assert plateau.step(0.8, 5).learning_rate == pytest.approx(2e-5)
    assert plateau.step(0.81, 5) == Plateau(2e-4, 0.81, 0)


def test_the_run_stops_when_the_learning_rate_is_used_up(picture_set, recipe, tmp_path):
    stubborn = dataclasses.replace(
        recipe, learning_rate=1e-5, min_learning_rate=1e-6, patience=1, epochs=50
    )

    result = train_detector(picture_set, tmp_path, stubborn)

    assert result.stopped == "learning rate fell below 1e-06"
    assert result.epochs < 20


def test_running_statistics_reach_the_papers_momentum():
    detector = torch.nn.Sequential(torch.nn.BatchNorm2d(3))

    momenta = []
    for step in (0, 10, 10_000_000, None):
        set_norm_momentum(detector, step)
        momenta.append(detector[0].momentum)

    assert momenta == [1.0, 0.5, 0.001, 0.001]


def test_validation_scores_are_those_of_the_checkpoint(picture_set, finished):
    from train.predict import predict

    out, _ = finished
    stored = pq.read_table(out / "scores.parquet").to_pylist()

    rows = list(predict(out / "checkpoint.pt", [picture_set / r["path"] for r in stored]))

    np.testing.assert_allclose([r["logit"] for r in rows], [r["logit"] for r in stored], atol=1e-5)


def test_statistics_moved_outside_are_those_that_batchnorm_moves_itself():
    torch.manual_seed(0)
    own, held = (torch.nn.Sequential(torch.nn.BatchNorm2d(3)) for _ in range(2))
    outside = Statistics(held)

    for number in range(30):
        batch = torch.randn(4, 3, 5, 5) * (1 + number)
        set_norm_momentum(own, number)
        own(batch), held(batch)
        outside.take_in(norm_momentum(number))

    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(held[0], name), getattr(own[0], name))
    assert own[0].running_var.max() > 100


def test_a_compiled_detector_is_not_compiled_again_at_each_step(
    picture_set, recipe, tmp_path, monkeypatch
):
    from torch._dynamo.utils import counters

    eager = torch.nn.Module.compile  # without a C compiler: what is guarded is the same
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: eager(self, backend="eager"))
    torch.compiler.reset()
    counters.clear()

    longer = dataclasses.replace(recipe, compile=True, epochs=5, average=0.9)
    compiled = train_detector(picture_set, tmp_path / "a", longer)
    plain = train_detector(picture_set, tmp_path / "b", dataclasses.replace(longer, compile=False))

    assert counters["stats"]["unique_graphs"] <= 2
    assert compiled.val["ap"] == pytest.approx(plain.val["ap"], abs=0.05)
    for name, value in weights(tmp_path / "a").items():
        torch.testing.assert_close(value, weights(tmp_path / "b")[name], rtol=1e-3, atol=1e-3)


def test_a_loss_read_late_is_counted_all_the_same_and_an_infinite_one_is_still_said():
    late, at_once = Losses(0, lag=4), Losses(0, lag=0)
    for value, images in ((1.0, 2), (3.0, 1), (0.5, 4)):
        late.add(torch.tensor(value), images)
        at_once.add(torch.tensor(value), images)
    assert late.mean() == at_once.mean() == pytest.approx(7 / 7)

    late.add(torch.tensor(float("inf")), 1)
    with pytest.raises(InputError, match="no longer a finite number"):
        late.mean()


EVERYTHING = {
    "augment": AugmentPolicy(resize=0.5, blur=0.3, noise=0.3, webp=0.3, jpeg=0.5),
    "windows": 2,
    "average": 0.9,
    "balance": "class",
    "pooling": "top25",
    "fit": "whole",
}


@pytest.fixture(scope="module")
def everything(odd_set, tmp_path_factory):
    """A run that uses all there is, never interrupted."""
    out = tmp_path_factory.mktemp("everything")
    return out, train_detector(odd_set, out, everything_recipe())


def everything_recipe(**changes):
    return TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=3, learning_rate=1e-2,
        device="cpu", precision="float32", **{"workers": 2, **EVERYTHING, **changes},
    )  # fmt: skip


def test_augmentation_sampling_averages_and_cache_leave_a_run_bit_identical(
    odd_set, tmp_path, everything
):
    for name in ("first", "second"):  # the second finds the pixels of the first
        train_detector(
            odd_set, tmp_path / name, everything_recipe(workers=3), cache=tmp_path / "cache"
        )
        assert same(last_weights(tmp_path / name), last_weights(everything[0]))
        assert same(weights(tmp_path / name), weights(everything[0]))
    assert len(list((tmp_path / "cache").glob(".*.npy"))) == 2


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_with_all_of_it_killed_and_resumed_ends_as_if_never_killed(
    odd_set, tmp_path, everything, epochs
):
    with pytest.raises(Killed):
        train_detector(odd_set, tmp_path, everything_recipe(), on_epoch=kill_after(epochs))

    train_detector(odd_set, tmp_path, everything_recipe())

    assert (tmp_path / "checkpoint.pt").read_bytes() == (
        everything[0] / "checkpoint.pt"
    ).read_bytes()
    assert (tmp_path / "state.pt").read_bytes()
    assert same(last_weights(tmp_path), last_weights(everything[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"augment": AugmentPolicy(jpeg=0.5)},
        {"windows": 1},
        {"average": 0.5},
        {"balance": "none"},
        {"pooling": "mean"},
    ],
)
def test_each_part_of_the_recipe_has_a_say_in_the_weights(odd_set, tmp_path, everything, change):
    train_detector(odd_set, tmp_path, everything_recipe(**change))

    assert not same(weights(tmp_path), weights(everything[0]))


def test_what_was_done_to_windows_is_recorded(everything):
    out, _ = everything
    config = json.loads((out / "config.json").read_text())
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((out / "curve.csv").read_text().splitlines()))

    assert config["recipe"]["augment"]["jpeg"] == 0.5
    assert config["recipe"]["augment"]["jpeg_quality"] == [50, 95]
    for row, line in zip(curve, table, strict=True):
        assert set(row["augmented"]) == {"resize", "blur", "noise", "webp", "jpeg", "mirror"}
        assert 5 < row["augmented"]["jpeg"] < 27  # of 32 windows
        assert int(line["windows_jpeg"]) == row["augmented"]["jpeg"]
        assert float(line["val_ap"]) == row["val"]["ap"]


def test_the_curve_is_on_disk_while_the_run_goes_on(picture_set, recipe, tmp_path):
    lines = []

    def look(report):
        lines.append((tmp_path / "curve.csv").read_text().count("\n"))

    train_detector(picture_set, tmp_path, recipe, on_epoch=look)

    assert lines == [2, 3, 4]


def test_averaged_weights_are_those_that_are_kept_and_scored(odd_set, everything):
    out, result = everything

    kept, trained = weights(out), last_weights(out)

    assert not same(kept, trained)
    assert result.val["n"] == 6
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    loaded = load_detector(out / "checkpoint.pt")
    compute = Compute(torch.device("cpu"))
    scored = score_files(loaded, [odd_set / r["path"] for r in rows], compute=compute)
    assert [s.logit for s in scored] == pytest.approx([r["logit"] for r in rows], abs=1e-5)


def test_the_average_of_weights_follows_its_formula():
    detector = build_detector(find_detector("tiny-ladeda"), Preprocessing(), "mean", seed=0)
    average = Average(detector, 0.9)
    want = detector.fc.weight.detach().clone().double()

    for number in range(200):
        with torch.no_grad():
            detector.fc.weight.fill_(float(number))
        average.update(number)
        decay = min(0.9, (1 + number) / (10 + number))
        want = decay * want + (1 - decay) * number

    np.testing.assert_allclose(average.detector.fc.weight.detach(), want, rtol=1e-5)


@pytest.fixture
def long_decoding(monkeypatch):
    """As if decoding had taken long."""
    monkeypatch.setattr(
        "train.training.keeping_in", lambda out, cache, recipe: Keeping(out, pays_s=0.0)
    )


def test_pixels_kept_for_a_run_stay_when_its_minutes_are_over(
    picture_set, recipe, tmp_path, long_decoding, monkeypatch
):
    ticks = count(0, 7)
    timed = dataclasses.replace(recipe, max_minutes=1.0)
    train_detector(picture_set, tmp_path, timed, clock=lambda: float(next(ticks)))
    assert len(list(tmp_path.glob(".*.pixels.*"))) == 4
    no_decoding(monkeypatch)

    result = train_detector(picture_set, tmp_path, recipe)

    assert result.stopped == "3 epochs done"
    assert not list(tmp_path.glob(".*.pixels.*"))


def test_pixels_kept_for_a_run_are_removed_when_it_is_finished(
    picture_set, recipe, tmp_path, long_decoding
):
    seen = []
    with pytest.raises(Killed):
        train_detector(picture_set, tmp_path, recipe, on_epoch=kill_after(1))
    seen += tmp_path.glob(".*.pixels.*")

    train_detector(picture_set, tmp_path, recipe)

    assert len(seen) == 4
    assert not list(tmp_path.glob(".*.pixels.*"))


class Told:
    """Progress that remembers."""

    def __init__(self):
        self.stages = []

    def start(self, what, total):
        self.stages.append([what, total, 0])

    def advance(self, items):
        self.stages[-1][2] += items


def test_progress_is_told_of_every_image(picture_set, recipe, tmp_path):
    told = Told()

    train_detector(picture_set, tmp_path, dataclasses.replace(recipe, windows=2), progress=told)

    assert told.stages == [
        ["reading", 36, 36],
        ["decoding val", 12, 12],
        ["decoding train", 24, 24],
        *([f"epoch {k}", 48, 48] for k in (1, 2, 3)),
    ]


def test_minutes_that_are_left_are_told_and_include_the_last_validation(
    picture_set, recipe, tmp_path, monkeypatch
):
    """A clock that a validation moves by 60 s and a look at it by 1 s: 4 epochs fit into 5 minutes."""
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    score = training.score_images

    def slow(*arguments):
        now[0] += 60.0
        return score(*arguments)

    monkeypatch.setattr(training, "score_images", slow)
    told = Told()
    timed = dataclasses.replace(recipe, max_minutes=5.0, epochs=1000)

    result = train_detector(picture_set, tmp_path, timed, progress=told, clock=clock)

    assert told.stages[3][0] == "epoch 1 (from minute 0.1 of 5)"
    assert result.stopped == "max_minutes 5 reached"
    assert 240 < result.seconds <= 303


def test_minutes_that_end_before_the_first_step_make_no_checkpoint(picture_set, recipe, tmp_path):
    timed = dataclasses.replace(recipe, max_minutes=1e-9)

    with pytest.raises(InputError, match=r"over before the first step.*raise --max-minutes"):
        train_detector(picture_set, tmp_path, timed)

    assert not (tmp_path / "checkpoint.pt").exists()


def test_an_epoch_that_ended_before_its_first_step_has_no_loss(picture_set, recipe, tmp_path):
    once = dataclasses.replace(recipe, epochs=1)
    train_detector(picture_set, tmp_path, once)
    before = weights(tmp_path)
    speed = json.loads((tmp_path / "metrics.json").read_text())["images_per_s"]
    seen = []

    over = dataclasses.replace(recipe, max_minutes=1e-9)
    result = train_detector(picture_set, tmp_path, over, on_epoch=seen.append)

    last = json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[-1])
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (last["epoch"], last["partial"], last["loss"]) == (2, True, None)
    assert float(rows[0]["loss"]) > 0
    assert rows[1]["loss"] == ""
    assert seen[-1].loss is None
    assert result.images_per_s == speed
    assert same(weights(tmp_path), before)


def test_a_mixed_set_is_recorded_root_by_root(picture_set, odd_set, recipe, tmp_path):
    sources = [Source(picture_set, 1.0), Source(odd_set, 0.5)]

    result = train_detector(sources, tmp_path / "a", dataclasses.replace(recipe, epochs=1))
    other = [Source(picture_set, 1.0), Source(odd_set, 2.0)]
    train_detector(other, tmp_path / "b", dataclasses.replace(recipe, epochs=1))

    config = json.loads((tmp_path / "a/config.json").read_text())
    assert result.images["train"] == {"real": 20, "fake": 20}
    assert result.val["n"] == 12
    assert [s["weight"] for s in config["data"]["sources"]] == [1.0, 0.5]
    assert config["data"]["sources"][1]["root"] == str(odd_set)
    checkpoint = torch.load(tmp_path / "a/checkpoint.pt", weights_only=True)
    assert checkpoint["data"]["sources"][0] == {"weight": 1.0, "manifest": None}
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is full")
@pytest.mark.parametrize("name", ["state.pt", "checkpoint.pt", "curve.csv", "metrics.json"])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(
    picture_set, recipe, tmp_path, finished, name
):
    (tmp_path / f".{name}.part").symlink_to("/dev/full")

    with pytest.raises(InputError, match=r"No space left on device.*make room") as caught:
        train_detector(picture_set, tmp_path, recipe)

    assert "\n" not in str(caught.value)
    train_detector(picture_set, tmp_path, recipe)
    assert same(weights(tmp_path), weights(finished[0]))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (AugmentPolicy(jpeg_quality=(90, 50)), r"train\.augment\.jpeg_quality is \[90, 50\]"),
        (AugmentPolicy(webp_quality=(0, 50)), r"webp_quality is \[0, 50\].*from 1 to 100"),
        (AugmentPolicy(resize_factor=(0.0, 1.0)), r"resize_factor is \[0, 1\]"),
        (AugmentPolicy(jpeg=1.5), r"train\.augment\.jpeg is 1\.5"),
    ],
)
def test_augmentation_that_cannot_be_done_is_named(picture_set, recipe, tmp_path, augment, message):
    with pytest.raises(InputError, match=message):
        train_detector(picture_set, tmp_path, dataclasses.replace(recipe, augment=augment))


def test_a_class_that_is_balanced_away_is_still_refused(recipe, tmp_path, picture_set):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    shutil.rmtree(root / "train/0_real")

    with pytest.raises(InputError, match="no usable image in train/0_real"):
        train_detector(root, tmp_path / "run", dataclasses.replace(recipe, balance="class"))


@pytest.mark.parametrize("factors", [(0.5, 1.5), (0.5, 0.8)])
def test_shrinking_that_leaves_no_window_is_refused(picture_set, recipe, tmp_path, factors):
    shrinking = AugmentPolicy(resize=0.5, resize_factor=factors)
    crop = 64 if factors[1] > 1 else 52  # 52 / 64 is above 0.8
    asked = dataclasses.replace(recipe, crop=crop, augment=shrinking)

    with pytest.raises(InputError, match=r"expected room to shrink; lower train\.crop"):
        train_detector(picture_set, tmp_path, asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_minutes": float("inf")}, r"train\.max_minutes is inf; expected minutes, or None"),
        ({"max_minutes": float("nan")}, r"train\.max_minutes is nan"),
        ({"cache_gib": float("inf")}, r"train\.cache_gib is inf.*finite"),
        ({"representation_scale": float("inf")}, r"train\.representation_scale is inf.*finite"),
        ({"learning_rate": float("nan")}, r"train\.learning_rate is nan.*finite"),
        ({"average": float("nan")}, r"train\.average is nan.*finite"),
        ({"augment": AugmentPolicy(noise_levels=(1, float("inf")))}, r"noise_levels.*inf.*finite"),
        ({"augment": AugmentPolicy(jpeg=float("nan"))}, r"augment\.jpeg is nan.*finite"),
    ],
)
def test_a_number_without_end_is_refused_before_anything_is_decoded(
    picture_set, recipe, tmp_path, change, message
):
    with pytest.raises(InputError, match=message):
        train_detector(picture_set, tmp_path / "run", dataclasses.replace(recipe, **change))

    assert not (tmp_path / "run").exists()


def test_targets_that_are_no_class_are_counted(picture_set, recipe, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    paths = sorted(str(p.relative_to(root)) for p in (root / "train").rglob("*.png"))
    rows = [{"path": p, "posterior": 0.3 if k < 10 else None} for k, p in enumerate(paths)]
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    short = dataclasses.replace(recipe, epochs=1)

    hard = train_detector(root, tmp_path / "hard", short)
    soft = train_detector(root, tmp_path / "soft", dataclasses.replace(short, labels="posterior"))

    assert (hard.soft_targets, soft.soft_targets) == (0, 10)
    assert json.loads((tmp_path / "soft/metrics.json").read_text())["soft_targets"] == 10


def test_the_record_finds_the_data_from_anywhere_and_the_checkpoint_is_the_same_wherever_it_lay(
    picture_set, recipe, tmp_path, monkeypatch
):
    short = dataclasses.replace(recipe, epochs=1)
    monkeypatch.chdir(picture_set.parent)

    train_detector(Path(picture_set.name), tmp_path / "a", short)
    train_detector(picture_set, tmp_path / "b", short)

    records = [json.loads((tmp_path / run / "config.json").read_text()) for run in "ab"]
    assert records[0]["data"] == records[1]["data"]
    assert records[0]["data"]["root"] == str(picture_set.resolve())
    one, other = ((tmp_path / run / "checkpoint.pt").read_bytes() for run in "ab")
    assert one == other
