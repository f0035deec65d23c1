import json
import lzma
import re
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import detect, instagram, meta
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError
from schemas.records import Media, Post, Source

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "instagram"
LAYOUTS = ("content", "your_instagram_activity/content", "your_instagram_activity/media")


def collected(path: Path) -> tuple[list[Post], list[Media], Source]:
    export = open_export(path)
    collection = collect(export, *detect(export, "instagram")[0], secret=b"s", source_id="s")
    batches = list(collection)
    return (
        [p for b in batches for p in b.posts],
        [m for b in batches for m in b.media],
        collection.source,
    )


def found(path: Path) -> list[Found]:
    return [r for r in results(path) if isinstance(r, Found)]


def results(path: Path) -> list[Found | Skip]:
    export = open_export(path)
    form = instagram.recognise(export)
    assert form is not None
    raws = [r for r in instagram.read(export, form) if r.record is not None]
    return [result for raw in raws for result in instagram.parse(raw.record, form)]


def skipped(path: Path) -> Counter[str]:
    return Counter(r.reason for r in results(path) if isinstance(r, Skip))


def garbled(value: Any) -> str:
    """JSON as Meta writes it: every byte of UTF-8 as a character of its own."""
    return json.dumps(value, ensure_ascii=False).encode().decode("latin-1")


def put(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(garbled(value), encoding="utf-8")
    return folder


def one(number: int, title: str = "", **fields: Any) -> dict[str, Any]:
    uri = f"media/posts/202602/5_{17900000000000000 + number}.jpg"
    return {"uri": uri, "creation_timestamp": 1770000000 + number, "title": title, **fields}


# ---------------------------------------------------------------- the download


def test_a_download_gives_posts_with_their_files_in_order():
    posts, media, source = collected(SAMPLES / "download")

    assert [p.post_id[-2:] for p in posts] == ["01", "02", "07", "08"]
    assert [m.position for m in media if m.post_id.endswith("02")] == [0, 1, 3]
    assert all(m.member for m in media)
    assert {m.rendition for m in media} == {"re-encode"}
    assert json.loads(source.skipped) == {
        "archived": 1,
        "media: video": 1,
        "no image": 1,
        "not public": 1,
        "profile picture": 1,
        "recently deleted": 1,
        "story": 1,
        "video": 2,
    }
    assert (source.seen, source.kept, source.complete) == (12, 4, True)


def test_one_file_has_the_caption_and_several_leave_it_to_the_post():
    first, several, _, crossposted = found(SAMPLES / "download")

    assert first.post.text == "Café at night 🌃 #AIart #naïve\nmade with a model"
    assert first.post.hashtags == ("AIart", "naïve")
    assert several.post.text == "Three and a film, thanks @bo_draws #generated"
    assert several.post.created_at == datetime(2026, 2, 4, 10, 13, 25, tzinfo=UTC)
    assert crossposted.post.text == "cross-posted: text on the post #日本語"


def test_a_file_without_ending_is_told_by_its_first_bytes():
    item = next(f for f in found(SAMPLES / "download") if f.post.post_id.endswith("07"))

    assert [m.claimed_type for m in item.media] == ["image/jpeg"]
    assert skipped(SAMPLES / "download")["video"] == 2


def test_the_owner_is_known_by_labels_in_her_language_and_never_shown():
    items = found(SAMPLES / "download")
    posts, _, _ = collected(SAMPLES / "download")

    assert {i.post.author_id for i in items} == {"owner:ana.makes"}
    assert all(i.post.handles == ("ana.makes", "Ana Ruiz") for i in items)
    assert len({p.author for p in posts}) == 1
    assert "bo_draws" not in repr(posts)
    assert "ana.makes" not in repr(posts)


def test_place_and_device_stay_in_the_download():
    told = repr(found(SAMPLES / "download"))

    assert not re.search(r"48\.2|16\.37|android|upload_ip|ana@example", told)


def test_a_deleted_post_is_withdrawn_by_its_id():
    gone = [r for r in results(SAMPLES / "download") if isinstance(r, Skip) and r.withdrawn]

    assert gone == [Skip("recently deleted", withdrawn="17900000000000023")]


@pytest.mark.parametrize("folder", LAYOUTS)
@pytest.mark.parametrize("root", ["", "instagram-ana.makes-2023-05-01-x/"])
def test_every_layout_since_2021_gives_the_same_posts(tmp_path, folder, root):
    several = {"media": [one(2), one(3)], "title": "two #b", "creation_timestamp": 1770000009}
    put(tmp_path, f"{root}{folder}/posts_1.json", [{"media": [one(1, "naïve #a")]}, several])
    put(tmp_path, f"{root}{folder}/posts_2.json", [{"media": [one(4, "part two")]}])
    put(tmp_path, f"{root}{folder}/stories.json", {"ig_stories": [one(5)]})
    (tmp_path / f"{root}media/posts/202602").mkdir(parents=True)
    (tmp_path / f"{root}{one(1)['uri']}").write_bytes(b"\xff\xd8\xff")

    items = found(tmp_path)

    assert [i.post.text for i in items] == ["naïve #a", "two #b", "part two"]
    assert [len(i.media) for i in items] == [1, 2, 1]
    assert items[0].media[0].member == f"{root}{one(1)['uri']}"
    assert skipped(tmp_path) == {"story": 1}


def test_files_of_one_second_and_caption_are_one_post_in_downloads_before_2021(tmp_path):
    def old(name: str, second: int, caption: str) -> dict[str, Any]:
        time = f"2019-05-01T10:00:{second:02}+00:00"
        return {"caption": caption, "taken_at": time, "location": "Wien", "path": name}

    a, b, c = ("photos/201905/" + digit * 32 + ".jpg" for digit in "abc")
    listed = {
        "stories": [old("stories/201905/s.jpg", 1, "")],
        "photos": [old(a, 2, "two #x"), old(b, 2, "two #x"), old(c, 2, "another")],
        "videos": [old("videos/201905/v.mp4", 2, "two #x"), old("videos/201905/w.mp4", 9, "")],
        "profile": [old("profile/201905/p.jpg", 3, "")],
        "direct": [old("direct/201905/d.jpg", 4, "")],
    }
    put(tmp_path, "media_1.json", listed)
    put(tmp_path, "profile.json", {"username": "ana.makes", "name": "Ana Ruiz"})

    two, another = found(tmp_path)

    assert [m.member for m in two.media] == [a, b]
    assert two.missed == ("video",)
    assert (two.post.post_id, another.post.post_id) == ("a" * 32, "c" * 32)
    assert two.post.created_at == datetime(2019, 5, 1, 10, 0, 2, tzinfo=UTC)
    assert two.post.author_id == "owner:ana.makes"
    assert skipped(tmp_path) == {"story": 1, "profile picture": 1, "not public": 1, "video": 1}


def test_a_picture_that_the_download_does_not_hold_is_kept_under_its_path(tmp_path):
    [item] = found(put(tmp_path, "content/posts_1.json", [{"media": [one(1)]}]))

    assert item.media[0].member == one(1)["uri"]


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({"photo_metadata": {}}, "kept"),
        ({"video_metadata": {}}, "video"),
        ({"photo_metadata": {}, "video_metadata": {}}, "kept"),
        ({}, "media not included"),
        (None, "media not included"),
    ],
)
def test_a_file_that_is_not_there_and_has_no_ending_is_told_by_its_metadata(about, wanted):
    item = {"uri": "media/posts/17900000000000001", "media_metadata": about}

    media, missed = meta.attached([item], {})

    assert ("kept" if media else missed[0]) == wanted


