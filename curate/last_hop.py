"""Which platform served a file: a guess from how the file is built, learnt from the catalog itself.

Every platform recompresses what is uploaded in its own way, so quantisation tables, scan, sampling,
markers and size nearly name it (of 850 files in three X archives 97 % are progressive and 78 % of
exactly IJG quality 85; of 127 in a Mastodon archive all are baseline and 98 % of quality 90). Which
structures a platform serves is counted over the images whose platform is known, from the finest
description to the coarsest, and the finest with enough support decides.

A guess is about the carrier, never the picture: it speaks for neither label, and nothing a label is
derived from may use it. An image never supports its own guess: it, everything else in its posts, and
its copies (same bytes, pixels or group) are one unit, counted once and left out for its members.
Where few units are built alike, or platforms share the structure, there is no guess.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.records import Image

LAST_HOP = "last-hop/1"
"""The kind of evidence is `last-hop`; this is the version of how it is found."""

MIN_SHARE = 0.8
"""A guess is made where the 90 % interval of the platform's share is all above this.

Eleven units without an exception are the fewest that do. Where it is all below, coarser descriptions
are not asked: enough is known, and it is divided.
"""

Z = 1.645
"""Of a 90 % interval."""

EDGES_PX = (64, 128, 256, 320, 480, 512, 540, 600, 640, 720, 750, 800, 828, 900, 960, 1024, 1080,
            1200, 1280, 1440, 1536, 1600, 1920, 2000, 2048, 2560, 3072, 4096, 8192)  # fmt: skip
"""Long edges at which platforms cap what they serve; those between two caps are one bucket."""


@dataclass(frozen=True, slots=True)
class Served:
    """One image as one post showed it. `group` is known copies; all three may be empty."""

    image: Image
    platform: str | None
    post: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Guess:
    """A guess, or none (`platform` is None) and why.

    `counts` is how many units of each platform are built like this one, most first, at the level of
    description named by `level`.
    """

    platform: str | None
    level: str
    counts: tuple[tuple[str, int], ...]

    @property
    def support(self) -> int:
        """Units built like this one."""
        return sum(n for _, n in self.counts)

    @property
    def detail(self) -> str:
        """The guess in one line."""
        said = ", ".join(f"{n} of {name}" for name, n in self.counts[:4]) or "none"
        return f"{self.platform or 'no guess'}: built like {said} ({self.level})"


Key = tuple[Hashable, ...]


def edge_bucket(image: Image) -> str | None:
    """The long edge where it is a known cap, else the caps it lies between; None if unknown."""
    if not image.width or not image.height:
        return None
    edge = max(image.width, image.height)
    if edge in EDGES_PX:
        return str(edge)
    at = bisect_left(EDGES_PX, edge)
    low = EDGES_PX[at - 1] if at else 0
    return f"{low}-{EDGES_PX[at]}" if at < len(EDGES_PX) else f"{low}-"


LEVELS = ("layout and size", "layout", "encoding and size", "encoding", "family")
"""Descriptions of how a file is built, the finest first. Each is asked in turn for support."""

Keys = tuple[Key, Key, Key, Key, Key]


def describe(image: Image) -> Keys:
    """How the file is built, at each of `LEVELS`."""
    scan = (image.format, image.jpeg_progressive, image.jpeg_subsampling)
    encoding = (*scan, image.jpeg_dqt_hash)
    named = (image.camera_make, image.camera_model, image.software)
    bare = image.orientation is None and not any(named)
    coding = (image.jpeg_huffman, image.jpeg_restart, image.jpeg_markers, image.icc)
    layout = (*encoding, *coding, bare, image.mode, image.alpha)
    edge = edge_bucket(image)
    return (*layout, edge), layout, (*encoding, edge), encoding, (*scan, image.jpeg_family)


@dataclass(slots=True)
class Model:
    """How many units of each platform are built in each way."""

    counts: dict[tuple[int, Key], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    platforms: set[str] = field(default_factory=set)

    def guess(self, image: Image, unit: Sequence[Served] = ()) -> Guess:
        """The platform that served a file built like `image`.

        Args:
            image: the file's facts.
            unit: the rows of its own unit among those that were counted, which do not count.
        """
        guess = Guess(None, "no other platform is known", ())
        if len(self.platforms) < 2:
            return guess
        others = [(row.platform, describe(row.image)) for row in unit]
        for at, key in enumerate(describe(image)):
            found = self.counts.get((at, key), Counter())
            own = {platform for platform, keys in others if keys[at] == key}
            rest = {p: n - (p in own) for p, n in found.items()}
            counts = sorted(((p, n) for p, n in rest.items() if n > 0), key=_most_first)
            guess, divided = _decide(LEVELS[at], tuple(counts))
            if guess.platform is not None or divided:
                break
        return guess


def _most_first(count: tuple[str, int]) -> tuple[int, str]:
    return -count[1], count[0]


def _decide(level: str, counts: tuple[tuple[str, int], ...]) -> tuple[Guess, bool]:
    """The guess that counts allow, and whether they rule one out."""
    support = sum(n for _, n in counts)
    low, high = share_interval(counts[0][1], support) if counts else (0.0, 1.0)
    return Guess(counts[0][0] if low >= MIN_SHARE else None, level, counts), high < MIN_SHARE


def share_interval(k: int, n: int) -> tuple[float, float]:
    """Wilson's 90 % interval of a share of k in n (JASA 1927, 22:209-212)."""
    p = k / n
    middle = p + Z * Z / (2 * n)
    half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)


