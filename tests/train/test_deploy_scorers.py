"""A detector outside training: folded and compiled, it gives the scores it was trained to give."""

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from train.config import Compute, build_detector, choose_compute
from train.data import decode
from train.deploy.export import difference
from train.deploy.fold import compose, exact_logits, fold
from train.deploy.scorers import TinyScorer, TorchScorer, choose_scorer
from train.detectors import DETECTORS, REPRESENTATIONS
from train.detectors.tiny import TinyLaDeDa
from train.predict import score_with
from train.transforms import Preprocessing, normalise, to_batch, to_pixels

CPU = Compute(torch.device("cpu"))


def settled(name, preprocessing=None, pooling="mean"):
    """A detector whose running statistics fit what it is shown."""
    spec = DETECTORS[name]
    prep = preprocessing or Preprocessing(size=64, representation=spec.representation)
    detector = build_detector(spec, prep, pooling, seed=3)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.normal_(
                module.weight, 1.0, 0.3, generator=torch.Generator().manual_seed(4)
            )
            torch.nn.init.normal_(module.bias, 0.0, 0.3, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        detector.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(6)))
    return detector.eval(), prep


def spec_of(detector):
    return DETECTORS["tiny-ladeda" if isinstance(detector, TinyLaDeDa) else "ladeda5"]


