"""Intervals: from the draws to the ends, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train import resampling
from train.measure import report
from train.metrics import Sample
from train.resampling import (
    difference_interval,
    draw_counts,
    effective_number,
    interval,
    make_clusters,
    mean_interval,
    rank_interval,
)


def sample(n, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * gap, 1.0), labels


def width(ends):
    return ends[1] - ends[0]


def drawn_counts(clusters, draws=1000, seed=1):
    return np.concatenate(list(draw_counts(clusters, draws=draws, seed=seed)))


def test_every_draw_has_as_many_groups_of_each_kind_as_the_set():
    groups = [*["a"] * 2, *[None] * 24, *(f"b{k // 2}" for k in range(20)), *[None] * 11]
    cells = [*["real"] * 26, *["real", "fake"] * 10, *["fake"] * 11]
    clusters = make_clusters(groups, cells)

    counts = drawn_counts(clusters, draws=200)

    assert clusters.count == 46
    assert clusters.of_image[:4].tolist() == [0, 0, 1, 2]
    assert sorted(np.bincount(clusters.stratum)) == [10, 11, 25]
    for stratum in range(3):
        members = clusters.stratum == stratum
        assert (counts[:, members].sum(axis=1) == members.sum()).all()
    assert 0.9 < counts[:, 0].mean() < 1.1


def test_an_author_who_is_alone_in_posting_both_classes_is_not_in_every_draw():
    groups = [*[None] * 80, *["both"] * 200]
    cells = [*["real"] * 40, *["fake"] * 40, *["real", "fake"] * 100]
    clusters = make_clusters(groups, cells)

    of_both = drawn_counts(clusters)[:, clusters.of_image[-1]]

    # drawn 41 times of 41: the variance is 1 - 1 / 41
    assert of_both.var() == pytest.approx(1, abs=0.15)
    assert len(np.unique(clusters.stratum)) == 2


def test_groups_on_several_platforms_are_drawn_with_those_they_are_most_like():
    cells = {f"{p} {y}": [None] * 12 for p in "abc" for y in ("real", "fake")}
    rows = [(None, cell) for cell, found in cells.items() for _ in found]
    rows += [(f"ab{k}", cell) for k in range(10) for cell in ("a real", "b real")]
    rows += [("all", cell) for cell in cells]
    rows += [("abc", cell) for cell in ("a real", "b real", "c real")]
    clusters = make_clusters(*zip(*rows, strict=True))

    counts = drawn_counts(clusters, draws=5000)

    assert np.bincount(clusters.stratum).min() >= 10
    assert (counts.var(axis=0) > 0.8).all()
    last, alike = (clusters.of_image[rows.index(row)] for row in (rows[-1], ("ab0", "a real")))
    assert clusters.stratum[last] == clusters.stratum[alike]


def test_few_groups_that_share_nothing_with_others_are_drawn_among_themselves():
    clusters = make_clusters([None] * 33, [*["real"] * 30, *["fake"] * 3])

    assert sorted(np.bincount(clusters.stratum)) == [3, 30]


def test_draws_depend_on_the_seed_alone_and_are_as_many_as_asked():
    clusters = make_clusters([None] * 3000, [0] * 3000)

    one = drawn_counts(clusters, seed=7)

    assert one.shape == (1000, 3000)
    assert (one == drawn_counts(clusters, seed=7)).all()
    assert (one != drawn_counts(clusters, seed=8)).any()


@pytest.mark.parametrize("cells", [1, 700, 10_000])
def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch, cells):
    logits, labels = sample(100)
    groups = [f"g{k // 3}" for k in range(200)]
    clusters, whole = make_clusters(groups, labels.tolist()), report(logits, labels, groups=groups)
    once = drawn_counts(clusters)

    monkeypatch.setattr(resampling, "CHUNK_CELLS", cells)
    parts = list(draw_counts(clusters, draws=1000, seed=1))

    assert all(part.shape[0] * 200 <= max(cells, 200) for part in parts)
    assert (np.concatenate(parts) == once).all()
    again = report(logits, labels, groups=groups)
    for name in ("acc", "ap", "auc", "brier", "ece"):
        assert again["ci"][name] == pytest.approx(whole["ci"][name], abs=1e-12)


def test_few_groups_of_many_images_are_drawn_few_at_a_time():
    clusters = make_clusters([str(k % 100) for k in range(50_000)], [0] * 50_000)

    first = next(draw_counts(clusters, draws=1000, seed=0))

    assert len(first) * 50_000 <= resampling.CHUNK_CELLS


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_weights_tell_as_much_as_some_equal_ones_whatever_their_scale(weights, scale):
    weights = np.array(weights)

    found = effective_number(weights)

    assert min(2, len(weights)) <= found <= len(weights)
    assert effective_number(np.full(len(weights), scale)) == len(weights)
    assert abs(effective_number(weights * scale) - found) <= 1


def test_images_that_weigh_nearly_nothing_are_no_groups():
    labels = np.repeat([0, 0, 1], [10, 1000, 30])
    weights = np.repeat([1.0, 0.01, 1.0], [10, 1000, 30])
    clusters = make_clusters([None] * 1040, labels.tolist())

    real, fake = clusters.by_class(np.arange(1040), labels, weights)

    # 20 squared over 10 + 1000 * 0.0001
    assert (real, fake) == (39, 30)


def test_the_weight_of_a_group_is_that_of_its_images():
    labels = np.zeros(40, int)
    clusters = make_clusters(["one"] * 20 + [f"g{k}" for k in range(20)], labels.tolist())

    # 40 squared over 20 squared + 20
    assert clusters.by_class(np.arange(40), labels) == (3, 0)


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
    assert mean_interval([], [], None) is None


def test_an_interval_holds_the_value_shrinks_with_n_and_is_reproducible():
    small, large = sample(40), sample(1000)

    found = report(*small, draws=300)
    narrow = report(*large, draws=300)

    for name in ("acc", "ap", "auc", "eer", "brier", "ece"):
        low, high = found["ci"][name]
        assert low <= found[name] <= high
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


def test_the_true_positive_rate_among_few_reals_has_a_wide_interval_by_rank():
    logits, labels = sample(60, gap=2.0)

    low, high = report(logits, labels, draws=100)["ci"]["tpr_at_fpr"]["0.01"]
    wide = rank_interval(Sample(logits, labels), 0.01, (60, 60))

    assert [low, high] == list(wide)
    assert low < 0.35
    assert high > 0.7


def test_a_calibration_error_that_noise_explains_has_zero_in_its_interval():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=300) * 1.5
    calibrated = (rng.random(300) < 1 / (1 + np.exp(-logits))).astype(int)

    honest = report(logits, calibrated, draws=300)
    wrong = report(logits * 6, calibrated, draws=300)

    assert honest["ece"] > 0
    assert honest["ci"]["ece"][0] == 0
    assert wrong["ci"]["ece"][0] > 0.03


def test_draws_that_all_lack_meaning_give_no_interval():
    nothing = np.full(100, np.nan)

    assert interval("auc", 0.5, {"auc": nothing}, 10) is None
    assert difference_interval(0.1, nothing, 10) is None


def test_models_that_never_differ_have_a_difference_no_wider_than_chance_could_hide():
    low, high = difference_interval(0.0, np.zeros(100), 100)

    assert -low == high == pytest.approx(1 - 0.025**0.01)


def world(rng, groups=60):
    """Test scores with groups that share part of their logit."""
    sizes = rng.integers(1, 4, 2 * groups)
    group = np.repeat(np.arange(2 * groups), sizes)
    labels = (group >= groups).astype(int)
    shared = rng.normal(size=2 * groups)[group]
    return 1.4 * labels - 0.7 + 0.7 * shared + 0.7 * rng.normal(size=len(group)), labels, group


TOLD = ("acc", "balanced_acc", "ap", "auc", "eer", "brier")


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
            low, high = grouped["ci"][name]
            hits[name] += low <= truth[name] <= high
        naive += single[0] <= truth["auc"] <= single[1]

    assert all(0.905 <= count / 200 <= 0.985 for count in hits.values()), hits
    assert naive / 200 < hits["auc"] / 200 - 0.02
