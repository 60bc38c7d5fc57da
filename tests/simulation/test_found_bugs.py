"""Bugs that came up while the simulator was made, as scenes: short, without chance, each failing for one reason."""

import asyncio
from typing import Any

import pytest
from simulation.callers import NO_REPLY
from simulation.profile import Profile
from simulation.run import stage


@pytest.mark.xfail(
    strict=True, reason="a batch without effect in an empty partition waits for the receipt of entry 0"
)
def test_first_operation_of_a_partition_is_refused_at_once() -> None:
    """`set_flags` on an unknown account, before the partition has any entry: `account_not_found`, not silence."""
    with stage(1, Profile(reply_lost=0.0)) as (cluster, callers):
        cluster.start()

        async def main() -> None:
            await asyncio.sleep(1.0)
            answer = await callers.ask(lambda w: w.set_flags("a0", "freeze"), lambda _: None)
            assert answer != NO_REPLY
            assert answer[0] == "a"

        cluster.world.run(callers.run(main()), 20, "an answer")


@pytest.mark.xfail(
    strict=True, reason="Reader.account pairs a reply with currencies that were learnt after it was asked"
)
def test_reads_while_a_partition_gets_currencies() -> None:
    """Reads that wait for a receipt while other reads learn of a new currency: balances, not a ValueError."""
    with stage(1, Profile(reply_lost=0.0)) as (cluster, callers):
        world = cluster.world
        cluster.start()
        account, neighbour = callers.accounts[:2]  # of one partition

        def ask(make: Any) -> Any:
            return callers.ask(make, lambda _: None)

        async def later(delay_s: float, make: Any) -> None:
            await asyncio.sleep(delay_s)
            await ask(make)

        async def main() -> None:
            await asyncio.sleep(1.0)
            await ask(lambda w: w.open_account(account, "USD", None))
            for first, second in (
                ("USD", "EUR"),
                ("GBP", "JPY"),
                ("CHF", "AUD"),
                ("SEK", "NOK"),
                ("DKK", "PLN"),
            ):
                world.pause(cluster.journals[0].loop, 60_000)
                opens = [
                    later(0.0, lambda w, c=first: w.open_account(neighbour, c, None)),
                    later(0.012, lambda w, c=second: w.open_account(neighbour, c, None)),
                ]
                reads = [later(n / 1000, lambda w: w.balance(account, "USD")) for n in range(40)]
                await asyncio.gather(*opens, *reads)

        world.run(callers.run(main()), 60, "the reads")


@pytest.mark.parametrize("seed", range(1, 4))
def test_services_find_the_new_primary_without_traffic(seed: int) -> None:
    """A shard's primary is demoted while nobody asks for anything: its partitions answer afterwards.

    Once, a service probed the demoted node for ever and its partitions answered 503 until it was restarted.
    """
    with stage(seed, Profile(reply_lost=0.0)) as (cluster, callers):
        world = cluster.world
        cluster.start()
        world.run(callers.run(callers.open_and_fund()), 60, "setting up")
        for _ in range(3):
            cluster.failover()
            until_us = world.now_us + 4_000_000
            world.run(lambda until_us=until_us: world.now_us > until_us, 60, "some time")
        cluster.heal()
        world.run(callers.run(callers.finish()), 20, "every account answers")
        cluster.compare()
    assert world.violation is None
