"""Discord: what DiscordChatExporter writes as JSON, with or without the media downloaded.

Written by `JsonMessageWriter.cs` of https://github.com/Tyrrrz/DiscordChatExporter, whose keys these are;
messages of real exports that people published agree, no whole one was at hand. What decides:

- every file, also `... [part 2].json`, begins with its own guild and channel;
- direct messages, group messages and private threads were for few: they are dropped;
- an attachment's `url` is an address that expires, or a path relative to the JSON file;
- a picture inside an embed is the message's own where the embed leads nowhere else: it is that picture's
  link, or a bot's card without a link. A preview of a page or of a post elsewhere is not taken;
- hashtags stand in the text only, where `#channel` mentions look the same: a word with a hyphen, and the
  name of a channel of the export, are mentions;
- a forwarded message is a repost of the one it names;
- the score of a post is the number of its reactions; message ids hold their time (https://discord.com/developers/docs/reference#snowflakes).
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import ijson

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    VIDEO_ENDINGS,
    MemberStream,
    count_of,
    csv_files,
    elements,
    ending_of,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    text_of,
    web_address,
)
from curate.exports import Export
from schemas.errors import ExportError

PLATFORM = "discord"
VERSION = 1
FORMATS = (
    Format(
        "chat-exporter", "JSON of DiscordChatExporter, one file or a folder", "Guild - art.json"
    ),
)

LOOKED_AT = 50
"""Files whose first bytes are read to recognise a folder: attachments may be JSON too."""
_BEGINNING = re.compile(rb'^\{\s*"guild"\s*:\s*\{')
_CSV = b"AuthorID,Author,Date,Content,Attachments,Reactions"
_NOT_PUBLIC = frozenset({"DirectTextChat", "DirectGroupTextChat", "GuildPrivateThread"})
_THREADS = frozenset({"GuildPublicThread", "GuildNewsThread"})
_NO_GUILD = "0"
_SYSTEM = frozenset(
    {
        "RecipientAdd",
        "RecipientRemove",
        "Call",
        "ChannelNameChange",
        "ChannelIconChange",
        "ChannelPinnedMessage",
        "GuildMemberJoin",
        "ThreadCreated",
        *map(str, range(1, 19)),  # kinds that the program has no name for
    }
)
_MENTION = re.compile(r"<@!?\d+>")
_CHANNEL_LIKE = re.compile(r"#[^\s#]*-[^\s#]*")
_EPOCH_MS = 1_420_070_400_000


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """`chat-exporter` where a JSON file begins as its files do, or a table is one of its tables."""
    names = json_files(export)[:LOOKED_AT]
    if any(_is_ours(head_of(export, name)) for name in names):
        return "chat-exporter"
    return "chat-exporter" if _tables(export) else None


def _is_ours(head: bytes) -> bool:
    return bool(_BEGINNING.match(head)) and b'"channel"' in head and b'"messages"' in head


def _tables(export: Export) -> list[str]:
    return [n for n in csv_files(export)[:LOOKED_AT] if head_of(export, n, 64).startswith(_CSV)]


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every message of every channel, with its guild, its channel and the files that it names.

    Raises:
        ExportError: the export has tables only, which lack the ids of messages.
    """
    names = [n for n in json_files(export) if _is_ours(head_of(export, n))]
    if not names:
        raise ExportError(
            f"{export.path} is a CSV of DiscordChatExporter, which has no ids of messages; "
            "export again as JSON"
        )
    headings = {name: _heading(export, name) for name in names}
    channels = _channel_names(headings.values())
    files = _Files(export)
    for name in names:
        for raw in elements(export, name, "messages.item"):
            if raw.problem is None:
                context = {**headings[name], "channels": channels, "message": raw.record}
                raw = raw._replace(record={**context, "files": files.named_by(raw.record, name)})
            yield raw


def _heading(export: Export, name: str) -> dict[str, Any]:
    """The guild and the channel, which stand before the messages; nothing after them is read."""
    heading: dict[str, Any] = {}
    with MemberStream(export, name) as stream:
        try:
            for key, value in ijson.kvitems(stream, "", use_float=True):
                heading[key] = value
                if key == "channel":
                    break
        except (ijson.JSONError, UnicodeDecodeError):
            return {}  # read again with the messages, where the damage is told
    return {"guild": heading.get("guild"), "channel": heading.get("channel")}


