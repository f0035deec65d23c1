"""Encoder families: what an encoder was set to is told from its tables, exactly or not at all."""

import collections
import hashlib
import io
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, JpegPresets

from curate.probe import bank, examine, families, jpeg

SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
SMALL = Image.fromarray(np.random.default_rng(3).integers(0, 255, (16, 16, 3), dtype=np.uint8))

MEASURED = {
    "mozjpeg-1": "4284692b69fcf1ed",
    "mozjpeg-2": "2826850f8cdf0c71",
    "mozjpeg-3": "f8e1c12ed282b90d",
    "mozjpeg-4": "324ad4bce1759ed0",
    "mozjpeg-5": "3f3f9e186b63633e",
    "mozjpeg-6": "719dbf2e41e70426",
    "mozjpeg-7": "b2c2f3e48f385878",
    "mozjpeg-8": "937a0c332093ad06",
    "jpegli": "95361054cca17915",
}
"""Digest of the tables of the files that the encoder itself wrote at quality 1 to 100."""


def encoded(image: Image.Image = SMALL, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def family(name: str) -> families.Family:
    return next(f for f in families.families() if f.name == name)


def tables_at(of: families.Family, row: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(of.luma[row].tolist()), tuple(of.chroma[row].tolist())


@pytest.mark.parametrize("name", MEASURED)
def test_the_tables_of_a_family_are_those_its_encoder_writes(name):
    hashes = [jpeg.hash_of_tables(tables_at(family(name), row)) for row in range(100)]

    assert hashlib.sha256("".join(hashes).encode()).hexdigest()[:16] == MEASURED[name]


def same_tables() -> dict[tuple[tuple[int, ...], ...], set[tuple[str, int]]]:
    """Which settings of which families write the same tables, and so cannot be told apart."""
    found = collections.defaultdict(set)
    for of in families.families():
        for row, setting in enumerate(of.settings):
            found[tables_at(of, row)].add((of.name, setting))
    return found


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("preset", bank.MOZJPEG)
def test_every_quality_of_every_mozjpeg_preset_is_told_exactly(preset, sampling):
    of, alike = family(f"mozjpeg-{preset}"), same_tables()
    unique = 0
    for row, quality in enumerate(of.settings):
        tables = tables_at(of, row)
        data = encoded(qtables=[list(t) for t in tables], subsampling=SAMPLINGS[sampling])
        fit = families.fit(jpeg.read_header(data).used_tables)

        assert (fit.exact, fit.residual, fit.luma) == (True, 0, fit.chroma)
        assert (fit.family, fit.luma) in alike[tables] | {("any", 100)}
        if len(alike[tables]) == 1:
            unique += 1
            assert (fit.family, fit.luma) == (of.name, quality)
    assert unique >= (29 if preset == 1 else 96)  # preset 1 has one step for all, so few of them


@pytest.mark.parametrize("switches", [(), ("-baseline",), ("-grayscale",)])
def test_every_quality_cjpeg_writes_is_told_exactly(switches):
    if shutil.which("cjpeg") is None:
        pytest.skip("needs cjpeg, of libjpeg-turbo-progs")
    pixels = io.BytesIO()
    SMALL.save(pixels, "PPM")
    for quality in range(1, 101):
        sample = ("1x1", "2x1", "2x2")[quality % 3]
        command = ["cjpeg", "-quality", str(quality), "-sample", sample, *switches]
        made = subprocess.run(command, input=pixels.getvalue(), capture_output=True, check=True)
        fit = families.fit(jpeg.read_header(made.stdout).used_tables)

        chroma = None if "-grayscale" in switches else quality
        assert (fit.luma, fit.chroma, fit.exact) == (quality, chroma, True)
        assert fit.family == ("any" if quality == 100 else "ijg")


def test_every_quality_and_sampling_agrees_with_imagemagick(tmp_path):
    if shutil.which("identify") is None:
        pytest.skip("needs ImageMagick's identify")
    paths = []
    for quality in range(1, 101):
        for name, option in SAMPLINGS.items():
            paths.append(tmp_path / f"{quality:03}-{name.replace(':', '')}.jpg")
            paths[-1].write_bytes(encoded(quality=quality, subsampling=option))
    command = ["identify", "-format", "%Q\n", *map(str, paths)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)

    ours = [families.fit(jpeg.read_header(p.read_bytes()).used_tables).luma for p in paths]
    assert ours == list(map(int, told.stdout.split()))


@pytest.mark.parametrize(
    ("preset", "name", "setting"),
    [
        ("low", "photoshop", 3),
        ("medium", "photoshop", 5),
        ("high", "photoshop", 8),
        ("maximum", "photoshop", 10),
        ("web_low", "photoshop-web", 10),
        ("web_medium", "photoshop-web", 30),
        ("web_high", "photoshop-web", 60),
        ("web_very_high", "photoshop-web", 80),
        ("web_maximum", "photoshop-web", 100),
    ],
)
def test_photoshop_settings_are_told_as_pillow_knows_them(preset, name, setting):
    assert preset in JpegPresets.presets
    fit = families.fit(jpeg.read_header(encoded(quality=preset)).used_tables)

    assert (fit.family, fit.luma, fit.chroma, fit.exact) == (name, setting, setting, True)


def test_photoshop_files_that_state_their_setting_agree(shared):
    agreed = 0
    for path in sorted((shared / "data").rglob("*.jpg")):
        header = jpeg.read_header(path.read_bytes())
        resources = b"".join(header.payloads(13, b"Photoshop 3.0\0"))
        at = resources.find(b"8BIM\x04\x06")
        fit = families.fit(header.used_tables) if header.used_tables else None
        if at >= 0 and fit is not None and fit.family == "photoshop":
            start = (
                at + 6 + (resources[at + 6] + 2 & ~1) + 4
            )  # behind a name, padded, and the length
            stated = int.from_bytes(resources[start : start + 2], signed=True) + 4
            agreed += fit.luma == stated
            assert fit.luma == stated, path.name
    assert agreed >= 10


def test_one_table_for_all_is_both_qualities_only_where_the_family_shares_its_table():
    shared = tables_at(family("mozjpeg-3"), 84)[0]
    own = tables_at(family("ijg"), 84)[0]
    for table, told in ((shared, ("mozjpeg-3", 85, 85)), (own, ("ijg", 85, None))):
        image = examine(encoded(qtables=[list(table)])).image

        assert (image.jpeg_family, image.jpeg_quality_luma, image.jpeg_quality_chroma) == told
        assert image.jpeg_exact


def test_of_three_tables_both_of_chroma_count():
    luma, chroma = tables_at(family("ijg"), 89)
    coarser = tables_at(family("ijg"), 59)[1]
    strange = tuple(range(3, 67))

    assert families.fit((luma, chroma, chroma)).exact
    assert families.fit((luma, coarser, chroma)).chroma == 60
    assert families.fit((luma, chroma, strange)).family == "other"
    data = encoded(qtables=[list(luma), list(chroma)])
    cb, cr = jpeg.read_header(data).components[1:]
    assert cb.table == cr.table == 1


@settings(max_examples=200, deadline=None)
@given(
    percent=st.floats(4, 400),
    rounding=st.sampled_from([np.floor, np.ceil, np.round]),
    direct=st.integers(1, 40),
)
def test_annex_k_times_any_factor_is_told_with_the_factor(percent, rounding, direct):
    tables = []
    for base in bank.ANNEX_K:
        steps = rounding(np.array(base) * percent / 100).clip(1, 255).astype(int)
        tables.append((direct, *steps.tolist()[1:]))
    fit = families.fit(tuple(tables))

    assert fit.exact
    if fit.family == families.SCALED:
        assert fit.scales[0] == pytest.approx(percent, rel=0.1, abs=0.7)
    else:
        assert fit.family in {"ijg", "any"}


@settings(max_examples=200, deadline=None)
@given(quality=st.integers(20, 90), entry=st.integers(1, 63), change=st.integers(3, 30))
def test_a_table_with_one_step_changed_is_nobodys(quality, entry, change):
    luma, chroma = tables_at(family("ijg"), quality - 1)
    changed = list(luma)
    changed[entry] += change
    assume(changed[entry] > min(changed[1:]))  # steps may have been raised to the smallest
    fit = families.fit((tuple(changed), chroma))

    assert (fit.family, fit.exact) == ("other", False)
    assert fit.residual > 0


def test_the_shape_of_apples_tables_is_known_and_no_quality_made_up_for_it():
    along = [4, 4, 7, 10, 13, 16, 20, 24, 28, 31, 31, 31, 31]
    luma = [along[max(i, 1) + max(j, 1) - 2] for i in range(8) for j in range(8)]
    assert luma[:8] == [4, 4, 4, 7, 10, 13, 16, 20]
    fit = families.fit((tuple(luma), tables_at(family("ijg"), 84)[1]))

    assert (fit.family, fit.luma, fit.chroma, fit.exact) == ("anti-diagonal", None, None, False)
    assert 70 < fit.quality < 95
    assert not families.is_anti_diagonal([16] * 64)
    assert not families.is_anti_diagonal(bank.ANNEX_K[0])


def test_every_camera_file_has_a_family_or_a_residual(shared):
    found = collections.Counter()
    for path in sorted((shared / "data" / "camera-photos").glob("*.jpg")):
        image = examine(path.read_bytes()).image
        assert image.jpeg_family is not None
        assert image.jpeg_exact is (image.jpeg_residual == 0)
        assert image.jpeg_exact is (image.jpeg_family not in {"other", "anti-diagonal"})
        found[image.jpeg_family] += 1

    assert found == {
        "ijg": 42, "annex-k-scaled": 20, "other": 15, "photoshop": 12, "photoshop-web": 2
    }  # fmt: skip


def test_apples_shape_occurs_where_x_serves_pictures(shared):
    told = [
        families.fit(jpeg.read_header(p.read_bytes()).used_tables).family
        for p in sorted((shared / "data" / "x-served-ai").rglob("*.jpg"))
    ]

    assert told.count("ijg") >= 50
    assert "anti-diagonal" in told
