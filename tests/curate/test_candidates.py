"""Which pairs of views are near, against every pair of them looked at one by one."""

from collections import defaultdict

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import candidates
from curate.candidates import (
    ALL_TOGETHER,
    ATTEMPTS,
    BITS_TOGETHER,
    COPIES,
    GRADIENT_WEIGHT,
    SIGNS_WEIGHT,
    WHOLE_CROP,
    Asked,
    Hashes,
    View,
    find_candidates,
    packed,
)
from curate.views import CROPS, REDUCED, TURNS, UPRIGHT_TURNS

NOBODY = np.empty(0, np.uint64)


def some_hashes(seed, images, like):
    """Hashes of images with one to three thumbnails; views are near some of `like` bases."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(images), rng.integers(1, 4, images)).astype(np.uint32)
    bases = rng.integers(0, 2**64, like, dtype=np.uint64)

    def view(share):
        rows = np.flatnonzero(rng.random(len(owners)) < share).astype(np.uint32)
        flips = np.uint64(1) << rng.integers(0, 64, (8, len(rows))).astype(np.uint64)
        return View(bases[rng.integers(0, like, len(rows))] ^ np.bitwise_or.reduce(flips), rows)

    asked, offered = tuple(view(0.9) for _ in TURNS), tuple(view(0.6) for _ in CROPS)
    detail = rng.integers(0, 128, (2, REDUCED, REDUCED))[rng.integers(0, 2, len(owners))]
    small = (detail + rng.integers(0, 100, detail.shape)).astype(np.uint8)
    return Hashes(asked, offered, view(0.5), owners, small)


def detail_signs(small):
    """(T, 24, 24): is each pixel brighter than the mean of the nine around it."""
    exact = small.astype(np.int64)
    nine = [scipy.ndimage.correlate(one, np.ones((3, 3)), mode="nearest") for one in exact]
    return 9 * exact > np.array(nine).reshape(exact.shape)


def every(hashes, distance, known):
    """Images, thumbnails, turn, crop and bits of what is near, the best few of each pair of images."""
    upright = hashes.asked[0]
    joins = [
        (upright, upright, 0, WHOLE_CROP, 2),
        (hashes.gradients, hashes.gradients, 0, WHOLE_CROP, 4),
    ]
    joins += [(hashes.asked[t], upright, t, WHOLE_CROP, 2) for t in range(1, len(TURNS))]
    joins += [
        (hashes.asked[t], view, t, crop, 2)
        for crop, view in enumerate(hashes.offered)
        for t in range(UPRIGHT_TURNS)
    ]
    low = np.zeros(len(hashes.owners), np.uint64)
    low[upright.rows] = upright.bits
    low = np.bitwise_count(low[:, None] ^ low).astype(int)
    signs = detail_signs(hashes.small)
    signs = (signs[:, None] != signs).sum((2, 3))
    found = defaultdict(list)
    for asked, offered, turn, crop, beyond in joins:
        apart = np.bitwise_count(asked.bits[:, None] ^ offered.bits)
        for k, m in np.argwhere(apart <= min(distance + beyond, 16)).tolist():
            a, b = int(asked.rows[k]), int(offered.rows[m])
            bits = low[a, b] + GRADIENT_WEIGHT * int(apart[k, m])
            many = max(bits - BITS_TOGETHER, SIGNS_WEIGHT * bits + signs[a, b] - ALL_TOGETHER)
            if asked is hashes.gradients and many > 0:
                continue
            i, j = sorted((int(hashes.owners[a]), int(hashes.owners[b])))
            if i != j and (i, j) not in known and (crop != WHOLE_CROP or a <= b):
                found[i, j].append((int(apart[k, m]), turn, crop, a, b))
    return {pair: sorted(near)[:ATTEMPTS] for pair, near in found.items()}


def told(near, hashes):
    """The same of `near`."""
    firsts = np.searchsorted(hashes.owners, np.arange(int(hashes.owners.max(initial=0)) + 1))
    asked = firsts[np.where(near.swapped, near.j, near.i)] + near.asked_part
    offered = firsts[np.where(near.swapped, near.i, near.j)] + near.offered_part
    columns = (near.i, near.j, near.distance, near.turn, near.crop, asked, offered)
    found = defaultdict(list)
    for i, j, *rest in zip(*(column.tolist() for column in columns), strict=True):
        found[i, j].append(tuple(rest))
    return dict(found)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 6), st.sampled_from([0, 8, 13, 16])
)
def test_the_best_near_views_of_every_pair_of_images_are_found(seed, images, like, distance):
    hashes = some_hashes(seed, images, like)
    known = {(i, j) for i in range(images) for j in range(i + 1, images) if (i + j) % 5 == 0}
    left_out = np.sort([packed(np.array([i]), np.array([j]))[0] for i, j in known] or NOBODY)

    near = find_candidates(hashes, distance, Asked(left_out.astype(np.uint64)))

    assert told(near, hashes) == every(hashes, distance, known)
    assert (np.diff(near.pairs.astype(np.int64)) >= 0).all()


@pytest.mark.parametrize(("at_once", "kept"), [(1, 1), (100, 50), (5000, 10**6)])
def test_neither_groups_nor_what_waits_change_the_candidates(monkeypatch, at_once, kept):
    hashes = some_hashes(1, 40, 6)
    whole = find_candidates(hashes, 8, Asked(NOBODY))

    monkeypatch.setattr(candidates, "AT_ONCE", at_once)
    monkeypatch.setattr(candidates, "KEPT_AT_ONCE", kept)
    parts = find_candidates(hashes, 8, Asked(NOBODY))

    assert len(whole) > 100
    assert (parts.pairs == whole.pairs).all()
    assert (parts.ranks == whole.ranks).all()


def test_of_more_equal_hashes_than_are_compared_the_first_stands_for_all():
    rows = np.arange(COPIES + 10, dtype=np.uint32)
    many = np.full(COPIES + 9, 7, dtype=np.uint64)

    spare = View(np.concatenate([many, [9]]).astype(np.uint64), rows).spare()

    assert spare.rows.tolist() == [0, COPIES + 9]
    assert View(many[:COPIES], rows[:COPIES]).spare().rows.tolist() == rows[:COPIES].tolist()


def test_no_images_have_no_candidates():
    nothing = candidates.hash_views([], lambda digests: [], 8)

    assert len(find_candidates(nothing, 8, Asked(NOBODY))) == 0


def pairs_of(near):
    return set(zip(near.i.tolist(), near.j.tolist(), strict=True))


def test_images_of_one_side_are_no_candidates_but_those_of_none_are():
    hashes = some_hashes(2, 40, 6)
    sides = np.arange(40) % 3 - 1
    every_pair = pairs_of(find_candidates(hashes, 8, Asked(NOBODY)))

    across = pairs_of(find_candidates(hashes, 8, Asked(NOBODY, sides=sides)))

    assert across == {(i, j) for i, j in every_pair if sides[i] != sides[j] or sides[i] == -1}
    assert 0 < len(across) < len(every_pair)


def test_pairs_of_views_that_a_second_opinion_turns_away_make_room_for_others():
    hashes = some_hashes(3, 12, 1)
    whole = find_candidates(hashes, 8, Asked(NOBODY))
    nearest = set(zip(whole.pairs.tolist(), whole.ranks.tolist(), strict=True))

    crops = find_candidates(
        hashes, 8, Asked(NOBODY, lambda pairs: (pairs.windows != [0, 0, 1, 1]).any(1))
    )

    assert (crops.crop != WHOLE_CROP).all()
    assert len(crops) > sum(crop != WHOLE_CROP for crop in whole.crop)
    assert nearest - set(zip(crops.pairs.tolist(), crops.ranks.tolist(), strict=True))
