"""The verb that finds copies: in a workspace or any folder, against a benchmark, with a page of pairs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from curate.contamination import Hit, Known, find_known, keep_surest, read_known
from curate.probe import full_pixels
from curate.spool import Spool
from curate.stages.grouping import (
    Grouped,
    dedupe_catalog,
    group_images,
    match_images,
    member_of,
    regroup_catalog,
    review_pairs,
)
from curate.survey import Surveyed, crashed_file, find_files, laid_down, survey_file
from curate.work import MOST_SECONDS, Engine, Progress, counted
from curate.workspace import Workspace
from pipelines.examine import MAX_PIXELS
from pipelines.output import shortened
from pipelines.report.dedupe import FileOf, Outcome, write_dedupe_page
from schemas.errors import InputError
from schemas.labels import Label, MatchKind, Word
from schemas.policy import DedupePolicy
from schemas.records import Match, Thumbnail
from train.simulated import is_simulated

STAGE = "dedupe-folder/2"

SHOWN = 20
"""Matches, and things of every other sort, that are named one by one for people."""


def dedupe_folder(
    root: Path,
    engine: Engine,
    progress: Progress,
    *,
    distance_bits: int,
    against: Path | None = None,
) -> Outcome:
    """Copies among the images in any folder, by path.

    Raises:
        InputError: if there is no image in it, or `against` is neither a folder of images nor a table.
    """
    benchmark = None if against is None else open_benchmark(against, engine, progress)
    rows, spool = _survey(root, engine, progress)
    decoded = [row for row in rows if row.image.error is None]
    paths: dict[str, list[str]] = defaultdict(list)
    for row in decoded:
        paths[row.image.digest].append(row.path)
    first = {row.image.digest: row for row in reversed(decoded)}
    ours = {digest: Found(root, row, spool) for digest, row in first.items()}
    matches = _matches(ours, distance_bits, progress)
    members = [member_of(row.image, row.evidence) for row in first.values()]
    grouped = group_images(members, matches, DedupePolicy(distance_bits=distance_bits))
    groups = _groups(grouped, paths)
    result = {
        "images": len(rows),
        "simulated": is_simulated(root),
        "matches": _listed(matches, paths),
        "groups": groups,
        "apart": _apart(grouped, paths),
        "conflicts": _conflicts(groups, decoded),
        "broken": [
            {"path": r.path, "error": r.image.error} for r in rows if r.image.error is not None
        ],
    }
    if benchmark is not None:
        result["against"] = _against(benchmark, decoded, ours, paths, distance_bits)
    return Outcome(result, root.resolve().name, lambda path: root / path, _file_in(against))


def _survey(root: Path, engine: Engine, progress: Progress) -> tuple[list[Surveyed], Spool]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}; expected a folder of images")
    files = find_files(root)
    if not files.images:
        raise InputError(f"{root} holds no image; expected a folder of images")
    progress.start(f"examine {root.name}", len(files.images))
    work = partial(survey_file, str(root), max_pixels=MAX_PIXELS)
    examined = engine.map(work, files.images, lost=crashed_file, seconds=MOST_SECONDS)
    return laid_down(counted(examined, progress))


@dataclass(frozen=True, slots=True)
class Found:
    """An image file that was examined, the folder that its path starts from, and its thumbnails."""

    root: Path
    row: Surveyed
    spool: Spool


def _matches(
    found: Mapping[str, Found], distance_bits: int, progress: Progress | None = None
) -> list[Match]:
    """Every pair of images, given by digest, that is the same picture."""

    def pixels_of(digest: str) -> str | None:
        return full_pixels((found[digest].root / found[digest].row.path).read_bytes())

    return match_images(
        [one.row.image for one in found.values()],
        partial(_thumbnails, found),
        distance_bits=distance_bits,
        made_by=STAGE,
        pixels_of=pixels_of,
        progress=progress,
    )


def _thumbnails(found: Mapping[str, Found], digests: Sequence[str]) -> Iterator[Thumbnail]:
    """Those of some images, from wherever they were laid down."""
    for spool in dict.fromkeys(found[digest].spool for digest in digests):
        yield from spool.read([digest for digest in digests if found[digest].spool is spool])


def _listed(matches: Iterable[Match], paths: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Every match by path, with files that are byte for byte the same, each with the next."""
    listed = [
        {"a": a, "b": b, "kind": MatchKind.BYTES.value, "distance": 0, "verified": 1.0}
        for same in paths.values()
        for a, b in pairwise(same)
    ]
    for match in matches:
        a, b = sorted((paths[match.a][0], paths[match.b][0]))
        told = {"kind": match.kind, "distance": match.distance, "verified": match.verified}
        listed.append({"a": a, "b": b, **told})
    return sorted(listed, key=lambda m: (m["a"], m["b"]))


