"""From what people said to the label of an image. Pure, and independent of the order of the rows.

Only the latest revision of an annotation counts, and of one person only the latest word on an
image; a skip takes an earlier vote back. Real and Fake are votes. Edited and Not a photo are
answers against both: they never count as a vote, but an image on which they are as many as the
winning votes is left undecided. Unsure and skips are told and weigh nothing.

Every vote weighs the same: nothing here models how reliable a person is. The posterior is the mean
of the Beta(1, 1) posterior of the share of Fake among the votes, (fake + 1) / (votes + 2): it says
how much so few votes can say, and assumes that votes are independent and equally often wrong both
ways.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from schemas.labels import VOTES, Choice, Label
from schemas.policy import LabelingPolicy
from schemas.records import Annotation, Verdict

METHOD = "majority/2"
"""Name and version of the rule; raise the version whenever a verdict could come out differently."""

AGAINST = (Choice.EDITED, Choice.NOT_A_PHOTO)
"""Answers that say: neither a plain photo nor a generated image."""


def decide(
    annotations: Iterable[Annotation], policy: LabelingPolicy, version: str
) -> Iterator[Verdict]:
    """Yield one verdict per annotated image, in the order of digests, all carrying `version`."""
    answers = latest_answers(annotations)
    for digest in sorted(answers):
        yield _decide(digest, answers[digest].values(), policy, version)


def latest_answers(annotations: Iterable[Annotation]) -> dict[str, dict[str, str | None]]:
    """The last word of each annotator on each image: digest -> annotator -> choice or None."""
    last: dict[str, dict[str, str | None]] = {}
    for row in sorted(latest_revisions(annotations), key=_age):
        last.setdefault(row.digest, {})[row.annotator] = row.choice
    return last


def latest_revisions(annotations: Iterable[Annotation]) -> list[Annotation]:
    """The last revision of each annotation."""
    last = {row.annotation_id: row for row in sorted(annotations, key=_age)}
    return list(last.values())


def _age(row: Annotation) -> tuple[str, ...]:
    """A total order by time of change; the rest only makes ties come out the same every time."""
    made = row.at.isoformat() if row.at else ""
    return (row.revision, made, row.annotation_id, row.digest, row.annotator, row.choice or "")


def _decide(
    digest: str, choices: Iterable[str | None], policy: LabelingPolicy, version: str
) -> Verdict:
    counts = Counter(choices)
    fake, real = (_votes(counts, label) for label in (Label.FAKE, Label.REAL))
    votes, winner = fake + real, Label.FAKE if fake > real else Label.REAL
    share = max(fake, real) / votes if votes else None
    objection = _objection(counts, fake, real, policy)
    return Verdict(
        version=version,
        digest=digest,
        posterior=(fake + 1) / (votes + 2) if votes else None,
        decision=None if objection else int(winner),
        votes=votes,
        agreement=share,
        method=f"{METHOD} min_votes={policy.min_votes} min_agreement={policy.min_agreement:g}",
        why=f"{_told(counts)}: {objection or _won(winner, share)}",
        edited=counts[Choice.EDITED] > max(fake, real),
    )


def _votes(counts: Counter[str | None], label: Label) -> int:
    return sum(counts[choice] for choice, voted in VOTES.items() if voted is label)


def _objection(
    counts: Counter[str | None], fake: int, real: int, policy: LabelingPolicy
) -> str | None:
    """Why no label follows from these votes; None when one does."""
    votes, won = fake + real, max(fake, real)
    against = sum(counts[choice] for choice in AGAINST)
    if votes < policy.min_votes or not votes:
        return f"undecided, {votes} of the {max(policy.min_votes, 1)} votes needed"
    if fake == real:
        return "undecided, a tie"
    if won / votes < policy.min_agreement:
        return f"undecided, agreement {won / votes:.2f} below {policy.min_agreement:.2f}"
    if against >= won:
        return "undecided, as many say edited or not a photo"
    return None


def _won(winner: Label, share: float | None) -> str:
    return f"{winner.name.lower()} with agreement {share:.2f}"


def _told(counts: Counter[str | None]) -> str:
    """Every answer with its count, votes first, in the order of `Choice`."""
    told = [f"{counts[choice]} {choice}" for choice in Choice if counts[choice]]
    skipped = [f"{counts[None]} skipped"] if counts[None] else []
    return ", ".join(told + skipped)
