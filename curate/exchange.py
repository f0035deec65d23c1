"""One GET over a connection that is open already, written and read at a fraction of what a library takes.

Nearly every answer to a download is ordinary: HTTP/1.1, one known length, the connection stays open. Such a
one is read here, from the socket. Whatever is out of the ordinary is left to the libraries, with all that was
read of it so far; so are new connections, and URLs that need preparing.

https://www.rfc-editor.org/rfc/rfc9112 says what messages look like.
"""

import http.client
import io
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPHeaderDict, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import IncompleteRead, ProtocolError

from curate.deadline import at_once

HEAD = 1 << 14
"""Bytes that are read at first; the head of an answer is a few hundred of them."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_STATUS = re.compile(r"HTTP/1\.1 ([2-5]\d\d)(?: ([ -~]*))?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")
_FIELDS = 100
_LENGTH = re.compile(r"[0-9]{1,18}")
_SENDABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Head(NamedTuple):
    """The head of an answer, and how many bytes of it there are."""

    size: int
    status: int
    reason: str
    fields: list[tuple[str, str]]
    length: int


def plain(data: bytes) -> Head | None:
    """The head that `data` begins with, if all of it is there and nothing about it is out of the ordinary.

    Ordinary is a body of one known length, on a connection that stays open. For anything else it is None, and
    the standard library decides.
    """
    end = data.find(b"\r\n\r\n")
    first, *lines = data[: max(end, 0)].decode("latin-1").split("\r\n")
    told = _STATUS.fullmatch(first)
    if told is None or len(lines) > _FIELDS or told[1] in ("204", "304"):
        return None
    fields = []
    lengths = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field.groups()
        match name.lower():
            case "transfer-encoding":
                return None
            case "connection" if value.lower() != "keep-alive":
                return None
            case "content-length":
                lengths.append(value)
        fields.append((name, value))
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        return None
    return Head(end + 4, int(told[1]), (told[2] or "").strip(), fields, int(lengths[0]))


# ---------------------------------------------------------------- an ordinary exchange


class Fields(Mapping[str, str]):
    """The fields of a head by name, in any case; those that came several times are one, as in urllib3."""

    __slots__ = ("_all",)

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._all: dict[str, list[str]] = {}
        for name, value in fields:
            self._all.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._all[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._all

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default`; what the base class has for it costs several times as much."""
        found = self._all.get(name.lower())
        return default if found is None else ", ".join(found)

    def getlist(self, name: str) -> list[str]:
        """Every value by itself."""
        return self._all.get(name.lower(), [])


