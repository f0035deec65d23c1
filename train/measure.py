"""Everything that is reported of scored images: platforms, their mean, slices, matched, without leaks.

All of it is measured on one set of bootstrap draws, so that a gap (matched less native, without leaks
less with them) is a paired difference with an interval of its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import metrics
from train.calibration import Band, Calibration, Conformal
from train.intervals.draws import DRAWS
from train.intervals.groups import CONFIDENCE, Clusters, make_clusters
from train.metrics import Floats
from train.scores import ONE_EACH, ScoredSet
from train.slices import MATCHED, SLICERS, ImageFacts, matched_weights, slice_rows
from train.subsets import Plan

LEAST = 20
"""Images of a class below which a slice has no numbers: its interval would be as wide as the scale."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """Which of the images were learnt from, by path, and how that was found out.

    `found` maps the path of a test image to the kind of its leak; `how` and `against` are words.
    """

    found: Mapping[str, str]
    how: str
    against: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known beside the scores, and how to draw.

    `facts` are in the order of the images; `rescored` holds logits (N,) of the same images in one common
    format, NaN for one that has none, `rescored_as` says which format, and `not_rescored` has {path, reason}
    of those that have none.
    """

    calibration: Calibration | None = None
    facts: Sequence[ImageFacts] = ()
    leaks: Leaks | None = None
    rescored: Floats | None = None
    rescored_as: str = ""
    not_rescored: Sequence[Mapping[str, str]] = ()
    draws: int = DRAWS
    seed: int = 0


def measure(scored: ScoredSet, asked: Asked) -> dict[str, Any]:
    """Everything reported of `scored`.

    Keys: platforms {p: report}, mean, groups {source, n, images, note}, calibration, promises [row],
    undecided, slices [row], matched, rescored, leaks, bootstrap. A report has n, n_real, n_fake,
    n_groups, every metric of `train.metrics.NAMES` (true positive rates under tpr_at_fpr), and ci with
    the ends of each. The mean has n_platforms, over how many platforms each metric is, and no_interval, the
    platforms that take its intervals away; matched, rescored, and leaks without, name the platforms left_out
    of theirs, and rescored the images {path, reason} not_rescored. A part that nothing is known for is None.
    """
    applied = asked.calibration.applied if asked.calibration else None
    plan = Plan(scored, _clusters(scored), applied)
    platforms = rows_by(scored.platforms)
    for name, rows in platforms.items():
        plan.add(f"platform/{name}", rows)
    slices = _plan_slices(plan, asked)
    matched = _plan_matched(plan, asked, platforms)
    unleaked = _plan_unleaked(plan, asked, platforms)
    rescored = _plan_rescored(plan, asked, platforms)
    promises = _plan_promises(plan, asked.calibration, platforms)
    band = asked.calibration.band if asked.calibration else None
    if band is not None:
        _plan_band(plan, band, platforms)
    plan.draw(draws=asked.draws, seed=asked.seed)
    keys = {name: f"platform/{name}" for name in platforms}
    return {
        "platforms": {name: plan.report(f"platform/{name}") for name in platforms},
        "mean": plan.mean(keys),
        "groups": _describe_groups(scored, plan.clusters),
        "calibration": asked.calibration.to_dict() if asked.calibration else None,
        "promises": [_promise(plan, *row) for row in promises],
        "undecided": _undecided(plan, band, platforms) if band is not None else None,
        "slices": [_slice(plan, *row) for row in slices],
        "matched": _matched(plan, platforms, matched) if matched is not None else None,
        "rescored": _rescored(plan, asked, platforms, rescored)
        if asked.rescored is not None
        else None,
        "leaks": _leaks(plan, asked.leaks, platforms, unleaked) if asked.leaks else None,
        "bootstrap": {"draws": asked.draws, "seed": asked.seed, "confidence": CONFIDENCE},
    }


def _clusters(scored: ScoredSet) -> Clusters:
    return make_clusters(
        scored.groups, list(zip(scored.platforms, scored.labels.tolist(), strict=True))
    )


