"""From file facts to groups of images that are reported apart, and to weights that make files alike.

A detector may read the file and not the picture: then it is good where the classes differ in format,
quality or size and poor where they do not. Slices show where it is good. Matched weights answer what
it knows beyond that: within every cell of format, quality and size, reals and fakes weigh the same, so
that these facts say nothing of the label. No file is touched and no image scored again.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.metrics import Floats

UNKNOWN = "not known"
"""A fact that nobody stated, or that the file does not tell."""

QUALITIES = (
    (0, "JPEG below 70"),
    (70, "JPEG 70 to 84"),
    (85, "JPEG 85 to 94"),
    (95, "JPEG 95 to 100"),
)
SIZES = (
    (0, "below 512 px"),
    (512, "512 to 1023 px"),
    (1024, "1024 to 2047 px"),
    (2048, "2048 px and more"),
)
"""By the longer side."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of one image beside its pixels; None where it is not.

    `quality` is the luma quality of a JPEG, 1 to 100. `certainty` is the agreement of those who
    labelled it, 0 to 1.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    quality: int | None = None
    camera: bool | None = None
    certainty: float | None = None


def format_of(facts: ImageFacts) -> str:
    """The true format."""
    return facts.format or UNKNOWN


def quality_of(facts: ImageFacts) -> str:
    """The bin of JPEG quality; formats without one are named as such."""
    if facts.quality is None:
        return UNKNOWN if facts.format in (None, "JPEG", "MPO") else "no JPEG"
    return [name for least, name in QUALITIES if facts.quality >= least][-1]


def size_of(facts: ImageFacts) -> str:
    """The bin of the longer side."""
    if not facts.width or not facts.height:
        return UNKNOWN
    return [name for least, name in SIZES if max(facts.width, facts.height) >= least][-1]


def camera_of(facts: ImageFacts) -> str:
    """Whether a camera is named in the file."""
    if facts.camera is None:
        return UNKNOWN
    return "camera named" if facts.camera else "no camera named"


def certainty_of(facts: ImageFacts) -> str:
    """How far those who labelled it agreed."""
    if facts.certainty is None:
        return UNKNOWN
    return "all agreed" if facts.certainty >= 1 - 1e-9 else "some disagreed"


SLICERS: Mapping[str, Callable[[ImageFacts], str]] = {
    "format": format_of,
    "quality": quality_of,
    "size": size_of,
    "camera": camera_of,
    "certainty": certainty_of,
}
"""What is reported apart, by name. To add one: a function of `ImageFacts`, and a line here."""

MATCHED = ("format", "quality", "size")
"""The slicers whose cells matched weights are made in."""


def slice_rows(facts: Sequence[ImageFacts], by: str) -> dict[str, NDArray[np.intp]]:
    """The rows of the images of each value of slicer `by`, most images first; all unknown is none."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(facts):
        rows[SLICERS[by](one)].append(row)
    if set(rows) == {UNKNOWN}:
        return {}
    ordered = sorted(rows.items(), key=lambda pair: (pair[0] == UNKNOWN, -len(pair[1]), pair[0]))
    return {value: np.array(found, dtype=np.intp) for value, found in ordered}


def matched_weights(
    facts: Sequence[ImageFacts], platforms: Sequence[str], labels: NDArray[np.integer]
) -> Floats:
    """A weight per image, (N,), with which both classes have the same file facts on each platform.

    Within a cell the rarer class weighs one an image, the other as much in all; a cell with one class
    weighs nothing. It is the mean over all ways to draw equally many of both from each cell.
    """
    cells: dict[tuple[str, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for row, (one, platform) in enumerate(zip(facts, platforms, strict=True)):
        key = (platform, *(SLICERS[by](one) for by in MATCHED))
        cells[key][int(labels[row])].append(row)
    weights = np.zeros(len(labels))
    for real, fake in cells.values():
        kept = min(len(real), len(fake))
        for rows in (real, fake):
            weights[rows] = kept / len(rows) if rows else 0.0
    return weights
