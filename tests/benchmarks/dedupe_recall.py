"""How many copies of 1,000 pictures dedupe finds, and how many pairs it finds that are none.

Run: python tests/benchmarks/dedupe_recall.py --data ../shared/data --report dedupe-recall.md

500 real pictures and 500 rendered ones (`transforms.bases`), each put through every transform. For
each transform, dedupe is run on the pictures and their copies together (2,000 images): recall is the
share of pictures matched with their copy, and every match of two different pictures is a false pair.
Pictures whose hashes lie within 2 bits by ImageHash are one picture, published twice, and the later
is left out, as is a flat picture, which matches by its pixels alone.
imagehash, imagededup and pdqhash are measured beside it where they are installed.

The score of `curate.verify` was chosen on every fourth picture and on faces, its threshold and the rules
for screens while looking at all of them; false pairs are counted for even and odd numbers apart.
"""

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from transforms import TRANSFORMS, Base, bases, encode

from curate import verify
from curate.matching import find_matches
from curate.probe import Examined, examine
from curate.simulated.spec import rng_for
from schemas.records import Match

DISTANCE_BITS = 8
"""The default of the policy."""

ORIGINAL = "original"
LOW, HIGH = 0.95, 0.99
GOALS = dict.fromkeys(TRANSFORMS, HIGH) | {
    "centre crop 20 %": LOW,
    "caption +15 %": LOW,
    "one side 20 %": 0.0,
    "corner 20 %": 0.0,
    "each side 0-10 %": 0.0,
}
"""Recall that is defended; the last three are told, not defended."""

Hash = np.ndarray[Any, np.dtype[np.uint8]]


def imagehash_phash() -> Callable[[Pillow.Image], Hash]:
    import imagehash

    return lambda image: np.packbits(imagehash.phash(image).hash)


def imagededup_phash() -> Callable[[Pillow.Image], Hash]:
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    return lambda image: np.frombuffer(
        bytes.fromhex(hasher.encode_image(image_array=np.asarray(image))), np.uint8
    )


def pdq() -> Callable[[Pillow.Image], Hash]:
    import pdqhash

    return lambda image: np.packbits(pdqhash.compute(np.asarray(image))[0])


PEERS: Mapping[str, tuple[Callable[[], Callable[[Pillow.Image], Hash]], int]] = {
    "imagehash@10": (imagehash_phash, 10),
    "imagededup@10": (imagededup_phash, 10),
    "PDQ@31": (pdq, 31),
}


@dataclass(frozen=True, slots=True)
class Made:
    """One picture with all its copies, examined; and what peers hash them to, by transform."""

    name: str
    simulated: bool
    examined: Mapping[str, Examined]
    peers: Mapping[str, Mapping[str, Hash]]


def make(numbered: tuple[int, Base]) -> Made:
    number, base = numbered
    files = {ORIGINAL: encode(base.image, 95)}
    files |= {name: f(base.image, rng_for(1, name, number)) for name, f in TRANSFORMS.items()}
    decoded = {name: Pillow.open(io.BytesIO(data)).convert("RGB") for name, data in files.items()}
    return Made(
        base.name,
        base.simulated,
        {name: examine(data) for name, data in files.items()},
        {peer: {n: hasher(i) for n, i in decoded.items()} for peer, hasher in peers().items()},
    )


def peers() -> dict[str, Callable[[Pillow.Image], Hash]]:
    found = {}
    for name, (load, _) in PEERS.items():
        try:
            found[name] = load()
        except ImportError:
            continue
    return found


def without_repeats(made: Sequence[Made]) -> list[Made]:
    made = [m for m in made if m.examined[ORIGINAL].fingerprints]
    hashes = np.array([m.peers["imagehash@10"][ORIGINAL] for m in made])
    apart = distances(hashes, hashes)
    repeats = {int(j) for i, j in np.argwhere(apart <= 2) if i < j}
    return [m for k, m in enumerate(made) if k not in repeats]


def distances(a: Hash, b: Hash) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(np.bitwise_count(a[:, None] ^ b[None]).sum(2, dtype=np.int64))


