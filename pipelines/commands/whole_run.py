"""Verbs that do every stage: run, demo."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import EngineName, Json, Scheduler, Workers, WorkspaceDir, opened
from pipelines.commands.telling import show, working
from pipelines.output import Output


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (run, demo):
        app.command()(verb)


def run(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Do every stage of the policy, each only what is missing.

    Example: wildrf run --workspace my-set
    """
    from pipelines import whole_run
    from pipelines.engines import open_engine

    told = Output(as_json)
    with open_engine(engine, workers=workers, scheduler=scheduler) as images, working() as progress:
        state = whole_run.Context(opened(context, workspace), images, progress, told.say)
        if dry_run:
            result = whole_run.plan(state, whole_run.STAGES)
            show(
                result,
                [f"{s['name']}: {s['does']}; {s['left']}" for s in result["stages"]],
                as_json,
            )
            return
        result = whole_run.run_stages(state, whole_run.STAGES)
    show(result, [], as_json, passes=result["passes"])


def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the demo lives.")
    ] = Path("demo"),
    images: Annotated[
        int, typer.Option("--images", min=40, help="Distinct pictures in the world.")
    ] = 480,
    seed: Annotated[int, typer.Option("--seed", help="Of the whole world.")] = 0,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Run everything on a small simulated world.

    What was found is compared with what was planted, in report.html.

    Example: wildrf demo demo
    """
    from pipelines import demo as verb
    from pipelines.engines import open_engine

    told = Output(as_json)
    with open_engine("local", workers=workers) as pool, working() as progress:
        result = verb.run(
            directory,
            images=images,
            seed=seed,
            engine=pool,
            progress=progress,
            say=told.say,
        )
    show(result, verb.lines(result), as_json, passes=result["agrees"])
