"""The verbs that take a detector out of training: export-onnx, parity, cases."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Checkpoint, DeviceOrAuto, Json, WorkspaceDir
from pipelines.commands.telling import show


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for name, verb in (("export-onnx", export_onnx), ("parity", parity), ("cases", cases)):
        app.command(name)(verb)


def export_onnx(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The ONNX file to write.")],
    patch_map: Annotated[
        bool, typer.Option("--patch-map", help="Give the logit of every patch as well.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="T",
            min=0,
            help="How far logits may be off: T (1 + |logit|); default: 1e-5, and for a deep detector "
            "three times what torch's own float32 is off by, if that is more, up to 1e-4.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a detector as one ONNX file, preprocessing inside.

    It takes 8-bit RGB pictures of any size, and is written only if its logits are those of torch.

    Example: wildrf export-onnx runs/v1 --out v1.onnx
    """
    from pipelines import detect
    from train.deploy.export import export_onnx as export

    found = export(detect.checkpoint_of(checkpoint), out, patch_map=patch_map, tolerance=tolerance)
    result = found.to_dict()
    show(result, detect.export_lines(result), as_json)


def parity(
    checkpoint: Checkpoint,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[ONNX] PATH...",
            help="Images or folders; an ONNX file before them is compared too.",
        ),
    ],
    files: Annotated[
        int, typer.Option("--files", metavar="N", min=1, help="Files, spread over all of them.")
    ] = 10,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="T",
            min=0,
            help="How far logits may be apart: T (1 + |logit|); default: 2e-5 for tiny-ladeda on a CPU, "
            "else 1e-4.",
        ),
    ] = None,
    device: DeviceOrAuto = "auto",
    as_json: Json = False,
) -> None:
    """Prove that a detector in use scores as in training.

    Training is the CPU in float32; in use is where `wildrf predict` would compute. Exit code 1 if a logit is
    off by more than the tolerance; the step it comes from is named.

    Example: wildrf parity runs/v1 v1.onnx photos/
    """
    from pipelines import detect

    result = detect.parity_of(detect.checkpoint_of(checkpoint), paths, files, tolerance, device)
    show(result, detect.parity_lines(result), as_json, passes=result["same"])


def cases(
    context: typer.Context,
    checkpoint: Checkpoint,
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CASES]",
            help="A folder with cases.csv or cases.toml, or the table; default: cases/.",
        ),
    ] = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Look again at known images with a verdict they must get.

    Exit code 1 if one gets another. `wildrf train`, `distill` and `run` do this after each training.

    Example: wildrf cases runs/v1 cases/
    """
    from pipelines import cases as verb
    from pipelines import detect

    place = table or verb.place_of(workspace or context.obj)
    result = verb.judge(detect.checkpoint_of(checkpoint), verb.table_at(place))
    show(result, verb.lines(result), as_json, passes=result["right"] == result["n"])
