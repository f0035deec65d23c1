"""What pixels tell: sharpness and noise in stated units, and what a picture went through before."""

import contextlib
import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from curate.probe import examine, pixels
from curate.simulated import WorldSpec, build_world

RESAMPLING = Image.Resampling


@functools.cache
def textured(size: tuple[int, int] = (320, 280), seed: int = 4) -> Image.Image:
    """Noise of power 1/f^2, as photographs have, made without any resampling."""
    rng = np.random.default_rng(seed)
    height, width = size[1], size[0]
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    shape = 1 / np.maximum(np.hypot(down, across), 1 / width)
    bands = [
        np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * shape, (height, width))
        for _ in "RGB"
    ]
    total = np.stack([bands[0], bands[0] + bands[1] / 4, bands[0] + bands[2] / 4], axis=-1)
    return Image.fromarray((total * 40 / total.std() + 128).clip(0, 255).astype(np.uint8))


def through_jpeg(image: Image.Image, quality: int, **options: object) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, **options)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    quality=st.integers(50, 90), x=st.integers(0, 40), y=st.integers(0, 40), seed=st.integers(0, 20)
)
def test_the_grid_of_a_jpeg_is_found_with_its_phase_after_any_crop(quality, x, y, seed):
    old = through_jpeg(textured(seed=seed), quality)
    grid = pixels.find_grid(old.crop((x, y, old.width, old.height)))

    assert grid is not None
    assert (grid.x, grid.y) == (-x % 8, -y % 8)
    assert 0 < grid.strength <= 1


@pytest.mark.parametrize("seed", range(12))
def test_pixels_that_were_never_a_jpeg_have_no_grid(seed):
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(
        rng.normal(128, 5 * seed + 2, (250, 250, 3)).clip(0, 255).astype(np.uint8)
    )

    assert pixels.find_grid(textured(seed=seed)) is None
    assert pixels.find_grid(noise) is None
    assert pixels.find_grid(Image.new("RGB", (250, 250), (seed, 9, 9))) is None


def test_the_grid_is_gone_after_reducing_and_too_small_pictures_say_nothing():
    old = through_jpeg(textured((900, 900)), 60)

    assert pixels.find_grid(old.reduce(4)) is None
    assert pixels.find_grid(old.reduce(2)) is None  # a grid of 4 is not one of 8
    assert pixels.find_grid(old.crop((0, 0, 60, 60))) is None


def test_the_stated_rates_hold_on_real_photos(shared):
    rng = np.random.default_rng(1)
    found = right = false = number = 0
    for path in sorted((shared / "data" / "camera-photos").glob("*.jpg")):
        image = Image.new("L", (1, 1))
        with contextlib.suppress(OSError), Image.open(io.BytesIO(path.read_bytes())) as opened:
            image = opened.convert("RGB").reduce(4)
        if min(image.size) < 96:
            continue
        number += 1
        false += pixels.find_grid(image) is not None
        for quality in (50, 75, 90):
            x, y = map(int, rng.integers(0, 8, 2))
            old = through_jpeg(image, quality).crop((x, y, *image.size))
            grid = pixels.find_grid(old)
            found += grid is not None
            right += grid is not None and (grid.x, grid.y) == (-x % 8, -y % 8)

    assert number > 50
    assert false == 0
    assert found >= 0.93 * 3 * number
    assert right == found


def test_rendered_scenes_have_no_grid_until_they_are_compressed(tmp_path):
    build_world(tmp_path / "w", WorldSpec(seed=5, images=24, min_side=256, max_side=300))
    opened = []
    for path in sorted(tmp_path.rglob("*.jpg")):
        with contextlib.suppress(OSError), Image.open(path) as image:
            opened.append(image.convert("RGB"))
    whole = [i for i in opened if min(i.size) >= 160]
    reduced = [
        i.resize((int(i.width * 0.61), int(i.height * 0.61)), RESAMPLING.LANCZOS) for i in whole
    ]

    assert len(whole) >= 10
    assert sum(pixels.find_grid(i) is not None for i in whole) >= 0.9 * len(whole)
    assert sum(pixels.find_grid(i) is not None for i in reduced) == 0


