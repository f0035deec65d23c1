"""Near pairs, against comparing every pair with every other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import hamming


def brute(a, b, distance):
    found = []
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            apart = (x ^ y).bit_count()
            if apart <= distance:
                found.append((i, j, apart))
    return found


def rows(pairs):
    return list(zip(pairs.i.tolist(), pairs.j.tolist(), pairs.d.tolist(), strict=True))


def near(rng, values, flips):
    """The values with up to `flips` bits changed in each."""
    masks = np.uint64(1) << rng.integers(0, 64, (len(values), flips)).astype(np.uint64)
    return values ^ np.bitwise_or.reduce(masks, axis=1)


@st.composite
def hashes(draw, most=60):
    """Hashes close to a few centres, some equal: what a set with many copies looks like."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    places = st.tuples(st.sampled_from(centres), st.sets(st.integers(0, 63), max_size=12))
    chosen = draw(st.lists(places, max_size=most))
    return np.array([c ^ sum(1 << b for b in bits) for c, bits in chosen], dtype=np.uint64)


@settings(max_examples=80, deadline=None)
@given(hashes(), st.integers(0, 16))
def test_all_pairs_and_only_those_are_found(bits, distance):
    expected = [row for row in brute(bits, bits, distance) if row[0] < row[1]]

    assert rows(hamming.self_join(bits, distance)) == expected


@settings(max_examples=60, deadline=None)
@given(hashes(), hashes(), st.integers(0, 16))
def test_pairs_across_two_sets_are_found(a, b, distance):
    assert rows(hamming.cross_join(a, b, distance)) == brute(a, b, distance)


@settings(max_examples=60, deadline=None)
@given(hashes(), st.integers(0, 16), st.sampled_from(hamming.BAND_COUNTS))
def test_the_number_of_bands_changes_nothing(bits, distance, count):
    values = np.unique(bits)
    bands = hamming._bands(count, distance)

    banded = hamming._sorted(hamming._compare_bands(values, None, distance, bands), ordered=True)
    plain = hamming._sorted(hamming._compare_all(values, None, distance), ordered=True)

    assert rows(banded) == rows(plain)


@pytest.mark.parametrize("block", [8, 64, 1000])
def test_no_pair_is_lost_at_a_border_between_blocks(monkeypatch, block):
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**64, 300, dtype=np.uint64)
    bits[100:] = near(rng, np.resize(bits[:100], 200), 9)
    whole = rows(hamming.self_join(bits, 10))

    monkeypatch.setattr(hamming, "BLOCK", block)
    for count in (3, 5):
        values = np.unique(bits)
        pairs = hamming._compare_bands(values, None, 10, hamming._bands(count, 10))
        assert len(hamming._sorted(pairs, ordered=True)) == len(
            hamming._sorted(hamming._compare_all(values, None, 10), ordered=True)
        )

    assert rows(hamming.self_join(bits, 10)) == whole


def test_planted_copies_among_many_are_all_found():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    bits[-300:] = near(rng, bits[:300], 8)

    found = hamming.self_join(bits, 8)

    pairs = set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert {(k, 29_700 + k) for k in range(300)} <= pairs
    assert (np.bitwise_count(bits[found.i] ^ bits[found.j]) == found.d).all()
    assert hamming._plan(30_000, 30_000, 8) is not None


def test_very_many_equal_hashes_stay_connected_with_a_small_answer():
    bits = np.zeros(50_000, dtype=np.uint64)
    bits[0], bits[49_999] = 0b111, 0b1

    found = hamming.self_join(bits, 2, copies=10)

    assert len(found) == 49_997 + 2
    assert set(np.unique(np.concatenate([found.i, found.j])).tolist()) == set(range(50_000))


def test_few_equal_hashes_give_every_pair():
    found = hamming.self_join(np.full(5, 9, dtype=np.uint64), 0, copies=5)

    assert len(found) == 10


def test_an_empty_set_has_no_pairs():
    empty = np.empty(0, dtype=np.uint64)

    assert len(hamming.self_join(empty, 8)) == 0
    assert len(hamming.cross_join(empty, np.ones(3, dtype=np.uint64), 8)) == 0


@pytest.mark.parametrize("distance", [-1, 17])
def test_a_distance_out_of_range_is_refused(distance):
    with pytest.raises(ValueError, match="0 to 16 bits"):
        hamming.self_join(np.ones(2, dtype=np.uint64), distance)