def test_what_is_neither_picture_nor_film_is_no_image():
    items = [{"uri": "media/other/a.srt"}, {"uri": ""}, {}]

    assert meta.attached(items, {}) == ((), ("no image",) * 3)


def test_a_damaged_file_does_not_end_the_reading_of_the_others(tmp_path):
    path = tmp_path / "a.zip"
    bare = [{"media": [{"uri": f"media/1790000000000000{n}"}]} for n in (1, 2)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content/posts_1.json", json.dumps([{"media": [one(3)]}, *bare]))
        for number in (1, 2):
            archive.writestr(f"media/1790000000000000{number}", b"\xff\xd8\xff" + bytes([number]))
    damaged = path.read_bytes().replace(b"\xff\xd8\xff\x01", b"\xff\xd8\xff\x07")
    path.write_bytes(damaged)

    assert [i.post.post_id[-1] for i in found(path)] == ["3", "2"]


def test_one_file_of_posts_is_a_download_by_whatever_name(tmp_path):
    put(tmp_path, "mine.json", [{"media": [one(1, "x")]}])

    assert instagram.recognise(open_export(tmp_path / "mine.json")) == "download"
    assert len(found(tmp_path / "mine.json")) == 1


def test_insights_named_like_posts_are_not_posts(tmp_path):
    put(tmp_path, "content/posts_1.json", [{"media": [one(1)]}])
    put(tmp_path, "past_instagram_insights/posts_1.json", [{"media": [one(2)]}])

    assert len(results(tmp_path)) == 1


def test_a_download_that_is_cut_off_gives_what_stands_before_and_says_so(tmp_path):
    put(tmp_path, "content/posts_1.json", [{"media": [one(n)]} for n in range(9)])
    path = tmp_path / "content/posts_1.json"
    path.write_bytes(path.read_bytes()[:-200])

    posts, _, source = collected(tmp_path)

    assert 5 <= len(posts) < 9
    assert not source.complete
    assert "not valid JSON" in str(source.detail)


def test_a_download_of_web_pages_is_refused_with_what_to_do(tmp_path):
    for name in ("start_here.html", "your_instagram_activity/media/posts_1.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<html></html>")

    with pytest.raises(ExportError, match="export again as JSON") as error:
        detect(open_export(tmp_path))

    assert "\n" not in str(error.value)


@given(st.text(min_size=1).filter(str.strip))
def test_any_caption_survives_how_meta_writes_it(caption):
    whole = caption.encode("utf-8", "replace").decode()
    post = {"media": [{"title": whole.encode().decode("latin-1"), "uri": "a_1.jpg"}]}

    assert meta.caption(post) == whole


# ---------------------------------------------------------------- files of a download


@pytest.mark.parametrize(
    ("names", "uri", "wanted"),
    [
        (["media/a.jpg"], "media/a.jpg", "media/a.jpg"),
        (["root/root/media/a.jpg"], "media/a.jpg", "root/root/media/a.jpg"),
        (["x/other/a.jpg", "y/media/a.jpg"], "media/a.jpg", "y/media/a.jpg"),
        (["posts/media/a.jpg"], "your_activity/posts/media/a.jpg", "posts/media/a.jpg"),
        (["x/one/a.jpg", "x/two/a.jpg"], "media/a.jpg", None),
        (["p1/media/a.jpg", "p2/media/a.jpg"], "media/a.jpg", "p1/media/a.jpg"),
        (["caf\u00e9/a.jpg"], "caf\u00c3\u00a9/a.jpg", "caf\u00e9/a.jpg"),
        (["cafe\u0301/a.jpg"], "caf\u00e9/a.jpg", "cafe\u0301/a.jpg"),
        (["media/a.jpg"], "media/b.jpg", None),
        (["media/a.jpg"], "https://example.org/media/a.jpg", None),
        (["media/a.jpg"], "", None),
        (["media/a.jpg"], None, None),
    ],
)
def test_a_file_is_found_by_the_end_of_its_path(tmp_path, names, uri, wanted):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")

    assert meta.Files(open_export(path)).find(uri) == wanted


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"words", ""),
    ],
)
def test_first_bytes_tell_pictures_from_films(tmp_path, head, kind):
    (tmp_path / "17900000000000001").write_bytes(head)
    files = meta.Files(open_export(tmp_path)).joined(["17900000000000001"])

    assert files["17900000000000001"]["type"] == kind


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("media/posts/1_2_3_n_17842440550048800.jpg", "17842440550048800"),
        ("media/posts/17842440550048800", "17842440550048800"),
        ("photos/500000004 (2).jpg", "500000004"),
        ("photos/0123456789abcdef0123456789abcdef.jpg", "0123456789abcdef0123456789abcdef"),
        ("photos/holiday.jpg", None),
        ("", None),
        (7, None),
    ],
)
def test_the_id_of_a_file_is_its_last_number_or_its_hash(uri, wanted):
    assert meta.media_id(uri) == wanted


