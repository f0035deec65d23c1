"""How fast near pairs are found. Run: python tests/benchmarks/hamming.py --peer PYTHON

Every figure is a process of its own, so that its peak memory is its own. With `--peer`, an
interpreter that has faiss-cpu (this one, if it has), IndexBinaryFlat.range_search answers the same
question beside us, on as many threads, and the pairs must be the same. What is defended, at distance 8
on two cores: 200,000 hashes 10 times as fast as FAISS; a million in under 20 s and 4 GB; ten times the
hashes for at most 14 times the time, where there are not more than ten times the pairs: ten million skewed
ones have 48 times those of a million, and take 50 times as long.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DISTANCE = 8
THREADS = len(os.sched_getaffinity(0))


def near(rng, bits, flips):
    """The hashes with up to `flips` bits changed in each."""
    changed = np.uint64(1) << rng.integers(0, 64, (flips, len(bits))).astype(np.uint64)
    return bits ^ np.bitwise_or.reduce(changed, axis=0)


def random(rng, count):
    return rng.integers(0, 2**64, count, dtype=np.uint64)


def clustered(rng, count):
    """Four near copies of each of a quarter as many, on the average."""
    return near(rng, random(rng, count // 4)[rng.integers(0, count // 4, count)], 6)


def skewed(rng, count):
    """Bits that are rarely or nearly always set; five heavy buckets; three times 2,000 equal hashes."""
    bits = np.zeros(count, dtype=np.uint64)
    for bit, share in enumerate(rng.beta(2, 2, 64)):
        bits |= (rng.random(count) < share).astype(np.uint64) << np.uint64(bit)
    order = rng.permutation(count)
    for heavy in np.array_split(order[: count // 10], 5):
        mask = np.bitwise_or.reduce(
            np.uint64(1) << rng.choice(64, 24, replace=False).astype(np.uint64)
        )
        bits[heavy] = bits[heavy] & ~mask | random(rng, 1) & mask
    bits[order[-6000:]] = np.repeat(random(rng, 3), 2000)
    return bits


def views(rng, images):
    """Ten hashes an image to find and three to look for, a third of the images copies of others.

    The first three of the ten are nearly the same, as raw, trimmed and boxed views are; the three to
    look for are the raw view, a crop, and a mirror that is nowhere.
    """
    originals = images - images // 3
    source = np.concatenate([np.arange(originals), rng.integers(0, originals, images // 3)])
    base = random(rng, originals * 10).reshape(-1, 10)
    base[:, 1:3] = near(rng, np.repeat(base[:, 0], 2), 2).reshape(-1, 2)
    index = near(rng, base[source].ravel(), 3).reshape(-1, 10)
    query = np.stack([index[:, 0], index[:, 5], random(rng, images)], axis=1)
    owner = np.arange(images)
    return query.ravel(), np.repeat(owner, 3), index.ravel(), np.repeat(owner, 10)


KINDS = {"random": random, "clustered": clustered, "skewed": skewed}


def hashes(kind, count):
    return KINDS[kind](np.random.default_rng(count), count)


def prepared(kind, count):
    """Hashes to join, by code that is loaded, or at its first use compiled, before the clock starts."""
    from curate import hamming

    hamming.self_join(hashes("random", 40_000), DISTANCE)
    return hashes(kind, count)


def ours(kind, count, out):
    """Seconds of the whole answer, sorted."""
    from curate import hamming

    bits = prepared(kind, count)
    begin, busy = time.perf_counter(), time.process_time()
    pairs = hamming.self_join(bits, DISTANCE)
    result = {
        "s": time.perf_counter() - begin,
        "cpu": time.process_time() - busy,
        "pairs": len(pairs),
    }
    if out:
        np.save(out, pairs.i << 34 | pairs.j << 5 | pairs.d)
    return result


def blocks(kind, count, out):
    """Seconds of the answer in blocks, none of them kept."""
    from curate import hamming

    bits = prepared(kind, count)
    begin, busy = time.perf_counter(), time.process_time()
    pairs = sum(len(block) for block in hamming.self_blocks(bits, DISTANCE))
    return {"s": time.perf_counter() - begin, "cpu": time.process_time() - busy, "pairs": pairs}


def added(kind, count, out):
    """Seconds of one in a hundred that are new, with all before and each other."""
    from curate import hamming

    bits = hashes(kind, count)
    begin, busy = time.perf_counter(), time.process_time()
    pairs = len(hamming.added_join(bits, count - count // 100, DISTANCE))
    return {"s": time.perf_counter() - begin, "cpu": time.process_time() - busy, "pairs": pairs}


def owners(kind, count, out):
    """Seconds of which images have a hash near a hash of another."""
    from curate import hamming

    query, whose_query, index, whose_index = views(np.random.default_rng(count), count)
    begin, busy = time.perf_counter(), time.process_time()
    pairs = hamming.owner_join(query, whose_query, index, whose_index, DISTANCE, copies=64)
    return {
        "s": time.perf_counter() - begin,
        "cpu": time.process_time() - busy,
        "pairs": len(pairs),
    }


def peer(kind, count, out):
    """Seconds of FAISS; its answer has both orders of each pair, and each hash with itself."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    bits = hashes(kind, count)
    rows = bits.view(np.uint8).reshape(-1, 8)
    begin, busy = time.perf_counter(), time.process_time()
    index = faiss.IndexBinaryFlat(64)
    index.add(rows)
    limits, apart, found = index.range_search(rows, DISTANCE + 1)  # its radius is not included
    result = {"s": time.perf_counter() - begin, "cpu": time.process_time() - busy}
    i = np.repeat(np.arange(count), np.diff(limits.astype(np.int64)))
    keep = i < found
    packed = i[keep] << 34 | found[keep] << 5 | apart[keep].astype(np.int64)
    np.save(out, np.sort(packed))
    return {**result, "pairs": len(packed)}


