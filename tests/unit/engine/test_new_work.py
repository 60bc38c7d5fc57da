"""Where new work is refused, and which operations are still allowed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.operation import Words
from wallet_engine.engine import headroom as headroom_module
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.headroom import Headroom, memory_share, stream_full
from wallet_engine.redis_store.scripts import load_script


def operation(kind: str) -> Words:
    return (kind, "1", "a", "b", 1, "USD")


def batch(kinds: str) -> Batch:
    items: list[Any] = [f"item {number}" for number in range(len(kinds))]
    return Batch(3, [operation(kind) for kind in kinds], items, 77)


def test_what_ends_begun_work_is_taken_out_of_a_refused_batch() -> None:
    """In order, each operation with its caller. The rest stays in the batch, to be refused."""
    refused = batch("dcstrf")
    ending = refused.take_ending()
    assert ending is not None
    assert (ending.partition, ending.issued_s) == (3, 77)
    assert ending.nonce != refused.nonce
    assert [o[0] for o in ending.operations] == ["c", "s", "r"]
    assert ending.items == ["item 1", "item 2", "item 4"]
    assert [o[0] for o in refused.operations] == ["d", "t", "f"]
    assert refused.items == ["item 0", "item 3", "item 5"]


@pytest.mark.parametrize("kinds", ["dtof", "crs", "c", "t"])
def test_a_batch_of_one_sort_is_left_as_it_is(kinds: str) -> None:
    refused = batch(kinds)
    assert refused.take_ending() is None
    assert [o[0] for o in refused.operations] == list(kinds)


def test_g9_an_operation_whose_caller_fails_hides_the_outage_from_no_other() -> None:
    told: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def failed(self, outage: Outage) -> None:
            if self.name == "b":
                raise ValueError("a bug")
            told.append(f"{self.name} {outage.code}")

    items: list[Any] = [Told(name) for name in "abc"]
    Batch(3, [operation("t")] * 3, items, 77).fail(Outage("overloaded", "too much"))
    assert told == ["a overloaded", "c overloaded"]


def test_the_script_means_the_same_kinds() -> None:
    ending = "".join(sorted(letter for letter, kind in KINDS.items() if kind.ends))
    assert f"find(columns[1], '[^{ending}]')" in load_script("apply").text


def headroom() -> Headroom:
    accumulators = [SimpleNamespace(shard="s1"), SimpleNamespace(shard="s1"), SimpleNamespace(shard="s2")]
    return Headroom(SimpleNamespace(accumulators=accumulators))  # type: ignore[arg-type]


def test_a_closed_partition_is_refused_on_either_side() -> None:
    room = headroom()
    assert not room.wary
    room.close_door(1, Condition.FULL, stream_full(1, 256))
    assert room.wary
    room.check(0, 2)
    for sides in ((1, 0), (0, 1)):
        with pytest.raises(Outage, match="partition 1: 256 entries") as refused:
            room.check(*sides)
        assert refused.value.code == "journal_unavailable"


def test_a_partition_opens_when_its_last_reason_is_gone() -> None:
    room = headroom()
    unserved = Outage("partition_unavailable", "partition 1 is not served now")
    room.close_door(1, Condition.FULL, stream_full(1, 256))
    room.close_door(1, Condition.UNREACHABLE, unserved)
    room.open_door(1, Condition.FULL)
    room.open_door(1, Condition.FULL)
    with pytest.raises(Outage, match="not served now"):
        room.check(1)
    room.open_door(1, Condition.UNREACHABLE)
    assert not room.wary
    room.check(1)


def test_memory_and_doors_are_minded_together() -> None:
    room = headroom()
    room.exhausted("s2")
    room.close_door(1, Condition.FULL, stream_full(1, 256))
    room.open_door(1, Condition.FULL)
    assert room.wary
    with pytest.raises(Outage, match="memory of shard s2"):
        room.check(0, 2)


def test_who_has_no_memory_left_makes_it_wary() -> None:
    """Only transfers to a wary engine check the memory."""
    room = headroom()
    room.exhausted("s2")
    assert room.wary


def test_what_is_still_refused_keeps_it_wary() -> None:
    room = headroom()
    room.refusing["s2"] = "NOREPLICAS Not enough good replicas to write."
    room.close_door(1, Condition.FULL, stream_full(1, 256))
    room.open_door(1, Condition.FULL)
    assert room.wary
    with pytest.raises(Outage, match="shard s2 refuses writes: NOREPLICAS") as refused:
        room.check(0, 2)
    assert refused.value.code == "partition_unavailable"


def test_a_door_that_opens_leaves_the_others_closed() -> None:
    room = headroom()
    for partition in (1, 2):
        room.close_door(partition, Condition.FULL, stream_full(partition, 256))
    room.open_door(2, Condition.FULL)
    assert room.wary
    with pytest.raises(Outage, match="partition 1: 256 entries"):
        room.check(0, 1)


def test_memory_is_counted_as_redis_counts_it() -> None:
    """Buffers for replicas are no reason to refuse a write. Older versions of Redis do not report their size."""
    used, limit = b"used_memory:900\r\nused_memory_human:900B\r\n", b"maxmemory:1000\r\n"
    assert memory_share(b"# Memory\r\n" + used + b"mem_not_counted_for_evict:100\r\n" + limit) == 0.8
    assert memory_share(used + limit) == 0.9
    assert memory_share(used + b"maxmemory:0\r\n") == 0.0


def test_g10_a_shard_that_says_what_nobody_expects_ends_no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those of its own memory, nor those of other shards."""
    monkeypatch.setattr(headroom_module, "LOOK_S", 0.01)
    said = {"s1": b"used_memory:many\r\nmaxmemory:100\r\n", "s2": b"used_memory:1\r\nmaxmemory:100\r\n"}

    class Lane:
        def __init__(self, shard: str) -> None:
            self._shard = shard

        async def call(self, name: str, *_: object) -> Any:
            return said[self._shard] if name == "INFO" else 0

    async def run() -> None:
        cluster: Any = SimpleNamespace(accumulators=[], lanes={shard: Lane(shard) for shard in said})
        room = Headroom(cluster)
        room.start()
        await asyncio.sleep(0.1)
        said.update(dict.fromkeys(said, b"used_memory:99\r\nmaxmemory:100\r\n"))
        try:
            async with asyncio.timeout(5):
                while room.short != {"s1", "s2"}:
                    await asyncio.sleep(0.01)
        finally:
            await room.close()

    asyncio.run(run())
