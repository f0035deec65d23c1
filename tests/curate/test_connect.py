"""Heads of answers and plain URLs are read as the libraries read them, only faster."""

import http.client
import io
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests import PreparedRequest
from requests.exceptions import InvalidURL

from curate.connect import _PLAIN_URL, CheckedAdapter, is_public
from curate.exchange import Response, plain

LINES = st.one_of(
    st.sampled_from([
        "Content-Length: 5", "content-length:5", "Content-Length: 05", "Content-Length: +5",
        "Content-Length: 5 ", "Content-Length: 5, 5", "Content-Length: \u0665", "Content-Length: ",
        "Content-Length: " + "9" * 30, "Connection: keep-alive", "Connection: close", "Keep-Alive: timeout=5",
        "Connection: Keep-Alive, Upgrade", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip",
        "X-Robots-Tag: noai", "X-Robots-Tag:noindex ", "Content-Type: image/jpeg", " folded", "\tfolded",
        "no colon", "Sp ace: 1", "Space : 1", ": nothing", "X-Bare: a\rb", "X-Bare: a\nb", "X: \0", "X: é",
        "Location: /a:b", "",
    ]),
    st.text("aZ-:_ \t\r\n\0é\x85", max_size=12),
)  # fmt: skip
FIRST = st.sampled_from([
    "HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 302 Found", "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified", "HTTP/1.1 404 Not  Found ", "HTTP/1.1 999 ?", "HTTP/1.1 099 ?",
    "HTTP/1.0 200 OK", "HTTP/2 200", "ICY 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "",
    "HTTP/1.1 200 \u00e9",
])  # fmt: skip


def read(kind: type[http.client.HTTPResponse], data: bytes) -> tuple[object, ...]:
    """What a response class makes of an answer: its head, its body, and whether the connection may go on."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        response = kind(ours, method="GET")
        try:
            response.begin()
            head = (
                response.version, response.status, response.code, response.reason, response.msg.items(),
                [str(d) for d in response.msg.defects], response.headers is response.msg, response.length,
                response.chunked, response.will_close,
            )  # fmt: skip
            return *head, response.read(50), response.isclosed()
        except http.client.HTTPException as error:
            return type(error), str(error)
        except ValueError as error:
            return type(error), ""
        finally:
            response.close()


@given(FIRST, st.lists(LINES, max_size=6), st.binary(max_size=8))
@example("HTTP/1.1 200 OK", ["Content-Length: 5"], b"12345678")
@example("HTTP/1.1 200 OK", ["Content-Length: 5", "Content-Length: 5"], b"12345")
@example("HTTP/1.1 200 OK", ["X-More: 1"] * 101 + ["Content-Length: 5"], b"12345")
@example("HTTP/1.1 200 OK", ["X-Much: " + "x" * 9000, "Content-Length: 5"], b"12345")
def test_a_head_is_read_as_the_standard_library_reads_it(first, lines, body):
    data = "\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace") + body

    assert read(Response, data) == read(http.client.HTTPResponse, data)


@pytest.mark.parametrize(
    ("head", "ordinary"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: not all of it", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n folded\r\n\r\n", False),
        (b"", False),
    ],
)
def test_what_is_plain(head, ordinary):
    assert (plain(head + b"body" if ordinary else head) is not None) == ordinary


def test_the_body_begins_where_the_head_ends():
    head = plain(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\r\n\r\n")

    assert head is not None
    assert (
        io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\r\n\r\n").read()[head.size :]
        == b"\r\n\r\n"
    )


@given(st.from_regex(_PLAIN_URL, fullmatch=True))
@example("https://pbs.example.org/media/Ab-1_x.jpg?format=jpg&name=orig")
@example("http://127.0.0.1:8080/h1/2.jpg")
def test_a_plain_url_is_one_that_requests_sends_as_it_stands(url):
    found = _PLAIN_URL.fullmatch(url)
    assert found is not None
    request = PreparedRequest()

    try:
        request.prepare_url(url, None)
    except InvalidURL:
        return  # a port or name that cannot be, which connecting refuses as well

    assert request.url == url
    assert request.path_url == found[4]


def test_a_pool_is_kept_for_a_host_and_made_anew_when_it_was_let_go():
    adapter = CheckedAdapter(2, lambda host, port: [], is_public)

    first = adapter._pool("https", "a.example", None)
    again = adapter._pool("https", "a.example", None)
    prepared = adapter.poolmanager.connection_from_host("a.example", None, "https")
    adapter.poolmanager.clear()
    anew = adapter._pool("https", "a.example", None)

    assert first is again is prepared
    assert (first.host, first.port, first.scheme) == ("a.example", 443, "https")
    assert anew is not first
    assert (anew.host, anew.port) == ("a.example", 443)
