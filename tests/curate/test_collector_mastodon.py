import io
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import detect, mastodon
from curate.collectors.contract import Found, Skip
from curate.exports import open_export

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "mastodon"
PUBLIC = "https://www.w3.org/ns/activitystreams#Public"
IMAGE = {
    "id": "9",
    "type": "image",
    "url": "https://big.example/cache/o.png",
    "preview_url": "https://big.example/cache/s.png",
    "remote_url": "https://files.pics.example/o.png",
}


def account(**fields: Any) -> dict[str, Any]:
    return {
        "username": "mira_q",
        "acct": "mira_q@pics.example",
        "uri": "https://pics.example/users/mira_q",
        "url": "https://pics.example/@mira_q",
        **fields,
    }


def status(**fields: Any) -> dict[str, Any]:
    return {
        "id": "7",
        "uri": "https://pics.example/users/mira_q/statuses/112",
        "url": "https://pics.example/@mira_q/112",
        "created_at": "2025-06-24T17:35:19.898Z",
        "visibility": "public",
        "account": account(),
        "media_attachments": [IMAGE],
        "tags": [],
        **fields,
    }


def image(**fields: Any) -> Found:
    [result] = mastodon.parse(status(**fields), "timeline")
    assert isinstance(result, Found), result
    return result


def why(**fields: Any) -> str:
    [result] = mastodon.parse(status(**fields), "timeline")
    assert isinstance(result, Skip), result
    return result.reason


def activity(actor: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    note = {
        "id": "https://pics.example/users/mira_q/statuses/112",
        "type": "Note",
        "url": "https://pics.example/@mira_q/112",
        "attributedTo": "https://pics.example/users/mira_q",
        "published": "2025-06-24T17:35:19Z",
        "to": [PUBLIC],
        "cc": [],
        "attachment": [
            {"type": "Document", "mediaType": "image/png", "url": "https://a.example/o"}
        ],
        **fields,
    }
    made = {"id": f"{note['id']}/activity", "type": "Create", "actor": note["attributedTo"]}
    return {"activity": {**made, "to": [PUBLIC], "object": note}, "actor": actor or {}}


def archived(actor: dict[str, Any] | None = None, **fields: Any) -> Found | Skip:
    [result] = mastodon.parse(activity(actor, **fields), "archive")
    return result


def gathered(path: Path) -> tuple[list[Any], list[Any], Any]:
    export = open_export(path)
    [(collector, format)] = detect(export)
    collection = collect(export, collector, format, secret=b"s", source_id="s")
    batches = list(collection)
    return [p for b in batches for p in b.posts], [m for b in batches for m in b.media], collection


# ---------------------------------------------------------------- who and which


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://pics.example/users/mira_q/statuses/123", "pics.example/123"),
        ("https://pics.example/users/mira_q/statuses/123/activity", "pics.example/123"),
        ("https://Pics.example/ap/users/116/statuses/7", "pics.example/7"),
        ("https://threads.net/ap/users/178/post/180/", "threads.net/180"),
        ("https://akko.example/objects/0d5a-7c", "akko.example/0d5a-7c"),
        ("https://key.example/notes/9xyz", "key.example/9xyz"),
        ("https://fed.example/p/mira_q/55", "fed.example/55"),
        ("https://lemmy.example/post/8", "lemmy.example/8"),
        ("https://lemmy.example/comment/8", "lemmy.example/comment/8"),
        ("https://blog.example/?p=12", "blog.example/?p=12"),
        ("tag:old.example,2016-11-24:objectId=42:objectType=Status", "old.example/42"),
        (
            "https://bridge.example/convert/ap/at://did:plc:abc/app.bsky.feed.post/3lu",
            "bridge.example/did:plc:abc/3lu",
        ),
    ],
)
def test_a_post_goes_by_its_home_and_its_id_whatever_server_wrote_it(uri, expected):
    assert image(uri=uri).post.post_id == expected


@pytest.mark.parametrize(
    "uri",
    [
        "https://blog.example/2025/mira_q-in-the-fog",
        "https://blog.example/@mira_q",
        "https://blog.example/Mira_Q",
    ],
)
def test_a_post_id_never_holds_the_name_of_its_author(uri):
    first, second = image(uri=uri).post.post_id, image(uri=uri + "-2").post.post_id

    assert "mira_q" not in first.lower()
    assert first.startswith("blog.example/")
    assert first != second