def learn(rows: Sequence[Served], units: Sequence[int]) -> Model:
    """Count the structures of images whose platform is known; `units` as of `units_of`."""
    model = Model()
    for members in by_unit(rows, units).values():
        told = {(key, row.platform) for row in members for key in enumerate(describe(row.image))}
        for key, platform in told:
            if platform is not None:
                model.counts[key][platform] += 1
                model.platforms.add(platform)
    return model


def by_unit(rows: Sequence[Served], units: Sequence[int]) -> dict[int, list[Served]]:
    """The decodable rows of each unit."""
    found: dict[int, list[Served]] = {}
    for row, unit in zip(rows, units, strict=True):
        if row.image.error is None:
            found.setdefault(unit, []).append(row)
    return found


def units_of(rows: Sequence[Served]) -> list[int]:
    """A number per row, equal for images of one post and for copies of one picture."""
    first: dict[tuple[str, str], int] = {}
    edges = []
    for n, row in enumerate(rows):
        told = {"digest": row.image.digest, "pixels": row.image.pixels}
        told |= {"post": row.post, "group": row.group}
        edges += [(first.setdefault((k, v), n), n) for k, v in told.items() if v]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (len(rows), len(rows)))
    units: list[int] = connected_components(graph, directed=False)[1].tolist()
    return units


def guess_all(rows: Sequence[Served]) -> Iterator[tuple[Served, Guess]]:
    """A guess for each decodable row, from all rows outside of its own unit. Blind to their order."""
    units = units_of(rows)
    model, members = learn(rows, units), by_unit(rows, units)
    alone: dict[tuple[Keys, str | None], Guess] = {}
    for unit in members.values():
        for row in unit:
            if len(unit) > 1:
                yield row, model.guess(row.image, unit)
                continue
            built = (describe(row.image), row.platform)
            if built not in alone:
                alone[built] = model.guess(row.image, unit)
            yield row, alone[built]


def evaluate(rows: Sequence[Served]) -> dict[str, Any]:
    """How good the guesses are where the platform is known.

    `accuracy` is the share of right guesses among those made (None without any), `coverage` the share
    of images for which one is made; each image is guessed from others alone.
    """
    known = [(row, guess) for row, guess in guess_all(rows) if row.platform]
    made = [(row, guess) for row, guess in known if guess.platform]
    right = sum(row.platform == guess.platform for row, guess in made)
    return {
        "n": len(known),
        "guessed": len(made),
        "coverage": len(made) / len(known) if known else None,
        "accuracy": right / len(made) if made else None,
    }
