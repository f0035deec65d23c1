"""Folders to batches: layouts, skips, carving, determinism."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from schemas.errors import InputError
from schemas.labels import Label, Split
from train.data import (
    Keeping,
    decode,
    decode_all,
    find_images,
    load_images,
    walk_files,
)
from train.transforms import Preprocessing, to_pixels
from train.validation import choose_train_val

SMALL = Preprocessing(size=32, crop=24)


def save(path, colour=(10, 20, 30), size=(16, 16), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def load(root, tmp_path, **options):
    items = find_images(root)
    keeping = Keeping(tmp_path / "cache", **options)
    return load_images(root, items, SMALL, workers=2, keeping=keeping)


def test_nested_classes_and_genimage_leaves_are_found(tmp_path):
    save(tmp_path / "train/car/0_real/a.png")
    save(tmp_path / "train/cat/1_fake/a.png")
    save(tmp_path / "test/midjourney/ai/b.jpg")
    save(tmp_path / "elsewhere/c.png")
    (tmp_path / "train/car/0_real/Thumbs.db").write_bytes(b"x")

    items = find_images(tmp_path)

    assert [(i.path, i.split, i.platform, i.label) for i in items] == [
        ("test/midjourney/ai/b.jpg", Split.TEST, "midjourney", Label.FAKE),
        ("train/car/0_real/a.png", Split.TRAIN, "car", Label.REAL),
        ("train/cat/1_fake/a.png", Split.TRAIN, "cat", Label.FAKE),
    ]


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    save(tmp_path / "far/a.png")
    (tmp_path / "set/train").mkdir(parents=True)
    (tmp_path / "set/train/0_real").symlink_to(tmp_path / "far")
    (tmp_path / "far/loop").symlink_to(tmp_path / "far")

    assert [str(p) for p in walk_files(tmp_path / "set")] == ["train/0_real/a.png"]


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("")])
def test_no_folder_an_empty_one_and_a_file_are_refused_in_one_line(tmp_path, make):
    make(tmp_path / "set")

    with pytest.raises(InputError, match="expected") as caught:
        find_images(tmp_path / "set")

    assert "\n" not in str(caught.value)


def test_missing_train_and_missing_class_are_refused(tmp_path):
    save(tmp_path / "test/x/0_real/a.png")
    with pytest.raises(InputError, match="no train folder"):
        choose_train_val(tmp_path, find_images(tmp_path))

    save(tmp_path / "train/0_real/a.png")
    with pytest.raises(InputError, match="no usable image in train/1_fake"):
        choose_train_val(tmp_path, find_images(tmp_path))


def test_missing_val_is_carved_by_file_name_and_said(tmp_path):
    for k in range(30):
        save(tmp_path / f"train/0_real/{k}.png", (k, 0, 0))
        save(tmp_path / f"train/1_fake/{k}.png", (k, 1, 0))

    chosen = choose_train_val(tmp_path, find_images(tmp_path))
    again = choose_train_val(tmp_path, find_images(tmp_path)[::-1])

    assert "10% of train" in chosen.val_source
    assert [i.label for i in chosen.val].count(Label.FAKE) == 3
    assert len(chosen.train) + len(chosen.val) == 60
    assert not set(chosen.train) & set(chosen.val)
    assert set(chosen.val) == set(again.val)


def bomb():
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def test_corrupt_truncated_empty_and_bomb_files_are_skips_with_reasons(tmp_path):
    root = tmp_path / "set/train/0_real"
    save(root / "good.png", size=(40, 40))
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, size=(200, 200, 3), dtype=np.uint8))
    noise.save(root / "cut.jpg")
    (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:9000])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("<html>gone</html>")
    (root / "bomb.png").write_bytes(bomb())
    (root / "away.png").symlink_to(tmp_path / "nowhere")

    found = load(tmp_path / "set", tmp_path)

    reasons = {s.path.rsplit("/", 1)[-1]: s.reason for s in found.skipped}
    assert [i.path for i in found.items] == ["train/0_real/good.png"]
    assert found.pixels.shape == (1, 32, 32, 3)
    assert set(reasons) == {"cut.jpg", "empty.jpg", "text.jpg", "bomb.png", "away.png"}
    assert "truncated" in reasons["cut.jpg"]
    assert "does not decode" in reasons["text.jpg"]
    assert "0x" not in " ".join(reasons.values())
    assert "cannot be read" in reasons["away.png"]


def test_real_damaged_files_never_raise_or_warn(shared):
    files = sorted((shared / "data/edge-cases/corrupt-jpeg").rglob("*.jp*g"))
    if not files:
        pytest.skip("needs the damaged JPEGs in ../shared")

    found = list(decode_all(files, SMALL, workers=2))

    assert len(found) == len(files)
    assert all((one.pixels is None) == (one.error is not None) for one in found)
    assert any(one.error for one in found)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise: left becomes top
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)

    seen = decode(tmp_path / "turned.png", SMALL).pixels
    stored = decode(tmp_path / "turned.png", Preprocessing(size=32, orientation=False)).pixels

    assert seen[2].min() == 255
    assert seen[-2].max() == 0
    assert stored[:, 2].min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_any_mode_becomes_rgb(mode):
    assert to_pixels(Image.new(mode, (20, 10)), SMALL).shape == (32, 32, 3)


def test_sixteen_bit_grey_keeps_its_shades():
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)

    seen = to_pixels(Image.fromarray(ramp), SMALL)

    np.testing.assert_array_equal(seen[..., 0], ramp >> 8)


def test_stretch_squashes_and_crop_keeps_the_aspect_ratio():
    pixels = np.zeros((32, 96, 3), dtype=np.uint8)
    pixels[:, 32:64] = 255
    wide = Image.fromarray(pixels)

    stretched = to_pixels(wide, SMALL)
    cropped = to_pixels(wide, Preprocessing(size=32, fit="crop"))

    assert stretched[:, 0].max() == 0
    assert cropped.min() == 255


def test_resizing_is_pillows_antialiased_bilinear():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, size=(90, 70, 3), dtype=np.uint8))

    want = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))

    np.testing.assert_array_equal(to_pixels(image, SMALL), want)


def test_workers_do_not_change_the_order(picture_set, tmp_path):
    items, keeping = find_images(picture_set), Keeping(tmp_path)

    one = load_images(picture_set, items, SMALL, workers=1, keeping=keeping)
    many = load_images(picture_set, items, SMALL, workers=8, keeping=keeping)

    assert one.digests == many.digests
    np.testing.assert_array_equal(one.pixels, many.pixels)


def test_a_small_file_that_would_be_enlarged_without_bound_is_a_skip_with_a_reason(tmp_path):
    """Seen whole, one row of 65,500 pixels would become 256 rows of 16.8 million: 13 GB."""
    root = tmp_path / "set/train/0_real"
    save(root / "good.png", size=(300, 280))
    save(root / "row.png", size=(65_500, 1))
    save(root / "column.png", size=(1, 65_500))
    whole = Preprocessing(size=256, fit="whole")

    tracemalloc.start()
    found = load_images(
        tmp_path / "set", find_images(tmp_path / "set"), whole, workers=1, keeping=Keeping(tmp_path)
    )
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    reasons = {s.path.rsplit("/", 1)[-1]: s.reason for s in found.skipped}
    assert [i.path for i in found.items] == ["train/0_real/good.png"]
    assert "enlarged to 16768000 x 256 pixels, over the limit" in reasons["row.png"]
    assert "enlarged to 256 x 16768000 pixels, over the limit" in reasons["column.png"]
    assert most < 50e6
    assert decode(root / "row.png", SMALL).pixels is not None
