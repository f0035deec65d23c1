"""Pinterest: pins as the web client or the API gives them, and the data of an account as requested.

Pins: https://developers.pinterest.com/docs/api/v5/pins-get, a published answer of the web client, and what
https://github.com/digitalmethodsinitiative/zeeschuimer keeps; data: an anonymised page published with
https://github.com/ChowSinWon/pinterest-export-parser. No page of one's own data with real pictures was at
hand. What decides:

- the original is the size `orig`; where there are only others, its address differs by one step. Ideas have
  pages, carousels have slots, and a video's cover is no picture of it;
- a list that goes on says where: a bookmark in the last page makes an export partial;
- nearly every pin was saved from somewhere: its origin is the pin it was saved from (`parent_pin_id`) or the
  one that stands for all pins of the same picture (`canonical_pin`). Most do not say;
- `auto_alt_text` was written by a machine and is not read;
- the board is its owner's word for what is on it: the pin's flair;
- the page of one's own data has no pictures, but each pin's signature, of which the address is made. The
  ending of the file is not said: all that there are come after it as fallbacks. Its times are taken for UTC,
  in which the API gives the same times. It holds IP addresses, which are never read.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
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
    text_of,
    unwrapped,
    web_address,
)
from curate.exports import Export

PLATFORM = "pinterest"
VERSION = 1
FORMATS = (
    Format(
        "download", "Your data, as requested: the page of pins, in a folder or zip", "pinterest/"
    ),
    Format("pins", "Pins of the web client or the API: answers, lists or lines", "pins.json"),
)

LOOKED_AT = 20
"""Pages whose first bytes are read to recognise an export."""
_SERVER = "https://i.pinimg.com"
_SIZED = re.compile(r"^(https?://i\.pinimg\.com/)(?!originals/)[^/]+/(?=\w\w/\w\w/\w\w/)")
_SIGNATURE = re.compile(r"^[0-9a-f]{32}$")
_CAPTURED = re.compile(rb'"source_platform"\s*:\s*"pinterest\.com"')
_PIN_LINK = re.compile(r"pinterest\.[\w.]+/pin/(\d+)")
_MARKS = (
    b'"pinner"',
    b'"board_id"',
    b'"image_signature"',
    b'"grid_title"',
    b'"resource_response"',
    b'"_zs-origin"',
)
_FIELDS = frozenset(
    {
        *("Title", "Details", "Image", "Is Native", "Board Id", "Board Name", "Is Video"),
        *("Ip Address", "Username", "Alt Text", "Canonical Link", "Story Pin Media", "Video"),
        *("Created at", "Alive", "Is a repin", "Private"),
    }
)
_END = "-end-"
_UNREAD = "Ip Address"
_NOTHING = frozenset({"No data", "None", ""})
_PEOPLE = (
    "pinner",
    "native_creator",
    "nativeCreator",
    "origin_pinner",
    "originPinner",
    "via_pinner",
    "viaPinner",
    "closeup_attribution",
    "board_owner",
)

_Picture = FoundMedia | str


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Pinterest: a page of pins, or pins by the first bytes."""
    if any(_is_page(head_of(export, name)) for name in _pages(export)[:LOOKED_AT]):
        return "download"
    data = json_files(export)
    return "pins" if data and _holds_pins(head_of(export, data[0])) else None


def _pages(export: Export) -> list[str]:
    return [m.name for m in export.members() if m.name.lower().endswith(".html")]


def _is_page(head: bytes) -> bool:
    return b"pinterest.com/" in head and (b">Pins</h1>" in head or b"<br>Board Name:" in head)


