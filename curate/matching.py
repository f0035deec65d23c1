"""Which images are the same picture, however it was cut, framed, turned or written over.

Three steps. Images of equal pixels match. Views (`curate.views`) that lie within a Hamming distance
make candidates; so do whole pictures of near dHash, which a solid box disturbs less. Candidates are
verified on aligned thumbnails (`curate.verify`), and the simplest pair of views that agrees says
what kind of copy it is. Hashes only propose; that is why candidates are taken a little beyond the
distance asked for.

Pure but for the reader, which gives the thumbnails of some images: they are read in chunks, once
for hashing and again for the images that have candidates, so that a million images need their
hashes in memory (some 31 views, 24 bytes each) and not their thumbnails. The rows depend neither on
the order of the images nor on the size of chunks. `a` < `b` in every match, each pair comes once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate import hamming, verify, views
from curate.boxes import WHOLE
from curate.views import CROPS, TURNS, UPRIGHT_TURNS, Hashed, Index
from schemas.labels import MatchKind
from schemas.records import Image, Match, Thumbnail

WHOLE_VIEW, WHOLE_CROP = "whole", -1
"""The thumbnail of all there is, and the number that stands for no crop."""

COPIES = 64
"""Where more hashes than this are equal, each is compared with the first alone: still connected."""

BEYOND, GRADIENT_BEYOND = 2, 4
"""Bits by which candidates may be further apart than asked for, by pHash of views and by dHash."""

CHUNK = 4096
"""Images whose thumbnails are read at a time: 20 MB."""

ATTEMPTS = 3
"""Pairs of views that are verified for each pair of images, the nearest first."""

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

Reader = Callable[[Sequence[str]], Iterable[Thumbnail]]
"""The thumbnails of some images, by digest, in any order."""

PixelReader = Callable[[str], str | None]
"""The digest of an image's decoded upright pixels; None where that cannot be had any more."""

Pair = tuple[int, int]

Rows = NDArray[np.int64]
"""(N, 7) candidates; columns as in `Found`: images i < j, thumbnails, turn, crop or -1, bits."""


def find_matches(
    images: Sequence[Image],
    read: Reader,
    *,
    distance_bits: int,
    made_by: str,
    pixels_of: PixelReader | None = None,
    chunk: int = CHUNK,
) -> Iterator[Match]:
    """Every pair of images that are the same picture: those of same pixels first, then the others.

    Args:
        images: each once; one without thumbnails (it does not decode) matches nothing.
        read: gives their thumbnails.
        distance_bits: how near the hashes of two views lie, 0 to 16; candidates are taken up to two bits
            beyond that, as far as 16, and then verified.
        made_by: stage, version and threshold, for the rows.
        pixels_of: decodes an image anew; with it, pictures saved in two formats are told as `same-pixels`.
        chunk: images, and then candidates, whose thumbnails are read at a time.

    Raises:
        ValueError: if `distance_bits` is out of range.
    """
    if not 0 <= distance_bits <= hamming.LARGEST_DISTANCE:
        raise ValueError(f"distance {distance_bits} is not within 0 to 16 bits")
    ordered = sorted(images, key=lambda image: image.digest)
    known = _same_pixels(ordered)
    for i, j in sorted(known):
        yield _match(ordered, i, j, MatchKind.PIXELS, 0, made_by, 1.0)
    hashes = _hash_views([image.digest for image in ordered], read, chunk)
    candidates = _candidates(hashes, distance_bits, known)
    for found in _verified(candidates, hashes, ordered, read, chunk):
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


def _same_pixels(images: Sequence[Image]) -> set[Pair]:
    """Pairs i < j of equal pixel digests."""
    numbers: dict[str, int] = {}
    known = [k for k, image in enumerate(images) if image.pixels is not None]
    codes = [numbers.setdefault(images[k].pixels or "", len(numbers)) for k in known]
    pairs = hamming.self_join(np.array(codes, dtype=np.uint64), 0, copies=COPIES)
    return {(known[i], known[j]) for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)}


@dataclass(frozen=True, slots=True)
class _Hashes:
    """The hashes of all views. Thumbnails are numbered; `owners` says which image each is of."""

    asked: Hashed
    offered: Hashed
    gradients: Hashed
    owners: Index


