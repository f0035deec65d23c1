"""What exports of Facebook, Instagram and Threads have in common; no collector itself.

Downloads (https://www.facebook.com/help/212802592074644) name a picture by its path from the root of
the export, which an archive may repeat, prefix or leave out, so that a file is found by the end of its
path. Captured items (https://github.com/digitalmethodsinitiative/zeeschuimer) are what the web client
and the apps are sent: graph nodes or item lists. CrowdTangle's tables
(https://github.com/CrowdTangle/API) write local time with the short name of its zone, and a short name
that means several zones (CST, IST, PST) is no time at all.
"""

import csv
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson

from curate.collectors.contract import FoundMedia, Raw, Skip
from curate.collectors.reading import (
    VIDEO_ENDINGS,
    count_of,
    document,
    elements,
    ending_of,
    head_of,
    id_of,
    image_type,
    inside,
    iso_time,
    json_files,
    repaired,
    text_of,
    web_address,
)
from curate.exports import Export
from schemas.errors import ExportError

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""Digits of a shortcode: the number of a post, written to base 64."""
_OFFSETS = {
    -10: "HST",
    -9: "AKST HDT",
    -8: "AKDT",
    -7: "MST PDT",
    -6: "MDT",
    -5: "EST CDT",
    -4: "EDT AST",
    -3.5: "NST",
    -3: "ADT",
    -2.5: "NDT",
    0: "UTC GMT WET",
    1: "WEST BST CET MET WAT",
    2: "CEST MEST EET CAT SAST",
    3: "EEST IDT EAT",
    5: "PKT",
    7: "WIB",
    8: "WITA HKT AWST",
    9: "WIT JST KST",
    9.5: "ACST",
    10: "AEST",
    10.5: "ACDT",
    11: "AEDT",
    12: "NZST",
    13: "NZDT",
}
ZONES = {name: hours for hours, names in _OFFSETS.items() for name in names.split()}
"""Hours east of UTC, of the short names that mean one offset in the years of CrowdTangle."""
_ROOT = re.compile(r"(?:^|/)instagram-(.+?)-\d{4}-\d\d-\d\d(?:-\w+)?(?:\.zip)?(?:/|$)")
_USERNAME = frozenset(
    {
        *("username", "benutzername", "nom d'utilisateur", "nombre de usuario", "nome utente"),
        *("nome de usuário", "gebruikersnaam", "användarnamn", "brukernavn", "brugernavn"),
        *("käyttäjänimi", "nazwa użytkownika", "uživatelské jméno", "felhasználónév"),
        *("nume de utilizator", "όνομα χρήστη", "kullan\u0131c\u0131 ad\u0131", "имя пользователя"),
        *("ім'я користувача", "اسم المستخدم", "ユーザーネーム", "사용자 이름", "用户名"),
        *("用戶名稱", "使用者名稱", "nama pengguna", "tên người dùng", "ชื่อผู้ใช้"),
    }
)
_NAME = frozenset(
    {
        *("name", "nom", "nombre", "nome", "naam", "namn", "navn", "nimi", "imię", "имя"),
        *("名前", "이름", "姓名", "名称", "名稱"),
    }
)
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d)?)\s*(\S*)")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)?")
_NUMBERED = re.compile(r"(?:^|_)(\d+)(?: ?\(\d+\))?(?:\.\w+)?$")
_HASHED = re.compile(r"^([0-9a-f]{32})(?:\.\w+)?$")
_LIST_INSIDE = re.compile(rb'\s*\{\s*"([^"\\.]+)"\s*:\s*\[')
_PARTS = frozenset({b"media", b"attachments", b"data", b"tags", b"label_values"})
"""Lists inside one post."""
_VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"FLV")
_STILL_BRANDS = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic"}
_STILL_BRANDS |= {b"avif": "image/avif"}


# ---------------------------------------------------------------- reading a download


class Files:
    """The members of an export, to be found by the end of their path."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._named: dict[str, list[str]] = {}
        for member in export.members():
            self._named.setdefault(_last_step(member.name), []).append(member.name)

    def find(self, uri: Any) -> str | None:
        """The member that a path of the export's JSON means; None if it is not there, or unclear.

        The member whose path agrees with `uri` over most steps from the end is meant.
        """
        for path in dict.fromkeys((text_of(uri), repaired(uri))):
            if path and "://" not in path:
                found = self._closest(path)
                if found:
                    return found
        return None

    def _closest(self, path: str) -> str | None:
        names = self._named.get(_last_step(path), [])
        if not names:
            return None
        shared = [_shared_steps(name, path) for name in names]
        best = max(shared)
        if shared.count(best) > 1 and best < len(path.strip("/").split("/")):
            return None
        return names[shared.index(best)]

    def joined(self, paths: Iterable[Any]) -> dict[str, dict[str, str]]:
        """For a record: each path with its member, and the type that bytes without an ending show."""
        joined: dict[str, dict[str, str]] = {}
        for path in paths:
            member = self.find(path)
            if member is not None and isinstance(path, str):
                joined[path] = {"member": member}
                if not ending_of(path):
                    joined[path]["type"] = self._type(member)
        return joined

    def _type(self, member: str) -> str:
        try:
            return _type_of(self._export.head(member, 16))
        except ExportError:
            return ""  # one damaged file must not end the reading of the others


