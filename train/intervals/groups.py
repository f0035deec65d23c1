"""Which images rise and fall together, and how much so few or so unequal groups can tell.

Images of one group (a duplicate set, an author, a post) are not independent: what an evaluation knows, it
knows from the number of its groups, and less where a few of them have most of the images.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from train.metrics import Floats

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2

FEWEST_DRAWN = 10
"""Groups under which a stratum is not drawn by itself: among few, draws vary too little."""

LEAST_SHOWN = 0.01
"""Where one group is nearly all, draws show next to nothing of the variance; this much is supposed."""

Interval = tuple[float, float]


class Ends(NamedTuple):
    """Of an interval, and the figure in its middle, of which what noise adds is taken off."""

    low: float
    high: float
    middle: float


@dataclass(frozen=True, slots=True)
class Groups:
    """What some groups can tell of how far a figure is off.

    Attributes:
        number: how many groups of equal weight have a mean as sure as that of these, rounded down (Kish
            1965). At least two where two are there, so that a part in which one group is nearly all has an
            interval, if one that says next to nothing.
        shown: share of the variance of a mean that draws of these groups show, 0 to 1.
    """

    number: int
    shown: float

    @classmethod
    def weighing(cls, weights: Floats) -> "Groups":
        """Those of `weights` (n,), in any unit."""
        held = weights[weights > 0]
        if not len(held):
            return cls(0, 1.0)
        shares = held / held.sum()
        equal = math.floor(1 / float(np.sum(shares**2)) + 1e-9)
        return cls(max(equal, min(2, len(held))), variance_shown(shares))

    def reach(self, confidence: float = CONFIDENCE) -> float:
        """How many standard errors of their draws an interval reaches on either side; two groups or more.

        The draws spread too little, and their spread is itself an estimate.
        """
        quantile = student.ppf((1 + confidence) / 2, self.number - 1)
        return float(quantile) / math.sqrt(self.shown)


def variance_shown(shares: Floats) -> float:
    """Share of the variance of a mean that draws of groups with `shares` (n,) of the weight show.

    A group that has much of the weight pulls the mean to itself, so that it is seen to differ less from
    it than it does: by (1 - share) squared, and by what the others add. Of groups that differ alike, a
    share of 1 + H - 2 sum(share ** 3) / H is left, H being the sum of squares; of m equal ones
    (m - 1) / m (the bias of the sandwich estimator: Bell and McCaffrey 2002, Survey Methodology 28(2)).
    """
    squares = float(np.sum(shares**2))
    left = 1 + squares - 2 * float(np.sum(shares**3)) / squares
    return min(1.0, max(left, LEAST_SHOWN))


def weakest(found: Iterable[Groups]) -> Groups:
    """What the worst of some tells, those without any left out; no group if there is none."""
    known = [groups for groups in found if groups.number]
    if not known:
        return Groups(0, 1.0)
    return Groups(min(groups.number for groups in known), min(groups.shown for groups in known))


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which group each image is in, (N,) from 0, and which stratum each group is in, (G,) from 0."""

    of_image: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.stratum)

    def seen(self, rows: NDArray[np.intp]) -> int:
        """How many groups the images `rows` are in."""
        return len(np.unique(self.of_image[rows]))

    def by_class(
        self, rows: NDArray[np.intp], labels: NDArray[np.integer], weights: Floats | None = None
    ) -> tuple[Groups, Groups]:
        """What the groups of the real, and of the fake images tell.

        Args:
            rows: (n,) the images.
            labels: (n,) theirs.
            weights: (n,) theirs; one each if None.
        """
        even = np.ones(len(rows)) if weights is None else weights
        held = (np.bincount(self.of_image[rows[labels == y]], even[labels == y]) for y in (0, 1))
        real, fake = (Groups.weighing(found.astype(np.float64)) for found in held)
        return real, fake


def make_clusters(groups: Sequence[str | None], cells: Sequence[Hashable]) -> Clusters:
    """The groups of images, an image without one being its own.

    Args:
        groups: (N,) ids.
        cells: (N,) what is to be as frequent in every draw, such as (platform, label).
    """
    codes: dict[Hashable, int] = {}
    held: dict[int, set[Hashable]] = defaultdict(set)
    of_image = np.empty(len(groups), dtype=np.intp)
    for row, (group, cell) in enumerate(zip(groups, cells, strict=True)):
        of_image[row] = codes.setdefault(row if group is None else ("group", group), len(codes))
        held[int(of_image[row])].add(cell)
    strata: Strata = defaultdict(list)
    for code in range(len(codes)):
        strata[frozenset(held[code])].append(code)
    stratum = np.empty(len(codes), dtype=np.intp)
    for number, members in enumerate(_merge_small(_merge_chance(strata))):
        stratum[members] = number
    return Clusters(of_image, stratum)


Strata = dict[frozenset[Hashable], list[int]]


def _merge_chance(strata: Strata) -> Strata:
    """Groups joined to those that hold more cells, where these are more.

    Where most authors post both classes, one with a single image is of one class by chance: how many of
    them there are was not chosen, and differs between draws as it would between test sets.
    """
    left = dict(strata)
    for cells in sorted(strata, key=lambda c: len(strata[c])):
        wider = [c for c in left if cells < c and len(left[c]) > len(left[cells])]
        if wider:
            to = max(wider, key=lambda c: len(left[c]))
            left[to] = left[to] + left.pop(cells)
    return left


def _merge_small(strata: Strata) -> list[list[int]]:
    """The groups of each stratum, small ones joined to the most alike that shares a cell with them.

    Draws of m groups among themselves spread by (m - 1) / m too little, and a single group by nothing.
    """
    left = dict(strata)
    done: list[list[int]] = []
    while left:
        cells = min(left, key=lambda c: len(left[c]))
        members = left.pop(cells)
        alike = {c: (len(c & cells) / len(c | cells), len(left[c])) for c in left}
        near = max(left, key=alike.__getitem__, default=frozenset())
        if len(members) >= FEWEST_DRAWN or not near & cells:
            done.append(members)
        else:
            joined = left.pop(near) + members
            left[near | cells] = left.get(near | cells, []) + joined
    return done
