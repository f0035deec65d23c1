"""X (Twitter): the personal archive, API v2 answers, v1.1 JSON, web captures, snscrape and twscrape.

Archive: https://help.x.com/en/managing-your-account/how-to-download-your-x-archive; API:
https://docs.x.com/x-api/fundamentals/data-dictionary; lines of the scrapers:
https://github.com/JustAnotherArchivist/snscrape and https://github.com/vladkens/twscrape. What decides:

- ids are read as text (`id_str`, `rest_id`), since JavaScript tools round the numbers;
- only `extended_entities.media` has all images of a post;
- a retweet cuts off the text of its original, tags included: where that is at hand, its words count;
- the archive marks no reposts: the text begins with `RT @` and the media carry
  `source_status_id_str`;
- long posts are in `note-tweet.js` under other ids: they are joined by second and by how they
  begin;
- deleted posts and circles are in the archive too, and what a reader captured may be of protected accounts;
  they are counted and never collected;
- a large archive comes in several zips, and its manifest says which files there should be;
- archives of before 2019 hold `data/js/tweets/2012_01.js`, one file for each month;
- twscrape sorts media by kind: photos keep their order, their place among videos is not known;
- every picture X serves is its own re-encoding, and the archive holds the size for the web. `name=orig` is
  the largest; it is missing for some old pictures. `format` stays as it was: another one is a conversion.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.collectors.reading import inside, loads
from curate.exports import Export

PLATFORM = "x"
VERSION = 3
FORMATS = (
    Format("archive", "Archive from the account settings, zip or folder", "twitter-2026-01-02.zip"),
    Format("api-v2", "API v2: pages, flattened posts or stream, JSON lines", "search.jsonl"),
    Format("v1.1", "API v1.1: statuses, as JSON or lines", "statuses.json"),
    Format("graphql", "Captured answers of the web client, JSON or lines", "SearchTimeline.json"),
    Format("snscrape", "Tweets of snscrape, JSON lines", "twitter-hashtag.jsonl"),
    Format("twscrape", "Tweets of twscrape, JSON lines", "twscrape.jsonl"),
)

_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_NO_LANGUAGE = frozenset({"und", "qme", "qht", "qst", "qam", "qct", "zxx", "art", ""})
_MONTHS = dict(
    zip(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        range(1, 13),
        strict=True,
    )
)
_PART = re.compile(
    r"(?:^|/)(?:(?:tweets?|community-tweets?)(?:-part\d+)?|js/tweets/\d{4}_\d\d)\.js$"
)
_NOTES = re.compile(r"(?:^|/)note-tweet(?:-part\d+)?\.js$")
_WITHHELD = (
    ("deleted", re.compile(r"(?:^|/)deleted-tweets?(?:-part\d+)?\.js$")),
    ("not public", re.compile(r"(?:^|/)twitter-circle-tweet(?:-part\d+)?\.js$")),
)
_LOCAL = re.compile(r"(?:^|/)(?:tweets?|community_tweet)_media/(\d+)-[^/]+$")
_REPOST = re.compile(r"^RT @\w+:")
_STATUS = re.compile(r"/status(?:es)?/(\d+)")
_EPOCH_MS = 1_288_834_974_657  # https://docs.x.com/fundamentals/x-ids: snowflake time zero
_FIRST_SNOWFLAKE = 29_700_859_247
_SIZE_SUFFIX = re.compile(r":(?:orig|large|medium|small|thumb)$")
_FORMAT = re.compile(r"(?:^|&)format=(\w+)")
_OWN_LINK = re.compile(r"\s*https://t\.co/\w+$")
_SCRAPED = "snscrape.modules.twitter."
_MAX_ELEMENT = 64 * 2**20
_DECODER = json.JSONDecoder()
_NEXT = re.compile(r"[^\s,]")


# ---------------------------------------------------------------- recognise


def recognise(export: Export) -> str | None:
    """The format of an export of X, by names first and first bytes second."""
    names = [m.name for m in export.members()]
    if any(n == "data/manifest.js" or n.endswith("/data/manifest.js") for n in names):
        return "archive"
    for name in names:
        if name.endswith(".js") and _PART.search(name):
            known = (b"window.YTD.", b"Grailbird.data.")
            return "archive" if any(k in export.head(name, 64) for k in known) else None
    data = [n for n in names if _is_json(n)]
    return _format_of(export.head(data[0], 65_536)) if data else None


def _is_json(name: str) -> bool:
    stem = name.lower()
    for ending in (".zst", ".gz", ".xz"):
        stem = stem.removesuffix(ending)
    return stem.endswith((".json", ".jsonl", ".ndjson"))


def _format_of(head: bytes) -> str | None:
    if _SCRAPED.encode() in head:
        return "twscrape" if b'"id_str"' in head else "snscrape"
    if b'"__typename"' in head and (b'"rest_id"' in head or b"tweet_results" in head):
        return "graphql"
    if b'"id_str"' in head and (b'"full_text"' in head or b'"truncated"' in head):
        return "v1.1"
    if b'"edit_history_tweet_ids"' in head or b'"__twarc"' in head:
        return "api-v2"
    if b'"author_id"' in head and (b'"public_metrics"' in head or b'"attachments"' in head):
        return "api-v2"
    return None


# ---------------------------------------------------------------- read


def read(export: Export, format: str) -> Iterator[Raw]:
    """Every record of an export of X, joined with what belongs to it."""
    if format == "archive":
        yield from _read_archive(export)
        return
    split = _SPLITTERS.get(format, _of_statuses)
    for where, document in _documents(export):
        if isinstance(document, Raw):
            yield document
        else:
            for number, record in enumerate(split(document)):
                yield Raw(f"{where}[{number}]", record)


def _documents(export: Export) -> Iterator[tuple[str, Any]]:
    """(where, JSON document): one per line, or one per file where the file is one document."""
    for member in export.members():
        if not _is_json(member.name):
            continue
        if _is_lines(export, member.name):
            yield from _lines(export, member.name)
            continue
        try:
            yield member.name, loads(export.read(member.name))
        except ValueError:
            partial = f"{member.name} is not valid JSON"
            yield member.name, Raw(member.name, problem="broken file", partial=partial)


def _is_lines(export: Export, name: str) -> bool:
    if ".json." not in f"{name.lower()}.":
        return True
    first = next(export.lines(name), b"")
    try:
        loads(first)
    except ValueError:
        return False
    return True


def _lines(export: Export, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(export.lines(name), start=1):
        where = f"{name}:{number}"
        try:
            yield where, loads(line)
        except ValueError:
            yield where, Raw(where, problem="broken line")


def _of_page(document: Any) -> Iterator[Any]:
    """The posts of a page, a stream line, or one flattened post, each with what it refers to."""
    data = document.get("data", document) if isinstance(document, dict) else document
    if not isinstance(data, dict | list) or (data is document and "id" not in document):
        yield {"error": True}
        return
    includes = _part(document, "includes") if data is not document else {}
    media = {str(m.get("media_key")): m for m in _parts(includes, "media")}
    users = {str(u.get("id")): u for u in _parts(includes, "users")}
    tweets = {str(t.get("id")): t for t in _parts(includes, "tweets")}
    for tweet in data if isinstance(data, list) else [data]:
        yield _joined(tweet, media, users, tweets) if isinstance(tweet, dict) else tweet


def _joined(
    tweet: dict[str, Any], media: dict[Any, Any], users: dict[Any, Any], tweets: dict[Any, Any]
) -> dict[str, Any]:
    """One post of API v2 with its author, media and original inside, as in flattened files."""
    joined = dict(tweet)
    attached = _part(tweet, "attachments")
    if "media" not in attached and attached.get("media_keys"):
        found = [media.get(key, {"media_key": key}) for key in _texts(attached, "media_keys")]
        joined["attachments"] = {**attached, "media": found}
    if "author" not in tweet and str(tweet.get("author_id")) in users:
        joined["author"] = users[str(tweet["author_id"])]
    references = _parts(tweet, "referenced_tweets")
    joined["referenced_tweets"] = [_reference(r, media, users, tweets) for r in references]
    return joined


def _reference(
    reference: dict[str, Any],
    media: dict[Any, Any],
    users: dict[Any, Any],
    tweets: dict[Any, Any],
) -> dict[str, Any]:
    known = tweets.get(str(reference.get("id")))
    if known is None:
        return reference
    return {**_joined({**known, "referenced_tweets": []}, media, users, {}), **reference}


def _of_statuses(document: Any) -> Iterator[Any]:
    if isinstance(document, dict) and isinstance(document.get("statuses"), list):
        yield from document["statuses"]
    elif isinstance(document, list):
        yield from document
    else:
        yield document


def _of_capture(document: Any) -> Iterator[Any]:
    """Every post of a captured answer, promoted ones marked; quoted ones stay inside."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
            continue
        result = inside(value, "tweet_results", "result")
        if not isinstance(value, dict):
            continue
        if "__typename" in value and ("legacy" in value or "tweet" in value):
            yield value
        elif isinstance(result, dict):
            yield {**result, "promoted": "promotedMetadata" in value}
        else:
            waiting += reversed(value.values())


