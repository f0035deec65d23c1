"""Efficiency: multiply-accumulates, parameters and the time of one picture on one core.

Source: table 6 of https://arxiv.org/abs/2406.09398 (LaDeDa 21.23 G, 13.64 M, 2.87 s; Tiny 0.0566 G,
1,290, 0.02 s). Multiply-accumulates are counted in convolutions, linear layers and the gradient of the
representation as they run, on one picture of the checkpoint's size.
"""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.checkpoint import LoadedDetector
from train.detectors.representation import KERNELS, Representation
from train.stress.plan import Condition, Plan, Scores, StressTest

WARM_UP = 2
MIN_RUNS, MAX_RUNS = 5, 50
MAX_SECONDS = 10.0


def conditions(plan: Plan) -> list[Condition]:
    """None: no picture is needed."""
    return []


def measure(scores: Scores) -> dict[str, Any]:
    """{rows}: one per checkpoint."""
    rivals = ((rival.name, rival.loaded) for rival in scores.rivals)
    return {
        "rows": [cost(name, loaded) for name, loaded in ((scores.name, scores.loaded), *rivals)]
    }


def cost(name: str, loaded: LoadedDetector) -> dict[str, Any]:
    """{name, detector, size, macs, parameters, seconds: {n, value, p05, p95}, cores, machine}.

    `seconds` is the median over n runs, with the 5th and 95th percentile of single runs: how much they vary,
    not how far the median is off. They are also told as low and high, for readers of older files.
    """
    side = loaded.preprocessing.size
    with on_one_core(loaded.model) as model:
        fed = torch.zeros(1, 3, side, side).contiguous(memory_format=torch.channels_last)
        macs, times = count_macs(model, fed), _timed(model, fed)
    low, middle, high = (float(q) for q in np.quantile(times, [0.05, 0.5, 0.95]))
    return {
        "name": name,
        "detector": loaded.spec.name,
        "size": side,
        "macs": macs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": {
            "n": len(times), "value": middle, "p05": low, "p95": high, "low": low, "high": high,
        },
        "cores": 1,
        "machine": platform.processor() or platform.machine(),
    }  # fmt: skip


@contextmanager
def on_one_core(model: nn.Module) -> Iterator[nn.Module]:
    """`model` on the CPU with one thread; both as before afterwards."""
    threads, device = torch.get_num_threads(), next(model.parameters()).device
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield model.to("cpu")
    finally:
        torch.set_num_threads(threads)
        model.to(device)


def count_macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one forward pass; normalisation and pooling are not counted."""
    counted: list[int] = []

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            taps = height * width * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            taps = module.in_features
        elif isinstance(module, Representation) and module.name in KERNELS:
            taps = len(KERNELS[module.name]) ** 2
        else:
            return
        counted.append(taps * output.numel())

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)


def _timed(model: nn.Module, images: Tensor) -> list[float]:
    """Seconds of single runs, after warming up."""
    for _ in range(WARM_UP):
        model(images)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MAX_RUNS:
        begun = time.perf_counter()
        model(images)
        times.append(time.perf_counter() - begun)
        if len(times) >= MIN_RUNS and time.perf_counter() - started > MAX_SECONDS:
            break
    return times


TEST = StressTest(
    name="efficiency",
    title="Cost of one picture on one core",
    source="arXiv 2406.09398, table 6",
    conditions=conditions,
    measure=measure,
    figure="none",
)
