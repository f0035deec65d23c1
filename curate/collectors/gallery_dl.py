"""Side files of gallery-dl: what it writes beside the pictures it brings, from any of its sites.

Written by `--write-metadata`, one JSON file for each picture, or as one `data.jsonl`:
https://gdl-org.github.io/docs/configuration.html#metadata-mode. The keys of each site are stated in
https://github.com/mikf/gallery-dl/tree/master/test/results. What decides:

- a post is all side files of a folder with the same site and id, in the order of `num`; in which order they
  were written does not count. `info.json` is about an account;
- `category` names the site, except on Mastodon and its kin, where it is the host;
- posts of a platform that has a collector here get the ids it gives, so that they meet;
- `date` is UTC without saying so;
- of a repost on X, `author` is the original's, and `user` whose profile was read: the original's too where
  it was none's, so then nobody is known to have reposted it;
- Pixiv's size is that of the first page;
- where a site says that a picture was made by AI, the flair is `ai-generated (SITE)`. It is the author's
  claim on Pixiv, a prompt on Civitai, the site's rule on AIBooru and e6AI;
- folders and files are often named after people.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    IMAGE_TYPES,
    VIDEO_ENDINGS,
    count_of,
    documents,
    flag_of,
    from_html,
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

PLATFORM = "gallery-dl"
VERSION = 1
FORMATS = (Format("sidecars", "Pictures with metadata files, a folder or zip", "gallery-dl/"),)

LOOKED_AT = 12
"""Files asked whether they are side files; other JSON may lie between."""
NO_POST = frozenset({"avatar", "background", "banner", "header", "info", "profile"})
NO_PICTURE = (".json", ".jsonl", ".ndjson", ".part", ".txt")
AUDIO_ENDINGS = frozenset({"mp3", "m4a", "ogg", "opus", "wav", "flac", "aac"})
SENSITIVE_LABELS = frozenset({"porn", "sexual", "nudity", "graphic-media", "nsfl", "gore"})


@dataclass(frozen=True, slots=True)
class _Site:
    """Where the side files of one site hold what; a path is `a.b`, and the first that is there counts.

    `platform` None means the category's own name. `link` is an address that names nobody. `first` is the
    number of a post's first picture.
    """

    platform: str | None = None
    post: str = "id post_id tweet_id shortcode index"
    author: str = "author user account owner username blog_name uploader"
    title: str = "title"
    text: str = "content description caption"
    tags: str = "tags hashtags tag_string"
    date: str = "date created_at"
    url: str = "file_url url gdl_file_url"
    size: str = "width height"
    media: str = ""
    alt: str = ""
    link: str = ""
    plain: bool = False
    first: int = 1
    rendition: str = "original"
    family: str = ""


_ANY = _Site()
_BOORU = _Site(
    author="uploader_id creator_id",
    title="",
    text="",
    size="image_width image_height",
    media="md5",
    family="booru",
)
_SITES = {
    "aibooru": _BOORU,
    "atfbooru": _BOORU,
    "bluesky": _Site(
        "bluesky",
        "uri",
        "author.did",
        text="text",
        size="",
        media="filename",
        alt="description",
        plain=True,
    ),
    "booruvar": _BOORU,
    "civitai": _Site(
        "civitai",
        post="post.id file.postId",
        author="user.id user.username",
        title="post.title",
        text="post.detail",
        date="post.date file.date date post.publishedAt file.createdAt",
        size="file.width file.height",
        media="file.uuid",
    ),
    "danbooru": replace(_BOORU, link="https://danbooru.donmai.us/posts/{id}"),
    "deviantart": _Site(
        "deviantart",
        post="deviationid",
        author="author.userid author.username",
        url="content.src target.src",
        size="content.width content.height",
    ),
    "e621": _BOORU,
    "e6ai": _BOORU,
    "e926": _BOORU,
    "facebook": _Site("facebook", author="user_id username", plain=True, rendition="re-encode"),
    "flickr": _Site(
        "flickr",
        author="owner.nsid user.nsid owner.username",
        media="id",
        link="https://www.flickr.com/photo.gne?id={id}",
    ),
    "instagram": _Site(
        "instagram",
        post="post_shortcode shortcode",
        author="owner_id username",
        title="",
        date="post_date date",
        url="display_url",
        media="media_id",
        link="https://www.instagram.com/p/{id}/",
        plain=True,
        rendition="re-encode",
    ),
    "mastodon": _Site(
        "mastodon",
        post="uri",
        title="spoiler_text",
        date="created_at date",
        url="media.remote_url media.url",
        size="media.meta.original.width media.meta.original.height",
        media="media.id",
        alt="media.description",
        rendition="re-encode",
    ),
    "pixiv": _Site(
        "pixiv",
        author="user.id",
        date="date create_date",
        link="https://www.pixiv.net/artworks/{id}",
        first=0,
    ),
    "reddit": _Site(
        "reddit",
        author="author_fullname",
        text="selftext",
        tags="",
        size="",
        link="https://www.reddit.com/comments/{id}/",
        plain=True,
    ),
    "tumblr": _Site(
        "tumblr",
        post="id id_string",
        author="blog.uuid blog_name",
        text="caption body summary",
        url="photo.url",
        size="photo.width photo.height",
        rendition="re-encode",
    ),
    "twitter": _Site(
        "x",
        post="tweet_id",
        author="author.id",
        title="",
        alt="description",
        link="https://x.com/i/web/status/{id}",
        plain=True,
        rendition="re-encode",
    ),
}

_NAMES = ("name", "nick", "username", "screen_name", "acct", "account", "handle", "fullname")
_NAME_KEYS = frozenset({"author", "user", "account", "owner", "username", "blog_name", "uploader"})
_MORE_NAMES = ("full_name", "displayName", "display_name", "path_alias", "realname", "ownername")
_PEOPLE = ("author", "user", "account", "owner", "uploader", "artist", "blog", "quote_by")
_MANY_PEOPLE = ("mentions", "coauthors", "tagged_users")
_ALONE = ("username", "fullname", "blog_name", "ownername", "reply_to", "reblogged_from_name")
_LINE = re.compile(r":\d+$")
_LEVELS = {
    "pixiv": ("x_restrict", 0),
    "flickr": ("safety_level", 1),
    "civitai": ("file.nsfwLevel", 3),
}
"""Where a site grades pictures, and the highest grade that is for everybody."""
_TAG_URI = re.compile(r"tag:([^,]+),[^:]*:objectId=(\w+)")
_AT_POST = re.compile(r"at://(did:[a-z]+:[\w.:%-]+)/app\.bsky\.feed\.post/([\w.~:-]+)")
_X_NAME = re.compile(r"[\w-]{5,40}")
_X_STATUS = re.compile(r"https?://(?:www\.|mobile\.)?(?:twitter|x)\.com/\w+/status/(\d+)")


# ---------------------------------------------------------------- recognise and read


def recognise(export: Export) -> str | None:
    """`sidecars` where one of the first JSON files names a site and a part of it."""
    heads = (head_of(export, name) for name in _sidecars(export)[:LOOKED_AT])
    marked = any(
        b'"category"' in h and b'"subcategory"' in h and b'"extension"' in h for h in heads
    )
    return "sidecars" if marked else None


def _sidecars(export: Export) -> list[str]:
    return [name for name in json_files(export) if name.rsplit("/", 1)[-1] != "info.json"]


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every post with all its side files, each with the picture beside it.

    Files are read twice, to know which is a post's last: only posts that are not whole are held.
    """
    folders: dict[str, _Folder] = {}
    for member in export.members():
        folders.setdefault(_folder_of(member.name), _Folder()).names.append(member.name)
    for name in _sidecars(export):
        folders[_folder_of(name)].sidecars.append(name)
    for path, folder in folders.items():
        if folder.sidecars:
            above = folders.get(_folder_of(path), folder)
            yield from _posts(export, folder, above)
            folder.stems = above.stems = None


