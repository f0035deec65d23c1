"""What single tests measure, on scores of which the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch import nn

from train.checkpoint import LoadedDetector
from train.config import build_detector
from train.detectors import find_detector
from train.stress import TESTS
from train.stress.efficiency import cost, count_macs
from train.stress.jpeg_grid import OFFSETS, offset_condition, phase_map, phase_share
from train.stress.metrics_of import flips
from train.stress.plan import Facts, Picture, Plan, Scores
from train.stress.platforms import CHAINS
from train.stress.pooling import pools
from train.stress.render import fed
from train.transforms import Preprocessing

MAPS = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-5, 5)
)


def built(name, size=256):
    spec = find_detector(name)
    prep = Preprocessing(size=size, representation=spec.representation)
    model = build_detector(spec, prep, "mean", seed=0).eval()
    return LoadedDetector(model, spec, prep, "checkpoint", "0" * 64, {})


def facts(index, label):
    from schemas.labels import Label
    from train.stress.coding import Coding
    from train.stress.tone import Tone

    return Facts(
        f"{index}.png", f"{index:064x}", Label(label), "x", f"{index:064x}", (64, 64),
        Coding("lossless"), Tone(128, 40, 20),
    )  # fmt: skip


def scores(logits, labels):
    images = tuple(facts(k, label) for k, label in enumerate(labels))
    loaded = built("tiny-ladeda", 64)
    plan = Plan(images, loaded.preprocessing, 0)
    found = {key: np.asarray(values, dtype=float) for key, values in logits.items()}
    return Scores(plan, "known", loaded, images, found, draws=100)


@given(patches=MAPS)
def test_pools_lie_between_mean_and_max_and_fall_with_the_share(patches):
    found = pools(patches)

    assert found["mean"] == pytest.approx(patches.mean())
    assert found["max"] == patches.max()
    ordered = [found["max"], found["top 1%"], found["top 5%"], found["top 10%"], found["top 25%"]]
    assert all(a >= b - 1e-9 for a, b in zip(ordered, [*ordered[1:], found["mean"]], strict=True))


def test_top_shares_are_means_of_the_largest_patches():
    found = pools(np.arange(100.0).reshape(10, 10))

    assert found["top 10%"] == np.mean(range(90, 100))
    assert found["top 25%"] == np.mean(range(75, 100))


@pytest.mark.parametrize(
    ("own", "name", "others"),
    [("top10", "top 10%", 5), ("top20", "top 20%", 6), ("max", "max", 5)],
)
def test_the_pooling_of_the_detector_is_told_once_by_its_own_logits(own, name, others):
    known = scores({"native": np.linspace(-1, 1, 8)}, [0, 1] * 4)
    known.loaded.model.pooling = own
    pooled = {pool: np.zeros(8) for pool in pools(np.ones((2, 2)))}

    first, *rest = TESTS["pooling"].measure(replace(known, pooled=pooled))["rows"]

    assert first["name"] == f"{name} (its own)"
    assert first["auc"]["value"] > 0.5
    assert len(rest) == others
    assert {row["auc"]["value"] for row in rest} == {0.5}


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [("tiny-ladeda", 53.8e6, 1_297), ("ladeda9", 20.97e9, 13_641_793)],
)
def test_macs_and_parameters_are_the_checked_ones_of_the_paper_s_networks(name, macs, parameters):
    loaded = built(name)
    with torch.inference_mode():
        found = count_macs(loaded.model, torch.zeros(1, 3, 256, 256))

    assert found == pytest.approx(macs, rel=0.01)
    assert sum(p.numel() for p in loaded.model.parameters()) == parameters


def test_macs_of_one_convolution_are_those_of_a_sheet_of_paper():
    assert count_macs(nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 10, 12)) == 2 * 8 * 8 * 10 * 27
    assert count_macs(nn.Conv2d(4, 4, 3, groups=4), torch.zeros(1, 4, 3, 3)) == 4 * 9
    assert count_macs(nn.Linear(5, 7), torch.zeros(3, 5)) == 105


def test_the_time_of_one_picture_is_taken_on_one_core_and_the_threads_are_given_back():
    torch.set_num_threads(2)
    try:
        found = cost("tiny", built("tiny-ladeda", 64))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)

    seconds = found["seconds"]
    assert 0 < seconds["p05"] <= seconds["value"] <= seconds["p95"]
    assert (seconds["low"], seconds["high"]) == (seconds["p05"], seconds["p95"])
    assert seconds["n"] >= 5
    assert found["cores"] == 1


def test_offsets_are_64_crops_of_one_size_each_moved_by_its_own(rng_picture):
    picture = Picture(0, facts(0, 0), rng_picture, 0)
    pixels = np.asarray(rng_picture)

    for dx, dy in OFFSETS:
        made = np.asarray(offset_condition(dx, dy).render(picture))
        assert made.shape == (57, 57, 3)
        assert np.array_equal(made, pixels[dy : dy + 57, dx : dx + 57])
        centre = np.asarray(offset_condition(dx, dy, 50).render(picture))
        assert np.array_equal(centre, pixels[3 + dy : 53 + dy, 3 + dx : 53 + dx])
    assert len({offset_condition(*o).key for o in OFFSETS}) == 64


@pytest.mark.parametrize("side", [None, 64])
def test_a_picture_too_small_to_be_moved_is_the_same_at_all_offsets(side):
    picture = Picture(0, facts(0, 0), Image.new("RGB", (40, 30), "red"), 0)

    made = {offset_condition(dx, dy, side).render(picture).tobytes() for dx, dy in OFFSETS}

    assert len(made) == 1


def test_a_native_detector_is_fed_the_moved_pixels_as_they_are_even_of_a_picture_of_its_size():

    prep = Preprocessing(size=64, fit="native")
    plan = Plan((facts(0, 0),), prep, 0)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Picture(0, facts(0, 0), Image.fromarray(pixels), 0)

    for (dx, dy), condition in zip(OFFSETS, TESTS["jpeg-grid"].conditions(plan), strict=True):
        made = fed(condition, picture, prep)
        assert np.array_equal(made, pixels[dy : dy + 57, dx : dx + 57])


@pytest.fixture
def rng_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_scores_that_follow_the_grid_are_explained_by_it_and_noise_is_not():
    rng = np.random.default_rng(0)
    wave, noise = rng.normal(size=64), rng.normal(size=(50, 64))
    own = rng.normal(size=(50, 1))

    assert phase_share(own + wave + 0.01 * noise)["share"] > 0.99
    assert phase_share(own + noise)["share"] < 3 * phase_share(noise)["chance"]
    assert phase_share(np.ones((3, 64)))["share"] == 0
    assert np.allclose(np.ravel(phase_map(own + wave)), wave - wave.mean())


def test_spread_and_flips_over_the_offsets_are_told_per_picture():
    labels = [0, 0, 1, 1]
    logits = {"native": [-1, -1, 1, 1]} | {
        offset_condition(dx, dy).key: [-1, -1 + 2.5 * (dx == 3 and dy == 0), 1, 1]
        for dx, dy in OFFSETS
    }

    found = TESTS["jpeg-grid"].measure(scores(logits, labels))

    assert found["n"] == 4
    assert found["spread"]["value"] == pytest.approx(2.5 / 4)
    assert found["flip_rate"]["value"] == 0.25
    assert found["worst"]["name"] == "3, 0"
    assert found["map_real"][0][3] > 0


def test_a_costly_test_stops_after_its_first_images_and_says_so():
    labels = [0, 1] * 3
    nan = [np.nan] * 2
    logits = {"native": [-1, 1] * 3} | {
        offset_condition(dx, dy).key: [-1, 1, -1, 1, *nan] for dx, dy in OFFSETS
    }

    assert TESTS["jpeg-grid"].measure(scores(logits, labels))["n"] == 4


def test_flips_of_delivery_are_counted_per_class_and_over_all_chains():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    native = [-1, -1, -1, -1, 1, 1, 1, 1]
    logits = {"native": native}
    for k, chain in enumerate(CHAINS):
        flipped = [1, -1, -1, -1, 1, 1, 1, 1] if k == 0 else native
        logits["-".join(("via", *chain))] = flipped

    found = TESTS["delivery"].measure(scores(logits, labels))

    first, second = found["rows"][:2]
    assert first["flip_rate"]["value"] == 1 / 8
    assert first["flip_rate_real"]["value"] == 1 / 4
    assert first["flip_rate_fake"]["value"] == 0
    assert second["flip_rate"]["value"] == 0
    assert found["any"]["value"] == 1 / 8


def test_only_the_fakes_are_compressed_in_table_4():
    labels = [0, 0, 1, 1]
    native = [-1.0, -2.0, 1.0, 2.0]
    logits = {"native": native} | {
        f"jpeg-{q}": [np.nan, np.nan, -3.0, -4.0] for q in (100, 90, 80, 70)
    }

    rows = TESTS["jpeg-fakes"].measure(scores(logits, labels))["rows"]

    assert rows[0]["auc"]["value"] == 1
    assert [row["auc"]["value"] for row in rows[1:]] == [0] * 4
    assert rows[1]["shift_real"]["value"] == 0
    assert rows[1]["shift_fake"]["value"] == -5
    assert rows[1]["acc"]["value"] == 0.5


def test_where_one_class_is_missing_among_the_moved_pictures_that_is_told():
    labels = [0, 0, 1, 1]
    nan = [np.nan] * 2
    moved = {offset_condition(dx, dy).key: [-1, -2, *nan] for dx, dy in OFFSETS}
    none = {"native": [-1, -2, 1, 2]}

    for logits, n in (({**none, **moved}, 2), (none, 0)):
        found = TESTS["jpeg-grid"].measure(scores(logits, labels))
        assert found["n"] == n
        assert found["figure"] == "words"
        assert "one class is missing" in found["words"]


def test_the_grid_of_a_picture_that_is_fed_whole_is_looked_at_in_its_centre():
    plan = Plan((facts(0, 0),), Preprocessing(size=64, fit="whole"), 0)
    picture = Picture(0, facts(0, 0), Image.new("RGB", (3000, 2000)), 0)

    (first, *_) = TESTS["jpeg-grid"].conditions(plan)

    assert fed(first, picture, plan.preprocessing).shape == (512, 512, 3)


def test_flips_are_told_of_each_platform_and_in_the_mean():
    images = tuple(replace(facts(k, k % 2), platform="ab"[k > 3]) for k in range(12))
    native = np.array([-1.0, 1.0] * 6)
    after = np.where(np.arange(12) < 2, -native, native)
    known = replace(scores({"native": native}, [0, 1] * 6), images=images)

    found = flips(known.resamples(), native, after)

    assert found["platforms"]["a"] == {"n": 4, "flip_rate": found["platforms"]["a"]["flip_rate"]}
    assert found["platforms"]["a"]["flip_rate"]["value"] == 0.5
    assert found["platforms"]["b"]["flip_rate"]["value"] == 0
    assert found["flip_rate"]["value"] == pytest.approx(2 / 12)
    assert found["mean"]["flip_rate"]["value"] == 0.25
