"""What comes over a connection that was open before is what would have come over a new one."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import curate.connect
from curate.download import Downloader, Received
from curate.exchange import Fields
from schemas.policy import FetchPolicy
from tests.curate.test_connect import FIRST, LINES
from tests.curate.test_download import JPEG

ORDINARY = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)


@dataclass
class Server:
    """Answers every request but those for `/told.jpg` with a picture; those with `told`, and hangs up."""

    port: int
    told: list[bytes] = field(default_factory=list)
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    pause_s: float = 0.0
    hang_up: bool = True
    context: ssl.SSLContext | None = None


def serve(listener: socket.socket, server: Server) -> None:
    number = 0
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if server.context:
            sock = server.context.wrap_socket(sock, server_side=True)
        number += 1
        threading.Thread(target=attend, args=(sock, server, number), daemon=True).start()


def attend(sock: socket.socket, server: Server, number: int) -> None:
    with sock:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                try:
                    piece = sock.recv(65536)
                except OSError:
                    return
                if not piece:
                    return
                data += piece
            request, _, data = data.partition(b"\r\n\r\n")
            server.requests.append((number, request))
            try:
                if not answer(sock, server, request):
                    return
            except OSError:
                return


def answer(sock: socket.socket, server: Server, request: bytes) -> bool:
    """Whether the connection goes on."""
    if not request.startswith(b"GET /told.jpg"):
        sock.sendall(ORDINARY + JPEG)
        return True
    for part in server.told:
        sock.sendall(part)
        time.sleep(server.pause_s)
    return not server.hang_up


@pytest.fixture(scope="module")
def listening() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1])
        threading.Thread(target=serve, args=(listener, server), daemon=True).start()
        yield server


@pytest.fixture
def server(listening: Server) -> Server:
    listening.told, listening.pause_s, listening.hang_up = [], 0.0, True
    listening.requests.clear()
    return listening


def downloader(server: Server, **changes: object) -> Downloader:
    base = f"http://127.0.0.1:{server.port}"
    return Downloader(FetchPolicy(mirrors={"a.example": base}, workers=2, attempts=1, **changes))  # type: ignore[arg-type]


def url(name: str) -> str:
    return f"https://a.example/{name}.jpg"


def told(down: Downloader) -> Received:
    """What comes; asked again when a redirect led over a connection that the server was just closing."""
    for _ in range(4):
        got = down.get(url("told"), 5.0)
        if got.failure != "reset":
            break
    return got


@given(FIRST, st.lists(LINES, max_size=6), st.binary(max_size=8))
@example("HTTP/1.1 200 OK", [f"Content-Length: {len(JPEG)}"], JPEG)
@example("HTTP/1.1 200 OK", [f"Content-Length: {len(JPEG)}"], JPEG + b"more")
@example("HTTP/1.1 200 OK", [f"Content-Length: {len(JPEG) + 1}"], JPEG)
@example(
    "HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], b"%x\r\n%s\r\n0\r\n\r\n" % (len(JPEG), JPEG)
)
@example("HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], b"ffff\r\n" + JPEG)
@example("HTTP/1.0 200 OK", [], JPEG)
@example("HTTP/1.1 200 OK", ["Connection: close"], JPEG)
@example(
    "HTTP/1.1 200 OK",
    [f"Content-Length: {len(JPEG)}", "X-Robots-Tag: a", "X-Robots-Tag: noai"],
    JPEG,
)
@example("HTTP/1.1 200 OK", ["X-Much: " + "x" * 20_000, f"Content-Length: {len(JPEG)}"], JPEG)
@example("HTTP/1.1 404 Not Found", ["Content-Length: 5"], b"12345")
@example("HTTP/1.1 302 Found", ["Content-Length: 0", "Location: /other.jpg"], b"")
@example("HTTP/1.1 302 Found", ["Content-Length: 5", "Location: ftp://x/"], b"12345")
@example("HTTP/1.1 429 Too Many Requests", ["Content-Length: 0", "Retry-After: 7"], b"")
@example("HTTP/1.1 100 Continue", ["", f"HTTP/1.1 200 OK\r\nContent-Length: {len(JPEG)}"], JPEG)
@example("", [], b"")
def test_an_answer_is_the_same_on_a_connection_that_was_open_before(listening, first, lines, body):
    listening.told = ["\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace") + body]
    listening.pause_s, listening.hang_up = 0.0, True

    with downloader(listening) as fresh:
        expected = told(fresh)
    with downloader(listening) as open_before:
        listening.requests.clear()
        assert open_before.get(url("first"), 5.0).data == JPEG
        got = told(open_before)

    assert got == expected
    assert got.retry_after == expected.retry_after
    assert listening.requests[0][0] == listening.requests[1][0]


def test_a_request_is_the_same_as_that_of_the_library(server):
    with downloader(server) as down:
        for _ in range(3):
            assert down.get(url("one"), 5.0).data == JPEG

    connections, requests = zip(*server.requests, strict=True)
    assert len(set(connections)) == 1
    assert len(set(requests)) == 1


def test_a_connection_with_something_behind_the_answer_is_not_used_again(server):
    server.told, server.hang_up = [ORDINARY + JPEG + b"HTTP/1.1 200 OK"], False

    with downloader(server) as down:
        down.get(url("first"), 5.0)
        assert down.get(url("told"), 5.0).failure == "length-mismatch"
        assert down.get(url("first"), 5.0).data == JPEG

    assert [number for number, _ in server.requests][1:] != [server.requests[0][0]] * 2


def test_an_odd_answer_leaves_its_connection_to_the_next_one(server):
    server.told, server.hang_up = (
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
            % (len(JPEG), JPEG)
        ],
        False,
    )

    with downloader(server) as down:
        answers = [down.get(url(name), 5.0).data for name in ("first", "told", "first")]

    assert answers == [JPEG] * 3
    assert len({number for number, _ in server.requests}) == 1


def test_a_head_that_comes_in_pieces_is_read_all_the_same(server):
    server.told, server.pause_s, server.hang_up = [ORDINARY[:20], ORDINARY[20:], JPEG], 0.05, False

    with downloader(server) as down:
        answers = [down.get(url(name), 5.0).data for name in ("first", "told", "first")]

    assert answers == [JPEG] * 3
    assert len({number for number, _ in server.requests}) == 1


def test_a_body_that_drips_ends_with_the_time_there_is(server):
    server.told, server.pause_s = [ORDINARY, *(bytes([b]) for b in JPEG)], 0.05

    with downloader(server) as down:
        down.get(url("first"), 5.0)
        began = time.monotonic()
        got = down.get(url("told"), 0.5)

    assert got.failure == "timeout"
    assert time.monotonic() - began < 3


def test_an_answer_that_is_not_wanted_lets_go_of_its_connection(server):
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
    server.told, server.hang_up = [big], False

    with downloader(server, max_bytes=10_000) as down:
        down.get(url("first"), 5.0)
        assert down.get(url("told"), 5.0).failure == "too-large"
        assert down.get(url("first"), 5.0).data == JPEG

    assert len({number for number, _ in server.requests}) == 2


@pytest.fixture
def secure(tmp_path, monkeypatch) -> Iterator[Server]:
    """The same under TLS, with a certificate that is trusted here."""
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key.pem -out cert.pem "
        "-subj /CN=a.example -addext subjectAltName=DNS:a.example"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr("curate.connect.DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "cert.pem"))
    curate.connect._context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1], context=context)
        threading.Thread(target=serve, args=(listener, server), daemon=True).start()
        yield server
    curate.connect._context.cache_clear()


def test_under_tls_one_connection_serves_all_and_its_ends_are_told(secure):
    secure.told, secure.hang_up = [ORDINARY + JPEG + b"more"], False
    base = f"https://a.example:{secure.port}"

    with Downloader(
        FetchPolicy(attempts=1), resolver=lambda *_: ["127.0.0.1"], allowed=lambda _: True
    ) as down:
        answers = [down.get(f"{base}/{n}.jpg", 5.0) for n in range(3)]
        surplus = down.get(f"{base}/told.jpg", 5.0)
        secure.told, secure.pause_s = [ORDINARY, *(bytes([b]) for b in JPEG)], 0.05
        down.get(f"{base}/first.jpg", 5.0)
        began = time.monotonic()
        dripped = down.get(f"{base}/told.jpg", 0.5)

    assert [answer.data for answer in answers] == [JPEG] * 3
    assert [number for number, _ in secure.requests] == [1, 1, 1, 1, 2, 2]
    assert surplus.failure == "length-mismatch"
    assert dripped.failure == "timeout"
    assert time.monotonic() - began < 3


@given(
    st.lists(st.tuples(st.sampled_from(["A", "a", "B-c", "b-C", "D"]), st.text("xyz,", max_size=3)))
)
def test_fields_are_those_of_urllib3(fields):
    from urllib3 import HTTPHeaderDict

    ours, theirs = Fields(fields), HTTPHeaderDict(fields)

    assert len(ours) == len(theirs)
    for name in ("a", "A", "b-c", "D", "none"):
        assert ours.get(name) == theirs.get(name)
        assert ours.getlist(name) == theirs.getlist(name)
        assert (name in ours) == (name in theirs)
    assert {n.lower(): v for n, v in theirs.itermerged()} == dict(ours)
