"""Distillation: a student learns the patch logits of a frozen LaDeDa.

Source: https://arxiv.org/abs/2406.09398. The teacher gives a logit for every q x q patch of every
training image, at stride 8. The student sees the raw pixels of the same patch with one more pixel
on the right and bottom, alone in the world (its gradient meets zeros at the patch's border), and is
trained with MSE, as many patches at a time as one window has (729 at 224 pixels). At inference it runs
fully convolutionally over the image.

The teacher sees each image once: its logits on the whole image are kept as a plain NumPy array, and
a training crop at a multiple of the stride is a window of that grid, because convolutions without
padding give a patch the same logit wherever the crop begins (at 224 of 256 pixels: 27 x 27 of 31 x
31).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from schemas.errors import InputError
from schemas.policy import TrainPolicy
from train.artifacts import open_run_folder
from train.checkpoint import LoadedDetector, load_detector
from train.config import Compute, check_recipe, choose_compute, fingerprint, preprocessing_of
from train.data import EVAL_BATCH, ImageSet, eval_batches, new_memmap
from train.engine import Clock, Step, descend, fit
from train.training import OnEpoch, TrainResult, finish, load_train_val, make_run
from train.transforms import Preprocessing, normalise, to_batch

MIX = 16
"""Images whose patches share a step. With one, the student of a 200-image set stayed at chance."""


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Where a teacher looks: the patch of cell (i, j) starts at (stride * i, stride * j)."""

    field: int
    stride: int

    @property
    def student_side(self) -> int:
        """Side of what the student sees: one more pixel on the right and bottom."""
        return self.field + 1

    def cells(self, side: int) -> int:
        """Patches along `side` pixels that also fit the student's extra pixel."""
        return (side - self.student_side) // self.stride + 1


