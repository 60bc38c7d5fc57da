"""Decides which replicas should become primaries, so that primaries are spread evenly over hosts. No I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Switch(NamedTuple):
    """One replica that becomes the primary of its shard."""

    shard: str
    old: str
    new: str


def even_out(
    primaries: Mapping[str, str], replicas: Mapping[str, Sequence[str]], hosts: Mapping[str, str]
) -> list[Switch]:
    """The switches, in order. Each takes a primary from a host to one that has at least two fewer.

    `primaries`: shard -> address. `replicas`: shard -> those that could take over. `hosts`: address -> its host.
    """
    count = Counter(dict.fromkeys(hosts.values(), 0))
    count.update(hosts[address] for address in primaries.values())
    now = dict(primaries)
    switches: list[Switch] = []
    while True:
        found = [
            (count[hosts[old]] - count[hosts[new]], shard, new)
            for shard, old in now.items()
            for new in replicas.get(shard, ())
            if new != old
        ]
        gain, shard, new = max(found, default=(0, "", ""))
        if gain < 2:
            return switches
        old = now[shard]
        switches.append(Switch(shard, old, new))
        count[hosts[old]] -= 1
        count[hosts[new]] += 1
        now[shard] = new
