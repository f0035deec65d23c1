"""A capture: what a platform answers is appended to a file, line by line, until there is enough.

The file is all the state there is. Killed at any point, a capture that is started again with the
same file cuts off a line that was half written, knows every record it has, and goes on; each
record is there once.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from curate.live import Live
from curate.live.asking import Asking
from curate.live.contract import Asked, Done, Record, Stopped
from curate.work import Progress
from schemas.errors import InputError

log = logging.getLogger(__name__)

TAIL = 100
"""Records at the end of the file that a walk may look at to go on."""
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Captured:
    """How a capture ended.

    `records` are those of the whole file, `new` those of this run; `first` and `last` are the
    earliest and the latest time that any of them states. `complete` is whether the platform had no
    more of what was asked for; `failed` whether it, or the way to it, is why there is less.
    """

    records: int
    new: int
    pages: int
    first: datetime | None
    last: datetime | None
    complete: bool
    detail: str | None
    interrupted: bool = False
    failed: bool = False


def capture(
    live: Live,
    asked: Asked,
    path: Path,
    asking: Asking,
    secrets: Mapping[str, str],
    progress: Progress,
) -> Captured:
    """Append what `asked` is for to the file at `path`, up to its limit, and say how that ended.

    Raises:
        InputError: the file holds something else than records of this platform.
        Stopped: the server refuses, and gave nothing.
    """
    file = _File(path, live)
    progress.start(f"capture {live.PLATFORM}", asked.limit)
    progress.advance(min(file.records, asked.limit))
    detail, complete, interrupted, failed = None, True, False, False
    try:
        complete = _append(live.walk(asked, asking, secrets, file.done), file, asked, progress)
        detail = None if complete else f"the limit of {asked.limit} is reached"
    except Stopped as stop:
        if not asking.pages:
            raise
        complete, detail, failed = False, str(stop), stop.failed
    except KeyboardInterrupt:
        complete, detail, interrupted = False, "interrupted", True
    finally:
        file.close()
    found = Captured(
        file.records, file.new, asking.pages, file.first, file.last, complete, detail,
        interrupted=interrupted, failed=failed,
    )  # fmt: skip
    log.info("captured %s: %s", path.name, found)
    return found


def _append(walk: Iterator[Record], file: "_File", asked: Asked, progress: Progress) -> bool:
    """Whether the walk came to its end before the limit."""
    if file.records >= asked.limit:
        return False
    for record in walk:
        if file.add(record):
            progress.advance(1)
        if file.records >= asked.limit:
            return False
    return True


class _File:
    """A capture file, open for appending; made with the first record."""

    def __init__(self, path: Path, live: Live) -> None:
        self.path = path
        self.records = self.new = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._known: set[str] = set()
        self._tail: deque[Record] = deque(maxlen=TAIL)
        self._stream: BinaryIO | None = None
        if path.exists():
            cut_half_line(path)
            self._read(live)

    @property
    def done(self) -> Done:
        """What it holds, for a walk to go on."""
        return Done(self.records, tuple(self._tail))

    def add(self, record: Record) -> bool:
        """Append a record, unless it is here; whether it was not."""
        if record.key in self._known:
            return False
        if self._stream is None:
            self._stream = self.path.open("ab", buffering=0)
        # Unbuffered, so that a kill leaves one line in half at most; a full disk takes a part of it.
        rest = memoryview(record.line + b"\n")
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._count(record)
        self.new += 1
        return True

    def close(self) -> None:
        """Bring what is written to the disk; an interruption may have left a line in half."""
        if self._stream is not None:
            os.fsync(self._stream.fileno())
            self._stream.close()
            cut_half_line(self.path)

    def _count(self, record: Record) -> None:
        self.records += 1
        self._known.add(record.key)
        self._tail.append(record)
        if record.time is not None:
            self.first = min(self.first or record.time, record.time)
            self.last = max(self.last or record.time, record.time)

    def _read(self, live: Live) -> None:
        with self.path.open("rb") as stream:
            for line in stream:
                self._count(live.tell(line.rstrip(b"\n")))
        if self.records and not any(record.id for record in self._tail):
            raise InputError(
                f"{self.path} holds no records of {live.PLATFORM}; name the file of a capture of it, or none"
            )


def cut_half_line(path: Path) -> int:
    """Cut a file after its last line break, and say how many bytes went."""
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        at = size
        while at:
            start = max(0, at - CHUNK)
            stream.seek(start)
            found = stream.read(at - start).rfind(b"\n")
            if found >= 0:
                at = start + found + 1
                break
            at = start
        stream.truncate(at)
    return size - at
