"""One URL in, the bytes exactly as served or a short cause out. Never an exception for a bad URL.

One call is one try, along its redirects; who tries again, and when, is the business of `curate.fetch`. Only
public addresses are spoken to (`curate.connect`), and each redirect is checked anew. Only a mirror that the
workspace's policy names may be private.

A body that breaks off is asked for again from where it ended, if the server vouches that the rest belongs to
the same bytes (https://www.rfc-editor.org/rfc/rfc9110#name-if-range); else from its beginning.

What X-Robots-Tag forbids is not kept, by default: `noai` and `noimageai` whoever they are addressed to, and
`noindex`, `noimageindex` and `none` where they are addressed to all or to us, as img2dataset does
(https://github.com/rom1504/img2dataset#opt-out-directives).
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import requests
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from curate.connect import CheckedAdapter, Refused, Resolver, cause_of, is_public, resolve
from curate.deadline import time_limit
from curate.exchange import Answer, has_surplus
from curate.placeholders import is_placeholder, is_placeholder_url

if TYPE_CHECKING:
    from schemas.policy import FetchPolicy

MAX_REDIRECTS = 5
CHUNK = 1 << 17
WORTH_READING = 1 << 16
"""Bytes of an answer nobody wants that are read all the same, to keep its connection."""
TRANSIENT = frozenset({"timeout", "reset", "length-mismatch", "connection", "http-429"})
"""Causes that may be gone in a moment; HTTP 5xx besides."""
PASSING = TRANSIENT | {"dns", "refused", "bad-response", "host-silent", "export-missing"}
"""Causes that a later run may find gone: besides those, a machine, a host or a disk that was away."""
BROKEN_OFF = frozenset({"reset", "length-mismatch", "connection"})
"""Causes after which the rest of a body can be asked for."""

_NO_AI = frozenset({"noai", "noimageai"})
_NO_INDEX = frozenset({"noindex", "noimageindex", "none"})
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "br", "zstd", "dcb", "dcz"})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
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


@dataclass(frozen=True, slots=True)
class Received:
    """What came of one URL: bytes exactly as served, or the cause of the failure.

    `url` is the address that answered last; `retry_after` the seconds of quiet it asks for.
    """

    data: bytes | None
    failure: str | None
    status: int | None
    served_type: str | None
    url: str
    retry_after: float | None = field(default=None, compare=False)

    @property
    def may_pass(self) -> bool:
        """Whether the failure may be gone in a moment."""
        failure = self.failure or ""
        return failure in TRANSIENT or failure.startswith("http-5")


def failed(cause: str, url: str = "") -> Received:
    """What stands for bytes that did not come."""
    return Received(None, cause, None, None, url)


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of a picture format, whatever the name or type claims."""
    if data.startswith(_MAGIC):
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return True
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return True
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def problem_of(data: bytes) -> str | None:
    """Why bytes are not a picture worth keeping; a picture that is damaged is."""
    if not data:
        return "empty"
    if not looks_like_image(data):
        return "not-an-image"
    return "placeholder" if is_placeholder(data) else None


