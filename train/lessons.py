"""What a student is shown in a step of distillation, and what its teacher says of it.

A teacher judges patches of q x q pixels. The student sees such a patch with one more pixel on the right and
bottom. In the paper (https://arxiv.org/abs/2406.09398) it sees the patch alone: at its border the gradient
meets zeros, which no patch inside a picture has beside it, and five of Tiny-LaDeDa's nine looks at a patch
read that border. With `patches = "window"` it looks at a window of patches and a margin, as it will look at a
picture; and what patches share of their pixels is computed once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InputError
from schemas.policy import TrainPolicy
from train import cache as store
from train.augment import Window, draw_window, image_rng
from train.config import Compute
from train.data import ImageSet
from train.detectors import DetectorSpec, PatchDetector
from train.detectors.patches import pool_patches
from train.sampling import Indices
from train.transforms import Preprocessing, normalise, to_batch

Floats32 = NDArray[np.float32]

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

    def side(self, cells: int) -> int:
        """The shortest side with so many patches for the student."""
        return (cells - 1) * self.stride + self.student_side


@dataclass(frozen=True, slots=True)
class Sight:
    """How a student looks at patches: each alone, or all of a window that has a `margin` on the left and top.

    Of the grid of the student's own logits on a window, `looks` x `looks` are inside a patch, and the next
    patch begins `apart` further on. The margin, one step of the student's, gives its gradient neighbours.
    """

    grid: PatchGrid
    margin: int = 0
    looks: int = 1
    apart: int = 1

    @classmethod
    def of(cls, student: DetectorSpec, grid: PatchGrid, patches: str) -> "Sight":
        """That of `student`, for a recipe's `patches`.

        Raises:
            InputError: if windows are asked for, and the student's steps do not end where patches begin.
        """
        if patches == "alone":
            return cls(grid)
        if grid.stride % student.stride:
            raise InputError(
                f"student {student.name} moves on by {student.stride} pixels and its teacher by "
                f"{grid.stride}; expected a multiple of it to look at patches in windows; set "
                'train.patches to "alone"'
            )
        looks = (grid.student_side - student.receptive_field) // student.stride + 1
        return cls(grid, student.stride, looks, grid.stride // student.stride)

    @property
    def alone(self) -> bool:
        """Whether each patch is shown by itself."""
        return not self.margin

    def pixels_shown(self, crop: int, sharing: int) -> int:
        """Pixels that a step of `sharing` images shows, about."""
        cells = self.grid.cells(crop)
        if self.alone:
            return (cells * self.grid.student_side) ** 2
        return sharing * (self.margin + self.grid.side(cells_of_each(cells, sharing))) ** 2

    def read(self, student: PatchDetector, inputs: Tensor) -> Tensor:
        """The student's logit of every patch it is shown: (n,) of n patches, or (B, k, k) of B windows."""
        if self.alone:
            return student(inputs).squeeze(1)  # type: ignore[no-any-return]
        first = 1  # the margin is one step of the student's
        seen = student.patch_logits(inputs)[:, first:, first:]
        inside = seen.unfold(1, self.looks, self.apart).unfold(2, self.looks, self.apart)
        return pool_patches(inside.flatten(0, 2), student.pooling).view(inside.shape[:3])


