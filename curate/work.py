"""Who does the work on many images, and who is told how far it is.

Nothing here knows what the work is: engines and progress are given to stages and surveys by whoever runs
them (`pipelines.engines`, `pipelines.progress`), so that the rooms below neither start processes nor print.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CRASHED = "the decoder crashed on it"
"""Why an item has no result whose worker process died."""

MOST_SECONDS = 20.0
"""How long one image may take where no policy says otherwise."""


class Engine(Protocol):
    """Where images are processed: this process, a pool, a cluster."""

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        lost: Callable[[T, str], R] | None = None,
        seconds: float | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items.

        `lost` gives the result of an item whose worker process died with it, and is told why. A worker that
        is longer than `seconds` at one item is ended.
        """


class Serial:
    """The engine that works here and now: it dies with an item that kills, and waits for one that hangs."""

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        lost: Callable[[T, str], R] | None = None,
        seconds: float | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items."""
        return map(work, items)


class Progress(Protocol):
    """Who is told how far a stage is."""

    def start(self, what: str, total: int | None) -> None:
        """A stage begins; `total` items, if that is known."""

    def advance(self, items: int) -> None:
        """So many more items are done and committed."""


class Silent:
    """Tells nobody."""

    def start(self, what: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, items: int) -> None:
        """Nothing."""


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in slices of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def counted(items: Iterable[T], progress: Progress) -> Iterator[T]:
    """The items, each told as done when the next is asked for."""
    for item in items:
        yield item
        progress.advance(1)
