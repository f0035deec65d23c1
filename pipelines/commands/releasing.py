"""Verbs from images to a release that can be trusted: split, check, audit, release."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import EngineName, Json, Scheduler, Workers, WorkspaceDir, opened
from pipelines.commands.telling import show, working

Release = Annotated[
    str | None,
    typer.Option("--release", metavar="NAME", help="A release of the workspace, instead of DIR."),
]
OptionalFolder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A folder with 0_real and 1_fake leaves.")
]
Page = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Where the page goes; default: audit.html."),
]
Gate = Annotated[
    float | None,
    typer.Option("--gate", min=0.5, max=1, help="Highest AUC that passes; default: 0.60."),
]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (split, check, audit, release):
        app.command()(verb)


def split(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The release to assign.")],
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Assign groups to train, val and test.

    Groups stay whole; the protocol is the policy's.

    Example: wildrf split v1
    """
    from pipelines import grow

    result = grow.split(opened(context, workspace), name)
    show(result, grow.split_lines(result), as_json)


def check(
    context: typer.Context,
    directory: OptionalFolder = None,
    release: Release = None,
    distance: Annotated[int | None, typer.Option("--distance", min=0, max=16, help="Bits.")] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Look for leaks across splits.

    Exit code 1 if there is one.

    Example: wildrf check path/to/WildRF
    """
    from pipelines import judge

    found = surveyed(context, directory, release, workspace, (engine, workers, scheduler))
    bits = found.policy.split.check_distance_bits if distance is None else distance
    result = {**judge.check(found, bits), "ignored": found.ignored}
    show(result, judge.check_lines(result), as_json, passes=result["clean"])


def audit(
    context: typer.Context,
    directory: OptionalFolder = None,
    release: Release = None,
    report: Page = None,
    gate: Gate = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Measure shortcuts: do file facts tell real from fake?

    Exit code 1 if they do.

    Example: wildrf audit path/to/WildRF
    """
    from pipelines import judge

    if report is None:
        inside = opened(context, workspace).root if release else Path()
        report = inside / (f"audit-{release}.html" if release else "audit.html")
    judge.need_writable(report)
    found = surveyed(context, directory, release, workspace, (engine, workers, scheduler))
    allowed = found.policy.gates.shortcut_auc if gate is None else gate
    result = judge.audit_survey(found, gate=allowed, report=report)
    result["ignored"] = found.ignored
    show(result, judge.audit_lines(result), as_json, passes=result["passes"])


def release(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A release made by `wildrf split`.")],
    form: Annotated[
        str, typer.Option("--format", metavar="wildrf", help="Layout on disk.")
    ] = "wildrf",
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Write a release: folders, original bytes, manifest.

    Example: wildrf release v1
    """
    from pipelines import grow

    with working() as progress:
        result = grow.release(opened(context, workspace), name, form, progress)
    show(result, grow.release_lines(result), as_json)


def surveyed(
    context: typer.Context,
    directory: Path | None,
    release: str | None,
    workspace: Path | None,
    engine: tuple[str, int | None, str | None],
) -> Any:
    """The images to judge, from a folder or a release: a `judge.Survey`."""
    from pipelines import judge
    from pipelines.engines import open_engine
    from schemas.errors import InputError

    if (directory is None) == (release is None):
        raise InputError("name one of DIR and --release NAME; a folder needs no workspace")
    if release is not None:
        return judge.survey_catalog(opened(context, workspace), release)
    assert directory is not None
    name, workers, scheduler = engine
    with open_engine(name, workers=workers, scheduler=scheduler) as images, working() as progress:
        return judge.survey_folder(directory, images, progress)
