"""Thumbnails that wait in a file."""

import os
import random

import pytest

from curate.spool import SIZE, Spool
from schemas.errors import StoreError
from schemas.records import Thumbnail


def thumbnail(digest: str, view: str = "whole", shade: int = 0, left: float = 0.0) -> Thumbnail:
    return Thumbnail(digest, view, left, 0.1, 0.75, 1.0, bytes([shade]) * SIZE, "probe/9")


def test_what_was_laid_down_is_read_as_it_was_image_by_image(tmp_path):
    rows = [
        thumbnail(f"{n:064x}", view, n + 100 * (view == "box"), 0.01 * n)
        for n in range(100)
        for view in ("box", "whole")[n % 2 :]
    ]
    random.Random(0).shuffle(rows)
    spool = Spool(tmp_path, rows)

    asked = [f"{n:064x}" for n in (7, 99, 0, 7, 40)]

    assert list(spool.read(asked)) == [
        row
        for digest in asked
        for row in sorted(rows, key=lambda row: row.view)
        if row.digest == digest
    ]


def test_an_image_without_thumbnails_has_none(tmp_path):
    assert list(Spool(tmp_path, []).read(["a" * 64])) == []
    assert list(Spool(tmp_path, [thumbnail("b" * 64)]).read(["a" * 64, "c" * 70])) == []


def test_of_two_with_one_image_and_one_view_the_later_counts(tmp_path):
    spool = Spool(tmp_path, [thumbnail("a", shade=1), thumbnail("b"), thumbnail("a", shade=2)])

    assert list(spool.read(["a"])) == [thumbnail("a", shade=2)]


def test_nothing_is_left_in_the_folder(tmp_path):
    spool = Spool(tmp_path, [thumbnail("a")])

    assert os.listdir(tmp_path) == []
    assert len(list(spool.read(["a"]))) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_is_full_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "w+b"))  # noqa: SIM115

    with pytest.raises(StoreError, match=r"cannot be laid down .*No space left.*make room"):
        Spool(tmp_path, [thumbnail("a")])


def test_a_folder_that_cannot_be_written_is_not_needed(tmp_path):
    spool = Spool(tmp_path / "gone", [thumbnail("a", shade=3)])

    assert list(spool.read(["a"])) == [thumbnail("a", shade=3)]
