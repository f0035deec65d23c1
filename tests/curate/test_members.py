"""Pictures inside exports are found by name and by id; what is not certain is not taken."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from curate.members import Library
from curate.privacy import hidden_member
from schemas.records import Media

SECRET = b"k" * 32


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (seed % 256, 7, 9)).save(buffer, "JPEG")
    return buffer.getvalue()


def hide(name: str) -> str:
    return hidden_member(SECRET, name)


NAMES = (
    "data/tweets_media/77-A.jpg",
    "data/tweets_media/78-odd.jpg",
    "data/tweets_media/79-a.jpg",
    "data/tweets_media/79-b.jpg",
    "data/tweets_media/79-c-x1y2z3w4.jpg",
    "data/tweets_media/800-a.jpg",
    "other/media/1234567_42.jpg",
    "other/IMG_0001.jpg",
    "albums/rome/IMG_0002.jpg",
    "albums/oslo/IMG_0002.jpg",
    "mail/from-jane-doe/55.jpg",
    "mail/from-jane-doe/pic_9988776655.jpg",
    "twice/0a1b2c3d4e.jpg",
    "again/0a1b2c3d4e.jpg",
    "top/AbCd_efGH-1.jpg",
    "top/xAbCd_efGH-2.jpg",
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(NAMES):
            file.writestr(name, jpeg(number))
        file.writestr("data/text.jpg", b"no picture")
        file.writestr("data/empty.jpg", b"")
        file.writestr("data/half.jpg", jpeg(5)[:200])
    return path


def library(*paths: Path, limit: int = 10_000) -> Library:
    return Library({"s": paths}, limit, hide)


def item(member: str, post_id: str = "1", media_id: str | None = None) -> Media:
    return Media("x", post_id, 0, "s", media_id=media_id, member=member)


@pytest.mark.parametrize(
    ("media", "found"),
    [
        (item("data/tweets_media/77-A.jpg", "77"), "data/tweets_media/77-A.jpg"),
        (item("data/tweets_media/78-B.jpg", "78"), "data/tweets_media/78-odd.jpg"),
        (item("data/tweets_media/80-B.jpg", "80"), None),  # 800 is another post
        (item("data/tweets_media/79-z.jpg", "79", "x1y2z3w4"), "79-c-x1y2z3w4"),
        (item("x/media/1234567_42.jpg"), "1234567_42.jpg"),
        (item("x/other/IMG_0001.jpg"), "IMG_0001.jpg"),
        (item("albums/paris/IMG_0001.jpg"), None),  # cameras give the same names again
        (item("x/rome/IMG_0002.jpg"), "rome"),
        (item("gone/a.jpg", media_id="AbCd_efGH"), "top/AbCd_efGH-1.jpg"),
        (item("gone/a.jpg", media_id="AbCd"), None),  # too short to tell
        (item("data/half.jpg"), "data/half.jpg"),
    ],
)
def test_members_are_found_by_name_and_then_by_what_names_are_made_of(archive, media, found):
    got = library(archive).read(media)

    if found is None:
        assert got.failure in ("member-missing", "member-ambiguous")
    else:
        names = [n for n in (*NAMES, "data/half.jpg") if found in n]
        assert got.failure is None
        assert got.data == zipfile.ZipFile(archive).read(names[0])


@pytest.mark.parametrize(
    ("media", "cause"),
    [
        (item("data/tweets_media/79-z.jpg", "79"), "member-ambiguous"),
        (item("lost/0a1b2c3d4e.jpg"), "member-ambiguous"),
        (item("data/none.jpg"), "member-missing"),
        (item("hidden/" + "0" * 24 + ".jpg"), "member-missing"),
        (item("data/text.jpg"), "not-an-image"),
        (item("data/empty.jpg"), "empty"),
    ],
)
def test_what_cannot_be_had_for_certain_gives_a_cause(archive, media, cause):
    got = library(archive).read(media)

    assert (got.data, got.failure, got.url) == (None, cause, media.member)


def test_a_member_that_is_too_large_is_not_taken(archive):
    assert library(archive, limit=50).read(item("other/IMG_0001.jpg")).failure == "too-large"


def test_a_hidden_name_is_found_and_never_told(archive):
    secret_name = "mail/from-jane-doe/55.jpg"

    got = library(archive).read(item(hide(secret_name)))

    assert got.data == zipfile.ZipFile(archive).read(secret_name)
    assert got.url == hide(secret_name)


def test_a_name_that_was_not_asked_for_is_told_only_where_its_folder_was(archive):
    beside = library(archive).read(item("data/tweets_media/78-B.jpg", "78"))
    elsewhere = library(archive).read(item("export/pic_9988776655.jpg"))

    assert beside.url == "data/tweets_media/78-odd.jpg"
    assert elsewhere.url == hide("mail/from-jane-doe/pic_9988776655.jpg")
    assert "jane" not in elsewhere.url


@pytest.mark.parametrize("paths", [(), (Path("/nowhere/e.zip"),)])
def test_an_export_that_is_gone_gives_a_cause(paths):
    assert library(*paths).read(item("a.jpg")).failure == "export-missing"


def test_a_damaged_member_gives_a_cause(tmp_path, archive):
    data = archive.read_bytes()
    at = data.index(b"77-A.jpg") + 60
    (tmp_path / "bad.zip").write_bytes(data[:at] + b"\0\0\0\0" + data[at + 4 :])

    got = library(tmp_path / "bad.zip").read(item("data/tweets_media/77-A.jpg", "77"))

    assert got.failure == "member-damaged"


def test_members_are_read_in_the_order_in_which_they_lie(tmp_path):
    path = tmp_path / "e.tar.gz"
    names = [f"m/{n}.jpg" for n in (5, 1, 9, 3)]
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    items = [item(name) for name in sorted(names)] + [item(hide(names[0])), item("m/none.jpg")]

    ordered = sorted(items, key=library(path).place)

    assert [i.member for i in ordered] == ["m/none.jpg", names[0], hide(names[0]), *names[1:]]
