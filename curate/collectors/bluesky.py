"""Bluesky: posts and feeds as the API gives them, Jetstream events, an account's repository.

API: https://docs.bsky.app/docs/api/app-bsky-feed-get-posts; records:
https://github.com/bluesky-social/atproto/tree/main/lexicons/app/bsky; Jetstream:
https://github.com/bluesky-social/jetstream; a repository is what an account exports
(https://docs.bsky.app/blog/repo-export) and is read by `car`. What decides:

- every format holds the author's own record, and it is what is read: text, facets, blobs. A view adds
  counts and labels, and the address of a picture as the network serves it, which is a JPEG made again;
- the bytes that were uploaded are the blob, asked of the author's server by DID and CID. Only
  bsky.social is known offline, and it sends on to the servers of its own accounts; the served picture is
  the fallback for the others;
- pictures are in `images`, in the `items` of a gallery, or in the `media` beside a quoted post. The
  quoted post's own are not this post's. `aspectRatio` is a ratio and no size;
- `createdAt` is the author's claim. Where it is more than two minutes after the network first saw the
  post, or more than a day before, that time counts (https://docs.bsky.app/docs/advanced-guides/timestamps);
  in a repository the witness is the record's key, https://atproto.com/specs/tid;
- `!no-unauthenticated`, on an author or a record, asks not to be shown to strangers
  (https://docs.bsky.app/docs/advanced-guides/moderation), and so do the tags #nobot, #noindex and the
  like in a profile: it is an opt-out. An API view shows the author's labels, a repository the whole
  profile; a stream only those profiles that were written while it ran;
- a repository holds no pictures, but those who export their blobs too have them as files named by CID;
- a delete event withdraws a post that may have been collected before.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from curate.collectors import car, reading
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.exports import DamagedExport, Export

PLATFORM = "bluesky"
VERSION = 1
FORMATS = (
    Format("feed", "Feeds of the API: author, custom, list; JSON or lines", "getAuthorFeed.json"),
    Format("posts", "Posts of the API: searches, getPosts; JSON or lines", "searchPosts.json"),
    Format("jetstream", "Jetstream events, one per line", "jetstream.jsonl.zst"),
    Format("car", "Repository of an account, .car, alone or with its blobs", "repo.car"),
)

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
PROFILE = "app.bsky.actor.profile"
OPT_OUT = "!no-unauthenticated"
SENSITIVE = frozenset({"porn", "sexual", "nudity", "graphic-media"})
TAKEN_DOWN = frozenset({"!takedown", "!hide"})
ACCOUNT_GONE = {"deleted": "deleted", "takendown": "removed", "suspended": "removed"}
SKEW = timedelta(minutes=2)
BACKDATED = timedelta(days=1)
BLOBS = "https://bsky.social/xrpc/com.atproto.sync.getBlob"
SERVED = "https://cdn.bsky.app/img/feed_fullsize/plain"
_POST_URI = re.compile(rf"^at://(did:[a-z]+:[\w.:%-]+)/{re.escape(POST)}/([\w.~:-]+)$", re.ASCII)
_DID = re.compile(r"^did:[a-z]+:[\w.:%-]+$", re.ASCII)
_KEY = re.compile(r"^[\w.~:-]{1,512}$", re.ASCII)
_CID = re.compile(r"^[A-Za-z0-9]{8,128}$")
_BLOB_FILE = re.compile(r"^baf[a-z2-7]{56}$")
_CID_IN_ADDRESS = re.compile(r"/([A-Za-z0-9]{8,128})(?:@\w+)?$")
_TID = re.compile(r"^[2-7a-j][2-7a-z]{12}$")
_TID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"
_A_POST = b"e$typer" + POST.encode()  # the key and value of `$type`, as DAG-CBOR writes them
_KIND = re.compile(rb'"(feed|posts|post)"\s*:\s*[\[{]')
_NO_HANDLE = "handle.invalid"


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Bluesky, by first bytes: of its first JSON, then of a repository."""
    names = reading.json_files(export)
    found = _format_of(reading.head_of(export, names[0])) if names else None
    repositories = [] if found else _repositories(export)
    is_car = bool(repositories) and car.is_car(export.head(repositories[0]))
    return "car" if is_car else found


def _format_of(head: bytes) -> str | None:
    if all(key in head for key in (b'"did"', b'"time_us"', b'"kind"')):
        return "jetstream"
    if b"at://" not in head or b'"app.bsky.' not in head or b'"subcategory"' in head:
        return None
    kind = _KIND.search(head)
    if kind is None or kind[1] == b"posts":
        return "posts" if b'"record"' in head and b'"author"' in head else None
    return "feed"


