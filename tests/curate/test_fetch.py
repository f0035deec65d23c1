"""Items to rows: every place in turn, every host in its line, every item one row."""

import hashlib
import io
import socket
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from curate.download import Downloader, Received, failed
from curate.fetch import SAMPLE_S, Wanted, _Crew, fetch_all, places_of
from curate.members import Library
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
        for i in range(40):
            file.writestr(f"media/{i}-a.jpg", jpeg(i))
    return path


def item(post_id: str = "1", **fields: object) -> Media:
    return Media("x", post_id, 0, "s", **fields)  # type: ignore[arg-type]


def fetched(items, shelf, mirror=None, exports=(), later=None, **fields) -> dict[str, Fetch]:
    """The row of each item, by post id."""
    mirrors = {"img.example": str(mirror)} if mirror else {}
    policy = FetchPolicy(**{"workers": 4, "attempts": 1, "mirrors": mirrors, **fields})
    with Downloader(policy) as downloader:
        return rows_of(items, shelf, downloader, exports, later)


def rows_of(items, shelf, downloader, exports=(), later=None, **options) -> dict[str, Fetch]:
    found = fetch_all(
        [i if isinstance(i, Wanted) else Wanted(i) for i in items],
        library=Library({"s": exports}, 10**6, str),
        downloader=downloader,
        put=shelf.put,
        later=later,
        **options,
    )
    rows = [row for rows in found for row in rows]
    assert len({row.post_id for row in rows}) == len(rows)
    return {row.post_id: row for row in rows}


def test_every_item_gives_one_row(shelf, mirror, archive):
    items = [item(str(i), url=f"https://img.example/{i}.jpg") for i in range(40)]
    items += [item(f"m{i}", member=f"media/{i}-a.jpg") for i in range(40)]

    rows = fetched(items, shelf, mirror, (archive,))

    assert rows.keys() == {i.post_id for i in items}
    for i in range(40):
        for row in (rows[str(i)], rows[f"m{i}"]):
            assert shelf.kept[row.digest or ""] == jpeg(i)
            assert (row.failure, row.attempt, row.bytes, row.places) == (None, 1, len(jpeg(i)), 1)
            assert (row.seconds or 0) > 0
    assert rows["m7"].origin == "media/7-a.jpg"
    assert rows["7"].origin == "https://img.example/7.jpg"


@pytest.mark.parametrize(
    ("media", "cause"),
    [
        (item(member="data/none.jpg"), "member-missing"),
        (item(), "no-url"),
        (item(url="https://img.example/none.jpg"), "mirror-missing"),
        (item(url="http://127.0.0.1:1/a"), "private-address"),
        (item(url="http://[bad/"), "bad-url"),
    ],
)
def test_what_cannot_be_had_gives_a_cause(shelf, mirror, archive, media, cause):
    row = fetched([media], shelf, mirror, (archive,))["1"]

    assert (row.digest, row.failure, row.bytes) == (None, cause, None)
    assert shelf.kept == {}


def test_fallbacks_are_tried_in_order_and_the_first_cause_is_kept(shelf, mirror, archive):
    places = ("https://img.example/none.jpg", "https://img.example/7.jpg")
    good = item("1", url="https://img.example/gone.jpg", fallback_urls=places)
    bad = item("2", member="data/none.jpg", url="https://img.example/none.jpg")
    from_net = item("3", member="data/none.jpg", url="https://img.example/8.jpg")

    rows = fetched([good, bad, from_net], shelf, mirror, (archive,))

    assert (rows["1"].failure, rows["1"].origin) == (None, "https://img.example/7.jpg")
    assert (rows["2"].failure, rows["2"].places) == ("member-missing", 2)
    assert shelf.kept[rows["3"].digest or ""] == jpeg(8)


def test_places_are_counted_once_each():
    url = "https://a.example/1.jpg"
    media = item(member="m.jpg", url=url, fallback_urls=(url, "", "https://b.example/2.jpg"))

    assert [p.url for p in places_of(media)] == [None, url, "https://b.example/2.jpg"]


def test_attempts_are_numbered_as_told(shelf, mirror):
    rows = fetched([Wanted(item(url="https://img.example/1.jpg"), 3)], shelf, mirror)

    assert rows["1"].attempt == 3


def test_a_fetch_that_is_left_early_starts_nothing_more(shelf, mirror):
    leaving = threading.Event()

    class Slow(Downloader):
        def get(self, url: str, seconds: float | None = None) -> Received:
            time.sleep(0.01)
            while len(shelf.kept) >= 5 and not (leaving.is_set() and rows.gi_running):
                time.sleep(0.001)  # so that a slow machine has not done them all before it leaves
            return super().get(url, seconds)

    policy = FetchPolicy(workers=1, mirrors={"img.example": str(mirror)})
    with Slow(policy) as downloader:
        rows = fetch_all(
            [Wanted(item(str(i), url=f"https://img.example/{i}.jpg")) for i in range(40)],
            library=Library({}, 1, str), downloader=downloader, put=shelf.put, batch=1,
        )  # fmt: skip
        next(rows)
        leaving.set()
        rows.close()
        kept = len(shelf.kept)
        time.sleep(0.05)

    assert kept == len(shelf.kept) <= 10


