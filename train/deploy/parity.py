"""Does the deployed detector give the scores of training? Paths side by side, step by step.

    training   decode, as the loader does; batches as validation makes them; the detector as it was trained
    predict    `train.predict` on the device it would take: threads, compiled or folded network, or a GPU
    onnx       the exported file, fed the whole picture: resize and all inside it

Where a logit is off by more than the tolerance, the first step whose outcome differs is named: decode (8-bit
RGB at its own size), resize (8-bit), normalise, or network.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import CheckpointError, InputError
from schemas.labels import Label
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, choose_compute
from train.data import EVAL_BATCH, ImageSet, Item, decode, decode_all, eval_batches, quiet_decoder
from train.deploy.export import difference
from train.deploy.runtime import LOGIT, is_onnx, load_onnx, need, open_session
from train.engine import predict_logits
from train.predict import expand, score_files
from train.transforms import Preprocessing, normalise, to_rgb

T = TypeVar("T")

FILES = 10
"""Files compared unless more are asked for."""

TOLERANCES = {"tiny-ladeda": 2e-5}
DEFAULT_TOLERANCE = 1e-4
"""How far apart two float32 logits may be, as a part of 1 + the logit; each rounds for itself.

Tiny-LaDeDa was seen to come to 1.1e-5 on photographs; 50 layers round more than 4. A GPU adds up in
another order, so that on one this holds for every detector.
"""

NORMALISED_TOLERANCE = 1e-6
"""Of a normalised value, whose range is about -2 to 3: a few units in the last place of a float32."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What a picture is after each step of one path; None where a path does not show it."""

    rgb: NDArray[np.uint8] | None
    resized: NDArray[np.uint8] | None
    normalised: NDArray[np.float32] | None
    logit: float


@dataclass(frozen=True, slots=True)
class Row:
    """One file on one path, against the training path.

    `device` is where the path ran; the training path ran on the CPU. `difference` is a part of 1 + the
    training path's logit; `step` names where it comes from, None within the tolerance.
    """

    path: str
    route: str
    device: str
    training: float
    logit: float
    difference: float
    tolerance: float
    step: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """A path after training: where it ran, what it made of each picture, and how far off it may be."""

    name: str
    device: str
    stages: Sequence[Stages]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Parity:
    """The outcome: rows, the largest difference by path, and files that were left out with the reason.

    `tolerance` is the widest of the rows'.
    """

    rows: tuple[Row, ...]
    skipped: tuple[tuple[str, str], ...]
    largest: dict[str, float]
    tolerance: float
    same: bool

    def to_dict(self) -> dict[str, Any]:
        """As `wildrf parity --json` shows it."""
        return {
            "same": self.same,
            "tolerance": self.tolerance,
            "largest": self.largest,
            "rows": [asdict(row) for row in self.rows],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }


def parity(
    checkpoint: Path,
    paths: Sequence[Path],
    *,
    onnx: Path | None = None,
    files: int = FILES,
    tolerance: float | None = None,
    device: str = "auto",
) -> Parity:
    """Compare the paths on `files` of the images at `paths`, spread over all of them.

    `device` is where the predict path runs, by default where `train.predict` would.

    Raises:
        CheckpointError: if a detector cannot be used, or the ONNX file is not of this checkpoint.
        InputError: if there is no image that decodes, or the device is not there.
    """
    loaded = load_detector(checkpoint)
    compute = choose_compute(device, "float32", loaded.spec)
    exported = _Exported(onnx, loaded) if onnx else None
    readable, skipped = _choose(paths, files, loaded.preprocessing)
    wanted = training_path(loaded, readable)  # on the CPU, so before the model may leave it
    predicted = predict_path(loaded, readable, compute)
    routes = [_route("predict", predicted, compute.device, loaded, tolerance)]
    if exported is not None:
        stages = [exported(path) for path in readable]
        routes.append(_route("onnx", stages, torch.device("cpu"), loaded, tolerance))
    rows = [
        _row(path, wanted[k], route, route.stages[k])
        for k, path in enumerate(readable)
        for route in routes
    ]
    return judge(rows, skipped)


def judge(rows: Sequence[Row], skipped: Sequence[tuple[str, str]] = ()) -> Parity:
    """Whether all `rows` are within their tolerance; a logit that is no number is not."""
    largest = {
        route: float(np.max([row.difference for row in rows if row.route == route]))
        for route in dict.fromkeys(row.route for row in rows)
    }
    widest = max(row.tolerance for row in rows)
    same = all(row.difference <= row.tolerance for row in rows)
    return Parity(tuple(rows), tuple(skipped), largest, widest, same)


def _route(
    name: str,
    stages: Sequence[Stages],
    device: torch.device,
    loaded: LoadedDetector,
    tolerance: float | None,
) -> Route:
    """A path with the tolerance that was asked for, or that of its detector and device."""
    if tolerance is None:
        usual = TOLERANCES if device.type == "cpu" else {}
        tolerance = usual.get(loaded.spec.name, DEFAULT_TOLERANCE)
    return Route(name, str(device), stages, tolerance)


def _choose(
    paths: Sequence[Path], files: int, preprocessing: Preprocessing
) -> tuple[list[Path], list[tuple[str, str]]]:
    """The files to compare, and those left out of them."""
    chosen = spread_over([file for path in paths for file in expand(path)], files)
    readable, skipped = _readable(chosen, preprocessing)
    if not readable:
        raise InputError(
            f"none of {len(chosen)} files decodes ({skipped[0][1] if skipped else 'none given'}); "
            "expected images; name others"
        )
    return readable, skipped