def _last_step(path: str) -> str:
    return unicodedata.normalize("NFC", path.rsplit("/", 1)[-1])


def _shared_steps(name: str, path: str) -> int:
    """How many steps two paths share, from their ends."""
    pairs = zip(reversed(name.split("/")), reversed(path.strip("/").split("/")), strict=False)
    count = 0
    for mine, theirs in pairs:
        if unicodedata.normalize("NFC", mine) != unicodedata.normalize("NFC", theirs):
            break
        count += 1
    return count


def _type_of(head: bytes) -> str:
    """The media type of a file without an ending, by its first bytes; "" if unknown."""
    if head[4:8] == b"ftyp":
        return _STILL_BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(_VIDEO_MAGIC):
        return "video/webm"
    if head.startswith(b"RIFF"):
        return "image/webp" if head[8:12] == b"WEBP" else "video/avi"
    magic = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif"}
    return next((kind for start, kind in magic.items() if head.startswith(start)), "")


def listed(export: Export, name: str) -> Iterator[Raw]:
    """The entries of a file: of a bare list, or of the list under its one key; else the file itself.

    A list of one entry may be written as that entry alone.
    """
    head = head_of(export, name, 4096)
    key = _LIST_INSIDE.match(head)
    key = None if key and key[1] in _PARTS else key
    if head.startswith(b"["):
        yield from elements(export, name, "item")
    elif key:
        yield from elements(export, name, f"{key[1].decode('utf-8', 'replace')}.item")
    else:
        yield document(export, name)


def columns(export: Export, name: str) -> frozenset[str]:
    """The column names of a table."""
    first = head_of(export, name).split(b"\n", 1)[0].decode("utf-8", "replace")
    delimiter = max(",;\t", key=first.count)
    return frozenset(c.strip() for c in next(csv.reader([first], delimiter=delimiter), []))


def refuse_pages(export: Export, platform: str, marks: Iterable[str]) -> None:
    """Refuse a download that was asked for as web pages: none of it is JSON.

    Args:
        export: what to look at.
        platform: its name for people.
        marks: steps of a path, or ends of one, that only this platform's downloads have.

    Raises:
        ExportError: it is one.
    """
    names = [member.name for member in export.members()]
    pages = [n for n in names if n.endswith(".html")]
    ours = any(mark in f"/{name}" for name in names for mark in marks)
    if pages and ours and not any(n.endswith(".json") for n in names):
        raise ExportError(
            f"{export.path} is a download of {platform} as web pages (HTML); expected JSON: "
            "export again as JSON"
        )


def owner(names: Iterable[Any], own_id: str | None = None) -> dict[str, Any]:
    """Whose export it is, for a record: an id, and the names not to be kept.

    The first name is the handle; it stands for the id where the export states none.
    """
    known = [name for name in map(repaired, names) if name]
    handle = known[0] if known else None
    return {"id": own_id or named_author(handle), "handles": list(dict.fromkeys(known))}


def instagram_owner(export: Export) -> dict[str, Any]:
    """Whose download it is, by its profile, or by how Instagram names the folder or archive."""
    usernames: list[Any] = []
    names: list[Any] = []
    for name in json_files(export):
        last = name.rsplit("/", 1)[-1]
        if last == "personal_information.json":
            labels = inside(document(export, name).record, "profile_user", 0, "string_map_data")
            usernames += _labelled(labels, _USERNAME)
            names += _labelled(labels, _NAME)
        elif last == "profile.json":
            profile = document(export, name).record
            usernames.append(inside(profile, "username"))
            names.append(inside(profile, "name"))
    first = next((member.name for member in export.members()), "")
    roots = [_ROOT.search(text) for text in (first, export.path.name)]
    return owner([*usernames, *(root[1] for root in roots if root), *names])


