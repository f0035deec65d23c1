"""Verbs that look at images one by one and in pairs: probe, dedupe."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import EngineName, Json, Scheduler, Workers, WorkspaceDir, opened
from pipelines.commands.telling import show, show_rows, working

Distance = Annotated[int, typer.Option("--distance", min=0, max=16, help="Bits, on a folder.")]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="DIR|TABLE", help="A benchmark, or a table of its hashes."),
]
Same = Annotated[
    tuple[str, str] | None,
    typer.Option("--same", metavar="A B", help="Remember: these two images are one picture."),
]
NotSame = Annotated[
    tuple[str, str] | None,
    typer.Option("--not-same", metavar="A B", help="Remember: these two images are not."),
]
Page = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Where the page goes; default: dedupe.html."),
]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (probe, dedupe):
        app.command()(verb)


def probe(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Images or folders.")
    ] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Read file facts, of the workspace or of any path.

    Of paths, they come as JSON lines with --json.

    Example: wildrf probe photos/ --json
    """
    from pipelines import examine
    from pipelines.engines import open_engine

    with open_engine(engine, workers=workers, scheduler=scheduler) as images:
        if paths:
            show_rows(examine.probe_paths(paths, images), examine.probe_line, as_json)
            return
        with working() as progress:
            result = examine.probe_workspace(opened(context, workspace), images, progress)
    show(result, examine.probe_lines(result), as_json)


def dedupe(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Any folder of images.")
    ] = None,
    distance: Distance = 8,
    against: Against = None,
    same: Same = None,
    not_same: NotSame = None,
    report: Page = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Find copies of a picture, in the workspace or a folder.

    Exit code 1 if --against was given and one of its images is here.

    Example: wildrf dedupe photos/ --against benchmark/manifest.parquet
    """
    from pipelines import dedupe as verb
    from pipelines.engines import open_engine
    from pipelines.judge import need_writable

    words = verb.words_of(directory, same, not_same)
    found: Any = opened(context, workspace) if directory is None else None
    page = report or (found.root if found else Path()) / "dedupe.html"
    need_writable(page)
    with open_engine(engine, workers=workers, scheduler=scheduler) as images, working() as progress:
        if directory is not None:
            outcome = verb.dedupe_folder(
                directory, images, progress, distance_bits=distance, against=against
            )
        else:
            outcome = verb.dedupe_workspace(found, images, progress, against=against, words=words)
    result = verb.write_page(outcome, page)
    show(result, verb.lines(result), as_json, passes=verb.passes(result))