# ---------------------------------------------------------------- Instaloader


def test_sidecars_give_posts_with_the_files_beside_them():
    single, several, plain = found(SAMPLES / "instaloader")

    assert single.media[0].member == "ana.makes/2026-02-03_09-30-01_UTC.jpg"
    assert single.media[0].url == "https://scontent.example.net/v/DFnuE3AAAAA_n.jpg?oe=65"
    assert [m.position for m in several.media] == [0, 2]
    assert [str(m.member)[-10:] for m in several.media] == ["_UTC_1.jpg", "_UTC_3.jpg"]
    assert several.missed == ("video",)
    assert plain.post.text == "A caption as text #plain"
    assert plain.post.score is None
    assert skipped(SAMPLES / "instaloader") == {
        "not a post": 1,
        "not public": 1,
        "story": 1,
        "video": 1,
    }


def test_the_app_s_larger_picture_comes_before_that_of_the_web():
    plain = found(SAMPLES / "instaloader")[2]

    assert plain.media[0].member is None
    assert plain.media[0].url == "https://scontent.example.net/v/large_n.heic?oe=65"
    assert plain.media[0].fallback_urls == ("https://scontent.example.net/v/small_n.webp?oe=65",)
    assert (plain.media[0].claimed_width, plain.media[0].claimed_height) == (1440, 1800)


