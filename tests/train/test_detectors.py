"""Laws every detector keeps, then the figures and the published files of LaDeDa."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from schemas.errors import CheckpointError, InputError
from train.checkpoint import load_detector
from train.detectors import DETECTORS, REPRESENTATIONS, find_detector
from train.detectors.ladeda import crop_to
from train.detectors.representation import KERNELS, Representation, npr
from train.transforms import Preprocessing, normalise, to_batch


def build(name, pooling="mean", representation=None, seed=0):
    spec = DETECTORS[name]
    generator = torch.Generator().manual_seed(seed)
    return spec.build(generator, representation or spec.representation, 1.0, pooling)


def settle(detector, images):
    """Give running statistics that fit `images`, so that evaluation mode is not degenerate."""
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    detector.train()
    with torch.no_grad():
        detector(images)
    return detector.eval()


def images(count=3, height=64, width=64):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_keeps_the_contract(name):
    spec, batch = DETECTORS[name], images()
    detector = settle(build(name), batch)

    with torch.no_grad():
        logits, patches = detector(batch), detector.patch_logits(batch)
        alone = detector(batch[1:2])
        wide = detector.patch_logits(images(1, 64, 96))
    detector.train()(batch).sum().backward()

    assert logits.shape == (3, 1)
    assert patches.ndim == 3
    assert len({float(x) for x in logits}) == 3
    torch.testing.assert_close(logits[:, 0], patches.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, logits[1:2], rtol=1e-4, atol=1e-5)
    assert wide.shape[1] == patches.shape[1]
    assert wide.shape[2] - patches.shape[2] == 32 // spec.stride
    grads = [p.grad for p in detector.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_every_patch_sees_its_receptive_field_and_no_more(name):
    spec, batch = DETECTORS[name], images(1)
    detector = settle(build(name, representation="raw"), batch)
    batch = batch.requires_grad_()

    patches = detector.patch_logits(batch)
    patches[0, 1, 0].backward()

    touched = batch.grad[0].abs().sum(0).nonzero()
    low, high = touched.min(0).values.tolist(), touched.max(0).values.tolist()
    assert low[0] >= spec.stride
    assert low[1] >= 0
    assert high[0] <= spec.stride + spec.receptive_field - 1
    assert high[1] <= spec.receptive_field - 1


@pytest.mark.parametrize("name", DETECTORS)
def test_max_pooling_takes_the_most_fake_patch(name):
    batch = images(2)
    detector = settle(build(name, pooling="max"), batch)

    with torch.no_grad():
        logits, patches = detector(batch), detector.patch_logits(batch)

    torch.testing.assert_close(logits[:, 0], patches.amax(dim=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_same_seed_gives_same_weights_and_another_seed_others(name):
    one, two, other = build(name), build(name), build(name, seed=1)

    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize(
    ("name", "parameters", "grid"),
    [
        ("ladeda5", 13_510_721, 32),
        ("ladeda9", 13_641_793, 31),
        ("ladeda17", 14_166_081, 30),
        ("ladeda33", 16_263_233, 28),
        ("tiny-ladeda", 1_297, 126),
    ],
)
def test_size_and_patch_grid_are_the_published_ones(name, parameters, grid):
    detector = build(name).eval()

    with torch.no_grad():
        patches = detector.patch_logits(torch.zeros(1, 3, 256, 256))

    assert sum(p.numel() for p in detector.parameters()) == parameters
    assert patches.shape == (1, grid, grid)


def test_ladeda9_has_729_patches_in_a_training_crop():
    with torch.no_grad():
        patches = build("ladeda9").eval().patch_logits(torch.zeros(1, 3, 224, 224))

    assert patches.numel() == 729


def test_convolutions_are_drawn_with_the_papers_spread():
    detector = build("ladeda9")

    last = dict(detector.named_modules())["layer4.0.conv3"].weight
    assert last.std().item() == pytest.approx((2 / last.shape[0]) ** 0.5, rel=0.01)
    assert detector.fc.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_state_dict_names_are_the_published_ones():
    names = set(build("ladeda9").state_dict())

    assert {"conv1.weight", "conv2.weight", "bn1.running_var", "fc.weight", "fc.bias"} <= names
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.weight"} <= names
    assert {"layer4.2.conv3.weight", "layer4.2.bn3.num_batches_tracked"} <= names
    assert not any("representation" in name or "layer1.1.downsample" in name for name in names)


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_representations_equal_a_plain_computation_per_channel(name, size):
    batch = images(2, *size)

    got = Representation(name, 0.5)(batch).numpy()

    for n, c in np.ndindex(2, 3):
        plane = batch[n, c].numpy()
        if name == "raw":
            want = plane
        elif name == "NPR":
            rows, columns = np.indices(plane.shape) // 2 * 2
            want = plane - plane[rows, columns]
        else:
            want = correlate2d(plane, np.array(KERNELS[name]), mode="same")
        np.testing.assert_allclose(got[n, c], 0.5 * want, atol=1e-5)


def test_npr_is_the_image_minus_its_down_and_up_sampled_self():
    batch = images(1, 16, 12)
    small = torch.nn.functional.interpolate(batch, scale_factor=0.5, mode="nearest")

    want = batch - torch.nn.functional.interpolate(small, scale_factor=2.0, mode="nearest")

    torch.testing.assert_close(npr(batch), want)


def test_representation_stays_exact_under_bfloat16():
    batch = images(1)
    module = Representation("right_diag")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(batch)

    assert torch.equal(half, module(batch))


def test_unknown_detector_names_those_there_are():
    with pytest.raises(InputError, match=r"'resnet'.*expected one of ladeda5"):
        find_detector("resnet")


def tiny_by_hand(weights, pixels):
    """Tiny-LaDeDa from its description alone, in float64 NumPy: (H, W, 3) uint8 to the logit."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    planes = np.moveaxis((pixels / 255.0 - mean) / std, 2, 0)
    kernel = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], dtype=float)
    x = np.stack([correlate2d(p, kernel, mode="same") for p in planes])
    x = valid(x, weights["conv1.weight"])
    x = rectified(valid(x, weights["conv2.weight"]), weights, "bn1")
    x = rectified(valid(x, weights["layer1.0.conv1.weight"]), weights, "layer1.0.bn1")
    x = valid(x, weights["layer1.0.conv2.weight"])[:, ::2, ::2]
    x = rectified(x, weights, "layer1.0.bn2")
    return x.mean(axis=(1, 2)) @ weights["fc.weight"][0] + weights["fc.bias"][0]


