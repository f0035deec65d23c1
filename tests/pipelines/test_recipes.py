"""Recipes on the command line: what is asked for is what is trained, and is on record."""

import json
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
from PIL import Image

from pipelines.detect import QUICK, base_recipe, recipe_with, sources_of
from schemas.errors import InputError
from schemas.policy import AugmentPolicy, TrainPolicy
from train import training

TINY = [
    "--detector", "tiny-ladeda", "--size", 48, "--crop", 32, "--batch", 4, "--device", "cpu", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for leaf in ("0_real", "1_fake"):
            (place / split / leaf).mkdir(parents=True)
            for k in range(4):
                pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / split / leaf / f"{k}.png")
    return place


def config(run):
    return json.loads((run / "config.json").read_text())


def test_without_minutes_the_recipe_is_the_papers():
    assert base_recipe(None, TrainPolicy(), False, None) == TrainPolicy()
    assert (TrainPolicy().crop, TrainPolicy().batch, TrainPolicy().learning_rate) == (224, 32, 2e-4)
    assert TrainPolicy().augment == AugmentPolicy()
    assert TrainPolicy().average == 0


def test_with_minutes_it_is_the_quick_one_unless_a_workspace_or_a_word_says_otherwise():
    quick, own = replace(TrainPolicy(), **QUICK), replace(TrainPolicy(), size=192, crop=96)

    assert base_recipe(None, TrainPolicy(), False, 20.0) == quick
    assert base_recipe(None, own, True, 20.0) == own
    assert base_recipe("paper", own, True, 20.0) == TrainPolicy()
    assert base_recipe("quick", own, True, None) == quick
    with pytest.raises(InputError, match="expected paper or quick"):
        base_recipe("slow", own, True, None)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (["pooling=top10"], {"pooling": "top10"}),
        (["train.pooling='max'"], {"pooling": "max"}),
        (["windows=3", "average=0.9"], {"windows": 3, "average": 0.9}),
        (["augment.jpeg=0.5"], {"augment": AugmentPolicy(jpeg=0.5)}),
        (["augment.jpeg_quality=[30, 60]"], {"augment": AugmentPolicy(jpeg_quality=(30, 60))}),
        (["balance=class-platform", "fit=whole"], {"balance": "class-platform", "fit": "whole"}),
        (["compile=true"], {"compile": True}),
    ],
)
def test_any_field_can_be_set(settings, changes):
    assert recipe_with(TrainPolicy(), settings) == replace(TrainPolicy(), **changes)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pooling", "expected KEY=VALUE"),
        ("poolling=max", "expected KEY=VALUE with KEY one of detector, size"),
        ("augment.jpg=1", "augment.jpeg"),
        ("augment=1", "expected KEY=VALUE"),
        ("pooling=top100", "--pooling is 'top100'"),
        ("augment.jpeg=2", "--augment.jpeg is 2"),
        ("average=1.0", "--average is 1.0; expected less than 1"),
    ],
)
def test_what_cannot_be_set_is_named(setting, message):
    with pytest.raises(InputError) as caught:
        recipe_with(TrainPolicy(), [setting])

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_may_have_a_weight_and_an_equals_sign(tmp_path):
    (tmp_path / "a=2").mkdir()

    found = sources_of([tmp_path, f"{tmp_path}=0.5", tmp_path / "a=2", f"{tmp_path}/a=2=3"])

    assert found == [
        (tmp_path, 1.0), (tmp_path, 0.5), (tmp_path / "a=2", 1.0), (tmp_path / "a=2", 3.0),
    ]  # fmt: skip
    for weight in ("0", "-1", "x", "inf", "nan"):
        with pytest.raises(InputError, match="weight above 0"):
            sources_of([f"{tmp_path}={weight}"])


def test_a_run_is_trained_as_asked_and_distilled_on_the_same_sets(wildrf, root, tmp_path):
    run = tmp_path / "run"
    asked = ["--set", "augment.jpeg=1", "--set", "windows=2", "--set", "balance=class"]

    answer = wildrf(
        "train", root, "--out", run, *TINY, "--epochs", 1, *asked, "--also", f"{root}=0.5",
        "--cache", tmp_path / "cache",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    told = config(run)
    assert told["recipe"]["augment"]["jpeg"] == 1
    assert [s["weight"] for s in told["data"]["sources"]] == [1.0, 0.5]
    assert json.loads(answer.out)["images"]["train"] == {"fake": 8, "real": 8}
    line = json.loads((run / "curve.jsonl").read_text())
    assert line["augmented"]["jpeg"] == 32
    assert len(list((tmp_path / "cache").glob(".*.npy"))) == 2

    answer = wildrf(
        "distill", run, "--out", tmp_path / "student", "--epochs", 1, "--set", "augment.jpeg=0",
        "--set", "crop=32", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    student = config(tmp_path / "student")
    assert student["recipe"]["windows"] == 1
    assert student["data"]["sources"] == told["data"]["sources"]


@pytest.fixture
def tenths(monkeypatch):
    """A clock on which each look takes 0.1 s: a slow machine trains as far as a fast one."""
    looks = count()
    ticking = partial(training.train_detector, clock=lambda: next(looks) / 10)
    monkeypatch.setattr(training, "train_detector", ticking)


def test_a_quick_run_keeps_to_its_minutes_and_says_what_it_was(wildrf, root, tmp_path, tenths):
    answer = wildrf("train", root, "--out", tmp_path, *TINY, "--max-minutes", 0.05)

    assert answer.code == 0, answer.err
    recipe = config(tmp_path)["recipe"]
    assert (recipe["average"], recipe["crop"]) == (QUICK["average"], 32)
    assert json.loads(answer.out)["stopped"] == "max_minutes 0.05 reached"
