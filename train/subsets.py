"""Parts of one scored set that are measured side by side: one set of bootstrap draws for all.

Since every part sees the same draws, the mean over parts and the gap between two of them have intervals
that know how the parts hang together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import metrics
from train.intervals.draws import Subset, bootstrap
from train.intervals.ends import (
    Drawn,
    difference_interval,
    mean_error_interval,
    mean_interval,
    metric_interval,
)
from train.intervals.groups import Clusters, Ends, Groups, Interval, together, weakest
from train.metrics import NAMES, Floats, Sample
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
    _known: dict[str, Drawn] = field(default_factory=dict)
    _found: dict[tuple[str, str], Ends | None] = field(default_factory=dict)

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
            self.subsets[key] = Subset(rows, sample, weights)
            self._forget()

    def draw(self, *, draws: int, seed: int) -> None:
        """Draw for all subsets at once."""
        self.drawn = bootstrap(self.subsets, self.clusters, draws=draws, seed=seed)
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._found.clear()

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
            "ci": metrics.nested({name: _as_list(self._ends(key, name)) for name in NAMES}),
        }

    def _ends(self, key: str, name: str) -> Ends | None:
        if (key, name) not in self._found:
            self._found[key, name] = metric_interval(name, self._drawn_of(key))
        return self._found[key, name]

    def _drawn_of(self, key: str) -> Drawn:
        if key not in self._known:
            part = self.subsets[key]
            group, groups = self.clusters.of_image[part.rows], self._groups(key)
            self._known[key] = Drawn(part.sample, self.drawn[key], group, groups)
        return self._known[key]

    def _groups(self, key: str) -> tuple[Groups, Groups]:
        part = self.subsets[key]
        logits = np.empty(len(part.rows))
        logits[part.sample.order] = part.sample.logits
        labels = self.scored.labels[part.rows]
        return self.clusters.by_class(part.rows, labels, part.weights, logits)

    def mean(self, keys: Mapping[str, str]) -> dict[str, Any]:
        """The unweighted mean of each metric over the subsets that have it, and `ci`.

        Beside them `n_platforms`, over how many each mean is, and `no_interval`, the platforms that
        have a metric and no interval of it: then its mean has none.

        Args:
            keys: of the subsets, by platform.
        """
        found = {name: self._mean_of(name, keys) for name in NAMES}
        return {
            **metrics.nested({name: one.value for name, one in found.items()}),
            "n_platforms": metrics.nested({name: one.n for name, one in found.items()}),
            "no_interval": sorted({p for one in found.values() for p in one.without}),
            "ci": metrics.nested({name: _as_list(one.ends) for name, one in found.items()}),
        }

    def _mean_of(self, name: str, keys: Mapping[str, str]) -> "_Mean":
        known = {p: v for p, key in keys.items() if (v := self._value(key, name)) is not None}
        ends = {p: self._ends(keys[p], name) for p in known}
        points = list(known.values())
        parts = [self._drawn_of(keys[p]) for p in known]
        return _Mean(
            value=float(np.mean(points)) if points else None,
            n=len(points),
            ends=_mean_ends(name, points, list(ends.values()), parts),
            without=[p for p, pair in ends.items() if pair is None],
        )

    def gap(self, keys: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
        """Each of `GAPS`: the mean over `keys` less that over `others`, with its paired interval."""
        return {name: self._gap_of(name, keys, others) for name in GAPS}

    def _gap_of(
        self, name: str, keys: Sequence[str], others: Sequence[str]
    ) -> dict[str, Any] | None:
        pairs = {
            pair: change
            for pair in zip(keys, others, strict=True)
            if (change := self._change(name, *pair)) is not None
        }
        if not pairs:
            return None
        points, ends = zip(*pairs.values(), strict=True)
        drawn = np.array([self.drawn[a][name] - self.drawn[b][name] for a, b in pairs])
        return {
            "difference": float(np.mean(points)),
            "ci": _as_list(mean_interval(points, ends, drawn)),
        }

    def _change(self, name: str, key: str, other: str) -> tuple[float, Interval | None] | None:
        """A metric less that of another subset, and the interval; None where one does not have it."""
        mine, theirs = self._value(key, name), self._value(other, name)
        if mine is None or theirs is None:
            return None
        if self._same(key, other, name):  # nothing was changed
            return 0.0, (0.0, 0.0)
        drawn = self.drawn[key][name] - self.drawn[other][name]
        fewest = weakest(together(self._drawn_of(k).groups) for k in (key, other))
        return mine - theirs, difference_interval(mine - theirs, drawn, fewest)

    def _same(self, key: str, other: str, name: str) -> bool:
        """Whether a metric of two subsets is that of the same images with the same scores and weights."""
        one, two = self.subsets[key], self.subsets[other]
        if not np.array_equal(one.rows, two.rows):
            return False
        like = one.sample.ranks_like if name == "auc" else one.sample.is_like
        return like(two.sample)

    def _value(self, key: str, name: str) -> float | None:
        return self.subsets[key].sample.point()[name]


@dataclass(frozen=True, slots=True)
class _Mean:
    """The mean of a metric over `n` platforms, its interval, and the platforms that have none."""

    value: float | None
    n: int
    ends: Interval | None
    without: list[str]


def _mean_ends(
    name: str, points: Sequence[float], ends: Sequence[Ends | None], parts: Sequence[Drawn]
) -> Interval | None:
    """The interval of the mean of a metric of some parts, which holds the mean if theirs hold the metric."""
    known = [pair for pair in ends if pair is not None]
    if not known or len(known) < len(ends):
        return None
    if name.startswith("ece"):
        return mean_error_interval(name.removeprefix("ece"), parts)
    drawn = np.array([part.values[name] for part in parts])
    found = mean_interval([pair.middle for pair in known], [pair[:2] for pair in known], drawn)
    if found and any(pair.open for pair in known):  # what is not known of each is not known of all
        found = float(np.mean([pair.low for pair in known])), found[1]
    value = float(np.mean(points))
    return found and (min(found[0], value), max(found[1], value))


def _as_list(ends: Ends | Interval | None) -> list[float] | None:
    return list(ends[:2]) if ends else None
