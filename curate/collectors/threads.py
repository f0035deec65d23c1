"""Threads: posts inside a download of Instagram, captured items, pages of the official API.

Download: https://help.instagram.com/259803026523198; items:
https://github.com/digitalmethodsinitiative/zeeschuimer; API:
https://developers.facebook.com/docs/threads/threads-media. What decides:

- a download of Instagram holds both, so that both collectors recognise it;
- as on Instagram, the text is on the post if it has several files, else on its one file; a post of text
  alone has one file without a path;
- a download knows no address of a post: its id is that of its first file, and elsewhere the shortcode;
- an address with the handle is written without it (`/t/` and the shortcode);
- the capture of a repost holds the original inside, with its pictures; the API gives its id alone.
"""

import re
from collections.abc import Iterator
from typing import Any

from curate.collectors import meta
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    count_of,
    documents,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    repaired,
    text_of,
    web_address,
)
from curate.exports import Export

PLATFORM = "threads"
VERSION = 1
FORMATS = (
    Format("download", "Posts inside a download of Instagram, JSON", "instagram-ana-2026.zip"),
    Format(
        "items", "Items captured by Zeeschuimer, or pages of the API", "zeeschuimer-threads.ndjson"
    ),
)

_POSTS = re.compile(r"(?:^|/)threads_and_replies(?:_\d+)?\.json$")
_WRAPPED = re.compile(rb'"source_platform"\s*:\s*"([^"]*)"')
_OFFICIAL = re.compile(rb'"media_product_type"\s*:\s*"THREADS"|threads\.(?:net|com)/@')
_LOOKED_AT = 20


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Threads, by names first and first bytes second."""
    if _lists(export):
        return "download"
    for name in json_files(export)[:_LOOKED_AT]:
        if _is_items(head_of(export, name)):
            return "items"
    return None


def _lists(export: Export) -> list[str]:
    """The lists of posts of a download, or the one file that is such a list under another name."""
    names = json_files(export)
    key = b'"text_post_app_text_posts"'
    found = [name for name in names if _POSTS.search(name)] or names[: len(names) == 1]
    return [name for name in found if key in head_of(export, name, 4096)]


def _is_items(head: bytes) -> bool:
    wrapped = _WRAPPED.search(head)
    if wrapped:
        return wrapped[1].startswith((b"threads.net", b"threads.com"))
    captured = b'"text_post_app_info"' in head and b'"taken_at"' in head
    official = b'"media_type"' in head and _OFFICIAL.search(head.replace(b"\\/", b"/"))
    return captured or (official is not None and official is not False)


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of Threads, joined with its files."""
    yield from _read_download(export) if format == "download" else _read_items(export)


def _read_download(export: Export) -> Iterator[Raw]:
    files = meta.Files(export)
    owner = meta.instagram_owner(export)
    for name in _lists(export):
        for raw in meta.listed(export, name):
            if raw.record is None:
                yield raw
                continue
            items = meta.entries(inside(raw.record, "media"))
            joined = files.joined(item["uri"] for item in items if item.get("uri"))
            yield raw._replace(record={"post": raw.record, "files": joined, "owner": owner})


def _read_items(export: Export) -> Iterator[Raw]:
    """Each item; a page of the API holds a list of them under `data`."""
    for raw in documents(export, json_files(export)):
        listed = inside(raw.record, "data")
        listed = raw.record if isinstance(raw.record, list) else listed
        if isinstance(listed, list):
            for number, item in enumerate(listed):
                yield Raw(f"{raw.where}[{number}]", item)
        else:
            yield raw


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its pictures, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    return (_downloaded(record) if format == "download" else _item(record),)


def _downloaded(record: dict[str, Any]) -> Found | Skip:
    post = record.get("post")
    if not isinstance(post, dict):
        return Skip("not a post")
    text, time = meta.caption(post), meta.stated_time(post)
    items = [item for item in meta.entries(post.get("media")) if item.get("uri")]
    media, missed = meta.attached(items, record.get("files"))
    if not media:
        return Skip(missed[0] if missed else "no image")
    uri = text_of(items[0]["uri"])
    author, handles = meta.owner_in(record)
    found = FoundPost(
        post_id=meta.media_id(uri) or meta.made_id(time, text, uri),
        author_id=author,
        handles=handles,
        created_at=moment(time),
        text=text,
        hashtags=hashtags_in(text),
    )
    return Found(found, media, missed)


def _item(record: dict[str, Any]) -> Found | Skip:
    item = meta.captured(record)
    if not isinstance(item, dict):
        return Skip("not a post")
    official = isinstance(item.get("media_type"), str)
    return _official(item) if official else _captured(item)


