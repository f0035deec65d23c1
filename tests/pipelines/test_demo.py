"""The whole demo on a small world: it finds what was planted, and its page shows it in a real browser."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from curate.catalog import Catalog
from curate.simulated import WorldSpec
from curate.work import Serial
from pipelines import demo
from pipelines.report.dedupe import measured
from pipelines.report.demo import COPIES, PAIRS
from pipelines.report.maps import chosen, heat_maps, pooled_by
from pipelines.whole_run import STAGES
from schemas.errors import InputError
from train.checkpoint import pack, to_bytes
from train.config import build_detector
from train.detectors import find_detector
from train.transforms import Preprocessing

IMAGES, SEED = 60, 3
RECIPE = """[train]
detector = "tiny-ladeda"
fit = "native"
size = 64
crop = 48
batch = 8
epochs = 1
device = "cpu"
workers = 1
"""
DONE = [stage.name for stage in STAGES] + ["distill"]


@pytest.fixture(scope="module")
def shown(wildrf, tmp_path_factory):
    """The demo as the command line runs it, but for a recipe that learns little in little time."""
    root = tmp_path_factory.mktemp("demo") / "d"
    spec = WorldSpec(seed=SEED, images=IMAGES, reddit_share=demo.REDDIT_SHARE)
    demo.make_world(root, spec, Serial(), lambda line: None)
    policy = demo.make_workspace(root, SEED).root / "wildrf.toml"
    policy.write_text(policy.read_text().partition("[train]")[0] + RECIPE)
    (root / "cases").mkdir()
    (root / "cases/cases.csv").write_text(f"path,expected\n{known(root)},real\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "STUDENT_EPOCHS", 1)
        patch.setattr(demo, "STUDENT_CROP", 48)
        yield root, lambda: run(wildrf, root), run(wildrf, root)


def known(root: Path) -> Path:
    """One picture of the world."""
    return min(path for path in (root / "world/media").rglob("*.jpg") if path.stat().st_size > 999)


def run(wildrf, root: Path) -> dict:
    answer = wildrf("demo", root, "--images", IMAGES, "--seed", SEED, "--workers", 1, "--json")
    assert answer.code in (0, 1), answer.err  # 1: one epoch on so few pictures may teach nothing
    return json.loads(answer.out)


def findings_of(result: dict) -> dict[str, bool | None]:
    return {f["what"]: f["ok"] for f in result["truth"]["findings"]}


def test_the_demo_says_where_everything_is_and_how_long_each_stage_took(shown):
    root, _, result = shown
    assert result["workspace"] == str(root)
    assert Path(result["report"]).is_file()
    assert Path(result["truth"]["path"]).is_file()
    assert [stage["name"] for stage in result["stages"]] == DONE
    assert all(stage["seconds"] >= 0 for stage in result["stages"])


def test_everything_that_was_planted_is_found(shown):
    _, _, result = shown
    found = {k: ok for k, ok in findings_of(result).items() if not k.startswith("detector")}
    assert len(found) > 10
    assert [what for what, ok in found.items() if ok is False] == []


def test_every_stage_is_in_the_catalog_and_a_second_run_changes_nothing(shown):
    root, again, result = shown
    catalog = Catalog(root / "catalog.duckdb")
    before, media = catalog.content(), files_of(root)
    stages = {row["stage"].partition("/")[0] for row in catalog.rows("SELECT stage FROM run")}
    assert {"fetch", "probe", "dedupe", "label"} <= stages
    assert all(catalog.counts()[t] for t in ("post", "media", "image", "match", "label", "score"))

    second = again()

    assert catalog.content() == before
    assert files_of(root) == media
    assert second["truth"] == result["truth"]


def test_the_cases_of_the_workspace_are_looked_at_after_the_training(shown):
    root, _, result = shown
    (stage,) = (stage for stage in result["stages"] if stage["name"] == "train")
    assert stage["cases"]["n"] == 1
    record = json.loads((root / "runs/v1-tiny-ladeda/cases.json").read_text())
    assert record["cases"][0]["path"] == str(known(root))


def test_pairs_of_copies_are_called_by_what_was_done(shown):
    root, _, _ = shown
    html = (root / "report.html").read_text(encoding="utf-8")
    rows = Catalog(root / "catalog.duckdb").rows(COPIES, n=PAIRS)
    assert rows
    assert all(measured(row) in html for row in rows)


@pytest.mark.parametrize(
    "name", ["world/mine.txt", "report.html", ".gitignore", "secret.key", "a/b"]
)
def test_a_folder_that_holds_anything_of_the_users_is_refused_and_left_as_it_is(
    wildrf, tmp_path, name
):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")

    answer = wildrf("demo", tmp_path, "--images", IMAGES)

    assert answer.code == 2
    assert "holds something that is no demo" in answer.err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_world_that_was_not_finished_is_built_anew(tmp_path):
    spec = WorldSpec(seed=SEED, images=40, min_side=96, max_side=96)
    root = tmp_path / "d"
    (root / "world/exports").mkdir(parents=True)
    (root / ".demo").touch()
    (root / "world/exports/half").touch()

    world = demo.make_world(root, spec, Serial(), lambda line: None)

    assert (world / "truth.json").is_file()
    assert not (world / "exports/half").exists()


def test_a_demo_of_an_older_version_is_told_what_to_do_with(tmp_path):
    demo.make_workspace(tmp_path, SEED)
    policy = tmp_path / "wildrf.toml"
    policy.write_text(re.sub("(?m)^simulated.*$", "", policy.read_text()))

    with pytest.raises(InputError, match=r"older version.*name a new folder.*or remove this one"):
        demo.make_workspace(tmp_path, SEED)


@pytest.mark.parametrize(
    ("pooling", "words"),
    [
        ("mean", "mean of them"),
        ("max", "maximum of them"),
        ("top10", "mean of the highest 10 % of them"),
    ],
)
def test_what_becomes_of_the_patches_is_told_in_words(pooling, words):
    assert pooled_by(pooling) == words


def files_of(root: Path) -> dict[str, int]:
    """What a second run may not touch, with the time of its last change."""
    folders = ("media", "releases", "world")
    paths = (path for name in folders for path in (root / name).rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in paths}


def test_the_pages_need_nothing_else_and_stay_small(shown):
    root, _, _ = shown
    for name in ("report.html", "audit-v1.html"):
        html = (root / name).read_text(encoding="utf-8")
        assert len(html) < 3_000_000
        assert "Simulated data" in html
        assert not re.search(r'(src|href)="(?!data:|#)', html)


def test_every_number_in_the_table_of_detectors_has_its_interval_the_means_too(shown):
    html = (shown[0] / "report.html").read_text(encoding="utf-8")
    rows = html.partition("<th>Detector</th>")[2].partition("</table>")[0].split("<tr")[1:]

    assert sum('class="mean"' in row and "mean of 2" in row for row in rows) == 2
    for row in rows:
        assert len(re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", row)) == 3


def test_maps_are_of_the_median_right_answers_and_the_surest_mistakes():
    logits = {"a": (-9, -2, -1, 4, 7), "b": (1, 3, 8, -5, -6)}
    scores = [
        {"platform": "x", "label": label, "logit": logit, "path": f"{name}{n}"}
        for label, name in enumerate(logits)
        for n, logit in enumerate(logits[name])
    ]
    shown = [(row["path"], why) for row, why in chosen(scores)]
    right, mistake = "a typical right answer", "its surest mistake"
    assert shown == [("a1", right), ("b1", right), ("a4", mistake), ("b4", mistake)]


@pytest.mark.parametrize(
    ("fit", "told"),
    [
        ("stretch", "the whole picture, resized"), ("crop", "the centre square"),
        ("native", "the centre 64 x 64"), ("whole", "the whole picture, as it is"),
    ],
)  # fmt: skip
def test_maps_of_every_fit_say_what_part_of_a_picture_the_detector_is_given(tmp_path, fit, told):
    spec, prep = find_detector("tiny-ladeda"), Preprocessing(size=64, fit=fit)
    model = build_detector(spec, prep, "mean", seed=0)
    packed = pack(model.state_dict(), spec, prep, pooling="mean")
    (tmp_path / "a.pt").write_bytes(to_bytes(packed))
    Image.new("RGB", (1600, 100), "gray").save(tmp_path / "a.png")
    row = {"path": "a.png", "platform": "x", "label": 1, "logit": 2.0}

    maps = heat_maps(tmp_path / "a.pt", tmp_path, [row])

    assert maps.seen.startswith(told)
    (couple,) = maps.couples
    seen, laid = (
        Image.open(io.BytesIO(base64.b64decode(tile.source.split(",")[1])))
        for tile in (couple.a, couple.b)
    )
    assert seen.size == laid.size == ((1024, 64) if fit == "whole" else (64, 64))


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "title"),
    [("report.html", "wildrf demo"), ("audit-v1.html", "Shortcut audit of v1")],
)
def test_a_page_opens_in_a_real_browser_without_a_complaint(shown, browser, name, title, scheme):
    root, _, _ = shown
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    complaints, asked = [], []
    page.on("console", lambda m: complaints.append(m.text) if m.type in BAD else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url[:99]))
    page.on("request", lambda request: asked.append(request.url))
    address = (root / name).as_uri()

    page.goto(address)

    assert page.title() == title
    assert page.get_by_text("Simulated data").first.is_visible()
    loaded = page.eval_on_selector_all("img", "all => all.map(i => i.complete && i.naturalWidth)")
    assert len(loaded) > 10
    assert all(loaded)
    assert page.eval_on_selector_all("svg", "all => all.every(s => s.clientHeight > 90)")
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    assert [url[:99] for url in asked if url != address and not url.startswith("data:")] == []
    page.close()


BAD = ("error", "warning")