def _hash_views(digests: Sequence[str], read: Reader, size: int) -> _Hashes:
    """The hashes of the images, whose thumbnails are read a chunk at a time."""
    parts: list[_Hashes] = []
    first = 0
    for start in range(0, len(digests), size):
        chunk = digests[start : start + size]
        rows = _in_order(read(chunk))
        places = {digest: start + k for k, digest in enumerate(chunk)}
        parts.append(_hash_rows(rows, first, places))
        first += len(rows)
    return _Hashes(
        views.join([p.asked for p in parts]),
        views.join([p.offered for p in parts]),
        views.join([p.gradients for p in parts]),
        np.concatenate([np.empty(0, np.int64), *(p.owners for p in parts)]),
    )


def _hash_rows(rows: Sequence[Thumbnail], first: int, places: Mapping[str, int]) -> _Hashes:
    shown = views.pictures(rows)
    asked = views.ask(shown, first)
    cut = _croppable(rows)
    upright = asked.of_view(0)
    whole = np.array([t.view == WHOLE_VIEW for t in rows], dtype=bool)[upright.rows - first]
    telling = upright.rows[whole]
    gradients = views.gradients(shown[telling - first])
    return _Hashes(
        asked,
        views.offer(shown[cut], cut + first),
        Hashed(gradients, telling, np.zeros(len(telling), np.int64)),
        np.array([places[t.digest] for t in rows], dtype=np.int64),
    )


def _in_order(rows: Iterable[Thumbnail]) -> list[Thumbnail]:
    return sorted(rows, key=lambda row: (row.digest, row.view))


def _croppable(rows: Sequence[Thumbnail]) -> Index:
    """Of each image what is inside its border, or the whole where it has none."""
    best = {t.digest: k for k, t in enumerate(rows) if t.view == WHOLE_VIEW}
    best |= {t.digest: k for k, t in enumerate(rows) if t.view == "trimmed"}
    return np.array(sorted(best.values()), dtype=np.int64)


def _candidates(hashes: _Hashes, distance_bits: int, known: set[Pair]) -> Rows:
    """Pairs of views near each other, at most ATTEMPTS for each pair of images, sorted by pair."""
    distance = min(distance_bits + BEYOND, hamming.LARGEST_DISTANCE)
    found = [_near_whole(hashes, distance), _near_gradients(hashes, distance_bits)]
    found += (_near_turned(hashes, turn, distance) for turn in range(1, len(TURNS)))
    found += (_near_crop(hashes, crop, distance) for crop in range(len(CROPS)))
    rows = np.concatenate(found)
    rows = _nearest(rows[rows[:, 0] != rows[:, 1]])
    new = [k for k, (i, j) in enumerate(rows[:, :2].tolist()) if (i, j) not in known]
    return rows[new]


def _near_whole(hashes: _Hashes, distance: int) -> Rows:
    """Thumbnails as they are."""
    upright = hashes.asked.of_view(0)
    near = hamming.self_join(upright.bits, distance, copies=COPIES)
    return _rows(hashes, upright.rows[near.i], upright.rows[near.j], 0, WHOLE_CROP, near.d)


def _near_gradients(hashes: _Hashes, distance_bits: int) -> Rows:
    """Whole pictures of near dHash."""
    told = hashes.gradients
    distance = min(distance_bits + GRADIENT_BEYOND, hamming.LARGEST_DISTANCE)
    near = hamming.self_join(told.bits, distance, copies=COPIES)
    return _rows(hashes, told.rows[near.i], told.rows[near.j], 0, WHOLE_CROP, near.d)


def _near_turned(hashes: _Hashes, turn: int, distance: int) -> Rows:
    """Thumbnails, one of them laid down another way; the other order is found by the inverse turn."""
    upright, other = hashes.asked.of_view(0), hashes.asked.of_view(turn)
    near = hamming.cross_join(other.bits, upright.bits, distance, copies=COPIES)
    rows = _rows(hashes, other.rows[near.i], upright.rows[near.j], turn, WHOLE_CROP, near.d)
    return rows[rows[:, 2] <= rows[:, 3]]


def _near_crop(hashes: _Hashes, crop: int, distance: int) -> Rows:
    """Thumbnails as they are, or mirrored, against one crop."""
    offered = hashes.offered.of_view(crop)
    found = []
    for turn in range(UPRIGHT_TURNS):
        asked = hashes.asked.of_view(turn)
        near = hamming.cross_join(asked.bits, offered.bits, distance, copies=COPIES)
        found.append(_rows(hashes, asked.rows[near.i], offered.rows[near.j], turn, crop, near.d))
    return np.concatenate(found)


def _rows(
    hashes: _Hashes, asked: Index, offered: Index, turn: int, crop: int, bits: NDArray[np.uint8]
) -> Rows:
    one, other = hashes.owners[asked], hashes.owners[offered]
    constant = np.ones(len(asked), dtype=np.int64)
    return np.stack(
        [
            np.minimum(one, other),
            np.maximum(one, other),
            asked,
            offered,
            turn * constant,
            crop * constant,
            bits.astype(np.int64),
        ],
        axis=1,
    )


