import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.collect import collect
from curate.collectors import detect, installed
from curate.collectors.contract import Found, Skip
from curate.collectors.mapped import FIELDS, Mapped, mapped
from curate.exports import open_export
from schemas.errors import ExportError, InputError, PolicyError
from schemas.policy import MappedImport, parse_policy

COLUMNS = {
    "post_id": "id",
    "url": "image",
    "author": "user",
    "created_at": "date",
    "title": "title",
    "text": "body",
    "hashtags": "tags",
    "alt": "alt",
    "permalink": "link",
    "sensitive": "nsfw",
    "language": "lang",
    "score": "likes",
    "community": "board",
    "repost_of": "origin",
}
ROW = {
    "id": "861696799362478085",
    "image": "https://a.example/1.png",
    "user": "made_up",
    "date": "2026-03-06 14:02:05",
    "title": "A castle",
    "body": "With, a comma",
    "tags": "#One, two words",
    "alt": "a tower",
    "link": "https://a.example/p/1",
    "nsfw": "no",
    "lang": "en",
    "likes": "1,234",
    "board": "castles",
    "origin": "77",
}


def entry(**fields: Any) -> MappedImport:
    base: dict[str, Any] = {"platform": "myforum", "match": "*", "columns": COLUMNS}
    return MappedImport(**{**base, "zone": "+01:00", **fields})


def written(folder: Path, kind: str, records: list[dict[str, Any]]) -> Path:
    path = folder / f"posts.{kind}"
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        cells = [list(records[0]), *(list(r.values()) for r in records)]
        lines = [mark.join('"' + str(c).replace('"', '""') + '"' for c in row) for row in cells]
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in records))
    else:
        path.write_text(json.dumps(records, indent=1))
    return path


def results(path: Path, *entries: MappedImport) -> list[Found | Skip]:
    export = open_export(path)
    given = detect(export, None, {**installed(), **mapped(entries)})
    return [
        result
        for collector, form in given
        for raw in collector.read(export, form.name)
        if raw.record is not None
        for result in collector.parse(raw.record, form.name)
    ]


def one(folder: Path, record: dict[str, Any], **fields: Any) -> Found:
    [result] = results(written(folder, "jsonl", [record]), entry(**fields))
    assert isinstance(result, Found)
    return result


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
def test_a_table_is_read_as_the_policy_maps_it(tmp_path, kind):
    [got] = results(written(tmp_path, kind, [ROW]), entry())

    assert isinstance(got, Found)
    assert got.post._asdict() == {
        "post_id": "861696799362478085",
        "author_id": "made_up",
        "handles": ("made_up",),
        "created_at": datetime(2026, 3, 6, 13, 2, 5, tzinfo=UTC),
        "title": "A castle",
        "text": "With, a comma",
        "hashtags": ("One", "two words"),
        "community": "castles",
        "flair": None,
        "permalink": "https://a.example/p/1",
        "score": 1234,
        "replies": None,
        "sensitive": False,
        "language": "en",
        "repost_of": "myforum/77",
        "opted_out": False,
        "platform": None,
        "comment": False,
    }
    [image] = got.media
    assert (image.url, image.alt, image.claimed_type) == (ROW["image"], "a tower", "image/png")


def test_paths_reach_into_objects_and_lists(tmp_path):
    record = {
        "post": {"id": 12345678901234567, "by": {"name": "made_up"}},
        "media": [
            {"src": "https://a.example/1.jpg", "alt": "one"},
            {"src": "https://a.example/2.jpg"},
            {"src": "https://a.example/3.mp4"},
        ],
        "tags": ["One", "#two"],
    }
    columns = {
        "post_id": "post.id",
        "author": "post.by.name",
        "url": "media.*.src",
        "alt": "media.*.alt",
        "hashtags": "tags",
    }

    got = one(tmp_path, record, columns=columns)

    assert (got.post.post_id, got.post.author_id) == ("12345678901234567", "made_up")
    assert got.post.hashtags == ("One", "two")
    assert [(m.position, m.url, m.alt) for m in got.media] == [
        (0, "https://a.example/1.jpg", "one"),
        (1, "https://a.example/2.jpg", None),
    ]
    assert got.missed == ("video",)


