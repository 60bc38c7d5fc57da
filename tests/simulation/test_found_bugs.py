"""Bugs that came up while the simulator was made, as scenes: short, without chance, each failing for one reason."""

import asyncio
from typing import Any

from simulation.callers import NO_REPLY
from simulation.profile import Profile
from simulation.redis_node import copy_store
from simulation.run import stage


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


def test_idle_partitions_find_the_new_primary() -> None:
    """A partition that is held when its primary is demoted, and that nobody asks for, answers afterwards.

    Once, the service probed the demoted node for ever, and the partition answered 503 until it was restarted.
    """
    with stage(1, Profile(reply_lost=0.0, services=1)) as (cluster, callers):
        world, shard, journal = cluster.world, cluster.shards[0], cluster.journals[0]

        def pass_time(seconds: float) -> None:
            until_us = world.now_us + int(seconds * 1e6)
            world.run(lambda: world.now_us > until_us, 60, "some time")

        async def one_operation() -> None:
            await callers.ask(lambda w: w.set_flags(callers.accounts[0], "unfreeze"), lambda _: None)

        cluster.start()
        world.run(callers.run(callers.open_and_fund()), 60, "setting up")
        pass_time(1.0)
        old = shard.primary
        cluster.promote(shard, copy_store(old.store))
        journal.kill()
        journal.start()  # recovers the new primary and raises the epoch, which the old one does not learn
        pass_time(2.0)
        world.run(callers.run(one_operation()), 10, "an operation that is refused")
        cluster.demote(old)
        pass_time(5.0)
        payment = callers.new_payment(callers.accounts[0], "@fees", 1, "USD")
        world.run(callers.run(callers.insist(payment)), 20, "an answer")
        assert payment.answer == "+"
    assert world.violation is None
