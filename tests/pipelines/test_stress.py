"""`wildrf stress` and `wildrf explain` as a user meets them, and their pages."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_1samp

from pipelines.explain import choose
from pipelines.report.stress import verdict
from schemas.policy import TrainPolicy
from train.stress import TESTS
from train.stress.counterfactuals import sentences
from train.training import train_detector

HOSTILE = "<img src=x onerror=alert(1)>&\"'.jpg"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def tags_of(html):
    parser = Tags()
    parser.feed(html)
    return parser.tags


def save(path, rng, quality, size=(64, 64)):
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    noise = rng.normal(0, 10, (*size[::-1], 3))
    Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(path, quality=quality)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A set whose classes differ in JPEG quality alone, and the run of a detector trained on it."""
    root, rng = tmp_path_factory.mktemp("known"), np.random.default_rng(0)
    for folder, count in (("train", 40), ("val", 10), ("test/x", 25)):
        for leaf, quality in (("0_real", 95), ("1_fake", 40)):
            (root / "set" / folder / leaf).mkdir(parents=True)
            for k in range(count):
                save(root / "set" / folder / leaf / f"{k}.jpg", rng, quality)
    save(root / "set/test/x/1_fake" / HOSTILE, rng, 40)
    recipe = TrainPolicy(
        detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=10, learning_rate=1e-2,
        fit="native", workers=2, device="cpu", precision="float32",
    )  # fmt: skip
    train_detector(root / "set", root / "run", recipe)
    return root


@pytest.fixture(scope="module")
def stressed(wildrf, known):
    """Everything, into the run's own folder."""
    answer = wildrf("stress", known / "run", known / "set", "--max-images", 50, "--json")
    return answer, known / "run/stress"


def test_all_tests_run_and_the_result_is_left_in_the_run(stressed):
    answer, place = stressed

    found = json.loads(answer.out)
    assert answer.code == 0
    assert set(found["tests"]) == {n for n, t in TESTS.items() if "rivals" not in t.needs}
    assert found["out"] == str(place)
    assert Path(found["report"]).is_file()
    record = json.loads((place / "stress.json").read_text())
    assert record["tests"] == found["tests"]


def test_the_verdict_against_a_format_reader_is_told_first_on_the_page(stressed):
    html = (stressed[1] / "stress.html").read_text()

    assert html.index("Exposed") < html.index("<h2")
    assert "reads the file format: AUC" in html
    assert all(f'id="{name}"' in html for name in json.loads(stressed[0].out)["tests"])


def test_the_pages_ask_nothing_of_the_network_and_run_no_script(stressed, explained):
    for page in (stressed[1] / "stress.html", explained[1] / "index.html"):
        html = page.read_text()
        found = tags_of(html)
        sources = [v for _, a in found for k, v in a.items() if k in ("src", "xlink:href")]
        assert all(source.startswith(("data:", "#")) for source in sources)
        assert "script" not in {tag for tag, _ in found}
        assert not any(name.startswith("on") for _, attributes in found for name in attributes)
        assert not re.search(r"url\((?!#)", html)


def test_tests_can_be_named_and_lines_for_people_have_n_and_interval(wildrf, known, tmp_path):
    answer = wildrf(
        "stress", known / "run", known / "set", "--test", "jpeg-fakes", "--test", "efficiency",
        "--max-images", 12, "--out", tmp_path,
    )  # fmt: skip

    assert answer.code == 0
    assert answer.out == ""
    assert re.search(r"fakes JPEG 70 +12 +\d\.\d{3} \[", answer.err)
    assert "1,297" in answer.err
    assert "jpeg-grid" not in answer.err
    assert list(json.loads((tmp_path / "stress.json").read_text())["tests"]) == [
        "efficiency",
        "jpeg-fakes",
    ]


def test_with_another_checkpoint_they_are_compared(wildrf, known, tmp_path):
    answer = wildrf(
        "stress", known / "run", known / "set", "--test", "patch-size", "--against", known / "run",
        "--max-images", 12, "--out", tmp_path, "--json",
    )  # fmt: skip

    rows = json.loads(answer.out)["tests"]["patch-size"]["rows"]
    assert [row["patch_px"] for row in rows] == [5, 5]
    assert [row["tested"] for row in rows] == [True, False]
    assert rows[1]["auc_change"] == {"value": 0, "low": 0, "high": 0}


