"""How a verb shows its result: lines for people on stderr, JSON for programs on stdout."""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any


class Output:
    """Where one verb writes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, *lines: str) -> None:
        """Lines for people."""
        for line in lines:
            print(printable(line), file=sys.stderr)  # noqa: T201 - this is the printer

    def result(self, value: Any) -> None:
        """The verb's one JSON document, if that was asked for."""
        if self.as_json:
            _write(to_json(value, indent=1))

    def row(self, value: Any) -> None:
        """One JSON line of a verb that gives many."""
        _write(to_json(value))


class _Warnings(logging.Handler):
    """Lines for people from what the layers below warn of."""

    def emit(self, record: logging.LogRecord) -> None:
        Output(as_json=False).say(record.getMessage())


@contextmanager
def warnings_told() -> Iterator[None]:
    """What is logged as a warning meanwhile is a line on stderr that is safe for a terminal."""
    handler = _Warnings(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


_DIGEST = re.compile(r"[0-9a-f]{32,64}")
SHORT = 12
"""Digits of a digest that people are shown."""


def shortened(text: str) -> str:
    """`text`, or how it begins if it is a digest."""
    return f"{text[:SHORT]}..." if _DIGEST.fullmatch(text) else text


def printable(text: str) -> str:
    """`text` on one line and safe for a terminal, whatever a file is named."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _write(document: str) -> None:
    # A name that is no Unicode becomes an escape, which JSON gives back as it was.
    sys.stdout.write(document.encode("utf-8", "backslashreplace").decode() + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: no NaN, times in ISO 8601, paths as text."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):  # what DuckDB makes of sums
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Iterable):
        return [_plain(v) for v in value]
    return str(value)


SKIPS = 10
"""Files that could not be used which people are shown."""


def skip_lines(skipped: Sequence[Mapping[str, Any]], record: str) -> list[str]:
    """The first of the files that could not be used, and how many more `record` names."""
    lines = [f"skipped {row['path']}: {row['reason']}" for row in skipped[:SKIPS]]
    more = len(skipped) - SKIPS
    return [*lines, f"and {more} more ({record})"] if more > 0 else lines


def table(rows: list[list[str]], header: list[str]) -> list[str]:
    """Rows as aligned lines; numbers to the right."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.replace(",", "").replace(".", "").replace("-", "").isdigit()
