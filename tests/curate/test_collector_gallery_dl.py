import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from curate.collectors import detect, gallery_dl, mastodon, reddit, x
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "exports" / "gallery-dl" / "sidecars"


def results(path: Path) -> list[Found | Skip]:
    export = open_export(path)
    raws = gallery_dl.read(export, "sidecars")
    return [r for raw in raws if raw.record for r in gallery_dl.parse(raw.record, "sidecars")]


def found(path: Path = SAMPLE) -> dict[str, Found]:
    """The posts of a folder as `platform/id`."""
    posts = [r for r in results(path) if isinstance(r, Found)]
    return {f"{f.post.platform}/{f.post.post_id}": f for f in posts}


def side(**fields: Any) -> dict[str, Any]:
    base = {"category": "twitter", "subcategory": "user", "filename": "AAAAA", "extension": "jpg"}
    author = {"id": 42, "name": "made_up"}
    base |= {"tweet_id": 20, "date": "2026-03-06 13:02:05", "author": author, "num": 1}
    return {**base, **fields}


def one(**fields: Any) -> Found | Skip:
    [result] = gallery_dl.parse({"items": [{"record": side(**fields)}]}, "sidecars")
    return result


def image(**fields: Any) -> Found:
    result = one(**fields)
    assert isinstance(result, Found)
    return result


def test_posts_get_the_platform_and_the_id_that_its_own_collector_gives():
    assert sorted(found()) == [
        "art-site/4711",
        "bluesky/at://did:plc:madeupmadeupmadeupmadeup/app.bsky.feed.post/3madeup1aaa2a",
        "civitai/6030721",
        "danbooru/294929",
        "deviantart/0A1B2C3D-0000-0000-0000-000000000001",
        "flickr/53000000001",
        "instagram/MadeUp_01a",
        "mastodon/social.example/116100000000000001",
        "pixiv/99000001",
        "reddit/gg0002",
        "reddit/gg0003",
        "reddit/t1_gc1",
        "tumblr/700000000000000001",
        "x/2029905354552246272",
        "x/2029905354552246273",
    ]


def test_a_post_meets_itself_in_an_export_of_the_platform():
    by_side_file = found()["x/2029905354552246272"].post
    path = SAMPLE.parents[1] / "x" / "snscrape.jsonl"
    raw = next(iter(x.read(open_export(path), "snscrape")))

    [there] = x.parse(raw.record, "snscrape")

    assert isinstance(there, Found)
    for key in ("post_id", "author_id", "created_at", "permalink", "hashtags"):
        assert getattr(there.post, key) == getattr(by_side_file, key)


@pytest.mark.parametrize(
    "uri",
    [
        "https://social.example/users/made_up/statuses/1161",
        "https://Social.example/users/made_up/statuses/1161/activity",
        "https://social.example/ap/users/1/statuses/1161",
        "https://social.example/objects/ac523779-93d3-4315-ab8e-25b1665740cf",
        "tag:social.example,2016-11-01:objectId=77:objectType=Status",
        "https://bridge.example/convert/ap/at://did:plc:abc/app.bsky.feed.post/3made",
        "https://social.example/notes/by-made_up-1",
    ],
)
def test_a_status_meets_itself_in_an_answer_of_the_api(uri):
    account = {"username": "made_up", "acct": "made_up", "url": "https://social.example/@made_up"}
    item = {"id": "1", "type": "image", "url": "https://files.example/1.png"}
    status = {"uri": uri, "account": account, "created_at": "2026-03-06T13:02:05.000Z"}
    status |= {"content": "<p>x</p>", "visibility": "public", "tags": [], "sensitive": False}

    [there] = mastodon.parse({**status, "media_attachments": [item]}, "timeline")
    here = image(**status, category="social.example", extension="png", media=item)

    assert isinstance(there, Found)
    assert here.post.platform == "mastodon"
    for key in ("post_id", "author_id", "created_at", "sensitive"):
        assert getattr(here.post, key) == getattr(there.post, key)


