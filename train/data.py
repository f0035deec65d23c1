"""From a folder in WildRF layout (or ForenSynths, or GenImage) to batches.

Every picture is decoded once and kept as uint8. A file that does not decode is a `Skipped` row with
its reason: it is counted and reported, never padded and never silently left out. Order, split and
batches depend on names, bytes and the seed alone, not on how many workers decode.
"""

import hashlib
import io
import logging
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from schemas.errors import InputError
from schemas.labels import Label, Split
from schemas.layout import SUFFIXES, place
from train.transforms import Preprocessing, random_crops, to_batch, to_pixels

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PIXELS = 178_956_970
"""Larger pictures are not opened: a decompression bomb (as in `schemas.policy.ProbePolicy`)."""

MEMORY_BUDGET_BYTES = 1 << 30
"""More decoded pictures than this (5,461 at 256 x 256) live in a mapped file in the run folder."""

EVAL_BATCH = 16
"""Images scored at a time: larger is no faster on a CPU, and takes a gigabyte more at 256 x 256."""

VAL_SHARE = 0.1
"""Part of train that stands in for a missing val."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image file of a set; `path` is relative to the root, with forward slashes."""

    path: str
    split: Split | None
    platform: str
    label: Label


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """One file after decoding: its pixels (size, size, 3), or the reason there are none."""

    digest: str | None
    pixels: NDArray[np.uint8] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Decoded images: `pixels` (N, size, size, 3) uint8, in the order of `items` and `digests`."""

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    pixels: NDArray[np.uint8]
    skipped: tuple[Skipped, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) 0 real, 1 fake."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 over split, label and bytes of every image: the fingerprint of the data."""
        rows = sorted(
            f"{item.label.value} {digest}"
            for item, digest in zip(self.items, self.digests, strict=True)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def find_images(root: Path) -> list[Item]:
    """Every image under a leaf folder of `root`, by path; links to folders are followed.

    Raises:
        InputError: if `root` is no folder, or holds no image under a leaf folder.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; expected a set in WildRF layout; check the path for a typo"
        )
    items = sorted(_items(root), key=lambda item: item.path)
    if not items:
        raise InputError(
            f"{root} holds no image under 0_real or 1_fake; expected WildRF layout such as "
            "train/0_real and train/1_fake; move the images there"
        )
    return items


def _items(root: Path) -> Iterator[Item]:
    ignored: Counter[str] = Counter()
    for relative in walk_files(root):
        placement = place(relative)
        if placement is None:
            ignored["not under a leaf folder"] += 1
        elif relative.suffix.lower() not in SUFFIXES:
            ignored["not an image by its name"] += 1
        else:
            yield Item(str(relative), placement.split, placement.platform, placement.label)
    if ignored:
        logger.info("%s: left aside %s", root, dict(ignored))


def walk_files(root: Path) -> Iterator[PurePosixPath]:
    """Every file below `root` relative to it, hidden ones left out, folders that are links once."""
    seen: set[str] = set()
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        relative = Path(folder).relative_to(root).as_posix()
        yield from (PurePosixPath(relative, f) for f in sorted(files) if not f.startswith("."))


def _refuse(error: OSError) -> None:
    raise InputError(
        f"{error.filename} cannot be read ({error.strerror}); expected a folder you may enter; "
        "mend its permissions"
    )


def decode(path: Path, preprocessing: Preprocessing) -> Decoded:
    """The pixels and digest of the file at `path`, or why it cannot be used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return Decoded(None, None, f"cannot be read: {error.strerror or error}")
    digest = hashlib.sha256(content).hexdigest()
    try:
        return Decoded(digest, _pixels(content, preprocessing), None)
    except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
        reason = " ".join(str(error).split()) or type(error).__name__
        return Decoded(digest, None, f"does not decode: {_without_address(reason)}")


def _pixels(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, over the limit {MAX_PIXELS}")
        return to_pixels(image, preprocessing)


def _without_address(reason: str) -> str:
    """Pillow names the buffer by its address, which differs from run to run."""
    return reason.split(" <_io.BytesIO")[0]


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Pillow warns about odd metadata that does not change the pixels; what matters is a reason."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode_all(
    paths: Iterable[Path], preprocessing: Preprocessing, *, workers: int
) -> Iterator[Decoded]:
    """`decode` of each path, in order, `workers` at a time and only a few ahead of the caller."""
    with quiet_decoder():
        yield from in_order(lambda path: decode(path, preprocessing), paths, workers=workers)


def in_order(work: Callable[[Path], T], paths: Iterable[Path], *, workers: int) -> Iterator[T]:
    """`work` of each path, in order, `workers` at a time and only a few ahead of the caller."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(work, path))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def load_images(
    root: Path,
    items: Sequence[Item],
    preprocessing: Preprocessing,
    *,
    workers: int,
    cache: Path,
    budget_bytes: int = MEMORY_BUDGET_BYTES,
) -> ImageSet:
    """Decode `items` once. Pixels stay in memory, or in the new file `cache` if they are many."""
    shape = (len(items), preprocessing.size, preprocessing.size, 3)
    pixels = _room(shape, cache, budget_bytes)
    kept: list[tuple[Item, str]] = []
    skipped: list[Skipped] = []
    decoded = decode_all((root / i.path for i in items), preprocessing, workers=workers)
    for item, one in zip(items, decoded, strict=True):
        if one.pixels is None or one.digest is None:
            skipped.append(Skipped(item.path, one.error or "empty"))
            logger.warning("skipped %s: %s", item.path, one.error)
        else:
            pixels[len(kept)] = one.pixels
            kept.append((item, one.digest))
    return ImageSet(
        tuple(item for item, _ in kept),
        tuple(digest for _, digest in kept),
        pixels[: len(kept)],
        tuple(skipped),
    )


def _room(shape: tuple[int, ...], cache: Path, budget_bytes: int) -> NDArray[np.uint8]:
    if int(np.prod(shape)) <= budget_bytes:
        return np.empty(shape, dtype=np.uint8)
    return new_memmap(cache, np.uint8, shape)


def new_memmap(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A new .npy file of zeros at `path`, mapped for writing."""
    mapped: NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]  # NumPy's gap
        path, mode="w+", dtype=dtype, shape=shape
    )
    return mapped


