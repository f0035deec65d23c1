"""A number is known to be of a simulated set, wherever its images or its run lie."""

import json
from pathlib import Path

import pytest

from train.simulated import is_simulated


def place(root, **files):
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    return root


@pytest.mark.parametrize("said", [True, False])
def test_a_release_or_a_run_that_was_moved_says_it_itself(tmp_path, said):
    text = json.dumps({"simulated": said})
    release = place(tmp_path / "release", release_json=text)
    run = place(tmp_path / "run", config_json=text)

    assert is_simulated(release) is said
    assert is_simulated(release / "test/reddit/0_real/a.jpg") is said
    assert is_simulated(run / "checkpoint.pt") is said


def test_whatever_lies_in_a_workspace_is_what_the_workspace_says(tmp_path):
    demo = place(tmp_path / "demo", wildrf_toml='name = "demo"\nsimulated = true\n')
    own = place(demo / "own", wildrf_toml='name = "own"\n')

    assert is_simulated(demo)
    assert is_simulated(demo / "media/ab/cd")
    assert not is_simulated(own / "runs/v1")


def test_one_simulated_place_among_several_is_enough(tmp_path):
    demo = place(tmp_path / "demo", wildrf_toml="simulated = true\n")

    assert is_simulated(tmp_path / "photos", demo)
    assert not is_simulated(tmp_path / "photos")
    assert not is_simulated()


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", '{"simulated": "yes"}', "{}"])
def test_a_file_that_says_nothing_is_passed_over(tmp_path, text):
    demo = place(tmp_path / "demo", wildrf_toml="simulated = true\n")

    assert is_simulated(place(demo / "release", release_json=text))


def test_a_relative_path_is_found_from_where_one_stands(tmp_path, monkeypatch):
    demo = place(tmp_path / "demo", wildrf_toml="simulated = true\n")
    monkeypatch.chdir(place(demo / "releases/v1"))

    assert is_simulated(Path())
    assert is_simulated(Path("test"))
