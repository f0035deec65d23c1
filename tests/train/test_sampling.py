"""What an epoch shows: each image as often as its cell says, whatever the numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sampling import Place, cells_of, plan_epoch, shares_to_counts, turns

PLACES = st.lists(
    st.builds(
        Place,
        st.integers(0, 2),
        st.integers(0, 1),
        st.sampled_from(["reddit", "x", ""]),
    ),
    min_size=1,
    max_size=60,
)
BALANCE = st.sampled_from(["none", "class", "class-platform"])


def plan(places, balance, total, weights=None, seed=0):
    cells = cells_of(places, balance, weights)
    return plan_epoch(cells, total, np.random.default_rng(seed))


def test_without_balance_every_image_is_shown_once():
    assert sorted(plan([Place(0, k % 3 == 0, "") for k in range(50)], "none", 50)) == list(
        range(50)
    )


def test_with_three_windows_every_image_is_shown_three_times_and_told_apart():
    shown = plan([Place(0, 0, "")] * 7, "none", 21)

    seen = sorted(zip(shown.tolist(), turns(shown).tolist(), strict=True))
    assert seen == [(k, n) for k in range(7) for n in range(3)]


def test_balanced_classes_are_shown_equally_often_although_fakes_are_ten_times_as_many():
    places = [Place(0, k >= 10, "") for k in range(110)]

    shown = Counter(places[k].label for k in plan(places, "class", 110))

    assert shown == {0: 55, 1: 55}


def test_platforms_are_balanced_within_a_class_that_one_of_them_lacks():
    places = [Place(0, 0, "reddit")] * 30 + [Place(0, 1, "reddit")] * 5 + [Place(0, 1, "x")] * 20

    shown = Counter(
        (places[k].label, places[k].platform) for k in plan(places, "class-platform", 60)
    )

    assert shown == {(0, "reddit"): 30, (1, "reddit"): 15, (1, "x"): 15}


def test_sources_share_an_epoch_by_weight_or_else_by_size():
    places = [Place(0, 0, "")] * 20 + [Place(1, 0, "")] * 60

    weighted = Counter(places[k].source for k in plan(places, "none", 80, {0: 3.0, 1: 1.0}))
    plain = Counter(places[k].source for k in plan(places, "none", 80))

    assert weighted == {0: 60, 1: 20}
    assert plain == {0: 20, 1: 60}


def test_classes_are_balanced_over_the_sources_of_a_mixed_set():
    """A source of fakes alone takes its share from the other's fakes, not from its reals."""
    places = [Place(0, 0, "")] * 30 + [Place(0, 1, "")] * 10 + [Place(1, 1, "")] * 50

    even = Counter(
        (places[k].source, places[k].label) for k in plan(places, "class", 80, {0: 1, 1: 1})
    )
    heavy = Counter(
        (places[k].source, places[k].label) for k in plan(places, "class", 80, {0: 1, 1: 3})
    )

    assert even == {(0, 0): 40, (0, 1): 20, (1, 1): 20}
    assert heavy == {(0, 0): 40, (0, 1): 10, (1, 1): 30}


def test_where_every_source_has_both_classes_their_weights_are_their_shares():
    places = [Place(k % 2, k // 2 % 2, "") for k in range(40)]

    shown = Counter(
        (places[k].source, places[k].label) for k in plan(places, "class", 80, {0: 3, 1: 1})
    )

    assert shown == {(0, 0): 30, (0, 1): 30, (1, 0): 10, (1, 1): 10}


@given(PLACES, BALANCE, st.integers(1, 200), st.integers(0, 5))
def test_within_a_cell_no_image_is_shown_twice_more_than_another(places, balance, total, seed):
    cells = cells_of(places, balance)
    shown = Counter(plan_epoch(cells, total, np.random.default_rng(seed)).tolist())

    assert sum(shown.values()) == total
    assert sum(cell.share for cell in cells) == pytest.approx(1)
    for cell in cells:
        counts = [shown[k] for k in cell.members.tolist()]
        assert max(counts) - min(counts) <= 1
        assert abs(sum(counts) - cell.share * total) < 1 + 1e-6


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.integers(0, 1000))
def test_whole_numbers_sum_to_the_total_and_none_is_off_by_one(weights, total):
    shares = np.array(weights) / sum(weights)
    counts = shares_to_counts(shares.tolist(), total)

    assert sum(counts) == total
    assert all(abs(c - s * total) < 1 + 1e-6 for c, s in zip(counts, shares, strict=True))


@given(PLACES, BALANCE, st.integers(0, 3))
def test_one_seed_gives_one_plan(places, balance, seed):
    assert (
        plan(places, balance, 40, seed=seed).tolist()
        == plan(places, balance, 40, seed=seed).tolist()
    )
