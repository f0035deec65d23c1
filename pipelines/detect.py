"""The verbs of the detector: train, distill, predict, export-onnx, parity; and the evaluation of a run."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curate.workspace import Workspace
from pipelines.output import table
from schemas.errors import InputError
from schemas.policy import TrainPolicy
from schemas.records import Score

EXPECTED = {"device": "auto, cpu, mps, cuda or cuda:N"}
"""Options of which a pattern says less than an example."""


def recipe_with(recipe: TrainPolicy, **asked: Any) -> TrainPolicy:
    """`recipe` with what the command line asks for; None leaves a field as it is.

    Raises:
        InputError: if a value cannot be used.
    """
    given = {k: v for k, v in asked.items() if v is not None}
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)} | given
    try:
        return TypeAdapter(TrainPolicy).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).replace("_", "-")
        wanted = EXPECTED.get(name, first["msg"].lower().removeprefix("input should be "))
        raise InputError(f"--{name} is {first['input']!r}; expected {wanted}") from None


def checkpoint_of(path: Path) -> Path:
    """The checkpoint at `path`: the file itself, or that of a run folder.

    Raises:
        InputError: if there is none.
    """
    if path.is_dir():
        path = path / "checkpoint.pt"
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a checkpoint file, or the folder of a finished run"
        )
    return path


def say_epoch(report: Any) -> str:
    """One line per epoch."""
    val = report.val
    auc = "" if val.get("auc") is None else f", AUC {val['auc']:.3f}"
    return (
        f"epoch {report.epoch}: train loss {report.loss:.4f}, val accuracy {val['acc']:.3f}"
        f"{auc} (n={val['n']}), {report.seconds:.0f} s"
    )


def train_lines(result: dict[str, Any]) -> list[str]:
    """What came of a training."""
    val = result["val"]
    return [
        f"{result['epochs']} epochs in {result['seconds']:.0f} s, stopped: {result['stopped']}",
        f"validation (n={val['n']}): {_metric(val, 'acc')}, {_metric(val, 'ap')}, {_metric(val, 'auc')}",
        *(f"skipped {s['path']}: {s['reason']}" for s in result["skipped"][:10]),
        f"checkpoint: {result['checkpoint']}",
    ]


def predict_line(row: dict[str, Any]) -> str:
    """One image for people."""
    if "error" in row:
        return f"{row['path']}: {row['error']}"
    return f"{row['score']:.4f}  {row['path']}"


def _metric(values: dict[str, Any], key: str, *, named: bool = True) -> str:
    interval = (values.get("ci") or {}).get(key)
    inside = f" [{_number(interval[0])}, {_number(interval[1])}]" if interval else ""
    return f"{key.upper() + ' ' if named else ''}{_number(values[key])}{inside}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def distill_run(
    teacher: Path, out: Path, data: Path | None, on_epoch: Any, **asked: Any
) -> dict[str, Any]:
    """Distil `teacher` into `out`, on its own training data unless told otherwise.

    Raises:
        InputError: if it is not known what the teacher learnt from.
    """
    from train.distill import distill

    checkpoint = checkpoint_of(teacher)
    root, recipe = _learnt_from(checkpoint.with_name("config.json"))
    root = data or root
    if root is None:
        raise InputError(
            f"{teacher} does not say what it was trained on; name the images with --data DIR"
        )
    student = recipe_with(
        replace(recipe, representation=None, epochs=TrainPolicy().epochs), **asked
    )
    return distill(checkpoint, root, out, student, on_epoch=on_epoch).to_dict()


def _learnt_from(record: Path) -> tuple[Path | None, TrainPolicy]:
    """What a run says of its data and recipe; nothing, and the defaults, where it left no record.

    Raises:
        InputError: if the record is damaged.
    """
    if not record.is_file():
        return None, TrainPolicy()
    try:
        known = json.loads(record.read_bytes())
        root = known.get("data", {}).get("root")
        recipe = TypeAdapter(TrainPolicy).validate_python(known.get("recipe", {}))
    except (ValueError, AttributeError):
        raise InputError(
            f"{record} is damaged; expected the record of a training run; train the teacher again"
        ) from None
    return (Path(root) if root else None), recipe


def predict_paths(
    checkpoint: Path, paths: list[Path], device: str | None
) -> Iterator[dict[str, Any]]:
    """Scores of files and folders."""
    from train.predict import predict

    require_images(paths)
    return predict(checkpoint, paths, device=device or "auto")


def export_lines(result: dict[str, Any]) -> list[str]:
    """What was written, and how close it is."""
    return [
        f"{result['path']}: {result['detector']}, {result['bytes'] / 1e6:.1f} MB, "
        f"preprocessing {result['preprocessing_digest']} inside",
        f"checked on {result['pictures']} pictures: logits within {result['largest_difference']:.1e} of "
        f"torch's (allowed {result['tolerance']:g})",
    ]


def parity_of(
    checkpoint: Path, paths: list[Path], files: int, tolerance: float | None
) -> dict[str, Any]:
    """Training path, predict path and, if an ONNX file stands before the images, that."""
    from train.deploy.parity import parity, split_onnx

    onnx, images = split_onnx(paths)
    require_images(images)
    return parity(checkpoint, images, onnx=onnx, files=files, tolerance=tolerance).to_dict()


def parity_lines(result: dict[str, Any]) -> list[str]:
    """A line per file and path, then the verdict."""
    rows = [
        [
            row["path"], row["route"], f"{row['training']:.6f}", f"{row['logit']:.6f}",
            f"{row['difference']:.1e}", row["step"] or "-",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    most = ", ".join(f"{route} {value:.1e}" for route, value in result["largest"].items())
    verdict = "the same" if result["same"] else "NOT the same"
    return [
        *table(rows, ["file", "path", "training", "logit", "difference", "from"]),
        *(f"left out {row['path']}: {row['reason']}" for row in result["skipped"]),
        f"{verdict}: largest difference {most} (allowed {result['tolerance']:g})",
    ]


def require_images(paths: list[Path]) -> None:
    """Check that there are paths, and that each is there.

    Raises:
        InputError: if one is not.
    """
    if not paths:
        raise InputError("no image is named; expected images or folders; add them")
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; expected an image or a folder of images")


def evaluate_run(
    checkpoint: Path, root: Path, out: Path, workspace: Workspace, *, simulated: bool = False
) -> dict[str, Any]:
    """A checkpoint's numbers on a release; its scores go to the catalog, so that `why` can tell them.

    Done before for the same checkpoint and images, it is read, not done again.
    """
    import pyarrow.parquet as pq

    place = out / "evaluation"
    result = _evaluated(checkpoint, root, place, simulated)
    scores = pq.read_table(place / "scores.parquet", columns=["sha256", "logit"]).to_pylist()
    model = result["checkpoint"]["sha256"]
    rows = [Score(model=model, digest=row["sha256"], logit=row["logit"]) for row in scores]
    workspace.catalog.add("score", rows, replace=True)
    return result


def _evaluated(checkpoint: Path, root: Path, place: Path, simulated: bool) -> dict[str, Any]:
    """The evaluation in `place`, made there if it is not one of this checkpoint and this release."""
    from pipelines.evaluation import evaluate_folder

    of = {
        "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "root_hash": json.loads((root / "release.json").read_text())["root_hash"],
        "code_version": version("wildrf"),
    }
    mark = place / "of.json"
    if mark.is_file() and json.loads(mark.read_text()) == of:
        found: dict[str, Any] = json.loads((place / "metrics.json").read_text())
        return found
    mark.unlink(missing_ok=True)
    result = evaluate_folder(checkpoint, root, place, None, simulated=simulated)
    waiting = place / ".of.json"
    waiting.write_text(json.dumps(of, indent=1) + "\n")
    waiting.replace(mark)
    return result
