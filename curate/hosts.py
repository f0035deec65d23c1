"""Whose turn it is: work waits in one line per host, and a host that asks for quiet gets it.

Nothing here sleeps or speaks to anybody; times are told by the caller. Hosts take turns, each has at most so
many in flight, and waiting is done by the line, not by a worker.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

FIRST_WAIT_S = 0.5
SILENT_AFTER = 16
"""Time-outs in a row, with no answer among them, after which a host is taken to be down."""


@dataclass(slots=True)
class _Line(Generic[T]):
    """The work that waits for one host."""

    limit: int
    waiting: deque[T] = field(default_factory=deque)
    in_flight: int = 0
    not_before: float = 0.0
    queued: bool = False  # in the round, or among those that are held
    held_at: float = 0.0
    holds: int = 0
    silences: int = 0

    @property
    def has_nothing_to_tell(self) -> bool:
        busy = self.in_flight or self.waiting or self.queued
        return not (busy or self.holds or self.silences or self.not_before)


class Turns(Generic[T]):
    """Work by host, given out in fair turns. Not for several threads at once: its user has a lock.

    Args:
        per_host: how many of one host may be in flight.
        pause_s: least time between two starts at one host.
        patience_s: a host that wants a longer quiet than this is given up.
    """

    def __init__(self, per_host: int, pause_s: float, patience_s: float) -> None:
        self._per_host = per_host
        self._pause_s = pause_s
        self._patience_s = patience_s
        self._lines: dict[str, _Line[T]] = {}
        self._round: deque[str] = deque()
        self._held: list[tuple[float, int, str]] = []
        self._delayed: list[tuple[float, int, str, T]] = []
        self._numbers = count()
        self.waiting = 0
        self.closed: dict[str, str] = {}

    def add(self, host: str, work: T, *, at: float = 0.0, limit: int | None = None) -> None:
        """Put work at the end of the host's line, not to be begun before `at`."""
        self.waiting += 1
        if at:
            heapq.heappush(self._delayed, (at, next(self._numbers), host, work))
            return
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = _Line(limit or self._per_host)
        line.waiting.append(work)
        self._queue(host, line)

    def next(self, now: float) -> tuple[str, T] | None:
        """The next work that may begin now, if there is any; its host has one more in flight."""
        while self._delayed and self._delayed[0][0] <= now:
            _, _, host, work = heapq.heappop(self._delayed)
            self.waiting -= 1
            self.add(host, work)
        while self._held and self._held[0][0] <= now:
            self._round.append(heapq.heappop(self._held)[2])
        while self._round:
            host = self._round.popleft()
            line = self._lines.get(host)
            if line is None:
                continue  # it was held, closed and is done with
            line.queued = False
            if not line.waiting or line.in_flight >= line.limit:
                continue
            if line.not_before > now and host not in self.closed:
                self._queue(host, line)
                continue
            work = line.waiting.popleft()
            line.in_flight += 1
            self.waiting -= 1
            line.not_before = now + self._pause_s if self._pause_s else line.not_before
            self._queue(host, line)
            return host, work
        return None

    @property
    def ready(self) -> bool:
        """Whether there is likely more work that may begin now."""
        return bool(self._round)

    def wait(self, now: float) -> float | None:
        """Seconds until something may begin by itself; None if nothing will."""
        times = [heap[0][0] for heap in (self._held, self._delayed) if heap]
        return max(0.0, min(times) - now) if times else None

    def done(self, host: str) -> None:
        """One of the host's is no longer in flight."""
        line = self._lines[host]
        line.in_flight -= 1
        if line.has_nothing_to_tell:
            del self._lines[host]
        else:
            self._queue(host, line)

    def answered(self, host: str) -> None:
        """The host has answered as it should: what went before is forgotten."""
        if line := self._lines.get(host):
            line.holds = line.silences = 0

    def silent(self, host: str) -> None:
        """The host did not answer in time; too often in a row, and it is closed as `host-silent`."""
        if line := self._lines.get(host):
            line.silences += 1
            if line.silences >= SILENT_AFTER:
                self._close(host, line, "host-silent")

    def busy(self, host: str, now: float, began: float, asked: float | None) -> None:
        """The host wants quiet, for `asked` seconds if it says so; else longer each time.

        What had begun before the host was last held tells nothing new. A host that wants more than the
        patience there is is closed as `host-busy`.
        """
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = _Line(self._per_host)
        if asked is None and began < line.held_at:
            return
        line.holds += 1
        wait = FIRST_WAIT_S * 2 ** (line.holds - 1) if asked is None else asked
        line.held_at = now
        line.not_before = max(line.not_before, now + wait)
        if wait > self._patience_s:
            self._close(host, line, "host-busy")

    def _close(self, host: str, line: _Line[T], cause: str) -> None:
        """Ask the host nothing more; what waits for it is given out at once, to be told so."""
        self.closed.setdefault(host, cause)
        line.not_before, line.queued = 0.0, False
        self._queue(host, line)

    def _queue(self, host: str, line: _Line[T]) -> None:
        if line.queued or not line.waiting or line.in_flight >= line.limit:
            return
        line.queued = True
        if line.not_before and host not in self.closed:
            heapq.heappush(self._held, (line.not_before, next(self._numbers), host))
        else:
            self._round.append(host)
