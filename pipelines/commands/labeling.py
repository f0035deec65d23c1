"""`wildrf label`: have people decide, by a Label Studio or plain files."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import HELP, Json, WorkspaceDir, opened
from pipelines.commands.telling import show, working

File = Annotated[Path, typer.Argument(metavar="FILE")]


def add_to(app: typer.Typer) -> None:
    """Put the group of verbs on the command line."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Have people decide: Label Studio round trip, or plain files.",
        context_settings=HELP,
    )
    verbs = (
        ("push", push), ("pull", pull), ("import", import_votes), ("export", export_tasks),
        ("status", status),
    )  # fmt: skip
    for name, verb in verbs:
        group.command(name)(verb)
    app.add_typer(group, name="label")


def push(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Show images that have no task yet to annotators.

    Pushing twice changes nothing.

    Example: LABEL_STUDIO_API_KEY=... wildrf label push
    """
    import os

    from pipelines import label as verb

    with working() as progress:
        result = verb.push(opened(context, workspace), os.environ, progress)
    show(result, verb.lines(result), as_json)


def pull(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Take in every vote from Label Studio, once each.

    Example: LABEL_STUDIO_API_KEY=... wildrf label pull
    """
    import os

    from pipelines import label as verb

    result = verb.pull(opened(context, workspace), os.environ)
    show(result, verb.lines(result), as_json)


def import_votes(
    context: typer.Context, file: File, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Take in the votes of a Label Studio JSON export.

    Example: wildrf label import project-1.json
    """
    from pipelines import label as verb

    result = verb.import_file(opened(context, workspace), file)
    show(result, verb.lines(result), as_json)


def export_tasks(
    context: typer.Context, file: File, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Write a task file for any Label Studio, without a server.

    Example: wildrf label export tasks.json
    """
    from pipelines import label as verb

    result = verb.export_file(opened(context, workspace), file)
    show(result, verb.lines(result), as_json)


def status(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Say how far labelling is.

    Example: wildrf label status
    """
    from pipelines import label as verb

    result = verb.status(opened(context, workspace))
    show(result, verb.lines(result), as_json)
