"""The verb `explain`: maps of patch logits, the patches that say most, and how smooth they are.

In the folder: `maps/N.png` (the map over the picture), `maps/N.npy` (its logits), `grid/N.png` (the
most fake patch in the JPEG grid), `patches.png` (the contact sheet), `index.html` and `explain.json`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from curate.work import Progress
from pipelines.detect import checkpoint_of
from pipelines.output import skip_lines
from schemas.errors import InputError
from schemas.layout import SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image

    from train.checkpoint import LoadedDetector
    from train.explain import View
    from train.patches import Patch

QUANTILE = 0.99
"""Of |logit| in each picture; the median over pictures is full colour in all maps."""

PER_PICTURE = 3
"""Patches of one picture on the contact sheet, of either kind."""

ON_SHEET = 24
"""Patches on the contact sheet, of either kind."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One command line."""

    checkpoint: Path
    paths: tuple[Path, ...]
    out: Path
    own_size: bool | None = None
    max_images: int = 24
    device: str = "auto"


def run(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Explain the pictures and leave everything in `asked.out`.

    Raises:
        InputError: if a path does not exist, or no picture decodes.
        CheckpointError: if the checkpoint cannot be used.
    """
    from pipelines.report.explain import write_explain_page
    from train.artifacts import open_run_folder, write_json
    from train.checkpoint import load_detector
    from train.config import choose_compute, code_versions
    from train.patches import mean_with_interval

    loaded = load_detector(checkpoint_of(asked.checkpoint))
    compute = choose_compute(asked.device, "float32", loaded.spec)
    found = list(files(asked.paths))
    own = loaded.preprocessing.fit == "native" if asked.own_size is None else asked.own_size
    for folder in (asked.out, asked.out / "maps", asked.out / "grid"):
        open_run_folder(folder)
    progress.start("explain", 2 * min(len(found), asked.max_images))
    rows, skipped = _measure(asked, found[: asked.max_images], loaded, own, compute, progress)
    if not rows:
        raise InputError(
            f"none of {len(skipped)} files decodes (first: {skipped[0]['reason']}); expected images; "
            "check the paths"
        )
    limit = max(median(row["limit"] for row in rows), 1e-6)
    patches = _chosen(rows)
    _draw(asked, rows, loaded, limit, patches, progress)
    correlations = [row["smoothness"] for row in rows if row["smoothness"] is not None]
    result = {
        "checkpoint": _described(asked.checkpoint, loaded),
        "preprocessing": {**loaded.preprocessing.to_dict(), "digest": loaded.preprocessing.digest},
        "fed": "whole pictures at their own size" if own else "what the score is made of",
        "limit": limit,
        "images": rows,
        "of": len(found),
        "skipped": skipped,
        "smoothness": mean_with_interval(correlations),
        "patches": patches,
        "versions": code_versions(),
    }
    write_json(asked.out / "explain.json", result)
    page = write_explain_page(result, asked.out)
    return {**result, "report": str(page)}


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """The images named, and those below the folders named, in order.

    Raises:
        InputError: if a path does not exist, or a folder holds no image.
    """
    from train.data import walk_files

    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; expected an image or a folder of images")
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path / f for f in walk_files(path) if f.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(f"{path} holds no image file; expected names such as .jpg; check it")
        yield from inside


def _open(path: Path, loaded: "LoadedDetector") -> "Image":
    from train.data import quiet_decoder
    from train.stress.sample import open_image
    from train.transforms import to_rgb

    with quiet_decoder(), open_image(path.read_bytes()) as image:
        return to_rgb(image, loaded.preprocessing)


def _measure(
    asked: Asked,
    found: Sequence[Path],
    loaded: "LoadedDetector",
    own: bool,
    compute: Any,
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """One row per picture, its map left as maps/N.npy; and what does not decode."""
    import numpy as np

    from train.explain import look
    from train.stress.sample import why

    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for path in found:
        try:
            picture = _open(path, loaded)
        except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
            skipped.append({"path": str(path), "reason": why(error)})
        else:
            view = look(loaded, picture, own_size=own, compute=compute)
            name = f"{len(rows):04d}"
            np.save(asked.out / "maps" / f"{name}.npy", view.patches)
            rows.append({"name": name, "path": str(path), **_row(view, path, loaded)})
        progress.advance(1)
    return rows, skipped


def _row(view: "View", path: Path, loaded: "LoadedDetector") -> dict[str, Any]:
    import numpy as np

    from train.explain import score_of
    from train.patches import extremes, phase_means, roughness, smoothness_correlation

    spec = loaded.spec
    rough = roughness(view.fed, spec.receptive_field, spec.stride)
    top = {
        kind: extremes(str(path), view.patches, loaded, PER_PICTURE, most_fake=kind == "fake")
        for kind in ("fake", "real")
    }
    return {
        "width": view.picture.width,
        "height": view.picture.height,
        "at_own_size": view.at_own_size,
        "logit": score_of(loaded, view.picture),
        "mean_of_map": float(view.patches.mean()),
        "grid": list(view.patches.shape),
        "limit": float(np.quantile(np.abs(view.patches), QUANTILE)),
        "smoothness": smoothness_correlation(view.patches, rough),
        "phase": phase_means(view.patches, spec.stride),
        **{
            f"most_{kind}": [_placed(patch, view, loaded) for patch in found]
            for kind, found in top.items()
        },
    }


def _placed(patch: "Patch", view: "View", loaded: "LoadedDetector") -> dict[str, Any]:
    """A patch with its box in the picture's own pixels."""
    box = view.box(patch.x, patch.y, loaded.spec.receptive_field)
    return {**asdict(patch), "box": [round(v, 2) for v in box]}


def _chosen(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The patches of the contact sheet: of all pictures, those that say most."""
    sheet = {}
    for kind, sign in (("fake", -1), ("real", 1)):
        every = [{**patch, "name": row["name"]} for row in rows for patch in row[f"most_{kind}"]]
        sheet[kind] = sorted(every, key=lambda p: (sign * p["logit"], p["source"], p["y"]))[
            :ON_SHEET
        ]
    return sheet


def _draw(
    asked: Asked,
    rows: Sequence[dict[str, Any]],
    loaded: "LoadedDetector",
    limit: float,
    patches: dict[str, list[dict[str, Any]]],
    progress: Progress,
) -> None:
    """The pictures of the folder; each file is decoded once more, one at a time."""
    import numpy as np

    from pipelines.report.explain import cut_patch, save_sheet
    from train.explain import grid_overlay, overlay, view_of
    from train.patches import Patch

    cuts: dict[tuple[str, str, int, int], Any] = {}
    for row in rows:
        picture = _open(Path(row["path"]), loaded)
        logits = np.load(asked.out / "maps" / f"{row['name']}.npy")
        view = view_of(loaded, picture, logits, own_size=row["at_own_size"])
        overlay(view, loaded, limit).save(asked.out / "maps" / f"{row['name']}.png")
        strongest = row["most_fake"][0]
        patch = Patch(row["path"], strongest["x"], strongest["y"], strongest["logit"])
        grid_overlay(view, loaded, limit, patch).save(asked.out / "grid" / f"{row['name']}.png")
        for kind, chosen in patches.items():
            for one in chosen:
                if one["name"] == row["name"]:
                    cuts[kind, one["name"], one["x"], one["y"]] = cut_patch(picture, one["box"])
        progress.advance(1)
    save_sheet(patches, cuts, asked.out / "patches.png")


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
    found = result["smoothness"]
    if found is not None:
        told.append(
            f"rank correlation of patch logit with smoothness: {found['value']:+.3f} "
            f"[{found['low']:+.3f}, {found['high']:+.3f}] (mean of {found['n']} images)"
        )
    if result["of"] > len(result["images"]) + len(result["skipped"]):
        told.append(f"the first {len(result['images'])} of {result['of']}; --max-images for more")
    return [*told, f"report: {result['report']}"]
