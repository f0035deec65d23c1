"""Two detectors on the same images, and many detectors on many platforms.

The difference of two detectors on one set is known far better than either number: both see the same
hard images. So the same groups are drawn for both, and the interval is that of the difference. For
accuracy there is also McNemar's exact test, which looks only at images that one of them gets right
(McNemar 1947; it takes images as independent, the interval does not).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from schemas.errors import InputError
from train.intervals.draws import DRAWS, Subset, bootstrap
from train.intervals.ends import difference_interval, mean_interval
from train.intervals.groups import CONFIDENCE, Clusters, Groups, make_clusters, together
from train.measure import rows_by
from train.metrics import Floats, Sample
from train.scores import MEAN, ScoredSet
from train.subsets import Plan

COMPARED = ("acc", "ap", "auc")


def compare(runs: Mapping[str, ScoredSet], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Each run against the first: {images, groups, runs, comparisons, bootstrap}.

    `images` has platforms {p: {n, n_real, n_fake}}. A comparison has a (the first), b, mcnemar {only_a,
    only_b, p}, and parts: per platform and for their mean, each metric of `COMPARED` as {a, b, difference,
    ci, n_platforms}; difference is b less a, over so many platforms, which are those that have the metric.

    Raises:
        InputError: if there are fewer than two runs, or they are about other images.
    """
    names = list(runs)
    if len(names) < 2:
        raise InputError(
            f"found {len(names)} run; expected two or more to compare; name another run or score file"
        )
    sets, dropped = drop_unscored({name: run.sorted() for name, run in runs.items()})
    first = sets[names[0]]
    for name in names[1:]:
        require_same_images(names[0], first, name, sets[name])
    grouped = next((one for one in sets.values() if any(one.groups)), first)
    clusters = _clusters(grouped)
    drawn = bootstrap(_subsets(sets), clusters, draws=draws, seed=seed)
    return {
        "images": {
            "n": len(first),
            "digest": first.digest,
            "dropped": dropped,
            "platforms": _counts(first),
        },
        "groups": {"source": grouped.grouping, "n": clusters.count},
        "runs": [{"name": name, **_of(sets[name])} for name in names],
        "comparisons": [
            {
                "a": names[0],
                "b": name,
                "mcnemar": mcnemar(first, sets[name]),
                "parts": _parts(names[0], name, sets, clusters, drawn),
            }
            for name in names[1:]
        ],
        "bootstrap": {"draws": draws, "seed": seed, "confidence": CONFIDENCE},
    }


def drop_unscored(sets: Mapping[str, ScoredSet]) -> tuple[dict[str, ScoredSet], list[str]]:
    """The sets without the images that one of them has and another could not open; and which those are."""
    unscored = {path for one in sets.values() for path in one.skipped}
    dropped = sorted({path for one in sets.values() for path in one.paths} & unscored)
    kept = {
        name: one.take([row for row, path in enumerate(one.paths) if path not in unscored])
        for name, one in sets.items()
    }
    return kept, dropped


def require_same_images(name: str, one: ScoredSet, other_name: str, other: ScoredSet) -> None:
    """Check that two sets hold the same images with the same labels on the same platforms.

    Raises:
        InputError: naming how many are in one alone, or labelled otherwise.
    """
    mine = dict(zip(one.digests, zip(one.labels.tolist(), one.platforms, strict=True), strict=True))
    theirs = dict(
        zip(other.digests, zip(other.labels.tolist(), other.platforms, strict=True), strict=True)
    )
    alone = (len(set(mine) - set(theirs)), len(set(theirs) - set(mine)))
    told = sum(mine[digest] != theirs[digest] for digest in set(mine) & set(theirs))
    if any(alone) or one.digests != other.digests:
        raise InputError(
            f"{name} and {other_name} are about different images ({len(one)} and {len(other)}; "
            f"{alone[0]} only in the first, {alone[1]} only in the second); expected scores of the same "
            "images; evaluate both on one folder"
        )
    if told:
        raise InputError(
            f"{name} and {other_name} give {told} of {len(one)} images another label or platform; "
            "expected the same; evaluate both on one folder"
        )


def _clusters(scored: ScoredSet) -> Clusters:
    cells = list(zip(scored.platforms, scored.labels.tolist(), strict=True))
    return make_clusters(scored.groups, cells)


def _counts(scored: ScoredSet) -> dict[str, dict[str, int]]:
    """How many images of each class each platform has."""
    fakes = {
        name: int(scored.labels[rows].sum()) for name, rows in rows_by(scored.platforms).items()
    }
    sizes = Counter(scored.platforms)
    return {
        name: {"n": sizes[name], "n_real": sizes[name] - n_fake, "n_fake": n_fake}
        for name, n_fake in fakes.items()
    }


def _key(name: str, platform: str) -> str:
    return f"{name}\0{platform}"


def _subsets(sets: Mapping[str, ScoredSet]) -> dict[str, Subset]:
    return {
        _key(name, platform): Subset(rows, Sample(one.logits[rows], one.labels[rows]))
        for name, one in sets.items()
        for platform, rows in rows_by(one.platforms).items()
    }


def _of(scored: ScoredSet) -> dict[str, Any]:
    checkpoint = scored.context.get("checkpoint", {})
    return {
        "checkpoint": checkpoint.get("sha256"),
        "detector": checkpoint.get("detector"),
        "preprocessing": scored.context.get("preprocessing", {}).get("digest"),
    }


def mcnemar(one: ScoredSet, other: ScoredSet) -> dict[str, Any]:
    """Images that only one of two detectors gets right, and how likely so uneven a split is by chance."""
    right = [(run.logits > 0) == (run.labels == 1) for run in (one, other)]
    only_a, only_b = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