def test_without_a_uri_the_address_of_the_page_gives_the_same_id():
    assert image(uri=None).post.post_id == image().post.post_id == "pics.example/112"
    assert why(uri=None, url=None) == why(uri="http://[", url="/x") == "no id"


@pytest.mark.parametrize(
    "other",
    [
        account(uri=None),
        account(uri="https://pics.example/ap/users/116"),
        account(username="Mira_Q", url=None),
        account(acct="mira_q"),
    ],
    ids=["no uri", "numbered", "no url", "local"],
)
def test_an_author_is_the_same_in_every_kind_of_answer_and_in_the_archive(other):
    archive = archived({"id": "https://pics.example/ap/users/116", "preferredUsername": "mira_q"})

    assert isinstance(archive, Found)
    assert image(account=other).post.author_id == archive.post.author_id == "mira_q@pics.example"


def test_an_archive_without_its_actor_still_knows_the_author_by_the_addresses():
    by_name = archived()
    by_page = archived(attributedTo="https://pics.example/ap/users/116")
    unknown = archived(attributedTo="https://a.example/116", url=None, id="https://a.example/1")

    authors = [f.post.author_id for f in (by_name, by_page, unknown) if isinstance(f, Found)]
    assert authors == ["mira_q@pics.example", "mira_q@pics.example", "https://a.example/116"]


def test_the_same_post_in_an_archive_and_in_another_servers_timeline_is_one(tmp_path):
    ours, _, _ = gathered(SAMPLES / "archive")
    theirs, _, _ = gathered(SAMPLES / "timeline.json")

    [(a, b)] = [(a, b) for a in ours for b in theirs if a.post_id == b.post_id]
    assert (a.author, a.text, a.created_at) == (b.author, b.text, b.created_at)
    assert a.author is not None


# ---------------------------------------------------------------- what a status holds


def test_the_origins_file_comes_first_and_the_preview_last():
    [media] = image().media

    assert media.url == "https://files.pics.example/o.png"
    assert media.fallback_urls == (
        "https://big.example/cache/o.png",
        "https://big.example/cache/s.png",
    )
    assert media.rendition == "re-encode"


def test_a_preview_alone_is_said_to_be_one():
    [media] = image(media_attachments=[{**IMAGE, "url": None, "remote_url": None}]).media

    assert (media.url, media.rendition) == ("https://big.example/cache/s.png", "preview")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({**IMAGE, "type": "gifv"}, "video"),
        ({**IMAGE, "type": "video", "url": None, "remote_url": None, "preview_url": None}, "video"),
        ({**IMAGE, "type": "audio"}, "audio"),
        ({"type": "unknown", "remote_url": "https://a.example/x.mp4"}, "video"),
        ({"type": "unknown", "remote_url": "https://a.example/x.ogg?1"}, "audio"),
        ({"type": "image", "url": "javascript:x"}, "media not included"),
        (None, "media not included"),
        ("x", "media not included"),
    ],
)
def test_what_is_no_picture_is_counted_and_keeps_its_place(item, reason):
    assert why(media_attachments=[item]) == reason

    got = image(media_attachments=[item, IMAGE])
    assert [m.position for m in got.media] == [1]
    assert got.missed == (reason,)


def test_a_file_that_a_server_could_not_tell_is_tried_at_its_origin():
    item = {"id": "4", "type": "unknown", "url": None, "remote_url": "https://a.example/x.webp"}

    [media] = image(media_attachments=[item]).media

    assert (media.url, media.claimed_type) == ("https://a.example/x.webp", "image/webp")


@pytest.mark.parametrize("visibility", ["private", "direct", "local", "mutuals_only", "limited"])
def test_what_not_everybody_may_see_is_left_out(visibility):
    assert why(visibility=visibility) == "not public"
    assert why(reblog=status(visibility=visibility)) == "not public"


def test_a_post_for_its_own_server_alone_is_not_public():
    assert why(local_only=True) == "not public"


