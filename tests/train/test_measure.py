"""Slices, matched weights, leaks and the mean, on scores whose answer is known."""

import json

import numpy as np
import pytest

from train.measure import LEAST, Asked, Leaks, measure, told_over
from train.scores import ONE_EACH, ScoredSet, tie
from train.slices import (
    UNKNOWN,
    ImageFacts,
    certainty_of,
    matched_weights,
    quality_of,
    size_of,
    slice_rows,
)


def scored(logits, labels, *, platforms=None, groups=None):
    names = tuple(f"{k:04d}.jpg" for k in range(len(labels)))
    return ScoredSet(
        names, names, tuple(platforms or ["all"] * len(labels)), np.asarray(labels),
        np.asarray(logits, float), tuple(groups or [None] * len(labels)), ONE_EACH, {},
    )  # fmt: skip


def jpeg(quality=90, side=600, **more):
    return ImageFacts("JPEG", side, side // 2, quality, **more)


PNG = ImageFacts("PNG", 1024, 1024)


def format_reader(n=400, seed=0, honest=0.0):
    """A detector of the format: reals are JPEG, nine fakes in ten PNG; it also sees `honest` of truth."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    png = np.concatenate([rng.random(n) < 0.1, rng.random(n) < 0.9])
    logits = 3 * png - 1.5 + honest * labels + rng.normal(size=2 * n) * 0.5
    facts = [PNG if one else jpeg() for one in png]
    return scored(logits, labels), facts


def test_a_detector_of_the_format_is_at_chance_once_the_files_are_matched():
    images, facts = format_reader()

    found = measure(images, Asked(facts=facts, draws=300))

    native, matched = found["platforms"]["all"], found["matched"]["platforms"]["all"]
    assert native["auc"] > 0.85
    assert matched["ci"]["auc"][0] < 0.5 < matched["ci"]["auc"][1]
    assert found["matched"]["gap"]["auc"]["ci"][1] < -0.2
    assert matched["n_matched"] < matched["n_of"]


def test_a_detector_of_the_picture_keeps_its_worth_when_the_files_are_matched():
    images, facts = format_reader(honest=4.5)

    found = measure(images, Asked(facts=facts, draws=300))

    assert found["matched"]["platforms"]["all"]["auc"] > 0.95


def test_matched_weights_leave_no_fact_that_tells_the_label():
    images, facts = format_reader(50)
    weights = matched_weights(facts, images.platforms, images.labels)

    for value in ("PNG", "JPEG"):
        rows = np.array([one.format == value for one in facts])
        real, fake = (weights[rows & (images.labels == y)].sum() for y in (0, 1))
        assert real == pytest.approx(fake)
    assert weights.max() <= 1


def test_classes_without_a_common_file_fact_have_nothing_to_match():
    labels = np.repeat([0, 1], 50)
    images = scored(labels * 2.0 - 1, labels)

    found = measure(images, Asked(facts=[jpeg(95 if y else 80) for y in labels], draws=50))

    assert found["matched"]["mean"] is None
    assert found["matched"]["platforms"]["all"] == {
        "n_matched": 0.0, "n_of": 100, "too_few": True,
    }  # fmt: skip


def test_matching_is_within_each_platform():
    labels = np.tile([0, 1], 50)
    platforms = ["x"] * 50 + ["reddit"] * 50
    facts = [jpeg(80)] * 50 + [jpeg(80) if y else PNG for y in labels[50:]]

    found = measure(scored(labels * 1.0, labels, platforms=platforms), Asked(facts=facts, draws=20))

    told = found["matched"]["platforms"]
    assert (told["x"]["n_matched"], told["reddit"]["n_matched"]) == (50, 0)


def test_every_slice_has_n_and_too_few_stands_where_numbers_would_mean_nothing():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    facts = [
        jpeg(60 + (k % 2) * 30 if k < 180 else 99, camera=k < 100, certainty=1.0 if k % 4 else 0.7)
        for k in range(200)
    ]

    found = measure(scored(rng.normal(labels), labels), Asked(facts=facts, draws=50))

    rows = {(row["by"], row["value"]): row for row in found["slices"]}
    assert sum(r["n"] for (by, _), r in rows.items() if by == "quality") == 200
    few = rows["quality", "JPEG 95 to 100"]
    assert few == {
        "by": "quality", "value": "JPEG 95 to 100", "too_few": True, "n": 20, "n_real": 10,
        "n_fake": 10,
    }  # fmt: skip
    assert rows["quality", "JPEG below 70"]["n_fake"] == 0
    assert rows["quality", "JPEG below 70"]["auc"] is None
    assert rows["quality", "JPEG below 70"]["acc"] is not None
    whole = rows["camera", "camera named"]
    assert (whole["n"], whole["n_real"]) == (100, 50)
    assert whole["ci"]["auc"][0] < whole["auc"] < whole["ci"]["auc"][1]
    assert ("certainty", "some disagreed") in rows
    assert few["n_real"] < LEAST


@pytest.mark.parametrize(
    ("facts", "bins"),
    [
        (jpeg(69, 511), ("JPEG below 70", "below 512 px", UNKNOWN)),
        (jpeg(70, 512, certainty=1.0), ("JPEG 70 to 84", "512 to 1023 px", "all agreed")),
        (jpeg(95, 2048, certainty=0.5), ("JPEG 95 to 100", "2048 px and more", "some disagreed")),
        (PNG, ("no JPEG", "1024 to 2047 px", UNKNOWN)),
        (ImageFacts("JPEG"), (UNKNOWN, UNKNOWN, UNKNOWN)),
        (ImageFacts(), (UNKNOWN, UNKNOWN, UNKNOWN)),
    ],
)
def test_bins_begin_where_they_say(facts, bins):
    assert (quality_of(facts), size_of(facts), certainty_of(facts)) == bins


def test_a_fact_that_is_known_of_no_image_is_no_slice():
    assert slice_rows([ImageFacts("PNG")] * 3, "camera") == {}
    assert list(slice_rows([PNG, ImageFacts(), PNG], "format")) == ["PNG", UNKNOWN]


def test_leaked_images_are_reported_with_and_without_and_the_gap_is_paired():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    known = np.arange(200) % 2 == 0  # learnt by heart
    logits = np.where(known, 4 * labels - 2, rng.normal(size=200))
    images = scored(logits, labels)
    leaked = {images.paths[k]: "near" for k in np.flatnonzero(known)}

    found = measure(images, Asked(leaks=Leaks(leaked, "hash", "train"), draws=300))

    without = found["leaks"]["without"]["platforms"]["all"]
    assert found["leaks"]["n"] == 100
    assert without["n"] == 100
    assert without["ci"]["auc"][0] < 0.5 < without["ci"]["auc"][1]
    assert found["leaks"]["gap"]["auc"]["ci"][1] < 0


def test_no_leak_and_not_looked_for_are_told_apart():
    labels = np.repeat([0, 1], 10)
    images = scored(labels * 1.0, labels)

    none = measure(images, Asked(leaks=Leaks({}, "hash", "train"), draws=10))["leaks"]

    assert none["n"] == 0
    assert none["without"] is None
    assert measure(images, Asked(draws=10))["leaks"] is None


def test_a_set_that_was_learnt_as_a_whole_has_nothing_left():
    labels = np.repeat([0, 1], 10)
    images = scored(labels * 1.0, labels)
    every = Leaks(dict.fromkeys(images.paths, "same-bytes"), "hash", "train")

    found = measure(images, Asked(leaks=every, draws=10))["leaks"]

    assert found["n"] == 20
    assert found["without"] is None


def test_matching_that_only_weighs_the_classes_alike_leaves_the_auc_as_it_was():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [90, 40])
    images = scored(labels * 1.5 + rng.normal(size=130), labels)

    gap = measure(images, Asked(facts=[jpeg()] * 130, draws=100))["matched"]["gap"]

    assert gap["auc"] == {"difference": 0.0, "ci": [0.0, 0.0]}
    assert gap["ap"]["ci"][0] > 0.0  # which knows how rare a class is


def test_a_gap_is_certain_only_where_nothing_was_changed():
    labels = np.repeat([0, 1], 60)
    images = scored(labels * 4.0 - 2, labels)
    facts = [jpeg()] * 120

    found = measure(images, Asked(facts=facts, rescored=labels * 2.0 - 1, draws=100))

    assert found["matched"]["gap"]["auc"] == {"difference": 0.0, "ci": [0.0, 0.0]}
    low, high = found["rescored"]["gap"]["auc"]["ci"]
    assert low < -0.03
    assert high > 0.03


def test_the_mean_weighs_platforms_equally_and_is_known_better_than_each():
    rng = np.random.default_rng(3)
    labels = np.tile([0, 1], 300)
    platforms = ["x"] * 100 + ["reddit"] * 500
    found = measure(scored(rng.normal(labels), labels, platforms=platforms), Asked(draws=400))

    mean, each = found["mean"], found["platforms"]
    for name in ("acc", "ap", "auc", "eer", "brier", "ece"):
        assert mean[name] == pytest.approx(np.mean([each[p][name] for p in each]))
    assert mean["tpr_at_fpr"]["0.05"] == pytest.approx(
        np.mean([each[p]["tpr_at_fpr"]["0.05"] for p in each])
    )
    spans = {p: np.ptp(each[p]["ci"]["auc"]) for p in each}
    by_theory = np.sqrt(spans["x"] ** 2 + spans["reddit"] ** 2) / 2
    assert np.ptp(mean["ci"]["auc"]) == pytest.approx(by_theory, rel=0.15)
    json.dumps(found, allow_nan=False)


def one_perfect(perfect=20, other=1000):
    """Scores, all right on platform a, and wrong on every twentieth image of platform b."""
    labels = np.tile([0, 1], perfect + other)
    platforms = ["a"] * (2 * perfect) + ["b"] * (2 * other)
    wrong = (np.arange(2 * (perfect + other)) - 2 * perfect) % 20 == 10
    wrong[: 2 * perfect] = False
    return scored(np.where(wrong, -4.0, 4.0) * (2 * labels - 1), labels, platforms=platforms)


def test_a_small_platform_without_an_error_leaves_the_mean_open():
    found = measure(one_perfect(), Asked(draws=300))

    each, mean = found["platforms"], found["mean"]
    assert each["a"]["ci"]["acc"] == pytest.approx([0.8316, 1.0], abs=1e-3)
    for name in ("acc", "ap", "auc"):
        below = [each[p][name] - each[p]["ci"][name][0] for p in each]
        assert mean["ci"][name][0] == pytest.approx(mean[name] - np.hypot(*below) / 2, abs=0.002)
    # a confident mistake on platform a may be to come
    assert mean["ci"]["brier"][1] - mean["brier"] > 0.08


def test_one_platform_has_a_mean_with_the_interval_of_that_platform():
    found = measure(one_perfect().take(range(40)), Asked(draws=50))

    for name in ("acc", "auc", "brier", "ece", "eer"):
        assert found["mean"]["ci"][name] == pytest.approx(found["platforms"]["a"]["ci"][name])


def test_platforms_without_an_error_leave_a_gap_open():
    images = one_perfect()
    turned = (np.arange(len(images)) >= 40) & (np.arange(len(images)) % 40 == 7)
    slower = np.where(turned, -1.0, 1.0) * images.logits / 2

    found = measure(images, Asked(rescored=slower, draws=300))["rescored"]["gap"]["acc"]
    same = measure(images, Asked(rescored=images.logits, draws=50))["rescored"]["gap"]["acc"]

    # 0.025 ** (1 / 20) from 1 is 0.168 on platform a alone, half of it in the mean
    assert np.ptp(found["ci"]) > 0.1
    assert same == {"difference": 0.0, "ci": [0.0, 0.0]}


def test_a_matched_detector_without_an_error_is_bounded_by_the_images_that_weigh():
    # 20 reals and 1000 fakes in one cell, 1000 and 20 in the other: each class weighs 40
    labels = np.repeat([0, 1, 0, 1], [20, 1000, 1000, 20])
    facts = [jpeg()] * 1020 + [PNG] * 1020

    found = measure(scored(labels * 8.0 - 4, labels), Asked(facts=facts, draws=50))["matched"]

    told = found["platforms"]["all"]
    assert told["n_matched"] == pytest.approx(80)
    assert told["ci"]["auc"][0] == pytest.approx(0.025 ** (1 / 78), abs=1e-3)


def test_a_platform_that_has_no_interval_is_named_where_it_takes_that_of_the_mean():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    platforms = ["a"] * 100 + ["b"] * 100
    groups = [None if platform == "a" else "one" for platform in platforms]

    found = measure(
        scored(rng.normal(labels), labels, platforms=platforms, groups=groups), Asked(draws=50)
    )

    assert found["platforms"]["a"]["ci"]["auc"] is not None
    assert found["mean"]["ci"]["auc"] is None
    assert found["mean"]["no_interval"] == ["b"]


def test_every_mean_says_over_how_many_platforms_it_is_and_which_are_left_out():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.tile([0, 1], 60), np.ones(40, int), np.tile([0, 1], 5)])
    platforms = ["a"] * 120 + ["b"] * 40 + ["c"] * 10
    images = scored(rng.normal(labels), labels, platforms=platforms)
    leaked = dict.fromkeys(images.paths[160:], "near")

    found = measure(
        images, Asked(facts=[jpeg()] * 170, leaks=Leaks(leaked, "hash", "train"), draws=50)
    )

    assert (found["mean"]["n_platforms"]["acc"], found["mean"]["n_platforms"]["ap"]) == (3, 2)
    assert found["matched"]["left_out"] == ["b", "c"]
    assert found["matched"]["mean"]["n_platforms"]["ap"] == 1
    without = found["leaks"]["without"]
    assert without["left_out"] == ["c"]
    assert without["mean"]["n_platforms"]["tpr_at_fpr"] == {"0.01": 1, "0.05": 1}
    assert told_over(without, 3) == ", over 1 of 3 platforms, without c"
    assert told_over({"mean": found["mean"]}, 2) == ""


def promised(scores, rate=0.1):
    from train.calibration import calibrate

    told = {"checkpoint": "a", "preprocessing": "b", "data": {}}
    return calibrate(scores.logits, scores.labels, rates=[rate], **told)


def test_a_promise_is_kept_on_images_like_those_of_the_calibration_and_seen_to_break_on_others():
    rng = np.random.default_rng(4)
    labels = np.tile([0, 1], 400)
    calibration = promised(scored(rng.normal(2 * labels), labels))
    shift = np.repeat([0.0, 1.5], 400)  # reals of the second platform look like fakes
    test = scored(
        rng.normal(2 * labels) + shift, labels, platforms=["alike"] * 400 + ["unlike"] * 400
    )

    alike, unlike = measure(test, Asked(calibration=calibration, draws=300))["promises"]

    assert (alike["platform"], alike["kept"]) == ("alike", True)
    assert alike["ci"][0] < 0.1 < alike["ci"][1]
    assert (unlike["platform"], unlike["kept"], unlike["above"]) == ("unlike", False, True)
    assert unlike["bound"] == calibration.conformal[0].rate_bound
    assert unlike["fpr"] > 0.4
    assert unlike["n_real"] == 200


def test_a_promise_is_not_broken_within_what_its_calibration_set_allows():
    labels = np.repeat([0, 1], [99, 20])
    calibration = promised(scored(np.arange(119.0), labels), rate=0.01)
    reals, beyond = np.zeros((2, 10_000)), (250, 400)
    for row, n in zip(reals, beyond, strict=True):
        row[:n] = 98.5  # above the highest real of the calibration
    test = scored(
        reals.ravel(), np.zeros(20_000, int), platforms=np.repeat(["a", "b"], 10_000).tolist()
    )

    within, past = measure(test, Asked(calibration=calibration, draws=50))["promises"]

    assert within["bound"] == pytest.approx(1 - 0.05 ** (1 / 99))  # 95 % of Beta(1, 99): 3.0 %
    assert (within["fpr"], within["above"], within["kept"]) == (pytest.approx(0.025), True, True)
    assert (past["fpr"], past["above"], past["kept"]) == (pytest.approx(0.04), True, False)


def test_what_a_band_leaves_undecided_is_told_with_an_interval_and_the_others_are_judged():
    from train.calibration import calibrate

    rng = np.random.default_rng(5)
    labels = np.tile([0, 1], 300)
    learnt, test = (scored(rng.normal(2 * labels), labels) for _ in range(2))
    told = {"checkpoint": "a", "preprocessing": "b", "data": {}, "undecided": 0.05}
    calibration = calibrate(learnt.logits, learnt.labels, **told)

    found = measure(test, Asked(calibration=calibration, draws=300))["undecided"]

    verdicts = np.array([calibration.verdict(logit) for logit in test.logits])
    decided = verdicts != "undecided"
    right = (verdicts == "fake") == (labels == 1)
    part = found["platforms"]["all"]
    assert part["share"] == pytest.approx(np.mean(~decided))
    assert 0.1 < part["ci"][0] < part["share"] < part["ci"][1] < 0.6
    assert part["decided"]["n"] == decided.sum()
    assert part["decided"]["acc"] == pytest.approx(right[decided].mean())
    assert part["decided"]["ci"]["acc"][0] < part["decided"]["acc"]
    assert measure(test, Asked(draws=100))["undecided"] is None


def test_images_tied_through_a_third_are_one_group():
    rows = [
        {"author": "a", "group_id": "1"},
        {"author": "b", "group_id": "1"},
        {"author": "b", "group_id": "2"},
        {"author": "c", "group_id": None},
        {},
    ]

    found = tie(rows, ["group_id", "author"])

    assert found[0] == found[1] == found[2]
    assert found[3] not in (found[0], None)
    assert found[4] is None


def test_a_post_number_means_nothing_on_another_platform():
    rows = [{"post_id": "7", "platform": "x"}, {"post_id": "7", "platform": "reddit"}]

    first, second = tie(rows, ["post_id"])

    assert first != second
