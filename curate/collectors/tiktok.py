"""TikTok: the data download, and items of the web client as captured. Most of it is video.

Items: https://github.com/digitalmethodsinitiative/zeeschuimer and the extractor of
https://github.com/mikf/gallery-dl; download: https://support.tiktok.com/en/account-and-privacy. Published
answers with videos agree; no genuine photo post was at hand in either: the keys of pictures are those that
these programs read. What decides:

- only `imagePost` has pictures; a video's cover is none, and the Research API gives videos only;
- every picture served is TikTok's own re-encoding, at addresses that expire;
- sections of the download were renamed several times; its own posts have no id: one is made of the second
  and the first picture's name, so that two downloads agree. Times in it are UTC without saying so;
- which posts of a download are photos is told by their links: an address that ends as pictures do;
- a permalink without a name is `tiktokv.com/share/video/ID/`, which the download itself writes;
- where the platform or the author says that a post is AI-generated, that is its flair.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import ijson

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    MemberStream,
    count_of,
    entries,
    first_of,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    stem_of,
    text_of,
    unwrapped,
    web_address,
)
from curate.exports import Export

PLATFORM = "tiktok"
VERSION = 1
FORMATS = (
    Format("download", "Data download, JSON or its zip", "user_data_tiktok.json"),
    Format(
        "items", "Items of the web client: captured answers, Zeeschuimer lines", "tiktok.ndjson"
    ),
)

_FILES = ("user_data_tiktok.json", "user_data.json")
_SECTIONS = re.compile(
    rb'^\{\s*"(?:Activity|Your Activity|Ads and data|App Settings|Comment|Direct Messages?|Post|Video'
    rb"|Videos|Profile|Profile And Settings|Likes and Favorites|Location Review|TikTok Shop"
    rb'|Tiktok Shopping|Tiktok Live|TikTok Live|Income Plus Wallet Transactions)"\s*:\s*[{n]'
)
_OWN = {
    "Post.Posts.VideoList.item": False,
    "Video.Videos.VideoList.item": False,
    "Videos.VideoList.item": False,
    "Activity.Videos.VideoList.item": False,
    "Post.Recently Deleted Posts.PostList.item": True,
    "Post.Recently Deleted Videos.VideoList.item": True,
    "Videos.Recently Deleted Videos.VideoList.item": True,
}
_OWNER = ".ProfileMap.userName"
_CAPTURED = re.compile(rb'"source_platform"\s*:\s*"tiktok\.com"')
_EVERYBODY = frozenset({"everyone", "public", "public to everyone"})
_NOTHING = frozenset({"n/a", "none", ""})
_ID = re.compile(r"/(?:video|photo)/(\d+)")
_LISTS = ("itemList", "item_list", "items", "videos")
_AI = "AI-generated"


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of TikTok: the download by its name, items by their first bytes."""
    names = json_files(export)
    if any(_SECTIONS.match(head_of(export, name)) for name in _downloads(names)):
        return "download"
    return "items" if names and _holds_items(head_of(export, names[0])) else None


def _downloads(names: list[str]) -> list[str]:
    return [name for name in names if stem_of(name).rsplit("/", 1)[-1] in _FILES]


def _holds_items(head: bytes) -> bool:
    if b'"category"' in head and b'"subcategory"' in head:
        return False  # a crawler's side file, with keys of its own
    if _CAPTURED.search(head):
        return True
    if b'"createTime"' in head and b'"desc"' in head:
        return any(key in head for key in (b'"imagePost"', b'"challenges"', b'"diggCount"'))
    return b'"video_description"' in head and b'"create_time"' in head


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every post of a download, or every item of captured answers."""
    names = json_files(export)
    if format == "download":
        for name in _downloads(names):
            yield from _own_posts(export, name)
        return
    for raw in entries(export, names):
        if raw.problem is not None:
            yield raw
            continue
        for number, item in enumerate(unwrapped(raw.record, _wrapped)):
            yield Raw(f"{raw.where}[{number}]", item)


def _own_posts(export: Export, name: str) -> Iterator[Raw]:
    """The owner's posts, as a stream: histories of the same file may be very long."""
    owner = _owner(export, name)
    number, building, deleted = 0, None, False
    with MemberStream(export, name) as stream:
        try:
            for prefix, event, value in ijson.parse(stream, use_float=True):
                if building is None and event == "start_map" and prefix in _OWN:
                    building, deleted = ijson.ObjectBuilder(), _OWN[prefix]
                if building is not None:
                    building.event(event, value)
                    if event == "end_map" and prefix in _OWN:
                        record = {"post": building.value, "owner": owner, "deleted": deleted}
                        yield Raw(f"{name}[{number}]", record)
                        number, building = number + 1, None
        except (ijson.JSONError, UnicodeDecodeError) as error:
            told = " ".join(str(error).split())[:80]
            partial = f"{name} is not valid JSON after {number} posts ({told})"
            yield Raw(f"{name}[{number}]", problem="broken file", partial=partial)


