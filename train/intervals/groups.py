"""Which images rise and fall together, and how much so few or so unequal groups can tell.

Images of one group (a duplicate set, an author, a post) are not independent: what an evaluation knows, it
knows from the number of its groups, and less where a few of them have most of the images.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
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
    """Of an interval.

    `middle` is the figure between them: the one that was found, or what is left of it when what noise adds
    is taken off. `open` says that nothing is known of the low end, so that it is zero.
    """

    low: float
    high: float
    middle: float
    open: bool = False


@dataclass(frozen=True, slots=True)
class Groups:
    """What some groups can tell of how far a figure is off.

    Attributes:
        number: how many groups of equal weight have a mean as sure as that of these, rounded down (Kish
            1965). At least two where two are there, so that a part in which one group is nearly all has an
            interval, if one that says next to nothing.
        shown: share of the variance of a mean that draws of these groups show, 0 to 1.
        freedom: degrees of freedom that this variance is known with, at least one (Satterthwaite 1946).
        variance: of the mean, where that of an image is one.
    """

    number: int
    shown: float = 1.0
    freedom: float = math.inf
    variance: float = 1.0

    @classmethod
    def weighing(cls, weights: Floats, noise: Floats | None = None) -> "Groups":
        """Those of `weights` (n,), in any unit; `noise` (n,) the variance of each one's mean, one if None."""
        at = weights > 0
        if not at.any():
            return cls(0)
        shares = weights[at] / weights[at].sum()
        equal = math.floor(1 / float(np.sum(shares**2)) + 1e-9)
        each, seen = variances(shares, np.ones(len(shares)) if noise is None else noise[at])
        shown = max(LEAST_SHOWN, float(seen.sum() / each.sum()))
        freedom = max(1.0, float(seen.sum() ** 2 / max(np.sum(seen**2), 1e-300)) * shown)
        return cls(max(equal, min(2, len(shares))), min(1.0, shown), freedom, float(each.sum()))

    @classmethod
    def telling(
        cls, group: NDArray[np.intp], weights: Floats, values: Floats | None = None
    ) -> "Groups":
        """Those of some images.

        Args:
            group: (n,) the group of each.
            weights: (n,) theirs.
            values: (n,) or (n, k) what a figure is made of: the less alike these are within a group, the
                more of the variance do draws show where one group has most of the images. As alike as can
                be if None.
        """
        _, of = np.unique(group, return_inverse=True)
        held = np.bincount(of, weights).astype(np.float64)
        if values is None or not len(group):
            return cls.weighing(held)
        squares = np.bincount(of, weights**2).astype(np.float64)
        alone = np.divide(squares, held**2, out=np.ones_like(held), where=held > 0)
        alike = likeness(values, of)
        return cls.weighing(held, alike + (1 - alike) * alone)

    def reach(self, confidence: float = CONFIDENCE) -> float:
        """How many standard errors of their draws an interval reaches on either side; two groups or more.

        The draws spread too little, and their spread is itself an estimate.
        """
        quantile = student.ppf((1 + confidence) / 2, self.freedom)
        return float(quantile) / math.sqrt(self.shown)

    @property
    def doubt(self) -> float:
        """How many times as far an interval reaches as if the variance were known."""
        return self.reach() * math.sqrt(self.shown) / float(norm.ppf((1 + CONFIDENCE) / 2))


def variances(shares: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """What each group adds to the variance of a mean, and what of it draws of the groups show: (n,) both.

    A group that has much of the weight pulls the mean to itself, so that it is seen to differ less from
    it than it does: by (1 - share) squared, and by what the others add (the bias of the sandwich estimator:
    Bell and McCaffrey 2002, Survey Methodology 28(2)). Of m equal groups (m - 1) / m is seen.

    Args:
        shares: of the weight, (n,), summing to one.
        noise: (n,) the variance of each group's mean, in any unit.
    """
    each: Floats = shares**2 * noise
    seen: Floats = shares**2 * np.maximum((1 - 2 * shares) * noise + each.sum(), 0)
    return each, seen


def likeness(values: Floats, group: NDArray[np.intp]) -> float:
    """How alike the images of a group are: the intraclass correlation of `values`, 0 to 1.

    By the analysis of variance (Fisher 1925; Donner 1986, https://doi.org/10.2307/1403259); 1 where no
    group holds two images, or all are in one.

    Args:
        values: (n,), or (n, k), of which the variances are added up.
        group: (n,) the group of each image.
    """
    _, of, counts = np.unique(group, return_inverse=True, return_counts=True)
    n, k = len(values), len(counts)
    if k < 2 or n == k:
        return 1.0
    columns = values.reshape(n, -1)
    means = np.stack([np.bincount(of, column) / counts for column in columns.T], axis=1)
    between = float((counts @ (means - columns.mean(axis=0)) ** 2).sum()) / (k - 1)
    within = float(np.sum((columns - means[of]) ** 2)) / (n - k)
    typical = (n - float(counts @ counts) / n) / (k - 1)
    spread = between + (typical - 1) * within
    return min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 1.0


def together(found: Iterable[Groups]) -> Groups:
    """What the groups of both classes tell of a figure that both decide; those without any are left out.

    As of the difference of two means (Welch 1947).
    """
    known = [groups for groups in found if groups.number]
    if not known:
        return Groups(0)
    variance = sum(groups.variance for groups in known)
    return Groups(
        number=min(groups.number for groups in known),
        shown=sum(groups.variance * groups.shown for groups in known) / variance,
        freedom=variance**2 / sum(groups.variance**2 / groups.freedom for groups in known),
        variance=variance,
    )


def weakest(found: Iterable[Groups]) -> Groups:
    """Those of which an interval reaches farthest, with the number of the fewest."""
    known = list(found)
    worst = max(known, key=lambda groups: groups.reach())
    return replace(worst, number=min(groups.number for groups in known))


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
        self,
        rows: NDArray[np.intp],
        labels: NDArray[np.integer],
        weights: Floats | None = None,
        values: Floats | None = None,
    ) -> tuple[Groups, Groups]:
        """What the groups of the real, and of the fake images tell.

        Args:
            rows: (n,) the images.
            labels: (n,) theirs.
            weights: (n,) theirs; one each if None.
            values: (n,) such as their logits: the less alike these are within a group, the more of the
                variance do draws show where one group has most of the images. As alike as can be if None.
        """
        even = np.ones(len(rows)) if weights is None else weights
        real, fake = (
            Groups.telling(
                self.of_image[rows[at]], even[at], None if values is None else values[at]
            )
            for at in (labels == 0, labels == 1)
        )
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