@dataclass(slots=True)
class _Folder:
    """The files of one folder, and its side files in their order."""

    names: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    stems: dict[str, list[str]] | None = None

    def beside(self, path: str, export: Export) -> str | None:
        """The picture of a side file that is named `path` and `.json`."""
        if path in export and not path.endswith(NO_PICTURE):
            return path
        if self.stems is None:
            self.stems = {}
            for name in self.names:
                if not name.endswith(NO_PICTURE):
                    self.stems.setdefault(_stem(name), []).append(name)
        found = self.stems.get(path) or self.stems.get(_stem(path)) or []
        return found[0] if len(found) == 1 else None


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _stem(name: str) -> str:
    last = name.rsplit("/", 1)[-1]
    return name[: len(name) - len(last)] + last.rpartition(".")[0] if "." in last else name


def _posts(export: Export, folder: _Folder, above: _Folder) -> Iterator[Raw]:
    last = {
        _key(raw.record): number for number, raw in enumerate(documents(export, folder.sidecars))
    }
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, raw in enumerate(documents(export, folder.sidecars)):
        key = _key(raw.record)
        if raw.record is None or key is None:
            # one bad file among thousands, and its name may be a person's: it is counted, not told
            yield raw._replace(record=None if raw.problem else {"items": []}, partial=None)
            continue
        member = _picture(raw, folder, above, export)
        held.setdefault(key, []).append({"record": raw.record, "member": member})
        if last[key] == number:
            yield Raw(raw.where, {"items": held.pop(key)})


