"""Which images choose the checkpoint: whole groups, never what is learnt from."""

import dataclasses
import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import InputError
from schemas.labels import Label
from train.data import Source, find_images
from train.evaluate import choose_validation
from train.training import train_detector
from train.validation import choose_train_val


def save(path, number):
    """A picture like no other of another number, all files of one length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (number // 256, number % 256, 7)).save(path.with_suffix(".bmp"))


def filled(root, real, fake):
    for k in range(real):
        save(root / f"train/0_real/r{k}", k)
    for k in range(fake):
        save(root / f"train/1_fake/f{k}", 10_000 + k)
    return root


def describe(root, told):
    """A manifest that says `told(item)` of each image."""
    rows = [{"path": item.path, **told(item)} for item in find_images(root)]
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")


def chosen(root):
    return choose_train_val(root, find_images(root))


def by_name_alone(items):
    """The rule of sets without groups, written once more: a tenth of each class by hash of file name."""
    val = set()
    for label in Label:
        names = [i.path for i in items if i.label is label]
        names.sort(key=lambda p: (hashlib.sha256(p.rsplit("/")[-1].encode()).hexdigest(), p))
        val |= set(names[: max(1, round(0.1 * len(names)))])
    return val


@pytest.mark.parametrize(("real", "fake"), [(2, 2), (3, 50), (30, 30), (101, 17)])
def test_without_groups_and_copies_a_tenth_by_file_name_stands_in(tmp_path, real, fake):
    found = chosen(filled(tmp_path, real, fake))

    assert {i.path for i in found.val} == by_name_alone([*found.train, *found.val])
    assert found.val_source == "10% of train, by hash of file name"


@pytest.mark.parametrize("column", ["group_id", "author", "post_id"])
def test_no_group_of_the_manifest_is_on_both_sides_of_a_val_that_is_carved(tmp_path, column):
    root = filled(tmp_path, 60, 60)
    describe(root, lambda i: {"platform": "x", column: f"g{int(i.path[14:-4]) % 20}"})

    found = chosen(root)

    sides = [{int(i.path[14:-4]) % 20 for i in side} for side in (found.train, found.val)]
    assert not sides[0] & sides[1]
    assert len(found.val) == 12  # two of twenty groups
    assert "groups kept whole" in found.val_source


def test_copies_are_on_one_side_whatever_their_names(tmp_path):
    root = filled(tmp_path, 30, 30)
    for k in range(20):  # each name of these once stood alone in val or train
        shutil.copy(root / "train/0_real/r0.bmp", root / f"train/0_real/copy{k}.bmp")

    found = chosen(root)

    first = (root / "train/0_real/r0.bmp").read_bytes()
    sides = [{(root / i.path).read_bytes() for i in side} for side in (found.train, found.val)]
    assert first in sides[0] ^ sides[1]
    assert not sides[0] & sides[1]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=4, max_size=40), st.randoms(use_true_random=False))
def test_whatever_the_groups_are_none_is_split_and_both_sides_have_both_classes(
    tmp_path_factory, groups, random
):
    root = tmp_path_factory.mktemp("set")
    filled(root, len(groups), len(groups))
    group_of = {f"{n}{k}": random.choice(groups) for n in "rf" for k in range(len(groups))}
    describe(root, lambda i: {"group_id": f"g{group_of[i.path[13:-4]]}"})

    try:
        found = chosen(root)
    except InputError as error:
        assert "tied to each other" in str(error)
        return

    sides = [{group_of[i.path[13:-4]] for i in side} for side in (found.train, found.val)]
    assert not sides[0] & sides[1]
    for side in (found.train, found.val):
        assert {i.label for i in side} == set(Label)


def test_a_set_whose_images_are_all_tied_is_told_to_bring_a_val(tmp_path):
    root = filled(tmp_path, 10, 10)
    describe(root, lambda i: {"post_id": "1"})

    with pytest.raises(InputError, match=r"tied to each other.*add a val folder") as caught:
        chosen(root)

    assert "\n" not in str(caught.value)


def test_calibration_takes_the_groups_that_stood_in_for_val(tmp_path):
    root = filled(tmp_path, 60, 60)
    describe(root, lambda i: {"group_id": f"g{int(i.path[14:-4]) % 20}"})

    val, source = choose_validation(root, find_images(root))

    assert {i.path for i in val} == {i.path for i in chosen(root).val}
    assert source == chosen(root).val_source


def test_what_is_validated_on_is_not_learnt_from_and_that_is_said(
    picture_set, recipe, tmp_path, caplog
):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    copied = sorted((root / "val/1_fake").iterdir())[:2]
    for k, path in enumerate(copied):
        shutil.copy(path, root / f"train/1_fake/again{k}.png")

    result = train_detector(root, tmp_path / "run", dataclasses.replace(recipe, epochs=1))

    assert result.images["train"] == {"real": 12, "fake": 12}
    assert [s.path for s in result.skipped] == [
        "train/1_fake/again0.png",
        "train/1_fake/again1.png",
    ]
    assert f"the same bytes as val/1_fake/{copied[0].name}" in result.skipped[0].reason
    assert json.loads((tmp_path / "run/metrics.json").read_text())["skipped_count"] == 2
    assert "left out 2 train images" in caplog.text


def test_a_set_mixed_with_itself_does_not_learn_what_was_carved_from_it(
    picture_set, recipe, tmp_path
):
    root = tmp_path / "set"
    shutil.copytree(picture_set / "train", root / "train")

    result = train_detector(
        [Source(root), Source(root)], tmp_path / "run", dataclasses.replace(recipe, epochs=1)
    )

    held = sum(result.images["val"].values())
    assert sum(result.images["train"].values()) == 2 * (24 - held)
    assert len(result.skipped) == held


def test_the_interval_and_the_scores_of_a_run_are_by_group(picture_set, recipe, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(picture_set, root)
    describe(root, lambda i: {"group_id": f"{i.label.name}{int(i.path[-5]) // 3}"})
    one = dataclasses.replace(recipe, epochs=1)

    grouped = train_detector(root, tmp_path / "a", one)
    single = train_detector(picture_set, tmp_path / "b", one)

    table = pq.read_table(tmp_path / "a/scores.parquet")
    context = json.loads(table.schema.metadata[b"wildrf"])
    assert len(set(table["group"].to_pylist())) == 4  # two of three images for each class
    assert "group_id" in context["grouping"]
    assert grouped.val["auc"] == single.val["auc"]
    assert grouped.val["ci"] != single.val["ci"]
