"""The verbs of the detector: train, distill, import, predict, export-onnx, parity; and judging a run."""

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curate.work import Progress
from curate.workspace import Workspace
from pipelines.output import skip_lines, table
from schemas.errors import InputError
from schemas.policy import TrainPolicy
from schemas.records import Score

QUICK: dict[str, Any] = {
    "crop": 128, "average": 0.98, "representation": "right_diag", "learning_rate": 5e-4,
}  # fmt: skip
"""What differs from the paper's recipe where minutes are counted.

Small windows: three steps for the time of one, and a step sees as many images. Averaged weights: at a
constant learning rate they do what its decay would do, wherever the minutes end. The diagonal gradient and
the higher rate: in some 400 steps on 1,400 faces they come 0.06 further in AUC than NPR at 2e-4 (images held
out, standard error 0.01 over three seeds), and the last epoch is as good as the best.
"""

QUICK_OF: dict[str, dict[str, Any]] = {
    "tiny-ladeda": {
        "crop": 48, "windows": 8, "average": 0.998, "learning_rate": 5e-3, "patience": 20,
    },
}  # fmt: skip
"""What differs from that for detectors of few weights.

They bear larger steps, and want many: after 12 epochs of 1,200 faces Tiny-LaDeDa has an AUC of 0.63 at this
rate and of 0.58 at that of LaDeDa9 (mean of two sets of 600 images held out). Eight windows of 48 pixels have
as many as one of 128 in seven times the steps: after three minutes on one core its AUC is 0.65, not 0.60
(600 images held out). An epoch is short, so that the rate waits for more of them.
"""

QUICK_STUDENT: dict[str, Any] = {
    "patches": "window", "within": 0.1, "centred": True, "average": 0.998, "patience": 20,
    "learning_rate": QUICK["learning_rate"],
}  # fmt: skip
"""What differs from the paper's distillation where minutes are counted.

Patches in windows: fewer pixels a step, and none of them beside zeros. A tenth of what differs within
an image: of the variance of a LaDeDa9's patch logits on faces 98 to 99 % is within images, and the rest
between them, which is all that the score of an image is made of; so a student hears as much of either. After
90 seconds on one core the student of a teacher with an AUC of 0.755 has 0.67 (600 images held out), one that
is taught as in the paper 0.63, and one that learns from labels 0.61. The rate stays for longer: accuracy at
0.5 says little of a student whose logits lie on one side, as those of its teacher may.
"""

QUICK_STUDENT_OF: dict[str, dict[str, Any]] = {"tiny-ladeda": {"learning_rate": 4e-3}}
"""What differs from that for students of few weights."""

STUDENT: dict[str, Any] = {
    "detector": "tiny-ladeda", "windows": 1, "representation": None, "representation_scale": 1.0,
    "max_minutes": None, "device": "auto", "precision": "auto", "compile": False,
}  # fmt: skip
"""What a student does not take over from its teacher, who may have learnt on another machine."""


QUICK_AS_COUNTED = "quick, as minutes are counted"


def choose_recipe(
    asked: str | None,
    own: TrainPolicy,
    where: Path | None,
    settings: Sequence[str] = (),
    **options: Any,
) -> tuple[TrainPolicy, str]:
    """The recipe to train by, and a line that says which it is.

    "paper" or "quick", if that is `asked` for; else the `own` of the workspace at `where`, unless it is the
    paper's; else quick if minutes are counted. `settings` and `options` then change it, see `recipe_with`.

    Raises:
        InputError: if there is none of that name, or a value cannot be used.
    """
    _require_known(asked)
    paper, words = TrainPolicy(), "the paper's"
    counted = recipe_with(paper, settings, **options).max_minutes is not None
    base = paper
    if asked is None and own != paper:
        base, words = own, f"[train] of {where}"
    elif asked == "quick" or (asked is None and counted):
        base, words = replace(paper, **QUICK), "quick" if asked else QUICK_AS_COUNTED
        base = _fitted(base, QUICK_OF, settings, **options)
    return recipe_with(base, settings, **options), f"recipe: {words}"


