"""Which images are the same picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import groups, matching
from curate.probe import examine


def found(digests, pixels, phashes, dhashes, distance=8, **options):
    return list(
        matching.find_matches(
            digests, pixels, phashes, dhashes, distance_bits=distance, made_by="t", **options
        )
    )


def matched_folder(folder, pattern="*.jpg", **options):
    files = (examine(p.read_bytes()) for p in sorted(folder.rglob(pattern)))
    by_digest = {x.image.digest: x for x in files}
    views = {
        view: {d: f.bits for d, x in by_digest.items() for f in x.fingerprints if f.view == view}
        for view in ("phash", "dhash")
    }
    pixels = [x.image.pixels for x in by_digest.values()]
    return by_digest, found(list(by_digest), pixels, views["phash"], views["dhash"], **options)


def test_equal_pixels_match_even_without_a_hash():
    (match,) = found(["b", "a"], ["p", "p"], {}, {})

    assert (match.a, match.b, match.kind, match.distance) == ("a", "b", "same-pixels", 0)


def test_a_pair_of_equal_pixels_is_not_told_again_as_near():
    hashes = {"a": 5, "b": 5, "c": 4}

    kinds = {(m.a, m.b): m.kind for m in found("abc", ["p", "p", "q"], hashes, hashes)}

    assert kinds == {("a", "b"): "same-pixels", ("a", "c"): "near", ("b", "c"): "near"}


def test_images_that_do_not_decode_match_nothing():
    assert found(["a", "b"], [None, None], {}, {}) == []


def test_a_look_alike_that_dhash_denies_is_no_match_unless_asked_for():
    phashes, dhashes = {"a": 0, "b": 0xFF}, {"a": 0, "b": 0xFFFFF}

    assert found("ab", ["p", "q"], phashes, dhashes) == []
    (match,) = found("ab", ["p", "q"], phashes, dhashes, confirm=False)
    assert (match.distance, match.verified) == (8, 1 - 20 / 64)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2**6 - 1), st.integers(0, 2**5 - 1))),
    st.integers(0, 4),
    st.randoms(),
)
def test_the_order_of_the_images_changes_nothing_and_each_pair_comes_once(rows, distance, random):
    digests = [f"{k:03}" for k in range(len(rows))]
    pixels = [f"{p}/{x}/{y}" if p else None for p, x, y in rows]
    phashes = {d: x for d, (p, x, _) in zip(digests, rows, strict=True) if p}
    dhashes = {d: y for d, (p, _, y) in zip(digests, rows, strict=True) if p}
    order = random.sample(range(len(rows)), len(rows))

    one = found(digests, pixels, phashes, dhashes, distance)
    two = found([digests[k] for k in order], [pixels[k] for k in order], phashes, dhashes, distance)

    assert one == two
    assert len({(m.a, m.b) for m in one}) == len(one)
    assert all(m.a < m.b for m in one)


def test_thousands_of_copies_stay_one_group_with_few_matches():
    digests = [f"{k:05}" for k in range(5000)]
    hashes = dict.fromkeys(digests, 77)

    matches = found(digests, [str(k % 2500) for k in range(5000)], hashes, hashes)

    assert len(matches) < 10_000
    assert set(groups.connect(digests, ((m.a, m.b) for m in matches)).values()) == {"00000"}


def test_a_distance_out_of_range_is_refused():
    with pytest.raises(ValueError, match="0 to 16"):
        found(["a"], [None], {}, {}, distance=40)


def test_twelve_edits_of_one_photo_are_one_group(shared):
    images, matches = matched_folder(shared / "data" / "near-duplicates" / "bridge-mods")

    sets = groups.connect(images, ((m.a, m.b) for m in matches))

    assert len(images) == 12
    assert len(set(sets.values())) == 1


def test_unrelated_faces_are_not_merged(shared):
    images, matches = matched_folder(shared / "data" / "faces-clean" / "test")

    sets = groups.connect(images, ((m.a, m.b) for m in matches))
    _, sizes = np.unique(list(sets.values()), return_counts=True)

    assert len(images) > 300
    assert (sizes > 1).sum() <= 3
    assert sizes.max() <= 3


def test_one_picture_in_all_orientations_is_one_group(shared):
    images, matches = matched_folder(shared / "data" / "edge-cases" / "exif-orientation")

    assert len(set(groups.connect(images, ((m.a, m.b) for m in matches)).values())) == 1
