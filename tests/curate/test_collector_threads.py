import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, instagram, threads
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports"


def results(path: Path) -> list[Found | Skip]:
    export = open_export(path)
    form = threads.recognise(export)
    assert form is not None
    raws = [r for r in threads.read(export, form) if r.record is not None]
    return [result for raw in raws for result in threads.parse(raw.record, form)]


def found(path: Path) -> list[Found]:
    return [r for r in results(path) if isinstance(r, Found)]


def skipped(path: Path) -> Counter[str]:
    return Counter(r.reason for r in results(path) if isinstance(r, Skip))


def official(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "18000000000000001",
        "media_product_type": "THREADS",
        "media_type": "IMAGE",
        "media_url": "https://scontent.example.net/v/a.jpg?oe=65",
        "permalink": "https://www.threads.net/@cy.renders/post/DGutJ0AAAAB",
        "username": "cy.renders",
        "text": "a picture #AIart",
        "timestamp": "2026-02-11T08:53:21+0000",
        "shortcode": "DGutJ0AAAAB",
        "is_quote_post": False,
    }
    return {**base, **fields}


def captured(**fields: Any) -> dict[str, Any]:
    picture = {"candidates": [{"url": "https://e.org/a.jpg", "width": 8, "height": 9}]}
    base = {"code": "C", "pk": "35", "taken_at": 1, "image_versions2": picture}
    return {**base, "text_post_app_info": {}, **fields}


def shares(**fields: Any) -> dict[str, Any]:
    original = captured(code="O", pk="36", caption={"text": "of another"}, **fields)
    return {"share_info": {"reposted_post": original}}


def test_posts_inside_a_download_of_instagram_follow_its_rule_for_captions():
    single, several, reply = found(SAMPLES / "threads/download")

    assert single.post.text == "One picture “quoted” #AIart 🖼️"
    assert single.post.post_id == "17910000000000001"
    assert several.post.text == "Two, for @bo_draws #deux"
    assert several.post.created_at == datetime(2026, 2, 7, 21, 36, 41, tzinfo=UTC)
    assert [m.position for m in several.media] == [0, 1]
    assert all(m.member for item in (single, several, reply) for m in item.media)
    assert {item.post.author_id for item in (single, several, reply)} == {"owner:ana.makes"}
    assert skipped(SAMPLES / "threads/download") == {"no image": 2, "video": 1}


def test_a_download_with_posts_of_both_is_recognised_by_both(tmp_path):
    shutil.copytree(SAMPLES / "instagram/download", tmp_path, dirs_exist_ok=True)
    shutil.copytree(SAMPLES / "threads/download", tmp_path, dirs_exist_ok=True)
    export = open_export(tmp_path)

    both = detect(export)

    assert [(c.PLATFORM, f.name) for c, f in both] == [
        ("instagram", "download"),
        ("threads", "download"),
    ]
    kept = [collect(export, *one, secret=b"s", source_id="s") for one in both]
    assert [sum(len(b.posts) for b in collection) for collection in kept] == [4, 3]


def test_a_download_of_instagram_alone_is_not_one_of_threads():
    assert threads.recognise(open_export(SAMPLES / "instagram/download")) is None
    assert instagram.recognise(open_export(SAMPLES / "threads/download")) is None


def test_captured_items_give_posts_with_their_pictures():
    single, several, repost = found(SAMPLES / "threads/items.ndjson")

    assert single.post.post_id == "DGutJ0AAAAB"
    assert single.post.hashtags == ("AIart", "AI Threads")
    assert single.media[0].url == "https://scontent.example.net/v/t1_n.jpg?oe=65"
    assert [m.position for m in several.media] == [0, 2]
    assert several.missed == ("video",)
    assert repost.post.repost_of == "threads/DGutJ0AAAAJ"
    assert repost.post.text == "the original #urbild"
    assert skipped(SAMPLES / "threads/items.ndjson") == {
        "no image": 1,
        "not a post": 1,
        "not found": 1,
        "not public": 1,
        "video": 1,
    }


def test_no_address_holds_the_name_of_a_person():
    items = found(SAMPLES / "threads/items.ndjson")

    assert all(i.post.handles for i in items)
    assert items[0].post.permalink == "https://www.threads.net/t/DGutJ0AAAAB"


def test_pages_of_the_official_api_are_read(tmp_path):
    children = {
        "data": [
            {
                "id": "1",
                "media_type": "IMAGE",
                "media_url": "https://e.org/1.jpg",
                "alt_text": "Glas",
            },
            {"id": "2", "media_type": "VIDEO", "media_url": "https://e.org/2.mp4"},
            {"id": "3", "media_type": "IMAGE", "media_url": "https://e.org/3.jpg"},
        ]
    }
    page = {
        "data": [
            official(),
            official(id="2", shortcode="B2", media_type="CAROUSEL_ALBUM", children=children),
            official(id="3", shortcode="B3", media_type="TEXT_POST", media_url=None),
            official(id="4", shortcode="B4", media_type="VIDEO"),
            official(id="5", shortcode="B5", media_type="REPOST_FACADE", media_url=None),
            official(id="6", shortcode="B6", timestamp=None),
        ],
        "paging": {"cursors": {}},
    }
    (tmp_path / "page.json").write_text(json.dumps(page, indent=1))

    single, several = found(tmp_path)

    assert single.post.created_at == datetime(2026, 2, 11, 8, 53, 21, tzinfo=UTC)
    assert single.post.permalink == "https://www.threads.net/t/DGutJ0AAAAB"
    assert single.post.handles == ("cy.renders",)
    assert [(m.position, m.alt) for m in several.media] == [(0, "Glas"), (2, None)]
    assert skipped(tmp_path) == {"no image": 1, "no time": 1, "repost": 1, "video": 1}


