import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

from curate.collect import Terms, collect
from curate.collectors import detect, reddit
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.policy import CollectPolicy, Policy

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "reddit"
COMMENTS = Terms(Policy(name="with-comments", collect=CollectPolicy(comments=True)))


def post(**fields: Any) -> dict[str, Any]:
    return {"id": "a1", "title": "t", "created_utc": 1767225600, "subreddit": "aiArt", **fields}


def one(**fields: Any) -> Found | Skip:
    [result] = reddit.parse(post(**fields), "dump")
    return result


def image(**fields: Any) -> Found:
    result = one(**fields)
    assert isinstance(result, Found)
    return result


def entry(media_id: str, **fields: Any) -> dict[str, Any]:
    served = f"https://preview.redd.it/{media_id}.jpg?width=9&amp;s=ab"
    return {"status": "valid", "e": "Image", "m": "image/jpg", "s": {"u": served, "x": 9}, **fields}


@pytest.mark.parametrize("value", ["1767225600", 1767225600, 1767225600.0])
def test_times_are_read_from_text_integers_and_floats(value):
    got = image(url="https://i.redd.it/x.jpg", created_utc=value, created=1).post.created_at

    assert got == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "soon", 1e30, [1]])
def test_a_time_that_is_none_is_not_invented(value):
    assert image(url="https://i.redd.it/x.jpg", created_utc=value).post.created_at is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://i.redd.it/x1.png", "https://i.redd.it/x1.png"),
        ("https://i.imgur.com/AbCdE.jpg", "https://i.imgur.com/AbCdE.jpg"),
        ("https://imgur.com/AbCdE12", "https://i.imgur.com/AbCdE12.jpg"),
        ("https://art.example/a/b.webp?x=1&amp;y=2", "https://art.example/a/b.webp?x=1&y=2"),
        ("https://preview.redd.it/x1.png?width=9&amp;s=ab", "https://i.redd.it/x1.png"),
        ("https://preview.redd.it/a-b-v0-x1.png?s=ab", "https://i.redd.it/x1.png"),
    ],
)
def test_a_link_to_an_image_gives_the_original(url, expected):
    [media] = image(url=url).media

    assert media.url == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"is_video": True, "url": "https://v.redd.it/x"}, "video"),
        ({"url": "https://v.redd.it/x"}, "video"),
        ({"url": "https://i.imgur.com/x.gifv"}, "video"),
        ({"url": "https://www.youtube.com/watch?v=1"}, "video"),
        ({"url": "https://imgur.com/a/AbCdE"}, "album"),
        ({"url": "https://news.example/story.html"}, "no image"),
        ({"is_self": True, "selftext": "words", "url": "https://www.reddit.com/r/x"}, "no image"),
        ({"url": "https://i.redd.it/x.jpg", "removed_by_category": "moderator"}, "removed"),
        ({"url": "https://i.redd.it/x.jpg", "removed_by_category": "deleted"}, "deleted"),
        ({"url": "https://i.redd.it/x.jpg", "selftext": "[removed]"}, "removed"),
        ({"url": "https://i.redd.it/x.jpg", "title": "[deleted by user]"}, "deleted"),
        ({"url": "https://i.redd.it/x.jpg", "_meta": {"was_deleted_later": True}}, "deleted later"),
        ({"url": "https://i.redd.it/x.jpg", "promoted": True}, "promoted"),
        ({"is_gallery": True, "gallery_data": None}, "deleted gallery"),
        ({"url": "/r/x/comments/1", "crosspost_parent": "t3_b"}, "crosspost without parent"),
        ({"url": "http://[bad"}, "broken link"),
    ],
)
def test_a_post_without_an_image_to_take_is_skipped_with_a_reason(fields, reason):
    assert one(**fields) == Skip(reason)


def test_a_gallery_keeps_the_order_shown_and_reports_what_failed():
    items = [{"media_id": m} for m in ("b", "x", "a", "v", "g")] + [
        {"media_id": "a", "is_deleted": True}
    ]
    known = {
        "a": entry("a"),
        "b": entry("b"),
        "x": {"status": "failed"},
        "v": {"status": "valid", "e": "RedditVideo", "dashUrl": "https://v.redd.it/v"},
        "g": entry(
            "g", e="AnimatedImage", s={"gif": "https://i.redd.it/g.gif", "mp4": "https://m"}
        ),
    }

    got = image(is_gallery=True, gallery_data={"items": items}, media_metadata=known)

    assert [(m.position, m.url) for m in got.media] == [
        (0, "https://i.redd.it/b.jpg"),
        (2, "https://i.redd.it/a.jpg"),
        (4, "https://i.redd.it/g.gif"),
    ]
    assert got.media[0].fallback_urls == ("https://preview.redd.it/b.jpg?width=9&s=ab",)
    assert got.missed == ("gallery item failed", "gallery item video", "gallery item deleted")


def test_a_preview_elsewhere_is_taken_as_it_is():
    served = "https://external-preview.redd.it/x.jpg?auto=webp&amp;s=ab"
    got = image(
        url="https://i.imgur.com/gone.jpg",
        preview={"images": [{"source": {"url": served, "width": 4, "height": 3}}]},
    )

    assert got.media[0].fallback_urls == (served.replace("&amp;", "&"),)
    assert (got.media[0].claimed_width, got.media[0].claimed_height) == (4, 3)


