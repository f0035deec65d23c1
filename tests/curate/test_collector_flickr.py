import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, flickr
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "flickr"
SERVED = "https://live.staticflickr.com/65535"


def mine(**fields: Any) -> dict[str, Any]:
    """A photo of a download."""
    return {
        "id": "23500000001",
        "photopage": "https://www.flickr.com/photos/odile_b/23500000001/",
        "original": f"{SERVED}/23500000001_ab_o.jpg",
        "privacy": "public",
        "date_taken": "2015-12-12 13:11:14",
        "date_imported": "2015-12-14 20:01:02",
        **fields,
    }


def listed(**fields: Any) -> dict[str, Any]:
    """A photo of an answer of the API."""
    known = {"id": "23500000001", "owner": "1@N00", "secret": "ab", "server": "65535", "title": "t"}
    return {**known, "ispublic": 1, "dateupload": "1450123262", **fields}


def one(record: dict[str, Any], format: str = "api") -> Found | Skip:
    [result] = flickr.parse({"photo": record} if format == "download" else record, format)
    return result


def image(record: dict[str, Any], format: str = "api") -> Found:
    result = one(record, format)
    assert isinstance(result, Found)
    return result


def results(path: Path, format: str) -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in flickr.read(export, format) if r.record is not None]
    return [result for record in records for result in flickr.parse(record, format)]


# ---------------------------------------------------------------- the download


def downloaded(folder: Path, *names: str, photo_id: str = "23500000001") -> Found | Skip:
    photo = mine(id=photo_id)
    (folder / f"photo_{photo_id}.json").write_text(json.dumps(photo))
    for name in names:
        (folder / name).write_bytes(b"data")
    [result] = results(folder, "download")
    return result


@pytest.mark.parametrize(
    "name",
    [
        "fog-bridge_23500000001_o.jpg",
        "23500000001_ab12cd34ef_o.png",
        "2015-12-12_77_23500000001_o.jpg",
        "23500000001.JPG",
    ],
)
def test_a_file_is_found_by_the_number_in_its_name(tmp_path, name):
    result = downloaded(tmp_path, name, "other_99999999999_o.jpg")

    assert isinstance(result, Found)
    assert result.media[0].member == name
    assert result.media[0].url == f"{SERVED}/23500000001_ab_o.jpg"
    assert result.media[0].rendition == "original"


@pytest.mark.parametrize("name", ["fog_235000000019_o.jpg", "x23500000001_o.jpg", "a_2350_o.jpg"])
def test_another_number_is_another_photo(tmp_path, name):
    result = downloaded(tmp_path, name)

    assert isinstance(result, Found)
    assert result.media[0].member is None


def test_a_slug_that_ends_in_another_photos_number_is_not_that_photo(tmp_path):
    (tmp_path / "photo_23500000002.json").write_text(json.dumps(mine(id="23500000002")))
    (tmp_path / "photo_23500000001.json").write_text(json.dumps(mine()))
    (tmp_path / "copy-of_23500000002_23500000001_o.jpg").write_bytes(b"jpeg")

    found = [r for r in results(tmp_path, "download") if isinstance(r, Found)]

    assert {r.post.post_id: r.media[0].member for r in found} == {
        "23500000001": "copy-of_23500000002_23500000001_o.jpg",
        "23500000002": None,
    }


@pytest.mark.parametrize("privacy", ["private", "friends", "family", "friends & family", None])
def test_a_photo_that_does_not_say_that_it_is_public_is_dropped(privacy):
    assert one(mine(privacy=privacy), "download") == Skip("not public")


def test_a_video_is_told_by_its_file(tmp_path):
    assert downloaded(tmp_path, "a-clip_23500000001.mp4") == Skip("video")


def test_the_time_is_that_of_the_upload_and_not_of_the_camera():
    post = image(mine(), "download").post

    assert post.created_at == datetime(2015, 12, 14, 20, 1, 2, tzinfo=UTC)
    assert image(mine(date_imported=None), "download").post.created_at is None


def test_text_is_without_html_and_tags_without_those_of_machines():
    tags = [{"tag": t} for t in ("night walk", "uploaded:by=flickrmobile", "geo:lat=1.5", "a=b")]
    found = image(mine(name="a &amp; b", description="<b>c</b> &lt;", tags=tags), "download")

    assert found.post.title == "a & b"
    assert found.post.text == "c <"
    assert found.post.hashtags == ("night walk", "a=b")


def test_an_owner_is_the_number_of_the_account_and_all_names_are_handles():
    first = next(r for r in results(SAMPLES / "download", "download") if isinstance(r, Found))

    assert first.post.author_id == "12345678@N00"
    assert first.post.handles == ("Odile's pictures", "Odile Brandt", "pseudonym_marker", "ivo_k")
    assert "48.85837" not in repr(first)  # where it was taken


def test_without_a_profile_the_owner_is_the_name_of_the_page():
    assert image(mine(), "download").post.author_id == "name:odile_b"


