"""Which pairs of images have views near each other: what `curate.matching` then looks at.

Thumbnails are read in chunks and leave behind their hashes, view by view, 12 bytes each, and 24 x 24
pixels. Four joins find the near ones: wholes among each other by both hashes, turned ones with upright
ones, and crops with what is asked. Crops are joined all at once: a hash that is looked for passes through
as many keys of an index of twenty crops as through those of one. Where there are very many images they
are joined in groups, which bounds memory. What is near is held against a second opinion at once
(`curate.verify`): among very many images there are more look-alikes by chance than there is room for.

Of each pair of images the best few pairs of views are kept, in 12 bytes each, and those that are worse are
dropped on the way. The result depends neither on the order in which blocks come nor on groups.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from curate import hamming, verify, views
from curate.verify import Pairs
from curate.views import CROPS, REDUCED, TURNS, UPRIGHT_TURNS, WINDOWS, Bits, Hashed, Index, Small
from curate.work import Progress, Silent
from schemas.records import Thumbnail

WHOLE_VIEW, WHOLE_CROP = "whole", -1
"""The thumbnail of all there is, and the number that stands for no crop."""

COPIES = 64
"""Where more hashes than this are equal, each is compared with the first alone: still connected."""

BEYOND, GRADIENT_BEYOND = 2, 4
"""Bits by which candidates may be further apart than asked for, by pHash of views and by dHash."""

GRADIENT_WEIGHT, BITS_TOGETHER = 3, 60
"""Wholes of near dHash are candidates if the bits of that, so many times, and of pHash are not more than
this: of 990 pictures with a box over them two are lost, of look-alikes by dHash three in five."""

SIGNS_WEIGHT, ALL_TOGETHER = 8, 648
"""The same with the signs of fine detail: so many times those bits, and the signs that differ, are not
more than this. Of look-alikes one in 20 is left, so that ten times the images do not take a hundred
times as long; of 490 copies with a box none differs in more than 83 signs, and none is lost; of 15 with
each side cut at random that dHash alone finds, two are."""

ATTEMPTS = 3
"""Pairs of views that are verified for each pair of images, the nearest first."""

AT_ONCE = 1 << 23
"""Hashes that are looked for, or in, at a time: what the join holds of them is some 500 MB."""

HASHED_AT_ONCE = 512
"""Thumbnails of which one thread makes hashes: 8 MB."""

KEPT_AT_ONCE = 1 << 20
"""Pairs of views that wait until the best of them are chosen: 12 MB."""

Reader = Callable[[Sequence[str]], Iterable[Thumbnail]]
"""The thumbnails of some images, by digest, in any order."""

Rows = NDArray[np.uint32]
"""(N,) numbers of thumbnails."""

Numbers = NDArray[np.uint8]
"""(N,) numbers of turns or crops, or bits."""

Opinion = Callable[[Pairs], NDArray[np.bool_]]
"""Which pairs of thumbnails are alike enough to be candidates."""

PART_BITS, SIDE_AT, CROP_AT, TURN_AT, DISTANCE_AT = 4, 8, 9, 14, 17
"""Where in the rank of a pair of views its parts stand: smaller is nearer, then simpler."""


@dataclass(frozen=True, slots=True)
class View:
    """The hashes of one view, and the thumbnail each is of, ascending."""

    bits: Bits
    rows: Rows

    def __len__(self) -> int:
        return len(self.bits)

    def spare(self) -> "View":
        """The same with the first alone where more than COPIES are equal."""
        order = np.argsort(self.bits, kind="stable")
        ordered = self.bits[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
        sizes = np.diff(starts, append=len(ordered))
        if sizes.max(initial=0) <= COPIES:
            return self
        keep = np.repeat(sizes <= COPIES, sizes)
        keep[starts] = True
        kept = np.sort(order[keep])
        return View(self.bits[kept], self.rows[kept])


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of all views. Thumbnails are numbered; `owners` says which image each is of.

    `asked` has one view a turn, `offered` one a crop; `small` is each thumbnail, reduced.
    """

    asked: tuple[View, ...]
    offered: tuple[View, ...]
    gradients: View
    owners: Rows
    small: Small

    def firsts(self) -> Rows:
        """(T,) for each thumbnail, the first one of its image."""
        starts = np.flatnonzero(np.diff(self.owners, prepend=~self.owners[:1]))
        sizes = np.diff(starts, append=len(self.owners))
        return np.repeat(starts, sizes).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Candidates:
    """(N,) pairs of views, sorted by pair of images and then best first.

    `pairs` are images i < j, packed; `ranks` say how near and by which views (`_ranked`).
    """

    pairs: Bits
    ranks: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, some: slice) -> "Candidates":
        return Candidates(self.pairs[some], self.ranks[some])

    @property
    def i(self) -> Index:
        """(N,) the first image."""
        return _unpacked(self.pairs)[0]

    @property
    def j(self) -> Index:
        """(N,) the second image."""
        return _unpacked(self.pairs)[1]

    @property
    def swapped(self) -> NDArray[np.bool_]:
        """(N,) whether it is the second image that is asked as it is, and the first that offers."""
        return ((self.ranks >> np.uint32(SIDE_AT)) & np.uint32(1)).astype(bool)

    @property
    def asked_part(self) -> Index:
        """(N,) which thumbnail of its image is asked."""
        return self._bits(PART_BITS, PART_BITS)

    @property
    def offered_part(self) -> Index:
        """(N,) which thumbnail of its image is offered."""
        return self._bits(0, PART_BITS)

    @property
    def turn(self) -> Index:
        """(N,) numbers of TURNS."""
        return self._bits(TURN_AT, DISTANCE_AT - TURN_AT)

    @property
    def crop(self) -> Index:
        """(N,) numbers of CROPS, or -1."""
        return self._bits(CROP_AT, TURN_AT - CROP_AT) + WHOLE_CROP

    @property
    def distance(self) -> Index:
        """(N,) bits."""
        return self._bits(DISTANCE_AT, 5)

    def _bits(self, at: int, count: int) -> Index:
        return ((self.ranks >> np.uint32(at)) & np.uint32((1 << count) - 1)).astype(np.int64)


