"""Checkpoints side by side on the same pictures, for the tests that compare trainings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.checkpoint import LoadedDetector
from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Condition, Plan, Scores


def conditions(plan: Plan) -> list[Condition]:
    """None but the native picture."""
    return []


def side_by_side(scores: Scores) -> list[dict[str, Any]]:
    """A row per checkpoint, the `tested` one's first; changes are against that one, paired by image."""
    first = scores.logits[NATIVE]
    rows = [{**_row(scores, scores.name, scores.loaded, first), "tested": True}]
    for rival in scores.rivals:
        rows.append({**_row(scores, rival.name, rival.loaded, rival.logits), "tested": False})
    return rows


def _row(
    scores: Scores, name: str, loaded: LoadedDetector, logits: NDArray[np.float64]
) -> dict[str, Any]:
    told = row(scores, name, logits)
    for key in ("shift_real", "shift_fake"):  # logits of two detectors have no common scale
        del told[key]
    return {
        **told,
        "detector": loaded.spec.name,
        "patch_px": loaded.spec.receptive_field,
        "representation": loaded.preprocessing.representation,
        "fit": loaded.preprocessing.fit,
        "size": loaded.preprocessing.size,
        "pooling": loaded.model.pooling,
        "sha256": loaded.digest,
    }
