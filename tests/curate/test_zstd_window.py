import errno
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import exports, zstd_window
from curate.exports import DamagedExport, open_export
from curate.zstd_window import FileWindow, is_supported, memory_of
from schemas.errors import ExportError

pytestmark = pytest.mark.skipif(
    not is_supported(), reason="windows lie in files on Linux with cffi only"
)
SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
DECODE = """
import resource, sys, zlib
from pathlib import Path
from curate.exports import open_export

path = Path(sys.argv[1])
size = check = 0
for chunk in open_export(path).chunks(path.name):
    size, check = size + len(chunk), zlib.crc32(chunk, check)
peak = next(x for x in Path("/proc/self/status").read_text().split("\\n") if x.startswith("VmHWM"))
print(size, check, peak.split()[1])
"""


def frame(data: bytes, window_log: int, *, checksum: bool = False, sized: bool = False) -> bytes:
    """One frame that finds every match in its window, however far back, and does not tell its size."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log,
        hash_log=20,
        chain_log=20,
        strategy=zstandard.STRATEGY_FAST,
        enable_ldm=True,
        ldm_hash_log=20,
        ldm_min_match=32,
        ldm_hash_rate_log=2,
        write_checksum=checksum,
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(
        size=len(data) if sized else -1
    )
    return stream.compress(data) + stream.flush()


def mixed(seed: int, size: int, reach: int) -> bytes:
    """Bytes that are new, or repeat what lies anywhere up to `reach` back, or run on."""
    draw = random.Random(seed)
    data = bytearray(draw.randbytes(min(reach, size) // 2 + 1))
    while len(data) < size:
        match draw.randrange(8):
            case 0:
                data += draw.randbytes(draw.randrange(1, 3000))
            case 1:
                data += bytes([draw.randrange(256)]) * draw.randrange(1, 200_000)
            case _:
                start = len(data) - draw.randrange(1, min(reach, len(data)) + 1)
                data += data[start : start + draw.randrange(32, 5000)]
    return bytes(data[:size])


def decoded(window: FileWindow, data: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return b"".join(p for a, b in pairwise(edges) for p in window.decompress(data[a:b]))


@settings(deadline=None, max_examples=60)
@given(
    window_log=st.integers(10, 20),
    sizes=st.lists(st.integers(0, 700_000), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 2**20), max_size=8),
    seed=st.integers(0, 2**32),
    resident=st.sampled_from([0, 1 << 16, 1 << 24]),
)
def test_frames_unpack_to_what_they_were_made_of(window_log, sizes, cuts, seed, resident):
    with FileWindow(1 << window_log, resident=resident) as window:
        for number, size in enumerate(sizes):
            data = mixed(seed + number, size, 1 << window_log)

            got = decoded(window, frame(data, window_log, checksum=True), cuts)

            assert got == data
            assert window.eof
            assert window.unused_data == b""
            assert window.restart(1 << window_log)


def test_matches_from_one_end_of_a_large_window_to_the_other_are_found_again():
    data = mixed(5, 70 << 20, 32 << 20)  # twice around the window
    packed = frame(data, 25)

    with FileWindow(memory_of(packed), resident=1 << 20) as window:
        assert b"".join(window.decompress(packed)) == data


def test_what_follows_a_frame_is_handed_back():
    data = mixed(1, 100_000, 1 << 16)

    with FileWindow(1 << 16) as window:
        assert b"".join(window.decompress(frame(data, 16) + SKIPPABLE)) == data
        assert window.unused_data == SKIPPABLE


def test_a_frame_that_asks_for_more_than_it_said_is_refused():
    with FileWindow(1 << 20) as window, pytest.raises(zstandard.ZstdError, match="memory"):
        list(window.decompress(frame(mixed(1, 3 << 20, 1 << 20), 22)))


def test_the_memory_of_a_frame_is_its_window_or_all_it_holds():
    assert memory_of(frame(bytes(1000), 31)) == 2**31
    assert memory_of(frame(bytes(1000), 31, sized=True)) == 1000
    assert memory_of(SKIPPABLE + bytes(20)) == memory_of(b"plain text of some length") == 0
    assert memory_of(frame(bytes(1000), 31)[:4]) == 0


def test_only_what_was_unpacked_lies_on_the_disk():
    packed = frame(mixed(1, 3 << 20, 1 << 20), 31)

    with FileWindow(2**31) as window:
        list(window.decompress(packed))

        assert os.fstat(window._file.fileno()).st_blocks * 512 < 6 << 20


# ---------------------------------------------------------------- as a member of an export


@pytest.fixture
def in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every window above 1 KiB lies in a file; the list tells how large each was."""
    opened: list[int] = []
    (tmp_path / "windows").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "windows"))

    def counted(memory: int) -> FileWindow:
        opened.append(memory)
        return FileWindow(memory, resident=1 << 18)

    monkeypatch.setattr(exports, "MEMORY_WINDOW", 1 << 10)
    monkeypatch.setattr(exports, "FileWindow", counted)
    yield opened
    assert opened


