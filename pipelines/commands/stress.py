"""`wildrf stress`: what a detector goes by, and what it withstands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import Checkpoint, DeviceOrAuto, Folder, Json
from pipelines.commands.telling import show, working


def add_to(app: typer.Typer) -> None:
    """Put the verb on the command line."""
    app.command()(stress)


def stress(
    checkpoint: Checkpoint,
    directory: Folder,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="NAME", help="One test; can be repeated. Default: all."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="CKPT", help="Another checkpoint to compare with."),
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option("--max-images", metavar="N", min=2, help="Test on a stratified sample."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of sample and draws.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: the run folder's own `stress`."),
    ] = None,
    device: DeviceOrAuto = "auto",
    as_json: Json = False,
) -> None:
    """Stress a detector: what it goes by, and what it withstands.

    Counterfactuals, JPEG, blur, platforms, grid offsets, pooling, cost; with --against, patch sizes and
    representations. Leaves stress.json, stress.parquet and stress.html.

    Example: wildrf stress runs/v1 releases/v1 --test counterfactuals --max-images 400
    """
    from pipelines.report.evaluation import remade_line, with_evaluation
    from pipelines.stress import Asked, lines, run

    tests, others = tuple(test or ()), tuple(against or ())
    asked = Asked(checkpoint, directory, tests, others, out, max_images, seed, device)
    with working() as progress:
        result: dict[str, Any] = with_evaluation(run(asked, progress))
    show(result, [*lines(result), *remade_line(result)], as_json)
