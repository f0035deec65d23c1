"""What collectors share: opening JSON, lines and tables of an export, and plain facts of a value.

Everything that reads yields `Raw`, with a problem where a record should be; everything that converts is
pure and gives None for what is not there, since a platform's JSON promises nothing.
"""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import ijson
import orjson

from curate.collectors.contract import Raw
from curate.exports import COMPRESSED, Export

MAX_FIELD = 8 * 2**20
"""Characters of one CSV field; the standard library's own limit is shorter than a long post."""
IMAGE_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "heic": "image/heic",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "jxl": "image/jxl",
}
MAX_WRAPPINGS = 8
"""How deep an item lies in what it is wrapped in; the deepest known is four."""
OPT_OUT_TAGS = frozenset(
    {"nobot", "nobots", "noindex", "nosearch", "noarchive", "noscrape", "noai"}
)
"""Tags by which people ask, in their profiles, not to be collected."""
VIDEO_ENDINGS = frozenset({"mp4", "webm", "mov", "m4v", "avi", "mkv", "gifv", "3gp", "m3u8"})
_TAG = re.compile(r"(?<![\w#/&])[#\uff03](\w*[^\W\d]\w*)")
_BLOCKS = frozenset({"p", "br", "div", "li", "blockquote", "h1", "h2", "h3", "figure"})
_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf]")


# ---------------------------------------------------------------- reading


def stem_of(name: str) -> str:
    """A member's name in lower case, without the suffix of a compression."""
    low = name.lower()
    for ending in COMPRESSED:
        low = low.removesuffix(ending)
    return low


def json_files(export: Export) -> list[str]:
    """The members that are JSON or JSON lines by name, at any depth, in the export's order."""
    endings = (".json", ".jsonl", ".ndjson")
    return [m.name for m in export.members() if stem_of(m.name).endswith(endings)]


def csv_files(export: Export) -> list[str]:
    """The members that are tables by name."""
    endings = (".csv", ".tsv")
    return [m.name for m in export.members() if stem_of(m.name).endswith(endings)]


def head_of(export: Export, name: str, size: int = 65_536) -> bytes:
    """The first bytes of a member, without a byte order mark and leading blanks."""
    return export.head(name, size).removeprefix(b"\xef\xbb\xbf").lstrip()


