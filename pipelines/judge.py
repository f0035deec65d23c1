"""The verbs that judge a set: check for leaks, audit for shortcuts. On a folder, or on a release."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.bias import audit
from curate.candidates import Reader
from curate.leakage import Leak, find_leaks, summarise
from curate.stages.checking import survey_release
from curate.stages.grouping import catalog_thumbnails
from curate.survey import Files, Surveyed, find_files, iter_survey, laid_down
from curate.work import Engine, Progress, counted
from curate.workspace import Workspace
from pipelines.examine import MAX_PIXELS
from pipelines.output import table
from schemas.errors import InputError
from schemas.policy import Policy
from schemas.records import Thumbnail
from train.simulated import is_simulated

SHOWN = 20
"""Leaks named one by one for people."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is judged: images, the rules to judge by, where the files lie, and what was passed over.

    `root` is None for a release that is not written yet; `ignored` counts files that are no images by
    their suffix; `simulated` says that a program made the images; `read` gives thumbnails that the images do
    not carry.
    """

    items: list[Surveyed]
    policy: Policy
    root: Path | None
    ignored: dict[str, int]
    simulated: bool
    read: Reader | None = None


def survey_folder(root: Path, engine: Engine, progress: Progress) -> Survey:
    """Every image under `root`, examined; a folder is judged by the default policy."""
    return _survey(root, find_files(root), engine, progress)


def survey_images(root: Path, paths: Sequence[str], engine: Engine, progress: Progress) -> Survey:
    """The images at `paths` under `root`, examined; also those that a link to a folder leads to."""
    return _survey(root, Files(tuple(paths), {}), engine, progress)


def _survey(root: Path, files: Files, engine: Engine, progress: Progress) -> Survey:
    progress.start(f"examine {root.name}", len(files.images))
    examined = iter_survey(root, files, engine, max_pixels=MAX_PIXELS)
    found, spool = laid_down(counted(examined, progress))
    ignored = dict(files.others)
    return Survey(found, Policy(name="folder"), root, ignored, is_simulated(root), spool.read)


def read_all(surveys: Sequence[Survey]) -> Reader:
    """A reader of the thumbnails of several surveys; an image that is in two is read from one."""
    held_by = {
        row.image.digest: n
        for n, one in enumerate(surveys)
        for row in one.items
        if row.image.error is None
    }

    def read(digests: Sequence[str]) -> Iterator[Thumbnail]:
        for n, one in enumerate(surveys):
            if one.read is not None:
                yield from one.read([digest for digest in digests if held_by[digest] == n])

    return read


def survey_catalog(workspace: Workspace, name: str) -> Survey:
    """The items of a release, from the catalog, to be judged by the workspace's policy."""
    items, root = survey_release(workspace, name), workspace.releases / name
    written = root if root.is_dir() else None
    policy = workspace.policy
    return Survey(items, policy, written, {}, policy.simulated, catalog_thumbnails(workspace))


def need_writable(report: Path) -> None:
    """Find out before the work whether a page can be written.

    Raises:
        InputError: if not.
    """
    if report.is_dir():
        raise InputError(f"{report} is a folder; expected a file name such as audit.html")
    place = next(p for p in report.absolute().parents if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"{report} cannot be written; name another file with --report")


def check(found: Survey, distance_bits: int) -> dict[str, Any]:
    """Leaks among what was found."""
    leaks = find_leaks(found.items, distance_bits=distance_bits, read=found.read)
    return {**summarise(leaks), **_counted(found)}


def count_leaks(result: dict[str, Any]) -> str:
    """How many leaks there are, and of which kinds."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in result["counts"].items() if n)
    return f"{len(result['leaks'])} leaks: {kinds}"


def check_lines(result: dict[str, Any]) -> list[str]:
    """The verdict, then the leaks."""
    head = "no leak" if result["clean"] else count_leaks(result)
    shown = result["leaks"][:SHOWN]
    more = len(result["leaks"]) - len(shown)
    return [
        f"{head} ({result['images']} images in {', '.join(result['splits']) or 'no split'})",
        *(
            f"  {k['kind']}: {k['a']} ({k['split_a']}) and {k['b']} ({k['split_b']}), {k['evidence']}"
            for k in shown
        ),
        *([f"  and {more} more; --json lists them all"] if more else []),
        *_left_aside(result),
    ]


def audit_survey(found: Survey, *, gate: float, report: Path | None) -> dict[str, Any]:
    """The shortcut audit of what was found; with `report`, its page is written there."""
    items, bits = found.items, found.policy.dedupe.distance_bits
    result = {**audit(items, gate=gate, distance_bits=bits), **_counted(found)}
    written = report if found.root is not None else None
    if written is not None and found.root is not None:
        from pipelines.report.audit import write_audit_page

        leaks: list[Leak] = find_leaks(items, distance_bits=bits, read=found.read)
        write_audit_page(result, items, found.root, written, leaks=leaks)
    return {**result, "report": str(written) if written else None}


def audit_lines(result: dict[str, Any]) -> list[str]:
    """The verdict, why, and the strongest features."""
    rows = [
        [f["name"], f"{f['auc']:.3f}", f"{f['low']:.3f}", f"{f['high']:.3f}"]
        for f in sorted(result["features"], key=lambda f: -f["auc"])[:8]
    ]
    report = result["report"] or "none, as the release is not written yet; run `wildrf release`"
    return [
        f"verdict: {result['verdict']} (gate {result['gate']:g})",
        result["why"],
        *([f"causes: {', '.join(result['causes'])}"] if result["causes"] else []),
        *(table(rows, ["file fact alone", "AUC", "low", "high"]) if rows else []),
        *_left_aside(result),
        f"report: {report}",
    ]


def _counted(found: Survey) -> dict[str, Any]:
    items = found.items
    splits = {i.placement.split.value for i in items if i.placement and i.placement.split}
    return {
        "images": len(items),
        "splits": sorted(splits),
        "unplaced": sum(i.placement is None for i in items),
        "broken": sum(i.image.error is not None for i in items),
        "simulated": found.simulated,
    }


def _left_aside(result: dict[str, Any]) -> list[str]:
    """What was in the folder and could not be judged."""
    ignored = result.get("ignored") or {}
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(ignored.items()))
    return [
        *([f"{result['broken']} images do not decode"] if result["broken"] else []),
        *(
            [f"{result['unplaced']} images lie under no label's folder"]
            if result["unplaced"]
            else []
        ),
        *(
            [f"{sum(ignored.values())} files that are no images were ignored: {kinds}"]
            if kinds
            else []
        ),
    ]
