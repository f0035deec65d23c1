"""Functions compiled by Numba (https://numba.pydata.org).

Imported where there is much to do, and only there: the import costs a quarter of a second and the first
use on a machine some seconds, after which the compiled code is kept beside its module, or in the user's
cache folder, or, where neither can be written, nowhere.

Compiled functions take plain tuples and arrays, no classes of ours: kept code names the types it was made
for, and would not load once one has moved. They release the interpreter's lock, so that threads run
them side by side.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, kept for the next process where there is a place for it."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder for the cache: a read-only installation without a home
        return cast(Function, numba.njit(nogil=True)(function))
