import csv
import io
import json
import re
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import detect, facebook, meta
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError
from schemas.records import Media, Post, Source

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "facebook"


def collected(path: Path) -> tuple[list[Post], list[Media], Source]:
    export = open_export(path)
    collection = collect(export, *detect(export, "facebook")[0], secret=b"s", source_id="s")
    batches = list(collection)
    return (
        [p for b in batches for p in b.posts],
        [m for b in batches for m in b.media],
        collection.source,
    )


def results(path: Path) -> list[Found | Skip]:
    export = open_export(path)
    form = facebook.recognise(export)
    assert form is not None
    raws = [r for r in facebook.read(export, form) if r.record is not None]
    return [result for raw in raws for result in facebook.parse(raw.record, form)]


def found(path: Path) -> list[Found]:
    return [r for r in results(path) if isinstance(r, Found)]


def skipped(path: Path) -> Counter[str]:
    return Counter(r.reason for r in results(path) if isinstance(r, Skip))


def put(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False).encode().decode("latin-1"), "utf-8")


def photo(number: int, **fields: Any) -> dict[str, Any]:
    uri = f"posts/media/your_posts/5_{number}.jpg"
    return {"uri": uri, "creation_timestamp": 1600000000 + number, **fields}


def post(number: int, text: str, *photos: dict[str, Any]) -> dict[str, Any]:
    return {
        "timestamp": 1600000000 + number,
        "attachments": [{"data": [{"media": item} for item in photos]}],
        "data": [{"post": text}],
    }


def row(**fields: str) -> dict[str, str]:
    base = {
        "User Name": "seite",
        "Facebook Id": "77",
        "Post Created": "2023-11-13 04:30:36 EST",
        "Type": "Link",
        "URL": "https://www.facebook.com/77/posts/88888",
        "Message": "m",
        "Link": "https://pictures.example.org/a.png",
    }
    return {**base, **fields}


# ---------------------------------------------------------------- the download


def test_a_download_gives_posts_groups_check_ins_and_photos_of_albums():
    posts, media, source = collected(SAMPLES / "download")

    assert [p.text for p in posts] == [
        "Smørrebrød, generated #AIart",
        "Two photos and a film 🎞️ #zwei\nfirst #eins\nsecond 🙂",
        "A note with a picture #brev",
        "a file without ending",
        "an address instead of a file",
        "second part",
        "is this real? #echt",
        None,
        "only in the album #stuhl",
        "loose",
    ]
    assert [m.position for m in media if m.post_id == posts[1].post_id] == [0, 2]
    assert json.loads(source.skipped) == {
        "archived": 2,
        "duplicate": 3,
        "media: video": 1,
        "no image": 1,
        "not a post": 1,
        "recently deleted": 2,
        "repost": 1,
        "story": 1,
        "video": 2,
    }
    assert source.complete


def test_a_picture_on_the_web_has_an_address_and_no_file():
    [media] = [m for i in found(SAMPLES / "download") for m in i.media if m.url]

    assert (media.url, media.member) == (
        "https://scontent.example.net/v/t1/500000008_n.jpg?oe=68",
        None,
    )


def test_nothing_of_the_trash_or_the_archive_comes_in_by_a_post_or_an_album():
    told = repr(found(SAMPLES / "download"))

    assert "500000009" not in told
    assert "500000011" not in told
    gone = {r.withdrawn for r in results(SAMPLES / "download") if isinstance(r, Skip)} - {None}
    assert len(gone) == 1


def test_people_places_and_devices_stay_in_the_download():
    items = found(SAMPLES / "download")
    posts, media, _ = collected(SAMPLES / "download")

    assert "Bo Lund" in items[0].post.handles
    assert {i.post.author_id for i in items} == {"owner:anaruiz"}
    assert not re.search(r"203\.0|48\.2|16\.3|Kamera|Zentral", repr(items))
    assert not re.search(r"Ana Ruiz|Bo Lund", repr(media))
    assert not re.search(r"Ana Ruiz|Bo Lund|anaruiz'", repr(posts))