@pytest.mark.parametrize(
    ("safety", "sensitive"),
    [("safe", False), ("moderate", True), ("restricted", True), (None, None)],
)
def test_safety_says_whether_a_photo_is_sensitive(safety, sensitive):
    assert image(mine(safety=safety), "download").post.sensitive is sensitive


def test_one_broken_file_makes_the_download_partial_and_costs_one_photo():
    export = open_export(SAMPLES / "download")
    [(collector, format)] = detect(export)

    collection = collect(export, collector, format, secret=b"s", source_id="s")
    kept = [post.post_id for batch in collection for post in batch.posts]

    assert kept == ["23500000001", "23500000002", "23500000003"]
    assert not collection.source.complete
    assert json.loads(collection.source.skipped) == {
        "not public": 2,
        "video": 1,
        "broken file": 1,
        "no id": 1,
    }


def test_metadata_of_something_else_is_not_claimed(tmp_path):
    (tmp_path / "photo_1.json").write_text('{"id": 1}')

    assert flickr.recognise(open_export(tmp_path)) is None


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: {"photos": {"page": 1, "pages": 1, "photo": [p]}, "stat": "ok"},
        lambda p: {"photoset": {"page": 1, "pages": 1, "photo": [p]}, "stat": "ok"},
        lambda p: {"photo": p, "stat": "ok"},
        lambda p: [p],
        lambda p: p,
    ],
    ids=["search", "album", "info", "list", "photo"],
)
def test_a_photo_is_found_in_each_kind_of_answer(tmp_path, wrap):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(listed())))

    assert flickr.recognise(open_export(path)) == "api"
    [result] = results(path, "api")
    assert isinstance(result, Found)


def test_an_answer_that_failed_is_counted_as_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    failed = {"stat": "fail", "code": 1, "message": "Photo not found"}
    path.write_text(json.dumps({"photo": listed(), "stat": "ok"}) + "\n" + json.dumps(failed))

    assert results(path, "api")[1] == Skip("error line")


def test_pages_that_are_not_here_make_the_export_partial(tmp_path):
    for page in (1, 3):
        answer = {"photos": {"page": page, "pages": 4, "photo": [listed(id=str(page))]}}
        (tmp_path / f"{page}.json").write_text(json.dumps(answer))
    [(collector, format)] = detect(open_export(tmp_path))

    collection = collect(open_export(tmp_path), collector, format, secret=b"s", source_id="s")
    list(collection)

    assert collection.source.detail == "2 of 4 pages of the search are here"


def test_the_largest_size_given_is_taken_and_only_o_is_the_original():
    sizes = {"url_m": "https://a.example/m.jpg", "url_k": "https://a.example/k.jpg"}

    [preview] = image(listed(**sizes)).media
    [original] = image(listed(**sizes, url_o="https://a.example/o.jpg", width_o="9")).media

    assert (preview.url, preview.rendition) == ("https://a.example/k.jpg", "preview")
    assert preview.fallback_urls == ("https://a.example/m.jpg",)
    assert (original.url, original.rendition) == ("https://a.example/o.jpg", "original")
    assert original.claimed_width == 9


def test_an_address_is_made_of_its_parts_where_none_is_given():
    [large] = image(listed()).media
    [original] = image(listed(originalsecret="cd", originalformat="png")).media

    assert (large.url, large.rendition) == (f"{SERVED}/23500000001_ab_b.jpg", "preview")
    assert (original.url, original.rendition) == (f"{SERVED}/23500000001_cd_o.png", "original")
    assert one(listed(server=None)) == Skip("media not included")


@pytest.mark.parametrize(
    "hidden", [{"ispublic": 0}, {"ispublic": None, "visibility": {"ispublic": 0}}]
)
def test_what_is_not_public_is_dropped(hidden):
    assert one(listed(**hidden)) == Skip("not public")


def test_a_photo_asked_for_by_itself_has_its_texts_and_tags_in_objects():
    found = image(
        listed(
            owner={"nsid": "2@N00", "username": "odile", "path_alias": "odile_b"},
            title={"_content": "Fog &amp; river"},
            description={"_content": "<i>seen</i>"},
            tags={
                "tag": [{"raw": "Night Walk", "machine_tag": 0}, {"raw": "a:b=c", "machine_tag": 1}]
            },
            comments={"_content": "3"},
            dateupload=None,
            dateuploaded="1450123262",
        )
    )

    assert found.post.title == "Fog & river"
    assert found.post.text == "seen"
    assert found.post.hashtags == ("Night Walk",)
    assert (found.post.author_id, found.post.replies) == ("2@N00", 3)
    assert found.post.created_at == datetime(2015, 12, 14, 20, 1, 2, tzinfo=UTC)


def test_what_the_sample_of_the_api_leaves_out_is_counted():
    reasons = [r.reason for r in results(SAMPLES / "api.json", "api") if isinstance(r, Skip)]

    assert Counter(reasons) == {"not public": 1, "video": 1, "no id": 1}


def test_a_crawlers_side_file_is_left_to_its_own_collector(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(listed(category="flickr", subcategory="user")))

    assert flickr.recognise(open_export(path)) is None
