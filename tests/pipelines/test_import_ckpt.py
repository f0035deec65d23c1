"""Published weights on the command line: what they do not say is stated once, and never guessed."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from train.checkpoint import load_detector
from train.config import build_detector
from train.detectors import DETECTORS
from train.predict import predict
from train.transforms import Preprocessing


def save_bare(path, name):
    spec = DETECTORS[name]
    model = build_detector(spec, Preprocessing(representation=spec.representation), "mean", seed=3)
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A published LaDeDa, a published Tiny-LaDeDa, and a small set of pictures."""
    root = tmp_path_factory.mktemp("published")
    save_bare(root / "ladeda.pth", "ladeda5")
    save_bare(root / "tiny.pth", "tiny-ladeda")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test/x"):
        for leaf in ("0_real", "1_fake"):
            (root / "set" / split / leaf).mkdir(parents=True)
            for k in range(2):
                pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "set" / split / leaf / f"{k}.png")
    (root / "cases.csv").write_text("path,expected\nset/val/0_real/0.png,real\n")
    return root


VERBS = {
    "predict": ["predict", "ladeda.pth", "set"],
    "evaluate": ["evaluate", "ladeda.pth", "set"],
    "calibrate": ["calibrate", "ladeda.pth", "set"],
    "stress": ["stress", "ladeda.pth", "set"],
    "stress against": ["stress", "tiny.pth", "set", "--against", "ladeda.pth"],
    "explain": ["explain", "ladeda.pth", "set", "--out", "maps"],
    "export-onnx": ["export-onnx", "ladeda.pth", "--out", "ladeda.onnx"],
    "parity": ["parity", "ladeda.pth", "set"],
    "cases": ["cases", "ladeda.pth", "cases.csv"],
    "distill": ["distill", "ladeda.pth", "--data", "set", "--out", "student"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_guesses_the_scale_of_a_published_ladeda(place, wildrf, monkeypatch, verb):
    if verb == "export-onnx":
        pytest.importorskip("onnxscript", reason="needs the extra onnx")
    monkeypatch.chdir(place)

    answer = wildrf(*VERBS[verb], "--json")

    assert (answer.code, answer.out) == (2, "")
    (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert "does not say how much its NPR is scaled" in line
    assert "wildrf import-ckpt ladeda.pth --out ladeda5.pt --representation-scale 2/3" in line


@pytest.mark.parametrize(("asked", "scale"), [("2/3", 2 / 3), ("0.6667", 0.6667), ("1", 1.0)])
def test_what_is_imported_is_scored_as_stated(place, wildrf, tmp_path, asked, scale):
    out = tmp_path / "ladeda.pt"

    made = wildrf(
        "import-ckpt", place / "ladeda.pth", "--out", out, "--representation-scale", asked,
        "--json",
    )  # fmt: skip
    answer = wildrf("predict", out, place / "set/val/0_real/0.png", "--device", "cpu", "--json")

    assert made.code == answer.code == 0, made.err + answer.err
    told = json.loads(made.out)
    assert told["preprocessing"]["scale"] == scale
    assert told["sha256"] == load_detector(out).digest
    known = load_detector(place / "ladeda.pth", assume=Preprocessing(scale=scale))
    with Image.open(place / "set/val/0_real/0.png") as image:
        pixels = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))
    batch = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (Preprocessing().mean, Preprocessing().std))
    with torch.no_grad():
        want = known.model((batch - mean) / std).item()
    assert json.loads(answer.out)["logit"] == pytest.approx(want, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("scale", ["0", "-1", "x", "1/0", "inf", "nan", ""])
def test_a_scale_that_is_no_number_above_0_is_refused(place, wildrf, tmp_path, scale):
    answer = wildrf(
        "import-ckpt", place / "ladeda.pth", "--out", tmp_path / "a.pt",
        f"--representation-scale={scale}",
    )  # fmt: skip

    assert answer.code == 2
    assert f"--representation-scale is {scale!r}; expected a number above 0" in answer.err
    assert not (tmp_path / "a.pt").exists()


def test_without_a_scale_nothing_is_imported(place, wildrf, tmp_path):
    answer = wildrf("import-ckpt", place / "ladeda.pth", "--out", tmp_path / "a.pt")

    assert answer.code == 2
    assert "expected that to be stated" in answer.err


def test_a_published_tiny_ladeda_is_used_as_it_is_and_says_by_what(place, wildrf):
    answer = wildrf("predict", place / "tiny.pth", place / "set/val", "--device", "cpu", "--json")

    assert answer.code == 0
    assert (
        "tiny.pth carries no preprocessing: using right_diag with scale 1 at 256 px" in answer.err
    )
    assert len(answer.out.splitlines()) == 4


def test_people_are_told_what_was_stated(place, wildrf, tmp_path):
    answer = wildrf("import-ckpt", place / "tiny.pth", "--out", tmp_path / "tiny.pt", "--size", 128)

    assert answer.code == 0, answer.err
    assert "preprocessing as stated: 128 px, fit stretch, right_diag times 1 (" in answer.err
    rows = list(predict(tmp_path / "tiny.pt", [place / "set/val"], device="cpu"))
    assert len(rows) == 4


def test_warnings_of_the_layers_below_are_lines_that_are_safe_for_a_terminal(
    place, wildrf, tmp_path
):
    odd = tmp_path / "\x1b[31mtiny.pth"
    odd.write_bytes((place / "tiny.pth").read_bytes())

    answer = wildrf("predict", odd, place / "set/val", "--device", "cpu", "--json")

    assert "\\x1b[31mtiny.pth carries no preprocessing" in answer.err
    assert "\x1b" not in answer.err
    assert not [h for h in logging.getLogger().handlers if type(h).__module__ == "pipelines.output"]
