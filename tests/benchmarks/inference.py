"""How fast detectors score: `python tests/benchmarks/inference.py [--images N] [--threads N]`.

1. End to end: how fast files of one megapixel are decoded and resized and nothing else, by as many
   threads, and how fast `train.predict` scores them, Tiny-LaDeDa in torch and in ONNX.
2. Tiny-LaDeDa alone, one image of 256 x 256 on one core: eager float32 torch, ours, ONNX Runtime.
3. LaDeDa9 alone, batches: eager float32 torch, ours, ONNX Runtime.

All in one run and in turns, since the machine may be busy: judge the ratios. Times of one core are CPU
seconds.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from train.checkpoint import load_detector, pack, to_bytes, write_atomically
from train.config import Compute, choose_compute
from train.deploy.export import export_onnx
from train.deploy.runtime import load_onnx
from train.deploy.scorers import TorchScorer, choose_scorer
from train.detectors import DETECTORS
from train.predict import predict
from train.transforms import Preprocessing

SIDES = (1152, 896)
"""One megapixel."""

ROUNDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-ladeda9", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = checkpoint(folder, "tiny-ladeda")
        end_to_end(folder, tiny, asked.images, asked.threads)
        torch.set_num_threads(1)
        alone(tiny, batch=1, calls=50)
        if not asked.skip_ladeda9:
            alone(checkpoint(folder, "ladeda9"), batch=4, calls=1)


def checkpoint(folder, name):
    """A detector with statistics that fit noisy pictures, as a checkpoint and as ONNX."""
    spec = DETECTORS[name]
    model = spec.build(torch.Generator().manual_seed(0), spec.representation, 1.0, "mean")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(1)))
    preprocessing = Preprocessing(representation=spec.representation)
    path = folder / f"{name}.pt"
    found = pack(model.state_dict(), spec, preprocessing, pooling="mean")
    write_atomically(path, to_bytes(found))
    export_onnx(path, path.with_suffix(".onnx"))
    return path


def end_to_end(folder, tiny, count, threads):
    place = folder / "images"
    place.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        scene = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(scene.resize(SIDES, Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{k}.jpg", quality=88)
    files = sorted(place.iterdir())
    ways = {
        "decode and resize": lambda: only_decode(files, threads),
        "predict, Tiny": lambda: list(predict(tiny, [place], workers=threads)),
        "predict, Tiny ONNX": lambda: list(
            predict(tiny.with_suffix(".onnx"), [place], workers=threads)
        ),
    }
    for way in ways.values():
        way()
    wall = {name: [] for name in ways}
    cpu = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun, used = time.perf_counter(), time.process_time()
            way()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - used)
    print(f"{count} JPEGs of {SIDES[0]} x {SIDES[1]}, {threads} threads, best of {ROUNDS}")
    base = "decode and resize"
    for name in ways:
        rate = count / min(wall[name])
        print(
            f"  {name:20s} {rate:6.1f} images/s = {min(wall[base]) / min(wall[name]):.0%} of decoding; "
            f"{min(cpu[name]) / count * 1e3:.2f} CPU ms an image ({min(cpu[base]) / min(cpu[name]):.0%})"
        )


def only_decode(files, threads):
    """What merely decoding and resizing costs: Pillow and as many threads."""

    def one(path):
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(threads) as pool:
        return sum(1 for _ in pool.map(one, files))


def alone(path, batch, calls):
    """CPU seconds of the network alone, normalisation included, on one core."""
    loaded = load_detector(path)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(batch)]
    eager = TorchScorer(
        loaded.model, loaded.spec, loaded.preprocessing, Compute(torch.device("cpu"))
    )
    compute = choose_compute("cpu", "float32", loaded.spec)
    ways = {
        "eager": eager,
        "ours": choose_scorer(loaded.model, loaded.spec, loaded.preprocessing, compute),
        "ONNX Runtime": load_onnx(path.with_suffix(".onnx"), threads=1),
    }
    best = dict.fromkeys(ways, np.inf)
    for way in ways.values():
        way(images)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            used = time.process_time()
            for _ in range(calls):
                way(images)
            spent = (time.process_time() - used) / calls / batch
            best[name] = min(best[name], spent)
    print(f"{loaded.spec.name}, 256 x 256, one core, batch {batch}, best of {ROUNDS}")
    for name, seconds in best.items():
        print(
            f"  {name:20s} {seconds * 1e3:8.2f} ms an image, {best['eager'] / seconds:.2f} x eager"
        )


if __name__ == "__main__":
    main()
