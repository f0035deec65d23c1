import copy
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from curate.collect import collect
from curate.collectors import detect, discord
from curate.collectors.contract import Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "exports" / "discord" / "chat-exporter"
NAME = "Guild - art.json"


def message(**fields: Any) -> dict[str, Any]:
    return {
        "id": "1478000000000000001",
        "type": "Default",
        "timestamp": "2026-03-02T10:00:00+01:00",
        "content": "",
        "author": {"id": "8", "name": "odile.b", "nickname": "Odile Brandt"},
        "attachments": [{"id": "7", "url": "https://cdn.example/a.png", "fileName": "a.png"}],
        "embeds": [],
        "stickers": [],
        "reactions": [],
        "mentions": [],
        **fields,
    }


def document(*messages: Any, kind: str = "GuildTextChat", guild: str = "1") -> dict[str, Any]:
    return {
        "guild": {"id": guild, "name": "Guild"},
        "channel": {"id": "2", "type": kind, "category": "Pictures", "name": "art"},
        "dateRange": {"after": None, "before": None},
        "exportedAt": "2026-03-03T10:00:00+01:00",
        "messages": list(messages),
        "messageCount": len(messages),
    }


def results(path: Path) -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in discord.read(export, "chat-exporter") if r.record is not None]
    return [result for record in records for result in discord.parse(record, "chat-exporter")]


def one(tmp_path: Path, content: dict[str, Any]) -> Found | Skip:
    path = tmp_path / NAME
    path.write_text(json.dumps(content))
    [result] = results(path)
    return result


def image(tmp_path: Path, **fields: Any) -> Found:
    result = one(tmp_path, document(message(**fields)))
    assert isinstance(result, Found)
    return result


def sample(post_id: str) -> Found:
    by_id = {r.post.post_id: r for r in results(SAMPLE) if isinstance(r, Found)}
    return by_id[post_id]


# ---------------------------------------------------------------- what is public


@pytest.mark.parametrize("kind", ["DirectTextChat", "DirectGroupTextChat", "GuildPrivateThread"])
def test_what_was_said_among_few_is_dropped(tmp_path, kind):
    assert one(tmp_path, document(message(), kind=kind)) == Skip("not public")


def test_direct_messages_are_told_by_their_guild_too(tmp_path):
    assert one(tmp_path, document(message(), kind="16", guild="0")) == Skip("not public")


@pytest.mark.parametrize("kind", ["GuildMemberJoin", "ChannelPinnedMessage", "8"])
def test_what_the_platform_itself_says_is_no_post(tmp_path, kind):
    assert one(tmp_path, document(message(type=kind))) == Skip("not a post")


@pytest.mark.parametrize("kind", ["Reply", "20"])
def test_a_reply_and_a_bots_answer_to_a_command_are_posts(tmp_path, kind):
    assert image(tmp_path, type=kind).media


# ---------------------------------------------------------------- files


def test_a_path_is_found_beside_its_json_file_whatever_its_slashes():
    near = "Lantern Makers - Pictures - art [900000000000000020].json_Files"

    assert sample("1478000000000000002").media[0].member == f"{near}/lantern-1A2B3.png"
    assert sample("1478000000000000008").media[0].member == f"{near}/far-77.jpg"


@pytest.mark.parametrize(
    "path",
    ["C:\\exports\\{}_Files\\a.png", "/home/someone/exports/{}_Files/a.png", "./{}_Files/a.png"],
)
def test_a_path_of_the_machine_that_exported_is_found_by_its_folder_and_name(tmp_path, path):
    folder = tmp_path / "set" / f"{NAME}_Files"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"png")
    attached = [{"id": "7", "url": path.format(NAME), "fileName": "a.png"}]
    (tmp_path / "set" / NAME).write_text(json.dumps(document(message(attachments=attached))))

    [result] = results(tmp_path)

    assert isinstance(result, Found)
    assert result.media[0].member == f"set/{NAME}_Files/a.png"
    assert result.media[0].url is None


def test_a_path_to_a_file_that_is_not_there_is_not_promised(tmp_path):
    attached = [{"id": "7", "url": "x_Files/a.png", "fileName": "a.png"}]

    assert one(tmp_path, document(message(attachments=attached))) == Skip("media not included")


def test_an_address_that_expires_is_kept_with_its_signature():
    url = sample("1478000000000000002").media[1].url

    assert url is not None
    assert url.endswith("?ex=69a6f000&is=69a59e80&hm=00ff&")


def test_every_part_of_a_channel_is_read_with_its_own_heading():
    found = [r for r in results(SAMPLE) if isinstance(r, Found)]

    assert len(found) == 5
    assert {r.post.community for r in found} == {"Lantern Makers"}
    assert Counter(r.reason for r in results(SAMPLE) if isinstance(r, Skip)) == {
        "not public": 1,
        "no id": 1,
        "sticker": 1,
        "not a post": 1,
        "link preview": 1,
        "video": 1,
        "no image": 1,
    }


