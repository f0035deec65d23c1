"""What finding copies among many images costs, step by step. Run: python tests/benchmarks/multiview.py

Pictures are made by number: two of 288 rendered scenes and smooth noise, blended; one in ten is a copy of
another (saved again, cropped, mirrored, turned, or with a caption above it). They are given to
`curate.matching` as a catalog gives them, some thousand thumbnails at a time, so that memory is that
of the product. Every size is a process of its own. Told are seconds, and seconds of processors, of
making the pictures, of hashing, of each join and of verification; candidates, matches and the copies
found; and the peak of memory, before (with the list of images) and after. `--joins` leaves
verification out, for a million images.

The aim is at most 14 times the time for ten times the images. Look-alikes by chance are a share of all
pairs, so that there are a hundred times as many: they are turned away in the join, those by dHash alone by
the signs of their fine detail.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, wraps

import numpy as np
from PIL import Image as Pillow

from curate import candidates, hamming, matching
from curate.simulated.scenes import SCENES, render_scene
from curate.simulated.spec import rng_for
from schemas.records import Image, Thumbnail

SIDE = EDGE = 64
"""Pixels of a picture, and of its thumbnail."""

DECAY = 0.5
"""How fast the noise gets weaker with frequency: pairs that look alike by chance are 1 in 14,000 with
0.5, and 1 in 1,400 with 1. Of 222 photographs by many cameras they are 1 in 2,500."""

SCENE_COUNT, SMOOTH = 288, 14
"""Scenes, and frequencies of the noise along each axis."""

COPIES = ("saved again", "centre 10 %", "side 10 %", "mirror", "rotation", "caption")
"""What is done to the copies, in turns."""

STRIP = 8
"""Rows of a thumbnail that a caption takes."""

STEPS = (
    (candidates, "hash_views"), (candidates, "near_whole"), (candidates, "near_gradients"),
    (candidates, "near_turned"), (candidates, "near_crops"), (candidates, "find_candidates"),
    (matching, "_verified"),
)  # fmt: skip
"""What is timed; `find_candidates` is the joins together, and choosing the best."""


def mixed(numbers, lane):
    """64 random bits for each number and lane (SplitMix64, https://doi.org/10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):
        z = np.asarray(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = z + np.asarray(lane, np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def shares(numbers, lanes):
    """(N, lanes) numbers from 0 to 1."""
    each = mixed(np.asarray(numbers)[:, None], np.array(lanes)) >> np.uint64(40)
    return each.astype(np.float32) / np.float32(1 << 24)


@cache
def scenes():
    """(288, 64, 64) grey levels around 0."""
    kinds = sorted(SCENES)
    drawn = [
        render_scene(kinds[k % len(kinds)], (SIDE, SIDE), rng_for(0, "multiview", k))
        for k in range(SCENE_COUNT)
    ]
    grey = np.stack([image.mean(axis=2, dtype=np.float32) for image in drawn])
    grey -= grey.mean((1, 2), keepdims=True)
    return grey / (grey.std((1, 2), keepdims=True) + 0.02)


@cache
def waves():
    """(64, 14) cosines, weaker the faster they are."""
    at = (np.arange(SIDE) + 0.5) / SIDE
    rate = np.arange(SMOOTH)
    return (np.cos(np.pi * at[:, None] * rate) / (1 + rate) ** DECAY).astype(np.float32)


@cache
def reduced(start=0.0, end=1.0, size=EDGE):
    """(size, 64) matrix that cuts and resizes one axis."""
    identity = Pillow.fromarray(np.eye(SIDE, dtype=np.float32))
    area = (0.0, start * SIDE, float(SIDE), end * SIDE)
    return np.asarray(identity.resize((SIDE, size), Pillow.Resampling.HAMMING, box=area))


def originals(numbers):
    """(N, 64, 64) pictures."""
    a, b = (scenes()[mixed(numbers, lane) % np.uint64(SCENE_COUNT)] for lane in (1, 2))
    weights = 0.3 + 0.7 * shares(numbers, (3, 4))
    rough = shares(numbers, range(8, 8 + SMOOTH * SMOOTH)).reshape(-1, SMOOTH, SMOOTH) - 0.5
    smooth = waves() @ rough @ waves().T
    smooth /= smooth.std((1, 2), keepdims=True)
    flipped = b[:, :, ::-1]
    shown = smooth + weights[:, :1, None] * a + weights[:, 1:, None] * flipped
    shown *= 50 / shown.std((1, 2), keepdims=True)
    return (shown + 128).clip(0, 255)


def source(numbers):
    """(N,) the picture each shows: its own, or for one in ten another of the same ten."""
    copy = numbers % 10 == 9
    return np.where(
        copy, numbers - 1 - (mixed(numbers, 0) % np.uint64(9)).astype(np.int64), numbers
    )


def change(number):
    """What was done to this picture; None for an original."""
    return COPIES[number // 10 % len(COPIES)] if number % 10 == 9 else None


def views_of(picture, done, noise):
    """The thumbnails of one picture: name, top edge and grey levels."""
    start, end = {"centre 10 %": (0.05, 0.95)}.get(done, (0.0, 1.0))
    across = reduced(start, end)
    if done == "caption":
        whole = np.full((EDGE, EDGE), 250, np.float32)
        whole[3:5, 6:58:2] = 20
        whole[STRIP:] = reduced(size=EDGE - STRIP) @ picture @ across.T
        yield "whole", 0.0, whole
        yield "box", STRIP / EDGE, reduced() @ picture @ across.T + noise
        return
    down = reduced(0.1, 1.0) if done == "side 10 %" else across
    if done == "mirror":
        picture = picture[:, ::-1]
    if done == "rotation":
        picture = picture[::-1].T
    if done:
        picture = down @ picture @ across.T + noise
    yield "whole", 0.0, picture


def digest_of(number):
    """A digest from which the number can be told, and whose order is another."""
    return f"{int(mixed([number], 7)[0]):016x}{number:048x}"


class Library:
    """Gives thumbnails, and counts the time that takes."""

    def __init__(self):
        self.seconds, self.busy = 0.0, 0.0

    def read(self, digests: Sequence[str]) -> Iterable[Thumbnail]:
        began, busy = time.perf_counter(), time.process_time()
        rows = [row for k in range(0, len(digests), 32) for row in self._made(digests[k : k + 32])]
        self.seconds += time.perf_counter() - began
        self.busy += time.process_time() - busy
        return rows

    @staticmethod
    def _made(digests):
        numbers = np.array([int(digest[16:], 16) for digest in digests])
        noise = np.random.default_rng(0).normal(0, 2, (EDGE, EDGE)).astype(np.float32)
        pictures = originals(source(numbers))
        for digest, number, picture in zip(digests, numbers.tolist(), pictures, strict=True):
            for view, top, grey in views_of(picture, change(number), noise):
                pixels = grey.round().clip(0, 255).astype(np.uint8).tobytes()
                yield Thumbnail(digest, view, 0.0, top, 1.0, 1.0, pixels, "benchmark")


def timed(spent, library):
    """Let the steps tell how long they take, without what reading takes."""
    for module, name in STEPS:
        told = _told(getattr(module, name), name.strip("_"), spent, library)
        setattr(module, name, told)


def _told(step, name, spent, library):
    @wraps(step)
    def told(*args, **options):
        began = time.perf_counter() - library.seconds, time.process_time() - library.busy
        result = step(*args, **options)
        if isinstance(result, Iterator):
            result = list(result)
        elif isinstance(result, candidates.Candidates):
            spent["candidates"] = len(result)
        spent[name][0] += time.perf_counter() - library.seconds - began[0]
        spent[name][1] += time.process_time() - library.busy - began[1]
        return result

    return told


def peak():
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def images_of(count):
    return [
        Image(digest_of(k), made_by="benchmark", bytes=1, format="JPEG", width=900, height=900)
        for k in range(count)
    ]


def one(count, distance, joins_only):
    """Everything, once, with `count` images."""
    if joins_only:
        matching._verified = lambda *args: iter(())
    spent, library = defaultdict(lambda: [0.0, 0.0]), Library()
    images = images_of(count)
    load(images[:50], library)
    timed(spent, library)
    before, library.seconds, library.busy = peak(), 0.0, 0.0
    began, busy = time.perf_counter(), time.process_time()
    found = list(
        matching.find_matches(images, library.read, distance_bits=distance, made_by="benchmark")
    )
    total = time.perf_counter() - began - library.seconds
    cpu = time.process_time() - busy - library.busy
    count_of = spent.pop("candidates")
    planted, false = recall(found, count)
    spent = {
        "making pictures": [library.seconds, library.busy],
        **spent,
        "all but making": [total, cpu],
    }
    print(
        json.dumps(
            {"spent": spent, "candidates": count_of, "matches": len(found),
             "planted": planted, "false": false, "before": before, "after": peak()}
        )
    )  # fmt: skip


def load(images, library):
    """Loads, or at first makes, the compiled code."""
    some = np.random.default_rng(0).integers(0, 2**64, 40_000, dtype=np.uint64)
    hamming.self_join(some, 8)
    list(matching.find_matches(images, library.read, distance_bits=16, made_by="benchmark"))


def recall(found, count):
    """Of each kind of copy, how many are found and how many there are; and matches of no copies."""
    pairs = {tuple(sorted((int(m.a[16:], 16), int(m.b[16:], 16)))) for m in found}
    numbers = np.arange(count)
    shown = source(numbers)
    told = {kind: [0, 0] for kind in COPIES}
    for copy in numbers[shown != numbers].tolist():
        told[change(copy)][0] += (int(shown[copy]), copy) in pairs
        told[change(copy)][1] += 1
    return told, sum(int(shown[i] != shown[j]) for i, j in pairs)


def measured(count, distance, joins_only):
    command = [sys.executable, __file__, "--one", str(count), "--distance", str(distance)]
    command += ["--joins"] * joins_only
    single = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # making pictures; the product has threads
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=single)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{count:,} images: {result['candidates']:,} candidates, {result['matches']:,} matches,")
    print(
        f"  {result['false']} of no copies; {result['before']} MB before, {result['after']} MB at most"
    )
    for step, (wall, cpu) in result["spent"].items():
        print(f"  {step:16} {wall:8.2f} s  {cpu:8.2f} s of processors")
    for kind, (hit, every) in () if joins_only else result["planted"].items():
        print(f"  {kind:16} {hit:8,} of {every:,}")
    sys.stdout.flush()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000, 100_000], help="images")
    parser.add_argument("--distance", type=int, default=8, help="bits")
    parser.add_argument("--joins", action="store_true", help="leave verification out")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one, chosen.distance, chosen.joins)
        return
    results = [measured(count, chosen.distance, chosen.joins) for count in chosen.sizes]
    for (small, large), few, many in zip(
        zip(chosen.sizes, chosen.sizes[1:], strict=False), results, results[1:], strict=False
    ):
        for step in few["spent"]:
            ratios = [
                b / max(a, 1e-9)
                for a, b in zip(few["spent"][step], many["spent"][step], strict=True)
            ]
            told = f"{ratios[0]:.1f}x ({ratios[1]:.1f}x of processors)"
            print(f"{large / small:g} times the images, {step}: {told}")


if __name__ == "__main__":
    main()
