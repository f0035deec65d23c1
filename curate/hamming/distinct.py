"""Pairs of distinct hashes, in blocks, on all cores, in bounded memory.

Few hashes are compared by NumPy alone. Many are put into buckets, band by band, and pairs of buckets
that meet are scanned by compiled code; a pair belongs to the first band it meets in. Two buckets
that hold very many are joined the same way by their other bits, which differ more.

Each band is cut into parts, the same parts whatever the number of threads, and the blocks come in
the order of the parts. So the answer and its order depend on nothing but the hashes and the limits.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.hamming.bands import Band, Plan, flips, plan

Bits = NDArray[np.uint64]
"""(N,) hashes."""

Rows = NDArray[np.uint32]
"""(N,) rows of hashes."""

LARGEST_DISTANCE = 16

POSITION_BITS = 29
"""Two positions and a distance make one 64-bit number, which sorts fast and in little memory."""

DEPTH = 3
"""Buckets inside buckets inside buckets; what then still is heavy is compared pair by pair."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds time and memory. The answer is the same with any.

    Attributes:
        block: pairs given at a time; each thread has some 9 bytes for each of them.
        tile: hashes compared with all rows before the next ones are.
        plain: up to so many pairs are compared by NumPy, without compiled code: half a second.
        direct: up to so many pairs are compared without looking for bands.
        parts: into how many parts a band is cut.
        near: hashes in a block of keys, which is joined with one other block at a time: 16 MB, so
            that two fit into the third cache. Smaller blocks, for the second cache, cost more in
            turns than they save.
        threads: threads that scan; 0 for one per processor that this process may use.
    """

    block: int = 1 << 21
    tile: int = 1 << 12
    plain: int = 1 << 28
    direct: int = 1 << 27
    parts: int = 64
    near: int = 1 << 21
    threads: int = 0

    @property
    def workers(self) -> int:
        """How many threads scan."""
        return self.threads or len(os.sched_getaffinity(0))


class Found(NamedTuple):
    """(P,) rows of the left, rows of the right, distances in bits."""

    i: Rows
    j: Rows
    d: NDArray[np.uint8]

    def plain(self) -> tuple[Rows, Rows, NDArray[np.uint8]]:
        """For compiled code, which is to know no class of ours."""
        return self.i, self.j, self.d


@dataclass(frozen=True, slots=True)
class Side:
    """(N,) distinct hashes, and the number of each one's sole owner, 0 for none.

    Two rows of one sole owner are no pair. No owners at all: `sole` is empty.
    """

    bits: Bits
    sole: Rows

    def at(self, rows: Rows) -> "Side":
        """These rows alone."""
        return Side(self.bits[rows], self.sole[rows] if len(self.sole) else self.sole)


Step = Callable[[], tuple["Scanned", "Step | None"]]
"""One piece of work: what it found, and the piece that goes on from there."""


class Scanned(NamedTuple):
    """Pairs, and (S, 2) keys of buckets that are too heavy to scan."""

    found: Found
    heavy: NDArray[np.int64]


class Buckets(NamedTuple):
    """Hashes sorted by key, their rows, and where the bucket of each key begins."""

    bits: Bits
    rows: Rows
    begins: Rows

    def plain(self) -> tuple[Bits, Rows, Rows]:
        """For compiled code, which is to know no class of ours."""
        return self.bits, self.rows, self.begins

    def of(self, key: int) -> Rows:
        """The rows in one bucket."""
        return self.rows[self.begins[key] : self.begins[key + 1]]


def check(distance: int, count: int) -> None:
    """That a join is within what it is made for.

    Raises:
        ValueError: if it is not.
    """
    if not 0 <= distance <= LARGEST_DISTANCE:
        raise ValueError(f"distance {distance} is not within 0 to {LARGEST_DISTANCE} bits")
    if count > 1 << POSITION_BITS:
        raise ValueError(f"{count} hashes: more than 2^{POSITION_BITS}; join them in parts")


def join(a: Side, b: Side | None, distance: int, limits: Limits) -> Iterator[Found]:
    """Blocks of pairs within the distance; with `b` None of `a` with itself, each pair once."""
    n, m = len(a.bits), len((b or a).bits)
    if n * m <= limits.plain * (2 if b is None else 1):
        yield from _plain(a, b, distance, limits)
        return
    with ThreadPoolExecutor(limits.workers) as pool:
        yield from _Join(pool, distance, limits).pairs(a, b, 0)


def _plain(a: Side, b: Side | None, distance: int, limits: Limits) -> Iterator[Found]:
    """Every pair compared by NumPy, a block of rows at a time."""
    other = b or a
    rows = max(1, min(limits.block, 1 << 17) // max(1, len(other.bits)))
    for start in range(0, len(a.bits), rows):
        first = start if b is None else 0
        apart = np.bitwise_count(a.bits[start : start + rows, None] ^ other.bits[None, first:])
        i, j = np.nonzero(apart <= distance)
        keep = i < j if b is None else np.ones(len(i), dtype=bool)
        if len(a.sole):
            owner = a.sole[i + start]
            keep &= (owner == 0) | (owner != other.sole[j + first])
        i, j = i[keep], j[keep]
        if len(i):
            yield Found((i + start).astype(np.uint32), (j + first).astype(np.uint32), apart[i, j])


@dataclass(frozen=True, slots=True)
class _Join:
    """One join under way; its pool is shared by the joins inside heavy buckets."""

    pool: ThreadPoolExecutor
    distance: int
    limits: Limits

    def pairs(self, a: Side, b: Side | None, depth: int) -> Iterator[Found]:
        n, m = len(a.bits), len((b or a).bits)
        bands = None
        if depth < DEPTH and n * m > self.limits.direct:
            if b is not None and n > m:  # keys are walked on the left: let it be the smaller
                yield from (Found(f.j, f.i, f.d) for f in self.pairs(b, a, depth))
                return
            bands = plan(a.bits, None if b is None else b.bits, self.distance)
        if bands is None:
            yield from self._compared(a, b)
        else:
            yield from self._banded(a, b, bands, depth)

    def _compared(self, a: Side, b: Side | None) -> Iterator[Found]:
        """Every pair, tile by tile."""
        steps = (
            partial(_compare, self, a, b, tile, start)
            for tile in range(0, len((b or a).bits), self.limits.tile)
            for start in range(
                0, len(a.bits) if b else min(len(a.bits), tile + self.limits.tile), 1 << 16
            )
        )
        for scanned in self._in_order(steps):
            yield scanned.found

    def _banded(self, a: Side, b: Side | None, bands: Plan, depth: int) -> Iterator[Found]:
        """The pairs that meet in a band."""
        from curate.hamming import kernels

        table = bands.table()
        left = kernels.dealt(a.bits, table)
        right = left if b is None else kernels.dealt(b.bits, table)
        for number, band in enumerate(bands.bands):
            scan = _Scan.of(self, a, b, left, right, band, bands.bands[:number])
            for scanned in self._in_order(scan.steps()):
                if len(scanned.found.i):
                    yield scanned.found
                for key, target in scanned.heavy.tolist():
                    yield from scan.inside(key, target, depth)

    def _in_order(self, steps: Iterable[Step]) -> Iterator[Scanned]:
        """What the steps find, in their order, some of them worked on ahead."""
        source = iter(steps)
        ahead = self.limits.workers + 2
        waiting: deque[Future[tuple[Scanned, Step | None]]] = deque(
            self.pool.submit(step) for step in islice(source, ahead)
        )
        while waiting:
            scanned, rest = waiting.popleft().result()
            if rest is not None:
                waiting.appendleft(self.pool.submit(rest))
            else:
                waiting.extend(self.pool.submit(step) for step in islice(source, 1))
            yield scanned


def _columns(size: int) -> Found:
    return Found(np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.uint8))


def _trimmed(columns: Found, count: int) -> Found:
    """Copies of the first rows, so that the rest of the columns is free again."""
    i, j, d = columns
    return Found(i[:count].copy(), j[:count].copy(), d[:count].copy())


NO_KEYS = np.empty((0, 2), dtype=np.int64)


def _compare(
    work: _Join, a: Side, b: Side | None, tile: int, row: int, last: int = 0
) -> tuple[Scanned, Step | None]:
    """Some rows of `a` with one tile of the other side."""
    from curate.hamming import kernels

    other = b or a
    end = min(tile + work.limits.tile, len(other.bits))
    last = last or min(row + (1 << 16), len(a.bits) if b else end)
    out = _columns(max(work.limits.block, work.limits.tile))
    row, count = kernels.compare(
        row, last, tile, end, b is None, a.bits, other.bits,
        np.uint64(work.distance), (a.sole, other.sole), out.plain(),
    )  # fmt: skip
    rest = partial(_compare, work, a, b, tile, row, last) if row < last else None
    return Scanned(_trimmed(out, count), NO_KEYS), rest


@dataclass(frozen=True, slots=True)
class _Scan:
    """The scan of one band."""

    work: _Join
    a: Side
    b: Side | None
    left: Buckets
    right: Buckets
    used: Rows
    band: Band
    earlier: tuple[Bits, Bits]

    @classmethod
    def of(
        cls, work: _Join, a: Side, b: Side | None, dealt_a: Bits, dealt_b: Bits,
        band: Band, earlier: tuple[Band, ...],
    ) -> "_Scan":  # fmt: skip
        """Both sides in buckets."""
        from curate.hamming import kernels

        sides = [dealt_a] if b is None else [dealt_a, dealt_b]
        buckets = list(work.pool.map(partial(_buckets, band=band), sides))
        masks = np.array([e.mask for e in earlier], dtype=np.uint64)
        units = np.array([e.units for e in earlier], dtype=np.uint64)
        left, right = buckets[0], buckets[-1]
        used = kernels.used_keys(left.begins)
        return cls(work, a, b, left, right, used, band, (masks, units))

    def steps(self) -> Iterator[Step]:
        """The band cut into parts."""
        if self.band.middle:
            cuts = np.linspace(0, 1 << self.band.width, self.work.limits.parts + 1).astype(np.int64)
            for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
                if begin < end:
                    yield partial(self.meet, (begin, 0), end)
            return
        cuts = np.linspace(0, len(self.used), self.work.limits.parts + 1).astype(np.int64)
        for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            if begin < end:
                yield partial(self.step, (begin, 0, begin, 0), end)

    def step(self, begin: tuple[int, int, int, int], last: int) -> tuple[Scanned, Step | None]:
        """As much of a part as one block holds."""
        from curate.hamming import kernels

        limits = self.work.limits
        out, heavy = _columns(limits.block), np.empty((256, 2), dtype=np.int64)
        state = np.array(begin, dtype=np.int64)
        count, skipped = kernels.scan(
            state, last, self.b is None, self.used, self.left.plain(), self.right.plain(),
            *self._ways(), self._rules(), limits.block // 2, self._piece(), out.plain(), heavy,
        )  # fmt: skip
        rest = partial(self.step, tuple(state.tolist()), last) if state[0] < last else None
        return Scanned(_trimmed(out, count), heavy[:skipped]), rest

    def meet(self, begin: tuple[int, int], last: int) -> tuple[Scanned, Step | None]:
        """The same, where buckets are joined halfway between them."""
        from curate.hamming import middle

        limits = self.work.limits
        out, heavy = _columns(limits.block), np.empty((256, 2), dtype=np.int64)
        state = np.array(begin, dtype=np.int64)
        count, skipped = middle.meet(
            state, last, self.b is None, self.band.width, self.left.plain(), self.right.plain(),
            self._rules(), limits.block // 2, out.plain(), heavy,
        )  # fmt: skip
        rest = partial(self.meet, tuple(state.tolist()), last) if state[0] < last else None
        return Scanned(_trimmed(out, count), heavy[:skipped]), rest

    def _ways(self) -> tuple[int, Rows, tuple[Rows, NDArray[np.int64]]]:
        """Bits of a key inside a block, their flips, and the turns: flips of the bits above."""
        width, units = self.band.width, self.band.units
        low = max(0, width - (len(self.right.rows) // self.work.limits.near).bit_length())
        (inside, counts), (above, numbers) = flips(low, units), flips(width - low, units)
        ways = np.repeat(counts[:0:-1], np.diff(numbers))
        if self.b is None:  # first each bucket with itself
            above, ways = np.append(above[:1], above), np.append(np.int64(1), ways)
        return low, inside, (above, ways)

    def _piece(self) -> int:
        """How many hashes of a bucket are looked at together."""
        from curate.hamming import kernels

        return kernels.RUN if self.band.runs else kernels.REST

    def _rules(self) -> tuple[np.uint64, Bits, Bits, Rows, Rows]:
        """What makes a pair, for compiled code."""
        return (np.uint64(self.work.distance), *self.earlier, self.a.sole, (self.b or self.a).sole)

    def inside(self, key: int, target: int, depth: int) -> Iterator[Found]:
        """The pairs of two heavy buckets, or inside one."""
        rows, others = self.left.of(key), self.right.of(target)
        same = self.b is None and key == target
        right = None if same else (self.b or self.a).at(others)
        for found in self.work.pairs(self.a.at(rows), right, depth + 1):
            i, j = rows[found.i], others[found.j]
            new = self._first_here(key, target, found)
            if new.any():
                yield Found(i[new], j[new], found.d[new])

    def _first_here(self, key: int, target: int, found: Found) -> NDArray[np.bool_]:
        """Which pairs met in no band before this one."""
        a = self.left.bits[self.left.begins[key] :][found.i]
        b = self.right.bits[self.right.begins[target] :][found.j]
        new = np.ones(len(found.i), dtype=bool)
        for mask, units in zip(*self.earlier, strict=True):
            new &= np.bitwise_count((a ^ b) & mask) >= units
        return new


def _buckets(bits: Bits, band: Band) -> Buckets:
    from curate.hamming import kernels

    begins = kernels.counts(bits, band.shift, band.width)
    placed = np.zeros(len(bits) + kernels.PAST, dtype=np.uint64)
    rows = np.empty(len(bits), dtype=np.uint32)
    kernels.place(bits, band.shift, band.width, begins, placed, rows)
    return Buckets(placed, rows, begins)
