"""Maps of whole pictures in tiles, and the patches that say most."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy.stats import spearmanr

from train.checkpoint import LoadedDetector
from train.config import build_detector
from train.detectors import REPRESENTATIONS, find_detector
from train.explain import grid_overlay, look, overlay, view_of
from train.patches import (
    Patch,
    cells_of,
    extremes,
    mean_with_interval,
    native_map,
    phase_means,
    roughness,
    smoothness_correlation,
    spans,
)
from train.transforms import Preprocessing, normalise, to_batch

DETECTORS = ("tiny-ladeda", "ladeda5", "ladeda9", "ladeda17", "ladeda33")
BUILT = {}


def built(name, representation=None, **prep):
    key = (name, representation, *sorted(prep.items()))
    if key not in BUILT:
        spec = find_detector(name)
        fed = Preprocessing(representation=representation or spec.representation, **prep)
        model = build_detector(spec, fed, "mean", seed=0).eval()
        BUILT[key] = LoadedDetector(model, spec, fed, "checkpoint", "0" * 64, {})
    return BUILT[key]


def pixels_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def in_one_piece(loaded, pixels):
    with torch.inference_mode():
        fed = normalise(to_batch(pixels[None]), loaded.preprocessing, torch.device("cpu"))
        return loaded.model.patch_logits(fed)[0].numpy()


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(5, 90), width=st.integers(5, 90), tile=st.sampled_from([2, 8, 16, 24, 50]),
    representation=st.sampled_from(REPRESENTATIONS),
)  # fmt: skip
def test_tiles_give_the_map_of_the_picture_in_one_piece(height, width, tile, representation):
    loaded, pixels = built("tiny-ladeda", representation), pixels_of(height, width)

    assert np.allclose(
        native_map(loaded, pixels, tile=tile), in_one_piece(loaded, pixels), atol=1e-4
    )


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(70, 101), (97, 64), (40, 40)])
def test_so_they_do_for_every_detector(name, size):
    loaded, pixels = built(name), pixels_of(*size)

    whole = in_one_piece(loaded, pixels)

    scale = np.abs(whole).max()
    assert np.allclose(native_map(loaded, pixels, tile=24), whole, atol=1e-4 * scale)


@given(
    pixels=st.integers(1, 400), field=st.sampled_from([5, 9, 17, 33]),
    stride=st.sampled_from([2, 8]), tile=st.integers(1, 200),
)  # fmt: skip
def test_spans_cover_every_patch_once_and_feed_all_it_sees(pixels, field, stride, tile):
    found = list(spans(pixels, field, stride, tile))

    cells = [cell for span in found for cell in range(span.first, span.last)]
    assert cells == list(range(cells_of(pixels, field, stride)))
    for span in found:
        assert span.start + stride * span.skip == stride * span.first
        assert span.start % 2 == 0
        before, after = stride * span.first, stride * (span.last - 1) + field
        assert span.start <= max(0, before - 1)
        assert span.stop >= min(pixels, after + 1)
        assert span.stop - span.start <= max(tile, stride) + field + 2 * 8 + stride


def test_a_picture_smaller_than_a_patch_has_no_patch_and_is_fed_as_scored():
    loaded = built("ladeda9", size=64, fit="native")

    assert native_map(loaded, pixels_of(5, 40)).shape == (0, 4)
    assert look(loaded, Image.fromarray(pixels_of(5, 40)), own_size=True).patches.shape == (7, 7)


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


def test_the_mean_over_pictures_has_n_and_interval_and_nothing_has_none():
    found = mean_with_interval([0.1, 0.2, 0.3])

    assert found["n"] == 3
    assert found["low"] <= found["value"] <= found["high"]
    assert mean_with_interval([]) is None


@pytest.mark.parametrize("fit", ["stretch", "crop", "native"])
@pytest.mark.parametrize("size", [(200, 120), (90, 150), (40, 30)])
def test_a_patch_is_placed_where_its_pixels_are_in_the_picture(fit, size):
    """A bright square marks a place; the patch around it must lie there whatever was cropped or resized."""
    loaded = built("tiny-ladeda", size=64, fit=fit)
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    y, x = size[1] // 2, size[0] // 2
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    view = look(loaded, Image.fromarray(pixels), own_size=False)

    bright = view.fed.sum(axis=2)
    row, column = (int(v) for v in np.argwhere(bright == bright.max()).mean(axis=0))

    left, top, right, bottom = view.box(column, row, 1)
    assert left - 3 <= x <= right + 3
    assert top - 3 <= y <= bottom + 3


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


def test_lines_of_the_grid_are_eight_pixels_of_the_picture_apart():
    loaded = built("tiny-ladeda", size=64, fit="native")
    picture = Image.new("RGB", (200, 100), "black")
    view = look(loaded, picture, own_size=True)

    drawn = grid_overlay(view, loaded, 1e9, Patch("a", 120, 50, 0.0), window=40, zoom=4)

    pixels = np.asarray(drawn, dtype=int)[16]  # between two lines that lie across
    yellow = np.flatnonzero((pixels[:160] == (255, 255, 0)).all(axis=1))
    steps = np.diff(yellow[np.diff(yellow, prepend=-9) > 1])
    assert set(steps) == {32}
