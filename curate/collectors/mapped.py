"""Tables and JSON of any origin, read as the policy of a workspace says: `[[imports]]` in wildrf.toml.

One entry names a platform, a glob of file names, and which column holds what; there is no code to write. A
table is CSV or TSV (https://www.rfc-editor.org/rfc/rfc4180), a JSON list of objects, or JSON lines
(https://jsonlines.org). What decides:

- a column of a table is named as in its header; in JSON it is a path, `user.id`, `media.0.url`, or with `*`
  for every element of a list, `media.*.url`;
- several pictures are a list, a cell with several addresses, or columns `url`, `url2`, `url3`, with `alt2`
  and `file2` beside them;
- `file` is where a picture lies, seen from the table;
- a column that is not there stops the collection: a wrong name must not look like a table without images.
"""

import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from itertools import islice, zip_longest
from typing import Any

from curate.collectors.contract import Collector, Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    VIDEO_ENDINGS,
    count_of,
    csv_files,
    document,
    elements,
    ending_of,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    is_lines,
    json_files,
    lines,
    moment,
    rows,
    text_of,
    web_address,
)
from curate.exports import Export
from schemas.errors import ExportError, PolicyError
from schemas.policy import MappedImport

FIELDS = (
    *("post_id", "url", "file", "author", "created_at", "title", "text", "hashtags", "community"),
    *("alt", "permalink", "sensitive", "language", "score", "repost_of"),
)
NUMBERED = ("url", "file", "alt")
"""Fields of a picture: `url` is the first one's, `url2` the second one's."""
LOOKED_AT = 50
"""Records of JSON in which a path must be found once."""
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)")
_NEXT_ADDRESS = re.compile(r"[\s,;|]+(?=https?://)")
_TRUE = frozenset({"true", "1", "yes", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "f", "n"})


def mapped(imports: Iterable[MappedImport]) -> dict[str, Collector]:
    """A collector for each entry of a policy, by a name that no platform has.

    Raises:
        PolicyError: an entry names a field that posts do not have, or lacks one they need.
    """
    entries = enumerate(imports, start=1)
    return {f"import {number}: {e.platform}": Mapped(_checked(e)) for number, e in entries}


def _checked(entry: MappedImport) -> MappedImport:
    where = f"the import of {entry.platform} ({entry.match})"
    known = {_kind(f) if _kind(f) in NUMBERED else f for f in entry.columns}
    if unknown := sorted(known - set(FIELDS)):
        raise PolicyError(
            f"{where} has a column for {unknown[0]!r}; posts have {', '.join(FIELDS)}"
        )
    if "post_id" not in known or not known & {"url", "file"}:
        raise PolicyError(f"{where} needs columns for post_id and for url or file; add them")
    if entry.zone not in ("Z", "UTC") and not _ZONE.fullmatch(entry.zone):
        raise PolicyError(f"{where} has the zone {entry.zone!r}; write an offset such as +02:00")
    return entry