WAYS = {f.__name__: f for f in (ours, blocks, added, owners, peer)}


def measured(way, kind, count, out="", python=sys.executable):
    """One figure, from a process of its own."""
    command = [python, __file__, "--one", way, kind, str(count), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{way:7} {kind:10} {count:11,}: {result['s']:7.2f} s ({result['cpu']:7.2f} s of processors), "
        f"{result['pairs']:11,} pairs, {result['mb']:6,} MB",
        flush=True,
    )
    return result


def one(way, kind, count, out):
    result = WAYS[way](kind, int(count), out)
    result["mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result))


def beside(python, count):
    """FAISS and ourselves on the same hashes, and whether the pairs are the same."""
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            mine, its = Path(folder, "ours.npy"), Path(folder, "peer.npy")
            theirs = measured("peer", kind, count, its, python)
            result = measured("ours", kind, count, mine)
            same = np.array_equal(np.load(mine), np.load(its))
        ratio, busy = theirs["s"] / result["s"], theirs["cpu"] / result["cpu"]
        print(
            f"        {kind}: {ratio:.1f}x FAISS ({busy:.1f}x in processor time), same pairs: {same}"
        )
        assert same


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="an interpreter with faiss-cpu")
    parser.add_argument("--largest", type=int, default=1_000_000, help="hashes, 1e5 to 1e7")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(*chosen.one)
        return
    python = chosen.peer or (sys.executable if importlib.util.find_spec("faiss") else None)
    if python:
        beside(python, 200_000)
    else:
        print("FAISS is not here: name an interpreter that has it with --peer")
    sizes = [n for n in (100_000, 1_000_000, 10_000_000) if n <= chosen.largest]
    for kind in KINDS:
        before = None
        for count in sizes:
            result = measured("blocks" if count > 1_000_000 else "ours", kind, count)
            if before:
                ratio, busy = result["s"] / before["s"], result["cpu"] / before["cpu"]
                print(
                    f"        {kind}: ten times the hashes, {ratio:.1f}x the time ({busy:.1f}x of processors)"
                )
            before = result
    for count in (n for n in sizes if n <= 1_000_000):
        measured("added", "clustered", count)
        measured("owners", "views", count)


if __name__ == "__main__":
    main()