def _key(record: Any) -> tuple[str, str] | None:
    """What side files of one post have in common; None where a file is about no post."""
    if not isinstance(record, dict) or not isinstance(record.get("category"), str):
        return None
    post_id = _post_id(_kind(record), record)
    return (record["category"], post_id) if post_id else (record["category"], "")


def _picture(raw: Raw, folder: _Folder, above: _Folder, export: Export) -> str | None:
    """The picture that a side file is about, beside it or one folder up."""
    name = _LINE.sub("", raw.where)
    base = _folder_of(name)
    if name.endswith(".json"):
        path = name.removesuffix(".json")
        upper = _inside(_folder_of(base), path.rsplit("/", 1)[-1])
        return folder.beside(path, export) or above.beside(upper, export)
    paths = (_inside(base, last) for last in _usual_names(raw.record))
    return next((found for path in paths if (found := folder.beside(path, export))), None)


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _usual_names(record: dict[str, Any]) -> Iterator[str]:
    """How pictures are named unless one says otherwise; lines of `data.jsonl` do not tell."""
    ending, number = record.get("extension"), count_of(record.get("num"))
    kind, own = record.get("category"), id_of(record.get("tweet_id")) or id_of(record.get("id"))
    yield f"{record.get('filename')}.{ending}"
    if number is not None:
        yield f"{own}_{number}.{ending}"
        yield f"{own}_p{number}.{ending}"
        yield f"{kind}_{own}_{number}.{ending}"
    yield f"{kind}_{own}.{ending}"
    yield f"{own}.{ending}"


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of some side files with its images, or why there is none. Pure."""
    items = [i for i in _list(inside(record, "items")) if isinstance(inside(i, "record"), dict)]
    if not items:
        return (Skip("not a post"),)
    items = _in_order(items)
    first = items[0]["record"]
    kind = _kind(first)
    why = _closed(kind, first)
    if why:
        return (Skip(why),)
    post_id, made = _post_id(kind, first), _time(kind, first)
    if post_id is None or made is None:
        return (Skip("no time" if post_id else "no id"),)
    media, missed = _images(kind, items)
    if not media:
        return (Skip(missed[0] if missed else "no image"),)
    return (Found(_post(kind, first, post_id, made), media, missed),)


def _in_order(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The files of a post by their number, those that two side files tell of once."""
    known: dict[tuple[int, str, str], dict[str, Any]] = {}
    for item in items:
        raw = item["record"]
        key = (count_of(raw.get("num")) or 0, str(raw.get("filename")), str(raw.get("extension")))
        if key not in known or known[key].get("member") is None:
            known[key] = item
    return [known[key] for key in sorted(known, key=lambda k: k[0])]


def _kind(record: dict[str, Any]) -> str:
    """The site whose keys a side file has; of Mastodon's kin, `mastodon`."""
    category = str(record.get("category") or "").lower()
    is_status = isinstance(inside(record, "account", "acct"), str) and "uri" in record
    return "mastodon" if is_status else category