def test_the_pooling_of_the_detector_is_marked_and_stands_first(stressed):
    html = (stressed[1] / "stress.html").read_text()
    pooling = html.partition('id="pooling"')[2].partition("<h2")[0]

    rows = json.loads(stressed[0].out)["tests"]["pooling"]["rows"]
    assert [row["name"] for row in rows][:2] == ["mean (its own)", "max"]
    assert rows[0]["auc_change"]["value"] == 0
    assert "<th>pooling</th>" in pooling
    assert "<td>mean (its own)</td>" in pooling


def test_the_settings_of_platforms_are_told_where_verdicts_flip_as_well(stressed):
    html = (stressed[1] / "stress.html").read_text()

    for name in ("delivery", "laundering"):
        part = html.partition(f'id="{name}"')[2].partition("<h2")[0]
        assert part.count("(measured)") == 2
        assert part.count("(assumed)") == 3


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--test", "nonsense"], "expected one of counterfactuals"),
        (["--test", "patch-size"], "name them with --against CKPT"),
        (["--device", "nonsense"], "device"),
        (["--against", "nowhere.pt"], "nowhere.pt does not exist"),
    ],
)
def test_bad_input_is_one_line(wildrf, known, tmp_path, extra, told):
    answer = wildrf("stress", known / "run", known / "set", "--out", tmp_path, *extra)

    assert answer.code == 2
    assert told in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_file_of_no_run_leaves_nothing_unless_told_where(wildrf, known, tmp_path):
    bare = tmp_path / "bare.pt"
    bare.write_bytes((known / "run/checkpoint.pt").read_bytes())

    answer = wildrf("stress", bare, known / "set", "--test", "pooling", "--max-images", 8)

    assert answer.code == 0
    assert "name a folder with --out" in answer.err
    assert list(tmp_path.iterdir()) == [bare]


