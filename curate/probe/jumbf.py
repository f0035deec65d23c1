"""Boxes: the containers that content credentials, AVIF, HEIF and JPEG XL are made of.

ISO base media boxes (ISO/IEC 14496-12) and the labelled superboxes of JUMBF (ISO/IEC 19566-5), read
from bytes within fixed bounds: every step moves forward, and what makes no sense ends the walk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_BOXES = 4096
DEEPEST = 8
LONGEST_LABEL = 256


@dataclass(frozen=True, slots=True)
class Superbox:
    """A JUMBF superbox: the type and label of its description, its parts, and its other boxes."""

    kind: bytes
    label: str
    children: tuple["Superbox", ...]
    contents: tuple[tuple[bytes, bytes], ...]

    def child(self, *labels: str) -> "Superbox | None":
        """The first part that has one of the labels."""
        return next((box for box in self.children if box.label in labels), None)

    def content(self, kind: bytes) -> bytes | None:
        """The body of the first box of one type."""
        return next((body for name, body in self.contents if name == kind), None)


def boxes(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Type, and where the body begins and ends, of each box from `start` to the end of `data`."""
    at, end = start, len(data)
    for _ in range(MOST_BOXES):
        if at + 8 > end:
            return
        length, kind, body = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, body = int.from_bytes(data[at + 8 : at + 16]), at + 16
        elif length == 0:
            length = end - at
        if length < body - at:
            return
        yield kind, body, min(at + length, end)
        at += length


def superboxes(data: bytes) -> tuple[Superbox, ...]:
    """The labelled superboxes `data` consists of."""
    return _superboxes(data, DEEPEST, [MOST_BOXES])


def _superboxes(data: bytes, depth: int, left: list[int]) -> tuple[Superbox, ...]:
    found = (
        _superbox(data[body:end], depth, left)
        for kind, body, end in boxes(data)
        if kind == b"jumb" and depth
    )
    return tuple(box for box in found if box is not None)


def _superbox(body: bytes, depth: int, left: list[int]) -> Superbox | None:
    """One superbox by its body; None without a description, or where too many were met already."""
    parts = [(kind, body[start:end]) for kind, start, end in boxes(body)]
    left[0] -= len(parts)
    if left[0] < 0 or not parts or parts[0][0] != b"jumd" or len(parts[0][1]) < 17:
        return None
    described = parts[0][1]
    label = described[17 : 17 + LONGEST_LABEL].split(b"\0")[0] if described[16] & 2 else b""
    return Superbox(
        kind=described[:16],
        label=label.decode("utf-8", "replace"),
        children=_superboxes(body, depth - 1, left),
        contents=tuple(part for part in parts[1:] if part[0] != b"jumb"),
    )


def joined_segments(segments: Sequence[bytes]) -> list[bytes]:
    """The boxes that JPEG carries in pieces, in the order of their instance numbers.

    Args:
        segments: bodies of APP11 segments after the identifier JP: two bytes of instance number, four
            of sequence number, then the box header, repeated in each piece, and a piece of the body.
    """
    pieces: dict[bytes, list[tuple[int, bytes]]] = {}
    for segment in segments:
        if len(segment) >= 14:
            pieces.setdefault(segment[:2], []).append((int.from_bytes(segment[2:6]), segment[6:]))
    return [_join(sorted(pieces[number])) for number in sorted(pieces)]


def _join(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    header = 16 if pieces[0][1][:4] == b"\0\0\0\1" else 8
    return pieces[0][1] + b"".join(piece[header:] for _, piece in pieces[1:])
