"""How well scores tell real from fake: pure functions of logits and labels, in NumPy.

Fake (1) is the positive class throughout. Every metric is computed for many weightings of the same
images at once (a bootstrap draw is a weighting by counts), so that images are ranked once and not
once a draw. With weights of one they equal scikit-learn's `average_precision_score`,
`roc_auc_score`, `roc_curve`, `balanced_accuracy_score`, `brier_score_loss` and `calibration_curve`
to float tolerance. Tied scores share one threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]
Floats = NDArray[np.float64]

FALSE_POSITIVE_RATES = (0.01, 0.05)
"""Where the true positive rate is reported."""

BINS = 15
"""Equally wide bins of P(fake) for the calibration error, as in Guo et al. 2017, arXiv 1706.04599."""

NAMES = (
    "acc",
    "balanced_acc",
    "ap",
    "auc",
    "tpr_at_fpr_0.01",
    "tpr_at_fpr_0.05",
    "eer",
    "brier",
    "ece",
    "acc_calibrated",
    "balanced_acc_calibrated",
    "brier_calibrated",
    "ece_calibrated",
)
"""Every metric by its key; those that end in `calibrated` use a `Calibrated`, the others logit 0."""

ONE_CLASS = frozenset(
    f"{name}{suffix}"
    for name in ("acc", "brier", "ece", "ece_gaps")
    for suffix in ("", "_calibrated")
)
"""What has a meaning where only one class is there."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a calibration changes: P(fake) is sigmoid(logit / temperature), fake is above threshold.

    `threshold` is a logit.
    """

    temperature: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Curve:
    """True and false positives at every distinct score from the highest down, each (D, T)."""

    true: Floats
    false: Floats

    @property
    def rates(self) -> tuple[Floats, Floats]:
        """False and true positive rates from (0, 0) on, (D, T + 1); NaN where a class has no weight."""
        with np.errstate(invalid="ignore"):
            false, true = self.false / self.false[:, -1:], self.true / self.true[:, -1:]
        start = np.zeros((len(true), 1))
        return np.hstack([start, false]), np.hstack([start, true])


def _proportions(weights: Floats) -> Floats:
    """Of their sum; weights that sum to nothing as they are."""
    total = weights.sum()
    return weights / total if total else weights


class Sample:
    """Images with their scores, ranked once; `values` measures any number of weightings of them.

    `weights` (N,) count an image more or less than the others in all of them.
    """

    def __init__(
        self,
        logits: Scores,
        labels: Labels,
        calibrated: Calibrated | None = None,
        weights: Floats | None = None,
    ) -> None:
        logits, labels = checked(logits, labels)
        self.order = np.argsort(-logits, kind="stable")
        self.logits, self.labels = logits[self.order], labels[self.order]
        self.last = np.append(np.flatnonzero(np.diff(self.logits)), len(logits) - 1)
        self._fake = self.labels.astype(np.float64)
        self._settings = _settings(calibrated)
        self._terms, self._columns = _terms(self.logits, self.labels, self._settings)
        self._base = None if weights is None else np.asarray(weights, np.float64)[self.order]
        self._point: dict[str, float | None] | None = None
        self._measured: dict[str, Floats] | None = None

    def _ranked(self, weights: NDArray[np.generic]) -> Floats:
        ranked = np.asarray(weights, dtype=np.float64)[:, self.order]
        return ranked if self._base is None else ranked * self._base

    def is_like(self, other: "Sample") -> bool:
        """Whether scores, labels and weights are the same."""
        return self._scored_like(other) and np.array_equal(self.weights, other.weights)

    def ranks_like(self, other: "Sample") -> bool:
        """Whether they are but for how much each class weighs as a whole, of which the AUC knows nothing."""
        return self._scored_like(other) and all(
            np.allclose(
                _proportions(self.weights[of]), _proportions(other.weights[of]), rtol=1e-9, atol=0
            )
            for of in (self.labels == 0, self.labels == 1)
        )

    def _scored_like(self, other: "Sample") -> bool:
        return (
            np.array_equal(self.logits, other.logits)
            and np.array_equal(self.order, other.order)
            and np.array_equal(self.labels, other.labels)
        )

    @property
    def weights(self) -> Floats:
        """(N,) how much each image counts, in the order of their scores, highest first."""
        return np.ones(len(self.labels)) if self._base is None else self._base

    def curve(self, weights: NDArray[np.generic]) -> Curve:
        """The curve of each row of `weights` (D, N), in the order the images were given."""
        return self._curve(self._ranked(weights))

    def _curve(self, ranked: Floats) -> Curve:
        every = np.cumsum(ranked, axis=1)[:, self.last]
        true = np.cumsum(ranked * self._fake, axis=1)[:, self.last]
        return Curve(true, every - true)

    def values(self, weights: NDArray[np.generic]) -> dict[str, Floats]:
        """Every metric of each row of `weights` (D, N): (D,), NaN where it has no meaning.

        Beside them `ece_gaps` (and `ece_gaps_calibrated`), (D, B): what each bin that holds images adds to
        the calibration error, with its sign.
        """
        ranked = self._ranked(weights)
        curve = self._curve(ranked)
        found = {
            "ap": average_precisions(curve),
            "auc": areas(curve),
            **{f"tpr_at_fpr_{r:g}": true_rates(curve, r) for r in FALSE_POSITIVE_RATES},
            "eer": equal_error_rates(curve),
        }
        found |= _shares(ranked @ self._terms, self._columns)
        both = (curve.true[:, -1] > 0) & (curve.false[:, -1] > 0)
        return {
            name: v if name in ONE_CLASS else np.where(both, v, np.nan) for name, v in found.items()
        }

    def gaps(self, suffix: str = "") -> Floats:
        """(B,) what each bin that holds images adds to the calibration error, with its sign."""
        gaps: Floats = self._as_they_are()[f"ece_gaps{suffix}"][0]
        return gaps

    def image_gaps(
        self, suffix: str = "", *, weighted: bool = True
    ) -> tuple[Floats, NDArray[np.intp]]:
        """(N,) P(fake) less the label of each image, times its weight, and its bin; highest score first."""
        probability = sigmoids(self.logits / self._settings[suffix].temperature)
        gaps = probability - self.labels
        return gaps * self.weights if weighted else gaps, bin_of(probability)

    def bins(self, suffix: str = "") -> Floats:
        """(2, B) how much the reals, and the fakes, weigh in each bin that `gaps` tells of."""
        _, bins = self.image_gaps(suffix)
        sides = (self.labels == 0, self.labels == 1)
        held = np.array([np.bincount(bins[of], self.weights[of], BINS) for of in sides], np.float64)
        return held[:, np.unique(bins)]

    def point(self) -> dict[str, float | None]:
        """Every metric of the images as they are; None where it has no meaning."""
        if self._point is None:
            found = self._as_they_are()
            self._point = {n: _or_none(float(found[n][0])) if n in found else None for n in NAMES}
        return self._point

    def _as_they_are(self) -> dict[str, Floats]:
        if self._measured is None:
            self._measured = self.values(np.ones((1, len(self.labels))))
        return self._measured


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def average_precisions(curve: Curve) -> Floats:
    """(D,) area under the precision-recall curve as a step function."""
    called = curve.true + curve.false
    precision = np.divide(curve.true, called, out=np.zeros_like(called), where=called > 0)
    gained = np.diff(curve.true, prepend=0.0, axis=1)
    with np.errstate(invalid="ignore"):
        found: Floats = (gained * precision).sum(axis=1) / curve.true[:, -1]
    return found


def areas(curve: Curve) -> Floats:
    """(D,) area under the ROC curve: a fake above a real counts one, a tie one half."""
    before = curve.true - np.diff(curve.true, prepend=0.0, axis=1)
    wider = np.diff(curve.false, prepend=0.0, axis=1)
    with np.errstate(invalid="ignore"):
        pairs = curve.true[:, -1] * curve.false[:, -1]
        found: Floats = (wider * (before + curve.true) / 2).sum(axis=1) / pairs
    return found


def true_rates(curve: Curve, rate: float) -> Floats:
    """(D,) largest share of fakes found while at most `rate` of the reals are called fake."""
    allowed = (rate + 1e-12) * curve.false[:, -1:]
    steps = (curve.false <= allowed).sum(axis=1)
    reached = np.hstack([np.zeros((len(steps), 1)), curve.true])[np.arange(len(steps)), steps]
    with np.errstate(invalid="ignore"):
        found: Floats = reached / curve.true[:, -1]
    return found


def equal_error_rates(curve: Curve) -> Floats:
    """(D,) where the ROC curve, straight between its points, misses as many fakes as it accuses reals."""
    false, true = curve.rates
    total = false + true
    row = np.arange(len(total))
    after = np.argmax(total >= 1 - 1e-12, axis=1)  # at (1, 1) at the latest; 0 only for NaN
    before = np.maximum(after - 1, 0)
    width = total[row, after] - total[row, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(width > 0, (1 - total[row, before]) / width, 0.0)
    found: Floats = false[row, before] + share * (false[row, after] - false[row, before])
    return found


def _settings(calibrated: Calibrated | None) -> dict[str, Calibrated]:
    """By the ends of the names of metrics."""
    return {"": Calibrated(1.0, 0.0)} | ({"_calibrated": calibrated} if calibrated else {})


def _terms(
    logits: Floats, labels: NDArray[np.int64], settings: Mapping[str, Calibrated]
) -> tuple[Floats, list[str]]:
    """What each image adds to the sums that metrics are shares of: (N, K), and the K names."""
    fake = labels == 1
    columns: dict[str, NDArray[np.generic]] = {"n": np.ones(len(labels)), "fakes": fake}
    for suffix, setting in settings.items():
        right = (logits > setting.threshold) == fake
        probability = sigmoids(logits / setting.temperature)
        gap = probability - fake
        columns[f"right{suffix}"], columns[f"found{suffix}"] = right, right & fake
        columns[f"brier{suffix}"] = gap**2
        bins = bin_of(probability)
        for k in np.unique(bins):
            columns[f"ece{suffix}/{k}"] = np.where(bins == k, gap, 0.0)
    return np.column_stack([v.astype(np.float64) for v in columns.values()]), list(columns)


def bin_of(probability: Floats) -> NDArray[np.intp]:
    """The calibration bin, 0 to `BINS` - 1, of each P(fake); an edge belongs to the bin below it."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)


