"""From matches to groups: sets of the same picture, what does not belong together, and who stands for each.

Pure, and the answer does not depend on the order of anything. To be the same picture is not transitive:
A looks like B and B like C, and A and Z at the ends of such a chain share nothing. So only what cannot
drift always joins: equal bytes, equal pixels, equal hashes, and a reviewer's word. Everything else joins two
clusters (first matches that a third image confirms, then the surest) when one of two things holds:

- one member matches every other member itself, as an original does with its crops and captions;
- at least half of all pairs between the two clusters match.

Along a line on which each picture matches the next k on either side, a set that these rules make spans at
most 2 k + 1 pictures: its ends are at most two matches apart. The first rule is star clustering (Aslam,
Pelekhov and Rus 2004, https://doi.org/10.7155/jgaa.00084), the second average linkage on the graph. Each
match that joins nothing is told with its reason.

Two more things keep pictures apart, whatever matches: a reviewer who called two of them different, and an
edited or generated version of a photo, which is linked as derived and never merged. As the surest matches
come first, it is the weakest match between the two that gives way.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.labels import MatchKind, Relation, Word
from schemas.records import Image, Match

EXACT = (MatchKind.BYTES.value, MatchKind.PIXELS.value)
"""Kinds of match that are equalities, and so transitive; no score and no mark is asked."""


class Mark(IntFlag):
    """What else is known of an image: where an edit is told from the photo it was made of."""

    NONE = 0
    CAMERA = 1
    GENERATED = 2
    EDITED = 4


@dataclass(frozen=True, slots=True)
class Apart:
    """A match whose two images are in different groups all the same, and why; `a` < `b`."""

    a: str
    b: str
    relation: Relation
    why: str


@dataclass(frozen=True, slots=True)
class Grouping:
    """Every image in one set; sets and their members sorted. `unverified` matches were not used."""

    sets: tuple[tuple[str, ...], ...]
    apart: tuple[Apart, ...]
    unverified: int


_Link = tuple[int, int]
"""A match between two numbered images, the smaller first."""


@dataclass(frozen=True, slots=True)
class _Links:
    """Matches that may join, the surest first; `sure` ones hold the `exact`, and `loose` the rest."""

    exact: list[_Link]
    sure: list[_Link]
    loose: list[_Link]


def group_matches(
    digests: Iterable[str],
    matches: Iterable[Match],
    *,
    verified: float = 0.0,
    marks: Mapping[str, Mark] | None = None,
) -> Grouping:
    """The sets that `matches` make of `digests`; matches of other images are passed over.

    Args:
        digests: the images; one that matches nothing is a set of its own.
        matches: each pair once. A verdict outweighs whatever was measured.
        verified: smallest score, 0 to 1, of a match that has one and is no equality.
        marks: what is known of an image; none where it is not named.
    """
    names = sorted(set(digests))
    links, different, unverified = _links(names, matches, verified)
    flags = (
        [int(marks[name]) if name in marks else 0 for name in names] if marks else [0] * len(names)
    )
    clusters = _Clusters(flags, different)
    for a, b in links.exact:
        clusters.join_if(a, b, lambda x, y: not clusters.foes_meet(x, y))
    for a, b in links.sure:
        clusters.join_if(a, b, clusters.may_meet)
    joining = _Joining(clusters, _side_by_side(links.loose, len(names)))
    joining.run()
    return Grouping(
        sets=_sets(names, clusters),
        apart=_told_apart(names, links, different, joining),
        unverified=unverified,
    )


def _links(
    names: Sequence[str], matches: Iterable[Match], verified: float
) -> tuple[_Links, list[_Link], int]:
    """The links, the surest first; pairs that were called different; and how many score too low."""
    number = {name: n for n, name in enumerate(names)}
    different: list[_Link] = []
    kept: list[Match] = []
    unverified = 0
    for match in matches:
        if match.a not in number or match.b not in number or match.a == match.b:
            continue
        if match.verdict == Word.DIFFERENT:
            different.append(_ends(match, number))
        elif match.verdict is None and _too_low(match, verified):
            unverified += 1
        else:
            kept.append(match)
    return _sorted(kept, number), different, unverified


def _too_low(match: Match, verified: float) -> bool:
    return match.kind not in EXACT and match.verified is not None and match.verified < verified


def _ends(match: Match, number: Mapping[str, int]) -> _Link:
    a, b = number[match.a], number[match.b]
    return (a, b) if a < b else (b, a)


def _sorted(matches: Sequence[Match], number: Mapping[str, int]) -> _Links:
    """The surest first: a reviewer's word, equalities, then by score, distance and digests."""
    ends = np.array([_ends(m, number) for m in matches], np.int64).reshape(-1, 2)
    rank = np.array([0 if m.verdict else 1 if m.kind in EXACT else 2 for m in matches], np.int8)
    score = np.array([m.verified or 0.0 for m in matches], np.float64)
    distance = np.array([m.distance for m in matches], np.int64)
    near = np.array([m.kind == MatchKind.NEAR for m in matches], np.bool_)
    order = np.lexsort((ends[:, 1], ends[:, 0], distance, -score, rank))
    exact = (rank < 2)[order]
    sure = exact | (near & (distance == 0))[order]
    return _Links(*(_pairs_of(ends[order[keep]]) for keep in (exact, sure, ~sure)))