def open_files() -> list[str]:
    """What this process has open or mapped in the folder of temporary files."""
    open_here = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    names = [os.readlink(link) for link in open_here if os.path.lexists(link)]
    names += Path("/proc/self/maps").read_text().splitlines()
    return [name for name in names if tempfile.gettempdir() in name]


def dump_of(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def text(lines: int) -> bytes:
    return b"".join(b'{"n": %d, "x": "%d"}\n' % (i, i * 7919 % 10007) for i in range(lines))


def test_large_small_and_skippable_frames_are_one_stream(tmp_path, in_files):
    data, short = text(50_000), b'{"short": 1}\n'
    path = dump_of(
        tmp_path / "RS.zst",
        *(frame(data, 17), SKIPPABLE, zstandard.compress(short), frame(data, 17)),
        *(frame(b"", 17), SKIPPABLE, frame(short, 16), frame(data, 20)),
    )

    assert open_export(path).read("RS.zst") == data + short + data + short + data
    assert in_files == [1 << 17, 1 << 20]  # the second frame of 2^17 found a decoder


def test_a_stream_can_go_back_to_what_it_unpacked_before(tmp_path, in_files):
    data = text(50_000)
    path = dump_of(tmp_path / "RS.zst", frame(data, 17), frame(data, 17))

    with open_export(path).open("RS.zst") as stream:
        stream.seek(len(data) + 5)
        assert stream.read(1000) == data[5:1005]
        stream.seek(7)
        assert stream.read(1000) == data[7:1007]


@pytest.mark.parametrize("part", [0.0005, 0.3, 0.999])
def test_a_frame_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path, in_files, part):
    data = text(50_000)
    packed = frame(data, 17)
    path = dump_of(tmp_path / "RS.zst", packed, packed[: int(len(packed) * part)])
    got = []

    with pytest.raises(DamagedExport, match="not finished"):
        got.extend(open_export(path).chunks("RS.zst"))

    assert (data + data).startswith(b"".join(got))
    assert len(b"".join(got)) >= len(data)
    assert not open_files()


def test_damage_inside_a_frame_is_told_whether_or_not_it_can_be_decoded(tmp_path, in_files):
    packed = bytearray(frame(text(50_000), 17, checksum=True))
    packed[-1] ^= 1
    changed = dump_of(tmp_path / "sum.zst", packed)
    packed[len(packed) // 2 : len(packed) // 2 + 400] = bytes(400)
    broken = dump_of(tmp_path / "broken.zst", packed)

    with pytest.raises(DamagedExport, match="checksum"):
        open_export(changed).read("sum.zst")
    with pytest.raises(DamagedExport, match=re.escape("broken.zst")):
        open_export(broken).read("broken.zst")
    assert not open_files()


def test_a_stream_that_broke_does_not_look_complete_when_it_is_read_on(tmp_path, in_files):
    path = dump_of(tmp_path / "RS.zst", frame(text(50_000), 17)[:-10])

    with open_export(path).open("RS.zst") as stream:
        for _ in range(2):
            with pytest.raises(EOFError):
                while stream.read(1 << 16):
                    pass


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=30))
def test_no_damage_goes_further_than_an_error(place, noise):
    data = text(5_000)
    packed = bytearray(frame(data, 17, checksum=True))
    at = place % len(packed)
    packed[at : at + len(noise)] = noise

    with FileWindow(1 << 17) as window:
        try:
            got = b"".join(window.decompress(bytes(packed)))
        except zstandard.ZstdError:
            return

        assert not window.eof or got == data