def recipe_with(recipe: TrainPolicy, settings: Sequence[str] = (), **asked: Any) -> TrainPolicy:
    """`recipe` with what the command line asks for; None leaves a field as it is.

    `settings` are KEY=VALUE, such as augment.jpeg=0.5, with the value as in TOML.

    Raises:
        InputError: if a value cannot be used.
    """
    given = {k: v for k, v in asked.items() if v is not None}
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)} | given
    values["augment"] = asdict(values["augment"])
    set_by = {_set(values, setting): setting for setting in settings}
    try:
        return TypeAdapter(TrainPolicy).validate_python(values)
    except ValidationError as error:
        raise InputError(_unusable(error.errors(include_url=False)[0], set_by)) from None


def _unusable(mistake: Any, set_by: Mapping[str, str]) -> str:
    """What is wrong, in the words of the command line; `set_by` has each --set by its field."""
    field = ".".join(part for part in mistake["loc"] if isinstance(part, str))
    expected = mistake["msg"].removeprefix("Input should be ")
    if field in set_by:
        return f"--set {set_by[field]}: expected {expected}; give such a value"
    option = field.replace("_", "-")
    return f"--{option} is {mistake['input']!r}; expected {expected}; give such a value"


def _set(values: dict[str, Any], setting: str) -> str:
    """Put one KEY=VALUE into the fields of a recipe; which field that is.

    Raises:
        InputError: if there is no such field.
    """
    key, equals, text = setting.partition("=")
    group, _, field = key.strip().removeprefix("train.").rpartition(".")
    target = values["augment"] if group == "augment" else values if not group else {}
    if not equals or field not in target or field == "augment":
        raise InputError(
            f"--set {setting}: expected KEY=VALUE with KEY one of {', '.join(values)}, "
            f"augment.{', augment.'.join(values['augment'])}; name one of them"
        )
    try:
        target[field] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        target[field] = text.strip()  # a word needs no quotes
    return f"{group}.{field}" if group else field


def sources_of(names: Sequence[Path | str]) -> list[tuple[Path, float]]:
    """Each DIR or DIR=WEIGHT as folder and weight.

    Raises:
        InputError: if a weight is no positive number.
    """
    found = []
    for name in map(str, names):
        folder, equals, weight = name.rpartition("=")
        if not equals or Path(name).is_dir():
            found.append((Path(name), 1.0))
            continue
        try:
            found.append((Path(folder), float(weight)))
        except ValueError:
            found.append((Path(name), 0.0))
        if not 0 < found[-1][1] < math.inf:
            raise InputError(
                f"--also {name}: expected DIR or DIR=WEIGHT, the weight above 0; mend the weight"
            )
    return found


def train_run(
    roots: Sequence[Path | str],
    out: Path,
    recipe: TrainPolicy,
    on_epoch: Any,
    progress: Any,
    cache: Path | None,
) -> dict[str, Any]:
    """Train on one folder, or on several with weights."""
    from train.data import Source
    from train.training import train_detector

    sources = [Source(root, weight) for root, weight in sources_of(roots)]
    return train_detector(
        sources, out, recipe, on_epoch=on_epoch, progress=progress, cache=cache
    ).to_dict()


def checkpoint_of(path: Path) -> Path:
    """The checkpoint at `path`: the file itself, or that of a run folder.

    Raises:
        InputError: if there is none.
    """
    if path.is_dir():
        path = path / "checkpoint.pt"
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a checkpoint file, or the folder of a finished run; "
            "check the path"
        )
    return path


def say_epoch(report: Any) -> str:
    """One line per epoch."""
    from train.engine import show_loss

    val = report.val
    auc = "" if val.get("auc") is None else f", AUC {val['auc']:.3f}"
    return (
        f"epoch {report.epoch}: train loss {show_loss(report.loss)}, val accuracy {val['acc']:.3f}"
        f"{auc} (n={val['n']}), {report.seconds:.0f} s"
    )


