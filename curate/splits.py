"""Who goes to which split. Deciding is pure; nothing here reads or writes.

Each posting of an image has a side of its own: a held-out platform tests, and an author of a training
platform is placed by a salted hash of the author's key, so one author is always on one side and adding
images later moves nobody. An image, and then a whole group of the same picture, goes to the strictest side
that any of its postings has (test before val before train). Members that would have been on another side are
dropped with that reason: a twin never crosses. Neither does a relative: groups of one kin (an edit and its
photo, the ends of a chain of look-alikes) are different pictures and may all be released, on one side.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.labels import Label, Role, Split
from schemas.policy import SplitPolicy

STRICTEST_FIRST = (Split.TEST, Split.VAL, Split.TRAIN)


@dataclass(frozen=True, slots=True)
class Posting:
    """One place where an image was posted. `author` is a keyed hash, None if the author is gone."""

    platform: str
    post_id: str
    author: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image that may be released, with all its postings.

    `refused` is a reason found earlier (undecided, does not decode); `fidelity` ranks the renditions of
    one picture, best first. `kin` names the groups that stay on one side with this one; empty is none.
    """

    digest: str
    group_id: str
    label: Label | None
    postings: tuple[Posting, ...]
    refused: str | None = None
    fidelity: int = 0
    kin: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an image goes, or why it is left out (`split` is None)."""

    candidate: Candidate
    split: Split | None
    posting: Posting | None
    why: str


def assign(
    candidates: Iterable[Candidate], roles: Mapping[str, Role], policy: SplitPolicy
) -> Iterator[Placed]:
    """Place every candidate; whole groups together, in the order of their ids."""
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.group_id].append(candidate)
    sides = {group_id: _sides_of(members, roles, policy) for group_id, members in groups.items()}
    met: dict[str, set[Split]] = defaultdict(set)
    for group_id, members in groups.items():
        for member in members:
            met[_kin(member)] |= {side for side, _, _ in sides[group_id].get(member.digest, ())}
    for group_id in sorted(groups):
        members = sorted(groups[group_id], key=lambda c: (c.fidelity, c.digest))
        if _contradicted(members):
            yield from (Placed(member, None, None, CONFLICT) for member in members)
        else:
            strictest = _strictest(set().union(*(met[_kin(m)] for m in members)))
            yield from _place_group(members, sides[group_id], strictest)


CONFLICT = "label-conflict: one picture has both labels"
"""Why a whole group is left out whose members were given both labels."""

Sides = Mapping[str, list[tuple[Split, Posting, str]]]


def _kin(candidate: Candidate) -> str:
    return candidate.kin or candidate.group_id


def _contradicted(members: Iterable[Candidate]) -> bool:
    return len({c.label for c in members if c.label is not None}) > 1


def _strictest(met: Iterable[Split]) -> Split | None:
    return next((side for side in STRICTEST_FIRST if side in met), None)


def _sides_of(
    members: Sequence[Candidate], roles: Mapping[str, Role], policy: SplitPolicy
) -> dict[str, list[tuple[Split, Posting, str]]]:
    """Every side that each member could be on; none of a group that cannot be released."""
    if _contradicted(members):
        return {}
    return {c.digest: list(_sides(c, roles, policy)) for c in members if c.refused is None}


def side_of(
    posting: Posting, digest: str, roles: Mapping[str, Role], policy: SplitPolicy
) -> tuple[Split, str]:
    """The side one posting is on, and why."""
    if roles.get(posting.platform, Role.HELD_OUT) is Role.HELD_OUT:
        return Split.TEST, f"{posting.platform} is held out"
    who = f"author {posting.author[:8]}" if policy.by_author and posting.author else "image"
    key = posting.author if policy.by_author and posting.author else digest
    position = unit_interval(f"{policy.salt}/{posting.platform}/{key}")
    if position < policy.test_fraction:
        return Split.TEST, f"{who} hashes to {position:.4f} < {policy.test_fraction:g}"
    edge = policy.test_fraction + policy.val_fraction
    if position < edge:
        return Split.VAL, f"{who} hashes to {position:.4f} < {edge:g}"
    return Split.TRAIN, f"{who} hashes to {position:.4f} >= {edge:g}"


def unit_interval(key: str) -> float:
    """A number in [0, 1) that depends on nothing but `key`."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def _place_group(
    members: Sequence[Candidate], sides: Sides, strictest: Split | None
) -> Iterator[Placed]:
    own = _strictest({side for found in sides.values() for side, _, _ in found})
    elsewhere = "the same picture" if own is strictest else "a related picture"
    taken: dict[str, str] = {}  # platform, or "" where a split is not divided by platform -> digest
    for member in members:
        placed = _place_member(member, sides.get(member.digest, []), strictest, taken)
        yield placed or Placed(member, None, None, f"{elsewhere} is in {strictest}")


def _sides(
    candidate: Candidate, roles: Mapping[str, Role], policy: SplitPolicy
) -> Iterator[tuple[Split, Posting, str]]:
    for posting in sorted(candidate.postings, key=lambda p: (p.platform, p.post_id)):
        side, why = side_of(posting, candidate.digest, roles, policy)
        yield side, posting, why


def _place_member(
    member: Candidate,
    sides: list[tuple[Split, Posting, str]],
    strictest: Split | None,
    taken: dict[str, str],
) -> Placed | None:
    """Where a member goes; None if it has no posting on the side of its group."""
    if member.refused is not None:
        return Placed(member, None, None, member.refused)
    fitting = [(posting, why) for side, posting, why in sides if side is strictest]
    if not fitting:
        return None
    for posting, why in fitting:
        slot = posting.platform if strictest is Split.TEST else ""
        if slot not in taken:
            taken[slot] = member.digest
            return Placed(member, strictest, posting, why)
    slot = fitting[0][0].platform if strictest is Split.TEST else ""
    return Placed(member, None, None, f"same picture as {taken[slot][:12]}")
