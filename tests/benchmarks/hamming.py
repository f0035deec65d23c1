"""How fast near pairs are found. Run: python tests/benchmarks/hamming.py [largest N]

Random hashes with 1% planted near copies; brute force over all pairs beside it, up to 20,000.
"""

import resource
import sys
import time

import numpy as np

from curate import hamming


def planted(count: int, seed: int = 0) -> np.ndarray:
    """(count,) random hashes; one in a hundred is another with up to 8 bits flipped."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = count // 100
    flips = np.bitwise_or.reduce(
        np.uint64(1) << rng.integers(0, 64, (copies, 8)).astype(np.uint64), axis=1
    )
    bits[-copies:] = bits[:copies] ^ flips
    return bits


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    for count in (
        n for n in (10_000, 20_000, 100_000, 200_000, 500_000, 1_000_000) if n <= largest
    ):
        bits = planted(count)
        for distance in (4, 8, 10):
            start = time.perf_counter()
            pairs = hamming.self_join(bits, distance)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{count:9,} at {distance:2}: {seconds:6.2f} s, {len(pairs):7,} pairs, {peak} MB")
        if count <= 20_000:
            start = time.perf_counter()
            sum(np.count_nonzero(np.bitwise_count(b ^ bits) <= 8) for b in bits)
            print(f"{count:9,} brute force: {time.perf_counter() - start:6.2f} s")


if __name__ == "__main__":
    main()
