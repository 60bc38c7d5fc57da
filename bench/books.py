"""Checks that the books add up. Reads every balance from Redis directly, without the engine."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.cluster import Cluster, Place
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import STRIPE_LIMB_MINOR
from wallet_engine.domain.oracle_state import CARRIED

#: Maximum time for open entries to be settled after the last answer.
SETTLE_S_MAX: Final = 60.0
_SCAN_COUNT: Final = 5_000


@dataclass(slots=True)
class Books:
    """Sums over all partitions, minor units. `unbalanced`: partitions whose balances do not sum to 0 (G2), in words."""

    users: Counter[str] = field(default_factory=Counter)
    accounts: int = 0
    transit: Counter[str] = field(default_factory=Counter)
    system: Counter[str] = field(default_factory=Counter)
    unbalanced: list[str] = field(default_factory=list)
    open_entries: int = 0

    def add(self, partition: int, currency: str, balances: Iterable[tuple[str, int]]) -> None:
        """Add the balances of one partition in one currency."""
        total = 0
        for name, value in balances:
            account = name.removesuffix(CARRIED)
            minor = value if account == name else value * STRIPE_LIMB_MINOR
            total += minor
            if account == TRANSIT:
                self.transit[currency] += minor
            elif account.startswith("@"):
                self.system[currency] += minor
            else:
                self.users[currency] += minor
                self.accounts += 1
        if total:
            self.unbalanced.append(f"partition {partition} sums to {total} {currency}")

    def faults(self, expected: Mapping[str, int], accounts: int) -> list[str]:
        """What is wrong, in words; empty if nothing is. `expected`: currency -> sum of the user accounts."""
        faults = list(self.unbalanced)
        if self.open_entries:
            faults.append(f"{self.open_entries} entries are still open")
        faults += [f"{TRANSIT} holds {minor} {currency}" for currency, minor in self.transit.items() if minor]
        if dict(self.users) != dict(expected):
            faults.append(f"the accounts hold {dict(self.users)}, they were given {dict(expected)}")
        if self.accounts != accounts:
            faults.append(f"there are {self.accounts} accounts instead of {accounts}")
        return faults


def read_books(cluster: Cluster) -> Books:
    """Wait until no entry is open, at most `SETTLE_S_MAX`, then add up all balances."""
    with cluster.places() as places:
        books = Books(open_entries=_wait_settled(places))
        for place in places:
            listed = place.client.hget(place.keys.meta, "currencies")
            for currency in filter(None, str(listed or "").split(",")):
                scanned = place.client.hscan_iter(place.keys.balance(currency), count=_SCAN_COUNT)
                # A scan may return a field twice, even of a hash that does not change.
                books.add(place.partition, currency, {name: int(value) for name, value in scanned}.items())
        return books


def _wait_settled(places: list[Place]) -> int:
    deadline = time.monotonic() + SETTLE_S_MAX
    while True:
        left = sum(int(place.client.zcard(place.keys.open)) for place in places)
        if left == 0 or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
