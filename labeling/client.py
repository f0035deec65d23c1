"""Label Studio over its API, through label-studio-sdk: the only module that speaks to the server.

https://api.labelstud.io describes the API. Nothing is ever made twice: a project is found by its
title, a storage by its path, a task by the digest in its data, all asked of the server itself, so
that a run that died can be run again. Importing the SDK takes a second and 150 MB: it happens
inside functions.
"""

import hashlib
import json
import logging
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from labeling import interface
from schemas.errors import ServiceError
from schemas.records import Task

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_S = 600.0
"""Label Studio Community imports and exports within the request: a big batch takes minutes."""

IMPORT_BATCH = 1000
PAGE = 1000
EXPORT_BATCH = 250
"""Task ids travel in the address, 18 bytes each; nginx allows 8 KiB of it, Django 1000 fields."""

NO_FILES = r"(?!)"
"""A pattern that matches nothing: a storage synchronised by hand then adds no task of its own."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project on the server. `note` says in one line what differs from what we would make."""

    project_id: int
    title: str
    key: str
    created: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """The server's tasks of the images that were pushed, and how many of them are new."""

    tasks: tuple[Task, ...]
    new: int


@dataclass(frozen=True, slots=True)
class Status:
    """How far a project is. `finished` tasks have as many annotations as were asked for."""

    url: str
    version: str
    title: str
    exists: bool
    tasks: int = 0
    finished: int = 0
    annotations: int = 0
    skipped: int = 0


