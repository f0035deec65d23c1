"""The platforms whose own API can be asked. To add one: write its module, add its line here.

Live modules may import `curate.live.asking`, `curate.live.contract`, `curate.collectors.reading` and
schemas. What they capture is read by the collector of the same name, like any other export.

A live module has `PLATFORM`, `OPTIONS`, `SECRETS` and three verbs. `name` says what is asked for in a file
name and refuses what cannot be asked; `walk` is the only verb that touches the network; `tell` is
pure: the same line always has the same id.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from curate.live import bluesky, mastodon, reddit
from curate.live.asking import Asking
from curate.live.contract import Asked, Done, Record


class Live(Protocol):
    """What a live module is."""

    @property
    def PLATFORM(self) -> str:
        """The collector that reads what is captured."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:
        """The fields of what is asked that it uses, besides the limit and the earliest time."""

    @property
    def SECRETS(self) -> tuple[str, ...]:
        """Environment variables that hold credentials."""

    def name(self, asked: Asked) -> str:
        """What is asked for, as part of a file name."""

    def walk(
        self, asked: Asked, asking: Asking, secrets: Mapping[str, str], done: Done
    ) -> Iterator[Record]:
        """Records in the order of the listing, those that `done` knows again or not, to its end."""

    def tell(self, line: bytes) -> Record:
        """The record that a line of a capture file is. Pure."""


LIVE: dict[str, Live] = {
    "bluesky": bluesky,
    "mastodon": mastodon,
    "reddit": reddit,
}