@dataclass(frozen=True, slots=True)
class Wanted:
    """The images of a step, and how many times each came up in the epoch before."""

    chosen: Sequence[int]
    turns: Sequence[int]
    epoch: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step shows, and what windows underwent.

    `pixels` (n, 3, S, S) uint8 are patches of which `goals` (n,) are what the student is to say, or windows
    of k x k of them with goals (n, k, k).
    """

    pixels: Tensor
    goals: Tensor
    done: tuple[str, ...] = ()


class Drawer(Protocol):
    """Where the patches of a step come from."""

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        """Patches of the images wanted."""

    def says(self) -> Iterator[float]:
        """What the teacher scores each image by, in order."""


def goals_of(logits: Floats32, of_image: Floats32, within: float, middle: float = 0.0) -> Floats32:
    """What a student is to say of patches: the logit of their image, and part of what they are off from it.

    Args:
        logits: the teacher's of some patches, any shape.
        of_image: what those of the image pool to, such that it goes with `logits`. As goals lie around it,
            those of all patches pool to it again, be it a mean, the maximum or the mean of the highest.
        within: the part, 0 to 1; with 1 the teacher's logits, as in the paper.
        middle: the teacher's logit of which the student is to say 0; see `middle_of`.
    """
    goals: Floats32 = logits if within == 1 else of_image + np.float32(within) * (logits - of_image)
    return goals - np.float32(middle)


def middle_of(said: Iterable[float], labels: NDArray[np.int64]) -> float:
    """Halfway between what a teacher says on average of the images of either class.

    A student hears mostly what images have in common, and scores them all near there; with goals around 0
    it calls about as many of them real as fake, wherever its teacher's logits lie.
    """
    scores = np.fromiter(said, dtype=np.float64, count=len(labels))
    return float(np.mean([scores[labels == label].mean() for label in np.unique(labels)]))


def cells_of_each(cells: int, sharing: int) -> int:
    """Patches along a side of the windows of `sharing` images, together at most those of one large window."""
    return max(1, int(cells / sharing**0.5))


@dataclass(frozen=True, slots=True)
class Kept:
    """Patches of plain windows, whose logits the teacher gave before."""

    images: ImageSet
    logits: store.Store
    sight: Sight
    crop: int
    within: float = 1.0
    pooling: str = "mean"
    middle: float = 0.0

    def says(self) -> Iterator[float]:
        """See `Drawer`: of whole images."""
        for index in range(len(self.images.items)):
            yield self._pooled(self.logits[index]).item()

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        """See `Drawer`: of each image some patches of a window of the crop's side, or a small window."""
        of_image, join = (
            (self._some_patches, np.concatenate) if self.sight.alone else (self._window, np.stack)
        )
        drawn = [of_image(index, len(wanted.chosen), rng) for index in wanted.chosen]
        shown = join([pixels for pixels, _ in drawn])
        return Drawn(to_batch(shown), torch.from_numpy(join([goals for _, goals in drawn])))

    def _goals(self, whole: Floats32, logits: Floats32) -> Floats32:
        """Of some patches of an image, of which the teacher gave the `whole` (h, w)."""
        of_image = logits if self.within == 1 else self._pooled(whole)
        return goals_of(logits, of_image, self.within, self.middle)

    def _pooled(self, whole: Floats32) -> Floats32:
        pooled: Floats32 = pool_patches(torch.tensor(whole[None]), self.pooling).numpy()
        return pooled

    def _some_patches(
        self, index: int, sharing: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Floats32]:
        grid = self.sight.grid
        cells = grid.cells(self.crop)
        pixels, logits = self.images.pixels[index], self.logits[index]
        top, left = (
            int(rng.integers(0, grid.cells(side) - cells + 1)) for side in pixels.shape[:2]
        )
        picked = rng.permutation(cells * cells)[: -(-cells * cells // sharing)]
        rows, columns = top + picked // cells, left + picked % cells
        return patches_at(pixels, rows, columns, grid), self._goals(logits, logits[rows, columns])

    def _window(
        self, index: int, sharing: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Floats32]:
        grid, margin = self.sight.grid, self.sight.margin
        mine = cells_of_each(grid.cells(self.crop), sharing)
        pixels, logits = self.images.pixels[index], self.logits[index]
        top, left = (int(rng.integers(1, grid.cells(side) - mine + 1)) for side in pixels.shape[:2])
        y, x = grid.stride * top - margin, grid.stride * left - margin
        side = margin + grid.side(mine)
        goals = self._goals(logits, logits[top : top + mine, left : left + mine])
        return pixels[y : y + side, x : x + side], goals


@dataclass(frozen=True, slots=True)
class Live:
    """Patches of augmented windows, which the teacher looks at as they come."""

    teacher: PatchDetector
    preprocessing: Preprocessing
    images: ImageSet
    sight: Sight
    recipe: TrainPolicy
    compute: Compute
    middle: float = 0.0

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        """See `Drawer`: small windows, so that all their patches together are those of one large.

        The logit of an image is here what its window's pool to. Shown as windows, they have one more row and
        column of patches, on the left and top, which are not judged: both detectors look over the border
        there.
        """
        sight = self.sight
        pixels, logits, done = self._seen(wanted)
        mine = logits.shape[-1]
        of_window = self._pooled(logits)[:, None, None]
        goals = goals_of(logits, of_window, self.recipe.within, self.middle)
        if not sight.alone:
            begin = sight.grid.stride - sight.margin
            shown = np.ascontiguousarray(pixels[:, begin:, begin:])
            return Drawn(to_batch(shown), torch.from_numpy(np.ascontiguousarray(goals)), done)
        rows, columns = np.divmod(np.arange(mine * mine), mine)
        patches = np.concatenate(
            [patches_at(window, rows, columns, sight.grid) for window in pixels]
        )
        return Drawn(to_batch(patches), torch.from_numpy(np.ascontiguousarray(goals).ravel()), done)

    def says(self) -> Iterator[float]:
        """See `Drawer`: of windows such as the first epoch shows."""
        for start in range(0, len(self.images.items), MIX):
            chosen = range(start, min(start + MIX, len(self.images.items)))
            yield from self._pooled(self._seen(Wanted(chosen, [0] * len(chosen), 0))[1]).tolist()

    def _seen(self, wanted: Wanted) -> tuple[NDArray[np.uint8], Floats32, tuple[str, ...]]:
        """Windows, the teacher's logits of their patches that are judged, and what they underwent."""
        grid = self.sight.grid
        first = 0 if self.sight.alone else 1
        mine = cells_of_each(grid.cells(self.recipe.crop), len(wanted.chosen))
        windows = self._windows(wanted, grid.side(first + mine))
        pixels = np.stack([window.pixels for window in windows])
        logits = self._judged(pixels)[:, first : first + mine, first : first + mine]
        return pixels, logits, tuple(name for window in windows for name in window.done)

    def _pooled(self, logits: Floats32) -> Floats32:
        pooled: Floats32 = pool_patches(torch.tensor(logits), self.teacher.pooling).numpy()
        return pooled

    def _judged(self, pixels: NDArray[np.uint8]) -> Floats32:
        """(B, h, w) the teacher's logits on windows (B, S, S, 3)."""
        with torch.inference_mode(), self.compute.autocast():
            seen = normalise(to_batch(pixels), self.preprocessing, self.compute.device)
            logits: Floats32 = self.teacher.patch_logits(seen).float().cpu().numpy()
        return logits

    def _windows(self, wanted: Wanted, side: int) -> list[Window]:
        digests, seed = self.images.digests, self.recipe.seed
        return [
            draw_window(
                self.images.pixels[k], side, self.recipe.augment,
                image_rng(seed, wanted.epoch, turn, digests[k]),
            )
            for k, turn in zip(wanted.chosen, wanted.turns, strict=True)
        ]  # fmt: skip


def patches_at(
    pixels: NDArray[np.uint8], rows: Indices, columns: Indices, grid: PatchGrid
) -> NDArray[np.uint8]:
    """What the student sees of the cells (rows, columns) of an image (H, W, 3): (n, q + 1, q + 1, 3)."""
    reach = np.arange(grid.student_side)
    down = rows[:, None] * grid.stride + reach
    across = columns[:, None] * grid.stride + reach
    return pixels[down[:, :, None], across[:, None, :]]