def _channel_names(headings: Iterable[dict[str, Any]]) -> list[str]:
    names = [text_of(inside(h, "channel", k)) for h in headings for k in ("name", "category")]
    return sorted({name.casefold() for name in names if name})


class _Files:
    """The files of an export, found by the paths that its messages name."""

    def __init__(self, export: Export) -> None:
        self._names = frozenset(member.name for member in export.members())
        # an absolute path, of the machine that exported, is found by its folder and name
        self._tails = {_tail(name): name for name in self._names}

    def named_by(self, message: Any, document: str) -> dict[str, str]:
        """For each local path in a message, the member that it means."""
        folder = document.rpartition("/")[0]
        found = {path: self._member(path, folder) for path in set(_addresses(message))}
        return {path: member for path, member in found.items() if member}

    def _member(self, path: str, folder: str) -> str | None:
        if web_address(path):
            return None
        plain = path.replace("\\", "/").removeprefix("./")
        near = f"{folder}/{plain}".lstrip("/")
        return near if near in self._names else self._tails.get(_tail(plain))


def _tail(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _addresses(message: Any) -> Iterator[str]:
    for shown in (message, inside(message, "forwardedMessage")):
        for picture in (*_list(shown, "attachments"), *_embedded(shown)):
            if isinstance(picture.get("url"), str):
                yield picture["url"]


def _embedded(shown: Any) -> Iterator[dict[str, Any]]:
    """The pictures of the embeds of a message."""
    for embed in _list(shown, "embeds"):
        yield from _pictures(embed)


def _pictures(embed: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures of an embed, once each: its images, or else its thumbnail."""
    single = [p for key in ("image", "thumbnail") if isinstance(p := embed.get(key), dict)]
    several = [picture for picture in _list(embed, "images") if picture.get("url")]
    return several or [picture for picture in single if picture.get("url")][:1]


def _list(record: Any, key: str) -> list[dict[str, Any]]:
    value = inside(record, key)
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one message with its images, or why there is none. Pure."""
    message = inside(record, "message")
    if not isinstance(message, dict):
        return (Skip("not a record"),)
    guild, kind = id_of(inside(record, "guild", "id")), inside(record, "channel", "type")
    if guild in (None, _NO_GUILD) or kind in _NOT_PUBLIC or not isinstance(kind, str):
        return (Skip("not public"),)
    if str(message.get("type")) in _SYSTEM:
        return (Skip("not a post"),)
    post_id = id_of(message.get("id"))
    if post_id is None:
        return (Skip("no id"),)
    forwarded = message.get("forwardedMessage")
    shown = forwarded if isinstance(forwarded, dict) else message
    media, missed = _images(shown, record.get("files"))
    if not media:
        return (Skip(missed[0] if missed else "no image"),)
    return (Found(_post(post_id, record, message, shown), media, missed),)


def _post(
    post_id: str, record: dict[str, Any], message: dict[str, Any], shown: dict[str, Any]
) -> FoundPost:
    channel_id = id_of(inside(record, "channel", "id"))
    text = _text(message, shown)
    origin = id_of(inside(message, "reference", "messageId")) if shown is not message else None
    place = f"{inside(record, 'guild', 'id')}/{channel_id}"
    return FoundPost(
        post_id=post_id,
        author_id=id_of(inside(message, "author", "id")),
        handles=_handles(message),
        created_at=iso_time(message.get("timestamp"), naive_is_utc=False) or _time_in(post_id),
        title=_thread(record),
        text=text,
        hashtags=_hashtags(text, record.get("channels")),
        community=text_of(inside(record, "guild", "name")),
        flair=_channel(record),
        permalink=f"https://discord.com/channels/{place}/{post_id}" if channel_id else None,
        score=_reactions(message),
        repost_of=f"discord/{origin}" if origin and origin != post_id else None,
    )


def _thread(record: dict[str, Any]) -> str | None:
    """The name of the thread, if the message is in one."""
    channel = record.get("channel")
    return text_of(inside(channel, "name")) if inside(channel, "type") in _THREADS else None


def _channel(record: dict[str, Any]) -> str | None:
    """The name of the channel; of a thread, that of the channel which it belongs to."""
    return text_of(inside(record, "channel", "category" if _thread(record) else "name"))


def _people(message: dict[str, Any]) -> list[str]:
    people = [message.get("author"), *_list(message, "mentions")]
    names = [text_of(inside(person, key)) for person in people for key in ("name", "nickname")]
    return [name for name in names if name]


def _handles(message: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_people(message)))


def _text(message: dict[str, Any], shown: dict[str, Any]) -> str | None:
    """The text with everybody mentioned as `@user`: their names may be of several words."""
    text = text_of(shown.get("content"))
    if text is None:
        return None
    if "@" in text:
        text = _MENTION.sub("@user", text)
        for name in sorted(set(_people(message)), key=len, reverse=True):
            text = re.sub(rf"@{re.escape(name)}(?!\w)", "@user", text)
    return text


def _hashtags(text: str | None, channels: Any) -> tuple[str, ...]:
    """The hashtags of a text without the mentions of channels."""
    known = frozenset(channels if isinstance(channels, list) else ())
    plain = _CHANNEL_LIKE.sub(" ", text) if text else None
    return tuple(tag for tag in hashtags_in(plain) if tag.casefold() not in known)


def _reactions(message: dict[str, Any]) -> int | None:
    if not isinstance(message.get("reactions"), list):
        return None
    counts = [count_of(r.get("count")) for r in _list(message, "reactions")]
    return sum(c for c in counts if c is not None)


def _time_in(post_id: str) -> datetime | None:
    """The time that a message's id holds."""
    number = count_of(post_id)
    if number is None or number < 1 << 22:
        return None
    return datetime.fromtimestamp(((number >> 22) + _EPOCH_MS) / 1000, UTC)


# ---------------------------------------------------------------- images


def _images(shown: dict[str, Any], files: Any) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    """Attachments first, then the pictures of embeds, as they are shown."""
    known = files if isinstance(files, dict) else {}
    found: list[FoundMedia | str] = []
    for attachment in _list(shown, "attachments"):
        found.append(_attachment(len(found), attachment, known))
    for embed in _list(shown, "embeds"):
        for picture in _pictures(embed):
            elsewhere = _leads_to(embed, picture)
            found.append(elsewhere or _linked(len(found), picture, known))
    found += ["sticker"] * len(_list(shown, "stickers"))
    return (
        tuple(m for m in found if isinstance(m, FoundMedia)),
        tuple(m for m in found if isinstance(m, str)),
    )


def _attachment(
    position: int, attachment: dict[str, Any], files: dict[Any, Any]
) -> FoundMedia | str:
    """A file that was attached, if it is a picture; its name says what it is."""
    name = str(attachment.get("fileName"))
    kind = image_type(name)
    if kind is None:
        return "video" if ending_of(name) in VIDEO_ENDINGS else "not an image"
    url = web_address(attachment.get("url"))
    member = _member_of(attachment, files)
    if url is None and member is None:
        return "media not included"
    return FoundMedia(
        position=position,
        media_id=id_of(attachment.get("id")),
        url=url,
        member=member,
        claimed_type=kind,
        claimed_width=count_of(attachment.get("width")),
        claimed_height=count_of(attachment.get("height")),
    )


def _member_of(picture: dict[str, Any], files: dict[Any, Any]) -> str | None:
    path = picture.get("url")
    member = files.get(path) if isinstance(path, str) else None
    return member if isinstance(member, str) else None


def _leads_to(embed: dict[str, Any], picture: dict[str, Any]) -> str | None:
    """What an embed shows the picture for; None if it shows it for itself."""
    if isinstance(embed.get("video"), dict):
        return "video"
    link = web_address(embed.get("url"))
    itself = link is None or link in (picture.get("canonicalUrl"), picture.get("url"))
    return None if itself else "link preview"


def _linked(position: int, picture: dict[str, Any], files: dict[Any, Any]) -> FoundMedia | str:
    """A picture of an embed: at its own address first, then at the one Discord serves it from."""
    own, served = web_address(picture.get("canonicalUrl")), web_address(picture.get("url"))
    member = _member_of(picture, files)
    url = own or served
    if url is None and member is None:
        return "media not included"
    return FoundMedia(
        position=position,
        url=url,
        fallback_urls=(served,) if served and served != url else (),
        member=member,
        claimed_type=image_type(url) if url else None,
        claimed_width=count_of(picture.get("width")),
        claimed_height=count_of(picture.get("height")),
    )
