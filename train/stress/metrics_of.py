"""The rows that tests report: figures of one condition, each with n and interval, and differences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.labels import Label
from train.stress.plan import NATIVE, Scores
from train.stress.resampling import Resamples, amount, counts, mean_of, share

Floats = NDArray[np.float64]


def composed(scores: Scores, real: str, fake: str) -> Floats:
    """Logits (N,) of reals under condition `real` and fakes under condition `fake`."""
    return np.where(scores.labels == Label.FAKE, scores.logits[fake], scores.logits[real])


def row(
    scores: Scores, name: str, logits: Floats, *, reference: Floats | None = None, **more: Any
) -> dict[str, Any]:
    """One condition: its metrics, and how the logits of either class moved from native.

    Keys: name, n, n_real, n_fake, acc, ap, auc, auc_change and ap_change (from `reference`, native if
    None), shift_real, shift_fake, each metric as {value, low, high}; `platforms` with the metrics of each,
    and `mean`, the unweighted one over them. Images without a logit (NaN) are left out of all of it.
    """
    where = ~np.isnan(logits)
    native = scores.logits[NATIVE]
    draws = scores.resamples(where)
    against = (native if reference is None else reference)[where]
    moved = (logits - native)[where]
    return {
        "name": name,
        **more,
        **counts(draws.labels),
        **draws.compared(logits[where], against),
        "shift_real": amount(draws.mean(moved, draws.rows_of(Label.REAL))),
        "shift_fake": amount(draws.mean(moved, draws.rows_of(Label.FAKE))),
    }


def flips(draws: Resamples, before: Floats, after: Floats) -> dict[str, Any]:
    """Share of images whose verdict (logit over 0) differs.

    Keys: flip_rate (of all), flip_rate_real, flip_rate_fake; `platforms` with n and flip_rate of each, and
    `mean`, the unweighted one over them.
    """
    flipped = ((before > 0) != (after > 0)).astype(np.float64)
    each = {name: draws.mean(flipped, rows) for name, rows in draws.platforms.items()}
    return {
        "flip_rate": share(draws.mean(flipped)),
        "flip_rate_real": share(draws.mean(flipped, draws.rows_of(Label.REAL))),
        "flip_rate_fake": share(draws.mean(flipped, draws.rows_of(Label.FAKE))),
        "platforms": {
            name: {"n": len(rows), "flip_rate": share(each[name])}
            for name, rows in draws.platforms.items()
        },
        "mean": {"flip_rate": share(mean_of(list(each.values())))},
    }
