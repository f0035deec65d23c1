"""Mastodon and its kin: the account archive, and statuses as the API gives them.

Archive: https://docs.joinmastodon.org/user/moving/#export, whose contents are those of ActivityPub
(https://www.w3.org/TR/activitystreams-vocabulary/); API: https://docs.joinmastodon.org/entities/Status/.
Akkoma and Pleroma write the same archive; they, GoToSocial, Pixelfed and Threads give the same
statuses with keys missing. What decides:

- `id` is of one server, `uri` of all: a post is `host/ID`, the host and last step of its `uri`, so that
  an archive and the timelines of every server meet, and no handle is kept. A boost's ends in `/activity`,
  which is left out; posts before 2017 are `tag:host,date:objectId=ID`;
- an author is `name@host`, the host being that of the actor's own address. It is in the archive and in
  every answer, whether actors are `/users/NAME` or `/ap/users/ID`, and with or without `account.uri`;
- public is what is sent to the public collection, listed or not
  (https://www.w3.org/TR/activitypub/#public-addressing); followers-only, direct and server-only posts are
  not;
- a boost holds its original's media in the API; an archive holds only its address, so no picture. What a
  bridge copies from Bluesky or X is a repost of the post there;
- `remote_url` is the origin's file, `url` the copy of the server that was asked, which it may purge;
- a server encodes uploads again, to drop metadata and what is over 8.3 megapixels
  (https://github.com/mastodon/mastodon/blob/main/lib/paperclip/vips_lazy_thumbnail.rb), so the best that
  can be had is a re-encoding. Others keep the bytes, but a status does not say whose software it is;
- the content warning is the title, as on servers whose posts have a subject;
- asking to be left out is `noindex`, which is off until the author chooses it
  (https://docs.joinmastodon.org/entities/Account/#noindex), and the tags #nobot, #noindex and the like
  in a profile (https://blog.elizafox.space/a-proposed-specification-for-fediverse-and-other-social-media-bot-tags).
  `indexable` and `discoverable` are off until chosen too: their absence asks for nothing.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from curate.collectors import reading
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.exports import Export

PLATFORM = "mastodon"
VERSION = 1
FORMATS = (
    Format("archive", "Account archive: .tar.gz, .zip or folder", "archive-20260102.tar.gz"),
    Format("timeline", "Statuses of the API: timelines, accounts, searches", "tag_timeline.json"),
)

PUBLIC = frozenset(
    {
        "https://www.w3.org/ns/activitystreams#Public",
        "as:Public",
        "Public",
    }  # the spec has all three
)
VISIBLE = frozenset({"public", "unlisted"})
AUDIO_ENDINGS = frozenset({"mp3", "ogg", "oga", "wav", "flac", "m4a", "aac", "opus", "wma"})
_OUTBOX = re.compile(r"(?:^|/)outbox\.json$")
_STORED = "media_attachments/"
_TAG_URI = re.compile(r"^tag:([^,]+),[^:]*:objectId=(\w+)")
_USER_STEP = re.compile(r"/(?:users/|@)([^/@]+)")
_AT_POST = re.compile(r"at://(did:[a-z]+:[\w.:%-]+)/app\.bsky\.feed\.post/([\w.~:-]+)")
_BSKY_POST = re.compile(r"bsky\.app/profile/(did:[a-z]+:[\w.:%-]+)/post/([\w.~:-]+)")
_X_POST = re.compile(r"^https?://(?:www\.)?(?:twitter|x)\.com/\w+/status/(\d+)")
_OWN_NUMBERS = frozenset({"comment", "comments"})  # Lemmy counts them apart from its posts

_Media = tuple[tuple[FoundMedia, ...], tuple[str, ...]]


# ---------------------------------------------------------------- recognise and read


def recognise(export: Export) -> str | None:
    """The format of an export of Mastodon, by names first and first bytes second."""
    outbox = next((m.name for m in export.members() if _OUTBOX.search(m.name)), None)
    if outbox is not None:
        return "archive" if b'"orderedItems"' in reading.head_of(export, outbox) else None
    names = reading.json_files(export)
    head = reading.head_of(export, names[0]) if names else b""
    a_crawlers_own = b'"subcategory"' in head
    statuses = all(key in head for key in (b'"media_attachments"', b'"acct"', b'"visibility"'))
    return "timeline" if statuses and not a_crawlers_own else None


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of Mastodon, an archived one with its author and local files."""
    if format == "archive":
        yield from _read_archive(export)
        return
    for name in reading.json_files(export):
        for raw in _documents(export, name):
            yield from _statuses(raw)


