"""Pictures at an eighth: the reader of means against libjpeg."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.probe import decode, examine, jpeg
from curate.probe.eighth import read_eighth

SAVES = st.fixed_dictionaries(
    {
        "quality": st.integers(1, 100),
        "subsampling": st.integers(0, 2),
        "optimize": st.booleans(),
        "restart_marker_blocks": st.sampled_from([0, 0, 1, 3, 50]),
    }
)
SIDES = st.tuples(st.integers(8, 90), st.integers(8, 90))


def make(
    size: tuple[int, int], mode: str = "RGB", seed: int = 0, grain: float = 40.0, **save
) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    pixels = (smooth + rng.normal(0, grain, smooth.shape)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", **save)
    return out.getvalue()


def by_libjpeg(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.draft("L", (image.width // 8, image.height // 8))
    image.load()
    return np.asarray(image)


def ours(data: bytes) -> np.ndarray | None:
    return read_eighth(data, jpeg.read_header(data))


@settings(max_examples=300, deadline=None)
@given(SIDES, st.sampled_from(["RGB", "L"]), st.integers(0, 9), st.sampled_from([0, 8, 90]), SAVES)
def test_an_eighth_is_that_of_libjpeg_pixel_for_pixel(size, mode, seed, grain, save):
    data = make(size, mode, seed, grain, **save)

    np.testing.assert_array_equal(ours(data), by_libjpeg(data))


@settings(max_examples=1000, deadline=None)
@given(st.data(), st.sampled_from([0, 2]), st.sampled_from([0, 3]))
def test_damaged_files_have_the_eighth_of_libjpeg_or_none(draw, subsampling, restart):
    size = draw.draw(SIDES)
    data = bytearray(make(size, subsampling=subsampling, restart_marker_blocks=restart))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(2, len(data) - 1))] = draw.draw(st.integers(0, 255))
    found = ours(bytes(data))

    if found is not None:
        header = jpeg.read_header(bytes(data))
        assume(
            min(header.width, header.height) >= 8
        )  # Pillow cannot be asked for an eighth of less
        np.testing.assert_array_equal(found, by_libjpeg(bytes(data)))


@pytest.mark.parametrize("marker", [0xC8, 0xCC, 0xDE, 0xDF, 0xF0, 0xFD, 0x01, 0x02, 0xBF])
def test_a_segment_at_which_libjpeg_gives_up_is_left_to_it(marker):
    data = make((64, 64))

    assert data[2:4] == b"\xff\xe0"
    assert ours(data) is not None
    assert ours(data[:3] + bytes([marker]) + data[4:]) is None


@pytest.mark.parametrize("marker", [0xC0, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xFE])
def test_a_segment_with_nothing_in_it_is_no_crash(marker):
    data = make((64, 64))
    empty = bytes([0xFF, marker, 0, 2])

    found = ours(data[:2] + empty + data[2:])

    assert found is None or np.array_equal(found, ours(data))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_what_ends_too_soon_is_left_to_libjpeg(share):
    data = make((80, 80))
    end = int(len(data) * share)

    assert ours(data[:end]) is None
    assert ours(data[:end] + b"\xff\xd9") is None


@pytest.mark.parametrize(
    ("mode", "save"),
    [
        ("RGB", {"progressive": True}),
        ("CMYK", {}),
        ("RGB", {"keep_rgb": True}),
    ],
)
def test_other_codings_are_left_to_libjpeg(mode, save):
    assert ours(make((64, 64), mode, **save)) is None


def test_bytes_after_the_picture_and_beside_it_do_not_matter():
    data = make((64, 64))
    comment = b"\xff\xfe\x00\x06abcd"

    np.testing.assert_array_equal(ours(data[:2] + comment + data[2:] + b"more"), by_libjpeg(data))


def test_a_file_has_the_same_rows_by_either_reader(monkeypatch):
    files = [make((1100, 1050), seed=s, subsampling=s % 3) for s in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    files.append(make((1100, 1050), exif=exif))
    first = Image.open(io.BytesIO(files[0]))
    both = io.BytesIO()
    first.save(both, "MPO", save_all=True, append_images=[first])
    files.append(both.getvalue())
    monkeypatch.setattr(decode, "_spent", decode.Spent())
    before = [examine(data) for data in files]

    decode.load_now()

    assert [examine(data) for data in files] == before
    assert before[3].image.orientation == 6
    assert (before[4].image.format, before[4].image.frames) == ("MPO", 2)


def test_the_faster_reader_is_the_one_that_read_them(monkeypatch):
    data = make((1100, 1050))
    monkeypatch.setattr(decode, "_spent", decode.Spent(decode.LOADING))

    found = decode.decode(data, "JPEG", (1100, 1050), 1 << 30, header=jpeg.read_header(data))

    assert found.frames == 1
    np.testing.assert_array_equal(np.asarray(found.image), by_libjpeg(data))


def test_few_files_are_examined_without_the_compiler(tmp_path):
    (tmp_path / "a.jpg").write_bytes(make((1100, 1050)))
    script = (
        "import sys, pathlib; from curate.probe import examine; "
        "examine(pathlib.Path(sys.argv[1]).read_bytes()); sys.exit('numba' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script, tmp_path / "a.jpg"]).returncode == 0


def test_real_files_have_the_eighth_of_libjpeg(shared):
    found = 0
    folders = (shared / "data" / name for name in ("camera-photos", "faces-clean"))
    paths = [path for folder in folders for path in folder.rglob("*.jpg")]
    for path in sorted(paths)[::60]:
        data = path.read_bytes()
        small = ours(data)
        if small is not None:
            np.testing.assert_array_equal(small, by_libjpeg(data))
            found += 1
    assert found > 10