def test_items_without_a_wrapper_are_read_from_lines_and_from_a_list(tmp_path):
    items = [captured(code=code) for code in ("A", "B", "C")]
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, items)))
    (tmp_path / "b.json").write_text(json.dumps(items, indent=1))

    for name in ("a.ndjson", "b.json"):
        assert [i.post.post_id for i in found(tmp_path / name)] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "item",
    [
        {"text_post_app_info": {}, "code": "C"},
        {"taken_at": 1, "code": "C"},
        {"media_type": "IMAGE"},
    ],
)
def test_what_only_half_looks_like_an_item_is_not_one(tmp_path, item):
    (tmp_path / "a.json").write_text(json.dumps(item))

    assert threads.recognise(open_export(tmp_path)) is None


def test_a_list_of_posts_is_a_download_alone_but_not_beside_others(tmp_path):
    posts = {"text_post_app_text_posts": [{"media": [{"uri": "a_1.jpg", "creation_timestamp": 1}]}]}
    (tmp_path / "mine.json").write_text(json.dumps(posts))
    alone = threads.recognise(open_export(tmp_path))
    (tmp_path / "other.json").write_text("{}")

    assert (alone, threads.recognise(open_export(tmp_path))) == ("download", None)


def test_a_download_that_is_cut_off_says_so(tmp_path):
    posts = {
        "text_post_app_text_posts": [{"media": [{"uri": "a_1.jpg", "creation_timestamp": 1}]}] * 3
    }
    (tmp_path / "threads_and_replies.json").write_text(json.dumps(posts)[:-30])
    export = open_export(tmp_path)

    raws = list(threads.read(export, "download"))

    assert len([r for r in raws if r.record]) == 2
    assert raws[-1].partial


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text_post_app_info": shares(image_versions2=None)}, "repost"),
        ({"text_post_app_info": shares(video_versions=[{"url": "https://e.org/v.mp4"}])}, "video"),
        ({"image_versions2": None}, "no image"),
        ({"image_versions2": None, "carousel_media": [{}, {}]}, "media not included"),
        ({"image_versions2": None, "carousel_media": []}, "no image"),
        ({"taken_at": None}, "no time"),
        ({"code": None, "pk": None}, "no id"),
        ({"user": {"is_private": True}}, "not public"),
    ],
)
def test_why_a_captured_item_is_left_out(fields, reason):
    assert threads.parse(captured(**fields), "items") == (Skip(reason),)


def test_a_captured_item_is_a_repost_only_of_another_post():
    [own] = threads.parse(captured(), "items")
    [repost] = threads.parse(captured(text_post_app_info=shares()), "items")
    [same] = threads.parse(captured(code="O", text_post_app_info=shares()), "items")

    assert [i.post.repost_of for i in (own, repost, same)] == [None, "threads/O", None]
    assert repost.post.text == "of another"


def test_a_page_of_the_api_names_the_original_of_a_repost():
    [own] = threads.parse(official(username=None), "items")
    [repost] = threads.parse(official(reposted_post={"id": "22"}), "items")
    [same] = threads.parse(official(reposted_post={"id": "DGutJ0AAAAB"}), "items")

    assert [i.post.repost_of for i in (own, repost, same)] == [None, "threads/22", None]
    assert (own.post.handles, own.post.author_id) == ((), None)
    assert threads.parse(official(id=None, shortcode=None), "items") == (Skip("no id"),)
    facade = official(media_type="REPOST_FACADE")
    assert isinstance(threads.parse(facade, "items")[0], Found)
    assert threads.parse(official(media_url=None), "items") == (Skip("media not included"),)


@pytest.mark.parametrize("platform", ["instagram.com", "tiktok.com"])
def test_lines_of_other_platforms_are_not_items_of_threads(tmp_path, platform):
    line = {"source_platform": platform, "data": {"text_post_app_info": {}, "taken_at": 1}}
    (tmp_path / "a.ndjson").write_text(json.dumps(line))

    assert threads.recognise(open_export(tmp_path)) is None


def test_a_handle_on_a_page_of_the_api_is_its_author_and_nothing_else():
    [item] = threads.parse(official(), "items")

    assert isinstance(item, Found)
    assert item.post.author_id == "owner:cy.renders"
    shown = item.post._replace(handles=(), author_id=None)
    assert "cy.renders" not in repr((shown, item.media))
