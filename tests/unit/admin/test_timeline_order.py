"""A timeline starts with its first cause and is ordered by time. Within a millisecond, effects follow causes."""

import pytest

from wallet_engine.admin.tracing.timeline import Step, in_order
from wallet_engine.domain.operation import Operation

TXID = "A" * 22


def step(kind: str, time_ms: int, partition: int) -> Step:
    return Step(time_ms, partition, 1, 0, Operation(kind, TXID, "ann", "-", 5, "USD"), "+")


@pytest.mark.parametrize("begins", ["d", "q", "z"])
def test_an_effect_never_stands_before_its_cause(begins: str) -> None:
    """The clock of the receiver's node may be some milliseconds behind."""
    undo = {"d": "r", "q": "u", "z": "j"}[begins]
    for times in ((7, 7, 7, 7), (8, 7, 8, 8), (7, 8, 9, 10)):
        steps = [
            step(kind, time, p)
            for kind, time, p in zip((begins, "c", undo, "s"), times, (7, 0, 7, 7), strict=True)
        ]
        assert [each.operation.kind for each in in_order(reversed(steps))] == [begins, "c", undo, "s"]