def test_a_table_is_refused_in_one_line_that_says_what_to_do(tmp_path):
    path = tmp_path / "art.csv"
    path.write_text("\ufeffAuthorID,Author,Date,Content,Attachments,Reactions\n1,a,b,c,d,e\n")
    [(collector, format)] = detect(open_export(path))

    with pytest.raises(ExportError, match="export again as JSON") as error:
        list(collect(open_export(path), collector, format, secret=b"s", source_id="s"))

    assert "\n" not in str(error.value)


def test_a_file_that_breaks_off_keeps_what_was_whole_and_says_so(tmp_path):
    path = tmp_path / NAME
    whole = json.dumps(document(message(id="1"), message(id="2")))
    path.write_text(whole[: whole.rindex('"id": "2"')])
    [(collector, format)] = detect(open_export(path))

    collection = collect(open_export(path), collector, format, secret=b"s", source_id="s")
    kept = [post.post_id for batch in collection for post in batch.posts]

    assert kept == ["1"]
    assert not collection.source.complete


# ---------------------------------------------------------------- embeds


def picture(canonical: str = "https://a.example/p.jpg") -> dict[str, Any]:
    return {
        "url": "https://images-ext.example/p",
        "canonicalUrl": canonical,
        "width": 9,
        "height": 8,
    }


@pytest.mark.parametrize(
    "embed",
    [
        {"url": "https://a.example/p.jpg", "thumbnail": picture()},
        {"url": None, "title": "a bot's card", "image": picture(), "images": [picture()]},
        {"url": None, "title": "before several images were written", "image": picture()},
    ],
    ids=["link to a picture", "card", "old card"],
)
def test_a_picture_shown_for_itself_is_the_messages_own(tmp_path, embed):
    [media] = image(tmp_path, attachments=[], embeds=[embed]).media

    assert media.url == "https://a.example/p.jpg"
    assert media.fallback_urls == ("https://images-ext.example/p",)
    assert (media.claimed_width, media.claimed_height) == (9, 8)


@pytest.mark.parametrize(
    ("embed", "reason"),
    [
        ({"url": "https://news.example/story", "thumbnail": picture()}, "link preview"),
        ({"url": "https://x.com/i/status/1", "images": [picture(), picture()]}, "link preview"),
        ({"url": "https://v.example/1", "thumbnail": picture(), "video": {"url": "v"}}, "video"),
    ],
    ids=["article", "post elsewhere", "video"],
)
def test_the_preview_of_something_else_is_not_taken(tmp_path, embed, reason):
    result = one(tmp_path, document(message(attachments=[], embeds=[embed])))

    assert result == Skip(reason)


def test_pictures_of_embeds_come_after_attachments(tmp_path):
    embed = {"url": None, "images": [picture(), picture("https://a.example/q.png")]}

    media = image(tmp_path, embeds=[embed]).media

    assert [m.position for m in media] == [0, 1, 2]
    assert media[2].claimed_type == "image/png"


# ---------------------------------------------------------------- fields


def test_mentions_of_channels_are_no_hashtags(tmp_path):
    text = "in #render-farm and #art, #StableDiffusion #🎨-corner"

    assert image(tmp_path, content=text).post.hashtags == ("StableDiffusion",)


def test_everybody_mentioned_stands_as_user_whatever_the_name(tmp_path):
    people = [{"id": "9", "name": "ivo_k", "nickname": "Ivo"}]
    text = "@Ivo and <@!900> like @Odile Brandt, not @Ivory"

    post = image(tmp_path, content=text, mentions=people).post

    assert post.text == "@user and @user like @user, not @Ivory"
    assert post.handles == ("odile.b", "Odile Brandt", "ivo_k", "Ivo")


def test_a_forwarded_message_is_a_repost_with_the_pictures_of_the_original():
    post = sample("1478000000000000008").post

    assert post.repost_of == "discord/1477000000000000001"
    assert post.text == "from elsewhere #dalle"
    assert post.author_id == "800000000000000002"


def test_a_thread_gives_its_name_as_title_and_its_channel_as_flair():
    post = sample("1478000000000000020").post

    assert (post.title, post.flair) == ("Fox week", "art")


def test_a_message_without_a_time_has_the_one_in_its_id(tmp_path):
    # the example of https://discord.com/developers/docs/reference#snowflakes
    post = image(tmp_path, id="175928847299117063", timestamp=None).post

    assert post.created_at == datetime(2016, 4, 30, 11, 18, 25, 796000, tzinfo=UTC)


def test_parsing_changes_nothing():
    record = {**document(), "message": message(), "files": {}, "channels": ["art"]}
    before = copy.deepcopy(record)

    discord.parse(record, "chat-exporter")

    assert record == before