def _holds_pins(head: bytes) -> bool:
    if b'"category"' in head and b'"subcategory"' in head:
        return False  # a crawler's side file, with keys of its own
    if _CAPTURED.search(head):
        return True
    return b"pinimg.com/" in head and any(mark in head for mark in _MARKS)


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every pin of an account's page, or of answers, lists and lines."""
    if format == "download":
        for name in _pages(export):
            for number, pin in enumerate(_pins_in(export.chunks(name))):
                yield Raw(f"{name}[{number}]", pin)
        return
    goes_on = False
    for raw in entries(export, json_files(export)):
        if raw.problem is not None:
            yield raw
            continue
        for number, pin in enumerate(unwrapped(raw.record, _wrapped)):
            yield Raw(f"{raw.where}[{number}]", pin)
        goes_on = _goes_on(raw.record)
    if goes_on:
        yield Raw("bookmark", partial="the list goes on after the last page that is here")


def _goes_on(answer: Any) -> bool:
    """Whether a page says where the next one begins."""
    bookmark = first_of(inside(answer, "resource_response") or answer, ("bookmark",))
    return isinstance(bookmark, str) and bookmark != _END


def _wrapped(answer: Any) -> Any:
    """What an answer is a wrapper of; None for a pin."""
    if not isinstance(answer, dict) or "images" in answer or "pinner" in answer:
        return None
    inner = first_of(answer, ("resource_response", "results", "items", "data", "node"))
    return inner if isinstance(inner, dict | list) else None


