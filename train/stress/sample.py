"""Which images of a set are used, and what is known of each before it is decoded in full.

With fewer images asked for than there are, a sample is drawn: within each platform and class by hash of
path and seed, then platforms and classes in proportion; a class that is rare comes more often, until there is
none left. The first images of a sample are themselves such a sample, so that a costly test may stop early.
"""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from train.data import MAX_PIXELS, Item, Skipped, quiet_decoder
from train.evaluate import platform_of
from train.stress.coding import coding_of
from train.stress.plan import Facts
from train.stress.tone import tone_of

RULE = "in proportion to platform and class, a rare class a fifth or more, by hash of path and seed"

RARE = 0.25
"""A class below this share of the images comes as often as if it had it, beside all of the other: a fifth."""


def stratified(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """`count` of `items` (all if None), in an order whose every beginning is stratified.

    Of two or more, one is of each class that is there.
    """
    strata: dict[tuple[str, int], list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda i: (_hash(seed, i.path), i.path)):
        strata[platform_of(item), int(item.label)].append(item)
    of_class = Counter(int(item.label) for item in items)
    more = {label: max(1.0, RARE * len(items) / n) for label, n in of_class.items()}
    placed = [
        ((rank + 0.5) / (len(members) * more[stratum[1]]), stratum, item)
        for stratum, members in sorted(strata.items())
        for rank, item in enumerate(members)
    ]
    placed.sort(key=lambda entry: entry[:2])
    return _both_first([item for *_, item in placed])[:count]


def _both_first(items: list[Item]) -> list[Item]:
    """`items` with the first of the class that comes later moved to the second place."""
    later = next((k for k, item in enumerate(items) if item.label != items[0].label), 1)
    return [*items[:1], *items[later : later + 1], *items[1:later], *items[later + 1 :]]


def _hash(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}/{path}".encode(errors="surrogateescape")).digest()


def describe_sample(chosen: Iterable[Facts], found: Sequence[Item]) -> dict[str, Any]:
    """{images, of, rule, splits: {split: images}, strata: {platform: {real, fake}}} for the record."""
    rows = list(chosen)
    split_of = {item.path: "none" if item.split is None else item.split.value for item in found}
    splits = Counter(split_of[facts.path] for facts in rows)
    counts = Counter((facts.platform, facts.label.name.lower()) for facts in rows)
    strata: dict[str, dict[str, int]] = defaultdict(dict)
    for (platform, label), count in sorted(counts.items()):
        strata[platform][label] = count
    return {
        "images": len(rows),
        "of": len(found),
        "rule": RULE,
        "splits": dict(sorted(splits.items())),
        "strata": dict(strata),
    }


def survey(
    root: Path,
    items: Sequence[Item],
    *,
    workers: int,
    groups: Mapping[str, str | None] | None = None,
) -> tuple[tuple[Facts, ...], list[Skipped]]:
    """The facts of every item, in order; and those that do not open, with the reason.

    `groups` tells the group of each path.
    """
    known = groups or {}

    def look(item: Item) -> Facts | Skipped:
        return _facts(root, item, known.get(item.path))

    with quiet_decoder(), ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(look, items))
    kept = tuple(row for row in rows if isinstance(row, Facts))
    return kept, [row for row in rows if isinstance(row, Skipped)]


def _facts(root: Path, item: Item, group: str | None) -> Facts | Skipped:
    try:
        content = (root / item.path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with open_image(content) as image:
            size, coding, tone = image.size, coding_of(image), tone_of(image)
    except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
        return Skipped(item.path, why(error))
    return Facts(item.path, digest, item.label, platform_of(item), group, size, coding, tone)


def open_image(content: bytes) -> Image.Image:
    """An image of no more pixels than is safe.

    Raises:
        ValueError: if it has more.
    """
    image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, over the limit {MAX_PIXELS}")
    return image


def why(error: Exception, what: str = "does not decode") -> str:
    """One line without the address of the buffer, which differs from run to run."""
    reason = " ".join(str(error).split()).split(" <_io.BytesIO")[0]
    return f"{what}: {reason or type(error).__name__}"
