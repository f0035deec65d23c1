"""From an export to rows: read, parse, hide people, batch. The catalog is somebody else's business.

Memory is one batch of Arrow rows, and 12 bytes per post kept: a post met twice in one export is kept once,
the first time, and counted. Rows are made column by column, since one object per row costs as much as
reading it did.
"""

import hashlib
import json
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.collectors.contract import (
    GONE,
    Collector,
    Format,
    Found,
    FoundMedia,
    FoundPost,
    Raw,
    Skip,
)
from curate.exports import DamagedExport, Export
from curate.privacy import (
    GENERIC,
    hidden_member,
    names_person,
    redact,
    unnamed_tags,
    without_folders,
)
from curate.tags import TagMatcher, fold
from schemas.policy import CollectPolicy, Policy
from schemas.records import TABLES, Media, Post, Source
from schemas.tables import array_of, find

log = logging.getLogger(__name__)

BATCH_SIZE = 122_880
"""Posts per batch: a whole row group of DuckDB, which is written once; parts of one are written again."""
CHUNK = 5_000
"""Posts turned into columns at once."""
MIN_EXPECTED = 20
"""Posts that a span would have held at the mean rate of its export before its emptiness is a gap."""
MAX_GAPS = 20
NAMED = "address names its author"
"""Why an image is left out that could only be had by an address with a handle in it."""

POST, MEDIA = find(TABLES, "post"), find(TABLES, "media")
_BAD_ROW = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)
_BAD_RECORD = (TypeError, ValueError, KeyError, AttributeError, IndexError)
_HOUR_US = 3_600_000_000


class Refusing(Protocol):
    """What knows which posts were taken out for good."""

    def refuses(
        self, platform: str, post_id: str, author_key: str | None, repost_of: str | None = None
    ) -> bool:
        """Whether this post must not come back."""


@dataclass(frozen=True)
class Terms:
    """Whose posts are kept, and how: what the policy of a workspace and its tombstones ask for."""

    policy: Policy = field(default_factory=lambda: Policy(name="default"))
    tombstones: Refusing | None = None

    @property
    def opt_out_tags(self) -> frozenset[str]:
        """Hashtags by which an author asks to be left out, folded."""
        privacy = self.policy.privacy
        return frozenset(map(fold, privacy.opt_out_tags if privacy.honour_opt_out else ()))

    @property
    def mark(self) -> str:
        """What stands behind a collector's version where the policy keeps other posts than usual.

        With it, an export that was read under other terms is read again.
        """
        asked = self.policy.collect
        if asked == CollectPolicy():
            return ""
        rules = repr((self.policy.tags, self.policy.platforms)) if asked.only_tagged else ""
        return f"-{zlib.crc32(f'{asked}{rules}'.encode()):08x}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Posts with their images, ready for one commit, as Arrow tables."""

    post_rows: pa.Table
    media_rows: pa.Table

    @property
    def posts(self) -> tuple[Post, ...]:
        """The posts as objects."""
        return tuple(POST.from_arrow(self.post_rows))

    @property
    def media(self) -> tuple[Media, ...]:
        """The images as objects."""
        return tuple(MEDIA.from_arrow(self.media_rows))


