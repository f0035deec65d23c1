"""Images with several hashes each: which images have a hash near a hash of another."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.hamming.copies import Bits, Block, Copies, Index, expanded
from curate.hamming.distinct import POSITION_BITS, Found, Limits, Side, check, join


@dataclass(frozen=True, slots=True)
class OwnerPairs:
    """(P,) owners `a` < `b`, sorted, no pair twice, and of each the nearest two hashes.

    `d` is their distance in bits, `query` and `index` are their positions; of several as near, the
    smallest query position and then the smallest index position. Either of the two owners may be
    the one of the query.
    """

    a: Index
    b: Index
    d: NDArray[np.uint8]
    query: Index
    index: Index

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True, slots=True)
class _Best:
    """Pairs of owners with distance, packed and sorted, and the query and index row, packed."""

    key: Bits
    rows: Bits

    @classmethod
    def none(cls) -> "_Best":
        """Of no pairs."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64))

    @classmethod
    def of(cls, key: Bits, rows: Bits) -> "_Best":
        """The nearest of each pair of owners, then the smallest rows."""
        order = np.argsort(key)
        key = key[order]
        level = np.flatnonzero(np.diff(key, prepend=~key[:1]))  # equal owners and equal distance
        rows = np.minimum.reduceat(rows[order], level) if len(level) else rows
        pair = key[level] >> np.uint64(5)
        first = np.flatnonzero(np.diff(pair, prepend=~pair[:1]))
        return cls(key[level][first], rows[first])

    def unpacked(self) -> OwnerPairs:
        mask = np.uint64((1 << POSITION_BITS) - 1)
        key, rows = self.key, self.rows
        return OwnerPairs(
            (key >> np.uint64(POSITION_BITS + 5)).astype(np.int64),
            ((key >> np.uint64(5)) & mask).astype(np.int64),
            (key & np.uint64(31)).astype(np.uint8),
            (rows >> np.uint64(32)).astype(np.int64),
            (rows & np.uint64(0xFFFFFFFF)).astype(np.int64),
        )


def owner_join(
    query_bits: Bits,
    query_owner: Index,
    index_bits: Bits,
    index_owner: Index,
    distance: int,
    *,
    copies: int | None = None,
    limits: Limits | None = None,
) -> OwnerPairs:
    """The pairs of different owners of which a query hash is near an index hash.

    Args:
        query_bits: (N,) hashes.
        query_owner: (N,) whose they are: an image's number, 0 to 2^29 - 1.
        index_bits: (M,) hashes.
        index_owner: (M,) whose they are, in the same numbering. An image of another set needs a
            number of its own.
        distance: 0 to 16 bits.
        copies: where more owners than this hold one hash, the first of them alone stands for it
            towards others and is paired with each of the rest: the connected sets stay the same.
            None gives every pair.
        limits: what bounds time and memory.

    Raises:
        ValueError: if `distance` or an owner is out of range, or lengths differ.
    """
    check(distance, max(len(query_bits), len(index_bits)))
    limits = limits or Limits()
    query, index = _Owned.of(query_bits, query_owner), _Owned.of(index_bits, index_owner)
    best, waiting, size = _Best.none(), list[_Best](), 0
    for block in _candidates(query, index, distance, copies, limits):
        waiting.append(_Best.of(*_packed(block, query, index)))
        size += len(waiting[-1].key)
        # Sorted anew when as much has come as there is: work stays in proportion to what comes.
        if size > max(limits.block, len(best.key)):
            best, waiting, size = _merged([best, *waiting]), [], 0
    return _merged([best, *waiting]).unpacked()


@dataclass(frozen=True, slots=True)
class _Owned:
    """Hashes with owners, each hash of one owner once; `rows` leads back to the positions given."""

    hashes: Copies
    owner: Index
    rows: Index

    @classmethod
    def of(cls, bits: Bits, owner: Index) -> "_Owned":
        owner = np.asarray(owner, dtype=np.int64)
        _check_owners(len(bits), owner)
        rows = np.argsort(owner, kind="stable")
        hashes, owner = Copies.of(np.asarray(bits, dtype=np.uint64)[rows]), owner[rows]
        return cls(_once(hashes, owner), owner, rows)

    def side(self) -> Side:
        """The distinct hashes; one that a single image has is told to be its own."""
        first = self.owner[self.hashes.order[self.hashes.starts]] + 1
        return Side(self.hashes.values, np.where(self.hashes.sizes > 1, 0, first).astype(np.uint32))


def _check_owners(count: int, owner: Index) -> None:
    if len(owner) != count:
        raise ValueError(f"{count} hashes and {len(owner)} owners: expected one owner a hash")
    if len(owner) and not 0 <= owner.min() <= owner.max() < 1 << POSITION_BITS:
        found = f"{owner.min()} to {owner.max()}"
        raise ValueError(f"owners are numbered {found}, not within 0 to 2^{POSITION_BITS} - 1")


def _once(hashes: Copies, owner: Index) -> Copies:
    """The same without further copies of a hash in one image; `owner` is sorted."""
    whose = owner[hashes.order]
    keep = np.ones(len(whose), dtype=bool)
    keep[1:] = whose[1:] != whose[:-1]
    keep[hashes.starts] = True
    sizes = np.add.reduceat(keep, hashes.starts, dtype=np.int64) if len(keep) else hashes.sizes
    return Copies(hashes.values, hashes.order[keep], np.cumsum(sizes) - sizes, sizes)


def _candidates(
    query: _Owned, index: _Owned, distance: int, copies: int | None, limits: Limits
) -> Iterator[Block]:
    """Pairs of rows whose hashes are near; where many hold one of the two hashes, a double star."""
    q, i = query.hashes, index.hashes
    one_q, one_i = np.ones_like(q.sizes), np.ones_like(i.sizes)
    for found in join(query.side(), index.side(), distance, limits):
        held = np.maximum(q.sizes[found.i], i.sizes[found.j])
        many = held > (held.max(initial=0) if copies is None else copies)
        star, full = (Found(found.i[x], found.j[x], found.d[x]) for x in (many, ~many))
        yield from expanded(full, q, i, q.sizes, i.sizes, limits.block)
        yield from expanded(star, q, i, q.sizes, one_i, limits.block)
        yield from expanded(star, q, i, one_q, i.sizes, limits.block)


def _packed(block: Block, query: _Owned, index: _Owned) -> tuple[Bits, Bits]:
    """Pairs of different owners with distance as one number, query and index row as another."""
    a, b = query.owner[block.i], index.owner[block.j]
    other = a != b
    a, b = a[other], b[other]
    pair = (np.minimum(a, b) << POSITION_BITS) | np.maximum(a, b)
    rows = (query.rows[block.i[other]] << 32) | index.rows[block.j[other]]
    return ((pair << 5) | block.d[other]).astype(np.uint64), rows.astype(np.uint64)


def _merged(parts: list[_Best]) -> _Best:
    return _Best.of(
        np.concatenate([part.key for part in parts]), np.concatenate([part.rows for part in parts])
    )
