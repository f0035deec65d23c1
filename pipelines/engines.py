"""Where images are processed: here, in a pool of processes, or on a Dask cluster.

All three give the same results in the same order. A worker that dies with its process (a decoder that
crashes, or hangs and is ended) does not end the pool: the items it held are tried again one by one, and
`lost` says what stands in for the one that kills.
"""

import faulthandler
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import current_process, get_context, parent_process, resource_tracker
from typing import Any, TypeVar

from curate.work import CRASHED, Engine, Serial
from schemas.errors import InputError, ServiceError

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16
"""Items per task: enough to hide the cost of sending, few enough to keep every worker busy."""

PRELOADED = ("curate.probe", "pipelines.engines")
"""Imported once by the fork server, so that a worker starts at once, and deaf to Ctrl-C."""

AHEAD = 4
"""Chunks in flight per worker: memory stays bounded however many items there are."""


@contextmanager
def open_engine(
    name: str = "local", *, workers: int | None = None, scheduler: str | None = None
) -> Iterator[Engine]:
    """The engine called `name`, closed at the end of the block.

    Raises:
        InputError: if there is no such engine, or `workers` is not a positive number.
        ServiceError: if the cluster cannot be reached.
    """
    count = workers if workers is not None else (os.cpu_count() or 1)
    if count < 1:
        raise InputError(f"--workers is {count}; expected 1 or more; leave it out for one per core")
    if name == "local" and count == 1:
        yield Serial()
    elif name == "local":
        with LocalPool(count) as pool:
            yield pool
    elif name == "dask":
        with _dask_client(scheduler, count) as client:
            yield DaskEngine(client)
    else:
        raise InputError(f"there is no engine {name!r}; expected local or dask; name one of them")


class LocalPool:
    """Processes on this machine, started when first needed."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._kill()
        self._stop()

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        lost: Callable[[T, str], R] | None = None,
        seconds: float | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items.

        Raises:
            ServiceError: if an item kills its process and `lost` does not say what stands in for it.
        """
        held = list(items)
        # So few are done before a pool is up; but only a process can be ended, or die alone.
        if len(held) < CHUNK and self._pool is None and lost is None and seconds is None:
            yield from map(work, held)
            return
        done = 0
        while done < len(held):
            try:
                for results in self._run(work, held[done:], seconds):
                    yield from results
                    done += len(results)
            except BrokenProcessPool:
                self._stop()
                for result in _one_by_one(work, held[done : done + CHUNK], lost, seconds):
                    yield result
                    done += 1

    def _run(
        self, work: Callable[[T], R], items: list[T], seconds: float | None
    ) -> Iterator[list[R]]:
        with _undisturbed():
            pool = self._pool = self._pool or _start(self.workers)
        chunks = (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
        todo = (pool.submit(_each, work, chunk, seconds) for chunk in chunks)
        waiting = list(islice(todo, self.workers * AHEAD))
        while waiting:
            yield waiting.pop(0).result()
            waiting += islice(todo, 1)

    def _kill(self) -> None:
        """End the workers where they are: asked politely while interrupted, one may wait for ever."""
        processes = getattr(self._pool, "_processes", None) or {}
        for process in list(processes.values()):
            process.kill()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


class DaskEngine:
    """A Dask cluster: chunks of items travel, results come back in order."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        lost: Callable[[T, str], R] | None = None,
        seconds: float | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items; Dask itself retries what a lost worker held.

        Raises:
            ServiceError: if an item kills its process and `lost` does not say what stands in for it.
        """
        held = list(items)
        chunks = [held[i : i + CHUNK] for i in range(0, len(held), CHUNK)]
        todo = partial(_each, work, seconds=seconds)
        waiting = deque(self.client.map(todo, chunks, pure=False))
        for chunk in chunks:
            future = waiting.popleft()  # the cluster forgets a result once nobody holds its future
            try:
                results = future.result()
            except Exception as error:
                # Dask names the class of a worker that kept dying only in its own module.
                if type(error).__name__ != "KilledWorker":
                    raise
                self._finish(waiting)
                alone = partial(_one_by_one_there, work, lost=lost, seconds=seconds)
                results = self.client.submit(alone, chunk, pure=False).result()
            yield from results

    @staticmethod
    def _finish(futures: Iterable[Any]) -> None:
        """Wait for all of them: another that kills would take a worker from one that is tried alone."""
        from distributed import wait

        wait(list(futures))


def _one_by_one_there(
    work: Callable[[T], R],
    items: list[T],
    *,
    lost: Callable[[T, str], R] | None,
    seconds: float | None,
) -> list[R]:
    """`_one_by_one` on a cluster's worker, which lives on and is told how its process ended."""
    # Workers are often daemons, which may have no children; this one's end before the task does.
    vars(current_process())["_config"]["daemon"] = False
    return list(_one_by_one(work, items, lost, seconds))


@contextmanager
def _dask_client(scheduler: str | None, workers: int) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError(
            "--engine dask needs the package distributed; install it with: pip install 'wildrf[cluster]'"
        ) from None
    if scheduler is None:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                # On one machine, what killed a worker once kills the next as well.
                scheduler_kwargs={"allowed_failures": 0},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one, or leave --scheduler out"
        ) from None
    with client:
        yield client


