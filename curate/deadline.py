"""Sockets whose every read ends at the deadline of the whole download.

A server that sends one byte now and then, in its headers or its body, cannot hold a worker: the timeout of a
socket is for one read, and a library that reads for us may read as often as it likes.
"""

import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from urllib3.util.wait import wait_for_read


class _Limits(threading.local):
    """Until when this thread may wait; `at_once` is not at all."""

    deadline: float | None = None
    at_once: bool = False


_limits = _Limits()


@contextmanager
def time_limit(deadline: float | None) -> Iterator[None]:
    """In the block, no read of this thread waits beyond `deadline`; None is no limit of ours."""
    before, _limits.deadline = _limits.deadline, deadline
    try:
        yield
    finally:
        _limits.deadline = before


@contextmanager
def at_once(sock: socket.socket) -> Iterator[None]:
    """In the block, a read of `sock` by this thread waits for nothing."""
    timeout, asks = sock.gettimeout(), isinstance(sock, LimitedSocket)
    if not asks:
        sock.settimeout(0)
    try:
        with time_limit(None):
            _limits.at_once = asks
            yield
    finally:
        _limits.at_once = False
        sock.settimeout(timeout)


def _limit(sock: socket.socket) -> None:
    """See to it that the next read of `sock` ends with the time there is.

    Raises:
        TimeoutError: the time is over.
    """
    if _limits.deadline is None:
        return
    left = _limits.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for this download is over")
    if left < (sock.gettimeout() or left + 1):
        sock.settimeout(left)


class LimitedSocket(socket.socket):
    """A socket whose reads keep to the limits of the thread.

    What is no news to the system is not told to it: each call lets other threads go first.
    """

    def settimeout(self, value: float | None) -> None:
        """Set what is not set yet."""
        if value != self.gettimeout():
            super().settimeout(value)

    def recv(self, *args: Any, **kw: Any) -> bytes:
        """Some bytes, in time."""
        self._keep_to_the_limits()
        return super().recv(*args, **kw)

    def recv_into(self, *args: Any, **kw: Any) -> int:
        """The same, into a buffer."""
        self._keep_to_the_limits()
        return super().recv_into(*args, **kw)

    def _keep_to_the_limits(self) -> None:
        _limit(self)
        if _limits.at_once and not wait_for_read(self, 0):
            raise BlockingIOError(errno.EAGAIN, "there is nothing to read yet")


class LimitedTLSSocket(ssl.SSLSocket):
    """The same under TLS, where what can be read is not known before it is tried."""

    def recv(self, *args: Any, **kw: Any) -> bytes:
        """Some bytes, in time."""
        _limit(self)
        return super().recv(*args, **kw)

    def recv_into(self, *args: Any, **kw: Any) -> int:
        """The same, into a buffer."""
        _limit(self)
        return super().recv_into(*args, **kw)
