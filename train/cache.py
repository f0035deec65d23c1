"""What was made of images once and is kept: mapped into memory, checked, bounded, shared.

A cache is two files whose names hold the key of what is inside, and its kind. `.KEY.pixels.npy` is one flat
array that NumPy opens by itself; `.KEY.pixels.json` says where each image lies in it, and its CRC-32. The
index is written last, so a cache without one was never finished; one whose bytes do not match is made again,
and that is said. What does not fit into the bound is made each time it is needed.

Several processes, on several machines, may share a folder. Each writes under a name of its own, and maps what
it wrote before it gives it the common name: whatever others rename or remove, it keeps its array. Where
another was first, that one's files stay.
"""

import errno
import io
import json
import logging
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Array = NDArray[Any]

VERSION = 2
HEADER_BYTES = 128
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk says that has no room."""

MEMORY_BYTES = 1 << 30
"""More decoded pixels than this (5,461 pictures at 256 x 256) live in a mapped file."""

DISK_BYTES = 16 << 30
"""More than this is not kept: the rest is made each time it is needed."""

PAYS_S = 10.0
"""What took longer to make than this is kept on disk for when the run goes on."""

ABANDONED_S = 86_400.0
"""What another machine began to write and has not touched for a day is nobody's: it cannot be asked."""

NAMELESS_S = 3_600.0
"""An array without an index gets none any more so long after it was written: its process was killed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is kept of each image: numbers of `dtype`, as (height, width, *tail).

    All caches of a kind may take up `share` of a folder's bound. `words` are what people call it, `again` is
    what is done with an image that finds no room there.
    """

    name: str
    words: str
    dtype: str
    tail: tuple[int, ...]
    share: float
    again: str


PIXELS = Kind("pixels", "decoded pixels", "|u1", (3,), 31 / 32, "decoded")
LOGITS = Kind("teacher", "a teacher's logits", "<f4", (), 1 / 32, "put to the teacher")
"""A teacher's logits: one for 8 x 8 pixels takes up a 48th of what those do."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where what was made is kept, and how many bytes of it.

    `memory` at most in memory; more, and what took longer than `pays_s` seconds to make, goes to files in
    `folder`, where those of all runs take up at most `disk`. `keys` are the caches that this run uses: none
    of them makes room for another.
    """

    folder: Path
    memory: int = MEMORY_BYTES
    disk: int = DISK_BYTES
    pays_s: float = PAYS_S
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a cache: height, width, its first number and CRC-32; not stored if `at` is None."""

    height: int
    width: int
    at: int | None
    crc: int


@dataclass(frozen=True, slots=True)
class Cached:
    """What a cache holds: the array, where each image lies, and why files at some positions have none."""

    kind: Kind
    flat: Array
    entries: tuple[Entry, ...]
    skipped: dict[int, str]

    def part(self, entry: Entry) -> Array:
        """The numbers of an image that has a place."""
        shape = (entry.height, entry.width, *self.kind.tail)
        start = entry.at or 0
        found: Array = self.flat[start : start + prod(shape)].reshape(shape)
        return found


@dataclass(frozen=True, slots=True)
class Store:
    """The images of a cache by index; `make` makes those that have no place in it."""

    cached: Cached
    make: Callable[[int], Array]

    def __len__(self) -> int:
        return len(self.cached.entries)

    def __getitem__(self, index: int) -> Array:
        entry = self.cached.entries[index]
        return self.make(index) if entry.at is None else self.cached.part(entry)

    @property
    def stored(self) -> int:
        """How many images have a place."""
        return sum(entry.at is not None for entry in self.cached.entries)


@dataclass(slots=True)
class Left:
    """Files that gave nothing: why, by position, and whether one of them may do so at another time."""

    why: dict[int, str] = field(default_factory=dict)
    passing: bool = False


@dataclass(frozen=True, slots=True)
class CacheFiles:
    """The two files of one key in a folder."""

    folder: Path
    key: str
    kind: Kind = PIXELS

    @property
    def array(self) -> Path:
        """One flat array."""
        return self.folder / f".{self.key}.{self.kind.name}.npy"

    @property
    def index(self) -> Path:
        """Where each image lies."""
        return self.folder / f".{self.key}.{self.kind.name}.json"

    def part(self) -> Path:
        """A name that nobody else writes to, on whatever machine."""
        own = f"{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
        return self.folder / f".{self.key}.{self.kind.name}.{own}.part"

    def remove(self) -> None:
        """Both files, the index first: an array without an index is nobody's."""
        with suppress(OSError):  # not ours to remove; whoever finds it says so again
            self.index.unlink(missing_ok=True)
            self.array.unlink(missing_ok=True)


