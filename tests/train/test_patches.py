"""Where patches lie, how they are drawn, and which say most."""

import io
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps
from scipy.stats import spearmanr, ttest_1samp

from train.checkpoint import LoadedDetector
from train.config import build_detector
from train.detectors import find_detector
from train.explain import grid_origin, grid_overlay, look, map_in, overlay, score_of, view_of
from train.patches import (
    LEAST,
    RANKED,
    Patch,
    cells_of,
    extremes,
    mean_with_interval,
    phase_means,
    roughness,
    smoothness_correlation,
)
from train.tiles import TILE
from train.transforms import Preprocessing, normalise, to_batch

BUILT = {}


def built(name, **prep):
    key = (name, *sorted(prep.items()))
    if key not in BUILT:
        spec = find_detector(name)
        fed = Preprocessing(representation=spec.representation, **prep)
        model = build_detector(spec, fed, "mean", seed=0).eval()
        BUILT[key] = LoadedDetector(model, spec, fed, "checkpoint", "0" * 64, {})
    return BUILT[key]


def pixels_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_picture_smaller_than_a_patch_is_fed_as_scored():
    loaded = built("ladeda9", size=64, fit="native")

    assert look(loaded, Image.fromarray(pixels_of(5, 40)), own_size=True).patches.shape == (7, 7)


@pytest.mark.parametrize(("fit", "own_size"), [("whole", False), ("native", True)])
def test_a_large_picture_is_looked_at_and_scored_in_tiles(fit, own_size):
    loaded = built("tiny-ladeda", size=64, fit=fit)
    pixels, fed = pixels_of(700, 1100), []
    with torch.inference_mode():
        batch = normalise(to_batch(pixels[None]), loaded.preprocessing, torch.device("cpu"))
        whole = loaded.model.patch_logits(batch)[0].numpy()
    seen = loaded.model.representation.register_forward_pre_hook(
        lambda _, arguments: fed.append(arguments[0].shape)
    )

    view = look(loaded, Image.fromarray(pixels), own_size=own_size)
    logit = score_of(loaded, view)
    seen.remove()

    np.testing.assert_allclose(view.patches, whole, atol=1e-5)
    assert all(shape[2] * shape[3] <= TILE * TILE for shape in fed)
    if fit == "whole":
        assert logit == pytest.approx(whole.mean(), abs=1e-5)


MAPS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(-4, 4, width=16),
)  # fmt: skip


