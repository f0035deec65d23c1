import base64
import gzip
import hashlib
import json
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import bluesky, detect
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "bluesky"
DID = "did:plc:miraqmiraqmiraqmiraqmira"
KEY = "3lxaaaaaaaa2a"
PICTURE = "bafkreieq5jui4j25lacwomsqgjeswwl3y5zcdrresptwgmfylxo2depppq"
SEEN = "2026-03-01T10:00:01.000Z"


# ---------------------------------------------------------------- a writer of repositories


class Link(bytes):
    """A CID, where DAG-CBOR has a link."""


def cbor(value: Any) -> bytes:
    """DAG-CBOR by its rules: shortest numbers, keys by length and then by bytes."""
    match value:
        case None | True | False:
            return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case Link():
            return b"\xd8\x2a" + cbor(bytes(b"\0" + value))
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            keys = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
            return head(5, len(keys)) + b"".join(cbor(k) + cbor(value[k]) for k in keys)
    raise TypeError(type(value))


def head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise ValueError(number)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


class Writer:
    """A CAR file in the making."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Link, bytes]] = []

    def put(self, value: Any) -> Link:
        return self.put_bytes(cbor(value))

    def put_bytes(self, data: bytes) -> Link:
        cid = Link(b"\x01\x71\x12\x20" + hashlib.sha256(data).digest())
        self.blocks.append((cid, data))
        return cid

    def tree(self, items: list[tuple[str, Link]], level: int | None = None) -> Link | None:
        """The search tree over items in the order of their keys; a key's level is in its hash."""
        if not items and level is not None:
            return None
        level = max((depth(k) for k, _ in items), default=0) if level is None else level
        tops = [n for n, (key, _) in enumerate(items) if depth(key) == level]
        gaps = [items[a + 1 : b] for a, b in pairwise([-1, *tops, len(items)])]
        left, *rights = [self.tree(gap, level - 1) for gap in gaps]
        entries, before = [], ""
        for place, right in zip(tops, rights, strict=True):
            key, cid = items[place]
            shared = next((n for n, (a, b) in enumerate(zip(key, before)) if a != b), len(before))  # noqa: B905
            entries.append({"p": shared, "k": key[shared:].encode(), "v": cid, "t": right})
            before = key
        return self.put({"l": left, "e": entries})

    def commit(self, top: Link | None, did: str = DID) -> Link:
        fields = {
            "did": did,
            "version": 3,
            "data": top,
            "rev": KEY,
            "prev": None,
            "sig": b"\7" * 64,
        }
        return self.put(fields)

    def file(self, root: Link) -> bytes:
        header = cbor({"version": 1, "roots": [root]})
        sections = (varint(len(cid) + len(data)) + cid + data for cid, data in self.blocks)
        return varint(len(header)) + header + b"".join(sections)


def depth(key: str) -> int:
    """Pairs of zero bits that the hash of a key begins with."""
    bits = f"{int.from_bytes(hashlib.sha256(key.encode()).digest()):0256b}"
    return (len(bits) - len(bits.lstrip("0"))) // 2


def repository(records: dict[str, Any], extra: list[Any] | None = None) -> bytes:
    """The CAR file of a repository with `records` by key, and blocks that its tree does not reach."""
    writer = Writer()
    items = [(key, writer.put(record)) for key, record in sorted(records.items())]
    for record in extra or []:
        writer.put(record)
    return writer.file(writer.commit(writer.tree(items)))


def blob(name: str = "a", mime: str = "image/jpeg") -> dict[str, Any]:
    cid = Link(b"\x01\x55\x12\x20" + hashlib.sha256(name.encode()).digest())
    return {"$type": "blob", "ref": cid, "mimeType": mime, "size": 1234}


def images(*names: str) -> dict[str, Any]:
    shown = [{"alt": f"picture {n}", "image": blob(n)} for n in names]
    return {"$type": "app.bsky.embed.images", "images": shown}


def record(text: str = "", embed: Any = None, **fields: Any) -> dict[str, Any]:
    made = {"$type": "app.bsky.feed.post", "text": text, "createdAt": "2025-09-01T10:00:00.123Z"}
    return {**made, **({"embed": embed} if embed else {}), **fields}


