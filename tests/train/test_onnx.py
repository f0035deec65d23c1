"""ONNX files: the resize is Pillow's to the bit, the logits are torch's, what is no such file is refused."""

import importlib.util
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import CheckpointError, GateError, InputError
from train.checkpoint import load_detector, pack, to_bytes, write_atomically
from train.config import build_detector, code_versions
from train.data import decode
from train.detectors import DETECTORS, REPRESENTATIONS
from train.predict import predict
from train.training import train_detector
from train.transforms import Preprocessing, normalise, to_batch, to_pixels

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
ort = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from train.deploy import export, graph, runtime  # noqa: E402
from train.deploy.fold import exact_logits  # noqa: E402

SIZE = 32


def session(preprocessing):
    """The preprocessing alone, which also shows the resized picture."""
    model = graph.preprocessing_model(preprocessing, export.OPSET, export.IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    kind = onnx.TensorProto.UINT8
    model.graph.output.append(onnx.helper.make_tensor_value_info(graph.RESIZED, kind, [None] * 4))
    return runtime.open_session(model.SerializeToString(), "preprocessing", threads=1)


SESSIONS = {
    (fit, size): session(Preprocessing(size=size, crop=size, fit=fit))
    for fit in ("stretch", "crop", "native")
    for size in (SIZE, 50)
}


def resized(pixels, fit, size):
    return SESSIONS[fit, size].run([graph.RESIZED], {"image": pixels[None]})[0][0]


@pytest.mark.parametrize("fit", ["stretch", "crop", "native"])
@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    size=st.sampled_from([SIZE, 50]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_resize_inside_is_pillows_to_the_bit(fit, height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    want = to_pixels(Image.fromarray(pixels), Preprocessing(size=size, crop=size, fit=fit))

    np.testing.assert_array_equal(resized(pixels, fit, size), want)


@pytest.mark.parametrize("length", [*range(1, 140), 255, 256, 257, 1023, 3000])
def test_every_length_is_resized_as_pillow_does(length):
    pixels = np.random.default_rng(length).integers(0, 256, (3, length, 3), dtype=np.uint8)
    prep = Preprocessing(size=SIZE, crop=SIZE)

    for turned in (pixels, pixels.transpose(1, 0, 2).copy()):
        want = to_pixels(Image.fromarray(turned), prep)
        np.testing.assert_array_equal(resized(turned, "stretch", SIZE), want)


def test_several_pictures_of_one_size_are_resized_as_each_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 70, 90, 3), dtype=np.uint8)

    (together,) = SESSIONS["crop", SIZE].run([graph.RESIZED], {"image": pixels})

    for one, got in zip(pixels, together, strict=True):
        np.testing.assert_array_equal(got, resized(one, "crop", SIZE))


def test_what_leaves_the_preprocessing_is_what_a_detector_is_fed():
    pixels = np.random.default_rng(1).integers(0, 256, (1, 40, 44, 3), dtype=np.uint8)
    prep = Preprocessing(size=SIZE, crop=SIZE)

    (got,) = SESSIONS["stretch", SIZE].run([graph.NORMALISED], {"image": pixels})

    ready = np.array(to_pixels(Image.fromarray(pixels[0]), prep)[None])
    want = normalise(to_batch(ready), prep, torch.device("cpu")).numpy()
    np.testing.assert_array_equal(got, want)


def checkpoint(folder, name="tiny-ladeda", pooling="mean", **changes):
    """A checkpoint whose statistics fit what it is shown."""
    spec = DETECTORS[name]
    prep = Preprocessing(
        **{"size": SIZE, "crop": SIZE, "representation": spec.representation, **changes}
    )
    model = build_detector(spec, prep, pooling, seed=2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(7)))
    path = folder / f"{name}-{pooling}.pt"
    write_atomically(path, to_bytes(pack(model.state_dict(), spec, prep, pooling=pooling)))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def exported(tiny):
    out = tiny.with_suffix(".onnx")
    export.export_onnx(tiny, out, patch_map=True)
    return out


def photo(height, width, seed=0):
    return next(p for p in export.pictures() if (p.shape[0] > p.shape[1]) == (height > width))[
        :height, :width
    ]


