"""On a GPU: the same run twice, resumed, taken to a CPU. Skipped where there is none."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.errors import InputError
from train import explain, replay
from train.checkpoint import load_detector
from train.config import Compute, build_detector, choose_compute
from train.data import Keeping, find_images, load_images
from train.detectors import DETECTORS, PatchDetector, find_detector
from train.distill import distill
from train.engine import predict_logits
from train.evaluate import evaluate
from train.loader import epochs_of, train_batches
from train.predict import predict
from train.stress import TESTS
from train.stress.run import Options, stress
from train.tiles import patch_map, score_images
from train.training import train_detector
from train.transforms import Preprocessing, normalise, sent

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CPU = Compute(torch.device("cpu"))
TOLERANCE = 1e-4
"""How far a float32 logit may be from the CPU's, as a part of 1 + it (`train.deploy.parity`)."""

PATCH_TOLERANCE = 1e-3
"""The same of a single patch: a CPU's is 2e-4 from float64, before the mean over patches evens it out."""


@pytest.fixture(scope="module")
def cuda():
    return choose_compute("cuda", "float32", find_detector("ladeda9"))


@pytest.fixture
def cuda_recipe(recipe):
    """LaDeDa with bfloat16 and averaged weights; nine steps, six of them played back."""
    return dataclasses.replace(
        recipe, detector="ladeda9", device="cuda", precision="auto", learning_rate=1e-3, average=0.9
    )


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]


def last_weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["weights"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def close(found, wanted):
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    return np.max(np.abs(found - wanted) / (1 + np.abs(wanted)))


def perturbed(name, **preprocessing):
    """A detector whose running statistics are those of some batch, so that its logits differ."""
    spec = DETECTORS[name]
    prep = Preprocessing(representation=spec.representation, **preprocessing)
    detector = build_detector(spec, prep, "mean", seed=1)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (4, 3, 64, 64), dtype=np.uint8))
    detector.train()(normalise(noise, prep, CPU.device))
    return detector.eval(), spec, prep


@pytest.fixture(scope="module")
def trained(picture_set, tmp_path_factory):
    """A run on the GPU, and its result."""
    from schemas.policy import TrainPolicy

    out = tmp_path_factory.mktemp("cuda") / "run"
    recipe = TrainPolicy(
        detector="ladeda9", size=64, crop=48, batch=8, epochs=4, learning_rate=1e-3, workers=2,
        device="cuda", average=0.9,
    )  # fmt: skip
    return out, train_detector(picture_set, out, recipe)


def test_a_gpu_trains_ladeda_in_bfloat16_and_says_so(trained):
    out, result = trained

    told = json.loads((out / "config.json").read_text())
    assert (told["device"], told["precision"]) == ("cuda", "bfloat16")
    assert result.epochs == 4
    assert all(value.device.type == "cpu" for value in weights(out).values())


@pytest.mark.parametrize("name", ["ladeda9", "tiny-ladeda"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_runs_with_one_seed_end_with_the_same_bits(
    picture_set, cuda_recipe, tmp_path, name, precision
):
    recipe = dataclasses.replace(cuda_recipe, detector=name, precision=precision)

    for folder in "ab":
        train_detector(picture_set, tmp_path / folder, recipe)

    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("pooling", ["max", "top25"])
def test_other_poolings_repeat_as_well(picture_set, cuda_recipe, tmp_path, pooling):
    recipe = dataclasses.replace(cuda_recipe, pooling=pooling, epochs=2)

    for folder in "ab":
        train_detector(picture_set, tmp_path / folder, recipe)

    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 7},  # a last batch of another shape
        {"patience": 1, "min_learning_rate": 1e-5, "epochs": 6},  # the learning rate falls
        {"detector": "tiny-ladeda", "precision": "float32", "pooling": "top25"},
    ],
)
def test_a_step_played_back_gives_the_bits_of_one_done_plainly(
    picture_set, cuda_recipe, tmp_path, monkeypatch, changes
):
    recipe = dataclasses.replace(cuda_recipe, **changes)
    recorded = []
    record = replay.Replay._record

    def noted(self, *step):
        recorded.append(step[-1])
        return record(self, *step)

    monkeypatch.setattr(replay.Replay, "_record", noted)
    train_detector(picture_set, tmp_path / "played", recipe)
    assert len(recorded) == len(set(recorded)) > 0  # once for each learning rate
    monkeypatch.setattr(replay, "WARM_UP", 10**9)
    before = len(recorded)
    train_detector(picture_set, tmp_path / "plain", recipe)

    assert len(recorded) == before
    assert same(weights(tmp_path / "played"), weights(tmp_path / "plain"))
    assert same(last_weights(tmp_path / "played"), last_weights(tmp_path / "plain"))


