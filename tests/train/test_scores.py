"""Which images are drawn together, as a manifest tells it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.scores import ONE_EACH, find_groups


@pytest.fixture
def grouped(tmp_path):
    """Groups and their source from (path, author) rows, each image with a duplicate group of its own."""

    def find(rows, *more):
        table = [
            {"path": path, "author": author, "group_id": f"g{k}"}
            for k, (path, author) in enumerate(rows)
        ]
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "manifest.parquet")
        return find_groups(tmp_path, [path for path, _ in rows] + list(more))

    return find


def posts(folder, authors, each):
    return [
        (f"test/{folder}/{a}-{k}.jpg", f"{folder}/{a}") for a in range(authors) for k in range(each)
    ]


REDDIT = [*posts("reddit/0_real", 25, 3), *posts("reddit/1_fake", 25, 3)]


def test_one_platform_with_few_authors_leaves_authors_as_groups_on_the_others(grouped):
    archive = [*posts("x/0_real", 1, 30), *posts("x/1_fake", 8, 2)]

    groups, source = grouped([*REDDIT, *archive])

    assert len(set(groups[:150])) == 50
    assert len(set(groups[150:180])) == 30  # one account's reals are drawn image by image
    assert len(set(groups[180:])) == 8
    assert source.endswith("; too few authors to be groups: x real")


def test_a_platform_too_small_to_have_five_authors_changes_nothing(grouped):
    groups, source = grouped([*REDDIT, *posts("x/0_real", 2, 1), *posts("x/1_fake", 2, 1)])

    assert len(set(groups)) == 54
    assert source == "manifest columns group_id, author"


def test_an_image_that_the_manifest_does_not_list_is_its_own_group_and_changes_nothing(grouped):
    groups, source = grouped(REDDIT, "test/reddit/0_real/more.jpg", "test/reddit/1_fake/more.jpg")

    assert len(set(groups[:-2])) == 50
    assert groups[-2:] == (None, None)
    assert "too few" not in source


def test_fakes_that_stem_from_one_author_are_drawn_image_by_image_and_reals_by_author(grouped):
    groups, source = grouped([*posts("reddit/0_real", 40, 2), *posts("reddit/1_fake", 1, 80)])

    assert len(set(groups[:80])) == 40
    assert len(set(groups[80:])) == 80
    assert source.endswith("too few authors to be groups: reddit fake")


def test_an_author_of_both_classes_stays_one_group_where_authors_are_many(grouped):
    mixed = [
        (f"test/reddit/{leaf}/m{k}.jpg", "m") for leaf in ("0_real", "1_fake") for k in range(9)
    ]

    groups, _ = grouped([*REDDIT, *mixed])

    assert len(set(groups[-18:])) == 1


def test_without_a_manifest_each_image_is_its_own_group(tmp_path):
    assert find_groups(tmp_path, ["test/x/0_real/a.jpg"]) == ((None,), ONE_EACH)
