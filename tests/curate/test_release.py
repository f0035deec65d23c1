"""What is released is whole, byte for byte, and can be checked without us."""

import hashlib
import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import disable_progress_bars, load_dataset
from PIL import Image

from curate.release import inside, materialise, root_of
from curate.store import MediaStore
from schemas.errors import DigestMismatch, InputError


@pytest.fixture
def store(tmp_path):
    return MediaStore.at("media", tmp_path)


@pytest.fixture
def manifest(store, tmp_path):
    """Eight small images, two of each label in train and in one test platform."""
    rows = []
    for n in range(8):
        file = tmp_path / f"{n}.png"
        Image.new("RGB", (16, 16), (n * 30, 0, 0)).save(file)
        digest = store.put(file.read_bytes())
        split, label = ("train", "test")[n % 2], n // 2 % 2
        middle = "reddit/" if split == "test" else ""
        leaf = ("0_real", "1_fake")[label]
        path = f"{split}/{middle}{leaf}/{digest[:24]}.png"
        rows.append(
            {"path": path, "digest": digest, "split": split, "platform": "reddit", "label": label}
        )
    return pa.Table.from_pylist(rows)


def test_every_image_is_there_byte_for_byte_and_listed(manifest, store, tmp_path):
    made = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    listed = pq.read_table(made.path / "manifest.parquet").to_pylist()
    assert made.images == len(listed) == 8
    for row in listed:
        assert (made.path / row["path"]).read_bytes() == store.get(row["digest"])
    described = json.loads((made.path / "release.json").read_text())
    assert described["root_hash"] == made.root_hash == root_of(manifest.to_pylist())


def test_it_can_be_verified_without_this_program(manifest, store, tmp_path):
    made = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made.path, capture_output=True
    )

    assert done.returncode == 0
    assert hashlib.sha256((made.path / "SHA256SUMS").read_bytes()).hexdigest() == made.root_hash


def test_it_loads_with_hugging_face_datasets_and_the_bytes_are_untouched(manifest, store, tmp_path):
    made = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})
    disable_progress_bars()

    found = load_dataset(
        "imagefolder", data_dir=str(made.path / "train"), cache_dir=str(tmp_path / "cache")
    )["train"]

    assert found.features["label"].names == ["0_real", "1_fake"]
    assert sorted(found["label"]) == [0, 0, 1, 1]
    raw = found.with_format("arrow")[:]["image"].to_pylist()
    read = {hashlib.sha256(_bytes(cell)).hexdigest() for cell in raw}
    assert read == {r["digest"] for r in manifest.to_pylist() if r["split"] == "train"}


def _bytes(cell):
    if cell["bytes"] is not None:
        return cell["bytes"]
    with open(cell["path"], "rb") as file:
        return file.read()


def test_releasing_again_changes_nothing(manifest, store, tmp_path):
    first = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})
    stamp = (first.path / "manifest.parquet").stat().st_mtime_ns

    again = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    assert again == first
    assert (first.path / "manifest.parquet").stat().st_mtime_ns == stamp


def test_the_same_manifest_gives_the_same_bytes(manifest, store, tmp_path):
    one = materialise(manifest, store, tmp_path / "a", {"name": "v"})
    other = materialise(manifest, store, tmp_path / "b", {"name": "v"})

    for name in ("manifest.parquet", "release.json", "README.md", "SHA256SUMS"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()


def test_damaged_media_leaves_no_release_behind(manifest, store, tmp_path):
    digest = manifest["digest"][3].as_py()
    store.local_path(digest).write_bytes(b"damaged")

    with pytest.raises(DigestMismatch):
        materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    assert not (tmp_path / "v1").exists()


def test_a_release_that_was_killed_half_way_is_made_whole(manifest, store, tmp_path):
    half = tmp_path / ".v1.part" / "train"
    half.mkdir(parents=True)
    (half / "rubbish.jpg").write_bytes(b"x")

    made = materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    assert not list(made.path.rglob("rubbish.jpg"))
    assert not (tmp_path / ".v1.part").exists()


def test_a_folder_that_holds_something_else_is_left_alone(manifest, store, tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "mine.txt").write_text("keep")

    with pytest.raises(InputError, match="already holds something else"):
        materialise(manifest, store, tmp_path / "v1", {"name": "v1"})

    assert (tmp_path / "v1" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_no_manifest_writes_outside_the_release(path):
    with pytest.raises(InputError, match="leaves the release"):
        inside(path)
