"""Several processes that fetch: the same rows as one, the same manners, and no loss where one dies."""

import http.server
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import asdict

import pytest

from curate import shares
from curate.branches import Branch, _lists, cores, started
from curate.fetch import Wanted
from curate.stages import fetching
from curate.stages.fetching import fetch_media, media_to_fetch
from curate.workspace import create_workspace, open_workspace
from schemas.errors import StoreError
from schemas.policy import FetchPolicy
from schemas.records import Media, Post, Source, Tombstone

JPEG = b"\xff\xd8\xff\xe0"
HOSTS = [f"h{n}.example" for n in range(6)]


def picture(path: str) -> bytes:
    return JPEG + path.encode() * 50


class Handler(http.server.BaseHTTPRequestHandler):
    """`/host/number`: its own bytes, as the server of the host likes it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host, name = self.path.strip("/").split("/")
        with self.server.lock:
            self.server.flying[host] += 1
            self.server.most[host] = max(self.server.most[host], self.server.flying[host])
            self.server.all = max(self.server.all, self.server.flying.total())
            self.server.asked[host].append(time.monotonic())
        time.sleep(self.server.takes_s)
        with self.server.lock:
            self.server.flying[host] -= 1
        self.answer(*self.server.said.get(host, lambda _: (200, {}))(name))

    def answer(self, status: int, headers: dict[str, str]) -> None:
        body = picture(self.path) if status == 200 else b""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class Hosts(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    takes_s = 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.said, self.all = {}, 0
        self.forget()

    def forget(self) -> None:
        self.flying, self.most = Counter(), Counter()
        self.asked = {host.partition(".")[0]: [] for host in HOSTS}

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no event here."""


@pytest.fixture
def served():
    server = Hosts()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def few(monkeypatch):
    """A few items are worth a process here, however uneven the loads are."""
    monkeypatch.setattr(shares, "WORTH", 1)
    monkeypatch.setattr(shares, "SLOWER", 100)
    monkeypatch.setattr(fetching, "WORTH", 1)


@pytest.fixture
def make(tmp_path, served):
    """A workspace whose hosts are those of the server, with items `host/number`."""

    def made(items: list[Media], name: str = "set", **limits: object):
        workspace = create_workspace(tmp_path / name)
        base = f"http://127.0.0.1:{served.server_address[1]}"
        mirrors = ", ".join(f'"{h}" = "{base}/{h.partition(".")[0]}"' for h in HOSTS)
        known = {"attempts": 2, "workers": 8, "per_host": 2, **limits}
        text = "".join(f"{key} = {value}\n" for key, value in known.items())
        (workspace.root / "wildrf.toml").write_text(
            f'name = "set"\n[fetch]\n{text}mirrors = {{{mirrors}}}\n'
        )
        posts = dict.fromkeys(item.post_id for item in items)
        workspace.catalog.add("post", [Post("x", one, "s", None, None) for one in posts])
        workspace.catalog.add("media", items)
        return open_workspace(workspace.root)

    return made


def url(host: int, name: object) -> str:
    return f"https://{HOSTS[host]}/{name}"


def items(number: int) -> list[Media]:
    return [Media("x", str(n), 0, "s", url=url(n % len(HOSTS), n)) for n in range(number)]


@pytest.fixture
def branches(monkeypatch):
    """The processes that were started."""
    made: list[Branch] = []

    class Noted(Branch):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("curate.branches.Branch", Noted)
    return made


def mixed() -> list[Media]:
    """Items of every kind: one host and several, exports that are there and not, bad and missing URLs."""
    found = items(60)
    found += [
        Media("x", f"f{n}", 0, "s", url=url(0, "gone"), fallback_urls=(url(1, n), url(0, n)))
        for n in range(6)
    ]
    found += [
        Media("x", f"m{n}", 0, "s", member=f"{n}.jpg", url=None if n % 2 else url(2, f"m{n}"))
        for n in range(6)
    ]
    found += [
        Media("x", "none", 0, "s"),
        Media("x", "empty", 0, "s", url="", fallback_urls=("", url(4, "late"))),
        Media("x", "bad", 0, "s", url="https://[h3.example/1"),
        Media("x", "upper", 0, "s", url="HTTPS://H3.Example:443/upper"),
        Media("x", "busy", 0, "s", url=url(5, "busy")),
    ]
    return found


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_several_processes_leave_the_same_rows_as_one(make, served, few, branches, processes):
    served.said = {
        "h0": lambda name: (404 if name == "gone" else 200, {}),
        "h5": lambda name: (500 if name == "busy" else 200, {}),
        "h1": lambda name: (200, {"X-Robots-Tag": "noai"} if name == "1" else {}),
    }
    results, contents = [], []
    for name, number in (("one", 1), ("several", processes)):
        workspace = make(mixed(), name)
        (workspace.root / "export").mkdir()
        (workspace.root / "export" / "0.jpg").write_bytes(picture("member"))
        workspace.catalog.add("source", [
            Source("s", "x/1", "x", "archive", str(workspace.root / "export"), 1, 1, 1, "{}", True),
        ])  # fmt: skip
        results.append(fetch_media(workspace, processes=number))
        contents.append((workspace.catalog.content()["fetch"], list(workspace.store.digests())))

    assert len(branches) == processes - 1
    assert results[0] == results[1]
    assert contents[0] == contents[1]
    assert results[1]["failed"] == {
        "bad-url": 1, "http-500": 1, "member-missing": 3, "no-url": 1, "opted-out": 2,
    }  # fmt: skip
    assert results[1]["tried"] == len(mixed())


