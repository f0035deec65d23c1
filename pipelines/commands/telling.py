"""How a verb tells of its work: progress while it runs, and at its end a result and an exit code.

Human text goes to stderr; with ``--json``, stdout gets one JSON document (or JSON lines) and nothing else.
"""

from typing import Any

import typer

from pipelines.output import Output

INTERRUPTED = 130
"""What a command ended by Ctrl-C exits with."""

SIMULATED = "simulated data: no number here says anything about a real platform or generator"


def working() -> Any:
    """Progress on stderr."""
    from pipelines.progress import open_progress

    return open_progress()


def show(result: Any, lines: list[str], as_json: bool, *, passes: bool = True) -> None:
    """One result: JSON on stdout or lines on stderr; exit code 1 where a gate said no."""
    output = Output(as_json)
    output.result(result)
    if not as_json:
        if isinstance(result, dict) and result.get("simulated"):
            output.say(SIMULATED)
        output.say(*lines)
    if not passes:
        raise typer.Exit(1)


def show_rows(rows: Any, line: Any, as_json: bool) -> None:
    """Many results: JSON lines on stdout, or a line each on stderr."""
    output = Output(as_json)
    for row in rows:
        if as_json:
            output.row(row)
        else:
            output.say(line(row))
