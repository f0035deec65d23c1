import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, tumblr
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "tumblr"
SERVER = "https://64.media.tumblr.com"


def size(name: str, width: int, height: int = 10, **fields: Any) -> dict[str, Any]:
    return {"url": f"{SERVER}/{name}.jpg", "width": width, "height": height, **fields}


def block(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image", "media": [size(name, 100)], **fields}


def answer(**fields: Any) -> dict[str, Any]:
    blog = {"name": "lanterns", "uuid": "t:abc"}
    return {"id": 7, "blog_name": "lanterns", "blog": blog, "timestamp": 1772442000, **fields}


def one(**fields: Any) -> Found | Skip:
    [result] = tumblr.parse(answer(**fields), "api")
    return result


def image(**fields: Any) -> Found:
    result = one(**fields)
    assert isinstance(result, Found)
    return result


def results(path: Path, format: str) -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in tumblr.read(export, format) if r.record is not None]
    return [result for record in records for result in tumblr.parse(record, format)]


def names(found: Found) -> list[str]:
    return [str(m.url).rsplit("/", 1)[-1].removesuffix(".jpg") for m in found.media]


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ([], ["a", "b", "c"]),
        ([{"type": "rows", "display": [{"blocks": [2, 0]}, {"blocks": [1]}]}], ["c", "a", "b"]),
        ([{"type": "rows", "rows": [[1], [0, 2]]}], ["b", "a", "c"]),
        ([{"type": "rows", "display": [{"blocks": [2]}]}], ["c", "a", "b"]),
        ([{"type": "rows", "display": [{"blocks": [1, 1, 99, -1, "x"]}]}], ["b", "a", "c"]),
        ([{"type": "ask", "blocks": [2]}, None], ["a", "b", "c"]),
    ],
    ids=["none", "rows", "old rows", "not all named", "nonsense", "ask"],
)
def test_blocks_are_shown_in_the_order_of_the_layout(layout, order):
    found = image(content=[block("a"), block("b"), block("c")], layout=layout)

    assert names(found) == order
    assert [m.position for m in found.media] == [0, 1, 2]


def test_the_original_is_taken_before_a_larger_claim_and_the_rest_are_fallbacks():
    sizes = [size("small", 10), size("large", 900), size("own", 50, has_original_dimensions=True)]

    [media] = image(content=[{"type": "image", "media": sizes}]).media

    assert media.url == f"{SERVER}/own.jpg"
    assert media.rendition == "original"
    assert media.fallback_urls == (f"{SERVER}/large.jpg", f"{SERVER}/small.jpg")


def test_a_size_that_stands_for_unknown_is_not_claimed():
    guessed = size("a", 540, 405, original_dimensions_missing=True)

    [media] = image(content=[{"type": "image", "media": [guessed]}]).media

    assert (media.claimed_width, media.claimed_height) == (None, None)


@pytest.mark.parametrize(("written", "kept"), [("a fox", "a fox"), ("image", None), (" ", None)])
def test_a_description_is_kept_if_somebody_wrote_one(written, kept):
    assert image(content=[block("a", alt_text=written)]).media[0].alt == kept


def trail(name: str | None, *content: Any) -> dict[str, Any]:
    return {"post": {"id": name} if name else {}, "blog": {"name": "other"}, "content": [*content]}


def test_a_reblog_shows_the_pictures_of_the_post_they_are_from():
    found = image(content=[], trail=[trail("1", block("a")), trail("2", block("b"))])

    assert names(found) == ["a"]
    assert found.post.repost_of == "tumblr/1"
    assert found.post.handles == ("lanterns", "other")


def test_a_picture_added_in_the_middle_of_a_chain_is_from_there():
    words = {"type": "text", "text": "first"}

    found = image(content=[], trail=[trail("1", words), trail("2", block("b"))])

    assert found.post.repost_of == "tumblr/2"


def test_pictures_that_the_reblogger_added_are_the_posts_own():
    found = image(content=[block("mine")], trail=[trail("1", block("a"), block("b"))])

    assert names(found) == ["mine"]
    assert found.post.repost_of is None
    assert found.missed == ("repost", "repost")


def test_a_picture_that_leads_to_no_post_is_skipped_unless_the_root_is_known():
    assert one(content=[], trail=[trail(None, block("a"))]) == Skip("repost")

    rooted = image(content=[], trail=[trail(None, block("a"))], reblogged_root_id="5")
    assert rooted.post.repost_of == "tumblr/5"


@pytest.mark.parametrize("state", ["draft", "queued", "private", None])
def test_what_is_not_published_is_dropped(state):
    assert one(content=[block("a")], state=state) == Skip("not public")


