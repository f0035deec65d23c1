"""Reddit: monthly and per-subreddit dumps, listing JSON, answers of Arctic Shift, the data request.

Fields: https://www.reddit.com/dev/api and https://github.com/ArthurHeitmann/arctic_shift. What
decides:

- a gallery's order is in `gallery_data`, its addresses in `media_metadata`; a cross-post shows
  the media of its parent and has none of its own;
- the original of `preview.redd.it/NAME?...` is `i.redd.it/NAME`; where NAME is `slug-v0-ID.ext`
  it is `i.redd.it/ID.ext` (https://github.com/mikf/gallery-dl/issues/6337). A preview is signed:
  its query is never touched;
- `created_utc` is a string, an integer or a float; `created` is not UTC and never read;
- responses asked for without `raw_json=1` escape `&`, `<` and `>`;
- what its author withdrew, or a moderator removed, is not collected;
- a comment with an image is a post of its own, `t1_ID`; stickers and reactions are no images. Comments lie
  inside each other in `replies`;
- the zip of a data request (https://www.reddit.com/settings/data-request) has links and texts of one person,
  no media, and the address each post was sent from, which is never read.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import inside, iso_time, loads, rows
from curate.exports import Export

PLATFORM = "reddit"
VERSION = 2
FORMATS = (
    Format("dump", "Dump: one submission per line, .zst, .gz or plain", "RS_2026-01.zst"),
    Format("listing", "Saved listing or comments page, JSON", "new.json"),
    Format("data", "API answer of Arctic Shift or Pushshift, JSON", "search.json"),
    Format("gdpr", "Zip or folder of a data request, CSV", "export_20260102.zip"),
)

IMAGE_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "heic": "image/heic",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
}
_VIDEO_HOSTS = (
    "v.redd.it",
    "youtube.com",
    "youtu.be",
    "m.youtube.com",
    "streamable.com",
    "gfycat.com",
    "redgifs.com",
    "vimeo.com",
    "tiktok.com",
    "clips.twitch.tv",
)
_VIDEO_ENDINGS = ("gifv", "mp4", "webm", "mov")
_REMOVED = {"deleted": "deleted", "author": "deleted"}
_OWN_POSTS = re.compile(r"(?:^|/)(?:posts|comments)\.csv$")
_OWN_NAME = re.compile(r"(?:^|/)statistics\.csv$")
_OWN_COLUMNS = {"id", "permalink", "date", "ip", "subreddit"}
_LINK_ID = re.compile(r"/comments/(\w+)")
_GONE_TEXT = {"[deleted]": "deleted", "[removed]": "removed"}
_TAG = re.compile(r"(?<![\w#/&])#(\w*[^\W\d]\w*)")
_INLINE = re.compile(
    r"!\[[^\]]*\]\(([\w-]{6,})(?:\s[^)]*)?\)"
    r"|https?://(?:preview|i)\.redd\.it/([\w-]+\.[A-Za-z]{3,4})(?:\?[^\s)\]]*)?"
)
_IMGUR_ID = re.compile(r"^/([A-Za-z0-9]{5,8})$")
_PLAIN_LINK = re.compile(r"https?://([A-Za-z0-9_.:-]+)(/[^?#\t\r\n]*)?(?=[?#]|\Z)")


# ---------------------------------------------------------------- recognise and read


def recognise(export: Export) -> str | None:
    """The format of a Reddit export, by the first bytes of its first data file."""
    if _own_posts(export):
        return "gdpr"
    names = _data_files(export)
    if not names:
        return None
    head = export.head(names[0], 65_536).lstrip(b"\xef\xbb\xbf \t\r\n")
    compact = re.sub(rb"\s+", b"", head[:4096])
    if compact.startswith((b'{"kind":"Listing"', b'[{"kind":"Listing"')):
        return "listing"
    if b'"subreddit"' not in head or b'"created_utc"' not in head or b'"subcategory"' in head:
        return None
    if compact.startswith(b'{"data":['):
        return "data"
    return "dump" if compact.startswith(b"{") else None


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of a Reddit export."""
    if format == "gdpr":
        yield from _read_own(export)
        return
    for name in _data_files(export):
        yield from _read_lines(export, name) if format == "dump" else _read_json(export, name)


def _data_files(export: Export) -> list[str]:
    """The members that may hold records: JSON by name, at any depth."""
    endings = (".zst", ".gz", ".xz")
    found = []
    for member in export.members():
        stem = member.name.lower()
        for ending in endings:
            stem = stem.removesuffix(ending)
        if stem.endswith((".json", ".jsonl", ".ndjson")) or _is_dump_name(member.name, stem):
            found.append(member.name)
    return found