def sample_repository() -> bytes:
    """What `tests/data/exports/bluesky/car.car` holds."""
    text = "Drei Bilder #Übung 🎨 @tomo.example"
    facets = [
        {"index": span(text, word), "features": [{"$type": f"app.bsky.richtext.facet#{k}", **v}]}
        for word, k, v in (
            ("@tomo.example", "mention", {"did": DID}),
            ("#Übung", "tag", {"tag": "Übung"}),
        )
    ]
    gallery = {
        "$type": "app.bsky.embed.gallery",
        "items": [
            {
                "$type": "app.bsky.embed.gallery#image",
                "alt": "",
                "image": blob(f"g{n}", "image/png"),
            }
            for n in range(6)
        ],
    }
    quoted = {"record": {"uri": f"at://{DID}/app.bsky.feed.post/{KEY}", "cid": "x"}}
    beside = {"$type": "app.bsky.embed.recordWithMedia", "media": images("q"), "record": quoted}
    video = {"$type": "app.bsky.embed.video", "video": blob("film", "video/mp4")}
    broken = {
        "$type": "app.bsky.embed.images",
        "images": [None, {"image": {}}, *images("b")["images"]],
    }
    nsfw = {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "porn"}]}
    posts = [
        record("A heron #photography", images("heron")),
        record(text, images("1", "2", "3"), facets=facets, tags=["aiart"], langs=["de", "en"]),
        record("six", gallery),
        record("beside a quote", beside, labels=nsfw),
        record("a film", video),
        record("words"),
        record("some are broken", broken),
        record("from long ago", images("old"), createdAt="2012-01-01T00:00:00Z"),
    ]
    keyed = {f"app.bsky.feed.post/{key_at(2025, 9, n + 1)}": post for n, post in enumerate(posts)}
    others = {
        "app.bsky.actor.profile/self": {
            "$type": "app.bsky.actor.profile",
            "description": "birds 🐦",
        },
        f"app.bsky.feed.like/{KEY}": {"$type": "app.bsky.feed.like", "subject": quoted["record"]},
        f"app.bsky.feed.repost/{KEY}": {
            "$type": "app.bsky.feed.repost",
            "subject": quoted["record"],
        },
    }
    return repository({**keyed, **others}, [record("deleted since", images("gone"))])


def span(text: str, word: str) -> dict[str, int]:
    start = text.encode().index(word.encode())
    return {"byteStart": start, "byteEnd": start + len(word.encode())}


def key_at(*day: int) -> str:
    number = int(datetime(*day, 10, tzinfo=UTC).timestamp() * 1e6) << 10
    letters = "234567abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[number >> 5 * place & 31] for place in reversed(range(13)))


# ---------------------------------------------------------------- helpers


def view(**fields: Any) -> dict[str, Any]:
    return {
        "uri": f"at://{DID}/app.bsky.feed.post/{KEY}",
        "author": {"did": DID, "handle": "mira.example", "labels": []},
        "record": in_json(record("x", images("a"), createdAt=SEEN)),
        "indexedAt": SEEN,
        "labels": [],
        **fields,
    }


def in_json(value: Any) -> Any:
    """A record as JSON has it: links under `$link`."""
    match value:
        case Link():
            return {"$link": "b" + base64.b32encode(value).decode().lower().rstrip("=")}
        case dict():
            return {key: in_json(inner) for key, inner in value.items()}
        case list():
            return [in_json(inner) for inner in value]
    return value


def found(record: Any, format: str = "posts") -> Found:
    [result] = bluesky.parse(record, format)
    assert isinstance(result, Found), result
    return result


def why(record: Any, format: str = "posts") -> Skip:
    [result] = bluesky.parse(record, format)
    assert isinstance(result, Skip), result
    return result


def of_record(embed: Any = None, **fields: Any) -> Found:
    return found(view(record=in_json(record("x", embed or images("a"), **fields))))


def gathered(path: Path) -> tuple[list[Any], list[Any], Any]:
    export = open_export(path)
    [(collector, format)] = detect(export)
    collection = collect(export, collector, format, secret=b"s", source_id="s")
    batches = list(collection)
    return [p for b in batches for p in b.posts], [m for b in batches for m in b.media], collection


def written(folder: Path, data: bytes) -> Path:
    path = folder / "repo.car"
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- pictures


def test_the_blob_is_asked_for_first_and_the_served_picture_is_the_fallback():
    served = f"https://cdn.bsky.app/img/feed_fullsize/plain/{DID}/{PICTURE}@jpeg"
    embed = {"$type": "app.bsky.embed.images#view", "images": [{"fullsize": served, "alt": "v"}]}

    [media] = found(view(record=record("x"), embed=embed)).media

    assert media.media_id == PICTURE
    assert media.url == f"https://bsky.social/xrpc/com.atproto.sync.getBlob?did={DID}&cid={PICTURE}"
    assert media.fallback_urls == (served,)
    assert media.rendition == "original"


def test_a_record_alone_gives_the_same_addresses_as_its_view():
    [alone] = of_record().media
    served = alone.fallback_urls[0]
    embed = {"$type": "app.bsky.embed.images#view", "images": [{"fullsize": served}]}

    assert found(view(embed=embed)).media == (alone,)
    assert alone.media_id in served
    assert alone.claimed_type == "image/jpeg"


def test_a_ratio_is_no_size_and_an_empty_description_none():
    shown = images("a")
    shown["images"][0] |= {"aspectRatio": {"width": 4, "height": 3}, "alt": ""}

    [media] = of_record(shown).media

    assert (media.claimed_width, media.claimed_height, media.alt) == (None, None, None)


def test_a_gallery_keeps_up_to_twenty_pictures_in_order():
    items = [
        {"$type": "app.bsky.embed.gallery#image", "alt": f"{n}", "image": blob(f"{n}")}
        for n in range(20)
    ]

    media = of_record({"$type": "app.bsky.embed.gallery", "items": items}).media

    assert [(m.position, m.alt) for m in media] == [(n, str(n)) for n in range(20)]


