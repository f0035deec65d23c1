"""Groups from matches."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import groups
from schemas.records import Image


def image(digest, width=10, height=10, size=100, error=None):
    return Image(digest, "probe/1", size, "JPEG", width, height, error=error)


names = st.integers(0, 25).map(lambda n: chr(97 + n))
links = st.lists(st.tuples(names, names), max_size=40)


@given(links, st.randoms())
def test_the_order_of_the_pairs_changes_nothing(pairs, shuffler: random.Random):
    digests = [chr(97 + n) for n in range(26)]
    shuffled = [pair[:: shuffler.choice((1, -1))] for pair in shuffler.sample(pairs, len(pairs))]

    one = groups.connect(digests, pairs)
    two = groups.connect(shuffler.sample(digests, 26), shuffled)

    assert one == two


@given(links)
def test_linked_digests_share_a_group_named_by_its_smallest_member(pairs):
    found = groups.connect([], pairs)

    assert all(found[a] == found[b] for a, b in pairs)
    assert all(name == min(d for d in found if found[d] == name) for name in found.values())


@given(links)
def test_groups_are_no_larger_than_the_links_make_them(pairs):
    found = groups.connect([], pairs)
    reachable = {d: {d} for d in found}
    for _ in range(len(found)):
        for a, b in pairs:
            both = reachable[a] | reachable[b]
            for member in both:
                reachable[member] = both

    assert all({d for d in found if found[d] == found[x]} == reachable[x] for x in found)


def test_an_image_without_a_match_is_a_group_of_its_own():
    assert groups.connect(["b", "a"], []) == {"a": "a", "b": "b"}


def test_a_chain_of_a_hundred_thousand_is_one_group():
    digests = [f"{n:06}" for n in range(100_000)]

    found = groups.connect(digests, zip(digests[1:], digests, strict=False))

    assert set(found.values()) == {"000000"}


@pytest.mark.parametrize(
    ("members", "digest", "why"),
    [
        ([image("a")], "a", "only member"),
        ([image("a"), image("b", width=20)], "b", "most pixels: 20 x 10"),
        ([image("a"), image("b", size=101)], "b", "same pixel count, most bytes: 101"),
        ([image("b"), image("a")], "a", "same pixel count and bytes, smallest digest"),
        ([image("a", width=99, error="cut"), image("b")], "b", "the only member that decodes"),
    ],
)
def test_the_canonical_member_is_the_fullest_one(members, digest, why):
    assert groups.choose_canonical(members) == (digest, why)
    assert groups.choose_canonical(members[::-1]) == (digest, why)


def test_an_empty_group_is_a_mistake():
    with pytest.raises(ValueError, match="at least one"):
        groups.choose_canonical([])
