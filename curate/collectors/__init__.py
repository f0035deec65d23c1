"""The platforms we can collect from. To add one: write its file, add its line here.

Collectors may import `curate.exports`, `curate.collectors.contract`, `curate.collectors.reading` and
schemas; they know neither each other nor the catalog. A package of somebody else adds one by an entry
point of the group `wildrf.collectors` that names a module with the same verbs.
"""

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points

from curate.collectors import reddit, x
from curate.collectors.contract import Collector, Format
from curate.exports import Export
from schemas.errors import ExportError, InputError

log = logging.getLogger(__name__)

COLLECTORS: dict[str, Collector] = {
    "reddit": reddit,
    "x": x,
}

GROUP = "wildrf.collectors"


def installed() -> dict[str, Collector]:
    """Our collectors, and those that other packages bring; ours win where names meet."""
    found: dict[str, Collector] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:
            # somebody else's package must not keep ours from working
            log.warning("collector %s of %s does not load: %s", point.name, point.value, error)
    return {**found, **COLLECTORS}


def detect(
    export: Export,
    platform: str | None = None,
    collectors: Mapping[str, Collector] | None = None,
) -> list[tuple[Collector, Format]]:
    """The collectors that recognise an export, each with the format; mostly one.

    An export may hold posts of two platforms (an Instagram download has those of Threads). Only `platform`
    is asked where it is given.

    Raises:
        InputError: there is no such platform.
        ExportError: nobody recognises the export.
    """
    known = installed() if collectors is None else collectors
    if platform is not None and platform not in known:
        raise InputError(f"no collector for {platform!r}; there are {', '.join(known)}")
    if not export.members():
        raise ExportError(f"{export.path} holds no files; give the folder or file of an export")
    asked = [known[platform]] if platform else list(known.values())
    answers = [(collector, collector.recognise(export)) for collector in asked]
    found = [(c, _format_of(c, name)) for c, name in answers if name is not None]
    if not found:
        raise ExportError(
            f"{export.path} is not {_export_of(platform)} that we know; "
            "see `wildrf collectors` for what can be read"
        )
    return found


def _export_of(platform: str | None) -> str:
    return f"an export of {platform}" if platform else "an export of any platform"


def _format_of(collector: Collector, name: str) -> Format:
    return next(f for f in collector.FORMATS if f.name == name)
