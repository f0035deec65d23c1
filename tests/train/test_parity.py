"""Parity: the paths of one detector are held side by side, and the step that differs is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.errors import CheckpointError, InputError
from train.checkpoint import load_detector, pack, to_bytes, write_atomically
from train.config import build_detector, choose_compute
from train.deploy.parity import (
    DEFAULT_TOLERANCE,
    TOLERANCES,
    Row,
    Stages,
    first_difference,
    judge,
    parity,
    split_onnx,
    spread_over,
)
from train.detectors import DETECTORS
from train.transforms import Preprocessing

SPEC = DETECTORS["tiny-ladeda"]
PREP = Preprocessing(size=48, crop=48, representation="right_diag")


def checkpoint(path, prep=PREP, seed=2):
    model = build_detector(SPEC, prep, "mean", seed=seed)
    with torch.no_grad():
        model.fc.weight *= 20
    write_atomically(path, to_bytes(pack(model.state_dict(), SPEC, prep, pooling="mean")))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("parity") / "tiny.pt")


@pytest.fixture(scope="module")
def exported(tiny):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from train.deploy.export import export_onnx

    export_onnx(tiny, tiny.with_suffix(".onnx"))
    return tiny.with_suffix(".onnx")


def test_predict_gives_the_scores_of_training_on_ten_files(tiny, picture_set):
    found = parity(tiny, [picture_set])

    assert found.same
    assert len(found.rows) == 10
    assert found.largest["predict"] <= 1e-5
    assert all(row.step is None and row.route == "predict" for row in found.rows)
    assert len({row.training for row in found.rows}) == 10


def test_the_exported_file_gives_them_too_with_its_own_resize(tiny, exported, picture_set):
    found = parity(tiny, [picture_set / "test"], onnx=exported, files=4)

    assert found.same
    assert [row.route for row in found.rows] == ["predict", "onnx"] * 4
    assert set(found.largest) == {"predict", "onnx"}
    assert found.largest["onnx"] <= 1e-5


def test_every_row_says_where_it_ran_and_another_device_has_its_own_tolerance(
    tiny, exported, picture_set
):
    found = parity(tiny, [picture_set / "test"], onnx=exported, files=2, device="cpu")

    assert {row.device for row in found.rows} == {"cpu"}
    assert {row.tolerance for row in found.rows} == {found.tolerance} == {TOLERANCES[SPEC.name]}
    assert TOLERANCES[SPEC.name] < DEFAULT_TOLERANCE
    with pytest.raises(InputError, match="device 'nonsense' is unknown"):
        parity(tiny, [picture_set / "test"], device="nonsense")


def test_predict_is_compared_on_the_device_that_it_takes_by_itself(tiny, picture_set):
    found = parity(tiny, [picture_set / "test"], files=2)

    auto = choose_compute("auto", "float32", SPEC).device
    assert {row.device for row in found.rows} == {str(auto)}
    assert found.same


def test_a_tolerance_of_nothing_is_one(tiny, picture_set):
    found = parity(tiny, [picture_set / "test"], files=2, tolerance=0.0)

    assert found.tolerance == 0.0
    assert found.same is all(row.difference == 0 for row in found.rows)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_logit_that_is_no_number_is_not_the_same_on_whatever_picture(place):
    off = [1e-9] * 3
    off[place] = float("nan")
    rows = [
        Row(str(k), "predict", "cpu", 0.1, 0.1, value, 1e-5, None) for k, value in enumerate(off)
    ]

    found = judge(rows)

    assert not found.same
    assert np.isnan(found.largest["predict"])


def tampered(exported, change, tmp_path):
    """The exported file after `change` of its model."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported)
    change(model, onnx)
    path = tmp_path / "tampered.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def use_another_kernel(model, onnx):
    """ONNX's own antialiased Resize instead of Pillow's rounding."""
    planes = onnx.helper.make_node("Transpose", ["image"], ["t/planes"], perm=[0, 3, 1, 2])
    floats = onnx.helper.make_node("Cast", ["t/planes"], ["t/floats"], to=onnx.TensorProto.FLOAT)
    shape = onnx.helper.make_node("Shape", ["image"], ["t/n"], start=0, end=1)
    size = onnx.numpy_helper.from_array(np.array([3, 48, 48]), "t/size")
    sizes = onnx.helper.make_node("Concat", ["t/n", "t/size"], ["t/sizes"], axis=0)
    small = onnx.helper.make_node(
        "Resize", ["t/floats", "", "", "t/sizes"], ["t/small"], mode="linear", antialias=1
    )
    back = onnx.helper.make_node("Transpose", ["t/small"], ["t/back"], perm=[0, 2, 3, 1])
    whole = onnx.helper.make_node("Floor", ["t/back"], ["t/whole"])
    done = onnx.helper.make_node("Cast", ["t/whole"], ["wildrf/resized"], to=onnx.TensorProto.UINT8)
    model.graph.initializer.append(size)
    kept = [node for node in model.graph.node if "wildrf/resized" not in node.output]
    del model.graph.node[:]
    model.graph.node.extend([planes, floats, shape, sizes, small, back, whole, done, *kept])


