"""From the draws of a metric to the ends of its 95 % interval; differences and means of metrics too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from train.intervals.gaps import (
    calibration_error_interval,
    chance_correlation,
    error_groups,
    hidden_variance,
)
from train.intervals.groups import CONFIDENCE, TAIL, Ends, Groups, Interval, together, weakest
from train.intervals.rates import effective_number, true_rate_interval
from train.metrics import Floats, Sample

SURE = 1 - 1e-12
"""An accuracy without a mistake, but for how weights add up."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Some images, and what is known of how far their metrics are off.

    Attributes:
        sample: the images.
        values: their metrics in every draw.
        group: (n,) the group of each image.
        groups: what the groups of the real ones tell, and those of the fakes (`Clusters.by_class`).
    """

    sample: Sample
    values: Mapping[str, Floats]
    group: NDArray[np.intp]
    groups: tuple[Groups, Groups]


def metric_interval(name: str, drawn: Drawn) -> Ends | None:
    """The 95 % interval of one of `train.metrics.NAMES`.

    Returns:
        Its ends; None where the metric has no meaning, or a class is fewer than two groups.
    """
    sample, groups = drawn.sample, together(drawn.groups)
    point = sample.point()[name]
    if point is None or groups.number < 2:
        return None
    if name.startswith("tpr_at_fpr_"):
        rate = float(name.removeprefix("tpr_at_fpr_"))
        return true_rate_interval(sample, drawn.group, drawn.groups, rate, point)
    suffix = "_calibrated" if name.endswith("_calibrated") else ""
    if name.startswith("ece"):
        found = _error_ends([drawn], suffix)
    else:
        spread = _error_spread(point, drawn) if name == "eer" else None
        pair = interval(point, drawn.values[name], groups, spread)
        found = Ends(*pair, point) if pair else None
    sure = name.startswith(("brier", "ece")) and (sample.point()[f"acc{suffix}"] or 0.0) > SURE
    return _raised(found, point, groups) if found and sure else found


def mean_error_interval(suffix: str, parts: Sequence[Drawn]) -> Interval | None:
    """Of the mean calibration error of several parts, paired draw by draw.

    Its bins are those of all parts: each part by itself says how much noise there may be, not that there
    is as much in each.

    Returns:
        Low and high; None where a part has none.
    """
    each = [metric_interval(f"ece{suffix}", part) for part in parts]
    ends = [one for one in each if one is not None]
    if not ends or len(ends) < len(parts):
        return None
    found = _error_ends(parts, suffix)
    if found and any((part.sample.point()[f"acc{suffix}"] or 0.0) > SURE for part in parts):
        found = found._replace(high=max(found.high, float(np.mean([one.high for one in ends]))))
    return found and found[:2]


def _error_ends(parts: Sequence[Drawn], suffix: str) -> Ends | None:
    """Of the mean of the calibration errors of `parts`, one or several."""
    samples, of_images = [part.sample for part in parts], [part.group for part in parts]
    told = [error_groups(*one, suffix) for one in zip(samples, of_images, strict=True)]
    apart = sum(len(np.unique(group)) for group in of_images)
    shared = apart > len(np.unique(np.concatenate(of_images)))  # platforms do not add up then
    hidden = [hidden_variance(sample.bins(suffix)) for sample in samples]
    return calibration_error_interval(
        np.concatenate([sample.gaps(suffix) for sample in samples]) / len(parts),
        np.hstack([part.values[f"ece_gaps{suffix}"] for part in parts]) / len(parts),
        weakest(told) if shared else together(told),
        np.concatenate(hidden) / len(parts) ** 2,
        chance_correlation(samples, of_images, suffix),
    )


def _raised(ends: Ends, point: float, groups: Groups) -> Ends:
    """Of a figure that each confident mistake would raise by one image, where no draw holds a mistake."""
    return ends._replace(high=max(ends.high, min(1.0, point + 1 - TAIL ** (1 / groups.number))))


def interval(
    point: float, draws: Floats, groups: Groups, spread: float | None = None
) -> Interval | None:
    """A 95 % interval of a metric in [0, 1] from its bootstrap draws.

    Percentiles of the draws are too narrow for few groups and, near 0 and 1, on the wrong side. So
    the draws give the standard error only, which is set off on the logit scale with Student's
    quantile (Efron and Tibshirani 1993, chapters 12 and 13). Where every draw agrees, as for a
    detector without an error, the draws say nothing; then the bound is that of no failure in as many
    trials as there are groups (Clopper and Pearson 1934).

    Args:
        point: its value.
        draws: (D,) of it; NaN where a draw has no meaning.
        groups: what the groups of the images tell.
        spread: the standard error, where the standard deviation of the draws is not it.

    Returns:
        Low and high, or None where there are fewer than two groups or half the draws have no meaning.
    """
    known = draws[~np.isnan(draws)]
    if groups.number < 2 or 2 * len(known) < len(draws):
        return None
    spread = float(known.std(ddof=1)) if spread is None else spread
    if 1e-12 < point < 1 - 1e-12 and spread > 1e-12:
        odds = math.log(point / (1 - point))
        wide = groups.reach() * spread / (point * (1 - point))
        return float(expit(odds - wide)), float(expit(odds + wide))
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    exact = TAIL ** (1 / groups.number)
    if point > 0.5:
        return min(float(low), point * exact), max(float(high), point)
    return min(float(low), point), max(float(high), 1 - (1 - point) * exact)


def _error_spread(point: float, drawn: Drawn) -> float:
    """The standard error of the equal error rate `point`.

    An image that is drawn twice makes a step of two, at which the two error rates miss one another by more
    than those of any test set: so it is taken from the middle 68 % of the draws. These are one where an
    error is in few of the draws; it is at least that of independent images of two shares that are equal.
    """
    known = drawn.values["eer"][~np.isnan(drawn.values["eer"])]
    low, high = np.quantile(known, norm.cdf([-1.0, 1.0])) if len(known) else (0.0, 0.0)
    of_class = (drawn.sample.weights[drawn.sample.labels == y] for y in (0, 1))
    alone = sum(1 / effective_number(weights) for weights in of_class)
    return max(float(high - low) / 2, math.sqrt(point * (1 - point) * alone) / 2)


def difference_interval(
    difference: float, values: Floats, groups: Groups, confidence: float = CONFIDENCE
) -> Interval | None:
    """The interval of a difference of metrics from its paired draws, within [-1, 1].

    Where every draw agrees, it reaches as far as no failure in as many trials as groups can tell.
    """
    known = values[~np.isnan(values)]
    if groups.number < 2 or 2 * len(known) < len(values) or np.isnan(difference):
        return None
    wide = groups.reach(confidence) * float(known.std(ddof=1))
    if wide < 1e-12:
        wide = 1 - ((1 - confidence) / 2) ** (1 / groups.number)
    return max(-1.0, difference - wide), min(1.0, difference + wide)


def mean_interval(
    points: Sequence[float], ends: Sequence[Interval | None], drawn: Floats
) -> Interval | None:
    """The 95 % interval of the mean of some metrics, or of differences, from the interval of each.

    What each may be off adds up in quadrature, on either side by itself, as far as the draws show them
    to move apart (Zou and Donner 2008, https://doi.org/10.1002/sim.3095). So one whose draws all agree
    leaves the mean as open as its own bound is, which the draws of the mean would not show.

    Args:
        points: (k,) of them.
        ends: (k,) the interval of each.
        drawn: (k, D) their paired draws, NaN where a draw has no meaning.

    Returns:
        Low and high; None where one has no interval.
    """
    known = [pair for pair in ends if pair is not None]
    if not known or len(known) < len(ends):
        return None
    below = np.array([p - low for p, (low, _) in zip(points, known, strict=True)])
    above = np.array([high - p for p, (_, high) in zip(points, known, strict=True)])
    alike = _correlations(drawn)
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
