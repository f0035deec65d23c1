"""How fast files are examined, beside imagehash.phash alone. Run: python tests/benchmarks/probe.py

Rendered pictures of 0.2 megapixels, JPEG quality 85; one core; medians of the processor time of single calls.
"""

import io
import statistics
import time
from collections.abc import Callable

import imagehash
import numpy as np
from PIL import Image

from curate import fingerprint
from curate.probe import decode, examine, families, jpeg

WIDTH, HEIGHT, COUNT = 512, 400, 60


def render(seed: int) -> bytes:
    """A textured scene as JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (25, 32, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    pixels = (np.asarray(scene) + grain).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def per_second(action: Callable[[bytes], object], files: list[bytes]) -> float:
    seconds = []
    for data in files * 3:
        start = time.process_time()
        action(data)
        seconds.append(time.process_time() - start)
    return 1 / statistics.median(seconds)


def main() -> None:
    files = [render(seed) for seed in range(COUNT)]
    rows: dict[str, Callable[[bytes], object]] = {
        "examine, everything": examine,
        "  marker walk and fit": lambda d: families.fit(jpeg.read_header(d).used_tables),
        "  decode": lambda d: decode.decode(d, "JPEG", None, 1 << 30),
        "  decode and both hashes": lambda d: fingerprint.fingerprints(opened(d)),
        "imagehash.phash, with decode": lambda d: imagehash.phash(opened(d)),
        "imagehash.phash and dhash": lambda d: (
            imagehash.phash(image := opened(d)),
            imagehash.dhash(image),
        ),
    }
    print(f"{COUNT} files of {WIDTH} x {HEIGHT}, {sum(map(len, files)) // COUNT} bytes on average")
    for name, action in rows.items():
        print(f"{name:32} {per_second(action, files):10.0f} / s")


if __name__ == "__main__":
    main()