def _owner(export: Export, name: str) -> str | None:
    """The name of the account, which may stand after its posts."""
    with MemberStream(export, name) as stream:
        try:
            events = ijson.parse(stream, use_float=True)
            return next(
                (text_of(v) for p, e, v in events if e == "string" and p.endswith(_OWNER)), None
            )
        except (ijson.JSONError, UnicodeDecodeError):
            return None


def _wrapped(document: Any) -> Any:
    """What a document is a wrapper of; None if it is an item itself, or nothing we know."""
    if not isinstance(document, dict) or "createTime" in document:
        return None
    scope = inside(document, "__DEFAULT_SCOPE__", "webapp.video-detail")
    struct = inside(scope or document, "itemInfo", "itemStruct")
    if isinstance(struct, dict):
        return struct
    if isinstance(document.get("ItemModule"), dict):
        return list(document["ItemModule"].values())
    lists = [document[key] for key in _LISTS if isinstance(document.get(key), list)]
    if lists:
        return lists[0]
    inner = first_of(document, ("data", "item"))
    return inner if isinstance(inner, dict | list) else None


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    return (_own(record) if format == "download" else _item(record),)


def _item(item: dict[str, Any]) -> Found | Skip:
    post_id = id_of(item.get("id"))
    if post_id is None:
        return Skip("no id")
    if any(item.get(key) is True for key in ("privateItem", "secret", "forFriend", "isReviewing")):
        return Skip("not public")
    if item.get("isAd") is True:
        return Skip("promoted")
    pictures = inside(item, "imagePost", "images")
    if not isinstance(pictures, list):
        known = any(key in item for key in ("video", "createTime", "create_time"))
        return Skip("video" if known else "no image")
    found = [_picture(n, picture) for n, picture in enumerate(pictures)]
    media = tuple(m for m in found if isinstance(m, FoundMedia))
    missed = tuple(m for m in found if isinstance(m, str))
    return Found(_post(post_id, item), media, missed) if media else Skip("no image")


def _picture(position: int, picture: Any) -> FoundMedia | str:
    """One picture at the first of the addresses that serve it."""
    served = inside(picture, "imageURL", "urlList")
    urls = [u for u in served if web_address(u)] if isinstance(served, list) else []
    if not urls:
        return "media not included"
    return FoundMedia(
        position=position,
        media_id=_media_id(urls[0]),
        url=urls[0],
        fallback_urls=tuple(urls[1:]),
        claimed_type=image_type(urls[0]),
        claimed_width=count_of(inside(picture, "imageWidth")),
        claimed_height=count_of(inside(picture, "imageHeight")),
        rendition="re-encode",
    )


def _media_id(url: str) -> str | None:
    """The name of a picture on the servers, which all its addresses share."""
    return url.split("?", 1)[0].rsplit("/", 1)[-1].partition("~")[0] or None


def _post(post_id: str, item: dict[str, Any]) -> FoundPost:
    text = text_of(item.get("desc"))
    author_id, handles = _author(item)
    return FoundPost(
        post_id=post_id,
        author_id=author_id,
        handles=(*handles, *_mentioned(item)),
        created_at=moment(item.get("createTime")),
        title=text_of(inside(item, "imagePost", "title")),
        text=text,
        hashtags=_hashtags(item) or hashtags_in(text),
        flair=text_of(item.get("AIGCDescription")) or (_AI if item.get("IsAigc") is True else None),
        permalink=_permalink(post_id),
        score=_count(item, "diggCount"),
        replies=_count(item, "commentCount"),
        sensitive=True if item.get("maskType") == 3 else None,
        language=_language(item.get("textLanguage")),
    )


