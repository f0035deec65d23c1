import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collectors import pinterest
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "pinterest"
SIGNATURE = "0123456789abcdef0123456789abcdef"
SERVER = "https://i.pinimg.com"
STEP = f"01/23/45/{SIGNATURE}"


def size(key: str, width: int = 9) -> dict[str, Any]:
    return {"url": f"{SERVER}/{key}/{STEP}.jpg", "width": width, "height": width}


def pin(**fields: Any) -> dict[str, Any]:
    pinner = {"id": "8", "username": "odile"}
    images = {"236x": size("236x", 236), "orig": size("originals", 1000)}
    return {"type": "pin", "id": "112", "pinner": pinner, "images": images, **fields}


def one(**fields: Any) -> Found | Skip:
    [result] = pinterest.parse(pin(**fields), "pins")
    return result


def image(**fields: Any) -> Found:
    result = one(**fields)
    assert isinstance(result, Found)
    return result


def results(path: Path, format: str) -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in pinterest.read(export, format) if r.record is not None]
    return [result for record in records for result in pinterest.parse(record, format)]


# ---------------------------------------------------------------- pins


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: p,
        lambda p: [p],
        lambda p: {"resource_response": {"data": [p]}},
        lambda p: {"resource_response": {"data": {"results": [p]}}},
        lambda p: {"items": [p], "bookmark": None},
        lambda p: {"source_platform": "pinterest.com", "item_id": "1", "data": p},
    ],
    ids=["pin", "list", "answer", "search", "api", "zeeschuimer"],
)
def test_a_pin_is_found_in_whatever_it_is_wrapped(tmp_path, wrap):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(pin())))

    assert pinterest.recognise(open_export(path)) == "pins"
    [result] = results(path, "pins")
    assert isinstance(result, Found)
    assert result.post.post_id == "112"


@pytest.mark.parametrize(
    "fields",
    [
        {"images": {"236x": size("236x", 2000), "orig": size("originals")}},
        {"images": None, "imageSpec_orig": size("originals")},
        {
            "images": None,
            "media": {"media_type": "image", "images": {"originals": size("originals")}},
        },
    ],
    ids=["web", "relay", "api"],
)
def test_the_original_is_taken_before_a_larger_claim(fields):
    [media] = image(**fields).media

    assert media.url == f"{SERVER}/originals/{STEP}.jpg"
    assert media.fallback_urls == ()
    assert (media.claimed_width, media.rendition) == (9, "original")


@pytest.mark.parametrize(
    "fields",
    [
        {"images": {"236x": size("236x", 236), "736x": size("736x", 736)}},
        {"images": {"url": f"{SERVER}/736x/{STEP}.jpg"}},
        {"images": None, "image": {"url": f"{SERVER}/736x/{STEP}.jpg", "width": 736}},
        {"images": None, "image": f"{SERVER}/736x/{STEP}.jpg"},
    ],
    ids=["sizes", "one size", "third party", "html"],
)
def test_where_there_is_no_original_its_address_is_one_step_away(fields):
    [media] = image(**fields).media

    assert media.url == f"{SERVER}/originals/{STEP}.jpg"
    assert media.fallback_urls == (f"{SERVER}/736x/{STEP}.jpg",)
    assert (media.claimed_type, media.claimed_width) == (None, None)  # not said of the original


def test_a_picture_elsewhere_keeps_its_address():
    [media] = image(images={"736x": {"url": "https://a.example/736x/p.jpg", "width": 7}}).media

    assert (media.url, media.rendition) == ("https://a.example/736x/p.jpg", "preview")


def test_a_carousel_and_an_idea_keep_the_order_of_their_pictures():
    found = [r for r in results(SAMPLES / "pins.json", "pins") if isinstance(r, Found)]
    carousel, idea = found[2], found[3]

    assert [str(m.url)[-8:] for m in carousel.media] == ["3a2b.jpg", "3a2c.jpg"]
    assert [m.position for m in idea.media] == [0, 2]
    assert idea.missed == ("video",)


def test_an_idea_of_one_page_is_its_picture_as_the_pin_gives_it():
    block = {"type": "story_pin_image_block", "image": {"images": {"736x": size("736x")}}}

    [media] = image(story_pin_data={"pages": [{"blocks": [block]}]}).media

    assert media.claimed_width == 1000


