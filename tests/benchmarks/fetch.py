"""How fast media are fetched, beside img2dataset. Run: python tests/benchmarks/fetch.py [--peer COMMAND]

A local nginx serves files of random bytes that begin like a JPEG. Both programs bring all of them home as
they are, as whole commands, in turns: `wildrf fetch` from rows of the catalog to stored, hashed and recorded
media; img2dataset (`pip install img2dataset` in an environment of its own) from a list to files, without
re-encoding, in two processes, with as many threads as `--threads` says, one number per round. All of it lies
under the folder where this is started: one in memory (/dev/shm) shows the programs, another the disk too, and
ext4 is slow to make files for minutes after many were removed.
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from curate.workspace import create_workspace
from schemas.records import Media, Post

NGINX = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000; types {{ image/jpeg jpg; }}
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{ listen 127.0.0.1:{port}; root {root}/www; }}
}}
"""
MAIN = "import sys; from pipelines.cli import main; sys.argv[0] = 'wildrf'; main()"


def make_files(www: Path, count: int, size: int, hosts: int) -> dict[str, str]:
    """Path under `www` -> digest."""
    made = {}
    for number in range(count):
        path = www / f"h{number % hosts}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"\xff\xd8\xff\xe0" + os.urandom(size - 4)
        path.write_bytes(data)
        made[str(path.relative_to(www))] = hashlib.sha256(data).hexdigest()
    return made


def start_nginx(root: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (root / "nginx.conf").write_text(NGINX.format(root=root, port=port))
    command = ["nginx", "-e", str(root / "nginx.log"), "-c", str(root / "nginx.conf")]
    process = subprocess.Popen(command)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nginx does not start; see its log")


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock, seconds of the processors, and what was said."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, busy, done.stdout + done.stderr


def ours(root: Path, base: str, files: dict[str, str]) -> tuple[float, float, float]:
    """Seconds of the command, of the processors, and of the same command with nothing left to do."""
    workspace = create_workspace(root)
    hosts = sorted({path.split("/")[0] for path in files})
    mirrors = "\n".join(f'"{host}.example" = "{base}/{host}"' for host in hosts)
    (root / "wildrf.toml").write_text(f'name = "bench"\n[fetch.mirrors]\n{mirrors}\n')
    posts = [Post("x", str(n), "s", None, None) for n in range(len(files))]
    urls = ["https://{}.example/{}".format(*path.split("/")) for path in files]
    media = [Media("x", str(n), 0, "s", url=url) for n, url in enumerate(urls)]
    workspace.catalog.add("post", posts)
    workspace.catalog.add("media", media)
    command = [sys.executable, "-c", MAIN, "fetch", "--workspace", str(root), "--json"]
    seconds, busy, told = timed(command)
    result = json.loads(told[told.index("{") : told.rindex("}") + 1])
    assert result["ok"] == len(files), result
    rows = workspace.catalog.rows("SELECT post_id, digest FROM stored")
    assert {r["post_id"]: r["digest"] for r in rows} == {
        str(n): digest for n, digest in enumerate(files.values())
    }
    assert all(workspace.store.get(digest) for digest in set(files.values()))
    return seconds, busy, timed(command)[0]


def peer(
    command: str, root: Path, base: str, files: dict[str, str], threads: int
) -> tuple[float, float, float]:
    """Seconds of the command, of the processors, and its own figure of files per second."""
    root.mkdir()
    (root / "urls.txt").write_text("".join(f"{base}/{path}\n" for path in files))
    shard = -(-len(files) // 2)
    options = f"--processes_count 2 --thread_count {threads} --number_sample_per_shard {shard}"
    fixed = "--disable_all_reencoding True --extract_exif False --output_format files --enable_wandb False"
    where = ["--url_list", str(root / "urls.txt"), "--output_folder", str(root / "out")]
    seconds, busy, told = timed([command, *where, *options.split(), *fixed.split()])
    kept = {hashlib.sha256(f.read_bytes()).hexdigest() for f in (root / "out").rglob("*.jpg")}
    assert kept == set(files.values())
    return seconds, busy, float(re.findall(r"total .* images per sec: (\d+)", told)[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="the command img2dataset")
    parser.add_argument("--threads", default="16,32,64")
    asked = parser.parse_args()
    threads = itertools.cycle(map(int, asked.threads.split(",")))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        root.chmod(0o755)  # nginx reads as another user
        files = make_files(root / "www", asked.files, asked.size, asked.hosts)
        nginx, base = start_nginx(root)
        mine, theirs = [], []
        try:
            for number in range(asked.rounds):
                mine.append(ours(root / f"w{number}", base, files))
                show("wildrf", mine[-1], asked.files)
                if asked.peer:
                    n = next(threads)
                    theirs.append(peer(asked.peer, root / f"p{number}", base, files, n))
                    show(f"img2dataset, {n} threads", theirs[-1], asked.files)
        finally:
            nginx.terminate()
            nginx.wait()
    work = asked.files / min(seconds - nothing for seconds, _, nothing in mine)
    print(f"wildrf without its start: {work:.0f} files/s")
    if asked.peer:
        (wall, busy), (wall2, busy2) = (
            [min(run[column] for run in runs) for column in (0, 1)] for runs in (mine, theirs)
        )
        print(f"img2dataset by its own count: {max(run[2] for run in theirs):.0f} files/s")
        print(
            f"best of each: {wall2 / wall:.2f} times as fast, {busy2 / busy:.2f} by processor time"
        )


def show(what: str, run: tuple[float, float, float], files: int) -> None:
    rate = files / run[0]
    print(f"{what:24} {run[0]:6.2f} s, {rate:6.0f} files/s, {run[1]:6.2f} s busy", flush=True)


if __name__ == "__main__":
    main()
