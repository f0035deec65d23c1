"""Known images with expected verdicts, looked at after each training (`train.deploy.cases`)."""

from pathlib import Path
from typing import Any

from schemas.errors import InputError

FOLDER = "cases"
"""Where cases lie unless they are named: in the workspace, or where the command is run."""


def table_for(asked: Path | None, workspace: Path | None) -> Path | None:
    """The table a training is to be judged by; None if none was asked for and none is there.

    It is read now: hours of training should not end at a misspelt row.

    Raises:
        InputError: if it was asked for and is not there, or cannot be used.
    """
    from train.deploy.cases import find_table, read_cases

    if asked is not None:
        return table_at(asked)
    table = find_table(place_of(workspace))
    if table is not None:
        read_cases(table)
    return table


def place_of(workspace: Path | None) -> Path:
    """Where the cases lie that nobody named: in `workspace`; else here, or in the workspace around us."""
    from curate.workspace import POLICY

    here = workspace or Path()
    if workspace is None and not (here / FOLDER).is_dir():
        around = (Path.cwd(), *Path.cwd().parents)
        here = next((folder for folder in around if (folder / POLICY).is_file()), here)
    return here / FOLDER


def table_at(place: Path) -> Path:
    """The table at `place`, checked.

    Raises:
        InputError: if there is none, or it cannot be used.
    """
    from train.deploy.cases import TABLES, find_table, read_cases

    table = find_table(place)
    if table is None:
        raise InputError(
            f"{place} has no cases; expected {' or '.join(TABLES)} with path and expected; make one"
        )
    read_cases(table)
    return table


def judge(checkpoint: Path, table: Path, out: Path | None = None) -> dict[str, Any]:
    """The verdicts of a checkpoint on the cases, left in the run folder `out` if there is one."""
    from train.deploy.cases import run_cases

    return run_cases(checkpoint, table, out)


def after_training(result: dict[str, Any], table: Path | None) -> list[str]:
    """Judge the checkpoint of a training that is over; adds `cases` to its result, gives lines for people."""
    if table is None:
        return []
    checkpoint = Path(result["checkpoint"])
    result["cases"] = judge(checkpoint, table, checkpoint.parent)
    return lines(result["cases"])


def _verdict(row: dict[str, Any]) -> str:
    by = f" by the calibrated threshold, logit {row['threshold']:.3f}" if row["threshold"] else ""
    if "band" in row:
        low, high = row["band"]
        by = f" by the calibrated band: real below logit {low:.3f}, fake above {high:.3f}"
    return f"{row['verdict']} ({row['score']:.4f}){by}"


def lines(result: dict[str, Any]) -> list[str]:
    """How many are right, which are not, and what changed since the run before."""
    told = [f"cases: {result['right']} of {result['n']} as expected ({result['table']})"]
    for row in result["cases"]:
        if not row["right"]:
            found = row.get("error") or _verdict(row)
            note = f"; {row['note']}" if row["note"] else ""
            told.append(f"  {row['path']}: expected {row['expected']}, found {found}{note}")
    told += [
        f"  {row['path']}: was {row['before'] or 'unreadable'}, is now {row['now'] or 'unreadable'}, "
        f"expected {row['expected']}"
        for row in result["changed"]
    ]
    return told