@dataclass(slots=True)
class Tally:
    """What one export held so far; complete only once the last batch was taken.

    `skipped` counts by reason; its reasons `media: ...` and `opted out` are about posts that were kept.
    """

    seen: int = 0
    kept: int = 0
    media: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    partial: list[str] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    hours: Counter[int] = field(default_factory=Counter)
    first_us: int | None = None
    last_us: int | None = None
    finished: bool = False

    def source(
        self, export: Export, collector: str, platform: str, format: Format, source_id: str
    ) -> Source:
        """The row of the export; `collected_at` is for the caller, who has a clock."""
        details = self.partial if self.finished else [*self.partial, "not read to its end"]
        return Source(
            source_id=source_id,
            collector=collector,
            platform=platform,
            format=format.name,
            location=export.location,
            seen=self.seen,
            kept=self.kept,
            media=self.media,
            skipped=json.dumps(self.skipped, sort_keys=True),
            complete=not details,
            detail="; ".join(details) or None,
            gone=sum(n for reason, n in self.skipped.items() if reason in GONE),
            gaps=gaps_of(self.hours),
            first_at=_time_of(self.first_us),
            last_at=_time_of(self.last_us),
        )

    def note_times(self, times: pa.Array) -> None:
        """Count posts by the hour."""
        known = [t for t in times.view(pa.int64()).to_pylist() if t is not None]
        if not known:
            return
        values = np.array(known, dtype=np.int64)
        hours, counts = np.unique(values // _HOUR_US, return_counts=True)
        self.hours.update(dict(zip(hours.tolist(), counts.tolist(), strict=True)))
        low, high = int(values.min()), int(values.max())
        self.first_us = low if self.first_us is None else min(self.first_us, low)
        self.last_us = high if self.last_us is None else max(self.last_us, high)


def gaps_of(hours: Counter[int]) -> tuple[str, ...]:
    """Spans without a post, as from/to, in order; `hours` are posts by the hour since 1970.

    A gap is a run of empty hours in which the mean rate of the whole export would have given at least
    `MIN_EXPECTED` posts. Of many, the longest are told.
    """
    filled = np.array(sorted(hours), dtype=np.int64)
    if len(filled) < 2:
        return ()
    rate = sum(hours.values()) / int(filled[-1] - filled[0] + 1)
    empty = np.diff(filled) - 1
    places = np.flatnonzero((empty >= 1) & (empty * rate >= MIN_EXPECTED))
    longest = sorted(places.tolist(), key=lambda i: (-int(empty[i]), i))[:MAX_GAPS]
    return tuple(
        f"{_hour_text(int(filled[i]) + 1)}/{_hour_text(int(filled[i + 1]))}"
        for i in sorted(longest)
    )


def _hour_text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _time_of(us: int | None) -> datetime | None:
    if us is None:
        return None
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


class Met:
    """Which posts of an export were met, in 12 bytes each: two hashes, of 64 and of 32 bits.

    They lie in sorted arrays that are merged as they grow, up to a size at which merging would take
    more memory than it saves time. Among a hundred million posts, two with the same hashes are to be
    expected once in ten trillion exports.
    """

    LARGEST = 1 << 19

    def __init__(self) -> None:
        self._levels: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []

    def first_time(self, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of `keys`, all different, are met for the first time; they are met from now on."""
        one = np.fromiter(map(hash, keys), np.int64, len(keys))
        two = np.fromiter((hash(key + "/") >> 32 for key in keys), np.int32, len(keys))
        order = np.argsort(one, kind="stable")
        one, two = one[order], two[order]
        new = np.ones(len(keys), dtype=np.bool_)
        for first, second in self._levels:
            at = np.minimum(np.searchsorted(first, one), len(first) - 1)
            new &= (first[at] != one) | (second[at] != two)
        self._add(one[new], two[new])
        answer = np.empty_like(new)
        answer[order] = new
        return answer

    def _add(self, one: npt.NDArray[np.int64], two: npt.NDArray[np.int32]) -> None:
        if not len(one):
            return
        while self._levels and len(one) * 2 > len(self._levels[-1][0]):
            if len(one) + len(self._levels[-1][0]) > self.LARGEST:
                break
            first, second = self._levels.pop()
            one, two = np.concatenate((first, one)), np.concatenate((second, two))
            order = np.argsort(one, kind="stable")
            one, two = one[order], two[order]
        self._levels.append((one, two))


@dataclass(slots=True)
class Collection:
    """An export being collected: iterate for its batches, then ask `source` for the row."""

    export: Export
    collector: Collector
    format: Format
    secret: bytes
    source_id: str
    batch_size: int = BATCH_SIZE
    terms: Terms = field(default_factory=Terms)
    tally: Tally = field(default_factory=Tally)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in the order of the export."""
        self.tally = Tally()
        keeper = _Keeper(self)
        posts: list[pa.RecordBatch] = []
        media: list[pa.RecordBatch] = []
        for chunk in _chunks(self, min(CHUNK, self.batch_size)):
            rows = keeper.rows(chunk)
            posts.append(rows[0])
            media.append(rows[1])
            if sum(part.num_rows for part in posts) >= self.batch_size:
                batch = _batch(posts, media)
                posts, media = [], []
                yield batch
                del batch  # so that two of them are never held at once
        if any(part.num_rows for part in posts):
            yield _batch(posts, media)
        self.tally.finished = True
        log.info("collected %s: %d kept", self.export.path.name, self.tally.kept)

    @property
    def source(self) -> Source:
        """The tally as a row of the catalog."""
        platform = self.collector.PLATFORM
        return self.tally.source(self.export, self.name, platform, self.format, self.source_id)

    @property
    def name(self) -> str:
        """The collector, its version, and the terms if they are not the usual ones."""
        return f"{self.collector.PLATFORM}/{self.collector.VERSION}{self.terms.mark}"


def collect(
    export: Export,
    collector: Collector,
    format: Format,
    *,
    secret: bytes,
    source_id: str,
    batch_size: int = BATCH_SIZE,
    terms: Terms | None = None,
) -> Collection:
    """The posts with images of `export`, in batches, and a tally of everything else."""
    asked = terms or Terms()
    return Collection(export, collector, format, secret, source_id, batch_size, asked)


def _batch(posts: list[pa.RecordBatch], media: list[pa.RecordBatch]) -> Batch:
    return Batch(pa.Table.from_batches(posts), pa.Table.from_batches(media))


# ---------------------------------------------------------------- read and parse


def _chunks(collection: Collection, size: int) -> Iterator[list[Found]]:
    """Posts found, some at a time; everything else is counted by its reason."""
    tally, form, parse = collection.tally, collection.format.name, collection.collector.parse
    skipped = tally.skipped
    found: list[Found] = []
    for raw in _until_damage(collection.export, collection.collector, form, tally):
        for result in _parsed(raw, parse, form, tally):
            if isinstance(result, Skip):
                skipped[result.reason] += 1
                if result.withdrawn is not None:
                    tally.withdrawn.add(result.withdrawn)
            else:
                found.append(result)
        if len(found) >= size:
            yield found
            found = []
    if found:
        yield found


def _until_damage(export: Export, collector: Collector, format: str, tally: Tally) -> Iterator[Raw]:
    """Raw records up to where the export is damaged, which makes it partial."""
    try:
        yield from collector.read(export, format)
    except DamagedExport as error:
        tally.partial.append(str(error))


def _parsed(
    raw: Raw, parse: Callable[[Any, str], tuple[Found | Skip, ...]], format: str, tally: Tally
) -> tuple[Found | Skip, ...]:
    where, record, problem, partial = raw
    if partial:
        tally.partial.append(without_folders(partial))
    if problem is None and record is None:
        return ()
    tally.seen += 1
    if problem is not None:
        return (Skip(problem),)
    try:
        return parse(record, format)
    except _BAD_RECORD as error:
        log.warning("%s: unexpected shape (%s: %s)", where, type(error).__name__, error)
        return (Skip("unexpected shape"),)


# ---------------------------------------------------------------- keep


class _Keeper:
    """Decides which of the posts found are kept, hides people, and makes rows."""

    def __init__(self, collection: Collection) -> None:
        self.tally = collection.tally
        self.platform = collection.collector.PLATFORM
        self.source_id = collection.source_id
        self.secret = collection.secret
        self.terms = collection.terms
        self.policy = collection.terms.policy
        self.opt_out_tags = collection.terms.opt_out_tags
        self.key_of = author_keys(collection.secret)
        self.met = Met()
        self.matcher = TagMatcher(self.policy.tags, self.policy.platforms)

    def rows(self, found: list[Found]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The rows of the posts that are kept; the tally tells of the others."""
        kept = self._once([f for f in map(self._kept, found) if f is not None])
        try:
            posts, media = self._columns(kept)
        except _BAD_ROW:
            kept = [f for f in map(_clean, kept) if self._fits(f)]
            posts, media = self._columns(kept)
        self._count(kept, posts)
        return posts, media

    def _kept(self, found: Found) -> Found | None:
        """A post as it is kept, without what names people; None if it is refused, which is counted."""
        post: Any = found.post  # a collector of somebody else's may give anything
        if not isinstance(post.post_id, str):
            self.tally.skipped["no id"] += 1
            return None
        if self.terms.tombstones is not None and self._refused(post):
            self.tally.skipped["forgotten"] += 1
            return None
        if post.comment and not self.policy.collect.comments:
            self.tally.skipped["comment"] += 1
            return None
        if self.policy.collect.only_tagged and not self._tagged(post):
            self.tally.skipped["no tag rule"] += 1
            return None
        if post.handles:
            found = self._unnamed(_with_names(found))
            if not found.media:
                self.tally.skipped[NAMED] += 1
                return None
        if post.opted_out or (post.hashtags and self.opt_out_tags):
            found = self._opted_out(found)
        return found

    def _refused(self, post: FoundPost) -> bool:
        assert self.terms.tombstones is not None
        platform = post.platform or self.platform
        author = self.key_of(platform, post.author_id) if post.author_id is not None else None
        return self.terms.tombstones.refuses(platform, post.post_id, author, post.repost_of)

    def _tagged(self, post: FoundPost) -> bool:
        """Whether a tag rule looks at this post and one of its words is there."""
        row = Post(
            platform=post.platform or self.platform,
            post_id=post.post_id,
            source_id=self.source_id,
            author=None,
            created_at=post.created_at,
            title=post.title,
            text=post.text,
            hashtags=post.hashtags,
            community=post.community,
            flair=post.flair,
        )
        return bool(self.matcher.matches(row))

    def _unnamed(self, found: Found) -> Found:
        """A post whose addresses and paths hold none of its handles."""
        post = found.post
        shown = [post.permalink or ""]
        for item in found.media:
            shown.append(item.url or "")
            if item.fallback_urls:
                shown += item.fallback_urls
            if item.member:
                shown.append(item.member)
        low = "\n".join(shown).casefold()
        if not any(_plain(handle) in low for handle in post.handles):
            return found
        names = frozenset(map(_plain, post.handles)) - GENERIC - {""}
        media = [_unnamed_media(m, names, post.handles, self.secret) for m in found.media]
        kept = tuple(m for m in media if m is not None)
        link = None if post.permalink and _has_step(post.permalink, names) else post.permalink
        missed = found.missed + (NAMED,) * (len(media) - len(kept) if kept else 0)
        return Found(post._replace(permalink=link), kept, missed)

    def _opted_out(self, found: Found) -> Found:
        """A post without text and author where its author asked to be left out."""
        post = found.post
        if not self.policy.privacy.honour_opt_out:
            return found
        if not post.opted_out and self.opt_out_tags.isdisjoint(map(fold, post.hashtags)):
            return found
        bare = post._replace(title=None, text=None, author_id=None, opted_out=True)
        return Found(bare, tuple(m._replace(alt=None) for m in found.media), found.missed)

    def _once(self, found: list[Found]) -> list[Found]:
        """Posts met for the first time in this export."""
        keys = [f.post.post_id for f in found]
        if any(f.post.platform for f in found):
            keys = [f"{f.post.platform or self.platform}\0{f.post.post_id}" for f in found]
        whole = len(found)
        if len(set(keys)) < whole:
            first = dict(zip(reversed(keys), reversed(found), strict=True))
            order = dict.fromkeys(keys)
            keys, found = list(order), [first[key] for key in order]
        new = self.met.first_time(keys)
        if not new.all():
            found = [f for f, is_new in zip(found, new.tolist(), strict=True) if is_new]
        if len(found) < whole:
            self.tally.skipped["duplicate"] += whole - len(found)
        return found

    def _fits(self, found: Found) -> bool:
        """Whether a post can be a row; it is counted if not."""
        try:
            self._columns([found])
        except _BAD_ROW as error:
            log.warning("%s: unexpected value (%s)", found.post.post_id, error)
            self.tally.skipped["unexpected shape"] += 1
            return False
        return True

    def _count(self, kept: list[Found], posts: pa.RecordBatch) -> None:
        tally = self.tally
        tally.kept += len(kept)
        tally.media += sum(len(f.media) for f in kept)
        for found in kept:
            for word in found.missed:
                tally.skipped[f"media: {word}"] += 1
        if opted := sum(f.post.opted_out for f in kept):
            tally.skipped["opted out"] += opted
        tally.note_times(posts.column("created_at"))

    def _columns(self, kept: list[Found]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Rows of both tables, made column by column."""
        column = _transposed(FoundPost._fields, [f.post for f in kept])
        handles = column["handles"]
        platforms = [name or self.platform for name in column["platform"]]
        column |= {
            "platform": _constant(platforms),
            "source_id": _constant([self.source_id] * len(kept)),
            "author": [
                self.key_of(platform, author) if author is not None else None
                for platform, author in zip(platforms, column["author_id"], strict=True)
            ],
            "title": _redacted(column["title"], handles),
            "text": _redacted(column["text"], handles),
            "flair": _redacted(column["flair"], handles),
            "hashtags": list(map(unnamed_tags, column["hashtags"], handles)),
        }
        return POST.record_batch(column), self._media_columns(kept, platforms)

    def _media_columns(self, kept: list[Found], platforms: list[str]) -> pa.RecordBatch:
        media = [item for found in kept for item in found.media]
        column = _transposed(FoundMedia._fields, media)
        counts = [len(found.media) for found in kept]
        column |= {
            "platform": _constant(_repeated(platforms, counts)),
            "post_id": _repeated([f.post.post_id for f in kept], counts),
            "source_id": _constant([self.source_id] * len(media)),
            "alt": _redacted(column["alt"], _repeated([f.post.handles for f in kept], counts)),
        }
        return MEDIA.record_batch(column)


def author_keys(secret: bytes) -> Callable[[str, str], str]:
    """`curate.privacy.author_key` for many authors: the secret is mixed in once (RFC 2104)."""
    block = hashlib.sha256(secret).digest() if len(secret) > 64 else secret
    block = block.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block))
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block))

    def key_of(platform: str, author_id: str) -> str:
        within, around = inner.copy(), outer.copy()
        within.update(f"{platform}\0{author_id}".encode())
        around.update(within.digest())
        return around.hexdigest()[:24]

    return key_of