def _documents(export: Export, name: str) -> Iterator[Raw]:
    """Each document of a file: its lines, the elements of its one list, or the file."""
    if reading.is_lines(export, name):
        yield from reading.lines(export, name)
    elif reading.head_of(export, name, 64).startswith(b"["):
        yield from reading.elements(export, name, "item")
    else:
        yield reading.document(export, name)


def _statuses(raw: Raw) -> Iterator[Raw]:
    """The statuses of a page, or of the answer to a search; else the document itself."""
    found = raw.record
    if isinstance(found, dict) and isinstance(found.get("statuses"), list):
        found = found["statuses"]
    if not isinstance(found, list):
        yield raw
        return
    for number, status in enumerate(found):
        yield Raw(f"{raw.where}[{number}]", status)


def _read_archive(export: Export) -> Iterator[Raw]:
    names = [m.name for m in export.members()]
    files = _stored_files(names)
    for outbox in filter(_OUTBOX.search, names):
        root = outbox.removesuffix("outbox.json")
        actor = _actor(export, root)
        if not actor:
            yield Raw(outbox, partial=f"{root}actor.json, which says who the author is, is missing")
        for raw in reading.elements(export, outbox, "orderedItems.item"):
            yield _with_context(raw, actor, files, root)


def _actor(export: Export, root: str) -> dict[str, Any]:
    """What an archive says of its author, as far as it matters."""
    name = f"{root}actor.json"
    found = reading.document(export, name).record if name in export else None
    kept = ("id", "url", "preferredUsername", "summary", "attachment")
    return {k: found[k] for k in kept if k in found} if isinstance(found, dict) else {}


def _stored_files(names: list[str]) -> dict[str, list[str]]:
    """The local files by what is the same in every archive: their path from `media_attachments/` on."""
    files: dict[str, list[str]] = {}
    for name in names:
        if _STORED in name:
            files.setdefault(_tail(name), []).append(name)
    return files


def _tail(path: str) -> str:
    """What follows the folder or the bucket that a server keeps its files in."""
    return path[max(path.find(_STORED), 0) :]


def _with_context(raw: Raw, actor: dict[str, Any], files: dict[str, list[str]], root: str) -> Raw:
    """One activity with its author and the files of the archive that its attachments are."""
    if raw.record is None:
        return raw
    members = {}
    for item in _list(reading.inside(raw.record, "object", "attachment")):
        address = _href(item)
        near = files.get(_tail(address), []) if address else []
        if address and near:
            members[address] = min(near, key=lambda name: not name.startswith(root))
    return raw._replace(record={"activity": raw.record, "actor": actor, "members": members})


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    return (_archived(record) if format == "archive" else _status(record),)


def _status(raw: dict[str, Any]) -> Found | Skip:
    """A status of the API; a boost shows the media, text and tags of its original."""
    if not isinstance(raw.get("account"), dict) or "media_attachments" not in raw:
        return Skip("not a post")
    shown = raw["reblog"] if isinstance(raw.get("reblog"), dict) else raw
    if not (_is_visible(raw) and _is_visible(shown)):
        return Skip("not public")
    post_id, origin = _status_id(raw), _status_id(shown)
    if post_id is None or origin is None:
        return Skip("no id")
    media, missed = _attached(shown)
    if not media:
        return Skip(missed[0] if missed else "no image")
    return Found(_of_status(raw, shown, post_id, origin), media, missed)


def _of_status(raw: dict[str, Any], shown: dict[str, Any], post_id: str, origin: str) -> FoundPost:
    handles = tuple(dict.fromkeys((*_handles(raw), *_handles(shown))))
    addresses = (raw.get("url"), raw.get("uri"))
    text = reading.from_html(shown.get("content"))
    return FoundPost(
        post_id=post_id,
        author_id=_account_id(raw),
        handles=handles,
        created_at=reading.iso_time(raw.get("created_at")),
        title=reading.text_of(shown.get("spoiler_text")),
        text=text,
        hashtags=_tags(shown, text),
        permalink=_permalink(addresses, handles),
        score=reading.count_of(raw.get("favourites_count")),
        replies=reading.count_of(raw.get("replies_count")),
        sensitive=reading.flag_of(shown.get("sensitive")),
        language=reading.text_of(shown.get("language")),
        repost_of=_copied(addresses) if shown is raw else f"{PLATFORM}/{origin}",
        opted_out=_opted_out(raw.get("account")) or _opted_out(shown.get("account")),
    )


