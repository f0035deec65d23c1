"""Intervals of a metric, of a difference and of a mean, from their draws."""

import numpy as np
import pytest

from train.intervals.ends import difference_interval, interval, mean_interval
from train.intervals.groups import Groups
from train.measure import report
from train.metrics import Sample


def sample(n, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * gap, 1.0), labels


def width(ends):
    return ends[1] - ends[0]


def test_the_mean_of_one_metric_is_as_open_as_that_metric():
    drawn = np.random.default_rng(0).normal(size=(1, 500))

    assert mean_interval([0.9], [(0.7, 0.95)], drawn) == pytest.approx((0.7, 0.95))


def test_what_independent_metrics_may_be_off_adds_up_in_quadrature_on_either_side():
    drawn = np.array([[0.0, 1, 0, 1], [0.0, 0, 1, 1]])

    low, high = mean_interval([0.8, 0.6], [(0.5, 0.9), (0.2, 0.6)], drawn)

    assert low == pytest.approx(0.7 - np.hypot(0.3, 0.4) / 2)
    assert high == pytest.approx(0.7 + np.hypot(0.1, 0.0) / 2)


def test_metrics_that_rise_and_fall_together_are_off_together():
    rise = np.random.default_rng(0).normal(size=500)
    rise[3] = np.nan

    together = mean_interval([0.8, 0.6], [(0.5, 0.9), (0.2, 0.7)], np.array([rise, 2 * rise]))
    against = mean_interval([0.8, 0.6], [(0.5, 0.9), (0.3, 0.7)], np.array([rise, -rise]))

    assert together == pytest.approx((0.35, 0.8))
    assert against == pytest.approx((0.7, 0.7))


def test_a_metric_whose_draws_agree_leaves_the_mean_as_open_as_its_bound():
    drawn = np.array([np.ones(200), np.random.default_rng(0).normal(0.95, 0.005, 200)])

    low, high = mean_interval([1.0, 0.95], [(0.83, 1.0), (0.94, 0.96)], drawn)

    assert low == pytest.approx(0.975 - np.hypot(0.17, 0.01) / 2)
    assert high == pytest.approx(0.975 + 0.005)


def test_a_mean_has_no_interval_where_one_of_its_metrics_has_none():
    drawn = np.zeros((2, 10))

    assert mean_interval([0.8, 0.6], [(0.5, 0.9), None], drawn) is None
    assert mean_interval([], [], drawn) is None


def test_an_interval_holds_the_value_shrinks_with_n_and_is_reproducible():
    small, large = sample(40), sample(1000)

    found = report(*small, draws=300)
    narrow = report(*large, draws=300)

    for name in ("acc", "ap", "auc", "eer", "brier", "ece"):
        low, high = found["ci"][name]
        assert low <= found[name]
        assert found[name] <= high or name == "ece"  # to which noise adds
        assert width(narrow["ci"][name]) < width(found["ci"][name]) / 2
    assert report(*small, draws=300) == found


def test_an_interval_has_about_the_spread_theory_gives():
    labels = np.repeat([0, 1], 200)
    logits = np.where(np.arange(400) % 10 < 2, -1.0, 1.0) * np.where(labels == 1, 1, -1)

    low, high = report(logits, labels, draws=2000)["ci"]["acc"]

    # accuracy 0.8 of 400: the standard error is 0.02
    assert low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.006)


def test_copies_of_one_author_do_not_narrow_the_interval():
    scores, labels = sample(50)
    repeated, authors = (np.repeat(scores, 8), np.repeat(labels, 8)), np.repeat(np.arange(100), 8)

    honest = report(*repeated, draws=400, groups=[str(a) for a in authors])
    naive = report(*repeated, draws=400)
    single = report(scores, labels, draws=400)

    assert width(honest["ci"]["auc"]) > 2 * width(naive["ci"]["auc"])
    assert honest["ci"]["auc"] == pytest.approx(single["ci"]["auc"], abs=0.02)


