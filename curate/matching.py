"""Which images are the same picture.

Two images match when their upright pixels are equal, or when they look the same: their pHash
differs in at most `distance_bits` bits, and pHash and dHash together in at most twice as many. The
second condition is there because aligned pictures of one kind (faces, products) have look-alikes by
chance: among 2,200 unrelated faces, 69 pairs lie within 8 bits of pHash and 9 of them remain; of
copies re-encoded, resized, brightened, blurred or cropped by 2% it loses less than 1%, of copies
cropped by 5% it loses 2%.

Pure. `a` < `b` in every match, each pair comes once, with the strongest reason.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curate import hamming
from schemas.labels import MatchKind
from schemas.records import Match

COPIES = 64
"""Where more images than this are equal, each is matched with the first alone: still connected."""


def find_matches(
    digests: Sequence[str],
    pixels: Sequence[str | None],
    phashes: Mapping[str, int],
    dhashes: Mapping[str, int],
    *,
    distance_bits: int,
    made_by: str,
    confirm: bool = True,
) -> Iterator[Match]:
    """Every pair of images that are the same picture: first those of same pixels, then near ones.

    Args:
        digests: the images.
        pixels: the pixel digest of each; None for one that does not decode.
        phashes: by digest; an image without one (flat, not decoded) matches by its pixels alone.
        dhashes: by digest, for the same images as `phashes`.
        distance_bits: largest pHash distance of a near match, 0 to 16.
        made_by: stage, version and threshold, for the rows.
        confirm: ask dHash too; False gives every pair within the distance (for leak checks).

    Raises:
        ValueError: if `distance_bits` is out of range.
    """
    by_digest = dict(sorted(zip(digests, pixels, strict=True)))
    names = list(by_digest)
    codes = _codes(list(by_digest.values()))
    for i, j in _same_pixels(codes):
        yield Match(names[i], names[j], MatchKind.PIXELS.value, 0, made_by, verified=1.0)
    yield from _near(names, codes, phashes, dhashes, distance_bits, made_by, confirm)


def _near(
    names: Sequence[str],
    codes: NDArray[np.int64],
    phashes: Mapping[str, int],
    dhashes: Mapping[str, int],
    distance_bits: int,
    made_by: str,
    confirm: bool,
) -> Iterator[Match]:
    """Pairs i < j that look the same and are not known to have the same pixels."""
    hashed = np.array(
        [k for k, name in enumerate(names) if name in phashes and name in dhashes], dtype=np.int64
    )
    coarse = np.array([phashes[names[k]] for k in hashed], dtype=np.uint64)
    fine = np.array([dhashes[names[k]] for k in hashed], dtype=np.uint64)
    near = hamming.self_join(coarse, distance_bits, copies=COPIES)
    apart = np.bitwise_count(fine[near.i] ^ fine[near.j])
    other = _differ(codes, hashed[near.i], hashed[near.j])
    close = near.d.astype(np.int64) + apart <= 2 * distance_bits
    for k in np.flatnonzero(other & close if confirm else other):
        a, b = names[hashed[near.i[k]]], names[hashed[near.j[k]]]
        score = 1.0 - int(apart[k]) / 64
        yield Match(a, b, MatchKind.NEAR.value, int(near.d[k]), made_by, verified=score)


def _codes(pixels: Sequence[str | None]) -> NDArray[np.int64]:
    """(N,) a number per distinct pixel digest, -1 for None."""
    numbers: dict[str, int] = {}
    codes = (-1 if p is None else numbers.setdefault(p, len(numbers)) for p in pixels)
    return np.fromiter(codes, dtype=np.int64, count=len(pixels))


def _same_pixels(codes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs i < j of one code, sorted."""
    known = np.flatnonzero(codes >= 0)
    pairs = hamming.self_join(codes[known].astype(np.uint64), 0, copies=COPIES)
    yield from zip(known[pairs.i].tolist(), known[pairs.j].tolist(), strict=True)


def _differ(
    codes: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Pairs whose pixels are not known to be equal."""
    differ: NDArray[np.bool_] = (codes[i] != codes[j]) | (codes[i] < 0)
    return differ