def _repositories(export: Export) -> list[str]:
    return [m.name for m in export.members() if reading.stem_of(m.name).endswith(".car")]


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of Bluesky."""
    if format == "car":
        blobs = _blob_files(export)
        for name in _repositories(export):
            try:
                yield from _read_repository(export, name, blobs)
            except DamagedExport as error:
                yield Raw(name, partial=str(error))  # those after it may be whole
    elif format == "jetstream":
        yield from _with_wishes(reading.documents(export, reading.json_files(export)))
    else:
        yield from _read_pages(export, format)


def _read_pages(export: Export, format: str) -> Iterator[Raw]:
    """The items of every page; the last page says whether there are more."""
    cursor, where = None, ""
    for raw in reading.documents(export, reading.json_files(export)):
        items = _items_of(raw.record, format)
        if items is None:
            yield raw
            continue
        cursor, where = reading.id_of(reading.inside(raw.record, "cursor")), raw.where
        for number, item in enumerate(items):
            yield Raw(f"{raw.where}[{number}]", item)
    if cursor:
        yield Raw(where, partial=f"the last page, {where}, says that there are more")


def _items_of(page: Any, format: str) -> list[Any] | None:
    """The items of a page, a list or a thread; None for what is an item itself."""
    if isinstance(page, dict):
        thread = page.get("thread")
        page = list(_of_thread(thread)) if isinstance(thread, dict) else page.get(format)
    return page if isinstance(page, list) else None


def _of_thread(top: dict[str, Any]) -> Iterator[Any]:
    """The posts of a thread: those above, the one asked for, those below."""
    pending: list[Any] = [top]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, dict):
            below = node.get("replies")
            pending += [node["parent"]] if isinstance(node.get("parent"), dict) else []
            pending += reversed(below) if isinstance(below, list) else []


def _with_wishes(events: Iterator[Raw]) -> Iterator[Raw]:
    """Events, each marked where its author's profile, seen before in the stream, asks to be left out."""
    asking: set[str] = set()
    for raw in events:
        did = reading.inside(raw.record, "did")
        if isinstance(did, str):
            commit = raw.record.get("commit")
            if reading.inside(commit, "collection") == PROFILE:
                (asking.add if _asks(reading.inside(commit, "record")) else asking.discard)(did)
            if did in asking:
                raw = raw._replace(record={**raw.record, "opted_out": True})
        yield raw


def _read_repository(export: Export, name: str, blobs: dict[str, str]) -> Iterator[Raw]:
    """The posts of a repository, with what it says of its author; other records by their kind."""
    repository = car.open_repository(export, name)
    wanted: dict[bytes, list[str]] = {}
    profile, lost = None, 0
    for key, cid in car.entries(repository):
        if key is None:
            lost += 1
        elif key.startswith(f"{POST}/"):
            wanted.setdefault(cid, []).append(key)
        else:
            profile = cid if key == f"{PROFILE}/self" else profile
            yield Raw(f"{name}:{key}", {"collection": key.partition("/")[0]})
    if lost:
        yield Raw(name, partial=f"{lost} parts of the tree of {name} are missing or damaged")
    about = car.find(export, name, profile) if profile is not None else None
    author = {"did": repository.did, "opted_out": _asks(car.decoded(about or b""))}
    del repository  # the tree is the most of what is held
    for raw in _read_posts(export, name, wanted, author):
        yield raw if raw.record is None else _with_files(raw, blobs)


def _read_posts(
    export: Export, name: str, wanted: dict[bytes, list[str]], author: dict[str, Any]
) -> Iterator[Raw]:
    """The posts whose keys are known, as they come; then those that did not."""
    for number, block in enumerate(car.blocks(export, name)):
        where = f"{name}[{number}]"
        keys = wanted.get(block.cid)
        if keys is None:
            if block.sound and _A_POST in block.data:
                yield Raw(where, problem="no key in the tree")
            continue
        for key in keys:
            yield _stored(where, key, block, author)
        wanted[block.cid] = []
    missing = [key for keys in wanted.values() for key in keys]
    for key in missing:
        yield Raw(f"{name}:{key}", problem="record missing")
    if missing:
        yield Raw(name, partial=f"{len(missing)} posts of {name} are in its tree only")


