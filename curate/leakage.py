"""What two splits share and must not, found afresh from the files themselves.

Each check in `CHECKS` looks for one kind of leak and leans on nothing that the splitter stated:
copies are found by bytes, by pixels, by perceptual hash and by what dedupe finds, each time anew,
whatever groups the manifest states. The platforms of a test split are one split here.

Near-duplicates are those whose 64-bit pHash is within a distance (Zauner 2010, as ImageHash
computes it) and whose dHash agrees. That is wider than the rule of dedupe on purpose: a check that
shares the splitter's blind spot proves nothing. Among aligned pictures, such as portraits, some of
what it lists are look-alikes; the distances are in the evidence, the closest pairs first, and that
of a pair which was verified as well says so.

Copies that no hash of the whole picture shows (cropped, framed, captioned, on a screen, mirrored,
turned, covered in part) are those that `curate.matching` verifies on thumbnails. Each is a leak of
the kind of its copy.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from curate import hamming
from curate.candidates import Reader
from curate.matching import find_matches
from curate.survey import Surveyed
from schemas.labels import MatchKind, Split
from schemas.records import Match, Thumbnail

CONFIRM_BITS = 16
"""How far the 64-bit dHash of near-duplicates may differ; unrelated pictures differ by about 32."""

COPIES = 64
"""Where more images than this have one hash, each is paired with the first alone."""

CONFLICT_BITS = 4
"""How far the pHash, and twice that the dHash, of one picture under both labels may differ.

To call a label wrong takes more than likeness. Re-saving a picture changes fewer bits; portraits of
two people differ in more.
"""

CONFLICT_SCORE = 0.9
"""The score that a cropped, framed or turned copy needs, beside `CONFLICT_BITS` between the views that
agree best, to be one picture under both labels."""

ALTERED = frozenset({MatchKind.NEAR, MatchKind.OVERLAY})
"""Copies that part of the picture, or its tones, were changed in: one of them may be the fake that was
made of the other, so both labels may be right."""

MADE_BY = "check/2"


@dataclass(frozen=True, slots=True)
class Leak:
    """Two images that stand apart and must not; `a` and `b` are paths, `a` in the earlier split."""

    kind: str
    a: str
    b: str
    split_a: str
    split_b: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two near-duplicate items and how far their hashes are apart, in bits."""

    a: Surveyed
    b: Surveyed
    phash_bits: int
    dhash_bits: int
    match: Match | None = None
    """How the two were verified on thumbnails, if they were."""

    @property
    def evidence(self) -> str:
        """The distances in words."""
        bits = f"pHash distance {self.phash_bits}, dHash distance {self.dhash_bits}"
        return f"{bits}; verified as {_verified(self.match)}" if self.match else bits


@dataclass(frozen=True, slots=True)
class Copy:
    """Two items that are verified to be one picture, and whose hashes do not tell."""

    a: Surveyed
    b: Surveyed
    match: Match

    @property
    def evidence(self) -> str:
        """What was done to one of the two, and how sure that is."""
        return f"{_verified(self.match)}, distance {self.match.distance}"


def _verified(match: Match) -> str:
    return f"{match.kind}, score {match.verified or 0.0:.2f}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What every check is given: the labelled items by path, and which of them show one picture."""

    items: tuple[Surveyed, ...]
    near: tuple[Pair, ...]
    copies: tuple[Copy, ...]


Check = Callable[[Facts], Iterator[Leak]]


def find_leaks(
    items: Iterable[Surveyed],
    *,
    distance_bits: int,
    confirm_bits: int = CONFIRM_BITS,
    read: Reader | None = None,
) -> list[Leak]:
    """Every leak of every check, in the order of `CHECKS`, then of paths.

    Near ones come closest first, other copies surest first.

    Args:
        items: images without a placement are left out.
        distance_bits: how far the pHash of two near-duplicates, or of two views of a copy, may
            differ, 0 to 16.
        confirm_bits: how far the dHash of near-duplicates may differ; 64 asks pHash alone.
        read: gives the thumbnails of some images; default: those that the items carry.
    """
    placed = tuple(sorted((i for i in items if i.placement), key=lambda item: item.path))
    hashed = find_near(placed, distance_bits=distance_bits, confirm_bits=confirm_bits)
    matches = _match(placed, read or _carried(placed), distance_bits)
    near_pairs = tuple(
        replace(p, match=matches.get(frozenset((p.a.image.digest, p.b.image.digest))))
        for p in hashed
    )
    facts = Facts(placed, near_pairs, tuple(_beyond(placed, near_pairs, matches)))
    return [leak for check in CHECKS.values() for leak in check(facts)]


def summarise(leaks: Sequence[Leak]) -> dict[str, Any]:
    """The answer of `wildrf check`: is the set clean, each leak, and how many of each kind."""
    found = Counter(leak.kind for leak in leaks)
    return {
        "clean": not leaks,
        "leaks": [asdict(leak) for leak in leaks],
        "counts": {kind: found[kind] for kind in CHECKS},
    }


