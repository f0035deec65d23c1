"""The 64 JPEG-grid offsets: every picture cropped by 0..7 pixels each way, and how its score moves.

LaDeDa9 has stride 8, the side of a JPEG block, so where its patches fall in the blocks is the same all
over a picture and changes with every crop. What moves in the same way for all pictures at one offset is
the phase of the grid; the rest of the spread is the pictures' own. Where the checkpoint resizes
pictures, blocks no longer are 8 pixels and the phase is blurred: `phase_seen` says.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.labels import Label
from train.metrics import roc_auc
from train.stress.metrics_of import row
from train.stress.plan import Condition, Picture, Plan, Scores, StressTest
from train.stress.resampling import Resamples, amount, share
from train.tiles import TILE

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
    """All 64; of a picture that is fed whole, the centre: 64 copies of all of it would fill the memory."""
    sides = {"native": plan.preprocessing.size, "whole": max(TILE, plan.preprocessing.size)}
    side = sides.get(plan.preprocessing.fit)
    return [offset_condition(dx, dy, side) for dx, dy in OFFSETS]


def measure(scores: Scores) -> dict[str, Any]:
    """{n, spread, sd, flip_rate, phase, map_real, map_fake, best, worst, phase_seen}.

    `spread` is the mean over pictures of largest minus smallest logit, `phase` the share of the
    variance within pictures that the offset explains (chance: 1 / n per class), and the maps are
    mean deviations from each picture's own mean, [dy][dx], in logits. Where a class is missing among
    the pictures that are moved, there is only {n, figure, words}.
    """
    at = {
        f"{dx}, {dy}": scores.logits.get(offset_condition(dx, dy).key, _none(scores))
        for dx, dy in OFFSETS
    }
    every = np.stack(list(at.values()), axis=1)
    where = np.array(np.isfinite(every).all(axis=1))
    labels = scores.labels[where]
    if len(np.unique(labels)) < len(Label):
        words = f"not measured: one class is missing among the first {MAX_IMAGES} pictures"
        return {"n": int(where.sum()), "figure": "words", "words": words}
    return {
        "n": int(where.sum()),
        **_spreads(scores.resamples(where), every[where]),
        "phase": {
            label.name.lower(): phase_share(every[where][labels == label]) for label in Label
        },
        "map_real": phase_map(every[where][labels == Label.REAL]),
        "map_fake": phase_map(every[where][labels == Label.FAKE]),
        **_extremes(scores, at, where),
        "phase_seen": _phase_seen(scores),
    }


def _none(scores: Scores) -> Floats:
    return np.full(len(scores.images), np.nan)


def _spreads(draws: Resamples, every: Floats) -> dict[str, Any]:
    """How far the logits (n, 64) of a picture are apart, and how often its verdict flips."""
    spread, fake_in = np.ptp(every, axis=1), np.mean(every > 0, axis=1)
    flipped = np.array((fake_in > 0) & (fake_in < 1), dtype=np.float64)
    return {
        "spread": amount(draws.mean(spread), least=0.0),
        "spread_real": amount(draws.mean(spread, draws.rows_of(Label.REAL)), least=0.0),
        "spread_fake": amount(draws.mean(spread, draws.rows_of(Label.FAKE)), least=0.0),
        "sd": amount(draws.mean(every.std(axis=1)), least=0.0),
        "flip_rate": share(draws.mean(flipped)),
    }


def _extremes(scores: Scores, at: Mapping[str, Floats], where: NDArray[np.bool_]) -> dict[str, Any]:
    """The rows of the offsets with the highest and the lowest AUC."""
    ranked = sorted(at, key=lambda name: roc_auc(at[name][where], scores.labels[where]))
    return {
        "best": row(scores, ranked[-1], at[ranked[-1]]),
        "worst": row(scores, ranked[0], at[ranked[0]]),
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
    if scores.plan.preprocessing.fit not in ("native", "whole"):
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