def _blob_files(export: Export) -> dict[str, str]:
    """The files that are named by a CID, as programs that export blobs name them."""
    steps = ((m.name.rsplit("/", 1)[-1].partition(".")[0], m.name) for m in export.members())
    return {cid: name for cid, name in steps if _BLOB_FILE.match(cid)}


def _with_files(raw: Raw, blobs: dict[str, str]) -> Raw:
    """A post with the files of the export that its blobs are."""
    items = _items(reading.inside(raw.record, "record", "embed")) if blobs else []
    cids = (_blob_cid(reading.inside(item, "image")) for item in items)
    members = {cid: blobs[cid] for cid in cids if cid in blobs}
    return raw._replace(record={**raw.record, "members": members}) if members else raw


def _stored(where: str, key: str, block: car.Block, author: dict[str, Any]) -> Raw:
    """One post of a repository under its key."""
    if not block.sound:
        return Raw(where, problem="block does not match its hash")
    record = car.decoded(block.data)
    if record is None:
        return Raw(where, problem="broken block")
    return Raw(where, {**author, "key": key, "record": record})


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    return (_READERS[format](record),)


def _of_view(view: dict[str, Any]) -> Found | Skip:
    """A post as the API shows it."""
    if view.get("notFound") is True:
        return Skip("not found")
    if view.get("blocked") is True:
        return Skip("blocked")
    uri = _POST_URI.match(str(view.get("uri")))
    if uri is None:
        return Skip("not a post" if "uri" not in view else "no id")
    if _labels(view) & TAKEN_DOWN:
        return Skip("removed")
    seen = reading.iso_time(view.get("indexedAt"))
    return _found(uri[1], uri[2], view.get("record"), seen=seen, view=view)


def _of_item(item: dict[str, Any]) -> Found | Skip:
    """An item of a feed: a post, and perhaps who reposted it."""
    view = item.get("post", item)
    found = _of_view(view) if isinstance(view, dict) else Skip("not a post")
    reason = item.get("reason")
    kind = reading.text_of(reading.inside(reason, "$type"))
    if isinstance(found, Skip) or kind is None or not kind.endswith("#reasonRepost"):
        return found
    return _reposted(found, reason)


def _reposted(found: Found, reason: Any) -> Found | Skip:
    """The post of somebody who reposted: the original's pictures and text under a post of its own."""
    by, original = reason.get("by"), found.post
    did = reading.inside(by, "did")
    if not isinstance(did, str) or not _DID.match(did):
        return Skip("no id")
    stated = reading.text_of(reason.get("uri"))
    # older answers do not give the repost's own address; nobody reposts a post twice
    made = f"at://{did}/{REPOST}/of/{original.post_id.removeprefix('at://')}"
    post = original._replace(
        post_id=stated if stated and stated.startswith(f"at://{did}/{REPOST}/") else made,
        author_id=did,
        handles=tuple(dict.fromkeys((*_own_handle(by), *original.handles))),
        created_at=reading.iso_time(reason.get("indexedAt")),
        permalink=None,
        score=None,
        replies=None,
        repost_of=f"{PLATFORM}/{original.post_id}",
        opted_out=original.opted_out or OPT_OUT in _labels(by),
    )
    return found._replace(post=post)


def _of_event(event: dict[str, Any]) -> Found | Skip:
    """An event of the stream: a record written or deleted, or news of an account."""
    commit = event.get("commit")
    if event.get("kind") == "account":
        status = str(reading.inside(event, "account", "status"))
        active = reading.inside(event, "account", "active") is not False
        return Skip("not a post" if active else ACCOUNT_GONE.get(status, "not a post"))
    if not isinstance(commit, dict) or commit.get("collection") != POST:
        return _of_other(reading.inside(commit, "collection"))
    did, key = event.get("did"), commit.get("rkey")
    if not _is_id(did, key):
        return Skip("no id")
    if commit.get("operation") == "delete":
        return Skip("deleted", withdrawn=f"at://{did}/{POST}/{key}")
    seen = _microseconds(event.get("time_us"))
    opted_out = event.get("opted_out") is True
    return _found(str(did), str(key), commit.get("record"), seen=seen, opted_out=opted_out)


def _of_stored(stored: dict[str, Any]) -> Found | Skip:
    """A record of a repository."""
    if "collection" in stored:
        return _of_other(stored["collection"])
    did, key = stored.get("did"), str(stored.get("key")).removeprefix(f"{POST}/")
    if not _is_id(did, key):
        return Skip("no id")
    opted_out = stored.get("opted_out") is True
    found = _found(str(did), key, stored.get("record"), opted_out=opted_out)
    members = stored.get("members")
    if isinstance(found, Skip) or not isinstance(members, dict):
        return found
    media = [m._replace(member=reading.text_of(members.get(m.media_id))) for m in found.media]
    return found._replace(media=tuple(media))