def loads(data: bytes) -> Any:
    """The JSON document in `data`, which may begin with a byte order mark.

    Half of a surrogate pair, as posts cut off by a program hold, becomes `?`: the fast reader refuses it,
    and the post would be lost.

    Raises:
        ValueError: it is no JSON.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\ud" not in data and b"\\uD" not in data:
            raise
        try:
            text = json.dumps(json.loads(data), ensure_ascii=False)
        except RecursionError:
            raise error from None  # brackets without end
        return orjson.loads(text.encode("utf-8", "replace"))


def is_lines(export: Export, name: str) -> bool:
    """Whether a JSON file holds one document per line: by its name, else by its first line."""
    if not stem_of(name).endswith(".json"):
        return True
    try:
        loads(next(export.lines(name), b""))
    except ValueError:
        return False
    return True


def documents(export: Export, names: Iterable[str]) -> Iterator[Raw]:
    """Each JSON document of the members named: one per line, or one per file."""
    for name in names:
        yield from lines(export, name) if is_lines(export, name) else [document(export, name)]


def entries(export: Export, names: Iterable[str]) -> Iterator[Raw]:
    """As `documents`, but each element of a file that is one list, as a stream in bounded memory."""
    for name in names:
        listed = stem_of(name).endswith(".json") and head_of(export, name, 16).startswith(b"[")
        yield from elements(export, name, "item") if listed else documents(export, [name])


def lines(export: Export, name: str) -> Iterator[Raw]:
    """Each line of a member as a JSON document."""
    for number, line in enumerate(export.lines(name), start=1):
        where = f"{name}:{number}"
        try:
            yield Raw(where, loads(line))
        except ValueError:
            yield Raw(where, problem="broken line")


def document(export: Export, name: str) -> Raw:
    """A member that is one JSON document, read whole; for long lists inside one see `elements`."""
    try:
        return Raw(name, loads(export.read(name)))
    except ValueError:
        return Raw(name, problem="broken file", partial=f"{name} is not valid JSON")


def elements(export: Export, name: str, prefix: str) -> Iterator[Raw]:
    """The elements of a list inside one JSON document, as a stream in bounded memory.

    Args:
        export: where the member is.
        name: the member.
        prefix: where the list's elements are, as ijson names it: `item`, `messages.item`.
    """
    number = 0
    with MemberStream(export, name) as stream:
        try:
            for element in ijson.items(stream, prefix, use_float=True):
                yield Raw(f"{name}[{number}]", element)
                number += 1
        except (ijson.JSONError, UnicodeDecodeError) as error:
            told = " ".join(str(error).split())[:80]
            partial = f"{name} is not valid JSON after {number} records ({told})"
            yield Raw(f"{name}[{number}]", problem="broken file", partial=partial)


class MemberStream(io.RawIOBase):
    """The bytes of a member for parsers that read a stream, without the mark it may begin with.

    Damage that is met on the way is an ExportError, as everywhere: `Export.open` tells only that at the
    beginning.
    """

    def __init__(self, export: Export, name: str) -> None:
        self._chunks = _without_mark(export.chunks(name))
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the next piece goes; 0 at the end."""
        if not self._piece:
            self._piece = memoryview(next(self._chunks, b""))
        view = memoryview(buffer).cast("B")
        taken = self._piece[: len(view)]
        self._piece = self._piece[len(taken) :]
        view[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        """Close the member."""
        self._chunks.close()
        super().close()


def _without_mark(chunks: Iterator[bytes]) -> Generator[bytes]:
    first = next(chunks, b"").removeprefix(b"\xef\xbb\xbf")
    if first:
        yield first
    yield from chunks


def rows(export: Export, name: str) -> Iterator[Raw]:
    """Each row of a table as a dictionary by column name; a quoted field may hold line breaks.

    The delimiter is the one of comma, semicolon and tab that the header has most of. A row with more
    or fewer fields than the header is a problem of that row alone.
    """
    csv.field_size_limit(MAX_FIELD)
    with io.BufferedReader(MemberStream(export, name)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        first = text.readline()
        table = csv.reader(_chain(first, text), delimiter=_delimiter(first))
        yield from _records(table, name)
        text.detach()


def _records(table: Any, name: str) -> Iterator[Raw]:
    header: list[str] | None = None
    number = 0
    while True:
        where = f"{name}:{number}"
        number += 1
        try:
            fields = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(where, problem="broken row", partial=f"{name} cannot be read on: {error}")
            return
        if header is None:
            header = [f.strip() for f in fields]
        elif fields and len(fields) != len(header):
            yield Raw(where, problem="row of another width than the header")
        elif fields:
            yield Raw(where, dict(zip(header, fields, strict=True)))


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


# ---------------------------------------------------------------- plain facts


def hashtags_in(*texts: str | None) -> tuple[str, ...]:
    """The hashtags written in texts, without `#`, in order, once each; `#1` is none."""
    found = [
        t
        for text in texts
        if text and ("#" in text or "\uff03" in text)
        for t in _TAG.findall(text)
    ]
    return tuple(dict.fromkeys(found))


def text_of(value: Any) -> str | None:
    """`value` if it is text that says something, as UTF-8 can hold it; else None."""
    if not isinstance(value, str) or not value.strip():
        return None
    return value.encode("utf-8", "replace").decode()


def unescaped(value: Any) -> str | None:
    """Text with its HTML escapes resolved."""
    text = text_of(value)
    return html.unescape(text) if text and "&" in text else text


def repaired(value: Any) -> str | None:
    """Text as it was meant: Meta's exports write the bytes of UTF-8 as characters of Latin-1."""
    text = text_of(value)
    if text is None or not _MOJIBAKE.search(text):
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def from_html(value: Any) -> str | None:
    """The text of an HTML fragment, its blocks on lines of their own."""
    text = text_of(value)
    if text is None or ("<" not in text and "&" not in text):
        return text
    parser = _Text()
    parser.feed(text)
    parser.close()
    kept = "".join(parser.parts)
    return re.sub(r"[ \t]*\n\s*", "\n", kept).strip() or None


class _Text(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def moment(value: Any) -> datetime | None:
    """A time of seconds since 1970, as a number or as text, in UTC; None if it is none."""
    try:
        number = float(value)
        return datetime.fromtimestamp(number, UTC) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def iso_time(value: Any, *, naive_is_utc: bool = True) -> datetime | None:
    """An ISO 8601 time in UTC; one without a zone is UTC, or None where that cannot be known."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        if time.tzinfo is None:
            return time.replace(tzinfo=UTC) if naive_is_utc else None
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def count_of(value: Any) -> int | None:
    """A count as a whole number of 64 bits, also from text such as `1,234`."""
    if isinstance(value, str):
        plain = value.strip().replace(",", "")
        value = int(plain) if plain.isdecimal() and len(plain) < 19 else None
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if whole else None


def flag_of(value: Any) -> bool | None:
    """True or False where the value is one of them."""
    return value if isinstance(value, bool) else None


def id_of(value: Any) -> str | None:
    """An id as text, from text or from a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def ending_of(name: str) -> str:
    """The ending of a path or address, lower case, without its query; "" if it has none."""
    last = name.split("?", 1)[0].split("#", 1)[0].rsplit("/", 1)[-1]
    return last.rsplit(".", 1)[-1].lower() if "." in last else ""


def image_type(name: str) -> str | None:
    """The media type that the ending of a path or address claims, if it is a picture's."""
    return IMAGE_TYPES.get(ending_of(name))


def web_address(value: Any) -> str | None:
    """`value` if it is an http or https address; else None."""
    text = text_of(value)
    return text if text and text.startswith(("http://", "https://")) else None


def first_of(record: Any, keys: Sequence[str]) -> Any:
    """The first value of `keys` in `record` that is neither absent, None nor empty text."""
    if not isinstance(record, dict):
        return None
    return next((record[k] for k in keys if record.get(k) not in (None, "")), None)


def inside(record: Any, *path: str | int) -> Any:
    """The value at `path` inside nested dictionaries and lists; None where a step is missing."""
    for step in path:
        if isinstance(step, str) and isinstance(record, dict):
            record = record.get(step)
        elif (
            isinstance(step, int)
            and isinstance(record, list)
            and -len(record) <= step < len(record)
        ):
            record = record[step]
        else:
            return None
    return record


def unwrapped(answer: Any, inner_of: Callable[[Any], Any], depth: int = 0) -> Iterator[Any]:
    """The items of an answer, in whatever they are wrapped, at most `MAX_WRAPPINGS` deep.

    Args:
        answer: a list, a wrapper, or an item.
        inner_of: what a wrapper holds, a list or another wrapper; None for an item.
        depth: how many wrappers are off already.
    """
    inner = answer if isinstance(answer, list) else inner_of(answer)
    if inner is None or depth > MAX_WRAPPINGS:
        yield answer
    elif isinstance(inner, list):
        for item in inner:
            yield from unwrapped(item, inner_of, depth + 1)
    else:
        yield from unwrapped(inner, inner_of, depth + 1)


def opts_out(tags: Iterable[str]) -> bool:
    """Whether the tags of a profile ask not to be collected."""
    return any(tag.casefold() in OPT_OUT_TAGS for tag in tags)
