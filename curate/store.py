"""Media by digest: original bytes, never rewritten, in ``ab/cd/<sha256>`` on any pyarrow filesystem.

A digest is either absent or complete: bytes go to a name of their own under ``.incoming`` and are moved
into place. Bytes are hashed again when they are read for anything that leaves the workspace.
"""

import hashlib
import logging
import os
import platform
import re
import secrets
from collections.abc import Container, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import DigestMismatch, StoreError

if TYPE_CHECKING:  # loading it takes longer than many a command, and local bytes need none of it
    from pyarrow import fs

log = logging.getLogger(__name__)

LEFT_BEHIND = timedelta(hours=1)
"""How old an unfinished file must be to belong to nobody: writing one takes seconds."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_URI = re.compile(r"[a-z][a-z0-9+.-]+://")


class MediaStore:
    """The media of one workspace; without a filesystem given, in a local folder."""

    def __init__(self, filesystem: "fs.FileSystem | None", root: str) -> None:
        self.root = root.rstrip("/")
        self._given = filesystem
        self._local = filesystem is None or filesystem.type_name == "local"
        self._mark, self._numbers = secrets.token_hex(4), count()

    @classmethod
    def at(cls, place: str, base: Path) -> "MediaStore":
        """The store at `place`: a URI such as ``s3://bucket/media``, or a path under `base`.

        Raises:
            StoreError: if the URI names a filesystem that cannot be opened.
        """
        if not _URI.match(place):
            return cls(None, str(base / place))
        from pyarrow import fs

        try:
            filesystem, root = fs.FileSystem.from_uri(place)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"media = {place!r} cannot be opened: {error}; "
                "expected a folder or a URI that pyarrow knows (file://, s3://, gs://)"
            ) from error
        return cls(filesystem, root)

    @cached_property
    def filesystem(self) -> "fs.FileSystem":
        """Where the bytes are."""
        from pyarrow import fs

        return fs.LocalFileSystem() if self._given is None else self._given

    def put(self, data: bytes) -> str:
        """Keep `data` and return its digest; bytes that are already here are not written again."""
        digest = hashlib.sha256(data).hexdigest()
        self._keep(digest, data)
        return digest

    def put_unless(self, refused: Container[str], data: bytes) -> str | None:
        """The same, but what has one of the `refused` digests is not kept, and gives None."""
        digest = hashlib.sha256(data).hexdigest()
        if digest in refused:
            return None
        self._keep(digest, data)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`, checked.

        Raises:
            StoreError: if they are not here.
            DigestMismatch: if what is here is something else.
        """
        data = self.read(digest)
        actual = hashlib.sha256(data).hexdigest()
        if actual != digest:
            raise DigestMismatch(digest, actual)
        return data

    def read(self, digest: str) -> bytes:
        """The bytes at `digest`'s place, unchecked: for whoever hashes them itself.

        Raises:
            StoreError: if they are not here.
        """
        try:
            with self.filesystem.open_input_stream(self.path(digest)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise StoreError(
                f"media {digest[:12]} is not in the store at {self.root}; run `wildrf fetch`"
            ) from None

    def has(self, digest: str) -> bool:
        """Whether `digest` is here."""
        if self._local:
            return os.path.isfile(self.path(digest))
        from pyarrow import fs

        info = self.filesystem.get_file_info(self.path(digest))
        return bool(info.type == fs.FileType.File)

    def path(self, digest: str) -> str:
        """Where `digest` lies in the filesystem, whether it is there or not.

        Raises:
            StoreError: if `digest` is not a SHA-256 in hex.
        """
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is no digest; expected 64 hexadecimal digits")
        return f"{self.root}/{digest[:2]}/{digest[2:4]}/{digest}"

    def local_path(self, digest: str) -> Path | None:
        """The path of `digest` on this machine, None where the store is not a local folder."""
        return Path(self.path(digest)) if self._local else None

    def digests(self) -> Iterator[str]:
        """Every digest in the store, in order."""
        from pyarrow import fs

        selector = fs.FileSelector(self.root, allow_not_found=True, recursive=True)
        names = (i.base_name for i in self.filesystem.get_file_info(selector) if i.is_file)
        yield from sorted(name for name in names if _DIGEST.fullmatch(name))

    def tidy(self, now: datetime) -> int:
        """Remove what killed processes left half written; how many files that were."""
        from pyarrow import fs

        selector = fs.FileSelector(f"{self.root}/.incoming", allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        old = now - LEFT_BEHIND
        stale = [
            i.path for i in found if i.is_file and ((i.mtime and i.mtime < old) or _orphan(i.path))
        ]
        for path in stale:
            try:
                self.filesystem.delete_file(path)
            except OSError as error:  # another process may have been quicker
                log.info("%s was not removed: %s", path, error)
        return len(stale)

    def _keep(self, digest: str, data: bytes) -> None:
        if not self.has(digest):
            self._write(digest, data)

    def _write(self, digest: str, data: bytes) -> None:
        place = self.path(digest)
        mark = f"{MACHINE}-{os.getpid()}-{self._mark}-{next(self._numbers)}"
        waiting = f"{self.root}/.incoming/{digest}-{mark}"
        write = _write_file if self._local else self._write_anywhere
        try:
            write(waiting, place, data)
        except OSError as error:
            raise StoreError(
                f"media cannot be written to {self.root}: {error}; free some space or mend its permissions"
            ) from error

    def _write_anywhere(self, waiting: str, place: str, data: bytes) -> None:
        for path in (waiting, place):
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with self.filesystem.open_output_stream(waiting, compression=None) as stream:
            stream.write(data)
        self.filesystem.move(waiting, place)


def _machine() -> str:
    """This machine since it was started: numbers of processes mean nothing on another."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return hashlib.sha256((platform.node() + boot.read_text()).encode()).hexdigest()[:12]
    except OSError:
        return secrets.token_hex(6)


MACHINE = _machine()


def _orphan(path: str) -> bool:
    """Whether an unfinished file is of a process of this machine that has ended."""
    _, _, mark = path.rpartition("/")[2].partition("-")
    machine, _, rest = mark.partition("-")
    number = rest.partition("-")[0]
    if machine != MACHINE or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _write_file(waiting: str, place: str, data: bytes) -> None:
    """The same on this machine, at a third of the cost; folders are made when they turn out to be missing."""
    try:
        file = os.open(waiting, NEW_FILE, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(waiting), exist_ok=True)
        file = os.open(waiting, NEW_FILE, 0o666)
    try:
        try:
            written = os.write(file, data)
            while written < len(data):
                written += os.write(file, memoryview(data)[written:])
        finally:
            os.close(file)
        try:
            os.rename(waiting, place)
        except FileNotFoundError:
            _make_folder(os.path.dirname(place))
            os.rename(waiting, place)
    except OSError:
        with suppress(OSError):
            os.unlink(waiting)
        raise


def _make_folder(path: str) -> None:
    """`os.makedirs`, quicker where the folder above is there or one level is missing."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
