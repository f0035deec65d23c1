"""What was found in a simulated world, held against what was planted in it."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.workspace import Workspace

CAUSES = {
    "dead": "http-404",
    "placeholder": "placeholder",
    "html": "not-an-image",
    "empty": "empty",
}
"""Broken media by kind, and the cause that the fetch should name."""

WORDS = {
    "http-404": "gone (404)",
    "placeholder": "replaced by a placeholder",
    "not-an-image": "web page instead",
    "empty": "empty",
    "bomb": "decompression bomb",
    "truncated": "cut short",
    "reddit": "on Reddit",
    "x": "on X",
}
"""Causes and platforms, as they are told to people."""

WRONG_LABELS = 0.05
"""Share of labels that three fallible annotators may get wrong; their own rates make about 0.02."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison. `ok` is None where nothing was promised and the figure is told all the same."""

    what: str
    planted: str
    found: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Case:
    """What every comparison is given."""

    workspace: Workspace
    truth: dict[str, Any]
    results: dict[str, dict[str, Any]]

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows of the catalog."""
        return self.workspace.catalog.rows(sql, **params)

    def copies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every copy of a picture that was served whole, with the picture's name."""
        for name, picture in self.truth["pictures"].items():
            for copy in picture["copies"]:
                yield name, copy


def compare(
    workspace: Workspace, truth_path: Path, results: dict[str, dict[str, Any]]
) -> list[Finding]:
    """Every comparison, in the order of `COMPARISONS`."""
    case = Case(workspace, json.loads(truth_path.read_text(encoding="utf-8")), results)
    return [finding for look in COMPARISONS for finding in look(case)]


def posts(case: Case) -> Iterator[Finding]:
    """Posts with images, and re-posts, per platform."""
    expected = case.truth["expected"]
    rows = case.rows(
        "SELECT platform, count(*) FILTER (repost_of IS NULL) AS own, "
        "count(*) FILTER (repost_of IS NOT NULL) AS again FROM post GROUP BY platform"
    )
    own = {row["platform"]: row["own"] for row in rows}
    again = sum(row["again"] for row in rows)
    yield _same("posts with images", expected["posts_with_images"], own)
    yield _same("re-posts recognised", sum(expected["repeats"].values()), again)


def media(case: Case) -> Iterator[Finding]:
    """Every good file came home byte for byte."""
    planted = {copy["sha256"] for _, copy in case.copies()}
    stored = {row["digest"] for row in case.rows("SELECT DISTINCT digest FROM stored")}
    yield _same("image files, byte for byte", len(planted), len(planted & stored))


def broken(case: Case) -> Iterator[Finding]:
    """Every broken medium has its cause."""
    kinds = case.truth["expected"]["broken_media"]
    last = case.rows(
        'SELECT failure, count(*) AS n FROM "fetch" WHERE failure IS NOT NULL GROUP BY failure'
    )
    failures = {row["failure"]: row["n"] for row in last}
    planted = {cause: kinds[kind] for kind, cause in CAUSES.items() if kinds.get(kind)}
    yield _same("downloads that fail, by cause", planted, failures)
    (row,) = case.rows(
        "SELECT count(*) FILTER (starts_with(error, 'bomb')) AS bomb, "
        "count(*) FILTER (NOT starts_with(error, 'bomb')) AS truncated FROM image"
    )
    stored = {kind: kinds[kind] for kind in ("bomb", "truncated") if kinds.get(kind)}
    yield _same("stored files that do not decode", stored, {k: v for k, v in row.items() if v})


def copies(case: Case) -> Iterator[Finding]:
    """Copies of one picture are in one group; different pictures never are."""
    group = {
        row["digest"]: row["group_id"]
        for row in case.rows("SELECT digest, group_id FROM current_group")
    }
    pairs = [p for p in case.truth["pairs"] if p["a"] != p["b"]]
    joined = Counter(p["findable"] for p in pairs if group.get(p["a"]) == group.get(p["b"]))
    asked = Counter(p["findable"] for p in pairs)
    yield _same("near-duplicate pairs grouped", asked["near"], joined["near"])
    yield Finding(
        "harder copies grouped (mirror, caption, screenshot, large crop)",
        str(asked["hard"]), f"{joined['hard']} grouped", None,
    )  # fmt: skip
    pictures: dict[str, set[str]] = defaultdict(set)
    for name, copy in case.copies():
        if copy["sha256"] in group:
            pictures[group[copy["sha256"]]].add(name)
    merged = sum(len(names) > 1 for names in pictures.values())
    yield _same("groups that mix two pictures", 0, merged)


