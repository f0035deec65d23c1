"""Two real sets: one whose classes differ in all but the question, and one without a shortcut."""

from dataclasses import replace

import pytest

from schemas.policy import TrainPolicy
from train.stress import TESTS
from train.stress.run import Options, stress
from train.training import train_detector

OPTIONS = Options(workers=2, device="cpu", draws=500)


def taught(root, out, *, representation, epochs):
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=240, crop=64, batch=16, epochs=epochs, learning_rate=1e-2,
        representation=representation, fit="native", workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    return train_detector(root, out, recipe).checkpoint


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_detector_trained_on_shoes_biased_is_exposed_by_its_own_counterfactuals(shared, tmp_path):
    root = shared / "data/shoes-biased"
    checkpoint = taught(root, tmp_path, representation="raw", epochs=12)

    found = stress(checkpoint, root, [TESTS["counterfactuals"]], options=OPTIONS)

    told = found["tests"]["counterfactuals"]
    outcomes = {factor["name"]: factor for factor in told["factors"]}
    own, alike, _, exchanged = (row["auc"] for row in outcomes["tone"]["rows"])
    assert told["exposed"]
    assert "reads brightness and contrast" in told["verdict"]
    assert own["low"] > 0.8
    assert alike["high"] < own["low"]
    assert exchanged["high"] < 0.4
    assert outcomes["coding"]["outcome"] == "holds"  # nor is it accused of what it does not read


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_neither_one_trained_on_faces_clean_nor_a_published_one_is_accused(shared, tmp_path):
    root = shared / "data/faces-clean"
    published = shared / "checkpoints/WildRF_Tiny_LaDeDa.pth"
    trained = taught(root, tmp_path, representation=None, epochs=4)

    half = replace(OPTIONS, max_images=200)
    for checkpoint in (trained, published):
        found = stress(checkpoint, root, [TESTS["counterfactuals"]], options=half)

        told = found["tests"]["counterfactuals"]
        assert not told["exposed"]
        assert told["factors"][0]["difference"] == 0