def _author(item: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The author's id and names; old captures have the name alone, its id beside it."""
    author = item.get("author")
    if isinstance(author, dict):
        ids = first_of(author, ("id", "secUid"))
        names = [text_of(author.get(key)) for key in ("uniqueId", "nickname")]
    else:
        ids = first_of(item, ("authorId", "authorSecId"))
        names = [text_of(author), text_of(item.get("nickname"))]
    author_id = id_of(ids) or (f"name:{names[0].casefold()}" if names[0] else None)
    return author_id, tuple(n for n in names if n)


def _extras(item: dict[str, Any], key: str) -> list[str]:
    """The values of `key` in what the text was found to hold."""
    extras = item.get("textExtra")
    values = [text_of(inside(e, key)) for e in extras] if isinstance(extras, list) else []
    return [value for value in values if value]


def _mentioned(item: dict[str, Any]) -> list[str]:
    return _extras(item, "userUniqueId")


def _hashtags(item: dict[str, Any]) -> tuple[str, ...]:
    """The hashtags as written, and those challenges that are not among them."""
    challenges = item.get("challenges")
    titles = (
        [text_of(inside(c, "title")) for c in challenges] if isinstance(challenges, list) else []
    )
    spelt: dict[str, str] = {}
    for tag in (*_extras(item, "hashtagName"), *titles):
        if tag:
            spelt.setdefault(tag.casefold(), tag)
    return tuple(spelt.values())


def _count(item: dict[str, Any], key: str) -> int | None:
    counts = (count_of(inside(item, part, key)) for part in ("stats", "statsV2"))
    return next((c for c in counts if c is not None), None)


def _language(value: Any) -> str | None:
    text = text_of(value)
    return text if text and text != "un" else None


def _permalink(post_id: str) -> str | None:
    return f"https://www.tiktokv.com/share/video/{post_id}/" if post_id.isdecimal() else None


# ---------------------------------------------------------------- the download


def _own(record: dict[str, Any]) -> Found | Skip:
    """A post of the owner of the account."""
    post = record.get("post")
    if not isinstance(post, dict):
        return Skip("not a post")
    if record.get("deleted"):
        return Skip("recently deleted")
    seen_by = _said(post.get("WhoCanView"))
    if seen_by and seen_by.casefold() not in _EVERYBODY:
        return Skip("not public")
    links = _links(post.get("Link"))
    pictures = [link for link in links if image_type(link)]
    if not pictures:
        return Skip("video" if links else "media not included")
    post_id = _own_id(pictures, post.get("Date"))
    if post_id is None:
        return Skip("no id")
    missed = ("video",) * (len(links) - len(pictures))
    # one description for several pictures says nothing of any one of them
    alt = _said(post.get("AlternateText")) if len(pictures) == 1 else None
    media = (_served(n, link, alt) for n, link in enumerate(links) if link in pictures)
    owner = text_of(record.get("owner"))
    return Found(_own_post(post_id, post, owner), tuple(media), missed)


def _own_post(post_id: str, post: dict[str, Any], owner: str | None) -> FoundPost:
    title = _said(post.get("Title"))
    declared = _said(post.get("AIGeneratedContent"))
    return FoundPost(
        post_id=post_id,
        author_id=f"name:{owner.casefold()}" if owner else None,
        handles=(owner,) if owner else (),
        created_at=iso_time(post.get("Date")),
        title=title,
        hashtags=hashtags_in(title),
        flair=_AI if declared and declared.casefold() == "yes" else None,
        permalink=_permalink(post_id),
        score=count_of(post.get("Likes")),
    )


def _served(position: int, link: str, alt: str | None) -> FoundMedia:
    return FoundMedia(
        position=position,
        media_id=_media_id(link),
        url=link,
        alt=alt,
        claimed_type=image_type(link),
        rendition="re-encode",
    )


def _said(value: Any) -> str | None:
    """Text, unless it is one of the words for nothing."""
    text = text_of(value)
    return None if text is None or text.strip().casefold() in _NOTHING else text


def _links(value: Any) -> list[str]:
    """The addresses of a post: one, several in one text, or a list."""
    texts = value if isinstance(value, list) else [value]
    words = [word for text in texts if isinstance(text, str) for word in text.split()]
    return list(dict.fromkeys(word for word in words if web_address(word)))


def _own_id(links: list[str], date: Any) -> str | None:
    """The id that a link names, else one made of the second of the post and its first picture.

    The account is left out of it: a name could be guessed and the guess tested.
    """
    named = next((m[1] for link in links if (m := _ID.search(link))), None)
    time = iso_time(date)
    if named or time is None:
        return named
    said = f"{int(time.timestamp())}\0{_media_id(links[0])}"
    return f"made-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
