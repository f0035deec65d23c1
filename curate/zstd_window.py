"""Decoding a zstd frame whose window lies in a temporary file instead of memory.

A frame may refer back as far as its window (RFC 8878, 3.1.1.1.2), which is 2 GiB in the monthly dumps of
Reddit (`zstd --long=31`). zstd's static decoder works inside a piece of memory that its caller gives it
(`ZSTD_initStaticDStream`, https://facebook.github.io/zstd/zstd_manual.html); ours is a mapping of an unlinked
file. Pages that are let go with `madvise(MADV_DONTNEED)` leave this process and stay in the file. So what is
resident is bounded by a constant, and what is taken on the disk by the window, however long the frame is.

- The file is written ahead of the decoder. A store into a hole of a full disk would be a SIGBUS; a
  write that fails is an error with words.
- It is written in pieces of 64 KiB, because a page fault brings in what one write laid down together:
  preallocated, or written by the megabyte, the same matches drag in many times the memory.
- Pages are let go by what is resident and not by what was decoded: a match far back brings in 64 KiB.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from typing import Any, Self

import zstandard

from schemas.errors import ExportError

MAX_WINDOW = 2**31
"""Bytes; what the dumps are written with (`zstd --long=31`), and the most that zstd decodes."""
RESIDENT = 32 * 2**20
"""Bytes of the file that may be in memory before they are let go; one block adds up to 64 MiB at worst."""
AHEAD = 2 << 20
"""Bytes laid down before the decoder comes to them; its own state and two blocks are well below that."""
PIECE = 1 << 16
OUTPUT = 1 << 17
"""Bytes per step; the largest block of a frame."""
HEADER = 18
"""Bytes of the longest header of a frame."""
_STATM = "/proc/self/statm"


def memory_of(head: bytes) -> int:
    """Bytes that decoding the frame which begins with `head` keeps of its output; 0 if it is no frame."""
    try:
        frame = zstandard.get_frame_parameters(head[:HEADER])
    except zstandard.ZstdError:
        return 0
    return min(
        frame.window_size, frame.content_size
    )  # a size that is not told is the largest number


@cache
def is_supported() -> bool:
    """Whether this machine can keep a window in a file: Linux, and zstandard built with cffi."""
    try:
        _library()
    except ImportError:
        return False
    return hasattr(mmap, "MADV_DONTNEED") and hasattr(os, "pwrite") and os.path.exists(_STATM)


class FileWindow:
    """A decoder of a frame, like `zstandard`'s decompressobj, but with its output in steps.

    Args:
        memory: what `memory_of` says of the frame; one that needs more is refused with a `ZstdError`.
        resident: bytes of the file that may stay in memory.
    """

    def __init__(self, memory: int, *, resident: int = RESIDENT) -> None:
        self.eof = False
        self.unused_data = b""
        self._ffi, self._zstd = _library()
        self._memory = memory
        self._resident = resident
        self._given = 0  # bytes of output so far
        self._laid = 0  # bytes of the file that are on the disk
        self._size = int(self._zstd.ZSTD_estimateDStreamSize(max(memory, OUTPUT)))
        with ExitStack() as stack:
            self._open(stack)
            self._held = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        """Make the file, its mapping and the decoder inside it, each to be undone by `stack`."""
        try:
            self._file = stack.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the stack closes it
            self._file.truncate(self._size)
            self._map = stack.enter_context(mmap.mmap(self._file.fileno(), self._size))
        except OSError as error:
            raise _no_room(self._size, error) from None
        self._lay_ahead()
        self._statm = os.open(_STATM, os.O_RDONLY)
        stack.callback(os.close, self._statm)
        memory = stack.enter_context(self._ffi.from_buffer(self._map))
        self._decoder = self._zstd.ZSTD_initStaticDStream(memory, self._size)
        assert self._decoder != self._ffi.NULL
        self._checked(self._zstd.ZSTD_DCtx_setMaxWindowSize(self._decoder, MAX_WINDOW))
        self._input = self._ffi.new("ZSTD_inBuffer *")
        self._output = self._ffi.new("ZSTD_outBuffer *")
        self._space = self._ffi.new("char[]", OUTPUT)
        self._others = self._in_memory()

    def restart(self, memory: int) -> bool:
        """Be ready for another frame after one that ended; not if this one needs more than the first."""
        if not self.eof or memory > self._memory:
            return False
        self.eof, self.unused_data, self._given = False, b"", 0  # the decoder itself knows
        return True

    def decompress(self, chunk: bytes) -> Iterator[bytes]:
        """What `chunk` unpacks to, in pieces of at most `OUTPUT` bytes; then `eof` and `unused_data` are set.

        Raises:
            zstandard.ZstdError: the frame is damaged or asks for a larger window.
            ExportError: the disk is full.
        """
        at, filled = 0, True
        while not self.eof and (filled or at < len(chunk)):  # a full step may have left some behind
            piece, at = self._step(chunk, at)
            filled = len(piece) == OUTPUT
            if piece:
                yield piece
        self.unused_data = chunk[at:] if self.eof else b""

    def _step(self, chunk: bytes, at: int) -> tuple[bytes, int]:
        """One piece of output, and how far into `chunk` that went."""
        if self._file.closed:
            raise ValueError("the window is closed")  # its memory is gone
        self._lay_ahead()
        with self._ffi.from_buffer(chunk) as source:
            self._input.src, self._input.size, self._input.pos = source, len(chunk), at
            self._output.dst, self._output.size, self._output.pos = self._space, OUTPUT, 0
            left = self._zstd.ZSTD_decompressStream(self._decoder, self._output, self._input)
        self.eof = self._checked(left) == 0
        self._given += self._output.pos
        self._let_go()
        return bytes(self._ffi.buffer(self._space, self._output.pos)), int(self._input.pos)

    def _checked(self, result: int) -> int:
        if self._zstd.ZSTD_isError(result):
            words = self._ffi.string(self._zstd.ZSTD_getErrorName(result)).decode()
            raise zstandard.ZstdError(f"zstd decompress error: {words}")
        return result

    def _lay_ahead(self) -> None:
        """Put zeros on the disk before the decoder writes there for the first time; never again behind it."""
        end = min(self._given + AHEAD, self._size)
        while self._laid < end:
            piece = bytes(min(PIECE, self._size - self._laid))
            try:
                self._laid += os.pwrite(self._file.fileno(), piece, self._laid)
            except OSError as error:
                raise _no_room(self._size, error) from None

    def _let_go(self) -> None:
        """Give pages back to the file once more than `resident` bytes of them are in memory."""
        if self._in_memory() > self._others + self._resident:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._others = self._in_memory()

    def _in_memory(self) -> int:
        """Bytes of files that are resident in this process; those of libraries are among them."""
        return int(os.pread(self._statm, 128, 0).split()[2]) * mmap.PAGESIZE

    def close(self) -> None:
        """Give back the memory and the disk."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_room(size: int, error: OSError) -> ExportError:
    folder = tempfile.tempdir or "(there is none)"  # found by now, if there is one
    return ExportError(
        f"a zstd frame needs up to {size / 2**30:.1f} GiB of disk for its window, which the temporary folder "
        f"{folder} does not give ({error.strerror}); make room there or set TMPDIR to another folder"
    )


@cache
def _library() -> tuple[Any, Any]:
    """The ffi and the C functions of zstd, as `zstandard` brings them along."""
    library = import_module("zstandard.backend_cffi")
    return library.ffi, library.lib
