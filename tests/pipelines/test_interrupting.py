"""Ctrl-C ends a command wherever it comes, and not before what would swallow it is over."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipelines import cli
from pipelines.interrupting import heard, is_deaf
from schemas.errors import InputError

SWALLOWS = """
import time
print("importing", flush=True)
try:
    time.sleep(0.6)
except:
    print("swallowed", flush=True)
print("imported", flush=True)
"""
PROGRAM = """
import time
from pipelines.interrupting import heard
with heard():
    try:
        import swallows
        time.sleep(20)
        print("went on")
    except KeyboardInterrupt:
        print("ended")
"""


@pytest.mark.parametrize("times", [1, 3])
def test_an_import_cannot_swallow_it(tmp_path, times):
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"

    for _ in range(times):
        process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)

    assert said.split() == ["imported", "ended"]


BUILDS = """
import time
from pydantic import TypeAdapter
from pipelines.interrupting import heard
from schemas.policy import Policy
with heard():
    try:
        print("building", flush=True)
        for _ in range(40):
            TypeAdapter(Policy)
        time.sleep(20)
        print("went on")
    except KeyboardInterrupt:
        print("ended")
"""


def test_a_schema_that_is_being_built_cannot_swallow_it():
    for wait_s in (0.0, 0.02, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", BUILDS],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        time.sleep(wait_s)

        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)

        assert said == "ended\n"


def test_outside_an_import_it_comes_at_once():
    with heard(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_whose_ctrl_c_was_made_another_error_of_is_interrupted(monkeypatch, capsys):
    def tries(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise InputError("no time zones are installed") from None

    monkeypatch.setattr(cli, "app", tries)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor"])

    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("error: interrupted; what is done is kept")


def test_who_ignores_it_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heard():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_changed():
    failed = []

    def elsewhere() -> None:
        try:
            with heard():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert not failed


def test_a_frame_is_known_to_be_of_an_import(tmp_path, monkeypatch):
    (tmp_path / "asks.py").write_text(
        "import sys\nfrom pipelines.interrupting import is_deaf\nfound = is_deaf(sys._getframe())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    import asks  # type: ignore[import-not-found]

    assert asks.found
    assert not is_deaf(sys._getframe())


def test_a_folder_that_is_called_like_a_package_is_deaf_to_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "pydantic"
    folder.mkdir()
    (folder / "of_mine.py").write_text("import sys\n\n\ndef frame():\n    return sys._getframe()\n")
    monkeypatch.syspath_prepend(folder)

    import of_mine  # type: ignore[import-not-found]

    assert not is_deaf(of_mine.frame())
