"""Demo: a small simulated world, every stage on it, one report, and a comparison with the planted truth.

The world's hosts are served on this machine, so the downloads are real ones. Killed and run again, the demo
goes on where it was and ends with the same catalog: the world, and the key of its author hashes, come from
the seed alone.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from curate.catalog import Catalog
from curate.simulated import WorldSpec, build_world, serve_media
from curate.work import Engine, Progress
from curate.workspace import IGNORED, POLICY, SECRET, Workspace, keep_out_of_git, open_workspace
from pipelines.truth import Finding, compare
from pipelines.whole_run import STAGES, Context, Stage, run_stages
from schemas.errors import GateError, InputError

Say = Callable[[str], None]

STUDENT = "tiny-ladeda"
STUDENT_EPOCHS = 8
STUDENT_CROP = 160
REDDIT_SHARE = 0.7
"""Of the pictures: the platform that is trained on needs more than the one that only tests."""


def run(
    root: Path,
    *,
    images: int,
    seed: int,
    engine: Engine,
    progress: Progress,
    say: Say,
) -> dict[str, Any]:
    """Build or continue the demo in `root`.

    Raises:
        InputError: if `root` holds something else, or a demo of another world.
        GateError: if its splits leak.
    """
    began = time.monotonic()
    spec = WorldSpec(seed=seed, images=images, reddit_share=REDDIT_SHARE)
    world = make_world(root, spec, engine, say)
    workspace = make_workspace(root, seed)
    with serve_media(world) as base:
        context = Context(with_mirrors(workspace, world / "media", base), engine, progress, say)
        stages = run_stages(context, (*STAGES, Stage("distill", "teach a small detector", distill)))
    if stages["stopped"]:
        raise GateError(stages["stopped"])
    findings = compare(workspace, world / "truth.json", context.results)
    seconds = time.monotonic() - began
    report = write_report(context, findings, seconds)
    return {
        "workspace": str(root),
        "report": str(report),
        "truth": {"path": str(world / "truth.json"), "findings": [asdict(f) for f in findings]},
        "agrees": all(f.ok is not False for f in findings),
        "seconds": round(seconds, 1),
        **stages,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """What was planted, what was found, and where the report is."""
    marks = {True: "ok  ", False: "DIFF", None: "-   "}
    findings = result["truth"]["findings"]
    told = [
        f"{marks[f['ok']]} {f['what']}: planted {f['planted']}, found {f['found']}"
        for f in findings
    ]
    verdict = "agrees" if result["agrees"] else "DOES NOT AGREE"
    return [
        "against the planted truth (simulated data):",
        *(f"  {line}" for line in told),
        f"the demo {verdict} with its truth after {result['seconds']:.0f} s",
        f"report: {result['report']}",
    ]


def make_world(root: Path, spec: WorldSpec, engine: Engine, say: Say) -> Path:
    """The world in `root/world`; one that is whole and of the same spec is left alone.

    Raises:
        InputError: if another world is there, or anything that no demo made.
    """
    world = root / "world"
    wanted = hashlib.sha256(repr(asdict(spec)).encode()).hexdigest()
    mark = root / ".world"
    _claim(root)
    if mark.is_file():
        if mark.read_text() != wanted:
            raise InputError(
                f"{root} holds a demo of another world (other --images or --seed); name another folder"
            )
        return world
    began = time.monotonic()
    if world.exists():  # one that was not finished
        shutil.rmtree(world)
    build_world(world, spec, engine=engine)
    waiting = root / ".world.part"
    waiting.write_text(wanted)
    waiting.replace(mark)
    say(f"world: {spec.images} simulated pictures ({time.monotonic() - began:.1f} s)")
    return world


def _claim(root: Path) -> None:
    """Mark `root` as a demo's, whose files may be made anew.

    Raises:
        InputError: if it holds what no demo put there.
    """
    mark = root / ".demo"
    if mark.is_file():
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f"{root} holds something that is no demo; expected a new or empty folder; name another"
        )
    root.mkdir(parents=True, exist_ok=True)
    mark.touch()


def make_workspace(root: Path, seed: int) -> Workspace:
    """The demo's workspace. Its secret is derived from the seed: nobody in it is real.

    Raises:
        InputError: if it was made before demos said of themselves that they are simulated.
    """
    if not (root / POLICY).exists():
        secret = hashlib.sha256(f"wildrf demo {seed}".encode()).hexdigest()
        handle = os.open(root / SECRET, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secret + "\n")
        keep_out_of_git(root, IGNORED + "world/\n")
        Catalog(root / "catalog.duckdb").create()
        text = files("pipelines").joinpath("demo.toml").read_text(encoding="utf-8")
        waiting = root / f".{POLICY}"
        waiting.write_text(text, encoding="utf-8")
        waiting.replace(root / POLICY)
    workspace = open_workspace(root)
    if not workspace.policy.simulated:
        raise InputError(
            f"{root / POLICY} does not say `simulated = true`, as an older version's does not; name a new "
            "folder for the demo, or remove this one"
        )
    return workspace


def with_mirrors(workspace: Workspace, media: Path, base: str) -> Workspace:
    """The workspace, with every host of the world played by the local server at `base`."""
    mirrors = {host.name: f"{base}/{host.name}" for host in sorted(media.iterdir())}
    fetch = replace(workspace.policy.fetch, mirrors=mirrors)
    return replace(workspace, policy=replace(workspace.policy, fetch=fetch))


def student_folder(context: Context) -> Path:
    """Where the distilled detector goes: never where its teacher is, should both be of one kind."""
    folder = context.workspace.runs / f"{context.workspace.policy.release}-{STUDENT}"
    return folder.with_name(f"{folder.name}-student") if folder == context.run else folder


def distill(context: Context) -> dict[str, Any]:
    """A small detector, taught by the large one, and measured beside it."""
    from pipelines.detect import distill_run, evaluate_run, say_epoch

    out = student_folder(context)
    result = distill_run(
        context.run,
        out,
        context.release,
        lambda report: context.say(say_epoch(report)),
        progress=lambda _: context.progress,
        detector=STUDENT,
        epochs=STUDENT_EPOCHS,
        crop=STUDENT_CROP,
        learning_rate=context.workspace.policy.train.learning_rate,  # as few epochs as its teacher's
    )
    scored = evaluate_run(
        out / "checkpoint.pt", context.release, out, context.workspace, context.progress
    )
    return {**result, "evaluation": scored}


def write_report(context: Context, findings: list[Finding], seconds: float) -> Path:
    """report.html beside the policy."""
    from pipelines.report.demo import write_demo_page

    return write_demo_page(context, findings, seconds, STUDENT)
