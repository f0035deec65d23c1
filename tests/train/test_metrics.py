"""Metrics against scikit-learn, on random and degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    roc_auc_score,
    roc_curve,
)

from train.metrics import (
    BINS,
    NAMES,
    ONE_CLASS,
    Calibrated,
    Sample,
    accuracy,
    average_precision,
    equal_error_rate,
    reliability,
    roc_auc,
    roc_points,
    sigmoids,
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


@pytest.mark.parametrize("metric", [accuracy, average_precision, roc_auc])
def test_infinite_scores_are_refused_as_scikit_learn_refuses_them(metric):
    scores, labels = np.array([np.inf, np.inf, 0.0]), np.array([1, 0, 0])

    with pytest.raises(ValueError, match="2 of 3 scores are NaN or infinite"):
        metric(scores, labels)
    with pytest.raises(ValueError, match="infinity"):
        roc_auc_score(labels, scores)


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * 1.0, 1.0), labels


def degenerate(kind, rng):
    """Logits and labels of one kind of odd sample."""
    n = int(rng.integers(2, 40))
    labels = np.append([0, 1], rng.integers(0, 2, n))
    logits = rng.normal(labels, 1.5)
    return {
        "random": (logits, labels),
        "tied": (np.round(logits), labels),
        "constant": (np.full(len(labels), 0.7), labels),
        "apart": (labels * 2.0 - 1, labels),
        "upside down": (1 - labels * 2.0, labels),
        "one fake": (logits, np.append(1, np.zeros(len(labels) - 1, int))),
        "extreme": (logits * 1e6, labels),
        "only fakes": (logits, np.ones(len(labels), int)),
        "only reals": (logits, np.zeros(len(labels), int)),
        "zeros": (np.zeros(len(labels)), labels),
    }[kind]


KINDS = (
    "random", "tied", "constant", "apart", "upside down", "one fake", "extreme", "only fakes",
    "only reals", "zeros",
)  # fmt: skip
SETTING = Calibrated(temperature=2.5, threshold=0.4)


def equal_error_of(labels, scores):
    """Where scikit-learn's ROC curve crosses the line of equal errors, by its own arc length."""
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(np.interp(1.0, false + true, false))


def calibration_error_of(labels, probability):
    observed, predicted = calibration_curve(labels, probability, n_bins=BINS)
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=BINS)
    return float(np.sum(counts[counts > 0] / len(labels) * np.abs(observed - predicted)))


def expected(logits, labels):
    """Every metric as scikit-learn has it; those that need two classes only where there are two."""
    found = {}
    for suffix, threshold, temperature in (("", 0.0, 1.0), ("_calibrated", 0.4, 2.5)):
        probability = 1 / (1 + np.exp(-np.clip(logits / temperature, -700, 700)))
        called = (logits > threshold).astype(int)
        found[f"acc{suffix}"] = accuracy_score(labels, called)
        found[f"brier{suffix}"] = brier_score_loss(labels, probability, pos_label=1)
        found[f"ece{suffix}"] = calibration_error_of(labels, probability)
        if len(np.unique(labels)) == 2:
            found[f"balanced_acc{suffix}"] = balanced_accuracy_score(labels, called)
    if len(np.unique(labels)) == 2:
        false, true, _ = roc_curve(labels, logits, drop_intermediate=False)
        found["ap"] = average_precision_score(labels, logits)
        found["auc"] = roc_auc_score(labels, logits)
        found["eer"] = equal_error_of(labels, logits)
        for rate in (0.01, 0.05):
            found[f"tpr_at_fpr_{rate}"] = true[false <= rate + 1e-12].max()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_equals_scikit_learn_on_random_and_degenerate_inputs(kind):
    for seed in range(20):  # of each of ten kinds: 200 inputs
        logits, labels = degenerate(kind, np.random.default_rng(seed))

        found = Sample(logits, labels, SETTING).point()

        want = expected(logits, labels)
        assert set(found) == set(NAMES)
        assert {name for name, value in found.items() if value is not None} == set(want)
        assert {name: found[name] for name in want} == pytest.approx(want, abs=1e-9)


def test_whole_weights_are_the_same_as_repeating_the_images():
    rng = np.random.default_rng(3)
    logits, labels = np.round(rng.normal(size=60), 1), rng.integers(0, 2, 60)
    counts = rng.integers(0, 4, size=(25, 60))

    drawn = Sample(logits, labels, SETTING).values(counts)

    for row, count in enumerate(counts):
        repeated = Sample(np.repeat(logits, count), np.repeat(labels, count), SETTING).point()
        assert {n: drawn[n][row] for n in NAMES} == pytest.approx(repeated)


def test_a_draw_without_a_class_has_no_ranking_and_still_an_accuracy():
    drawn = Sample(np.array([1.0, -1.0, 2.0]), np.array([1, 0, 1])).values(
        np.array([[1, 0, 1], [0, 2, 0], [1, 1, 1]])
    )

    assert np.isnan(drawn["auc"]).tolist() == [True, True, False]
    assert drawn["acc"].tolist() == [1.0, 1.0, 1.0]


def test_base_weights_multiply_those_of_every_draw():
    logits, labels = sample(20)
    base = np.random.default_rng(0).integers(0, 3, len(labels))
    counts = np.random.default_rng(1).integers(0, 3, (4, len(labels)))

    weighted = Sample(logits, labels, weights=base).values(counts)
    plain = Sample(logits, labels).values(counts * base)

    assert {k: v.tolist() for k, v in weighted.items() if "noise" not in k} == {
        k: v.tolist() for k, v in plain.items() if "noise" not in k
    }


def test_the_calibrated_threshold_moves_decisions_and_the_temperature_probabilities_alone():
    logits, labels = sample(50)

    cold = Sample(logits, labels, Calibrated(0.5, 0.0)).point()
    high = Sample(logits, labels, Calibrated(1.0, 0.8)).point()

    assert cold["acc_calibrated"] == cold["acc"]
    assert cold["brier_calibrated"] != cold["brier"]
    assert high["acc_calibrated"] == accuracy(logits, labels, 0.8)
    assert high["brier_calibrated"] == high["brier"]


def test_without_a_calibration_calibrated_metrics_are_none():
    found = Sample(*sample(5)).point()

    assert {n for n in NAMES if found[n] is None} == {n for n in NAMES if "calibrated" in n}


def test_one_class_has_only_what_needs_no_other():
    found = Sample(np.array([1.0, -1.0]), np.array([1, 1]), SETTING).point()

    assert {n for n, v in found.items() if v is not None} == ONE_CLASS & set(NAMES)
    assert found["acc"] == 0.5


def test_metrics_that_need_both_classes_say_so_alone():
    for metric in (roc_auc, equal_error_rate, roc_points):
        with pytest.raises(ValueError, match="needs both classes"):
            metric(np.array([0.1, 0.2]), np.array([1, 1]))


def test_reliability_counts_every_image_once_in_the_bin_of_its_probability():
    logits, labels = sample(100)

    rows = reliability(logits, labels, temperature=2.0)

    observed, predicted = calibration_curve(labels, sigmoids(logits / 2.0), n_bins=BINS)
    assert sum(row["n"] for row in rows) == 200
    assert [row["observed"] for row in rows] == pytest.approx(observed)
    assert [row["predicted"] for row in rows] == pytest.approx(predicted)


def test_probabilities_do_not_overflow():
    assert sigmoids(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]


def test_summary_names_n_with_every_metric():
    assert set(summary(*sample(5))) == {"acc", "ap", "auc", "n"}
