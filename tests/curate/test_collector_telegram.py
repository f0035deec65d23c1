import gzip
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import detect, telegram
from curate.collectors.contract import Found, Skip
from curate.collectors.telegram import Repaired
from curate.exports import open_export
from schemas.errors import ExportError

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports" / "telegram"
SECOND = 1_772_442_000


def message(number: int, **fields: Any) -> dict[str, Any]:
    """A photo of a channel; the text goes into its entities as the program writes it."""
    text = fields.pop("text", "")
    return {
        "id": number,
        "type": "message",
        "date": "2026-03-02T10:00:00",
        "date_unixtime": str(SECOND),
        "from": "A channel",
        "from_id": "channel7",
        "photo": f"photos/{number}.jpg",
        "text": text,
        "text_entities": [{"type": "plain", "text": text}] if text else [],
        **fields,
    }


def write(folder: Path, messages: list[dict[str, Any]], **chat: Any) -> Path:
    folder.mkdir(exist_ok=True)
    heading = {"name": "A channel", "type": "public_channel", "id": 7, **chat}
    (folder / "result.json").write_text(json.dumps({**heading, "messages": messages}))
    (folder / "photos").mkdir(exist_ok=True)
    for photo in {str(item.get("photo")) for item in messages}:
        if photo.endswith(".jpg"):
            (folder / photo).write_bytes(b"jpeg")
    return folder


def results(path: Path, format: str = "chat") -> list[Found | Skip]:
    export = open_export(path)
    records = [r.record for r in telegram.read(export, format) if r.record is not None]
    return [result for record in records for result in telegram.parse(record, format)]


def posts(path: Path, format: str = "chat") -> list[Found]:
    return [r for r in results(path, format) if isinstance(r, Found)]


def reasons(path: Path, format: str = "chat") -> Counter[str]:
    return Counter(r.reason for r in results(path, format) if isinstance(r, Skip))


# ---------------------------------------------------------------- the stream


def repaired(data: bytes, sizes: list[int]) -> bytes:
    """`data` as it comes out when the source gives chunks of `sizes`, again and again."""
    source = io.BytesIO(data)
    turn = iter(range(1_000_000))

    class Chunked:
        def read(self, size: int = -1) -> bytes:
            return source.read(sizes[next(turn) % len(sizes)])

    stream = Repaired(Chunked())
    return b"".join(iter(lambda: stream.read(1), b""))


def as_telegram_writes(text: str) -> str:
    """A string as the program serialises it: control characters as `\\xHH`, which is not JSON."""
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    parts = [short.get(c) or (f"\\x{ord(c):02X}" if c < " " else c) for c in text]
    return '"' + "".join(parts) + '"'


TRICKY = st.text(st.sampled_from('\\x0Bu"\n\x00\x0b\x1fé'), max_size=60)


@given(text=TRICKY | st.text(max_size=40), sizes=st.lists(st.integers(1, 7), min_size=1))
def test_what_the_program_wrote_is_read_as_what_it_meant_wherever_chunks_end(text, sizes):
    written = as_telegram_writes(text).encode()

    assert json.loads(repaired(written, sizes)) == text


@given(text=TRICKY, sizes=st.lists(st.integers(1, 5), min_size=1))
def test_valid_json_comes_out_byte_for_byte(text, sizes):
    valid = json.dumps({"text": text}).encode()

    assert repaired(valid, sizes) == valid


def test_the_stream_holds_no_more_than_a_chunk_and_an_escape():
    stream = Repaired(io.BytesIO(b'"' + b"\\x0B" * 200_000 + b'"'))

    chunks = list(iter(lambda: stream.read(4096), b""))

    assert max(len(c) for c in chunks) < 4096 * 2
    assert json.loads(b"".join(chunks)) == "\x0b" * 200_000


# ---------------------------------------------------------------- albums


def test_neighbours_of_one_sender_and_second_are_one_post_in_their_order(tmp_path):
    items = [message(4, text="caption"), message(5), message(6), message(7, date_unixtime="1")]

    first, second = posts(write(tmp_path / "a", items))

    assert first.post.post_id == "7/4"
    assert [m.member for m in first.media] == ["photos/4.jpg", "photos/5.jpg", "photos/6.jpg"]
    assert [m.position for m in first.media] == [0, 1, 2]
    assert second.post.post_id == "7/7"


