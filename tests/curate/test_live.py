import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from curate.collectors import COLLECTORS, detect
from curate.exports import open_export
from curate.live import LIVE
from curate.live.asking import MAX_PAGE, Asking, host_of, secure, wait_of
from curate.live.capturing import capture, cut_half_line
from curate.live.contract import Asked, Stopped, slug
from curate.work import Silent
from schemas.errors import InputError
from schemas.policy import FetchPolicy

spec = importlib.util.spec_from_file_location(
    "live_server", Path(__file__).with_name("live_server.py")
)
server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(server)
APP_PASSWORD, BEGAN, CLIENT = server.APP_PASSWORD, server.BEGAN, server.CLIENT
IDENTIFIER, SECRET, TOKEN = server.IDENTIFIER, server.SECRET, server.TOKEN
Fault, open_site = server.Fault, server.open_site
submission, status, view = server.submission, server.status, server.view

SECRETS = {
    "REDDIT_CLIENT_ID": CLIENT,
    "REDDIT_CLIENT_SECRET": SECRET,
    "BLUESKY_IDENTIFIER": IDENTIFIER,
    "BLUESKY_APP_PASSWORD": APP_PASSWORD,
}
ASKED = {
    "reddit": Asked(subreddits=("aiArt",)),
    "mastodon": Asked(server="mastodon.example", tags=("#AIart", "midjourney")),
    "bluesky": Asked(tags=("AIart", "dalle")),
}
READ_AS = {("reddit", "dump"), ("mastodon", "timeline"), ("bluesky", "posts")}
PAGE = {
    "reddit": "/r/aiArt/new",
    "mastodon": "/api/v1/timelines/tag/AIart",
    "bluesky": "/xrpc/app.bsky.feed.searchPosts",
}


@pytest.fixture
def site(monkeypatch):
    hasty = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr("prawcore.sessions.time", hasty)
    monkeypatch.setattr("prawcore.rate_limit.time", hasty)
    with open_site() as site:
        site.submissions = [submission(n) for n in range(230, 0, -1)]
        site.statuses = {
            "aiart": [status(n) for n in range(90, 0, -2)],
            "midjourney": [status(n, "midjourney") for n in range(120, 0, -3)],
        }
        site.views = {
            "#aiart": [view(n) for n in range(250, 0, -2)],
            "#dalle": [view(n, "dalle") for n in range(250, 0, -3)],
        }
        yield site


def served(site, platform):
    """Every record that the server has of what is asked, newest first, once each by id."""
    found = {
        "reddit": site.submissions,
        "mastodon": [r for records in site.statuses.values() for r in records],
        "bluesky": [r for records in site.views.values() for r in records],
    }[platform]
    tell = LIVE[platform].tell
    by_id = {tell(r).id: r for r in reversed(found)}
    return sorted(by_id.values(), key=lambda r: tell(r).time, reverse=True)


class Waits(list):
    """Pauses that were asked for instead of slept, in whole seconds."""

    def __call__(self, seconds):
        self.append(round(seconds))


def take(site, platform, path, asked=None, *, secrets=SECRETS, waits=None, said=None, **fields):
    policy = FetchPolicy(**{"mirrors": site.mirrors, "timeout_s": 5.0, **fields})
    say = (said if said is not None else []).append
    hidden = tuple(secrets.values())
    with Asking(
        policy, say, hidden=hidden, sleep=waits if waits is not None else Waits()
    ) as asking:
        live = LIVE[platform]
        return capture(live, asked or ASKED[platform], path, asking, secrets, Silent())


def ids(path, platform):
    return [LIVE[platform].tell(line).id for line in path.read_bytes().splitlines()]


# Every platform


