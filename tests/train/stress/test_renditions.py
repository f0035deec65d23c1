"""What is done to pictures: codings against Pillow and the files themselves, tone, platforms."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from train.stress.coding import coding_of, save_jpeg, save_like
from train.stress.platforms import CHAINS, DELIVERIES, deliver
from train.stress.tone import Tone, tone_of, with_chroma, with_tone


def photo(seed=0, size=(96, 64)):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, size=(5, 7, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def saved(picture, form="JPEG", **options):
    packed = io.BytesIO()
    picture.save(packed, form, **options)
    packed.seek(0)
    return Image.open(packed)


@pytest.mark.parametrize("quality", [10, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_saving_like_a_file_gives_the_pixels_that_its_encoder_would_have_given(quality, sampling):
    like = saved(photo(1), quality=quality, subsampling=sampling)
    other = photo(2)

    made = save_like(other, coding_of(like))

    expected = saved(other, quality=quality, subsampling=sampling).convert("RGB")
    assert np.array_equal(np.asarray(made), np.asarray(expected))


def test_the_coding_of_a_file_tells_tables_sampling_and_scan():
    coding = coding_of(saved(photo(), quality=90, subsampling="4:2:0", progressive=True))

    assert (coding.format, coding.sampling, coding.progressive) == ("JPEG", "4:2:0", True)
    assert len(coding.tables) == 2
    assert "progressive 4:2:0" in coding.words


def test_own_tables_that_no_quality_has_are_used_as_they_are():
    tables = [list(range(1, 65)), [7] * 64]
    like = saved(photo(1), qtables=tables, subsampling="4:4:4")

    again = coding_of(saved(photo(2), qtables=[list(t) for t in coding_of(like).tables]))

    assert [list(table) for table in again.tables] == tables


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_saving_like_a_lossless_file_changes_no_pixel(form):
    coding = coding_of(saved(photo(1), form))
    picture = photo(2)

    assert np.array_equal(np.asarray(save_like(picture, coding)), np.asarray(picture))
    assert not coding.assumed


def test_a_lossy_webp_does_not_tell_its_quality_and_that_is_said():
    coding = coding_of(saved(photo(1), "WEBP", quality=40))

    assert coding.assumed
    assert save_like(photo(2), coding).size == photo(2).size


@given(seed=st.integers(0, 30))
def test_a_picture_takes_on_the_tone_that_is_asked(seed):
    picture = photo(seed)
    own = tone_of(picture.copy())
    wanted = Tone(120, 25, 20)

    lit = tone_of(with_tone(picture, own, wanted))
    coloured = tone_of(with_chroma(picture, own, wanted))

    assert lit.brightness == pytest.approx(120, abs=4)
    assert lit.contrast == pytest.approx(25, abs=4)
    assert coloured.chroma == pytest.approx(20, abs=4)


@given(seed=st.integers(0, 30))
def test_a_picture_given_its_own_tone_stays_as_it_is(seed):
    picture = photo(seed)
    own = tone_of(picture.copy())

    for do in (with_tone, with_chroma):
        moved = np.asarray(do(picture, own, own), dtype=int) - np.asarray(picture, dtype=int)
        assert np.abs(moved).max() <= 1


@pytest.mark.parametrize("platform", DELIVERIES)
def test_a_platform_caps_the_long_edge_keeps_the_shape_and_never_enlarges(platform):
    cap = DELIVERIES[platform].long_edge

    small = DELIVERIES[platform].deliver(photo(size=(90, 60)))
    large = DELIVERIES[platform].deliver(photo(size=(2400, 1200)))

    assert small.size == (90, 60)
    assert large.size == ((2400, 1200) if cap is None else (cap, cap // 2))


def test_x_serves_what_its_archives_hold():
    picture = photo(size=(1300, 700))
    capped = picture.resize((1200, 646), Image.Resampling.LANCZOS)

    expected = save_jpeg(capped, 85, progressive=True)

    assert np.array_equal(np.asarray(deliver(picture, ("x",))), np.asarray(expected))
    assert DELIVERIES["x"].basis == "measured"


@pytest.mark.parametrize("chain", CHAINS, ids=" > ".join)
def test_every_chain_names_platforms_that_are_known_and_gives_the_same_bytes_again(chain):
    assert set(chain) <= set(DELIVERIES)
    one, again = (np.asarray(deliver(photo(3), chain)) for _ in range(2))
    assert np.array_equal(one, again)


def test_a_setting_is_said_to_be_measured_or_assumed():
    assert {d.basis for d in DELIVERIES.values()} == {"measured", "assumed"}
    assert all(d.basis in d.words for d in DELIVERIES.values())


@pytest.mark.parametrize(
    ("own", "like", "made"),
    [((96, 64), (48, 40), (48, 32)), ((64, 96), (192, 10), (128, 192)), ((96, 64), (96, 7), (96, 64)),
     ((96, 64), (9000, 9000), (4096, 2731))],
)  # fmt: skip
def test_a_picture_is_given_the_long_edge_of_another_and_keeps_its_shape(own, like, made):
    from schemas.labels import Label
    from train.stress.counterfactuals import FACTORS
    from train.stress.plan import Facts

    coding = coding_of(saved(photo()))
    mine, other = (
        Facts("a", "0" * 64, Label.REAL, "x", "c", size, coding, Tone(128, 40, 20))
        for size in (own, like)
    )
    (size,) = (factor for factor in FACTORS if factor.name == "size")

    assert size.give(photo(size=own), mine, other).size == made