@pytest.mark.parametrize(
    ("structure", "wanted"),
    [
        ({"node": {"id": "1"}, "instaloader": {"node_type": "Profile"}}, "instaloader"),
        ({"instaloader": {"node_type": "Post"}, "node": {}}, "instaloader"),
        ({"node": {"__typename": "XDTGraphImage"}}, "instaloader"),
        ({"node": {"iphone_struct": {}}}, "instaloader"),
        ({"node": {"__typename": "Tweet"}}, None),
        ({"other": {"__typename": "GraphStoryImage"}}, None),
    ],
)
def test_a_sidecar_is_known_by_its_first_keys(tmp_path, structure, wanted):
    (tmp_path / "a_UTC.json").write_text(json.dumps(structure))

    assert instagram.recognise(open_export(tmp_path)) == wanted


def test_what_a_machine_wrote_about_a_picture_is_no_alternative_text():
    items = found(SAMPLES / "instaloader") + found(SAMPLES / "items.ndjson")

    assert all(m.alt is None for i in items for m in i.media)


def test_files_tell_how_many_pictures_a_post_has_where_its_sidecar_does_not(tmp_path):
    node = {"__typename": "GraphSidecar", "id": "9", "shortcode": "J", "date": 1770000000}
    node["display_url"] = "https://scontent.example.net/v/j.jpg"
    structure = {"node": node, "instaloader": {"node_type": "Post"}}
    (tmp_path / "x_UTC.json.xz").write_bytes(lzma.compress(json.dumps(structure).encode()))
    for number in (1, 2, 3):
        (tmp_path / f"x_UTC_{number}.jpg").write_bytes(b"\xff\xd8\xff")

    [item] = found(tmp_path)

    assert [m.member for m in item.media] == ["x_UTC_1.jpg", "x_UTC_2.jpg", "x_UTC_3.jpg"]
    assert [bool(m.url) for m in item.media] == [True, False, False]


# ---------------------------------------------------------------- captured items


def test_items_of_every_shape_give_posts():
    one_picture, several, node = found(SAMPLES / "items.ndjson")

    assert one_picture.post.permalink == "https://www.instagram.com/p/DGLPnVAAAAA/"
    assert one_picture.post.author_id == "4400000002"
    assert one_picture.media[0].url == "https://scontent.example.net/v/DGLPnVAAAAA_n.jpg?oe=65"
    assert [m.position for m in several.media] == [0, 2]
    assert [m.media_id for m in several.media] == ["21", "23"]
    assert several.post.score is None
    assert set(several.post.handles) >= {"cy.renders", "bo_draws", "dee_pix"}
    assert node.post.text == "graph node, from 4CAT #knoten"
    assert skipped(SAMPLES / "items.ndjson") == {
        "no id": 1,
        "no time": 1,
        "not public": 1,
        "promoted": 1,
        "video": 1,
    }


def test_the_number_of_an_author_is_not_in_the_id_of_a_picture():
    [item] = instagram.parse(
        {"id": "35_44", "code": "C", "taken_at": 1, "display_url": "https://e.org/a.jpg"}, "items"
    )

    assert isinstance(item, Found)
    assert item.media[0].media_id == "35"
    assert item.post.author_id == "44"


@given(st.integers(1, 2**64 - 1))
def test_a_shortcode_is_the_number_to_base_64(number):
    code = meta.shortcode(number)

    assert code is not None
    assert sum(meta.ALPHABET.index(c) * 64**n for n, c in enumerate(reversed(code))) == number
    assert meta.shortcode(f"{number}_44") == code


@pytest.mark.parametrize(
    ("number", "code"), [(1, "B"), (26, "a"), (52, "0"), (62, "-"), (64, "BA")]
)
def test_the_digits_of_a_shortcode_are_letters_then_figures(number, code):
    assert meta.shortcode(number) == code


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"product_type": "story"}, "story"),
        ({"link": "https://www.facebook.com/ads/ig_redirect/?d=1"}, "promoted"),
        ({"audience": "besties"}, "not public"),
        ({"display_url": None}, "media not included"),
        ({"taken_at": None}, "no time"),
        ({"code": "no code/"}, "no id"),
    ],
)
def test_what_is_no_public_post_of_a_picture_is_left_out_with_its_reason(fields, reason):
    item = {"code": "C", "taken_at": 1, "display_url": "https://e.org/a.jpg", **fields}

    assert instagram.parse(item, "items") == (Skip(reason),)


