"""CBOR, as far as content credentials need it: bytes to plain values, within fixed bounds.

Its own few lines because manifests come from strangers and use tags and text dates, which the
strict DAG-CBOR reader among our dependencies refuses, and because no count or depth that the bytes
claim may cost more than the bytes themselves.

Format: RFC 8949 (https://www.rfc-editor.org/rfc/rfc8949).
"""

import struct
from typing import Any

DEEPEST = 32
"""Levels of lists, maps and tags; real claims have fewer than ten."""

MOST_ITEMS = 50_000
"""Values read of one document."""

ENDLESS = 31
BREAK = 0xFF
FLOATS = {25: ">e", 26: ">f", 27: ">d"}
SIMPLE = {20: False, 21: True, 22: None, 23: None}


class Malformed(ValueError):
    """The bytes are not CBOR, or more of it than is read here."""


def decode(data: bytes) -> Any:
    """The first value of `data`; tags are dropped and what follows the value is not looked at.

    Raises:
        Malformed: if it ends early, is too deep or too long, or uses a reserved code.
    """
    return _Reader(data).value(0)


class _Reader:
    """A position in the bytes, and how many values may still be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.left = MOST_ITEMS

    def value(self, depth: int) -> Any:
        self.left -= 1
        if depth > DEEPEST or self.left < 0:
            raise Malformed("too deep or too long")
        major, info = divmod(self._take(1)[0], 32)
        if major == 7:
            return self._simple(info)
        if info == ENDLESS:
            return self._endless(major, depth)
        return self._counted(major, self._argument(info), depth)

    def _counted(self, major: int, argument: int, depth: int) -> Any:
        if major < 2:
            return -1 - argument if major else argument
        if major == 2:
            return self._take(argument)
        if major == 3:
            return self._take(argument).decode("utf-8", "replace")
        if major == 6:
            return self.value(depth + 1)
        if argument > len(self.data) - self.at:  # each value takes a byte at least
            raise Malformed("more values than bytes")
        if major == 4:
            return [self.value(depth + 1) for _ in range(argument)]
        return dict(self._pair(depth) for _ in range(argument))

    def _endless(self, major: int, depth: int) -> Any:
        """Strings in pieces, lists and maps that end with a break."""
        if major not in (2, 3, 4, 5):
            raise Malformed("reserved length")
        found = []
        while self._peek() != BREAK:
            found.append(self._pair(depth) if major == 5 else self.value(depth + 1))
        self.at += 1
        if major in (2, 3):
            return self._joined(found, b"" if major == 2 else "")
        return dict(found) if major == 5 else found

    def _joined(self, pieces: list[Any], start: Any) -> Any:
        if any(type(piece) is not type(start) for piece in pieces):
            raise Malformed("a string of other things")
        return start.join(pieces)

    def _pair(self, depth: int) -> tuple[Any, Any]:
        key = self.value(depth + 1)
        value = self.value(depth + 1)
        return (key if isinstance(key, str | int | bytes | None) else repr(type(key))), value

    def _simple(self, info: int) -> Any:
        if info in FLOATS:
            return struct.unpack(FLOATS[info], self._take(1 << (info - 24)))[0]
        if info < 24:
            return SIMPLE.get(info)
        if info == 24:
            self._take(1)
            return None
        raise Malformed("reserved code")

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise Malformed("reserved length")
        return int.from_bytes(self._take(1 << (info - 24)))

    def _peek(self) -> int:
        if self.at >= len(self.data):
            raise Malformed("ends early")
        return self.data[self.at]

    def _take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise Malformed("ends early")
        piece = self.data[self.at : self.at + length]
        self.at += length
        return piece
