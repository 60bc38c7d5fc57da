"""The reactions of a transfer to the answers of partitions."""

from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import LOOK_AGAIN
from wallet_engine.saga.transfer import Call, Transfer

COMMAND = TransferCommand("alice", "far", 5, "USD", "T" * 22)


class FakeEngine:
    """Records the submitted operations, or refuses them when told to."""

    def __init__(self) -> None:
        self.submitted: list[tuple[int, Words]] = []
        self.refuses: Outage | None = None

    def is_old(self, partition: int, seq: int, recorded_ms: int, partition_ms: int) -> bool:
        return partition_ms - recorded_ms > 1000

    def submit(self, partition: int, operation: Words, item: Any, issued: float) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.submitted.append((partition, operation))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def begun(engine: FakeEngine) -> tuple[Transfer, Call]:
    call = Call(1, lambda _: None)
    transfer = Transfer(engine, COMMAND, 3, 7, call, 0)  # type: ignore[arg-type]
    transfer.start(1)
    return transfer, call


def repeat(*detail: str) -> Any:
    """A batch whose first operation was a repetition."""
    return SimpleNamespace(detail=lambda idx: list(detail), time_ms=500, sent_s=0.5, entry="1.1")


def test_a_repeat_that_the_call_could_not_look_at_is_asked_again(engine: FakeEngine) -> None:
    transfer, call = begun(engine)
    transfer.committed("=", 0, repeat(LOOK_AGAIN, "4.0", "0"))
    assert call.remaining == 1
    assert engine.submitted == [engine.submitted[0]] * 2
    assert engine.submitted[0][1][0] == "d"
    transfer.committed("=", 0, repeat("+", "4.0", "400"))  # the entry is open: the credit is driven
    assert engine.submitted[2][0] == 7
    assert engine.submitted[2][1][:4] == ("c", "3.4", "far", "0")
    transfer.committed("=", 0, repeat("+"))
    assert call.results == ["+"]
    assert call.replayed


def test_it_is_not_said_to_be_undone_when_it_cannot_be_asked_again(engine: FakeEngine) -> None:
    """The debit was made before. Only the outcome of the transfer is unknown."""
    transfer, call = begun(engine)
    engine.refuses = Outage("overloaded", "20000 operations waiting")
    transfer.committed("=", 0, repeat(LOOK_AGAIN, "4.0", "0"))
    assert call.results == ["outcome_unknown"]