def _site(kind: str) -> _Site:
    return _SITES.get(kind, _ANY)


def _at(record: Any, paths: str) -> Any:
    """The first value at `paths` that says something."""
    for path in paths.split():
        value = inside(record, *path.split("."))
        if value not in (None, "", [], {}):
            return value
    return None


def _post_id(kind: str, record: dict[str, Any]) -> str | None:
    comment = id_of(inside(record, "comment", "id"))
    if kind == "reddit" and comment:
        return f"t1_{comment}"
    found = id_of(_at(record, _site(kind).post))
    if kind == "mastodon":
        return _status_id(found, text_of(inside(record, "account", "username")))
    if kind == "civitai" and found is None:
        image = id_of(inside(record, "file", "id"))
        return f"image-{image}" if image else None
    return found if found != "0" else None


def _status_id(uri: str | None, name: str | None) -> str | None:
    """`host/ID` of a status, as its archive and the API of every server give it."""
    if old := _TAG_URI.match(uri or ""):
        return f"{old[1].lower()}/{old[2]}"
    try:
        parts = urlsplit(uri or "")
    except ValueError:
        return None
    steps = [step for step in parts.path.split("/") if step]
    if steps[-1:] == ["activity"]:
        steps.pop()
    bridged = _AT_POST.search(uri or "")
    last = f"{bridged[1]}/{bridged[2]}" if bridged else next(reversed(steps), None)
    if last and name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", last, re.IGNORECASE):
        last = hashlib.sha256(str(uri).encode()).hexdigest()[:24]
    return f"{parts.netloc.lower()}/{last}" if parts.netloc and last else None


def _time(kind: str, record: dict[str, Any]) -> datetime | None:
    comment = record.get("comment") if kind == "reddit" else None
    time = iso_time(_at(comment, "date") or _at(record, _site(kind).date))
    return time if time and time.year > 1970 else None


def _closed(kind: str, record: dict[str, Any]) -> str | None:
    """Why a post must not be collected: it is none, it was taken away, or it is not for everybody."""
    if str(record.get("subcategory")) in NO_POST:
        return "not a post"
    rule = _RULES.get(_site(kind).family or kind)
    return rule(record) if rule else None


def _closed_mastodon(record: dict[str, Any]) -> str | None:
    stated = (record.get("visibility"), inside(record, "reblog", "visibility"))
    return _unless(all(visible in ("public", "unlisted", None) for visible in stated))


def _closed_reddit(record: dict[str, Any]) -> str | None:
    shown = record["comment"] if isinstance(record.get("comment"), dict) else record
    category = shown.get("removed_by_category")
    if category:
        return "deleted" if category in ("deleted", "author") else "removed"
    text = shown.get("selftext", shown.get("body"))
    if text == "[removed]":
        return "removed"
    gone = text == "[deleted]" or shown.get("title") in ("[deleted by user]", "[deleted]")
    return "deleted" if gone else None


def _closed_instagram(record: dict[str, Any]) -> str | None:
    if record.get("type") in ("story", "highlight"):
        return "story"
    return "not public" if record.get("audience") or record.get("subscription") else None


def _closed_booru(record: dict[str, Any]) -> str | None:
    if record.get("is_banned") is True:
        return "removed"
    deleted = record.get("is_deleted") is True or inside(record, "flags", "deleted") is True
    return "deleted" if deleted else None


def _unless(good: bool) -> str | None:
    return None if good else "not public"


_RULES: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "mastodon": _closed_mastodon,
    "reddit": _closed_reddit,
    "instagram": _closed_instagram,
    "booru": _closed_booru,
    "deviantart": lambda r: "deleted" if r.get("is_deleted") is True else None,
    "civitai": lambda r: _unless(inside(r, "post", "availability") in (None, "Public")),
    "flickr": lambda r: _unless(_at(r, "visibility.ispublic ispublic") in (None, 1, "1", True)),
    "pixiv": lambda r: _unless(r.get("restrict") in (None, 0)),
    "tumblr": lambda r: _unless(r.get("state") in (None, "published")),
    "twitter": lambda r: _unless(inside(r, "author", "protected") is not True),
}


# ---------------------------------------------------------------- the post


