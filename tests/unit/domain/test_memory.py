"""The form of `seen` (G4): what a partition remembers of transfers, and where a receiver remembers credits."""

import random

import pytest

from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.memory import (
    TransferRecord,
    credit_memory,
    credit_outcome,
    transfer_field,
    transfer_fingerprint,
    transfers_memory,
)

#: What fits into the allocator's classes of 32 and 16 bytes.
FIELD_MAX = 30
RECORD_MAX = 14

TXID = "AAAAAAAAAAAAAAAAAAAAAQ"
#: Two names of one CRC-32: they share a field.
ALIKE = ("5q6fbln2umfx", "u8riu4u83rsp")


@pytest.mark.parametrize("count", [0, 1, 2, 7, 120])
def test_of_many_operations_it_is_the_same(count: int) -> None:
    draw = random.Random(count)
    lines, expected = ["s 17 - - 0 -\n", "c 3.41 bob 7 5 USD\n", "o - dora - 0 USD\n"], []
    for number in range(count):
        payer = draw.choice(("a", "@bank", "alice", "z" * 64))
        body = f"bob {draw.randint(1, 2**53 - 1)} USD"
        transaction = f"{number:022}"
        lines.append(f"{draw.choice('dtr')} {transaction} {payer} {body}\n")
        expected.append((transfer_field(payer, transaction), transfer_fingerprint(payer, body)))
    fingerprints, *fields = transfers_memory(lines)
    assert len(fingerprints) == 8 * count
    assert [(name, fingerprints[8 * n : 8 * n + 6]) for n, name in enumerate(fields)] == expected


@pytest.mark.parametrize("payer", ["a", "@bank", "alice", "z" * 64])
def test_a_field_is_short_and_of_one_payer(payer: str) -> None:
    assert len(transfer_field(payer, TXID)) == FIELD_MAX
    others = {transfer_field(f"{payer}{n:07}", TXID) for n in range(2_000)}
    assert len(others | {transfer_field(payer, TXID)}) == 2_001


def test_payers_who_share_a_field_are_told_apart_by_the_fingerprint() -> None:
    assert len({transfer_field(payer, TXID) for payer in ALIKE}) == 1
    assert len({transfer_fingerprint(payer, "bob 5 USD") for payer in ALIKE}) == 2


def test_a_fingerprint_is_of_the_whole_body() -> None:
    bodies = ("bob 5 USD", "bob 6 USD", "bob 50 USD", "bob 5 EUR", "eve 5 USD", "bobb 5 USD")
    assert len({transfer_fingerprint("alice", body) for body in bodies}) == len(bodies)
    assert transfer_fingerprint("alice", bodies[0]) != transfer_fingerprint("carol", bodies[0])


@pytest.mark.parametrize("seq", [1, 63, 64, 4095, 4096, 2**24 - 1, 2**30 - 1])
@pytest.mark.parametrize("idx", [0, 1, 63, 64, SCRIPT_OPERATIONS_MAX - 1])
def test_a_record_is_short_and_read_as_it_was_written(seq: int, idx: int) -> None:
    record = TransferRecord("+", "abc+/9", seq, idx)
    assert len(record.text()) <= RECORD_MAX
    assert TransferRecord.parse(record.text()) == record


def test_after_many_entries_a_record_is_longer() -> None:
    record = TransferRecord("i", "abc+/9", 2**53, 4095)
    assert TransferRecord.parse(record.text()) == record


def test_no_two_credits_share_a_place() -> None:
    places = {
        credit_memory(f"{p}.{seq}", idx)
        for p in (1, 10, 11, 111)
        for seq in (1, 9, 10, 11, 101, 110, 1000)
        for idx in (0, 1, 10)
    }
    assert len(places) == 4 * 7 * 3


@pytest.mark.parametrize(
    ("entry", "idx", "outcome"),
    [("3.41", 7, "+"), ("3.41", 70, "c"), ("3.42", 7, "a"), ("3.42", 70, None), ("3.43", 7, None)],
)
def test_an_outcome_is_found_by_the_whole_mark(entry: str, idx: int, outcome: str | None) -> None:
    field, mark = credit_memory(entry, idx)
    assert field == "3.4"
    assert credit_outcome(" 1:70c 1:7+ 2:7a", mark) == outcome