@pytest.mark.parametrize(
    ("fields", "sensitive"),
    [
        ({}, None),
        ({"community_labels": {"has_community_label": True}}, True),
        ({"community_labels": {"has_community_label": False}, "is_nsfw": True}, False),
        ({"is_nsfw": True}, True),
    ],
)
def test_only_a_label_that_is_there_says_that_a_post_is_sensitive(fields, sensitive):
    assert image(content=[block("a")], **fields).post.sensitive is sensitive


def test_tags_are_phrases_without_a_leading_sign():
    found = image(content=[block("a")], tags=["AI art", "#x", " ", None, "AI art"])

    assert found.post.hashtags == ("AI art", "x")


# ---------------------------------------------------------------- old posts


def photo(*widths: int) -> dict[str, Any]:
    sizes = [size(f"tumblr_a_{w}", w) for w in widths]
    return {"original_size": sizes[0], "alt_sizes": sizes}


def test_the_largest_size_of_an_old_photo_is_taken_whatever_it_is_called():
    found = image(photos=[photo(500, 1280, 250)], caption="<p>one<br>two</p>")

    assert names(found) == ["tumblr_a_1280"]
    assert found.media[0].fallback_urls[0].endswith("_500.jpg")
    assert found.post.text == "one\ntwo"


@pytest.mark.parametrize(
    ("url", "width", "height", "rendition"),
    [
        ("a/tumblr_x_1280.jpg", 1280, 900, "preview"),
        ("a/tumblr_x_1280.jpg", 1000, 900, "original"),
        ("a/b/s2048x3072/c.jpg", 2048, 1000, "preview"),
        ("a/b/s2048x3072/c.jpg", 1000, 3072, "preview"),
        ("a/b/s2048x3072/c.jpg", 1000, 1000, "original"),
        ("a/b/s2048x3072/c.pnj", 1000, 1000, "re-encode"),
    ],
)
def test_a_picture_that_fills_its_box_was_scaled_down(url, width, height, rendition):
    one_size = {"url": f"{SERVER}/{url}", "width": width, "height": height}

    found = image(photos=[{"original_size": one_size}])

    assert found.media[0].rendition == rendition


def test_an_old_post_that_is_its_own_trail_is_no_reblog():
    itself = {"post": {"id": "7"}, "is_current_item": True, "is_root_item": True}

    assert image(photos=[photo(9)], trail=[itself]).post.repost_of is None


def test_an_old_reblog_is_led_back_to_its_root():
    fields = {"reblogged_from_id": "3", "reblogged_root_id": "1"}

    assert image(photos=[photo(9)], **fields).post.repost_of == "tumblr/1"
    assert one(photos=[photo(9)], reblogged_from_id="3") == Skip("repost")


def test_pictures_inside_html_are_read_and_those_of_a_reblogs_own_comment_are_its_own():
    body = f'<p>x</p><img src="{SERVER}/a.jpg" alt="fog"><img src="data:image/png;base64,AA">'

    plain = image(body=body)
    commented = image(
        body=body, reblogged_from_id="3", reblog={"comment": f'<img src="{SERVER}/c.jpg"/>'}
    )

    assert names(plain) == ["a"]
    assert plain.media[0].alt == "fog"
    assert names(commented) == ["c"]
    assert commented.post.repost_of is None


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: {"meta": {"status": 200}, "response": {"posts": [p]}},
        lambda p: {"meta": {"status": 200}, "response": [p]},
        lambda p: [p],
        lambda p: p,
    ],
    ids=["blog", "tag", "list", "post"],
)
def test_a_post_is_found_in_each_kind_of_answer(tmp_path, wrap):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(answer(content=[block("a")], note_count=1))))

    assert tumblr.recognise(open_export(path)) == "api"
    [result] = results(path, "api")
    assert isinstance(result, Found)


def test_an_answer_that_is_an_error_is_counted_as_one(tmp_path):
    good = answer(content=[block("a")], note_count=1)
    lines = [good, {"meta": {"status": 404, "msg": "Not Found"}, "response": []}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))

    assert results(path, "api")[1] == Skip("error line")


def test_a_crawlers_side_file_is_left_to_its_own_collector(tmp_path):
    path = tmp_path / "a.json"
    side = answer(note_count=1, category="tumblr", subcategory="user")
    path.write_text(json.dumps(side))

    assert tumblr.recognise(open_export(path)) is None


# ---------------------------------------------------------------- the export of a blog


