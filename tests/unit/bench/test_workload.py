"""The distributions of a run's transfers. Every test prints its seed."""

import secrets
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from bench.workload import AMOUNT_MINOR_USUAL_MAX, WORKLOADS, Pair, account_name, draw
from wallet_engine.domain.ids import check_account_id
from wallet_engine.routing.slots import partition_of

ACCOUNTS = 1000
PARTITIONS = 16
COUNT = 20_000


@pytest.fixture
def rng() -> Random:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return Random(seed)


def homes(pair: Pair) -> tuple[int, int]:
    sender, receiver = account_name(pair.sender), account_name(pair.receiver)
    return partition_of(sender, PARTITIONS), partition_of(receiver, PARTITIONS)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_pays_between_two_existing_accounts(name: str, rng: Random) -> None:
    pairs = draw(name, COUNT, ACCOUNTS, PARTITIONS, rng)
    assert len(pairs) == COUNT
    for pair in pairs:
        assert pair.sender != pair.receiver
        assert 0 <= pair.sender < ACCOUNTS
        assert 0 <= pair.receiver < ACCOUNTS
        assert pair.declined or 1 <= pair.amount_minor <= AMOUNT_MINOR_USUAL_MAX
    assert any(pair.declined for pair in pairs) == (name == "declines")


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_same_seed_gives_the_same_transfers(name: str) -> None:
    assert draw(name, 100, 50, 2, Random(7)) == draw(name, 100, 50, 2, Random(7))


def test_uniform_uses_all_accounts_about_equally(rng: Random) -> None:
    pairs = draw("uniform", COUNT, 100, PARTITIONS, rng)
    for side in (Counter(pair.sender for pair in pairs), Counter(pair.receiver for pair in pairs)):
        # 200 expected of each; seven standard deviations are 99.
        assert all(101 <= side[number] <= 299 for number in range(100))


def test_zipf_halves_with_every_doubling_of_the_rank(rng: Random) -> None:
    pairs = draw("zipf", 200_000, ACCOUNTS, PARTITIONS, rng)
    drawn = Counter(number for pair in pairs for number in pair[:2])
    for first, second in pairwise((1, 3, 7, 15)):
        assert drawn[second] / drawn[first] == pytest.approx(((first + 1) / (second + 1)) ** 0.99, rel=0.15)


def test_hot_sides_are_one_account(rng: Random) -> None:
    paying = draw("hot-sender", COUNT, ACCOUNTS, PARTITIONS, rng)
    paid = draw("hot-receiver", COUNT, ACCOUNTS, PARTITIONS, rng)
    assert {pair.sender for pair in paying} == {0} == {pair.receiver for pair in paid}
    assert len({pair.receiver for pair in paying}) > ACCOUNTS * 0.9
    assert len({pair.sender for pair in paid}) > ACCOUNTS * 0.9


def test_local_stays_and_across_leaves(rng: Random) -> None:
    local = [homes(pair) for pair in draw("local", COUNT, ACCOUNTS, PARTITIONS, rng)]
    across = [homes(pair) for pair in draw("across", COUNT, ACCOUNTS, PARTITIONS, rng)]
    assert all(p == q for p, q in local)
    assert all(p != q for p, q in across)
    assert len({p for p, _ in local}) == PARTITIONS == len({p for p, _ in across})


def test_a_tenth_is_declined(rng: Random) -> None:
    declined = sum(pair.declined for pair in draw("declines", COUNT, ACCOUNTS, PARTITIONS, rng))
    assert 1700 <= declined <= 2300  # seven standard deviations around 2000


@pytest.mark.parametrize(
    ("name", "accounts", "partitions", "said"),
    [
        ("uniform", 1, 16, "at least two accounts"),
        ("across", 100, 1, "one partition"),
        ("local", 2, 4096, "share one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name: str, accounts: int, partitions: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw(name, 1, accounts, partitions, Random(1))


def test_account_names_are_valid_and_differ() -> None:
    names = {account_name(number) for number in (0, 1, 10**7, 10**8)}
    assert len(names) == 4
    assert all(check_account_id(name) for name in names)
