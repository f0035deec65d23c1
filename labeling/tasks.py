"""Rows to Label Studio tasks, and its JSON export back to rows. Pure but for `read_export`.

https://labelstud.io/guide/export describes the export. A task carries a neutral image reference
and the digest, nothing else. The server does not hold annotations against the labeling
configuration, so each is checked here: what cannot be used becomes a `Refused` row with its
reason, never an exception.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.privacy import author_key
from labeling import interface
from schemas.errors import InputError
from schemas.labels import Choice
from schemas.records import Annotation

PLATFORM = "label-studio"
"""The platform under which annotators are hashed, so that none can be matched with an author."""

TICKS = frozenset(interface.choices(interface.REASONS))
STARS = interface.max_rating()
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Refused:
    """One exported annotation, or a whole task, that cannot be used, and why."""

    reason: str
    detail: str
    task: str
    annotation: str | None = None


class _Unusable(Exception):
    """Why one entry of an export becomes a `Refused` row; never leaves this module."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def to_task(digest: str, image_url: str) -> dict[str, Any]:
    """The task that shows one image; the digest rides along to come back in the export."""
    return {"data": {"image": image_url, "sha256": digest}}


def to_export(digests: Iterable[str], image_url: Callable[[str], str]) -> str:
    """The text of an import file for any Label Studio: a JSON array, each image once."""
    lines = (json.dumps(to_task(d, image_url(d)), sort_keys=True) for d in dict.fromkeys(digests))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def from_export(
    task: dict[str, Any], *, secret: bytes, project: str | None
) -> Iterator[Annotation | Refused]:
    """Yield one row per annotation of one exported task, in the export's order.

    Args:
        task: one element of Label Studio's JSON export.
        secret: the workspace's; annotators are hashed with it.
        project: where the annotations were made; None when a file does not say.
    """
    name = _task_name(task)
    try:
        digest, entries = _digest(task), _entries(task)
    except _Unusable as error:
        yield Refused(error.reason, error.detail, name)
        return
    for entry in entries:
        try:
            yield _annotation(entry, digest, secret, project)
        except _Unusable as error:
            yield Refused(error.reason, error.detail, name, _entry_name(entry))


def read_export(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a JSON export file.

    Raises:
        InputError: the file is absent, or is not Label Studio's JSON export.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give a JSON export of Label Studio"
        ) from None
    yield from _tasks(raw, path.name)


def _tasks(raw: bytes, name: str) -> list[dict[str, Any]]:
    wanted = "expected Label Studio's JSON export; in the project choose Export, then JSON"
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise InputError(f"{name} is not JSON ({_looks_like(raw)}); {wanted}") from None
    if not isinstance(found, list):
        raise InputError(f"{name} holds one JSON {type(found).__name__}, not a list; {wanted}")
    for index, task in enumerate(found):
        if not isinstance(task, dict):
            raise InputError(f"{name} element {index} is a {type(task).__name__}; {wanted}")
        if "data" not in task:
            raise InputError(f"{name} element {index} {_missing_data(task)}; {wanted}")
    return found


def _looks_like(raw: bytes) -> str:
    head = raw[:200].lstrip()
    if not head:
        return "it is empty"
    if head.startswith(b"PK"):
        return "a zip archive"
    if head.startswith(b"<"):
        return "XML or HTML"
    if head[:1] in b"[{":
        return "cut off or damaged"
    return "perhaps CSV or TSV"


def _missing_data(task: dict[str, Any]) -> str:
    if "annotator" in task or "annotation_id" in task or interface.VERDICT in task:
        return "is JSON_MIN, which has lost skips and revisions"
    return "has no data"


def _digest(task: dict[str, Any]) -> str:
    facts = task.get("data")
    digest = facts.get("sha256") if isinstance(facts, dict) else None
    if digest is None:
        raise _Unusable("no sha256", "the task's data has no sha256; was it made by `label push`?")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _Unusable("bad sha256", f"{_short(digest)} is not 64 lower-case hex digits")
    return digest


def _entries(task: dict[str, Any]) -> list[Any]:
    entries = task.get("annotations", [])
    if not isinstance(entries, list):
        raise _Unusable("malformed annotations", f"found {_short(entries)}, expected a list")
    return entries


