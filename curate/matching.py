"""Which images are the same picture, however it was cut, framed, turned or written over.

Three steps. Images of equal pixels match. Views (`curate.views`) that lie within a Hamming distance, and
agree when 24 x 24 pixels of them are looked at, make candidates (`curate.candidates`); so do whole
pictures of near dHash, which a solid box disturbs less. Candidates are verified on aligned thumbnails
(`curate.verify`), on all cores, and the simplest pair of views that agrees says what kind of copy it is.
Hashes only propose; that is why candidates are taken a little beyond the distance asked for.

Pure but for the reader, which gives the thumbnails of some images: they are read in chunks, once
for hashing and again for the images that have candidates, so that a million images need their
hashes in memory (some 30 views, 12 bytes each) and a seventh of their thumbnails. The rows depend neither on
the order of the images nor on the size of chunks. `a` < `b` in every match, each pair comes once.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from curate import candidates, hamming, verify, views
from curate.candidates import COPIES, WHOLE_CROP, WHOLE_VIEW, Asked, Candidates, Reader
from curate.verify import Pairs
from curate.views import TURNS, WINDOWS, Bits, Index
from curate.work import Progress, Silent
from schemas.labels import MatchKind
from schemas.records import Image, Match, Thumbnail

CHUNK = 4096
"""Images whose thumbnails are read at a time: 20 MB."""

SAME_BITS, SAME_SCORE = 4, 0.9
"""Distance within, and score above which, two whole pictures of one size may have equal pixels."""

MOVED = 0.015
"""An edge further inside than this share makes a crop of a copy."""

INNER_VIEWS = frozenset({"box", "page", "sheet"})
"""Thumbnails of what is shown on a screen or a page."""

AGREEING, ON_SCREEN = 0.05, 0.5
"""Two images that show pictures and differ in more than this share are compared at the place of the
picture; what scores less there is another picture on the same kind of page."""

COVERED = 0.04
"""Share of a picture's structure that does not agree at all, from which something is laid over it."""

PAPER = 0.02
"""Share of a side from which what lies outside a part is paper; a part with paper above it or below it
alone is a captioned picture."""

TOLD_APART = 0.05
"""Scores nearer than this tell two explanations of a pair not apart: the simpler one counts."""

FRAMED = 0.92
"""A part that takes less of its image, by this factor, than the other has something around it."""

BORDER_SHARE = 0.35
"""More paper than this share of the area is a screen, not a border."""

PixelReader = Callable[[str], str | None]
"""The digest of an image's decoded upright pixels; None where that cannot be had any more."""


