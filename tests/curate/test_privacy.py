import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.privacy import author_key, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by @made_up, thanks", "by @user, thanks"),
        ("RT @Made_Up: look", "RT @user: look"),
        ("@one.two@social.example!", "@user!"),
        ("u/made-up and /u/made_up2", "@user and @user"),
        ("r/u_madeup here", "@user here"),
        ("see https://x.com/made_up/status/12", "see https://x.com/user/status/12"),
        (
            "https://www.reddit.com/user/madeup/comments",
            "https://www.reddit.com/user/user/comments",
        ),
        ("https://www.reddit.com/r/aiArt/comments/1", "https://www.reddit.com/r/aiArt/comments/1"),
        ("https://x.com/i/web/status/12", "https://x.com/i/web/status/12"),
        ("mail me@home.example", "mail me@home.example"),
        ("50/50 and/or w/o", "50/50 and/or w/o"),
    ],
)
def test_handles_are_replaced_and_nothing_else(text, expected):
    assert redact(text) == expected


def test_a_known_handle_is_also_replaced_inside_links():
    text = "https://art.example/Made_Up/1 and /made_uppity"

    assert redact(text, ["made_up"]) == "https://art.example/user/1 and /made_uppity"


@given(st.text(max_size=80))
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text)

    assert redact(once) == once


@given(st.from_regex(r"[A-Za-z0-9_]{3,15}", fullmatch=True))
def test_no_handle_survives_an_at_sign(handle):
    assert redact(f"hello @{handle} and u/{handle}") == "hello @user and @user"


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
