"""How far a stage is, on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

EVERY_S = 10.0
"""Between two plain lines of one stage."""


def as_rate(per_second: float) -> str:
    """Items per second, or per minute where a second is too short for one."""
    if per_second < 1:
        return f"{60 * per_second:.1f}/min"
    return f"{per_second:,.1f}/s" if per_second < 10 else f"{per_second:,.0f}/s"


class Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        speed = task.finished_speed or task.speed
        return Text(as_rate(speed) if speed else "", style="dim")


class Bar:
    """A progress bar that a stage reports to."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            Rate(), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, what: str, total: int | None) -> None:
        """A stage begins; the one before it, if any, is over."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total)

    def advance(self, items: int) -> None:
        """So many more items are done."""
        if self._task is not None:
            self._bar.advance(self._task, items)


class Lines:
    """Progress as lines, at most one every few seconds."""

    def __init__(self) -> None:
        self._what, self._total, self._done = "", 0, 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, what: str, total: int | None) -> None:
        """A stage begins."""
        self._what, self._total, self._done = what, total or 0, 0
        self._began = self._told = time.monotonic()

    def advance(self, items: int) -> None:
        """So many more items are done."""
        self._done += items
        now = time.monotonic()
        if now - self._told >= EVERY_S:
            self._told = now
            print(self._line(now), file=sys.stderr, flush=True)  # noqa: T201 - this is the printer

    def _line(self, now: float) -> str:
        rate = self._done / max(now - self._began, 1e-9)
        left = f", {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
        of = f"/{self._total}" if self._total else ""
        return f"{self._what}: {self._done}{of} ({as_rate(rate)}{left})"


def open_progress() -> Bar | Lines:
    """The progress that suits stderr."""
    return Bar() if sys.stderr.isatty() else Lines()
