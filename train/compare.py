"""Two detectors on the same images, and many detectors on many platforms.

The difference of two detectors on one set is known far better than either number: both see the same
hard images. So the same groups are drawn for both, and the interval is that of the difference. For
accuracy there is also McNemar's exact test, which looks only at images that one of them gets right
(McNemar 1947; it takes images as independent, the interval does not).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from schemas.errors import InputError
from train.measure import rows_by
from train.metrics import Floats, Sample
from train.resampling import (
    CONFIDENCE,
    DRAWS,
    Clusters,
    Subset,
    bootstrap,
    difference_interval,
    make_clusters,
    mean_interval,
)
from train.scores import ScoredSet

COMPARED = ("acc", "ap", "auc")

MEAN = "mean"


def compare(runs: Mapping[str, ScoredSet], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Each run against the first: {images, groups, runs, comparisons, bootstrap}.

    A comparison has a (the first), b, mcnemar {only_a, only_b, p}, and parts: per platform and for
    their mean, each metric of `COMPARED` as {a, b, difference, ci}; difference is b less a.

    Raises:
        InputError: if there are fewer than two runs, or they are about other images.
    """
    names = list(runs)
    if len(names) < 2:
        raise InputError(
            f"found {len(names)} run; expected two or more to compare; name another run or score file"
        )
    sets = {name: run.sorted() for name, run in runs.items()}
    first = sets[names[0]]
    for name in names[1:]:
        require_same_images(names[0], first, name, sets[name])
    clusters = _clusters(first)
    drawn = bootstrap(_subsets(sets), clusters, draws=draws, seed=seed)
    return {
        "images": {"n": len(first), "digest": first.digest},
        "groups": {"source": first.grouping, "n": clusters.count},
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


Drawn = Mapping[str, Mapping[str, Floats]]


def _parts(
    a: str, b: str, sets: Mapping[str, ScoredSet], clusters: Clusters, drawn: Drawn
) -> dict[str, dict[str, Any]]:
    rows = rows_by(sets[a].platforms)
    labels = sets[a].labels
    fewest = {p: min(n for n in clusters.by_class(r, labels[r]) if n) for p, r in rows.items()}
    points = {
        (name, p): Sample(sets[name].logits[r], labels[r]).point()
        for name in (a, b)
        for p, r in rows.items()
    }
    parts = {
        p: {m: _difference(m, a, b, [p], points, drawn, fewest) for m in COMPARED} for p in rows
    }
    mean = {m: _difference(m, a, b, list(rows), points, drawn, fewest) for m in COMPARED}
    return {**parts, MEAN: mean}


def _difference(
    metric: str,
    a: str,
    b: str,
    platforms: Sequence[str],
    points: Mapping[tuple[str, str], Mapping[str, float | None]],
    drawn: Drawn,
    fewest: Mapping[str, int],
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
        difference_interval(difference, row, fewest[p])
        for p, difference, row in zip(having, apart, draws, strict=True)
    ]
    ends = mean_interval(apart, each, draws)
    return {
        "a": float(np.mean(one)),
        "b": float(np.mean(other)),
        "difference": float(np.mean(apart)),
        "ci": list(ends) if ends else None,
    }


def matrix(
    runs: Mapping[str, tuple[Sequence[str], Mapping[str, Any]]],
) -> dict[str, Any]:
    """How each run does on each test platform: {platforms, rows}.

    Args:
        runs: by name, the platforms it was trained on and its metrics.json.

    Returns:
        rows, one a run: name, trained_on, seen (test platforms it was trained on), cells {platform:
        {n, n_real, n_fake, acc, ap, auc, ci, seen}}, mean {metric: over all platforms}, and unseen, the
        same over those it was not trained on; None where that is not known.
    """
    platforms = sorted({p for _, result in runs.values() for p in result["platforms"]})
    return {
        "platforms": platforms,
        "rows": [_row(name, trained, result) for name, (trained, result) in runs.items()],
    }


def _row(name: str, trained: Sequence[str], result: Mapping[str, Any]) -> dict[str, Any]:
    cells = {
        platform: {
            **{key: found[key] for key in ("n", "n_real", "n_fake", *COMPARED)},
            "ci": {key: found["ci"][key] for key in COMPARED},
            "seen": platform in trained,
        }
        for platform, found in result["platforms"].items()
    }
    unseen = [cell for cell in cells.values() if not cell["seen"]]
    return {
        "name": name,
        "trained_on": list(trained),
        "data": result.get("data"),
        "cells": cells,
        "mean": {key: _mean([cell[key] for cell in cells.values()]) for key in COMPARED},
        "unseen": {key: _mean([cell[key] for cell in unseen]) for key in COMPARED}
        if trained
        else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