def test_a_page_of_which_only_the_signature_is_known_has_an_address_made_of_it():
    blocks = [{"type": "story_pin_image_block", "image_signature": SIGNATURE}] * 2

    first, _ = image(story_pin_data={"pages": [{"blocks": blocks}]}).media

    assert first.url == f"{SERVER}/originals/{STEP}.jpg"
    assert [u.rsplit(".", 1)[-1] for u in first.fallback_urls] == ["png", "webp", "gif", "jpg"]
    assert first.claimed_type is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"videos": {"video_list": {}, "id": "1"}}, "video"),
        ({"isVideo": True}, "video"),
        ({"board": {"privacy": "secret"}}, "not public"),
        ({"privacy": "protected"}, "not public"),
        ({"is_promoted": True}, "promoted"),
        ({"promoter": {"id": "1"}}, "promoted"),
        ({"type": "story"}, "not a post"),
        ({"id": None}, "no id"),
        ({"images": None}, "media not included"),
    ],
    ids=lambda v: v if isinstance(v, str) else next(iter(v)),
)
def test_what_is_not_taken_is_said(fields, reason):
    assert one(**fields) == Skip(reason)


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({}, None),
        ({"parent_pin_id": "55"}, "pinterest/55"),
        ({"pin_join": {"canonical_pin": {"id": "66"}}}, "pinterest/66"),
        ({"pinJoin": {"canonicalPin": {"entityId": "77"}}}, "pinterest/77"),
        ({"pin_join": {"canonical_pin": {"id": "112"}}}, None),
    ],
)
def test_a_pin_is_led_back_to_the_one_it_was_saved_from(fields, origin):
    assert image(**fields).post.repost_of == origin


def test_only_what_a_person_wrote_is_a_description():
    described = image(alt_text="a fox", auto_alt_text="a dog").media[0]
    machine = image(auto_alt_text="a dog").media[0]

    assert (described.alt, machine.alt) == ("a fox", None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Mon, 02 Mar 2026 09:00:00 +0000", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("2026-03-02T09:00:00", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("Mon, 02 Mar 2026 09:00:00", None),
        ("soon", None),
        (None, None),
    ],
)
def test_times_of_the_web_client_and_of_the_api_are_read(value, expected):
    assert image(created_at=value).post.created_at == expected


def test_every_name_on_a_pin_is_a_handle_and_none_is_in_its_link():
    found = [r for r in results(SAMPLES / "pins.json", "pins") if isinstance(r, Found)]

    assert found[1].post.handles == ("pseudonym_marker", "Odile Brandt", "river.folk", "River Folk")
    assert all("pseudonym_marker" not in str(f.post.permalink) for f in found)
    assert found[0].post.flair == "Lanterns"


@pytest.mark.parametrize(
    ("bookmarks", "partial"),
    [(["abc"], True), (["abc", "-end-"], False), ([None], False), (["abc", "def"], True)],
)
def test_only_a_list_that_goes_on_after_its_last_page_is_partial(tmp_path, bookmarks, partial):
    path = tmp_path / "a.jsonl"
    pages = [{"resource_response": {"data": [pin()], "bookmark": mark}} for mark in bookmarks]
    path.write_text("\n".join(json.dumps(page) for page in pages))

    told = [r.partial for r in pinterest.read(open_export(path), "pins") if r.partial]

    assert bool(told) is partial


def test_a_crawlers_side_file_is_left_to_its_own_collector(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**pin(), "category": "pinterest", "subcategory": "board"}))

    assert pinterest.recognise(open_export(path)) is None


# ---------------------------------------------------------------- one's own data


def test_a_pin_of_the_page_has_its_texts_with_their_lines():
    first = next(r for r in results(SAMPLES / "download", "download") if isinstance(r, Found))

    assert first.post.title == "Lanterns & rivers 🏮"
    assert first.post.text is not None
    assert first.post.text.startswith(
        "by @pseudonym_marker, #AIart: a note\nwith a line\nand another"
    )
    assert first.post.created_at == datetime(2017, 2, 13, 15, 35, 1, tzinfo=UTC)
    assert first.post.flair == "Lanterns"
    assert first.media[0].alt == "Paper lanterns"


def test_what_the_page_does_not_give_is_said_and_comments_are_no_pins():
    reasons = [r.reason for r in results(SAMPLES / "download", "download") if isinstance(r, Skip)]

    assert Counter(reasons) == {"media not included": 1, "not public": 1, "deleted": 1, "video": 1}


def test_no_ip_address_is_in_a_record():
    export = open_export(SAMPLES / "download")

    assert b"203.0.113.77" in export.read("pinterest.html")
    assert "203.0.113.77" not in repr(list(pinterest.read(export, "download")))


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_the_page_is_read_the_same_wherever_its_pieces_end(sizes):
    whole = (SAMPLES / "download" / "pinterest.html").read_bytes()
    pieces, at = [], 0
    while at < len(whole):
        step = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[at : at + step])
        at += step

    assert list(pinterest._pins_in(pieces)) == list(pinterest._pins_in([whole]))


def test_a_page_in_a_zip_is_recognised_and_another_page_is_not(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(SAMPLES / "download" / "pinterest.html", "data/pins.html")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<a href="https://www.pinterest.com/x">me</a>')

    assert pinterest.recognise(open_export(path)) == "download"
    assert pinterest.recognise(open_export(tmp_path / "other")) is None
