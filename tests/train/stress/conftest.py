"""Detectors of which it is known what they read, and sets to ask them on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.policy import TrainPolicy
from train.training import train_detector

SIDE = 64


def scene(rng, *, generated=False):
    """A smooth picture with noise; generated, its noise is up-sampled."""
    coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    noise = rng.normal(0, 12, size=(SIDE, SIDE, 3))
    if generated:
        noise = noise[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def fill(root, folder, count, seed, *, qualities, textured):
    """`count` pictures a class, saved as JPEG of its quality; `textured` fakes are generated."""
    rng = np.random.default_rng(seed)
    for label, leaf in enumerate(("0_real", "1_fake")):
        place = root / folder / leaf
        place.mkdir(parents=True)
        for k in range(count):
            made = scene(rng, generated=bool(label) and textured)
            made.save(place / f"{label}-{k:03d}.jpg", quality=qualities[label], subsampling="4:2:0")


@dataclass(frozen=True)
class Known:
    """A set, and a detector trained on it."""

    root: Path
    checkpoint: Path


def taught(folder, *, qualities, textured):
    root = folder / "set"
    fill(root, "train", 60, 1, qualities=qualities, textured=textured)
    fill(root, "val", 15, 2, qualities=qualities, textured=textured)
    fill(root, "test/x", 40, 3, qualities=qualities, textured=textured)
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=SIDE, crop=48, batch=8, epochs=12, learning_rate=1e-2,
        fit="native", workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    return Known(root, train_detector(root, folder / "run", recipe).checkpoint)


@pytest.fixture(scope="session")
def format_reader(tmp_path_factory):
    """Classes of one kind of picture that differ in JPEG quality alone: 95 real, 40 fake."""
    folder = tmp_path_factory.mktemp("format")
    return taught(folder, qualities=(95, 40), textured=False)


@pytest.fixture(scope="session")
def texture_reader(tmp_path_factory):
    """Classes that differ in texture alone, all JPEG 90."""
    return taught(tmp_path_factory.mktemp("texture"), qualities=(90, 90), textured=True)


@pytest.fixture(scope="session")
def both_differ(tmp_path_factory):
    """A test set whose classes differ in texture, and are saved unlike too: 95 real, 85 fake."""
    root = tmp_path_factory.mktemp("both")
    fill(root, "test/x", 50, 4, qualities=(95, 85), textured=True)
    return root


SIZES = ((64, 64), (90, 70), (70, 120), (600, 520))


@pytest.fixture(scope="session")
def whole_reader(tmp_path_factory):
    """A detector that is fed every pixel, and pictures of several sizes, some larger than a tile."""
    root = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    for folder, count in (("train", 8), ("val", 4), ("test/x", 4)):
        for label, leaf in enumerate(("0_real", "1_fake")):
            (root / "set" / folder / leaf).mkdir(parents=True)
            for k in range(count):
                noise = rng.integers(0, 256, (*SIZES[k % 4][::-1], 3), dtype=np.uint8)
                if label:
                    noise = noise[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
                Image.fromarray(noise).save(root / "set" / folder / leaf / f"{k}.jpg", quality=90)
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=2, learning_rate=1e-2,
        fit="whole", workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    return Known(root / "set", train_detector(root / "set", root / "run", recipe).checkpoint)