def test_the_title_of_a_post_in_a_group_names_the_group():
    [item] = [i for i in found(SAMPLES / "download") if i.post.community]

    assert item.post.community == "Real or Generated"


def test_only_posts_in_groups_have_a_community_and_only_shares_are_reposts(tmp_path):
    link, own = ({"external_context": {"url": url}} for url in ("", "https://example.org"))
    entries = [
        {**post(1, "x", photo(1)), "title": "Ana Ruiz added a new photo in Wien."},
        {**post(5, "x"), "attachments": [{"data": [link]}]},
        {**post(6, "x"), "attachments": [{"data": [own]}]},
        {**post(2, "x"), "title": "Ana Ruiz shared a memory."},
        {**post(3, "x"), "title": "Ana Ruiz updated her status."},
        {**post(4, "x"), "title": None},
    ]
    put(tmp_path, "posts/your_posts_1.json", entries)

    assert [i.post.community for i in found(tmp_path)] == [None]
    assert skipped(tmp_path) == {"repost": 2, "no image": 3}


@pytest.mark.parametrize("key", ["data", "attachments"])
def test_posts_are_known_by_one_of_their_parts(tmp_path, key):
    put(tmp_path, "posts/your_posts_1.json", [{"timestamp": 1, key: []}])

    assert facebook.recognise(open_export(tmp_path)) == "download"


def test_a_photo_of_an_album_has_the_album_s_name_and_its_own_caption():
    [item] = [i for i in found(SAMPLES / "download") if i.post.title]

    assert (item.post.title, item.post.hashtags) == ("Möbel, generiert", ("stuhl",))


@pytest.mark.parametrize("activity", ["", "your_facebook_activity/"])
@pytest.mark.parametrize("name", ["your_posts_1.json", "profile_posts_1.json", "your_posts.json"])
def test_every_layout_gives_the_same_posts(tmp_path, activity, name):
    put(tmp_path, f"{activity}posts/{name}", [post(1, "naïve #a", photo(1), photo(2))])
    put(tmp_path, f"{activity}posts/album/0.json", {"name": "A", "photos": [photo(2), photo(3)]})
    put(
        tmp_path, f"{activity}posts/your_uncategorized_photos.json", {"other_photos_v2": [photo(4)]}
    )
    groups = [{**post(5, "in", photo(5)), "title": "Ana posted in Bilder."}]
    put(tmp_path, f"{activity}groups/your_posts_in_groups.json", {"group_posts_v2": groups})

    items = found(tmp_path)

    assert [len(i.media) for i in items] == [2, 1, 1, 1]
    assert items[0].post.text == "naïve #a"
    assert items[1].post.community == "Bilder"
    assert skipped(tmp_path) == {"duplicate": 1}


def test_json_and_media_of_different_parts_meet(tmp_path):
    path = tmp_path / "merged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facebook-1/posts/your_posts_1.json", json.dumps([post(1, "x", photo(1))]))
        archive.writestr(f"facebook-2/facebook-2/{photo(1)['uri']}", b"\xff\xd8\xff")

    [item] = found(path)

    assert item.media[0].member == f"facebook-2/facebook-2/{photo(1)['uri']}"


def test_one_file_of_posts_is_a_download_by_whatever_name(tmp_path):
    put(tmp_path, "mine.json", [post(1, "x", photo(1))])

    assert len(found(tmp_path / "mine.json")) == 1


def test_a_group_called_like_a_person_is_not_named(tmp_path):
    entry = {**post(1, "x", photo(1)), "title": "Ana Ruiz posted in Friends of Bo Lund."}
    entry["tags"] = [{"name": "Bo Lund"}]
    put(tmp_path, "groups/your_posts_in_groups.json", {"group_posts_v2": [entry]})

    assert found(tmp_path)[0].post.community is None


def test_broken_files_are_counted_and_the_others_are_read(tmp_path):
    put(tmp_path, "posts/your_posts_1.json", [post(1, "x", photo(1))])
    (tmp_path / "posts/your_posts_2.json").write_text('[{"timestamp": 1, "data": [')
    (tmp_path / "posts/album").mkdir()
    (tmp_path / "posts/album/0.json").write_text('{"name": "A", "photos": [')

    posts, _, source = collected(tmp_path)

    assert len(posts) == 1
    assert json.loads(source.skipped) == {"broken file": 2}
    assert not source.complete


