"""Names that are no UTF-8, as unpacked archives of old leave them: nothing ends because of one."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

NAME = os.fsdecode(b"caf\xe9.jpg")
PLATFORM = os.fsdecode(b"t\xe9l\xe9")
NAME_SHOWN, PLATFORM_SHOWN = "caf\\udce9.jpg", "t\\udce9l\\udce9"


def save(path, rng, quality):
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 10, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=quality)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set and a run; in every folder one picture has such a name, and one platform too."""
    root, rng = tmp_path_factory.mktemp("latin"), np.random.default_rng(0)
    for folder in ("train", "test/x", f"test/{PLATFORM}"):
        for leaf, quality in (("0_real", 95), ("1_fake", 40)):
            (root / "set" / folder / leaf).mkdir(parents=True)
            for name in (NAME, *(f"{k}.jpg" for k in range(11))):
                save(root / "set" / folder / leaf / name, rng, quality)
    return root


@pytest.fixture(scope="module")
def run(wildrf, root):
    answer = wildrf(
        "train", root / "set", "--out", root / "run", "--detector", "tiny-ladeda", "--size", 64,
        "--crop", 48, "--epochs", 1, "--device", "cpu", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return root / "run"


def test_a_set_is_audited(wildrf, root):
    page = root / "audit.html"

    answer = wildrf("audit", root / "set", "--report", page, "--workers", 1, "--json")

    assert answer.code == 1, answer.err  # a shortcut: one class is saved with another quality
    assert json.loads(answer.out)["verdict"] == "shortcut"
    assert PLATFORM_SHOWN in page.read_text(encoding="utf-8")


def test_a_detector_is_evaluated_and_its_scores_name_every_file(wildrf, root, run):
    answer = wildrf(
        "evaluate", run, root / "set", "--out", run / "evaluation", "--draws", 100,
        "--device", "cpu", "--json",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    assert set(json.loads(answer.out)["platforms"]) == {"x", PLATFORM_SHOWN}
    scores = run / "evaluation" / "scores.parquet"
    paths = pq.read_table(scores).column("path").to_pylist()
    assert len(paths) == 48
    assert sum(Path(path).name == NAME_SHOWN for path in paths) == 4
    again = wildrf("evaluate", "--scores", scores, root / "set", "--draws", 100, "--json")
    assert again.code == 0, again.err


def test_what_does_not_open_is_counted_with_the_rest_of_its_platform(wildrf, root, run, tmp_path):
    shutil.copytree(root / "set/test", tmp_path / "test")
    (tmp_path / "test" / PLATFORM / "1_fake/broken.jpg").write_bytes(b"broken")

    answer = wildrf("evaluate", run, tmp_path, "--draws", 100, "--device", "cpu", "--json")

    found = json.loads(answer.out)
    assert found["skipped_by"] == {PLATFORM_SHOWN: {"real": 0, "fake": 1}}
    assert set(found["skipped_by"]) <= set(found["platforms"])


def test_it_is_stressed(wildrf, root, run):
    answer = wildrf("stress", run, root / "set", "--test", "jpeg-fakes", "--device", "cpu")

    assert answer.code == 0, answer.err


def test_a_picture_is_predicted_and_explained(wildrf, root, run):
    picture = root / "set/test/x/1_fake" / NAME

    told = [wildrf(verb, run, picture, "--device", "cpu", "--json") for verb in VERBS]

    assert [answer.code for answer in told] == [0, 0], told
    assert json.loads(told[0].out)["path"] == str(picture)
    page = (run / "explain/index.html").read_text(encoding="utf-8")
    assert NAME_SHOWN in page
    assert json.loads((run / "explain/explain.json").read_text())["images"][0]["path"] == str(
        picture
    )


VERBS = ("predict", "explain")
