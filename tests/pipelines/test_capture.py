"""`wildrf capture` against a real server that answers as the platforms do."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "live_server", ROOT / "tests" / "curate" / "live_server.py"
)
server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(server)
Fault = server.Fault

SECRETS = {
    "REDDIT_CLIENT_ID": server.CLIENT,
    "REDDIT_CLIENT_SECRET": server.SECRET,
    "MASTODON_ACCESS_TOKEN": server.TOKEN,
    "BLUESKY_IDENTIFIER": server.IDENTIFIER,
    "BLUESKY_APP_PASSWORD": server.APP_PASSWORD,
}
WORDS = {
    "reddit": ["reddit", "--subreddit", "aiArt"],
    "mastodon": ["mastodon", "--server", "https://mastodon.example", "--tag", "AIart"],
    "bluesky": ["bluesky", "--tag", "AIart"],
}
PAGE = {
    "reddit": "/r/aiArt/new",
    "mastodon": "/api/v1/timelines/tag/AIart",
    "bluesky": "/xrpc/app.bsky.feed.searchPosts",
}
TOTAL, SIZE = 250, {"reddit": 100, "mastodon": 40, "bluesky": 100}


@pytest.fixture
def site():
    with server.open_site() as site:
        site.submissions = [server.submission(n) for n in range(TOTAL, 0, -1)]
        site.statuses = {"aiart": [server.status(n) for n in range(TOTAL, 0, -1)]}
        site.views = {"#aiart": [server.view(n) for n in range(TOTAL, 0, -1)]}
        yield site


@pytest.fixture
def workspace(wildrf, site, tmp_path, monkeypatch):
    """A workspace whose policy sends every platform to the local server."""
    for key, value in SECRETS.items():
        monkeypatch.setenv(key, value)
    folder = tmp_path / "set"
    assert wildrf("init", folder).code == 0
    policy = folder / "wildrf.toml"
    mirrors = "".join(f'"{host}" = "{url}"\n' for host, url in site.mirrors.items())
    text = policy.read_text().replace("attempts = 3", "attempts = 2")
    policy.write_text(f"{text}\n[fetch.mirrors]\n{mirrors}")
    return folder


@pytest.fixture
def capture(wildrf, workspace):
    def run(*words):
        answer = wildrf("capture", *words, "--workspace", workspace, "--json")
        assert not any(secret in answer.out + answer.err for secret in SECRETS.values())
        return answer

    return run


def told(answer):
    """The result on stdout; what was said instead if there is none."""
    assert answer.out, answer.err
    return json.loads(answer.out)


def rows(workspace, sql):
    return Catalog(workspace / "catalog.duckdb").rows(sql)


def line_count(path):
    return len(Path(path).read_bytes().splitlines())


@pytest.mark.parametrize("platform", WORDS)
def test_a_capture_is_kept_as_a_file_and_collected(capture, workspace, platform):
    answer = capture(*WORDS[platform], "--limit", "120")

    result = told(answer)
    file = Path(result["file"])
    assert answer.code == 0
    assert file.parent == workspace / "captures"
    assert file.name.startswith(f"{platform}-")
    assert file.suffix == ".jsonl"
    assert (result["platform"], result["records"], line_count(file)) == (platform, 120, 120)
    assert (result["complete"], result["detail"]) == (False, "the limit of 120 is reached")
    assert result["pages"] == -(-120 // SIZE[platform])
    assert result["first"] == "2026-03-01T02:11:00+00:00"
    assert result["last"] == "2026-03-01T04:10:00+00:00"
    collected = result["collected"]
    assert (collected["posts"], collected["new_posts"], collected["skipped"]) == (120, 120, {})
    assert rows(workspace, "SELECT count(*) AS n FROM media") == [{"n": 120}]


@pytest.mark.parametrize("platform", WORDS)
def test_why_a_post_is_here_leads_to_the_captured_bytes(capture, workspace, platform):
    file = told(capture(*WORDS[platform]))["file"]

    sources = rows(workspace, "SELECT DISTINCT location FROM source JOIN post USING (source_id)")

    assert sources == [{"location": str(Path(file).resolve())}]


@pytest.mark.parametrize("platform", WORDS)
def test_the_catalog_says_whether_a_capture_is_complete_and_goes_on_saying_it(
    capture, wildrf, workspace, platform
):
    part = told(capture(*WORDS[platform], "--limit", "30"))
    wildrf("collect", part["file"], "--workspace", workspace)

    [source] = rows(workspace, "SELECT complete, detail FROM source")
    assert source == {
        "complete": False, "detail": "captured in part: the limit of 30 is reached",
    }  # fmt: skip

    capture(*WORDS[platform], "--into", part["file"])

    states = rows(workspace, "SELECT complete, seen FROM source ORDER BY seen")
    assert states == [{"complete": False, "seen": 30}, {"complete": True, "seen": TOTAL}]


@pytest.mark.parametrize("platform", WORDS)
def test_the_same_file_is_collected_again_offline(capture, wildrf, workspace, platform):
    file = told(capture(*WORDS[platform]))["file"]

    answer = wildrf("collect", file, "--workspace", workspace, "--json")

    again = told(answer)
    assert (answer.code, again["platform"], again["posts"], again["new_posts"]) == (
        0, platform, TOTAL, 0,
    )  # fmt: skip


def test_a_capture_goes_on_into_its_file_up_to_a_higher_limit(capture):
    first = told(capture(*WORDS["mastodon"], "--limit", "50"))
    name = Path(first["file"]).name

    second = told(capture(*WORDS["mastodon"], "--limit", "130", "--into", name))

    assert second["file"] == first["file"]
    assert (second["records"], second["new_records"], line_count(second["file"])) == (130, 80, 130)
    assert second["collected"]["new_posts"] == 80


def started(workspace, *words, cwd=ROOT):
    """The command line in a process of its own."""
    code = "import sys; from pipelines.cli import main; main(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        "capture",
        *words,
        "--workspace",
        str(workspace),
        "--json",
    ]
    return subprocess.Popen(
        command, cwd=cwd, env={**os.environ}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "the server was not asked"
        time.sleep(0.02)


def second_page_asked(site, platform):
    return lambda: site.paths().count(PAGE[platform]) >= 2


def hold_second_page(site, platform):
    """The first page is answered with what there is, the second one never."""
    site.fail(PAGE[platform], None, Fault(held=True))


@pytest.mark.parametrize("platform", WORDS)
def test_a_capture_that_was_killed_goes_on_with_each_record_once(
    site, capture, workspace, platform
):
    hold_second_page(site, platform)
    process = started(workspace, *WORDS[platform])
    wait_for(second_page_asked(site, platform))
    process.kill()
    process.communicate()
    [file] = (workspace / "captures").glob("*.jsonl")
    assert line_count(file) == SIZE[platform]

    result = told(capture(*WORDS[platform], "--into", file))

    lines = file.read_bytes().splitlines()
    assert (result["records"], result["complete"]) == (TOTAL, True)
    assert len(lines) == len(set(lines)) == TOTAL


@pytest.mark.parametrize("platform", WORDS)
def test_ctrl_c_keeps_and_collects_what_came_and_says_how_to_go_on(
    site, capture, workspace, platform
):
    hold_second_page(site, platform)
    process = started(workspace, *WORDS[platform])
    wait_for(second_page_asked(site, platform))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    result = json.loads(out)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert (result["records"], result["interrupted"]) == (SIZE[platform], True)
    assert (result["complete"], result["detail"]) == (False, "interrupted")
    assert result["collected"]["posts"] == SIZE[platform]

    again = told(capture(*WORDS[platform], "--into", result["file"]))

    assert (again["records"], again["complete"]) == (TOTAL, True)


@pytest.mark.parametrize("platform", WORDS)
def test_a_rate_limit_is_waited_for_as_long_as_it_says(site, capture, platform):
    site.fail(PAGE[platform], Fault(429, {"Retry-After": "2"}))
    began = time.monotonic()

    answer = capture(*WORDS[platform])

    assert time.monotonic() - began >= 2
    assert (answer.code, told(answer)["records"]) == (0, TOTAL)


@pytest.mark.parametrize("platform", WORDS)
def test_a_server_error_that_passes_is_not_noticed(site, capture, platform):
    site.fail(PAGE[platform], Fault(500))

    answer = capture(*WORDS[platform])

    assert (answer.code, told(answer)["complete"]) == (0, True)


@pytest.mark.parametrize(
    ("platform", "secret", "told"),
    [
        ("reddit", "REDDIT_CLIENT_SECRET", "REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET"),
        ("bluesky", "BLUESKY_APP_PASSWORD", "BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD"),
        ("mastodon", "MASTODON_ACCESS_TOKEN", "MASTODON_ACCESS_TOKEN"),
    ],
)
def test_credentials_that_are_refused_are_one_line_and_exit_code_2(
    site, capture, workspace, monkeypatch, platform, secret, told
):
    site.members_only = True
    monkeypatch.setenv(secret, "wrong-wrong-wrong")

    answer = capture(*WORDS[platform])

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert told in answer.err
    assert "wrong-wrong-wrong" not in answer.err
    assert list((workspace / "captures").glob("*.jsonl")) == []


@pytest.mark.parametrize("platform", WORDS)
def test_a_server_that_gives_up_midway_is_exit_code_1_and_what_came_is_collected(
    site, capture, platform
):
    site.loop = "pages"

    answer = capture(*WORDS[platform])

    result = told(answer)
    assert (answer.code, result["complete"], result["failed"]) == (1, False, True)
    assert "repeats its pages" in result["detail"]
    assert result["collected"]["posts"] == result["records"] > 0


def test_a_tag_that_nobody_uses_gives_no_file_and_no_error(capture):
    answer = capture("mastodon", "--server", "mastodon.example", "--tag", "nobodysaysthis")

    result = told(answer)
    assert answer.code == 0
    assert (result["file"], result["records"], result["collected"]) == (None, 0, None)
    assert result["complete"]


def test_people_are_told_what_came_and_how_to_go_on(wildrf, workspace):
    answer = wildrf("capture", *WORDS["reddit"], "--limit", "7", "--workspace", workspace)

    assert answer.code == 0
    assert answer.out == ""
    assert "7 records, 7 of them new, in 1 pages" in answer.err
    assert "PARTIAL: captured in part: the limit of 7 is reached" in answer.err
    assert "--into reddit-aiart-new-" in answer.err
    assert "7 posts with 7 images" in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["flickr"], "expected bluesky, mastodon, reddit"),
        (["reddit"], "--subreddit aiArt"),
        (["reddit", "--subreddit", "aiArt", "--tag", "x"], "--tag is not for reddit"),
        (["mastodon", "--tag", "AIart"], "--server https://mastodon.social"),
        (["mastodon", "--server", "http://mastodon.example", "--tag", "a"], "expected https://"),
        (["bluesky"], "--tag AIart"),
        (["bluesky", "--tag", "a", "--subreddit", "b"], "--subreddit is not for bluesky"),
        ([*WORDS["reddit"], "--since", "yesterday"], "expected one such as 2026-01-31"),
        ([*WORDS["reddit"], "--into", "../out.jsonl"], "expected captures/NAME.jsonl"),
        ([*WORDS["reddit"], "--into", "captures.txt"], "expected captures/NAME.jsonl"),
        ([*WORDS["reddit"], "--into", "mastodon-a-b.jsonl"], "a capture of something else"),
        ([*WORDS["reddit"], "--limit", "0"], "--limit"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_asks_nobody(site, capture, words, told):
    answer = capture(*words)

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert told in answer.err
    assert site.asked == []


def test_without_praw_only_reddit_is_missing(capture, monkeypatch):
    monkeypatch.setitem(sys.modules, "praw", None)

    assert "pip install 'wildrf[live]'" in capture(*WORDS["reddit"]).err
    assert capture(*WORDS["mastodon"], "--limit", "3").code == 0


def test_credentials_may_be_in_praw_ini_which_names_no_other_server(
    site, workspace, tmp_path, monkeypatch
):
    for key in SECRETS:
        monkeypatch.delenv(key)
    with server.open_site() as planted:
        (tmp_path / "praw.ini").write_text(
            f"[DEFAULT]\nclient_id={server.CLIENT}\nclient_secret={server.SECRET}\n"
            f"username=someone\npassword=something\n"
            f"reddit_url={planted.url}\noauth_url={planted.url}\n"
        )
        process = started(workspace, *WORDS["reddit"], cwd=tmp_path)
        out, err = process.communicate(timeout=60)

        assert planted.asked == []
    assert json.loads(out)["records"] == TOTAL
    assert server.SECRET not in out + err


def test_captures_are_not_tracked_by_git(capture, workspace):
    capture(*WORDS["mastodon"], "--limit", "3")

    assert "captures/" in (workspace / ".gitignore").read_text().splitlines()
    assert (workspace / "captures" / ".gitignore").read_text() == "*\n"


def test_names_of_people_stay_in_the_capture(capture, workspace):
    for words in WORDS.values():
        capture(*words, "--limit", "20")

    posts = json.dumps(rows(workspace, "SELECT * FROM post"), default=str)
    media = json.dumps(rows(workspace, "SELECT * FROM media"), default=str)

    assert "made_up" not in posts + media
    assert "made-up" not in posts + media
