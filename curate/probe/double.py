"""Whether a JPEG was a JPEG before: the gaps and peaks that two quantisations leave in coefficients.

A coefficient that was a multiple of one step and is rounded to another falls on some values often and on
others never, so its histogram gets a period (Lukas and Fridrich 2003, "Estimation of Primary Quantization
Matrix in Double Compressed JPEG Images"). Once compressed, it falls smoothly.

Needs the package jpeglib, which gives the coefficients as the file has them; None where it is not installed.
To read them costs many times what all other facts do, so it is an extra of its own.
"""

import importlib
import tempfile
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import Image

MODES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
"""Rows and columns of the coefficients looked at: low, so that many are not zero."""

LARGEST_VALUE = 24
LEAST_COUNT = 300
MOST_PIXELS = 1 << 24


def is_readable(image: Image) -> bool:
    """Whether libjpeg can be given the file: a whole one of the usual kind that has decoded already."""
    return (
        image.format in {"JPEG", "MPO"}
        and image.error is None
        and image.truncated is False
        and image.lossless is False
        and image.bit_depth == 8
        and image.jpeg_huffman != "arithmetic"
        and image.jpeg_subsampling in PLAIN
        and (image.width or 0) * (image.height or 0) <= MOST_PIXELS
    )


PLAIN = frozenset({"4:4:4", "4:2:2", "4:2:0", "4:4:0", "gray"})


def roughness(data: bytes) -> float | None:
    """How far histograms of coefficients are from smooth: under 0.5 of one compression, 1 to 2 of two.

    The mean of the three roughest of nine. Seen only where the first compression was the coarser one.

    Args:
        data: a JPEG that decodes; damaged ones may end the process in libjpeg.
    """
    library = _library()
    if library is None:
        return None
    try:
        # libjpeg reads by name.
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(data)
            file.flush()
            luma = np.asarray(library.read_dct(file.name).Y)
    except Exception:  # coded in a way that it does not read
        return None
    return of_coefficients(luma)


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        return importlib.import_module("jpeglib")
    except ImportError:
        return None


def of_coefficients(luma: NDArray[Any]) -> float | None:
    """The measure, of (rows, columns, 8, 8) quantised coefficients; None with too few that are not zero."""
    found = [_deviation(luma[:, :, row, column]) for row, column in MODES]
    told = sorted(value for value in found if value is not None)
    return round(float(np.mean(told[-3:])), 3) if len(told) >= 3 else None


def _deviation(values: NDArray[Any]) -> float | None:
    """Sum over the values of how far a count is from the mean of its neighbours, beyond chance."""
    sizes = np.minimum(np.abs(values.ravel().astype(np.int64)), LARGEST_VALUE)
    counts = np.bincount(sizes, minlength=LARGEST_VALUE + 1)[1:LARGEST_VALUE].astype(np.float64)
    if counts.sum() < LEAST_COUNT:
        return None
    own, around = counts[1:-1], (counts[:-2] + counts[2:]) / 2
    chance = np.sqrt((own + around / 2) * 2 / np.pi)  # the mean magnitude of a normal deviate
    return float((np.abs(own - around) - chance).clip(0).sum() / counts.sum())
