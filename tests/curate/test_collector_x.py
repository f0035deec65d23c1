import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, x
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.records import Media, Post, Source

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "x"
FIRST = "2029905354552246272"


def collected(path: Path) -> tuple[list[Post], list[Media], Source]:
    export = open_export(path)
    collection = collect(export, *detect(export)[0], secret=b"s", source_id="s")
    batches = list(collection)
    return (
        [p for b in batches for p in b.posts],
        [m for b in batches for m in b.media],
        collection.source,
    )


def status(**fields: Any) -> dict[str, Any]:
    base = {"id_str": "20", "id": 20, "full_text": "t", "entities": {}, "created_at": ""}
    return {**base, **fields}


def photo(**fields: Any) -> dict[str, Any]:
    url = "https://pbs.twimg.com/media/A.jpg"
    return {"type": "photo", "id_str": "3", "media_url_https": url, **fields}


def test_an_archive_gives_posts_with_their_local_files():
    posts, media, source = collected(SAMPLES / "archive")

    two = [m for m in media if m.post_id == FIRST]
    assert [m.member for m in two] == [
        f"data/tweets_media/{FIRST}-AAAfirst.jpg",
        f"data/tweets_media/{FIRST}-BBBsecond.png",
    ]
    assert two[0].url == "https://pbs.twimg.com/media/AAAfirst.jpg?name=orig"
    assert two[0].fallback_urls == (
        "https://pbs.twimg.com/media/AAAfirst.jpg?name=4096x4096",
        "https://pbs.twimg.com/media/AAAfirst.jpg",
    )
    assert {m.rendition for m in media} == {"re-encode"}
    assert json.loads(source.skipped) == {
        "deleted": 1,
        "no image": 1,
        "not public": 1,
        "video": 1,
    }
    assert (source.seen, source.kept, source.complete) == (9, len(posts), True)


def test_an_archive_as_zip_or_one_folder_deeper_gives_the_same(tmp_path):
    folder = SAMPLES / "archive"
    for prefix in ("", "twitter-2026-03-08/"):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.*")):
                archive.write(file, prefix + file.relative_to(folder).as_posix())

        posts, media, _ = collected(path)

        assert posts
        assert posts == collected(folder)[0]
        assert media[0].member
        assert media[0].member.startswith(f"{prefix}data/")


def test_a_repost_in_an_archive_is_told_by_its_text_and_foreign_media():
    posts, _, _ = collected(SAMPLES / "archive")

    assert [p.repost_of for p in posts if p.text and p.text.startswith("RT @")] == [
        "x/1700000000000000000"
    ]


def test_a_long_post_gets_its_whole_text_and_later_hashtags():
    posts, _, _ = collected(SAMPLES / "archive")

    [long] = [p for p in posts if "Later" in p.hashtags]
    assert long.text
    assert long.text.endswith("and then ends #Later")


def test_a_year_that_the_id_contradicts_is_mended():
    posts, _, _ = collected(SAMPLES / "archive")

    assert {p.created_at.year for p in posts if p.created_at} == {2026}


def test_texts_hold_no_handle_and_no_link_to_their_own_picture():
    posts, _, _ = collected(SAMPLES / "archive")

    [two] = [p for p in posts if p.post_id == FIRST]
    assert two.text == "Two & more by @user #MadeUp https://x.com/user/status/1"
    assert two.permalink == f"https://x.com/i/web/status/{FIRST}"
    assert "made_up" not in repr(posts)


def test_pseudo_languages_are_unknown():
    assert {p.language for p in collected(SAMPLES / "archive")[0]} == {"en", None}


def test_the_old_name_of_the_tweet_file_is_read(tmp_path):
    (tmp_path / "tweet.js").write_text(
        "window.YTD.tweet.part0 = [ "
        + json.dumps({"tweet": status(extended_entities={"media": [photo()]})})
        + " ]"
    )

    posts, _, source = collected(tmp_path / "tweet.js")

    assert [(p.post_id, p.author) for p in posts] == [("20", None)]
    assert source.complete