def test_a_store_that_cannot_write_ends_the_fetch(mirror):
    class Full(Shelf):
        def put(self, data: bytes) -> str:
            raise OSError("disk full")

    items = [item(str(i), url=f"https://img.example/{i}.jpg") for i in range(40)]

    with pytest.raises(OSError, match="disk full"):
        fetched(items, Full(), mirror)


def test_items_are_taken_bit_by_bit(shelf, mirror):
    taken = []

    def endless() -> Iterator[Wanted]:
        for number in range(1_000_000):
            taken.append(number)
            yield Wanted(item(str(number), url=f"https://img.example/{number % 40}.jpg"))

    policy = FetchPolicy(workers=4, mirrors={"img.example": str(mirror)})
    with Downloader(policy) as downloader:
        rows = fetch_all(endless(), library=Library({}, 1, str), downloader=downloader,
                         put=shelf.put, batch=100)  # fmt: skip
        assert len(next(rows)) == 100
        rows.close()

    assert len(taken) < 30_000


class Told(Downloader):
    """Answers as told, per URL in order, the last one again and again; and notes when it was asked."""

    def __init__(self, policy: FetchPolicy, answers: dict[str, list[Received]], takes_s=0.0):
        super().__init__(policy)
        self.answers, self.takes_s = answers, takes_s
        self.asked: list[tuple[str, float]] = []
        self.flying: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lock = threading.Lock()

    def get(self, url: str, seconds: float | None = None) -> Received:
        host = url.split("/")[2]
        with self.lock:
            self.asked.append((url, time.monotonic()))
            self.flying[host] += 1
            self.most[host] = max(self.most[host], self.flying[host])
            answers = self.answers.get(url) or self.answers[host]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        time.sleep(self.takes_s)
        with self.lock:
            self.flying[host] -= 1
        return answer

    def times(self, url: str) -> list[float]:
        return [at for asked, at in self.asked if asked == url]


def good(url: str = "https://a.example/1") -> Received:
    return Received(jpeg(1), None, 200, "image/jpeg", url)


def status(code: int, url: str = "https://a.example/1", wait: float | None = None) -> Received:
    return Received(None, f"http-{code}", code, None, url, wait)


def test_a_failure_that_may_pass_is_tried_again_after_a_while(shelf):
    url = "https://a.example/1"
    downloader = Told(FetchPolicy(attempts=3), {url: [failed("reset", url), good(url)]})

    rows = rows_of([item(url=url)], shelf, downloader)

    assert (rows["1"].failure, rows["1"].attempt) == (None, 1)
    first, second = downloader.times(url)
    assert 0.5 <= second - first < 2


def test_tries_are_bounded_in_number_and_what_lasts_is_not_tried_again(shelf):
    answers = {"https://a.example/1": [failed("reset")], "https://a.example/2": [status(404)]}
    downloader = Told(FetchPolicy(attempts=2), answers)

    rows = rows_of([item(url[-1], url=url) for url in answers], shelf, downloader)

    assert {k: r.failure for k, r in rows.items()} == {"1": "reset", "2": "http-404"}
    assert [len(downloader.times(url)) for url in answers] == [2, 1]


def test_a_wait_longer_than_the_time_left_is_not_begun(shelf):
    url = "https://a.example/1"
    downloader = Told(FetchPolicy(attempts=3, total_timeout_s=0.4), {url: [status(500)]})

    assert rows_of([item(url=url)], shelf, downloader)["1"].failure == "http-500"
    assert len(downloader.asked) == 1


def test_a_busy_host_gets_its_quiet_while_others_are_asked(shelf):
    busy = [f"https://a.example/{n}" for n in range(3)]
    others = [f"https://b.example/{n}" for n in range(20)]
    answers = {
        busy[0]: [status(429, busy[0], 1.0), good()],
        "a.example": [good()],
        "b.example": [good()],
    }
    downloader = Told(FetchPolicy(workers=2, per_host=1), answers, takes_s=0.005)

    rows = rows_of([item(url, url=url) for url in busy + others], shelf, downloader)

    assert {r.failure for r in rows.values()} == {None}
    (told, *again) = sorted(at for url, at in downloader.asked if "//a." in url)
    assert min(again) - told >= 1.0
    assert all(at - told < 1.0 for url, at in downloader.asked if "//b." in url)