@pytest.mark.parametrize("first", ["timestamp", "attachments", "data"])
def test_one_post_may_stand_where_a_list_is_expected(tmp_path, first):
    single = post(1, "x", photo(1))
    put(tmp_path, "posts/your_posts_1.json", {first: single[first], **single})

    assert len(found(tmp_path)) == 1


def test_an_id_is_the_same_in_every_download_of_an_account(tmp_path):
    later = photo(1)
    later["uri"] = "your_facebook_activity/posts/media/your_posts_zZ9/5_1.jpg"
    put(tmp_path, "a/posts/your_posts_1.json", [post(1, "naïve", photo(1))])
    put(tmp_path, "b/posts/your_posts_1.json", [post(1, "naïve", later)])
    put(tmp_path, "c/posts/your_posts_1.json", [post(1, "other", photo(1))])

    ids = [found(tmp_path / part)[0].post.post_id for part in "abc"]

    assert ids[0] == ids[1] != ids[2]


def test_files_without_a_number_are_told_by_their_names(tmp_path):
    entries = [post(1, "", {"uri": f"posts/media/{name}.jpg"}) for name in ("a", "b")]
    put(tmp_path, "posts/your_posts_1.json", entries)

    assert len({i.post.post_id for i in found(tmp_path)}) == 2


def test_a_download_may_hold_loose_photos_alone(tmp_path):
    put(tmp_path, "posts/your_uncategorized_photos.json", {"other_photos_v2": [photo(1)]})

    assert len(found(tmp_path)) == 1


def test_a_post_standing_in_two_parts_is_kept_once(tmp_path):
    for part in (1, 2):
        put(tmp_path, f"posts/your_posts_{part}.json", [post(1, "x", photo(1))])

    posts, _, source = collected(tmp_path)

    assert len(posts) == 1
    assert json.loads(source.skipped) == {"duplicate": 1}


def test_a_profile_with_a_number_gives_the_author(tmp_path):
    put(tmp_path, "posts/your_posts_1.json", [post(1, "x", photo(1))])
    profile = {
        "name": {"full_name": "Ana Ruiz"},
        "profile_uri": "https://facebook.com/profile.php?id=9",
    }
    put(tmp_path, "profile_information/profile_information.json", {"profile_v2": profile})

    [item] = found(tmp_path)

    assert item.post.author_id == "9"
    assert item.post.handles == ("Ana Ruiz",)


def test_a_download_without_a_profile_has_no_author(tmp_path):
    put(tmp_path, "posts/your_posts_1.json", [post(1, "x", photo(1))])

    assert found(tmp_path)[0].post.author_id is None


def test_a_download_of_web_pages_is_refused_with_what_to_do(tmp_path):
    for name in ("start_here.html", "your_facebook_activity/posts/your_posts.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<html></html>")

    with pytest.raises(ExportError, match=r"Facebook as web pages.*export again as JSON") as error:
        detect(open_export(tmp_path))

    assert "\n" not in str(error.value)


def test_web_pages_of_somebody_else_are_not_a_download(tmp_path):
    (tmp_path / "posts").mkdir()
    (tmp_path / "posts" / "1.html").write_text("<html></html>")

    assert facebook.recognise(open_export(tmp_path)) is None


# ---------------------------------------------------------------- CrowdTangle


def test_a_row_gives_a_linked_picture_at_its_time_in_utc():
    winter, summer = found(SAMPLES / "crowdtangle.csv")

    assert winter.post.created_at == datetime(2023, 11, 13, 9, 30, 36, tzinfo=UTC)
    assert summer.post.created_at == datetime(2023, 7, 2, 3, 59, 59, tzinfo=UTC)
    assert winter.media[0].url == "https://pictures.example.org/robot.png"
    assert winter.post.text == "A picture, linked:\n“naïve” #AIart 🤖"
    assert (winter.post.score, winter.post.replies) == (1234, 56)
    assert winter.post.permalink == "https://www.facebook.com/6000000000000001"
    assert winter.post.community is None
    assert winter.post.author_id == "100064000000001"
    assert winter.post.handles == ("bildermaschinen", "Bilder & Maschinen")
    assert skipped(SAMPLES / "crowdtangle.csv") == {
        "media not included": 1,
        "no id": 1,
        "no image": 1,
        "repost": 1,
        "unknown time zone": 1,
        "video": 1,
    }


