"""How far the true positive rate at a rate of false positives could be off, however few reals there are.

The threshold is a quantile of the reals: of 60 of them, less than one lies above that of 1 %, and no
bootstrap draw holds a real above the highest. But how many of the reals lie above the threshold of the
population is binomial, whatever the scores. So the threshold is a fractional order statistic of the
reals (Stigler 1977; Hutson 1999, https://doi.org/10.1080/02664769922458), and how many of the
population's fakes lie above it has the beta distribution of a share (Jeffreys). The interval has 95 % of
both together. Groups count as fewer images, by the design effect of lying above (Kish 1965).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc

from train.intervals.groups import LEAST_SHOWN, TAIL, Ends, Groups, together, variances
from train.metrics import Floats, Sample

POINTS = 100
"""Quantiles of the threshold that are looked at."""

FEW_ABOVE = 5
"""Images above a threshold under which their groups do not show how alike they are."""

LEAST_SHARED = 0.25
"""Part of the fakes' noise that is kept in any case; see `_shared_part`."""

FALL_OVER, MOST_FALL = 3.0, 0.5
"""How alike images are is looked at in a top share as many times as large; and how fast it may fall."""


@dataclass(frozen=True, slots=True)
class _Side:
    """The images of one class from the highest score down: scores, weights and groups, (n,) each.

    `number` is how many equal groups they are, `doubt` what stems from few groups of both classes.
    """

    scores: Floats
    weights: Floats
    group: NDArray[np.intp]
    number: int
    doubt: float

    @property
    def shares(self) -> Floats:
        """(n,) share of the weight from the top down to each."""
        shares: Floats = np.cumsum(self.weights) / self.weights.sum()
        return shares

    def images(self, share: float, *, falls: bool) -> float:
        """As many independent images tell as much of a threshold that `share` of these lie above.

        How alike the images of a group are is seen where `FEW_ABOVE` lie above and below, if there are as
        many. Further out they may be less alike: if it `falls`, by what is seen to fall up to there. What
        is seen is an estimate, which few groups leave in doubt; further out it is on the safe side.
        """
        alone = effective_number(self.weights)
        least = min(0.5, FEW_ABOVE / alone)
        looked_at = min(max(share, least), 1 - least)
        more = self._excess(looked_at)
        if falls and share < looked_at:
            more *= (share / looked_at) ** self._fall(looked_at, more)
        grouped = len(np.unique(self.group)) < len(self.group)
        few = self.doubt if grouped and share >= looked_at else 1.0
        most = self.number if self._largest > 0.5 else alone
        return max(2.0, min(most, alone / (1 + more) / few**2))

    def _fall(self, share: float, more: float) -> float:
        """The power with which the excess falls towards the top: at most one half, none for copies."""
        wider = min(0.5, FALL_OVER * share)
        if wider <= share or more <= 0:
            return 0.0
        power = math.log(max(self._excess(wider), 1e-9) / more) / math.log(wider / share)
        return min(MOST_FALL, max(0.0, power))

    def _excess(self, share: float) -> float:
        """How much more than that of independent images the variance of lying in the top `share` is."""
        at = self.scores[min(int(np.searchsorted(self.shares, share)), len(self.scores) - 1)]
        above = self.scores > at
        if not above.any() or float(self.weights @ above) < share * float(self.weights.sum()) / 2:
            above = self.scores >= at  # many are tied
        return _design_effect(above, self.weights, self.group) - 1

    @property
    def _largest(self) -> float:
        """The share of the weight that the largest group has."""
        return float(np.bincount(self.group, self.weights).max() / self.weights.sum())


