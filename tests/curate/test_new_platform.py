"""The platforms that the README adds, word for word: installed, asked what all are asked, and collected."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from curate.collectors import COLLECTORS, GROUP, detect, installed
from curate.collectors.contract import Skip
from curate.exports import open_export

ROOT = Path(__file__).resolve().parents[2]
SECTION = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .split("\n## Add a platform\n")[1]
    .split("\n## ")[0]
)
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
MODULE, POINTS, IMPORT = BLOCKS
WILDRF = Path(sys.executable).with_name("wildrf")
NAME = "pseudonym_marker"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder on the path with the module of the README and what pip writes about its package."""
    folder = tmp_path / "site"
    points = tomllib.loads(POINTS)["project"]["entry-points"]
    [(name, module)] = points[GROUP].items()
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{module}.py").write_text(MODULE, encoding="utf-8")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}\n")
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop(module, None)


def post(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": float(number),
        "id_str": str(number),
        "created": "2026-03-06T14:02:05+01:00",
        "caption": f"Drawn by @{NAME} \u540d\u524d #MadeUp",
        "audience": "everyone",
        "deleted_at": None,
        "author": {"id_str": "42", "name": NAME, "last_ip": "203.0.113.77"},
        "place": {"lat": 48.85837},
        "pictures": [],
        "shared": None,
        **fields,
    }


def picture(place: int, file: str, kind: str = "picture") -> dict[str, Any]:
    return {"place": place, "file": f"media/{file}", "kind": kind, "alt": None}


@pytest.fixture
def export(tmp_path):
    """A download in the format of the README's platform."""
    folder = tmp_path / "exports/pixelpost/download/pixelpost"
    (folder / "media").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "c.jpg"):
        (folder / "media" / name).write_bytes(b"\xff\xd8\xff")
    first = 861696799362478085
    two = [picture(2, "b.png"), picture(0, "a.jpg"), picture(1, "v.mp4", "clip")]
    original = post(first - 1, author={"id_str": "43", "name": "made_up_other"})
    original |= {"pictures": [picture(0, "c.jpg")]}
    posts = [
        post(first, pictures=two),
        post(first + 1, shared=original),
        post(first + 2, pictures=two, deleted_at="2026-03-07T00:00:00Z"),
        post(first + 3, pictures=two, audience="friends"),
        post(first + 4, pictures=[picture(0, "v.mp4", "clip")]),
        post(first + 5, id_str=None),
    ]
    (folder / "posts.json").write_text(json.dumps({"posts": posts}), encoding="utf-8")
    return folder.parent