def find_near(
    items: Sequence[Surveyed], *, distance_bits: int, confirm_bits: int = CONFIRM_BITS
) -> Iterator[Pair]:
    """Pairs of items whose pictures are alike and whose pixels differ, the closest first."""
    hashed = [item for item in items if item.phash is not None and item.dhash is not None]
    pairs = hamming.self_join(
        np.array([item.phash for item in hashed], np.uint64), distance_bits, copies=COPIES
    )
    dhash = np.array([item.dhash for item in hashed], np.uint64)
    confirmed = np.bitwise_count(dhash[pairs.i] ^ dhash[pairs.j])
    closest_first = np.argsort(pairs.d.astype(int) + confirmed, kind="stable")
    for n in closest_first[confirmed[closest_first] <= confirm_bits].tolist():
        a, b = hashed[pairs.i[n]], hashed[pairs.j[n]]
        if not _same_picture(a, b):
            yield Pair(a, b, int(pairs.d[n]), int(confirmed[n]))


def _carried(items: Iterable[Surveyed]) -> Reader:
    """The thumbnails that the items carry."""
    held = {item.image.digest: item.thumbnails for item in items}

    def read(digests: Sequence[str]) -> Iterator[Thumbnail]:
        for digest in digests:
            yield from held[digest]

    return read


def _match(
    items: Sequence[Surveyed], read: Reader, distance_bits: int
) -> dict[frozenset[str], Match]:
    """What dedupe verifies among the images, by the two digests; equal pixels have their own check."""
    images = {item.image.digest: item.image for item in items if item.image.error is None}
    matches = find_matches(
        list(images.values()),
        read,
        distance_bits=distance_bits,
        made_by=MADE_BY,
        sides=_sides(items),
    )
    return {frozenset((m.a, m.b)): m for m in matches if m.kind != MatchKind.PIXELS}


def _sides(items: Iterable[Surveyed]) -> dict[str, int]:
    """For each image a number of its split and label, -1 if it has several.

    Copies under one split and one label are no leak, so they need not be looked for.
    """
    places: dict[str, set[Hashable]] = defaultdict(set)
    for item in items:
        places[item.image.digest].add((_split(item), _label(item)))
    numbers = {place: number for number, place in enumerate(set().union(*places.values()))}
    return {
        digest: numbers[next(iter(found))] if len(found) == 1 else -1
        for digest, found in places.items()
    }


