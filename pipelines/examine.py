"""The verbs that look at images: probe and dedupe, on a workspace or on any path."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from curate.probe import PROBE, Examined, examine, full_pixels, to_json
from curate.stages.grouping import dedupe_catalog, group_images, match_images
from curate.stages.probing import probe_store
from curate.survey import crashed_file, find_files, survey_file
from curate.work import MOST_SECONDS, Engine, Progress
from curate.workspace import Workspace
from pipelines.output import shortened
from schemas.errors import InputError
from schemas.labels import MatchKind
from schemas.records import Image, Match

MAX_PIXELS = 178_956_970
"""What is decoded where no workspace says otherwise; Pillow's own limit for a bomb."""

STAGE = "dedupe-folder/2"


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


def dedupe_folder(root: Path, engine: Engine, distance_bits: int) -> dict[str, Any]:
    """Matches and groups of the images in any folder, by path.

    Raises:
        InputError: if there is no image in it.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}; expected a folder of images")
    files = find_files(root)
    if not files.images:
        raise InputError(f"{root} holds no image; expected a folder of images")
    work = partial(survey_file, str(root), max_pixels=MAX_PIXELS)
    found = list(engine.map(work, files.images, lost=crashed_file, seconds=MOST_SECONDS))
    decoded = [row for row in found if row.image.error is None]
    paths: dict[str, list[str]] = defaultdict(list)
    for row in decoded:
        paths[row.image.digest].append(row.path)
    first = {row.image.digest: row for row in reversed(decoded)}
    images = [row.image for row in first.values()]
    matches = match_images(
        images,
        lambda digests: chain.from_iterable(first[digest].thumbnails for digest in digests),
        distance_bits=distance_bits,
        made_by=STAGE,
        pixels_of=lambda digest: full_pixels((root / first[digest].path).read_bytes()),
    )
    listed = [*_same_bytes(paths), *(_by_path(match, paths) for match in matches)]
    return {
        "images": len(found),
        "matches": sorted(listed, key=lambda m: (m["a"], m["b"])),
        "groups": _groups(images, matches, paths),
        "broken": [
            {"path": r.path, "error": r.image.error} for r in found if r.image.error is not None
        ],
    }


def _same_bytes(paths: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Files that are byte for byte the same, each with the next."""
    for same in paths.values():
        for a, b in pairwise(same):
            yield {"a": a, "b": b, "kind": MatchKind.BYTES.value, "distance": 0}


def _by_path(match: Match, paths: Mapping[str, list[str]]) -> dict[str, Any]:
    a, b = sorted((paths[match.a][0], paths[match.b][0]))
    return {"a": a, "b": b, "kind": match.kind, "distance": match.distance}


def _groups(
    images: list[Image], matches: list[Match], paths: Mapping[str, list[str]]
) -> list[list[str]]:
    members: dict[str, list[str]] = defaultdict(list)
    for row in group_images(images, matches, STAGE):
        members[row.group_id] += paths[row.digest]
    return sorted(sorted(group) for group in members.values() if len(group) > 1)


def dedupe_workspace(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Matches and groups of the catalog, by digest."""
    counts = dedupe_catalog(workspace, progress)
    matches = workspace.catalog.rows("SELECT a, b, kind, distance FROM match ORDER BY a, b")
    groups = workspace.catalog.rows(
        "SELECT list(digest ORDER BY digest) AS members FROM current_group "
        "GROUP BY group_id HAVING count(*) > 1 ORDER BY group_id"
    )
    return {
        "images": counts["images"],
        "matches": matches,
        "groups": [row["members"] for row in groups],
        "broken": [],
    }


def dedupe_lines(result: dict[str, Any]) -> list[str]:
    """Counts, and the first matches."""
    shown = result["matches"][:20]
    more = len(result["matches"]) - len(shown)
    return [
        f"{result['images']} images, {len(result['matches'])} matches, {len(result['groups'])} groups",
        *(
            f"  {m['kind']} ({m['distance']} bits): {shortened(m['a'])}  {shortened(m['b'])}"
            for m in shown
        ),
        *([f"  and {more} more; --json lists them all"] if more else []),
        *(f"  not compared, {b['error']}: {b['path']}" for b in result["broken"][:20]),
    ]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in find_files(path).images]
    return [path]
