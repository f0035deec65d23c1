"""Groups: which images go together, and how much so few or so unequal ones can tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from train.intervals.groups import Groups, likeness, make_clusters, together, weakest


def test_few_groups_that_share_nothing_with_others_are_drawn_among_themselves():
    clusters = make_clusters([None] * 33, [*["real"] * 30, *["fake"] * 3])

    assert sorted(np.bincount(clusters.stratum)) == [3, 30]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_weights_tell_as_much_as_some_equal_ones_whatever_their_scale(weights, scale):
    weights = np.array(weights)

    found = Groups.weighing(weights).number

    assert min(2, len(weights)) <= found <= len(weights)
    assert Groups.weighing(np.full(len(weights), scale)).number == len(weights)
    assert abs(Groups.weighing(weights * scale).number - found) <= 1


def test_images_that_weigh_nearly_nothing_are_no_groups():
    labels = np.repeat([0, 0, 1], [10, 1000, 30])
    weights = np.repeat([1.0, 0.01, 1.0], [10, 1000, 30])
    clusters = make_clusters([None] * 1040, labels.tolist())

    real, fake = clusters.by_class(np.arange(1040), labels, weights)

    # 20 squared over 10 + 1000 * 0.0001
    assert (real.number, fake.number) == (39, 30)


def test_the_weight_of_a_group_is_that_of_its_images():
    labels = np.zeros(40, int)
    clusters = make_clusters(["one"] * 20 + [f"g{k}" for k in range(20)], labels.tolist())

    # 40 squared over 20 squared + 20
    real, fake = clusters.by_class(np.arange(40), labels)
    assert (real.number, fake.number) == (3, 0)


def test_how_alike_images_are_in_several_ways_is_that_in_one_if_the_others_are_constant():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(30), 4)
    values = rng.normal(size=30)[group] + rng.normal(size=120)

    found = likeness(np.column_stack([values, np.ones(120)]), group)

    assert found == pytest.approx(likeness(values, group))
    assert 0.1 < found < 0.9


def test_a_group_of_one_image_is_of_one_class_by_chance_where_most_are_of_both():
    by_chance = make_clusters(
        [*(f"b{k // 2}" for k in range(60)), *(f"r{k}" for k in range(20)), *["f0"] * 3],
        [*["real", "fake"] * 30, *["real"] * 20, *["fake"] * 3],
    )
    by_design = make_clusters(
        [*(f"b{k // 2}" for k in range(60)), *(f"r{k}" for k in range(40))],
        [*["real", "fake"] * 30, *["real"] * 40],
    )

    assert by_chance.stratum.tolist() == [0] * 51
    assert sorted(np.bincount(by_design.stratum)) == [30, 40]


@pytest.mark.parametrize("few", [[1.0] * 12, [20.0, 20.0, *[1.0] * 60], [8.0, 5.0, 3.0, 1.0]])
def test_draws_of_unequal_groups_show_the_share_of_the_variance_that_is_told(few):
    weights = np.array(few) / sum(few)
    of_groups = np.random.default_rng(0).normal(size=(40_000, len(few)))
    mean = of_groups @ weights
    # the variance that draws with replacement have, in the limit of many
    drawn = ((weights * (of_groups - mean[:, None])) ** 2).sum(axis=1)

    groups = Groups.weighing(weights)
    assert groups.shown == pytest.approx(drawn.mean() / mean.var(), rel=0.03)
    assert groups.variance == pytest.approx(mean.var(), rel=0.03)


def test_of_independent_images_draws_show_more_than_of_images_that_are_alike():
    sizes = np.array([40, *[1] * 60])
    group = np.repeat(np.arange(61), sizes)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 100))
    off = values - values.mean(axis=1, keepdims=True)
    drawn = (np.stack([off[:, group == g].sum(axis=1) for g in range(61)]) ** 2).sum(axis=0)

    alone, alike = Groups.weighing(sizes / 100, 1 / sizes), Groups.weighing(sizes / 100)

    assert alone.shown == pytest.approx(drawn.mean() / 100, rel=0.02)
    assert alone.shown > 2 * alike.shown
    assert alone.variance == pytest.approx(0.01)


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_how_alike_the_images_of_a_group_are_is_found(alike):
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(400), rng.integers(1, 6, 400))
    values = np.sqrt(alike) * rng.normal(size=400)[group]
    values += np.sqrt(1 - alike) * rng.normal(size=len(group))

    assert likeness(values, group) == pytest.approx(alike, abs=0.08)


def test_copies_are_alike_and_where_nothing_tells_images_are_taken_to_be():
    assert likeness(np.repeat([1.0, 2.0, 4.0], 3), np.repeat([0, 1, 2], 3)) == 1
    assert likeness(np.array([1.0, 2.0, 4.0]), np.arange(3)) == 1
    assert likeness(np.array([1.0, 2.0, 4.0]), np.zeros(3, int)) == 1
    assert likeness(np.zeros(6), np.repeat([0, 1], 3)) == 1


def test_equal_groups_reach_as_far_as_students_distribution_says():
    groups = Groups.weighing(np.ones(15))

    assert (groups.number, groups.shown) == (15, pytest.approx(14 / 15))
    assert groups.reach() == pytest.approx(student.ppf(0.975, 14) * np.sqrt(15 / 14))
    assert groups.reach(0.5) < groups.reach(0.9) < groups.reach(0.99)


def test_an_author_with_most_of_the_images_makes_an_interval_wider():
    alike = Groups.weighing(np.ones(61))
    one_heavy = Groups.weighing(np.array([40.0, *np.ones(60)]))

    assert one_heavy.number < alike.number
    assert one_heavy.shown < 0.5
    assert one_heavy.reach() > 2 * alike.reach()


def test_two_classes_of_equal_groups_have_the_freedom_of_both_as_welch_says():
    few, many = Groups.weighing(np.ones(12)), Groups.weighing(np.ones(400))

    assert together([few, few]).freedom == pytest.approx(2 * 11)
    assert 11 < together([few, many]).freedom < 13
    assert together([few, Groups(0)]).reach() == pytest.approx(few.reach())
    assert together([Groups(0), Groups(0)]).number == 0
    assert together([few, many]).number == 12


def test_of_two_sets_the_one_whose_interval_reaches_farther_counts():
    few, many = Groups.weighing(np.ones(5)), Groups.weighing(np.ones(400))

    assert weakest([many, few]) == few


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=40))
def test_whatever_the_weights_some_of_the_variance_is_shown_and_the_reach_is_a_number(weights):
    groups = Groups.weighing(np.array(weights))

    assert 0 < groups.shown <= 1
    assert groups.number >= 2
    assert np.isfinite(groups.reach())