_READERS = {"posts": _of_view, "feed": _of_item, "jetstream": _of_event, "car": _of_stored}


def _of_other(collection: Any) -> Skip:
    """A record that is no post; a repost of the stream or of a repository holds no picture."""
    return Skip("repost" if collection == REPOST else "not a post")


def _is_id(did: Any, key: Any) -> bool:
    strings = isinstance(did, str) and isinstance(key, str)
    return strings and bool(_DID.match(did) and _KEY.match(key))


def _found(
    did: str,
    key: str,
    record: Any,
    *,
    seen: datetime | None = None,
    view: Any = None,
    opted_out: bool = False,
) -> Found | Skip:
    """A post from its author's record and, where there is one, the view of it."""
    if not isinstance(record, dict) or record.get("$type", POST) != POST:
        return Skip("not a post")
    media, missed = _images(did, record, view)
    if not media:
        return Skip(missed[0] if missed else "no image")
    post = _post(did, key, record, view)
    time = _when(record.get("createdAt"), seen or _tid_time(key))
    return Found(
        post._replace(created_at=time, opted_out=opted_out or post.opted_out), media, missed
    )


def _post(did: str, key: str, record: dict[str, Any], view: Any) -> FoundPost:
    marks = _labels(view) | _self_labels(record)
    author = reading.inside(view, "author")
    handles = tuple(dict.fromkeys((*_own_handle(author), *_mentioned(record))))
    permalink = f"https://bsky.app/profile/{did}/post/{key}"
    return FoundPost(
        post_id=f"at://{did}/{POST}/{key}",
        author_id=did,
        handles=handles,
        created_at=None,
        text=reading.text_of(record.get("text")),
        hashtags=_hashtags(record),
        permalink=None if any(h.lower() in permalink.lower() for h in handles) else permalink,
        score=reading.count_of(reading.inside(view, "likeCount")),
        replies=reading.count_of(reading.inside(view, "replyCount")),
        sensitive=True if marks & SENSITIVE else None,
        language=reading.text_of(reading.inside(record, "langs", 0)),
        opted_out=OPT_OUT in marks | _labels(author),
    )


# ---------------------------------------------------------------- images


