"""Connections that go where they were checked to go, and end when their time is over.

A name is resolved here, every address it has is checked, and the connection goes to a checked
address itself, so that a second answer of the name server cannot lead elsewhere
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
TLS still verifies the name. Every single read ends at the deadline of the whole download: a server that
sends one byte now and then, in its headers or its body, cannot hold a worker.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
import urllib3
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL, MissingSchema
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import (
    BaseHTTPResponse,
    HTTPConnectionPool,
    HTTPSConnectionPool,
    PoolManager,
    Timeout,
)
from urllib3.connection import HTTPConnection, HTTPSConnection, port_by_scheme
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    InvalidChunkLength,
    InvalidHeader,
    LocationValueError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.poolmanager import PoolKey
from urllib3.util.ssl_ import create_urllib3_context

from curate.deadline import LimitedSocket, LimitedTLSSocket
from curate.exchange import Answer, Response, ask

Resolver = Callable[[str, int], list[str]]
Allowed = Callable[[str], bool]

KNOWN_FOR_S = 60.0
"""How long the addresses of a host are remembered; each new connection checks them again."""
UNKNOWN_FOR_S = 5.0
"""How long a name that could not be resolved is not asked for again."""
HOSTS = 256
"""Hosts whose idle connections are kept."""

_PLAIN_URL = re.compile(
    r"(https?)://((?:[a-z0-9][a-z0-9-]*\.)*[a-z0-9][a-z0-9-]*)(?::([1-9][0-9]{0,4}))?"
    r"((?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?(?:\?[A-Za-z0-9._~=&-]+)?)"
)
"""URLs that requests would send as they stand; any other is prepared by it."""
_AZURE_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")  # metadata service on a public address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """The name leads to an address that we do not speak to."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also looked at through IPv6 wrappings."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            inner = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return bool(ip.is_global and not ip.is_multicast and ip != _AZURE_WIRE_SERVER)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the order of the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Addresses:
    """The addresses of hosts, each remembered for a short time; one instance may be shared by threads."""

    def __init__(
        self, resolver: Resolver, allowed: Allowed, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[float, list[str] | OSError]] = {}

    def of(self, host: str, port: int) -> list[str]:
        """The addresses to connect to.

        Raises:
            OSError: the name has none.
            Refused: any of them is not public.
        """
        until, found = self._known.get((host, port), (0.0, []))
        if self._clock() >= until:
            until, found = self._known[host, port] = self._asked(host, port)
        if isinstance(found, OSError):
            raise found
        if not all(self._allowed(address) for address in found):
            raise Refused(host)
        return found

    def _asked(self, host: str, port: int) -> tuple[float, list[str] | OSError]:
        try:
            found = self._resolver(host, port)
        except OSError as error:
            return self._clock() + UNKNOWN_FOR_S, error
        if not found:
            return self._clock() + UNKNOWN_FOR_S, socket.gaierror(f"{host} has no address")
        return self._clock() + KNOWN_FOR_S, found


# ---------------------------------------------------------------- connections


