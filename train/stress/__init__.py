"""Stress tests of a detector. To add one: write its file, add its line here.

A test is a `StressTest`: which renditions of every picture are scored, and what their scores mean. All
tests of a run share one decoding and one scoring of each rendition (`train.stress.run.stress`); the
generic tests hold every entry of the table to the same promises. May import: schemas and train.
"""

from train.stress import (
    counterfactuals,
    degradations,
    delivery,
    efficiency,
    jpeg_fakes,
    jpeg_grid,
    jpeg_quality,
    laundering,
    patch_size,
    pooling,
    preprocessing,
    representation,
)
from train.stress.plan import StressTest

__all__ = ["TESTS", "StressTest"]

TESTS: dict[str, StressTest] = {
    "counterfactuals": counterfactuals.TEST,
    "jpeg-fakes": jpeg_fakes.TEST,
    "jpeg-quality": jpeg_quality.TEST,
    "degradations": degradations.TEST,
    "laundering": laundering.TEST,
    "delivery": delivery.TEST,
    "jpeg-grid": jpeg_grid.TEST,
    "preprocessing": preprocessing.TEST,
    "pooling": pooling.TEST,
    "patch-size": patch_size.TEST,
    "representation": representation.TEST,
    "efficiency": efficiency.TEST,
}
