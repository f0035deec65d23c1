"""Counterfactuals: what would the detector say, had the classes been saved, sized and lit alike?

A detector trained where the classes differ in file format, size or brightness may have learnt nothing
else, and its test figures, from the same source, cannot tell. So each such factor is given to pictures
by hand. "As fake" gives every picture the factor of a random fake of the set, "as real" that of a random
real. Reals as real and fakes as fake is the placebo ("own"): everything was treated, nothing exchanged.
Against it are set everything as fake (only reals have changed), everything as real (only fakes have)
and the exchange of both. Had the factor no part in the score, the area under the ROC curve would stay.

Two things together accuse: exchanging costs more than `MIN_DROP`, and all as fake costs something, beyond
chance. The second is the proof: giving a real picture the coding of fakes cannot make it generated, while
all as real may only hide what was evidence, as coarse compression does.

Metadata needs no counterfactual: a detector is fed pixels alone, upright.

Sources: https://arxiv.org/abs/2403.17608 (format and size in GenImage), table 4 of
https://arxiv.org/abs/2406.09398, and score shift per class, https://arxiv.org/abs/2605.31153.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.labels import Label
from train.intervals.groups import together
from train.stress.coding import save_like
from train.stress.metrics_of import composed, row
from train.stress.plan import NATIVE, Condition, Facts, Picture, Plan, Scores, StressTest, rng_of
from train.stress.resampling import Mean, Resamples, Told, amount
from train.stress.tone import with_chroma, with_tone

Floats = NDArray[np.float64]

MIN_DROP = 0.05
"""Area under the ROC curve that exchanging must cost, at the least, for a verdict against a detector."""

SPLIT_ALPHA = 0.975
"""Confidence of each direction, so that both together are at 95 %."""

MAX_EDGE_PX = 4096
"""No picture is enlarged beyond this, so that a rendition stays within 50 MB."""

TOGETHER = "all"
"""The factor that is all others at once."""

MAX_P = 0.01
"""Classes whose difference in a factor is reached by more of the shuffled labels than this are alike."""

APART = 0.9
"""Difference from which classes share next to no value; where shuffled ones do neither, it tells nothing."""

SHUFFLES = 500


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing other than being generated that may tell the classes apart.

    `give(picture, facts)` is `picture` with the factor of the file of `facts`; `value(facts)` is the
    factor, to compare the classes by, in bins where it is a number.
    """

    name: str
    what: str
    verdict: str
    value: Callable[[Facts], Hashable]
    give: Callable[[Image.Image, Facts, Facts], Image.Image]


def _saved(rgb: Image.Image, own: Facts, like: Facts) -> Image.Image:
    return save_like(rgb, like.coding)


def _lit(rgb: Image.Image, own: Facts, like: Facts) -> Image.Image:
    return with_tone(rgb, own.tone, like.tone)


def _coloured(rgb: Image.Image, own: Facts, like: Facts) -> Image.Image:
    return with_chroma(rgb, own.tone, like.tone)


def _sized(rgb: Image.Image, own: Facts, like: Facts) -> Image.Image:
    scale = min(max(like.size), MAX_EDGE_PX) / max(own.size)
    if scale == 1:
        return rgb
    width, height = (max(1, round(side * scale)) for side in rgb.size)
    return rgb.resize((width, height), Image.Resampling.LANCZOS)


def _all(rgb: Image.Image, own: Facts, like: Facts) -> Image.Image:
    """Light and colour first, then size; a file's coding is what was done last."""
    for give in (_lit, _coloured, _sized, _saved):
        rgb = give(rgb, own, like)
    return rgb


