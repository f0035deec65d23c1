"""How often the 95 % intervals of an evaluation hold the truth, in simulated worlds.

    python tests/benchmarks/intervals.py [--worlds 3000] [--draws 1000]

A world is a population of groups whose images share a part of their score; the truth is its metric on
200,000 images. Each of `--worlds` test sets drawn from it is evaluated as `wildrf evaluate` does, and
the share of intervals that hold the truth is printed per metric. The target is 95 % +- 2, except for the
calibration error and for the true positive rate at a rate that fewer than five reals exceed: their
intervals are conservative, 93 % or more.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from train.measure import Asked, measure, report
from train.metrics import NAMES, Sample
from train.scores import ScoredSet

POPULATION = 100_000


@dataclass(frozen=True)
class World:
    """Groups per class in a test set, images per group at most, separation, what a group shares."""

    groups: int
    size: int
    separation: float
    shared: float


WORLDS = (
    World(160, 1, 1.0, 0.0),
    World(750, 1, 1.2, 0.0),
    World(60, 1, 1.6, 0.0),
    World(100, 3, 0.7, 0.5),
    World(40, 4, 0.7, 0.5),
)


def draw(world, rng, groups):
    """Logits, labels and group numbers of a test set with `groups` groups of each class."""
    sizes = rng.integers(1, world.size + 1, 2 * groups)
    group = np.repeat(np.arange(2 * groups), sizes)
    labels = (group >= groups).astype(np.int64)
    common = rng.normal(size=2 * groups)[group] * np.sqrt(world.shared)
    own = rng.normal(size=len(group)) * np.sqrt(1 - world.shared)
    return 1.5 * (world.separation * (2 * labels - 1) + common + own), labels, group


def scored(logits, labels, group):
    """As an evaluation holds them."""
    names = tuple(str(k) for k in range(len(labels)))
    return ScoredSet(
        names, names, ("all",) * len(labels), labels, logits, tuple(map(str, group)), "drawn", {}
    )


def coverage(world, *, worlds, draws, seed=0):
    """Share of test sets whose interval holds the truth, by metric."""
    rng = np.random.default_rng(seed)
    truth = Sample(*draw(world, rng, POPULATION)[:2]).point()
    hits = dict.fromkeys((n for n in NAMES if truth[n] is not None), 0)
    for k in range(worlds):
        found = measure(scored(*draw(world, rng, world.groups)), Asked(draws=draws, seed=k))
        intervals = flat(found["platforms"]["all"]["ci"])
        for name in hits:
            low, high = intervals[name]
            hits[name] += low <= truth[name] <= high
    return {name: count / worlds for name, count in hits.items()}


def flat(nested):
    """Intervals by the name of the metric."""
    rates = {f"tpr_at_fpr_{rate}": ends for rate, ends in nested["tpr_at_fpr"].items()}
    return {**{k: v for k, v in nested.items() if k != "tpr_at_fpr"}, **rates}


def tell_speed():
    """Seconds for a thousand draws of 3,000 images, here and with each draw ranked anew."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 1500)
    logits = rng.normal(labels)
    began = time.perf_counter()
    report(logits, labels, draws=1000)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(50):
        rows = rng.integers(0, 3000, 3000)
        Sample(logits[rows], labels[rows]).point()
    anew = 20 * (time.perf_counter() - began)
    print(f"1,000 draws of 3,000 images: {ours:.2f} s; ranked anew each time: {anew:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    tell_speed()
    for world in WORLDS:
        found = coverage(world, worlds=asked.worlds, draws=asked.draws)
        print(world)
        for name, share in found.items():
            print(f"  {name:18s} {share:.1%}")


if __name__ == "__main__":
    main()
