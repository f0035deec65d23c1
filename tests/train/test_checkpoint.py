"""Checkpoints: what is written comes back; what cannot be used is refused in one line."""

import os
import pickle
from dataclasses import replace

import pytest
import torch

from schemas.errors import CheckpointError, InputError
from train.checkpoint import (
    FORMAT,
    import_checkpoint,
    load_detector,
    pack,
    to_bytes,
    write_atomically,
)
from train.config import build_detector
from train.deploy.export import describe
from train.detectors import DETECTORS
from train.transforms import Preprocessing

PREP = Preprocessing(size=64, crop=48, representation="right_diag", scale=2 / 3)
SPEC = DETECTORS["tiny-ladeda"]


def packed(prep=PREP, **changes):
    model = build_detector(SPEC, prep, "max", seed=4)
    return {**pack(model.state_dict(), SPEC, prep, pooling="max", epoch=3), **changes}


def refusal(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_detector(path)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_comes_back_with_everything_a_score_depends_on(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_atomically(path, to_bytes(packed()))

    loaded = load_detector(path, expected=PREP)

    want = build_detector(SPEC, PREP, "max", seed=4).state_dict()
    got = loaded.model.state_dict()
    assert all(torch.equal(got[k], want[k]) for k in want)
    assert loaded.preprocessing == PREP
    assert loaded.model.pooling == "max"
    assert loaded.model.representation.scale == 2 / 3
    assert not loaded.model.training
    assert loaded.meta["epoch"] == 3
    assert loaded.preprocessing_source == "checkpoint"
    assert set(os.listdir(tmp_path)) == {"checkpoint.pt"}


def test_same_content_is_same_bytes_wherever_it_is_written():
    assert to_bytes(packed()) == to_bytes(packed())


@pytest.mark.parametrize(
    "change",
    [{"size": 128}, {"scale": 1.0}, {"representation": "NPR"}, {"fit": "crop"}],
)
def test_other_preprocessing_than_trained_with_is_refused(tmp_path, change):
    path = tmp_path / "checkpoint.pt"
    write_atomically(path, to_bytes(packed()))

    with pytest.raises(CheckpointError, match=f"was trained with {next(iter(change))}"):
        load_detector(path, expected=replace(PREP, **change))


def test_the_training_crop_does_not_matter_to_evaluation(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_atomically(path, to_bytes(packed()))

    assert load_detector(path, expected=replace(PREP, crop=32)).preprocessing.crop == 48


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"model": Trap()}, tmp_path / "a.pth")
    old = pickle.dumps({"model": Trap()})

    assert "plain" in refusal(tmp_path / "a.pth", (tmp_path / "a.pth").read_bytes())
    refusal(tmp_path / "b.pth", old)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, cut):
    refusal(tmp_path / "cut.pt", to_bytes(packed())[:cut])


def test_a_damaged_checkpoint_is_refused_or_still_whole(tmp_path):
    content = to_bytes(packed())
    for position in range(0, len(content), 997):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "damaged.pt").write_bytes(damaged)
        try:
            load_detector(tmp_path / "damaged.pt")
        except CheckpointError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"<html></html>", b"\x80\x02.", b"\x89PNG\r\n\x1a\n"],
)
def test_files_of_another_kind_are_refused(tmp_path, content):
    refusal(tmp_path / "odd.pt", content)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "a list"),
        ({}, "keys none"),
        ({"epoch": 3}, "keys epoch"),
        ({"conv1.weight": torch.zeros(2)}, "1 tensors such as 'conv1.weight'"),
        (torch.zeros(2), "a Tensor"),
    ],
)
def test_other_torch_files_are_refused_by_what_they_hold(tmp_path, value, said):
    assert said in refusal(tmp_path / "odd.pt", to_bytes(value))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "'other'"),
        ({"preprocessing": replace(PREP, size=256).to_dict()}, "it was edited"),
        ({"preprocessing": {"size": 3}}, "preprocessing differs"),
        ({"preprocessing": 3}, "preprocessing"),
        ({"detector": "third-party"}, "install the package"),
        ({"detector": "ladeda9"}, "does not fit ladeda9"),
        ({"weights": 3}, "does not fit"),
        ({"pooling": "median"}, "pooling"),
    ],
)
def test_our_format_with_odd_content_is_refused(tmp_path, changes, said):
    assert said in refusal(tmp_path / "odd.pt", to_bytes(packed(**changes)))


