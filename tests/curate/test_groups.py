"""Groups from matches: what joins, what does not, who stands for a group and what it is called."""

import random
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.groups import Mark, Member, choose_canonical, group_matches, kin, name_sets
from schemas.labels import MatchKind, Relation, Word
from schemas.records import Image, Match

DIGESTS = [chr(97 + n) for n in range(26)]


def match(a, b, kind="near", *, score=0.9, distance=4, verdict=None):
    a, b = sorted((a, b))
    return Match(a, b, kind, distance, "test", verified=score, verdict=verdict)


@st.composite
def matches(draw, digests=DIGESTS):
    """Matches of every kind, each pair and kind once, some with a reviewer's word."""
    pairs = st.tuples(st.sampled_from(digests), st.sampled_from(digests))
    drawn = draw(st.lists(pairs.filter(lambda p: p[0] < p[1]), max_size=60, unique=True))
    return [
        match(
            a,
            b,
            draw(st.sampled_from(["near", "near", "near", "crop", "caption", "same-pixels"])),
            score=draw(st.sampled_from([None, 0.2, 0.7, 0.8, 0.9, 1.0])),
            distance=draw(st.integers(0, 8)),
            verdict=draw(st.sampled_from([None] * 8 + [Word.SAME.value, Word.DIFFERENT.value])),
        )
        for a, b in drawn
    ]


marks = st.dictionaries(
    st.sampled_from(DIGESTS), st.sampled_from([Mark.CAMERA, Mark.GENERATED, Mark.EDITED])
)


def set_of(found):
    return {digest: members for members in found.sets for digest in members}


def sure(one):
    return (
        one.kind == MatchKind.PIXELS
        or one.verdict == Word.SAME
        or (one.kind == MatchKind.NEAR and one.distance == 0 and (one.verified or 1) >= 0.5)
    )


@given(matches(), marks, st.randoms(use_true_random=False))
def test_the_order_of_images_and_matches_changes_nothing(found, known, shuffler: random.Random):
    one = group_matches(DIGESTS, found, verified=0.5, marks=known)
    two = group_matches(
        shuffler.sample(DIGESTS, 26), shuffler.sample(found, len(found)), verified=0.5, marks=known
    )

    assert one == two


@given(matches())
def test_every_image_is_in_one_set_and_no_set_holds_what_nothing_connects(found):
    sets = group_matches(DIGESTS, found).sets
    used = [m for m in found if m.verdict != Word.DIFFERENT]

    assert sorted(d for members in sets for d in members) == DIGESTS
    for members in sets:
        reached, waiting = {members[0]}, [members[0]]
        while waiting:
            here = waiting.pop()
            for m in used:
                for a, b in ((m.a, m.b), (m.b, m.a)):
                    if a == here and b in members and b not in reached:
                        reached.add(b)
                        waiting.append(b)
        assert reached == set(members)


@given(matches())
def test_what_cannot_drift_always_joins_where_no_reviewer_and_no_mark_objects(found):
    found = [m for m in found if m.verdict != Word.DIFFERENT]

    of = set_of(group_matches(DIGESTS, found, verified=0.5))

    assert all(of[m.a] == of[m.b] for m in found if sure(m))


@given(matches(), marks)
def test_what_a_reviewer_called_different_is_never_in_one_set(found, known):
    of = set_of(group_matches(DIGESTS, found, verified=0.5, marks=known))

    assert all(of[m.a] != of[m.b] for m in found if m.verdict == Word.DIFFERENT)


@given(matches(), marks)
def test_every_match_joins_or_is_told_with_its_reason_or_is_too_weak(found, known):
    result = group_matches(DIGESTS, found, verified=0.5, marks=known)
    of = set_of(result)
    told = {(one.a, one.b) for one in result.apart}
    weak = [
        m
        for m in found
        if m.verdict is None
        and m.kind != MatchKind.PIXELS
        and m.verified is not None
        and m.verified < 0.5
    ]
    used = [m for m in found if m not in weak and m.verdict != Word.DIFFERENT]

    assert result.unverified == len(weak)
    assert told == {(m.a, m.b) for m in used if of[m.a] != of[m.b]}
    assert all(one.why for one in result.apart)


@given(matches(), marks)
def test_an_edited_picture_is_in_one_set_with_a_plain_one_only_where_they_are_equal(found, known):
    result = group_matches(DIGESTS, found, verified=0.5, marks=known)
    equal = [m for m in found if m.kind == MatchKind.PIXELS or m.verdict == Word.SAME]
    cores = group_matches(DIGESTS, [m for m in found if m in equal or m.verdict])
    core_of = set_of(cores)
    edited = {d for d, m in known.items() if m is Mark.EDITED}

    for members in result.sets:
        is_edited = {bool(edited & set(core_of[d])) for d in members}
        assert len(is_edited) == 1


