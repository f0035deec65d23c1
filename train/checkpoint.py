"""A detector on disk: weights with everything needed to score an image the way it was trained.

Ours is one `torch.save` of plain values, readable with `weights_only=True`; a file that would run
code is refused. The published files of https://arxiv.org/abs/2406.09398 are bare state dicts, or a
dict with the key `model`; they carry no preprocessing. For Tiny-LaDeDa the published one is assumed, and
that is said wherever its scores are. Of LaDeDa, files differ in the scale of NPR, which moves accuracy by 10
points: they are refused until it is stated (`import_checkpoint`).
"""

import hashlib
import io
import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.errors import CheckpointError, InputError
from train.config import build_detector, code_versions
from train.detectors import DetectorSpec, PatchDetector, find_detector
from train.detectors.ladeda import FLAGS
from train.detectors.patches import POOLINGS, is_pooling
from train.transforms import Preprocessing

logger = logging.getLogger(__name__)

FORMAT = "wildrf-detector"
VERSION = 1

PUBLISHED = "published defaults, assumed"
STORED = "checkpoint"
STATED = "stated when it was imported"

AMBIGUOUS = "NPR"
"""A representation of which published files differ in scale, and do not say so."""


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    """A detector ready to score, in evaluation mode on the CPU.

    `digest` is the SHA-256 of the file. `preprocessing_source` is "checkpoint", or says that a
    published file without any was given the published defaults. `meta` is what else the file
    carries.
    """

    model: PatchDetector
    spec: DetectorSpec
    preprocessing: Preprocessing
    preprocessing_source: str
    digest: str
    meta: dict[str, Any]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is either as before or complete, also after a crash.

    Raises:
        InputError: if there is no room on the disk, or `path` may not be written.
    """
    part = path.with_name(f".{path.name}.part")
    with disk_full(part):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


@contextmanager
def disk_full(part: Path) -> Iterator[None]:
    """What cannot be written is one clear line, and half a file is removed.

    Raises:
        InputError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{part} cannot be written ({error.strerror}); expected room on the disk and the right to "
            "write there; make room and run the same command again: what was finished is kept"
        ) from None


def to_bytes(value: object) -> bytes:
    """`torch.save` of `value`: the same bytes for the same value, wherever they are written."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes, name: str) -> Any:
    """What `to_bytes` wrote, tensors on the CPU. No code in the file is run.

    Raises:
        CheckpointError: if it is damaged, not a torch file, or holds objects other than plain
        values.
    """
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{name} cannot be read safely ({_first_line(error)}); expected a torch file of plain "
            "tensors and values; re-save its state dict alone"
        ) from None
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError... on damaged files
        raise CheckpointError(
            f"{name} is not a readable torch file ({_first_line(error)}); expected a checkpoint of "
            "wildrf or a published LaDeDa state dict; copy the file again"
        ) from None


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "it holds objects that could run code, or is no pickle"
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__


def pack(
    weights: Mapping[str, Tensor], spec: DetectorSpec, preprocessing: Preprocessing, **meta: Any
) -> dict[str, Any]:
    """Our checkpoint as plain values. `meta` must hold `pooling`, and plain values only."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "detector": spec.name,
        "weights": {k: v.detach().cpu().contiguous() for k, v in weights.items()},
        "preprocessing": preprocessing.to_dict(),
        "preprocessing_digest": preprocessing.digest,
        "versions": code_versions(),
        **meta,
    }


def load_detector(
    path: Path, *, expected: Preprocessing | None = None, assume: Preprocessing | None = None
) -> LoadedDetector:
    """The detector stored at `path`.

    Args:
        path: our checkpoint, or a published state dict.
        expected: what the caller will feed; another preprocessing in the file is refused.
        assume: preprocessing of a file that carries none, instead of the published defaults
            (the published ForenSynths LaDeDa needs a representation scale of 2/3). LaDeDa has no default.

    Raises:
        CheckpointError: if it cannot be used, in one line.
    """
    content = _read(path)
    found = from_bytes(content, path.name)
    digest = hashlib.sha256(content).hexdigest()
    if isinstance(found, dict) and "format" in found:
        loaded = _unpack(found, path.name, digest)
        if assume is not None:
            _require_same(assume, loaded.preprocessing, path.name)
    else:
        loaded = _published(found, path, digest, assume)
    if expected is not None:
        _require_same(expected, loaded.preprocessing, path.name)
    return loaded


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); expected a checkpoint file; check the path"
        ) from None


