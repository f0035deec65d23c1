"""The verb `explain`: maps of patch logits, the patches that say most, and how smooth they are.

In the folder: `maps/N.png` (the map over the picture), `maps/N.npy` (its logits), `grid/N.png` (the
most fake patch in the JPEG grid), `patches.png` (the contact sheet), `index.html` and `explain.json`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from curate.work import Progress
from pipelines.detect import checkpoint_of, require_images
from pipelines.output import skip_lines
from pipelines.stress import default_place
from schemas.errors import InputError
from schemas.labels import Label
from schemas.layout import SUFFIXES, place

if TYPE_CHECKING:
    from PIL.Image import Image

    from train.checkpoint import LoadedDetector
    from train.config import Compute
    from train.explain import View

QUANTILE = 0.99
"""Of |logit| in each picture; the median over pictures is full colour in all maps."""

PER_PICTURE = 3
"""Patches of one picture on the contact sheet, of either kind."""

ON_SHEET = 24
"""Patches on the contact sheet, of either kind."""

MAP, OVERLAY, GRID = "maps/{}.npy", "maps/{}.png", "grid/{}.png"
"""What is left of each picture, by its name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One command line. `out` None means the run folder's own."""

    checkpoint: Path
    paths: tuple[Path, ...]
    out: Path | None = None
    own_size: bool | None = None
    max_images: int = 24
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Looking:
    """Who looks, where it runs, whether at whole pictures, and the folder for what is seen."""

    loaded: "LoadedDetector"
    compute: "Compute"
    own_size: bool
    out: Path


