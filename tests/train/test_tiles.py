"""Images of any size: the map of tiles is the map of the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.config import Compute, build_detector
from train.detectors import DETECTORS, REPRESENTATIONS
from train.detectors.patches import is_pooling, pool_patches
from train.tiles import patch_map, score_images, strips
from train.transforms import Preprocessing, normalise, to_batch

CPU = Compute(torch.device("cpu"))


def detector_of(name, representation=None, pooling="mean"):
    spec = DETECTORS[name]
    prep = Preprocessing(fit="whole", size=32, representation=representation or spec.representation)
    return build_detector(spec, prep, pooling, seed=0).eval(), spec, prep


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.sampled_from(sorted(DETECTORS)), st.integers(33, 3000), st.integers(40, 600))
def test_every_cell_is_kept_once_in_order_and_sees_what_it_would(name, length, tile):
    spec = DETECTORS[name]
    cells = (length - spec.receptive_field) // spec.stride + 1

    place = 0
    for strip in strips(length, spec, tile):
        assert strip.start + strip.skip * spec.stride == place * spec.stride
        assert strip.start % 2 == 0  # NPR looks at blocks of two
        last = (place + strip.count - 1) * spec.stride + spec.receptive_field
        assert strip.stop >= min(last + 1, length)
        assert strip.start < place * spec.stride or place == 0
        place += strip.count
    assert place == cells


@pytest.mark.parametrize("name", ["ladeda5", "ladeda9", "ladeda33", "tiny-ladeda"])
@pytest.mark.parametrize("representation", ["NPR", "right_diag"])
def test_a_map_of_tiles_is_rectangular_and_that_of_the_whole_image(name, representation):
    detector, spec, prep = detector_of(name, representation)
    pixels = noise(101, 147)

    tiled = patch_map(detector, spec, pixels, prep, CPU, tile=64)
    with torch.no_grad():
        whole = detector.patch_logits(normalise(to_batch(pixels[None]), prep, CPU.device))[0]

    assert tiled.shape == tuple(whole.shape)
    assert tiled.shape[0] != tiled.shape[1]
    np.testing.assert_allclose(tiled, whole.numpy(), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(5, 90), width=st.integers(5, 90), tile=st.sampled_from([2, 8, 16, 24, 50]),
    representation=st.sampled_from(REPRESENTATIONS),
)  # fmt: skip
def test_so_it_is_whatever_the_size_the_tile_and_the_representation(
    height, width, tile, representation
):
    detector, spec, prep = detector_of("tiny-ladeda", representation)
    pixels = noise(height, width)

    tiled = patch_map(detector, spec, pixels, prep, CPU, tile=tile)
    with torch.no_grad():
        whole = detector.patch_logits(normalise(to_batch(pixels[None]), prep, CPU.device))[0]

    np.testing.assert_allclose(tiled, whole.numpy(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "top10"])
def test_images_of_any_size_are_scored_in_order_as_each_alone(pooling, monkeypatch):
    monkeypatch.setattr("train.tiles.TILE", 80)
    detector, spec, prep = detector_of("tiny-ladeda", pooling=pooling)
    images = [noise(40, 50, 1), noise(40, 50, 2), noise(130, 90, 3), noise(50, 40, 4)]

    scores = list(score_images(detector, spec, images, prep, CPU, batch=2))

    with torch.no_grad():
        alone = [detector(normalise(to_batch(i[None]), prep, CPU.device)).item() for i in images]
    np.testing.assert_allclose(scores, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "count"), [("top1", 1), ("top10", 10), ("top25", 25), ("top99", 99)]
)
def test_top_k_is_the_mean_of_the_highest(pooling, count):
    logits = torch.randn(3, 10, 10, generator=torch.Generator().manual_seed(0))

    want = np.sort(logits.reshape(3, 100).numpy(), axis=1)[:, -count:].mean(axis=1)

    np.testing.assert_allclose(pool_patches(logits, pooling).numpy(), want, rtol=1e-5, atol=1e-6)
    assert pool_patches(logits[:, :1, :1], pooling).tolist() == logits[:, 0, 0].tolist()


def test_top_k_lies_between_mean_and_max():
    logits = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, top, largest = (pool_patches(logits, p) for p in ("mean", "top20", "max"))

    assert (mean < top).all()
    assert (top < largest).all()


def test_names_of_poolings_are_few():
    assert all(is_pooling(n) for n in ("mean", "max", "top1", "top99"))
    assert not any(is_pooling(n) for n in ("top0", "top100", "topk", "min", "", None, 5))
