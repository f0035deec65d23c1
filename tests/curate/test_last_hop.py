"""Which platform served a file: learnt from others alone, sure or silent."""

import random
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from curate.catalog import insert
from curate.last_hop import (
    MIN_SHARE,
    Served,
    describe,
    edge_bucket,
    evaluate,
    guess_all,
    learn,
    share_interval,
    units_of,
)
from curate.stages.last_hops import guess_last_hops
from curate.workspace import Workspace, create_workspace
from schemas.records import Fetch, Image


def image(number: int, *, progressive: bool, width: int = 1000) -> Image:
    return Image(
        digest=f"{number:064x}",
        made_by="probe/0",
        bytes=1,
        format="JPEG",
        width=width,
        height=500,
        jpeg_family="ijg",
        jpeg_dqt_hash="a" * 16,
        jpeg_progressive=progressive,
        jpeg_subsampling="4:2:0",
        jpeg_markers="b" * 16,
        pixels=f"{number:064x}",
    )


def served(count: int, platform: str, *, start: int = 0, **facts: bool) -> list[Served]:
    return [
        Served(image(n, **facts), platform, f"{platform}/{n}") for n in range(start, start + count)
    ]


X_FILES = served(40, "x", progressive=True)
REDDIT_FILES = served(40, "reddit", start=100, progressive=False)


def test_platforms_that_build_files_differently_are_told_apart():
    assert evaluate(X_FILES + REDDIT_FILES) == {
        "n": 80, "guessed": 80, "coverage": 1.0, "accuracy": 1.0,
    }  # fmt: skip


def test_platforms_that_build_files_alike_are_not_guessed():
    alike = served(40, "x", progressive=True) + served(40, "tumblr", start=100, progressive=True)

    assert evaluate(alike)["guessed"] == 0


def test_platforms_dealt_out_at_random_are_hardly_ever_guessed():
    deck = [row.platform for row in X_FILES + REDDIT_FILES] * 5
    rows = [
        Served(image(n, progressive=n % 3 == 0, width=300 + n), None, f"p/{n}") for n in range(400)
    ]
    random.Random(5).shuffle(deck)
    found = evaluate([replace(r, platform=p) for r, p in zip(rows, deck, strict=True)])

    assert found["coverage"] < 0.05


def test_a_file_never_supports_its_own_guess():
    odd = Served(replace(image(500, progressive=True), jpeg_dqt_hash="c" * 16), "x", "x/500")
    copies = [replace(odd, post=f"x/{n}") for n in range(600, 640)]
    same_post = [
        replace(odd, image=replace(odd.image, digest=f"{n:064x}", pixels=None))
        for n in range(700, 740)
    ]
    grouped = [
        Served(replace(odd.image, digest=f"{n:064x}", pixels=None), "x", f"x/{n}", "group")
        for n in range(800, 840)
    ]
    for unit in (copies, same_post, grouped):
        rows = [*unit, *REDDIT_FILES]
        told = [g for r, g in guess_all(rows) if r.image.jpeg_dqt_hash == "c" * 16]
        assert {g.platform for g in told} == {None}


def test_few_files_built_alike_are_asked_about_at_a_coarser_level():
    rare = Served(image(900, progressive=True, width=777), "x", "x/900")
    (guess,) = [g for r, g in guess_all([rare, *X_FILES, *REDDIT_FILES]) if r is rare]

    assert (guess.platform, guess.level, guess.support) == ("x", "layout", 40)
    assert guess.detail == "x: built like 40 of x (layout)"


def test_with_one_platform_known_there_is_no_guess():
    assert evaluate(X_FILES)["guessed"] == 0


def test_nothing_known_is_no_guess_and_no_error():
    assert evaluate([])["accuracy"] is None
    strange = Served(Image(digest="0" * 64, made_by="p", bytes=0, format=None), None)
    broken = Served(replace(image(1, progressive=True), error="damaged"), "x", "x/1")

    assert [g.platform for _, g in guess_all([strange, broken])] == [None]


def test_a_file_from_elsewhere_is_guessed_from_all():
    rows = X_FILES + REDDIT_FILES
    model = learn(rows, units_of(rows))

    assert model.guess(image(9999, progressive=False)).platform == "reddit"
    assert model.guess(replace(image(9999, progressive=False), format="PNG")).platform is None


@given(st.randoms(use_true_random=False), st.integers(0, 60), st.integers(0, 60))
def test_guesses_do_not_depend_on_the_order(shuffler, n_x, n_reddit):
    rows = X_FILES[:n_x] + REDDIT_FILES[:n_reddit]
    other = list(rows)
    shuffler.shuffle(other)

    first, second = ({r.post: g for r, g in guess_all(listed)} for listed in (rows, other))
    assert first == second


@given(st.integers(1, 400), st.data())
def test_the_interval_is_that_of_scipy(n, data):
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(0.9, method="wilson")

    assert np.allclose(share_interval(k, n), (expected.low, expected.high), atol=2e-4)


def test_eleven_files_without_exception_are_the_fewest_that_decide():
    assert share_interval(10, 10)[0] < MIN_SHARE <= share_interval(11, 11)[0]


def test_long_edges_are_caps_or_what_lies_between():
    def bucket(width: int) -> str | None:
        return edge_bucket(image(1, progressive=True, width=width))

    assert (bucket(1200), bucket(1199), bucket(1201)) == ("1200", "1080-1200", "1200-1280")
    assert (bucket(9000), edge_bucket(Image(digest="", made_by="", bytes=0, format=None))) == (
        "8192-",
        None,
    )


def test_a_label_or_a_name_is_in_no_description():
    keys = repr(describe(replace(image(1, progressive=True), camera_model="Secret 1")))

    assert "Secret" not in keys


def test_the_stage_writes_one_row_per_image_that_speaks_for_neither(tmp_path):
    workspace = filled(tmp_path)
    counts = guess_last_hops(workspace)
    rows = workspace.catalog.rows("SELECT * FROM evidence ORDER BY digest")

    assert counts == {"images": 80, "guessed": 80}
    assert {(r["kind"], r["direction"]) for r in rows} == {("last-hop", "neither")}
    assert {r["detail"][:4] for r in rows} == {"x: b", "redd"}


def test_the_stage_does_nothing_twice_and_all_again_when_something_came(tmp_path):
    workspace = filled(tmp_path)
    guess_last_hops(workspace)
    before = workspace.catalog.content()

    assert guess_last_hops(workspace) == {}
    assert workspace.catalog.content() == before
    add(workspace, served(1, "x", start=500, progressive=True))
    assert guess_last_hops(workspace)["images"] == 81


def filled(root) -> Workspace:
    workspace = create_workspace(root / "w")
    add(workspace, X_FILES + REDDIT_FILES)
    return workspace


def add(workspace: Workspace, rows: list[Served]) -> None:
    with workspace.catalog.writing() as db:
        insert(db, "image", [row.image for row in rows])
        insert(db, "fetch", [fetched(row) for row in rows])


def fetched(row: Served) -> Fetch:
    platform, post_id = (row.post or "").split("/")
    return Fetch(platform, post_id, 0, 1, digest=row.image.digest, failure=None)