def test_a_boost_is_a_post_of_its_own_with_the_originals_pictures():
    original = status(
        uri="https://other.example/users/tomo/statuses/9",
        account=account(username="tomo", acct="tomo@other.example"),
        tags=[{"name": "写真"}],
        content="<p>hers</p>",
        sensitive=True,
    )

    got = image(reblog=original, media_attachments=[], content="", sensitive=False).post

    assert (got.post_id, got.repost_of) == ("pics.example/112", "mastodon/other.example/9")
    assert (got.text, got.hashtags, got.sensitive) == ("hers", ("写真",), True)
    assert got.author_id == "mira_q@pics.example"
    assert {"tomo", "mira_q"} <= set(got.handles)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"uri": "https://b.example/ap/at://did:plc:abc/app.bsky.feed.post/3lu"},
            "bluesky/at://did:plc:abc/app.bsky.feed.post/3lu",
        ),
        (
            {"url": "https://b.example/r/https://bsky.app/profile/did:plc:abc/post/3lu"},
            "bluesky/at://did:plc:abc/app.bsky.feed.post/3lu",
        ),
        ({"url": "https://twitter.com/MLS/status/194"}, "x/194"),
        ({}, None),
    ],
)
def test_what_a_bridge_made_is_a_repost_of_the_post_it_copied(fields, expected):
    assert image(**fields).post.repost_of == expected


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("https://pics.example/@mira_q/1", "https://pics.example/users/mira_q/statuses/1"), None),
        (
            ("https://pics.example/@mira_q/1", "https://pics.example/ap/users/1/statuses/1"),
            "https://pics.example/ap/users/1/statuses/1",
        ),
        (("https://key.example/notes/1", None), "https://key.example/notes/1"),
        (("https://Mira_q.example/notes/1", "x"), None),
        (("https://pics.example/@a_former_name/1", "x"), None),
    ],
)
def test_a_permalink_is_one_that_names_nobody_or_none(addresses, expected):
    url, uri = addresses

    found = image(url=url, uri=uri or "https://pics.example/users/x/statuses/5").post

    assert found.permalink == (expected if uri else "https://key.example/notes/1")


def test_html_becomes_text_and_a_warning_the_title():
    got = image(content="<p>a &amp; b<br>c</p><p>#x</p>", spoiler_text="eyes", tags=None).post

    assert (got.title, got.text, got.hashtags) == ("eyes", "a & b\nc\n#x", ("x",))


def test_tags_are_kept_in_every_script_and_once():
    names = ["写真", "ünïcode", "#Art", "写真", "", None, "a"]

    got = image(tags=[{"name": n} for n in names]).post.hashtags

    assert got == ("写真", "ünïcode", "Art", "a")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"noindex": True}, True),
        ({"note": '<p>hi <a href="/t">#<span>NoBot</span></a></p>'}, True),
        ({"fields": [{"name": "bots", "value": "#noAI please"}]}, True),
        ({"noindex": False, "indexable": False, "discoverable": False}, False),
        ({"note": "<p>I write #nobotany and no bot code, noindex</p>"}, False),
        ({"note": None, "fields": None, "noindex": None}, False),
    ],
)
def test_an_author_who_asks_to_be_left_out_is_marked_and_a_default_is_no_request(fields, expected):
    assert image(account=account(**fields)).post.opted_out is expected
    assert image(reblog=status(account=account(**fields))).post.opted_out is expected


def test_akkoma_and_pixelfed_statuses_with_missing_keys_are_read():
    bare = {
        "uri": "https://akko.example/objects/0d5a",
        "created_at": "2025-06-24T17:35:19Z",
        "account": {"username": "ren", "url": "https://akko.example/users/ren"},
        "media_attachments": [{"url": "https://akko.example/media/a", "mime": "image/png"}],
    }

    [found] = mastodon.parse(bare, "timeline")

    assert isinstance(found, Found)
    assert found.post.author_id == "ren@akko.example"
    assert found.media[0].claimed_type == "image/png"
    assert (found.post.sensitive, found.post.language, found.post.score) == (None, None, None)


# ---------------------------------------------------------------- files of the API


def test_pages_lines_searches_and_lists_give_the_same_posts(tmp_path):
    statuses = json.loads((SAMPLES / "timeline.json").read_bytes())
    shapes = {
        "list.json": json.dumps(statuses),
        "pretty.json": json.dumps(statuses, indent=2),
        "lines.jsonl": "\n".join(map(json.dumps, statuses)),
        "pages.jsonl": "\n".join(json.dumps(page) for page in (statuses[:4], statuses[4:])),
        "search.json": json.dumps({"accounts": [], "statuses": statuses, "hashtags": []}),
    }
    expected, _, _ = gathered(SAMPLES / "timeline.json")

    for name, text in shapes.items():
        path = tmp_path / name
        path.write_text("\ufeff" + text)
        posts, _, collection = gathered(path)
        assert posts == expected, name
        assert collection.tally.seen == len(statuses), name


