"""Killed at any point and run again, the catalog, the media, the release and the detector end the same."""

import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from curate.branches import cores
from curate.catalog import Catalog
from curate.shares import WORTH
from curate.simulated import WorldSpec, build_world
from curate.store import MediaStore
from curate.workspace import create_workspace
from schemas.records import Media, Post

POLICY = """
name = "small"
exports = ["world/exports/reddit/*", "world/exports/x/*"]
platforms = {reddit = {role = "train"}, x = {role = "held-out"}}
tags = [{id = "real", direction = "real", any = ["photography", "nature", "nofilter"]}]
fetch = {total_timeout_s = 30.0, mirrors = {MIRRORS}}
labeling = {imports = ["world/annotations.json", "world/more.json"]}
split = {test_fraction = 0.25, val_fraction = 0.3}
[train]
detector = "tiny-ladeda"
size = 64
crop = 56
batch = 8
epochs = 2
workers = 1
device = "cpu"
"""
POINTS = {
    "collect": 39,
    "fetch": 370,
    "probe": 13,
    "dedupe": 4,
    "label": 19,
    "split": 4,
    "release": 111,
}
"""How many points `killing.py` passes in each stage of this world, or a little fewer."""

DRAWN = random.Random(20260115)
KILLS = [
    (stage, point)
    for stage, points in POINTS.items()
    for point in sorted(DRAWN.sample(range(2, points + 1), 2 if points > 15 else 1))
]
MAIN = (
    "import os, sys; from pipelines.cli import main; "
    "os.close(int(sys.argv.pop(1))); sys.argv[0] = 'wildrf'; main()"
)


