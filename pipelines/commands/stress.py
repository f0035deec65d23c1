"""`wildrf stress`: what a detector goes by, and what it withstands."""

from pathlib import Path
from typing import Annotated, Any

import typer


def add_to(app: typer.Typer) -> None:
    """Put the verb on `app`."""
    app.command()(stress)


def stress(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A checkpoint file or a run folder.")
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with 0_real and 1_fake leaves.")
    ],
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
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of sample and draws.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: the run folder's own `stress`."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Stress a detector: what it goes by, and what it withstands.

    Counterfactuals, JPEG, blur, platforms, grid offsets, pooling, cost; with --against, patch sizes and
        representations. Leaves stress.json and stress.html.

    Example: wildrf stress runs/v1 releases/v1 --test counterfactuals --max-images 400
    """
    from pipelines.cli import show, working
    from pipelines.stress import Asked, lines, run

    asked = Asked(
        checkpoint,
        directory,
        tuple(test or ()),
        tuple(against or ()),
        out,
        max_images,
        seed,
        device,
    )
    with working() as progress:
        result: dict[str, Any] = run(asked, progress)
    show(result, lines(result), as_json)
