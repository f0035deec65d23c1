"""How far a metric could be off: the cluster bootstrap, for many subsets of images at once.

Images of one group (a duplicate set, an author, a post) rise and fall together, so that whole
groups are drawn, with replacement (Davison and Hinkley 1997, section 3.8). Groups are drawn within
strata, those that hold the same platforms and classes, so that every draw has as many groups of
each as the set; strata of few groups are joined to others. All subsets (platforms, slices, two models)
see the same draws: differences are paired, and it shows how far platforms move together.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, binom, norm
from scipy.stats import t as student

from train.metrics import Curve, Floats, Sample

DRAWS = 1000
"""Bootstrap draws: enough for the 2.5 % tails to a few thousandths."""

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2

FEWEST_EXPECTED = 5
"""Groups of reals above a threshold under which draws do not tell how far it could be off."""

FEWEST_DRAWN = 10
"""Groups under which a stratum is not drawn by itself: among few, draws vary too little."""

CHUNK_CELLS = 1 << 17
"""Counts held at once: what is under way stays in the processor's cache and bounded in memory."""

Interval = tuple[float, float]


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
    ) -> tuple[int, int]:
        """How many groups of one weight tell as much as those of the real, and of the fake images.

        Args:
            rows: (n,) the images.
            labels: (n,) theirs.
            weights: (n,) theirs; one each if None.
        """
        even = np.ones(len(rows)) if weights is None else weights
        held = (np.bincount(self.of_image[rows[labels == y]], even[labels == y]) for y in (0, 1))
        real, fake = (effective_number(found.astype(np.float64)) for found in held)
        return real, fake


def effective_number(weights: Floats) -> int:
    """How many equal weights have a mean as sure as that of `weights` (n,), rounded down (Kish 1965).

    At least two where two are there, so that a part in which one group is nearly all has an interval,
    if one that says next to nothing.
    """
    squares = float(np.sum(weights**2))
    found = math.floor(float(weights.sum()) ** 2 / squares + 1e-9) if squares else 0
    return max(found, min(2, int(np.count_nonzero(weights))))


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
    strata: dict[frozenset[Hashable], list[int]] = defaultdict(list)
    for code in range(len(codes)):
        strata[frozenset(held[code])].append(code)
    stratum = np.empty(len(codes), dtype=np.intp)
    for number, members in enumerate(_merge_small(strata)):
        stratum[members] = number
    return Clusters(of_image, stratum)


def _merge_small(strata: Mapping[frozenset[Hashable], list[int]]) -> list[list[int]]:
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


def draw_counts(clusters: Clusters, *, draws: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each group is drawn, (d, G) at a time, until there were `draws` draws.

    Each stratum has random numbers of its own, so that the draws do not depend on how many are made at
    a time.
    """
    strata = [np.flatnonzero(clusters.stratum == s) for s in range(int(clusters.stratum.max()) + 1)]
    sources = np.random.default_rng(seed).spawn(len(strata))
    step = max(1, CHUNK_CELLS // len(clusters.of_image))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        counts = np.empty((size, clusters.count), dtype=np.uint16)
        for rng, members in zip(sources, strata, strict=True):
            counts[:, members] = _multiplicities(rng, size, len(members))
        yield counts


def _multiplicities(rng: np.random.Generator, draws: int, members: int) -> NDArray[np.intp]:
    """How often each of `members` comes up when as many are drawn, (draws, members)."""
    picks = rng.integers(0, members, size=(draws, members))
    picks += np.arange(draws)[:, None] * members
    return np.bincount(picks.ravel(), minlength=draws * members).reshape(draws, members)


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the images: their rows (n,) in the whole, the images themselves, and their weights (n,)."""

    rows: NDArray[np.intp]
    sample: Sample
    weights: Floats | None = None


def bootstrap(
    subsets: Mapping[str, Subset], clusters: Clusters, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, Floats]]:
    """Every metric of every subset in every draw: {subset: {metric: (draws,)}}."""
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in subsets}
    for counts in draw_counts(clusters, draws=draws, seed=seed):
        for name, subset in subsets.items():
            parts[name].append(subset.sample.values(counts[:, clusters.of_image[subset.rows]]))
    return {
        name: {key: np.concatenate([p[key] for p in found]) for key in found[0]}
        for name, found in parts.items()
    }


