"""Platform exports as they come: a folder, a zip, a tar, one file, plain or compressed.

Nothing is ever unpacked to disk: members are read as streams. Decompressed streams are bounded
by the ratio to what was read, so a small file cannot fill memory or time. Names that leave the
export, links, encrypted members and damaged containers are refused in one line.

Reddit's monthly dumps need a zstd window of 2 GiB (https://github.com/ArthurHeitmann/arctic_shift),
which lies in a temporary file (`curate.zstd_window`). Lines are split on the newline byte before they
are decoded, since a chunk may end inside a character.
"""

import gzip
import hashlib
import io
import lzma
import re
import stat
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

import zstandard

from curate import zstd_window
from curate.zstd_window import FileWindow
from schemas.errors import ExportError

MEMORY_WINDOW = 64 * 2**20
"""Bytes; what a frame may keep of its output in memory. Larger windows lie in a temporary file."""
MAX_RATIO = 1_000
"""Decompressed to compressed bytes; zstd on repetitive JSON reaches a few hundred."""
FREE_BYTES = 64 * 2**20
"""A stream this small is never refused for its ratio."""
MAX_LINE = 64 * 2**20
"""Bytes; the longest real post is below 1 MiB."""
MAX_MEMBERS = 1_000_000
MAX_HEADER = 1 << 20
"""Bytes of one header of a tar; the longest real ones hold a path."""
HEAD = 1 << 16
"""First bytes of a member that are kept once they were asked for."""
KEPT_HEADS = 256
CHUNK = 1 << 20
ZSTD_CHUNK = 1 << 14  # one block of run-length data may grow 30,000-fold, so feed little at a time

COMPRESSED = (".zst", ".gz", ".xz")
TEXT = (".json", ".jsonl", ".ndjson", ".js", ".csv", ".tsv", ".car")
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}
_DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zstandard.ZstdError,
    struct.error,
    ValueError,  # a number or a name in a header that is none
    OverflowError,
)
_ARCHIVES = (".zip", ".tar", ".tgz", ".txz", ".tzst", ".tar.gz", ".tar.xz", ".tar.zst")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_DAMAGE_OS = (gzip.BadGzipFile, tarfile.TarError)


class DamagedExport(ExportError):
    """The export ends early or is corrupt; what was read before that is good."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an export: its path inside it, with `/`, and its size in bytes as claimed."""

    name: str
    size: int


class _Container(Protocol):
    """How one kind of export lists and opens its files."""

    def members(self) -> Iterator[Member]: ...

    def open(self, name: str) -> BinaryIO: ...

    def weight(self, name: str) -> int:
        """The most bytes that a member can take inside the export, for telling a bomb."""

    def head(self, name: str) -> bytes | None:
        """The first `HEAD` bytes of a member as stored, where they are known already."""


