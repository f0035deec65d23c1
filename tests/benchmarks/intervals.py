"""How often the 95 % intervals of an evaluation hold the truth, in simulated worlds.

    python tests/benchmarks/intervals.py [--worlds 3000] [--draws 1000] [--only 0 5]

A world is a population of groups whose images share how easy they are; groups may hold both classes,
lie on several platforms, and be of very different size. The truth is its metric on some 200,000 images of
each platform, and their mean. Each of `--worlds` test sets drawn from it is evaluated as `wildrf evaluate`
does, and the share of intervals that hold the truth is printed per metric. The target is 95 % +- 2. It
cannot be met where most test sets of a world show no error at all, so that all of these have the same
interval: it holds the truth, or not, of all of them.
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
    """One population.

    Attributes:
        groups: per class and platform, in a test set.
        size: images per group, uniform from 1 to this.
        separation: of the classes, by platform.
        shared: part of the variance, how easy they are, that the images of a group share.
        both: share of the groups whose images are of both classes.
        across: share of the groups whose images lie on all platforms.
        heavy: times as many images as others have in groups of `both` and `across`.
        skewed: sizes fall with their square instead.
        scale: of the logits; at twice the separation, without shared variance, they are calibrated.
    """

    groups: tuple[int, ...]
    size: int
    separation: tuple[float, ...]
    shared: float
    both: float = 0.0
    across: float = 0.0
    heavy: int = 1
    skewed: bool = False
    scale: float = 1.5


WORLDS = (
    World((160,), 1, (1.0,), 0.0),
    World((750,), 1, (1.2,), 0.0),
    World((60,), 1, (1.6,), 0.0),
    World((100,), 3, (0.7,), 0.5),
    World((40,), 4, (0.7,), 0.5),
    World((60,), 2, (0.7,), 0.5, both=0.02, heavy=20),
    World((60,), 4, (0.7,), 0.5, both=1.0),
    World((60, 40), 2, (0.9, 0.6), 0.5, both=0.02, across=0.02, heavy=10),
    World((60, 60), 4, (0.8, 0.8), 0.5, across=0.5),
    World((80,), 20, (0.7,), 0.3, both=0.1, skewed=True),
    World((20, 400), 1, (2.2, 1.6), 0.0),
    World((300,), 1, (0.8,), 0.0, scale=1.6),
    World((100,), 1, (0.8,), 0.0, scale=6.0),
    World((20, 20), 1, (0.7, 0.7), 0.0),
    World((5,), 60, (0.8,), 0.2),
    World((60,), 2, (0.7,), 0.0, both=0.02, heavy=20),
    World((8,), 40, (0.8,), 0.6),
    World((10,), 30, (0.8,), 0.9),
    World((100,), 6, (0.8,), 0.9),
)


def draw(world, rng, groups):
    """Logits, labels, platforms and group numbers of a test set with `groups` groups of each class."""
    cells = [(p, y, n) for p, n in enumerate(groups) for y in (0, 1)]
    counts = [n for _, _, n in cells]
    home, label = (np.repeat([cell[k] for cell in cells], counts) for k in (0, 1))
    place = np.concatenate([np.arange(n) / n for n in counts])
    sizes = rng.integers(1, world.size + 1, len(home))
    if world.skewed:
        sizes = np.minimum(rng.zipf(2.0, len(home)), world.size)
    mixed, spread = place < world.both, place >= 1 - world.across
    sizes *= np.where(mixed | spread, world.heavy, 1)
    group = np.repeat(np.arange(len(home)), sizes)
    turn, move = rng.integers(0, 2, len(group)), rng.integers(0, len(groups), len(group))
    labels = np.where(mixed[group], turn, label[group])
    platforms = np.where(spread[group], move, home[group])
    common = rng.normal(size=len(home))[group] * np.sqrt(world.shared)
    own = rng.normal(size=len(group)) * np.sqrt(1 - world.shared)
    sign = 2 * labels - 1
    easy = np.array(world.separation)[platforms] + common
    return world.scale * (sign * easy + own), labels, platforms, group


def scored(logits, labels, platforms, group):
    """As an evaluation holds them."""
    names = tuple(str(k) for k in range(len(labels)))
    groups = tuple(map(str, group))
    return ScoredSet(names, names, tuple(map(str, platforms)), labels, logits, groups, "drawn", {})


def truth_of(world, rng):
    """Each metric of the population, by platform and in the mean."""
    parts = len(world.groups)
    groups = max(20_000, 2 * POPULATION // (world.size + 1))
    logits, labels, platforms, _ = draw(world, rng, (groups,) * parts)
    found = {
        str(p): Sample(logits[platforms == p], labels[platforms == p]).point() for p in range(parts)
    }
    known = [name for name in NAMES if found["0"][name] is not None]
    mean = {name: np.mean([point[name] for point in found.values()]) for name in known}
    return {part: {n: point[n] for n in known} for part, point in {**found, "mean": mean}.items()}


def coverage(world, *, worlds, draws, seed=0):
    """Share of test sets whose interval holds the truth, by part and metric."""
    rng = np.random.default_rng(seed)
    truth = truth_of(world, rng)
    hits = {part: dict.fromkeys(point, 0) for part, point in truth.items()}
    for k in range(worlds):
        found = measure(scored(*draw(world, rng, world.groups)), Asked(draws=draws, seed=k))
        for part, point in truth.items():
            ends = flat((found["platforms"] | {"mean": found["mean"]})[part]["ci"])
            for name, value in point.items():
                hits[part][name] += ends[name][0] <= value <= ends[name][1]
    return {part: {n: k / worlds for n, k in found.items()} for part, found in hits.items()}


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
    parser.add_argument("--only", type=int, nargs="*", help="numbers of worlds")
    asked = parser.parse_args()
    tell_speed()
    for number, world in enumerate(WORLDS):
        if asked.only and number not in asked.only:
            continue
        print(number, world)
        for part, found in coverage(world, worlds=asked.worlds, draws=asked.draws).items():
            if part == "mean" or len(world.groups) > 1:
                print(f"  {part}: " + ", ".join(f"{n} {share:.1%}" for n, share in found.items()))


if __name__ == "__main__":
    main()