def test_items_in_one_list_are_read_each(tmp_path):
    items = [
        {"code": code, "pk": "1", "taken_at": 1, "node": 5, "image_versions2": {"candidates": [{}]}}
        for code in ("A", "B")
    ]
    for item in items:
        item["display_url"] = "https://e.org/a.jpg"
    (tmp_path / "a.json").write_text(json.dumps(items, indent=1))

    assert [i.post.post_id for i in found(tmp_path)] == ["A", "B"]


@pytest.mark.parametrize("key", ["taken_at", "path"])
def test_a_file_called_media_is_not_a_download_by_its_name_alone(tmp_path, key):
    put(tmp_path, "media.json", {"photos": [{key: "x"}]})

    assert instagram.recognise(open_export(tmp_path)) is None


@pytest.mark.parametrize("number", ["", "x1", "1" * 21, None, 0, True])
def test_what_is_no_number_has_no_shortcode(number):
    assert meta.shortcode(number) is None


def test_lines_of_graph_nodes_are_items_and_no_sidecar(tmp_path):
    node = {"__typename": "GraphImage", "shortcode": "C", "taken_at_timestamp": 1}
    line = json.dumps({"node": {**node, "display_url": "https://e.org/a.jpg"}})
    (tmp_path / "a.ndjson").write_text(f"{line}\n{line}\n")

    assert instagram.recognise(open_export(tmp_path)) == "items"
    assert len(found(tmp_path)) == 2


def test_lines_of_other_platforms_are_not_items_of_instagram(tmp_path):
    for platform in ("tiktok.com", "threads.net", "twitter.com"):
        line = {
            "source_platform": platform,
            "data": {"code": "a", "taken_at": 1, "image_versions2": {}},
        }
        (tmp_path / "a.ndjson").write_text(json.dumps(line))

        assert instagram.recognise(open_export(tmp_path / "a.ndjson")) is None


# ---------------------------------------------------------------- CrowdTangle


def test_a_row_of_crowdtangle_gives_its_first_picture():
    single, album = found(SAMPLES / "crowdtangle.csv")

    assert single.post.post_id == "CzAAAAAAAA1"
    assert single.post.created_at == datetime(2023, 11, 13, 9, 30, 36, tzinfo=UTC)
    assert album.post.created_at == datetime(2023, 7, 2, 3, 59, 59, tzinfo=UTC)
    assert (single.post.score, single.post.replies) == (2001, 3)
    assert single.post.text == "“Sunrise” by a machine 🌅\n#AIart #naïve"
    assert (single.missed, album.missed) == ((), ("media not included",))
    assert skipped(SAMPLES / "crowdtangle.csv") == {
        "media not included": 1,
        "no id": 1,
        "unknown time zone": 1,
        "video": 1,
    }


# ---------------------------------------------------------------- real files


def test_a_real_download_of_2012_gives_every_picture(shared):
    folder = shared / "data/exports/instagram/dyi_2012_layout"
    listed = json.loads((folder / "content/posts_1.json").read_text())
    titles = [m["title"].encode("latin-1").decode() for post in listed for m in post["media"]]
    tags = [tag for t in titles for tag in dict.fromkeys(re.findall(r"(?<![\w#/&])#(\w+)", t))]

    posts, media, source = collected(folder)

    assert len(posts) == len(listed) == 413
    assert len(media) == sum(len(post["media"]) for post in listed) == 413
    assert [t for p in posts for t in p.hashtags] == [t for t in tags if not t.isdecimal()]
    assert [p.created_at.timestamp() for p in posts] == [
        post["media"][0]["creation_timestamp"] for post in listed
    ]
    assert (json.loads(source.skipped), source.complete) == ({}, True)


def test_a_real_download_of_2020_joins_the_files_of_each_post(shared):
    path = shared / "data/exports/instagram/dyi_2020_layout.zip"
    with zipfile.ZipFile(path) as archive:
        [name] = [n for n in archive.namelist() if n.endswith("/media.json")]
        listed = json.loads(archive.read(name))
    photos = listed["photos"]

    posts, media, source = collected(path)

    assert len(media) == len(photos) == 72
    assert len(posts) == len({(p["taken_at"], p["caption"]) for p in photos}) == 16
    assert max(Counter(m.post_id for m in media).values()) == 10
    assert {m.member for m in media} == {p["path"] for p in photos}
    assert json.loads(source.skipped) == {"profile picture": 1, "story": 33, "video": 1}
