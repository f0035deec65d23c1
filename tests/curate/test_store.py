"""Bytes by digest: absent or complete, never rewritten, checked when read."""

import hashlib
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from curate.store import MACHINE, MediaStore
from schemas.errors import DigestMismatch, StoreError


@pytest.fixture
def store(tmp_path):
    return MediaStore.at("media", tmp_path)


def files(store: MediaStore) -> list[str]:
    return [os.path.join(d, f) for d, _, names in os.walk(store.root) for f in names]


def test_bytes_come_back_as_they_went_in(store):
    digest = store.put(b"pixels")

    assert store.get(digest) == b"pixels"
    assert digest == hashlib.sha256(b"pixels").hexdigest()
    assert store.path(digest).endswith(f"media/{digest[:2]}/{digest[2:4]}/{digest}")


def test_same_bytes_are_kept_once_and_written_once(store):
    digest = store.put(b"pixels")
    before = os.stat(store.path(digest))

    assert store.put(b"pixels") == digest

    assert len(files(store)) == 1
    assert os.stat(store.path(digest)).st_mtime_ns == before.st_mtime_ns


def test_damage_on_disk_is_reported_not_returned(store):
    digest = store.put(b"pixels")
    store.local_path(digest).write_bytes(b"pixelz")

    with pytest.raises(DigestMismatch, match="run `wildrf fetch` again"):
        store.get(digest)


def test_what_is_not_there_is_told_in_one_line(store):
    with pytest.raises(StoreError, match="is not in the store"):
        store.get("0" * 64)
    assert not store.has("0" * 64)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_a_digest_names_a_place(store, name):
    with pytest.raises(StoreError, match="expected 64 hexadecimal digits"):
        store.path(name)


def test_a_write_that_was_killed_leaves_nothing_that_looks_stored(store):
    store.put(b"whole")
    half = os.path.join(store.root, ".incoming", "0" * 64 + "-1-aa")
    with open(half, "wb") as file:
        file.write(b"ha")

    assert list(store.digests()) == [hashlib.sha256(b"whole").hexdigest()]


def test_any_pyarrow_filesystem_can_hold_media():
    memory = fs._MockFileSystem()
    store = MediaStore(memory, "bucket/media")
    memory.create_dir("bucket")

    digest = store.put(b"pixels")

    assert store.get(digest) == b"pixels"
    assert store.local_path(digest) is None


def test_a_uri_that_names_no_filesystem_is_told(tmp_path):
    with pytest.raises(StoreError, match="expected a folder or a URI"):
        MediaStore.at("nosuch://bucket/media", tmp_path)


def test_a_file_uri_is_a_folder(tmp_path):
    store = MediaStore.at(f"file://{tmp_path}/elsewhere", tmp_path)

    digest = store.put(b"pixels")

    assert (tmp_path / "elsewhere" / digest[:2]).is_dir()


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_the_store_holds_exactly_what_was_put(tmp_path_factory, contents):
    store = MediaStore.at("media", tmp_path_factory.mktemp("store"))

    put = {store.put(data) for data in contents}

    assert set(store.digests()) == put == {hashlib.sha256(d).hexdigest() for d in contents}


def test_what_a_killed_process_of_this_machine_left_half_written_goes_at_once(tmp_path):
    program = """
import os, signal, sys
from pathlib import Path
from curate import store

os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.MediaStore.at("media", Path(sys.argv[1])).put(b"half")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    folder = tmp_path / "media" / ".incoming"
    ours = folder / f"{'0' * 64}-{MACHINE}-{os.getpid()}-aa-0"
    ours.write_bytes(b"being written")

    assert done.returncode == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 2
    assert MediaStore.at("media", tmp_path).tidy(datetime.now(UTC)) == 1
    assert list(folder.iterdir()) == [ours]