@dataclass(frozen=True, slots=True)
class TrainVal:
    """The images to learn from and those that choose the checkpoint; where those came from."""

    train: tuple[Item, ...]
    val: tuple[Item, ...]
    val_source: str


def choose_train_val(root: Path, items: Sequence[Item]) -> TrainVal:
    """The train and val images of a set; a missing val is carved from train by hash of file name.

    Raises:
        InputError: if train or val lacks a class.
    """
    train = [item for item in items if item.split is Split.TRAIN]
    val = [item for item in items if item.split is Split.VAL]
    if not train:
        raise InputError(
            f"{root} has no train folder with images; expected train/0_real and train/1_fake; "
            "point at the folder that holds train"
        )
    require_both_classes(root, train, "train")
    if val:
        require_both_classes(root, val, "val")
        return TrainVal(tuple(train), tuple(val), "val")
    carved = _carve(root, train)
    rest = tuple(item for item in train if item not in carved)
    logger.info("%s has no val: %d of %d train images stand in", root, len(carved), len(train))
    source = f"{VAL_SHARE:.0%} of train, by hash of file name"
    return TrainVal(rest, tuple(i for i in train if i in carved), source)


def require_both_classes(root: Path, items: Iterable[Item], split: str) -> None:
    """Check that `items` hold real and fake images.

    Raises:
        InputError: naming the class that is missing.
    """
    found = Counter(item.label for item in items)
    for label in Label:
        if not found[label]:
            raise InputError(
                f"{root} has no usable image in {split}/{label.folder}; expected some of both "
                f"classes; add images there"
            )


def _carve(root: Path, train: Sequence[Item]) -> set[Item]:
    """A tenth of each class, lowest hashes first, so that new images move few of the old."""
    carved: set[Item] = set()
    for label in Label:
        members = sorted((i for i in train if i.label is label), key=_name_hash)
        if len(members) < 2:
            raise InputError(
                f"{root} has one image in train/{label.folder} and no val; expected at least two "
                "to keep one for validation; add images or a val folder"
            )
        carved.update(members[: max(1, round(VAL_SHARE * len(members)))])
    return carved


def _name_hash(item: Item) -> tuple[str, str]:
    name = PurePosixPath(item.path).name
    return hashlib.sha256(name.encode()).hexdigest(), item.path


def train_batches(
    images: ImageSet, *, batch: int, crop: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Every image once in random order, cropped and flipped: (B, 3, crop, crop) uint8, labels (B,).

    Depends on `seed` and `epoch` alone. A last batch of one image is left out: its own statistics
    would be all BatchNorm sees.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images.items))
    labels = images.labels
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        if len(chosen) > 1 or len(order) == 1:
            yield to_batch(random_crops(images.pixels[chosen], crop, rng)), labels[chosen]


def eval_batches(images: ImageSet, *, batch: int) -> Iterator[Tensor]:
    """Every image once, whole and in order: (B, 3, size, size) uint8."""
    for start in range(0, len(images.items), batch):
        yield to_batch(np.array(images.pixels[start : start + batch]))
