"""How a platform's server is asked: over TLS, at a public address, within bounds, no faster than it allows.

Addresses are checked as those of media are (`curate.connect`); only a server that the policy's
mirrors name may be private, or without TLS. Redirects are not followed: they would take a token
along. A server that asks for a pause gets it, up to a quarter of an hour: beyond that the capture
ends with what it has, and goes on when it is started again.
"""

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from curate.collectors.reading import iso_time
from curate.connect import CheckedAdapter, cause_of, is_public, resolve
from curate.connect import Refused as PrivateAddress
from curate.deadline import time_limit
from curate.live.contract import Page, Record, Refused, Stopped
from schemas.errors import InputError
from schemas.policy import FetchPolicy

MAX_PAGE = 10 * 2**20
"""Bytes of one answer, unpacked; a real page of 100 posts is below 2 MiB."""
MAX_WAIT_S = 900.0
"""Longest pause a server gets; the windows of the platforms' limits are 5 to 10 minutes."""
FIRST_WAIT_S = 1.0
TELL_WAIT_S = 5.0
"""A pause this long is told, so that nobody takes it for a hang."""
MAX_STALE = 4
"""Pages in a row without a record that is new before the server is taken to repeat itself."""
CHUNK = 1 << 16
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
FINAL = frozenset({"private-address", "bad-url", "tls"})
"""Causes that another try does not mend."""

T = TypeVar("T")


class Again(Exception):
    """An answer that may be another one soon: what it was, and how long the server says to wait."""

    def __init__(self, problem: str, wait_s: float = 0.0) -> None:
        self.problem, self.wait_s = problem, wait_s
        super().__init__(problem)


class Asking:
    """Asks servers under a policy, and counts the pages that came.

    Args:
        policy: timeouts, tries, mirrors and the name we give ourselves.
        say: told of every long pause.
        hidden: secrets, which no message may repeat.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        say: Callable[[str], None] = lambda _: None,
        *,
        hidden: tuple[str, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = policy
        self.pages = 0
        self.session = open_session(policy)
        self._say = say
        self._hidden = hidden
        self._sleep = sleep
        self._rest_until = 0.0
        self._why = ""

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def base(self, server: str) -> str:
        """Where `server` is asked: `https://HOST`, or the mirror that the policy gives it.

        Raises:
            InputError: it is no such address, or its mirror is a folder.
        """
        host = host_of(server)
        mirror = self.policy.mirrors.get(host.rpartition(":")[0] or host)
        if mirror is None:
            return f"https://{host}"
        if not mirror.startswith(("http://", "https://")):
            raise InputError(f"the mirror of {host} is a folder, which answers nothing; give a URL")
        return mirror.rstrip("/")

    def get(
        self,
        url: str,
        read: Callable[[requests.Response], T],
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """What `read` makes of the answer, asked again while its failure may pass.

        Raises:
            Stopped: the server refuses, or does not answer as its API does.
        """
        return self.persist(host_of(url), lambda: self._read("GET", url, read, params, headers))

    def post(self, url: str, body: Mapping[str, str], read: Callable[[requests.Response], T]) -> T:
        """The same of JSON that is posted."""
        return self.persist(host_of(url), lambda: self._read("POST", url, read, None, None, body))

    def persist(self, host: str, ask: Callable[[], T]) -> T:
        """`ask` until it does not raise `Again`, with the pauses that are due.

        Raises:
            Stopped: the tries are used up, or the pause asked for is too long.
        """
        for attempt in range(1, self.policy.attempts + 1):
            self._rest(host)
            try:
                return ask()
            except Again as again:
                if attempt == self.policy.attempts:
                    raise Stopped(f"{host} {again.problem}, {attempt} times") from None
                self._owe(max(again.wait_s, FIRST_WAIT_S * 2 ** (attempt - 1)), again.problem)
        raise AssertionError("the policy allows no attempt")

    def _read(
        self,
        method: str,
        url: str,
        read: Callable[[requests.Response], T],
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        body: Mapping[str, str] | None = None,
    ) -> T:
        host = host_of(url)
        try:
            response = self.session.request(
                method, url, params=params, headers=headers, json=body,
                timeout=self.policy.timeout_s, allow_redirects=False,
            )  # fmt: skip
        except (requests.RequestException, HTTPError, OSError) as error:
            raise unanswered(host, error) from None
        self.heed(response.headers)
        if response.status_code in PASSING:
            raise Again(f"answers {response.status_code}", wait_of(response.headers))
        if response.status_code != 200:
            raise self._refusal(host, response)
        try:
            return read(response)
        except (msgspec.DecodeError, UnicodeError):
            raise Again("answers something else than its API gives") from None

    def _refusal(self, host: str, response: requests.Response) -> Stopped:
        if response.is_redirect:
            to = _named(response.headers["Location"])
            return Stopped(
                f"{host} sends to {to}, which is not followed; ask there if you trust it"
            )
        error, told = _reason(response.content)
        for secret in self._hidden:
            told = told.replace(secret, "***")
        return Refused(host, response.status_code, told, error)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Remember the pause that is due when the server's allowance is used up."""
        left = _number(_limit(headers, "Remaining"))
        if left is not None and left < 1:
            self._owe(_reset_in(headers) or FIRST_WAIT_S, "allows no more for now")

    def _owe(self, wait_s: float, why: str) -> None:
        """A pause before the next request; not at once, so that what came is kept first."""
        self._rest_until = max(self._rest_until, time.monotonic() + wait_s)
        self._why = why

    def _rest(self, host: str) -> None:
        """The pause that is due.

        Raises:
            Stopped: it is too long.
        """
        wait_s = self._rest_until - time.monotonic()
        if wait_s <= 0:
            return
        if wait_s > MAX_WAIT_S:
            raise Stopped(f"{host} {self._why}; go on in {wait_s:.0f} s")
        if wait_s >= TELL_WAIT_S:
            self._say(f"{host} {self._why}; waiting {wait_s:.0f} s")
        self._sleep(wait_s)
        self._rest_until = 0.0


