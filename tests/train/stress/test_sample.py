"""Which images are tested, and what is read of them."""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.labels import Label, Split
from train.data import Item, find_images
from train.stress.coding import Coding
from train.stress.plan import Facts
from train.stress.sample import describe_sample, stratified, survey
from train.stress.tone import Tone

COUNTS = st.dictionaries(
    st.sampled_from(["reddit", "x", "facebook"]),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    min_size=1,
)


def items_of(counts):
    return [
        Item(f"test/{platform}/{label.folder}/{k}.png", Split.TEST, platform, label)
        for platform, pair in counts.items()
        for label, count in zip(Label, pair, strict=True)
        for k in range(count)
    ]


@given(counts=COUNTS, seed=st.integers(0, 5), share=st.floats(0.05, 1))
def test_every_beginning_of_a_sample_has_its_share_of_every_platform_and_class(counts, seed, share):
    items = items_of(counts)
    size = max(1, round(share * len(items)))

    chosen = stratified(items, size, seed)

    assert len(chosen) == len(set(chosen)) == size
    whole, part = (Counter((i.platform, i.label) for i in rows) for rows in (items, chosen))
    for label in Label:
        of_class = [sum(n for (_, y), n in rows.items() if y is label) for rows in (whole, part)]
        fair = min(of_class[0] / len(items), 1 / 5) * size
        assert of_class[1] >= min(of_class[0], fair) - len(whole)
        for platform in counts:
            wanted = whole[platform, label] * of_class[1] / of_class[0]
            assert abs(part[platform, label] - wanted) <= len(counts) + 1


@given(counts=COUNTS, seed=st.integers(0, 5))
def test_a_smaller_sample_is_the_beginning_of_a_larger_and_order_of_files_is_nothing(counts, seed):
    items = items_of(counts)

    whole = stratified(items, None, seed)

    assert sorted(whole, key=str) == sorted(items, key=str)
    assert stratified(items[::-1], len(items) // 2, seed) == whole[: len(items) // 2]


def test_another_seed_is_another_sample():
    items = items_of({"x": (30, 30)})

    assert stratified(items, 10, 0) != stratified(items, 10, 1)


def test_facts_are_read_and_what_does_not_open_is_told(tmp_path):
    for leaf in ("0_real", "1_fake"):
        (tmp_path / leaf).mkdir()
    Image.new("RGB", (40, 20), "red").save(tmp_path / "0_real/a.jpg", quality=80)
    (tmp_path / "1_fake/b.png").write_bytes(b"no picture")

    (facts,), (skipped,) = survey(tmp_path, find_images(tmp_path), workers=2)

    assert facts.digest == hashlib.sha256((tmp_path / "0_real/a.jpg").read_bytes()).hexdigest()
    assert (facts.size, facts.coding.format, facts.group) == ((40, 20), "JPEG", None)
    assert skipped.path == "1_fake/b.png"
    assert "does not decode" in skipped.reason


def test_the_group_of_an_image_is_that_of_its_path(tmp_path):
    (tmp_path / "0_real").mkdir()
    Image.new("RGB", (40, 20), "red").save(tmp_path / "0_real/a.png")

    ((facts,), _) = survey(tmp_path, find_images(tmp_path), workers=1, groups={"0_real/a.png": "g"})

    assert facts.group == "g"


@pytest.mark.parametrize(("size", "fakes"), [(2, 1), (8, 1), (64, 10), (200, 35), (1050, 50)])
def test_a_rare_class_has_its_share_of_every_sample(size, fakes):
    items = items_of({"x": (1000, 50)})

    chosen = stratified(items, size, 0)

    assert sum(item.label is Label.FAKE for item in chosen) >= fakes
    assert len(set(chosen)) == size


@given(counts=COUNTS, seed=st.integers(0, 5), size=st.integers(2, 60))
def test_any_sample_of_two_or_more_has_both_classes(counts, seed, size):
    chosen = stratified(items_of(counts), size, seed)

    assert {item.label for item in chosen} == set(Label)


def test_the_record_says_which_splits_a_sample_is_from():
    items = items_of({"x": (3, 3)})
    items += [replace(item, path=f"a/{item.path}", split=None) for item in items]
    used = [facts_of(item) for item in items[2:]]

    found = describe_sample(used, items)

    assert found["splits"] == {"none": 6, "test": 4}
    assert (found["images"], found["of"]) == (10, 12)


def facts_of(item):
    tone = Tone(128, 40, 20)
    return Facts(item.path, "0", item.label, item.platform, None, (8, 8), Coding("lossless"), tone)
