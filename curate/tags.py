"""Which tag rules a post meets, and the evidence that follows. A tag is a prior, never a label.

Words are compared after NFKC and case folding (https://www.unicode.org/reports/tr15/) and without what
cannot be seen (https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point), so full-width,
decorated and upper-case spellings of a hashtag are the same word; an accent makes another one. Where a
script has no spaces between words, a word of a rule is looked for anywhere in a title or text.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from schemas.policy import PlatformPolicy, TagRule, TagSource
from schemas.records import Evidence, Post

MADE_BY = "tags/2"

DEFAULT_SOURCES: dict[str, tuple[TagSource, ...]] = {
    # no hashtags to speak of: what a post is about stands in its flair, its subreddit and its title
    "reddit": ("flair", "community", "title", "hashtag"),
    "lemmy": ("community", "title", "hashtag"),
    # a prompt or a chat names nature and photography whatever the picture is, so texts are not looked at
    "discord": ("hashtag", "community"),
    "telegram": ("hashtag", "community"),
}
"""Where rules look on a platform, unless the rule or the policy of the platform says so itself."""

USUAL_SOURCES: tuple[TagSource, ...] = ("hashtag", "community", "flair")
"""Where rules look on any other platform."""

_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+"
)
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese; and Korean, where particles are written onto words."""


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """A word as it is compared: NFKC, case folded, without `#`, `r/`, spaces around it and the unseen."""
    return _folded(word).strip().lstrip("#").removeprefix("r/")


def matching_rules(
    post: Post, rules: Sequence[TagRule], platforms: Mapping[str, PlatformPolicy] | None = None
) -> list[TagRule]:
    """The rules that `post` meets, in their order: one of `any` is there, and none of `none`."""
    return [rule for rule, _, _ in _matcher(rules, platforms).matches(post)]


def tag_evidence(
    post: Post,
    digests: Sequence[str],
    rules: Sequence[TagRule],
    platforms: Mapping[str, PlatformPolicy] | None = None,
) -> Iterator[Evidence]:
    """One row per image of `post` and rule that it meets, saying which word matched where."""
    return _matcher(rules, platforms).evidence(post, digests)


class TagMatcher:
    """Tag rules made ready: every word is folded once, and every source of a post read at most once."""

    def __init__(
        self, rules: Sequence[TagRule], platforms: Mapping[str, PlatformPolicy] | None = None
    ) -> None:
        self._rules = [_Rule.of(rule) for rule in rules]
        self._policies = platforms or {}
        self._asked: dict[str, list[tuple[_Rule, tuple[TagSource, ...]]]] = {}

    def matches(self, post: Post) -> list[tuple[TagRule, TagSource, str]]:
        """Each rule that `post` meets, with the source and the word of the rule by which it does."""
        asked = self._asked.get(post.platform)
        if asked is None:
            asked = self._asked[post.platform] = self._of(post.platform)
        terms: dict[str, _Terms] = {}
        found = []
        for rule, sources in asked:
            match = rule.match(post, sources, terms)
            if match is not None:
                found.append((rule.rule, *match))
        return found

    def evidence(self, post: Post, digests: Sequence[str]) -> Iterator[Evidence]:
        """One row per image of `post` and rule that it meets."""
        for rule, source, word in self.matches(post):
            for digest in digests:
                yield Evidence(
                    digest=digest,
                    kind="tag",
                    origin=f"{post.platform}/{post.post_id}#{rule.id}",
                    direction=rule.direction,
                    strength=rule.strength,
                    detail=f"{source}: {word}",
                    made_by=MADE_BY,
                )

    def _of(self, platform: str) -> list[tuple["_Rule", tuple[TagSource, ...]]]:
        """The rules that hold on a platform, each with the sources it looks at there."""
        usual = sources_of(platform, self._policies)
        return [
            (made, usual if made.rule.sources is None else made.rule.sources)
            for made in self._rules
            if not made.rule.platforms or platform in made.rule.platforms
        ]