def labels(case: Case) -> Iterator[Finding]:
    """Decisions against what each picture is."""
    decided = {
        row["digest"]: row["decision"]
        for row in case.rows("SELECT digest, decision FROM current_label")
    }
    asked = {copy["sha256"]: case.truth["pictures"][name]["label"] for name, copy in case.copies()}
    answers = [(asked[d], decided.get(d)) for d in asked]
    wrong = sum(found is not None and found != truth for truth, found in answers)
    undecided = sum(found is None for _, found in answers)
    yield Finding(
        "labels by three fallible annotators",
        f"{len(answers)} images",
        f"{len(answers) - wrong - undecided} right, {wrong} wrong, {undecided} undecided",
        wrong <= WRONG_LABELS * len(answers),
    )


def tags(case: Case) -> Iterator[Finding]:
    """Posts whose tag lies are found: their evidence contradicts the decision."""
    rows = case.rows(
        "SELECT DISTINCT split_part(e.origin, '#', 1) AS post FROM evidence e "
        "JOIN current_label l USING (digest) WHERE e.kind = 'tag' "
        "AND l.decision = CASE e.direction WHEN 'real' THEN 1 ELSE 0 END"
    )
    found = {row["post"] for row in rows}
    planted = {f"{p['platform']}/{p['post_id']}" for p in case.truth["mislabelled"]}
    yield Finding(
        "posts whose tag contradicts the decided label",
        str(len(planted)),
        f"{len(planted & found)} of them",
        len(planted & found) >= len(planted) * (1 - 2 * WRONG_LABELS) - 1,
    )


def sides(case: Case) -> Iterator[Finding]:
    """Nobody, and no picture that dedupe can see, is on two sides."""
    name = case.workspace.policy.release
    (row,) = case.rows(
        "SELECT count(*) AS n FROM (SELECT p.platform, p.author FROM release_item r "
        "JOIN post p ON p.platform = r.platform AND p.post_id = r.post_id "
        "WHERE r.name = $name AND r.split IS NOT NULL AND p.author IS NOT NULL "
        "GROUP BY ALL HAVING count(DISTINCT r.split) > 1)",
        name=name,
    )
    yield _same("authors on two sides of the split", 0, row["n"])
    split = {
        row["digest"]: row["split"]
        for row in case.rows(
            "SELECT digest, split FROM release_item WHERE name = $name AND split IS NOT NULL",
            name=name,
        )
    }
    near: set[str] = set()
    hard: set[str] = set()
    for pair in case.truth["pairs"]:
        where = {split.get(pair["a"]), split.get(pair["b"])} - {None}
        if len(where) > 1:
            (hard if pair["findable"] == "hard" else near).add(pair["picture"])
    yield _same("pictures on two sides of the split", 0, len(near))
    yield Finding(
        "pictures on two sides by harder copies",
        "not promised",
        str(len(hard)),
        None,
    )


def gates(case: Case) -> Iterator[Finding]:
    """The world is as biased as it was made."""
    biased = case.truth["format_bias"] > 0
    audit = case.results["audit"]
    probe = audit["probe"]
    yield Finding(
        "file facts that give the label away",
        "planted" if biased else "none planted",
        f"{audit['verdict']}, AUC {_three(probe['auc'])} [{_three(probe['low'])}, {_three(probe['high'])}]",
        (audit["verdict"] == "shortcut") == biased,
    )
    leaks = {kind: n for kind, n in case.results["check"]["counts"].items() if n}
    yield _same("leaks across splits, by kind", {}, leaks)


def detector(case: Case) -> Iterator[Finding]:
    """The traces that the simulated generator leaves can be learnt."""
    for name, result in case.results["evaluate"]["platforms"].items():
        low, high = result["ci"]["auc"] or (None, None)
        yield Finding(
            f"detector {in_words(name)}, on its test images",
            "traces of up-sampling",
            f"AUC {_three(result['auc'])} [{_three(low)}, {_three(high)}], n = {result['n']}",
            low is not None and low > 0.5,
        )


COMPARISONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    posts, media, broken, copies, labels, tags, sides, gates, detector,
)  # fmt: skip
"""Everything that is compared, in order."""


def _same(what: str, planted: Any, found: Any) -> Finding:
    return Finding(what, _told(planted), _told(found), planted == found)


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{n} {in_words(name)}" for name, n in sorted(value.items())) or "none"
    return str(value)


def in_words(name: str) -> str:
    """A cause or a platform as it is told to people; its own name where there are no words for it."""
    return WORDS.get(name, name)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
