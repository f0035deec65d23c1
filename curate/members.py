"""Pictures that lie in the exports themselves: found by name, then by the ids that names are made of.

An export is often unpacked, packed again or put together from parts, so a member may lie elsewhere than its
record says. What is found by less than its whole name must be the only one of its kind: a wrong picture is
worse than none. A name that tells who somebody is stands in the catalog as a keyed hash
(`curate.privacy.hidden_member`), and is never written down otherwise.
"""

import re
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from curate.download import Received, failed, problem_of
from curate.exports import Export, open_export
from schemas.errors import ExportError
from schemas.records import Media

HIDDEN = "hidden/"
LEAST_ID = 6
"""Characters of a media id that can be told from a number that happens to stand in a name."""
_DISTINCT = re.compile(r"[0-9a-fA-F]{8}|\d{6}")


class Library:
    """The exports that media lie in, each opened once. One export is read by one thread at a time.

    Args:
        exports: source id -> where that export lies, in one part or more.
        limit: bytes beyond which a member is too large.
        hide: what stands in the catalog for a name that nobody may read there.
    """

    def __init__(
        self, exports: Mapping[str, Sequence[Path]], limit: int, hide: Callable[[str], str]
    ) -> None:
        self._paths = exports
        self._limit = limit
        self._hide = hide
        self._opened: dict[str, _Shelf | None] = {}
        self._lock = threading.Lock()

    def read(self, item: Media) -> Received:
        """The bytes of an item's member, or what was wrong; `url` is the name it was found under."""
        wanted = item.member or ""
        shelf = self._shelf(item.source_id)
        if shelf is None:
            return failed("export-missing", wanted)
        found = shelf.find(item)
        if len(found) != 1:
            return failed("member-ambiguous" if found else "member-missing", wanted)
        (name,) = found
        origin = self._told(name, wanted)
        try:
            data = shelf.export.head(name, self._limit + 1)
        except ExportError:
            return failed("member-damaged", origin)
        failure = "too-large" if len(data) > self._limit else problem_of(data)
        return Received(data if failure is None else None, failure, None, None, origin)

    def place(self, item: Media) -> tuple[str, int]:
        """Where a member lies: items read in this order are read along the export, not across it."""
        shelf = self._shelf(item.source_id)
        return item.source_id, shelf.position(item.member or "") if shelf else -1

    def _told(self, name: str, wanted: str) -> str:
        """What may be written of where a member was found."""
        if name == wanted or wanted.startswith(HIDDEN):
            return wanted
        beside = name.rpartition("/")[0] == wanted.rpartition("/")[0]
        return name if beside else self._hide(name)

    def _shelf(self, source_id: str) -> "_Shelf | None":
        with self._lock:
            if source_id not in self._opened:
                self._opened[source_id] = self._open(self._paths.get(source_id, ()))
            return self._opened[source_id]

    def _open(self, paths: Sequence[Path]) -> "_Shelf | None":
        try:
            export = open_export(*paths) if paths else None
            return _Shelf(export, self._hide) if export and export.members() else None
        except ExportError:
            return None


class _Shelf:
    """One export and the ways to find a member in it; what a way needs is made when it is first gone."""

    def __init__(self, export: Export, hide: Callable[[str], str]) -> None:
        self.export = export
        self._hide = hide

    def find(self, item: Media) -> tuple[str, ...]:
        """The member, or what it might be: none, or several between which nothing decides."""
        wanted = item.member or ""
        if wanted in self.export:
            return (wanted,)
        if wanted.startswith(HIDDEN):
            return tuple(self._hidden.get(wanted, ()))
        unclear: tuple[str, ...] = ()
        for way in (self._by_post, self._by_name, self._by_media):
            found = tuple(way(item, wanted))
            if len(found) == 1:
                return found
            unclear = unclear or found
        return unclear

    def position(self, wanted: str) -> int:
        """Where a member lies in the export; -1 if it must be looked for."""
        if wanted not in self._order and wanted.startswith(HIDDEN):
            wanted = next(iter(self._hidden.get(wanted, ())), wanted)
        return self._order.get(wanted, -1)

    def _by_post(self, item: Media, wanted: str) -> Iterator[str]:
        """Names in the same folder that begin with the post's id."""
        folder = wanted.rpartition("/")[0]
        prefix = f"{folder}/{item.post_id}" if folder else item.post_id
        at = bisect_left(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            rest = self._sorted[at][len(prefix) :]
            if not rest[:1].isalnum() and "/" not in rest:
                yield self._sorted[at]
            at += 1

    def _by_name(self, item: Media, wanted: str) -> Iterable[str]:
        """The same file name anywhere, if it says which picture it is, or its folder is the same."""
        folder, _, last = wanted.rpartition("/")
        found = self._named.get(last, [])
        ids = (item.post_id, item.media_id or item.post_id)
        if _DISTINCT.search(last) and not last.upper().startswith(("IMG", "DSC")):
            return found
        if any(len(i) >= LEAST_ID and i in last for i in ids):
            return found
        beside = f"{folder.rpartition('/')[2]}/{last}"
        return [n for n in found if folder and f"/{n}".endswith(f"/{beside}")]

    def _by_media(self, item: Media, wanted: str) -> Iterator[str]:
        """File names that hold the media's id, and not as a part of a longer word."""
        wanted_id = item.media_id or ""
        if len(wanted_id) < LEAST_ID:
            return
        at = self._text.find(wanted_id)
        while at >= 0:
            end = at + len(wanted_id)
            start = self._text.rfind("\n", 0, at) + 1
            around = self._text[at - 1 : at] + self._text[end : end + 1]
            if not any(c.isalnum() for c in around):
                yield from self._named[self._text[start : self._text.index("\n", end)]]
            at = self._text.find(wanted_id, self._text.index("\n", end))

    @cached_property
    def _order(self) -> dict[str, int]:
        return {member.name: at for at, member in enumerate(self.export.members())}

    @cached_property
    def _hidden(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._order:
            found[self._hide(name)].append(name)
        return dict(found)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._order)

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._order:
            found[name.rpartition("/")[2]].append(name)
        return dict(found)

    @cached_property
    def _text(self) -> str:
        """Every file name on a line of its own: one search goes through all of them."""
        return "\n" + "".join(f"{name}\n" for name in self._named)
