"""Thumbnails in a file that nobody sees, to be read in any order.

Copies are verified pair by pair, and the two images of a pair lie anywhere in a set. A catalog finds some
rows by reading all of them (4 KB each: a million images, 4 GB, again for every few thousand pairs), and
memory should not hold so many. So they are read from it once, in its own order, into a file; what is kept in
memory is some 120 bytes for each. The file has no name and ends with this object, or with the process.
"""

import mmap
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from sys import intern
from typing import IO

import numpy as np
from numpy.typing import NDArray

from curate.views import EDGE
from schemas.errors import StoreError
from schemas.records import Thumbnail

SIZE = EDGE * EDGE
"""Bytes of a thumbnail."""


class Spool:
    """Thumbnails of many images: all are laid down first, then some are read, and others.

    Args:
        folder: where there is room for them; if it cannot be written, they go where temporary files do.
        thumbnails: in any order; of two with one image and one view the later counts.

    Raises:
        StoreError: if there is no room for them.
    """

    def __init__(self, folder: Path, thumbnails: Iterable[Thumbnail]) -> None:
        digests: list[str] = []
        self._views: list[str] = []
        self._makers: list[str] = []
        self._boxes = array("d")
        with _opened(folder) as file:
            for row in thumbnails:
                _write(file, row.pixels)
                digests.append(row.digest)
                self._views.append(intern(row.view))
                self._makers.append(intern(row.made_by))
                self._boxes.extend((row.left, row.top, row.right, row.bottom))
            _write(file, b"", flush=True)
            self._pixels = _mapped(file, len(digests))
        self._digests, self._rows = _sorted(digests, self._views)

    def read(self, digests: Sequence[str]) -> Iterator[Thumbnail]:
        """The thumbnails of some images, image by image; nothing for one that has none."""
        asked = np.array([digest.encode() for digest in digests], self._digests.dtype)
        begins, ends = (np.searchsorted(self._digests, asked, side) for side in ("left", "right"))
        for digest, begin, end in zip(digests, begins.tolist(), ends.tolist(), strict=True):
            for row in self._rows[begin:end].tolist():
                yield self._thumbnail(digest, row)

    def _thumbnail(self, digest: str, row: int) -> Thumbnail:
        left, top, right, bottom = self._boxes[4 * row : 4 * row + 4]
        return Thumbnail(
            digest=digest,
            view=self._views[row],
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            pixels=self._pixels[row].tobytes(),
            made_by=self._makers[row],
        )


@contextmanager
def _opened(folder: Path) -> Iterator[IO[bytes]]:
    """A file without a name; where `folder` cannot be written, it is where temporary files are."""
    place = folder if os.access(folder, os.W_OK) else None
    file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - closing it may fail, which is told before
    try:
        yield file
    finally:
        with suppress(OSError):  # what a full disk did not take was told when it was written
            file.close()


def _write(file: IO[bytes], data: bytes, *, flush: bool = False) -> None:
    try:
        file.write(data)
        if flush:
            file.flush()
    except OSError as error:
        raise StoreError(
            f"thumbnails cannot be laid down in a temporary file: {error.strerror}; "
            "make room there, 5 KB for each image"
        ) from None


def _mapped(file: IO[bytes], count: int) -> NDArray[np.uint8]:
    """(N, SIZE) what was written; it stays there when the file is closed."""
    if not count:
        return np.empty((0, SIZE), np.uint8)
    held = mmap.mmap(file.fileno(), count * SIZE, access=mmap.ACCESS_READ)
    return np.frombuffer(held, np.uint8).reshape(count, SIZE)


def _sorted(
    digests: Sequence[str], views: Sequence[str]
) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """The digests in order, and the row of each; among equal ones by view, the last of each view."""
    names = np.array([digest.encode() for digest in digests] or [b""])[: len(digests)]
    kinds = np.array(views or [""])[: len(views)]
    order = np.lexsort((kinds, names))
    names, kinds = names[order], kinds[order]
    last = np.ones(len(order), bool)
    last[:-1] = (names[1:] != names[:-1]) | (kinds[1:] != kinds[:-1])
    return names[last], order[last]
