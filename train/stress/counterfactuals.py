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

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.labels import Label
from train.stress.coding import save_like
from train.stress.metrics_of import compare, composed, row
from train.stress.plan import NATIVE, Condition, Facts, Picture, Plan, Scores, StressTest, rng_of
from train.stress.resampling import Resamples, auc, class_mean, with_interval
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


FACTORS: tuple[Factor, ...] = (
    Factor("coding", "saved", "reads the file format", lambda f: f.coding, _saved),
    Factor("size", "sized", "reads the picture size", lambda f: max(f.size), _sized),
    Factor(
        "tone", "lit", "reads brightness and contrast",
        lambda f: (_bin(f.tone.brightness, 64), _bin(f.tone.contrast, 32)), _lit,
    ),
    Factor(
        "colour", "coloured", "reads colourfulness", lambda f: _bin(f.tone.chroma, 8), _coloured
    ),
    Factor(
        TOGETHER, "saved, sized, lit and coloured", "goes by format, size, light and colour taken together",
        lambda f: (f.coding, max(f.size), _bin(f.tone.brightness, 64)), _all,
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
        "verdict": " ".join(_sentences(factors, native)),
    }


def judge(scores: Scores, factor: Factor) -> dict[str, Any]:
    """What exchanging one factor does.

    Keys: name, difference (between the classes, 0 to 1), difference_p (of chance), rows (own, all as
    fake, all as real, exchanged; changes of auc and ap are from own), drops {as_fake, as_real,
    exchanged} of the AUC from own (97.5 % intervals), gap_explained (share of the distance between the
    class means that giving reals the fakes' factor closes), outcome, verdict.
    """
    fake, real = _key(factor, Label.FAKE), _key(factor, Label.REAL)
    arms = {
        f"each {factor.what} as its own class": composed(scores, real, fake),
        f"all {factor.what} as the fakes": scores.logits[fake],
        f"all {factor.what} as the reals": scores.logits[real],
        "exchanged": composed(scores, fake, real),
    }
    own, *others = arms.values()
    draws = scores.resamples()
    base = draws.values(auc, own)
    drops = {
        name: with_interval(base - draws.values(auc, arm), confidence=SPLIT_ALPHA)
        for name, arm in zip(("as_fake", "as_real", "exchanged"), others, strict=True)
    }
    difference, chance = class_difference(scores.images, factor, scores.plan.seed)
    outcome = decide(with_interval(base), drops, differs=chance <= MAX_P)
    return {
        "name": factor.name,
        "difference": difference,
        "difference_p": chance,
        "rows": [row(scores, name, arm) | compare(draws, arm, own) for name, arm in arms.items()],
        "drops": drops,
        "gap_explained": _gap_explained(draws, own, others[0]),
        "outcome": outcome,
        "verdict": factor.verdict if outcome == "reads" else WORDS[outcome],
    }


def _gap_explained(draws: Resamples, own: Floats, as_fake: Floats) -> dict[str, float] | None:
    """None where the class means do not differ for sure."""
    gap = draws.values(class_mean(own, Label.FAKE), own)
    gap -= draws.values(class_mean(own, Label.REAL), own)
    if gap.min() <= 0:
        return None
    return with_interval(draws.values(class_mean(as_fake - own, Label.REAL), own) / gap)


WORDS = {
    "holds": "does not depend on it",
    "alike": "cannot be seen here: the classes are alike in it",
    "fragile": "loses what it goes by when fakes are treated like reals: it reads it, or is fragile",
    "unclear": "may depend on it: too few images to tell",
    "no skill": "does not tell the classes apart here, so nothing can be explained",
}


def decide(own: dict[str, float], drops: dict[str, dict[str, float]], *, differs: bool) -> str:
    """The outcome: reads, fragile, alike, holds, unclear or no skill.

    Args:
        own: {value, low, high} of the AUC under the placebo.
        drops: of the drop of the AUC from there, as_fake, as_real and exchanged.
        differs: whether the classes differ in the factor beyond chance; else it is no shortcut.
    """
    if own["low"] <= 0.5:
        return "no skill"
    if not differs:
        return "alike"
    if drops["exchanged"]["low"] > MIN_DROP:
        return "reads" if drops["as_fake"]["low"] > 0 else "fragile"
    return "unclear" if drops["exchanged"]["high"] > 2 * MIN_DROP else "holds"


def class_difference(images: Sequence[Facts], factor: Factor, seed: int = 0) -> tuple[float, float]:
    """How unlike the classes are in a factor, and how likely chance makes them so.

    The first is the total variation between the factor's distributions among reals and fakes, 0 to 1;
    the second the share of shuffled labels under which it is no smaller.
    """
    codes: dict[Hashable, int] = {}
    values = np.array([codes.setdefault(factor.value(f), len(codes)) for f in images])
    fake = np.array([f.label is Label.FAKE for f in images])
    rng = np.random.default_rng(seed)
    own = _variation(values, fake)
    shuffled = [_variation(values, rng.permutation(fake)) for _ in range(SHUFFLES)]
    return own, (1 + sum(v >= own - 1e-12 for v in shuffled)) / (1 + SHUFFLES)


def _variation(values: NDArray[np.int64], fake: NDArray[np.bool_]) -> float:
    shares = [
        np.bincount(values[chosen], minlength=int(values.max()) + 1) / max(1, int(chosen.sum()))
        for chosen in (fake, ~fake)
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _sentences(factors: list[dict[str, Any]], native: dict[str, Any]) -> list[str]:
    """The verdict in words: what it was caught reading, or that it was not."""
    caught = [found for found in factors if found["outcome"] == "reads"]
    if caught:  # taken together they say no more than the one that was caught
        alone = [found for found in caught if found["name"] != TOGETHER]
        return [_caught(found) for found in alone or caught]
    if all(found["outcome"] == "no skill" for found in factors):
        return [f"This detector {WORDS['no skill']} (AUC {_told(native['auc'])})."]
    weak = [found for found in factors if found["outcome"] == "fragile"]
    if weak:
        names = ", ".join(found["name"].replace(TOGETHER, "all factors") for found in weak)
        return [
            f"Not proven: fakes that are given what reals have ({names}) are found less often, which "
            "a reader of it would show, and a fragile detector too."
        ]
    return [
        "Not accused: exchanging coding, size, light and colour between the classes changes little."
    ]


def _caught(found: dict[str, Any]) -> str:
    own, as_fake, _, exchanged = found["rows"]
    return (
        f"This detector {found['verdict']}: AUC {_told(own['auc'])} -> {_told(as_fake['auc'])} with "
        f"{as_fake['name']}, and {_told(exchanged['auc'])} with the classes exchanged (n = {own['n']})."
    )


def _told(figure: dict[str, float]) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


TEST = StressTest(
    name="counterfactuals",
    title="Had the classes been saved, sized and lit alike",
    source="arXiv 2403.17608 and 2605.31153; table 4 of arXiv 2406.09398 taken both ways",
    conditions=conditions,
    measure=measure,
    figure="counterfactuals",
)