def _pins_in(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The pins of a page, as a stream in bounded memory."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    page = _Page()
    for chunk in chunks:
        page.feed(decoder.decode(chunk))
        yield from page.taken()
    page.close()
    page.finish()
    yield from page.taken()


class _Page(HTMLParser):
    """Collects the pins of a page: a link to a pin, then a line for each field."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pins: list[dict[str, Any]] = []
        self._pin: dict[str, Any] | None = None
        self._field: str | None = None
        self._line = ""

    def taken(self) -> list[dict[str, Any]]:
        """The pins that are whole, once."""
        pins, self._pins = self._pins, []
        return pins

    def finish(self) -> None:
        """End the pin that is being read; what has no picture field is another list's entry."""
        self._end_line()
        if self._pin is not None and "Image" in self._pin["fields"]:
            self._pins.append(self._pin)
        self._pin = self._field = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self._end_line()
        elif tag == "h1":
            self.finish()
        elif tag == "a" and not self._line.strip():
            link = _PIN_LINK.search(dict(attrs).get("href") or "")
            if link:
                self.finish()
                self._pin = {"id": link[1], "fields": {}}

    def handle_data(self, data: str) -> None:
        if self._pin is not None:
            self._line += data

    def _end_line(self) -> None:
        line, self._line = self._line.strip(), ""
        if self._pin is None or not line:
            return
        fields = self._pin["fields"]
        name, colon, value = line.partition(":")
        if colon and name in _FIELDS:
            self._field = name
            if name != _UNREAD:
                fields[name] = value.strip()
        elif self._field is not None and self._field != _UNREAD:
            fields[self._field] += f"\n{line}"


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one pin with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    return (_own(record) if format == "download" else _pin(record),)


def _pin(pin: dict[str, Any]) -> Found | Skip:
    """A pin of an answer."""
    if pin.get("type", "pin") not in ("pin", "Pin"):
        return Skip("not a post")
    post_id = id_of(first_of(pin, ("entityId", "id")))
    if post_id is None:
        return Skip("no id")
    hidden = {inside(pin, "board", "privacy"), pin.get("privacy")} & {"secret", "protected"}
    if hidden:
        return Skip("not public")
    if pin.get("is_promoted") is True or isinstance(pin.get("promoter"), dict):
        return Skip("promoted")
    found = _pictures(pin)
    media = tuple(p._replace(position=n) for n, p in enumerate(found) if isinstance(p, FoundMedia))
    missed = tuple(p for p in found if isinstance(p, str))
    if not media:
        return Skip(missed[0] if missed else "no image")
    return Found(_post(post_id, pin), media, missed)


def _post(post_id: str, pin: dict[str, Any]) -> FoundPost:
    title = text_of(first_of(pin, ("title", "grid_title")))
    text = text_of(first_of(pin, ("description", "closeup_description", "body")))
    author = first_of(pin, ("pinner", "board_owner"))
    name = text_of(inside(author, "username"))
    author_id = id_of(first_of(author, ("entityId", "id")))
    origin = _origin(pin)
    return FoundPost(
        post_id=post_id,
        author_id=author_id or (f"name:{name.casefold()}" if name else None),
        handles=_handles(pin),
        created_at=_time(first_of(pin, ("created_at", "createdAt"))),
        title=title,
        text=text,
        hashtags=hashtags_in(title, text),
        flair=text_of(inside(pin, "board", "name")),
        permalink=_permalink(post_id),
        score=_saves(pin),
        replies=count_of(pin.get("comment_count")),
        repost_of=f"pinterest/{origin}" if origin and origin != post_id else None,
    )


def _handles(pin: dict[str, Any]) -> tuple[str, ...]:
    keys = ("username", "full_name", "fullName")
    names = [text_of(inside(pin, person, key)) for person in _PEOPLE for key in keys]
    return tuple(dict.fromkeys(name for name in names if name))


def _origin(pin: dict[str, Any]) -> str | None:
    """The pin that a pin was saved from, or the one that stands for its picture."""
    canonical = inside(pin, "pin_join", "canonical_pin") or inside(pin, "pinJoin", "canonicalPin")
    return id_of(pin.get("parent_pin_id")) or id_of(first_of(canonical, ("entityId", "id")))


def _saves(pin: dict[str, Any]) -> int | None:
    """How often a pin was saved."""
    places = (
        ("aggregated_pin_data", "aggregated_stats", "saves"),
        ("aggregatedPinData", "aggregatedStats", "saves"),
        ("repin_count",),
    )
    counts = (count_of(inside(pin, *place)) for place in places)
    return next((count for count in counts if count is not None), None)


def _permalink(post_id: str) -> str | None:
    return f"https://www.pinterest.com/pin/{post_id}/" if post_id.isdecimal() else None


def _time(value: Any) -> datetime | None:
    """A time as mail writes it (web client) or of ISO 8601 (API), in UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = parsedate_to_datetime(value)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return iso_time(value)


# ---------------------------------------------------------------- images


def _pictures(pin: dict[str, Any]) -> list[_Picture]:
    """The pictures of a pin in their order: its pages, its slots, or the one it has."""
    slots = inside(pin, "carousel_data", "carousel_slots")
    several = [_sized(s) for s in slots] if isinstance(slots, list) else _items(pin)
    pages = several or _pages_of(pin)
    if len(pages) > 1 or "video" in pages:
        return pages
    moving = (pin.get("videos"), pin.get("is_video"), pin.get("isVideo"))
    if any(moving) or inside(pin, "media", "media_type") == "video":
        return ["video"]
    whole = _sized(pin)
    return [whole] if isinstance(whole, FoundMedia) or not pages else pages


def _items(pin: dict[str, Any]) -> list[_Picture]:
    """The pictures of a pin of several, as the API lists them."""
    items = inside(pin, "media", "items")
    return [_sized(item) for item in items] if isinstance(items, list) else []


def _pages_of(pin: dict[str, Any]) -> list[_Picture]:
    """The pictures and videos on the pages of an idea; stickers and words are none."""
    story = first_of(pin, ("story_pin_data", "storyPinData"))
    pages = inside(story, "pages")
    found: list[_Picture] = []
    for page in pages if isinstance(pages, list) else []:
        blocks = inside(page, "blocks")
        for block in blocks if isinstance(blocks, list) else []:
            if isinstance(inside(block, "video"), dict):
                found.append("video")
            elif isinstance(inside(block, "image"), dict):
                found.append(_sized(block["image"], _signature(block, page)))
            elif inside(block, "type") == "story_pin_image_block":
                found.append(_signed(_signature(block, page)))
    return found


def _signature(*places: Any) -> str | None:
    values = (text_of(inside(place, "image_signature")) for place in places)
    return next((v for v in values if v and _SIGNATURE.match(v)), None)


def _sized(holder: Any, signature: str | None = None) -> _Picture:
    """A picture at its original address, with the largest size served as a fallback."""
    sizes = _sizes(holder)
    if not sizes:
        return _signed(signature or _signature(holder))
    largest = max(sizes, key=lambda s: (s["original"], count_of(s.get("width")) or 0))
    served = largest["url"]
    url = _SIZED.sub(r"\1originals/", served)
    original = largest["original"] or url.startswith(f"{_SERVER}/originals/")
    known = original and url == served  # the size of a smaller one says nothing of the original
    alt = first_of(holder, ("alt_text", "altText"))
    return FoundMedia(
        position=0,
        media_id=signature or _signature(holder),
        url=url,
        fallback_urls=(served,) if served != url else (),
        alt=text_of(alt),
        claimed_type=image_type(url) if url == served else None,
        claimed_width=_length(largest.get("width")) if known else None,
        claimed_height=_length(largest.get("height")) if known else None,
        rendition="original" if original else "preview",
    )


def _length(value: Any) -> int | None:
    length = count_of(value)
    return length if length is not None and length > 0 else None


def _sizes(holder: Any) -> list[dict[str, Any]]:
    """Every size of a picture that has an address, in any of the shapes they come in."""
    images = first_of(holder, ("images",)) or inside(holder, "media", "images")
    found: list[dict[str, Any]] = []
    for key, size in images.items() if isinstance(images, dict) else []:
        if isinstance(size, dict):
            found.append({**size, "original": key in ("orig", "originals")})
    single = (("imageSpec_orig", True), ("image", False), ("images", False))
    for key, original in single:
        value = inside(holder, key)
        size = value if isinstance(value, dict) else {"url": value}
        found.append({**size, "original": original})
    return [size for size in found if web_address(size.get("url"))]


def _signed(signature: str | None) -> _Picture:
    """A picture of which the signature alone is known; its ending is not."""
    if signature is None:
        return "media not included"
    step = f"{signature[:2]}/{signature[2:4]}/{signature[4:6]}/{signature}"
    first, *others = (f"{_SERVER}/originals/{step}.{e}" for e in ("jpg", "png", "webp", "gif"))
    return FoundMedia(
        position=0,
        media_id=signature,
        url=first,
        fallback_urls=(*others, f"{_SERVER}/736x/{step}.jpg"),
    )


# ---------------------------------------------------------------- one's own data


def _own(record: dict[str, Any]) -> Found | Skip:
    """A pin of the owner of the account."""
    post_id, fields = id_of(record.get("id")), record.get("fields")
    if post_id is None or not isinstance(fields, dict):
        return Skip("no id")
    said = {str(key): _said(value) for key, value in fields.items()}
    if said.get("Private") != "False":
        return Skip("not public")
    if said.get("Alive") == "False":
        return Skip("deleted")
    if said.get("Is Video") == "True":
        return Skip("video")
    media = _signed(_signature({"image_signature": said.get("Image")}))
    if not isinstance(media, FoundMedia):
        return Skip(media)
    name, title, text = said.get("Username"), said.get("Title"), said.get("Details")
    post = FoundPost(
        post_id=post_id,
        author_id=f"name:{name.casefold()}" if name else None,
        handles=(name,) if name else (),
        created_at=iso_time((said.get("Created at") or "").replace("/", "-")),
        title=title,
        text=text,
        hashtags=hashtags_in(title, text),
        flair=said.get("Board Name"),
        permalink=_permalink(post_id),
    )
    return Found(post, (media._replace(alt=said.get("Alt Text")),))


def _said(value: Any) -> str | None:
    """What a line says, without the comma that ends it; None for the words for nothing."""
    text = text_of(value)
    plain = text.removesuffix(",").strip() if text else ""
    return None if plain in _NOTHING else plain
