"""What simulated annotators say of the pictures, as Label Studio exports it (JSON, not JSON_MIN).

Every decodable image gets one annotation of each annotator, or a skip (`was_cancelled`). Choices are those
of `schemas.labels.Choice`; the control tag is `verdict`. Who errs where is drawn per annotator and
digest, so that it does not depend on the order of tasks.
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from curate.simulated.spec import Annotator, WorldSpec, rng_for
from schemas.labels import Choice, Label

FIRST_DAY = datetime(2026, 1, 20, 9, tzinfo=UTC)
TRUE_CHOICE = {Label.REAL: Choice.REAL, Label.FAKE: Choice.FAKE}


def label_studio_export(spec: WorldSpec, truth: dict[str, Label | None]) -> list[dict[str, Any]]:
    """One task per digest of `truth`, by digest; a label of None means it is not a photo."""
    tasks = [_task(spec, k, digest, truth[digest]) for k, digest in enumerate(sorted(truth))]
    if tasks and spec.annotators and not any(task["cancelled_annotations"] for task in tasks):
        _cancel(tasks[0])
    return tasks


def _task(spec: WorldSpec, index: int, digest: str, label: Label | None) -> dict[str, Any]:
    made = [_annotation(spec, index, digest, label, who) for who in spec.annotators]
    skipped = sum(a["was_cancelled"] for a in made)
    stamp = _stamp(FIRST_DAY - timedelta(hours=1))
    path = f"/data/local-files/?d={digest[:2]}/{digest[2:4]}/{digest}"
    return {
        "id": index + 1, "inner_id": index + 1, "project": 1,
        "data": {"image": path, "sha256": digest}, "meta": {},
        "annotations": made, "predictions": [], "drafts": [],
        "total_annotations": len(made) - skipped, "cancelled_annotations": skipped,
        "total_predictions": 0, "comment_count": 0, "created_at": stamp, "updated_at": stamp,
    }  # fmt: skip


def _annotation(
    spec: WorldSpec, index: int, digest: str, label: Label | None, who: Annotator
) -> dict[str, Any]:
    rng = rng_for(spec.seed, f"annotation/{digest}", who.user_id)
    choice = choose(rng.random(), label, who)
    seconds = round(float(rng.lognormal(1.2, 0.5)), 3)
    at = _stamp(FIRST_DAY + timedelta(seconds=20 * index + who.user_id))
    return {
        "id": index * len(spec.annotators) + who.user_id, "completed_by": who.user_id,
        "result": [] if choice is None else [_result(choice)], "was_cancelled": choice is None,
        "ground_truth": False, "created_at": at, "updated_at": at, "lead_time": seconds,
        "unique_id": str(uuid.UUID(bytes=rng.bytes(16), version=4)), "updated_by": who.user_id,
        "parent_prediction": None, "parent_annotation": None, "prediction": {},
    }  # fmt: skip


def choose(draw: float, label: Label | None, who: Annotator) -> Choice | None:
    """What `who` answers when the dice show `draw` in [0, 1); None is a skip."""
    if draw < who.skip_rate:
        return None
    if draw < who.skip_rate + who.unsure_rate:
        return Choice.UNSURE
    if label is None:
        return Choice.NOT_A_PHOTO
    wrong = draw < who.skip_rate + who.unsure_rate + who.error_rate
    return TRUE_CHOICE[Label(1 - label) if wrong else label]


def _result(choice: Choice) -> dict[str, Any]:
    value = {"choices": [choice.value]}
    return {"from_name": "verdict", "to_name": "image", "type": "choices", "value": value}


def _cancel(task: dict[str, Any]) -> None:
    task["annotations"][-1] |= {"result": [], "was_cancelled": True}
    task["total_annotations"] -= 1
    task["cancelled_annotations"] += 1


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
