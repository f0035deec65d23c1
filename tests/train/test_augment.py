"""Augmentation: really applied, the same whatever the class, and what its names say."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.probe import families, jpeg
from schemas.labels import Label
from schemas.policy import AugmentPolicy, TrainPolicy
from train.augment import TREATMENTS, augment, draw_window, image_rng
from train.data import Keeping, find_images, load_images
from train.encoders import JPEG_TABLES, SUBSAMPLINGS, jpeg_bytes, jpeg_tables, through_webp
from train.loader import epochs_of, train_batches
from train.transforms import Preprocessing

PREP = Preprocessing(size=64, crop=48)
EVERYTHING = AugmentPolicy(resize=0.5, blur=0.5, noise=0.5, webp=0.5, jpeg=0.5)


def noise(side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def recipe_of(policy, **changes):
    return TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, workers=2, augment=policy, **changes
    )


@pytest.fixture(scope="module")
def images(picture_set, tmp_path_factory):
    keeping = Keeping(tmp_path_factory.mktemp("cache"))
    return load_images(picture_set, find_images(picture_set), PREP, workers=2, keeping=keeping)


def batches(images, recipe, epoch=0):
    return list(train_batches(epochs_of(images, recipe), epoch))


def windows_by_image(images, recipe, epoch=0):
    """Every window of an epoch as bytes, with the digest of its image."""
    epochs = epochs_of(images, recipe)
    marked = dataclasses.replace(epochs, targets=np.arange(len(images.items), dtype=np.float32))
    return {
        (images.digests[int(k)], window.numpy().tobytes())
        for batch in train_batches(marked, epoch)
        for k, window in zip(batch.targets, batch.images, strict=True)
    }


@pytest.mark.parametrize("name", list(TREATMENTS))
def test_each_treatment_changes_the_batch_and_is_counted(images, name):
    plain = batches(images, recipe_of(AugmentPolicy()))
    treated = batches(images, recipe_of(AugmentPolicy(**{name: 1.0})))

    assert all(batch.done[name] == len(batch.targets) for batch in treated)
    assert all(name not in batch.done for batch in plain)
    assert not any((a.images == b.images).all() for a, b in zip(plain, treated, strict=True))


def test_a_chance_of_half_treats_about_half_and_leaves_the_rest_untouched(images):
    shown = batches(images, recipe_of(AugmentPolicy(jpeg=0.5), windows=8))

    treated = sum(batch.done["jpeg"] for batch in shown)
    assert 0.4 < treated / sum(len(batch.targets) for batch in shown) < 0.6


def test_augmentation_is_blind_to_the_class(images):
    """The same bytes under the other label get the same windows: the class takes no part."""
    turned = dataclasses.replace(
        images,
        items=tuple(
            dataclasses.replace(item, label=Label(1 - item.label)) for item in images.items
        ),
    )
    recipe = recipe_of(EVERYTHING, windows=2)

    assert windows_by_image(images, recipe) == windows_by_image(turned, recipe)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 3), st.integers(0, 3))
def test_what_an_image_gets_depends_on_seed_epoch_and_image_alone(images, order, seed, epoch):
    def part(indices):
        return dataclasses.replace(
            images,
            items=tuple(images.items[k] for k in indices),
            digests=tuple(images.digests[k] for k in indices),
            pixels=np.stack([images.pixels[k] for k in indices]),
        )

    recipe = recipe_of(EVERYTHING, seed=seed)

    assert windows_by_image(part(range(12)), recipe, epoch) == windows_by_image(
        part(order), recipe, epoch
    )


def test_another_seed_epoch_turn_or_image_gets_another_window():
    pixels = noise()
    digests = ("0" * 64, "1" * 64)
    keys = [(0, 0, 0, digests[0]), (1, 0, 0, digests[0]), (0, 1, 0, digests[0]),
            (0, 0, 1, digests[0]), (0, 0, 0, digests[1])]  # fmt: skip

    windows = {
        draw_window(pixels, 24, EVERYTHING, image_rng(*key)).pixels.tobytes() for key in keys
    }

    assert len(windows) == 5


@settings(max_examples=60, deadline=None)
@given(st.integers(48, 130), st.integers(48, 130), st.integers(0, 10_000))
def test_a_window_has_its_size_whatever_was_drawn(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    window = draw_window(pixels, 48, EVERYTHING, np.random.default_rng(seed))

    assert window.pixels.shape == (48, 48, 3)
    assert set(window.done) <= {*TREATMENTS, "mirror"}


def test_factors_are_spread_evenly_from_what_leaves_a_window():
    """At 56 of 64 pixels no factor below 0.875 is possible; the others are drawn, none is piled up."""
    policy = AugmentPolicy(resize=1.0, resize_factor=(0.5, 1.5))

    sides = np.array(
        [augment(noise(64), 56, policy, np.random.default_rng(k))[0].shape[0] for k in range(600)]
    )

    assert sides.min() == 56
    assert sides.max() >= 94
    # 8 of the 40 possible pixels are shrinking; before, 225 of 600 were of one size
    assert 0.12 < np.mean(sides < 64) < 0.3
    assert np.bincount(sides).max() < 60


def test_where_all_factors_leave_a_window_they_are_those_that_were_asked_for():
    policy = AugmentPolicy(resize=1.0, resize_factor=(0.8, 1.2))
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)

    treated, _ = augment(noise(100), 20, policy, rng)

    twin.random(len(TREATMENTS))
    twin.integers(0, 2), twin.integers(0, 2)
    assert treated.shape[0] == round(min(100, 20 / 0.8 + 64) * twin.uniform(0.8, 1.2))


def test_a_large_picture_is_cut_before_it_is_encoded():
    treated, done = augment(noise(1500), 48, AugmentPolicy(jpeg=1.0), np.random.default_rng(0))

    assert done == ("jpeg",)
    assert max(treated.shape) < 200


@pytest.mark.parametrize("quality", [20, 30, 49, 60, 82, 90, 100])
@pytest.mark.parametrize(
    ("encoder", "known"), [("libjpeg", "ijg"), ("mozjpeg", "mozjpeg-3"), ("flat", "mozjpeg-1")]
)
def test_the_probe_knows_our_files_for_those_of_the_encoder(encoder, known, quality):
    header = jpeg.read_header(jpeg_bytes(Image.fromarray(noise()), encoder, quality, "4:2:0"))
    found = families.fit((header.tables[0], header.tables[1]))

    assert found.exact
    assert found.family in (known, "any")
    # neighbouring qualities of the flat table may round to the same steps
    assert jpeg_tables(encoder, found.luma) == jpeg_tables(encoder, quality)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_subsampling_is_what_was_asked_for(subsampling):
    content = jpeg_bytes(Image.fromarray(noise()), "libjpeg", 80, subsampling)

    with Image.open(io.BytesIO(content)) as image:
        sampled = {layer[1:3] for layer in image.layer}
    assert (
        sampled
        == {"4:4:4": {(1, 1)}, "4:2:2": {(2, 1), (1, 1)}, "4:2:0": {(2, 2), (1, 1)}}[subsampling]
    )


def test_libjpeg_tables_are_those_that_pillow_writes():
    for quality in (10, 50, 75, 95):
        out = io.BytesIO()
        Image.fromarray(noise()).save(out, "JPEG", quality=quality)
        with Image.open(io.BytesIO(out.getvalue())) as image:
            assert [list(t) for t in image.quantization.values()] == jpeg_tables("libjpeg", quality)


def test_encoders_leave_different_pixels():
    image = Image.fromarray(noise())
    left = {
        np.asarray(Image.open(io.BytesIO(jpeg_bytes(image, e, 75, s)))).tobytes()
        for e in JPEG_TABLES
        for s in SUBSAMPLINGS
    } | {np.asarray(through_webp(image, 75)).tobytes()}

    assert len(left) == 10
