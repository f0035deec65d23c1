"""`wildrf collect` as a user meets it: hostile archives, parts, and what it says of an export."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

import pytest
import zstandard


def a_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def climbing(path):
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = "../../evil.json"
        archive.writestr(info, b"{}")


def absolute(path):
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("/evil.json")
        archive.addfile(info, io.BytesIO(b""))


def device(path):
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("data/link")
        info.type, info.linkname = tarfile.SYMTYPE, "../../evil.json"
        archive.addfile(info)


def ten_million_files(path):
    data = a_zip(path, {"a.json": b"{}"}).read_bytes()
    end = data.rindex(b"PK\x05\x06")
    directory, files = data.index(b"PK\x01\x02"), 10_000_000
    numbers = (44, 45, 45, 0, 0, files, files, end - directory, directory)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", *numbers)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, end - directory, 2**32 - 1, 0)
    path.write_bytes(data[:end] + record + locator + tail)


def bomb(path):
    zeros = gzip.compress(bytes(256 << 20))
    record = b'{"title": "a", "subreddit": "b", "created_utc": 1, "id": "a"}\n'
    a_zip(path, {"RS_1.json.gz": gzip.compress(record) + zeros})


def header_bomb(path):
    info = tarfile.TarInfo("long")
    info.type, info.size = b"L", 3 << 30
    zeros = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    path.write_bytes(zstandard.compress(info.tobuf(tarfile.GNU_FORMAT)) + zeros * 60)


def cut_off(path):
    whole = a_zip(path, {"a.json": b"{}" * 1000}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


HOSTILE = {
    "climbing.zip": climbing,
    "absolute.tar": absolute,
    "link.tar": device,
    "many.zip": ten_million_files,
    "bomb.zip": bomb,
    "header.tar.zst": header_bomb,
    "cut.zip": cut_off,
}


@pytest.fixture(scope="module")
def workspace(wildrf, tmp_path_factory):
    root = tmp_path_factory.mktemp("w") / "inside" / "set"
    root.parent.mkdir()
    wildrf("init", root)
    return root


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_line_and_leaves_nothing_behind(wildrf, workspace, tmp_path, name):
    HOSTILE[name](tmp_path / name)
    around = workspace.parents[1]
    before = sorted(around.rglob("*"))

    answer = wildrf("collect", tmp_path / name, "--workspace", workspace)

    assert answer.code == 2
    assert answer.out == ""
    lines = [line for line in answer.err.splitlines() if line.strip()]
    assert len(lines) == 1, answer.err
    assert ";" in lines[0]  # what was found and expected; what to do
    assert sorted(around.rglob("*")) == before
    assert not (tmp_path / "evil.json").exists()


def dump(ids):
    lines = [
        {
            "id": i,
            "title": "a",
            "subreddit": "b",
            "created_utc": 1_767_225_600 + n,
            "url": f"https://i.redd.it/{i}.jpg",
        }
        for n, i in enumerate(ids)
    ]
    return "\n".join(map(json.dumps, lines)).encode()


def test_parts_are_collected_as_one_export(wildrf, workspace, tmp_path):
    one = a_zip(tmp_path / "1.zip", {"RS_1.jsonl": dump("abc")})
    two = a_zip(tmp_path / "2.zip", {"RS_2.jsonl": dump("cde")})

    answer = wildrf("collect", "--parts", one, two, "--workspace", workspace, "--json")

    told = json.loads(answer.out)
    assert answer.code == 0
    assert (told["posts"], told["skipped"], told["gone"]) == (5, {"duplicate": 1}, 0)
    assert (told["first_at"], told["last_at"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z")
    assert told["gaps"] == []


def test_several_exports_are_told_one_by_one_and_together(wildrf, workspace, tmp_path):
    (tmp_path / "RS_1.jsonl").write_bytes(dump("xy"))
    (tmp_path / "RS_2.jsonl").write_bytes(dump("yz"))

    answer = wildrf(
        "collect", *sorted(tmp_path.glob("*.jsonl")), "--workspace", workspace, "--json"
    )

    told = json.loads(answer.out)
    assert [(e["posts"], e["new_posts"]) for e in told["exports"]] == [(2, 2), (2, 1)]
    assert (told["posts"], told["new_posts"], told["gone"], told["complete"]) == (4, 3, 0, True)


def test_what_is_missing_is_told_in_words(wildrf, workspace, tmp_path):
    early, late = [f"p{n}" for n in range(90)], [f"q{n}" for n in range(90)]
    rows = [json.loads(line) for line in (dump(early) + b"\n" + dump(late)).splitlines()]
    for row in rows[90:]:
        row["created_utc"] += 86_400
    rows.append({**rows[0], "id": "r", "removed_by_category": "moderator"})
    (tmp_path / "RS_1.jsonl").write_text("\n".join(map(json.dumps, rows)))

    answer = wildrf("collect", tmp_path / "RS_1.jsonl", "--workspace", workspace)

    words = answer.out + answer.err
    assert "posts of 2026-01-01 to 2026-01-02" in words
    assert "no posts 2026-01-01T01:00:00Z to 2026-01-02T00:00:00Z" in words
    assert "taken away before they could be collected: 1" in words
