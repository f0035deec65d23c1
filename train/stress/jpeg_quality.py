"""JPEG robustness: all pictures compressed, quality 100 down to 30.

Source: figure 5b of https://arxiv.org/abs/2406.09398. A curve that rises with compression, or scores of
reals that follow quality alone, point to a detector of codecs (https://arxiv.org/abs/2606.20488).
"""

from typing import Any

from PIL import Image

from schemas.labels import Label
from train.stress.coding import save_jpeg
from train.stress.metrics_of import row
from train.stress.plan import NATIVE, Condition, Picture, Plan, Scores, StressTest

QUALITIES = tuple(range(100, 20, -10))


def rendition(quality: int, only: Label | None = None) -> Condition:
    """Every picture (of one class) as baseline JPEG 4:2:0 of an IJG quality."""

    def render(picture: Picture) -> Image.Image:
        return save_jpeg(picture.rgb, quality)

    return Condition(f"jpeg-{quality}", render, only=only)


def conditions(plan: Plan) -> list[Condition]:
    """Everything at each quality."""
    return [rendition(quality) for quality in QUALITIES]


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: native, then each quality as `x`."""
    rows = [row(scores, "native", scores.logits[NATIVE])]
    for quality in QUALITIES:
        logits = scores.logits[rendition(quality).key]
        rows.append(row(scores, f"JPEG {quality}", logits, x=quality))
    return {"rows": rows, "x_label": "JPEG quality (IJG), all images"}


TEST = StressTest(
    name="jpeg-quality",
    title="All images saved as JPEG",
    source="arXiv 2406.09398, figure 5b",
    conditions=conditions,
    measure=measure,
    figure="curve",
)
