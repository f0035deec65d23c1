"""The verbs that grow a set: init, fetch, split, release. Each: run it, then say it in lines.

What a split needs (groups, and with them the comparing of pictures) takes a third of a second to load, so
only `split` loads it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.branches import Branch
from curate.stages.fetching import fetch_media
from curate.stages.releasing import release_catalog
from curate.work import Progress
from curate.workspace import Workspace, create_workspace
from pipelines.output import table
from schemas.errors import InputError


def init(root: Path) -> dict[str, Any]:
    """A new workspace."""
    return {"workspace": str(create_workspace(root).root)}


def init_lines(result: dict[str, Any]) -> list[str]:
    """What to do next."""
    return [
        f"workspace {result['workspace']} is ready",
        "next: edit wildrf.toml (platforms, tags), then `wildrf collect EXPORT`",
    ]


def fetch(workspace: Workspace, progress: Progress, ready: Sequence[Branch] = ()) -> dict[str, Any]:
    """Bring media home, with the help of processes that were started before."""
    return fetch_media(workspace, progress, ready=ready)


def fetch_lines(result: dict[str, Any]) -> list[str]:
    """What came and what did not."""
    failed = sum(result["failed"].values())
    return [
        f"{result['ok']} images here ({result['bytes'] / 1e6:.1f} MB), {failed} failed, "
        f"{result['tried']} tried now",
        *(f"  failed {n}: {cause}" for cause, n in result["failed"].items()),
        *(
            f"  left {n} for later: {host} wants no more requests now; run fetch again in a while"
            for host, n in result["later"].items()
        ),
        *(
            [
                f"  {result['died']} of the processes that fetched died; run fetch again for what is left"
            ]
            if result["died"]
            else []
        ),
        *(
            f"  suspect {one['digest'][:12]}: the same picture under {one['posts']} unrelated posts"
            for one in result["suspects"][:SUSPECTS_SHOWN]
        ),
    ]


SUSPECTS_SHOWN = 5


def split(workspace: Workspace, name: str) -> dict[str, Any]:
    """Assign groups to splits."""
    from curate.stages.splitting import split_catalog

    return split_catalog(workspace, name)


NOTHING_PLACED = "no image was placed; collect, fetch, probe, dedupe and label come before"


def split_lines(result: dict[str, Any]) -> list[str]:
    """The table of the splits, and what was left out."""
    rows = [
        [split, platform, str(cell.get("0_real", 0)), str(cell.get("1_fake", 0))]
        for split, platforms in result["counts"].items()
        for platform, cell in platforms.items()
    ]
    return [
        *(table(rows, ["split", "platform", "real", "fake"]) if rows else [NOTHING_PLACED]),
        *(f"left out {n}: {reason}" for reason, n in result["dropped"].items()),
    ]


def release(workspace: Workspace, name: str, form: str, progress: Progress) -> dict[str, Any]:
    """Write a release to disk.

    Raises:
        InputError: if the format is not one that can be written.
    """
    if form != "wildrf":
        raise InputError(f"--format {form} is not yet here; expected wildrf")
    return release_catalog(workspace, name, progress)


def release_lines(result: dict[str, Any]) -> list[str]:
    """Where it is, and what labels that contradict each other kept out of it."""
    return [
        f"{result['images']} images in {result['path']}, root hash {result['root_hash'][:16]}",
        *conflict_lines(result["conflicts"]),
    ]


def conflict_lines(images: int) -> list[str]:
    """How many images are blocked by contradicting labels; nothing where there are none."""
    if not images:
        return []
    return [
        f"blocked {images}: copies of one picture have both labels; `wildrf label push` shows them "
        "first, `wildrf dedupe --not-same A B` parts pictures that are not one"
    ]