def test_a_gallery_of_which_only_the_view_is_known_is_read_from_it():
    base = f"https://cdn.bsky.app/img/feed_fullsize/plain/{DID}"
    items = [
        {"thumbnail": "x", "fullsize": f"{base}/{PICTURE[:-1]}{c}@jpeg", "alt": c} for c in "ab"
    ]
    embed = {"$type": "app.bsky.embed.gallery#view", "items": items}

    media = found(view(record=record("x"), embed=embed)).media

    assert [m.media_id for m in media] == [PICTURE[:-1] + "a", PICTURE[:-1] + "b"]


def test_pictures_beside_a_quote_are_taken_and_those_of_the_quoted_post_not():
    beside = {"$type": "app.bsky.embed.recordWithMedia", "media": images("own"), "record": {}}
    quote = {"$type": "app.bsky.embed.record", "record": {"embeds": [images("theirs")]}}

    assert [m.alt for m in of_record(beside).media] == ["picture own"]
    assert why(view(record=in_json(record("x", quote)))) == Skip("no image")


@pytest.mark.parametrize(
    ("embed", "reason"),
    [
        ({"$type": "app.bsky.embed.video", "video": blob("v", "video/mp4")}, "video"),
        ({"$type": "app.bsky.embed.external", "external": {"thumb": blob()}}, "no image"),
        ({"$type": "app.bsky.embed.images", "images": [{"image": {"mimeType": "x"}}]}, "media not included"),
        ({"$type": "app.bsky.embed.images", "images": None}, "no image"),
        ({"$type": "app.bsky.embed.hologram", "images": [1]}, "no image"),
        (
            {"$type": "app.bsky.embed.gallery", "items": [{"$type": "app.bsky.embed.gallery#video"}]},
            "video",
        ),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_skipped_with_a_reason(embed, reason):
    assert why(view(record=in_json(record("x", embed)))) == Skip(reason)


def test_a_broken_item_leaves_its_place_empty():
    shown = images("a", "b", "c")
    shown["images"][1] = {"image": None}

    got = of_record(shown)

    assert [m.position for m in got.media] == [0, 2]
    assert got.missed == ("media not included",)


def test_a_blob_of_2022_has_a_bare_identifier():
    old = {
        "$type": "app.bsky.embed.images",
        "images": [{"image": {"cid": PICTURE, "mimeType": "image/png"}}],
    }

    assert of_record(old).media[0].media_id == PICTURE


# ---------------------------------------------------------------- a post


@pytest.mark.parametrize(
    ("stated", "seen", "expected"),
    [
        ("2026-03-01T10:00:00.5Z", SEEN, "2026-03-01T10:00:00.500"),
        ("2026-03-01T19:00:00+09:00", SEEN, "2026-03-01T10:00:00"),
        ("2026-03-01T10:01:30Z", SEEN, "2026-03-01T10:01:30"),  # a clock that is a little fast
        ("2026-03-01T10:05:00Z", SEEN, "2026-03-01T10:00:01"),
        ("2026-02-28T11:00:00Z", SEEN, "2026-02-28T11:00:00"),  # written offline
        ("2015-01-01T00:00:00Z", SEEN, "2026-03-01T10:00:01"),
        ("0001-01-01T00:00:00+14:00", SEEN, "2026-03-01T10:00:01"),
        ("soon", SEEN, "2026-03-01T10:00:01"),
        (None, None, None),
    ],
)
def test_a_claimed_time_holds_unless_the_network_saw_otherwise(stated, seen, expected):
    made = in_json(record("x", images("a"), createdAt=stated))
    uri = f"at://{DID}/app.bsky.feed.post/not-a-time"

    got = found(view(record=made, indexedAt=seen, uri=uri)).post.created_at

    assert got == (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None)


def test_in_a_repository_the_key_of_a_record_is_the_witness():
    stored = {"did": DID, "key": f"app.bsky.feed.post/{key_at(2025, 9, 1)}"}
    old = record("x", images("a"), createdAt="2012-01-01T00:00:00Z")

    assert found({**stored, "record": old}, "car").post.created_at == datetime(
        2025, 9, 1, 10, tzinfo=UTC
    )


def test_tags_are_in_the_order_of_the_text_and_hidden_ones_follow():
    text = "für #Übung und #写真 von @tomo.example"
    made = [("#写真", "tag", {"tag": "#写真"}), ("#Übung", "tag", {"tag": "Übung"})]
    facets = [
        {
            "index": span(text, word),
            "features": [{"$type": f"app.bsky.richtext.facet#{kind}", **more}],
        }
        for word, kind, more in [*made, ("@tomo.example", "mention", {"did": DID})]
    ]

    got = found(
        view(record=in_json(record(text, images("a"), facets=facets, tags=["aiart", "写真", ""])))
    ).post

    assert got.hashtags == ("Übung", "写真", "aiart")
    assert got.handles == ("mira.example", "tomo.example")


def test_a_post_goes_by_its_uri_and_its_permalink_by_the_did():
    got = found(view()).post

    assert got.post_id == f"at://{DID}/app.bsky.feed.post/{KEY}"
    assert got.permalink == f"https://bsky.app/profile/{DID}/post/{KEY}"
    assert (got.author_id, got.handles) == (DID, ("mira.example",))


def test_an_escape_in_a_did_stays_one_in_the_address_of_its_blob():
    uri = f"at://did:web:pds.example%3A8080/app.bsky.feed.post/{KEY}"

    [media] = found(view(uri=uri)).media

    assert media.url is not None
    assert "?did=did:web:pds.example%253A8080&cid=" in media.url


def test_a_did_that_is_the_handle_gives_no_permalink():
    uri = f"at://did:web:mira.example/app.bsky.feed.post/{KEY}"

    assert found(view(uri=uri)).post.permalink is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"labels": [{"val": "porn"}]}, True),
        ({"labels": [{"val": "graphic-media"}, {"val": "rude"}]}, True),
        ({"labels": [{"val": "rude"}]}, None),
        ({"labels": [{"val": "porn", "neg": True}]}, None),
        (
            {"record": in_json(record("x", images("a"), labels={"values": [{"val": "nudity"}]}))},
            True,
        ),
    ],
)
def test_a_post_is_sensitive_where_it_is_labelled_and_else_unknown(fields, expected):
    assert found(view(**fields)).post.sensitive is expected