Draws = Mapping[str, Mapping[str, Floats]]


def _parts(
    a: str, b: str, sets: Mapping[str, ScoredSet], clusters: Clusters, drawn: Draws
) -> dict[str, dict[str, Any]]:
    rows = rows_by(sets[a].platforms)
    labels = sets[a].labels
    apart = sets[b].logits - sets[a].logits
    groups = {
        p: together(clusters.by_class(r, labels[r], values=apart[r])) for p, r in rows.items()
    }
    points = {
        (name, p): Sample(sets[name].logits[r], labels[r]).point()
        for name in (a, b)
        for p, r in rows.items()
    }
    parts = {
        p: {m: _difference(m, a, b, [p], points, drawn, groups) for m in COMPARED} for p in rows
    }
    mean = {m: _difference(m, a, b, list(rows), points, drawn, groups) for m in COMPARED}
    return {**parts, MEAN: mean}


def _difference(
    metric: str,
    a: str,
    b: str,
    platforms: Sequence[str],
    points: Mapping[tuple[str, str], Mapping[str, float | None]],
    drawn: Draws,
    groups: Mapping[str, Groups],
) -> dict[str, Any] | None:
    """Metric of both, b less a, and its interval, over the platforms that have the metric."""
    having = [p for p in platforms if points[a, p][metric] is not None]
    if not having:
        return None
    one, other = (
        [value for p in having if (value := points[name, p][metric]) is not None] for name in (a, b)
    )
    apart = [y - x for x, y in zip(one, other, strict=True)]
    draws = np.array([drawn[_key(b, p)][metric] - drawn[_key(a, p)][metric] for p in having])
    each = [
        difference_interval(difference, row, groups[p])
        for p, difference, row in zip(having, apart, draws, strict=True)
    ]
    ends = mean_interval(apart, each, draws)
    return {
        "a": float(np.mean(one)),
        "b": float(np.mean(other)),
        "difference": float(np.mean(apart)),
        "ci": list(ends) if ends else None,
        "n_platforms": len(having),
    }


@dataclass(frozen=True, slots=True)
class Judged:
    """The scores of a run, the platforms it is known to be trained on, and whether those are all."""

    scored: ScoredSet
    trained_on: tuple[str, ...] = ()
    complete: bool = False

    def seen(self, platform: str) -> bool | None:
        """Whether it was trained on `platform`; None where nobody says."""
        return True if platform in self.trained_on else False if self.complete else None


def matrix(runs: Mapping[str, Judged], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """How each run does on each test platform: {platforms, shared, rows, bootstrap}.

    `shared` are the platforms on which all runs were judged by the same images: means are over those alone,
    since one over other images, or other platforms, compares nothing.

    Returns:
        rows, one a run: name, trained_on, data, cells {platform: {n, n_real, n_fake, acc, ap, auc, ci, seen,
        same_images}}, mean and unseen {acc, ap, auc, ci, over}. `same_images` is whether a cell is about the
        images of the first run on that platform: others do not compare. `unseen` is the mean over the shared
        platforms that the run was not trained on; None where that is not known, as is `seen`.
    """
    images = {name: _images_by_platform(run.scored) for name, run in runs.items()}
    platforms = sorted({platform for held in images.values() for platform in held})
    shared = [p for p in platforms if len({held.get(p) for held in images.values()}) == 1]
    first = {p: next(held[p] for held in images.values() if p in held) for p in platforms}
    rows = []
    for name, run in runs.items():
        plan = _planned(run.scored)
        plan.draw(draws=draws, seed=seed)
        cells = {
            p: {**_cell(plan, p), "seen": run.seen(p), "same_images": told == first[p]}
            for p, told in images[name].items()
        }
        rows.append({"name": name, **_row(run, plan, shared), "cells": cells})
    return {
        "platforms": platforms,
        "shared": shared,
        "rows": rows,
        "bootstrap": {"draws": draws, "seed": seed, "confidence": CONFIDENCE},
    }


def _images_by_platform(scored: ScoredSet) -> dict[str, str]:
    """What tells the images of each platform from others."""
    return {
        p: scored.take(rows.tolist()).digest[:16] for p, rows in rows_by(scored.platforms).items()
    }


def _planned(scored: ScoredSet) -> Plan:
    plan = Plan(scored, _clusters(scored))
    for platform, rows in rows_by(scored.platforms).items():
        plan.add(platform, rows)
    return plan


def _cell(plan: Plan, platform: str) -> dict[str, Any]:
    found = plan.report(platform)
    return {
        **{key: found[key] for key in ("n", "n_real", "n_fake", *COMPARED)},
        "ci": {key: found["ci"][key] for key in COMPARED},
    }


def _row(run: Judged, plan: Plan, shared: Sequence[str]) -> dict[str, Any]:
    unseen = [platform for platform in shared if not run.seen(platform)]
    return {
        "trained_on": list(run.trained_on),
        "data": run.scored.context.get("data"),
        "mean": _over(plan, shared),
        "unseen": _over(plan, unseen) if run.complete else None,
    }


def _over(plan: Plan, platforms: Sequence[str]) -> dict[str, Any]:
    """The unweighted mean over platforms with its interval; None where there is none of them."""
    if not platforms:
        nothing = dict.fromkeys(COMPARED)
        return {**nothing, "ci": nothing, "over": []}
    found = plan.mean({platform: platform for platform in platforms})
    return {
        **{key: found[key] for key in COMPARED},
        "ci": {key: found["ci"][key] for key in COMPARED},
        "over": list(platforms),
    }
