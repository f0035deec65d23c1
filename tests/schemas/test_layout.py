"""Where an image stands is read from its path alone."""

from pathlib import PurePosixPath

import pytest

from schemas.labels import Label, Split
from schemas.layout import Placement, folder, place


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/0_real/a.jpg", Placement(Split.TRAIN, "", Label.REAL)),
        ("val/1_fake/a.jpg", Placement(Split.VAL, "", Label.FAKE)),
        ("test/reddit/1_fake/a.jpg", Placement(Split.TEST, "reddit", Label.FAKE)),
        ("train/airplane/0_real/a.png", Placement(Split.TRAIN, "airplane", Label.REAL)),
        ("test/progan/cat/1_fake/a.png", Placement(Split.TEST, "progan/cat", Label.FAKE)),
        ("Midjourney/train/nature/a.jpg", Placement(Split.TRAIN, "Midjourney", Label.REAL)),
        ("Midjourney/val/ai/a.png", Placement(Split.VAL, "Midjourney", Label.FAKE)),
        ("0_real/a.jpg", Placement(None, "", Label.REAL)),
        ("0_real/deeper/a.jpg", Placement(None, "", Label.REAL)),
        ("a.jpg", None),
        ("train/real/a.jpg", None),
    ],
)
def test_the_layouts_of_the_field_are_understood(path, expected):
    assert place(PurePosixPath(path)) == expected


@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("label", Label)
def test_a_released_image_is_found_where_it_was_put(split, label):
    path = PurePosixPath(folder(split, "reddit", label)) / "a.jpg"

    found = place(path)

    assert found is not None
    assert (found.split, found.label) == (split, label)
    assert found.platform == ("reddit" if split is Split.TEST else "")
