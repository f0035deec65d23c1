"""What a run of stress tests leaves: stress.json, what was found and on what; stress.parquet, every logit."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from train.artifacts import skipped_rows, write_json
from train.checkpoint import write_atomically
from train.config import code_versions
from train.data import Item, Skipped, as_text
from train.intervals.groups import CONFIDENCE
from train.simulated import is_simulated
from train.stress.plan import Facts, Scores, StressTest
from train.stress.sample import describe_sample
from train.stress.scoring import Bench, Entrant, Options

FORMAT = "wildrf-stress/1"

NAMES = pa.dictionary(pa.int32(), pa.string())

LOGITS = pa.schema(
    [
        pa.field("path", NAMES, nullable=False),
        pa.field("sha256", NAMES, nullable=False),
        pa.field("platform", NAMES, nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("condition", NAMES, nullable=False),
        pa.field("logit", pa.float64(), nullable=False),
    ]
)
"""Columns of stress.parquet: a row for each picture and rendition; a logit above 0 means fake."""


def record(
    bench: Bench,
    tests: Sequence[StressTest],
    options: Options,
    data: dict[str, Any],
    scores: Scores,
) -> dict[str, Any]:
    """Everything that is told of a run, as JSON holds it."""
    return {
        "format": FORMAT,
        "checkpoint": _describe(bench.own),
        "preprocessing": _prepared(bench.own),
        "against": [_describe(rival) for rival in bench.rivals],
        "data": data,
        "parameters": _parameters(options, tests),
        "simulated": is_simulated(Path(data["root"]), bench.own.path),
        "versions": code_versions(),
        "tests": {test.name: _told(test) | test.measure(scores) for test in tests},
    }


def describe_data(
    root: Path,
    items: Sequence[Item],
    images: Sequence[Facts],
    skipped: Sequence[Skipped],
    grouping: str,
) -> dict[str, Any]:
    """Which of the test images `items` were used, and what was not."""
    return {
        "root": str(root),
        "images_digest": _fingerprint(images),
        "sample": describe_sample(images, items),
        "grouping": grouping,
        "skipped": skipped_rows(skipped),
    }


def write(out: Path, result: dict[str, Any], scores: Scores) -> None:
    """Leave both files in the folder `out`.

    Raises:
        InputError: if there is no room, or they may not be written.
    """
    write_json(out / "stress.json", result)
    told = {key: result[key] for key in ("format", "checkpoint", "preprocessing", "parameters")}
    packed = io.BytesIO()
    pq.write_table(table_of(scores, told), packed)
    write_atomically(out / "stress.parquet", packed.getvalue())


def table_of(scores: Scores, context: dict[str, Any]) -> pa.Table:
    """The logits of every picture under every condition that applies to it."""
    keys = list(scores.logits)
    every = np.stack([scores.logits[key] for key in keys], axis=1)
    rows, conditions = np.nonzero(~np.isnan(every))
    images = scores.images
    columns = {
        "path": _named([as_text(facts.path) for facts in images], rows),
        "sha256": _named([facts.digest for facts in images], rows),
        "platform": _named([facts.platform for facts in images], rows),
        "label": scores.labels[rows],
        "condition": _named(keys, conditions),
        "logit": every[rows, conditions],
    }
    stamp = json.dumps(context, sort_keys=True).encode()
    return pa.table(columns, schema=LOGITS.with_metadata({b"wildrf": stamp}))


def _named(names: list[str], rows: np.ndarray[Any, Any]) -> pa.Array:
    """The name at each of `rows`, each name held once."""
    known = {name: code for code, name in enumerate(dict.fromkeys(names))}
    codes = np.array([known[name] for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes[rows]), pa.array(list(known), pa.string()))


def _told(test: StressTest) -> dict[str, Any]:
    return {key: getattr(test, key) for key in ("title", "source", "figure", "each")}


def _describe(entrant: Entrant) -> dict[str, Any]:
    loaded = entrant.loaded
    return {
        "path": str(entrant.path),
        "name": entrant.name,
        "sha256": loaded.digest,
        "detector": loaded.spec.name,
        "receptive_field": loaded.spec.receptive_field,
        "stride": loaded.spec.stride,
        "pooling": loaded.model.pooling,
    }


def _prepared(entrant: Entrant) -> dict[str, Any]:
    own = entrant.loaded.preprocessing
    return {**own.to_dict(), "digest": own.digest, "source": entrant.loaded.preprocessing_source}


def _parameters(options: Options, tests: Sequence[StressTest]) -> dict[str, Any]:
    return {
        "tests": [test.name for test in tests],
        "max_images": options.max_images,
        "seed": options.seed,
        "draws": options.draws,
        "confidence": CONFIDENCE,
        "intervals": "as in evaluate: whole groups drawn, the same draws for every condition",
    }


def _fingerprint(images: Sequence[Facts]) -> str:
    rows = sorted(f"{facts.label.value} {facts.digest}" for facts in images)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
