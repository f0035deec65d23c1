"""The page of a search for copies: pairs side by side with what matched, and what was kept apart.

It is bounded whatever the set: of everything the first few are shown, the least sure first, and how many are
not shown is always said.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.report import contact_sheet, page
from pipelines.report.contact_sheet import Couple, Tile
from schemas.labels import MatchKind, Relation

PAIRS = 6
"""Pairs of each kind that are shown."""
CONFLICTS = 12
"""Conflicts, contaminated images and files that do not open that are shown."""
GROUPS = 6
"""Groups that are shown, the largest first."""
MEMBERS = 8
"""Members of a group that are shown."""

KINDS: Mapping[str, str] = {
    MatchKind.BYTES.value: "Same bytes",
    MatchKind.PIXELS.value: "Same pixels",
    MatchKind.NEAR.value: "Look the same",
    MatchKind.REVIEWED.value: "Called the same by a reviewer",
}
"""Headings of the kinds that need one; others are called by their name."""

RELATIONS: Mapping[str, tuple[str, str]] = {
    Relation.CHAIN.value: (
        "Chains",
        "These two match, and the groups around them do not: to merge them would put pictures together "
        "that share nothing. They stay on one side of every split.",
    ),
    Relation.DERIVED.value: (
        "Edits and their photos",
        "One of the two was edited or generated from the other. Both are kept, on one side of every split.",
    ),
    Relation.DIFFERENT.value: (
        "Parted by a reviewer",
        "These two match, and to join them would merge two pictures that a reviewer called different.",
    ),
}

FileOf = Callable[[str], Path | None]
"""Where the file of a name in the result lies; None if it is not on this machine."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, by path or by digest, and where the files are that a page would show."""

    result: dict[str, Any]
    name: str
    file_of: FileOf
    known_file_of: FileOf


def write_dedupe_page(outcome: Outcome, out: Path) -> Path:
    """Write the page of what `wildrf dedupe` found."""
    result = outcome.result
    html = page.render(
        "dedupe.html",
        title=f"Copies in {outcome.name}",
        simulated=result.get("simulated", False),
        name=outcome.name,
        result=result,
        counts=_counts(result),
        conflicts=_conflicts(result["conflicts"], outcome.file_of),
        against=_against(result.get("against"), outcome),
        kinds=_kinds(result["matches"], outcome.file_of),
        groups=_groups(result["groups"], outcome.file_of),
        apart=_apart(result["apart"], outcome.file_of),
        broken=_bounded(result["broken"], CONFLICTS),
    )
    return page.write(out, html)


def _counts(result: Mapping[str, Any]) -> dict[str, int]:
    grouped = sum(len(group) for group in result["groups"])
    return {
        "images": result["images"],
        "matches": len(result["matches"]),
        "groups": len(result["groups"]),
        "grouped": grouped,
        "spare": grouped - len(result["groups"]),
        "apart": len(result["apart"]),
        "conflicts": len(result["conflicts"]),
    }


def _tile(name: str, file_of: FileOf, note: str = "") -> Tile:
    """The picture called `name`, or a placeholder that says why it is not shown."""
    file = file_of(name)
    if file is None:
        return Tile(name, None, "not on this machine", note)
    return replace(contact_sheet.tile(file.parent, file.name, note=note), title=name)


def _couple(row: Mapping[str, Any], file_of: FileOf, why: str) -> Couple:
    return Couple(_tile(row["a"], file_of), _tile(row["b"], file_of), why)


def _bounded(rows: Sequence[Any], shown: int) -> dict[str, Any]:
    return {"n": len(rows), "shown": list(rows[:shown]), "more": max(0, len(rows) - shown)}


def _kinds(matches: Sequence[Mapping[str, Any]], file_of: FileOf) -> list[dict[str, Any]]:
    """Pairs by kind, equalities last: those need no second look."""
    by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for match in matches:
        by_kind[match["kind"]].append(match)
    sure = (MatchKind.PIXELS.value, MatchKind.BYTES.value)
    order = sorted(by_kind, key=lambda kind: (kind in sure and 1 + sure.index(kind), kind))
    return [_kind(kind, by_kind[kind], file_of) for kind in order]


