"""Draws of whole groups: what is in each, and that nothing but the seed decides it."""

import numpy as np
import pytest

from train.intervals import draws
from train.intervals.draws import draw_counts
from train.intervals.groups import make_clusters
from train.measure import report


def sample(n, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    return rng.normal(labels * gap, 1.0), labels


def drawn_counts(clusters, number=1000, seed=1):
    return np.concatenate(list(draw_counts(clusters, draws=number, seed=seed)))


def test_every_draw_has_as_many_groups_of_each_kind_as_the_set():
    groups = [*["a"] * 2, *[None] * 24, *(f"b{k // 2}" for k in range(20)), *[None] * 11]
    cells = [*["real"] * 26, *["real", "fake"] * 10, *["fake"] * 11]
    clusters = make_clusters(groups, cells)

    counts = drawn_counts(clusters, number=200)

    assert clusters.count == 46
    assert clusters.of_image[:4].tolist() == [0, 0, 1, 2]
    assert sorted(np.bincount(clusters.stratum)) == [10, 11, 25]
    for stratum in range(3):
        members = clusters.stratum == stratum
        assert (counts[:, members].sum(axis=1) == members.sum()).all()
    assert 0.9 < counts[:, 0].mean() < 1.1


def test_an_author_who_is_alone_in_posting_both_classes_is_not_in_every_draw():
    groups = [*[None] * 80, *["both"] * 200]
    cells = [*["real"] * 40, *["fake"] * 40, *["real", "fake"] * 100]
    clusters = make_clusters(groups, cells)

    of_both = drawn_counts(clusters)[:, clusters.of_image[-1]]

    # drawn 41 times of 41: the variance is 1 - 1 / 41
    assert of_both.var() == pytest.approx(1, abs=0.15)
    assert len(np.unique(clusters.stratum)) == 2


def test_groups_on_several_platforms_are_drawn_with_those_they_are_most_like():
    cells = {f"{p} {y}": [None] * 12 for p in "abc" for y in ("real", "fake")}
    rows = [(None, cell) for cell, found in cells.items() for _ in found]
    rows += [(f"ab{k}", cell) for k in range(10) for cell in ("a real", "b real")]
    rows += [("all", cell) for cell in cells]
    rows += [("abc", cell) for cell in ("a real", "b real", "c real")]
    clusters = make_clusters(*zip(*rows, strict=True))

    counts = drawn_counts(clusters, number=5000)

    assert np.bincount(clusters.stratum).min() >= 10
    assert (counts.var(axis=0) > 0.8).all()
    last, alike = (clusters.of_image[rows.index(row)] for row in (rows[-1], ("ab0", "a real")))
    assert clusters.stratum[last] == clusters.stratum[alike]


def test_draws_depend_on_the_seed_alone_and_are_as_many_as_asked():
    clusters = make_clusters([None] * 3000, [0] * 3000)

    one = drawn_counts(clusters, seed=7)

    assert one.shape == (1000, 3000)
    assert (one == drawn_counts(clusters, seed=7)).all()
    assert (one != drawn_counts(clusters, seed=8)).any()


@pytest.mark.parametrize("cells", [1, 700, 10_000])
def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch, cells):
    logits, labels = sample(100)
    groups = [f"g{k // 3}" for k in range(200)]
    clusters, whole = make_clusters(groups, labels.tolist()), report(logits, labels, groups=groups)
    once = drawn_counts(clusters)

    monkeypatch.setattr(draws, "CHUNK_CELLS", cells)
    parts = list(draw_counts(clusters, draws=1000, seed=1))

    assert all(part.shape[0] * 200 <= max(cells, 200) for part in parts)
    assert (np.concatenate(parts) == once).all()
    again = report(logits, labels, groups=groups)
    for name in ("acc", "ap", "auc", "brier", "ece"):
        assert again["ci"][name] == pytest.approx(whole["ci"][name], abs=1e-12)


def test_few_groups_of_many_images_are_drawn_few_at_a_time():
    clusters = make_clusters([str(k % 100) for k in range(50_000)], [0] * 50_000)

    first = next(draw_counts(clusters, draws=1000, seed=0))

    assert len(first) * 50_000 <= draws.CHUNK_CELLS