def test_a_crosspost_shows_the_media_of_its_parent_and_is_its_own_post():
    parent = post(id="b2", url="https://i.redd.it/p.jpg", author="orig", author_fullname="t2_o")

    got = image(url="/r/x", author="me", crosspost_parent="t3_b2", crosspost_parent_list=[parent])

    assert (got.post.post_id, got.post.repost_of) == ("a1", "reddit/b2")
    assert got.media[0].url == "https://i.redd.it/p.jpg"
    assert got.post.author_id == "name:me"


def test_a_crosspost_of_a_removed_post_is_skipped():
    parent = post(url="https://i.redd.it/p.jpg", removed_by_category="moderator")

    assert one(crosspost_parent="t3_b2", crosspost_parent_list=[parent]) == Skip("removed")


def test_images_inside_a_text_are_taken_in_its_order():
    text = (
        "see https://preview.redd.it/some-title-v0-two.png?width=640&amp;s=ab and "
        '![img](one-one "caption") ![gif](giphy|xyz)'
    )

    got = image(is_self=True, selftext=text, media_metadata={"one-one": entry("one-one")})

    assert [m.url for m in got.media] == [
        "https://i.redd.it/two.png",
        "https://i.redd.it/one-one.jpg",
    ]
    assert got.media[0].fallback_urls[0].endswith("?width=640&s=ab")


def test_a_text_with_a_video_alone_is_skipped_as_video():
    known = {"vv1": {"status": "valid", "e": "RedditVideo"}}
    text = "https://reddit.com/link/a1/video/vv1/player"

    assert one(is_self=True, selftext=text, media_metadata=known) == Skip("video")


def test_a_deleted_author_is_none_and_a_user_page_is_no_community():
    got = image(url="https://i.redd.it/x.jpg", author="[deleted]", subreddit="u_somebody").post

    assert (got.author_id, got.handles, got.community) == (None, (), None)


def test_escapes_are_undone_once_and_hashtags_are_words():
    got = image(url="https://i.redd.it/x.jpg", title="a &amp;lt; b #AIart #1 x#y &lt;3").post

    assert got.title == "a &lt; b #AIart #1 x#y <3"
    assert got.hashtags == ("AIart",)


@pytest.mark.parametrize("ending", ["zst", "gz", ""])
def test_a_dump_gives_the_same_posts_however_it_is_packed(tmp_path, ending):
    data = (SAMPLES / "dump.ndjson").read_bytes()
    pack = {"zst": zstandard.compress, "gz": gzip.compress, "": bytes}[ending]
    path = tmp_path / f"RS_2026-01{'.' if ending else '.ndjson'}{ending}"
    path.write_bytes(pack(data))

    collection = collect(*_opened(path), secret=b"s", source_id="s", terms=COMMENTS)
    posts = [p.post_id for batch in collection for p in batch.posts]

    assert posts == [
        *("zz0001", "zz0002", "zz0003", "zz0006", "zz0009", "zz000a", "t1_c2", "zz000c")
    ]
    assert json.loads(collection.source.skipped)["broken line"] == 1


def comment(**fields: Any) -> dict[str, Any]:
    base = {"id": "c1", "body": "", "created_utc": 1767225600, "subreddit": "aiArt"}
    return {**base, "link_id": "t3_a1", "author": "me", "author_fullname": "t2_m", **fields}


def test_a_comment_with_an_image_is_a_post_of_its_own():
    raw = comment(body="mine #Flux ![img](one-one)", media_metadata={"one-one": entry("one-one")})

    [got] = reddit.parse(raw, "dump")
    [same] = reddit.parse({"kind": "t1", "data": raw}, "listing")

    assert got == same
    assert isinstance(got, Found)
    assert (got.post.post_id, got.post.author_id, got.post.title) == ("t1_c1", "t2_m", None)
    assert (got.post.community, got.post.hashtags) == ("aiArt", ("Flux",))
    assert got.post.permalink == "https://www.reddit.com/comments/a1/comment/c1/"
    assert [m.url for m in got.media] == ["https://i.redd.it/one-one.jpg"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"body": "words"}, "comment"),
        ({"body": "[removed]"}, "comment"),
        ({"body": "![gif](giphy|abcdef)", "media_metadata": {"giphy|abcdef": {}}}, "comment"),
        ({"body": "![img](emote|t5_x|12)", "media_metadata": {"emote|t5_x|12": {}}}, "comment"),
        ({"body": "https://v.redd.it/abcdef"}, "comment"),
        (
            {"body": "https://i.redd.it/abcdef.jpg", "_meta": {"was_deleted_later": True}},
            "deleted later",
        ),
        ({"body": "https://i.redd.it/abcdef.jpg", "removed_by_category": "moderator"}, "removed"),
        ({"body": "https://i.redd.it/abcdef.jpg", "id": None}, "no id"),
    ],
)
def test_a_comment_without_an_image_to_take_is_skipped_with_a_reason(fields, reason):
    assert reddit.parse(comment(**fields), "dump") == (Skip(reason),)