@dataclass(frozen=True, slots=True)
class Mapped:
    """The collector of one entry."""

    entry: MappedImport

    @property
    def PLATFORM(self) -> str:
        """The platform that the entry names."""
        return self.entry.platform

    @property
    def VERSION(self) -> int:
        """Another number for another mapping, so that a table is read again when it is mended."""
        return zlib.crc32(repr(self.entry).encode())

    @property
    def FORMATS(self) -> tuple[Format, ...]:
        """The one format of the entry."""
        return (Format("import", "Own table or JSON, as wildrf.toml maps it", self.entry.match),)

    def recognise(self, export: Export) -> str | None:
        """`import` where a file that the glob names has every column.

        Raises:
            ExportError: files that the glob names lack a column.
        """
        lacks = [self._lack(export, name) for name in self._tables(export)]
        if not lacks or any(lack is None for lack in lacks):
            return "import" if lacks else None
        if any(self._matches(name) for name in self._tables(export)):
            raise ExportError(str(lacks[0]))
        return None

    def read(self, export: Export, format: str) -> Iterator[Raw]:
        """Every row of every table, with the pictures that lie beside it."""
        for name in self._tables(export):
            lack = self._lack(export, name)
            if lack is not None:
                yield Raw(name, partial=lack)
                continue
            for raw in _records(export, name):
                yield raw if raw.record is None else self._with_files(raw, export, name)

    def parse(self, record: Any, format: str) -> tuple[Found | Skip, ...]:
        """The post of one row with its images, or why there is none. Pure."""
        row = inside(record, "row")
        if not isinstance(row, dict):
            return (Skip("not a record"),)
        post_id = id_of(self._value(row, "post_id"))
        if post_id is None:
            return (Skip("no id"),)
        stated = self._value(row, "created_at")
        made = _time(stated, self.entry.time, self.entry.zone)
        if made is None and stated not in (None, ""):
            return (Skip("time in another form"),)
        media, missed = self._images(row, inside(record, "members"))
        if not media:
            return (Skip(missed[0] if missed else "no image"),)
        return (Found(self._post(row, post_id, made), media, missed),)

    # ------------------------------------------------------------ tables

    def _tables(self, export: Export) -> list[str]:
        """The files that may be meant: named by the glob, or in an export that it names."""
        names = [*csv_files(export), *json_files(export)]
        found = [name for name in names if self._matches(name)]
        return found or (names if self._matches(export.path.name) else [])

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(part, self.entry.match) for part in (name, name.rsplit("/", 1)[-1]))

    def _lack(self, export: Export, name: str) -> str | None:
        """Which column a table lacks, in one line; None if it has all."""
        first = [r.record for r in islice(_records(export, name), LOOKED_AT) if r.record]
        if not first:
            return None  # an empty table lacks nothing
        there = sorted({key for row in first if isinstance(row, dict) for key in row})
        for field, path in self.entry.columns.items():
            if not any(_has(row, path) for row in first):
                columns = ", ".join(there) or "none"
                return (
                    f"{name} has no column {path!r} for {field}; it has {columns}: mend [[imports]]"
                )
        return None

    def _with_files(self, raw: Raw, export: Export, table: str) -> Raw:
        folder = table.rpartition("/")[0]
        stated = [text for value in self._every(raw.record, "file") if (text := text_of(value))]
        members = {path: _member(path, folder, export) for path in stated}
        return raw._replace(record={"row": raw.record, "members": members})

    # ------------------------------------------------------------ one row

    def _value(self, row: dict[str, Any], field: str) -> Any:
        path = self.entry.columns.get(field)
        return next(iter(_values(row, path)), None) if path else None

    def _every(self, row: Any, field: str) -> list[Any]:
        """All values of a field of pictures, whatever their numbers."""
        paths = (p for f, p in self.entry.columns.items() if _kind(f) == field)
        return [value for path in paths for value in _values(row, path)]

    def _post(self, row: dict[str, Any], post_id: str, made: datetime | None) -> FoundPost:
        author, title, text = (self._value(row, f) for f in ("author", "title", "text"))
        author_id = id_of(author)
        handles = (author_id,) if author_id and not author_id.isdecimal() else ()
        link = web_address(self._value(row, "permalink"))
        named = link is not None and any(h.casefold() in link.casefold() for h in handles)
        tags = self._tags(row)
        return FoundPost(
            post_id=post_id,
            author_id=author_id,
            handles=handles,
            created_at=made,
            title=text_of(title),
            text=text_of(text),
            hashtags=hashtags_in(text_of(title), text_of(text)) if tags is None else tags,
            community=text_of(self._value(row, "community")),
            permalink=None if named else link,
            score=count_of(self._value(row, "score")),
            sensitive=_flag(self._value(row, "sensitive")),
            language=text_of(self._value(row, "language")),
            repost_of=self._origin(row, post_id),
        )

    def _tags(self, row: dict[str, Any]) -> tuple[str, ...] | None:
        """The tags of their own column; None where there is none."""
        path = self.entry.columns.get("hashtags")
        if path is None:
            return None
        texts = [text for value in _values(row, path) if (text := text_of(value))]
        parts = [part for text in texts for part in text.split(self.entry.separator)]
        plain = (part.strip().lstrip("#\uff03") for part in parts)
        return tuple(dict.fromkeys(tag for tag in plain if tag))

    def _origin(self, row: dict[str, Any], post_id: str) -> str | None:
        origin = id_of(self._value(row, "repost_of"))
        if origin is None or origin == post_id:
            return None
        own = re.fullmatch(r"[a-z0-9][a-z0-9_-]*/.+", origin)
        return origin if own else f"{self.entry.platform}/{origin}"

    def _images(
        self, row: dict[str, Any], members: Any
    ) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
        files = members if isinstance(members, dict) else {}
        media, missed = [], []
        for place, (url, file, alt) in enumerate(self._pictures(row)):
            found = _image(place, url, files.get(file) if isinstance(file, str) else None, alt)
            if isinstance(found, str):
                missed.append(found)
            else:
                media.append(found)
        return tuple(media), tuple(missed)

    def _pictures(self, row: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
        """Address, file and alternative text of each picture; where both are empty there is none."""
        columns = self.entry.columns
        numbers = {f[len(kind) :] for kind in NUMBERED for f in columns if _kind(f) == kind}
        for number in sorted(numbers, key=lambda n: int(n or 1)):
            found = [_values(row, columns.get(f"{kind}{number}")) for kind in NUMBERED]
            for url, file, alt in zip_longest(_addresses(found[0]), *found[1:]):
                if url not in (None, "") or file not in (None, ""):
                    yield url, file, alt


def _kind(field: str) -> str:
    """The field without its number."""
    return field.rstrip("0123456789")


def _image(place: int, url: Any, member: Any, alt: Any) -> FoundMedia | str:
    address, file = web_address(url), text_of(member)
    if address is None and file is None:
        return "media not included"
    if ending_of(file or address or "") in VIDEO_ENDINGS:
        return "video"
    return FoundMedia(
        position=place,
        url=address,
        member=file,
        alt=text_of(alt),
        claimed_type=image_type(file or "") or image_type(address or ""),
    )


def _addresses(values: list[Any]) -> list[Any]:
    """Addresses, those in one cell apart."""
    return [
        part
        for value in values
        for part in (_NEXT_ADDRESS.split(value.strip()) if isinstance(value, str) else [value])
    ]


def _records(export: Export, name: str) -> Iterable[Raw]:
    if name in csv_files(export):
        return rows(export, name)
    if head_of(export, name, 64).startswith(b"["):
        return elements(export, name, "item")
    return lines(export, name) if is_lines(export, name) else [document(export, name)]


def _has(row: Any, path: str) -> bool:
    """Whether a record has a place of that name, be it empty."""
    if isinstance(row, dict) and path in row:
        return True
    first, _, rest = path.partition(".")
    if first == "*":
        return isinstance(row, list) and any(_has(item, rest) if rest else True for item in row)
    if isinstance(row, list):
        there = first.isdecimal() and int(first) < len(row)
        return there and (not rest or _has(row[int(first)], rest))
    return isinstance(row, dict) and first in row and (not rest or _has(row[first], rest))


def _values(row: Any, path: str | None) -> list[Any]:
    """What lies at a path: of a list all elements, of nothing nothing."""
    if not path:
        return []
    if isinstance(row, dict) and path in row:
        value = row[path]
        return value if isinstance(value, list) else [value]
    first, _, rest = path.partition(".")
    if first == "*":
        return (
            [v for item in row for v in (_values(item, rest) or [None])]
            if isinstance(row, list)
            else []
        )
    step: str | int = int(first) if isinstance(row, list) and first.isdecimal() else first
    value = inside(row, step)
    if value is None:
        return []
    if not rest:
        return value if isinstance(value, list) else [value]
    return _values(value, rest)


def _member(path: str, folder: str, export: Export) -> str | None:
    """The file at a path seen from its table, or from the top of the export."""
    stated = path.replace("\\", "/")
    names = [posixpath.normpath(f"{folder}/{stated}").lstrip("/"), posixpath.normpath(stated)]
    return next((name for name in names if name in export), None)


def _time(value: Any, form: str, zone: str) -> datetime | None:
    """A time in UTC, written as the entry says; None if it is written otherwise."""
    if value in (None, ""):
        return None
    if form == "seconds":
        return moment(value)
    if form == "milliseconds":
        return _thousandth(value)
    try:
        text = str(value).strip()
        time = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)
        return (time if time.tzinfo else time.replace(tzinfo=_zone(zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _thousandth(value: Any) -> datetime | None:
    try:
        return moment(float(value) / 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _zone(text: str) -> timezone:
    match = _ZONE.fullmatch(text)
    if match is None:
        return UTC
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None
