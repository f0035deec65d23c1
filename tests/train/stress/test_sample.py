"""Which images are tested, and what is read of them."""

import hashlib
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.labels import Label, Split
from train.data import Item, find_images
from train.stress.sample import groups_of, stratified, survey

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
    strata = len(whole)
    for stratum, count in whole.items():
        assert abs(part[stratum] - size * count / len(items)) <= strata


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
    assert (facts.size, facts.coding.format, facts.cluster) == ((40, 20), "JPEG", facts.digest)
    assert skipped.path == "1_fake/b.png"
    assert "does not decode" in skipped.reason


def test_groups_come_from_the_manifest_of_a_release(tmp_path):
    table = pa.table({"path": ["a", "b", "c"], "group_id": ["g", "g", None]})
    pq.write_table(table, tmp_path / "manifest.parquet")

    assert groups_of(tmp_path) == {"a": "g", "b": "g"}
    assert groups_of(tmp_path / "elsewhere") == {}
