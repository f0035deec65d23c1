"""Tumblr: answers of the API v2 in both of its post formats, and the export of a blog.

API: https://www.tumblr.com/docs/en/api/v2 and https://www.tumblr.com/docs/npf; export:
https://help.tumblr.com/export-your-blog/, its `posts.xml` and pages after the tests of
https://github.com/tiyb/tev and of another reader. No genuine sample was at hand. What decides:

- blocks are shown in the order of `layout`, which may differ from that of `content`;
- a reblog has nothing of its own: the pictures are in `trail`. Where the reblogger added pictures, those are
  the post's, and the ones before them belong to other posts;
- old posts have `photos` with sizes, of which any may be the largest, or pictures inside their HTML;
- tags are free phrases of whoever posted or reblogged;
- a size that fills the box named in its address was scaled down; `.pnj` is a PNG served as JPEG;
- in an export files are found by the post's number: links inside its HTML are known to be wrong
  (https://github.com/tumblr/docs/issues/37). Drafts, queued posts and submissions are in it too;
- HTML pages give the time on the blog's own clock only, `posts.xml` gives it in seconds.
"""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import (
    VIDEO_ENDINGS,
    MemberStream,
    count_of,
    ending_of,
    entries,
    first_of,
    flag_of,
    from_html,
    head_of,
    id_of,
    image_type,
    inside,
    json_files,
    moment,
    text_of,
    web_address,
)
from curate.exports import Export
from schemas.errors import ExportError

PLATFORM = "tumblr"
VERSION = 1
FORMATS = (
    Format(
        "archive", "Export of a blog from its settings, with posts.zip unpacked", "blog-export/"
    ),
    Format("api", "API v2: answers, lists or lines of posts, JSON", "posts.json"),
)

_PAGE = re.compile(r"(?:^|/)posts/html/(submissions/)?(\d+)\.html$")
_XML = re.compile(r"(?:^|/)posts/posts\.xml$")
_MEDIA = re.compile(r"(?:^|/)media/(\d+)(?:_(\d+))?\.\w+$")
_PACKED = "posts.zip"
_POST_LINK = re.compile(r"(?:/post/|tumblr\.com/(?!tagged)[\w-]+/)(\d+)")
_BOX = re.compile(r"/s(\d+)x(\d+)/|_(\d+)\.\w+$")
_CREDIT = re.compile(
    r"<a\b[^>]*\bclass=[\"']?tumblr_blog\b[^>]*>.*?</a>:?", re.DOTALL | re.IGNORECASE
)
_HEAD = re.compile(r"<body[^>]*>", re.IGNORECASE)
_FOOTER = '<div id="footer"'
_BODIES = ("caption", "body", "answer", "description", "text")
_XML_BODIES = (
    "photo-caption",
    "regular-body",
    "answer",
    "link-description",
    "quote-text",
    "video-caption",
    "audio-caption",
)
_XML_TITLES = ("regular-title", "link-text", "conversation-title")
_MAX_PAGE = 16 * 2**20
_ORIGIN = "reblogged_root_id"

_Picture = FoundMedia | str


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of Tumblr: a blog by the names of its files, else by first bytes."""
    names = [member.name for member in export.members()]
    if any(_PAGE.search(n) or _XML.search(n) for n in names) or _is_packed(names):
        return "archive"
    data = json_files(export)
    return "api" if data and _holds_posts(head_of(export, data[0])) else None


def _is_packed(names: list[str]) -> bool:
    packed = any(name.rsplit("/", 1)[-1] == _PACKED for name in names)
    return packed and any(_MEDIA.search(name) for name in names)


def _holds_posts(head: bytes) -> bool:
    if b'"category"' in head and b'"subcategory"' in head:
        return False  # a crawler's side file, with keys of its own
    return b'"blog_name"' in head and any(
        key in head for key in (b'"reblog_key"', b'"note_count"', b'"id_string"', b'"post_url"')
    )


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every post of answers of the API, or of the export of a blog with the names of its files.

    Raises:
        ExportError: the posts of the blog are still packed inside the export.
    """
    if format == "archive":
        yield from _read_archive(export)
        return
    for raw in entries(export, json_files(export)):
        if raw.problem is not None:
            yield raw
            continue
        for number, post in enumerate(_of_answer(raw.record)):
            yield Raw(f"{raw.where}[{number}]", post)


