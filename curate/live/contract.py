"""What a live module gives: the nouns between a platform's API and a capture file.

A capture file is an ordinary export: the platform's own answers, one record per line, byte for byte
as they came (a record that spans lines loses the white space between its tokens, nothing else). It
holds nothing of ours, so what a capture asked and how it ended is told by its result, and the state
of an interrupted one is read from the lines it has.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from schemas.errors import InputError, ServiceError

MAX_NAME = 150
"""Bytes of what is asked for in a file name, which may have 255."""


class Stopped(ServiceError):
    """The walk can go no further, though more was asked for; what came before is good.

    `failed` is False where the platform's own bounds were met, which asking again does not change.
    """

    def __init__(self, message: str, *, failed: bool = True) -> None:
        self.failed = failed
        super().__init__(message)


class Refused(Stopped):
    """The server said no, with a status; `error` is the name its JSON gives to the reason."""

    def __init__(self, host: str, status: int, told: str, error: str = "") -> None:
        self.host, self.status, self.told, self.error = host, status, told, error
        super().__init__(f"{host} answered {status}{f' ({told})' if told else ''}")


class Record(NamedTuple):
    """One record of a platform: its id there and its time, where it states them, and its bytes."""

    id: str | None
    time: datetime | None
    line: bytes

    @property
    def key(self) -> str:
        """What tells it from others: its id, or the digest of a record that has none."""
        return self.id or hashlib.sha256(self.line).hexdigest()


class Page(NamedTuple):
    """One answer: its records in the server's order, and how to ask for what follows."""

    records: tuple[Record, ...]
    following: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What to capture; each platform uses those fields that its `OPTIONS` name.

    `limit` is of the capture file, so that a capture that goes on ends where it would have ended.
    """

    subreddits: tuple[str, ...] = ()
    listing: str = "new"
    period: str = "all"
    query: str | None = None
    tags: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    server: str | None = None
    limit: int = 1000
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What the capture file holds already: how many records, and the last of them, in its order."""

    records: int = 0
    tail: tuple[Record, ...] = ()

    @property
    def last_id(self) -> str | None:
        """The id of the last record that has one."""
        return next((r.id for r in reversed(self.tail) if r.id), None)


def line_of(raw: msgspec.Raw) -> bytes:
    """A record as it came, on one line."""
    line = bytes(raw)
    if b"\n" in line or b"\r" in line:
        return msgspec.json.format(line, indent=-1)
    return line


def slug(*words: str) -> str:
    """Words as part of a file name: lower case, what file systems may refuse as a dash."""
    plain = ["".join(c if c.isalnum() or c in "._" else "-" for c in w.lower()) for w in words if w]
    whole = "-".join(part.strip("-.") for part in plain)
    return whole.encode()[:MAX_NAME].decode("utf-8", "ignore").rstrip("-.")


def plain_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Hashtags without `#`, once each.

    Raises:
        InputError: one of them is no hashtag.
    """
    found = tuple(dict.fromkeys(tag.strip().lstrip("#\uff03") for tag in tags))
    for tag in found:
        if (
            not all(c.isalnum() or c in "_\u00b7\u200c\u30fb" for c in tag)
            or not 0 < len(tag) <= 100
        ):
            raise InputError(f"--tag {tag!r} is no hashtag; expected one such as AIart")
    return found
