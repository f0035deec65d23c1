"""The cache of decoded pixels: found again, bounded, whole or not there at all, whoever else uses it."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import InputError
from train import data
from train.cache import ABANDONED_S, NAMELESS_S, CacheFiles, Keeping, Store
from train.data import find_images, load_files, load_images, read_files
from train.pixels import shapes_of
from train.transforms import Preprocessing

SMALL = Preprocessing(size=32, crop=24)
WHOLE = Preprocessing(size=32, crop=24, fit="whole")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


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
    content = bytearray(files.array.read_bytes())
    content[200] ^= 1
    files.array.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda f: f.array.write_bytes(f.array.read_bytes()[:-7]),
        lambda f: f.array.write_bytes(b""),
        lambda f: f.array.unlink(),
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
    gone = {files.array, files.index}
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
    assert sum(p.stat().st_size for p in (tmp_path / "b").glob(".*.npy")) <= 20_000
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


def sizes(folder):
    return {p.name.split(".")[1]: p.stat().st_size for p in folder.glob(".*.npy")}


def keys(folder):
    return {p.name.split(".")[1] for p in folder.glob(".*.json")}


def three_caches(root, folder):
    """Keys of three caches of one size, the one least recently used first."""
    for size in (32, 40, 48):
        load(root, keep(folder), Preprocessing(size=size, crop=24))
    indices = sorted(folder.glob(".*.json"), key=lambda p: p.stat().st_mtime_ns)
    for age, path in enumerate(indices):
        os.utime(path, (1000 + age, 1000 + age))
    return [path.name.split(".")[1] for path in indices]


def test_the_caches_used_least_recently_make_room_for_a_new_one(small_set, tmp_path):
    folder = tmp_path / "c"
    oldest, middle, newest = three_caches(small_set, folder)
    known = sizes(folder)
    bound = (known[middle] + known[newest] + known[oldest]) * 32 / 31 + 1

    load(small_set, keep(folder, disk=int(bound)), Preprocessing(size=30, crop=24))

    assert oldest not in keys(folder)
    assert {middle, newest} < keys(folder)
    assert sum(sizes(folder).values()) <= bound


def test_what_a_run_uses_itself_makes_no_room_for_the_rest_of_it(small_set, picture_set, tmp_path):
    """Train and val in a folder that cannot hold both: neither is written anew in each run."""
    sets = [
        read_files(root, find_images(root), SMALL, workers=2) for root in (small_set, picture_set)
    ]
    mine = frozenset(files.key for files in sets)
    stamps = []
    for _ in range(2):
        for files in sets:
            keeping = keep(tmp_path / "c", disk=100_000, keys=mine)
            load_files(files, workers=2, keeping=keeping, on_image=lambda _: None)
        stamps.append({p: p.stat().st_mtime_ns for p in (tmp_path / "c").glob(".*.npy")})

    assert stamps[0] == stamps[1]
    assert len(stamps[0]) == 2
    assert sum(sizes(tmp_path / "c").values()) <= 100_000


def left_by(folder, host, pid, age_s):
    """A file that a process of `host` has been writing, untouched for so many seconds."""
    path = folder / f".0123456789abcdef.pixels.{host}.{pid}.0a1b2c3d.part"
    path.write_bytes(b"half")
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_only_what_surely_nobody_writes_any_more_is_swept(small_set, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    here = CacheFiles(folder, "k").part().name.split(".")[3]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = left_by(folder, here, gone.pid, 0)
    alive = left_by(folder, here, os.getppid(), 10 * ABANDONED_S)
    far = left_by(folder, "node7", gone.pid, ABANDONED_S / 2)
    silent = left_by(folder, "node8", 1, 2 * ABANDONED_S)
    fresh, nameless = (folder / f".{k:016x}.pixels.npy" for k in (1, 2))
    for path in (fresh, nameless):
        path.write_bytes(b"no index")
    os.utime(nameless, (time.time() - 2 * NAMELESS_S,) * 2)

    load(small_set, keep(folder))

    assert [p.exists() for p in (dead, alive, far, silent, fresh, nameless)] == [
        False, True, True, False, True, False
    ]  # fmt: skip


def test_what_others_are_writing_counts_against_the_bound(small_set, tmp_path):
    (tmp_path / "c").mkdir()
    part = left_by(tmp_path / "c", "node7", 1, 0)
    part.write_bytes(bytes(15_000))

    bounded = load(small_set, keep(tmp_path / "c", disk=31_000))

    assert 0 < bounded.pixels.stored < len(bounded.items)
    assert sum(sizes(tmp_path / "c").values()) + 15_000 <= 31_000


def changing(root, path, change):
    """Files of `root`, read; `path` changes when the first of them is decoded."""
    files = read_files(root, find_images(root), SMALL, workers=1)
    content = path.read_bytes()
    done = []

    def on_image(_):
        if not done:
            change(path)
        done.append(1)

    return files, content, on_image


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: Image.new("RGB", (9, 9)).save(p), "changed while"),
        (lambda p: p.write_bytes(b"no picture"), "does not decode"),
    ],
)
def test_what_fails_once_is_tried_again_by_the_next_run(picture_set, tmp_path, change, reason):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    last = root / find_images(root)[-1].path
    files, content, on_image = changing(root, last, change)

    first = load_files(files, workers=1, keeping=keep(tmp_path / "c"), on_image=on_image)
    last.write_bytes(content)
    again = load(root, keep(tmp_path / "c"))

    (skipped,) = first.skipped
    assert reason in skipped.reason
    assert not again.skipped
    assert len(again.items) == len(first.items) + 1
    assert same(again, load(root, Keeping(tmp_path)))


def test_a_folder_that_cannot_be_written_costs_speed_and_not_pixels(small_set, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")

    found = load(small_set, keep(tmp_path / "file/cache", memory=4000))

    assert same(found, load(small_set, Keeping(tmp_path)))
    assert 0 < found.pixels.stored < len(found.items)
    assert "cannot be written" in caplog.text


@contextmanager
def as_nobody():
    """Without the rights of root, who may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_shared_cache_that_may_only_be_read_is_used(small_set, monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        root, folder = Path(name) / "set", Path(name) / "c"
        shutil.copytree(small_set, root)
        first = load(root, keep(folder))
        for path in (Path(name), folder):
            path.chmod(0o555)
        no_decoding(monkeypatch)
        with as_nobody():
            again = load(root, keep(folder))
        for path in (Path(name), folder):
            path.chmod(0o755)

        assert same(first, again)


MEMORY = """
import resource, sys
from pathlib import Path
from train.data import decode
from train.transforms import Preprocessing
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20), resource.RLIM_INFINITY))
try:
    print(decode(Path(sys.argv[1]), Preprocessing(size=32, crop=24)))
except MemoryError:
    print("out of memory")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's count of memory")
def test_too_little_memory_says_nothing_of_a_picture(tmp_path):
    Image.new("1", (6000, 6000)).save(tmp_path / "large.png")

    said = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "large.png")],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip

    assert said.stdout == "out of memory\n"


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
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(picture_set), str(tmp_path)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
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
