"""`wildrf explain`: where in a picture a detector sees fake."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import Checkpoint, DeviceOrAuto, Images, Json
from pipelines.commands.telling import show, working


def add_to(app: typer.Typer) -> None:
    """Put the verb on the command line."""
    app.command()(explain)


def explain(
    checkpoint: Checkpoint,
    paths: Images,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: the run folder's own `explain`."),
    ] = None,
    own_size: Annotated[
        bool | None,
        typer.Option(
            "--own-size/--as-scored",
            help="Whole pictures in tiles, or what is scored; default: as trained.",
        ),
    ] = None,
    max_images: Annotated[
        int,
        typer.Option(
            "--max-images",
            metavar="N",
            min=1,
            help="At most so many pictures, spread over all, of each class alike.",
        ),
    ] = 24,
    device: DeviceOrAuto = "auto",
    as_json: Json = False,
) -> None:
    """Show where a detector sees fake: maps, patches, grid.

    Leaves index.html, maps/, grid/, patches.png and explain.json.

    Example: wildrf explain runs/v1 photo.jpg folder/
    """
    from pipelines.explain import Asked, lines, run
    from pipelines.report.evaluation import remade_line, with_evaluation

    asked = Asked(checkpoint, tuple(paths), out, own_size, max_images, device)
    with working() as progress:
        result: dict[str, Any] = with_evaluation(run(asked, progress))
    show(result, [*lines(result), *remade_line(result)], as_json)
