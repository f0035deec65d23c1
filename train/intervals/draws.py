"""Every metric in a thousand draws of whole groups: the cluster bootstrap, for many subsets at once.

Groups are drawn with replacement (Davison and Hinkley 1997, section 3.8) within strata, those that hold the
same platforms and classes, so that every draw has as many groups of each as the set. Strata of few
groups, and those that hold one class by chance where most groups hold both, are joined to others. All
subsets (platforms, slices, two models) see the same draws: differences are paired, and it shows how
far platforms move together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.intervals.groups import Clusters
from train.metrics import Floats, Sample

DRAWS = 1000
"""Bootstrap draws: enough for the 2.5 % tails to a few thousandths."""

CHUNK_CELLS = 1 << 17
"""Counts held at once: what is under way stays in the processor's cache and bounded in memory."""


def draw_counts(clusters: Clusters, *, draws: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each group is drawn, (d, G) at a time, until there were `draws` draws.

    Each stratum has random numbers of its own, so that the draws do not depend on how many are made at
    a time.
    """
    strata = [np.flatnonzero(clusters.stratum == s) for s in range(int(clusters.stratum.max()) + 1)]
    sources = np.random.default_rng(seed).spawn(len(strata))
    step = max(1, CHUNK_CELLS // len(clusters.of_image))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        counts = np.empty((size, clusters.count), dtype=np.uint16)
        for rng, members in zip(sources, strata, strict=True):
            counts[:, members] = _multiplicities(rng, size, len(members))
        yield counts


def _multiplicities(rng: np.random.Generator, draws: int, members: int) -> NDArray[np.intp]:
    """How often each of `members` comes up when as many are drawn, (draws, members)."""
    picks = rng.integers(0, members, size=(draws, members))
    picks += np.arange(draws)[:, None] * members
    return np.bincount(picks.ravel(), minlength=draws * members).reshape(draws, members)


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the images: their rows (n,) in the whole, the images themselves, and their weights (n,)."""

    rows: NDArray[np.intp]
    sample: Sample
    weights: Floats | None = None


def bootstrap(
    subsets: Mapping[str, Subset], clusters: Clusters, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, Floats]]:
    """Every metric of every subset in every draw: {subset: {metric: (draws,)}}."""
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in subsets}
    for counts in draw_counts(clusters, draws=draws, seed=seed):
        for name, subset in subsets.items():
            parts[name].append(subset.sample.values(counts[:, clusters.of_image[subset.rows]]))
    return {
        name: {key: np.concatenate([p[key] for p in found]) for key in found[0]}
        for name, found in parts.items()
    }
