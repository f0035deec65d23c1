"""What the policy names is found once, wherever it lies."""

import pytest

from curate.work import Serial, Silent
from curate.workspace import create_workspace, open_workspace
from pipelines.whole_run import Context, exports_left
from schemas.errors import InputError


def context(root, exports):
    create_workspace(root)
    policy = root / "wildrf.toml"
    policy.write_text(policy.read_text().replace("exports = []", f"exports = {exports!r}"))
    return Context(open_workspace(root), Serial(), Silent(), print)


@pytest.fixture
def downloads(tmp_path):
    """Exports outside of any workspace."""
    folder = tmp_path / "down loads [1]"
    folder.mkdir()
    for name in ("a.zip", "b.zip", "[c].zip", "d.csv"):
        (folder / name).touch()
    return folder


def test_an_absolute_glob_names_what_it_matches(tmp_path, downloads):
    pattern = str(downloads / "*.zip").replace("[1]", "[[]1]")

    assert exports_left(context(tmp_path / "set", [pattern])) == "3 of 3 exports are new"


def test_a_file_that_two_patterns_match_is_one_export(tmp_path, downloads):
    (tmp_path / "set/exports").mkdir(parents=True)
    (tmp_path / "set/exports/a.zip").touch()
    (tmp_path / "set/exports/same.zip").symlink_to(tmp_path / "set/exports/a.zip")
    named = ["exports/a.zip", "exports/*", str(tmp_path / "set/exports/a.zip")]

    assert exports_left(context(tmp_path / "set", named)) == "1 of 1 exports are new"


def test_a_name_with_brackets_stands_for_itself(tmp_path, downloads):
    named = [str(downloads / "[c].zip")]

    assert exports_left(context(tmp_path / "set", named)) == "1 of 1 exports are new"


@pytest.mark.parametrize("place", ["", "exports/"])
def test_a_pattern_that_names_nothing_is_told(tmp_path, place):
    root = tmp_path / "set"
    pattern = f"{place or tmp_path}/*.nothing"

    with pytest.raises(InputError, match=r"nothing' names nothing in .*; mend wildrf.toml"):
        exports_left(context(root, [pattern]))
