"""Turns: fair among hosts, never too many of one, quiet for those that ask."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from curate.hosts import SILENT_AFTER, Turns


def turns(per_host: int = 2, pause_s: float = 0.0, patience_s: float = 60.0) -> Turns[str]:
    return Turns(per_host, pause_s, patience_s)


def taken(line: Turns[str], now: float) -> list[str]:
    """Everything that may begin now."""
    found = []
    while (got := line.next(now)) is not None:
        found.append(got[1])
    return found


def test_hosts_take_turns_and_none_has_more_in_flight_than_it_may():
    line = turns()
    for work in ("a1", "a2", "a3", "b1", "b2", "b3"):
        line.add(work[0], work)

    assert taken(line, 0) == ["a1", "b1", "a2", "b2"]
    line.done("b")
    assert taken(line, 0) == ["b3"]
    assert (line.waiting, line.wait(0)) == (1, None)


def test_a_pause_lies_between_two_starts_at_one_host():
    line = turns(per_host=9, pause_s=2.0)
    for work in ("a1", "a2", "b1"):
        line.add(work[0], work)

    assert taken(line, 10) == ["a1", "b1"]
    assert line.wait(11) == 1.0
    assert taken(line, 11) == []
    assert taken(line, 12) == ["a2"]


def test_work_may_be_put_off_and_the_rest_goes_on():
    line = turns()
    line.add("a", "late", at=5.0)
    line.add("a", "now")

    assert taken(line, 1) == ["now"]
    assert line.wait(1) == 4.0
    line.done("a")
    assert taken(line, 5) == ["late"]


def test_a_busy_host_is_left_alone_as_long_as_it_asks_and_others_are_not():
    line = turns()
    for work in ("a1", "a2", "b1"):
        line.add(work[0], work)
    assert line.next(0) == ("a", "a1")

    line.busy("a", now=1, began=0, asked=20.0)
    line.done("a")

    assert taken(line, 2) == ["b1"]
    assert taken(line, 20.9) == []
    assert taken(line, 21) == ["a2"]


def test_a_host_that_does_not_say_how_long_is_left_alone_longer_each_time():
    line = turns(patience_s=3.0)
    waits, now = [], 0.0
    for number in range(9):
        line.add("a", str(number))
        if line.closed:
            break
        now += line.wait(now) or 0.0
        assert taken(line, now) == [str(number)]
        for _ in range(2):  # the second was begun before the first was told, and says nothing new
            line.busy("a", now=now + 0.1, began=now, asked=None)
        line.done("a")
        line.add("a", "next")
        waits.append(line.wait(now + 0.1))
        line.next(now + 99)
        line.done("a")
        now += 0.1

    assert [round(w, 6) for w in waits if w] == [0.5, 1.0, 2.0]
    assert line.closed == {"a": "host-busy"}


def test_a_host_that_wants_more_quiet_than_there_is_time_is_closed_and_its_work_comes_out_at_once():
    line = turns(patience_s=60)
    for work in ("a1", "a2", "a3"):
        line.add("a", work)
    assert line.next(0) == ("a", "a1")

    line.busy("a", now=1, began=0, asked=3600)

    assert line.closed == {"a": "host-busy"}
    line.done("a")
    assert taken(line, 1) == ["a2", "a3"]


def test_a_host_that_never_answers_is_closed_and_one_that_does_now_and_then_is_not():
    line = turns()
    for host in ("a", "b"):
        line.add(host, host)
        for number in range(2 * SILENT_AFTER):
            line.silent(host)
            if host == "b" and number % 3 == 0:
                line.answered(host)

    assert line.closed == {"a": "host-silent"}


def test_nothing_is_kept_of_a_host_whose_work_is_done():
    line = turns()
    for number in range(1000):
        line.add(f"h{number}", "w")
        assert line.next(0) == (f"h{number}", "w")
        line.done(f"h{number}")

    assert line._lines == {}


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 1.0, 7.0])), max_size=60),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5]),
    st.data(),
)
def test_all_work_comes_out_once_and_within_the_limits(work, per_host, pause_s, data):
    line = turns(per_host, pause_s)
    for number, (host, at) in enumerate(work):
        line.add(host, f"{host}{number}", at=at)
    now, out, flying = 0.0, [], Counter()
    for _ in range(10 * len(work) + 10):
        while (got := line.next(now)) is not None:
            flying[got[0]] += 1
            out.append(got[1])
            assert flying[got[0]] <= per_host
        for host in [h for h, n in flying.items() if n and data.draw(st.booleans())]:
            flying[host] -= 1
            line.done(host)
        wait = line.wait(now)
        now += 0.25 if wait is None else wait
        if len(out) == len(work):
            break
        if wait is None:
            for host, n in flying.items():
                for _ in range(n):
                    line.done(host)
                flying[host] = 0

    assert sorted(out) == sorted(f"{host}{n}" for n, (host, _) in enumerate(work))
    assert line.waiting == 0
