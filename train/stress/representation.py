"""Representation: detectors that look at the picture, its NPR or a gradient, on the same pictures.

Source: the ablation of preprocessing in https://arxiv.org/abs/2406.09398. A representation is
trained with: give one checkpoint per representation.
"""

from typing import Any

from train.stress.checkpoints import conditions, side_by_side
from train.stress.plan import Scores, StressTest


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: one per checkpoint, by `representation`."""
    rows = sorted(side_by_side(scores), key=lambda row: (row["representation"], row["name"]))
    return {"rows": rows}


TEST = StressTest(
    name="representation",
    title="Representations side by side",
    source="arXiv 2406.09398, ablation of preprocessing",
    conditions=conditions,
    measure=measure,
    needs=frozenset({"rivals"}),
    each="checkpoint",
)