def rows_by(names: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """The rows of each name, in the order of the names."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    return {name: np.array(rows[name], dtype=np.intp) for name in sorted(rows)}


def _describe_groups(scored: ScoredSet, clusters: Clusters) -> dict[str, Any]:
    alone = scored.grouping == ONE_EACH
    return {
        "source": scored.grouping,
        "n": clusters.count,
        "images": len(scored),
        "note": "no groups are known: images are taken as independent, which copies or one author "
        "with many of them would make too narrow"
        if alone
        else "images of one group are drawn together",
    }


def _plan_promises(
    plan: Plan, calibration: Calibration | None, platforms: Mapping[str, NDArray[np.intp]]
) -> list[tuple[Conformal, str]]:
    """The promises of the calibration that can be looked at here, each with a platform."""
    found = []
    for row in calibration.conformal if calibration else ():
        for name, rows in platforms.items():
            reals = rows[plan.scored.labels[rows] == 0]
            if row.threshold is not None and len(reals) >= LEAST:
                at = metrics.Calibrated(1.0, row.threshold)
                plan.add(f"promise/{row.rate:g}/{name}", reals, calibrated=at)
                found.append((row, name))
    return found


def _promise(plan: Plan, promised: Conformal, platform: str) -> dict[str, Any]:
    """How many reals of a platform really lie above the threshold that promised a rate.

    The rate is promised on average over calibration sets, and `bound` of this very one. So `above` says
    that even the low end is above the rate, and `kept` is False only where it is above the bound: then
    the platform's reals are not like those of the calibration.
    """
    rate, bound = promised.rate, promised.rate_bound
    report = plan.report(f"promise/{rate:g}/{platform}")
    ends = report["ci"]["acc_calibrated"]
    ci = [1 - ends[1], 1 - ends[0]] if ends else None
    return {
        "rate": rate,
        "threshold": promised.threshold,
        "bound": bound,
        "platform": platform,
        "n_real": report["n_real"],
        "fpr": 1 - report["acc_calibrated"],
        "ci": ci,
        "above": ci is not None and ci[0] > rate,
        "kept": ci is None or bound is None or ci[0] <= bound,
    }


def _plan_band(plan: Plan, band: Band, platforms: Mapping[str, NDArray[np.intp]]) -> None:
    """Plan how many images are undecided, and how right the verdicts on the others are."""
    logits, fake = plan.scored.logits, plan.scored.labels == 1
    undecided = (logits >= band.low) & (logits <= band.high)
    right = np.where(undecided == fake, 1.0, -1.0)  # scores that are right where nothing is decided
    for name, rows in platforms.items():
        plan.add(f"undecided/{name}", rows, logits=right)
        by_verdict = metrics.Calibrated(1.0, band.high)
        plan.add(f"decided/{name}", rows[~undecided[rows]], calibrated=by_verdict)


def _undecided(plan: Plan, band: Band, platforms: Mapping[str, NDArray[np.intp]]) -> dict[str, Any]:
    """The band, and of each platform the share that is undecided and the accuracy of the other verdicts."""
    found = {}
    for name in platforms:
        told = plan.report(f"undecided/{name}")
        found[name] = {
            "n": told["n"],
            "share": told["acc"],
            "ci": told["ci"]["acc"],
            "decided": None,
        }
        if f"decided/{name}" in plan.subsets:
            decided = plan.report(f"decided/{name}")
            found[name]["decided"] = {
                **{key: decided[key] for key in ("n", "n_real", "n_fake")},
                "acc": decided["acc_calibrated"],
                "ci": {"acc": decided["ci"]["acc_calibrated"]},
            }
    return {**asdict(band), "platforms": found}


def _plan_slices(plan: Plan, asked: Asked) -> list[tuple[str, str, NDArray[np.intp]]]:
    """The slices to report; those with enough images are planned."""
    if not asked.facts:
        return []
    rows = [
        (by, value, found) for by in SLICERS for value, found in slice_rows(asked.facts, by).items()
    ]
    for by, value, found in rows:
        if _enough(plan.scored.labels[found]):
            plan.add(f"slice/{by}/{value}", found)
    return rows


def _enough(labels: NDArray[np.int64]) -> bool:
    """Whether each class that is there has `LEAST` images."""
    return bool(np.unique(labels, return_counts=True)[1].min(initial=LEAST) >= LEAST)


def _slice(plan: Plan, by: str, value: str, rows: NDArray[np.intp]) -> dict[str, Any]:
    labels = plan.scored.labels[rows]
    told: dict[str, Any] = {"by": by, "value": value}
    if f"slice/{by}/{value}" in plan.subsets:
        return {**told, "too_few": False, **plan.report(f"slice/{by}/{value}")}
    fakes = int(labels.sum())
    counts = {"n": len(labels), "n_real": len(labels) - fakes, "n_fake": fakes}
    return {**told, "too_few": True, **counts}


def _plan_matched(
    plan: Plan, asked: Asked, platforms: Mapping[str, NDArray[np.intp]]
) -> Floats | None:
    """Weights that match the file facts of both classes, planned where enough images are left."""
    if not any(one.format for one in asked.facts):
        return None
    scored = plan.scored
    weights = matched_weights(asked.facts, scored.platforms, scored.labels)
    for name, rows in platforms.items():
        kept = rows[weights[rows] > 0]
        if weights[kept].sum() >= 2 * LEAST:
            plan.add(f"matched/{name}", kept, weights=weights[kept])
    return weights


def _matched(
    plan: Plan, platforms: Mapping[str, NDArray[np.intp]], weights: Floats
) -> dict[str, Any]:
    measured = [name for name in platforms if f"matched/{name}" in plan.subsets]
    keys = {name: f"matched/{name}" for name in measured}
    found = {}
    for name, rows in platforms.items():
        told = {"n_matched": float(weights[rows].sum()), "n_of": len(rows)}
        enough = name in measured
        found[name] = {
            **told,
            "too_few": not enough,
            **(plan.report(f"matched/{name}") if enough else {}),
        }
    return {
        "how": f"weights: within each cell of {', '.join(MATCHED)} both classes weigh the same",
        "platforms": found,
        "mean": plan.mean(keys) if keys else None,
        "left_out": [name for name in platforms if name not in keys],
        "gap": _gap(plan, keys) if keys else None,
    }


def _gap(plan: Plan, keys: Mapping[str, str]) -> dict[str, Any]:
    """The gaps between subsets, by platform, and these platforms as they are."""
    return plan.gap(list(keys.values()), [f"platform/{name}" for name in keys])


def told_over(part: Mapping[str, Any], total: int) -> str:
    """Over how many of `total` platforms the mean AP of a part is, and what is left out; or nothing."""
    told = ""
    if part["mean"] is not None and (n := part["mean"]["n_platforms"]["ap"]) != total:
        names = part.get("left_out")
        told = f", over {n} of {total} platforms"
        told += f", without {', '.join(names)}" if names else ""
    if skipped := part.get("not_rescored"):
        images, first = f"{len(skipped)} image{'s' if len(skipped) > 1 else ''}", skipped[0]
        told += f", without {images}, such as {first['path']}: {first['reason']}"
    return told


def _plan_rescored(
    plan: Plan, asked: Asked, platforms: Mapping[str, NDArray[np.intp]]
) -> dict[str, str]:
    """What each platform's images in the common format are held against: the same images as served."""
    pairs: dict[str, str] = {}
    if asked.rescored is None:
        return pairs
    for name, rows in platforms.items():
        kept = rows[np.isfinite(asked.rescored[rows])]
        plan.add(f"rescored/{name}", kept, logits=asked.rescored)
        if len(kept) == len(rows):
            pairs[name] = f"platform/{name}"
        elif len(kept):
            plan.add(f"served/{name}", kept)
            pairs[name] = f"served/{name}"
    return pairs


def _rescored(
    plan: Plan, asked: Asked, platforms: Mapping[str, NDArray[np.intp]], pairs: Mapping[str, str]
) -> dict[str, Any]:
    keys = {name: f"rescored/{name}" for name in pairs}
    return {
        "how": asked.rescored_as,
        "platforms": {name: plan.report(f"rescored/{name}") for name in pairs},
        "mean": plan.mean(keys),
        "left_out": [name for name in platforms if name not in pairs],
        "not_rescored": list(asked.not_rescored),
        "gap": plan.gap(list(keys.values()), list(pairs.values())),
    }


def _plan_unleaked(
    plan: Plan, asked: Asked, platforms: Mapping[str, NDArray[np.intp]]
) -> list[str]:
    """The platforms with leaked items, planned again without those."""
    if asked.leaks is None:
        return []
    leaks = asked.leaks
    clean = np.array([path not in leaks.found for path in plan.scored.paths])
    touched = [name for name, rows in platforms.items() if not clean[rows].all()]
    for name in touched:
        plan.add(f"unleaked/{name}", platforms[name][clean[platforms[name]]])
    return touched


def _leaks(
    plan: Plan, leaks: Leaks, platforms: Mapping[str, NDArray[np.intp]], touched: list[str]
) -> dict[str, Any]:
    images = [
        {"path": path, "kind": leaks.found[path]}
        for path in plan.scored.paths
        if path in leaks.found
    ]
    told = {"how": leaks.how, "against": leaks.against, "n": len(images), "images": images}
    keys = {name: f"{'unleaked' if name in touched else 'platform'}/{name}" for name in platforms}
    keys = {name: key for name, key in keys.items() if key in plan.subsets}
    if not images or not keys:
        return {**told, "without": None, "gap": None}
    return {
        **told,
        "without": {
            "platforms": {name: plan.report(key) for name, key in keys.items()},
            "mean": plan.mean(keys),
            "left_out": [name for name in platforms if name not in keys],
        },
        "gap": _gap(plan, keys),
    }


def report(
    logits: metrics.Scores,
    labels: metrics.Labels,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    groups: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """What is reported of one test set by itself: n, every metric, and `ci`.

    Args:
        logits: (N,).
        labels: (N,) 0 real, 1 fake.
        draws: of the bootstrap.
        seed: of the bootstrap.
        groups: (N,) ids of images that are drawn together; None is its own group.
    """
    logits, labels = metrics.checked(logits, labels)
    names = tuple(str(row) for row in range(len(labels)))
    scored = ScoredSet(
        paths=names,
        digests=names,
        platforms=("all",) * len(labels),
        labels=labels,
        logits=logits,
        groups=tuple(groups) if groups is not None else (None,) * len(labels),
        grouping=ONE_EACH if groups is None else "given",
        context={},
    )
    found: dict[str, Any] = measure(scored, Asked(draws=draws, seed=seed))["platforms"]["all"]
    return found