def _annotation(entry: Any, digest: str, secret: bytes, project: str | None) -> Annotation:
    if not isinstance(entry, dict):
        raise _Unusable("malformed annotation", f"found {_short(entry)}, expected an object")
    skipped = entry.get("was_cancelled") is True
    answers = {} if skipped else _answers(entry)
    return Annotation(
        annotation_id=_annotation_id(entry),
        revision=_time(entry, "updated_at").isoformat(timespec="microseconds"),
        digest=digest,
        annotator=author_key(secret, PLATFORM, f"{_server(project)}/{_person(entry)}"),
        choice=None if skipped else _verdict(answers),
        confidence=_confidence(answers),
        ticks=_ticks(answers),
        seconds=_seconds(entry),
        project=project,
        at=_time(entry, "created_at"),
    )


def _answers(entry: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The values of each control, by the control's name."""
    results = entry.get("result")
    if not isinstance(results, list):
        raise _Unusable("malformed result", f"found {_short(results)}, expected a list")
    answers: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            raise _Unusable("malformed result", f"found {_short(result)}, expected a value")
        answers.setdefault(str(result.get("from_name")), []).append(value)
    return answers


def _verdict(answers: dict[str, list[dict[str, Any]]]) -> str:
    given = _choices(answers, interface.VERDICT)
    if not given:
        raise _Unusable("no verdict", "neither answered nor skipped")
    if len(given) > 1:
        raise _Unusable("two verdicts", f"{_short(given)}; expected one")
    if given[0] not in set(Choice):
        raise _Unusable("unknown choice", f"{_short(given[0])}; expected {', '.join(Choice)}")
    return str(Choice(given[0]))


def _choices(answers: dict[str, list[dict[str, Any]]], name: str) -> list[str]:
    given: list[str] = []
    for value in answers.get(name, []):
        chosen = value.get("choices")
        if not isinstance(chosen, list) or not all(isinstance(c, str) for c in chosen):
            raise _Unusable("malformed result", f"{name} holds {_short(chosen)}, expected choices")
        given.extend(chosen)
    return given


def _ticks(answers: dict[str, list[dict[str, Any]]]) -> tuple[str, ...]:
    given = set(_choices(answers, interface.REASONS))
    if unknown := sorted(given - TICKS):
        raise _Unusable("unknown tick", f"{_short(unknown[0])}; expected of {sorted(TICKS)}")
    return tuple(sorted(given))


def _confidence(answers: dict[str, list[dict[str, Any]]]) -> float | None:
    """The rating on a scale of 0 to 1: one star is 0, all stars are 1."""
    values = answers.get(interface.CONFIDENCE, [])
    if not values:
        return None
    rating = values[-1].get("rating")
    if not isinstance(rating, int) or not 1 <= rating <= STARS:
        raise _Unusable("bad rating", f"{_short(rating)}; expected 1 to {STARS}")
    return float(rating - 1) / (STARS - 1)


def _annotation_id(entry: dict[str, Any]) -> str:
    unique = entry.get("unique_id")
    if not isinstance(unique, str) or not unique:
        raise _Unusable("no unique_id", "the annotation cannot be told from others; export as JSON")
    return unique


def _server(project: str | None) -> str:
    """Whose numbers the annotators' ids are: the server's, or those of one export file.

    User 1 is somebody else on another server; taken for one person, they would lose a vote.
    """
    return (project or "").partition("/projects/")[0]


def _person(entry: dict[str, Any]) -> str:
    """The server's id of who answered: a number in exports, an object in some API answers."""
    who = entry.get("completed_by")
    if isinstance(who, dict):
        who = who.get("id")
    if isinstance(who, bool) or not isinstance(who, int | str) or who == "":
        raise _Unusable("no annotator", f"completed_by is {_short(entry.get('completed_by'))}")
    return str(who)


def _time(entry: dict[str, Any], key: str) -> datetime:
    try:
        found = datetime.fromisoformat(entry[key])
    except (KeyError, TypeError, ValueError):
        raise _Unusable("no time", f"{key} is {_short(entry.get(key))}, not ISO 8601") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _seconds(entry: dict[str, Any]) -> float | None:
    """The time taken, where stated; a negative or non-finite one is not a time."""
    lead = entry.get("lead_time")
    if isinstance(lead, bool) or not isinstance(lead, int | float):
        return None
    return float(lead) if 0 <= lead < float("inf") else None


def _task_name(task: dict[str, Any]) -> str:
    return str(task.get("id", "?"))


def _entry_name(entry: Any) -> str | None:
    name = entry.get("unique_id") or entry.get("id") if isinstance(entry, dict) else None
    return None if name is None else str(name)


def _short(found: Any) -> str:
    """What was found, short enough for one line and free of line breaks."""
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "..."