@pytest.fixture(scope="module")
def explained(wildrf, known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    save(folder / "wide.jpg", rng, 90, size=(150, 70))
    save(folder / "tall.jpg", rng, 40, size=(60, 130))
    save(folder / HOSTILE, rng, 40)
    (folder / "broken.jpg").write_bytes(b"nothing")
    out = tmp_path_factory.mktemp("explained")
    return wildrf("explain", known / "run", folder, "--out", out, "--json"), out


def test_maps_are_at_the_size_of_each_picture_and_patches_have_source_place_and_logit(explained):
    answer, out = explained

    found = json.loads(answer.out)
    assert answer.code == 0
    by_name = {Path(row["path"]).name: row for row in found["images"]}
    assert (by_name["wide.jpg"]["width"], by_name["wide.jpg"]["height"]) == (150, 70)
    assert by_name["wide.jpg"]["grid"] == [33, 73]
    with Image.open(out / "maps" / f"{by_name['wide.jpg']['name']}.png") as drawn:
        assert drawn.height == 70
        assert drawn.width > 150
    logits = np.load(out / "maps" / f"{by_name['wide.jpg']['name']}.npy")
    best = by_name["wide.jpg"]["most_fake"][0]
    assert logits.max() == pytest.approx(best["logit"])
    assert logits[best["y"] // 2, best["x"] // 2] == pytest.approx(best["logit"])
    assert best["box"] == [best["x"], best["y"], best["x"] + 5, best["y"] + 5]
    for name in ("patches.png", "index.html", "explain.json"):
        assert (out / name).stat().st_size > 500
    assert found["smoothness"]["n"] == 3


def test_the_patches_of_the_sheet_are_those_that_say_most_of_all_pictures(explained):
    found = json.loads(explained[0].out)

    for kind, sign in (("fake", -1), ("real", 1)):
        chosen = [p["logit"] for p in found["patches"][kind]]
        every = [p["logit"] for row in found["images"] for p in row[f"most_{kind}"]]
        assert chosen == sorted(every, key=lambda v: sign * v)[: len(chosen)]


def test_a_hostile_name_is_text_and_a_broken_file_is_told(explained):
    answer, out = explained

    html = (out / "index.html").read_text()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    (skipped,) = json.loads(answer.out)["skipped"]
    assert skipped["path"].endswith("broken.jpg")


def test_the_logit_told_is_that_of_predict(wildrf, known, explained):
    found = json.loads(explained[0].out)["images"]

    for row in found:
        answer = wildrf("predict", known / "run", row["path"], "--json")
        assert json.loads(answer.out)["logit"] == pytest.approx(row["logit"], abs=1e-4)


def few(folder, rng, sizes):
    folder.mkdir(exist_ok=True)
    for k, size in enumerate(sizes):
        save(folder / f"{k:02d}.jpg", rng, 60, size)
    return folder


def test_without_a_place_the_pages_are_left_in_the_run(wildrf, known, tmp_path):
    pictures = few(tmp_path / "pictures", np.random.default_rng(1), [(70, 50)])
    shutil.copytree(known / "run", tmp_path / "run")

    answer = wildrf("explain", tmp_path / "run", pictures, "--json")

    assert json.loads(answer.out)["report"] == str(tmp_path / "run/explain/index.html")
    assert (tmp_path / "run/explain/maps/0000.png").is_file()


def test_a_checkpoint_of_no_run_needs_a_place(wildrf, known, tmp_path):
    bare = tmp_path / "bare.pt"
    bare.write_bytes((known / "run/checkpoint.pt").read_bytes())

    answer = wildrf("explain", bare, known / "set/test")

    assert answer.code == 2
    assert answer.err.strip().endswith("add --out DIR")
    assert list(tmp_path.iterdir()) == [bare]


def test_pictures_of_the_run_before_are_removed_and_no_other_file(wildrf, known, tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    few(pictures, np.random.default_rng(2), [(40, 40)] * 3)
    wildrf("explain", known / "run", pictures, "--out", out)
    for name in ("maps/mine.png", "grid/0007.png"):
        (out / name).write_bytes(b"mine")

    wildrf("explain", known / "run", pictures / "00.jpg", "--out", out)

    left = {
        f.relative_to(out).as_posix() for part in ("maps", "grid") for f in (out / part).iterdir()
    }
    assert left == {
        "maps/0000.png",
        "maps/0000.npy",
        "maps/mine.png",
        "grid/0000.png",
        "grid/0007.png",
    }


def test_an_interrupted_run_leaves_no_pictures_to_the_next(wildrf, known, tmp_path, monkeypatch):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    few(pictures, np.random.default_rng(2), [(40, 40)] * 3)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.report.explain.save_sheet", interrupted)
        wildrf("explain", known / "run", pictures, "--out", out)
    before = {f.name for f in (out / "maps").iterdir()}
    wildrf("explain", known / "run", pictures / "00.jpg", "--out", out)

    assert "0002.png" in before
    assert {f.name for f in (out / "maps").iterdir()} == {"0000.png", "0000.npy"}


def test_the_page_has_some_pictures_spread_over_all_and_says_how_many_more_there_are(
    wildrf, known, tmp_path
):
    pictures = few(tmp_path / "pictures", np.random.default_rng(3), [(24, 16)] * 26)

    answer = wildrf(
        "explain", known / "run", pictures, "--out", tmp_path, "--max-images", 100, "--json"
    )

    html = (tmp_path / "index.html").read_text()
    assert html.count('alt="map of patch logits') == 24
    assert "2 more" in html
    assert "picture by picture, of the 24 shown above." in html
    assert f'alt="map of patch logits over {pictures / "24.jpg"}"' in html
    assert len(json.loads(answer.out)["images"]) == 26
    assert len(list((tmp_path / "maps").glob("*.png"))) == 26


@pytest.mark.parametrize(
    ("reals", "fakes", "others", "most", "taken"),
    [
        (100, 100, 0, 24, (12, 12, 0)),
        (100, 3, 0, 24, (21, 3, 0)),
        (0, 0, 100, 24, (0, 0, 24)),
        (100, 100, 100, 24, (8, 8, 8)),
        (5, 7, 0, 24, (5, 7, 0)),
        (9, 9, 0, 1, (0, 1, 0)),
    ],
)
def test_of_too_many_pictures_as_many_of_each_class_are_explained_spread_over_all(
    reals, fakes, others, most, taken
):
    folders = (("set/test/x/0_real", reals), ("set/test/x/1_fake", fakes), ("loose", others))
    parts = [[Path(folder) / f"{k:03}.jpg" for k in range(n)] for folder, n in folders]
    found = [path for part in parts for path in part]

    chosen = choose(found, most)

    assert tuple(sum(path in part for path in chosen) for part in parts) == taken
    assert chosen == sorted(chosen, key=found.index)
    for part, count in zip(parts, taken, strict=True):
        if count > 1:
            assert {part[0], part[-1]} <= set(chosen)


def test_of_a_release_both_classes_are_explained_and_that_there_are_more_is_said(
    wildrf, known, tmp_path
):
    answer = wildrf(
        "explain", known / "run", known / "set/test", "--out", tmp_path, "--max-images", 4
    )

    assert answer.code == 0, answer.err
    rows = json.loads((tmp_path / "explain.json").read_text())["images"]
    assert [Path(row["path"]).parent.name for row in rows] == ["0_real"] * 2 + ["1_fake"] * 2
    assert (
        "4 of 51 pictures, spread over all and alike over the classes; --max-images" in answer.err
    )


def test_of_few_pictures_there_is_no_interval_and_that_is_said(wildrf, known, explained, tmp_path):
    picture = few(tmp_path / "pictures", np.random.default_rng(4), [(90, 60)]) / "00.jpg"

    answer = wildrf("explain", known / "run", picture, "--out", tmp_path)

    assert re.search(r"smoothness: [+-]0\.\d{3} \(mean of 1 image; too few for an", answer.err)
    assert "mean of 1 picture; too few for an interval" in (tmp_path / "index.html").read_text()
    assert json.loads(explained[0].out)["smoothness"]["low"] is None  # of three


def test_a_picture_a_few_patches_wide_is_explained(wildrf, known, tmp_path):
    few(tmp_path / "pictures", np.random.default_rng(6), [(200, 7), (5, 5)])

    answer = wildrf("explain", known / "run", tmp_path / "pictures", "--out", tmp_path, "--json")

    assert answer.code == 0, answer.err
    thin, tiny = json.loads(answer.out)["images"]
    assert thin["phase"][2:] == [[None] * 4] * 2
    assert tiny["grid"] == [1, 1]
    html = (tmp_path / "index.html").read_text()
    assert html[html.index("Place in the JPEG block") :].count('<td class="number">-</td>') == 8


def test_places_in_the_jpeg_block_have_n_and_interval_and_the_colours_are_those_of_the_maps(
    wildrf, known, tmp_path
):
    pictures = few(tmp_path / "pictures", np.random.default_rng(7), [(40, 30)] * 6)
    for k in range(22):
        (pictures / f"broken-{k}.jpg").write_bytes(b"nothing")

    answer = wildrf(
        "explain", known / "run", pictures, "--out", tmp_path, "--max-images", 100, "--json"
    )

    html = (tmp_path / "index.html").read_text()
    table = html.partition("Place in the JPEG block</h2>")[2].partition("</table>")[0]
    apart = [row["phase"][0][0] - row["mean_of_map"] for row in json.loads(answer.out)["images"]]
    low, high = ttest_1samp(apart, 0).confidence_interval()
    assert f'{np.mean(apart):+.3f}<br><span class="of">{low:+.3f} to {high:+.3f}<br>' in table
    assert table.count("n = 6<") == 16
    assert "and 2 more; explain.json lists them all" in html
    assert "rgb(109 141 219), white, rgb(219 109 109)" in html
    assert "4\u2009096 pixels a side at most" in html


def test_pictures_without_a_correlation_have_no_plot_of_it(wildrf, known, tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 60)).save(tmp_path / "pictures" / name)

    wildrf("explain", known / "run", tmp_path / "pictures", "--out", tmp_path)

    assert "<h2>Smoothness</h2>" not in (tmp_path / "index.html").read_text()


def test_the_grid_of_a_photo_turned_by_its_exif_is_that_of_its_file(wildrf, known, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 75), "gray").save(tmp_path / "turned.jpg", exif=exif)

    answer = wildrf("explain", known / "run", tmp_path / "turned.jpg", "--out", tmp_path, "--json")

    (row,) = json.loads(answer.out)["images"]
    assert (row["width"], row["height"]) == (75, 100)
    assert row["jpeg_grid"] == [3, 0]


@pytest.mark.parametrize("paths", [["nowhere"], ["."]])
def test_nothing_to_explain_is_one_line(wildrf, known, tmp_path, monkeypatch, paths):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    answer = wildrf("explain", known / "run", *paths, "--out", tmp_path / "out")

    assert answer.code == 2
    assert "expected" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 420])