def _is_dump_name(name: str, stem: str) -> bool:
    """Whether a file is named as dumps are: RS_2026-01, RS_2026-01.zst, x_submissions.zst."""
    return stem != name.lower() or stem.rsplit("/", 1)[-1].startswith(("rs_", "rc_"))


def _read_lines(export: Export, name: str) -> Iterator[Raw]:
    loads, place = orjson.loads, f"{name}:"
    for number, line in enumerate(export.lines(name), start=1):
        try:
            yield Raw(place + str(number), loads(line), None, None)
        except orjson.JSONDecodeError:
            yield _repaired(place + str(number), line)


def _repaired(where: str, line: bytes) -> Raw:
    """A line that the fast reader refuses: half a character is no reason to lose a post."""
    try:
        return Raw(where, loads(line))
    except ValueError:
        return Raw(where, problem="broken line")


def _read_json(export: Export, name: str) -> Iterator[Raw]:
    """Records of one JSON document: a listing, a list of listings, or `{"data": [...]}`."""
    try:
        document = loads(export.read(name))
    except ValueError:
        yield Raw(name, problem="broken file", partial=f"{name} is not valid JSON")
        return
    for page, listing in enumerate(document if isinstance(document, list) else [document]):
        yield from _of_listing(listing, f"{name}[{page}]")


def _of_listing(listing: Any, where: str) -> Iterator[Raw]:
    data = listing.get("data") if isinstance(listing, dict) else None
    records = data.get("children") if isinstance(data, dict) else data
    if not isinstance(records, list):
        yield Raw(where, problem="broken listing")
        return
    for number, record in enumerate(records):
        yield from _with_replies(record, f"{where}[{number}]")
    if isinstance(data, dict) and data.get("after"):
        yield Raw(where, partial=f"the listing goes on after {data['after']}")


def _with_replies(record: Any, where: str) -> Iterator[Raw]:
    """A record, and after it the comments that lie inside it."""
    waiting = [(record, where)]
    while waiting:
        thing, place = waiting.pop()
        data = inside(thing, "data")
        replies = inside(data, "replies", "data", "children")
        if isinstance(replies, list):
            thing = {**thing, "data": {k: v for k, v in data.items() if k != "replies"}}
            below = [(reply, f"{place}.{n}") for n, reply in enumerate(replies)]
            waiting += reversed(below)
        yield Raw(place, thing)


def _own_posts(export: Export) -> list[str]:
    """The tables of posts and comments in the answer to a data request."""
    found = [m.name for m in export.members() if _OWN_POSTS.search(m.name)]
    return [name for name in found if _columns(export, name) >= _OWN_COLUMNS]


def _columns(export: Export, name: str) -> set[str]:
    header = export.head(name, 4096).removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    return {column.strip().strip('"') for column in header.decode("utf-8", "replace").split(",")}


def _read_own(export: Export) -> Iterator[Raw]:
    """Each post and comment of a data request, without the address it was sent from."""
    owner = _owner(export)
    for name in _own_posts(export):
        for raw in rows(export, name):
            if raw.record is None:
                yield raw
            else:
                kept = {k: v for k, v in raw.record.items() if k != "ip"}
                yield raw._replace(record={**kept, "owner": owner})


def _owner(export: Export) -> str | None:
    """The name of the account, by which older dumps know an author too."""
    for name in (m.name for m in export.members() if _OWN_NAME.search(m.name)):
        for raw in rows(export, name):
            if inside(raw.record, "statistic") == "account name":
                return inside(raw.record, "value") or None
    return None


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    raw = _submission(_as_served(record) if format == "gdpr" else record)
    if isinstance(raw, Skip):
        return (raw,)
    if "title" not in raw:
        return (_comment(raw),)
    shown = _shown(raw)
    if isinstance(shown, Skip):
        return (shown,)
    media, missed = _images(shown)
    if not media:
        return (Skip(_why_no_image(missed)),)
    return (Found(_post(raw), media, missed),)


def _submission(record: Any) -> dict[str, Any] | Skip:
    """The submission or comment inside a record, unless it is something else or was withdrawn."""
    if not isinstance(record, dict):
        return Skip("not a record")
    kind = record.get("kind")
    if kind is not None and isinstance(record.get("data"), dict):
        if kind not in ("t1", "t3"):
            return Skip("comments not included" if kind == "more" else "not a post")
        record = record["data"]
    if "title" not in record:
        if "body" not in record:
            return Skip("not a post")
        if not _may_show(record):
            return Skip("comment")  # text alone, as nearly all are
    if not isinstance(record.get("id"), str) or not record["id"]:
        return Skip("no id")
    gone = _gone(record)
    return Skip(gone) if gone else record


