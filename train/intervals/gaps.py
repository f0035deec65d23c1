"""How far the calibration error could be off: what noise adds to it is taken off again.

The calibration error sums the sizes of the gaps of its bins. Noise moves every gap and so makes the sum
larger: 120 images of a detector without any gap show one of .1. A standard error around the sum
would leave the truth out. So it is asked which true errors would show the one that was found
(test inversion: Carpenter 1999, https://doi.org/10.1002/sim.1247): the gaps are set to a profile times
a scale, the noise of the draws is added, and the ends are at the scales where what was found is among the
highest or the lowest 2.5 %, or, near nothing, the highest 5 %.

The noise of the bins has the spread and the correlations that the draws show. But a group whose images are
in many bins moves all of these in a draw, also where its images have nothing in common but their group. How
large correlations become by that alone is known (`chance_correlation`), and taken off: of their squares, with
which the spread of the sum of sizes grows.

How much noise adds depends on which bins the true gaps are in, and that is not known. Few bins with
large gaps leave the most to noise, many bins with small ones the least. So the low end takes the former,
the high end the latter. Where noise has added much, both ends are below the error that was found.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, hstack

from train.intervals.groups import TAIL, Ends, Groups, together
from train.metrics import Floats, Sample

FEW_BINS, MANY_BINS = -2.0, 0.05
"""What is added to a gap squared, in units of the variance of its noise, in the two profiles.

Few: the gaps above 1.4 standard errors of their noise. Chosen in simulation, for gaps of all kinds and
none (tests of this module, `tests/benchmarks/intervals.py`): with 0 for both, the gaps as they are, 8 to
17 % of the intervals miss the truth where the gaps are about as large as their noise.
"""

HIDDEN = 0.1
"""Share of the variance that few images leave open (`hidden_variance`) that is allowed for.

