"""`ClusterWallet` without a cluster: what becomes of a transfer that nobody waits for any more (G9)."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.service.wallet import ClusterWallet


class EngineDouble:
    """Keeps what is submitted."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(config=SimpleNamespace(partitions=64))
        self.headroom = SimpleNamespace(short=frozenset())
        self.submitted: list[tuple[int, str, Pending]] = []
        self.settled: list[tuple[int, int]] = []

    def submit(self, partition: int, line: str, item: Pending, issued_ms: int) -> None:
        self.submitted.append((partition, line, item))

    def settle(self, partition: int, seq: int) -> None:
        self.settled.append((partition, seq))


def durable(engine: EngineDouble, outcome: str) -> None:
    partition, line, item = engine.submitted.pop()
    batch = Batch(partition, [line], [item], 0)
    batch.seq, batch.outcomes = 7, outcome
    batch.commit()


@pytest.mark.parametrize("many", [False, True])
def test_cancelled_call_does_not_cancel_its_transfer(many: bool) -> None:
    async def scenario() -> None:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, None))
        command = TransferCommand("alice", "bob", 5, "USD", "A" * 22)
        waiting: Any = wallet.transfer_many([command]) if many else wallet.transfer(command)
        call = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        assert [line[0] for _, line, _ in engine.submitted] == ["d"]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert call.cancelled()
        assert wallet.in_flight == 1
        durable(engine, "+")
        assert [line[0] for _, line, _ in engine.submitted] == ["c"]
        durable(engine, "+")
        assert wallet.in_flight == 0
        assert len(engine.settled) == 1

    asyncio.run(scenario())
