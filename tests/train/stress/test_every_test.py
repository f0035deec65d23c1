"""What holds for every entry of the table of stress tests, and for the run that they share."""

import hashlib
import json
import re
import shutil
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from schemas.errors import InputError
from schemas.labels import Label
from train.checkpoint import load_detector
from train.config import choose_compute
from train.data import find_images
from train.evaluate import evaluate
from train.stress import TESTS
from train.stress import render as rendering
from train.stress.jpeg_quality import rendition
from train.stress.plan import AS_IT_IS, NATIVE, Condition, Picture, Plan, untouched
from train.stress.render import conditions_of, parts_of, render_all, render_part
from train.stress.run import Options, stress
from train.stress.sample import stratified, survey
from train.stress.scoring import set_up
from train.tiles import TILE
from train.transforms import normalise, to_batch

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


def test_native_scores_and_their_intervals_are_those_of_evaluate_on_each_platform_and_in_the_mean(
    texture_reader, tmp_path
):
    for platform in ("x", "y"):
        shutil.copytree(texture_reader.root / "test/x", tmp_path / "test" / platform)
    for k in range(30):  # another share of fakes on the second
        (tmp_path / f"test/y/1_fake/1-{k:03d}.jpg").unlink()
    paths = [item.path for item in find_images(tmp_path)]
    pq.write_table(
        pa.table({"path": paths, "group_id": [path[-7:] for path in paths]}),
        tmp_path / "manifest.parquet",
    )

    found = stress(
        texture_reader.checkpoint, tmp_path, [TESTS["jpeg-quality"]],
        options=Options(device="cpu", draws=1000),
    )  # fmt: skip

    native = found["tests"]["jpeg-quality"]["rows"][0]
    want = evaluate(texture_reader.checkpoint, tmp_path, draws=1000)
    pairs = [(native["platforms"][p], want["platforms"][p]) for p in ("x", "y")]
    for mine, theirs in [*pairs, (native["mean"], want["mean"])]:
        for metric in ("acc", "ap", "auc"):
            assert mine[metric]["value"] == pytest.approx(theirs[metric])
            ends = [mine[metric]["low"], mine[metric]["high"]]
            assert ends == pytest.approx(theirs["ci"][metric], abs=0.02)
    assert {p: part["n"] for p, part in native["platforms"].items()} == {"x": 80, "y": 50}
    assert found["data"]["grouping"] == want["groups"]["source"] == "manifest columns group_id"


def test_a_manifest_that_cannot_be_read_is_refused_in_words(texture_reader, tmp_path):
    shutil.copytree(texture_reader.root / "test", tmp_path / "test")
    (tmp_path / "manifest.parquet").write_bytes(b"no table")

    with pytest.raises(InputError, match=r"manifest\.parquet cannot be read as Parquet"):
        stress(texture_reader.checkpoint, tmp_path, [TESTS["pooling"]], options=OPTIONS)


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

    def count(image, preprocessing, real=rendering.to_rgb):
        decoded["pictures"] += 1
        return real(image, preprocessing)

    monkeypatch.setattr(rendering, "to_rgb", count)
    stress(texture_reader.checkpoint, texture_reader.root, ALONE, options=OPTIONS)

    assert decoded["pictures"] == 12


def test_renditions_that_come_out_alike_are_scored_once(plan):
    twins = [AS_IT_IS, *(Condition(f"twin-{k}", untouched) for k in range(5))]
    decoded: Future[Picture] = Future()
    decoded.set_result(picture_of(plan))

    found = render_part(0, decoded, plan.preprocessing, twins)

    assert len(found.pixels) == 1
    assert list(found.digests) == [condition.key for condition in twins]


def picture_of(plan):
    with Image.open(plan_root(plan)) as image:
        return Picture(0, plan.images[0], image.convert("RGB"), seed=0)


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


def test_pictures_are_rendered_only_a_few_ahead_of_the_detector(plan, monkeypatch):
    started = []
    real = rendering.render_part

    def note(index, *rest):
        started.append(index)
        return real(index, *rest)

    monkeypatch.setattr(rendering, "render_part", note)
    many = replace(plan, images=plan.images * 20)
    rendered = render_all(many, plan_root.root, [AS_IT_IS], [], workers=1)
    next(rendered)

    assert len(started) <= rendering.AHEAD + 1
    rendered.close()


def test_what_is_fed_whole_is_rendered_in_parts_and_what_is_small_all_together(plan):
    conditions = conditions_of(plan, ALONE)

    together = parts_of(plan, 0, plan.images[0], conditions)
    whole = replace(plan, preprocessing=replace(plan.preprocessing, fit="whole"))
    apart = parts_of(whole, 0, plan.images[0], conditions)

    assert len(together) == 1
    assert [condition for part in apart for condition in part] == together[0]
    assert all(len(part) == 1 for part in apart)


def test_the_device_is_chosen_as_elsewhere(texture_reader):
    loaded = load_detector(texture_reader.checkpoint)

    with pytest.raises(InputError, match="device"):
        choose_compute("cuda:99", "float32", loaded.spec)
    with pytest.raises(InputError, match="device"):
        stress(
            texture_reader.checkpoint, texture_reader.root, [TESTS["pooling"]],
            options=Options(device="nonsense"),
        )  # fmt: skip


