"""Which images an epoch shows, and how often.

The plain epoch of https://arxiv.org/abs/2406.09398 shows each image once. A set in the wild has more
fakes than reals on one platform and none on another, so cells (class, then platform) may be given equal
shares; and a mixed set gives each of its sources a share of its own, of each class if those are balanced.
Within a cell every image comes up equally often, give or take one. Balancing decides what is shown; how it
is augmented it does not see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Balance = Literal["none", "class", "class-platform"]


@dataclass(frozen=True, slots=True)
class Cell:
    """Images drawn equally often, and the share of an epoch that they have together."""

    members: Indices
    share: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image stands: its source (from 0), its class and its platform."""

    source: int
    label: int
    platform: str


def cells_of(
    places: Sequence[Place], balance: Balance, weights: Mapping[int, float] | None = None
) -> list[Cell]:
    """The cells of images at `places`; shares sum to 1.

    Balanced classes have equal shares of the whole, whatever its sources are: a source of fakes alone takes
    from the fakes of the others, not from the reals.

    Args:
        places: one per image.
        balance: whether classes, and platforms within each class of a source, have equal shares.
        weights: of the sources, relative, within each class if balanced; None: as many as they have images.
    """
    tree = _grouped(places, balance)
    counts = {source: sum(map(len, _leaves(classes))) for source, classes in tree.items()}
    heavy = {s: (weights or {}).get(s, 1.0) if weights else float(counts[s]) for s in tree}
    labels = {label for classes in tree.values() for label in classes}
    totals = {c: sum(heavy[s] for s, classes in tree.items() if c in classes) for c in labels}
    return [
        Cell(
            np.array(members, dtype=np.intp),
            heavy[source] / totals[label] / len(labels) / len(cells),
        )
        for source, classes in tree.items()
        for label, cells in classes.items()
        for members in cells.values()
    ]


_Tree = dict[int, dict[int, dict[str, list[int]]]]


def _grouped(places: Sequence[Place], balance: Balance) -> _Tree:
    tree: _Tree = {}
    for index, at in enumerate(places):
        label = -1 if balance == "none" else at.label
        platform = at.platform if balance == "class-platform" else ""
        tree.setdefault(at.source, {}).setdefault(label, {}).setdefault(platform, []).append(index)
    return tree


def _leaves(classes: Mapping[int, Mapping[str, list[int]]]) -> list[list[int]]:
    return [members for cells in classes.values() for members in cells.values()]


def plan_epoch(cells: Sequence[Cell], total: int, rng: np.random.Generator) -> Indices:
    """The images of an epoch in the order they are shown, (total,), with repeats."""
    counts = shares_to_counts([cell.share for cell in cells], total)
    drawn = [_cycled(cell.members, n, rng) for cell, n in zip(cells, counts, strict=True)]
    order: Indices = rng.permutation(np.concatenate(drawn))
    return order


def shares_to_counts(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers near `shares` * `total` that sum to `total`: the largest remainders go up."""
    exact = np.array(shares) * total
    # what rounding alone keeps below a whole number is that number
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    return [int(count) for count in counts]


def _cycled(members: Indices, count: int, rng: np.random.Generator) -> Indices:
    rounds = -(-count // len(members))
    shuffled = [rng.permutation(members) for _ in range(rounds)]
    taken: Indices = np.concatenate([members[:0], *shuffled])[:count]
    return taken


def turns(plan: Indices) -> Indices:
    """How often the image of each row of `plan` came up before, (N,) from 0."""
    seen: dict[int, int] = {}
    out = np.empty(len(plan), dtype=np.intp)
    for row, index in enumerate(plan.tolist()):
        out[row] = seen.get(index, 0)
        seen[index] = int(out[row]) + 1
    return out
