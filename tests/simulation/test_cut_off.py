"""A service is cut off together with a primary that was replaced: what it reads is durable, and old.

It knows nothing that was decided since, so it must deny nothing: after a "not found" a caller would pay again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from simulation.callers import NO_REPLY, Callers
from simulation.cluster import Cluster
from simulation.commands import copy_store
from simulation.profile import Profile
from simulation.run import stage

from wallet_engine.domain.group_commands import GroupCommand
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.slots import partition_of
from wallet_engine.service.api import LimitsCommand

#: Answers of a service that cannot know.
UNKNOWN = (NO_REPLY, "outcome_unknown", "partition_unavailable", "journal_unavailable")
#: Wallet -> the request to it.
Make = Callable[[Any], Any]


class Island:
    """All reach `near`; `cut` reaches only the old primary of the first shard, which has these accounts."""

    def __init__(self, cluster: Cluster, callers: Callers) -> None:
        self.cluster, self.callers = cluster, callers
        self.shard = cluster.shards[0]
        self.near, self.cut = cluster.services
        self.payer, self.payee = [name for name in callers.accounts if self.is_here(name)][:2]
        self.new = next(name for name in map("new{}".format, count()) if self.is_here(name))
        self.said: list[Any] = []

    def is_here(self, account: str) -> bool:
        partition = partition_of(account, self.cluster.profile.partitions)
        return self.cluster.placement.shard_of(partition) == self.shard.name

    async def ask(self, service: Any, make: Make) -> Any:
        self.cluster.services = [service]
        return await self.callers.ask(make, lambda _: None)

    async def decide(self, make: Make) -> Any:
        """Ask the service that is not cut off, until its partition serves again."""
        while type(answer := await self.ask(self.near, make)) is str:
            await asyncio.sleep(0.05)
        return answer

    def cut_off(self) -> None:
        old = self.shard.primary
        self.cluster.network.split(frozenset({self.cut.name, old.address}), frozenset())
        self.cluster.keeper.cut(frozenset({self.cut.name}))
        self.cluster.promote(self.shard, copy_store(old.store))

    def play(self, before: list[Make], meanwhile: list[Make], denied: list[Make]) -> None:
        """Requests that are decided before the cut and during it, and requests that `cut` must not deny then."""

        async def main() -> None:
            await self.callers.open_and_fund()
            for make in before:
                await self.decide(make)
            await asyncio.sleep(1.0)
            self.cut_off()
            for make in meanwhile:
                await self.decide(make)
            for make in denied:
                self.said.append(await self.ask(self.cut, make))

        self.cluster.start()
        self.cluster.world.run(self.callers.run(main()), 90, "the answers")
        assert self.cluster.world.violation is None


@pytest.fixture
def island() -> Iterator[Island]:
    with _island() as found:
        yield found


@contextmanager
def _island() -> Iterator[Island]:
    with stage(1, Profile(reply_lost=0.0, holds=True, groups=True)) as (cluster, callers):
        yield Island(cluster, callers)


def test_no_transfer_group_hold_or_account_is_denied(island: Island) -> None:
    payer, payee, new, new_id = island.payer, island.payee, island.new, island.callers.new_id
    paid, held, capture = new_id("T"), new_id("H"), new_id("C")
    group = new_id("G")
    legs = (TransferCommand(payer, payee, 7, "USD", group),)
    island.play(
        before=[],
        meanwhile=[
            lambda w: w.transfer(TransferCommand(payer, payee, 5, "USD", paid)),
            lambda w: w.place_hold(HoldCommand(payer, 100, "USD", held, None, 3_600)),
            lambda w: w.open_account(new, "USD", None),
            lambda w: w.transfer_group(GroupCommand(group, legs, "", "")),
        ],
        denied=[
            lambda w: w.find_transfer(payer, paid),
            lambda w: w.original(payer, paid, None),
            lambda w: w.find_group(payer, group),
            lambda w: w.hold(payer, held),
            lambda w: w.capture_hold(CaptureCommand(payer, held, capture, "@fees", None, True)),
            lambda w: w.void_hold(payer, held),
            lambda w: w.account(new),
            lambda w: w.balance(new, "USD"),
            lambda w: w.set_flags(new, "freeze"),
            lambda w: w.set_limits(LimitsCommand(new, "USD", 5, None, "")),
        ],
    )
    assert [said for said in island.said if said not in UNKNOWN] == []


def test_nothing_is_said_to_be_so_already_that_was_changed_since(island: Island) -> None:
    """When an account is no longer frozen, `cut` must not tell a caller that wants to freeze it that it is frozen."""
    payer, payee = island.payer, island.payee
    island.play(
        before=[
            lambda w: w.set_flags(payer, "freeze"),
            lambda w: w.set_limits(LimitsCommand(payee, "USD", 500, None, "")),
        ],
        meanwhile=[
            lambda w: w.set_flags(payer, "unfreeze"),
            lambda w: w.set_limits(LimitsCommand(payee, "USD", 0, None, "")),
        ],
        denied=[
            lambda w: w.set_flags(payer, "freeze"),
            lambda w: w.set_flags(payer, "close"),
            lambda w: w.set_limits(LimitsCommand(payee, "USD", 500, None, "")),
        ],
    )
    assert [said for said in island.said if said not in UNKNOWN] == []
