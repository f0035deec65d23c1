from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from curate import bias
from curate.survey import Surveyed, survey
from curate.work import Serial
from schemas.errors import InputError
from schemas.layout import place
from schemas.records import Evidence, Image


def planted(
    n: int, strength: float, *, seed: int = 0, where: tuple[str, ...] = ("train",)
) -> list[Surveyed]:
    """`n` images, half fake; fakes have JPEG quality 90 with probability `strength`, else any."""
    draw = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        folder = f"{where[k // 2 % len(where)]}/{('0_real', '1_fake')[k % 2]}"
        path = f"{folder}/{k:05}.jpg"
        biased = k % 2 == 1 and draw.random() < strength
        quality = 90 if biased else int(draw.choice([75, 80, 85, 90, 95]))
        image = Image(
            digest=f"{k + 1:064x}",
            made_by="test",
            bytes=int(draw.integers(20_000, 90_000)),
            format="JPEG",
            width=int(draw.integers(300, 900)),
            height=512,
            mode="RGB",
            jpeg_quality_luma=quality,
            jpeg_dqt_hash=f"{draw.integers(10**6)}",
        )
        rows.append(Surveyed(path, place(PurePosixPath(path)), image))
    return rows


def test_a_planted_shortcut_is_found_and_named() -> None:
    result = bias.audit(planted(300, 1.0), gate=0.6)

    assert result["verdict"] == "shortcut"
    assert not result["passes"]
    assert result["causes"][0] == "jpeg_quality_luma"
    assert result["distributions"]["jpeg_quality_luma"]["fake"]["values"] == [[90.0, 150]]


@pytest.mark.parametrize("strength", [0.5, 0.9])
def test_the_auc_of_a_planted_bias_is_the_one_that_theory_gives(strength: float) -> None:
    table = bias.Table.of(planted(1500, strength), distance_bits=8)

    features = bias.measure_features(table, seed=0)

    best = 0.5 + 0.4 * strength  # of telling "90" from the rest: reals have it with probability 0.2
    found = {feature["name"]: feature for feature in features}["jpeg_quality_luma"]
    assert found["low"] - 0.01 <= best <= found["high"] + 0.01


def test_file_facts_without_a_bias_are_clean_in_a_set_large_enough() -> None:
    result = bias.audit(planted(2000, 0.0), gate=0.6)

    assert (result["verdict"], result["causes"]) == ("clean", [])
    assert 0.45 < result["floors"]["shuffled_labels"]["auc"] < 0.55


def test_shuffled_labels_give_half_on_average() -> None:
    tables = (bias.Table.of(planted(300, 0.0, seed=s), distance_bits=8) for s in range(10))

    aucs = [bias.auc(t.labels, bias.score_jointly(t, seed=s)) for s, t in enumerate(tables)]

    assert 0.46 < np.mean(aucs) < 0.54


def test_hashes_that_never_repeat_do_not_flatter() -> None:
    result = bias.audit(planted(600, 0.0), gate=0.6)

    hashes = {f["name"]: f for f in result["features"]}["jpeg_dqt_hash"]
    assert hashes["auc"] == pytest.approx(0.5, abs=0.02)


def test_features_that_are_the_same_everywhere_give_exactly_half() -> None:
    rows = [
        replace(
            r, image=replace(r.image, bytes=9, width=9, jpeg_quality_luma=None, jpeg_dqt_hash=None)
        )
        for r in planted(101, 1.0)
    ]

    result = bias.audit(rows, gate=0.6)

    assert {feature["auc"] for feature in result["features"]} == {0.5}
    assert all(feature["constant"] for feature in result["features"])
    assert result["probe"]["auc"] == 0.5


def test_the_pooled_auc_is_scikit_learns_on_the_same_scores() -> None:
    table = bias.Table.of(planted(400, 0.4), distance_bits=8)
    scores = bias.score_jointly(table, seed=3)

    assert bias.auc(table.labels, scores) == pytest.approx(roc_auc_score(table.labels, scores))


@given(st.data())
def test_auc_with_ties_is_scikit_learns(data: st.DataObject) -> None:
    labels = np.array([0, 1, *data.draw(st.lists(st.integers(0, 1), max_size=30))])
    scores = np.array(
        data.draw(st.lists(st.integers(0, 4), min_size=len(labels), max_size=len(labels))), float
    )

    assert bias.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@given(
    st.integers(2, 200).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 1), min_size=n, max_size=n),
            st.lists(st.integers(0, n // 2), min_size=n, max_size=n),
        )
    ),
    st.integers(0, 5),
)
def test_a_group_is_in_one_fold(drawn: tuple[list[int], list[int]], seed: int) -> None:
    labels, groups = (np.array(column, np.int64) for column in drawn)

    folds = bias.assign_folds(labels, groups, seed=seed)

    assert all(len(set(folds[groups == g])) == 1 for g in set(groups.tolist()))
    assert set(folds.tolist()) <= set(range(bias.FOLDS))