def _may_show(comment: dict[str, Any]) -> bool:
    """Whether a comment may hold an image, told quickly."""
    body = comment.get("body")
    return isinstance(body, str) and ("redd.it/" in body or bool(comment.get("media_metadata")))


def _comment(raw: dict[str, Any]) -> Found | Skip:
    """A comment as a post of its own, if it shows an image."""
    media, missed = _inline({**raw, "selftext": raw["body"]})
    if not media:
        return Skip("comment")
    post = _post({**raw, "selftext": raw["body"], "link_flair_text": None, "num_comments": None})
    link = str(raw.get("link_id") or "").removeprefix("t3_")
    place = f"https://www.reddit.com/comments/{link}/comment/{raw['id']}/" if link else None
    made = post._replace(post_id=f"t1_{raw['id']}", permalink=place, comment=True)
    return Found(made, media, missed)


def _as_served(row: Any) -> Any:
    """A row of a data request in the shape that the API gives a post or comment."""
    if not isinstance(row, dict) or not row.get("permalink"):
        return row
    made = iso_time(str(row.get("date") or "").replace(" UTC", "+00:00"))
    common = {
        "id": row.get("id"),
        "author": row.get("owner"),
        "created_utc": made.timestamp() if made else None,
        "subreddit": row.get("subreddit"),
    }
    if "title" not in row:
        link = _LINK_ID.search(str(row["permalink"]))
        return {**common, "body": row.get("body"), "link_id": link[1] if link else None}
    address = str(row.get("url") or "")
    post = {"title": row["title"], "selftext": row.get("body"), "url": address}
    return {**common, **post, "is_gallery": "/gallery/" in address}


def _gone(raw: dict[str, Any]) -> str | None:
    """Why a post must not be collected: withdrawn, removed or an advertisement."""
    meta = raw.get("_meta")
    if isinstance(meta, dict):
        if meta.get("was_deleted_later"):
            return "deleted later"
        if meta.get("was_initially_deleted") or meta.get("removal_type"):
            return "deleted"
    category = raw.get("removed_by_category")
    if category:
        return _REMOVED.get(str(category), "removed")
    text = raw.get("selftext", raw.get("body"))
    if isinstance(text, str) and text in _GONE_TEXT:
        return _GONE_TEXT[text]
    if raw.get("title") in ("[deleted by user]", "[deleted]"):
        return "deleted"
    return "promoted" if raw.get("promoted") or raw.get("is_created_from_ads_ui") else None


def _shown(raw: dict[str, Any]) -> dict[str, Any] | Skip:
    """The submission whose media is shown: the parent of a cross-post, else the post itself."""
    if not raw.get("crosspost_parent") and not raw.get("crosspost_parent_list"):
        return raw
    parents = raw.get("crosspost_parent_list")
    if not isinstance(parents, list) or not parents or not isinstance(parents[0], dict):
        return Skip("crosspost without parent")
    gone = _gone(parents[0])
    return Skip(gone) if gone else parents[0]


def _post(raw: dict[str, Any]) -> FoundPost:
    title, text = _plain(raw.get("title")), _plain(raw.get("selftext"))
    author = raw.get("author")
    handle = author if isinstance(author, str) and author not in ("[deleted]", "") else None
    community = raw.get("subreddit")
    sensitive = raw.get("over_18")
    return FoundPost(  # by place: naming seventeen fields takes as long as all the rest
        raw["id"],
        _author_id(raw, handle),
        (handle,) if handle else (),
        _time(raw.get("created_utc")),
        title,
        text or None,
        _hashtags(title, text),
        None if not community or str(community).startswith("u_") else str(community),
        _plain(raw.get("link_flair_text")) or None,
        f"https://www.reddit.com/comments/{raw['id']}/",
        _count(raw.get("score")),
        _count(raw.get("num_comments")),
        sensitive if isinstance(sensitive, bool) else None,
        None,
        _repost_of(raw),
    )


def _author_id(raw: dict[str, Any], handle: str | None) -> str | None:
    """The author's id; dumps before 2018 have only the name."""
    if handle is None:
        return None
    fullname = raw.get("author_fullname")
    return fullname if isinstance(fullname, str) and fullname else f"name:{handle.casefold()}"


