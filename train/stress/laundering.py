"""Laundering: the metrics after pictures went through one platform, or were passed on through several.

Both classes alike. Settings: `train.stress.platforms`. A set that was collected from platforms went
through one already; this is what another does.
"""

from typing import Any

from PIL import Image

from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Condition, Picture, Plan, Scores, StressTest
from train.stress.platforms import CHAINS, deliver, settings


def chain_condition(chain: tuple[str, ...]) -> Condition:
    """Every picture after `chain`."""

    def render(picture: Picture) -> Image.Image:
        return deliver(picture.rgb, chain)

    return Condition("-".join(("via", *chain)), render)


def conditions(plan: Plan) -> list[Condition]:
    """Each chain."""
    return [chain_condition(chain) for chain in CHAINS]


def measure(scores: Scores) -> dict[str, Any]:
    """{rows, settings}: native, then each chain."""
    rows = [row(scores, "native", scores.logits[NATIVE])]
    for chain in CHAINS:
        logits = scores.logits[chain_condition(chain).key]
        rows.append(row(scores, " > ".join(chain), logits, hops=len(chain)))
    return {"rows": rows, "settings": settings()}


TEST = StressTest(
    name="laundering",
    title="After platforms",
    source="platform renditions; the need is shown in arXiv 2211.00680",
    conditions=conditions,
    measure=measure,
)