def train_lines(result: dict[str, Any]) -> list[str]:
    """What came of a training."""
    val, soft = result["val"], result["soft_targets"]
    images = sum(result["images"]["train"].values())
    return [
        f"{result['epochs']} epochs in {result['seconds']:.0f} s, stopped: {result['stopped']}",
        f"validation (n={val['n']}): {', '.join(show_metric(val, m) for m in ('acc', 'ap', 'auc'))}",
        *chance_lines(val),
        *([f"targets: P(fake) of {soft} of {images} images, else the class"] if soft else []),
        *skip_lines(result["skipped"], "metrics.json"),
        *moved_lines(result),
        f"checkpoint: {result['checkpoint']}",
    ]


def chance_lines(val: Mapping[str, Any]) -> list[str]:
    """A warning where the validation does not tell a detector from a coin."""
    low, _ = (val.get("ci") or {}).get("auc") or (1.0, 1.0)
    if low > 0.5:
        return []
    return [
        "no better than chance as far as these images tell (the interval of AUC reaches down to 0.5): "
        "give it more minutes or epochs, or more images; in minutes on a CPU tiny-ladeda comes furthest"
    ]


def moved_lines(result: dict[str, Any]) -> list[str]:
    """Where a calibration is now that was of the weights before these, if there was one."""
    place = result["old_calibration"]
    return [f"the old weights' calibration is now {place}; calibrate again"] if place else []


def predict_line(row: dict[str, Any]) -> str:
    """One image for people."""
    if "error" in row:
        return f"{row['path']}: {row['error']}"
    if "verdict" in row:
        return f"{row['probability']:.4f}  {row['verdict']}  {row['path']}"
    return f"{row['score']:.4f}  {row['path']}"


def show_metric(values: Mapping[str, Any], key: str) -> str:
    """A metric by its name, with its interval where it has one: ``AP 0.917 [0.889, 0.938]``."""
    interval = (values.get("ci") or {}).get(key)
    inside = f" [{_number(interval[0])}, {_number(interval[1])}]" if interval else ""
    return f"{key.upper()} {_number(values[key])}{inside}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def distill_run(
    teacher: Path,
    out: Path,
    data: Path | None,
    on_epoch: Any,
    *,
    progress: Callable[[str], Any] = lambda _: None,
    cache: Path | None = None,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    **asked: Any,
) -> dict[str, Any]:
    """Distil `teacher` into `out`, on its own training data unless told otherwise.

    `recipe` is "paper" or "quick"; None: quick if minutes are counted. From the line that says which it is,
    `progress` makes who is told how far it is.

    Raises:
        InputError: if it is not known what the teacher learnt from, or a value cannot be used.
    """
    from train.data import Source
    from train.distill import distill

    checkpoint = checkpoint_of(teacher)
    sources, learnt = _learnt_from(checkpoint.with_name("config.json"))
    student, words = student_recipe(recipe, learnt, settings, **asked)
    if data is not None:
        sources = [Source(data)]
    if not sources:
        raise InputError(
            f"{teacher} does not say what it was trained on; name the images with --data DIR"
        )
    return distill(
        checkpoint, sources, out, student, on_epoch=on_epoch, progress=progress(words), cache=cache
    ).to_dict()


def student_recipe(
    asked: str | None, teacher: TrainPolicy, settings: Sequence[str] = (), **options: Any
) -> tuple[TrainPolicy, str]:
    """The recipe of a student, and a line that says which it is.

    It is the `teacher`'s, but for what a student does not take over; "paper" or "quick" as `asked` for, else
    quick if minutes are counted. `settings` and `options` then change it, see `recipe_with`.

    Raises:
        InputError: if there is none of that name, or a value cannot be used.
    """
    _require_known(asked)
    paper = TrainPolicy()
    base = replace(
        teacher,
        **STUDENT,
        epochs=paper.epochs,
        learning_rate=paper.learning_rate,  # what pays for a teacher need not for a student
        patches=paper.patches,
        within=paper.within,
        centred=paper.centred,
        crop=min(paper.crop, teacher.size),
    )
    counted = recipe_with(base, settings, **options).max_minutes is not None
    if asked == "paper" or (asked is None and not counted):
        return recipe_with(base, settings, **options), "recipe: the paper's"
    words = "quick" if asked else QUICK_AS_COUNTED
    quick = _fitted(replace(base, **QUICK_STUDENT), QUICK_STUDENT_OF, settings, **options)
    return recipe_with(quick, settings, **options), f"recipe: {words}"


