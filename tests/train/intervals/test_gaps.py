"""The calibration error: how much of it noise may have added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.intervals.ends import Drawn, mean_error_interval, metric_interval
from train.intervals.gaps import (
    calibration_error_interval,
    chance_correlation,
    error_groups,
    hidden_variance,
)
from train.intervals.groups import Groups, make_clusters, together
from train.measure import report
from train.metrics import Calibrated, Sample

MANY = Groups(10_000)


def test_a_calibration_error_that_noise_explains_has_zero_in_its_interval():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=300) * 1.5
    calibrated = (rng.random(300) < 1 / (1 + np.exp(-logits))).astype(int)

    honest = report(logits, calibrated, draws=300)
    wrong = report(logits * 6, calibrated, draws=300)

    assert honest["ece"] > 0
    assert honest["ci"]["ece"][0] == 0
    assert wrong["ci"]["ece"][0] > 0.03


def test_without_noise_the_error_is_known():
    gaps = np.array([0.02, -0.01, 0.03])

    found = calibration_error_interval(gaps, np.tile(gaps, (100, 1)), MANY)

    assert found[:3] == pytest.approx((0.06, 0.06, 0.06), abs=5e-5)


@pytest.mark.parametrize(
    "true",
    [
        [0.0] * 15,
        [3.5, 2.4, 1.7, 1.2, 0.8, 0.5, 0.3, 0.0, -0.3, -0.5, -0.8, -1.2, -1.7, -2.4, -3.5],
        [1.0] * 15,
        [6.0] + [0.0] * 14,
        [12.0, 5.0] + [0.0] * 13,
        [8.0, 4.0, -4.0, 8.0, 3.0] * 3,
    ],
    ids=["none", "small in the middle", "as large as noise", "in one bin", "in two bins", "large"],
)
def test_the_true_error_is_within_at_least_about_as_often_as_is_said(true):
    rng = np.random.default_rng(0)
    noise = 0.005 * rng.normal(size=(400, 15))
    held = 0
    for _ in range(300):
        gaps = 0.005 * (np.array(true) + rng.normal(size=15))
        low, high, *_ = calibration_error_interval(gaps, gaps + noise, MANY)
        held += low <= 0.005 * np.abs(true).sum() <= high

    # a true 95 % of 300 is above 91.5 with probability 0.99; which bins hold the error is not known, and
    # for some it is more
    assert held / 300 > 0.915


@pytest.mark.parametrize(
    "groups", [Groups.weighing(np.array(w)) for w in ([1.0, 1], [40.0, *[1.0] * 60], [1.0] * 30)]
)
def test_the_fewer_groups_the_wider_is_the_interval_on_either_side(groups):
    noise = 0.005 * np.random.default_rng(0).normal(size=(400, 15))
    gaps = np.full(15, 0.012)

    few = calibration_error_interval(gaps, gaps + noise, groups)
    many = calibration_error_interval(gaps, gaps + noise, MANY)

    assert few.low <= many.low < many.high < few.high


def test_the_middle_is_what_is_left_when_the_noise_is_taken_off():
    rng = np.random.default_rng(1)
    noise = 0.005 * rng.normal(size=(400, 15))
    found = [
        calibration_error_interval(gaps, gaps + noise, MANY)
        for gaps in 0.005 * (3.0 + rng.normal(size=(200, 15)))
    ]

    assert np.mean([one.middle for one in found]) == pytest.approx(0.005 * 3 * 15, rel=0.02)


def test_the_gaps_of_the_bins_add_up_to_the_error():
    rng = np.random.default_rng(3)
    images = Sample(rng.normal(size=200), rng.integers(0, 2, 200))

    assert np.abs(images.gaps()).sum() == pytest.approx(images.point()["ece"])
    drawn = images.values(rng.integers(0, 3, size=(20, 200)))
    assert np.abs(drawn["ece_gaps"]).sum(axis=1) == pytest.approx(drawn["ece"])


def test_a_bin_of_one_image_hides_more_of_its_variance_than_one_of_many():
    one, ten, both = hidden_variance(np.array([[0.0, 0.0, 40.0], [1.0, 10.0, 40.0]])) * 91**2

    assert one > ten / 10 > 0
    assert both < one


def test_the_bins_hold_all_images_and_are_those_of_the_gaps():
    rng = np.random.default_rng(4)
    images = Sample(rng.normal(size=50), rng.integers(0, 2, 50), Calibrated(2.0, 0.3))

    for suffix in ("", "_calibrated"):
        held = images.bins(suffix)
        assert held.sum(axis=1).tolist() == np.bincount(images.labels).tolist()
        assert len(images.gaps(suffix)) == held.shape[1]


def test_draws_without_meaning_are_left_out_and_too_many_of_them_leave_nothing():
    gaps, drawn = np.array([0.02, 0.01]), np.full((10, 2), 0.015)
    drawn[:4] = np.nan

    assert calibration_error_interval(gaps, drawn, MANY) is not None
    drawn[:6] = np.nan
    assert calibration_error_interval(gaps, drawn, MANY) is None
    assert calibration_error_interval(gaps, np.zeros((10, 2)), Groups(1)) is None


@given(
    st.lists(st.floats(-0.06, 0.06), min_size=1, max_size=15),
    st.floats(0, 0.1),
    st.integers(0, 1000),
)
def test_whatever_the_gaps_the_ends_are_in_order_and_the_interval_has_a_width(gaps, size, seed):
    gaps = np.array(gaps)
    noise = size * np.random.default_rng(seed).normal(size=(50, len(gaps)))

    low, high, middle, _ = calibration_error_interval(
        gaps, gaps + noise, Groups.weighing(np.ones(30))
    )

    assert 0 <= low <= middle <= high <= 1
    assert high > 0 or not gaps.any()


def test_an_error_below_that_of_noise_alone_leaves_an_interval_all_the_same():
    noise = 0.01 * np.random.default_rng(0).normal(size=(400, 15))
    gaps = np.full(15, 1e-4)

    assert calibration_error_interval(gaps, gaps + noise, MANY)[:2] == pytest.approx((0, 15e-4))


def accounts(sizes, seed):
    """Scores of the images of some accounts, which have nothing in common, labels as the scores say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=sum(sizes)) * 2.0
    labels = (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(int)
    return logits, labels, np.repeat(np.arange(len(sizes)), sizes)


def squares(logits, labels, group):
    """Over all pairs of bins, of the correlation of what groups add to them."""
    probability = 1 / (1 + np.exp(-logits))
    _, column = np.unique(np.ceil(probability * 15), return_inverse=True)
    added = np.zeros((group.max() + 1, column.max() + 1))
    np.add.at(added, (group, column), probability - labels)
    unit = added / np.linalg.norm(added, axis=0)
    return ((unit.T @ unit) ** 2).sum() - len(unit.T)


def test_what_few_accounts_show_of_correlation_by_chance_is_as_said():
    sizes = [60, 50, 40, 30, 20, *[1] * 100]
    shown, said = [], []
    for seed in range(100):
        logits, labels, group = accounts(sizes, seed)
        shown.append(squares(logits, labels, group))
        said.append(chance_correlation([Sample(logits, labels)], [group]))

    assert np.mean(said) == pytest.approx(np.mean(shown), rel=0.1)
    assert np.mean(said) > 15


def test_images_that_are_their_own_groups_show_no_correlation_by_chance():
    logits, labels, group = accounts([1] * 200, 0)

    assert chance_correlation([Sample(logits, labels)], [group]) == pytest.approx(0, abs=1e-12)


def test_an_account_on_two_platforms_shows_correlation_of_their_bins_by_chance():
    logits, labels, group = accounts([40] * 6, 0)
    one, two = (np.flatnonzero(np.arange(240) % 2 == k) for k in (0, 1))
    parts = [Sample(logits[of], labels[of]) for of in (one, two)]

    shared = chance_correlation(parts, [group[one], group[two]])
    apart = chance_correlation(parts, [group[one], group[two] + 6])

    assert apart == pytest.approx(
        sum(chance_correlation([p], [group[of]]) for p, of in zip(parts, (one, two), strict=True))
    )
    assert shared > 1.5 * apart


def test_bins_that_move_together_leave_more_open_unless_it_is_by_chance():
    rng = np.random.default_rng(0)
    noise = 0.005 * rng.normal(size=(400, 1)) * np.ones(15)
    gaps = np.full(15, 0.012)

    true = calibration_error_interval(gaps, gaps + noise, MANY)
    chance = calibration_error_interval(gaps, gaps + noise, MANY, chance=15 * 14.0)

    assert chance.high - chance.low < 0.6 * (true.high - true.low)


def test_images_of_an_account_tell_more_of_the_error_the_less_they_have_in_common():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 40)
    labels = (group % 2).astype(int)
    various = rng.normal(size=320) * 2.0
    alike = rng.normal(size=8)[group] * 2.0

    free, bound = (error_groups(Sample(logits, labels), group) for logits in (various, alike))

    assert (free.number, bound.number) == (4, 4)
    assert free.variance < bound.variance / 10