def valid(x, kernels):
    return np.stack(
        [sum(correlate2d(p, k, mode="valid") for p, k in zip(x, ks, strict=True)) for ks in kernels]
    )


def rectified(x, weights, name):
    def column(key):
        return weights[f"{name}.{key}"][:, None, None]

    scaled = (x - column("running_mean")) / np.sqrt(column("running_var") + 1e-5)
    return np.maximum(scaled * column("weight") + column("bias"), 0)


@pytest.mark.parametrize("name", ["WildRF_Tiny_LaDeDa.pth", "ForenSynth_Tiny_LaDeDa.pth"])
def test_published_tiny_checkpoints_load_strictly_and_score_as_described(shared, name):
    path = shared / "checkpoints" / name
    loaded = load_detector(path)
    raw = torch.load(path, weights_only=True, map_location="cpu")
    weights = {k: v.double().numpy() for k, v in raw.get("model", raw).items()}
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, size=(2, 96, 80, 3), dtype=np.uint8)

    with torch.no_grad():
        batch = normalise(to_batch(pixels), loaded.preprocessing, torch.device("cpu"))
        got = loaded.model(batch)[:, 0].numpy()

    want = np.array([tiny_by_hand(weights, p.astype(float)) for p in pixels])
    assert loaded.spec.name == "tiny-ladeda"
    assert loaded.preprocessing == Preprocessing(representation="right_diag")
    assert "assumed" in loaded.preprocessing_source
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ladeda5", "ladeda9", "ladeda17", "ladeda33"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bare_ladeda_state_dict_is_recognised_and_its_scale_is_not_guessed(
    tmp_path, name, wrapped
):
    weights = build(name).state_dict()
    torch.save({"model": weights} if wrapped else weights, tmp_path / "published.pth")

    with pytest.raises(CheckpointError) as caught:
        load_detector(tmp_path / "published.pth")

    told = str(caught.value)
    assert f"published.pth is a bare state dict of {name}" in told
    assert f"wildrf import-ckpt {tmp_path / 'published.pth'} --out" in told
    assert "--representation-scale 2/3" in told
    assert "\n" not in told


def test_a_bare_state_dict_takes_the_preprocessing_the_caller_knows(tmp_path):
    torch.save(build("ladeda5").state_dict(), tmp_path / "forensynths.pth")

    loaded = load_detector(tmp_path / "forensynths.pth", assume=Preprocessing(scale=2 / 3))

    assert loaded.model.representation.scale == 2 / 3
    assert loaded.preprocessing_source == "caller"


def test_a_state_dict_with_a_tensor_missing_is_refused(tmp_path):
    weights = build("tiny-ladeda").state_dict()
    del weights["fc.bias"]
    torch.save(weights, tmp_path / "cut.pth")

    with pytest.raises(CheckpointError, match=r"cut\.pth does not fit tiny-ladeda.*fc\.bias"):
        load_detector(tmp_path / "cut.pth")


def test_cropping_the_residual_is_slicing_it_and_keeps_gradients_channels_last():
    residual = torch.randn(2, 8, 7, 9).contiguous(memory_format=torch.channels_last)
    out = torch.empty(2, 8, 6, 7)
    taken = residual.clone(memory_format=torch.preserve_format).requires_grad_()
    sliced = residual.clone(memory_format=torch.preserve_format).requires_grad_()
    seen = []
    between = taken * 1.0
    between.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last)))

    cropped = crop_to(between, out)
    (cropped**2).sum().backward()
    (sliced[..., :6, :7] ** 2).sum().backward()

    assert torch.equal(cropped, residual[..., :6, :7])
    assert torch.equal(taken.grad, sliced.grad)
    assert seen == [True]
    with torch.no_grad():
        assert torch.equal(crop_to(residual, out), residual[..., :6, :7])
