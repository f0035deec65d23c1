"""One URL in, the bytes exactly as served or a short cause out. Never an exception for a bad URL.

Only public addresses are spoken to: the name is resolved here, every address it has is checked,
and the connection goes to the checked address itself, so that a second answer of the name server
cannot lead elsewhere
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
TLS still verifies the name. Redirects are followed by hand, each hop checked anew. Only a mirror
that the workspace's policy names may be private. Proxies of the environment are not used, since
they would resolve for themselves.
"""

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    InvalidChunkLength,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from schemas.policy import FetchPolicy

MAX_REDIRECTS = 5
MAX_WAIT_S = 30.0
"""Longest pause before another try, whatever Retry-After asks for."""
FIRST_WAIT_S = 0.5
CHUNK = 1 << 16
TRANSIENT = frozenset({"timeout", "reset", "length-mismatch", "connection", "http-429"})
"""Causes that may be gone in a moment; HTTP 5xx besides."""
PASSING = TRANSIENT | {"dns", "refused"}
"""Causes that a later run may find gone: besides those, a machine or a host that was offline."""
_OPT_OUT = frozenset({"noai", "noimageai"})
_AZURE_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")  # metadata service on a public address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",
    b"MM\x00*",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
    b"\x00\x00\x00\x0cjP  ",
)

Resolver = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class Received:
    """What came of one URL: bytes exactly as served, or the cause of the failure.

    `url` is the address that answered last.
    """

    data: bytes | None
    failure: str | None
    status: int | None
    served_type: str | None
    url: str
    retry_after: float | None = field(default=None, compare=False)


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of a picture format, whatever the name or type claims."""
    if data.startswith(_MAGIC):
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return True
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return True
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


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


class Downloader:
    """Fetches URLs under a policy; one instance may be shared by threads.

    Args:
        policy: limits, mirrors and the name we give ourselves.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
        resolver: addresses of a host.
        allowed: whether an address may be spoken to.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        resolver: Resolver = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self.policy = policy
        self._clock = clock
        self._sleep = sleep
        self._open = _session(policy, _CheckedAdapter(policy.workers, resolver, allowed))
        self._mirror = _session(policy, HTTPAdapter(pool_maxsize=policy.workers))

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every pooled connection."""
        self._open.close()
        self._mirror.close()

    def get(self, url: str) -> Received:
        """The bytes behind `url`, tried again while the failure may pass and time is left."""
        deadline = self._clock() + self.policy.total_timeout_s
        for attempt in range(self.policy.attempts):
            received = self._follow(url, deadline)
            if attempt == self.policy.attempts - 1 or not _may_pass(received):
                break
            wait = _wait(attempt, received.retry_after)
            if self._clock() + wait >= deadline:
                break
            self._sleep(wait)
        return received

    def _follow(self, url: str, deadline: float) -> Received:
        """One try, along its redirects."""
        trusted = ""  # the origin of the mirror that answered the hop before
        for _ in range(MAX_REDIRECTS + 1):
            problem = _problem(url)
            if problem:
                return _failed(problem, url)
            mirror = _mirrored(url, self.policy.mirrors)
            if isinstance(mirror, Path):
                return _from_folder(mirror, url, self.policy.max_bytes)
            target = mirror or url
            trusted = _origin(target) if mirror or _origin(target) == trusted else ""
            answer = self._one(target, deadline, self._mirror if trusted else self._open)
            if isinstance(answer, Received):
                # What a mirror holds is told under the address it stands for: that outlives the mirror.
                return replace(answer, url=url)
            url = urljoin(url if mirror else target, answer)
        return _failed("too-many-redirects", url)

    def _one(self, url: str, deadline: float, session: requests.Session) -> Received | str:
        """The answer of one hop: received, or the next address."""
        left = deadline - self._clock()
        if left <= 0:
            return _failed("timeout", url)
        timeout = min(self.policy.timeout_s, left)
        try:
            with session.get(url, stream=True, allow_redirects=False, timeout=timeout) as response:
                return self._answer(response, url, deadline)
        except (requests.RequestException, HTTPError, OSError, ValueError, _Refused) as error:
            return _failed(cause_of(error), url)

    def _answer(self, response: requests.Response, url: str, deadline: float) -> Received | str:
        location = response.headers.get("Location")
        if response.is_redirect and location:
            return _failed("placeholder", url) if _is_placeholder(location) else location
        failure = _refusal(response, url, self.policy.max_bytes)
        data = b""
        if failure is None:
            data, failure = self._body(response, deadline)
        if failure is None:
            failure = _content_problem(data, response)
        return Received(
            data=data if failure is None else None,
            failure=failure,
            status=response.status_code,
            served_type=response.headers.get("Content-Type"),
            url=url,
            retry_after=_seconds(response.headers.get("Retry-After")),
        )

    def _body(self, response: requests.Response, deadline: float) -> tuple[bytes, str | None]:
        """The body as it comes over the wire; each read is short, so that time is kept."""
        raw: HTTPResponse = response.raw
        parts, size = [], 0
        try:
            while chunk := raw.read1(CHUNK, decode_content=False):
                parts.append(chunk)
                size += len(chunk)
                if size > self.policy.max_bytes:
                    return b"", "too-large"
                if self._clock() > deadline:
                    return b"", "timeout"
        except (HTTPError, OSError) as error:
            return b"", cause_of(error)
        return b"".join(parts), None


# ---------------------------------------------------------------- deciding


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


def _may_pass(received: Received) -> bool:
    failure = received.failure or ""
    return failure in TRANSIENT or failure.startswith("http-5")


def _wait(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next try: doubled each time, or as the server asks, within reason."""
    return min(MAX_WAIT_S, max(FIRST_WAIT_S * float(2**attempt), retry_after or 0.0))


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; its date form is rare and treated as not given."""
    return float(value) if value is not None and value.strip().isdecimal() else None


def _failed(cause: str, url: str, status: int | None = None) -> Received:
    return Received(None, cause, status, None, url)


def _problem(url: str) -> str | None:
    """Why a URL cannot be asked at all."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):
        return "bad-url"
    if parts.scheme not in ("http", "https"):
        return "bad-scheme" if parts.scheme else "bad-url"
    return "bad-url" if not host or parts.username is not None else None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _mirrored(url: str, mirrors: Mapping[str, str]) -> str | Path | None:
    """The mirror's URL `<base>/<path>`, without the query, or its folder; None if it has none."""
    parts = urlsplit(url)
    base = mirrors.get(parts.hostname or "")
    if base is None:
        return None
    if base.startswith(("http://", "https://")):
        return base.rstrip("/") + parts.path
    return Path(base)


