"""The rows that tests report: figures of one condition, each with n and interval, and differences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.labels import Label
from train.stress.plan import NATIVE, Scores
from train.stress.resampling import (
    CONFIDENCE,
    METRICS,
    Resamples,
    all_mean,
    auc,
    average_precision,
    class_mean,
    with_interval,
)

__all__ = ["CONFIDENCE", "compare", "composed", "flips", "row"]

Floats = NDArray[np.float64]


def composed(scores: Scores, real: str, fake: str) -> Floats:
    """Logits (N,) of reals under condition `real` and fakes under condition `fake`."""
    return np.where(scores.labels == Label.FAKE, scores.logits[fake], scores.logits[real])


def row(scores: Scores, name: str, logits: Floats, **more: Any) -> dict[str, Any]:
    """One condition: n, acc, ap, auc, and how the logits of either class moved from native.

    Keys: name, n, n_real, n_fake, acc, ap, auc, shift_real, shift_fake, auc_change, each metric as
    {value, low, high}. Images without a logit (NaN) are left out of all of it.
    """
    where = ~np.isnan(logits)
    draws = scores.resamples(where)
    return {"name": name, **more, **_figures(draws, logits[where], scores.logits[NATIVE][where])}


def _figures(draws: Resamples, logits: Floats, native: Floats) -> dict[str, Any]:
    fakes = int(draws.labels.sum())
    measured = {key: with_interval(draws.values(m, logits)) for key, m in METRICS.items()}
    moved = logits - native
    return {
        "n": len(logits),
        "n_real": len(logits) - fakes,
        "n_fake": fakes,
        **measured,
        "shift_real": with_interval(draws.values(class_mean(moved, 0), moved)),
        "shift_fake": with_interval(draws.values(class_mean(moved, 1), moved)),
        **compare(draws, logits, native),
    }


def compare(draws: Resamples, logits: Floats, reference: Floats) -> dict[str, Any]:
    """auc_change and ap_change from `reference` to `logits`, paired by draw."""
    return {
        "auc_change": with_interval(draws.values(auc, logits) - draws.values(auc, reference)),
        "ap_change": with_interval(
            draws.values(average_precision, logits) - draws.values(average_precision, reference)
        ),
    }


def flips(draws: Resamples, before: Floats, after: Floats) -> dict[str, Any]:
    """Share of images whose verdict (logit over 0) differs: all, and of either class."""
    flipped = ((before > 0) != (after > 0)).astype(np.float64)
    return {
        "flip_rate": with_interval(draws.values(all_mean(flipped), after)),
        "flip_rate_real": with_interval(draws.values(class_mean(flipped, 0), after)),
        "flip_rate_fake": with_interval(draws.values(class_mean(flipped, 1), after)),
    }
