"""Scored images: what a run wrote, or what another detector says of a folder's images.

Other detectors meet ours as a table, Parquet or CSV, of which two columns are read: `path` (relative to
the folder) or `sha256`, and `logit` or `score`. Higher means more likely fake. A score in [0, 1] is
P(fake), fake above 0.5; any other is taken as a logit, fake above 0, unless it looks like percent. Every
image of the folder must have exactly one row: a detector that is silent about hard images would look
better than it is. A third column, `group`, says which images are to be drawn together, where no manifest
does.
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
from train.artifacts import SCORES
from train.data import Item, as_text
from train.metrics import Floats

SCORES_FILE = "scores.parquet"

GROUPING = ("group_id", "author", "post_id", "group")
"""Columns of a manifest or score file; images that share a value of any are drawn together."""

AUTHOR, FEWEST_AUTHORS = "author", 5
"""Fewer groups than this in one class of a platform, and authors do not make them there."""

WHOLE, MEAN = "all", "mean"
"""What images without a platform are reported under, and the mean over platforms."""

VALIDATION = "val_source"
"""Only a training stamps its scores with this: where the images came from that chose its checkpoint."""

STATED = pa.schema(
    [(name, pa.string()) for name in ("path", "platform", "split", *GROUPING)]
    + [("agreement", pa.float64())]
    + [(name, pa.int64()) for name in ("votes", "width", "height")]
)
"""The columns of a manifest that are read here, where it has them."""

WORDS = {"string": "text", "int64": "whole numbers", "double": "numbers"}

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

    @property
    def skipped(self) -> frozenset[str]:
        """Paths of images beside these that could not be scored."""
        return frozenset(as_text(row["path"]) for row in self.context.get("skipped", ()))

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
        InputError: if it cannot be read, has no paths, or has something else in a column of `STATED`.
    """
    file = root / MANIFEST
    if not file.is_file():
        return {}
    table = _parquet(file)
    if "path" not in table.column_names:
        raise InputError(f"{file} has no column path; expected a manifest of a release; remove it")
    for field in STATED:
        if field.name in table.column_names:
            at = table.column_names.index(field.name)
            table = table.set_column(at, field, _cast(file, table.column(at), field))
    return {row["path"]: row for row in table.to_pylist() if row["path"]}


def read_scores(path: Path) -> ScoredSet:
    """The scores that an evaluation of ours wrote to `path`, a file or its folder.

    Raises:
        InputError: if there is none, if it is not a scores file, or the validation scores of a training.
    """
    file = find_scores(path)
    table = _parquet(file)
    columns, context = _columns(file, table), _stamp(file, table)
    if VALIDATION in context:
        raise InputError(
            f"{file} holds the validation scores that chose the checkpoint of a training; expected "
            f"scores of test images; evaluate first: wildrf evaluate {file.parent} DIR --out "
            f"{file.parent / 'evaluation'}"
        )
    groups = tuple(group or None for group in columns.get("group") or [None] * table.num_rows)
    return ScoredSet(
        tuple(columns["path"]),
        tuple(columns["sha256"]),
        tuple(map(shown_platform, columns["platform"])),
        np.array(columns["label"], dtype=np.int64),
        np.array(columns["logit"], dtype=np.float64),
        groups,
        context.get("grouping", "column group") if any(groups) else ONE_EACH,
        context,
    )


def shown_platform(folders: str) -> str:
    """What images of a platform's folders are reported under; never what stands for several."""
    name = folders.split("/")[0] or WHOLE
    return f"{name} (folder)" if name == MEAN else name


def _columns(file: Path, table: pa.Table) -> dict[str, list[Any]]:
    """The columns of a score file, as `SCORES` has them.

    Raises:
        InputError: if one is missing, or holds something else.
    """
    missing = {"path", "sha256", "platform", "label", "logit"} - set(table.column_names)
    if missing:
        raise InputError(
            f"{file} has no column {', '.join(sorted(missing))}; expected the scores.parquet of a run; "
            "scores of another detector are read by `wildrf evaluate --scores FILE DIR`"
        )
    if not table.num_rows:
        raise InputError(f"{file} holds no image; expected the scores of a run; evaluate again")
    names = set(table.column_names) - {"score"}
    held = {field.name: field for field in SCORES if field.name in names}
    columns = {n: _cast(file, table.column(n), field).to_pylist() for n, field in held.items()}
    _need_numbers(file, np.array(columns["logit"]), columns["path"])
    odd = set(columns["label"]) - {0, 1}
    if odd:
        raise InputError(
            f"{file} has label {min(odd)}; expected 0 (real) or 1 (fake); evaluate again"
        )
    return columns


def _stamp(file: Path, table: pa.Table) -> dict[str, Any]:
    """What the metadata of a score file tells of its making; nothing where it has none.

    Raises:
        InputError: if that is not what a run writes.
    """
    try:
        found = json.loads((table.schema.metadata or {}).get(b"wildrf", b"{}"))
        parts = [found.get(name, {}) for name in ("checkpoint", "preprocessing")]
        usable = all(isinstance(part, dict) for part in parts)
        usable &= all(isinstance(row["path"], str) for row in found.get("skipped", []))
    except (ValueError, AttributeError, TypeError, KeyError):
        usable = False
    if not usable:
        raise InputError(
            f"{file} has metadata under wildrf that no run writes; expected those of an evaluation, or "
            "none; evaluate again"
        )
    told: dict[str, Any] = found
    return told


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
        InputError: if it lacks a column, has no row, two rows for one image, a score that is NaN, or percent.
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
    probability = value == "score" and _are_probabilities(file, numbers)
    meant = "P(fake), fake above 0.5" if probability else "logit, fake above 0"
    logits = _logits(numbers) if probability else numbers
    named = table.column("group").to_pylist() if "group" in table.column_names else ()
    groups = {k: str(g) for k, g in zip(keys, named, strict=False) if g not in (None, "")}
    return Foreign(key, dict(zip(keys, logits.tolist(), strict=True)), groups, f"{value}: {meant}")


def _are_probabilities(file: Path, scores: Floats) -> bool:
    """Whether scores are P(fake), and not logits.

    Raises:
        InputError: if they can hardly be either, such as percent.
    """
    low, high = float(scores.min()), float(scores.max())
    if low >= 0 and high > 1:
        raise InputError(
            f"{file} has scores from {low:g} to {high:g}; expected P(fake) from 0 to 1; divide percent by "
            "100, or call the column logit if fake is above 0"
        )
    return low >= 0


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
    found = _cast(file, column, pa.field(name, pa.float64()))
    return np.array(found.to_pylist(), dtype=np.float64)


def _cast(file: Path, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """`column` as `field` has it.

    Raises:
        InputError: if it holds something else, or nothing where there must be something.
    """
    if column.null_count and not field.nullable:
        raise InputError(
            f"{file} has {column.null_count} rows without {field.name}; expected one in each; write it "
            "again"
        )
    try:
        return pc.cast(column, field.type)
    except pa.ArrowException:
        words = WORDS[str(field.type)]
        raise InputError(
            f"{file} has values in column {field.name} ({column.type}) that are no {words}; expected "
            f"{words}; write it again"
        ) from None


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
