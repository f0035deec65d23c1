"""Pictures that hosts serve in place of one that is gone: they come with status 200 and look like any other.

Each is known by the address that dead links are sent to, or by its bytes. What nobody has listed yet shows as
one picture under many unrelated posts (`curate.stages.fetching`).
"""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Address:
    """How the path ends under which a host keeps its placeholder."""

    what: str
    path: re.Pattern[str]
    source: str


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a placeholder: how many, and their MD5 or the width and height of the PNG."""

    what: str
    size: int
    source: str
    md5: str | None = None
    pixels: tuple[int, int] | None = None


ADDRESSES = (
    Address(
        "imgur: removed, or never there",
        re.compile(r"/removed\.png$"),
        "https://github.com/Serene-Arc/bulk-downloader-for-reddit/issues/869",
    ),
    Address(
        "Flickr: no longer available",
        re.compile(r"/photo_unavailable(_\w+)?\.(png|gif|jpg)$"),
        "https://github.com/openimages/dataset/issues/9",
    ),
)

CONTENTS = (
    Content(
        "imgur: removed, or never there",
        503,
        "https://github.com/HoverHell/RedditImageGrab/issues/50",
        md5="d835884373f4d6c8f24742ceabe74946",
    ),
    Content(
        "Reddit: if you are looking for an image, it was probably deleted",
        1048,
        "https://github.com/cygnusx-1-org/Slide (RedditPlaceholderImage)",
        pixels=(130, 60),
    ),
)

_BY_SIZE = {known.size: known for known in CONTENTS}


def is_placeholder_url(url: str) -> bool:
    """Whether a host keeps its placeholder at `url`."""
    path = urlsplit(url).path
    return any(known.path.search(path) for known in ADDRESSES)


def is_placeholder(data: bytes) -> bool:
    """Whether `data` are the bytes of a known placeholder."""
    known = _BY_SIZE.get(len(data))
    if known is None:
        return False
    if known.md5 is not None:
        return hashlib.md5(data, usedforsecurity=False).hexdigest() == known.md5
    return data.startswith(PNG) and known.pixels == _pixels(data)


def _pixels(data: bytes) -> tuple[int, int]:
    """Width and height as a PNG states them (https://www.w3.org/TR/png-3/#11IHDR)."""
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