def _fitted(
    recipe: TrainPolicy,
    table: Mapping[str, Mapping[str, Any]],
    settings: Sequence[str],
    **options: Any,
) -> TrainPolicy:
    """A quick recipe with what differs for the detector that is asked for."""
    detector = recipe_with(recipe, settings, **options).detector
    return replace(recipe, **table.get(detector, {}))


def _require_known(recipe: str | None) -> None:
    if recipe not in (None, "paper", "quick"):
        raise InputError(f"--recipe is {recipe!r}; expected paper or quick; name one of them")


def _learnt_from(record: Path) -> tuple[list[Any], TrainPolicy]:
    """What a run says of its data and recipe; nothing, and the defaults, where it left no record.

    Raises:
        InputError: if the record is damaged.
    """
    from train.data import Source

    if not record.is_file():
        return [], TrainPolicy()
    try:
        known = json.loads(record.read_bytes())
        data = known.get("data", {})
        root = [{"root": data["root"]}] if "root" in data else []
        sources = [Source(Path(s["root"]), s.get("weight", 1.0)) for s in data.get("sources", root)]
        recipe = TypeAdapter(TrainPolicy).validate_python(known.get("recipe", {}))
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InputError(
            f"{record} is damaged; expected the record of a training run; train the teacher again"
        ) from None
    return sources, recipe


def import_run(file: Path, out: Path, scale: str | None, **stated: Any) -> dict[str, Any]:
    """A bare state dict as a checkpoint with the preprocessing stated; what is None is as published.

    Raises:
        InputError: if `scale` is no number above 0.
        CheckpointError: if the file, or what is stated of it, cannot be used.
    """
    from train.checkpoint import import_checkpoint

    known = {key: value for key, value in stated.items() if value is not None}
    if scale is not None:
        known["scale"] = _positive(scale)
    made = import_checkpoint(file, out, known)
    return {
        "checkpoint": str(out),
        "sha256": made.digest,
        "detector": made.spec.name,
        "pooling": made.model.pooling,
        "preprocessing": made.preprocessing.to_dict(),
        "preprocessing_digest": made.preprocessing.digest,
        "imported": made.meta["imported"],
    }


def _positive(text: str) -> float:
    try:
        number = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        number = 0.0
    if number <= 0:
        raise InputError(
            f"--representation-scale is {text!r}; expected a number above 0, such as 1 or 2/3"
        )
    return number


def import_lines(result: dict[str, Any]) -> list[str]:
    """What was written, and by what preprocessing it will be scored."""
    prep = result["preprocessing"]
    return [
        f"{result['checkpoint']}: {result['detector']}, {result['pooling']} pooling",
        f"preprocessing as stated: {prep['size']} px, fit {prep['fit']}, {prep['representation']} "
        f"times {prep['scale']:.6g} ({result['preprocessing_digest']})",
    ]


def predict_paths(
    checkpoint: Path, paths: list[Path], device: str | None
) -> Iterator[dict[str, Any]]:
    """Scores of files and folders."""
    from train.predict import predict

    require_images(paths)
    return predict(checkpoint, paths, device=device or "auto")


def export_lines(result: dict[str, Any]) -> list[str]:
    """What was written, and how close it is."""
    calibrated = result["calibrated"]
    return [
        f"{result['path']}: {result['detector']}, {result['bytes'] / 1e6:.1f} MB, "
        f"preprocessing {result['preprocessing_digest']} {'and calibration ' if calibrated else ''}inside",
        *([] if calibrated else ["not calibrated: it gives scores and no verdict"]),
        f"checked on {result['pictures']} pictures: logits within {result['largest_difference']:.1e} of "
        f"torch's in float64 (torch's own in float32: {result['torch_difference']:.1e}; allowed: "
        f"{result['tolerance']:.2g})",
    ]


