"""The round trip through a real Label Studio: every vote arrives once, nothing is made twice."""

import hashlib
import io
import os
import shutil
import zlib
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest
import requests
from label_studio_sdk.client import LabelStudio
from PIL import Image

from labeling import client, interface
from labeling.client import Studio
from labeling.consensus import decide
from labeling.images import file_name, local_file_url, place, shared_folder
from labeling.server import run_server
from labeling.tasks import Refused, from_export, to_task
from schemas.errors import ServiceError
from schemas.policy import LabelingPolicy
from schemas.records import Annotation

SECRET = b"of one workspace"
FOLDER = "shown here ü"


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def digests(count: int, *, start: int = 0) -> list[str]:
    return [hashlib.sha256(b"%d" % n).hexdigest() for n in range(start, start + count)]


def tasks_of(names: list[str]) -> list[dict]:
    return [to_task(name, local_file_url(FOLDER, file_name(name, "JPEG"))) for name in names]


def answer(server, key, task_id, *choices, **other):
    """One person's answer, through the API as the page would send it."""
    result = [
        {
            "from_name": interface.VERDICT,
            "to_name": interface.IMAGE,
            "type": "choices",
            "value": {"choices": list(choices)},
        }
    ]
    with speaking(server, key) as person:
        return person.annotations.create(
            task_id, result=result if choices else [], lead_time=2.5, **other
        )


@contextmanager
def speaking(server, key):
    """The SDK without ours around it, as another program would use it."""
    with httpx.Client(timeout=60) as http:
        yield LabelStudio(base_url=server.url, api_key=key, httpx_client=http)


def rows_of(studio, project):
    return [
        row
        for task in studio.pull(project)
        for row in from_export(task, secret=SECRET, project=project.key)
    ]


@pytest.fixture
def studio(label_studio):
    with Studio(label_studio.url, label_studio.api_key) as studio:
        yield studio


@pytest.fixture
def api(label_studio):
    with speaking(label_studio, label_studio.api_key) as api:
        yield api


@pytest.fixture
def project(studio, request):
    return studio.project(f"{zlib.crc32(request.node.name.encode()):08x}", annotators_per_image=2)


@pytest.mark.server
def test_every_vote_of_every_person_arrives_once_and_bad_ones_with_a_reason(
    label_studio, studio, project, sign_up
):
    names = digests(4)
    pushed = studio.push(project, tasks_of(names))
    ids = {row.digest: row.task_id for row in pushed.tasks}
    people = [label_studio.api_key, sign_up("ann"), sign_up("bea")]
    for key, choice in zip(people, ["Fake", "Fake", "Real"], strict=True):
        answer(label_studio, key, ids[names[0]], choice)
    answer(label_studio, people[1], ids[names[1]], "Real")
    answer(label_studio, people[1], ids[names[2]], was_cancelled=True)
    answer(label_studio, people[2], ids[names[3]], "Bogus")

    first, second = rows_of(studio, project), rows_of(studio, project)

    assert first == second
    votes = [row for row in first if isinstance(row, Annotation)]
    refused = [row for row in first if isinstance(row, Refused)]
    assert Counter((row.digest, row.choice) for row in votes) == {
        (names[0], "Fake"): 2,
        (names[0], "Real"): 1,
        (names[1], "Real"): 1,
        (names[2], None): 1,
    }
    assert len({row.annotator for row in votes if row.digest == names[0]}) == 3
    assert len({row.annotation_id for row in votes}) == len(votes)
    assert {row.seconds for row in votes} == {2.5}
    assert [row.reason for row in refused] == ["unknown choice"]
    verdicts = {v.digest: v.decision for v in decide(votes, LabelingPolicy(), "v1")}
    assert verdicts == {names[0]: 1, names[1]: 0, names[2]: None}


@pytest.mark.server
def test_a_change_of_mind_is_a_new_revision_of_the_same_annotation(
    label_studio, studio, project, api
):
    (row,) = studio.push(project, tasks_of(digests(1))).tasks
    made = answer(label_studio, label_studio.api_key, row.task_id, "Real")
    (before,) = rows_of(studio, project)

    changed = [{**made.result[0], "value": {"choices": ["Fake"]}}]
    api.annotations.update(made.id, result=changed)

    (after,) = rows_of(studio, project)
    assert after.annotation_id == before.annotation_id
    assert after.revision > before.revision
    assert (before.choice, after.choice) == ("Real", "Fake")
    (verdict,) = decide([after, before], LabelingPolicy(), "v1")
    assert (verdict.decision, verdict.votes) == (1, 1)


