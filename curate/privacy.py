"""Keeping people out of the catalog: keyed author hashes, and texts and paths without handles.

An author key is HMAC-SHA256 (https://www.rfc-editor.org/rfc/rfc2104) under the workspace's
secret, cut to 96 bits: equal authors can be told, and nobody without the secret can test a
guess. The path of a picture that names a person is kept as such a hash too.
"""

import hmac
import re
from collections.abc import Iterable
from functools import lru_cache

# Each begins with a letter that texts seldom hold and looks back from there: that is ten times faster.
_MENTION = re.compile(
    r"[@\uff20](?<![\w@\uff20.+-][@\uff20])!?"
    r"(?:\w|\[[^\]\n]{1,200}\])(?:[\w.-]*\w)?(?:@\w(?:[\w.-]*\w)?)*"
)
_LIKE_EMAIL = re.compile(r"@(?<=[\w.+%-]@)[\w-]+\.[\w-]")
_EMAIL = re.compile(r"(?<![\w.+%@-])[\w.+%-]++@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?<![\w+])\+\d(?:[ ().-]{0,2}\d){7,14}(?!\w)")
_USER_PAGE = re.compile(r"(?<![\w/@])/?(?:(?:u|user)/|r/u_)[\w-]+")

PROFILES = {
    "/u/": ("", ""),
    "reddit.com/user/": ("", ""),
    "/users/": ("", ""),
    "/profile/": ("", ""),
    "/r/u_": ("", ""),
    "twitter.com/": ("", "i hashtag search explore home intent share"),
    "x.com/": ("", "i hashtag search explore home intent share"),
    "instagram.com/": ("(?:stories/)?", "p reel reels tv explore stories"),
    "threads.": ("(?:com|net)/", "t post search"),
    "facebook.com/profile.php": (r"\?id=", ""),
    "facebook.com/": (
        "(?:people/)?",
        "people groups events photo photos hashtag watch share sharer reel media marketplace "
        "photo.php story.php permalink.php profile.php",
    ),
    "tiktok.com/": ("", "tag t music discover embed share v"),
    "pinterest.": ("[a-z.]{2,6}/", "pin search ideas explore today"),
    "flickr.com/": ("(?:photos|people)/", "tags"),
    "t.me/": ("(?:s/)?", "joinchat c s addstickers share proxy"),
    "telegram.me/": ("(?:s/)?", "joinchat c s share"),
    "tumblr.com/": (
        "(?:(?:dashboard/)?blog/(?:view/)?)?",
        "tagged search explore dashboard blog post image video",
    ),
    "deviantart.com/": ("", "tag search art"),
    "artstation.com/": ("", "artwork search channels"),
    "patreon.com/": ("", "posts search"),
    "ko-fi.com/": ("", "s post explore"),
    "linktr.ee/": ("", ""),
    "linkedin.com/in/": ("", ""),
    "youtube.com/": ("(?:c|user|channel)/", ""),
    "snapchat.com/add/": ("", ""),
}
"""What a link to somebody's page holds: how it goes on to the name, and first words that are no names."""


OWN_HOSTS = (
    ".tumblr.com", ".deviantart.com", ".artstation.com", ".blogspot.com", ".wordpress.com",
    ".livejournal.com", ".bsky.social",
)  # fmt: skip
"""Sites that give everybody a host of their own."""


def _link(site: str, before: str, spared: str) -> re.Pattern[str]:
    start = "" if site.startswith("/") else r"(?<![\w-])"
    if f".{site[:-1]}" in OWN_HOSTS:
        start = r"(?<![\w.-])(?:www\.)?"  # what follows somebody's own host is no name
    words = "|".join(map(re.escape, spared.split())) or r"(?!)"
    name = r"\w(?:[\w.:@%-]*\w)?"
    return re.compile(
        rf"({start}{re.escape(site)}{before}@?)(?!(?:{words})(?![\w.-])){name}", re.IGNORECASE
    )


