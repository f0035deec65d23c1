"""How far annotators agree, beyond chance. Pure; nominal categories; missing answers allowed.

Cohen 1960 (two annotators), Fleiss 1971 (equally many answers per image), Krippendorff 2011,
*Computing Krippendorff's Alpha-Reliability* (any number, missing answers). A measure that the
answers do not define is None: too few of them, or all of one category, where chance agreement is
1.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError

Unit = Sequence[Hashable]
"""The answers given to one image, without those missing."""

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement on a set of images, and what it was measured on.

    `images` have at least two answers; `low` and `high` bound alpha by a bootstrap over images.
    """

    images: int
    answers: int
    annotators: int
    percent: float | None
    alpha: float | None
    low: float | None
    high: float | None
    fleiss: float | None


def measure(answers: Mapping[str, Mapping[str, str | None]], *, seed: int = 0) -> Agreement:
    """The agreement of `answers`, digest -> annotator -> choice; None, a skip, is missing."""
    given = {d: {a: c for a, c in said.items() if c is not None} for d, said in answers.items()}
    paired = [given[digest] for digest in sorted(given) if len(given[digest]) > 1]
    units = [[said[annotator] for annotator in sorted(said)] for said in paired]
    low, high = alpha_interval(units, seed=seed)
    even = len({len(unit) for unit in units}) == 1
    return Agreement(
        images=len(units),
        answers=sum(map(len, units)),
        annotators=len({annotator for said in paired for annotator in said}),
        percent=percent_agreement(units),
        alpha=krippendorff_alpha(units),
        low=low,
        high=high,
        fleiss=fleiss_kappa(units) if even else None,
    )


def percent_agreement(units: Iterable[Unit]) -> float | None:
    """The share of agreeing pairs of answers within an image, averaged over images with a pair."""
    shares = [_agreeing(unit) for unit in units if len(unit) > 1]
    return float(np.mean(shares)) if shares else None


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two annotators' answers to the same images, in the same order.

    Raises:
        InputError: the two are of different lengths.
    """
    if len(a) != len(b):
        raise InputError(f"found {len(a)} and {len(b)} answers; give both to each image")
    if not a:
        return None
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    left, right = Counter(a), Counter(b)
    expected = sum(left[value] * right[value] for value in left) / len(a) ** 2
    return _beyond_chance(observed, expected)


def fleiss_kappa(units: Sequence[Unit]) -> float | None:
    """Fleiss' kappa of images that all have equally many answers, by whomever.

    Raises:
        InputError: some images have more answers than others; Krippendorff's alpha allows that.
    """
    sizes = {len(unit) for unit in units}
    if len(sizes) > 1:
        raise InputError(
            f"found images with {min(sizes)} to {max(sizes)} answers, expected equally many; "
            "use Krippendorff's alpha"
        )
    observed = percent_agreement(units)
    if observed is None:
        return None
    totals = Counter(value for unit in units for value in unit)
    expected = sum((n / totals.total()) ** 2 for n in totals.values())
    return _beyond_chance(observed, expected)


def krippendorff_alpha(units: Iterable[Unit]) -> float | None:
    """Krippendorff's alpha, nominal metric; images with fewer than two answers say nothing."""
    matrices = _coincidences(units)
    return _alpha(matrices.sum(axis=0)) if len(matrices) else None


def alpha_interval(
    units: Iterable[Unit], *, seed: int, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    """A 95 % percentile interval of alpha, drawing images with replacement."""
    matrices = _coincidences(units)
    if not len(matrices):
        return None, None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(matrices), [1 / len(matrices)] * len(matrices), size=resamples)
    sums = np.tensordot(draws.astype(float), matrices, axes=1)
    alphas = [alpha for alpha in map(_alpha, sums) if alpha is not None]
    if not alphas:
        return None, None
    low, high = np.quantile(alphas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _agreeing(unit: Unit) -> float:
    same = sum(n * (n - 1) for n in Counter(unit).values())
    return same / (len(unit) * (len(unit) - 1))


def _beyond_chance(observed: float, expected: float) -> float | None:
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _coincidences(units: Iterable[Unit]) -> NDArray[np.float64]:
    """The coincidence matrix of each image with two answers, shape (images, values, values)."""
    paired = [unit for unit in units if len(unit) > 1]
    index: dict[Hashable, int] = {}
    for unit in paired:
        for value in unit:
            index.setdefault(value, len(index))
    matrices = np.zeros((len(paired), len(index), len(index)))
    for matrix, unit in zip(matrices, paired, strict=True):
        counts = np.bincount([index[value] for value in unit], minlength=len(index)).astype(float)
        matrix += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    return matrices


def _alpha(coincidences: NDArray[np.float64]) -> float | None:
    """Alpha of a coincidence matrix: 1 - observed / expected disagreement."""
    margins = coincidences.sum(axis=1)
    n = margins.sum()
    expected = n**2 - (margins**2).sum()
    if n <= 1 or expected <= 0:
        return None
    observed = n - np.trace(coincidences)
    return float(1 - (n - 1) * observed / expected)
