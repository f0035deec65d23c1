"""Temperature, threshold and thresholds with a guarantee, and the file they are kept in."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, log_loss

from schemas.errors import CheckpointError, InputError
from train.calibration import (
    TEMPERATURES,
    best_threshold,
    calibrate,
    calibration_path,
    conformal_threshold,
    find_band,
    fit_temperature,
    read_calibration,
    write_calibration,
)


def drawn(n=300, seed=0, heat=3.0):
    """Logits `heat` times too large for the labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n) * 2
    return logits * heat, (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)


def made(logits, labels, **more):
    told = {"checkpoint": "a" * 64, "preprocessing": "b" * 16, "data": {"digest": "c" * 64}}
    return calibrate(logits, labels, **{**told, **more})


def test_the_temperature_is_that_of_the_least_cross_entropy():
    logits, labels = drawn(4000)

    found = fit_temperature(logits, labels)

    def loss(temperature):
        return log_loss(labels, 1 / (1 + np.exp(-logits / temperature)))

    best = minimize_scalar(loss, bounds=(0.1, 20), method="bounded")
    assert found == pytest.approx(best.x, abs=1e-3)
    assert found == pytest.approx(3.0, abs=0.4)


@pytest.mark.parametrize(("sign", "end"), [(1, 0), (-1, 1)])
def test_scores_that_separate_the_classes_or_invert_them_stop_at_a_bound(sign, end):
    labels = np.repeat([0, 1], 30)

    assert fit_temperature(sign * (labels * 2.0 - 1), labels) == TEMPERATURES[end]


def test_the_threshold_has_the_highest_balanced_accuracy_of_all():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 40)
        logits = np.round(rng.normal(labels + 1.5, 1), 1)

        threshold = best_threshold(logits, labels)

        # the scores are multiples of 0.1: one threshold between any two of them is every outcome
        every = [balanced_accuracy_score(labels, logits > t) for t in np.arange(-2.95, 6, 0.1)]
        mine = balanced_accuracy_score(labels, logits > threshold)
        assert mine == pytest.approx(max(every), abs=1e-9)
        assert threshold not in logits or threshold == 0.0


def test_a_threshold_that_gains_nothing_stays_at_zero():
    labels = np.repeat([0, 1], 10)

    assert best_threshold(labels * 2.0 - 1, labels) == 0.0


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_new_reals_exceed_a_conformal_threshold_no_more_often_than_promised(rate):
    rng = np.random.default_rng(1)
    shares, bounds = [], []
    for _ in range(2000):
        reals = rng.gumbel(size=150)
        found = conformal_threshold(reals, rate)
        shares.append(np.exp(-np.exp(-found.threshold)))
        bounds.append(found.rate_bound)
    rates = 1 - np.array(shares)  # of the population above the threshold

    assert rates.mean() <= rate + 3 * rates.std() / np.sqrt(len(rates))
    assert rates.mean() >= rate - 1 / 150 - 0.002  # and not much more careful than it has to be
    assert np.mean(rates <= bounds) == pytest.approx(0.95, abs=0.02)


def test_too_few_reals_for_a_rate_give_no_threshold_and_say_how_many_it_takes():
    few = conformal_threshold(np.arange(98.0), 0.01)
    enough = conformal_threshold(np.arange(99.0), 0.01)

    assert (few.threshold, few.needs) == (None, 99)
    assert enough.threshold == 98.0


def test_a_calibration_mends_probabilities_and_says_before_and_after():
    found = made(*drawn(2000))

    assert found.after["ece"] < found.before["ece"] / 2
    assert found.after["brier"] < found.before["brier"]
    assert found.after["balanced_acc"] >= found.before["balanced_acc"]


def test_too_few_images_of_a_class_are_refused():
    with pytest.raises(InputError, match="found 100 real and 5 fake validation images"):
        made(np.arange(105.0), np.append(np.zeros(100, int), np.ones(5, int)))


def test_a_calibration_comes_back_from_its_file_as_it_was(tmp_path):
    path = calibration_path(tmp_path / "checkpoint.pt")
    calibration = made(*drawn())

    write_calibration(path, calibration)

    assert path.name == "checkpoint.calibration.json"
    assert read_calibration(path, "a" * 64) == calibration


