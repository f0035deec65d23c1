"""A workspace is made once, found from inside, and keeps its secret."""

import os

import pytest

from curate.workspace import IGNORED, create_workspace, find_workspace, open_workspace
from schemas.errors import InputError, PolicyError


def test_a_new_workspace_opens_with_its_defaults(tmp_path):
    workspace = create_workspace(tmp_path / "My Set")

    assert workspace.policy.name == "my-set"
    assert workspace.catalog.counts()["post"] == 0
    assert len(workspace.secret) == 32


def test_the_secret_is_for_its_owner_and_out_of_git(tmp_path):
    workspace = create_workspace(tmp_path / "a")

    assert os.stat(workspace.root / "secret.key").st_mode & 0o077 == 0
    assert "secret.key" in (workspace.root / ".gitignore").read_text().split()
    assert create_workspace(tmp_path / "b").secret != workspace.secret


def test_it_is_found_from_any_folder_inside(tmp_path):
    made = create_workspace(tmp_path / "a")
    deep = made.root / "x" / "y"
    deep.mkdir(parents=True)

    assert find_workspace(deep).root == made.root


def test_outside_of_any_workspace_one_line_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="wildrf init DIR"):
        find_workspace(tmp_path)


def test_a_workspace_is_never_made_over_another(tmp_path):
    create_workspace(tmp_path / "a")

    with pytest.raises(InputError, match="already is a workspace"):
        create_workspace(tmp_path / "a")


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "a").write_text("")

    with pytest.raises(InputError, match="is a file"):
        create_workspace(tmp_path / "a")


def test_init_that_was_killed_half_way_can_be_run_again(tmp_path):
    whole = create_workspace(tmp_path / "a")
    secret = whole.secret
    (whole.root / "wildrf.toml").unlink()

    again = create_workspace(tmp_path / "a")

    assert again.secret == secret


def test_a_lost_secret_is_not_replaced_silently(tmp_path):
    workspace = create_workspace(tmp_path / "a")
    (workspace.root / "secret.key").unlink()

    with pytest.raises(InputError, match="restore it from a backup"):
        _ = open_workspace(workspace.root).secret


def test_a_policy_that_is_not_text_is_told(tmp_path):
    workspace = create_workspace(tmp_path / "a")
    (workspace.root / "wildrf.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(PolicyError, match="expected UTF-8"):
        open_workspace(workspace.root)


def test_what_a_folder_keeps_out_of_git_already_stays_kept_out(tmp_path):
    (tmp_path / ".gitignore").write_text("notes/\nmedia/")

    create_workspace(tmp_path)

    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[:2] == ["notes/", "media/"]
    assert sorted(lines) == sorted({"notes/", *IGNORED.splitlines()})
