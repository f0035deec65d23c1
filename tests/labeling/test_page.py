"""The page in a real browser: what an annotator sees, and that a click arrives as a row."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from labeling.client import Studio
from labeling.images import file_name, local_file_url, place, shared_folder
from labeling.tasks import from_export, to_task


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1440, "height": 950})
    yield page
    page.close()


def noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.server
@pytest.mark.browser
def test_an_annotator_sees_the_picture_and_no_hint_and_two_keys_make_a_row(label_studio, page):
    data = noise()
    digest = hashlib.sha256(data).hexdigest()
    name = file_name(digest, "PNG")
    folder = shared_folder(label_studio.document_root, "page")
    place(name, folder, file=None, read=lambda: data)
    outside = []
    page.on("request", lambda r: outside.append(r.url) if r.url.startswith("http") else None)
    with Studio(label_studio.url, label_studio.api_key) as studio:
        project = studio.project("in the browser", annotators_per_image=1)
        studio.serve_folder(project, folder)
        studio.push(project, [to_task(digest, local_file_url("page", name))])

        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", label_studio.email)
        page.fill("input[name=password]", label_studio.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        with page.expect_response(lambda r: "local-files" in r.url) as shown:
            page.goto(f"{label_studio.url}/projects/{project.project_id}/data?labeling=1")
        page.get_by_text("Labeling Instructions").wait_for()
        page.keyboard.press("Escape")
        verdict = page.get_by_role("checkbox").first
        verdict.wait_for()
        seen = page.inner_text("body")
        page.keyboard.press("2")
        page.keyboard.press("q")
        with page.expect_response(
            lambda r: r.url.endswith(f"/annotations?project={project.project_id}")
        ):
            page.get_by_role("button", name="Submit").first.click()

        assert shown.value.status == 200
        (row,) = (
            row
            for task in studio.pull(project)
            for row in from_export(task, secret=b"s", project=project.key)
        )
    assert (row.digest, row.choice, row.ticks) == (digest, "Fake", ("anatomy",))
    assert "Is this a real photograph?" in seen
    assert digest[:8] not in seen
    assert name not in seen
    assert not [url for url in outside if not url.startswith(label_studio.url)]
