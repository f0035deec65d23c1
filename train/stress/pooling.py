"""Pooling: the same patch logits, averaged, their largest, or the mean of the largest few.

Source: the pooling ablation of https://arxiv.org/abs/2406.09398 (mean 93.7, max 92.4 mAP), here without
training again, so a detector trained for one pooling is judged under the others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Plan, Scores, StressTest

TOP_SHARES = (0.01, 0.05, 0.1, 0.25)
"""Shares of the patches, the most fake ones, whose mean is taken."""


def pools(patches: NDArray[np.float64]) -> dict[str, float]:
    """The image logit under every pooling of the patch logits (h, w)."""
    ranked = np.sort(patches, axis=None)[::-1]
    top = {
        f"top {share:.0%}": float(ranked[: max(1, round(share * ranked.size))].mean())
        for share in TOP_SHARES
    }
    return {"mean": float(ranked.mean()), "max": float(ranked[0]), **top}


def named(pooling: str) -> str:
    """A detector's pooling as `pools` calls it: top10 is top 10%."""
    return f"top {pooling.removeprefix('top')}%" if pooling.startswith("top") else pooling


def measure(scores: Scores) -> dict[str, Any]:
    """{rows, trained_with}: the detector's own pooling, which changes are against, then the others."""
    own = scores.loaded.model.pooling
    rows = [row(scores, f"{named(own)} (its own)", scores.logits[NATIVE])]
    rows += [
        row(scores, name, logits) for name, logits in scores.pooled.items() if name != named(own)
    ]
    return {"rows": rows, "trained_with": own}


def conditions(plan: Plan) -> list[Any]:
    """None but the native picture."""
    return []


TEST = StressTest(
    name="pooling",
    title="Mean, max and top-k of the same patch logits",
    source="arXiv 2406.09398, ablation of pooling",
    conditions=conditions,
    measure=measure,
    needs=frozenset({"patches"}),
    each="pooling",
)