def _host() -> str:
    """This machine, as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "localhost"


def read(files: CacheFiles) -> Cached | None:
    """The cache, its bytes checked; None if there is none, or none that can be used, which is said."""
    try:
        found = json.loads(files.index.read_bytes())
        entries = tuple(Entry(*row) for row in found["images"])
        skipped = {int(position): str(why) for position, why in found["skipped"].items()}
        cached = Cached(files.kind, _mapped(files.array, files.kind), entries, skipped)
        problem = _problem(found, cached, files.key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        problem = " ".join(str(error).split())[:80] or type(error).__name__
    if problem is None:
        with suppress(OSError):  # a folder that may only be read
            os.utime(files.index)  # the least recently used goes first
        return cached
    logger.warning("%s cannot be used (%s): it is made again", files.array, problem)
    files.remove()
    return None


def _problem(found: dict[str, Any], cached: Cached, key: str) -> str | None:
    if found["format"] != _format(cached.kind) or found["key"] != key:
        return "its index is of something else, or of another version"
    flat, placed = cached.flat, [entry for entry in cached.entries if entry.at is not None]
    if flat.dtype != np.dtype(cached.kind.dtype) or flat.ndim != 1:
        return f"it holds {flat.dtype} of {flat.ndim} dimensions"
    if sum(prod((e.height, e.width, *cached.kind.tail)) for e in placed) != len(flat):
        return f"it holds {len(flat)} numbers"

    def matches(entry: Entry) -> bool:
        return zlib.crc32(cached.part(entry).data) == entry.crc

    with ThreadPoolExecutor(2) as pool:  # CRC-32 lets go of the interpreter
        wrong = sum(not ok for ok in pool.map(matches, placed))
    return f"{wrong} of {len(placed)} images differ from their checksum" if wrong else None


def _format(kind: Kind) -> str:
    return f"wildrf-{kind.name}-{VERSION}"


def _mapped(path: Path, kind: Kind) -> Array:
    if path.stat().st_size <= HEADER_BYTES:
        return np.empty(0, dtype=kind.dtype)  # nothing cannot be mapped
    flat: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return flat


def keep(files: CacheFiles, arrays: Iterator[Array], left: Left, keeping: Keeping) -> Cached:
    """What `arrays` gives, in memory or in the files of `keeping`.

    `left` is read when the last array has been taken: it may be filled meanwhile. A folder that cannot be
    written costs speed alone, and that is said.
    """
    begun = time.monotonic()
    first = _up_to(arrays, keeping.memory)
    rest = next(arrays, None)
    if rest is None and time.monotonic() - begun < keeping.pays_s:
        return held(first, files.kind, left)
    further = arrays if rest is None else chain([rest], arrays)
    writer = _open_writer(files, keeping)
    if writer is None:
        return held(first, files.kind, left, further)
    made = write(writer, chain(first, further), files, left)
    return made if rest is not None else held(first, files.kind, left)


def _up_to(arrays: Iterator[Array], limit: int) -> list[Array]:
    """The first arrays, until they take up `limit` bytes."""
    taken: list[Array] = []
    total = 0
    while total < limit and (array := next(arrays, None)) is not None:
        taken.append(array)
        total += array.nbytes
    return taken


def held(arrays: Sequence[Array], kind: Kind, left: Left, further: Iterable[Array] = ()) -> Cached:
    """Arrays in memory, as a cache would hold them, without checksums; `further` ones have no place."""
    ends = np.cumsum([0, *(array.size for array in arrays)]).tolist()
    flat = np.concatenate([np.empty(0, kind.dtype), *(array.ravel() for array in arrays)])
    rows = zip(arrays, ends, strict=False)
    entries = [Entry(a.shape[0], a.shape[1], at, 0) for a, at in rows]
    entries += [Entry(a.shape[0], a.shape[1], None, 0) for a in further]
    return Cached(kind, flat, tuple(entries), left.why)


def _open_writer(files: CacheFiles, keeping: Keeping) -> "Writer | None":
    """Who writes to the folder; nobody if that is not possible."""
    try:
        keeping.folder.mkdir(parents=True, exist_ok=True)
        room = Room(files, keeping)
        return Writer(files.part(), files.kind, room)
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): what memory does not hold is %s each time it is needed",
            keeping.folder, error.strerror, files.kind.again,
        )  # fmt: skip
        return None


def write(writer: "Writer", arrays: Iterable[Array], files: CacheFiles, left: Left) -> Cached:
    """Write `arrays`, map what is there, and make it a cache if it says what it always would."""
    try:
        with writer:
            for array in arrays:
                writer.add(array)
        made = Cached(files.kind, _mapped(writer.path, files.kind), tuple(writer.entries), left.why)
        if not left.passing:
            publish(files, writer.path, made)
    finally:
        writer.path.unlink(missing_ok=True)
    return made


def publish(files: CacheFiles, part: Path, made: Cached) -> None:
    """Give the array in `part` its name, then its index, unless another process has done so."""
    if files.index.exists() and files.array.exists():
        return
    rows = [[e.height, e.width, e.at, e.crc] for e in made.entries]
    skipped = {str(position): why for position, why in made.skipped.items()}
    index = {"format": _format(files.kind), "key": files.key, "images": rows, "skipped": skipped}
    waiting = files.part()
    try:
        waiting.write_text(json.dumps(index))
        part.replace(files.array)
        waiting.replace(files.index)
    except FileNotFoundError:
        logger.info("%s is made again when it is needed: another process removed it", files.array)
    except OSError as error:
        logger.warning("%s is not kept (%s)", files.array, error.strerror)
    finally:
        waiting.unlink(missing_ok=True)


class Writer:
    """Takes arrays one after the other into a file, as long as there is room."""

    def __init__(self, path: Path, kind: Kind, room: "Room") -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._kind, self._room = kind, room
        self._file: Any = path.open("xb")
        self._file.write(bytes(HEADER_BYTES))
        self._bytes = 0
        self._full = False

    def add(self, array: Array) -> None:
        """One more image; it gets no place if there is none left."""
        content = np.ascontiguousarray(array, dtype=self._kind.dtype)
        at = self._place(content)
        height, width = content.shape[:2]
        self.entries.append(Entry(height, width, at, zlib.crc32(content.data)))

    def _place(self, content: Array) -> int | None:
        if self._full or not self._room.allows(HEADER_BYTES + self._bytes + content.nbytes):
            self._give_up(f"{self._room.most / 2**30:.1f} GiB of {self._kind.words} are kept")
            return None
        try:
            self._file.write(content.data)
            self._file.flush()
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._file = _reopened(self._file, self.path, HEADER_BYTES + self._bytes)
            self._give_up(f"no room on the disk of {self.path.parent} ({error.strerror})")
            return None
        at = self._bytes // content.itemsize
        self._bytes += content.nbytes
        return at

    def _give_up(self, why: str) -> None:
        if not self._full:
            again = self._kind.again
            logger.warning("%s: further images are %s each time they are needed", why, again)
        self._full = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Write the header, if all went well; the file is a .npy file from now on."""
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())
                self._file.flush()
                os.fsync(self._file.fileno())

    def _header(self) -> bytes:
        dtype = np.dtype(self._kind.dtype)
        shape = (self._bytes // dtype.itemsize,)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]  # NumPy's gap
            header, {"descr": dtype.str, "fortran_order": False, "shape": shape}
        )
        if header.tell() != HEADER_BYTES:
            raise AssertionError(f"a .npy header of {header.tell()} bytes")
        return header.getvalue()


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