@given(st.integers(1, 4), st.integers(4, 60), st.randoms(use_true_random=False))
def test_a_chain_of_drifting_pictures_is_no_group_and_its_ends_are_near(
    reach, length, shuffler: random.Random
):
    names = [f"{n:04}" for n in range(length)]
    shuffler.shuffle(names)
    place = {name: n for n, name in enumerate(names)}
    found = [
        match(names[i], names[j], score=1 - 0.1 * (j - i), distance=j - i)
        for i in range(length)
        for j in range(i + 1, min(i + reach, length - 1) + 1)
    ]

    result = group_matches(names, found)

    for members in result.sets:
        places = [place[d] for d in members]
        assert max(places) - min(places) <= 2 * reach
    if length > 2 * reach + 1:
        assert len(result.sets) > 1
        assert {one.relation for one in result.apart} == {Relation.CHAIN}


@pytest.mark.parametrize("score", [0.6, 1.0])
def test_one_match_does_not_make_one_of_two_clusters_however_good_it_is(score):
    left = [match(a, b) for a, b in ("ab", "ac", "bc")]
    right = [match(a, b) for a, b in ("xy", "xz", "yz")]

    result = group_matches("abcxyz", [*left, *right, match("c", "x", score=score)])

    assert result.sets == (("a", "b", "c"), ("x", "y", "z"))
    (link,) = result.apart
    assert (link.a, link.b, link.relation) == ("c", "x", Relation.CHAIN)
    assert link.why == "1 of 9 pairs between the two groups match"


def test_an_original_and_what_was_made_of_it_are_one_group_though_the_copies_do_not_match():
    kinds = ["crop", "caption", "mirror", "screenshot", "border"]

    result = group_matches(
        "oabcde", [match("o", x, k) for x, k in zip("abcde", kinds, strict=True)]
    )

    assert result.sets == (("a", "b", "c", "d", "e", "o"),)


def test_many_copies_of_which_most_match_are_one_group():
    draw = random.Random(1)
    names = [f"{n:03}" for n in range(200)]
    found = [
        match(a, b, score=draw.uniform(0.6, 1))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if draw.random() < 0.7
    ]

    assert len(group_matches(names, found).sets) == 1


def test_stars_of_equal_hashes_that_match_are_one_group():
    one = [match("a0", f"a{n}", distance=0) for n in range(1, 9)]
    other = [match("b0", f"b{n}", distance=0) for n in range(1, 9)]
    names = [f"{x}{n}" for x in "ab" for n in range(9)]

    assert len(group_matches(names, [*one, *other, match("a0", "b0")]).sets) == 1


def test_a_reviewers_different_holds_through_a_third_and_the_weakest_link_gives_way():
    found = [
        match("a", "b", score=0.9),
        match("b", "c", score=0.8),
        match("a", "c", "reviewed", verdict="different"),
    ]

    result = group_matches("abc", found)

    assert result.sets == (("a", "b"), ("c",))
    (link,) = result.apart
    assert (link.a, link.b, link.relation) == ("b", "c", Relation.DIFFERENT)


def test_a_reviewers_word_outweighs_equal_pixels_and_links_what_no_hash_finds():
    found = [
        match("a", "b", "same-pixels"),
        match("a", "b", "reviewed", verdict="different"),
        match("c", "d", "reviewed", score=None, verdict="same"),
    ]

    assert group_matches("abcd", found).sets == (("a",), ("b",), ("c", "d"))


def test_an_edit_is_linked_as_derived_and_takes_what_is_like_it():
    found = [match("p", "e"), match("p", "x", score=0.7), match("e", "x", score=0.8)]
    known = {"p": Mark.CAMERA, "e": Mark.GENERATED}

    result = group_matches("pex", found, marks=known)

    assert result.sets == (("e", "x"), ("p",))
    assert {(one.a, one.b): one.relation for one in result.apart} == {
        ("e", "p"): Relation.DERIVED,
        ("p", "x"): Relation.DERIVED,
    }
    assert result.apart[0].why == "the first is an edited or generated version of the second"


def test_equal_pixels_are_one_picture_whatever_their_files_claim():
    known = {"a": Mark.CAMERA, "b": Mark.GENERATED | Mark.EDITED}

    assert group_matches("ab", [match("a", "b", "same-pixels")], marks=known).sets == (("a", "b"),)


def test_a_match_of_an_image_that_is_not_asked_about_is_passed_over():
    assert group_matches("ab", [match("a", "z")]).sets == (("a",), ("b",))


def test_a_chain_of_a_hundred_thousand_equal_pictures_is_one_group():
    digests = [f"{n:06}" for n in range(100_000)]
    found = [match(a, b, "same-pixels") for a, b in pairwise(digests)]

    assert len(group_matches(digests, found).sets) == 1


