"""The stages of `wildrf run`: names in the policy are found once; a training is not done twice."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from curate.catalog import Catalog
from curate.work import Serial, Silent
from curate.workspace import Workspace, create_workspace, open_workspace
from pipelines import demo
from pipelines.evaluation import evaluate_folder
from pipelines.whole_run import Context, evaluate, exports_left, summary, train
from schemas.errors import InputError
from schemas.policy import Policy, TrainPolicy
from train.calibration import calibrate, write_calibration
from train.checkpoint import load_detector

SECONDS = TrainPolicy(
    detector="tiny-ladeda", size=32, crop=24, batch=4, epochs=1, workers=1, device="cpu"
)


def context(root, exports):
    create_workspace(root)
    policy = root / "wildrf.toml"
    policy.write_text(policy.read_text().replace("exports = []", f"exports = {exports!r}"))
    return Context(open_workspace(root), Serial(), Silent(), print)


@pytest.fixture
def downloads(tmp_path):
    """Exports outside of any workspace."""
    folder = tmp_path / "down loads [1]"
    folder.mkdir()
    for name in ("a.zip", "b.zip", "[c].zip", "d.csv"):
        (folder / name).touch()
    return folder


def test_an_absolute_glob_names_what_it_matches(tmp_path, downloads):
    pattern = str(downloads / "*.zip").replace("[1]", "[[]1]")

    assert exports_left(context(tmp_path / "set", [pattern])) == "3 of 3 exports are new"


def test_a_file_that_two_patterns_match_is_one_export(tmp_path, downloads):
    (tmp_path / "set/exports").mkdir(parents=True)
    (tmp_path / "set/exports/a.zip").touch()
    (tmp_path / "set/exports/same.zip").symlink_to(tmp_path / "set/exports/a.zip")
    named = ["exports/a.zip", "exports/*", str(tmp_path / "set/exports/a.zip")]

    assert exports_left(context(tmp_path / "set", named)) == "1 of 1 exports are new"


def test_a_name_with_brackets_stands_for_itself(tmp_path, downloads):
    named = [str(downloads / "[c].zip")]

    assert exports_left(context(tmp_path / "set", named)) == "1 of 1 exports are new"


@pytest.mark.parametrize("place", ["", "exports/"])
def test_a_pattern_that_names_nothing_is_told(tmp_path, place):
    root = tmp_path / "set"
    pattern = f"{place or tmp_path}/*.nothing"

    with pytest.raises(InputError, match=r"nothing' names nothing in .*; mend wildrf.toml"):
        exports_left(context(root, [pattern]))


def small(root, recipe, progress=None):
    workspace = Workspace(root, Policy(name="small", train=recipe))
    return Context(workspace, Serial(), progress or Silent(), say=lambda _: None)


def fill(folder, count, seed):
    """`count` pictures of either class in `folder`."""
    rng = np.random.default_rng(seed)
    for leaf in ("0_real", "1_fake"):
        (folder / leaf).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / leaf / f"{k}.png")


@pytest.fixture
def released(tmp_path):
    """A workspace with a release of twenty pictures, as far as the detector's stages look at it."""
    release = tmp_path / "releases/v1"
    for seed, (split, count) in enumerate((("train", 4), ("val", 2), ("test/x", 4))):
        fill(release / split, count, seed)
    (release / "release.json").write_text(json.dumps({"root_hash": "a" * 64}))
    Catalog(tmp_path / "catalog.duckdb").create()
    return tmp_path


class Heard:
    """Progress that keeps what it is told: how many items of how many, by stage."""

    def __init__(self):
        self.stages = {}

    def start(self, what, total):
        self.now = what
        self.stages[what] = [0, total]

    def advance(self, items):
        self.stages[self.now][0] += items


@pytest.fixture
def judged(released):
    """A run whose detector is trained and evaluated, and the evaluation."""
    state = small(released, SECONDS)
    train(state)
    return state, evaluate(state)


def scored(state):
    return {row["digest"] for row in state.workspace.catalog.rows("SELECT digest FROM score")}


