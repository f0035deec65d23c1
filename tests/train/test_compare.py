"""Two detectors on the same images, against DeLong's test and by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from schemas.errors import InputError
from train.compare import compare, matrix, mcnemar
from train.measure import report
from train.scores import ONE_EACH, ScoredSet


def scored(logits, labels, *, platforms=None, groups=None):
    names = tuple(f"{k:03d}" for k in range(len(labels)))
    return ScoredSet(
        names, names, tuple(platforms or ["all"] * len(labels)), np.asarray(labels),
        np.asarray(logits, float), tuple(groups or [None] * len(labels)), ONE_EACH, {},
    )  # fmt: skip


def pair(n=150, seed=0, better=0.5):
    """Two detectors that share most of what they see; the second sees more."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    shared = rng.normal(size=2 * n)
    one = labels * 1.2 - 0.6 + shared + 0.6 * rng.normal(size=2 * n)
    other = labels * (1.2 + better) - 0.6 + shared + 0.6 * rng.normal(size=2 * n)
    return scored(one, labels), scored(other, labels)


def delong(one, other):
    """Difference of AUC and its variance, DeLong et al. 1988, from the definition."""
    real, fake = one.labels == 0, one.labels == 1
    parts = []
    for run in (one, other):
        wins = run.logits[fake][:, None] > run.logits[real][None, :]
        ties = run.logits[fake][:, None] == run.logits[real][None, :]
        parts.append(wins + ties / 2)
    by_fake = np.array([p.mean(axis=1) for p in parts])
    by_real = np.array([p.mean(axis=0) for p in parts])
    s = np.cov(by_fake) / fake.sum() + np.cov(by_real) / real.sum()
    return parts[1].mean() - parts[0].mean(), s[0, 0] + s[1, 1] - 2 * s[0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_an_auc_difference_is_that_of_delong(seed):
    one, other = pair(seed=seed)

    found = compare({"a": one, "b": other}, draws=2000)["comparisons"][0]["parts"]["all"]["auc"]

    difference, variance = delong(one, other)
    reach = norm.ppf(0.975) * np.sqrt(variance)
    assert found["difference"] == pytest.approx(difference)
    assert found["ci"] == pytest.approx([difference - reach, difference + reach], abs=0.008)


def test_the_difference_is_known_far_better_than_either_number():
    one, other = pair()

    found = compare({"a": one, "b": other})["comparisons"][0]["parts"]["all"]["auc"]

    single = report(one.logits, one.labels)["ci"]["auc"]
    assert found["ci"][1] - found["ci"][0] < 0.8 * (single[1] - single[0])


def test_mcnemar_is_the_chance_of_so_uneven_a_split():
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0])
    one = scored(np.array([1, 1, 1, 1, 1, -1, -1, 1]), labels)
    other = scored(np.array([-1, -1, -1, -1, -1, 1, -1, 1]), labels)

    found = mcnemar(one, other)

    # by hand: of 6 images that one alone gets right, 5 or more are the first's, or 1 or fewer
    heads = [sum(toss) for toss in product((0, 1), repeat=6)]
    by_hand = sum(h >= 5 or h <= 1 for h in heads) / len(heads)
    assert found == {"only_a": 5, "only_b": 1, "p": pytest.approx(by_hand)}
    assert mcnemar(one, one)["p"] == 1.0


def test_the_order_of_the_images_and_of_the_runs_is_accounted_for():
    one, other = pair(40)
    shuffled = other.take(np.random.default_rng(0).permutation(80).tolist())

    straight = compare({"a": one, "b": other}, draws=200)
    mixed = compare({"a": one, "b": shuffled}, draws=200)
    turned = compare({"b": other, "a": one}, draws=200)

    assert straight["comparisons"] == mixed["comparisons"]
    back = turned["comparisons"][0]["parts"]["mean"]["ap"]["difference"]
    assert back == pytest.approx(-straight["comparisons"][0]["parts"]["mean"]["ap"]["difference"])


