"""The stages of `wildrf run` that need no platform."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from curate.work import Serial, Silent
from curate.workspace import Workspace
from pipelines.whole_run import Context, train
from schemas.errors import InputError
from schemas.policy import Policy, TrainPolicy

SECONDS = TrainPolicy(
    detector="tiny-ladeda", size=32, crop=24, batch=4, epochs=1, workers=1, device="cpu"
)


def context(root, recipe):
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
    train(context(released, SECONDS))

    with pytest.raises(InputError, match=r"train\.seed was 0 and is 7.*move that folder") as caught:
        train(context(released, dataclasses.replace(SECONDS, seed=7)))

    assert "--out" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_detector_that_is_trained_is_not_decoded_for_again(released, monkeypatch):
    first = train(context(released, SECONDS))
    monkeypatch.setattr("train.training.load_train_val", None)

    assert train(context(released, SECONDS))["seconds"] == first["seconds"]
