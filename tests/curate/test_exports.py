import gzip
import io
import itertools
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate import exports
from curate.exports import DamagedExport, open_export, split_lines
from schemas.errors import ExportError

LINES = b'{"a": 1}\n\n{"b": "\xc3\xa9"}\n{"c": 3}'
KEPT = [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b'{"c": 3}']


def packed(name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(LINES)
    if name.endswith(".xz"):
        return lzma.compress(LINES)
    if name.endswith(".zst"):
        params = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
        return zstandard.ZstdCompressor(compression_params=params).compress(LINES)
    return LINES


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def one_line(error: pytest.ExceptionInfo[ExportError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text  # what was found and expected; what to do
    return text


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson.gz", "a.json.xz", "RS_1.zst"])
def test_a_single_file_gives_its_lines_however_it_is_compressed(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(packed(name))

    export = open_export(path)

    assert list(export.lines(name)) == KEPT
    assert [m.name for m in export.members()] == [name]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_read_without_unpacking(tmp_path, mode):
    path = tmp_path / f"e.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(path, mode) as archive:
        for name in ("./data/b.json", "./data/a.json"):
            info = tarfile.TarInfo(name)
            info.size = len(LINES)
            archive.addfile(info, io.BytesIO(LINES))

    export = open_export(path)

    assert {m.name for m in export.members()} == {"data/a.json", "data/b.json"}
    assert export.read("data/a.json") == LINES
    assert export.read("data/b.json") == LINES


def test_a_zip_and_its_unpacked_folder_hold_the_same(tmp_path):
    archive = open_export(zip_of(tmp_path / "e.zip", {"data/a.json": LINES, "b.jsonl": b"{}"}))
    folder = tmp_path / "e"
    (folder / "data").mkdir(parents=True)
    (folder / "data/a.json").write_bytes(LINES)
    (folder / "b.jsonl").write_bytes(b"{}")

    unpacked = open_export(folder)

    assert sorted(m.name for m in archive.members()) == [m.name for m in unpacked.members()]
    for member in unpacked.members():
        assert archive.read(member.name) == unpacked.read(member.name)


def test_a_folder_may_hold_compressed_files(tmp_path):
    (tmp_path / "RS_1.zst").write_bytes(packed("RS_1.zst"))

    assert list(open_export(tmp_path).lines("RS_1.zst")) == KEPT


def test_the_digest_follows_content_and_names_alone(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data/a.json").write_bytes(LINES)
    first, second = (open_export(tmp_path / n).digest() for n in ("one", "two"))
    (tmp_path / "two/data/a.json").rename(tmp_path / "two/data/b.json")

    assert first == second
    assert len(first) == 64
    assert open_export(tmp_path / "two").digest() != first


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_where_chunks_end(data, cuts):
    edges = sorted({0, len(data), *(c for c in cuts if c <= len(data))})
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]

    assert list(split_lines(iter(chunks))) == [x for x in data.split(b"\n") if x.strip()]


def test_a_line_without_end_is_cut_and_the_next_one_survives():
    chunks = iter([b"x" * 100, b"y" * 100 + b"\nnext\n"])

    assert list(split_lines(chunks, limit=50)) == [b"x" * 50, b"next"]


@pytest.mark.parametrize("name", ["../evil.json", "/etc/x.json", "a/../../x", "C:/x", "a\\..\\b"])
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path, name):
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"{}")

    with pytest.raises(ExportError) as error:
        open_export(path).members()

    assert "leads out" in one_line(error)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_tar_with_links_or_devices_is_refused(tmp_path, kind):
    path = tmp_path / "e.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("data/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)

    with pytest.raises(ExportError) as error:
        open_export(path).members()

    assert "link" in one_line(error)


def test_a_zip_with_a_link_is_refused(tmp_path):
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")

    with pytest.raises(ExportError) as error:
        open_export(path).members()

    assert "link" in one_line(error)


def test_a_folder_with_a_link_is_refused(tmp_path):
    (tmp_path / "a.json").symlink_to("/etc/hosts")

    with pytest.raises(ExportError) as error:
        open_export(tmp_path).members()

    assert "link" in one_line(error)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zip_of(tmp_path / "e.zip", {"a.json": LINES})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    path.write_bytes(bytes(data))

    with pytest.raises(ExportError) as error:
        open_export(path).members()

    assert "encrypted" in one_line(error)


@pytest.mark.parametrize("name", ["a.json.gz", "a.json.xz", "a.json.zst", "a.zip", "a.tar.gz"])
def test_a_compression_bomb_is_refused_while_it_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr(exports, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(exports, "MAX_RATIO", 100)
    path, zeros = tmp_path / name, bytes(32 << 20)
    if name == "a.zip":
        zip_of(path, {"a.json": zeros})
    elif name == "a.tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("a.json")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    else:
        pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
        path.write_bytes(pack[name.rsplit(".", 1)[-1]](zeros))

    with pytest.raises(ExportError) as error:
        export = open_export(path)
        list(export.lines(export.members()[0].name))

    assert "bomb" in one_line(error)


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("a.zip", b'{"kind": "Listing"}', "something else"),
        ("a.zst", b"plain text", "something else"),
        ("a.json", b"<!DOCTYPE html><html></html>", "web page"),
        ("a.zip", b"\n <html><head></head></html>", "web page"),
        ("a.json", b"", "empty"),
        ("a.exe", b"MZ\x90", "no kind"),
        ("a.json", b"\x28\xb5\x2f\xfd123", "suffix"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, data, word):
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(ExportError) as error:
        open_export(path)

    assert word in one_line(error)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(ExportError) as error:
        open_export(tmp_path / "nowhere.zip")

    assert "does not exist" in one_line(error)


@pytest.mark.parametrize("name", ["a.json.gz", "a.json.xz", "a.json.zst"])
def test_a_stream_that_is_cut_off_says_so_after_giving_what_it_has(tmp_path, name):
    lines = b"".join(b'{"n": %d, "x": "%d"}\n' % (i, i * 7919) for i in range(60_000))
    pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
    data = pack[name.rsplit(".", 1)[-1]](lines)
    (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
    got = []

    with pytest.raises(DamagedExport) as error:
        got.extend(open_export(tmp_path / name).lines(name))

    assert "damaged or cut off" in one_line(error)
    (tmp_path / name).write_bytes(data)
    assert len(list(open_export(tmp_path / name).lines(name))) == 60_000


def test_a_zip_cut_off_or_corrupt_is_refused_in_one_line(tmp_path):
    path = zip_of(tmp_path / "e.zip", {"a.json": LINES * 1000})
    data = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    (tmp_path / "bad.zip").write_bytes(data[:60] + bytes(8) + data[68:])

    with pytest.raises(DamagedExport) as error:
        open_export(tmp_path / "cut.zip").members()
    one_line(error)
    with pytest.raises(ExportError) as error:
        open_export(tmp_path / "bad.zip").read("a.json")
    one_line(error)


def test_several_zstd_frames_are_one_stream(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(b"1\n2") + zstandard.compress(b"3\n"))

    assert list(open_export(path).lines("a.zst")) == [b"1", b"23"]


def test_a_member_longer_than_asked_for_is_refused(tmp_path):
    export = open_export(zip_of(tmp_path / "e.zip", {"a.json": LINES}))

    with pytest.raises(ExportError) as error:
        export.read("a.json", limit=5)

    one_line(error)
    assert export.head("a.json", 5) == LINES[:5]
