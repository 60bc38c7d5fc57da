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
    made = [(name.decode(), fingerprints[8 * n : 8 * n + 6].decode()) for n, name in enumerate(fields)]
    assert made == expected


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
    entries = [f"{p}.{seq}" for p in (1, 10, 11, 111) for seq in (*range(1, 130), 1000, 1010, 9_999_999)]
    places = {credit_memory(entry, idx) for entry in entries for idx in (0, 1, 10, 63, 64, 1499)}
    assert len(places) == len(entries) * 6


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("3.9", "3."),
        ("3.10", "3.0"),
        ("3.19", "3.0"),
        ("3.20", "3.2"),
        ("63.12345", "63.1234"),
        ("63.12359", "63.1234"),
    ],
)
def test_twenty_entries_share_a_field(entry: str, field: str) -> None:
    assert credit_memory(entry, 0)[0] == field


def test_an_outcome_is_found_by_the_whole_mark_and_nowhere_else() -> None:
    """Every credit that a record can hold, in an order that puts any two of them side by side sooner or later."""
    idxs = [0, 1, 33, 49, 57, 60, 63, 64, 1105, 1471, 1499]
    credits = [(f"3.{seq}", idx, outcome) for seq in range(40, 60) for idx in idxs for outcome in "+acfl"]
    for seed in range(20):
        chosen = random.Random(seed).sample(credits, 300)
        decided = {(entry, idx): outcome for entry, idx, outcome in chosen}
        record = "".join(
            f"{credit_memory(entry, idx)[1]}{outcome}" for (entry, idx), outcome in decided.items()
        )
        for entry, idx, _ in credits:
            found = credit_outcome(record, credit_memory(entry, idx)[1])
            assert found == decided.get((entry, idx)), (seed, entry, idx)
