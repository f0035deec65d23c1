"""Decoded pixels: made once, mapped into memory afterwards, of any size, bounded on disk.

A cache is two files whose names hold the key of what is inside: the digests of the images in order and
everything that decides their pixels. `.KEY.pixels.npy` is one flat array of uint8 that NumPy opens by
itself; `.KEY.pixels.json` says where each image lies, and its CRC-32. The index is written last, so a
cache without one was never finished; one whose bytes do not match is made again, and that is said. What
does not fit into the bound is decoded each time it is needed.
"""

import errno
import io
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
FORMAT = "wildrf-pixels-1"
HEADER_BYTES = 128
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk says that has no room."""


class PixelSource(Protocol):
    """Images by index: pixels (H, W, 3) uint8. An array (N, H, W, 3) is one."""

    def __len__(self) -> int:
        """How many images."""

    def __getitem__(self, index: int, /) -> Pixels:
        """The pixels of one, not to be written to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a cache: its height and width, where it starts, its CRC-32; not stored if `at` is None."""

    height: int
    width: int
    at: int | None
    crc: int

    @property
    def bytes(self) -> int:
        """Of its pixels."""
        return self.height * self.width * 3


@dataclass(frozen=True, slots=True)
class Store:
    """Images in one flat array, those that have a place there; `decode` makes the others."""

    flat: Pixels
    entries: tuple[Entry, ...]
    decode: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Pixels:
        entry = self.entries[index]
        if entry.at is None:
            return self.decode(index)
        shape = (entry.height, entry.width, 3)
        pixels: Pixels = self.flat[entry.at : entry.at + entry.bytes].reshape(shape)
        return pixels

    @property
    def stored(self) -> int:
        """How many images have a place."""
        return sum(entry.at is not None for entry in self.entries)


def shapes_of(source: PixelSource) -> list[tuple[int, int]]:
    """Height and width of every image, without touching their pixels."""
    if isinstance(source, Store):
        return [(entry.height, entry.width) for entry in source.entries]
    return [(source[k].shape[0], source[k].shape[1]) for k in range(len(source))]


def simplest(store: Store) -> PixelSource:
    """The same images as an array (N, H, W, 3) if all are stored and of one size."""
    sizes = {(entry.height, entry.width) for entry in store.entries}
    if len(sizes) != 1 or store.stored < len(store):
        return store
    ((height, width),) = sizes
    whole: Pixels = store.flat.reshape(len(store), height, width, 3)
    return whole


class Writer:
    """Takes images one after the other into a file, until its bound or the disk is full."""

    def __init__(self, path: Path, bound_bytes: int) -> None:
        self.path, self.bound = path, bound_bytes
        self.entries: list[Entry] = []
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))
        self._at = 0
        self._full = False

    def add(self, pixels: Pixels) -> None:
        """One more image; it gets no place if there is none left."""
        content = np.ascontiguousarray(pixels)
        at = self._place(content)
        height, width = content.shape[:2]
        self.entries.append(Entry(height, width, at, zlib.crc32(content.data)))

    def _place(self, content: Pixels) -> int | None:
        if self._full or self._at + content.nbytes > self.bound:
            self._give_up(f"{self.bound / 2**30:.1f} GiB of decoded pixels are kept")
            return None
        try:
            self._file.write(content.data)
            self._file.flush()
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._file = _reopened(self._file, self.path, HEADER_BYTES + self._at)
            self._give_up(f"no room on the disk of {self.path.parent} ({error.strerror})")
            return None
        self._at += content.nbytes
        return self._at - content.nbytes

    def _give_up(self, why: str) -> None:
        if not self._full:
            logger.warning("%s: further images are decoded each time they are needed", why)
        self._full = True

    def close(self) -> tuple[Entry, ...]:
        """Write the header; the file is a .npy file from now on."""
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (self._at,)}
        np.lib.format.write_array_header_1_0(header, shape)  # type: ignore[no-untyped-call]  # NumPy's gap
        if header.tell() != HEADER_BYTES:
            raise AssertionError(f"a .npy header of {header.tell()} bytes")
        self._file.seek(0)
        self._file.write(header.getvalue())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return tuple(self.entries)


def _reopened(file: Any, path: Path, length: int) -> Any:
    """The file without the image that did not fit: its buffer must not be written later."""
    try:
        file.close()
    except OSError:
        logger.debug("%s: what was waiting to be written is dropped", path)
    again = path.open("r+b")
    again.truncate(length)
    again.seek(length)
    return again


@dataclass(frozen=True, slots=True)
class CacheFiles:
    """The two files of one key in a folder."""

    folder: Path
    key: str

    @property
    def pixels(self) -> Path:
        """One flat array of uint8."""
        return self.folder / f".{self.key}.pixels.npy"

    @property
    def index(self) -> Path:
        """Where each image lies."""
        return self.folder / f".{self.key}.pixels.json"

    def part(self) -> Path:
        """Where this process writes; what dead ones left is removed first."""
        for old in self.folder.glob(".*.part.pixels.npy"):
            if not _alive(int(old.name.split(".")[2])):
                old.unlink(missing_ok=True)
        return self.folder / f".{self.key}.{os.getpid()}.part.pixels.npy"

    def remove(self) -> None:
        """Both files, the index first: pixels without an index are nobody's."""
        self.index.unlink(missing_ok=True)
        self.pixels.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True, slots=True)
