"""Media items to stored bytes: from the export where they are in it, else from the network.

Bytes are stored as they came. Bytes that are no picture at all are a failure; a damaged picture is stored,
and the probe says what is wrong with it. Every item gives one row, when it is done; an item whose host wants
more quiet than there is time for gives none, and is left for a later run.

An item has places, best first: the export, the URL, the fallbacks. Each place is tried again while its
failure may pass. Work waits in one line per host (`curate.hosts`), so that a slow host keeps no worker from
the others.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from curate.download import PASSING, Downloader, Received, failed
from curate.hosts import FIRST_WAIT_S, Turns
from schemas.records import Fetch, Media

AHEAD = 256
"""Items that wait while workers are busy: enough for them to go on while others are looked up or recorded."""
MOST = 20_000
"""Items that wait at most, while workers idle because the hosts of the others want quiet."""
START = 4
"""Workers at work, until answers say that more of them pay."""
PAYS = 4.0
"""How often longer than its work an answer must take for more workers to pay."""
SAMPLE_S = 0.1
FULL = 0.8
"""Of one processor's time: above that, workers only wait for each other."""
LEAVE_S = 0.5
"""How long workers get to end when a fetch is left early; what they do then is on nobody's account."""
BEGIN_S = 0.02
"""How long one takes at most to begin that was just being started when Ctrl-C came."""


class Wanted(NamedTuple):
    """An item to fetch, and the number this attempt has."""

    item: Media
    attempt: int = 1


class Exports(Protocol):
    """Where items lie that came with an export."""

    def read(self, item: Media) -> Received:
        """The bytes of an item's member, or what was wrong."""


class Place(NamedTuple):
    """One place an item can be had from; `url` None is the export."""

    host: str
    url: str | None


def places_of(item: Media) -> list[Place]:
    """Where an item can be had, best first."""
    found = [] if item.member is None else [Place(f"export:{item.source_id}", None)]
    urls = dict.fromkeys(url for url in (item.url, *item.fallback_urls) if url)
    return found + [Place(host_of(url), url) for url in urls]


def fetch_all(
    wanted: Iterable[Wanted],
    *,
    library: Exports,
    downloader: Downloader,
    put: Callable[[bytes], str | None],
    batch: int = 500,
    every_s: float = 5.0,
    later: Counter[str] | None = None,
    beside: Iterable[Iterable[list[Fetch]]] = (),
) -> Iterator[list[Fetch]]:
    """One row per item as it is done, in lists of at most `batch`, made by `policy.workers` threads.

    Args:
        wanted: what to bring home; taken bit by bit.
        library: the exports that items may lie in.
        downloader: asks the network.
        put: stores bytes and gives their digest, or None to refuse them; called from several threads.
        batch: rows to a list.
        every_s: a list that does not fill is given after so many seconds.
        later: counts, by host, the items that are left for another run.
        beside: rows that are made elsewhere, each waited for in a thread of its own, and told among ours.
    """
    run = _Run(iter(wanted), library, downloader, put, Counter() if later is None else later)
    return run.rows(batch, every_s, list(beside))


@dataclass(slots=True)
class _Job:
    """An item on its way: the places left, the tries of the first of them, and what the others said."""

    wanted: Wanted
    places: list[Place]
    left_s: float
    tries: int = 0
    answers: list[Received] = field(default_factory=list)
    seconds: float = 0.0


class _Crew:
    """How many workers are at work: more while answers are waited for, fewer while the processor is full.

    One interpreter runs one thread at a time, and threads that crowd it cost more than they bring.
    """

    def __init__(self, most: int, worked: Callable[[], float] = time.process_time) -> None:
        self.most, self.size, self.at_work = most, min(START, most), 0
        self._clock = worked
        self._since, self._worked, self._full = time.monotonic(), worked(), False

    def has_room(self, now: float) -> bool:
        """Whether another worker may begin now. Slow answers hold nobody up while the processor has time."""
        if self.at_work >= self.size and self.size < self.most and not self._is_full(now):
            self.size += 1
        return self.at_work < self.size

    def waited(self, now: float, seconds: float, busy_s: float) -> bool:
        """An answer took so long, and so much work; whether there is room for more workers."""
        if self._is_full(now):
            self.size = max(min(2, self.most), self.size - 1)
        elif self.size < self.most and seconds > PAYS * busy_s:
            self.size = min(self.most, self.size * 2)
            return True
        return False

    def _is_full(self, now: float) -> bool:
        if now - self._since >= SAMPLE_S:
            worked = self._clock()
            self._full = worked - self._worked > FULL * (now - self._since)
            self._since, self._worked = now, worked
        return self._full


