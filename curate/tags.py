"""Which tag rules a post meets, and the evidence that follows. A tag is a prior, never a label.

Words are compared after NFKC and case folding (https://www.unicode.org/reports/tr15/), so
full-width, decorated and upper-case spellings of a hashtag are the same word.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from schemas.policy import TagRule
from schemas.records import Evidence, Post

MADE_BY = "tags/1"
DEFAULT_SOURCES = ("hashtag", "community", "flair")
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """A word as it is compared: NFKC, case folded, without `#`, `r/` or spaces around it."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    return unicodedata.normalize("NFKC", folded).strip().lstrip("#").removeprefix("r/")


def matching_rules(post: Post, rules: Sequence[TagRule]) -> list[TagRule]:
    """The rules that `post` meets, in their order: one of `any` is there, and none of `none`."""
    return [rule for rule in rules if match_of(post, rule) is not None]


def match_of(post: Post, rule: TagRule) -> tuple[str, str] | None:
    """The source and word by which `post` meets `rule`; None if it does not."""
    found = [(source, _terms(post, source)) for source in rule.sources or DEFAULT_SOURCES]
    if any(_find(terms, rule.none) for _, terms in found):
        return None
    for source, terms in found:
        word = _find(terms, rule.any)
        if word:
            return source, word
    return None


def tag_evidence(
    post: Post, digests: Sequence[str], rules: Sequence[TagRule]
) -> Iterator[Evidence]:
    """One row per image of `post` and rule that it meets, saying which word matched where."""
    for rule in rules:
        match = match_of(post, rule)
        if match is None:
            continue
        for digest in digests:
            yield Evidence(
                digest=digest,
                kind="tag",
                origin=f"{post.platform}/{post.post_id}#{rule.id}",
                direction=rule.direction,
                strength=rule.strength,
                detail=f"{match[0]}: {match[1]}",
                made_by=MADE_BY,
            )


def _terms(post: Post, source: str) -> str:
    """What one source says, folded, as words between newlines so that phrases match whole."""
    if source == "hashtag":
        return _framed(fold(tag) for tag in post.hashtags)
    if source == "title":
        return _words(post.title)
    if source == "flair":
        return _words(post.flair) + _framed([fold(post.flair or "")])
    return _framed([fold(post.community or "")])


def _framed(terms: Iterator[str] | list[str]) -> str:
    return "\n" + "\n".join(terms) + "\n"


def _words(text: str | None) -> str:
    return _framed(_WORD.findall(fold(text))) if text else "\n"


def _find(terms: str, wanted: Sequence[str]) -> str | None:
    """The first of `wanted` that stands whole in `terms`; a phrase needs its words side by side."""
    for word in wanted:
        folded = fold(word)
        phrase = "\n".join(_WORD.findall(folded))
        if folded and (f"\n{folded}\n" in terms or (phrase and f"\n{phrase}\n" in terms)):
            return word
    return None
