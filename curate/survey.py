"""Any folder tree of labelled images as rows: what stands where, and what its bytes say.

This is the audit's way in, and it needs no workspace: a set published in WildRF, ForenSynths or
GenImage layout (`schemas.layout`) is read as it lies. Files are only ever opened for reading. A
file that cannot be read or decoded is a row that says why; a file without an image's name is
counted, not examined. Where a release's manifest lies beside the splits, its groups, authors and
posts are joined by path.
"""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException

from curate.probe import examine
from curate.spool import Spool
from curate.work import MOST_SECONDS, Engine
from schemas.errors import InputError
from schemas.layout import MANIFEST, SUFFIXES, Placement, place
from schemas.records import Evidence, Image, Thumbnail

logger = logging.getLogger(__name__)

CHUNK = 2048
"""Files handed to the engine at once: keeps what is under way bounded on sets of any size."""

JOINED = ("group_id", "author", "post", "post_id", "platform")
"""Columns of a manifest that are joined, each where it is there."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One image file of a set. `path` is relative to the set's root, with forward slashes."""

    path: str
    placement: Placement | None
    image: Image
    phash: int | None = None
    dhash: int | None = None
    evidence: tuple[Evidence, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    group: str | None = None
    author: str | None = None
    post: str | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in a folder tree: image paths in order, and other files counted by suffix."""

    images: tuple[str, ...]
    others: Mapping[str, int]


def find_files(root: Path) -> Files:
    """Every file under `root`, by what its name says it is. Folders that are links are not entered.

    Raises:
        InputError: if `root` is not a folder.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; expected one with images under 0_real and 1_fake; "
            "check the path"
        )
    images: list[str] = []
    others: Counter[str] = Counter()
    for folder, _, names in os.walk(root, onerror=_refuse):
        here = Path(folder).relative_to(root)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                images.append((here / name).as_posix())
            else:
                others[suffix or "(none)"] += 1
    return Files(tuple(sorted(images)), dict(sorted(others.items())))


def _refuse(error: OSError) -> None:
    # Passed over in silence, a folder that cannot be entered would make a set look clean.
    raise InputError(
        f"{error.filename} cannot be read ({error.strerror}); expected a folder you may enter; "
        "mend its permissions"
    )


def survey(root: Path, engine: Engine, *, max_pixels: int) -> list[Surveyed]:
    """Every image file under `root` as a row, ordered by path.

    Raises:
        InputError: if `root` is no folder, holds no image under a label's folder, or its manifest is
            broken.
    """
    return list(iter_survey(root, find_files(root), engine, max_pixels=max_pixels))


def iter_survey(root: Path, files: Files, engine: Engine, *, max_pixels: int) -> Iterator[Surveyed]:
    """The rows of `survey` as they are ready, for who wants to show progress."""
    _need_labels(root, files)
    joined = read_manifest(root)
    work = partial(survey_file, str(root), max_pixels=max_pixels)
    for chunk in _chunks(files.images):
        for row in engine.map(work, chunk, lost=crashed_file, seconds=MOST_SECONDS):
            yield _join(row, joined.get(row.path))
    logger.info("surveyed %d images of %s, other files: %s", len(files.images), root, files.others)


def laid_down(rows: Iterable[Surveyed]) -> tuple[list[Surveyed], Spool]:
    """The rows without their thumbnails, and those in a temporary file: memory holds a million rows so."""
    kept: list[Surveyed] = []

    def thumbnails() -> Iterator[Thumbnail]:
        for row in rows:
            kept.append(replace(row, thumbnails=()))
            yield from row.thumbnails

    spool = Spool(Path(tempfile.gettempdir()), thumbnails())
    return kept, spool


def survey_file(root: str, path: str, *, max_pixels: int) -> Surveyed:
    """One file under `root` as a row; whatever is wrong with it is in `image.error`."""
    try:
        data = Path(root, path).read_bytes()
    except OSError as error:
        return _without_facts(path, f"cannot be read: {error.strerror or type(error).__name__}")
    seen = examine(data, max_pixels=max_pixels)
    bits = {fingerprint.view: fingerprint.bits for fingerprint in seen.fingerprints}
    return Surveyed(
        path,
        place(PurePosixPath(path)),
        seen.image,
        bits.get("phash"),
        bits.get("dhash"),
        tuple(seen.evidence),
        seen.thumbnails,
    )


def crashed_file(path: str, why: str) -> Surveyed:
    """What stands for a file that took the decoder's process with it."""
    return _without_facts(path, why)


def _without_facts(path: str, why: str) -> Surveyed:
    nothing = Image(digest="", made_by="survey/1", bytes=0, format=None, error=why)
    return Surveyed(path, place(PurePosixPath(path)), nothing)


def read_manifest(root: Path) -> dict[str, dict[str, Any]]:
    """What the manifest beside the splits says of each path; empty where there is none.

    Raises:
        InputError: if the manifest cannot be read or has no paths.
    """
    file = root / MANIFEST
    if not file.is_file():
        return {}
    try:
        columns = [c for c in ("path", *JOINED) if c in pq.read_schema(file).names]
        rows = pq.read_table(file, columns=columns).to_pylist()
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file} is not a Parquet file ({reason}); write the release again"
        ) from None
    if "path" not in columns:
        raise InputError(f"{file} has no column path; expected a manifest of a release; remove it")
    return {row.pop("path"): row for row in rows if row["path"]}


def _need_labels(root: Path, files: Files) -> None:
    if any(place(PurePosixPath(path)) for path in files.images):
        return
    raise InputError(
        f"{root} holds {len(files.images)} images, none under a label's folder; expected leaves "
        "named 0_real and 1_fake (or nature and ai); sort the images into such folders"
    )


def _chunks(paths: tuple[str, ...]) -> Iterator[list[str]]:
    rest = iter(paths)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _join(row: Surveyed, stated: dict[str, Any] | None) -> Surveyed:
    """`row` with what its manifest states; a platform only where no folder names one."""
    if stated is None:
        return row
    placement = row.placement
    if placement and not placement.platform and stated.get("platform"):
        placement = replace(placement, platform=stated["platform"])
    return replace(
        row,
        placement=placement,
        group=stated.get("group_id"),
        author=stated.get("author"),
        post=_post(stated),
    )


def _post(stated: dict[str, Any]) -> str | None:
    """The key of a post: as the manifest gives it, or platform and id."""
    if stated.get("post"):
        return str(stated["post"])
    if stated.get("post_id"):
        return f"{stated.get('platform') or ''}/{stated['post_id']}"
    return None
