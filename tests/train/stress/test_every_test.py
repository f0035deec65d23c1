"""What holds for every entry of the table of stress tests, and for the run that they share."""

import hashlib
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from schemas.errors import InputError
from schemas.labels import Label
from train.checkpoint import load_detector
from train.config import choose_compute
from train.data import find_images
from train.evaluate import evaluate
from train.stress import TESTS
from train.stress import run as running
from train.stress.jpeg_quality import rendition
from train.stress.plan import AS_IT_IS, NATIVE, Condition, Picture, Plan, untouched
from train.stress.run import Options, conditions_of, stress
from train.stress.sample import stratified, survey

OPTIONS = Options(workers=2, device="cpu", draws=50, max_images=12)
ALONE = [test for test in TESTS.values() if "rivals" not in test.needs]
TIMED = {"efficiency"}


def plan_of(root, count=6):
    items = stratified(find_images(root / "test"), count, 0)
    images, _ = survey(root / "test", items, workers=1)
    return images


def digests(root):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(texture_reader, tmp_path_factory):
    """Every test in one run, with a rival."""
    out = tmp_path_factory.mktemp("out")
    found = stress(
        texture_reader.checkpoint, texture_reader.root, list(TESTS.values()),
        against=[texture_reader.checkpoint], out=out, options=OPTIONS,
    )  # fmt: skip
    return found, out


@pytest.fixture
def plan(texture_reader):
    loaded = load_detector(texture_reader.checkpoint)
    return Plan(plan_of(texture_reader.root), loaded.preprocessing, seed=0)


@pytest.mark.parametrize("name", TESTS)
def test_every_test_is_listed_under_its_name_and_says_what_it_is_and_where_from(name):
    test = TESTS[name]

    assert test.name == name
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert len(test.title) > 10
    assert test.source
    assert test.needs <= {"patches", "rivals"}


@pytest.mark.parametrize("name", TESTS)
def test_every_test_gives_plain_values_with_n_and_interval(name, whole):
    found = whole[0]["tests"][name]

    assert json.loads(json.dumps(found, allow_nan=False)) == found
    figures = list(figures_in(found))
    assert figures
    for row, figure in figures:
        assert figure["low"] <= figure["value"] + 1e-9
        assert figure["value"] <= figure["high"] + 1e-9
        assert "n" in row or "n" in figure


def figures_in(found, row=None):
    """Every {value, low, high} with the row it stands in, which inherits the n of what holds it."""
    if isinstance(found, list):
        for one in found:
            yield from figures_in(one, row)
    elif isinstance(found, dict):
        if {"value", "low", "high"} <= set(found):
            yield row, found
            return
        here = {**(row or {}), **({"n": found["n"]} if "n" in found else {})}
        if "rows" in found and found["rows"] and "n" in found["rows"][0]:
            here["n"] = found["rows"][0]["n"]
        for one in found.values():
            yield from figures_in(one, here)


@pytest.mark.parametrize("name", [test.name for test in ALONE])
def test_every_test_alone_finds_what_it_finds_among_the_others(name, whole, texture_reader):
    alone = stress(texture_reader.checkpoint, texture_reader.root, [TESTS[name]], options=OPTIONS)

    if name not in TIMED:
        assert same(alone["tests"][name], whole[0]["tests"][name])


