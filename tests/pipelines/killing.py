"""A helper program: the real command line, killed by the kernel at a point that is named beforehand.

It imports everything once, then reads one JSON request per line: {"root", "argv", "stage", "point"}. Each
is run in a forked child that ends itself with SIGKILL at that point of that stage (null: never). Points
are: rows written and not yet committed, committed and not yet closed, a file opened for writing, renamed
or removed, media written and not yet moved into place, and the end of the stage. The answer says how the
child ended, how many points each stage had, and what it wrote to stderr. Batches are made small, so that
there are many points.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

FILES = ("os.rename", "os.remove", "os.mkdir")
HEAVY = (
    "duckdb",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "torch",
    "train.training",
    "train.evaluate",
    "pipelines.judge",
    "pipelines.detect",
    "pipelines.engines",
    "labeling.stage",
)


class Points:
    """Counts the points of each stage, and ends the process at the one that is asked for."""

    def __init__(self, root: str, stage: str | None, point: int | None) -> None:
        self.root, self.wanted = root, (stage, point)
        self.stage, self.counts, self.lock = "", {}, threading.Lock()

    def pass_one(self) -> None:
        with self.lock:
            self.counts[self.stage] = self.counts.get(self.stage, 0) + 1
            if (self.stage, self.counts[self.stage]) == self.wanted:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_event(self, event: str, args: tuple) -> None:
        """An audit hook: files of the workspace that are written, renamed or removed."""
        opened = event == "open" and str(args[1])[:1] in ("w", "x", "a")
        named = args and isinstance(args[0], str | Path) and str(args[0]).startswith(self.root)
        if named and (opened or event in FILES):
            self.pass_one()


def install(points: Points) -> None:
    """Put the points where the program does what can be half done."""
    from curate import catalog, store
    from curate.stages import collecting, fetching, probing
    from labeling import stage as labelling
    from pipelines import whole_run

    collecting.BATCH, fetching.BATCH, probing.BATCH, labelling.BATCH = 7, 10, 16, 20
    writing, closing, write = catalog.Catalog.writing, catalog._closing, store.MediaStore._write

    @contextlib.contextmanager
    def passing_writing(self):
        with writing(self) as db:
            yield db
            points.pass_one()

    @contextlib.contextmanager
    def passing_closing(db):
        with closing(db):
            yield db
            points.pass_one()

    def passing_write(self, digest, data):
        write(self, digest, data)
        points.pass_one()

    def passing_stage(stage):
        def work(context):
            points.stage = stage.name
            result = stage.work(context)
            points.pass_one()
            return result

        return replace(stage, work=work)

    catalog.Catalog.writing, catalog._closing = passing_writing, passing_closing
    store.MediaStore._write = passing_write
    whole_run.STAGES = tuple(map(passing_stage, whole_run.STAGES))
    sys.addaudithook(points.on_event)


def child(request: dict, told: str, counted: str) -> None:
    """Run one request in this process and end."""
    with open(told, "w") as file:
        os.dup2(file.fileno(), 2)
    points = Points(request["root"], request["stage"], request["point"])
    install(points)
    from pipelines.cli import main

    sys.argv = ["wildrf", *request["argv"]]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    Path(counted).write_text(json.dumps(points.counts))
    sys.stderr.flush()
    os._exit(code)


def answer(request: dict) -> dict:
    """Fork, wait, and say how it went; -9 is killed."""
    with tempfile.TemporaryDirectory() as folder:
        told, counted = f"{folder}/stderr", f"{folder}/points"
        number = os.fork()
        if number == 0:
            child(request, told, counted)
        _, status = os.waitpid(number, 0)
        points = json.loads(Path(counted).read_text()) if Path(counted).exists() else {}
        said = Path(told).read_text() if Path(told).exists() else ""
    return {"code": os.waitstatus_to_exitcode(status), "points": points, "stderr": said}


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