def packed(i: Index | Rows, j: Index | Rows) -> Bits:
    """(N,) pairs of images as one number each."""
    first = np.minimum(i, j).astype(np.uint64) << np.uint64(32)
    return first | np.maximum(i, j).astype(np.uint64)


def _unpacked(pairs: Bits) -> tuple[Index, Index]:
    """The two images of each pair."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(
        np.int64
    )


def hash_views(
    digests: Sequence[str], read: Reader, size: int, progress: Progress | None = None
) -> Hashes:
    """The hashes of the images, whose thumbnails are read `size` images at a time."""
    progress = progress or Silent()
    progress.start("hash views", len(digests))
    collected = _Collected()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(digests), size):
            chunk = digests[start : start + size]
            rows = in_order(read(chunk))
            places = {digest: start + k for k, digest in enumerate(chunk)}
            collected.add(rows, places, pool)
            progress.advance(len(chunk))
    return collected.joined()


def in_order(rows: Iterable[Thumbnail]) -> list[Thumbnail]:
    """By image and then by view: the order in which thumbnails are numbered."""
    return sorted(rows, key=lambda row: (row.digest, row.view))


@dataclass(slots=True)
class _Collected:
    """Hashes as they come, chunk by chunk."""

    count: int = 0
    owners: list[Rows] = field(default_factory=list)
    asked: list[list[View]] = field(default_factory=lambda: [[] for _ in TURNS])
    offered: list[list[View]] = field(default_factory=lambda: [[] for _ in CROPS])
    gradients: list[View] = field(default_factory=list)
    small: list[Small] = field(default_factory=list)

    def add(
        self, rows: Sequence[Thumbnail], places: Mapping[str, int], pool: ThreadPoolExecutor
    ) -> None:
        """The hashes of some thumbnails, in order."""
        cut = set(_croppable(rows))
        parts = [
            (rows[k : k + HASHED_AT_ONCE], k, cut) for k in range(0, len(rows), HASHED_AT_ONCE)
        ]
        for start, asked, offered, gradients, small in pool.map(_hashed, parts):
            first = self.count + start
            for turn, views_of_turn in enumerate(self.asked):
                views_of_turn.append(_view(asked, turn, first))
            for crop, views_of_crop in enumerate(self.offered):
                views_of_crop.append(_view(offered, crop, first))
            self.gradients.append(_view(gradients, 0, first))
            self.small.append(small)
        self.owners.append(np.array([places[t.digest] for t in rows], dtype=np.uint32))
        self.count += len(rows)

    def joined(self) -> Hashes:
        """All of them."""
        return Hashes(
            tuple(map(_joined, self.asked)),
            tuple(map(_joined, self.offered)),
            _joined(self.gradients),
            np.concatenate([np.empty(0, np.uint32), *self.owners]),
            np.concatenate([np.empty((0, REDUCED, REDUCED), np.uint8), *self.small]),
        )


def _hashed(
    part: tuple[Sequence[Thumbnail], int, set[int]],
) -> tuple[int, Hashed, Hashed, Hashed, Small]:
    """Where some thumbnails begin, and numbered from 0: asked, offered, gradients; reduced."""
    rows, start, cut = part
    shown = views.pictures(rows)
    asked = views.ask(shown, 0)
    crops = np.array([k for k in range(len(rows)) if start + k in cut], dtype=np.int64)
    upright = asked.of_view(0)
    whole = np.array([t.view == WHOLE_VIEW for t in rows], dtype=bool)[upright.rows]
    telling = upright.rows[whole]
    gradients = Hashed(views.gradients(shown[telling]), telling, np.zeros(len(telling), np.int64))
    return start, asked, views.offer(shown[crops], crops), gradients, views.reduce(shown)


def _view(hashed: Hashed, view: int, first: int) -> View:
    one = hashed.of_view(view)
    return View(one.bits, (one.rows + first).astype(np.uint32))


def _joined(parts: list[View]) -> View:
    """Several as one; the parts are given back to the system."""
    bits = np.concatenate([np.empty(0, np.uint64), *(p.bits for p in parts)])
    rows = np.concatenate([np.empty(0, np.uint32), *(p.rows for p in parts)])
    parts.clear()
    return View(bits, rows)


def _croppable(rows: Sequence[Thumbnail]) -> Iterable[int]:
    """Of each image what is inside its border, or the whole where it has none."""
    best = {t.digest: k for k, t in enumerate(rows) if t.view == WHOLE_VIEW}
    best |= {t.digest: k for k, t in enumerate(rows) if t.view == "trimmed"}
    return best.values()


@dataclass(frozen=True, slots=True)
class Asked:
    """Which pairs are looked for.

    Attributes:
        known: packed pairs of images that are left out, sorted.
        alike: says which pairs of thumbnails are candidates; None takes all whose hashes are near.
        sides: (images,) two images of one side are no pair, unless it is -1; None pairs all.
    """

    known: Bits
    alike: Opinion | None = None
    sides: Index | None = None

    def wanted(self, pairs: Bits) -> NDArray[np.bool_]:
        """(N,) which pairs of images are looked for."""
        wanted = ~_among(pairs, self.known)
        if self.sides is not None:
            one, other = (self.sides[image] for image in _unpacked(pairs))
            wanted &= (one != other) | (one < 0)
        return wanted


def find_candidates(
    hashes: Hashes, distance_bits: int, asked: Asked, progress: Progress | None = None
) -> Candidates:
    """Pairs of views near each other, at most ATTEMPTS for each pair of images.

    Args:
        hashes: of all views.
        distance_bits: 0 to 16; more is looked for, by BEYOND.
        asked: which of them are looked for.
        progress: is told of each kind of view that is done.
    """
    progress = progress or Silent()
    distance = min(distance_bits + BEYOND, hamming.LARGEST_DISTANCE)
    gradients = min(distance_bits + GRADIENT_BEYOND, hamming.LARGEST_DISTANCE)
    best = _Best(hashes.owners, hashes.firsts(), asked)
    upright = [view.spare() for view in hashes.asked[:UPRIGHT_TURNS]]
    joins = (
        partial(near_whole, hashes.asked[0], distance, best),
        partial(near_gradients, hashes, gradients, best),
        partial(near_turned, hashes, upright[0], distance, best),
        partial(near_crops, hashes, upright, distance, best),
    )
    progress.start("compare views: whole, dHash, turned, crops", len(joins))
    for join in joins:
        join()
        progress.advance(1)
    return best.chosen()


@dataclass(frozen=True, slots=True)
class Near:
    """(N,) pairs of thumbnails whose hashes are near.

    Which is asked, how it is laid down, which is offered, what of it (a number of CROPS, or the next
    number for the whole), and how many bits differ.
    """

    asked: Rows
    turn: Numbers
    offered: Rows
    crop: Numbers
    bits: Numbers

    def __getitem__(self, some: NDArray[np.bool_]) -> "Near":
        return Near(
            self.asked[some], self.turn[some], self.offered[some], self.crop[some], self.bits[some]
        )

    def pairs(self) -> Pairs:
        """The same as pictures to lay on each other."""
        return Pairs(self.asked, self.turn, self.offered, WINDOWS[self.crop])


def _all(number: int, like: Numbers) -> Numbers:
    return np.full(len(like), number, dtype=np.uint8)


def near_whole(view: View, distance: int, best: "_Best") -> None:
    """Thumbnails as they are, by pHash."""
    for near in hamming.self_blocks(view.bits, distance, copies=COPIES):
        best.add(_whole(view.rows[near.i], view.rows[near.j], near.d))


def _whole(asked: Rows, offered: Rows, bits: Numbers) -> "Near":
    return Near(asked, _all(0, bits), offered, _all(len(CROPS), bits), bits)


def near_gradients(hashes: Hashes, distance: int, best: "_Best") -> None:
    """Whole pictures by dHash, which a box in them disturbs less, unless pHash or detail speak against it.

    Look-alikes by dHash are a share of all pairs, and a hundred times as many among ten times the images:
    what turns them away has to cost some nanoseconds.
    """
    view, upright = hashes.gradients, hashes.asked[0]
    low: Bits = np.zeros(len(hashes.owners), dtype=np.uint64)
    low[upright.rows] = upright.bits
    low, signs = low[view.rows], verify.detail_signs(hashes.small[view.rows])
    for near in hamming.self_blocks(view.bits, distance, copies=COPIES):
        apart = np.bitwise_count(low[near.i] ^ low[near.j]) + GRADIENT_WEIGHT * near.d
        some = np.flatnonzero(apart <= BITS_TOGETHER)
        unlike = verify.signs_apart(signs, near.i[some], near.j[some])
        some = some[SIGNS_WEIGHT * apart[some].astype(np.int64) + unlike <= ALL_TOGETHER]
        asked, offered = view.rows[near.i[some]], view.rows[near.j[some]]
        best.add(_whole(asked, offered, near.d[some]))


def near_turned(hashes: Hashes, upright: View, distance: int, best: "_Best") -> None:
    """Thumbnails, one of them laid down another way; the other order is found by the inverse turn."""
    turned = [(turn, hashes.asked[turn]) for turn in range(1, len(TURNS))]
    for some in _groups(turned):
        bits, rows, turns = _stacked(some)
        for near in hamming.cross_blocks(bits, upright.bits, distance):
            asked, offered = rows[near.i], upright.rows[near.j]
            found = Near(asked, turns[near.i], offered, _all(len(CROPS), near.d), near.d)
            best.add(found[asked <= offered])


def near_crops(hashes: Hashes, upright: Sequence[View], distance: int, best: "_Best") -> None:
    """Thumbnails as they are, or mirrored, against all crops."""
    bits, rows, turns = _stacked(list(enumerate(upright)))
    for some in _groups(list(enumerate(hashes.offered))):
        cut, cut_rows, crops = _stacked(some)
        for near in hamming.cross_blocks(bits, cut, distance):
            best.add(Near(rows[near.i], turns[near.i], cut_rows[near.j], crops[near.j], near.d))


def _groups(numbered: Sequence[tuple[int, View]]) -> Iterator[list[tuple[int, View]]]:
    """Views in groups of at most AT_ONCE hashes, or of one view."""
    group: list[tuple[int, View]] = []
    size = 0
    for number, view in numbered:
        if group and size + len(view) > AT_ONCE:
            yield group
            group, size = [], 0
        group.append((number, view.spare()))
        size += len(view)
    if group:
        yield group


def _stacked(numbered: Sequence[tuple[int, View]]) -> tuple[Bits, Rows, NDArray[np.uint8]]:
    """Hashes, thumbnails and numbers of some views, as three columns."""
    counts = [len(view) for _, view in numbered]
    return (
        np.concatenate([view.bits for _, view in numbered]),
        np.concatenate([view.rows for _, view in numbered]),
        np.repeat(np.array([number for number, _ in numbered], dtype=np.uint8), counts),
    )


@dataclass(slots=True)
class _Best:
    """The best pairs of views of each pair of images, among those that have come so far."""

    owners: Rows
    firsts: Rows
    asked: Asked
    best: Candidates = field(
        default_factory=lambda: Candidates(np.empty(0, np.uint64), np.empty(0, np.uint32))
    )
    waiting: list[Candidates] = field(default_factory=list)
    size: int = 0

    def add(self, near: Near) -> None:
        """Pairs of thumbnails that are near; kept are those that are looked for."""
        one, other = self.owners[near.asked], self.owners[near.offered]
        near = near[(one != other) & self.asked.wanted(packed(one, other))]
        if self.asked.alike is not None:
            near = near[self.asked.alike(near.pairs())]
        self.waiting.append(self._ranked(near))
        self.size += len(near.bits)
        # Sorted anew when as much has come as there is: work stays in proportion to what comes.
        if self.size > max(KEPT_AT_ONCE, len(self.best)):
            self.best = self.chosen()

    def chosen(self) -> Candidates:
        """The best of all."""
        parts = [self.best, *self.waiting]
        self.waiting, self.size = [], 0
        return _nearest(
            np.concatenate([p.pairs for p in parts]), np.concatenate([p.ranks for p in parts])
        )

    def _ranked(self, near: Near) -> Candidates:
        one, other = self.owners[near.asked], self.owners[near.offered]
        crop = np.where(near.crop == len(CROPS), WHOLE_CROP, near.crop.astype(np.int64))
        rank = (
            near.bits.astype(np.uint32) << np.uint32(DISTANCE_AT)
            | near.turn.astype(np.uint32) << np.uint32(TURN_AT)
            | (crop - WHOLE_CROP).astype(np.uint32) << np.uint32(CROP_AT)
            | (one > other).astype(np.uint32) << np.uint32(SIDE_AT)
            | (near.asked - self.firsts[near.asked]) << np.uint32(PART_BITS)
            | (near.offered - self.firsts[near.offered])
        )
        return Candidates(packed(one, other), rank)


def _among(pairs: Bits, known: Bits) -> NDArray[np.bool_]:
    """(N,) which pairs are known; `known` is sorted."""
    if not len(known):
        return np.zeros(len(pairs), dtype=bool)
    place = np.searchsorted(known, pairs).clip(0, len(known) - 1)
    return np.asarray(known[place] == pairs)


def _nearest(pairs: Bits, ranks: NDArray[np.uint32]) -> Candidates:
    """The first ATTEMPTS of each pair of images: nearest, then simplest, then in order."""
    order = np.lexsort((ranks, pairs))
    pairs = pairs[order]
    third = np.ones(len(pairs), dtype=bool)
    third[ATTEMPTS:] = pairs[ATTEMPTS:] != pairs[:-ATTEMPTS]
    return Candidates(pairs[third], ranks[order[third]])