class Downloader:
    """Fetches URLs under a policy; one instance may be shared by threads.

    Args:
        policy: limits, mirrors and the name we give ourselves.
        honour_opt_out: whether X-Robots-Tag decides.
        resolver: addresses of a host.
        allowed: whether an address may be spoken to.
    """

    def __init__(
        self,
        policy: "FetchPolicy",
        *,
        honour_opt_out: bool = True,
        resolver: Resolver = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self.policy = policy
        self._honour_opt_out = honour_opt_out
        self._headers = {
            "User-Agent": policy.user_agent,
            "Accept": "image/*",
            "Accept-Encoding": "identity",
        }
        self._open = CheckedAdapter(policy.workers, resolver, allowed)
        self._mirror = CheckedAdapter(policy.workers, resolve, lambda _: True)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every pooled connection."""
        self._open.close()
        self._mirror.close()

    def abort(self) -> None:
        """End every download where it is; there will be no other."""
        self._open.abort()
        self._mirror.abort()

    def get(self, url: str, seconds: float | None = None) -> Received:
        """The bytes behind `url`, within so many seconds; one try, along its redirects."""
        allowance = self.policy.total_timeout_s if seconds is None else seconds
        deadline = time.monotonic() + allowance
        with time_limit(deadline):
            return self._follow(url, deadline)

    def _follow(self, url: str, deadline: float) -> Received:
        trusted = ""  # the origin of the mirror that answered the hop before
        for _ in range(MAX_REDIRECTS + 1):
            problem = _problem(url)
            if problem:
                return failed(problem, url)
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
        return failed("too-many-redirects", url)

    def _one(self, url: str, deadline: float, adapter: CheckedAdapter) -> Received | str:
        """The answer of one hop: received, or the next address; a body that breaks off is resumed."""
        begun: _Begun | None = None
        for _ in range(self.policy.attempts):
            answer = self._ask(url, deadline, adapter, begun)
            if not isinstance(answer, _Begun):
                return answer
            if not answer.validator or len(answer.data) <= len(begun.data if begun else b""):
                return answer.received
            begun = answer
        return begun.received if begun else failed("connection", url)

    def _ask(
        self, url: str, deadline: float, adapter: CheckedAdapter, begun: "_Begun | None"
    ) -> "Received | _Begun | str":
        left = deadline - time.monotonic()
        if left <= 0:
            return failed("timeout", url)
        headers = {**self._headers, **(begun.headers if begun else {})}
        try:
            response = adapter.get(url, headers, min(self.policy.timeout_s, left))
            try:
                return self._answer(response, url, deadline, begun)
            finally:
                response.close()  # a connection whose answer was read to its end is back in its pool by now
        except (requests.RequestException, HTTPError, OSError, ValueError, Refused) as error:
            return failed(cause_of(error), url)

    def _answer(
        self, response: Answer | BaseHTTPResponse, url: str, deadline: float, begun: "_Begun | None"
    ) -> "Received | _Begun | str":
        if location := response.get_redirect_location():
            _empty(response)
            location = _readable(location)
            return failed("placeholder", url) if is_placeholder_url(location) else location
        held = b""
        if begun is not None and response.status != 200:
            if not begun.continued_by(response):
                return begun.received
            held = begun.data
        failure = self._refusal(response, url, resumed=bool(held))
        data = b""
        if failure is None:
            data, failure = self._body(response, deadline, held)
        else:
            _empty(response)
        if failure in BROKEN_OFF and data:
            return _Begun(data, _received(b"", failure, response, url), *_vouched(response, begun))
        return _received(data, failure, response, url, begun.length if begun and held else None)

    def _refusal(
        self, response: Answer | BaseHTTPResponse, url: str, *, resumed: bool
    ) -> str | None:
        """Why the body is not worth reading, by status and headers."""
        if response.status != (206 if resumed else 200):
            return f"http-{response.status}"
        if is_placeholder_url(url):
            return "placeholder"
        if self._honour_opt_out and _opts_out(response, self.policy.user_agent):
            return "opted-out"
        if response.headers.get("Content-Encoding", "").strip().lower() in _ENCODINGS:
            return "content-encoding"
        stated = _length(response)
        return "too-large" if stated is not None and stated > self.policy.max_bytes else None

    def _body(
        self, response: Answer | BaseHTTPResponse, deadline: float, held: bytes
    ) -> tuple[bytes, str | None]:
        """`held` and the body as it comes over the wire, and what broke it off."""
        parts, size = [held] if held else [], len(held)  # one part alone is not copied
        stated = _length(response)
        end = None if stated is None else size + stated
        try:
            while chunk := response.read1(
                CHUNK if end is None else min(CHUNK, end - size), decode_content=False
            ):
                parts.append(chunk)
                size += len(chunk)
                if size > self.policy.max_bytes:
                    return b"", "too-large"
                if size == end:
                    break
                if time.monotonic() > deadline:
                    return b"", "timeout"
        except (HTTPError, OSError) as error:
            return b"".join(parts), cause_of(error)
        data = b"".join(parts)
        if (end is not None and size != end) or has_surplus(response):
            return b"" if size == end else data, "length-mismatch"
        return data, None


# ---------------------------------------------------------------- resuming


@dataclass(frozen=True, slots=True)
class _Begun:
    """The beginning of a body, what broke it off, and what vouches for the rest."""

    data: bytes
    received: Received
    validator: str | None
    length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the rest, or for all of it if it has changed."""
        return {"Range": f"bytes={len(self.data)}-", "If-Range": self.validator or ""}

    def continued_by(self, response: Answer | BaseHTTPResponse) -> bool:
        """Whether an answer goes on where this one ended, to the same end."""
        if response.status != 206:
            return False
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            return False
        start, last, total = map(int, found.groups())
        return start == len(self.data) and last + 1 == total and self.length in (None, total)


def _vouched(
    response: Answer | BaseHTTPResponse, begun: _Begun | None
) -> tuple[str | None, int | None]:
    """The validator of a whole body, strong enough for If-Range, and its length."""
    if response.status == 206 and begun is not None:
        return begun.validator, begun.length
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag, _length(response)
    changed, now = (_date(response.headers.get(name)) for name in ("Last-Modified", "Date"))
    if changed is not None and now is not None and (now - changed).total_seconds() >= 1:
        return response.headers["Last-Modified"], _length(response)
    return None, None


# ---------------------------------------------------------------- deciding


def _received(
    data: bytes,
    failure: str | None,
    response: Answer | BaseHTTPResponse,
    url: str,
    length: int | None = None,
) -> Received:
    if failure is None and length is not None and length != len(data):
        failure = "length-mismatch"
    if failure is None:
        failure = problem_of(data)
    return Received(
        data=data if failure is None else None,
        failure=failure,
        status=response.status,
        served_type=response.headers.get("Content-Type"),
        url=url,
        retry_after=_retry_after(response.headers),
    )


def _length(response: Answer | BaseHTTPResponse) -> int | None:
    """Content-Length, where it is one number; a chunked body has none."""
    stated = response.headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in response.headers
    return int(stated) if stated.isdecimal() and stated.isascii() and not chunked else None


def _empty(response: Answer | BaseHTTPResponse) -> None:
    """Read what is left of a short answer, so that its connection can be used again."""
    stated = _length(response)
    if stated is not None and 0 < stated <= WORTH_READING:
        try:
            response.read(stated, decode_content=False)
        except (HTTPError, OSError):
            return  # then the connection is closed, which is all that is lost


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, in either form; a date is seen from the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    when = _date(value)
    if when is None:
        return None
    return max(0.0, (when - (_date(headers.get("Date")) or datetime.now(UTC))).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value or "")
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _opts_out(response: Answer | BaseHTTPResponse, user_agent: str) -> bool:
    """Whether X-Robots-Tag forbids what we do."""
    token = re.split(r"[\s/]", user_agent.strip().lower(), maxsplit=1)[0]
    return _forbids(response.headers.getlist("X-Robots-Tag"), token)


def _forbids(tags: Iterable[str], token: str) -> bool:
    for tag in tags:
        agent = ""  # a name before a colon holds for all that follows it
        for part in re.split("[,;]", tag.lower()):
            name, colon, word = part.partition(":")
            if name.strip() in _VALUED:
                continue
            agent, word = (name.strip(), word.strip()) if colon else (agent, name.strip())
            if word in _NO_AI or (word in _NO_INDEX and agent in ("", "*", token)):
                return True
    return False


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


def _readable(location: str) -> str:
    """A redirect's target: headers are read as Latin-1, servers write UTF-8."""
    try:
        return location.encode("latin-1").decode()
    except UnicodeError:
        return location


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
            return failed("mirror-missing", url)
        if path.stat().st_size > limit:
            return failed("too-large", url)
        data = path.read_bytes()
    except OSError:
        return failed("mirror-missing", url)
    failure = problem_of(data)
    return Received(data if failure is None else None, failure, None, None, url)
