r"""Telegram: what Telegram Desktop writes when a chat, or the whole account, is exported as JSON.

Written by `export_output_json.cpp` of https://github.com/telegramdesktop/tdesktop, whose keys these are;
messages of real exports that people published agree, no whole one was at hand. What decides:

- control characters are written as `\x0N`, which no JSON reader takes: they are repaired in the stream;
- only a chat of a type that begins with `public_` could be read by everybody; all others are dropped;
- an album is one message per picture without an id of its own: neighbours of one sender, one second and
  one origin are one post, unless two of them have a text each; an album has ten items at most;
- `date` is the clock of the exporting machine: only `date_unixtime` (since 2022) says a time;
- what a forwarded message was forwarded from is a name, so it has no original here;
- a photo is Telegram's re-encoding, a picture sent as a file is what its author sent;
- where a file was left out, its path is a sentence in parentheses;
- the score of a post is the number of its reactions. An export as HTML lacks ids and types: it is refused.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import ijson

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    MemberStream,
    count_of,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    stem_of,
    text_of,
)
from curate.exports import Export
from schemas.errors import ExportError

PLATFORM = "telegram"
VERSION = 1
FORMATS = (
    Format("chat", "Export of one chat by Telegram Desktop, JSON with its folders", "result.json"),
    Format(
        "account", "Export of all chats by Telegram Desktop, JSON with its folders", "result.json"
    ),
)

MAX_ALBUM = 10
"""Items of an album: https://core.telegram.org/api/files#albums-grouped-media."""
_CHAT = re.compile(
    rb'"type"\s*:\s*"(?:saved_messages|replies|verification_codes|personal_chat|bot_chat'
    rb'|(?:private|public)_(?:group|supergroup|channel))"'
)
_ACCOUNT = re.compile(
    rb'^\{\s*"about"\s*:.*"(?:personal_information|profile_pictures|contacts|frequent_contacts'
    rb'|sessions|chats|left_chats)"\s*:',
    re.DOTALL,
)
_HTML = re.compile(r"(?:^|/)(?:messages\d*|export_results)\.html$")
_ROOTS = ("", "chats.list.item.", "left_chats.list.item.")
_MESSAGES = frozenset(f"{root}messages.item" for root in _ROOTS)
_CHATS = frozenset(root[:-1] for root in _ROOTS)
_HEADINGS = {f"{root}{key}": key for root in _ROOTS for key in ("id", "type", "name")}
_STORIES = "stories.item"
_MEDIA = {
    "sticker": "sticker",
    "video_file": "video",
    "video_message": "video",
    "animation": "video",
    "voice_message": "audio",
    "audio_file": "audio",
}


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Telegram, by the first bytes of its `result.json` or its pages."""
    kind = next((kind for _, kind in _results(export)), None)
    return kind or ("chat" if _is_html(export) else None)


def _is_html(export: Export) -> bool:
    pages = (m.name for m in export.members() if _HTML.search(m.name))
    return any(b"<title>Exported Data</title>" in head_of(export, name, 512) for name in pages)


def _results(export: Export) -> Iterator[tuple[str, str]]:
    """(member, format) of each result file: one per folder, or the only JSON file there is."""
    names = json_files(export)
    named = [n for n in names if stem_of(n).rsplit("/", 1)[-1] == "result.json"]
    for name in named or (names if len(names) == 1 else []):
        head = head_of(export, name)
        if _ACCOUNT.match(head) and b"Telegram" in head:
            yield name, "account"
        elif _CHAT.search(head[:4096]) and b'"messages"' in head:
            yield name, "chat"


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every post of the chats, an album as one; each message of a chat that is not public.

    Raises:
        ExportError: the export has pages for people to read only.
    """
    names = frozenset(member.name for member in export.members())
    results = [name for name, _ in _results(export)]
    if not results:
        raise ExportError(
            f"{export.path} is an export as HTML, which has no ids and types; "
            "export again as machine-readable JSON"
        )
    for name in results:
        yield from _grouped(_messages(export, name), name, names)


class _Message(NamedTuple):
    """One message with its chat, or what was wrong; the message is None where its chat is private."""

    chat: dict[str, Any]
    message: dict[str, Any] | None
    problem: Raw | None = None


def _messages(export: Export, name: str) -> Iterator[_Message]:
    """The messages of every chat of a result file, as a stream in bounded memory."""
    number = 0
    with MemberStream(export, name) as stream:
        try:
            for found in _built(ijson.parse(Repaired(stream), use_float=True)):
                yield found
                number += 1
        except (ijson.JSONError, UnicodeDecodeError) as error:
            told = " ".join(str(error).split())[:80]
            partial = f"{name} is not valid JSON after {number} messages ({told})"
            yield _Message({}, None, Raw(f"{name}[{number}]", None, "broken file", partial))