class Room:
    """What a cache may take up in a folder: that of a bound, or of the disk, which others leave.

    Caches that no one has used for longest make room, and what dead processes left goes at once. `most` is
    the bound of the kind in bytes.
    """

    def __init__(self, files: CacheFiles, keeping: Keeping) -> None:
        self.most = int(keeping.disk * files.kind.share)
        self._keys = {*keeping.keys, files.key}
        self._folder, self._kind = keeping.folder, files.kind
        sweep(self._folder, self._kind)
        self._caches = _caches(self._folder, self._kind)
        self._taken = _taken(self._folder, self._kind)
        self._disk = shutil.disk_usage(self._folder).free // 2

    def allows(self, size: int) -> bool:
        """Whether a file of `size` bytes has room, once what may go has gone."""
        own = sum(s for key, s in self._caches.items() if key in self._keys)
        if size > self.most - own:
            return False
        while size > min(self.most - self._taken, self._disk):
            oldest = next((key for key in self._caches if key not in self._keys), None)
            if oldest is None:
                return False
            self._remove(oldest)
        return True

    def _remove(self, key: str) -> None:
        files = CacheFiles(self._folder, key, self._kind)
        files.remove()
        size = self._caches.pop(key)
        self._taken -= size
        self._disk += size
        logger.info("%s is removed: the bound is %d bytes", files.array, self.most)