NO = {"val": "!no-unauthenticated"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"author": {"did": DID, "labels": [NO]}}, True),
        ({"author": {"did": DID, "labels": [{**NO, "neg": True}]}}, False),
        ({"author": {"did": DID, "labels": [{"val": "rude"}]}}, False),
        ({"labels": [NO]}, True),
        ({"record": in_json(record("x", images("a"), labels={"values": [NO]}))}, True),
    ],
)
def test_an_author_who_does_not_want_to_be_shown_is_marked(fields, expected):
    assert found(view(**fields)).post.opted_out is expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"notFound": True}, "not found"),
        ({"blocked": True}, "blocked"),
        ({"labels": [{"val": "!takedown"}]}, "removed"),
        ({"uri": "at://mira.example/app.bsky.feed.post/x"}, "no id"),
        ({"uri": f"at://{DID}/app.bsky.feed.generator/x"}, "no id"),
        ({"record": {"$type": "app.bsky.feed.generator"}}, "not a post"),
        ({"record": None}, "not a post"),
    ],
)
def test_a_post_that_was_taken_away_or_is_none_is_skipped(fields, reason):
    assert why(view(**fields)) == Skip(reason)


# ---------------------------------------------------------------- feeds and pages


def reposted(**fields: Any) -> dict[str, Any]:
    by = {"did": "did:plc:tomo", "handle": "tomo.example"}
    reason = {
        "$type": "app.bsky.feed.defs#reasonRepost",
        "by": by,
        "indexedAt": "2026-03-09T00:00:00Z",
    }
    return {"post": view(likeCount=5), "reason": {**reason, **fields}}


def test_a_repost_is_a_post_of_its_own_by_whom_the_reason_names():
    uri = "at://did:plc:tomo/app.bsky.feed.repost/3lz"

    got = found(reposted(uri=uri), "feed").post

    assert (got.post_id, got.author_id) == (uri, "did:plc:tomo")
    assert got.repost_of == f"bluesky/at://{DID}/app.bsky.feed.post/{KEY}"
    assert got.created_at == datetime(2026, 3, 9, tzinfo=UTC)
    assert (got.permalink, got.score) == (None, None)
    assert got.handles == ("tomo.example", "mira.example")


def test_a_repost_without_an_address_of_its_own_gets_one_that_is_always_the_same():
    first, again = found(reposted(), "feed").post, found(reposted(uri="at://x/y/z"), "feed").post

    assert first.post_id == again.post_id != found(view()).post.post_id
    assert DID in first.post_id
    assert "did:plc:tomo" in first.post_id


def test_either_of_the_two_authors_of_a_repost_can_opt_out():
    no = [{"val": "!no-unauthenticated"}]

    by = found(reposted(by={"did": "did:plc:tomo", "labels": no}), "feed")
    of = found({**reposted(), "post": view(author={"did": DID, "labels": no})}, "feed")

    assert by.post.opted_out
    assert of.post.opted_out


def test_a_pinned_post_is_the_post():
    pinned = {"post": view(), "reason": {"$type": "app.bsky.feed.defs#reasonPin"}}

    assert found(pinned, "feed") == found(view())


