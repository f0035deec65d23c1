import io
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curate.simulated.capture import _demosaic, _mosaic
from curate.simulated.plan import plan_world
from curate.simulated.scenes import NOISES, SCENES, noise_tile, render_scene
from curate.simulated.serving import serve_picture
from curate.simulated.spec import WorldSpec, rng_for

SPEC = WorldSpec(seed=5, images=120, min_side=160, max_side=256)


class Measured(NamedTuple):
    labels: np.ndarray  # (n,)
    traces: np.ndarray  # (n, 3): log variances of up-sampling residuals
    facts: np.ndarray  # (n, 3): bits per pixel, long side, sum of the luma table
    colours: np.ndarray  # (n, 6): means and deviations of the channels


@pytest.fixture(scope="module")
def measured() -> Measured:
    plan = plan_world(SPEC)
    rows = [_measure(serve_picture(SPEC, p, [plan.copies[p.index]])[0][1]) for p in plan.pictures]
    labels = np.array([int(p.label) for p in plan.pictures])
    return Measured(labels, *(np.array(column) for column in zip(*rows, strict=True)))


def _measure(content: bytes) -> tuple[list[float], list[float], list[float]]:
    image = Image.open(io.BytesIO(content))
    rgb = np.asarray(image.convert("RGB"), np.float64)
    grey = rgb.mean(2)[: image.height // 2 * 2, : image.width // 2 * 2]
    npr = grey - grey[::2, ::2].repeat(2, 0).repeat(2, 1)
    checker = grey[::2, ::2] + grey[1::2, 1::2] - grey[::2, 1::2] - grey[1::2, ::2]
    spread = [npr[1::2, 1::2].var(), checker.var(), np.median(np.abs(np.diff(grey, 2))) + 0.1]
    bits = 8 * len(content) / (image.width * image.height)
    facts = [bits, max(image.size), sum(image.quantization[0])]
    return list(np.log(spread)), facts, [*rgb.mean((0, 1)), *rgb.std((0, 1))]


def auc(features: np.ndarray, labels: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    return float(roc_auc_score(labels, scores[:, 1]))


def test_up_sampling_traces_tell_generated_from_camera_after_platform_jpeg(measured):
    assert auc(measured.traces, measured.labels) > 0.85


def test_file_facts_do_not_tell_the_classes_apart(measured):
    assert auc(measured.facts, measured.labels) < 0.65


def test_colours_do_not_tell_the_classes_apart(measured):
    assert auc(measured.colours, measured.labels) < 0.65


def test_demosaicing_returns_the_samples_the_sensor_saw():
    linear = np.random.default_rng(0).random((8, 10, 3), np.float32)
    raw = _mosaic(linear)

    np.testing.assert_array_equal(_mosaic(_demosaic(raw)), raw)


def test_demosaicing_a_flat_colour_gives_that_colour():
    linear = np.broadcast_to(np.array([0.2, 0.5, 0.7], np.float32), (8, 8, 3))

    np.testing.assert_allclose(_demosaic(_mosaic(linear)), linear, atol=1e-6)


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_mean_zero_and_deviation_one(kind):
    tile = noise_tile(*NOISES[kind])

    assert tile.mean() == pytest.approx(0, abs=1e-3)
    assert tile.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", SCENES)
def test_every_scene_fills_its_size_with_values_that_vary(kind):
    scene = render_scene(kind, (130, 98), rng_for(0, "test", 1))

    assert scene.shape == (98, 130, 3)
    assert scene.dtype == np.float32
    assert scene.min() > 0
    assert scene.max() < 1
    assert scene.std() > 0.02