def _require_same(expected: Preprocessing, found: Preprocessing, name: str) -> None:
    if expected.digest == found.digest:
        return
    mine, theirs = expected.to_dict(), found.to_dict()
    odd = ", ".join(
        f"{key} {theirs[key]!r} (asked: {mine[key]!r})"
        for key in mine
        if key != "crop" and mine[key] != theirs[key]
    )
    raise CheckpointError(
        f"{name} was trained with {odd}; scores would be wrong; evaluate with the checkpoint's own "
        "preprocessing"
    )


def _unpack(found: dict[str, Any], name: str, digest: str) -> LoadedDetector:
    if found["format"] != FORMAT or found.get("version") != VERSION:
        raise CheckpointError(
            f"{name} is {found['format']!r} version {found.get('version')!r}; expected {FORMAT!r} "
            f"version {VERSION}; use the version of wildrf that wrote it"
        )
    missing = {"detector", "weights", "preprocessing", "preprocessing_digest", "pooling"} - set(
        found
    )
    if missing:
        raise CheckpointError(
            f"{name} lacks {', '.join(sorted(missing))}; expected a whole checkpoint; train again"
        )
    preprocessing = Preprocessing.from_dict(found["preprocessing"])
    if preprocessing.digest != found["preprocessing_digest"]:
        raise CheckpointError(
            f"{name} has preprocessing {preprocessing.digest} but was saved with "
            f"{found['preprocessing_digest']}; expected them equal: it was edited; restore the file"
        )
    if not is_pooling(found["pooling"]):
        raise CheckpointError(
            f"{name} has pooling {found['pooling']!r}; expected one of {', '.join(POOLINGS)}; "
            "use the version of wildrf that wrote it"
        )
    spec = _spec(found["detector"], name)
    model = _restore(spec, preprocessing, found["pooling"], found["weights"], name)
    meta = {k: v for k, v in found.items() if k not in ("weights", "preprocessing")}
    source = str(found.get("preprocessing_source", STORED))
    return LoadedDetector(model, spec, preprocessing, source, digest, meta)


def _spec(detector: Any, name: str) -> DetectorSpec:
    try:
        return find_detector(str(detector))
    except InputError as error:
        raise CheckpointError(f"{name}: {error}; install the package that adds it") from None


def import_checkpoint(path: Path, out: Path, stated: Mapping[str, Any]) -> LoadedDetector:
    """Write the state dict at `path` as a checkpoint of ours, `out`, with the preprocessing `stated`.

    `stated` has fields of `Preprocessing`, `detector` and `pooling`; what it lacks is as published. Who
    imports NPR must state its scale, which no published file tells.

    Raises:
        CheckpointError: if it is no state dict, not that detector's, or its preprocessing is not stated.
        InputError: if something else is at `out`, or it cannot be written.
    """
    content = _read(path)
    weights = _bare(from_bytes(content, path.name), path.name)
    spec = _spec(stated.get("detector") or _recognise(weights, path.name), path.name)
    preprocessing, pooling = _stated(path, spec, stated)
    _restore(spec, preprocessing, pooling, weights, path.name)
    imported = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    packed = pack(
        weights, spec, preprocessing,
        pooling=pooling, preprocessing_source=STATED, imported=imported,
    )  # fmt: skip
    new = to_bytes(packed)
    if out.exists() and (not out.is_file() or out.read_bytes() != new):
        raise InputError(f"{out} is there already; expected a new file; choose another --out")
    write_atomically(out, new)
    return load_detector(out)