@dataclass(frozen=True)
class Export:
    """A platform export, open for reading. Make one with `open_export`."""

    path: Path
    container: _Container = field(repr=False)
    parts: tuple["Export", ...] = ()
    _heads: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _index(self) -> dict[str, Member]:
        found: dict[str, Member] = {}
        with _told(self.path, "its list of files"):
            for member in self.container.members():
                check_name(member.name, self.path)
                found[member.name] = member
                if len(found) > MAX_MEMBERS:
                    raise _too_many(self.path)
        return found

    @property
    def location(self) -> str:
        """Where the export is, as it is written down: a line for each part that was named."""
        if self.parts and not self.path.is_dir():
            return "\n".join(part.location for part in self.parts)
        return str(self.path.resolve())

    def members(self) -> tuple[Member, ...]:
        """Every file of the export, in name order for folders and stored order otherwise."""
        return tuple(self._index.values())

    def __contains__(self, name: str) -> bool:
        """Whether there is a member of that name."""
        return name in self._index

    def open(self, name: str) -> BinaryIO:
        """A stream of one member's bytes; `.zst`, `.gz` and `.xz` members are decompressed.

        Raises:
            ExportError: there is no such member, or (while reading) it is damaged or a bomb.
        """
        if name not in self._index:
            raise ExportError(f"{self.path} has no file {name}; is it the whole export?")
        with _told(self.path, name):
            raw = self.container.open(name)
            weight = self.container.weight(name)
            return _decompressed(raw, _kind_of(name), f"{self.path.name}:{name}", weight)

    def read(self, name: str, limit: int = 2**31) -> bytes:
        """All bytes of one member, at most `limit`.

        Raises:
            ExportError: it is longer than `limit`, absent or damaged.
        """
        with self.open(name) as stream, _told(self.path, name):
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise ExportError(
                f"{name} in {self.path} has more than {limit} bytes; it cannot be read whole"
            )
        return data

    def head(self, name: str, size: int = 4096) -> bytes:
        """The first bytes of one member, or fewer where it is damaged."""
        if size > HEAD:
            return self._first(name, size)
        if name not in self._heads:
            if len(self._heads) >= KEPT_HEADS:
                self._heads.clear()
            stored = None if _kind_of(name) else self.container.head(name)
            self._heads[name] = self._first(name, HEAD) if stored is None else stored
        return self._heads[name][:size]

    def _first(self, name: str, size: int) -> bytes:
        with self.open(name) as stream, _told(self.path, name):
            return stream.read(size)

    def lines(self, name: str, limit: int = MAX_LINE) -> Iterator[bytes]:
        r"""The lines of one member, split on b"\n", without it; blank ones are left out.

        A line longer than `limit` is cut there, which no JSON survives: it is one bad row.
        """
        with self.open(name) as stream:
            yield from split_lines(self._chunks(stream, name), limit)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of one member, piece by piece.

        Raises:
            ExportError: it is absent, damaged or a bomb.
        """
        with self.open(name) as stream:
            yield from self._chunks(stream, name)

    def _chunks(self, stream: BinaryIO, name: str) -> Iterator[bytes]:
        read = getattr(stream, "read1", stream.read)  # lines need no chunks of equal size
        while True:
            with _told(self.path, name):
                chunk = read(CHUNK)
            if not chunk:
                return
            yield chunk

    def digest(self) -> str:
        """SHA-256, hex: of the file's bytes, or of a folder's sorted paths and content hashes.

        That of several parts does not depend on which of them is named first.
        """
        if self.parts:
            each = "\n".join(sorted(part.digest() for part in self.parts))
            return hashlib.sha256(f"wildrf-export-parts-1\n{each}\n".encode()).hexdigest()
        if self.path.is_file():
            return _sha256(self.path)
        tree = hashlib.sha256(b"wildrf-export-tree-1\n")
        for name in sorted(self._index):
            tree.update(f"{_sha256(self.path / name)} {name}\n".encode())
        return tree.hexdigest()


def open_export(path: Path, *more: Path) -> Export:
    """The export at `path`: folder, zip, tar (.gz, .xz, .zst), or one file, plain or compressed.

    `more` are further parts of the same export. A folder of nothing but archives is one in parts.

    Raises:
        ExportError: it is missing, empty, of a kind we cannot read, or not what its name says.
    """
    if more:
        return _in_parts(path, (path, *more))
    if path.is_dir():
        archives = _archives_of(path)
        return _in_parts(path, archives) if archives else Export(path, _Folder(path))
    if not path.is_file():
        raise ExportError(f"{path} does not exist; give the folder or file of an export")
    head = _first_bytes(path)
    if not head:
        raise ExportError(f"{path} is empty; download the export again")
    return Export(path, _container_of(path, head))


def _in_parts(path: Path, paths: Sequence[Path]) -> Export:
    """Several folders or archives as one export."""
    if len(paths) == 1:
        return open_export(paths[0])
    parts = tuple(open_export(part) for part in paths)
    return Export(path, _Parts(path, parts), parts)


def _archives_of(folder: Path) -> list[Path]:
    """The archives in a folder that holds nothing else; none where it does."""
    found = [
        p for p in sorted(folder.iterdir()) if not (_is_junk(p.name) or p.name.startswith("."))
    ]
    only = all(p.name.lower().endswith(_ARCHIVES) and p.is_file() for p in found)
    if any(p.is_symlink() for p in found):
        return []  # the folder itself says what is wrong with that
    return found if only else []


def _too_many(path: Path) -> ExportError:
    return ExportError(f"{path} holds more than {MAX_MEMBERS:,} files; split it into parts")


def check_name(name: str, path: Path) -> None:
    """Refuse a member name that could leave the export.

    Raises:
        ExportError: the name is absolute, climbs, or holds a character no file name has.
    """
    parts = name.split("/")
    bad = name.startswith("/") or ".." in parts or "\\" in name or _CONTROL.search(name)
    if bad or (len(name) > 1 and name[1] == ":") or not name:
        raise ExportError(
            f"{path} holds a file named {name[:80]!r}, which leads out of the export; "
            "get the export from the platform again"
        )


def split_lines(chunks: Iterator[bytes], limit: int = MAX_LINE) -> Iterator[bytes]:
    """Lines of a stream of chunks, in memory bounded by `limit` and one chunk."""
    rest = b""
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest = (rest + first)[:limit] if len(rest) < limit else rest
        for line in more:
            if rest and not rest.isspace():
                yield rest
            rest = line[:limit]
    if rest and not rest.isspace():
        yield rest


def _container_of(path: Path, head: bytes) -> _Container:
    """The container for a file that begins with `head`; content decides, the name must agree."""
    name = path.name.lower()
    kind = next((k for magic, k in _MAGIC.items() if head.startswith(magic)), None)
    if kind == "zip":
        return _Zip(path)
    if _is_tar(name, head, kind):
        return _Tar(path, kind)
    expected = _kind_of(name) or ("zip" if name.endswith(".zip") else None)
    if expected != kind:
        raise ExportError(_mismatch(path, expected, kind, head))
    if _looks_like_html(head):
        raise ExportError(
            f"{path} is a web page; expected data: ask the platform for the JSON export"
        )
    if kind is None and not name.endswith(TEXT):
        raise ExportError(
            f"{path} is of no kind we read; expected a folder, .zip, .tar, {', '.join(TEXT)}, "
            f"or one of these with {', '.join(COMPRESSED)}"
        )
    return _Single(path)


def _mismatch(path: Path, expected: str | None, kind: str | None, head: bytes) -> str:
    found = kind or ("a web page" if _looks_like_html(head) else "something else")
    if expected is None:
        return f"{path} is {kind} data without the suffix .{kind}; rename it and try again"
    return f"{path} is named .{expected} but holds {found}; download the export again"


def _is_tar(name: str, head: bytes, kind: str | None) -> bool:
    if kind in ("gz", "xz", "zst"):
        return name.endswith((f".tar.{kind}", f".t{kind}"))
    return kind is None and head[257:262] == b"ustar"


def _looks_like_html(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    return start.startswith((b"<!doctype", b"<html", b"<head"))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}; check its rights") from None


def _kind_of(name: str) -> str | None:
    """The compression a name promises: zst, gz, xz or None."""
    return next((s[1:] for s in COMPRESSED if name.lower().endswith(s)), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_junk(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return name.startswith("__MACOSX/") or last in (".DS_Store", "Thumbs.db")


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """Damage found by a decompressor or the file system, told in one line."""
    try:
        yield
    except (*_DAMAGE, *_DAMAGE_OS, RecursionError) as error:
        raise DamagedExport(
            f"{path} is damaged or cut off at {_shown(what)} ({_shown(error) or type(error).__name__}); "
            "download the export again"
        ) from None
    except (RuntimeError, NotImplementedError) as error:
        raise ExportError(
            f"{_shown(what)} in {path} cannot be read: {_shown(error)}; unpack it first"
        ) from None
    except OSError as error:
        raise ExportError(
            f"{_shown(what)} in {path} cannot be read: {_shown(error)}; check the disk"
        ) from None
    except MemoryError:
        raise ExportError(
            f"{_shown(what)} in {path} asks for more memory than there is; get the export again"
        ) from None


def _shown(value: object) -> str:
    """Words of an archive or an error as one short line that any terminal can show."""
    text = str(value).encode("utf-8", "replace").decode()
    return " ".join(_CONTROL.sub(" ", text).split())[:160]


# ---------------------------------------------------------------- containers


@dataclass(frozen=True)
class _Folder:
    """A folder; links inside it are refused, since they could lead anywhere."""

    path: Path

    def members(self) -> Iterator[Member]:
        for file in sorted(islice(self.path.rglob("*"), 2 * MAX_MEMBERS)):
            name = file.relative_to(self.path).as_posix()
            if file.is_symlink():
                raise ExportError(
                    f"{_shown(name)} in {self.path} is a link; put the file itself there"
                )
            if file.is_file() and not _is_junk(name):
                yield Member(_readable(name), file.stat().st_size)

    def open(self, name: str) -> BinaryIO:
        return self._at(name).open("rb")

    def weight(self, name: str) -> int:
        return self._at(name).stat().st_size

    def head(self, name: str) -> None:
        return None

    def _at(self, name: str) -> Path:
        file = self.path / name
        return file if file.exists() else self.path / _as_stored(name)


@dataclass(frozen=True)
class _Single:
    """One file, which is its own only member."""

    path: Path

    def members(self) -> Iterator[Member]:
        yield Member(self.path.name, self.path.stat().st_size)

    def open(self, name: str) -> BinaryIO:
        return self.path.open("rb")

    def weight(self, name: str) -> int:
        return self.path.stat().st_size

    def head(self, name: str) -> None:
        return None


@dataclass(frozen=True)
class _Parts:
    """Several containers as one; a file that two of them hold must be the same in both."""

    path: Path
    parts: tuple[Export, ...]

    @cached_property
    def _holders(self) -> dict[str, Export]:
        held: dict[str, tuple[Export, int]] = {}
        for part in self.parts:
            for member in part.members():
                first = held.setdefault(member.name, (part, member.size))
                if first[1] != member.size:
                    raise ExportError(
                        f"{first[0].path} and {part.path} both hold {_shown(member.name)}, but not the same; "
                        "expected parts of one export: collect them one by one"
                    )
        return {name: part for name, (part, _) in held.items()}

    def members(self) -> Iterator[Member]:
        sizes = {id(part): {m.name: m.size for m in part.members()} for part in self.parts}
        for name, part in self._holders.items():
            yield Member(name, sizes[id(part)][name])

    def open(self, name: str) -> BinaryIO:
        return self._holders[name].container.open(name)

    def weight(self, name: str) -> int:
        return self._holders[name].container.weight(name)

    def head(self, name: str) -> bytes | None:
        return self._holders[name].container.head(name)


@dataclass(frozen=True)
class _Zip:
    """A zip archive."""

    path: Path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        _check_directory(self.path)
        return zipfile.ZipFile(_quiet(self.path))

    @cached_property
    def _infos(self) -> dict[str, zipfile.ZipInfo]:
        infos = [info for info in self._archive.infolist() if not info.is_dir()]
        _check_overlap(infos, self.path)
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            first = found.setdefault(_zip_name(info), info)
            if (first.CRC, first.file_size) != (info.CRC, info.file_size):
                raise _twice(_zip_name(info), self.path)
        return found

    def members(self) -> Iterator[Member]:
        for name, info in self._infos.items():
            if _is_junk(name):
                continue
            if info.flag_bits & 1:
                raise ExportError(
                    f"{_shown(name)} in {self.path} is encrypted; unlock the export first"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ExportError(f"{_shown(name)} in {self.path} is a link; get the export again")
            yield Member(name, info.file_size)

    def open(self, name: str) -> BinaryIO:
        info = self._infos[name]
        raw = cast(BinaryIO, self._archive.open(info))
        size = max(info.compress_size, 1)
        return _bounded(raw, lambda: size, f"{self.path.name}:{name}")

    def weight(self, name: str) -> int:
        return self._infos[name].compress_size

    def head(self, name: str) -> None:
        return None


_END, _LOCATOR, _END_64, _ENTRY = b"PK\5\6", b"PK\6\7", b"PK\6\6", b"PK\1\2"


def _check_directory(path: Path) -> None:
    """Refuse a zip of too many files before their list is loaded: each takes half a kilobyte of memory.

    The list's length is counted where it is long enough to hold too many, since the number that stands
    beside it may be wrong (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.12-4.3.16).
    """
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(max(0, end - 66_000))
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < 22:
            return  # what is no zip is told by whoever opens it
        count, size = (
            struct.unpack_from("<H", tail, at + 10)[0],
            struct.unpack_from("<I", tail, at + 12)[0],
        )
        place = end - len(tail) + at
        if tail[at - 20 : at - 16] == _LOCATOR:
            count, size, place = _of_zip64(file, struct.unpack_from("<Q", tail, at - 12)[0], end)
        many = size // 46 > MAX_MEMBERS and _counts_too_many(file, place, size)
        if many or count > MAX_MEMBERS:
            raise _too_many(path)


def _of_zip64(file: BinaryIO, place: int, end: int) -> tuple[int, int, int]:
    """The number of files, the bytes of their list and where it ends, as a large zip says."""
    if place > end - 56:
        return 0, 0, end
    file.seek(place)
    record = file.read(56)
    if not record.startswith(_END_64):
        return 0, 0, end
    return (*struct.unpack_from("<QQ", record, 32), place)


def _counts_too_many(file: BinaryIO, place: int, size: int) -> bool:
    """Whether a zip's list of files, which ends at `place`, is longer than we read."""
    file.seek(max(0, place - size))
    for _ in range(MAX_MEMBERS + 1):
        entry = file.read(46)
        if len(entry) < 46 or not entry.startswith(_ENTRY):
            return False
        file.seek(sum(struct.unpack_from("<HHH", entry, 28)), io.SEEK_CUR)
    return True


