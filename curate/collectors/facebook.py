"""Facebook: the account's download, tables of CrowdTangle and of the Meta Content Library.

Download: https://www.facebook.com/help/212802592074644; CrowdTangle (closed on 2024-08-14):
https://github.com/CrowdTangle/API; library:
https://developers.facebook.com/docs/content-library-and-api. What decides:

- a download has no ids: a post is known by its second, its text and the name of its first file;
- text is UTF-8 that was read as Latin-1; titles are sentences in the owner's language that name people,
  so they are not kept;
- one photo stands in its post, in an album and among the uncategorised ones: the post comes first, and
  the others are told by their path;
- what lies in the archive, in the trash and among the stories is counted, never collected, also where an
  album has it;
- tables hold no pictures, save where a post links to one: a photo post's link is a page;
- a table's times have the short name of a zone; one that means several zones is refused.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from curate.collectors import meta
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    count_of,
    csv_files,
    document,
    first_of,
    hashtags_in,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    repaired,
    rows,
    text_of,
    web_address,
)
from curate.exports import Export

PLATFORM = "facebook"
VERSION = 1
FORMATS = (
    Format(
        "download", "Download of the account as JSON: posts, groups, albums", "facebook-ana.zip"
    ),
    Format(
        "crowdtangle", "CrowdTangle table of pages or groups: linked pictures", "2023-search.csv"
    ),
    Format(
        "content-library", "Meta Content Library table: text and links, no media", "library.csv"
    ),
)

_SECTIONS = {
    "recently deleted": re.compile(r"^trash(?:_\d+)?$"),
    "archived": re.compile(r"^archive(?:_\d+)?$"),
    "story": re.compile(r"^(?:archived_)?stories(?:_\d+)?$"),
    "post": re.compile(r"^(?:your|profile)_posts(?:_\d+|__\w+)?$"),
    "group": re.compile(r"^(?:your_posts_in_groups|group_posts_and_comments)(?:_\d+)?$"),
    "check-in": re.compile(r"^(?:your_)?check-ins(?:_\d+)?$"),
    "video": re.compile(r"^(?:your_)?(?:videos|reels)(?:_\d+)?$"),
    "album": re.compile(r"^.+$"),
    "photo": re.compile(r"^your_(?:uncategorized_)?photos(?:_\d+)?$"),
}
"""What the lists of a download hold, by the name of the file, in the order in which they are read."""
_PUBLIC = frozenset({"post", "group", "check-in", "photo"})
_TAKEN_BACK = frozenset({"recently deleted", "archived"})
_FOLDERS = {
    "album": ("album",),
    "archived": ("posts",),
    "recently deleted": ("posts",),
    "story": ("stories",),
    "video": ("posts", "reels", "photos_and_videos"),
}
"""Folders that a name of few letters must lie in."""
_GROUP = re.compile(
    r" (?:posted|shared|added|uploaded|created|updated)\b.*? (?:in|to)(?: the group)? (.+?)\.?$"
)
_PROFILE = re.compile(r"[?&]id=(\d+)")
_PAGES = re.compile(r"^(?:www|web|m|mbasic)?\.?facebook\.com$")
_DIGITS = re.compile(r"(?:\d+_)?(\d+)$|(pfbid\w+)$")
_TABLE = frozenset({"User Name", "URL", "Message"})
_NAMES = frozenset({"Page Name", "Group Name"})
_LIBRARY = frozenset({"id", "creation_time", "text"})
_LINKED = re.compile(r"https?://[^\s\"'\\,\]\[<>]+")


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Facebook, by names first and first bytes second.

    Raises:
        ExportError: it is a download of web pages.
    """
    marks = ("/your_facebook_activity/", "/posts/your_posts.html", "/posts/your_posts_1.html")
    meta.refuse_pages(export, "Facebook", marks)
    if any(_fits(head_of(export, name, 4096)) for name, _ in _sections(export)):
        return "download"
    for name in csv_files(export):
        found = _table_of(meta.columns(export, name))
        if found:
            return found
    return None


def _fits(head: bytes) -> bool:
    """Whether a file of a download's name begins like one."""
    photo = b'"uri"' in head and b'"creation_timestamp"' in head
    return photo or (b'"timestamp"' in head and (b'"data"' in head or b'"attachments"' in head))


