"""The command line as a user meets it: arguments in; exit code, stdout and stderr out."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from pipelines.cli import main


@dataclass(frozen=True)
class Answer:
    """What one command line left behind."""

    code: int
    out: str
    err: str


def ask(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return Answer(ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def wildrf():
    """Runs one command line in this process."""
    return ask