@pytest.mark.server
def test_pushing_again_adds_nothing_and_pushing_five_more_adds_five(studio, project):
    first = studio.push(project, tasks_of(digests(10)))
    again = studio.push(project, tasks_of(digests(10)))
    more = studio.push(project, tasks_of(digests(15)) * 2)

    assert (first.new, again.new, more.new) == (10, 0, 5)
    assert first.tasks == again.tasks == more.tasks[:10]
    assert studio.status(project.title).tasks == 15
    pulled = [task["data"]["sha256"] for task in studio.pull(project)]
    assert sorted(pulled) == sorted(digests(15))


def cut_the_second_import(monkeypatch, how):
    """Let every request through to the server; lose the answer to the second import."""
    handle, imports = httpx.HTTPTransport.handle_request, []

    def forward(transport, request):
        response = handle(transport, request)
        if request.url.path.endswith("/import"):
            imports.append(request)
            if len(imports) == 2:
                response.read()
                return how()
        return response

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", forward)


def line_dropped():
    raise httpx.ReadTimeout("line dropped")


def bad_gateway():
    return httpx.Response(502, json={"detail": "bad gateway"})


@pytest.mark.server
@pytest.mark.parametrize("how", [line_dropped, bad_gateway])
def test_an_answer_lost_after_the_server_took_the_batch_leaves_no_doubles(
    studio, project, label_studio, monkeypatch, how
):
    monkeypatch.setattr(client, "IMPORT_BATCH", 3)
    with monkeypatch.context() as patched:
        cut_the_second_import(patched, how)
        with pytest.raises(ServiceError):
            studio.push(project, tasks_of(digests(8)))

    with Studio(label_studio.url, label_studio.api_key) as later:
        resumed = later.push(project, tasks_of(digests(8)))

        assert resumed.new == 2
        assert later.status(project.title).tasks == 8
    assert [row.digest for row in resumed.tasks] == digests(8)


@pytest.mark.server
def test_a_project_larger_than_one_page_is_pushed_and_pulled_whole(studio, project, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 20)
    monkeypatch.setattr(client, "EXPORT_BATCH", 7)

    studio.push(project, tasks_of(digests(60)))
    again = studio.push(project, tasks_of(digests(61)))

    assert again.new == 1
    assert [t["data"]["sha256"] for t in studio.pull(project)] == digests(61)


@pytest.mark.server
def test_annotators_are_served_the_original_bytes(label_studio, studio, project, api):
    folder = shared_folder(label_studio.document_root, FOLDER)
    data = picture(1)
    digest = hashlib.sha256(data).hexdigest()
    place(file_name(digest, "JPEG"), folder, file=None, read=lambda: data)
    url = local_file_url(FOLDER, file_name(digest, "JPEG"))

    studio.serve_folder(project, folder)
    studio.serve_folder(project, folder)

    studio.check_image(url, digest)
    key = {"Authorization": f"Token {label_studio.api_key}"}
    served = requests.get(label_studio.url + url, headers=key, timeout=60)
    assert (served.status_code, served.content) == (200, data)
    assert served.headers["Content-Type"] == "image/jpeg"
    assert requests.get(label_studio.url + url, timeout=60).status_code != 200
    (storage,) = api.import_storage.local.list(project=project.project_id)
    api.import_storage.local.sync(storage.id)
    assert studio.status(project.title).tasks == 0


@pytest.mark.server
def test_a_missing_or_altered_image_is_told(label_studio, studio, project):
    folder = shared_folder(label_studio.document_root, "altered")
    studio.serve_folder(project, folder)
    (folder / "x.jpg").write_bytes(b"not what was pushed")

    with pytest.raises(ServiceError, match="original bytes"):
        studio.check_image(local_file_url("altered", "x.jpg"), "ab" * 32)
    with pytest.raises(ServiceError, match="answered 404"):
        studio.check_image(local_file_url("altered", "none.jpg"), "ab" * 32)


@pytest.mark.server
@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # the SDK's own
def test_a_personal_access_token_works_as_well_as_a_legacy_one(label_studio, project, api):
    folder = shared_folder(label_studio.document_root, "modern")
    (folder / "x.jpg").write_bytes(b"x")

    with Studio(label_studio.url, api.tokens.create().token) as modern:
        modern.serve_folder(project, folder)

        modern.check_image(local_file_url("modern", "x.jpg"), hashlib.sha256(b"x").hexdigest())


@pytest.mark.server
def test_a_project_is_found_again_by_its_title(studio, project):
    again = studio.project(project.title, annotators_per_image=2)

    assert project.created
    assert not again.created
    assert (again.project_id, again.key, again.note) == (project.project_id, project.key, None)
    assert studio.find_project(project.title) == again
    assert studio.find_project("no such project") is None
    assert not studio.status("no such project").exists