def _shares(sums: Floats, columns: list[str]) -> dict[str, Floats]:
    """The metrics that are shares of sums over images, (D,) each, and the gaps of the bins."""
    at = {name: sums[:, k] for k, name in enumerate(columns)}
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for suffix in ("", "_calibrated"):
            if f"right{suffix}" not in at:
                continue
            bins = [k for k, name in enumerate(columns) if name.startswith(f"ece{suffix}/")]
            hits = at[f"found{suffix}"] / at["fakes"]
            cleared = (at[f"right{suffix}"] - at[f"found{suffix}"]) / (at["n"] - at["fakes"])
            found[f"acc{suffix}"] = at[f"right{suffix}"] / at["n"]
            found[f"balanced_acc{suffix}"] = (hits + cleared) / 2
            found[f"brier{suffix}"] = at[f"brier{suffix}"] / at["n"]
            gaps = sums[:, bins] / at["n"][:, None]
            found[f"ece{suffix}"], found[f"ece_gaps{suffix}"] = np.abs(gaps).sum(axis=1), gaps
    return found


def sigmoids(logits: Floats) -> Floats:
    """1 / (1 + exp(-logit)), without overflow."""
    grown = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1.0, grown) / (1 + grown)
    return found


def accuracy(logits: Scores, labels: Labels, threshold: float = 0.0) -> float:
    """Share of images on the right side of `threshold`; a logit equal to it says real.

    Raises:
        ValueError: if empty, or if a logit is NaN or infinite.
    """
    logits, labels = checked(logits, labels)
    return float(np.mean((logits > threshold) == (labels == 1)))


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under the precision-recall curve as a step function; fake (1) is positive.

    Args:
        scores: (N,) higher means more likely fake.
        labels: (N,) 0 real, 1 fake.

    Raises:
        ValueError: if there is no fake image, where it has no meaning, or if a score is NaN or infinite.
    """
    curve = _one_curve(scores, labels)
    if curve.true[0, -1] == 0:
        raise ValueError("average precision needs at least one fake image; found none")
    return float(average_precisions(curve)[0])


def roc_auc(scores: Scores, labels: Labels) -> float:
    """Chance that a fake image scores above a real one, ties counting one half.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN or infinite.
    """
    return float(areas(_both(_one_curve(scores, labels)))[0])


def tpr_at_fpr(scores: Scores, labels: Labels, rate: float) -> float:
    """Largest share of fakes found while at most `rate` of the reals are called fake.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN or infinite.
    """
    return float(true_rates(_both(_one_curve(scores, labels)), rate)[0])


def equal_error_rate(scores: Scores, labels: Labels) -> float:
    """Error rate of both classes at the threshold where they are equal, by linear interpolation.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN or infinite.
    """
    return float(equal_error_rates(_both(_one_curve(scores, labels)))[0])


def roc_points(scores: Scores, labels: Labels) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold from the highest score, from (0, 0) on.

    Raises:
        ValueError: unless both classes are there, or if a score is NaN or infinite.
    """
    false, true = _both(_one_curve(scores, labels)).rates
    return false[0], true[0]