def run(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Explain the pictures and leave everything in `asked.out`.

    Raises:
        InputError: if a path does not exist, no picture decodes, or there is no place for the pages.
        CheckpointError: if the checkpoint cannot be used.
    """
    from pipelines.report.explain import write_explain_page
    from train.artifacts import write_json
    from train.simulated import is_simulated

    looking = _looking(asked)
    found = list(files(asked.paths))
    chosen = choose(found, asked.max_images)
    _make_room(looking.out, len(chosen))
    progress.start("explain", 2 * len(chosen))
    rows, skipped = _measure(looking, chosen, progress)
    if not rows:
        raise InputError(
            f"none of {len(skipped)} files decodes (first: {skipped[0]['reason']}); expected images; "
            "check the paths"
        )
    result = {
        "checkpoint": _described(asked.checkpoint, looking.loaded),
        **_summary(looking, rows),
        "of": len(found),
        "simulated": is_simulated(asked.checkpoint, *asked.paths),
        "skipped": skipped,
    }
    _draw(looking, result, progress)
    write_json(looking.out / "explain.json", result)
    return {**result, "report": str(write_explain_page(result, looking.out))}


def _looking(asked: Asked) -> Looking:
    from train.checkpoint import load_detector
    from train.config import choose_compute

    checkpoint = checkpoint_of(asked.checkpoint)
    loaded = load_detector(checkpoint)
    compute = choose_compute(asked.device, "float32", loaded.spec)
    own = loaded.preprocessing.fit == "native" if asked.own_size is None else asked.own_size
    out = asked.out or default_place(checkpoint, "explain")
    if out is None:
        raise InputError(
            f"{checkpoint} is of no run; expected a place for the pages; add --out DIR"
        )
    return Looking(loaded, compute, own, out)


def _make_room(out: Path, count: int) -> None:
    """The folders, without what an earlier run left; explain.json names `count` pictures to come.

    Removed are files that an explain.json names, and no others: an interrupted run's are named as well.
    """
    from train.artifacts import open_run_folder, write_json

    for folder in (out, out / "maps", out / "grid"):
        open_run_folder(folder)
    for name in _names_in(out / "explain.json"):
        for file in (MAP, OVERLAY, GRID, "index.html", "patches.png"):
            (out / file.format(name)).unlink(missing_ok=True)
    write_json(out / "explain.json", {"images": [{"name": _name(n)} for n in range(count)]})


def _names_in(file: Path) -> list[str]:
    """The names of pictures in an explain.json; none where there is no such file."""
    try:
        names = [str(row["name"]) for row in json.loads(file.read_bytes())["images"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if re.fullmatch(r"\d{4,}", name)]


def _name(number: int) -> str:
    return f"{number:04d}"


def _summary(looking: Looking, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the pictures say together."""
    from train.config import code_versions
    from train.patches import mean_with_interval

    preprocessing = looking.loaded.preprocessing
    correlations = [row["smoothness"] for row in rows if row["smoothness"] is not None]
    return {
        "preprocessing": {**preprocessing.to_dict(), "digest": preprocessing.digest},
        "fed": "whole pictures at their own size"
        if looking.own_size
        else "what the score is made of",
        "limit": max(median(row["limit"] for row in rows), 1e-6),
        "images": rows,
        "smoothness": mean_with_interval(correlations),
        "patches": _chosen(rows),
        "versions": code_versions(),
    }


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """The images named, and those below the folders named, in order.

    Raises:
        InputError: if a path does not exist, or a folder holds no image.
    """
    from train.data import walk_files

    require_images(paths)
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path / f for f in walk_files(path) if f.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(f"{path} holds no image file; expected names such as .jpg; check it")
        yield from inside


def choose(found: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of the pictures, in their order: as many of either class, spread over all of it.

    The class is what the folders say; pictures without one are a class of their own.
    """
    from train.deploy.parity import spread_over

    classes: dict[Label | None, list[int]] = {}
    for position, path in enumerate(found):
        at = place(path)
        classes.setdefault(at.label if at else None, []).append(position)
    chosen: list[int] = []
    for done, part in enumerate(sorted(classes.values(), key=len)):  # what a small one leaves over
        chosen += spread_over(part, (most - len(chosen)) // (len(classes) - done))
    return [found[position] for position in sorted(chosen)]


def _open(path: Path, loaded: "LoadedDetector") -> tuple["Image", tuple[int, int]]:
    """The upright picture, and where in it the JPEG grid begins."""
    from train.data import quiet_decoder
    from train.explain import grid_origin
    from train.stress.sample import open_image
    from train.transforms import to_rgb

    with quiet_decoder(), open_image(path.read_bytes()) as image:
        upright = to_rgb(image, loaded.preprocessing)
        return upright, grid_origin(image, loaded.preprocessing)


def _measure(
    looking: Looking, found: Sequence[Path], progress: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """One row per picture, its map left as maps/N.npy; and what does not decode."""
    from train.stress.sample import why

    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for path in found:
        try:
            opened = _open(path, looking.loaded)
        except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
            skipped.append({"path": str(path), "reason": why(error)})
        else:
            rows.append(_row(looking, path, _name(len(rows)), *opened))
            del opened  # the next picture may need the room
        progress.advance(1)
    return rows, skipped


def _row(
    looking: Looking, path: Path, name: str, picture: "Image", origin: tuple[int, int]
) -> dict[str, Any]:
    import numpy as np

    from train.explain import look, score_of
    from train.patches import phase_means, roughness, smoothness_correlation

    loaded, compute = looking.loaded, looking.compute
    view = look(loaded, picture, own_size=looking.own_size, compute=compute)
    np.save(looking.out / MAP.format(name), view.patches)
    rough = roughness(view.fed, loaded.spec.receptive_field, loaded.spec.stride)
    return {
        "name": name,
        "path": str(path),
        "width": picture.width,
        "height": picture.height,
        "at_own_size": view.at_own_size,
        "jpeg_grid": list(origin),
        "logit": score_of(loaded, view, compute),
        "mean_of_map": float(view.patches.mean()),
        "grid": list(view.patches.shape),
        "limit": float(np.quantile(np.abs(view.patches), QUANTILE)),
        "smoothness": smoothness_correlation(view.patches, rough),
        "phase": phase_means(view.patches, loaded.spec.stride, origin),
        "most_fake": _most(path, view, loaded, fake=True),
        "most_real": _most(path, view, loaded, fake=False),
    }


def _most(
    path: Path, view: "View", loaded: "LoadedDetector", *, fake: bool
) -> list[dict[str, Any]]:
    """The patches that say most, each with its box in the picture's own pixels."""
    from train.patches import extremes

    field = loaded.spec.receptive_field
    return [
        {**asdict(patch), "box": [round(v, 2) for v in view.box(patch.x, patch.y, field)]}
        for patch in extremes(str(path), view.patches, loaded, PER_PICTURE, most_fake=fake)
    ]


def _chosen(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The patches of the contact sheet: of all pictures, those that say most."""
    sheet = {}
    for kind, sign in (("fake", -1), ("real", 1)):
        every = [{**patch, "name": row["name"]} for row in rows for patch in row[f"most_{kind}"]]
        sheet[kind] = sorted(every, key=lambda p: (sign * p["logit"], p["source"], p["y"]))[
            :ON_SHEET
        ]
    return sheet


def _draw(looking: Looking, result: dict[str, Any], progress: Progress) -> None:
    """The pictures of the folder; each file is decoded once more, one at a time."""
    from pipelines.report.explain import save_sheet

    cuts: dict[tuple[str, str, int, int], Any] = {}
    for row in result["images"]:
        cuts |= _draw_one(looking, row, result)
        progress.advance(1)
    save_sheet(result["patches"], cuts, looking.out / "patches.png")


def _draw_one(
    looking: Looking, row: dict[str, Any], result: dict[str, Any]
) -> dict[tuple[str, str, int, int], Any]:
    """The map over one picture, its most fake patch in the JPEG grid, and its patches for the sheet."""
    import numpy as np

    from pipelines.report.explain import cut_patch
    from train.explain import grid_overlay, overlay, view_of
    from train.patches import Patch

    out, name, loaded, limit = looking.out, row["name"], looking.loaded, result["limit"]
    picture, origin = _open(Path(row["path"]), loaded)
    logits = np.load(out / MAP.format(name))
    view = view_of(loaded, picture, logits, own_size=row["at_own_size"])
    overlay(view, loaded, limit).save(out / OVERLAY.format(name))
    strongest = row["most_fake"][0]
    patch = Patch(row["path"], strongest["x"], strongest["y"], strongest["logit"])
    grid_overlay(view, loaded, limit, patch, origin=origin).save(out / GRID.format(name))
    return {
        (kind, name, one["x"], one["y"]): cut_patch(picture, one["box"])
        for kind, chosen in result["patches"].items()
        for one in chosen
        if one["name"] == name
    }


def _described(path: Path, loaded: "LoadedDetector") -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": loaded.digest,
        "detector": loaded.spec.name,
        "receptive_field": loaded.spec.receptive_field,
        "stride": loaded.spec.stride,
        "pooling": loaded.model.pooling,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The outcome for people."""
    told = [f"{row['logit']:+.3f}  {row['path']}" for row in result["images"]]
    told += skip_lines(result["skipped"], "explain.json")
    if result["smoothness"] is not None:
        told.append(_smoothness(result["smoothness"]))
    if result["of"] > len(result["images"]) + len(result["skipped"]):
        told.append(
            f"{len(result['images'])} of {result['of']} pictures, spread over all and alike over the "
            "classes; --max-images for more"
        )
    return [*told, f"report: {result['report']}"]


def _smoothness(found: dict[str, Any]) -> str:
    """Of few pictures there is a mean and no interval."""
    images = "1 image" if found["n"] == 1 else f"{found['n']} images"
    inside = "" if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}] "
    few = "; too few for an interval" if found["low"] is None else ""
    return (
        f"rank correlation of patch logit with smoothness: {found['value']:+.3f} "
        f"{inside}(mean of {images}{few})"
    )
