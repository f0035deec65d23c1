"""From an export to rows: read, parse, hide people, batch. The catalog is somebody else's business.

Memory is one batch, and the ids of the posts kept. A post met twice in one export is kept once,
the first time, and counted.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from curate.collectors.contract import Collector, Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.exports import DamagedExport, Export
from curate.privacy import author_key, redact
from schemas.records import Media, Post, Source

log = logging.getLogger(__name__)

BATCH_SIZE = 2000
"""Records kept per batch: a commit of the catalog costs about as much as parsing this many."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Posts with their images, ready for one commit."""

    posts: tuple[Post, ...]
    media: tuple[Media, ...]


@dataclass(slots=True)
class Tally:
    """What one export held so far; complete only once the last batch was taken."""

    seen: int = 0
    kept: int = 0
    media: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    partial: list[str] = field(default_factory=list)
    finished: bool = False

    def source(
        self, export: Export, collector: Collector, format: Format, source_id: str
    ) -> Source:
        """The row of the export; `collected_at` is for the caller, who has a clock."""
        details = self.partial if self.finished else [*self.partial, "not read to its end"]
        return Source(
            source_id=source_id,
            collector=f"{collector.PLATFORM}/{collector.VERSION}",
            platform=collector.PLATFORM,
            format=format.name,
            location=str(export.path),
            seen=self.seen,
            kept=self.kept,
            media=self.media,
            skipped=json.dumps(self.skipped, sort_keys=True),
            complete=not details,
            detail="; ".join(details) or None,
        )


@dataclass(slots=True)
class Collection:
    """An export being collected: iterate for its batches, then ask `source` for the row."""

    export: Export
    collector: Collector
    format: Format
    secret: bytes
    source_id: str
    batch_size: int = BATCH_SIZE
    tally: Tally = field(default_factory=Tally)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in the order of the export."""
        self.tally = Tally()
        posts: list[Post] = []
        media: list[Media] = []
        for found in _found(self.export, self.collector, self.format.name, self.tally):
            posts.append(_post(found.post, self.collector.PLATFORM, self.secret, self.source_id))
            media += [_media(item, posts[-1]) for item in found.media]
            if len(posts) >= self.batch_size:
                yield Batch(tuple(posts), tuple(media))
                posts, media = [], []
        if posts:
            yield Batch(tuple(posts), tuple(media))
        self.tally.finished = True
        log.info("collected %s: %s", self.export.path.name, self.tally)

    @property
    def source(self) -> Source:
        """The tally as a row of the catalog."""
        return self.tally.source(self.export, self.collector, self.format, self.source_id)


def collect(
    export: Export,
    collector: Collector,
    format: Format,
    *,
    secret: bytes,
    source_id: str,
    batch_size: int = BATCH_SIZE,
) -> Collection:
    """The posts with images of `export`, in batches, and a tally of everything else."""
    return Collection(export, collector, format, secret, source_id, batch_size)


def _found(export: Export, collector: Collector, format: str, tally: Tally) -> Iterator[Found]:
    """Posts kept, once each; everything else is counted by its reason."""
    known: set[str] = set()
    for raw in _until_damage(export, collector, format, tally):
        for result in _parsed(raw, collector, format, tally):
            if isinstance(result, Skip):
                tally.skipped[result.reason] += 1
            elif result.post.post_id in known:
                tally.skipped["duplicate"] += 1
            else:
                known.add(result.post.post_id)
                tally.kept += 1
                tally.media += len(result.media)
                for word in result.missed:
                    tally.skipped[f"media: {word}"] += 1
                yield result


def _until_damage(export: Export, collector: Collector, format: str, tally: Tally) -> Iterator[Raw]:
    """Raw records up to where the export is damaged, which makes it partial."""
    try:
        yield from collector.read(export, format)
    except DamagedExport as error:
        tally.partial.append(str(error))


def _parsed(raw: Raw, collector: Collector, format: str, tally: Tally) -> tuple[Found | Skip, ...]:
    if raw.partial:
        tally.partial.append(raw.partial)
    if raw.problem is None and raw.record is None:
        return ()
    tally.seen += 1
    if raw.problem is not None:
        return (Skip(raw.problem),)
    try:
        return collector.parse(raw.record, format)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        log.warning("%s: unexpected shape (%s: %s)", raw.where, type(error).__name__, error)
        return (Skip("unexpected shape"),)


def _post(found: FoundPost, platform: str, secret: bytes, source_id: str) -> Post:
    author = found.author_id
    return Post(
        platform=platform,
        post_id=found.post_id,
        source_id=source_id,
        author=author_key(secret, platform, author) if author is not None else None,
        created_at=found.created_at,
        title=redact(found.title, found.handles) if found.title else None,
        text=redact(found.text, found.handles) if found.text else None,
        hashtags=found.hashtags,
        community=found.community,
        flair=redact(found.flair, found.handles) if found.flair else None,
        permalink=found.permalink,
        score=found.score,
        replies=found.replies,
        sensitive=found.sensitive,
        language=found.language,
        repost_of=found.repost_of,
        opted_out=found.opted_out,
    )


def _media(found: FoundMedia, post: Post) -> Media:
    return Media(
        platform=post.platform,
        post_id=post.post_id,
        position=found.position,
        source_id=post.source_id,
        media_id=found.media_id,
        url=found.url,
        fallback_urls=found.fallback_urls,
        member=found.member,
        alt=redact(found.alt) if found.alt else None,
        claimed_type=found.claimed_type,
        claimed_width=found.claimed_width,
        claimed_height=found.claimed_height,
        rendition=found.rendition,
    )
