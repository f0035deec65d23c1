"""The 64 JPEG-grid offsets: every picture cropped by 0..7 pixels each way, and how its score moves.

LaDeDa9 has stride 8, the side of a JPEG block, so where its patches fall in the blocks is the same all
over a picture and changes with every crop. What moves in the same way for all pictures at one offset is
the phase of the grid; the rest of the spread is the pictures' own. Where the checkpoint resizes
pictures, blocks no longer are 8 pixels and the phase is blurred: `phase_seen` says.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.labels import Label
from train.stress.metrics_of import row
from train.stress.plan import Condition, Picture, Plan, Scores, StressTest
from train.stress.resampling import all_mean, class_mean, with_interval

BLOCK = 8

MAX_IMAGES = 64
"""Each costs 64 scores; the first of a stratified sample are a stratified sample."""

MIN_PX = 48
"""Smaller pictures are not moved: a patch of LaDeDa33 must fit."""

OFFSETS = tuple((dx, dy) for dy in range(BLOCK) for dx in range(BLOCK))

Floats = NDArray[np.float64]


def offset_condition(dx: int, dy: int, side: int | None = None) -> Condition:
    """Every picture without its first `dx` columns and `dy` rows; all offsets leave one size.

    With `side`, the centre of at most so many pixels a side, which is fed as it is: a native checkpoint
    would enlarge a picture that has become smaller than its size.
    """

    def render(picture: Picture) -> Image.Image:
        width, height = (length - BLOCK + 1 for length in picture.rgb.size)
        if min(width, height) < MIN_PX:  # too small to be moved: the same at all offsets
            return picture.rgb.resize((MIN_PX, MIN_PX)) if side else picture.rgb
        across, down = (width, height) if side is None else [min(side, width, height)] * 2
        left, top = (width - across) // 2 + dx, (height - down) // 2 + dy
        return picture.rgb.crop((left, top, left + across, top + down))

    return Condition(
        f"offset-{dx}-{dy}", render, limit=MAX_IMAGES, fit="none" if side is not None else None
    )


def conditions(plan: Plan) -> list[Condition]:
    """All 64."""
    side = plan.preprocessing.size if plan.preprocessing.fit == "native" else None
    return [offset_condition(dx, dy, side) for dx, dy in OFFSETS]


def measure(scores: Scores) -> dict[str, Any]:
    """{n, spread, sd, flip_rate, phase, map_real, map_fake, best, worst, phase_seen, rows}.

    `spread` is the mean over pictures of largest minus smallest logit, `phase` the share of the
    variance within pictures that the offset explains (chance: 1 / n per class), and the maps are
    mean deviations from each picture's own mean, [dy][dx], in logits.
    """
    every = np.stack([scores.logits[offset_condition(dx, dy).key] for dx, dy in OFFSETS], axis=1)
    where = np.array(np.isfinite(every).all(axis=1))
    every, draws = every[where], scores.resamples(where)
    spread, fake_in = np.ptp(every, axis=1), np.mean(every > 0, axis=1)
    flipped = np.array((fake_in > 0) & (fake_in < 1), dtype=np.float64)
    labels = scores.labels[where]
    at = [row(scores, f"{dx}, {dy}", scores.logits[offset_condition(dx, dy).key])
          for dx, dy in OFFSETS]  # fmt: skip
    ranked = sorted(at, key=lambda one: one["auc"]["value"])
    return {
        "n": int(where.sum()),
        "spread": with_interval(draws.values(all_mean(spread), spread)),
        "spread_real": with_interval(draws.values(class_mean(spread, Label.REAL), spread)),
        "spread_fake": with_interval(draws.values(class_mean(spread, Label.FAKE), spread)),
        "sd": with_interval(draws.values(all_mean(every.std(axis=1)), spread)),
        "flip_rate": with_interval(draws.values(all_mean(flipped), spread)),
        "phase": {label.name.lower(): phase_share(every[labels == label]) for label in Label},
        "map_real": phase_map(every[labels == Label.REAL]),
        "map_fake": phase_map(every[labels == Label.FAKE]),
        "best": ranked[-1],
        "worst": ranked[0],
        "phase_seen": _phase_seen(scores),
    }


def phase_map(logits: Floats) -> list[list[float]]:
    """Mean deviation from each picture's mean at every offset: (n, 64) to [dy][dx]."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    rows: list[list[float]] = centred.mean(axis=0).reshape(BLOCK, BLOCK).tolist()
    return rows


def phase_share(logits: Floats) -> dict[str, float]:
    """{share, chance}: of the variance within pictures (n, 64), what the offset alone explains."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    within = float(np.mean(centred**2))
    shared = float(np.mean(centred.mean(axis=0) ** 2))
    return {"share": shared / within if within > 0 else 0.0, "chance": 1 / len(logits)}


def _phase_seen(scores: Scores) -> str:
    """Whether the detector sees blocks of 8 pixels at all."""
    stride, side = scores.loaded.spec.stride, scores.plan.preprocessing.size
    if scores.plan.preprocessing.fit != "native":
        return f"pictures are resized to {side} px, so their blocks are 8 px only where they had that size"
    if stride % BLOCK == 0:
        return f"stride {stride}: all patches of a picture lie alike in its blocks"
    places = BLOCK // stride
    return f"stride {stride}: patches of a picture lie at {places} x {places} places in its blocks"


TEST = StressTest(
    name="jpeg-grid",
    title="64 crop offsets in the JPEG grid",
    source="stride 8 equals the JPEG block; offsets as in tests of grid-aligned detectors",
    conditions=conditions,
    measure=measure,
    figure="grid",
)
