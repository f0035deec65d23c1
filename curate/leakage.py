"""What two splits share and must not, found afresh from the files themselves.

Each check in `CHECKS` looks for one kind of leak and leans on nothing that the splitter used:
copies are found by bytes, by pixels and by perceptual hash, whatever groups the manifest states.
The platforms of a test split are one split here.

Near-duplicates are those whose 64-bit pHash is within a distance (Zauner 2010, as ImageHash
computes it) and whose dHash agrees. That is wider than the rule of dedupe on purpose: a check that
shares the splitter's blind spot proves nothing. Among aligned pictures, such as portraits, some of
what it lists are look-alikes; the distances are in the evidence, the closest pairs first.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from curate import hamming
from curate.survey import Surveyed
from schemas.labels import Split

CONFIRM_BITS = 16
"""How far the 64-bit dHash of near-duplicates may differ; unrelated pictures differ by about 32."""

COPIES = 64
"""Where more images than this have one hash, each is paired with the first alone."""

CONFLICT_BITS = 4
"""How far the pHash, and twice that the dHash, of one picture under both labels may differ.

To call a label wrong takes more than likeness. Re-saving a picture changes fewer bits; portraits of
two people differ in more.
"""


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

    @property
    def evidence(self) -> str:
        """The distances in words."""
        return f"pHash distance {self.phash_bits}, dHash distance {self.dhash_bits}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What every check is given: the labelled items by path, and the near-duplicates among them."""

    items: tuple[Surveyed, ...]
    near: tuple[Pair, ...]


Check = Callable[[Facts], Iterator[Leak]]


def find_leaks(
    items: Iterable[Surveyed], *, distance_bits: int, confirm_bits: int = CONFIRM_BITS
) -> list[Leak]:
    """Every leak of every check, in the order of `CHECKS`, then of paths; near ones closest first.

    Args:
        items: images without a placement are left out.
        distance_bits: how far the pHash of two near-duplicates may differ, 0 to 16.
        confirm_bits: how far their dHash may differ; 64 asks pHash alone.
    """
    placed = tuple(sorted((i for i in items if i.placement), key=lambda item: item.path))
    near_pairs = find_near(placed, distance_bits=distance_bits, confirm_bits=confirm_bits)
    facts = Facts(placed, tuple(near_pairs))
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
    first, second = sorted((a, b), key=lambda item: (_rank(item), item.path))
    return Leak(kind, first.path, second.path, _split(first) or "", _split(second) or "", evidence)


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
            yield _leak("label-conflict", a, b, f"{why}; labels {_label(a)} and {_label(b)}")


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


def _label(item: Surveyed) -> str:
    return item.placement.label.name.lower() if item.placement else ""


CHECKS: Mapping[str, Check] = {
    "same-bytes": same_bytes,
    "same-pixels": same_pixels,
    "near": near,
    "group": group,
    "author": author,
    "post": post,
    "label-conflict": label_conflict,
}
"""Every check by the kind of leak it finds. To add one: a function, a line, a set that leaks so."""
