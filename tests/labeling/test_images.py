"""Images on the way to a browser: same bytes, neutral names, nothing outside the shared folder."""

import os
import shutil

import pytest

from labeling.images import file_name, local_file_url, place, shared_folder, web_url
from schemas.errors import ServiceError, StoreError

DIGEST = "ab" * 32


def never() -> bytes:
    raise AssertionError("read though a file was given")


def test_a_name_is_the_digest_and_the_suffix_of_the_true_format():
    assert file_name(DIGEST, "JPEG") == DIGEST + ".jpg"
    assert file_name(DIGEST, None) == DIGEST


def test_addresses_are_percent_encoded_and_follow_the_layout_of_the_store():
    assert local_file_url("a b ü#1", "x.jpg") == "/data/local-files/?d=a%20b%20%C3%BC%231/x.jpg"
    assert web_url("https://img.example.org/m/", DIGEST).endswith(f"org/m/ab/ab/{DIGEST}")


def test_an_image_on_the_same_disk_is_linked_not_copied(tmp_path):
    original = tmp_path / "original"
    original.write_bytes(b"picture")
    folder = shared_folder(tmp_path, "shown")

    assert place("x.jpg", folder, file=original, read=never)
    assert not place("x.jpg", folder, file=original, read=never)

    assert os.path.samefile(folder / "x.jpg", original)
    assert [p.name for p in folder.iterdir()] == ["x.jpg"]


def test_an_image_is_copied_where_links_are_not_allowed(tmp_path, monkeypatch):
    original = tmp_path / "original"
    original.write_bytes(b"picture")
    folder = shared_folder(tmp_path, "shown")

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    place("x.jpg", folder, file=original, read=never)

    assert (folder / "x.jpg").read_bytes() == b"picture"
    assert not os.path.samefile(folder / "x.jpg", original)


def test_an_image_in_a_store_elsewhere_is_written_from_its_bytes(tmp_path):
    folder = shared_folder(tmp_path, "shown")

    place("x.jpg", folder, file=None, read=lambda: b"picture")

    assert (folder / "x.jpg").read_bytes() == b"picture"


def test_a_copy_that_breaks_off_leaves_no_half_file(tmp_path, monkeypatch):
    folder = shared_folder(tmp_path, "shown")

    def break_off(_, target):
        target.write_bytes(b"pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", break_off)
    monkeypatch.setattr(shutil, "copyfile", break_off)
    with pytest.raises(StoreError, match="No space left"):
        place("x.jpg", folder, file=tmp_path / "original", read=never)

    assert list(folder.iterdir()) == []


def test_a_failed_read_leaves_no_half_file(tmp_path):
    folder = shared_folder(tmp_path, "shown")

    with pytest.raises(AssertionError):
        place("x.jpg", folder, file=None, read=never)
    with pytest.raises(StoreError, match="No such file"):
        place("x.jpg", folder, file=tmp_path / "none", read=never)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", [".", "", "../other", "/elsewhere"])
def test_a_folder_that_is_not_below_the_document_root_is_refused(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()

    with pytest.raises(ServiceError, match="not below the document root"):
        shared_folder(root, name)

    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_a_document_root_that_is_not_there_is_told_with_the_variable_to_look_at(tmp_path):
    with pytest.raises(ServiceError, match="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"):
        shared_folder(tmp_path / "none", "shown")