@pytest.mark.parametrize("platform", LIVE)
def test_a_capture_holds_the_platforms_own_bytes_newest_first(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"

    found = take(site, platform, file)

    expected = served(site, platform)
    lines = file.read_bytes().splitlines()
    assert sorted(lines) == sorted(expected)
    assert [LIVE[platform].tell(x).time for x in lines] == [
        LIVE[platform].tell(x).time for x in expected
    ]
    assert (found.records, found.new, found.complete, found.detail) == (
        len(expected), len(expected), True, None,
    )  # fmt: skip
    assert (found.first, found.last) == (
        LIVE[platform].tell(expected[-1]).time,
        LIVE[platform].tell(expected[0]).time,
    )


@pytest.mark.parametrize("platform", LIVE)
def test_a_capture_is_an_export_of_its_platform_and_of_no_other(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    take(site, platform, file)

    export = open_export(file)
    [(collector, form)] = detect(export)
    results = [
        found
        for raw in collector.read(export, form.name)
        for found in collector.parse(raw.record, form.name)
    ]

    assert (collector.PLATFORM, form.name) in READ_AS
    assert len(results) == len(served(site, platform))
    assert all(r.media[0].url.startswith("https://") for r in results)


@pytest.mark.parametrize("platform", LIVE)
def test_a_live_module_names_a_collector_and_cites_its_api(platform):
    live = LIVE[platform]

    assert COLLECTORS[live.PLATFORM].PLATFORM in {platform}
    assert "https://" in live.__doc__
    assert set(live.OPTIONS) <= set(Asked.__dataclass_fields__)
    assert live.tell(b"{broken").id is None
    assert live.tell(b'{"id": "1", "name": "other"}').id is None


@pytest.mark.parametrize("platform", LIVE)
def test_a_limit_ends_a_capture_and_is_said(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"

    found = take(site, platform, file, replace(ASKED[platform], limit=41))

    assert (found.records, found.complete, found.failed) == (41, False, False)
    assert found.detail == "the limit of 41 is reached"
    assert file.read_bytes().splitlines() == served(site, platform)[:41]


@pytest.mark.parametrize("platform", LIVE)
@pytest.mark.parametrize("kept", [0, 1, 39, 40, 41, 66])
def test_a_capture_that_was_killed_goes_on_and_has_each_record_once(site, platform, kept, tmp_path):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    take(site, platform, whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    killed.write_bytes(b"".join(lines[:kept]) + lines[kept][:57])

    found = take(site, platform, killed)

    assert sorted(killed.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())
    assert len(set(ids(killed, platform))) == found.records == kept + found.new


@pytest.mark.parametrize("platform", LIVE)
def test_posts_that_come_meanwhile_cost_none_of_those_that_were_there(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    take(site, platform, file, replace(ASKED[platform], limit=55))
    there = served(site, platform)
    site.submissions[:0] = [submission(n) for n in range(300, 230, -1)]
    site.statuses["aiart"][:0] = [status(n) for n in range(300, 250, -1)]
    site.views["#aiart"][:0] = [view(n) for n in range(300, 250, -1)]

    take(site, platform, file)

    lines = file.read_bytes().splitlines()
    assert set(there) <= set(lines)
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("platform", LIVE)
def test_a_capture_that_is_complete_gains_nothing_when_it_is_run_again(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    take(site, platform, file)
    before = file.read_bytes()

    found = take(site, platform, file)

    assert (found.new, found.complete, file.read_bytes()) == (0, True, before)


@pytest.mark.parametrize("platform", LIVE)
def test_ctrl_c_keeps_what_came(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    asked = replace(ASKED[platform], tags=ASKED[platform].tags[:1])
    # The allowance is one page, and Ctrl-C comes in the pause that follows.
    site.limits = {
        "X-RateLimit-Remaining": "0", "X-RateLimit-Used": "600", "X-RateLimit-Reset": "3",
    }  # fmt: skip

    def interrupt(_):
        raise KeyboardInterrupt

    found = take(site, platform, file, asked, waits=interrupt)

    size = {"mastodon": 40}.get(platform, 100)
    assert (found.interrupted, found.complete, found.detail) == (True, False, "interrupted")
    assert found.records == len(file.read_bytes().splitlines()) == size


@pytest.mark.parametrize("platform", LIVE)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503, {"Retry-After": "1"}),
        Fault(cut=True, body=b'{"data"'),
        Fault(body=b"<html>a login page</html>"),
        Fault(body=b"{}"),
        Fault(body=b'[{"id": "1"'),
    ],
    ids=["500", "503", "cut", "html", "empty", "half"],
)
def test_a_failure_that_passes_costs_nothing(site, platform, fault, tmp_path):
    file, waits = tmp_path / "a.jsonl", Waits()
    site.fail(PAGE[platform], fault)

    found = take(site, platform, file, waits=waits)

    assert (found.records, found.complete) == (len(served(site, platform)), True)
    assert waits in ([1], []), "PRAW tries again by itself"


@pytest.mark.parametrize("platform", LIVE)
def test_a_server_that_asks_to_wait_is_given_the_time(site, platform, tmp_path):
    file, waits, said = tmp_path / "a.jsonl", Waits(), []
    site.fail(PAGE[platform], Fault(429, {"Retry-After": "17"}))

    found = take(site, platform, file, waits=waits, said=said)

    assert (found.complete, waits) == (True, [17])
    assert len(said) == 1
    assert "waiting 17 s" in said[0]


@pytest.mark.parametrize("platform", LIVE)
def test_a_used_up_allowance_is_waited_for_before_the_next_page(site, platform, tmp_path):
    file, waits = tmp_path / "a.jsonl", Waits()
    # Mastodon states a moment, Bluesky seconds since 1970, Reddit a span.
    then = datetime.now(UTC) + timedelta(seconds=100)
    reset = {"mastodon": then.isoformat(), "bluesky": f"{then.timestamp():.0f}", "reddit": "100"}
    site.limits = {
        "X-RateLimit-Remaining": "0", "X-RateLimit-Used": "600",
        "X-RateLimit-Reset": reset[platform],
    }  # fmt: skip

    found = take(site, platform, file, waits=waits)

    assert found.complete
    assert len(waits) == found.pages - 1
    assert all(95 <= wait <= 101 for wait in waits)


@pytest.mark.parametrize("platform", LIVE)
def test_a_pause_too_long_ends_the_capture_with_what_came(site, platform, tmp_path):
    file, waits = tmp_path / "a.jsonl", Waits()
    site.limits = {
        "X-RateLimit-Remaining": "0", "X-RateLimit-Used": "600", "X-RateLimit-Reset": "3600",
    }  # fmt: skip

    found = take(site, platform, file, waits=waits)

    assert (found.complete, found.failed, waits) == (False, True, [])
    assert "go on in 3600 s" in found.detail


@pytest.mark.parametrize("platform", LIVE)
def test_a_server_that_keeps_failing_ends_the_capture_with_what_came(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    asked = {**ASKED, "mastodon": Asked(server="mastodon.example", tags=("AIart",))}
    asked["bluesky"] = Asked(tags=("AIart",))
    take(site, platform, file, replace(asked[platform], limit=3))
    site.fail(PAGE[platform], *[Fault(500)] * 20)

    with pytest.raises(Stopped, match=r"answers 500, 2 times"):
        take(site, platform, file, asked[platform], attempts=2)

    assert len(file.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("platform", LIVE)
def test_nothing_at_all_leaves_no_file(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    site.fail(PAGE[platform], *[Fault(500)] * 20)

    with pytest.raises(Stopped):
        take(site, platform, file, attempts=2)

    assert not file.exists()


@pytest.mark.parametrize("platform", LIVE)
@pytest.mark.parametrize("loop", ["cursor", "pages"])
def test_a_server_that_repeats_its_pages_is_left(site, platform, loop, tmp_path):
    file = tmp_path / "a.jsonl"
    site.loop = loop

    found = take(site, platform, file)

    assert (found.complete, found.failed) == (False, True)
    assert "repeats its pages" in found.detail
    assert len(set(ids(file, platform))) == found.records > 0
    assert found.pages < 20


@pytest.mark.parametrize("platform", LIVE)
def test_a_page_beyond_all_measure_is_refused(site, platform, tmp_path):
    site.fail(PAGE[platform], Fault(body=b" " * (MAX_PAGE + 1)))

    with pytest.raises(Stopped, match="which no page has"):
        take(site, platform, tmp_path / "a.jsonl")


@pytest.mark.parametrize("platform", LIVE)
@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(site, platform, code, tmp_path):
    with open_site() as other:
        site.fail(PAGE[platform], Fault(code, {"Location": f"{other.url}/r/aiArt/new"}))

        with pytest.raises(Stopped):
            take(site, platform, tmp_path / "a.jsonl")

        assert other.asked == []


@pytest.mark.parametrize("platform", LIVE)
@pytest.mark.parametrize("code", [400, 401, 403, 404, 418, 422])
def test_a_refusal_is_one_line_without_secrets(site, platform, code, tmp_path):
    body = json.dumps({"error": f"no {SECRET} {APP_PASSWORD} {TOKEN}", "message": "x\ny"})
    site.fail(PAGE[platform], *[Fault(code, body=body.encode())] * 9)
    secrets = {**SECRETS, "MASTODON_ACCESS_TOKEN": TOKEN}

    with pytest.raises(Stopped) as refused:
        take(site, platform, tmp_path / "a.jsonl", secrets=secrets)

    told = str(refused.value)
    assert "\n" not in told
    assert not any(secret in told for secret in (SECRET, APP_PASSWORD, CLIENT))


@pytest.mark.parametrize("platform", ["mastodon", "bluesky"])
@pytest.mark.parametrize(
    "server", ["127.0.0.1", "localhost:8080", "https://169.254.169.254", "[::1]"]
)
def test_a_private_address_is_not_asked_unless_the_policy_names_it(
    platform, server, site, tmp_path
):
    asked = replace(ASKED[platform], server=server)

    with pytest.raises(Stopped, match="private-address"):
        take(site, platform, tmp_path / "a.jsonl", asked, mirrors={})


def test_a_mirror_that_is_a_folder_answers_nothing(site, tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        take(site, "mastodon", tmp_path / "a.jsonl", mirrors={"mastodon.example": str(tmp_path)})


@pytest.mark.parametrize("platform", LIVE)
def test_the_file_of_another_platform_is_not_gone_on_with(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    other = next(name for name in LIVE if name != platform)
    take(site, other, file)
    before = file.read_bytes()

    with pytest.raises(InputError, match=f"no records of {platform}"):
        take(site, platform, file)

    assert file.read_bytes() == before


@pytest.mark.parametrize("platform", LIVE)
def test_since_leaves_out_what_is_older(site, platform, tmp_path):
    file = tmp_path / "a.jsonl"
    since = BEGAN + timedelta(minutes=70)

    found = take(site, platform, file, replace(ASKED[platform], since=since))

    expected = [r for r in served(site, platform) if LIVE[platform].tell(r).time >= since]
    assert sorted(file.read_bytes().splitlines()) == sorted(expected)
    assert found.complete


@pytest.mark.parametrize("platform", LIVE)
def test_every_request_says_who_asks(site, platform, tmp_path):
    take(site, platform, tmp_path / "a.jsonl", user_agent="wildrf test (mail@example.org)")

    agents = {headers["User-Agent"] for _, _, headers in site.asked}
    assert all(agent.startswith("wildrf test (mail@example.org)") for agent in agents)


# Real answers


def elements(path, *keys):
    """The records of a real answer, as the bytes they are."""
    raw = path.read_bytes()
    for key in keys:
        raw = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[key]
    return [bytes(record) for record in msgspec.json.decode(raw, type=list[msgspec.Raw])]


@pytest.mark.parametrize(
    ("platform", "name", "keys", "form"),
    [
        ("reddit", "listing_0.json", ("data", "children"), "dump"),
        ("mastodon", "tag_timeline_0.json", (), "timeline"),
        ("bluesky", "author_feed_0.json", ("feed",), "feed"),
    ],
)
def test_real_answers_are_captured_byte_for_byte_and_read_as_before(
    site, shared, tmp_path, platform, name, keys, form
):
    source = shared / "data" / "exports" / platform / name
    records = elements(source, *keys)
    site.submissions = records
    site.statuses = {"rstats": records}
    site.views = {"someone": records}
    asked = {
        "reddit": ASKED["reddit"],
        "mastodon": Asked(server="mastodon.example", tags=("rstats",)),
        "bluesky": Asked(authors=("someone",)),
    }[platform]
    file = tmp_path / "a.jsonl"

    found = take(site, platform, file, asked)

    lines = file.read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(record) for record in records]
    assert [a for a, b in zip(lines, records, strict=True) if b"\n" not in b and a != b] == []
    assert found.first
    assert all(LIVE[platform].tell(line).id for line in lines)
    [(collector, read_as)] = detect(open_export(file))
    assert (collector.PLATFORM, read_as.name) == (platform, form)
    assert parsed(file) == parsed(source)


def parsed(path):
    """What a collector makes of an export."""
    export = open_export(path)
    [(collector, form)] = detect(export)
    return [
        collector.parse(raw.record, form.name)
        for raw in collector.read(export, form.name)
        if raw.record is not None
    ]


# Reddit


def test_reddit_is_asked_with_the_apps_own_credentials_and_raw_json(site, tmp_path):
    take(site, "reddit", tmp_path / "a.jsonl")

    assert site.paths() == ["/api/v1/access_token", *["/r/aiArt/new"] * 3]
    assert [query.get("after") for _, query, _ in site.asked[1:]] == [
        None,
        "t3_000083",
        "t3_00001f",
    ]
    assert {query["raw_json"] for _, query, _ in site.asked[1:]} == {"1"}


@pytest.mark.parametrize(
    ("asked", "path", "query"),
    [
        (Asked(subreddits=("r/aiArt", "dalle+aiArt")), "/r/aiArt+dalle/new", {}),
        (Asked(subreddits=("aiArt",), listing="top", period="week"), "/r/aiArt/top", {"t": "week"}),
        (
            Asked(subreddits=("aiArt",), listing="search", query="flux"),
            "/r/aiArt/search",
            {"q": "flux", "restrict_sr": "1", "sort": "new"},
        ),
        (Asked(listing="search", query="flux"), "/search", {"q": "flux", "sort": "new"}),
    ],
)
def test_reddit_listings_have_their_paths(site, asked, path, query, tmp_path):
    take(site, "reddit", tmp_path / "a.jsonl", asked)

    assert site.asked[-1][0] == path
    assert query.items() <= site.asked[-1][1].items()


@pytest.mark.parametrize(
    "asked",
    [
        Asked(),
        Asked(subreddits=("../etc",)),
        Asked(subreddits=("a b",)),
        Asked(subreddits=("aiArt",), listing="best"),
        Asked(subreddits=("aiArt",), listing="search"),
        Asked(subreddits=("aiArt",), query="flux"),
        Asked(subreddits=("aiArt",), listing="top", period="decade"),
        Asked(subreddits=("aiArt",), listing="top", since=BEGAN),
    ],
)
def test_what_reddit_cannot_be_asked_is_said(asked):
    with pytest.raises(InputError):
        LIVE["reddit"].name(asked)


@pytest.mark.parametrize(
    ("asked", "there", "told"),
    [
        (Asked(subreddits=("aiArt",), limit=5000), 990, "no more than about 1000"),
        (Asked(listing="search", query="flux", limit=5000), 243, "no more than about 250"),
    ],
)
def test_a_reddit_listing_that_was_cut_is_not_called_complete(site, asked, there, told, tmp_path):
    site.submissions = [submission(n) for n in range(there, 0, -1)]

    found = take(site, "reddit", tmp_path / "a.jsonl", asked)

    assert (found.records, found.complete, found.failed) == (there, False, False)
    assert told in found.detail


@pytest.mark.parametrize("there", [1000, 1200])
def test_a_reddit_listing_that_goes_back_to_since_was_not_cut(site, there, tmp_path):
    site.submissions = [submission(n) for n in range(there, 0, -1)]
    since = BEGAN + timedelta(minutes=there - 949)

    found = take(
        site, "reddit", tmp_path / "a.jsonl", replace(ASKED["reddit"], since=since, limit=5000)
    )

    assert (found.records, found.complete) == (950, True)


def test_wrong_reddit_credentials_are_one_line(site, tmp_path):
    wrong = {"REDDIT_CLIENT_ID": "nobody", "REDDIT_CLIENT_SECRET": "hunter2-hunter2"}

    with pytest.raises(Stopped, match="401; REDDIT_CLIENT_ID") as refused:
        take(site, "reddit", tmp_path / "a.jsonl", secrets=wrong)

    assert "hunter2" not in str(refused.value)


def test_a_reddit_token_that_is_refused_once_is_asked_for_again(site, tmp_path):
    site.fail("/r/aiArt/new", Fault(401, body=b'{"message": "Unauthorized", "error": 401}'))

    found = take(site, "reddit", tmp_path / "a.jsonl")

    assert found.complete
    assert site.paths().count("/api/v1/access_token") == 2


def test_no_reddit_credentials_are_one_line(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("praw_client_id", raising=False)

    with pytest.raises(InputError, match="set REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET"):
        take(site, "reddit", tmp_path / "a.jsonl", secrets={})


def test_reddit_without_praw_says_what_to_install(site, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "praw", None)

    with pytest.raises(InputError, match=r"pip install 'wildrf\[live\]'"):
        take(site, "reddit", tmp_path / "a.jsonl")


def test_praw_is_imported_only_when_reddit_is_asked():
    code = "import sys, curate.live, pipelines.capture; print('praw' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


# Mastodon


def test_mastodon_pages_are_asked_for_by_the_servers_own_max_id(site, tmp_path):
    take(site, "mastodon", tmp_path / "a.jsonl")

    asked = [query for path, query, _ in site.asked if path.endswith("/AIart")]
    shown = [json.loads(r)["id"] for r in site.statuses["aiart"]]
    assert [query.get("max_id") for query in asked] == [None, shown[39], shown[-1]]
    assert {(query["limit"], query["only_media"]) for query in asked} == {("40", "true")}


def test_a_mastodon_capture_goes_on_below_its_last_id(site, tmp_path):
    file = tmp_path / "a.jsonl"
    take(site, "mastodon", file, replace(ASKED["mastodon"], limit=50))
    last = ids(file, "mastodon")[-1]
    site.asked.clear()

    take(site, "mastodon", file)

    assert [query["max_id"] for _, query, _ in site.asked[:2]] == [last, last]


def test_a_bluesky_capture_goes_on_below_its_last_hundred(site, tmp_path):
    file = tmp_path / "a.jsonl"
    site.views = {"#aiart": [view(n) for n in range(600, 0, -1)]}
    asked = Asked(tags=("AIart",))
    take(site, "bluesky", file, replace(asked, limit=300))
    site.asked.clear()

    found = take(site, "bluesky", file, asked)

    until = datetime.fromisoformat(site.asked[1][1]["until"])
    assert until == BEGAN + timedelta(minutes=400, milliseconds=1)
    assert (found.records, found.pages) == (600, 4)


def test_a_server_without_link_headers_is_walked_by_its_last_id(site, tmp_path):
    site.linkless = True
    asked = Asked(server="mastodon.example", tags=("AIart",))

    found = take(site, "mastodon", tmp_path / "a.jsonl", asked)

    assert (found.records, found.complete) == (45, True)


def test_the_link_of_a_mastodon_server_leads_to_no_other_host(site, tmp_path):
    take(site, "mastodon", tmp_path / "a.jsonl")

    assert len(site.asked) == 5, "the links name mastodon.example; every page came from the mirror"


def test_a_members_only_server_names_the_token_to_set(site, tmp_path):
    site.members_only = True

    with pytest.raises(Stopped, match="set MASTODON_ACCESS_TOKEN"):
        take(site, "mastodon", tmp_path / "a.jsonl")
    with pytest.raises(Stopped, match="MASTODON_ACCESS_TOKEN is not one"):
        take(site, "mastodon", tmp_path / "a.jsonl", secrets={"MASTODON_ACCESS_TOKEN": "wrong-one"})
    found = take(site, "mastodon", tmp_path / "a.jsonl", secrets={"MASTODON_ACCESS_TOKEN": TOKEN})

    assert found.complete


@pytest.mark.parametrize(
    "server", ["http://mastodon.example", "ftp://a", "https://a:b@c", "https://", "https://a/b"]
)
def test_a_server_that_cannot_be_trusted_is_refused_without_repeating_it(server):
    with pytest.raises(InputError) as refused:
        LIVE["mastodon"].name(Asked(server=server, tags=("a",)))

    assert "a:b" not in str(refused.value)


@pytest.mark.parametrize("tag", ["", "#", "a b", "a/../b", "a?b", "x" * 101])
def test_a_tag_that_is_none_is_refused(tag):
    with pytest.raises(InputError, match="no hashtag"):
        LIVE["mastodon"].name(Asked(server="mastodon.example", tags=(tag,)))


# Bluesky


def test_a_bluesky_search_without_a_login_keeps_its_first_page_and_says_why(site, tmp_path):
    found = take(site, "bluesky", tmp_path / "a.jsonl", Asked(tags=("AIart",)), secrets={})

    assert (found.records, found.complete, found.failed) == (100, False, True)
    assert "set BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD" in found.detail


def test_a_bluesky_search_that_wants_a_login_names_what_to_set(site, tmp_path):
    site.members_only = True

    with pytest.raises(Stopped, match="set BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD"):
        take(site, "bluesky", tmp_path / "a.jsonl", secrets={})


def test_a_wrong_app_password_is_one_line_without_it(site, tmp_path):
    wrong = {**SECRETS, "BLUESKY_APP_PASSWORD": "wrong-word"}

    with pytest.raises(Stopped, match="are not taken") as refused:
        take(site, "bluesky", tmp_path / "a.jsonl", secrets=wrong)

    assert "wrong-word" not in str(refused.value)
    assert IDENTIFIER not in str(refused.value)


def test_a_bluesky_session_that_ends_is_begun_again(site, tmp_path):
    ended = Fault(400, body=b'{"error":"ExpiredToken","message":"Token has expired"}')
    site.fail("/xrpc/app.bsky.feed.searchPosts", ended)

    found = take(site, "bluesky", tmp_path / "a.jsonl")

    assert found.complete
    assert sum(path.endswith("createSession") for path in site.paths()) == 2


def test_the_posts_of_a_bluesky_account_need_no_login(site, tmp_path):
    file = tmp_path / "a.jsonl"
    site.views["painter.bsky.example"] = [view(n) for n in range(130, 0, -1)]
    asked = Asked(authors=("@painter.bsky.example",))

    found = take(site, "bluesky", file, asked, secrets={})

    assert (found.records, found.complete) == (130, True)
    assert json.loads(file.read_bytes().splitlines()[0]).keys() == {"post"}
    [(collector, form)] = detect(open_export(file))
    assert (collector.PLATFORM, form.name) == ("bluesky", "feed")
    assert "painter" not in LIVE["bluesky"].name(asked), "handles stay out of file names"


def test_bluesky_is_asked_for_a_search_or_for_accounts():
    for asked in (Asked(), Asked(tags=("a",), authors=("b",))):
        with pytest.raises(InputError):
            LIVE["bluesky"].name(asked)


# Bytes and times


def test_a_record_over_several_lines_is_written_on_one(site, tmp_path):
    file = tmp_path / "a.jsonl"
    loose = json.dumps(json.loads(status(7)), indent=2).encode().replace(b"7", b"7.0e0", 0)
    site.statuses = {"aiart": [loose, status(5)]}

    take(site, "mastodon", file, Asked(server="mastodon.example", tags=("AIart",)))

    first, second = file.read_bytes().splitlines()
    assert json.loads(first) == json.loads(loose)
    assert second == status(5)


def test_numbers_and_escapes_are_kept_as_they_were_written(site, tmp_path):
    file = tmp_path / "a.jsonl"
    odd = status(9).replace(
        b'"mentions":[]', rb'"mentions":[1.50,1e400,12345678901234567890123,"\u00e9\/"]'
    )
    site.statuses = {"aiart": [odd]}

    take(site, "mastodon", file, Asked(server="mastodon.example", tags=("AIart",)))

    assert file.read_bytes() == odd + b"\n"


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_cutting_a_half_line_keeps_every_whole_one(whole, half):
    kept = whole + b"\n" if whole else b""
    half = half.replace(b"\n", b"")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(kept + half)

        gone = cut_half_line(path)

        assert (gone, path.read_bytes()) == (len(half), kept)


def test_a_half_line_longer_than_a_read_is_cut(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 200_000)

    assert cut_half_line(path) == 200_000
    assert path.read_bytes() == b"{}\n"


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90),
        ({"X-RateLimit-Reset": "2026-03-01T12:02:00.000000Z"}, 120),
        ({"RateLimit-Reset": str(int(NOW.timestamp()) + 45)}, 45),
        ({"RateLimit-Reset": "45"}, 45),
        ({"X-RateLimit-Reset": "2026-03-01T11:00:00Z"}, 0),
    ],
)
def test_a_pause_is_counted_by_the_servers_own_clock(headers, seconds):
    stated = requests.structures.CaseInsensitiveDict(headers)
    stated["Date"] = format_datetime(NOW, usegmt=True)

    assert wait_of(stated) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("mastodon.example", "mastodon.example"),
        ("https://A.example/", "a.example"),
        ("a:8443", "a:8443"),
    ],
)
def test_a_server_is_named_with_or_without_its_scheme(server, host):
    assert host_of(server) == host
    assert secure(server) == f"https://{host}"


@given(st.lists(st.text(max_size=60), max_size=4))
def test_a_name_made_of_anything_is_a_file_name(words):
    name = slug(*words)

    assert len(name.encode()) <= 150
    assert not set(name) & set('/\\:*?"<>|\0\n ')
    assert not name.startswith(".")


def test_a_slow_answer_is_given_up(site, tmp_path):
    began = time.monotonic()
    site.fail(PAGE["mastodon"], *[Fault(cut=True, body=b"[")] * 3)

    with pytest.raises(Stopped, match="does not answer"):
        take(site, "mastodon", tmp_path / "a.jsonl", attempts=2)

    assert time.monotonic() - began < 20
