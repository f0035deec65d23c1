"""From folders in WildRF layout (or ForenSynths, or GenImage) to decoded images.

Every picture is decoded once and kept as uint8: in memory, or in a mapped file that later runs find
again (`train.pixels`). A file that does not decode is a `Skipped` row with its reason: it is counted
and reported, never padded and never silently left out. Order and split depend on names and bytes
alone, not on how many workers decode. What an epoch shows is in `train.sampling` and `train.loader`.
"""

import hashlib
import io
import json
import logging
import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from schemas.errors import InputError
from schemas.labels import Label, Split
from schemas.layout import MANIFEST, SUFFIXES, place
from train import pixels as store
from train.pixels import Pixels, PixelSource
from train.transforms import Preprocessing, to_batch, to_pixels

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PIXELS = 178_956_970
"""Larger pictures are not opened: a decompression bomb (as in `schemas.policy.ProbePolicy`)."""

MEMORY_BYTES = 1 << 30
"""More decoded pixels than this (5,461 pictures at 256 x 256) live in a mapped file."""

DISK_BYTES = 16 << 30
"""More decoded pixels than this are not kept: the rest is decoded each time it is needed."""

PAYS_S = 10.0
"""What took longer to decode than this is kept on disk for when the run goes on."""

EVAL_BATCH = 16
"""Images scored at a time: larger is no faster on a CPU, and takes a gigabyte more at 256 x 256."""

VAL_SHARE = 0.1
"""Part of train that stands in for a missing val."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image file of a set; `path` is relative to the root, with forward slashes.

    `posterior` is P(fake) as annotators see it, None where nothing says so. `source` numbers the roots of
    a mixed set.
    """

    path: str
    split: Split | None
    platform: str
    label: Label
    posterior: float | None = None
    source: int = 0


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
    """Decoded images: `pixels` by index (H, W, 3) uint8, in the order of `items` and `digests`.

    Images of one size that are all kept are one array (N, H, W, 3).
    """

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    pixels: PixelSource
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
            platform = as_text(placement.platform)
            yield Item(str(relative), placement.split, platform, placement.label)
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


def as_text(name: str) -> str:
    """`name` as a table takes it: bytes of a file name that are no UTF-8 are escapes, as on a terminal."""
    return name.encode("utf-8", "backslashreplace").decode()


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


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where decoded pixels are kept, and how many bytes of them.

    `memory` at most in memory; more, and what took longer than `pays_s` seconds to decode, goes to files in
    `folder`, at most `disk`.
    """

    folder: Path
    memory: int = MEMORY_BYTES
    disk: int = DISK_BYTES
    pays_s: float = PAYS_S


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a set, to be decoded: their paths, items and digests, and what is told of each."""

    paths: tuple[Path, ...]
    items: tuple[Item, ...]
    digests: tuple[str | None, ...]
    preprocessing: Preprocessing
    on_image: Callable[[int], None]

    @property
    def key(self) -> str:
        """16 hex digits that differ whenever a pixel could."""
        prep = self.preprocessing
        decides = [prep.size, prep.fit, prep.kernel, prep.orientation, version("pillow")]
        return hashlib.sha256(json.dumps([decides, self.digests]).encode()).hexdigest()[:16]


def load_images(
    root: Path | Sequence[Path],
    items: Sequence[Item],
    preprocessing: Preprocessing,
    *,
    workers: int,
    keeping: Keeping,
    on_image: Callable[[int], None] = lambda _: None,
) -> ImageSet:
    """Decode `items` of `root` (or of the roots of a mixed set), or find them decoded before.

    `on_image` is called with 1 for each image that is done.
    """
    roots = [root] if isinstance(root, Path) else list(root)
    paths = tuple(roots[item.source] / item.path for item in items)
    digests = tuple(in_order(_digest_of, paths, workers=workers))
    files = Files(paths, tuple(items), digests, preprocessing, on_image)
    cached = _cached(files, keeping, workers)
    kept = [k for k in range(len(items)) if k not in cached.skipped]

    def again(index: int) -> Pixels:
        return fresh_pixels(paths[kept[index]], digests[kept[index]], preprocessing)

    skipped = [Skipped(_named(items[k], roots), why) for k, why in sorted(cached.skipped.items())]
    for row in skipped:
        logger.warning("skipped %s: %s", row.path, row.reason)
    return ImageSet(
        tuple(items[k] for k in kept),
        tuple(digests[k] or "" for k in kept),
        store.simplest(store.Store(cached.flat, cached.entries, again)),
        tuple(skipped),
    )


def _named(item: Item, roots: Sequence[Path]) -> str:
    """The path within the set; of further roots with their name before it."""
    return item.path if item.source == 0 else f"{roots[item.source].name}/{item.path}"


