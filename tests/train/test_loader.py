"""Batches: what an epoch is made of, the same with any number of threads."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.errors import InputError
from schemas.labels import Label, Split
from schemas.policy import AugmentPolicy, TrainPolicy
from train.augment import draw_window
from train.data import Item, Keeping, Source, described, find_images, load_images
from train.loader import epochs_of, targets_of, train_batches
from train.transforms import Preprocessing
from train.validation import find_sources

PREP = Preprocessing(size=32, crop=24)
PLAIN = TrainPolicy(detector="tiny-ladeda", size=32, crop=24, batch=7, workers=2)


@pytest.fixture
def images(picture_set, tmp_path):
    items = find_images(picture_set)
    return load_images(picture_set, items, PREP, workers=2, keeping=Keeping(tmp_path))


def drawn(images, recipe=PLAIN, epoch=0, sources=()):
    return list(train_batches(epochs_of(images, recipe, sources), epoch))


def equal(a, b):
    return len(a) == len(b) and all(
        (x.images == y.images).all() and (x.targets == y.targets).all() and x.done == y.done
        for x, y in zip(a, b, strict=True)
    )


def test_batches_depend_on_seed_and_epoch_alone_and_cover_every_image(images):
    first = drawn(images)

    assert equal(first, drawn(images))
    assert not equal(first, drawn(images, epoch=1))
    assert not equal(first, drawn(images, dataclasses.replace(PLAIN, seed=1)))
    assert sum(len(batch.targets) for batch in first) == len(images.items)
    assert first[0].images.shape == (7, 3, 24, 24)


@pytest.mark.parametrize(
    "augment", [AugmentPolicy(), AugmentPolicy(jpeg=0.7, noise=0.7, resize=0.7)]
)
def test_the_number_of_threads_changes_nothing(images, augment):
    recipe = dataclasses.replace(PLAIN, augment=augment, windows=2)

    one = drawn(images, dataclasses.replace(recipe, workers=1))
    many = drawn(images, dataclasses.replace(recipe, workers=8))

    assert equal(one, many)


def test_a_reader_that_stops_early_leaves_no_threads_behind(images):
    import threading

    before = threading.active_count()
    batches = train_batches(epochs_of(images, PLAIN), 0)
    next(batches)
    batches.close()

    assert threading.active_count() == before


def test_a_last_batch_of_one_is_left_out_where_others_hold_more(images):
    few = dataclasses.replace(
        images, items=images.items[:8], digests=images.digests[:8], pixels=images.pixels[:8]
    )

    assert [len(batch.targets) for batch in drawn(few)] == [7]
    singles = drawn(few, dataclasses.replace(PLAIN, batch=1))
    assert [len(batch.targets) for batch in singles] == [1] * 8  # all alike


def test_plain_windows_are_parts_of_the_picture_or_of_its_mirror():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    views = [pixels, pixels[:, ::-1]]
    parts = {
        (mirror, view[y : y + 4, x : x + 4].tobytes())
        for mirror, view in enumerate(views) for y in range(3) for x in range(3)
    }  # fmt: skip

    windows = [
        draw_window(pixels, 4, AugmentPolicy(), np.random.default_rng(k)) for k in range(200)
    ]

    seen = {("mirror" in w.done, w.pixels.tobytes()) for w in windows}
    assert seen == parts
    assert 70 < sum("mirror" in w.done for w in windows) < 130


def test_classes_are_balanced_where_fakes_are_four_times_as_many(tmp_path):
    for label, count in (("0_real", 5), ("1_fake", 20)):
        (tmp_path / "train" / label).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (32, 32), (k, 0, 0)).save(tmp_path / f"train/{label}/{k}.png")
    found = load_images(tmp_path, find_images(tmp_path), PREP, workers=1, keeping=Keeping(tmp_path))

    plain = np.concatenate([b.targets for b in drawn(found)])
    balanced = np.concatenate(
        [b.targets for b in drawn(found, dataclasses.replace(PLAIN, balance="class"))]
    )

    assert plain.mean() == pytest.approx(0.8)
    assert abs(balanced.mean() - 0.5) < 0.03


def write_manifest(root, rows):
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")


def test_posteriors_and_platforms_come_from_the_manifest(picture_set, tmp_path):
    import shutil

    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    items = [i for i in find_images(root) if i.split is Split.TRAIN]
    write_manifest(
        root,
        [
            {"path": i.path, "platform": "reddit", "posterior": None if k == 0 else 0.25 + k / 100}
            for k, i in enumerate(items)
        ],
    )

    told = described(root, items)
    soft = dataclasses.replace(PLAIN, labels="posterior")

    assert {i.platform for i in told} == {"reddit"}
    assert targets_of(told, soft).tolist() == pytest.approx(
        [float(items[0].label), *(0.25 + k / 100 for k in range(1, len(items)))]
    )
    assert targets_of(told, PLAIN).tolist() == [float(i.label) for i in items]


@pytest.mark.parametrize("stated", [1.7, -0.1, float("nan"), float("inf"), "fake"])
def test_a_posterior_that_is_no_probability_is_refused_with_its_row(picture_set, tmp_path, stated):
    items = [i for i in find_images(picture_set) if i.split is Split.TRAIN]
    write_manifest(tmp_path, [{"path": items[3].path, "platform": "reddit", "posterior": stated}])

    with pytest.raises(InputError, match=r"expected a number from 0 to 1, or none") as caught:
        described(tmp_path, items)

    assert items[3].path in str(caught.value)
    assert repr(stated) in str(caught.value)


def test_platforms_that_no_one_names_are_not_balanced_in_silence(images):
    asked = dataclasses.replace(PLAIN, balance="class-platform")
    few = [i for i, item in enumerate(images.items) if not item.platform]
    bare = dataclasses.replace(
        images,
        items=tuple(images.items[k] for k in few),
        digests=tuple(images.digests[k] for k in few),
        pixels=images.pixels[few],
    )

    with pytest.raises(InputError, match=r"no image has a platform.*set train\.balance to 'class'"):
        epochs_of(bare, asked)
    assert len(epochs_of(images, asked).cells) == 6


def test_posteriors_that_no_one_states_are_refused():
    items = [Item("a.png", Split.TRAIN, "", Label.FAKE)]

    with pytest.raises(InputError, match=r"no image has one.*train\.labels to 'hard'"):
        targets_of(items, dataclasses.replace(PLAIN, labels="posterior"))


def test_a_damaged_manifest_is_refused_in_one_line(picture_set, tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(InputError, match=r"is not the manifest of a release") as caught:
        described(tmp_path, [])

    assert "\n" not in str(caught.value)


@pytest.fixture
def simulated(tmp_path):
    """A second root, of other pictures: three fakes and nothing else."""
    place = tmp_path / "simulated/train/1_fake"
    place.mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (32, 32), (k, 99, 0)).save(place / f"{k}.png")
    return tmp_path / "simulated"


def test_a_mixed_set_has_the_val_of_its_first_root_and_the_train_of_all(picture_set, simulated):
    chosen = find_sources([Source(picture_set), Source(simulated)])

    assert {i.source for i in chosen.val} == {0}
    assert [i.source for i in chosen.train].count(1) == 3
    assert len(chosen.train) == 27


def test_sources_share_an_epoch_by_their_weights(picture_set, simulated, tmp_path):
    sources = [Source(picture_set, 1.0), Source(simulated, 2.0)]
    items = find_sources(sources).train
    images = load_images(
        [picture_set, simulated], items, PREP, workers=2, keeping=Keeping(tmp_path)
    )
    marked = dataclasses.replace(
        epochs_of(images, PLAIN, sources),
        targets=np.array([i.source for i in items], dtype=np.float32),
    )

    shown = np.concatenate([b.targets for b in train_batches(marked, 0)])

    assert np.bincount(shown.astype(int)).tolist() == [9, 18]


def test_a_further_root_without_train_images_is_refused(picture_set, tmp_path):
    (tmp_path / "test/x/0_real").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "test/x/0_real/a.png")

    with pytest.raises(InputError, match="has no train folder with images"):
        find_sources([Source(picture_set), Source(tmp_path)])


def test_a_file_skipped_in_a_further_root_is_named_with_its_root(picture_set, simulated, tmp_path):
    (simulated / "train/1_fake/broken.png").write_bytes(b"x")
    items = find_sources([Source(picture_set), Source(simulated)]).train

    images = load_images(
        [picture_set, simulated], items, PREP, workers=2, keeping=Keeping(tmp_path)
    )

    assert [s.path for s in images.skipped] == ["simulated/train/1_fake/broken.png"]