_LINKS = {site: _link(site, *rest) for site, rest in PROFILES.items()}
_OWN_HOST = re.compile(
    rf"(?<![\w.@\uff20-])(?!(?:www|api|user)\.)\w[\w-]*({'|'.join(map(re.escape, OWN_HOSTS))})\b",
    re.IGNORECASE,
)

ENDINGS = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "avif", "heic", "heif", "bmp", "tif", "tiff",
        "jxl", "mp4", "webm", "mov", "m4v", "avi", "mkv", "3gp",
    }
)  # fmt: skip
"""Endings of a file name that are certainly no part of somebody's name."""

LEAST_WORD = 4
"""Characters of a handle that can be told from an ordinary short word inside a name."""

ROUNDS = 8
"""How often a text is gone through at most: what takes a name's place may make a name of its neighbours."""

PLACEHOLDERS = frozenset({"user", "email", "phone"})
"""What stands where a name was."""

GENERIC = PLACEHOLDERS | {
    "account", "archive", "attachments", "avatar", "content", "data", "export", "file", "files", "gallery",
    "image", "images", "img", "jpeg", "json", "media", "original", "originals", "other", "photo", "photos",
    "picture", "pictures", "post", "posts", "private", "profile", "public", "static", "status", "statuses",
    "stories", "thumbnail", "tweet", "tweets", "tweets_media", "upload", "uploads", "users", "video",
    "videos", "bluesky", "facebook", "flickr", "instagram", "mastodon", "pinterest", "reddit", "telegram",
    "threads", "tiktok", "tumblr", "twitter", "youtube",
    "adobe", "chatgpt", "dalle", "firefly", "flux", "gemini", "grok", "ideogram", "imagen", "leonardo",
    "midjourney", "openai", "photography", "nature", "runway", "sora", "stablediffusion",
}  # fmt: skip
"""Words of everybody's exports, and names of tools: a person called so cannot be told from them."""

_LETTER = re.compile(r"\w")
_WORD = re.compile(r"\w+")
_FOLDERS = re.compile(r"[^\s/]+/(?=[^\s/])")
_NOTHING = re.compile(r"(?!)")


def author_key(secret: bytes, platform: str, author_id: str) -> str:
    """The keyed hash of an author, 24 hex digits; the same person on two platforms has two keys."""
    return hmac.digest(secret, f"{platform}\0{author_id}".encode(), "sha256").hex()[:24]


def hidden_member(secret: bytes, name: str) -> str:
    """What stands for the path `name` of an export that tells who someone is; the same every time.

    The ending stays if it is a picture's or a video's: any other may be part of a name.
    """
    ending = name.rpartition(".")[2].lower()
    hashed = hmac.digest(secret, b"member\0" + name.encode("utf-8", "surrogateescape"), "sha256")
    return f"hidden/{hashed.hex()[:24]}" + (f".{ending}" if ending in ENDINGS else "")


def names_person(path: str, handles: Iterable[str]) -> bool:
    """Whether one of `handles` is a step of `path`, or a whole word of a step.

    A handle of less than four characters counts as a whole step only, and one that is a word of every
    export's folders (`media`, `photos`) never.
    """
    low = path.lower()
    return any(
        first in low and pattern.search(low) is not None
        for first, pattern in map(_in_path, handles)
        if first
    )


@lru_cache(maxsize=4096)
def _in_path(handle: str) -> tuple[str, re.Pattern[str]]:
    """The first word of a handle, for a quick look, and how the whole of it stands in a path."""
    name = _plain(handle).lower()
    words = name.split()
    if not words:
        return "", _NOTHING
    spelt = r"[\W_]+".join(map(re.escape, words))
    if len(name) < LEAST_WORD:
        return words[0], re.compile(rf"(?:^|[/\\!])@?{spelt}(?=$|[/\\!])")
    return words[0], re.compile(rf"(?<![^\W_]){spelt}(?![^\W_])")


