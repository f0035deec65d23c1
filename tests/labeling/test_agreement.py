"""Agreement beyond chance, held against scikit-learn and the examples of those who defined it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from labeling.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    measure,
    percent_agreement,
)
from schemas.errors import InputError

KRIPPENDORFF = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
"""Four observers, twelve units: example C of Krippendorff 2011, with nominal alpha 0.743."""

FLEISS = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]
"""Ten subjects, fourteen raters, five categories: a published worked example, kappa 0.210."""


def units_of(observers):
    columns = zip(*(line.split() for line in observers), strict=True)
    return [[value for value in column if value != "."] for column in columns]


def test_alpha_is_krippendorffs_own_for_his_example_with_missing_answers():
    assert krippendorff_alpha(units_of(KRIPPENDORFF)) == pytest.approx(0.743, abs=5e-4)


def test_kappa_is_the_published_one_for_the_worked_example_of_fleiss():
    units = [[k for k, n in enumerate(row) for _ in range(n)] for row in FLEISS]

    assert fleiss_kappa(units) == pytest.approx(0.210, abs=5e-4)
    assert percent_agreement(units) == pytest.approx(0.378, abs=5e-4)


@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_kappa_of_two_agrees_with_scikit_learn(pairs):
    a, b = zip(*pairs, strict=True)
    if len(set(a + b)) == 1:
        assert cohen_kappa(a, b) is None
        return

    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


@given(st.lists(st.lists(st.sampled_from("RFE"), min_size=2, max_size=2), min_size=2, max_size=30))
def test_alpha_of_complete_pairs_is_fleiss_with_its_small_sample_correction(units):
    kappa, n = fleiss_kappa(units), 2 * len(units)
    if kappa is None:
        assert krippendorff_alpha(units) is None
        return

    assert krippendorff_alpha(units) == pytest.approx(1 - (1 - kappa) * (n - 1) / n, abs=1e-9)


def test_full_agreement_on_more_than_one_category_is_one():
    units = [["Real"] * 3, ["Fake"] * 3]

    assert krippendorff_alpha(units) == fleiss_kappa(units) == percent_agreement(units) == 1.0


def test_one_category_alone_says_nothing_beyond_chance():
    units = [["Real", "Real"], ["Real", "Real"]]

    assert percent_agreement(units) == 1.0
    assert krippendorff_alpha(units) is None
    assert fleiss_kappa(units) is None


def test_no_pair_of_answers_is_no_measure():
    assert percent_agreement([["Real"], []]) is None
    assert krippendorff_alpha([["Real"], []]) is None
    assert alpha_interval([["Real"]], seed=0) == (None, None)
    assert cohen_kappa([], []) is None
    assert fleiss_kappa([]) is None


def test_kappas_refuse_what_they_are_not_defined_for():
    with pytest.raises(InputError, match="use Krippendorff's alpha"):
        fleiss_kappa([["Real"], ["Real", "Fake"]])
    with pytest.raises(InputError, match="found 1 and 2 answers"):
        cohen_kappa(["Real"], ["Real", "Fake"])


def test_a_skip_is_a_missing_answer_and_lonely_answers_are_left_out():
    answers = {
        "d1": {"ann": "Real", "bea": "Real", "cem": None},
        "d2": {"ann": "Fake", "bea": "Real"},
        "d3": {"ann": "Fake"},
    }

    found = measure(answers)

    assert (found.images, found.answers, found.annotators) == (2, 4, 2)
    assert found.percent == 0.5
    assert found.alpha == pytest.approx(krippendorff_alpha([["Real", "Real"], ["Fake", "Real"]]))


def test_the_interval_holds_alpha_narrows_with_more_images_and_repeats_with_its_seed():
    units = [["Real", "Real"], ["Fake", "Fake"], ["Real", "Fake"]] * 5
    low, high = alpha_interval(units, seed=1)
    narrow_low, narrow_high = alpha_interval(units * 10, seed=1)

    assert low < krippendorff_alpha(units) < high
    assert narrow_high - narrow_low < (high - low) / 2
    assert alpha_interval(units, seed=1) == (low, high)
    assert not math.isnan(low)


def test_nothing_annotated_is_measured_as_nothing():
    found = measure({})

    assert (found.images, found.percent, found.alpha, found.fleiss) == (0, None, None, None)
