"""The platforms we can collect from. To add one: write its file, add its line here.

Collectors may import `curate.exports`, `curate.collectors.contract` and schemas; they know
neither each other nor the catalog.
"""

from curate.collectors import reddit, x
from curate.collectors.contract import Collector, Format
from curate.exports import Export
from schemas.errors import ExportError, InputError

COLLECTORS: dict[str, Collector] = {
    "reddit": reddit,
    "x": x,
}


def detect(export: Export, platform: str | None = None) -> tuple[Collector, Format]:
    """The collector and format of an export; only `platform` is asked where it is given.

    Raises:
        InputError: there is no such platform.
        ExportError: nobody recognises the export.
    """
    if platform is not None and platform not in COLLECTORS:
        raise InputError(f"no collector for {platform!r}; there are {', '.join(COLLECTORS)}")
    if not export.members():
        raise ExportError(f"{export.path} holds no files; give the folder or file of an export")
    asked = [COLLECTORS[platform]] if platform else list(COLLECTORS.values())
    for collector in asked:
        name = collector.recognise(export)
        if name is not None:
            return collector, _format_of(collector, name)
    raise ExportError(
        f"{export.path} is not a {' or '.join(c.PLATFORM for c in asked)} export that we know; "
        "see `wildrf collectors` for what can be read"
    )


def _format_of(collector: Collector, name: str) -> Format:
    return next(f for f in collector.FORMATS if f.name == name)
