"""X account archives: `twitter-2026-01-15-<hash>.zip`, one per account.

Files hold `window.YTD.<name>.part0 = [...]`; all numbers and ids are strings; text is html-escaped
and ends with the t.co links of its media; `entities.media` has only the first photo,
`extended_entities.media` all; retweets show only as `RT @`; hashtags beyond the cut of a long post are
only in `note-tweet.js`.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import orjson

from curate.simulated.plan import START, Copy, PlannedPost, snowflake

ZIP_TIME = (2026, 1, 15, 0, 0, 0)
LONG = (
    "Notes on how this came to be, because people asked more than once & I never wrote it down. "
    "It took three evenings, a lot of patience, and several tries that nobody will ever see. "
    "The light was the hard part, as always, and the rest followed from it once I stopped forcing "
    "things into the frame. More of this when the days are longer and the river is down again."
)
CUT = 270
Sizes = Mapping[int, tuple[int, int]]


def basename_of(copy: Copy) -> str:
    """The file name on pbs.twimg.com."""
    return f"{copy.name}.jpg"


def handle_of(author: int) -> str:
    """The screen name of a simulated account."""
    return f"sim_account_{author}"


def account_id(author: int) -> str:
    """The numeric id of a simulated account, too large for a float."""
    return str(snowflake(START) - 4611686018427 * (author + 1))


def member_of(post: PlannedPost, copy: Copy) -> str:
    """Where the archive keeps the photo of a tweet."""
    base = f"renamed-{basename_of(copy)}" if post.trap == "renamed" else basename_of(copy)
    return f"data/tweets_media/{post.post_id}-{base}"


def tweet(
    post: PlannedPost, copies: Iterable[Copy], sizes: Sizes, parent: PlannedPost | None = None
) -> dict[str, Any]:
    """One element of `tweets.js`. `parent` is the post that a retweet repeats."""
    text, hashtags = text_of(post)
    if parent is not None:
        text = f"RT @{handle_of(parent.author)}: {text}"
    if post.trap == "long":
        text, hashtags = text[:CUT] + "…", []
    media = [_photo(post, c, sizes, parent) for c in copies]
    if post.kind == "video":
        media = [_video(post)]
    words = escape(text, quote=False)
    full_text = f"{words} {media[0]['url']}" if media else words
    entities = _entities(full_text, hashtags)
    body: dict[str, Any] = {
        "edit_info": _edit_info(post), "retweeted": False, "source": '<a href="https://x.com">X Web App</a>',
        "entities": entities | ({"media": media[:1]} if media else {}),
        "display_text_range": ["0", str(len(full_text))], "favorite_count": str(int(post.post_id[-3:])),
        "id_str": post.post_id, "id": post.post_id, "truncated": False, "retweet_count": "2",
        "created_at": _ctime(post.created_at), "favorited": False, "full_text": full_text, "lang": "en",
    }  # fmt: skip
    if media:
        body |= {"possibly_sensitive": False, "extended_entities": {"media": media}}
    return {"tweet": body}


def text_of(post: PlannedPost) -> tuple[str, list[str]]:
    """The text as written, and its hashtags; a long post has them at its end."""
    hashtags = [post.tag.removeprefix("#")] if post.kind != "text" else []
    tail = "".join(f" #{tag}" for tag in hashtags)
    return (
        f"{post.title}. {LONG}{tail}" if post.trap == "long" else f"{post.title} & more{tail}"
    ), hashtags


def note_tweet(post: PlannedPost) -> dict[str, Any]:
    """One element of `note-tweet.js`; its id is not the tweet's, only time and first words agree."""
    text, hashtags = text_of(post)
    stated = post.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "noteTweet": {
            "noteTweetId": str(int(post.post_id) - 17), "createdAt": stated, "updatedAt": stated,
            "lifecycle": {"value": "Persistent", "name": "Persistent", "originalName": "Persistent"},
            "core": {"styletags": [], "urls": [], "mentions": [], "cashtags": [], "text": text,
                     "hashtags": [_span(text, tag, "fromIndex", "toIndex") for tag in hashtags]},
        }
    }  # fmt: skip


def _span(text: str, tag: str, first: str, last: str) -> dict[str, str]:
    start = text.index(f"#{tag}")
    return {"text": tag, first: str(start), last: str(start + len(tag) + 1)}


def _entities(full_text: str, hashtags: list[str]) -> dict[str, Any]:
    spans = [_span(full_text, tag, "from", "to") for tag in hashtags]
    tags = [{"text": s["text"], "indices": [s["from"], s["to"]]} for s in spans]
    return {"hashtags": tags, "symbols": [], "user_mentions": [], "urls": []}


def _photo(
    post: PlannedPost, copy: Copy, sizes: Sizes, parent: PlannedPost | None
) -> dict[str, Any]:
    width, height = sizes.get(copy.number, (640, 480))
    media_id = str(snowflake(post.created_at) + 2048 + copy.number % 2048)
    photo: dict[str, Any] = _media(
        post, media_id, f"https://pbs.twimg.com/media/{basename_of(copy)}"
    )
    photo |= {"type": "photo", "sizes": _sizes(width, height)}
    if parent is not None:
        photo |= {"source_status_id_str": parent.post_id, "source_status_id": parent.post_id,
                  "source_user_id_str": account_id(parent.author)}  # fmt: skip
    return photo