def test_folds_hold_as_many_of_either_label_as_they_can() -> None:
    labels = np.array([0] * 50 + [1] * 30)

    folds = bias.assign_folds(labels, np.arange(80), seed=1)

    assert [int((folds[labels == 0] == f).sum()) for f in range(5)] == [10] * 5
    assert [int((folds[labels == 1] == f).sum()) for f in range(5)] == [6] * 5


def test_copies_of_one_picture_do_not_teach_the_probe_the_label() -> None:
    """Each picture four times, with a size of its own: across folds that tells the label."""
    rows = planted(600, 0.0)
    rows = [
        replace(
            r,
            image=replace(
                rows[k // 8 * 8 + k % 2].image, digest=f"{k:064x}", pixels=f"p{k // 8}-{k % 2}"
            ),
        )
        for k, r in enumerate(rows)
    ]

    loose = [replace(r, image=replace(r.image, pixels=None)) for r in rows]
    tables = [bias.Table.of(some, distance_bits=8) for some in (rows, loose)]

    grouped, ungrouped = (bias.auc(t.labels, bias.score_jointly(t, seed=0)) for t in tables)

    assert ungrouped > 0.8
    assert 0.3 < grouped < 0.65


def test_intervals_agree_with_a_bootstrap() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    scores = draw.normal(labels * 0.8, 1.0)
    picks = [np.r_[draw.integers(0, 300, 300), draw.integers(300, 600, 300)] for _ in range(500)]
    expected = np.quantile([bias.auc(labels[p], scores[p]) for p in picks], [0.025, 0.975])

    found = bias.newcombe(bias.auc(labels, scores), 300, 300)

    assert found == pytest.approx(tuple(expected), abs=0.012)


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    draw = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    truth = 0.714  # of two normals one standard deviation times 0.8 apart
    covered = 0
    for _ in range(400):
        low, high = bias.newcombe(bias.auc(labels, draw.normal(labels * 0.8, 1.0)), 40, 40)
        covered += low <= truth <= high

    assert 0.92 < covered / 400 < 0.985


@given(st.floats(0, 1), st.integers(2, 5000), st.integers(2, 5000))
def test_an_interval_holds_its_value_and_stays_within_0_and_1(value: float, n: int, m: int) -> None:
    low, high = bias.newcombe(value, n, m)

    assert 0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1
    assert high > low


def test_an_interval_at_a_perfect_auc_does_not_shrink_to_a_point() -> None:
    low, high = bias.newcombe(1.0, 20, 20)

    assert high == 1.0
    assert 0.75 < low < 0.95


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.4, 0.6, "clean"), (0.61, 0.7, "shortcut"), (0.6, 0.7, "inconclusive")],
)
def test_the_verdict_is_clean_only_with_the_whole_interval_inside(
    low: float, high: float, verdict: str
) -> None:
    probe = {"low": low, "high": high}

    assert bias.judge(probe, [], 0.6) == verdict
    assert bias.judge(probe, ["icc"], 0.6) == "shortcut"


@pytest.mark.parametrize("n", [2, 5, 19, 24])
def test_a_few_images_are_inconclusive_and_say_how_many_are_needed(n: int) -> None:
    rows = planted(n, 1.0) if n < 24 else planted(48, 1.0)[:1] + planted(48, 1.0)[1::2]

    result = bias.audit(rows, gate=0.6)

    assert (result["verdict"], result["passes"]) == ("inconclusive", False)
    assert "at least 20" in result["why"]
    assert result["probe"]["auc"] is None


def test_one_class_only_is_an_error_of_one_line() -> None:
    with pytest.raises(InputError, match="found 20 real and 0 fake images") as caught:
        bias.audit(planted(40, 0.0)[::2], gate=0.6)

    assert "\n" not in str(caught.value)


def test_images_that_do_not_open_are_counted_by_label_and_left_out() -> None:
    rows = planted(100, 0.0)
    rows[1] = replace(rows[1], image=replace(rows[1].image, error="truncated"))

    result = bias.audit(rows, gate=0.6)

    assert result["n_undecodable"] == 1
    assert result["undecodable"] == {"real": 0, "fake": 1}
    assert result["probe"]["n"] == 99


def test_a_missing_value_is_a_value_of_its_own() -> None:
    rows = planted(200, 0.0)
    rows = [
        replace(r, image=replace(r.image, jpeg_quality_luma=None if k % 2 else 95))
        for k, r in enumerate(rows)
    ]

    result = bias.audit(rows, gate=0.6)

    assert "jpeg_quality_luma" in result["causes"]


