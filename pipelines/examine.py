"""The verb that looks at images one by one: probe, on a workspace or on any path."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from curate.probe import PROBE, Examined, examine, to_json
from curate.stages.probing import probe_store
from curate.survey import find_files
from curate.work import MOST_SECONDS, Engine, Progress
from curate.workspace import Workspace
from schemas.errors import InputError
from schemas.records import Image

MAX_PIXELS = 178_956_970
"""What is decoded where no workspace says otherwise; Pillow's own limit for a bomb."""


def probe_paths(paths: list[Path], engine: Engine) -> Iterator[dict[str, Any]]:
    """The file facts of each path, folders walked, in order.

    Raises:
        InputError: if a path is not there.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; expected an image or a folder of images")
    files = list(chain.from_iterable(_files(path) for path in paths))
    if not files:
        raise InputError(f"{paths[0]} holds no image; expected images, or folders of images")
    work = partial(probe_file, max_pixels=MAX_PIXELS)
    yield from engine.map(work, files, lost=crashed, seconds=MOST_SECONDS)


def probe_file(path: Path, *, max_pixels: int) -> dict[str, Any]:
    """The facts of one file as one JSON object."""
    try:
        return to_json(str(path), examine(path.read_bytes(), max_pixels=max_pixels))
    except OSError as error:
        return _without_facts(path, f"cannot be read: {error.strerror or type(error).__name__}")


def crashed(path: Path, why: str) -> dict[str, Any]:
    """What stands for a file that took the decoder's process with it."""
    return _without_facts(path, why)


def _without_facts(path: Path, why: str) -> dict[str, Any]:
    nothing = Image(digest="", made_by=PROBE, bytes=0, format=None, error=why)
    return to_json(str(path), Examined(nothing, (), ()))


def probe_line(row: dict[str, Any]) -> str:
    """One file for people."""
    if row["error"] and row["format"] is None:
        return f"{row['path']}: {row['error']}"
    jpeg = row["jpeg"]
    quality = ""
    if jpeg:
        luma, chroma = jpeg["quality_luma"], jpeg["quality_chroma"]
        exact = "exact" if jpeg["exact"] else "not exact"
        quality = f", {jpeg['family']} {luma}/{chroma} ({exact}), {jpeg['subsampling']}"
        quality += ", progressive" if jpeg["progressive"] else ""
    claims = "".join(f", {c['kind']}: {c['detail']}" for c in row["provenance"])
    error = f", ERROR {row['error']}" if row["error"] else ""
    return f"{row['path']}: {row['format']} {_size(row)}{quality}{claims}{error}"


def _size(row: dict[str, Any]) -> str:
    return " x ".join("?" if row[side] is None else str(row[side]) for side in ("width", "height"))


def probe_workspace(workspace: Workspace, engine: Engine, progress: Progress) -> dict[str, Any]:
    """Examine everything in the store that is not examined yet."""
    return probe_store(workspace, engine, progress)


def probe_lines(result: dict[str, Any]) -> list[str]:
    """Counts."""
    return [
        f"{result['images']} images known, {result['decodable']} decode, {result['broken']} do not; "
        f"{result['new']} were new"
    ]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in find_files(path).images]
    return [path]
