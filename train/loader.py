"""Batches of an epoch, made a few ahead of the training by other threads.

What a batch holds depends on the seed, the epoch and the images alone, not on how many threads make it:
the plan of the epoch is drawn from (seed, epoch), each window from (seed, epoch, turn, image). Pillow
lets go of the interpreter while it encodes, decodes and resizes, so this runs beside the training.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InputError
from schemas.policy import AugmentPolicy, TrainPolicy
from train.augment import draw_window, image_rng
from train.data import ImageSet, Item, Source
from train.sampling import Cell, Indices, Place, cells_of, plan_epoch, turns

AHEAD = 3
"""Batches in the making beside the one that is trained on."""

TASK = 4
"""Windows that a thread makes at a time: handing over a window costs as much as cutting it out."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows (B, 3, side, side) uint8, targets (B,) in [0, 1], and how many underwent what."""

    images: Tensor
    targets: NDArray[np.float32]
    done: Counter[str]


@dataclass(frozen=True, slots=True)
class Epochs:
    """What every epoch of a run is drawn from."""

    images: ImageSet
    targets: NDArray[np.float32]
    cells: tuple[Cell, ...]
    recipe: TrainPolicy

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self.images.items) * self.recipe.windows


def epochs_of(images: ImageSet, recipe: TrainPolicy, sources: Sequence[Source] = ()) -> Epochs:
    """The epochs of `recipe` over `images`; `sources` are those of a mixed set.

    Raises:
        InputError: if posteriors, or platforms, are asked for and there are none.
    """
    if recipe.balance == "class-platform" and not any(item.platform for item in images.items):
        raise InputError(
            "train.balance is 'class-platform' and no image has a platform; expected folders such as "
            "train/reddit/0_real, or a release, whose manifest.parquet names it; set train.balance to 'class'"
        )
    places = [Place(item.source, int(item.label), item.platform) for item in images.items]
    weights = {n: source.weight for n, source in enumerate(sources)} if len(sources) > 1 else None
    cells = cells_of(places, recipe.balance, weights)
    return Epochs(images, targets_of(images.items, recipe), tuple(cells), recipe)


def targets_of(items: Sequence[Item], recipe: TrainPolicy) -> NDArray[np.float32]:
    """What each image is to be told as, (N,) in [0, 1]: its class, or P(fake) where that is known."""
    hard = np.array([item.label for item in items], dtype=np.float32)
    if recipe.labels == "hard":
        return hard
    known = [item.posterior for item in items]
    if all(p is None for p in known):
        raise InputError(
            "train.labels is 'posterior' and no image has one; expected a release whose manifest.parquet "
            "has a column posterior; set train.labels to 'hard'"
        )
    return np.array(
        [h if p is None else p for h, p in zip(hard, known, strict=True)], dtype=np.float32
    )


def soft_targets(items: Sequence[Item], recipe: TrainPolicy) -> int:
    """How many images are told as P(fake); the others as their class."""
    return sum(item.posterior is not None for item in items) if recipe.labels == "posterior" else 0


@dataclass(frozen=True, slots=True)
class Coming:
    """A batch in the making: its images, room for its pixels, and who puts them there."""

    chosen: Indices
    pixels: Tensor
    makers: tuple[Future[list[str]], ...]


def train_batches(epochs: Epochs, epoch: int, *, pinned: bool = False) -> Iterator[Batch]:
    """The batches of an epoch, in order; `pinned`: in memory that a GPU can fetch from by itself.

    A last batch of one window is left out where others hold more: its own statistics would be all BatchNorm
    sees.
    """
    recipe = epochs.recipe
    plan = plan_epoch(epochs.cells, len(epochs), np.random.default_rng([recipe.seed, epoch]))
    turn = turns(plan)
    fewest = min(2, recipe.batch, len(plan))
    starts = [k for k in range(0, len(plan), recipe.batch) if len(plan) - k >= fewest]
    waiting: deque[Coming] = deque()
    with ThreadPoolExecutor(recipe.workers) as pool:
        try:
            for start in starts:
                rows = slice(start, start + recipe.batch)
                waiting.append(_ordered(pool, epochs, epoch, plan[rows], turn[rows], pinned))
                if len(waiting) > AHEAD:
                    yield _gathered(epochs, waiting.popleft())
            while waiting:
                yield _gathered(epochs, waiting.popleft())
        finally:
            for coming in waiting:
                for maker in coming.makers:
                    maker.cancel()


def _ordered(
    pool: ThreadPoolExecutor,
    epochs: Epochs,
    epoch: int,
    chosen: Indices,
    turn: Indices,
    pinned: bool,
) -> Coming:
    recipe, images = epochs.recipe, epochs.images
    shape = (len(chosen), recipe.crop, recipe.crop, 3)
    room = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
    pixels = room.numpy()

    def make(rows: range) -> list[str]:
        done: list[str] = []
        for row in rows:
            index = int(chosen[row])
            rng = image_rng(recipe.seed, epoch, int(turn[row]), images.digests[index])
            window = draw_window(images.pixels[index], recipe.crop, recipe.augment, rng)
            pixels[row] = window.pixels
            done += window.done
        return done

    count = 1 if augments(recipe.augment) else TASK
    tasks = (range(k, min(k + count, len(chosen))) for k in range(0, len(chosen), count))
    return Coming(chosen, room, tuple(pool.submit(make, rows) for rows in tasks))


def _gathered(epochs: Epochs, coming: Coming) -> Batch:
    done = Counter(name for maker in coming.makers for name in maker.result())
    return Batch(coming.pixels.permute(0, 3, 1, 2), epochs.targets[coming.chosen], done)


def augments(policy: AugmentPolicy) -> bool:
    """Whether `policy` does anything at all."""
    return any((policy.resize, policy.blur, policy.noise, policy.webp, policy.jpeg))
