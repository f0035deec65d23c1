"""The five import contracts of pyproject.toml: they hold, and each is seen to fail when it is broken."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES = CONFIG["importlinter"]["root_packages"]
CONTRACTS = [contract["name"] for contract in CONFIG["importlinter"]["contracts"]]

BREAKS = [
    ("Folders depend downwards only", "schemas/labels.py", "import curate.store"),
    ("Folders depend downwards only", "curate/store.py", "import pipelines.output"),
    ("Folders depend downwards only", "labeling/agreement.py", "import train.metrics"),
    ("The trainer meets curation on disk, not in imports", "train/data.py", "import curate.survey"),
    ("The trainer meets curation on disk, not in imports", "train/data.py", "import duckdb"),
    (
        "Collectors do not know each other or the catalog",
        "curate/collectors/reddit.py",
        "import curate.catalog",
    ),
    ("Nothing but train needs PyTorch", "curate/probe/jpeg.py", "import torch"),
    (
        "Verbs do not know the command line that lists them",
        "pipelines/commands/telling.py",
        "import pipelines.cli",
    ),
]
"""A contract, a file of ours, and a line in it that the contract forbids."""


def lint(folder):
    """The outcome of import-linter in `folder`: exit code, and which contracts are broken."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    broken = {c for c in CONTRACTS if any(x.startswith(c) and "BROKEN" in x for x in lines)}
    kept = {c for c in CONTRACTS if any(x.startswith(c) and "KEPT" in x for x in lines)}
    return done.returncode, broken, kept


@pytest.fixture
def copy(tmp_path):
    """A copy of the packages and of the configuration, to break."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_contracts_hold():
    assert lint(ROOT) == (0, set(), set(CONTRACTS))


@pytest.mark.parametrize(("contract", "file", "line"), BREAKS)
def test_an_import_that_breaks_a_contract_is_found(copy, contract, file, line):
    (copy / file).write_text(f"{(copy / file).read_text()}\n{line}\n")

    code, broken, _ = lint(copy)

    assert code != 0
    assert contract in broken


def test_every_contract_is_broken_on_purpose_somewhere_above():
    assert {contract for contract, _, _ in BREAKS} == set(CONTRACTS)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_name_of_each_folder_means_our_folder(package):
    found = importlib.util.find_spec(package)

    assert Path(found.origin) == ROOT / package / "__init__.py"


def test_an_installed_package_does_not_take_the_name_of_a_folder_of_ours(tmp_path):
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [str(ROOT / p / "__init__.py") for p in PACKAGES]


def test_no_room_below_the_pipelines_prints_or_reads_the_environment():
    words = re.compile(r"(?<!\w)print\(|os\.environ|getenv\(")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in sorted(set(PACKAGES) - {"pipelines"})
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text().splitlines()
        if words.search(line.split("#")[0])
    ]

    assert found == []
