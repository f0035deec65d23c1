"""What holds for every collector and every format, on its sample in tests/data/exports.

The functions in CONFORMANCE take a collector and a format; test_new_platform.py asks the same of a collector
that another package brings.
"""

import copy
import datetime as dt
import re
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import COLLECTORS, detect
from curate.collectors.contract import GONE, Collector, Format, Found, Raw, Skip
from curate.exports import open_export
from curate.privacy import redact
from schemas.errors import ExportError, InputError
from schemas.records import TABLES
from schemas.tables import find

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports"
EVERY = [(c, f) for c in COLLECTORS.values() for f in c.FORMATS]
NAMES = [f"{c.PLATFORM}-{f.name}" for c, f in EVERY]

FOLDERS = [(c, f) for c, f in EVERY if (SAMPLES / c.PLATFORM / f.name).is_dir()]

HANDLE = "pseudonym_marker"
SECRETS = ("203.0.113.77", "48.85837", "pseudonym-device")
"""An address, a place and a device; samples of formats that have such fields hold these."""
AWAY = GONE | {"not public", "archived", "story", "promoted", "blocked"}
"""Reasons for which a post is not collected although it is there."""
TABLES_OF_META = {"facebook-crowdtangle", "facebook-content-library", "instagram-crowdtangle"}
ONE_IMAGE = TABLES_OF_META | {"flickr-download", "flickr-api", "pinterest-download"}
"""Formats in which a post has one address."""
ALL_PUBLIC = TABLES_OF_META | {"telegram-chat", "threads-download", "bluesky-car"}
"""Formats that hold nothing but what everybody may see, and do not know what was deleted."""
NO_REPOSTS = {
    *("facebook-download", "facebook-crowdtangle", "instagram-download", "instagram-instaloader"),
    *("instagram-crowdtangle", "instagram-items", "reddit-gdpr", "telegram-chat"),
    *("telegram-account", "threads-download", "tiktok-download", "tiktok-items", "bluesky-posts"),
    *("flickr-download", "flickr-api", "pinterest-download"),
}
"""Formats in which nobody can repost, or that do not say so."""
ORIGINS = {*COLLECTORS, "pixiv"}


def sample(collector: Collector, format: Format) -> Path:
    [path] = [
        p
        for p in (SAMPLES / collector.PLATFORM).iterdir()
        if p.name == format.name or p.name.rsplit(".", 1)[0] == format.name
    ]
    return path


def raws(collector: Collector, format: Format) -> list[Raw]:
    return list(collector.read(open_export(sample(collector, format)), format.name))


def results(collector: Collector, format: Format) -> list[Found | Skip]:
    records = [r.record for r in raws(collector, format) if r.record is not None]
    return [result for record in records for result in collector.parse(record, format.name)]


def found(collector: Collector, format: Format) -> list[Found]:
    return [r for r in results(collector, format) if isinstance(r, Found)]


def reasons(collector: Collector, format: Format) -> set[str]:
    return {r.reason for r in results(collector, format) if isinstance(r, Skip)}


def name_of(collector: Collector, format: Format) -> str:
    return f"{collector.PLATFORM}-{format.name}"


def posted_by(item: Found, collector: Collector) -> str:
    return item.post.platform or collector.PLATFORM


