"""A checkpoint as one ONNX file (https://onnx.ai) that takes 8-bit RGB pictures of any size.

    image    uint8 (n, height, width, 3), upright, n of one size
    logit    float32 (n,), above 0 means fake
    score    float32 (n,), sigmoid of the logit
    patch_logits  float32 (n, h, w), if asked for

Everything between is inside: resize (`train.deploy.graph`), scaling, normalisation, representation, the
folded network and the pool. Decoding is not: whoever calls it decodes to RGB and turns it upright. The file
names its checkpoint, preprocessing, versions and licence, carries the calibration that lies beside the
checkpoint, and is written only after ONNX Runtime gave the logits of the unfolded detector, in float64 in
torch, on pictures of many shapes, as well as float32 can.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from schemas.errors import CheckpointError, GateError, InputError
from train.calibration import calibration_path, read_calibration
from train.checkpoint import STORED, LoadedDetector, load_detector, write_atomically
from train.config import code_versions
from train.deploy.fold import exact_logits, fold
from train.deploy.runtime import (
    CALIBRATION,
    FORMAT,
    LOGIT,
    VERSION,
    OnnxDetector,
    load_onnx,
    need,
    open_session,
)
from train.detectors import PatchDetector
from train.transforms import Preprocessing, normalise, to_batch, to_pixels

OPSET = 18
IR_VERSION = 10
SCORE = "score"
PATCHES = "patch_logits"

TOLERANCE = 1e-5
"""How far a logit may be from torch's in float64, as a part of 1 + the logit (`difference`)."""

SLACK, MOST = 3, 1e-4
"""In detectors deeper than Tiny-LaDeDa: how often torch's own float32 difference, and how far at most."""

SHALLOW = ("tiny-ladeda",)

SHAPES = ((256, 256), (480, 640), (640, 427), (60, 90), (33, 300), (700, 90), (97, 1))
"""Heights and widths the file is checked on: as they are, wide, tall, enlarged, and odd."""

LICENCE = {
    True: "The weights are under the terms of who trained them; the file around them is written by wildrf "
    "(Apache-2.0).",
    False: "The weights come from a published state dict (arXiv 2406.09398) and are under its terms: "
    "research use only. The file around them is written by wildrf (Apache-2.0).",
}
"""By whether the weights are of a checkpoint of ours."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how close it is: the largest difference of a logit, and on how many pictures.

    `torch_difference` is that of torch's own float32, of which the tolerance takes account; `calibrated` says
    whether a calibration is inside.
    """

    path: Path
    sha256: str
    bytes: int
    detector: str
    checkpoint_sha256: str
    preprocessing_digest: str
    largest_difference: float
    torch_difference: float
    pictures: int
    tolerance: float
    calibrated: bool

    def to_dict(self) -> dict[str, Any]:
        """As `wildrf export-onnx --json` shows it."""
        return {**asdict(self), "path": str(self.path)}


