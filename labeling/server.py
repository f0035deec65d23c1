"""A Label Studio server of one's own on this machine, for trying out and for tests.

https://labelstud.io/guide/start_options lists the settings. The server is Django's development
server with SQLite: good for a team in one room, not for the open internet. It listens on 127.0.0.1
alone, and telemetry, version checks and error reports are off.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from schemas.errors import ServiceError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 180.0
"""The first start creates the database: 25 s on an idle machine, more on a busy one."""

STOP_TIMEOUT_S = 15.0

INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
"""All that a server gets of our environment: it reads bare names such as HOST and DEBUG."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its first user."""

    url: str
    email: str
    password: str
    api_key: str
    document_root: Path


def find_executable(root: Path, path: str | None) -> Path | None:
    """The `label-studio` command: in `.venv-label-studio` under `root`, or on `path`."""
    own = root / ".venv-label-studio" / "bin" / "label-studio"
    found = own if own.is_file() else shutil.which("label-studio", path=path)
    return Path(found) if found else None


@contextmanager
def run_server(
    executable: Path,
    folder: Path,
    document_root: Path,
    *,
    api_key: str,
    environment: Mapping[str, str],
    serve_local_files: bool = True,
) -> Iterator[Server]:
    """Run a server whose data lives in `folder`, and stop it at the end.

    Args:
        executable: the `label-studio` command.
        folder: database, uploads and log; created when absent.
        document_root: what local files storages may serve folders of.
        api_key: 40 hex digits; taken when the folder is first used.
        environment: ours, of which the names in `INHERITED` are passed on.
        serve_local_files: False refuses to serve any file of this machine.

    Raises:
        ServiceError: the server ended or did not answer in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document_root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Server(
        f"http://127.0.0.1:{port}", "admin@example.org", "admin-pass-1", api_key, document_root
    )
    settings = _settings(server, folder, serve_local_files)
    inherited = {name: environment[name] for name in INHERITED if name in environment}
    command = [str(executable), "start", "--no-browser", "--internal-host", "127.0.0.1"]
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is our own argument list
            [*command, "--port", str(port)],
            env=inherited | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(server, process, folder / "server.log")
            yield server
        finally:
            _stop(process)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; Label Studio would silently take the next one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settings(server: Server, folder: Path, serve_local_files: bool) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_DATABASE_NAME": str(folder / "label_studio.sqlite3"),
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": server.email,
        "LABEL_STUDIO_PASSWORD": server.password,
        "LABEL_STUDIO_USER_TOKEN": server.api_key,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": str(serve_local_files).lower(),
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(server.document_root),
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LOG_LEVEL": "WARNING",
    }


def _wait(server: Server, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceError(
                f"Label Studio ended with code {process.returncode} while starting; read {output}"
            )
        if _healthy(server.url):
            log.info("label studio answers at %s", server.url)
            return
        time.sleep(0.2)
    raise ServiceError(
        f"Label Studio did not answer within {START_TIMEOUT_S:.0f} s; read {output} and try again"
    )


def _healthy(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, which it obeys, to the server and its children; SIGINT it ignores."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if sys.platform == "win32":
        process.terminate()
    else:
        os.killpg(process.pid, number)