@pytest.mark.parametrize(
    ("cells", "columns"),
    [
        ({"a": "https://a.example/1,x.jpg https://a.example/2.jpg"}, {"url": "a"}),
        ({"a": "https://a.example/1,x.jpg,https://a.example/2.jpg"}, {"url": "a"}),
        ({"a": ["https://a.example/1,x.jpg", "https://a.example/2.jpg"]}, {"url": "a"}),
        (
            {"a": "https://a.example/1,x.jpg", "b": "", "c": "https://a.example/2.jpg"},
            {"url": "a", "url2": "b", "url10": "c"},
        ),
    ],
)
def test_several_pictures_are_several_media(tmp_path, cells, columns):
    got = one(tmp_path, {"id": "1", **cells}, columns={"post_id": "id", **columns})

    assert [(m.position, m.url) for m in got.media] == [
        (0, "https://a.example/1,x.jpg"),
        (1, "https://a.example/2.jpg"),
    ]


def test_numbered_columns_keep_each_text_with_its_picture(tmp_path):
    record = {"id": "1", "a": "https://a.example/1.jpg", "b": "https://a.example/2.jpg", "t": "two"}
    columns = {"post_id": "id", "url": "a", "url2": "b", "alt2": "t"}

    assert [m.alt for m in one(tmp_path, record, columns=columns).media] == [None, "two"]


def test_files_lie_beside_their_table(tmp_path):
    (tmp_path / "part/images").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("part/images/1.jpg", "other/2.png"):
        (tmp_path / name).write_bytes(b"x")
    rows = [
        {"id": "1", "path": "./images/1.jpg"},
        {"id": "2", "path": "images\\\\1.jpg".replace("\\\\", "\\")},
        {"id": "3", "path": "../other/2.png"},
        {"id": "4", "path": "other/2.png"},
        {"id": "5", "path": "images/gone.jpg"},
        {"id": "6", "path": "../../../etc/passwd"},
        {"id": "7", "path": ""},
    ]
    written(tmp_path / "part", "csv", rows)

    got = results(tmp_path, entry(columns={"post_id": "id", "file": "path"}))

    assert [r.media[0].member if isinstance(r, Found) else r.reason for r in got] == [
        *("part/images/1.jpg", "part/images/1.jpg", "other/2.png", "other/2.png"),
        *("media not included", "media not included", "no image"),
    ]


@pytest.mark.parametrize(
    ("value", "form", "zone"),
    [
        ("2026-03-06T13:02:05Z", "iso", "+05:00"),
        ("2026-03-06 08:02:05", "iso", "-05:00"),
        ("1772802125", "seconds", "+01:00"),
        (1772802125000, "milliseconds", "+01:00"),
        ("06.03.2026 15:02:05", "%d.%m.%Y %H:%M:%S", "+02:00"),
        ("06.03.2026 15:02:05 +0200", "%d.%m.%Y %H:%M:%S %z", "+09:00"),
    ],
)
def test_times_are_read_as_written_in_their_zone(tmp_path, value, form, zone):
    got = one(tmp_path, {**ROW, "date": value}, time=form, zone=zone)

    assert got.post.created_at == datetime(2026, 3, 6, 13, 2, 5, tzinfo=UTC)


def test_a_time_that_is_not_stated_is_none_and_one_in_another_form_is_told(tmp_path):
    rows = [{**ROW, "date": ""}, {**ROW, "date": "yesterday"}]

    first, second = results(written(tmp_path, "csv", rows), entry())

    assert isinstance(first, Found)
    assert first.post.created_at is None
    assert second == Skip("time in another form")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, kind):
    path = written(tmp_path, kind, [{"id": "1", "picture": "https://a.example/1.jpg"}])

    with pytest.raises(ExportError) as error:
        results(path, entry(columns={"post_id": "id", "url": "image"}))

    assert str(error.value) == (
        f"posts.{kind} has no column 'image' for url; it has id, picture: mend [[imports]]"
    )


def test_a_path_that_only_some_records_have_is_no_mistake(tmp_path):
    rows = [{"id": "1"}, {"id": "2", "m": [{"u": "https://a.example/1.jpg"}]}]

    got = results(
        written(tmp_path, "jsonl", rows), entry(columns={"post_id": "id", "url": "m.*.u"})
    )

    assert [type(r) for r in got] == [Skip, Found]


