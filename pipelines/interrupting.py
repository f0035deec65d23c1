"""Ctrl-C that is never lost: one that comes where it would be waits until that is over.

An import runs much code of others, and some of that swallows an interruption, by an `except`
without a name, or ends the whole process in C++; pydantic, where it compiles a schema, takes it for
an error of the schema, or for none. Then a command would go on, or die with a core dump, where it
was asked to end. Some compiled code makes another error of it all the same: PyArrow, interrupted where it
looks for a time zone, says that none is installed. So it is kept in mind that it came.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SOON_S = 0.02
"""How long it waits before it is looked whether that is over."""
IMPORTING = "<frozen importlib"
"""How the names of the files begin that do an import."""
BUILDING = "pydantic"
"""The package whose modules lose it."""


class Ear:
    """What is done at a Ctrl-C: the same as ever, but where it can be heard. `came` says if one did."""

    def __init__(self) -> None:
        self.came = False
        self._waiting: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signal."""
        self.came = True
        if not is_deaf(frame):
            signal.default_int_handler(number, frame)
        if self._waiting is None or not self._waiting.is_alive():
            self._waiting = threading.Timer(SOON_S, os.kill, (os.getpid(), signal.SIGINT))
            self._waiting.daemon = True
            self._waiting.start()


def is_deaf(frame: FrameType | None) -> bool:
    """Whether this frame is part of something that would lose a Ctrl-C."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == BUILDING or frame.f_code.co_filename.startswith(IMPORTING):
            return True
        frame = frame.f_back
    return False


@contextmanager
def heard() -> Iterator[Ear]:
    """In the block, Ctrl-C comes where it is not lost; whether it came is told.

    Nothing is changed where it is ignored or handled by somebody else, nor outside the main thread.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield Ear()
        return
    ear = Ear()
    signal.signal(signal.SIGINT, ear)
    try:
        yield ear
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
