"""The cache of decoded pixels: found again, bounded, whole or not there at all."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import InputError
from train import data
from train.data import Keeping, find_images, load_images
from train.pixels import CacheFiles, Store, make_room, shapes_of
from train.transforms import Preprocessing

SMALL = Preprocessing(size=32, crop=24)
WHOLE = Preprocessing(size=32, crop=24, fit="whole")


def keep(folder, **options):
    """Everything on disk, however fast it was decoded."""
    return Keeping(folder, **{"memory": 0, "pays_s": 0.0, **options})


def load(root, keeping, prep=SMALL, workers=2):
    return load_images(root, find_images(root), prep, workers=workers, keeping=keeping)


def no_decoding(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded although it is in the cache")

    monkeypatch.setattr(data, "decode_all", refuse)


def same(a, b):
    return (
        a.items == b.items
        and a.digests == b.digests
        and a.skipped == b.skipped
        and all((a.pixels[k] == b.pixels[k]).all() for k in range(len(a.items)))
    )


@pytest.fixture
def small_set(tmp_path):
    """Pictures of different sizes, and one that does not decode."""
    rng = np.random.default_rng(0)
    for label in ("0_real", "1_fake"):
        (tmp_path / "set/train" / label).mkdir(parents=True)
        for k, size in enumerate([(40, 60), (60, 40), (33, 90), (20, 20)]):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"set/train/{label}/{k}.png")
    (tmp_path / "set/train/0_real/broken.png").write_bytes(b"no picture")
    return tmp_path / "set"


@pytest.mark.parametrize("prep", [SMALL, WHOLE])
def test_what_was_decoded_once_is_found_again(small_set, tmp_path, monkeypatch, prep):
    first = load(small_set, keep(tmp_path / "cache"), prep)
    no_decoding(monkeypatch)
    again = load(small_set, keep(tmp_path / "cache"), prep)

    assert same(first, again)
    assert [s.path for s in again.skipped] == ["train/0_real/broken.png"]


def test_pixels_on_disk_are_those_in_memory(small_set, tmp_path):
    for prep in (SMALL, WHOLE):
        memory = load(small_set, Keeping(tmp_path / "none"), prep)
        assert same(memory, load(small_set, keep(tmp_path / "cache"), prep))
    assert not (tmp_path / "none").exists()


def test_images_of_one_size_are_one_mapped_array(picture_set, tmp_path):
    found = load(picture_set, keep(tmp_path))

    assert isinstance(found.pixels, np.memmap)
    assert found.pixels.shape == (len(found.items), 32, 32, 3)
    (path,) = tmp_path.glob(".*.npy")
    assert np.load(path, allow_pickle=False).size == found.pixels.size


def test_other_bytes_or_other_preprocessing_are_another_cache(picture_set, small_set, tmp_path):
    load(small_set, keep(tmp_path / "c"))
    load(small_set, keep(tmp_path / "c"), Preprocessing(size=40, crop=24))
    (small_set / "train/0_real/broken.png").unlink()
    load(small_set, keep(tmp_path / "c"))

    assert len(list((tmp_path / "c").glob(".*.pixels.json"))) == 3


def test_a_crop_or_a_representation_does_not_need_another_cache(small_set, tmp_path, monkeypatch):
    load(small_set, keep(tmp_path / "c"))
    no_decoding(monkeypatch)

    load(small_set, keep(tmp_path / "c"), Preprocessing(size=32, crop=16, representation="raw"))


def flip_a_byte(files):
    content = bytearray(files.pixels.read_bytes())
    content[200] ^= 1
    files.pixels.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda f: f.pixels.write_bytes(f.pixels.read_bytes()[:-7]),
        lambda f: f.pixels.write_bytes(b""),
        lambda f: f.pixels.unlink(),
        lambda f: f.index.write_text("{"),
        lambda f: f.index.write_text("[]"),
        lambda f: f.index.write_text(f.index.read_text().replace("wildrf-pixels", "x")),
        lambda f: f.index.unlink(),
    ],
)
def test_a_damaged_cache_is_made_again_and_that_is_said(small_set, tmp_path, caplog, damage):
    first = load(small_set, Keeping(tmp_path))  # in memory: a map of a file cut short would end us
    load(small_set, keep(tmp_path / "c"))
    (index,) = (tmp_path / "c").glob(".*.json")
    files = CacheFiles(tmp_path / "c", index.name.split(".")[1])
    gone = {files.pixels, files.index}
    damage(files)
    was_there = all(path.exists() for path in gone)

    with caplog.at_level(logging.WARNING):
        again = load(small_set, keep(tmp_path / "c"))

    assert same(first, again)
    told = [r.getMessage() for r in caplog.records if "made again" in r.getMessage()]
    assert len(told) == was_there  # what is only missing is simply made
    assert all("\n" not in line for line in told)


def test_what_does_not_fit_is_decoded_each_time_and_the_same(small_set, tmp_path, caplog):
    whole = load(small_set, keep(tmp_path / "a"), WHOLE)

    bounded = load(small_set, keep(tmp_path / "b", disk=20_000), WHOLE)

    assert isinstance(bounded.pixels, Store)
    assert 0 < bounded.pixels.stored < len(bounded.items)
    assert sum(p.stat().st_size for p in (tmp_path / "b").glob(".*.npy")) <= 20_000 + 128
    assert same(whole, bounded)
    assert shapes_of(whole.pixels) == shapes_of(bounded.pixels)
    assert caplog.text.count("decoded each time") == 1


def test_nothing_on_disk_is_possible(small_set, tmp_path):
    nothing = load(small_set, keep(tmp_path / "c", disk=0))

    assert same(nothing, load(small_set, Keeping(tmp_path)))


def test_a_file_that_changes_during_training_is_refused(small_set, tmp_path):
    images = load(small_set, keep(tmp_path / "c", disk=0))
    Image.new("RGB", (40, 60)).save(small_set / images.items[0].path)

    with pytest.raises(InputError, match=r"changed during training.*restore"):
        images.pixels[0]


def test_the_caches_used_least_recently_go_first(small_set, tmp_path):
    folder = tmp_path / "c"
    for size in (32, 40, 48):
        load(small_set, keep(folder), Preprocessing(size=size, crop=24))
    indices = sorted(folder.glob(".*.json"), key=lambda p: p.stat().st_mtime_ns)
    for age, path in enumerate(indices):
        os.utime(path, (1000 + age, 1000 + age))
    newest = CacheFiles(folder, indices[-1].name.split(".")[1])

    make_room(folder, newest.pixels.stat().st_size, keep=newest)

    assert [p.name for p in folder.glob(".*.json")] == [newest.index.name]
    assert [p.name for p in folder.glob(".*.npy")] == [newest.pixels.name]


@pytest.mark.parametrize("size", [1000, 12_000, 17_000])
def test_a_disk_that_is_full_costs_speed_and_not_pixels(
    small_set, tmp_path, caplog, full_disk, size
):
    with full_disk(size), caplog.at_level(logging.WARNING):
        full = load(small_set, keep(tmp_path / "c"), WHOLE)

    assert same(full, load(small_set, Keeping(tmp_path), WHOLE))
    assert "no room on the disk" in caplog.text
    assert full.pixels.stored < len(full.items)


KILLED = """
import sys, time
from pathlib import Path
from train import data
from train.transforms import Preprocessing
decode = data.decode
def slow(path, prep):
    time.sleep(0.02)
    return decode(path, prep)
data.decode = slow
root = Path(sys.argv[1])
print("ready", flush=True)
data.load_images(root, data.find_images(root), Preprocessing(size=32, crop=24), workers=1,
                 keeping=data.Keeping(Path(sys.argv[2]), memory=0))
"""


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6])
def test_a_kill_leaves_no_cache_that_is_not_whole(picture_set, tmp_path, monkeypatch, after_s):
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(picture_set), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after_s)
    process.kill()
    process.wait()
    process.stdout.close()

    again = load(picture_set, keep(tmp_path))

    assert same(again, load(picture_set, Keeping(tmp_path)))
    assert len(list(tmp_path.iterdir())) == 2  # what the dead process left is gone
    index = json.loads(next(tmp_path.glob(".*.json")).read_text())
    assert len(index["images"]) == len(again.items)
