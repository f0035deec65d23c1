"""An exported ONNX file as a detector, run by ONNX Runtime (https://onnxruntime.ai).

The file says which checkpoint it is, and what preprocessing is inside; a file that does not is refused,
because nobody could say what its scores mean. It takes pictures of any size. Where it is given files,
Pillow resizes them and the resize inside the graph, which is the same to the bit but slower, has
nothing left to do; `wildrf parity` runs it all.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import CheckpointError, InputError
from train.calibration import Calibration, parse_calibration
from train.transforms import Preprocessing

FORMAT = "wildrf-onnx"
VERSION = "1"
LOGIT = "logit"
CALIBRATION = "wildrf.calibration"

Pixels = NDArray[np.uint8]

SUFFIX = ".onnx"


def is_onnx(path: Path) -> bool:
    """Whether a detector file is an ONNX file, by its name."""
    return path.suffix.lower() == SUFFIX


def need(package: str) -> Any:
    """An optional package of the extra `onnx`.

    Raises:
        InputError: if it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{error.name or package} is not installed; expected it for ONNX files; "
            "pip install 'wildrf[onnx]'"
        ) from None


class OnnxDetector:
    """An ONNX file ready to score: a `train.deploy.scorers.Scorer`.

    `digest` is the SHA-256 of the file; `meta` what it says of itself.
    """

    threaded = False

    def __init__(self, session: Any, digest: str, meta: Mapping[str, str], name: str) -> None:
        self.digest, self.meta, self._name = digest, dict(meta), name
        self.preprocessing = _preprocessing(meta, name)
        self._session = session
        self._outputs = [LOGIT]

    @property
    def of(self) -> tuple[str, str]:
        """The digests of the checkpoint and of the preprocessing that this is."""
        return self.meta.get("wildrf.checkpoint_sha256", ""), self.preprocessing.digest

    @property
    def calibration(self) -> Calibration | None:
        """That of the checkpoint when it was exported, if it had one.

        Raises:
            CheckpointError: if it is damaged.
        """
        stated = self.meta.get(CALIBRATION)
        where = f"the calibration in {self._name}"
        return parse_calibration(stated.encode(), where, *self.of) if stated else None

    def __call__(self, images: Sequence[Pixels]) -> list[float]:
        """The logit of each of `images` (H, W, 3), of any size; neighbours of one size share a batch."""
        logits: list[float] = []
        for _, same in groupby(images, key=np.shape):
            (found,) = self._session.run(self._outputs, {"image": np.stack(list(same))})
            logits += [float(logit) for logit in found]
        return logits


def load_onnx(path: Path, *, device: str = "cpu", threads: int | None = None) -> OnnxDetector:
    """The detector in an ONNX file that `train.deploy.export` wrote.

    Raises:
        CheckpointError: if it cannot be used.
        InputError: if ONNX Runtime is not installed, or another device than the CPU is asked for.
    """
    if device not in ("auto", "cpu"):
        raise InputError(
            f"device {device} is not for ONNX files here; expected cpu; score the checkpoint itself"
        )
    content = _read(path)
    session = open_session(content, path.name, threads)
    meta = session.get_modelmeta().custom_metadata_map
    return OnnxDetector(session, hashlib.sha256(content).hexdigest(), meta, path.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); expected an ONNX file; check the path"
        ) from None


def open_session(content: bytes, name: str, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        CheckpointError: if the bytes are no model it can run.
    """
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised as well
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(
            f"{name} is not a readable ONNX file ({reason}); expected one that "
            "`wildrf export-onnx` wrote; export it again"
        ) from None


def _preprocessing(meta: Mapping[str, str], name: str) -> Preprocessing:
    """The preprocessing inside, as the file states it."""
    if meta.get("wildrf.format") != FORMAT or meta.get("wildrf.version") != VERSION:
        stated = meta.get("wildrf.format", "of another program")
        raise CheckpointError(
            f"{name} is {stated} {meta.get('wildrf.version', '')}".rstrip()
            + f"; expected {FORMAT} {VERSION}, which states its preprocessing; "
            "export the checkpoint with `wildrf export-onnx`"
        )
    try:
        found = Preprocessing.from_dict(json.loads(meta["wildrf.preprocessing"]))
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{name} does not state its preprocessing; expected the file as it was exported; "
            "export it again"
        ) from None
    if found.digest != meta.get("wildrf.preprocessing_digest"):
        raise CheckpointError(
            f"{name} has preprocessing {found.digest} but was exported with "
            f"{meta.get('wildrf.preprocessing_digest')}; expected them equal: it was edited; "
            "export it again"
        )
    return found