def use_another_std(model, onnx):
    _, std = [c for c in model.graph.initializer if c.dims == [1, 3, 1, 1]]
    std.raw_data = np.full(3, 0.25, np.float32).tobytes()


def use_other_weights(model, onnx):
    weight = next(c for c in model.graph.initializer if list(c.dims) == [8, 3, 3, 3])
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (use_another_kernel, "resize"),
        (use_another_std, "normalise"),
        (use_other_weights, "network"),
    ],
)
def test_a_file_that_scores_otherwise_is_found_and_the_step_is_named(
    tiny, exported, picture_set, tmp_path, change, step
):
    odd = tampered(exported, change, tmp_path)

    found = parity(tiny, [picture_set / "test"], onnx=odd, files=3, tolerance=1e-6)

    rows = [row for row in found.rows if row.route == "onnx"]
    assert not found.same
    assert {row.step for row in rows} == {step}
    assert all(
        row.step is None for row in found.rows if row.route == "predict" and row.difference <= 1e-6
    )


def test_the_first_step_that_differs_is_the_one_that_is_named():
    zeros = np.zeros((4, 4, 3), np.uint8)
    planes = np.zeros((3, 4, 4), np.float32)
    same = Stages(zeros, zeros, planes, 0.0)

    assert first_difference(same, replace(same, rgb=zeros + 1, resized=zeros + 1)) == "decode"
    assert first_difference(same, replace(same, rgb=zeros[:2])) == "decode"
    assert first_difference(same, replace(same, resized=zeros + 1)) == "resize"
    assert first_difference(same, replace(same, normalised=planes + 1e-3)) == "normalise"
    assert first_difference(same, replace(same, normalised=planes + 1e-7, logit=1.0)) == "network"
    assert first_difference(same, Stages(None, zeros, None, 1.0)) == "network"
    assert first_difference(same, replace(same, normalised=planes * np.nan)) == "normalise"


def test_an_exported_file_of_another_checkpoint_or_preprocessing_is_refused(
    exported, picture_set, tmp_path
):
    other = checkpoint(tmp_path / "other.pt", seed=3)
    sized = checkpoint(tmp_path / "sized.pt", replace(PREP, size=40, crop=40))

    with pytest.raises(CheckpointError, match="was exported from checkpoint"):
        parity(other, [picture_set], onnx=exported)
    with pytest.raises(CheckpointError, match=r"has preprocessing .* the checkpoint has"):
        parity(sized, [picture_set], onnx=exported)


def test_files_that_do_not_decode_are_left_out_and_told(tiny, picture_set, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    good = sorted((picture_set / "train").rglob("*.png"))[0]

    found = parity(tiny, [tmp_path / "broken.png", good])

    assert [path for path, _ in found.skipped] == [str(tmp_path / "broken.png")]
    assert [row.path for row in found.rows] == [str(good)]
    with pytest.raises(InputError, match="none of 1 files decodes"):
        parity(tiny, [tmp_path / "broken.png"])


def test_the_files_compared_are_spread_over_all():
    files = list(range(100))

    assert spread_over(files, 10) == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert spread_over(files[:3], 10) == [0, 1, 2]


def test_an_onnx_file_stands_before_the_images(tmp_path):
    assert split_onnx([tmp_path / "a.ONNX", tmp_path]) == (tmp_path / "a.ONNX", [tmp_path])
    assert split_onnx([tmp_path]) == (None, [tmp_path])
    assert split_onnx([]) == (None, [])


def test_published_weights_pass_on_real_files(shared):
    found = parity(
        shared / "checkpoints/WildRF_Tiny_LaDeDa.pth", [shared / "data/camera-photos"], files=10
    )

    assert found.same
    assert len(found.rows) == 10
    assert load_detector(shared / "checkpoints/WildRF_Tiny_LaDeDa.pth").digest