def test_a_comment_meets_itself_in_a_dump():
    raw = {"id": "gc1", "body": "i.redd.it/", "link_id": "t3_gg0002", "subreddit": "aiArt"}
    raw |= {"author": "made_up_other", "author_fullname": "t2_ddd444", "created_utc": 1767312000}

    [there] = reddit.parse({**raw, "body": "https://i.redd.it/ddd555.jpg"}, "dump")

    here = found()["reddit/t1_gc1"]
    assert isinstance(there, Found)
    assert there.media[0].url == here.media[0].url
    for key in ("post_id", "author_id", "created_at", "permalink", "community", "flair"):
        assert getattr(there.post, key) == getattr(here.post, key)


@pytest.mark.parametrize(
    ("post", "positions", "missed"),
    [
        ("x/2029905354552246272", [0, 2], ("video",)),
        ("reddit/gg0002", [0, 1], ()),
        ("pixiv/99000001", [0, 2, 10], ()),
        ("instagram/MadeUp_01a", [0, 1], ()),
    ],
)
def test_pictures_of_a_post_come_in_the_order_of_their_numbers(post, positions, missed):
    item = found()[post]

    assert [m.position for m in item.media] == positions
    assert item.missed == missed


def test_each_picture_has_the_file_that_lies_beside_its_side_file():
    export = open_export(SAMPLE)
    members = {f"{key}": [m.member for m in f.media] for key, f in found().items()}

    assert members["pixiv/99000001"] == [
        f"pixiv/777 pseudonym_marker/99000001_p{n}.png" for n in (0, 2, 10)
    ]
    assert members["reddit/gg0002"] == [
        "reddit/aiArt/gg0002 01 A castle.jpg",
        "reddit/aiArt/gg0002 02 A castle.jpg",
    ]
    assert members["instagram/MadeUp_01a"] == [
        "instagram/pseudonym_marker/ig_1.jpg",
        "instagram/pseudonym_marker/ig_2.jpg",
    ]
    assert members["reddit/gg0003"] == [None]
    assert all(m in export for names in members.values() for m in names if m)


def test_a_file_whose_ending_was_mended_and_a_folder_of_side_files_are_found(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "20_1.jpg.json").write_text(json.dumps(side()))
    (tmp_path / "20_1.png").write_bytes(b"x")
    (tmp_path / "metadata/21_1.jpg.json").write_text(json.dumps(side(tweet_id=21)))
    (tmp_path / "21_1.jpg").write_bytes(b"x")

    posts = found(tmp_path)

    assert posts["x/20"].media[0].member == "20_1.png"
    assert posts["x/21"].media[0].member == "21_1.jpg"


def test_lines_find_files_by_the_usual_names_and_whole_posts_however_far_apart(tmp_path):
    lines = [side(num=2, filename="BBBBB"), *(side(tweet_id=n) for n in range(30, 60)), side()]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    for name in ("20_1.jpg", "20_2.jpg"):
        (tmp_path / name).write_bytes(b"x")

    post = found(tmp_path)["x/20"]

    assert [m.member for m in post.media] == ["20_1.jpg", "20_2.jpg"]
    assert [m.url for m in post.media] == [
        f"https://pbs.twimg.com/media/{name}?format=jpg&name=orig" for name in ("AAAAA", "BBBBB")
    ]


def test_a_picture_that_two_side_files_tell_of_is_one(tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps(side()))
    (tmp_path / "20_1.jpg.json").write_text(json.dumps(side()))

    assert len(found(tmp_path)["x/20"].media) == 1