@pytest.mark.parametrize("format", ["posts", "feed"])
def test_pages_lines_and_lists_give_the_same_posts(tmp_path, format):
    sample = json.loads((SAMPLES / f"{format}.json").read_bytes())
    items = sample[format]
    shapes = {
        "pretty.json": json.dumps(sample, indent=1),
        "list.json": json.dumps(items),
        "items.jsonl": "\n".join(map(json.dumps, items)),
        "pages.jsonl": "\n".join(json.dumps({format: page}) for page in (items[:3], items[3:])),
    }
    expected, _, _ = gathered(SAMPLES / f"{format}.json")

    for name, text in shapes.items():
        path = tmp_path / name
        path.write_text(text)
        posts, _, collection = gathered(path)
        assert posts == expected, name
        assert collection.tally.seen == len(items), name


def test_a_thread_gives_the_posts_above_the_one_asked_for_and_below(tmp_path):
    def at(n: int) -> dict[str, Any]:
        return {"post": view(uri=f"at://{DID}/app.bsky.feed.post/k{n}")}

    below = [{**at(3), "replies": [at(4)]}, {"notFound": True, "uri": "at://x"}]
    path = tmp_path / "thread.json"
    path.write_text(json.dumps({"thread": {**at(2), "parent": at(1), "replies": below}}))

    posts, _, collection = gathered(path)

    assert {p.post_id[-2:] for p in posts} == {"k1", "k2", "k3", "k4"}
    assert collection.tally.skipped == {"not found": 1}


def test_a_last_page_with_a_cursor_says_that_there_are_more(tmp_path):
    path = tmp_path / "a.jsonl"
    pages = [{"cursor": "1", "posts": [view()]}, {"posts": [view()]}]

    path.write_text("\n".join(map(json.dumps, pages)))
    assert not gathered(path)[2].tally.partial

    path.write_text("\n".join(map(json.dumps, reversed(pages))))
    assert "a.jsonl:2" in gathered(path)[2].tally.partial[0]


def test_a_crawlers_side_file_is_not_ours(tmp_path):
    path = tmp_path / "1.json"
    path.write_text(json.dumps({"category": "bluesky", "subcategory": "user", **view()}))

    assert bluesky.recognise(open_export(path)) is None


# ---------------------------------------------------------------- Jetstream


def event(operation: str = "create", **fields: Any) -> dict[str, Any]:
    commit = {"operation": operation, "collection": "app.bsky.feed.post", "rkey": KEY, **fields}
    return {"did": DID, "time_us": 1772359201000000, "kind": "commit", "commit": commit}


@pytest.mark.parametrize("operation", ["create", "update"])
def test_what_is_written_in_the_stream_is_a_post(operation):
    made = in_json(record("x", images("a"), createdAt=SEEN))

    assert (
        found(event(operation, record=made), "jetstream").post.post_id == found(view()).post.post_id
    )


def test_a_delete_withdraws_the_post_it_names():
    assert why(event("delete"), "jetstream") == Skip(
        "deleted", withdrawn=f"at://{DID}/app.bsky.feed.post/{KEY}"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"collection": "app.bsky.feed.like"}, Skip("not a post")),
        ({"collection": "app.bsky.feed.repost"}, Skip("repost")),
        ({"collection": "app.bsky.graph.follow", "operation": "delete"}, Skip("not a post")),
        ({"rkey": None}, Skip("no id")),
        ({"rkey": "../../x"}, Skip("no id")),
        ({"record": None}, Skip("not a post")),
    ],
)
def test_other_events_are_counted_by_what_they_are(fields, expected):
    assert why(event(**fields), "jetstream") == expected


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ({"active": False, "status": "deleted"}, "deleted"),
        ({"active": False, "status": "takendown"}, "removed"),
        ({"active": False, "status": "deactivated"}, "not a post"),
        ({"active": True}, "not a post"),
        (None, "not a post"),
    ],
)
def test_news_of_an_account_say_whether_it_is_gone(account, reason):
    news = {"did": DID, "time_us": 1, "kind": "account", "account": account}

    assert why(news, "jetstream") == Skip(reason)


def test_the_stream_is_the_witness_of_a_time():
    made = in_json(record("x", images("a"), createdAt="2031-01-01T00:00:00Z"))

    got = found(event(record=made), "jetstream").post.created_at

    assert got == datetime(2026, 3, 1, 10, 0, 1, tzinfo=UTC)


def test_a_profile_written_in_the_stream_marks_the_posts_after_it_until_it_is_written_anew(
    tmp_path,
):
    def profile(**fields: Any) -> dict[str, Any]:
        return event("update", collection="app.bsky.actor.profile", rkey="self", record=fields)

    def post(n: int) -> dict[str, Any]:
        return event(rkey=f"k{n}", record=in_json(record("x", images("a"))))

    no = {"labels": {"values": [{"val": "!no-unauthenticated"}]}}
    other = {**post(4), "did": "did:plc:other"}
    lines = [
        post(1),
        profile(**no),
        post(2),
        other,
        profile(),
        post(3),
        profile(description="#NoBot"),
        post(5),
    ]
    path = tmp_path / "j.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))

    records = [r.record for r in bluesky.read(open_export(path), "jetstream")]
    marks = [
        r.post.opted_out
        for x in records
        for r in bluesky.parse(x, "jetstream")
        if isinstance(r, Found)
    ]

    assert marks == [False, True, False, False, True]


