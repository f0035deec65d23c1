"""Scored images: what a run wrote, or what another detector says of a folder's images.

Other detectors meet ours as a table, Parquet or CSV, of which two columns are read: `path` (relative to
the folder) or `sha256`, and `logit` or `score`. Higher means more likely fake. A score in [0, 1] is
P(fake), fake above 0.5; any other is taken as a logit, fake above 0. Every image of the folder must
have exactly one row: a detector that is silent about hard images would look better than it is. A third
column, `group`, says which images are to be drawn together, where no manifest does.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.layout import MANIFEST, place
from train.data import Item, as_text
from train.metrics import Floats

SCORES_FILE = "scores.parquet"

GROUPING = ("group_id", "author", "post_id", "group")
"""Columns of a manifest or score file; images that share a value of any are drawn together."""

AUTHOR, FEWEST_AUTHORS = "author", 5
"""Fewer groups than this in one class of a platform, and authors do not make them there."""

CLIP = 1e-15
"""A P(fake) of exactly 0 or 1 is read as this far from it: its logit is infinite."""


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """Images with labels and logits, all in one order.

    `groups` holds None for an image that is its own group; `grouping` says where groups came from.
    `context` is what the file's metadata tells of checkpoint, preprocessing and versions.
    """

    paths: tuple[str, ...]
    digests: tuple[str, ...]
    platforms: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: Floats
    groups: tuple[str | None, ...]
    grouping: str
    context: dict[str, Any]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256 over label and bytes of every image: which images were judged."""
        rows = sorted(f"{y} {d}" for y, d in zip(self.labels.tolist(), self.digests, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def sorted(self) -> "ScoredSet":
        """The same images by digest and path, so that two runs of one set line up."""
        order = sorted(range(len(self)), key=lambda k: (self.digests[k], self.paths[k]))
        return self.take(order)

    def take(self, rows: Sequence[int]) -> "ScoredSet":
        """The images at `rows`."""
        chosen = np.asarray(rows, dtype=np.intp)
        return replace(
            self,
            paths=tuple(self.paths[k] for k in chosen),
            digests=tuple(self.digests[k] for k in chosen),
            platforms=tuple(self.platforms[k] for k in chosen),
            groups=tuple(self.groups[k] for k in chosen),
            labels=self.labels[chosen],
            logits=self.logits[chosen],
        )


ONE_EACH = "one image, one group"


def find_groups(root: Path, paths: Sequence[str]) -> tuple[tuple[str | None, ...], str]:
    """The group of each image as the manifest beside the splits tells it, and what it was told by.

    Images that share a duplicate group, an author or a post are one group, and so are those that are
    tied to each other through a third. Where that leaves a class of a platform few groups, as one
    account's archive does, authors make no groups of its images: the intervals there speak of these
    accounts' pictures alone, which is told. Elsewhere authors stay groups.

    Raises:
        InputError: if the manifest cannot be read.
    """
    rows = read_manifest(root)
    found = [rows.get(path, {}) for path in paths]
    known = [column for column in GROUPING if any(row.get(column) for row in found)]
    if not known:
        return (None,) * len(paths), ONE_EACH
    told = f"manifest columns {', '.join(known)}"
    cells = [_cell(path) for path in paths]
    few = _few_authors(found, cells, known)
    if few:
        pairs = zip(found, cells, strict=True)
        found = [{**row, AUTHOR: None} if cell in few else row for row, cell in pairs]
        told += f"; too few authors to be groups: {', '.join(few)}"
    return tie(found, known), told


def _cell(path: str) -> str:
    """Platform and class of an image, in words, as its folders say."""
    placement = place(PurePosixPath(path))
    if placement is None:
        return "all"
    return f"{placement.platform.split('/')[0]} {placement.label.name.lower()}".strip()


def _few_authors(
    rows: Sequence[Mapping[str, Any]], cells: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """The cells in which authors leave few groups, and fewer than there are without them."""
    if AUTHOR not in columns:
        return []
    found = _count_groups(cells, tie(rows, columns))
    without = _count_groups(cells, tie(rows, [c for c in columns if c != AUTHOR]))
    return [cell for cell in sorted(found) if found[cell] < min(FEWEST_AUTHORS, without[cell])]


def _count_groups(cells: Sequence[str], groups: Sequence[str | None]) -> dict[str, int]:
    """How many groups each cell has; an image without one is its own."""
    held: dict[str, set[str | int]] = defaultdict(set)
    for row, (cell, group) in enumerate(zip(cells, groups, strict=True)):
        held[cell].add(row if group is None else group)
    return {cell: len(found) for cell, found in held.items()}


def tie(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str | None, ...]:
    """One name per set of rows that are tied by equal values; None for a row without any value."""
    above: dict[tuple[str, str], tuple[str, str]] = {}

    def top(key: tuple[str, str]) -> tuple[str, str]:
        while above.setdefault(key, key) != key:
            above[key] = above[above[key]]
            key = above[key]
        return key

    keys = [[(c, _scoped(row, c)) for c in columns if row.get(c)] for row in rows]
    for first, *rest in filter(None, keys):
        for other in rest:
            a, b = sorted((top(first), top(other)))
            above[b] = a
    return tuple("/".join(top(own[0])) if own else None for own in keys)


def _scoped(row: Mapping[str, Any], column: str) -> str:
    """A value as a key; a post id means something on its own platform only."""
    return f"{row.get('platform') or ''}:{row[column]}" if column == "post_id" else str(row[column])


def read_manifest(root: Path) -> dict[str, dict[str, Any]]:
    """What the manifest beside the splits says, by path; empty where there is none.

    Raises:
        InputError: if it cannot be read or has no paths.
    """
    file = root / MANIFEST
    if not file.is_file():
        return {}
    table = _parquet(file)
    if "path" not in table.column_names:
        raise InputError(f"{file} has no column path; expected a manifest of a release; remove it")
    return {row["path"]: row for row in table.to_pylist() if row["path"]}


def read_scores(path: Path) -> ScoredSet:
    """The scores that a run of ours wrote to `path`, a file or its folder.

    Raises:
        InputError: if there is none, or it is not a scores file.
    """
    file = find_scores(path)
    table = _parquet(file)
    missing = {"path", "sha256", "platform", "label", "logit"} - set(table.column_names)
    if missing:
        raise InputError(
            f"{file} has no column {', '.join(sorted(missing))}; expected the scores.parquet of a run; "
            "scores of another detector are read by `wildrf evaluate --scores FILE DIR`"
        )
    if not table.num_rows:
        raise InputError(f"{file} holds no image; expected the scores of a run; evaluate again")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    _need_numbers(file, np.array(columns["logit"], dtype=np.float64), columns["path"])
    groups = tuple(group or None for group in columns.get("group") or [None] * table.num_rows)
    stamp = (table.schema.metadata or {}).get(b"wildrf", b"{}")
    context = json.loads(stamp)
    return ScoredSet(
        tuple(columns["path"]),
        tuple(columns["sha256"]),
        tuple((p or "").split("/")[0] or "all" for p in columns["platform"]),
        np.array(columns["label"], dtype=np.int64),
        np.array(columns["logit"], dtype=np.float64),
        groups,
        context.get("grouping", "column group") if any(groups) else ONE_EACH,
        context,
    )


def find_scores(path: Path) -> Path:
    """The score file of a run: the file itself, or that of its evaluation, or that in its folder.

    Raises:
        InputError: if there is none.
    """
    if path.is_file():
        return path
    for file in (path / "evaluation" / SCORES_FILE, path / SCORES_FILE):
        if file.is_file():
            return file
    raise InputError(
        f"{path} holds no {SCORES_FILE}; expected a score file, or the folder that `wildrf evaluate "
        "--out` wrote; evaluate first"
    )


@dataclass(frozen=True, slots=True)
class Foreign:
    """Scores of another detector: the key column, logits and groups by key, and how they are meant."""

    key: str
    logits: dict[str, float]
    groups: dict[str, str]
    meant: str


def read_foreign(file: Path) -> Foreign:
    """The scores in `file`, Parquet, CSV or TSV by its ending.

    Raises:
        InputError: if it lacks a column, has no row, two rows for one image, or a score that is NaN.
    """
    table = _parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _csv(file)
    key = _column(file, table, ("path", "sha256"))
    value = _column(file, table, ("logit", "score"))
    keys = ["" if k is None else str(k) for k in table.column(key).to_pylist()]
    if not keys:
        raise InputError(f"{file} has no row; expected one per image; write the scores again")
    numbers = _numbers(file, table.column(value), value)
    _need_numbers(file, numbers, keys)
    name, count = Counter(keys).most_common(1)[0]
    if count > 1:
        twice = sum(n > 1 for n in Counter(keys).values())
        raise InputError(
            f"{file} has {count} rows for {name!r} ({twice} such images); expected one row per image; "
            "remove the others"
        )
    probability = value == "score" and bool(np.all((numbers >= 0) & (numbers <= 1)))
    meant = "P(fake), fake above 0.5" if probability else "logit, fake above 0"
    logits = _logits(numbers) if probability else numbers
    named = table.column("group").to_pylist() if "group" in table.column_names else ()
    groups = {k: str(g) for k, g in zip(keys, named, strict=False) if g not in (None, "")}
    return Foreign(key, dict(zip(keys, logits.tolist(), strict=True)), groups, f"{value}: {meant}")


def _logits(probability: Floats) -> Floats:
    inside = np.clip(probability, CLIP, 1 - CLIP)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found


@dataclass(frozen=True, slots=True)
class Joined:
    """Images with a foreign score, in order, and images that nobody can score, with the reason."""

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    logits: Floats
    groups: tuple[str | None, ...]
    broken: tuple[tuple[Item, str], ...]


def join_foreign(
    foreign: Foreign,
    file: Path,
    items: Sequence[Item],
    digest_of: Callable[[Item], str],
    problem_of: Callable[[Item], str | None],
) -> Joined:
    """The scores of `items`, in their order.

    Args:
        foreign: the scores.
        file: where they are from, for messages.
        items: the images that are evaluated.
        digest_of: the SHA-256 of an image.
        problem_of: why an image does not decode; None if it does. Only such need no score.

    Raises:
        InputError: if an image has no score, or a score is of no image here.
    """
    digests = {item.path: digest_of(item) for item in items}
    by_path = foreign.key == "path"
    keys = {i.path: as_text(i.path) if by_path else digests[i.path] for i in items}
    without = [item for item in items if keys[item.path] not in foreign.logits]
    broken = tuple((item, why) for item in without if (why := problem_of(item)) is not None)
    if len(broken) < len(without):
        bad = {item.path for item, _ in broken}
        first = next(item.path for item in without if item.path not in bad)
        raise InputError(
            f"{file} has no score for {len(without) - len(broken)} of {len(items)} images (first: "
            f"{first}); expected one per image; score those too, or leave them out of the folder"
        )
    unknown = sorted(set(foreign.logits) - set(keys.values()))
    if unknown:
        raise InputError(
            f"{file} has {len(unknown)} rows of images that are not evaluated (first: {unknown[0]!r}); "
            f"expected the {foreign.key} of images in the folder; remove those rows"
        )
    kept = tuple(item for item in items if keys[item.path] in foreign.logits)
    return Joined(
        kept,
        tuple(digests[item.path] for item in kept),
        np.array([foreign.logits[keys[item.path]] for item in kept]),
        tuple(foreign.groups.get(keys[item.path]) for item in kept),
        broken,
    )


def _column(file: Path, table: pa.Table, names: tuple[str, str]) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise InputError(
        f"{file} has columns {', '.join(table.column_names) or 'none'}; expected {names[0]} or "
        f"{names[1]}; rename one"
    )


def _numbers(file: Path, column: pa.ChunkedArray, name: str) -> Floats:
    try:
        values: Floats = np.array(pc.cast(column, pa.float64()).to_pylist(), dtype=np.float64)
    except pa.ArrowException:
        raise InputError(
            f"{file} has text in column {name}; expected numbers; write it again"
        ) from None
    return values


def _need_numbers(file: Path, values: Floats, keys: Sequence[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{file} has {len(bad)} scores that are missing, NaN or infinite (first: {keys[bad[0]]!r}); "
            "expected a number per image; score those images again"
        )


def _parquet(file: Path) -> pa.Table:
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file} cannot be read as Parquet ({str(error).splitlines()[0][:100]}); expected a Parquet "
            "file; write it again"
        ) from None


def _csv(file: Path) -> pa.Table:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    keys = pacsv.ConvertOptions(column_types={"path": pa.string(), "sha256": pa.string()})
    try:
        return pacsv.read_csv(
            file, parse_options=pacsv.ParseOptions(delimiter=separator), convert_options=keys
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file} cannot be read as CSV ({str(error).splitlines()[0][:100]}); expected a header with "
            "path or sha256, and score or logit; write it again"
        ) from None
