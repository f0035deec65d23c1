"""Options and arguments that verbs of several topics take, and the workspace they name."""

from pathlib import Path
from typing import Annotated, Any

import typer

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""How help is asked for, and how wide it is: of the app and of every group of verbs."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
WorkspaceDir = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="The workspace; default: the nearest wildrf.toml upwards.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Processes; default: one per core.")
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="local|dask", help="Where images are processed.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder with 0_real and 1_fake leaves.")
]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A checkpoint file or a run folder.")
]
Images = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images or folders.")]

_DEVICE = typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")
Device = Annotated[str | None, _DEVICE]
"""Not given, it is the recipe's in training, and auto elsewhere."""
DeviceOrAuto = Annotated[str, _DEVICE]


def opened(context: typer.Context, workspace: Path | None) -> Any:
    """The workspace that was named, before or after the verb, or the nearest one upwards."""
    from curate.workspace import find_workspace, open_workspace

    named = workspace or context.obj
    return open_workspace(named) if named else find_workspace(Path.cwd())