def _caches(folder: Path, kind: Kind) -> dict[str, int]:
    """The bytes of each cache by its key, the least recently used first."""
    found = []
    for index in folder.glob(f".*.{kind.name}.json"):
        files = CacheFiles(folder, index.name.split(".")[1], kind)
        with suppress(OSError):  # another process removed it
            found.append((index.stat().st_mtime_ns, files.key, files.array.stat().st_size))
    return {key: size for _, key, size in sorted(found)}


def _taken(folder: Path, kind: Kind) -> int:
    """The bytes of all arrays of a kind, those that are being written too."""
    total = 0
    for path in (*folder.glob(f".*.{kind.name}.npy"), *folder.glob(f".*.{kind.name}.*.part")):
        with suppress(OSError):  # another process removed it
            total += path.stat().st_size
    return total


def sweep(folder: Path, kind: Kind) -> None:
    """Remove what processes left that are gone: what they were writing, and arrays without an index."""
    for part in folder.glob(f".*.{kind.name}.*.part"):
        if _abandoned(part):
            _remove(part)
    for array in folder.glob(f".*.{kind.name}.npy"):
        if not array.with_suffix(".json").exists() and _age_s(array) > NAMELESS_S:
            _remove(array)


def _abandoned(part: Path) -> bool:
    """Whether its writer is gone; one of another machine is taken to be if it has long been silent."""
    host, pid = part.name.split(".")[3:5]
    if host == _host() and pid.isdigit():
        return not _alive(int(pid))
    return _age_s(part) > ABANDONED_S


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _age_s(path: Path) -> float:
    """Seconds since it was written to; none if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    with suppress(OSError):  # another process was first, or it is not ours
        path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove every cache in `folder`, of whatever kind."""
    for kind in (PIXELS, LOGITS):
        for path in folder.glob(f".*.{kind.name}.*"):
            _remove(path)
