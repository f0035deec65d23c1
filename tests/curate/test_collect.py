import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate.collect import Met, Terms, author_keys, collect, gaps_of
from curate.collectors import detect
from curate.collectors.contract import Format, Found, FoundMedia, FoundPost, Raw, Skip
from curate.exports import open_export
from curate.privacy import author_key, hidden_member
from schemas.policy import CollectPolicy, Policy, parse_policy
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
    assert source.seen == 20
    assert source.kept == sum(len(b.posts) for b in batches) == 7
    assert source.media == sum(len(b.media) for b in batches) == 10
    assert source.kept + sum(n for k, n in skipped.items() if not k.startswith("media: ")) == 20
    assert list(skipped) == sorted(skipped)
    assert (skipped["duplicate"], skipped["media: gallery item failed"]) == (1, 2)
    assert (source.collector, source.format, source.complete) == ("reddit/2", "dump", True)


def test_comments_are_kept_where_the_policy_asks_for_them_under_a_name_of_its_own():
    path = SAMPLES / "reddit/dump.ndjson"
    terms = Terms(Policy(name="t", collect=CollectPolicy(comments=True)))

    usual = collect(*opened(path), secret=b"s", source_id="d")
    asked = collect(*opened(path), secret=b"s", source_id="d", terms=terms)
    posts = {p.post_id for b in usual for p in b.posts}, {p.post_id for b in asked for p in b.posts}

    assert posts[1] - posts[0] == {"t1_c2"}
    assert (
        json.loads(usual.source.skipped)["comment"]
        == json.loads(asked.source.skipped)["comment"] + 1
    )
    assert usual.source.collector == "reddit/2"
    assert asked.source.collector.startswith("reddit/2-")


def test_batches_are_small_in_order_and_together_the_same():
    path = SAMPLES / "reddit/dump.ndjson"

    small = list(collect(*opened(path), secret=b"s", source_id="d", batch_size=2))
    [whole] = collect(*opened(path), secret=b"s", source_id="d")

    assert [len(b.posts) for b in small] == [2, 2, 2, 1]
    assert tuple(p for b in small for p in b.posts) == whole.posts
    assert tuple(m for b in small for m in b.media) == whole.media
    for batch in small:
        ids = {p.post_id for p in batch.posts}
        assert {m.post_id for m in batch.media} <= ids


def test_rows_fit_their_tables():
    [batch] = collect(*opened(SAMPLES / "reddit/dump.ndjson"), secret=b"s", source_id="d")

    assert find(TABLES, "post").to_arrow(batch.posts).num_rows == 7
    assert find(TABLES, "media").to_arrow(batch.media).num_rows == 10


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


def told(post_id: str, at: datetime | None = None, platform=None, media=None, **facts) -> Found:
    facts = {"author_id": None, "handles": (), **facts}
    shown = (FoundMedia(0, url="https://a.example/1.jpg"),) if media is None else media
    return Found(FoundPost(post_id=post_id, created_at=at, platform=platform, **facts), shown)


def collected(tmp_path: Path, results, policy: str = "", batch_size: int = 1000, tombstones=None):
    """A collection of what a collector is made to find."""
    (tmp_path / "a.json").write_bytes(b"{}")
    fake = SimpleNamespace(
        PLATFORM="x",
        VERSION=1,
        read=lambda *_: (Raw(str(n), result) for n, result in enumerate(results)),
        parse=lambda record, _: (record,),
    )
    terms = Terms(parse_policy(f'name = "a"\n{policy}'), tombstones)
    collection = collect(
        open_export(tmp_path / "a.json"),
        fake,
        Format("f", "", ""),
        secret=b"s" * 32,
        source_id="d",
        batch_size=batch_size,
        terms=terms,
    )
    batches = list(collection)
    posts = [p for b in batches for p in b.posts]
    return collection, posts, [m for b in batches for m in b.media]


@given(st.binary(min_size=1, max_size=100), st.text(), st.text())
def test_author_keys_are_those_of_privacy(secret, platform, author):
    assert author_keys(secret)(platform, author) == author_key(secret, platform, author)


@given(
    ids=st.lists(st.integers(0, 30).map(str), max_size=80),
    size=st.integers(1, 7),
    largest=st.integers(1, 40),
)
def test_a_post_is_met_for_the_first_time_once_however_ids_are_kept(ids, size, largest):
    met, seen = Met(), set()
    met.LARGEST = largest
    for start in range(0, len(ids), size):
        keys = list(dict.fromkeys(ids[start : start + size]))

        assert met.first_time(keys).tolist() == [key not in seen for key in keys]

        seen.update(keys)


def test_a_post_met_again_is_counted_wherever_it_stands(tmp_path):
    ids = [0, 1, 1, 2, 0, 3, 4, 2, 5, 5]

    collection, posts, _ = collected(tmp_path, [told(str(n)) for n in ids], batch_size=2)

    assert [p.post_id for p in posts] == ["0", "1", "2", "3", "4", "5"]
    assert json.loads(collection.source.skipped) == {"duplicate": 4}


def test_one_id_on_two_platforms_is_two_posts(tmp_path):
    _, posts, media = collected(tmp_path, [told("1"), told("1", platform="threads"), told("1")])

    assert [(p.platform, p.post_id) for p in posts] == [("x", "1"), ("threads", "1")]
    assert [m.platform for m in media] == ["x", "threads"]


def test_what_was_taken_away_is_counted_as_gone(tmp_path):
    reasons = ["deleted", "removed", "withheld", "video", "deleted"]

    collection, _, _ = collected(tmp_path, [*map(Skip, reasons), told("1")])

    assert (collection.source.gone, collection.source.seen) == (4, 6)


