"""Parts of an evaluation's page that are made of what other verbs left: stress tests, heat maps.

Each leaves a JSON file that names the checkpoint it is about, looked for in the folder of the evaluation and
in that of the run. What is of other weights than those evaluated is left out, and the page says so.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from markupsafe import Markup
from PIL import Image

from pipelines.report import page
from pipelines.report.contact_sheet import data_uri
from pipelines.report.stress import stress_part
from schemas.labels import FOLDERS

SHOWN = 12
"""Heat maps shown."""

MAP_PX = 420

DIGITS = 16
"""Of a checkpoint's SHA-256, as pages show it."""

OTHER_WEIGHTS = (
    "Left out: what `wildrf {verb}` left here is of checkpoint {theirs}, not of {mine}, which was evaluated. "
    "Run whichever is older again."
)


@dataclass(frozen=True, slots=True)
class Left:
    """What a verb left: the folder, the SHA-256 of the checkpoint it is about, the content of its JSON."""

    folder: Path
    sha256: str
    found: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: the verb that leaves what it shows, and how that is shown."""

    verb: str
    title: str
    words: str
    show: Callable[[Left], Markup]


def left_by(verb: str, folders: Sequence[Path]) -> list[Left]:
    """What `verb` left in `folders`, or in a folder of its own in one of them; damaged files are none."""
    found = []
    for folder in (place for f in folders for place in (f, f / verb)):
        try:
            content = json.loads((folder / f"{verb}.json").read_bytes())
            found.append(Left(folder, str(content["checkpoint"]["sha256"]), content))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def of_weights(verb: str, folders: Sequence[Path], sha256: str) -> Left | None:
    """What `verb` left of the checkpoint with this SHA-256."""
    return next((left for left in left_by(verb, folders) if left.sha256 == sha256), None)


def sections_of(folders: Sequence[Path], sha256: str) -> list[dict[str, Any]]:
    """{title, words, content} of every section that something was left for."""
    shown = []
    for section in SECTIONS:
        mine = of_weights(section.verb, folders, sha256)
        if mine is not None:
            content = section.show(mine)
            shown.append({"title": section.title, "words": section.words, "content": content})
        elif others := left_by(section.verb, folders):
            words = OTHER_WEIGHTS.format(
                verb=section.verb, theirs=others[0].sha256[:DIGITS], mine=sha256[:DIGITS]
            )
            shown.append({"title": section.title, "words": words, "content": ""})
    return shown


def exposed(folders: Sequence[Path], sha256: str) -> list[str]:
    """What stress tests caught the detector with this SHA-256 reading."""
    left = of_weights("stress", folders, sha256)
    tests = left.found["tests"].values() if left else ()
    return [test["verdict"] for test in tests if test.get("exposed") is True]


def show_stress(left: Left) -> Markup:
    """Every test with its plots, its verdict and its figures, as on its own page."""
    return stress_part(left.found)


def show_maps(left: Left) -> Markup:
    """Some of the maps, spread over all, each with the name of its picture and the logit."""
    rows = left.found["images"]
    tiles = [
        {"name": short_name(row["path"]), "logit": row["logit"], "source": source}
        for row in some_of(rows, SHOWN)
        if (source := _inline(left.folder / "maps" / f"{row['name']}.png")) is not None
    ]
    limit, count = left.found["limit"], len(rows)
    return Markup(  # noqa: S704  # escaped by the template
        page.render("heat_maps.html", title="", tiles=tiles, limit=limit, count=count)
    )


def some_of(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most` rows, spread over all: pictures are sorted, so that the first are of one class."""
    shown = min(most, len(rows))
    return [rows[k * len(rows) // shown] for k in range(shown)]


def short_name(path: str) -> str:
    """The name of a picture, with the leaf folder that tells its label, and no place of this machine."""
    *_, folder, name = ("", *PurePath(path).parts)
    return f"{folder}/{name}" if folder in FOLDERS.values() else name


def _inline(file: Path) -> str | None:
    """A PNG as a data URI no wider than `MAP_PX`; None if it does not open."""
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except (OSError, ValueError):
        return None
    small.thumbnail((MAP_PX, MAP_PX))
    return data_uri(small)


SECTIONS: tuple[Section, ...] = (
    Section(
        "stress",
        "Stress tests",
        "What is left of the detector when images are treated as the world treats them.",
        show_stress,
    ),
    Section(
        "explain",
        "Heat maps",
        "Where the detector sees generation: red speaks for fake, blue for real.",
        show_maps,
    ),
)
"""Parts made of what other verbs left. To add one: a function of `Left`, and an entry here."""
