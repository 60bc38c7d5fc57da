"""G4: a service that is stopped in the middle of a request, until others have done and forgotten it, does nothing.

Redis refuses what was issued long ago. So an operation is issued when its request came, before anything is read.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from wallet_engine.domain.hold_commands import CaptureCommand, IncreaseCommand
from wallet_engine.domain.holds import Hold
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.returns import CREDITED, RETURN_RECORD
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Pending
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.homes import Homes
from wallet_engine.saga.refund import Refund
from wallet_engine.saga.transfer import Call
from wallet_engine.service.wallet import ClusterWallet

HOLD_ID, ID = "H" * 21 + "Q", "A" * 21 + "Q"
HOLD: Final = Hold("O", "alice", "-", "USD", 100, 0, 0, 0, 10**15, "M" * 6, "3.0")
DAY_S: Final = 86_400.0


class Stopping:
    """Engine and reader of a service that is stopped for a day at every read."""

    def __init__(self) -> None:
        self.clock_s = 1.0
        accumulators = [SimpleNamespace(keys=PartitionKeys("3"))] * 4
        self.cluster = SimpleNamespace(homes=Homes(4), accumulators=accumulators)
        self.headroom = SimpleNamespace(wary=False)
        self.issued: list[tuple[str, float]] = []

    def now_s(self) -> float:
        return self.clock_s

    def submit(self, _partition: int, words: tuple[str, ...], item: Pending, issued_s: float) -> None:
        self.issued.append((words[0], issued_s))

    async def glance(self, _partition: int, *_words: str) -> bytes:
        self.clock_s += DAY_S
        return HOLD.text().encode()


def refund(wallet: ClusterWallet) -> Any:
    original = Original("bob", "F" * 30, "alice", 5, "USD", 1, 7, 0, 0, CREDITED, 0, asked_s=1.0)
    return wallet.refund(RefundCommand("bob", HOLD_ID, ID, None), original)


CALLS: Final[dict[str, Callable[[ClusterWallet], Any]]] = {
    "i": lambda wallet: wallet.increase_hold(IncreaseCommand("alice", HOLD_ID, ID, "0.05")),
    "k": lambda wallet: wallet.capture_hold(CaptureCommand("alice", HOLD_ID, ID, "@fees", None, final=True)),
    "v": lambda wallet: wallet.void_hold("alice", HOLD_ID),
    "z": refund,
}


@pytest.mark.parametrize("kind", CALLS)
def test_g4_an_operation_is_as_old_as_its_request(kind: str) -> None:
    async def scenario() -> list[tuple[str, float]]:
        service: Any = Stopping()
        if kind == "z":
            service.clock_s += DAY_S
        asked = asyncio.create_task(CALLS[kind](ClusterWallet(service, service)))
        while not service.issued:
            await asyncio.sleep(0)
            assert not asked.done()
        asked.cancel()
        return service.issued

    assert [(found.replace("x", "z"), at) for found, at in asyncio.run(scenario())] == [(kind, 1.0)]


def test_g4_a_repeat_that_waits_for_the_end_does_not_become_a_new_refund(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wallet_engine.saga.patient.PAUSES_S", (0.001,))

    async def scenario() -> list[tuple[str, float]]:
        service: Any = Stopping()
        call, _ = Call.awaited(1)
        command = TransferCommand("alice", "bob", 5, "USD", ID)
        waiting = Refund(service, command, 0, 1, call, 0, "bob|F|1.7.0|c|5|-")
        batch: Any = SimpleNamespace(entry="0.9", partition=0, sent_s=1.0)
        batch.detail = lambda _: [RETURN_RECORD, "7.0", "1"]
        waiting.committed("=", 0, batch)
        service.clock_s += DAY_S
        await asyncio.sleep(0.05)
        return service.issued

    assert asyncio.run(scenario()) == [("z", 1.0)]