_SPLITTERS = {"api-v2": _of_page, "graphql": _of_capture}


# ---------------------------------------------------------------- read: the archive


def _read_archive(export: Export) -> Iterator[Raw]:
    names = [m.name for m in export.members()]
    account, files, partial = _manifest(export, names)
    yield from (Raw("data/manifest.js", partial=reason) for reason in partial)
    notes = _notes(export, names)
    local = _local_files(names)
    for name in (n for n in names if _PART.search(n)):
        count = 0
        for raw in _elements(export, name):
            count += raw.problem is None
            yield _with_context(raw, account, notes, local)
        stated = files.get(_tail(name), 0)
        if count < stated:
            yield Raw(name, partial=f"{name} has {count} of the {stated} posts that it should have")
    for reason, pattern in _WITHHELD:
        for name in (n for n in names if pattern.search(n)):
            for raw in _elements(export, name):
                yield raw._replace(record={"withheld": reason, "tweet": _tweet_in(raw.record)})


def _tweet_in(record: Any) -> Any:
    """The post in an element of an archive: old files do not wrap it."""
    return record.get("tweet", record) if isinstance(record, dict) else None


def _tail(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _with_context(
    raw: Raw,
    account: dict[str, Any],
    notes: dict[datetime, list[dict[str, Any]]],
    files: dict[str, list[str]],
) -> Raw:
    """One archived post with its account, its long text and its local files."""
    tweet = _tweet_in(raw.record)
    if not isinstance(tweet, dict):
        return raw
    post_id = str(tweet.get("id_str") or tweet.get("id"))
    note = _note_of(tweet, notes.get(_time(tweet.get("created_at")) or datetime.min, []))
    record = {"tweet": tweet, "account": account, "note": note, "files": files.get(post_id, [])}
    return raw._replace(record=record)


def _manifest(
    export: Export, names: Iterable[str]
) -> tuple[dict[str, Any], dict[str, int], tuple[str, ...]]:
    """The account, how many posts each file should hold, and why the archive is partial.

    Each zip of a large archive may bring a manifest of its own.
    """
    account: dict[str, Any] = {}
    stated: Counter[str] = Counter()
    partial = []
    for name in (n for n in names if n.endswith("data/manifest.js")):
        manifest = _assigned(export.read(name, _MAX_ELEMENT))
        if manifest is None:
            partial.append("the manifest is not valid JSON")
            continue
        if inside(manifest, "archiveInfo", "isPartialArchive"):
            partial.append("the archive's manifest says that it is partial")
        owner = manifest.get("userInfo")
        account = account or (owner if isinstance(owner, dict) else {})
        stated |= Counter(dict(_listed(manifest)))
    here = {_tail(name) for name in names}
    missing = sorted(name for name, count in stated.items() if count and name not in here)
    partial += [f"the manifest names {name}, which is not here" for name in missing]
    return account, dict(stated), tuple(dict.fromkeys(partial))


def _assigned(text: bytes) -> dict[str, Any] | None:
    """The object that a script assigns."""
    try:
        value = orjson.loads(text[text.index(b"{") : text.rindex(b"}") + 1])
    except (ValueError, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _listed(manifest: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Each file of posts that a manifest names, with how many it says there are."""
    kinds = manifest.get("dataTypes")
    for kind in kinds.values() if isinstance(kinds, dict) else ():
        files = kind.get("files") if isinstance(kind, dict) else None
        for file in files if isinstance(files, list) else ():
            name, count = inside(file, "fileName"), _count(inside(file, "count"))
            if isinstance(name, str) and (_PART.search(name) or _NOTES.search(name)):
                yield _tail(name), count or 0


def _notes(export: Export, names: Iterable[str]) -> dict[datetime, list[dict[str, Any]]]:
    """Long posts by the second they were made in."""
    found: dict[datetime, list[dict[str, Any]]] = {}
    for name in (n for n in names if _NOTES.search(n)):
        for raw in _elements(export, name):
            note = raw.record.get("noteTweet") if isinstance(raw.record, dict) else None
            made = _time(note.get("createdAt")) if isinstance(note, dict) else None
            if made and isinstance(note, dict):
                found.setdefault(made.replace(microsecond=0), []).append(note)
    return found


def _note_of(tweet: dict[str, Any], notes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The long post that begins as `tweet` does, among those of the same second."""
    text = _plain(str(tweet.get("full_text") or ""))
    for note in notes:
        long = _plain(str(inside(note, "core", "text") or ""))
        if len(text) >= 60 and long[:60] == text[:60]:
            return note
        if len(notes) == 1 and len(text) >= 20 and long[:20] == text[:20]:
            return note  # a link may be spelt differently further on
    return None


def _local_files(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        if match := _LOCAL.search(name):
            found.setdefault(match[1], []).append(name)
    return found


def _elements(export: Export, name: str) -> Iterator[Raw]:
    """The elements of the array that a `window.YTD… = [` file assigns, read as a stream."""
    buffer, begun, done, number = "", False, False, 0
    for chunk in _text(export, name):
        buffer += chunk
        if not begun and "[" in buffer:
            buffer, begun = buffer[buffer.index("[") + 1 :], True
        if begun and not done:
            records, at, done = _decoded(buffer)
            buffer = buffer[at:]
            for record in records:
                yield Raw(f"{name}[{number}]", record)
                number += 1
        if len(buffer) > _MAX_ELEMENT:
            break
    if not done:
        yield Raw(f"{name}[{number}]", problem="broken file", partial=f"{name} is cut off")


def _decoded(buffer: str) -> tuple[list[Any], int, bool]:
    """The whole elements in `buffer`, where the rest begins, and whether the array ended."""
    records: list[Any] = []
    at = 0
    while match := _NEXT.search(buffer, at):
        at = match.start()
        if buffer[at] == "]":
            return records, at, True
        try:
            record, at = _DECODER.raw_decode(buffer, at)
        except (json.JSONDecodeError, RecursionError):
            break
        records.append(record)
    return records, at, False


def _text(export: Export, name: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with export.open(name) as stream:
        while chunk := stream.read(1 << 20):
            yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


# ---------------------------------------------------------------- parse


@dataclass(frozen=True, slots=True)
class _Tweet:
    """One post in whichever format, as far as we need it."""

    post_id: str
    author_id: str | None
    handles: tuple[str, ...]
    created_at: datetime | None
    text: str
    hashtags: tuple[str, ...]
    media: tuple[dict[str, Any], ...]
    sensitive: bool | None
    language: str | None
    likes: int | None
    replies: int | None
    community: str | None
    origin: "_Tweet | None" = None
    origin_id: str | None = None


def parse(record: Any, format: str) -> tuple[Found | Skip, ...]:
    """The post of one record with its images, or why there is none. Pure."""
    if not isinstance(record, dict):
        return (Skip("not a record"),)
    if "withheld" in record and isinstance(record["withheld"], str):
        return (_withheld(record["withheld"], inside(record, "tweet", "id_str")),)
    if record.get("error") is True:
        return (Skip("error line"),)
    if record.get("promoted"):
        return (Skip("promoted"),)
    if _is_protected(record):
        return (Skip("not public"),)
    tweet = _READERS[format](record)
    if isinstance(tweet, Skip):
        return (tweet,)
    files = _texts(record, "files") if format == "archive" else []
    return (_found(tweet, files),)


def _is_protected(record: dict[str, Any]) -> bool:
    """Whether only followers may see it: what a logged-in reader sees holds such posts."""
    person = inside(record, "core", "user_results", "result")
    people = (record.get("user"), record.get("author"), person)
    nested = (inside(person, "legacy"), inside(person, "privacy"))
    return any(inside(someone, "protected") is True for someone in (*people, *nested))


def _withheld(reason: str, post_id: Any) -> Skip:
    """A post that its author deleted, or that not everybody could see."""
    deleted = reason == "deleted" and isinstance(post_id, str)
    return Skip(reason, withdrawn=post_id if deleted else None)


def _found(tweet: _Tweet, files: list[str]) -> Found | Skip:
    shown = tweet.origin or tweet  # a repost cuts text off after 140 characters, and with it tags
    media, missed = _images(shown, files)
    if not media:
        return Skip(missed[0] if missed else "no image")
    origin = tweet.origin_id or _foreign(shown)
    if origin is None and _REPOST.match(tweet.text):
        return Skip("repost without origin")
    post = FoundPost(
        post_id=tweet.post_id,
        author_id=tweet.author_id,
        handles=tweet.handles,
        created_at=tweet.created_at,
        text=shown.text or tweet.text or None,
        hashtags=shown.hashtags or tweet.hashtags,
        community=tweet.community,
        permalink=f"https://x.com/i/web/status/{tweet.post_id}",
        score=tweet.likes,
        replies=tweet.replies,
        sensitive=tweet.sensitive,
        language=tweet.language,
        repost_of=f"x/{origin}" if origin else None,
    )
    return Found(post, media, missed)


def _foreign(tweet: _Tweet) -> str | None:
    """The id of the post that the pictures come from, if that is another one."""
    for item in tweet.media:
        source = item.get("source_status_id_str")
        if not source and _REPOST.match(tweet.text):
            link = _STATUS.search(str(item.get("expanded_url") or ""))
            source = link[1] if link else None
        if source and str(source) != tweet.post_id:
            return str(source)
    return None


def _images(tweet: _Tweet, files: list[str]) -> tuple[tuple[FoundMedia, ...], tuple[str, ...]]:
    media, missed = [], []
    for position, item in enumerate(tweet.media):
        kind = item.get("type")
        url = item.get("media_url_https") or item.get("media_url") or item.get("url")
        if kind in ("video", "animated_gif"):
            missed.append("video")
        elif not isinstance(url, str) or "://" not in url:
            missed.append("media not included")
        else:
            near = files if len(tweet.media) == 1 else []
            member = _member(url, tweet.post_id, files) or _only(near)
            media.append(_image(position, item, url, member))
    return tuple(media), tuple(missed)


def _image(position: int, item: dict[str, Any], url: str, member: str | None) -> FoundMedia:
    """A photo: its largest address, then the others it has, and its file in the archive."""
    largest, others, ending = _addresses(url)
    width, height = _size(item)
    return FoundMedia(
        position=position,
        media_id=str(item.get("id_str") or item.get("media_key") or "") or None,
        url=largest,
        fallback_urls=others,
        member=member,
        alt=_sound(str(item.get("ext_alt_text") or item.get("alt_text") or "")) or None,
        claimed_type=_TYPES.get(ending),
        claimed_width=width,
        claimed_height=height,
        rendition="re-encode",
    )


def _addresses(url: str) -> tuple[str, tuple[str, ...], str]:
    """The largest address of a photo, those to fall back to, and the ending of its format."""
    bare, _, query = url.partition("?")
    bare = _SIZE_SUFFIX.sub("", bare)
    stated = _FORMAT.search(query)
    last = bare.rsplit("/", 1)[-1]
    ending = last.rsplit(".", 1)[-1].lower() if "." in last else ""
    if stated and ending not in _TYPES:
        base, ending = f"{bare}?format={stated[1]}&name=", stated[1].lower()
    else:
        base = f"{bare}?name="
    others = [f"{base}4096x4096", url]
    return f"{base}orig", tuple(o for o in others if o != f"{base}orig"), ending


def _member(url: str, post_id: str, files: list[str]) -> str | None:
    """The local file with the name that the address gives."""
    wanted = f"{post_id}-{url.split('?', 1)[0].rsplit('/', 1)[-1]}"
    return next((name for name in files if name.rsplit("/", 1)[-1] == wanted), None)


def _only(files: list[str]) -> str | None:
    """The one file of a post with one picture: old files do not carry the name of the address."""
    return files[0] if len(files) == 1 else None


def _size(item: dict[str, Any]) -> tuple[int | None, int | None]:
    info = item.get("original_info")
    if isinstance(info, dict):
        return _count(info.get("width")), _count(info.get("height"))
    large = inside(item, "sizes", "large")
    if isinstance(large, dict):
        return _count(large.get("w")), _count(large.get("h"))
    return _count(item.get("width")), _count(item.get("height"))


# ---------------------------------------------------------------- one reader per format


def _archived(record: dict[str, Any]) -> _Tweet | Skip:
    account = _part(record, "account")
    raw = record.get("tweet")
    if not isinstance(raw, dict):
        return Skip("not a post")
    user = {"id_str": account.get("accountId"), "screen_name": account.get("userName")}
    if isinstance(raw.get("user"), dict):
        return _status(raw)  # the oldest archives name the author in every post, and have no notes
    tweet = _legacy(raw, user)
    core = inside(record, "note", "core")
    if isinstance(tweet, Skip) or not isinstance(core, dict):
        return tweet
    hashtags = tuple(dict.fromkeys((*tweet.hashtags, *_hashtags(core))))
    return replace(tweet, text=_plain(str(core.get("text") or tweet.text)), hashtags=hashtags)


def _status(raw: dict[str, Any]) -> _Tweet | Skip:
    """A status of v1.1; a retweet carries its original whole."""
    tweet = _legacy(raw, _part(raw, "user"))
    original = raw.get("retweeted_status")
    return _with_origin(tweet, _status(original) if isinstance(original, dict) else None)


def _captured(raw: dict[str, Any]) -> _Tweet | Skip:
    """A post of the web client: v1.1 keys under `legacy`, ids and long text beside it."""
    if raw.get("__typename") == "TweetTombstone":
        return Skip("deleted")
    result = raw.get("tweet") if isinstance(raw.get("tweet"), dict) else raw
    legacy = result.get("legacy") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(legacy, dict):
        return Skip("not a post")
    user = _part(inside(result, "core", "user_results"), "result")
    names = {**_part(user, "legacy"), **_part(user, "core")}
    identity = {"id_str": user.get("rest_id"), "screen_name": names.get("screen_name")}
    tweet = _legacy({**legacy, "id_str": result.get("rest_id") or legacy.get("id_str")}, identity)
    note = inside(result, "note_tweet", "note_tweet_results", "result")
    if isinstance(note, dict) and not isinstance(tweet, Skip):
        tags = _hashtags(note.get("entity_set"))
        hashtags = tuple(dict.fromkeys((*tweet.hashtags, *tags)))
        tweet = replace(tweet, text=_plain(str(note.get("text") or "")), hashtags=hashtags)
    original = inside(legacy, "retweeted_status_result", "result")
    return _with_origin(tweet, _captured(original) if isinstance(original, dict) else None)


def _with_origin(tweet: _Tweet | Skip, origin: _Tweet | Skip | None) -> _Tweet | Skip:
    if isinstance(tweet, Skip) or origin is None:
        return tweet
    if isinstance(origin, Skip):
        return origin
    handles = tuple(dict.fromkeys((*tweet.handles, *origin.handles)))
    return replace(tweet, origin=origin, origin_id=origin.post_id, handles=handles)


def _legacy(raw: dict[str, Any], user: dict[str, Any]) -> _Tweet | Skip:
    """A post with the keys of v1.1, which the archive and the web client share."""
    post_id = raw.get("id_str") or raw.get("id")
    if post_id is None:
        return Skip("no id")
    extended = _part(raw, "extended_tweet")
    text = str(extended.get("full_text") or raw.get("full_text") or raw.get("text") or "")
    entities = _part(extended, "entities") or _part(raw, "entities")
    media = _parts(
        _part(extended, "extended_entities") or _part(raw, "extended_entities") or entities, "media"
    )
    community = raw.get("community_id_str")
    return _Tweet(
        post_id=str(post_id),
        author_id=str(user["id_str"]) if user.get("id_str") else None,
        handles=_handles(user.get("screen_name"), entities),
        created_at=_when(str(post_id), raw.get("created_at")),
        text=_plain(_expanded(text, {**entities, "media": media})),
        hashtags=_hashtags(entities),
        media=tuple(media),
        sensitive=_flag(raw.get("possibly_sensitive")),
        language=_language(raw.get("lang")),
        likes=_count(raw.get("favorite_count")),
        replies=_count(raw.get("reply_count")),
        community=str(community) if community else None,
    )


def _second(raw: dict[str, Any]) -> _Tweet | Skip:
    """A post of API v2 with what it refers to put inside."""
    if not raw.get("id"):
        return Skip("no id")
    references = _parts(raw, "referenced_tweets")
    reposted = next((r for r in references if r.get("type") == "retweeted" and r.get("id")), None)
    entities, metrics = _part(raw, "entities"), _part(raw, "public_metrics")
    author = _part(raw, "author")
    tweet = _Tweet(
        post_id=str(raw["id"]),
        author_id=str(raw["author_id"]) if raw.get("author_id") else None,
        handles=_handles(author.get("username"), entities),
        created_at=_when(str(raw["id"]), raw.get("created_at")),
        text=_plain(_expanded(str(raw.get("text") or ""), entities)),
        hashtags=_hashtags(entities),
        media=_attached(raw),
        sensitive=_flag(raw.get("possibly_sensitive")),
        language=_language(raw.get("lang")),
        likes=_count(metrics.get("like_count")),
        replies=_count(metrics.get("reply_count")),
        community=str(raw["community_id"]) if raw.get("community_id") else None,
        origin_id=str(reposted["id"]) if reposted else None,
    )
    if reposted is None or "text" not in reposted:
        return tweet
    origin = _second(reposted)
    if isinstance(origin, _Tweet) and not origin.media and tweet.media:
        return tweet  # the page holds the media with the repost and not with its original
    return _with_origin(tweet, origin)


def _scraped(raw: dict[str, Any]) -> _Tweet | Skip:
    """A tweet of snscrape or twscrape; both write the same names, snscrape older ones too."""
    kind = str(raw.get("_type") or "")
    if kind.endswith("Tombstone"):
        return Skip("not found")
    if kind and kind != f"{_SCRAPED}Tweet":
        return Skip("not a post")
    post_id = raw.get("id_str") or raw.get("id.str") or raw.get("id")
    if not post_id:
        return Skip("no id")
    user, media = _part(raw, "user"), _scraped_media(raw.get("media"))
    author = user.get("id_str") or user.get("id.str") or user.get("id")
    entities = _scraped_entities(raw)
    text = str(raw.get("rawContent") or raw.get("content") or "")
    shown = _expanded(text, entities)
    tweet = _Tweet(
        post_id=str(post_id),
        author_id=str(author) if author else None,
        handles=_handles(user.get("username"), entities),
        created_at=_when(str(post_id), raw.get("date")),
        text=_plain(_OWN_LINK.sub("", shown) if media else shown),
        hashtags=_hashtags(entities),
        media=media,
        sensitive=_flag(raw.get("possibly_sensitive")),
        language=_language(raw.get("lang")),
        likes=_count(raw.get("likeCount")),
        replies=_count(raw.get("replyCount")),
        community=None,
    )
    original = raw.get("retweetedTweet")
    return _with_origin(tweet, _scraped(original) if isinstance(original, dict) else None)


def _scraped_entities(raw: dict[str, Any]) -> dict[str, Any]:
    """Hashtags, links and mentions in the shape that the API gives them."""
    links = [
        {"url": link.get("tcourl"), "expanded_url": link.get("url")}
        for link in _parts(raw, "links")
    ]
    if not links:
        pairs = zip(_texts(raw, "tcooutlinks"), _texts(raw, "outlinks"), strict=False)
        links = [{"url": short, "expanded_url": long} for short, long in pairs]
    return {
        "urls": links,
        "mentions": _parts(raw, "mentionedUsers"),
        "hashtags": [{"text": tag} for tag in _texts(raw, "hashtags")],
    }


def _scraped_media(media: Any) -> tuple[dict[str, Any], ...]:
    """Media of snscrape (a list) or twscrape (lists by kind), as the API gives them."""
    if isinstance(media, dict):
        photos = [_scraped_photo(p) for p in _parts(media, "photos")]
        others = len(_parts(media, "videos")) + len(_parts(media, "animated"))
        return (*photos, *({"type": "video"} for _ in range(others)))
    return tuple(
        _scraped_photo(m) if str(m.get("_type")).endswith("Photo") else {"type": "video"}
        for m in _parts({"media": media}, "media")
    )


def _scraped_photo(photo: dict[str, Any]) -> dict[str, Any]:
    url = photo.get("fullUrl") or photo.get("url")
    return {"type": "photo", "media_url_https": url, "alt_text": photo.get("altText")}


_READERS = {
    "archive": _archived,
    "v1.1": _status,
    "graphql": _captured,
    "api-v2": _second,
    "snscrape": _scraped,
    "twscrape": _scraped,
}


# ---------------------------------------------------------------- parts of a post


def _part(record: Any, key: str) -> dict[str, Any]:
    """The object under a key, empty where there is none."""
    value = inside(record, key)
    return value if isinstance(value, dict) else {}


def _parts(record: Any, key: str) -> list[dict[str, Any]]:
    """The objects of a list under a key."""
    value = inside(record, key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(record: Any, key: str) -> list[str]:
    """The texts of a list under a key."""
    value = inside(record, key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _attached(raw: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The media of a post of API v2; a key without its object stays, to be counted."""
    attached = _part(raw, "attachments")
    keys = [{"media_key": key} for key in _texts(attached, "media_keys")]
    return tuple(_parts(attached, "media") or keys)


def _handles(own: Any, entities: dict[str, Any]) -> tuple[str, ...]:
    mentions = [*_parts(entities, "user_mentions"), *_parts(entities, "mentions")]
    names = [own, *(m.get("screen_name") or m.get("username") for m in mentions)]
    return tuple(dict.fromkeys(str(name) for name in names if name))


def _hashtags(entities: Any) -> tuple[str, ...]:
    names = (h.get("text") or h.get("tag") for h in _parts(entities, "hashtags"))
    return tuple(dict.fromkeys(_sound(str(name)) for name in names if name))


def _expanded(text: str, entities: dict[str, Any]) -> str:
    """`text` with its t.co links spelt out, and those of its own pictures dropped."""
    for item in _parts(entities, "media"):
        text = text.replace(str(item.get("url") or "\0"), "")
    for link in _parts(entities, "urls"):
        own = link.get("media_key") or "/photo/" in str(link.get("expanded_url") or "")
        target = "" if own else str(link.get("expanded_url") or link.get("url"))
        text = text.replace(str(link.get("url") or "\0"), target)
    return text.strip()


def _plain(text: str) -> str:
    """Text without the three escapes that X writes, and without halves of characters."""
    return _sound(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _sound(text: str) -> str:
    """`text` as UTF-8 can hold it: JSON may escape one half of a surrogate pair alone."""
    return text.encode("utf-8", "replace").decode()


def _when(post_id: str, stated: Any) -> datetime | None:
    """The stated time, unless the id's own clock says that it is wrong by more than a day."""
    made = _snowflake(post_id)
    time = _time(stated)
    if made and (time is None or abs(time - made) > timedelta(days=1)):
        return made
    return time


def _snowflake(post_id: str) -> datetime | None:
    number = int(post_id) if post_id.isdecimal() and len(post_id) < 20 else 0
    if not _FIRST_SNOWFLAKE <= number < 2**63:
        return None
    return datetime.fromtimestamp(((number >> 22) + _EPOCH_MS) // 1000, UTC)


def _time(value: Any) -> datetime | None:
    """`Fri Mar 06 13:02:05 +0000 2026`, always UTC, or ISO 8601."""
    if not isinstance(value, str):
        return None
    parts = value.split(" ")
    try:
        if len(parts) == 6:
            hour, minute, second = map(int, parts[3].split(":"))
            day = (int(parts[5]), _MONTHS[parts[1]], int(parts[2]))
            return datetime(*day, hour, minute, second, tzinfo=UTC)
        time = datetime.fromisoformat(value.replace(" +", "+"))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, KeyError):
        return None


def _count(value: Any) -> int | None:
    """A count, which archives write as text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    plain = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if plain else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _language(value: Any) -> str | None:
    return value if isinstance(value, str) and value not in _NO_LANGUAGE else None
