"""What the markers of a JPEG say, against the encoders, ImageMagick and described odd files."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.probe import families, jpeg

SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
KNOWN_MARKERS = {"SOI": None, "DCT": None, "DCTSuccessive": None, "LS": None, "Lossless": None}


def textured(mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> Image.Image:
    rng = np.random.default_rng(7)
    bands = 1 if mode == "L" else 3
    coarse = rng.integers(0, 255, (8, 8, bands), dtype=np.uint8).squeeze()
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def fit_of(data: bytes) -> families.Fit:
    return families.fit(jpeg.read_header(data).used_tables)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_quality_pillow_writes_in_colour_is_told_exactly(sampling):
    image = textured()
    for quality in range(1, 101):
        data = encoded(image, quality=quality, subsampling=SAMPLINGS[sampling])
        fit = fit_of(data)

        assert (fit.luma, fit.chroma, fit.quality) == (quality, quality, quality)
        assert fit.exact
        assert fit.residual == 0
        assert fit.family == ("any" if quality == 100 else "ijg")
        assert jpeg.read_header(data).subsampling == sampling


def test_every_quality_pillow_writes_in_grey_is_told_exactly_from_luma_alone():
    for quality in range(1, 101):
        data = encoded(textured("L"), quality=quality)
        fit = fit_of(data)

        assert (fit.luma, fit.chroma, fit.quality, fit.exact) == (quality, None, quality, True)
        assert jpeg.read_header(data).subsampling == "gray"


def test_quality_agrees_with_imagemagick_on_standard_tables(tmp_path):
    if shutil.which("identify") is None:
        pytest.skip("needs ImageMagick's identify")
    paths = []
    for quality in [1, 3, 10, 24, 25, 49, 50, 51, 74, 75, 85, 90, 95, 96, 99, 100]:
        for name, option in SAMPLINGS.items():
            path = tmp_path / f"{quality:03}-{name.replace(':', '')}.jpg"
            path.write_bytes(encoded(textured(), quality=quality, subsampling=option))
            paths.append(path)
    told = subprocess.run(
        ["identify", "-format", "%Q\n", *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert [fit_of(p.read_bytes()).luma for p in paths] == list(map(int, told.stdout.split()))


@pytest.mark.parametrize(
    ("switches", "huffman", "progressive"),
    [
        ((), "default", False),
        (("-baseline",), "default", False),
        (("-optimize",), "optimised", False),
        (("-progressive",), "optimised", True),
        (("-arithmetic",), "arithmetic", False),
        (("-restart", "4B"), "default", False),
    ],
)
def test_what_cjpeg_was_asked_for_is_told(switches, huffman, progressive):
    if shutil.which("cjpeg") is None:
        pytest.skip("needs cjpeg")
    pixels = io.BytesIO()
    textured().save(pixels, "PPM")
    for quality in (3, 24, 50, 75, 92):
        command = ["cjpeg", "-quality", str(quality), *switches]
        made = subprocess.run(command, input=pixels.getvalue(), capture_output=True, check=False)
        if made.returncode:
            pytest.skip(f"this cjpeg cannot {' '.join(switches)}")
        header = jpeg.read_header(made.stdout)

        assert families.fit(header.used_tables) == families.Fit(
            "ijg", quality, quality, True, 0.0, fit_of(made.stdout).quality
        )
        assert (header.huffman, header.progressive) == (huffman, progressive)
        assert header.restart == (4 if "-restart" in switches else 0)


def test_luma_and_chroma_may_have_different_qualities():
    ijg = families.families()[0]
    luma, chroma = ijg.luma, ijg.chroma
    data = encoded(textured(), qtables=[luma[89].tolist(), chroma[59].tolist()])

    fit = fit_of(data)

    assert (fit.family, fit.luma, fit.chroma, fit.exact) == ("ijg", 90, 60, True)
    assert 60 < fit.quality < 90


def test_tables_of_no_known_family_are_other_with_a_residual_and_an_ordinal():
    flat = [list(range(4, 68)), list(range(5, 69))]
    fit = fit_of(encoded(textured(), qtables=flat))

    assert (fit.family, fit.exact) == ("other", False)
    assert fit.residual > 0
    assert 1 <= fit.quality <= 100


def test_the_ordinal_falls_when_the_steps_grow():
    base = np.arange(4, 68)
    ordinals = [families.fit((tuple((base * k).clip(1, 255).tolist()),)).quality for k in (1, 2, 3)]

    assert ordinals == sorted(ordinals, reverse=True)
    assert len(set(ordinals)) == 3


def test_tables_are_in_natural_order_as_pillow_gives_them():
    data = encoded(textured(), quality=37)

    ours = jpeg.read_header(data).tables
    theirs = Image.open(io.BytesIO(data)).quantization

    assert {k: list(v) for k, v in ours.items()} == theirs


def test_the_hash_of_the_tables_depends_on_them_alone():
    one = encoded(textured(), quality=80)
    two = encoded(textured(size=(96, 80)), quality=80, progressive=True, optimize=True)
    three = encoded(textured(), quality=81)

    first, second, third = (jpeg.read_header(d) for d in (one, two, three))

    assert first.dqt_hash == second.dqt_hash != third.dqt_hash
    assert first.marker_hash == third.marker_hash != second.marker_hash


def test_the_thumbnail_and_the_second_image_of_an_mpo_are_not_read():
    small = encoded(textured(), quality=10)
    exif = b"\xff\xe1" + (len(small) + 8).to_bytes(2) + b"Exif\0\0" + small
    main = encoded(textured(), quality=90)
    data = main[:2] + exif + main[2:] + encoded(textured("L"), quality=20)

    assert fit_of(data).luma == 90
    assert jpeg.read_header(data).subsampling == "4:2:0"


def test_a_file_cut_anywhere_never_raises_and_never_says_otherwise():
    data = encoded(textured(), quality=63, progressive=True)
    whole = jpeg.read_header(data)
    for end in range(2, len(data)):
        part = jpeg.read_header(data[:end])
        assert part.width in (None, whole.width)
        assert set(part.used_tables) <= set(whole.used_tables)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
def test_no_bytes_make_the_walk_raise(data):
    header = jpeg.read_header(b"\xff\xd8" + data)

    assert len(header.markers) <= jpeg.MOST_SEGMENTS
    assert header.subsampling is None or header.components
    _ = (header.huffman, header.dqt_hash, header.marker_hash)


def test_a_million_markers_end_soon():
    header = jpeg.read_header(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000)

    assert len(header.markers) == jpeg.MOST_SEGMENTS


def described(shared: Path) -> list[tuple[Path, dict]]:
    folder = shared / "data" / "edge-cases" / "jpegsuite"
    pairs = [(p.with_suffix(".jpg"), p) for p in sorted(folder.rglob("*.json"))]
    pairs = [(p if p.exists() else p.with_suffix(".jls"), j) for p, j in pairs]
    return [(p, json.loads(j.read_text())) for p, j in pairs if p.exists()]


def test_odd_files_are_read_as_their_descriptions_say(shared):
    files = described(shared)
    assert len(files) > 300
    for path, told in files:
        header = jpeg.read_header(path.read_bytes())
        segments = told["segments"]
        frame = next(s for s in segments if s["type"].startswith("SOF"))
        assert header.precision == frame["precision"], path.name
        if not any(s["type"] == "LSE" for s in segments):  # JPEG-LS may state the size there
            assert (header.width, header.height) == (told["width"], told["height"]), path.name
        assert [(c.id, c.across, c.down) for c in header.components] == [
            (c["id"], *c["sampling_factor"]) for c in frame["components"]
        ], path.name


def test_quantisation_tables_and_markers_of_odd_files_are_those_described(shared):
    for path, told in described(shared):
        segments = told["segments"]
        if any(s["type"] in {"LS", "Lossless"} for s in segments):
            continue
        header = jpeg.read_header(path.read_bytes())
        tables = {}
        for segment in segments:
            if segment["type"] == "DQT":
                for table in segment["tables"]:
                    tables[table["destination"]] = tuple(np.ravel(table["values"]).tolist())
        assert header.tables == tables, path.name
        named = [s["type"] for s in segments if s["type"] not in KNOWN_MARKERS]
        assert len(header.markers) == len([n for n in named if not n.startswith("RST")]), path.name