def test_a_partial_or_cut_archive_says_that_it_is_not_complete(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    tweets = (SAMPLES / "archive/data/tweets.js").read_text()
    (folder / "tweets.js").write_text(tweets[: len(tweets) // 2])
    (folder / "manifest.js").write_text(
        'window.__THAR_CONFIG = {"userInfo":{}, "archiveInfo":{"isPartialArchive": true}}'
    )

    posts, _, source = collected(tmp_path)

    assert posts
    assert not source.complete
    assert source.detail
    assert "partial" in source.detail
    assert "cut off" in source.detail


def test_a_repost_whose_origin_nobody_says_is_not_kept():
    record = {"tweet": status(full_text="RT @a: x", extended_entities={"media": [photo()]})}

    assert x.parse(record, "archive") == (Skip("repost without origin"),)


@pytest.mark.parametrize(
    ("format", "record"),
    [
        ("v1.1", {"user": {"id_str": "42", "protected": True}}),
        ("api-v2", {"author": {"id": "42", "protected": True}}),
        ("snscrape", {"user": {"id": 42, "protected": True}}),
        ("graphql", {"core": {"user_results": {"result": {"privacy": {"protected": True}}}}}),
        ("graphql", {"core": {"user_results": {"result": {"legacy": {"protected": True}}}}}),
    ],
)
def test_a_post_of_a_protected_account_is_not_public(format, record):
    assert x.parse({**status(), **record}, format) == (Skip("not public"),)


def test_ids_are_text_even_where_numbers_are_rounded():
    raw = status(id=861696799362478100, id_str="861696799362478085")

    [found] = x.parse({**raw, "extended_entities": {"media": [photo()]}}, "v1.1")

    assert isinstance(found, Found)
    assert found.post.post_id == "861696799362478085"


def test_all_images_come_from_the_extended_entities():
    both = [photo(id_str="3"), photo(id_str="4")]
    raw = status(entities={"media": both[:1]}, extended_entities={"media": both})

    [found] = x.parse(raw, "v1.1")

    assert isinstance(found, Found)
    assert [m.media_id for m in found.media] == ["3", "4"]


@pytest.mark.parametrize(
    "odd",
    [
        {"data": [{"id": "1", "attachments": "x", "referenced_tweets": [None, {"id": []}]}]},
        {"data": [{"id": "1", "attachments": {"media_keys": [None, {}, []]}}, None, 7]},
        {"data": [{"id": "1", "author_id": []}], "includes": {"media": [None, 5], "users": "x"}},
        {"data": {"id": "1"}, "includes": {"tweets": [{"id": {}}], "users": [{"id": []}]}},
        {"data": [{"id": "1", "text": 5, "entities": [], "public_metrics": "many"}]},
    ],
)
def test_an_odd_page_does_not_end_the_reading(tmp_path, odd):
    good = (SAMPLES / "api-v2.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(
        good + json.dumps(odd) + "\n" + good.replace("20299", "20298")
    )

    posts, _, source = collected(tmp_path / "a.jsonl")

    assert len(posts) == 6
    assert source.seen > 12


def test_a_capture_however_deep_is_read(tmp_path):
    tweet: Any = {"tweet_results": {"result": {"__typename": "Tweet", "rest_id": "20"}}}
    tweet["tweet_results"]["result"]["legacy"] = status(extended_entities={"media": [photo()]})
    for _ in range(900):
        tweet = [tweet]
    (tmp_path / "a.json").write_text(json.dumps(tweet))

    posts = [r.record for r in x.read(open_export(tmp_path / "a.json"), "graphql")]

    assert [p["rest_id"] for p in posts] == ["20"]


def test_half_a_character_and_absurd_counts_do_not_reach_a_row(tmp_path):
    raw = status(
        full_text="a \ud83d b", favorite_count="9" * 40, extended_entities={"media": [photo()]}
    )
    (tmp_path / "tweets.js").write_text("window.YTD.tweets.part0 = " + json.dumps([{"tweet": raw}]))

    [post], _, _ = collected(tmp_path / "tweets.js")

    assert (post.text, post.score) == ("a ? b", None)


def test_a_deleted_post_is_withdrawn_and_a_circle_is_not_public():
    export = open_export(SAMPLES / "archive")
    records = [r.record for r in x.read(export, "archive") if r.record]
    skips = [s for record in records for s in x.parse(record, "archive") if isinstance(s, Skip)]

    assert Skip("deleted", withdrawn="2029905354552246278") in skips
    assert Skip("not public") in skips


def test_a_post_in_a_community_names_it_and_has_its_local_file():
    posts, media, _ = collected(SAMPLES / "archive")

    [post] = [p for p in posts if p.community]
    assert (post.community, post.text) == (
        "1500000000000000001",
        "In a community \u2728 #MadeUp",
    )
    assert [m.member for m in media if m.post_id == post.post_id] == [
        f"data/community_tweet_media/{post.post_id}-Community.jpg"
    ]


def part(folder: Path, number: int, names: list[str]) -> None:
    """One of the folders that the zips of a large archive unpack to."""
    data = folder / f"twitter-2026-03-08-part{number}" / "data"
    (data / "tweets_media").mkdir(parents=True)
    (data / "manifest.js").write_bytes((SAMPLES / "archive/data/manifest.js").read_bytes())
    for name in names:
        (data / name).write_bytes((SAMPLES / "archive/data" / name).read_bytes())


def test_an_archive_in_several_parts_is_one_and_a_part_that_is_missing_is_told(tmp_path):
    part(tmp_path, 1, ["tweets.js", f"tweets_media/{FIRST}-AAAfirst.jpg"])
    _, _, alone = collected(tmp_path)
    part(tmp_path, 2, ["tweets-part1.js", "note-tweet.js", f"tweets_media/{FIRST}-BBBsecond.png"])
    posts, media, whole = collected(tmp_path)

    assert not alone.complete
    assert alone.detail == "the manifest names tweets-part1.js, which is not here"
    assert (whole.complete, whole.kept) == (True, 4)
    assert {p.author for p in posts} == {posts[0].author}
    assert sum(m.member is not None for m in media if m.post_id == FIRST) == 2


def test_a_file_with_fewer_posts_than_its_manifest_states_is_partial(tmp_path):
    part(tmp_path, 1, ["tweets.js", "tweets-part1.js"])
    [file] = tmp_path.rglob("tweets.js")
    file.write_text(
        "window.YTD.tweets.part0 = "
        + json.dumps([{"tweet": status(extended_entities={"media": [photo()]})}])
    )

    _, _, source = collected(tmp_path)

    assert not source.complete
    assert source.detail
    assert source.detail.endswith("tweets.js has 1 of the 4 posts that it should have")


def test_the_old_folder_of_media_is_found(tmp_path):
    (tmp_path / "tweet_media").mkdir()
    (tmp_path / "tweet_media/20-A.jpg").write_bytes(b"x")
    (tmp_path / "tweet.js").write_text(
        "window.YTD.tweet.part0 = "
        + json.dumps([{"tweet": status(extended_entities={"media": [photo()]})}])
    )

    _, [media], _ = collected(tmp_path)

    assert media.member == "tweet_media/20-A.jpg"


def test_the_oldest_archives_hold_one_file_for_each_month(tmp_path):
    folder = tmp_path / "data/js/tweets"
    folder.mkdir(parents=True)
    old = {
        "id_str": "155555555555555555",
        "id": 155555555555555555,
        "text": "Old days #MadeUp http://t.co/pic",
        "created_at": "2012-01-07 10:11:12 +0000",
        "user": {"id_str": "42", "screen_name": "made_up_account"},
        "entities": {
            "hashtags": [{"text": "MadeUp", "indices": [9, 16]}],
            "media": [photo(sizes=[{"h": 300, "w": 400}], url="http://t.co/pic", type=None)],
        },
    }
    again = {**old, "id_str": "155555555555555999", "text": "RT @made_up_account: Old days"}
    again |= {"retweeted_status": old, "user": {"id_str": "43", "screen_name": "made_up_other"}}
    (folder / "2012_01.js").write_text(
        "Grailbird.data.tweets_2012_01 = \n" + json.dumps([old, {**again, "entities": {}}])
    )

    posts, media, source = collected(tmp_path)

    assert [(p.post_id, p.repost_of) for p in posts] == [
        ("155555555555555555", None),
        ("155555555555555999", "x/155555555555555555"),
    ]
    assert (posts[0].text, posts[0].hashtags) == ("Old days #MadeUp", ("MadeUp",))
    assert posts[0].created_at == datetime(2012, 1, 7, 10, 11, 12, tzinfo=UTC)
    assert (len(media), source.complete) == (2, True)


@pytest.mark.parametrize(
    ("url", "largest", "others"),
    [
        ("m/A.png", "m/A.png?name=orig", ["m/A.png?name=4096x4096", "m/A.png"]),
        ("m/A.jpg:large", "m/A.jpg?name=orig", ["m/A.jpg?name=4096x4096", "m/A.jpg:large"]),
        (
            "m/A?format=png&name=small",
            "m/A?format=png&name=orig",
            ["m/A?format=png&name=4096x4096", "m/A?format=png&name=small"],
        ),
        (
            "m/A?format=jpg&name=orig",
            "m/A?format=jpg&name=orig",
            ["m/A?format=jpg&name=4096x4096"],
        ),
        (
            "m/A.jpg?format=webp&name=small",
            "m/A.jpg?name=orig",
            ["m/A.jpg?name=4096x4096", "m/A.jpg?format=webp&name=small"],
        ),
    ],
)
def test_the_largest_picture_is_asked_for_in_the_format_it_was_made_in(url, largest, others):
    host = "https://pbs.twimg.com/"
    media = [photo(media_url_https=host + url)]

    [found] = x.parse(status(extended_entities={"media": media}), "v1.1")

    assert isinstance(found, Found)
    assert found.media[0].url == host + largest
    assert list(found.media[0].fallback_urls) == [host + other for other in others]


def test_snscrape_is_read_with_its_old_and_its_new_names():
    posts, media, source = collected(SAMPLES / "snscrape.jsonl")

    assert [p.text for p in posts] == [
        "Two & a clip by @user #MadeUp \u2728 https://example.org/a",
        "The first #MadeUp",
        "Older names \u540d\u524d https://example.org/b",
    ]
    assert [(m.post_id[-2:], m.position, m.alt) for m in media] == [
        ("72", 0, "a castle"),
        ("72", 2, None),
        ("73", 0, None),
        ("74", 0, None),
    ]
    assert posts[1].repost_of == "x/1700000000000000001"
    assert json.loads(source.skipped) == {
        "broken line": 1,
        "media: video": 1,
        "no image": 1,
        "not found": 1,
        "video": 1,
    }


def test_twscrape_keeps_photos_in_order_and_counts_what_is_not_one():
    posts, media, source = collected(SAMPLES / "twscrape.jsonl")

    first = [m for m in media if m.post_id == FIRST]
    assert [(m.position, m.url) for m in first] == [
        (0, "https://pbs.twimg.com/media/TWone.jpg?name=orig"),
        (1, "https://pbs.twimg.com/media/TWtwo.jpg?name=orig"),
    ]
    assert [p.sensitive for p in posts] == [False, False, True]
    assert json.loads(source.skipped)["media: video"] == 2


@pytest.mark.parametrize("name", ["snscrape.jsonl", "twscrape.jsonl"])
def test_places_and_names_of_scraped_tweets_do_not_reach_a_row(name):
    posts, media, _ = collected(SAMPLES / name)

    for secret in ("pseudonym_marker", "48.85837", "Made Up"):
        assert secret in (SAMPLES / name).read_text()
        assert secret not in repr((posts, media))


@pytest.mark.parametrize(
    ("name", "posts", "images"),
    [
        ("api_v2_edited.jsonl", 0, 0),
        ("api_v2_flat.jsonl", 1, 1),
        ("api_v2_pages.jsonl", 16, 16),
        ("api_v2_edited_before.jsonl", 1, 1),
        ("api_v2_stream_error.jsonl", 2, 2),
        ("graphql_search.json", 13, 25),
    ],
)
def test_real_answers_are_read(shared, name, posts, images):
    got, media, source = collected(shared / "data/exports/x" / name)

    assert (len(got), len(media)) == (posts, images)
    assert source.kept + sum(json.loads(source.skipped).values()) >= source.seen


def test_real_statuses_give_every_photo_of_their_extended_entities(shared):
    path = shared / "data/exports/x/v11_home_timeline.json"
    want = {}
    for raw in json.loads(path.read_bytes()):
        shown = raw.get("retweeted_status", raw)
        photos = list(shown.get("extended_entities", {}).get("media", ()))
        want[raw["id_str"]] = [m["id_str"] for m in photos if m["type"] == "photo"]

    _, media, _ = collected(path)
    got: dict[str, list[str | None]] = {}
    for item in media:
        got.setdefault(item.post_id, []).append(item.media_id)

    assert got == {post: ids for post, ids in want.items() if ids}


def test_a_real_retweet_has_the_whole_text_and_all_tags_of_its_original(shared):
    path = shared / "data/exports/x/v11_home_timeline.json"
    shown = {r["id_str"]: r.get("retweeted_status", r) for r in json.loads(path.read_bytes())}

    posts, _, _ = collected(path)

    for post in posts:
        tags = [tag["text"] for tag in shown[post.post_id]["entities"]["hashtags"]]
        assert list(post.hashtags) == list(dict.fromkeys(tags))
        assert not (post.text or "").startswith("RT @")
    assert sum(len(post.hashtags) for post in posts) == 49