def export_onnx(
    checkpoint: Path, out: Path, *, patch_map: bool = False, tolerance: float | None = None
) -> Exported:
    """Write the detector at `checkpoint` to the ONNX file `out`.

    Args:
        checkpoint: ours, or a published state dict.
        out: replaced if it is there, and only by a file that was checked.
        patch_map: whether it also gives the logit of every patch.
        tolerance: of the check, as a part of 1 + the logit; by default that of `allowed`.

    Raises:
        CheckpointError: if the checkpoint or its calibration cannot be used, or its preprocessing not put
            into ONNX.
        InputError: if a package is missing, or `out` is a folder.
        GateError: if the logits differ by more than the tolerance; nothing is written.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        need(package)
    if out.is_dir():
        raise InputError(f"{out} is a folder; expected a file name such as detector.onnx")
    loaded = load_detector(checkpoint)
    of = loaded.digest, loaded.preprocessing.digest
    calibration = read_calibration(calibration_path(checkpoint), *of)
    model = to_model(loaded, patch_map=patch_map)
    found = check(loaded, model.SerializeToString(), out.name)
    checked = require_close(found, allowed(found, loaded.spec.name, tolerance), out.name)
    _state(model, {"wildrf.checked": json.dumps(checked)})
    if calibration is not None:
        _state(model, {CALIBRATION: json.dumps(calibration.to_dict(), sort_keys=True)})
    write_atomically(out, model.SerializeToString(deterministic=True))
    return _exported(out, loaded, checked, calibration is not None)


@dataclass(frozen=True, slots=True)
class Differences:
    """How far logits are from those in float64 (`difference`), by picture: the file's, and torch's own."""

    file: tuple[float, ...]
    torch: tuple[float, ...]


def allowed(found: Differences, detector: str, tolerance: float | None) -> float:
    """The tolerance that was asked for; by default TOLERANCE, or what float32 can give in a deep detector.

    Where one was hardly trained, rounding grows from layer to layer. LaDeDa9 after 6 steps at 32 pixels (four
    seeds): torch is off by 1.1e-5 to 3.9e-5, ONNX Runtime by 0.3 to 1.6 times as much.
    """
    if tolerance is not None:
        return tolerance
    if detector in SHALLOW:
        return TOLERANCE
    return min(max(TOLERANCE, SLACK * float(np.max(found.torch))), MOST)


def require_close(found: Differences, tolerance: float, name: str) -> dict[str, Any]:
    """{largest_difference, torch_difference, pictures, tolerance} of a file that is close enough.

    Raises:
        GateError: if a difference is over the tolerance, or no number.
    """
    largest, own = (float(np.max(part)) for part in (found.file, found.torch))  # max() loses a NaN
    if not largest <= tolerance:
        raise GateError(
            f"the logits of {name} differ from torch's in float64 by up to {largest:.2g} (torch's own in "
            f"float32 by {own:.2g}); expected at most {tolerance:g}; nothing was written"
        )
    return {
        "largest_difference": largest,
        "torch_difference": own,
        "pictures": len(found.file),
        "tolerance": tolerance,
    }


def _exported(
    out: Path, loaded: LoadedDetector, checked: dict[str, Any], calibrated: bool
) -> Exported:
    """What lies at `out` now."""
    return Exported(
        path=out,
        sha256=load_onnx(out).digest,
        bytes=out.stat().st_size,
        detector=loaded.spec.name,
        checkpoint_sha256=loaded.digest,
        preprocessing_digest=loaded.preprocessing.digest,
        calibrated=calibrated,
        **checked,
    )


def to_model(loaded: LoadedDetector, *, patch_map: bool = False) -> Any:
    """The ONNX model of `loaded`, unchecked.

    Raises:
        CheckpointError: if its preprocessing cannot be put into ONNX.
    """
    from onnx import compose, shape_inference

    from train.deploy.graph import NORMALISED, preprocessing_model

    if loaded.preprocessing.fit not in ("stretch", "crop", "native"):
        raise CheckpointError(
            f"the checkpoint looks at pictures with fit {loaded.preprocessing.fit!r}; expected "
            "stretch, crop or native, which have one size; train with one of those"
        )
    network = network_model(loaded.model, loaded.preprocessing, patch_map=patch_map)
    before = preprocessing_model(loaded.preprocessing, OPSET, IR_VERSION)
    model = compose.merge_models(before, network, io_map=[(NORMALISED, NORMALISED)])
    del model.opset_import[1:]  # merging leaves the same one twice
    model = shape_inference.infer_shapes(model, strict_mode=True)
    model.producer_name, model.producer_version = "wildrf", code_versions()["wildrf"]
    _state(model, describe(loaded))
    return model


def describe(loaded: LoadedDetector) -> dict[str, str]:
    """What an exported file says of itself."""
    return {
        "wildrf.format": FORMAT,
        "wildrf.version": VERSION,
        "wildrf.detector": loaded.spec.name,
        "wildrf.checkpoint_sha256": loaded.digest,
        "wildrf.preprocessing": json.dumps(loaded.preprocessing.to_dict(), sort_keys=True),
        "wildrf.preprocessing_digest": loaded.preprocessing.digest,
        "wildrf.preprocessing_source": loaded.preprocessing_source,
        "wildrf.pooling": loaded.model.pooling,
        "wildrf.versions": json.dumps(code_versions(), sort_keys=True),
        "wildrf.licence": LICENCE[loaded.preprocessing_source == STORED],
    }


def _state(model: Any, facts: dict[str, str]) -> None:
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)


class _Network(nn.Module):
    """Normalised pictures (n, 3, size, size) to what the file gives."""

    def __init__(self, detector: PatchDetector, patch_map: bool) -> None:
        super().__init__()
        self.detector, self.patch_map = fold(detector), patch_map

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logit = self._logit(images)
        outputs = (logit, torch.sigmoid(logit))
        return (*outputs, self.detector.patch_logits(images)) if self.patch_map else outputs

    def _logit(self, images: Tensor) -> Tensor:
        """(n,); a mean is taken in float64: a runtime may sum 16,000 float32 one after the other."""
        if self.detector.pooling != "mean":
            logits: Tensor = self.detector(images)
            return logits.squeeze(1)
        features = self.detector.features(images).double().mean(dim=(2, 3))
        head = self.detector.fc
        return (features @ head.weight[0].double() + head.bias.double()).float()


def network_model(detector: PatchDetector, preprocessing: Preprocessing, *, patch_map: bool) -> Any:
    """The ONNX model of the network alone, from NORMALISED on."""
    from train.deploy.graph import NORMALISED

    example = torch.zeros(2, 3, preprocessing.size, preprocessing.size)
    with _quiet_exporter():
        program = torch.onnx.export(
            _Network(detector, patch_map).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[NORMALISED],
            output_names=[LOGIT, SCORE, PATCHES][: 3 if patch_map else 2],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    _forget_sources(model)
    return model


def _forget_sources(model: Any) -> None:
    """Take out what the exporter notes of the code it ran over: paths of this machine among it."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for part in (
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        del part.metadata_props[:]
        part.ClearField("doc_string")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter tells of packages it would know as well, and of its own plans."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@torch.inference_mode()
