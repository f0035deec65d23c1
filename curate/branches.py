"""Further processes that fetch, each its own hosts, from the side of the one that starts them.

One interpreter runs one thread at a time, so that a quick server is faster than it. The catalog and the
exports stay here: items are sent to a branch as it asks for them, and its rows come back (`curate.branch`
tells how). A branch that dies takes nothing along but time: what it had not answered is left for a later run.

Little is imported here, so that a branch can be started first of all and load while this process does.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from curate.shares import MOST
from schemas import errors

if TYPE_CHECKING:
    from curate.fetch import Wanted
    from schemas.records import Fetch

log = logging.getLogger(__name__)

LIST = 256
"""Items to a message."""
SENT = ("platform", "post_id", "position", "source_id", "url", "fallback_urls")
"""What an item is told as; the number of the attempt comes after it."""
LEAVE_S = 5.0
"""How long the thread of a branch is waited for; cut off by the exit, it makes DuckDB complain."""
START = (
    "import gc, json, sys; gc.set_threshold(20_000); sys.path[:] = json.loads(sys.argv[1]); "
    "from curate.branch import main; main()"
)
"""What a branch runs; it makes little that is garbage, and need not look for it as often as by default."""


def cores() -> int:
    """Processors that this process may use."""
    if sys.platform == "win32":
        return 1  # where Ctrl-C cannot be kept from a process, there is but one
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worth_starting() -> int:
    """How many branches there may be use for, before it is known what there is to fetch."""
    return min(cores(), MOST) - 1


class Branch:
    """A process that fetches.

    Attributes:
        later: by host, the items it leaves for a later run; complete when its rows have ended.
        died: whether it ended before it was done.
    """

    def __init__(self) -> None:
        self.later: Counter[str] = Counter()
        self.died = False
        self._listener: threading.Thread | None = None
        command = [sys.executable, "-P", "-c", START, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        with _no_ctrl_c():
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=-1)  # noqa: S603

    def rows(self, rules: dict[str, Any], items: Iterator["Wanted"]) -> Iterator[list["Fetch"]]:
        """The rows of these items, as they are done.

        Raises:
            StoreError: the media cannot be written.
            RuntimeError: what should not happen; the text is the other's traceback.
        """
        self._listener = threading.current_thread()
        yield from self._exchange(rules, _lists(items))

    def close(self) -> None:
        """End the process, at once if it is not done, and the thread that took its rows."""
        self._process.kill()
        self._process.wait()
        if self._listener not in (None, threading.current_thread()):
            self._listener.join(LEAVE_S)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]  # both are pipes

    def _exchange(
        self, rules: dict[str, Any], lists: Iterator[list[Any]]
    ) -> Iterator[list["Fetch"]]:
        from schemas.records import Fetch

        self._send(rules)
        for kind, what in self._messages():
            if kind == "more":
                self._send(next(lists, None))
            elif kind == "rows":
                yield [Fetch(*row) for row in what]
            elif kind == "end":
                self.later.update(what)
                return
            else:
                raise _error(*what)
        self.died = True

    def _send(self, message: Any) -> None:
        # it may have died or been closed, which is told when what it said has been read
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _messages(self) -> Iterator[list[Any]]:
        """What it says, until it falls silent; a line may break off then."""
        for line in self._process.stdout or ():
            if line.endswith(b"\n"):
                yield json.loads(line)


@contextmanager
def started(number: int) -> Iterator[list[Branch]]:
    """So many branches, which end with the block; none where the system has no room for them."""
    made: list[Branch] = []
    try:
        try:
            made += (Branch() for _ in range(number))
        except OSError as error:
            log.warning("fetching in one process: another cannot be started (%s)", error)
            yield []
        else:
            yield made
    finally:
        for one in made:
            one.close()


def _lists(items: Iterator["Wanted"]) -> Iterator[list[Any]]:
    """Items as they travel; what is in an export never does."""
    while found := list(islice(items, LIST)):
        yield [[*(getattr(item, name) for name in SENT), attempt] for item, attempt in found]


def _error(name: str, text: str) -> Exception:
    kind = getattr(errors, name, None) if name else None
    return kind(text) if kind else RuntimeError(text)


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """What is started in the block is deaf to Ctrl-C from its first moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
