"""`wildrf forget` as its user meets it, and what `why`, `doctor` and `collect` say afterwards."""

import json
from pathlib import Path

import pytest

from curate.catalog import insert
from curate.privacy import author_key
from curate.tombstones import Request, erase
from curate.workspace import create_workspace
from schemas.records import Fetch, Image, Media, Post, Tombstone


@pytest.fixture
def workspace(tmp_path):
    """Four posts with a picture each, two of one author."""
    workspace = create_workspace(tmp_path / "set")
    posts, media, fetched, images = [], [], [], []
    for number, name in enumerate(("ana", "ana", "ben", None)):
        key = ("x", str(number))
        author = author_key(workspace.secret, "x", name) if name else None
        digest = workspace.store.put(f"picture {number}".encode())
        posts.append(Post(*key, "s", author, None, text=f"waterlily {number} here"))
        media.append(Media(*key, 0, "s"))
        fetched.append(Fetch(*key, 0, 1, digest, None))
        images.append(Image(digest, "probe", 9, None))
    with workspace.catalog.writing() as db:
        for table, rows in {
            "post": posts,
            "media": media,
            "fetch": fetched,
            "image": images,
        }.items():
            insert(db, table, rows)
    return workspace


@pytest.fixture
def forget(workspace, wildrf):
    """Runs the verb; the answer's JSON."""

    def run(*arguments):
        answer = wildrf("forget", *arguments, "--workspace", workspace.root, "--json")
        assert (answer.code, answer.err) == (0, "")
        return json.loads(answer.out)

    return run


def ids(workspace):
    rows = workspace.catalog.rows("SELECT post_id FROM post ORDER BY post_id")
    return [row["post_id"] for row in rows]


def digest_of(workspace, post_id):
    rows = workspace.catalog.rows("SELECT digest FROM stored WHERE post_id = $id", id=post_id)
    return rows[0]["digest"]


def test_a_post_is_forgotten_and_the_answer_has_every_key(workspace, forget):
    told = forget("--post", "x/1")

    assert ids(workspace) == ["0", "2", "3"]
    assert told == {
        "ok": True, "dry_run": False, "posts": 1, "media": 1, "images": 1, "files": 1, "tombstones": 2,
        "releases": [], "near_copies": [], "shown_elsewhere": [], "remains": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "asked", [("--author-of", "x/0"), ("--author", "x/ana"), ("--author", None)]
)
def test_an_author_can_be_named_by_key_by_id_or_by_a_post(workspace, forget, asked):
    option, value = asked
    told = forget(option, value or author_key(workspace.secret, "x", "ana"))

    assert told["posts"] == 2
    assert ids(workspace) == ["2", "3"]
    assert forget("--author", "x/ana")["posts"] == 0


def test_several_things_are_forgotten_at_once(workspace, forget):
    start = digest_of(workspace, "3")[:12].upper()

    told = forget("--post", "x/0", "--post", "x/2", "--digest", start, "--post", "reddit/unknown")

    assert (told["posts"], told["tombstones"]) == (3, 7)
    assert ids(workspace) == ["1"]


def test_a_dry_run_says_what_would_go(workspace, wildrf):
    answer = wildrf("forget", "--post", "x/1", "--dry-run", "--workspace", workspace.root)

    assert answer.code == 0
    assert "would go: 1 posts, 1 media, 1 images, 1 files" in answer.err
    assert ids(workspace) == ["0", "1", "2", "3"]