def _labelled(labels: Any, wanted: frozenset[str]) -> list[Any]:
    """The values of the profile under labels that mean the same in some language."""
    known = labels.items() if isinstance(labels, dict) else ()
    return [
        inside(entry, "value")
        for label, entry in known
        if (repaired(label) or "").replace("\u2019", "'").strip().casefold() in wanted
    ]


def named_author(handle: str | None) -> str | None:
    """The id of an author of whom only the name is known."""
    return f"owner:{handle.strip().lstrip('@').lower()}" if handle else None


def owner_in(record: Any) -> tuple[str | None, tuple[str, ...]]:
    """The id and the names that `owner` put into a record."""
    names = inside(record, "owner", "handles")
    handles = tuple(n for n in names if text_of(n)) if isinstance(names, list) else ()
    return text_of(inside(record, "owner", "id")), handles


# ---------------------------------------------------------------- parsing a download


def caption(post: dict[str, Any]) -> str | None:
    """The caption: of the post where it has several files, of its one file otherwise."""
    return next(filter(None, map(repaired, _either(post, "title"))), None)


def stated_time(post: dict[str, Any]) -> Any:
    """When, as written: on the post where it has several files, on its one file otherwise."""
    return next((v for v in _either(post, "creation_timestamp") if v), None)


def _either(post: dict[str, Any], key: str) -> list[Any]:
    return [post.get(key), *(item.get(key) for item in entries(post.get("media")))]


def entries(value: Any) -> list[dict[str, Any]]:
    """The dictionaries of a list; one that stands alone is a list of one."""
    found = value if isinstance(value, list) else [value]
    return [item for item in found if isinstance(item, dict)]