@pytest.mark.parametrize(
    "other",
    [
        {"from_id": "channel8"},
        {"forwarded_from": "Somebody"},
        {"date_unixtime": "1772442001", "date": "2026-03-02T10:00:01"},
        {"text": "a caption of its own"},
    ],
    ids=lambda o: next(iter(o)),
)
def test_another_sender_origin_second_or_caption_is_another_post(tmp_path, other):
    items = [message(1, text="caption"), message(2, **other)]

    assert [p.post.post_id for p in posts(write(tmp_path / "a", items))] == ["7/1", "7/2"]


def test_an_album_ends_after_ten_and_at_a_message_without_a_picture(tmp_path):
    many = [message(n) for n in range(1, 13)]
    words = {"id": 21, "type": "message", "text": "words"}
    apart = [message(20, date_unixtime="1"), words, message(22, date_unixtime="1")]

    found = posts(write(tmp_path / "a", many + apart))

    assert [len(p.media) for p in found] == [10, 2, 1, 1]


def test_a_video_in_an_album_keeps_its_place_and_is_counted(tmp_path):
    video = message(2, file="v.mp4", media_type="video_file", mime_type="video/mp4")
    del video["photo"]

    [post] = posts(write(tmp_path / "a", [message(1), video, message(3)]))

    assert [m.position for m in post.media] == [0, 2]
    assert post.missed == ("video",)


def test_a_time_with_its_zone_is_one_though_there_are_no_seconds(tmp_path):
    item = message(1, date="2026-03-02T10:00:00+01:00", date_unixtime=None)

    [post] = posts(write(tmp_path / "a", [item]))

    assert post.post.created_at == datetime.fromtimestamp(SECOND, UTC)


def test_old_exports_without_seconds_join_by_their_local_clock(tmp_path):
    items = [message(1), message(2)]
    for item in items:
        del item["date_unixtime"]

    [post] = posts(write(tmp_path / "a", items))

    assert len(post.media) == 2
    assert post.post.created_at is None  # a local clock says no time


# ---------------------------------------------------------------- what is public, and fields


@pytest.mark.parametrize(
    "kind",
    ["personal_chat", "bot_chat", "saved_messages", "replies", "private_group", "private_channel"],
)
def test_each_message_of_a_chat_that_is_not_public_is_dropped(tmp_path, kind):
    path = write(tmp_path / "a", [message(1), message(2)], type=kind)

    assert results(path) == [Skip("not public"), Skip("not public")]


@pytest.mark.parametrize("kind", ["", None, "group"])
def test_a_chat_of_no_known_type_is_not_taken_for_one(tmp_path, kind):
    path = write(tmp_path / "a", [message(1)], type=kind)
    record = {"chat": {"id": 7, "type": kind}, "messages": [message(1)]}

    assert telegram.recognise(open_export(path)) is None
    assert telegram.parse(record, "chat") == (Skip("not public"),)


def test_an_export_as_pages_is_refused_in_one_line_that_says_what_to_do(tmp_path):
    head = '<!DOCTYPE html><html><head><meta charset="utf-8"/><title>Exported Data</title>'
    (tmp_path / "messages.html").write_text(head)
    [(collector, format)] = detect(open_export(tmp_path))

    with pytest.raises(ExportError, match="export again as machine-readable JSON") as error:
        list(collect(open_export(tmp_path), collector, format, secret=b"s", source_id="s"))

    assert "\n" not in str(error.value)


def test_each_message_of_a_private_chat_is_counted():
    assert reasons(SAMPLES / "account", "account") == {"not public": 5}


def test_the_time_is_that_of_unix_and_not_the_exporters_clock():
    post = posts(SAMPLES / "chat")[0].post

    assert post.created_at == datetime.fromtimestamp(SECOND, UTC)


def test_hashtags_are_those_that_telegram_saw_without_the_channel_they_are_bound_to():
    first, _, plain = posts(SAMPLES / "chat")

    assert first.post.hashtags == ("AIart", "夜景")
    assert plain.post.text == "#nofilter is plain here"
    assert plain.post.hashtags == ()