def _of_answer(document: Any) -> Iterator[Any]:
    """The posts of an answer, which is a blog's page, a tag's list, or a post itself."""
    response = inside(document, "response")
    if response is None:
        yield from document if isinstance(document, list) else [document]
        return
    posts = first_of(response, ("posts", "liked_posts")) if isinstance(response, dict) else response
    if isinstance(posts, list) and (posts or inside(document, "meta", "status") == 200):
        yield from posts
    else:
        yield {"error": True}


def _read_archive(export: Export) -> Iterator[Raw]:
    names = [member.name for member in export.members()]
    if not any(_PAGE.search(n) or _XML.search(n) for n in names):
        raise ExportError(f"the posts in {export.path} are packed in posts.zip; unpack it there")
    files = _files(names)
    known: set[str] = set()
    for name in (n for n in names if _XML.search(n)):
        for raw in _xml_posts(export, name):
            if isinstance(raw.record, dict):
                known.add(str(raw.record.get("id")))
                raw = raw._replace(record={**raw.record, "files": files.get(raw.record["id"], [])})
            yield raw
    for name in names:
        page = _PAGE.search(name)
        if page and (page[1] or page[2] not in known):
            yield _page(export, name, page, files.get(page[2], []))


def _files(names: Iterable[str]) -> dict[str, list[str]]:
    """The media of each post, by the numbers in their names."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := _MEDIA.search(name):
            found.setdefault(match[1], []).append((int(match[2] or -1), name))
    return {post_id: [name for _, name in sorted(media)] for post_id, media in found.items()}


def _page(export: Export, name: str, page: re.Match[str], files: list[str]) -> Raw:
    if page[1]:
        return Raw(name, {"id": page[2], "submission": True})
    text = export.read(name, _MAX_PAGE).decode("utf-8", "replace")
    return Raw(name, {"id": page[2], "page": text, "files": files})


def _xml_posts(export: Export, name: str) -> Iterator[Raw]:
    """Each post of `posts.xml` as a dictionary, as a stream in bounded memory."""
    number, parent = 0, None
    with MemberStream(export, name) as stream:
        try:
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                if event == "start":
                    parent = element if element.tag == "posts" else parent
                elif element.tag == "post" and parent is not None:
                    yield Raw(f"{name}[{number}]", _as_record(element))
                    parent.clear()  # what was read is not kept
                    number += 1
        except (ParseError, DefusedXmlException) as error:
            partial = f"{name} is not valid XML after {number} posts ({str(error)[:80]})"
            yield Raw(f"{name}[{number}]", problem="broken file", partial=partial)


def _as_record(element: Element) -> dict[str, Any]:
    """The parts of a post that are read: its attributes, texts, tags and pictures in order."""
    nested = element.findall("photoset/photo")
    photos = [_sizes(photo) for photo in nested or [element] if photo.find("photo-url") is not None]
    return {
        "id": element.get("id"),
        "attributes": dict(element.attrib),
        "title": next((t for key in _XML_TITLES if (t := element.findtext(key))), None),
        "body": next((t for key in _XML_BODIES if (t := element.findtext(key))), None),
        "tags": [tag.text for tag in element.findall("tag")],
        "photos": photos,
    }


def _sizes(photo: Element) -> dict[str, Any]:
    urls = sorted(photo.findall("photo-url"), key=lambda u: -(count_of(u.get("max-width")) or 0))
    return {
        "urls": [url.text for url in urls],
        "width": photo.get("width"),
        "height": photo.get("height"),
    }


# ---------------------------------------------------------------- parse


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    if record.get("error") is True:
        return (Skip("error line"),)
    if record.get("submission"):
        return (Skip("not public"),)
    post_id = id_of(first_of(record, ("id_string", "id")))
    if post_id is None:
        return (Skip("no id"),)
    return (_archived(post_id, record) if format == "archive" else _answered(post_id, record),)


def _answered(post_id: str, post: dict[str, Any]) -> Found | Skip:
    """A post as the API gives it."""
    if post.get("state", "published") != "published" or post.get("is_private") is True:
        return Skip("not public")
    shown = _blocks(post) if isinstance(post.get("content"), list) else _legacy(post_id, post)
    if isinstance(shown, Skip):
        return shown
    pictures, origin, text = shown
    media, missed = _placed(pictures)
    if not media:
        why = "video" if post.get("type") == "video" else "no image"
        return Skip(missed[0] if missed else why)
    return Found(_post(post_id, post, origin, text), media, missed)


def _placed(pictures: Iterable[_Picture]) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    """Pictures at their places among all media, and short words for what is none."""
    known = list(pictures)
    media = [p._replace(position=n) for n, p in enumerate(known) if isinstance(p, FoundMedia)]
    return tuple(media), tuple(p for p in known if isinstance(p, str))


def _post(post_id: str, post: dict[str, Any], origin: str | None, text: str | None) -> FoundPost:
    name = text_of(post.get("blog_name")) or text_of(inside(post, "blog", "name"))
    uuid = id_of(inside(post, "blog", "uuid"))
    return FoundPost(
        post_id=post_id,
        author_id=uuid or (f"name:{name.casefold()}" if name else None),
        handles=_handles(name, post),
        created_at=moment(post.get("timestamp")),
        title=text_of(post.get("title")),
        text=text,
        hashtags=_tags(post.get("tags")),
        score=count_of(post.get("note_count")),
        replies=count_of(post.get("reply_count")),
        sensitive=_sensitive(post),
        repost_of=f"tumblr/{origin}" if origin and origin != post_id else None,
    )


def _handles(name: str | None, post: dict[str, Any]) -> tuple[str, ...]:
    """The names of all blogs that a post mentions."""
    keys = ("reblogged_from_name", "reblogged_root_name", "source_title", "asking_name")
    names = [name, *(text_of(post.get(key)) for key in keys)]
    for item in _trail(post):
        names += [text_of(inside(item, "blog", "name")), text_of(item.get("broken_blog_name"))]
    return tuple(dict.fromkeys(n for n in names if n))


def _tags(value: Any) -> tuple[str, ...]:
    tags = [text_of(tag) for tag in value] if isinstance(value, list) else []
    return tuple(dict.fromkeys(t.strip().lstrip("#") for t in tags if t and t.strip("# ")))


def _sensitive(post: dict[str, Any]) -> bool | None:
    """Whether a community label warns of the post; None where nothing is said."""
    label = flag_of(inside(post, "community_labels", "has_community_label"))
    return label if label is not None else flag_of(first_of(post, ("is_nsfw", "isNsfw")))


def _trail(post: dict[str, Any]) -> list[dict[str, Any]]:
    """The posts that a reblog goes back to, the first one first, without the post itself."""
    trail = post.get("trail")
    items = [i for i in trail if isinstance(i, dict)] if isinstance(trail, list) else []
    return [item for item in items if item.get("is_current_item") is not True]


# ---------------------------------------------------------------- posts of blocks

_Shown = tuple[list[_Picture], str | None, str | None]


def _blocks(post: dict[str, Any]) -> _Shown | Skip:
    """The pictures of a post of blocks, the post that they come from if another, and the text."""
    own, text = _pictures_in(post), _words_in(post)
    before = [(item, _pictures_in(item)) for item in _trail(post)]
    if any(isinstance(p, FoundMedia) for p in own):
        others = [p for _, found in before for p in found if isinstance(p, FoundMedia)]
        return own + ["repost"] * len(others), None, text
    for number, (item, found) in enumerate(before):
        if any(isinstance(p, FoundMedia) for p in found):
            origin = id_of(inside(item, "post", "id"))
            origin = origin or (id_of(post.get(_ORIGIN)) if number == 0 else None)
            # somebody else's picture that cannot be led back to its post is nobody's
            return (found, origin, text or _words_in(item)) if origin else Skip("repost")
    return own, None, text


def _pictures_in(item: dict[str, Any]) -> list[_Picture]:
    """What the blocks of a post or of an item of its trail show, in the order shown."""
    content = item.get("content")
    blocks = content if isinstance(content, list) else []
    found: list[_Picture] = []
    for number in _order(len(blocks), item.get("layout")):
        kind = inside(blocks[number], "type")
        if kind == "image":
            found.append(_block(blocks[number]))
        elif kind in ("video", "audio"):
            found.append(str(kind))
    return found


def _order(count: int, layout: Any) -> list[int]:
    """The numbers of the blocks as they are shown; those that no layout names come last."""
    named: list[Any] = []
    for part in layout if isinstance(layout, list) else []:
        rows = first_of(part, ("display", "rows"))
        if inside(part, "type") == "rows" and isinstance(rows, list):
            for row in rows:
                blocks = inside(row, "blocks") if isinstance(row, dict) else row
                named += blocks if isinstance(blocks, list) else []
    order = [n for n in named if isinstance(n, int) and 0 <= n < count]
    return list(dict.fromkeys([*order, *range(count)]))


def _block(block: dict[str, Any]) -> _Picture:
    """An image block at its largest size."""
    media = block.get("media")
    sizes = [m for m in media if isinstance(m, dict)] if isinstance(media, list) else []
    sizes = [s for s in sizes if web_address(s.get("url"))]
    if not sizes:
        return "media not included"
    sizes.sort(key=lambda s: (s.get("has_original_dimensions") is not True, -_area(s)))
    first = sizes[0]
    guessed = first.get("original_dimensions_missing") is True  # 540 x 405 then stands for unknown
    original = first.get("has_original_dimensions") is True
    return _served(
        [s["url"] for s in sizes],
        None if guessed else count_of(first.get("width")),
        None if guessed else count_of(first.get("height")),
        alt=_alt(block.get("alt_text")),
        claimed=text_of(first.get("type")),
        rendition="original" if original else "preview",
    )


def _area(size: dict[str, Any]) -> int:
    return (count_of(size.get("width")) or 0) * (count_of(size.get("height")) or 0)


def _alt(value: Any) -> str | None:
    """What somebody wrote; the word that stands in for nothing is none."""
    text = text_of(value)
    return None if text is None or text.strip().casefold() == "image" else text


def _served(
    urls: list[str],
    width: int | None,
    height: int | None,
    alt: str | None = None,
    claimed: str | None = None,
    rendition: str = "original",
) -> FoundMedia:
    kind = "re-encode" if ending_of(urls[0]) == "pnj" else rendition
    return FoundMedia(
        position=0,
        url=urls[0],
        fallback_urls=tuple(dict.fromkeys(u for u in urls[1:3] if u != urls[0])),
        alt=alt,
        claimed_type=claimed or image_type(urls[0]),
        claimed_width=width,
        claimed_height=height,
        rendition=kind,
    )


def _words_in(item: dict[str, Any]) -> str | None:
    content = item.get("content")
    blocks = content if isinstance(content, list) else []
    texts = [text_of(b.get("text")) for b in blocks if inside(b, "type") == "text"]
    return "\n".join(t for t in texts if t) or None


# ---------------------------------------------------------------- old posts


def _legacy(post_id: str, post: dict[str, Any]) -> _Shown | Skip:
    """The pictures of an old post: its photos, or those inside its HTML."""
    body = first_of(post, _BODIES)
    text = _words(body)
    reblogged = first_of(post, ("reblogged_from_id", "parent_post_id")) or _trail(post)
    own = _inline(inside(post, "reblog", "comment") if reblogged else body)
    photos = post.get("photos")
    if isinstance(photos, list) and photos:
        pictures: list[_Picture] = [_photo(photo) for photo in photos]
    elif own or not reblogged:
        return list(own), None, text
    else:
        pictures = list(_inline(body))
    if not reblogged or not pictures:
        return pictures, None, text
    origin = id_of(post.get(_ORIGIN)) or next(
        (i for item in _trail(post) if (i := id_of(inside(item, "post", "id"))) and i != post_id),
        None,
    )
    return (pictures, origin, text) if origin else Skip("repost")


def _photo(photo: Any) -> _Picture:
    """One photo of an old post at the largest of its sizes."""
    others = inside(photo, "alt_sizes")
    sizes = [inside(photo, "original_size"), *(others if isinstance(others, list) else [])]
    known = [s for s in sizes if isinstance(s, dict) and web_address(s.get("url"))]
    if not known:
        return "media not included"
    known.sort(key=lambda s: -_area(s))
    width, height = count_of(known[0].get("width")), count_of(known[0].get("height"))
    rendition = "preview" if _fills_box(known[0]["url"], width, height) else "original"
    return _served([s["url"] for s in known], width, height, rendition=rendition)


def _fills_box(url: str, width: int | None, height: int | None) -> bool:
    """Whether a picture is as large as the box in its address lets it be."""
    box = _BOX.search(url.split("?", 1)[0])
    if box is None or width is None:
        return False
    if box[3]:
        return width >= int(box[3])
    return width >= int(box[1]) or (height or 0) >= int(box[2])


def _words(body: Any) -> str | None:
    """The text of HTML without the names of the blogs that it quotes."""
    return from_html(_CREDIT.sub("", body)) if isinstance(body, str) else None


class _Pictures(HTMLParser):
    """Collects the pictures of an HTML fragment, and the posts that it was reblogged from."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pictures: list[FoundMedia] = []
        self.origins: list[str] = []
        self.tags: list[str] = []
        self._in_tag = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        classes = (known.get("class") or "").split()
        self._in_tag = tag == "span" and "tag" in classes
        if tag == "a" and "tumblr_blog" in classes:
            link = _POST_LINK.search(known.get("href") or "")
            self.origins += [link[1]] if link else []
        if tag == "img":
            self._picture(known)

    def _picture(self, known: dict[str, str | None]) -> None:
        url = web_address(known.get("src"))
        if url is None and known.get("src") is None:
            return
        width, height = (count_of(known.get(f"data-orig-{side}")) for side in ("width", "height"))
        found = _served([url or ""], width, height, alt=_alt(known.get("alt")), rendition="preview")
        self.pictures.append(found if url else found._replace(url=None))

    def handle_endtag(self, tag: str) -> None:
        self._in_tag = False

    def handle_data(self, data: str) -> None:
        if self._in_tag and data.strip():
            self.tags.append(data.strip())