def test_a_zip_gives_the_same(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(SAMPLE.rglob("*.*"), reverse=True):
            archive.write(file, file.relative_to(SAMPLE).as_posix())

    assert detect(open_export(path)) == [(gallery_dl, gallery_dl.FORMATS[0])]
    assert found(path) == found()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subcategory": "avatar"}, "not a post"),
        ({"tweet_id": None, "id": None}, "no id"),
        ({"date": None}, "no time"),
        ({"date": "0001-01-01 00:00:00"}, "no time"),
        ({"date": "soon"}, "no time"),
        ({"extension": "mp4"}, "video"),
        ({"extension": "mp3"}, "audio"),
        ({"extension": "pdf"}, "no image"),
        ({"filename": None}, "media not included"),
        ({"author": {"id": 1, "protected": True}}, "not public"),
        ({"category": "instagram", "post_shortcode": "a", "type": "story"}, "story"),
        ({"category": "instagram", "post_shortcode": "a", "audience": "besties"}, "not public"),
        ({"category": "tumblr", "id": 1, "state": "private"}, "not public"),
        ({"category": "flickr", "id": 1, "ispublic": 0}, "not public"),
        ({"category": "pixiv", "id": 1, "restrict": 2}, "not public"),
        ({"category": "civitai", "post": {"id": 1, "availability": "Private"}}, "not public"),
        ({"category": "deviantart", "deviationid": "A", "is_deleted": True}, "deleted"),
        ({"category": "danbooru", "id": 1, "is_banned": True}, "removed"),
        ({"category": "e621", "id": 1, "flags": {"deleted": True}}, "deleted"),
        ({"category": "reddit", "id": "a", "removed_by_category": "author"}, "deleted"),
        ({"category": "reddit", "id": "a", "selftext": "[removed]"}, "removed"),
        (
            {
                "category": "a.b",
                "uri": "https://a.b/1",
                "account": {"acct": "c"},
                "visibility": "direct",
            },
            "not public",
        ),
    ],
)
def test_what_must_not_be_collected_is_skipped_with_a_reason(fields, reason):
    assert one(**fields) == Skip(reason)


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({"retweet_id": 0}, None),
        ({"retweet_id": 20}, None),
        ({"retweet_id": 19}, "x/19"),
        ({"source_id": 18}, "x/18"),
        ({"category": "tumblr", "id": 2, "url": "https://a/b.jpg", "reblogged": False}, None),
        (
            {
                "category": "danbooru",
                "id": 3,
                "file_url": "https://a/b.jpg",
                "pixiv_id": 77,
            },
            "pixiv/77",
        ),
        (
            {
                "category": "e621",
                "id": 3,
                "url": "https://a/b.jpg",
                "sources": ["https://a.example", "https://x.com/some_one/status/1234"],
            },
            "x/1234",
        ),
    ],
)
def test_a_repost_names_the_post_it_shows(fields, origin):
    fields = {"photo": {"url": "https://a.example/b.jpg"}, **fields}

    assert image(**fields).post.repost_of == origin


def test_who_reposted_is_known_only_from_a_profile():
    author, reader = {"id": 43, "name": "other"}, {"id": 42, "name": "reader"}

    assert image(retweet_id=19, author=author, user=reader).post.author_id == "42"
    assert image(retweet_id=19, author=author, user=author).post.author_id is None


@pytest.mark.parametrize(
    ("fields", "author"),
    [
        (
            {"category": "civitai", "file": {"postId": 1}, "user": {"username": "Made_Up"}},
            "name:made_up",
        ),
        ({"category": "civitai", "file": {"postId": 1}, "user": {"id": 5, "username": "a"}}, "5"),
        ({"category": "tumblr", "id": 1, "blog": {"uuid": "t:x"}, "blog_name": "x"}, "t:x"),
        ({"category": "tumblr", "id": 1, "blog_name": "Made-Up"}, "name:made-up"),
        ({"category": "reddit", "id": "a", "author": "Made_Up"}, "name:made_up"),
        ({"category": "reddit", "id": "a", "author": "[deleted]"}, None),
        ({"category": "danbooru", "id": 1, "uploader_id": 9}, "9"),
        ({"category": "elsewhere", "id": 1, "author": "Made Up"}, "name:made up"),
        ({"category": "elsewhere", "id": 1, "author": {"name": "Made Up"}}, "name:made up"),
        ({"category": "elsewhere", "id": 1, "author": None, "user": {"id": "U1"}}, "U1"),
        ({"category": "elsewhere", "id": 1, "author": None}, None),
    ],
)
def test_an_author_is_known_by_id_and_else_by_name(fields, author):
    urls = {"url": "https://i.redd.it/AAAAA.jpg", "photo": {"url": "https://a.example/b.jpg"}}

    assert image(**urls, **{"author": None, **fields}).post.author_id == author


