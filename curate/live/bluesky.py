"""Bluesky: posts found by hashtag or words, and the posts with media of one account.

API: https://docs.bsky.app/docs/api/app-bsky-feed-search-posts and
https://docs.bsky.app/docs/api/app-bsky-feed-get-author-feed. What decides:

- searches are for those who are logged in: without an app password the first page is given at
  most, and often none (https://github.com/bluesky-social/atproto/issues/3423). Feeds of an account
  need none;
- a search runs newest first, and its cursor is a place in a list that grows meanwhile. A capture
  goes on by time instead: from the newest of its last hundred records, so that those which are a
  little out of order are met again rather than missed. Several searches are walked side by side;
- a session ends after some hours; then it is begun again.
"""

import heapq
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import requests

from curate.collectors.reading import iso_time
from curate.live.asking import Asking, paged, secure
from curate.live.contract import (
    Asked,
    Done,
    Page,
    Record,
    Refused,
    Stopped,
    line_of,
    plain_tags,
    slug,
)
from schemas.errors import InputError

PLATFORM = "bluesky"
OPTIONS = ("tags", "query", "authors", "server")
SECRETS = ("BLUESKY_IDENTIFIER", "BLUESKY_APP_PASSWORD")
PUBLIC = "https://public.api.bsky.app"
ENTRY = "https://bsky.social"
PAGE_SIZE = 100
"""Posts; the most that the API gives at once."""
EXPIRED = ("ExpiredToken", "InvalidToken")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class _Text(msgspec.Struct):
    createdAt: str | None = None


class _View(msgspec.Struct):
    """What tells one post view from another."""

    uri: str | None = None
    indexedAt: str | None = None
    record: _Text | None = None


class _Reason(msgspec.Struct):
    indexedAt: str | None = None


class _Item(_View):
    """A line: a post view, or an item of a feed, which holds one."""

    post: _View | None = None
    reason: _Reason | None = None


class _Answer(msgspec.Struct):
    """An answer of a search or of a feed."""

    posts: list[msgspec.Raw] | None = None
    feed: list[msgspec.Raw] | None = None
    cursor: str | None = None


class _Login(msgspec.Struct):
    accessJwt: str


def name(asked: Asked) -> str:
    """The tags and words, or that it is accounts: handles are kept out of file names."""
    if bool(asked.tags or asked.query) == bool(asked.authors):
        raise InputError("name what to search, --tag AIart or --query WORDS, or else an --author")
    if asked.authors:
        return slug("authors", str(len(asked.authors)))
    return slug(*plain_tags(asked.tags), asked.query or "")


def walk(asked: Asked, asking: Asking, secrets: Mapping[str, str], done: Done) -> Iterator[Record]:
    """Posts of all searches or feeds, newest first; feeds from their beginning, searches below `done`."""
    server = _Server(asked, asking, secrets)
    if asked.authors:
        walks = [
            paged(asking, partial(server.feed, author.lstrip("@")), since=asked.since)
            for author in asked.authors
        ]
    else:
        until = _resume_at(done)
        words = [*(f"#{tag}" for tag in plain_tags(asked.tags)), *filter(None, [asked.query])]
        walks = [
            paged(asking, partial(server.search, word, until), since=asked.since) for word in words
        ]
    return heapq.merge(*walks, key=lambda record: record.time or _EARLIEST, reverse=True)


def tell(line: bytes) -> Record:
    """The post view or feed item that a line is; a repost is told from the post itself."""
    try:
        item = msgspec.json.decode(line, type=_Item)
    except (msgspec.DecodeError, UnicodeError):
        return Record(None, None, line)
    view = item.post or item
    if not (view.uri or "").startswith("at://"):
        return Record(None, None, line)
    if item.reason and item.reason.indexedAt:
        return Record(f"{view.uri} {item.reason.indexedAt}", iso_time(item.reason.indexedAt), line)
    return Record(view.uri, _sorted_at(view), line)


def _sorted_at(view: _View) -> datetime | None:
    """When a search takes a post to be from: what its author says, unless that is after it was seen."""
    times = [iso_time(view.record.createdAt if view.record else None), iso_time(view.indexedAt)]
    return min((time for time in times if time), default=None)


def _resume_at(done: Done) -> str | None:
    times = [record.time for record in done.tail if record.time]
    return _iso(max(times) + timedelta(milliseconds=1)) if times else None


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Server:
    """The public view of the network, or the server of an account that is logged in there."""

    def __init__(self, asked: Asked, asking: Asking, secrets: Mapping[str, str]) -> None:
        self._asking = asking
        self._login = {
            "identifier": secrets.get("BLUESKY_IDENTIFIER", ""),
            "password": secrets.get("BLUESKY_APP_PASSWORD", ""),
        }
        self._known = all(self._login.values())
        self._base = asking.base(secure(asked.server or (ENTRY if self._known else PUBLIC)))
        self._token: str | None = None
        self._since = {"since": _iso(asked.since)} if asked.since else {}

    def search(self, words: str, until: str | None, cursor: str | None) -> Page:
        """A page of a search."""
        params = {"q": words, "sort": "latest", "until": until, "cursor": cursor, **self._since}
        try:
            return self._get("app.bsky.feed.searchPosts", params)
        except Refused as error:
            raise self._explained(error) from None

    def feed(self, author: str, cursor: str | None) -> Page:
        """A page of what an account posts with media."""
        params = {"actor": author, "filter": "posts_with_media", "cursor": cursor}
        return self._get("app.bsky.feed.getAuthorFeed", params)

    def _get(self, method: str, params: dict[str, Any]) -> Page:
        """One page; a session that has ended is begun again, once."""
        ask = partial(self._ask, method, {**params, "limit": PAGE_SIZE})
        try:
            return ask()
        except Refused as error:
            if not (self._known and error.error in EXPIRED):
                raise
        self._token = None
        return ask()

    def _ask(self, method: str, params: dict[str, Any]) -> Page:
        headers = {"Authorization": f"Bearer {self._session()}"} if self._known else {}
        url = f"{self._base}/xrpc/{method}"
        return self._asking.get(url, _read, params=params, headers=headers)

    def _session(self) -> str:
        """The token of the session, which begins with the first request."""
        if self._token is None:
            url = f"{self._base}/xrpc/com.atproto.server.createSession"
            try:
                self._token = self._asking.post(url, self._login, _token)
            except Refused as error:
                raise Stopped(
                    f"{error}; BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD are not taken: make an app "
                    "password under Settings, Privacy and security"
                ) from None
        return self._token

    def _explained(self, error: Refused) -> Stopped:
        if error.status in (401, 403) and not self._known:
            return Stopped(
                f"{error.host} answered {error.status}: Bluesky keeps searches, and their later pages, "
                "for those logged in; set BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD"
            )
        return error


def _read(response: requests.Response) -> Page:
    answer = msgspec.json.decode(response.content, type=_Answer)
    found = answer.posts if answer.posts is not None else answer.feed
    if found is None:
        raise msgspec.DecodeError("neither posts nor a feed")
    return Page(tuple(tell(line_of(raw)) for raw in found), answer.cursor or None)


def _token(response: requests.Response) -> str:
    return msgspec.json.decode(response.content, type=_Login).accessJwt
