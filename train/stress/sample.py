"""Which images of a set are used, and what is known of each before it is decoded in full.

With fewer images asked for than there are, a sample is drawn: within each platform and class by hash of
path and seed, then platforms and classes in proportion. The first images of a sample are themselves
such a sample, so that a costly test may stop early.
"""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from schemas.layout import MANIFEST
from train.data import Item, Skipped, quiet_decoder
from train.evaluate import platform_of
from train.stress.coding import coding_of
from train.stress.plan import Facts
from train.stress.tone import tone_of
from train.transforms import require_pixels

RULE = "in proportion to platform and class, within each by hash of path and seed"


def stratified(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """`count` of `items` (all if None), in an order whose every beginning is stratified."""
    strata: dict[tuple[str, int], list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda i: (_hash(seed, i.path), i.path)):
        strata[platform_of(item), int(item.label)].append(item)
    placed = [
        ((rank + 0.5) / len(members), stratum, item)
        for stratum, members in sorted(strata.items())
        for rank, item in enumerate(members)
    ]
    placed.sort(key=lambda entry: entry[:2])
    return [item for *_, item in placed][:count]


def _hash(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}/{path}".encode()).digest()


def describe_sample(chosen: Iterable[Facts], found: Sequence[Item]) -> dict[str, Any]:
    """{images, of, rule, strata: {platform: {real, fake}}} for the record."""
    rows = list(chosen)
    counts = Counter((facts.platform, facts.label.name.lower()) for facts in rows)
    strata: dict[str, dict[str, int]] = defaultdict(dict)
    for (platform, label), count in sorted(counts.items()):
        strata[platform][label] = count
    return {"images": len(rows), "of": len(found), "rule": RULE, "strata": dict(strata)}


def survey(
    root: Path, items: Sequence[Item], *, workers: int
) -> tuple[tuple[Facts, ...], list[Skipped]]:
    """The facts of every item, in order; and those that do not open, with the reason."""
    groups = groups_of(root)

    def look(item: Item) -> Facts | Skipped:
        return _facts(root, item, groups.get(item.path))

    with quiet_decoder(), ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(look, items))
    kept = tuple(row for row in rows if isinstance(row, Facts))
    return kept, [row for row in rows if isinstance(row, Skipped)]


def groups_of(root: Path) -> dict[str, str]:
    """The group of each path, where a release's manifest names it; else none."""
    manifest = root / MANIFEST
    if not manifest.is_file():
        return {}
    if not {"path", "group_id"} <= set(pq.read_schema(manifest).names):
        return {}
    rows = pq.read_table(manifest, columns=["path", "group_id"]).to_pylist()
    return {row["path"]: row["group_id"] for row in rows if row["group_id"]}


def _facts(root: Path, item: Item, group: str | None) -> Facts | Skipped:
    try:
        content = (root / item.path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with open_image(content) as image:
            size, coding, tone = image.size, coding_of(image), tone_of(image)
    except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
        return Skipped(item.path, why(error))
    return Facts(
        item.path, digest, item.label, platform_of(item), group or digest, size, coding, tone
    )


def open_image(content: bytes) -> Image.Image:
    """An image of no more pixels than is safe.

    Raises:
        ValueError: if it has more.
    """
    image = Image.open(io.BytesIO(content))
    require_pixels(image.size)
    return image


def why(error: Exception) -> str:
    """One line without the address of the buffer, which differs from run to run."""
    reason = " ".join(str(error).split()).split(" <_io.BytesIO")[0]
    return f"does not decode: {reason or type(error).__name__}"


def in_batches(rows: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """`rows` in lists of `count`, the last one shorter."""
    waiting: list[Any] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == count:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