def test_a_claim_of_being_generated_is_kept_as_flair():
    flairs = {key: f.post.flair for key, f in found().items() if f.post.flair}

    assert flairs == {
        "civitai/6030721": "ai-generated (civitai)",
        "pixiv/99000001": "ai-generated (pixiv)",
        "reddit/gg0002": "Midjourney",
        "reddit/gg0003": "Midjourney",
    }
    drawn = image(category="pixiv", id=1, url="https://a.example/b.jpg", illust_ai_type=1)
    assert drawn.post.flair is None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["#One", "two words", "One", " "], ("One", "two words")),
        ([{"name": "one", "translated_name": "x"}, {"tag": "two"}], ("one", "two")),
        ([{"name": "mine", "automated": False}, {"name": "its", "automated": True}], ("mine",)),
        ("one two_three", ("one", "two_three")),
        ("one, two three", ("one", "two three")),
        (None, ("Word",)),
        (7, ("Word",)),
    ],
)
def test_tags_are_read_however_a_site_writes_them(tags, expected):
    got = image(
        category="elsewhere", id=1, url="https://a.example/b.jpg", tags=tags, content="a #Word"
    )

    assert got.post.hashtags == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sensitive": None}, None),
        ({"sensitive": True}, True),
        ({"category": "pixiv", "id": 1, "x_restrict": 1}, True),
        ({"category": "pixiv", "id": 1, "x_restrict": 0}, False),
        ({"category": "danbooru", "id": 1, "rating": "s"}, True),
        ({"category": "e621", "id": 1, "rating": "s"}, False),
        ({"category": "e621", "id": 1, "rating": "q"}, True),
        ({"category": "flickr", "id": 1, "safety_level": "1"}, False),
        ({"category": "flickr", "id": 1}, None),
    ],
)
def test_what_a_platform_says_of_sensitivity_is_read_and_nothing_else(fields, expected):
    assert image(url="https://a.example/b.jpg", **fields).post.sensitive is expected


def test_names_reach_no_field_but_those_for_names_and_the_file():
    for item in found().values():
        kept = item.post._replace(handles=(), author_id=None, text=None, title=None)
        media = [m._replace(member=None) for m in item.media]
        assert "pseudonym_marker" not in repr((kept, media))
        if item.post.platform not in ("danbooru",):
            assert item.post.handles


def test_a_broken_side_file_is_one_problem_and_its_name_is_not_told():
    raws = list(gallery_dl.read(open_export(SAMPLE), "sidecars"))

    assert [r.problem for r in raws if r.problem] == ["broken file", "broken line"]
    assert not any(r.partial for r in raws)


def test_only_posts_that_are_not_whole_are_held(tmp_path):
    padding = "x" * 2000
    lines = (side(tweet_id=n, content=padding) for n in range(3000))
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    export = open_export(tmp_path)
    tracemalloc.start()
    count = sum(1 for _ in gallery_dl.read(export, "sidecars"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 3000
    assert peak < 3000 * len(padding)  # all records at once would take more


def test_other_json_is_not_claimed(tmp_path):
    shutil.copy(SAMPLE / "instagram/pseudonym_marker/info.json", tmp_path)
    (tmp_path / "a.json").write_text('{"category": "twitter", "id": 1}')

    assert gallery_dl.recognise(open_export(tmp_path)) is None
