"""Whether the images behind a number were made by a program: such a number is never shown as a real one.

A workspace says so in wildrf.toml, its releases in release.json and its runs in config.json: a release
or a run that was moved elsewhere still says it.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SAYING: Mapping[str, Callable[[str], Any]] = {
    "release.json": json.loads,
    "config.json": json.loads,
    "wildrf.toml": lambda text: {"simulated": False, **tomllib.loads(text)},
}
"""The files that may say it, and how each is read. A policy that does not say it means no."""


def is_simulated(*places: Path) -> bool:
    """Whether one of these files or folders is of a simulated set, by the nearest record above it."""
    return any(_said_of(place.absolute()) for place in places)


def _said_of(place: Path) -> bool:
    for folder in (place, *place.parents):
        for name, read in SAYING.items():
            said = _said_in(folder / name, read)
            if said is not None:
                return said
    return False


def _said_in(file: Path, read: Callable[[str], Any]) -> bool | None:
    """What a file says; None if it says nothing, or is not there."""
    try:
        found = read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    said = found.get("simulated") if isinstance(found, dict) else None
    return said if isinstance(said, bool) else None