def test_a_stream_gives_the_same_posts_compressed(tmp_path):
    path = tmp_path / "jetstream.jsonl.zst"
    path.write_bytes(zstandard.compress((SAMPLES / "jetstream.jsonl").read_bytes()))

    plain, packed = gathered(SAMPLES / "jetstream.jsonl"), gathered(path)

    assert packed[0] == plain[0]
    assert packed[2].tally.skipped == plain[2].tally.skipped
    assert plain[2].tally.skipped["broken line"] == 1


# ---------------------------------------------------------------- repositories


def test_the_sample_of_a_repository_is_what_the_writer_writes():
    assert (SAMPLES / "car.car").read_bytes() == sample_repository()


def test_a_repository_gives_its_posts_under_their_keys(tmp_path):
    posts, media, collection = gathered(SAMPLES / "car.car")

    assert {p.text for p in posts} == {
        "A heron #photography",
        "Drei Bilder #Übung 🎨 @user",
        "six",
        "beside a quote",
        "some are broken",
        "from long ago",
    }
    assert len(media) == 1 + 3 + 6 + 1 + 1 + 1
    assert all(p.post_id.startswith(f"at://{DID}/app.bsky.feed.post/3l") for p in posts)
    assert all(p.created_at and p.created_at.year == 2025 for p in posts)
    tally = collection.tally
    assert tally.skipped["no key in the tree"] == 1  # the deleted post
    assert (tally.skipped["repost"], tally.skipped["not a post"]) == (1, 2)
    assert not tally.partial


def test_blobs_that_were_exported_too_are_found_by_their_name(tmp_path):
    data = sample_repository()
    (tmp_path / "repo.car").write_bytes(data)
    (tmp_path / "preferences.json").write_text('{"preferences": []}')
    names = {name: in_json(blob(name))["ref"]["$link"] for name in ("heron", "2")}
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / names["heron"]).write_bytes(b"1")
    (tmp_path / "blobs" / f"{names['2']}.jpeg").write_bytes(b"2")

    _, media, _ = gathered(tmp_path)

    there = {m.media_id: m.member for m in media if m.member}
    assert there == {
        names["heron"]: f"blobs/{names['heron']}",
        names["2"]: f"blobs/{names['2']}.jpeg",
    }
    assert all(m.url for m in media)


def test_a_record_means_the_same_in_a_repository_and_in_the_stream():
    made = record("x", images("a", "b"), tags=["t"], createdAt=SEEN)
    stored = {"did": DID, "key": f"app.bsky.feed.post/{KEY}", "record": made}

    assert found(stored, "car").media == found(event(record=in_json(made)), "jetstream").media


@pytest.mark.parametrize("pack", ["zip", "gz", "plain"])
def test_a_repository_is_read_however_it_is_packed(tmp_path, pack):
    data = sample_repository()
    path = tmp_path / {"zip": "r.zip", "gz": "r.car.gz", "plain": "r.car"}[pack]
    if pack == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("export/repo.car", data)
    else:
        path.write_bytes(gzip.compress(data) if pack == "gz" else data)

    assert gathered(path)[0] == gathered(SAMPLES / "car.car")[0]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"labels": {"values": [{"val": "!no-unauthenticated"}]}}, True),
        ({"description": "bots: #NoBot"}, True),
        ({"description": "birds"}, False),
    ],
)
def test_the_profile_in_a_repository_speaks_for_all_its_posts(tmp_path, profile, expected):
    records = {
        f"app.bsky.feed.post/{KEY}": record("x", images("a")),
        "app.bsky.actor.profile/self": profile,
    }
    export = open_export(written(tmp_path, repository(records)))

    [post] = [r for r in bluesky.read(export, "car") if r.record and "key" in r.record]

    assert found(post.record, "car").post.opted_out is expected


def test_many_records_are_all_found_through_the_tree(tmp_path):
    keys = [f"app.bsky.feed.post/{key_at(2024, 1 + n // 28, 1 + n % 28)}" for n in range(300)]
    records = {key: record(key, images(key)) for key in keys}

    posts, _, collection = gathered(written(tmp_path, repository(records)))

    assert {f"app.bsky.feed.post/{p.post_id.rsplit('/', 1)[1]}" for p in posts} == set(keys)
    assert {p.text for p in posts} == set(keys)
    assert not collection.tally.partial


def test_one_record_under_two_keys_is_two_posts(tmp_path):
    same = record("x", images("a"))
    records = {f"app.bsky.feed.post/{key_at(2024, 1, n)}": same for n in (1, 2)}

    assert len(gathered(written(tmp_path, repository(records)))[0]) == 2


def test_an_empty_repository_is_empty(tmp_path):
    posts, _, collection = gathered(written(tmp_path, repository({})))

    assert (posts, collection.tally.seen, collection.tally.partial) == ([], 0, [])


def test_a_block_that_does_not_match_its_hash_is_one_bad_record(tmp_path):
    data = sample_repository().replace(b"A heron #photography", b"A heron #midjourneys")

    posts, _, collection = gathered(written(tmp_path, data))

    assert "A heron #midjourneys" not in {p.text for p in posts}
    assert collection.tally.skipped["block does not match its hash"] == 1
    assert len(posts) == 5


