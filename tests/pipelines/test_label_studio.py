"""Labelling by the command line against a real Label Studio: nothing is made twice, no vote is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from label_studio_sdk.client import LabelStudio

from curate.catalog import Catalog
from curate.simulated import WorldSpec, build_world
from curate.workspace import open_workspace
from labeling import interface
from labeling.stage import images_to_label

pytestmark = pytest.mark.server

POLICY = """
name = "TITLE"
exports = ["world/exports/reddit/*"]
platforms = {reddit = {role = "train"}, x = {role = "held-out"}}
tags = [{id = "real", direction = "real", any = ["photography", "nature", "nofilter"]}]
fetch = {mirrors = {MIRRORS}}
[labeling]
url = "URL"
project = "TITLE"
document_root = "IMAGES"
annotators_per_image = 3
min_votes = 2
"""
KILLED_AT = """
import logging, os, signal, sys
from labeling import client
client.IMPORT_BATCH = int(sys.argv.pop(1))
class Killer(logging.Handler):
    def emit(self, record):
        if record.msg.startswith("pushed"):
            os.kill(os.getpid(), signal.SIGKILL)
log = logging.getLogger("labeling.client")
log.addHandler(Killer())
log.setLevel("INFO")
from pipelines.cli import main
sys.argv[0] = "wildrf"
main()
"""
"""The real command line, killed by the kernel once the server has taken a batch of so many tasks."""


@pytest.fixture(scope="module")
def grown(wildrf, tmp_path_factory) -> Path:
    """A workspace that has looked at one platform; the other's export lies beside it."""
    root = tmp_path_factory.mktemp("grown")
    spec = WorldSpec(seed=5, images=24, min_side=96, max_side=128, reddit_share=0.7)
    build_world(root / "world", spec)
    (root / "secret.key").write_text("ab" * 32 + "\n")
    Catalog(root / "catalog.duckdb").create()
    give_policy(root, "grown", "http://127.0.0.1:9", root)
    take_in(wildrf, root, "reddit")
    return root


@pytest.fixture
def workspace(grown, label_studio, tmp_path, request, monkeypatch) -> Path:
    """A copy of it with a project of its own on the server."""
    root = tmp_path / "w"
    shutil.copytree(grown, root)
    title = request.node.name.removeprefix("test_")[:40]
    give_policy(root, title, label_studio.url, label_studio.document_root)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    return root


@pytest.fixture
def api(label_studio):
    """The server as another program sees it."""
    with httpx.Client(timeout=60) as http:
        yield LabelStudio(
            base_url=label_studio.url, api_key=label_studio.api_key, httpx_client=http
        )


def give_policy(root: Path, title: str, url: str, images: Path) -> None:
    hosts = sorted((root / "world" / "media").iterdir())
    values = {
        "MIRRORS": ", ".join(f'"{host.name}" = "{host}"' for host in hosts),
        "TITLE": title,
        "URL": url,
        "IMAGES": str(images),
    }
    text = POLICY
    for name, value in values.items():
        text = text.replace(name, value)
    (root / "wildrf.toml").write_text(text)


def take_in(wildrf, root: Path, platform: str) -> None:
    """An export, from its posts to the groups of its copies."""
    exports = sorted((root / "world" / "exports" / platform).iterdir())
    for command in (["collect", *exports], ["fetch"], ["probe", "--workers", 1], ["dedupe"]):
        answer = wildrf(*command, "--workspace", root)
        assert answer.code == 0, answer.err


