"""Preprocessing: the same detector fed squashed, centre-cropped and native pixels.

How a picture is brought to the detector's size can turn a comparison round (AUROC by up to 0.38,
https://arxiv.org/abs/2606.20488), which is why a checkpoint carries it and evaluation refuses another.
"""

from typing import Any

from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Condition, Plan, Scores, StressTest, untouched

FITS = {
    "stretch": "squashed to the square",
    "crop": "centre square, resized",
    "native": "centre pixels as they are",
    "whole": "every pixel as it is",
}


def conditions(plan: Plan) -> list[Condition]:
    """Each fit of one size that is not the checkpoint's own."""
    return [
        Condition(f"fit-{fit}", untouched, fit=fit)
        for fit in ("stretch", "crop", "native")
        if fit != plan.preprocessing.fit
    ]


def measure(scores: Scores) -> dict[str, Any]:
    """{rows, own}: the checkpoint's own fit first."""
    own = scores.plan.preprocessing.fit
    rows = [row(scores, f"{FITS[own]} (its own)", scores.logits[NATIVE], fit=own)]
    for condition in conditions(scores.plan):
        logits = scores.logits[condition.key]
        rows.append(row(scores, FITS[str(condition.fit)], logits, fit=condition.fit))
    return {"rows": rows, "own": own}


TEST = StressTest(
    name="preprocessing",
    title="Squashed, cropped and native input",
    source="arXiv 2606.20488",
    conditions=conditions,
    measure=measure,
    each="input",
)
