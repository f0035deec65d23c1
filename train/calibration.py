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

CONFIDENCE = 0.95
"""Of the bound on the false positive rate that this very calibration set gives."""


@dataclass(frozen=True, slots=True)
class Conformal:
    """The threshold for one false positive rate.

    `threshold` is a logit; None if `n_real` is too small for the rate (`needs` says how many it
    takes). `rate_bound` is not exceeded with 95 % confidence over calibration sets.
    """

    rate: float
    threshold: float | None
    n_real: int
    needs: int
    rate_bound: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learnt from the validation scores of one checkpoint; thresholds are logits."""

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

    @property
    def applied(self) -> metrics.Calibrated:
        """As metrics take it."""
        return metrics.Calibrated(self.temperature, self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """As the file and `wildrf calibrate --json` show it."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def calibrate(
    logits: Scores,
    labels: Labels,
    *,
    checkpoint: str,
    preprocessing: str,
    data: dict[str, Any],
    rates: Sequence[float] = metrics.FALSE_POSITIVE_RATES,
) -> Calibration:
    """Calibrate on scores (N,) and labels (N,) of validation images.

    Args:
        logits: raw scores of the checkpoint.
        labels: 0 real, 1 fake.
        checkpoint: SHA-256 of the checkpoint.
        preprocessing: digest of its preprocessing.
        data: what the images were, such as their digest and place.
        rates: false positive rates to give a threshold for.

    Raises:
        InputError: if a class has fewer than `LEAST` images.
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
    return Calibration(
        checkpoint=checkpoint,
        preprocessing=preprocessing,
        data=data,
        n_real=len(labels) - fakes,
        n_fake=fakes,
        temperature=temperature,
        threshold=threshold,
        conformal=tuple(conformal_threshold(logits[labels == 0], rate) for rate in rates),
        before={name: found[name] for name in told},
        after={name: found[f"{name}_calibrated"] for name in told},
    )


def fit_temperature(logits: Scores, labels: Labels) -> float:
    """The temperature of the highest likelihood, within `TEMPERATURES`."""
    logits, labels = metrics.checked(logits, labels)
    scale = max(1.0, float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0)))
    bounded = np.clip(logits, -scale, scale)

    def slope(inverse: float) -> float:
        """Derivative of the cross entropy; rises with the inverse temperature."""
        return float(np.mean(bounded * (expit(inverse * bounded) - labels)))

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
    distinct = np.unique(logits[np.isfinite(logits)])
    if not len(distinct):
        return 0.0
    middles = (distinct[:-1] + distinct[1:]) / 2
    candidates = np.concatenate([[distinct[0] - 1.0], middles, [distinct[-1] + 1.0], [0.0]])
    fake, real = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])
    found = 1 - np.searchsorted(fake, candidates, side="right") / len(fake)
    cleared = np.searchsorted(real, candidates, side="right") / len(real)
    quality = found + cleared
    best = candidates[quality >= quality.max() - 1e-12]
    return float(best[np.argmin(np.abs(best))])


def conformal_threshold(reals: Scores, rate: float) -> Conformal:
    """The smallest score of a real image that at most `rate` of new real images exceed.

    The chance that a new exchangeable real scores above the k-th smallest of n is at most
    1 - k / (n + 1).
    """
    n, needs = len(reals), math.ceil(round(1 / rate, 9)) - 1
    k = math.ceil(round((n + 1) * (1 - rate), 9))
    if k > n:
        return Conformal(rate, None, n, needs, None)
    bound = float(beta.ppf(CONFIDENCE, n + 1 - k, k))
    return Conformal(rate, float(np.sort(np.asarray(reals))[k - 1]), n, needs, bound)


def calibration_path(checkpoint: Path) -> Path:
    """Where the calibration of the checkpoint file at `checkpoint` lies: beside it."""
    return checkpoint.with_name(checkpoint.stem + SUFFIX)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, whole or not at all."""
    write_json(path, calibration.to_dict())


def read_calibration(path: Path, checkpoint: str) -> Calibration | None:
    """The calibration at `path` for the checkpoint with that SHA-256; None if there is no file.

    Raises:
        CheckpointError: if it is damaged, or of another checkpoint.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
        if found.pop("format") != FORMAT or found.pop("version") != VERSION:
            raise ValueError("not a calibration of this version")
        rows = tuple(Conformal(**row) for row in found.pop("conformal"))
        calibration = Calibration(**found, conformal=rows)
        usable = calibration.temperature > 0 and math.isfinite(calibration.threshold)
    except (ValueError, TypeError, KeyError, AttributeError):
        usable = False
    if not usable:
        raise CheckpointError(
            f"{path} is damaged; expected what `wildrf calibrate` wrote; calibrate again or delete it"
        )
    if calibration.checkpoint != checkpoint:
        raise CheckpointError(
            f"{path.name} is of checkpoint {calibration.checkpoint[:12]}, this one is "
            f"{checkpoint[:12]}; expected a calibration of the same weights; run `wildrf calibrate` "
            "again, or delete the file"
        )
    return calibration


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
