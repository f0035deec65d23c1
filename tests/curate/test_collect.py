import json
from pathlib import Path

import zstandard

from curate.collect import collect
from curate.collectors import detect
from curate.exports import open_export
from schemas.records import TABLES
from schemas.tables import find

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports"


def opened(path: Path):
    export = open_export(path)
    return export, *detect(export)[0]


def test_everything_met_is_kept_or_counted():
    collection = collect(*opened(SAMPLES / "reddit/dump.ndjson"), secret=b"s", source_id="d")
    batches = list(collection)

    source = collection.source
    skipped = json.loads(source.skipped)
    assert source.seen == 14
    assert source.kept == sum(len(b.posts) for b in batches) == 6
    assert source.media == sum(len(b.media) for b in batches) == 9
    assert source.kept + sum(n for k, n in skipped.items() if not k.startswith("media: ")) == 14
    assert list(skipped) == sorted(skipped)
    assert (skipped["duplicate"], skipped["media: gallery item failed"]) == (1, 2)
    assert (source.collector, source.format, source.complete) == ("reddit/1", "dump", True)


def test_batches_are_small_in_order_and_together_the_same():
    path = SAMPLES / "reddit/dump.ndjson"

    small = list(collect(*opened(path), secret=b"s", source_id="d", batch_size=2))
    [whole] = collect(*opened(path), secret=b"s", source_id="d")

    assert [len(b.posts) for b in small] == [2, 2, 2]
    assert tuple(p for b in small for p in b.posts) == whole.posts
    assert tuple(m for b in small for m in b.media) == whole.media
    for batch in small:
        ids = {p.post_id for p in batch.posts}
        assert {m.post_id for m in batch.media} <= ids


def test_rows_fit_their_tables():
    [batch] = collect(*opened(SAMPLES / "reddit/dump.ndjson"), secret=b"s", source_id="d")

    assert find(TABLES, "post").to_arrow(batch.posts).num_rows == 6
    assert find(TABLES, "media").to_arrow(batch.media).num_rows == 9


def test_no_name_of_a_person_reaches_a_row():
    for path in sorted(SAMPLES.glob("*/*")):
        for batch in collect(*opened(path), secret=b"s", source_id="d"):
            assert "made_up" not in repr(batch.posts)


def test_authors_are_one_key_per_person_and_secret():
    path = SAMPLES / "reddit/dump.ndjson"
    [one] = collect(*opened(path), secret=b"1", source_id="d")
    [two] = collect(*opened(path), secret=b"2", source_id="d")

    assert len({p.author for p in one.posts}) == 3  # two people and one who is gone
    assert not {p.author for p in one.posts if p.author} & {p.author for p in two.posts}


def test_a_dump_that_is_cut_off_gives_what_it_has_and_is_not_complete(tmp_path):
    lines = [
        json.dumps(
            {
                "id": f"p{i}",
                "title": f"{i * 7919}",
                "subreddit": "a",
                "created_utc": i,
                "url": f"https://i.redd.it/{i}.jpg",
            }
        )
        for i in range(20_000)
    ]
    data = zstandard.compress("\n".join(lines).encode())
    path = tmp_path / "RS_1.zst"
    path.write_bytes(data[: len(data) // 2])

    collection = collect(*opened(path), secret=b"s", source_id="d")
    kept = sum(len(b.posts) for b in collection)

    assert 0 < kept < 20_000
    assert not collection.source.complete
    assert "cut off" in (collection.source.detail or "")


def test_a_collection_not_read_to_its_end_is_not_complete():
    collection = collect(
        *opened(SAMPLES / "reddit/dump.ndjson"), secret=b"s", source_id="d", batch_size=1
    )

    next(iter(collection))

    assert not collection.source.complete


def test_a_listing_that_goes_on_is_not_complete(tmp_path):
    document = json.loads((SAMPLES / "reddit/listing.json").read_bytes())
    document[0]["data"]["after"] = "t3_next"
    (tmp_path / "a.json").write_text(json.dumps(document))

    collection = collect(*opened(tmp_path / "a.json"), secret=b"s", source_id="d")
    list(collection)

    assert collection.source.detail == "the listing goes on after t3_next"
