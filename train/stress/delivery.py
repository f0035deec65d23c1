"""Delivery: how many pictures get another verdict for nothing but the way they were delivered.

An AUC may hold while single verdicts flip: the same photograph can score 0.000 and 0.9999 after being
passed on, and a user sees one verdict, not a ranking. The renditions are those of `laundering`; which
picture flipped is in stress.parquet.
"""

from typing import Any

import numpy as np

from train.stress.laundering import chain_condition, conditions
from train.stress.metrics_of import flips
from train.stress.plan import NATIVE, Scores, StressTest
from train.stress.platforms import CHAINS, settings
from train.stress.resampling import share


def measure(scores: Scores) -> dict[str, Any]:
    """{rows, any, settings}: flips from native per chain, and pictures whose verdict changes in any."""
    native, draws = scores.logits[NATIVE], scores.resamples()
    rows = [
        {
            "name": " > ".join(chain),
            "n": len(native),
            **flips(draws, native, scores.logits[chain_condition(chain).key]),
        }
        for chain in CHAINS
    ]
    seen = np.stack([native, *(scores.logits[chain_condition(chain).key] for chain in CHAINS)])
    fake_in = np.mean(seen > 0, axis=0)
    unsteady = np.array((fake_in > 0) & (fake_in < 1), dtype=np.float64)
    together = {"n": len(native), **share(draws.mean(unsteady))}
    return {"rows": rows, "any": together, "settings": settings()}


TEST = StressTest(
    name="delivery",
    title="Verdicts that flip with delivery",
    source="verdict consistency over deliveries of one picture",
    conditions=conditions,
    measure=measure,
    figure="flips",
)