def _is_visible(status: dict[str, Any]) -> bool:
    """Whether anybody may see it: a public timeline of old servers does not say so."""
    return status.get("visibility") in (*VISIBLE, None) and status.get("local_only") is not True


def _status_id(status: dict[str, Any]) -> str | None:
    name = reading.text_of(reading.inside(status, "account", "username"))
    addresses = (status.get("uri"), status.get("url"))
    return next((found for a in addresses if (found := _global_id(a, name))), None)


def _account_id(status: dict[str, Any]) -> str | None:
    account = status.get("account")
    address = reading.web_address(reading.first_of(account, ("uri", "url")))
    return _author_id(reading.text_of(reading.inside(account, "username")), address)


def _handles(status: dict[str, Any]) -> tuple[str, ...]:
    """The names of the author and of those mentioned, alone and with their server."""
    people = [status.get("account"), *_list(status.get("mentions"))]
    found = (reading.inside(person, key) for person in people for key in ("acct", "username"))
    return tuple(name for value in found if (name := reading.text_of(value)))


def _tags(status: dict[str, Any], text: str | None) -> tuple[str, ...]:
    tags = status.get("tags")
    if not isinstance(tags, list):
        return reading.hashtags_in(text)
    return _plain_tags(reading.inside(tag, "name") for tag in tags)


def _opted_out(account: Any) -> bool:
    """Whether an author asks, by a setting or by a tag in the profile, to be left out."""
    if reading.inside(account, "noindex") is True:
        return True
    fields = _list(reading.inside(account, "fields"))
    return _asks(reading.inside(account, "note"), fields)


def _attached(status: dict[str, Any]) -> _Media:
    items = _list(status.get("media_attachments"))
    return _sorted_out([_attachment(position, item) for position, item in enumerate(items)])


def _attachment(position: int, item: Any) -> FoundMedia | str:
    """An image of a status: the origin's file first, then the server's copies of it."""
    full, small = _addresses(item, "remote_url", "url"), _addresses(item, "preview_url")
    kind = _kind(str(reading.inside(item, "type")), full)
    if kind != "image":
        return kind
    if not full and not small:
        return "media not included"
    first, *others = full + small
    size = reading.inside(item, "meta", "original")
    return FoundMedia(
        position=position,
        media_id=reading.id_of(item.get("id")),
        url=first,
        fallback_urls=tuple(others),
        alt=reading.text_of(item.get("description")),
        claimed_type=_claimed_type(item.get("mime"), full),
        claimed_width=reading.count_of(reading.inside(size, "width")),
        claimed_height=reading.count_of(reading.inside(size, "height")),
        rendition="re-encode" if full else "preview",
    )


def _addresses(item: Any, *keys: str) -> list[str]:
    found = (reading.web_address(reading.inside(item, key)) for key in keys)
    return list(dict.fromkeys(address for address in found if address))


# ---------------------------------------------------------------- parse: the archive


def _archived(record: dict[str, Any]) -> Found | Skip:
    """An activity of an outbox: a post, or a boost, which holds no picture unless it holds a post."""
    activity, note = record.get("activity"), reading.inside(record, "activity", "object")
    kind = reading.inside(activity, "type")
    if kind == "Announce" and not isinstance(note, dict):
        return Skip("repost")
    if kind not in ("Create", "Announce") or not isinstance(note, dict):
        return Skip("not a post")
    if note.get("type") == "Tombstone":
        return Skip("deleted")
    if not (_is_public(note) and _is_public(activity)):
        return Skip("not public")
    media, missed = _documents_of(note, record.get("members"))
    if not media:
        return Skip(missed[0] if missed else "no image")
    post = _of_note(activity, note, record.get("actor"))
    return Found(post, media, missed) if post else Skip("no id")


