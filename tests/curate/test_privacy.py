import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.collectors import COLLECTORS
from curate.collectors.contract import Found
from curate.exports import open_export
from curate.privacy import (
    GENERIC,
    author_key,
    hidden_member,
    names_person,
    redact,
    unnamed_tags,
    without_folders,
)
from curate.stages.collecting import collect_export
from curate.workspace import create_workspace
from schemas.records import TABLES
from schemas.tables import find

SECRET = b"s" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by @made_up, thanks", "by @user, thanks"),
        ("RT @Made_Up: look", "RT @user: look"),
        ("@one.two@social.example!", "@user!"),
        ("(@made_up)", "(@user)"),
        ("\uff20made_up", "@user"),
        ("<@!412345678901234567>", "<@user>"),
        ("thanks @[100001:2048:Made Up]!", "thanks @user!"),
        ("u/made-up and /u/made_up2", "@user and @user"),
        ("r/u_madeup here", "@user here"),
        ("mail me.too+x@home.example now", "mail user@email now"),
        ("call +49 (0) 170 1234567 or +1-202-555-0147", "call +phone or +phone"),
        ("1+1=2, +5 C, seed 1234567890", "1+1=2, +5 C, seed 1234567890"),
        ("me @ home, 50/50 and/or w/o", "me @ home, 50/50 and/or w/o"),
    ],
)
def test_handles_and_addresses_are_replaced_and_nothing_else(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("x.com/made_up/status/12", "x.com/user/status/12"),
        ("Twitter.com/made_up?lang=en", "Twitter.com/user?lang=en"),
        ("www.reddit.com/user/madeup/comments", "www.reddit.com/user/user/comments"),
        ("www.reddit.com/u/madeup", "www.reddit.com/u/user"),
        ("lemmy.example/u/madeup@other.example", "lemmy.example/u/user"),
        ("social.example/@made.up/1134", "social.example/@user/1134"),
        ("social.example/users/madeup/statuses/1", "social.example/users/user/statuses/1"),
        ("bsky.app/profile/made-up.bsky.social/post/3k", "bsky.app/profile/user/post/3k"),
        ("bsky.app/profile/did:plc:abc234/post/3k", "bsky.app/profile/user/post/3k"),
        ("made-up.bsky.social", "user.bsky.social"),
        ("made-up.tumblr.com/post/1/sunset", "user.tumblr.com/post/1/sunset"),
        ("www.tumblr.com/made-up/1/sunset", "www.tumblr.com/user/1/sunset"),
        ("www.tumblr.com/blog/view/made-up/1", "www.tumblr.com/blog/view/user/1"),
        ("www.flickr.com/photos/made_up/52", "www.flickr.com/photos/user/52"),
        ("www.flickr.com/people/1234567@N00/", "www.flickr.com/people/user/"),
        ("t.me/made_up/3", "t.me/user/3"),
        ("t.me/s/made_up", "t.me/s/user"),
        ("www.tiktok.com/@made.up/photo/7", "www.tiktok.com/@user/photo/7"),
        ("www.pinterest.co.uk/made_up/board", "www.pinterest.co.uk/user/board"),
        ("instagram.com/stories/made.up/3", "instagram.com/stories/user/3"),
        ("www.threads.net/@made.up/post/C1", "www.threads.net/@user/post/C1"),
        ("www.facebook.com/made.up.7", "www.facebook.com/user"),
        ("www.facebook.com/people/Made-Up/1000", "www.facebook.com/people/user/1000"),
        ("www.facebook.com/profile.php?id=100012", "www.facebook.com/profile.php?id=user"),
        ("made-up.deviantart.com/art/x", "user.deviantart.com/art/x"),
        ("www.youtube.com/c/madeup", "www.youtube.com/c/user"),
        ("linktr.ee/madeup.", "linktr.ee/user."),
    ],
)
def test_links_to_a_persons_page_lose_the_name_and_keep_the_rest(link, expected):
    assert redact(f"see https://{link}, it is here") == f"see https://{expected}, it is here"


