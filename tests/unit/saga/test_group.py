"""What a caller is told of a group that was interrupted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.errors import InvalidInput, Outage
from wallet_engine.domain.group_commands import GroupCommand
from wallet_engine.domain.groups import BOTH_HERE, Leg
from wallet_engine.domain.operation import Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.homes import Homes
from wallet_engine.saga.group import Group, Parts, parts_of

HOME, OTHER = 1, 2
ID = "A" * 22


class Engine:
    """The node of the other partition goes away before it answers; the home decides what it is asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.issued_s: set[float] = set()
        self.clock_s = 1.0

    def now_s(self) -> float:
        return self.clock_s

    def submit(self, partition: int, words: Words, item: Any, issued_s: float) -> None:
        self.sent.append((words[0], partition))
        self.issued_s.add(issued_s)
        self.clock_s += 100_000.0  # the service is stopped after each step
        if words[0] == "p":
            item.failed(Outage("outcome_unknown", "the Redis node went away before it answered"))
        else:
            outcome = Outcome.INTERRUPTED if words[0] == "g" else Outcome.APPLIED
            batch = SimpleNamespace(partition=partition, entry="1.5", detail=lambda _: ["-", "-", "0"])
            item.committed(outcome.value, 0, batch)


class Reader:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def is_decided(self, _home: int, _field: str, _mark: str) -> bool:
        self._engine.clock_s += 100_000.0
        return False


def test_g14_a_group_that_was_decided_void_surely_did_not_happen() -> None:
    """What became of the part that did not answer is not known; what becomes of it is: the home has decided."""

    async def run() -> Engine:
        engine: Any = Engine()
        reader: Any = Reader(engine)
        command = GroupCommand(ID, (TransferCommand("alice", "bob", 1, "USD", ID),))
        legs = (Leg(BOTH_HERE, 0, "alice", "bob", 1, "USD"),)
        with pytest.raises(Outage, match="nothing of the group was done") as refused:
            await Group(engine, reader, command, Parts(HOME, {HOME: legs, OTHER: legs})).run()
        assert refused.value.code == "partition_unavailable"
        return engine

    engine = asyncio.run(run())
    assert engine.sent == [("p", OTHER), ("g", HOME), ("b", OTHER)]
    assert engine.issued_s == {1.0}, "G1: what Redis takes must not be older than what home was asked"


@pytest.mark.parametrize("payer", ["own", "@bank"])
def test_a_group_may_reach_thirty_two_partitions_whoever_pays(payer: str) -> None:
    """A system account is in every partition. The one where it pays is none that the group reaches."""
    homes = Homes(64)
    names = {homes.of(name): name for name in map("a-{}".format, range(2_000))}
    receivers = [names[p] for p in range(64) if p != homes.of_payer("@bank", ID)]
    if payer == "own":
        payer = receivers.pop()

    def reached(partitions: int) -> Parts:
        legs = [TransferCommand(payer, receiver, 1, "USD", ID) for receiver in receivers[:partitions]]
        return parts_of(homes, payer, ID, legs)

    own = payer != "@bank"
    assert len(reached(32 - own).legs) == 32 + (not own)
    with pytest.raises(InvalidInput, match="at most 32 partitions, not in 33"):
        reached(33 - own)