def _post(kind: str, record: dict[str, Any], post_id: str, made: datetime) -> FoundPost:
    site = _site(kind)
    comment = record["comment"] if isinstance(record.get("comment"), dict) else None
    shown = comment if comment and kind == "reddit" else record
    handles = tuple(dict.fromkeys((*_handles(shown), *_handles(record))))
    text = _text(site, _at(shown, "body" if shown is comment else site.text))
    title = None if shown is comment else text_of(_at(record, site.title))
    return FoundPost(
        post_id=post_id,
        author_id=_author(kind, shown),
        handles=handles,
        created_at=made,
        title=title,
        text=text,
        hashtags=_tags(_at(record, site.tags)) or hashtags_in(title, text),
        community=_community(record) if kind == "reddit" else None,
        flair=_generated(kind, record) or text_of(shown.get("link_flair_text")),
        permalink=_permalink(kind, record, post_id, handles),
        score=count_of(_at(shown, "favorite_count favourites_count likes likeCount score")),
        replies=count_of(_at(shown, "reply_count replies_count replyCount num_comments")),
        sensitive=_sensitive(kind, record),
        language=text_of(_at(record, "lang language langs.0")) if kind != "civitai" else None,
        repost_of=_origin(kind, record, post_id),
        opted_out=_opted_out(record),
        platform=site.platform or _platform(kind),
    )


def _platform(kind: str) -> str:
    """A category as the policy names platforms."""
    return re.sub(r"[^a-z0-9_-]+", "-", kind).strip("-_") or "unknown"


def _author(kind: str, record: dict[str, Any]) -> str | None:
    """The id of the author; `name:` and the name where nothing else is known."""
    if kind == "mastodon":
        return _account(record.get("account"))
    if kind == "twitter" and _retweeted(record):
        reader = id_of(inside(record, "user", "id"))
        return reader if reader != id_of(inside(record, "author", "id")) else None
    for path in (*_site(kind).author.split(), "author" if kind == "reddit" else ""):
        value = inside(record, *path.split("."))
        if isinstance(value, dict):
            path, value = "", _at(value, "id did userid nsid uuid") or _at(value, "name username")
        found = id_of(value)
        if found and found != "[deleted]":
            return found if not _is_name(path, found, record) else f"name:{found.casefold()}"
    return None


def _is_name(path: str, value: str, record: dict[str, Any]) -> bool:
    """Whether what stands for an author is a name and no id."""
    return not value.isdecimal() and (
        path.rsplit(".", 1)[-1] in _NAME_KEYS or value in _handles(record)
    )


def _account(account: Any) -> str | None:
    """`name@host`, the host being the author's own."""
    name, address = text_of(inside(account, "username")), _at(account, "uri url")
    try:
        host = urlsplit(str(address or "")).netloc.lower()
    except ValueError:
        host = ""
    return f"{name.casefold()}@{host}" if name and host else None


def _handles(record: dict[str, Any]) -> tuple[str, ...]:
    """Every name in a side file by which somebody could be known."""
    people = [record.get(key) for key in _PEOPLE]
    people += [person for key in _MANY_PEOPLE for person in _list(record.get(key))]
    people.append(inside(record, "reblog", "account"))
    names = [record.get(key) for key in _ALONE]
    for person in people:
        keys = (*_NAMES, *_MORE_NAMES)
        names += [person.get(k) for k in keys] if isinstance(person, dict) else [person]
    found = (text_of(name) for name in names)
    return tuple(dict.fromkeys(n for n in found if n and n != "[deleted]" and not n.isdecimal()))


def _text(site: _Site, value: Any) -> str | None:
    text = text_of(value)
    return text if site.plain else from_html(text)


def _tags(value: Any) -> tuple[str, ...]:
    """Tags of a list of texts, a list of objects, or one text; those set by a program are left out."""
    if isinstance(value, str):
        value = value.split(", ") if ", " in value else value.split()
    names = []
    for tag in value if isinstance(value, list) else ():
        if isinstance(tag, dict):
            tag = None if tag.get("automated") is True else _at(tag, "name tag raw")
        names.append(text_of(tag))
    plain = (name.strip().lstrip("#\uff03") for name in names if name)
    return tuple(dict.fromkeys(name for name in plain if name))