def test_comments_are_found_however_deep_they_lie_and_those_left_out_are_told():
    collection = collect(
        *_opened(SAMPLES / "listing.json"), secret=b"s", source_id="s", terms=COMMENTS
    )
    posts = [p.post_id for batch in collection for p in batch.posts]

    assert posts == ["zz0001", "zz0002", "zz0003", "t1_d1", "t1_d2"]
    assert json.loads(collection.source.skipped)["comments not included"] == 2


def test_a_thread_of_hundreds_of_levels_is_read():
    thread: Any = ""
    for number in range(300):
        data = comment(id=f"d{number}", body="https://i.redd.it/abcdef.jpg", replies=thread)
        thread = {"kind": "Listing", "data": {"children": [{"kind": "t1", "data": data}]}}

    records = list(reddit._of_listing(thread, "x"))

    assert [r.record["data"]["id"] for r in records] == [f"d{n}" for n in reversed(range(300))]


def test_a_data_request_gives_own_posts_by_their_links():
    collection = collect(*_opened(SAMPLES / "gdpr"), secret=b"s", source_id="s", terms=COMMENTS)
    batches = list(collection)
    posts = [p for b in batches for p in b.posts]

    assert [m.url for b in batches for m in b.media] == [
        "https://i.redd.it/ownc02ownc02.png",
        "https://i.redd.it/own001own001.png",
        "https://i.imgur.com/AbCdE12.jpg",
        "https://i.redd.it/own004one.png",
        "https://i.redd.it/own004two.jpeg",
        "https://i.redd.it/own009own009.jpg",
    ]
    assert posts[0].permalink == "https://www.reddit.com/comments/zz0001/comment/ownc02/"
    assert posts[1].created_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (posts[1].title, posts[1].hashtags) == (
        'A castle, "again" #Midjourney \U0001f3a8',
        ("Midjourney",),
    )
    assert len({p.author for p in posts}) == 1
    assert json.loads(collection.source.skipped) == {
        "album": 1,
        "comment": 1,
        "gallery not included": 1,
        "removed": 1,
        "row of another width than the header": 1,
        "video": 1,
    }


def test_the_address_a_post_was_sent_from_never_leaves_the_export():
    export = open_export(SAMPLES / "gdpr")

    assert b"203.0.113.77" in export.read("posts.csv")
    assert "203.0.113.77" not in repr(list(reddit.read(export, "gdpr")))


def test_a_data_request_knows_its_author_as_old_dumps_do():
    export = open_export(SAMPLES / "gdpr")
    found = [
        f
        for r in reddit.read(export, "gdpr")
        if r.record
        for f in reddit.parse(r.record, "gdpr")
        if isinstance(f, Found)
    ]

    old = image(url="https://i.redd.it/x.jpg", author="Pseudonym_Marker").post
    assert {f.post.author_id for f in found} == {old.author_id} == {"name:pseudonym_marker"}


@pytest.mark.parametrize("name", ["new.json", "RS_2026-01.ndjson"])
def test_half_a_character_does_not_cost_a_post(tmp_path, name):
    raw = post(title="a \ud83d b", url="https://i.redd.it/x.jpg")
    listing = {"kind": "Listing", "data": {"children": [{"kind": "t3", "data": raw}]}}
    path = tmp_path / name
    path.write_text(json.dumps(listing if name == "new.json" else raw))

    collection = collect(*_opened(path), secret=b"s", source_id="s", terms=COMMENTS)

    assert [p.title for b in collection for p in b.posts] == ["a ? b"]


def _opened(path: Path) -> tuple[Any, Any, Any]:
    export = open_export(path)
    return export, *detect(export)[0]


def test_real_listings_give_as_many_posts_and_images_as_counted_otherwise(shared):
    for path in sorted((shared / "data/exports/reddit").glob("*.json")):
        collection = collect(*_opened(path), secret=b"s", source_id="s", terms=COMMENTS)
        batches = list(collection)
        posts = sum(len(b.posts) for b in batches)
        images = sum(len(b.media) for b in batches)

        assert (posts, images) == _counted(json.loads(path.read_bytes())), path.name
        skipped = json.loads(collection.source.skipped)
        missed = sum(n for word, n in skipped.items() if not word.startswith("media: "))
        assert collection.source.seen == posts + missed


def _counted(document: Any) -> tuple[int, int]:
    """Posts and images of a listing, counted by another rule: by what its media entries say."""
    listings = document if isinstance(document, list) else [document]
    things = [c["data"] for x in listings for c in x["data"]["children"]]
    per_post = Counter({t["name"]: _images_of(t) for t in things})
    return sum(1 for n in per_post.values() if n), per_post.total()


def _images_of(thing: dict[str, Any]) -> int:
    shown = (thing.get("crosspost_parent_list") or [thing])[0]
    entries = (shown.get("media_metadata") or {}).values()
    valid = sum(
        1 for e in entries if e["status"] == "valid" and e["e"] in ("Image", "AnimatedImage")
    )
    return valid or int(shown.get("post_hint") == "image")
