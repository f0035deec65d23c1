import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate import bias, leakage
from curate.survey import Surveyed, survey
from curate.work import Serial
from pipelines.report import contact_sheet, page, plots
from pipelines.report.audit import next_steps, show_value, verdict_words, write_audit_page

HOSTILE = "<img src=x onerror=alert(1)>&\"'.jpg"


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.tags


def make_set(root: Path, *, per_class: int = 24, names: tuple[str, ...] = ()) -> list[Surveyed]:
    """A biased set: reals JPEG 95, fakes JPEG 75; one extra real per name, one file that is broken."""
    draw = np.random.default_rng(0)
    for folder, quality in (("0_real", 95), ("1_fake", 75)):
        (root / "train" / folder).mkdir(parents=True)
        for n in range(per_class):
            save(root / "train" / folder / f"{n}.jpg", draw, quality)
    for name in names:
        save(root / "train/0_real" / name, draw, 95)
    (root / "train/1_fake/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return survey(root, Serial(), max_pixels=10**7)


def save(path: Path, draw: np.random.Generator, quality: int) -> None:
    patches = draw.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(patches).resize((64, 64)).save(path, "JPEG", quality=quality)


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Surveyed], dict[str, Any]]:
    root = tmp_path_factory.mktemp("set")
    rows = make_set(root, names=(HOSTILE,))
    return root, rows, bias.audit(rows, gate=0.6)


def write_page(biased: tuple[Path, list[Surveyed], dict[str, Any]], out: Path, **more: Any) -> str:
    root, rows, result = biased
    return write_audit_page(result, rows, root, out, **more).read_text(encoding="utf-8")


def test_the_audit_page_says_the_verdict_and_names_the_causes(biased: Any, tmp_path: Path) -> None:
    html = write_page(biased, tmp_path / "deep/audit.html")

    assert "Shortcut: the files give the label away" in html
    assert "JPEG quality, luma" in html
    assert re.search(r'95 <span class="of">\(25/25\)', html)
    assert re.search(r'75 <span class="of">\(24/24\)', html)


def test_a_page_asks_nothing_of_the_network_and_runs_no_script(biased: Any, tmp_path: Path) -> None:
    html = write_page(biased, tmp_path / "a.html", leaks=[])

    sources = [
        v for _, a in tags_of(html) for k, v in a.items() if k in ("src", "href", "xlink:href")
    ]
    assert sources
    assert all(source and source.startswith(("data:", "#")) for source in sources)
    assert "script" not in {tag for tag, _ in tags_of(html)}
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_a_file_name_that_is_markup_is_shown_as_text(biased: Any, tmp_path: Path) -> None:
    hostile = f"train/0_real/{HOSTILE}"
    leak = leakage.Leak("near", hostile, hostile, "train", "test", "<b>evidence</b>")

    html = write_page(biased, tmp_path / "a.html", leaks=[leak])

    assert "<img src=x" not in html
    assert "<b>evidence" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert not any(name.startswith("on") for _, attributes in tags_of(html) for name in attributes)


def test_broken_files_and_simulated_data_are_told(biased: Any, tmp_path: Path) -> None:
    root, rows, result = biased
    html = write_page((root, rows, {**result, "simulated": True}), tmp_path / "a.html")

    assert "Simulated data." in html
    assert html.count('src="data:image/webp') == 24
    assert "train/1_fake/broken.jpg" in html
    assert "Simulated data." not in write_page(biased, tmp_path / "b.html")


def test_the_same_result_gives_the_same_page(biased: Any, tmp_path: Path) -> None:
    assert write_page(biased, tmp_path / "a.html") == write_page(biased, tmp_path / "b.html")


def test_a_set_too_small_to_measure_still_has_a_page(tmp_path: Path) -> None:
    rows = make_set(tmp_path / "set", per_class=3)
    result = bias.audit(rows, gate=0.6)

    html = write_audit_page(result, rows, tmp_path / "set", tmp_path / "a.html").read_text()

    assert "Inconclusive" in html
    assert "at least 20" in html


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    page.write(out, "first")

    with pytest.raises(TypeError):
        page.write(out, b"second")  # type: ignore[arg-type]  # no text

    assert out.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_name_that_is_no_unicode_is_shown_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")

    written = page.write(tmp_path / "page.html", f"<p>{name} \u00e9</p>")
    plot = plots.dot_plot([plots.Dot(name, 0.5, 0.4, 0.6)])

    assert written.read_text(encoding="utf-8") == "<p>caf\\udce9.jpg \u00e9</p>"
    assert "caf\\udce9.jpg" in plot


