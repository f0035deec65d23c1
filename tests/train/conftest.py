"""Small sets of pictures whose classes differ in texture alone."""

import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.policy import TrainPolicy

SIDE = 64

torch.set_num_threads(1)  # tensors here are too small to share between cores


def picture(rng, label, size=(SIDE, SIDE)):
    """Real: smooth with sensor noise. Fake: the same at half size, up-sampled."""
    width, height = size
    scene = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(scene).resize(size, Image.Resampling.BICUBIC))
    noise = rng.normal(0, 12, size=(height, width, 3))
    if label:
        noise = noise[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def fill(root, folders, count, seed=0):
    rng = np.random.default_rng(seed)
    for folder in folders:
        for label, leaf in enumerate(("0_real", "1_fake")):
            place = root / folder / leaf
            place.mkdir(parents=True)
            for k in range(count):
                picture(rng, label).save(place / f"{folder.replace('/', '-')}-{label}-{k}.png")


@pytest.fixture(scope="session")
def picture_set(tmp_path_factory):
    """24 train, 12 val, 12 on each of two test platforms; read only."""
    root = tmp_path_factory.mktemp("set")
    fill(root, ["train"], 12, seed=1)
    fill(root, ["val", "test/reddit", "test/twitter"], 6, seed=2)
    return root


@pytest.fixture(scope="session")
def odd_set(tmp_path_factory):
    """16 train and 6 val pictures of several sizes, so that they are no one array; read only."""
    root = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(3)
    for split, pictures in (("train", 8), ("val", 3)):
        for label, leaf in enumerate(("0_real", "1_fake")):
            (root / split / leaf).mkdir(parents=True)
            for k in range(pictures):
                size = [(64, 80), (90, 70), (64, 64)][k % 3]
                picture(rng, label, size).save(root / split / leaf / f"{k}.png")
    return root


@pytest.fixture
def recipe():
    """Seconds instead of hours; float32 so that every machine computes the same way."""
    return TrainPolicy(
        detector="tiny-ladeda",
        size=SIDE,
        crop=48,
        batch=8,
        epochs=3,
        learning_rate=1e-2,
        workers=2,
        device="cpu",
        precision="float32",
    )


@pytest.fixture(scope="session")
def larger_set(tmp_path_factory):
    """20 of each class in a folder without splits; read only."""
    root = tmp_path_factory.mktemp("larger")
    fill(root, ["faces"], 20, seed=9)
    return root


@contextmanager
def files_at_most(size):
    """The system refuses to let a file of this process grow beyond `size`: what a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def full_disk():
    """`with full_disk(bytes):` no file grows beyond so many bytes."""
    return files_at_most
