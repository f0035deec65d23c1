import copy
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import COLLECTORS, detect
from curate.collectors.contract import Collector, Format, Found, Skip
from curate.exports import open_export
from schemas.errors import ExportError, InputError
from schemas.records import TABLES
from schemas.tables import find

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports"
EVERY = [(c, f) for c in COLLECTORS.values() for f in c.FORMATS]
NAMES = [f"{c.PLATFORM}-{f.name}" for c, f in EVERY]


def sample(collector: Collector, format: Format) -> Path:
    [path] = [
        p
        for p in (SAMPLES / collector.PLATFORM).iterdir()
        if p.name == format.name or p.name.rsplit(".", 1)[0] == format.name
    ]
    return path


def results(collector: Collector, format: Format) -> list[Found | Skip]:
    export = open_export(sample(collector, format))
    records = [r.record for r in collector.read(export, format.name) if r.record is not None]
    return [result for record in records for result in collector.parse(record, format.name)]


def found(collector: Collector, format: Format) -> list[Found]:
    return [r for r in results(collector, format) if isinstance(r, Found)]


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
        assert isinstance(item.post.author_id, str | None)
        assert item.post.created_at is not None
        assert item.post.created_at.utcoffset() == dt.timedelta(0)
        assert item.media
        assert all(m.url or m.member for m in item.media)


@pytest.mark.parametrize(("collector", "format"), EVERY, ids=NAMES)
def test_every_format_keeps_the_order_of_images(collector, format):
    posts = found(collector, format)

    for item in posts:
        positions = [m.position for m in item.media]
        assert positions == sorted(set(positions))
        assert positions[0] >= 0


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
        assert origin is None or origin.startswith(f"{collector.PLATFORM}/")
        assert origin != f"{collector.PLATFORM}/{item.post.post_id}"
        shown = f"{item.post.permalink} {item.post.community}".lower()
        assert not any(handle.lower() in shown for handle in item.post.handles)


def test_reposts_are_resolved_wherever_a_format_has_them():
    for collector, format in EVERY:
        if format.name != "data":
            assert any(f.post.repost_of for f in found(collector, format)), format.name


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
