import gzip
import io
import itertools
import lzma
import os
import struct
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


def tar_of(path: Path, members: dict[str, bytes], **options) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def refused(path: Path) -> str:
    """The one line by which an export is refused, whether opened, listed or read."""
    with pytest.raises(ExportError) as error:
        export = open_export(path)
        for member in export.members():
            list(export.lines(member.name))
    return one_line(error)


def test_a_tar_in_zstd_is_read_without_unpacking(tmp_path):
    inner = tar_of(tmp_path / "inner.tar", {"a.json": LINES, "b/c.jsonl": b"{}\n" * 5000})
    path = tmp_path / "e.tar.zst"
    path.write_bytes(zstandard.compress(inner.read_bytes()))

    export = open_export(path)

    assert [m.name for m in export.members()] == ["a.json", "b/c.jsonl"]
    assert export.read("b/c.jsonl") == b"{}\n" * 5000
    assert export.read("a.json") == LINES  # which lies before the other


def test_the_beginnings_of_files_in_a_compressed_tar_are_known_after_one_pass(tmp_path):
    plain = {f"{n}.json": b"%d" % n * (n * 512 + n % 7) for n in range(1, 40)}
    path = tmp_path / "e.tar.gz"
    path.write_bytes(gzip.compress(tar_of(tmp_path / "e.tar", plain).read_bytes()))
    export = open_export(path)
    export.members()
    unpacked = export.container._archive.fileobj.raw_stream  # what was unpacked so far
    before = unpacked._at

    heads = {name: export.head(name) for name in plain}

    assert heads == {name: data[:4096] for name, data in plain.items()}
    assert unpacked._at == before


def claiming(path: Path, files: int, *, zip64: bool = True) -> Path:
    """A zip that says it holds so many files."""
    data = bytearray(zip_of(path, {"a.json": LINES}).read_bytes())
    end = data.rindex(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    size = end - directory
    if zip64:
        record = struct.pack(
            "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, files, files, size, directory
        )
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
        tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 0xFFFFFFFF, 0)
        data[end:] = record + locator + tail
    path.write_bytes(bytes(data))
    return path


def test_a_zip_that_claims_ten_million_files_is_refused_before_its_list_is_read(tmp_path):
    assert "more than 1,000,000 files" in refused(claiming(tmp_path / "e.zip", 10_000_000))
    assert open_export(claiming(tmp_path / "f.zip", 1)).read("a.json") == LINES


def test_a_zip_that_says_too_little_of_a_long_list_is_refused_before_it_is_loaded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(exports, "MAX_MEMBERS", 50)
    path = zip_of(tmp_path / "e.zip", {f"{n}.json": b"{}" for n in range(60)})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<HH", 1, 1)
    path.write_bytes(bytes(data))
    monkeypatch.setattr(exports.zipfile, "ZipFile", None)  # which would load it

    assert "more than 50 files" in refused(path)


def test_a_tar_or_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "MAX_MEMBERS", 5)
    many = {f"{n}.json": b"{}" for n in range(7)}
    (tmp_path / "folder").mkdir()
    for name, data in many.items():
        (tmp_path / "folder" / name).write_bytes(data)

    assert "more than 5 files" in refused(tar_of(tmp_path / "e.tar", many))
    assert "more than 5 files" in refused(tmp_path / "folder")


def test_a_zip_whose_files_lie_inside_each_other_is_refused(tmp_path):
    path = zip_of(tmp_path / "e.zip", {"a.json": LINES, "b.json": LINES})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 4)  # into the first one
    path.write_bytes(bytes(data))

    assert "inside each other" in refused(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_different_files_of_one_name_are_refused_and_two_equal_ones_are_one(tmp_path, kind):
    def write(second: bytes) -> Path:
        path = tmp_path / f"e{len(second)}.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.json", LINES)
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr("a.json", second)
            return path
        with tarfile.open(path, "w") as archive:
            for data in (LINES, second):
                info = tarfile.TarInfo("a.json")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    assert "two different files named a.json" in refused(write(b"{}"))
    assert open_export(write(LINES)).read("a.json") == LINES


def test_a_bomb_inside_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(exports, "MAX_RATIO", 300)
    once = gzip.compress(bytes(64 << 20))  # shrinks a thousandfold, and then again
    path = zip_of(tmp_path / "e.zip", {"a.json.gz": b"".join([once] * 50)})

    assert "bomb" in refused(path)


