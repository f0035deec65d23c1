"""Verbs that make a detector: train, distill."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import Device, Folder, Json, WorkspaceDir, opened
from pipelines.commands.telling import show, working
from pipelines.output import Output

Out = Annotated[
    Path, typer.Option("--out", metavar="RUN", help="The run's folder; an interrupted run goes on.")
]
Detector = Annotated[
    str | None,
    typer.Option(
        "--detector", metavar="NAME", help="ladeda5, ladeda9, ladeda17, ladeda33 or tiny-ladeda."
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="At most so many epochs.")
]
Size = Annotated[
    int | None, typer.Option("--size", metavar="PX", help="Side images are resized to.")
]
Crop = Annotated[int | None, typer.Option("--crop", metavar="PX", help="Side of training crops.")]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="Images per step.")]
Rate = Annotated[
    float | None, typer.Option("--learning-rate", metavar="R", help="Adam's, at the start.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of everything random.")]
Minutes = Annotated[float | None, typer.Option("--max-minutes", metavar="M", help="Time budget.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="paper|quick", help="Default: quick with --max-minutes, else paper."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A field of the recipe, as in wildrf.toml."),
]
Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="DIR[=W]", help="Mix in another set, with its weight."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keeps decoded pixels, and a teacher's logits, there for later runs.",
    ),
]
Cases = Annotated[
    Path | None,
    typer.Option(
        "--cases", metavar="DIR", help="Known images to look at again in the end; default: cases/."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (train, distill):
        app.command()(verb)


def train(
    context: typer.Context,
    directory: Folder,
    out: Out,
    detector: Detector = None,
    epochs: Epochs = None,
    size: Size = None,
    crop: Crop = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    seed: Seed = None,
    max_minutes: Minutes = None,
    recipe: Recipe = None,
    settings: Settings = None,
    also: Also = None,
    cache: Cache = None,
    device: Device = None,
    cases: Cases = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Train a detector on a folder in WildRF layout.

    The recipe is the paper's, or the workspace's with --workspace; with --max-minutes it is one that comes
    further in an hour or less. Any field of it can be set: --set augment.jpeg=0.5 --set pooling=top10.

    Example: wildrf train releases/v1 --out runs/v1 --max-minutes 20
    """
    from pipelines import cases as known
    from pipelines import detect

    table = known.table_for(cases, workspace or context.obj)
    told = Output(as_json)
    asked = {
        "detector": detector, "epochs": epochs, "size": size, "crop": crop, "batch": batch,
        "learning_rate": learning_rate, "seed": seed, "max_minutes": max_minutes, "device": device,
    }  # fmt: skip
    named = bool(workspace or context.obj)
    base = detect.base_recipe(recipe, recipe_of(context, workspace), named, max_minutes)
    with working() as progress:
        result = detect.train_run(
            [directory, *(also or [])], out, detect.recipe_with(base, settings or [], **asked),
            lambda report: told.say(detect.say_epoch(report)), progress, cache,
        )  # fmt: skip
    more = known.after_training(result, table)
    show(result, detect.train_lines(result) + more, as_json)


def distill(
    context: typer.Context,
    teacher: Annotated[
        Path, typer.Argument(metavar="RUN", help="The teacher: a run folder or checkpoint.")
    ],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Images to learn from; default: the teacher's."),
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", metavar="NAME", help="The student.")
    ] = "tiny-ladeda",
    epochs: Epochs = None,
    seed: Seed = None,
    max_minutes: Minutes = None,
    settings: Settings = None,
    cache: Cache = None,
    device: Device = None,
    cases: Cases = None,
    as_json: Json = False,
) -> None:
    """Teach a small detector what a large one sees.

    Example: wildrf distill runs/v1 --out runs/v1-tiny
    """
    from pipelines import cases as known
    from pipelines import detect

    table = known.table_for(cases, context.obj)
    told = Output(as_json)
    with working() as progress:
        result = detect.distill_run(
            teacher, out, data, lambda report: told.say(detect.say_epoch(report)),
            progress=progress, cache=cache, settings=settings or [],
            detector=detector, epochs=epochs, seed=seed, max_minutes=max_minutes, device=device,
        )  # fmt: skip
    more = known.after_training(result, table)
    show(result, detect.train_lines(result) + more, as_json)


def recipe_of(context: typer.Context, workspace: Path | None) -> Any:
    """The training recipe: of the workspace that was named, else the paper's."""
    from schemas.policy import TrainPolicy

    named = workspace or context.obj
    return opened(context, workspace).policy.train if named else TrainPolicy()