def _repost_of(raw: dict[str, Any]) -> str | None:
    parent = raw.get("crosspost_parent")
    if not parent and not raw.get("crosspost_parent_list"):
        return None
    if not isinstance(parent, str) or not parent:
        parents = raw.get("crosspost_parent_list") or [{}]
        parent = parents[0].get("id")
    return f"reddit/{parent.removeprefix('t3_')}" if parent else None


def _hashtags(*texts: str | None) -> tuple[str, ...]:
    found = [tag for text in texts if text and "#" in text for tag in _TAG.findall(text)]
    return tuple(dict.fromkeys(found)) if found else ()


def _time(value: Any) -> datetime | None:
    """Seconds since 1970 as a string, an integer or a float; None if it is no time."""
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _count(value: Any) -> int | None:
    plain = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if plain else None


def _plain(value: Any) -> str | None:
    """Text without the three escapes that Reddit writes."""
    if not isinstance(value, str):
        return None
    if ";" not in value or "&" not in value:  # addresses have many & and seldom a ;
        return value
    return value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# ---------------------------------------------------------------- images

_Images = tuple[tuple[FoundMedia, ...], tuple[str, ...]]


def _images(raw: dict[str, Any]) -> _Images:
    """The images of a submission in the order shown, and short words for the media left out."""
    if raw.get("is_video"):
        return (), ("video",)
    if raw.get("is_gallery") or raw.get("gallery_data"):
        return _gallery(raw)
    link = _plain(raw.get("url_overridden_by_dest") or raw.get("url"))
    if link:
        single, why = _single(link, raw)
        if single:
            return (single,), ()
        if why:
            return (), (why,)
    return _inline(raw)


def _why_no_image(missed: tuple[str, ...]) -> str:
    """One reason for a post none of whose media could be taken."""
    return missed[0] if missed else "no image"


def _gallery(raw: dict[str, Any]) -> _Images:
    """The items of a gallery, in its own order; an item that failed keeps its place empty."""
    if "gallery_data" not in raw:
        return (), ("gallery not included",)
    order = raw["gallery_data"]
    items = order.get("items") if isinstance(order, dict) else None
    if not isinstance(items, list) or not items:
        return (), ("deleted gallery",)
    known = raw.get("media_metadata")
    known = known if isinstance(known, dict) else {}
    results = [_gallery_item(n, item, known) for n, item in enumerate(items)]
    return _sorted_out(results)


def _gallery_item(position: int, item: Any, known: dict[str, Any]) -> FoundMedia | str:
    if not isinstance(item, dict) or item.get("is_deleted"):
        return "gallery item deleted"
    media_id = str(item.get("media_id"))
    return _from_metadata(position, media_id, known.get(media_id), _plain(item.get("caption")))


def _sorted_out(results: Iterable[FoundMedia | str]) -> _Images:
    known = list(results)
    media = tuple(r for r in known if isinstance(r, FoundMedia))
    return media, tuple(r for r in known if isinstance(r, str))


def _from_metadata(
    position: int, media_id: str, entry: Any, alt: str | None = None
) -> FoundMedia | str:
    """One entry of `media_metadata` as an image, or why it is none."""
    if not isinstance(entry, dict):
        return "gallery item missing"
    if entry.get("e") == "RedditVideo":
        return "gallery item video"
    source = entry.get("s")
    if entry.get("status") != "valid" or not isinstance(source, dict):
        return "gallery item failed"
    served = _plain(source.get("u") or source.get("gif"))
    if not served:
        return "gallery item video" if source.get("mp4") else "gallery item failed"
    url, fallbacks, rendition = _original(served)
    claimed = entry.get("m")
    return FoundMedia(
        position,
        media_id,
        url,
        fallbacks,
        None,
        alt or None,
        claimed if isinstance(claimed, str) else None,
        _count(source.get("x")),
        _count(source.get("y")),
        rendition,
    )


def _original(served: str) -> tuple[str, tuple[str, ...], str]:
    """The address of the original behind a served one, what to fall back to, and the rendition."""
    if not served.startswith(("https://preview.redd.it/", "http://preview.redd.it/")):
        original = served.startswith(("https://i.redd.it/", "http://i.redd.it/"))
        return served, (), "original" if original else "preview"
    name = served.split("?", 1)[0].rsplit("/", 1)[-1]
    _, _, bare = name.rpartition("-v0-")
    return f"https://i.redd.it/{bare}", (served,), "original"