def metric_interval(
    name: str, sample: Sample, drawn: Mapping[str, Floats], groups: tuple[int, int]
) -> Interval | None:
    """The 95 % interval of one metric of `sample`.

    Args:
        name: one of `train.metrics.NAMES`.
        sample: the images.
        drawn: its metrics in every draw.
        groups: how many groups of real images there are, and how many of fakes (`Clusters.by_class`).

    Returns:
        Low and high; None where the metric has no meaning, or a class is fewer than two groups.
    """
    point, fewest = sample.point()[name], min((n for n in groups if n), default=0)
    if point is None or fewest < 2:
        return None
    if name.startswith("tpr_at_fpr_"):
        rate = float(name.removeprefix("tpr_at_fpr_"))
        if rate * groups[0] < FEWEST_EXPECTED:
            return rank_interval(sample, rate, groups)
    found = interval(name, point, drawn, fewest)
    if found is None or not name.startswith(("brier", "ece")):
        return found
    suffix = "_calibrated" if name.endswith("_calibrated") else ""
    if sample.point()[f"acc{suffix}"] == 1.0:
        # no draw holds a confident mistake, and each would add up to one
        return found[0], max(found[1], min(1.0, point + 1 - TAIL ** (1 / fewest)))
    return found


def interval(name: str, point: float, drawn: Mapping[str, Floats], groups: int) -> Interval | None:
    """A 95 % interval of a metric in [0, 1] from its bootstrap draws.

    Percentiles of the draws are too narrow for few groups and, near 0 and 1, on the wrong side. So
    the draws give the standard error only, which is set off on the logit scale with Student's
    quantile (Efron and Tibshirani 1993, chapters 12 and 13). Where every draw agrees, as for a
    detector without an error, the draws say nothing; then the bound is that of no failure in
    `groups` trials (Clopper and Pearson 1934).

    The calibration error is a sum of sizes, which noise alone makes larger. Its lower end is what
    remains when as much is taken off as noise can add; its interval covers 95 % or more.

    Args:
        name: of the metric in `drawn`.
        point: its value.
        drawn: (draws,) of it; NaN where a draw has no meaning.
        groups: independent groups of the rarer class, all of one weight.

    Returns:
        Low and high, or None where there are fewer than two groups or half the draws have no meaning.
    """
    known = drawn[name][~np.isnan(drawn[name])]
    if groups < 2 or 2 * len(known) < len(drawn[name]):
        return None
    spread, exact = _spread(name, known), TAIL ** (1 / groups)
    if name.startswith("ece"):
        noise = np.quantile(drawn[name.replace("ece", "ece_noise")], 1 - TAIL)
        return max(0.0, point - float(noise)), min(1.0, point + _reach(groups) * spread)
    if 1e-12 < point < 1 - 1e-12 and spread > 1e-12:
        odds = math.log(point / (1 - point))
        wide = _reach(groups) * spread / (point * (1 - point))
        return float(expit(odds - wide)), float(expit(odds + wide))
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    if point > 0.5:
        return min(float(low), point * exact), max(float(high), point)
    return min(float(low), point), max(float(high), 1 - (1 - point) * exact)


def _spread(name: str, known: Floats) -> float:
    """The standard error that draws show.

    An image that is drawn twice makes a step of two, at which the two error rates miss one another by more
    than those of any test set: for their rate it is taken from the middle 68 % of the draws.
    """
    if name != "eer":
        return float(known.std(ddof=1))
    low, high = np.quantile(known, norm.cdf([-1.0, 1.0]))
    return float(high - low) / 2


