"""Distillation: a student learns the patch logits of a frozen LaDeDa.

Source: https://arxiv.org/abs/2406.09398. The teacher gives a logit for every q x q patch of every
training image, at stride 8. The student sees the raw pixels of the same patch with one more pixel
on the right and bottom, alone in the world (`train.lessons`), and is trained with MSE, as many patches at
a time as one window has (729 at 224 pixels). At inference it runs fully convolutionally over the image.

The teacher sees each image once: its logits on the whole image are kept (`train.cache`), and
a training crop at a multiple of the stride is a window of that grid, because convolutions without
padding give a patch the same logit wherever the crop begins (at 224 of 256 pixels: 27 x 27 of 31 x
31). Where the recipe augments, no window is seen twice: then the teacher looks at each of them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from schemas.errors import InputError
from schemas.policy import TrainPolicy
from train import cache as store
from train.artifacts import open_run_folder, read_learnt
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, check_recipe, choose_compute, fingerprint, preprocessing_of
from train.data import ImageSet, Source
from train.detectors import DetectorSpec
from train.engine import Clock, Progress, Silent, Step, Steps, descend, fit, saved_epochs
from train.lessons import MIX, Drawer, Kept, Live, PatchGrid, Sight, Wanted, middle_of
from train.loader import Epochs, augments, epochs_of
from train.sampling import Cell, Indices, plan_epoch, turns
from train.tiles import patch_map
from train.training import (
    STATE_FILE,
    OnEpoch,
    TrainResult,
    Watch,
    as_sources,
    find_train_val,
    finish,
    finished,
    keeping_in,
    load_train_val,
    make_run,
    shown_by,
    validation_share,
)
from train.transforms import Preprocessing, normalise

MEMORY_BYTES = 64 << 20
"""More of a teacher's logits than this (17,000 pictures at 256 x 256) live in a mapped file."""


