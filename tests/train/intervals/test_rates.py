"""True positive rates at few false positives: what few reals, and groups of them, leave open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from train.intervals.groups import Groups, make_clusters
from train.intervals.rates import LEAST_SHARED, _shared_part, true_rate_interval
from train.measure import Asked, measure, report
from train.metrics import Sample
from train.scores import ScoredSet


def sample(n, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * gap, 1.0), labels


def ends(logits, labels, rate, groups=None, weights=None):
    """Of one platform, with the groups that an evaluation would count."""
    images = Sample(logits, labels, weights=weights)
    clusters = make_clusters(groups or [None] * len(labels), labels.tolist())
    told = clusters.by_class(np.arange(len(labels)), labels, weights)
    point = images.point()[f"tpr_at_fpr_{rate:g}"]
    return true_rate_interval(images, clusters.of_image, told, rate, point)


def test_a_threshold_above_every_real_leaves_the_low_end_at_nothing():
    logits, labels = sample(60, gap=2.0)

    found = report(logits, labels, draws=100)["ci"]["tpr_at_fpr"]

    assert found["0.01"] == pytest.approx(list(ends(logits, labels, 0.01)[:2]))
    assert found["0.01"][0] == 0
    assert 0.6 < found["0.01"][1] < 1
    assert found["0.05"][0] == 0  # 60 reals may all lie below the threshold of 5 %: with 4.6 %


def test_of_many_images_the_interval_is_the_one_of_the_textbook():
    n, rate = 20_000, 0.05
    logits, labels = sample(n, gap=1.5)
    threshold = norm.ppf(1 - rate)
    slope = norm.pdf(threshold - 1.5) / norm.pdf(threshold)
    true = norm.sf(threshold - 1.5)
    error = np.sqrt(true * (1 - true) / n + slope**2 * rate * (1 - rate) / n)

    low, high, middle, _ = ends(logits, labels, rate)

    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert low < true < high
    assert middle == pytest.approx((low + high) / 2, abs=0.1 * error)


def test_the_noise_of_the_fakes_is_counted_once():
    """How far shares are apart, and what of their noise they share, are together how far off one may be."""
    rng = np.random.default_rng(0)
    true, fakes = rng.uniform(0.2, 0.7, 100), 60

    apart, whole = [], []
    for _ in range(2000):
        shares = np.mean(rng.uniform(size=fakes)[:, None] < true, axis=0)
        alone = np.mean(shares * (1 - shares)) / (fakes - 1)
        apart.append(shares.var() + alone * _shared_part(shares))
        whole.append(shares.var() + alone)

    expected = true.var() + np.mean(true * (1 - true)) / fakes
    assert np.mean(apart) == pytest.approx(expected, rel=0.01)
    assert np.mean(whole) > 1.03 * expected


def test_shares_that_are_one_have_all_of_their_noise_in_common():
    assert _shared_part(np.full(100, 0.3)) == pytest.approx(1.0)
    assert _shared_part(np.zeros(100)) == _shared_part(np.ones(100)) == 1.0
    assert _shared_part(np.linspace(0.0, 1.0, 10_001)) == pytest.approx(0.5, abs=1e-3)
    assert _shared_part(np.repeat([0.0, 0.99], [90, 10])) == LEAST_SHARED  # 0.1 by itself


@pytest.mark.parametrize(("n", "rate"), [(60, 0.01), (60, 0.05), (150, 0.05), (500, 0.01)])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(n, rate):
    true = norm.sf(norm.ppf(1 - rate) - 2.0)
    found = [ends(*sample(n, seed=k, gap=2.0), rate) for k in range(400)]

    # a true 95 % of 400 lies in [92.0, 97.5] with probability 0.99
    assert 0.92 <= np.mean([low <= true <= high for low, high, *_ in found]) <= 0.985


def test_copies_tell_no_more_than_one_of_them():
    logits, labels = sample(400, gap=2.0)
    copied, names = (np.repeat(logits, 5), np.repeat(labels, 5)), np.repeat(np.arange(800), 5)

    honest = ends(*copied, 0.05, groups=[str(k) for k in names])
    naive = ends(*copied, 0.05)

    assert honest[:2] == pytest.approx(ends(logits, labels, 0.05)[:2], abs=0.03)
    assert naive.high - naive.low < 0.6 * (honest.high - honest.low)


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_ten_pictures_of_which_there_are_twenty_copies_tell_as_much_as_ten(rate):
    rng = np.random.default_rng(0)
    reals, fakes = np.repeat(rng.normal(size=10), 20), rng.normal(2.0, 1.0, size=200)
    labels = np.repeat([0, 1], 200)
    groups = [*(f"g{k // 20}" for k in range(200)), *[None] * 200]

    copied = ends(np.concatenate([reals, fakes]), labels, rate, groups=groups)
    alone = ends(np.concatenate([reals[::20], fakes]), np.repeat([0, 1], [10, 200]), rate)

    assert copied.low == alone.low == 0
    assert copied.high >= alone.high - 0.02


def test_accounts_that_are_all_or_nothing_found_tell_as_much_as_their_number():
    rng = np.random.default_rng(0)
    found = np.repeat(np.arange(20) < 12, 15)
    logits = np.concatenate([rng.normal(size=600), np.where(found, 9.0, -9.0)])
    groups = [*[None] * 600, *(f"g{k // 15}" for k in range(300))]

    low, high, *_ = ends(logits, np.repeat([0, 1], [600, 300]), 0.05, groups=groups)

    # of a share of 12 in 20 the standard error is .11
    assert low < 0.42
    assert high > 0.78


def test_a_low_end_of_which_nothing_is_known_stays_open_in_the_mean_of_platforms():
    logits, labels = sample(240, gap=4.0)
    names = tuple(str(k) for k in range(480))
    places = tuple("abcd"[k % 4] for k in range(480))
    nobody = (None,) * 480

    found = measure(
        ScoredSet(names, names, places, labels, logits, nobody, "given", {}), Asked(draws=100)
    )

    assert all(found["platforms"][p]["ci"]["tpr_at_fpr"]["0.01"][0] == 0 for p in "abcd")
    assert found["mean"]["ci"]["tpr_at_fpr"]["0.01"][0] == 0


def test_that_few_groups_leave_likeness_in_doubt_counts_where_it_was_looked_at():
    logits, labels = sample(200, gap=2.0)
    group = np.concatenate([np.arange(200) // 4, np.arange(200, 400)])
    images = Sample(logits, labels)

    def width(freedom, rate):
        told = Groups(50, freedom=freedom), Groups(200)
        point = images.point()[f"tpr_at_fpr_{rate:g}"]
        low, high, *_ = true_rate_interval(images, group, told, rate, point)
        return high - low

    assert width(1, 0.05) > 1.05 * width(500, 0.05)
    assert width(1, 0.01) == width(500, 0.01)  # two images lie above: what is supposed is from five


def test_images_that_weigh_nothing_change_nothing():
    logits, labels = sample(100, gap=2.0)
    weights = np.where(np.arange(200) % 2, 1.0, 1e-9)
    kept = weights > 0.5

    found = ends(logits, labels, 0.05, weights=weights)

    assert found[:3] == pytest.approx(ends(logits[kept], labels[kept], 0.05)[:3], abs=0.03)


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(2, 40), st.sampled_from([0.01, 0.05]))
def test_whatever_the_scores_the_ends_are_rates_around_the_one_that_was_found(seed, n, m, rate):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n, m])
    logits = rng.integers(-3, 4, size=n + m) * 1.0  # ties
    groups = [f"g{k}" for k in rng.integers(0, n + m, size=n + m)]

    low, high, middle, _ = ends(logits, labels, rate, groups=groups)

    assert 0 <= low <= Sample(logits, labels).point()[f"tpr_at_fpr_{rate:g}"] <= high <= 1
    assert low <= middle <= high
    assert ends(np.exp(logits), labels, rate, groups=groups)[:3] == pytest.approx(
        (low, high, middle)
    )
