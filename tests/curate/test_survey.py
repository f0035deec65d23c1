from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate import survey as survey_module
from curate.survey import Surveyed, find_files, survey
from curate.work import Serial
from schemas.errors import InputError
from schemas.labels import Label, Split
from schemas.layout import Placement


def save(path: Path, *, seed: int = 0) -> Path:
    """A small JPEG of coarse random patches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(patches).resize((96, 64), Image.Resampling.BICUBIC).save(path, "JPEG")
    return path


def read(root: Path) -> dict[str, Surveyed]:
    return {row.path: row for row in survey(root, Serial(), max_pixels=10**7)}


def test_each_image_is_a_row_with_its_place_and_facts_in_the_order_of_paths(tmp_path: Path) -> None:
    save(tmp_path / "train/1_fake/b.jpg", seed=1)
    save(tmp_path / "train/0_real/a.jpg")
    save(tmp_path / "test/x/0_real/c.JPG", seed=2)

    rows = survey(tmp_path, Serial(), max_pixels=10**7)

    assert [r.path for r in rows] == [
        "test/x/0_real/c.JPG",
        "train/0_real/a.jpg",
        "train/1_fake/b.jpg",
    ]
    assert rows[0].placement == Placement(Split.TEST, "x", Label.REAL)
    assert (rows[1].image.format, rows[1].image.width, rows[1].image.error) == ("JPEG", 96, None)


def test_the_fingerprint_is_imagehashs(tmp_path: Path) -> None:
    file = save(tmp_path / "0_real/a.jpg", seed=3)

    row = read(tmp_path)["0_real/a.jpg"]

    assert row.phash == int(str(imagehash.phash(Image.open(file).convert("L"))), 16)


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path: Path) -> None:
    save(tmp_path / "0_real/a.jpg")
    for name in ("README.md", "0_real/Thumbs.db", "0_real/LICENSE", "b.md"):
        (tmp_path / name).write_text("x")

    files = find_files(tmp_path)

    assert files.images == ("0_real/a.jpg",)
    assert files.others == {"(none)": 1, ".db": 1, ".md": 2}


def test_a_file_that_does_not_decode_is_a_row_that_says_why(tmp_path: Path) -> None:
    good = save(tmp_path / "0_real/a.jpg")
    (tmp_path / "0_real/empty.png").write_bytes(b"")
    (tmp_path / "0_real/cut.jpg").write_bytes(good.read_bytes()[:400])
    (tmp_path / "0_real/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")

    rows = read(tmp_path)

    assert rows["0_real/a.jpg"].image.error is None
    assert rows["0_real/gone.jpg"].image.error == "cannot be read: No such file or directory"
    assert rows["0_real/empty.png"].image.error
    assert rows["0_real/cut.jpg"].image.error


def test_images_beside_the_leaves_are_rows_without_a_place(tmp_path: Path) -> None:
    save(tmp_path / "0_real/a.jpg")
    save(tmp_path / "cover.jpg", seed=1)

    assert read(tmp_path)["cover.jpg"].placement is None


def test_the_manifest_gives_group_author_post_and_platform(tmp_path: Path) -> None:
    save(tmp_path / "train/0_real/a.jpg")
    save(tmp_path / "train/0_real/b.jpg", seed=1)
    columns = {
        "path": ["train/0_real/a.jpg", None],
        "group_id": ["g1", "g2"],
        "author": ["k9", None],
        "post_id": ["7", "8"],
        "platform": ["reddit", "x"],
    }
    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")

    rows = read(tmp_path)

    told = rows["train/0_real/a.jpg"]
    assert (told.group, told.author, told.post) == ("g1", "k9", "reddit/7")
    assert told.placement == Placement(Split.TRAIN, "reddit", Label.REAL)
    assert rows["train/0_real/b.jpg"].group is None


@pytest.mark.parametrize("broken", ["not parquet", "no path"])
def test_a_broken_manifest_is_an_error_of_one_line(tmp_path: Path, broken: str) -> None:
    save(tmp_path / "0_real/a.jpg")
    if broken == "not parquet":
        (tmp_path / "manifest.parquet").write_bytes(b"nonsense")
    else:
        pq.write_table(pa.table({"name": ["a"]}), tmp_path / "manifest.parquet")

    with pytest.raises(InputError, match=r"manifest\.parquet") as caught:
        read(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_folder_without_labels_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    save(tmp_path / "cats/a.jpg")

    with pytest.raises(
        InputError, match=r"holds 1 images.*expected leaves named 0_real and 1_fake"
    ):
        read(tmp_path)


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read(tmp_path / "nowhere")


def test_the_engine_is_given_bounded_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        save(tmp_path / f"0_real/{n}.jpg", seed=n)
    monkeypatch.setattr(survey_module, "CHUNK", 2)
    sizes = []

    class Counting(Serial):
        def map(self, work, items, *, lost=None, seconds=None):  # type: ignore[no-untyped-def]
            sizes.append(len(items))
            return super().map(work, items, lost=lost)

    rows = survey(tmp_path, Counting(), max_pixels=10**7)

    assert sizes == [2, 2, 1]
    assert len(rows) == 5


def test_a_picture_above_the_limit_of_pixels_is_not_decoded(tmp_path: Path) -> None:
    save(tmp_path / "0_real/a.jpg")

    (row,) = survey(tmp_path, Serial(), max_pixels=100)

    assert row.image.error
    assert row.phash is None