def test_a_record_that_is_not_in_the_file_is_counted(tmp_path):
    writer = Writer()
    absent = Link(b"\x01\x71\x12\x20" + b"\x11" * 32)
    items = [
        (f"app.bsky.feed.post/{key_at(2024, 1, 1)}", writer.put(record("x", images("a")))),
        (f"app.bsky.feed.post/{key_at(2024, 1, 2)}", absent),
    ]

    posts, _, collection = gathered(
        written(tmp_path, writer.file(writer.commit(writer.tree(items))))
    )

    assert len(posts) == 1
    assert collection.tally.skipped == {"record missing": 1}
    assert "1 posts" in collection.tally.partial[0]


def test_a_part_of_the_tree_that_is_missing_is_told_and_the_rest_is_read(tmp_path):
    writer = Writer()
    post = writer.put(record("x", images("a")))
    absent = Link(b"\x01\x71\x12\x20" + b"\x11" * 32)
    entry = {"p": 0, "k": f"app.bsky.feed.post/{KEY}".encode(), "v": post, "t": absent}

    posts, _, collection = gathered(
        written(tmp_path, writer.file(writer.commit(writer.put({"l": None, "e": [entry]}))))
    )

    assert len(posts) == 1
    assert "1 parts of the tree" in collection.tally.partial[0]


# ---------------------------------------------------------------- hostile repositories


def test_a_file_cut_off_anywhere_keeps_what_was_whole_and_says_so(tmp_path):
    data = sample_repository()
    whole = {p.post_id: p for p in gathered(SAMPLES / "car.car")[0]}

    for cut in range(100, len(data), 37):
        posts, _, collection = gathered(written(tmp_path, data[:cut]))
        assert all(whole[p.post_id] == p for p in posts)
        assert collection.tally.partial


@given(place=st.integers(0, 10**6), byte=st.integers(1, 255))
@settings(deadline=None, max_examples=150)
def test_a_flipped_byte_never_makes_up_a_post(tmp_path_factory, place, byte):
    data = bytearray(sample_repository())
    data[100 + place % (len(data) - 100)] ^= byte
    path = written(tmp_path_factory.mktemp("car"), bytes(data))
    whole = {p.text for p in gathered(SAMPLES / "car.car")[0]} | {"deleted since"}

    posts, _, collection = gathered(path)

    assert {p.text for p in posts} <= whole
    assert len(posts) == 6 or collection.tally.partial or collection.tally.skipped


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff" * 20,
        varint(2**62),
        varint(9 * 2**20) + b"\0" * 100,
        varint(0),
        b"\x80" * 8,
        b"\x80",
    ],
    ids=["endless number", "huge block", "big block", "empty block", "open number", "one byte"],
)
def test_lengths_that_no_server_writes_end_the_file_and_not_the_program(tmp_path, tail):
    posts, _, collection = gathered(written(tmp_path, sample_repository() + tail))

    assert len(posts) == 6
    assert any("is damaged" in told for told in collection.tally.partial)


@pytest.mark.parametrize(
    "bomb", [b"\x81" * 500_000 + b"\0", b"\x9b" + b"\xff" * 8, b"\xa1\x01\x02", b""]
)
def test_a_record_that_is_no_record_is_one_bad_record(tmp_path, bomb):
    writer = Writer()
    items = [
        (f"app.bsky.feed.post/{key_at(2024, 1, 1)}", writer.put_bytes(bomb)),
        (f"app.bsky.feed.post/{key_at(2024, 1, 2)}", writer.put(record("x", images("a")))),
    ]

    posts, _, collection = gathered(
        written(tmp_path, writer.file(writer.commit(writer.tree(items))))
    )

    assert len(posts) == 1
    assert collection.tally.skipped == {"broken block": 1}


def test_a_tree_that_leads_to_itself_over_and_over_is_walked_once(tmp_path):
    writer = Writer()
    post = writer.put(record("x", images("a")))
    node = writer.put(
        {"l": None, "e": [{"p": 0, "k": b"app.bsky.feed.post/a", "v": post, "t": None}]}
    )
    for _ in range(200):
        entry = {"p": 0, "k": b"app.bsky.feed.like/a", "v": post, "t": node}
        node = writer.put({"l": node, "e": [entry]})

    posts, _, collection = gathered(written(tmp_path, writer.file(writer.commit(node))))

    assert len(posts) == 1
    assert collection.tally.seen == 201


