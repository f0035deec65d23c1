"""The platforms we can collect from. To add one: write its file, add its line here.

Collectors may import `curate.exports`, `curate.collectors.contract`, `curate.collectors.reading` and
schemas; they know neither each other nor the catalog. A package of somebody else adds one by an entry
point of the group `wildrf.collectors` that names a module with the same verbs.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from curate.collectors import (
    bluesky,
    discord,
    facebook,
    flickr,
    gallery_dl,
    instagram,
    mastodon,
    pinterest,
    reddit,
    telegram,
    threads,
    tiktok,
    tumblr,
    x,
)
from curate.collectors.contract import Collector, Format
from curate.collectors.mapped import Mapped
from curate.exports import Export
from schemas.errors import ExportError, InputError

log = logging.getLogger(__name__)

COLLECTORS: dict[str, Collector] = {
    "bluesky": bluesky,
    "discord": discord,
    "facebook": facebook,
    "flickr": flickr,
    "gallery-dl": gallery_dl,
    "instagram": instagram,
    "mastodon": mastodon,
    "pinterest": pinterest,
    "reddit": reddit,
    "telegram": telegram,
    "threads": threads,
    "tiktok": tiktok,
    "tumblr": tumblr,
    "x": x,
}

GROUP = "wildrf.collectors"


def installed() -> dict[str, Collector]:
    """Our collectors, and those that other packages bring; ours win where names meet."""
    found: dict[str, Collector] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = _whole(point.load())
        except Exception as error:
            # somebody else's package must not keep ours from working
            log.warning("collector %s of %s does not load: %s", point.name, point.value, error)
    return {**found, **COLLECTORS}


def _whole(collector: Collector) -> Collector:
    """`collector`, if it has every part that will be asked for."""
    parts = ("PLATFORM", "VERSION", "FORMATS", "recognise", "read", "parse")
    if missing := [part for part in parts if not hasattr(collector, part)]:
        raise TypeError(f"it has no {missing[0]}")
    return collector


def detect(
    export: Export,
    platform: str | None = None,
    collectors: Mapping[str, Collector] | None = None,
) -> list[tuple[Collector, Format]]:
    """The collectors that recognise an export, each with the format; mostly one.

    An export may hold posts of two platforms (an Instagram download has those of Threads). Only `platform`
    is asked where it is given. What the policy of a workspace maps is nobody else's.

    Raises:
        InputError: there is no such platform.
        ExportError: nobody recognises the export, or one that does cannot read it.
    """
    known = installed() if collectors is None else collectors
    platforms = sorted({c.PLATFORM for c in known.values()})
    if platform is not None and platform not in platforms:
        raise InputError(f"no collector for {platform!r}; there are {', '.join(platforms)}")
    if not export.members():
        raise ExportError(f"{export.path} holds no files; give the folder or file of an export")
    asked = [c for c in known.values() if platform in (None, c.PLATFORM)]
    told: list[ExportError] = []
    found = _answers([c for c in asked if isinstance(c, Mapped)], export, told)
    found = found or _answers([c for c in asked if not isinstance(c, Mapped)], export, told)
    if found:
        return found
    unknown = (
        f"{export.path} is not {_export_of(platform)} that we know; "
        "see `wildrf collectors` for what can be read"
    )
    raise told[0] if told else ExportError(unknown)


def _answers(
    asked: Sequence[Collector], export: Export, told: list[ExportError]
) -> list[tuple[Collector, Format]]:
    """Who recognises an export; one that knows why it cannot read it says so in `told`."""
    found = []
    for collector in asked:
        try:
            name = collector.recognise(export)
        except ExportError as error:
            told.append(error)
            continue
        except Exception as error:
            if collector in COLLECTORS.values():
                raise
            log.warning("the collector of %s does not work: %s", collector.PLATFORM, error)
            continue
        if name is not None:
            found.append((collector, _format_of(collector, name)))
    return found


def _export_of(platform: str | None) -> str:
    return f"an export of {platform}" if platform else "an export of any platform"


def _format_of(collector: Collector, name: str) -> Format:
    return next(f for f in collector.FORMATS if f.name == name)