@pytest.mark.server
def test_the_page_of_a_project_is_never_changed_once_somebody_answered(label_studio, studio, api):
    theirs = interface.CONFIG.replace("Is this a real photograph?", "Real or not?")
    made = api.projects.create(title="their own page", label_config=theirs)
    unanswered = studio.project("their own page", annotators_per_image=1)
    api.projects.update(made.id, label_config=theirs)
    (row,) = studio.push(unanswered, tasks_of(digests(1))).tasks
    answer(label_studio, label_studio.api_key, row.task_id, "Real")

    answered = studio.project("their own page", annotators_per_image=3)

    assert "given our page" in unanswered.note
    assert "keeps its own page" in answered.note
    assert "\n" not in answered.note
    after = api.projects.get(made.id)
    assert interface.same_config(after.label_config, theirs)
    assert after.maximum_annotations == 3


@pytest.mark.server
def test_two_projects_of_one_title_are_told_apart_by_nobody(studio, api):
    for _ in range(2):
        api.projects.create(title="twice", label_config=interface.CONFIG)

    with pytest.raises(ServiceError, match="2 projects titled 'twice'"):
        studio.project("twice", annotators_per_image=1)


@pytest.mark.server
def test_a_project_is_made_for_blind_annotation(project, api):

    made = api.projects.get(project.project_id)

    assert made.show_collab_predictions is False
    assert made.show_annotation_history is False
    assert made.sampling == "Uniform sampling"
    assert made.maximum_annotations == 2


@pytest.mark.server
def test_a_wrong_key_is_told_in_one_line(label_studio):
    with (
        Studio(label_studio.url, "0" * 40) as studio,
        pytest.raises(ServiceError, match=r"refused the API key \(401\)") as error,
    ):
        studio.status("any")
    assert "\n" not in str(error.value)


@pytest.mark.server
def test_a_folder_outside_the_servers_document_root_is_told(studio, project, tmp_path):
    with pytest.raises(ServiceError, match="another document root"):
        studio.serve_folder(project, tmp_path)
    with pytest.raises(ServiceError, match="does not see the image folder"):
        studio.serve_folder(project, tmp_path / "none")


@pytest.mark.server
def test_a_server_that_serves_no_local_files_is_told(
    label_studio, label_studio_command, project, tmp_path
):
    data = tmp_path / "data"
    shutil.copytree(label_studio.document_root.parent / "data", data)
    shutil.copytree(label_studio.document_root, tmp_path / "images", dirs_exist_ok=True)
    with ExitStack() as resources:
        server = resources.enter_context(
            run_server(
                label_studio_command,
                data,
                tmp_path / "images",
                api_key=label_studio.api_key,
                environment=os.environ,
                serve_local_files=False,
            )
        )
        studio = resources.enter_context(Studio(server.url, server.api_key))

        with pytest.raises(ServiceError, match="LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"):
            studio.serve_folder(project, shared_folder(server.document_root, "new"))
        with pytest.raises(ServiceError, match="answered 403"):
            studio.check_image(local_file_url("new", "x.jpg"), "ab" * 32)


def test_a_server_that_is_not_there_is_told_in_one_line():
    with (
        Studio("http://127.0.0.1:9", "0" * 40) as studio,
        pytest.raises(ServiceError, match=r"not reachable at http://127\.0\.0\.1:9") as error,
    ):
        studio.status("any")
    assert "\n" not in str(error.value)


def test_the_connection_ends_when_nobody_holds_the_studio_any_more():
    studio = Studio("http://127.0.0.1:9", "0" * 40)
    http = studio._http

    del studio

    assert http.is_closed


def test_an_empty_key_is_told_with_the_variable_to_set():
    with pytest.raises(ServiceError, match="LABEL_STUDIO_API_KEY"):
        Studio("http://127.0.0.1:9", "")


class Stranger(BaseHTTPRequestHandler):
    """Some other web server."""

    status, content_type = 404, "text/html"

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Type", self.content_type)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [200, 404, 500])
def test_another_web_server_is_not_taken_for_label_studio(status):
    handler = type("Answer", (Stranger,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        with (
            Studio(url, "0" * 40) as studio,
            pytest.raises(ServiceError, match="does not answer like Label Studio") as error,
        ):
            studio.status("any")
        server.shutdown()
    assert "hello" not in str(error.value)


def test_the_missing_command_is_none_not_an_error(tmp_path: Path):
    from labeling.server import find_executable

    assert find_executable(tmp_path, str(tmp_path)) is None
