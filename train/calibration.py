"""From scores on validation images to a temperature, a threshold and thresholds with a guarantee.

Three answers to "how do I set the threshold", all learnt from images that are not tested on:

- a temperature, so that P(fake) = sigmoid(logit / T) can be read as a frequency (Guo et al. 2017,
  https://arxiv.org/abs/1706.04599);
- the threshold of the highest balanced accuracy;
- for a false positive rate, the lowest threshold that keeps it on new images: the order statistic of
  split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates, https://arxiv.org/abs/2107.07511).
  If a new real image is exchangeable with the n real ones here, the chance that it lies above is at
  most the rate, whatever the detector. That is on average over calibration sets; for this very set the
  rate follows a Beta distribution, whose 95 % quantile is told too (Vovk 2012,
  https://arxiv.org/abs/1209.2673).

A calibration is of one checkpoint: it names its SHA-256 and is refused for any other.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import beta

from schemas.errors import CheckpointError, InputError
from train import metrics
from train.artifacts import write_json
from train.metrics import Floats, Labels, Scores

FORMAT = "wildrf-calibration"
VERSION = 1
SUFFIX = ".calibration.json"

LEAST = 20
"""Images of each class that a calibration needs at least; with fewer its threshold is noise."""

TEMPERATURES = (0.05, 20.0)
"""A temperature beyond these says that the scores separate the classes, or hold nothing."""

PREFIX = 16
"""Digits of a SHA-256 that are kept: two of a million images share them by chance once in 37 million sets."""

CONFIDENCE = 0.95
"""Of the bound on the false positive rate that this very calibration set gives."""


@dataclass(frozen=True, slots=True)
class Conformal:
    """The threshold for one false positive rate.

    `threshold` is a logit; None if `n_real` is too small for the rate (`needs` says how many it
    takes). `rate_bound` is not exceeded with 95 % confidence over calibration sets, where each of the
    `n_groups` groups of reals counts once, however many images it has.
    """

    rate: float
    threshold: float | None
    n_real: int
    needs: int
    rate_bound: float | None
    n_groups: int | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """When there is a verdict: fake above logit `high`, real below `low`; between them, undecided.

    At most `rate` of new reals lie above, and at most `rate` of new fakes below.
    """

    rate: float
    low: float
    high: float

    def verdict(self, logit: float) -> str:
        """What is said of an image."""
        return "fake" if logit > self.high else "real" if logit < self.low else "undecided"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learnt from the validation scores of one checkpoint; thresholds are logits.

    `before` and `after` are of the very images that it was learnt from. `seen` holds the first `PREFIX`
    digits of the SHA-256 of each, one after the other.
    """

    checkpoint: str
    preprocessing: str
    data: dict[str, Any]
    n_real: int
    n_fake: int
    temperature: float
    threshold: float
    conformal: tuple[Conformal, ...]
    before: dict[str, float | None]
    after: dict[str, float | None]
    seen: str = ""
    band: Band | None = None

    @property
    def applied(self) -> metrics.Calibrated:
        """As metrics take it."""
        return metrics.Calibrated(self.temperature, self.threshold)

    def verdict(self, logit: float) -> str:
        """Real or fake by the threshold; where there is a band, by that, or undecided."""
        if self.band is not None:
            return self.band.verdict(logit)
        return "fake" if logit > self.threshold else "real"

    def to_dict(self) -> dict[str, Any]:
        """As results show it: without the digests of its images, which are many."""
        told = {"format": FORMAT, "version": VERSION, **asdict(self)}
        del told["seen"]
        return told

    def holds(self, digests: Sequence[str]) -> int | None:
        """How many images with these SHA-256 it was learnt from; None where it does not say."""
        if not self.seen:
            return None
        starts = range(0, len(self.seen), PREFIX)
        seen = {self.seen[start : start + PREFIX] for start in starts}
        return sum(digest[:PREFIX] in seen for digest in digests)