def test_a_zip_in_a_zip_is_a_file_like_any_other(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", {"a.json": bytes(1 << 20)}).read_bytes()
    export = open_export(zip_of(tmp_path / "e.zip", {"inner.zip": inner}))

    assert [m.name for m in export.members()] == ["inner.zip"]
    assert export.read("inner.zip") == inner


def gnu_header(name: bytes, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_tar_header_that_claims_gigabytes_is_refused_unread(tmp_path, kind):
    path = tmp_path / "e.tar"
    with path.open("wb") as file:
        file.write(gnu_header(b"long", 3 << 30, kind))
        file.truncate(4 << 30)  # sparse: nothing of it lies on the disk

    assert "header" in refused(path)


def test_a_tar_of_headers_upon_headers_ends_in_one_line(tmp_path):
    path = tmp_path / "e.tar"
    one = gnu_header(b"pax", 20, b"x") + b"20 path=aaaaaaaaaaa\n".ljust(512, b"\0")
    path.write_bytes(one * 3000 + bytes(1024))

    refused(path)


def test_a_sparse_file_in_a_tar_is_refused(tmp_path):
    path = tmp_path / "e.tar"
    info = tarfile.TarInfo("hole.json")
    info.type, info.size = b"S", 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"00000000000\0" + b"00000000000\0"
    block[483:495] = b"77777777777\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(bytes(block) + bytes(1024))

    assert "sparse" in refused(path)


def test_a_tar_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "e.tar"
    path.write_bytes(gnu_header(b"a.json", 1 << 40, b"0") + b"{}".ljust(512, b"\0"))

    refused(path)


def test_names_in_old_encodings_can_be_read_and_are_text(tmp_path):
    tar = tar_of(
        tmp_path / "e.tar", {"caf\xe9.json": LINES}, encoding="latin-1", format=tarfile.GNU_FORMAT
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.json")).write_bytes(LINES)
    dos = tmp_path / "dos.zip"
    with zipfile.ZipFile(dos, "w") as archive:
        archive.writestr("cafX.json", LINES)
    dos.write_bytes(dos.read_bytes().replace(b"cafX", b"caf\x82"))  # code page 437, no flag

    for path in (tar, folder, dos):
        (member,) = open_export(path).members()
        assert member.name == "caf\xe9.json"
        assert open_export(path).read(member.name) == LINES


def test_a_zip_whose_names_are_not_the_utf8_they_claim_is_refused(tmp_path):
    path = zip_of(tmp_path / "e.zip", {"\xe9\xe9.json": LINES})
    path.write_bytes(path.read_bytes().replace("\xe9\xe9".encode(), b"\xff\xfe\xff\xfe"))

    refused(path)


def test_a_name_with_line_breaks_is_refused_in_one_line(tmp_path):
    refused(zip_of(tmp_path / "e.zip", {"a\nb.json": LINES}))


def test_a_zip_behind_something_else_is_refused_or_read_whole(tmp_path):
    path = zip_of(tmp_path / "e.zip", {"a.json": LINES})
    path.write_bytes(b"#!/bin/sh\necho hello\n" + path.read_bytes())

    assert "something else" in refused(path)


@pytest.mark.parametrize("field", [(36, 8), (40, 8), (48, 8)])
def test_a_large_zip_with_wrong_numbers_ends_in_one_line(tmp_path, field):
    path = claiming(tmp_path / "e.zip", 1)
    data = bytearray(path.read_bytes())
    record = data.rindex(b"PK\x06\x06")
    data[record + field[0] : record + field[0] + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))

    refused(path)


def test_parts_are_one_export_whichever_is_named_first(tmp_path):
    one = zip_of(tmp_path / "1.zip", {"a.json": LINES, "readme.txt": b"hello"})
    two = zip_of(tmp_path / "2.zip", {"media/a.jpg": b"\xff\xd8", "readme.txt": b"hello"})

    export, turned = open_export(one, two), open_export(two, one)

    assert {m.name for m in export.members()} == {"a.json", "media/a.jpg", "readme.txt"}
    assert export.read("media/a.jpg") == b"\xff\xd8"
    assert export.digest() == turned.digest() == open_export(tmp_path).digest()
    assert export.digest() not in (open_export(one).digest(), open_export(two).digest())
    assert export.location.split("\n") == [str(one), str(two)]
    assert open_export(tmp_path).location == str(tmp_path)
    two.unlink()
    assert open_export(tmp_path).digest() == open_export(one).digest()


def test_parts_that_hold_different_files_of_one_name_are_refused(tmp_path):
    one = zip_of(tmp_path / "1.zip", {"a.json": LINES})
    two = zip_of(tmp_path / "2.zip", {"a.json": b"{}"})

    with pytest.raises(ExportError) as error:
        open_export(one, two).members()

    assert "one by one" in one_line(error)