def check(loaded: LoadedDetector, content: bytes, name: str) -> Differences:
    """How far the file's logits, and torch's in float32, are from torch's in float64 on `pictures`."""
    session = open_session(content, name)
    meta = session.get_modelmeta().custom_metadata_map
    exported = OnnxDetector(session, "", meta, name)
    file, own = [], []
    for picture in pictures():
        pixels = np.array(to_pixels(Image.fromarray(picture), loaded.preprocessing)[None])
        normalised = normalise(to_batch(pixels), loaded.preprocessing, torch.device("cpu"))
        want = float(exact_logits(loaded.model, normalised))
        file.append(difference(exported([picture])[0], want))
        own.append(difference(float(loaded.model(normalised)), want))
    return Differences(tuple(file), tuple(own))


def pictures() -> Iterator[NDArray[np.uint8]]:
    """A picture of each of SHAPES: smooth with noise, as photographs are; always the same."""
    rng = np.random.default_rng(2406_09398)
    for height, width in SHAPES:
        scene = rng.integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
        smooth = np.asarray(
            Image.fromarray(scene).resize((width, height), Image.Resampling.BICUBIC)
        )
        noise = rng.normal(0, 12, size=(height, width, 3))
        yield (smooth + noise).clip(0, 255).astype(np.uint8)


def difference(got: float, want: float) -> float:
    """How far apart two logits are, as a part of 1 + the wanted one: `numpy.allclose` of two numbers."""
    return abs(got - want) / (1.0 + abs(want))
