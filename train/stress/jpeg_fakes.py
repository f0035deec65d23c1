"""JPEG bias: only the fakes are compressed; a detector that learnt "JPEG is real" collapses.

Source: table 4 of https://arxiv.org/abs/2406.09398 (NPR falls from 97.6 to 50.0 ACC). At quality 100
nothing is lost that an eye could see, so what moves there is the coding alone.
"""

from typing import Any

from schemas.labels import Label
from train.stress.jpeg_quality import rendition
from train.stress.metrics_of import composed, row
from train.stress.plan import NATIVE, Condition, Plan, Scores, StressTest

QUALITIES = (100, 90, 80, 70)


def conditions(plan: Plan) -> list[Condition]:
    """The fakes at each quality."""
    return [rendition(quality, only=Label.FAKE) for quality in QUALITIES]


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: native, then fakes at each quality beside native reals."""
    rows = [row(scores, "native", scores.logits[NATIVE])]
    for quality in QUALITIES:
        logits = composed(scores, NATIVE, rendition(quality).key)
        rows.append(row(scores, f"fakes JPEG {quality}", logits, quality=quality))
    return {"rows": rows}


TEST = StressTest(
    name="jpeg-fakes",
    title="Only the fakes saved as JPEG",
    source="arXiv 2406.09398, table 4",
    conditions=conditions,
    measure=measure,
)