def test_a_detector_that_cannot_be_recorded_is_trained_plainly(
    picture_set, cuda_recipe, tmp_path, monkeypatch, caplog
):
    recipe = dataclasses.replace(cuda_recipe, detector="tiny-ladeda")
    forward = PatchDetector.forward

    def asking(self, images):
        logits = forward(self, images)
        assert logits.abs().max().item() < 1e6  # makes the host wait, which no recording can
        return logits

    train_detector(picture_set, tmp_path / "a", recipe)
    monkeypatch.setattr(PatchDetector, "forward", asking)
    with caplog.at_level("WARNING"):
        train_detector(picture_set, tmp_path / "b", recipe)

    assert "steps are not recorded" in caplog.text
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


class Killed(Exception):
    pass


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of the compiler itself
@pytest.mark.parametrize("compiled", [False, True])
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    picture_set, cuda_recipe, tmp_path, compiled
):
    recipe = dataclasses.replace(cuda_recipe, compile=compiled)

    def kill(report):
        if report.epoch == 2:
            raise Killed

    train_detector(picture_set, tmp_path / "whole", recipe)
    with pytest.raises(Killed):
        train_detector(picture_set, tmp_path / "killed", recipe, on_epoch=kill)
    train_detector(picture_set, tmp_path / "killed", recipe)

    assert same(last_weights(tmp_path / "whole"), last_weights(tmp_path / "killed"))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of the compiler itself
def test_a_compiled_run_learns_what_a_plain_one_learns(picture_set, cuda_recipe, tmp_path):
    plain = dataclasses.replace(cuda_recipe, precision="float32", epochs=2, detector="tiny-ladeda")

    train_detector(picture_set, tmp_path / "a", plain)
    train_detector(picture_set, tmp_path / "b", dataclasses.replace(plain, compile=True))

    for name, value in last_weights(tmp_path / "a").items():
        torch.testing.assert_close(value, last_weights(tmp_path / "b")[name], rtol=2e-2, atol=2e-2)


def test_a_run_with_device_auto_goes_on_where_there_is_no_gpu(
    picture_set, cuda_recipe, tmp_path, monkeypatch
):
    recipe = dataclasses.replace(cuda_recipe, detector="tiny-ladeda", device="auto", epochs=1)

    train_detector(picture_set, tmp_path, recipe)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = train_detector(picture_set, tmp_path, dataclasses.replace(recipe, epochs=2))

    assert result.epochs == 2


@pytest.mark.parametrize("name", DETECTORS)
def test_float32_logits_are_those_of_a_cpu(cuda, name):
    detector, _spec, prep = perturbed(name)
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.integers(0, 256, (4, 3, 96, 128), dtype=np.uint8))
    wanted = predict_logits(detector, [images], prep, CPU)

    found = predict_logits(cuda.place(detector), [images], prep, cuda)

    assert np.ptp(wanted) > 0
    assert close(found, wanted) < TOLERANCE


def test_maps_of_large_pictures_are_those_of_a_cpu(cuda):
    detector, spec, prep = perturbed("ladeda9", size=64, fit="whole")
    pixels = np.random.default_rng(2).integers(0, 256, (600, 90, 3), dtype=np.uint8)
    wanted = patch_map(detector, spec, pixels, prep, CPU, tile=128)
    (score,) = score_images(detector, spec, [pixels], prep, CPU, 4)

    placed = cuda.place(detector)

    assert close(patch_map(placed, spec, pixels, prep, cuda, tile=128), wanted) < PATCH_TOLERANCE
    assert close(list(score_images(placed, spec, [pixels], prep, cuda, 4)), [score]) < TOLERANCE


def test_what_was_trained_on_a_gpu_scores_the_same_on_a_cpu(picture_set, trained):
    checkpoint = trained[0] / "checkpoint.pt"
    score = functools.partial(predict, checkpoint, [picture_set / "test"])

    there, here = ([row["logit"] for row in score(device=d)] for d in ("cuda", "cpu"))

    assert len(here) == 24
    assert np.ptp(here) > 0
    assert close(there, here) < TOLERANCE