class Studio:
    """One Label Studio server, spoken to as the owner of `api_key`; use it in a `with`."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        if not api_key:
            raise ServiceError(
                f"no API key for Label Studio at {url}; copy it from Account & Settings there "
                "into the environment variable LABEL_STUDIO_API_KEY"
            )
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._key = api_key
        with self._spoken():
            self._http, self._api = _connect(self.url, api_key, timeout_s)
        self.close = weakref.finalize(self, self._http.close)
        """Ends the connections to the server; done anyway when nobody holds the object any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def project(self, title: str, *, annotators_per_image: int) -> Project:
        """Find the project titled `title`, or create it.

        The page of an existing project is brought up to date only while nobody has annotated.

        Raises:
            ServiceError: the server refused, or has several projects of that title.
        """
        with self._spoken():
            found = self._find(title)
            if found is None:
                return self._create(title, annotators_per_image)
            return self._reuse(found, title, annotators_per_image)

    def find_project(self, title: str) -> Project | None:
        """The project titled `title`, left as it is; None if there is none."""
        with self._spoken():
            found = self._find(title)
        return None if found is None else self._project(found.id, title)

    def serve_folder(self, project: Project, folder: Path) -> None:
        """Allow `project` to show the images in `folder`, below the server's document root.

        Raises:
            ServiceError: the server does not serve local files, or not from there.
        """
        with self._spoken():
            storages = self._api.import_storage.local.list(project=project.project_id)
            if any(Path(storage.path) == folder for storage in storages):
                return
            self._api.import_storage.local.create(
                project=project.project_id,
                title=f"images of {project.title}",
                path=str(folder),
                use_blob_urls=True,
                regex_filter=NO_FILES,
            )

    def push(self, project: Project, tasks: Iterable[dict[str, Any]]) -> Pushed:
        """Import the tasks whose digest the project has none for, and name the task of each digest.

        Args:
            project: where to.
            tasks: made by `labeling.tasks.to_task`; repeats are imported once.

        Raises:
            ServiceError: the server refused; what it took before is found on the next run.
        """
        wanted = {task["data"]["sha256"]: task for task in tasks}
        with self._spoken():
            known = self._task_ids(project)
            missing = [task for digest, task in wanted.items() if digest not in known]
            for batch in _batches(missing, IMPORT_BATCH):
                self._api.projects.import_tasks(project.project_id, request=batch)
                log.info("pushed %d tasks to %s", len(batch), project.key)
            known = self._task_ids(project) if missing else known
        rows = tuple(Task(project.key, digest, known[digest]) for digest in wanted)
        return Pushed(rows, new=len(missing))

    def pull(self, project: Project) -> Iterator[dict[str, Any]]:
        """Yield every task with all that was said of it, as in the JSON export, in batches.

        Raises:
            ServiceError: the server refused.
        """
        with self._spoken():
            tasks = [task.id for task in self._list(project, "id")]
        for ids in _batches(tasks, EXPORT_BATCH):
            yield from self._export(project, ids)
        log.info("pulled %d tasks of %s", len(tasks), project.key)

    def status(self, title: str) -> Status:
        """How far the project titled `title` is; `exists` is False when the server has none."""
        with self._spoken():
            version = str(self._api.versions.get().release)
            found = self._find(title)
            if found is None:
                return Status(self.url, version, title, exists=False)
            full = self._api.projects.get(id=found.id)
        return Status(
            self.url,
            version,
            title,
            exists=True,
            tasks=full.task_number,
            finished=full.finished_task_number,
            annotations=full.total_annotations_number,
            skipped=full.skipped_annotations_number,
        )

    def check_image(self, image_url: str, digest: str) -> None:
        """Make sure that annotators get exactly the bytes of `digest` at `image_url`.

        Raises:
            ServiceError: nothing or something else is served there.
        """
        local = image_url.startswith("/")
        address = self.url + image_url if local else image_url
        with self._spoken(address):
            headers = {"Authorization": self._authorization()} if local else {}
            answer = self._http.get(address, headers=headers)
        if answer.status_code != 200:
            raise ServiceError(_not_served(address, answer.status_code))
        if (actual := hashlib.sha256(answer.content).hexdigest()) != digest:
            raise ServiceError(
                f"{address} serves {actual[:12]}, expected {digest[:12]}; "
                "annotators must see the original bytes: remove that file and push again"
            )

    def _find(self, title: str) -> Any | None:
        found = [p for p in self._api.projects.list(include="id,title") if p.title == title]
        if len(found) > 1:
            ids = ", ".join(str(p.id) for p in found)
            raise ServiceError(
                f"{self.url} has {len(found)} projects titled {title!r} (ids {ids}); "
                "rename all but one, or choose another labeling.project"
            )
        return found[0] if found else None

    def _create(self, title: str, annotators_per_image: int) -> Project:
        made = self._api.projects.create(
            title=title,
            description="Is this a real photograph?",
            label_config=interface.CONFIG,
            expert_instruction=interface.INSTRUCTION,
            show_instruction=True,
            maximum_annotations=annotators_per_image,
            enable_empty_annotation=False,
            sampling="Uniform sampling",
            show_annotation_history=False,
            show_collab_predictions=False,
            show_skip_button=True,
        )
        log.info("created project %s", made.id)
        return self._project(made.id, title, created=True)

    def _reuse(self, found: Any, title: str, annotators_per_image: int) -> Project:
        full = self._api.projects.get(id=found.id)
        answered = full.total_annotations_number + full.skipped_annotations_number
        if full.maximum_annotations != annotators_per_image:
            self._api.projects.update(id=found.id, maximum_annotations=annotators_per_image)
        if interface.same_config(full.label_config or "<View/>", interface.CONFIG):
            return self._project(found.id, title)
        if answered:
            note = (
                f"project {title!r} keeps its own page, which differs from ours, because it has "
                f"{answered} annotations; for the new page choose another labeling.project"
            )
            return self._project(found.id, title, note=note)
        self._api.projects.update(id=found.id, label_config=interface.CONFIG)
        return self._project(found.id, title, note=f"project {title!r} was given our page")

    def _project(
        self, project_id: int, title: str, *, created: bool = False, note: str | None = None
    ) -> Project:
        return Project(project_id, title, f"{self.url}/projects/{project_id}", created, note)

    def _task_ids(self, project: Project) -> dict[str, int]:
        """The task of each digest that the project has; the oldest, should there be several."""
        known: dict[str, int] = {}
        for task in self._list(project, "id,data"):
            digest = (task.data or {}).get("sha256")
            if digest is not None:
                known[digest] = min(task.id, known.get(digest, task.id))
        return known

    def _list(self, project: Project, include: str) -> Iterator[Any]:
        """Every task of the project, with the named fields only: four times faster than all."""
        yield from self._api.tasks.list(
            project=project.project_id, include=include, page_size=PAGE, resolve_uri=False
        )

    def _export(self, project: Project, ids: list[int]) -> list[dict[str, Any]]:
        with self._spoken():
            raw = self._api.projects.exports.download_sync(
                project.project_id,
                export_type="JSON",
                download_all_tasks=True,
                download_resources=False,
                request_options={"additional_query_parameters": {"ids[]": ids}},
            )
            tasks: list[dict[str, Any]] = json.loads(b"".join(raw))
        return tasks

    def _authorization(self) -> str:
        """A legacy token as it is; a personal access token buys one that lasts five minutes."""
        if self._key.count(".") != 2:
            return f"Token {self._key}"
        answer = self._http.post(f"{self.url}/api/token/refresh/", json={"refresh": self._key})
        if answer.is_error:
            raise ServiceError(_refused_key(self.url, answer.status_code))
        return f"Bearer {answer.json()['access']}"

    @contextmanager
    def _spoken(self, address: str | None = None) -> Iterator[None]:
        """Turn what the SDK raises into one line that says what to do."""
        httpx, sdk = _import_sdk()

        try:
            yield
        except sdk.core.api_error.ApiError as error:
            raise ServiceError(_refusal(self.url, error.status_code, error.body)) from None
        except httpx.TimeoutException:
            raise ServiceError(
                f"{address or self.url} did not answer within {self.timeout_s:.0f} s; "
                "try again: what it took is not sent twice"
            ) from None
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{'Label Studio' if address is None else 'the image'} is not reachable at "
                f"{address or self.url} ({error}); start the server, or mend the address "
                "in the policy under [labeling]"
            ) from None
        except json.JSONDecodeError:
            raise ServiceError(_not_label_studio(self.url, 200)) from None