def test_a_detector_without_an_error_is_not_said_to_be_perfect():
    labels = np.repeat([0, 1], 30)

    found = report(labels * 8.0 - 4, labels, draws=200)

    assert (found["acc"], found["auc"], found["ap"], found["eer"]) == (1.0, 1.0, 1.0, 0.0)
    # no failure in 30: the exact lower end is 0.025 ** (1 / 30)
    assert found["ci"]["auc"] == pytest.approx([0.8843, 1.0], abs=1e-3)
    assert found["ci"]["ap"][0] < 0.9
    assert found["ci"]["eer"][1] > 0.1
    assert found["brier"] < 0.001
    assert found["ci"]["brier"][1] > 0.1  # a confident mistake may be to come
    assert found["ci"]["ece"][1] > 0.1


def test_one_group_says_nothing_of_how_far_off_a_metric_is():
    logits, labels = sample(20)

    found = report(logits, labels, draws=50, groups=["one"] * 40)

    assert found["ci"]["auc"] is None
    assert found["n_groups"] == 1


def test_one_class_has_an_interval_of_accuracy_alone():
    found = report(np.array([1.0, -1.0, 2.0, 1.0]), np.ones(4, int), draws=100)

    assert found["ci"]["acc"] is not None
    assert found["ci"]["auc"] is None
    assert found["ci"]["tpr_at_fpr"] == {"0.01": None, "0.05": None}


def test_draws_that_all_lack_meaning_give_no_interval():
    nothing = np.full(100, np.nan)

    assert interval(0.5, nothing, Groups.weighing(np.ones(10))) is None
    assert difference_interval(0.1, nothing, Groups.weighing(np.ones(10))) is None


def test_models_that_never_differ_have_a_difference_no_wider_than_chance_could_hide():
    low, high = difference_interval(0.0, np.zeros(100), Groups.weighing(np.ones(100)))

    assert -low == high == pytest.approx(1 - 0.025**0.01)


def world(rng, groups=60):
    """Test scores with groups that share part of their logit."""
    sizes = rng.integers(1, 4, 2 * groups)
    group = np.repeat(np.arange(2 * groups), sizes)
    labels = (group >= groups).astype(int)
    shared = rng.normal(size=2 * groups)[group]
    return 1.4 * labels - 0.7 + 0.7 * shared + 0.7 * rng.normal(size=len(group)), labels, group


TOLD = (
    *("acc", "balanced_acc", "ap", "auc", "eer", "brier", "ece"),
    *("tpr_at_fpr_0.01", "tpr_at_fpr_0.05"),
)


def ends_of(ci, name):
    rate = name.removeprefix("tpr_at_fpr_")
    return ci[name] if rate == name else ci["tpr_at_fpr"][rate]


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say_and_naive_ones_do_not():
    # 200 worlds: a true 95 % lies in [90.5, 98.5] with probability 0.99 (tests/benchmarks/intervals.py
    # measures it at full size)
    rng = np.random.default_rng(0)
    big = world(rng, 60_000)
    truth = Sample(big[0], big[1]).point()
    hits = dict.fromkeys(TOLD, 0)
    naive = 0
    for seed in range(200):
        logits, labels, group = world(rng)
        grouped = report(logits, labels, draws=300, seed=seed, groups=[str(g) for g in group])
        single = report(logits, labels, draws=300, seed=seed)["ci"]["auc"]
        for name in TOLD:
            low, high = ends_of(grouped["ci"], name)
            hits[name] += low <= truth[name] <= high
        naive += single[0] <= truth["auc"] <= single[1]

    assert all(0.905 <= count / 200 <= 0.985 for count in hits.values()), hits
    assert naive / 200 < hits["auc"] / 200 - 0.02


def test_an_equal_error_rate_that_one_image_makes_may_be_of_no_image():
    logits = np.concatenate([np.linspace(-3, -1, 19), [1.5], np.linspace(1, 3, 20)])

    found = report(logits, np.repeat([0, 1], 20), draws=300)

    assert found["eer"] == pytest.approx(0.05)
    low, high = found["ci"]["eer"]
    # of one error in twenty of each class, the standard error is that of a share of forty
    assert low < 0.014
    assert high > 0.15