@pytest.mark.parametrize("name", ["stress.html", "index.html"])
def test_the_pages_fit_the_window_and_every_picture_on_them_shows(
    browser, stressed, explained, scheme, width, name
):
    (page,) = (place / name for place in (stressed[1], explained[1]) if (place / name).exists())
    view = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    troubles: list[object] = []
    view.on("pageerror", lambda error: troubles.append(error))
    view.goto(page.resolve().as_uri())

    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert troubles == []
    view.close()


@pytest.mark.parametrize("outcome", ["fragile", "unclear", "no skill"])
def test_the_word_of_the_page_and_the_words_of_the_verdict_say_the_same(outcome):
    drops = {"exchanged": {"value": 0.25, "low": 0.04, "high": 0.45}}
    factors = [
        {"name": name, "outcome": told, "drops": drops}
        for name, told in (("coding", outcome), ("size", "holds"))
    ]
    words = " ".join(sentences(factors, {}))

    page = verdict({"factors": factors, "exposed": False, "verdict": words})

    assert page["word"] == "Not proven"
    assert words.startswith("Not proven")
    assert "changes little" not in words


def test_a_seed_below_zero_is_refused_before_anything_is_scored(wildrf, known):
    answer = wildrf("stress", known / "run", known / "set", "--seed", -1)

    assert answer.code == 2
    assert "--seed" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["stress", "capture"])