def calibrate(
    logits: Scores,
    labels: Labels,
    *,
    checkpoint: str,
    preprocessing: str,
    data: dict[str, Any],
    rates: Sequence[float] = metrics.FALSE_POSITIVE_RATES,
    groups: Sequence[str | None] | None = None,
    digests: Sequence[str] = (),
    undecided: float | None = None,
) -> Calibration:
    """Calibrate on scores (N,) and labels (N,) of validation images.

    Args:
        logits: raw scores of the checkpoint.
        labels: 0 real, 1 fake.
        checkpoint: SHA-256 of the checkpoint.
        preprocessing: digest of its preprocessing.
        data: what the images were, such as their digest and place.
        rates: false positive rates to give a threshold for.
        groups: (N,) images of one group rise and fall together; None is its own group.
        digests: (N,) SHA-256 of the images, so that nobody tests on them.
        undecided: how often a verdict may err on either class; what would err more is undecided.

    Raises:
        InputError: if a class has fewer than `LEAST` images, or too few for `undecided`.
    """
    logits, labels = metrics.checked(logits, labels)
    fakes = int(labels.sum())
    if min(fakes, len(labels) - fakes) < LEAST:
        raise InputError(
            f"found {len(labels) - fakes} real and {fakes} fake validation images; expected at least "
            f"{LEAST} of each to calibrate; add images to val"
        )
    temperature, threshold = fit_temperature(logits, labels), best_threshold(logits, labels)
    found = metrics.Sample(logits, labels, metrics.Calibrated(temperature, threshold)).point()
    told = ("acc", "balanced_acc", "brier", "ece")
    reals = labels == 0
    distinct = _count_groups(groups, reals) if groups is not None else None
    return Calibration(
        checkpoint=checkpoint,
        preprocessing=preprocessing,
        data=data,
        n_real=len(labels) - fakes,
        n_fake=fakes,
        temperature=temperature,
        threshold=threshold,
        conformal=tuple(conformal_threshold(logits[reals], rate, distinct) for rate in rates),
        before={name: found[name] for name in told},
        after={name: found[f"{name}_calibrated"] for name in told},
        seen="".join(sorted(digest[:PREFIX] for digest in digests)),
        band=None if undecided is None else find_band(logits, labels, undecided, threshold),
    )


def fit_temperature(logits: Scores, labels: Labels) -> float:
    """The temperature of the highest likelihood, within `TEMPERATURES`."""
    logits, labels = metrics.checked(logits, labels)

    def slope(inverse: float) -> float:
        """Derivative of the cross entropy; rises with the inverse temperature."""
        return float(np.mean(logits * (expit(inverse * logits) - labels)))

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low) >= 0:  # the flatter the better: the scores say nothing, or the opposite
        return TEMPERATURES[1]
    if slope(high) <= 0:  # the steeper the better: the classes are apart
        return TEMPERATURES[0]
    return float(1 / brentq(slope, low, high, xtol=1e-10))


def best_threshold(logits: Scores, labels: Labels) -> float:
    """The threshold of the highest balanced accuracy, halfway between two scores.

    Of equally good ones, that nearest to 0 is taken, so that a calibration moves no more than it must.
    """
    logits, labels = metrics.checked(logits, labels)
    distinct = np.unique(logits)
    middles = (distinct[:-1] + distinct[1:]) / 2
    candidates = np.concatenate([[distinct[0] - 1.0], middles, [distinct[-1] + 1.0], [0.0]])
    fake, real = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])
    found = 1 - np.searchsorted(fake, candidates, side="right") / len(fake)
    cleared = np.searchsorted(real, candidates, side="right") / len(real)
    quality = found + cleared
    best = candidates[quality >= quality.max() - 1e-12]
    return float(best[np.argmin(np.abs(best))])


def _count_groups(groups: Sequence[str | None], rows: NDArray[np.bool_]) -> int:
    """How many groups the images at `rows` are in; one without a group is its own."""
    named = [group for group, chosen in zip(groups, rows.tolist(), strict=True) if chosen]
    return len(set(named) - {None}) + named.count(None)


def conformal_threshold(reals: Scores, rate: float, groups: int | None = None) -> Conformal:
    """The smallest score of a real image that at most `rate` of new real images exceed.

    The chance that a new exchangeable real scores above the k-th smallest of n is at most
    1 - k / (n + 1). `groups` is how many groups the reals are in; None: as many as there are images.
    """
    n, needs = len(reals), math.ceil(round(1 / rate, 9)) - 1
    groups = n if groups is None else groups
    k = math.ceil(round((n + 1) * (1 - rate), 9))
    if k > n:
        return Conformal(rate, None, n, needs, None, groups)
    threshold = float(np.sort(np.asarray(reals))[k - 1])
    return Conformal(rate, threshold, n, needs, rate_bound(n, k, groups), groups)