def test_the_files_of_a_post_are_joined_with_their_addresses():
    _, two, _ = [r for r in results(SAMPLES / "archive", "archive") if isinstance(r, Found)]

    assert [m.member for m in two.media] == ["media/180000000002_0.jpg", "media/180000000002_1.jpg"]
    assert [str(m.url).rsplit("/", 1)[-1] for m in two.media] == [
        "tumblr_q2o1_1280.jpg",
        "tumblr_q3o1_1280.jpg",
    ]


def test_drafts_and_submissions_are_dropped_and_a_video_is_counted():
    found = results(SAMPLES / "archive", "archive")

    assert Counter(r.reason for r in found if isinstance(r, Skip)) == {
        "not public": 2,
        "video": 1,
        "no image": 1,
        "no id": 1,
    }


def test_a_reblog_of_an_export_is_led_to_the_post_linked_deepest():
    *_, reblog = [r for r in results(SAMPLES / "archive", "archive") if isinstance(r, Found)]

    assert reblog.post.repost_of == "tumblr/170000000001"
    assert reblog.post.text is None  # nothing but the names of blogs


def pages(folder: Path, **texts: str) -> Path:
    (folder / "posts" / "html").mkdir(parents=True)
    (folder / "media").mkdir()
    for post_id, text in texts.items():
        page = f"<html><head><title>t</title></head><body>{text}</body></html>"
        (folder / "posts" / "html" / f"{post_id[1:]}.html").write_text(page)
    return folder


def test_without_posts_xml_the_page_is_read_and_its_local_time_is_none(tmp_path):
    footer = '<div id="footer"><span id="timestamp"> May 18th, 2014 7:36pm </span>'
    tags = '<span class="tag">film</span><span class="tag">night walk</span></div>'
    path = pages(tmp_path, p86="<p>Seen</p>" + footer + tags)
    (path / "media" / "86.png").write_bytes(b"png")

    [result] = results(path, "archive")

    assert isinstance(result, Found)
    assert result.post.text == "Seen"
    assert result.post.hashtags == ("film", "night walk")
    assert result.post.created_at is None
    assert result.media[0].member == "media/86.png"


def test_a_file_is_found_by_the_posts_number_though_the_page_links_another(tmp_path):
    path = pages(tmp_path, p1='<img src="../../media/2.jpg">', p2='<img src="../../media/2.jpg">')
    for name in ("1.jpg", "2.jpg"):
        (path / "media" / name).write_bytes(b"jpeg")

    found = [r for r in results(path, "archive") if isinstance(r, Found)]

    assert {r.post.post_id: r.media[0].member for r in found} == {
        "1": "media/1.jpg",
        "2": "media/2.jpg",
    }


def test_pictures_are_numbered_by_their_numbers_and_not_by_their_letters(tmp_path):
    path = pages(tmp_path, p5="<p>many</p>")
    for number in (10, 2, 0):
        (path / "media" / f"5_{number}.jpg").write_bytes(b"jpeg")

    [result] = results(path, "archive")

    assert isinstance(result, Found)
    assert [m.member for m in result.media] == ["media/5_0.jpg", "media/5_2.jpg", "media/5_10.jpg"]


def test_posts_still_packed_inside_the_export_are_asked_for_in_one_line(tmp_path):
    path = tmp_path / "blog.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("posts.zip", b"PK")
        archive.writestr("media/180000000001.jpg", b"jpeg")
    [(collector, format)] = detect(open_export(path))

    with pytest.raises(ExportError, match=r"posts\.zip; unpack it") as error:
        list(collect(open_export(path), collector, format, secret=b"s", source_id="s"))

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        b'<tumblr><posts><post id="1"><tag>a</tag></post><post id="2">',
        b'<!DOCTYPE t [<!ENTITY a "b">]><tumblr><posts><post id="1">&a;</post></posts></tumblr>',
    ],
    ids=["cut off", "entities"],
)
def test_xml_that_is_broken_or_hostile_makes_the_export_partial(tmp_path, bad):
    (tmp_path / "posts").mkdir()
    (tmp_path / "posts" / "posts.xml").write_bytes(bad)
    [(collector, format)] = detect(open_export(tmp_path))

    collection = collect(open_export(tmp_path), collector, format, secret=b"s", source_id="s")
    list(collection)

    assert not collection.source.complete
    assert "not valid XML" in str(collection.source.detail)


def test_the_time_of_the_sample_is_that_of_its_seconds():
    first = next(r for r in results(SAMPLES / "archive", "archive") if isinstance(r, Found))

    assert first.post.created_at == datetime(2018, 12, 4, 7, 17, 52, tzinfo=UTC)