def _one_curve(scores: Scores, labels: Labels) -> Curve:
    sample = Sample(scores, labels)
    return sample.curve(np.ones((1, len(sample.labels))))


def _both(curve: Curve) -> Curve:
    if curve.true[0, -1] == 0 or curve.false[0, -1] == 0:
        raise ValueError("this metric needs both classes; found only one")
    return curve


def summary(logits: Scores, labels: Labels) -> dict[str, float | int | None]:
    """acc, ap, auc and n, as after every epoch; a metric that needs a missing class is None."""
    if len(labels) == 0:
        return {"acc": None, "ap": None, "auc": None, "n": 0}
    found = Sample(logits, labels).point()
    return {**{name: found[name] for name in ("acc", "ap", "auc")}, "n": len(labels)}


def reliability(
    logits: Scores, labels: Labels, temperature: float = 1.0
) -> list[dict[str, float | int]]:
    """Per bin of P(fake) that holds images: n, the mean P(fake), and the share of fakes."""
    logits, labels = checked(logits, labels)
    probability = sigmoids(logits / temperature)
    bins = bin_of(probability)
    return [
        {
            "n": int(np.sum(bins == k)),
            "predicted": float(probability[bins == k].mean()),
            "observed": float(labels[bins == k].mean()),
        }
        for k in np.unique(bins)
    ]


