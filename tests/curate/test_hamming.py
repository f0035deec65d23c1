"""Near pairs, against comparing every pair with every other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import curate
from curate import compiled, hamming
from curate.hamming import bands, kernels


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


@st.composite
def tight(draw):
    """Limits so small that every border is met: blocks, tiles, parts, heavy buckets."""
    small = st.integers(1, 9)
    return hamming.Limits(
        block=draw(st.integers(2, 70)), tile=draw(small), plain=0,
        direct=draw(st.sampled_from([0, 0, 30, 300])), parts=draw(small), threads=draw(st.integers(1, 3)),
        near=draw(st.sampled_from([1, 4, 32, 1 << 21])),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(hashes(), st.integers(0, 16), tight() | st.none())
def test_all_pairs_and_only_those_are_found(bits, distance, limits):
    expected = [row for row in brute(bits, bits, distance) if row[0] < row[1]]

    assert rows(hamming.self_join(bits, distance, limits=limits)) == expected


@settings(max_examples=150, deadline=None)
@given(hashes(), hashes(), st.integers(0, 16), tight() | st.none())
def test_pairs_across_two_sets_are_found(a, b, distance, limits):
    assert rows(hamming.cross_join(a, b, distance, limits=limits)) == brute(a, b, distance)


@settings(max_examples=80, deadline=None)
@given(hashes(), st.floats(0, 1), st.integers(0, 16), tight() | st.none())
def test_new_hashes_bring_the_pairs_that_were_not_there_before(bits, share, distance, limits):
    known = int(share * len(bits))
    expected = [row for row in rows(hamming.self_join(bits, distance)) if row[1] >= known]

    assert rows(hamming.added_join(bits, known, distance, limits=limits)) == expected


@settings(max_examples=120, deadline=None)
@given(hashes(), hashes(), st.data(), st.integers(0, 16), tight() | st.none())
def test_of_two_images_the_nearest_hashes_are_told(query, index, data, distance, limits):
    whose_q, whose_i = (
        np.array(data.draw(st.lists(st.integers(0, 6), min_size=len(x), max_size=len(x))), np.int64)
        for x in (query, index)
    )
    nearest = {}
    for q, i, apart in brute(query, index, distance):
        a, b = sorted((int(whose_q[q]), int(whose_i[i])))
        if a != b:
            nearest[a, b] = min(nearest.get((a, b), (99, 0, 0)), (apart, q, i))

    found = hamming.owner_join(query, whose_q, index, whose_i, distance, limits=limits)

    given = zip(found.d.tolist(), found.query.tolist(), found.index.tolist(), strict=True)
    pairs = zip(found.a.tolist(), found.b.tolist(), strict=True)
    assert list(zip(pairs, given, strict=True)) == sorted(nearest.items())


def components(count, pairs):
    ones = np.ones(len(pairs))
    i, j = (np.array([p[k] for p in pairs], dtype=np.int64) for k in (0, 1))
    return connected_components(coo_array((ones, (i, j)), (count, count)), directed=False)[
        1
    ].tolist()


@settings(max_examples=80, deadline=None)
@given(hashes(), st.integers(0, 16), st.integers(1, 4), st.floats(0, 1), tight() | st.none())
def test_a_limit_on_copies_keeps_what_is_connected(bits, distance, copies, share, limits):
    whole = components(len(bits), brute(bits, bits, distance))
    known = int(share * len(bits))

    found = rows(hamming.self_join(bits, distance, copies=copies, limits=limits))
    before = rows(hamming.self_join(bits[:known], distance, copies=copies, limits=limits))
    after = rows(hamming.added_join(bits, known, distance, copies=copies, limits=limits))

    assert components(len(bits), found) == whole
    assert components(len(bits), before + after) == whole
    assert set(found) <= set(brute(bits, bits, distance))


@settings(max_examples=80, deadline=None)
@given(hashes(), st.data(), st.integers(0, 16), st.integers(1, 4), tight() | st.none())
def test_a_limit_on_owners_of_one_hash_keeps_what_is_connected(
    bits, data, distance, copies, limits
):
    owner = st.lists(st.integers(0, 30), min_size=len(bits), max_size=len(bits))
    whose = np.array(data.draw(owner), dtype=np.int64)
    near = [(whose[i], whose[j]) for i, j, _ in brute(bits, bits, distance)]

    found = hamming.owner_join(bits, whose, bits, whose, distance, copies=copies, limits=limits)

    assert components(31, list(zip(found.a, found.b, strict=True))) == components(31, near)


SHAPES = {
    "random": lambda rng, n: rng.integers(0, 2**64, n, dtype=np.uint64),
    "clustered": lambda rng, n: near(
        rng, rng.choice(2**63, n // 4).astype(np.uint64)[np.arange(n) % (n // 4)], 6
    ),
    "few bits vary": lambda rng, n: rng.integers(0, 2**24, n, dtype=np.uint64) << np.uint64(13),
    "heavy buckets": lambda rng, n: near(rng, np.full(n, 0xF0F0, dtype=np.uint64), 14),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_of_joining_gives_the_same_pairs(shape):
    bits = SHAPES[shape](np.random.default_rng(5), 3000)
    plain = hamming.self_join(bits, 8)
    assert len(plain) > 0 or shape == "random"

    for limits in (
        hamming.Limits(plain=0),  # compiled, tile by tile
        hamming.Limits(plain=0, direct=0),  # bands
        hamming.Limits(plain=0, direct=0, near=100),  # blocks of keys
        hamming.Limits(
            plain=0, direct=0, block=1 << 10, parts=3
        ),  # heavy buckets inside heavy buckets
        hamming.Limits(plain=0, direct=1 << 12, block=1 << 10, threads=1),
    ):
        assert rows(hamming.self_join(bits, 8, limits=limits)) == rows(plain)


@pytest.mark.parametrize("block", [1 << 12, 1 << 21])
@pytest.mark.parametrize("shape", SHAPES)
def test_buckets_compared_in_runs_give_the_same_pairs(shape, block, monkeypatch):
    rng = np.random.default_rng(6)
    a, b = SHAPES[shape](rng, 3000), SHAPES[shape](rng, 2001)
    b[:50] = near(rng, a[:50], 4)
    expected, across = rows(hamming.self_join(a, 8)), rows(hamming.cross_join(a, b, 8))
    monkeypatch.setattr(bands, "BESIDE", -1)
    monkeypatch.setattr(bands, "LONG", -1)
    monkeypatch.setattr(bands, "RARE", 1e9)
    monkeypatch.setattr(bands, "LAYOUTS", ((4, 16), (8, 8)))
    limits = hamming.Limits(plain=0, direct=0, block=block)

    planned = bands.plan(a, None, 8)

    assert planned is None or all(band.runs for band in planned.bands)
    assert planned is not None or shape == "heavy buckets"
    assert rows(hamming.self_join(a, 8, limits=limits)) == expected
    assert rows(hamming.cross_join(a, b, 8, limits=limits)) == across
    assert across


@pytest.mark.parametrize("width", [4, 9, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_buckets_joined_halfway_between_them_give_the_same_pairs(shape, width, monkeypatch):
    rng = np.random.default_rng(7)
    a, b = SHAPES[shape](rng, 1200), SHAPES[shape](rng, 801)
    b[:50] = near(rng, a[:50], 4)
    expected, across = rows(hamming.self_join(a, 8)), rows(hamming.cross_join(a, b, 8))
    monkeypatch.setattr(bands, "BESIDE", 1 << 40)
    monkeypatch.setattr(bands, "COMPARE_NS", 1e9)
    monkeypatch.setattr(bands, "LAYOUTS", ((3, width),))
    limits = hamming.Limits(plain=0, direct=0, block=1 << 16)

    assert all(band.middle for band in bands.plan(a, None, 8).bands)
    assert rows(hamming.self_join(a, 8, limits=limits)) == expected
    assert rows(hamming.cross_join(a, b, 8, limits=limits)) == across
    assert rows(hamming.cross_join(b, a, 8, limits=limits)) == sorted(
        (j, i, d) for i, j, d in across
    )


@settings(max_examples=200, deadline=None)
@given(hashes(), hashes(), st.data(), st.integers(6, 8), st.integers(1, 12), tight())
def test_halfway_nothing_is_lost_or_told_twice(a, b, data, distance, width, limits):
    owner = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=len(a), max_size=len(a))), np.int64
    )
    others = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=len(b), max_size=len(b))), np.int64
    )
    expected = hamming.owner_join(a, owner, b, others, distance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BESIDE", 1 << 40)
        patch.setattr(bands, "COMPARE_NS", 1e9)
        patch.setattr(bands, "LAYOUTS", ((3, width),))
        found = hamming.owner_join(a, owner, b, others, distance, limits=limits)
        pairs = hamming.self_join(a, distance, limits=limits)
        across = hamming.cross_join(a, b, distance, limits=limits)

    assert rows(across) == brute(a, b, distance)
    assert rows(pairs) == [(i, j, d) for i, j, d in brute(a, a, distance) if i < j]
    assert np.array_equal(found.a, expected.a)
    assert np.array_equal(found.b, expected.b)
    assert np.array_equal(found.d, expected.d)
    assert np.array_equal(found.query, expected.query)
    assert np.array_equal(found.index, expected.index)


@pytest.mark.parametrize("distance", [0, 3, 8, 16])
@pytest.mark.parametrize(("count", "width"), bands.LAYOUTS)
def test_two_hashes_within_the_distance_meet_in_a_band_whatever_the_bands(distance, count, width):
    rng = np.random.default_rng(count)
    a = SHAPES["clustered"](rng, 200)
    plan = bands._dealt(a, bands._varying(a, a), count, width, distance)
    dealt = kernels.dealt(a, plan.table())

    apart = np.bitwise_count(dealt[:, None] ^ dealt)
    met = [
        np.bitwise_count((dealt[:, None] ^ dealt) & np.uint64(b.mask)) < b.units for b in plan.bands
    ]

    assert (apart == np.bitwise_count(a[:, None] ^ a)).all()
    assert np.any(met, axis=0)[apart <= distance].all()


def test_the_number_of_threads_changes_neither_blocks_nor_their_order():
    bits = SHAPES["clustered"](np.random.default_rng(2), 20_000)

    def blocks(threads):
        limits = hamming.Limits(plain=0, direct=1 << 20, block=4000, threads=threads)
        return [(b.i.tolist(), b.j.tolist()) for b in hamming.self_blocks(bits, 8, limits=limits)]

    assert blocks(1) == blocks(2) == blocks(5)
    assert max(len(i) for i, _ in blocks(2)) <= 4000


def test_an_answer_larger_than_a_block_comes_in_blocks():
    bits = np.repeat(np.uint64([0, 1, 3]), 400)
    limits = hamming.Limits(block=5000)

    sizes = [len(block) for block in hamming.self_blocks(bits, 1, limits=limits)]

    assert sum(sizes) == 3 * 400 * 399 // 2 + 2 * 400 * 400
    assert max(sizes) <= 5000


def test_few_hashes_are_joined_without_the_compiler():
    script = (
        "import sys, numpy as np; from curate import hamming; "
        "hamming.self_join(np.arange(15_000, dtype=np.uint64) << np.uint64(20), 2); "
        "sys.exit('numba' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_without_a_place_for_compiled_code_it_is_compiled_again(tmp_path):
    package = tmp_path / "curate" / "hamming"
    shutil.copytree(
        Path(hamming.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for module in (curate, compiled):
        shutil.copy(Path(module.__file__), tmp_path / "curate")
    for folder in (package, package.parent):
        (folder / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("no folder either")
    script = (
        "import numpy as np; from curate import hamming; "
        "limits = hamming.Limits(plain=0); "
        "print(len(hamming.self_join(np.arange(16, dtype=np.uint64), 1, limits=limits)))"
    )
    home = str(tmp_path / "home")

    done = subprocess.run(
        [sys.executable, "-W", "error", "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        env={"HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
    )  # fmt: skip

    assert done.stdout == "32\n"
    assert done.stderr == COMPILING


COMPILING = "compiling loops for this processor, at their first use: some 10 seconds\n"


def test_that_the_compiler_runs_is_told_once_and_only_where_it_does(tmp_path):
    script = (
        "import numpy as np; from curate import hamming; "
        "hamming.self_join(np.arange(16, dtype=np.uint64), 1, limits=hamming.Limits(plain=0))"
    )

    told = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        ).stderr
        for _ in range(2)
    ]  # fmt: skip

    assert told == [COMPILING, ""]


def test_planted_copies_among_many_are_all_found():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    bits[-300:] = near(rng, bits[:300], 8)

    found = hamming.self_join(bits, 8)

    pairs = set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert {(k, 29_700 + k) for k in range(300)} <= pairs
    assert (np.bitwise_count(bits[found.i] ^ bits[found.j]) == found.d).all()


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


def test_owners_that_do_not_fit_the_hashes_are_refused():
    bits = np.ones(2, dtype=np.uint64)

    with pytest.raises(ValueError, match="2 hashes and 3 owners"):
        hamming.owner_join(bits, np.arange(3), bits, np.arange(2), 8)
    with pytest.raises(ValueError, match="numbered -1 to 0"):
        hamming.owner_join(bits, np.arange(2), bits, np.arange(2) - 1, 8)


def test_more_known_hashes_than_there_are_is_refused():
    with pytest.raises(ValueError, match="3 known hashes of 2"):
        hamming.added_join(np.ones(2, dtype=np.uint64), 3, 8)
