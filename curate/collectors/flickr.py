"""Flickr: the data of an account as downloaded, and JSON answers of the API.

Download: https://help.flickr.com/download-photos-or-albums-in-flickr-HJeLjhQskX, its `photo_ID.json` after a
genuine one that somebody published; API: https://www.flickr.com/services/api/flickr.photos.search.html. No
whole download was at hand. What decides:

- a photo is matched with its file by the number in the file's name: `slug_ID_o.jpg`, `ID_SECRET_o.jpg`;
- only a photo that says `public` is one; private, friends and family are dropped;
- `date_taken` is the clock of a camera and never read: the time is that of the upload, in UTC;
- descriptions are HTML; tags are phrases, and machine tags (`ns:key=value`) are no hashtags;
- only the size `o` is what was uploaded: all others are Flickr's;
- a permalink without a name is `photo.gne?id=ID`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    VIDEO_ENDINGS,
    count_of,
    document,
    ending_of,
    entries,
    first_of,
    from_html,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    moment,
    text_of,
    unescaped,
    web_address,
)
from curate.exports import Export

PLATFORM = "flickr"
VERSION = 1
FORMATS = (
    Format("download", "Your Flickr data: photo_ID.json files with the photos", "flickr-data/"),
    Format("api", "JSON answers of the API: pages, lists or lines of photos", "photos.search.json"),
)

_PHOTO = re.compile(r"(?:^|/)photo_(\d+)\.json$")
_PROFILE = re.compile(r"(?:^|/)account_profile\.json$")
_ALIAS = re.compile(r"flickr\.com/(?:photos|people)/([^/?#]+)")
_MACHINE = re.compile(r"^[a-z][\w.-]*:[\w.-]+=", re.IGNORECASE)
_SAFETY = {"safe": False, "moderate": True, "restricted": True, "0": False, "1": True, "2": True}
_SIZES = ("o", "6k", "5k", "4k", "3k", "k", "h", "l", "c", "z", "m", "n", "s")
_KEYS = (b'"ispublic"', b'"dateupload"', b'"dateuploaded"', b'"pathalias"', b'"originalsecret"')


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Flickr: a download by its names, answers by their first bytes."""
    data = json_files(export)
    photo = next((name for name in data if _PHOTO.search(name)), None)
    if photo is not None:
        return "download" if b'"photopage"' in head_of(export, photo) else None
    return "api" if data and _holds_photos(head_of(export, data[0])) else None


def _holds_photos(head: bytes) -> bool:
    if b'"category"' in head and b'"subcategory"' in head:
        return False  # a crawler's side file, with keys of its own
    return b'"secret"' in head and b'"owner"' in head and any(key in head for key in _KEYS)


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every photo: of a download with its file and account, or of the answers of the API."""
    if format == "download":
        yield from _read_download(export)
        return
    pages = _Pages()
    for raw in entries(export, json_files(export)):
        if raw.problem is not None:
            yield raw
            continue
        pages.count(raw.record)
        for number, photo in enumerate(_of_answer(raw.record)):
            yield Raw(f"{raw.where}[{number}]", photo)
    if pages.missing:
        yield Raw("pages", partial=pages.missing)


def _of_answer(answer: Any) -> Iterator[Any]:
    """The photos of a page of answers, or a photo itself."""
    if inside(answer, "stat") == "fail":
        yield {"error": True}
        return
    page = first_of(answer, ("photos", "photoset"))
    photos = inside(page, "photo") if page is not None else inside(answer, "photo")
    if isinstance(photos, list):
        yield from photos
    elif isinstance(answer, list):
        yield from answer
    else:
        yield photos if isinstance(photos, dict) else answer


class _Pages:
    """Counts the pages of one search, to tell whether all of them are there."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._most = 0

    def count(self, answer: Any) -> None:
        page = first_of(answer, ("photos", "photoset"))
        number, most = count_of(inside(page, "page")), count_of(inside(page, "pages"))
        if number is not None and most is not None:
            self._seen.add(number)
            self._most = max(self._most, most)

    @property
    def missing(self) -> str | None:
        if len(self._seen) >= self._most:
            return None
        return f"{len(self._seen)} of {self._most} pages of the search are here"