def _from_folder(root: Path, url: str, limit: int) -> Received:
    """A file of a local mirror; links and paths that lead out of it are as good as missing."""
    inside = unquote(urlsplit(url).path).lstrip("/").replace("\0", "")
    try:
        path = (root / inside).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            return _failed("mirror-missing", url)
        if path.stat().st_size > limit:
            return _failed("too-large", url)
        data = path.read_bytes()
    except OSError:
        return _failed("mirror-missing", url)
    failure = _not_an_image(data)
    return Received(data if failure is None else None, failure, None, None, url)


def _is_placeholder(location: str) -> bool:
    return urlsplit(location).path.rsplit("/", 1)[-1] == "removed.png"


def _refusal(response: requests.Response, url: str, limit: int) -> str | None:
    """Why the body is not worth reading, by status and headers."""
    if response.status_code != 200:
        return f"http-{response.status_code}"
    if _is_placeholder(url):
        return "placeholder"
    if _OPT_OUT & set(re.split(r"[,:;\s]+", response.headers.get("X-Robots-Tag", "").lower())):
        return "opted-out"
    if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        return "content-encoding"
    stated = response.headers.get("Content-Length", "")
    return "too-large" if stated.isdecimal() and int(stated) > limit else None


def _content_problem(data: bytes, response: requests.Response) -> str | None:
    stated = response.headers.get("Content-Length", "")
    if stated.isdecimal() and int(stated) != len(data):
        return "length-mismatch"
    return _not_an_image(data)


def _not_an_image(data: bytes) -> str | None:
    if not data:
        return "empty"
    return None if looks_like_image(data) else "not-an-image"


# ---------------------------------------------------------------- connecting


class _Refused(Exception):
    """The name leads to an address that we do not speak to."""


_CAUSES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (_Refused, "private-address"),
    (socket.gaierror, "dns"),
    ((requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeError), "bad-url"),
    ((SSLError, requests.exceptions.SSLError), "tls"),
    ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "reset"),
    (ConnectionRefusedError, "refused"),
    ((IncompleteRead, InvalidChunkLength), "length-mismatch"),
    (NewConnectionError, "connection"),  # urllib3 derives it from its connect timeout
    ((requests.Timeout, ConnectTimeoutError, ReadTimeoutError, TimeoutError), "timeout"),
)


def _session(policy: FetchPolicy, adapter: HTTPAdapter) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxy, no netrc: they would reach past the address check
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update(
        {"User-Agent": policy.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
    )
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _CheckedAdapter(HTTPAdapter):
    """Connections go to an address that was checked, under the name that was asked for."""

    def __init__(self, size: int, resolver: Resolver, allowed: Callable[[str], bool]) -> None:
        self._resolver = resolver
        self._allowed = allowed
        super().__init__(pool_maxsize=size)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kw: Any
    ) -> None:
        """Pools whose connections check before they connect."""
        manager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **kw)
        manager.pool_classes_by_scheme = _pools(self._address)
        self.poolmanager = manager

    def _address(self, host: str, port: int) -> str:
        """The address to connect to.

        Raises:
            _Refused: any of the name's addresses is not public.
        """
        addresses = self._resolver(host, port)
        if not addresses:
            raise socket.gaierror(f"{host} has no address")
        if not all(self._allowed(address) for address in addresses):
            raise _Refused(host)
        return addresses[0]


def _pools(address: Callable[[str, int], str]) -> dict[str, type]:
    """Pool classes whose connections ask `address` where to connect."""

    def connect(self: HTTPConnection) -> socket.socket:
        target = (address(self.host.strip("[]"), self.port), self.port)
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        sock = socket.create_connection(target, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    plain = type("CheckedConnection", (HTTPConnection,), {"_new_conn": connect})
    secure = type("CheckedTLSConnection", (HTTPSConnection,), {"_new_conn": connect})
    return {
        "http": type("CheckedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("CheckedTLSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
