"""The workloads: distributions from which a run draws payers and receivers."""

from collections.abc import Iterator
from itertools import accumulate, islice
from random import Random
from typing import Final, NamedTuple

from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.routing.slots import partition_of

CURRENCY: Final = "USD"
#: Amounts are between 1 and this, minor units.
AMOUNT_MINOR_USUAL_MAX: Final = 100
#: More than any account of a benchmark has, so that the transfer is declined.
AMOUNT_MINOR_DECLINED: Final = AMOUNT_MINOR_MAX
DECLINED_FRACTION: Final = 0.1
#: Every 20th request is the caller's last one again, byte for byte (5 %).
REPEAT_EVERY: Final = 20
ZIPF_EXPONENT: Final = 0.99

WORKLOADS: Final = {
    "uniform": "both sides are random accounts",
    "zipf": f"both sides by a Zipf law with exponent {ZIPF_EXPONENT}",
    "hot-sender": "one account pays all the others",
    "hot-receiver": "all the others pay one account",
    "local": "both sides in the same partition",
    "across": "the two sides in different partitions",
    "declines": f"uniform, but {DECLINED_FRACTION:.0%} are declined for want of money",
    "repeats": f"uniform, but {1 / REPEAT_EVERY:.0%} of the requests repeat the caller's last one",
}

#: Workloads of other operations than transfers, between any accounts. Only the HTTP door has them.
FORMS: Final = {
    "holds": "a hold and its capture instead of each transfer (--batch 1)",
    "groups": "one group of --batch legs instead of each request",
}


class Pair(NamedTuple):
    """A transfer without an id: account numbers, and minor units."""

    sender: int
    receiver: int
    amount_minor: int

    @property
    def declined(self) -> bool:
        """Whether the engine must decline it."""
        return self.amount_minor == AMOUNT_MINOR_DECLINED


#: Pattern of all benchmark accounts, for the grant of a key.
ACCOUNTS: Final = "acct-*"


def account_name(number: int) -> str:
    """The id of a benchmark account."""
    return f"acct-{number:08d}"


def draw(name: str, count: int, accounts: int, partitions: int, rng: Random) -> list[Pair]:
    """Draw `count` transfers of a workload. Raises `ValueError` when it is impossible with these accounts."""
    if accounts < 2:
        raise ValueError("transfers need at least two accounts")
    if name == "across" and partitions < 2:
        raise ValueError("no transfer is across partitions when there is one partition")
    sides = _SIDES[name](accounts, partitions, rng)
    pairs = []
    for sender, receiver in islice(sides, count):
        amount = rng.randint(1, AMOUNT_MINOR_USUAL_MAX)
        if name == "declines" and rng.random() < DECLINED_FRACTION:
            amount = AMOUNT_MINOR_DECLINED
        pairs.append(Pair(sender, receiver, amount))
    return pairs


def _other(number: int, accounts: int, rng: Random) -> int:
    """Any account but this one."""
    found = rng.randrange(accounts - 1)
    return found + (found >= number)


def _uniform(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    while True:
        sender = rng.randrange(accounts)
        yield sender, _other(sender, accounts, rng)


def _zipf(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    # An account's rank is its number. The hash of its name scatters the hot accounts over the partitions.
    weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(accounts)))
    population = range(accounts)
    while True:
        drawn = rng.choices(population, cum_weights=weights, k=1000)
        for sender, receiver in zip(drawn[::2], drawn[1::2], strict=True):
            if sender != receiver:
                yield sender, receiver


def _hot_sender(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    while True:
        yield 0, _other(0, accounts, rng)


def _hot_receiver(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    while True:
        yield _other(0, accounts, rng), 0


def _local(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    members: dict[int, list[int]] = {}
    for number in range(accounts):
        members.setdefault(partition_of(account_name(number), partitions), []).append(number)
    shared = [group for group in members.values() if len(group) > 1]
    if not shared:
        raise ValueError(
            f"no two of {accounts} accounts share one of {partitions} partitions: use more accounts"
        )
    sizes = list(accumulate(len(group) for group in shared))
    while True:
        group = rng.choices(shared, cum_weights=sizes)[0]
        sender, receiver = rng.sample(group, 2)
        yield sender, receiver


def _across(accounts: int, partitions: int, rng: Random) -> Iterator[tuple[int, int]]:
    def home(number: int) -> int:
        return partition_of(account_name(number), partitions)

    if all(home(number) == home(0) for number in range(1, accounts)):  # stops at the first one elsewhere
        raise ValueError(f"all of {accounts} accounts are in one partition: use more accounts")
    for sender, receiver in _uniform(accounts, partitions, rng):
        if home(sender) != home(receiver):
            yield sender, receiver


_SIDES: Final = {
    "uniform": _uniform,
    "zipf": _zipf,
    "hot-sender": _hot_sender,
    "hot-receiver": _hot_receiver,
    "local": _local,
    "across": _across,
    "declines": _uniform,
    "repeats": _uniform,
    "holds": _uniform,
    "groups": _uniform,
}