def pictures(count=3, height=64, width=64, seed=0):
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 256, size=(count, 8, 8, 3))
    big = np.kron(scene, np.ones((1, -(-height // 8), -(-width // 8), 1)))[:, :height, :width]
    noisy = big + rng.normal(0, 10, big.shape)
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_folded_detector_has_no_norms_and_the_same_logits(name):
    detector, prep = settled(name)
    before = {k: v.clone() for k, v in detector.state_dict().items()}

    folded = fold(detector)

    batch = normalise(to_batch(pictures()), prep, CPU.device)
    with torch.no_grad():
        torch.testing.assert_close(folded(batch), detector(batch), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            folded.patch_logits(batch), detector.patch_logits(batch), rtol=1e-3, atol=1e-3
        )
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert isinstance(folded.conv1, torch.nn.Identity)
    assert all(torch.equal(before[k], v) for k, v in detector.state_dict().items())


def test_the_product_of_two_convolutions_is_one_after_the_other():
    rng = torch.Generator().manual_seed(0)
    inner = torch.randn(6, 3, 1, 1, generator=rng, dtype=torch.float64)
    outer = torch.randn(5, 6, 3, 3, generator=rng, dtype=torch.float64)
    images = torch.randn(2, 3, 9, 7, generator=rng, dtype=torch.float64)

    both = torch.nn.functional.conv2d(torch.nn.functional.conv2d(images, inner), outer)

    got = torch.nn.functional.conv2d(images, compose(inner, outer))
    torch.testing.assert_close(got, both)


def test_a_detector_of_another_package_is_left_as_it_is():
    class Other(type(settled("tiny-ladeda")[0]).__mro__[1]):
        def features(self, images):
            return self.trunk(images)

    other = Other("raw", 1.0, "mean", 4)
    other.trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in fold(other).modules())


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("scale", [1.0, 2 / 3])
def test_compiled_tiny_gives_torchs_logits_for_every_representation(representation, pooling, scale):
    prep = Preprocessing(size=64, representation=representation, scale=scale)
    detector, prep = settled("tiny-ladeda", prep, pooling)
    scorer = choose_scorer(detector, spec_of(detector), prep, CPU)
    images = pictures()

    want = exact_logits(detector, normalise(to_batch(images), prep, CPU.device))

    assert isinstance(scorer, TinyScorer)
    np.testing.assert_allclose(scorer(images), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 5), (6, 7), (7, 6), (8, 9), (33, 64), (50, 31)])
def test_compiled_tiny_takes_pictures_of_any_size_one_after_the_other(size):
    detector, prep = settled("tiny-ladeda")
    scorer = TinyScorer(detector, prep)
    scorer(pictures(1, 40, 40))
    images = pictures(2, *size)

    with torch.no_grad():
        want = detector.patch_logits(normalise(to_batch(images), prep, CPU.device)).numpy()

    for image, patches in zip(images, want, strict=True):
        np.testing.assert_allclose(scorer.patch_logits(image), patches, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("representation", ["NPR", "right_diag"])
def test_compiled_tiny_takes_a_large_picture_in_tiles_of_bounded_memory(representation):
    prep = Preprocessing(size=64, fit="whole", representation=representation)
    detector, prep = settled("tiny-ladeda", prep)
    scorer, (image,) = TinyScorer(detector, prep), pictures(1, 1500, 1201)
    scorer(pictures(1))
    with torch.no_grad():
        batch = normalise(to_batch(image[None]), prep, CPU.device)
        want = detector.patch_logits(batch)[0].numpy()

    tracemalloc.start()
    found = scorer.patch_logits(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    assert peak < 4 * 3 * image.shape[0] * image.shape[1]  # one plane of float32 for each colour


def test_the_bias_takes_back_what_rounding_the_weights_moves():
    detector, prep = settled("tiny-ladeda")
    with torch.no_grad():
        detector.layer1[0].bn2.bias += 40  # a large shift that the last bias takes back
        detector.fc.bias -= 40 * detector.fc.weight.sum()
    images = normalise(to_batch(pictures()), prep, CPU.device)

    off = exact_logits(fold(detector), images) - exact_logits(detector, images)

    assert off.abs().max() < 2e-6


def test_exact_logits_are_those_of_float32_to_its_precision_for_both_poolings():
    for pooling in ("mean", "max"):
        detector, prep = settled("ladeda5", pooling=pooling)
        images = normalise(to_batch(pictures()), prep, CPU.device)
        with torch.no_grad():
            want = detector(images)[:, 0].double()
        torch.testing.assert_close(exact_logits(detector, images), want, rtol=1e-4, atol=1e-5)


def test_one_compiled_scorer_serves_many_threads_at_once():
    detector, prep = settled("tiny-ladeda")
    scorer = TinyScorer(detector, prep)
    images = [*pictures(6, 64, 64), *pictures(6, 48, 80, seed=1)]
    alone = [scorer([image])[0] for image in images]
    found = {}

    def work(start):
        for k in range(start, start + 40):
            found[start, k] = scorer([images[k % len(images)]])[0] == alone[k % len(images)]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 160
    assert all(found.values())


def test_bfloat16_runs_the_detector_as_it_was_trained():
    detector, prep = settled("tiny-ladeda")

    scorer = choose_scorer(
        detector, spec_of(detector), prep, Compute(torch.device("cpu"), half=True)
    )

    assert isinstance(scorer, TorchScorer)


def test_large_detectors_are_folded_and_scored_in_batches():
    detector, prep = settled("ladeda5")
    scorer = choose_scorer(detector, spec_of(detector), prep, CPU)
    images = [*pictures(3), *pictures(2, 64, 96)]

    got = scorer(images)

    assert not scorer.threaded
    assert len(got) == 5
    assert got[3:] == pytest.approx(scorer(images[3:]), abs=1e-6)
    want = TorchScorer(detector, spec_of(detector), prep, CPU)(images)
    assert max(difference(a, b) for a, b in zip(got, want, strict=True)) < 1e-5


@pytest.mark.parametrize("threaded", [True, False])
def test_rows_come_in_order_and_only_a_few_pictures_are_in_memory(picture_set, threaded):
    sizes = []

    class Counting:
        def __init__(self):
            self.threaded = threaded

        def __call__(self, images):
            sizes.append(len(images))
            return [float(image.mean()) for image in images]

    files = sorted((picture_set / "train").rglob("*.png")) * 4
    broken = [*files[:5], *[Path("/nowhere/at/all.png")] * 60, *files]
    taken = []

    def watched():
        for path in broken:
            taken.append(path)
            yield path

    prep = Preprocessing(size=64)
    rows = score_with(Counting(), prep, watched(), batch=4, workers=2)
    first = next(rows)

    assert len(taken) <= 4 * 8 + 4 * 2  # a span of files, and what is decoded ahead
    rest = [first, *rows]
    assert [row.path for row in rest] == broken
    assert max(sizes) <= 4
    scored = [row for row in rest if row.error is None]
    assert all(row.logit == decode(row.path, prep).pixels.mean() for row in scored[:20])
    assert sum(row.error is not None for row in rest) == 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_pixels_are_those_of_a_plain_turn_and_conversion(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    Image.fromarray(pictures(1, 40, 64)[0]).save(path, exif=exif)
    prep = Preprocessing(size=32)

    with Image.open(path) as image:
        plain = ImageOps.exif_transpose(image).convert("RGB")
        want = np.asarray(plain.resize((32, 32), Image.Resampling.BILINEAR))
    with Image.open(path) as image:
        got = to_pixels(image, prep)

    np.testing.assert_array_equal(got, want)


def test_choosing_the_cpu_chooses_the_fast_scorer():
    detector, prep = settled("tiny-ladeda")

    compute = choose_compute("cpu", "float32", DETECTORS["tiny-ladeda"])

    assert choose_scorer(detector, spec_of(detector), prep, compute).threaded
