"""Damaged files through every reader and `examine`: python tests/benchmarks/fuzz.py [COUNT] [SEED] [DIR ...].

Small pictures in every format, and the small files of each DIR, are cut, spliced, and changed byte by byte,
mostly where headers are. None may raise, warn, or take two seconds of the processor; the slowest is told. The
same seed gives the same inputs. An input that ends the process is the last one written to fuzz-last.bin.
"""

import faulthandler
import io
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from curate.probe import container, decode, examine, isobmff, jpeg, jxl, png, riff, tiff, to_json

LONGEST = 2.0
MOST_PIXELS = 1 << 21
LARGEST_SEED = 1 << 15
READERS = (
    jpeg.read_header, png.read_header, riff.read_header, container.read_gif, container.read_bmp,
    tiff.read_tiff, tiff.jpeg_inside, tiff.thumbnail, isobmff.read_heif, isobmff.read_jpeg2000, jxl.read_jxl,
)  # fmt: skip


def made(rng: np.random.Generator) -> Iterator[bytes]:
    """One small file of every kind that Pillow writes."""
    coarse = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    picture = coarse.resize((48, 40), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Make", 6
    plain = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM")
    kinds: list[tuple[str, dict[str, object]]] = [(name, {}) for name in plain]
    kinds += [("JPEG", {"progressive": True, "exif": exif}), ("PNG", {"exif": exif})]
    kinds += [("WEBP", {"lossless": True}), ("TIFF", {"compression": "jpeg"})]
    kinds += [
        (n, {"save_all": True, "append_images": [picture]})
        for n in ("GIF", "WEBP", "PNG", "MPO", "AVIF")
    ]
    for name, options in kinds:
        out = io.BytesIO()
        picture.save(out, name, **options)
        yield out.getvalue()


def real(folders: list[str]) -> Iterator[bytes]:
    """Files of folders that are not too large."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.stat().st_size <= LARGEST_SEED:
                data = path.read_bytes()
                if decode.sniff(data):
                    yield data


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` with up to twelve bytes changed, or cut, or joined with a part of `other`."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 13))):
        if changed:
            reach = min(len(changed), 700) if rng.random() < 0.8 else len(changed)
            first = (
                min(12, reach - 1) if rng.random() < 0.95 else 0
            )  # what tells the format mostly stays
            changed[int(rng.integers(first, reach))] = int(
                rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
            )
    fate = rng.random()
    if fate < 0.2:
        return bytes(changed[: int(rng.integers(len(changed) + 1))])
    if fate < 0.35 and changed and other:
        return (
            bytes(changed[: int(rng.integers(len(changed)))])
            + other[int(rng.integers(len(other))) :]
        )
    return bytes(changed)


def run(count: int, seed: int, folders: list[str]) -> tuple[Counter[str], float]:
    """Examine `count` inputs; how each ended, and the longest time in seconds of the processor."""
    rng = np.random.default_rng(seed)
    files = [f for f in (*made(rng), *real(folders)) if f]
    ends: Counter[str] = Counter()
    slowest = 0.0
    last = Path("fuzz-last.bin")
    for number in range(count):
        chosen, other = (files[int(i)] for i in rng.integers(len(files), size=2))
        data = damaged(chosen, other, rng)
        last.write_bytes(data)
        start = time.process_time()
        for reader in READERS:
            reader(data)
        image = examine(data, max_pixels=MOST_PIXELS).image
        to_json("x.jpg", examine(data[:64], max_pixels=MOST_PIXELS))
        taken = time.process_time() - start
        assert taken < LONGEST, f"input {number} of seed {seed} took {taken:.1f} s"
        slowest = max(slowest, taken)
        ends["decodes" if image.error is None else image.error[:40]] += 1
    last.unlink()
    return ends, slowest


def main() -> None:
    count, seed = (int(n) for n in (*sys.argv[1:3], *("50000", "0")[len(sys.argv[1:3]) :]))
    warnings.simplefilter("error")
    faulthandler.enable()
    faulthandler.dump_traceback_later(3600, exit=True)
    start = time.perf_counter()
    ends, slowest = run(count, seed, sys.argv[3:])
    print(
        f"{count} inputs of seed {seed} in {time.perf_counter() - start:.0f} s, slowest {slowest:.3f} s"
    )
    for end, number in ends.most_common(8):
        print(f"{number:8}  {end}")


if __name__ == "__main__":
    main()