def _media(post: PlannedPost, media_id: str, url: str) -> dict[str, Any]:
    short = hashlib.sha256(post.post_id.encode()).hexdigest()[:10]
    page = f"https://x.com/{handle_of(post.author)}/status/{post.post_id}/photo/1"
    return {
        "id_str": media_id, "id": media_id, "url": f"https://t.co/{short}", "media_url_https": url,
        "media_url": url.replace("https", "http", 1), "display_url": f"pic.x.com/{short}",
        "expanded_url": page, "indices": ["0", "23"],
    }  # fmt: skip


def _sizes(width: int, height: int) -> dict[str, dict[str, str]]:
    return {
        name: {"w": str(round(width * f)), "h": str(round(height * f)), "resize": "fit"}
        for name, f in (("small", 0.6), ("medium", 1.0), ("large", 1.0))
    } | {"thumb": {"w": "150", "h": "150", "resize": "crop"}}


def _video(post: PlannedPost) -> dict[str, Any]:
    """A video: `media_url_https` is only its thumbnail, the file is a variant's."""
    stem = hashlib.sha256(post.post_id.encode()).hexdigest()[:16]
    thumb = f"https://pbs.twimg.com/ext_tw_video_thumb/{post.post_id}/pu/img/{stem}.jpg"
    url = f"https://video.twimg.com/ext_tw_video/{post.post_id}/pu/vid/640x360/{stem}.mp4?tag=12"
    variants = [{"bitrate": "832000", "content_type": "video/mp4", "url": url}]
    info = {"aspect_ratio": ["16", "9"], "duration_millis": "9000", "variants": variants}
    return _media(post, str(snowflake(post.created_at) + 7), thumb) | {
        "type": "video", "sizes": _sizes(640, 360), "video_info": info,
    }  # fmt: skip


def _edit_info(post: PlannedPost) -> dict[str, Any]:
    until = post.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"initial": {"editTweetIds": [post.post_id], "editableUntil": until, "editsRemaining": "5",
                        "isEditEligible": True}}  # fmt: skip


def _ctime(at: datetime) -> str:
    return at.strftime("%a %b %d %H:%M:%S +0000 %Y")


def wrapped(name: str, rows: list[dict[str, Any]]) -> bytes:
    """`rows` as X wraps them for its viewer page."""
    return f"window.YTD.{name}.part0 = ".encode() + orjson.dumps(rows, option=orjson.OPT_INDENT_2)


def archive_name(author: int) -> str:
    """The file name of an account's archive."""
    return f"twitter-2026-01-15-{hashlib.sha256(account_id(author).encode()).hexdigest()}.zip"


def write_archive(
    path: Path, author: int, tweets: list[dict[str, Any]], notes: list[dict[str, Any]],
    deleted: list[dict[str, Any]], files: Mapping[str, Path],
) -> None:  # fmt: skip
    """Write the archive of account `author`. `files` are media on disk by member name."""
    pages = {
        "data/account.js": wrapped("account", [_account(author)]),
        "data/tweets.js": wrapped("tweets", tweets),
        "data/note-tweet.js": wrapped("note_tweet", notes),
        "data/deleted-tweets.js": wrapped("deleted_tweets", deleted),
        "Your archive.html": b"<!doctype html><title>Your archive</title>",
    }
    manifest = b"window.__THAR_CONFIG = " + orjson.dumps(_manifest(author, len(tweets), len(notes)))
    with zipfile.ZipFile(path, "w") as archive:
        _add(archive, "data/manifest.js", manifest, zipfile.ZIP_DEFLATED)
        for name, content in pages.items():
            _add(archive, name, content, zipfile.ZIP_DEFLATED)
        for name in sorted(files):
            _add(archive, name, files[name].read_bytes(), zipfile.ZIP_STORED)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, ZIP_TIME)
    entry.compress_type = method
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    archive.writestr(entry, content)


def _account(author: int) -> dict[str, Any]:
    account = {
        "email": "nobody@example.org", "createdVia": "web", "username": handle_of(author),
        "accountId": account_id(author), "createdAt": "2019-03-01T00:00:00.000Z",
        "accountDisplayName": f"Simulated {author}",
    }  # fmt: skip
    return {"account": account}


def _manifest(author: int, tweets: int, notes: int) -> dict[str, Any]:
    def files(name: str, count: int) -> dict[str, Any]:
        stem = name.replace("_", "-")
        part = {
            "fileName": f"data/{stem}.js",
            "globalName": f"YTD.{name}.part0",
            "count": str(count),
        }
        return {"files": [part]}

    user = {
        "accountId": account_id(author),
        "userName": handle_of(author),
        "displayName": f"Simulated {author}",
    }
    information = {
        "sizeBytes": "0", "generationDate": "2026-01-15T00:00:00.000Z", "isPartialArchive": False,
        "maxPartSizeBytes": "53687091200",
    }  # fmt: skip
    types = {
        "account": files("account", 1), "tweets": files("tweets", tweets),
        "noteTweet": files("note_tweet", notes), "deletedTweets": files("deleted_tweets", 0),
    }  # fmt: skip
    types["tweets"]["mediaDirectory"] = "data/tweets_media"
    return {"userInfo": user, "archiveInfo": information, "readmeInfo": {}, "dataTypes": types}