@pytest.mark.parametrize("name", COLLECTORS)
def test_every_collector_says_what_it_is_and_cites_its_source(name):
    collector = COLLECTORS[name]

    assert collector.PLATFORM == name == name.lower()
    assert collector.VERSION >= 1
    assert len({f.name for f in collector.FORMATS}) == len(collector.FORMATS)
    assert all(f.title and f.example for f in collector.FORMATS)
    assert "https://" in (collector.__doc__ or "")


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_format_is_detected_as_itself_and_by_nobody_else(collector, format):
    export = open_export(sample(collector, format))

    assert detect(export) == [(collector, format)]
    assert detect(export, collector.PLATFORM) == [(collector, format)]


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_format_gives_posts_with_text_ids_utc_times_and_images(collector, format):
    posts = found(collector, format)

    assert posts
    for item in posts:
        assert isinstance(item.post.post_id, str)
        assert item.post.post_id.strip() == item.post.post_id != ""
        assert isinstance(item.post.author_id, str | None)
        assert item.post.author_id != ""
        assert item.post.created_at is not None
        assert item.post.created_at.utcoffset() == dt.timedelta(0)
        assert 2005 <= item.post.created_at.year <= 2030
        assert item.media
        assert all(m.url or m.member for m in item.media)


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_record_gives_an_answer_and_every_gap_a_problem(collector, format):
    for raw in raws(collector, format):
        assert raw.where
        assert (raw.record is None) or (raw.problem is None)
        assert raw.record is not None or raw.problem or raw.partial
        answers = collector.parse(raw.record, format.name) if raw.record is not None else [raw]
        assert answers
        assert all(a.reason == a.reason.strip() != "" for a in answers if isinstance(a, Skip))


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_media_has_addresses_of_the_web_and_files_of_the_export(collector, format):
    export = open_export(sample(collector, format))

    for media in (m for item in found(collector, format) for m in item.media):
        addresses = [a for a in (media.url, *media.fallback_urls) if a is not None]
        assert all(re.match(r"https?://[^/\s]+/\S*$", address) for address in addresses)
        assert len(set(addresses)) == len(addresses)
        assert media.url is not None or not media.fallback_urls
        # a file that an export names and does not hold is told by the fetch
        assert media.member is None or media.member in export or media.url is None
        assert media.claimed_type is None or media.claimed_type.startswith("image/")
        assert media.rendition in ("original", "preview", "re-encode")
        assert all(n is None or n > 0 for n in (media.claimed_width, media.claimed_height))


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_hashtags_are_words_without_their_sign_once_each(collector, format):
    for item in found(collector, format):
        tags = item.post.hashtags
        assert len(set(tags)) == len(tags)
        assert all(tag.strip() == tag != "" and tag[0] not in "#\uff03" for tag in tags)


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_writing_of_other_scripts_is_kept_as_it_is(collector, format):
    texts = {
        form.name: [
            text
            for item in found(collector, form)
            for text in (item.post.title, item.post.text, *item.post.hashtags)
            if text
        ]
        for form in collector.FORMATS
    }

    assert any(not text.isascii() for several in texts.values() for text in several)
    assert not any("\u00c3" in text or "\ufffd" in text for text in texts[format.name])


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_what_was_taken_away_or_is_not_for_everybody_is_told_apart(collector, format):
    if name_of(collector, format) not in ALL_PUBLIC:
        assert reasons(collector, format) & AWAY

    for result in results(collector, format):
        if isinstance(result, Skip) and result.withdrawn is not None:
            assert result.reason in GONE


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_names_places_addresses_and_devices_reach_no_field_that_is_kept(collector, format):
    for item in found(collector, format):
        post, handles = item.post, item.post.handles
        texts = [post.title, post.text, *(m.alt for m in item.media)]
        shown = repr([redact(text, handles) for text in texts if text])
        # names in the paths of an export are hidden when it is collected
        media = [m._replace(alt=None, member=None) for m in item.media]
        kept = repr((post._replace(title=None, text=None, handles=(), author_id=None), media))
        assert HANDLE not in (shown + kept).lower()
        assert not any(secret in repr(item).lower() for secret in SECRETS)
        assert not re.search(r"\w@\w+\.\w", kept)


@pytest.mark.parametrize(
    ("collector", "format"), FOLDERS, ids=[f"{c.PLATFORM}-{f.name}" for c, f in FOLDERS]
)
def test_a_folder_gives_the_same_as_a_zip_of_it_at_any_depth(tmp_path, collector, format):
    folder = sample(collector, format)
    expected = found(collector, format)
    for prefix in ("", "unpacked/"):
        path = tmp_path / f"{prefix.strip('/') or 'plain'}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, prefix + file.relative_to(folder).as_posix())
        export = open_export(path)

        assert (collector, format) in detect(export)
        records = [r.record for r in collector.read(export, format.name) if r.record is not None]
        got = [r for record in records for r in collector.parse(record, format.name)]
        assert _without_folder(got, prefix) == _without_folder(expected, "")


