"""Instagram: the account's download, sidecars of Instaloader, CrowdTangle tables, captured items.

Download: https://help.instagram.com/181231772500920; sidecars:
https://instaloader.github.io/module/structures.html; items:
https://github.com/digitalmethodsinitiative/zeeschuimer. What decides:

- a download of 2018 to 2020 lists every file by itself: those of one second and one caption are one
  post; later ones have the caption on the post if it has several files, else on its one file;
- a download knows no address of a post: its id is that of its first file, and elsewhere the shortcode;
- stories, archived and deleted posts, drafts, messages and profile pictures are counted, never collected;
- text is UTF-8 that was read as Latin-1, and the labels of the profile are in the owner's language;
- the alternative text that others can see is written by a machine and names people: it is not taken;
- addresses of pictures expire within days, so the file beside a sidecar comes first.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from curate.collectors import meta
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    count_of,
    csv_files,
    document,
    documents,
    first_of,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    rows,
    stem_of,
    text_of,
    web_address,
)
from curate.exports import COMPRESSED, Export

PLATFORM = "instagram"
VERSION = 1
FORMATS = (
    Format("download", "Download of the account as JSON, 2018 to today", "instagram-ana-2026.zip"),
    Format("instaloader", "Folder of Instaloader: pictures and their sidecars", "ana/"),
    Format("crowdtangle", "CrowdTangle table, first picture of each post only", "instagram.csv"),
    Format("items", "Items captured by Zeeschuimer, or from 4CAT", "zeeschuimer-instagram.ndjson"),
)

_SECTIONS = {
    "post": re.compile(r"^(?:posts_\d+|reels(?:_\d+)?|igtv_videos(?:_\d+)?)$"),
    "media": re.compile(r"^media(?:_\d+)?$"),
    "story": re.compile(r"^stories(?:_\d+)?$"),
    "archived": re.compile(r"^archived_posts(?:_\d+)?$"),
    "recently deleted": re.compile(r"^recently_deleted_content(?:_\d+)?$"),
    "profile picture": re.compile(r"^profile_photos(?:_\d+)?$"),
    "not public": re.compile(r"^other_content(?:_\d+)?$"),
    "repost": re.compile(r"^reposts(?:_\d+)?$"),
}
"""What the lists of a download hold, by the name of the file; `media` is the one of 2018 to 2020."""
_OLDER = {
    "photos": "post",
    "videos": "post",
    "stories": "story",
    "profile": "profile picture",
    "direct": "not public",
}
_ELSEWHERE = ("logged_information", "past_instagram_insights", "threads", "messages")
_CODE = re.compile(r"/(?:p|reel|reels|tv)/([\w-]+)")
_ITEM = re.compile(rb'"__typename"\s*:\s*"(?:XDT)?Graph(?:Image|Video|Sidecar)"|"XIGPolaris')
_WRAPPED = re.compile(rb'"source_platform"\s*:\s*"([^"]*)"')
_TABLE = frozenset({"Account", "User Name", "Photo", "URL"})
_TIMES = ("taken_at_timestamp", "date", "taken_at")
_LOOKED_AT = 20
"""JSON files whose first bytes are looked at; profiles and comments may stand before a post."""


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Instagram, by names first and first bytes second.

    Raises:
        ExportError: it is a download of web pages.
    """
    marks = ("/your_instagram_activity/", "/content/posts_1.html")
    meta.refuse_pages(export, "Instagram", marks)
    if any(_fits(head_of(export, name, 4096), section) for name, section in _sections(export)):
        return "download"
    if any(meta.columns(export, name) >= _TABLE for name in csv_files(export)):
        return "crowdtangle"
    for name in json_files(export)[:_LOOKED_AT]:
        alone = stem_of(name).endswith(".json")
        found = _format_of(head_of(export, name), alone=alone)
        if found:
            return found
    return None


def _fits(head: bytes, section: str) -> bool:
    """Whether a file of a download's name begins like one."""
    if section == "media":
        return b'"taken_at"' in head and b'"path"' in head
    return b'"uri"' in head and b'"creation_timestamp"' in head