def rank_interval(sample: Sample, rate: float, groups: tuple[int, int]) -> Interval:
    """At least 95 % for the true positive rate at `rate`, where so few reals lie above that draws fail.

    How many of the reals lie above the threshold of the population is binomial, whatever the scores;
    so the threshold is between two of the reals. The lower end is the share of fakes above the higher
    one, less what the fakes' own number leaves open; the upper end likewise. The risk is shared.
    """
    curve = sample.curve(np.ones((1, len(sample.labels))))
    reals, fakes = groups
    scale, tail = curve.false[0, -1] / reals, TAIL / 2
    few, many = binom.ppf(tail, reals, rate), binom.ppf(1 - tail, reals, rate)
    ends = [true_rates_above(curve, float(count * scale)) for count in (few - 1, many)]
    low = beta.ppf(tail, ends[0] * fakes, (1 - ends[0]) * fakes + 1) if ends[0] > 0 else 0.0
    high = beta.ppf(1 - tail, ends[1] * fakes + 1, (1 - ends[1]) * fakes) if ends[1] < 1 else 1.0
    return float(low), float(high)


def true_rates_above(curve: Curve, reals: float) -> float:
    """The share of fakes above the threshold that at most `reals` real images lie above."""
    steps = int((curve.false[0] <= reals + 1e-9).sum())
    return float(curve.true[0, steps - 1] / curve.true[0, -1]) if steps else 0.0


def difference_interval(
    difference: float, values: Floats, groups: int, confidence: float = CONFIDENCE
) -> Interval | None:
    """The interval of a difference of metrics from its paired draws, within [-1, 1].

    Where every draw agrees, it reaches as far as no failure in `groups` trials can tell.
    """
    known = values[~np.isnan(values)]
    if groups < 2 or 2 * len(known) < len(values) or np.isnan(difference):
        return None
    wide = reach(groups, confidence) * float(known.std(ddof=1))
    if wide < 1e-12:
        wide = 1 - ((1 - confidence) / 2) ** (1 / groups)
    return max(-1.0, difference - wide), min(1.0, difference + wide)


def mean_interval(
    points: Sequence[float], ends: Sequence[Interval | None], drawn: Floats | None
) -> Interval | None:
    """The 95 % interval of the mean of some metrics, or of differences, from the interval of each.

    What each may be off adds up in quadrature, on either side by itself, as far as the draws show them
    to move apart (Zou and Donner 2008, https://doi.org/10.1002/sim.3095). So one whose draws all agree
    leaves the mean as open as its own bound is, which the draws of the mean would not show.

    Args:
        points: (k,) of them.
        ends: (k,) the interval of each.
        drawn: (k, D) their paired draws, NaN where a draw has no meaning; None for intervals that are
            bounds, of which the mean is taken.

    Returns:
        Low and high; None where one has no interval.
    """
    known = [pair for pair in ends if pair is not None]
    if not known or len(known) < len(ends):
        return None
    below = np.array([p - low for p, (low, _) in zip(points, known, strict=True)])
    above = np.array([high - p for p, (_, high) in zip(points, known, strict=True)])
    alike = _correlations(drawn) if drawn is not None else np.ones((len(points), len(points)))
    mean = float(np.mean(points))
    low, high = (math.sqrt(max(0.0, side @ alike @ side)) / len(points) for side in (below, above))
    return mean - low, mean + high


def _correlations(drawn: Floats) -> Floats:
    """(k, k) between the rows of (k, D); a row that never changes goes with no other."""
    off = np.nan_to_num(drawn - np.nanmean(drawn, axis=1, keepdims=True))
    size = np.sqrt((off**2).sum(axis=1, keepdims=True))
    unit = np.divide(off, size, out=np.zeros_like(off), where=size > 1e-9)
    found: Floats = unit @ unit.T
    np.fill_diagonal(found, 1.0)
    return found


def _reach(groups: int) -> float:
    """Standard errors that an interval reaches on either side.

    The draws of m groups spread by (m - 1) / m too little, and their spread is itself an estimate.
    """
    return reach(groups, CONFIDENCE)


def reach(groups: int, confidence: float) -> float:
    """Standard errors on either side of an interval of `confidence` from the draws of `groups`, 2 or more."""
    quantile = student.ppf((1 + confidence) / 2, groups - 1)
    return float(quantile) * math.sqrt(groups / (groups - 1))