def test_a_bomb_in_a_large_window_is_refused(tmp_path, in_files, monkeypatch):
    monkeypatch.setattr(exports, "FREE_BYTES", 1 << 20)
    path = dump_of(tmp_path / "RS.zst", frame(bytes(64 << 20), 24))

    with pytest.raises(ExportError, match="bomb"):
        list(open_export(path).lines("RS.zst"))
    assert not open_files()


def test_lines_that_nobody_reads_on_leave_no_file_behind(tmp_path, in_files):
    path = dump_of(tmp_path / "RS.zst", frame(text(50_000), 17))
    lines = open_export(path).lines("RS.zst")
    next(lines)
    assert open_files()

    del lines

    assert not open_files()


def test_a_window_that_was_closed_is_not_read():
    packed = frame(text(50_000), 17)
    with FileWindow(1 << 17) as window:
        pieces = window.decompress(packed)
        next(pieces)

    with pytest.raises(ValueError, match="closed"):
        next(pieces)


def test_where_windows_cannot_lie_in_files_memory_holds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "MEMORY_WINDOW", 1 << 10)
    monkeypatch.setattr(exports, "FileWindow", None)
    monkeypatch.setattr(zstd_window, "is_supported", lambda: False)
    data = text(50_000)

    assert open_export(dump_of(tmp_path / "RS.zst", frame(data, 20))).read("RS.zst") == data


# ---------------------------------------------------------------- memory and disk


@pytest.mark.slow
def test_a_frame_with_a_window_of_2_gib_needs_a_fraction_of_that(tmp_path):
    block = random.Random(0).randbytes(100 << 20)  # too long for anything but a match 100 MiB back
    parameters = zstandard.ZstdCompressionParameters(
        window_log=31, strategy=zstandard.STRATEGY_FAST, hash_log=17, enable_ldm=True
    )
    path = tmp_path / "RS.zst"
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(compression_params=parameters).stream_writer(raw) as out,
    ):
        for _ in range(6):
            out.write(block)
    assert path.stat().st_size < 110 << 20

    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(path)], check=True, capture_output=True, text=True
    )

    size, _, peak = map(int, done.stdout.split())
    assert size == 600 << 20
    assert peak < 150 << 10  # KiB; what is resident of the window, and Python with what it imports


def test_a_disk_without_room_is_told_with_what_to_do(tmp_path, in_files, monkeypatch):
    path = dump_of(tmp_path / "RS.zst", frame(mixed(1, 20 << 20, 8 << 20), 23))
    write = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if at > 4 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    got = []

    with pytest.raises(ExportError, match=r"No space left on device.*set TMPDIR"):
        got.extend(open_export(path).chunks("RS.zst"))
    assert sum(map(len, got)) > 2 << 20
    assert not open_files()


def test_a_folder_that_takes_no_file_is_told_with_what_to_do(tmp_path, in_files, monkeypatch):
    path = dump_of(tmp_path / "RS.zst", frame(text(5_000), 23))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    with pytest.raises(ExportError, match=r"nowhere.*set TMPDIR"):
        open_export(path).read("RS.zst")


def test_a_small_disk_fills_up_without_a_crash(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(room)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        path = dump_of(tmp_path / "RS.zst", frame(mixed(1, 20 << 20, 8 << 20), 27))
        done = subprocess.run(
            [sys.executable, "-c", DECODE, str(path)],
            env={**os.environ, "TMPDIR": str(room)},
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", str(room)], check=True)

    assert done.returncode == 1  # and not a signal
    assert "No space left on device" in done.stderr
    assert f"temporary folder {room}" in done.stderr