def test_a_table_from_before_april_2021_is_read_by_the_names_of_its_columns(tmp_path):
    columns = {"Group Name": "Bilder", **row(), "Created": "2020-01-02 03:04:05 EST"}
    columns.pop("Post Created")
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(reversed(columns)))
    table.writeheader()
    table.writerow(columns)
    (tmp_path / "old.csv").write_text(stream.getvalue())

    [item] = found(tmp_path / "old.csv")

    assert item.post.created_at == datetime(2020, 1, 2, 8, 4, 5, tzinfo=UTC)
    assert item.post.community == "Bilder"
    assert item.post.author_id is None


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("https://www.facebook.com/77/posts/88888", "88888"),
        ("https://www.facebook.com/77/posts/77_88888/", "88888"),
        ("https://www.facebook.com/permalink.php?story_fbid=88888&id=77", "88888"),
        ("https://www.facebook.com/photo.php?fbid=88888&set=a.1&type=3", "88888"),
        ("https://www.facebook.com/seite/photos/a.1/88888/?type=3", "88888"),
        ("https://www.facebook.com/groups/5/permalink/88888/", "88888"),
        ("https://www.facebook.com/seite/posts/pfbid02Abc", "pfbid02Abc"),
        ("https://www.facebook.com/seite/", None),
        ("http://[broken", None),
    ],
)
def test_the_id_of_a_post_is_in_its_address(address, wanted):
    [result] = facebook.parse(row(URL=address), "crowdtangle")

    assert (result.post.post_id if isinstance(result, Found) else None) == wanted


def test_an_address_without_a_number_would_name_the_page_so_it_is_left_out():
    [item] = facebook.parse(row(URL="https://www.facebook.com/seite/posts/pfbid0A"), "crowdtangle")

    assert isinstance(item, Found)
    assert item.post.permalink is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"Type": "Photo", "Link": "https://www.facebook.com/photo.php?fbid=1"},
            "media not included",
        ),
        (
            {"Type": "Photo", "Link": "https://www.facebook.com/seite/photos/1"},
            "media not included",
        ),
        ({"Type": "Photo", "Link": "https://www.facebook.com/77/photos/1"}, "media not included"),
        ({"Type": "Photo", "Link": "https://www.facebook.com/andere/photos/1"}, "repost"),
        ({"Type": "Album", "Link": ""}, "media not included"),
        ({"Type": "Status", "Link": ""}, "no image"),
        ({"Type": "Link", "Link": "https://example.org/a"}, "no image"),
        ({"Type": "Link", "Link": "http://[broken"}, "no image"),
        ({"Type": "YouTube", "Link": "https://youtu.be/1"}, "video"),
        ({"Type": "Live Video Complete", "Link": ""}, "video"),
    ],
)
def test_why_a_row_gives_no_picture(fields, reason):
    assert facebook.parse(row(**fields), "crowdtangle") == (Skip(reason),)


def test_the_final_link_comes_first_and_the_other_after_it():
    fields = {"Final Link": "https://e.org/final.jpg", "Link": "https://e.org/short.jpg"}
    [item] = facebook.parse(row(**fields), "crowdtangle")

    assert isinstance(item, Found)
    [media] = item.media
    assert (media.url, media.fallback_urls) == (fields["Final Link"], (fields["Link"],))