def _scanned(value: Any) -> _Pictures:
    parser = _Pictures()
    if isinstance(value, str) and "<" in value:
        parser.feed(value)
        parser.close()
    return parser


def _inline(value: Any) -> list[FoundMedia]:
    return [p for p in _scanned(value).pictures if p.url]


# ---------------------------------------------------------------- the export of a blog


def _archived(post_id: str, record: dict[str, Any]) -> Found | Skip:
    """A post of `posts.xml`, or of its HTML page where there is no other."""
    told = record.get("attributes")
    attributes = told if isinstance(told, dict) else {}
    if attributes.get("state", "published") != "published" or attributes.get("private") == "true":
        return Skip("not public")
    page, _, footer = str(record.get("page") or "").partition(_FOOTER)
    body = text_of(record.get("body")) or text_of(_HEAD.split(page, maxsplit=1)[-1])
    scanned = _scanned(body)
    media, missed = _placed(_kept(record, scanned))
    if not media:
        why = "video" if attributes.get("type") == "video" else "no image"
        return Skip(missed[0] if missed else why)
    name = text_of(attributes.get("tumblelog"))
    tags = record.get("tags") if told else _scanned(f"{_FOOTER}{footer}").tags
    origin = _origin(attributes, scanned)
    post = FoundPost(
        post_id=post_id,
        author_id=f"name:{name.casefold()}" if name else None,
        handles=(name,) if name else (),
        created_at=moment(attributes.get("unix-timestamp")),
        title=from_html(record.get("title")),
        text=_words(body),
        hashtags=_tags(tags),
        repost_of=f"tumblr/{origin}" if origin and origin != post_id else None,
    )
    return Found(post, media, missed)