def _kind(kind: str, matches: Sequence[Mapping[str, Any]], file_of: FileOf) -> dict[str, Any]:
    shown = heapq.nsmallest(PAIRS, matches, key=_doubt)
    return {
        "title": KINDS.get(kind, kind.capitalize()),
        "n": len(matches),
        "more": len(matches) - len(shown),
        "couples": [_couple(m, file_of, measured(m)) for m in shown],
    }


def _doubt(match: Mapping[str, Any]) -> tuple[float, int, str, str]:
    """The least sure first."""
    score = match.get("verified")
    return (1.0 if score is None else score, -match["distance"], match["a"], match["b"])


def measured(match: Mapping[str, Any]) -> str:
    """What matched, in words: kind, distance, score, and a reviewer's word."""
    told = [f"{match['kind']}, {match['distance']} of 64 bits differ"]
    if match.get("verified") is not None:
        told.append(f"score {match['verified']:.2f}")
    if match.get("verdict"):
        told.append(f"a reviewer said {match['verdict']}")
    return ", ".join(told)


def _groups(groups: Sequence[Sequence[str]], file_of: FileOf) -> dict[str, Any]:
    large = heapq.nsmallest(GROUPS, groups, key=lambda g: (-len(g), g[0]))
    sizes = Counter(len(group) for group in groups)
    return {
        "n": len(groups),
        "more": len(groups) - len(large),
        "sizes": sorted(sizes.items())[:12],
        "more_sizes": len(sizes) - 12,
        "shown": [
            {
                "n": len(group),
                "more": max(0, len(group) - MEMBERS),
                "tiles": [_tile(name, file_of) for name in group[:MEMBERS]],
            }
            for group in large
        ],
    }


def _apart(rows: Sequence[Mapping[str, str]], file_of: FileOf) -> list[dict[str, Any]]:
    found = []
    for relation, (title, words) in RELATIONS.items():
        of = [row for row in rows if row["relation"] == relation]
        if of:
            couples = [_couple(row, file_of, row["why"]) for row in of[:PAIRS]]
            more = len(of) - len(couples)
            found.append(
                {"title": title, "words": words, "n": len(of), "more": more, "couples": couples}
            )
    return found


def _conflicts(rows: Sequence[Mapping[str, list[str]]], file_of: FileOf) -> dict[str, Any]:
    bounded = _bounded(rows, CONFLICTS)
    bounded["couples"] = [_conflict(row, file_of) for row in bounded["shown"]]
    return bounded


def _conflict(sides: Mapping[str, list[str]], file_of: FileOf) -> Couple:
    real, fake = sides["real"], sides["fake"]
    why = f"{_copies(real)} labelled real, {_copies(fake)} labelled generated"
    return Couple(_tile(real[0], file_of, "real"), _tile(fake[0], file_of, "generated"), why)


def _copies(names: Sequence[str]) -> str:
    return f"{len(names)} {'copy' if len(names) == 1 else 'copies'}"


def _against(against: Mapping[str, Any] | None, outcome: Outcome) -> dict[str, Any] | None:
    if against is None:
        return None
    bounded = _bounded(against["contaminated"], CONFLICTS)
    bounded["couples"] = [_hit(hit, outcome) for hit in bounded["shown"]]
    told: Iterable[str] = (f"{n} {kind}" for kind, n in against["counts"].items())
    return {
        **bounded,
        "name": Path(against["place"]).name,
        "images": against["images"],
        "counts": ", ".join(told),
    }


def _hit(hit: Mapping[str, Any], outcome: Outcome) -> Couple:
    why = measured(hit) + ("" if hit["confirmed"] else ", by pHash alone")
    ours = _tile(hit["path"], outcome.file_of, "this set")
    return Couple(ours, _tile(hit["known"], outcome.known_file_of, "the benchmark"), why)