def _beyond(
    items: Iterable[Surveyed], hashed: Iterable[Pair], matches: Mapping[frozenset[str], Match]
) -> Iterator[Copy]:
    """The matches that no pair of hashes tells, the surest first.

    A picture that lies in several places is paired so that every place is named, place by place with
    those under another split or label.
    """
    known = {frozenset((pair.a.image.digest, pair.b.image.digest)) for pair in hashed}
    places: dict[str, dict[Hashable, list[Surveyed]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        places[item.image.digest][_split(item), _label(item)].append(item)
    found = (match for digests, match in matches.items() if digests not in known)
    for match in sorted(found, key=lambda m: (-(m.verified or 0.0), m.distance, m.a, m.b)):
        for one, other in product(places[match.a].values(), places[match.b].values()):
            for a, b in _pair_up(one, other):
                yield Copy(a, b, match)


def _same_picture(a: Surveyed, b: Surveyed) -> bool:
    """Same bytes or same pixels: those have checks of their own."""
    return a.image.digest == b.image.digest or (
        a.image.pixels is not None and a.image.pixels == b.image.pixels
    )


def _split(item: Surveyed) -> Split | None:
    return item.placement.split if item.placement else None


ORDER = tuple(Split)


def _leak(kind: str, a: Surveyed, b: Surveyed, evidence: str) -> Leak:
    """The leak of two items, the earlier split first, then the smaller path."""
    first, second = _in_order(a, b)
    return Leak(kind, first.path, second.path, _split(first) or "", _split(second) or "", evidence)


def _in_order(a: Surveyed, b: Surveyed) -> tuple[Surveyed, Surveyed]:
    first, second = sorted((a, b), key=lambda item: (_rank(item), item.path))
    return first, second


def _rank(item: Surveyed) -> int:
    split = _split(item)
    return -1 if split is None else ORDER.index(split)


def _across(
    kind: str,
    items: Iterable[Surveyed],
    value_of: Callable[[Surveyed], Hashable | None],
    evidence_of: Callable[[Surveyed], str],
) -> Iterator[Leak]:
    """Leaks where two splits share a value.

    Each item of the value is named at least once, and the number of leaks grows with the number of
    items, not with its square.
    """
    for members in _shared(items, value_of):
        by_split: dict[Split, list[Surveyed]] = defaultdict(list)
        for item in members:
            if (split := _split(item)) is not None:
                by_split[split].append(item)
        for one, other in combinations([s for s in ORDER if s in by_split], 2):
            for a, b in _pair_up(by_split[one], by_split[other]):
                yield _leak(kind, a, b, evidence_of(a))


def _shared(
    items: Iterable[Surveyed], value_of: Callable[[Surveyed], Hashable | None]
) -> Iterator[list[Surveyed]]:
    """The items of each value that more than one has, in order of first appearance."""
    members: dict[Hashable, list[Surveyed]] = defaultdict(list)
    for item in items:
        value = value_of(item)
        if value is not None:
            members[value].append(item)
    return (found for found in members.values() if len(found) > 1)


def _pair_up(
    left: Sequence[Surveyed], right: Sequence[Surveyed]
) -> Iterator[tuple[Surveyed, Surveyed]]:
    """Pairs in which each of both sides stands; the shorter side repeats its last."""
    for n in range(max(len(left), len(right))):
        yield left[min(n, len(left) - 1)], right[min(n, len(right) - 1)]


def _bytes(item: Surveyed) -> str | None:
    return item.image.digest or None


def _pixels(item: Surveyed) -> str | None:
    return item.image.pixels


def same_bytes(facts: Facts) -> Iterator[Leak]:
    """One file in two splits."""
    return _across(
        "same-bytes", facts.items, _bytes, lambda item: f"sha256 {item.image.digest[:16]}"
    )


def same_pixels(facts: Facts) -> Iterator[Leak]:
    """Other bytes, the same decoded picture: re-saved losslessly, or with other metadata."""
    digest = {item.path: item.image.digest for item in facts.items}
    found = _across(
        "same-pixels", facts.items, _pixels, lambda item: f"pixels {str(_pixels(item))[:16]}"
    )
    return (leak for leak in found if digest[leak.a] != digest[leak.b])


def near(facts: Facts) -> Iterator[Leak]:
    """The picture again after compression, resizing or a light edit."""
    for pair in facts.near:
        if _apart(pair.a, pair.b):
            yield _leak("near", pair.a, pair.b, pair.evidence)
    yield from copied(facts, MatchKind.NEAR)


def copied(facts: Facts, kind: MatchKind) -> Iterator[Leak]:
    """The picture again, cut, framed, turned or written over as `kind` says."""
    for copy in facts.copies:
        if copy.match.kind == kind and _apart(copy.a, copy.b):
            yield _leak(kind.value, copy.a, copy.b, copy.evidence)


def _apart(a: Surveyed, b: Surveyed) -> bool:
    return None not in (_split(a), _split(b)) and _split(a) is not _split(b)


def group(facts: Facts) -> Iterator[Leak]:
    """One group of the manifest in two splits."""
    return _across(
        "group", facts.items, lambda item: item.group, lambda item: f"group {item.group}"
    )


def author(facts: Facts) -> Iterator[Leak]:
    """One author in two splits: style and subject cross over."""
    return _across(
        "author", facts.items, lambda item: item.author, lambda item: f"author {item.author}"
    )


def post(facts: Facts) -> Iterator[Leak]:
    """Images of one post in two splits."""
    return _across("post", facts.items, lambda item: item.post, lambda item: f"post {item.post}")


def label_conflict(facts: Facts) -> Iterator[Leak]:
    """One picture under both labels, in whichever splits: one of the two labels is wrong."""
    told: set[tuple[str, str]] = set()
    for a, b, why in _same(facts):
        if _label(a) != _label(b) and (a.path, b.path) not in told:
            told.add((a.path, b.path))
            first, second = _in_order(a, b)
            labels = f"labels {_label(first)} and {_label(second)}"
            yield _leak("label-conflict", a, b, f"{why}; {labels}")


def _same(facts: Facts) -> Iterator[tuple[Surveyed, Surveyed, str]]:
    """Pairs that show one picture, the surest reason first."""
    for value_of, why in ((_bytes, "same bytes"), (_pixels, "same pixels")):
        for members in _shared(facts.items, value_of):
            real = [item for item in members if _label(item) == "real"]
            fake = [item for item in members if _label(item) == "fake"]
            if real and fake:
                for a, b in _pair_up(real, fake):
                    yield a, b, why
    for pair in facts.near:
        if pair.phash_bits <= CONFLICT_BITS and pair.dhash_bits <= 2 * CONFLICT_BITS:
            yield pair.a, pair.b, pair.evidence
    for copy in facts.copies:
        if is_one_picture(copy.match):
            yield copy.a, copy.b, copy.evidence


def is_one_picture(match: Match) -> bool:
    """Whether a copy is sure enough, and unaltered enough, to call a label wrong."""
    sure = match.distance <= CONFLICT_BITS and (match.verified or 0.0) >= CONFLICT_SCORE
    return sure and match.kind not in ALTERED


def _label(item: Surveyed) -> str:
    return item.placement.label.name.lower() if item.placement else ""


COPIED = (
    MatchKind.CROP,
    MatchKind.BORDER,
    MatchKind.CAPTION,
    MatchKind.SCREENSHOT,
    MatchKind.MIRROR,
    MatchKind.ROTATION,
    MatchKind.OVERLAY,
)
"""What may have been done to a copy that is no longer near."""

CHECKS: Mapping[str, Check] = {
    "same-bytes": same_bytes,
    "same-pixels": same_pixels,
    "near": near,
    **{kind.value: partial(copied, kind=kind) for kind in COPIED},
    "group": group,
    "author": author,
    "post": post,
    "label-conflict": label_conflict,
}
"""Every check by the kind of leak it finds. To add one: a function, a line, a set that leaks so."""