@pytest.mark.parametrize(
    "entry",
    [
        {"p": 5, "k": b"x", "v": Link(b"\1" * 36), "t": None},
        {"p": -1, "k": b"x", "v": Link(b"\1" * 36), "t": None},
        {"p": 0, "k": b"x" * 5000, "v": Link(b"\1" * 36), "t": None},
        {"p": 0, "k": "text", "v": Link(b"\1" * 36), "t": None},
        {"p": 0, "k": b"x", "v": None, "t": None},
        None,
    ],
    ids=["too long a beginning", "negative", "endless key", "text", "no value", "nothing"],
)
def test_a_node_that_breaks_the_rules_is_a_missing_part(tmp_path, entry):
    writer = Writer()
    top = writer.put({"l": None, "e": [entry]})

    _, _, collection = gathered(written(tmp_path, writer.file(writer.commit(top))))

    assert "1 parts of the tree" in collection.tally.partial[0]


@pytest.mark.parametrize(
    "did", [None, 5, "mira.example"], ids=["none", "a number", "a name"]
)  # fmt: skip
def test_a_repository_without_an_author_is_told_in_one_line(tmp_path, did):
    writer = Writer()
    posts, _, collection = gathered(written(tmp_path, writer.file(writer.commit(None, did=did))))

    [told] = collection.tally.partial
    assert posts == []
    assert "names its author" in told
    assert "\n" not in told


def test_one_damaged_repository_of_many_leaves_the_others(tmp_path):
    data = sample_repository()
    for name, content in (
        ("a", data[:120]),
        ("b", data.replace(DID.encode(), b"x" * len(DID))),
        ("c", data),
    ):
        (tmp_path / f"{name}.car").write_bytes(content)

    posts, _, collection = gathered(tmp_path)

    assert len(posts) == 6
    assert ["a.car" in told or "b.car" in told for told in collection.tally.partial] == [True, True]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\xa1gversion\x02",
        repository({}).replace(b"gversion\x01", b"gversion\x02", 1),
        b"\x11\xa2eroots\x80gversion\x01",
        b"\x3a\xa2eroots\xff\xffgversion\x01",
        b"\xff\xff\xff\xff\xa2eroots gversion",
        b"not a car",
    ],
    ids=["version 2", "version 2 with a root", "no root", "not CBOR", "huge header", "text"],
)
def test_a_file_that_is_no_repository_is_told_in_one_line(tmp_path, data):
    told = refusal(written(tmp_path, data))

    assert "repo.car" in told
    assert "\n" not in told


def refusal(path: Path) -> str:
    """What is said of a file nothing can be read from, when it is opened or when it is read."""
    try:
        [(collector, format)] = detect(open_export(path))
    except ExportError as error:
        return str(error)
    [raw] = collector.read(open_export(path), format.name)
    return str(raw.partial)


# ---------------------------------------------------------------- real files


def test_a_real_feed_gives_as_many_posts_images_and_tags_as_counted_otherwise(shared):
    path = shared / "data/exports/bluesky/author_feed_0.json"

    posts, media, collection = gathered(path)

    shown = [item["post"] for item in json.loads(path.read_bytes())["feed"]]
    counted = [(n, tags_of(p["record"])) for p in shown if (n := pictures(p.get("embed") or {}))]
    assert collection.tally.seen == len(shown)
    assert (len(posts), len(media)) == (len(counted), sum(n for n, _ in counted))
    assert sum(len(p.hashtags) for p in posts) == sum(len(tags) for _, tags in counted)


def test_a_real_stream_gives_as_many_posts_images_and_tags_as_counted_otherwise(shared):
    path = shared / "data/exports/bluesky/jetstream.jsonl"

    posts, media, collection = gathered(path)

    events = [json.loads(line) for line in path.read_text().splitlines()]
    written = [(e.get("commit") or {}).get("record") or {} for e in events]
    of_posts = [r for r in written if r.get("$type") == "app.bsky.feed.post"]
    counted = [(n, tags_of(r)) for r in of_posts if (n := pictures(r.get("embed") or {}))]
    assert collection.tally.seen == len(events)
    assert collection.tally.skipped["deleted"] == 1
    assert (len(posts), len(media)) == (len(counted), sum(n for n, _ in counted))
    assert sum(len(p.hashtags) for p in posts) == sum(len(tags) for _, tags in counted)


def test_the_keys_of_real_posts_hold_the_time_that_their_authors_claim(shared):
    lines = (shared / "data/exports/bluesky/jetstream.jsonl").read_text().splitlines()
    commits = [c for line in lines if (c := json.loads(line).get("commit"))]
    made = [c for c in commits if c["collection"] == "app.bsky.feed.post" and "record" in c]

    for commit in made:
        shown = {"$type": "app.bsky.feed.post", "embed": in_json(images("a"))}
        stored = {"did": DID, "key": commit["rkey"], "record": shown}
        claimed = datetime.fromisoformat(commit["record"]["createdAt"])
        got = found(stored, "car").post.created_at
        assert got is not None
        assert abs(got - claimed) < timedelta(minutes=2)
    assert len(made) == 17


def pictures(embed: dict[str, Any]) -> int:
    return len(embed.get("images") or (embed.get("media") or {}).get("images") or [])


def tags_of(made: dict[str, Any]) -> set[str]:
    features = [f for facet in made.get("facets") or [] for f in facet["features"]]
    return {f["tag"] for f in features if "tag" in f} | set(made.get("tags") or [])