def test_an_account_whose_images_have_nothing_in_common_tells_about_as_much_as_they_do():
    wide = {True: [], False: []}
    for seed in range(30):
        logits, labels, group = accounts([60, *[1] * 120], seed)
        for grouped, found in wide.items():
            names = [f"g{k}" for k in group] if grouped else None
            low, high = report(logits, labels, groups=names, draws=200)["ci"]["ece"]
            found.append(high - low)

    assert 0.9 < np.mean(wide[True]) / np.mean(wide[False]) < 1.2


@pytest.mark.parametrize("seed", range(5))
def test_correlations_that_so_few_draws_show_by_chance_change_next_to_nothing(seed):
    noise = 0.001 * np.random.default_rng(seed).normal(size=(500, 150))
    gaps = np.full(150, 0.002)

    found = calibration_error_interval(gaps, gaps + noise, MANY)
    without = calibration_error_interval(gaps, gaps + noise, MANY, chance=1e9)

    assert found.high - found.low == pytest.approx(without.high - without.low, rel=0.03)


def drawn_part(logits, labels, group, noise):
    """As an evaluation has it, with gaps that are off by `noise` in the draws."""
    images = Sample(logits, labels)
    clusters = make_clusters([str(k) for k in group], labels.tolist())
    groups = clusters.by_class(np.arange(len(labels)), labels, values=logits)
    return Drawn(images, {"ece_gaps": images.gaps() + noise}, group, groups)