@pytest.mark.parametrize(
    ("stamp", "wanted"),
    [
        ("2023-11-13 04:30:36 EST", "2023-11-13T09:30:36"),
        ("2023-07-13 04:30:36 EDT", "2023-07-13T08:30:36"),
        ("2024-01-14 09:15:26 NZDT", "2024-01-13T20:15:26"),
        ("2024-01-14 09:15:26 ACDT", "2024-01-13T22:45:26"),
        ("2024-01-14 09:15:26 UTC", "2024-01-14T09:15:26"),
        ("2024-01-14 09:15:26 -03", "2024-01-14T12:15:26"),
        ("2024-01-14 09:15:26 +0530", "2024-01-14T03:45:26"),
        ("2024-01-14 09:15:26 CST", "unknown time zone"),
        ("2024-01-14 09:15:26 IST", "unknown time zone"),
        ("2024-01-14 09:15:26 XYZ", "unknown time zone"),
        ("2024-01-14 09:15:26", "unknown time zone"),
        ("2024-13-41 09:15:26 EST", "no time"),
        ("0001-01-01 00:00:00 NZDT", "no time"),
        ("yesterday", "no time"),
        ("", "no time"),
        (None, "no time"),
    ],
)
def test_a_time_is_known_only_with_its_zone(stamp, wanted):
    time = meta.table_time(stamp)

    assert (time.reason if isinstance(time, Skip) else time.isoformat()[:19]) == wanted


@given(
    st.datetimes(datetime(2010, 1, 1), datetime(2024, 8, 14)), st.sampled_from(sorted(meta.ZONES))
)
def test_every_known_zone_moves_a_time_by_its_hours(local, zone):
    time = meta.table_time(f"{local:%Y-%m-%d %H:%M:%S} {zone}")

    assert isinstance(time, datetime)
    moved = local.replace(microsecond=0, tzinfo=UTC) - time
    assert moved == timedelta(hours=meta.ZONES[zone])


# ---------------------------------------------------------------- Meta Content Library


def test_the_library_gives_posts_with_a_linked_picture_alone():
    original, shared = found(SAMPLES / "content-library.csv")

    assert original.post.hashtags == ("AIart", "kunstig")
    assert original.post.language == "da"
    assert original.post.repost_of is None
    assert shared.post.repost_of == "facebook/9000000000000001"
    assert shared.post.community == "Ægte eller ej"
    assert skipped(SAMPLES / "content-library.csv") == {
        "media not included": 1,
        "no id": 1,
        "repost": 1,
    }


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("id,creation_time,text,mcl_url", "content-library"),
        ("id,creation_time,text,post_owner.id", "content-library"),
        ("id,creation_time,text,statistics.views", "content-library"),
        ("id,creation_time,text", None),
        ("id,text,mcl_url", None),
        ("Page Name,User Name,URL,Message", "crowdtangle"),
        ("User Name,URL,Message", None),
        ("Page Name;User Name;URL;Message", "crowdtangle"),
    ],
)
def test_a_table_is_known_by_its_columns(tmp_path, columns, wanted):
    (tmp_path / "a.csv").write_text(f"{columns}\n")

    assert facebook.recognise(open_export(tmp_path)) == wanted


def test_an_address_in_the_library_that_names_a_person_is_left_out():
    record = {
        "id": "5",
        "creation_time": "2024-05-06T07:08:09+00:00",
        "mcl_url": "https://www.facebook.com/ana.ruiz/5",
        "post_owner.username": "Ana.Ruiz",
        "multimedia": '[{"url": "https://e.org/a.jpg"}, {"url": "https://e.org/b.png"}]',
    }

    [item] = facebook.parse(record, "content-library")

    assert isinstance(item, Found)
    assert item.post.permalink is None
    assert [m.url for m in item.media] == ["https://e.org/a.jpg", "https://e.org/b.png"]


def test_a_row_of_the_library_about_instagram_is_a_post_of_instagram():
    record = {
        "id": "5",
        "creation_time": "2024-05-06T07:08:09+00:00",
        "text": "x",
        "mcl_url": "https://www.instagram.com/transparency/5",
        "shared_post_id": "4",
        "link_attachment.link": "https://pictures.example.org/a.png",
    }

    [item] = facebook.parse(record, "content-library")

    assert isinstance(item, Found)
    assert (item.post.platform, item.post.repost_of) == ("instagram", "instagram/4")
