import json
import zipfile
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
    assert two[0].fallback_urls == ("https://pbs.twimg.com/media/AAAfirst.jpg",)
    assert {m.rendition for m in media} == {"re-encode"}
    assert json.loads(source.skipped) == {"deleted": 1, "no image": 1, "video": 1}
    assert (source.seen, source.kept, source.complete) == (7, len(posts), True)


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


def test_half_a_character_and_absurd_counts_do_not_reach_a_row(tmp_path):
    raw = status(
        full_text="a \ud83d b", favorite_count="9" * 40, extended_entities={"media": [photo()]}
    )
    (tmp_path / "tweets.js").write_text("window.YTD.tweets.part0 = " + json.dumps([{"tweet": raw}]))

    [post], _, _ = collected(tmp_path / "tweets.js")

    assert (post.text, post.score) == ("a ? b", None)


@pytest.mark.parametrize(
    ("name", "posts", "images"),
    [
        ("api_v2_edited.jsonl", 0, 0),
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