@given(logits=MAPS, count=st.integers(1, 8), most_fake=st.booleans())
def test_the_patches_that_say_most_come_first_and_do_not_overlap(logits, count, most_fake):
    loaded = built("ladeda9")

    found = extremes("a.png", logits, loaded, count, most_fake=most_fake)

    values = [p.logit for p in found]
    assert values[0] == (logits.max() if most_fake else logits.min())
    assert values == sorted(values, reverse=most_fake)
    for a in range(len(found)):
        for b in range(a):
            apart = max(abs(found[a].x - found[b].x), abs(found[a].y - found[b].y))
            assert apart >= loaded.spec.receptive_field
    assert all(logits[p.y // 8, p.x // 8] == p.logit for p in found)


@pytest.mark.parametrize(("field", "stride"), [(5, 2), (9, 8), (33, 8)])
def test_roughness_is_the_standard_deviation_of_luma_in_each_patch(field, stride):
    pixels = pixels_of(60, 80)

    found = roughness(pixels, field, stride)

    luma = pixels @ np.array([0.299, 0.587, 0.114])
    for row, column in ((0, 0), (found.shape[0] - 1, found.shape[1] - 1), (1, 2)):
        y, x = row * stride, column * stride
        assert found[row, column] == pytest.approx(luma[y : y + field, x : x + field].std())
    assert found.shape == (cells_of(60, field, stride), cells_of(80, field, stride))


@given(logits=MAPS)
def test_the_correlation_is_spearman_s(logits):
    rough = np.random.default_rng(0).random(logits.shape)

    found = smoothness_correlation(logits, rough)

    if logits.size < 2 or np.ptp(logits) == 0:
        assert found is None
    else:
        expected = spearmanr(logits.ravel(), -rough.ravel()).statistic
        assert found == pytest.approx(expected)


def test_smooth_patches_that_say_fake_correlate_above_zero():
    rough = np.arange(20.0).reshape(4, 5)

    assert smoothness_correlation(-rough.astype(np.float32), rough) == pytest.approx(1)
    assert smoothness_correlation(rough.astype(np.float32), rough) == pytest.approx(-1)


def test_phases_are_means_by_place_in_the_block():
    patches = np.tile(np.arange(16.0, dtype=np.float32).reshape(4, 4), (3, 5))

    assert phase_means(patches, 2) == np.arange(16.0).reshape(4, 4).tolist()
    assert phase_means(patches, 8) == [[pytest.approx(7.5)]]
    # blocks begin at x = 6, y = 3: a patch at x = 6 is at their left edge
    moved = np.roll(np.arange(16.0).reshape(4, 4), (-2, -3), axis=(0, 1))
    assert phase_means(patches, 2, (6, 3)) == moved.tolist()


def test_a_picture_too_thin_for_some_phases_has_none_there():
    patches = np.ones((2, 40), dtype=np.float32)

    assert phase_means(patches, 2) == [[1.0] * 4, [1.0] * 4, [None] * 4, [None] * 4]


@given(values=st.lists(st.floats(-1, 1, width=16), min_size=LEAST, max_size=30, unique=True))
def test_the_mean_over_pictures_has_student_s_interval_within_what_a_correlation_can_be(values):
    found = mean_with_interval(values)

    low, high = ttest_1samp(values, 0).confidence_interval()
    assert found["n"] == len(values)
    assert found["value"] == pytest.approx(np.mean(values))
    assert found["low"] == pytest.approx(max(-1, low))
    assert found["high"] == pytest.approx(min(1, high))


def test_few_pictures_have_a_mean_and_no_interval_and_none_have_nothing():
    assert mean_with_interval([0.4]) == {"n": 1, "value": 0.4, "low": None, "high": None}
    assert mean_with_interval([0.1, 0.2, 0.3, 0.4])["low"] is None
    assert mean_with_interval([]) is None


def test_of_a_map_too_large_to_rank_evenly_spaced_patches_are_ranked():
    side = int(RANKED**0.5) + 8
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(side, side)).astype(np.float32)
    rough = (rng.normal(size=(side, side)) - logits).astype(np.float32)
    tracemalloc.start()

    found = smoothness_correlation(logits, rough)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * logits.nbytes  # ranks of all take ten times as much
    assert found == pytest.approx(6 / np.pi * np.arcsin(0.5**0.5 / 2), abs=0.005)


@pytest.mark.parametrize("fit", ["stretch", "crop", "native", "whole"])
@pytest.mark.parametrize("size", [(200, 120), (90, 150), (40, 30)])
def test_a_patch_is_placed_where_its_pixels_are_in_the_picture(fit, size):
    """A bright square marks a place; the patch around it must lie there whatever was cropped or resized."""
    loaded = built("tiny-ladeda", size=64, fit=fit)
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    x, y = size[0] // 2 + 10, size[1] // 2 - 10
    if fit in ("stretch", "whole"):
        x, y = size[0] - 5, size[1] - 5  # only these are fed the corner
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    view = look(loaded, Image.fromarray(pixels), own_size=False)

    bright = view.fed.sum(axis=2)
    row, column = (int(v) for v in np.argwhere(bright == bright.max()).mean(axis=0))

    left, top, right, bottom = view.box(column, row, 1)
    near = 2 + max(view.scale_x, view.scale_y)
    assert left - near <= x <= right + near
    assert top - near <= y <= bottom + near


def test_a_patch_of_a_picture_fed_whole_is_where_it_was_fed():
    loaded = built("tiny-ladeda", size=256, fit="whole")
    patches = np.zeros((398, 498), dtype=np.float32)

    view = view_of(loaded, Image.new("RGB", (1000, 800)), patches, own_size=False)

    assert view.box(500, 400, 5) == (500, 400, 505, 405)


def test_a_hot_patch_is_drawn_where_it_lies():
    loaded = built("tiny-ladeda", size=64)  # stretched to 64 px, field 5, stride 2: 30 cells
    patches = np.zeros((30, 30), dtype=np.float32)
    patches[10, 20] = 1.0
    view = view_of(loaded, Image.new("RGB", (128, 64)), patches, own_size=False)

    drawn = map_in(view, loaded, (0, 0, 128, 64))

    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    assert drawn.shape == (64, 128)
    assert y == 10 * 2 + 2
    assert x in (2 * (20 * 2 + 2), 2 * (20 * 2 + 2) + 1)


@pytest.mark.parametrize("fit", ["stretch", "crop", "native", "whole"])
def test_the_map_in_a_part_is_that_part_of_the_map(fit):
    loaded = built("tiny-ladeda", size=64, fit=fit)
    view = look(loaded, Image.fromarray(pixels_of(90, 140)), own_size=False)

    part = map_in(view, loaded, (31, 20, 77, 90))

    np.testing.assert_array_equal(part, map_in(view, loaded, (0, 0, 140, 90))[20:90, 31:77])


def test_a_picture_far_above_a_strip_is_drawn_and_measured_in_little_memory():
    loaded = built("tiny-ladeda", size=64, fit="native")
    pixels = np.zeros((3000, 4000, 3), dtype=np.uint8)
    patches = np.ones((cells_of(3000, 5, 2), cells_of(4000, 5, 2)), dtype=np.float32)
    view = view_of(loaded, Image.fromarray(pixels), patches, own_size=True)
    peaks = []
    for work in (
        lambda: grid_overlay(view, loaded, 1.0, Patch("a", 2000, 1500, 1.0)),
        lambda: roughness(pixels, 5, 2),
        lambda: overlay(view, loaded, 1.0),
    ):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()

    grid, rough, laid = peaks
    assert grid < 16  # the picture in float64 is 92 MiB
    assert rough < 48
    assert laid < 160


def test_the_map_at_own_size_has_the_shape_of_the_picture_and_its_colours_are_in_place():
    loaded = built("tiny-ladeda", size=64, fit="native")
    picture = Image.new("RGB", (120, 60), (128, 128, 128))
    patches = np.zeros((cells_of(60, 5, 2), cells_of(120, 5, 2)), dtype=np.float32)
    patches[:, : patches.shape[1] // 2] = 5
    patches[:, patches.shape[1] // 2 :] = -5

    laid = overlay(view_of(loaded, picture, patches, own_size=True), loaded, 5.0)

    red, _, blue = np.asarray(laid, dtype=int)[30, 20]
    assert laid.height == 60
    assert laid.width > 120
    assert red > blue
    red, _, blue = np.asarray(laid, dtype=int)[30, 100]
    assert blue > red


PATCH = Patch("a", 120, 50, 0.0)


def lines_of(drawn):
    """Where the lines that lie down the window begin, in pixels as drawn."""
    pixels = np.asarray(drawn, dtype=int)[16]  # between two lines that lie across
    yellow = np.flatnonzero((pixels[:160] == (255, 255, 0)).all(axis=1))
    return yellow[np.diff(yellow, prepend=-9) > 1]


def test_lines_of_the_grid_are_eight_pixels_of_the_picture_apart():
    loaded = built("tiny-ladeda", size=64, fit="native")
    view = look(loaded, Image.new("RGB", (200, 100), "black"), own_size=True)

    drawn = grid_overlay(view, loaded, 1e9, PATCH, window=40, zoom=4)

    assert set(np.diff(lines_of(drawn))) == {32}


def test_the_grid_is_drawn_from_where_it_begins():
    loaded = built("tiny-ladeda", size=64, fit="native")
    view = look(loaded, Image.new("RGB", (200, 100), "black"), own_size=True)

    first = [
        lines_of(grid_overlay(view, loaded, 1e9, PATCH, origin=origin, window=40, zoom=4))[1]
        for origin in ((0, 0), (6, 0))
    ]

    assert (first[1] - first[0]) % 32 == 6 * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("upright", [True, False])
def test_the_grid_of_a_turned_photo_is_where_its_blocks_meet(orientation, upright):
    """Coarse quantisation breaks a smooth picture at the edges of its blocks."""
    ramp = np.add.outer(np.arange(75), np.arange(109)).astype(np.uint8)
    exif, packed = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(packed, "JPEG", quality=1, exif=exif)
    image = Image.open(packed)
    image.load()

    x, y = grid_origin(image, Preprocessing(orientation=upright))

    shown = np.asarray(ImageOps.exif_transpose(image) if upright else image, dtype=float)
    for origin, axis in ((y, 0), (x, 1)):
        steps = np.abs(np.diff(shown, axis=axis)).mean(axis=1 - axis)
        meet = [steps[phase::8].mean() for phase in range(8)]  # between pixel `phase` and the next
        assert (int(np.argmax(meet)) + 1) % 8 == origin
