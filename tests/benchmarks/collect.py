"""How fast a dump is collected, and in how much memory. Run: python tests/benchmarks/collect.py [LINES]

A simulated Reddit dump of LINES submissions (a million unless said) goes through `wildrf collect` into a new
workspace, on one core, DuckDB's threads included; then one of ten times as many, made of copies whose ids
differ. Memory is the peak of the whole process (ru_maxrss).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from curate.exports import open_export
from curate.simulated.reddit_export import write_dump, write_reddit_dump
from curate.workspace import create_workspace

COPIES = 10
COMMAND = "from pipelines.cli import main; main()"


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "RS_1x.zst", Path(folder) / f"RS_{COPIES}x.zst"
        write_reddit_dump(small, lines)
        write_dump(large, copies(small))
        print(
            f"{'lines':>11} {'kept':>10} {'lines/s':>9} {'kept/s':>9} {'CPU s':>7} {'peak MB':>8}"
        )
        rates = [measured(path, Path(folder) / path.stem) for path in (small, large)]
        print(f"the rate at {COPIES} times the lines is {rates[1] / rates[0] - 1:+.1%}")


def copies(path: Path) -> Iterator[bytes]:
    """Every line several times, each time with other ids: all of them begin with 1f."""
    for number in range(COPIES):
        for line in open_export(path).lines(path.name):
            yield line.replace(b"1f0", b"1%c0" % (ord("f") + number))


def measured(path: Path, root: Path) -> float:
    """Collect one dump and say how it went; processor seconds tell more than the clock on a busy machine."""
    create_workspace(root)
    core = min(os.sched_getaffinity(0))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "collect", str(path), "--workspace", str(root), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    assert status == 0, status
    busy = used.ru_utime + used.ru_stime
    print(
        f"{told['seen']:11,} {told['posts']:10,} {told['seen'] / seconds:9,.0f} "
        f"{told['posts'] / seconds:9,.0f} {busy:7.1f} {used.ru_maxrss / 1024:8.0f}"
    )
    return float(told["seen"] / busy)


if __name__ == "__main__":
    main()
