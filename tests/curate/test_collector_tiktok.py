import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, tiktok
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "tiktok"
PICTURE = "https://p16.example/tos/one~tplv-photomode-image.jpeg?x-expires=9&x-signature=a%3D"


def item(**fields: Any) -> dict[str, Any]:
    pictures = {"images": [{"imageURL": {"urlList": [PICTURE]}}]}
    author = {"id": "6", "uniqueId": "odile"}
    known = {"id": "76", "createTime": 1772442000, "desc": "", "author": author, "challenges": []}
    return {**known, "imagePost": pictures, **fields}


def results(path: Path, format: str) -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in tiktok.read(export, format) if r.record is not None]
    return [result for record in records for result in tiktok.parse(record, format)]


def written(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def own(tmp_path: Path, *posts: Any, **sections: Any) -> list[Found | Skip]:
    document = {"Post": {"Posts": {"VideoList": list(posts)}}, **sections}
    return results(written(tmp_path, "user_data_tiktok.json", document), "download")


def post(**fields: Any) -> dict[str, Any]:
    return {"Date": "2026-03-02 10:00:00", "Link": PICTURE, "Likes": "3", **fields}


# ---------------------------------------------------------------- items


@pytest.mark.parametrize(
    "wrap",
    [
        lambda i: i,
        lambda i: [i],
        lambda i: {"itemList": [i]},
        lambda i: {"source_platform": "tiktok.com", "data": i},
        lambda i: {"data": [{"type": 1, "item": i}]},
        lambda i: {"ItemModule": {"76": i}},
        lambda i: {"itemInfo": {"itemStruct": i}},
        lambda i: {"__DEFAULT_SCOPE__": {"webapp.video-detail": {"itemInfo": {"itemStruct": i}}}},
    ],
    ids=["bare", "list", "page", "zeeschuimer", "search", "module", "detail", "page state"],
)
def test_an_item_is_found_in_whatever_it_is_wrapped(tmp_path, wrap):
    path = written(tmp_path, "a.json", wrap(item()))

    assert tiktok.recognise(open_export(path)) == "items"
    [result] = results(path, "items")
    assert isinstance(result, Found)
    assert result.post.post_id == "76"


def test_the_research_api_gives_videos_only(tmp_path):
    video = {"id": 7, "video_description": "d", "create_time": 1, "region_code": "US"}
    path = written(tmp_path, "a.json", {"data": {"videos": [video, video], "has_more": False}})

    assert tiktok.recognise(open_export(path)) == "items"
    assert results(path, "items") == [Skip("video"), Skip("video")]


def test_a_crawlers_side_file_is_left_to_its_own_collector(tmp_path):
    path = written(tmp_path, "a.json", {**item(), "category": "tiktok", "subcategory": "post"})

    assert tiktok.recognise(open_export(path)) is None


def test_a_list_in_one_file_is_read_as_a_stream_and_keeps_what_precedes_a_break(tmp_path):
    path = tmp_path / "a.json"
    whole = json.dumps([item(id="1"), item(id="2")])
    path.write_text(whole[: whole.rindex('"2"')])
    [(collector, format)] = detect(open_export(path))

    collection = collect(open_export(path), collector, format, secret=b"s", source_id="s")
    kept = [row.post_id for batch in collection for row in batch.posts]

    assert kept == ["1"]
    assert not collection.source.complete


def test_pictures_keep_every_signed_address_and_their_place():
    first = next(r for r in results(SAMPLES / "items.ndjson", "items") if isinstance(r, Found))

    assert [m.position for m in first.media] == [0, 1, 3]
    assert first.missed == ("media not included",)
    assert first.media[0].url == (
        "https://p16-sign.tiktokcdn.com/tos-alisg-i-photomode-sg/pic1~tplv-photomode-image.jpeg"
        "?dr=9640&x-expires=1772600000&x-signature=AbC%2Bd%3D&shp=1"
    )
    assert str(first.media[0].fallback_urls[0]).startswith("https://p19-")
    assert {m.rendition for m in first.media} == {"re-encode"}


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("privateItem", "not public"),
        ("secret", "not public"),
        ("forFriend", "not public"),
        ("isAd", "promoted"),
    ],
)
def test_what_not_everybody_may_see_and_advertisements_are_dropped(flag, reason):
    assert tiktok.parse(item(**{flag: True}), "items") == (Skip(reason),)