def test_an_evaluation_of_another_set_in_its_place_is_not_told_as_the_releases(judged, tmp_path):
    state, first = judged
    fill(tmp_path / "other/test/y", 3, seed=9)
    before, place = scored(state), state.run / "evaluation"

    evaluate_folder(state.run / "checkpoint.pt", tmp_path / "other", place, "cpu")
    again = evaluate(state)

    assert set(first["platforms"]) == set(again["platforms"]) == {"x"}
    assert again["data"]["digest"] == first["data"]["digest"]
    assert scored(state) == before
    assert len(before) == 8


@pytest.mark.parametrize("name", ["metrics.json", "scores.parquet", "of.json"])
def test_an_evaluation_that_lacks_a_file_is_made_anew(judged, name):
    state, first = judged
    (state.run / "evaluation" / name).unlink()

    assert evaluate(state)["mean"] == first["mean"]
    assert (state.run / "evaluation" / name).is_file()


def test_a_detector_that_was_calibrated_since_is_evaluated_anew(judged):
    state, first = judged
    loaded = load_detector(state.run / "checkpoint.pt")
    learnt = calibrate(
        np.repeat([-1.0, 1.0], 20),
        np.repeat([0, 1], 20),
        checkpoint=loaded.digest,
        preprocessing=loaded.preprocessing.digest,
        data={},
    )
    write_calibration(state.run / "checkpoint.calibration.json", learnt)

    again = evaluate(state)

    assert first["calibration"] is None
    assert again["calibration"] is not None


def test_an_evaluation_of_the_same_images_with_more_in_it_is_kept_and_each_pass_is_told(judged):
    state, first = judged
    heard, place = Heard(), state.run / "evaluation"

    evaluate_folder(
        state.run / "checkpoint.pt", state.release, place, "cpu", reencoded=True, progress=heard
    )

    assert first["rescored"] is None
    assert evaluate(state)["rescored"] is not None
    assert heard.stages == {"score": [8, 8], "score re-encoded": [8, 8]}


def test_how_far_training_distilling_and_evaluating_are_is_told(released, monkeypatch):
    monkeypatch.setattr(demo, "STUDENT_EPOCHS", 1)
    monkeypatch.setattr(demo, "STUDENT_CROP", 24)
    told = []
    for stage in (train, evaluate, demo.distill):
        state = small(released, SECONDS, Heard())
        stage(state)
        told.append(state.progress.stages)

    for trained in (told[0], told[2]):
        assert any(what.startswith("epoch 1") for what in trained)
    for measured in told[1:]:
        assert measured["score"] == [8, 8]


def test_what_is_told_of_a_detector_has_its_interval():
    val = {"n": 41, "ap": 0.982, "ci": {"ap": (0.951, 0.995)}}
    mean, open_mean = {"ap": 0.926, "ci": {"ap": (0.9, 0.95)}}, {"ap": 0.926, "ci": {"ap": None}}
    platforms = {"x": {"n": 185, "ap": 0.883, "ci": {"ap": (0.84, 0.92)}}}
    result = {"mean": mean, "platforms": platforms}
    cell = "x AP 0.883 [0.840, 0.920] (n=185)"

    train_line = summary("train", {"val": val, "epochs": 3})
    assert train_line == "val AP 0.982 [0.951, 0.995] (n=41) after 3 epochs"
    assert summary("evaluate", result) == f"mean AP 0.926 [0.900, 0.950]: {cell}"
    assert summary("distill", {"evaluation": result}) == summary("evaluate", result)
    assert summary("evaluate", {**result, "mean": open_mean}) == f"mean AP 0.926: {cell}"


def test_a_run_with_another_recipe_is_told_in_words_that_fit_run(released):
    train(small(released, SECONDS))

    with pytest.raises(InputError, match=r"train\.seed was 0 and is 7.*move that folder") as caught:
        train(small(released, dataclasses.replace(SECONDS, seed=7)))

    assert "--out" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_detector_that_is_trained_is_not_decoded_for_again(released, monkeypatch):
    first = train(small(released, SECONDS))
    monkeypatch.setattr("train.training.load_train_val", None)

    assert train(small(released, SECONDS))["seconds"] == first["seconds"]