def rate_bound(n: int, k: int, groups: int) -> float:
    """What the rate above the k-th smallest of n reals is below, with 95 % confidence.

    In the worst case images of a group say the same, so that their groups are all that was drawn.
    """
    below = k * groups // n
    return float(beta.ppf(CONFIDENCE, groups + 1 - below, below)) if below else 1.0


def find_band(logits: Scores, labels: Labels, rate: float, threshold: float) -> Band:
    """Where a verdict errs on neither class more often than `rate`, by split conformal prediction of both.

    Where one threshold keeps both promises nothing is left undecided; it is as near to `threshold` as it can.

    Raises:
        InputError: if there are too few images for the rate.
    """
    logits, labels = metrics.checked(logits, labels)
    real = conformal_threshold(logits[labels == 0], rate)
    fake = conformal_threshold(-logits[labels == 1], rate)
    if real.threshold is None or fake.threshold is None:
        raise InputError(
            f"found {real.n_real} real and {fake.n_real} fake validation images; expected at least "
            f"{real.needs} of each to err on at most {rate:g} of either; add images to val, or allow more"
        )
    low, high = -fake.threshold, real.threshold
    if low >= high:
        low = high = min(max(threshold, high), low)
    return Band(rate, low, high)


def calibration_path(checkpoint: Path) -> Path:
    """Where the calibration of the checkpoint file at `checkpoint` lies: beside it."""
    return checkpoint.with_name(checkpoint.stem + SUFFIX)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, whole or not at all."""
    write_json(path, {**calibration.to_dict(), "seen": calibration.seen})


def read_calibration(
    path: Path, checkpoint: str, preprocessing: str | None = None
) -> Calibration | None:
    """The calibration at `path` for the checkpoint with that SHA-256; None if there is no file.

    `preprocessing` is the digest of what goes before the checkpoint, None where it is not asked.

    Raises:
        CheckpointError: if it is damaged, or of another checkpoint or preprocessing.
    """
    if not path.is_file():
        return None
    return parse_calibration(path.read_bytes(), str(path), checkpoint, preprocessing)


def parse_calibration(
    content: bytes, where: str, checkpoint: str, preprocessing: str | None = None
) -> Calibration:
    """The calibration in `content`, JSON that lies at `where`; otherwise as `read_calibration`.

    Raises:
        CheckpointError: if it is damaged, or of another checkpoint or preprocessing.
    """
    try:
        found = json.loads(content)
        if found.pop("format") != FORMAT or found.pop("version") != VERSION:
            raise ValueError("not a calibration of this version")
        rows = tuple(Conformal(**row) for row in found.pop("conformal"))
        band = Band(**found["band"]) if found.get("band") else None
        calibration = Calibration(**{**found, "conformal": rows, "band": band})
        usable = calibration.temperature > 0 and math.isfinite(calibration.threshold)
        usable = usable and isinstance(calibration.seen, str)
    except (ValueError, TypeError, KeyError, AttributeError):
        usable = False
    if not usable:
        raise CheckpointError(
            f"{where} is damaged; expected what `wildrf calibrate` wrote; calibrate again or delete it"
        )
    _require_of(where, "checkpoint", calibration.checkpoint, checkpoint)
    if preprocessing is not None:
        _require_of(where, "preprocessing", calibration.preprocessing, preprocessing)
    return calibration


def _require_of(where: str, what: str, stated: str, found: str) -> None:
    if stated != found:
        raise CheckpointError(
            f"{where} is of {what} {stated[:12]}, this one is {found[:12]}; expected a calibration of "
            "the same weights and preprocessing; run `wildrf calibrate` again, or delete the file"
        )


def set_aside(checkpoint: Path) -> Path | None:
    """Rename a calibration that is not of the weights at `checkpoint`; its new place, if there was one."""
    path = calibration_path(checkpoint)
    try:
        read_calibration(path, hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    except CheckpointError:
        return path.replace(path.with_name(f"{path.name}.old"))
    return None


def probabilities(logits: Scores, calibration: Calibration | None) -> Floats:
    """P(fake), calibrated if there is a calibration."""
    values = np.asarray(logits, dtype=np.float64)
    return metrics.sigmoids(values / (calibration.temperature if calibration else 1.0))