def test_gaps_are_spans_in_which_posts_were_to_be_expected(tmp_path):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [h for h in range(100) if not (20 <= h < 30 or h == 50)]
    posts = [
        told(f"{h}-{n}", start + timedelta(hours=h, minutes=n)) for h in hours for n in range(30)
    ]

    collection, _, _ = collected(tmp_path, [*posts, told("without a time")])

    source = collection.source
    assert source.gaps == (
        "2026-01-01T20:00:00Z/2026-01-02T06:00:00Z",
        "2026-01-03T02:00:00Z/2026-01-03T03:00:00Z",
    )
    assert source.first_at == start
    assert source.last_at == start + timedelta(hours=99, minutes=29)


def test_a_slow_account_has_no_gap_where_few_posts_were_to_be_expected():
    assert gaps_of(Counter({0: 1, 100: 1, 200: 1})) == ()
    assert gaps_of(Counter()) == ()


def test_only_the_longest_gaps_are_told_in_their_order():
    hours = Counter({n * (n + 1) // 2: 1000 for n in range(40)})

    gaps = gaps_of(hours)

    assert len(gaps) == 20
    assert list(gaps) == sorted(gaps)
    assert gaps[-1].split("/")[1] == "1970-02-02T12:00:00Z"  # the last and longest


def test_with_only_tagged_a_post_needs_a_rule(tmp_path):
    policy = (
        '[collect]\nonly_tagged = true\n[[tags]]\nid = "a"\ndirection = "fake"\nany = ["aiart"]\n'
    )

    collection, posts, _ = collected(
        tmp_path, [told("1", hashtags=("AIart",)), told("2", hashtags=("cat",)), told("3")], policy
    )

    assert [p.post_id for p in posts] == ["1"]
    assert json.loads(collection.source.skipped) == {"no tag rule": 2}


def test_who_opted_out_is_kept_without_words_and_name(tmp_path):
    media = (FoundMedia(0, url="https://a.example/1.jpg", alt="a cat"),)
    facts = {"author_id": "7", "title": "t", "text": "t", "media": media}
    results = [
        told("1", hashtags=("NoAI",), **facts),
        told("2", opted_out=True, **facts),
        told("3", **facts),
    ]

    collection, posts, items = collected(tmp_path, results)
    _, heedless, _ = collected(tmp_path, results, "[privacy]\nhonour_opt_out = false\n")

    bare = (True, None, None, None)
    assert [(p.opted_out, p.title, p.text, p.author) for p in posts[:2]] == [bare, bare]
    assert [m.alt for m in items] == [None, None, "a cat"]
    assert posts[2].title == "t"
    assert json.loads(collection.source.skipped) == {"opted out": 2}
    assert [p.title for p in heedless] == ["t", "t", "t"]


def test_what_was_forgotten_does_not_come_back(tmp_path):
    class Stones:
        def refuses(self, platform, post_id, author, repost_of=None):
            gone = author_key(b"s" * 32, "x", "7")
            return (platform, post_id) == ("x", "1") or author == gone or repost_of == "x/1"

    results = [told("1"), told("2", author_id="7"), told("3", repost_of="x/1"), told("4")]

    collection, posts, _ = collected(tmp_path, results, tombstones=Stones())

    assert [p.post_id for p in posts] == ["4"]
    assert json.loads(collection.source.skipped) == {"forgotten": 3}


def test_addresses_and_paths_do_not_name_their_author(tmp_path):
    named = "https://a.example/some_one/1.jpg"
    media = (
        FoundMedia(0, url=named, fallback_urls=("https://b.example/0.jpg",)),
        FoundMedia(1, url=named, member="media/some_one/1.jpg"),
        FoundMedia(2, url=named),
        FoundMedia(3, url="https://a.example/some_one_else/1.jpg"),
    )
    link = "https://x.example/@Some_One/status/1"
    posts_found = [
        told("1", handles=("@some_one",), media=media, permalink=link),
        told("2", handles=("some_one",), media=(FoundMedia(0, url=named),)),
    ]

    collection, (post,), items = collected(tmp_path, posts_found)

    assert post.permalink is None
    assert [(m.position, m.url, m.fallback_urls) for m in items] == [
        (0, "https://b.example/0.jpg", ()),
        (1, None, ()),
        (3, "https://a.example/some_one_else/1.jpg", ()),
    ]
    assert items[1].member == hidden_member(b"s" * 32, "media/some_one/1.jpg")
    assert json.loads(collection.source.skipped) == {
        "address names its author": 1,
        "media: address names its author": 1,
    }


def test_a_name_that_an_export_leaves_out_is_nobodys(tmp_path):
    results = [
        told("1", handles=(None, "some_one"), text="by @some_one"),
        told("2", handles=(None,), text="b"),
    ]

    _, posts, _ = collected(tmp_path, results)

    assert [post.post_id for post in posts] == ["1", "2"]
    assert "some_one" not in posts[0].text
    assert posts[1].text == "b"


def test_half_a_character_is_replaced_and_a_number_that_does_not_fit_is_refused(tmp_path):
    results = [told("1", text="a\ud800b"), told("2", score=2**80), told("3", text="c"), told(None)]

    collection, posts, _ = collected(tmp_path, results)

    assert [p.text for p in posts] == ["a?b", "c"]
    assert json.loads(collection.source.skipped) == {"unexpected shape": 1, "no id": 1}


def test_withdrawn_posts_are_remembered(tmp_path):
    collection, _, _ = collected(tmp_path, [told("1"), Skip("deleted", withdrawn="1")])

    assert collection.tally.withdrawn == {"1"}