def _import_sdk() -> tuple[Any, Any]:
    try:
        import httpx
        import label_studio_sdk
        import label_studio_sdk.client
        import label_studio_sdk.core.api_error
    except ImportError:
        raise ServiceError(
            "label-studio-sdk is not installed; run `pip install 'wildrf[label]'`"
        ) from None
    return httpx, label_studio_sdk


def _connect(url: str, api_key: str, timeout_s: float) -> tuple[Any, Any]:
    """An HTTP client of our own, so that it can be closed, and the SDK on top of it.

    The SDK would send a failed request again by itself, even one that the server took: never here.
    """
    httpx, sdk = _import_sdk()
    http = httpx.Client(timeout=timeout_s, follow_redirects=True)
    try:
        return http, sdk.client.LabelStudio(
            base_url=url, api_key=api_key, timeout=timeout_s, max_retries=0, httpx_client=http
        )
    except sdk.core.api_error.ApiError:
        http.close()
        raise


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _refusal(url: str, status: int | None, body: Any) -> str:
    """One line for an answer that was not a success."""
    said = _said(body)
    if status in (401, 403):
        return _refused_key(url, status)
    if "LOCAL_FILES_SERVING_ENABLED" in said:
        return (
            f"Label Studio at {url} does not serve local files; start it with "
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, or set labeling.image_base_url"
        )
    if "LOCAL_FILES_DOCUMENT_ROOT" in said:
        return (
            f"Label Studio at {url} serves local files from another document root ({said}); set "
            "labeling.document_root to the one it was started with"
        )
    if "does not exist" in said and "path" in said:
        return (
            f"Label Studio at {url} does not see the image folder ({said}); it has to run on this "
            "machine or share that folder, else set labeling.image_base_url"
        )
    if not isinstance(body, dict | list):
        return _not_label_studio(url, status)
    return f"Label Studio at {url} answered {status}: {said}; mend that and run again"


def _refused_key(url: str, status: int | None) -> str:
    return (
        f"Label Studio at {url} refused the API key ({status}); copy a valid one from Account & "
        "Settings there into LABEL_STUDIO_API_KEY (a legacy token has to be enabled there)"
    )


def _not_label_studio(url: str, status: int | None) -> str:
    return (
        f"{url} does not answer like Label Studio ({status} and no JSON); "
        "set labeling.url to where it runs"
    )


def _not_served(address: str, status: int) -> str:
    reason = {
        403: "local files are not served or this project may not see the folder",
        404: "no such file below the document root, or no storage covers it",
    }.get(status, "the image is not served")
    return f"{address} answered {status}, expected 200: {reason}; run `wildrf label push` again"


def _said(body: Any) -> str:
    """The gist of an error body on one line of at most 300 characters."""
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = body if isinstance(body, str) else json.dumps(body, default=str)
    return " ".join(text.replace('\\"', '"').replace("\\n", " ").split())[:300]