def wildrf(*arguments: object, **options) -> subprocess.Popen:
    """The command line in a process and a process group of its own, once it has been imported.

    A slow machine takes seconds to import it, in which nothing that is tested here has begun.
    """
    imported, held = os.pipe()
    command = [sys.executable, "-c", MAIN, str(held), *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen(
        command, text=True, start_new_session=True, pass_fds=[held], **streams
    )
    os.close(held)
    os.read(imported, 1)  # ends as the process closes its end
    os.close(imported)
    return process


def finish(process: subprocess.Popen) -> str:
    """Its stderr, once it has ended well: 0, or 1 where the audit of so small a world says no."""
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 1), out + err
    return err


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A workspace before its first run; its hosts are folders."""
    root = tmp_path_factory.mktemp("base")
    spec = WorldSpec(seed=2, images=44, min_side=96, max_side=128, reddit_share=0.7)
    build_world(root / "world", spec)
    tasks = json.loads((root / "world" / "annotations.json").read_bytes())
    (root / "world" / "annotations.json").write_text(json.dumps(tasks[::2]))
    (root / "world" / "more.json").write_text(json.dumps(tasks[1::2]))
    hosts = ", ".join(f'"{h.name}" = "{h}"' for h in sorted((root / "world/media").iterdir()))
    (root / "wildrf.toml").write_text(POLICY.replace("MIRRORS", hosts))
    (root / "secret.key").write_text("ab" * 32 + "\n")
    Catalog(root / "catalog.duckdb").create()
    return root


def copy_of(workspace: Path, to: Path) -> Path:
    """The workspace as it is on disk; its world, which nobody changes, is linked."""
    shutil.copytree(workspace, to, ignore=shutil.ignore_patterns("world"), symlinks=True)
    (to / "world").symlink_to((workspace / "world").resolve())
    return to


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> Path:
    """The workspace after a run that nobody disturbed."""
    root = copy_of(base, tmp_path_factory.mktemp("whole") / "w")
    finish(wildrf("run", "--workspace", root, "--workers", 1))
    return root


class Killer:
    """Runs `wildrf run` up to a point at which it is killed."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("killing.py")
        self._process = subprocess.Popen([sys.executable, program], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def run(self, root: Path, stage: str | None = None, point: int | None = None) -> int:
        """How it ended."""
        argv = ["run", "--workspace", str(root), "--workers", "1"]
        request = {"root": str(root), "argv": argv, "stage": stage, "point": point}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "Traceback" not in answer["stderr"], answer["stderr"]
        return answer["code"]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def killer():
    made = Killer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def begun(base, killer, tmp_path_factory) -> dict[str, Path]:
    """Workspaces that were killed at the very beginning of each stage."""
    folder = tmp_path_factory.mktemp("begun")
    made, last = {}, base
    for stage in POINTS:
        last = made[stage] = copy_of(last, folder / stage)
        assert killer.run(last, stage, 1) == -signal.SIGKILL
    return made


def rows_of(root: Path) -> dict[str, str]:
    """A digest of each table's rows."""
    return Catalog(root / "catalog.duckdb").content()


def media_of(root: Path) -> list[str]:
    """Every digest in the store, with its bytes checked."""
    store = MediaStore.at("media", root)
    found = list(store.digests())
    for digest in found:
        store.get(digest)
    return found


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of the release."""
    release = root / "releases" / "v1"
    return {str(f.relative_to(release)): f.read_bytes() for f in release.rglob("*") if f.is_file()}


def assert_same(root: Path, whole: Path, *, trained: bool) -> None:
    found, expected = rows_of(root), rows_of(whole)
    if not trained:
        del found["score"], expected["score"]
    assert found == expected
    assert media_of(root) == media_of(whole)
    assert files_of(root) == files_of(whole)
    assert sorted(p.name for p in (root / "releases").iterdir()) == ["v1"]
    if trained:
        checkpoints = [
            (r / "runs/v1-tiny-ladeda/checkpoint.pt").read_bytes() for r in (root, whole)
        ]
        assert checkpoints[0] == checkpoints[1]


@pytest.mark.parametrize(("stage", "point"), KILLS, ids=lambda value: str(value))
def test_killed_once_it_ends_with_the_same_rows_media_and_release(
    begun, whole, killer, tmp_path, stage, point
):
    root = copy_of(begun[stage], tmp_path / "w")

    assert killer.run(root, stage, point) == -signal.SIGKILL
    assert (
        killer.run(root, "audit", 1) == -signal.SIGKILL
    )  # nothing after this is about the catalog

    assert_same(root, whole, trained=False)


def test_killed_again_and_again_the_release_and_the_detector_end_the_same(
    begun, whole, killer, tmp_path
):
    root = copy_of(begun["release"], tmp_path / "w")

    for stage, point in [("release", 60), ("train", 9), ("train", 14), ("evaluate", 4)]:
        assert killer.run(root, stage, point) == -signal.SIGKILL, (stage, point)
    assert killer.run(root) in (0, 1)

    assert_same(root, whole, trained=True)


def test_killed_at_any_moment_with_a_pool_it_ends_with_the_same_rows(base, whole, killer, tmp_path):
    root = copy_of(base, tmp_path / "w")
    delays = random.Random(7)

    for end in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGINT):
        process = wildrf("run", "--workspace", root, "--workers", 2)
        time.sleep(delays.uniform(0.8, 4))
        os.killpg(process.pid, end)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (-end, 128 + end, 0, 1), said
        if end is signal.SIGINT:
            assert "Traceback" not in said
    assert killer.run(root, "audit", 1) == -signal.SIGKILL

    assert_same(root, whole, trained=False)


def test_a_second_run_changes_nothing_and_says_so_quickly(whole, killer):
    rows, media, release = rows_of(whole), media_of(whole), files_of(whole)
    began = time.monotonic()

    assert killer.run(whole) in (0, 1)

    assert time.monotonic() - began < 20
    assert (rows_of(whole), media_of(whole), files_of(whole)) == (rows, media, release)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """More work than any machine does in the seconds before the interruption; links cost no space."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise).resize((1600, 1200))
    picture.save(folder / "0.jpg", quality=90)
    for number in range(1, 5000):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    return folder


def group_ends(number: int, within_s: float) -> bool:
    """Whether no process of a group is left after so many seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(number, signal.SIGKILL)
    return False


@pytest.mark.parametrize("at_work", [False, True])
def test_ctrl_c_is_one_line_and_130_and_leaves_no_process(photos, at_work):
    process = wildrf("probe", photos, "--workers", 2, "--json")
    time.sleep(0.5)
    if at_work:
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone in the group gets it

    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    assert group_ends(process.pid, 10)


def test_workers_do_not_outlive_a_command_that_was_killed(photos):
    process = wildrf("probe", photos, "--workers", 2, "--json")
    process.stdout.readline()  # the pool is at work
    process.kill()
    process.communicate(timeout=60)

    assert group_ends(process.pid, 10)


class Dripping(http.server.BaseHTTPRequestHandler):
    """Serves one picture, half a second or so after it is asked for."""

    def do_GET(self):
        self.server.asked.set()
        self.server.over.wait(self.server.takes_s)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def drip(photos):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.content, server.asked = (photos / "0.jpg").read_bytes(), threading.Event()
    server.takes_s, server.over = 0.5, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_catalog_answers_while_a_fetch_runs(begun, drip, tmp_path):
    drip.takes_s = 60.0
    root = copy_of(begun["fetch"], tmp_path / "w")
    hosts = ("i.redd.it", "i.imgur.com", "preview.redd.it", "pbs.twimg.com")
    base = f"http://127.0.0.1:{drip.server_address[1]}"
    mirrors = ", ".join(f'"{host}" = "{base}"' for host in hosts)
    policy = POLICY.replace("total_timeout_s = 30.0", "workers = 1").replace("MIRRORS", mirrors)
    (root / "wildrf.toml").write_text(policy)

    fetching = wildrf("fetch", "--workspace", root)
    try:
        assert drip.asked.wait(30)
        asked = wildrf("sql", "SELECT count(*) AS n FROM post", "--workspace", root, "--json")
        out, err = asked.communicate(timeout=60)
        assert fetching.poll() is None, "the fetch was over too soon to tell"
        assert asked.returncode == 0, err
        assert json.loads(out)[0]["n"] > 0
        told = wildrf("why", "ffffffff", "--workspace", root)
        assert "no image begins with" in told.communicate(timeout=60)[1]
        assert fetching.poll() is None, "the fetch was over too soon to tell"
    finally:
        fetching.kill()
        fetching.communicate()


def many(root: Path, mirrors: dict[str, object], items: int = 2 * WORTH + 200) -> Path:
    """A workspace with more items than one process fetches alone, in two hosts."""
    workspace = create_workspace(root)
    named = ", ".join(f'"{host}" = "{place}"' for host, place in mirrors.items())
    (root / "wildrf.toml").write_text(f'name = "many"\n[fetch]\nmirrors = {{{named}}}\n')
    hosts = list(mirrors)
    workspace.catalog.add("post", [Post("x", str(n), "s", None, None) for n in range(items)])
    urls = [f"https://{hosts[n % len(hosts)]}/{n}.jpg" for n in range(items)]
    workspace.catalog.add("media", [Media("x", str(n), 0, "s", url=u) for n, u in enumerate(urls)])
    return root


def processes_of(group: int) -> list[int]:
    """The processes of a group, from the kernel's table."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def two_at_work(group: int) -> list[int]:
    """The processes of a fetch, once there are two of them."""
    deadline = time.monotonic() + 60
    while len(found := processes_of(group)) < 2:
        assert time.monotonic() < deadline, "no second process was started"
        time.sleep(0.02)
    return found


several = pytest.mark.skipif(
    cores() < 2 or not Path("/proc/self/stat").exists(),
    reason="several processes fetch where there are several processors; /proc tells which",
)


@several
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 1.5])
def test_ctrl_c_ends_a_fetch_in_several_processes_at_once(drip, tmp_path, delay_s):
    base = f"http://127.0.0.1:{drip.server_address[1]}"
    root = many(tmp_path / "w", {"a.example": base, "b.example": base})
    process = wildrf("fetch", "--workspace", root, "--json", stdout=subprocess.DEVNULL)
    two_at_work(process.pid)
    time.sleep(delay_s)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)

    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    assert group_ends(process.pid, 5)
    assert time.monotonic() - began < 10


