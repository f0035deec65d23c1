"""wildrf.toml becomes one validated object, and a mistake is named with its line."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import PolicyError
from schemas.labels import Role
from schemas.policy import FetchPolicy, Policy, parse_policy

COMMENTED = files("curate").joinpath("wildrf.toml").read_text(encoding="utf-8")


def test_what_init_writes_states_the_defaults():
    policy = parse_policy(COMMENTED.replace("NAME", "my-set"))

    assert policy.name == "my-set"
    assert policy.fetch == FetchPolicy()
    assert policy.platforms["reddit"].role is Role.TRAIN
    assert policy.platforms["x"].role is Role.HELD_OUT
    assert {rule.id: rule.direction for rule in policy.tags} == {
        "paper-real": "real",
        "paper-fake": "fake",
    }
    plain = Policy(name="my-set", platforms=policy.platforms, tags=policy.tags)
    assert policy == plain


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('name = "a"\n\n[fetch]\nworkrs = 3\n', 4, "unknown key fetch.workrs"),
        ('name = "a"\n[fetch]\nworkers = "many"\n', 3, "fetch.workers is 'many'"),
        ('name = "a"\n[fetch]\ntimeout_s = -1\n', 3, "greater than 0"),
        ('name = "a"\n[platforms.reddit]\nrole = "both"\n', 3, "'train' or 'held-out'"),
        ('name = "a"\nsplit.protocol = "mine"\n', 2, "split.protocol is 'mine'"),
        ('name = "a"\n[[tags]]\nid = "x"\ndirection = "real"\nany = []\n[[tags]]\nid = ""\n', 7, "id"),
        ('name = "My Set"\n', 1, "name is 'My Set'"),
        ('name = "a"\n[gates]\nshortcut_auc = 2\n', 3, "gates.shortcut_auc is 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_its_place(text, line, words):
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)

    message = str(caught.value)
    assert f"wildrf.toml line {line}:" in message
    assert words in message
    assert "\n" not in message


def test_a_missing_name_is_told():
    with pytest.raises(PolicyError, match="name is missing; add it"):
        parse_policy("[fetch]\n")


def test_broken_toml_is_told_with_its_place():
    with pytest.raises(PolicyError, match=r"is not valid TOML: .*line 2"):
        parse_policy('name = "a"\nx = \n')


@given(st.text(max_size=200))
def test_no_text_gives_anything_but_a_policy_or_a_policy_error(text):
    try:
        assert isinstance(parse_policy(text), Policy)
    except PolicyError as error:
        assert str(error)