def same(a, b):
    """Equal, numbers to what single precision leaves of them in another batch."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == pytest.approx(b, abs=1e-5) if isinstance(a, float) else a == b


@pytest.mark.parametrize("name", TESTS)
def test_every_rendition_is_an_upright_rgb_picture_that_depends_on_the_seed_alone(name, plan):
    conditions = TESTS[name].conditions(plan)
    with Image.open(plan_root(plan)) as image:
        rgb = image.convert("RGB")
    before = rgb.tobytes()

    for condition in conditions:
        pictures = (Picture(0, plan.images[0], rgb, seed=0) for _ in range(2))
        one, again = (condition.render(picture) for picture in pictures)
        assert one.mode == "RGB"
        assert np.array_equal(np.asarray(one), np.asarray(again))
    assert rgb.tobytes() == before, "a rendition must not change the picture it is made from"
    assert len({c.key for c in conditions}) == len(conditions)


@pytest.fixture(autouse=True)
def place(texture_reader):
    plan_root.root = texture_reader.root / "test"


def plan_root(plan):
    return plan_root.root / plan.images[0].path


def test_native_scores_are_those_of_evaluate(texture_reader):
    tests = [TESTS["jpeg-quality"]]
    found = stress(
        texture_reader.checkpoint, texture_reader.root, tests,
        options=Options(device="cpu", draws=20),
    )  # fmt: skip

    native = found["tests"]["jpeg-quality"]["rows"][0]
    want = evaluate(texture_reader.checkpoint, texture_reader.root, draws=10)["platforms"]["x"]
    for metric in ("acc", "ap", "auc"):
        assert native[metric]["value"] == pytest.approx(want[metric])
    assert native["n"] == want["n"]


def test_no_file_is_touched_and_the_record_says_what_was_done(whole, texture_reader):
    before = digests(texture_reader.root)
    found, out = whole

    stress(texture_reader.checkpoint, texture_reader.root, ALONE, options=OPTIONS)

    assert digests(texture_reader.root) == before
    record = json.loads((out / "stress.json").read_text())
    assert record == json.loads(json.dumps(found))
    assert (
        record["checkpoint"]["sha256"]
        == digests(texture_reader.checkpoint.parent)[texture_reader.checkpoint]
    )
    assert (
        record["preprocessing"]["digest"]
        == load_detector(texture_reader.checkpoint).preprocessing.digest
    )
    assert record["versions"]["wildrf"]
    assert record["data"]["sample"]["images"] == 12
    assert record["data"]["sample"]["of"] == 80
    assert record["data"]["sample"]["strata"] == {"x": {"fake": 6, "real": 6}}
    assert record["parameters"]["seed"] == 0


def test_every_picture_is_decoded_once_whatever_the_number_of_tests(texture_reader, monkeypatch):
    decoded = Counter()

    def count(image, preprocessing, real=running.to_rgb):
        decoded["pictures"] += 1
        return real(image, preprocessing)

    monkeypatch.setattr(running, "to_rgb", count)
    stress(texture_reader.checkpoint, texture_reader.root, ALONE, options=OPTIONS)

    assert decoded["pictures"] == 12


def test_renditions_that_come_out_alike_are_scored_once(plan, texture_reader):
    twins = [Condition(f"twin-{k}", untouched) for k in range(5)]

    rendered = running.render_one(plan, texture_reader.root / "test", 0, [AS_IT_IS, *twins])

    assert len(rendered.pixels) == 1
    assert set(rendered.rows.values()) == {0}


def test_a_rendition_that_several_tests_want_is_made_once_at_its_widest(plan):
    fakes, everything = TESTS["jpeg-fakes"], TESTS["jpeg-quality"]

    alone = conditions_of(plan, [fakes])
    both = conditions_of(plan, [fakes, everything])

    assert all(c.only is Label.FAKE for c in alone if c.key != NATIVE)
    assert all(c.only is None for c in both)
    assert [c.key for c in both].count(rendition(100).key) == 1


def test_files_that_do_not_decode_are_listed_and_left_out_of_every_figure(texture_reader, tmp_path):
    shutil.copytree(texture_reader.root / "test", tmp_path / "test")
    whole_file = (tmp_path / "test/x/1_fake/1-000.jpg").read_bytes()
    (tmp_path / "test/x/1_fake/broken.jpg").write_bytes(b"broken")
    (tmp_path / "test/x/1_fake/short.jpg").write_bytes(whole_file[: len(whole_file) // 2])

    found = stress(
        texture_reader.checkpoint, tmp_path, [TESTS["jpeg-fakes"]],
        options=Options(device="cpu", draws=20),
    )  # fmt: skip

    paths = {row["path"] for row in found["data"]["skipped"]}
    assert paths == {"test/x/1_fake/broken.jpg", "test/x/1_fake/short.jpg"}
    assert all("0x" not in row["reason"] for row in found["data"]["skipped"])
    assert found["tests"]["jpeg-fakes"]["rows"][0]["n"] == 80


def test_one_class_is_refused_and_a_comparison_without_a_rival_too(texture_reader, tmp_path):
    shutil.copytree(texture_reader.root / "test/x/0_real", tmp_path / "0_real")

    with pytest.raises(InputError, match="no usable fake image"):
        stress(texture_reader.checkpoint, tmp_path, [TESTS["pooling"]], options=OPTIONS)
    with pytest.raises(InputError, match="patch-size compares checkpoints"):
        stress(
            texture_reader.checkpoint, texture_reader.root, [TESTS["patch-size"]], options=OPTIONS
        )


def test_workers_and_batch_do_not_change_a_figure(texture_reader):
    tests = [TESTS["jpeg-fakes"], TESTS["laundering"]]
    one, many = (
        stress(
            texture_reader.checkpoint, texture_reader.root, tests,
            options=Options(device="cpu", draws=20, max_images=10, workers=w, batch=b),
        )
        for w, b in ((1, 1), (4, 64))
    )  # fmt: skip

    assert same(one["tests"], many["tests"])


def test_pictures_are_rendered_only_a_few_ahead_of_the_detector(texture_reader, plan, monkeypatch):
    started = []
    real = running.render_one

    def note(plan, root, index, *rest):
        started.append(index)
        return real(plan, root, index, *rest)

    monkeypatch.setattr(running, "render_one", note)
    many = Plan(plan.images * 20, plan.preprocessing, 0)
    options = Options(workers=1, device="cpu")
    rendered = running.render_all(many, texture_reader.root / "test", [AS_IT_IS], [], options)
    next(rendered)

    assert len(started) <= running.AHEAD + 1
    rendered.close()


def test_the_device_is_chosen_as_elsewhere(texture_reader):
    loaded = load_detector(texture_reader.checkpoint)

    with pytest.raises(InputError, match="device"):
        choose_compute("cuda:99", "float32", loaded.spec)
    with pytest.raises(InputError, match="device"):
        stress(
            texture_reader.checkpoint, texture_reader.root, [TESTS["pooling"]],
            options=Options(device="nonsense"),
        )  # fmt: skip