def conformance():
    """The module of tests that every collector passes."""
    path = Path(__file__).with_name("test_collectors.py")
    spec = importlib.util.spec_from_file_location("conformance", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_platform_is_as_long_as_a_platform_is():
    lines = MODULE.splitlines()

    assert sum(1 for line in lines if line.strip()) < 70


def test_the_platform_of_the_readme_is_found_by_its_entry_point(package):
    collector = installed()["pixelpost"]

    assert Path(str(collector.__file__)).parent == package
    assert list(COLLECTORS) == [name for name in installed() if name != "pixelpost"]


def test_the_platform_of_the_readme_passes_what_every_platform_passes(
    package, export, monkeypatch, tmp_path_factory
):
    tests = conformance()
    collector = installed()["pixelpost"]
    [form] = collector.FORMATS
    monkeypatch.setattr(tests, "SAMPLES", export.parents[1])
    junk = [None, [], "text", 7, {}, {"id": 5}]

    for check in tests.CONFORMANCE:
        check(collector, form)
    for record in junk:
        tests.test_a_record_of_another_shape_is_skipped_with_a_reason(collector, form, record)
    tests.test_a_value_of_another_kind_never_ends_a_collection(tmp_path_factory, collector, form)


def test_the_platform_of_the_readme_survives_its_traps(package, export):
    [(collector, form)] = detect(open_export(export))
    records = [r.record for r in collector.read(open_export(export), form.name)]
    [two] = collector.parse(records[0], form.name)
    [share] = collector.parse(records[1], form.name)

    assert two.post.post_id == "861696799362478085"
    assert str(two.post.created_at) == "2026-03-06 13:02:05+00:00"
    assert [(m.position, m.member) for m in two.media] == [
        (0, "pixelpost/media/a.jpg"),
        (2, "pixelpost/media/b.png"),
    ]
    assert two.missed == ("video",)
    assert (share.post.repost_of, share.post.author_id) == ("pixelpost/861696799362478084", "42")
    assert [collector.parse(r, form.name) for r in records[2:]] == [
        (Skip("deleted", withdrawn="861696799362478087"),),
        (Skip("not public"),),
        (Skip("video"),),
        (Skip("no id"),),
    ]


def wildrf(*words: str, **environment: str) -> Any:
    done = subprocess.run(
        [WILDRF, *words, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told[0] if isinstance(told, list) and len(told) == 1 else told


def test_the_platform_of_the_readme_is_collected_by_the_command(package, export, tmp_path):
    table = export / "pixelpost/posts.json"
    posts = json.loads(table.read_text(encoding="utf-8"))
    posts["posts"].append(post(1, pictures="none"))
    table.write_text(json.dumps(posts), encoding="utf-8")
    workspace = tmp_path / "set"
    wildrf("init", str(workspace))

    told = wildrf("collect", str(export), "--workspace", str(workspace), PYTHONPATH=str(package))
    kept = wildrf("sql", "SELECT post_id, text FROM post ORDER BY 1", "--workspace", str(workspace))

    assert (told["platform"], told["posts"], told["media"]) == ("pixelpost", 2, 3)
    assert told["skipped"] == {
        "deleted": 1,
        "media: video": 1,
        "no id": 1,
        "not public": 1,
        "unexpected shape": 1,
        "video": 1,
    }
    assert NAME not in json.dumps(kept)


def test_a_package_that_does_not_load_or_lacks_a_part_is_left_out_with_a_warning(
    package, export, caplog
):
    [points] = package.glob("*.dist-info/entry_points.txt")
    (package / "half_a_platform.py").write_text('PLATFORM = "half"\n')
    broken = "broken = no_such_module_at_all\nhalf = half_a_platform\n"
    points.write_text(points.read_text() + broken)

    known = installed()

    assert {"broken", "half"}.isdisjoint(known)
    assert "pixelpost" in known
    assert "no_such_module_at_all" in caplog.text
    assert "it has no VERSION" in caplog.text


def test_a_package_that_fails_does_not_keep_others_from_being_asked(package, caplog):
    [points] = package.glob("*.dist-info/entry_points.txt")
    parts = "VERSION = 1\nFORMATS = ()\nread = parse = None\n"
    fails = "def recognise(export):\n    raise KeyError('no such thing')\n"
    (package / "fails_at_once.py").write_text(f'PLATFORM = "fails"\n{parts}{fails}')
    points.write_text(points.read_text() + "fails = fails_at_once\n")
    sample = ROOT / "tests/data/exports/x/v1.1.json"

    [(collector, form)] = detect(open_export(sample))

    assert (collector, form.name) == (COLLECTORS["x"], "v1.1")
    assert "the collector of fails does not work: 'no such thing'" in caplog.text


def test_the_table_of_the_readme_is_collected_without_code(tmp_path):
    row = {"id": 7, "user": {"name": NAME}, "posted": "06.03.2026 14:02", "tags": "MadeUp; castle"}
    row |= {"body": f"by @{NAME}", "media": [{"url": "https://a.example/1.jpg", "alt": "a tower"}]}
    table = tmp_path / "posts.jsonl"
    table.write_text(json.dumps(row))
    workspace = tmp_path / "set"
    wildrf("init", str(workspace))
    policy = workspace / "wildrf.toml"
    policy.write_text(policy.read_text() + "\n" + IMPORT)

    told = wildrf("collect", str(table), "--workspace", str(workspace))
    question = "SELECT post_id, CAST(epoch(created_at) AS BIGINT) AS at, text, hashtags FROM post"
    post = wildrf("sql", question, "--workspace", str(workspace))

    assert (told["platform"], told["format"], told["media"]) == ("myforum", "import", 1)
    assert (post["post_id"], post["at"], post["text"]) == ("7", 1772802120, "by @user")
    assert list(post["hashtags"]) == ["MadeUp", "castle"]