def test_platforms_that_differ_within_one_label_show_in_the_floors() -> None:
    rows = planted(400, 0.0, where=("test/x", "test/y"))
    rows = [
        replace(r, image=replace(r.image, icc="srgb" if r.path.startswith("test/x") else None))
        for r in rows
    ]

    result = bias.audit(rows, gate=0.6)

    (floor,) = result["floors"]["real_vs_real"]
    assert (floor["a"], floor["b"], floor["n_a"], floor["n_b"]) == ("x", "y", 100, 100)
    assert floor["auc"] > 0.95
    assert set(result["by_split"]) == {"test/x", "test/y"}
    assert result["probe"]["high"] < 0.65


def test_the_same_seed_gives_the_same_answer_whatever_the_order_of_the_rows() -> None:
    rows = planted(200, 0.3)

    assert bias.audit(rows, gate=0.6) == bias.audit(rows[::-1], gate=0.6)


@settings(max_examples=15)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=80))
def test_codes_keep_missing_values_apart(column: list[float | None]) -> None:
    codes = bias.encode(column)

    assert [code == 0 for code in codes] == [value is None for value in column]
    assert codes.max() <= bias.BINS


def test_every_feature_reads_an_image_of_which_little_is_known() -> None:
    bare = Image(digest="0", made_by="test", bytes=0, format=None)

    values = {
        name: feature.read(Surveyed("a", None, bare)) for name, feature in bias.FEATURES.items()
    }

    assert all(value is None or isinstance(value, float | str) for value in values.values())


def test_the_biased_shoes_have_a_shortcut_with_jpeg_quality_and_icc_among_the_causes(
    shared: Path,
) -> None:
    rows = survey(shared / "data" / "shoes-biased", Serial(), max_pixels=10**8)

    result = bias.audit(rows, gate=0.6)

    assert result["verdict"] == "shortcut"
    assert result["probe"]["auc"] >= 0.99
    assert {"jpeg_quality_luma", "icc"} <= set(result["causes"])


def test_the_clean_faces_are_clean(shared: Path) -> None:
    rows = survey(shared / "data" / "faces-clean", Serial(), max_pixels=10**8)

    result = bias.audit(rows, gate=0.6)

    assert result["verdict"] == "clean"
    assert result["probe"]["high"] < 0.6
    assert result["probe"]["n"] == 2200


def test_the_trace_of_a_platform_that_only_the_fakes_went_through_is_named_a_cause() -> None:
    rows = planted(60, strength=0.0)
    trace = Evidence("d", "platform-trace", "jpeg:APP13", "neither", 0.0, "Meta", "probe/0")
    marked = [
        replace(row, evidence=(trace,) if row.placement and row.placement.label else ())
        for row in rows
    ]
    found = bias.audit(marked, gate=0.6)

    assert "platform_trace" in found["causes"]
    assert found["marks"]["platform-trace"]["real"] == 0
    assert "platform_trace" not in bias.audit(rows, gate=0.6)["causes"]


HISTORY = {
    "compression": {"compression": "VP8L"},
    "lossless": {"lossless": True},
    "webp_quantiser": {"webp_quantiser": 40},
    "animated": {"animated": True},
    "truncated": {"truncated": True},
    "trailing": {"trailing_bytes": 300},
    "grid": {"grid": 0.4, "grid_x": 0, "grid_y": 0},
    "jpeg_scale_luma": {"jpeg_scale_luma": 37.5},
    "jpeg_scale_chroma": {"jpeg_scale_chroma": 37.5},
    "thumbnail_dqt_hash": {"thumbnail_dqt_hash": "ab"},
}


@pytest.mark.parametrize("name", HISTORY)
def test_a_fact_of_the_file_or_its_history_that_only_the_fakes_have_is_named_a_cause(
    name: str,
) -> None:
    rows = [
        replace(row, image=replace(row.image, **HISTORY[name]))
        if row.placement and row.placement.label
        else row
        for row in planted(120, strength=0.0)
    ]

    assert bias.audit(rows, gate=0.6)["causes"] == [name]


def test_what_the_pixels_show_is_no_file_fact() -> None:
    rows = planted(300, strength=0.0)
    told = [
        replace(
            row, image=replace(row.image, blur=b, noise=b, information=b, upscale=b, jpeg_double=b)
        )
        for row, b in ((row, float(row.placement.label if row.placement else 0)) for row in rows)
    ]

    assert bias.audit(told, gate=0.6) == bias.audit(rows, gate=0.6)
