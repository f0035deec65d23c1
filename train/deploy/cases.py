"""Known images with the verdict they must get: looked at again after each training.

A table says which: `cases.csv` with the columns path, expected (real or fake) and, if you like, note; or
`cases.toml` with a `[[case]]` of the same keys each. Paths are relative to the table. A mean over thousands
of images hides the one a user will try first; a case that changed its verdict since the run before is named.
"""

import csv
import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.labels import Label
from train.artifacts import write_json
from train.predict import predict

TABLES = ("cases.csv", "cases.toml")
RECORD = "cases.json"
"""What is left in the run folder."""

VERDICTS = {label.name.lower(): label for label in Label}


@dataclass(frozen=True, slots=True)
class Case:
    """One image: its path as the table has it, where it is, what it must be called, and why it is there."""

    name: str
    path: Path
    expected: str
    note: str


def find_table(place: Path) -> Path | None:
    """The table in the folder `place`, or `place` itself if it is one; None if there is none."""
    if place.is_file():
        return place
    return next((place / name for name in TABLES if (place / name).is_file()), None)


def read_cases(table: Path) -> list[Case]:
    """The cases of a table.

    Raises:
        InputError: naming the row that cannot be used.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{table} cannot be read ({error}); expected a table of cases; check the path"
        ) from None
    rows = list(_toml_rows(table, text) if table.suffix == ".toml" else _csv_rows(table, text))
    if not rows:
        raise InputError(f"{table} has no case; expected path and expected on each row; add one")
    return [_case(table, where, row) for where, row in rows]


def _csv_rows(table: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = {"path", "expected"} - set(reader.fieldnames or ())
    if missing:
        raise InputError(
            f"{table} lacks the column {' and '.join(sorted(missing))}; expected path, expected and "
            "perhaps note in its first line; add it"
        )
    for row in reader:
        yield f"line {reader.line_num}", row


def _toml_rows(table: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        found = tomllib.loads(text).get("case", [])
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{table} is not valid TOML: {error}; mend that line") from None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"{table} has a case that is no [[case]]; expected one each; mend it")
    for number, row in enumerate(found, start=1):
        yield f"case {number}", row


def _case(table: Path, where: str, row: dict[str, Any]) -> Case:
    name, expected = (str(row.get(key) or "").strip() for key in ("path", "expected"))
    if not name or expected.lower() not in VERDICTS:
        raise InputError(
            f"{table} {where} has path {name!r} and expected {expected!r}; expected a path and real or "
            "fake; mend that row"
        )
    note = str(row.get("note") or "").strip()
    return Case(name, table.parent / name, expected.lower(), note)


def run_cases(checkpoint: Path, table: Path, out: Path | None = None) -> dict[str, Any]:
    """Score the cases of `table` and leave the outcome as cases.json in the run folder `out`.

    Returns:
        {table, checkpoint (SHA-256), n, right, wrong, unreadable, previous (path or None),
        changed: [{path, before, now, expected}], cases: [{path, expected, note, verdict, right, score,
        logit, threshold, perhaps band} or {path, expected, note, verdict: None, right: False, error}]}. The
        threshold is that of the calibration beside the checkpoint, as in `wildrf predict`; without one it is
        0. Where there is a band, the verdict is by that.

    Raises:
        InputError: if the table or the checkpoint cannot be used.
    """
    cases = read_cases(table)
    before = None if out is None else find_previous(out, table)
    rows = predict(checkpoint, [case.path for case in cases], folders=False)
    judged = [_judged(case, row) for case, row in zip(cases, rows, strict=True)]
    result = {
        "table": str(table.resolve()),
        "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "n": len(judged),
        "right": sum(row["right"] for row in judged),
        "wrong": sum(row["verdict"] is not None and not row["right"] for row in judged),
        "unreadable": sum(row["verdict"] is None for row in judged),
        "previous": None if before is None else str(before),
        "changed": [] if before is None else changes(_verdicts(before), judged),
        "cases": judged,
    }
    if out is not None:
        write_json(out / RECORD, result)
    return result


def _judged(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    found = {"path": case.name, "expected": case.expected, "note": case.note}
    if "error" in row:
        return {**found, "verdict": None, "right": False, "error": row["error"]}
    verdict = row.get("verdict") or ("fake" if row["logit"] > 0 else "real")
    scores = {"logit": row["logit"], "score": row["score"], "threshold": row.get("threshold", 0.0)}
    if "band" in row:
        scores["band"] = row["band"]
    return {**found, **scores, "verdict": verdict, "right": verdict == case.expected}


def find_previous(out: Path, table: Path) -> Path | None:
    """The newest record of the same table, in `out` or a run folder beside it."""
    records = [path for path in out.resolve().parent.glob(f"*/{RECORD}") if _is_of(path, table)]
    return max(records, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_of(record: Path, table: Path) -> bool:
    try:
        return bool(json.loads(record.read_bytes())["table"] == str(table.resolve()))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _verdicts(record: Path) -> dict[str, str | None]:
    rows = json.loads(record.read_bytes()).get("cases", [])
    return {row["path"]: row["verdict"] for row in rows}


def changes(
    before: dict[str, str | None], judged: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Cases whose verdict is another than before; those that are new are none."""
    return [
        {
            "path": row["path"],
            "before": before[row["path"]],
            "now": row["verdict"],
            "expected": row["expected"],
        }
        for row in judged
        if row["path"] in before and before[row["path"]] != row["verdict"]
    ]