def _read_download(export: Export) -> Iterator[Raw]:
    names = [member.name for member in export.members()]
    photos = {match[1]: name for name in names if (match := _PHOTO.search(name))}
    files = _files(names, photos)
    profile = next((document(export, n).record for n in names if _PROFILE.search(n)), None)
    owner = {"nsid": id_of(inside(profile, "nsid")), "names": _names_in(profile)}
    for photo_id, name in photos.items():
        raw = document(export, name)
        if raw.problem is None:
            record = {"photo": raw.record, "owner": owner, "files": files.get(photo_id, [])}
            raw = raw._replace(record=record)
        yield raw


def _names_in(profile: Any) -> list[str]:
    keys = ("screen_name", "real_name", "path_alias", "username")
    return [name for key in keys if (name := text_of(inside(profile, key)))]


def _files(names: Iterable[str], photos: Iterable[str]) -> dict[str, list[str]]:
    """The pictures and videos of each photo, by the last of the known numbers in their names."""
    known = frozenset(photos)
    found: dict[str, list[str]] = {}
    for name in names:
        if image_type(name) or ending_of(name) in VIDEO_ENDINGS:
            words = name.rsplit("/", 1)[-1].rsplit(".", 1)[0].split("_")
            photo_id = next((word for word in reversed(words) if word in known), None)
            if photo_id is not None:
                found.setdefault(photo_id, []).append(name)
    return found


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one photo, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    if record.get("error") is True:
        return (Skip("error line"),)
    return (_downloaded(record) if format == "download" else _answered(record),)


def _downloaded(record: dict[str, Any]) -> Found | Skip:
    """A photo of the owner of the account."""
    photo = record.get("photo")
    post_id = id_of(inside(photo, "id"))
    if not isinstance(photo, dict) or post_id is None:
        return Skip("no id")
    if photo.get("privacy") != "public":
        return Skip("not public")
    media = _original(post_id, photo, record.get("files"))
    if not isinstance(media, FoundMedia):
        return Skip(media)
    alias = _ALIAS.search(str(photo.get("photopage")))
    names = [*_texts(inside(record, "owner", "names")), *([alias[1]] if alias else [])]
    nsid = id_of(inside(record, "owner", "nsid"))
    author = nsid or (f"name:{alias[1].casefold()}" if alias else None)
    post = FoundPost(
        post_id=post_id,
        author_id=author,
        handles=tuple(dict.fromkeys([*names, *_others(photo)])),
        created_at=iso_time(photo.get("date_imported")),
        title=unescaped(photo.get("name")),
        text=from_html(photo.get("description")),
        hashtags=_hashtags([inside(tag, "tag") for tag in _list(photo.get("tags"))]),
        permalink=_permalink(post_id),
        score=count_of(photo.get("count_faves")),
        replies=count_of(photo.get("count_comments")),
        sensitive=_SAFETY.get(str(photo.get("safety"))),
    )
    return Found(post, (media,))


def _original(post_id: str, photo: dict[str, Any], files: Any) -> FoundMedia | str:
    """The photo as it was uploaded: its file in the download, and its address."""
    url = web_address(photo.get("original"))
    members = _texts(files)
    pictures = [name for name in members if image_type(name)]
    if (members and not pictures) or (url and _is_video(url)):
        return "video"
    if url is None and not pictures:
        return "media not included"
    member = pictures[0] if pictures else None
    return FoundMedia(
        position=0,
        media_id=post_id,
        url=url,
        member=member,
        claimed_type=image_type(member or url or ""),
    )


def _is_video(url: str) -> bool:
    return ending_of(url) in VIDEO_ENDINGS or "/video/" in url


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [text for item in _list(value) if (text := text_of(item))]


def _others(photo: dict[str, Any]) -> list[str]:
    """Names of people shown, tagging or commenting."""
    parts = [item for key in ("people", "tags", "comments") for item in _list(photo.get(key))]
    links = [str(inside(part, key)) for part in parts for key in ("user", "url")]
    return [match[1] for link in links if (match := _ALIAS.search(link))]