def _community(record: dict[str, Any]) -> str | None:
    name = text_of(record.get("subreddit"))
    return None if name is None or name.startswith("u_") else name


def _generated(kind: str, record: dict[str, Any]) -> str | None:
    """The claim that a picture was made by AI, in short words."""
    prompt = _at(record, "generation.meta file.generation.meta file.meta meta")
    said = {
        "pixiv": record.get("illust_ai_type") == 2,
        "civitai": isinstance(prompt, dict) or inside(record, "file", "hasMeta") is True,
        "aibooru": True,
        "e6ai": True,
    }
    return f"ai-generated ({kind})" if said.get(kind) else None


def _permalink(
    kind: str, record: dict[str, Any], post_id: str, handles: tuple[str, ...]
) -> str | None:
    """An address of the post that names nobody."""
    comment = inside(record, "comment", "id")
    link = _site(kind).link.format(id=post_id)
    if kind == "reddit" and comment:
        link = f"https://www.reddit.com/comments/{record.get('id')}/comment/{comment}/"
    elif kind == "bluesky":
        did, _, rest = post_id.removeprefix("at://").partition("/")
        link = f"https://bsky.app/profile/{did}/post/{rest.rpartition('/')[2]}"
    elif kind == "civitai":
        page, _, number = post_id.rpartition("-")
        link = f"https://civitai.com/{'images' if page else 'posts'}/{number}"
    elif kind == "deviantart" and (index := id_of(record.get("index"))):
        link = f"https://www.deviantart.com/deviation/{index}"
    named = any(handle.casefold() in link.casefold() for handle in handles)
    return link if link and not named else None


def _sensitive(kind: str, record: dict[str, Any]) -> bool | None:
    """What the platform says; None where it says nothing."""
    if kind == "bluesky":
        labels = [text_of(inside(label, "val")) for label in _list(record.get("labels"))]
        return True if SENSITIVE_LABELS.intersection(labels) else None
    if kind in _LEVELS:
        path, highest = _LEVELS[kind]
        level = count_of(inside(record, *path.split(".")))
        return None if level is None else level > highest
    if _site(kind).family == "booru" and isinstance(record.get("rating"), str):
        return record["rating"] not in (("s",) if kind.startswith("e") else ("g",))
    flags = (flag_of(record.get(key)) for key in ("sensitive", "over_18", "is_mature", "is_nsfw"))
    return next((flag for flag in flags if flag is not None), None)


def _retweeted(record: dict[str, Any]) -> str | None:
    number = id_of(record.get("retweet_id"))
    return number if number not in (None, "0", id_of(record.get("tweet_id"))) else None


def _origin(kind: str, record: dict[str, Any], post_id: str) -> str | None:
    """The post that this one shows again, as `platform/id`."""
    found: str | None = None
    if kind == "twitter":
        source = id_of(record.get("source_id"))
        found = _retweeted(record) or (source if source not in ("0", post_id) else None)
        return f"x/{found}" if found else None
    if kind == "reddit" and not record.get("comment"):
        parent = text_of(record.get("crosspost_parent"))
        found = parent.removeprefix("t3_") if parent else None
    elif kind == "mastodon":
        name = text_of(inside(record, "reblog", "account", "username"))
        found = _status_id(text_of(inside(record, "reblog", "uri")), name)
    elif kind == "tumblr" and record.get("reblogged") is True:
        found = id_of(_at(record, "reblogged_root_id reblogged_from_id"))
    elif _site(kind).family == "booru":
        return _source(record)
    return f"{_site(kind).platform}/{found}" if found and found != post_id else None


def _source(record: dict[str, Any]) -> str | None:
    """Where an uploader has a picture from, if that is a post of Pixiv or X."""
    work = id_of(record.get("pixiv_id"))
    if work and work != "0":
        return f"pixiv/{work}"
    sources = [record.get("source"), *_list(record.get("sources"))]
    links = (_X_STATUS.match(source) for source in sources if isinstance(source, str))
    return next((f"x/{link[1]}" for link in links if link), None)


def _opted_out(record: dict[str, Any]) -> bool:
    if inside(record, "account", "noindex") is True:
        return True
    labels = _list(inside(record, "author", "labels"))
    return any(inside(label, "val") == "!no-unauthenticated" for label in labels)