@pytest.mark.parametrize(
    "link",
    [
        "www.reddit.com/r/aiArt/comments/1",
        "x.com/i/web/status/12",
        "x.com/hashtag/aiart",
        "netflix.com/title/8",
        "www.instagram.com/p/C1abc/",
        "www.facebook.com/groups/aiart/posts/3",
        "www.facebook.com/photo.php?fbid=3",
        "www.flickr.com/photos/tags/nature",
        "t.me/joinchat/AbC",
        "t.me/c/123/4",
        "www.pinterest.com/pin/123/",
        "www.tumblr.com/tagged/nature",
        "64.media.tumblr.com/ab/cd.jpg",
        "www.tumblr.com",
        "www.tiktok.com/tag/ai",
    ],
)
def test_links_to_anything_else_stay_as_they_are(link):
    assert redact(f"see https://{link} now") == f"see https://{link} now"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://art.example/Made_Up/1 and /made_uppity", "https://art.example/user/1 and /made_uppity"),
        ("Photo by MADE_UP.", "Photo by @user."),
        ("photo: Jane  Doe", "photo: @user"),
        ("a joke", "a joke"),
        ("art.example/jo/1", "art.example/user/1"),
        ("made with midjourney", "made with midjourney"),
        ("made.up-made_up", "made.up-user"),
    ],
)  # fmt: skip
def test_known_handles_are_replaced_where_they_stand_as_a_word(text, expected):
    assert redact(text, ["made_up", "@Jane Doe", "jo", "midjourney", ""]) == expected