class _Run:
    """One fetch: the caller's thread feeds work and takes rows, the workers' threads do the rest."""

    def __init__(
        self,
        wanted: Iterator[Wanted],
        library: Exports,
        downloader: Downloader,
        put: Callable[[bytes], str | None],
        later: Counter[str],
    ) -> None:
        policy = downloader.policy
        self._wanted = wanted
        self._library = library
        self._downloader = downloader
        self._put = put
        self._later = later
        self._policy = policy
        self._turns: Turns[_Job] = Turns(
            policy.per_host, policy.host_pause_s, patience_s=policy.total_timeout_s
        )
        self._crew = _Crew(policy.workers)
        lock = threading.Lock()
        self._lock = lock
        self._work = threading.Condition(lock)
        self._news = threading.Condition(lock)
        self._done: list[Fetch] = []
        self._batch = 1
        self._unfinished = self._idle = self._looking = 0
        self._all_fed = self._over = False
        self._error: BaseException | None = None

    def rows(
        self, batch: int, every_s: float, beside: Sequence[Iterable[list[Fetch]]]
    ) -> Iterator[list[Fetch]]:
        """See `fetch_all`."""
        self._batch = batch
        self._unfinished = len(beside)
        workers = [
            threading.Thread(target=self._labour, name=f"fetch-{n}", daemon=True)
            for n in range(self._policy.workers)
        ]
        others = [
            threading.Thread(target=self._attend, args=(one,), name=f"beside-{n}", daemon=True)
            for n, one in enumerate(beside)
        ]
        try:
            for thread in (*others, *workers):
                thread.start()
            while True:
                self._feed()
                found = self._collected(every_s)
                if found:
                    yield found
                elif self._all_fed and not self._unfinished:
                    return
        finally:
            self._leave(workers, others)

    def _feed(self) -> None:
        """Put more items in the lines, as long as workers may run out of them."""
        while self._hungry():
            items = list(islice(self._wanted, AHEAD))
            with self._lock:
                self._all_fed = not items
                for item in items:
                    self._unfinished += 1
                    self._begin(_Job(item, places_of(item.item), self._policy.total_timeout_s))
                self._work.notify_all()

    def _hungry(self) -> bool:
        waiting = self._turns.waiting
        return not self._all_fed and (waiting < AHEAD or (bool(self._idle) and waiting < MOST))

    def _collected(self, every_s: float) -> list[Fetch]:
        """Rows, once they are many or have waited long; none when the caller has to feed or is done."""
        due: float | None = None
        with self._lock:
            while self._error is None and not self._hungry():
                last = self._all_fed and not self._unfinished
                if len(self._done) >= self._batch or last or (due and time.monotonic() >= due):
                    break
                if self._done:
                    due = due or time.monotonic() + every_s
                self._news.wait(due and max(0.0, due - time.monotonic()))
            if self._error is not None:
                raise self._error
            found, self._done = self._done[: self._batch], self._done[self._batch :]
            return found

    def _leave(self, workers: list[threading.Thread], others: list[threading.Thread]) -> None:
        with self._lock:
            self._over = True
            self._work.notify_all()
        if self._unfinished:
            self._downloader.abort()
        deadline = time.monotonic() + LEAVE_S
        if any(thread.ident is None for thread in (*others, *workers)):
            time.sleep(BEGIN_S)
        for worker in workers:
            if worker.ident is not None:
                worker.join(max(0.0, deadline - time.monotonic()))

    def _attend(self, other: Iterable[list[Fetch]]) -> None:
        """Take the rows of another fetch, to its end, among ours."""
        try:
            for rows in other:
                with self._lock:
                    self._done += rows
                    self._news.notify()
        except BaseException as error:
            self._fail(error)
        with self._lock:
            self._unfinished -= 1
            self._news.notify()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._news.notify()

    # ------------------------------------------------------------ in the workers

    def _labour(self) -> None:
        try:
            while (taken := self._taken()) is not None:
                self._step(*taken)
                with self._lock:
                    self._crew.at_work -= 1
        except BaseException as error:
            self._fail(error)

    def _taken(self) -> tuple[str, _Job] | None:
        """The next work, waited for; None when the run is over."""
        with self._lock:
            while not self._over:
                now = time.monotonic()
                room = not self._turns.ready or self._crew.has_room(now)
                if room and (taken := self._turns.next(now)):
                    self._crew.at_work += 1
                    if self._wants_another(now):
                        self._work.notify()
                    return taken
                self._rest(None if room else SAMPLE_S, now)
        return None

    def _wants_another(self, now: float) -> bool:
        """Whether one who rests is to look at the lines, too.

        There is more than one can take, or somebody has to be there when its time comes. Where the crew is
        full, one that looks now and then is enough: to wake a thread costs as much as a small answer.
        """
        if not self._idle or not (self._turns.ready or self._turns.wait(now) is not None):
            return False
        return not self._looking or self._crew.at_work < self._crew.size

    def _rest(self, seconds: float | None, now: float) -> None:
        """Wait to be woken: until it is time for something, or for so many seconds as the crew is full."""
        looks = seconds is not None
        self._idle += 1
        self._looking += looks
        if not self._all_fed:
            self._news.notify()
        self._work.wait(seconds if looks else self._turns.wait(now))
        self._looking -= looks
        self._idle -= 1

    def _step(self, host: str, job: _Job) -> None:
        """One try at the first of the job's places."""
        closed = self._turns.closed.get(host)
        began, worked = time.monotonic(), time.thread_time()
        received = self._asked(job, closed)
        now, worked = time.monotonic(), time.thread_time() - worked
        job.seconds += now - began
        job.left_s -= now - began
        job.tries += 1
        with self._lock:
            if closed is None:
                self._note(host, received, began, now)
            self._turns.done(host)
            if self._crew.waited(now, now - began, worked):
                self._work.notify_all()
        if closed == "host-busy":
            self._finish(None, host)
        elif received.failure in (None, "opted-out"):
            self._conclude(job, received)
        elif closed is not None or not self._tried_again(job, received, now):
            self._go_on(job, received)

    def _asked(self, job: _Job, closed: str | None) -> Received:
        url = job.places[0].url
        if closed is not None:
            return failed(closed, url or "")
        if url is None:
            return self._library.read(job.wanted.item)
        return self._downloader.get(url, job.left_s)

    def _note(self, host: str, received: Received, began: float, now: float) -> None:
        """What an answer says of its host, and of the host whose line led there."""
        asked = received.retry_after
        for name in {host, host_of(received.url)} if received.status else {host}:
            if received.status == 429 or (received.status == 503 and asked):
                self._turns.busy(name, now, began, asked)
            elif received.status:
                self._turns.answered(name)
            elif received.failure in ("timeout", "connection"):
                self._turns.silent(name)

    def _tried_again(self, job: _Job, received: Received, now: float) -> bool:
        """Whether the same place is to be tried once more, which is then arranged."""
        if not received.may_pass or job.tries >= self._policy.attempts:
            return False
        wait = max(FIRST_WAIT_S * 2 ** (job.tries - 1), received.retry_after or 0.0)
        job.left_s -= wait
        if job.left_s <= 0:
            return False
        with self._lock:
            self._turns.add(job.places[0].host, job, at=now + wait)
            self._work.notify()
        return True

    def _go_on(self, job: _Job, received: Received) -> None:
        """The next place, or the end."""
        job.answers.append(received)
        job.places.pop(0)
        if not job.places:
            self._conclude(job, _telling(job.answers))
            return
        job.tries, job.left_s = 0, self._policy.total_timeout_s
        with self._lock:
            self._begin(job)
            self._work.notify()

    def _begin(self, job: _Job) -> None:
        if not job.places:
            self._unfinished -= 1
            self._done.append(_row(job, failed("no-url"), None))
            return
        host, url = job.places[0]
        self._turns.add(host, job, limit=1 if url is None else None)

    def _conclude(self, job: _Job, received: Received) -> None:
        began = time.monotonic()
        digest = self._put(received.data) if received.data is not None else None
        if received.data is not None and digest is None:
            received = replace(received, data=None, failure="forgotten")
        job.seconds += time.monotonic() - began
        self._finish(_row(job, received, digest), "")

    def _finish(self, row: Fetch | None, host: str) -> None:
        with self._lock:
            self._unfinished -= 1
            if row is None:
                self._later[host] += 1
            else:
                self._done.append(row)
            self._tell()

    def _tell(self) -> None:
        """Wake the caller, but not for every row: that would cost more than the row."""
        if len(self._done) in (1, self._batch) or not self._unfinished or self._hungry():
            self._news.notify()


def _telling(answers: list[Received]) -> Received:
    """What is told of an item that no place gives: the first cause that may pass, or else the first.

    A cause that may pass keeps the item among those that a later run tries.
    """
    passing = (a for a in answers if a.failure in PASSING or a.may_pass)
    return next(passing, answers[0])


def _row(job: _Job, received: Received, digest: str | None) -> Fetch:
    item, attempt = job.wanted
    return Fetch(
        platform=item.platform,
        post_id=item.post_id,
        position=item.position,
        attempt=attempt,
        digest=digest,
        failure=received.failure,
        origin=received.url,
        status=received.status,
        served_type=received.served_type,
        bytes=len(received.data) if received.data is not None else None,
        seconds=job.seconds,
        places=len(places_of(item)),
    )


def host_of(url: str) -> str:
    """The host of a URL, whose line it waits in; one for all that have none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
