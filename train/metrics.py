"""How good a ranking of real and fake images is: pure functions of scores and labels, in NumPy.

Fake (1) is the positive class throughout. Scores may be logits or probabilities: only their order
counts, except in `accuracy`, whose threshold is a logit of 0. Equal to scikit-learn's
`average_precision_score`, `roc_auc_score` and `roc_curve` to float tolerance. Tied scores share one
threshold.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]

FALSE_POSITIVE_RATES = (0.01, 0.05)
"""Where the true positive rate is reported."""

DRAWS = 1000
"""Bootstrap draws: enough for the 2.5 % tails to a few thousandths."""


def accuracy(logits: Scores, labels: Labels) -> float:
    """Share of images on the right side of logit 0; a logit of exactly 0 says real.

    Raises:
        ValueError: if empty, or if a logit is NaN.
    """
    logits, labels = _checked(logits, labels)
    return float(np.mean((logits > 0) == (labels == 1)))


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under the precision-recall curve as a step function; fake (1) is positive.

    Args:
        scores: (N,) higher means more likely fake.
        labels: (N,) 0 real, 1 fake.

    Raises:
        ValueError: if there is no fake image, where it has no meaning, or if a score is NaN.
    """
    true, false = _thresholds(*_checked(scores, labels))
    if true[-1] == 0:
        raise ValueError("average precision needs at least one fake image; found none")
    precision = true / (true + false)
    recall = true / true[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc_auc(scores: Scores, labels: Labels) -> float:
    """Chance that a fake image scores above a real one, ties counting one half.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN.
    """
    rates = _rates(*_checked(scores, labels))
    return float(np.trapezoid(rates[1], rates[0]))


def tpr_at_fpr(scores: Scores, labels: Labels, rate: float) -> float:
    """Largest share of fakes found while at most `rate` of the reals are called fake.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN.
    """
    false, true = _rates(*_checked(scores, labels))
    return float(true[false <= rate + 1e-12].max())


METRICS: dict[str, Callable[[Scores, Labels], float]] = {
    "acc": accuracy,
    "ap": average_precision,
    "auc": roc_auc,
}
"""The metrics of every report, by the key they have there."""


def summary(logits: Scores, labels: Labels) -> dict[str, float | int | None]:
    """acc, ap, auc and n; a metric that needs a class that is not there is None."""
    return {
        **{name: or_none(metric, logits, labels) for name, metric in METRICS.items()},
        "n": len(labels),
    }


def or_none(
    metric: Callable[[Scores, Labels], float], scores: Scores, labels: Labels
) -> float | None:
    """The metric, or None where only one class is there. NaN is still an error."""
    if len(labels) == 0 or (metric is not accuracy and len(np.unique(labels)) < 2):
        return None
    return metric(scores, labels)


def bootstrap_interval(
    metric: Callable[[Scores, Labels], float],
    scores: Scores,
    labels: Labels,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    cluster: NDArray[np.generic] | None = None,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval, resampling each class on its own.

    Args:
        metric: one of `METRICS`, or any function of scores and labels.
        scores: (N,).
        labels: (N,).
        draws: bootstrap draws.
        seed: of the draws.
        confidence: share of the draws inside.
        cluster: (N,) ids; images of one id, such as one author, are drawn together.

    Returns:
        Low and high, or None where only one class is there.
    """
    scores, labels = _checked(scores, labels)
    if len(np.unique(labels)) < 2:
        return None
    rng = np.random.default_rng(seed)
    values = [
        metric(scores[chosen], labels[chosen]) for chosen in _draws(labels, cluster, draws, rng)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _draws(
    labels: Labels, cluster: NDArray[np.generic] | None, draws: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Index arrays of `draws` stratified resamples, by image or by cluster."""
    parts = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    if cluster is None:
        picks = [part[rng.integers(0, len(part), size=(draws, len(part)))] for part in parts]
        return list(np.concatenate(picks, axis=1))
    groups = [_groups(part, cluster) for part in parts]
    return [
        np.concatenate([g[k] for g in groups for k in rng.integers(0, len(g), size=len(g))])
        for _ in range(draws)
    ]


def _groups(part: NDArray[np.intp], cluster: NDArray[np.generic]) -> list[NDArray[np.intp]]:
    ids = cluster[part]
    return [part[ids == value] for value in np.unique(ids)]


def _checked(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    checked: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(labels)
    if checked.ndim != 1 or checked.shape != labels.shape:
        raise ValueError(
            f"found scores {checked.shape} and labels {labels.shape}; expected (N,) each"
        )
    if len(checked) == 0:
        raise ValueError("found no scores; a metric needs at least one image")
    if np.isnan(checked).any():
        raise ValueError(f"{int(np.isnan(checked).sum())} of {len(checked)} scores are NaN")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold values other than 0 (real) and 1 (fake)")
    return checked, labels.astype(np.int64)


def _thresholds(
    scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True and false positives at every distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(labels[order])[last].astype(np.float64)
    return true, (last + 1) - true


def _rates(
    scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rate at every threshold, from (0, 0)."""
    true, false = _thresholds(scores, labels)
    if true[-1] == 0 or false[-1] == 0:
        raise ValueError("this metric needs both classes; found only one")
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def report(
    logits: Scores,
    labels: Labels,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    cluster: NDArray[np.generic] | None = None,
) -> dict[str, object]:
    """Everything reported of one test set: counts, metrics, TPR at low FPR, 95 % intervals.

    Keys: n, n_real, n_fake, acc, ap, auc, tpr_at_fpr {"0.01", "0.05"}, ci {acc, ap, auc: [low,
    high]}. A metric or interval that needs a class that is not there is None.
    """
    fakes = int(np.sum(labels))
    intervals = {
        name: bootstrap_interval(metric, logits, labels, draws=draws, seed=seed, cluster=cluster)
        for name, metric in METRICS.items()
    }
    return {
        **summary(logits, labels),
        "n_real": len(labels) - fakes,
        "n_fake": fakes,
        "tpr_at_fpr": {
            f"{rate:g}": _tpr_or_none(logits, labels, rate) for rate in FALSE_POSITIVE_RATES
        },
        "ci": {name: list(ends) if ends else None for name, ends in intervals.items()},
    }


def _tpr_or_none(logits: Scores, labels: Labels, rate: float) -> float | None:
    return or_none(lambda s, y: tpr_at_fpr(s, y, rate), logits, labels)
