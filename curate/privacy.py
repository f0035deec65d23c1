"""Keeping people out of the catalog: keyed author hashes, and texts without handles.

An author key is HMAC-SHA256 (https://www.rfc-editor.org/rfc/rfc2104) under the workspace's
secret, cut to 96 bits: equal authors can be told, and nobody without the secret can test a
guess.
"""

import hmac
import re
from collections.abc import Iterable

_MENTION = re.compile(r"(?<![\w@.+-])@\w(?:[\w.-]*\w)?(?:@\w(?:[\w.-]*\w)?)?")
_USER_PAGE = re.compile(r"(?<![\w/])/?(?:(?:u|user)/|r/u_)[\w-]+")
_REDDIT = re.compile(r"(reddit\.com/)(?:(?:u|user)/|r/u_)[\w-]+")
_PROFILE = re.compile(
    r"(\b(?:twitter|x|instagram|facebook|threads|tiktok)\.(?:com|net)/)"
    r"(?!i/|p/|reel/|hashtag/|search|explore/)@?[\w.-]+",
    re.IGNORECASE,
)


def author_key(secret: bytes, platform: str, author_id: str) -> str:
    """The keyed hash of an author, 24 hex digits; the same person on two platforms has two keys."""
    return hmac.digest(secret, f"{platform}\0{author_id}".encode(), "sha256").hex()[:24]


def redact(text: str, handles: Iterable[str] = ()) -> str:
    """`text` with every @handle and u/handle replaced by `@user`, also inside profile links.

    `handles` are names known to belong to people: they are also replaced where a link holds them.
    """
    if "@" in text:
        text = _MENTION.sub("@user", text)
    if "/" in text:
        if "u/" in text or "user/" in text or "r/u_" in text:
            text = _REDDIT.sub(r"\1user/user", _USER_PAGE.sub("@user", text))
        text = _PROFILE.sub(r"\1user", text)
        text = _without_handles(text, handles)
    return text


def _without_handles(text: str, handles: Iterable[str]) -> str:
    """`text` with each handle replaced where it is a step of a path."""
    low = text.casefold()
    for handle in handles:
        if handle and handle.casefold() in low:
            step = rf"(?<=/)@?{re.escape(handle)}(?![\w-])"
            text = re.sub(step, "user", text, flags=re.IGNORECASE)
    return text