def _digest_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def fresh_pixels(path: Path, digest: str | None, preprocessing: Preprocessing) -> Pixels:
    """The pixels of a file that was read before.

    Raises:
        InputError: if it is no longer the same.
    """
    with quiet_decoder():
        found = decode(path, preprocessing)
    if found.pixels is None or found.digest != digest:
        raise InputError(
            f"{path} changed during training ({found.error or 'other bytes'}); expected the set to "
            "stay as it is; restore the file and run again"
        )
    return found.pixels


def _cached(files: Files, keeping: Keeping, workers: int) -> store.Cached:
    """The decoded pixels: from the cache, or decoded now."""
    at = store.CacheFiles(keeping.folder, files.key)
    found = store.read(at)
    if found is not None:
        files.on_image(len(files.paths))
        return found
    begun = time.monotonic()
    skipped: dict[int, str] = {}
    decoded = _decoded(files, workers, skipped)
    first = _up_to(decoded, keeping.memory)
    rest = next(decoded, None)
    if rest is None and time.monotonic() - begun < keeping.pays_s:
        return store.held(first, skipped)
    keeping.folder.mkdir(parents=True, exist_ok=True)
    everything = chain(first, [] if rest is None else [rest], decoded)
    made = store.write(everything, at, keeping.disk, skipped)
    store.make_room(keeping.folder, keeping.disk, keep=at)
    return made if rest is not None else store.held(first, skipped)


def _decoded(files: Files, workers: int, skipped: dict[int, str]) -> Iterator[Pixels]:
    """Pixels of what decodes; why the others do not goes into `skipped` by position."""
    decoded = decode_all(files.paths, files.preprocessing, workers=workers)
    for position, (digest, one) in enumerate(zip(files.digests, decoded, strict=True)):
        files.on_image(1)
        if one.pixels is None:
            skipped[position] = one.error or "empty"
        elif one.digest != digest:
            skipped[position] = "changed while the set was read"
        else:
            yield one.pixels


def _up_to(images: Iterator[Pixels], limit: int) -> list[Pixels]:
    """The first images, until they take up `limit` bytes."""
    taken: list[Pixels] = []
    total = 0
    while total < limit and (pixels := next(images, None)) is not None:
        taken.append(pixels)
        total += pixels.nbytes
    return taken


def new_memmap(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A new .npy file of zeros at `path`, mapped for writing; its room on the disk is taken at once.

    Raises:
        OSError: if there is no room: without asking, the first write to it would end the process.
    """
    mapped: NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]  # NumPy's gap
        path, mode="w+", dtype=dtype, shape=shape
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
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
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), item.path


@dataclass(frozen=True, slots=True)
class Source:
    """One root of a mixed set; `weight` is its share of an epoch relative to the others'."""

    root: Path
    weight: float = 1.0


def find_sources(sources: Sequence[Source]) -> TrainVal:
    """The train images of all sources, and the val images of the first, whose kind is to be judged.

    Manifests of releases give platform and posterior.

    Raises:
        InputError: if a source cannot be used.
    """
    first = sources[0].root
    chosen = choose_train_val(first, described(first, find_images(first)))
    train = list(chosen.train)
    for number, source in enumerate(sources[1:], start=1):
        items = described(source.root, find_images(source.root))
        more = [replace(i, source=number) for i in items if i.split is Split.TRAIN]
        if not more:
            raise InputError(
                f"{source.root} has no train folder with images; expected train/0_real or "
                "train/1_fake; point at the folder that holds train"
            )
        train += more
    return replace(chosen, train=tuple(train))


def described(root: Path, items: Sequence[Item]) -> list[Item]:
    """`items` with the platform and posterior that the manifest beside them states, if there is one.

    Raises:
        InputError: if it cannot be read.
    """
    path = root / MANIFEST
    if not path.is_file():
        return list(items)
    try:
        table = pq.read_table(path)
        wanted = [name for name in ("path", "platform", "posterior") if name in table.column_names]
        rows = {row["path"]: row for row in table.select(wanted).to_pylist()}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(
            f"{path} is not the manifest of a release ({str(error).splitlines()[0][:80]}); "
            "expected Parquet with a column path; release it again"
        ) from None
    return [_with_manifest(item, rows.get(item.path, {})) for item in items]


def manifest_digest(root: Path) -> str | None:
    """SHA-256 of the manifest of a release; None where there is none."""
    path = root / MANIFEST
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _with_manifest(item: Item, row: dict[str, Any]) -> Item:
    platform = item.platform or row.get("platform") or ""
    return replace(item, platform=platform, posterior=row.get("posterior"))


def eval_batches(images: ImageSet, *, batch: int) -> Iterator[Tensor]:
    """Every image once, whole and in order: (B, 3, H, W) uint8, at most `batch` of one size at a time."""
    waiting: list[Pixels] = []
    for index in range(len(images.items)):
        pixels = images.pixels[index]
        if waiting and (len(waiting) == batch or waiting[0].shape != pixels.shape):
            yield to_batch(np.stack(waiting))
            waiting = []
        waiting.append(pixels)
    if waiting:
        yield to_batch(np.stack(waiting))
