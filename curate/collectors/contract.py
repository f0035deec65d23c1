"""What every collector gives: the nouns between an export and the catalog.

A collector is a module with `PLATFORM`, `VERSION`, `FORMATS` and three verbs. `recognise` looks
at names and first bytes only. `read` is the only verb that touches the export, and joins what
belongs to one post into one raw record. `parse` is pure: the same record always gives the same
result, which is what breaks, visibly and testably, when a platform changes its format.

Records are named tuples: one is made for every line of a dump, and they cost a third of a
dataclass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from curate.exports import Export


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of export of a platform: short name, title for people, an example file name."""

    name: str
    title: str
    example: str


class FoundPost(NamedTuple):
    """A post as the platform wrote it: `schemas.records.Post` before its author is hashed.

    `author_id` is the platform's own id of the author; `handles` are names not to be kept: the
    author's first, then those of people mentioned. `platform` is given only by a collector that reads the
    posts of several (a crawler's side files, say), so that they meet those of the platform's own.
    `comment` is for what stands under another post and not by itself; it is kept where the policy asks
    for it. `opted_out` is for a marker by which an author asks not to be collected or shown.
    """

    post_id: str
    author_id: str | None
    handles: tuple[str, ...]
    created_at: datetime | None
    title: str | None = None
    text: str | None = None
    hashtags: tuple[str, ...] = ()
    community: str | None = None
    flair: str | None = None
    permalink: str | None = None
    score: int | None = None
    replies: int | None = None
    sensitive: bool | None = None
    language: str | None = None
    repost_of: str | None = None
    opted_out: bool = False
    platform: str | None = None
    comment: bool = False


class FoundMedia(NamedTuple):
    """One image of a post, at its 0-based place among all media of the post."""

    position: int
    media_id: str | None = None
    url: str | None = None
    fallback_urls: tuple[str, ...] = ()
    member: str | None = None
    alt: str | None = None
    claimed_type: str | None = None
    claimed_width: int | None = None
    claimed_height: int | None = None
    rendition: str = "original"


class Found(NamedTuple):
    """A post with at least one image; `missed` says in short words what was not taken."""

    post: FoundPost
    media: tuple[FoundMedia, ...]
    missed: tuple[str, ...] = ()


class Skip(NamedTuple):
    """A record that gives no image, and why, in short words that are the same every time.

    `withdrawn` is the id of a post that, by this record, its platform took away: where the post is
    already known it is forgotten, and it is not collected again.
    """

    reason: str
    withdrawn: str | None = None


GONE = frozenset(
    {"deleted", "deleted later", "removed", "withheld", "not found", "recently deleted"}
)
"""Reasons of a Skip that say: there was a post, and it was taken away. They are counted as gone."""


class Raw(NamedTuple):
    """One record of an export, or what was wrong where one should be.

    `partial` is not about a record: it says that the export is incomplete by its own account.
    """

    where: str
    record: Any = None
    problem: str | None = None
    partial: str | None = None


class Collector(Protocol):
    """What a collector module is."""

    @property
    def PLATFORM(self) -> str:
        """Lower-case name."""

    @property
    def VERSION(self) -> int:
        """Raised whenever the same export would give other rows."""

    @property
    def FORMATS(self) -> tuple[Format, ...]:
        """What can be read, most telling first."""

    def recognise(self, export: Export) -> str | None:
        """The name of the format, or None if this is not ours."""

    def read(self, export: Export, format: str) -> Iterator[Raw]:
        """Every record of the export, in its own order."""

    def parse(self, record: Any, format: str) -> tuple[Found | Skip, ...]:
        """What one record holds. Pure."""
