"""Which hosts go together, and how many processes a fetch pays for.

What a host asks for (so many at once, a pause, quiet, to be left alone) can be kept exactly only where one
process asks it. So hosts are dealt out whole, and those that stand for the same item, as its address and its
fallbacks do, stay together: no item ever has to go on in another process. What lies in an export is read by
the process that has it open, and the hosts where such an item may be had otherwise stay there too.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

WORTH = 500
"""Items a process must have to be worth its start."""
MOST = 4
"""Processes at most: more of them would wait for each other at the disk and the catalog."""
SLOWER = 1.1
"""How much longer a fetch may take where answers are slow, so that it is faster where they are quick."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Hosts that stay together: items that begin at each of them, and whether any is in an export."""

    items: Mapping[str, int]
    at_home: bool = False

    @property
    def load(self) -> int:
        """Items in all."""
        return sum(self.items.values())


def crowds(seen: Iterable[tuple[Sequence[str], int, bool]]) -> list[Crowd]:
    """Hosts in groups, none of which shares an item with another.

    Args:
        seen: the hosts of an item in its order, how many items have just these, and whether they are in an
            export too.
    """
    parent: dict[str, str] = {}

    def root(host: str) -> str:
        while parent.setdefault(host, host) != host:
            parent[host] = host = parent[parent[host]]
        return host

    begun: dict[str, int] = defaultdict(int)
    home: set[str] = set()
    for hosts, count, in_export in seen:
        first = root(hosts[0])
        for other in hosts[1:]:
            parent[root(other)] = first
        begun[hosts[0]] += 0 if in_export else count
        home.update(hosts[:1] if in_export else ())
    members: dict[str, dict[str, int]] = defaultdict(dict)
    for host in parent:
        members[root(host)][host] = begun.get(host, 0)
    at_home = {root(host) for host in home}
    return [Crowd(items, name in at_home) for name, items in members.items()]


@dataclass(slots=True)
class _Share:
    """What one process is to fetch."""

    crowds: list[Crowd] = field(default_factory=list)
    load: int = 0

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(host for crowd in self.crowds for host in crowd.items)

    def rounds(self, workers: int, per_host: int) -> float:
        """How many answers its last host waits for, if every answer takes the same time."""
        fullest = max((n for crowd in self.crowds for n in crowd.items.values()), default=0)
        return max(sum(crowd.load for crowd in self.crowds) / workers, fullest / per_host)


def dealt(
    found: Iterable[Crowd], *, processes: int, workers: int, per_host: int
) -> list[frozenset[str]]:
    """The hosts of each further process; the first one keeps all others. Empty where one does it all.

    As many processes as pay: each has enough to do, may ask one host as often as the policy allows, and
    where the network is slow none ends late for want of workers that another has.

    Args:
        found: the hosts, from `crowds`.
        processes: how many there may be.
        workers: of all processes together.
        per_host: requests in flight at one host.
    """
    held = sorted(found, key=lambda crowd: (-crowd.load, min(crowd.items)))
    alone = _Share(held).rounds(workers, per_host)
    for number in range(min(processes, MOST, workers // per_host), 1, -1):
        shares = _shares(held, number)
        slowest = max(share.rounds(workers // number, per_host) for share in shares)
        if min(share.load for share in shares[1:]) >= WORTH and slowest <= SLOWER * alone:
            return [share.hosts for share in shares[1:]]
    return []


def _shares(held: Sequence[Crowd], number: int) -> list[_Share]:
    """The largest first, each to whom has least (https://doi.org/10.1137/0117039)."""
    shares = [_Share() for _ in range(number)]
    for crowd in held:
        least = shares[0] if crowd.at_home else min(shares, key=lambda share: share.load)
        least.crowds.append(crowd)
        least.load += crowd.load
    return shares