def test_a_missing_part_is_named(tmp_path):
    content = packed()
    del content["preprocessing"]
    assert content["format"] == FORMAT

    assert "lacks preprocessing" in refusal(tmp_path / "odd.pt", to_bytes(content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "no.pt", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_detector(path)


def test_every_preprocessing_field_changes_the_digest_except_the_crop():
    changes = {
        "size": 100, "fit": "crop", "orientation": False, "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0), "representation": "raw", "scale": 0.5, "kernel": "lanczos",
    }  # fmt: skip

    digests = {replace(PREP, **{k: v}).digest for k, v in changes.items()}

    assert len(digests | {PREP.digest}) == len(changes) + 1
    assert replace(PREP, crop=1).digest == PREP.digest
    assert set(changes) | {"crop"} == set(PREP.to_dict())
    assert Preprocessing.from_dict(PREP.to_dict()) == PREP


def bare(path, name="ladeda5"):
    """A state dict as published: no preprocessing beside it."""
    spec = DETECTORS[name]
    prep = Preprocessing(representation=spec.representation)
    torch.save(build_detector(spec, prep, "mean", seed=4).state_dict(), path)
    return path


def test_an_imported_checkpoint_scores_by_the_preprocessing_that_was_stated(tmp_path):
    file = bare(tmp_path / "published.pth")
    stated = {"scale": 2 / 3, "size": 64, "fit": "crop", "pooling": "max"}

    made = import_checkpoint(file, tmp_path / "ours.pt", stated)

    again = load_detector(tmp_path / "ours.pt")
    want = Preprocessing(size=64, crop=64, fit="crop", representation="NPR", scale=2 / 3)
    assert made.digest == again.digest
    assert again.preprocessing == want
    assert again.model.representation.scale == 2 / 3
    assert again.model.pooling == "max"
    assert again.preprocessing_source == "stated when it was imported"
    assert again.meta["imported"]["file"] == "published.pth"
    known = load_detector(file, assume=want).model.state_dict()
    assert all(torch.equal(v, known[k]) for k, v in again.model.state_dict().items())


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({}, "does not say how much its NPR is scaled"),
        ({"size": 64}, "does not say how much its NPR is scaled"),
        ({"scale": 1.0, "detector": "tiny-ladeda"}, "does not fit tiny-ladeda"),
        ({"scale": 1.0, "detector": "resnet"}, "expected one of ladeda5"),
        ({"scale": 1.0, "representation": "npr"}, "representation 'npr'"),
        ({"scale": 1.0, "fit": "squash"}, "fit 'squash'"),
        (
            {"scale": 1.0, "pooling": "top0"},
            "pooling 'top0' is not known; expected mean, max, topN",
        ),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line_and_nothing_is_written(tmp_path, stated, said):
    file = bare(tmp_path / "published.pth")

    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(file, tmp_path / "ours.pt", stated)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.pt").exists()


def test_a_scale_need_not_be_stated_where_no_published_file_has_another(tmp_path):
    import_checkpoint(bare(tmp_path / "a.pth", "tiny-ladeda"), tmp_path / "a.pt", {})
    import_checkpoint(bare(tmp_path / "b.pth"), tmp_path / "b.pt", {"representation": "raw"})

    assert load_detector(tmp_path / "a.pt").preprocessing == Preprocessing(
        representation="right_diag"
    )
    assert load_detector(tmp_path / "b.pt").preprocessing.representation == "raw"


def test_importing_again_is_harmless_and_never_writes_over_something_else(tmp_path):
    file, out = bare(tmp_path / "published.pth"), tmp_path / "ours.pt"
    before = import_checkpoint(file, out, {"scale": 1.0}).digest

    assert import_checkpoint(file, out, {"scale": 1.0}).digest == before
    with pytest.raises(InputError, match="is there already; expected a new file"):
        import_checkpoint(file, out, {"scale": 0.5})
    with pytest.raises(CheckpointError, match="is used as it is"):
        import_checkpoint(out, tmp_path / "twice.pt", {"scale": 1.0})
    assert load_detector(out).digest == before


def test_the_terms_of_published_weights_stay_with_them(tmp_path):
    made = import_checkpoint(bare(tmp_path / "a.pth"), tmp_path / "a.pt", {"scale": 1.0})

    assert "research use only" in describe(made)["wildrf.licence"]