With all of it 99.5 % of the intervals hold the truth where there are twenty images a class, with none 90.
"""

NOISES = 1000
"""How often the noise of the bins is drawn; each is taken with either sign."""

STEPS = 20
"""Halvings of the error: to a millionth."""


def hidden_variance(held: Floats) -> Floats:
    """(B,) the variance of the gap of each bin that no draw shows, as where all of its images are fakes.

    A bin of a single image is off by its own gap in every draw. Its images are fakes with a probability
    that is known with half a real and half a fake more (Jeffreys).

    Args:
        held: (2, B) how many images of either class are in each bin, or how much they weigh.
    """
    real, fake = held
    count = real + fake
    seen = real * fake / np.maximum(count**2, 1e-300)
    more = np.maximum((real + 0.5) * (fake + 0.5) / (count + 1) ** 2 - seen, 0)
    hidden: Floats = HIDDEN * count * more / count.sum() ** 2
    return hidden


def error_groups(sample: Sample, group: NDArray[np.intp], suffix: str = "") -> Groups:
    """What groups tell of the calibration error: images of a group may be alike, and yet in other bins.

    Args:
        sample: the images.
        group: (n,) the group of each.
        suffix: of the names of the metrics of the same scores.
    """
    gaps, bins = sample.image_gaps(suffix, weighted=False)
    values = np.where(bins[:, None] == np.unique(bins), gaps[:, None], 0.0)
    of_image = group[sample.order]
    sides = (sample.labels == 0, sample.labels == 1)
    return together(Groups.telling(of_image[y], sample.weights[y], values[y]) for y in sides)


def chance_correlation(
    parts: Sequence[Sample], groups: Sequence[NDArray[np.intp]], suffix: str = ""
) -> float:
    """How much the gaps of two bins are correlated if their noise has nothing to do with one another.

    A group k that has a share s of the variance of each of two bins makes their correlation s large, to
    either side. The squares of independent ones add up, as in the shrinkage of correlations by Schafer
    and Strimmer (2005, https://doi.org/10.2202/1544-6115.1175).

    Args:
        parts: the images, whose bins are different ones.
        groups: the group of each image (n,) of each part.
        suffix: of the names of the metrics of the same scores.

    Returns:
        The sum over all pairs of different bins, in either order, of the mean of its square.
    """
    _, numbers = np.unique(np.concatenate(groups), return_inverse=True)
    ends, count = np.cumsum([len(group) for group in groups])[:-1], int(numbers.max()) + 1
    numbered = zip(parts, np.split(numbers, ends), strict=True)
    added = hstack([_added(*one, count, suffix) for one in numbered])
    squares = added.multiply(added).tocsc()
    shares = squares.multiply(1 / np.maximum(squares.sum(axis=0), 1e-300)[None, :]).tocsc()
    shared = (shares.T @ shares).toarray()
    return float(shared.sum() - np.trace(shared))


def _added(sample: Sample, group: NDArray[np.intp], count: int, suffix: str) -> csc_array:
    """(count, B) what each group adds to the gap of each bin."""
    gaps, bins = sample.image_gaps(suffix)
    _, column = np.unique(bins, return_inverse=True)
    at = (group[sample.order], column)
    return csc_array((gaps, at), shape=(count, int(column.max()) + 1))


def calibration_error_interval(
    gaps: Floats,
    drawn: Floats,
    groups: Groups,
    hidden: Floats | None = None,
    chance: float = 0.0,
) -> Ends | None:
    """The ends of the calibration error of which `gaps` are the bins'.

    Args:
        gaps: (B,) of each bin, the mean of P(fake) less the label over all images, in it or not.
        drawn: (D, B) the same in every draw; NaN where a draw has no meaning.
        groups: what the groups of the images tell (`error_groups`).
        hidden: (B,) variance of the gaps that draws do not show (`hidden_variance`); none if None.
        chance: how much correlation of bins is none (`chance_correlation`).

    Returns:
        Its ends; None where there are fewer than two groups or half the draws have no meaning.
    """
    known = drawn[~np.isnan(drawn).any(axis=1)]
    if groups.number < 2 or 2 * len(known) < len(drawn):
        return None
    off = known - gaps
    covariance = _correlated(off.T @ off / len(off), chance, len(off)) / groups.shown
    covariance += 0.0 if hidden is None else np.diag(hidden)
    noise, found = _noise(covariance, groups.freedom), float(np.abs(gaps).sum())
    few, middle, many = (
        _Shown(_profile(gaps, add * np.diag(covariance)), noise, found)
        for add in (FEW_BINS, 0, MANY_BINS)
    )
    low = min(found, few.scaled(lambda error: 1 - 2 * TAIL + few.tail(error)))
    centre, high = middle.scaled(lambda _: 0.5), many.scaled(many.tail) or found
    high = max(low, high)
    return Ends(low, high, min(max(low, centre), high))


def _noise(covariance: Floats, freedom: float) -> Floats:
    """(2 `NOISES`, B) the noise of the bins, with either sign, as else more error need not show more.

    A bin is a sum over groups, and so nearly normal; how much it varies is an estimate: Student's
    distribution, of all bins together. Bins that have nothing to do with each other are known better in their
    sum; those of groups whose images are alike are not, and the interval holds for these too.

    Args:
        covariance: (B, B) of the bins.
        freedom: the degrees of freedom of the variance of one.
    """
    values, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(values, 0)) @ axes.T  # whatever the signs of the axes
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(NOISES, len(values))) @ root
    if math.isfinite(freedom):
        noise *= np.sqrt(freedom / rng.chisquare(freedom, size=(NOISES, 1)))
    return np.vstack([noise, -noise])


def _correlated(covariance: Floats, chance: float, draws: int) -> Floats:
    """(B, B) of the bins, of which as much is taken off between bins as `chance` and few draws explain."""
    spread = np.sqrt(np.diag(covariance))
    of_pair = np.outer(spread, spread)
    alike = np.divide(covariance, of_pair, out=np.zeros_like(covariance), where=of_pair > 0)
    np.fill_diagonal(alike, 0.0)
    squares = float((alike**2).sum())
    none = chance + (alike.size - len(alike)) / draws
    true = 1 - none / squares if squares > none else 0.0
    mixed: Floats = math.sqrt(true) * alike * of_pair
    np.fill_diagonal(mixed, spread**2)
    return mixed


def _profile(gaps: Floats, add: Floats) -> Floats:
    """(B,) gaps whose squares are larger by `add`, none below zero; as they are where that leaves none."""
    found: Floats = np.sign(gaps) * np.sqrt(np.maximum(gaps**2 + add, 0))
    return found if found.any() else gaps


@dataclass(frozen=True, slots=True)
class _Shown:
    """How often true errors of a profile, with noise (D, B), show at most what was `found`."""

    profile: Floats
    noise: Floats
    found: float

    @property
    def size(self) -> float:
        """The true error at scale one."""
        return float(np.abs(self.profile).sum())

    def at_most(self, error: float) -> float:
        """The share of draws that show at most `found` where the true error is `error`."""
        gaps = self.profile * (error / self.size)
        return float(np.mean(np.abs(gaps + self.noise).sum(axis=1) <= self.found))

    def tail(self, error: float) -> float:
        """The risk that is taken of what was found being too low for `error`.

        A true error of nothing can only show too much, so that all of the risk is there; for one as
        large as half the noise it is shared (as by Feldman and Cousins 1998, arXiv physics/9711021).
        """
        noise = float(np.abs(self.noise).sum(axis=1).mean())
        return TAIL * min(1.0, 2 * error / noise) if noise else TAIL

    def scaled(self, share: Callable[[float], float]) -> float:
        """The largest error of the profile that shows at most what was found in more than `share` of it."""
        if self.size == 0 or self.at_most(0.0) <= share(0.0):
            return 0.0
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            error = (low + high) / 2
            low, high = (error, high) if self.at_most(error) > share(error) else (low, error)
        return low
