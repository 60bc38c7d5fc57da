"""Repeated calls are answered from memory where new work is refused."""

import asyncio
from typing import Any, cast

import pytest

from wallet_engine.domain.columns import pack
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.holds import HOLD_RECORD, capturing, placing
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.memory import TransferRecord, transfer_field
from wallet_engine.domain.operation import Operation, Words
from wallet_engine.engine.reads import TransferRead
from wallet_engine.service.repeats import Repeats

TXID = pack_transaction_id("11111111-2222-4333-8444-555555555555")
WORDS: dict[str, Words] = {
    "t": ("t", TXID, "alice", "bob", 5, "USD", '{"ref":"rent"}', "key"),
    "d": ("d", TXID, "alice", "bob", 5, "USD", "", ""),
    "k": ("k", TXID, "alice", capturing("bob", "field", True, None), 5, "USD", "", ""),
    "q": ("q", TXID, "alice", capturing("bob", "field", False, 5), 5, "USD", "", ""),
    "h": ("h", TXID, "alice", placing(None, 60), 5, "USD", "", ""),
}


class ReaderDouble:
    """A reader with one remembered transfer of alice, in the form in which the script remembers it."""

    def __init__(
        self, words: Words, outcome: str, operation: Operation | None = None, open_: bool = False
    ) -> None:
        self.read = TransferRead(outcome + "H" + pack([words]).record_ends.decode(), open_, operation)
        self.outage: Outage | None = None

    async def remembers(self, partition: int, field: str) -> bool:
        return field == transfer_field("alice", TXID)

    async def transfer(self, partition: int, field: str) -> TransferRead:
        if self.outage is not None:
            raise self.outage
        return self.read


def ask(reader: ReaderDouble, words: Words) -> str | None:
    return asyncio.run(Repeats(cast(Any, None), cast(Any, reader)).outcome_of(0, words))


@pytest.mark.parametrize("kind", WORDS)
def test_the_same_again_gets_what_was_decided_and_another_body_is_a_conflict(kind: str) -> None:
    words = WORDS[kind]
    outcome = HOLD_RECORD if kind == "h" else "+"
    assert ask(ReaderDouble(words, outcome), words) == outcome
    assert ask(ReaderDouble(words, "i"), words) == "i"
    assert ask(ReaderDouble(words, outcome), (*words[:6], '{"ref":"else"}', "")) == "!"
    assert ask(ReaderDouble(words, outcome), (*words[:2], "carol", *words[3:])) is None


@pytest.mark.parametrize(
    ("kind", "outcome", "found"),
    [("d", "+", "outcome_unknown"), ("q", "+", "outcome_unknown"), ("d", "i", "i"), ("t", "+", "+")],
)
def test_what_is_open_is_not_said_to_have_ended(kind: str, outcome: str, found: str) -> None:
    """An entry may also be open because of other operations in it."""
    words = WORDS[kind]
    assert ask(ReaderDouble(words, outcome, Operation(*words), open_=True), words) == found


def test_an_open_entry_that_is_not_in_the_stream_is_on_its_way() -> None:
    assert ask(ReaderDouble(WORDS["d"], "+", None, open_=True), WORDS["d"]) == "outcome_unknown"


def test_what_the_journal_does_not_confirm_is_not_known() -> None:
    reader = ReaderDouble(WORDS["d"], "+")
    reader.outage = Outage("journal_unavailable", "the newest entry is not confirmed")
    assert ask(reader, WORDS["d"]) == "outcome_unknown"


def test_the_record_of_these_cases_is_one() -> None:
    assert TransferRecord.parse(ReaderDouble(WORDS["d"], "+").read.record or "").outcome == "+"
