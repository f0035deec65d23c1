"""All pairs of 64-bit hashes within a Hamming distance, exactly.

`self_join` and `cross_join` give the whole answer, sorted; `self_blocks`, `cross_blocks` and
`added_blocks` give it piece by piece, for answers larger than memory; `added_join` compares what is
new with what there was, without comparing that again; `owner_join` joins images with several
hashes each.

The way is multi-index hashing: see `bands` for the idea and its paper, `distinct` for buckets, threads
and blocks, `kernels` for the compiled loops, `copies` for equal hashes, `owners` for images.

Invariants: the answer depends neither on block sizes nor on bands nor on the number of threads;
each pair comes once; equal hashes are compared as one; working memory is bounded by `Limits`, beside
some 60 bytes a hash and the answer itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.hamming.copies import Bits, Block, Copies, Index, expanded
from curate.hamming.distinct import LARGEST_DISTANCE, POSITION_BITS, Limits, Side, check, join
from curate.hamming.owners import OwnerPairs, owner_join

__all__ = [
    "LARGEST_DISTANCE",
    "Block",
    "Limits",
    "OwnerPairs",
    "Pairs",
    "added_blocks",
    "added_join",
    "cross_blocks",
    "cross_join",
    "owner_join",
    "self_blocks",
    "self_join",
]

NOBODY = np.empty(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Pairs:
    """(P,) positions `i` and `j` and distances `d`, sorted by (i, j), no pair twice."""

    i: Index
    j: Index
    d: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.i)


def self_join(
    bits: Bits, distance: int, *, copies: int | None = None, limits: Limits | None = None
) -> Pairs:
    """All pairs i < j of `bits` that differ in at most `distance` bits.

    Args:
        bits: (N,) hashes, at most 2^29.
        distance: 0 to 16 bits.
        copies: where more hashes than this are equal, they are tied to the first of them alone, and
            it stands for them towards others: the connected sets stay the same, the answer stays
            small. None gives every pair.
        limits: what bounds time and memory.

    Raises:
        ValueError: if `distance` is out of range.
    """
    return _sorted(self_blocks(bits, distance, copies=copies, limits=limits))


def cross_join(
    a: Bits, b: Bits, distance: int, *, copies: int | None = None, limits: Limits | None = None
) -> Pairs:
    """All pairs of a position in `a` and one in `b` that differ in at most `distance` bits.

    Args:
        a: (N,) hashes, at most 2^29.
        b: (M,) hashes, at most 2^29.
        distance: 0 to 16 bits.
        copies: as in `self_join`: of more equal hashes on one side than this, the first alone.
        limits: what bounds time and memory.

    Raises:
        ValueError: if `distance` is out of range.
    """
    return _sorted(cross_blocks(a, b, distance, copies=copies, limits=limits))


def added_join(
    bits: Bits,
    known: int,
    distance: int,
    *,
    copies: int | None = None,
    limits: Limits | None = None,
) -> Pairs:
    """The pairs that came with `bits[known:]`: what `self_join` gives now and did not before.

    With `copies`, not those very pairs, but some that connect the same sets when added to them.

    Args:
        bits: (N,) hashes, those known before in front.
        known: how many were known, 0 to N.
        distance: 0 to 16 bits.
        copies: as in `self_join`.
        limits: what bounds time and memory.

    Raises:
        ValueError: if `distance` or `known` is out of range.
    """
    return _sorted(added_blocks(bits, known, distance, copies=copies, limits=limits))


def self_blocks(
    bits: Bits, distance: int, *, copies: int | None = None, limits: Limits | None = None
) -> Iterator[Block]:
    """The pairs of `self_join` as they are found, in blocks, always the same ones."""
    check(distance, len(bits))
    return _self_blocks(bits, distance, copies, limits or Limits())


def _self_blocks(bits: Bits, distance: int, copies: int | None, limits: Limits) -> Iterator[Block]:
    hashes = Copies.of(bits)
    shown = hashes.shown(copies)
    yield from hashes.ties(copies, limits.block)
    for found in join(Side(hashes.values, NOBODY), None, distance, limits):
        for block in expanded(found, hashes, hashes, shown, shown, limits.block):
            yield Block(np.minimum(block.i, block.j), np.maximum(block.i, block.j), block.d)


def cross_blocks(
    a: Bits, b: Bits, distance: int, *, copies: int | None = None, limits: Limits | None = None
) -> Iterator[Block]:
    """The pairs of `cross_join` as they are found, in blocks, always the same ones."""
    check(distance, max(len(a), len(b)))
    return _cross_blocks(a, b, distance, copies, limits or Limits())


def _cross_blocks(
    a: Bits, b: Bits, distance: int, copies: int | None, limits: Limits
) -> Iterator[Block]:
    left, right = Copies.of(a), Copies.of(b)
    shown_a, shown_b = left.shown(copies), right.shown(copies)
    sides = Side(left.values, NOBODY), Side(right.values, NOBODY)
    for found in join(*sides, distance, limits):
        yield from expanded(found, left, right, shown_a, shown_b, limits.block)


def added_blocks(
    bits: Bits,
    known: int,
    distance: int,
    *,
    copies: int | None = None,
    limits: Limits | None = None,
) -> Iterator[Block]:
    """The pairs of `added_join` as they are found, in blocks, always the same ones."""
    if not 0 <= known <= len(bits):
        raise ValueError(f"{known} known hashes of {len(bits)}: expected 0 to {len(bits)}")
    old, new = bits[:known], bits[known:]
    check(distance, len(bits))
    for block in cross_blocks(old, new, distance, copies=copies, limits=limits):
        yield Block(block.i, block.j + known, block.d)
    for block in self_blocks(new, distance, copies=copies, limits=limits):
        yield Block(block.i + known, block.j + known, block.d)


def _sorted(blocks: Iterable[Block]) -> Pairs:
    """One answer out of blocks."""
    packed = [(b.i << (POSITION_BITS + 5)) | (b.j << 5) | b.d for b in blocks]
    pairs = np.concatenate([np.empty(0, dtype=np.int64), *packed])
    del packed
    pairs.sort()
    i, j = pairs >> (POSITION_BITS + 5), (pairs >> 5) & ((1 << POSITION_BITS) - 1)
    return Pairs(i, j, (pairs & 31).astype(np.uint8))
