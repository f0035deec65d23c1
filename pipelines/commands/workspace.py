"""Verbs before the first image: init, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Json, WorkspaceDir, opened
from pipelines.commands.telling import show


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (init, doctor):
        app.command()(verb)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Make a workspace with a commented wildrf.toml.

    Example: wildrf init my-set
    """
    from pipelines import grow

    result = grow.init(directory)
    show(result, grow.init_lines(result), as_json)


def doctor(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Check this machine, the services and the workspace.

    Example: wildrf doctor --workspace my-set
    """
    import os

    from pipelines import doctor as verb
    from schemas.errors import InputError, PolicyError

    found, trouble = None, None
    try:
        found = opened(context, workspace)
    except PolicyError as error:
        trouble = str(error)
    except InputError:
        if workspace or context.obj:
            raise
    result = verb.examine(found, dict(os.environ), trouble)
    show(result, verb.lines(result), as_json, passes=result["ok"])
