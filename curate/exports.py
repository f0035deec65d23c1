"""Platform exports as they come: a folder, a zip, a tar, one file, plain or compressed.

Nothing is ever unpacked to disk: members are read as streams. Decompressed streams are bounded
by the ratio to what was read, so a small file cannot fill memory or time. Names that leave the
export, links, encrypted members and damaged containers are refused in one line.

Reddit's monthly dumps need a zstd window of 2 GiB
(https://github.com/ArthurHeitmann/arctic_shift), and lines are split on the newline byte before
they are decoded, since a chunk may end inside a character.
"""

import gzip
import hashlib
import io
import lzma
import stat
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard

from schemas.errors import ExportError

MAX_WINDOW = 2**31
"""Bytes; what the dumps are written with (`zstd --long=31`)."""
MAX_RATIO = 1_000
"""Decompressed to compressed bytes; zstd on repetitive JSON reaches a few hundred."""
FREE_BYTES = 64 * 2**20
"""A stream this small is never refused for its ratio."""
MAX_LINE = 64 * 2**20
"""Bytes; the longest real post is below 1 MiB."""
MAX_MEMBERS = 5_000_000
CHUNK = 1 << 20
ZSTD_CHUNK = 1 << 14  # one block of run-length data may grow 30,000-fold, so feed little at a time

COMPRESSED = (".zst", ".gz", ".xz")
TEXT = (".json", ".jsonl", ".ndjson", ".js", ".csv")
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, zstandard.ZstdError)
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


@dataclass(frozen=True)
class Export:
    """A platform export, open for reading. Make one with `open_export`."""

    path: Path
    container: _Container = field(repr=False)

    @cached_property
    def _index(self) -> dict[str, Member]:
        found: dict[str, Member] = {}
        with _told(self.path, "its list of files"):
            for member in self.container.members():
                check_name(member.name, self.path)
                found[member.name] = member
                if len(found) > MAX_MEMBERS:
                    raise ExportError(
                        f"{self.path} has more than {MAX_MEMBERS} files; split it into parts"
                    )
        return found

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
            return _decompressed(raw, _kind_of(name), f"{self.path.name}:{name}")

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
        with self.open(name) as stream, _told(self.path, name):
            return stream.read(size)

    def lines(self, name: str, limit: int = MAX_LINE) -> Iterator[bytes]:
        r"""The lines of one member, split on b"\n", without it; blank ones are left out.

        A line longer than `limit` is cut there, which no JSON survives: it is one bad row.
        """
        with self.open(name) as stream:
            yield from split_lines(self._chunks(stream, name), limit)

    def _chunks(self, stream: BinaryIO, name: str) -> Iterator[bytes]:
        while True:
            with _told(self.path, name):
                chunk = stream.read(CHUNK)
            if not chunk:
                return
            yield chunk

    def digest(self) -> str:
        """SHA-256, hex: of the file's bytes, or of a folder's sorted paths and content hashes."""
        if self.path.is_file():
            return _sha256(self.path)
        tree = hashlib.sha256(b"wildrf-export-tree-1\n")
        for name in sorted(self._index):
            tree.update(f"{_sha256(self.path / name)} {name}\n".encode())
        return tree.hexdigest()


def open_export(path: Path) -> Export:
    """The export at `path`: folder, zip, tar (.gz, .xz), or one file, plain or compressed.

    Raises:
        ExportError: it is missing, empty, of a kind we cannot read, or not what its name says.
    """
    if path.is_dir():
        return Export(path, _Folder(path))
    if not path.is_file():
        raise ExportError(f"{path} does not exist; give the folder or file of an export")
    head = _first_bytes(path)
    if not head:
        raise ExportError(f"{path} is empty; download the export again")
    return Export(path, _container_of(path, head))