def test_the_interval_of_the_error_knows_what_is_chance_and_what_images_of_an_account_share():
    logits, labels, group = accounts([60, 60, *[1] * 80], 0)
    noise = 0.01 * np.random.default_rng(0).normal(size=(300, 1)) * np.ones(15)
    part = drawn_part(logits, labels, group, noise)
    chance, told = chance_correlation([part.sample], [group]), error_groups(part.sample, group)
    hidden = hidden_variance(part.sample.bins())

    def ends(groups, chance):
        gaps = part.sample.gaps()
        return calibration_error_interval(gaps, gaps + noise, groups, hidden, chance)

    found = metric_interval("ece", part)

    assert found == ends(told, chance)
    assert found != ends(told, 0.0)
    assert found != ends(together(part.groups), chance)


def test_the_same_accounts_on_all_platforms_tell_no_more_than_on_one():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 20)
    labels = group % 2
    logits = 1.5 * (2 * labels - 1 + rng.normal(size=10)[group] + 0.3 * rng.normal(size=200))
    bins = len(Sample(logits, labels).gaps())
    noises = 0.005 * rng.normal(size=(4, 300, bins))

    def width(step):
        parts = [drawn_part(logits, labels, group + step * k, n) for k, n in enumerate(noises)]
        low, high = mean_error_interval("", parts)
        return high - low

    assert width(0) > 1.15 * width(10)


def test_copies_are_alike_whatever_each_of_them_weighs():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 8)
    weights = rng.choice([0.1, 1.0], size=320)
    images = Sample(rng.normal(size=40)[group], group % 2, weights=weights)

    found = error_groups(images, group)
    sides = [group % 2 == y for y in (0, 1)]

    assert found == together(Groups.telling(group[y], weights[y]) for y in sides)


def test_images_that_weigh_nothing_are_in_no_bin_of_the_error():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=60), np.arange(60) % 2
    one = Sample(logits, labels, weights=np.where(logits > 0.5, 0.0, 1.0))

    assert np.isfinite(hidden_variance(one.bins())).all()
    assert np.isfinite(chance_correlation([one], [np.arange(60) // 3]))