def test_hashtags_are_spelt_as_in_the_text_and_once():
    record = item(
        textExtra=[{"hashtagName": "AIart"}, {"userUniqueId": "ivo"}, None],
        challenges=[{"title": "aiart"}, {"title": "fyp"}],
    )

    [result] = tiktok.parse(record, "items")

    assert isinstance(result, Found)
    assert result.post.hashtags == ("AIart", "fyp")
    assert result.post.handles == ("odile", "ivo")


def test_no_name_is_in_a_permalink_or_an_id():
    for format, name in (("items", "items.ndjson"), ("download", "download")):
        for result in results(SAMPLES / name, format):
            if isinstance(result, Found):
                said = f"{result.post.permalink} {result.post.post_id}"
                assert not any(handle in said for handle in result.post.handles)


# ---------------------------------------------------------------- the download


def test_own_posts_are_those_with_links_to_pictures():
    reasons = [r.reason for r in results(SAMPLES / "download", "download") if isinstance(r, Skip)]

    assert Counter(reasons) == {
        "video": 1,
        "not public": 1,
        "no id": 1,
        "media not included": 1,
        "recently deleted": 1,
    }


def test_the_time_is_utc_and_the_owner_is_known_though_he_stands_last():
    first = next(r for r in results(SAMPLES / "download", "download") if isinstance(r, Found))

    assert first.post.created_at == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert first.post.author_id == "name:pseudonym_marker"
    assert first.post.flair == "AI-generated"
    assert [m.alt for m in first.media] == [None, None]  # one text for two pictures


@pytest.mark.parametrize(
    "section",
    [
        {"Video": {"Videos": {"VideoList": [post()]}}},
        {"Videos": {"VideoList": [post()]}},
        {"Activity": {"Videos": {"VideoList": [post()]}}},
        {"Post": {"Posts": {"VideoList": [post()]}}},
    ],
    ids=lambda s: next(iter(s)),
)
def test_the_section_of_own_posts_is_found_under_each_of_its_names(tmp_path, section):
    path = written(tmp_path, "user_data.json", section)

    assert tiktok.recognise(open_export(path)) == "download"
    [result] = results(path, "download")
    assert isinstance(result, Found)


def test_posts_watched_or_liked_are_not_own_posts(tmp_path):
    watched = {"Watch History": {"VideoList": [post()]}}

    assert own(tmp_path, **{"Your Activity": watched}) == []


def test_an_empty_section_is_null_and_gives_nothing(tmp_path):
    path = written(tmp_path, "user_data.json", {"Post": {"Posts": {"VideoList": None}}})

    assert tiktok.recognise(open_export(path)) == "download"
    assert results(path, "download") == []


def test_two_downloads_give_a_post_the_same_id_though_signatures_differ(tmp_path):
    [once] = own(tmp_path, post())
    [again] = own(tmp_path, post(Link=PICTURE.replace("a%3D", "b%3D")))
    [other] = own(tmp_path, post(Date="2026-03-02 10:00:01"))

    assert isinstance(once, Found)
    assert isinstance(again, Found)
    assert isinstance(other, Found)
    assert once.post.post_id == again.post.post_id != other.post.post_id


@pytest.mark.parametrize("seen_by", ["Only you", "Friends", "Followers"])
def test_an_own_post_for_few_is_dropped(tmp_path, seen_by):
    assert own(tmp_path, post(WhoCanView=seen_by)) == [Skip("not public")]


def test_one_picture_has_the_description_that_its_author_wrote(tmp_path):
    [result] = own(tmp_path, post(AlternateText="a fox", Title="N/A"))

    assert isinstance(result, Found)
    assert result.media[0].alt == "a fox"
    assert result.post.title is None
