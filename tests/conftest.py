"""What tests of every room share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real files kept beside the repository; a test that needs them is skipped where they are absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real files in ../shared, which are not part of the repository")
    return folder
