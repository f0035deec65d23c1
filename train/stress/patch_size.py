"""Patch size: detectors of several receptive fields (5, 9, 17, 33) on the same pictures.

Source: the ablation of q in https://arxiv.org/abs/2406.09398. A receptive field is trained, not
set: give one checkpoint per size.
"""

from typing import Any

from train.stress.checkpoints import conditions, side_by_side
from train.stress.plan import Scores, StressTest


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: one per checkpoint, by `patch_px`."""
    return {"rows": sorted(side_by_side(scores), key=lambda row: (row["patch_px"], row["name"]))}


TEST = StressTest(
    name="patch-size",
    title="Receptive fields side by side",
    source="arXiv 2406.09398, ablation of the patch size",
    conditions=conditions,
    measure=measure,
    needs=frozenset({"rivals"}),
    each="checkpoint",
)
