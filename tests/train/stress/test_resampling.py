"""Figures of stress tests are those of `evaluate`; means and intervals of theirs against the truth."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from train.intervals.draws import draw_counts
from train.measure import Asked, measure
from train.scores import ScoredSet
from train.stress.resampling import Resamples, amount, mean_of, share


def scored_of(logits, labels, *, platforms=None, groups=None):
    names = tuple(map(str, range(len(labels))))
    return ScoredSet(
        paths=names,
        digests=names,
        platforms=tuple(platforms if platforms is not None else ["x"] * len(labels)),
        labels=np.asarray(labels),
        logits=np.asarray(logits, dtype=float),
        groups=tuple(groups if groups is not None else [None] * len(labels)),
        grouping="given",
        context={},
    )


def drawn_of(labels, *, draws=300, seed=0, **more):
    return Resamples.of(scored_of(labels, labels, **more), draws=draws, seed=seed)


@pytest.fixture(scope="module")
def mixed():
    """Three platforms of unlike difficulty and size, with groups of copies across both classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=240)
    place = rng.choice(3, p=[0.6, 0.3, 0.1], size=240)
    logits = labels * (1 + place) + rng.normal(size=240)
    groups = [None if k % 3 else f"g{k // 9}" for k in range(240)]
    return scored_of(logits, labels, platforms=np.array(["a", "b", "c"])[place], groups=groups)


def test_metrics_of_each_platform_and_their_mean_with_intervals_are_those_of_evaluate(mixed):
    want = measure(mixed, Asked(draws=200, seed=3))

    found = Resamples.of(mixed, draws=200, seed=3).compared(mixed.logits, mixed.logits)

    for name in ("acc", "ap", "auc"):
        pairs = [(found["platforms"][p], want["platforms"][p]) for p in ("a", "b", "c")]
        for mine, theirs in [*pairs, (found["mean"], want["mean"])]:
            assert mine[name]["value"] == pytest.approx(theirs[name])
            assert [mine[name]["low"], mine[name]["high"]] == pytest.approx(theirs["ci"][name])
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(mixed.labels, mixed.logits))
    assert sum(part["n"] for part in found["platforms"].values()) == len(mixed)


def test_of_one_platform_all_images_are_the_platform_and_the_mean():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 30)
    logits = labels + rng.normal(size=60)

    found = drawn_of(labels).compared(logits, -logits)

    for name in ("acc", "ap", "auc", "auc_change", "ap_change"):
        assert found[name] == found["platforms"]["x"][name] == found["mean"][name]
    assert found["auc_change"]["value"] == pytest.approx(2 * found["auc"]["value"] - 1)


def test_a_platform_with_one_class_has_no_auc_and_is_not_in_its_mean():
    labels = np.array([0, 0, 1, 1, 1, 1])
    logits = np.array([-1.0, 0.5, 0.0, 1.0, 2.0, 3.0])

    found = drawn_of(labels, platforms=["a", "a", "a", "a", "b", "b"]).compared(logits, logits)

    assert found["platforms"]["b"]["auc"] is None
    assert found["platforms"]["b"]["auc_change"] is None
    assert found["platforms"]["b"]["acc"]["value"] == 1
    assert found["mean"]["auc"]["value"] == found["platforms"]["a"]["auc"]["value"] == 0.75


def test_a_perfect_detector_has_an_interval_and_what_was_not_changed_has_none():
    labels = np.repeat([0, 1], 20)
    logits = labels * 2.0 - 1

    found = drawn_of(labels).compared(logits, logits)

    assert 0.8 < found["auc"]["low"] < found["auc"]["value"] == found["auc"]["high"] == 1
    assert found["auc_change"] == {"value": 0, "low": 0, "high": 0}
    assert drawn_of(labels).drop(logits, logits.copy(), 0.975) == {"value": 0, "low": 0, "high": 0}


def test_verdicts_of_which_none_flips_may_still_flip_elsewhere():
    draws = drawn_of(np.repeat([0, 1], 20))

    found = share(draws.mean(np.zeros(40)))

    assert found["value"] == found["low"] == 0
    assert 0.05 < found["high"] < 0.25


