"""Parts of one scored set that are measured side by side: one set of bootstrap draws for all.

Since every part sees the same draws, the mean over parts and the gap between two of them have intervals
that know how the parts hang together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import metrics
from train.metrics import NAMES, Floats, Sample
from train.resampling import (
    Clusters,
    Subset,
    bootstrap,
    difference_interval,
    interval,
    metric_interval,
)
from train.scores import ScoredSet

GAPS = ("acc", "ap", "auc")
"""Metrics whose gaps are reported."""


@dataclass(slots=True)
class Plan:
    """The subsets of one scored set, added by key, then drawn, then reported by the same key."""

    scored: ScoredSet
    clusters: Clusters
    calibrated: metrics.Calibrated | None = None
    subsets: dict[str, Subset] = field(default_factory=dict)
    drawn: dict[str, dict[str, Floats]] = field(default_factory=dict)

    def add(
        self,
        key: str,
        rows: NDArray[np.intp],
        *,
        weights: Floats | None = None,
        logits: Floats | None = None,
        calibrated: metrics.Calibrated | None = None,
    ) -> None:
        """Measure the images at `rows`, if there are any, under `key`.

        `weights`, `logits` and `calibrated` stand in for those of the set.
        """
        if len(rows):
            values = self.scored.logits if logits is None else logits
            labels = self.scored.labels[rows]
            sample = Sample(values[rows], labels, calibrated or self.calibrated, weights)
            self.subsets[key] = Subset(rows, sample)

    def draw(self, *, draws: int, seed: int) -> None:
        """Draw for all subsets at once."""
        self.drawn = bootstrap(self.subsets, self.clusters, draws=draws, seed=seed)

    def report(self, key: str) -> dict[str, Any]:
        """n, n_real, n_fake, n_groups, every metric, and `ci` with the interval of each."""
        rows = self.subsets[key].rows
        fakes = int(self.scored.labels[rows].sum())
        return {
            "n": len(rows),
            "n_real": len(rows) - fakes,
            "n_fake": fakes,
            "n_groups": self.clusters.seen(rows),
            **metrics.nested(self.subsets[key].sample.point()),
            "ci": metrics.nested({name: self._ends(key, name) for name in NAMES}),
        }

    def _ends(self, key: str, name: str) -> list[float] | None:
        groups = self._groups(key)
        found = metric_interval(name, self.subsets[key].sample, self.drawn[key], groups)
        return list(found) if found else None

    def _groups(self, key: str) -> tuple[int, int]:
        rows = self.subsets[key].rows
        return self.clusters.by_class(rows, self.scored.labels[rows])

    def _fewest(self, keys: Sequence[str]) -> int:
        return min((n for key in keys for n in self._groups(key) if n), default=0)

    def mean(self, keys: Sequence[str]) -> dict[str, Any]:
        """The unweighted mean of each metric over the subsets that have it, and `ci`."""
        points = {key: self.subsets[key].sample.point() for key in keys}
        having = {n: [key for key in keys if points[key][n] is not None] for n in NAMES}
        means = {n: _mean([points[key][n] for key in having[n]]) for n in NAMES}
        ends = {n: self._mean_ends(n, means[n], having[n]) for n in NAMES}
        return {**metrics.nested(means), "ci": metrics.nested(ends)}

    def _mean_ends(self, name: str, mean: float | None, keys: Sequence[str]) -> list[float] | None:
        """The interval of a mean; of metrics whose intervals are bounds, the mean of those."""
        if mean is None:
            return None
        if name.startswith(("ece", "tpr_at_fpr_")):
            ends = [self._ends(key, name) for key in keys]
            return None if None in ends else np.mean(np.array(ends), axis=0).tolist()
        drawn = np.mean([self.drawn[key][name] for key in keys], axis=0)
        found = interval(name, mean, {name: drawn}, self._fewest(keys))
        return list(found) if found else None

    def gap(self, keys: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
        """Each of `GAPS`: the mean over `keys` less that over `others`, with its paired interval."""
        return {name: self._gap_of(name, keys, others) for name in GAPS}

    def _gap_of(
        self, name: str, keys: Sequence[str], others: Sequence[str]
    ) -> dict[str, Any] | None:
        pairs = [
            (key, other)
            for key, other in zip(keys, others, strict=True)
            if None not in (self._value(key, name), self._value(other, name))
        ]
        if not pairs:
            return None
        mine, theirs = zip(*pairs, strict=True)
        means = [_mean([self._value(key, name) for key in side]) for side in (mine, theirs)]
        drawn = [np.mean([self.drawn[k][name] for k in side], axis=0) for side in (mine, theirs)]
        assert means[0] is not None
        assert means[1] is not None
        difference = means[0] - means[1]
        if all(self._same(key, other) for key, other in pairs):  # nothing was changed
            return {"difference": 0.0, "ci": [0.0, 0.0]}
        ends = difference_interval(difference, drawn[0] - drawn[1], self._fewest(mine))
        return {"difference": difference, "ci": list(ends) if ends else None}

    def _same(self, key: str, other: str) -> bool:
        """Whether two subsets are the same images with the same scores and weights."""
        one, two = self.subsets[key], self.subsets[other]
        same_rows = np.array_equal(one.rows, two.rows)
        return same_rows and one.sample.is_like(two.sample)

    def _value(self, key: str, name: str) -> float | None:
        return self.subsets[key].sample.point()[name]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
