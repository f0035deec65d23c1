import io
import json
import zipfile
from pathlib import Path

import orjson
import pytest
import zstandard

from curate.collectors import detect
from curate.collectors.contract import Found
from curate.exports import open_export
from curate.simulated import World, WorldSpec, build_world, write_reddit_dump

SMALL = WorldSpec(seed=11, images=32, min_side=96, max_side=160)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("simulated"), SMALL)


def lines_of(path: Path) -> list[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    with path.open("rb") as raw, decompressor.stream_reader(raw) as reader:
        return reader.read().splitlines()


def records_of(path: Path) -> list[dict]:
    records = []
    for line in lines_of(path):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def pages_of(world: World) -> list[dict[str, list]]:
    archives = []
    for path in world.exports:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".js")]
                archives.append({n: unwrapped(archive.read(n)) for n in names})
    return archives


def unwrapped(page: bytes):
    head, _, body = page.partition(b" = ")
    assert head.startswith(b"window.")
    return json.loads(body)


def collected(world: World) -> list[tuple[str, Found]]:
    found = []
    for path in world.exports:
        export = open_export(path)
        [(collector, shape)] = detect(export)
        for raw in collector.read(export, shape.name):
            results = collector.parse(raw.record, shape.name) if raw.record is not None else ()
            found += [(collector.PLATFORM, r) for r in results if isinstance(r, Found)]
    return found


def test_a_default_zstd_decoder_refuses_the_dump_and_a_wide_one_reads_it(world):
    dump = world.root / "exports" / "reddit" / "RS_2026-01.zst"
    with pytest.raises(zstandard.ZstdError), dump.open("rb") as raw:
        zstandard.ZstdDecompressor().stream_reader(raw).read()

    assert len(records_of(dump)) == len(lines_of(dump)) - 1


def test_lines_of_the_dump_are_sorted_by_time_and_key(world):
    records = records_of(world.root / "exports" / "reddit" / "RS_2026-01.zst")
    times = [r["created_utc"] for r in records]

    assert times == sorted(times)
    assert all(isinstance(t, int) for t in times)
    assert all(list(r) == sorted(r) for r in records)


def test_the_old_dump_has_text_times_and_only_url(world):
    (record,) = records_of(world.root / "exports" / "reddit" / "RS_2015-06.zst")

    assert isinstance(record["created_utc"], str)
    assert record["created"] - int(record["created_utc"]) == 28_800
    assert "url_overridden_by_dest" not in record


def test_gallery_metadata_is_not_in_gallery_order(world):
    records = records_of(world.root / "exports" / "reddit" / "RS_2026-01.zst")
    galleries = [r for r in records if r.get("is_gallery")]

    for record in galleries:
        order = [item["media_id"] for item in record["gallery_data"]["items"]]
        assert list(record["media_metadata"])[::-1] != order or len(order) == 1
        assert set(record["media_metadata"]) == set(order)
        assert "preview" not in record


def test_the_listing_is_escaped_and_holds_a_comment(world):
    listing = json.loads((world.root / "exports" / "reddit" / "listing_new.json").read_bytes())
    children = listing["data"]["children"]
    previews = [c["data"]["preview"] for c in children if "preview" in c["data"]]

    assert listing["kind"] == "Listing"
    assert {c["kind"] for c in children} == {"t1", "t3"}
    assert all("&amp;s=" in p["images"][0]["source"]["url"] for p in previews)
    assert all(isinstance(c["data"]["created_utc"], float) for c in children)


def test_every_number_and_id_of_an_x_archive_is_text(world):
    def numbers(value):
        if isinstance(value, dict):
            return [n for v in value.values() for n in numbers(v)]
        if isinstance(value, list):
            return [n for v in value for n in numbers(v)]
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

    for pages in pages_of(world):
        assert not numbers(pages["data/tweets.js"])


