"""Weighted metrics against scikit-learn, resamples against the images, intervals against the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from train import metrics
from train.stress.resampling import (
    METRICS,
    Resamples,
    accuracy,
    auc,
    average_precision,
    class_mean,
    with_interval,
)

PLAIN = {
    "acc": metrics.accuracy, "ap": metrics.average_precision, "auc": metrics.roc_auc,
}  # fmt: skip
SETS = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=40
).filter(
    lambda rows: len({(y, w > 0) for _, y, w in rows} & {(0, True), (1, True)}) == 2
)  # fmt: skip


@given(rows=SETS)
def test_weighted_metrics_are_those_of_scikit_learn_ties_included(rows):
    logits, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    logits, each = logits / 2, weights[None].astype(float)
    seen = weights > 0  # scikit-learn drops no threshold of weight 0, which moves nothing

    assert auc(logits, labels, each)[0] == pytest.approx(
        roc_auc_score(labels[seen], logits[seen], sample_weight=weights[seen])
    )
    assert average_precision(logits, labels, each)[0] == pytest.approx(
        average_precision_score(labels[seen], logits[seen], sample_weight=weights[seen])
    )
    assert accuracy(logits, labels, each)[0] == pytest.approx(
        np.average((logits > 0) == (labels == 1), weights=weights)
    )


@given(rows=SETS)
def test_a_weight_of_two_is_the_image_twice(rows):
    logits, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(weights)), weights)

    for name, own in METRICS.items():
        weighted = own(logits.astype(float), labels, weights[None].astype(float))[0]
        plain = PLAIN[name](logits[repeated], labels[repeated])
        assert weighted == pytest.approx(plain)


def test_clusters_are_drawn_whole_and_each_class_on_its_own():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    clusters = np.array(["a", "a", "b", "c", "a", "d", "d", "e"])

    weights = Resamples.draw(labels, clusters, draws=50, seed=0).weights

    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 5] == weights[:, 6]).all()
    assert not (weights[:, 0] == weights[:, 4]).all()
    counts = weights[1:, [0, 2, 3]].sum(axis=1)
    assert (counts == 3).all()


def test_the_first_value_is_that_of_the_sample_and_the_interval_holds_it():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    logits = labels + rng.normal(size=100)

    values = Resamples.draw(labels, np.arange(100), draws=300, seed=0).values(auc, logits)

    found = with_interval(values)
    assert found["value"] == pytest.approx(roc_auc_score(labels, logits))
    assert found["low"] < found["value"] < found["high"]
    assert len(values) == 301


def test_a_paired_difference_is_surer_than_its_two_sides():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    logits = labels + rng.normal(size=200)
    nearly = logits + rng.normal(0, 0.05, size=200)
    draws = Resamples.draw(labels, np.arange(200), draws=300, seed=0)

    one, other = draws.values(auc, logits), draws.values(auc, nearly)

    width = {k: (v := with_interval(x))["high"] - v["low"]
             for k, x in {"one": one, "difference": one - other}.items()}  # fmt: skip
    assert width["difference"] < width["one"] / 5


@pytest.mark.slow
def test_intervals_of_clustered_images_cover_the_truth_about_as_often_as_they_say():
    """Pictures come in groups of four copies; the truth is the AUC of many groups."""
    rng = np.random.default_rng(2)

    def world(groups):
        labels = np.repeat([0, 1], 4 * groups)
        centre = np.repeat(rng.normal(size=2 * groups), 4)
        logits = labels * 1.0 + centre + rng.normal(0, 0.3, size=8 * groups)
        return logits, labels, np.repeat(np.arange(2 * groups), 4)

    logits, labels, _ = world(20_000)
    truth = roc_auc_score(labels, logits)
    inside = 0
    for seed in range(400):
        logits, labels, clusters = world(40)
        draws = Resamples.draw(labels, clusters, draws=300, seed=seed)
        found = with_interval(draws.values(auc, logits))
        inside += found["low"] <= truth <= found["high"]
    assert 0.91 <= inside / 400 <= 0.98


def test_means_are_over_the_class_that_is_named():
    labels = np.array([0, 0, 1])
    values = np.array([1.0, 3.0, 10.0])
    draws = Resamples(labels, np.ones((1, 3), dtype=np.float32))

    assert draws.values(class_mean(values, 0), values)[0] == 2
    assert draws.values(class_mean(values, 1), values)[0] == 10


def test_a_logit_that_is_no_number_is_refused():
    draws = Resamples(np.array([0, 1]), np.ones((1, 2), dtype=np.float32))

    with pytest.raises(ValueError, match="1 of 2 logits are NaN"):
        draws.values(auc, np.array([0.0, np.nan]))