def _of_note(activity: Any, note: dict[str, Any], actor: Any) -> FoundPost | None:
    owner = activity.get("actor") or note.get("attributedTo")
    name = _name_of(actor, owner, note)
    own = note.get("id") if activity["type"] == "Create" else activity.get("id")
    post_id, origin = _global_id(own, name), _global_id(note.get("id"), name)
    if post_id is None:
        return None
    handles = _names_in(note, name)
    address = reading.web_address(reading.inside(actor, "id")) or reading.web_address(owner)
    text = reading.from_html(note.get("content"))
    return FoundPost(
        post_id=post_id,
        author_id=_author_id(name, address),
        handles=handles,
        created_at=reading.iso_time(
            reading.first_of(activity, ("published",)) or note.get("published")
        ),
        title=reading.from_html(reading.first_of(note, ("summary", "name"))),
        text=text,
        hashtags=_plain_tags(_named(note, "Hashtag")),
        permalink=_permalink((note.get("url"), note.get("id")), handles),
        score=reading.count_of(reading.inside(note, "likes", "totalItems")),
        sensitive=reading.flag_of(note.get("sensitive")),
        language=_language(note.get("contentMap")),
        repost_of=f"{PLATFORM}/{origin}" if origin and origin != post_id else None,
        opted_out=_asks(
            reading.inside(actor, "summary"), _list(reading.inside(actor, "attachment"))
        ),
    )


def _is_public(sent: Any) -> bool:
    """Whether an activity or object is sent to everybody; an activity may leave that to its object."""
    if not isinstance(sent, dict) or not ("to" in sent or "cc" in sent):
        return isinstance(sent, dict) and "object" in sent
    audience = [*_list(sent.get("to")), *_list(sent.get("cc"))]
    return any(isinstance(to, str) and to in PUBLIC for to in audience)


def _name_of(actor: Any, owner: Any, note: dict[str, Any]) -> str | None:
    """The author's name; without `actor.json` it is in one of the addresses."""
    name = reading.text_of(reading.inside(actor, "preferredUsername"))
    addresses = (reading.inside(actor, "url"), owner, note.get("url"), note.get("id"))
    steps = (_USER_STEP.search(a) for a in addresses if isinstance(a, str))
    # a number is the actor's id and no name
    return name or next((s[1] for s in steps if s and not s[1].isdecimal()), None)


def _names_in(note: dict[str, Any], name: str | None) -> tuple[str, ...]:
    """The names of the author and of those mentioned, alone and with their server."""
    mentioned = [n.lstrip("@") for n in _named(note, "Mention")]
    alone = [n.partition("@")[0] for n in mentioned]
    return tuple(dict.fromkeys(n for n in (name, *mentioned, *alone) if n))


def _named(note: dict[str, Any], kind: str) -> list[str]:
    tags = [t for t in _list(note.get("tag")) if isinstance(t, dict) and t.get("type") == kind]
    return [name for tag in tags if (name := reading.text_of(tag.get("name")))]


def _language(texts: Any) -> str | None:
    """The language of a post in one; in several, none is the post's."""
    return (
        reading.text_of(next(iter(texts))) if isinstance(texts, dict) and len(texts) == 1 else None
    )


def _documents_of(note: dict[str, Any], members: Any) -> _Media:
    items = _list(note.get("attachment"))
    return _sorted_out([_document(position, item, members) for position, item in enumerate(items)])


def _member(address: str | None, members: Any, *, whole: bool) -> str | None:
    """The file of an archived image; where it was left out of the archive, the name it would have."""
    if address is None:
        return None
    known = reading.text_of(reading.inside(members, address))
    return known or (_tail(address) if _STORED in address and not whole else None)


def _document(position: int, item: Any, members: Any) -> FoundMedia | str:
    """An image of an archived post: its file in the archive, and its address if that is whole."""
    address = _href(item)
    stated = reading.first_of(item, ("mediaType",)) or reading.inside(item, "url", 0, "mediaType")
    kind = _kind(str(stated or reading.inside(item, "type")).lower(), [address or ""])
    if kind != "image":
        return kind
    url = reading.web_address(address)
    member = _member(address, members, whole=url is not None)
    if address is None or (member is None and url is None):
        return "media not included"
    return FoundMedia(
        position=position,
        media_id=_media_id(address),
        url=url,
        member=member,
        alt=reading.text_of(item.get("name")),
        claimed_type=_claimed_type(stated, [address]),
        claimed_width=reading.count_of(item.get("width")),
        claimed_height=reading.count_of(item.get("height")),
        rendition="re-encode",
    )


