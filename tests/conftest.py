"""What tests of every room share: real files, a real Label Studio, a real Chromium."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests

from labeling.server import Server, find_executable, run_server

ROOT = Path(__file__).resolve().parents[1]

# How long an example takes says how busy the machine is; pytest-timeout is for what does not end.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: each computes in one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")


USE_LABEL_STUDIO = ("tests/labeling/test_client.py", "tests/pipelines/test_label_studio.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n 2` a process takes a file at a time; what uses the one server is as one file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "label-studio" if file in USE_LABEL_STUDIO else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests go first where several processes work: at the end, one would work alone."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real files kept beside the repository; a test that needs them is skipped where they are absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real files in ../shared, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def label_studio_command() -> Path:
    command = find_executable(ROOT, os.environ.get("PATH"))
    if command is None:
        pytest.skip("needs Label Studio; `make label-studio` installs it beside the project")
    return command


@pytest.fixture(scope="session")
def label_studio(
    label_studio_command: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[Server]:
    """One real server for the whole session, with an empty database."""
    folder = tmp_path_factory.mktemp("label-studio")
    template = pytestconfig.cache.mkdir("label-studio") / "empty"
    if not template.is_dir():
        make_template(label_studio_command, folder / "first", template)
    shutil.copytree(template, folder / "data")
    with run_server(
        label_studio_command,
        folder / "data",
        folder / "images",
        api_key=(template / "api_key").read_text(),
        environment=os.environ,
    ) as server:
        yield server
    shutil.rmtree(folder)


def make_template(command: Path, folder: Path, template: Path) -> None:
    """Keep an empty database for later sessions: making one takes half a minute, a copy two."""
    key = secrets.token_hex(20)
    with run_server(command, folder, folder / "none", api_key=key, environment=os.environ):
        pass
    (folder / "api_key").write_text(key)
    half = template.with_name(f"half-{secrets.token_hex(4)}")
    shutil.copytree(folder, half)
    try:
        half.rename(template)
    except OSError:  # another session was faster
        shutil.rmtree(half)


@pytest.fixture
def sign_up(label_studio: Server) -> Callable[[str], str]:
    """Makes a further user and returns their API key."""
    return lambda name: make_user(label_studio, name)


def make_user(server: Server, name: str) -> str:
    """Sign `name` up through an invitation, as a person would, and return their API key."""
    owner = {"Authorization": f"Token {server.api_key}"}
    invitation = requests.get(f"{server.url}/api/invite", headers=owner, timeout=60).json()["token"]
    page = f"{server.url}/user/signup/"
    with requests.Session() as session:
        session.get(page, params={"token": invitation}, timeout=60)
        form = {
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
            "email": f"{name}@example.org",
            "password": secrets.token_hex(8),
            "allow_newsletters": "false",
        }
        answer = session.post(
            page,
            params={"token": invitation},
            data=form,
            headers={"Referer": server.url},
            allow_redirects=False,
            timeout=60,
        )
        assert answer.status_code == 302, answer.text
        key = session.get(f"{server.url}/api/current-user/token", timeout=60)
        return str(key.json()["token"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium without a window; its event loop would be in the way of other modules' own."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
