"""Operations that are submitted together: each goes to its partition, in order, and each refusal to its caller."""

import asyncio

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Operation, Words
from wallet_engine.engine.accumulator import HOLD_MS_MAX, Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.together import submit_all
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import tag_of
from wallet_engine.telemetry.metrics import Metrics


class Waiting:
    """A caller that waits for an operation."""

    def __init__(self) -> None:
        self.code = ""

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        raise AssertionError

    def failed(self, outage: Outage) -> None:
        self.code = outage.code


def test_each_goes_to_its_partition_and_those_of_a_held_one_fail() -> None:
    asyncio.run(_submit_and_look())


async def _submit_and_look() -> None:
    engine = Engine(None, Metrics())  # type: ignore[arg-type]
    accumulators = engine.cluster.accumulators
    accumulators += [Accumulator(p, PartitionKeys(tag_of(p, 4)), "s1", 1) for p in range(4)]
    issued_s = engine.now_s()
    accumulators[2].hold("gone", issued_s - 1 - HOLD_MS_MAX / 1000)
    partitions = [3, 1, 2, 1, 3, 1, 2]
    operations: list[Words] = [Operation("d", f"T{n}", "a", "b", 1, "USD") for n in range(len(partitions))]
    waiting = [Waiting() for _ in partitions]
    submit_all(engine, partitions, operations, waiting, issued_s)
    assert [each.code for each in waiting] == ["partition_unavailable" if p == 2 else "" for p in partitions]
    taken = {p: accumulators[p].take() for p in range(4)}
    assert {p: [o[1] for o in batch.operations] for p, batch in taken.items() if batch is not None} == {
        1: ["T1", "T3", "T5"],
        3: ["T0", "T4"],
    }
    assert taken[3] is not None
    assert taken[3].items == [waiting[0], waiting[4]]
    assert accumulators[1].scheduled
    assert not accumulators[0].scheduled
