"""The verbs by which people decide: push, pull, import, export, status."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.work import Progress
from curate.workspace import Workspace
from labeling.images import file_name, local_file_url, place, shared_folder, web_url
from labeling.stage import images_to_label, label_status, take_in
from labeling.tasks import read_export, to_export, to_task
from schemas.errors import InputError

KEY = "LABEL_STUDIO_API_KEY"
ROOT = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"


def push(
    workspace: Workspace, environment: Mapping[str, str], progress: Progress
) -> dict[str, Any]:
    """Show every picture that has no task yet to the annotators of the workspace's project.

    Raises:
        InputError: if it is not said how the server can show images.
        ServiceError: if the server refuses.
    """
    policy = workspace.policy.labeling
    images = images_to_label(workspace)
    if not images:
        raise InputError("there is no image to label; run `wildrf collect`, `fetch`, `probe` first")
    studio = _studio(workspace, environment)
    project = studio.project(policy.project, annotators_per_image=policy.annotators_per_image)
    progress.start("label push", len(images))
    folder = None
    if policy.image_base_url:
        urls = [web_url(policy.image_base_url, i["digest"]) for i in images]
    else:
        root = policy.document_root or environment.get(ROOT)
        if not root:
            raise InputError(
                f"Label Studio needs a way to show images: set labeling.document_root (or {ROOT}) to the "
                "folder it was started with, or labeling.image_base_url to a server of the media folder"
            )
        folder = shared_folder(Path(root), folder_name(workspace))
        urls = [_show(workspace, folder, i, progress) for i in images]
        studio.serve_folder(project, folder)
    tasks = [to_task(i["digest"], url) for i, url in zip(images, urls, strict=True)]
    pushed = studio.push(project, tasks)
    workspace.catalog.add("task", pushed.tasks, replace=True)
    studio.check_image(urls[0], images[0]["digest"])
    return {
        "project": project.key,
        "tasks": len(pushed.tasks),
        "new_tasks": pushed.new,
        "annotations": label_status(workspace)["annotations"],
        "note": project.note,
    }


def pull(workspace: Workspace, environment: Mapping[str, str]) -> dict[str, Any]:
    """Every vote of the project becomes a row, once.

    Raises:
        InputError: if nothing was pushed yet.
    """
    studio = _studio(workspace, environment)
    project = studio.find_project(workspace.policy.labeling.project)
    if project is None:
        raise InputError(
            f"{studio.url} has no project titled {workspace.policy.labeling.project!r}; "
            "run `wildrf label push` first, or mend labeling.project"
        )
    return {"project": project.key, **take_in(workspace, studio.pull(project), project.key)}


def import_file(workspace: Workspace, path: Path) -> dict[str, Any]:
    """The votes in a Label Studio JSON export become rows."""
    return {"file": str(path), **take_in(workspace, read_export(path), f"file:{path.name}")}


def export_file(workspace: Workspace, path: Path) -> dict[str, Any]:
    """A task file for any Label Studio, without a server.

    Raises:
        InputError: if `labeling.image_base_url` does not say where the images can be seen.
    """
    policy = workspace.policy.labeling
    images = images_to_label(workspace)
    names = {i["digest"]: file_name(i["digest"], i["format"]) for i in images}

    def url(digest: str) -> str:
        if policy.image_base_url:
            return web_url(policy.image_base_url, digest)
        return local_file_url(folder_name(workspace), names[digest])

    try:
        path.write_text(to_export(names, url), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); name another file"
        ) from None
    return {"file": str(path), "tasks": len(images), "annotations": 0}


def status(workspace: Workspace) -> dict[str, Any]:
    """How far labelling is."""
    return label_status(workspace)


def lines(result: dict[str, Any]) -> list[str]:
    """Whatever a label verb found, a line per fact."""
    return [
        f"{key.replace('_', ' ')}: {_told(value)}"
        for key, value in result.items()
        if value not in (None, {})
    ]


def _told(value: Any) -> str:
    """A fact in words; counts by reason as `3 x reason`."""
    if isinstance(value, dict):
        return ", ".join(f"{n} x {reason}" for reason, n in value.items())
    return str(value)


def _studio(workspace: Workspace, environment: Mapping[str, str]) -> Any:
    from labeling.client import Studio

    return Studio(workspace.policy.labeling.url, environment.get(KEY, ""))


def folder_name(workspace: Workspace) -> str:
    """The folder of this set under the server's document root; says nothing to annotators."""
    return f"wildrf-{workspace.policy.name}"


def _show(workspace: Workspace, folder: Path, image: dict[str, Any], progress: Progress) -> str:
    digest = image["digest"]
    name = file_name(digest, image["format"])
    place(
        name,
        folder,
        file=workspace.store.local_path(digest),
        read=lambda: workspace.store.get(digest),
    )
    progress.advance(1)
    return local_file_url(folder.name, name)
