"""Metrics against scikit-learn, on random and degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from train.metrics import (
    accuracy,
    average_precision,
    bootstrap_interval,
    report,
    roc_auc,
    summary,
    tpr_at_fpr,
)

SCORES = st.one_of(
    st.floats(-50, 50),
    st.sampled_from([-1.0, 0.0, 1.0]),  # many ties
    st.floats(1e-300, 1e-290),
)
SAMPLES = st.lists(st.tuples(SCORES, st.integers(0, 1)), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def arrays(rows):
    return np.array([s for s, _ in rows]), np.array([y for _, y in rows])


@given(SAMPLES)
@settings(max_examples=300, deadline=None)
def test_metrics_equal_scikit_learn_on_any_two_class_sample(rows):
    scores, labels = arrays(rows)

    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)

    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores)
    )
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    for rate in (0.0, 0.05, 0.5):
        want = true[false <= rate + 1e-12].max()
        assert tpr_at_fpr(scores, labels, rate) == pytest.approx(want)


@given(SAMPLES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_metrics_do_not_depend_on_the_order_of_images(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)

    for metric in (accuracy, average_precision, roc_auc):
        assert metric(*arrays(rows)) == pytest.approx(metric(*arrays(shuffled)))


def test_accuracy_counts_the_right_side_of_zero():
    logits, labels = np.array([2.0, -1.0, 0.0, 0.5]), np.array([1, 0, 0, 0])

    assert accuracy(logits, labels) == 0.75


def test_average_precision_without_reals_is_one_and_without_fakes_an_error():
    assert average_precision(np.array([0.1, 0.2]), np.array([1, 1])) == 1.0
    with pytest.raises(ValueError, match="at least one fake"):
        average_precision(np.array([0.1, 0.2]), np.array([0, 0]))


@pytest.mark.parametrize("metric", [accuracy, average_precision, roc_auc])
def test_nan_empty_and_odd_labels_are_refused(metric):
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        metric(np.array([0.1, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="no scores"):
        metric(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="other than 0"):
        metric(np.array([0.1, 0.2]), np.array([0, 2]))
    with pytest.raises(ValueError, match="expected"):
        metric(np.zeros((2, 1)), np.array([0, 1]))


def test_infinite_scores_are_ranked():
    assert roc_auc(np.array([np.inf, -np.inf]), np.array([1, 0])) == 1.0


def test_one_class_gives_accuracy_and_none_for_the_rest():
    found = report(np.array([1.0, -1.0]), np.array([1, 1]), draws=10)

    assert found["acc"] == 0.5
    assert found["ap"] is None
    assert found["auc"] is None
    assert found["tpr_at_fpr"] == {"0.01": None, "0.05": None}
    assert found["ci"] == {"acc": None, "ap": None, "auc": None}
    assert (found["n"], found["n_real"], found["n_fake"]) == (2, 0, 2)


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * 1.0, 1.0), labels


def test_interval_holds_the_value_shrinks_with_n_and_is_reproducible():
    small, large = sample(40), sample(1000)

    low, high = bootstrap_interval(roc_auc, *small, draws=300)
    narrow = bootstrap_interval(roc_auc, *large, draws=300)

    assert low < roc_auc(*small) < high
    assert narrow[1] - narrow[0] < (high - low) / 2
    assert bootstrap_interval(roc_auc, *small, draws=300) == (low, high)


def test_interval_has_about_the_spread_theory_gives():
    labels = np.repeat([0, 1], 200)
    logits = np.where(np.arange(400) % 10 < 2, -1.0, 1.0) * np.where(labels == 1, 1, -1)

    low, high = bootstrap_interval(accuracy, logits, labels, draws=2000)

    # accuracy 0.8 of 400: the standard error is 0.02
    assert low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.006)


def test_copies_of_one_author_do_not_narrow_the_interval():
    scores, labels = sample(50)
    repeated, authors = (np.repeat(scores, 8), np.repeat(labels, 8)), np.repeat(np.arange(100), 8)

    honest = bootstrap_interval(roc_auc, *repeated, draws=300, cluster=authors)
    naive = bootstrap_interval(roc_auc, *repeated, draws=300)

    assert honest[1] - honest[0] > 2 * (naive[1] - naive[0])


def test_summary_names_n_with_every_metric():
    assert set(summary(*sample(5))) == {"acc", "ap", "auc", "n"}