class Cached:
    """What a cache holds: the pixels, where each image lies, and why files at some positions have none."""

    flat: Pixels
    entries: tuple[Entry, ...]
    skipped: dict[int, str]


def finish(files: CacheFiles, part: Path, cached: Cached) -> None:
    """Give the written pixels their name, then their index: from now on the cache is one."""
    part.replace(files.pixels)
    rows = [[e.height, e.width, e.at, e.crc] for e in cached.entries]
    skipped = {str(position): why for position, why in cached.skipped.items()}
    index = {"format": FORMAT, "key": files.key, "images": rows, "skipped": skipped}
    waiting = files.index.with_name(f"{files.index.name}.{os.getpid()}.part")
    waiting.write_text(json.dumps(index))
    waiting.replace(files.index)


def read(files: CacheFiles) -> Cached | None:
    """The cache, its bytes checked; None if there is none, or none that can be used, which is said."""
    try:
        found = json.loads(files.index.read_bytes())
        flat = _mapped(files.pixels)
        entries = tuple(Entry(*row) for row in found["images"])
        skipped = {int(position): str(why) for position, why in found["skipped"].items()}
        problem = _problem(found, flat, entries, files.key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        problem = " ".join(str(error).split())[:80] or type(error).__name__
    if problem is None:
        os.utime(files.index)  # the least recently used goes first
        return Cached(flat, entries, skipped)
    logger.warning("%s is damaged (%s): it is made again", files.pixels, problem)
    files.remove()
    return None


def _problem(found: dict[str, Any], flat: Pixels, entries: Sequence[Entry], key: str) -> str | None:
    if found["format"] != FORMAT or found["key"] != key:
        return "it is the index of something else"
    if flat.dtype != np.uint8 or flat.ndim != 1:
        return f"it holds {flat.dtype} of {flat.ndim} dimensions"
    placed = [entry for entry in entries if entry.at is not None]
    if sum(entry.bytes for entry in placed) != len(flat):
        return f"it holds {len(flat)} bytes"

    def matches(entry: Entry) -> bool:
        start = entry.at or 0
        return zlib.crc32(flat[start : start + entry.bytes].data) == entry.crc

    with ThreadPoolExecutor(2) as pool:  # CRC-32 lets go of the interpreter
        wrong = sum(not ok for ok in pool.map(matches, placed))
    return f"{wrong} of {len(placed)} images differ from their checksum" if wrong else None


def make_room(folder: Path, bound_bytes: int, keep: CacheFiles) -> None:
    """Remove the caches used least recently until those in `folder` take up at most `bound_bytes`."""
    indices = sorted(folder.glob(".*.pixels.json"), key=lambda path: path.stat().st_mtime)
    caches = [CacheFiles(folder, path.name.split(".")[1]) for path in indices]
    sizes = {c.key: c.pixels.stat().st_size for c in caches if c.pixels.exists()}
    total = sum(sizes.values())
    for cache in caches:
        if total <= bound_bytes:
            return
        if cache.key != keep.key:
            cache.remove()
            total -= sizes.get(cache.key, 0)
            logger.info("%s is removed: the bound is %d bytes", cache.pixels, bound_bytes)


def room_for(folder: Path, bound_bytes: int) -> int:
    """Bytes that may be written to `folder`: the bound, or half of what is free if that is less."""
    return min(bound_bytes, shutil.disk_usage(folder).free // 2)


def write(
    images: Iterable[Pixels], files: CacheFiles, bound_bytes: int, skipped: dict[int, str]
) -> Cached:
    """Write `images` to the cache `files` and map what is there.

    `skipped` is read when the last image has been taken: it may be filled meanwhile.
    """
    part = files.part()
    try:
        writer = Writer(part, room_for(files.folder, bound_bytes))
        for pixels in images:
            writer.add(pixels)
        entries = writer.close()
        finish(files, part, Cached(np.empty(0, np.uint8), entries, skipped))
    finally:
        part.unlink(missing_ok=True)
    return Cached(_mapped(files.pixels), entries, skipped)


def _mapped(path: Path) -> Pixels:
    if path.stat().st_size <= HEADER_BYTES:
        return np.empty(0, dtype=np.uint8)  # nothing cannot be mapped
    flat: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    return flat


def held(images: Sequence[Pixels], skipped: dict[int, str]) -> Cached:
    """Images in memory, as a cache would hold them; their checksums are not taken."""
    ends = np.cumsum([0, *(pixels.size for pixels in images)]).tolist()
    flat = np.concatenate([np.empty(0, np.uint8), *(pixels.ravel() for pixels in images)])
    rows = zip(images, ends, strict=False)
    entries = tuple(Entry(p.shape[0], p.shape[1], at, 0) for p, at in rows)
    return Cached(flat, entries, skipped)
