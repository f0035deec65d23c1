"""Run: every stage of the workspace's policy in order, each doing only what is missing.

Leaks stop the run before anything is released. A shortcut does not: it is measured, told in the audit and in
the exit code, and the detector's numbers must be read beside it.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from curate.stages.collecting import collect_export
from curate.stages.fetching import fetch_media, media_to_fetch
from curate.stages.grouping import dedupe_catalog
from curate.stages.probing import images_to_probe, probe_store
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.work import Engine, Progress
from curate.workspace import Workspace
from labeling.stage import take_in_all
from labeling.tasks import read_export
from pipelines import judge
from pipelines.detect import show_metric
from schemas.errors import InputError, OtherRunError

Say = Callable[[str], None]


@dataclass(slots=True)
class Context:
    """What a stage is given."""

    workspace: Workspace
    engine: Engine
    progress: Progress
    say: Say
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def release(self) -> Path:
        """The release that this run makes."""
        return self.workspace.releases / self.workspace.policy.release

    @property
    def run(self) -> Path:
        """The detector that this run trains."""
        policy = self.workspace.policy
        return self.workspace.runs / f"{policy.release}-{policy.train.detector}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its name, what it does in words, the function, and what is left for it to do."""

    name: str
    does: str
    work: Callable[[Context], dict[str, Any]]
    left: Callable[[Context], str] = lambda _: "whatever the stages before it change"


def run_stages(context: Context, stages: tuple["Stage", ...]) -> dict[str, Any]:
    """Every stage in turn; how each went and how long it took.

    A leak stops it: `stopped` then says so and what to do, else it is None. `passes` is whether every gate
    said yes.
    """
    report, stopped = [], None
    for stage in stages:
        began = time.monotonic()
        result = stage.work(context)
        seconds = round(time.monotonic() - began, 3)
        context.results[stage.name] = result
        report.append({"name": stage.name, "seconds": seconds, **_brief(result)})
        context.told.append((stage.name, summary(stage.name, result), seconds))
        context.say(f"{stage.name}: {context.told[-1][1]} ({seconds:.1f} s)")
        if stage.name == "check" and not result["clean"]:
            stopped = LEAKS.format(release=context.workspace.policy.release)
            context.say(stopped)
            break
    return {
        "stages": report,
        "stopped": stopped,
        "passes": stopped is None and context.results.get("audit", {}).get("passes", True),
        "simulated": context.workspace.policy.simulated,
    }


LEAKS = "the splits leak; expected no leak, so nothing is released; see `wildrf check --release {release}`"


def plan(context: Context, stages: tuple["Stage", ...]) -> dict[str, Any]:
    """What `run` would do now, without doing it."""
    return {
        "stages": [{"name": s.name, "does": s.does, "left": s.left(context)} for s in stages],
        "dry_run": True,
    }


def collect(context: Context) -> dict[str, Any]:
    """Every export of the policy."""
    parts = [
        {"export": path.name, **collect_export(context.workspace, path, None, context.progress)}
        for path in _named(context.workspace, context.workspace.policy.exports, "exports")
    ]
    return {
        "posts": sum(p["posts"] for p in parts),
        "media": sum(p["media"] for p in parts),
        "exports": parts,
    }


def fetch(context: Context) -> dict[str, Any]:
    """Media into the store."""
    return fetch_media(context.workspace, context.progress)


def probe(context: Context) -> dict[str, Any]:
    """File facts."""
    return probe_store(context.workspace, context.engine, context.progress)


def dedupe(context: Context) -> dict[str, Any]:
    """Matches and groups."""
    return dedupe_catalog(context.workspace, context.progress)


def label(context: Context) -> dict[str, Any]:
    """The votes that the policy names; labels are decided once all of them are here."""
    workspace = context.workspace
    paths = _named(workspace, workspace.policy.labeling.imports, "labeling.imports")
    return take_in_all(workspace, ((read_export(path), f"file:{path.name}") for path in paths))


def split(context: Context) -> dict[str, Any]:
    """Who goes where."""
    return split_catalog(context.workspace, context.workspace.policy.release)


def check(context: Context) -> dict[str, Any]:
    """Leaks of the split, found afresh."""
    policy = context.workspace.policy
    found = judge.survey_catalog(context.workspace, policy.release)
    return judge.check(found, policy.split.check_distance_bits)


def release(context: Context) -> dict[str, Any]:
    """The folder."""
    return release_catalog(context.workspace, context.workspace.policy.release, context.progress)


def audit(context: Context) -> dict[str, Any]:
    """Shortcuts of what is released."""
    policy = context.workspace.policy
    return judge.audit_survey(
        judge.survey_catalog(context.workspace, policy.release),
        gate=policy.gates.shortcut_auc,
        report=context.workspace.root / f"audit-{policy.release}.html",
    )


def train(context: Context) -> dict[str, Any]:
    """The detector of the policy, and what it makes of the workspace's cases, if there are some.

    Raises:
        InputError: if its folder holds that of another policy or release.
    """
    from pipelines import cases
    from pipelines.detect import moved_lines, say_epoch
    from train.training import train_detector

    table = cases.table_for(None, context.workspace.root)
    try:
        trained = train_detector(
            context.release,
            context.run,
            context.workspace.policy.train,
            on_epoch=lambda report: context.say(say_epoch(report)),
            progress=context.progress,
        )
    except OtherRunError as error:
        raise InputError(
            f"{context.run} holds another run ({error.differs}); expected one of this [train] and this "
            "release; move that folder away to train anew, or take the change back"
        ) from None
    result = trained.to_dict()
    for line in (*moved_lines(result), *cases.after_training(result, table)):
        context.say(line)
    return result


