"""Recipes on the command line: what is asked for is what is trained, and is on record."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.detect import (
    QUICK,
    QUICK_OF,
    QUICK_STUDENT,
    choose_recipe,
    recipe_with,
    sources_of,
    student_recipe,
)
from schemas.errors import InputError
from schemas.policy import AugmentPolicy, TrainPolicy, parse_policy
from train import training
from train.detectors import DETECTORS

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
    assert choose_recipe(None, TrainPolicy(), None) == (TrainPolicy(), "recipe: the paper's")
    assert (TrainPolicy().crop, TrainPolicy().batch, TrainPolicy().learning_rate) == (224, 32, 2e-4)
    assert TrainPolicy().augment == AugmentPolicy()
    assert TrainPolicy().average == 0


@pytest.mark.parametrize(
    "minutes", [{"max_minutes": 20.0}, {"settings": ["max_minutes=20"]}], ids=["option", "set"]
)
def test_with_minutes_it_is_the_quick_one_unless_a_workspace_or_a_word_says_otherwise(minutes):
    timed = {"max_minutes": 20.0}
    quick = replace(TrainPolicy(), **QUICK)
    own, place = replace(TrainPolicy(), size=192, crop=96), Path("set/wildrf.toml")

    assert choose_recipe(None, TrainPolicy(), None, **minutes) == (
        replace(quick, **timed), "recipe: quick, as minutes are counted",
    )  # fmt: skip
    assert choose_recipe(None, TrainPolicy(), place, **minutes)[0] == replace(quick, **timed)
    assert choose_recipe(None, own, place, **minutes) == (
        replace(own, **timed), "recipe: [train] of set/wildrf.toml",
    )  # fmt: skip
    assert choose_recipe("paper", own, place, **minutes) == (
        replace(TrainPolicy(), **timed), "recipe: the paper's",
    )  # fmt: skip
    assert choose_recipe("quick", own, place) == (quick, "recipe: quick")
    with pytest.raises(InputError, match="expected paper or quick"):
        choose_recipe("slow", own, place)


def test_a_detector_of_few_weights_takes_more_and_larger_steps_in_the_quick_recipe():
    for asked in ({"detector": "tiny-ladeda"}, {"settings": ["detector=tiny-ladeda"]}):
        tiny = choose_recipe("quick", TrainPolicy(), None, **asked)[0]
        assert tiny == replace(
            TrainPolicy(), **QUICK | QUICK_OF["tiny-ladeda"], detector="tiny-ladeda"
        )
        assert (tiny.crop, tiny.windows, tiny.learning_rate) == (48, 8, 5e-3)
    settings = ["detector=tiny-ladeda", "learning_rate=1e-4"]
    own = choose_recipe("quick", TrainPolicy(), None, settings)[0]
    assert own == replace(tiny, learning_rate=1e-4)


def test_a_student_learns_as_in_the_paper_or_quickly_where_minutes_are_counted():
    teacher = replace(
        TrainPolicy(), crop=128, learning_rate=5e-4, windows=3, size=192, max_minutes=9.0,
        patches="window", within=0.5, centred=True, device="cuda:7", precision="bfloat16", compile=True,
    )  # fmt: skip
    paper = replace(
        TrainPolicy(), detector="tiny-ladeda", size=192, crop=192,
    )  # fmt: skip
    quick = replace(paper, **QUICK_STUDENT | {"learning_rate": 4e-3})

    assert student_recipe(None, teacher) == (paper, "recipe: the paper's")
    assert student_recipe("quick", teacher) == (quick, "recipe: quick")
    for minutes in ({"max_minutes": 3.0}, {"settings": ["max_minutes=3"]}):
        timed = replace(quick, max_minutes=3.0)
        words = "recipe: quick, as minutes are counted"
        assert student_recipe(None, teacher, **minutes) == (timed, words)
        assert student_recipe("paper", teacher, **minutes)[0] == replace(paper, max_minutes=3.0)
    own = student_recipe("quick", teacher, ["within=0.4"], learning_rate=1e-3)[0]
    assert own == replace(quick, within=0.4, learning_rate=1e-3)
    large = student_recipe("quick", teacher, detector="ladeda5")[0]
    assert large == replace(quick, detector="ladeda5", learning_rate=QUICK["learning_rate"])
    with pytest.raises(InputError, match="expected paper or quick"):
        student_recipe("slow", teacher)


def test_infinite_minutes_are_no_limit_and_count_nothing():
    for asked in ({"max_minutes": math.inf}, {"settings": ["max_minutes=inf"]}):
        assert choose_recipe(None, TrainPolicy(), None, **asked)[0] == TrainPolicy()
    timed = replace(TrainPolicy(), max_minutes=5.0)
    assert recipe_with(timed, ["max_minutes=inf"]) == TrainPolicy()
    assert parse_policy('name = "a"\n[train]\nmax_minutes = inf\n').train == TrainPolicy()


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
        ("pooling=top100", "--set pooling=top100: expected mean, max, or top1 to top99"),
        ("pooling=top0", "--set pooling=top0: expected mean, max, or top1 to top99"),
        ("augment.jpeg=2", "--set augment.jpeg=2: expected less than or equal to 1"),
        ("average=1.0", "--set average=1.0: expected less than 1"),
        ("patience=x", "--set patience=x: expected a valid integer"),
        ("representation=npr", "--set representation=npr: expected 'raw', 'NPR', 'x_grad'"),
        ("detector=LaDeDa9", "expected ladeda5, ladeda9, ladeda17, ladeda33, tiny-ladeda, or"),
        ("device=gpu", "--set device=gpu: expected auto, cpu, mps, cuda or cuda:N"),
        ("cache_gib=inf", "--set cache_gib=inf: expected a finite number"),
        ("representation_scale=nan", "--set representation_scale=nan: expected a finite number"),
        ("augment.noise_levels=[1, inf]", "noise_levels=[1, inf]: expected a finite number"),
        ("max_minutes=nan", "--set max_minutes=nan: expected a finite number"),
    ],
)
def test_what_cannot_be_set_is_named(setting, message):
    with pytest.raises(InputError) as caught:
        recipe_with(TrainPolicy(), [setting])

    assert message in str(caught.value)
    assert str(caught.value).endswith(("; give such a value", "; name one of them"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"detector": "LaDeDa9"}, "--detector is 'LaDeDa9'; expected ladeda5, ladeda9, ladeda17,"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0; expected greater than 0"),
        ({"max_minutes": 0.0}, "--max-minutes is 0.0; expected greater than 0"),
        ({"device": "gpu"}, "--device is 'gpu'; expected auto, cpu, mps, cuda or cuda:N"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_as_it_was_written(asked, message):
    with pytest.raises(InputError) as caught:
        recipe_with(TrainPolicy(), ["seed=3"], **asked)

    assert message in str(caught.value)
    assert str(caught.value).endswith("; give such a value")


def test_every_detector_is_named_to_who_misspells_one():
    with pytest.raises(InputError) as caught:
        recipe_with(TrainPolicy(), detector="?")

    assert all(name in str(caught.value) for name in DETECTORS)


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
    asked = [
        "--set", "augment.jpeg=1", "--set", "windows=2", "--set", "balance=class",
        "--set", "max_minutes=50", "--set", "representation_scale=0.5",
    ]  # fmt: skip

    answer = wildrf(
        "train", root, "--out", run, *TINY, "--epochs", 1, *asked, "--also", f"{root}=0.5",
        "--cache", tmp_path / "cache",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    told = config(run)
    assert told["recipe"]["augment"]["jpeg"] == 1
    assert "recipe: quick, as minutes are counted" in answer.err
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
    assert student["recipe"]["max_minutes"] is None
    assert student["recipe"]["representation_scale"] == 1.0
    assert student["detector"] == "tiny-ladeda"
    assert (student["recipe"]["patches"], student["recipe"]["within"]) == ("alone", 1.0)
    assert "recipe: the paper's" in answer.err
    assert student["data"]["sources"] == told["data"]["sources"]


def test_a_student_of_a_teacher_from_a_gpu_learns_where_it_is(wildrf, root, tmp_path):
    run = tmp_path / "run"
    assert wildrf("train", root, "--out", run, *TINY, "--epochs", 1).code == 0
    told = config(run)
    told["recipe"]["device"] = "cuda:7"
    (run / "config.json").write_text(json.dumps(told))

    answer = wildrf("distill", run, "--out", tmp_path / "student", "--epochs", 1)

    assert answer.code == 0, answer.err
    assert config(tmp_path / "student")["recipe"]["device"] == "auto"


@pytest.fixture
def tenths(monkeypatch):
    """A clock on which each look takes 0.1 s: a slow machine trains as far as a fast one."""
    looks = count()
    ticking = partial(training.train_detector, clock=lambda: next(looks) / 10)
    monkeypatch.setattr(training, "train_detector", ticking)


def test_a_detector_that_is_not_shown_to_be_better_than_chance_is_told_so(wildrf, root, tmp_path):
    """On pictures of noise in both classes; on more, whose fakes are darker, nothing is said."""
    other = shutil.copytree(root, tmp_path / "set")
    for path in other.glob("*/*/*.png"):
        by = 4 if path.parent.name == "1_fake" else 1
        picture = Image.open(path).point([value // by for value in range(256)] * 3)
        for turn in range(4):
            picture.rotate(90 * turn).save(path.with_stem(f"{path.stem}-{turn}"))
        path.unlink()
    plain = [word for word in TINY if word != "--json"]

    noise, told = (
        wildrf("train", place, "--out", tmp_path / name, *plain, "--set", "representation=raw",
               "--set", "learning_rate=0.02", "--epochs", 20)
        for name, place in (("noise", root), ("told", other))
    )  # fmt: skip

    assert (noise.code, told.code) == (0, 0), noise.err + told.err
    assert "no better than chance as far as these images tell" in noise.err
    assert "AUC 1.000" in told.err
    assert "chance" not in told.err


def test_a_quick_run_keeps_to_its_minutes_and_says_what_it_was(wildrf, root, tmp_path, tenths):
    answer = wildrf("train", root, "--out", tmp_path, *TINY, "--max-minutes", 0.05)

    assert answer.code == 0, answer.err
    recipe = config(tmp_path)["recipe"]
    assert (recipe["average"], recipe["crop"]) == (QUICK_OF["tiny-ladeda"]["average"], 32)
    assert json.loads(answer.out)["stopped"] == "max_minutes 0.05 reached"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--detector", "nonsense"], "detector 'nonsense' is not known; expected one of ladeda5"),
        (["--set", "detector=nonsense"], "detector 'nonsense' is not known"),
        (["--detector", "ladeda9"], "student ladeda9 sees 9 pixels; expected at most 6"),
        (["--set", "detector=ladeda9"], "student ladeda9 sees 9 pixels; expected at most 6"),
    ],
)
def test_a_student_is_the_detector_that_was_asked_for_or_none(
    wildrf, root, tmp_path, asked, message
):
    run = tmp_path / "run"
    assert wildrf("train", root, "--out", run, *TINY, "--epochs", 1).code == 0

    answer = wildrf("distill", run, "--out", tmp_path / "student", *asked)

    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "student/checkpoint.pt").exists()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with a recipe of its own, worked in from a folder inside it."""
    (tmp_path / "set/inside").mkdir(parents=True)
    policy = 'name = "set"\n[train]\ndetector = "tiny-ladeda"\nsize = 40\ncrop = 24\nepochs = 1\n'
    (tmp_path / "set/wildrf.toml").write_text(policy + 'device = "cpu"\nbatch = 4\n')
    monkeypatch.chdir(tmp_path / "set/inside")
    return tmp_path / "set"