def parity_of(
    checkpoint: Path, paths: list[Path], files: int, tolerance: float | None, device: str = "auto"
) -> dict[str, Any]:
    """Training path, predict path and, if an ONNX file stands before the images, that."""
    from train.deploy.parity import parity, split_onnx

    onnx, images = split_onnx(paths)
    require_images(images)
    found = parity(checkpoint, images, onnx=onnx, files=files, tolerance=tolerance, device=device)
    return found.to_dict()


def parity_lines(result: dict[str, Any]) -> list[str]:
    """A line per file and path, then the verdict."""
    rows = [
        [
            row["path"], row["route"], row["device"], f"{row['training']:.6f}",
            f"{row['logit']:.6f}", f"{row['difference']:.1e}", row["step"] or "-",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    allowed = {
        row["route"]: f"on {row['device']} (allowed {row['tolerance']:g})" for row in result["rows"]
    }
    most = ", ".join(
        f"{route} {value:.1e} {allowed[route]}" for route, value in result["largest"].items()
    )
    verdict = "the same" if result["same"] else "NOT the same"
    return [
        *table(rows, ["file", "path", "on", "training", "logit", "difference", "from"]),
        *(f"left out {row['path']}: {row['reason']}" for row in result["skipped"]),
        f"{verdict}: largest difference {most}",
    ]


def require_images(paths: Sequence[Path]) -> None:
    """Check that there are paths, and that each is there.

    Raises:
        InputError: if one is not.
    """
    if not paths:
        raise InputError("no image is named; expected images or folders; add them")
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path} does not exist; expected an image or a folder of images; check the path"
            )


def evaluate_run(
    checkpoint: Path, root: Path, out: Path, workspace: Workspace, progress: Progress
) -> dict[str, Any]:
    """A checkpoint's numbers on a release; its scores go to the catalog, so that `why` can tell them.

    Done before for the same checkpoint, calibration and images, it is read, not done again.
    """
    from train.scores import SCORES_FILE, read_scores

    place = out / "evaluation"
    result = _evaluated(checkpoint, root, place, progress)
    scored = read_scores(place / SCORES_FILE)
    model = result["checkpoint"]["sha256"]
    pairs = zip(scored.digests, scored.logits.tolist(), strict=True)
    rows = [Score(model=model, digest=digest, logit=logit) for digest, logit in pairs]
    workspace.catalog.add("score", rows, replace=True)
    return result


def _evaluated(checkpoint: Path, root: Path, place: Path, progress: Progress) -> dict[str, Any]:
    """The evaluation in `place`, made there if it is not one of this checkpoint and this release."""
    from pipelines.evaluation import evaluate_folder
    from train.artifacts import write_json
    from train.calibration import calibration_path

    of = {
        "checkpoint": _digest(checkpoint),
        "calibration": _digest(calibration_path(checkpoint)),
        "root_hash": json.loads((root / "release.json").read_text())["root_hash"],
        "code_version": version("wildrf"),
    }
    found = _kept(place, of)
    if found is not None:
        return found
    mark = place / MARK
    mark.unlink(missing_ok=True)
    result = evaluate_folder(checkpoint, root, place, None, progress=progress)
    write_json(mark, {**of, "data": result["data"]["digest"]})
    return result


MARK = "of.json"
"""Beside an evaluation that `run` made: what it is of."""


def _kept(place: Path, of: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation in `place` if it is of just that; None if not, or if `evaluate` put another there since.

    One of the same images that has more in it, such as `--reencoded`, is kept.
    """
    from train.scores import SCORES_FILE, read_scores

    try:
        mark, found = (json.loads((place / name).read_bytes()) for name in (MARK, "metrics.json"))
        data = mark.pop("data")
        scored = read_scores(place / SCORES_FILE)
        told = (found["checkpoint"]["sha256"], found["data"]["digest"])
        scores = (scored.context["checkpoint"]["sha256"], scored.digest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None
    same = mark == of and told == scores == (of["checkpoint"], data)
    return found if same else None


def _digest(file: Path) -> str | None:
    """The SHA-256 of a file; None if there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