def _check_overlap(infos: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Refuse files that lie inside each other, by which a small zip claims to hold petabytes."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            raise ExportError(
                f"{path} holds files that lie inside each other, as no export has them; "
                "it looks like a compression bomb: do not use it"
            )
        end = info.header_offset + 30 + info.compress_size


def _twice(name: str, path: Path) -> ExportError:
    return ExportError(
        f"{path} holds two different files named {_shown(name)}; get the export from the platform again"
    )


def _zip_name(info: zipfile.ZipInfo) -> str:
    # the module rewrites names with NUL or foreign separators; the original is what counts
    original: str = info.orig_filename
    return original


@dataclass(frozen=True)
class _Tar:
    """A tar archive, plain or compressed; links and devices are refused."""

    path: Path
    kind: str | None

    @cached_property
    def _archive(self) -> tarfile.TarFile:
        raw = _decompressed(_quiet(self.path), self.kind, self.path.name)
        return tarfile.open(fileobj=cast(BinaryIO, _Headers(raw)), mode="r:")

    @cached_property
    def _heads(self) -> dict[str, bytes]:
        return {}

    @cached_property
    def _infos(self) -> dict[str, tarfile.TarInfo]:
        found: dict[str, tarfile.TarInfo] = {}
        stream = cast(_Headers, self._archive.fileobj)
        at = -1
        for info in self._archive:
            if info.offset_data <= at or info.size < 0:
                raise tarfile.ReadError("a header leads backwards")
            at = info.offset_data
            if not info.isdir():
                self._note(found, info)
                if info.isreg() and _tar_name(info).lower().endswith(TEXT) and self.kind:
                    self._remember(_tar_name(info), info, stream)
        stream.limit = None
        return found

    def _note(self, found: dict[str, tarfile.TarInfo], info: tarfile.TarInfo) -> None:
        first = found.setdefault(_tar_name(info), info)
        if first.size != info.size:
            raise _twice(_tar_name(info), self.path)
        if len(found) > MAX_MEMBERS:
            raise _too_many(self.path)

    def _remember(self, name: str, info: tarfile.TarInfo, stream: "_Headers") -> None:
        """Keep the beginning of a file on the way: coming back to it means unpacking all before it."""
        if len(self._heads) < KEPT_HEADS:
            stream.seek(info.offset_data)
            self._heads[name] = stream.read(min(HEAD, info.size))

    def members(self) -> Iterator[Member]:
        for name, info in self._infos.items():
            if not info.isfile() or info.issparse():
                kind = "sparse" if info.issparse() else "a link or device"
                raise ExportError(f"{_shown(name)} in {self.path} is {kind}; get it again")
            if not _is_junk(name):
                yield Member(name, info.size)

    def weight(self, name: str) -> int:
        return min(self._infos[name].size, self.path.stat().st_size)

    def head(self, name: str) -> bytes | None:
        return self._heads.get(name)

    def open(self, name: str) -> BinaryIO:
        stream = self._archive.extractfile(self._infos[name])
        assert stream is not None  # members() lists files only
        return cast(BinaryIO, stream)


