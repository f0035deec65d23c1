"""From votes to labels: who counts, who wins, and that order never matters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling.consensus import decide, latest_answers
from schemas.labels import Choice
from schemas.policy import LabelingPolicy
from schemas.records import Annotation

POLICY = LabelingPolicy(min_votes=1, min_agreement=0.6)
STRICT = LabelingPolicy(min_votes=3, min_agreement=0.75)


def said(choice, annotator="ann", *, digest="d", revision="2026-01-01", name=None):
    return Annotation(name or f"{digest}-{annotator}", revision, digest, annotator, choice)


def votes(*choices):
    return [said(choice, f"person{i}") for i, choice in enumerate(choices)]


def verdict(rows, policy=POLICY):
    (found,) = decide(rows, policy, "v1")
    return found


def test_a_clear_majority_decides_and_tells_why():
    found = verdict(votes("Fake", "Fake", "Fake", "Real"))

    assert (found.decision, found.votes, found.agreement) == (1, 4, 0.75)
    assert found.posterior == pytest.approx(4 / 6)
    assert found.why == "1 Real, 3 Fake: fake with agreement 0.75"
    assert found.version == "v1"


def test_one_vote_is_a_label_under_the_default_policy_and_a_modest_posterior():
    found = verdict(votes("Real"), LabelingPolicy())

    assert found.decision == 0
    assert found.posterior == pytest.approx(1 / 3)


def test_a_tie_is_undecided():
    found = verdict(votes("Fake", "Real"), LabelingPolicy(min_agreement=0.0))

    assert found.decision is None
    assert found.posterior == 0.5
    assert "tie" in found.why


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (["Fake", "Fake"], "2 of the 3 votes needed"),
        (["Fake", "Fake", "Real"], "agreement 0.67 below 0.75"),
        (["Unsure", "Unsure"], "0 of the 3 votes needed"),
    ],
)
def test_too_few_or_too_divided_votes_are_undecided_and_say_so(choices, told):
    found = verdict(votes(*choices), STRICT)

    assert found.decision is None
    assert told in found.why


@pytest.mark.parametrize("choice", ["Edited", "Not a photo", "Unsure", None])
def test_what_is_no_vote_is_never_counted_as_one_and_is_told(choice):
    found = verdict(votes(choice))

    assert (found.votes, found.posterior, found.agreement, found.decision) == (0, None, None, None)
    assert found.why.startswith(f"1 {choice or 'skipped'}")


def test_unsure_and_skips_beside_votes_change_nothing_but_the_reason():
    plain, with_others = (
        verdict(votes("Real", "Real")),
        verdict(votes("Real", "Real", "Unsure", None)),
    )

    assert with_others.decision == plain.decision == 0
    assert with_others.posterior == plain.posterior
    assert with_others.why == "2 Real, 1 Unsure, 1 skipped: real with agreement 1.00"


@pytest.mark.parametrize("choice", ["Edited", "Not a photo"])
def test_an_image_that_as_many_call_edited_or_no_photo_gets_no_label(choice):
    assert verdict(votes("Fake", choice)).decision is None
    assert verdict(votes("Fake", "Fake", choice)).decision == 1


def test_only_the_last_revision_of_an_annotation_counts():
    rows = [said("Real", revision="2026-01-01"), said("Fake", revision="2026-01-02")]

    found = verdict(rows)

    assert (found.decision, found.votes) == (1, 1)


def test_one_person_has_one_vote_however_often_they_answered():
    rows = [said("Fake", name=f"a{i}", revision=f"2026-01-0{i}") for i in range(1, 6)]
    rows += [said("Real", "bea"), said("Real", "cem")]

    found = verdict(rows)

    assert (found.decision, found.votes) == (0, 3)


def test_an_annotation_changed_last_is_the_last_word_though_another_was_made_after_it():
    rows = [
        said("Real", name="first", revision="2026-01-01"),
        said("Real", name="second", revision="2026-01-02"),
        said("Fake", name="first", revision="2026-01-03"),
    ]

    assert verdict(rows).decision == 1


def test_agreement_that_just_reaches_the_bar_is_enough():
    assert verdict(votes("Fake", "Fake", "Fake", "Real", "Real")).decision == 1


def test_a_later_skip_takes_the_vote_back():
    rows = [said("Fake", revision="2026-01-01"), said(None, revision="2026-01-02")]

    assert verdict(rows).votes == 0


def test_no_annotations_are_no_verdicts():
    assert list(decide([], POLICY, "v1")) == []


annotations = st.lists(
    st.builds(
        Annotation,
        annotation_id=st.sampled_from("abcdef"),
        revision=st.sampled_from(["2026-01-01", "2026-01-02"]),
        digest=st.sampled_from(["d1", "d2"]),
        annotator=st.sampled_from(["ann", "bea", "cem"]),
        choice=st.sampled_from([*Choice, None]),
    ),
    max_size=12,
)


@given(rows=annotations, data=st.data())
def test_the_order_and_repetition_of_rows_change_nothing(rows, data):
    shuffled = data.draw(st.permutations(rows + rows[:3]))

    assert list(decide(rows, POLICY, "v")) == list(decide(shuffled, POLICY, "v"))


@given(rows=annotations)
def test_every_verdict_follows_from_the_answers_it_counts(rows):
    answers = latest_answers(rows)

    for found in decide(rows, POLICY, "v"):
        given_here = list(answers[found.digest].values())
        real, fake = given_here.count("Real"), given_here.count("Fake")
        assert found.votes == real + fake
        assert found.decision in (None, 0, 1)
        if found.decision is not None:
            assert (fake > real) == (found.decision == 1)
            assert found.agreement >= POLICY.min_agreement
            assert (found.posterior > 0.5) == (found.decision == 1)
