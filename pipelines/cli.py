"""The command line: the app, its verbs by topic, and how it ends, whatever a verb runs into.

A verb is one function of `pipelines/commands/`, which parses, calls one function and shows the result.
Exit codes: 0 fine, 1 a gate said no, 2 bad input or usage. Nothing heavy is imported before a verb runs.
"""

import sys
from typing import Annotated, Any

import typer

from pipelines.commands import (
    catalog,
    collecting,
    deploy,
    evaluation,
    examining,
    explain,
    labeling,
    releasing,
    stress,
    training,
    whole_run,
    workspace,
)
from pipelines.commands.options import HELP, WorkspaceDir
from pipelines.commands.telling import INTERRUPTED
from pipelines.interrupting import Ear, heard

TOPICS = (
    workspace,  # init, doctor
    collecting,  # collectors, collect, capture, fetch
    examining,  # probe, dedupe
    releasing,  # split, check, audit, release
    catalog,  # forget, why, sql
    labeling,  # label push, pull, import, export, status
    training,  # train, distill, import-ckpt
    evaluation,  # evaluate, calibrate, compare, matrix, predict
    whole_run,  # run, demo
    stress,  # stress
    explain,  # explain
    deploy,  # export-onnx, parity, cases
)
"""The files of the verbs, in the order of the help."""

app = typer.Typer(
    name="wildrf",
    help="Grow, audit and release real-versus-AI image sets, and train LaDeDa on them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
for _topic in TOPICS:
    _topic.add_to(app)


def say_version(asked: bool) -> None:
    """The version, and nothing else."""
    if asked:
        from importlib.metadata import version as installed

        typer.echo(f"wildrf {installed('wildrf')}")
        raise typer.Exit


@app.callback()
def everything(
    context: typer.Context,
    workspace: WorkspaceDir = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that stand before the verb."""
    context.obj = workspace


NOT_YET = (
    "equalize", "verify", "diff", "monitor",
)  # fmt: skip
"""Verbs of the contract that are still to come: they say so, and are not listed."""


def _not_yet(name: str) -> None:
    @app.command(
        name,
        hidden=True,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def later() -> None:
        from schemas.errors import InputError

        raise InputError(f"`wildrf {name}` is not yet here; `wildrf -h` lists what is")


for _name in NOT_YET:
    _not_yet(_name)


GARBAGE = 20_000
"""Objects made before garbage is looked for: modules make many that stay, and each look goes over those."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever goes wrong is one line on stderr and an exit code."""
    import gc
    import os
    import warnings

    from pipelines.output import warnings_told

    gc.set_threshold(GARBAGE)
    telling = bool(os.environ.get("WILDRF_TRACEBACK"))
    _open_streams()
    with warnings.catch_warnings(), heard() as ear, warnings_told():
        if not telling:
            warnings.simplefilter("ignore")  # meant for developers of what we are built on
        try:
            code = _run(arguments, ear)
        except Exception as error:
            if telling:
                raise
            code = _fail(
                f"internal: {type(error).__name__}: {error}; this is a bug, "
                "set WILDRF_TRACEBACK=1 to see where",
                2,
            )
    sys.exit(code)


NO_TORCH = "torch is not installed; expected it for detectors; pip install 'wildrf[train]'"


def _run(arguments: list[str] | None, ear: Ear) -> int:
    """The exit code of one command line; what a Ctrl-C was made into by others is an interruption."""
    try:
        code = app(arguments, prog_name="wildrf", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as error:
        return _reader_gone(error)
    except Exception as error:
        if not ear.came and not _by_ctrl_c(error):
            return _told(error)
        code = INTERRUPTED
    if code == INTERRUPTED:
        return _fail("interrupted; what is done is kept, run the same command to go on", code)
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> int:
    """The exit code of an error that is nobody's mistake in the code, which is told; raises any other."""
    from schemas.errors import WildrfError

    match error:
        case WildrfError():
            return _fail(str(error), error.exit_code)
        case typer.TyperException():
            return _misused(error)
        case ModuleNotFoundError(name="torch"):
            return _fail(NO_TORCH, 2)
        case BrokenPipeError():
            return _reader_gone(error)
        case MemoryError():
            return _fail("out of memory; use fewer --workers or a smaller batch", 2)
        case OSError():
            return _fail(_system(error), 2)
    raise error


def _by_ctrl_c(error: Exception) -> bool:
    """Whether this is how DuckDB tells of a Ctrl-C that came while it worked."""
    return type(error).__name__ == "InterruptException" or str(error) == "Query interrupted"


def _open_streams() -> None:
    """Output that was closed by the caller is thrown away; the rest is UTF-8 whatever the locale."""
    import os

    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)


def _reader_gone(error: BaseException) -> int:
    """Whoever read our output has enough (`| head`): fine. Any other exit is passed on."""
    import os

    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        raise error
    # What is still in the buffer would be written, and fail, as the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _system(error: OSError) -> str:
    """What the operating system refused."""
    import errno

    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}no space left on the disk; free some and run again"
    return f"{where}{error.strerror or error}; mend that and run again"


def _fail(message: str, code: int) -> int:
    from pipelines.output import printable

    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    return code


def _misused(error: Any) -> int:
    """A usage error and where to read on; no verb at all shows the help."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)  # noqa: T201 - help where help is due, not an error
        return 2
    verb = context.command_path if context is not None else "wildrf"
    return _fail(f"{message.rstrip('.')}. Try `{verb} -h`.", 2)
