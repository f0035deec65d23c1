# ruff: noqa: RUF001 - letters that look alike are what is tested here

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collectors import COLLECTORS
from curate.tags import (
    DEFAULT_SOURCES,
    MADE_BY,
    USUAL_SOURCES,
    fold,
    matching_rules,
    sources_of,
    tag_evidence,
)
from schemas.policy import PlatformPolicy, TagRule, parse_policy
from schemas.records import Post

AI = TagRule("ai", "fake", ("aiart", "stable diffusion"))
TITLED = TagRule("titled", "fake", ("ai", "made with flux"), ("not ai",), ("title",))


def post(platform="x", **fields):
    return Post(platform, "1", "s", None, None, **fields)


@pytest.mark.parametrize(
    "tag",
    [
        "aiart",
        "AIArt",
        "#AiArt",
        "ＡＩＡｒｔ",
        "＃aiart",
        "𝐀𝐈𝐀𝐫𝐭",
        "ai\u200dart",
        "ai\u00adart\ufe0f",
    ],
)
def test_a_hashtag_matches_however_it_is_spelt(tag):
    assert matching_rules(post(hashtags=("x", tag)), [AI, TITLED]) == [AI]


@pytest.mark.parametrize(
    ("rule", "tag", "matches"),
    [
        ("AIイラスト", "aiイラスト", True),
        ("AIイラスト", "AIイラスト好き", False),
        ("ｲﾗｽﾄ", "イラスト", True),
        ("🤖", "🤖\ufe0f", True),
        ("👩‍🎨", "👩‍🎨", True),
        ("café", "cafe\u0301", True),
        ("café", "cafe", False),
        ("straße", "STRASSE", True),
    ],
)
def test_hashtags_of_every_script_are_compared_whole(rule, tag, matches):
    found = matching_rules(post(hashtags=(tag,)), [TagRule("r", "fake", (rule,))])

    assert bool(found) is matches


@pytest.mark.parametrize(
    ("wanted", "title", "matches"),
    [
        ("AIイラスト", "これはＡＩイラストです", True),
        ("AI绘画", "我的ai绘画作品", True),
        ("🤖", "Made by 🤖!", True),
        ("c2pa", "no-c2pa-here", True),
        ("dall-e", "made with DALL-E 3", True),
        ("dall-e", "made with dalle", False),
        ("ai", "plain air", False),
    ],
)
def test_words_are_found_in_titles_of_scripts_with_and_without_spaces(wanted, title, matches):
    rule = TagRule("r", "fake", (wanted,), sources=("title",))

    assert bool(matching_rules(post(title=title), [rule])) is matches


def test_part_of_a_hashtag_is_no_match():
    assert matching_rules(post(hashtags=("notaiart", "aiartist")), [AI]) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"community": "AIArt"},
        {"community": "r/aiart"},
        {"community": "aiart@lemmy.example"},
        {"community": "Friends of Stable Diffusion"},
        {"flair": ":robot: Stable Diffusion XL"},
    ],
)
def test_community_and_words_of_the_flair_match(fields):
    assert matching_rules(post(**fields), [AI]) == [AI]


@pytest.mark.parametrize(
    ("title", "matches"),
    [
        ("Is this AI?", True),
        ("Made with Flux.", True),
        ("I said it again", False),
        ("Definitely not AI, though ai", False),
    ],
)
def test_titles_match_by_whole_words_and_exclusions_win(title, matches):
    assert (matching_rules(post(title=title), [TITLED]) == [TITLED]) is matches


def test_an_exclusion_in_one_source_vetoes_a_match_in_another():
    rule = TagRule("r", "fake", ("midjourney",), ("parody",), ("hashtag", "text"))

    assert matching_rules(post(hashtags=("midjourney",)), [rule]) == [rule]
    assert matching_rules(post(hashtags=("midjourney",), text="A parody."), [rule]) == []
    assert matching_rules(post(hashtags=("midjourney",), title="A parody."), [rule]) == [rule]


def test_a_text_is_looked_at_where_a_rule_says_so():
    rule = replace(AI, sources=("text",))
    spoken = post(text="Stable Diffusion did this, #AIart")

    assert matching_rules(spoken, [rule]) == [rule]
    assert matching_rules(spoken, [AI]) == []


def test_a_source_that_the_rule_does_not_name_is_not_looked_at():
    assert matching_rules(post(title="aiart"), [AI]) == []


def test_each_platform_has_its_own_sources_and_the_policy_and_the_rule_have_theirs():
    titled = {"title": "aiart"}
    policy = {"x": PlatformPolicy(tag_sources=("title",)), "reddit": PlatformPolicy(tag_sources=())}

    assert matching_rules(post("reddit", **titled), [AI]) == [AI]
    assert matching_rules(post("x", **titled), [AI]) == []
    assert matching_rules(post("x", **titled), [AI], policy) == [AI]
    assert matching_rules(post("reddit", **titled), [AI], policy) == []
    assert matching_rules(post("x", **titled), [replace(AI, sources=("hashtag",))], policy) == []


def test_a_rule_of_some_platforms_leaves_the_others_alone():
    rule = replace(AI, platforms=("x", "reddit"))

    assert matching_rules(post("reddit", flair="AIart"), [rule, AI]) == [rule, AI]
    assert matching_rules(post("tumblr", hashtags=("aiart",)), [rule, AI]) == [AI]


@pytest.mark.parametrize("platform", [*COLLECTORS, "somewhere"])
def test_every_platform_has_sources_that_posts_have(platform):
    sources = sources_of(platform)

    assert sources == DEFAULT_SOURCES.get(platform, USUAL_SOURCES)
    assert "hashtag" in sources
    assert all(hasattr(post(), "hashtags" if s == "hashtag" else s) for s in sources)


def test_the_rules_of_a_new_workspace_are_the_papers_and_leave_the_sources_to_the_platform():
    text = files("curate").joinpath("wildrf.toml").read_text(encoding="utf-8")
    rules = parse_policy(text.replace("NAME", "a")).tags

    assert {r.id: r.any for r in rules} == {
        "paper-real": ("photography", "nature", "nofilter", "streetphotography"),
        "paper-fake": (
            "deepfake", "AIart", "midjourney", "stablediffusion", "dalle", "aigenerated",
        ),
    }  # fmt: skip
    assert all(r.sources is None and r.strength < 1 for r in rules)


def test_evidence_says_which_word_matched_where():
    rows = list(tag_evidence(post(hashtags=("AIArt",)), ["d1", "d2"], [AI, TITLED]))

    assert [row.digest for row in rows] == ["d1", "d2"]
    assert rows[0].origin == "x/1#ai"
    assert (rows[0].kind, rows[0].direction, rows[0].strength) == ("tag", "fake", 0.5)
    assert (rows[0].detail, rows[0].made_by) == ("hashtag: aiart", MADE_BY)


def test_evidence_names_the_first_source_and_the_word_as_the_rule_writes_it():
    rule = TagRule("r", "fake", ("Midjourney", "AI art"), sources=("title", "hashtag"))
    both = post(title="ai ART by midjourney", hashtags=("midjourney",))

    [row] = tag_evidence(both, ["d"], [rule])

    assert row.detail == "title: Midjourney"


@given(st.text(max_size=30))
def test_folding_twice_changes_nothing_more_and_any_text_can_be_a_tag(text):
    folded = fold(text)

    assert fold(folded) == folded or folded.startswith(("#", "r/", " "))
    assert bool(matching_rules(post(hashtags=(text,)), [TagRule("r", "real", (text,))])) is bool(
        folded
    )