def _table_of(columns: frozenset[str]) -> str | None:
    if columns >= _TABLE and columns & _NAMES:
        return "crowdtangle"
    dotted = any(c.startswith(("post_owner.", "statistics.")) for c in columns)
    return "content-library" if columns >= _LIBRARY and ("mcl_url" in columns or dotted) else None


def _sections(export: Export) -> list[tuple[str, str]]:
    """(member, what it holds) of each list of a download, in the order of `_SECTIONS`.

    A file given alone is one of posts, whatever it is called.
    """
    names = json_files(export)
    found = [
        (name, section)
        for section in _SECTIONS
        for name in names
        if _is_section(name.lower().removesuffix(".json").split("/"), section)
    ]
    alone = len(names) == 1 and not found and names[0].endswith(".json")
    return [(names[0], "post")] if alone and _is_posts(head_of(export, names[0])) else found


def _is_section(steps: list[str], section: str) -> bool:
    folders = _FOLDERS.get(section)
    placed = folders is None or (len(steps) > 1 and steps[-2] in folders)
    return placed and _SECTIONS[section].match(steps[-1]) is not None


def _is_posts(head: bytes) -> bool:
    keys = (b'"timestamp"', b'"attachments"', b'"data"')
    return head.startswith(b"[") and all(key in head for key in keys)


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of Facebook, joined with its files."""
    if format == "download":
        yield from _read_download(export)
        return
    for name in csv_files(export):
        if _table_of(meta.columns(export, name)) == format:
            yield from rows(export, name)


def _read_download(export: Export) -> Iterator[Raw]:
    files = meta.Files(export)
    owner = _owner(export)
    known: dict[str, str] = {}
    for name, section in _sections(export):
        entries = _photos(export, name) if section == "album" else meta.listed(export, name)
        for raw in entries:
            if raw.record is None:
                yield raw
            else:
                own = "photo" if section == "album" else section
                yield _joined(raw, own, known, files, owner)


def _joined(
    raw: Raw, section: str, known: dict[str, str], files: meta.Files, owner: dict[str, Any]
) -> Raw:
    """The record of one post: what it is, its files in the export, whose it is.

    `known` says what the paths and posts met so far are, and grows: what the trash has may stand among the
    posts too, and a photo met before is not a post of its own.
    """
    uris = [u for u in (text_of(item.get("uri")) for item in _items(raw.record)) if u]
    keys = [*uris, *([_post_id(raw.record)] if isinstance(raw.record, dict) else [])]
    met = [known[key] for key in keys if key in known]
    withheld = met if section == "photo" else [m for m in met if m in _TAKEN_BACK]
    section = next(iter(withheld), section) if section in _PUBLIC else section
    for key in keys:
        known.setdefault(key, "duplicate" if section in _PUBLIC else section)
    joined = files.joined(uris) if section in _PUBLIC else {}
    record = {"section": section, "post": raw.record, "files": joined, "owner": owner}
    return raw._replace(record=record)


def _photos(export: Export, name: str) -> Iterator[Raw]:
    """The photos of an album, each with the album's name."""
    raw = document(export, name)
    if not isinstance(raw.record, dict):
        yield raw
        return
    listed = [*meta.entries(raw.record.get("photos")), *meta.entries(raw.record.get("cover_photo"))]
    for number, photo in enumerate(listed):
        yield Raw(f"{name}[{number}]", {**photo, "album": raw.record.get("name")})


def _owner(export: Export) -> dict[str, Any]:
    """Whose download it is, by the profile in it; an id where the profile's address has one."""
    for name in json_files(export):
        if name.rsplit("/", 1)[-1] == "profile_information.json":
            record = document(export, name).record
            profile = first_of(record, ("profile_v2", "profile"))
            numbered = _PROFILE.search(text_of(inside(profile, "profile_uri")) or "")
            names = [inside(profile, "username"), inside(profile, "name", "full_name")]
            return meta.owner([*names, inside(profile, "name")], numbered and numbered[1])
    return meta.owner([])


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its pictures, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    parsers = {"download": _downloaded, "crowdtangle": _row}
    return (parsers.get(format, _library_row)(record),)