def attached(
    items: Iterable[dict[str, Any]], files: Any
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    """The pictures among the files of a post, and in short words what the others were.

    A picture that the export names and does not hold is kept under the path it is named by: fetching
    will say that it is missing.
    """
    media: list[FoundMedia] = []
    missed: list[str] = []
    for position, item in enumerate(items):
        uri = text_of(item.get("uri"))
        kind = kind_of(item, text_of(inside(files, uri or "", "type")))
        if uri and kind == "image":
            media.append(_picture(position, item, uri, files))
        elif kind == "video":
            missed.append("video")
        else:
            unknown = uri and not ending_of(uri) and inside(files, uri) is None
            missed.append("media not included" if unknown else "no image")
    return tuple(media), tuple(missed)


def kind_of(item: dict[str, Any], shown: str | None = None) -> str:
    """`image`, `video` or `no image`: by the ending, else by `shown` (bytes), else by the metadata."""
    uri = text_of(item.get("uri")) or ""
    if image_type(uri):
        return "image"
    if ending_of(uri) in VIDEO_ENDINGS or (shown or "").startswith("video/"):
        return "video"
    if (shown or "").startswith("image/"):
        return "image"
    about = item.get("media_metadata")
    about = about if isinstance(about, dict) else {}
    if "photo_metadata" in about:
        return "image"
    return "video" if "video_metadata" in about else "no image"


def _picture(position: int, item: dict[str, Any], uri: str, files: Any) -> FoundMedia:
    exif = inside(item, "media_metadata", "photo_metadata", "exif_data", 0)
    url = web_address(uri)
    return FoundMedia(
        position=position,
        media_id=media_id(uri),
        url=url,
        member=None if url else text_of(inside(files, uri, "member")) or uri,
        claimed_type=image_type(uri) or text_of(inside(files, uri, "type")),
        claimed_width=count_of(inside(exif, "original_width")),
        claimed_height=count_of(inside(exif, "original_height")),
        rendition="re-encode",
    )


def media_id(uri: Any) -> str | None:
    """The id in a file's name: its last number, or the hash that it is called in old downloads."""
    last = (text_of(uri) or "").split("?", 1)[0].rsplit("/", 1)[-1]
    found = _HASHED.search(last) or _NUMBERED.search(last)
    return found[1] if found else None


def made_id(*parts: Any) -> str:
    """An id for a post that has none: the same parts give the same id in every export."""
    stated = orjson.dumps([None if p is None else str(p) for p in parts])
    return hashlib.sha256(stated).hexdigest()[:32]


# ---------------------------------------------------------------- captured items


def captured(record: Any) -> Any:
    """The item inside a line of Zeeschuimer; one imported by 4CAT, or bare, is itself."""
    wrapped = isinstance(record, dict) and "source_platform" in record
    return record.get("data") if wrapped else record


def shortcode(pk: Any) -> str | None:
    """The code in a post's address, from its number."""
    text = (id_of(pk) or "").split("_", 1)[0]
    if not text.isdecimal() or not 0 < len(text) < 21:
        return None
    number, code = int(text), ""
    while number:
        number, digit = divmod(number, 64)
        code = ALPHABET[digit] + code
    return code or None


def code_of(item: dict[str, Any]) -> str | None:
    """The code of an item: stated, or made from its number."""
    stated = id_of(item.get("shortcode") or item.get("code"))
    if stated and re.fullmatch(r"[\w-]{1,64}", stated):
        return stated
    return shortcode(item.get("pk") or item.get("id"))


def written(item: dict[str, Any]) -> str | None:
    """The caption of an item, in any of the places it is kept."""
    return (
        text_of(inside(item, "caption", "text"))
        or text_of(item.get("caption"))
        or text_of(inside(item, "edge_media_to_caption", "edges", 0, "node", "text"))
    )


def pictures(
    item: dict[str, Any], files: Any = None, phone: Any = None
) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    """The pictures of an item, and in short words what the others were.

    Args:
        item: a graph node or an entry of an item list.
        files: the member of the export by the number of the picture, as text, from 0.
        phone: the same item as the app is sent it, whose addresses are of larger pictures.
    """
    media: list[FoundMedia] = []
    missed: list[str] = []
    apps = _children(phone) if isinstance(phone, dict) else []
    for position, child in enumerate(_children(item)):
        app = apps[position] if position < len(apps) else {}
        addresses = [*_addresses(app), *_addresses(child)]
        member = text_of(inside(files, str(position)))
        if is_video(child) or is_video(app):
            missed.append("video")
        elif member or addresses:
            media.append(_captured_picture(position, child, addresses, member))
        else:
            missed.append("media not included")
    return tuple(media), tuple(missed)


def is_video(item: dict[str, Any]) -> bool:
    """Whether an item, or one file of it, is a video, by any of its marks."""
    marks = item.get("is_video") is True or item.get("media_type") in (2, "VIDEO")
    versions = bool(item.get("video_versions")) or bool(item.get("video_url"))
    return marks or versions or "Video" in str(item.get("__typename") or "")


def _children(item: dict[str, Any]) -> list[dict[str, Any]]:
    edges = inside(item, "edge_sidecar_to_children", "edges")
    if isinstance(edges, list) and edges:
        return [_only_dict(inside(edge, "node")) for edge in edges]
    several = item.get("carousel_media")
    if isinstance(several, list) and several:
        return [_only_dict(child) for child in several]
    return [item]


def _only_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _addresses(item: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(address, width, height), best first: the first candidate is the largest that is not cropped."""
    first = inside(item, "image_versions2", "candidates", 0)
    sizes = _only_dict(item.get("dimensions"))
    found = [
        (inside(first, "url"), inside(first, "width"), inside(first, "height")),
        (item.get("display_url"), sizes.get("width"), sizes.get("height")),
    ]
    return [(url, w, h) for url, w, h in found if web_address(url)]


def _captured_picture(
    position: int, item: dict[str, Any], addresses: list[tuple[str, Any, Any]], member: str | None
) -> FoundMedia:
    urls = tuple(dict.fromkeys(url for url, _, _ in addresses))
    own = (id_of(item.get("pk") or item.get("id")) or "").split("_", 1)[0]
    return FoundMedia(
        position=position,
        media_id=own or None,
        url=urls[0] if urls else None,
        fallback_urls=urls[1:],
        member=member,
        claimed_type=image_type(member or urls[0]),
        claimed_width=count_of(addresses[0][1]) if addresses else None,
        claimed_height=count_of(addresses[0][2]) if addresses else None,
        rendition="re-encode",
    )


# ---------------------------------------------------------------- tables of CrowdTangle


def table_time(value: Any) -> datetime | Skip:
    """A time such as `2023-11-13 04:30:36 EST` in UTC, or why it is none."""
    match = _STAMP.fullmatch((text_of(value) or "").strip())
    if match is None:
        return Skip("no time")
    hours = _hours(match[3])
    time = iso_time(f"{match[1]}T{match[2]}")
    if time is None:
        return Skip("no time")
    if hours is None:
        return Skip("unknown time zone")
    try:
        zone = timezone(timedelta(hours=hours))
        return time.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return Skip("no time")


def _hours(zone: str) -> float | None:
    numbers = _OFFSET.fullmatch(zone)
    if numbers:
        hours = int(numbers[2]) + int(numbers[3] or 0) / 60
        return -hours if numbers[1] == "-" else hours
    return ZONES.get(zone.upper())