def _single(link: str, raw: dict[str, Any]) -> tuple[FoundMedia | None, str | None]:
    """The image a link leads to; else None and why, or None twice if the link says nothing."""
    if not link.startswith(("http://", "https://")):
        return None, None
    try:
        host, path = _host_and_path(link)
    except ValueError:
        return None, "broken link"
    ending = _ending(path)
    if host in _VIDEO_HOSTS or ending in _VIDEO_ENDINGS:
        return None, "video"
    if host == "imgur.com":
        return _imgur(link, path, raw)
    if host == "preview.redd.it":
        url, fallbacks, rendition = _original(link)
        return _link_image(url, fallbacks, ending, raw, rendition), None
    if ending in IMAGE_TYPES or host == "i.redd.it":
        return _link_image(link, (), ending, raw), None
    return None, None


def _imgur(link: str, path: str, raw: dict[str, Any]) -> tuple[FoundMedia | None, str | None]:
    """A direct file, or the page of one image, served under any ending; albums need the API."""
    ending = _ending(path)
    if ending in IMAGE_TYPES:
        return _link_image(link, (), ending, raw), None
    page = _IMGUR_ID.match(path)
    if page is None:
        return None, "album"
    return _link_image(f"https://i.imgur.com/{page[1]}.jpg", (), "", raw), None


def _link_image(
    url: str,
    fallbacks: tuple[str, ...],
    ending: str,
    raw: dict[str, Any],
    rendition: str = "original",
) -> FoundMedia:
    preview, width, height = _preview(raw)
    more = (preview,) if preview and preview not in (url, *fallbacks) else ()
    name = url.split("?", 1)[0].rsplit("/", 1)[-1]
    return FoundMedia(
        0,
        name.rsplit(".", 1)[0] if "redd.it/" in url else None,
        url,
        fallbacks + more,
        None,
        None,
        IMAGE_TYPES.get(ending),
        width,
        height,
        rendition,
    )


def _preview(raw: dict[str, Any]) -> tuple[str | None, int | None, int | None]:
    """The signed preview of a link with its size; a preview keeps the size of the original."""
    preview = raw.get("preview")
    images = preview.get("images") if isinstance(preview, dict) else None
    source = images[0].get("source") if isinstance(images, list) and images else None
    if not isinstance(source, dict):
        return None, None, None
    return _plain(source.get("url")), _count(source.get("width")), _count(source.get("height"))


def _inline(raw: dict[str, Any]) -> _Images:
    """Images inside the text of a self post, in the order of the text."""
    text = raw.get("selftext")
    known = raw.get("media_metadata")
    known = known if isinstance(known, dict) else {}
    if not isinstance(text, str) or not (known or "redd.it/" in text or "![" in text):
        return (), ()
    found = enumerate(_inline_ids(_plain(text) or ""))
    media, missed = _sorted_out(_inline_item(n, *place, known) for n, place in found)
    videos = sum(1 for e in known.values() if isinstance(e, dict) and e.get("e") == "RedditVideo")
    return media, missed + ("video",) * videos


def _inline_ids(text: str) -> Iterator[tuple[str, str | None]]:
    """(media id, address or None) of each image in the text, once each."""
    seen = set()
    for match in _INLINE.finditer(text):
        name = match[1] or match[2].rpartition("-v0-")[2].rsplit(".", 1)[0]
        if name not in seen:
            seen.add(name)
            yield name, None if match[1] else match[0]


def _inline_item(
    position: int, media_id: str, served: str | None, known: dict[str, Any]
) -> FoundMedia | str:
    if media_id in known:
        return _from_metadata(position, media_id, known[media_id])
    if served is None:
        return "inline image missing"
    url, fallbacks, rendition = _original(served)
    ending = _ending(url.split("?", 1)[0])
    return FoundMedia(
        position=position,
        media_id=media_id,
        url=url,
        fallback_urls=fallbacks,
        claimed_type=IMAGE_TYPES.get(ending),
        rendition=rendition,
    )


def _host_and_path(link: str) -> tuple[str, str]:
    """The host of a link without `www.`, and its path.

    Raises:
        ValueError: it is no address at all.
    """
    plain = _PLAIN_LINK.match(
        link
    )  # nearly all are: splitting one otherwise costs more than the rest
    if plain:
        return _host(plain[1]), plain[2] or ""
    parts = urlsplit(link)
    return _host(parts.netloc), parts.path


@lru_cache(maxsize=4096)
def _host(netloc: str) -> str:
    return netloc.lower().rpartition("@")[2].partition(":")[0].removeprefix("www.")


def _ending(path: str) -> str:
    return path.rsplit(".", 1)[-1].lower() if "." in path.rsplit("/", 1)[-1] else ""
