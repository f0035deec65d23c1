"""Two detectors on the same images, against DeLong's test and by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from schemas.errors import InputError
from train.compare import Judged, compare, matrix, mcnemar
from train.measure import report
from train.metrics import Sample
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


def skipping(run, *paths):
    """`run` as if it could not open the images at `paths`."""
    kept = [row for row, path in enumerate(run.paths) if path not in paths]
    rows = [{"path": path, "reason": "does not decode"} for path in paths]
    return replace(run.take(kept), context={"skipped": rows})


def test_an_image_that_one_detector_could_not_open_is_left_out_of_both_and_named():
    one, other = pair(20)

    found = compare({"a": skipping(one, "003"), "b": skipping(other, "017", "018")}, draws=100)

    assert found["images"]["dropped"] == ["003", "017", "018"]
    assert found["images"]["n"] == 37
    kept = other.take([row for row in range(40) if row not in (3, 17, 18)])
    want = Sample(kept.logits, kept.labels).point()["auc"]
    assert found["comparisons"][0]["parts"]["all"]["auc"]["b"] == pytest.approx(want)
    with pytest.raises(InputError, match="different images"):
        compare({"a": skipping(one, "003"), "b": other.take(range(39))})


def test_groups_that_only_the_second_run_knows_are_drawn_together_all_the_same():
    one, other = pair(60)
    groups = tuple(str(k // 6) for k in range(120))
    grouped = replace(other, groups=groups, grouping="column group")

    found = compare({"a": one, "b": grouped}, draws=100)

    assert found["groups"] == {"source": "column group", "n": 20}


def ranked(values, n=30):
    """One detector on platforms, with the AUC of each about as in `values`."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.repeat([0, 1], n), len(values))
    shift = np.repeat([norm.ppf(v) * np.sqrt(2) for v in values.values()], 2 * n)
    names = [f"{p}{k}" for p in values for k in range(2 * n)]
    platforms = [p for p in values for _ in range(2 * n)]
    run = scored(rng.normal(size=len(labels)) + shift * labels, labels, platforms=platforms)
    return replace(run, paths=tuple(names), digests=tuple(names))


def test_a_matrix_averages_over_platforms_on_which_all_runs_saw_the_same_images():
    one = ranked({"reddit": 0.9, "x": 0.6, "facebook": 0.8})
    two = ranked({"facebook": 0.7, "x": 0.7})

    found = matrix({"one": Judged(one, ("reddit", "x"), True), "two": Judged(two)}, draws=200)

    first, second = found["rows"]
    assert found["platforms"] == ["facebook", "reddit", "x"]
    assert found["shared"] == ["facebook", "x"]
    assert first["mean"]["over"] == second["mean"]["over"] == ["facebook", "x"]
    aucs = [first["cells"][p]["auc"] for p in ("facebook", "x")]
    assert first["mean"]["auc"] == pytest.approx(np.mean(aucs))
    assert first["mean"]["ci"]["auc"][0] < first["mean"]["auc"] < first["mean"]["ci"]["auc"][1]
    assert first["unseen"]["over"] == ["facebook"]
    assert first["unseen"]["auc"] == pytest.approx(first["cells"]["facebook"]["auc"])
    assert [first["cells"][p]["seen"] for p in ("facebook", "reddit", "x")] == [False, True, True]


def test_a_matrix_does_not_say_unseen_where_nobody_knows_what_a_run_was_trained_on():
    run = ranked({"reddit": 0.9, "x": 0.6})

    found = matrix({"no": Judged(run), "part": Judged(run, ("x",), False)}, draws=100)

    nothing, part = found["rows"]
    assert [nothing["cells"][p]["seen"] for p in ("reddit", "x")] == [None, None]
    assert [part["cells"][p]["seen"] for p in ("reddit", "x")] == [None, True]
    assert nothing["unseen"] is part["unseen"] is None


def test_cells_about_other_images_are_marked_and_in_no_mean():
    run = ranked({"reddit": 0.9, "x": 0.6})
    fewer = run.take(range(1, len(run)))

    found = matrix({"all": Judged(run), "fewer": Judged(fewer)}, draws=100)

    assert found["shared"] == ["x"]
    assert [row["cells"]["reddit"]["same_images"] for row in found["rows"]] == [True, False]
    assert all(row["cells"]["x"]["same_images"] for row in found["rows"])
    assert found["rows"][1]["mean"]["over"] == ["x"]
    alone = matrix(
        {"a": Judged(run.take(range(60))), "b": Judged(run.take(range(60, 120)))}, draws=100
    )
    assert alone["shared"] == []
    assert alone["rows"][0]["mean"]["ap"] is None
