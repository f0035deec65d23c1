"""What a run leaves in its folder, each file written whole or not at all.

checkpoint.pt   the best detector, with its preprocessing
config.json     recipe, preprocessing, data digest and where the data lay, versions
metrics.json    validation metrics with n and interval, epochs, what was skipped and why
curve.jsonl     one line per epoch
curve.csv       the same as a table, written while the run goes on
scores.parquet  path, sha256, platform, label, group, logit, score; the context is in the schema's
                metadata
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import InputError
from train.checkpoint import write_atomically
from train.data import Item, Skipped, as_text
from train.metrics import sigmoids

SCORES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("platform", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("logit", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""Columns of scores.parquet; a logit above 0, a score above 0.5, means fake.

Images of one `group` are drawn together when intervals are made; without one, each is its own.
"""

CONFIG = "config.json"
"""The record of a run, beside its checkpoint."""

TEACHER = "what its teacher learnt from"
"""Told where a distilled run has no record of that."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """The folders that a run's record says it learnt from, and in words what the record does not say.

    What a teacher learnt from, its student did too.
    """

    roots: tuple[Path, ...] = ()
    unsaid: tuple[str, ...] = ()


def read_learnt(checkpoint: Path) -> Learnt:
    """What the record beside a checkpoint says it learnt from; nothing where there is none."""
    try:
        record = json.loads(checkpoint.with_name(CONFIG).read_bytes())
        data = record["data"]
        own = [source.get("root") for source in data.get("sources", [])] or [data.get("root")]
        taught = data.get("teacher_roots", [])
        roots = dict.fromkeys(Path(place) for place in [*own, *taught] if place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Learnt()
    return Learnt(tuple(roots), (TEACHER,) if record.get("teacher") and not taught else ())


def name_of(checkpoint: Path) -> str:
    """What a checkpoint is called in tables and on pages: its run folder, or its file."""
    if checkpoint.name == "checkpoint.pt":
        return checkpoint.absolute().parent.name
    return checkpoint.stem


def open_run_folder(out: Path) -> None:
    """Make the folder of a run.

    Raises:
        InputError: if there is something else at `out`, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out} cannot be a run folder ({error.strerror}); expected a folder that can be "
            "written; choose another --out"
        ) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as sorted, indented JSON. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    lines = [json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows]
    write_atomically(path, "".join(lines).encode())


def write_scores(
    path: Path,
    items: Iterable[Item],
    digests: Iterable[str],
    logits: NDArray[Any],
    context: Mapping[str, Any],
    groups: Sequence[str | None] | None = None,
) -> None:
    """Write one row per scored image, with `context` (JSON) under the metadata key `wildrf`."""
    items = list(items)
    columns = {
        "path": [as_text(item.path) for item in items],
        "sha256": list(digests),
        "platform": [item.platform for item in items],
        "label": [int(item.label) for item in items],
        "group": list(groups) if groups is not None else [None] * len(items),
        "logit": [float(logit) for logit in logits],
        "score": sigmoids(np.asarray(logits, dtype=np.float64)).tolist(),
    }
    stamp = json.dumps(context, sort_keys=True, default=str).encode()
    table = pa.table(columns, schema=SCORES.with_metadata({b"wildrf": stamp}))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def skipped_rows(skipped: Iterable[Skipped]) -> list[dict[str, str]]:
    """As JSON holds them: [{path, reason}]."""
    return [asdict(row) for row in skipped]
