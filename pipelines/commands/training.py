"""Verbs that make a detector: train, distill, import-ckpt."""

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
        "--recipe",
        metavar="paper|quick",
        help="Default: the workspace's, or quick with --max-minutes, or paper.",
    ),
]
StudentRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="paper|quick",
        help="Of distillation; default: quick with --max-minutes, else paper.",
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
    app.command("import-ckpt")(import_checkpoint)


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

    The recipe is that of the workspace, where its [train] differs from the paper's; else the paper's, or with
    --max-minutes one that comes further in an hour or less. Which it is, is said. Any field of it can be set:
    --set augment.jpeg=0.5 --set pooling=top10.

    Example: wildrf train releases/v1 --out runs/v1 --max-minutes 20
    """
    from pipelines import cases as known
    from pipelines import detect
    from pipelines.progress import Announced

    table = known.table_for(cases, workspace or context.obj)
    told = Output(as_json)
    asked = {
        "detector": detector, "epochs": epochs, "size": size, "crop": crop, "batch": batch,
        "learning_rate": learning_rate, "seed": seed, "max_minutes": max_minutes, "device": device,
    }  # fmt: skip
    own, where = recipe_of(context, workspace)
    chosen, words = detect.choose_recipe(recipe, own, where, settings or [], **asked)
    with working() as progress:
        result = detect.train_run(
            [directory, *(also or [])], out, chosen,
            lambda report: told.say(detect.say_epoch(report)),
            Announced(progress, lambda: told.say(words)), cache,
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
    recipe: StudentRecipe = None,
    settings: Settings = None,
    cache: Cache = None,
    device: Device = None,
    cases: Cases = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Teach a small detector what a large one sees.

    The recipe is that of the teacher, with the paper's distillation, or with --max-minutes one that comes
    further in little time. Which it is, is said, and any field of it can be set: --set within=0.5.

    Example: wildrf distill runs/v1 --out runs/v1-tiny
    """
    from pipelines import cases as known
    from pipelines import detect
    from pipelines.progress import Announced

    table = known.table_for(cases, workspace or context.obj)
    told = Output(as_json)
    with working() as progress:
        result = detect.distill_run(
            teacher, out, data, lambda report: told.say(detect.say_epoch(report)),
            progress=lambda words: Announced(progress, lambda: told.say(words)),
            cache=cache, recipe=recipe, settings=settings or [],
            detector=detector, epochs=epochs, seed=seed, max_minutes=max_minutes, device=device,
        )  # fmt: skip
    more = known.after_training(result, table)
    show(result, detect.train_lines(result) + more, as_json)


def import_checkpoint(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A bare state dict, such as the published ones.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="CKPT", help="The checkpoint to write.")],
    representation_scale: Annotated[
        str | None,
        typer.Option(
            "--representation-scale",
            metavar="S",
            help="What the representation is multiplied by, such as 1 or 2/3; NPR needs it.",
        ),
    ] = None,
    representation: Annotated[
        str | None,
        typer.Option("--representation", metavar="NAME", help="Default: the detector's own."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option("--detector", metavar="NAME", help="Default: told by names and shapes."),
    ] = None,
    size: Size = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit", metavar="stretch|crop|native|whole", help="Default: stretch, as published."
        ),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option("--pooling", metavar="mean|max|topN", help="Default: mean.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a checkpoint of published weights, preprocessing stated.

    Published files do not say what was done to the pictures. The LaDeDa trained on ForenSynths, for one,
    took NPR times 2/3: with 1 its accuracy on Reddit is 63.5 % instead of 74.7.

    Example: wildrf import-ckpt ForenSynth_LaDeDa.pth --out ladeda.pt --representation-scale 2/3
    """
    from pipelines import detect

    result = detect.import_run(
        file, out, representation_scale,
        representation=representation, detector=detector, size=size, fit=fit, pooling=pooling,
    )  # fmt: skip
    show(result, detect.import_lines(result), as_json)


def recipe_of(context: typer.Context, workspace: Path | None) -> tuple[Any, Path | None]:
    """The training recipe of the workspace, and where its policy is; without one, the paper's."""
    from curate.workspace import POLICY, nearest
    from schemas.policy import TrainPolicy

    if not (workspace or context.obj or nearest(Path.cwd())):
        return TrainPolicy(), None
    found = opened(context, workspace)
    return found.policy.train, found.root / POLICY
