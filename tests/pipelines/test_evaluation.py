"""The verbs that judge a detector, on a real folder with a real checkpoint, and their page in a browser."""

import html
import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from pipelines import evaluation
from pipelines.report import plots
from pipelines.report.evaluation import (
    DRAWN,
    TABLES,
    curves_of,
    figures_of,
    leak_context,
    open_questions,
    platform_table,
    platforms_drawn,
    remake_page,
    title_of,
    warnings_of,
    write_evaluation_page,
)
from pipelines.report.sections import (
    SHOWN,
    Left,
    sections_of,
    short_name,
    show_maps,
    show_stress,
)
from schemas.errors import InputError
from schemas.policy import TrainPolicy
from train.slices import SLICERS

HOSTILE = "<img src=x onerror=alert(1)>&.png"
LEAKED = "test/x/0_real/leaked.png"


def picture(rng, label, side=64):
    """Reals are smooth; fakes carry a grid."""
    smooth = rng.integers(60, 200, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 14, (side, side, 3))
    if label:
        noise = noise[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train, val, and two platforms; one test image is a copy of a training image, one is broken."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 24), ("test/reddit", 24), ("test/x", 6)):
        for label, leaf in enumerate(("0_real", "1_fake")):
            place = root / part / leaf
            place.mkdir(parents=True)
            for k in range(count):
                picture(rng, label).save(place / f"{part.replace('/', '-')}-{label}-{k}.png")
    shutil.copy(root / "train/0_real/train-0-3.png", root / LEAKED)
    picture(rng, 0).save(root / "test/x/0_real" / HOSTILE)
    (root / "test/x/1_fake/broken.png").write_bytes(b"broken")
    return root


@pytest.fixture(scope="module")
def run(wildrf, folder, tmp_path_factory):
    """A trained, calibrated and evaluated run, then stressed and explained."""
    from train.training import train_detector

    out = tmp_path_factory.mktemp("runs") / "first"
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=6, representation="NPR",
        learning_rate=1e-2, workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    train_detector(folder, out, recipe)
    evaluation.calibrate_folder(out / "checkpoint.pt", folder, "cpu", [0.01, 0.05])
    evaluation.evaluate_folder(
        out / "checkpoint.pt", folder, out / "evaluation", "cpu", draws=100, reencoded=True
    )
    named = [word for name in STRESSED for word in ("--test", name)]
    stressed = wildrf("stress", out, folder, *named, "--max-images", 24, "--device", "cpu")
    explained = wildrf(
        "explain", out, folder / "test/x/0_real", "--out", out / "explain", "--max-images", 3,
        "--device", "cpu",
    )  # fmt: skip
    assert (stressed.code, explained.code) == (0, 0), stressed.err + explained.err
    return out


STRESSED = ("counterfactuals", "jpeg-quality", "delivery", "jpeg-grid", "pooling", "efficiency")
"""One test of every figure."""


@pytest.fixture(scope="module")
def page(run):
    return (run / "evaluation/report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_a_copy_in_the_training_data_is_found_by_its_bytes_and_left_out(run):
    found = json.loads((run / "evaluation/metrics.json").read_text())["leaks"]

    assert found["images"] == [{"path": LEAKED, "kind": "same-bytes"}]
    assert found["without"]["platforms"]["x"]["n"] == 13
    assert "as the run's record says" in found["against"]


def test_a_copy_that_was_saved_again_takes_the_full_search(run, folder, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(folder / "test/reddit", root / "test/reddit")
    copy = root / "test/reddit/0_real/again.jpg"
    rng = np.random.default_rng(5)
    scene = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    original = Image.fromarray(scene).resize((256, 256), Image.Resampling.BICUBIC)
    (tmp_path / "learnt/train/0_real").mkdir(parents=True)
    original.save(tmp_path / "learnt/train/0_real/one.png")
    original.save(copy, quality=80)

    leaks = {
        by: evaluation.evaluate_folder(
            run / "checkpoint.pt", root, None, "cpu", draws=100,
            looking=evaluation.Looking(by, tmp_path / "learnt"),
        )["leaks"]
        for by in ("bytes", "full")
    }  # fmt: skip

    assert leaks["bytes"]["n"] == 0
    assert leaks["full"]["images"] == [{"path": "test/reddit/0_real/again.jpg", "kind": "near"}]
    assert "learnt, as named" in leaks["full"]["against"]


def looked_at(root, learnt, by, place):
    """The leaks of the pictures in `root` whose detector learnt from the folder `learnt`."""
    rows = [f"{path.relative_to(root)},0.5" for path in sorted(root.rglob("*.png"))]
    place.write_text("\n".join(["path,score", *rows]))
    looking = evaluation.Looking(by, learnt)
    return evaluation.evaluate_table(place, root, None, looking=looking, draws=20)["leaks"]


@pytest.fixture
def scenes(tmp_path):
    """Four pictures that were learnt from, two of each class; two others, and one learnt from, mirrored."""
    rng = np.random.default_rng(6)
    made = [
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (256, 256), Image.Resampling.BICUBIC
        )
        for _ in range(6)
    ]
    for leaf in ("0_real", "1_fake"):
        (tmp_path / "learnt/train" / leaf).mkdir(parents=True)
        (tmp_path / "set/test/x" / leaf).mkdir(parents=True)
    for k, scene in enumerate(made[:4]):
        scene.save(tmp_path / "learnt/train" / ("0_real", "1_fake")[k % 2] / f"{k}.png")
    made[4].save(tmp_path / "set/test/x/0_real/other.png")
    made[5].save(tmp_path / "set/test/x/1_fake/other.png")
    ImageOps.mirror(made[0]).save(tmp_path / "set/test/x/0_real/mirrored.png")
    return tmp_path


MIRRORED = [{"path": "test/x/0_real/mirrored.png", "kind": "mirror"}]


def test_the_full_search_finds_a_mirrored_copy_as_check_does(scenes):
    full = looked_at(scenes / "set", scenes / "learnt", "full", scenes / "s.csv")
    shutil.copytree(scenes / "learnt/train", scenes / "set/train")
    beside = looked_at(scenes / "set/test", scenes / "set", "full", scenes / "s.csv")

    assert full["images"] == MIRRORED
    assert beside["images"] == [{"path": "x/0_real/mirrored.png", "kind": "mirror"}]
    assert full["against"] == "learnt, as named"


@pytest.mark.parametrize("by", ["bytes", "full"])
def test_training_images_behind_a_link_to_a_folder_are_looked_at(scenes, by):
    shutil.copy(scenes / "learnt/train/1_fake/1.png", scenes / "set/test/x/1_fake/same.png")
    (scenes / "linked").mkdir()
    (scenes / "linked/train").symlink_to(scenes / "learnt/train")

    found = looked_at(scenes / "set", scenes / "linked", by, scenes / "s.csv")

    same = {"path": "test/x/1_fake/same.png", "kind": "same-bytes"}
    assert found["images"] == [*(MIRRORED if by == "full" else []), same]


@pytest.mark.parametrize("by", ["bytes", "full"])
def test_training_files_that_cannot_be_read_are_counted_and_stop_nothing(scenes, by):
    (scenes / "learnt/train/1_fake/away.png").symlink_to("nowhere.png")

    found = looked_at(scenes / "set", scenes / "learnt", by, scenes / "s.csv")

    assert found["images"] == (MIRRORED if by == "full" else [])
    assert found["against"] == ("learnt, as named, but for 1 of 5 files, which cannot be looked at")


def test_where_nobody_says_what_was_learnt_from_leaks_are_not_said_to_be_none(
    folder, run, tmp_path
):
    shutil.copy(run / "checkpoint.pt", tmp_path / "alone.pt")
    shutil.copytree(folder / "test", tmp_path / "set/test")

    found = evaluation.evaluate_folder(
        tmp_path / "alone.pt", tmp_path / "set", None, "cpu", draws=100
    )

    assert found["leaks"] is None
    assert any("not known what the detector learnt from" in x for x in evaluation._notes(found))
    assert any("Whether test images were learnt from" in q for q in open_questions(found))


def test_training_data_that_is_gone_stops_no_evaluation_unless_it_was_named(folder, run, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(run / "checkpoint.pt", tmp_path / "run")
    record = {"data": {"root": str(tmp_path / "emptied")}}
    (tmp_path / "run/config.json").write_text(json.dumps(record))
    (tmp_path / "emptied").mkdir()
    shutil.copytree(folder / "test", tmp_path / "set/test")
    checkpoint, root = tmp_path / "run/checkpoint.pt", tmp_path / "set"

    found = evaluation.evaluate_folder(checkpoint, root, None, "cpu", draws=100)

    assert found["leaks"] is None
    with pytest.raises(InputError, match="holds no image"):
        evaluation.evaluate_folder(
            checkpoint, root, None, "cpu", draws=100,
            looking=evaluation.Looking("bytes", tmp_path / "emptied"),
        )  # fmt: skip


def recorded(run, place, **data):
    """A copy of the checkpoint of `run` in `place`, whose record tells of `data`."""
    place.mkdir()
    shutil.copy(run / "checkpoint.pt", place)
    teacher = {"teacher": "a" * 64} if "teacher_roots" in data else {}
    (place / "config.json").write_text(json.dumps({"data": data, **teacher}))
    return place / "checkpoint.pt"


@pytest.fixture(scope="module")
def tested(folder, tmp_path_factory):
    """The test images of `folder` by themselves."""
    root = tmp_path_factory.mktemp("tested") / "set"
    shutil.copytree(folder / "test", root / "test")
    return root


def test_training_data_that_is_lost_is_named_beside_the_leaks_that_were_found(
    folder, run, tested, tmp_path
):
    sources = [{"root": str(folder)}, {"root": str(tmp_path / "lost")}]
    mixed = recorded(run, tmp_path / "mixed", root=str(folder), sources=sources)
    all_gone = recorded(run, tmp_path / "gone", root=str(tmp_path / "lost"))

    found = evaluation.evaluate_folder(mixed, tested, None, "cpu", draws=100)
    nothing = evaluation.evaluate_folder(all_gone, tested, None, "cpu", draws=100)

    assert found["leaks"]["n"] == 1
    assert found["leaks"]["against"] == (
        f"train and val of {folder.name}, as the run's record says (not found, so not looked in: lost)"
    )
    assert nothing["leaks"] is None
    assert "leaks: not looked for, as lost, which it learnt from, is not found" in (
        evaluation.evaluate_lines(nothing)
    )


def test_what_a_teacher_learnt_from_is_looked_in_or_named_as_not_recorded(
    folder, run, tested, tmp_path
):
    own = tmp_path / "own"
    shutil.copytree(folder / "val", own / "train")
    known = recorded(run, tmp_path / "known", root=str(own), teacher_roots=[str(folder)])
    blind = recorded(run, tmp_path / "blind", root=str(own), teacher_roots=[])

    found, unknown = (
        evaluation.evaluate_folder(student, tested, None, "cpu", draws=100)["leaks"]
        for student in (known, blind)
    )

    assert found["images"] == [{"path": LEAKED, "kind": "same-bytes"}]
    assert f"train and val of own, {folder.name}" in found["against"]
    assert unknown["n"] == 0
    assert "not looked in: what its teacher learnt from" in unknown["against"]


def test_leaks_that_were_not_asked_for_are_not_said_to_be_unknown(wildrf, run, tested):
    told = wildrf("evaluate", run, tested, "--leaks", "none", "--draws", 100, "--device", "cpu").err

    assert "leaks: not looked for, as --leaks none asks for" in told
    assert "not known what the detector learnt from" not in told


def test_a_set_without_test_is_judged_on_val_and_the_output_says_so(wildrf, run, folder, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(folder / part, tmp_path / "set" / part)
    shutil.copy(run / "checkpoint.pt", tmp_path / "alone.pt")

    answer = wildrf(
        "evaluate", tmp_path / "alone.pt", tmp_path / "set", "--draws", 100, "--device", "cpu",
        "--json",
    )  # fmt: skip

    found = json.loads(answer.out)
    assert found["data"]["splits"] == {"train": 48, "val": 48}
    assert found["leaks"]["against"].startswith("train of set, beside the judged images")
    assert found["leaks"]["n"] == 0
    (told,) = (line for line in evaluation.evaluate_lines(found) if line.startswith("images:"))
    assert told.startswith("images: val, as there is no test (train 48, val 48)")


def test_images_that_do_not_open_are_counted_by_platform_and_class_in_the_table(run):
    result = json.loads((run / "evaluation/metrics.json").read_text())

    lines = evaluation.evaluate_lines(result)

    assert result["skipped_by"] == {"x": {"real": 0, "fake": 1}}
    assert any(re.match(r"skipped test/x/1_fake/broken.png: does not decode", x) for x in lines)
    assert lines[0].split()[:3] == ["platform", "n", "skipped"]
    assert [line.split()[:4] for line in lines if line.startswith("x")] == [
        ["x", "14", "1", "fake"]
    ]


def test_a_set_without_splits_that_was_learnt_from_is_all_leak(folder, run, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(folder / "train", flat)

    found = evaluation.evaluate_folder(
        run / "checkpoint.pt", flat, None, "cpu", draws=100,
        looking=evaluation.Looking("bytes", folder),
    )  # fmt: skip

    assert found["leaks"]["n"] == 48
    assert found["leaks"]["without"] is None


def test_file_facts_and_label_certainty_are_read_from_header_and_manifest(tmp_path):
    from train.scores import ONE_EACH, ScoredSet

    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.new("RGB", (90, 40)).save(tmp_path / "a.jpg", quality=82, exif=exif)
    Image.new("RGB", (30, 30)).save(tmp_path / "b.png")
    rows = [{"path": "a.jpg", "agreement": 0.75, "votes": 4}, {"path": "b.png", "votes": 0}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    paths = ("a.jpg", "b.png")
    scored = ScoredSet(
        paths, paths, ("all",) * 2, np.array([0, 1]), np.zeros(2), (None,) * 2, ONE_EACH, {}
    )

    one, other = evaluation.facts_of(tmp_path)(scored)

    assert (one.format, one.width, one.height, one.quality) == ("JPEG", 90, 40, 82)
    assert (one.camera, one.certainty) == (True, 0.75)
    assert (other.format, other.quality, other.camera, other.certainty) == (
        "PNG", None, False, None,
    )  # fmt: skip


def test_the_page_shows_every_part_of_an_evaluation(page):
    for words in (
        "Platform by platform", "Ranking", "ACC calibrated", "TPR, 1% FPR", "ECE calibrated",
        "File facts matched", "Re-encoded to one format", "Leaks", "Reliability", "DET",
        "Thresholds with a promise", "Training", "Stress tests", "Heat maps",
        "What this cannot tell", "broken.png", "Read these numbers with care",
    ):  # fmt: skip
        assert words in page
    assert '<span class="line" title="0_real/&lt;img src=x' in page


def test_every_stress_test_is_on_the_page_with_its_plots_and_figures(run, page):
    tests = json.loads((run / "stress/stress.json").read_text())["tests"]
    flips, grid = tests["delivery"], tests["jpeg-grid"]
    told = html.unescape(page)
    parts = {n: told.partition(f'<h3 id="{n}">')[2].partition("<h3 id=")[0] for n in tests}

    assert set(tests) == set(STRESSED)
    for name, found in tests.items():
        assert found["title"] in parts[name]
        drawn = {"grid": 2, "none": 0, "words": 0}.get(found["figure"], 1)
        assert parts[name].partition("<h2>")[0].count("<svg") == drawn, name
    assert all(row["name"] in parts["delivery"] for row in flips["rows"])
    assert f"{flips['any']['value']:.3f} [" in parts["delivery"]
    assert f"{grid['spread']['value']:.3f} [" in parts["jpeg-grid"]
    assert "1,297" in parts["efficiency"].replace("\u2009", ",")
    assert tests["counterfactuals"]["verdict"] in told


def test_a_heat_map_is_told_by_its_picture_and_score(run, page):
    first, *_, last = json.loads((run / "explain/explain.json").read_text())["images"]

    assert f"</span>logit {first['logit']:+.2f}, called" in page
    assert f"0_real/{Path(last['path']).name}" in page
    assert page.count('alt="heat map of') == 3
    assert short_name("/home/someone/set/1_fake/a.jpg") == "1_fake/a.jpg"
    assert short_name("/home/someone/a.jpg") == short_name("a.jpg") == "a.jpg"


def test_of_many_heat_maps_some_are_shown_of_both_classes(run):
    found = json.loads((run / "explain/explain.json").read_text())
    first = found["images"][0]
    found["images"] = [
        {**first, "path": f"set/{leaf}/{k}.png"} for leaf in ("0_real", "1_fake") for k in range(10)
    ]

    shown = show_maps(Left(run / "explain", "", found))

    assert shown.count("<figure>") == SHOWN
    assert shown.count("heat map of 0_real/") == shown.count("heat map of 1_fake/")
    assert f"{SHOWN} of the 20 pictures" in shown


@pytest.fixture
def moved(run, tmp_path):
    """The run at another place, as it was before it was stressed and explained."""
    out = tmp_path / "moved"
    shutil.copytree(run, out)
    shutil.rmtree(out / "stress")
    shutil.rmtree(out / "explain")
    remake_page(out / "stress")
    return out


def test_the_page_of_an_evaluation_is_made_anew_by_the_verbs_that_have_a_part_in_it(
    wildrf, folder, moved
):
    page = moved / "evaluation/report.html"
    before = page.read_text()

    stressed = wildrf("stress", moved, folder, "--test", "pooling", "--max-images", 8, "--json")
    between = page.read_text()
    explained = wildrf(
        "explain",
        moved,
        folder / "test/reddit/1_fake",
        "--out",
        moved / "explain",
        "--max-images",
        1,
    )

    assert json.loads(stressed.out)["evaluation_report"] == str(page)
    assert f"page of the evaluation, made anew: {page}" in explained.err
    assert "Training" in before
    assert "Stress tests" not in before
    assert "Stress tests" in between
    assert "Heat maps" not in between
    assert "Heat maps" in page.read_text()


def test_what_is_of_other_weights_is_left_out_and_the_page_says_so(wildrf, folder, moved):
    wildrf("stress", moved, folder, "--test", "counterfactuals", "--max-images", 8)
    file = moved / "stress/stress.json"
    stress = json.loads(file.read_text())
    stress["tests"]["counterfactuals"] |= {"exposed": True, "verdict": "It reads the <format>."}
    mine = stress["checkpoint"]["sha256"]

    file.write_text(json.dumps(stress))
    same = remake_page(moved / "stress").read_text()
    stress["checkpoint"]["sha256"] = "0123456789abcdef" * 4
    file.write_text(json.dumps(stress))
    other = remake_page(moved / "stress").read_text()

    assert "It reads the &lt;format&gt;." in same[: same.index("Platform by platform")]
    assert "It reads the" not in other
    assert f"is of checkpoint 0123456789abcdef, not of {mine[:16]}, which was evaluated" in other
    assert "<h3 id=" not in other


def test_a_page_on_simulated_data_says_so_still_when_it_is_made_anew(moved):
    file = moved / "evaluation/metrics.json"
    plain = (moved / "evaluation/report.html").read_text()
    file.write_text(json.dumps({**json.loads(file.read_text()), "simulated": True}))

    again = remake_page(moved / "explain").read_text()

    assert "Simulated data." in again
    assert "Simulated data." not in plain


def test_no_page_is_made_where_there_is_no_evaluation(run, tmp_path):
    shutil.copy(run / "metrics.json", tmp_path)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/metrics.json").write_text("[]")

    assert remake_page(tmp_path / "stress") is None
    assert not (tmp_path / "report.html").exists()


def test_what_a_stress_test_is_called_is_text(run):
    stress = json.loads((run / "stress/stress.json").read_text())
    stress["tests"]["pooling"]["title"] = "<b>Pooling"
    stress["tests"]["pooling"]["rows"][0]["name"] = "<i>mean"

    shown = show_stress(Left(run / "stress", "", stress))

    assert "&lt;b&gt;Pooling" in shown
    assert "&lt;i&gt;mean" in shown
    assert "<b>Pooling" not in shown
    assert "<i>mean" not in shown


def checkpoint_row(name, *, tested, patch_px):
    same = {"value": 0.8, "low": 0.7, "high": 0.9}
    return {
        "name": name, "tested": tested, "patch_px": patch_px, "representation": "NPR", "n": 40,
        "acc": same, "ap": same, "auc": same, "auc_change": same,
    }  # fmt: skip


def test_the_table_of_checkpoints_says_which_one_is_tested_and_what_they_see(run):
    found = json.loads((run / "stress/stress.json").read_text())
    rows = [
        checkpoint_row("rival", tested=False, patch_px=5),
        checkpoint_row("mine", tested=True, patch_px=9),
    ]
    told = {"title": "Side by side", "source": "", "figure": "dots", "each": "checkpoint"}
    found["tests"] = {"patch-size": {**told, "rows": rows}}

    shown = show_stress(Left(run / "stress", "", found))

    assert "<th>checkpoint</th>" in shown
    assert '<td>rival<br><span class="of">patch 5 x 5 px, NPR</span></td>' in shown
    assert '<td>mine (tested)<br><span class="of">patch 9 x 9 px, NPR</span></td>' in shown
    assert "AUC against the tested" in shown
    assert ">mine (tested)</text>" in shown


def test_a_page_asks_nothing_of_the_network_runs_no_script_and_escapes_names(page):
    parser = Tags()
    parser.feed(page)
    sources = [
        v for _, a in parser.tags for k, v in a.items() if k in ("src", "href", "xlink:href")
    ]

    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "script" not in {tag for tag, _ in parser.tags}
    assert not any(name.startswith("on") for _, a in parser.tags for name in a)
    assert "<img src=x" not in page
    assert "<b>quality" not in page


def test_no_place_of_this_machine_is_on_the_page(page, folder, run):
    assert str(folder) not in page
    assert str(run) not in page


def test_the_same_evaluation_gives_the_same_page(run, page, tmp_path):
    result = json.loads((run / "evaluation/metrics.json").read_text())

    again = write_evaluation_page(result, run / "evaluation", run=run).read_text()

    assert again == page


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_opens_in_a_real_browser_without_a_complaint(run, browser, scheme, width):
    tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("request", lambda request: said.append(request.url))

    tab.goto((run / "evaluation/report.html").as_uri())

    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert [s for s in said if not s.startswith(("file:", "data:"))] == []
    tab.close()


def test_a_run_without_stress_tests_has_no_such_section(tmp_path):
    assert sections_of([tmp_path], "0" * 64) == []
    (tmp_path / "stress.json").write_text("not json")
    (tmp_path / "explain.json").write_text("{}")
    assert sections_of([tmp_path], "0" * 64) == []


@pytest.mark.parametrize("by", [*SLICERS, "time_of_day"])
def test_every_slice_has_a_title_also_one_that_was_added_after(by):
    assert title_of(by)[0].isupper()
    assert "_" not in title_of(by)


def test_the_platforms_that_a_detector_is_worst_on_are_drawn_and_the_others_named():
    areas = {f"p{k}": 0.9 - k / 100 for k in range(DRAWN + 2)} | {"bare": None}
    result = {"platforms": {name: {"auc": area} for name, area in areas.items()}}

    drawn, told = platforms_drawn(result)

    assert drawn == ["p7", "p6", "p5", "p4", "p3", "p2"]
    assert told == (
        "Drawn: the 6 platforms with the lowest AUC. Without a curve: p1, p0, bare (one class only)."
    )
    assert platforms_drawn({"platforms": {"x": {"auc": 0.5}}}) == (["x"], "")


def test_what_a_mean_leaves_out_and_who_took_its_interval_is_told():
    from train.measure import Asked, Leaks, measure
    from train.scores import ONE_EACH, ScoredSet
    from train.slices import ImageFacts

    labels = np.array([*[0, 1] * 60, *[1] * 40, *[0, 1] * 10])
    paths = tuple(f"{k:03d}.jpg" for k in range(180))
    platforms = ("a",) * 120 + ("b",) * 40 + ("c",) * 20
    groups = (None,) * 160 + ("one account",) * 20
    logits = np.random.default_rng(0).normal(labels)
    scored = ScoredSet(paths, paths, platforms, labels, logits, groups, ONE_EACH, {})
    asked = Asked(
        facts=[ImageFacts("JPEG", 600, 400, 90)] * 180,
        leaks=Leaks(dict.fromkeys(paths[160:], "near"), "hash", "train"),
        draws=50,
    )

    judged = {
        "skipped": [], "skipped_by": {}, "leaks_note": None, "calibrated_on": None, "checkpoint": {},
        "data": {"n": 180, "split": "test", "splits": {"test": 180}},
    }  # fmt: skip
    told = "\n".join(evaluation.evaluate_lines({**measure(scored, asked), **judged}))

    assert "mean AP and AUC: over 2 of 3 platforms, as the others have images of one class" in told
    assert "no interval of the mean, as c has none: the images of a class there are one" in told
    assert re.search(r"file facts matched: AP .*, over 1 of 3 platforms, without b, c\n", told)
    assert re.search(r"AP without them .*, over 1 of 3 platforms, without c$", told)


def report_over(total, tpr):
    """A mean of which AP is over one platform less, and TPR over `tpr`."""

    def of_each(value, rate):
        every = dict.fromkeys(("ap", "auc", "acc", "eer"), value)
        return {**every, "tpr_at_fpr": dict.fromkeys(("0.01", "0.05"), rate)}

    return {
        **of_each(0.9, 0.5),
        "ci": of_each((0.8, 0.95), None),
        "n_platforms": {**of_each(total, tpr), "ap": total - 1},
        "no_interval": [],
    }


def test_each_mean_of_the_page_says_over_how_many_platforms_it_is():
    platform = {"n_real": 5, "n_fake": 5, "n_groups": 10, **report_over(2, 1)}
    result = {
        "platforms": {"a": platform, "b": platform},
        "mean": report_over(2, 1),
        "groups": {"images": 20, "n": 20},
        "calibration": None,
    }

    notes = {figure["name"]: figure["note"] for figure in figures_of(result)}
    *_, mean = platform_table("Ranking", TABLES["Ranking"], result)["rows"]

    assert notes["Mean AP"].endswith("; over 1 of 2 platforms")
    assert notes["Mean ACC at 0.5"].endswith("; over 2 platforms")
    assert mean["name"] == "mean, over 2 platforms"
    told = dict(zip(TABLES["Ranking"], (cell["over"] for cell in mean["cells"]), strict=True))
    few = "over 1 of 2 platforms"
    assert told == {"ap": few, "auc": "", "tpr 0.01": few, "tpr 0.05": few, "eer": ""}


def test_the_page_names_the_run_the_set_and_the_recipe(page, folder):
    assert "<h1>first</h1>" in page
    assert re.search(r"tiny-ladeda, epoch \d, seed 0, <code>[0-9a-f]{16}</code>, judged on", page)
    assert f"judged on {folder.name}, images <code>" in page
    recipe = html.unescape(page.partition("<summary>Recipe</summary>")[2].partition("</p>")[0])
    assert '"learning_rate": 0.01' in recipe


def test_the_curve_of_other_weights_is_not_drawn_and_the_page_says_so(moved):
    before = (moved / "evaluation/report.html").read_text()
    result = json.loads((moved / "evaluation/metrics.json").read_text())
    result["checkpoint"]["path"] = str(moved / "checkpoint.pt")
    (moved / "evaluation/metrics.json").write_text(json.dumps(result))
    with (moved / "checkpoint.pt").open("ab") as checkpoint:
        checkpoint.write(b"trained on")

    after = remake_page(moved / "stress").read_text()

    assert 'aria-label="cross-entropy per image, nats over epoch"' in before
    assert "over epoch" not in after
    assert "the folder of the run holds other weights by now" in after


def test_the_two_losses_of_a_student_are_on_axes_of_their_own():
    rows = [{"loss": 4.0 - k, "val_loss": 0.7, "val": {"ap": 0.5, "acc": None}} for k in range(2)]

    taught = curves_of(rows, {"teacher": "0" * 64})
    trained = curves_of(rows, {})

    assert (len(taught), len(trained)) == (3, 2)
    assert "train: squared error per patch logit" in taught[0]
    assert "val: cross-entropy per image, nats" in taught[1]
    assert ">cross-entropy per image, nats<" in trained[0]


def test_pooled_plots_say_so_and_the_larger_dots_of_a_reliability_plot_have_a_key(run, page):
    told = page.partition("<h3>Reliability</h3>")[2]

    assert told.startswith('<p class="soft">All platforms together, n = 62; the larger a dot')
    assert re.search(r">as it is \(largest: n = \d+\)<", told)
    assert '<h3>Logits</h3><p class="soft">All platforms together, n = 62.' in told


def test_a_platform_whose_name_begins_with_an_underscore_is_in_the_legend():
    texts = [e.text for e in ET.fromstring(plots.rocs({"_x": CURVES["a"]})).iter()]

    assert "_x" in texts


def test_of_scores_from_outside_nothing_is_advised_that_they_cannot_do(
    wildrf, run, folder, tmp_path
):
    file = foreign_scores(run, tmp_path / "theirs.parquet")

    wildrf("evaluate", "--scores", file, folder, "--out", tmp_path / "out", "--draws", 100)

    told = (tmp_path / "out/report.html").read_text()
    asked = told.partition("What this cannot tell")[2]
    assert "<h1>theirs.parquet</h1>" in told
    assert "scores from outside are judged as they are" in asked
    assert "--reencoded" not in asked
    assert "wildrf calibrate" not in asked


def test_where_every_image_was_learnt_from_no_others_are_to_be_quoted():
    leaks = {"n": 2, "against": "train", "how": "bytes", "images": [], "without": None}

    words = leak_context({"leaks": leaks, "platforms": {"x": {}}})["words"]

    assert "Quote" not in words
    assert "Nothing is left without them" in words


def test_numbers_that_the_file_may_explain_are_warned_of():
    result = {
        "platforms": {"x": {"n_real": 60, "n_fake": 60}},
        "matched": {
            "platforms": {"x": {"too_few": True, "n_matched": 0.0, "n_of": 120}},
            "gap": None,
        },
        "rescored": {"gap": {"auc": {"difference": -0.2, "ci": [-0.3, -0.1]}}},
        "leaks": {"n": 2, "against": "train"},
        "promises": [
            {"platform": "x", "fpr": 0.3, "rate": 0.0004, "kept": False},
            {"platform": "y", "fpr": 0.025, "rate": 0.01, "kept": True},
        ],
    }

    told = " ".join(warnings_of(result))

    assert "x: only 0 of 120 images" in told
    assert "-0.200 [-0.300, -0.100]: at most so much of it is the file. The rest may be" in told
    assert "2 test images are also in train" in told
    assert (
        "x: 30% of the reals lie above the threshold that promised 0.04%; they are unlike" in told
    )
    assert "y: 2.5%" not in told


def test_a_promise_within_the_bound_of_its_calibration_is_not_called_broken(run, tmp_path):
    result = json.loads((run / "evaluation/metrics.json").read_text())
    promise = {
        "rate": 0.0004, "threshold": 1.0, "bound": 0.0012, "platform": "reddit", "n_real": 9000,
        "fpr": 0.0008, "ci": [0.0005, 0.0014], "above": True, "kept": True,
    }  # fmt: skip
    broken = promise | {"platform": "x", "fpr": 0.25, "ci": [0.2, 0.3], "kept": False}
    result["promises"] = [promise, broken]
    shutil.copy(run / "evaluation/scores.parquet", tmp_path)

    page = write_evaluation_page(result, tmp_path).read_text()
    told = evaluation.evaluate_lines(result)

    table = page.partition("What came of it on these images")[2]
    within, past = (row for row in table.split("<tr>") if "0.04%" in row)
    assert "0.08%" in within
    assert "above the rate, within what this calibration set allows" in within
    assert "broken" not in within
    assert "broken: these reals are unlike those of the calibration" in past
    assert (
        "reddit: 0.0008 of 9000 reals are above the threshold that promised 0.0004: within what this "
        "calibration set allows, 0.0012 with 95 % confidence" in told
    )
    assert any(x.endswith("0.0004: they are unlike those of the calibration") for x in told)
    assert not any(x.startswith("reddit:") and "reals lie above" in x for x in warnings_of(result))


def test_what_files_made_alike_cost_is_no_proof_that_the_file_is_read(run, page, tmp_path):
    result = json.loads((run / "evaluation/metrics.json").read_text())
    result["checkpoint"]["foreign"], result["rescored"] = True, None
    shutil.copy(run / "evaluation/scores.parquet", tmp_path)

    theirs = write_evaluation_page(result, tmp_path).read_text()

    for one in (page, theirs):
        assert "What it loses here is the most that it can owe to the file" in one
    assert "looks into which it is" in page
    assert "looks into which it is" not in theirs  # scores alone cannot be stressed


def test_runs_are_compared_and_other_images_refused(wildrf, run, folder, tmp_path):
    scores = pq.read_table(run / "evaluation/scores.parquet")
    better = scores.set_column(
        scores.column_names.index("logit"), "logit",
        pa.array([4.0 * y - 2 for y in scores["label"].to_pylist()]),
    )  # fmt: skip
    pq.write_table(better, tmp_path / "best.parquet")
    pq.write_table(scores.slice(3), tmp_path / "fewer.parquet")

    answer = wildrf("compare", run, tmp_path / "best.parquet", "--json")
    refused = wildrf("compare", run, tmp_path / "fewer.parquet")

    found = json.loads(answer.out)["comparisons"][0]
    assert (found["a"], found["b"]) == ("first", "best.parquet")
    assert set(found["parts"]) == {"reddit", "x", "mean"}
    assert found["parts"]["mean"]["acc"]["b"] == 1.0
    assert found["mcnemar"]["only_a"] == 0
    told = wildrf("compare", run, tmp_path / "best.parquet").err
    ap = found["parts"]["x"]["ap"]
    assert re.search(rf"^x +14 +AP +{ap['a']:.3f} +1\.000 +\+0\.", told, re.MULTILINE)
    assert "intervals: 95 %, 62 groups of 62 images (one image, one group)" in told
    assert refused.code == 2
    assert "about different images" in refused.err


def test_scores_of_another_detector_take_a_file_and_a_folder(wildrf, run, folder, tmp_path):
    scores = pq.read_table(run / "evaluation/scores.parquet").select(["path", "score"])
    (tmp_path / "set").mkdir()
    shutil.copytree(folder / "test/reddit", tmp_path / "set/test/reddit")
    kept = [p.startswith("test/reddit/") for p in scores["path"].to_pylist()]
    pq.write_table(scores.filter(pa.array(kept)), tmp_path / "s.parquet")

    answer = wildrf(
        "evaluate", "--scores", tmp_path / "s.parquet", tmp_path / "set", "--out",
        tmp_path / "out", "--draws", 100, "--json",
    )  # fmt: skip
    misused = wildrf("evaluate", "--scores", tmp_path / "s.parquet", run, tmp_path / "set")
    alone = wildrf("evaluate", tmp_path / "set")

    found = json.loads(answer.out)
    assert found["platforms"]["reddit"]["n"] == 48
    assert Path(found["report"]).is_file()
    assert misused.code == alone.code == 2
    assert "expected DIR alone beside --scores FILE" in misused.err
    assert "expected CKPT and DIR" in alone.err


@pytest.mark.parametrize("verb", ["compare", "matrix"])
def test_a_run_that_is_named_in_two_ways_is_named_twice(wildrf, run, monkeypatch, verb):
    monkeypatch.chdir(run.parent)

    answer = wildrf(verb, run.name, run)

    assert answer.code == 2
    assert f"{run.name} is named twice; expected different runs" in answer.err


def test_a_comparison_says_over_how_many_platforms_each_mean_is():
    from train.compare import compare
    from train.scores import ONE_EACH, ScoredSet

    labels = np.array([0, 1] * 30 + [1] * 20)
    names = tuple(f"{k:02d}" for k in range(80))
    platforms = ("both",) * 60 + ("fakes",) * 20
    one, other = (
        ScoredSet(
            names, names, platforms, labels, np.random.default_rng(k).normal(labels),
            (None,) * 80, ONE_EACH, {},
        )
        for k in range(2)
    )  # fmt: skip

    found = compare({"a": one, "b": other}, draws=50)
    told = evaluation.compare_lines(found)

    assert found["images"]["platforms"] == {
        "both": {"n": 60, "n_real": 30, "n_fake": 30},
        "fakes": {"n": 20, "n_real": 0, "n_fake": 20},
    }
    mean = found["comparisons"][0]["parts"]["mean"]
    assert {key: mean[key]["n_platforms"] for key in mean} == {"acc": 2, "ap": 1, "auc": 1}
    assert (
        "mean AP and AUC: over 1 of 2 platforms, as the others have images of one class alone"
        in told
    )


def test_runs_that_were_only_trained_are_not_compared_by_their_validation_scores(
    wildrf, run, tmp_path
):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(run / "scores.parquet", tmp_path / name)

    answer = wildrf("compare", tmp_path / "a", tmp_path / "b")

    assert answer.code == 2
    assert "validation scores that chose the checkpoint" in answer.err
    assert f"wildrf evaluate {tmp_path / 'a'} DIR --out" in answer.err


def foreign_scores(run, place):
    """The scores of the run as another detector would give them, of a picture that did not open too."""
    rows = pq.read_table(run / "evaluation/scores.parquet").select(["path", "score"]).to_pylist()
    rows.append({"path": "test/x/1_fake/broken.png", "score": 0.9})
    pq.write_table(pa.Table.from_pylist(rows), place)
    return place


def test_a_picture_that_only_another_detector_could_open_stands_in_no_comparison(
    wildrf, run, folder, tmp_path
):
    file = foreign_scores(run, tmp_path / "s.parquet")
    judged = wildrf("evaluate", "--scores", file, folder, "--out", tmp_path / "theirs")

    answer = wildrf("compare", run, tmp_path / "theirs", "--json")

    assert "scores read as score: P(fake), fake above 0.5" in judged.err
    found = json.loads(answer.out)
    assert found["images"]["dropped"] == ["test/x/1_fake/broken.png"]
    assert found["images"]["n"] == 62
    assert evaluation.compare_lines(found)[0] == (
        "left out of all: 1 images that not every detector could open, such as "
        "test/x/1_fake/broken.png"
    )


def test_scores_of_another_detector_do_not_take_the_place_of_a_training(
    wildrf, run, folder, tmp_path
):
    before = {name: (run / name).read_bytes() for name in ("scores.parquet", "metrics.json")}
    file = foreign_scores(run, tmp_path / "s.parquet")

    answer = wildrf("evaluate", "--scores", file, folder, "--out", run)

    assert answer.code == 2
    assert "use --out" in answer.err
    assert {name: (run / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("option", [("--reencoded",), ("--device", "cpu")])
def test_an_option_that_scores_cannot_follow_is_refused(wildrf, run, folder, tmp_path, option):
    file = foreign_scores(run, tmp_path / "s.parquet")

    answer = wildrf("evaluate", "--scores", file, folder, *option)

    assert answer.code == 2
    assert f"{option[0]} cannot be had with --scores" in answer.err


def test_a_score_file_in_the_folder_of_a_run_is_not_taken_for_its_scores(
    wildrf, run, folder, tmp_path
):
    learnt = tmp_path / "learnt"
    shutil.copytree(folder / "train", learnt / "train/x")
    recorded(run, tmp_path / "other", root=str(learnt))
    file = foreign_scores(run, tmp_path / "other/theirs.parquet")
    wildrf("evaluate", "--scores", file, folder, "--out", tmp_path / "theirs")

    answer = wildrf("matrix", run, tmp_path / "theirs", "--json")

    second = json.loads(answer.out)["rows"][1]
    assert second["trained_on"] == []
    assert second["cells"]["x"]["seen"] is None


def test_calibrate_says_what_it_promises_and_leaves_it_beside_the_checkpoint(
    wildrf, run, folder, tmp_path
):
    shutil.copy(run / "checkpoint.pt", tmp_path / "own.pt")

    told = wildrf("calibrate", tmp_path / "own.pt", folder, "--fpr", 0.1, "--device", "cpu")
    found = json.loads(
        wildrf("calibrate", tmp_path / "own.pt", folder, "--device", "cpu", "--json").out
    )

    assert "at most 0.1 of new reals called fake: threshold" in told.err
    assert "on the very images that set them (in-sample)" in told.err
    assert Path(found["path"]) == tmp_path / "own.calibration.json"
    assert [row["rate"] for row in found["conformal"]] == [0.01, 0.05]
    assert found["conformal"][0] == {
        "rate": 0.01, "threshold": None, "n_real": 24, "needs": 99, "rate_bound": None,
        "n_groups": 24,
    }  # fmt: skip


def test_verdicts_that_would_err_too_often_are_undecided_and_evaluate_says_how_many(
    wildrf, run, folder, tmp_path
):
    shutil.copy(run / "checkpoint.pt", tmp_path / "own.pt")
    own = tmp_path / "own.pt"

    told = wildrf("calibrate", own, folder, "--undecided", 0.05, "--device", "cpu")
    judged = wildrf("evaluate", own, folder, "--draws", 100, "--device", "cpu", "--json")
    rows = wildrf("predict", own, folder / "test/x", "--device", "cpu", "--json").out.splitlines()
    refused = wildrf("calibrate", own, folder, "--undecided", 0.01, "--device", "cpu")

    assert "at most 0.05 of new reals called fake and of new fakes called real" in told.err
    result = json.loads(judged.out)
    found = result["undecided"]
    assert (found["rate"], found["platforms"]["x"]["n"]) == (0.05, 14)
    assert any("undecided of 14; of the others ACC" in x for x in evaluation.evaluate_lines(result))
    verdicts = [row["verdict"] for row in map(json.loads, rows) if "verdict" in row]
    share = verdicts.count("undecided") / len(verdicts)
    assert found["platforms"]["x"]["share"] == pytest.approx(share)
    assert refused.code == 2
    assert "expected at least 99 of each" in refused.err


def test_a_matrix_marks_the_platform_a_run_was_trained_on(wildrf, run, folder, tmp_path):
    other = tmp_path / "second"
    shutil.copytree(run, other)
    learnt = tmp_path / "nested"
    shutil.copytree(folder / "train/0_real", learnt / "train/x/0_real")
    shutil.copytree(folder / "train/1_fake", learnt / "train/x/1_fake")
    record = json.loads((run / "config.json").read_text())
    record["data"] = {"root": str(learnt)}
    (other / "config.json").write_text(json.dumps(record))

    answer = wildrf("matrix", run, other, "--report", tmp_path / "matrix.html", "--json")

    found = json.loads(answer.out)
    assert found["platforms"] == ["reddit", "x"]
    first, second = found["rows"]
    assert (first["trained_on"], second["trained_on"]) == ([], ["x"])
    assert second["cells"]["x"]["seen"]
    assert first["cells"]["x"]["seen"] is None
    assert found["shared"] == ["reddit", "x"]
    assert second["unseen"]["ap"] == second["cells"]["reddit"]["ap"]
    shown = (tmp_path / "matrix.html").read_text()
    assert "color-mix" in shown
    known, unknown = found["rows"][1]["cells"]["x"], found["rows"][0]["cells"]["x"]
    assert f"{known['ap']:.3f} &#9679;" in shown
    assert f"{unknown['ap']:.3f} ?" in shown
    assert "a question mark those of which nobody knows" in shown


@pytest.mark.parametrize("verb", ["compare", "matrix"])
def test_a_folder_without_an_evaluation_is_one_clear_line(wildrf, tmp_path, verb):
    answer = wildrf(verb, tmp_path, tmp_path / "no")

    assert answer.code == 2
    assert "holds no scores.parquet" in answer.err
    assert answer.err.count("\n") == 1


def test_a_way_to_look_for_leaks_that_is_not_known_is_refused(wildrf, run, folder):
    answer = wildrf("evaluate", run, folder, "--leaks", "some")

    assert answer.code == 2
    assert "--leaks is 'some'; expected bytes, full, none; name one of them" in answer.err


def test_an_evaluation_does_not_take_the_place_of_a_training(wildrf, run, folder):
    before = (run / "scores.parquet").read_bytes()

    answer = wildrf("evaluate", run, folder, "--out", run)

    assert answer.code == 2
    assert "use --out" in answer.err
    assert (run / "scores.parquet").read_bytes() == before


CURVES = {"a": (np.array([0.0, 0.01, 0.2, 1.0]), np.array([0.0, 0.5, 0.9, 1.0]))}
NEW_PLOTS = {
    "rocs": lambda: plots.rocs(CURVES),
    "det": lambda: plots.det(CURVES),
    "reliability": lambda: plots.reliability(
        {"as it is": [{"n": 3, "predicted": 0.2, "observed": 0.3}]}
    ),
}


@pytest.mark.parametrize("name", NEW_PLOTS)
def test_a_plot_is_one_svg_element_the_same_each_time(name):
    svg = NEW_PLOTS[name]()

    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == NEW_PLOTS[name]()
    assert plots.INK not in svg


def test_an_epoch_without_a_loss_is_a_gap_in_the_curve():
    def drawn(middle):
        return plots.curves({"train": [0.7, middle, 0.5]}, x_label="epoch", y_label="loss")

    assert drawn(None) == drawn(float("nan"))
    assert drawn(None) != drawn(0.0)
