"""A share of a fetch in a process of its own: items come in, rows go out (see `curate.branches`).

Both are lines of JSON on the standard streams. The first line in says what the rules are, and each later one
is a list of items, sent when it is asked for; `null` is the last. Lines out are a kind and what belongs to
it: `more` asks for items, `rows` are done, `end` and `error` are the last.

It does not outlive the process that started it: that one's end is the end of the input, which is always
being read. Ctrl-C is the other's business. Little is imported: what takes long to start is of little help.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

from curate.branches import SENT
from curate.download import Downloader, Received, failed
from curate.fetch import Wanted, fetch_all
from curate.store import MediaStore
from schemas.errors import WildrfError
from schemas.records import Fetch, Media

if TYPE_CHECKING:
    from schemas.policy import FetchPolicy

AHEAD = 2
"""Lists of items that are asked for before they are needed."""
ROWS = 250
"""Rows to a line, or fewer after `EVERY_S`."""
EVERY_S = 1.0
NAMES = tuple(field.name for field in fields(Fetch))
"""What a row is told as."""


def main() -> None:
    """Serve the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library may print is no message
    desk = _Desk(sys.stdin.buffer, out)
    try:
        desk.tell("end", _serve(desk))
    except WildrfError as error:
        desk.tell("error", [type(error).__name__, str(error)])
    except BaseException:
        desk.tell("error", ["", traceback.format_exc()])
    os._exit(0)  # whoever is still at work is waited for by nobody


def _serve(desk: "_Desk") -> dict[str, int]:
    """Fetch what comes in; how many items are left for later, by host."""
    rules = desk.rules
    store = MediaStore.at(rules["media"], Path(rules["base"]))
    # checked where it comes from; the class itself would load what checks it
    policy = cast("FetchPolicy", SimpleNamespace(**rules["policy"]))
    later: Counter[str] = Counter()
    with Downloader(policy, honour_opt_out=rules["honour"]) as downloader:
        for rows in fetch_all(
            desk.items(),
            library=_NoExports(),
            downloader=downloader,
            put=partial(store.put_unless, frozenset(rules["refused"])),
            batch=ROWS,
            every_s=EVERY_S,
            later=later,
        ):
            desk.tell("rows", [[getattr(row, name) for name in NAMES] for row in rows])
    return dict(later)


class _NoExports:
    """What lies in an export is fetched by the process that has it open."""

    def read(self, item: Media) -> Received:
        return failed("export-missing", item.member or "")


class _Desk:
    """Messages in and out, and the end of all when the other side is gone."""

    def __init__(self, source: IO[bytes], out: IO[str]) -> None:
        self._source, self._out = source, out
        self._lock = threading.Lock()
        self._lists: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        self.rules: dict[str, Any] = json.loads(source.readline() or "null")
        threading.Thread(target=self._listen, name="desk", daemon=True).start()

    def tell(self, kind: str, what: Any = None) -> None:
        """One message out."""
        with self._lock:
            try:
                self._out.write(json.dumps([kind, what]) + "\n")
                self._out.flush()
            except OSError:
                os._exit(1)

    def items(self) -> Iterator[Wanted]:
        """What is to be fetched, to the end."""
        for _ in range(AHEAD):
            self.tell("more")
        while (found := self._lists.get()) is not None:
            self.tell("more")
            yield from map(_wanted, found)

    def _listen(self) -> None:
        """Read at once whatever comes, so that the end of the input is met when it is there."""
        for line in self._source:
            self._lists.put(json.loads(line))
        os._exit(1)


def _wanted(sent: list[Any]) -> Wanted:
    *values, attempt = sent
    known = dict(zip(SENT, values, strict=True))
    return Wanted(Media(**{**known, "fallback_urls": tuple(known["fallback_urls"])}), attempt)
