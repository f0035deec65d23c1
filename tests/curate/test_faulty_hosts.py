"""A fifth of the answers are bad in every way we know: nothing hangs, nothing wrong is kept, all is told."""

import gzip
import hashlib
import http.server
import io
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from curate.download import Downloader
from curate.stages import fetching
from curate.stages.fetching import fetch_media
from curate.workspace import create_workspace, open_workspace
from schemas.records import Media, Post

ITEMS = 200
HOSTS = [f"h{n}.example" for n in range(8)]
BOMB = gzip.compress(bytes(5_000_000))
HTML = b"<!DOCTYPE html><html><body>Sign in to continue.</body></html>"

FAULTS = {
    "quota": "http-429",  # for good
    "quota-once": None,
    "broken": "http-500",
    "broken-once": None,
    "reset": "reset",
    "reset-once": None,
    "reset-resumable": None,
    "trickle": "timeout",
    "headers-trickle": "timeout",
    "too-short": "length-mismatch",
    "too-long": "length-mismatch",
    "two-lengths": "bad-response",
    "html": "not-an-image",
    "to-private": "private-address",
    "to-itself": "too-many-redirects",
    "endless": "too-large",
    "endless-headers": "bad-response",
    "bomb": "content-encoding",
    "silent": "timeout",
    "gone": "http-404",
    "removed": "placeholder",
}
"""What goes wrong -> the cause that stays in the end, None where it passes."""