def test_an_x_text_ends_with_the_link_of_its_media(world):
    for pages in pages_of(world):
        for row in pages["data/tweets.js"]:
            tweet = row["tweet"]
            media = tweet.get("extended_entities", {}).get("media", [])
            assert tweet["entities"].get("media", []) == media[:1]
            assert "&amp;" in tweet["full_text"]
            if media:
                assert tweet["full_text"].endswith(media[0]["url"])


def test_a_long_post_has_its_hashtags_in_the_note_only(world):
    (note,) = [n for pages in pages_of(world) for n in pages["data/note-tweet.js"]]
    core = note["noteTweet"]["core"]
    tweets = [row["tweet"] for pages in pages_of(world) for row in pages["data/tweets.js"]]
    (cut,) = [t for t in tweets if "…" in t["full_text"]]

    assert cut["entities"]["hashtags"] == []
    (tag,) = core["hashtags"]
    assert core["text"][int(tag["fromIndex"]) : int(tag["toIndex"])] == f"#{tag['text']}"
    assert note["noteTweet"]["noteTweetId"] != cut["id_str"]


def test_collectors_find_the_posts_that_the_truth_names(world):
    wanted = {
        (p["platform"], p["post_id"]): p["media"]
        for p in world.truth["posts"]
        if p["kind"] in ("image", "gallery", "crosspost", "retweet")
    }

    assert {(p, f.post.post_id): len(f.media) for p, f in collected(world)} == wanted


def test_collectors_see_the_tags_that_the_truth_states(world):
    stated = {(p["platform"], p["post_id"]): p["tag"] for p in world.truth["posts"]}
    for platform, found in collected(world):
        post = found.post
        seen = {f"#{tag}" for tag in post.hashtags} | {f"r/{post.community}", f"flair:{post.flair}"}
        assert stated[platform, post.post_id] in seen


def test_urls_lead_to_the_served_files(world):
    served = {
        (c["platform"], c["post_id"], c["position"]): c["path"]
        for p in world.truth["pictures"].values()
        for c in p["copies"]
    }
    for platform, found in collected(world):
        for media in found.media:
            path = served.get((platform, found.post.post_id, media.position))
            if path is not None:
                urls = [media.url, *media.fallback_urls]
                paths = [u.partition("://")[2].partition("?")[0] for u in urls if u]
                assert path in paths


def test_archive_members_hold_the_bytes_that_the_host_serves(world):
    posts = {p["post_id"]: p for p in world.truth["posts"] if p["platform"] == "x"}
    for path in world.exports:
        if path.suffix != ".zip":
            continue
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith(".jpg"):
                    continue
                post_id, _, base = Path(name).name.partition("-")
                base = base.removeprefix("renamed-")
                assert posts[post_id]["trap"] != "remote-only"
                served = world.media / "pbs.twimg.com" / "media" / base
                assert archive.read(name) == served.read_bytes()


def test_a_synthetic_dump_streams_as_many_lines_as_asked(tmp_path):
    dump = tmp_path / "RS_2026-01.zst"
    write_reddit_dump(dump, 2_000, seed=1)
    records = [orjson.loads(line) for line in lines_of(dump)]
    write_reddit_dump(tmp_path / "again.zst", 2_000, seed=1)

    assert len(records) == 2_000
    assert len({r["id"] for r in records}) == 2_000
    assert sum(bool(r.get("is_gallery")) for r in records) == pytest.approx(260, abs=50)
    assert (tmp_path / "again.zst").read_bytes() == dump.read_bytes()


def test_photos_of_a_gallery_are_listed_in_the_order_of_the_truth(world):
    truth = {}
    for picture in world.truth["pictures"].values():
        for copy in picture["copies"]:
            truth.setdefault((copy["platform"], copy["post_id"]), {})[copy["position"]] = copy[
                "path"
            ]
    for platform, found in collected(world):
        wanted = truth.get((platform, found.post.post_id), {})
        if len(wanted) > 1:
            names = [Path(str(m.url).partition("?")[0]).name for m in found.media]
            assert names == [Path(wanted[k]).name for k in range(len(wanted))]


def test_an_export_is_read_from_bytes_that_were_written_whole(world):
    for path in world.exports:
        if path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                assert archive.testzip() is None
