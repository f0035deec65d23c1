"""Whole groups, one side per author, nobody moves when the set grows."""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.splits import Candidate, Posting, assign, unit_interval
from schemas.labels import Label, Role, Split
from schemas.policy import SplitPolicy

ROLES = {"reddit": Role.TRAIN, "x": Role.HELD_OUT}
POLICY = SplitPolicy()

postings = st.builds(
    Posting,
    platform=st.sampled_from(["reddit", "x", "flickr"]),
    post_id=st.integers(0, 50).map(str),
    author=st.one_of(st.none(), st.integers(0, 12).map(lambda n: f"author{n:02d}")),
)


@st.composite
def sets(draw):
    """Images with random groups, labels and postings."""
    groups = draw(st.lists(st.integers(0, 12), min_size=1, max_size=30))
    kin = draw(st.lists(st.sampled_from(["", "k1", "k2"]), min_size=13, max_size=13))
    return [
        Candidate(
            digest=f"{n:064x}",
            group_id=f"g{group}",
            label=draw(st.sampled_from([Label.REAL, Label.FAKE])),
            postings=tuple(draw(st.lists(postings, min_size=1, max_size=3))),
            refused=draw(st.sampled_from([None, None, None, "undecided"])),
            fidelity=draw(st.integers(0, 1)),
            kin=kin[group],
        )
        for n, group in enumerate(groups)
    ]


def place(candidates, policy=POLICY):
    return {p.candidate.digest: p for p in assign(candidates, ROLES, policy)}


@given(sets())
def test_every_image_is_placed_once_or_left_out_with_a_reason(candidates):
    placed = place(candidates)

    assert set(placed) == {c.digest for c in candidates}
    for p in placed.values():
        assert p.why
        assert (p.split is None) == (p.posting is None)


@given(sets())
def test_no_group_is_on_two_sides(candidates):
    sides = defaultdict(set)
    for p in place(candidates).values():
        if p.split is not None:
            sides[p.candidate.group_id].add(p.split)

    assert all(len(found) == 1 for found in sides.values())


@given(sets())
def test_no_kin_is_on_two_sides(candidates):
    sides = defaultdict(set)
    for p in place(candidates).values():
        if p.split is not None and p.candidate.kin:
            sides[p.candidate.kin].add(p.split)

    assert all(len(found) == 1 for found in sides.values())


@given(sets())
def test_no_group_with_both_labels_is_released(candidates):
    labels = defaultdict(set)
    for c in candidates:
        labels[c.group_id].add(c.label)

    placed = place(candidates).values()

    assert all(len(labels[p.candidate.group_id]) == 1 for p in placed if p.split is not None)


@given(sets())
def test_no_author_is_on_two_sides(candidates):
    sides = defaultdict(set)
    for p in place(candidates).values():
        if p.split is not None and p.posting.author is not None:
            sides[p.posting.platform, p.posting.author].add(p.split)

    assert all(len(found) == 1 for found in sides.values())


@given(sets())
def test_a_platform_that_is_held_out_or_unknown_only_tests(candidates):
    for p in place(candidates).values():
        if p.split is not None and p.posting.platform != "reddit":
            assert p.split is Split.TEST


@given(sets(), sets())
def test_images_that_come_later_move_nobody(first, later):
    more = [replace(c, digest=c.digest.replace("0", "f", 1), fidelity=2) for c in later]
    before, after = place(first), place(first + more)

    for digest, p in before.items():
        if p.split is not None and after[digest].split is not None:
            assert after[digest].split is p.split


@given(sets(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(candidates, random):
    shuffled = list(candidates)
    random.shuffle(shuffled)

    assert place(candidates) == place(shuffled)


def image(name, *where, group=None, label=Label.REAL, refused=None, fidelity=0):
    return Candidate(name, group or name, label, tuple(where), refused, fidelity)


def test_one_picture_under_both_labels_is_left_out_whole():
    here = Posting("reddit", "1", "ana")
    placed = place([image("a", here, group="g"), image("b", here, group="g", label=Label.FAKE)])

    assert {p.split for p in placed.values()} == {None}
    assert {p.why for p in placed.values()} == {"label-conflict: one picture has both labels"}


def test_a_copy_on_a_held_out_platform_takes_its_picture_out_of_training():
    author = next(f"a{n}" for n in range(99) if unit_interval(f"wildrf/reddit/a{n}") > 0.5)
    placed = place(
        [
            image("a", Posting("reddit", "1", author), group="g"),
            image("b", Posting("x", "2", "bo"), group="g", fidelity=1),
        ]
    )

    assert placed["b"].split is Split.TEST
    assert placed["a"].split is None
    assert "the same picture is in test" in placed["a"].why


def test_a_label_that_nobody_can_release_still_contradicts():
    here = Posting("x", "1", "ana")
    hidden = image("b", group="g", label=Label.FAKE, refused="not posted anywhere we know")

    placed = place([image("a", here, group="g"), hidden])

    assert placed["a"].split is None


def test_an_edit_and_its_photo_are_both_released_on_the_stricter_side():
    author = next(f"a{n}" for n in range(99) if unit_interval(f"wildrf/reddit/a{n}") > 0.5)
    photo = image("a", Posting("x", "2", "bo"))
    edit = image("b", Posting("x", "3", "cy"), label=Label.FAKE)
    taught = image("c", Posting("reddit", "1", author), label=Label.FAKE)

    placed = place([replace(one, kin="k") for one in (photo, edit, taught)])

    assert {placed[x].split for x in "ab"} == {Split.TEST}
    assert placed["c"].split is None
    assert placed["c"].why == "a related picture is in test"


def test_of_several_renditions_in_one_place_the_best_stays():
    here = Posting("x", "1", "ana")
    placed = place([image("a", here, group="g", fidelity=1), image("b", here, group="g")])

    assert placed["b"].split is Split.TEST
    assert placed["a"].why == "same picture as b"


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_share_of_test_is_what_was_asked_for(fraction):
    policy = SplitPolicy(test_fraction=fraction, val_fraction=0.0)
    many = [image(f"{n:064x}", Posting("reddit", str(n), f"author{n}")) for n in range(4000)]

    placed = place(many, policy)

    share = sum(p.split is Split.TEST for p in placed.values()) / len(many)
    assert share == pytest.approx(fraction, abs=0.03)


def test_without_by_author_each_image_has_a_place_of_its_own():
    policy = SplitPolicy(by_author=False)
    many = [image(f"{n:064x}", Posting("reddit", str(n), "one")) for n in range(200)]

    assert {p.split for p in place(many, policy).values()} == set(Split)
