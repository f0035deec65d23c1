"""Which images of a set are in a benchmark, too: a detector that was taught on them is not tested by it.

What is known of the benchmark is a folder of images, or a table that anybody can publish without the images
themselves. `read_known` takes a table as Parquet or CSV with at least one of these columns:

- `sha256` (or `digest`): SHA-256 of the file, 64 hex digits;
- `pixels`: the pixel digest of `curate.fingerprint`;
- `phash` (or `fingerprint`): the 64-bit pHash as ImageHash makes it, 16 hex digits, or an unsigned integer
  in Parquet;
- `dhash`: the same of dHash; where both sides have it, it must agree, too.

`path` (or `name`) says what a row is called. The manifest of a release is such a table. Finding is pure.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import ArrowException

from curate import hamming
from schemas.errors import InputError
from schemas.labels import MatchKind

COLUMNS = {
    "sha256": ("sha256", "digest"),
    "pixels": ("pixels",),
    "phash": ("phash", "fingerprint"),
    "dhash": ("dhash",),
    "name": ("path", "name"),
}
"""What each fact of a known image may be called in a table, the first one found counts."""

TELLING = ("sha256", "pixels", "phash")
"""Facts by one of which an image can be recognised."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one image; `name` is a path, or whatever its table calls it."""

    name: str
    sha256: str | None = None
    pixels: str | None = None
    phash: int | None = None
    dhash: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that is in the benchmark, and the surest reason.

    `confirmed` is False where likeness rests on pHash alone, because one side has no dHash.
    """

    path: str
    kind: str
    distance: int
    known: str
    confirmed: bool = True


def find_known(images: Sequence[Known], known: Sequence[Known], *, distance_bits: int) -> list[Hit]:
    """The images that are known, each once, in the order of their names."""
    found: dict[str, Hit] = {}
    for hit in (*_equal(images, known), *_near(images, known, distance_bits)):
        keep_surest(found, hit)
    return [found[name] for name in sorted(found)]


def keep_surest(found: dict[str, Hit], hit: Hit) -> None:
    """Add `hit` to the hits by path, unless a surer one is there."""
    if hit.path not in found or _rank(hit) < _rank(found[hit.path]):
        found[hit.path] = hit


def _rank(hit: Hit) -> tuple[int, bool, int, str]:
    kinds = (MatchKind.BYTES.value, MatchKind.PIXELS.value)
    sure = kinds.index(hit.kind) if hit.kind in kinds else len(kinds)
    return sure, not hit.confirmed, hit.distance, hit.known


def _equal(images: Iterable[Known], known: Sequence[Known]) -> Iterator[Hit]:
    """Images with the bytes or the pixels of a known one."""
    by_bytes = {k.sha256: k.name for k in reversed(known) if k.sha256}
    by_pixels = {k.pixels: k.name for k in reversed(known) if k.pixels}
    for image in images:
        if image.sha256 in by_bytes:
            yield Hit(image.name, MatchKind.BYTES.value, 0, by_bytes[image.sha256])
        elif image.pixels in by_pixels:
            yield Hit(image.name, MatchKind.PIXELS.value, 0, by_pixels[image.pixels])


def _near(images: Sequence[Known], known: Sequence[Known], distance_bits: int) -> Iterator[Hit]:
    """Images that look like a known one: by pHash, and by dHash where both sides have it."""
    ours = [image for image in images if image.phash is not None]
    theirs = [k for k in known if k.phash is not None]
    pairs = hamming.cross_join(_bits(ours, "phash"), _bits(theirs, "phash"), distance_bits)
    for i, j, d in zip(pairs.i.tolist(), pairs.j.tolist(), pairs.d.tolist(), strict=True):
        mine, other = ours[i], theirs[j]
        confirmed = mine.dhash is not None and other.dhash is not None
        if not confirmed or d + _apart(mine, other) <= 2 * distance_bits:
            yield Hit(mine.name, MatchKind.NEAR.value, d, other.name, confirmed)


def _apart(a: Known, b: Known) -> int:
    return ((a.dhash or 0) ^ (b.dhash or 0)).bit_count()


def _bits(rows: Sequence[Known], column: str) -> NDArray[np.uint64]:
    return np.array([getattr(row, column) for row in rows], np.uint64)


def read_known(path: Path) -> list[Known]:
    """The rows of a table of known images.

    Raises:
        InputError: if it cannot be read, has none of the columns, or a value is not what its column holds.
    """
    names, rows = _table(path)
    columns = {
        fact: column
        for fact, wanted in COLUMNS.items()
        if (column := next((w for w in wanted if w in names), None))
    }
    if not any(fact in columns for fact in TELLING):
        raise InputError(
            f"{path} has the columns {', '.join(names[:12]) or '(none)'}; expected one of sha256, pixels, "
            "phash (see the README, `--against`)"
        )
    return [_known(path, n, row, columns) for n, row in enumerate(rows, start=1)]


def _table(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    wanted = "expected a folder of images, or a Parquet or CSV table of known ones"
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            names = pq.read_schema(path).names
            kept = [n for n in names if any(n in called for called in COLUMNS.values())]
            return names, pq.read_table(path, columns=kept).to_pylist()
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            return list(reader.fieldnames or []), list(reader)
    except (OSError, ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}); {wanted}") from None


def _known(path: Path, number: int, row: dict[str, Any], columns: dict[str, str]) -> Known:
    def of(fact: str) -> Any:
        value = row[columns[fact]] if fact in columns else None
        return None if value in (None, "") else value

    def hash_of(fact: str) -> int | None:
        try:
            return _hash(of(fact))
        except ValueError:
            raise InputError(
                f"{path} row {number}: {columns[fact]} is {str(of(fact))[:40]!r}; expected 16 hex digits"
            ) from None

    digest = of("sha256")
    if digest is not None and not _is_digest(str(digest)):
        raise InputError(
            f"{path} row {number}: {columns['sha256']} is {str(digest)[:40]!r}; expected 64 hex digits"
        )
    return Known(
        name=str(of("name") or digest or f"row {number}"),
        sha256=str(digest).lower() if digest else None,
        pixels=None if of("pixels") is None else str(of("pixels")),
        phash=hash_of("phash"),
        dhash=hash_of("dhash"),
    )


def _hash(value: Any) -> int | None:
    """64 bits: text is hex, as ImageHash prints it; a number is the bits, signed or not."""
    if value is None:
        return None
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError(value)
        return value % 2**64
    text = str(value).strip().removeprefix("0x")
    if len(text) != 16:
        raise ValueError(text)
    return int(text, 16)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text.lower())