def test_what_a_host_has_no_time_for_is_left_for_later_and_is_no_attempt(shelf):
    urls = [f"https://a.example/{n}" for n in range(5)]
    answers = {"a.example": [status(429, wait=3600.0)], "b.example": [good()]}
    downloader = Told(FetchPolicy(workers=1, attempts=3), answers)
    later: Counter[str] = Counter()

    rows = rows_of([item(u, url=u, fallback_urls=("https://b.example/",)) for u in urls], shelf,
                   downloader, later=later)  # fmt: skip

    assert len([url for url, _ in downloader.asked if "//a." in url]) == 1
    assert later == {"a.example": 4}
    assert [r.failure for r in rows.values()] == [None]  # the one that was asked has a fallback


def test_a_host_that_never_answers_is_not_waited_for_again_and_again(shelf):
    urls = [f"https://a.example/{n}" for n in range(60)]
    answers = {"a.example": [failed("timeout")], "b.example": [good("https://b.example/1")]}
    downloader = Told(FetchPolicy(workers=8, per_host=4, attempts=1), answers)
    items = [item(u, url=u) for u in urls] + [item("b", url="https://b.example/1")]

    rows = rows_of(items, shelf, downloader)

    assert Counter(r.failure for r in rows.values()).keys() == {"timeout", "host-silent", None}
    assert 16 <= len([url for url, _ in downloader.asked if "//a." in url]) < 24


def test_a_cause_that_may_pass_is_told_before_one_that_lasts(shelf):
    answers = {"a.example": [status(404)], "b.example": [failed("timeout")]}
    downloader = Told(FetchPolicy(attempts=1), answers)
    media = item(url="https://a.example/1", fallback_urls=("https://b.example/1",))

    assert rows_of([media], shelf, downloader)["1"].failure == "timeout"


def test_a_wish_to_be_left_out_is_not_got_around_by_a_fallback(shelf):
    answers = {"a.example": [failed("opted-out")], "b.example": [good()]}
    downloader = Told(FetchPolicy(), answers)
    media = item(url="https://a.example/1", fallback_urls=("https://b.example/1",))

    assert rows_of([media], shelf, downloader)["1"].failure == "opted-out"
    assert len(downloader.asked) == 1


def test_no_host_has_more_in_flight_than_it_may_and_a_slow_one_holds_up_nobody(shelf):
    urls = [f"https://{host}.example/{n}" for host in "ab" for n in range(20)]
    downloader = Told(
        FetchPolicy(workers=6, per_host=2), {f"{h}.example": [good()] for h in "ab"}, takes_s=0.01
    )

    rows_of([item(u, url=u) for u in urls], shelf, downloader)

    assert downloader.most == {"a.example": 2, "b.example": 2}


def test_rows_come_after_a_while_also_where_a_list_does_not_fill(shelf):
    release = threading.Event()

    class Stuck(Told):
        def get(self, url: str, seconds: float | None = None) -> Received:
            if url.endswith("/stuck"):
                release.wait(20)
            return super().get(url, seconds)

    answers = {"a.example": [good()]}
    downloader = Stuck(FetchPolicy(workers=2), answers)
    found = fetch_all(
        [Wanted(item(n, url=f"https://a.example/{n}")) for n in ("stuck", "1", "2")],
        library=Library({}, 1, str), downloader=downloader, put=shelf.put, every_s=0.1,
    )  # fmt: skip

    first = next(found)
    release.set()
    rest = [row for rows in found for row in rows]

    assert {r.post_id for r in first} == {"1", "2"}
    assert [r.post_id for r in rest] == ["stuck"]


def test_a_fetch_that_is_left_does_not_wait_for_a_server_that_says_nothing(shelf):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        policy = FetchPolicy(workers=2, mirrors={"a.example": base}, timeout_s=30)
        with Downloader(policy) as downloader:
            items = [Wanted(item("no-url")), Wanted(item("stuck", url="https://a.example/1"))]
            rows = fetch_all(items, library=Library({}, 1, str), downloader=downloader,
                             put=shelf.put, batch=1)  # fmt: skip
            next(rows)
            with silent.accept()[0]:
                before = {t.name for t in threading.enumerate()}
                began = time.monotonic()
                rows.close()

        assert time.monotonic() - began < 5
        assert {n for n in before if n.startswith("fetch-")}
        assert not [t for t in threading.enumerate() if t.name.startswith("fetch-")]


def test_workers_are_two_while_the_processor_is_full_and_more_as_soon_as_it_is_not():
    worked = [0.0]
    crew = _Crew(8, lambda: worked[0])
    crew.at_work = crew.size = 2
    now = time.monotonic()

    for _ in range(3):
        now, worked[0] = now + 1.1 * SAMPLE_S, worked[0] + 1.1 * SAMPLE_S
        crew.waited(now, 1.0, 0.001)
    full = crew.size, crew.has_room(now)
    now += 2 * SAMPLE_S

    assert full == (2, False)
    assert crew.has_room(now)
    assert crew.waited(now, 1.0, 0.001)
    assert crew.size == 6