def distill(
    teacher: Path,
    root: Path | Sequence[Source],
    out: Path,
    recipe: TrainPolicy,
    *,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train the detector of `recipe` on `root` from the checkpoint `teacher`, into `out`.

    All of the recipe holds, but for `windows` and `labels`: an epoch has a step for each image, and its
    targets are the teacher's. They are kept in `cache`, if there is one, for other students of the same
    teacher.

    The best epoch is the one whose student, run over whole validation images, has the highest AP.
    Resumes like `train.training.train_detector`.

    Raises:
        CheckpointError: if the teacher cannot be used.
        InputError: if folder, recipe or run folder cannot be used.
    """
    watch = Watch(on_epoch, progress or Silent(), clock)
    begun = clock()
    spec = check_recipe(recipe)
    loaded_teacher = load_detector(teacher)
    prep = preprocessing_of(recipe, spec)
    sight = _sight_of(spec, loaded_teacher, recipe, prep, teacher.name)
    open_run_folder(out)
    saved = saved_epochs(out / STATE_FILE, recipe)
    digest, keeping = loaded_teacher.digest, keeping_in(out, cache, recipe)
    found = find_train_val(as_sources(root), recipe, prep, watch.progress)
    if (over := finished(out, saved, found, recipe, digest)) is not None:
        return over
    loaded = load_train_val(found, keeping, recipe, watch.progress)
    epochs = epochs_of(loaded.train, replace(recipe, labels="hard"), loaded.sources)
    compute = choose_compute(recipe.device, recipe.precision, loaded_teacher.spec)
    drawer = _drawer(loaded_teacher, epochs, sight, compute, keeping, watch.progress)

    def steps_of(step: Step, epoch: int, done: int) -> Steps:
        return distill_one_epoch(step, drawer, epochs.cells, sight, recipe.seed, epoch, done)

    run = make_run(
        spec, recipe, prep, loaded, out, steps_of, len(loaded.train.items), watch, begun,
        teacher=digest, shown=shown_by(epochs),
    )  # fmt: skip
    pixels = len(loaded.train.items) * sight.pixels_shown(recipe.crop, MIX)
    state, stopped = fit(replace(run, validation=validation_share(loaded, pixels)))
    taught = read_learnt(teacher).roots
    return finish(out, run, state, stopped, loaded, spec, teacher_roots=taught, teacher=digest)


def _sight_of(
    student: DetectorSpec,
    teacher: LoadedDetector,
    recipe: TrainPolicy,
    prep: Preprocessing,
    name: str,
) -> Sight:
    """How the student looks at the patches of the teacher `name`, if it can learn from it."""
    grid = PatchGrid(teacher.spec.receptive_field, teacher.spec.stride)
    sight = Sight.of(student, grid, recipe.patches)
    _require_same_pixels(teacher.preprocessing, prep, name)
    _require_sight(student, grid, name)
    _require_room(recipe.crop, sight, name)
    return sight


def _drawer(
    teacher: LoadedDetector,
    epochs: Epochs,
    sight: Sight,
    compute: Compute,
    keeping: store.Keeping,
    progress: Progress,
) -> Kept | Live:
    recipe, images = epochs.recipe, epochs.images
    drawer: Kept | Live
    if augments(recipe.augment):
        model = compute.place(teacher.model).eval()
        drawer = Live(model, teacher.preprocessing, images, sight, recipe, compute)
    else:
        logits = teacher_logits(teacher, images, compute, keeping, progress)
        drawer = Kept(images, logits, sight, recipe.crop, recipe.within, teacher.model.pooling)
    if not recipe.centred:
        return drawer
    return replace(drawer, middle=middle_of(drawer.says(), images.labels))


def _require_same_pixels(teacher: Preprocessing, student: Preprocessing, name: str) -> None:
    """Teacher and student must look at the same pixels; what they make of them may differ."""
    for key in ("size", "fit", "kernel", "orientation", "mean", "std"):
        found, asked = getattr(teacher, key), getattr(student, key)
        if found != asked:
            raise InputError(
                f"teacher {name} was trained with {key} {found!r}, the recipe has {asked!r}; "
                f"expected the same pixels for both; set train.{key} to {found!r}"
            )


def _require_sight(student: DetectorSpec, grid: PatchGrid, name: str) -> None:
    """A student must see a whole patch of its own in what it is shown."""
    if student.receptive_field > grid.student_side:
        side = grid.student_side
        raise InputError(
            f"student {student.name} sees {student.receptive_field} pixels; expected at most {side}, as "
            f"teacher {name} judges patches that are shown as {side} x {side}; choose another --detector, "
            "such as tiny-ladeda"
        )


def _require_room(crop: int, sight: Sight, name: str) -> None:
    """A crop holds a patch, and where patches are seen in windows one more beside it."""
    least = sight.grid.side(1 if sight.alone else 2)
    if crop < least:
        holds = "one patch of" if sight.alone else "two patches, side by side, of"
        do = "raise it" if sight.alone else 'raise it, or set train.patches to "alone"'
        raise InputError(
            f"train.crop is {crop}; expected at least {least}, {holds} teacher {name} and a pixel; {do}"
        )


def teacher_logits(
    teacher: LoadedDetector,
    images: ImageSet,
    compute: Compute,
    keeping: store.Keeping,
    progress: Progress | None = None,
) -> store.Store:
    """The teacher's patch logits on every whole image by index, (h, w) float32.

    Kept as `keeping` says under a name that tells teacher and data, so that a rerun finds them. Of images
    that find no room the teacher is asked each time.
    """
    key = fingerprint(
        teacher=teacher.digest, data=images.digests, half=compute.half, prep=teacher.preprocessing
    )
    model = compute.place(teacher.model)
    told = progress or Silent()

    def ask(index: int) -> NDArray[np.float32]:
        pixels = images.pixels[index]
        return patch_map(model, teacher.spec, pixels, teacher.preprocessing, compute)

    def ask_all() -> Iterator[NDArray[np.float32]]:
        told.start("teacher", len(images.items))
        for index in range(len(images.items)):
            yield ask(index)
            told.advance(1)

    files = store.CacheFiles(keeping.folder, key[:16], store.LOGITS)
    cached = store.read(files)
    if cached is None:
        keeping = replace(keeping, memory=min(keeping.memory, MEMORY_BYTES))
        cached = store.keep(files, ask_all(), store.Left(), keeping)
    return store.Store(cached, ask)


def distill_one_epoch(
    step: Step,
    drawer: Drawer,
    cells: Sequence[Cell],
    sight: Sight,
    seed: int,
    epoch: int,
    done: int,
) -> Steps:
    """One pass: as many steps as images, about as many patches in a step as one window has.

    The patches of a step come from `MIX` images: BatchNorm would take the patches of a single one to
    the same mean and spread, and with that take away what tells one image from another.
    Yields the mean squared error per patch, and 1.
    """
    step.detector.train()
    rng = np.random.default_rng([seed, epoch])
    plan = mixed(cells, rng)
    turn = turns(plan.ravel()).reshape(plan.shape)

    def loss_of(pixels: Tensor, goals: Tensor) -> Tensor:
        inputs = normalise(pixels, step.preprocessing, step.compute.device)
        with step.compute.autocast():
            logits = sight.read(step.detector, inputs)
        return F.mse_loss(logits.float(), goals)

    for k in range(len(plan)):
        step.check_time()
        drawn = drawer.draw(Wanted(plan[k].tolist(), turn[k].tolist(), epoch), rng)
        loss = descend(step, loss_of, drawn.pixels, drawn.goals, done + k)
        step.done.update(drawn.done)
        yield loss, 1


def mixed(cells: Sequence[Cell], rng: np.random.Generator) -> Indices:
    """Which images share a step: (count, at most `MIX`), each image as often as its cell says."""
    count = sum(len(cell.members) for cell in cells)
    orders = [plan_epoch(cells, count, rng) for _ in range(min(MIX, count))]
    return np.stack(orders, axis=1)