def test_kin_are_the_groups_that_related_pairs_connect():
    of = {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}

    assert kin(of, [("b", "c"), ("d", "c"), ("x", "e")]) == {"a": "a", "c": "a", "d": "a", "e": "e"}


# Names


@st.composite
def partitions(draw, digests=DIGESTS):
    """Disjoint sets of some of the digests."""
    here = draw(st.lists(st.sampled_from(digests), unique=True, min_size=1))
    sets = defaultdict(list)
    for digest in here:
        sets[draw(st.integers(0, 6))].append(digest)
    return sorted(sorted(members) for members in sets.values())


def names_of(sets, names):
    return {d: name for members, name in zip(sets, names, strict=True) for d in members}


@given(partitions(), partitions())
def test_names_are_distinct_and_naming_again_changes_nothing(first, second):
    before = names_of(first, name_sets(first))
    names = name_sets(second, before)

    assert len(set(names)) == len(second)
    assert name_sets(second, names_of(second, names)) == names


@given(partitions(), partitions(), st.randoms(use_true_random=False))
def test_a_group_that_only_grows_keeps_its_name(first, more, shuffler: random.Random):
    before = names_of(first, name_sets(first))
    grown = [list(members) for members in first]
    for digest in (d for members in more for d in members if d not in before):
        shuffler.choice(grown).append(digest)
    sets = sorted(sorted(members) for members in grown)

    after = names_of(sets, name_sets(sets, before))

    assert all(after[digest] == name for digest, name in before.items())


@given(partitions())
def test_a_group_without_a_past_is_named_by_its_smallest_member(sets):
    assert name_sets(sets) == tuple(members[0] for members in sets)


def test_of_two_groups_that_merge_the_larger_gives_its_name_and_then_the_smaller_name():
    assert name_sets([["a", "b", "c"]], {"a": "a", "b": "b", "c": "b"}) == ("b",)
    assert name_sets([["a", "b"]], {"a": "a", "b": "b"}) == ("a",)


def test_of_a_group_that_splits_the_larger_part_goes_on():
    before = dict.fromkeys("abc", "a")

    assert name_sets([["a"], ["b", "c"]], before) == ("a-2", "a")
    assert name_sets([["a"], ["b", "c"]], {"a": "a-2", "b": "a", "c": "a"}) == ("a-2", "a")


def test_a_name_of_an_image_that_is_gone_is_not_handed_on():
    assert name_sets([["b", "c"]], dict.fromkeys("abc", "a")) == ("b",)


# Who stands for a group


def member(digest, width=10, height=10, size=100, error=None, form="JPEG", quality=90, **more):
    row = Image(digest, "probe/1", size, form, width, height, error=error, jpeg_quality=quality)
    return Member(row, **more)


def at(day):
    return datetime(2026, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("members", "digest", "why"),
    [
        ([member("a")], "a", "only member"),
        ([member("a"), member("b", width=20)], "b", "most pixels: 20 x 10"),
        (
            [member("a", size=999), member("b", quality=95)],
            "b",
            "same pixel count, highest JPEG quality: 95",
        ),
        (
            [member("a"), member("b", form="PNG", quality=None)],
            "b",
            "same pixel count, lossless",
        ),
        (
            [member("a"), member("b", size=101)],
            "b",
            "same pixel count and quality, most bytes: 101",
        ),
        ([member("a"), member("b", provenance=0.9)], "b", "best provenance: strength 0.9"),
        (
            [member("a", posted_at=at(2)), member("b", posted_at=at(1))],
            "b",
            "earliest post: 2026-01-01 00:00",
        ),
        ([member("a"), member("b", posted_at=at(1))], "b", "earliest post: 2026-01-01 00:00"),
        (
            [member("b"), member("a")],
            "a",
            "equal in fidelity, provenance, earliest; smallest digest",
        ),
        ([member("a", width=99, error="cut"), member("b")], "b", "the only member that decodes"),
    ],
)
def test_the_canonical_member_is_the_fullest_one_then_the_best_known_then_the_first(
    members, digest, why
):
    assert choose_canonical(members) == (digest, why)
    assert choose_canonical(members[::-1]) == (digest, why)


def test_the_policy_says_what_is_asked_first():
    large = member("a", width=99, posted_at=at(2))
    early = member("b", posted_at=at(1), provenance=0.5)

    assert choose_canonical([large, early], ("fidelity",))[0] == "a"
    assert choose_canonical([large, early], ("earliest", "fidelity"))[0] == "b"
    assert choose_canonical([large, early], ("provenance", "fidelity"))[0] == "b"


def test_an_empty_group_is_a_mistake():
    with pytest.raises(ValueError, match="at least one"):
        choose_canonical([])