def _transposed(names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return dict(zip(names, columns, strict=True))


def _constant(texts: Sequence[str]) -> pa.Array:
    """A column of few different texts, each of them held once."""
    places = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    indices = array_of([places[text] for text in texts], pa.int64())
    return pa.DictionaryArray.from_arrays(indices, array_of(list(places), pa.string()))


def _redacted(texts: Iterable[str | None], handles: Iterable[tuple[str, ...]]) -> list[str | None]:
    """Each text with people hidden."""
    return [
        redact(text, names) if text else None for text, names in zip(texts, handles, strict=True)
    ]


def _repeated(values: Iterable[Any], counts: Iterable[int]) -> list[Any]:
    return [v for value, n in zip(values, counts, strict=True) for v in (value,) * n]


def _clean(found: Found) -> Found:
    """A post whose texts are UTF-8: half a surrogate pair, which JSON may hold, is replaced."""
    post = FoundPost._make(map(_clean_value, found.post))
    media = tuple(FoundMedia._make(map(_clean_value, item)) for item in found.media)
    return Found(post, media, found.missed)


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return tuple(map(_clean_value, value)) if isinstance(value, tuple) else value


def _with_names(found: Found) -> Found:
    """A post whose handles are text: a name that an export leaves out is nobody's."""
    names = tuple(handle for handle in found.post.handles if isinstance(handle, str))
    if len(names) == len(found.post.handles):
        return found
    return found._replace(post=found.post._replace(handles=names))


def _plain(handle: str) -> str:
    return handle.strip().lstrip("@").casefold()


_STEPS = re.compile(r"[/?&=#]")


def _has_step(address: str, names: frozenset[str]) -> bool:
    """Whether one of `names` is a whole step of an address's path or query."""
    _, _, path = address.casefold().partition("://")[2].partition("/")
    return any(step.removeprefix("@").removeprefix("%40") in names for step in _STEPS.split(path))


def _unnamed_media(
    item: FoundMedia, names: frozenset[str], handles: tuple[str, ...], secret: bytes
) -> FoundMedia | None:
    """An image without a handle in its addresses and path; None if it cannot be had otherwise."""
    member = item.member
    if member and names_person(member, handles):
        member = hidden_member(secret, member)
    places = [p for p in (item.url, *item.fallback_urls) if p and not _has_step(p, names)]
    if not member and not places:
        return None
    url = places.pop(0) if places and (item.url or not member) else None
    return item._replace(url=url, fallback_urls=tuple(places), member=member)
