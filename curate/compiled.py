"""Loops as machine code, compiled by Numba (https://numba.pydata.org) at their first use.

The import costs a quarter of a second, and the first use on a machine some seconds; after that the
compiled code is kept beside its file, or in the user's cache folder, or, where neither can be
written, nowhere. So modules of compiled loops are imported where there is work for them, and only
there. Every loop releases the interpreter's lock, so that threads run them side by side. When the
compiler does run, the log says so once: nobody waits for it unawares.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.event import Event, Listener, register

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

SUMS = {"reassoc", "contract", "nsz"}
"""What a compiler may do to sums of floats so that they become vector instructions: add in another
order, the same one in every run of the same machine code."""


def compiled(function: Function) -> Function:
    """The function as machine code, kept for the next process where there is a place for it."""
    return _compiled(function)


def summing(function: Function) -> Function:
    """The same for a function that adds floats up, whatever the order."""
    return _compiled(function, fastmath=SUMS)


def inlined(function: Function) -> Function:
    """The same for a short loop that is called so often that the call itself would cost."""
    return _compiled(function, forceinline=True)


def _compiled(function: Function, **options: Any) -> Function:
    try:
        return cast(Function, numba.njit(nogil=True, cache=True, **options)(function))
    except RuntimeError:  # no folder for the cache: a read-only installation without a home
        return cast(Function, numba.njit(nogil=True, **options)(function))


class _Tell(Listener):
    """Says that the compiler runs, the first time it does; loading kept code is no such event."""

    told = False

    def on_start(self, event: Event) -> None:
        """One line, once."""
        if not self.told:
            self.told = True
            log.warning("compiling loops for this processor, at their first use: some 10 seconds")

    def on_end(self, event: Event) -> None:
        """Nothing."""


register("numba:compile", _Tell())  # type: ignore[no-untyped-call]