def test_means_are_over_the_rows_that_are_named_in_every_draw(mixed):
    draws = Resamples.of(mixed, draws=50, seed=1)
    values = np.random.default_rng(2).normal(size=len(mixed))
    rows = draws.rows_of(1)

    found = draws.mean(values, rows)

    assert found.value == pytest.approx(values[mixed.labels == 1].mean())
    counts = np.concatenate(list(draw_counts(draws.clusters, draws=50, seed=1)))
    for one, drawn in zip(found.draws, counts, strict=True):
        weights = drawn[draws.clusters.of_image[rows]].astype(float)
        assert one == pytest.approx(np.average(values[rows], weights=weights))


def test_copies_of_one_picture_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).normal(size=20), 4)
    labels = np.repeat([0, 1], 40)
    copies = [f"g{k // 4}" for k in range(80)]

    tied = drawn_of(labels, groups=copies).mean(values)
    alone = drawn_of(labels).mean(values)

    assert tied.draws.std() > 1.5 * alone.draws.std()


def test_a_paired_drop_is_surer_than_its_two_sides():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    logits = labels + rng.normal(size=200)
    nearly = logits + rng.normal(0, 0.05, size=200)
    draws = drawn_of(labels)

    widths = [f["high"] - f["low"] for f in (draws.auc(logits), draws.drop(logits, nearly, 0.95))]

    assert widths[1] < widths[0] / 5


def test_a_drop_at_higher_confidence_is_wider():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 50)
    one, other = (labels + rng.normal(size=100) for _ in range(2))

    narrow, wide = (drawn_of(labels).drop(one, other, confidence) for confidence in (0.95, 0.975))

    assert wide["low"] < narrow["low"] < narrow["value"] == wide["value"]
    assert wide["high"] > narrow["high"]


def test_one_group_a_class_tells_nothing_of_how_far_a_figure_is_off():
    labels = np.array([0, 0, 1, 1])
    draws = drawn_of(labels, groups=["r", "r", "f", "f"])

    found = draws.compared(np.array([-1.0, -2.0, 1.0, 2.0]), np.zeros(4))

    assert (found["auc"]["low"], found["auc"]["high"]) == (0, 1)
    assert (found["auc_change"]["low"], found["auc_change"]["high"]) == (-1, 1)
    assert amount(draws.mean(np.arange(4.0), draws.rows_of(0))) is None


def test_the_mean_of_means_counts_each_platform_once():
    draws = drawn_of([0, 1] * 8, platforms=["a"] * 4 + ["b"] * 12)
    values = np.array([1.0] * 4 + [0.0] * 12)

    found = mean_of([draws.mean(values, rows) for rows in draws.platforms.values()])

    assert found.value == 0.5
    assert np.allclose(found.draws, 0.5)


@pytest.mark.slow
def test_intervals_of_clustered_images_cover_the_truth_about_as_often_as_they_say():
    """Pictures come in groups of four copies; the truths are the AUC and the mean of many groups."""
    rng = np.random.default_rng(2)

    def world(groups):
        labels = np.repeat([0, 1], 4 * groups)
        centre = np.repeat(rng.normal(size=2 * groups), 4)
        logits = labels * 1.0 + centre + rng.normal(0, 0.3, size=8 * groups)
        return logits, labels, [f"g{k // 4}" for k in range(8 * groups)]

    logits, labels, _ = world(20_000)
    truth = roc_auc_score(labels, logits)
    inside = {"auc": 0, "mean": 0}
    for seed in range(400):
        logits, labels, groups = world(40)
        draws = drawn_of(labels, groups=groups, seed=seed)
        area, mean = draws.auc(logits), amount(draws.mean(logits, draws.rows_of(1)))
        inside["auc"] += area["low"] <= truth <= area["high"]
        inside["mean"] += mean["low"] <= 1 <= mean["high"]
    assert all(0.92 <= count / 400 <= 0.98 for count in inside.values()), inside


def test_a_logit_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        drawn_of([0, 1]).compared(np.array([0.0, np.nan]), np.zeros(2))