def told(wildrf, root: Path, *command: str) -> dict:
    answer = wildrf("label", *command, "--workspace", root, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def to_label(root: Path) -> set[str]:
    return {row["digest"] for row in images_to_label(open_workspace(root))}


def on_server(api: LabelStudio, key: str) -> Counter:
    """How many tasks the project has of each digest."""
    tasks = api.tasks.list(project=int(key.rpartition("/")[2]), include="id,data", page_size=500)
    return Counter(task.data["sha256"] for task in tasks)


def tasks_of(root: Path) -> dict[str, int]:
    rows = Catalog(root / "catalog.duckdb").rows("SELECT digest, task_id FROM task")
    return {row["digest"]: row["task_id"] for row in rows}


def votes_of(root: Path) -> list[dict]:
    return Catalog(root / "catalog.duckdb").rows("SELECT * FROM annotation ORDER BY annotation_id")


def decisions(root: Path) -> dict[str, int | None]:
    rows = Catalog(root / "catalog.duckdb").rows("SELECT digest, decision FROM current_label")
    return {row["digest"]: row["decision"] for row in rows}


def say(person: LabelStudio, task: int, choice: str | None) -> None:
    """One person's answer; None is a skip."""
    value = {"choices": [choice]}
    ours = {"from_name": interface.VERDICT, "to_name": interface.IMAGE, "type": "choices"}
    result = [] if choice is None else [ours | {"value": value}]
    person.annotations.create(task, result=result, lead_time=1.5, was_cancelled=choice is None)


def vote(url: str, tasks: dict[str, int], ballots: dict, key: str, number: int) -> None:
    """What the person with this key has to say of every image, one after the other."""
    with httpx.Client(timeout=60) as http:
        person = LabelStudio(base_url=url, api_key=key, httpx_client=http)
        for digest, (answers, _) in ballots.items():
            say(person, tasks[digest], answers[number])


SPECIAL: dict[int, tuple[tuple[str | None, ...], int | None]] = {
    0: (("Fake", "Fake", None), 1),  # one skips
    1: (("Real", "Bogus", "Real"), 0),  # one choice that our page does not offer
    2: (("Real", "Fake", "Unsure"), None),
    3: (("Real", "Real", "Fake"), 0),
    4: (("Edited", "Edited", "Fake"), None),
    5: ((None, None, None), None),
}
"""Answers of three people and what follows from them; everybody else agrees."""


def ballot(position: int) -> tuple[tuple[str | None, ...], int | None]:
    agreed = (("Real",) * 3, 0) if position % 2 else (("Fake",) * 3, 1)
    return SPECIAL.get(position, agreed)


def test_every_vote_arrives_once_and_what_is_done_twice_changes_nothing(
    wildrf, workspace, label_studio, sign_up, api
):
    wanted = to_label(workspace)
    first = told(wildrf, workspace, "push")
    assert (first["tasks"], first["new_tasks"]) == (len(wanted), len(wanted))
    assert on_server(api, first["project"]) == Counter(wanted)
    again = told(wildrf, workspace, "push")
    assert (again["tasks"], again["new_tasks"]) == (len(wanted), 0)

    tasks = tasks_of(workspace)
    assert set(tasks) == wanted
    people = [label_studio.api_key, sign_up("cai"), sign_up("dot")]
    ballots = {digest: ballot(n) for n, digest in enumerate(sorted(tasks))}
    with ThreadPoolExecutor() as together:
        list(together.map(partial(vote, label_studio.url, tasks, ballots), people, range(3)))

    pulled = told(wildrf, workspace, "pull")

    given = Counter((d, a) for d, (answers, _) in ballots.items() for a in answers)
    (bogus,) = (vote for vote in given if vote[1] == "Bogus")
    del given[bogus]
    votes = votes_of(workspace)
    assert Counter((v["digest"], v["choice"]) for v in votes) == given
    assert pulled["new"] == pulled["annotations"] == len(votes) == 3 * len(wanted) - 1
    assert pulled["refused"] == {"unknown choice": 1}
    assert len({v["annotation_id"] for v in votes}) == len(votes)
    assert set(Counter(v["annotator"] for v in votes).values()) == {len(wanted), len(wanted) - 1}
    assert decisions(workspace) == {digest: decision for digest, (_, decision) in ballots.items()}

    catalog = Catalog(workspace / "catalog.duckdb")
    before = catalog.content()
    repeated = told(wildrf, workspace, "pull")
    assert repeated["new"] == 0
    assert told(wildrf, workspace, "push")["new_tasks"] == 0
    assert catalog.content() == before
    counts = Counter(decision for _, decision in ballots.values())
    assert told(wildrf, workspace, "status") == {
        "images": len(wanted),
        "tasks": len(wanted),
        "annotations": len(votes),
        "annotators": 3,
        "real": counts[0],
        "fake": counts[1],
        "undecided": counts[None],
        "conflicts": 0,
    }


def test_images_that_come_later_are_pushed_alone(wildrf, workspace, api):
    before = to_label(workspace)
    told(wildrf, workspace, "push")
    take_in(wildrf, workspace, "x")
    after = to_label(workspace)

    pushed = told(wildrf, workspace, "push")

    assert before < after, "a picture that was shown is shown again as another copy"
    assert pushed["new_tasks"] == len(after - before) > 0
    assert pushed["tasks"] == len(after)
    assert on_server(api, pushed["project"]) == Counter(after)
    assert told(wildrf, workspace, "push")["new_tasks"] == 0


def test_killed_while_it_pushes_and_run_again_it_makes_no_task_twice(wildrf, workspace, api):
    wanted = to_label(workspace)

    killed_after(workspace, batch=8)
    project = api_project(api, workspace)
    assert sum(on_server(api, project).values()) == 8
    killed_after(workspace, batch=1000)
    assert on_server(api, project) == Counter(wanted)
    assert tasks_of(workspace) == {}, "it was killed before it could note the tasks"

    pushed = told(wildrf, workspace, "push")
    assert (pushed["tasks"], pushed["new_tasks"]) == (len(wanted), 0)
    assert on_server(api, pushed["project"]) == Counter(wanted)
    assert set(tasks_of(workspace)) == wanted


def killed_after(workspace: Path, *, batch: int) -> None:
    argv = [sys.executable, "-c", KILLED_AT, str(batch), "label", "push", "--workspace", workspace]
    ended = subprocess.run(argv, env=os.environ, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def api_project(api: LabelStudio, workspace: Path) -> str:
    title = open_workspace(workspace).policy.labeling.project
    return next(f"/{p.id}" for p in api.projects.list(include="id,title") if p.title == title)
