"""Shares of a fetch: hosts whole, their items' other hosts with them, and only where it pays."""

import re
from collections import Counter

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import shares
from curate.fetch import host_of
from curate.shares import Crowd, crowds, dealt
from curate.stages.fetching import KEYS

SEEN = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=3),
        st.integers(1, 1000),
        st.booleans(),
    ),
    max_size=20,
)


@given(SEEN)
def test_no_item_has_hosts_in_two_crowds_and_none_is_lost(seen):
    found = crowds(seen)

    of = {host: number for number, crowd in enumerate(found) for host in crowd.items}
    assert sum(len(crowd.items) for crowd in found) == len(of)
    assert of.keys() == {host for hosts, _, _ in seen for host in hosts}
    for hosts, _, inside in seen:
        assert len({of[host] for host in hosts}) == 1
        assert not inside or found[of[hosts[0]]].at_home
    begun = Counter()
    for hosts, count, inside in seen:
        begun[hosts[0]] += 0 if inside else count
    assert {h: n for crowd in found for h, n in crowd.items.items()} == {h: begun[h] for h in of}


def test_crowds_are_no_larger_than_they_must_be():
    found = crowds([(["a"], 1, False), (["b", "c"], 2, False), (["c", "d"], 3, True)])

    assert sorted(found, key=lambda crowd: crowd.load) == [
        Crowd({"a": 1}), Crowd({"b": 2, "c": 0, "d": 0}, at_home=True),
    ]  # fmt: skip


@given(SEEN, st.integers(1, 6), st.integers(1, 64), st.integers(1, 16))
def test_hosts_are_dealt_whole_and_what_is_in_an_export_stays(seen, processes, workers, per_host):
    found = crowds(seen)

    given_away = dealt(found, processes=processes, workers=workers, per_host=per_host)

    assert len(given_away) < max(2, min(processes, shares.MOST, workers // per_host + 1))
    flat = [host for share in given_away for host in share]
    assert len(flat) == len(set(flat))
    for crowd in found:
        with_crowd = [share for share in given_away if share & crowd.items.keys()]
        assert with_crowd == [] or (len(with_crowd) == 1 and with_crowd[0] >= crowd.items.keys())
        assert not (crowd.at_home and with_crowd)
    for share in given_away:
        assert sum(c.load for c in found if share >= c.items.keys()) >= shares.WORTH


def even(number: int, each: int = 1000) -> list[Crowd]:
    return [Crowd({f"h{n}.example": each}) for n in range(number)]


def test_as_many_processes_fetch_as_there_are_processors_for_even_loads():
    for processes in (1, 2, 3, 4):
        given_away = dealt(even(60), processes=processes, workers=64, per_host=8)
        assert [len(share) for share in given_away] == [60 // processes] * (processes - 1)
    assert len(dealt(even(60), processes=16, workers=64, per_host=8)) == 3


@pytest.mark.parametrize(
    ("found", "workers", "why"),
    [
        (even(1, 10_000), 16, "one host is asked by one process"),
        (even(8, 100), 16, "there is too little to do"),
        ([*even(1, 9000), *even(2, 100)[1:]], 16, "the second would have too little to do"),
        (even(3), 16, "where answers are slow, two hosts would wait for the workers of one"),
        (even(8), 12, "neither could ask a host as often as the policy allows"),
    ],
)
def test_one_process_does_it_all_where_more_do_not_pay(found, workers, why):
    assert dealt(found, processes=2, workers=workers, per_host=8) == [], why


CHARACTERS = "aAzZ09.:/?#@[]%-_~\\ \t\n\r\0é\u2100\uff0f\u3002"
URLS = st.one_of(
    st.text(CHARACTERS, max_size=30),
    st.text(max_size=20),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["http://", "HTTPS://", "//", "http:/", "ht\ntp://", " https://", "1://"]),
        st.text(CHARACTERS, max_size=20),
        st.sampled_from(["", "/a.jpg", "?a=//b/", "#//c", "//d"]),
    ),
).filter(lambda url: url and not re.search("[\ud800-\udfff]", url))


@given(st.lists(URLS, min_size=1, max_size=20, unique=True))
def test_the_catalog_tells_hosts_apart_no_less_than_the_fetch_does(urls):
    with duckdb.connect() as db:
        [(keys,)] = db.execute(
            f"SELECT {KEYS} FROM (SELECT $first AS url, $rest AS fallback_urls)",
            {"first": urls[0], "rest": urls[1:]},
        ).fetchall()

    assert [host_of(key) for key in keys] == [host_of(url) for url in urls]