def _hashtags(tags: Iterable[Any]) -> tuple[str, ...]:
    """Tags without those that machines write."""
    known = [text.strip().lstrip("#") for tag in tags if (text := unescaped(tag))]
    return tuple(dict.fromkeys(tag for tag in known if tag and not _MACHINE.match(tag)))


def _permalink(post_id: str) -> str | None:
    return f"https://www.flickr.com/photo.gne?id={post_id}" if post_id.isdecimal() else None


# ---------------------------------------------------------------- answers of the API


def _answered(photo: dict[str, Any]) -> Found | Skip:
    """A photo of a list, or one asked for by itself."""
    post_id = id_of(photo.get("id"))
    if post_id is None:
        return Skip("no id")
    public = first_of(photo, ("ispublic",))
    public = inside(photo, "visibility", "ispublic") if public is None else public
    if public is not None and str(public) not in ("1", "True"):
        return Skip("not public")
    if photo.get("media") == "video":
        return Skip("video")
    media = _best(post_id, photo)
    if media is None:
        return Skip("media not included")
    author, handles = _owner(photo)
    post = FoundPost(
        post_id=post_id,
        author_id=author,
        handles=handles,
        created_at=moment(first_of(photo, ("dateupload", "dateuploaded"))),
        title=_content(photo.get("title")),
        text=from_html(_content(photo.get("description"))),
        hashtags=_hashtags(_tags(photo.get("tags"))),
        permalink=_permalink(post_id),
        score=count_of(first_of(photo, ("count_faves", "faves"))),
        replies=count_of(first_of(photo, ("count_comments",)) or _content(photo.get("comments"))),
        sensitive=_SAFETY.get(str(photo.get("safety_level"))),
    )
    return Found(post, (media,))


def _content(value: Any) -> str | None:
    """Text, as itself or as the content of an object."""
    return unescaped(inside(value, "_content") if isinstance(value, dict) else value)


def _tags(value: Any) -> list[Any]:
    """Tags as their author wrote them, or in one text of words without spaces."""
    if isinstance(value, str):
        return list(value.split())
    tags = _list(inside(value, "tag"))
    machine = ("1", "True")
    return [
        first_of(t, ("raw", "_content"))
        for t in tags
        if str(inside(t, "machine_tag")) not in machine
    ]


def _owner(photo: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    owner = photo.get("owner")
    if isinstance(owner, dict):
        names = [text_of(owner.get(key)) for key in ("username", "realname", "path_alias")]
        nsid = id_of(owner.get("nsid"))
    else:
        names = [text_of(photo.get(key)) for key in ("ownername", "pathalias", "realname")]
        nsid = id_of(owner)
    return nsid, tuple(dict.fromkeys(name for name in names if name))


def _best(post_id: str, photo: dict[str, Any]) -> FoundMedia | None:
    """The largest size with an address: one given, or one that its parts make."""
    given = [size for size in _SIZES if web_address(photo.get(f"url_{size}"))]
    urls = [photo[f"url_{size}"] for size in given] or _made(post_id, photo)
    if not urls:
        return None
    first = given[0] if given else ""
    original = first == "o" or (not given and urls[0].split("?", 1)[0].endswith(_suffix(photo)))
    return FoundMedia(
        position=0,
        media_id=post_id,
        url=urls[0],
        fallback_urls=tuple(urls[1:3]),
        claimed_type=image_type(urls[0]),
        claimed_width=count_of(photo.get(f"width_{first}")),
        claimed_height=count_of(photo.get(f"height_{first}")),
        rendition="original" if original else "preview",
    )


def _suffix(photo: dict[str, Any]) -> str:
    return f"_o.{photo.get('originalformat')}"


def _made(post_id: str, photo: dict[str, Any]) -> list[str]:
    """Addresses after https://www.flickr.com/services/api/misc.urls.html, the largest first."""
    server, secret = id_of(photo.get("server")), id_of(photo.get("secret"))
    if server is None or secret is None:
        return []
    start = f"https://live.staticflickr.com/{server}/{post_id}_"
    first, ending = id_of(photo.get("originalsecret")), id_of(photo.get("originalformat"))
    original = [f"{start}{first}_o.{ending}"] if first and ending else []
    return [*original, f"{start}{secret}_b.jpg", f"{start}{secret}.jpg"]
