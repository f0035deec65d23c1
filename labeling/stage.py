"""Label: votes become rows, rows become labels. The one place where labeling meets the catalog."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from curate.catalog import insert, select
from curate.stages import Identity, digest_of, record_run
from curate.stages.splitting import LABELS
from curate.tombstones import Tombstones
from curate.workspace import Workspace
from labeling.consensus import METHOD, decide
from labeling.tasks import Refused, from_export
from schemas.records import Annotation

BATCH = 2000
"""Tasks per commit."""

TO_LABEL = """
    WITH known AS (
        SELECT i.digest, i.format, coalesce(g.group_id, i.digest) AS group_id,
               coalesce(g.canonical, true) AS canonical, l.decision,
               i.digest IN (SELECT digest FROM task) AS shown
        FROM image i
        LEFT JOIN current_group g ON g.digest = i.digest
        LEFT JOIN current_label l ON l.digest = i.digest
        WHERE i.error IS NULL
    ), weighed AS (
        SELECT *, count(DISTINCT decision) OVER (PARTITION BY group_id) > 1 AS conflict,
               row_number() OVER (
                   PARTITION BY group_id ORDER BY shown DESC, canonical DESC, digest) = 1 AS chosen
        FROM known
    )
    SELECT digest, format FROM weighed WHERE CASE WHEN conflict THEN decision IS NOT NULL ELSE chosen END
    ORDER BY conflict DESC, hash(digest), digest
"""
"""One image per picture, in an order that tells annotators nothing but what is wanted first.

The rendition that has a task stays the one that is shown, also when a better copy turns up later: its
votes hold for the whole group. First come the pictures whose copies were given both labels; of such a
picture every copy that has a label is shown, as any of the votes may be the wrong one.
"""

CONFLICTS = """
    SELECT count(*) AS n FROM (
        SELECT g.group_id FROM current_group g JOIN current_label l USING (digest)
        GROUP BY g.group_id HAVING count(DISTINCT l.decision) > 1)
"""

ALL = "SELECT * FROM annotation ORDER BY annotation_id, revision"


@dataclass(slots=True)
class Intake:
    """What an import brought."""

    tasks: int = 0
    annotations: int = 0
    new: int = 0
    unknown_images: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def images_to_label(workspace: Workspace) -> list[dict[str, Any]]:
    """Digest and format of every decodable image that people should see, the most wanted first."""
    return workspace.catalog.rows(TO_LABEL)


def take_in(workspace: Workspace, tasks: Iterable[dict[str, Any]], project: str) -> dict[str, Any]:
    """Add the annotations of exported tasks, then decide every label again."""
    return take_in_all(workspace, [(tasks, project)])


def take_in_all(
    workspace: Workspace, exports: Iterable[tuple[Iterable[dict[str, Any]], str]]
) -> dict[str, Any]:
    """Add the annotations of several exports (tasks, project), then decide every label once.

    A vote that is already here is left alone, so taking the same export in twice changes nothing. A vote
    for an image that the catalog does not know is kept and counted. Labels are decided only when every
    vote is here, so that a kill in between leaves no version of them behind that nobody asked for.
    """
    intake = Intake()
    for tasks, project in exports:
        _take(workspace, tasks, project, intake)
    return {
        "tasks": intake.tasks,
        "annotations": intake.annotations,
        "new": intake.new,
        "refused": dict(sorted(intake.refused.items())),
        "unknown_images": intake.unknown_images,
        **decide_labels(workspace),
    }


def decide_labels(workspace: Workspace) -> dict[str, Any]:
    """Aggregate every annotation into one label per image; equal annotations give the same version."""
    policy = workspace.policy.labeling
    rule = {"min_votes": policy.min_votes, "min_agreement": policy.min_agreement}
    with workspace.catalog.writing() as db:
        rows = select(db, ALL).to_pylist()
        annotations = [Annotation(**{**row, "ticks": tuple(row["ticks"])}) for row in rows]
        identity = Identity(LABELS, rule, digest_of([METHOD, rows]))
        verdicts = list(decide(annotations, policy, identity.run_id))
        insert(db, "label", verdicts)
        counts = {
            "labelled": len(verdicts),
            "real": sum(v.decision == 0 for v in verdicts),
            "fake": sum(v.decision == 1 for v in verdicts),
            "undecided": sum(v.decision is None for v in verdicts),
        }
        record_run(db, identity, counts, 0.0)
    return counts


def label_status(workspace: Workspace) -> dict[str, Any]:
    """How far labelling is, from the catalog alone."""
    with workspace.catalog.reading() as db:
        to_label = len(select(db, TO_LABEL))
        pushed = select(db, "SELECT count(DISTINCT digest) AS n FROM task")["n"][0].as_py()
        votes = select(
            db,
            "SELECT count(DISTINCT annotation_id) AS annotations, "
            "count(DISTINCT annotator) AS annotators FROM annotation",
        ).to_pylist()[0]
        decided = select(
            db,
            "SELECT count(*) FILTER (decision = 0) AS real, count(*) FILTER (decision = 1) AS fake, "
            "count(*) FILTER (decision IS NULL) AS undecided FROM current_label",
        ).to_pylist()[0]
        conflicts = select(db, CONFLICTS)["n"][0].as_py()
    return {"images": to_label, "tasks": pushed, **votes, **decided, "conflicts": conflicts}


def _take(
    workspace: Workspace, tasks: Iterable[dict[str, Any]], project: str, intake: Intake
) -> None:
    waiting: list[Annotation] = []
    for task in tasks:
        intake.tasks += 1
        for row in from_export(task, secret=workspace.secret, project=project):
            if isinstance(row, Refused):
                intake.refused[row.reason] += 1
            else:
                waiting.append(row)
        if len(waiting) >= BATCH:
            _keep(workspace, waiting, intake)
    _keep(workspace, waiting, intake)


def _keep(workspace: Workspace, waiting: list[Annotation], intake: Intake) -> None:
    if not waiting:
        return
    with workspace.catalog.writing() as db:
        known = set(select(db, "SELECT digest FROM image")["digest"].to_pylist())
        stones = Tombstones.load(db, workspace.secret)
        kept = [row for row in waiting if not stones.holds_digest(row.digest)]
        intake.new += insert(db, "annotation", kept)
    if forgotten := len(waiting) - len(kept):
        intake.refused["forgotten"] += forgotten
    intake.annotations += len(kept)
    intake.unknown_images += sum(row.digest not in known for row in kept)
    waiting.clear()