PIECES = st.sampled_from(
    ["@", "/", ".", "u/", "r/u_", "user", "x.com/", "t.me/", "a.b@c.de", "+49 170 1234567", " ", "-", "jane",
     "tumblr.com", "https://", "profile/", "users/", "?id=", "\uff20", "facebook.com/", "é", "_", "=", "+"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


@given(TEXTS, st.lists(TEXTS | st.just("jane"), max_size=3))
@example("jane.x@jane.tumblr.com/jane", ["jane"])
def test_redacting_twice_changes_nothing_more(text, handles):
    once = redact(text, handles)

    assert redact(once, handles) == once


@given(st.from_regex(r"[A-Za-z0-9_]{3,15}", fullmatch=True))
def test_no_handle_survives_an_at_sign(handle):
    assert redact(f"hello @{handle} and u/{handle}") == "hello @user and @user"


@given(
    st.from_regex(r"[A-Za-z0-9_]{4,15}", fullmatch=True).filter(lambda h: h.lower() not in GENERIC),
    TEXTS,
    TEXTS,
)
def test_no_known_handle_survives_as_a_word(handle, before, after):
    left = redact(f"{before} {handle} {after}", [handle])

    assert handle.lower() not in left.lower().split()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a", "@", "a.", "+1", "/u/", "a@", "u/", "x.com/", "[@", "-"])
def test_a_long_text_of_anything_is_done_in_no_time(piece):
    redact(piece * (200_000 // len(piece)), ["aaaa", "Jane Doe"])


def test_author_keys_differ_by_author_platform_and_secret():
    keys = {
        author_key(secret, platform, author)
        for secret in (b"a", b"b")
        for platform in ("x", "reddit")
        for author in ("1", "2")
    }

    assert len(keys) == 8
    assert all(len(key) == 24 and int(key, 16) >= 0 for key in keys)
    # openssl: printf 'x\0001' | openssl dgst -sha256 -hmac a
    assert author_key(b"a", "x", "1") == "93598e39d8d6e85525e5c517"


def test_a_hidden_member_keeps_its_ending_and_nothing_else():
    hidden = hidden_member(SECRET, "photos/Jane_Doe/1.JPG")

    # openssl: printf 'member\000photos/Jane_Doe/1.JPG' | openssl dgst -sha256 -hmac ssss...
    assert hidden == "hidden/0a4203d325a52f775fcb19dd.jpg"
    assert hidden_member(SECRET, "by jane.doe").count(".") == 0
    assert hidden_member(b"t" * 32, "photos/Jane_Doe/1.JPG") != hidden
    assert set(hidden_member(SECRET, "a\udcff.png")) <= set(string.ascii_lowercase + "0123456789/.")


@pytest.mark.parametrize(
    ("path", "handle", "named"),
    [
        ("instagram-made_up-2024/media/1.jpg", "made_up", True),
        ("photos/Made.Up.png", "made.up", True),
        ("x/@jo/1.jpg", "jo", True),
        ("outer.zip!/jo/1.jpg", "jo", True),
        ("Jane_Doe/1.jpg", "Jane Doe", True),
        ("posts/jane-doe (3).jpg", "@jane-doe@social.example", True),
        ("x/banjo.jpg", "jo", False),
        ("x/jo.jpg", "jo", False),
        ("x/made_upper/1.jpg", "made_up", False),
        ("media/photos/1.jpg", "media", False),
        ("media/photos/1.jpg", "Photos", False),
        ("media/1.jpg", "", False),
    ],
)
def test_a_path_names_a_person_by_a_step_or_a_word(path, handle, named):
    assert names_person(path, ["nobody_else", handle]) is named


def test_a_hashtag_that_is_the_authors_name_is_left_out_and_that_of_a_mention_stays():
    tags = ("MadeUp", "made_up", "madeupart", "photography")

    assert unnamed_tags(tags, ["@Made Up", "photography"]) == ("madeupart", "photography")
    assert unnamed_tags(tags, ["someone", "@Made Up"]) == tags
    assert unnamed_tags(tags, []) == tags


def test_what_is_said_of_an_export_names_no_folder():
    told = "made.up/2026/a b.json is not valid JSON and/or x/y"

    assert without_folders(told) == "a b.json is not valid JSON or y"


@given(st.text(max_size=20), st.lists(st.text(max_size=8), max_size=3))
def test_any_path_and_any_handle_can_be_asked_about(path, handles):
    assert names_person(path, handles) in (True, False)


# ---------------------------------------------------------------- through the whole of collect

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "exports"
EVERY = [(c, f) for c in COLLECTORS.values() for f in c.FORMATS]
HOSTS = re.compile(r"https?:?/{1,2}[^/\s]+")
"""A picture cannot be had but from its host, whose name may be that of its owner."""
PLANTED = ("203.0.113.77", "48.85837", "2.29448")
"""An IP address and a place that samples hold where the platform's exports hold such."""


def sample(collector, format):
    [path] = [
        p
        for p in (SAMPLES / collector.PLATFORM).iterdir()
        if p.name == format.name or p.name.rsplit(".", 1)[0] == format.name
    ]
    return path


def people_of(collector, format):
    """The handles of everybody in a sample that can be told from an ordinary word."""
    export = open_export(sample(collector, format))
    records = [r.record for r in collector.read(export, format.name) if r.record is not None]
    found = [f for record in records for f in collector.parse(record, format.name)]
    handles = {h for f in found if isinstance(f, Found) for h in f.post.handles}
    plain = {h.strip().lstrip("@").lower() for h in handles}
    # a name of two words may be two ordinary words of another post
    return {h for h in plain if len(h) >= 4 and h not in GENERIC and " " not in h}


def said(workspace):
    """Everything that each column of a collected export holds, as lower-case text."""
    with workspace.catalog.reading() as db:
        return {
            f"{name}.{column.name}": "\n".join(
                row[0] or ""
                for row in db.execute(
                    f'SELECT DISTINCT lower("{column.name}"::VARCHAR) FROM "{name}"'
                ).fetchall()
            )
            for name in ("source", "post", "media")
            for column in find(TABLES, name).columns
        }


@pytest.mark.parametrize(
    ("collector", "format"), EVERY, ids=[f"{c.PLATFORM}-{f.name}" for c, f in EVERY]
)
def test_nobody_in_an_export_is_named_anywhere_in_the_catalog(tmp_path, collector, format):
    workspace = create_workspace(tmp_path / "set")
    people = people_of(collector, format)

    told = collect_export(workspace, sample(collector, format), collector.PLATFORM)

    assert told["new_posts"] > 0
    held = {column: HOSTS.sub("", text) for column, text in said(workspace).items()}
    named = {(c, who) for c, text in held.items() for who in (*people, *PLANTED) if who in text}
    assert named == set()


def test_the_samples_name_people_and_places_or_nothing_above_could_fail():
    everybody = set().union(*(people_of(c, f) for c, f in EVERY))
    held = b"".join(p.read_bytes() for p in SAMPLES.rglob("*") if p.is_file())

    assert len(everybody) > 20
    assert all(planted.encode() in held for planted in PLANTED[:1])