class CheckedAdapter(HTTPAdapter):
    """How requests connects here: to addresses that were checked, under the name that was asked for.

    Nothing of the environment is used: a proxy would resolve for itself.

    Args:
        size: idle connections kept per host.
        resolver: addresses of a host.
        allowed: whether an address may be spoken to.
    """

    def __init__(self, size: int, resolver: Resolver, allowed: Allowed) -> None:
        self._addresses = Addresses(resolver, allowed)
        self._connections: WeakSet[HTTPConnection] = WeakSet()
        self._begun: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._over = False
        self._keys: dict[tuple[str, str, int | None], tuple[PoolKey, dict[str, Any]]] = {}
        super().__init__(pool_connections=HOSTS, pool_maxsize=size)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kw: Any
    ) -> None:
        """Pools whose connections check before they connect; authorities are loaded once for all."""
        manager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=_context(), **kw
        )
        manager.pool_classes_by_scheme = _pools(self._connect)
        self.poolmanager = manager

    def get(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> Answer | BaseHTTPResponse:
        """The answer to one GET, its body not yet read, no redirect followed.

        What `send` does around it (cookies, proxies, authority files, errors of its own) is not wanted here.
        """
        if plain := _PLAIN_URL.fullmatch(url):
            scheme, host, port, path = plain.groups()
            pool = self._pool(scheme, host, int(port) if port else None)
            name = host if pool.port == port_by_scheme[scheme] else f"{host}:{pool.port}"
            answer = ask(pool, name, path, headers, timeout)
            if answer is not None:
                return answer
        else:
            request = PreparedRequest()
            request.prepare_url(url, None)
            pool, path = self.get_connection_with_tls_context(request, True), request.path_url
        return pool.urlopen(
            "GET",
            path,
            headers=headers,
            timeout=Timeout(connect=timeout, read=timeout),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )

    def _pool(self, scheme: str, host: str, port: int | None) -> HTTPConnectionPool:
        """The pool of a host; its key, which takes longer to make than to use, is made once."""
        keyed = self._keys.get((scheme, host, port))
        if keyed is None:
            if len(self._keys) >= HOSTS:
                self._keys.clear()
            about = {**self.poolmanager.connection_pool_kw, "scheme": scheme, "host": host}
            about["port"] = port_by_scheme[scheme] if port is None else port
            keyed = self.poolmanager.key_fn_by_scheme[scheme](about), about
            self._keys[scheme, host, port] = keyed
        key, about = keyed
        pool: HTTPConnectionPool = self.poolmanager.connection_from_pool_key(key, dict(about))
        return pool

    def abort(self) -> None:
        """End every connection where it is, for good: whoever reads from one gets an error at once."""
        with self._lock:
            self._over = True
            sockets = [connection.sock for connection in self._connections]
            sockets += self._begun
        for sock in sockets:
            with suppress(OSError, AttributeError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self, connection: HTTPConnection) -> socket.socket:
        """A socket for `connection`, to an address that was checked."""
        timeout = connection.timeout if isinstance(connection.timeout, int | float) else None
        addresses = self._addresses.of(connection.host.strip("[]"), connection.port)
        sock = _connected(addresses, connection.port, timeout, self._noted)
        with self._lock:
            self._refuse_if_over(sock)
            connection.sock = sock
            self._connections.add(connection)
        return sock

    @contextmanager
    def _noted(self, sock: socket.socket) -> Iterator[None]:
        """In the block `sock` is about to connect, and is ended with all others."""
        with self._lock:
            self._refuse_if_over(sock)
            self._begun.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._begun.discard(sock)

    def _refuse_if_over(self, sock: socket.socket) -> None:
        if self._over:
            sock.close()
            raise ConnectionAbortedError("the download was ended")

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """The pool of the request's host."""
        parts = urlsplit(str(request.url))
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            parts.hostname, parts.port, parts.scheme
        )
        return pool

    def cert_verify(self, *_: Any) -> None:
        """Nothing: the context has its authorities, and always verifies."""

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The path: there are no proxies."""
        return request.path_url


@cache
def _context() -> ssl.SSLContext:
    """What TLS trusts, the same for all: to read the authorities takes as long as many a download."""
    context = create_urllib3_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.sslsocket_class = LimitedTLSSocket
    return context


def _pools(connect: Callable[[HTTPConnection], socket.socket]) -> dict[str, type]:
    """Pool classes whose connections get their sockets from `connect`."""
    parts = {"_new_conn": lambda self: connect(self), "response_class": Response}
    plain = type("CheckedConnection", (HTTPConnection,), parts)
    secure = type("CheckedTLSConnection", (HTTPSConnection,), parts)
    return {
        "http": type("CheckedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("CheckedTLSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def _connected(
    addresses: list[str],
    port: int,
    timeout: float | None,
    noted: Callable[[socket.socket], AbstractContextManager[None]],
) -> socket.socket:
    """A connection to the first address that answers; `noted` knows of each while it is being made.

    Raises:
        OSError: none does; what the last one said.
    """
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = LimitedSocket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with noted(sock):
                sock.connect((address, port))
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


# ---------------------------------------------------------------- failing


def cause_of(error: BaseException) -> str:
    """A short, stable word for what went wrong, from the innermost error that tells."""
    seen: list[BaseException] = []
    stack: list[Any] = [error]
    while stack:
        here = stack.pop()
        if isinstance(here, BaseException) and here not in seen:
            seen.append(here)
            stack += [*here.args, getattr(here, "reason", None), here.__cause__, here.__context__]
    for kind, word in _CAUSES:
        if any(isinstance(one, kind) for one in seen):
            return word
    return "connection"


_CAUSES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (Refused, "private-address"),
    (socket.gaierror, "dns"),
    ((InvalidURL, MissingSchema, LocationValueError, UnicodeError), "bad-url"),
    (ssl.SSLEOFError, "reset"),
    ((urllib3.exceptions.SSLError, requests.exceptions.SSLError, ssl.SSLError), "tls"),
    ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "reset"),
    (ConnectionRefusedError, "refused"),
    ((IncompleteRead, InvalidChunkLength), "length-mismatch"),
    (NewConnectionError, "connection"),  # urllib3 derives it from its connect timeout
    ((requests.Timeout, ConnectTimeoutError, ReadTimeoutError, TimeoutError), "timeout"),
    ((http.client.HTTPException, InvalidHeader), "bad-response"),
)