def checked(scores: Scores, labels: Labels) -> tuple[Floats, NDArray[np.int64]]:
    """Scores as float64 and labels as int64, both (N,).

    Raises:
        ValueError: if the shapes differ, there is none, a score is NaN or infinite, or a label not 0 or 1.
    """
    found: Floats = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(labels)
    if found.ndim != 1 or found.shape != labels.shape:
        raise ValueError(
            f"found scores {found.shape} and labels {labels.shape}; expected (N,) each"
        )
    if len(found) == 0:
        raise ValueError("found no scores; a metric needs at least one image")
    odd = int(np.sum(~np.isfinite(found)))
    if odd:  # two infinite scores differ by no number, so that they would not count as tied
        raise ValueError(f"{odd} of {len(found)} scores are NaN or infinite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold values other than 0 (real) and 1 (fake)")
    return found, labels.astype(np.int64)


def nested(
    found: Mapping[str, Any], rates: Sequence[float] = FALSE_POSITIVE_RATES
) -> dict[str, Any]:
    """Values or intervals by metric with the true positive rates under one key, as JSON has them."""
    flat = {name: v for name, v in found.items() if not name.startswith("tpr_at_fpr_")}
    return {**flat, "tpr_at_fpr": {f"{r:g}": found.get(f"tpr_at_fpr_{r:g}") for r in rates}}