@pytest.mark.parametrize("method", [RESAMPLING.BILINEAR, RESAMPLING.BICUBIC, RESAMPLING.LANCZOS])
@pytest.mark.parametrize("factor", [1.25, 1.5, 1.7, 2.0])
def test_the_factor_of_an_enlargement_is_found(method, factor):
    source = textured((360, 340))
    size = round(source.width * factor), round(source.height * factor)

    assert pixels.find_upscale(source.resize(size, method)) == pytest.approx(factor, rel=0.02)


def test_a_larger_factor_is_told_folded_and_no_factor_without_enlargement():
    source = textured((360, 340))
    tripled = source.resize((1080, 1020), RESAMPLING.BICUBIC)

    assert pixels.find_upscale(tripled) == pytest.approx(1.5, rel=0.02)
    for seed in range(8):
        assert pixels.find_upscale(textured((400, 400), seed)) is None
        assert pixels.find_upscale(textured((800, 800), seed).reduce(2)) is None
    assert pixels.find_upscale(source.crop((0, 0, 100, 100))) is None


def test_a_png_tells_its_history_and_a_jpeg_does_not():
    old = through_jpeg(textured(), 75).crop((3, 5, 320, 280))
    image = examine(as_png(old)).image

    assert (image.grid_x, image.grid_y) == (5, 3)
    assert image.grid > 0.05
    assert image.jpeg_family is None
    clean = examine(as_png(textured())).image
    assert (clean.grid, clean.grid_x, clean.grid_y, clean.upscale) == (None, None, None, None)
    out = io.BytesIO()
    old.save(out, "JPEG", quality=70)
    assert examine(out.getvalue()).image.grid is None


@settings(max_examples=25, deadline=None)
@given(deviation=st.floats(1, 20), seed=st.integers(0, 1000))
def test_noise_is_told_in_grey_levels(deviation, seed):
    rng = np.random.default_rng(seed)
    rounded = np.hypot(deviation, 12**-0.5)
    levels = (rng.normal(128, deviation, (256, 256))).clip(0, 255).round().astype(np.uint8)

    assert pixels.appearance(Image.fromarray(levels)).noise == pytest.approx(rounded, rel=0.05)


def test_the_measures_equal_their_definitions():
    image = textured((256, 200))
    levels = np.asarray(image.convert("L"), dtype=np.float64)
    c = levels[1:-1, 1:-1]
    around = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    corners = levels[:-2, :-2] + levels[:-2, 2:] + levels[2:, :-2] + levels[2:, 2:]
    share = np.unique(levels, return_counts=True)[1] / levels.size
    look = pixels.appearance(image)

    assert look.blur == pytest.approx((around - 4 * c).var(), abs=1e-3)
    mask = np.abs(corners - 2 * around + 4 * c).mean() * np.sqrt(np.pi / 2) / 6
    assert look.noise == pytest.approx(mask, abs=1e-3)
    assert look.information == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-3)


def test_blur_falls_as_a_picture_gets_softer_and_size_matters_little():
    image = textured((256, 256))
    softer = [image.filter(ImageFilter.GaussianBlur(r)) for r in (0, 0.7, 1.5, 3)]
    told = [pixels.appearance(i).blur for i in softer]

    assert told == sorted(told, reverse=True)
    assert told[0] > 20 * told[-1]
    large = image.resize((1024, 1024), RESAMPLING.NEAREST)
    assert pixels.appearance(large).blur == pytest.approx(told[0], rel=0.02)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_a_flat_picture_of_any_mode_has_no_information(mode):
    flat = Image.new("RGB", (40, 30), "white")
    image = Image.new("I;16", (40, 30), 700) if mode == "I;16" else flat.convert(mode)

    assert pixels.appearance(image) == pixels.Appearance(0.0, 0.0, 0.0)


def test_two_pixels_say_nothing():
    assert pixels.appearance(Image.new("L", (2, 500))) is None
    assert pixels.history(Image.new("RGB", (1, 1))) == pixels.History()
