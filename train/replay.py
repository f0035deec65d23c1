"""A training step on a GPU, recorded once and played back: one order instead of a thousand.

A step of LaDeDa9 is some thousand small kernels, and a host takes longer to send them than a GPU to run them:
28 ms to send 4 ms of work at 96 x 96 and batch 8 on an H100. A CUDA graph is sent at once, runs the same
kernels on the same memory and gives the same bits. https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from train.transforms import sent

logger = logging.getLogger(__name__)

Work = Callable[[Tensor, Tensor], Tensor]
"""From images and targets on the device to the loss, parameters updated."""

WARM_UP = 3
"""Steps done plainly before one is recorded: they choose kernels and take the memory that lasts."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A step and the memory it reads from and writes to; it holds for one learning rate."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    targets: Tensor
    loss: Tensor
    rate: float

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of the step on another batch of the same shape."""
        self.images.copy_(sent(images, self.images.device), non_blocking=True)
        self.targets.copy_(sent(targets, self.targets.device), non_blocking=True)
        self.graph.replay()
        return self.loss.clone()


class Replay:
    """Does steps plainly at first, then records one of the shape that came first, and plays it back."""

    def __init__(self, device: torch.device, optimizer: torch.optim.Optimizer) -> None:
        self._device, self._optimizer = device, optimizer
        self._stream = torch.cuda.Stream(device)
        self._recorded: Recorded | None = None
        self._shape: torch.Size | None = None
        self._done = 0
        self._works = True

    def __call__(self, work: Work, images: Tensor, targets: Tensor) -> Tensor:
        """Do `work` on a batch; its loss, which the GPU may still be computing."""
        self._shape = self._shape or images.shape
        if not self._works or images.shape != self._shape:
            return self._plainly(work, images, targets)
        self._done += 1
        if self._done <= WARM_UP:
            return self._plainly(work, images, targets)
        rate = float(self._optimizer.param_groups[0]["lr"])
        if self._recorded is None or self._recorded.rate != rate:
            self._recorded = self._record(work, images, targets, rate)
        if self._recorded is None:
            return self._plainly(work, images, targets)
        return self._recorded(images, targets)

    def _plainly(self, work: Work, images: Tensor, targets: Tensor) -> Tensor:
        """On the stream that records, so that what lasts is made for it."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            loss = work(sent(images, self._device), sent(targets, self._device))
        here.wait_stream(self._stream)
        return loss

    def _record(self, work: Work, images: Tensor, targets: Tensor, rate: float) -> Recorded | None:
        """The step, recorded but not done; None if it does something that cannot be recorded."""
        fed, told = (torch.empty_like(one, device=self._device) for one in (images, targets))
        self._recorded = None  # its memory is free for the new one
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        try:
            with torch.cuda.graph(
                graph, stream=self._stream, capture_error_mode="thread_local"
            ):  # other threads make batches meanwhile
                loss = work(fed, told)
        except RuntimeError as error:
            logger.warning("steps are not recorded: %s", str(error).splitlines()[0][:120])
            self._works = False
            return None
        return Recorded(graph, fed, told, loss, rate)