def _groups(grouped: Grouped, paths: Mapping[str, list[str]]) -> list[list[str]]:
    members: dict[str, list[str]] = defaultdict(list)
    for row in grouped.groups:
        members[row.group_id] += paths[row.digest]
    return sorted(sorted(group) for group in members.values() if len(group) > 1)


def _apart(grouped: Grouped, paths: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """What was kept apart, by path; the order within a pair is kept, as the reason speaks of it."""
    found = [
        {"a": paths[k.a][0], "b": paths[k.b][0], "relation": k.relation, "why": k.why}
        for k in grouped.kinship
    ]
    return sorted(found, key=lambda k: (k["relation"], k["a"], k["b"]))


def _conflicts(
    groups: Iterable[Sequence[str]], rows: Iterable[Surveyed]
) -> list[dict[str, list[str]]]:
    """Groups with a member in a folder of real and one in a folder of generated images."""
    label = {row.path: row.placement.label for row in rows if row.placement}
    found = []
    for group in groups:
        sides = {
            side.name.lower(): [path for path in group if label.get(path) is side] for side in Label
        }
        if all(sides.values()):
            found.append(sides)
    return found


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set that others test on: what is known of its images, and the images if it is a folder."""

    place: Path
    known: list[Known]
    images: dict[str, Found]


def open_benchmark(place: Path, engine: Engine, progress: Progress) -> Benchmark:
    """The images of a folder, or the rows of a table.

    Raises:
        InputError: if it is neither.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist; expected a folder of images or a table of them")
    if not place.is_dir():
        return Benchmark(place, read_known(place), {})
    examined, spool = _survey(place, engine, progress)
    rows = [row for row in examined if row.image.error is None]
    images = {row.image.digest: Found(place, row, spool) for row in reversed(rows)}
    return Benchmark(place, [_as_known(row) for row in rows], images)


def _as_known(row: Surveyed) -> Known:
    return Known(row.path, row.image.digest, row.image.pixels, row.phash, row.dhash)


def _against(
    benchmark: Benchmark,
    rows: Iterable[Surveyed],
    ours: Mapping[str, Found],
    paths: Mapping[str, list[str]],
    distance_bits: int,
) -> dict[str, Any]:
    images = [_as_known(row) for row in rows]
    hits = {h.path: h for h in find_known(images, benchmark.known, distance_bits=distance_bits)}
    for hit in _alike(benchmark, ours, paths, distance_bits):
        keep_surest(hits, hit)
    return _told(benchmark, [hits[path] for path in sorted(hits)])


def _alike(
    benchmark: Benchmark,
    ours: Mapping[str, Found],
    paths: Mapping[str, list[str]],
    distance_bits: int,
) -> Iterator[Hit]:
    """Whatever dedupe itself finds between the set and a folder: crops and the like as well."""
    others = {digest: one for digest, one in benchmark.images.items() if digest not in ours}
    if not others:
        return
    for match in _matches({**ours, **others}, distance_bits):
        for a, b in ((match.a, match.b), (match.b, match.a)):
            if a in ours and b not in ours:
                for path in paths[a]:
                    yield Hit(path, match.kind, match.distance, others[b].row.path)


def _told(benchmark: Benchmark, hits: Sequence[Hit]) -> dict[str, Any]:
    return {
        "place": str(benchmark.place),
        "images": len(benchmark.known),
        "contaminated": [asdict(hit) for hit in hits],
        "counts": dict(sorted(Counter(hit.kind for hit in hits).items())),
    }


def _file_in(place: Path | None) -> FileOf:
    if place is None or not place.is_dir():
        return lambda _: None
    return lambda path: place / path


def dedupe_workspace(
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    *,
    against: Path | None = None,
    words: Sequence[tuple[str, str, Word]] = (),
) -> Outcome:
    """Copies among the images of the catalog, by digest; a reviewer's `words` are kept before.

    With words, matches are not searched again: the groups are made anew of those that are known.
    """
    benchmark = None if against is None else open_benchmark(against, engine, progress)
    reviewed = review_pairs(workspace, words) if words else []
    counts = (regroup_catalog(workspace) if words else None) or dedupe_catalog(workspace, progress)
    simulated = workspace.policy.simulated
    result = {
        "images": counts["images"],
        "simulated": simulated,
        **_of_catalog(workspace),
        "broken": [],
    }
    if words:
        result["reviewed"] = reviewed
    if benchmark is not None:
        images = [Known(**row) for row in workspace.catalog.rows(IMAGES)]
        bits = workspace.policy.dedupe.distance_bits
        result["against"] = _told(
            benchmark, find_known(images, benchmark.known, distance_bits=bits)
        )
    return Outcome(result, workspace.policy.name, workspace.store.local_path, _file_in(against))


MATCHES = """
    SELECT a, b, kind, distance, verified, verdict FROM match
    WHERE verdict IS DISTINCT FROM 'different' ORDER BY a, b, kind
"""
GROUPS = """
    SELECT list(digest ORDER BY digest) AS members FROM current_group
    GROUP BY group_id HAVING count(*) > 1 ORDER BY min(digest)
"""
APART = "SELECT a, b, relation, why FROM current_kinship ORDER BY a, b"
CONFLICTS = """
    SELECT list(digest ORDER BY digest) FILTER (decision = 0) AS real,
           list(digest ORDER BY digest) FILTER (decision = 1) AS fake
    FROM current_group JOIN current_label USING (digest)
    GROUP BY group_id HAVING count(DISTINCT decision) > 1 ORDER BY min(digest)
"""
IMAGES = """
    SELECT i.digest AS name, i.digest AS sha256, i.pixels, p.bits AS phash, d.bits AS dhash
    FROM image i
    LEFT JOIN fingerprint p ON p.digest = i.digest AND p.view = 'phash'
    LEFT JOIN fingerprint d ON d.digest = i.digest AND d.view = 'dhash'
    WHERE i.error IS NULL ORDER BY i.digest
"""


def _of_catalog(workspace: Workspace) -> dict[str, Any]:
    catalog = workspace.catalog
    return {
        "matches": catalog.rows(MATCHES),
        "groups": [row["members"] for row in catalog.rows(GROUPS)],
        "apart": catalog.rows(APART),
        "conflicts": catalog.rows(CONFLICTS),
    }


def words_of(
    directory: Path | None, same: tuple[str, str] | None, not_same: tuple[str, str] | None
) -> list[tuple[str, str, Word]]:
    """What a reviewer said on the command line.

    Raises:
        InputError: if it was said of a folder, where nothing can be remembered.
    """
    said = ((same, Word.SAME), (not_same, Word.DIFFERENT))
    words = [(*pair, word) for pair, word in said if pair]
    if words and directory is not None:
        raise InputError("--same and --not-same are remembered in a workspace; leave DIR out")
    return words


def write_page(outcome: Outcome, page: Path) -> dict[str, Any]:
    """Write the page of pairs; the result, with where that is."""
    write_dedupe_page(outcome, page)
    return {**outcome.result, "report": str(page)}


def passes(result: dict[str, Any]) -> bool:
    """Whether the set is free of the benchmark, where one was named."""
    return not result.get("against", {}).get("contaminated")


def lines(result: dict[str, Any]) -> list[str]:
    """Counts, the first of everything, and where the page is."""
    return [
        f"{result['images']} images, {len(result['matches'])} matches, {len(result['groups'])} groups",
        *_first([f"  {_measured(m)}: {_pair(m)}" for m in result["matches"]]),
        *_first(
            [f"  kept apart, {k['relation']}: {_pair(k)}, {k['why']}" for k in result["apart"]]
        ),
        *_first([_conflict(c) for c in result["conflicts"]]),
        *_first([f"  not compared, {b['error']}: {b['path']}" for b in result["broken"]]),
        *(f"  {r['verdict']}: {_pair(r)}" for r in result.get("reviewed", ())),
        *_contaminated(result.get("against")),
        *([f"report: {result['report']}"] if result.get("report") else []),
    ]


def _first(told: list[str]) -> list[str]:
    more = len(told) - SHOWN
    return [*told[:SHOWN], *([f"  and {more} more; --json lists them all"] if more > 0 else [])]


def _pair(row: Mapping[str, Any]) -> str:
    return f"{shortened(row['a'])}  {shortened(row['b'])}"


def _measured(match: Mapping[str, Any]) -> str:
    return f"{match['kind']} ({match['distance']} bits)"


def _conflict(sides: Mapping[str, list[str]]) -> str:
    real, fake = shortened(sides["real"][0]), shortened(sides["fake"][0])
    return f"  CONFLICT, one picture has both labels: real {real}, fake {fake}"


def _contaminated(against: dict[str, Any] | None) -> list[str]:
    if against is None:
        return []
    hits = against["contaminated"]
    head = f"{len(hits)} images are in {against['place']} ({against['images']} images)"
    told = [
        f"  {_measured(h)}{'' if h['confirmed'] else ', pHash alone'}: "
        f"{shortened(h['path'])} is {shortened(h['known'])}"
        for h in hits
    ]
    return [f"CONTAMINATED: {head}" if hits else head, *_first(told)]