def _side_by_side(links: Sequence[_Link], count: int) -> list[_Link]:
    """The links, those that hang together side by side, which memory is fond of; their order else stays."""
    if not links:
        return []
    ends = np.array(links, np.int64)
    ones = np.ones(len(ends), np.bool_)
    graph = coo_array((ones, (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    return _pairs_of(ends[np.argsort(part[ends[:, 0]], kind="stable")])


def _pairs_of(ends: NDArray[np.int64]) -> list[_Link]:
    return list(zip(ends[:, 0].tolist(), ends[:, 1].tolist(), strict=True))


class _Clusters:
    """Disjoint sets of numbers, with the marks of each and the numbers it must not meet."""

    def __init__(self, flags: list[int], different: Iterable[_Link]) -> None:
        self.parent = list(range(len(flags)))
        self.flags = flags
        self.foes: dict[int, set[int]] = defaultdict(set)
        for a, b in different:
            self.foes[a].add(b)
            self.foes[b].add(a)

    def find(self, n: int) -> int:
        """The number that stands for a set; paths are halved on the way."""
        parent = self.parent
        while parent[n] != n:
            parent[n] = n = parent[parent[n]]
        return n

    def foes_meet(self, x: int, y: int) -> bool:
        """Whether a reviewer called a member of one set different from a member of the other."""
        if not self.foes or x not in self.foes or y not in self.foes:
            return False
        few, other = (x, y) if len(self.foes[x]) <= len(self.foes[y]) else (y, x)
        return any(self.find(n) == other for n in self.foes[few])

    def derived(self, x: int, y: int) -> bool:
        """Whether one set is an edited or generated version of the other."""
        one, other = self.flags[x], self.flags[y]
        if not one and not other:
            return False
        edited = (one ^ other) & Mark.EDITED
        made = _both(one, other, Mark.CAMERA, Mark.GENERATED)
        return bool(edited or made)

    def may_meet(self, x: int, y: int) -> bool:
        """Whether nothing forbids that two sets become one."""
        return not self.derived(x, y) and not self.foes_meet(x, y)

    def join_if(self, a: int, b: int, allowed: Callable[[int, int], bool]) -> None:
        """Make one set of those of `a` and `b`, if they are two and it is allowed."""
        x, y = self.find(a), self.find(b)
        if x != y and allowed(x, y):
            self.join(x, y)

    def join(self, x: int, y: int) -> tuple[int, int]:
        """Make one set of two; the number that stands for it, and the one that no longer does."""
        kept, gone = (x, y) if x < y else (y, x)
        self.parent[gone] = kept
        self.flags[kept] |= self.flags[gone]
        if gone in self.foes:
            self.foes[kept] |= self.foes.pop(gone)
        return kept, gone


def _both(one: int, other: int, left: Mark, right: Mark) -> int:
    return (one & left and other & right) or (one & right and other & left)


class _Joining:
    """Joins clusters where enough of their pairs match. The nodes are what could not drift apart.

    Besides the clusters themselves it keeps, of each: its nodes, those of them that match all others
    (`centres`), and how many pairs with each neighbour match (`across`).
    """

    def __init__(self, clusters: _Clusters, links: Iterable[_Link]) -> None:
        self.clusters = clusters
        self.links = list(dict.fromkeys(self._pairs(links)))
        self.adjacent: dict[int, set[int]] = defaultdict(set)
        for x, y in self.links:
            self.adjacent[x].add(y)
            self.adjacent[y].add(x)
        self.nodes: dict[int, set[int]] = {}
        self.centres: dict[int, set[int]] = {}
        self.across: dict[int, dict[int, int]] = {}

    def _pairs(self, links: Iterable[_Link]) -> Iterable[tuple[int, int]]:
        find = self.clusters.find
        for a, b in links:
            x, y = find(a), find(b)
            if x != y:
                yield (x, y) if x < y else (y, x)

    def run(self) -> None:
        """Try every pair, those that a third confirms first, then the surest, until no more join."""
        waiting = [pair for pair in self.links if not self._alone(*pair)]
        waiting.sort(key=self._unconfirmed)
        for node in dict.fromkeys(node for pair in waiting for node in pair):
            self.nodes[node], self.centres[node] = {node}, {node}
            self.across[node] = dict.fromkeys(self.adjacent[node], 1)
        while waiting:
            left = self._round(waiting)
            if len(left) == len(waiting):
                return
            waiting = left

    def _alone(self, x: int, y: int) -> bool:
        """Whether two nodes match each other alone; they are joined at once if they may be."""
        if len(self.adjacent[x]) > 1 or len(self.adjacent[y]) > 1:
            return False
        self.clusters.join_if(x, y, self.clusters.may_meet)
        return True

    def _unconfirmed(self, pair: tuple[int, int]) -> bool:
        """Whether no third node matches both: such a bridge, however good, must wait for the others."""
        x, y = pair
        return self.adjacent[x].isdisjoint(self.adjacent[y])

    def _round(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Join what can be joined; the pairs that still lie between two clusters."""
        refused: dict[tuple[int, int], tuple[int, int]] = {}
        left = []
        for pair in pairs:
            x, y = self.clusters.find(pair[0]), self.clusters.find(pair[1])
            x, y = (x, y) if x < y else (y, x)
            if x == y:
                continue
            sizes = len(self.nodes[x]), len(self.nodes[y])
            if refused.get((x, y)) == sizes or not self._join(x, y):
                refused[x, y] = sizes
                left.append(pair)
        return left

    def _join(self, x: int, y: int) -> bool:
        if not self.clusters.may_meet(x, y):
            return False
        centres = self._common(x, y) | self._common(y, x)
        if not centres and not self.supported(x, y):
            return False
        kept, gone = self.clusters.join(x, y)
        self.nodes[kept] = _merged(self.nodes[kept], self.nodes.pop(gone))
        self.centres[kept] = centres
        self.centres.pop(gone)
        self._merge_counts(kept, gone)
        return True

    def _common(self, x: int, y: int) -> set[int]:
        """The centres of `x` that match every node of `y`, too."""
        others = self.nodes[y]
        return {c for c in self.centres[x] if self.adjacent[c].issuperset(others)}

    def supported(self, x: int, y: int) -> bool:
        """Whether at least half of the pairs between two clusters match."""
        return 2 * self.across[x].get(y, 0) >= len(self.nodes[x]) * len(self.nodes[y])

    def _merge_counts(self, kept: int, gone: int) -> None:
        """Add up the pairs that match; the shorter list is walked, so the whole stays near-linear."""
        mine, theirs = self.across[kept], self.across.pop(gone)
        mine.pop(gone, None)
        theirs.pop(kept, None)
        if len(theirs) > len(mine):
            # The keys of `mine` keep the name; only those of the shorter list are told of a change.
            mine, theirs = theirs, mine
            self._rename(mine, gone, kept)
        for other, n in theirs.items():
            mine[other] = mine.get(other, 0) + n
            self.across[other].pop(gone, None)
            self.across[other][kept] = mine[other]
        self.across[kept] = mine

    def _rename(self, counts: Mapping[int, int], gone: int, kept: int) -> None:
        for other in counts:
            there = self.across[other]
            there[kept] = there.get(kept, 0) + there.pop(gone)

    def told(self, x: int, y: int) -> str:
        """How many of the pairs between two clusters match, in words."""
        if x not in self.nodes or y not in self.nodes:
            return "1 of 1 pairs"
        pairs = len(self.nodes[x]) * len(self.nodes[y])
        return f"{self.across[x].get(y, 0)} of {pairs} pairs"


def _merged(one: set[int], other: set[int]) -> set[int]:
    large, small = (one, other) if len(one) >= len(other) else (other, one)
    large |= small
    return large


def _sets(names: Sequence[str], clusters: _Clusters) -> tuple[tuple[str, ...], ...]:
    members: dict[int, list[str]] = defaultdict(list)
    for n, name in enumerate(names):
        members[clusters.find(n)].append(name)
    return tuple(sorted(tuple(found) for found in members.values()))


def _told_apart(
    names: Sequence[str],
    links: _Links,
    different: Iterable[_Link],
    joining: _Joining,
) -> tuple[Apart, ...]:
    """What did not join, once per pair; of a pair that was itself called different all is said."""
    find = joining.clusters.find
    across = {pair for pair in (*links.sure, *links.loose) if find(pair[0]) != find(pair[1])}
    return tuple(_apart(names, sorted(across.difference(different)), joining))


def _apart(
    names: Sequence[str], pairs: Iterable[tuple[int, int]], joining: _Joining
) -> Iterable[Apart]:
    clusters = joining.clusters
    for one, other in pairs:
        x, y = clusters.find(one), clusters.find(other)
        a, b = names[one], names[other]
        if clusters.foes_meet(x, y):
            yield Apart(a, b, Relation.DIFFERENT, "would join what a reviewer called different")
        elif clusters.derived(x, y):
            made = _is_child(clusters.flags[x], clusters.flags[y])
            child, parent = ("first", "second") if made else ("second", "first")
            why = f"the {child} is an edited or generated version of the {parent}"
            yield Apart(a, b, Relation.DERIVED, why)
        else:
            yield Apart(a, b, Relation.CHAIN, f"{joining.told(x, y)} between the two groups match")


def _is_child(one: int, other: int) -> bool:
    """Whether of two sets, one of which was made of the other, the first is what was made."""
    if (one ^ other) & Mark.EDITED:
        return bool(one & Mark.EDITED)
    return bool(one & Mark.GENERATED)


def connect(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The smallest name that each is connected with through `pairs`, whatever that makes of chains.

    A name that no pair holds is connected with itself alone; those of pairs are included.
    """
    held = list(pairs)
    order = sorted({*names, *(name for pair in held for name in pair)})
    number = {name: n for n, name in enumerate(order)}
    sets = _Clusters([0] * len(order), ())
    for a, b in held:
        sets.join_if(number[a], number[b], lambda x, y: True)
    return {name: order[sets.find(n)] for name, n in number.items()}


def kin(group_of: Mapping[str, str], related: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The smallest id of all groups that a group is connected with through pairs of images.

    Kin are not the same picture and must not be taught and tested on: an edit and its photo, or the two
    ends of a chain.
    """
    known = ((a, b) for a, b in related if a in group_of and b in group_of)
    return connect(group_of.values(), ((group_of[a], group_of[b]) for a, b in known))


def name_sets(
    sets: Sequence[Sequence[str]], before: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """A name for each set, which it keeps for as long as it lives.

    A name goes on with the set that holds most of those who had it; of several names that a set could
    go on with, it takes that of the largest former group, then the smallest. A set without a past is
    named by its smallest member. Naming the same sets again changes nothing.

    Args:
        sets: disjoint, each sorted.
        before: the name of each image's former group. A name whose own image (the digest that it is, or
            begins with) is in none of the sets is not handed on, so that what was forgotten is not kept.
    """
    past = before or {}
    here = {member for members in sets for member in members}
    inherited = _inherited(sets, {d: name for d, name in past.items() if _stem(name) in here})
    taken = set(inherited.values())
    return tuple(inherited.get(n) or _fresh(members, taken) for n, members in enumerate(sets))


def _inherited(sets: Sequence[Sequence[str]], past: Mapping[str, str]) -> dict[int, str]:
    """Which set goes on with which name."""
    held: dict[str, Counter[int]] = defaultdict(Counter)
    for n, members in enumerate(sets):
        for member in members:
            if member in past:
                held[past[member]][n] += 1
    size = Counter(past.values())
    chosen: dict[int, str] = {}
    for name in sorted(held, key=lambda name: (-size[name], name)):
        heir = min(held[name], key=lambda n: (-held[name][n], sets[n][0]))
        chosen.setdefault(heir, name)
    return chosen


def _stem(name: str) -> str:
    return name.partition("-")[0]


def _fresh(members: Sequence[str], taken: set[str]) -> str:
    """The smallest member; with a number behind it where another set goes on with that name."""
    name, number = members[0], 1
    while name in taken:
        number += 1
        name = f"{members[0]}-{number}"
    taken.add(name)
    return name


LOSSLESS = frozenset({"PNG", "BMP", "TIFF"})
"""Formats that lose nothing, or nearly always nothing."""


@dataclass(frozen=True, slots=True)
class Member:
    """What the choice of who stands for a group looks at.

    `posted_at` is the time of the first post that shows it; `provenance` the strength, 0 to 1, of the
    strongest claim about its origin that the file itself carries.
    """

    image: Image
    posted_at: datetime | None = None
    provenance: float = 0.0
    marks: Mark = Mark.NONE


@dataclass(frozen=True, slots=True)
class _Criterion:
    """A rank, smaller is better, and how to say what decided."""

    rank: Callable[[Member], tuple[float, ...]]
    says: Callable[[Member, Member], str]


def _area(image: Image) -> int:
    return (image.width or 0) * (image.height or 0)


def _quality(image: Image) -> int:
    """100 and more is lossless; of a JPEG its nearest IJG quality; 0 where nobody can say."""
    return 101 if image.format in LOSSLESS else image.jpeg_quality or 0


def _fidelity(member: Member) -> tuple[float, ...]:
    image = member.image
    return (-_area(image), -_quality(image), -image.bytes)


def _says_fidelity(best: Member, second: Member) -> str:
    one, other = best.image, second.image
    if _area(one) != _area(other):
        return f"most pixels: {one.width} x {one.height}"
    if _quality(one) != _quality(other):
        kind = "lossless" if _quality(one) > 100 else f"highest JPEG quality: {_quality(one)}"
        return f"same pixel count, {kind}"
    return f"same pixel count and quality, most bytes: {one.bytes}"


CRITERIA: Mapping[str, _Criterion] = {
    "fidelity": _Criterion(_fidelity, _says_fidelity),
    "provenance": _Criterion(
        lambda m: (-m.provenance,),
        lambda best, _: f"best provenance: strength {best.provenance:g}",
    ),
    "earliest": _Criterion(
        lambda m: (m.posted_at.timestamp() if m.posted_at else float("inf"),),
        lambda best, _: f"earliest post: {best.posted_at:%Y-%m-%d %H:%M}",
    ),
}
"""What can be asked of the member that stands for a group; the policy says in which order."""

DEFAULT_ORDER = ("fidelity", "provenance", "earliest")


def choose_canonical(
    members: Sequence[Member], order: Sequence[str] = DEFAULT_ORDER
) -> tuple[str, str]:
    """The member that stands for a group, and why.

    Members that do not decode come last; then the criteria decide in their order, then the smallest
    digest. Nothing but the rows themselves is looked at.

    Raises:
        ValueError: if there are no members.
    """
    if not members:
        raise ValueError("a group has at least one member")
    best, *rest = sorted(members, key=lambda m: _rank(m, order))
    if not rest:
        return best.image.digest, "only member"
    return best.image.digest, _why(best, rest[0], order)


def _rank(member: Member, order: Sequence[str]) -> tuple[bool, list[tuple[float, ...]], str]:
    ranks = [CRITERIA[name].rank(member) for name in order]
    return member.image.error is not None, ranks, member.image.digest


def _why(best: Member, second: Member, order: Sequence[str]) -> str:
    if (best.image.error is None) != (second.image.error is None):
        return "the only member that decodes"
    for name in order:
        criterion = CRITERIA[name]
        if criterion.rank(best) != criterion.rank(second):
            return criterion.says(best, second)
    return f"equal in {', '.join(order)}; smallest digest"