@pytest.mark.parametrize("verdict", ["clean", "shortcut", "inconclusive"])
def test_every_verdict_has_words_and_steps(verdict: str) -> None:
    result = {
        "verdict": verdict,
        "gate": 0.6,
        "why": "",
        "causes": ["icc"],
        "probe": {"auc": 0.5, "low": 0.4, "high": 0.6},
    }

    assert verdict_words(result)["headline"]
    assert len(next_steps(result)) >= 2


DOTS = [plots.Dot("a $x$ <b> & _y", 0.9, 0.8, 0.95), plots.Dot("other", 0.5, 0.4, 0.6)]
PLOTS = {
    "dot_plot": lambda: plots.dot_plot(DOTS, gate=0.6),
    "curves": lambda: plots.curves(
        {"train": [1.0, 0.5], "val": [1.1, 0.7]}, x_label="x", y_label="y"
    ),
    "histogram": lambda: plots.histogram([0.1, 0.2, 0.3], [0.7, 0.8]),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_one_svg_element_the_same_each_time_in_the_colour_of_the_text(name: str) -> None:
    svg = PLOTS[name]()

    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == PLOTS[name]()
    assert "currentColor" in svg
    assert plots.INK not in svg
    assert 'role="img"' in svg


def test_names_in_a_plot_are_shown_as_they_are() -> None:
    texts = [e.text for e in ET.fromstring(plots.dot_plot(DOTS)).iter() if e.text]

    assert "a $x$ <b> & _y" in texts


def test_a_small_change_does_not_fill_the_plot() -> None:
    def lowest_of(value: float) -> float:
        dots = [plots.Dot("", value - k / 1000, value - 0.01, value + 0.01) for k in range(2)]
        drawn = plots.bands([0, 1], {"AUC": dots}, x_label="x", y_label="y")
        ticks = re.findall(r">(\d\.\d+)</text>", drawn.partition('id="matplotlib.axis_2"')[2])
        return min(map(float, ticks))

    assert lowest_of(0.95) == 0.5
    assert lowest_of(0.2) == 0.2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16", "I", "F"])
def test_a_thumbnail_is_made_of_every_mode(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "I", "F", "I;16") else "png"
    image = Image.new(mode, (300, 200))
    image.save(tmp_path / f"a.{suffix}")

    tile = contact_sheet.tile(tmp_path, f"a.{suffix}")

    assert tile.problem is None
    assert tile.source
    assert tile.source.startswith("data:image/webp;base64,")


def test_a_thumbnail_is_upright_and_small_and_the_original_stays_as_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.jpg", exif=exif)
    before = (tmp_path / "a.jpg").read_bytes()

    shown = contact_sheet.thumbnail(tmp_path / "a.jpg", 100)

    assert shown.size == (50, 100)
    assert (tmp_path / "a.jpg").read_bytes() == before


def test_a_plain_jpeg_has_a_thumbnail(tmp_path: Path) -> None:
    Image.new("RGB", (900, 600), "green").save(tmp_path / "a.jpg")

    assert contact_sheet.tile(tmp_path, "a.jpg").problem is None


def test_what_does_not_open_is_a_tile_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")

    tile = contact_sheet.tile(tmp_path, "a.jpg")
    missing = contact_sheet.tile(tmp_path, "b.jpg")

    assert (tile.source, missing.source) == (None, None)
    assert tile.problem
    assert missing.problem


def test_no_path_of_the_machine_is_on_a_tile(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")

    problems = [contact_sheet.tile(tmp_path, name).problem for name in ("a.jpg", "b.jpg")]

    assert not any(str(tmp_path) in (problem or "") for problem in problems)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "none"), (95.0, "95"), (13612.5, "13,612"), (0.12345, "0.123"), ("4:2:0", "4:2:0")],
)
def test_values_are_shown_for_people(value: float | str | None, shown: str) -> None:
    assert show_value(value) == shown
