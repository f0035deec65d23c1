"""Mastodon by hashtag: the tag timeline of one server, with whatever that server has seen.

API: https://docs.joinmastodon.org/methods/timelines/#tag, limits:
https://docs.joinmastodon.org/api/rate-limits/. What decides:

- ids of a server rise with time, and its timelines run down by id. Several tags are walked side by
  side, highest id first, so the last line of a capture says how far all of them are, and a capture
  goes on below that id;
- what follows is asked for by the `max_id` of the Link header; of that address nothing else is
  used, since it may name another host. Servers of other make send no Link: there the last id counts;
- a page with fewer statuses than asked for ends nothing, since some are filtered out; an empty one does.
"""

import heapq
from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import requests

from curate.collectors.reading import iso_time
from curate.live.asking import Asking, host_of, paged, secure
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

PLATFORM = "mastodon"
OPTIONS = ("tags", "server")
SECRETS = ("MASTODON_ACCESS_TOKEN",)
PAGE_SIZE = 40
"""Statuses; the most that the API gives at once."""


class _Status(msgspec.Struct):
    """What tells one status from another."""

    id: str | int | None = None
    created_at: str | None = None
    account: msgspec.Raw = msgspec.Raw()


def name(asked: Asked) -> str:
    """The server and the tags."""
    if not asked.server or not asked.tags:
        raise InputError("name a server and tags: --server https://mastodon.social --tag AIart")
    return slug(host_of(secure(asked.server)), *plain_tags(asked.tags))


def walk(asked: Asked, asking: Asking, secrets: Mapping[str, str], done: Done) -> Iterator[Record]:
    """Statuses of all tags, highest id first, from below the last one of the file."""
    base = asking.base(secure(asked.server or ""))
    token = secrets.get("MASTODON_ACCESS_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    walks = [
        paged(
            asking,
            partial(_page, asking, f"{base}/api/v1/timelines/tag/{quote(tag, safe='')}", headers),
            first=done.last_id,
            since=asked.since,
        )
        for tag in plain_tags(asked.tags)
    ]
    return heapq.merge(*walks, key=_age, reverse=True)


def tell(line: bytes) -> Record:
    """The status that a line is."""
    try:
        status = msgspec.json.decode(line, type=_Status)
    except (msgspec.DecodeError, UnicodeError):
        return Record(None, None, line)
    known = status.id is not None and bytes(status.account)
    return Record(str(status.id) if known else None, iso_time(status.created_at), line)


def _age(record: Record) -> tuple[int, str]:
    """Ids in the order of time: numbers by size, those of other servers' makes by their letters."""
    return len(record.id or ""), record.id or ""


def _page(asking: Asking, url: str, headers: Mapping[str, str], below: str | None) -> Page:
    params = {"limit": PAGE_SIZE, "only_media": "true", "max_id": below}
    try:
        return asking.get(url, _read, params=params, headers=headers)
    except Refused as error:
        raise _explained(error, bool(headers)) from None


def _read(response: requests.Response) -> Page:
    statuses = msgspec.json.decode(response.content, type=list[msgspec.Raw])
    records = tuple(tell(line_of(status)) for status in statuses)
    return Page(records, _following(response, records))


def _following(response: requests.Response, records: tuple[Record, ...]) -> str | None:
    if not records:
        return None
    if "Link" not in response.headers:
        return records[-1].id
    address = response.links.get("next", {}).get("url", "")
    return parse_qs(urlsplit(address).query).get("max_id", [None])[0]


def _explained(error: Refused, with_token: bool) -> Stopped:
    if error.status in (401, 403, 422) and with_token:
        return Stopped(f"{error}; MASTODON_ACCESS_TOKEN is not one that this server takes")
    if error.status in (401, 403, 422):
        return Stopped(
            f"{error}; this server shows tags to its members only: set MASTODON_ACCESS_TOKEN"
        )
    if error.status == 404:
        return Stopped(f"{error}; is it a Mastodon server?")
    return error