def _matcher(
    rules: Sequence[TagRule], platforms: Mapping[str, PlatformPolicy] | None
) -> TagMatcher:
    return _made(tuple(rules), tuple((platforms or {}).items()))


@lru_cache(maxsize=16)
def _made(
    rules: tuple[TagRule, ...], platforms: tuple[tuple[str, PlatformPolicy], ...]
) -> TagMatcher:
    """The same rules are made ready once, however often they are asked about a post."""
    return TagMatcher(rules, dict(platforms))


def sources_of(
    platform: str, platforms: Mapping[str, PlatformPolicy] | None = None
) -> tuple[TagSource, ...]:
    """Where a rule that names no sources looks on `platform`."""
    policy = (platforms or {}).get(platform)
    if policy is not None and policy.tag_sources is not None:
        return policy.tag_sources
    return DEFAULT_SOURCES.get(platform, USUAL_SOURCES)


class _Terms:
    """What one source of one post says: whole terms, and the text they stand in, each when needed."""

    def __init__(self, text: str, terms: frozenset[str]) -> None:
        self.text = text
        self.terms = terms

    @cached_property
    def framed(self) -> str:
        """The words one after the other, each between line breaks, so that phrases match whole."""
        return "\n" + "\n".join(_WORD.findall(self.text)) + "\n"


_NO_TERMS = _Terms("", frozenset())


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of one side of a rule: single ones, phrases, and those that are no words between spaces."""

    order: dict[str, str]
    terms: frozenset[str]
    phrases: tuple[tuple[str, str], ...]
    anywhere: tuple[str, ...]

    @classmethod
    def of(cls, wanted: Iterable[str]) -> "_Words":
        order = {folded: word for word in reversed(tuple(wanted)) if (folded := fold(word))}
        order = dict(reversed(order.items()))
        parts = {folded: _WORD.findall(folded) for folded in order}
        return cls(
            order=order,
            terms=frozenset(order),
            phrases=tuple(
                (folded, "\n" + "\n".join(words) + "\n")
                for folded, words in parts.items()
                if words and words != [folded]
            ),
            anywhere=tuple(f for f, words in parts.items() if not words or _UNSPACED.search(f)),
        )

    def find(self, said: _Terms) -> str | None:
        """The first of the words, as the rule writes it, that stands in what was said."""
        hits = self.terms & said.terms
        if said.text and (self.phrases or self.anywhere):
            hits |= {folded for folded, phrase in self.phrases if phrase in said.framed}
            hits |= {folded for folded in self.anywhere if folded in said.text}
        return next(word for folded, word in self.order.items() if folded in hits) if hits else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule, ready."""

    rule: TagRule
    any: _Words
    none: _Words

    @classmethod
    def of(cls, rule: TagRule) -> "_Rule":
        return cls(rule, _Words.of(rule.any), _Words.of(rule.none))

    def match(
        self, post: Post, sources: tuple[TagSource, ...], terms: dict[str, _Terms]
    ) -> tuple[TagSource, str] | None:
        """The source and word by which the post meets the rule, unless a word of `none` is in any."""
        said = [(source, _said(post, source, terms)) for source in sources]
        found = next(((s, word) for s, t in said if (word := self.any.find(t))), None)
        if found is None or (self.none.terms and any(self.none.find(t) for _, t in said)):
            return None
        return found


def _said(post: Post, source: TagSource, terms: dict[str, _Terms]) -> _Terms:
    """What a source of the post says; read once for all rules."""
    known = terms.get(source)
    if known is None:
        known = terms[source] = _read(post, source)
    return known


def _read(post: Post, source: TagSource) -> _Terms:
    if source == "hashtag":
        # a hashtag is one word: nothing is looked for inside it
        return _Terms("", frozenset(map(fold, post.hashtags))) if post.hashtags else _NO_TERMS
    text: str | None = getattr(post, source)
    if not text:
        return _NO_TERMS
    folded = _folded(text)
    words = _WORD.findall(folded)
    if source in ("flair", "community"):
        words.append(fold(text))
    return _Terms(folded, frozenset(words or [folded]))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
    return unicodedata.normalize("NFKC", plain)