def test_the_file_gives_the_logits_scores_and_patches_of_the_checkpoint(tiny, exported):
    loaded = load_detector(tiny)
    running = runtime.open_session(exported.read_bytes(), "x")
    picture = photo(200, 300)

    logit, score, patches = running.run(None, {"image": np.stack([picture, picture[::-1]])})

    for k, one in enumerate((picture, picture[::-1])):
        ready = np.array(to_pixels(Image.fromarray(one), loaded.preprocessing)[None])
        batch = normalise(to_batch(ready), loaded.preprocessing, torch.device("cpu"))
        with torch.no_grad():
            want_patches = loaded.model.patch_logits(batch)[0].numpy()
        assert logit[k] == pytest.approx(exact_logits(loaded.model, batch).item(), abs=1e-5)
        np.testing.assert_allclose(patches[k], want_patches, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    assert [o.name for o in running.get_outputs()] == ["logit", "score", "patch_logits"]
    assert running.get_inputs()[0].type == "tensor(uint8)"


def test_the_file_says_what_it_is_and_nothing_of_this_machine(tiny, exported):
    model = onnx.load(exported)
    meta = {p.key: p.value for p in model.metadata_props}
    loaded = load_detector(tiny)

    onnx.checker.check_model(model, full_check=True)
    assert meta["wildrf.checkpoint_sha256"] == loaded.digest
    assert meta["wildrf.preprocessing_digest"] == loaded.preprocessing.digest
    assert json.loads(meta["wildrf.preprocessing"]) == loaded.preprocessing.to_dict()
    assert json.loads(meta["wildrf.versions"]) == code_versions()
    assert "Apache-2.0" in meta["wildrf.licence"]
    assert json.loads(meta["wildrf.checked"])["largest_difference"] <= 1e-5
    content = exported.read_bytes()
    assert str(Path(export.__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_the_same_checkpoint_is_exported_to_the_same_bytes(tiny, exported, tmp_path):
    export.export_onnx(tiny, tmp_path / "again.onnx", patch_map=True)

    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_every_representation_is_inside(tmp_path, representation):
    path = checkpoint(tmp_path, representation=representation, scale=2 / 3)

    found = export.export_onnx(path, tmp_path / "a.onnx")

    assert found.largest_difference <= 1e-5
    assert found.pictures == len(export.SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pooling"), [("ladeda9", "max")])
def test_large_detectors_are_exported_and_within_the_tolerance(tmp_path, name, pooling):
    path = checkpoint(tmp_path, name, pooling, fit="crop")

    found = export.export_onnx(path, tmp_path / "a.onnx", tolerance=1e-4)

    assert found.largest_difference <= 1e-4
    assert found.bytes > 50e6


def test_a_file_that_would_score_otherwise_is_not_written(tiny, tmp_path):
    out = tmp_path / "a.onnx"

    with pytest.raises(GateError, match=r"differ from torch's .* nothing was written"):
        export.export_onnx(tiny, out, tolerance=0.0)

    assert not out.exists()


NAN = float("nan")


@pytest.mark.parametrize("off", [(NAN, 1e-9), (1e-9, NAN, 1e-9)])
def test_a_logit_that_is_no_number_fails_the_check_on_whatever_picture(off):
    with pytest.raises(GateError, match=r"by up to nan .* expected at most 1e-05"):
        export.require_close(export.Differences(off, (1e-9,)), 1e-5, "a.onnx")

    good = export.require_close(export.Differences((1e-9, 2e-9), (3e-9,)), 1e-5, "a.onnx")
    assert (good["largest_difference"], good["torch_difference"], good["pictures"]) == (
        2e-9,
        3e-9,
        2,
    )


@pytest.mark.parametrize(
    ("own", "asked", "allowed"),
    [
        ((7.2e-6, 1e-7), None, 1e-5),
        ((1e-7, 3.9e-5), None, 3.9e-5),
        ((3.9e-5, 2e-3), None, 1e-4),
        ((3.9e-5, float("inf")), None, 1e-4),
        ((NAN, 2e-5), None, 2e-5),
        ((3.9e-5,), 0.0, 0.0),
        ((3.9e-5,), 1e-5, 1e-5),
    ],
)
def test_a_file_may_be_off_by_what_was_asked_for_or_by_what_float32_is_off_by_in_torch(
    own, asked, allowed
):
    assert export.allowed(export.Differences((0.0,), own), asked) == allowed


@pytest.mark.slow
def test_a_detector_that_was_hardly_trained_is_exported(picture_set, recipe, tmp_path):
    short = replace(recipe, detector="ladeda9", size=SIZE, crop=SIZE, epochs=2, learning_rate=2e-4)
    train_detector(picture_set, tmp_path, replace(short, seed=1))

    found = export.export_onnx(tmp_path / "checkpoint.pt", tmp_path / "a.onnx")

    assert found.largest_difference <= found.tolerance == max(1e-5, found.torch_difference)
    assert found.tolerance < 1e-4


def test_a_wrong_graph_is_caught_by_the_check(tiny):
    loaded = load_detector(tiny)
    model = export.to_model(loaded)
    good = max(export.check(loaded, model.SerializeToString(), "a").file)
    _, std = [c for c in model.graph.initializer if c.dims == [1, 3, 1, 1]]
    std.raw_data = np.full(3, 0.5, np.float32).tobytes()

    assert good <= 1e-5
    assert max(export.check(loaded, model.SerializeToString(), "a").file) > 1e-3


def test_predict_takes_an_onnx_file_like_a_checkpoint(tiny, exported, picture_set, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    paths = [picture_set / "test/reddit", tmp_path / "broken.png"]

    rows = list(predict(exported, paths, batch=5))
    want = list(predict(tiny, paths))

    assert [row["path"] for row in rows] == [row["path"] for row in want]
    assert "does not decode" in rows[-1]["error"]
    np.testing.assert_allclose(
        [row["logit"] for row in rows[:-1]],
        [row["logit"] for row in want[:-1]],
        rtol=1e-5,
        atol=1e-5,
    )


def reference():
    """Tiny-LaDeDa from its description alone, which another file of tests holds."""
    place = Path(__file__).with_name("test_detectors.py")
    found = importlib.util.spec_from_file_location("detectors_by_hand", place)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.tiny_by_hand


@pytest.mark.parametrize("name", ["WildRF_Tiny_LaDeDa.pth", "ForenSynth_Tiny_LaDeDa.pth"])
def test_published_weights_score_real_files_as_described_in_torch_and_in_onnx(
    shared, name, tmp_path, caplog
):
    caplog.set_level(logging.ERROR)
    path = shared / "checkpoints" / name
    raw = torch.load(path, weights_only=True, map_location="cpu")
    weights = {k: v.double().numpy() for k, v in raw.get("model", raw).items()}
    export.export_onnx(path, tmp_path / "published.onnx")
    photos = sorted((shared / "data/camera-photos").glob("*.jpg"))[::15]
    by_hand = reference()
    want = []
    for file in photos:
        with Image.open(file) as image:
            turned = Image.fromarray(np.asarray(decode_plainly(image)))
        pixels = np.asarray(turned.resize((256, 256), Image.Resampling.BILINEAR), dtype=float)
        want.append(by_hand(weights, pixels))

    for scorer in (path, tmp_path / "published.onnx"):
        got = [row["logit"] for row in predict(scorer, photos)]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert len(photos) >= 5
    assert "research use" in runtime.load_onnx(tmp_path / "published.onnx").meta["wildrf.licence"]
    assert decode(photos[0], Preprocessing()).error is None


def decode_plainly(image):
    from PIL import ImageOps

    return ImageOps.exif_transpose(image).convert("RGB")


def refusal(path, content, error=CheckpointError):
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        runtime.load_onnx(path)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"onnx", b"\x89PNG\r\n\x1a\n", b"\x08\x0a" * 50])
def test_what_is_no_onnx_file_is_refused_in_one_line(tmp_path, content):
    assert "is not a readable ONNX file" in refusal(tmp_path / "a.onnx", content)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, exported, share):
    content = exported.read_bytes()

    refusal(tmp_path / "a.onnx", content[: int(len(content) * share)])


def restated(exported, key, value):
    model = onnx.load(exported)
    for row in model.metadata_props:
        if row.key == key:
            row.value = value
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("wildrf.format", "other", "other 1"),
        ("wildrf.version", "9", "wildrf-onnx 9"),
        ("wildrf.preprocessing", "{}", "preprocessing differs"),
        ("wildrf.preprocessing", "no", "does not state its preprocessing"),
        ("wildrf.preprocessing_digest", "0" * 16, "it was edited"),
    ],
)
def test_a_file_that_states_another_preprocessing_is_refused(tmp_path, exported, key, value, said):
    assert said in refusal(tmp_path / "a.onnx", restated(exported, key, value))


def test_a_model_of_another_program_is_refused(tmp_path):
    model = graph.preprocessing_model(Preprocessing(), export.OPSET, export.IR_VERSION)

    assert "of another program" in refusal(tmp_path / "a.onnx", model.SerializeToString())


def test_a_missing_file_and_another_device_are_refused(exported, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        runtime.load_onnx(tmp_path / "no.onnx")
    with pytest.raises(InputError, match="device cuda is not for ONNX files"):
        runtime.load_onnx(exported, device="cuda")


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(InputError, match=r"no_such_package is not installed.*wildrf\[onnx\]"):
        runtime.need("no_such_package")
