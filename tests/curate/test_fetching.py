"""The fetch stage: what is tried and what is not, what is left in the catalog, what is suspected."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from curate.privacy import hidden_member
from curate.stages import fetching
from curate.stages.fetching import fetch_media, media_to_fetch, note_placeholders
from curate.stages.probing import probe_store
from curate.workspace import create_workspace, open_workspace
from schemas.records import Fetch, Media, Post, Source, Tombstone


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def workspace(tmp_path):
    """Its only host is a folder with the pictures 0 to 39."""
    host = tmp_path / "host"
    host.mkdir()
    for number in range(40):
        (host / f"{number}.jpg").write_bytes(picture(number))
    made = create_workspace(tmp_path / "set")
    return with_policy(made, f'[fetch]\nattempts = 2\nmirrors = {{"a.example" = "{host}"}}\n')


def with_policy(workspace, text):
    (workspace.root / "wildrf.toml").write_text('name = "set"\n' + text)
    return open_workspace(workspace.root)


def post(post_id: str, author: str | None = None, **fields) -> Post:
    return Post("x", post_id, "s", author, None, **fields)


def media(post_id: str, number: int, **fields) -> Media:
    fields = {"url": f"https://a.example/{number}.jpg", **fields}
    return Media("x", post_id, 0, "s", **fields)


def failure(post_id: str, cause: str, attempt: int = 1, places: int | None = 1) -> Fetch:
    return Fetch("x", post_id, 0, attempt, None, cause, places=places)


def tried(workspace) -> set[str]:
    """The posts of which a media item is tried now."""
    before = workspace.catalog.counts()["fetch"]
    result = fetch_media(workspace)
    rows = workspace.catalog.rows('SELECT post_id FROM "fetch" ORDER BY rowid')[before:]
    assert len(rows) == result["tried"]
    return {row["post_id"] for row in rows}


def test_every_item_is_tried_once_however_small_the_pages_and_commits(workspace, monkeypatch):
    monkeypatch.setattr(fetching, "PAGE", 7)
    monkeypatch.setattr(fetching, "BATCH", 3)
    workspace.catalog.add("post", [post(str(n)) for n in range(60)])
    workspace.catalog.add("media", [media(str(n), n % 50) for n in range(60)])
    assert media_to_fetch(workspace) == 60

    result = fetch_media(workspace)

    assert (result["ok"], result["failed"], result["tried"]) == (50, {"mirror-missing": 10}, 60)
    assert (media_to_fetch(workspace), tried(workspace)) == (0, set())


def test_a_place_that_another_export_brought_is_tried_whatever_was_said_before(workspace):
    causes = {"a": "http-404", "b": "placeholder", "c": "http-404", "d": "timeout", "e": "http-404"}
    workspace.catalog.add("post", [post(name) for name in causes])
    gone = ("https://a.example/none.jpg",)
    workspace.catalog.add("media", [
        media("a", 1, fallback_urls=gone),
        media("b", 2, member="m.jpg"),
        media("c", 3, fallback_urls=("https://a.example/3.jpg", "")),
        media("d", 4),
        media("e", 5, fallback_urls=gone),
    ])  # fmt: skip
    # how many places an older version knew is not recorded
    told = [failure(n, cause, places=None if n == "e" else 1) for n, cause in causes.items()]
    workspace.catalog.add("fetch", [*told, failure("d", "timeout", 2)])

    assert tried(workspace) == {"a", "b"}
    rows = workspace.catalog.rows("SELECT post_id, attempt, places FROM stored ORDER BY post_id")
    assert [tuple(r.values()) for r in rows] == [("a", 2, 2), ("b", 2, 2)]
    assert tried(workspace) == set()


def test_an_export_that_was_away_is_looked_for_again(workspace, tmp_path):
    name = "mail/jane-doe/5.jpg"
    hidden = hidden_member(workspace.secret, name)
    workspace.catalog.add("post", [post("1"), post("2")])
    workspace.catalog.add("media", [
        media("1", 0, url=None, member=hidden), media("2", 0, url=None, member="m/2.jpg"),
    ])  # fmt: skip
    parts = [tmp_path / "one.zip", tmp_path / "two.zip"]
    source = Source("s", "x/1", "x", "archive", str(parts[0]), 2, 2, 2, "{}", True)
    workspace.catalog.add("source", [source])
    assert fetch_media(workspace)["failed"] == {"export-missing": 2}

    with zipfile.ZipFile(parts[0], "w") as file:
        file.writestr(name, picture(5))
        file.writestr("m/2.jpg", picture(6))

    assert fetch_media(workspace)["ok"] == 2
    told = workspace.catalog.rows("SELECT post_id, origin FROM stored ORDER BY post_id")
    assert [row["origin"] for row in told] == [hidden, "m/2.jpg"]


def test_a_wish_to_be_left_out_is_asked_about_again_only_where_it_does_not_count(workspace):
    workspace.catalog.add("post", [post("1"), post("2", opted_out=True)])
    workspace.catalog.add("media", [media("1", 1), media("2", 2)])
    workspace.catalog.add("fetch", [failure("1", "opted-out")])
    assert tried(workspace) == set()

    mirrors = workspace.policy.fetch.mirrors["a.example"]
    policy = (
        f'[fetch]\nmirrors = {{"a.example" = "{mirrors}"}}\n[privacy]\nhonour_opt_out = false\n'
    )

    assert tried(with_policy(workspace, policy)) == {"1"}


def under(workspace, name: str, number: int, posts: list[Post], **fields) -> None:
    """The picture of that number under all these posts."""
    workspace.catalog.add("post", posts)
    host = workspace.policy.fetch.mirrors["a.example"]
    items = []
    for one in posts:
        path = f"{name}-{one.post_id}.jpg"
        with open(f"{host}/{path}", "wb") as file:
            file.write(picture(number))
        url = f"https://a.example/{path}"
        items.append(media(one.post_id, 0, **{"url": url, "media_id": f"id-{path}", **fields}))
    workspace.catalog.add("media", items)


def test_one_picture_under_many_unrelated_posts_is_suspected_and_found_by_query(workspace):
    under(workspace, "gone", 1, [post(f"g{n}", f"who{n}") for n in range(6)])
    under(workspace, "repost", 2, [post(f"r{n}", f"who{n}", repost_of="x/r0" if n else None)
                                   for n in range(6)])  # fmt: skip
    under(workspace, "one-author", 3, [post(f"o{n}", "same") for n in range(6)])
    under(workspace, "nobody", 4, [post(f"n{n}") for n in range(6)])
    under(workspace, "same-id", 5, [post(f"s{n}", f"who{n}") for n in range(6)], media_id="one")
    under(workspace, "few", 6, [post(f"f{n}", f"who{n}") for n in range(4)])

    result = fetch_media(workspace)

    [stored] = workspace.catalog.rows("SELECT DISTINCT digest FROM stored WHERE post_id = 'g1'")
    assert result["suspects"] == [{"digest": stored["digest"], "posts": 6}]
    probe_store(workspace)
    rows = workspace.catalog.rows("SELECT * FROM evidence WHERE kind = 'placeholder'")
    assert [(r["digest"], r["direction"]) for r in rows] == [(stored["digest"], "neither")]
    assert "6 unrelated posts of 6 authors" in rows[0]["detail"]
    assert note_placeholders(with_policy(workspace, "[fetch]\nplaceholder_posts = 7\n")) == []
    assert note_placeholders(with_policy(workspace, "[fetch]\nplaceholder_posts = 0\n")) == []
    assert not workspace.catalog.rows("SELECT * FROM evidence WHERE kind = 'placeholder'")


def test_a_picture_that_was_taken_out_for_good_is_not_stored_again_and_not_asked_for_again(
    workspace,
):
    digest = hashlib.sha256(picture(1)).hexdigest()
    workspace.catalog.add("tombstone", [Tombstone("digest", digest, "asked for")])
    workspace.catalog.add("post", [post("a"), post("b")])
    workspace.catalog.add("media", [media("a", 1), media("b", 2)])

    result = fetch_media(workspace)

    assert (result["ok"], result["failed"]) == (1, {"forgotten": 1})
    assert list(workspace.store.digests()) == [hashlib.sha256(picture(2)).hexdigest()]
    assert tried(workspace) == set()


def test_tags_are_noted_of_what_was_fetched_alone(workspace):
    rule = '[[tags]]\nid = "ai"\ndirection = "fake"\nany = ["aiart"]\n'
    workspace = with_policy(workspace, rule + (workspace.root / "wildrf.toml").read_text()[13:])
    workspace.catalog.add("post", [post(n, hashtags=("AIart",)) for n in "ab"])
    workspace.catalog.add("media", [media("a", 1), media("b", 99)])

    fetch_media(workspace)

    rows = workspace.catalog.rows("SELECT origin, detail FROM evidence WHERE kind = 'tag'")
    assert rows == [{"origin": "x/a#ai", "detail": "hashtag: aiart"}]
