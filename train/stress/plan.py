"""The nouns of a stress test: what is known of each image, what is done to it, and what came of it.

A test is data and two pure functions: `conditions` says which renditions of every picture are to be
scored, `measure` says what their scores mean. Reading, rendering and scoring happen once for all tests
together (`train.stress.run`), so a rendition that several tests ask for is made and scored once.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.labels import Label
from train.checkpoint import LoadedDetector
from train.scores import ScoredSet
from train.stress.coding import Coding
from train.stress.resampling import Resamples
from train.stress.tone import Tone
from train.transforms import Preprocessing

NATIVE = "native"
"""The key of the picture as it is."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One image file before it is decoded in full; without a `group` it is one of its own."""

    path: str
    digest: str
    label: Label
    platform: str
    group: str | None
    size: tuple[int, int]
    coding: Coding
    tone: Tone


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, upright RGB at its own size; `index` is its row in the plan."""

    index: int
    facts: Facts
    rgb: Image.Image
    seed: int

    def rng(self, key: str) -> np.random.Generator:
        """Random numbers that depend on the seed, the file's bytes and `key` alone."""
        return rng_of(self.seed, self.facts.digest, key)


def rng_of(seed: int, *parts: str) -> np.random.Generator:
    """A generator for one purpose, the same wherever and in whatever order it is asked for."""
    digest = hashlib.sha256("/".join((str(seed), *parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


Render = Callable[[Picture], Image.Image]


@dataclass(frozen=True, slots=True)
class Condition:
    """One rendition of every picture. Conditions of one `key` are one rendition, made once.

    `only` limits it to one class, `limit` to the first images of the sample; `fit` replaces the way
    the checkpoint fits a picture to its size, "none" feeds what was rendered as it is.
    """

    key: str
    render: Render
    only: Label | None = None
    limit: int | None = None
    fit: Literal["stretch", "crop", "native", "none"] | None = None

    def applies_to(self, index: int, facts: Facts) -> bool:
        """Whether the picture at `index` of the sample is rendered."""
        within = self.limit is None or index < self.limit
        return within and self.only in (None, facts.label)


@dataclass(frozen=True, slots=True)
class Plan:
    """The sampled images, any first part of which is stratified as well, and how they are fed."""

    images: tuple[Facts, ...]
    preprocessing: Preprocessing
    seed: int


@dataclass(frozen=True, slots=True)
class Rival:
    """Another checkpoint's logits (N,) of the native pictures."""

    name: str
    loaded: LoadedDetector
    logits: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Everything scored: `logits` (N,) by condition key, NaN where a condition does not apply.

    `pooled` are native logits (N,) under other poolings of the same patch logits.
    """

    plan: Plan
    name: str
    loaded: LoadedDetector
    images: tuple[Facts, ...]
    logits: Mapping[str, NDArray[np.float64]]
    pooled: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    rivals: tuple[Rival, ...] = ()
    draws: int = 1000

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) 0 real, 1 fake."""
        return np.array([int(facts.label) for facts in self.images], dtype=np.int64)

    def resamples(self, where: NDArray[np.bool_] | None = None) -> Resamples:
        """The draws that `evaluate` would make of the images, or of those at `where` (N,)."""
        kept = np.arange(len(self.images)) if where is None else np.flatnonzero(where)
        images = [self.images[row] for row in kept]
        scored = ScoredSet(
            paths=tuple(facts.path for facts in images),
            digests=tuple(facts.digest for facts in images),
            platforms=tuple(facts.platform for facts in images),
            labels=self.labels[kept],
            logits=np.zeros(len(images)),
            groups=tuple(facts.group for facts in images),
            grouping="",
            context={},
        )
        return Resamples.of(scored, draws=self.draws, seed=self.plan.seed)


@dataclass(frozen=True, slots=True)
class StressTest:
    """One line of `train.stress.TESTS`.

    `source` says where the test is from: a table or figure of https://arxiv.org/abs/2406.09398, or
    another reason. `needs` names what it cannot do without: "patches" (patch logits), "rivals" (other
    checkpoints). `figure` says how to draw its rows: "curve" over `x`, "dots", "grid" or none; `each`
    what one of them is about.
    """

    name: str
    title: str
    source: str
    conditions: Callable[[Plan], Sequence[Condition]]
    measure: Callable[[Scores], dict[str, Any]]
    needs: frozenset[str] = frozenset()
    figure: str = "dots"
    each: str = "pictures"


def untouched(picture: Picture) -> Image.Image:
    """The picture as it is."""
    return picture.rgb


AS_IT_IS = Condition(NATIVE, untouched)
"""The condition every other one is compared with."""
