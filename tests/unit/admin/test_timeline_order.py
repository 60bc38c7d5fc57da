"""A timeline starts with its first cause and is ordered by time. Within a millisecond, effects follow causes."""

from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, account_in

from wallet_engine.admin.tracing.group_timeline import INTERRUPTED_GROUP, status_of_group
from wallet_engine.admin.tracing.timeline import Step, _steps_in_journal, in_order
from wallet_engine.domain.operation import Operation
from wallet_engine.routing.homes import Homes

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


def test_what_is_undone_of_an_id_is_not_told_of_its_next_use(tmp_path: Path) -> None:
    """The first debit stayed open until its id was forgotten and used again."""
    journal, payer, receiver = MadeJournal(tmp_path / "j1"), account_in(0, 2), account_in(1, 2)
    journal.add(0, f"o - {payer} - 0 USD", f"t {'B' * 22} @bank {payer} 100 USD")
    assert journal.add(0, f"d {TXID} {payer} {receiver} 5 USD") == "+"
    journal.add(0, "n api - - 0 -", rotate=True)
    assert journal.add(0, f"d {TXID} {payer} {receiver} 7 USD", rotate=True) == "+"
    assert journal.add(0, f"r {TXID} {payer} 2.0.a 5 USD") == "+"

    def told(seq: int) -> list[tuple[str, int]]:
        steps = _steps_in_journal(journal.directory, Homes(2), 0, TXID, payer, seq)
        return [(each.operation.kind, each.seq) for each in steps]

    assert (told(2), told(4)) == ([("d", 2), ("r", 5)], [("d", 4)])
    assert journal.add(0, f"r {TXID} {payer} 4.0.c 7 USD") == "+"
    assert (told(2), told(4)) == ([("d", 2), ("r", 5)], [("d", 4), ("r", 6)])


def test_g14_a_group_that_was_paid_is_told_so_after_a_void_repeat() -> None:
    """Home had forgotten it, and a part had not: the caller was told that it was paid, and `trace` said: nothing."""

    def decided(outcome: str, mark: str, word: str, legs: str = "") -> Step:
        return Step(7, 0, 1, 0, Operation("g", TXID, "ann", f"{mark}:0:{word}:{legs}", 0, "-"), outcome)

    paid = decided("+", "X", "c", "p0|ann|bob|5|USD;")
    forgotten = Step(8, 0, 2, 0, Operation("w", TXID, "ann", "X:0:-:", 0, "-"), "+")
    assert status_of_group([paid, forgotten, decided("u", "X", "r")]) == "paid"
    assert status_of_group([paid, forgotten, decided("u", "Y", "r")]) == INTERRUPTED_GROUP