def test_what_the_policy_maps_is_nobody_elses(tmp_path):
    row = {"id": "a1", "title": "t", "subreddit": "aiArt", "created_utc": 1772802125}
    path = written(tmp_path, "jsonl", [{**row, "url": "https://i.redd.it/x.jpg"}])
    mine = entry(platform="reddit", columns={"post_id": "id", "url": "url"})
    known = {**installed(), **mapped([mine])}

    [(collector, form)] = detect(open_export(path), None, known)
    [(same, _)] = detect(open_export(path), "reddit", known)
    [(other, _)] = detect(open_export(path), "reddit")

    assert (collector, form.name) == (Mapped(mine), "import")
    assert same == collector
    assert other is installed()["reddit"]


def test_two_entries_of_one_platform_read_their_own_files(tmp_path):
    (tmp_path / "a.csv").write_text("id,image\n1,https://a.example/1.jpg\n")
    (tmp_path / "b.csv").write_text("key;pic\n2;https://a.example/2.jpg\n")
    first = entry(match="a.csv", columns={"post_id": "id", "url": "image"})
    second = entry(match="b.*", columns={"post_id": "key", "url": "pic"})

    got = results(tmp_path, first, second)

    assert [r.post.post_id for r in got if isinstance(r, Found)] == ["1", "2"]
    assert Mapped(first).VERSION != Mapped(second).VERSION


def test_an_export_that_the_glob_names_is_read_whole(tmp_path):
    path = tmp_path / "forum-2026.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/posts.csv", "id,image\n1,images/1.jpg\n")
        archive.writestr("data/users.csv", "id,name\n1,x\n")
        archive.writestr("data/images/1.jpg", b"x")
    mine = entry(match="forum-*.zip", columns={"post_id": "id", "file": "image"})

    [got] = results(path, mine)

    assert isinstance(got, Found)
    assert got.media[0].member == "data/images/1.jpg"


def test_a_table_that_the_glob_does_not_name_is_left_to_others(tmp_path):
    path = written(tmp_path, "csv", [ROW])

    with pytest.raises(ExportError, match="not an export of any platform"):
        results(path, entry(match="*.jsonl"))
    with pytest.raises(InputError, match="no collector for 'other'"):
        detect(open_export(path), "other", mapped([entry()]))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"columns": {"post_id": "id", "picture": "x"}}, "column for 'picture'"),
        ({"columns": {"post_id": "id", "title2": "x", "url": "u"}}, "column for 'title2'"),
        ({"columns": {"url": "x"}}, "needs columns for post_id"),
        ({"columns": {"post_id": "x", "text": "y"}}, "for url or file"),
        ({"zone": "Europe/Paris"}, "write an offset"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_at_once(fields, told):
    with pytest.raises(PolicyError, match=told):
        mapped([entry(**fields)])


def test_every_field_that_the_policy_documents_can_be_mapped():
    columns = ", ".join(f'{field} = "c"' for field in FIELDS)
    text = f'[[imports]]\nplatform = "myforum"\nmatch = "*.csv"\ncolumns = {{ {columns} }}\n'

    [name] = mapped(parse_policy(f'name = "x"\n{text}').imports)

    assert name == "import 1: myforum"
    assert all(field in str(MappedImport.__doc__) for field in FIELDS)


def test_a_link_that_names_the_author_is_left_out_and_text_is_redacted(tmp_path):
    row = {**ROW, "link": "https://a.example/u/Made_Up/1", "body": "by @made_up"}
    path = written(tmp_path, "csv", [row])
    export = open_export(path)
    [(collector, form)] = detect(export, None, mapped([entry()]))

    collection = collect(export, collector, form, secret=b"s", source_id="s")
    posts = [post for batch in collection for post in batch.posts]

    assert posts[0].permalink is None
    assert "made_up" not in repr(posts)


def test_a_broken_line_and_a_cut_row_are_one_bad_row_each(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,image\n1,https://a.example/1.jpg\n2\n3,https://a.example/3.jpg\n")
    mine = Mapped(entry(columns={"post_id": "id", "url": "image"}))

    raws = list(mine.read(open_export(path), "import"))

    assert [r.problem for r in raws] == [None, "row of another width than the header", None]


@settings(deadline=None)
@given(
    row=st.dictionaries(
        st.sampled_from(list(ROW)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=5,
        ),
    )
)
def test_any_row_gives_a_post_or_a_reason(row):
    [result] = Mapped(entry()).parse({"row": row, "members": {}}, "import")

    assert isinstance(result, Found) or result.reason