def _nearest(rows: Rows) -> Rows:
    """The first ATTEMPTS of each pair: nearest, then simplest, then in order."""
    i, j, asked, offered, turn, crop, bits = rows.T
    rows = rows[np.lexsort((offered, asked, crop, turn, bits, j, i))]
    starts = np.flatnonzero((np.diff(rows[:, :2], axis=0, prepend=-1) != 0).any(1))
    lengths = np.diff(starts, append=len(rows))
    rank = np.arange(len(rows)) - np.repeat(starts, lengths)
    return rows[rank < ATTEMPTS]


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
    candidates: Rows, hashes: _Hashes, images: Sequence[Image], read: Reader, chunk: int
) -> Iterator[Found]:
    """For each pair of images that is one picture, the simplest explanation that holds."""
    numbers = _numbers(hashes.owners)
    for rows in _whole_pairs(candidates, chunk):
        owners = np.unique(rows[:, :2]).tolist()
        thumbnails = _in_order(read([images[k].digest for k in owners]))
        place = {}
        for t, number in zip(thumbnails, (n for k in owners for n in numbers(k)), strict=True):
            place[number] = t
        inner = {t.digest: t for t in sorted(thumbnails, key=_area) if t.view in INNER_VIEWS}
        by_pair: dict[Pair, list[Found]] = {}
        for found in _judged(rows, place):
            by_pair.setdefault((found.i, found.j), []).append(found)
        for explanations in by_pair.values():
            holding = [found for found in explanations if not _same_screen(found, inner)]
            if holding:
                least = max(found.score for found in holding) - TOLD_APART
                yield min((f for f in holding if f.score >= least), key=lambda f: f.effort)


def _same_screen(found: Found, inner: Mapping[str, Thumbnail]) -> bool:
    """Whether two screens agree in their interface alone, and not in the pictures they show."""
    shown = inner.get(found.asked.digest)
    outer = INNER_VIEWS.isdisjoint((found.asked.view, found.offered.view))
    if not outer or found.turn or found.covered <= AGREEING:
        return False
    if shown is None or found.offered.digest not in inner:
        return False
    window = np.array([[shown.left, shown.top, shown.right, shown.bottom]], dtype=np.float32)
    offered = views.pictures([found.offered])
    return float(verify.judge(views.pictures([shown]), offered, window).score[0]) < ON_SCREEN


def _numbers(owners: Index) -> Callable[[int], range]:
    """Which thumbnails an image has; those of one image stand together, images in order."""

    def of(owner: int) -> range:
        first, end = np.searchsorted(owners, [owner, owner + 1]).tolist()
        return range(first, end)

    return of


def _whole_pairs(rows: Rows, size: int) -> Iterator[Rows]:
    """The candidates in chunks that do not part the attempts of one pair."""
    at = 0
    while at < len(rows):
        end = min(at + size, len(rows))
        while end < len(rows) and (rows[end, :2] == rows[end - 1, :2]).all():
            end += 1
        yield rows[at:end]
        at = end


def _judged(rows: Rows, thumbnails: Mapping[int, Thumbnail]) -> Iterator[Found]:
    """The candidates that are verified, each with its score."""
    asked = views.pictures([thumbnails[k] for k in rows[:, 2].tolist()])
    asked = np.stack([TURNS[t].of(a) for a, t in zip(asked, rows[:, 4].tolist(), strict=True)])
    offered = views.pictures([thumbnails[k] for k in rows[:, 3].tolist()])
    windows = np.array([_window(crop) for crop in rows[:, 5].tolist()], dtype=np.float32)
    opinions = verify.opinions(asked, offered, windows)
    likely = opinions <= verify.OPINION_BITS
    judged = verify.judge(asked[likely], offered[likely], windows[likely])
    told = (
        rows[likely].tolist(),
        opinions[likely].tolist(),
        judged.window.tolist(),
        judged.score,
        judged.covered,
    )
    for row, opinion, window, score, covered in zip(*told, strict=True):
        if score < verify.needed(opinion):
            continue
        i, j, a, b, turn, crop, bits = row
        yield Found(
            i, j, thumbnails[a], thumbnails[b], turn, crop, bits, tuple(window), float(score), float(covered)
        )  # fmt: skip


def _window(crop: int) -> tuple[float, float, float, float]:
    return (WHOLE if crop == WHOLE_CROP else CROPS[crop]).pixels(1, 1)


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