def effective_number(weights: Floats) -> float:
    """How many equal weights have a mean as sure as that of `weights` (n,) (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _design_effect(above: NDArray[np.bool_], weights: Floats, group: NDArray[np.intp]) -> float:
    """How many times the variance of a share is that of independent images; at least one."""
    total = weights.sum()
    share = float(weights @ above / total)
    if not 0 < share < 1:
        return 1.0
    held = np.bincount(group, weights) / total
    each, seen = variances(held, np.ones(len(held)))
    off = np.bincount(group, weights * (above - share)) / total
    grouped = float(off @ off) * float(each.sum() / max(seen.sum(), LEAST_SHOWN * each.sum()))
    return max(1.0, grouped * effective_number(weights) / (share * (1 - share)))


def true_rate_interval(
    sample: Sample,
    group: NDArray[np.intp],
    groups: tuple[Groups, Groups],
    rate: float,
    point: float,
) -> Ends:
    """The ends of the true positive rate of `sample` at a false positive rate of `rate`.

    Where the threshold may well lie above every real, nothing is known of it but its lower end: then the
    true positive rate may be zero, and the whole risk of 5 % is at its high end.

    Args:
        sample: images of both classes.
        group: (n,) the group of each, in the order they were given.
        groups: what the groups of the reals tell, and those of the fakes.
        rate: 0 to 1.
        point: the rate of the sample itself, which the interval holds in any case.
    """
    doubt = together(groups).doubt
    reals, fakes = (
        _Side(sample.logits[of], sample.weights[of], group[sample.order][of], told.number, doubt)
        for of, told in ((sample.labels == y, groups[y]) for y in (0, 1))
    )
    images = reals.images(rate, falls=True)
    counts, beyond = _counts_above(images, rate)
    at, true = np.append(0.0, reals.shares), np.append(0.0, _shares_above(reals.scores, fakes))
    found = np.interp(counts / images, at, true)
    of_fakes = fakes.images(float(np.interp(rate, at, true)), falls=False)
    highest = np.where(counts / images < at[1], true[1], found)
    low = 0.0 if beyond > TAIL else _quantile(found, of_fakes, TAIL)
    high = _quantile(highest, of_fakes, 1 - 2 * TAIL if beyond > TAIL else 1 - TAIL)
    low, high = min(low, point), max(high, point)
    middle = point if beyond > TAIL else min(max(low, _quantile(found, of_fakes, 0.5)), high)
    return Ends(low, high, middle, open=beyond > TAIL)


def _shares_above(scores: Floats, fakes: _Side) -> Floats:
    """The share of the fakes above each of `scores` (n,), highest first: (n,)."""
    shares = np.append(0.0, fakes.shares)
    above: Floats = shares[np.searchsorted(-fakes.scores, -scores, side="left")]
    return above


def _shared_part(shares: Floats) -> float:
    """Of the noise of the fakes, what a threshold has in common with the others that may be the true one.

    What the `shares` (m,) above the thresholds differ by holds the rest of it already: a fake that lies
    between two of them is in one share and not in the other. The shares' mean has what they have in common,
    as each fake adds to it the part F of them that it lies in: of a single fake, the integral of F squared
    less the square of that of F. The integral of F squared is the mean of the lower of two shares.
    """
    each = float(np.mean(shares * (1 - shares)))
    down = np.sort(shares)[::-1]
    lower = float(down @ (2 * np.arange(len(down)) + 1)) / len(down) ** 2
    common = lower - float(shares.mean()) ** 2
    return max(LEAST_SHARED, min(1.0, common / each)) if each > 0 else 1.0


def _counts_above(images: float, rate: float) -> tuple[Floats, float]:
    """How many of the reals lie above the threshold: its quantiles (`POINTS`,), and P(none does)."""
    middle, wide = images * rate, 8 * math.sqrt(images * rate) + 8
    count = np.linspace(max(1e-6, middle - wide), min(images, middle + wide), 1000)
    below = 1 - betainc(count, images - count + 1, rate)
    beyond = 1 - betainc(1.0, images, rate)
    return np.interp((np.arange(POINTS) + 0.5) / POINTS, below, count), float(beyond)


def _quantile(shares: Floats, images: float, at: float) -> float:
    """Of the share in the population, where it is any of `shares` (m,) among so many `images`."""
    images /= _shared_part(shares)
    a, b = shares * images + 0.5, (1 - shares) * images + 0.5
    return float(brentq(lambda x: betainc(a, b, x).mean() - at, 0.0, 1.0, xtol=1e-6))
