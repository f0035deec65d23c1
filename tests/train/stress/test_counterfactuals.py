"""A detector of file formats is exposed, one that looks at pictures is not accused."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import Label
from train.stress import TESTS
from train.stress.counterfactuals import (
    MAX_P,
    MIN_DROP,
    WORDS,
    Factor,
    class_difference,
    decide,
)
from train.stress.run import Options, stress

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


def figure(value, width=0.01):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.mark.parametrize(
    ("own", "as_fake", "exchanged", "differs", "outcome"),
    [
        (0.99, 0.45, 0.9, True, "reads"),
        (0.99, 0.0, 0.3, True, "fragile"),
        (0.99, 0.0, 0.0, True, "holds"),
        (0.99, 0.45, 0.9, False, "alike"),
        (0.5, 0.45, 0.9, True, "no skill"),
    ],
)
def test_the_outcome_follows_from_the_drops(own, as_fake, exchanged, differs, outcome):
    drops = {"as_fake": figure(as_fake), "as_real": figure(0.0), "exchanged": figure(exchanged)}

    assert decide(figure(own), drops, differs=differs) == outcome


@given(
    own=FIGURES, as_fake=FIGURES, exchanged=FIGURES, width=st.floats(0, 1), differs=st.booleans()
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
    proven = differs and beyond
    assert (outcome == "reads") == proven


def test_under_no_effect_a_detector_is_accused_in_few_of_many_draws():
    """Scores that the factor moves at random, alike in both classes: no reading, by construction."""
    from train.stress.resampling import Resamples, auc, with_interval

    accused = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        skill = labels * 1.5 + rng.normal(size=120)
        as_real, as_fake = (skill + rng.normal(0, 0.7, size=120) for _ in range(2))
        own = np.where(labels == 1, as_fake, as_real)
        swapped = np.where(labels == 1, as_real, as_fake)
        draws = Resamples.draw(labels, np.arange(120), draws=200, seed=seed)
        base = draws.values(auc, own)
        drops = {
            name: with_interval(base - draws.values(auc, arm), confidence=0.975)
            for name, arm in (("as_fake", as_fake), ("as_real", as_real), ("exchanged", swapped))
        }
        accused += decide(with_interval(base), drops, differs=True) == "reads"
    assert accused <= 4