def _captured(item: dict[str, Any]) -> Found | Skip:
    """The post of a captured item; a repost has the original's pictures."""
    code = meta.code_of(item)
    if code is None:
        return Skip("no id")
    people = item.get("user")
    if inside(item, "text_post_app_info", "is_post_unavailable") is True:
        return Skip("not found")
    if inside(people, "is_private") is True or inside(people, "text_post_app_is_private") is True:
        return Skip("not public")
    original = inside(item, "text_post_app_info", "share_info", "reposted_post")
    shown = original if isinstance(original, dict) else item
    time = moment(item.get("taken_at"))
    if time is None:
        return Skip("no time")
    media, missed = meta.pictures(shown)
    if not media:
        reposted = "repost" if shown is not item else "no image"
        return Skip(_why_none(missed, shown) or reposted)
    return Found(_captured_post(item, shown, code, time), media, missed)


def _why_none(missed: tuple[str, ...], shown: dict[str, Any]) -> str | None:
    """Why nothing was taken; a post of text has no address of a picture, as one that lacks it."""
    if "video" in missed:
        return "video"
    several = isinstance(shown.get("carousel_media"), list) and shown["carousel_media"]
    return missed[0] if missed and several else None


def _captured_post(item: dict[str, Any], shown: dict[str, Any], code: str, time: Any) -> FoundPost:
    info = item.get("text_post_app_info")
    text = meta.written(item) or meta.written(shown)
    people = [p for p in (item.get("user"), shown.get("user")) if isinstance(p, dict)]
    names = [p.get(key) for p in people for key in ("username", "full_name")]
    origin = meta.code_of(shown) if shown is not item else None
    likes = (
        item.get("like_count") if item.get("like_and_view_counts_disabled") is not True else None
    )
    return FoundPost(
        post_id=code,
        author_id=id_of(inside(item, "user", "pk") or inside(item, "user", "id")),
        handles=tuple(dict.fromkeys(n for n in names if isinstance(n, str) and n.strip())),
        created_at=time,
        text=text,
        hashtags=_hashtags(item, text),
        permalink=f"https://www.threads.net/t/{code}",
        score=count_of(likes),
        replies=count_of(inside(info, "direct_reply_count")),
        repost_of=f"{PLATFORM}/{origin}" if origin and origin != code else None,
    )


def _hashtags(item: dict[str, Any], text: str | None) -> tuple[str, ...]:
    """Hashtags of the text, and the topic: Threads shows it without `#`, and it may have spaces."""
    topics = [
        inside(item, "text_post_app_info", "tag_header", "display_name"),
        item.get("topic_tag"),
    ]
    known = [topic.lstrip("#") for topic in map(text_of, topics) if topic]
    return tuple(dict.fromkeys((*hashtags_in(text), *known)))


# ---------------------------------------------------------------- parse: the official API


def _official(item: dict[str, Any]) -> Found | Skip:
    code = id_of(item.get("shortcode")) or id_of(item.get("id"))
    if code is None:
        return Skip("no id")
    if item.get("media_type") == "REPOST_FACADE" and not item.get("media_url"):
        return Skip("repost")
    time = iso_time(item.get("timestamp"))
    if time is None:
        return Skip("no time")
    children = meta.entries(inside(item, "children", "data"))
    media, missed = _official_media(children or [item])
    if not media:
        return Skip(missed[0] if missed else "no image")
    text, name = repaired(item.get("text")), text_of(item.get("username"))
    origin = id_of(inside(item, "reposted_post", "id"))
    post = FoundPost(
        post_id=code,
        author_id=id_of(inside(item, "owner", "id")) or meta.named_author(name),
        handles=(name,) if name else (),
        created_at=time,
        text=text,
        hashtags=_hashtags(item, text),
        permalink=f"https://www.threads.net/t/{code}" if item.get("shortcode") else None,
        repost_of=f"{PLATFORM}/{origin}" if origin and origin != code else None,
    )
    return Found(post, media, missed)


def _official_media(
    items: list[dict[str, Any]],
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    media: list[FoundMedia] = []
    missed: list[str] = []
    for position, item in enumerate(items):
        kind, url = item.get("media_type"), web_address(item.get("media_url"))
        if kind == "VIDEO":
            missed.append("video")
        elif url is None:
            missed.append("media not included" if kind == "IMAGE" else "no image")
        else:
            media.append(
                FoundMedia(
                    position,
                    media_id=id_of(item.get("id")),
                    url=url,
                    alt=text_of(item.get("alt_text")),
                    claimed_type=image_type(url),
                    rendition="re-encode",
                )
            )
    return tuple(media), tuple(missed)