def test_old_exports_have_their_hashtags_inside_the_text(tmp_path):
    item = message(1)
    item["text"] = ["see ", {"type": "hashtag", "text": "#ai"}]
    del item["text_entities"]

    [post] = posts(write(tmp_path / "a", [item]))

    assert post.post.text == "see #ai"
    assert post.post.hashtags == ("ai",)


def test_a_person_named_in_the_text_is_a_handle_and_stands_as_user():
    first, forwarded, _ = posts(SAMPLES / "chat")

    assert (
        first.post.text
        == "Lanterns over a river, prompt by @user\x0b\x1f#AIart #夜景@paper_lanterns"
    )
    assert first.post.handles == ("Odile Brandt",)
    assert forwarded.post.handles == ("pseudonym_marker",)
    assert forwarded.post.repost_of is None


def test_an_escaped_backslash_before_x_is_not_repaired():
    assert "\\\\x41 stays" in str(posts(SAMPLES / "chat")[1].post.text)


def test_a_picture_sent_as_a_file_is_the_original_and_a_photo_is_not():
    first, _, scan = posts(SAMPLES / "chat")

    assert first.media[0].rendition == "re-encode"
    assert scan.media[0].rendition == "original"
    assert scan.media[0].claimed_type == "image/png"
    assert (scan.media[0].claimed_width, scan.media[0].claimed_height) == (2400, 1800)


def test_what_was_left_out_is_said_once_for_each_message():
    assert reasons(SAMPLES / "chat") == {
        "not a post": 1,
        "media not included": 2,
        "sticker": 1,
        "no image": 2,
        "unsupported": 1,
        "video": 1,
    }


def test_a_photo_that_the_export_does_not_hold_is_not_promised(tmp_path):
    path = write(tmp_path / "a", [message(1)])
    (path / "photos" / "1.jpg").unlink()

    assert reasons(path) == {"media not included": 1}


def test_two_exports_in_one_folder_are_read_each_with_its_own_files(tmp_path):
    write(tmp_path / "ChatExport_1", [message(1)])
    write(tmp_path / "ChatExport_2", [message(1)], id=8)

    members = {p.post.post_id: p.media[0].member for p in posts(tmp_path)}

    assert members == {"7/1": "ChatExport_1/photos/1.jpg", "8/1": "ChatExport_2/photos/1.jpg"}


def test_a_file_that_breaks_off_keeps_what_was_whole_and_says_so(tmp_path):
    path = write(tmp_path / "a", [message(1), message(2, date_unixtime="1")])
    whole = (path / "result.json").read_bytes()
    (path / "result.json").write_bytes(whole[: whole.rindex(b'"id": 2')])
    collector, format = detect(open_export(path))[0]

    collection = collect(open_export(path), collector, format, secret=b"s", source_id="s")
    kept = [post.post_id for batch in collection for post in batch.posts]

    assert kept == ["7/1"]
    assert not collection.source.complete
    assert "after 1 messages" in str(collection.source.detail)


def test_a_compressed_file_that_breaks_off_is_no_crash_and_makes_the_export_partial(tmp_path):
    random = Random(1)
    texts = [random.randbytes(300).hex() for _ in range(4000)]
    items = [message(n, photo="photos/0.jpg", text=text) for n, text in enumerate(texts)]
    folder = write(tmp_path / "a", items)
    packed = gzip.compress((folder / "result.json").read_bytes())
    (folder / "result.json").unlink()
    (folder / "result.json.gz").write_bytes(packed[: len(packed) // 2])
    collector, format = detect(open_export(folder))[0]

    collection = collect(open_export(folder), collector, format, secret=b"s", source_id="s")
    kept = [post.post_id for batch in collection for post in batch.posts]

    assert 500 < len(kept) < 4000
    assert "cut off" in str(collection.source.detail)


def test_an_account_export_is_told_from_a_chat_before_its_chats_begin(tmp_path):
    contacts = [{"first_name": f"Person {n}", "phone_number": "0"} for n in range(2000)]
    document = {
        "about": "Here is the data you requested. Telegram is ad free.",
        "contacts": {"about": "c", "list": contacts},
        "chats": {"about": "c", "list": []},
    }
    (tmp_path / "result.json").write_text(json.dumps(document))

    assert telegram.recognise(open_export(tmp_path)) == "account"