class Answer:
    """An ordinary answer: as much of urllib3's response as downloads use, its body read from the socket.

    Its connection is back in the pool as soon as the body has ended, if nothing came behind it.
    """

    def __init__(
        self, pool: HTTPConnectionPool, connection: HTTPConnection, head: Head, begun: bytes
    ) -> None:
        self.status = head.status
        self.headers = Fields(head.fields)
        self.surplus = False
        self._pool, self._connection = pool, connection
        self._open = True
        self._held, self._read, self._left = begun, 0, head.length
        if not self._left:
            self._end()

    def get_redirect_location(self) -> str | None:
        """Where else to ask, if that is what it says."""
        return self.headers.get("Location") if self.status in REDIRECTS else None

    def read1(self, amount: int, decode_content: bool = False) -> bytes:
        """Some bytes of the body, as they came; none when it has ended.

        Raises:
            IncompleteRead: the connection ended before the body did.
            OSError: it broke.
        """
        amount = min(amount, self._left)
        if not amount:
            return b""
        if self._held:
            data, self._held = self._held[:amount], self._held[amount:]
        else:
            data = self._connection.sock.recv(amount)
        if not data:
            self.close()
            raise IncompleteRead(self._read, self._left)
        self._read += len(data)
        self._left -= len(data)
        if not self._left:
            self._end()
        return data

    def read(self, amount: int, decode_content: bool = False) -> bytes:
        """So many bytes of the body, or all that are left of it."""
        parts = []
        while amount and (part := self.read1(amount)):
            parts.append(part)
            amount -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the connection; what was not read of the body is not wanted."""
        if self._open:
            self._open = False
            _drop(self._pool, self._connection)

    def _end(self) -> None:
        self.surplus = bool(self._held) or self._more()
        if self.surplus:
            self.close()
        elif self._open:
            self._open = False
            self._pool._put_conn(self._connection)

    def _more(self) -> bool:
        """Whether there is something to read at once; a connection with that is of no further use."""
        sock = self._connection.sock
        try:
            with at_once(sock):
                return bool(sock.recv(1))
        except OSError:
            return False


def ask(
    pool: HTTPConnectionPool, host: str, path: str, headers: Mapping[str, str], timeout: float
) -> Answer | BaseHTTPResponse | None:
    """The answer to a GET over an open connection of the pool; None if it has none, or for odd headers.

    Args:
        pool: of the host.
        host: its name, with the port if it is another than usual.
        path: what to ask for, as it is to be sent.
        headers: sent as they are, after `Host`.
        timeout: seconds that one read may take.

    Raises:
        OSError, ProtocolError: what went wrong.
    """
    fields = _sent(tuple(headers.items()))
    connection = cast(HTTPConnection, pool._get_conn()) if fields else None
    if connection is None or connection.sock is None:
        if connection is not None:
            pool._put_conn(connection)
        return None
    try:
        connection.sock.settimeout(timeout)
        connection.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
        data = connection.sock.recv(HEAD)
        head = plain(data)
        if head is None:
            return _left_to_the_library(pool, connection, data)
    except http.client.HTTPException as error:
        _drop(pool, connection)
        raise ProtocolError("no answer that can be understood", error) from error
    except BaseException:
        _drop(pool, connection)
        raise
    return Answer(pool, connection, head, data[head.size :])


@lru_cache(maxsize=64)
def _sent(headers: tuple[tuple[str, str], ...]) -> str:
    """Headers as they are sent; nothing where the library should look at them."""
    parts = [part for pair in headers for part in pair]
    if not all(_SENDABLE.fullmatch(part) for part in parts):
        return ""
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _drop(pool: HTTPConnectionPool, connection: HTTPConnection) -> None:
    connection.close()
    pool._put_conn(None)


# ---------------------------------------------------------------- out of the ordinary


class Response(http.client.HTTPResponse):
    """A response that knows whether more came than its Content-Length announced."""

    surplus = False

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, **kw: Any
    ) -> None:
        super().__init__(sock, debuglevel, method=method, **kw)
        self._socket, self._asked = sock, method

    @classmethod
    def begun(cls, sock: socket.socket, data: bytes) -> "Response":
        """The answer to a GET of which `data` was read before."""
        found = cls(cast(socket.socket, _Reread(sock, data)), method="GET")
        found._socket = sock
        found.begin()
        return found

    def begin(self) -> None:
        """Read the head of the answer; the library's way, by its parser for e-mail, is a slow one."""
        begun = getattr(self, "headers", None) is not None
        head = None if begun or self._asked != "GET" else plain(self.fp.peek())
        if head is None:
            super().begin()
            return
        self.fp.read(head.size)
        self.version, self.status, self.reason = 11, head.status, head.reason
        self.code = self.status
        self.headers = self.msg = http.client.HTTPMessage()
        for name, value in head.fields:
            self.headers[name] = value
        self.length, self.chunked, self.will_close = head.length, False, False

    def _close_conn(self) -> None:
        if self.length == 0 and self.fp is not None:
            self.surplus = self._more()
        super()._close_conn()  # type: ignore[misc]

    def _more(self) -> bool:
        """Whether there is something to read at once; a connection with that is of no further use."""
        try:
            with at_once(self._socket):
                more = bool(self.fp.peek(1))
        except OSError:
            more = False
        if more:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        return more


class _Reread(NamedTuple):
    """A socket to read from, of which `data` was read before."""

    sock: socket.socket
    data: bytes

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        return io.BufferedReader(_Rest(self.sock.makefile(mode, buffering=0), self.data))


class _Rest(io.RawIOBase):
    """What was read before, then what comes."""

    def __init__(self, raw: Any, data: bytes) -> None:
        self._raw, self._data = raw, data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._data:
            return cast("int | None", self._raw.readinto(buffer))
        size = min(len(buffer), len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left_to_the_library(
    pool: HTTPConnectionPool, connection: HTTPConnection, data: bytes
) -> BaseHTTPResponse:
    """What urllib3 makes of an answer of which `data` was read before."""
    response = Response.begun(cast(socket.socket, connection.sock), data)
    if response.will_close:
        connection.close()  # as the standard library does; the answer has the socket for itself
    return HTTPResponse(
        body=cast(Any, response),
        headers=HTTPHeaderDict((name, _unfolded(text)) for name, text in response.msg.items()),
        status=response.status,
        version=response.version,
        reason=response.reason,
        preload_content=False,
        decode_content=False,
        original_response=response,
        pool=pool,
        connection=connection,
        request_method="GET",
    )


def _unfolded(value: str) -> str:
    """A value on one line."""
    first, *more = value.split("\r\n")
    if not more:
        return value
    *between, last = (part.lstrip(" \t") for part in more)
    return " ".join([*(part.rstrip(" \t") for part in (first, *between)), last])


def has_surplus(response: BaseHTTPResponse | Answer) -> bool:
    """Whether more came than the answer, read to its end, had announced."""
    told = (
        response if isinstance(response, Answer) else getattr(response, "_original_response", None)
    )
    return bool(getattr(told, "surplus", False))
