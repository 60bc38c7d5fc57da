"""The format of `seen` (G4): a partition's memory of transfers, and a receiver's memory of credits."""

import random
import uuid
from zlib import crc32

import pytest

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.memory import (
    TransferRecord,
    credit_memory,
    credit_of,
    credit_outcome,
    is_field_of,
    transfer_field,
    transfer_fingerprint,
)

#: Sizes that fit into the allocator's classes of 32 and 16 bytes.
FIELD_MAX = 30
RECORD_MAX = 14

TXID = "AAAAAAAAAAAAAAAAAAAAAQ"
#: Two names with the same CRC-32. In an older format they shared every field.
ONE_CRC = ("5q6fbln2umfx", "u8riu4u83rsp")
#: Two names that share the field of this id. Among 33 million names there were four such pairs.
ALIKE = ("payer-789353", "payer-14654864")


@pytest.mark.parametrize("payer", ["a", "@bank", "alice", "z" * 64])
def test_a_field_is_short_and_of_one_payer(payer: str) -> None:
    assert len(transfer_field(payer, TXID)) == FIELD_MAX
    others = {transfer_field(f"{payer}{n:07}", TXID) for n in range(2_000)}
    assert len(others | {transfer_field(payer, TXID)}) == 2_001


def test_payers_who_share_a_field_are_told_apart_by_the_fingerprint() -> None:
    assert len({transfer_field(payer, TXID) for payer in ALIKE}) == 1
    assert len({transfer_fingerprint(payer, "bob 5 USD") for payer in ALIKE}) == 2


def test_no_two_payers_share_more_than_the_field_of_one_id() -> None:
    """G4: an attacker can choose names, but must search for a colliding name again for every id of another payer."""
    for n in range(2_000):
        transaction = pack_transaction_id(str(uuid.UUID(int=n + 2)))
        for pair in (ALIKE, ONE_CRC):
            assert len({transfer_field(payer, transaction) for payer in pair}) == 2, (n, pair)


def test_a_field_of_before_is_known_by_its_payer_alone() -> None:
    before = f"{TXID}{crc32(b'alice'):08x}"
    assert is_field_of(before, "alice")
    assert is_field_of(transfer_field("alice", TXID), "alice")
    assert not is_field_of(before, "alicf")
    assert not is_field_of(transfer_field("alice", TXID), "alicf")


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
    places = {
        credit_memory(entry, idx): (entry, idx) for entry in entries for idx in (0, 1, 10, 63, 64, 1499, 1535)
    }
    assert len(places) == len(entries) * 7
    assert all(credit_of(*place) == (entry, str(idx)) for place, (entry, idx) in places.items())


@pytest.mark.parametrize(
    ("field", "mark"),
    [
        ("3.", "kAA"),
        ("3.1", "aAA"),
        ("3.2", "uAA"),
        ("3.2", "`AA"),
        ("3.2", "aA"),
        ("3.2", "aAAA"),
        ("3.2", "a-A"),
    ],
)
def test_what_is_no_mark(field: str, mark: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        credit_of(field, mark)


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
    """Records of random credits, in random order: no part of two adjacent ones may look like a third."""
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
