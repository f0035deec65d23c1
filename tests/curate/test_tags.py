import pytest

from curate.tags import matching_rules, tag_evidence
from schemas.policy import TagRule
from schemas.records import Post

AI = TagRule("ai", "fake", ("aiart", "stable diffusion"))
TITLED = TagRule("titled", "fake", ("ai", "made with flux"), ("not ai",), ("title",))


def post(**fields: object) -> Post:
    return Post("x", "1", "s", None, None, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", ["aiart", "AIArt", "#AiArt", "ＡＩＡｒｔ", "𝐀𝐈𝐀𝐫𝐭"])  # noqa: RUF001
def test_a_hashtag_matches_however_it_is_spelt(tag):
    assert matching_rules(post(hashtags=("x", tag)), [AI, TITLED]) == [AI]


def test_part_of_a_hashtag_is_no_match():
    assert matching_rules(post(hashtags=("notaiart", "aiartist")), [AI]) == []


@pytest.mark.parametrize(
    "fields",
    [{"community": "AIArt"}, {"community": "r/aiart"}, {"flair": ":robot: Stable Diffusion XL"}],
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


def test_a_source_that_the_rule_does_not_name_is_not_looked_at():
    assert matching_rules(post(title="aiart"), [AI]) == []


def test_evidence_says_which_word_matched_where():
    rows = list(tag_evidence(post(hashtags=("AIArt",)), ["d1", "d2"], [AI, TITLED]))

    assert [row.digest for row in rows] == ["d1", "d2"]
    assert rows[0].origin == "x/1#ai"
    assert (rows[0].kind, rows[0].direction, rows[0].strength) == ("tag", "fake", 0.5)
    assert rows[0].detail == "hashtag: aiart"
