"""From folders in WildRF layout (or ForenSynths, or GenImage) to decoded images.

Every picture is decoded once and kept as uint8: in memory, or in a mapped file that later runs find
again (`train.cache`). A file that does not decode is a `Skipped` row with its reason: it is counted
and reported, never padded and never silently left out. Order and split depend on names and bytes
alone, not on how many workers decode. What an epoch shows is in `train.sampling` and `train.loader`.
"""

import hashlib
import io
import json
import logging
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
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
from train import cache
from train.cache import Keeping, Left
from train.pixels import Pixels, PixelSource, simplest
from train.transforms import Preprocessing, require_pixels, to_batch, to_pixels

logger = logging.getLogger(__name__)

T = TypeVar("T")


EVAL_BATCH = 16
"""Images scored at a time: larger is no faster on a CPU, and takes a gigabyte more at 256 x 256."""


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
    """One file after decoding: its pixels (H, W, 3), or the reason there are none.

    Without a digest it was not the bytes that were at fault: another time it may be read.
    """

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
        """SHA-256 over label and bytes of every image, whatever their order: the fingerprint of the data."""
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
    except MemoryError:
        raise  # says nothing of the file
    except Exception as error:  # a decoder meets arbitrary bytes and raises arbitrary errors
        if isinstance(error, OSError) and error.errno is not None:  # the system, not the file
            return Decoded(None, None, f"cannot be read: {error.strerror}")
        reason = " ".join(str(error).split()) or type(error).__name__
        return Decoded(digest, None, f"does not decode: {_without_address(reason)}")


def _pixels(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        require_pixels(image.size)
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
        yield from results((pool.submit(work, path) for path in paths), ahead=4 * workers)


def results(begun: Iterable[Future[T]], *, ahead: int) -> Iterator[T]:
    """Of each of `begun`, in order; so many are begun ahead. Those that nobody waits for are cancelled."""
    waiting: deque[Future[T]] = deque()
    try:
        for future in begun:
            waiting.append(future)
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a set that are to be decoded: root and digest of each; None where it cannot be read."""

    roots: tuple[Path, ...]
    items: tuple[Item, ...]
    digests: tuple[str | None, ...]
    preprocessing: Preprocessing

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where each is."""
        return tuple(self.roots[item.source] / item.path for item in self.items)

    @property
    def key(self) -> str:
        """16 hex digits that differ whenever a pixel could."""
        prep = self.preprocessing
        decides = [prep.size, prep.fit, prep.kernel, prep.orientation, version("pillow")]
        return hashlib.sha256(json.dumps([decides, self.digests]).encode()).hexdigest()[:16]

    def named(self, position: int) -> str:
        """The path within the set; of further roots with their name before it."""
        item = self.items[position]
        return item.path if item.source == 0 else f"{self.roots[item.source].name}/{item.path}"

    def take(self, positions: Sequence[int]) -> "Files":
        """The files at `positions`."""
        items = tuple(self.items[k] for k in positions)
        return replace(self, items=items, digests=tuple(self.digests[k] for k in positions))


def read_files(
    root: Path | Sequence[Path],
    items: Sequence[Item],
    preprocessing: Preprocessing,
    *,
    workers: int,
    on_file: Callable[[int], None] = lambda _: None,
) -> Files:
    """The files of `items` of `root` (or of the roots of a mixed set), none of them decoded.

    `on_file` is called with 1 for each file that is read.
    """
    roots = (root,) if isinstance(root, Path) else tuple(root)
    paths = [roots[item.source] / item.path for item in items]
    digests = []
    for digest in in_order(digest_of, paths, workers=workers):
        digests.append(digest)
        on_file(1)
    return Files(roots, tuple(items), tuple(digests), preprocessing)


def digest_of(path: Path) -> str | None:
    """SHA-256 of the file at `path`; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


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
    files = read_files(root, items, preprocessing, workers=workers)
    return load_files(files, workers=workers, keeping=keeping, on_image=on_image)


def load_files(
    files: Files, *, workers: int, keeping: Keeping, on_image: Callable[[int], None]
) -> ImageSet:
    """`load_images` of files whose digests are known."""
    cached = _cached(files, keeping, workers, on_image)
    found = files.take([k for k in range(len(files.items)) if k not in cached.skipped])
    paths = found.paths

    def again(index: int) -> Pixels:
        return fresh_pixels(paths[index], found.digests[index], files.preprocessing)

    skipped = [Skipped(files.named(k), why) for k, why in sorted(cached.skipped.items())]
    for row in skipped:
        logger.info("skipped %s: %s", row.path, row.reason)
    if skipped:  # without names, which hold what they like; the result has them
        logger.warning(
            "%d of %d files cannot be used and are skipped", len(skipped), len(files.items)
        )
    return ImageSet(
        found.items,
        tuple(digest or "" for digest in found.digests),
        simplest(cache.Store(cached, again)),
        tuple(skipped),
    )


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


def _cached(
    files: Files, keeping: Keeping, workers: int, on_image: Callable[[int], None]
) -> cache.Cached:
    """The decoded pixels: from the cache, or decoded now."""
    at = cache.CacheFiles(keeping.folder, files.key, cache.PIXELS)
    found = cache.read(at)
    if found is not None:
        on_image(len(files.items))
        return found
    left = Left()
    return cache.keep(at, _decoded(files, workers, left, on_image), left, keeping)


def _decoded(
    files: Files, workers: int, left: Left, on_image: Callable[[int], None]
) -> Iterator[Pixels]:
    """Pixels of what decodes; why the others do not goes into `left`.

    That a file's bytes cannot be decoded stays so. That they could not be read when it was tried, or were
    others than before, does not: such a reason must not be found again by a run that can read them.
    """
    decoded = decode_all(files.paths, files.preprocessing, workers=workers)
    for position, (digest, one) in enumerate(zip(files.digests, decoded, strict=True)):
        on_image(1)
        if one.pixels is not None and one.digest == digest:
            yield one.pixels
            continue
        left.why[position] = one.error or "changed while the set was read"
        left.passing |= one.digest != digest


@dataclass(frozen=True, slots=True)
class Source:
    """One root of a mixed set; `weight` is its share of an epoch relative to the others'."""

    root: Path
    weight: float = 1.0


def described(root: Path, items: Sequence[Item]) -> list[Item]:
    """`items` with the platform and posterior that the manifest beside them states, if there is one.

    Raises:
        InputError: if it cannot be read, or has a posterior that is none.
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
    return replace(item, platform=platform, posterior=_posterior(row.get("posterior"), item.path))


def _posterior(stated: object, path: str) -> float | None:
    """P(fake) as the manifest states it of the image at `path`, if it does.

    Raises:
        InputError: if that is no probability.
    """
    if stated is None:
        return None
    if not isinstance(stated, int | float) or not 0 <= stated <= 1:
        raise InputError(
            f"{MANIFEST} has posterior {stated!r} for {path}; expected a number from 0 to 1, or none; "
            "mend that row"
        )
    return float(stated)


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