def paged(
    asking: Asking,
    ask: Callable[[str | None], Page],
    *,
    first: str | None = None,
    since: datetime | None = None,
) -> Iterator[Record]:
    """The records of page after page, once each, from `first` on, down to `since`.

    It ends with a whole page older than `since`, so that one that is out of order ends nothing.

    Raises:
        Stopped: the server repeats its pages.
    """
    cursor, met, stale = first, set[str](), 0
    while True:
        page = ask(cursor)
        asking.pages += 1
        fresh = [r for r in page.records if r.key not in met]
        met.update(r.key for r in fresh)
        recent = [r for r in fresh if since is None or r.time is None or r.time >= since]
        yield from recent
        cursor = page.following
        stale = 0 if fresh else stale + 1
        if cursor is None or (fresh and not recent):
            return
        if stale >= MAX_STALE:
            raise Stopped(
                "the server repeats its pages; what it lists beyond them is not to be had"
            )


# ---------------------------------------------------------------- deciding


def host_of(address: str) -> str:
    """The host, with its port, of `https://HOST` or of `HOST`.

    Raises:
        InputError: it is another scheme, or holds a user name or what no address has.
    """
    full = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise InputError("the server's address cannot be used; expected https://HOST")
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def secure(server: str) -> str:
    """`server` as `https://HOST`, with nothing behind it.

    Raises:
        InputError: it asks for less than TLS, or for more than a host.
    """
    host = host_of(server)
    if server.startswith("http://"):
        raise InputError(f"--server {host} without TLS is not asked; expected https://{host}")
    if urlsplit(server if "://" in server else f"https://{server}").path.strip("/"):
        raise InputError(f"--server takes no path; expected https://{host}")
    return f"https://{host}"