def _one_by_one(
    work: Callable[[T], R],
    items: list[T],
    lost: Callable[[T, str], R] | None,
    seconds: float | None,
) -> Iterator[R]:
    """Each item by itself in a process, which is a new one after an item that kills."""
    waiting = list(items)
    while waiting:
        with _start(1) as pool:
            try:
                while waiting:
                    (result,) = pool.submit(_each, work, waiting[:1], seconds).result()
                    waiting.pop(0)
                    yield result
                return
            except BrokenProcessPool:
                killer, why = waiting.pop(0), _why_broken(pool, seconds)
        if lost is None:
            raise ServiceError(
                f"the process that worked on {killer!r} died; take that file out and report it"
            )
        yield lost(killer, why)


def _why_broken(pool: ProcessPoolExecutor, seconds: float | None) -> str:
    codes = {process.exitcode for process in (pool._processes or {}).values()}
    if seconds is not None and ENDED_BY_WATCH in codes:
        return f"took longer than {seconds:g} s"
    return CRASHED


def _start(workers: int) -> ProcessPoolExecutor:
    # A fork server, not a fork: the threads of torch and DuckDB do not survive one.
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    resource_tracker.ensure_running()  # on its own, since it lets all signals in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
        pool.submit(_each, str, [])  # this starts the fork server, which inherits the mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pool


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the end of the block; a pool that is half started could not be stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _each(work: Callable[[T], R], items: list[T], seconds: float | None = None) -> list[R]:
    with _watched(seconds) as begin:
        return [work(item) for item in map(begin, items)]


ENDED_BY_WATCH = 1
"""The exit code faulthandler leaves; one that crashes is ended by a signal instead."""


@contextmanager
def _watched(seconds: float | None) -> Iterator[Callable[[T], T]]:
    """Gives what is called with each item as it is begun; ends this process where one takes too long.

    The watch is a thread of C, since a decoder that hangs may never let Python run again. To set it costs
    more than a small image does, so it is set anew only after a quarter of `seconds`: an item has between
    `seconds` and a quarter more.
    """
    if seconds is None:
        yield lambda item: item
        return
    limit, set_at = seconds, -float("inf")

    def begin(item: T) -> T:
        nonlocal set_at
        now = time.monotonic()
        if now - set_at > limit / 4:
            faulthandler.dump_traceback_later(limit * 1.25, exit=True, file=nowhere)
            set_at = now
        return item

    with open(os.devnull, "w") as nowhere:
        try:
            yield begin
        finally:
            faulthandler.cancel_dump_traceback_later()


def _begin() -> None:
    """Ctrl-C is the parent's business; and a worker does not outlive a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