def _origin(attributes: dict[str, Any], scanned: _Pictures) -> str | None:
    """The first post of a chain of reblogs: said, or linked deepest inside the text."""
    for key in ("reblogged-root-url", "reblogged-from-url"):
        if link := _POST_LINK.search(str(attributes.get(key) or "")):
            return link[1]
    return scanned.origins[-1] if scanned.origins else None


def _kept(record: dict[str, Any], scanned: _Pictures) -> list[_Picture]:
    """The files of a post; where each has an address too, with it, and addresses where there is none."""
    told = record.get("photos")
    photos = [_addressed(photo) for photo in told] if isinstance(told, list) else []
    addressed = photos or [p for p in scanned.pictures if p.url]
    named = record.get("files")
    files = [n for n in named if isinstance(n, str)] if isinstance(named, list) else []
    if not files:
        return list(addressed)
    pictures = [_filed(name) for name in files]
    if sum(isinstance(p, FoundMedia) for p in pictures) != len(addressed):
        return pictures  # which is which cannot be told
    turn = iter(addressed)
    return [_both(p, next(turn)) if isinstance(p, FoundMedia) else p for p in pictures]


def _addressed(photo: Any) -> _Picture:
    urls = inside(photo, "urls")
    known = [u for u in urls if web_address(u)] if isinstance(urls, list) else []
    if not known:
        return "media not included"
    width, height = count_of(inside(photo, "width")), count_of(inside(photo, "height"))
    return _served(known, width, height)


def _filed(name: str) -> _Picture:
    if ending_of(name) in VIDEO_ENDINGS:
        return "video"
    kind = image_type(name)
    return FoundMedia(position=0, member=name, claimed_type=kind) if kind else "not an image"


def _both(filed: FoundMedia, addressed: _Picture) -> FoundMedia:
    """A file with the address and description of the same picture."""
    if isinstance(addressed, str):
        return filed
    return addressed._replace(
        member=filed.member, claimed_type=filed.claimed_type, rendition=filed.rendition
    )
