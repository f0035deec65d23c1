"""Capture: ask a platform's own API, keep its answers as a file of the workspace, collect that file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.collectors.reading import iso_time
from curate.live import LIVE, Live
from curate.live.asking import Asking
from curate.live.capturing import Captured, capture
from curate.live.contract import Asked
from curate.stages.collecting import collect_export
from curate.work import Progress
from curate.workspace import Workspace
from pipelines.gather import collect_lines
from schemas.errors import InputError

FOLDER = "captures"
ENDING = ".jsonl"
SHARED = ("limit", "since")
"""Fields of what is asked that every platform knows."""


def run(
    workspace: Workspace,
    platform: str,
    asked: Asked,
    into: Path | None,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    """Capture into a file of the workspace, a new one or `into`, and collect it.

    Raises:
        InputError: what is asked cannot be, or `into` is no place for it.
        Stopped: the platform refuses, and gave nothing.
    """
    live = LIVE[platform]
    path = capture_path(workspace, live, asked, into)
    secrets = {key: environ[key] for key in live.SECRETS if key in environ}
    hidden = tuple(value for value in secrets.values() if value)
    with Asking(workspace.policy.fetch, say, hidden=hidden) as asking:
        found = capture(live, asked, path, asking, secrets, progress)
    held = path if found.records else None
    # Even after Ctrl-C: what came is on this machine already, and takes a moment.
    collected = _collected(workspace, held, platform, found, progress) if held else None
    return _result(platform, asked, held, found, collected)


def _collected(
    workspace: Workspace, path: Path, platform: str, found: Captured, progress: Progress
) -> dict[str, Any]:
    """The capture collected; its source is no more complete than it is."""
    result = collect_export(workspace, path, platform, progress)
    if not found.complete:
        detail = f"captured in part: {found.detail}"
        with workspace.catalog.writing() as db:
            db.execute(
                "UPDATE source SET complete = false, detail = ? WHERE source_id = ?",
                [detail, result["source"]],
            )
        result |= {"complete": False, "detail": detail}
    return {"export": str(path), **result}


def capture_path(workspace: Workspace, live: Live, asked: Asked, into: Path | None) -> Path:
    """The file to capture into, its folder made.

    Raises:
        InputError: `into` lies outside the workspace, or is a capture of something else.
    """
    what = f"{live.PLATFORM}-{live.name(asked)}"
    folder = workspace.root / FOLDER
    if into is None:
        into = folder / f"{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{ENDING}"
    path = into if into.parent != Path() else folder / into
    if not path.resolve().is_relative_to(folder.resolve()) or path.suffix != ENDING:
        raise InputError(
            f"--into {into} is no capture; expected {FOLDER}/NAME{ENDING} of the workspace"
        )
    if path.name.startswith(tuple(f"{name}-" for name in LIVE)) and not path.name.startswith(
        f"{what}-"
    ):
        raise InputError(
            f"--into {path.name} is a capture of something else; expected {what}-*{ENDING}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")  # names and pictures of people; workspaces of old do not ignore it
    return path


def lines(result: dict[str, Any]) -> list[str]:
    """What came, how it ended, and what collecting it gave."""
    if result["file"] is None:
        return [f"{result['platform']}: no records; {result['detail'] or 'there are none'}"]
    times = f", {result['first']} to {result['last']}" if result["first"] else ""
    said = [
        f"{result['file']}: {result['records']} records, {result['new_records']} of them new, "
        f"in {result['pages']} pages{times}"
    ]
    said += collect_lines(result["collected"])
    if not result["complete"]:
        said.append(f"  to go on, run the same with --into {Path(result['file']).name}")
    return said


def to_asked(platform: str, **options: Any) -> Asked:
    """Options of the command line as what is asked of a platform; those not given are None.

    Raises:
        InputError: it is no platform that can be asked, an option is not one of its own, or --since is
            no time.
    """
    if platform not in LIVE:
        raise InputError(f"{platform} cannot be captured; expected {', '.join(LIVE)}")
    given = {key: value for key, value in options.items() if value is not None}
    foreign = [key for key in given if key not in LIVE[platform].OPTIONS and key not in SHARED]
    if foreign:
        option = foreign[0].removesuffix("s")
        raise InputError(f"--{option} is not for {platform}; see `wildrf capture -h`")
    if "since" in given and iso_time(given["since"]) is None:
        raise InputError(f"--since {given['since']!r} is no time; expected one such as 2026-01-31")
    lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    return Asked(**{**given, **lists, "since": iso_time(given.get("since"))})


def _result(
    platform: str,
    asked: Asked,
    path: Path | None,
    found: Captured,
    collected: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "platform": platform,
        "file": str(path) if path else None,
        "asked": {key: value for key, value in asdict(asked).items() if value},
        "records": found.records,
        "new_records": found.new,
        "pages": found.pages,
        "first": found.first,
        "last": found.last,
        "complete": found.complete,
        "detail": found.detail,
        "interrupted": found.interrupted,
        "failed": found.failed,
        "collected": collected,
    }
