"""Media items to stored bytes: from the export where they are in it, else from the network.

Bytes are stored as they came. Bytes that are no picture at all are a failure; a damaged picture
is stored, and the probe says what is wrong with it. Every item gives one row, in the order
asked.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curate.download import Downloader, Received, looks_like_image
from curate.exports import Export, open_export
from schemas.errors import ExportError
from schemas.policy import FetchPolicy
from schemas.records import Fetch, Media

MediaKey = tuple[str, str, int]
AHEAD = 4
"""Items in flight per worker: enough to keep all busy behind one slow item."""


def fetch_all(
    items: Sequence[Media],
    *,
    exports: Mapping[str, Path],
    policy: FetchPolicy,
    put: Callable[[bytes], str],
    clock: Callable[[], float],
    attempts: Mapping[MediaKey, int] | None = None,
    downloader: Downloader | None = None,
) -> Iterator[Fetch]:
    """One row per item, in order, made by `policy.workers` threads.

    Args:
        items: what to bring home.
        exports: source id -> where that export lies.
        policy: limits, mirrors, number of threads.
        put: stores bytes and gives their digest; called from several threads.
        clock: seconds, monotonic.
        attempts: the number this attempt has, for items tried before; else 1.
        downloader: one to share; else one is made and closed.
    """
    given = downloader or Downloader(policy)
    library = _Library(exports)
    work = partial(_fetch_one, library=library, downloader=given, put=put, clock=clock)
    numbers = attempts or {}
    try:
        with ThreadPoolExecutor(policy.workers, thread_name_prefix="fetch") as pool:
            yield from _in_order(pool, work, items, numbers, policy.workers * AHEAD)
    finally:
        if downloader is None:
            given.close()


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Media, int], Fetch],
    items: Sequence[Media],
    numbers: Mapping[MediaKey, int],
    ahead: int,
) -> Iterator[Fetch]:
    """Results in the order of `items`, with at most `ahead` of them begun."""
    running: deque[Future[Fetch]] = deque()
    try:
        for item in items:
            running.append(pool.submit(work, item, numbers.get(_key(item), 1)))
            if len(running) >= ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one place that was tried."""

    received: Received
    origin: str


def _fetch_one(
    item: Media,
    attempt: int,
    *,
    library: "_Library",
    downloader: Downloader,
    put: Callable[[bytes], str],
    clock: Callable[[], float],
) -> Fetch:
    started = clock()
    answer = _first_good(item, library, downloader)
    received = answer.received
    return Fetch(
        platform=item.platform,
        post_id=item.post_id,
        position=item.position,
        attempt=attempt,
        digest=put(received.data) if received.data is not None else None,
        failure=received.failure,
        origin=answer.origin,
        status=received.status,
        served_type=received.served_type,
        bytes=len(received.data) if received.data is not None else None,
        seconds=clock() - started,
    )


def _first_good(item: Media, library: "_Library", downloader: Downloader) -> _Answer:
    """The first place that gives the picture; else what the first place said.

    An author's wish to be left out ends the search: a fallback must not get around it.
    """
    answers: list[_Answer] = []
    for answer in _answers(item, library, downloader):
        if answer.received.failure in (None, "opted-out"):
            return answer
        answers.append(answer)
    return answers[0] if answers else _Answer(_failed("no-url"), "")


def _answers(item: Media, library: "_Library", downloader: Downloader) -> Iterator[_Answer]:
    """Every place of an item, tried only when asked for: the export, the URL, the fallbacks."""
    if item.member is not None:
        name, received = library.read(item, downloader.policy.max_bytes)
        yield _Answer(received, name)
    for url in dict.fromkeys((item.url, *item.fallback_urls)):
        if url:
            received = downloader.get(url)
            yield _Answer(received, received.url or url)


def _failed(cause: str) -> Received:
    return Received(None, cause, None, None, "")


def _key(item: Media) -> MediaKey:
    return item.platform, item.post_id, item.position


class _Library:
    """The exports that items came from, each opened once, read by one thread at a time."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._opened: dict[str, Export | None] = {}
        self._lock = threading.Lock()

    def read(self, item: Media, limit: int) -> tuple[str, Received]:
        """The member's name as found, and its bytes or what was wrong."""
        with self._lock:
            name, result = self._read(item, limit)
        if isinstance(result, str):
            return name, _failed(result)
        if len(result) > limit:
            return name, _failed("too-large")
        if not result:
            return name, _failed("empty")
        if not looks_like_image(result):
            return name, _failed("not-an-image")
        return name, Received(result, None, None, None, name)

    def _read(self, item: Media, limit: int) -> tuple[str, bytes | str]:
        wanted = item.member or ""
        export = self._export(item.source_id)
        if export is None:
            return wanted, "export-missing"
        name = _resolved(export, wanted, item.post_id)
        if name is None:
            return wanted, "member-missing"
        try:
            return name, export.head(name, limit + 1)
        except ExportError:
            return name, "member-damaged"

    def _export(self, source_id: str) -> Export | None:
        if source_id not in self._opened:
            path = self._paths.get(source_id)
            try:
                export = open_export(path) if path is not None else None
                self._opened[source_id] = export if export and export.members() else None
            except ExportError:
                self._opened[source_id] = None
        return self._opened[source_id]


def _resolved(export: Export, wanted: str, post_id: str) -> str | None:
    """The member as named; else the only one in its folder that begins with the post's id."""
    if wanted in export:
        return wanted
    folder = wanted.rpartition("/")[0]
    prefix = f"{folder}/{post_id}-" if folder else f"{post_id}-"
    near = [m.name for m in export.members() if m.name.startswith(prefix)]
    return near[0] if len(near) == 1 else None