def test_processes_that_were_started_before_are_used_and_those_without_use_are_ended(make, few):
    workspace = make(items(60))
    with started(2) as ready:
        result = fetch_media(workspace, ready=ready, processes=2)

        assert ready[0]._listener is not None
        assert ready[1]._process.poll() is not None
    assert result["ok"] == 60


def test_no_host_is_asked_more_often_or_sooner_than_one_process_would(make, served, few, branches):
    served.takes_s = 0.02
    workspace = make(items(90), workers=8, per_host=2, host_pause_s=0.05)

    assert fetch_media(workspace, processes=3)["ok"] == 90

    assert len(branches) == 2
    assert max(served.most.values()) <= 2
    assert served.all <= 8
    for times in served.asked.values():
        assert len(times) == 15
        assert times[-1] - times[0] >= 14 * 0.05 - 0.02


def test_a_host_that_wants_quiet_gets_it_whichever_process_asks(make, served, few, branches):
    for host in served.asked:
        served.said[host] = lambda _: (429, {"Retry-After": "3600"})
    workspace = make(items(60), per_host=1, workers=4)

    result = fetch_media(workspace, processes=2)

    assert len(branches) == 1
    assert {host: len(times) for host, times in served.asked.items()} == dict.fromkeys(
        served.asked, 1
    )
    assert result["later"] == dict.fromkeys(HOSTS, 9)
    assert result["failed"] == {"http-429": 6}


def test_a_picture_that_was_taken_out_is_refused_by_every_process(make, few, branches):
    workspace = make(items(60))
    fetch_media(workspace, processes=1)
    digests = list(workspace.store.digests())
    again = make(items(60), "again")
    again.catalog.add("tombstone", [Tombstone("digest", d, "asked for") for d in digests])

    result = fetch_media(again, processes=3)

    assert len(branches) == 2
    assert (result["ok"], result["failed"]) == (0, {"forgotten": 60})
    assert list(again.store.digests()) == []


def test_what_a_process_had_not_answered_when_it_died_is_left_for_the_next_run(
    make, served, few, branches
):
    served.takes_s = 0.05
    workspace = make(items(200), workers=4)

    def kill() -> None:
        while not branches or served.flying.total() < 3:
            time.sleep(0.005)
        os.kill(branches[0]._process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = fetch_media(workspace, processes=2)
    killer.join()

    assert (result["died"], result["failed"]) == (1, {})
    assert 0 < result["ok"] < 200
    assert media_to_fetch(workspace) == 200 - result["ok"]
    served.takes_s = 0.0
    again = fetch_media(workspace, processes=2)
    assert (again["ok"], again["died"]) == (200, 0)
    incoming = workspace.root / "media" / ".incoming"
    workspace.store.tidy(fetching.datetime.now(fetching.UTC))
    assert list(incoming.iterdir()) == []


def test_items_that_another_process_brings_meanwhile_break_no_host_apart(
    make, served, few, branches
):
    workspace = make(items(60))
    plan = fetching._planned(workspace, 3)
    mixed_up = Media("x", "new", 0, "s", url=url(0, "new"), fallback_urls=tuple(
        url(n, "new") for n in range(1, 6)))  # fmt: skip
    workspace.catalog.add("post", [Post("x", "new", "s", None, None)])
    workspace.catalog.add("media", [mixed_up])

    shared = [
        {w.item.post_id for w in fetching._wanted(workspace, plan.exports, part)}
        for part in plan.parts
    ]

    assert len(shared) == 3
    assert sorted(one for part in shared for one in part) == sorted(str(n) for n in range(60))
    assert {
        w.item.post_id
        for w in fetching._wanted(workspace, plan.exports, fetching._planned(workspace, 1).parts[0])
    } == {"new", *(str(n) for n in range(60))}


def rules(place: str, **changes: object) -> dict[str, object]:
    policy = {**asdict(FetchPolicy()), **changes}
    return {"policy": policy, "honour": True, "media": place, "base": "/", "refused": []}


def test_a_store_that_cannot_write_ends_the_fetch_with_its_own_error(make, served):
    mirrors = {HOSTS[0]: f"http://127.0.0.1:{served.server_address[1]}/h0"}
    with started(1) as [one], pytest.raises(StoreError, match="media cannot be written"):
        list(one.rows(rules("dev/null/media", mirrors=mirrors), iter([Wanted(items(1)[0])])))


def test_a_fault_of_our_own_is_told_with_its_traceback():
    with started(1) as [one], pytest.raises(RuntimeError, match=r"Traceback(.|\n)*KeyError"):
        list(one.rows({"media": "media", "base": "/"}, iter([])))


def test_a_process_that_is_not_needed_any_more_is_gone():
    with started(2) as made:
        numbers = [one._process.pid for one in made]
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_where_no_process_can_be_started_one_does_it_all(make, few, monkeypatch, caplog):
    def no_room(*_: object, **__: object) -> None:
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr("curate.branches.subprocess.Popen", no_room)
    workspace = make(items(60))

    assert fetch_media(workspace, processes=3)["ok"] == 60
    assert "another cannot be started" in caplog.text


def test_an_item_travels_with_all_that_is_asked_of_it():
    item = Media("x", "1\ud800", 2, "s", url="https://a.example/é", fallback_urls=("b", "c"))

    assert list(_lists(iter([Wanted(item, 3)] * 300)))[1:] == [
        [["x", "1\ud800", 2, "s", "https://a.example/é", ("b", "c"), 3]] * 44
    ]


def test_there_is_at_least_one_processor():
    assert 1 <= cores() <= (os.cpu_count() or 1)
