"""Every picture decoded once, every rendition of it made once, a few ahead of the detector.

Renditions are made in memory, from decoded pixels; files are only read. They come in parts of some
megabytes, so that neither the size of a set nor that of a picture that is fed whole decides what memory it
takes. Renditions that come out alike, pixel for pixel, are one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from train.data import quiet_decoder, results
from train.pixels import Pixels
from train.stress.plan import AS_IT_IS, NATIVE, Condition, Facts, Picture, Plan, StressTest
from train.stress.sample import open_image, why
from train.transforms import Preprocessing, to_pixels, to_rgb

AHEAD = 3
"""Parts rendered ahead of the detector, per worker."""

PART_BYTES = 32 << 20
"""Renditions that are held together."""

WHOLE_PX = 4096 * 4096
"""A rendition that is fed whole may be enlarged to as much."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Some renditions of one picture: each distinct one (H, W, 3) by digest, and which a condition is.

    `rivals` are the native picture as other checkpoints are fed it. `error` says why there is nothing.
    """

    index: int
    pixels: dict[bytes, Pixels] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    rivals: tuple[Pixels, ...] = ()
    error: str | None = None


def conditions_of(plan: Plan, tests: Sequence[StressTest]) -> list[Condition]:
    """What is rendered: the native picture, and each key that a test asks for once, at its widest."""
    asked: dict[str, Condition] = {NATIVE: AS_IT_IS}
    for test in tests:
        for condition in test.conditions(plan):
            known = asked.get(condition.key, condition)
            same = known.only is condition.only
            limits = (known.limit, condition.limit)
            asked[condition.key] = replace(
                known,
                only=known.only if same else None,
                limit=None if None in limits else max(n for n in limits if n is not None),
            )
    return list(asked.values())


def render_all(
    plan: Plan,
    root: Path,
    conditions: Sequence[Condition],
    others: Sequence[Preprocessing],
    workers: int,
) -> Iterator[Rendered]:
    """The renditions of every picture of `plan`, in order; the first part of each has the rivals'."""
    with quiet_decoder(), ThreadPoolExecutor(workers) as pool:
        begun = _submitted(pool, plan, root, conditions, others)
        yield from results(begun, ahead=AHEAD * workers)


def _submitted(
    pool: ThreadPoolExecutor,
    plan: Plan,
    root: Path,
    conditions: Sequence[Condition],
    others: Sequence[Preprocessing],
) -> Iterator[Future[Rendered]]:
    """Every part, at work when it is asked for. A picture is begun before the parts that wait for it."""
    for index, facts in enumerate(plan.images):
        decoded = pool.submit(decode, plan, root, index)
        for number, part in enumerate(parts_of(plan, index, facts, conditions)):
            fed = () if number else others
            yield pool.submit(render_part, index, decoded, plan.preprocessing, part, fed)


def parts_of(
    plan: Plan, index: int, facts: Facts, conditions: Sequence[Condition]
) -> list[list[Condition]]:
    """The conditions that apply to a picture, as many together as `PART_BYTES` hold."""
    side, whole = plan.preprocessing.size, plan.preprocessing.fit == "whole"
    area = max(facts.size[0] * facts.size[1], WHOLE_PX) if whole else side * side
    count = max(1, PART_BYTES // (3 * area))
    chosen = [condition for condition in conditions if condition.applies_to(index, facts)]
    return [chosen[start : start + count] for start in range(0, len(chosen), count)]


def decode(plan: Plan, root: Path, index: int) -> Picture:
    """The picture at `index`. A decoder meets arbitrary bytes and raises arbitrary errors."""
    facts = plan.images[index]
    with open_image((root / facts.path).read_bytes()) as image:
        return Picture(index, facts, to_rgb(image, plan.preprocessing), plan.seed)


def render_part(
    index: int,
    decoded: Future[Picture],
    preprocessing: Preprocessing,
    conditions: Sequence[Condition],
    others: Sequence[Preprocessing] = (),
) -> Rendered:
    """Render `conditions` of one picture; the reason if it does not decode, or one cannot be made."""
    doing = "does not decode"
    try:
        picture = decoded.result()
        found = Rendered(index)
        for condition in conditions:
            doing = f"{condition.key} cannot be made of its {picture.rgb.width} x {picture.rgb.height} pixels"
            made = fed(condition, picture, preprocessing)
            digest = hashlib.sha256(repr(made.shape).encode() + made.tobytes()).digest()
            found.pixels.setdefault(digest, made)
            found.digests[condition.key] = digest
        doing = "cannot be fed to another checkpoint"
        rivals = tuple(np.array(to_pixels(picture.rgb, other)) for other in others)
    except Exception as error:  # so do encoders, of pictures beyond the sides their formats know
        return Rendered(index, error=why(error, doing))
    return replace(found, rivals=rivals)


def fed(condition: Condition, picture: Picture, preprocessing: Preprocessing) -> Pixels:
    """What the detector is fed of `picture` under `condition`, (H, W, 3)."""
    made = condition.render(picture)
    if condition.fit == "none":
        return np.array(made)
    if condition.fit is not None:
        preprocessing = replace(preprocessing, fit=condition.fit)
    return np.array(to_pixels(made, preprocessing))