def test_every_logit_is_left_with_its_picture_and_rendition(whole):
    found, out = whole

    rows = pq.read_table(out / "stress.parquet").to_pylist()

    native = [row for row in rows if row["condition"] == "native"]
    assert len(native) == found["data"]["sample"]["images"] == 12
    assert len({row["path"] for row in native}) == 12
    before = {row["path"]: row["logit"] > 0 for row in native}
    flipped = [
        before[row["path"]] != (row["logit"] > 0) for row in rows if row["condition"] == "via-x"
    ]
    assert np.mean(flipped) == found["tests"]["delivery"]["rows"][0]["flip_rate"]["value"]
    assert {row["label"] for row in rows if row["condition"] == "offset-3-3"} == {0, 1}


def test_every_test_runs_on_a_detector_that_is_fed_whole_pictures(whole_reader):
    found = stress(
        whole_reader.checkpoint, whole_reader.root, list(TESTS.values()),
        against=[whole_reader.checkpoint], options=Options(workers=2, device="cpu", draws=50),
    )  # fmt: skip

    tests = found["tests"]
    for name in TESTS:
        assert json.loads(json.dumps(tests[name], allow_nan=False)) == tests[name]
        assert list(figures_in(tests[name]))
    want = evaluate(whole_reader.checkpoint, whole_reader.root, draws=10)["platforms"]["x"]
    assert tests["jpeg-quality"]["rows"][0]["auc"]["value"] == pytest.approx(want["auc"])
    assert tests["preprocessing"]["own"] == "whole"
    assert tests["preprocessing"]["rows"][0]["name"] == "every pixel as it is (its own)"
    assert "resized" not in tests["jpeg-grid"]["phase_seen"]


def test_a_large_picture_is_scored_in_tiles(whole_reader, monkeypatch):
    bench = set_up(whole_reader.checkpoint, [], Options(device="cpu"))
    areas = []
    forward = type(bench.own.loaded.model).features

    def note(model, images):
        areas.append(images.shape[2] * images.shape[3])
        return forward(model, images)

    pixels = np.random.default_rng(0).integers(0, 256, (700, 1100, 3), dtype=np.uint8)
    monkeypatch.setattr(type(bench.own.loaded.model), "features", note)
    (tiled,) = bench.logits(bench.own, [pixels])

    assert len(areas) > 1
    assert max(areas) <= TILE * TILE
    with torch.inference_mode():
        fed = normalise(to_batch(pixels[None]), bench.own.loaded.preprocessing, torch.device("cpu"))
        assert tiled == pytest.approx(float(bench.own.loaded.model(fed)), abs=1e-4)


def test_a_picture_of_which_a_rendition_cannot_be_made_is_left_out_with_the_reason(
    texture_reader, tmp_path
):
    shutil.copytree(texture_reader.root / "test", tmp_path / "test")
    Image.new("L", (1, 70_000), 90).save(tmp_path / "test/x/0_real/tall.png")

    found = stress(
        texture_reader.checkpoint, tmp_path, [TESTS["jpeg-fakes"], TESTS["jpeg-quality"]],
        options=Options(device="cpu", draws=20),
    )  # fmt: skip

    ((path, reason),) = [(row["path"], row["reason"]) for row in found["data"]["skipped"]]
    assert path == "test/x/0_real/tall.png"
    assert re.match(r"jpeg-100 cannot be made of its 1 x 70000 pixels: .+", reason)
    assert found["tests"]["jpeg-fakes"]["rows"][0]["n"] == 80


def test_a_rival_whose_logits_are_no_numbers_is_refused_by_name(texture_reader, tmp_path):
    spoilt = torch.load(texture_reader.checkpoint, weights_only=True)
    broken = tmp_path / "spoilt.pt"
    for values in spoilt["weights"].values():
        values.fill_(float("nan")) if values.is_floating_point() else None
    torch.save(spoilt, broken)

    with pytest.raises(InputError, match=r"spoilt\.pt gives a logit that is no number"):
        stress(
            texture_reader.checkpoint, texture_reader.root, [TESTS["patch-size"]],
            against=[broken], options=OPTIONS,
        )  # fmt: skip


def test_a_small_sample_of_a_set_with_few_fakes_has_some(texture_reader, tmp_path):
    shutil.copytree(texture_reader.root / "test", tmp_path / "test")
    for k in range(2, 40):
        (tmp_path / f"test/x/1_fake/1-{k:03d}.jpg").unlink()

    found = stress(
        texture_reader.checkpoint, tmp_path, [TESTS["pooling"]],
        options=replace(OPTIONS, max_images=4),
    )  # fmt: skip

    assert found["data"]["sample"]["strata"] == {"x": {"real": 3, "fake": 1}}
    assert found["data"]["sample"]["splits"] == {"test": 4}


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_scored(
    texture_reader, tmp_path
):
    (tmp_path / "file").touch()
    done = []

    with pytest.raises(InputError, match="cannot be a run folder"):
        stress(
            texture_reader.checkpoint, texture_reader.root, [TESTS["pooling"]],
            out=tmp_path / "file", options=OPTIONS, on_image=lambda *n: done.append(n),
        )  # fmt: skip
    assert done == []


def test_without_test_images_those_of_val_are_sampled_never_those_of_train(
    texture_reader, tmp_path
):
    for split in ("train", "val"):
        shutil.copytree(texture_reader.root / split, tmp_path / split)

    found = stress(texture_reader.checkpoint, tmp_path, [TESTS["pooling"]], options=OPTIONS)

    assert found["data"]["sample"]["splits"] == {"val": 12}
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(InputError, match="under train and none to judge on"):
        stress(texture_reader.checkpoint, tmp_path, [TESTS["pooling"]], options=OPTIONS)