def _built(events: Iterable[tuple[str, str, Any]]) -> Iterator[_Message]:
    """Messages out of the events of a JSON reader; those of a private chat are counted, not built."""
    chat: dict[str, Any] = {}
    building: Any = None
    for prefix, event, value in events:
        if building is not None:
            building.event(event, value)
            if event == "end_map" and prefix in _MESSAGES:
                yield _Message(chat, building.value)
                building = None
        elif prefix in _MESSAGES:
            if event == "start_map" and _is_public(chat):
                building = ijson.ObjectBuilder()
                building.event(event, value)
            elif event in ("end_map", "string", "number", "null", "boolean"):
                yield _Message(chat, None)
        elif prefix in _HEADINGS:
            chat[_HEADINGS[prefix]] = value
        elif event == "start_map" and prefix in _CHATS:
            chat = {}
        elif event == "end_map" and prefix == _STORIES:
            yield _Message({"type": "story"}, None)


def _is_public(chat: dict[str, Any]) -> bool:
    return str(chat.get("type")).startswith("public_")


def _grouped(found: Iterable[_Message], name: str, names: frozenset[str]) -> Iterator[Raw]:
    """Records of one post each, in the order of the file."""
    folder = name.rpartition("/")[0]
    album: list[dict[str, Any]] = []
    chat: dict[str, Any] = {}
    first = 0
    for number, item in enumerate(found):
        if album and not (item.message and item.chat is chat and _joins(album, item.message)):
            yield _record(f"{name}[{first}]", chat, album, folder, names)
            album = []
        if item.problem is not None:
            yield item.problem
        elif item.message is None:
            yield Raw(f"{name}[{number}]", {"chat": item.chat, "messages": []})
        else:
            chat, first = item.chat, first if album else number
            album.append(item.message)
    if album:
        yield _record(f"{name}[{first}]", chat, album, folder, names)


def _record(
    where: str,
    chat: dict[str, Any],
    album: list[dict[str, Any]],
    folder: str,
    names: frozenset[str],
) -> Raw:
    """One post with its chat, and for each path that it names the member that is there."""
    paths = [m[key] for m in album for key in ("photo", "file") if isinstance(m.get(key), str)]
    members = {path: f"{folder}/{path}".lstrip("/") for path in paths}
    files = {path: member for path, member in members.items() if member in names}
    return Raw(where, {"chat": chat, "messages": album, "files": files})


def _joins(album: list[dict[str, Any]], message: dict[str, Any]) -> bool:
    """Whether a message is one more picture of the album before it."""
    same = ("type", "date", "date_unixtime", "from_id", "from", "forwarded_from")
    return bool(
        len(album) < MAX_ALBUM
        and _has_media(album[-1])
        and _has_media(message)
        and (message.get("date_unixtime") or message.get("date"))
        and all(message.get(key) == album[-1].get(key) for key in same)
        and not (message.get("text") and any(m.get("text") for m in album))
    )


def _has_media(message: dict[str, Any]) -> bool:
    return "photo" in message or "file" in message