def _downloaded(record: dict[str, Any]) -> Found | Skip:
    section, post = record.get("section"), record.get("post")
    if not isinstance(post, dict) or not isinstance(section, str):
        return Skip("not a post")
    items = _items(post)
    texts = _texts(post, items)
    post_id = _post_id(post)
    if section not in _PUBLIC:
        return Skip(section, withdrawn=post_id if section == "recently deleted" else None)
    media, missed = meta.attached(items, record.get("files"))
    if not media:
        return Skip(missed[0] if missed else _without_picture(post))
    author, handles = meta.owner_in(record)
    tagged = (repaired(tag.get("name")) for tag in meta.entries(post.get("tags")))
    people = tuple(dict.fromkeys([*handles, *(name for name in tagged if name)]))
    found = FoundPost(
        post_id=post_id,
        author_id=author,
        handles=people,
        created_at=moment(first_of(post, ("timestamp", "creation_timestamp"))),
        title=repaired(post.get("album")),
        text="\n".join(texts) or None,
        hashtags=hashtags_in(*texts),
        community=_group(post, people) if section == "group" else None,
    )
    return Found(found, media, missed)


def _items(post: Any) -> list[dict[str, Any]]:
    """The files of a post in their order, once each: attached, in a note, of a check-in, or itself."""
    if not isinstance(post, dict):
        return []
    found = [post] if "uri" in post else meta.entries(post.get("media"))
    for attachment in meta.entries(post.get("attachments")):
        for entry in meta.entries(attachment.get("data")):
            found += meta.entries(entry.get("media"))
            found += meta.entries(inside(entry, "note", "media"))
    named: dict[str, dict[str, Any]] = {}
    for item in found:
        if item.get("uri"):
            named.setdefault(str(item["uri"]), item)
    return list(named.values())


def _texts(post: dict[str, Any], items: list[dict[str, Any]]) -> list[str]:
    """What the author wrote: the post, then the captions of its pictures, each once."""
    notes = [
        inside(entry, "note", "text")
        for attachment in meta.entries(post.get("attachments"))
        for entry in meta.entries(attachment.get("data"))
    ]
    captions = [item.get("description") for item in items]
    texts = map(repaired, [_own_text(post), *notes, post.get("description"), *captions])
    return list(dict.fromkeys(text for text in texts if text))


def _own_text(post: dict[str, Any]) -> Any:
    written = (entry.get("post") for entry in meta.entries(post.get("data")))
    return next((text for text in written if text), None)


def _post_id(post: dict[str, Any]) -> str:
    """An id: stated, or of the second, the text and the first file.

    Of the file its own number counts, since the folders of one photo differ between two downloads.
    """
    items = _items(post)
    first = text_of(items[0].get("uri")) if items else None
    name = meta.media_id(first) or (first.rsplit("/", 1)[-1] if first else None)
    time = first_of(post, ("timestamp", "creation_timestamp"))
    return id_of(post.get("fbid")) or meta.made_id(time, repaired(_own_text(post)), name)


def _without_picture(post: dict[str, Any]) -> str:
    """Why a post has no file; one that shares another post has a link without an address."""
    links = [
        entry["external_context"]
        for attachment in meta.entries(post.get("attachments"))
        for entry in meta.entries(attachment.get("data"))
        if isinstance(entry.get("external_context"), dict)
    ]
    shared = any(not link.get("url") for link in links)
    return "repost" if shared or " shared a " in (repaired(post.get("title")) or "") else "no image"


def _group(post: dict[str, Any], people: tuple[str, ...]) -> str | None:
    """The group that the title of a post names, in English downloads."""
    match = _GROUP.search(repaired(post.get("title")) or "")
    if match is None or any(name.lower() in match[1].lower() for name in people):
        return None
    return match[1]


# ---------------------------------------------------------------- parse: CrowdTangle


def _row(record: dict[str, Any]) -> Found | Skip:
    address = text_of(record.get("URL")) or ""
    post_id = _id_in(address)
    if post_id is None:
        return Skip("no id")
    time = meta.table_time(first_of(record, ("Post Created", "Created")))
    if isinstance(time, Skip):
        return time
    links = [web_address(record.get(column)) for column in ("Final Link", "Link")]
    pictures = tuple(dict.fromkeys(link for link in links if link and image_type(link)))
    if not pictures:
        return Skip(_why_none(record, address))
    return Found(_row_post(record, post_id, time), _linked(pictures[:1], pictures[1:]))