def _images(
    did: str, record: dict[str, Any], view: Any
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    """The pictures of a post in order, and short words for what was not taken."""
    shown = _items(reading.inside(view, "embed"))
    served = {cid: url for item in shown if (cid := _served_cid(url := _served(item)))}
    items = _items(record.get("embed")) or shown
    results = [_image(position, did, item, served) for position, item in enumerate(items)]
    media = tuple(r for r in results if isinstance(r, FoundMedia))
    return media, tuple(r for r in results if isinstance(r, str))


def _items(embed: Any) -> list[Any]:
    """What an embed, of a record or of a view, shows of its own; a video is one item."""
    kind = _embed_kind(embed)
    if kind == "recordWithMedia":
        embed = embed.get("media")
        kind = _embed_kind(embed)
    if kind == "video":
        return [embed]
    key = {"images": "images", "gallery": "items"}.get(kind)
    found = embed.get(key) if key else None
    return found if isinstance(found, list) else []


def _embed_kind(embed: Any) -> str:
    """images, gallery, video, external, record, recordWithMedia; "" where there is none."""
    kind = reading.inside(embed, "$type")
    plain = kind.partition("#")[0] if isinstance(kind, str) else ""
    return plain.removeprefix("app.bsky.embed.")


def _image(position: int, did: str, item: Any, served: dict[str, str]) -> FoundMedia | str:
    blob = reading.inside(item, "image")
    kind = f"{reading.inside(item, '$type')} {reading.inside(blob, 'mimeType')}".lower()
    if "video" in kind:
        return "video"
    cid = _blob_cid(blob) or _served_cid(_served(item))
    if cid is None:
        return "media not included"
    stated = reading.text_of(reading.inside(blob, "mimeType"))
    return FoundMedia(
        position=position,
        media_id=cid,
        url=f"{BLOBS}?did={quote(did, safe=':')}&cid={cid}",
        fallback_urls=(served.get(cid) or f"{SERVED}/{did}/{cid}@jpeg",),
        alt=reading.text_of(item.get("alt")),
        claimed_type=stated if stated and stated.startswith("image/") else None,
        rendition="original",
    )


def _blob_cid(blob: Any) -> str | None:
    """The identifier of a blob: a link in JSON, bytes in a repository, bare in records of 2022."""
    link = reading.inside(blob, "ref")
    link = reading.inside(link, "$link") if isinstance(link, dict) else link
    found = car.text_of_cid(link) or link or reading.inside(blob, "cid")
    return found if isinstance(found, str) and _CID.match(found) else None


def _served(item: Any) -> str:
    return reading.web_address(reading.inside(item, "fullsize")) or ""


def _served_cid(address: str) -> str | None:
    """The identifier in the address of a served picture: `.../DID/CID@jpeg`."""
    match = _CID_IN_ADDRESS.search(address)
    return match[1] if match else None


# ---------------------------------------------------------------- parts of a post


def _hashtags(record: dict[str, Any]) -> tuple[str, ...]:
    """The tags in the text, in its order, then those that are not shown."""
    features = (feature for facet in _facets(record) for feature in facet[2])
    shown = [reading.inside(f, "tag") for f in features if _is_feature(f, "tag")]
    hidden = record.get("tags") if isinstance(record.get("tags"), list) else []
    found = (reading.text_of(tag) for tag in (*shown, *(hidden or ())))
    plain = (tag.strip().lstrip("#\uff03") for tag in found if tag)
    return tuple(dict.fromkeys(tag for tag in plain if tag))


def _mentioned(record: dict[str, Any]) -> list[str]:
    """The handles that the text mentions: facets give a DID and where in the text the name stands."""
    text = record.get("text")
    written = text.encode("utf-8", "replace") if isinstance(text, str) else b""
    spans = [
        written[start:end].decode("utf-8", "ignore")
        for start, end, features in _facets(record)
        if any(_is_feature(f, "mention") for f in features)
    ]
    return [name for span in spans if (name := span.strip().lstrip("@\uff20"))]


def _facets(record: dict[str, Any]) -> list[tuple[int, int, list[Any]]]:
    """(first byte, byte after the last, features) of each facet, in the order of the text."""
    facets = record.get("facets")
    found = []
    for facet in facets if isinstance(facets, list) else []:
        features = reading.inside(facet, "features")
        start = reading.count_of(reading.inside(facet, "index", "byteStart")) or 0
        end = reading.count_of(reading.inside(facet, "index", "byteEnd")) or 0
        if isinstance(features, list):
            found.append((max(start, 0), max(end, 0), features))
    return sorted(found, key=lambda facet: facet[0])


def _is_feature(feature: Any, kind: str) -> bool:
    stated: str | None = reading.text_of(reading.inside(feature, "$type"))
    return stated == f"app.bsky.richtext.facet#{kind}"


def _labels(labelled: Any) -> set[str]:
    """What a view is labelled, by its author or a moderator, without labels taken back."""
    labels = reading.inside(labelled, "labels")
    known = [x for x in labels if isinstance(x, dict)] if isinstance(labels, list) else []
    return {str(x.get("val")) for x in known if x.get("neg") is not True}


def _self_labels(record: Any) -> set[str]:
    """What the author of a record labelled it."""
    values = reading.inside(record, "labels", "values")
    known = [x for x in values if isinstance(x, dict)] if isinstance(values, list) else []
    return {str(x.get("val")) for x in known}


def _asks(profile: Any) -> bool:
    """Whether a profile asks, by a label or by a tag in its text, to be left out."""
    tags = reading.hashtags_in(reading.text_of(reading.inside(profile, "description")))
    return OPT_OUT in _self_labels(profile) or reading.opts_out(tags)


def _own_handle(author: Any) -> tuple[str, ...]:
    handle = reading.text_of(reading.inside(author, "handle"))
    return (handle,) if handle and handle != _NO_HANDLE else ()


def _when(stated: Any, seen: datetime | None) -> datetime | None:
    """The stated time, unless what saw the post contradicts it."""
    time = reading.iso_time(stated)
    if seen is None or (time is not None and -BACKDATED <= time - seen <= SKEW):
        return time
    return seen


def _tid_time(key: str) -> datetime | None:
    """The time in a record's key, if the key is one that holds a time."""
    if not _TID.match(key):
        return None
    value = 0
    for letter in key:
        value = value * 32 + _TID_LETTERS.index(letter)
    return _microseconds(value >> 10)  # the rest is the clock's own number


def _microseconds(value: Any) -> datetime | None:
    number = reading.count_of(value)
    try:
        return (
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number or 0)
            if number
            else None
        )
    except OverflowError:
        return None