def picture(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class World:
    """What is served, what goes wrong, and what was asked."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    asked: Counter = field(default_factory=Counter)
    mended: bool = False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: World

    def do_GET(self) -> None:
        self.world.asked[self.path] += 1
        fault = self.world.faults.get(self.path, "")
        try:
            if self.world.mended or not fault:
                self.whole()
            else:
                getattr(self, fault.replace("-", "_"), self.whole)()
        except OSError:
            self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        stated = {"Content_Length": str(len(body)), **headers}
        for name, value in stated.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def picture(self) -> bytes:
        return self.world.pictures[self.path]

    @property
    def first(self) -> bool:
        return self.world.asked[self.path] == 1

    def whole(self) -> None:
        self.answer(200, self.picture, Content_Type="image/png")

    def quota(self) -> None:
        self.answer(429, b"", Retry_After="0")

    def quota_once(self) -> None:
        self.answer(429, b"", Retry_After="1") if self.first else self.whole()

    def broken(self) -> None:
        self.answer(500, HTML)

    def broken_once(self) -> None:
        self.answer(503, b"") if self.first else self.whole()

    def reset(self) -> None:
        self.answer(200, self.picture[:500], Content_Length=str(len(self.picture)))
        self.close_connection = True
        time.sleep(0.1)  # what was sent arrives, and then the reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(self.connection.detach())

    def reset_once(self) -> None:
        self.reset() if self.first else self.whole()

    def reset_resumable(self) -> None:
        whole, tag = self.picture, '"v1"'
        if "Range" not in self.headers:
            self.answer(200, whole[:700], Content_Length=str(len(whole)), ETag=tag)
            self.close_connection = True
            return
        assert (self.headers["Range"], self.headers["If-Range"]) == ("bytes=700-", tag)
        self.answer(206, whole[700:], Content_Range=f"bytes 700-{len(whole) - 1}/{len(whole)}")

    def trickle(self) -> None:
        self.answer(200, self.picture[:20], Content_Length=str(len(self.picture)))
        for byte in self.picture[20:]:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def headers_trickle(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 10_000:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def too_short(self) -> None:
        self.answer(200, self.picture, Content_Length=str(len(self.picture) + 10))
        self.close_connection = True

    def too_long(self) -> None:
        self.answer(200, self.picture, Content_Length=str(len(self.picture) - 10))

    def two_lengths(self) -> None:
        self.answer(200, self.picture, **{"Content-Length": "17"})

    def html(self) -> None:
        self.answer(200, HTML, Content_Type="image/jpeg")

    def to_private(self) -> None:
        port = self.server.server_address[1]
        self.answer(302, b"", Location=f"http://127.0.0.1:{port}/secret.png")

    def to_itself(self) -> None:
        self.answer(301, b"", Location=self.path)

    def endless(self) -> None:
        self.answer(200, self.picture, Content_Length="", Connection="close")
        while True:
            self.wfile.write(bytes(65_536))

    def endless_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X-More: and more\r\n" * 100)

    def bomb(self) -> None:
        self.answer(200, BOMB, Content_Encoding="gzip", Content_Type="image/png")

    def silent(self) -> None:
        time.sleep(4)
        self.close_connection = True

    def gone(self) -> None:
        self.answer(404, b"\x89PNG\r\n\x1a\n and more", Content_Type="image/png")

    def removed(self) -> None:
        self.answer(302, b"", Location="https://i.imgur.com/removed.png")

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no event here."""


@pytest.fixture
def world() -> Iterator[tuple[World, int]]:
    made = World()
    paths = [f"/{number}.png" for number in range(ITEMS)]
    made.pictures = {path: picture(number) for number, path in enumerate(paths)}
    made.pictures["/secret.png"] = picture(-1 % 10_000)
    bad = paths[:: ITEMS // 40][:40]
    made.faults = {path: list(FAULTS)[n % len(FAULTS)] for n, path in enumerate(bad)}
    server = Quiet(("0.0.0.0", 0), type("H", (Handler,), {"world": made}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made, server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def workspace(tmp_path, world, monkeypatch):
    """Its hosts are public by name, and all lead to the server of the world."""
    _, port = world

    def downloader(policy, **options):
        public = {host: f"127.0.0.{n + 10}" for n, host in enumerate(HOSTS)}
        return Downloader(
            policy,
            resolver=lambda host, _: [public.get(host, host)],
            allowed=lambda address: address in public.values(),
            **options,
        )

    monkeypatch.setattr(fetching, "Downloader", downloader)
    made = create_workspace(tmp_path / "set")
    limits = (
        "timeout_s = 1.0\ntotal_timeout_s = 2.0\nmax_bytes = 200000\nworkers = 16\nattempts = 2"
    )
    (made.root / "wildrf.toml").write_text(f'name = "set"\n[fetch]\n{limits}\n')
    names = [str(n) for n in range(ITEMS)]
    made.catalog.add("post", [Post("x", n, "s", None, None) for n in names])
    urls = [f"http://{HOSTS[n % len(HOSTS)]}:{port}/{n}.png" for n in range(ITEMS)]
    made.catalog.add(
        "media", [Media("x", n, 0, "s", url=u) for n, u in zip(names, urls, strict=True)]
    )
    return open_workspace(made.root)


@pytest.mark.timeout(60)
def test_with_a_fifth_of_the_answers_bad_nothing_hangs_nothing_wrong_is_kept_and_all_is_told(
    workspace, world
):
    served, _ = world
    assert set(served.faults.values()) == set(FAULTS)
    began = time.monotonic()

    result = fetch_media(workspace)

    assert time.monotonic() - began < 20
    rows = workspace.catalog.rows('SELECT post_id, digest, failure FROM "fetch"')
    assert {r["post_id"] for r in rows} == {str(n) for n in range(ITEMS)}
    for row in rows:
        path = f"/{row['post_id']}.png"
        cause = FAULTS[served.faults[path]] if path in served.faults else None
        assert row["failure"] == cause, served.faults.get(path)
        if cause is None:
            assert row["digest"] == hashlib.sha256(served.pictures[path]).hexdigest()
    assert set(workspace.store.digests()) == {r["digest"] for r in rows if r["digest"]}
    assert all(workspace.store.get(digest) for digest in workspace.store.digests())
    assert list((workspace.root / "media" / ".incoming").iterdir()) == []
    told = Counter(FAULTS[fault] for fault in served.faults.values() if FAULTS[fault])
    assert result["failed"] == dict(sorted(told.items()))
    assert served.asked["/secret.png"] == 0

    first, served.mended = served.asked.copy(), True
    again = fetch_media(workspace)

    asked = {path for path, n in (served.asked - first).items() if n}
    passing = {"http-429", "http-500", "reset", "timeout", "length-mismatch", "bad-response"}
    assert asked == {path for path, fault in served.faults.items() if FAULTS[fault] in passing}
    assert again["tried"] == len(asked)
    assert again["ok"] == result["ok"] + len(asked)
