"""Training steps a second, whole steps with their data: a plain float32 loop beside ours.

The plain loop is what one writes who has the network and a folder: open a file with Pillow, resize, crop,
flip, to a float tensor, forward, backward, Adam. Ours is what `wildrf train` runs. The same network with
the same first weights; rounds of both alternate, so that a machine that is busy meanwhile slows both.

    python tests/benchmarks/training.py --data DIR [--detector ladeda9] [--crop 96] [--batch 8]
    python tests/benchmarks/training.py --data DIR --epochs 4      and the AP of float32 and of ours
    python tests/benchmarks/training.py --data DIR --device cuda --apart [--compile] [--precision float32]

Prints JSON: images/s of each round, and the median of the ratios within a round. With --apart also what the
loader makes alone, and what the steps of both do with one batch that is there already: the slower of loader
and steps bounds the whole, and whole / steps is the part of the time in which the device has work.
"""

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.detect import recipe_with
from schemas.labels import Split
from schemas.policy import TrainPolicy
from train.config import (
    build_detector,
    check_recipe,
    choose_compute,
    preprocessing_of,
    settle_kernels,
)
from train.data import Item, Keeping, find_images, load_images
from train.engine import BETAS, LAG, Losses, Statistics, Step, make_optimizer, train_one_epoch
from train.loader import Batch, Epochs, epochs_of, train_batches
from train.replay import Replay
from train.training import train_detector

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def plain_picture(path: Path, size: int, crop: int) -> torch.Tensor:
    """One training window, as one would write it."""
    image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    x, y = random.randint(0, size - crop), random.randint(0, size - crop)
    image = image.crop((x, y, x + crop, y + crop))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - MEAN) / STD


def plain_batches(
    root: Path, items: list[Item], recipe: TrainPolicy
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images (B, 3, crop, crop) and their labels (B,), for ever."""
    while True:
        chosen = random.sample(items, recipe.batch)
        pictures = [plain_picture(root / i.path, recipe.size, recipe.crop) for i in chosen]
        yield torch.stack(pictures), torch.tensor([float(i.label) for i in chosen])


def plain_steps(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], recipe: TrainPolicy
) -> Iterator[int]:
    """Train; yields the images of every step."""
    spec = check_recipe(recipe)
    device = choose_compute(recipe.device, "float32", spec).device
    model = build_detector(spec, preprocessing_of(recipe, spec), recipe.pooling, recipe.seed)
    model.train().to(device)
    adam = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, betas=BETAS)
    for images, labels in batches:
        torch.backends.cudnn.allow_tf32 = True  # as PyTorch comes
        torch.backends.cudnn.deterministic = False
        logits = model(images.to(device))[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(device))
        adam.zero_grad()
        loss.backward()
        adam.step()
        settle_kernels()  # for the other loop
        yield len(labels)


def our_steps(batches: Iterator[Batch], recipe: TrainPolicy) -> Iterator[int]:
    """Train as `wildrf train` does."""
    spec = check_recipe(recipe)
    prep = preprocessing_of(recipe, spec)
    compute = choose_compute(recipe.device, recipe.precision, spec, recipe.compile)
    model = compute.place(build_detector(spec, prep, recipe.pooling, recipe.seed))
    adam = make_optimizer(model, compute, recipe.learning_rate)
    held = Statistics(model) if recipe.compile or compute.replays else None
    replay = Replay(compute.device, adam) if compute.replays else None
    step = Step(
        model, adam, prep, compute, recipe.norm_warmup, lambda: None, statistics=held, replay=replay
    )
    losses = Losses(0, LAG if compute.replays else 0)
    for loss, count in train_one_epoch(step, batches, 0):
        losses.add(loss, count)
        yield count


def made(epochs: Epochs, recipe: TrainPolicy) -> Iterator[Batch]:
    """Batches for ever."""
    pinned = choose_compute(recipe.device, "float32", check_recipe(recipe)).replays
    for epoch in itertools.count():
        yield from train_batches(epochs, epoch, pinned=pinned)


def rate(steps: Iterator[int], count: int) -> float:
    """Images a second over `count` steps."""
    wait()
    begun = time.perf_counter()
    seen = sum(next(steps) for _ in range(count))
    wait()
    return seen / (time.perf_counter() - begun)


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(
    root: Path, recipe: TrainPolicy, rounds: int, steps: int, apart: bool
) -> dict[str, Any]:
    """Alternate rounds of both loops."""
    random.seed(recipe.seed)
    items = [item for item in find_images(root) if item.split is Split.TRAIN]
    prep = preprocessing_of(recipe, check_recipe(recipe))
    with tempfile.TemporaryDirectory() as folder:
        images = load_images(root, items, prep, workers=2, keeping=Keeping(Path(folder)))
    epochs = epochs_of(images, recipe)
    loops = {
        "plain": plain_steps(plain_batches(root, items, recipe), recipe),
        "ours": our_steps(made(epochs, recipe), recipe),
    }
    if apart:
        batches = made(epochs, recipe)
        loops["loader"] = (len(batch.targets) for batch in batches)
        loops["steps"] = our_steps(itertools.repeat(next(batches)), recipe)
        device = choose_compute(recipe.device, "float32", check_recipe(recipe)).device
        there = tuple(part.to(device) for part in next(plain_batches(root, items, recipe)))
        loops["plain steps"] = plain_steps(itertools.repeat(there), recipe)
    for loop in loops.values():
        rate(loop, 3)  # the first steps choose kernels
    found = [{name: rate(loop, steps) for name, loop in loops.items()} for _ in range(rounds)]
    ratios = [row["ours"] / row["plain"] for row in found]
    return {
        "detector": recipe.detector, "crop": recipe.crop, "batch": recipe.batch,
        "precision": recipe.precision, "compile": recipe.compile, "workers": recipe.workers,
        "threads": torch.get_num_threads(), "images_per_s": found,
        "median": {name: statistics.median(row[name] for row in found) for name in loops},
        "ratio": statistics.median(ratios), "ratios": ratios,
    }  # fmt: skip


def accuracies(root: Path, recipe: TrainPolicy) -> dict[str, Any]:
    """Validation AP with its interval, in float32 and as we choose."""
    found = {}
    for precision in ("float32", "auto"):
        with tempfile.TemporaryDirectory() as folder:
            result = train_detector(root, Path(folder), replace(recipe, precision=precision))
        val = result.val
        found[precision] = {"ap": val["ap"], "interval": val["ci"]["ap"], "s": result.seconds}
    return found


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detector", default="ladeda9")
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--epochs", type=int, help="also train that long, twice, and tell the AP")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--apart", action="store_true", help="also the loader and the steps alone")
    asked = parser.parse_args()
    recipe = TrainPolicy(
        detector=asked.detector, crop=asked.crop, batch=asked.batch, workers=asked.workers,
        device=asked.device, precision=asked.precision, compile=asked.compile,
    )  # fmt: skip
    recipe = recipe_with(recipe, asked.set)
    found = compare(asked.data, recipe, asked.rounds, asked.steps, asked.apart)
    if asked.epochs:
        found["ap"] = accuracies(asked.data, replace(recipe, epochs=asked.epochs))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
