"""How fast files are examined, beside what others need for one hash.

Run: python tests/benchmarks/probe.py [FOLDER]

Rendered pictures, JPEG quality 85, at 0.2 to 12 megapixels, or the JPEGs of a folder; one core;
medians of the processor time of single calls. Each goes through all pictures and the next follows, five
times: a busy machine slows all alike, and each finds memory as its own work left it, as in use.
`examine` gives all file facts, evidence, fingerprints and thumbnails, as in a process that has read
enough to have loaded the reader of eighths; what loading costs is told first. Hashing all views from
thumbnails, which happens when duplicates are looked for, is added in the last line. The bare reduced
decode is what libjpeg takes without anything else. Peers are left out where they are not installed.

Wanted: everything at least 1.5 times as fast as imagededup's hash at 0.2 megapixels, 4 times from 2.
Photographs reach it. Rendered ones are grainier: those of 0.2 megapixels, which are too small for an
eighth, are near the bar (1.49 to 1.71 in nine runs).
"""

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from curate import fingerprint, views
from curate.probe import decode, examine, families, jpeg

SIZES = ((512, 400, 40), (1600, 1250, 12), (2400, 2000, 6), (4000, 3000, 4))
"""Width, height, and how many pictures."""

ALL = "everything, all views hashed"

ROUNDS = 5

Action = Callable[[bytes], object]


def render(seed: int, width: int, height: int) -> bytes:
    """A textured scene as JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (25, 32, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (height, width, 3))
    pixels = (np.asarray(scene) + grain).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def reduced(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    fraction = fingerprint.fraction_of(*image.size)
    image.draft("L", (image.width // fraction, image.height // fraction))
    image.load()
    return image


def decoded(data: bytes) -> decode.Decoded:
    return decode.decode(data, "JPEG", None, 1 << 30, header=jpeg.read_header(data))


def seconds_of_loading() -> float:
    """Processor time until the first eighth is read, compiled code being kept from an earlier run."""
    decode.load_now()
    data = render(0, 1600, 1250)
    start = time.process_time()
    examine(data)
    return time.process_time() - start


def seconds_of_views(files: list[bytes]) -> float:
    """Seconds per picture of hashing all its views, many pictures at a time as dedupe does."""
    shown = np.concatenate([views.pictures(examine(data).thumbnails) for data in files])
    many = np.concatenate([shown] * (512 // len(shown)))
    start = time.process_time()
    views.ask(many, 0), views.offer(many, np.arange(len(many))), views.gradients(many)
    return (time.process_time() - start) / len(many)


def peers(folder: Path) -> dict[str, Action]:
    found: dict[str, Action] = {}
    try:
        import imagehash

        found["imagehash.phash"] = lambda data: imagehash.phash(opened(data))
    except ImportError:
        pass
    try:
        from imagededup.methods import PHash

        hasher, file = PHash(verbose=False), folder / "picture.jpg"

        def imagededup(data: bytes) -> object:
            return hasher.encode_image(image_file=file)

        found["imagededup PHash"] = imagededup
    except ImportError:
        pass
    return found


def per_second(actions: dict[str, Action], files: list[bytes], folder: Path) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            for data in files:
                (folder / "picture.jpg").write_bytes(data)
                start = time.process_time()
                action(data)
                seconds[name].append(time.process_time() - start)
    return {name: 1 / statistics.median(s) for name, s in seconds.items()}


def rendered() -> Iterator[tuple[str, list[bytes]]]:
    for width, height, count in SIZES:
        files = [render(seed, width, height) for seed in range(count)]
        yield f"{width} x {height}, {width * height / 1e6:.1f} MP", files


def real(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """The JPEGs of a folder by size; what Pillow cannot open has no peer to be compared with."""
    by_size: dict[str, list[bytes]] = {}
    for path in sorted(folder.rglob("*.jpg")):
        try:
            with Image.open(path) as image:
                megapixels = image.width * image.height / 1e6
        except UnidentifiedImageError:
            continue
        size = next(
            (f"below {most} MP" for most in (1, 2, 4, 8) if megapixels < most), "8 MP and more"
        )
        by_size.setdefault(size, []).append(path.read_bytes())
    yield from sorted(by_size.items())


def main() -> None:
    ours: dict[str, Action] = {
        "bare reduced decode": reduced,
        "examine, everything": examine,
        "  marker walk and fit": lambda d: families.fit(jpeg.read_header(d).used_tables[:2]),
        "  decode": decoded,
        "bare full decode": opened,
    }
    print(f"loading the reader of eighths: {seconds_of_loading():.2f} s, once per process")
    for name, files in real(Path(sys.argv[1])) if len(sys.argv) > 1 else rendered():
        with tempfile.TemporaryDirectory() as folder:
            rates = per_second(ours | peers(Path(folder)), files, Path(folder))
        rates[ALL] = 1 / (1 / rates["examine, everything"] + seconds_of_views(files))
        print(
            f"{name}: {len(files)} files, {sum(map(len, files)) // len(files):,} bytes on average"
        )
        for name, rate in rates.items():
            ratio = rates[ALL] / rate
            print(f"  {name:28} {rate:8.0f} / s   all of ours is {ratio:5.2f} x this")


if __name__ == "__main__":
    main()
