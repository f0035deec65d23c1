"""A workspace on disk: its policy, catalog, media store and secret, found and opened.

``my-set/wildrf.toml`` is the policy, ``catalog.duckdb`` the rows, ``media/`` the bytes, ``secret.key`` the
key of every author's hash. The secret stays in the workspace and is never printed.
"""

import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from curate.catalog import Catalog
from curate.store import MediaStore
from schemas.errors import InputError, PolicyError
from schemas.policy import Policy, parse_policy

POLICY = "wildrf.toml"
SECRET = "secret.key"  # noqa: S105 - the name of the file, not what is in it
SECRET_BYTES = 32
IGNORED = "catalog.duckdb*\nmedia/\ncaptures/\nreleases/\nruns/\nsecret.key\n*.html\n"
"""What git should not track of a workspace: bytes, personal data by hash, and the key to them."""


@dataclass(frozen=True)
class Workspace:
    """One set in the making."""

    root: Path
    policy: Policy

    @cached_property
    def catalog(self) -> Catalog:
        """The rows; an older catalog is brought up to date when it is first asked for.

        Raises:
            CatalogError: if there is none, or it cannot be opened.
        """
        found = Catalog(self.root / "catalog.duckdb")
        found.upgrade()
        return found

    @cached_property
    def store(self) -> MediaStore:
        """The bytes."""
        return MediaStore.at(self.policy.media, self.root)

    @cached_property
    def secret(self) -> bytes:
        """The key that author hashes are made with.

        Raises:
            InputError: if it is gone: new hashes would not match the old ones.
        """
        path = self.root / SECRET
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError):
            key = b""
        # An emptied file would give hashes that anyone can make from a list of names.
        if len(key) < SECRET_BYTES:
            raise InputError(
                f"{path} is missing or damaged; restore it from a backup: without it, authors met before "
                "would not be recognised again"
            )
        return key

    @property
    def releases(self) -> Path:
        """Where releases are written."""
        return self.root / "releases"

    @property
    def runs(self) -> Path:
        """Where detectors are written."""
        return self.root / "runs"


def create_workspace(root: Path) -> Workspace:
    """Make a workspace in `root`, with a commented policy; finish one that was left half made.

    Raises:
        InputError: if `root` already is a workspace, or is not a folder.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; expected a folder; name another place")
    if (root / POLICY).exists():
        raise InputError(f"{root} already is a workspace; use another folder, or work in this one")
    root.mkdir(parents=True, exist_ok=True)
    _write_secret(root / SECRET)
    keep_out_of_git(root, IGNORED)
    Catalog(root / "catalog.duckdb").create()
    # The policy comes last: a folder without one is no workspace, and init can be run again.
    text = files("curate").joinpath("wildrf.toml").read_text(encoding="utf-8")
    waiting = root / f".{POLICY}"
    waiting.write_text(text.replace("NAME", _name_of(root)), encoding="utf-8")
    waiting.replace(root / POLICY)
    return open_workspace(root)


def open_workspace(root: Path) -> Workspace:
    """The workspace in `root`.

    Raises:
        InputError: if `root` is no workspace.
        PolicyError: if its policy cannot be followed.
    """
    path = root / POLICY
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{root} is no workspace: it holds no {POLICY}; make one with `wildrf init {root}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}; expected UTF-8 text") from None
    return Workspace(root, parse_policy(text, str(path)))


def find_workspace(start: Path) -> Workspace:
    """The workspace in `start` or the nearest folder above it.

    Raises:
        InputError: if there is none.
    """
    for folder in (start, *start.parents):
        if (folder / POLICY).is_file():
            return open_workspace(folder)
    raise InputError(
        f"no {POLICY} in {start} or above it; go to a workspace, name one with --workspace, "
        "or make one with `wildrf init DIR`"
    )


def keep_out_of_git(root: Path, patterns: str) -> None:
    """Add those of `patterns`, a line each, that the .gitignore of `root` lacks; what is there stays."""
    place = root / ".gitignore"
    there = place.read_text(encoding="utf-8", errors="replace") if place.exists() else ""
    missing = [line for line in patterns.splitlines() if line not in there.splitlines()]
    if missing:
        ends = "" if there.endswith("\n") or not there else "\n"
        with place.open("a", encoding="utf-8") as file:
            file.write(ends + "".join(f"{line}\n" for line in missing))


def _write_secret(path: Path) -> None:
    if path.exists():
        return
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(SECRET_BYTES) + "\n")


def _name_of(root: Path) -> str:
    """A release name made of the folder's: lower case, with anything else as a dash."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in root.resolve().name.lower())
    return name.strip("-") or "my-set"
