from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.leakage import CHECKS, CONFIRM_BITS, Leak, find_leaks, summarise
from curate.survey import Surveyed, survey
from curate.work import Serial
from schemas.layout import place
from schemas.records import Image

FAR = (0x0F0F_3C3C_5A5A_9696, 0xF0F0_C3C3_A5A5_6969, 0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321)


def item(path: str, n: int, **changes: object) -> Surveyed:
    """A labelled image unlike any other `n`."""
    image = Image(digest=f"{n:064x}", made_by="test", bytes=1000, format="JPEG", pixels=f"{n:x}p")
    row = Surveyed(path, place(PurePosixPath(path)), image, FAR[n % 4], FAR[(n + 1) % 4])
    return replace(row, **changes)  # type: ignore[arg-type]


TRAIN = item("train/0_real/a.jpg", 0)
TEST = item("test/x/0_real/b.jpg", 1)
FAKE = item("train/1_fake/c.jpg", 2)

PLANTED = {
    "same-bytes": [TRAIN, replace(TEST, image=replace(TEST.image, digest=TRAIN.image.digest))],
    "same-pixels": [TRAIN, replace(TEST, image=replace(TEST.image, pixels=TRAIN.image.pixels))],
    "near": [TRAIN, replace(TEST, phash=FAR[0] ^ 0b111, dhash=FAR[1] ^ 0b1)],
    "group": [replace(TRAIN, group="g"), replace(TEST, group="g")],
    "author": [replace(TRAIN, author="k1"), replace(TEST, author="k1")],
    "post": [replace(TRAIN, post="x/7"), replace(TEST, post="x/7")],
    "label-conflict": [TRAIN, replace(FAKE, image=replace(FAKE.image, pixels=TRAIN.image.pixels))],
}


def test_every_check_has_a_set_that_leaks_in_exactly_its_way() -> None:
    assert PLANTED.keys() == CHECKS.keys()


@pytest.mark.parametrize("kind", CHECKS)
def test_a_check_finds_the_leak_made_in_its_way_and_no_other_check_does(kind: str) -> None:
    leaks = find_leaks(PLANTED[kind], distance_bits=8)

    assert [leak.kind for leak in leaks] == [kind]
    assert {leaks[0].a, leaks[0].b} == {item.path for item in PLANTED[kind]}
    assert leaks[0].evidence


@pytest.mark.parametrize("kind", [kind for kind in CHECKS if kind != "label-conflict"])
def test_what_two_platforms_of_the_test_split_share_is_no_leak(kind: str) -> None:
    first, second = PLANTED[kind]
    moved = replace(
        first, path="test/y/0_real/a.jpg", placement=place(PurePosixPath("test/y/0_real/a.jpg"))
    )

    assert find_leaks([moved, second], distance_bits=8) == []


def test_unrelated_images_do_not_leak() -> None:
    assert find_leaks([TRAIN, TEST, FAKE], distance_bits=8) == []


def test_the_earlier_split_comes_first_and_the_distance_is_told() -> None:
    (leak,) = find_leaks(reversed(PLANTED["near"]), distance_bits=8)

    assert (leak.split_a, leak.split_b) == ("train", "test")
    assert leak.evidence == "pHash distance 3, dHash distance 1"


def test_a_look_alike_whose_dhash_disagrees_is_not_a_near_duplicate() -> None:
    other = (1 << (CONFIRM_BITS + 1)) - 1
    pair = [TRAIN, replace(TEST, phash=TRAIN.phash, dhash=(TRAIN.dhash or 0) ^ other)]

    assert find_leaks(pair, distance_bits=8) == []


def test_near_duplicates_are_found_whatever_groups_the_manifest_states() -> None:
    pair = [replace(PLANTED["near"][0], group="g1"), replace(PLANTED["near"][1], group="g2")]

    assert [leak.kind for leak in find_leaks(pair, distance_bits=8)] == ["near"]


def test_a_conflict_of_labels_is_found_within_one_split_and_in_a_set_without_splits() -> None:
    real = item("0_real/a.jpg", 0)
    fake = item("1_fake/a.jpg", 0)

    (leak,) = find_leaks([real, fake], distance_bits=8)

    assert (leak.kind, leak.a, leak.b) == ("label-conflict", "0_real/a.jpg", "1_fake/a.jpg")
    assert leak.evidence == "same bytes; labels real and fake"


@given(st.lists(st.sampled_from(["train", "val", "test/x", "test/y"]), max_size=12))
def test_each_image_of_an_author_in_two_splits_is_named(folders: list[str]) -> None:
    items = [item(f"{folder}/0_real/{n}.jpg", n, author="k") for n, folder in enumerate(folders)]
    items = [replace(one, phash=None, dhash=None) for one in items]

    leaks = find_leaks(items, distance_bits=8)

    several = len({folder.split("/")[0] for folder in folders}) > 1
    named = {path for leak in leaks for path in (leak.a, leak.b)}
    assert named == ({one.path for one in items} if several else set())
    assert all(leak.split_a != leak.split_b for leak in leaks)
    assert len(leaks) <= 3 * len(items)


@given(st.permutations([row for rows in PLANTED.values() for row in rows][:8]))
def test_the_answer_does_not_depend_on_the_order_of_the_items(items: list[Surveyed]) -> None:
    unique = list({one.path + one.image.digest: one for one in items}.values())

    assert find_leaks(unique, distance_bits=8) == find_leaks(
        sorted(unique, key=lambda one: one.path), distance_bits=8
    ) or len({one.path for one in unique}) < len(unique)


def test_the_summary_counts_each_kind() -> None:
    leak = Leak("near", "a", "b", "train", "test", "pHash distance 3")

    told = summarise([leak])

    assert told["clean"] is False
    assert told["counts"]["near"] == 1
    assert sum(told["counts"].values()) == 1
    assert told["leaks"][0]["split_b"] == "test"


def test_near_duplicates_across_the_splits_of_the_biased_shoes_are_listed(shared: Path) -> None:
    rows = survey(shared / "data" / "shoes-biased", Serial(), max_pixels=10**8)

    leaks = find_leaks(rows, distance_bits=8)

    near = [leak for leak in leaks if leak.kind == "near"]
    assert near
    assert all(leak.a.startswith("train/") and leak.b.startswith("test/") for leak in near)