def _linked(urls: tuple[str, ...], fallback: tuple[str, ...] = ()) -> tuple[FoundMedia, ...]:
    return tuple(
        FoundMedia(n, url=url, fallback_urls=fallback, claimed_type=image_type(url))
        for n, url in enumerate(urls)
    )


def _id_in(address: str) -> str | None:
    """The id of the post in its address: a parameter, or the last step of the path."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    given = parse_qs(parts.query)
    stated = next((given[k][0] for k in ("story_fbid", "fbid", "v") if k in given), None)
    found = _DIGITS.search(stated or parts.path.rstrip("/").rsplit("/", 1)[-1])
    return found[1] or found[2] if found else None


def _why_none(record: dict[str, Any], address: str) -> str:
    kind = (text_of(record.get("Type")) or "").lower()
    if "video" in kind or kind == "youtube":
        return "video"
    link = text_of(record.get("Link")) or ""
    if _page_in(link) and _page_in(link) not in _own_pages(record, address):
        return "repost"
    return "media not included" if kind in ("photo", "album") else "no image"


def _page_in(link: str) -> str | None:
    """The first step of an address on Facebook that is a page's or a group's."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    if not _PAGES.match(parts.netloc.lower()):
        return None
    steps = [s for s in parts.path.lower().split("/") if s and s != "groups"]
    return None if not steps or steps[0].endswith(".php") else steps[0]


def _own_pages(record: dict[str, Any], address: str) -> set[str | None]:
    names = (text_of(record.get(column)) for column in ("User Name", "Facebook Id"))
    return {_page_in(address), *(name.lower() for name in names if name)}


def _row_post(record: dict[str, Any], post_id: str, time: Any) -> FoundPost:
    """A post of a page, which is its author, or of a group, whose authors are not told."""
    group = text_of(record.get("Group Name"))
    names = [] if group else [text_of(record.get(c)) for c in ("User Name", "Page Name")]
    text = text_of(record.get("Message"))
    return FoundPost(
        post_id=post_id,
        author_id=None if group else id_of(record.get("Facebook Id")),
        handles=tuple(dict.fromkeys(name for name in names if name)),
        created_at=time,
        text=text,
        hashtags=hashtags_in(text),
        community=group,
        permalink=f"https://www.facebook.com/{post_id}" if post_id.isdecimal() else None,
        score=count_of(record.get("Likes")),
        replies=count_of(record.get("Comments")),
    )


# ---------------------------------------------------------------- parse: Meta Content Library


def _library_row(record: dict[str, Any]) -> Found | Skip:
    post_id = id_of(record.get("id"))
    if post_id is None:
        return Skip("no id")
    if "creation_time" not in record:
        return Skip("not a post")
    shared = id_of(record.get("shared_post_id"))
    columns = ("link_attachment.link", "multimedia")
    links = [u for c in columns for u in _LINKED.findall(text_of(record.get(c)) or "")]
    pictures = tuple(dict.fromkeys(link for link in links if image_type(link)))
    if not pictures:
        return Skip("repost" if shared else "media not included")
    return Found(_library_post(record, post_id, shared), _linked(pictures))


def _library_post(record: dict[str, Any], post_id: str, shared: str | None) -> FoundPost:
    """A post of the library, which is also Instagram's."""
    address = web_address(record.get("mcl_url"))
    platform = "instagram" if "instagram" in (address or "") else PLATFORM
    people = [text_of(record.get(f"post_owner.{key}")) for key in ("username", "name")]
    handles = tuple(dict.fromkeys(name for name in people if name))
    named = any(name.lower() in (address or "").lower() for name in handles)
    text, time = text_of(record.get("text")), record.get("creation_time")
    listed = re.findall(r"[^\W_][\w]*", text_of(record.get("hashtags")) or "")
    group = record.get("surface.type") == "group"
    return FoundPost(
        post_id=post_id,
        author_id=id_of(record.get("post_owner.id")),
        handles=handles,
        created_at=iso_time(time) or moment(time),
        text=text,
        hashtags=tuple(dict.fromkeys((*listed, *hashtags_in(text)))),
        community=text_of(record.get("surface.name")) if group else None,
        permalink=None if named else address,
        score=count_of(record.get("statistics.like_count")),
        replies=count_of(record.get("statistics.comment_count")),
        language=text_of(record.get("lang")),
        repost_of=f"{platform}/{shared}" if shared and shared != post_id else None,
        platform=platform if platform != PLATFORM else None,
    )
