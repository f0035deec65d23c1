"""Release: images on disk in WildRF layout, byte for byte, with a manifest that lists every one.

The folder is written beside its place and renamed when complete, so a release that exists is whole. The root
hash is the SHA-256 of the sorted lines ``<sha256>  <path>`` of its images, so ``sha256sum`` can check it
without this program.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.store import MediaStore
from curate.work import Progress, Silent
from schemas.errors import InputError
from schemas.labels import Label
from schemas.layout import MANIFEST

SUMS = "SHA256SUMS"
"""The list that ``sha256sum --check`` reads; its own digest is the root hash."""

SIMULATED = (
    "**Simulated data.** A program made these images and posts; nothing here is of a real platform."
)


@dataclass(frozen=True, slots=True)
class Materialised:
    """A release on disk."""

    path: Path
    images: int
    root_hash: str


def materialise(
    manifest: pa.Table,
    store: MediaStore,
    place: Path,
    facts: dict[str, Any],
    progress: Progress | None = None,
) -> Materialised:
    """Write the images of `manifest` (columns digest, path, ...) under `place`, with their manifest.

    Raises:
        InputError: if nothing is to be released, or `place` holds something else.
        DigestMismatch: if bytes in the store are damaged; nothing is left behind then.
    """
    progress = progress or Silent()
    rows = manifest.select(["digest", "path"]).to_pylist()
    if not rows:
        raise InputError(
            "no image is in this release; run `wildrf split` and see what was left out"
        )
    root_hash = root_of(rows)
    if place.exists():
        return _existing(place, root_hash, len(rows))
    waiting = place.with_name(f".{place.name}.part")
    shutil.rmtree(waiting, ignore_errors=True)
    progress.start(f"release {place.name}", len(rows))
    for row in rows:
        _copy(store, row["digest"], waiting / inside(row["path"]))
        progress.advance(1)
    (waiting / SUMS).write_text(sums(rows), encoding="utf-8")
    described = {**facts, "images": len(rows), "root_hash": root_hash}
    (waiting / "release.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    (waiting / "README.md").write_text(card(manifest, described), encoding="utf-8")
    pq.write_table(
        manifest.replace_schema_metadata({"wildrf": json.dumps(described)}), waiting / MANIFEST
    )
    waiting.rename(place)
    return Materialised(place, len(rows), root_hash)


def sums(rows: Iterable[dict[str, Any]]) -> str:
    """One line per image, digest and path, in the order of the paths."""
    return "".join(f"{r['digest']}  {r['path']}\n" for r in sorted(rows, key=lambda r: r["path"]))


def root_of(rows: Iterable[dict[str, Any]]) -> str:
    """The root hash of images given as digest and path."""
    return hashlib.sha256(sums(rows).encode()).hexdigest()


def inside(path: str) -> PurePosixPath:
    """`path` as a relative path that cannot leave its root.

    Raises:
        InputError: if it would.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise InputError(f"manifest path {path!r} leaves the release; expected a relative path")
    return pure


def card(manifest: pa.Table, facts: dict[str, Any]) -> str:
    """The data card: what is inside, how it came to be, and what it is not."""
    lines = [
        f"# {facts['name']}",
        "",
        *([SIMULATED, ""] if facts.get("simulated") else []),
        "Images from social platforms, real and AI-generated, in WildRF layout "
        "(`train`, `val`, `test/<platform>`, each with `0_real` and `1_fake`).",
        f"{facts['images']} images; root hash `{facts['root_hash']}` (the SHA-256 of `{SUMS}`).",
        "",
        "| split | platform | real | fake |",
        "| --- | --- | --- | --- |",
        *(f"| {s} | {p} | {r} | {f} |" for s, p, r, f in _table(manifest)),
        "",
        "Bytes are as the platform served them; nothing was re-encoded. Labels are human decisions "
        "(column `label`; votes and agreement beside it). Authors appear as keyed hashes only.",
        f"Images left out, with reasons: {json.dumps(facts.get('dropped', {}), sort_keys=True)}.",
        "",
        "How it was made (policy, versions): `release.json`. Every image: `manifest.parquet`.",
        "",
    ]
    return "\n".join(lines)


def _table(manifest: pa.Table) -> Sequence[tuple[str, str, int, int]]:
    cells: dict[tuple[str, str], list[int]] = {}
    for row in manifest.select(["split", "platform", "label"]).to_pylist():
        cell = cells.setdefault((row["split"], row["platform"]), [0, 0])
        cell[Label(row["label"])] += 1
    return [(s, p, c[0], c[1]) for (s, p), c in sorted(cells.items())]


def _copy(store: MediaStore, digest: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(store.get(digest))


def _existing(place: Path, root_hash: str, images: int) -> Materialised:
    try:
        found = json.loads((place / "release.json").read_text())["root_hash"]
    except (OSError, ValueError, KeyError):
        found = None
    if found == root_hash:
        return Materialised(place, images, root_hash)
    raise InputError(
        f"{place} already holds something else (root hash {str(found)[:12]}, expected {root_hash[:12]}); "
        "move it away, or give the release a new name"
    )
