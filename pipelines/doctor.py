"""Doctor: can this machine and this workspace do the work? Each check says what it saw."""

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from curate.tombstones import forgotten, unfinished
from curate.workspace import Workspace
from schemas.errors import WildrfError

PACKAGES = ("pillow", "pyarrow", "duckdb", "numpy", "imagehash", "requests", "scikit-learn")
EXTRAS = {
    "torch": "train",
    "label-studio-sdk": "label",
    "datasets": "exchange",
    "praw": "live",
    "distributed": "cluster",
    "onnxruntime": "onnx",
}
"""Optional packages and the extra that brings each."""

SAMPLE = 200
"""Media files whose bytes are hashed again; all of them, with `--all`, would take as long as a release."""

LEAST_FREE_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `ok` is None where the thing is optional and absent."""

    name: str
    ok: bool | None
    detail: str


def examine(
    workspace: Workspace | None, environment: dict[str, str], trouble: str | None = None
) -> dict[str, Any]:
    """Every check, in the order of `CHECKS`; `trouble` is why the workspace could not be opened."""
    checks = [check for find in CHECKS for check in find(workspace, environment)]
    if trouble is not None:
        checks = [c for c in checks if c.name != "workspace"]
        checks.append(Check("workspace", False, trouble))
    return {
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks],
        "ok": all(c.ok is not False for c in checks),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """One line per check."""
    marks = {True: "ok  ", False: "FAIL", None: "-   "}
    return [f"{marks[c['ok']]} {c['name']}: {c['detail']}" for c in result["checks"]]


def _versions(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    ok = sys.version_info >= (3, 11)
    yield Check("python", ok, f"{platform.python_version()}, needs 3.11 or newer")
    for name in PACKAGES:
        found = _installed(name)
        yield Check(name, found is not None, found or "not installed; run `pip install wildrf`")
    for name, extra in EXTRAS.items():
        found = _installed(name)
        detail = found or f"not installed; `pip install 'wildrf[{extra}]'` brings it"
        yield Check(name, True if found else None, detail)


def _codecs(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    from PIL import features

    for name in ("jpg", "zlib", "webp", "avif"):
        yield Check(f"decoder {name}", bool(features.check(name)), "in Pillow")


def _disk(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    place = workspace.root if workspace else Path.cwd()
    free = shutil.disk_usage(place).free
    yield Check("disk", free > LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free at {place}")


def _device(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    if _installed("torch") is None:
        yield Check("torch device", None, "torch is not installed")
        return
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        yield Check("torch device", True, f"cuda: {torch.cuda.get_device_name(0)}")
    elif torch.backends.mps.is_available():
        yield Check("torch device", True, "mps")
    else:
        yield Check("torch device", True, f"cpu, {torch.get_num_threads()} threads")


def _label_studio(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    import requests

    if workspace is None:
        return
    url = workspace.policy.labeling.url
    try:
        answer = requests.get(f"{url.rstrip('/')}/health", timeout=3)
    except requests.RequestException as error:
        yield Check("label studio", None, f"not reachable at {url} ({type(error).__name__})")
        return
    key = "set" if environment.get("LABEL_STUDIO_API_KEY") else "NOT set"
    yield Check("label studio", answer.ok, f"{url} answers {answer.status_code}; API key {key}")


def _catalog(workspace: Workspace | None, environment: dict[str, str]) -> Iterator[Check]:
    if workspace is None:
        yield Check("workspace", None, "none here; make one with `wildrf init DIR`")
        return
    try:
        counts = workspace.catalog.counts()
    except WildrfError as error:
        yield Check("catalog", False, str(error))
        return
    yield Check(
        "catalog", True, ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "empty"
    )
    yield _secret(workspace)
    yield _store(workspace)
    yield _takedown(workspace)


def _secret(workspace: Workspace) -> Check:
    try:
        size = len(workspace.secret)
    except WildrfError as error:
        return Check("secret", False, str(error))
    mode = (workspace.root / "secret.key").stat().st_mode & 0o077
    if mode and os.name == "posix":
        return Check(
            "secret", False, "secret.key can be read by others; run `chmod 600 secret.key`"
        )
    return Check("secret", size >= 32, f"{8 * size} bits, readable by its owner only")


def _store(workspace: Workspace) -> Check:
    """A sample of the media, hashed again: what the catalog says is here, is here and whole."""
    rows = workspace.catalog.rows(
        "SELECT DISTINCT digest FROM stored ORDER BY hash(digest) LIMIT $n",
        n=SAMPLE,
    )
    broken = []
    for row in rows:
        try:
            workspace.store.get(row["digest"])
        except WildrfError as error:
            broken.append(str(error))
    if broken:
        return Check("media store", False, f"{len(broken)} of {len(rows)} looked at: {broken[0]}")
    return Check("media store", True, f"{len(rows)} files hashed again, all whole")


def _takedown(workspace: Workspace) -> Check:
    """Nothing that was forgotten is here any more."""
    left = [digest for digest in forgotten(workspace) if workspace.store.has(digest)]
    if left or unfinished(workspace):
        detail = f"{len(left)} forgotten pictures are still stored; run `wildrf forget` to finish"
        return Check("takedown", False, detail)
    return Check("takedown", True, "nothing that was forgotten is stored")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


CHECKS: tuple[Callable[[Workspace | None, dict[str, str]], Iterator[Check]], ...] = (
    _versions,
    _codecs,
    _disk,
    _device,
    _label_studio,
    _catalog,
)
"""What is looked at, in order."""