def _format_of(head: bytes, *, alone: bool) -> str | None:
    """The format of a file that begins with `head`; a sidecar is alone in its file."""
    sidecar = re.match(rb'\{\s*"(?:node|instaloader)"\s*:', head) if alone else None
    marks = (b'"shortcode"', b'"node_type"', b'"iphone_struct"')
    if sidecar and (_ITEM.search(head) or any(mark in head for mark in marks)):
        return "instaloader"
    wrapped = _WRAPPED.search(head)
    if wrapped:
        return "items" if wrapped[1].startswith(b"instagram.com") else None
    if b'"text_post_app_info"' in head:
        return None
    listed = b'"image_versions2"' in head and b'"taken_at"' in head and b'"code"' in head
    return "items" if listed or _ITEM.search(head) else None


def _sections(export: Export) -> list[tuple[str, str]]:
    """(member, what it holds) of each list of a download; a file given alone is one of posts."""
    names = json_files(export)
    found = [
        (name, section)
        for name in names
        if not any(step in _ELSEWHERE for step in name.split("/")[:-1])
        for section, pattern in _SECTIONS.items()
        if pattern.match(name.rsplit("/", 1)[-1].lower().removesuffix(".json"))
    ]
    alone = len(names) == 1 and not found and names[0].endswith(".json")
    return [(names[0], "post")] if alone and _is_posts(head_of(export, names[0], 256)) else found


