"""Where images are processed: here, in a pool of processes, or on a Dask cluster.

All three give the same results in the same order. A worker that dies with its process (a decoder that
crashes) does not end the pool: the items it held are tried again one by one, and `lost` says what stands in
for the one that kills.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from curate.stages import Engine, Serial
from schemas.errors import InputError, ServiceError

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16
"""Items per task: enough to hide the cost of sending, few enough to keep every worker busy."""

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
        raise InputError(f"--workers is {count}; expected 1 or more")
    if name == "local" and count == 1:
        yield Serial()
    elif name == "local":
        with LocalPool(count) as pool:
            yield pool
    elif name == "dask":
        with _dask_client(scheduler, count) as client:
            yield DaskEngine(client)
    else:
        raise InputError(f"there is no engine {name!r}; expected local or dask")


class LocalPool:
    """Processes on this machine, started when first needed."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        lost: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items.

        Raises:
            ServiceError: if an item kills its process and `lost` does not say what stands in for it.
        """
        held = list(items)
        if len(held) < CHUNK:
            yield from map(work, held)
            return
        done = 0
        while done < len(held):
            try:
                for results in self._run(work, held[done:]):
                    yield from results
                    done += len(results)
            except BrokenProcessPool:
                self._stop()
                for item in held[done : done + CHUNK]:
                    yield self._alone(work, item, lost)
                    done += 1

    def _run(self, work: Callable[[T], R], items: list[T]) -> Iterator[list[R]]:
        pool = self._pool = self._pool or _start(self.workers)
        chunks = (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
        waiting = [pool.submit(_each, work, c) for c in islice(chunks, self.workers * AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(_each, work, c) for c in islice(chunks, 1)]

    def _alone(self, work: Callable[[T], R], item: T, lost: Callable[[T], R] | None) -> R:
        """One item in a process of its own."""
        try:
            with _start(1) as pool:
                return pool.submit(work, item).result()
        except BrokenProcessPool:
            if lost is not None:
                return lost(item)
            raise ServiceError(
                f"the process that worked on {item!r} died; take that file out and report it"
            ) from None

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
        lost: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """`work` of each item, in the order of the items; Dask itself retries what a lost worker held."""
        held = list(items)
        chunks = [held[i : i + CHUNK] for i in range(0, len(held), CHUNK)]
        futures = self.client.map(_Each(work), chunks, pure=False)
        for chunk, future in zip(chunks, futures, strict=True):
            try:
                yield from future.result()
            except Exception as error:
                # Dask names the class of a worker that kept dying only in its own module.
                if type(error).__name__ != "KilledWorker" or lost is None:
                    raise
                yield from map(lost, chunk)


class _Each:
    """`_each` with its work, in a form that can travel."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, items: list[Any]) -> list[Any]:
        return _each(self.work, items)


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
                n_workers=workers, threads_per_worker=1, dashboard_address=None
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


def _start(workers: int) -> ProcessPoolExecutor:
    # A fork server, not a fork: the threads of torch and DuckDB do not survive one.
    return ProcessPoolExecutor(
        workers, mp_context=get_context("forkserver"), initializer=_ignore_interrupts
    )


def _each(work: Callable[[T], R], items: list[T]) -> list[R]:
    return [work(item) for item in items]


def _ignore_interrupts() -> None:
    """Ctrl-C is the parent's business; a worker would only add a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
