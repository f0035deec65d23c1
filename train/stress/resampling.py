"""Figures with intervals, over the same draws for every condition, so that differences are paired.

Groups, draws, metrics and intervals are those of `evaluate`, by the same functions. What stress tests ask
beyond them is here: the mean of any value of the images, and a difference at another confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.intervals.draws import draw_counts
from train.intervals.ends import difference_interval, interval
from train.intervals.groups import Clusters, Groups, make_clusters, together, weakest
from train.measure import rows_by
from train.metrics import Floats
from train.scores import ScoredSet
from train.subsets import Plan

METRICS = ("acc", "ap", "auc")

CHANGES = ("auc", "ap")
"""Metrics whose change from a reference is told."""

Rows = NDArray[np.intp]
Told = dict[str, float]
"""{value, low, high}."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a value over some images, the same in every draw, (D,), and what their groups tell."""

    value: float
    draws: Floats
    groups: Groups


@dataclass(frozen=True, slots=True)
class Resamples:
    """Some images, and the draws that are made of them. The logits of `scored` are not looked at."""

    scored: ScoredSet
    clusters: Clusters
    draws: int
    seed: int

    @classmethod
    def of(cls, scored: ScoredSet, *, draws: int, seed: int) -> "Resamples":
        """Draws of the groups of `scored`, within what holds the same platforms and classes."""
        cells = list(zip(scored.platforms, scored.labels.tolist(), strict=True))
        return cls(scored, make_clusters(scored.groups, cells), draws, seed)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) 0 real, 1 fake."""
        return self.scored.labels

    @property
    def platforms(self) -> dict[str, Rows]:
        """The rows of each platform."""
        return rows_by(self.scored.platforms)

    def rows_of(self, label: int) -> Rows:
        """The rows of a class."""
        return np.flatnonzero(self.labels == label)

    def compared(self, logits: Floats, reference: Floats) -> dict[str, Any]:
        """Each metric of `logits` (N,), and how far the changing ones are from those of `reference` (N,).

        Keys: acc, ap, auc, auc_change, ap_change of all images together; `platforms` with n, n_real,
        n_fake and the same of each; `mean` with the same, the unweighted mean of the platforms. What has no
        meaning in a platform of one class is None.
        """
        parts = self.platforms
        plan = self._drawn({"now": logits, "before": reference}, parts)
        now, before = ([_key(side, name, parts) for name in parts] for side in ("now", "before"))
        found: dict[str, dict[str, Any]] = {
            name: {**counts(self.labels[rows]), **_told(plan, [mine], [other])}
            for (name, rows), mine, other in zip(parts.items(), now, before, strict=True)
        }
        return {
            **_told(plan, ["now"], ["before"]),
            "platforms": found,
            "mean": _told(plan, now, before),
        }

    def auc(self, logits: Floats) -> Told:
        """The AUC of all images."""
        found = _told(self._drawn({"now": logits}, {}), ["now"])["auc"]
        assert found is not None
        return dict(found)

    def drop(self, before: Floats, after: Floats, confidence: float) -> Told:
        """How much AUC `after` (N,) loses from `before` (N,), over all images, of both classes."""
        if np.array_equal(before, after):
            return _figure(0.0, (0.0, 0.0))
        plan = self._drawn({"before": before, "after": after}, {})
        difference = plan.gap(["before"], ["after"])["auc"]["difference"]
        values = plan.drawn["before"]["auc"] - plan.drawn["after"]["auc"]
        groups = self._groups(np.arange(len(self.labels)), after - before)
        ends = difference_interval(difference, values, groups, confidence)
        return _figure(difference, ends or (-1.0, 1.0))

    def mean(self, values: Floats, rows: Rows | None = None) -> Mean:
        """The mean of `values` (N,) over the images at `rows`, all if None."""
        rows = np.arange(len(values)) if rows is None else rows
        of_group = self.clusters.of_image[rows]
        sums = np.bincount(of_group, values[rows], self.clusters.count)
        sizes = np.bincount(of_group, minlength=self.clusters.count)
        parts = []
        for drawn in draw_counts(self.clusters, draws=self.draws, seed=self.seed):
            with np.errstate(invalid="ignore"):  # a draw without any of them has no mean
                parts.append((drawn @ sums) / (drawn @ sizes))
        return Mean(
            float(values[rows].mean()), np.concatenate(parts), self._groups(rows, values[rows])
        )

    def _drawn(self, sides: Mapping[str, Floats], parts: Mapping[str, Rows]) -> Plan:
        """Every side of all images, and of each part, measured in every draw."""
        plan = Plan(self.scored, self.clusters)
        for side, logits in sides.items():
            plan.add(side, np.arange(len(self.labels)), logits=logits)
            for name, rows in parts.items() if len(parts) > 1 else ():
                plan.add(_key(side, name, parts), rows, logits=logits)
        plan.draw(draws=self.draws, seed=self.seed)
        return plan

    def _groups(self, rows: Rows, values: Floats) -> Groups:
        return together(self.clusters.by_class(rows, self.labels[rows], values=values))


def _key(side: str, name: str, parts: Mapping[str, Rows]) -> str:
    """The subset of a platform; the only one there is all images."""
    return f"{side}/{name}" if len(parts) > 1 else side


def counts(labels: NDArray[np.int64]) -> dict[str, int]:
    """{n, n_real, n_fake}."""
    fakes = int(labels.sum())
    return {"n": len(labels), "n_real": len(labels) - fakes, "n_fake": fakes}


def _told(
    plan: Plan, keys: Sequence[str], references: Sequence[str] = ()
) -> dict[str, Told | None]:
    """The metrics of the mean of some subsets, and their changes from the mean of others."""
    mean = plan.mean({key: key for key in keys})
    found: dict[str, Told | None] = {m: _optional(mean[m], mean["ci"][m], 0.0) for m in METRICS}
    gaps = plan.gap(keys, references) if references else {}
    for name in CHANGES if references else ():
        gap = gaps[name] or {"difference": None, "ci": None}
        found[f"{name}_change"] = _optional(gap["difference"], gap["ci"], -1.0)
    return found


def _optional(value: float | None, ends: Sequence[float] | None, least: float) -> Told | None:
    """None without a value; what nothing tells how far it is off may be anything from `least` to 1."""
    return None if value is None else _figure(value, ends or (least, 1.0))


def _figure(value: float, ends: Sequence[float]) -> Told:
    return {"value": float(value), "low": float(ends[0]), "high": float(ends[1])}


def share(mean: Mean) -> Told:
    """The mean of values that are 0 or 1."""
    ends = interval(mean.value, mean.draws, mean.groups)
    return _figure(mean.value, ends or (0.0, 1.0))


def amount(mean: Mean, *, least: float = -np.inf) -> Told | None:
    """The mean of values that may be any number from `least` on; None where one group cannot tell."""
    known = mean.draws[~np.isnan(mean.draws)]
    if mean.groups.number < 2 or len(known) < 2:
        return None
    wide = mean.groups.reach() * float(known.std(ddof=1))
    return _figure(mean.value, (max(least, mean.value - wide), mean.value + wide))


def mean_of(means: Sequence[Mean]) -> Mean:
    """The unweighted mean of some, drawn as one."""
    return Mean(
        float(np.mean([mean.value for mean in means])),
        np.mean([mean.draws for mean in means], axis=0),
        weakest(mean.groups for mean in means),
    )
