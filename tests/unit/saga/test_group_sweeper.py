"""The group sweeper: how long a group's money has been set aside, from looks at a partition's records."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import MagicMock

import pytest

from wallet_engine.domain.groups import Record, parse_words
from wallet_engine.domain.operation import Words
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.homes import Homes
from wallet_engine.saga import group_sweeper
from wallet_engine.saga.group_sweeper import GroupSweeper
from wallet_engine.saga.open_ages import readings

KEYS: Final = PartitionKeys("3")
WORDS: Final = "mark:0:-:p0|alice|bob|1|USD;"


class Node:
    """A lane with the contents of `group{3}`, two records per page."""

    def __init__(self) -> None:
        self.seqs: list[int] = []

    async def call(self, name: str, key: str, *words: Any) -> Any:
        if name == "HLEN":
            return len(self.seqs)
        if name == "HMGET":
            return [b"live", b"100"]
        begin = int(words[0])
        page = self.seqs[begin : begin + 2]
        end = begin + len(page)
        texts = [
            (b"field%d" % seq, f"P alice {seq}.0 {WORDS}".encode() if seq else b"not a record")
            for seq in page
        ]
        return [b"%d" % (end if end < len(self.seqs) else 0), [text for pair in texts for text in pair]]


class Bench:
    """A sweeper of one partition, and a clock."""

    def __init__(self) -> None:
        self.node, self.now_s = Node(), 1_000.0
        self.accumulator: Any = SimpleNamespace(partition=0, keys=KEYS, shard="s1", pending=7)
        cluster = SimpleNamespace(lanes={"s1": self.node}, accumulators=[self.accumulator])
        self.engine: Any = SimpleNamespace(cluster=cluster, now_s=lambda: self.now_s)
        self.sweeper = GroupSweeper(self.engine)

    def look(self, seqs: list[int], after_s: float) -> tuple[int, float]:
        """(open entries, age of the oldest) in the metrics after a look at these records."""
        self.node.seqs = seqs
        self.now_s += after_s
        asyncio.run(self.sweeper._stale(self.accumulator))
        (reading,) = readings(self.engine, self.sweeper.open)
        assert reading.queued_operations == 7
        return reading.open_entries, reading.oldest_open_s


def test_what_is_set_aside_for_a_group_grows_old_until_it_is_gone() -> None:
    bench = Bench()
    assert bench.look([], 0) == (0, 0)
    assert bench.look([5, 9, 6], 1) == (3, 0)
    assert bench.look([9, 5, 6, 20, 21], 4) == (5, 4)
    assert bench.look([20, 21], 60) == (2, 60)
    assert bench.look([], 1) == (0, 0)
    assert bench.look([30], 1) == (1, 0)


def test_a_record_that_cannot_be_read_holds_up_no_other() -> None:
    """It counts as open since it was first seen."""
    bench = Bench()
    assert bench.look([0, 5, 9], 1) == (3, 0)
    assert bench.look([0, 20], 60) == (2, 60)


def test_what_ended_in_the_middle_of_a_look_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    with monkeypatch.context() as paged:
        paged.setattr(group_sweeper, "LOOKED_AT_MAX", 1)
        assert bench.look([5, 6, 7], 1) == (0, 0)  # its first page
    assert bench.look([], 1) == (0, 0)
    assert bench.look([20], 1) == (1, 0)


def test_one_that_nobody_can_look_at_goes_on_growing_old() -> None:
    bench = Bench()
    bench.look([5], 1)
    bench.now_s += 90
    (reading,) = readings(bench.engine, bench.sweeper.open)
    assert reading.oldest_open_s == 90


class Decider:
    """An engine whose home has decided every group. The service is stopped for a day after each step."""

    def __init__(self, decision: str) -> None:
        self.decision = decision
        self.sent: list[tuple[str, int, float]] = []
        self.cluster = SimpleNamespace(homes=Homes(4))
        self.metrics: Any = MagicMock()
        self.clock_s = 1.0

    def now_s(self) -> float:
        return self.clock_s

    def submit(self, partition: int, words: Words, item: Any, issued_s: float) -> None:
        self.sent.append((words[0], partition, issued_s))
        self.clock_s += 86_400.0
        detail = [self.decision, "-", "0"]
        batch = SimpleNamespace(partition=partition, entry="1.5", detail=lambda _: detail)
        item.committed("=" if words[0] == "g" else "+", 0, batch)


@pytest.mark.parametrize(("decision", "kind"), [("+", "y"), ("u", "b")])
def test_g1_what_home_has_said_of_a_group_is_not_done_to_a_later_one_of_its_id(
    decision: str, kind: str
) -> None:
    """Redis refuses what was issued long ago, so a sweeper that goes on a day later changes nothing."""
    engine: Any = Decider(decision)
    record = Record("P", "alice", "7.0", parse_words(WORDS))
    asyncio.run(GroupSweeper(engine)._end(3, f"{'A' * 30}mark", record))
    home = engine.cluster.homes.of_payer("alice", "A" * 22)
    assert engine.sent == [("g", home, 1.0), (kind, 3, 1.0)]


def test_g1_the_same_of_what_home_has_decided_itself() -> None:
    engine: Any = Decider("+")
    home, other = (engine.cluster.homes.of_payer(name, "A" * 22) for name in ("alice", "bob"))
    assert home != other
    record = Record("C", "alice", "7.0", parse_words("mark:0:c:p0|alice|bob|1|USD;"))
    asyncio.run(GroupSweeper(engine)._end(home, f"{'A' * 30}mark", record))
    assert engine.sent == [("g", home, 1.0), ("y", other, 1.0), ("w", home, 1.0)]
