import hashlib
import io
import itertools
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from curate.fetch import fetch_all
from schemas.policy import FetchPolicy
from schemas.records import Fetch, Media


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (seed % 256, 7, 9)).save(buffer, "JPEG")
    return buffer.getvalue()


class Shelf:
    """Bytes by digest, as the media store keeps them."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            self.kept[digest] = data
        return digest


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data/tweets_media/77-A.jpg", jpeg(1))
        file.writestr("data/tweets_media/78-odd.jpg", jpeg(2))
        file.writestr("data/tweets_media/79-a.jpg", jpeg(3))
        file.writestr("data/tweets_media/79-b.jpg", jpeg(4))
        file.writestr("data/text.jpg", b"no picture")
        file.writestr("data/empty.jpg", b"")
        file.writestr("data/half.jpg", jpeg(5)[:200])
    return path


def item(post_id: str = "1", **fields: object) -> Media:
    return Media("x", post_id, 0, "s", **fields)  # type: ignore[arg-type]


def fetched(
    items: list[Media], shelf: Shelf, mirror: Path, exports: dict[str, Path]
) -> list[Fetch]:
    policy = FetchPolicy(workers=4, attempts=1, mirrors={"img.example": str(mirror)})
    clock = itertools.count(0, 0.5)
    lock = threading.Lock()

    def tick() -> float:
        with lock:
            return next(clock)

    return list(fetch_all(items, exports=exports, policy=policy, put=shelf.put, clock=tick))


def test_results_come_in_the_order_of_the_items(shelf, mirror):
    items = [item(str(i), url=f"https://img.example/{i}.jpg") for i in range(40)]

    rows = fetched(items, shelf, mirror, {})

    assert [row.post_id for row in rows] == [str(i) for i in range(40)]
    assert [shelf.kept[row.digest or ""] for row in rows] == [jpeg(i) for i in range(40)]
    assert all(row.failure is None and row.attempt == 1 for row in rows)
    assert [row.bytes for row in rows] == [len(jpeg(i)) for i in range(40)]
    assert all((row.seconds or 0) > 0 for row in rows)


@pytest.mark.parametrize(
    ("post_id", "member", "found"),
    [
        ("77", "data/tweets_media/77-A.jpg", "data/tweets_media/77-A.jpg"),
        ("78", "data/tweets_media/78-B.jpg", "data/tweets_media/78-odd.jpg"),
        ("5", "data/half.jpg", "data/half.jpg"),
    ],
)
def test_files_of_the_export_are_found_by_name_and_then_by_the_id(
    shelf, mirror, archive, post_id, member, found
):
    [row] = fetched([item(post_id, member=member)], shelf, mirror, {"s": archive})

    assert (row.failure, row.origin) == (None, found)
    assert row.status is None


@pytest.mark.parametrize(
    ("media", "cause"),
    [
        (item("79", member="data/tweets_media/79-c.jpg"), "member-missing"),
        (item(member="data/none.jpg"), "member-missing"),
        (item(member="data/text.jpg"), "not-an-image"),
        (item(member="data/empty.jpg"), "empty"),
        (item(), "no-url"),
        (item(url="https://img.example/none.jpg"), "mirror-missing"),
        (item(url="http://127.0.0.1:1/a"), "private-address"),
    ],
)
def test_what_cannot_be_had_gives_a_cause(shelf, mirror, archive, media, cause):
    [row] = fetched([media], shelf, mirror, {"s": archive})

    assert (row.digest, row.failure, row.bytes) == (None, cause, None)
    assert shelf.kept == {}


@pytest.mark.parametrize("exports", [{}, {"s": Path("/nowhere/e.zip")}])
def test_an_export_that_is_gone_gives_a_cause(shelf, mirror, exports):
    [row] = fetched([item(member="a.jpg")], shelf, mirror, exports)

    assert row.failure == "export-missing"


def test_fallbacks_are_tried_in_order_and_the_first_cause_is_kept(shelf, mirror, archive):
    places = ("https://img.example/none.jpg", "https://img.example/7.jpg")
    good = item(url="https://img.example/gone.jpg", fallback_urls=places)
    bad = item(member="data/none.jpg", url="https://img.example/none.jpg")
    from_net = item(member="data/none.jpg", url="https://img.example/8.jpg")

    rows = fetched([good, bad, from_net], shelf, mirror, {"s": archive})

    assert (rows[0].failure, rows[0].origin) == (None, "https://img.example/7.jpg")
    assert rows[1].failure == "member-missing"
    assert shelf.kept[rows[2].digest or ""] == jpeg(8)


def test_a_damaged_member_gives_a_cause(tmp_path, shelf, mirror, archive):
    data = archive.read_bytes()
    at = data.index(b"77-A.jpg") + 60
    (tmp_path / "bad.zip").write_bytes(data[:at] + b"\0\0\0\0" + data[at + 4 :])
    media = item("77", member="data/tweets_media/77-A.jpg")

    [row] = fetched([media], shelf, mirror, {"s": tmp_path / "bad.zip"})

    assert row.failure == "member-damaged"


def test_attempts_are_numbered_as_told(shelf, mirror):
    media = item(url="https://img.example/1.jpg")
    policy = FetchPolicy(workers=1, mirrors={"img.example": str(mirror)})

    [row] = fetch_all(
        [media],
        exports={},
        policy=policy,
        put=shelf.put,
        clock=lambda: 0.0,
        attempts={("x", "1", 0): 3},
    )

    assert row.attempt == 3


def test_a_fetch_that_is_left_early_starts_nothing_more(shelf, mirror):
    items = [item(str(i), url=f"https://img.example/{i}.jpg") for i in range(40)]
    policy = FetchPolicy(workers=1, mirrors={"img.example": str(mirror)})
    rows = fetch_all(items, exports={}, policy=policy, put=shelf.put, clock=lambda: 0.0)

    next(rows)
    rows.close()

    assert len(shelf.kept) <= 6