def test_an_evaluation_comes_to_the_same_on_both(picture_set, trained):
    found = [
        evaluate(trained[0] / "checkpoint.pt", picture_set, device=device, draws=100)
        for device in ("cuda", "cpu")
    ]

    for name, metrics in found[1]["platforms"].items():
        assert found[0]["platforms"][name]["ap"] == pytest.approx(metrics["ap"], abs=1e-9)


def test_patches_are_explained_the_same_on_both(picture_set, trained, cuda):
    loaded = load_detector(trained[0] / "checkpoint.pt")
    picture = Image.open(next((picture_set / "test/reddit/1_fake").iterdir())).convert("RGB")
    here = explain.look(loaded, picture, own_size=False).patches

    there = explain.look(loaded, picture, own_size=False, compute=cuda).patches

    assert close(there, here) < PATCH_TOLERANCE


def test_stress_tests_measure_the_same_on_both(picture_set, trained):
    checkpoint = trained[0] / "checkpoint.pt"
    tests = [TESTS[name] for name in TESTS if "rivals" not in TESTS[name].needs]
    quick = functools.partial(Options, workers=4, draws=20, max_images=8)

    there, here = (
        stress(checkpoint, picture_set, tests, options=quick(device=device))["tests"]
        for device in ("cuda", "cpu")
    )

    assert there.keys() == here.keys()
    assert numbers_of(there.pop("efficiency")).keys() == numbers_of(here.pop("efficiency")).keys()
    wanted = numbers_of(here)
    assert numbers_of(there) == pytest.approx(wanted, rel=1e-2, abs=1e-2, nan_ok=True)


def numbers_of(value, path=""):
    """Every number in nested plain values, by where it stands."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return {path: value} if isinstance(value, (int, float)) else {}
    return {k: v for key, one in pairs for k, v in numbers_of(one, f"{path}/{key}").items()}


@pytest.mark.parametrize("jpeg", [0.0, 0.5])
def test_a_student_is_taught_on_a_gpu_the_same_way_twice(
    picture_set, trained, cuda_recipe, tmp_path, jpeg
):
    recipe = dataclasses.replace(
        cuda_recipe, learning_rate=1e-2, epochs=2, average=0.0,
        augment=dataclasses.replace(cuda_recipe.augment, jpeg=jpeg),
    )  # fmt: skip

    for folder in "ab":
        distill(trained[0] / "checkpoint.pt", picture_set, tmp_path / folder, recipe)

    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    there, here = (
        [
            row["logit"]
            for row in predict(tmp_path / "a/checkpoint.pt", [picture_set / "val"], device=d)
        ]
        for d in ("cuda", "cpu")
    )
    assert close(there, here) < TOLERANCE


def test_what_was_trained_on_a_gpu_is_exported_and_compared(picture_set, trained, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from train.deploy.export import export_onnx
    from train.deploy.parity import parity

    checkpoint, file = trained[0] / "checkpoint.pt", tmp_path / "one.onnx"
    export_onnx(checkpoint, file)

    compared = parity(checkpoint, [picture_set / "test"], onnx=file)
    assert compared.same
    assert {row.route: row.device for row in compared.rows} == {"predict": "cuda", "onnx": "cpu"}
    exported = [row["logit"] for row in predict(file, [picture_set / "test"])]
    there = [row["logit"] for row in predict(checkpoint, [picture_set / "test"], device="cuda")]
    assert close(exported, there) < TOLERANCE


def test_pinned_batches_are_the_same_and_arrive_whole(picture_set, recipe, tmp_path, cuda):
    prep = Preprocessing(size=64, crop=48)
    items = find_images(picture_set)
    images = load_images(picture_set, items, prep, workers=2, keeping=Keeping(tmp_path))
    epochs = epochs_of(images, recipe)

    plain = [batch.images for batch in train_batches(epochs, 0)]
    for batch, wanted in zip(train_batches(epochs, 0, pinned=True), plain, strict=True):
        assert batch.images.is_pinned()
        arrived = sent(batch.images, cuda.device)
        assert arrived.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(arrived.cpu(), wanted)


def test_float32_is_not_rounded_to_tf32(cuda):
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(2, 64, 32, 32, generator=rng, dtype=torch.float64)
    kernel = torch.randn(64, 64, 3, 3, generator=rng, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(images, kernel)

    found = torch.nn.functional.conv2d(images.float().cuda(), kernel.float().cuda()).cpu().double()

    assert (found - wanted).abs().max() / wanted.abs().max() < 1e-5  # TF32: above 1e-4


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"cuda:99 is not there; expected cuda:0 to"):
        choose_compute("cuda:99", "float32", find_detector("ladeda9"))
