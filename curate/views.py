"""The views under which one picture is looked for in another, each as 64 bits.

A picture is kept as thumbnails (64 x 64 grey, the whole and each picture found inside it, see
`curate.boxes`), and every view is two matrix products away from one of them: reduction of the seen
part to 32 x 32 and discrete cosine transform are both linear along each axis, so one 9 x 64 matrix
per axis does both. Mirroring changes the sign of odd frequencies, turning by 90 degrees exchanges the axes:
the eight ways to lay a picture down are rearrangements of the same 64 bits.

The scheme is asymmetric. One side of a pair is asked as it is (`Asked`: every thumbnail whole, in
eight orientations); the other offers crops as well (`Offered`: whole, and twenty crops of what is
inside its border). A crop is found because the original offers it; a border, a caption or a
screenshot because the copy's inner picture is asked. Turned copies are looked for in whole pictures
alone, mirrored ones in crops too.

A view whose coefficients do not stand out of rounding noise has no hash: it would be near every
other flat view (see `curate.fingerprint.LEAST_BITS`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from curate.boxes import WHOLE, Box, find_boxes
from curate.fingerprint import LEAST_BITS, NOISE, SIDE
from schemas.records import Thumbnail

EDGE = 64
"""Pixels along each side of a thumbnail: 4,096 bytes."""

SIZE = (EDGE, EDGE)

REDUCED = 24
"""Pixels along each side of what is kept in memory of each thumbnail: 576 bytes."""

FREQUENCIES = 9
"""Rows and columns of the transform that are looked at."""

Pictures = NDArray[np.float32]
"""(N, 64, 64) grey levels."""

Small = NDArray[np.uint8]
"""(N, 24, 24) grey levels."""

Floats = NDArray[np.float32]
Bits = NDArray[np.uint64]
Index = NDArray[np.int64]


def _centred(share: float) -> Box:
    return Box(share / 2, share / 2, 1 - share / 2, 1 - share / 2)


def _sides(share: float) -> tuple[Box, ...]:
    return (
        Box(share, 0, 1, 1),
        Box(0, share, 1, 1),
        Box(0, 0, 1 - share, 1),
        Box(0, 0, 1, 1 - share),
    )


def _corners(share: float) -> tuple[Box, ...]:
    return tuple(
        Box(x * share, y * share, 1 - (1 - x) * share, 1 - (1 - y) * share)
        for x in (0, 1)
        for y in (0, 1)
    )


CROPS: tuple[Box, ...] = (
    *(_centred(share) for share in (0.05, 0.1, 0.15, 0.2)),
    *_sides(0.1),
    *_sides(0.2),
    *_corners(0.1),
    *_corners(0.2),
)
"""The crops offered. The hash forgives 2 % at each side, so other crops near these are found too."""


WINDOWS = np.array([crop.pixels(1, 1) for crop in (*CROPS, WHOLE)], dtype=np.float32)
"""(C + 1, 4) what each crop takes; the last row, that is number -1, the whole."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways to lay a picture down: flips first, then rows become columns."""

    across: bool
    down: bool
    transposed: bool

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged, however the picture is then turned."""
        return self.across ^ self.down ^ self.transposed

    @property
    def turns(self) -> bool:
        """Whether it is more than a mirror image."""
        return self.down or self.transposed

    def of(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """(64, 64) `picture`, laid down this way."""
        flipped = picture[:: -1 if self.down else 1, :: -1 if self.across else 1]
        return flipped.T if self.transposed else flipped


TURNS: tuple[Turn, ...] = tuple(
    Turn(across, down, transposed)
    for transposed in (False, True)
    for down in (False, True)
    for across in (False, True)
)
"""As it is, mirrored, and the other six."""

UPRIGHT_TURNS = 2
"""The first two of them: those asked of crops."""


def thumbnails(grey: Image.Image) -> dict[str, tuple[Box, bytes]]:
    """The whole of a grey picture and each picture inside it: where it is, and 64 x 64 pixels."""
    found = {"whole": WHOLE, **find_boxes(np.asarray(grey))}
    return {view: (box, _thumbnail(grey, box)) for view, box in found.items()}


def _thumbnail(grey: Image.Image, box: Box) -> bytes:
    area = box.pixels(*grey.size)
    return grey.resize((EDGE, EDGE), Image.Resampling.HAMMING, box=area).tobytes()


def pictures(rows: Sequence[Thumbnail]) -> Pictures:
    """The thumbnails as one array."""
    joined = b"".join(row.pixels for row in rows)
    return np.frombuffer(joined, np.uint8).reshape(-1, EDGE, EDGE).astype(np.float32)


def reduce(shown: Pictures) -> Small:
    """What is kept in memory of each thumbnail."""
    matrix = reduction(0, 1, REDUCED)
    return np.asarray((matrix @ shown @ matrix.T).round().clip(0, 255).astype(np.uint8))


PLACES = [(u, v) for u in range(8) for v in range(8) if u or v] + [(8, 8)]
"""The coefficients whose signs are the hash: the lowest but the mean, and one to make 64."""

ROWS, COLUMNS = (np.array(axis) for axis in zip(*PLACES, strict=True))


@lru_cache(maxsize=256)
def _transform(start: float, end: float) -> Floats:
    """(9, 64) matrix: cut one axis, reduce it to 32, and give its lowest frequencies."""
    cut = reduction(start, end, SIDE)
    basis: Floats = dct(cut.astype(np.float64), axis=0)[:FREQUENCIES].astype(np.float32)
    return basis


@lru_cache(maxsize=256)
def reduction(start: float, end: float, size: int) -> Floats:
    """(size, 64) matrix: cut one axis and resize it as Pillow does."""
    identity = Image.fromarray(np.eye(EDGE, dtype=np.float32))
    area = (0.0, start * EDGE, float(EDGE), end * EDGE)
    return np.asarray(identity.resize((EDGE, size), Image.Resampling.LANCZOS, box=area))


def coefficients(shown: Pictures, box: Box) -> Floats:
    """(N, 9, 9) lowest frequencies of what is in `box`, scaled as in `curate.fingerprint`."""
    rows, columns = _transform(box.top, box.bottom), _transform(box.left, box.right)
    return np.asarray(rows @ shown @ columns.T)


def hashes(low: Floats) -> tuple[Bits, NDArray[np.bool_]]:
    """(N,) hashes of (N, 9, 9) coefficients, and whether each says anything."""
    chosen = low[:, ROWS, COLUMNS]
    return _pack(chosen > 0), (np.abs(chosen) > NOISE).sum(1) >= LEAST_BITS


def gradients(shown: Pictures) -> Bits:
    """(N,) dHash of each thumbnail: is each of 8 x 9 cells brighter than the one before it."""
    small = reduction(0, 1, 8) @ shown @ reduction(0, 1, 9).T
    return _pack((small[:, :, 1:] > small[:, :, :-1]).reshape(-1, 64))


def _pack(bits: NDArray[np.bool_]) -> Bits:
    packed = np.ascontiguousarray(np.packbits(bits, axis=1))
    return packed.view(">u8")[:, 0].astype(np.uint64)


def turned(low: Floats, turn: Turn) -> Floats:
    """The coefficients of the picture laid down another way."""
    signs = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
    if turn.across:
        low = low * signs
    if turn.down:
        low = low * signs[:, None]
    return low.transpose(0, 2, 1) if turn.transposed else low


@dataclass(frozen=True, slots=True)
class Hashed:
    """Hashes of some views. `rows` says of which thumbnail each is, `views` in which turn or crop."""

    bits: Bits
    rows: Index
    views: Index

    def __len__(self) -> int:
        return len(self.bits)

    def of_view(self, view: int) -> "Hashed":
        """Those of one turn or crop."""
        chosen = self.views == view
        return Hashed(self.bits[chosen], self.rows[chosen], self.views[chosen])


def join(parts: Sequence[Hashed]) -> Hashed:
    """Several as one, in order."""
    if not parts:
        return Hashed(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
    return Hashed(
        np.concatenate([p.bits for p in parts]),
        np.concatenate([p.rows for p in parts]),
        np.concatenate([p.views for p in parts]),
    )


def ask(shown: Pictures, first: int) -> Hashed:
    """Every thumbnail whole, in every turn; `first` is the number of the first of them."""
    low = coefficients(shown, WHOLE)
    return join(list(_number((turned(low, turn) for turn in TURNS), np.arange(len(shown)) + first)))


def offer(shown: Pictures, rows: Index) -> Hashed:
    """The crops of thumbnails that stand at `rows`."""
    return join(list(_number((coefficients(shown, crop) for crop in CROPS), rows)))


def _number(views: Iterator[Floats], rows: Index) -> Iterator[Hashed]:
    for number, low in enumerate(views):
        bits, telling = hashes(low)
        yield Hashed(
            bits[telling], rows[telling], np.full(int(telling.sum()), number, dtype=np.int64)
        )