class Repaired:
    r"""A stream of JSON whose `\xHH` is read as the `\u00HH` that was meant.

    An escape that a chunk ends in is held back until the rest of it was read, so `\\x41`, which is a
    backslash and three letters, stays as it is wherever the chunks meet.
    """

    _ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|.)", re.DOTALL)
    _UNFINISHED = (b"", b"x", *(b"x%c" % digit for digit in b"0123456789ABCDEFabcdef"))

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """About `size` bytes; none only at the end."""
        while chunk := self._stream.read(size):
            data = self._rest + chunk
            cut = self._cut(data)
            self._rest = data[cut:]
            if cut:
                return self._repair(data[:cut])
        last, self._rest = self._rest, b""
        return last

    def _cut(self, data: bytes) -> int:
        """Where the last escape begins if it is not whole, else the end."""
        for tail in self._UNFINISHED:
            before = data.removesuffix(tail) if data.endswith(tail) else b""
            if (len(before) - len(before.rstrip(b"\\"))) % 2:
                return len(before) - 1
        return len(data)

    def _repair(self, data: bytes) -> bytes:
        if b"\\x" not in data:
            return data
        return self._ESCAPE.sub(lambda m: b"\\u00" + m[1] if m[1] else m[0], data)


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one message or album with its images, or why there is none. Pure."""
    chat, messages = inside(record, "chat"), inside(record, "messages")
    if not isinstance(chat, dict) or not isinstance(messages, list):
        return (Skip("not a record"),)
    if not _is_public(chat):
        return (Skip("not public"),)
    album = [m for m in messages if isinstance(m, dict)]
    if not album or album[0].get("type") != "message":
        unread = album and album[0].get("type") == "unsupported"
        return (Skip("unsupported" if unread else "not a post"),)
    files = record.get("files")
    media, missed = _images(album, files if isinstance(files, dict) else {})
    if not media:
        return (Skip(missed[0] if missed else "no image"),)
    chat_id, first_id = id_of(chat.get("id")), id_of(album[0].get("id"))
    if chat_id is None or first_id is None:
        return (Skip("no id"),)
    return (Found(_post(f"{chat_id}/{first_id}", chat, album), media, missed),)


def _post(post_id: str, chat: dict[str, Any], album: list[dict[str, Any]]) -> FoundPost:
    first = album[0]
    counts = [n for m in album for n in _reactions(m)]
    return FoundPost(
        post_id=post_id,
        author_id=id_of(first.get("from_id")),
        handles=_handles(chat, album),
        # a program that writes the zone into `date` has said the time as well
        created_at=moment(first.get("date_unixtime"))
        or iso_time(first.get("date"), naive_is_utc=False),
        text="\n".join(t for m in album if (t := _text(m))) or None,
        hashtags=tuple(dict.fromkeys(tag for m in album for tag in _hashtags(m))),
        community=text_of(chat.get("name")),
        score=sum(counts) if counts else None,
    )


def _handles(chat: dict[str, Any], album: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names of people: of the sender unless it is the chat itself, of origins, and in the text."""
    keys = ("from", "author", "forwarded_from", "saved_from", "via_bot")
    names = [text_of(m.get(key)) for m in album for key in keys]
    entities = [e for m in album for e in _entities(m)]
    names += [text_of(e["text"]) for e in entities if e.get("type") == "mention_name"]
    return tuple(dict.fromkeys(n for n in names if n and n != chat.get("name")))


def _reactions(message: dict[str, Any]) -> Iterator[int]:
    reactions = message.get("reactions")
    for reaction in reactions if isinstance(reactions, list) else []:
        count = count_of(inside(reaction, "count"))
        if count is not None:
            yield count


def _entities(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the text: of their own list, or (before 2022) of the text itself."""
    for key in ("text_entities", "text"):
        parts = message.get(key)
        if isinstance(parts, list) and parts:
            whole = [{"type": "plain", "text": p} if isinstance(p, str) else p for p in parts]
            return [p for p in whole if isinstance(p, dict) and isinstance(p.get("text"), str)]
    return []


def _text(message: dict[str, Any]) -> str | None:
    """The text as shown; a name that stands for an account is not kept."""
    if isinstance(message.get("text"), str) and not _entities(message):
        return text_of(message["text"])
    parts = ("@user" if e.get("type") == "mention_name" else e["text"] for e in _entities(message))
    return text_of("".join(parts))


def _hashtags(message: dict[str, Any]) -> Iterator[str]:
    """The hashtags that Telegram saw; `#tag@channel` is the tag, within a channel."""
    for entity in _entities(message):
        if entity.get("type") == "hashtag":
            tag = text_of(entity["text"].lstrip("#").partition("@")[0])
            if tag:
                yield tag


def _images(
    album: list[dict[str, Any]], files: dict[str, Any]
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    carrying = [m for m in album if _has_media(m)]
    found = [_image(position, message, files) for position, message in enumerate(carrying)]
    return (
        tuple(m for m in found if isinstance(m, FoundMedia)),
        tuple(m for m in found if isinstance(m, str)),
    )


def _image(position: int, message: dict[str, Any], files: dict[str, Any]) -> FoundMedia | str:
    """The picture of one message, or why there is none."""
    photo = message.get("photo")
    claimed = message.get("mime_type")
    if photo is None:
        kind = _MEDIA.get(str(message.get("media_type"))) or _kind_of(claimed)
        if kind:
            return kind
    path = message.get("file") if photo is None else photo
    member = files.get(path) if isinstance(path, str) else None
    if not isinstance(member, str):
        return "media not included"
    return FoundMedia(
        position=position,
        member=member,
        claimed_type=(text_of(claimed) if photo is None else None) or image_type(member),
        claimed_width=count_of(message.get("width")),
        claimed_height=count_of(message.get("height")),
        rendition="original" if photo is None else "re-encode",
    )


def _kind_of(claimed: Any) -> str | None:
    """What a file is by its media type; None for a picture."""
    kind = str(claimed).partition("/")[0]
    if kind == "image":
        return None
    return kind if kind in ("video", "audio") else "not an image"