def check_name(name: str, path: Path) -> None:
    """Refuse a member name that could leave the export.

    Raises:
        ExportError: the name is absolute, climbs, or holds a character no file name has.
    """
    parts = name.split("/")
    bad = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
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
    if kind in ("gz", "xz"):
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
    except (*_DAMAGE, *_DAMAGE_OS) as error:
        raise DamagedExport(
            f"{path} is damaged or cut off at {what} ({error or type(error).__name__}); "
            "download the export again"
        ) from None
    except (RuntimeError, NotImplementedError) as error:
        raise ExportError(f"{what} in {path} cannot be read: {error}; unpack it first") from None
    except OSError as error:
        raise ExportError(f"{what} in {path} cannot be read: {error}; check the disk") from None


# ---------------------------------------------------------------- containers


@dataclass(frozen=True)
class _Folder:
    """A folder; links inside it are refused, since they could lead anywhere."""

    path: Path

    def members(self) -> Iterator[Member]:
        for file in sorted(self.path.rglob("*")):
            name = file.relative_to(self.path).as_posix()
            if file.is_symlink():
                raise ExportError(f"{name} in {self.path} is a link; put the file itself there")
            if file.is_file() and not _is_junk(name):
                yield Member(name, file.stat().st_size)

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")


@dataclass(frozen=True)
class _Single:
    """One file, which is its own only member."""

    path: Path

    def members(self) -> Iterator[Member]:
        yield Member(self.path.name, self.path.stat().st_size)

    def open(self, name: str) -> BinaryIO:
        return self.path.open("rb")


@dataclass(frozen=True)
class _Zip:
    """A zip archive."""

    path: Path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(_quiet(self.path))

    @cached_property
    def _infos(self) -> dict[str, zipfile.ZipInfo]:
        return {_zip_name(info): info for info in self._archive.infolist() if not info.is_dir()}

    def members(self) -> Iterator[Member]:
        for name, info in self._infos.items():
            if _is_junk(name):
                continue
            if info.flag_bits & 1:
                raise ExportError(f"{name} in {self.path} is encrypted; unlock the export first")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ExportError(f"{name} in {self.path} is a link; get the export again")
            yield Member(name, info.file_size)

    def open(self, name: str) -> BinaryIO:
        info = self._infos[name]
        raw = cast(BinaryIO, self._archive.open(info))
        size = max(info.compress_size, 1)
        return _bounded(raw, lambda: size, f"{self.path.name}:{name}")


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
        return tarfile.open(fileobj=raw, mode="r:")

    @cached_property
    def _infos(self) -> dict[str, tarfile.TarInfo]:
        return {_tar_name(info): info for info in self._archive if not info.isdir()}

    def members(self) -> Iterator[Member]:
        for name, info in self._infos.items():
            if not info.isfile():
                raise ExportError(f"{name} in {self.path} is a link or device; get it again")
            if not _is_junk(name):
                yield Member(name, info.size)

    def open(self, name: str) -> BinaryIO:
        stream = self._archive.extractfile(self._infos[name])
        assert stream is not None  # members() lists files only
        return cast(BinaryIO, stream)


def _tar_name(info: tarfile.TarInfo) -> str:
    return info.name.removeprefix("./")


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


def _decompressed(raw: BinaryIO, kind: str | None, name: str) -> BinaryIO:
    """`raw`, decompressed as `kind` says, bounded; unchanged where there is no compression."""
    if kind is None:
        return raw
    counted = _Counted(raw)
    source = cast(BinaryIO, counted)
    return _bounded(_DECODERS[kind](source), lambda: counted.furthest, name, source)


class _ZstdStream(io.RawIOBase):
    """zstd frames one after another; a frame that is cut off is an error, not an end."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._frame = self._decoder.decompressobj()
        self._fresh = True  # no byte of the current frame was read yet
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            chunk = self._raw.read(ZSTD_CHUNK)
            if not chunk:
                if not self._fresh:
                    raise EOFError("the last frame is not finished")
                return b""
            self._ready = memoryview(self._feed(chunk))
        data = bytes(self._ready[:size] if size >= 0 else self._ready)
        self._ready = self._ready[len(data) :]
        return data

    def _feed(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            parts.append(self._frame.decompress(chunk))
            self._fresh = self._frame.eof
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._decoder.decompressobj()
        return b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


_DECODERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")),
    "xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115 - the caller closes it
    "zst": lambda raw: cast(BinaryIO, _ZstdStream(raw)),
}