def test_every_line_of_the_help_text_begins_where_the_others_do(wildrf, verb):
    answer = wildrf(verb, "--help")

    text = (answer.out + answer.err).split("Options")[0].split("Arguments")[0]
    lines = [line for line in text.splitlines() if line.strip() and "Usage" not in line]
    assert len({len(line) - len(line.lstrip()) for line in lines}) == 1, text


def test_several_platforms_are_told_apart_and_in_the_mean_on_page_and_terminal(
    wildrf, known, tmp_path
):
    root, rng = tmp_path / "set", np.random.default_rng(3)
    for platform in ("reddit", "x"):
        for leaf, quality in (("0_real", 95), ("1_fake", 40)):
            (root / "test" / platform / leaf).mkdir(parents=True)
            for k in range(4):
                save(root / "test" / platform / leaf / f"{k}.jpg", rng, quality)

    answer = wildrf(
        "stress", known / "run", root, "--test", "delivery", "--test", "jpeg-fakes", "--out",
        tmp_path / "out",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    assert "AUC, mean of 2 platforms" in answer.err
    assert "16 of 16 images (16 of test;" in answer.err
    record = json.loads((tmp_path / "out/stress.json").read_text())
    row = record["tests"]["jpeg-fakes"]["rows"][0]
    assert {p: part["n"] for p, part in row["platforms"].items()} == {"reddit": 8, "x": 8}
    flips = record["tests"]["delivery"]["rows"][0]
    rates = [flips["platforms"][p]["flip_rate"]["value"] for p in ("reddit", "x")]
    assert flips["mean"]["flip_rate"]["value"] == pytest.approx(np.mean(rates))
    html = (tmp_path / "out/stress.html").read_text()
    assert "by platform" in html
    assert "mean, unweighted" in html