def test_a_calibration_of_another_checkpoint_is_refused_and_none_is_none(tmp_path):
    path = tmp_path / "c.json"
    assert read_calibration(path, "a" * 64) is None
    write_calibration(path, made(*drawn()))

    with pytest.raises(CheckpointError, match="is of checkpoint aaaaaaaaaaaa, this one is dddd"):
        read_calibration(path, "d" * 64)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "no json",
        lambda text: text.replace("wildrf-calibration", "else"),
        lambda text: json.dumps({**json.loads(text), "temperature": -1}),
        lambda text: json.dumps({**json.loads(text), "temperature": None}),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "threshold"}),
        lambda text: "[]",
    ],
)
def test_a_damaged_calibration_is_one_clear_line(tmp_path, spoil):
    path = tmp_path / "c.json"
    write_calibration(path, made(*drawn()))
    path.write_text(spoil(path.read_text()))

    with pytest.raises(CheckpointError, match="is damaged; expected what `wildrf calibrate` wrote"):
        read_calibration(path, "a" * 64)


def test_a_calibration_is_refused_where_the_checkpoint_is_fed_otherwise(tmp_path):
    path = tmp_path / "c.json"
    write_calibration(path, made(*drawn()))

    assert read_calibration(path, "a" * 64, "b" * 16) is not None
    with pytest.raises(CheckpointError, match="is of preprocessing bbbbbbbbbbbb, this one is eeee"):
        read_calibration(path, "a" * 64, "e" * 16)


def test_the_bound_on_a_rate_counts_groups_and_not_the_images_in_them():
    rng = np.random.default_rng(2)
    size, count, rate = 10, 60, 0.05
    by_images, by_groups = [], []
    for _ in range(1000):
        reals = np.repeat(rng.normal(size=count), size) + 1e-9 * rng.normal(size=count * size)
        found = conformal_threshold(reals, rate, groups=count)
        true = norm.sf(found.threshold)
        by_groups.append(true <= found.rate_bound)
        by_images.append(true <= conformal_threshold(reals, rate).rate_bound)

    assert np.mean(by_groups) >= 0.94
    assert np.mean(by_images) < 0.9  # what taking images as independent would promise and not keep


def test_groups_of_reals_are_counted_and_an_image_without_one_is_its_own():
    logits, labels = drawn()
    groups = ["a" if k % 2 else None for k in range(len(labels))]

    found = made(logits, labels, groups=groups).conformal[1]

    alone = int(np.sum((labels == 0) & (np.arange(len(labels)) % 2 == 0)))
    assert found.n_groups == alone + 1
    assert found.rate_bound > made(logits, labels).conformal[1].rate_bound


def test_a_calibration_knows_the_images_it_was_made_on(tmp_path):
    digests = [f"{k:064x}"[::-1] for k in range(1, 301)]
    logits, labels = drawn()
    path = tmp_path / "c.json"

    write_calibration(path, made(logits, labels, digests=digests))

    found = read_calibration(path, "a" * 64)
    assert found.holds([digests[0], digests[299], "f" * 64]) == 2
    assert made(logits, labels).holds(digests) is None
    assert "seen" not in found.to_dict()


@pytest.mark.parametrize("shift", [1.0, 6.0])
def test_a_verdict_errs_on_neither_class_more_often_than_promised(shift):
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 100)
    wrong = []
    for _ in range(1000):
        band = find_band(rng.gumbel(shift * labels), labels, 0.1, threshold=0.0)
        real_above = 1 - np.exp(-np.exp(-band.high))
        fake_below = np.exp(-np.exp(-(band.low - shift)))
        wrong.append((real_above, fake_below))
        assert band.low <= band.high

    assert np.all(np.mean(wrong, axis=0) <= 0.1 + 0.003)


def test_a_band_leaves_undecided_what_lies_between_and_nothing_where_the_classes_are_apart():
    labels = np.repeat([0, 1], 50)
    logits = np.concatenate([np.linspace(-3, 1, 50), np.linspace(-1, 3, 50)])

    band = made(logits, labels, undecided=0.1).band
    apart = made(logits + 8 * labels, labels, undecided=0.1).band

    assert [band.verdict(z) for z in (-2.9, 0.0, 2.9)] == ["real", "undecided", "fake"]
    assert apart.low == apart.high
    with pytest.raises(InputError, match=r"found 50 real and 50 fake .* at least 99 of each"):
        made(logits, labels, undecided=0.01)


def test_a_band_comes_back_from_its_file(tmp_path):
    path = tmp_path / "c.json"
    calibration = made(*drawn(), undecided=0.1)

    write_calibration(path, calibration)

    assert read_calibration(path, "a" * 64) == calibration
    assert calibration.verdict(calibration.band.high + 1) == "fake"