def _without_folder(items: list[Any], prefix: str) -> Counter[str]:
    return Counter(
        repr(
            f._replace(
                media=[m._replace(member=(m.member or "").removeprefix(prefix)) for m in f.media]
            )
        )
        for f in items
        if isinstance(f, Found)
    )


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_format_keeps_the_order_of_images(collector, format):
    posts = found(collector, format)

    for item in posts:
        positions = [m.position for m in item.media]
        assert positions == sorted(set(positions))
        assert positions[0] >= 0
    assert name_of(collector, format) in ONE_IMAGE or any(len(i.media) > 1 for i in posts)


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_parsing_is_pure(collector, format):
    export = open_export(sample(collector, format))

    for raw in collector.read(export, format.name):
        before = copy.deepcopy(raw.record)
        if raw.record is not None:
            once = collector.parse(raw.record, format.name)
            assert collector.parse(raw.record, format.name) == once
        assert raw.record == before


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_a_repost_names_its_original_and_no_permalink_or_community_a_person(collector, format):
    for item in found(collector, format):
        origin = item.post.repost_of
        platform, _, post_id = (origin or "").partition("/")
        assert origin is None or (post_id and platform in {*ORIGINS, collector.PLATFORM})
        assert origin != f"{posted_by(item, collector)}/{item.post.post_id}"
        link = item.post.permalink
        assert link is None or re.match(r"https?://\S+$", link)
        shown = f"{link} {item.post.community}".lower()
        assert not any(handle.lower() in shown for handle in item.post.handles)


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_reposts_are_resolved_or_counted_wherever_a_format_has_them(collector, format):
    resolved = any(item.post.repost_of for item in found(collector, format))

    assert (
        resolved
        or "repost" in reasons(collector, format)
        or name_of(collector, format) in NO_REPOSTS
    )


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
@pytest.mark.parametrize(
    "junk",
    [None, [], "text", 7, {}, {"id": 5}, {"kind": "t3", "data": {}}, {"tweet": []}],
    ids=repr,
)
def test_a_record_of_another_shape_is_skipped_with_a_reason(collector, format, junk):
    [result] = collector.parse(junk, format.name)

    assert isinstance(result, Skip)
    assert result.reason
    assert result.withdrawn is None


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
@given(data=st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
def test_a_value_of_another_kind_never_ends_a_collection(tmp_path_factory, collector, format, data):
    export = open_export(sample(collector, format))
    records = [r for r in collector.read(export, format.name) if isinstance(r.record, dict)]
    raw = data.draw(st.sampled_from(records))
    broken = copy.deepcopy(raw.record)
    spoil(broken, data)
    fake = SimpleNamespace(
        PLATFORM=collector.PLATFORM,
        VERSION=1,
        read=lambda *_: iter([raw._replace(record=broken)]),
        parse=collector.parse,
    )

    collection = collect(export, fake, format, secret=b"s", source_id="s")
    batches = list(collection)

    assert collection.source.seen == 1
    for batch in batches:
        find(TABLES, "post").to_arrow(batch.posts)
        find(TABLES, "media").to_arrow(batch.media)


def spoil(value: Any, data: st.DataObject) -> None:
    """Put something unexpected at one random place inside `value`."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            value[key] = data.draw(JUNK)
            return
        value = inner


CONFORMANCE = (
    test_every_format_is_detected_as_itself_and_by_nobody_else,
    test_every_format_gives_posts_with_text_ids_utc_times_and_images,
    test_every_record_gives_an_answer_and_every_gap_a_problem,
    test_every_media_has_addresses_of_the_web_and_files_of_the_export,
    test_hashtags_are_words_without_their_sign_once_each,
    test_writing_of_other_scripts_is_kept_as_it_is,
    test_what_was_taken_away_or_is_not_for_everybody_is_told_apart,
    test_names_places_addresses_and_devices_reach_no_field_that_is_kept,
    test_every_format_keeps_the_order_of_images,
    test_parsing_is_pure,
    test_a_repost_names_its_original_and_no_permalink_or_community_a_person,
    test_reposts_are_resolved_or_counted_wherever_a_format_has_them,
)
"""What is asked of every collector, with nothing but itself and its sample."""

JUNK = st.sampled_from([None, True, -1, 2**70, 1e300, "", "x", "9" * 30, [], [None], {}, {"a": 1}])


@pytest.mark.parametrize("data", [b'{"a": 1}', b"[]", b"not json", b"[[[[", b"\x00\xff\xfe"])
def test_a_file_of_no_platform_is_refused_in_one_line(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)

    with pytest.raises(ExportError) as error:
        detect(open_export(path))

    assert "\n" not in str(error.value)


def test_an_unknown_platform_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no collector"):
        detect(open_export(tmp_path / ".."), "myspace")
    with pytest.raises(ExportError, match="no files"):
        detect(open_export(tmp_path))