def _bin(value: float, width: float) -> int:
    return int(value // width)


def _size_bin(facts: Facts) -> int:
    """Quarter octaves of the long side: nearly every picture of a set may have a size of its own."""
    return _bin(math.log2(max(facts.size)), 0.25)


FACTORS: tuple[Factor, ...] = (
    Factor("coding", "saved", "reads the file format", lambda f: f.coding, _saved),
    Factor("size", "sized", "reads the picture size", _size_bin, _sized),
    Factor(
        "tone", "lit", "reads brightness and contrast",
        lambda f: (_bin(f.tone.brightness, 64), _bin(f.tone.contrast, 32)), _lit,
    ),
    Factor(
        "colour", "coloured", "reads colourfulness", lambda f: _bin(f.tone.chroma, 8), _coloured
    ),
    Factor(
        TOGETHER, "saved, sized, lit and coloured", "goes by format, size, light and colour taken together",
        lambda f: (f.coding, _size_bin(f), _bin(f.tone.brightness, 64)), _all,
    ),
)  # fmt: skip


def donor(members: Sequence[Facts], factor: Factor, picture: Picture, label: Label) -> Facts:
    """A random one of `members`, the images of `label`, whose factor `picture` is given."""
    rng = rng_of(picture.seed, picture.facts.digest, factor.name, label.name)
    return members[int(rng.integers(len(members)))]


def _as(plan: Plan, factor: Factor, label: Label) -> Condition:
    members = [facts for facts in plan.images if facts.label is label]

    def render(picture: Picture) -> Image.Image:
        like = donor(members, factor, picture, label)
        return factor.give(picture.rgb, picture.facts, like)

    return Condition(_key(factor, label), render)


def _key(factor: Factor, label: Label) -> str:
    return f"{factor.name}-as-{label.name.lower()}"


def conditions(plan: Plan) -> list[Condition]:
    """Every factor, as real and as fake."""
    return [_as(plan, factor, label) for factor in FACTORS for label in Label]


def measure(scores: Scores) -> dict[str, Any]:
    """{rows: [native], factors: [...], verdict, exposed}; see `judge` for one factor."""
    factors = [judge(scores, factor) for factor in FACTORS]
    native = row(scores, "native", scores.logits[NATIVE])
    exposed = [found["verdict"] for found in factors if found["outcome"] == "reads"]
    return {
        "rows": [native],
        "factors": factors,
        "exposed": bool(exposed),
        "verdict": " ".join(sentences(factors, native)),
    }


def judge(scores: Scores, factor: Factor) -> dict[str, Any]:
    """What exchanging one factor does.

    Keys: name, difference (between the classes, 0 to 1), difference_p (of chance), rows (own, all as
    fake, all as real, exchanged; changes of auc and ap are from own), drops {as_fake, as_real,
    exchanged} of the AUC from own (97.5 % intervals), gap_explained (share of the distance between the
    class means that giving reals the fakes' factor closes), outcome, verdict.
    """
    arms = _arms(scores, factor)
    own, *others = arms.values()
    draws = scores.resamples()
    drops = {
        name: draws.drop(own, arm, SPLIT_ALPHA)
        for name, arm in zip(("as_fake", "as_real", "exchanged"), others, strict=True)
    }
    difference, chance = class_difference(scores.images, factor, scores.plan.seed)
    differs = None if chance > MAX_P and difference >= APART else chance <= MAX_P
    outcome = decide(draws.auc(own), drops, differs=differs)
    return {
        "name": factor.name,
        "difference": difference,
        "difference_p": chance,
        "rows": [row(scores, name, arm, reference=own) for name, arm in arms.items()],
        "drops": drops,
        "gap_explained": _gap_explained(draws, own, others[0]),
        "outcome": outcome,
        "verdict": factor.verdict if outcome == "reads" else WORDS[outcome],
    }


def _arms(scores: Scores, factor: Factor) -> dict[str, Floats]:
    """The placebo, all as the fakes, all as the reals, and exchanged: logits (N,) by name."""
    fake, real = _key(factor, Label.FAKE), _key(factor, Label.REAL)
    return {
        f"each {factor.what} as its own class": composed(scores, real, fake),
        f"all {factor.what} as the fakes": scores.logits[fake],
        f"all {factor.what} as the reals": scores.logits[real],
        "exchanged": composed(scores, fake, real),
    }


def _gap_explained(draws: Resamples, own: Floats, as_fake: Floats) -> dict[str, float] | None:
    """None where the class means do not differ for sure."""
    reals = draws.rows_of(Label.REAL)
    real, fake = draws.mean(own, reals), draws.mean(own, draws.rows_of(Label.FAKE))
    gap, gaps = fake.value - real.value, fake.draws - real.draws
    if gap <= 0 or np.nanmin(gaps) <= 0:
        return None
    moved = draws.mean(as_fake - own, reals)
    groups = together((real.groups, fake.groups))
    return amount(Mean(moved.value / gap, moved.draws / gaps, groups))


WORDS = {
    "holds": "does not depend on it",
    "alike": "cannot be seen here: the classes are alike in it",
    "fragile": "loses what it goes by when fakes are treated like reals: it reads it, or is fragile",
    "unclear": "may depend on it: too few images to tell",
    "no skill": "does not tell the classes apart here beyond chance, so nothing can be explained",
}


def decide(own: Told, drops: Mapping[str, Told], *, differs: bool | None) -> str:
    """The outcome: reads, fragile, alike, holds, unclear or no skill.

    Args:
        own: of the AUC under the placebo.
        drops: of the drop of the AUC from there, as_fake, as_real and exchanged.
        differs: whether the classes differ in the factor beyond chance, else it is no shortcut; None if
            that cannot be told.
    """
    if own["low"] <= 0.5:
        return "no skill"
    if drops["exchanged"]["low"] > MIN_DROP:
        if not differs:
            return "unclear"
        return "reads" if drops["as_fake"]["low"] > 0 else "fragile"
    if differs is False:
        return "alike"
    return "unclear" if drops["exchanged"]["high"] > 2 * MIN_DROP else "holds"


def class_difference(images: Sequence[Facts], factor: Factor, seed: int = 0) -> tuple[float, float]:
    """How unlike the classes are in a factor, and how likely chance makes them so.

    The first is the total variation between the factor's distributions among reals and fakes, 0 to 1;
    the second the share of shuffled labels under which it is no smaller. The images of a group keep one
    label in a shuffle: copies of one picture are one draw.
    """
    codes: dict[Hashable, int] = {}
    values = np.array([codes.setdefault(factor.value(f), len(codes)) for f in images])
    fake = np.array([f.label is Label.FAKE for f in images])
    units: dict[tuple[Hashable, Label], int] = {}
    named = [(k if f.group is None else f.group, f.label) for k, f in enumerate(images)]
    unit = np.array([units.setdefault(name, len(units)) for name in named])
    of_unit = np.array([label is Label.FAKE for _, label in units])
    rng = np.random.default_rng(seed)
    own = _variation(values, fake)
    shuffled = [_variation(values, rng.permutation(of_unit)[unit]) for _ in range(SHUFFLES)]
    return own, (1 + sum(v >= own - 1e-12 for v in shuffled)) / (1 + SHUFFLES)


def _variation(values: NDArray[np.int64], fake: NDArray[np.bool_]) -> float:
    shares = [
        np.bincount(values[chosen], minlength=int(values.max()) + 1) / max(1, int(chosen.sum()))
        for chosen in (fake, ~fake)
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def sentences(factors: list[dict[str, Any]], native: dict[str, Any]) -> list[str]:
    """The verdict in words: what it was caught reading, what is open, or that it was not accused."""
    of = {outcome: [f for f in factors if f["outcome"] == outcome] for outcome in ("reads", *WORDS)}
    if of["reads"]:  # taken together they say no more than the one that was caught
        alone = [found for found in of["reads"] if found["name"] != TOGETHER]
        return [_caught(found) for found in alone or of["reads"]]
    if len(of["no skill"]) == len(factors):
        return [f"This detector {WORDS['no skill']} (AUC {_told(native['auc'])})."]
    doubts = [OPEN[outcome](found) for outcome, found in of.items() if outcome in OPEN and found]
    if doubts:
        return [f"Not proven: {'; '.join(doubts)}."]
    kept = [f"exchanging {_names(of['holds'])} between the classes changes little"]
    alike = [f"the classes are alike in {_names(of['alike'])}"]
    told = kept * bool(of["holds"]) + alike * bool(of["alike"])
    return [f"Not accused: {', and '.join(told)}."]


def _names(factors: list[dict[str, Any]]) -> str:
    return ", ".join(found["name"].replace(TOGETHER, "all at once") for found in factors)


def _fragile(factors: list[dict[str, Any]]) -> str:
    return (
        f"fakes that are given what reals have ({_names(factors)}) are found less often, which a reader "
        "of it would show, and a fragile detector too"
    )


def _unclear(factors: list[dict[str, Any]]) -> str:
    most = max(found["drops"]["exchanged"]["high"] for found in factors)
    return (
        f"exchanging {_names(factors)} between the classes may cost up to {most:.2f} of the AUC, "
        "and these images are too few to tell"
    )


def _blind(factors: list[dict[str, Any]]) -> str:
    return (
        f"with {_names(factors)} drawn at random within each class it does not tell the classes apart "
        "beyond chance"
    )


OPEN: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "fragile": _fragile,
    "unclear": _unclear,
    "no skill": _blind,
}
"""Outcomes that leave a question open, and how it is told for the factors that have one."""


def _caught(found: dict[str, Any]) -> str:
    own, as_fake, _, exchanged = found["rows"]
    return (
        f"This detector {found['verdict']}: AUC {_told(own['auc'])} -> {_told(as_fake['auc'])} with "
        f"{as_fake['name']}, and {_told(exchanged['auc'])} with the classes exchanged (n = {own['n']})."
    )


def _told(figure: Told) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


TEST = StressTest(
    name="counterfactuals",
    title="Had the classes been saved, sized and lit alike",
    source="arXiv 2403.17608 and 2605.31153; table 4 of arXiv 2406.09398 taken both ways",
    conditions=conditions,
    measure=measure,
    figure="counterfactuals",
)
