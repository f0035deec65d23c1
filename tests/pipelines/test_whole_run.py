"""The stages of `wildrf run`: names in the policy are found once; a training is not done twice."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from curate.work import Serial, Silent
from curate.workspace import Workspace, create_workspace, open_workspace
from pipelines.whole_run import Context, exports_left, train
from schemas.errors import InputError
from schemas.policy import Policy, TrainPolicy

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


def small(root, recipe):
    workspace = Workspace(root, Policy(name="small", train=recipe))
    return Context(workspace, Serial(), Silent(), say=lambda _: None)


@pytest.fixture
def released(tmp_path):
    """A workspace with a release of twelve pictures, as far as training looks at it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for leaf in ("0_real", "1_fake"):
            place = tmp_path / "releases/v1" / split / leaf
            place.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
    return tmp_path


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