def distill(
    teacher: Path,
    root: Path,
    out: Path,
    recipe: TrainPolicy,
    *,
    student: str = "tiny-ladeda",
    on_epoch: OnEpoch | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train `student` on `root` from the checkpoint `teacher`, into `out`.

    `student` stands in for `recipe.detector`; everything else of the recipe holds.

    The best epoch is the one whose student, run over whole validation images, has the highest AP.
    Resumes like `train.training.train_detector`.

    Raises:
        CheckpointError: if the teacher cannot be used.
        InputError: if folder, recipe or run folder cannot be used.
    """
    begun = clock()
    recipe = replace(recipe, detector=student)
    spec = check_recipe(recipe)
    loaded_teacher = load_detector(teacher)
    grid = PatchGrid(loaded_teacher.spec.receptive_field, loaded_teacher.spec.stride)
    prep = preprocessing_of(recipe, spec)
    _require_same_pixels(loaded_teacher.preprocessing, prep, teacher.name)
    _require_room(recipe.crop, grid, teacher.name)
    open_run_folder(out)
    loaded = load_train_val(root, out, recipe, prep)
    compute = choose_compute(recipe.device, recipe.precision, loaded_teacher.spec)
    targets = teacher_logits(loaded_teacher, loaded.train, compute, out)

    def steps_of(step: Step, epoch: int, done: int) -> Iterator[tuple[float, int]]:
        return distill_one_epoch(step, loaded.train, targets, grid, recipe, epoch, done)

    digest = loaded_teacher.digest
    run = make_run(spec, recipe, prep, loaded, out, steps_of, on_epoch, clock, teacher=digest)
    state, stopped = fit(run)
    return finish(out, run, state, stopped, loaded, spec, clock() - begun, teacher=digest)


def _require_same_pixels(teacher: Preprocessing, student: Preprocessing, name: str) -> None:
    """Teacher and student must look at the same pixels; what they make of them may differ."""
    for key in ("size", "fit", "kernel", "orientation", "mean", "std"):
        found, asked = getattr(teacher, key), getattr(student, key)
        if found != asked:
            raise InputError(
                f"teacher {name} was trained with {key} {found!r}, the recipe has {asked!r}; "
                f"expected the same pixels for both; set train.{key} to {found!r}"
            )


def _require_room(crop: int, grid: PatchGrid, name: str) -> None:
    if crop < grid.student_side:
        raise InputError(
            f"train.crop is {crop}; expected at least {grid.student_side}, one patch of "
            f"teacher {name} and a pixel; raise it"
        )


def teacher_logits(
    teacher: LoadedDetector, images: ImageSet, compute: Compute, folder: Path
) -> NDArray[np.float32]:
    """The teacher's patch logits on every whole image, (N, h, w) float32, memory-mapped.

    Kept in `folder` under a name that says teacher and data, so that a rerun finds it.
    """
    key = fingerprint(
        teacher=teacher.digest, data=images.digests, half=compute.half, prep=teacher.preprocessing
    )
    path = folder / f"teacher-{key[:16]}.npy"
    if not path.exists():
        part = path.with_name(f".{path.name}.part")
        _write_teacher_logits(teacher, images, compute, part)
        part.replace(path)
    logits: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return logits


def _write_teacher_logits(
    teacher: LoadedDetector, images: ImageSet, compute: Compute, path: Path
) -> None:
    model = compute.place(teacher.model).eval()
    rows: NDArray[Any] | None = None
    done = 0
    for batch in eval_batches(images, batch=EVAL_BATCH):
        with torch.inference_mode(), compute.autocast():
            inputs = normalise(batch, teacher.preprocessing, compute.device)
            logits = model.patch_logits(inputs).float().cpu().numpy()
        if rows is None:
            shape = (len(images.items), *logits.shape[1:])
            rows = new_memmap(path, np.float32, shape)
        rows[done : done + len(logits)] = logits
        done += len(logits)


def distill_one_epoch(
    step: Step,
    images: ImageSet,
    targets: NDArray[np.float32],
    grid: PatchGrid,
    recipe: TrainPolicy,
    epoch: int,
    done: int,
) -> Iterator[tuple[float, int]]:
    """One pass: as many steps as images, as many patches in a step as one window has.

    The patches of a step come from `MIX` images: BatchNorm would take the patches of a single one to
    the same mean and spread, and with that take away what tells one image from another.
    Yields the mean squared error per patch, and 1.
    """
    step.detector.train()
    rng = np.random.default_rng([recipe.seed, epoch])
    for number, chosen in enumerate(mixed(len(images.items), rng), start=done):
        step.check_time()
        drawn = [
            _draw(images.pixels[i], targets[i], recipe.crop, grid, len(chosen), rng) for i in chosen
        ]
        windows = torch.cat([pixels for pixels, _, _ in drawn])
        seen = normalise(windows, step.preprocessing, step.compute.device)
        patches = torch.cat(
            [cut_patches(seen[k : k + 1], grid)[picked] for k, (_, picked, _) in enumerate(drawn)]
        )
        with step.compute.autocast():
            logits = step.detector(patches).squeeze(1)  # (patches,)
        goal = torch.cat([goals for _, _, goals in drawn]).to(step.compute.device)
        loss = F.mse_loss(logits.float(), goal)
        descend(step, loss, number)
        yield loss.item(), 1


def mixed(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which images share a step: (count, at most `MIX`), each image equally often."""
    width = min(MIX, count)
    orders = [rng.permutation(count) for _ in range(width)]
    return np.stack(orders, axis=1)


def _draw(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    side: int,
    grid: PatchGrid,
    sharing: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """A window of one image, which of its patches are in the step, and what the teacher says of them."""
    window, wanted = aligned_crop(pixels, targets, side, grid, rng)
    goals = torch.from_numpy(wanted.ravel())
    picked = torch.from_numpy(rng.permutation(len(goals))[: -(-len(goals) // sharing)])
    return window, picked, goals[picked]


def aligned_crop(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    side: int,
    grid: PatchGrid,
    rng: np.random.Generator,
) -> tuple[Tensor, NDArray[np.float32]]:
    """A random window at a multiple of the stride: pixels (1, 3, side, side), logits (h, w)."""
    cells = grid.cells(side)
    top, left = (int(n) for n in rng.integers(0, (pixels.shape[0] - side) // grid.stride + 1, 2))
    y, x = top * grid.stride, left * grid.stride
    window = np.array(pixels[None, y : y + side, x : x + side])
    return to_batch(window), np.array(targets[top : top + cells, left : left + cells])


def cut_patches(image: Tensor, grid: PatchGrid) -> Tensor:
    """(1, 3, H, W) to what the student sees of each cell, row by row: (h * w, 3, q + 1, q + 1)."""
    side = grid.student_side
    windows = image[0].unfold(1, side, grid.stride).unfold(2, side, grid.stride)  # (3, h, w, s, s)
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)