def matches(examined: Sequence[Examined]) -> list[Match]:
    by_digest = {e.image.digest: e for e in examined}
    return list(
        find_matches(
            [e.image for e in by_digest.values()],
            lambda digests: chain.from_iterable(by_digest[d].thumbnails for d in digests),
            distance_bits=DISTANCE_BITS,
            made_by="benchmark",
        )
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One transform: which pictures were found, the kinds told, false pairs, and what peers find."""

    found: np.ndarray[Any, np.dtype[np.bool_]]
    kinds: Counter[str]
    false: list[tuple[int, int, float]]
    peers: Mapping[str, float]
    seconds: float


def measure(made: Sequence[Made], name: str) -> Row:
    owner: dict[str, set[int]] = {}
    copies = [m.examined[name] for m in made]
    originals = [m.examined[ORIGINAL] for m in made]
    for number, pair in enumerate(zip(originals, copies, strict=True)):
        for one in pair:
            owner.setdefault(one.image.digest, set()).add(number)
    start = time.process_time()
    found = matches([*originals, *copies])
    seconds = time.process_time() - start
    hit = np.array(
        [a.image.digest == b.image.digest for a, b in zip(originals, copies, strict=True)]
    )
    kinds: Counter[str] = Counter()
    false = []
    for match in found:
        both = owner[match.a] & owner[match.b]
        for number in both:
            hit[number] = True
            kinds[match.kind] += 1
        if not both:
            false.append((min(owner[match.a]), min(owner[match.b]), match.verified or 0.0))
    return Row(hit, kinds, false, {p: peer_recall(made, p, name) for p in made[0].peers}, seconds)


def peer_recall(made: Sequence[Made], peer: str, name: str) -> float:
    one = np.array([m.peers[peer][ORIGINAL] for m in made])
    other = np.array([m.peers[peer][name] for m in made])
    return float((np.bitwise_count(one ^ other).sum(1) <= PEERS[peer][1]).mean())


def peer_false(made: Sequence[Made], peer: str) -> int:
    hashes = np.array([m.peers[peer][ORIGINAL] for m in made])
    apart = distances(hashes, hashes)
    return int((np.triu(apart <= PEERS[peer][1], 1)).sum())


def table(made: Sequence[Made], rows: Mapping[str, Row]) -> list[str]:
    simulated = np.array([m.simulated for m in made])
    names = list(made[0].peers)
    lines = [
        f"| transform | recall | real | simulated | goal | {' | '.join(names)} | kinds told |",
        "|---" * (6 + len(names)) + "|",
    ]
    for name, row in rows.items():
        told = ", ".join(f"{kind} {count}" for kind, count in row.kinds.most_common(3))
        figures = [row.found.mean(), row.found[~simulated].mean(), row.found[simulated].mean()]
        goal = GOALS[name]
        met = "" if not goal else f"{goal:.2f} {'met' if figures[0] >= goal else 'MISSED'}"
        others = " | ".join(f"{row.peers[p]:.3f}" for p in names)
        lines.append(
            f"| {name} | {' | '.join(f'{f:.3f}' for f in figures)} | {met} | {others} | {told} |"
        )
    return lines


def false_lines(made: Sequence[Made], rows: Mapping[str, Row]) -> list[str]:
    count = len(made)
    pairs = 2 * count * (2 * count - 2) // 2
    false = list(chain.from_iterable(row.false for row in rows.values()))
    scores = {part: [s for k, _, s in false if k % 2 == part] for part in (0, 1)}
    named = Counter(" and ".join(sorted((made[a].name, made[b].name))) for a, b, _ in false)
    return [
        f"False pairs after verification: {len(false)} in {len(rows)} runs of {pairs:,} pairs of "
        f"different pictures ({len(false) / len(rows) / pairs * 500_000:.3f} in 500,000); "
        + "; ".join(
            f"{'odd' if part else 'even'} pictures {len(s)}, highest score {max(s, default=0.0):.3f}"
            for part, s in scores.items()
        )
        + f". Threshold {verify.SCORE}.",
        "They are: " + "; ".join(f"{pair} ({count})" for pair, count in named.most_common()),
        f"False pairs of peers among {count * (count - 1) // 2:,} pairs of originals: "
        + ", ".join(f"{peer} {peer_false(made, peer)}" for peer in made[0].peers),
        f"Matching 2,000 images takes {np.median([r.seconds for r in rows.values()]):.1f} s of one core.",
    ]


def faces_lines(data: Path) -> list[str]:
    paths = sorted((data / "faces-clean").rglob("*.jpg"))
    examined = [examine(path.read_bytes()) for path in paths]
    names = {e.image.digest: p.name for e, p in zip(examined, paths, strict=True)}
    found = sorted(matches(examined), key=lambda m: -(m.verified or 0))
    told = "; ".join(f"{names[m.a]} and {names[m.b]} {m.kind} {m.verified:.2f}" for m in found)
    return [f"faces-clean: {len(found)} pairs among {len(paths):,} faces: {told}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real files")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--report", type=Path, help="where to write the table as Markdown")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        made = list(pool.map(make, enumerate(bases(arguments.data, arguments.count)), chunksize=4))
    made = without_repeats(made)
    real = sum(not m.simulated for m in made)
    rows = {name: measure(made, name) for name in TRANSFORMS}
    size = np.mean([sum(len(t.pixels) for t in m.examined[ORIGINAL].thumbnails) for m in made])
    lines = [
        f"# Copies found among {len(made)} pictures: {real} real, {len(made) - real} simulated",
        "",
        *table(made, rows),
        "",
        *false_lines(made, rows),
        *faces_lines(arguments.data),
        f"Thumbnails: {size:.0f} bytes per image.",
    ]
    print("\n".join(lines))
    if arguments.report:
        arguments.report.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
