"""The verb that finds copies, on folders: its page, a benchmark, and what it says with its exit code."""

import csv
import json

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.contamination import Known, find_known, read_known
from schemas.errors import InputError

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


def scene(seed):
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120))


@pytest.fixture
def folder(tmp_path):
    """Two pictures with a copy each, one under both labels; a picture of its own; a broken file."""
    root = tmp_path / "set"
    for leaf in ("0_real", "1_fake"):
        (root / leaf).mkdir(parents=True)
    scene(1).save(root / "0_real/a.jpg", quality=95)
    scene(1).save(root / "1_fake" / HOSTILE, quality=70)
    scene(2).save(root / "0_real/b.png")
    (root / "0_real/b-again.png").write_bytes((root / "0_real/b.png").read_bytes())
    scene(3).save(root / "1_fake/c.jpg")
    (root / "1_fake/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    return root


def ask(wildrf, folder, *more):
    page = folder.parent / "page.html"
    answer = wildrf("dedupe", folder, "--report", page, "--workers", 1, "--json", *more)
    return answer.code, json.loads(answer.out), page.read_text(encoding="utf-8")


def test_a_folder_tells_matches_groups_conflicts_and_writes_a_page(wildrf, folder):
    code, told, html = ask(wildrf, folder)

    assert code == 0
    assert told["groups"] == [
        ["0_real/a.jpg", f"1_fake/{HOSTILE}"],
        ["0_real/b-again.png", "0_real/b.png"],
    ]
    assert {m["kind"] for m in told["matches"]} == {"near", "same-bytes"}
    assert told["conflicts"] == [{"real": ["0_real/a.jpg"], "fake": [f"1_fake/{HOSTILE}"]}]
    assert told["report"].endswith("page.html")
    assert "against" not in told
    assert "<img src=x" not in html
    assert html.count("data:image/webp") >= 6
    assert "score" in html
    assert "One picture, both labels" in html
    assert "<script" not in html


def test_an_image_of_a_benchmark_folder_is_contamination_and_exit_code_1(wildrf, folder, tmp_path):
    known = tmp_path / "bench"
    known.mkdir()
    scene(3).save(known / "known.jpg", quality=60)
    (known / "same.png").write_bytes((folder / "0_real/b.png").read_bytes())

    code, told, html = ask(wildrf, folder, "--against", known)

    assert code == 1
    hits = {h["path"]: (h["kind"], h["known"]) for h in told["against"]["contaminated"]}
    assert hits == {
        "0_real/b-again.png": ("same-bytes", "same.png"),
        "0_real/b.png": ("same-bytes", "same.png"),
        "1_fake/c.jpg": ("near", "known.jpg"),
    }
    assert told["against"]["images"] == 2
    assert told["against"]["counts"] == {"near": 1, "same-bytes": 2}
    assert "Contaminated: 3 images are in bench" in html


def test_a_benchmark_of_other_pictures_is_no_contamination(wildrf, folder, tmp_path):
    (tmp_path / "bench").mkdir()
    scene(77).save(tmp_path / "bench/known.jpg")

    code, told, html = ask(wildrf, folder, "--against", tmp_path / "bench")

    assert (code, told["against"]["contaminated"]) == (0, [])
    assert "No image of bench is here" in html


def test_a_table_of_imagehash_hashes_will_do(wildrf, folder, tmp_path):
    table = tmp_path / "known.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "phash", "dhash"])
        rows.writerow(["c", imagehash.phash(scene(3)), imagehash.dhash(scene(3))])

    code, told, _ = ask(wildrf, folder, "--against", table)

    (hit,) = told["against"]["contaminated"]
    assert (code, hit["path"], hit["known"], hit["confirmed"]) == (1, "1_fake/c.jpg", "c", True)


def test_hashes_in_parquet_are_numbers_or_hex_and_the_surest_reason_is_told(tmp_path):
    pq.write_table(
        pa.table({"digest": ["A" * 64, None], "phash": pa.array([2**64 - 1, 5], pa.uint64())}),
        tmp_path / "t.parquet",
    )

    known = read_known(tmp_path / "t.parquet")

    assert known == [Known("A" * 64, "a" * 64, None, 2**64 - 1), Known("row 2", phash=5)]
    images = [Known("x", "a" * 64, None, 5), Known("y", phash=7), Known("z", phash=2**32 - 1)]
    hits = find_known(images, known, distance_bits=4)
    assert [(h.path, h.kind, h.distance, h.confirmed) for h in hits] == [
        ("x", "same-bytes", 0, True),
        ("y", "near", 1, False),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "has the columns a, b; expected one of sha256, pixels, phash"),
        ("phash\nxyz\n", "row 1: phash is 'xyz'; expected 16 hex digits"),
        ("sha256\n12\n", "row 1: sha256 is '12'; expected 64 hex digits"),
        ("", "has the columns (none)"),
    ],
)
def test_a_table_that_says_nothing_is_told_in_one_line(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)

    with pytest.raises(InputError) as caught:
        read_known(tmp_path / "t.csv")

    assert told in str(caught.value)


def test_words_are_remembered_in_a_workspace_alone(wildrf, folder):
    answer = wildrf("dedupe", folder, "--not-same", "a", "b")

    assert answer.code == 2
    assert "leave DIR out" in answer.err


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_a_message_or_a_request(wildrf, folder, browser, scheme):
    ask(wildrf, folder)
    said, asked = [], []
    page = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))

    page.goto((folder.parent / "page.html").as_uri())

    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.close()