def find_matches(
    images: Sequence[Image],
    read: Reader,
    *,
    distance_bits: int,
    made_by: str,
    pixels_of: PixelReader | None = None,
    sides: Mapping[str, int] | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Iterator[Match]:
    """Every pair of images that are the same picture: those of same pixels first, then the others.

    Args:
        images: each once; one without thumbnails (it does not decode) matches nothing.
        read: gives their thumbnails.
        distance_bits: how near the hashes of two views lie, 0 to 16; candidates are taken up to two bits
            beyond that, as far as 16, and then verified.
        made_by: stage, version and threshold, for the rows.
        pixels_of: decodes an image anew; with it, pictures saved in two formats are told as `same-pixels`.
        sides: of each image by digest; two images of one side are not compared, one of side -1 is compared
            with all.
        chunk: images, and then candidates, whose thumbnails are read at a time.
        progress: is told of each of the three steps.

    Raises:
        ValueError: if `distance_bits` is out of range.
    """
    if not 0 <= distance_bits <= hamming.LARGEST_DISTANCE:
        raise ValueError(f"distance {distance_bits} is not within 0 to 16 bits")
    ordered = sorted(images, key=lambda image: image.digest)
    known = _same_pixels(ordered)
    for pair in known.tolist():
        yield _match(ordered, pair >> 32, pair & 0xFFFFFFFF, MatchKind.PIXELS, 0, made_by, 1.0)
    digests = [image.digest for image in ordered]
    hashes = candidates.hash_views(digests, read, chunk, progress)
    owners = hashes.owners
    of = None if sides is None else np.array([sides[digest] for digest in digests], np.int64)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        alike = partial(verify.likely, hashes.small, pool=pool)
        near = candidates.find_candidates(hashes, distance_bits, Asked(known, alike, of), progress)
    del hashes, alike  # verification takes thumbnails, not their hashes
    for found in _verified(near, owners, ordered, read, chunk, progress or Silent()):
        kind = _kind(found)
        if (
            pixels_of is not None
            and _may_be_equal(found, ordered)
            and _equal(found, ordered, pixels_of)
        ):
            kind, found = MatchKind.PIXELS, replace(found, score=1.0)
        yield _match(ordered, found.i, found.j, kind, found.bits, made_by, found.score)


def _match(
    images: Sequence[Image], i: int, j: int, kind: MatchKind, bits: int, made_by: str, score: float
) -> Match:
    verified = round(score, 4)
    return Match(images[i].digest, images[j].digest, kind.value, bits, made_by, verified=verified)


def _same_pixels(images: Sequence[Image]) -> Bits:
    """Pairs of equal pixel digests, packed, in order."""
    numbers: dict[str, int] = {}
    known = np.array([k for k, image in enumerate(images) if image.pixels is not None], np.int64)
    codes = [numbers.setdefault(images[k].pixels or "", len(numbers)) for k in known.tolist()]
    pairs = hamming.self_join(np.array(codes, dtype=np.uint64), 0, copies=COPIES)
    return np.sort(candidates.packed(known[pairs.i], known[pairs.j]))


@dataclass(frozen=True, slots=True)
class Found:
    """One explanation of why two images are alike: the views, how near, and where one lies in the other."""

    i: int
    j: int
    asked: Thumbnail
    offered: Thumbnail
    turn: int
    crop: int
    bits: int
    window: tuple[float, ...]
    score: float
    covered: float

    @property
    def effort(self) -> tuple[int, bool, bool, bool, int, int]:
        """How much has to be assumed; the smallest is the simplest explanation."""
        framed = (self.asked.view != WHOLE_VIEW, self.offered.view != WHOLE_VIEW)
        cut = self.crop != WHOLE_CROP
        return self.turn, cut, framed[0] != framed[1], framed[0], self.crop, self.bits


def _verified(
    near: Candidates,
    owners: NDArray[np.uint32],
    images: Sequence[Image],
    read: Reader,
    chunk: int,
    progress: Progress,
) -> Iterator[Found]:
    """For each pair of images that is one picture, the simplest explanation that holds."""
    progress.start("verify look-alikes", len(near))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for some in _whole_pairs(near, chunk):
            laid = _Laid.of(some, owners, images, read)
            inner = laid.inner()
            parts = [slice(k, k + verify.BATCH) for k in range(0, len(some), verify.BATCH)]
            judged = (found for part in pool.map(partial(_judged, laid), parts) for found in part)
            for _, explanations in groupby(judged, key=lambda found: (found.i, found.j)):
                holding = [found for found in explanations if not _same_screen(found, inner)]
                if holding:
                    least = max(found.score for found in holding) - TOLD_APART
                    yield min((f for f in holding if f.score >= least), key=lambda f: f.effort)
            progress.advance(len(some))


@dataclass(frozen=True, slots=True)
class _Laid:
    """Candidates and the thumbnails they are about; `asked` and `offered` are rows of those."""

    near: Candidates
    thumbnails: Sequence[Thumbnail]
    shown: NDArray[np.uint8]
    asked: Index
    offered: Index

    @classmethod
    def of(
        cls, near: Candidates, owners: NDArray[np.uint32], images: Sequence[Image], read: Reader
    ) -> "_Laid":
        """With the thumbnails read.

        Raises:
            ValueError: if an image has other thumbnails than when it was hashed.
        """
        i, j = near.i, near.j
        needed = np.unique(np.concatenate([i, j]))
        rows = candidates.in_order(read([images[k].digest for k in needed.tolist()]))
        begins, ends = (np.searchsorted(owners, needed, side) for side in ("left", "right"))
        if len(rows) != (ends - begins).sum():
            raise ValueError(
                f"{len(rows)} thumbnails of {len(needed)} images, {(ends - begins).sum()} when hashed: "
                "they changed meanwhile; run it again"
            )
        firsts = np.cumsum(ends - begins) - (ends - begins)
        asked = firsts[np.searchsorted(needed, np.where(near.swapped, j, i))]
        offered = firsts[np.searchsorted(needed, np.where(near.swapped, i, j))]
        asked, offered = asked + near.asked_part, offered + near.offered_part
        return cls(near, rows, _pixels(rows), asked, offered)

    def pairs(self, part: slice) -> Pairs:
        """Some of the candidates, as pictures to lay on each other."""
        near = self.near[part]
        return Pairs(self.asked[part], near.turn, self.offered[part], WINDOWS[near.crop])

    def inner(self) -> Mapping[str, Thumbnail]:
        """Of each image the largest picture that is shown on a screen or a page."""
        shown = (t for t in self.thumbnails if t.view in INNER_VIEWS)
        return {t.digest: t for t in sorted(shown, key=_area)}


def _same_screen(found: Found, inner: Mapping[str, Thumbnail]) -> bool:
    """Whether two screens agree in their interface alone, and not in the pictures they show."""
    shown = inner.get(found.asked.digest)
    outer = INNER_VIEWS.isdisjoint((found.asked.view, found.offered.view))
    if not outer or found.turn or found.covered <= AGREEING:
        return False
    if shown is None or found.offered.digest not in inner:
        return False
    window = np.array([[shown.left, shown.top, shown.right, shown.bottom]], dtype=np.float32)
    first, second, upright = (np.array([number]) for number in (0, 1, 0))
    both = _pixels([shown, found.offered])
    return float(verify.judge(both, Pairs(first, upright, second, window)).score[0]) < ON_SCREEN


def _pixels(rows: Sequence[Thumbnail]) -> NDArray[np.uint8]:
    """(T, 64, 64) what the thumbnails show."""
    pixels = np.frombuffer(b"".join(row.pixels for row in rows), np.uint8)
    return pixels.reshape(-1, views.EDGE, views.EDGE)


def _whole_pairs(near: Candidates, size: int) -> Iterator[Candidates]:
    """The candidates in chunks that do not part the attempts of one pair."""
    at = 0
    while at < len(near):
        last = near.pairs[min(at + size, len(near)) - 1]
        end = int(np.searchsorted(near.pairs, last, side="right"))
        yield near[at:end]
        at = end


def _judged(laid: _Laid, part: slice) -> list[Found]:
    """Those of some candidates that are the same picture, each with its score."""
    near, pairs = laid.near[part], laid.pairs(part)
    judged = verify.judge(laid.shown, pairs)
    i, j, turns, crops, bits = near.i, near.j, near.turn, near.crop, near.distance
    return [
        Found(
            int(i[k]), int(j[k]),
            laid.thumbnails[int(pairs.asked[k])], laid.thumbnails[int(pairs.offered[k])],
            int(turns[k]), int(crops[k]), int(bits[k]), tuple(judged.window[k].tolist()),
            float(judged.score[k]), float(judged.covered[k]),
        )
        for k in np.flatnonzero(verify.same(laid.shown, pairs, judged)).tolist()
    ]  # fmt: skip


def _kind(found: Found) -> MatchKind:
    """What was done to one of the two, by the simplest explanation."""
    turn = TURNS[found.turn]
    if turn.mirrors:
        return MatchKind.MIRROR
    if turn.turns:
        return MatchKind.ROTATION
    inner, outer = sorted((found.asked, found.offered), key=_area)
    if _area(inner) < FRAMED * _area(outer):
        return _frame_kind(inner)
    left, top, right, bottom = found.window
    if max(abs(left), abs(top), abs(1 - right), abs(1 - bottom)) > MOVED:
        return MatchKind.CROP
    return MatchKind.OVERLAY if found.covered > COVERED else MatchKind.NEAR


def _area(part: Thumbnail) -> float:
    return (part.right - part.left) * (part.bottom - part.top)


def _frame_kind(part: Thumbnail) -> MatchKind:
    """What is around a picture inside another."""
    around = (part.left, part.top, 1 - part.right, 1 - part.bottom)
    left, top, right, bottom = (paper > PAPER for paper in around)
    if not (left or right) and top != bottom:
        return MatchKind.CAPTION
    return MatchKind.BORDER if 1 - _area(part) <= BORDER_SHARE else MatchKind.SCREENSHOT


def _may_be_equal(found: Found, images: Sequence[Image]) -> bool:
    """Whether it is worth decoding both: one size, near in every way, and no digests that differ."""
    a, b = images[found.i], images[found.j]
    coded = [image.format in {"JPEG", "MPO"} for image in (a, b)]
    plain = _kind(found) is MatchKind.NEAR and found.asked.view == found.offered.view == WHOLE_VIEW
    near = found.bits <= SAME_BITS and found.score >= SAME_SCORE
    return plain and near and any(coded) and _upright_size(a) == _upright_size(b)


def _upright_size(image: Image) -> tuple[int | None, int | None]:
    turned = (image.orientation or 1) >= 5
    return (image.height, image.width) if turned else (image.width, image.height)


def _equal(found: Found, images: Sequence[Image], pixels_of: PixelReader) -> bool:
    a, b = (pixels_of(images[k].digest) for k in (found.i, found.j))
    return a is not None and a == b