def _href(item: Any) -> str | None:
    """The address of an attachment, which may be text, a link, or a list of links."""
    link = reading.inside(item, "url")
    link = link[0] if isinstance(link, list) and link else link
    return reading.text_of(link.get("href") if isinstance(link, dict) else link)


def _media_id(address: str) -> str | None:
    """The id that Mastodon writes into the path of a file, in threes."""
    steps = _tail(address).split("/")
    return "".join(s for s in steps if s.isdecimal()) or None if _STORED in address else None


# ---------------------------------------------------------------- what both share


def _list(value: Any) -> list[Any]:
    """ActivityPub writes a list of one without the list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _sorted_out(results: list[FoundMedia | str]) -> _Media:
    media = tuple(r for r in results if isinstance(r, FoundMedia))
    return media, tuple(r for r in results if isinstance(r, str))


def _kind(stated: str, addresses: list[str]) -> str:
    """image, video or audio: as stated, or by the ending where a server could not tell."""
    plain = stated.partition("/")[0]
    if plain in ("image", "audio"):
        return plain
    if plain in ("video", "gifv"):
        return "video"
    endings = {reading.ending_of(address) for address in addresses}
    if endings & AUDIO_ENDINGS:
        return "audio"
    return "video" if endings & reading.VIDEO_ENDINGS else "image"


def _claimed_type(stated: Any, addresses: list[str]) -> str | None:
    if isinstance(stated, str) and stated.startswith("image/"):
        return reading.text_of(stated)
    return next((t for address in addresses if (t := reading.image_type(address))), None)


def _plain_tags(names: Any) -> tuple[str, ...]:
    found = (reading.text_of(name) for name in names)
    return tuple(
        dict.fromkeys(t for name in found if name and (t := name.strip().lstrip("#\uff03")))
    )


def _asks(bio: Any, fields: list[Any]) -> bool:
    """Whether a profile, as HTML with its table of fields, holds a tag that asks to be left out."""
    cells = [reading.inside(field, key) for field in fields for key in ("name", "value")]
    tags = reading.hashtags_in(*(reading.from_html(text) for text in (bio, *cells)))
    return reading.opts_out(tags)


def _author_id(name: str | None, address: str | None) -> str | None:
    """`name@host`, as an author's own server has it; the actor's address where no name is known."""
    host = _host(address) if address else None
    return f"{name.casefold()}@{host}" if name and host else address


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).netloc.rpartition("@")[2].lower() or None
    except ValueError:
        return None


def _global_id(address: Any, name: str | None) -> str | None:
    """`host/ID` for the address of a post; what would name the author is hashed."""
    address = reading.text_of(address)
    if address is None:
        return None
    if old := _TAG_URI.match(address):
        return f"{old[1].lower()}/{old[2]}"
    host = _host(address)
    last = _last_step(address) if host else None
    if last is None:
        return None
    if name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", last, re.IGNORECASE):
        last = hashlib.sha256(address.encode()).hexdigest()[:24]
    return f"{host}/{last}"


def _last_step(address: str) -> str | None:
    """The step of an address that is the post's own id."""
    if bridged := _AT_POST.search(address):
        return f"{bridged[1]}/{bridged[2]}"  # a record's key is unique within its repository only
    parts = urlsplit(address)
    steps = [step for step in parts.path.split("/") if step]
    if steps[-1:] == ["activity"]:
        steps.pop()
    if not steps:
        return f"?{parts.query}" if parts.query else None
    return "/".join(steps[-2:]) if steps[-2:-1] and steps[-2] in _OWN_NUMBERS else steps[-1]


def _copied(addresses: tuple[Any, ...]) -> str | None:
    """The post on another platform that a bridge made this one of."""
    for address in addresses:
        text = address if isinstance(address, str) else ""
        if at := _AT_POST.search(text) or _BSKY_POST.search(text):
            return f"bluesky/at://{at[1]}/app.bsky.feed.post/{at[2]}"
        if x := _X_POST.search(text):
            return f"x/{x[1]}"
    return None


def _permalink(addresses: tuple[Any, ...], handles: tuple[str, ...]) -> str | None:
    """The first address that names nobody: most of Mastodon's hold the author's name."""
    for address in map(reading.web_address, addresses):
        low = address.casefold() if address else "@"
        if "@" not in low and not any(handle.casefold() in low for handle in handles):
            return address
    return None
