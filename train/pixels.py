"""Decoded images by index, of one size or of many, in memory or on disk (`train.cache`)."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from train.cache import Store

Pixels = NDArray[np.uint8]


class PixelSource(Protocol):
    """Images by index: pixels (H, W, 3) uint8. An array (N, H, W, 3) is one."""

    def __len__(self) -> int:
        """How many images."""

    def __getitem__(self, index: int, /) -> Pixels:
        """The pixels of one, not to be written to."""


def shapes_of(source: PixelSource) -> list[tuple[int, int]]:
    """Height and width of every image, without touching their pixels."""
    if isinstance(source, Store):
        return [(entry.height, entry.width) for entry in source.cached.entries]
    return [(source[k].shape[0], source[k].shape[1]) for k in range(len(source))]


def simplest(store: Store) -> PixelSource:
    """The same images as an array (N, H, W, 3) if all are stored and of one size."""
    sizes = {(entry.height, entry.width) for entry in store.cached.entries}
    if len(sizes) != 1 or store.stored < len(store):
        return store
    ((height, width),) = sizes
    whole: Pixels = store.cached.flat.reshape(len(store), height, width, 3)
    return whole