def redact(text: str, handles: Iterable[str] = ()) -> str:
    """`text` with every @handle and u/handle replaced by `@user`, also inside profile links.

    E-mail addresses become `user@email`, international phone numbers `+phone`. `handles` are names known
    to belong to people: they are replaced wherever they stand as a word. Doing it twice changes nothing
    more.
    """
    for _ in range(ROUNDS):
        before, text = text, _redacted(text, handles)
        if text == before:
            break
    return text


def unnamed_tags(hashtags: tuple[str, ...], handles: Iterable[str]) -> tuple[str, ...]:
    """`hashtags` without one that is the author's name, the first of `handles`, however it is spaced.

    People who are only mentioned take no tag away: `#midjourney` beside `@midjourney` is a topic.
    """
    if not hashtags:
        return hashtags
    name = next((_run_together(_plain(handle)) for handle in handles), "")
    if not name:
        return hashtags
    return tuple(tag for tag in hashtags if _run_together(tag) != name)


def _run_together(name: str) -> str:
    return "".join(_WORD.findall(name.lower())).replace("_", "")


def without_folders(text: str) -> str:
    """`text` with each path cut to its last step: folders of an export often bear a person's name."""
    return _FOLDERS.sub("", text) if "/" in text else text


def _redacted(text: str, handles: Iterable[str]) -> str:
    # Most texts hold none of this, and this is done for every post: look before searching.
    if "/" in text and ("u/" in text or "user/" in text or "r/u_" in text):
        text = _USER_PAGE.sub("@user", text)
    if handles:
        text = _without_handles(text, handles)
    if "@" in text and _LIKE_EMAIL.search(text):
        text = _EMAIL.sub("user@email", text)
    if "@" in text or "\uff20" in text:
        text = _MENTION.sub("@user", text)
    if "+" in text:
        text = _PHONE.sub("+phone", text)
    return _without_links(text) if "/" in text or ".com" in text or ".social" in text else text


def _without_links(text: str) -> str:
    """`text` with the names in links to people's pages replaced."""
    low = text.lower()
    for site, pattern in _LINKS.items():
        if site in low:
            text = pattern.sub(r"\1user", text)
    if any(host in low for host in OWN_HOSTS):
        text = _OWN_HOST.sub(r"user\1", text)
    return text


def _without_handles(text: str, handles: Iterable[str]) -> str:
    """`text` with each handle replaced where it stands as a word, or as a step of a path."""
    low = text.lower()
    for handle in handles:
        words = handle.strip().lstrip("@").partition("@")[0].split()
        if not words or words[0].lower() not in low:
            continue  # nearly always, and a pattern for each of a million authors takes minutes
        first, pattern = _in_text(handle)
        if first and first in low:
            text = pattern.sub(_instead, text)
    return text


@lru_cache(maxsize=4096)
def _in_text(handle: str) -> tuple[str, re.Pattern[str]]:
    """The first word of a handle, for a quick look, and how the whole of it stands in a text."""
    name = _plain(handle)
    words = name.split()
    if not words or PLACEHOLDERS.intersection(_WORD.findall(name.lower())):
        return "", _NOTHING
    spelt = r"\s+".join(map(re.escape, words))
    if len(_LETTER.findall(name)) < LEAST_WORD:
        return words[0].lower(), re.compile(rf"(?<=/)@?{spelt}(?![\w-])", re.IGNORECASE)
    return words[0].lower(), re.compile(rf"(?<![\w@])@?{spelt}(?!\w)", re.IGNORECASE)


def _instead(found: re.Match[str]) -> str:
    """`@user`, or inside a link, a host or a name with points and dashes `user`."""
    before = found.string[found.start() - 1 : found.start()]
    return "user" if before and before in "/=.+%-" else "@user"


def _plain(handle: str) -> str:
    """A handle without `@` and host; nothing where it is everybody's word."""
    name = handle.strip().lstrip("@").partition("@")[0].strip()
    return "" if name.lower() in GENERIC else name
