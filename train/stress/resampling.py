"""Metrics with intervals, over the same bootstrap draws for every condition, so that differences are paired.

A draw is a weight per image: how often its cluster (all renditions and copies of one picture, one
author's posts) was drawn, each class on its own. Weighted metrics of a thousand draws are then a few
cumulative sums over images sorted once. Equal to drawing the images themselves and calling
`train.metrics`; the tests hold it to that and to scikit-learn's `sample_weight`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHUNK = 128
"""Draws worked on at a time: 10,000 images then need some tens of megabytes."""

CONFIDENCE = 0.95

Metric = Callable[[Floats, NDArray[np.int64], Floats], Floats]
"""Logits (N,), labels (N,) and weights (D, N) to one value per draw (D,)."""


@dataclass(frozen=True, slots=True)
class Resamples:
    """`weights` (D + 1, N): the first row is all ones (the sample itself), the rest are draws."""

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def draw(
        cls, labels: NDArray[np.int64], clusters: NDArray[Any], *, draws: int, seed: int
    ) -> "Resamples":
        """Draw clusters with replacement, those of each class on their own."""
        rng = np.random.default_rng(seed)
        weights = np.ones((draws + 1, len(labels)), dtype=np.float32)
        for label in np.unique(labels):
            (members,) = np.nonzero(labels == label)
            names, row = np.unique(clusters[members], return_inverse=True)
            alike = np.full(len(names), 1 / len(names))
            for at in range(1, draws + 1, CHUNK):
                count = min(CHUNK, draws + 1 - at)
                counts = rng.multinomial(len(names), alike, size=count)
                weights[at : at + count, members] = counts[:, row]
        return cls(labels, weights)

    def values(self, metric: Metric, logits: Floats) -> Floats:
        """`metric` of the sample (first) and of every draw, (D + 1,)."""
        if np.isnan(logits).any():
            raise ValueError(f"{int(np.isnan(logits).sum())} of {len(logits)} logits are NaN")
        chunks = [
            metric(logits, self.labels, self.weights[at : at + CHUNK].astype(np.float64))
            for at in range(0, len(self.weights), CHUNK)
        ]
        return np.concatenate(chunks)


def auc(logits: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Area under the ROC curve; ties count one half."""
    true, false = _counts(logits, labels, weights)
    width = np.diff(false, axis=1, prepend=0)
    height = true - np.diff(true, axis=1, prepend=0) / 2
    area: Floats = (width * height).sum(axis=1) / (true[:, -1] * false[:, -1])
    return area


def average_precision(logits: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Area under the precision-recall curve as a step function; fake is positive."""
    true, false = _counts(logits, labels, weights)
    seen = true + false
    precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
    area: Floats = (np.diff(true, axis=1, prepend=0) * precision).sum(axis=1) / true[:, -1]
    return area


def accuracy(logits: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Share on the right side of logit 0."""
    right = ((logits > 0) == (labels == 1)).astype(np.float64)
    return _weighted_mean(right, weights)


def _counts(logits: Floats, labels: NDArray[np.int64], weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives (D, T) at each of T distinct scores, from the highest down."""
    order = np.argsort(-logits, kind="stable")
    last = np.append(np.diff(logits[order]) != 0, True)
    fake = (labels[order] == 1).astype(np.float64)
    ranked = weights[:, order]
    true = np.cumsum(ranked * fake, axis=1)[:, last]
    return true, np.cumsum(ranked * (1 - fake), axis=1)[:, last]


def class_mean(values: Floats, label: int) -> Metric:
    """The metric that is the mean of `values` (N,) over the images of `label`, whatever the logits."""

    def mean(_: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
        chosen = (labels == label).astype(np.float64)
        return _weighted_mean(values, weights * chosen)

    return mean


def all_mean(values: Floats) -> Metric:
    """The metric that is the mean of `values` (N,) over all images."""

    def mean(_: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
        return _weighted_mean(values, weights)

    return mean


def _weighted_mean(values: Floats, weights: Floats) -> Floats:
    mean: Floats = weights @ values / weights.sum(axis=1)
    return mean


METRICS: dict[str, Metric] = {"acc": accuracy, "ap": average_precision, "auc": auc}


def with_interval(values: Floats, *, confidence: float = CONFIDENCE) -> dict[str, float]:
    """{value, low, high} of the sample (first of `values`) and its draws (the rest)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