def unanswered(host: str, error: BaseException) -> Exception:
    """The exception for a request that had no answer: `Again`, or `Stopped` where that is no use."""
    if isinstance(error, TooLong):
        return Stopped(f"{host} answers with more than {MAX_PAGE} bytes, which no page has")
    cause = cause_of(error)
    if cause in FINAL:
        return Stopped(f"{host} cannot be asked: {cause}")
    return Again(f"does not answer ({cause})")


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks to wait, by Retry-After or by when its allowance is renewed."""
    stated = headers.get("Retry-After", "")
    seconds = _number(stated)
    if seconds is None and stated:
        try:
            seconds = (parsedate_to_datetime(stated) - _server_time(headers)).total_seconds()
        except (ValueError, TypeError):
            seconds = None
    return max(0.0, seconds if seconds is not None else _reset_in(headers) or 0.0)


def _reset_in(headers: Mapping[str, str]) -> float | None:
    """Seconds until the allowance is renewed: a time in ISO 8601, in seconds since 1970, or a span."""
    stated = _limit(headers, "Reset")
    number = _number(stated)
    here = _server_time(headers)
    if number is not None:
        return max(0.0, number - here.timestamp() if number > 1e8 else number)
    then = iso_time(stated)
    return max(0.0, (then - here).total_seconds()) if then else None


def _named(address: str) -> str:
    """The host that a redirect names, or that it names none."""
    try:
        return host_of(address) if "://" in address else "another page"
    except InputError:
        return "an address that is none"


def _limit(headers: Mapping[str, str], word: str) -> str:
    return headers.get(f"X-RateLimit-{word}") or headers.get(f"RateLimit-{word}") or ""


def _server_time(headers: Mapping[str, str]) -> datetime:
    """The server's own time, since our clock may be wrong by minutes."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return datetime.now(UTC)


def _number(text: str) -> float | None:
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


class _Reason(msgspec.Struct):
    """How Mastodon, Bluesky and Reddit say no."""

    error: str | int | None = None
    message: str | None = None


def _reason(body: bytes) -> tuple[str, str]:
    """The name of an error and what is said of it; nothing where the body is no JSON of that kind."""
    try:
        found = msgspec.json.decode(body, type=_Reason)
    except (msgspec.DecodeError, UnicodeError):
        return "", ""
    words = [str(w) for w in (found.error, found.message) if w]
    return str(found.error or ""), " ".join(": ".join(words).split())[:160]


# ---------------------------------------------------------------- connecting


class TooLong(requests.RequestException):
    """A body that outgrew its bound."""


def open_session(policy: FetchPolicy) -> requests.Session:
    """A session that reaches public addresses over TLS, the mirrors of the policy, and nothing else."""
    session = requests.Session()
    session.trust_env = False  # no proxy, no netrc: they would reach past the address check
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"User-Agent": policy.user_agent, "Accept": "application/json"})
    session.adapters.clear()
    session.mount("https://", _Bounded(policy, is_public))
    anywhere = _Bounded(policy, lambda _: True)
    for base in policy.mirrors.values():
        if base.startswith(("http://", "https://")):
            session.mount(base.rstrip("/") + "/", anywhere)
    return session


class _Bounded(CheckedAdapter):
    """Addresses are checked, and bodies read here and now, up to a size and a time."""

    def __init__(self, policy: FetchPolicy, allowed: Callable[[str], bool]) -> None:
        self._time_s = policy.total_timeout_s
        super().__init__(4, resolve, allowed)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """The answer, its body read.

        Raises:
            requests.RequestException: whatever went wrong, so that PRAW can tell it, too.
        """
        try:
            with time_limit(time.monotonic() + self._time_s):
                response = super().send(request, *args, **{**kwargs, "stream": True})
                response.raw = io.BytesIO(_body(response.raw))
        except requests.RequestException:
            raise
        except (ReadTimeoutError, TimeoutError) as error:
            raise requests.ReadTimeout(error) from error
        except PrivateAddress as error:
            raise requests.exceptions.InvalidURL(error) from error
        except (HTTPError, OSError) as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error
        return response


def _body(raw: Any) -> bytes:
    parts, size = [], 0
    try:
        while chunk := raw.read1(CHUNK, decode_content=True):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_PAGE:
                raise TooLong
        if raw.length_remaining:
            raise requests.exceptions.ChunkedEncodingError("the answer is cut off")
    except BaseException:
        raw.close()
        raise
    raw.release_conn()
    return b"".join(parts)