@several
@pytest.mark.parametrize("delay_s", [0.0, 1.5])
def test_processes_that_fetch_do_not_outlive_a_command_that_was_killed(drip, tmp_path, delay_s):
    base = f"http://127.0.0.1:{drip.server_address[1]}"
    root = many(tmp_path / "w", {"a.example": base, "b.example": base})
    process = wildrf("fetch", "--workspace", root, "--json")
    two_at_work(process.pid)
    time.sleep(delay_s)
    process.kill()
    _, said = process.communicate(timeout=60)

    assert group_ends(process.pid, 10)
    assert "Traceback" not in said


@several
def test_a_fetch_of_which_a_process_is_killed_says_so_and_ends(drip, tmp_path):
    base = f"http://127.0.0.1:{drip.server_address[1]}"
    root = many(tmp_path / "w", {"a.example": "/nowhere", "b.example": base})
    process = wildrf("fetch", "--workspace", root)
    for number in two_at_work(process.pid):
        if number != process.pid:
            os.kill(number, signal.SIGKILL)

    out, said = process.communicate(timeout=200)

    assert process.returncode == 0, said
    assert "1 of the processes that fetched died; run fetch again for what is left" in out + said


@several
def test_a_fetch_in_several_processes_that_is_killed_again_and_again_ends_the_same(tmp_path):
    folders = {}
    for host in ("a.example", "b.example"):
        folders[host] = tmp_path / host
        folders[host].mkdir()
        for number in range(0, 2 * WORTH + 200, 3):
            (folders[host] / f"{number}.jpg").write_bytes(
                b"\xff\xd8\xff" + bytes([number % 251]) * 9
            )
    whole = many(tmp_path / "whole", folders)
    finish(wildrf("fetch", "--workspace", whole))
    root = many(tmp_path / "w", folders)
    delays = random.Random(11)

    for _ in range(5):
        process = wildrf("fetch", "--workspace", root)
        time.sleep(delays.uniform(0.5, 1.6))
        process.kill()
        process.communicate(timeout=60)
        assert group_ends(process.pid, 10)
    finish(wildrf("fetch", "--workspace", root))

    assert rows_of(root)["fetch"] == rows_of(whole)["fetch"]
    assert media_of(root) == media_of(whole)
    assert list((root / "media" / ".incoming").iterdir()) == []