def test_the_same_command_twice_is_fine(workspace, forget):
    digest = digest_of(workspace, "1")
    arguments = ("--post", "x/1", "--author-of", "x/1", "--digest", digest[:20])
    assert forget(*arguments)["posts"] == 2

    again = forget(*arguments)

    assert (again["posts"], again["files"], again["tombstones"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--post", "1abcde"), "expected PLATFORM/ID, such as reddit/1abcde"),
        (("--post", "x/"), "expected PLATFORM/ID"),
        (("--author", "somebody"), "neither a key nor PLATFORM/AUTHOR_ID"),
        (("--author-of", "x/99"), "there is no such post"),
        (("--author-of", "x/3"), "its author is not known"),
        (("--digest", "abc"), "at least its first 12 digits"),
        (("--digest", "g" * 64), "expected a SHA-256"),
        (("--digest", "0" * 13), "no image begins with 0000000000000"),
        (("--digest", "ab" * 6), "begins several digests"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_takes_nothing_out(workspace, wildrf, arguments, said):
    twins = [Tombstone("digest", "ab" * 6 + end * 52, "r") for end in "01"]
    workspace.catalog.add("tombstone", twins)
    content = workspace.catalog.content()

    answer = wildrf("forget", "--post", "x/1", *arguments, "--workspace", workspace.root)

    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert "somebody" not in answer.err
    assert workspace.catalog.content() == content


def test_a_killed_takedown_is_told_by_doctor_and_finished_by_the_verb_alone(
    workspace, wildrf, forget
):
    erase(workspace, Request(posts=(("x", "1"),)))

    def takedown():
        answer = wildrf("doctor", "--workspace", workspace.root, "--json")
        [check] = [c for c in json.loads(answer.out)["checks"] if c["name"] == "takedown"]
        return check

    assert takedown()["ok"] is False
    assert "1 forgotten pictures are still stored; run `wildrf forget`" in takedown()["detail"]

    assert forget()["files"] == 1
    assert takedown()["ok"] is True
    assert b"waterlily 1 " not in workspace.catalog.path.read_bytes()


def test_why_says_when_and_why_something_was_forgotten(workspace, wildrf, forget):
    digest = digest_of(workspace, "1")
    forget("--post", "x/1", "--reason", "asked by letter")

    for asked in (digest, digest[:12], "x/1"):
        answer = wildrf("why", asked, "--workspace", workspace.root)
        assert answer.code == 0
        assert ": forgotten on 20" in answer.err
        assert answer.err.endswith(", asked by letter\n")
    gone = json.loads(wildrf("why", "x/1", "--workspace", workspace.root, "--json").out)
    assert gone["forgotten"]["reason"] == "asked by letter"


def test_why_of_a_post_is_why_of_its_picture(workspace, wildrf):
    answer = wildrf("why", "x/2", "--workspace", workspace.root, "--json")

    assert json.loads(answer.out)["digest"] == digest_of(workspace, "2")
    unknown = wildrf("why", "x/77", "--workspace", workspace.root)
    assert (unknown.code, "x/77 has 0 images here" in unknown.err) == (2, True)


def test_pictures_shown_to_annotators_go_from_the_shared_folder(
    workspace, forget, tmp_path, monkeypatch
):
    digest = digest_of(workspace, "1")
    shown = tmp_path / "root" / f"wildrf-{workspace.policy.name}" / f"{digest}.jpg"
    shown.parent.mkdir(parents=True)
    shown.hardlink_to(workspace.store.local_path(digest))
    other = shown.with_name("0" * 64 + ".jpg")
    other.write_bytes(b"other")
    monkeypatch.setenv("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT", str(tmp_path / "root"))

    assert forget("--digest", digest)["files"] == 2

    assert not shown.exists()
    assert other.exists()


def test_no_later_collection_brings_a_post_or_an_author_back(workspace, wildrf, forget, tmp_path):
    sample = Path(__file__).resolve().parents[1] / "data" / "exports" / "reddit" / "dump.ndjson"

    def collect(name, data):
        (tmp_path / name).write_bytes(data)
        answer = wildrf("collect", tmp_path / name, "--workspace", workspace.root, "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    assert collect("first.ndjson", sample.read_bytes())["new_posts"] > 2
    rows = workspace.catalog.rows(
        "SELECT post_id, author FROM post WHERE platform = 'reddit' AND author IS NOT NULL ORDER BY ALL"
    )
    author = rows[0]["author"]
    post = next(row["post_id"] for row in rows if row["author"] != author)
    gone = forget("--post", f"reddit/{post}", "--author", author)["posts"]

    again = collect("second.ndjson", sample.read_bytes() + b"\n")

    assert again["new_posts"] == 0
    assert again["skipped"]["forgotten"] >= gone >= 2
    left = workspace.catalog.rows("SELECT post_id, author FROM post WHERE platform = 'reddit'")
    assert left
    assert post not in {row["post_id"] for row in left}
    assert author not in {row["author"] for row in left}