def evaluate(context: Context) -> dict[str, Any]:
    """The detector's numbers on every platform; its scores go to the catalog."""
    from pipelines.detect import evaluate_run

    checkpoint = context.run / "checkpoint.pt"
    return evaluate_run(
        checkpoint, context.release, context.run, context.workspace, context.progress
    )


def exports_left(context: Context) -> str:
    """Exports that the catalog does not know by their place."""
    workspace = context.workspace
    known = {r["location"] for r in workspace.catalog.rows("SELECT location FROM source")}
    named = list(_named(workspace, workspace.policy.exports, "exports"))
    new = sum(str(path.resolve()) not in known for path in named)
    return f"{new} of {len(named)} exports are new"


def media_left(context: Context) -> str:
    """Media that is not here."""
    return f"{media_to_fetch(context.workspace)} media items known so far are to be tried"


def images_left(context: Context) -> str:
    """Images without facts."""
    return f"{len(images_to_probe(context.workspace))} images known so far are to be examined"


def votes_left(context: Context) -> str:
    """Files of votes."""
    policy = context.workspace.policy.labeling
    files = list(_named(context.workspace, policy.imports, "labeling.imports"))
    return f"{len(files)} files of votes are read; votes that are here already change nothing"


def release_left(context: Context) -> str:
    """Whether the release is written."""
    return f"{context.release} {'is there' if context.release.is_dir() else 'is to be written'}"


def detector_left(context: Context) -> str:
    """Whether the detector is trained."""
    trained = (context.run / "metrics.json").is_file()
    return f"{context.run} {'is there' if trained else 'is to be trained'}"


STAGES: tuple[Stage, ...] = (
    Stage("collect", "read the exports that the policy names", collect, exports_left),
    Stage("fetch", "bring media into the store", fetch, media_left),
    Stage("probe", "read file facts and fingerprints", probe, images_left),
    Stage("dedupe", "find copies and group them", dedupe),
    Stage("label", "take in votes and decide labels", label, votes_left),
    Stage("split", "assign groups to splits", split),
    Stage("check", "look for leaks; any leak stops the run", check),
    Stage("release", "write the WildRF folder and its manifest", release, release_left),
    Stage("audit", "measure shortcuts", audit),
    Stage("train", "train the detector", train, detector_left),
    Stage("evaluate", "score every platform", evaluate),
)
"""What `wildrf run` does, in order."""


def summary(name: str, result: dict[str, Any]) -> str:
    """One stage's outcome in a few words."""
    telling = SUMMARIES.get(name)
    return telling(result) if telling else json.dumps(_brief(result), default=str)[:200]


def _placed(result: dict[str, Any]) -> str:
    placed = [n for s in result["counts"].values() for cell in s.values() for n in cell.values()]
    blocked = result["dropped"].get("label-conflict", 0)
    told = f", {blocked} of them as copies of one picture have both labels" if blocked else ""
    return f"{sum(placed)} images placed, {sum(result['dropped'].values())} left out{told}"


def _evaluated(result: dict[str, Any]) -> str:
    cells = (f"{p} {show_metric(v, 'ap')} (n={v['n']})" for p, v in result["platforms"].items())
    return f"mean {show_metric(result['mean'], 'ap')}: {', '.join(cells)}"


SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "collect": lambda r: (
        f"{r['posts']} posts with {r['media']} images in {len(r['exports'])} exports"
    ),
    "fetch": lambda r: f"{r['ok']} downloads kept, {sum(r['failed'].values())} without an image",
    "probe": lambda r: f"{r['images']} different files, {r['broken']} do not decode",
    "dedupe": lambda r: f"{r['matches']} pairs of copies in {r['groups']} groups",
    "label": lambda r: (
        f"{r['annotations']} votes: {r.get('real', 0)} images real, {r.get('fake', 0)} generated, "
        f"{r.get('undecided', 0)} undecided"
    ),
    "split": _placed,
    "check": lambda r: "no leak across splits" if r["clean"] else judge.count_leaks(r),
    "release": lambda r: f"{r['images']} images, root hash {r['root_hash'][:12]}",
    "audit": lambda r: f"{r['verdict']}: {r['why']}",
    "train": lambda r: (
        f"val {show_metric(r['val'], 'ap')} (n={r['val']['n']}) after {r['epochs']} epochs"
    ),
    "evaluate": _evaluated,
    "distill": lambda r: _evaluated(r["evaluation"]),
}


def _named(workspace: Workspace, patterns: tuple[str, ...], key: str) -> Iterator[Path]:
    """The paths that globs of the policy name, in order, each once.

    Raises:
        InputError: if a pattern names nothing.
    """
    if not patterns:
        raise InputError(f"wildrf.toml names no {key}; add some, or run the stages one by one")
    told: set[Path] = set()
    for pattern in patterns:
        found = _matching(workspace.root, pattern)
        if not found:
            raise InputError(
                f"{key} = {pattern!r} names nothing in {workspace.root}; mend wildrf.toml"
            )
        new = {path.resolve(): path for path in found if path.resolve() not in told}
        told.update(new)
        yield from new.values()


def _matching(root: Path, pattern: str) -> list[Path]:
    """What a glob names, in order; a name with brackets in it may stand for itself."""
    if (root / pattern).exists():
        return [root / pattern]
    names = glob(pattern, root_dir=root, recursive=True, include_hidden=True)
    return sorted(root / name for name in names)


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """The parts of a result that are small."""
    return {k: v for k, v in result.items() if k not in ("leaks", "features", "matches", "exports")}