def _stated(path: Path, spec: DetectorSpec, stated: Mapping[str, Any]) -> tuple[Preprocessing, str]:
    """Preprocessing and pooling of a bare state dict of `spec`, as stated or else as published."""
    published = Preprocessing(representation=spec.representation)
    known = {k: v for k, v in stated.items() if k not in ("detector", "pooling")}
    crop = min(published.crop, known.get("size", published.size))
    preprocessing = Preprocessing.from_dict({**published.to_dict(), "crop": crop, **known})
    if preprocessing.representation == AMBIGUOUS and "scale" not in known:
        raise _unstated(path, spec)
    pooling = stated.get("pooling", "mean")
    if not is_pooling(pooling):
        raise CheckpointError(f"pooling {pooling!r} is not known; expected {', '.join(POOLINGS)}")
    return preprocessing, pooling


def _unstated(path: Path, spec: DetectorSpec) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is a bare state dict of {spec.name}, which does not say how much its {AMBIGUOUS} is "
        "scaled; expected that to be stated (2/3 for the published one trained on ForenSynths, 1 as the "
        f"paper has it); run `wildrf import-ckpt {path} --out {spec.name}.pt "
        "--representation-scale 2/3`, or 1, and use what it writes"
    )


def _published(found: Any, path: Path, digest: str, assume: Preprocessing | None) -> LoadedDetector:
    name = path.name
    weights = _bare(found, name)
    spec = _spec(_recognise(weights, name), name)
    if assume is None and spec.representation == AMBIGUOUS:
        raise _unstated(path, spec)
    preprocessing = assume or Preprocessing(representation=spec.representation)
    source = "caller" if assume else PUBLISHED
    logger.warning(
        "%s carries no preprocessing: using %s with scale %g at %d px (%s)",
        name, preprocessing.representation, preprocessing.scale, preprocessing.size, source,
    )  # fmt: skip
    model = _restore(spec, preprocessing, "mean", weights, name)
    return LoadedDetector(model, spec, preprocessing, source, digest, {})


def _bare(found: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a published file by their names."""
    if isinstance(found, dict) and "format" in found:
        raise CheckpointError(
            f"{name} is {found['format']!r}; expected a bare state dict; a checkpoint of wildrf is used "
            "as it is"
        )
    weights = found.get("model", found) if isinstance(found, dict) else found
    if not _is_state_dict(weights):
        raise CheckpointError(
            f"{name} holds {_describe(found)}; expected a checkpoint of wildrf, a state dict, or a "
            "dict with the key model; save the state dict"
        )
    return {k.removeprefix("module."): v for k, v in weights.items()}


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with keys {', '.join(sorted(map(str, value))[:5]) or 'none'}"
    return f"a {type(value).__name__}"


def _recognise(weights: Mapping[str, Tensor], name: str) -> str:
    """Which detector a bare state dict belongs to, by the names and shapes that tell them apart."""
    if "layer1.0.bn2.weight" in weights and "layer1.0.bn3.weight" not in weights:
        return "tiny-ladeda"
    kernels = [weights.get(f"layer{stage}.0.conv2.weight") for stage in (1, 2, 3, 4)]
    flags = tuple(int(k.shape[-1] == 3) for k in kernels if k is not None and k.ndim == 4)
    for field, known in FLAGS.items():
        if flags == known:
            return f"ladeda{field}"
    raise CheckpointError(
        f"{name} has {len(weights)} tensors such as {min(weights)!r}; expected the names of a "
        "LaDeDa or Tiny-LaDeDa state dict; convert it, or train with wildrf"
    )


def _restore(
    spec: DetectorSpec,
    preprocessing: Preprocessing,
    pooling: str,
    weights: Mapping[str, Tensor],
    name: str,
) -> PatchDetector:
    model = build_detector(spec, preprocessing, pooling, seed=0)
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(
            f"{name} does not fit {spec.name}: {' '.join(lines[1:2]) or lines[0]} expected exactly "
            f"the tensors of {spec.name}; check which detector it is"
        ) from None
    model.eval()
    return model