def spread_over(files: Sequence[T], count: int) -> list[T]:
    """`count` of `files`, the first and the last among them, evenly spread."""
    if len(files) <= count:
        return list(files)
    places = np.linspace(0, len(files) - 1, count).round().astype(int)
    return [files[place] for place in places]


def _readable(
    paths: Iterable[Path], preprocessing: Preprocessing
) -> tuple[list[Path], list[tuple[str, str]]]:
    good: list[Path] = []
    bad: list[tuple[str, str]] = []
    with quiet_decoder():
        for path in paths:
            error = decode(path, preprocessing).error
            if error is None:
                good.append(path)
            else:
                bad.append((str(path), error))
    return good, bad


def training_path(loaded: LoadedDetector, paths: Sequence[Path]) -> list[Stages]:
    """What training sees and validation computes, on the CPU in float32."""
    decoded = list(decode_all(paths, loaded.preprocessing, workers=1))
    items = tuple(Item(str(path), None, "", Label.REAL) for path in paths)
    pixels = [one.pixels for one in decoded if one.pixels is not None]
    digests = tuple(one.digest or "" for one in decoded)
    images = ImageSet(items, digests, pixels, ())
    cpu = Compute(torch.device("cpu"))
    batches = list(eval_batches(images, batch=EVAL_BATCH))
    logits = predict_logits(loaded.model, batches, loaded.preprocessing, cpu)
    planes = [
        one.numpy()
        for batch in batches
        for one in normalise(batch, loaded.preprocessing, cpu.device)
    ]
    pictures = [read_rgb(path, loaded.preprocessing) for path in paths]
    return [
        Stages(rgb, resized, plane, float(logit))
        for rgb, resized, plane, logit in zip(pictures, pixels, planes, logits, strict=True)
    ]


def predict_path(loaded: LoadedDetector, paths: Sequence[Path], compute: Compute) -> list[Stages]:
    """What `wildrf predict` computes; its network takes 8-bit pixels, so that is what it shows."""
    stages = []
    for row in score_files(loaded, paths, compute=compute):
        with quiet_decoder():
            again = decode(row.path, loaded.preprocessing)
        stages.append(Stages(None, again.pixels, None, np.nan if row.logit is None else row.logit))
    return stages


def read_rgb(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The upright 8-bit RGB picture at its own size, as an exported file wants it."""
    with quiet_decoder(), Image.open(path) as image:
        return np.array(to_rgb(image, preprocessing))


class _Exported:
    """An ONNX file that shows what is between its steps."""

    def __init__(self, path: Path, loaded: LoadedDetector) -> None:
        from train.deploy.graph import NORMALISED, RESIZED

        found = load_onnx(path)
        require_same(found.meta, found.preprocessing, loaded, path.name)
        self._preprocessing = found.preprocessing
        onnx = need("onnx")
        model = onnx.load_model_from_string(path.read_bytes())
        for name, kind in ((RESIZED, onnx.TensorProto.UINT8), (NORMALISED, onnx.TensorProto.FLOAT)):
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [None] * 4))
        self._names = [RESIZED, NORMALISED, LOGIT]
        self._session = open_session(model.SerializeToString(), path.name)

    def __call__(self, path: Path) -> Stages:
        """What the file computes of the picture at `path`."""
        rgb = read_rgb(path, self._preprocessing)
        resized, planes, logit = self._session.run(self._names, {"image": rgb[None]})
        return Stages(rgb, resized[0], planes[0], float(logit[0]))


def require_same(
    meta: dict[str, str], preprocessing: Preprocessing, loaded: LoadedDetector, name: str
) -> None:
    """Check that an exported file is of this checkpoint and its preprocessing.

    Raises:
        CheckpointError: if it is not.
    """
    if preprocessing.digest != loaded.preprocessing.digest:
        raise CheckpointError(
            f"{name} has preprocessing {preprocessing.digest}, the checkpoint has "
            f"{loaded.preprocessing.digest}; expected them equal; export the checkpoint again"
        )
    if meta.get("wildrf.checkpoint_sha256") != loaded.digest:
        raise CheckpointError(
            f"{name} was exported from checkpoint {meta.get('wildrf.checkpoint_sha256', '')[:12]}, "
            f"not from {loaded.digest[:12]}; expected the same; export the checkpoint again"
        )


def _row(path: Path, training: Stages, route: Route, deployed: Stages) -> Row:
    off = difference(deployed.logit, training.logit)
    step = None if off <= route.tolerance else first_difference(training, deployed)
    return Row(
        str(path), route.name, route.device, training.logit, deployed.logit, off, route.tolerance,
        step,
    )  # fmt: skip


def first_difference(training: Stages, deployed: Stages) -> str:
    """The first step after which two paths differ."""
    for step in ("rgb", "resized", "normalised"):
        one, other = getattr(training, step), getattr(deployed, step)
        if one is not None and other is not None and _differ(one, other):
            return {"rgb": "decode", "resized": "resize", "normalised": "normalise"}[step]
    return "network"


def _differ(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return True
    allowed = NORMALISED_TOLERANCE if one.dtype.kind == "f" else 0
    off = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
    return not off <= allowed  # so that a value that is no number differs


def split_onnx(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The ONNX file that stands before the images, if one does, and the images."""
    if paths and is_onnx(paths[0]):
        return paths[0], list(paths[1:])
    return None, list(paths)
