"""A detector of file formats is exposed, one that looks at pictures is not accused."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import Label
from train.stress import TESTS
from train.stress.coding import Coding
from train.stress.counterfactuals import (
    FACTORS,
    MAX_P,
    MIN_DROP,
    WORDS,
    Factor,
    class_difference,
    decide,
    judge,
    sentences,
)
from train.stress.plan import Facts, Plan, Scores
from train.stress.run import Options, stress
from train.stress.tone import Tone
from train.transforms import Preprocessing

OPTIONS = Options(workers=2, device="cpu", draws=300)
FIGURES = st.floats(-1, 1, allow_nan=False)


def ask(known, root=None):
    found = stress(
        known.checkpoint, root or known.root, [TESTS["counterfactuals"]], options=OPTIONS
    )
    return found["tests"]["counterfactuals"]


def factor(found, name):
    return next(one for one in found["factors"] if one["name"] == name)


def test_a_detector_that_reads_the_format_is_exposed_and_its_auc_is_told_before_and_after(
    format_reader,
):
    found = ask(format_reader)

    coding = factor(found, "coding")
    own, as_fake, _, exchanged = (row["auc"]["value"] for row in coding["rows"])
    assert found["exposed"]
    assert coding["outcome"] == "reads"
    assert own > 0.95
    assert abs(as_fake - 0.5) < 0.12
    assert exchanged < 0.6  # coarse coding leaves its marks under a finer one, so no reversal
    assert f"AUC {own:.2f}" in found["verdict"]
    assert f"-> {as_fake:.2f}" in found["verdict"]
    assert "reads the file format" in found["verdict"]
    assert factor(found, "size")["outcome"] == "alike"
    assert factor(found, "tone")["outcome"] != "reads"


def test_reals_saved_as_the_fakes_are_take_over_the_score_of_fakes(format_reader):
    found = factor(ask(format_reader), "coding")

    own, as_fake, _, _ = found["rows"]
    assert own["shift_real"]["high"] < 0.5
    assert as_fake["shift_real"]["low"] > 1
    assert 0.8 < found["gap_explained"]["value"] < 1.2


def test_a_detector_of_texture_is_not_accused_where_the_classes_are_saved_alike(texture_reader):
    found = ask(texture_reader)

    assert not found["exposed"]
    assert factor(found, "coding")["outcome"] == "alike"
    assert factor(found, "coding")["difference"] == 0
    assert found["verdict"].startswith("Not accused")


def test_a_detector_of_texture_is_not_accused_where_formats_differ_and_it_does_not_read_them(
    texture_reader, both_differ
):
    coding = factor(ask(texture_reader, both_differ), "coding")

    assert coding["difference"] == 1
    assert coding["rows"][0]["auc"]["value"] > 0.9
    assert coding["outcome"] == "holds"


def test_a_detector_that_tells_nothing_apart_is_said_to_have_nothing_to_explain(
    format_reader, texture_reader
):
    found = ask(format_reader, texture_reader.root)

    assert not found["exposed"]
    assert factor(found, "coding")["outcome"] in ("no skill", "alike")


def test_the_same_seed_gives_the_same_result_and_another_draws_others(format_reader):
    tests = [TESTS["counterfactuals"]]
    one, again = (
        stress(format_reader.checkpoint, format_reader.root, tests, options=OPTIONS)
        for _ in range(2)
    )
    other = stress(
        format_reader.checkpoint, format_reader.root, tests,
        options=Options(workers=4, device="cpu", draws=300, seed=1),
    )  # fmt: skip

    assert one == again
    tone, other_tone = (factor(r["tests"]["counterfactuals"], "tone") for r in (one, other))
    assert tone["rows"][1]["shift_real"] != other_tone["rows"][1]["shift_real"]


@dataclass(frozen=True)
class Image:
    """As much of an image as a difference is told from."""

    label: Label
    shade: int
    group: str | None = None


SHADE = Factor("shade", "shaded", "reads shade", lambda f: f.shade, lambda rgb, own, like: rgb)


def test_classes_that_differ_by_chance_alone_are_alike_and_those_of_another_kind_are_not():
    alike, unlike = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = [Label(k % 2) for k in range(60)]
        for found, shift in ((alike, 0), (unlike, 3)):
            images = [Image(label, int(rng.integers(4)) + shift * label) for label in labels]
            found.append(class_difference(images, SHADE, seed)[1] <= MAX_P)

    assert sum(alike) <= 3
    assert all(unlike)


def test_the_difference_is_total_variation():
    images = [Image(Label.REAL, s) for s in (1, 1, 2, 2)] + [Image(Label.FAKE, s) for s in (2, 3)]

    assert class_difference(images, SHADE)[0] == 0.5


def facts(index, label, *, side=64, group=None):
    return Facts(
        f"{index}.png", f"{index:064x}", Label(label), "x", group, (side, side),
        Coding("lossless"), Tone(128, 40, 20),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["size", "all"])
def test_classes_whose_pictures_each_have_a_size_of_their_own_differ_where_their_sizes_do(name):
    (size,) = (one for one in FACTORS if one.name == name)
    unlike = [facts(k, k % 2, side=(1000 if k % 2 else 500) + k) for k in range(80)]
    alike = [facts(k, k % 2, side=500 + k) for k in range(80)]

    assert class_difference(unlike, size) == pytest.approx((1, 1 / 501))
    assert class_difference(alike, size)[1] > MAX_P


def test_copies_of_two_pictures_a_class_are_too_few_to_tell_a_difference():
    alone = [Image(Label(k % 2), k % 2) for k in range(80)]
    copies = [Image(one.label, one.shade, f"g{k % 4}") for k, one in enumerate(alone)]

    assert class_difference(alone, SHADE)[1] <= MAX_P
    assert class_difference(copies, SHADE)[0] == pytest.approx(1)
    assert class_difference(copies, SHADE)[1] > MAX_P


def figure(value, width=0.01):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.mark.parametrize(
    ("own", "as_fake", "exchanged", "differs", "outcome"),
    [
        (0.99, 0.45, 0.9, True, "reads"),
        (0.99, 0.0, 0.3, True, "fragile"),
        (0.99, 0.0, 0.0, True, "holds"),
        (0.99, 0.0, 0.0, False, "alike"),
        (0.99, 0.45, 0.9, False, "unclear"),
        (0.99, 0.45, 0.9, None, "unclear"),
        (0.99, 0.0, 0.0, None, "holds"),
        (0.5, 0.45, 0.9, True, "no skill"),
    ],
)
def test_the_outcome_follows_from_the_drops(own, as_fake, exchanged, differs, outcome):
    drops = {"as_fake": figure(as_fake), "as_real": figure(0.0), "exchanged": figure(exchanged)}

    assert decide(figure(own), drops, differs=differs) == outcome


@given(
    own=FIGURES, as_fake=FIGURES, exchanged=FIGURES, width=st.floats(0, 1),
    differs=st.sampled_from([True, False, None]),
)  # fmt: skip
def test_nothing_is_called_read_unless_both_proofs_are_beyond_chance(
    own, as_fake, exchanged, width, differs
):
    drops = {
        "as_fake": figure(as_fake, width),
        "as_real": figure(0.0, width),
        "exchanged": figure(exchanged, width),
    }

    outcome = decide(figure(own, width), drops, differs=differs)

    assert outcome in {"reads", *WORDS}
    beyond = as_fake - width > 0 and exchanged - width > MIN_DROP and own - width > 0.5
    proven = bool(differs) and beyond
    assert (outcome == "reads") == proven


def test_under_no_effect_a_detector_is_accused_in_few_of_many_draws():
    """Scores that the factor moves at random, alike in both classes: no reading, by construction."""
    accused = 0
    images = tuple(facts(k, k >= 60) for k in range(120))
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        skill = labels * 1.5 + rng.normal(size=120)
        as_real, as_fake = (skill + rng.normal(0, 0.7, size=120) for _ in range(2))
        own = np.where(labels == 1, as_fake, as_real)
        swapped = np.where(labels == 1, as_real, as_fake)
        draws = scores_of(images, {"native": skill}, seed=seed).resamples()
        drops = {
            name: draws.drop(own, arm, 0.975)
            for name, arm in (("as_fake", as_fake), ("as_real", as_real), ("exchanged", swapped))
        }
        accused += decide(draws.auc(own), drops, differs=True) == "reads"
    assert accused <= 4


def scores_of(images, logits, seed=0):
    plan = Plan(images, Preprocessing(size=64), seed)
    return Scores(plan, "known", None, images, logits, draws=200)


def told_of(**outcomes):
    """The verdict of factors with these outcomes: what an exchange costs is 0.25, give or take."""
    factors = [
        {
            "name": name,
            "outcome": outcome,
            "drops": {"exchanged": figure(0.25, 0.2)},
        }
        for name, outcome in outcomes.items()
    ]
    return " ".join(sentences(factors, {"auc": figure(0.9)}))


def test_what_too_few_images_leave_open_is_not_proven_and_told_with_the_most_it_may_cost():
    told = told_of(coding="unclear", size="alike", tone="holds", colour="holds")

    assert told.startswith("Not proven: exchanging coding between the classes may cost up to 0.45")
    assert "too few" in told
    assert "changes little" not in told
    assert "Not accused" not in told


def test_a_factor_whose_placebo_takes_the_skill_away_is_not_proven_either():
    told = told_of(coding="holds", size="no skill", tone="no skill", colour="alike")

    assert told.startswith("Not proven: with size, tone drawn at random within each class")
    assert "changes little" not in told


def test_several_doubts_are_all_told():
    told = told_of(coding="fragile", size="unclear", tone="no skill", colour="holds")

    assert told.startswith("Not proven: fakes that are given what reals have (coding)")
    assert "exchanging size" in told
    assert "with tone" in told


def test_not_accused_says_of_what_and_where_the_classes_are_merely_alike():
    both = told_of(coding="holds", size="alike", tone="alike")
    alike = told_of(coding="alike", size="alike")

    assert both == (
        "Not accused: exchanging coding between the classes changes little, and the classes are alike in "
        "size, tone."
    )
    assert alike == "Not accused: the classes are alike in coding, size."


def test_a_factor_with_a_value_for_every_file_is_unclear_and_not_taken_for_alike():
    """Every file has tables of its own: shuffled labels are as far apart, so nothing is known."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    images = tuple(
        replace(facts(k, y), coding=Coding("JPEG", ((k + 1,) * 64,))) for k, y in enumerate(labels)
    )
    skill = labels * 4 + rng.normal(size=60)
    away = {"coding-as-fake": skill + 4 * (labels == 0), "coding-as-real": skill - 4 * labels}

    found = judge(scores_of(images, {"native": skill, **away}), FACTORS[0])

    assert found["difference"] == pytest.approx(1)
    assert found["difference_p"] > MAX_P
    assert found["outcome"] == "unclear"
