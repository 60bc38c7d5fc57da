"""Batches are sent together, and none waits longer than its limit."""

import asyncio

from wallet_engine.domain.operation import Operation
from wallet_engine.engine.accumulator import EARLY_OPERATIONS_MIN, Accumulator
from wallet_engine.engine.wave import OUT_MAX, WAIT_S_MAX, WAIT_S_MIN, Wave
from wallet_engine.redis_store.keys import PartitionKeys


class _Item:
    def committed(self, outcome, idx, batch): ...
    def failed(self, outage): ...


def accumulator(partition: int, operations: int = 1) -> Accumulator:
    made = Accumulator(partition, PartitionKeys(str(partition)), "s1", 1)
    for _ in range(operations):
        made.add(Operation("s", "1", "-", "-", 0, "-"), _Item(), 0)
    return made


class Shore:
    """Records the waves."""

    def __init__(self) -> None:
        self.waves: list[list[int]] = []
        self.left = asyncio.Event()
        self.wave = Wave(self.send)
        #: When `crowded` was called.
        self.began_s = 0.0

    def send(self, accumulators: list[Accumulator]) -> None:
        self.waves.append([each.partition for each in accumulators])
        self.left.set()

    async def crowded(self) -> None:
        """Send partition 1, so that more batches are in flight than a wave ignores."""
        self.began_s = asyncio.get_running_loop().time()
        self.wave.join(accumulator(1))
        await self.next()
        for n in range(OUT_MAX + 1):
            self.wave.left(f"{n:016x}")

    async def next(self) -> float:
        """Wait for the next wave. Returns its time after `began_s`, never less than that of the last wave."""
        self.left.clear()
        await asyncio.wait_for(self.left.wait(), 10)
        return asyncio.get_running_loop().time() - self.began_s


def run(scene) -> None:
    async def main() -> None:
        await scene(Shore())

    asyncio.run(main())


def test_what_joins_in_one_turn_leaves_together_in_the_next():
    async def scene(shore: Shore) -> None:
        for partition in (3, 1, 2):
            shore.wave.join(accumulator(partition))
        assert shore.waves == []
        await asyncio.sleep(0)
        assert shore.waves == [[3, 1, 2]]

    run(scene)


def test_a_partition_joins_once():
    async def scene(shore: Shore) -> None:
        one = accumulator(1)
        shore.wave.join(one)
        shore.wave.join(one)
        await asyncio.sleep(0)
        assert shore.waves == [[1]]
        assert not one.scheduled
        shore.wave.join(one)
        await asyncio.sleep(0)
        assert shore.waves == [[1], [1]]

    run(scene)


def test_it_leaves_when_enough_of_those_before_are_back(monkeypatch):
    monkeypatch.setattr("wallet_engine.engine.wave.WAIT_S_MAX", 3600)

    async def scene(shore: Shore) -> None:
        shore.wave.join(accumulator(9))
        await asyncio.sleep(0)
        shore.waves.clear()
        nonces = [f"{n:016x}" for n in range(OUT_MAX + 2)]
        for nonce in nonces:
            shore.wave.left(nonce)
        shore.wave.join(accumulator(1))
        shore.wave.back(nonces[0])
        shore.wave.back(nonces[0])  # a second time for the same batch
        await asyncio.sleep(0)
        assert shore.waves == []
        shore.wave.back(nonces[1])
        shore.wave.join(accumulator(2))
        await asyncio.sleep(0)
        assert shore.waves == [[1, 2]]

    run(scene)


def test_it_waits_for_what_is_out_only_so_long():
    async def scene(shore: Shore) -> None:
        await shore.crowded()
        shore.wave.join(accumulator(2))
        assert await shore.next() >= WAIT_S_MAX
        assert shore.waves == [[1], [2]]

    run(scene)


def test_what_was_waited_for_in_vain_is_not_waited_for_again(monkeypatch):
    async def scene(shore: Shore) -> None:
        await shore.crowded()
        shore.wave.join(accumulator(2))
        await shore.next()  # after its maximum wait
        monkeypatch.setattr("wallet_engine.engine.wave.WAIT_S_MAX", 3600)
        shore.wave.join(accumulator(3))
        await asyncio.sleep(0)
        assert shore.waves == [[1], [2], [3]]

    run(scene)


def test_a_good_batch_waits_for_nothing_that_is_out_and_takes_the_others_along(monkeypatch):
    monkeypatch.setattr("wallet_engine.engine.wave.WAIT_S_MAX", 3600)

    async def scene(shore: Shore) -> None:
        await shore.crowded()
        few, many = accumulator(2), accumulator(3, EARLY_OPERATIONS_MIN - 1)
        shore.wave.join(few)
        shore.wave.join(many)
        many.add(Operation("s", "1", "-", "-", 0, "-"), _Item(), 0)
        shore.wave.join(many)
        assert await shore.next() >= WAIT_S_MIN
        assert shore.waves == [[1], [2, 3]]
        shore.wave.join(accumulator(4))  # a few wait for the batches in flight, as before
        await asyncio.sleep(2 * WAIT_S_MIN)
        assert shore.waves == [[1], [2, 3]]

    run(scene)