def test_a_list_cut_off_in_the_middle_keeps_what_was_whole(tmp_path):
    whole = (SAMPLES / "timeline.json").read_bytes()
    path = tmp_path / "cut.json"
    path.write_bytes(whole[: len(whole) // 2])

    posts, _, collection = gathered(path)

    assert 0 < len(posts) < 7
    assert collection.tally.partial


def test_a_crawlers_side_file_is_not_ours(tmp_path):
    path = tmp_path / "1.json"
    path.write_text(json.dumps({"category": "mastodon", "subcategory": "user", **status()}))

    assert mastodon.recognise(open_export(path)) is None


# ---------------------------------------------------------------- the archive


@pytest.mark.parametrize("kind", ["folder", "deeper", "zip", "tar.gz"])
def test_an_archive_gives_the_same_posts_and_files_however_it_is_packed(tmp_path, kind):
    packed = pack(tmp_path, kind)
    expected, media, _ = gathered(SAMPLES / "archive")

    posts, found, collection = gathered(packed)

    assert posts == expected
    export = open_export(packed)
    assert [m.position for m in found] == [m.position for m in media]
    pairs = [(m, SAMPLES / "archive" / n.member) for m, n in zip(found, media, strict=True)]
    there = [(ours, theirs) for ours, theirs in pairs if theirs.exists()]
    assert len(there) == len(pairs) - 1  # one file is missing from the sample
    for ours, theirs in there:
        assert export.read(ours.member) == theirs.read_bytes()
    assert not collection.tally.partial


def pack(folder: Path, kind: str) -> Path:
    source = SAMPLES / "archive"
    if kind in ("folder", "deeper"):
        target = folder / ("x" if kind == "folder" else "backup/of/mine")
        shutil.copytree(source, target)
        return folder / ("x" if kind == "folder" else "backup")
    if kind == "zip":
        with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
            for file in sorted(source.rglob("*.*")):
                archive.write(file, file.relative_to(source))
        return folder / "archive.zip"
    with tarfile.open(folder / "archive.tar.gz", "w:gz") as tar:
        for file in sorted(source.rglob("*.*")):
            tar.add(file, f"./{file.relative_to(source)}")
    return folder / "archive.tar.gz"


def test_two_archives_in_one_folder_keep_to_their_own_files(tmp_path):
    for name in ("a", "b"):
        shutil.copytree(SAMPLES / "archive", tmp_path / name)
    outbox = tmp_path / "b/outbox.json"
    outbox.write_text(outbox.read_text().replace("pics.example", "film.example"))

    posts, media, _ = gathered(tmp_path)

    home = {p.post_id: p.post_id.split(".")[0] for p in posts}
    there = [m for m in media if (tmp_path / m.member).exists()]
    assert Counter(home.values()) == {"pics": 6, "film": 6}
    assert all((m.member[0] == "a") == (home[m.post_id] == "pics") for m in there)
    assert len(there) == len(media) - 2


def test_only_what_is_sent_to_the_public_is_public():
    followers = "https://pics.example/users/mira_q/followers"

    assert isinstance(archived(to=[followers], cc=[PUBLIC]), Found)
    assert isinstance(archived(to="as:Public"), Found)
    assert archived(to=[followers], cc=[]) == Skip("not public")
    assert archived(to=[], cc=[]) == Skip("not public")
    assert archived(to=["https://pics.example/users/Public"]) == Skip("not public")


def test_an_attachment_that_was_left_out_of_the_archive_keeps_the_name_it_would_have():
    gone = {"type": "Document", "mediaType": "image/png", "url": "/media_attachments/files/1/o.png"}

    found = archived(attachment=[gone])

    assert isinstance(found, Found)
    assert found.media[0].member == "media_attachments/files/1/o.png"
    assert archived(attachment=[{**gone, "url": "/elsewhere/o.png"}]) == Skip("media not included")
    assert archived(attachment={**gone, "mediaType": "video/mp4"}) == Skip("video")


def test_an_akkoma_attachment_is_a_list_of_links():
    link = {"type": "Link", "href": "https://akko.example/media/a", "mediaType": "image/webp"}

    found = archived(attachment=[{"type": "Document", "name": "alt", "url": [link]}])

    assert isinstance(found, Found)
    assert (found.media[0].url, found.media[0].alt) == (link["href"], "alt")
    assert found.media[0].claimed_type == "image/webp"

    film = {**link, "mediaType": "video/mp4"}
    assert archived(attachment=[{"type": "Document", "url": [film]}]) == Skip("video")


def test_a_boost_in_an_archive_is_a_repost_without_its_picture():
    boost = {"type": "Announce", "object": "https://other.example/users/tomo/statuses/1"}

    assert mastodon.parse({"activity": boost}, "archive") == (Skip("repost"),)


def test_a_tombstone_in_an_archive_is_a_deleted_post():
    assert archived(type="Tombstone") == Skip("deleted")


def test_a_boost_of_ones_own_post_that_is_spelt_out_is_resolved():
    record = activity()
    record["activity"] |= {"type": "Announce", "id": "https://pics.example/x/statuses/113/activity"}

    [found] = mastodon.parse(record, "archive")

    assert isinstance(found, Found)
    assert found.post.post_id == "pics.example/113"
    assert found.post.repost_of == "mastodon/pics.example/112"


def test_a_profile_that_asks_to_be_left_out_marks_the_whole_archive():
    bio = {"preferredUsername": "mira_q", "summary": "<p>#<span>noindex</span></p>"}
    table = {"attachment": [{"type": "PropertyValue", "name": "x", "value": "#nobot"}]}

    marks = [archived(bio), archived(table), archived({"summary": "<p>birds</p>"})]

    assert [f.post.opted_out for f in marks if isinstance(f, Found)] == [True, True, False]


def test_an_archive_without_its_actor_is_said_to_be_incomplete(tmp_path):
    shutil.copytree(SAMPLES / "archive", tmp_path / "a")
    (tmp_path / "a/actor.json").unlink()

    posts, _, collection = gathered(tmp_path / "a")

    assert len(posts) == 6
    assert "actor.json" in collection.tally.partial[0]


def test_a_text_in_several_languages_has_none():
    one, two = archived(contentMap={"de": "x"}), archived(contentMap={"de": "x", "en": "y"})

    assert [f.post.language for f in (one, two) if isinstance(f, Found)] == ["de", None]


def test_a_mention_is_known_as_a_handle():
    tags = [{"type": "Mention", "name": "@tomo@other.example"}, {"type": "Hashtag", "name": "#A"}]

    found = archived({"preferredUsername": "mira_q"}, tag=tags)

    assert isinstance(found, Found)
    assert set(found.post.handles) == {"mira_q", "tomo", "tomo@other.example"}
    assert found.post.hashtags == ("A",)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["url", "type", "name", "href", "id", "to"]), inner)
)))  # fmt: skip
def test_any_json_where_attachments_tags_and_addresses_should_be_is_survived(junk):
    for key in ("attachment", "tag", "url", "id", "to", "contentMap", "likes", "attributedTo"):
        assert len(mastodon.parse(activity({"attachment": junk}, **{key: junk}), "archive")) == 1
    for key in ("media_attachments", "tags", "mentions", "uri", "url", "reblog", "content"):
        assert len(mastodon.parse(status(**{key: junk}), "timeline")) == 1


def test_a_huge_outbox_is_read_as_a_stream(tmp_path):
    item = json.dumps(activity()["activity"])
    path = tmp_path / "archive.tar.gz"
    body = f'{{"id":"outbox.json","orderedItems":[{",".join([item] * 3000)}]}}'.encode()
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("outbox.json")
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))

    records = mastodon.read(open_export(path), "archive")

    next(records)
    assert next(records).where == "outbox.json[0]"
    records.close()


# ---------------------------------------------------------------- real files


def test_real_timelines_give_as_many_posts_images_and_tags_as_counted_otherwise(shared):
    for path in sorted((shared / "data/exports/mastodon").glob("*.json")):
        posts, media, collection = gathered(path)
        raw = json.loads(path.read_bytes())
        pictured = [s for s in raw if any(m["type"] == "image" for m in s["media_attachments"])]

        assert len(posts) == len(pictured), path.name
        assert len(media) == sum(len(s["media_attachments"]) for s in pictured)
        assert sum(len(p.hashtags) for p in posts) == sum(len(s["tags"]) for s in pictured)
        assert collection.tally.seen == len(raw)
        names = {s["account"]["username"].lower() for s in raw}
        assert not any(n in f"{p.post_id} {p.permalink}".lower() for p in posts for n in names)