def _is_posts(head: bytes) -> bool:
    return re.match(rb'\[\s*\{\s*"media"\s*:\s*\[\s*\{\s*"uri"', head) is not None


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of Instagram, joined with its files."""
    readers = {"download": _read_download, "instaloader": _read_sidecars, "items": _read_items}
    yield from readers.get(format, _read_tables)(export)


def _read_tables(export: Export) -> Iterator[Raw]:
    for name in csv_files(export):
        if meta.columns(export, name) >= _TABLE:
            yield from rows(export, name)


def _read_items(export: Export) -> Iterator[Raw]:
    for raw in documents(export, json_files(export)):
        several = isinstance(raw.record, list)
        yield from [raw._replace(record=r) for r in raw.record] if several else [raw]


def _read_download(export: Export) -> Iterator[Raw]:
    files = meta.Files(export)
    owner = meta.instagram_owner(export)
    for name, section in _sections(export):
        entries = _older(export, name) if section == "media" else meta.listed(export, name)
        for raw in entries:
            yield _joined(raw, section, files, owner) if raw.record is not None else raw


def _joined(raw: Raw, section: str, files: meta.Files, owner: dict[str, Any]) -> Raw:
    """The record of one post: what it is, its files in the export, whose it is."""
    own = raw.record.get("section", section) if isinstance(raw.record, dict) else section
    items = meta.entries(inside(raw.record, "media"))
    joined = files.joined(item.get("uri") for item in items) if own == "post" else {}
    record = {"section": own, "post": raw.record, "files": joined, "owner": owner}
    return raw._replace(record=record)


def _older(export: Export, name: str) -> Iterator[Raw]:
    """The posts of a download of 2018 to 2020, in the shape of later ones."""
    raw = document(export, name)
    if not isinstance(raw.record, dict):
        yield raw
        return
    posts: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, section in _OLDER.items():
        for number, item in enumerate(meta.entries(raw.record.get(key, []))):
            same = (str(item.get("taken_at")), str(item.get("caption")), str(item.get("location")))
            one = same if section == "post" and item.get("taken_at") else (key, str(number))
            post = posts.setdefault(one, _older_post(item, section))
            post["media"].append({"uri": item.get("path")})
    for number, post in enumerate(posts.values()):
        yield Raw(f"{name}[{number}]", post)


def _older_post(item: dict[str, Any], section: str) -> dict[str, Any]:
    title, time = item.get("caption"), item.get("taken_at")
    return {"section": section, "title": title, "creation_timestamp": time, "media": []}


def _read_sidecars(export: Export) -> Iterator[Raw]:
    pictures = {
        member.name.rpartition(".")[0]: member.name
        for member in export.members()
        if image_type(member.name)
    }
    for name in json_files(export):
        stem = _without_ending(name)
        if stem.endswith("_comments"):
            continue
        raw = document(export, name)
        if raw.record is None:
            yield raw
            continue
        files = _beside(stem, pictures)
        record = {
            "node": inside(raw.record, "node"),
            "type": inside(raw.record, "instaloader", "node_type"),
            "files": files,
        }
        yield raw._replace(record=record)


def _without_ending(name: str) -> str:
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name.removesuffix(".json")


def _beside(stem: str, pictures: dict[str, str]) -> dict[str, str]:
    """The pictures beside a sidecar, by number from 0: `stem.jpg`, or `stem_1.jpg` and so on."""
    several = {str(n): pictures.get(f"{stem}_{n + 1}") for n in range(50)}
    found = {number: name for number, name in several.items() if name}
    return found or ({"0": pictures[stem]} if stem in pictures else {})


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its pictures, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    parsers = {"download": _downloaded, "instaloader": _sidecar, "items": _item}
    return (parsers.get(format, _row)(record),)


def _downloaded(record: dict[str, Any]) -> Found | Skip:
    section, post = record.get("section"), record.get("post")
    if not isinstance(post, dict) or not isinstance(section, str):
        return Skip("not a post")
    text, time = meta.caption(post), meta.stated_time(post)
    items = meta.entries(post.get("media") or [])
    uri = next((u for u in (text_of(item.get("uri")) for item in items) if u), None)
    post_id = meta.media_id(uri) or (meta.made_id(time, text, uri) if uri else None)
    if section != "post":
        return Skip(section, withdrawn=post_id if section == "recently deleted" else None)
    media, missed = meta.attached(items, record.get("files"))
    if not media or post_id is None:
        return Skip(missed[0] if missed else "no image")
    author, handles = meta.owner_in(record)
    found = FoundPost(
        post_id=post_id,
        author_id=author,
        handles=handles,
        created_at=iso_time(time) or moment(time),
        text=text,
        hashtags=hashtags_in(text),
    )
    return Found(found, media, missed)


def _sidecar(record: dict[str, Any]) -> Found | Skip:
    node, kind = record.get("node"), record.get("type")
    if kind == "StoryItem":
        return Skip("story")
    if not isinstance(node, dict) or (kind is not None and kind != "Post"):
        return Skip("not a post")
    files = record.get("files")
    return _captured(_opened(node, files), files, node.get("iphone_struct"))


def _opened(node: dict[str, Any], files: Any) -> dict[str, Any]:
    """A node of several pictures, of which only the files tell how many."""
    untold = "Sidecar" in str(node.get("__typename")) and not (
        inside(node, "edge_sidecar_to_children", "edges") or node.get("carousel_media")
    )
    if not untold or not isinstance(files, dict) or len(files) < 2:
        return node
    last = max(int(number) for number in files)
    first = {"display_url": node.get("display_url"), "dimensions": node.get("dimensions")}
    return {**node, "carousel_media": [first, *({} for _ in range(last))]}


def _item(record: dict[str, Any]) -> Found | Skip:
    item = meta.captured(record)
    if not isinstance(item, dict):
        return Skip("not a post")
    node = item.get("node")
    item = node if isinstance(node, dict) else item
    link = text_of(item.get("link")) or ""
    if item.get("product_type") == "ad" or link.startswith("https://www.facebook.com/ads/"):
        return Skip("promoted")
    if item.get("product_type") == "story":
        return Skip("story")
    if meta.code_of(item) is not None and moment(first_of(item, _TIMES)) is None:
        return Skip("no time")
    return _captured(item)


def _captured(item: dict[str, Any], files: Any = None, phone: Any = None) -> Found | Skip:
    """The post of a graph node, or of an entry of an item list."""
    code = meta.code_of(item)
    if code is None:
        return Skip("no id")
    people = [p for p in (item.get("owner"), item.get("user")) if isinstance(p, dict)]
    if item.get("audience") == "besties" or any(p.get("is_private") is True for p in people):
        return Skip("not public")
    media, missed = meta.pictures(item, files, phone)
    if not media:
        return Skip(missed[0] if missed else "no image")
    return Found(_captured_post(item, code, people, phone), media, missed)


def _captured_post(
    item: dict[str, Any], code: str, people: list[dict[str, Any]], phone: Any
) -> FoundPost:
    text = meta.written(item) or text_of(inside(phone, "caption", "text"))
    time = first_of(item, _TIMES) or inside(phone, "taken_at")
    return FoundPost(
        post_id=code,
        author_id=_author(item, people),
        handles=_handles(item, people),
        created_at=moment(time),
        text=text,
        hashtags=hashtags_in(text),
        permalink=f"https://www.instagram.com/p/{code}/",
        score=_likes(item),
        replies=_comments(item),
    )


def _author(item: dict[str, Any], people: list[dict[str, Any]]) -> str | None:
    """The number of the author, also the second half of the number of an item."""
    stated = [id_of(first_of(person, ("id", "pk"))) for person in people]
    half = (id_of(item.get("id")) or "").partition("_")[2]
    return next((number for number in [*stated, half] if number), None)


def _handles(item: dict[str, Any], people: list[dict[str, Any]]) -> tuple[str, ...]:
    """The names of the author, of co-authors and of people tagged in the picture."""
    tagged = [
        *meta.entries(item.get("coauthor_producers")),
        *(inside(t, "user") for t in meta.entries(inside(item, "usertags", "in"))),
        *(
            inside(edge, "node", "user")
            for edge in meta.entries(inside(item, "edge_media_to_tagged_user", "edges"))
        ),
    ]
    names = [inside(p, key) for p in [*people, *tagged] for key in ("username", "full_name")]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name.strip()))


def _likes(item: dict[str, Any]) -> int | None:
    """Likes; where an author hides them the number given is made up."""
    if item.get("like_and_view_counts_disabled") is True:
        return None
    counts = [
        item.get("like_count"),
        inside(item, "edge_media_preview_like", "count"),
        inside(item, "edge_liked_by", "count"),
    ]
    return _first_count(counts)


def _comments(item: dict[str, Any]) -> int | None:
    edges = ("to_parent_comment", "to_comment", "preview_comment")
    counts = [inside(item, f"edge_media_{edge}", "count") for edge in edges]
    return _first_count([item.get("comment_count"), *counts])


def _first_count(values: Iterable[Any]) -> int | None:
    counts = (count_of(value) for value in values)
    return next((c for c in counts if c is not None and c >= 0), None)


def _row(record: dict[str, Any]) -> Found | Skip:
    """A row of CrowdTangle, which holds the address of the first picture alone."""
    code = _CODE.search(text_of(record.get("URL")) or "")
    if code is None:
        return Skip("no id")
    kind = (text_of(record.get("Type")) or "").lower()
    if "video" in kind or kind in ("igtv", "reel", "reels"):
        return Skip("video")
    time = meta.table_time(first_of(record, ("Post Created", "Created")))
    if isinstance(time, Skip):
        return time
    url = web_address(record.get("Photo"))
    if url is None:
        return Skip("media not included")
    media = (FoundMedia(0, url=url, claimed_type=image_type(url), rendition="re-encode"),)
    missed = ("media not included",) if "album" in kind or "carousel" in kind else ()
    return Found(_row_post(record, code[1], time), media, missed)


def _row_post(record: dict[str, Any], code: str, time: Any) -> FoundPost:
    names = [text_of(record.get(column)) for column in ("User Name", "Account")]
    title, text = text_of(record.get("Title")), text_of(record.get("Description"))
    return FoundPost(
        post_id=code,
        author_id=meta.named_author(names[0]),
        handles=tuple(dict.fromkeys(name for name in names if name)),
        created_at=time,
        title=title,
        text=text,
        hashtags=hashtags_in(title, text),
        permalink=f"https://www.instagram.com/p/{code}/",
        score=count_of(record.get("Likes")),
        replies=count_of(record.get("Comments")),
    )
