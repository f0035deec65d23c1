"""Where a detector looks: for a few test images, what it was given and the map of its patch logits.

Chosen by rule, not by eye: on each platform the median right answer of either label, and the surest
mistake on each label. All maps share one scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.report.contact_sheet import Couple, Tile, data_uri

if TYPE_CHECKING:
    from train.checkpoint import LoadedDetector
    from train.explain import View

QUANTILE = 0.97
"""Of |patch logit| over all maps shown: full colour, so that one wild patch does not pale the rest."""

SHOWN_PX = 1024
"""Longest side of a picture and its map on the page."""


@dataclass(frozen=True, slots=True)
class Maps:
    """What the section shows: the couples, and their scale in logits."""

    couples: list[Couple]
    limit: float
    seen: str
    patch_px: int
    pooled: str


def heat_maps(checkpoint: Path, release: Path, scores: list[dict[str, Any]]) -> Maps:
    """The maps of the images that `chosen` names among `scores`."""
    from PIL import Image

    from train.checkpoint import load_detector
    from train.data import decode_all
    from train.explain import look

    loaded = load_detector(checkpoint)
    picked = list(chosen(scores))
    decoded = decode_all(
        [release / row["path"] for row, _ in picked], loaded.preprocessing, workers=1
    )
    shown = [
        (row, why, look(loaded, Image.fromarray(found.pixels), own_size=True))
        for (row, why), found in zip(picked, decoded, strict=True)
        if found.pixels is not None
    ]
    strengths = [np.abs(view.patches).ravel() for *_, view in shown] or [np.ones(1)]
    limit = max(float(np.quantile(np.concatenate(strengths), QUANTILE)), 1e-6)
    couples = [_couple(row, why, view, loaded, limit) for row, why, view in shown]
    pooled = pooled_by(loaded.model.pooling)
    return Maps(couples, limit, _seen(loaded), loaded.spec.receptive_field, pooled)


def pooled_by(pooling: str) -> str:
    """What becomes of the logits of patches, in words: mean, max, or topN, the mean of the highest N %."""
    if pooling.startswith("top"):
        return f"mean of the highest {pooling.removeprefix('top')} % of them"
    return {"mean": "mean of them", "max": "maximum of them"}[pooling]


def chosen(scores: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of the scores table and why each is shown."""
    for platform in sorted({row["platform"] for row in scores}):
        for label in (0, 1):
            right = [
                row
                for row in scores
                if (row["platform"], row["label"]) == (platform, label) and _right(row)
            ]
            if right:
                ordered = sorted(right, key=lambda row: (abs(row["logit"]), row["path"]))
                yield ordered[len(ordered) // 2], "a typical right answer"
    for label in (0, 1):
        wrong = [row for row in scores if row["label"] == label and not _right(row)]
        if wrong:
            yield max(wrong, key=lambda row: (abs(row["logit"]), row["path"])), "its surest mistake"


def _right(row: dict[str, Any]) -> bool:
    return bool((row["logit"] > 0) == (row["label"] == 1))


def _couple(
    row: dict[str, Any], why: str, view: "View", loaded: "LoadedDetector", limit: float
) -> Couple:
    from train.explain import lay_map

    seen = view.picture.copy()
    seen.thumbnail((SHOWN_PX, SHOWN_PX))
    laid = lay_map(view, loaded, limit, SHOWN_PX)
    truth, answer = ("generated" if fake else "real" for fake in (row["label"], row["logit"] > 0))
    told = f"{why[0].upper()}{why[1:]}: {truth}, called {answer} with logit {row['logit']:+.2f}"
    return Couple(Tile(row["path"], data_uri(seen)), Tile("patch logits", data_uri(laid)), told)


def _seen(loaded: "LoadedDetector") -> str:
    """What part of a picture the detector is given, in words."""
    side = loaded.preprocessing.size
    return {
        "native": f"the centre {side} x {side} pixels of each picture, as they are",
        "crop": f"the centre square of each picture, resized to {side} x {side}",
        "stretch": f"the whole picture, resized to {side} x {side}",
        "whole": f"the whole picture, as it is (enlarged where a side is below {side})",
    }[loaded.preprocessing.fit]