def test_groups_widen_the_difference_and_platforms_are_told_apart():
    one, other = pair(60)
    many = np.repeat(np.arange(120), 4).tolist()
    groups = [str(k) for k in many]
    platforms = ["x" if k % 2 else "y" for k in range(480)]
    copies = [
        replace(
            scored(run.logits[many], run.labels[many], platforms=platforms), groups=tuple(groups)
        )
        for run in (one, other)
    ]
    alone = [replace(run, groups=(None,) * 480) for run in copies]

    grouped = compare(dict(zip("ab", copies, strict=True)), draws=400)["comparisons"][0]["parts"]
    naive = compare(dict(zip("ab", alone, strict=True)), draws=400)["comparisons"][0]["parts"]

    assert list(grouped) == ["x", "y", "mean"]
    spans = [np.ptp(parts["mean"]["auc"]["ci"]) for parts in (grouped, naive)]
    assert spans[0] > 1.4 * spans[1]


def test_scores_of_other_images_or_other_labels_are_refused():
    one, other = pair(20)
    fewer = other.take(range(39))
    renamed = replace(other, digests=(*other.digests[:-1], "else"))
    relabelled = replace(other, labels=np.append(1, other.labels[1:]))

    with pytest.raises(InputError, match=r"a and b are about different images \(40 and 39; 1 only"):
        compare({"a": one, "b": fewer})
    with pytest.raises(InputError, match="1 only in the first, 1 only in the second"):
        compare({"a": one, "b": renamed})
    with pytest.raises(InputError, match="give 1 of 40 images another label or platform"):
        compare({"a": one, "b": relabelled})
    with pytest.raises(InputError, match="found 1 run"):
        compare({"a": one})


def test_two_runs_that_agree_everywhere_differ_by_nothing_that_is_certain():
    one, _ = pair(50)

    found = compare({"a": one, "b": replace(one)})["comparisons"][0]["parts"]["all"]["acc"]

    assert found["difference"] == 0
    assert found["ci"][0] < 0 < found["ci"][1]


def test_a_platform_on_which_both_are_always_right_leaves_the_mean_difference_open():
    labels = np.tile([0, 1], 520)
    platforms = ["a"] * 40 + ["b"] * 1000
    right = 2.0 * labels - 1
    worse = np.where(np.arange(1040) % 20 == 15, -right, right)
    worse[:40] = right[:40]
    one, other = (scored(logits, labels, platforms=platforms) for logits in (worse, right))

    parts = compare({"a": one, "b": other}, draws=300)["comparisons"][0]["parts"]

    low, high = parts["a"]["acc"]["ci"]
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / 20))
    mean = parts["mean"]["acc"]
    assert mean["difference"] == pytest.approx(0.025)
    assert mean["difference"] - mean["ci"][0] == pytest.approx(high / 2, rel=0.05)


def judged(values):
    return {
        "platforms": {
            p: {
                "n": 10, "n_real": 5, "n_fake": 5, "acc": v, "ap": v, "auc": v,
                "ci": {"acc": [v, v], "ap": [v, v], "auc": [v, v]},
            }
            for p, v in values.items()
        }
    }  # fmt: skip


def test_a_matrix_averages_over_platforms_a_run_was_not_trained_on():
    found = matrix(
        {
            "one": (["reddit"], judged({"reddit": 0.9, "x": 0.6, "facebook": 0.8})),
            "two": ([], judged({"x": 0.7})),
        }
    )

    assert found["platforms"] == ["facebook", "reddit", "x"]
    assert found["rows"][0]["unseen"]["ap"] == pytest.approx(0.7)
    assert found["rows"][0]["cells"]["reddit"]["seen"]
    assert not found["rows"][0]["cells"]["x"]["seen"]
    assert set(found["rows"][1]["cells"]) == {"x"}
    assert found["rows"][1]["mean"]["ap"] == 0.7
    assert found["rows"][1]["unseen"] is None  # nobody says what it was trained on