def test_inside_a_workspace_its_recipe_is_trained_and_that_is_said(wildrf, root, workspace):
    own = wildrf("train", root, "--out", "own", "--json")
    changed = wildrf("train", root, "--out", "changed", "--set", "crop=32", "--json")

    assert (own.code, changed.code) == (0, 0), own.err + changed.err
    assert f"recipe: [train] of {workspace / 'wildrf.toml'}" in own.err
    assert (config(Path("own"))["recipe"]["size"], config(Path("own"))["recipe"]["crop"]) == (
        40,
        24,
    )
    assert config(Path("changed"))["recipe"]["size"] == 40
    assert config(Path("changed"))["recipe"]["crop"] == 32


def test_inside_a_workspace_the_papers_recipe_can_be_asked_for(wildrf, root, workspace):
    answer = wildrf("train", root, "--out", "run", *TINY, "--recipe", "paper", "--epochs", 1)

    assert answer.code == 0, answer.err
    assert "recipe: the paper's" in answer.err
    assert config(Path("run"))["recipe"]["size"] == 48


def test_a_workspace_as_init_makes_it_has_the_papers_recipe(wildrf, tmp_path, monkeypatch, root):
    assert wildrf("init", tmp_path / "set").code == 0
    monkeypatch.chdir(tmp_path / "set")

    answer = wildrf("train", root, "--out", "runs/a", *TINY, "--epochs", 1, "--max-minutes", 5)

    assert answer.code == 0, answer.err
    assert "recipe: quick, as minutes are counted" in answer.err


def test_files_that_cannot_be_used_are_counted_and_told_without_what_their_names_do(
    wildrf, root, tmp_path
):
    place = tmp_path / "set"
    shutil.copytree(root, place)
    for k in range(13):
        (place / f"train/0_real/\x1b[31m{k:02d}.png").write_bytes(b"broken")

    answer = wildrf("train", place, "--out", tmp_path / "run", *TINY[:-1], "--epochs", 1)

    assert answer.code == 0, answer.err
    assert "\x1b" not in answer.err
    assert "13 of 21 files cannot be used and are skipped" in answer.err
    told = [line for line in answer.err.splitlines() if line.startswith("skipped ")]
    assert len(told) == 10
    assert told[0].startswith("skipped train/0_real/\\x1b[31m00.png: does not decode")
    assert "and 3 more (metrics.json)" in answer.err.splitlines()