def _tar_name(info: tarfile.TarInfo) -> str:
    return _readable(info.name.removeprefix("./"))


def _readable(name: str) -> str:
    """A name as text; one that is not UTF-8 was most likely written in Latin-1, and is read so."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name


def _as_stored(name: str) -> str:
    """The name in a folder that `_readable` made `name` of."""
    try:
        return name.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name


# ---------------------------------------------------------------- streams


class _Counted(io.RawIOBase):
    """A stream that knows how far it has been read; closing it closes what it reads."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw_stream = raw
        self.furthest = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.raw_stream.seekable()

    def read(self, size: int = -1) -> bytes:
        data = self.raw_stream.read(size)
        self._at += len(data)
        self.furthest = max(self.furthest, self._at)
        return data

    def read1(self, size: int = -1) -> bytes:
        """Some bytes, as they come; none only at the end."""
        return self.read(size)

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = self.raw_stream.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            self.raw_stream.close()
        super().close()


class _Headers(_Counted):
    """What a tar is read from: while its headers are read, none may be longer than any real one.

    The header of a long name says itself how long, and is read into memory at once.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(raw)
        self.limit: int | None = MAX_HEADER

    def read(self, size: int = -1) -> bytes:
        if self.limit is not None and not 0 <= size <= self.limit:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _quiet(path: Path) -> BinaryIO:
    """A file that closes with the archive that reads it, without a warning."""
    file = path.open("rb")
    counted = cast(BinaryIO, _Counted(file))
    weakref.finalize(counted, file.close)
    return counted


class _Bounded(_Counted):
    """A decompressed stream, refused once it grows out of proportion to its source."""

    def __init__(
        self, raw: BinaryIO, consumed: Callable[[], int], name: str, source: BinaryIO | None
    ) -> None:
        super().__init__(raw)
        self._consumed = consumed
        self._name = name
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data = super().read(min(size, 8 * CHUNK))
        while data and len(data) < size:
            more = super().read(min(size - len(data), 8 * CHUNK))
            if not more:
                break
            data += more
            self._check()
        self._check()
        return data

    def read1(self, size: int = -1) -> bytes:
        data = super().read(size if 0 <= size < 8 * CHUNK else 8 * CHUNK)
        self._check()
        return data

    def close(self) -> None:
        super().close()
        if self._source is not None:
            self._source.close()  # decoders leave the file they were given open

    def _check(self) -> None:
        if self.furthest > FREE_BYTES and self.furthest > MAX_RATIO * self._consumed():
            raise ExportError(
                f"{self._name} unpacks to over {MAX_RATIO} times its size, which no export does; "
                "it looks like a compression bomb: do not use it"
            )


def _bounded(
    raw: BinaryIO, consumed: Callable[[], int], name: str, source: BinaryIO | None = None
) -> BinaryIO:
    return cast(BinaryIO, _Bounded(raw, consumed, name, source))


def _decompressed(
    raw: BinaryIO, kind: str | None, name: str, weight: int | None = None
) -> BinaryIO:
    """`raw`, decompressed as `kind` says, bounded; unchanged where there is no compression.

    `weight` is what `raw` takes where it lies, if that is compressed once more: bombs are packed in bombs.
    """
    if kind is None:
        return raw
    counted = _Counted(raw)
    source = cast(BinaryIO, counted)

    def consumed() -> int:
        return counted.furthest if weight is None else min(counted.furthest, weight)

    return _bounded(_DECODERS[kind](source), consumed, name, source)


class _ZstdStream(io.RawIOBase):
    """zstd frames one after another; a frame that is cut off is an error, not an end."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._pieces = _unpacked_frames(raw)
        self._ready: bytes | memoryview = b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place by unpacking up to it, from the beginning if it lies behind."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only places counted from the start are known")
        if offset < self._at:
            self._pieces.close()
            self._raw.seek(0)
            self._pieces, self._ready, self._at = _unpacked_frames(self._raw), b"", 0
        while self._at < offset and self.read(min(offset - self._at, CHUNK)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                raise EOFError("it broke off before")  # and told then in which way
            cut = 0 <= size < len(piece)
            self._ready = memoryview(piece) if cut else piece  # given out without copying the rest
        whole = size < 0 or size >= len(self._ready)
        data = self._ready if whole else self._ready[:size]
        self._ready = b"" if whole else self._ready[size:]
        self._at += len(data)
        return bytes(data)

    def close(self) -> None:
        if not self.closed:
            self._pieces.close()
            self._raw.close()
        super().close()


def _unpacked_frames(raw: BinaryIO) -> Generator[bytes, None, None]:
    """What zstd frames hold, in pieces that are not empty; after the last frame empty ones for ever."""
    rest = b""
    with _ZstdDecoders() as decoders:
        while chunk := rest or raw.read(ZSTD_CHUNK):
            while len(chunk) < zstd_window.HEADER and (more := raw.read(ZSTD_CHUNK)):
                chunk += more
            rest = yield from _unpacked_frame(raw, chunk, decoders.for_frame(chunk))
    yield from repeat(b"")


def _unpacked_frame(
    raw: BinaryIO, chunk: bytes, decoder: "FileWindow | _MemoryWindow"
) -> Generator[bytes, None, bytes]:
    """What the frame that begins with `chunk` holds; returns what was read beyond it."""
    while True:
        yield from decoder.decompress(chunk)
        if decoder.eof:
            return decoder.unused_data
        chunk = raw.read(ZSTD_CHUNK)
        if not chunk:
            raise EOFError("the last frame is not finished")


class _ZstdDecoders:
    """The decoders of one stream: they are used again, since a stream may be of many small frames."""

    def __init__(self) -> None:
        self._memory = zstandard.ZstdDecompressor(max_window_size=zstd_window.MAX_WINDOW)
        self._file: FileWindow | None = None

    def for_frame(self, head: bytes) -> "FileWindow | _MemoryWindow":
        """The decoder for the frame that begins with `head`: the window of a large one goes to a file."""
        kept = zstd_window.memory_of(head)
        if not MEMORY_WINDOW < kept <= zstd_window.MAX_WINDOW or not zstd_window.is_supported():
            return _MemoryWindow(self._memory)
        if self._file is None or not self._file.restart(kept):
            self.close()
            self._file = FileWindow(kept)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _MemoryWindow:
    """A decoder of one frame with its window in memory; it also tells what is no frame at all."""

    def __init__(self, decompressor: zstandard.ZstdDecompressor) -> None:
        self._frame = decompressor.decompressobj()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, chunk: bytes) -> Iterator[bytes]:
        piece = self._frame.decompress(chunk)
        if piece:
            yield piece


_DECODERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")),
    "xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115 - the caller closes it
    "zst": lambda raw: cast(BinaryIO, _ZstdStream(raw)),
}