# ---------------------------------------------------------------- images


def _images(
    kind: str, items: list[dict[str, Any]]
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    numbers = [count_of(item["record"].get("num")) for item in items]
    places = [max(n - _site(kind).first, 0) if n is not None else 0 for n in numbers]
    if len(set(places)) < len(places):
        places = list(range(len(items)))  # the numbers say nothing, the order still does
    media, missed = [], []
    for place, item in zip(places, items, strict=True):
        found = _image(kind, place, item["record"], text_of(item.get("member")))
        if isinstance(found, str):
            missed.append(found)
        else:
            media.append(found)
    return tuple(media), tuple(missed)


def _image(kind: str, place: int, record: dict[str, Any], member: str | None) -> FoundMedia | str:
    ending = str(record.get("extension") or "").lower()
    if ending in VIDEO_ENDINGS or ending == "zip" or record.get("type") == "video":
        return "video"
    if ending in AUDIO_ENDINGS:
        return "audio"
    if ending and ending not in IMAGE_TYPES:
        return "no image"
    site = _site(kind)
    urls = _urls(kind, record)
    if not urls and member is None:
        return "media not included"
    width, height = _size(kind, site, record, place)
    return FoundMedia(
        position=place,
        media_id=id_of(_at(record, site.media)) if kind != "reddit" else _reddit_file(record),
        url=urls[0] if urls else None,
        fallback_urls=tuple(urls[1:]),
        member=member,
        alt=text_of(_at(record, site.alt)),
        claimed_type=IMAGE_TYPES.get(ending) or image_type(member or ""),
        claimed_width=width,
        claimed_height=height,
        rendition=_rendition(kind, site, record),
    )


def _urls(kind: str, record: dict[str, Any]) -> list[str]:
    """The addresses of a picture; X, Bluesky and Reddit do not state them, but their names are."""
    name, ending = record.get("filename"), record.get("extension")
    named = isinstance(name, str) and isinstance(ending, str) and bool(_X_NAME.fullmatch(name))
    if kind == "twitter":
        base = f"https://pbs.twimg.com/media/{name}?format={ending}&name="
        return [f"{base}orig", f"{base}4096x4096"] if named else []
    if kind == "bluesky":
        did = inside(record, "author", "did")
        blob = f"https://bsky.social/xrpc/com.atproto.sync.getBlob?did={did}&cid={name}"
        served = f"https://cdn.bsky.app/img/feed_fullsize/plain/{did}/{name}@jpeg"
        return [blob, served] if isinstance(name, str) and isinstance(did, str) else []
    if kind == "reddit":
        file = _reddit_file(record)
        return [f"https://i.redd.it/{file}.{ending}"] if file else []
    paths = _site(kind).url.split()
    found = (web_address(inside(record, *path.split("."))) for path in paths)
    return list(dict.fromkeys(url for url in found if url))


def _reddit_file(record: dict[str, Any]) -> str | None:
    """The name of a file on i.redd.it: that of the link, or of an entry of the gallery."""
    name = text_of(record.get("filename"))
    if name is None or not name.isalnum():
        return None
    shown = record.get("comment") or inside(record, "crosspost_parent_list", -1) or record
    hosted = f"redd.it/{name}." in str(inside(shown, "url"))
    known = inside(shown, "media_metadata")
    return name if hosted or (isinstance(known, dict) and name in known) else None


def _size(
    kind: str, site: _Site, record: dict[str, Any], place: int
) -> tuple[int | None, int | None]:
    if not site.size or (kind == "pixiv" and place > 0):
        return None, None
    wide, high = site.size.split()
    width, height = count_of(_at(record, wide)), count_of(_at(record, high))
    return width or None, height or None


def _rendition(kind: str, site: _Site, record: dict[str, Any]) -> str:
    """Whether the file is what its author gave, by what the site says."""
    smaller = {
        "flickr": record.get("label") not in (None, "Original"),
        "deviantart": record.get("is_original") is False,
        "civitai": "original=true" not in str(record.get("url")),
    }
    return "preview" if smaller.get(kind) else site.rendition


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
